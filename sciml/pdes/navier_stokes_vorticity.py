"""Incompressible flow in the plane, in terms of its vorticity."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sciml.calculus.base import Calculus
from sciml.calculus.spectral import Spectral
from sciml.domains import Domain, Grid
from sciml.pdes.base import SemiLinear, integral, is_periodic
from sciml.pdes.forcings import ShearForcing, checked_forcing, response, shear_of
from sciml.pdes.parameters import Parameter, check_parameter, fit
from sciml.trajectory import Field


@dataclass(frozen=True)
class NavierStokesVorticity(SemiLinear):
    """2D vorticity equation, w_t + div(v w) = nu lap(w) - mu w + f, with v = (psi_y, -psi_x), lap psi = -w.

    On a periodic box without mean flow: w has zero mean, as the curl of a periodic velocity, and
    `velocity` leaves the mean of w out. Without viscosity, drag and forcing the energy |v|^2/2 and the
    enstrophy w^2/2 are kept.

    Args:
        viscosity: nu [length^2/time], not negative.
        drag: mu [1/time], linear friction with the ground.
        forcing: none; a pair (k, F) for Kolmogorov forcing F sin(k y) of the x velocity, which is
            f = -F k cos(k y) here, with k [1/length] fitting the box; a `ShearForcing`, such as
            `fno_forcing()`; or f itself, (1 or B, 1, *points) [1/time^2].
    """

    viscosity: Parameter = 0.01
    drag: Parameter = 0.0
    forcing: tuple[float, float] | ShearForcing | Tensor | None = None

    fields: ClassVar[tuple[Field, ...]] = (Field("vorticity", "1/s"),)
    dimensions: ClassVar[tuple[int, ...]] = (2,)

    def __post_init__(self) -> None:
        check_parameter("NavierStokesVorticity", "viscosity", self.viscosity, minimum=0.0)
        check_parameter("NavierStokesVorticity", "drag", self.drag)
        object.__setattr__(self, "forcing", checked_forcing("NavierStokesVorticity", self.forcing))

    def velocity(self, w: Tensor, calc: Calculus) -> Tensor:
        """Velocity (B, 2, *points) [length/time] of the vorticity (B, 1, *points)."""
        stream = -calc.inverse_laplacian(w)
        return torch.cat([calc.derivative(stream, 1), -calc.derivative(stream, 0)], dim=1)

    def force(self, w: Tensor, calc: Calculus) -> Tensor | None:
        """The forcing f on the points of w, (1 or B, 1, *points), or None."""
        if isinstance(self.forcing, Tensor):
            return self.forcing.to(w)
        shear = shear_of(self.forcing)
        if shear is None:
            return None
        shear.check(calc)
        return shear.vorticity(calc.coordinates(w))

    def linear(self, u: Tensor, calc: Calculus) -> Tensor:
        return fit(self.viscosity, u) * calc.laplacian(u) - fit(self.drag, u) * u

    def nonlinear(self, u: Tensor, calc: Calculus) -> Tensor:
        rate = -calc.div(self.velocity(u, calc).unsqueeze(1) * u.unsqueeze(2))
        force = self.force(u, calc)
        return rate if force is None else rate + force

    def invariants(self, u: Tensor, domain: Domain) -> Mapping[str, Tensor]:
        if not is_periodic(domain):
            return {}
        unforced = self.forcing is None
        free = not bool(torch.as_tensor(self.drag).any())
        kept = {}
        if free and not isinstance(self.forcing, Tensor):
            kept["circulation"] = integral(u, domain)[:, 0]
        if (
            free
            and unforced
            and not bool(torch.as_tensor(self.viscosity).any())
            and isinstance(domain, Grid)
        ):
            speed = self.velocity(u, Spectral(domain).to(u.device))
            kept["energy"] = 0.5 * integral(speed.square(), domain).sum(dim=1)
            kept["enstrophy"] = 0.5 * integral(u.square(), domain)[:, 0]
        return kept

    def exact(self, x: Tensor, t: Tensor | float) -> Tensor:
        """Vorticity at points x (B, 2, *points) and times t of a flow whose transport term vanishes.

        Without forcing the Taylor-Green vortices 2 cos(x) cos(y) exp(-(2 nu + mu) t) on a box of side
        2 pi; with a pair or a `ShearForcing` the laminar flow that starts from rest.

        Raises:
            ValueError: the forcing is a field.
        """
        t = torch.as_tensor(t, dtype=x.dtype, device=x.device)
        nu, drag = fit(self.viscosity, x), fit(self.drag, x)
        if isinstance(self.forcing, Tensor):
            raise ValueError("NavierStokesVorticity knows no exact solution for a forcing field.")
        shear = shear_of(self.forcing)
        if shear is None:
            return 2 * torch.exp(-(2 * nu + drag) * t) * torch.cos(x).prod(dim=1, keepdim=True)
        return response(nu * shear.square + drag, t) * shear.vorticity(x)

    def exact_lengths(self, dimension: int) -> tuple[float, ...]:
        """Sides of the periodic box of `exact` [length]."""
        shear = shear_of(self.forcing)
        return (2 * math.pi,) * dimension if shear is None else shear.lengths(dimension)
