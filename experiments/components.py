"""Objects from their names in a file: `class_path` and `init_args`, checked against the class itself.

A part of a study (network, objective, constraint, ...) is written as in jsonargparse,

    network: {class_path: FNO, init_args: {width: 32, modes: [16]}}

or as the bare class where it needs no arguments. The name is that of a class in the package's own
modules, a dotted path, or a file of the user's, `my_network.py:MyNetwork`. Where a class asks for a
function, `my_file.py:function` names one. What only the data can tell (numbers of channels, dimension,
domain) is filled in under the names in `FILLED`, unless given.
"""

from __future__ import annotations

import copy
import difflib
import hashlib
import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType, UnionType
from typing import Any, Literal, Union, cast, get_args, get_origin, get_type_hints

from torch import nn

from sciml.constraints.base import Constraint
from sciml.errors import UserError
from sciml.extras import require

# Where a bare class name is looked up, after the home of the part of a variant that it stands for.
MODULES = (
    "sciml.models",
    "sciml.objectives",
    "sciml.regularizers",
    "sciml.constraints",
    "sciml.pdes",
    "sciml.odes",
    "sciml.domains",
    "sciml.experiments.online",
)
HOMES = {
    "network": "sciml.models",
    "constraint": "sciml.constraints",
    "objective": "sciml.objectives",
    "equation": "sciml.pdes",
    "optimizer": "sciml.optimizers",
}

# Arguments that the data fill in, by the part of a variant and the name they have in constructors.
FILLED: Mapping[str, tuple[str, ...]] = {
    "network": (
        *("in_channels", "out_channels", "dimension", "domain", "grid", "mesh"),
        *("lengths", "origin", "periodic", "horizon", "initial"),
        *("mean", "std", "dt", "recipe"),
    ),
    "constraint": ("dimension", "domain", "grid", "mesh"),
    "optimizer": ("params", "lr", "weight_decay"),
    "objective": (
        *("channels", "dimension", "domain", "grid", "mesh", "pde"),
        *("lengths", "origin", "horizon"),
        *("dt", "recipe", "units", "solver"),
    ),
}

PLAIN = (str, int, float, bool, type(None), list, tuple, Mapping)

Component = str | Mapping[str, Any]


def is_component(value: object) -> bool:
    """Whether a value read from a file names a class."""
    return isinstance(value, Mapping) and "class_path" in value


def split(component: Component, where: str) -> tuple[str, dict[str, Any]]:
    """Class path and arguments of a component.

    Raises:
        UserError: it is neither a class name nor a mapping with class_path and, perhaps, init_args.
    """
    if isinstance(component, str):
        return component, {}
    if not is_component(component):
        raise UserError(
            f"{where} is {component!r}; expected a class name, or class_path with init_args, such as "
            "{class_path: FNO, init_args: {width: 32}}."
        )
    unknown = set(component) - {"class_path", "init_args"}
    if unknown:
        raise UserError(
            f"{where} has {sorted(map(str, unknown))} beside class_path; the class's arguments go under init_args."
        )
    arguments = component.get("init_args") or {}
    if not isinstance(component["class_path"], str) or not isinstance(arguments, Mapping):
        raise UserError(
            f"{where} needs a text as class_path and a mapping as init_args; got {component!r}."
        )
    return component["class_path"], dict(arguments)


def find_class(class_path: str, where: str, part: str) -> type:
    """The class that a path names; a file's module is loaded once.

    Raises:
        UserError: there is no such class; the message lists near names.
    """
    file, colon, name = class_path.rpartition(":")
    if colon:
        return _attribute(_from_file(file, where), name, class_path, where)
    module_name, dot, name = class_path.rpartition(".")
    if dot:
        try:
            return _attribute(importlib.import_module(module_name), name, class_path, where)
        except ModuleNotFoundError as error:
            if error.name is None or not (module_name + ".").startswith(error.name + "."):
                raise  # the module is there and lacks a part of its own; its message says which
            if error.name == "pytorch_optimizer":
                require(error.name, extra="optimizers", purpose=class_path)
            raise UserError(
                f"{where}: no module {module_name!r} for {class_path!r}; a class in a file of your own is "
                "written as path/to/file.py:ClassName."
            ) from error
    known: list[str] = []
    more = ("torch.optim",) if part == "optimizer" else ()
    for module_name in dict.fromkeys((HOMES[part], *more, *MODULES)):
        module = importlib.import_module(module_name)
        exported = list(getattr(module, "__all__", ()))
        known += exported
        if name in exported:
            return _attribute(module, name, class_path, where)
    near = difflib.get_close_matches(class_path, known, n=3)
    hint = f"; did you mean {' or '.join(near)}?" if near else "."
    raise UserError(
        f"{where}: no class {class_path!r}{hint} `sciml list` names the classes here; one of your own is "
        "written as path/to/file.py:ClassName."
    )


