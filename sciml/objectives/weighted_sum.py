"""Several losses at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from sciml.objectives.base import Objective, Parts
from sciml.objectives.schedules import Schedule, counted, tell_loss


class WeightedSum(Objective):
    """sum_i w_i L_i of losses of the same windows.

    Each loss calls the step anew; what can be had from one rollout (another norm, a term on the spectrum)
    is better given to one `Unrolled` as its `norm` and `terms`.

    Args:
        objectives: the losses L_i.
        weights: w_i, numbers of 0 or more or schedules, ones where left out. A loss whose weight is 0 is
            not computed.

    Raises:
        ValueError: there are no losses, the numbers of losses and weights differ, or a weight is negative.
    """

    def __init__(
        self,
        objectives: Sequence[Objective],
        weights: Sequence[float | Schedule] | None = None,
    ) -> None:
        super().__init__()
        weights = [1.0] * len(objectives) if weights is None else list(weights)
        if not objectives or len(weights) != len(objectives):
            raise ValueError(
                f"WeightedSum got {len(objectives)} objectives and {len(weights)} weights; expected one weight "
                "for each of at least one."
            )
        self.objectives = nn.ModuleList(objectives)
        self.weights = nn.ModuleList(counted(w, "WeightedSum.weights", 0.0) for w in weights)
        self.horizon = max(objective.horizon for objective in objectives)
        kinds = [type(objective).__name__ for objective in objectives]
        self.names = [
            kind if Counter(kinds)[kind] == 1 else f"{kind}{kinds[:i].count(kind) + 1}"
            for i, kind in enumerate(kinds)
        ]

    def forward(
        self,
        step: Callable[..., Tensor],
        window: Tensor,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Parts]:
        total: Tensor | None = None
        parts: Parts = {}
        for name, objective, weight in zip(self.names, self.objectives, self.weights, strict=True):
            factor = weight()
            if factor == 0:
                continue
            loss, own = objective(step, window, generator)
            total = factor * loss if total is None else total + factor * loss
            parts |= {f"{name}.loss": loss.detach(), **{f"{name}.{k}": v for k, v in own.items()}}
        if total is None:
            raise ValueError("WeightedSum has weights of 0 only at this update; keep one of them above.")
        tell_loss(self.weights, total)
        return total, parts
