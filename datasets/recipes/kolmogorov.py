"""Kolmogorov flow in velocities: turbulence in the plane that a wave of force keeps moving."""

from __future__ import annotations

import math

from sciml.datasets.distributions import Constant
from sciml.datasets.recipe import Recipe
from sciml.domains import Grid
from sciml.fields import GaussianRandomField
from sciml.pdes import NavierStokes
from sciml.pdes.parameters import Parameter


def forced(viscosity: Parameter, drag: Parameter) -> NavierStokes:
    """The equation with the force sin(4 y) along x."""
    return NavierStokes(viscosity, drag, (4.0, 1.0))


RECIPE = Recipe(
    name="kolmogorov",
    title="2D Kolmogorov flow, velocities, on the attractor",
    citation="Kochkov et al., PNAS 118 (2021), for force and drag; viscosity ten times theirs.",
    pde=forced,
    parameters={"viscosity": Constant(1e-2), "drag": Constant(0.1)},
    domain=Grid((64, 64), (2 * math.pi, 2 * math.pi)),
    initial=GaussianRandomField(alpha=4.0, tau=5.0, scale=1.0, modes=16),
    dt=0.2,
    steps={"train": 50, "valid": 50, "test": 200},
    samples={"train": 16, "valid": 2, "test": 4},
    # 60 time units take the random start onto the attractor.
    warmup=300,
    substeps=20,
    shard_size=4,
)
