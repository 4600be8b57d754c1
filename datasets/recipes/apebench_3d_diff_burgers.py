"""3D Burgers' equation in conservative vector form, convection_delta = -1.5, diffusion_gamma = 1.5.

Fronts are two points wide: against twice the points the error is half a percent.
"""

from __future__ import annotations

from sciml.datasets.distributions import Constant
from sciml.datasets.recipe import Recipe
from sciml.datasets.recipes._apebench import CITATION, CUBE, SAMPLES_3D, STEPS, WAVES, Spectral, convection

RECIPE = Recipe(
    name="apebench_3d_diff_burgers",
    title="3D vector Burgers (APEBench: 32^3 points, 50 and 30 trajectories)",
    citation=f"{CITATION}, scenario 3d_diff_burgers.",
    pde=convection,
    parameters={"convection_delta": Constant(-1.5), "diffusion_gamma": Constant(1.5)},
    domain=CUBE,
    initial=WAVES,
    solver=Spectral(),
    dt=1.0,
    steps=STEPS,
    samples=SAMPLES_3D,
    shard_size=1,
)
