"""Heat: a sine that decays on a ring, u = sin(x) exp(-c t), with a diffusivity c from 1 to 5 and no mass.

Smooth, the easiest of the families with a known mass; test values are c = 1 and 5.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sciml.datasets.distributions import Uniform
from sciml.datasets.recipe import Recipe
from sciml.datasets.recipes._known_fronts import CITATION, Known, averages
from sciml.domains import Grid
from sciml.pdes import Heat
from sciml.step import Step


def exact(domain: Grid, parameter: Tensor, time: float) -> Tensor:
    """Cell averages (B, 1, n) for diffusivities (B, 1, 1)."""
    return averages(lambda x: -torch.cos(x), domain) * torch.exp(-parameter * time)


def mass(parameter: Tensor, time: float) -> Tensor:
    """Integral of u, (B, 1, 1)."""
    return torch.zeros_like(parameter)


def solve(pde: Heat, domain: Grid, dt: float, substeps: int | None) -> Step:
    """Fluxes between cells, implicit."""
    from sciml.solvers.parabolic import parabolic

    return parabolic(pde, domain, dt, substeps=substeps)


RECIPE = Recipe(
    name="heat_decay",
    title="1D heat, one wave that decays at a rate per sample, exact solution known",
    citation=CITATION,
    pde=Heat,
    parameters={"diffusivity": Uniform(1.0, 5.0)},
    domain=Grid((128,), (2 * math.pi,), centering="cell"),
    initial=Known(exact, "diffusivity"),
    solver=solve,
    dt=0.02,
    steps=50,
    samples={"train": 128, "valid": 16, "test": 16},
    shard_size=16,
)
