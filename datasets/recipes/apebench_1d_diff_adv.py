"""1D advection by exactly four points per step: data without any error but that of float32.

The default difficulty, advection_gamma = -4. What moves by whole points per step is made by moving the values; other
difficulties by exact steps of Fourier modes.
"""

from __future__ import annotations

from sciml.datasets.distributions import Constant
from sciml.datasets.recipe import Recipe
from sciml.datasets.recipes._apebench import CITATION, LINE, SAMPLES_1D, STEPS, WAVES, linear, transport

RECIPE = Recipe(
    name="apebench_1d_diff_adv",
    title="1D advection by four points per step (APEBench: 50 and 30 trajectories)",
    citation=f"{CITATION}, scenario 1d_diff_adv.",
    pde=linear,
    parameters={"advection_gamma": Constant(-4.0)},
    domain=LINE,
    initial=WAVES,
    solver=transport,
    dt=1.0,
    steps=STEPS,
    samples=SAMPLES_1D,
    shard_size=10,
)
