"""2D Kolmogorov flow, in the vorticity, after 500 frames of warm-up.

Box of side 2 pi, viscosity 0.01, a force sin(4 y) along x, and 0.1 between frames. A drag of -0.1 in APEBench is one of
0.1 here. Solved on 128 x 128 points and stored on 64 x 64.
"""

from __future__ import annotations

import math

from sciml.datasets.distributions import Constant
from sciml.datasets.recipe import Recipe
from sciml.datasets.recipes._apebench import CITATION, STEPS, WAVES, Spectral
from sciml.domains import Grid
from sciml.pdes import NavierStokesVorticity
from sciml.pdes.parameters import Parameter


def forced(viscosity: Parameter, drag: Parameter) -> NavierStokesVorticity:
    """The equation with that force."""
    return NavierStokesVorticity(viscosity, drag, (4.0, 1.0))


RECIPE = Recipe(
    name="apebench_2d_kolm_flow",
    title="2D Kolmogorov flow (APEBench: 160^2 points, 50 and 30 trajectories)",
    citation=f"{CITATION}, scenario 2d_phy_kolm_flow.",
    pde=forced,
    parameters={"viscosity": Constant(1e-2), "drag": Constant(0.1)},
    domain=Grid((64, 64), (2 * math.pi, 2 * math.pi)),
    initial=WAVES,
    solver=Spectral(max_speed=3.0),
    dt=0.1,
    steps=STEPS,
    resolution_factor=2,
    warmup=500,
    # Of which most of the time goes to the warm-up.
    samples={"train": 8, "valid": 1, "test": 2},
    shard_size=2,
)
