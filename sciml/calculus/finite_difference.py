"""Finite differences of second, fourth and sixth order on uniform grids, with walls."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, get_args

import torch
from torch import Tensor

from sciml.calculus.base import Calculus
from sciml.calculus.constants import Constants
from sciml.calculus.spectral import check_request
from sciml.domains import Grid

Accuracy = Literal[2, 4, 6]


@lru_cache(maxsize=256)
def stencil(offsets: tuple[int, ...], derivative: int) -> tuple[float, ...]:
    """Weights w_j with sum_j w_j u(x + o_j h) = h^m u^(m)(x) + O(h^n), n = len(offsets), m = derivative.

    Recurrence of Fornberg, Mathematics of Computation 51 (1988) 699-706, section 3, in exact integers
    until the last division.
    """
    from fractions import Fraction

    count = len(offsets)
    if derivative >= count:
        raise ValueError(f"stencil got {count} points for derivative {derivative}; it needs more.")
    table = [[Fraction(0)] * count for _ in range(derivative + 1)]
    table[0][0] = Fraction(1)
    c1 = Fraction(1)
    for n in range(1, count):
        c2 = Fraction(1)
        previous = [[table[m][j] for j in range(count)] for m in range(derivative + 1)]
        for j in range(n):
            gap = Fraction(offsets[n] - offsets[j])
            c2 *= gap
            for m in range(min(n, derivative), -1, -1):
                lower = previous[m - 1][j] if m else Fraction(0)
                table[m][j] = (offsets[n] * previous[m][j] - m * lower) / gap
        for m in range(min(n, derivative), -1, -1):
            lower = previous[m - 1][n - 1] if m else Fraction(0)
            table[m][n] = c1 / c2 * (m * lower - offsets[n - 1] * previous[m][n - 1])
        c1 = c2
    return tuple(float(w) for w in table[derivative])


class FiniteDifference(Calculus):
    """Central differences of order 2, 4 or 6, one-sided of the same order at walls.

    Second derivatives use their own compact stencil, not the first one twice, so the chequerboard is
    damped. What the sides of the grid mean:

    - "periodic": the stencil wraps round.
    - "dirichlet" (nodes): one-sided; the wall node carries its value, which the solver holds.
    - "neumann", "outflow": second derivatives see the field mirrored in the side, so its normal
      gradient is zero there; the weighted sum of the Laplacian then vanishes to rounding. Other
      orders are one-sided, because a flux is not even about the side even where the field is.

    The operators of a periodic axis are skew-adjoint (odd orders) or self-adjoint (even orders) under
    the plain sum; near one-sided walls they are neither.

    Args:
        grid: nodes or cells, 1D to 3D.
        order: 2, 4 or 6, the power of the spacing in the error.

    Raises:
        ValueError: the order is another one; an axis has too few points for its stencil; a side is
            "wall", whose reflection depends on the component; or a side of a cell grid is
            "dirichlet", whose value no cell carries.
    """

    def __init__(self, grid: Grid, order: Accuracy = 2) -> None:
        super().__init__()
        if order not in get_args(Accuracy):
            raise ValueError(f"FiniteDifference got order {order!r}; expected 2, 4 or 6.")
        for axis, sides in enumerate(grid.sides):
            if "inflow" in sides:
                raise ValueError(
                    f"FiniteDifference got sides {sides} on axis {axis}; what flows in has a state that differences "
                    "do not know. Use finite volumes."
                )
            if "wall" in sides:
                raise ValueError(
                    f"FiniteDifference got sides {sides} on axis {axis}; how a wall reflects depends on "
                    "the component. Use finite volumes, or 'dirichlet' and 'neumann' sides."
                )
            if grid.centering == "cell" and "dirichlet" in sides:
                raise ValueError(
                    f"FiniteDifference got sides {sides} on axis {axis} of a cell grid; no cell carries "
                    "the value on the side. Use centering='node'."
                )
            needed = order + 1 if sides[0] == "periodic" else order + 2
            if grid.shape[axis] < needed:
                raise ValueError(
                    f"FiniteDifference of order {order} got {grid.shape[axis]} points on axis {axis}; "
                    f"expected at least {needed}."
                )
        self.grid = grid
        self.order = order
        self.dimension = grid.dimension
        self.constants = Constants(self._inverse() if all(grid.periodic) else {})

    def _half(self, derivative: int) -> int:
        """Reach of the central stencil to either side."""
        return (derivative + 1) // 2 - 1 + self.order // 2

    def _inverse(self) -> dict[str, Tensor]:
        """Reciprocal of the compact Laplacian's own multiplier on the half spectrum, zero at k = 0."""
        reach = self._half(2)
        weights = stencil(tuple(range(-reach, reach + 1)), 2)
        total = torch.zeros((), dtype=torch.float64)
        for axis, (n, h) in enumerate(zip(self.grid.shape, self.grid.spacing, strict=True)):
            count = n // 2 + 1 if axis == self.dimension - 1 else n
            angle = 2 * math.pi * torch.arange(count, dtype=torch.float64) / n
            # sum_j w_j e^{i j a} = -2 sum_{j>0} w_j (1 - cos j a), as the weights sum to zero
            line = sum(
                -4 * w * torch.sin(j * angle / 2) ** 2 for j, w in enumerate(weights[reach + 1 :], start=1)
            )
            total = total.unsqueeze(-1) + line / h**2
        inverse = torch.zeros_like(total)
        inverse[total < 0] = 1 / total[total < 0]
        inverse.view(-1)[0] = 0.0
        return {"inverse_laplacian": inverse}

    def coordinates(self, u: Tensor) -> Tensor:
        return self.grid.coordinates(dtype=u.dtype, device=u.device).unsqueeze(0)

    def derivative(self, u: Tensor, axis: int, order: int = 1) -> Tensor:
        check_request(self, axis, order)
        if tuple(u.shape[-self.dimension :]) != self.grid.shape:
            raise ValueError(
                f"FiniteDifference got a field of points {tuple(u.shape[-self.dimension :])} on a grid of "
                f"{self.grid.shape}."
            )
        if order == 0:
            return u
        dim = u.ndim - self.dimension + axis
        size, low, high = self.grid.shape[axis], *self.grid.sides[axis]
        reach = self._half(order)
        width = 2 * reach + 1 if low == "periodic" else order + self.order
        if size < width:
            raise ValueError(
                f"FiniteDifference got {size} points on axis {axis} for a derivative of order {order}; "
                f"its stencil needs at least {width}."
            )
        mirrored = [side in ("neumann", "outflow") and order == 2 for side in (low, high)]
        pieces = [u]
        if low == "periodic":
            pieces = [u.narrow(dim, size - reach, reach), u, u.narrow(dim, 0, reach)]
        else:
            # A node grid has a point on the side, which is not repeated; a cell grid has none.
            skip = 1 if self.grid.centering == "node" else 0
            if mirrored[0]:
                pieces.insert(0, u.narrow(dim, skip, reach).flip(dim))
            if mirrored[1]:
                pieces.append(u.narrow(dim, size - skip - reach, reach).flip(dim))
        extended = torch.cat(pieces, dim=dim) if len(pieces) > 1 else u
        scale = self.grid.spacing[axis] ** -order
        weights = [scale * w for w in stencil(tuple(range(-reach, reach + 1)), order)]
        count = extended.shape[dim] - 2 * reach
        inner = extended.narrow(dim, reach, count) * weights[reach]
        for j, w in enumerate(weights):
            if w and j != reach:
                inner = torch.add(inner, extended.narrow(dim, j, count), alpha=w)
        if low == "periodic":
            return inner
        parts = [inner]
        if not mirrored[0]:
            parts.insert(0, self._rows(u, dim, order, range(reach), scale, at_end=False))
        if not mirrored[1]:
            parts.append(self._rows(u, dim, order, range(reach - 1, -1, -1), scale, at_end=True))
        return torch.cat(parts, dim=dim)

    def _rows(
        self, u: Tensor, dim: int, order: int, rows: Sequence[int], scale: float, *, at_end: bool
    ) -> Tensor:
        """Derivatives at the points that lie `rows` spacings inside a side, from the points next to it."""
        width = order + self.order
        table = []
        for row in rows:
            weights = stencil(tuple(j - row for j in range(width)), order)
            # Seen from the other end the axis runs backwards, which turns the sign of odd derivatives.
            table.append([(-1) ** order * w for w in reversed(weights)] if at_end else list(weights))
        matrix = u.new_tensor(table) * scale
        near = u.narrow(dim, u.shape[dim] - width if at_end else 0, width)
        return torch.movedim(torch.movedim(near, dim, -1) @ matrix.T, -1, dim)

    def inverse_laplacian(self, u: Tensor) -> Tensor:
        if not all(self.grid.periodic):
            raise TypeError(
                f"FiniteDifference has an inverse Laplacian on periodic grids only; got sides "
                f"{self.grid.sides}. Use boundary='periodic'."
            )
        axes = tuple(range(-self.dimension, 0))
        modes = torch.fft.rfftn(u, dim=axes) * self.constants.get("inverse_laplacian", u)
        return torch.fft.irfftn(modes, s=self.grid.shape, dim=axes)
