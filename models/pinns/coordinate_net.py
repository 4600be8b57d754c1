"""A plain network of place and time."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sciml.models.layers.activation import Activation, activation_function


def box_features(
    x: Tensor,
    lengths: Sequence[float],
    origin: Sequence[float],
    periodic: Sequence[bool],
    harmonics: int,
) -> list[Tensor]:
    """What a network sees of points in a box, (B, D, *points) -> tensors (B, 1, *points).

    cos(2 pi k s) and sin(2 pi k s), k = 1..harmonics, of a periodic axis, s = (x - origin)/length, so that whatever is
    computed from them is periodic with all its derivatives; 2 s - 1 of others.
    """
    features = []
    for axis, (length, low, wrapped) in enumerate(zip(lengths, origin, periodic, strict=True)):
        s = (x[:, axis : axis + 1] - low) / length
        if not wrapped:
            features.append(2.0 * s - 1.0)
            continue
        for k in range(1, harmonics + 1):
            angle = 2.0 * math.pi * k * s
            features += [torch.cos(angle), torch.sin(angle)]
    return features


class CoordinateNet(nn.Module):
    """A multilayer perceptron of place, and of time where it is given, (B, D, *points) -> (B, C, *points).

    Smooth, with no condition built in but periodicity: on periodic axes it sees sines and cosines only
    (`box_features`). What `HardConditions`, `InitialState`, `SolenoidalNet` and `HelmholtzNet` are built around.

    Args:
        dimension: number of space axes D.
        out_channels: C.
        width: neurons of a hidden layer.
        layers: number of hidden layers.
        activation: nonlinearity, smooth.
        lengths: side of the box per axis [length].
        origin: its low corner, one number or one per axis [length].
        periodic: whether the axes are, one answer or one per axis.
        harmonics: highest k in the features of a periodic axis.
        horizon: last time, for networks of place and time; None for those of place alone [time].

    Raises:
        ValueError: numbers of axes do not fit, a size is not positive, or the activation is "relu".

    Dong and Ni, Journal of Computational Physics 435 (2021) 110242, for periodic features.
    """

    def __init__(
        self,
        dimension: int,
        out_channels: int,
        width: int = 32,
        layers: int = 3,
        activation: Activation = "tanh",
        lengths: Sequence[float] | None = None,
        origin: float | Sequence[float] = 0.0,
        periodic: bool | Sequence[bool] = False,
        harmonics: int = 2,
        horizon: float | None = None,
    ) -> None:
        super().__init__()
        self.dimension, self.out_channels = dimension, out_channels
        self.lengths = (1.0,) * dimension if lengths is None else tuple(float(v) for v in lengths)
        self.origin = (float(origin),) * dimension if isinstance(origin, (int, float)) else tuple(origin)
        self.periodic = (periodic,) * dimension if isinstance(periodic, bool) else tuple(periodic)
        self.harmonics, self.horizon = harmonics, horizon
        if {len(self.lengths), len(self.origin), len(self.periodic)} != {dimension}:
            raise ValueError(
                f"CoordinateNet got dimension={dimension}, lengths={self.lengths}, origin={self.origin}, "
                f"periodic={self.periodic}; expected one of each per axis."
            )
        if (
            min(dimension, out_channels, width, layers, harmonics) < 1
            or min(*self.lengths, horizon or 1.0) <= 0
        ):
            raise ValueError(
                f"CoordinateNet got dimension={dimension}, out_channels={out_channels}, width={width}, layers={layers}, "
                f"harmonics={harmonics}, lengths={self.lengths}, horizon={horizon}; expected positive numbers."
            )
        if activation == "relu":
            raise ValueError(
                "CoordinateNet got activation 'relu', whose second derivative is zero; use 'tanh', 'gelu' or 'silu'."
            )
        self._function = activation_function(activation)
        features = sum(2 * harmonics if wrapped else 1 for wrapped in self.periodic)
        sizes = [features + (horizon is not None), *[width] * layers, out_channels]
        self.linears = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes[:-1], sizes[1:], strict=True))
        for layer in self.linears:
            assert isinstance(layer, nn.Linear)
            nn.init.xavier_normal_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, t: Tensor | None = None) -> Tensor:
        """Values at points x (B, D, *points), and times t (B, 1, *points) of a network that has a horizon."""
        if x.ndim < 3 or x.shape[1] != self.dimension or (t is None) != (self.horizon is None):
            raise ValueError(
                f"CoordinateNet got points of shape {tuple(x.shape)} with{'out' if t is None else ''} times; expected "
                f"(B, {self.dimension}, *points), with times where the network has a horizon ({self.horizon})."
            )
        features = box_features(x, self.lengths, self.origin, self.periodic, self.harmonics)
        if t is not None and self.horizon is not None:
            features.append(2.0 * t / self.horizon - 1.0)
        h = torch.cat(features, dim=1).movedim(1, -1)
        for layer in self.linears[:-1]:
            h = self._function(layer(h))
        out: Tensor = self.linears[-1](h)
        return out.movedim(-1, 1)
