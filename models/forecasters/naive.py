"""Forecasts that need no model."""

from __future__ import annotations

import torch
from torch import Tensor

from sciml.domains import Domain
from sciml.models.forecasters.base import Forecaster, state_size


class Persistence(Forecaster):
    """The present state for ever.

    Args:
        in_channels: C.
        domain: where the points lie; none for states without space.
    """

    def __init__(self, in_channels: int, domain: Domain | None = None) -> None:
        super().__init__(state_size(in_channels, domain, "Persistence"))

    def fit(self, trajectories: Tensor, generator: torch.Generator | None = None) -> None:
        self._checked(trajectories, 1)

    def begin(self, history: Tensor) -> Tensor:
        return history[:, -1].double()

    def advance(self, carried: Tensor) -> Tensor:
        return carried

    def show(self, carried: Tensor) -> Tensor:
        return carried


class Climatology(Forecaster):
    """The mean state of what was learned from, from the first step on.

    Args:
        in_channels: C.
        domain: where the points lie; none for states without space.
    """

    mean: Tensor

    def __init__(self, in_channels: int, domain: Domain | None = None) -> None:
        super().__init__(state_size(in_channels, domain, "Climatology"))
        self.register_buffer("mean", torch.zeros(self.size, dtype=torch.float64))

    def fit(self, trajectories: Tensor, generator: torch.Generator | None = None) -> None:
        self.mean.copy_(self._checked(trajectories, 1).mean(dim=(0, 1)))

    def begin(self, history: Tensor) -> Tensor:
        return history[:, -1].double()

    def advance(self, carried: Tensor) -> Tensor:
        return self.mean.expand_as(carried)

    def show(self, carried: Tensor) -> Tensor:
        return carried
