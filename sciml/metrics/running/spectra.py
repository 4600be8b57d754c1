"""Energy per wavenumber over a long run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from sciml.domains import Grid
from sciml.metrics.running.base import Running
from sciml.metrics.spectral import spectrum


class RunningSpectrum(Running):
    """`spectrum` averaged over time and samples, the form in which statistics of flows are compared."""

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self.grid = grid
        self.count = 0
        self._sum: Tensor | None = None

    def update(self, state: Tensor) -> None:
        u = self.survivors(state)
        if len(u):
            self._add(len(u), spectrum(u.unsqueeze(1), self.grid)[:, 0].sum(dim=0).double())

    def _add(self, count: int, total: Tensor) -> None:
        self.count += count
        self._sum = total if self._sum is None else self._sum + total

    def merge(self, other: RunningSpectrum) -> None:
        if other.grid != self.grid:
            raise ValueError(f"RunningSpectrum on {self.grid} cannot merge with one on {other.grid}.")
        if other._sum is not None:
            self._add(other.count, other._sum)
        self.lost += other.lost

    @property
    def mean(self) -> Tensor:
        """Mean spectrum (C, S)."""
        if self._sum is None:
            raise ValueError("RunningSpectrum has seen no state yet; call update first.")
        return self._sum / self.count

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count, "sum": self._sum, "lost": self.lost}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.count, self._sum, self.lost = int(state["count"]), state["sum"], int(state["lost"])
