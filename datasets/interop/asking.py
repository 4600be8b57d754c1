"""Asking for what a file does not say: everything that is missing in one message, with an example."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from sciml.datasets.dataset import Hints
from sciml.domains import Grid
from sciml.errors import UserError
from sciml.trajectory import Field

MEANING = {
    "axes": "what the axes of its arrays are",
    "lengths": "the sides of its box",
    "boundary": "what holds on the sides of its box",
    "centering": "whether values lie on nodes or in cells",
    "dt": "the time between its frames",
    "fields": "what its channels are",
}


class Lacking:
    """Takes what is known of a file from the hints or from the file, and gathers what neither says.

    Args:
        place: the file, for the message.
        hints: what the user says; it goes before what the file says.
        dimension: number of space axes, for the examples.
        advice: a sentence to end the message with.
    """

    def __init__(self, place: str | Path, hints: Hints, dimension: int = 1, advice: str = "") -> None:
        self.place, self.hints, self.dimension, self.advice = place, hints, dimension, advice
        self._missing: dict[str, tuple[str, str]] = {}

    def take(self, name: str, known: Any = None, example: tuple[str, str] | None = None) -> Any:
        """The hint of that name, else `known`; else the name is kept for the message of `ask`."""
        given = getattr(self.hints, name)
        if given is not None:
            return given
        if known is None:
            self._missing[name] = example or self._example(name)
        return known

    def _example(self, name: str) -> tuple[str, str]:
        """A value as Python and as an option."""
        d = self.dimension
        lengths = ", ".join(["1.0"] * d) + ("," if d == 1 else "")
        return {
            "axes": (f"'ntc{'xyz'[:d]}'", f"ntc{'xyz'[:d]}"),
            "lengths": (f"({lengths})", f"[{','.join(['1.0'] * d)}]"),
            "boundary": ("'periodic'", "periodic"),
            "centering": ("'node'", "node"),
            "dt": ("0.1", "0.1"),
            "fields": ("(Field('u'),)", "u"),
        }[name]

    def ask(self) -> None:
        """Ask for all that is missing.

        Raises:
            UserError: something is.
        """
        if not self._missing:
            return
        what = [f"{MEANING[name]} ({name})" for name in self._missing]
        said = what[0] if len(what) == 1 else f"{', '.join(what[:-1])} and {what[-1]}"
        python = ", ".join(f"{name}={example}" for name, (example, _) in self._missing.items())
        options = " ".join(f"--hints.{name} {option}" for name, (_, option) in self._missing.items())
        raise UserError(
            f"{self.place} does not say {said}; pass hints=Hints({python}), on the command line {options}."
            + (f" {self.advice}" if self.advice else "")
        )


def make_grid(
    place: str | Path,
    points: Sequence[int],
    lengths: Sequence[float],
    boundary: Any,
    centering: Literal["node", "cell"],
    origin: float | Sequence[float] = 0.0,
) -> Grid:
    """The grid of a file.

    Raises:
        UserError: its sizes, lengths or sides do not fit together.
    """
    start = origin if isinstance(origin, int | float) else tuple(origin)
    try:
        return Grid(tuple(points), tuple(lengths), boundary, start, centering)
    except (ValueError, TypeError) as error:
        raise UserError(f"{place}: {error}") from error


def frames_of(count: int, dt: float) -> Tensor:
    """Times (T,) of evenly spaced frames from zero on."""
    return torch.arange(count, dtype=torch.float64) * dt


def scalars(names: Sequence[str]) -> tuple[Field, ...]:
    """A scalar field for each name."""
    return tuple(Field(name) for name in names)


def width_of(fields: Sequence[Field], dimension: int) -> int:
    """Number of channels that fields fill."""
    return sum(dimension**f.rank for f in fields)
