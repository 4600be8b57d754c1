"""Transport by a given velocity."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sciml.calculus.base import Calculus
from sciml.domains import Domain
from sciml.pdes.advection_diffusion import plane_waves, transport
from sciml.pdes.base import SemiLinear, integral, is_periodic
from sciml.pdes.parameters import Velocity, check_velocity, is_field
from sciml.trajectory import Field


@dataclass(frozen=True)
class Advection(SemiLinear):
    """Advection of a scalar, u_t + (c . grad) u = 0.

    On a periodic box with div c = 0 the integral of u and that of u^2 are kept.

    Args:
        velocity: c [length/time], see `Velocity`; a field has to be free of divergence.
    """

    velocity: Velocity = 1.0

    fields: ClassVar[tuple[Field, ...]] = (Field("concentration"),)

    def __post_init__(self) -> None:
        object.__setattr__(self, "velocity", check_velocity("Advection", self.velocity))

    def linear(self, u: Tensor, calc: Calculus) -> Tensor:
        return torch.zeros_like(u) if is_field(self.velocity) else transport(u, self.velocity, calc)

    def nonlinear(self, u: Tensor, calc: Calculus) -> Tensor:
        return transport(u, self.velocity, calc) if is_field(self.velocity) else torch.zeros_like(u)

    def invariants(self, u: Tensor, domain: Domain) -> Mapping[str, Tensor]:
        if not is_periodic(domain):
            return {}
        return {"content": integral(u, domain)[:, 0], "square": integral(u.square(), domain)[:, 0]}

    def exact(self, x: Tensor, t: Tensor | float) -> Tensor:
        """Two plane waves at points x (B, D, *points) and times t, on a box of side 2 pi."""
        return plane_waves(x, t, self.velocity, 0.0)

    def exact_lengths(self, dimension: int) -> tuple[float, ...]:
        """Sides of the periodic box of `exact` [length]."""
        return (2 * math.pi,) * dimension
