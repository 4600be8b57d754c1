"""What our writers add to layouts that have no place for it, so that opening again asks for nothing.

One line of JSON: fields, box, sides, centering and times. Readers of other projects do not look at it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sciml.datasets import schema
from sciml.datasets.dataset import Dataset, Hints
from sciml.datasets.interop.asking import make_grid
from sciml.datasets.splits import Pairs, Split
from sciml.domains import Grid
from sciml.errors import UserError
from sciml.trajectory import Field

NAME = "sciml"
"""The attribute, or key, that holds it."""


@dataclass(frozen=True)
class Imprint:
    """Fields, inputs of pairs, the grid, and the times of all samples."""

    fields: tuple[Field, ...]
    inputs: tuple[Field, ...]
    grid: Grid
    times: tuple[float, ...]

    def text(self) -> str:
        """As JSON."""
        return json.dumps(
            {
                "fields": json.loads(schema.fields_json(self.fields)),
                "inputs": json.loads(schema.fields_json(self.inputs)),
                "domain": schema.describe_domain(self.grid),
                "times": _short(self.times),
            }
        )

    def told(self, hints: Hints) -> Hints:
        """The hints, completed by what is known here."""
        return replace(
            hints,
            lengths=hints.lengths or self.grid.lengths,
            boundary=hints.boundary or self.grid.sides,
            centering=hints.centering or self.grid.centering,
            fields=hints.fields or self.fields,
            inputs=hints.inputs or self.inputs or None,
        )

    def on(self, points: Sequence[int], hints: Hints, place: str | Path) -> Grid:
        """The grid of arrays with that many points, unless the hints say otherwise.

        Raises:
            UserError: the arrays have other numbers of points.
        """
        if tuple(points) != self.grid.shape:
            raise UserError(f"{place} describes points {self.grid.shape} and holds {tuple(points)}.")
        full = self.told(hints)
        assert full.lengths is not None and full.centering is not None  # just completed
        return make_grid(place, points, full.lengths, full.boundary, full.centering, self.grid.origin)

    def at(self, frames: int, hints: Hints, place: str | Path) -> Tensor:
        """The times (T,) of arrays with that many frames, unless the hints say otherwise.

        Raises:
            UserError: there are other numbers of frames.
        """
        if hints.dt is not None:
            return torch.arange(frames, dtype=torch.float64) * hints.dt
        if len(self.times) != frames:
            raise UserError(f"{place} describes {len(self.times)} frames and holds {frames}.")
        return torch.tensor(self.times, dtype=torch.float64)


def _short(times: Sequence[float]) -> Any:
    """First, spacing and number where that gives all of them, else the list."""
    if len(times) > 1:
        dt = (times[-1] - times[0]) / (len(times) - 1)
        if all(times[0] + i * dt == t for i, t in enumerate(times)):
            return {"first": times[0], "dt": dt, "count": len(times)}
    return list(times)


def imprint_of(split: Split | Pairs, what: str) -> Imprint:
    """What is to be added to a file of one split.

    Raises:
        UserError: the samples lie on no grid, or on different ones, or differ in their times.
    """
    domains = split.domains if isinstance(split, Split) else (split.domain,)
    grid = domains[0]
    if not isinstance(grid, Grid):
        raise UserError(f"{what} holds fields on grids; this dataset lies on a {type(grid).__name__}.")
    if any(domain != grid for domain in domains[1:]):
        raise UserError(
            f"{what} holds one grid for all samples; those of split {split.name!r} lie on {len(domains)}."
        )
    if isinstance(split, Pairs):
        return Imprint(split.fields, split.input_fields, grid, (0.0,))
    times = split.block_times[0]
    for other in split.block_times[1:]:
        if len(other) != len(times) or not bool((other == times).all()):
            raise UserError(
                f"{what} holds the same times for all samples; split {split.name!r} has several."
            )
    return Imprint(split.fields, (), grid, tuple(times.tolist()))


def read_imprint(content: Any, place: str | Path) -> Imprint | None:
    """The imprint in a file, as text or as a mapping; None where there is none.

    Raises:
        UserError: it is damaged.
    """
    if content is None:
        return None
    try:
        found = content if isinstance(content, dict) else json.loads(schema.text(content))
        fields, inputs = (
            tuple(Field(str(f["name"]), str(f["unit"]), int(f["rank"])) for f in found[key])
            for key in ("fields", "inputs")
        )
        if any(f.rank not in (0, 1, 2) for f in (*fields, *inputs)):
            raise ValueError("a field of a rank beyond 2")
        grid = schema.domain_from_description(found["domain"])
        if not isinstance(grid, Grid):
            raise ValueError("no grid")
        times = found["times"]
        if isinstance(times, dict):
            count = int(times["count"])
            if not 0 < count <= 1 << 24:
                raise ValueError(f"{count} frames")
            times = [float(times["first"]) + i * float(times["dt"]) for i in range(count)]
        return Imprint(fields, inputs, grid, tuple(float(t) for t in times))
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise UserError(f"{place}: its description of itself ({NAME!r}) is damaged: {error}.") from error


def one_grid(dataset: Dataset, what: str) -> dict[str, Imprint]:
    """Split -> imprint of a dataset that lies on grids.

    Raises:
        UserError: a split does not fit, as in `imprint_of`.
    """
    return {name: imprint_of(split, what) for name, split in dataset.splits.items()}


def lost_parameters(dataset: Dataset) -> list[str]:
    """Names of the numbers that differ between samples."""
    return sorted({name for split in dataset.splits.values() for name in split.parameters})
