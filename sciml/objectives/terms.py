"""Terms on a rollout as a whole, beside the comparison state by state."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from sciml.objectives.schedules import Schedule, counted


class Term(nn.Module, ABC):
    """A term of a loss that sees a rollout and the data beside it.

    Args:
        weight: what it is multiplied by, a number or a schedule.
        name: in the log.

    Raises:
        ValueError: the weight is negative.
    """

    def __init__(self, weight: float | Schedule, name: str) -> None:
        super().__init__()
        self.weight = counted(weight, f"{type(self).__name__}.weight", 0.0)
        self.name = name

    @abstractmethod
    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        """One number per sample, (B,), from two trajectories (B, T, C, *points) of the same first state."""
