"""Functions of place and time that have their boundary values, slopes and initial states by construction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from sciml.models.pinns.distances import Distance, products_of_others
from sciml.models.pinns.fourier_series import FourierSeries
from sciml.models.pinns.slopes import Field, along, axis_slope, gradient

Data = float | Sequence[float] | Callable[..., Tensor]
Ramp = Literal["linear", "exponential", "difference"]


@dataclass(frozen=True)
class BoundaryCondition:
    """value * u + slope * du/dn = data on one piece of a boundary, n pointing out of the domain.

    Args:
        distance: to the piece, see `sciml.models.pinns.distances`.
        data: a number, one per channel (C,), or a function of x, or of x and t, to (B, C or 1, *points).
        value, slope: 1 and 0 give Dirichlet's condition, 0 and 1 Neumann's, others Robin's.

    Raises:
        ValueError: value and slope are both zero.
    """

    distance: Distance
    data: Data = 0.0
    value: float = 1.0
    slope: float = 0.0

    def __post_init__(self) -> None:
        if self.value == 0 and self.slope == 0:
            raise ValueError("BoundaryCondition got neither value nor slope; expected one of them.")


class HardConditions(nn.Module):
    """A network of place that obeys conditions on all pieces of a boundary, for any weights.

        u = sum_i w_i u_i,    w_i = prod_{j != i} phi_j^2 / sum_k prod_{j != k} phi_j^2
        Dirichlet   u_i = data + phi_i N
        otherwise   u_i = N + phi_i (n . grad N + (value N - data)/slope),    n = -grad phi_i

    with the network N and the distance phi_i to piece i, of unit slope. w_i is one on piece i with zero slope, so that
    each condition holds there to rounding; where two pieces meet only Dirichlet data that agree can hold, and where they
    do not both are given half their weight. Away from the boundary u is any function. Data of Dirichlet pieces are
    taken throughout the domain (a lifting). A network around it may be differentiated twice for a residual, but
    second derivatives of distances to segments grow without bound at corners: leave out points close to them.

    Args:
        f: N, a field (B, D, *points) -> (B, C, *points) of single points, with times where u has them.
        conditions: one per piece of the boundary.

    Raises:
        ValueError: there is no condition, or data have another number of channels.

    Sukumar and Srivastava, Computer Methods in Applied Mechanics and Engineering 389 (2022) 114333, sections 3 and 5;
    Rvachev et al., Computational Mechanics 26 (2000), for the structures.
    """

    def __init__(self, f: Field, conditions: Sequence[BoundaryCondition]) -> None:
        super().__init__()
        if not len(conditions):
            raise ValueError("HardConditions got no conditions; give one per piece of the boundary.")
        self.f = f
        self.conditions = tuple(conditions)
        # Data with parameters of their own are trained and stored along.
        self.data = nn.ModuleList(c.data for c in conditions if isinstance(c.data, nn.Module))

    def forward(self, x: Tensor, t: Tensor | None = None) -> Tensor:
        """u at points x (B, D, *points), and times t (B, 1, *points), (B, C, *points)."""
        given = () if t is None else (t,)

        def network(z: Tensor) -> Tensor:
            return self.f(z, *given)

        distances = [condition.distance(x) for condition in self.conditions]
        shares = [product.square() for product in products_of_others(distances)]
        total = torch.stack(shares).sum(dim=0)
        nowhere = total == 0
        weights = [
            torch.where(nowhere, 1.0, s) / torch.where(nowhere, float(len(shares)), total) for s in shares
        ]
        value: Tensor | None = None
        out = torch.zeros((), dtype=x.dtype, device=x.device)
        for condition, phi, weight in zip(self.conditions, distances, weights, strict=True):
            if condition.slope == 0:
                value = network(x) if value is None else value
                data = _data(condition.data, x, given, value) / condition.value
                out = out + weight * (data + phi * value)
                continue
            outward = -gradient(condition.distance, x)
            value, rate = along(network, x, outward)
            lack = condition.value * value - _data(condition.data, x, given, value)
            out = out + weight * (value + phi * (rate + lack / condition.slope))
        return out


def _data(data: Data, x: Tensor, given: tuple[Tensor, ...], like: Tensor) -> Tensor:
    """Data at the points, (B or 1, C or 1, *points or ones)."""
    if callable(data):
        found: Tensor = data(x, *given)
    else:
        found = torch.as_tensor(data, dtype=x.dtype, device=x.device).reshape(1, -1, *[1] * (x.ndim - 2))
    if found.shape[1] not in (1, like.shape[1]):
        raise ValueError(
            f"HardConditions got data of {found.shape[1]} channels for a network of {like.shape[1]}; expected as many, or "
            "one."
        )
    return found


class InitialState(nn.Module):
    """A network of place and time that starts from a given state, for any weights.

        "linear"        u0 + (t/T) N                 with a velocity: u0 + t v0 + (t/T)^2 N
        "exponential"   u0 + (1 - exp(-t/T)) N       with a velocity: u0 + t v0 + (1 - exp(-t/T))^2 N
        "difference"    u0 + N(x, t) - N(x, 0)       with a velocity: ... + t (v0 - dN/dt (x, 0))

    "difference" keeps linear conditions that N obeys at all times and u0 at the start, such as those of
    `HardConditions`, so that initial state and boundary hold together; it costs a second pass. Over several windows in
    time the next one starts from the end of the last, for wave equations with its velocity.

    Args:
        f: N, a field of x (B, D, *points) and t (B, 1, *points) to (B, C, *points).
        initial: u0, a function or module x -> (B, C, *points), or values (C, *shape) on the nodes of the periodic grid of
            a box, which become a `FourierSeries`.
        horizon: T, after which the network has full weight [time].
        ramp: see above.
        velocity: v0 = du/dt at the start, a function of x, for equations of second order in time.
        lengths, origin, periodic: of that box, for initial values on a grid [length].

    Raises:
        ValueError: the ramp is unknown, the horizon is not positive, or values on a grid come without the sides of a box that
            is periodic.

    Lu et al., SIAM Journal on Scientific Computing 43 (2021) B1105, for the first form.
    """

    def __init__(
        self,
        f: Field,
        initial: Callable[[Tensor], Tensor] | Tensor | Sequence[Any],
        horizon: float = 1.0,
        ramp: Ramp = "linear",
        velocity: Callable[[Tensor], Tensor] | None = None,
        lengths: Sequence[float] | None = None,
        origin: float | Sequence[float] = 0.0,
        periodic: bool | Sequence[bool] = True,
    ) -> None:
        super().__init__()
        if ramp not in get_args(Ramp) or not horizon > 0:
            raise ValueError(
                f"InitialState got ramp={ramp!r} and horizon={horizon}; expected one of {list(get_args(Ramp))} and a "
                "positive time."
            )
        self.f, self.velocity = f, velocity
        self.initial: Callable[[Tensor], Tensor]
        if not isinstance(initial, (Tensor, Sequence)):
            self.initial = initial
        elif lengths is not None and (periodic if isinstance(periodic, bool) else all(periodic)):
            self.initial = FourierSeries(initial, lengths, origin)
        else:
            raise ValueError(
                "InitialState got values on a grid for a box that is not periodic, or without lengths; give a function of x "
                "instead."
            )
        self.horizon, self.ramp = float(horizon), ramp

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """u at points x (B, D, *points) and times t (B, 1, *points), (B, C, *points)."""
        start = self.initial(x)
        if self.velocity is not None:
            start = start + t * self.velocity(x)
        if self.ramp == "difference":
            zero = torch.zeros_like(t)
            change = self.f(x, t) - self.f(x, zero)
            if self.velocity is not None:
                change = change - t * axis_slope(lambda s: self.f(x, s), zero, 0)
            return start + change
        time = t / self.horizon
        grown = time if self.ramp == "linear" else -torch.expm1(-time)
        return start + (grown if self.velocity is None else grown.square()) * self.f(x, t)
