"""A U-Net of pre-normalised residual blocks in one to three dimensions."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sciml.models.layers.activation import Activation, activation_function
from sciml.models.layers.convolution import Boundary, Convolution


class ResidualBlock(nn.Module):
    """u + conv(act(norm(conv(act(norm(u)))))), the skip linear where the number of channels changes."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        dimension: int,
        activation: Activation,
        boundary: Boundary,
    ) -> None:
        super().__init__()
        self.function = activation_function(activation)
        self.first_norm = nn.GroupNorm(math.gcd(in_channels, 8), in_channels)
        self.first = Convolution(in_channels, out_channels, dimension, 3, boundary, gain=math.sqrt(2.0))
        self.second_norm = nn.GroupNorm(math.gcd(out_channels, 8), out_channels)
        self.second = Convolution(out_channels, out_channels, dimension, 3, boundary)
        self.skip = (
            nn.Identity()
            if in_channels == out_channels
            else Convolution(in_channels, out_channels, dimension, 1, boundary)
        )

    def forward(self, u: Tensor) -> Tensor:
        v = self.first(self.function(self.first_norm(u)))
        return self.skip(u) + self.second(self.function(self.second_norm(v)))


class UNet(nn.Module):
    """Convolutions on grids that get coarser and finer again, (B, C_in, *points) -> (B, C_out, *points).

    Each of `levels` halvings doubles the channels; on the way back the finer features are joined. Group
    normalisation and two residual blocks per level and direction. With circular boundaries it commutes
    with shifts by 2^levels points.

    Args:
        in_channels: C_in.
        out_channels: C_out.
        dimension: number of space axes, 1 to 3.
        width: channels on the finest grid.
        levels: number of halvings; every axis must be divisible by 2^levels.
        boundary: "circular" for periodic axes, "zeros" or "replicate".
        activation: nonlinearity.

    Raises:
        ValueError: a size is out of range; in `forward`, an axis is not divisible by 2^levels.

    After the modern U-Net of Gupta and Brandstetter, Towards Multi-spatiotemporal-scale Generalized PDE
    Modeling (2022), with nearest-neighbour refinement instead of transposed convolutions, which leave
    a checkerboard.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        dimension: int,
        width: int = 16,
        levels: int = 3,
        boundary: Boundary = "circular",
        activation: Activation = "gelu",
    ) -> None:
        super().__init__()
        if min(in_channels, out_channels, width) < 1 or levels < 0:
            raise ValueError(
                f"UNet got in_channels={in_channels}, out_channels={out_channels}, width={width}, levels={levels}; "
                "expected at least one channel and levels >= 0."
            )
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.dimension = dimension
        self.width = width
        self.levels = levels
        self.boundary = boundary
        self.activation = activation
        self.function = activation_function(activation)

        def block(before: int, after: int) -> ResidualBlock:
            return ResidualBlock(before, after, dimension, activation, boundary)

        widths = [width * 2**level for level in range(levels + 1)]
        self.lift = Convolution(in_channels, width, dimension, 3, boundary)
        self.down = nn.ModuleList(nn.Sequential(block(w, w), block(w, w)) for w in widths[:-1])
        self.coarsen = nn.ModuleList(
            Convolution(w, 2 * w, dimension, 3, boundary, stride=2) for w in widths[:-1]
        )
        self.middle = nn.Sequential(block(widths[-1], widths[-1]), block(widths[-1], widths[-1]))
        self.refine = nn.ModuleList(Convolution(2 * w, w, dimension, 3, boundary) for w in widths[:-1])
        self.up = nn.ModuleList(nn.Sequential(block(2 * w, w), block(w, w)) for w in widths[:-1])
        self.norm = nn.GroupNorm(math.gcd(width, 8), width)
        self.project = Convolution(width, out_channels, dimension, 3, boundary)

    def forward(self, u: Tensor) -> Tensor:
        if u.ndim != self.dimension + 2 or u.shape[1] != self.in_channels:
            raise ValueError(
                f"UNet got a field of shape {tuple(u.shape)}; expected (B, {self.in_channels}, *points) with "
                f"{self.dimension} space axes."
            )
        factor = 2**self.levels
        if any(n % factor for n in u.shape[2:]):
            raise ValueError(
                f"UNet got points {tuple(u.shape[2:])}; with levels={self.levels} every axis must be divisible by "
                f"{factor}. Use fewer levels or another grid."
            )
        u = self.lift(u)
        skips = []
        for blocks, coarsen in zip(self.down, self.coarsen, strict=True):
            u = blocks(u)
            skips.append(u)
            u = coarsen(u)
        u = self.middle(u)
        for level in reversed(range(self.levels)):
            u = self.refine[level](_doubled(u))
            u = self.up[level](torch.cat((u, skips[level]), dim=1))
        return self.project(self.function(self.norm(u)))


def _doubled(u: Tensor) -> Tensor:
    """Every point twice along every space axis."""
    for axis in range(2, u.ndim):
        u = u.repeat_interleave(2, dim=axis)
    return u
