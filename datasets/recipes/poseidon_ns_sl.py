"""A double shear layer that rolls up: NS-SL of Poseidon's downstream tasks.

Theirs: unit box, periodic, 128 x 128 points, 21 frames up to t = 1, 40,000 samples (39,640/120/240), layers of width
r/(2 pi) with r in (0.08, 0.12), displaced by up to 1/16 and rippled by 7 to 12 waves of 0.025, viscosity 4e-4 on short
waves. Ours: viscosity on all waves, fewer samples, and where the ripple enters: the layers follow it. In the
supplement's formula only the switch between the two layers does, half-way between them, where nothing changes.
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
    coefficients_of,
    uniform,
    vorticity_of,
    whole,
)
from sciml.domains import Grid
from sciml.pdes import NavierStokes

FINE = Grid((512, 512), (1.0, 1.0))
"""Points that the layers are sampled on, whatever the grid."""


@dataclass(frozen=True)
class ShearLayers:
    """Coefficients of the vorticity of u = tanh(2 pi (y' - 1/4)/r) below y' = 1/2 and tanh(2 pi (3/4 - y')/r) above.

    y' = y + xi + ripple sum_k a_k sin(2 pi k x - b_k), taken modulo 1, with a_k even in (0, 1) and any phase.
    """

    radius: tuple[float, float] = (0.08, 0.12)
    offset: float = 0.0625
    ripple: float = 0.025
    waves: tuple[int, int] = (7, 12)

    def __call__(self, generator: torch.Generator) -> Tensor:
        count = whole(generator, *self.waves)
        radius = uniform(generator, *self.radius, 1)
        offset = uniform(generator, -self.offset, self.offset, 1)
        size = uniform(generator, 0, 1, count, 1, 1)
        phase = uniform(generator, 0, 2 * math.pi, count, 1, 1)
        x, y = FINE.coordinates()
        k = torch.arange(1, count + 1, dtype=torch.float64).reshape(-1, 1, 1)
        ripple = (size * torch.sin(2 * math.pi * k * x - phase)).sum(dim=0)
        place = (y + offset + self.ripple * ripple).remainder(1.0)
        u = torch.tanh(2 * math.pi * (0.25 - (place - 0.5).abs()) / radius)
        return vorticity_of(coefficients_of(torch.stack([u, torch.zeros_like(u)])))


RECIPE = Recipe(
    name="poseidon_ns_sl",
    title="2D incompressible double shear layer (Poseidon NS-SL: 40,000 samples)",
    citation=f"{CITATION}, NS-SL.",
    pde=NavierStokes,
    parameters={"viscosity": Constant(VISCOSITY)},
    domain=NODES,
    initial=Vortices(ShearLayers()),
    solver=Spectral(max_speed=2.0),
    dt=0.05,
    steps=20,
    samples={"train": 32, "valid": 8, "test": 8},
    shard_size=4,
)
