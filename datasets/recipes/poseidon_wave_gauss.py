"""Waves in a medium of smooth lumps: Wave-Gauss of Poseidon's downstream tasks.

Theirs: u_tt = c^2 lap(u) on the unit box with absorbing sides, 128 x 128 points, 15 frames, 10,512 samples
(10,212/60/240); u starts at rest as 2 to 6 unit Gaussians, c is 1500 to 2500 and 4 Gaussian lumps of 1000 to 2500; u and c
are stored. Ours: c in thousands and frames every 0.02, since the length of the box, which sets their times, is not
given; the equation as a system of first order, p_t = -c^2 div v, v_t = -grad p, whose pressure is their u; sides that
let waves at a right angle out whole; Gaussians at any distance of each other; fewer samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sciml.calculus.base import Calculus
from sciml.datasets.recipe import Recipe
from sciml.datasets.recipes._poseidon import CITATION, SUBCELLS, uniform, whole
from sciml.domains import Domain, Grid
from sciml.pdes import PDE, Acoustics
from sciml.step import Step
from sciml.trajectory import Field

OPEN_CELLS = Grid((128, 128), (1.0, 1.0), boundary="outflow", centering="cell")


@dataclass(frozen=True)
class WavesInMedium(PDE):
    """p_t = -c^2 div v, v_t = -grad p, with the speed c of sound as a part of the state, which stands still."""

    fields: ClassVar[tuple[Field, ...]] = (
        Field("pressure", "Pa"),
        Field("velocity", "m/s", rank=1),
        Field("sound_speed", "m/s"),
    )
    dimensions: ClassVar[tuple[int, ...]] = (2,)

    def rhs(self, u: Tensor, calc: Calculus) -> Tensor:
        waves, speed = u[:, :-1], u[:, -1:]
        return torch.cat([self.acoustics(speed).rhs(waves, calc), torch.zeros_like(speed)], dim=1)

    def acoustics(self, speed: Tensor) -> Acoustics:
        """The same waves in a given medium (B, 1, *points)."""
        return Acoustics(density=1.0, bulk_modulus=speed.square())


class InMedium:
    """Steps of `Acoustics` in the medium that the state holds; as every Step otherwise."""

    method = "finite volumes, upwind5 + exact Riemann solution + SSPRK3"

    def __init__(self, pde: WavesInMedium, domain: Grid, dt: float, substeps: int | None) -> None:
        self.pde, self.grid, self.dt, self.substeps = pde, domain, dt, substeps
        self.domain: Domain = domain
        self.channels = pde.channels(domain.dimension)

    def __call__(self, u: Tensor, /) -> Tensor:
        from sciml.solvers.waves import acoustic

        waves, speed = u[:, :-1], u[:, -1:]
        step = acoustic(
            self.pde.acoustics(speed),
            self.grid,
            self.dt,
            scheme="volumes",
            reconstruction="upwind5",
            cfl=0.9,
            substeps=self.substeps,
        )
        return torch.cat([step(waves), speed], dim=1)


def volumes(pde: WavesInMedium, domain: Grid, dt: float, substeps: int | None) -> Step:
    """Finite volumes of fifth order along the axes."""
    return InMedium(pde, domain, dt, substeps)


def gaussians(x: Tensor, centres: Tensor, widths: Tensor, heights: Tensor) -> Tensor:
    """Sum of round Gaussians (*points) at points (2, *points); centres (N, 2), widths and heights (N,)."""
    total = torch.zeros_like(x[0])
    for (a, b), width, height in zip(centres, widths, heights, strict=True):
        square = (x[0] - a).square() + (x[1] - b).square()
        total = total + height * torch.exp(-0.5 * square / width.square())
    return total


@dataclass(frozen=True)
class Bursts:
    """Unit Gaussians of pressure (1, *points) at points (2, *points)."""

    count: tuple[int, int] = (2, 6)
    middle: tuple[float, float] = (1 / 6, 5 / 6)
    widths: tuple[float, float] = (0.039, 0.156)

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        n = whole(generator, *self.count)
        centres, widths = uniform(generator, *self.middle, n, 2), uniform(generator, *self.widths, n)
        return gaussians(x, centres, widths, torch.ones_like(widths)).unsqueeze(0)


def at_rest(pressure: Tensor, speed: Tensor) -> Tensor:
    """Cell averages (4, *cells) of pressure and speed of sound (1, *points) on `SUBCELLS` points per cell and axis."""
    still = torch.zeros_like(pressure)
    return torch.nn.functional.avg_pool2d(torch.cat([pressure, still, still, speed]), SUBCELLS)


@dataclass(frozen=True)
class Lumps:
    """Bursts at rest in a medium with a lump in each quarter of the box, (4, *cells)."""

    bursts: Bursts = Bursts()
    background: tuple[float, float] = (1.5, 2.5)
    offset: float = 0.3125
    heights: tuple[float, float] = (1.0, 2.5)
    widths: tuple[float, float] = (1 / 12, 1 / 6)

    def __call__(self, domain: Grid, channels: int, generator: torch.Generator) -> Tensor:
        x = domain.refined(SUBCELLS).coordinates()
        pressure = self.bursts(x, generator)
        quarter = torch.tensor([0.25, 0.75], dtype=torch.float64)
        centres = torch.cartesian_prod(quarter, quarter) + uniform(
            generator, -self.offset, self.offset, 4, 2
        )
        widths, heights = uniform(generator, *self.widths, 4), uniform(generator, *self.heights, 4)
        background = uniform(generator, *self.background, 1)
        speed = background + gaussians(x, centres, widths, heights).unsqueeze(0)
        return at_rest(pressure, speed)


RECIPE = Recipe(
    name="poseidon_wave_gauss",
    title="2D waves in a medium of lumps (Poseidon Wave-Gauss: 10,512 samples)",
    citation=f"{CITATION}, Wave-Gauss.",
    pde=WavesInMedium,
    domain=OPEN_CELLS,
    initial=Lumps(),
    solver=volumes,
    dt=0.02,
    steps=14,
    samples={"train": 64, "valid": 16, "test": 16},
    shard_size=8,
)
