"""Tensor fields that are symmetric and positive by construction."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sciml.constraints.base import at_least_single
from sciml.constraints.tensor_form import checked_tensors
from sciml.models.wrappers import Map


class PositiveTensors(nn.Module):
    """S = L L' + floor 1 in place of what a network gives for tensors: symmetric and positive for any weights.

    L is the lower triangle of the network's D*D numbers at each point; what it gives above the diagonal has no effect.
    For conformation, covariance and diffusion tensors. In a study set residual: false and normalized: false, since a
    sum with a state need not be positive; put Normalized into the network if it needs that.

    Args:
        f: map (B, C, *points) -> (B, C', *points).
        dimension: D.
        tensors: of each tensor its D*D channels in the answer, row by row.
        floor: least eigenvalue, not negative [unit of the tensor].

    Raises:
        ValueError: the floor is negative, or channels do not fit.
    """

    physical = True

    def __init__(
        self, f: Map, dimension: int, tensors: Sequence[Sequence[int]], floor: float = 0.0
    ) -> None:
        super().__init__()
        if not floor >= 0:
            raise ValueError(f"PositiveTensors got floor={floor}; expected zero or more.")
        self.f, self.dimension, self.floor = f, dimension, float(floor)
        self.tensors = checked_tensors(tensors, dimension, "PositiveTensors")

    def forward(self, u: Tensor, lead: Tensor | None = None) -> Tensor:
        found = at_least_single(self.f(u) if lead is None else self.f(u, lead))
        d, highest = self.dimension, max(c for group in self.tensors for c in group)
        if found.shape[1] <= highest:
            raise ValueError(
                f"PositiveTensors got an answer of {found.shape[1]} channels from its network; expected channel {highest}."
            )
        parts = torch.stack([found[:, list(group)] for group in self.tensors], dim=1).unflatten(2, (d, d))
        lower = torch.ones(d, d, dtype=found.dtype, device=found.device).tril()
        factor = parts * lower.reshape(d, d, *[1] * (found.ndim - 2))
        # Sums of products by hand: automatic mixed precision would take a matrix product in half precision.
        square = (factor.unsqueeze(3) * factor.unsqueeze(2)).sum(dim=4)
        one = torch.eye(d, dtype=found.dtype, device=found.device)
        square = square + self.floor * one.reshape(d, d, *[1] * (found.ndim - 2))
        index = torch.tensor([c for group in self.tensors for c in group], device=found.device)
        return found.index_copy(1, index, square.flatten(1, 3))
