"""Bounds that keep the mean."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sciml.constraints.base import (
    Constraint,
    Context,
    at_least_single,
    checked_channels,
    replace_channels,
    select,
)
from sciml.constraints.conserved_mean import ConservedMean
from sciml.domains import Grid, Mesh


class Bounds(Constraint):
    """Squeeze a field between bounds without changing its volume-weighted mean.

        u = m + theta (z - m),   theta = min(1, (m - lower) / (m - min z), (upper - m) / (max z - m))

    with m the mean of z: the scaling limiter of Zhang and Shu, Journal of Computational Physics 229
    (2010) 3091, over the whole domain. One bad point damps the whole field, so it suits
    rare, small overshoots. A mean outside the bounds cannot be helped: the field becomes that constant,
    and `violation` says how far it is off. Hold the mean first: Chain([ConservedMean(...), Bounds(...)]).

    Args:
        domain: gives the volumes.
        lower: the smallest admissible value, None for none [unit of u].
        upper: the largest, None for none [unit of u].
        channels: numbers of the bounded channels, all where left out.

    Raises:
        ValueError: there is no bound, or the lower is not below the upper.
    """

    def __init__(
        self,
        domain: Grid | Mesh,
        lower: float | None = 0.0,
        upper: float | None = None,
        channels: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        low = -math.inf if lower is None else float(lower)
        high = math.inf if upper is None else float(upper)
        if not low < high or (lower is None and upper is None):
            raise ValueError(f"Bounds got lower {lower} and upper {upper}; expected lower < upper, or one.")
        self.lower = low
        self.upper = high
        self.channels = checked_channels(channels, "Bounds")
        self.means = ConservedMean(domain)

    def project(self, u: Tensor, previous: Tensor | None = None, context: Context | None = None) -> Tensor:
        u = at_least_single(u)
        z = select(u, self.channels, "Bounds")
        axes = tuple(range(2, z.ndim))
        mean = self.means.mean(z).to(z.dtype).reshape(*z.shape[:2], *[1] * len(axes))
        below = mean - z.amin(dim=axes, keepdim=True)
        above = z.amax(dim=axes, keepdim=True) - mean
        theta = torch.ones_like(mean)
        if math.isfinite(self.lower):
            # The division is kept away from zero where the field needs no squeezing at all.
            room = (mean - self.lower).clamp_min(0.0)
            needed = below > room
            theta = torch.where(needed, room / torch.where(needed, below, 1.0), theta)
        if math.isfinite(self.upper):
            room = (self.upper - mean).clamp_min(0.0)
            needed = above > room
            theta = torch.minimum(
                theta, torch.where(needed, room / torch.where(needed, above, 1.0), torch.ones_like(mean))
            )
        squeezed = mean + theta * (z - mean)
        # Rounding may leave the extreme point an ulp outside; clamping it moves the mean by no more,
        # and its derivative there is zero, as it should be for a value that sits on the bound.
        inside = (mean >= self.lower) & (mean <= self.upper)
        squeezed = torch.where(inside, squeezed.clamp(self.lower, self.upper), squeezed)
        return replace_channels(u, self.channels, torch.where(theta < 1, squeezed, z))

    def violation(
        self, u: Tensor, previous: Tensor | None = None, context: Context | None = None
    ) -> Tensor:
        """Largest excess over a bound, (B,), zero inside [unit of u]."""
        z = select(u, self.channels, "Bounds").flatten(1)
        return torch.maximum(self.lower - z, z - self.upper).amax(dim=1).clamp_min(0.0)
