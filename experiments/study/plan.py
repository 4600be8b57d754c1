"""What a study of several runs says: its cells, its budget, and what is compared with what."""

from __future__ import annotations

import copy
import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from itertools import product
from pathlib import Path
from typing import Any

from sciml.errors import UserError
from sciml.experiments.config import Study, override, read_study, read_yaml, study_file
from sciml.experiments.study import axes as axis


@dataclass(frozen=True)
class Budget:
    """What every training of a study is given alike.

    Args:
        updates: optimiser updates.
        seconds: wall time of the training.
    """

    updates: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        given = {k: v for k, v in asdict(self).items() if v is not None}
        if len(given) != 1 or not all(
            isinstance(v, int | float) and not isinstance(v, bool) and v > 0 and math.isfinite(v)
            for v in given.values()
        ):
            raise ValueError(
                f"budget is {given}; expected one of updates or seconds, positive, such as {{updates: 2000}}."
            )

    def text(self) -> str:
        """In words."""
        if self.updates is not None:
            return f"equal updates: {self.updates:,} for every training"
        return f"equal wall time: {self.seconds:g} s for every training"


LEADS: tuple[int | str, ...] = ("trained", "last", "mean")


@dataclass(frozen=True)
class Comparison:
    """How rows are compared.

    Args:
        metric: a positive one, smaller is better, as in metrics.csv; the nRMSE of rollouts and the relative L2 error of
            maps if left out.
        leads: lead steps, or "trained" (the training horizon), "last", and "mean", the geometric mean over all lead
            times in metrics.csv; for maps, names of test sets.
        cap: an error that is larger, or not finite, or of a training that failed, counts as this one.
        draws: of the bootstrap.
        seed: of the bootstrap.
        level: of the intervals.

    Raises:
        ValueError: a number is out of its range.
    """

    metric: str | None = None
    leads: list[int | str] = field(default_factory=lambda: list(LEADS))
    cap: float = 10.0
    draws: int = 2000
    seed: int = 0
    level: float = 0.95

    def __post_init__(self) -> None:
        if not self.cap > 0 or self.draws < 1 or not 0 < self.level < 1 or not self.leads:
            raise ValueError(
                f"comparison has leads={self.leads}, cap={self.cap}, draws={self.draws}, level={self.level}; expected at "
                "least one lead, a positive cap, at least one draw and a level between 0 and 1."
            )


@dataclass(frozen=True)
class Cell:
    """One run of a study: where it lies, which entry of each axis it takes, and what it runs."""

    label: str
    choice: dict[str, str]
    study: Study


@dataclass(frozen=True)
class Plan:
    """A study of several runs.

    Args:
        name: folder under runs/.
        title: one line for people.
        cells: the runs.
        axes: names of all entries by axis.
        budget: what every training is given alike, where the study says so.
        baseline: entries by axis: each row is compared with the row that differs from it in taking these.
        comparison: how rows are compared.
    """

    name: str
    title: str
    cells: list[Cell]
    axes: dict[str, list[str]] = field(default_factory=dict)
    budget: Budget | None = None
    baseline: dict[str, str] = field(default_factory=dict)
    comparison: Comparison = field(default_factory=Comparison)


OWN = ("axes", "matrix", "only", "skip", "budget", "baseline", "comparison")
"""Entries of a file that are the plan's own; all others are settings of its runs."""


def is_plan(tree: Mapping[str, Any]) -> bool:
    """Whether a file's content describes several runs."""
    return any(name in tree for name in (*OWN, "base", *axis.OF_THE_SURROGATE))


