"""The nearest state between bounds with a given mean."""

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


class Simplex(Constraint):
    """Put a field between bounds and hold its volume-weighted mean, by the nearest such field.

        u_i = min(max(z_i - tau, lower), upper)    with tau such that sum_i V_i u_i = m sum_i V_i

    the orthogonal projection in the volume-weighted L2 norm on a simplex, or a box cut by a plane: it never enlarges the
    difference of two states, moves only as much as it must, and sets what would be negative to the bound itself, where
    `Bounds` squeezes the whole field about its own mean. tau is exact, from sorted breakpoints, O(n log n); gradients
    are those of the points off the bounds, almost everywhere. Sums are taken in float64.

    m is the mean of `previous`, or `context.mean`. One outside the bounds has no admissible state: the field becomes
    the bound, and `violation` says how far its mean is off.

    Args:
        domain: gives the volumes.
        lower: the smallest admissible value, None for none [unit of u].
        upper: the largest, None for none [unit of u].
        channels: numbers of the channels, all where left out; each holds a mean of its own.

    Raises:
        ValueError: there is no bound, or the lower is not below the upper.

    Held, Wolfe and Crowder, Mathematical Programming 6 (1974) 62; with volumes, Brucker, Operations Research Letters 3
    (1984) 163.
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
            raise ValueError(
                f"Simplex got lower {lower} and upper {upper}; expected lower < upper, or one."
            )
        self.lower, self.upper = low, high
        self.channels = checked_channels(channels, "Simplex")
        self.means = ConservedMean(domain)

    def _mean(self, u: Tensor, previous: Tensor | None, context: Context | None) -> Tensor:
        """The means to hold (B, K)."""
        if context is not None and context.mean is not None:
            given = context.mean.to(device=u.device, dtype=torch.float64)
            if given.shape not in ((u.shape[1],), u.shape[:2]):
                raise ValueError(
                    f"Simplex got target means of shape {tuple(given.shape)}; expected {tuple(u.shape[:2])} or "
                    f"{(u.shape[1],)}, one for each channel of the state."
                )
            given = given.expand(u.shape[:2])
            return given if self.channels is None else given[:, list(self.channels)]
        if previous is None:
            raise ValueError(
                "Simplex needs a target: pass the previous state, or context=Context(mean=...)."
            )
        return self.means.mean(select(previous, self.channels, "Simplex"))

    @property
    def nonexpansive(self) -> bool:
        return True

    def project(self, u: Tensor, previous: Tensor | None = None, context: Context | None = None) -> Tensor:
        u = at_least_single(u)
        selected = select(u, self.channels, "Simplex")
        if selected.shape[2:] != self.means.weights.shape:
            raise ValueError(
                f"Simplex got a state of shape {tuple(u.shape)}; expected (B, C, *points) with points "
                f"{tuple(self.means.weights.shape)}."
            )
        z = selected.to(torch.float64).flatten(2)
        w = self.means.weights.flatten()
        mean = self._mean(u, previous, context)
        held = mean.clamp(self.lower, self.upper)
        with torch.no_grad():
            tau = self._shift(z.detach(), w, held.detach())
        # Which points lie on a bound is settled; the shift of the others follows, with its derivatives.
        for _ in range(2):
            shifted = z.detach() - tau.detach().unsqueeze(2)
            low, high = shifted <= self.lower, shifted >= self.upper
            free = ~(low | high)
            share = (free * w).sum(dim=2)
            fixed = torch.where(
                low, w * _finite(self.lower), torch.where(high, w * _finite(self.upper), 0.0)
            )
            excess = torch.where(free, w * z, 0.0).sum(dim=2) + fixed.sum(dim=2) - held
            tau = torch.where(share > 0, excess / torch.where(share > 0, share, 1.0), tau.detach())
        inside = (z - tau.unsqueeze(2)).clamp(self.lower, self.upper)
        bounds = z.new_tensor([_finite(self.lower), _finite(self.upper)])
        values = torch.where(free, inside, torch.where(low, bounds[0], bounds[1])).reshape(selected.shape)
        return replace_channels(u, self.channels, values.to(u.dtype))

    def _shift(self, z: Tensor, w: Tensor, mean: Tensor) -> Tensor:
        """tau (B, K) of fields (B, K, n): sum w clamp(z - tau) falls piecewise linearly in tau."""
        events, slopes, levels, constants = [], [], [], []
        active = torch.ones_like(mean)
        level = (w * z).sum(dim=2)
        constant = torch.zeros_like(mean)
        weight = w.expand_as(z)
        if math.isfinite(self.upper):
            # Far to the left all points sit on the upper bound; each leaves it at z - upper.
            active, level = torch.zeros_like(mean), torch.zeros_like(mean)
            constant = constant + self.upper * w.sum()
            events.append(z - self.upper)
            slopes.append(weight)
            levels.append(weight * z)
            constants.append(-weight * self.upper)
        if math.isfinite(self.lower):
            events.append(z - self.lower)
            slopes.append(-weight)
            levels.append(-weight * z)
            constants.append(weight * self.lower)
        places, order = torch.cat(events, dim=2).sort(dim=2)

        def before(start: Tensor, changes: list[Tensor]) -> Tensor:
            """Sums on the interval that ends at each place, and on the last one, (B, K, m + 1)."""
            sorted_ = torch.cat(changes, dim=2).gather(2, order).cumsum(dim=2)
            return torch.cat([start.unsqueeze(2), start.unsqueeze(2) + sorted_], dim=2)

        slope, offset = before(active, slopes), before(level, levels) + before(constant, constants)
        at_end = offset[..., :-1] - slope[..., :-1] * places
        interval = (at_end > mean.unsqueeze(2)).sum(dim=2, keepdim=True)
        steep = slope.gather(2, interval).squeeze(2)
        rest = offset.gather(2, interval).squeeze(2) - mean
        nearest = places.gather(2, interval.clamp_max(places.shape[2] - 1)).squeeze(2)
        # A sum of weights that should be zero is left at rounding; tau is then any number of the interval.
        sloped = steep > 1e-13
        return torch.where(sloped, rest / torch.where(sloped, steep, 1.0), nearest)

    def violation(
        self, u: Tensor, previous: Tensor | None = None, context: Context | None = None
    ) -> Tensor:
        """Largest excess over a bound or distance of a mean from its target, (B,) [unit of u]."""
        z = select(u, self.channels, "Simplex")
        off = (self.means.mean(z) - self._mean(u, previous, context)).abs().amax(dim=1)
        flat = z.flatten(1)
        beyond = torch.maximum(self.lower - flat, flat - self.upper).amax(dim=1).clamp_min(0.0)
        return torch.maximum(off, beyond.to(off.dtype))


def _finite(bound: float) -> float:
    """A bound as a factor: where there is none, no point lies on it."""
    return bound if math.isfinite(bound) else 0.0
