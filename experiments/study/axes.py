"""From named axes to the settings of a cell: bundles of settings, chosen one per axis and put together.

A file with axes describes one surrogate by its parts: `data`, `model`, `objective`, `regularizer`, `constraint`,
`training`, `evaluation`. An axis of one of these names replaces that part, an axis of any other name sets dotted
settings of theirs.
"""

from __future__ import annotations

import copy
import difflib
import inspect
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

from sciml.errors import UserError
from sciml.experiments.components import Component, find_class, is_component, split
from sciml.experiments.config import override

PARTS = ("dataset", "model", "objective", "regularizer", "constraint", "training", "evaluation")
"""Axes whose entries stand for a part of the study; any other axis sets dotted settings."""

OF_THE_SURROGATE = ("model", "objective", "regularizer", "constraint")

Choice = dict[str, str]
"""Axis -> name of the entry taken."""


def read_axes(tree: Mapping[str, Any], where: str) -> dict[str, dict[str, Any]]:
    """The axes of a file, checked: axis -> name of the entry -> entry.

    Raises:
        UserError: they are no mapping of mappings, an entry is of the wrong shape, or a name cannot name a folder.
    """
    axes = tree.get("axes") or {}
    if not isinstance(axes, Mapping):
        raise UserError(
            f"{where}: axes is {axes!r}; expected names, such as {{objective: {{one: OneStep}}}}."
        )
    found: dict[str, dict[str, Any]] = {}
    for axis, entries in axes.items():
        if not isinstance(entries, Mapping) or not entries:
            raise UserError(
                f"{where}: axes.{axis} is {entries!r}; expected entries by name, such as "
                "{one_step: OneStep, k2: {class_path: Unrolled, init_args: {steps: 2}}}."
            )
        found[str(axis)] = {}
        for name, entry in entries.items():
            label = entry_name(name)
            if not label or label.startswith(".") or any(c in label for c in "/\\\0"):
                raise UserError(
                    f"{where}: axes.{axis} has {name!r}, which is to name a folder; use letters."
                )
            if label in found[str(axis)]:
                raise UserError(f"{where}: axes.{axis} has two entries called {label}.")
            found[str(axis)][label] = _checked(entry, str(axis), f"{where}: axes.{axis}.{label}")
    return found


def entry_name(name: Any) -> str:
    """A key of a YAML file as a name; a bare `none`, `null` or `~` is none."""
    if name is None:
        return "none"
    if isinstance(name, bool):  # yes, no, on and off are truth values to YAML
        return "yes" if name else "no"
    return str(name)


def _checked(entry: Any, axis: str, where: str) -> Any:
    """An entry of the shape that its axis needs."""
    if isinstance(entry, Mapping):
        also = entry.get("also", {})
        if not isinstance(also, Mapping):
            raise UserError(
                f"{where}.also is {also!r}; expected dotted settings, such as {{data.stride: 2}}."
            )
        return dict(entry)
    if axis in ("dataset", "model", "objective", "regularizer", "constraint"):
        if isinstance(entry, str) or (entry is None and axis in ("regularizer", "constraint")):
            return entry
        expected = {"dataset": "a recipe's name or settings of data"}.get(axis, "a class, or class_path")
        raise UserError(f"{where} is {entry!r}; expected {expected}.")
    if entry is None:
        return {}
    near = difflib.get_close_matches(axis, PARTS, n=1)
    hint = f"; did you mean the axis {near[0]!r}?" if near and axis not in PARTS else "."
    raise UserError(
        f"{where} is {entry!r}; expected settings, such as {{training.learning_rate: 0.001}}{hint} Axes that stand "
        f"for a part are {', '.join(PARTS)}."
    )


def combinations(
    axes: Mapping[str, Mapping[str, Any]], only: Any, skip: Any, where: str
) -> Iterator[Choice]:
    """Every choice of one entry per axis that matches some of `only` (if there are any) and none of `skip`.

    Raises:
        UserError: a pattern names an axis or an entry that is not there.
    """
    wanted, unwanted = _patterns(only, axes, f"{where}: only"), _patterns(skip, axes, f"{where}: skip")
    for names in product(*axes.values()):
        choice = dict(zip(axes, names, strict=True))
        if (not wanted or any(matches(choice, p) for p in wanted)) and not any(
            matches(choice, p) for p in unwanted
        ):
            yield choice


def matches(choice: Mapping[str, str], pattern: Mapping[str, list[str]]) -> bool:
    """Whether a choice takes one of the entries that a pattern allows, on every axis of the pattern."""
    return all(choice.get(axis) in allowed for axis, allowed in pattern.items())


def _patterns(given: Any, axes: Mapping[str, Mapping[str, Any]], where: str) -> list[dict[str, list[str]]]:
    if given is None:
        return []
    if isinstance(given, Mapping):
        given = [given]
    if not isinstance(given, list):
        raise UserError(f"{where} is {given!r}; expected a list such as [{{objective: k5, model: fno}}].")
    return [pattern(one, {axis: list(names) for axis, names in axes.items()}, where) for one in given]