def find_function(path: str, where: str) -> Callable[..., Any]:
    """The function that a path names: `path/to/file.py:function`, or `module.function`.

    Raises:
        UserError: there is no such file, module or function, or it cannot be called.
    """
    file, colon, name = path.rpartition(":")
    if colon:
        module = _from_file(file, where)
    else:
        module_name, dot, name = path.rpartition(".")
        if not dot:
            raise UserError(
                f"{where}: {path!r} is neither path/to/file.py:function nor module.function; write one of them."
            )
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            raise UserError(
                f"{where}: no module {error.name!r} for {path!r}; a function in a file of your own is written as "
                "path/to/file.py:function."
            ) from error
    found: Any = getattr(module, name, None)
    if not callable(found):
        names = [n for n, value in vars(module).items() if callable(value) and not n.startswith("_")]
        near = difflib.get_close_matches(name, names, n=3)
        hint = f"; did you mean {' or '.join(near)}?" if near else "."
        raise UserError(f"{where}: {path!r} is not a function{hint}")
    return cast("Callable[..., Any]", found)


def _from_file(file: str, where: str) -> ModuleType:
    path = Path(file).expanduser().resolve()
    if not path.is_file():
        raise UserError(f"{where}: there is no file {file!r} (looked for {path}).")
    name = f"sciml_user_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise UserError(f"{where}: {file!r} is not a Python file.")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except ModuleNotFoundError as error:
            del sys.modules[name]
            if error.name == "cvxpy":
                require(error.name, extra="convex", purpose=f"{where}: {file}")
            raise
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]


def _attribute(module: ModuleType, name: str, class_path: str, where: str) -> type:
    found = getattr(module, name, None)
    if not inspect.isclass(found):
        names = [n for n, value in vars(module).items() if inspect.isclass(value)]
        names += list(getattr(module, "__all__", ()))
        near = difflib.get_close_matches(name, names, n=3)
        hint = f"; did you mean {' or '.join(dict.fromkeys(near))}?" if near else "."
        raise UserError(f"{where}: {class_path!r} is not a class{hint}")
    return found


def _accepted(cls: type) -> dict[str, inspect.Parameter]:
    parameters = inspect.signature(cls).parameters
    return {n: p for n, p in parameters.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}


def _is_nested(value: object) -> bool:
    if isinstance(value, Mapping):
        return is_component(value)
    return isinstance(value, Sequence) and not isinstance(value, str) and any(map(is_component, value))


