"""Convolutions in one to three dimensions that know their boundary and their first weights."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

Boundary = Literal["circular", "zeros", "replicate"]

_CONVOLUTIONS = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}


def pad(u: Tensor, width: int, boundary: Boundary) -> Tensor:
    """Add `width` points on each side of every space axis of u (B, C, *points).

    Written with `cat` for periodic axes: the library's circular padding copies in place, which
    `torch.func.vmap` refuses.
    """
    if width == 0:
        return u
    if boundary != "circular":
        mode = "constant" if boundary == "zeros" else "replicate"
        return functional.pad(u, [width] * (2 * (u.ndim - 2)), mode=mode)
    for axis in range(2, u.ndim):
        size = u.shape[axis]
        if width > size:
            raise ValueError(
                f"A circular convolution reaches {width} points, but axis {axis - 2} has {size}."
            )
        u = torch.cat((u.narrow(axis, size - width, width), u, u.narrow(axis, 0, width)), dim=axis)
    return u


class Convolution(nn.Module):
    """Convolution of odd kernel size that keeps the number of points, (B, C_in, *points) -> (B, C_out, *points).

    Args:
        in_channels: C_in.
        out_channels: C_out.
        dimension: number of space axes, 1 to 3.
        kernel: points along each axis of the kernel, odd.
        boundary: what lies beyond the ends: "circular" for periodic axes, "zeros", or "replicate".
        stride: 1, or 2 to keep every second point of each axis.
        gain: the weights start uniform with variance gain^2 / fan_in.
        bias_bound: the biases start uniform within this bound over sqrt(fan_in); 0 starts them at zero.

    Raises:
        ValueError: a dimension, kernel size or boundary outside the above.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        dimension: int,
        kernel: int = 3,
        boundary: Boundary = "circular",
        stride: int = 1,
        gain: float = 1.0,
        bias_bound: float = 0.0,
    ) -> None:
        super().__init__()
        if dimension not in _CONVOLUTIONS:
            raise ValueError(f"Got dimension={dimension}; expected 1, 2 or 3.")
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(
                f"Got kernel={kernel}; expected an odd number, so that the points stay in place."
            )
        if boundary not in get_args(Boundary):
            raise ValueError(f"Got boundary {boundary!r}; expected one of {list(get_args(Boundary))}.")
        self.kernel = kernel
        self.boundary = boundary
        self.stride = stride
        self.dimension = dimension
        fan_in = in_channels * kernel**dimension
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, *[kernel] * dimension))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        with torch.no_grad():
            bound = gain * math.sqrt(3.0 / fan_in)
            self.weight.uniform_(-bound, bound)
            if bias_bound > 0.0:
                bound = bias_bound / math.sqrt(fan_in)
                self.bias.uniform_(-bound, bound)

    def forward(self, u: Tensor) -> Tensor:
        padded = pad(u, self.kernel // 2, self.boundary)
        return _CONVOLUTIONS[self.dimension](padded, self.weight, self.bias, stride=self.stride)
