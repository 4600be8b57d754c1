"""Mean and variance at every point."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sciml.metrics.running.base import Running


class RunningMoments(Running):
    """Mean and variance fields over time and samples (Chan, Golub and LeVeque 1979, eq. 2.1).

    A state is reduced over its samples in its own precision; the sums over time are kept in double.
    """

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self._mean: Tensor | None = None
        self._squares: Tensor | None = None  # sums of squared deviations from the mean

    def update(self, state: Tensor) -> None:
        u = self.survivors(state)
        if not len(u):
            return
        mean = u.mean(dim=0)
        squares = (u - mean).square_().sum(dim=0) if len(u) > 1 else torch.zeros_like(mean)
        self._add(len(u), mean.double(), squares.double())

    def _add(self, count: int, mean: Tensor, squares: Tensor) -> None:
        if self._mean is None or self._squares is None:
            self.count, self._mean, self._squares = count, mean.clone(), squares.clone()
            return
        if mean.shape != self._mean.shape:
            raise ValueError(
                f"RunningMoments of states {tuple(self._mean.shape)} got states of shape {tuple(mean.shape)}."
            )
        total = self.count + count
        away = mean - self._mean
        self._mean.add_(away, alpha=count / total)
        self._squares.add_(squares).addcmul_(away, away, value=self.count * count / total)
        self.count = total

    def merge(self, other: RunningMoments) -> None:
        if other._mean is not None and other._squares is not None:
            self._add(other.count, other._mean, other._squares)
        self.lost += other.lost

    @property
    def mean(self) -> Tensor:
        """Mean over time and samples (C, *points)."""
        if self._mean is None:
            raise ValueError("RunningMoments has seen no state yet; call update first.")
        return self._mean

    @property
    def variance(self) -> Tensor:
        """Variance over time and samples (C, *points), the mean square deviation."""
        if self._squares is None:
            raise ValueError("RunningMoments has seen no state yet; call update first.")
        return self._squares / self.count

    def state_dict(self) -> dict[str, Any]:
        saved = {
            name: None if u is None else u.clone()
            for name, u in (("mean", self._mean), ("squares", self._squares))
        }
        return {"count": self.count, "lost": self.lost, **saved}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.count, self.lost = int(state["count"]), int(state["lost"])
        # Clones: the sums go on in place, and the saved ones must stay.
        self._mean, self._squares = (
            None if state[name] is None else state[name].clone() for name in ("mean", "squares")
        )
