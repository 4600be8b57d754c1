"""Losses of models that map one field to another."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from sciml.objectives.base import Discrepancy, Norm, Parts


class MapObjective(nn.Module, ABC):
    """A training loss of a model on pairs of fields, such as a coefficient and the solution."""

    @abstractmethod
    def forward(
        self,
        model: Callable[[Tensor], Tensor],
        pair: tuple[Tensor, Tensor],
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Parts]:
        """The loss of `model` on (inputs (B, A, *points), targets (B, C, *points)).

        Returns:
            The total, a scalar with gradient, and named parts, scalars without.
        """


class RelativeL2Map(MapObjective):
    """Mean over samples of ||model(a) - u|| / ||u||, channels and points taken together.

    The loss of Li et al. 2021 (arXiv 2010.08895). The mean is over ratios, so every sample weighs alike.

    Args:
        channel_scale: see `Discrepancy`.
        norm: another way of comparing, see `Discrepancy`.
    """

    def __init__(
        self, channel_scale: Sequence[float] | Tensor | None = None, norm: Norm = "relative_l2"
    ) -> None:
        super().__init__()
        self.discrepancy = Discrepancy(norm, channel_scale)

    def forward(
        self,
        model: Callable[[Tensor], Tensor],
        pair: tuple[Tensor, Tensor],
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Parts]:
        inputs, targets = pair
        loss = self.discrepancy(model(inputs), targets).mean()
        return loss, {self.discrepancy.name: loss.detach()}
