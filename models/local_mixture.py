"""A step whose values are means of their neighbours: no new extremes."""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor, nn

from sciml.domains import Grid
from sciml.models.neighbours import neighbour_logits
from sciml.models.wrappers import Map


class LocalMixture(nn.Module):
    """Every new value is a mean of the values round it, with learned weights: a local maximum principle.

        u'_i = sum over j near i of w_ij u_j,    w_i. = softmax of what the network gives at i

    so that no value leaves the range of its neighbourhood, to the last bit, for any weights of the network, and a constant
    state stays as it is. Sums are not kept: `LimitedTransport` keeps both. Right for what is carried or diffuses and has
    to stay bounded, in steps that reach no further than `radius` points. Beyond a side that is not periodic lies the
    value at the side.

    In a study set residual: false.

    Args:
        f: map (B, C, *points) -> (B, C S, *points), S = (2 radius + 1)^D: of each channel the S logits side by side, shifts
            in the order of itertools.product with the last axis fastest, from -radius to radius.
        grid: where the states live.
        radius: of the neighbourhood along each axis, in points.
        own: added to the logit of a point's own value, so that a network that gives zero changes little.

    Raises:
        ValueError: the domain is no grid, the radius is below 1, or the network gives other channels.
    """

    whole = True

    def __init__(self, f: Map, grid: Grid, radius: int = 1, own: float = 4.0) -> None:
        super().__init__()
        if not isinstance(grid, Grid) or not 1 <= radius < min(grid.shape):
            raise ValueError(
                f"LocalMixture got radius={radius} on {grid!r}; expected a Grid, and a radius of 1 or more below its numbers "
                "of points."
            )
        self.f, self.grid, self.radius, self.own = f, grid, int(radius), float(own)
        self.shifts = tuple(product(range(-self.radius, self.radius + 1), repeat=grid.dimension))

    def weights(self, u: Tensor) -> Tensor:
        """w (B, C, S, *points) in float64."""
        return neighbour_logits("LocalMixture", self.f, u, len(self.shifts), self.own).softmax(dim=2)

    def forward(self, u: Tensor) -> Tensor:
        weights = self.weights(u)
        exact = u.to(torch.float64)
        near = []
        for shift in self.shifts:
            moved = exact
            for axis, (n, periodic) in enumerate(zip(self.grid.shape, self.grid.periodic, strict=True)):
                place = torch.arange(n, device=u.device) + shift[axis]
                moved = moved.index_select(2 + axis, place % n if periodic else place.clamp(0, n - 1))
            near.append(moved)
        values = torch.stack(near, dim=2)
        mixed = (weights * values).sum(dim=2)
        # The sum of the weights is one to rounding only.
        mixed = mixed.clamp(values.detach().amin(dim=2), values.detach().amax(dim=2))
        return mixed if u.dtype == torch.float64 else mixed.to(torch.float32)
