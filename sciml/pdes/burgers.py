"""Burgers' equation and its two conservative forms."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sciml.calculus.base import Calculus
from sciml.domains import Domain, Grid
from sciml.pdes.base import SemiLinear, integral, is_periodic
from sciml.pdes.parameters import Parameter, check_parameter, fit
from sciml.trajectory import Field

# Wave vectors of the exact solution in 1D, 2D and 3D, at right angles to each other.
_WAVES = {
    1: ((1.0,),),
    2: ((1.0, 1.0), (1.0, -1.0)),
    3: ((1.0, 1.0, 1.0), (1.0, -1.0, 0.0)),
}
# Direction of the velocity in the exact plane wave of the conservative form along k = (1, ..., 1), with
# k . c = |k|^2 and not parallel to k.
_DIRECTION = {1: (1.0,), 2: (1.5, 0.5), 3: (2.0, 1.25, -0.25)}


@dataclass(frozen=True)
class Burgers(SemiLinear):
    """Viscous Burgers' equation, u_t + (u . grad) u = nu lap(u), one channel per axis.

    In 1D the non-linear term is the divergence of u^2/2, so that the integral of u is kept on a periodic
    grid; in 2D and 3D (u . grad) u is no divergence, and div(u u)/2 = (u . grad) u/2 + u div(u)/2, which is
    one, is the term of another equation (`ConservativeBurgers`), which the Cole-Hopf solution does not satisfy.

    Args:
        viscosity: nu [length^2/time], not negative.
    """

    viscosity: Parameter = 0.1

    fields: ClassVar[tuple[Field, ...]] = (Field("velocity", "m/s", rank=1),)

    def __post_init__(self) -> None:
        check_parameter("Burgers", "viscosity", self.viscosity, minimum=0.0)

    def linear(self, u: Tensor, calc: Calculus) -> Tensor:
        return fit(self.viscosity, u) * calc.laplacian(u)

    def nonlinear(self, u: Tensor, calc: Calculus) -> Tensor:
        if u.shape[1] != calc.dimension:
            raise ValueError(
                f"Burgers got {u.shape[1]} channels in {calc.dimension} space axes; expected one velocity "
                "component per axis."
            )
        if calc.dimension == 1:
            return -0.5 * calc.derivative(u.square(), 0)
        return -(u.unsqueeze(1) * calc.gradient(u)).sum(dim=2)

    def invariants(self, u: Tensor, domain: Domain) -> Mapping[str, Tensor]:
        if domain.dimension > 1 or not is_periodic(domain):
            return {}
        return {"momentum": integral(u, domain)[:, 0]}

    def exact(self, x: Tensor, t: Tensor | float) -> Tensor:
        """Cole-Hopf solution at points x (B, D, *points) and times t, on a box of side 2 pi.

        In 1D the one that starts as sin(x), steepens until t = 1 and has its front at pi. In 2D and 3D
        two such waves cross at a right angle, u = sum_k k f(k.x, |k|^2 t) over the wave vectors (1, 1),
        (1, -1) or (1, 1, 1), (1, -1, 0), with f the solution in 1D: the two factors of phi, and so
        phi itself, solve the heat equation. Differentiable in x, and in t where t > 0.

        Raises:
            ValueError: the viscosity is zero, or a time is negative.
        """
        nu, time = _cole_hopf_arguments("Burgers", self.viscosity, x, t)
        total = torch.zeros((), dtype=x.dtype, device=x.device)
        for wave in _WAVES[x.shape[1]]:
            k = x.new_tensor(wave).reshape(1, -1, *[1] * (x.ndim - 2))
            square = float(k.square().sum())
            total = total + k * _steepening_sine((k * x).sum(dim=1, keepdim=True), square * time, nu)
        return total

    def exact_lengths(self, dimension: int) -> tuple[float, ...]:
        """Sides of the periodic box of `exact` [length]."""
        return (2 * math.pi,) * dimension


@dataclass(frozen=True)
class ConservativeBurgers(SemiLinear):
    """Burgers' equation in conservative vector form, u_t + div(u u)/2 = nu lap(u), one channel per axis.

    Component i obeys d_t u_i + sum_j d_j(u_i u_j)/2 = nu lap(u_i), so that each component's integral is
    kept on a periodic grid. In 1D this is `Burgers`; in 2D and 3D it is another equation, without the
    Cole-Hopf transformation except for waves that depend on one coordinate only.

    Args:
        viscosity: nu [length^2/time], not negative.
    """

    viscosity: Parameter = 0.1

    fields: ClassVar[tuple[Field, ...]] = (Field("velocity", "m/s", rank=1),)

    def __post_init__(self) -> None:
        check_parameter("ConservativeBurgers", "viscosity", self.viscosity, minimum=0.0)

    def linear(self, u: Tensor, calc: Calculus) -> Tensor:
        return fit(self.viscosity, u) * calc.laplacian(u)

    def nonlinear(self, u: Tensor, calc: Calculus) -> Tensor:
        if u.shape[1] != calc.dimension:
            raise ValueError(
                f"ConservativeBurgers got {u.shape[1]} channels in {calc.dimension} space axes; expected one "
                "velocity component per axis."
            )
        return -0.5 * calc.div(u.unsqueeze(1) * u.unsqueeze(2))

    def invariants(self, u: Tensor, domain: Domain) -> Mapping[str, Tensor]:
        if not (isinstance(domain, Grid) and is_periodic(domain)):
            return {}
        total = integral(u, domain)
        return {f"momentum_{name}": total[:, axis] for axis, name in enumerate(domain.axis_names)}

    def exact(self, x: Tensor, t: Tensor | float) -> Tensor:
        """A plane wave along the diagonal on a box of side 2 pi, of `Burgers.exact`'s profile in 1D.

        u = c f(k . x, |k|^2 t) with k = (1, ..., 1) and k . c = |k|^2. Differentiable in x, and in t > 0.

        Raises:
            ValueError: the viscosity is zero, or a time is negative.
        """
        nu, time = _cole_hopf_arguments("ConservativeBurgers", self.viscosity, x, t)
        dimension = x.shape[1]
        direction = x.new_tensor(_DIRECTION[dimension]).reshape(1, -1, *[1] * (x.ndim - 2))
        return direction * _steepening_sine(x.sum(dim=1, keepdim=True), dimension * time, nu)

    def exact_lengths(self, dimension: int) -> tuple[float, ...]:
        """Sides of the periodic box of `exact` [length]."""
        return (2 * math.pi,) * dimension


@dataclass(frozen=True)
class ScalarBurgers(SemiLinear):
    """Burgers' equation of one channel, u_t + (b/2) sum_d d(u^2)/dx_d = nu lap(u).

    The same scalar is carried along every axis, at the speed b u. Its integral is kept on a periodic grid,
    and its extremes bound it.

    Args:
        viscosity: nu [length^2/time], not negative.
        convection: b [length/(time u)].
    """

    viscosity: Parameter = 0.1
    convection: Parameter = 1.0

    fields: ClassVar[tuple[Field, ...]] = (Field("u"),)

    def __post_init__(self) -> None:
        check_parameter("ScalarBurgers", "viscosity", self.viscosity, minimum=0.0)
        check_parameter("ScalarBurgers", "convection", self.convection)

    def linear(self, u: Tensor, calc: Calculus) -> Tensor:
        return fit(self.viscosity, u) * calc.laplacian(u)

    def nonlinear(self, u: Tensor, calc: Calculus) -> Tensor:
        flux = u.square().unsqueeze(2).expand(-1, -1, calc.dimension, *u.shape[2:])
        return -0.5 * fit(self.convection, u) * calc.div(flux)

    def nonlinear_rate(self, grid: Grid, max_speed: float) -> float:
        """|b| max|u| sum_d 1/dx_d, with `max_speed` read as the largest |u|."""
        largest = float(torch.as_tensor(self.convection).detach().abs().max())
        return max(largest * max_speed * sum(1.0 / h for h in grid.spacing), 1e-12)

    def invariants(self, u: Tensor, domain: Domain) -> Mapping[str, Tensor]:
        return {"integral": integral(u, domain)[:, 0]} if is_periodic(domain) else {}

    def exact(self, x: Tensor, t: Tensor | float) -> Tensor:
        """A wave along the diagonal on a box of side 2 pi: f(x + y + z, D t)/b with `Burgers.exact`'s f in 1D.

        Differentiable in x, and in t > 0.

        Raises:
            ValueError: viscosity or convection is zero, or a time is negative.
        """
        nu, time = _cole_hopf_arguments("ScalarBurgers", self.viscosity, x, t)
        if not bool(torch.as_tensor(self.convection).detach().abs().min() > 0):
            raise ValueError(
                f"ScalarBurgers.exact got convection {self.convection}; Cole-Hopf needs one other than 0."
            )
        wave = _steepening_sine(x.sum(dim=1, keepdim=True), x.shape[1] * time, nu)
        return wave / fit(self.convection, x)

    def exact_lengths(self, dimension: int) -> tuple[float, ...]:
        """Sides of the periodic box of `exact` [length]."""
        return (2 * math.pi,) * dimension


def _cole_hopf_arguments(
    owner: str, viscosity: Parameter, x: Tensor, t: Tensor | float
) -> tuple[Tensor, Tensor]:
    """Viscosity and time as tensors like x, or ValueError."""
    nu = torch.as_tensor(fit(viscosity, x), dtype=x.dtype, device=x.device)
    time = torch.as_tensor(t, dtype=x.dtype, device=x.device)
    if not float(nu.detach().min()) > 0 or float(time.detach().min()) < 0:
        raise ValueError(
            f"{owner}.exact got viscosity {float(nu.detach().min()):g} and times from "
            f"{float(time.detach().min()):g}; Cole-Hopf needs a positive viscosity and times of at least 0."
        )
    return nu, time


def _steepening_sine(x: Tensor, t: Tensor, nu: Tensor) -> Tensor:
    """u(x, t) from sin(x) in 1D, of points (B, 1, *points), times and viscosities broadcastable to them.

    With phi the convolution of exp(cos(y)/(2 nu)) with the heat kernel, u = -2 nu phi_x/phi is a mean of
    sin(y) under positive weights, so that nothing cancels however thin the front is. The trapezoidal
    rule converges geometrically; the error is rounding. Whitham, Linear and Nonlinear Waves (1974),
    equations 4.6 to 4.9.
    """
    least, last = float(nu.detach().min()), float(t.detach().max())
    # The exponent cos(x - c s)/(2 nu) - s^2, c = sqrt(4 nu t), peaks within |s| <= sqrt(t/(4 nu)) and
    # within |s| <= pi/c, as the next crest of the cosine is never farther than pi. 8 widths of the
    # Gaussian beyond that are enough; its growth off the real axis, like (1 + t) s^2, sets the step.
    reach = math.sqrt(min(last, math.pi) / (4 * least)) + 8.0
    steps = math.ceil(reach * math.sqrt(1.0 + last) / 0.3)
    s = torch.linspace(-reach, reach, 2 * steps + 1, dtype=x.dtype, device=x.device)
    nu, t = (v.unsqueeze(-1) if v.ndim else v for v in (nu, t))
    y = x.unsqueeze(-1) - torch.sqrt(4 * nu * t) * s
    weights = torch.softmax(torch.cos(y) / (2 * nu) - s.square(), dim=-1)
    return (weights * torch.sin(y)).sum(dim=-1)
