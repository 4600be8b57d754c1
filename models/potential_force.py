"""Maps of states that are gradients of an energy."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sciml.models.wrappers import Map


class PotentialForce(nn.Module):
    """-dE/du of an energy E(u), the sum of all that a network gives: a map with a symmetric Jacobian.

        (B, C, *points) -> (B, C, *points)

    It does no work along closed loops of states, for any weights. Under `Residual` a step down an energy (gradient
    flow); never right for transport, whose Jacobian is antisymmetric at heart. `Normalized` around it keeps the
    symmetry where all channels have one std. About three times the cost of the network.

    Args:
        f: map (B, C, *points) -> (B, K, *points), smooth; E is the sum of its output over channels and points.
    """

    def __init__(self, f: Map) -> None:
        super().__init__()
        self.f = f

    def energy(self, u: Tensor) -> Tensor:
        """E, (B, C, *points) -> (B,)."""
        found: Tensor = self.f(u)
        return found.flatten(1).sum(dim=1)

    def forward(self, u: Tensor) -> Tensor:
        pulled = torch.func.vjp(self.energy, u)
        found: Tensor = pulled[1](torch.ones_like(pulled[0]))[0]
        return -found
