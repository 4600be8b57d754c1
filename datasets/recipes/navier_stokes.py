"""Vorticity of incompressible flow in the plane, decaying under a weak Kolmogorov forcing."""

from __future__ import annotations

import math

from sciml.datasets.distributions import Constant
from sciml.datasets.recipe import Recipe
from sciml.domains import Grid
from sciml.fields import GaussianRandomField
from sciml.pdes import NavierStokesVorticity

FORCING = (4.0, 0.1)
"""Wavenumber and amplitude of the force on the x velocity, F sin(k y)."""


def forced(viscosity: float, drag: float) -> NavierStokesVorticity:
    """The equation with Kolmogorov forcing."""
    return NavierStokesVorticity(viscosity, drag, FORCING)


RECIPE = Recipe(
    name="navier_stokes",
    title="2D Navier-Stokes, vorticity under Kolmogorov forcing",
    citation="Kochkov et al., PNAS 118 (2021), for the kind of flow.",
    pde=forced,
    parameters={"viscosity": Constant(2e-3), "drag": Constant(0.1)},
    domain=Grid((64, 64), (2 * math.pi, 2 * math.pi)),
    # Speeds of up to two and eddies of about a fifth of the box.
    initial=GaussianRandomField(alpha=4.0, tau=5.0, scale=8.0, modes=16),
    dt=0.1,
    steps={"train": 30, "valid": 30, "test": 120},
    samples={"train": 32, "valid": 8, "test": 8},
    resolution_factor=2,
    substeps=8,
    shard_size=4,
)
