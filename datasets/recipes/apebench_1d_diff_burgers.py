"""1D Burgers' equation, convection_delta = -1.5 and diffusion_gamma = 1.5: fronts are about two points wide."""

from __future__ import annotations

from sciml.datasets.distributions import Constant
from sciml.datasets.recipe import Recipe
from sciml.datasets.recipes._apebench import CITATION, LINE, SAMPLES_1D, STEPS, WAVES, Spectral, convection

RECIPE = Recipe(
    name="apebench_1d_diff_burgers",
    title="1D Burgers with steepening fronts (APEBench: 50 and 30 trajectories)",
    citation=f"{CITATION}, scenario 1d_diff_burgers.",
    pde=convection,
    parameters={"convection_delta": Constant(-1.5), "diffusion_gamma": Constant(1.5)},
    domain=LINE,
    initial=WAVES,
    solver=Spectral(),
    dt=1.0,
    steps=STEPS,
    resolution_factor=2,
    samples=SAMPLES_1D,
    shard_size=10,
)
