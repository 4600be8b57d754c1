"""A hundred vortices in a gas: CE-Gauss of Poseidon's pre-training data.

Theirs: unit box, periodic, gamma = 1.4, 128 x 128 cells out of 512 x 512, 21 frames up to t = 1, 10,000 samples
(9,640/120/240), the flow of NS-Gauss at density 0.1 and pressure 2.5. Ours: 128 x 128 out of 256 x 256 cells, fewer
samples, momentum and energy in place of velocity and pressure. Pressure does not balance the vortices at first: they
send out sound.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.datasets.distributions import Constant
from sciml.datasets.recipe import Recipe
from sciml.datasets.recipes._poseidon import (
    CELLS,
    CITATION,
    GAMMA,
    SUBCELLS,
    GaussianVortices,
    Vortices,
    averages,
    volumes,
)
from sciml.domains import Grid
from sciml.pdes import CompressibleEuler


@dataclass(frozen=True)
class VorticesInGas:
    """The flow of a hundred vortices in a gas of even density and pressure, (4, *cells)."""

    density: float = 0.1
    pressure: float = 2.5
    vortices: Vortices = Vortices(GaussianVortices())

    def __call__(self, domain: Grid, channels: int, generator: torch.Generator) -> Tensor:
        flow = self.vortices(domain.refined(SUBCELLS), 2, generator)
        one = torch.ones_like(flow[:1])
        state = torch.cat([self.density * one, flow, self.pressure * one])
        return averages(lambda x: state, domain)


RECIPE = Recipe(
    name="poseidon_ce_gauss",
    title="2D compressible Euler, a hundred vortices (Poseidon CE-Gauss: 10,000 samples)",
    citation=f"{CITATION}, CE-Gauss.",
    pde=CompressibleEuler,
    parameters={"gamma": Constant(GAMMA)},
    domain=CELLS,
    initial=VorticesInGas(),
    solver=volumes,
    resolution_factor=2,
    dt=0.05,
    steps=20,
    samples={"train": 32, "valid": 8, "test": 8},
    shard_size=4,
)
