"""Rayleigh-Benard convection between plates without slip, the lower one hot, periodic along them.

The set-up of The Well: a layer four times as long as high, nu = sqrt(Pr/Ra), kappa = 1/sqrt(Ra Pr) in units of the
height and the time of free fall, temperature 1 below and 0 above. It stores 512 x 128 points, 200 frames of 0.25 up to
t = 50, Rayleigh numbers of 1e6 to 1e10 and Prandtl numbers of 0.1 to 10, 50 samples of each of 35 pairs; here 128 x 32
cells of gentler flows, with frames of 0.5.

Velocities are stored where the solver has them, on the low faces of the cells. Noise starts the motion, so that plumes
leave the plates between t = 5 and 20 and their places are chance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.datasets.distributions import Choice
from sciml.datasets.recipe import Recipe
from sciml.domains import Grid
from sciml.pdes import Boussinesq, rayleigh_benard
from sciml.pdes.parameters import Parameter
from sciml.step import Step

HOT, COLD = 1.0, 0.0


def convection(rayleigh: Parameter, prandtl: Parameter, contrast: Parameter) -> Boussinesq:
    """The equations for these numbers; only the start knows the contrast."""
    return rayleigh_benard(rayleigh, prandtl)


@dataclass(frozen=True)
class NoisyLayer:
    """Fluid at rest of temperature contrast (1 - z) + z (1 - z) noise, (D + 1, *cells), in a layer of height one.

    `contrast` is the sample's parameter. Noise is a sum of cosines along and across the layer with normal amplitudes,
    the same on every grid.

    Args:
        noise: its standard deviation.
        waves: shortest waves of the noise, per height.
    """

    noise: float = 1e-3
    waves: int = 8

    def __call__(
        self, domain: Grid, channels: int, generator: torch.Generator, parameters: Mapping[str, float]
    ) -> Tensor:
        *along, z = domain.axes()
        total: Tensor | None = None
        count = self.waves + 1
        shape = [round(self.waves * length) for length in domain.lengths[:-1]]
        size = torch.randn(*shape, count, generator=generator, dtype=torch.float64)
        phases = [2 * math.pi * torch.rand(n, generator=generator, dtype=torch.float64) for n in shape]
        total = size * math.sqrt(2 ** len(shape) * 2 / size.numel())
        for x, length, phase in zip(along, domain.lengths, phases, strict=False):
            k = 2 * math.pi * torch.arange(1, len(phase) + 1, dtype=torch.float64) / length
            total = torch.tensordot(total, torch.cos(k[:, None] * x + phase[:, None]), dims=([0], [0]))
        across = torch.cos(math.pi * torch.arange(count, dtype=torch.float64)[:, None] * z)
        noise = self.noise * torch.tensordot(total, across, dims=([0], [0]))
        temperature = COLD + (HOT - COLD) * parameters["contrast"] * (1 - z) + z * (1 - z) * noise
        return torch.cat([torch.zeros(channels - 1, *domain.shape, dtype=torch.float64), temperature[None]])


def staggered(pde: Boussinesq, domain: Grid, dt: float, substeps: int | None) -> Step:
    """Flow on a staggered grid between plates that hold their temperatures."""
    from sciml.solvers.incompressible import incompressible

    below, above = ("y-", "y+") if domain.dimension == 2 else ("z-", "z+")
    return incompressible(pde, domain, dt, held={below: HOT, above: COLD}, substeps=substeps)


RECIPE = Recipe(
    name="rayleigh_benard",
    title="2D Rayleigh-Benard convection between plates (The Well: 512 x 128 points)",
    citation="The Well, Ohana et al. (2024), rayleigh_benard: equations, plates, layer and start.",
    pde=convection,
    parameters={
        "rayleigh": Choice((3e4, 1e5, 3e5)),
        "prandtl": Choice((0.5, 1.0, 2.0)),
        "contrast": Choice((0.2, 0.4, 0.6, 0.8, 1.0)),
    },
    domain=Grid(
        (128, 32), (4.0, 1.0), boundary=(("periodic", "periodic"), ("wall", "wall")), centering="cell"
    ),
    initial=NoisyLayer(),
    solver=staggered,
    dt=0.5,
    steps=100,
    samples={"train": 32, "valid": 8, "test": 8},
    shard_size=4,
)
