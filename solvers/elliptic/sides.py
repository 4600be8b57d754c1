"""What holds at the sides of a box in a stationary problem."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from sciml.domains import Grid
from sciml.domains.conditions import side_name

# On the sides of a box: a number, a field on the nodes of the whole grid, or a function of positions
# (D, *points) -> (*points) or (B, 1, *points).
SideValues = float | Tensor | Callable[[Tensor], Tensor]
# On one side: a number, a field (*points of the other axes) or (B, 1, *points of the other axes), or a
# function of positions (D, *points of the grid, one along the normal axis).
SideField = float | complex | Tensor | Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Value:
    """u = value on a side "dirichlet"."""

    value: SideField


@dataclass(frozen=True)
class Flux:
    """a du/dn = value on a side "neumann", n outwards: what flows in."""

    value: SideField


@dataclass(frozen=True)
class Robin:
    """a du/dn + coefficient u = value on a side "neumann", n outwards.

    Args:
        coefficient: at least zero for diffusion, which loses heat through a film of that transfer
            coefficient to surroundings of temperature value / coefficient; -i k lets waves exp(ikx) out.
        value: zero unless given.
    """

    coefficient: SideField
    value: SideField = 0.0


EllipticCondition = Value | Flux | Robin
# By side: "x-" is the low side of the first axis, "y+" the high side of the second.
EllipticConditions = Mapping[str, EllipticCondition]
BySide = dict[tuple[int, int], EllipticCondition]


def by_side(grid: Grid, conditions: EllipticConditions | None) -> BySide:
    """The conditions by (axis, end), checked against the sides of the grid.

    Raises:
        ValueError: a side is unknown, or is not of the kind that the condition is for.
    """
    given = dict(conditions or {})
    names = {side_name(axis, end): (axis, end) for axis in range(grid.dimension) for end in (0, 1)}
    unknown = sorted(set(given) - set(names))
    if unknown:
        raise ValueError(f"Conditions got sides {unknown}; this grid has {list(names)}.")
    found: BySide = {}
    for name, condition in given.items():
        if not isinstance(condition, (Value, Flux, Robin)):
            raise ValueError(
                f"The side {name} got {type(condition).__name__}; expected Value, Flux or Robin for a stationary problem."
            )
        axis, end = names[name]
        side, kind = grid.sides[axis][end], "dirichlet" if isinstance(condition, Value) else "neumann"
        if side != kind:
            raise ValueError(
                f"The side {name} is {side!r}; {type(condition).__name__} is a condition of sides {kind!r}."
            )
        found[axis, end] = condition
    return found


def side_field(values: SideField, grid: Grid, axis: int, end: int, like: Tensor) -> Tensor:
    """Values on one side, (B or 1, *points of the grid with one along the axis) or ones everywhere."""
    points = tuple(1 if other == axis else n for other, n in enumerate(grid.shape))
    if callable(values):
        lines = list(grid.axes(device=like.device))
        origin = cast("tuple[float, ...]", grid.origin)[axis]
        place = origin + (grid.lengths[axis] if end else 0.0)
        lines[axis] = torch.tensor([place], dtype=torch.float64, device=like.device)
        return field_on(values(torch.stack(torch.meshgrid(*lines, indexing="ij"))), points, like)
    value = exact(values)
    if value.ndim == 0:
        return _to(value, like).reshape(1, *[1] * len(points))
    across = tuple(n for other, n in enumerate(grid.shape) if other != axis)
    if tuple(value.shape) == across:
        return _to(value, like).reshape(1, *points)
    if tuple(value.shape[1:]) == (1, *across):
        return _to(value, like).reshape(len(value), *points)
    raise ValueError(
        f"The condition of side {side_name(axis, end)} got values of shape {tuple(value.shape)}; expected a number, "
        f"{across} or (B, 1, *{across})."
    )


def field_on(values: Tensor, points: tuple[int, ...], like: Tensor) -> Tensor:
    """(*points), (B, *points) or (B, 1, *points) as (B or 1, *points)."""
    values = _to(values, like)
    if tuple(values.shape) == points:
        return values.unsqueeze(0)
    if values.ndim == len(points) + 2 and values.shape[1] == 1:
        values = values.squeeze(1)
    if tuple(values.shape[1:]) != points:
        raise ValueError(
            f"Boundary values have shape {tuple(values.shape)}; expected {points} or (B, 1, *{points})."
        )
    return values


def field_on_nodes(values: SideValues, grid: Grid, like: Tensor) -> Tensor:
    """Values at all nodes of the grid, (B or 1, *points)."""
    if isinstance(values, Tensor) and values.ndim > 0:
        if grid.centering == "cell":
            raise ValueError(
                "Boundary values came as a field on cells, which has no points on the sides; give a "
                "number, or a function of positions (D, *points), or a field on each side by conditions."
            )
        return field_on(values, grid.shape, like)
    if callable(values):
        return field_on(values(grid.coordinates(device=like.device)), grid.shape, like)
    return _to(exact(values), like).expand(1, *grid.shape)


def exact(value: float | complex | Tensor) -> Tensor:
    """A number as a tensor of double precision, whatever the default; a tensor as it is."""
    if isinstance(value, Tensor):
        return value
    return torch.tensor(value, dtype=torch.complex128 if isinstance(value, complex) else torch.float64)


def _to(values: Tensor, like: Tensor) -> Tensor:
    """On the device of `like`, in its precision; complex numbers stay so."""
    if values.is_complex() and not like.is_complex():
        return values.to(device=like.device, dtype=torch.complex128)
    return values.to(like)
