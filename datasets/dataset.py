"""A dataset, native or foreign: splits and what is known about them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from sciml.datasets.splits import Pairs, Split
from sciml.domains import Domain, Grid
from sciml.errors import UserError
from sciml.trajectory import Field

if TYPE_CHECKING:
    from sciml.datasets.recipe import Recipe
    from sciml.datasets.statistics import Statistics


@dataclass(frozen=True)
class Hints:
    """What a foreign file does not say. Whatever is left None is taken from the file or asked for.

    Args:
        lengths: side of the box per axis [length].
        boundary: sides of the box, as in `Grid`.
        dt: time between stored frames [time].
        centering: "node" or "cell".
        fields: names, units and ranks of the channels, in order.
        inputs: the same of what static pairs are given; `fields` are then what is sought.
        axes: a letter per axis of the arrays, in the order in which they are stored: "n" sample, "t" time,
            "c" channel, "x", "y", "z" space.
        split: how a source without splits is divided into train, valid and test: three fractions that sum
            to one, or three numbers of samples.

    Raises:
        UserError: a value is not of that kind.
    """

    lengths: tuple[float, ...] | None = None
    boundary: str | tuple[Any, ...] | None = None
    dt: float | None = None
    centering: Literal["node", "cell"] | None = None
    fields: tuple[Field, ...] | None = None
    inputs: tuple[Field, ...] | None = None
    axes: str | None = None
    split: tuple[float, float, float] | None = None

    def __post_init__(self) -> None:
        if self.lengths is not None and not all(math.isfinite(x) and x > 0 for x in self.lengths):
            raise UserError(f"Hints got lengths={self.lengths}; they must be positive and finite.")
        if self.dt is not None and not (math.isfinite(self.dt) and self.dt > 0):
            raise UserError(f"Hints got dt={self.dt}; it must be positive and finite.")
        axes = self.axes or ""
        if set(axes) - set("ntcxyz") or len(set(axes)) != len(axes) or self.axes == "":
            raise UserError(
                f"Hints got axes={self.axes!r}; expected a letter per axis, each once: n sample, t time, c channel, "
                "x, y, z space, such as 'ntcxy'."
            )
        split = self.split
        if split is not None:
            whole = all(x == int(x) for x in split) if all(map(math.isfinite, split)) else False
            fractions = abs(sum(split) - 1) < 1e-6
            if len(split) != 3 or min(split) < 0 or not (whole or fractions):
                raise UserError(
                    f"Hints got split={split}; expected three fractions of train, valid and test that sum to one, such "
                    "as (0.8, 0.1, 0.1), or three numbers of samples."
                )


@dataclass(frozen=True, eq=False)
class Dataset:
    """Splits by name and what is known about them.

    Args:
        path: where it lies.
        name: its name.
        kind: the layout it was found in: "native", "the_well", "graphs", "pdebench", ...
        splits: name -> `Split` of trajectories, or `Pairs` of static fields.
        constants: parameters that all samples share.
        notes: what the source does not say and had to be assumed, a sentence each.
        manifest: the recipe, seeds, versions and checksums of a native dataset, else empty.
        certificate: measured errors of the data themselves, else None.
    """

    path: Path
    name: str
    kind: str
    splits: Mapping[str, Split | Pairs]
    constants: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    manifest: Mapping[str, Any] = field(default_factory=dict)
    certificate: Mapping[str, Any] | None = None

    def __getitem__(self, name: str) -> Any:
        """A split by name: a `Split` of trajectories or `Pairs` of static fields.

        Raises:
            UserError: there is no such split.
        """
        if name not in self.splits:
            raise UserError(f"{self.path} has no split {name!r}; it has {', '.join(self.splits)}.")
        return self.splits[name]

    def __contains__(self, name: object) -> bool:
        return name in self.splits

    @property
    def first(self) -> Split | Pairs:
        """The split that describes the rest: train where there is one."""
        return self.splits["train"] if "train" in self.splits else next(iter(self.splits.values()))

    @property
    def static(self) -> bool:
        """Whether the splits are `Pairs`."""
        return isinstance(self.first, Pairs)

    @property
    def fields(self) -> tuple[Field, ...]:
        """The stored quantities; of pairs, the targets."""
        return self.first.fields

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels (C,)."""
        return self.first.channels

    @property
    def domain(self) -> Domain:
        """The domain of the training split."""
        return self.first.domain

    @property
    def times(self) -> Tensor:
        """Times (T,) of the longest split, float64; a single zero for pairs."""
        found = [s.times for s in self.splits.values() if isinstance(s, Split)]
        return max(found, key=len) if found else torch.zeros(1, dtype=torch.float64)

    @property
    def dt(self) -> float:
        """Time between stored frames; 0 for pairs."""
        times = self.times
        return float(times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else 0.0

    @property
    def parameters(self) -> Mapping[str, tuple[float, float]]:
        """Lowest and highest value of each physical parameter over all samples."""
        ranges = {name: (value, value) for name, value in self.constants.items()}
        for split in self.splits.values():
            for name, values in split.parameters.items():
                low, high = ranges.get(name, (float("inf"), float("-inf")))
                ranges[name] = (min(low, float(values.min())), max(high, float(values.max())))
        return ranges

    @cached_property
    def recipe(self) -> Recipe | None:
        """The recipe that made it, where it can be found and still is the same; else None."""
        from sciml.datasets.recipe import recipe_of

        return recipe_of(self.manifest)

    @cached_property
    def stats(self) -> Statistics:
        """Normalisation, from the training split only.

        Read from stats.yaml; foreign files of single arrays, which have no place for it, are measured.

        Raises:
            UserError: the layout keeps statistics in a file, and it is missing or lacks a field.
        """
        from sciml.datasets.statistics import measure, read_statistics

        if self.kind in ("native", "the_well", "graphs"):
            first = self.first
            inputs = first.input_fields if isinstance(first, Pairs) else ()
            return read_statistics(self.path / "stats.yaml", self.fields, first.dimension, inputs)
        return measure(self.first)

    def require(self, domain: Domain, channels: tuple[str, ...]) -> None:
        """Check that a model made for `domain` and `channels` fits.

        Raises:
            UserError: the resolution, the box or the channels differ.
        """
        if self.channels != channels:
            raise UserError(
                f"{self.path} has the channels {self.channels}; the model was made for {channels}. "
                "Choose a dataset of the same fields."
            )
        mine = self.domain
        if type(mine) is not type(domain) or getattr(mine, "shape", None) != getattr(domain, "shape", None):
            raise UserError(
                f"{self.path} has points {getattr(mine, 'shape', '?')}; the model was made for "
                f"{getattr(domain, 'shape', '?')}. Choose a dataset of that resolution or resample this one."
            )
        if isinstance(mine, Grid) and isinstance(domain, Grid) and mine != domain:
            raise UserError(f"{self.path} lies on {mine}; the model was made for {domain}.")
