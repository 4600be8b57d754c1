"""Shock tubes of PDEBench: two random states side by side, without friction, between open ends.

PDEBench stores 1024 cells and 101 frames up to t = 0.4 for eta = zeta = 1e-8, which are taken as zero; here 256 cells
and 41 frames.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sciml.datasets.recipes.compressible_1d import GAMMA
from sciml.datasets.recipes.compressible_1d_outflow import RECIPE as WAVES
from sciml.domains import Grid
from sciml.pdes import CompressibleEuler


@dataclass(frozen=True)
class RandomTube:
    """Two states of a gas side by side, in conserved variables (3, N); the cell that their border cuts holds the mean.

    Args:
        density, pressure: ranges, even in the logarithm [kg/m^3], [Pa].
        velocity: range [m/s].
        border: its range in fractions of the box.
    """

    density: tuple[float, float] = (1.0, 10.0)
    velocity: tuple[float, float] = (-0.5, 0.5)
    pressure: tuple[float, float] = (10.0, 100.0)
    border: tuple[float, float] = (0.25, 0.75)

    def __call__(self, domain: Grid, channels: int, generator: torch.Generator) -> Tensor:
        draws = torch.rand(3, 2, generator=generator, dtype=torch.float64)
        place = float(torch.rand((), generator=generator, dtype=torch.float64))
        density, pressure = (
            low * (high / low) ** t
            for (low, high), t in ((self.density, draws[0]), (self.pressure, draws[2]))
        )
        slow, fast = self.velocity
        sides = torch.stack([density, slow + (fast - slow) * draws[1], pressure])  # (3, left and right)
        left, right = CompressibleEuler(GAMMA).conservative(sides.T.unsqueeze(2))
        low, high = self.border
        start = float(domain.axes()[0][0]) - domain.spacing[0] / 2
        at = start + (low + (high - low) * place) * domain.lengths[0]
        share = ((at - domain.axes()[0]) / domain.spacing[0] + 0.5).clamp(0, 1)  # of a cell, on the left
        return share * left + (1 - share) * right


RECIPE = replace(
    WAVES,
    name="compressible_1d_shock",
    title="1D shock tubes of random states (PDEBench: 1024 cells)",
    citation="PDEBench, Takamoto et al. (2022), appendix D.5, shock tubes at eta = zeta = 1e-8.",
    initial=RandomTube(),
    steps=40,
)
