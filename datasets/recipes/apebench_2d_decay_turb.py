"""2D decaying turbulence, in the vorticity: unit box, viscosity 1e-4, 0.1 between frames; at 64 x 64 points."""

from __future__ import annotations

from sciml.datasets.distributions import Constant
from sciml.datasets.recipe import Recipe
from sciml.datasets.recipes._apebench import CITATION, SAMPLES_2D, SQUARE, STEPS, WAVES, Spectral
from sciml.pdes import NavierStokesVorticity

RECIPE = Recipe(
    name="apebench_2d_decay_turb",
    title="2D decaying turbulence (APEBench: 160^2 points, 50 and 30 trajectories)",
    citation=f"{CITATION}, scenario 2d_phy_decay_turb.",
    pde=NavierStokesVorticity,
    parameters={"viscosity": Constant(1e-4)},
    domain=SQUARE,
    initial=WAVES,
    # The vorticity does not exceed 1, nor its waves the box: nothing moves faster than about 0.2.
    solver=Spectral(max_speed=0.25),
    dt=0.1,
    steps=STEPS,
    samples=SAMPLES_2D,
    shard_size=4,
)
