"""Advection of a step, 1 left of the middle and 0 right of it, at a speed from 1 to 5; what enters is 1.

The mass is 1/2 + a t until the step meets the right side. Test values are a = 1 and 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sciml.datasets.distributions import Uniform
from sciml.datasets.recipe import Recipe
from sciml.datasets.recipes._known_fronts import CITATION, Known, averages
from sciml.domains import Grid, Inflow
from sciml.pdes import ScalarLaw
from sciml.pdes.parameters import Parameter
from sciml.step import Step
from sciml.trajectory import Field


@dataclass(frozen=True)
class Carried(ScalarLaw):
    """Advection as a conservation law, u_t + sum_d n_d du/dx_d = 0, n being the velocity."""

    fields: ClassVar[tuple[Field, ...]] = (Field("concentration"),)

    @property
    def sonic_points(self) -> tuple[Parameter, ...]:
        return ()

    def flow(self, u: Tensor) -> Tensor:
        return u

    def speed(self, u: Tensor) -> Tensor:
        return torch.ones_like(u)


def law(velocity: Tensor | float) -> Carried:
    """Of a velocity, a number or (B, 1, 1)."""
    return Carried(direction=velocity)


def exact(domain: Grid, parameter: Tensor, time: float) -> Tensor:
    """Cell averages (B, 1, n) for velocities (B, 1, 1)."""
    return averages(lambda x: torch.minimum(x, 0.5 + parameter * time), domain)


def mass(parameter: Tensor, time: float) -> Tensor:
    """Integral of u, (B, 1, 1)."""
    return 0.5 + (parameter * time).clamp(max=0.5)


def solve(pde: Carried, domain: Grid, dt: float, substeps: int | None) -> Step:
    """Finite volumes, one entering."""
    from sciml.solvers.finite_volume import finite_volume

    return finite_volume(pde, domain, dt, conditions={"x-": Inflow(1.0)}, substeps=substeps)


RECIPE = Recipe(
    name="advection_step",
    title="1D advection of a step, a speed per sample, exact solution known",
    citation=CITATION,
    pde=law,
    parameters={"velocity": Uniform(1.0, 5.0)},
    domain=Grid((200,), (1.0,), boundary=(("inflow", "outflow"),), centering="cell"),
    initial=Known(exact, "velocity"),
    solver=solve,
    dt=0.01,
    steps=50,
    samples={"train": 128, "valid": 16, "test": 16},
    shard_size=16,
)
