"""Linear acoustics in media whose density and stiffness vary from place to place."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sciml.calculus.base import Calculus
from sciml.domains import Domain, Grid
from sciml.pdes.base import PDE, integral, is_periodic
from sciml.pdes.parameters import Parameter, check_parameter, fit, smallest
from sciml.trajectory import Field

# The exact solution: a uniform state, a standing wave and a travelling one.
_PRESSURE, _WIND = 0.3, 0.2
_STANDING, _TRAVELLING = (1.0, 2.0, 1.0), (2.0, -1.0, 1.0)
_AMPLITUDE = 0.5


def check_positive(owner: str, name: str, value: Parameter) -> None:
    """Refuse a parameter that is no number, not finite, or not above zero."""
    check_parameter(owner, name, value, minimum=0.0)
    if smallest(value) <= 0.0:
        raise ValueError(f"{owner} got {name}={smallest(value):g}; expected values above 0.")


def is_closed(domain: Domain) -> bool:
    """Whether no wave leaves the domain: a grid of periodic and wall sides."""
    return isinstance(domain, Grid) and all(
        side in ("periodic", "wall") for sides in domain.sides for side in sides
    )


@dataclass(frozen=True)
class Acoustics(PDE):
    """Pressure p and velocity v of small disturbances of a medium at rest,

        p_t = -K div v,    rho v_t = -grad p,

    with density rho and bulk modulus K: waves of speed c = sqrt(K/rho) and impedance Z = rho c. At an
    interface pressure and normal velocity are continuous; a wave that meets it at a right angle returns
    (Z2 - Z1)/(Z2 + Z1) of its pressure.

    Kept on periodic boxes: the energy, the integral of (p^2/K + rho |v|^2)/2, the compression, that of p/K,
    and the momentum, that of rho v. Walls keep the first two.

    Args:
        density: rho [mass/length^D], above 0: a number, one per sample (B, 1, ...), or a field
            (1 or B, 1, *points).
        bulk_modulus: K [pressure], above 0, likewise.
    """

    density: Parameter = 1.0
    bulk_modulus: Parameter = 1.0

    fields: ClassVar[tuple[Field, ...]] = (Field("pressure", "Pa"), Field("velocity", "m/s", rank=1))

    def __post_init__(self) -> None:
        check_positive("Acoustics", "density", self.density)
        check_positive("Acoustics", "bulk_modulus", self.bulk_modulus)

    def rhs(self, u: Tensor, calc: Calculus) -> Tensor:
        return _rate(u, fit(self.density, u), fit(self.bulk_modulus, u), calc)

    def invariants(self, u: Tensor, domain: Domain) -> Mapping[str, Tensor]:
        return _invariants(u, fit(self.density, u), fit(self.bulk_modulus, u), domain)

    def exact(self, x: Tensor, t: Tensor | float) -> Tensor:
        """Pressure and velocity at points x (B, D, *points) and times t, on a periodic box of side 2 pi.

        A uniform pressure and wind, a standing wave (a product of cosines) and a travelling plane wave, in
        a uniform medium.

        Raises:
            ValueError: the medium varies from place to place.
        """
        for name, value in (("density", self.density), ("bulk_modulus", self.bulk_modulus)):
            if isinstance(value, Tensor) and any(n != 1 for n in value.shape[2:]):
                raise ValueError(
                    f"Acoustics.exact got a {name} that varies in space; it knows uniform media."
                )
        density, modulus = (
            torch.as_tensor(fit(v, x), dtype=x.dtype, device=x.device)
            for v in (self.density, self.bulk_modulus)
        )
        return _plane_waves(x, t, density, modulus)

    def exact_lengths(self, dimension: int) -> tuple[float, ...]:
        """Sides of the periodic box of `exact` [length]."""
        return (2 * math.pi,) * dimension


@dataclass(frozen=True)
class AcousticScattering(PDE):
    """`Acoustics` with the density as a part of the state, which stands still: rho_t = 0.

    For data in which every sample has its own medium, which a surrogate has to see. Kept on periodic boxes:
    energy, compression, momentum (see `Acoustics`) and the mass, the integral of rho. Densities in the state
    that are not positive have no meaning; solvers give values that are not finite there.

    Args:
        bulk_modulus: K [pressure], above 0: a number, one per sample, or a field.
    """

    bulk_modulus: Parameter = 1.0

    fields: ClassVar[tuple[Field, ...]] = (
        Field("pressure", "Pa"),
        Field("velocity", "m/s", rank=1),
        Field("density", "kg/m^3"),
    )

    def __post_init__(self) -> None:
        check_positive("AcousticScattering", "bulk_modulus", self.bulk_modulus)

    def rhs(self, u: Tensor, calc: Calculus) -> Tensor:
        waves, density = u[:, :-1], u[:, -1:]
        rate = _rate(waves, density, fit(self.bulk_modulus, u), calc)
        return torch.cat([rate, torch.zeros_like(density)], dim=1)

    def invariants(self, u: Tensor, domain: Domain) -> Mapping[str, Tensor]:
        kept = dict(_invariants(u[:, :-1], u[:, -1:], fit(self.bulk_modulus, u), domain))
        return kept | {"mass": integral(u[:, -1:], domain)[:, 0]}

    def exact(self, x: Tensor, t: Tensor | float) -> Tensor:
        """The solution of `Acoustics.exact` in a medium of density 1.5, (B, D + 2, *points)."""
        modulus = torch.as_tensor(fit(self.bulk_modulus, x), dtype=x.dtype, device=x.device)
        waves = _plane_waves(x, t, torch.as_tensor(1.5, dtype=x.dtype, device=x.device), modulus)
        return torch.cat([waves, torch.full_like(waves[:, :1], 1.5)], dim=1)

    def exact_lengths(self, dimension: int) -> tuple[float, ...]:
        """Sides of the periodic box of `exact` [length]."""
        return (2 * math.pi,) * dimension


def _rate(u: Tensor, density: Parameter, modulus: Parameter, calc: Calculus) -> Tensor:
    dimension = u.shape[1] - 1
    if dimension != calc.dimension:
        raise ValueError(
            f"Acoustics got {dimension + 1} channels; expected pressure and {calc.dimension} velocities."
        )
    pressure, velocity = u[:, :1], u[:, 1:]
    squeeze = -modulus * calc.div(velocity.unsqueeze(1))
    push = -calc.gradient(pressure)[:, 0] / density
    return torch.cat([squeeze, push], dim=1)


def _invariants(u: Tensor, density: Parameter, modulus: Parameter, domain: Domain) -> dict[str, Tensor]:
    if not is_closed(domain):
        return {}
    pressure, velocity = u[:, :1], u[:, 1:]
    stored = 0.5 * (pressure.square() / modulus + density * velocity.square().sum(1, keepdim=True))
    kept = {
        "energy": integral(stored, domain)[:, 0],
        "compression": integral(pressure / modulus, domain)[:, 0],
    }
    if is_periodic(domain):
        momentum = integral(density * velocity, domain)
        kept |= {f"momentum_{axis}": momentum[:, i] for i, axis in enumerate("xyz"[: velocity.shape[1]])}
    return kept


def _plane_waves(x: Tensor, t: Tensor | float, density: Tensor, modulus: Tensor) -> Tensor:
    t = torch.as_tensor(t, dtype=x.dtype, device=x.device)
    t = t.reshape([1] * x.ndim) if t.ndim == 0 else t
    dimension, ones = x.shape[1], [1] * (x.ndim - 2)
    speed = torch.sqrt(modulus / density)
    standing = x.new_tensor(_STANDING[:dimension])
    travelling = x.new_tensor(_TRAVELLING[:dimension])
    frequency = speed * standing.norm()
    cosines, sines = (f(standing.reshape(1, -1, *ones) * x) for f in (torch.cos, torch.sin))
    shape = cosines.prod(dim=1, keepdim=True)
    slopes = [
        -standing[axis]
        * sines[:, axis : axis + 1]
        * torch.cat([cosines[:, :axis], cosines[:, axis + 1 :]], dim=1).prod(dim=1, keepdim=True)
        for axis in range(dimension)
    ]
    phase = (travelling.reshape(1, -1, *ones) * x).sum(dim=1, keepdim=True)
    moving = _AMPLITUDE * torch.sin(phase - speed * travelling.norm() * t)
    pressure = _PRESSURE + torch.cos(frequency * t) * shape + moving
    # rho v_t = -grad p, integrated from a standing wave without motion; v = p/Z along the travelling one.
    velocity = -torch.sin(frequency * t) / (density * frequency) * torch.cat(slopes, dim=1)
    direction = (travelling / travelling.norm()).reshape(1, -1, *ones)
    velocity = velocity + _WIND + direction * moving / torch.sqrt(density * modulus)
    return torch.cat([pressure.expand_as(velocity[:, :1]), velocity], dim=1)
