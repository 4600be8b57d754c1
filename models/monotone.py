"""Fields that rise along an axis by construction."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sciml.constraints.base import at_least_single
from sciml.models.wrappers import Map


class Monotone(nn.Module):
    """Fields that never fall along an axis: cumulative sums of what is made positive.

        u_0 = z_0,  u_i = u_(i-1) + softplus(z_i)    or, between two ends,    u_i = lower + (upper - lower) c_i

    with z what a network gives and c_i the sum of softmax(z) over the points up to i: a distribution function that ends
    at `upper`. For distribution functions, cumulative curves and stable stratification, for any weights of the network.
    Sums are taken in float64. In a study set residual: false and normalized: false.

    Args:
        f: map (B, C, *points) -> (B, C', *points).
        axis: along which fields rise.
        falling: they fall instead, from `upper` to `lower`.
        lower, upper: ends, both or none [unit of u].

    Raises:
        ValueError: one end is missing or they are not in order, or the states have no such axis.
    """

    physical = True

    def __init__(
        self,
        f: Map,
        axis: int = 0,
        falling: bool = False,
        lower: float | None = None,
        upper: float | None = None,
    ) -> None:
        super().__init__()
        if (lower is None) != (upper is None) or (
            lower is not None and upper is not None and not lower < upper
        ):
            raise ValueError(
                f"Monotone got lower {lower} and upper {upper}; expected lower < upper, or neither."
            )
        if axis < 0:
            raise ValueError(f"Monotone got axis={axis}; expected 0 or more.")
        self.f, self.axis, self.falling = f, int(axis), falling
        self.lower, self.upper = lower, upper

    def forward(self, u: Tensor) -> Tensor:
        found = at_least_single(self.f(u))
        dim = 2 + self.axis
        if found.ndim <= dim:
            raise ValueError(
                f"Monotone rises along axis {self.axis} and got a field of shape {tuple(found.shape)} from its network; "
                f"expected (B, C, *points) of {self.axis + 1} axes or more."
            )
        z = found.to(torch.float64)
        if self.lower is not None and self.upper is not None:
            # Rounding could pass the upper end by a bit.
            share = z.softmax(dim=dim).cumsum(dim=dim).clamp(max=1.0)
            share = 1.0 - share if self.falling else share
            risen = self.lower + (self.upper - self.lower) * share
        else:
            first, rest = z.narrow(dim, 0, 1), z.narrow(dim, 1, z.shape[dim] - 1)
            steps = nn.functional.softplus(rest)
            risen = torch.cat([first, -steps if self.falling else steps], dim=dim).cumsum(dim=dim)
        return risen.to(found.dtype)