def read_plan(file: str, seeds: Sequence[int] | None = None) -> Plan:
    """A study of several runs from its file, or the plan of a single run from the file of one.

    Raises:
        UserError: the file, its base or a cell is wrong; all cells are checked before any is run.
    """
    path = study_file(file)
    tree = read_yaml(path)
    base = tree.pop("base", None)
    if base is not None:
        beside = path.parent / str(base)
        tree = {**read_yaml(study_file(str(beside if beside.is_file() else base))), **tree}
    own = {name: tree.pop(name) for name in OWN if name in tree}
    if seeds is not None:
        tree["seeds"] = list(seeds)
    name = str(tree.get("name", path.stem))
    tree.setdefault("name", name)
    title = str(tree.get("title", name))
    axes = axis.read_axes(own, file)
    matrix = _matrix(own.get("matrix"), file)
    budget = _made(Budget, own.get("budget"), f"{file}: budget")
    comparison = _made(Comparison, own.get("comparison"), f"{file}: comparison") or Comparison()
    in_parts = any(part in tree or part in axes for part in axis.OF_THE_SURROGATE)
    if in_parts and "variants" in tree:
        taken = [part for part in axis.OF_THE_SURROGATE if part in tree or part in axes]
        raise UserError(
            f"{file} has variants and, beside them, {', '.join(taken)}; describe the surrogates in one way: by their parts "
            "and axes, or as variants."
        )
    short = {key: _short(key, matrix) for key in matrix}
    clash = [s for s in short.values() if s in axes]
    if clash:
        raise UserError(
            f"{file}: {clash[0]} is an axis and stands in matrix; give one of them another name."
        )
    cells: list[Cell] = []
    for choice in axis.combinations(axes, own.get("only"), own.get("skip"), file):
        for values in product(*matrix.values()):
            settings = list(zip(matrix, values, strict=True))
            every = {**choice, **{short[key]: _text(value) for key, value in settings}}
            label = "_".join(f"{k}={_text(v)}" for k, v in every.items()) or name
            where = f"{file}, {label}"
            cell = copy.deepcopy(tree)
            if budget is not None:
                cell["training"] = {
                    **(cell.get("training") or {}),
                    **{k: v for k, v in asdict(budget).items() if v is not None},
                }
            axis.put(cell, axes, choice)
            override(cell, settings)
            if in_parts:
                axis.surrogate(cell, _surrogate_name(every), where)
            if every:
                cell["title"] = f"{title}: " + ", ".join(f"{k} = {v}" for k, v in every.items())
            study = read_study(cell, where)
            if budget is not None:
                _require_budget(study, budget, where)
            cells.append(Cell(label, every, study))
    if not cells:
        raise UserError(f"{file}: only and skip leave no combination of the axes; take one of them out.")
    labels = [cell.label for cell in cells]
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice is not None:
        raise UserError(f"{file}: two cells are called {twice}; entries of an axis need names that differ.")
    known = {**{a: list(e) for a, e in axes.items()}}
    known |= {short[key]: [_text(v) for v in values] for key, values in matrix.items()}
    variants = list(dict.fromkeys(v for cell in cells for v in cell.study.variants))
    if not in_parts and len(variants) > 1:
        known["variant"] = variants
    baseline = axis.pattern(own["baseline"], known, f"{file}: baseline") if own.get("baseline") else {}
    several = next((a for a, names in baseline.items() if len(names) > 1), None)
    if several is not None:
        raise UserError(f"{file}: baseline has {baseline[several]} for {several}; expected one entry.")
    return Plan(name, title, cells, known, budget, {a: n[0] for a, n in baseline.items()}, comparison)


def _surrogate_name(choice: Mapping[str, str]) -> str:
    """What the surrogate of a cell is called in its report."""
    return " ".join(name for part, name in choice.items() if part != "dataset") or "surrogate"


def _matrix(given: Any, where: str) -> dict[str, list[Any]]:
    matrix = {} if given is None else given
    if not isinstance(matrix, dict) or not all(isinstance(v, list) and v for v in matrix.values()):
        raise UserError(
            f"{where}: matrix is {matrix!r}; expected lists of values by dotted setting, such as "
            "{training.updates: [500, 2000]}."
        )
    return {str(key): values for key, values in matrix.items()}


def _made(cls: type, given: Any, where: str) -> Any:
    """A dataclass from a mapping of the file; None where nothing is given."""
    if given is None:
        return None
    known = [f.name for f in fields(cls)]
    if not isinstance(given, Mapping):
        raise UserError(f"{where} is {given!r}; expected a mapping with {', '.join(known)}.")
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else "."
            raise UserError(f"{where} has an entry {name!r}{hint} It takes {', '.join(known)}.")
    try:
        return cls(**given)
    except (ValueError, TypeError) as error:
        raise UserError(f"{where}: {error}") from error


def _require_budget(study: Study, budget: Budget, where: str) -> None:
    """Refuse a cell whose trainings have another budget than the study states."""
    for variant in study.variants:
        found = asdict(study.settings(variant))
        expected: dict[str, Any] = {"epochs": None, **asdict(budget)}
        if budget.seconds is not None:
            del expected["updates"]  # the schedule's length is the trainer's business there
        for name, value in expected.items():
            if found.get(name) != value:
                raise UserError(
                    f"{where}: the budget is {budget.text()}, and training.{name} of {variant!r} is {found.get(name)!r}; "
                    "leave it out there, or take the budget out."
                )


def _short(key: str, matrix: Mapping[str, Any]) -> str:
    """The last parts of a dotted name that tell it from the others."""
    parts = key.split(".")
    for count in range(1, len(parts) + 1):
        short = ".".join(parts[-count:])
        if sum(other == key or other.endswith("." + short) for other in matrix) == 1:
            return short
    return key


def _text(value: Any) -> str:
    """A value as part of a folder's name."""
    return "".join(c if c.isalnum() or c in "-.+_ " else "-" for c in str(value)).strip("- ") or "none"


def folder_of(plan: Plan, cell: Cell, out: Path) -> Path:
    """Where a cell's run lies; a study of one run is that run."""
    return out / cell.label if len(plan.cells) > 1 else out
