"""2D advection by exactly two points along each axis per step, advection_gamma = -4, at 64 x 64 points."""

from __future__ import annotations

from sciml.datasets.distributions import Constant
from sciml.datasets.recipe import Recipe
from sciml.datasets.recipes._apebench import CITATION, SAMPLES_2D, SQUARE, STEPS, WAVES, linear, transport

RECIPE = Recipe(
    name="apebench_2d_diff_adv",
    title="2D advection by two points per axis and step (APEBench: 160^2 points, 50 and 30 trajectories)",
    citation=f"{CITATION}, scenario 2d_diff_adv.",
    pde=linear,
    parameters={"advection_gamma": Constant(-4.0)},
    domain=SQUARE,
    initial=WAVES,
    solver=transport,
    dt=1.0,
    steps=STEPS,
    samples=SAMPLES_2D,
    shard_size=4,
)
