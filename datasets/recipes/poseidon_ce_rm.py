"""A blast that runs through a wavy border of two gases: CE-RM of Poseidon's downstream tasks.

Theirs: periodic unit box, gamma = 1.4, 128 x 128 cells, 21 frames up to t = 2, 1,260 samples (1,030/100/130): gas at rest,
pressure 20 within 0.1 of the middle and 1 beyond, density 2 within a wavy circle of mean radius 1/4 and 1 beyond. Ours:
the waves, which the supplement's formula leaves open, are cos(j angle + phase), j = 1..10, of random weights that add up
to 0.06, a height that it does not give; 128 x 128 out of 256 x 256 cells, fewer samples, momentum and energy in place of
velocity and pressure.
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
class WavyBlast:
    """Hot gas in the middle of a dense one with a wavy border, at rest, (4, *cells)."""

    radius: float = 0.25
    height: float = 0.06
    waves: int = 10
    blast: tuple[float, float] = (0.1, 20.0)

    def __call__(self, domain: Grid, channels: int, generator: torch.Generator) -> Tensor:
        weight = uniform(generator, 0, 1, self.waves)
        weight = self.height * weight / weight.sum()
        phase = uniform(generator, 0, 2 * math.pi, self.waves)

        def primitive(x: Tensor) -> Tensor:
            across, up = x - 0.5
            far, angle = torch.hypot(across, up), torch.atan2(up, across)
            border = torch.full_like(far, self.radius)
            for j in range(self.waves):
                border = border + weight[j] * torch.cos((j + 1) * angle + phase[j])
            rest, (size, pressure) = torch.zeros_like(far), self.blast
            return torch.stack(
                [
                    torch.where(far < border, 2.0, 1.0).to(far.dtype),
                    rest,
                    rest,
                    torch.where(far < size, pressure, 1.0).to(far.dtype),
                ]
            )

        return averages(primitive, domain)


RECIPE = Recipe(
    name="poseidon_ce_rm",
    title="2D compressible Euler, a blast through a wavy border (Poseidon CE-RM: 1,260 samples)",
    citation=f"{CITATION}, CE-RM.",
    pde=CompressibleEuler,
    parameters={"gamma": Constant(GAMMA)},
    domain=CELLS,
    initial=WavyBlast(),
    solver=volumes,
    resolution_factor=2,
    dt=0.1,
    steps=20,
    samples={"train": 32, "valid": 8, "test": 8},
    shard_size=4,
)
