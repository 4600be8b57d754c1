"""A curved vortex sheet that rolls up: NS-SVS of Poseidon's downstream tasks.

Theirs: unit box, periodic, 128 x 128 points, 21 frames up to t = 1, 20,000 samples (19,640/120/240), a sheet along
y = 1/2 + 0.2 sin(2 pi x) + sum of ten a_i sin(2 pi (x + b_i)), a_i in (0, 1/320), b_i in (0, 1), spread by a cubic spline
over 5/128 to either side, viscosity 4e-4 on short waves. Ours: viscosity on all waves, fewer samples. As their formula
stands, all ten waves are as long as the box, so that samples differ little.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.datasets.distributions import Constant
from sciml.datasets.recipe import Recipe
from sciml.datasets.recipes._poseidon import (
    CITATION,
    NODES,
    VISCOSITY,
    Spectral,
    Vortices,
    uniform,
    wavenumbers,
)
from sciml.pdes import NavierStokes

POINTS = 1024
"""Of the curve, over which the integral is taken."""

RINGS = 200
"""Of the spline, likewise."""


@dataclass(frozen=True)
class VortexSheet:
    """Coefficients of a vorticity of one per length of the sheet, spread by the radial cubic B-spline of `radius`."""

    bend: float = 0.2
    waves: int = 10
    amplitude: float = 1 / 320
    radius: float = 5 / 128

    def __call__(self, generator: torch.Generator) -> Tensor:
        size = uniform(generator, 0, self.amplitude, self.waves, 1)
        place = uniform(generator, 0, 1, self.waves, 1)
        x = torch.arange(POINTS, dtype=torch.float64) / POINTS
        turn = 2 * math.pi
        y = 0.5 + self.bend * torch.sin(turn * x) + (size * torch.sin(turn * (x + place))).sum(dim=0)
        slope = turn * (self.bend * torch.cos(turn * x) + (size * torch.cos(turn * (x + place))).sum(dim=0))
        length = torch.sqrt(1 + slope.square()) / POINTS
        k, m = (numbers.reshape(-1, 1) for numbers in wavenumbers())
        one = torch.ones(1, POINTS, dtype=torch.float64)
        along, across = torch.polar(one, -turn * k * x), torch.polar(length.expand_as(m * y), -turn * m * y)
        return torch.einsum("an,bn->ab", along, across) * self.spread()

    def spread(self) -> Tensor:
        """The transform of the spline, 1 for the mean."""
        r = (torch.arange(RINGS, dtype=torch.float64) + 0.5) / RINGS
        steps = ((1, 1), (-4, 0.5), (6, 0), (-4, -0.5), (1, -1))
        weight = r * sum((c * (r + s).clamp(min=0) ** 3 for c, s in steps), torch.zeros_like(r))
        k, m = wavenumbers()
        waves = torch.special.bessel_j0(2 * math.pi * self.radius * torch.hypot(k, m).unsqueeze(-1) * r)
        return (waves @ weight) / weight.sum()


RECIPE = Recipe(
    name="poseidon_ns_svs",
    title="2D incompressible flow from a vortex sheet (Poseidon NS-SVS: 20,000 samples)",
    citation=f"{CITATION}, NS-SVS.",
    pde=NavierStokes,
    parameters={"viscosity": Constant(VISCOSITY)},
    domain=NODES,
    initial=Vortices(VortexSheet()),
    solver=Spectral(max_speed=2.0),
    dt=0.05,
    steps=20,
    samples={"train": 32, "valid": 8, "test": 8},
    shard_size=4,
)
