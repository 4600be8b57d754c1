"""Acoustic waves that scatter at a jump of the background and at inclusions, between walls and open sides.

The set-up of The Well's acoustic scattering at a size for a desk: pressure rings start in a medium at rest whose
density is two smooth halves and a few ellipses; walls in x, open in y. The density is stored with every frame, as a
surrogate needs it. `Medium(inclusions=(0, 0))` gives the set with a single discontinuity;
`Medium(contrast=(-1.0, 10.0), thickness=0.06)` the original's inclusions of up to 22,000 times the lightest density,
whose waves inside are shorter than cells of this size.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.datasets.distributions import Constant
from sciml.datasets.recipe import Recipe
from sciml.domains import Grid
from sciml.pdes import AcousticScattering

SUBCELLS = 4
"""Points per axis of a cell that averages are taken over."""


@dataclass(frozen=True)
class _Draw:
    """Random numbers of float64."""

    generator: torch.Generator

    def uniform(self, between: tuple[float, float], count: int = 1) -> Tensor:
        draw = torch.rand(count, generator=self.generator, dtype=torch.float64)
        return between[0] + (between[1] - between[0]) * draw

    def normal(self, shape: tuple[int, ...]) -> Tensor:
        return torch.randn(shape, generator=self.generator, dtype=torch.float64)

    def whole(self, between: tuple[int, int]) -> int:
        return int(torch.randint(between[0], between[1] + 1, (), generator=self.generator))


@dataclass(frozen=True)
class Medium:
    """Pressure rings at rest in a random medium, (2 + D, *cells) in 2D: pressure, velocity, density.

    A line through the box parts two halves, each of constant density, a bilinear slope between four corners, a
    Gaussian bump or a Gaussian random field. Ellipses lie over them. All cells hold averages of the same
    function, so that finer grids see the same medium.

    Args:
        density: range of the background [mass/area].
        inclusions: smallest and largest number of ellipses.
        widths: range of their widths and heights [length].
        contrast: range of the logarithm of their density.
        rings: smallest and largest number of pressure rings.
        pressure: range of a ring's height.
        radius: range of a ring's radius [length].
        thickness: from a ring's crest to where it ends [length].
    """

    density: tuple[float, float] = (1.0, 7.0)
    inclusions: tuple[int, int] = (1, 15)
    widths: tuple[float, float] = (0.05, 0.6)
    contrast: tuple[float, float] = (0.0, 3.5)
    rings: tuple[int, int] = (1, 4)
    pressure: tuple[float, float] = (0.5, 2.0)
    radius: tuple[float, float] = (0.06, 0.15)
    thickness: float = 0.15

    def __call__(self, domain: Grid, channels: int, generator: torch.Generator) -> Tensor:
        fine = domain.refined(SUBCELLS)
        x = fine.coordinates()
        low = torch.tensor(domain.origin, dtype=torch.float64)
        sides = torch.tensor(domain.lengths, dtype=torch.float64)

        draw = _Draw(generator)
        centre, angle = low + sides * draw.uniform((0.3, 0.7), 2), float(draw.uniform((0.0, 2 * math.pi)))
        beyond = (x[0] - centre[0]) * math.cos(angle) + (x[1] - centre[1]) * math.sin(angle) > 0
        halves = [self._background(x, low, sides, draw) for _ in range(2)]
        density = torch.where(beyond, halves[0], halves[1])
        for _ in range(draw.whole(self.inclusions)):
            middle, turn = (
                low + sides * draw.uniform((0.0, 1.0), 2),
                float(draw.uniform((-math.pi / 4, math.pi / 4))),
            )
            half = 0.5 * draw.uniform(self.widths, 2)
            value = float(torch.exp(draw.uniform(self.contrast)))
            dx, dy = x[0] - middle[0], x[1] - middle[1]
            along = (dx * math.cos(turn) + dy * math.sin(turn)) / half[0]
            across = (dy * math.cos(turn) - dx * math.sin(turn)) / half[1]
            density = torch.where(along.square() + across.square() < 1, value, density)
        pressure = torch.zeros_like(density)
        for _ in range(draw.whole(self.rings)):
            middle, height = low + sides * draw.uniform((0.0, 1.0), 2), draw.uniform(self.pressure)
            distance = torch.hypot(x[0] - middle[0], x[1] - middle[1]) - draw.uniform(self.radius)
            crest = 0.5 * (1 + torch.cos(math.pi * (distance / self.thickness).clamp(-1, 1)))
            pressure = pressure + height * crest
        still = torch.zeros_like(pressure)
        state = torch.stack([pressure, still, still, density])
        return torch.nn.functional.avg_pool2d(state, SUBCELLS)

    def _background(self, x: Tensor, low: Tensor, sides: Tensor, draw: _Draw) -> Tensor:
        """Density of one half."""
        kind, level = draw.whole((0, 3)), draw.uniform(self.density)
        if kind == 0:
            return level * torch.ones_like(x[0])
        if kind == 1:
            corners = draw.uniform(self.density, 4)
            s, t = ((x[a] - low[a]) / sides[a] for a in (0, 1))
            lower = corners[0] * (1 - s) + corners[1] * s
            return lower * (1 - t) + (corners[2] * (1 - s) + corners[3] * s) * t
        if kind == 2:
            middle, width = low + sides * draw.uniform((0.0, 1.0), 2), draw.uniform((0.1, 5.0))
            square = (x[0] - middle[0]).square() + (x[1] - middle[1]).square()
            # From the lowest density, so that a narrow bump does not sit in a vacuum.
            floor = self.density[0]
            return floor + (level - floor) * torch.exp(-0.5 * square / width**2)
        # Waves with a Gaussian spectrum: noise smoothed over `length`, the same function on any grid.
        count, length = 64, draw.uniform((0.04, 0.08))
        k = draw.normal((count, 2)) / (math.sqrt(2) * length)
        phase = 2 * math.pi * draw.uniform((0.0, 1.0), count)
        waves = torch.zeros_like(x[0])
        for i in range(count):
            waves = waves + torch.cos(k[i, 0] * x[0] + k[i, 1] * x[1] + phase[i])
        noise = math.sqrt(2 / count) * waves
        return (level + 0.05 * noise).clamp(min=0.5 * self.density[0])


def volumes(
    pde: AcousticScattering, domain: Grid, dt: float, substeps: int | None
) -> Callable[[Tensor], Tensor]:
    """Finite volumes of fifth order along the axes, at 0.9 of the limit of the lightest medium in the shard."""
    from sciml.solvers.waves import acoustic

    return acoustic(pde, domain, dt, scheme="volumes", reconstruction="upwind5", cfl=0.9, substeps=substeps)


RECIPE = Recipe(
    name="acoustic_scattering",
    title="2D acoustic waves that scatter at a jump and at inclusions",
    citation="Set-up of acoustic_scattering in The Well, Ohana et al. (2024): modulus, densities, rings and sides.",
    pde=AcousticScattering,
    parameters={"bulk_modulus": Constant(4.0)},
    domain=Grid(
        (64, 64),
        (2.0, 2.0),
        boundary=(("wall", "wall"), ("outflow", "outflow")),
        origin=-1.0,
        centering="cell",
    ),
    initial=Medium(),
    solver=volumes,
    dt=0.04,
    steps=40,
    samples={"train": 16, "valid": 4, "test": 4},
    resolution_factor=2,
    shard_size=4,
)
