"""Compressible flow in 3D without friction: random fields at Mach 1, periodic.

PDEBench's random 3D set at eta = zeta = 1e-8, taken as zero. There 128^3 cells, 21 frames, 100 samples; here 32^3 cells,
11 frames. `compressible_3d_turbulence` and `compressible_3d_blast` start otherwise.
"""

from __future__ import annotations

from dataclasses import replace

from sciml.datasets.distributions import Constant
from sciml.datasets.recipes.compressible_1d import GAMMA
from sciml.datasets.recipes.compressible_2d import RandomFlow
from sciml.datasets.recipes.compressible_2d_inviscid import RECIPE as PLANE
from sciml.domains import Grid

RECIPE = replace(
    PLANE,
    name="compressible_3d",
    title="3D compressible flow without friction, random fields (PDEBench: 128^3 cells)",
    citation="PDEBench, Takamoto et al. (2022), appendix D.5, random 3D fields at eta = zeta = 1e-8 and Mach 1.",
    parameters={"gamma": Constant(GAMMA), "mach": Constant(1.0)},
    domain=Grid((32, 32, 32), (1.0, 1.0, 1.0), boundary="periodic", centering="cell"),
    initial=RandomFlow(density=(0.1, 10.0), modes=2),
    dt=0.05,
    steps=10,
    samples={"train": 16, "valid": 4, "test": 4},
    shard_size=4,
)
