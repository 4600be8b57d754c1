"""Radial dam break in 2D shallow water: a column of random radius collapses over a flat, wet bed.

Depth and both discharges are stored, not the depth alone; the column's edge is averaged over the cells it
crosses, so that a finer grid starts from the same column.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.datasets.distributions import Constant
from sciml.datasets.recipe import Recipe
from sciml.domains import Grid
from sciml.pdes import ShallowWater


@dataclass(frozen=True)
class Column:
    """Water at rest, deeper inside a circle around the origin, (1 + D, *points); cell averages.

    Args:
        inside, outside: depths [m].
        smallest, largest: between which the radius is drawn evenly [m].
        samples: points per axis at which each cell is asked whether it lies inside.
    """

    inside: float = 2.0
    outside: float = 1.0
    smallest: float = 0.3
    largest: float = 0.7
    samples: int = 8

    def __call__(self, domain: Grid, channels: int, generator: torch.Generator) -> Tensor:
        share = torch.rand((), dtype=torch.float64, generator=generator)
        radius = self.smallest + (self.largest - self.smallest) * share
        fine = domain.resized(tuple(self.samples * n for n in domain.shape))
        inside = (fine.coordinates().square().sum(dim=0) < radius**2).to(torch.float64)
        for axis, n in enumerate(domain.shape):
            inside = inside.unflatten(axis, (n, self.samples)).mean(dim=axis + 1)
        depth = self.outside + (self.inside - self.outside) * inside
        return torch.stack([depth, *[torch.zeros_like(depth)] * (channels - 1)])


RECIPE = Recipe(
    name="dam_break",
    title="2D shallow water, radial dam break",
    citation="PDEBench, Takamoto et al. (2022), appendix D.4: radius between 0.3 and 0.7, depths 2 and 1, g = 1.",
    pde=ShallowWater,
    parameters={"gravity": Constant(1.0)},
    domain=Grid((128, 128), (5.0, 5.0), boundary="outflow", origin=-2.5, centering="cell"),
    initial=Column(),
    dt=0.01,
    steps=100,
    samples={"train": 32, "valid": 4, "test": 4},
    shard_size=4,
)
