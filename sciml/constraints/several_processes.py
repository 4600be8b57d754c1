"""Work that the processes of torch.distributed share, with gradients as if one had done it all.

Every process computes the same loss from the gathered result. Then the gradient of a gathered part is that of its own copy
of the loss, and gradients of what all started from are summed over what each did with it (Shoeybi et al., arXiv
1909.08053, section 3, the operators f and g).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def rank_and_size() -> tuple[int, int]:
    """Of this process among those of torch.distributed; (0, 1) where there are none."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def common(value: Tensor) -> Tensor:
    """The same tensor, whose gradients are summed over the processes; for what each uses for its part of the work."""
    return value if rank_and_size()[1] == 1 else _Common.apply(value)


def gathered(part: Tensor) -> Tensor:
    """Parts of equal size along the first axis, of the processes in their order; gradients go to one's own part."""
    return part if rank_and_size()[1] == 1 else _Gathered.apply(part)


class _Common(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Tensor:
        total = slopes[0].contiguous().clone()
        dist.all_reduce(total)
        return total


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        ctx.size = len(part)
        parts = [torch.empty_like(part) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, part.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Tensor:
        start = dist.get_rank() * ctx.size
        return slopes[0][start : start + ctx.size]