def pattern(given: Any, known: Mapping[str, list[str]], where: str) -> dict[str, list[str]]:
    """Entries by axis, one or several for each, as lists of names.

    Raises:
        UserError: an axis or an entry is not there; the message lists what is.
    """
    if not isinstance(given, Mapping) or not given:
        raise UserError(
            f"{where} has {given!r}; expected entries by axis, such as {{objective: [k5, k10]}}."
        )
    out: dict[str, list[str]] = {}
    for axis, names in given.items():
        if axis not in known:
            raise UserError(f"{where} names the axis {axis!r}; expected one of {', '.join(known)}.")
        listed = [entry_name(n) for n in (names if isinstance(names, list) else [names])]
        for name in listed:
            if name not in known[axis]:
                raise UserError(
                    f"{where}: the axis {axis} has no entry {name!r}; expected one of {', '.join(known[axis])}."
                )
        out[str(axis)] = listed
    return out


def put(tree: dict[str, Any], axes: Mapping[str, Mapping[str, Any]], choice: Choice) -> None:
    """Put the entries of a choice into a tree of parts, in place; what goes `also` with them comes last."""
    also: list[tuple[str, Any]] = []
    for axis, name in choice.items():
        entry = copy.deepcopy(axes[axis][name])
        if isinstance(entry, dict):
            also += [(str(k), v) for k, v in (entry.pop("also", None) or {}).items()]
        if axis not in PARTS:
            also = [*((str(k), v) for k, v in entry.items()), *also]
        elif axis == "dataset":
            given = {"recipe": entry} if isinstance(entry, str) else entry
            tree["data"] = {**(tree.get("data") or {}), **given}
        elif axis == "model":
            tree["model"] = {**_model(tree.get("model")), **_model(entry)}
        elif axis in ("training", "evaluation"):
            tree[axis] = {**(tree.get(axis) or {}), **entry}
        else:
            tree[axis] = entry or None
    if isinstance(tree.get("model"), str | Mapping):
        tree["model"] = _model(tree["model"])
    if tree.get("regularizer") is not None:
        tree["regularizer"] = _penalty(tree["regularizer"])
    override(tree, also)


def _model(entry: Any) -> dict[str, Any]:
    """A network alone as the settings of a variant that has it."""
    if entry is None:
        return {}
    if isinstance(entry, str) or is_component(entry):
        return {"network": entry}
    return dict(entry)


def _penalty(entry: Any) -> dict[str, Any]:
    """A regulariser alone as the settings of a penalty that has it."""
    if isinstance(entry, str) or is_component(entry):
        return {"regularizer": entry}
    return dict(entry)


def surrogate(tree: dict[str, Any], name: str, where: str) -> None:
    """Take the parts of the surrogate out of a tree and put the variant that they make in, in place.

    Raises:
        UserError: there is no model, or a penalty without a regulariser, or one around an objective that has one.
    """
    parts = {part: tree.pop(part, None) for part in OF_THE_SURROGATE}
    model = _model(parts["model"])
    if "network" not in model:
        raise UserError(
            f"{where}: there is no network; give model, such as {{class_path: FNO, init_args: {{width: 32}}}}, at the "
            "top of the file or as an axis."
        )
    for part in ("objective", "constraint"):
        if part in model and parts[part] is not None:
            raise UserError(
                f"{where}: {part} stands in the model and beside it; leave it out of the model."
            )
        if parts[part] is not None:
            model[part] = parts[part]
    penalty = parts["regularizer"]
    if penalty is not None:
        model["objective"] = regularized(model.get("objective", "OneStep"), _penalty(penalty), where)
    tree["variants"] = {name: model}


def regularized(objective: Component, penalty: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The objective with a penalty around it.

    Raises:
        UserError: the penalty is of no regulariser, or the objective has one already.
    """
    from sciml.objectives import Regularized

    if penalty.get("regularizer") is None:
        raise UserError(
            f"{where}: the regularizer is {dict(penalty)!r}; expected a class, or settings of a penalty with one, such "
            "as {regularizer: {class_path: JAWS}, weight: 0.003, warmup: 150}."
        )
    known = [n for n in inspect.signature(Regularized).parameters if n != "objective"]
    for setting in penalty:
        if setting not in known:
            near = difflib.get_close_matches(str(setting), known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else "."
            raise UserError(f"{where}: a penalty has no {setting!r}{hint} It takes {', '.join(known)}.")
    refuse_regularized(objective, where)
    inner = {"objective": _named(objective), **penalty, "regularizer": _named(penalty["regularizer"])}
    return {"class_path": "Regularized", "init_args": inner}


def _named(component: Component) -> Component:
    """A bare class as a mapping: inside another component, a text would be taken for a plain value."""
    return {"class_path": component} if isinstance(component, str) else component


def refuse_regularized(objective: Component, where: str) -> None:
    """Refuse an objective that holds a regulariser already.

    Raises:
        UserError: it, or an objective inside it, is `Regularized`.
    """
    from sciml.objectives import Regularized
    from sciml.regularizers import Regularizer

    class_path, arguments = split(objective, f"{where}: objective")
    cls = find_class(class_path, f"{where}: objective", "objective")
    if issubclass(cls, Regularized | Regularizer):
        raise UserError(
            f"{where}: the objective holds a regulariser already ({cls.__name__}), and the study has regularisers of its "
            "own; give the objective without it, and the regulariser as an entry of the axis."
        )
    for value in arguments.values():
        for inner in value if isinstance(value, list) else [value]:
            if is_component(inner):
                refuse_regularized(inner, where)
