"""Incompressible flow from rough random fields: NS-BB of Poseidon's downstream tasks.

Theirs: Brownian bridges on the unit box, waves of amplitudes a/|k|^(3/2), that flow for half a time unit before the first
of 21 frames up to t = 1, 128 x 128 points, 20,000 samples (19,640/120/240), viscosity 4e-4 on short waves. Ours:
viscosity on all waves, fewer samples, and which waves there are: all that the grid carries, as products of a sine or
cosine along each axis with coefficients even in (-1, 1), of which the part without divergence is taken.
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
    MODES,
    NODES,
    VISCOSITY,
    Spectral,
    Vortices,
    coefficients_of,
    uniform,
    vorticity_of,
)
from sciml.pdes import NavierStokes

POINTS = 256
"""Along each axis, on which the waves are summed before their coefficients are taken."""


@dataclass(frozen=True)
class BrownianBridge:
    """Coefficients of the vorticity of two random fields u and v.

    Each is the sum over k, l = 0..63, not both 0, and over f, g out of sine and cosine of a f(2 pi k x) g(2 pi l y)
    |(k, l)|^-decay, a even in (-1, 1).
    """

    decay: float = 1.5

    def __call__(self, generator: torch.Generator) -> Tensor:
        n = torch.arange(MODES + 1, dtype=torch.float64)
        far = torch.hypot(n.unsqueeze(1), n)
        size = torch.where(far > 0, far, math.inf) ** -self.decay
        a = uniform(generator, -1, 1, 2, 2, 2, MODES + 1, MODES + 1) * size
        turns = 2 * math.pi * n.unsqueeze(1) * torch.arange(POINTS, dtype=torch.float64) / POINTS
        waves = torch.stack([torch.sin(turns), torch.cos(turns)])
        return vorticity_of(coefficients_of(torch.einsum("cfgkl,fkx,gly->cxy", a, waves, waves)))


RECIPE = Recipe(
    name="poseidon_ns_bb",
    title="2D incompressible flow from rough random fields (Poseidon NS-BB: 20,000 samples)",
    citation=f"{CITATION}, NS-BB.",
    pde=NavierStokes,
    parameters={"viscosity": Constant(VISCOSITY)},
    domain=NODES,
    initial=Vortices(BrownianBridge()),
    solver=Spectral(max_speed=3.0),
    dt=0.05,
    steps=20,
    warmup=10,
    samples={"train": 32, "valid": 8, "test": 8},
    shard_size=4,
)
