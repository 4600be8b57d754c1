"""Compressible flow in 1D without friction: random waves that steepen to shocks and leave through open ends.

PDEBench's random set with transmissive ends at eta = zeta = 1e-8, of which no grid of its size or this one sees
anything: they are taken as zero. There 1024 cells, here 256.

The certificate finds errors of eight percent in the density, of which all but a twentieth is displacement: waves leave
the gas at a speed that is off by an error of first order in the spacing, nothing between open ends holds it, and by
t = 1 the pattern is up to four cells from its place.
"""

from __future__ import annotations

from dataclasses import replace

from sciml.datasets.distributions import Constant
from sciml.datasets.recipe import default_solver
from sciml.datasets.recipes.compressible_1d import GAMMA
from sciml.datasets.recipes.compressible_1d import RECIPE as VISCOUS
from sciml.domains import Grid
from sciml.pdes import CompressibleEuler

RECIPE = replace(
    VISCOUS,
    name="compressible_1d_outflow",
    title="1D compressible flow without friction, random waves between open ends (PDEBench: 1024 cells)",
    citation="PDEBench, Takamoto et al. (2022), appendix D.5, random transmissive fields at eta = zeta = 1e-8.",
    pde=CompressibleEuler,
    parameters={"gamma": Constant(GAMMA)},
    domain=Grid((256,), (2.0,), boundary="outflow", origin=-1.0, centering="cell"),
    solver=default_solver,
)
