"""Darcy flow: pressure in a medium of two materials, as static pairs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.datasets.recipe import Recipe
from sciml.domains import Grid
from sciml.fields import GaussianRandomField
from sciml.pdes import Darcy


@dataclass(frozen=True)
class TwoMaterials:
    """Mobility `high` where a Gaussian random field is positive and `low` elsewhere, and a unit source.

    Returns (2, *points), the inputs of `Darcy`.
    """

    field: GaussianRandomField
    low: float = 3.0
    high: float = 12.0

    def __call__(self, domain: Grid, channels: int, generator: torch.Generator) -> Tensor:
        sign = self.field(domain, 1, generator)
        mobility = torch.where(sign > 0, self.high, self.low).to(sign.dtype)
        return torch.cat([mobility, torch.ones_like(mobility)])


@dataclass(frozen=True)
class Pressure:
    """Inputs (B, 2, *points) -> pressure (B, 1, *points)."""

    domain: Grid
    method: str = "finite volumes, harmonic means, multigrid-preconditioned conjugate gradients"

    def __call__(self, a: Tensor) -> Tensor:
        from sciml.solvers.elliptic import solve_darcy

        return solve_darcy(a[:, :1], a[:, 1:], self.domain)


def solve(pde: Darcy, domain: Grid, dt: float, substeps: int | None) -> Callable[[Tensor], Tensor]:
    """The map from inputs to pressure; a stationary equation has neither step nor substeps."""
    return Pressure(domain)


RECIPE = Recipe(
    name="darcy",
    title="2D Darcy flow through two materials",
    citation="Li et al., Fourier Neural Operator (2021), section 5.2, for the coefficients 3 and 12.",
    pde=Darcy,
    domain=Grid((64, 64), (1.0, 1.0), boundary="dirichlet", centering="cell"),
    initial=TwoMaterials(GaussianRandomField(alpha=2.0, tau=3.0, modes=12)),
    solver=solve,
    dt=0.0,
    steps=0,
    samples={"train": 256, "valid": 32, "test": 32},
    shard_size=32,
)
