"""Compressible Euler in 1D: shock tubes with random states, a random diaphragm and open ends."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.datasets.distributions import Constant
from sciml.datasets.recipe import Recipe
from sciml.domains import Grid
from sciml.pdes import CompressibleEuler


@dataclass(frozen=True)
class ShockTube:
    """Two states of rest or motion side by side, in conserved variables (3, N).

    Density, velocity and pressure of each side are even in their ranges, as is the diaphragm's place in
    fractions of the box. A cell that the diaphragm cuts holds the mean of both sides.
    """

    density: tuple[float, float] = (0.2, 1.5)
    velocity: tuple[float, float] = (-0.3, 0.3)
    pressure: tuple[float, float] = (0.2, 1.5)
    diaphragm: tuple[float, float] = (0.35, 0.65)
    gamma: float = 1.4

    def __call__(self, domain: Grid, channels: int, generator: torch.Generator) -> Tensor:
        ranges = torch.tensor([self.density, self.velocity, self.pressure], dtype=torch.float64)
        draws = torch.rand(3, 2, dtype=torch.float64, generator=generator)
        sides = ranges[:, :1] + (ranges[:, 1:] - ranges[:, :1]) * draws
        place = torch.rand((), dtype=torch.float64, generator=generator)
        low, high = self.diaphragm
        x0 = (low + (high - low) * place) * domain.lengths[0]
        h = domain.spacing[0]
        share = ((x0 - (domain.axes()[0] - h / 2)) / h).clamp(0, 1)  # part of the cell on the left
        states = CompressibleEuler(self.gamma).conservative(sides.T.unsqueeze(2))
        return share * states[0] + (1 - share) * states[1]


RECIPE = Recipe(
    name="euler",
    title="1D compressible Euler, random shock tubes",
    citation="Sod, J. Comput. Phys. 27 (1978), with random states on both sides.",
    pde=CompressibleEuler,
    parameters={"gamma": Constant(1.4)},
    domain=Grid((256,), (1.0,), boundary="outflow", centering="cell"),
    initial=ShockTube(),
    dt=0.005,
    steps=50,
    samples={"train": 64, "valid": 32, "test": 32},
    resolution_factor=2,
    shard_size=32,
)
