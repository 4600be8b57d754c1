"""Waves of shallow water on a ring with a flat bed: humps collapse over nearly dry ground, and their bores go round."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.datasets.distributions import Constant
from sciml.datasets.recipe import Recipe
from sciml.domains import Grid
from sciml.fields import RandomFourier
from sciml.pdes import ShallowWater


@dataclass(frozen=True)
class Humps:
    """Water `film` deep in the hollows and at most `depth` deeper on the humps, in random motion, (1 + D, *points).

    Args:
        film: least depth [m].
        depth: of the highest hump over that [m].
        speed: largest velocity component [m/s].
        modes: largest number of waves per side.
    """

    film: float = 0.05
    depth: float = 1.0
    speed: float = 0.3
    modes: int = 3

    def __call__(self, domain: Grid, channels: int, generator: torch.Generator) -> Tensor:
        waves = RandomFourier(modes=self.modes)(domain, channels, generator)
        depth = self.film + self.depth * (0.5 * (1 + waves[:1])).square()
        return torch.cat([depth, depth * self.speed * waves[1:]])


RECIPE = Recipe(
    name="shallow_water",
    title="1D shallow water, humps on a ring over nearly dry ground",
    citation="Equations after LeVeque, Finite Volume Methods for Hyperbolic Problems (2002), chapter 13, with g = 1.",
    pde=ShallowWater,
    parameters={"gravity": Constant(1.0)},
    domain=Grid((128,), (10.0,), boundary="periodic", centering="cell"),
    initial=Humps(),
    # The fastest waves cross about two cells per frame, and the ring in a tenth of the test trajectories.
    dt=0.1,
    steps={"train": 40, "valid": 40, "test": 400},
    samples={"train": 16, "valid": 4, "test": 16},
    shard_size=16,
)
