"""Two streams of gas with rippled borders: CE-KH of Poseidon's pre-training data.

Theirs: unit box, periodic, gamma = 1.4, 128 x 128 cells out of 512 x 512, 21 frames up to t = 1, 10,000 samples
(9,640/120/240): density 2 and velocity -1/2 between y = 1/4 and 3/4, density 1 and velocity 1/2 beyond, pressure 5/2,
borders rippled by up to 0.05. Ours: ten waves per border, a number that the supplement does not give; 128 x 128 out of
256 x 256 cells, fewer samples, momentum and energy in place of velocity and pressure. Borders without width have
whirls of any size: finer grids add smaller ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.datasets.distributions import Constant
from sciml.datasets.recipe import Recipe
from sciml.datasets.recipes._poseidon import CELLS, CITATION, GAMMA, averages, uniform, volumes
from sciml.domains import Grid
from sciml.pdes import CompressibleEuler


@dataclass(frozen=True)
class Streams:
    """Two streams (4, *cells) whose borders follow y = 1/4 + s_0(x) and 3/4 + s_1(x).

    s is `ripple` times a mean of cos(2 pi k (x + b_k)), k = 1..waves, of random weights, b_k in (0, 1).
    """

    ripple: float = 0.05
    waves: int = 10

    def __call__(self, domain: Grid, channels: int, generator: torch.Generator) -> Tensor:
        weight = uniform(generator, 0, 1, 2, self.waves, 1, 1)
        weight = weight / weight.sum(dim=1, keepdim=True)
        phase = uniform(generator, 0, 1, 2, self.waves, 1, 1)
        k = torch.arange(1, self.waves + 1, dtype=torch.float64).reshape(-1, 1, 1)

        def primitive(x: Tensor) -> Tensor:
            line = x[0, :, :1]  # borders do not depend on y
            low, high = self.ripple * (weight * torch.cos(2 * math.pi * k * (line + phase))).sum(dim=1)
            between = ((x[1] >= 0.25 + low) & (x[1] <= 0.75 + high)).to(x.dtype)
            return torch.stack(
                [1 + between, 0.5 - between, torch.zeros_like(between), torch.full_like(between, 2.5)]
            )

        return averages(primitive, domain)


RECIPE = Recipe(
    name="poseidon_ce_kh",
    title="2D compressible Euler, two streams (Poseidon CE-KH: 10,000 samples)",
    citation=f"{CITATION}, CE-KH.",
    pde=CompressibleEuler,
    parameters={"gamma": Constant(GAMMA)},
    domain=CELLS,
    initial=Streams(),
    solver=volumes,
    resolution_factor=2,
    dt=0.05,
    steps=20,
    samples={"train": 32, "valid": 8, "test": 8},
    shard_size=4,
)
