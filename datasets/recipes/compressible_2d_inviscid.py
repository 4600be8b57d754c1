"""Compressible flow in 2D without friction: random fields at Mach 0.1 or 1 that steepen to shocks, periodic.

PDEBench's random sets at eta = zeta = 1e-8, of which no grid of its size or this one sees anything: they are taken as
zero. There 512^2 cells (or 128^2), 21 frames and 1000 samples of each Mach number.
"""

from __future__ import annotations

from dataclasses import replace

from sciml.datasets.distributions import Choice, Constant
from sciml.datasets.recipe import default_solver
from sciml.datasets.recipes.compressible_1d import GAMMA
from sciml.datasets.recipes.compressible_2d import RECIPE as VISCOUS
from sciml.datasets.recipes.compressible_2d import RandomFlow
from sciml.pdes import CompressibleEuler
from sciml.pdes.parameters import Parameter


def gas(gamma: float, mach: Parameter) -> CompressibleEuler:
    """A gas without friction; only its start knows the Mach number."""
    return CompressibleEuler(gamma)


RECIPE = replace(
    VISCOUS,
    name="compressible_2d_inviscid",
    title="2D compressible flow without friction, random fields (PDEBench: 128^2 and 512^2 cells)",
    citation="PDEBench, Takamoto et al. (2022), appendix D.5, random fields at eta = zeta = 1e-8 and Mach 0.1 and 1.",
    pde=gas,
    parameters={"gamma": Constant(GAMMA), "mach": Choice((0.1, 1.0))},
    initial=RandomFlow(density=(0.1, 10.0)),
    solver=default_solver,
)
