"""Vector fields of place, or of place and time, that have no divergence whatever the weights."""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor, nn

from sciml.models.pinns.slopes import Field, axis_slope


class SolenoidalNet(nn.Module):
    """v_i = sum over j of d A_ij / dx_j with A = -A^T from a network: div v = 0 to rounding, in any dimension.

    sum_ij d^2 A_ij / dx_i dx_j vanishes because second derivatives commute. In 2D v is the curl of one stream function,
    in 3D that of a vector potential. With `over_time` time is the first coordinate: v = (rho, rho u) has no divergence
    in space and time, which is the continuity equation rho_t + div(rho u) = 0 (rho may be negative). One more order
    of differentiation through the network than a free one; exact for smooth networks of single points, such as
    `CoordinateNet`.

    Args:
        f: field (B, D, *points) -> (B, n (n - 1) / 2, *points): A_01, A_02, ..., A_12, ... in this order.
        dimension: number of space axes D.
        over_time: n = D + 1 with time first; else n = D, at least 2, and a time only passes through to f.

    Raises:
        ValueError: there is one coordinate only, or f gives another number of channels.

    Richter-Powell, Lipman and Chen, Neural conservation laws: a divergence-free perspective (NeurIPS 2022,
    arXiv 2210.01741).
    """

    def __init__(self, f: Field, dimension: int, over_time: bool = False) -> None:
        super().__init__()
        count = dimension + int(over_time)
        if count < 2 or dimension < 1:
            raise ValueError(
                f"SolenoidalNet got dimension={dimension}, over_time={over_time}; expected two coordinates or more."
            )
        self.f, self.dimension, self.over_time = f, dimension, over_time
        self.out_channels = count

    def forward(self, x: Tensor, t: Tensor | None = None) -> Tensor:
        """v at points x (B, D, *points) and times t (B, 1, *points), (B, n, *points) [f / length].

        With `over_time` the first channel is the density and the others its flux.
        """
        if x.ndim < 3 or x.shape[1] != self.dimension or (self.over_time and t is None):
            raise ValueError(
                f"SolenoidalNet got points of shape {tuple(x.shape)} and {'no ' if t is None else ''}times; expected "
                f"(B, {self.dimension}, *points){' with times' if self.over_time else ''}."
            )
        if not self.over_time:
            at, field = x, (self.f if t is None else lambda z: self.f(z, t))
        else:
            assert t is not None  # checked above
            at, field = torch.cat([t, x], dim=1), lambda z: self.f(z[:, 1:], z[:, :1])
        return solenoidal(field, at)


def solenoidal(field: Field, at: Tensor) -> Tensor:
    """v_i = sum_j d A_ij/dx_j, (B, n, *points) -> (B, n, *points), of a field of the n (n - 1)/2 entries of A.

    Raises:
        ValueError: the field has another number of channels.
    """
    count = at.shape[1]
    pairs = tuple(combinations(range(count), 2))
    parts: list[list[Tensor]] = [[] for _ in range(count)]
    for j in range(count):
        slope = axis_slope(field, at, j)
        if slope.shape[1] != len(pairs):
            raise ValueError(
                f"A field without divergence got {slope.shape[1]} channels from its network; {count} coordinates need "
                f"out_channels: {len(pairs)}."
            )
        for number, (low, high) in enumerate(pairs):
            if j == high:
                parts[low].append(slope[:, number])
            elif j == low:
                parts[high].append(-slope[:, number])
    return torch.stack([torch.stack(part).sum(dim=0) for part in parts], dim=1)