def _bare_names_as_components(cls: type, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments with a bare name, such as `OneStep`, as a component wherever the constructor asks for an object.

    A name is then looked up as everywhere else, and what the data fill in reaches it.
    """
    try:
        hints = get_type_hints(cls.__init__)  # type: ignore[misc]  # that of this very class is meant
    except (NameError, TypeError):  # a name that only a type checker sees
        return dict(arguments)
    out = dict(arguments)
    for name, value in arguments.items():
        members = _members(hints.get(name, Any))
        choices = [
            choice for member in members if get_origin(member) is Literal for choice in get_args(member)
        ]
        named = isinstance(value, str) and value not in choices and str not in members
        if named and any(map(_is_object, members)):
            out[name] = {"class_path": value}
        elif isinstance(value, list) and any(map(_holds_objects, members)):
            out[name] = [{"class_path": item} if isinstance(item, str) else item for item in value]
    return out


def _named_functions(cls: type, arguments: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Arguments with the functions themselves where the constructor asks for one and the file names it.

    A class of the user's own whose objects are called is made like any other component.
    """
    try:
        hints = get_type_hints(cls.__init__)  # type: ignore[misc]  # that of this very class is meant
    except (NameError, TypeError):  # a name that only a type checker sees
        return dict(arguments)
    out = dict(arguments)
    for name, value in arguments.items():
        members = _members(hints.get(name, Any))
        if not isinstance(value, str) or not any(
            get_origin(m) is Callable or m is Callable for m in members
        ):
            continue
        # Where a text may be meant as a text, such as the name of a file, only path/to/file.py:name is a function.
        if str in members and not re.fullmatch(r".+\.py:\w+", value):
            continue
        choices = [choice for m in members if get_origin(m) is Literal for choice in get_args(m)]
        if value in choices:
            continue
        bare = ":" not in value and "." not in value
        found = None if bare else find_function(value, f"{where}.{name}")
        out[name] = {"class_path": value} if bare or inspect.isclass(found) else found
    return out


def _members(hint: Any) -> tuple[Any, ...]:
    """The types that a union allows; of any other type, itself."""
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _is_object(hint: Any) -> bool:
    """Whether a type is a class of parts, such as Objective, and none of plain values."""
    return inspect.isclass(hint) and (issubclass(hint, nn.Module) or inspect.isabstract(hint))


def _holds_objects(hint: Any) -> bool:
    items = [member for item in get_args(hint) for member in _members(item)]
    return get_origin(hint) in (Sequence, list, tuple) and any(map(_is_object, items)) and str not in items


def _plain_arguments(cls: type, arguments: Mapping[str, Any], skip: set[str], where: str) -> dict[str, Any]:
    """The arguments without nested components, checked and converted by the types in the signature."""
    import jsonargparse

    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(cls, "of", skip=skip, fail_untyped=False, instantiate=False)
    try:
        # A copy: jsonargparse puts objects of its own into mappings inside, and what a file says is stored as it was.
        made = parser.instantiate(parser.parse_object({"of": copy.deepcopy(dict(arguments))}))
    except (jsonargparse.ArgumentError, TypeError, ValueError, KeyError) as error:
        raise UserError(f"{where} ({cls.__name__}): {plain_message(error)}.") from error
    values = made.get("of") or {}
    return {name: values[name] for name in arguments}


def plain_message(error: BaseException) -> str:
    """One line from an error of jsonargparse, without the names of its machinery."""
    text = " ".join(line.strip() for line in str(error).splitlines() if line.strip())
    text = re.sub(r"Parser key \"(?:of\.)?([^\"]*)\":", r"argument \1:", text)
    text = (
        re.sub(r"<class '([^']*)'>", r"\1", text)
        .replace("typing.", "")
        .replace("required: of.", "required: ")
    )
    return text.replace(" of.", " ").rstrip(".")


def _checked(
    component: Component, where: str, part: str, filled: Sequence[str]
) -> tuple[type, dict[str, Any], dict[str, Any]]:
    """Class, its plain arguments and its nested components, all checked."""
    class_path, arguments = split(component, where)
    cls = find_class(class_path, where, part)
    accepted = _accepted(cls)
    unknown = [name for name in arguments if name not in accepted]
    if unknown:
        near = difflib.get_close_matches(unknown[0], accepted, n=2)
        hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else "."
        raise UserError(
            f"{where}: {cls.__name__} has no argument {unknown[0]!r}{hint} It takes {', '.join(accepted)}."
        )
    arguments = _bare_names_as_components(cls, _named_functions(cls, arguments, where))
    nested = {name: value for name, value in arguments.items() if _is_nested(value)}
    plain = {name: value for name, value in arguments.items() if name not in nested}
    # Objects (a domain, a module) are passed by code, not read from files, and need no conversion.
    objects = {n: v for n, v in plain.items() if not isinstance(v, PLAIN)}
    skip = set(nested) | set(objects) | {n for n in filled if n in accepted and n not in plain}
    plain = {name: value for name, value in plain.items() if name not in objects}
    return cls, {**_plain_arguments(cls, plain, skip, where), **objects}, nested


def check(component: Component, where: str, part: str) -> None:
    """Check names and types of a component and of those inside it, without making anything.

    `part` is "network", "constraint" or "objective"; what the data fill in there may be left out.

    Raises:
        UserError: an unknown class or argument, a wrong type, or a required argument left out.
    """
    _, _, nested = _checked(component, where, part, FILLED[part])
    for name, value in nested.items():
        items = enumerate(value) if not isinstance(value, Mapping) else [(None, value)]
        for index, item in items:
            if index is not None and not isinstance(item, (str, Mapping)):
                continue  # a plain value among components, such as a number beside a schedule
            check(item, f"{where}.{name}" + ("" if index is None else f"[{index}]"), part)


def needed(component: Component, where: str, part: str) -> set[str]:
    """What a component and those inside it ask the data for: arguments without a default that the file leaves out."""
    cls, plain, nested = _checked(component, where, part, FILLED[part])
    found = {
        name
        for name, parameter in _accepted(cls).items()
        if name not in plain and name not in nested and parameter.default is parameter.empty
    }
    for name, value in nested.items():
        for item in [value] if isinstance(value, Mapping) else value:
            if isinstance(item, (str, Mapping)):
                found |= needed(item, f"{where}.{name}", part)
    return found


def build(component: Component, where: str, part: str, facts: Mapping[str, Any] | None = None) -> Any:
    """Make the object that a component describes.

    Args:
        component: class name, or mapping with class_path and init_args.
        where: its place in the file, for messages.
        part: "network", "constraint" or "objective".
        facts: values for arguments that the data fill in, by name; given arguments win.

    Raises:
        UserError: the class or an argument is unknown or of a wrong type, or the constructor refuses.
    """
    facts = facts or {}
    cls, plain, nested = _checked(component, where, part, tuple(facts))
    if part != "constraint" and issubclass(cls, Constraint):
        # Inside another part it is told what it is told elsewhere: `channels` means the ones it acts on.
        facts = {name: value for name, value in facts.items() if name in FILLED["constraint"]}
    arguments = dict(plain)
    for name, value in nested.items():
        if isinstance(value, Mapping):
            arguments[name] = build(value, f"{where}.{name}", part, facts)
        else:
            arguments[name] = [
                build(v, f"{where}.{name}[{i}]", part, facts) if isinstance(v, (str, Mapping)) else v
                for i, v in enumerate(value)
            ]
    for name in _accepted(cls):
        if name in facts and name not in arguments:
            arguments[name] = facts[name]
    try:
        return cls(**arguments)
    except UserError:
        raise
    except (ValueError, TypeError) as error:
        raise UserError(f"{where}: {error}") from error
