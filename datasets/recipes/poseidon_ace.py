"""Phases that part and coarsen: ACE (Allen-Cahn) of Poseidon's downstream tasks.

Theirs: u_t = lap(u) + e^2 (u - u^3) with e = 220 on the periodic unit box, 128 x 128 points, 20 frames up to
t = 0.0002, 15,000 samples (14,700/60/240), sums of up to 32 x 32 half waves, finite differences. Ours: spectral
steps on 256 x 256 points, fewer samples. Fronts between the phases are sqrt(2)/e = 0.8 of the stored spacings wide.
Half waves are kinked where the periodic box closes, so that a front lies there at first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.datasets.distributions import Constant
from sciml.datasets.recipe import Recipe
from sciml.datasets.recipes._poseidon import CITATION, NODES, uniform, whole
from sciml.domains import Grid
from sciml.pdes import AllenCahn


@dataclass(frozen=True)
class HalfWaves:
    """1/K^2 sum over i, j = 1..K of a_ij (i^2 + j^2)^-r sin(pi i x) sin(pi j y), (1, *points); a_ij even in (-1, 1)."""

    waves: tuple[int, int] = (16, 32)
    decay: tuple[float, float] = (0.7, 1.0)

    def __call__(self, domain: Grid, channels: int, generator: torch.Generator) -> Tensor:
        count = whole(generator, *self.waves)
        decay = uniform(generator, *self.decay, 1)
        i = torch.arange(1, count + 1, dtype=torch.float64).unsqueeze(1)
        size = uniform(generator, -1, 1, count, count) * (i.square() + i.T.square()) ** -decay
        along, across = (torch.sin(math.pi * i * x) for x in domain.axes())
        return (along.T @ size @ across).unsqueeze(0) / count**2


RECIPE = Recipe(
    name="poseidon_ace",
    title="2D Allen-Cahn from random half waves (Poseidon ACE: 15,000 samples)",
    citation=f"{CITATION}, ACE.",
    pde=AllenCahn,
    parameters={"diffusivity": Constant(1.0), "reaction": Constant(220.0**2)},
    domain=NODES,
    initial=HalfWaves(),
    resolution_factor=2,
    dt=2e-4 / 19,
    steps=19,
    samples={"train": 64, "valid": 16, "test": 16},
    shard_size=8,
)
