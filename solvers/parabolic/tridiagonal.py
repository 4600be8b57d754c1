"""Batches of tridiagonal systems."""

from __future__ import annotations

import torch
from torch import Tensor


def solve_tridiagonal(lower: Tensor, diagonal: Tensor, upper: Tensor, b: Tensor) -> Tensor:
    """x of lower_i x_{i-1} + diagonal_i x_i + upper_i x_{i+1} = b_i, all (B or 1, N), differentiable.

    The first of `lower` and the last of `upper` couple the two ends, as on a periodic axis, where they are not
    zero. By parallel cyclic reduction: every equation takes away its neighbours, then those at distance 2, 4,
    ...: log2(N) passes over whole tensors instead of N steps along the line. Without pivots, hence for
    matrices that their diagonal dominates, which keep it dominated.

    Hockney and Jesshope, Parallel Computers (1981), section 5.4; for the two ends Sherman and Morrison (1950).
    """
    if bool((lower[:, 0] != 0).any()) or bool((upper[:, -1] != 0).any()):
        return _cyclic(lower, diagonal, upper, b)
    n, reach = b.shape[1], 1
    while reach < n:
        above = -lower / _shifted(diagonal, -reach, 1.0)
        below = -upper / _shifted(diagonal, reach, 1.0)
        diagonal = diagonal + above * _shifted(upper, -reach) + below * _shifted(lower, reach)
        b = b + above * _shifted(b, -reach) + below * _shifted(b, reach)
        lower, upper = above * _shifted(lower, -reach), below * _shifted(upper, reach)
        reach *= 2
    return b / diagonal


def _cyclic(lower: Tensor, diagonal: Tensor, upper: Tensor, b: Tensor) -> Tensor:
    """With corners, as a line and a correction of rank one."""
    shape = torch.broadcast_shapes(lower.shape, diagonal.shape, upper.shape, b.shape)
    lower, diagonal, upper, b = (v.expand(shape) for v in (lower, diagonal, upper, b))
    first, last, pivot = lower[:, :1], upper[:, -1:], -diagonal[:, :1]
    line = torch.cat(
        (diagonal[:, :1] - pivot, diagonal[:, 1:-1], diagonal[:, -1:] - first * last / pivot), 1
    )
    none = torch.zeros_like(first)
    lower, upper = torch.cat((none, lower[:, 1:]), 1), torch.cat((upper[:, :-1], none), 1)
    side = torch.cat((pivot, torch.zeros_like(b[:, 1:-1]), last), 1)
    y, z = solve_tridiagonal(
        lower.repeat(2, 1), line.repeat(2, 1), upper.repeat(2, 1), torch.cat((b, side))
    ).chunk(2)
    ratio = first / pivot
    share = (y[:, :1] + ratio * y[:, -1:]) / (1 + z[:, :1] + ratio * z[:, -1:])
    return y - share * z


def _shifted(v: Tensor, reach: int, fill: float = 0.0) -> Tensor:
    """v_{i+reach} at i, `fill` where there is none."""
    pad = v.new_full((v.shape[0], abs(reach)), fill)
    return torch.cat((v[:, reach:], pad), 1) if reach > 0 else torch.cat((pad, v[:, :reach]), 1)
