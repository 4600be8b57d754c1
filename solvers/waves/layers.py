"""Layers in front of open sides that take waves in and give little back."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.domains import AXIS_NAMES, Grid


@dataclass(frozen=True)
class Sponge:
    """Both fields are damped at one rate s(x), which grows as a power of the depth.

    Equal damping keeps the impedance, so that a wave that enters at a right angle is not reflected by the
    medium itself; at a slant it is, the more the steeper s grows, so that a sponge wants to be a wavelength
    or two thick. It needs no memory, works in every scheme and is unconditionally stable.

    Args:
        cells: thickness.
        order: power of the depth.
        reflection: what would return from the side behind the layer at a right angle, which sets s.
    """

    cells: int = 20
    order: float = 3.0
    reflection: float = 1e-4

    def __post_init__(self) -> None:
        _check(self, self.cells, self.order, self.reflection)


@dataclass(frozen=True)
class PML:
    """A perfectly matched layer: along its normal, d/dx is divided by k + s(x)/(a + i omega).

    No plane wave is reflected by the layer itself at any angle before discretisation. Its convolution is
    kept in memory channels behind those of the fields (`Leapfrog.start`). Roden and Gedney, Microwave and
    Optical Technology Letters 27 (2000) 334.

    Args:
        cells: thickness.
        order: power of the depth with which s grows.
        reflection: what would return from the wall behind the layer at a right angle, which sets s.
        stretch: k at the wall, 1 for none; more damps waves that hug the layer.
        shift: a at the inner edge [1/time], falling to 0 at the wall; more than 0 lets slow and evanescent
            fields decay that would otherwise return late.
    """

    cells: int = 12
    order: float = 3.0
    reflection: float = 1e-6
    stretch: float = 1.0
    shift: float = 0.0

    def __post_init__(self) -> None:
        _check(self, self.cells, self.order, self.reflection)
        if not (math.isfinite(self.stretch) and self.stretch >= 1.0):
            raise ValueError(f"PML got stretch={self.stretch}; expected 1 or more.")
        if not (math.isfinite(self.shift) and self.shift >= 0.0):
            raise ValueError(f"PML got shift={self.shift}; expected 0 or more.")


Layer = Sponge | PML


def _check(layer: Layer, cells: int, order: float, reflection: float) -> None:
    name = type(layer).__name__
    if not isinstance(cells, int) or cells < 1:
        raise ValueError(f"{name} got cells={cells!r}; expected a whole number of at least 1.")
    if not (math.isfinite(order) and order >= 1.0):
        raise ValueError(f"{name} got order={order}; expected at least 1.")
    if not 0.0 < reflection < 1.0:
        raise ValueError(f"{name} got reflection={reflection}; expected between 0 and 1, such as 1e-6.")


def open_axes(grid: Grid) -> tuple[int, ...]:
    """Axes with a side "outflow"."""
    return tuple(axis for axis, pair in enumerate(grid.sides) if "outflow" in pair)


def check_layer(owner: str, layer: Layer | None, grid: Grid) -> None:
    """Refuse a layer without an open side, or one that leaves no room for the waves.

    Raises:
        ValueError: see above.
    """
    if layer is None:
        return
    name, axes = type(layer).__name__, open_axes(grid)
    if not axes:
        raise ValueError(
            f"{owner} got a {name}, but the grid has no side 'outflow' to put it at; its sides are {grid.sides}."
        )
    for axis in axes:
        taken = grid.sides[axis].count("outflow") * layer.cells
        if taken >= grid.shape[axis]:
            raise ValueError(
                f"{owner} got a {name} of {layer.cells} cells, {taken} with both ends of axis "
                f"{AXIS_NAMES[axis]}, which has {grid.shape[axis]} cells: nothing is left for the waves. Take a "
                "thinner layer or a longer grid."
            )


def depth(layer: Layer, grid: Grid, axis: int, offset: float) -> Tensor:
    """How deep in the layer the points lie, 0 outside to 1 at the side, (N,) float64.

    `offset` is where the points lie in their cells, in cells from the low corner.
    """
    n = grid.shape[axis]
    x = torch.arange(n, dtype=torch.float64) + offset
    low, high = grid.sides[axis]
    into = torch.zeros(n, dtype=torch.float64)
    if low == "outflow":
        into = torch.maximum(into, layer.cells - x)
    if high == "outflow":
        into = torch.maximum(into, x - (n - layer.cells))
    return into / layer.cells


def strength(layer: Layer, grid: Grid, axis: int) -> float:
    """The damping rate s at the side, for waves of unit speed [1/length].

    A wave that crosses the layer twice meets the integral 2 s L/(order + 1), and loses exp of it.
    """
    thickness = layer.cells * grid.spacing[axis]
    return -(layer.order + 1.0) * math.log(layer.reflection) / (2.0 * thickness)
