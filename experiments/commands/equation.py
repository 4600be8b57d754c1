"""The option --equation: which equation data are said to solve."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sciml.errors import UserError

if TYPE_CHECKING:
    from argparse import Namespace

    import jsonargparse

    from sciml.datasets.equations import Stated

NAME = "equation"


def add_equation(parser: jsonargparse.ArgumentParser) -> None:
    """The option itself; its arguments, `--equation.viscosity 0.01`, are taken by `take_equation`."""
    parser.add_argument(
        f"--{NAME}",
        type=str,
        metavar="CLASS",
        help="equation that the data solve: a name (`sciml list pdes`), file.py:Class, or {class_path: ..., init_args: "
        "...}; arguments as --equation.NAME VALUE, and without any, parameters that the file has by the same names",
    )


def take_equation(words: list[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """Take `--equation.NAME VALUE` out of the words of a command line.

    Raises:
        UserError: one has no value.
    """
    taken, left, rest = [], [], iter(words)
    for word in rest:
        key, equals, value = word.partition("=")
        if not key.startswith(f"--{NAME}."):
            left.append(word)
            continue
        if not equals:
            found = next(rest, None)
            if found is None or found.startswith("--"):
                raise UserError(f"{word} needs a value, such as {word} 0.01.")
            value = found
        taken.append((key.removeprefix(f"--{NAME}."), value))
    return taken, left


def read(arguments: Namespace) -> Stated | None:
    """The equation given: an object, or where no argument of it is said its class, for the file's parameters to fill.

    Raises:
        UserError: there is no such class, it is no equation, or an argument is unknown or of a wrong type.
    """
    import yaml

    from sciml.experiments import components
    from sciml.odes.base import ODE
    from sciml.pdes.base import PDE, Elliptic

    options: list[tuple[str, str]] = list(getattr(arguments, "free", []))
    text = arguments.get(NAME)
    if text is None:
        if options:
            raise UserError(f"--{NAME}.{options[0][0]} was given without --{NAME} CLASS.")
        return None
    try:
        given: Any = yaml.safe_load(text)
        values = {name: yaml.safe_load(value) for name, value in options}
    except yaml.YAMLError as error:
        raise UserError(f"--{NAME} is not a name and not YAML: {error}") from error
    path, init = components.split(given, f"--{NAME}")
    cls = components.find_class(path, f"--{NAME}", NAME)
    if not issubclass(cls, PDE | ODE | Elliptic):
        raise UserError(f"--{NAME}: {path} is no equation; `sciml list pdes` names those that are here.")
    init |= values
    if not init:
        return cls
    made: Stated = components.build({"class_path": path, "init_args": init}, f"--{NAME}", NAME)
    return made
