"""1D Fisher-KPP, drag_gamma = 0.02 and quadratic_delta = -0.02 (logistic growth to 1), diffusion_gamma = 0.2.

Starts fill the range from 0 to 1. drag_gamma stands for growth where it is positive.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.datasets.distributions import Constant
from sciml.datasets.recipe import Recipe
from sciml.datasets.recipes._apebench import CITATION, LINE, SAMPLES_1D, STEPS, Spectral, nonlinear
from sciml.domains import Grid
from sciml.fields import RandomFourier


@dataclass(frozen=True)
class Between:
    """`waves`, scaled and shifted so that they range from `low` to `high` on a fixed set of points."""

    low: float = 0.0
    high: float = 1.0
    waves: RandomFourier = RandomFourier(modes=5, zero_mean=False, max_one=False)

    def __call__(self, domain: Grid, channels: int, generator: torch.Generator) -> Tensor:
        state = generator.get_state()
        # Of the function and not of the grid, so that finer grids start from the same.
        many = self.waves(domain.resized((960,) + (96,) * (domain.dimension - 1)), channels, generator)
        generator.set_state(state)
        u = self.waves(domain, channels, generator)
        axes = [1] * domain.dimension
        least, most = (many.flatten(1).amin(1), many.flatten(1).amax(1))
        return self.low + (self.high - self.low) * (u - least.reshape(-1, *axes)) / (most - least).reshape(
            -1, *axes
        )


RECIPE = Recipe(
    name="apebench_1d_diff_fisher",
    title="1D Fisher-KPP (APEBench: 50 and 30 trajectories)",
    citation=f"{CITATION}, scenario 1d_diff_fisher.",
    pde=nonlinear,
    parameters={
        "drag_gamma": Constant(0.02),
        "quadratic_delta": Constant(-0.02),
        "diffusion_gamma": Constant(0.2),
    },
    domain=LINE,
    initial=Between(),
    solver=Spectral(),
    dt=1.0,
    steps=STEPS,
    samples=SAMPLES_1D,
    shard_size=10,
)
