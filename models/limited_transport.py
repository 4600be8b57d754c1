"""A learned step that moves amounts between cells and makes no new extremes."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from sciml.constraints.transport import check_cells, close_sides, flux_corrected, local_range
from sciml.domains import Grid
from sciml.models.wrappers import Map


class LimitedTransport(nn.Module):
    """A state moved by learned fluxes, as far as local bounds admit: conservative, and free of new extremes.

    The network gives the amount that passes each face in a step; a flux-corrected transport (Zalesak) takes the largest
    shares that leave every cell between the least and the largest value within `radius` cells before the step, and
    between `lower` and `upper`. So the sum over the cells is kept to rounding, positive states stay positive, and a
    constant state stays as it is; the price is that sharp extremes cannot grow, right for what is carried or diffuses
    and wrong for what steepens out of smooth data faster than `radius` cells per step, or reacts. Rollouts in float32 drift
    by its rounding per step only: the sums are those of float64.

    In a study set residual: false and normalized: false, since bounds are meant in physical units; put Normalized into
    the network if it needs that.

    Args:
        f: map (B, C, *points) -> (B, C D, *points), amounts per volume of a cell through its low face along each axis,
            the D of a channel side by side [unit of u].
        grid: cells of equal volume, periodic or between closed sides.
        radius: of the neighbourhood, in cells; what moves further in one step is held back.
        lower, upper: bounds for all cells, None for none [unit of u].
        base: a step that keeps the sum and makes no new extremes, such as a first-order finite-volume solver, from which
            the fluxes start; the state itself where left out.

    Raises:
        ValueError: the grid has open sides or unequal cells, the radius is below 1, or the network gives other channels.

    Zalesak, Journal of Computational Physics 31 (1979) 335.
    """

    physical = True

    def __init__(
        self,
        f: Map,
        grid: Grid,
        radius: int = 1,
        lower: float | None = None,
        upper: float | None = None,
        base: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        check_cells(grid, "LimitedTransport")
        if radius < 1:
            raise ValueError(f"LimitedTransport got radius={radius}; expected 1 or more.")
        if lower is not None and upper is not None and not lower < upper:
            raise ValueError(
                f"LimitedTransport got lower {lower} and upper {upper}; expected lower < upper."
            )
        self.f = f
        self.grid = grid
        self.radius = int(radius)
        self.lower, self.upper = lower, upper
        self.base = base

    def forward(self, u: Tensor) -> Tensor:
        fluxes = self.f(u)
        wanted = (len(u), u.shape[1] * self.grid.dimension, *self.grid.shape)
        if tuple(fluxes.shape) != wanted:
            raise ValueError(
                f"LimitedTransport got fluxes of shape {tuple(fluxes.shape)} for a state of shape {tuple(u.shape)}; expected "
                f"{wanted}, {self.grid.dimension} for each channel."
            )
        exact = u.to(torch.float64)
        fluxes = close_sides(fluxes.to(torch.float64).unflatten(1, (u.shape[1], -1)), self.grid)
        low, high = local_range(exact, self.grid, self.radius)
        start = exact if self.base is None else self.base(exact)
        if self.base is not None:
            # What the base makes of the neighbourhood is admissible too, as Zalesak has it.
            base_low, base_high = local_range(start, self.grid, self.radius)
            low, high = torch.minimum(low, base_low), torch.maximum(high, base_high)
        low = low if self.lower is None else low.clamp_min(self.lower)
        high = high if self.upper is None else high.clamp_max(self.upper)
        moved = cast(Tensor, flux_corrected(start, fluxes, low, high))
        return moved if u.dtype == torch.float64 else moved.to(torch.float32)
