"""The system of Henon and Heiles."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.odes.base import Separable
from sciml.pdes.parameters import Parameter, check_parameter, fit
from sciml.trajectory import Field


@dataclass(frozen=True)
class HenonHeiles(Separable):
    """A star in the plane of a galaxy, H = |p|^2/2 + |q|^2/2 + lam (x^2 y - y^3/3); dimensionless.

    Bounded for energies below 1/(6 lam^2), regular at low ones and mostly chaotic near that bound. H is
    unchanged under turns by 120 degrees.

    Args:
        coupling: lam.

    Henon and Heiles, Astronomical Journal 69 (1964) 73-79, equation 11.
    """

    coupling: Parameter = 1.0

    def __post_init__(self) -> None:
        check_parameter("HenonHeiles", "coupling", self.coupling)

    @property
    def fields(self) -> tuple[Field, ...]:
        return (Field("x"), Field("y"), Field("momentum_x"), Field("momentum_y"))

    def kinetic(self, p: Tensor) -> Tensor:
        return 0.5 * p.square().sum(dim=1)

    def potential(self, q: Tensor) -> Tensor:
        x, y = q.unbind(1)
        return 0.5 * (x**2 + y**2) + fit(self.coupling, x) * (x**2 * y - y**3 / 3)

    def velocity(self, p: Tensor) -> Tensor:
        return p

    def force(self, q: Tensor) -> Tensor:
        x, y = q.unbind(1)
        lam = fit(self.coupling, x)
        return torch.stack([-x - 2 * lam * x * y, -y - lam * (x**2 - y**2)], dim=1)

    def initial(self, samples: int, generator: torch.Generator) -> Tensor:
        """Positions and momenta evenly within 0.25 of zero: energies below 0.08 at coupling one."""
        return 0.5 * (torch.rand(samples, 4, generator=generator, dtype=torch.float64) - 0.5)
