"""A positive state as shares of what is there."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sciml.constraints.conserved_mean import ConservedMean
from sciml.domains import Grid, Mesh
from sciml.models.wrappers import Map


class SoftmaxShare(nn.Module):
    """Share the mass of a positive state out among the points: positive and conservative by construction.

        u'_i = M e^z_i / sum_j V_j e^z_j    or, relative,    u'_i = M u_i e^z_i / sum_j V_j u_j e^z_j

    with z = f(u), M = sum V u of each channel. Relative to u, a network that gives zero is the identity, and what is
    empty stays empty; the other is positive everywhere and has a gradient everywhere, but cannot give a zero. No
    projection: it acts on what the network says, not on a state, and applying it twice is not applying it once. Sums are
    taken in float64. In a study set residual: false and normalized: false.

    Args:
        f: map (B, C, *points) -> (B, C, *points).
        domain: gives the volumes.
        relative: see above.

    M below zero gives a negative state; a relative share needs states of one sign.
    """

    physical = True

    def __init__(self, f: Map, domain: Grid | Mesh, relative: bool = True) -> None:
        super().__init__()
        self.f = f
        self.relative = relative
        self.means = ConservedMean(domain)

    def forward(self, u: Tensor) -> Tensor:
        z = self.f(u).to(torch.float64)
        exact = u.to(torch.float64)
        shape = (*z.shape[:2], *[1] * (z.ndim - 2))
        # The largest exponent is taken out, so that nothing overflows; it cancels.
        weights = torch.exp(z - z.detach().flatten(2).amax(dim=2).reshape(shape))
        if self.relative:
            weights = exact * weights
        total = self.means.mean(weights)
        mass = self.means.mean(exact)
        some = total != 0
        scale = torch.where(some, mass / torch.where(some, total, 1.0), 0.0)
        shared = scale.reshape(shape) * weights
        return shared if u.dtype == torch.float64 else shared.to(torch.float32)
