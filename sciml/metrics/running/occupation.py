"""Where in a low-dimensional state space a long run stays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sciml.metrics.occupation import bin_keys, divergence_of_counts, reference_range
from sciml.metrics.running.base import Running, matching

LIMIT = 2**24
"""Most bins kept, 128 MiB of counts."""


class RunningOccupation(Running):
    """Binned occupation of state space, from which `state_space_divergence` follows for any length of run.

    States (B, N) of a system without space, or a few numbers that sum up a field (`leading_modes`, `point_values`).

    Args:
        lower: least value of each axis (N,).
        upper: largest value of each axis (N,).
        bins: per axis.

    Raises:
        ValueError: the limits are not increasing, or the bins are too many to be kept.
    """

    def __init__(
        self, lower: Tensor | Sequence[float], upper: Tensor | Sequence[float], bins: int = 30
    ) -> None:
        super().__init__()
        self.lower, self.upper = (torch.as_tensor(x, dtype=torch.float64).flatten() for x in (lower, upper))
        if self.lower.shape != self.upper.shape or not bool((self.lower < self.upper).all()):
            raise ValueError(
                f"RunningOccupation got limits {self.lower.tolist()} and {self.upper.tolist()}; expected finite "
                "lower < upper for each axis."
            )
        if bins < 1 or bins ** len(self.lower) > LIMIT:
            raise ValueError(
                f"RunningOccupation got {bins} bins on {len(self.lower)} axes; expected at least one and at most "
                f"{LIMIT} in all. Sum the state up in fewer numbers."
            )
        self.bins = bins
        self.count = 0
        self._counts = torch.zeros(bins ** len(self.lower), dtype=torch.int64)

    @classmethod
    def of_reference(cls, reference: Tensor, bins: int = 30) -> RunningOccupation:
        """With the limits that `state_space_divergence` takes from a reference series (T, N)."""
        return cls(*reference_range(reference.double()), bins)

    def update(self, state: Tensor) -> None:
        axes = len(self.lower)
        if state.ndim != 2 or state.shape[1] != axes:
            raise ValueError(f"RunningOccupation got shape {tuple(state.shape)}; expected (B, {axes}).")
        u = self.survivors(state).double()
        keys = bin_keys(u, self.lower.to(u), self.upper.to(u), self.bins).cpu()
        self._counts.index_add_(0, keys, torch.ones_like(keys))
        self.count += len(u)

    def merge(self, other: RunningOccupation) -> None:
        matching(self.lower, other.lower, "RunningOccupation")
        matching(self.upper, other.upper, "RunningOccupation")
        matching(torch.tensor(self.bins), torch.tensor(other.bins), "RunningOccupation")
        self._counts = self._counts + other._counts
        self.count += other.count
        self.lost += other.lost

    def divergence(self, reference: RunningOccupation, smoothing: float = 1e-5) -> Tensor:
        """`state_space_divergence` of what was seen here from the reference, ().

        Raises:
            ValueError: the two have seen unlike numbers of states; see there.
        """
        matching(self.lower, reference.lower, "RunningOccupation")
        matching(self.upper, reference.upper, "RunningOccupation")
        if self.count != reference.count:
            raise ValueError(
                f"RunningOccupation saw {self.count} states and the reference {reference.count}; the divergence "
                "depends on their number, so both have to see the same."
            )
        return divergence_of_counts(reference._counts, self._counts, len(self._counts), smoothing)

    def state_dict(self) -> dict[str, Any]:
        return {
            "lower": self.lower,
            "upper": self.upper,
            "counts": self._counts.clone(),
            "count": self.count,
            "lost": self.lost,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        matching(self.lower, state["lower"], "RunningOccupation")
        matching(self.upper, state["upper"], "RunningOccupation")
        self._counts = state["counts"].clone()
        self.count, self.lost = int(state["count"]), int(state["lost"])
