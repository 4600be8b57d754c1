"""Incompressible flow in terms of its velocity."""

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
from sciml.pdes.base import SplitSemiLinear, integral, is_periodic
from sciml.pdes.forcings import ShearForcing, checked_forcing, response, shear_of
from sciml.pdes.parameters import Parameter, check_parameter, fit
from sciml.trajectory import Field

# Mean flow that carries the exact solutions, and the amplitudes A, B, C of the one in 3D.
_DRIFT = (1.0, 0.5, -0.3)
_ABC = (1.0, 0.7, 0.4)


@dataclass(frozen=True)
class NavierStokes(SplitSemiLinear):
    """Incompressible Navier-Stokes equations on a periodic box, one channel per axis, density one.

        u_t = P[u x curl(u) + f] + nu lap(u) - mu u,    div u = 0

    P is the projection onto fields without divergence; the pressure, with |u|^2/2 added, is what it takes
    away. This rotational form is perpendicular to u and to curl(u) at every point, so that N keeps energy
    and helicity for whatever a grid holds, dealiased or not, as long as div u = 0.

    A state with divergence is no flow. `project` gives the nearest one without, and the spectral
    solvers apply it to the state that a Step starts from: what they return has none. `rhs` itself takes
    u as it is, and its nonlinear part adds no divergence. The mean flow is kept by all terms but
    drag and a force with a mean, for any u. Needs a calculus with an inverse Laplacian on a periodic grid.

    On a periodic box without forcing or drag the momentum is kept; without viscosity also the energy
    |u|^2/2 and, in 3D, the helicity u . curl(u).

    Args:
        viscosity: nu [length^2/time], not negative.
        drag: mu [1/time], linear friction; it also stops a mean flow.
        forcing: none; a pair (k, F) for Kolmogorov forcing F sin(k y) of the x velocity, with k [1/length]
            fitting the box; a `ShearForcing`; or a field f (1 or B, D, *points) [length/time^2].

    Orszag, Stud. Appl. Math. 50 (1971) 293-327, for the rotational form on Fourier modes.
    """

    viscosity: Parameter = 0.01
    drag: Parameter = 0.0
    forcing: tuple[float, float] | ShearForcing | Tensor | None = None

    fields: ClassVar[tuple[Field, ...]] = (Field("velocity", "m/s", rank=1),)
    dimensions: ClassVar[tuple[int, ...]] = (2, 3)

    def __post_init__(self) -> None:
        check_parameter("NavierStokes", "viscosity", self.viscosity, minimum=0.0)
        check_parameter("NavierStokes", "drag", self.drag)
        object.__setattr__(self, "forcing", checked_forcing("NavierStokes", self.forcing))

    def project(self, u: Tensor, calc: Calculus) -> Tensor:
        """The flow nearest to u, without divergence and of the same mean."""
        self._check(u, calc)
        return calc.solenoidal(u)

    def force(self, u: Tensor, calc: Calculus) -> Tensor | None:
        """The body force f on the points of u, (1 or B, D, *points) [length/time^2], or None."""
        if isinstance(self.forcing, Tensor):
            return self.forcing.to(u)
        shear = shear_of(self.forcing)
        if shear is None:
            return None
        shear.check(calc)
        return shear.velocity(calc.coordinates(u))

    def linear(self, u: Tensor, calc: Calculus) -> Tensor:
        return fit(self.viscosity, u) * calc.laplacian(u) - fit(self.drag, u) * u

    def before(self, u: Tensor, calc: Calculus) -> Tensor:
        """Velocity and vorticity, D and 1 or 3 channels."""
        self._check(u, calc)
        return torch.cat([u, calc.curl(u)], dim=1)

    def products(self, fields: Tensor, calc: Calculus) -> Tensor:
        """u x curl(u) without its mean, and the force."""
        if calc.dimension == 2:
            u, v, w = fields.split(1, dim=1)
            lamb = torch.cat([v * w, -u * w], dim=1)
        else:
            # A third of the time of torch.linalg.cross, which wants its axis last.
            a, b, c, p, q, r = fields.unbind(1)
            lamb = torch.stack([b * r - c * q, c * p - a * r, a * q - b * p], dim=1)
        # Zero but for rounding where div u = 0; the mean flow has no other way to drift.
        lamb = lamb - lamb.mean(dim=tuple(range(2, lamb.ndim)), keepdim=True)
        force = self.force(fields[:, : calc.dimension], calc)
        return lamb if force is None else lamb + force

    def after(self, products: Tensor, calc: Calculus) -> Tensor:
        """The part without divergence; the rest is the pressure's."""
        return calc.solenoidal(products)

    def _check(self, u: Tensor, calc: Calculus) -> None:
        if calc.dimension not in self.dimensions or u.shape[1] != calc.dimension:
            raise ValueError(
                f"NavierStokes got {u.shape[1]} channels in {calc.dimension} space axes; expected one "
                "velocity component per axis in 2D or 3D."
            )

    def invariants(self, u: Tensor, domain: Domain) -> Mapping[str, Tensor]:
        dragged = bool(torch.as_tensor(self.drag).any())
        if not is_periodic(domain) or dragged or isinstance(self.forcing, Tensor):
            return {}
        momentum = integral(u, domain)
        kept = {f"momentum_{axis}": momentum[:, i] for i, axis in enumerate("xyz"[: u.shape[1]])}
        viscous = bool(torch.as_tensor(self.viscosity).any())
        if self.forcing is None and not viscous and isinstance(domain, Grid):
            kept["energy"] = 0.5 * integral(u.square(), domain).sum(dim=1)
            if domain.dimension == 3:
                w = Spectral(domain).to(u.device).curl(u)
                kept["helicity"] = integral(u * w, domain).sum(dim=1)
        return kept

    def exact(self, x: Tensor, t: Tensor | float) -> Tensor:
        """A decaying flow that a mean flow carries along, at points x (B, D, *points) and times t.

        On a box of side 2 pi, in 2D the Taylor-Green vortices (-cos x sin y, sin x cos y), in 3D the
        Arnold-Beltrami-Childress flow, for which curl(u) = u; both move with the mean flow (1, 1/2, -3/10),
        so that transport does not vanish. With a `ShearForcing` or a pair the laminar flow that
        starts from rest.

        Raises:
            ValueError: the forcing is a field.
        """
        t = torch.as_tensor(t, dtype=x.dtype, device=x.device)
        nu, drag = fit(self.viscosity, x), fit(self.drag, x)
        if isinstance(self.forcing, Tensor):
            raise ValueError("NavierStokes knows no exact solution for a forcing field.")
        shear = shear_of(self.forcing)
        if shear is not None:
            return response(nu * shear.square + drag, t) * shear.velocity(x)
        axes = range(x.shape[1])
        drift = x.new_tensor(_DRIFT[: len(axes)]).reshape(1, -1, *[1] * (x.ndim - 2))
        at = x - drift * response(drag, t)
        sin, cos = ([f(at[:, i : i + 1]) for i in axes] for f in (torch.sin, torch.cos))
        if len(axes) == 2:
            eddies, square = torch.cat([-cos[0] * sin[1], sin[0] * cos[1]], dim=1), 2.0
        else:
            a, b, c = _ABC
            parts = [a * sin[2] + c * cos[1], b * sin[0] + a * cos[2], c * sin[1] + b * cos[0]]
            eddies, square = torch.cat(parts, dim=1), 1.0
        return (drift + eddies * torch.exp(-square * nu * t)) * torch.exp(-drag * t)

    def exact_lengths(self, dimension: int) -> tuple[float, ...]:
        """Sides of the periodic box of `exact` [length]."""
        shear = shear_of(self.forcing)
        return (2 * math.pi,) * dimension if shear is None else shear.lengths(dimension)
