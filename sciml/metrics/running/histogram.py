"""How often each value occurs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sciml.metrics.running.base import Running, matching
from sciml.metrics.wasserstein import histogram_wasserstein


class RunningHistogram(Running):
    """Distribution of the point values of each channel over time, samples and space.

    Args:
        lower: least value of each channel (C,), such as that of the reference data.
        upper: largest value of each channel (C,).
        bins: between them; what lies outside is counted beside.
        weights: of the points (*points), such as `domain.weights()`, where they are not equally heavy.

    Raises:
        ValueError: the limits are not increasing, or there is no bin.
    """

    def __init__(
        self,
        lower: Tensor | Sequence[float],
        upper: Tensor | Sequence[float],
        bins: int = 128,
        weights: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.lower, self.upper = (torch.as_tensor(x, dtype=torch.float64).flatten() for x in (lower, upper))
        if self.lower.shape != self.upper.shape or bins < 1 or not bool((self.lower < self.upper).all()):
            raise ValueError(
                f"RunningHistogram got limits {self.lower.tolist()} and {self.upper.tolist()} and {bins} bins; "
                "expected one finite lower < upper for each channel and at least one bin."
            )
        self.bins = bins
        self._weights = None if weights is None else (weights / weights.sum()).flatten().double()
        self._counts = torch.zeros(len(self.lower), bins + 2, dtype=torch.float64)

    def update(self, state: Tensor) -> None:
        channels = len(self.lower)
        if state.ndim < 2 or state.shape[1] != channels:
            raise ValueError(
                f"RunningHistogram of {channels} channels got a state of shape {tuple(state.shape)}."
            )
        u = self.survivors(state)
        if not len(u):
            return
        flat = u.reshape(len(u), channels, -1)
        low = self.lower.to(flat).reshape(-1, 1)
        scale = (self.bins / (self.upper - self.lower)).to(flat).reshape(-1, 1)
        index = ((flat - low).mul_(scale).add_(1)).floor_().clamp_(0, self.bins + 1).to(torch.int32)
        index += torch.arange(channels, dtype=torch.int32, device=u.device).reshape(-1, 1) * (self.bins + 2)
        weights = None
        if self._weights is not None:
            weights = self._weights.to(u.device).expand(flat.shape).reshape(-1)
        found = torch.bincount(index.flatten(), weights, minlength=self._counts.numel())
        self._counts = self._counts.to(u.device) + found.reshape(self._counts.shape)

    def merge(self, other: RunningHistogram) -> None:
        for mine, theirs in ((self.lower, other.lower), (self.upper, other.upper)):
            matching(mine, theirs, "RunningHistogram")
        matching(torch.tensor(self.bins), torch.tensor(other.bins), "RunningHistogram")
        self._counts = self._counts + other._counts.to(self._counts.device)
        self.lost += other.lost

    @property
    def centres(self) -> Tensor:
        """Values at the middle of the bins (C, bins)."""
        middle = (torch.arange(self.bins, dtype=torch.float64) + 0.5) / self.bins
        return self.lower.unsqueeze(1) + middle * (self.upper - self.lower).unsqueeze(1)

    @property
    def density(self) -> Tensor:
        """Probability per unit of the value (C, bins); its integral is the share that lies inside the limits."""
        counts = self._counts.cpu()
        width = ((self.upper - self.lower) / self.bins).unsqueeze(1)
        return counts[:, 1:-1] / counts.sum(dim=1, keepdim=True) / width

    @property
    def outside(self) -> Tensor:
        """Share below and above the limits (C, 2)."""
        counts = self._counts.cpu()
        return counts[:, [0, -1]] / counts.sum(dim=1, keepdim=True)

    def distance(self, other: RunningHistogram) -> Tensor:
        """First Wasserstein distance (C,) [unit of the field]; what lies outside counts as in the next bin beyond."""
        matching(self.lower, other.lower, "RunningHistogram")
        matching(self.upper, other.upper, "RunningHistogram")
        width = (self.upper - self.lower) / self.bins
        return histogram_wasserstein(self._counts.cpu(), other._counts.cpu(), width)

    def state_dict(self) -> dict[str, Any]:
        return {"lower": self.lower, "upper": self.upper, "counts": self._counts, "lost": self.lost}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        matching(self.lower, state["lower"], "RunningHistogram")
        matching(self.upper, state["upper"], "RunningHistogram")
        self._counts, self.lost = state["counts"], int(state["lost"])
