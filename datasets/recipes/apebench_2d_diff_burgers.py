"""2D Burgers' equation in conservative vector form, convection_delta = -1.5, diffusion_gamma = 1.5, at 64 x 64 points."""

from __future__ import annotations

from sciml.datasets.distributions import Constant
from sciml.datasets.recipe import Recipe
from sciml.datasets.recipes._apebench import (
    CITATION,
    SAMPLES_2D,
    SQUARE,
    STEPS,
    WAVES,
    Spectral,
    convection,
)

RECIPE = Recipe(
    name="apebench_2d_diff_burgers",
    title="2D vector Burgers (APEBench: 160^2 points, 50 and 30 trajectories)",
    citation=f"{CITATION}, scenario 2d_diff_burgers.",
    pde=convection,
    parameters={"convection_delta": Constant(-1.5), "diffusion_gamma": Constant(1.5)},
    domain=SQUARE,
    initial=WAVES,
    solver=Spectral(),
    dt=1.0,
    steps=STEPS,
    resolution_factor=2,
    samples=SAMPLES_2D,
    shard_size=4,
)
