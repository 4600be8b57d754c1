"""Conditions on the sides of a grid: values, normal derivatives, or a combination of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from sciml.constraints.base import (
    Context,
    at_least_single,
    checked_channels,
    replace_channels,
    select,
)
from sciml.constraints.linear import Linear, Projection, Rows
from sciml.constraints.right_hand_side import RightHandSide
from sciml.domains import Grid, side_name

Interior = Literal["kept", "moved"]

# Value and outward slope on the side from the three points next to it: nodes lie on it, cells half a spacing away.
_NODE = ((1.0, 0.0, 0.0), (1.5, -2.0, 0.5))
_CELL = ((15 / 8, -10 / 8, 3 / 8), (2.0, -3.0, 1.0))


@dataclass(frozen=True)
class SideCondition:
    """value * u + slope * du/dn = data on one side, n pointing out of the box.

    Args:
        data: a number, one per channel, a field on the side (K, *points of the other axes), "previous" for what the
            state before has there, or "context" for `context.targets` under the name of the side.
        value, slope: 1 and 0 give Dirichlet's condition, 0 and 1 Neumann's, others Robin's; the slope has the unit of a
            length where the value has none.
    """

    data: float | Sequence[float] | Tensor | str = 0.0
    value: float = 1.0
    slope: float = 0.0


class SideConditions(Linear):
    """Hold conditions on the sides of a grid, Dirichlet, Neumann or Robin, to rounding.

        value u + slope du/dn = data

    On nodes u is that of the node on the side and du/dn = (3 u_0 - 4 u_1 + u_2)/(2 h), second order; on cells both come
    from the parabola through the three cells next to the side, u = (15 u_0 - 10 u_1 + 3 u_2)/8 and
    du/dn = (2 u_0 - 3 u_1 + u_2)/h. One row per point next to the side, scaled so that the factor of u_0 is one. A point
    on several sides belongs to one of them: to those that prescribe a value before others, then to the last axis.

    `interior="kept"` writes the points next to the side and no others, so that the next step sees them. "moved" gives the
    nearest state, by which points next to those move too; it may join a `Stack`, for instance with `ConservedMean`.
    For values at other points, or on a mesh: `FixedValues`.

    Args:
        grid: bounded on the named sides, with four points or more along their axes.
        conditions: by side, "x-" being the low side of the first axis.
        channels: numbers of the K channels that obey them, all where left out.
        interior: see above.

    Raises:
        TypeError: the domain is no grid.
        ValueError: a side is unknown or periodic, an axis has too few points, a condition has neither value nor slope or
            cancels the factor of u_0, or data do not fit.

    LeVeque, Finite Difference Methods for Ordinary and Partial Differential Equations (2007), section 2.12.
    """

    def __init__(
        self,
        grid: Grid,
        conditions: Mapping[str, SideCondition],
        channels: Sequence[int] | None = None,
        interior: Interior = "kept",
    ) -> None:
        super().__init__()
        if not isinstance(grid, Grid):
            raise TypeError(
                f"SideConditions got a {type(grid).__name__}; expected a Grid. On other domains take FixedValues."
            )
        if interior not in get_args(Interior):
            raise ValueError(
                f"SideConditions got interior={interior!r}; expected one of {list(get_args(Interior))}."
            )
        self.grid = grid
        self.interior = interior
        self.nearest = interior == "moved"
        self.channels = checked_channels(channels, "SideConditions")
        names = {side_name(axis, end): (axis, end) for axis in range(grid.dimension) for end in (0, 1)}
        bounded = [name for name, (axis, _) in names.items() if not grid.periodic[axis]]
        if not conditions or not set(conditions) <= set(bounded):
            have = f"out of {bounded}" if bounded else "and this grid is periodic along every axis"
            raise ValueError(
                f"SideConditions got sides {list(conditions)}; expected one or more bounded ones, {have}."
            )
        ordered = sorted(conditions, key=lambda name: (conditions[name].slope == 0, names[name][0]))
        self._sides = [_Side(grid, name, *names[name], conditions[name]) for name in ordered]
        later = torch.zeros(grid.shape, dtype=torch.bool)
        for side in reversed(self._sides):
            index = side.points(0)
            owned = ~later.select(side.axis, index)
            self.register_buffer(f"owned_{side.key}", owned.clone(), persistent=False)
            later.select(side.axis, index).fill_(True)
        self.data = torch.nn.ModuleDict({side.key: side.right for side in self._sides})
        self.projection = Projection("SideConditions")

    def _owned(self, side: _Side) -> Tensor:
        return self.get_buffer(f"owned_{side.key}")

    @property
    def points(self) -> tuple[int, ...]:
        return self.grid.shape

    @property
    def volumes(self) -> None:
        return None

    def _selected(self, u: Tensor) -> Tensor:
        v = select(u, self.channels, "SideConditions")
        if u.shape[2:] != self.grid.shape:
            raise ValueError(
                f"SideConditions got a state of shape {tuple(u.shape)}; expected (B, C, *points) with points "
                f"{self.grid.shape}."
            )
        return v

    def _number(self, channels: int) -> int:
        return channels if self.channels is None else len(self.channels)

    def _counts(self, channels: int) -> list[int]:
        return [self._number(channels) * int(self._owned(side).sum()) for side in self._sides]

    def count(self, channels: int) -> int:
        return sum(self._counts(channels))

    def multiply(self, u: Tensor) -> Tensor:
        v = self._selected(u).to(torch.float64)
        return torch.cat([side.row(v)[:, :, self._owned(side)].flatten(1) for side in self._sides], dim=1)

    def transpose(self, y: Tensor, channels: int) -> Tensor:
        number = self._number(channels)
        v = y.new_zeros(len(y), number, *self.grid.shape)
        for side, part in zip(self._sides, y.split(self._counts(channels), dim=1), strict=True):
            owned = self._owned(side)
            place = owned.flatten().nonzero().flatten()
            spread = y.new_zeros(len(y), number, owned.numel())
            spread = spread.index_copy(2, place, part.unflatten(1, (number, -1)))
            v = v + side.column(spread.reshape(len(y), number, *owned.shape), v)
        if self.channels is None:
            return v
        whole = y.new_zeros(len(y), channels, *self.grid.shape)
        return replace_channels(whole, self.channels, v)

    def squares(self, diagonal: Tensor) -> Tensor:
        v = diagonal.unsqueeze(0) if self.channels is None else diagonal[list(self.channels)].unsqueeze(0)
        return torch.cat(
            [side.row(v, power=2)[:, :, self._owned(side)].flatten(1) for side in self._sides], dim=1
        )[0]

    def _data(self, side: _Side, u: Tensor, previous: Tensor | None, context: Context | None) -> Tensor:
        """Right-hand side of a side's rows, (B, K, *points of the other axes) in float64."""
        if side.right.source == "previous":
            return side.row(self._selected(side.right.before(u, previous)))
        number = self._number(u.shape[1])
        return side.right.given(u, context, (number, *self._owned(side).shape)) / side.scale

    def target(self, u: Tensor, previous: Tensor | None, context: Context | None) -> Tensor:
        parts = [
            self._data(side, u, previous, context)[:, :, self._owned(side)].flatten(1)
            for side in self._sides
        ]
        return torch.cat(parts, dim=1)

    def row_name(self, row: int, channels: int) -> str:
        for side, count in zip(self._sides, self._counts(channels), strict=True):
            if row < count:
                channel, number = divmod(row, count // self._number(channels))
                place = tuple(self._owned(side).nonzero()[number].tolist())
                channel = channel if self.channels is None else self.channels[channel]
                return f"side {side.name} of channel {channel} at point {place} of the side"
            row -= count
        raise IndexError(f"SideConditions has {self.count(channels)} rows.")

    def project(self, u: Tensor, previous: Tensor | None = None, context: Context | None = None) -> Tensor:
        u = at_least_single(u)
        if self.interior == "moved":
            self._selected(u)
            rows = Rows([self], u.shape[1])
            right = self.target(u, previous, context)
            return self.projection(rows, self.projection.factor(rows), u, right)
        v = self._selected(u).to(torch.float64)
        for side in self._sides:
            edge = side.select(v, 0)
            wanted = self._data(side, u, previous, context) - side.rest(v)
            held = torch.where(self._owned(side), wanted, edge)
            v = v.select_scatter(held, side.axis + 2, side.points(0))
        return replace_channels(u, self.channels, v.to(u.dtype))


class _Side:
    """The rows of one side, with the factor one at the point next to it."""

    def __init__(self, grid: Grid, name: str, axis: int, end: int, condition: SideCondition) -> None:
        self.name, self.axis, self.end = name, axis, end
        self.key = f"{'xyz'[axis]}{'low' if end == 0 else 'high'}"
        self.count = grid.shape[axis]
        if self.count < 4:
            raise ValueError(
                f"SideConditions got {self.count} points along axis {axis} for the side {name}; expected 4 or more."
            )
        values, slopes = _NODE if grid.centering == "node" else _CELL
        h = grid.spacing[axis]
        raw = [condition.value * v + condition.slope * s / h for v, s in zip(values, slopes, strict=True)]
        size = abs(condition.value) * values[0] + abs(condition.slope) * slopes[0] / h
        if not size > 0 or abs(raw[0]) < 1e-9 * size:
            raise ValueError(
                f"SideConditions got value={condition.value} and slope={condition.slope} on the side {name}, spacing {h}: "
                f"the factor of the point next to it is {raw[0]:.3g}; expected one of them, or both of one sign."
            )
        self.scale = raw[0]
        self.factors = tuple(factor / raw[0] for factor in raw)
        data: Any = condition.data
        across = grid.dimension - 1
        if not isinstance(data, str):
            data = torch.as_tensor(data, dtype=torch.float64)
            if data.ndim == 1 and across:
                data = data.reshape(-1, *[1] * across)
        self.right = RightHandSide(data, name, "SideConditions")

    def points(self, distance: int) -> int:
        """Index of the points that are so far from the side."""
        return distance if self.end == 0 else self.count - 1 - distance

    def select(self, v: Tensor, distance: int) -> Tensor:
        return v.select(self.axis + 2, self.points(distance))

    def row(self, v: Tensor, power: int = 1) -> Tensor:
        """(B, K, *points) -> (B, K, *points of the other axes)."""
        return self.select(v, 0) + self.rest(v, power)

    def rest(self, v: Tensor, power: int = 1) -> Tensor:
        """`row` without the points next to the side."""
        total = torch.zeros_like(self.select(v, 0))
        for distance in (1, 2):
            total = total + self.factors[distance] ** power * self.select(v, distance)
        return total

    def column(self, edge: Tensor, like: Tensor) -> Tensor:
        """The transpose of `row`."""
        out = torch.zeros_like(like)
        for distance, factor in enumerate(self.factors):
            out = out.select_scatter(factor * edge, self.axis + 2, self.points(distance))
        return out
