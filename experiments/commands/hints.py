"""Options for what a foreign file does not say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sciml.errors import UserError

if TYPE_CHECKING:
    from argparse import Namespace

    import jsonargparse

    from sciml.datasets import Hints
    from sciml.trajectory import Field


def add_hints(parser: jsonargparse.ArgumentParser) -> None:
    """Options under --hints."""
    from sciml.datasets import Hints

    parser.add_class_arguments(Hints, "hints", skip={"fields", "inputs"}, instantiate=False)
    form = "name[:unit[:scalar|vector|tensor]], ..., such as velocity:m/s:vector,pressure:Pa"
    parser.add_argument("--hints.fields", type=str, help=f"the channels in order: {form}")
    parser.add_argument("--hints.inputs", type=str, help="the same of what static pairs are given")


RANKS = ("scalar", "vector", "tensor")


def parse_fields(words: str) -> tuple[Field, ...]:
    """Fields from "velocity:m/s:vector,pressure:Pa"; units and ranks may be left out.

    Raises:
        UserError: a word has other parts.
    """
    from sciml.trajectory import Field

    found = []
    for word in words.split(","):
        name, _, rest = word.strip().partition(":")
        unit, _, rank = rest.rpartition(":") if rest.rpartition(":")[2] in RANKS else (rest, "", "scalar")
        if not name or ":" in unit:
            raise UserError(
                f"--hints.fields got {word!r}; expected name[:unit[:scalar|vector|tensor]], such as velocity:m/s:vector."
            )
        found.append(Field(name, unit or "1", RANKS.index(rank)))
    return tuple(found)


def read(arguments: Namespace) -> Hints:
    """The hints given."""
    from sciml.datasets import Hints

    given = arguments.get("hints")
    values: dict[str, Any] = {
        name: value for name, value in (given.as_dict() if given else {}).items() if value is not None
    }
    for name in ("fields", "inputs"):
        if name in values:
            values[name] = parse_fields(values[name])
    typed: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in values.items()}
    return Hints(**typed)
