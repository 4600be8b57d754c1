"""Fourier neural operators of the neuraloperator package, in one to three dimensions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sciml.models.layers.activation import Activation, activation_function


class FNO(nn.Module):
    """Fourier neural operator, (B, C_in, *points) -> (B, C_out, *points) at any resolution.

    The network is the one of the neuraloperator package with its spectral convolution replaced by
    `SymmetricSpectralConv`, which is right at odd sizes, in float64 and under `torch.func`, and with a
    plain state_dict. neuraloperator is imported when the first FNO is made.

    Args:
        in_channels: C_in.
        out_channels: C_out.
        modes: highest wavenumber K kept along each axis, in waves per box; its length is the number of
            space axes. Modes -K..K are kept, which the package calls n_modes = 2K + 1 (2K along the
            last axis) and the original code "modes" = K + 1. On a grid of n points only those below
            n/2 take part.
        width: channels between the layers.
        layers: number of Fourier blocks.
        activation: nonlinearity.
        lifting_ratio: hidden channels of the lifting over `width`; 0 makes the lifting linear.
        projection_ratio: hidden channels of the projection over `width`.
        channel_mlp: end each block with a two-layer map of the channels, as the package does. Without
            it a block is act(spectral(u) + linear(u)), as in the first paper.
        spectral_scale: factor on the spectral weights with which training starts, against the
            package's standard deviation sqrt(1 / width). Starting small matters for repeated steps: on 1D
            advection (12 waves, 8 channels, 4 plain blocks, 1500 updates) the error after one step is
            0.027, 0.016, 0.008, 0.009 for 1, 0.3, 0.05, 0.01, and at 3 rollouts blow up. On Darcy flow
            (16 x 16, 1000 samples) 1 and 0.05 reach the same error.
        coordinates: append the coordinates i/n of the points to the input. Without them the operator
            commutes with translations, which is right for an autonomous equation on a periodic box.
        padding: share of each axis that is added as zeros on both sides and cut off again, for
            problems that are not periodic; about 0.1.

    Raises:
        ValueError: a size is out of range.

    Li et al., Fourier Neural Operator for Parametric Partial Differential Equations (ICLR 2021).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        modes: Sequence[int],
        width: int,
        layers: int = 4,
        activation: Activation = "gelu",
        lifting_ratio: float = 2.0,
        projection_ratio: float = 2.0,
        channel_mlp: bool = True,
        spectral_scale: float = 0.05,
        coordinates: bool = False,
        padding: float = 0.0,
    ) -> None:
        super().__init__()
        self.modes = tuple(int(k) for k in modes)
        if not 1 <= len(self.modes) <= 3 or min(self.modes) < 1:
            raise ValueError(
                f"FNO got modes={self.modes}; expected the highest wavenumber, at least 1, of each of one to three axes."
            )
        if min(in_channels, out_channels, width, layers) < 1:
            raise ValueError(
                f"FNO got in_channels={in_channels}, out_channels={out_channels}, width={width}, "
                f"layers={layers}; expected at least 1 of each."
            )
        if lifting_ratio < 0 or projection_ratio * width < 1 or spectral_scale <= 0 or not 0 <= padding < 1:
            raise ValueError(
                f"FNO got lifting_ratio={lifting_ratio}, projection_ratio={projection_ratio}, "
                f"spectral_scale={spectral_scale}, padding={padding}; expected lifting_ratio >= 0, at least one "
                "hidden channel in the projection, a positive scale, and a padding in [0, 1)."
            )
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.width = width
        self.layers = layers
        self.activation = activation
        self.lifting_ratio = lifting_ratio
        self.projection_ratio = projection_ratio
        self.channel_mlp = channel_mlp
        self.spectral_scale = spectral_scale
        self.coordinates = coordinates
        self.padding = padding

        from sciml.models.operators.spectral import (  # costs seconds
            Network,
            PlainBlocks,
            SymmetricSpectralConv,
            scale_spectral_weights,
        )

        dimension = len(self.modes)
        n_modes = tuple(2 * k + 1 for k in self.modes[:-1]) + (2 * self.modes[-1],)
        nonlinearity = activation_function(activation)
        self.network = Network(
            n_modes=n_modes,
            in_channels=in_channels + (dimension if coordinates else 0),
            out_channels=out_channels,
            hidden_channels=width,
            n_layers=layers,
            lifting_channel_ratio=lifting_ratio,
            projection_channel_ratio=projection_ratio,
            # The package's own embedding is cached by size, wrongly after a change of device or dtype.
            positional_embedding=None,
            non_linearity=nonlinearity,
            use_channel_mlp=channel_mlp,
            domain_padding=padding if padding > 0 else None,
            conv_module=SymmetricSpectralConv,
        )
        if not channel_mlp:
            self.network.fno_blocks = PlainBlocks(
                in_channels=width,
                out_channels=width,
                n_modes=n_modes,
                n_layers=layers,
                non_linearity=nonlinearity,
                use_channel_mlp=False,
                conv_module=SymmetricSpectralConv,
            )
        if spectral_scale != 1.0:
            scale_spectral_weights(self.network, spectral_scale)

    def forward(self, u: Tensor) -> Tensor:
        if u.ndim != len(self.modes) + 2 or u.shape[1] != self.in_channels:
            raise ValueError(
                f"FNO got a field of shape {tuple(u.shape)}; expected (B, {self.in_channels}, *points) with "
                f"{len(self.modes)} space axes."
            )
        return self.network(with_coordinates(u) if self.coordinates else u)


def with_coordinates(u: Tensor) -> Tensor:
    """Append the coordinates i/n of the points as channels, (B, C, *points) -> (B, C + D, *points)."""
    axes = [torch.arange(n, dtype=u.dtype, device=u.device) / n for n in u.shape[2:]]
    x = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    return torch.cat((u, x.expand(u.shape[0], *x.shape)), dim=1)
