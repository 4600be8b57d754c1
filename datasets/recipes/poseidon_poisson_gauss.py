"""Sources to potentials, as static pairs: Poisson-Gauss of Poseidon's downstream tasks.

Theirs: -lap(u) = f on the unit box, u = 0 on its sides, f a sum of unit Gaussians of widths 0.025 to 0.1, whose number
has the geometric distribution of parameter 0.4; 128 x 128 points, finite elements, 20,000 samples (19,640/120/240).
Ours: finite volumes around the nodes, fewer samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.datasets.recipe import Recipe
from sciml.datasets.recipes._poseidon import CITATION, uniform
from sciml.datasets.recipes.poseidon_wave_gauss import gaussians
from sciml.domains import Grid
from sciml.pdes import Poisson


@dataclass(frozen=True)
class GaussianSources:
    """A sum of unit Gaussians anywhere in the box, (1, *points); n of them with probability p (1 - p)^(n - 1)."""

    chance: float = 0.4
    widths: tuple[float, float] = (0.025, 0.1)

    def __call__(self, domain: Grid, channels: int, generator: torch.Generator) -> Tensor:
        draw = float(uniform(generator, 0, 1, 1))
        count = 1 + int(math.log1p(-draw) / math.log1p(-self.chance))
        centres, widths = uniform(generator, 0, 1, count, 2), uniform(generator, *self.widths, count)
        return gaussians(domain.coordinates(), centres, widths, torch.ones_like(widths)).unsqueeze(0)


@dataclass(frozen=True)
class Potential:
    """Sources (B, 1, *points) -> potentials (B, 1, *points)."""

    domain: Grid
    method: str = "finite volumes, sine transforms"

    def __call__(self, source: Tensor) -> Tensor:
        from sciml.solvers.elliptic import solve_poisson

        return solve_poisson(source, self.domain)


def solve(pde: Poisson, domain: Grid, dt: float, substeps: int | None) -> Callable[[Tensor], Tensor]:
    """The map from sources to potentials; a stationary equation has neither step nor substeps."""
    return Potential(domain)


RECIPE = Recipe(
    name="poseidon_poisson_gauss",
    title="2D Poisson equation with Gaussian sources (Poseidon Poisson-Gauss: 20,000 samples)",
    citation=f"{CITATION}, Poisson-Gauss.",
    pde=Poisson,
    domain=Grid((128, 128), (1.0, 1.0), boundary="dirichlet"),
    initial=GaussianSources(),
    solver=solve,
    dt=0.0,
    steps=0,
    samples={"train": 256, "valid": 32, "test": 32},
    shard_size=32,
)
