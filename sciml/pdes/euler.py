"""Compressible flow of an ideal gas: its states and fluxes, and Euler's equations."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sciml.domains import Domain, Grid
from sciml.pdes.admissible import Limit
from sciml.pdes.base import ConservationLaw, integral
from sciml.pdes.parameters import check_parameter
from sciml.trajectory import Field, channel_names


@dataclass(frozen=True)
class IdealGas(ConservationLaw):
    """What the laws of ideal gases share: states, pressure, inviscid fluxes, sound.

    States are conserved variables (B, D + 2, *points): density, D momenta, energy density. The same
    places hold density, velocity and pressure in the primitive variables. D is read from the number
    of channels, so that scattered points and grids are treated alike.
    """

    gamma: float | Tensor = 1.4

    fields: ClassVar[tuple[Field, ...]] = (
        Field("density", "kg/m^3"),
        Field("momentum", "kg/(m^2 s)", rank=1),
        Field("energy", "J/m^3"),
    )
    isotropic: ClassVar[bool] = True

    def __post_init__(self) -> None:
        owner = type(self).__name__
        check_parameter(owner, "gamma", self.gamma)
        lowest = float(self.gamma.min()) if isinstance(self.gamma, Tensor) else float(self.gamma)
        if not (math.isfinite(lowest) and lowest > 1.0):
            raise ValueError(f"{owner} got gamma={lowest}; expected above 1, such as 1.4 for air.")

    def primitive(self, u: Tensor) -> Tensor:
        """Density, velocity and pressure of conserved variables, (B, D+2, *points) -> the same shape."""
        density, momentum, energy = _split(u)
        velocity = momentum / density
        pressure = (self.gamma - 1.0) * (energy - 0.5 * (momentum * velocity).sum(1, keepdim=True))
        return torch.cat((density, velocity, pressure), dim=1)

    def conservative(self, w: Tensor) -> Tensor:
        """Conserved variables of density, velocity and pressure, (B, D+2, *points) -> the same shape."""
        density, velocity, pressure = _split(w)
        momentum = density * velocity
        energy = pressure / (self.gamma - 1.0) + 0.5 * (momentum * velocity).sum(1, keepdim=True)
        return torch.cat((density, momentum, energy), dim=1)

    def pressure(self, u: Tensor) -> Tensor:
        """Pressure (B, 1, *points) [Pa] of conserved variables."""
        return self.primitive(u)[:, -1:]

    def admissible(self, u: Tensor) -> Tensor:
        """Where density and pressure are positive and finite, (B, 1, *points) of bools."""
        density, momentum, energy = _split(u)
        # Twice density times internal energy, which needs no division; NaN and infinity fail.
        internal = 2.0 * density * energy - momentum.square().sum(1, keepdim=True)
        return (density > 0) & (internal > 0) & (internal < torch.inf)

    def limits(self, u: Tensor) -> tuple[Limit, ...]:
        """Density and pressure, which are positive."""
        return Limit("density", u[:, :1]), Limit("pressure", self.pressure(u))

    def flux(self, u: Tensor) -> Tensor:
        """Inviscid flux, (B, D+2, *points) -> (B, D+2, D, *points)."""
        density, momentum, energy = _split(u)
        velocity = momentum / density
        pressure = (self.gamma - 1.0) * (energy - 0.5 * (momentum * velocity).sum(1, keepdim=True))
        dimension = momentum.shape[1]
        identity = torch.eye(dimension, dtype=u.dtype, device=u.device)
        identity = identity.reshape(1, dimension, dimension, *([1] * (u.ndim - 2)))
        stress = momentum.unsqueeze(2) * velocity.unsqueeze(1) + pressure.unsqueeze(1) * identity
        work = ((energy + pressure) * velocity).unsqueeze(1)
        return torch.cat((momentum.unsqueeze(1), stress, work), dim=1)

    def max_speed(self, u: Tensor) -> Tensor:
        """|v_d| + c along each axis, (B, D+2, *points) -> (B, D, *points) [m/s]; NaN where p/rho < 0."""
        density, velocity, pressure = _split(self.primitive(u))
        return velocity.abs() + torch.sqrt(self.gamma * pressure / density)

    def wave_bounds(self, left: Tensor, right: Tensor, axis: int) -> tuple[Tensor, Tensor]:
        """Slowest and fastest signal along an axis between two conserved states, each (B, 1, *faces) [m/s].

        Davis' estimate: the sound waves of both states. SIAM J. Sci. Stat. Comput. 9 (1988), section 3.
        """
        slow, fast = [], []
        for u in (left, right):
            density, velocity, pressure = _split(self.primitive(u))
            normal, sound = velocity[:, axis : axis + 1], torch.sqrt(self.gamma * pressure / density)
            slow.append(normal - sound)
            fast.append(normal + sound)
        return torch.minimum(*slow), torch.maximum(*fast)


@dataclass(frozen=True)
class CompressibleEuler(IdealGas):
    """Mass, momentum and energy of an inviscid ideal gas, u_t + div F(u) = 0.

    With velocity v = m / rho and pressure p = (gamma - 1) (E - rho |v|^2 / 2),

        rho_t + div m = 0,   m_t + div(m v + p I) = 0,   E_t + div((E + p) v) = 0.

    States are conserved variables (B, D + 2, *points): density, D momenta, energy density.

    Args:
        gamma: ratio of specific heats, above 1; a (B, 1, ...) tensor gives each sample its own.

    Raises:
        ValueError: gamma is not above 1.
    """

    def invariants(self, u: Tensor, domain: Domain) -> Mapping[str, Tensor]:
        """Totals (B,) of what the flow keeps on this domain, by channel name.

        All of them on periodic boxes. A wall keeps mass, energy and the momentum along it; a side
        through which the gas may leave keeps nothing.
        """
        names = channel_names(self.fields, domain.dimension)
        kept = [True] * len(names)
        if isinstance(domain, Grid):
            for axis, pair in enumerate(domain.sides):
                if "wall" in pair:
                    kept[1 + axis] = False
                if any(side not in ("periodic", "wall") for side in pair):
                    return {}
        totals = integral(u, domain)
        return {f"total_{name}": totals[:, i] for i, name in enumerate(names) if kept[i]}

    def exact(self, x: Tensor, t: Tensor | float) -> Tensor:
        """Density wave rho = 1 + sin(2 pi s) / 5, s = sum_d x_d - D t, carried by v = 1 at p = 1.

        Smooth and periodic on boxes of whole lengths; points x (B, D, *points), times t
        (broadcastable to (B, 1, *points)), as conserved variables (B, D+2, *points).
        """
        dimension = x.shape[1]
        phase = x.sum(dim=1, keepdim=True) - dimension * t
        density = 1.0 + 0.2 * torch.sin(2.0 * math.pi * phase)
        ones = torch.ones_like(density)
        return self.conservative(torch.cat((density, *([ones] * dimension), ones), dim=1))

    def exact_lengths(self, dimension: int) -> tuple[float, ...]:
        """Sides of the periodic box of `exact` [length]."""
        return (1.0,) * dimension


def _split(u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """First channel, the D between, and the last, each with its channel axis kept."""
    if not 3 <= u.shape[1] <= 5:
        raise ValueError(
            f"An ideal gas got {u.shape[1]} channels; expected density, one to three momenta and "
            "energy, (B, D + 2, *points)."
        )
    return u[:, :1], u[:, 1:-1], u[:, -1:]
