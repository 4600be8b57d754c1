"""Transport by a given velocity, with diffusion."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sciml.calculus.base import Calculus
from sciml.domains import Domain
from sciml.pdes.base import SemiLinear, integral, is_periodic
from sciml.pdes.parameters import (
    Parameter,
    Velocity,
    check_parameter,
    check_velocity,
    component,
    fit,
    is_field,
)
from sciml.trajectory import Field

# Wave vectors and amplitudes of the exact solution, cut to the number of axes. Different numbers along
# the axes, so that a mixed-up axis shows.
_WAVES = (((1.0, 2.0, 1.0), 1.0), ((2.0, -1.0, 1.0), 0.5))


def transport(u: Tensor, velocity: Velocity, calc: Calculus) -> Tensor:
    """-(c . grad) u, (B, C, *points) -> (B, C, *points) [u / time]."""
    total = torch.zeros((), dtype=u.dtype, device=u.device)
    for axis in range(calc.dimension):
        total = total - component(velocity, axis, calc.dimension, u) * calc.derivative(u, axis)
    return total


def plane_waves(x: Tensor, t: Tensor | float, velocity: Velocity, diffusivity: Parameter) -> Tensor:
    """Two plane waves carried by the velocity and decaying by diffusion, (B, 1, *points)."""
    if is_field(velocity):
        raise ValueError("No exact solution is known for a velocity that differs from point to point.")
    dimension = x.shape[1]
    u = torch.zeros((), dtype=x.dtype, device=x.device)
    for numbers, amplitude in _WAVES:
        phase, square = torch.zeros((), dtype=x.dtype, device=x.device), 0.0
        for axis, k in enumerate(numbers[:dimension]):
            phase = phase + k * (x[:, axis : axis + 1] - component(velocity, axis, dimension, x) * t)
            square += k**2
        decay = torch.exp(
            -fit(diffusivity, x) * square * torch.as_tensor(t, dtype=x.dtype, device=x.device)
        )
        u = u + amplitude * decay * torch.sin(phase)
    return u


@dataclass(frozen=True)
class AdvectionDiffusion(SemiLinear):
    """Advection and diffusion of a scalar, u_t + (c . grad) u = kappa lap(u).

    The integral over a periodic box is kept where div c = 0, which a velocity field has to bring along.

    Args:
        velocity: c [length/time], see `Velocity`; a field is treated as non-linear by implicit and
            exponential schemes, a constant as part of the linear operator.
        diffusivity: kappa [length^2/time], not negative.
    """

    velocity: Velocity = 1.0
    diffusivity: Parameter = 0.1

    fields: ClassVar[tuple[Field, ...]] = (Field("concentration"),)

    def __post_init__(self) -> None:
        object.__setattr__(self, "velocity", check_velocity("AdvectionDiffusion", self.velocity))
        check_parameter("AdvectionDiffusion", "diffusivity", self.diffusivity, minimum=0.0)

    def linear(self, u: Tensor, calc: Calculus) -> Tensor:
        diffusion = fit(self.diffusivity, u) * calc.laplacian(u)
        return diffusion if is_field(self.velocity) else diffusion + transport(u, self.velocity, calc)

    def nonlinear(self, u: Tensor, calc: Calculus) -> Tensor:
        return transport(u, self.velocity, calc) if is_field(self.velocity) else torch.zeros_like(u)

    def invariants(self, u: Tensor, domain: Domain) -> Mapping[str, Tensor]:
        return {"content": integral(u, domain)[:, 0]} if is_periodic(domain) else {}

    def exact(self, x: Tensor, t: Tensor | float) -> Tensor:
        """Two decaying plane waves at points x (B, D, *points) and times t, on a box of side 2 pi."""
        return plane_waves(x, t, self.velocity, self.diffusivity)

    def exact_lengths(self, dimension: int) -> tuple[float, ...]:
        """Sides of the periodic box of `exact` [length]."""
        return (2 * math.pi,) * dimension
