"""Profiles of fronts and kinks that fit a periodic box."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sciml.pdes.parameters import Parameter, fit, largest, smallest

# Half the box of `two_fronts` in units in which a front's profile is (1 + e^z)^(-2/q): 13 from the middle to
# the fronts at time 0, and 19 from there to the seam, of which they may walk 5.
_START, _HALF = 13.0, 32.0
# Half the box of `two_kinks` in widths of a kink.
_KINKS = 16.0


def along_the_diagonal(x: Tensor, lengths: tuple[float, ...]) -> Tensor:
    """x_1 + ... + x_D at points x (B, D, *points), wrapped to within half a side of the middle, (B, 1, *points).

    For a cube of this side: a function of the sum with the side as its period is periodic along every axis.
    """
    side = lengths[0]
    return torch.remainder(x.sum(dim=1, keepdim=True), side) - side / 2


def two_fronts(
    x: Tensor,
    t: Tensor | float,
    diffusivity: Parameter,
    rate: Parameter,
    degree: int,
    lengths: tuple[float, ...],
) -> Tensor:
    """Two fronts of u_t = D lap(u) + r u (1 - u^q) that leave each other, (B, 1, *points).

    Planes across the diagonal of the box, each u = (1 + e^z)^(-2/q) with z = b (sqrt(r/D) xi - c r t),
    b = q/sqrt(2 (q + 2)), c = (q + 4)/sqrt(2 (q + 2)), and xi the distance. Their product solves the equation
    up to what is left of one front at the other, 2 e^-26 r, and up to e^-28 where their feet meet, for r t up to
    5/(b c): 6 for q = 1, 3.3 for q = 2. Murray, Mathematical Biology I (2002), section 13.4.

    Args:
        degree: q.
        lengths: sides from `two_fronts_lengths`.
    """
    b = degree / math.sqrt(2 * (degree + 2))
    c = (degree + 4) / math.sqrt(2 * (degree + 2))
    rate = fit(rate, x)
    scale = b * _root(rate / fit(diffusivity, x)) / math.sqrt(x.shape[1])
    along = scale * along_the_diagonal(x, lengths)
    reached = _START + b * c * rate * torch.as_tensor(t, dtype=x.dtype, device=x.device)
    profile = torch.sigmoid(reached - along) * torch.sigmoid(reached + along)
    return profile ** (2 / degree) if degree != 2 else profile


def two_fronts_lengths(
    diffusivity: Parameter, rate: Parameter, degree: int, dimension: int
) -> tuple[float, ...]:
    """Sides of the box of `two_fronts` [length], wide enough for the widest front of a batch."""
    width = math.sqrt(largest(diffusivity) / smallest(rate)) * math.sqrt(2 * (degree + 2)) / degree
    return (2 * _HALF * width * math.sqrt(dimension),) * dimension


def two_kinks(x: Tensor, width: Parameter, lengths: tuple[float, ...]) -> Tensor:
    """tanh(xi/w) with a second kink of the other sign half a box away, (B, 1, *points).

    Planes across the diagonal of the box; each sees what the other leaves of its tail, 2 e^-32.
    """
    along = along_the_diagonal(x, lengths) / math.sqrt(x.shape[1])
    half = lengths[0] / 2 / math.sqrt(x.shape[1])
    width = fit(width, x)
    return (
        torch.tanh(along / width) - torch.tanh((along - half) / width) - torch.tanh((along + half) / width)
    )


def two_kinks_lengths(width: Parameter, dimension: int) -> tuple[float, ...]:
    """Sides of the box of `two_kinks` [length]."""
    return (2 * _KINKS * largest(width) * math.sqrt(dimension),) * dimension


def _root(value: Parameter) -> Parameter:
    return value.sqrt() if isinstance(value, Tensor) else math.sqrt(value)
