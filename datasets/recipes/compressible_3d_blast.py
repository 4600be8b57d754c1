"""Blast waves in 3D: a ball of hot gas bursts in still gas, between open sides, without friction.

In the box, times and friction (1e-8, taken as zero) of PDEBench's configuration of a blast wave, 256^3 cells and 21
frames up to t = 0.5; here 32^3. Place, size and pressure of the ball are random.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sciml.datasets.distributions import Constant, LogUniform, Uniform
from sciml.datasets.recipes.compressible_1d import GAMMA
from sciml.datasets.recipes.compressible_3d import RECIPE as FIELDS
from sciml.domains import Grid
from sciml.pdes import CompressibleEuler
from sciml.pdes.parameters import Parameter


def gas(gamma: float, radius: Parameter, overpressure: Parameter) -> CompressibleEuler:
    """A gas without friction; only its start knows the ball."""
    return CompressibleEuler(gamma)


@dataclass(frozen=True)
class Ball:
    """Gas at rest of density and pressure 1 around a ball of more pressure, (D + 2, *points); averages of cells.

    `radius` and `overpressure`, pressure inside over outside, are parameters of the sample.

    Args:
        off_centre: largest distance of the ball's middle from that of the box along each axis [m].
        samples: points per axis at which each cell is asked whether it lies inside.
    """

    off_centre: float = 0.3
    samples: int = 4

    def __call__(
        self, domain: Grid, channels: int, generator: torch.Generator, parameters: Mapping[str, float]
    ) -> Tensor:
        fine = domain.resized(tuple(self.samples * n for n in domain.shape))
        draws = torch.rand(domain.dimension, generator=generator, dtype=torch.float64)
        away, square = self.off_centre * (2 * draws - 1), torch.zeros(fine.shape, dtype=torch.float64)
        for axis, x in enumerate(fine.axes()):
            along = x - x.mean() - away[axis]  # the mean is the middle of the box
            square += along.square().reshape([-1 if a == axis else 1 for a in range(domain.dimension)])
        inside = (square < parameters["radius"] ** 2).to(torch.float64)
        for axis, n in enumerate(domain.shape):
            inside = inside.unflatten(axis, (n, self.samples)).mean(dim=axis + 1)
        state = torch.zeros(channels, *domain.shape, dtype=torch.float64)
        state[0], state[-1] = 1.0, 1.0 + (parameters["overpressure"] - 1.0) * inside
        return CompressibleEuler(GAMMA).conservative(state.unsqueeze(0))[0]


RECIPE = replace(
    FIELDS,
    name="compressible_3d_blast",
    title="3D blast waves between open sides (PDEBench: 256^3 cells)",
    citation="PDEBench, Takamoto et al. (2022), configuration of a 3D blast wave, with random balls.",
    pde=gas,
    parameters={
        "gamma": Constant(GAMMA),
        "radius": Uniform(0.2, 0.4),
        "overpressure": LogUniform(5.0, 50.0),
    },
    domain=Grid((32, 32, 32), (2.0, 2.0, 2.0), boundary="outflow", origin=-1.0, centering="cell"),
    initial=Ball(),
    dt=0.025,
    steps=20,
)
