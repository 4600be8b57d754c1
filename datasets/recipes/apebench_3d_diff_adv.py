"""3D advection along the diagonal, advection_gamma = -4: 4/3 of a point along each axis per step."""

from __future__ import annotations

from sciml.datasets.distributions import Constant
from sciml.datasets.recipe import Recipe
from sciml.datasets.recipes._apebench import CITATION, CUBE, SAMPLES_3D, STEPS, WAVES, linear, transport

RECIPE = Recipe(
    name="apebench_3d_diff_adv",
    title="3D advection (APEBench: 32^3 points, 50 and 30 trajectories)",
    citation=f"{CITATION}, scenario 3d_diff_adv.",
    pde=linear,
    parameters={"advection_gamma": Constant(-4.0)},
    domain=CUBE,
    initial=WAVES,
    solver=transport,
    dt=1.0,
    steps=STEPS,
    samples=SAMPLES_3D,
    shard_size=1,
)
