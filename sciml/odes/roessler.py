"""Roessler's system."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.odes.base import ODE
from sciml.pdes.parameters import Parameter, check_parameter, fit
from sciml.trajectory import Field


@dataclass(frozen=True)
class Roessler(ODE):
    """x' = -y - z, y' = x + a y, z' = b + z (x - c); dimensionless.

    One quadratic term and a band that folds over: the leading exponent is about 0.07 at the values given
    here, with a period of about 5.9. States far outside the attractor run away.

    Args:
        a, b, c: its three constants.

    Roessler, Physics Letters A 57 (1976) 397-398, equation 2, with c = 5.7 and a = b = 0.2.
    """

    a: Parameter = 0.2
    b: Parameter = 0.2
    c: Parameter = 5.7

    def __post_init__(self) -> None:
        for name in ("a", "b", "c"):
            check_parameter("Roessler", name, getattr(self, name))

    @property
    def fields(self) -> tuple[Field, ...]:
        return (Field("x"), Field("y"), Field("z"))

    def rhs(self, u: Tensor) -> Tensor:
        x, y, z = u.unbind(1)
        a, b, c = (fit(p, x) for p in (self.a, self.b, self.c))
        return torch.stack([-y - z, x + a * y, b + z * (x - c)], dim=1)

    def initial(self, samples: int, generator: torch.Generator) -> Tensor:
        """Evenly on a ring of radius 2 to 6 in the plane z = 0.1, inside the basin."""
        r, angle = torch.rand(2, samples, generator=generator, dtype=torch.float64).unbind(0)
        r, angle = 2.0 + 4.0 * r, 2 * torch.pi * angle
        return torch.stack([r * angle.cos(), r * angle.sin(), torch.full_like(r, 0.1)], dim=1)
