"""Media to waves of one frequency, as static pairs: Helmholtz of Poseidon's downstream tasks.

Theirs: -lap(u) - w^2 a u = 0 on the unit box with w = 5 pi/2 and u = b on its sides, b in (0.25, 0.5), a medium a between 0
and 1; 128 x 128 points, finite differences, 19,675 samples (19,035/128/512). Ours: finite volumes around the nodes,
a of at least 1e-6, fewer samples. Some media are near resonance, and their waves many times b.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sciml.calculus.base import Calculus
from sciml.datasets.distributions import Constant
from sciml.datasets.recipe import Recipe
from sciml.datasets.recipes._poseidon import CITATION, uniform, whole
from sciml.datasets.recipes.poseidon_wave_gauss import gaussians
from sciml.domains import Grid
from sciml.pdes import Elliptic
from sciml.trajectory import Field


@dataclass(frozen=True)
class HelmholtzInMedium(Elliptic):
    """-lap(u) - frequency^2 a u = 0, with the inputs (B, 2, *points): medium a, then the value of u on all sides."""

    frequency: float

    fields: ClassVar[tuple[Field, ...]] = (Field("amplitude"),)
    inputs: ClassVar[tuple[Field, ...]] = (Field("medium", "1/m^2"), Field("boundary_value"))

    def residual(self, u: Tensor, a: Tensor, calc: Calculus) -> Tensor:
        return -calc.laplacian(u) - self.frequency**2 * a[:, :1] * u


@dataclass(frozen=True)
class SmoothMedium:
    """1 less a sum of Gaussians, scaled to between 0 and 1, and one value for all sides, (2, *points).

    The scale is that of a fixed grid, so that finer ones show the same medium.
    """

    value: tuple[float, float] = (0.25, 0.5)
    count: tuple[int, int] = (2, 7)
    heights: tuple[float, float] = (0.5, 10.0)
    widths: tuple[float, float] = (0.05, 0.1)
    middle: tuple[float, float] = (0.2, 0.8)
    least: float = 1e-6

    def __call__(self, domain: Grid, channels: int, generator: torch.Generator) -> Tensor:
        n = whole(generator, *self.count)
        value = uniform(generator, *self.value, 1)
        lumps = (
            uniform(generator, *self.middle, n, 2),
            uniform(generator, *self.widths, n),
            uniform(generator, *self.heights, n),
        )
        fixed = gaussians(domain.resized((128, 128)).coordinates(), *lumps)
        low, high = fixed.min(), fixed.max()
        medium = ((high - gaussians(domain.coordinates(), *lumps)) / (high - low)).clamp(self.least, 1.0)
        return torch.stack([medium, value.expand_as(medium)])


@dataclass(frozen=True)
class Amplitude:
    """Inputs (B, 2, *points) -> amplitudes (B, 1, *points)."""

    frequency: float
    domain: Grid
    method: str = "finite volumes, sparse factors"

    def __call__(self, a: Tensor) -> Tensor:
        from sciml.solvers.elliptic import solve_helmholtz

        square, value = self.frequency**2 * a[:, :1], a[:, 1:]
        # What u has beyond its value on the sides is zero there.
        return value + solve_helmholtz(square.sqrt(), square * value, self.domain)


def solve(
    pde: HelmholtzInMedium, domain: Grid, dt: float, substeps: int | None
) -> Callable[[Tensor], Tensor]:
    """The map from inputs to amplitudes; a stationary equation has neither step nor substeps."""
    return Amplitude(pde.frequency, domain)


RECIPE = Recipe(
    name="poseidon_helmholtz",
    title="2D Helmholtz equation in random media (Poseidon Helmholtz: 19,675 samples)",
    citation=f"{CITATION}, Helmholtz.",
    pde=HelmholtzInMedium,
    parameters={"frequency": Constant(2.5 * math.pi)},
    domain=Grid((128, 128), (1.0, 1.0), boundary="dirichlet"),
    initial=SmoothMedium(),
    solver=solve,
    dt=0.0,
    steps=0,
    samples={"train": 256, "valid": 32, "test": 32},
    shard_size=32,
)
