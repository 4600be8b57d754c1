"""Darcy flow through blobs of one material in another, after PDEBench, as static pairs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.datasets.recipe import Recipe
from sciml.datasets.recipes.darcy import solve
from sciml.domains import Grid
from sciml.pdes import Darcy


@dataclass(frozen=True)
class Blobs:
    """Mobility `high` where a sum of Gaussian bumps is above its mean and `low` elsewhere, and an even source.

    The bumps exp(-r^2/s) have centres anywhere in the box and s evenly distributed up to half the squared side.
    Returns (2, *points), the inputs of `Darcy`.

    PDEBench takes the mean over all samples of a file. Here a sample does not depend on others, and the mean is its
    own, over points of a fixed grid, so that finer grids show the same medium.
    """

    bumps: int = 5
    low: float = 0.1
    high: float = 1.0
    source: float = 1.0

    def __call__(self, domain: Grid, channels: int, generator: torch.Generator) -> Tensor:
        if not self.bumps >= 1:
            raise ValueError(f"Blobs got bumps={self.bumps}; expected at least 1.")
        draws = torch.rand(self.bumps, domain.dimension + 1, generator=generator, dtype=torch.float64)
        lengths = torch.tensor(domain.lengths, dtype=torch.float64)
        centres = torch.tensor(domain.origin, dtype=torch.float64) + draws[:, 1:] * lengths
        spreads = 0.5 * draws[:, 0].clamp(min=1e-3) * float(lengths.square().mean())

        def total(grid: Grid) -> Tensor:
            x = grid.coordinates()
            axes = [1] * domain.dimension
            away = (x - centres.reshape(self.bumps, -1, *axes)).square().sum(dim=1)
            return torch.exp(-away / spreads.reshape(-1, *axes)).sum(dim=0)

        level = total(domain.resized((64,) * domain.dimension)).mean()
        mobility = torch.where(total(domain) > level, self.high, self.low).to(torch.float64)
        return torch.stack([mobility, torch.full_like(mobility, self.source)])


RECIPE = Recipe(
    name="darcy_pdebench",
    title="2D Darcy flow through blobs of two materials",
    citation="Takamoto et al., PDEBench (2022), for the coefficients 1 and 0.1 and the source beta = 1. "
    "There the solution is reached by stepping in time, with zeros half a cell outside of the box; here the equation "
    "is solved directly, with zeros on its sides.",
    pde=Darcy,
    domain=Grid((128, 128), (1.0, 1.0), boundary="dirichlet", centering="cell"),
    initial=Blobs(),
    solver=solve,
    dt=0.0,
    steps=0,
    samples={"train": 256, "valid": 32, "test": 32},
    shard_size=32,
)
