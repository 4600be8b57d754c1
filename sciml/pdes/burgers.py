"""Burgers' equation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sciml.calculus.base import Calculus
from sciml.domains import Domain
from sciml.pdes.base import SemiLinear, integral, is_periodic
from sciml.pdes.parameters import Parameter, check_parameter, fit
from sciml.trajectory import Field

# Wave vectors of the exact solution in 1D, 2D and 3D, at right angles to each other.
_WAVES = {
    1: ((1.0,),),
    2: ((1.0, 1.0), (1.0, -1.0)),
    3: ((1.0, 1.0, 1.0), (1.0, -1.0, 0.0)),
}


@dataclass(frozen=True)
class Burgers(SemiLinear):
    """Viscous Burgers' equation, u_t + (u . grad) u = nu lap(u), one channel per axis.

    In 1D the non-linear term is the divergence of u^2/2, so that the integral of u is kept on a periodic
    grid; in 2D and 3D (u . grad) u is no divergence, and div(u u)/2, which is one, differs from it by
    u div(u)/2 and is another equation: the Cole-Hopf solution does not satisfy it.

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
        nu = torch.as_tensor(fit(self.viscosity, x), dtype=x.dtype, device=x.device)
        time = torch.as_tensor(t, dtype=x.dtype, device=x.device)
        if not float(nu.detach().min()) > 0 or float(time.detach().min()) < 0:
            raise ValueError(
                f"Burgers.exact got viscosity {float(nu.detach().min()):g} and times from "
                f"{float(time.detach().min()):g}; Cole-Hopf needs a positive viscosity and times of at "
                "least 0."
            )
        total = torch.zeros((), dtype=x.dtype, device=x.device)
        for wave in _WAVES[x.shape[1]]:
            k = x.new_tensor(wave).reshape(1, -1, *[1] * (x.ndim - 2))
            square = float(k.square().sum())
            total = total + k * _steepening_sine((k * x).sum(dim=1, keepdim=True), square * time, nu)
        return total

    def exact_lengths(self, dimension: int) -> tuple[float, ...]:
        """Sides of the periodic box of `exact` [length]."""
        return (2 * math.pi,) * dimension


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
