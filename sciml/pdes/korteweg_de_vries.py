"""The Korteweg-de Vries equation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sciml.calculus import Spectral
from sciml.calculus.base import Calculus
from sciml.domains import Domain, Grid
from sciml.pdes.base import SemiLinear, integral, is_periodic
from sciml.pdes.parameters import Parameter, check_parameter, fit
from sciml.pdes.soliton_trains import sech_squared_speed, sech_squared_train
from sciml.trajectory import Field

# Side of the box and inverse width of the soliton of the exact solution.
_SIDE = {1: 40.0, 2: 6.0, 3: 6.0}
_WAVENUMBER = {1: 1.0, 2: 0.75, 3: 0.75}


@dataclass(frozen=True)
class KortewegDeVries(SemiLinear):
    """Korteweg-de Vries equation, u_t + alpha u u_x + beta u_xxx + gamma u_xxxx = 0.

    In 2D and 3D the equation of Zakharov and Kuznetsov, the same along x with the dispersion of waves
    across it: u_t + alpha u u_x + beta lap(u)_x + gamma lap(lap(u)) = 0.

    On a periodic box the integral of u is kept; without gamma also those of u^2 and of
    alpha u^3/6 - beta |grad u|^2/2 (with alpha = 6, beta = 1 that of u^3 - |grad u|^2/2). In 1D these are
    the first of infinitely many, and solitons pass each other unchanged but for a shift.

    The linear part is purely dispersive, so nothing damps what a coarse grid cuts off: a soliton of
    width w needs a spacing of about w/4. Single precision loses the invariants.

    Args:
        convection: alpha [length/(time u)]; 6 is the usual form, 1 the form u u_x.
        dispersion: beta [length^3/time].
        hyperdiffusion: gamma [length^4/time], not negative.

    Korteweg and de Vries, Philosophical Magazine 39 (1895) 422-443; Zakharov and Kuznetsov, Soviet Physics
    JETP 39 (1974) 285-286.
    """

    convection: Parameter = 6.0
    dispersion: Parameter = 1.0
    hyperdiffusion: Parameter = 0.0

    fields: ClassVar[tuple[Field, ...]] = (Field("u"),)

    def __post_init__(self) -> None:
        check_parameter("KortewegDeVries", "convection", self.convection)
        check_parameter("KortewegDeVries", "dispersion", self.dispersion)
        check_parameter("KortewegDeVries", "hyperdiffusion", self.hyperdiffusion, minimum=0.0)

    def linear(self, u: Tensor, calc: Calculus) -> Tensor:
        third = calc.derivative(u, 0, 3) if calc.dimension == 1 else calc.derivative(calc.laplacian(u), 0)
        rate = -fit(self.dispersion, u) * third
        if self._damps():
            rate = rate - fit(self.hyperdiffusion, u) * calc.laplacian(calc.laplacian(u))
        return rate

    def nonlinear(self, u: Tensor, calc: Calculus) -> Tensor:
        return -0.5 * fit(self.convection, u) * calc.derivative(u.square(), 0)

    def nonlinear_rate(self, grid: Grid, max_speed: float) -> float:
        """|alpha| max|u|/dx, with `max_speed` read as the largest |u|."""
        return float(torch.as_tensor(self.convection).detach().abs().max()) * max_speed / grid.spacing[0]

    def invariants(self, u: Tensor, domain: Domain) -> Mapping[str, Tensor]:
        if not is_periodic(domain):
            return {}
        kept = {"mass": integral(u, domain)[:, 0]}
        if not self._damps() and isinstance(domain, Grid):
            slope = Spectral(domain).to(u.device).gradient(u).square().sum(dim=2)
            density = fit(self.convection, u) * u**3 / 6 - fit(self.dispersion, u) * slope / 2
            kept["momentum"] = integral(u.square(), domain)[:, 0]
            kept["energy"] = integral(density, domain)[:, 0]
        return kept

    def exact(self, x: Tensor, t: Tensor | float) -> Tensor:
        """A soliton on a periodic box at points x (B, D, *points) and times t.

        In 1D one of speed 4 beta and height 12 beta/alpha on a box of side 40, crest at 10 for t = 0. The
        sum over its images is a solution too, with the speed of `soliton_trains`, so the box costs
        nothing. In 2D and 3D wider crests along the diagonal x + y (+ z) on a box of side 6, where they
        overlap. Differentiable in x and t.

        Raises:
            ValueError: gamma is not zero, or alpha is zero.
        """
        if self._damps() or not bool(torch.as_tensor(self.convection).detach().abs().min() > 0):
            raise ValueError(
                f"KortewegDeVries.exact got hyperdiffusion {self.hyperdiffusion} and convection "
                f"{self.convection}; solitons need hyperdiffusion 0 and a convection other than 0."
            )
        dimension = x.shape[1]
        side, k = _SIDE[dimension], _WAVENUMBER[dimension]
        # In s = x + y + z the Laplacian is D d^2/ds^2: beta becomes D beta.
        beta = dimension * fit(self.dispersion, x)
        s = x.sum(dim=1, keepdim=True) - side / 4 - beta * sech_squared_speed(k, side) * t
        return 12 * beta / fit(self.convection, x) * sech_squared_train(s, k, side)

    def exact_lengths(self, dimension: int) -> tuple[float, ...]:
        """Sides of the periodic box of `exact` [length]."""
        return (_SIDE[dimension],) * dimension

    def _damps(self) -> bool:
        gamma = self.hyperdiffusion
        return bool(gamma.requires_grad or gamma.any()) if isinstance(gamma, Tensor) else gamma != 0.0
