"""How long a few points remember."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sciml.metrics.climatology import correlation_length
from sciml.metrics.running.base import Running, matching


class RunningAutocorrelation(Running):
    """Autocorrelation in time of the values at a few points, for lags up to a largest one.

    Keeps the last `lags` values of those points and sums of products. Every lag has its own means, so that slow drifts
    of a finite series do not bias it.

    Args:
        points: numbers of the points, counted along the flattened axes; ignored by states without space.
        lags: the largest lag, in updates.

    Raises:
        ValueError: there is no point or no lag.
    """

    def __init__(self, points: Sequence[int] | Tensor, lags: int) -> None:
        super().__init__()
        self.points = torch.as_tensor(points, dtype=torch.int64).flatten()
        if not len(self.points) or lags < 1:
            raise ValueError(
                f"RunningAutocorrelation got {len(self.points)} points and {lags} lags; expected one or more."
            )
        self.lags = lags
        self._last: Tensor | None = None  # (lags + 1, B, C, P), the newest first
        self._sums: Tensor | None = None  # (5, lags + 1, C, P): number, x, y, xy, xx + yy

    def update(self, state: Tensor) -> None:
        u = state.detach()
        values = u.unsqueeze(2) if u.ndim == 2 else u.flatten(2)[:, :, self.points.to(u.device)]
        values = values.double()
        if self._last is None:
            shape = (self.lags + 1, *values.shape)
            self._last = torch.full(shape, torch.nan, dtype=torch.float64, device=u.device)
        if values.shape != self._last.shape[1:]:
            raise ValueError(
                f"RunningAutocorrelation followed {tuple(self._last.shape[1:])} values and got {tuple(values.shape)}; "
                "every update needs the same samples."
            )
        self.lost += int((~torch.isfinite(values)).any(dim=2).any(dim=1).sum())
        self._last = torch.cat([values.unsqueeze(0), self._last[:-1]])
        now, before = self._last[:1], self._last
        product = now * before
        known = torch.isfinite(product)
        found = torch.stack(
            [
                torch.where(known, x, 0.0).sum(dim=1)
                for x in (
                    torch.ones_like(product),
                    now.expand_as(before),
                    before,
                    product,
                    now.square() + before.square(),
                )
            ]
        )
        self._sums = found if self._sums is None else self._sums + found

    def merge(self, other: RunningAutocorrelation) -> None:
        matching(self.points, other.points, "RunningAutocorrelation")
        matching(torch.tensor(self.lags), torch.tensor(other.lags), "RunningAutocorrelation")
        if other._sums is not None:
            self._sums = other._sums if self._sums is None else self._sums + other._sums
        if other._last is not None:
            self._last = other._last if self._last is None else torch.cat([self._last, other._last], dim=1)
        self.lost += other.lost

    @property
    def correlation(self) -> Tensor:
        """Correlation at lags 0 to `lags`, averaged over the points, (C, lags + 1)."""
        if self._sums is None:
            raise ValueError("RunningAutocorrelation has seen no state yet; call update first.")
        count, x, y, product, squares = self._sums
        count = count.clamp_min(1)
        covariance = product / count - x * y / count.square()
        variance = 0.5 * (squares / count - (x / count).square() - (y / count).square())
        rho = covariance / variance.clamp_min(torch.finfo(torch.float64).tiny)
        return rho.mean(dim=2).T

    def time(self, dt: float) -> Tensor:
        """Integral of the correlation up to its first zero, per channel (C,) [time]; see `correlation_length`."""
        return correlation_length(self.correlation, dt)

    def state_dict(self) -> dict[str, Any]:
        return {"points": self.points, "last": self._last, "sums": self._sums, "lost": self.lost}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        matching(self.points, state["points"], "RunningAutocorrelation")
        self._last, self._sums, self.lost = state["last"], state["sums"], int(state["lost"])
