"""2D diffusion-reaction: FitzHugh-Nagumo kinetics between insulated sides, in the set-up of PDEBench.

The start is white noise of unit deviation in each of 128 x 128 cells, so that what is measured of it depends on the
number of cells; on another grid it is the same noise, refined or averaged. `diffusion_reaction_smooth` starts from
noise with a length of its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.datasets.recipe import Recipe
from sciml.domains import Grid
from sciml.pdes import FitzHughNagumo


@dataclass(frozen=True)
class CellNoise:
    """Independent normal numbers in `cells` cells per axis, (C, *points), constant within each.

    Args:
        cells: how many per axis, of which those of a domain are a multiple or a divisor.
        length: deviation of a Gaussian that smooths the noise, mirrored at the sides; the result is scaled back to
            a unit deviation on average [length]. Zero leaves it white.
    """

    cells: int = 128
    length: float = 0.0

    def __call__(self, domain: Grid, channels: int, generator: torch.Generator) -> Tensor:
        shape = (channels, *[self.cells] * domain.dimension)
        u = torch.randn(shape, generator=generator, dtype=torch.float64)
        for axis, (n, side) in enumerate(zip(domain.shape, domain.lengths, strict=True)):
            basis = _cosines(self.cells)
            if self.length > 0:
                k = math.pi / side * torch.arange(self.cells, dtype=torch.float64)
                damping = torch.exp(-0.5 * (k * self.length).square())
                damping = damping / damping.square().mean().sqrt()
                kept = damping * u.movedim(1 + axis, -1).matmul(basis)
                # Cell averages of the same cosines on any grid.
                u = kept.matmul(_averages(self.cells, n).T).movedim(-1, 1 + axis)
            elif n % self.cells == 0:
                u = u.repeat_interleave(n // self.cells, dim=1 + axis)
            elif self.cells % n == 0:
                u = u.unflatten(1 + axis, (n, self.cells // n)).mean(dim=2 + axis)
            else:
                raise ValueError(
                    f"CellNoise of {self.cells} cells got {n} on axis {axis}; one must divide the other."
                )
        return u


def _cosines(n: int) -> Tensor:
    """Orthonormal cosines at the centres of n cells, as columns."""
    centre = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    basis = torch.cos(math.pi * centre[:, None] * torch.arange(n, dtype=torch.float64)) * math.sqrt(2 / n)
    basis[:, 0] /= math.sqrt(2)
    return basis


def _averages(modes: int, n: int) -> Tensor:
    """Averages over n cells of the same cosines, as columns."""
    edge = torch.arange(n + 1, dtype=torch.float64) / n
    k = math.pi * torch.arange(1, modes, dtype=torch.float64)
    waves = torch.diff(torch.sin(edge[:, None] * k), dim=0) * n / k * math.sqrt(2 / modes)
    return torch.cat([torch.full((n, 1), math.sqrt(1 / modes), dtype=torch.float64), waves], dim=1)


RECIPE = Recipe(
    name="diffusion_reaction",
    title="2D diffusion-reaction from white noise between insulated sides",
    citation="PDEBench, Takamoto et al. (2022), appendix D.",
    pde=FitzHughNagumo,
    domain=Grid((128, 128), (2.0, 2.0), boundary="neumann", origin=-1.0, centering="cell"),
    initial=CellNoise(),
    dt=0.05,
    steps=100,
    # Noise of a deviation of one reacts at a rate of up to 50 at first.
    substeps=5,
    samples={"train": 64, "valid": 8, "test": 8},
    shard_size=8,
)
