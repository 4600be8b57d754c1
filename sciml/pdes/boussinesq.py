"""Incompressible flow that a scalar lifts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sciml.calculus.base import Calculus
from sciml.domains import Domain
from sciml.pdes.base import SplitSemiLinear, integral, is_periodic
from sciml.pdes.parameters import Parameter, check_parameter, fit, smallest
from sciml.trajectory import Field

# Mean flow that carries the exact solution, per axis but the last, and its initial wave.
_DRIFT = (1.0, 0.5)
_SPEED, _SCALAR = 1.0, 0.5


@dataclass(frozen=True)
class Boussinesq(SplitSemiLinear):
    """Incompressible flow under buoyancy, with density one and gravity along the last axis.

        u_t = P[u x curl(u) + b s e] + nu lap(u),    div u = 0
        s_t = -div(u s) - g u.e + kappa lap(s)

    e is the unit vector along the last axis, P the projection onto fields without divergence. s is the
    temperature, or its deviation from a linear background g x.e: with g > 0 the fluid is stably stratified and
    carries internal waves of frequency sqrt(b g) at most, with g < 0 it is heated from below. On grids of cells
    between walls `incompressible` solves the same equations, and walls may hold s: see `rayleigh_benard`.

    On a periodic box the horizontal momentum is kept, and without a background the mean of s; without viscosity
    and diffusivity also |u|^2/2 + b s^2/(2 g). A mean of s lifts the box as a whole.

    Args:
        viscosity: nu [length^2/time], not negative.
        diffusivity: kappa of the scalar [length^2/time], not negative.
        buoyancy: b, upward acceleration per scalar [length/time^2/scalar].
        gradient: g, of the background [scalar/length].

    Spiegel and Veronis, Astrophys. J. 131 (1960) 442-447, for the approximation.
    """

    viscosity: Parameter = 0.01
    diffusivity: Parameter = 0.01
    buoyancy: Parameter = 0.5
    gradient: Parameter = 0.0

    fields: ClassVar[tuple[Field, ...]] = (Field("velocity", "m/s", rank=1), Field("temperature", "K"))
    dimensions: ClassVar[tuple[int, ...]] = (2, 3)

    def __post_init__(self) -> None:
        name = type(self).__name__
        check_parameter(name, "viscosity", self.viscosity, minimum=0.0)
        check_parameter(name, "diffusivity", self.diffusivity, minimum=0.0)
        check_parameter(name, "buoyancy", self.buoyancy)
        check_parameter(name, "gradient", self.gradient)

    def project(self, u: Tensor, calc: Calculus) -> Tensor:
        """The state with the nearest flow without divergence, of the same mean."""
        self._check(u, calc)
        d = calc.dimension
        return torch.cat([calc.solenoidal(u[:, :d]), u[:, d:]], dim=1)

    def linear(self, u: Tensor, calc: Calculus) -> Tensor:
        d = calc.dimension
        gain = calc.laplacian(u)
        return torch.cat(
            [fit(self.viscosity, u) * gain[:, :d], fit(self.diffusivity, u) * gain[:, d:]], dim=1
        )

    def before(self, u: Tensor, calc: Calculus) -> Tensor:
        """Velocity, scalar and vorticity, D, 1, and 1 or 3 channels."""
        self._check(u, calc)
        return torch.cat([u, calc.curl(u[:, : calc.dimension])], dim=1)

    def products(self, fields: Tensor, calc: Calculus) -> Tensor:
        """Force on the flow, flux of the scalar, and what the background gives it: D, D and 1 channels."""
        d = calc.dimension
        if d == 2:
            u, v, s, w = fields.split(1, dim=1)
            lamb, rise = torch.cat([v * w, -u * w], dim=1), v
        else:
            a, b, c, _, p, q, r = fields.unbind(1)
            lamb = torch.stack([b * r - c * q, c * p - a * r, a * q - b * p], dim=1)
            s, rise = fields[:, 3:4], fields[:, 2:3]
        # Zero but for rounding where div u = 0; the mean flow has no other way to drift.
        lamb = lamb - lamb.mean(dim=tuple(range(2, lamb.ndim)), keepdim=True)
        lift = fit(self.buoyancy, s) * s
        force = torch.cat([lamb[:, : d - 1], lamb[:, d - 1 :] + lift], dim=1)
        return torch.cat([force, fields[:, :d] * s, fit(self.gradient, rise) * rise], dim=1)

    def after(self, products: Tensor, calc: Calculus) -> Tensor:
        d = calc.dimension
        flux, rise = products[:, d : 2 * d], products[:, 2 * d :]
        return torch.cat([calc.solenoidal(products[:, :d]), -calc.div(flux.unsqueeze(1)) - rise], dim=1)

    def _check(self, u: Tensor, calc: Calculus) -> None:
        if calc.dimension not in self.dimensions or u.shape[1] != calc.dimension + 1:
            raise ValueError(
                f"{type(self).__name__} got {u.shape[1]} channels in {calc.dimension} space axes; expected one velocity "
                "component per axis and a scalar, in 2D or 3D."
            )

    def invariants(self, u: Tensor, domain: Domain) -> Mapping[str, Tensor]:
        if not is_periodic(domain):
            return {}
        d, total = domain.dimension, integral(u, domain)
        kept = {f"momentum_{axis}": total[:, i] for i, axis in enumerate("xyz"[: d - 1])}
        gradient, buoyancy = (torch.as_tensor(p) for p in (self.gradient, self.buoyancy))
        if not bool(gradient.any()):
            kept[self.fields[1].name] = total[:, d]
        viscous = any(bool(torch.as_tensor(p).any()) for p in (self.viscosity, self.diffusivity))
        if not viscous and bool((gradient * buoyancy > 0).all()):
            scale = fit(self.buoyancy, u) / fit(self.gradient, u)
            kinetic, squared = u[:, :d].square().sum(dim=1, keepdim=True), u[:, d:].square()
            kept["energy"] = 0.5 * integral(kinetic + scale * squared, domain)[:, 0]
        return kept

    def exact(self, x: Tensor, t: Tensor | float) -> Tensor:
        """A plane wave of flow and scalar that a mean flow carries along, at points x (B, D, *points), times t.

        Along k = (1, ..., 1) on a box of side 2 pi: the flow, across k, and the scalar exchange energy in the
        background and decay; products of one such wave vanish, but not those with the mean flow.
        """
        t = torch.as_tensor(t, dtype=x.dtype, device=x.device)
        d = x.shape[1]
        nu, kappa, b, g = (
            torch.as_tensor(fit(p, x), dtype=x.dtype, device=x.device)
            for p in (self.viscosity, self.diffusivity, self.buoyancy, self.gradient)
        )
        drift = x.new_tensor((*_DRIFT[: d - 1], 0.0)).reshape(1, d, *[1] * (x.ndim - 2))
        wave = torch.cos((x - drift * t).sum(dim=1, keepdim=True))
        # Unit vector across k in the plane of k and e, and what of it points up.
        up = math.sqrt(1.0 - 1.0 / d)
        across = x.new_tensor([-1.0 / d] * (d - 1) + [1.0 - 1.0 / d]) / up
        # a' = b up s - nu d a, s' = -g up a - kappa d s, by the exponential of the 2 x 2 matrix.
        mean, half = -0.5 * d * (nu + kappa), 0.5 * d * (kappa - nu)
        square = half.square() - b * g * up**2
        rate = square.abs().clamp(min=1e-12).sqrt()
        grows = square > 0
        even = torch.where(grows, torch.cosh(rate * t), torch.cos(rate * t))
        odd = torch.where(grows, torch.sinh(rate * t), torch.sin(rate * t)) / rate
        damp = torch.exp(mean * t)
        speed = damp * (even * _SPEED + odd * (half * _SPEED + b * up * _SCALAR))
        scalar = damp * (even * _SCALAR + odd * (-g * up * _SPEED - half * _SCALAR))
        direction = across.reshape(1, d, *[1] * (x.ndim - 2))
        return torch.cat([drift + direction * speed * wave, scalar * wave], dim=1)

    def exact_lengths(self, dimension: int) -> tuple[float, ...]:
        """Sides of the periodic box of `exact` [length]."""
        return (2 * math.pi,) * dimension


@dataclass(frozen=True)
class Smoke(Boussinesq):
    """Smoke that rises, s being its concentration; it spreads only where the flow carries it.

    Gupta and Brandstetter, Towards Multi-spatiotemporal-scale Generalized PDE Modeling (2022), use a closed box of
    side 32 with nu = 0.01 and b between 0.2 and 0.5.
    """

    diffusivity: Parameter = 0.0

    fields: ClassVar[tuple[Field, ...]] = (Field("velocity", "m/s", rank=1), Field("smoke", "1"))


def rayleigh_benard(rayleigh: Parameter, prandtl: Parameter = 1.0) -> Boussinesq:
    """Convection between plates a unit apart, the lower one warmer by one unit, in units of free fall.

    nu = sqrt(Pr/Ra), kappa = 1/sqrt(Ra Pr), b = 1; the temperatures of the plates belong to the solver. Motion
    sets in at Ra = 1707.762 between plates without slip, at wavenumber 3.117 (Chandrasekhar, Hydrodynamic and
    Hydromagnetic Stability (1961), section 15), and at 27 pi^4/4 between plates without friction.

    Args:
        rayleigh: Ra = b dT H^3/(nu kappa), positive; a tensor gives each sample its own.
        prandtl: Pr = nu/kappa, positive; likewise.
    """
    for name, value in (("rayleigh", rayleigh), ("prandtl", prandtl)):
        check_parameter("rayleigh_benard", name, value)
        if not smallest(value) > 0:
            raise ValueError(f"rayleigh_benard got {name}={value}; expected a positive number.")
    return Boussinesq(
        viscosity=(prandtl / rayleigh) ** 0.5, diffusivity=(rayleigh * prandtl) ** -0.5, buoyancy=1.0
    )
