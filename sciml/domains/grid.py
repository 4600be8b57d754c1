"""Uniform tensor-product grids in one to three dimensions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast, get_args

import torch
from torch import Tensor

Side = Literal["periodic", "dirichlet", "neumann", "outflow", "wall", "inflow"]
Sides = tuple[Side, Side]
Centering = Literal["node", "cell"]

AXIS_NAMES = ("x", "y", "z")


def _sides(boundary: str | Sequence[str | Sequence[str]], dimension: int) -> tuple[Sides, ...]:
    """Expand a short form of the boundary to one (low, high) pair per axis."""
    per_axis = [boundary] * dimension if isinstance(boundary, str) else list(boundary)
    if len(per_axis) != dimension:
        raise ValueError(
            f"Grid got boundaries for {len(per_axis)} axes, {per_axis}, but has {dimension}; give one "
            "name for all sides, or one name or (low, high) pair per axis."
        )
    pairs = []
    for axis, spec in enumerate(per_axis):
        pair = (spec, spec) if isinstance(spec, str) else tuple(spec)
        unknown = [side for side in pair if side not in get_args(Side)]
        if len(pair) != 2 or unknown:
            raise ValueError(
                f"Grid got boundary {spec!r} on axis {axis}; expected one of {list(get_args(Side))}, "
                "or a (low, high) pair of them."
            )
        if ("periodic" in pair) and pair[0] != pair[1]:
            raise ValueError(
                f"Grid got boundary {spec!r} on axis {axis}; an axis is periodic on both sides or on "
                "neither."
            )
        pairs.append(cast(Sides, pair))
    return tuple(pairs)


def _numbers(name: str, given: Sequence[float]) -> tuple[float, ...]:
    """One number per axis, or ValueError."""
    try:
        return tuple(float(v) for v in given)
    except (TypeError, ValueError):
        example = "(64,)" if name == "shape" else "(1.0,)"
        raise ValueError(
            f"Grid got {name}={given!r}; expected a number per axis, such as {example}."
        ) from None


@dataclass(frozen=True)
class Grid:
    """A box of side `lengths` with `shape` points per axis, 1D to 3D.

    Args:
        shape: number of points per axis.
        lengths: side of the box per axis [length].
        boundary: one name for all sides, or per axis a name or a (low, high) pair, of "periodic",
            "dirichlet", "neumann", "outflow", "wall", "inflow". Stored as one (low, high) pair per axis.
        origin: coordinate of the low corner, one number or one per axis [length].
        centering: "node" puts the first point on the low side (a periodic axis leaves the right end
            out, dx = L/N; a bounded one includes both ends, dx = L/(N-1)); "cell" puts points at the
            centres of N cells, dx = L/N.

    Raises:
        ValueError: the numbers of sizes, lengths, origins or boundaries differ, a size or length is
            not positive, or a side is unknown.
    """

    shape: tuple[int, ...]
    lengths: tuple[float, ...]
    boundary: str | tuple[Sides, ...] = "periodic"
    origin: float | tuple[float, ...] = 0.0
    centering: Centering = "node"

    def __post_init__(self) -> None:
        lengths = _numbers("lengths", self.lengths)
        shape = tuple(int(n) for n in _numbers("shape", self.shape) if n.is_integer())
        if len(shape) != len(self.shape):
            raise ValueError(f"Grid got shape={self.shape!r}; expected whole numbers of points.")
        if len(shape) != len(lengths):
            raise ValueError(
                f"Grid got {len(shape)} sizes {shape} but {len(lengths)} lengths {lengths}; give one "
                "of each per axis."
            )
        if not 1 <= len(shape) <= 3:
            raise ValueError(f"Grid got {len(shape)} axes; expected one to three.")
        if min(shape) < 2 or not all(math.isfinite(x) and x > 0 for x in lengths):
            raise ValueError(
                f"Grid got sizes {shape} and lengths {lengths}; sizes must be at least 2 and lengths "
                "positive and finite."
            )
        if self.centering not in get_args(Centering):
            raise ValueError(
                f"Grid got centering {self.centering!r}; expected one of {list(get_args(Centering))}."
            )
        origin = self.origin
        origins = (float(origin),) * len(shape) if isinstance(origin, (int, float)) else tuple(origin)
        if len(origins) != len(shape) or not all(math.isfinite(x) for x in origins):
            raise ValueError(
                f"Grid got {len(origins)} origins {origins} for {len(shape)} axes; expected a finite one for each."
            )
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "lengths", lengths)
        object.__setattr__(self, "boundary", _sides(self.boundary, len(shape)))
        object.__setattr__(self, "origin", tuple(float(x) for x in origins))

    @property
    def dimension(self) -> int:
        """Number of axes D."""
        return len(self.shape)

    @property
    def sides(self) -> tuple[Sides, ...]:
        """(low, high) boundary names per axis."""
        return cast("tuple[Sides, ...]", self.boundary)

    @property
    def periodic(self) -> tuple[bool, ...]:
        """Which axes are periodic."""
        return tuple(low == "periodic" for low, _ in self.sides)

    @property
    def axis_names(self) -> tuple[str, ...]:
        """Names of the axes, "x", "y", "z"."""
        return AXIS_NAMES[: self.dimension]

    @property
    def spacing(self) -> tuple[float, ...]:
        """Distance of neighbouring points per axis [length]."""
        return tuple(
            length / (n if self.centering == "cell" or periodic else n - 1)
            for n, length, periodic in zip(self.shape, self.lengths, self.periodic, strict=True)
        )

    @property
    def volume(self) -> float:
        """Volume of the box [length^D]."""
        return math.prod(self.lengths)

    def axes(
        self, dtype: torch.dtype = torch.float64, device: torch.device | str | None = None
    ) -> tuple[Tensor, ...]:
        """Coordinates along each axis, a tuple of D tensors (N_d,) [length]."""
        shift = 0.5 if self.centering == "cell" else 0.0
        origin = cast("tuple[float, ...]", self.origin)
        return tuple(
            (low + h * (torch.arange(n, dtype=torch.float64) + shift)).to(device=device, dtype=dtype)
            for n, h, low in zip(self.shape, self.spacing, origin, strict=True)
        )

    def coordinates(
        self, dtype: torch.dtype = torch.float64, device: torch.device | str | None = None
    ) -> Tensor:
        """Coordinates of all points, (D, *shape) [length]."""
        return torch.stack(torch.meshgrid(*self.axes(dtype, device), indexing="ij"))

    def weights(
        self, dtype: torch.dtype = torch.float64, device: torch.device | str | None = None
    ) -> Tensor:
        """Quadrature weights of the points, (*shape), which sum to the volume [length^D].

        Cell volumes for cells and periodic nodes; the trapezoidal rule on bounded axes of nodes.
        """
        total = torch.ones((), dtype=torch.float64)
        for n, h, periodic in zip(self.shape, self.spacing, self.periodic, strict=True):
            line = torch.full((n,), h, dtype=torch.float64)
            if self.centering == "node" and not periodic:
                line[0] = line[-1] = h / 2
            total = total.unsqueeze(-1) * line
        return total.to(device=device, dtype=dtype)

    def refined(self, factor: int) -> Grid:
        """The same box with 1/factor of the spacing; nodes stay among the new ones."""
        whole = (self.centering == "cell" or periodic for periodic in self.periodic)
        return self.resized(
            tuple(n * factor if w else (n - 1) * factor + 1 for n, w in zip(self.shape, whole, strict=True))
        )

    def resized(self, shape: Sequence[int]) -> Grid:
        """The same box with other numbers of points."""
        return replace(self, shape=tuple(shape))
