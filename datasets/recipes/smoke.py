"""Smoke that rises by its buoyancy in a closed box, in the set-up of PDEArena's Navier-Stokes set.

A box of 32 x 32 m whose walls hold the air, viscosity 0.01 m^2/s, smoke that only the flow spreads, lifted by 0.5 m/s^2
per unit. PDEArena stores 128^2 cells, 14 frames of 6 s from t = 18 s on, 5200/1300/1300 samples, made by first-order
semi-Lagrangian steps of 1.5 s; here 64^2 cells and the same frames, by stable steps and limited second-order fluxes.
`smoke_conditioned` varies the buoyancy.

Velocities are stored where the solver has them, on the low faces of the cells, as PDEArena's are. A flow of this little
friction has eddies that no such grid holds: this solution and one of 128^2 cells differ by a tenth after 6 s and have
parted before the first frame. What is stored is a sample of such flows, and the flow of this grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.datasets.distributions import Constant
from sciml.datasets.recipe import Recipe
from sciml.domains import Grid
from sciml.fields import GaussianRandomField
from sciml.pdes import Smoke
from sciml.step import Step


@dataclass(frozen=True)
class Clouds:
    """Still air and smoke |s|, s a random field of mean square one, (D + 1, *cells).

    s is periodic and of steep spectrum: wave amplitudes fall like |k|^-12, so that hardly any but the longest waves of
    the box are seen. PhiFlow's noise of scale 11 and smoothness 6 on a box of 32 is the same.
    """

    smoothness: float = 12.0
    modes: int = 4

    def __call__(self, domain: Grid, channels: int, generator: torch.Generator) -> Tensor:
        field = GaussianRandomField(alpha=self.smoothness, tau=1e-3, modes=self.modes)
        state = generator.get_state()
        # Its size is measured on points that no grid changes.
        size = field(domain.resized((32,) * domain.dimension), 1, generator).square().mean().sqrt()
        generator.set_state(state)
        smoke = (field(domain, 1, generator) / size).abs()
        return torch.cat([torch.zeros(channels - 1, *domain.shape, dtype=torch.float64), smoke])


def staggered(pde: Smoke, domain: Grid, dt: float, substeps: int | None) -> Step:
    """Flow between walls on a staggered grid; limited fluxes keep the smoke between nothing and its densest."""
    from sciml.solvers.incompressible import incompressible

    return incompressible(pde, domain, dt, scalar_flux="limited", substeps=substeps)


RECIPE = Recipe(
    name="smoke",
    title="2D smoke that rises in a closed box (PDEArena: 128^2 cells)",
    citation="PDEArena, Gupta and Brandstetter (2022), Navier-Stokes 2D: box, coefficients, start and times.",
    pde=Smoke,
    parameters={"viscosity": Constant(0.01), "buoyancy": Constant(0.5)},
    domain=Grid((64, 64), (32.0, 32.0), boundary="wall", centering="cell"),
    initial=Clouds(),
    solver=staggered,
    dt=6.0,
    steps=13,
    warmup=3,
    samples={"train": 32, "valid": 8, "test": 8},
    shard_size=4,
)
