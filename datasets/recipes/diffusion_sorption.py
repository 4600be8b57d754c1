"""Diffusion-sorption: a substance enters clean ground from one side, in the set-up of PDEBench.

u(0) = 1, D u_x + u = 0 at the right side, in the sign of PDEBench's generator (its text has the other, with
which the substance would grow without bounds), and a constant start. PDEBench stores 1024 cells, here 256; its
files have 101 frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.datasets.recipe import Recipe
from sciml.domains import Grid
from sciml.pdes import DiffusionSorption
from sciml.step import Step


@dataclass(frozen=True)
class Uniform:
    """The same value everywhere, even between `low` and `high`, (C, *points)."""

    low: float = 0.0
    high: float = 0.2

    def __call__(self, domain: Grid, channels: int, generator: torch.Generator) -> Tensor:
        drawn = torch.rand(channels, *[1] * domain.dimension, generator=generator, dtype=torch.float64)
        return (self.low + (self.high - self.low) * drawn).expand(channels, *domain.shape).clone()


def solve(pde: DiffusionSorption, domain: Grid, dt: float, substeps: int | None) -> Step:
    """Implicit steps between a held side and a leaky one."""
    from sciml.solvers.elliptic import Flux, Robin, Value
    from sciml.solvers.parabolic import parabolic

    sides: dict[str, Value | Flux | Robin] = {"x-": Value(1.0), "x+": Robin(1.0)}
    return parabolic(pde, domain, dt, conditions=sides, scheme="ars222", substeps=substeps)


RECIPE = Recipe(
    name="diffusion_sorption",
    title="1D diffusion-sorption into ground of constant concentration",
    citation="PDEBench, Takamoto et al. (2022), appendix D.",
    pde=DiffusionSorption,
    domain=Grid((256,), (1.0,), boundary=(("dirichlet", "neumann"),), centering="cell"),
    initial=Uniform(),
    solver=solve,
    dt=5.0,
    steps=100,
    # For the first steps, in which the front is a few cells wide.
    substeps=4,
    samples={"train": 128, "valid": 16, "test": 16},
    shard_size=16,
)
