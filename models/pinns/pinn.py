"""A network of space and time that has its initial state and its boundary values by construction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sciml.domains import Grid
from sciml.models.layers.activation import Activation, activation_function
from sciml.models.pinns.coordinate_net import box_features
from sciml.models.pinns.fourier_series import FourierSeries


class PINN(nn.Module):
    """u(x, t) = u0(x) + (t / T) N(x, t) on a box, one solution of one equation.

    The initial state holds exactly for any weights. On periodic axes N sees cos(2 pi k x/L) and
    sin(2 pi k x/L) only, so u is periodic with all its derivatives; on bounded axes N is multiplied by
    4 s (1 - s), s = x/L, so u keeps the values of u0 at the walls. No term for either is left in the loss.

    A small residual does not imply a small error (transport over many wavelengths is a known failure):
    compare with a reference. For forward problems in one or two dimensions a classical solver is faster
    by orders of magnitude.

    Args:
        dimension: number of space axes D.
        out_channels: C.
        width: neurons of a hidden layer.
        layers: number of hidden layers.
        activation: nonlinearity, smooth: "tanh", "gelu" or "silu".
        lengths: side of the box per axis [length].
        horizon: last time T [time].
        periodic: whether the axes are, one answer or one per axis.
        initial: u0, as values (C, *shape) on the nodes of the periodic grid of the box (a tensor or nested
            lists; interpolated by a trigonometric polynomial), or as a module or function
            x (B, D, *points) -> (B, C, *points).
        origin: low corner of the box, one number or one per axis [length].
        harmonics: highest k in the features of a periodic axis.

    Raises:
        ValueError: numbers of axes or channels do not fit, or values on a grid are given for a box that is
            not periodic.

    Hard initial and periodic conditions: Lu et al., Physics-informed neural networks with hard
    constraints for inverse design (2021), section 2.3; Dong and Ni, A method for representing periodic
    functions (2021).
    """

    def __init__(
        self,
        dimension: int,
        out_channels: int,
        width: int,
        layers: int,
        activation: Activation = "tanh",
        lengths: Sequence[float] = (1.0,),
        horizon: float = 1.0,
        periodic: bool | Sequence[bool] = True,
        initial: Tensor | Sequence[Any] | nn.Module | Callable[[Tensor], Tensor] | None = None,
        origin: float | Sequence[float] = 0.0,
        harmonics: int = 2,
    ) -> None:
        super().__init__()
        self.dimension = dimension
        self.out_channels = out_channels
        self.width = width
        self.layers = layers
        self.activation = activation
        self.lengths = tuple(float(length) for length in lengths)
        self.horizon = float(horizon)
        self.periodic = (periodic,) * dimension if isinstance(periodic, bool) else tuple(periodic)
        self.origin = (float(origin),) * dimension if isinstance(origin, (int, float)) else tuple(origin)
        self.harmonics = harmonics
        if not 1 <= dimension <= 3 or {len(self.lengths), len(self.periodic), len(self.origin)} != {
            dimension
        }:
            raise ValueError(
                f"PINN got dimension={dimension}, lengths={self.lengths}, periodic={self.periodic}, "
                f"origin={self.origin}; expected one to three axes and one of each per axis."
            )
        if min(out_channels, width, layers, harmonics) < 1 or min(*self.lengths, self.horizon) <= 0:
            raise ValueError(
                f"PINN got out_channels={out_channels}, width={width}, layers={layers}, harmonics={harmonics}, "
                f"lengths={self.lengths}, horizon={horizon}; expected at least 1 of the first and positive sides "
                "and times."
            )
        if activation == "relu":
            raise ValueError(
                "PINN got activation 'relu', whose second derivative is zero; use 'tanh', 'gelu' or 'silu'."
            )
        if initial is None:
            raise ValueError(
                "PINN needs `initial`, the state at time 0: values (C, *shape) on a grid, or a function."
            )
        self._function = activation_function(activation)
        self._initial: Callable[[Tensor], Tensor]
        if not isinstance(initial, (Tensor, Sequence)):
            self._initial = initial
        else:
            if not all(self.periodic):
                raise ValueError(
                    "PINN got initial values on a grid for a box that is not periodic; give a function of x instead."
                )
            series = FourierSeries(initial, self.lengths, self.origin)
            if series.values.shape[0] != out_channels:
                raise ValueError(
                    f"PINN got initial values of {series.values.shape[0]} channels; expected {out_channels}."
                )
            self._initial = series
        features = 1 + sum(2 * harmonics if wrapped else 1 for wrapped in self.periodic)
        sizes = [features] + [width] * layers + [out_channels]
        self.linears = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes[:-1], sizes[1:], strict=True))
        for layer in self.linears:
            assert isinstance(layer, nn.Linear)
            nn.init.xavier_normal_(layer.weight)
            nn.init.zeros_(layer.bias)

    @property
    def initial(self) -> Any:
        """What the initial state was made from: the values on the grid, or the function."""
        return self._initial.values if isinstance(self._initial, FourierSeries) else self._initial

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """The solution at points x (B, D, *points) and times t (B, 1, *points), as (B, C, *points)."""
        if x.ndim < 3 or x.shape[1] != self.dimension or t.shape[1:2] != (1,) or t.shape[2:] != x.shape[2:]:
            raise ValueError(
                f"PINN got points of shape {tuple(x.shape)} and times of shape {tuple(t.shape)}; expected "
                f"(B, {self.dimension}, *points) and (B, 1, *points)."
            )
        time = t / self.horizon
        features = [2.0 * time - 1.0]
        features += box_features(x, self.lengths, self.origin, self.periodic, self.harmonics)
        walls = None
        for axis, (length, low, wrapped) in enumerate(
            zip(self.lengths, self.origin, self.periodic, strict=True)
        ):
            if not wrapped:
                s = (x[:, axis : axis + 1] - low) / length
                bump = 4.0 * s * (1.0 - s)
                walls = bump if walls is None else walls * bump
        h = torch.cat(features, dim=1).movedim(1, -1)
        for layer in self.linears[:-1]:
            h = self._function(layer(h))
        n = self.linears[-1](h).movedim(-1, 1)
        if walls is not None:
            n = walls * n
        return self._initial(x) + time * n


def trajectory(pinn: PINN, grid: Grid, times: Tensor | Sequence[float]) -> Tensor:
    """Evaluate on all points of a grid at each time, (1, T, C, *shape), without gradients.

    Raises:
        ValueError: a time lies outside [0, horizon], where the network was not trained.
    """
    at = torch.as_tensor(times, dtype=torch.float64).reshape(-1)
    if bool((at < 0).any()) or bool((at > pinn.horizon * (1 + 1e-9)).any()):
        raise ValueError(
            f"Got times from {float(at.min())} to {float(at.max())}; the network covers 0 to {pinn.horizon}."
        )
    parameter = next(pinn.parameters())
    x = grid.coordinates(dtype=parameter.dtype, device=parameter.device).unsqueeze(0)
    with torch.no_grad():
        frames = [pinn(x, torch.full_like(x[:, :1], float(time))) for time in at]
    return torch.stack(frames, dim=1)
