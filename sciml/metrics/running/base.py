"""What every statistic of a long run promises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor


class Running(ABC):
    """A statistic that is gathered state by state, in memory that does not grow with the number of states.

        mean = RunningMoments()
        for u in iterate(step, u0, 10_000):
            mean.update(u)

    Chunks of initial states are gathered apart and merged; what was gathered can be saved and gone on with. A sample
    that has become NaN or infinite is left out of its state and counted in `lost`: a statistic speaks of survivors.
    """

    def __init__(self) -> None:
        self.lost = 0

    @abstractmethod
    def update(self, state: Tensor) -> None:
        """Take in the states (B, C, *points) of one time."""

    @abstractmethod
    def merge(self, other: Self) -> None:
        """Take in what another one has gathered from other samples or times.

        Raises:
            ValueError: it was made for something else.
        """

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """What was gathered, as tensors and numbers that `torch.save` writes and `torch.load` reads back safely."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with what `state_dict` gave."""

    def survivors(self, state: Tensor) -> Tensor:
        """The samples whose values are all finite, in single or double precision and without gradient."""
        u = state.detach()
        if u.dtype not in (torch.float32, torch.float64):
            u = u.float()
        # A sum is not finite if one of its terms is not, and costs one pass over the memory.
        good = torch.isfinite(u.reshape(len(u), -1).sum(dim=1))
        if bool(good.all()):
            return u
        self.lost += int((~good).sum())
        return u[good]


def matching(first: Tensor, second: Tensor, owner: str) -> None:
    """Raise ValueError unless two tensors are equal, as the settings of two statistics that are merged must be."""
    if first.shape != second.shape or not torch.equal(first.cpu(), second.cpu()):
        raise ValueError(f"{owner} cannot merge with one that was made with other settings.")
