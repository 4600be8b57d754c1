"""Compressible Euler in 2D: smooth random states that steepen, on a periodic box.

Solved on the cells that are stored, which takes a minute or two; the certificate says how far from a finer
solution that is. `resolution_factor=2` comes closer, with eight times the cell updates.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.datasets.distributions import Constant
from sciml.datasets.recipe import Recipe
from sciml.domains import Grid
from sciml.fields import RandomFourier
from sciml.pdes import CompressibleEuler


@dataclass(frozen=True)
class SmoothGas:
    """Random Fourier waves in density, velocity and pressure, as conserved variables (D + 2, *points).

    Density and pressure are 1 + amplitude * w with |w| <= 1, velocities `speed` * w.
    """

    modes: int = 2
    amplitude: float = 0.4
    speed: float = 0.5
    gamma: float = 1.4

    def __call__(self, domain: Grid, channels: int, generator: torch.Generator) -> Tensor:
        waves = RandomFourier(modes=self.modes)(domain, channels, generator)
        primitive = self.speed * waves
        primitive[0] = 1 + self.amplitude * waves[0]
        primitive[-1] = 1 + self.amplitude * waves[-1]
        return CompressibleEuler(self.gamma).conservative(primitive.unsqueeze(0))[0]


RECIPE = Recipe(
    name="euler_2d",
    title="2D compressible Euler, random waves that steepen",
    citation="Random fields as in PDEBench, Takamoto et al. (2022), appendix D.5.",
    pde=CompressibleEuler,
    parameters={"gamma": Constant(1.4)},
    domain=Grid((64, 64), (1.0, 1.0), boundary="periodic", centering="cell"),
    initial=SmoothGas(),
    dt=0.02,
    steps=20,
    samples={"train": 32, "valid": 8, "test": 8},
    shard_size=8,
)
