"""Compressible flow of an ideal gas with friction and heat conduction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.calculus.base import Calculus
from sciml.domains import Domain, Grid
from sciml.pdes.base import integral
from sciml.pdes.euler import IdealGas
from sciml.pdes.parameters import Parameter, check_parameter, fit, smallest


@dataclass(frozen=True)
class CompressibleNavierStokes(IdealGas):
    """Mass, momentum and energy of a viscous, heat-conducting ideal gas, u_t + div F(u) = div G(u, grad u).

    Beside the fluxes of `CompressibleEuler`, momentum is carried by the stress

        tau = mu (grad v + (grad v)^T - 2/3 div(v) I) + zeta div(v) I

    and energy by tau v + k grad T, with the temperature T = p / rho in units of the gas constant. The 2/3
    is that of a gas in three dimensions, however many the flow has. The entropy grows; the inviscid limit
    is `CompressibleEuler`.

    Args:
        gamma: ratio of specific heats, above 1; a (B, 1, ...) tensor gives each sample its own.
        viscosity: mu, dynamic [Pa s], not negative.
        bulk_viscosity: zeta [Pa s], not negative; 0 is Stokes' hypothesis.
        prandtl: Pr above 0, which gives k = mu gamma / ((gamma - 1) Pr); 0.71 for air.
        conductivity: k itself, in place of Pr; 0 conducts no heat [Pa s].

    Raises:
        ValueError: a coefficient is out of its range.
    """

    viscosity: Parameter = 1e-2
    bulk_viscosity: Parameter = 0.0
    prandtl: Parameter = 0.71
    conductivity: Parameter | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        owner = type(self).__name__
        check_parameter(owner, "viscosity", self.viscosity, minimum=0.0)
        check_parameter(owner, "bulk_viscosity", self.bulk_viscosity, minimum=0.0)
        check_parameter(owner, "prandtl", self.prandtl)
        if smallest(self.prandtl) <= 0:
            raise ValueError(
                f"{owner} got prandtl={smallest(self.prandtl)}; expected above 0, such as 0.71."
            )
        if self.conductivity is not None:
            check_parameter(owner, "conductivity", self.conductivity, minimum=0.0)

    def heat_conductivity(self, u: Tensor) -> Parameter:
        """k, ready to multiply u (B, C, *points)."""
        if self.conductivity is not None:
            return fit(self.conductivity, u)
        gamma = fit(self.gamma, u)
        return fit(self.viscosity, u) * gamma / ((gamma - 1.0) * fit(self.prandtl, u))

    def diffused(self, u: Tensor) -> Tensor:
        """Velocity and temperature, (B, D+2, *points) -> (B, D+1, *points): what friction and conduction even out."""
        w = self.primitive(u)
        return torch.cat((w[:, 1:-1], w[:, -1:] / w[:, :1]), dim=1)

    def diffusive_flux(self, q: Tensor, gradient: Tensor) -> Tensor:
        """G, to be subtracted from the inviscid flux.

        Args:
            q: velocity and temperature (B, D+1, *points).
            gradient: theirs, (B, D+1, D, *points), last axis that of the derivative.

        Returns (B, D+2, D, *points): nothing for mass, the stress, work and heat.
        """
        dimension = q.shape[1] - 1
        velocity, shear, heat = q[:, :dimension], gradient[:, :dimension], gradient[:, -1:]
        divergence = torch.stack([shear[:, i, i] for i in range(dimension)]).sum(dim=0).unsqueeze(1)
        mu, bulk = fit(self.viscosity, q), fit(self.bulk_viscosity, q)
        pull = (bulk - 2.0 / 3.0 * mu) * divergence
        identity = torch.eye(dimension, dtype=q.dtype, device=q.device)
        identity = identity.reshape(1, dimension, dimension, *[1] * (q.ndim - 2))
        # Coefficients per sample have one axis less than tensors.
        wide = mu.unsqueeze(2) if isinstance(mu, Tensor) and mu.ndim else mu
        stress = wide * (shear + shear.transpose(1, 2)) + pull.unsqueeze(1) * identity
        conductivity = self.heat_conductivity(q)
        conductivity = (
            conductivity.unsqueeze(2)
            if isinstance(conductivity, Tensor) and conductivity.ndim
            else conductivity
        )
        work = (stress * velocity.unsqueeze(2)).sum(dim=1, keepdim=True) + conductivity * heat
        return torch.cat((torch.zeros_like(work), stress, work), dim=1)

    def diffusivity(self, u: Tensor) -> Tensor:
        """The largest coefficient at which a state evens out, (B, 1, *points) [length^2/time]."""
        density = u[:, :1]
        momentum = 4.0 / 3.0 * fit(self.viscosity, u) + fit(self.bulk_viscosity, u)
        heat = self.heat_conductivity(u) * (fit(self.gamma, u) - 1.0)
        return torch.maximum(momentum / density, heat / density)

    def rhs(self, u: Tensor, calc: Calculus) -> Tensor:
        q = self.diffused(u)
        return calc.div(self.diffusive_flux(q, calc.gradient(q)) - self.flux(u))

    def invariants(self, u: Tensor, domain: Domain) -> Mapping[str, Tensor]:
        """Totals (B,): all on periodic boxes; mass alone between walls, which may move and hold the gas back."""
        totals = integral(u, domain)
        sides = {side for pair in domain.sides for side in pair} if isinstance(domain, Grid) else set()
        if not sides <= {"periodic", "wall"}:
            return {}
        names = self.channels(domain.dimension)
        kept = names[:1] if "wall" in sides else names
        return {f"total_{name}": totals[:, i] for i, name in enumerate(kept)}
