"""Incompressible flow from random sines: NS-Sines of Poseidon's pre-training data.

Theirs: unit box, periodic, 128 x 128 points, 21 frames up to t = 1, 20,000 samples (19,640/120/240 for training,
validation and test), waves up to 10 per side and axis with amplitudes a_ij/sqrt(2 pi (i + j)), viscosity 4e-4 on short
waves. Ours: viscosity on all waves, fewer samples. Their sums of sines have
divergence; what is stored is their part without.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.datasets.distributions import Constant
from sciml.datasets.recipe import Recipe
from sciml.datasets.recipes._poseidon import CITATION, NODES, VISCOSITY, Spectral, uniform
from sciml.domains import Grid
from sciml.pdes import NavierStokes


@dataclass(frozen=True)
class SineFlow:
    """A flow without divergence of random sines, (2, *points).

    The part without divergence of the sums over i, j = 1..modes of c_ij sin(X) sin(Y) in u and c_ij cos(X) cos(Y) in v,
    X = 2 pi i x + b_ij, Y = 2 pi j y + g_ij, c_ij = a_ij/sqrt(2 pi (i + j)), with a_ij even in (-1, 1) and phases in
    (0, 2 pi): of both, that is j (i + j)/(i^2 + j^2) and i (i + j)/(i^2 + j^2).
    """

    modes: int = 10

    def __call__(self, domain: Grid, channels: int, generator: torch.Generator) -> Tensor:
        n = self.modes
        size = uniform(generator, -1, 1, n, n)
        b, g = uniform(generator, 0, 2 * math.pi, 2, n, n, 1)
        i = torch.arange(1, n + 1, dtype=torch.float64).unsqueeze(1)
        j = i.T
        size = size / torch.sqrt(2 * math.pi * (i + j)) * (i + j) / (i.square() + j.square())
        x, y = domain.axes()
        turn = 2 * math.pi
        along, across = turn * i.unsqueeze(2) * x + b, turn * j.unsqueeze(2) * y + g
        return torch.stack(
            [
                torch.einsum("ij,ija,ijb->ab", size * j, torch.sin(along), torch.sin(across)),
                torch.einsum("ij,ija,ijb->ab", size * i, torch.cos(along), torch.cos(across)),
            ]
        )


RECIPE = Recipe(
    name="poseidon_ns_sines",
    title="2D incompressible flow from random sines (Poseidon NS-Sines: 20,000 samples)",
    citation=f"{CITATION}, NS-Sines.",
    pde=NavierStokes,
    parameters={"viscosity": Constant(VISCOSITY)},
    domain=NODES,
    initial=SineFlow(),
    solver=Spectral(max_speed=2.0),
    dt=0.05,
    steps=20,
    samples={"train": 32, "valid": 8, "test": 8},
    shard_size=4,
)
