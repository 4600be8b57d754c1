"""Periodic shear flow that rolls up into vortices and winds up a dye.

The set-up of The Well: layers of fluid slide past each other in a box of 1 x 2, nu = 1/Re, the dye diffuses with
nu/Sc, starts as the flow does and does not act on it. It stores 128 x 256 points, 200 frames of 0.1, Reynolds numbers
of 1e4 to 5e5 and Schmidt numbers of 0.1 to 10, 40 samples of each of 28 pairs; here 64 x 128 points, gentler numbers
that those resolve, and every second frame up to t = 10.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sciml.datasets.distributions import Choice
from sciml.datasets.recipe import Recipe
from sciml.domains import Grid
from sciml.pdes import Boussinesq
from sciml.pdes.parameters import Parameter
from sciml.step import Step
from sciml.trajectory import Field


@dataclass(frozen=True)
class DyedFlow(Boussinesq):
    """Incompressible flow, and a dye that it carries and that does not lift it."""

    buoyancy: Parameter = 0.0

    fields: ClassVar[tuple[Field, ...]] = (Field("velocity", "m/s", rank=1), Field("tracer", "1"))


def flow(
    reynolds: Parameter, schmidt: Parameter, layers: Parameter, blobs: Parameter, width: Parameter
) -> DyedFlow:
    """The equations for these numbers; only the start knows layers, blobs and their width."""
    return DyedFlow(viscosity=1 / reynolds, diffusivity=1 / (reynolds * schmidt))


@dataclass(frozen=True)
class Layers:
    """Velocity and dye of layers across the last axis, rippled at their borders, (D + 1, *points).

    Speeds lie between -1/2 and 1/2 and pass from one to the other at `layers` borders y_k, evenly spaced, like
    tanh((y - y_k)/w) with w = `width`; the dye is the speed plus 1/2. Across the borders blows a wind
    `ripple` sin(2 pi `blobs` x + phase) exp(-((y - y_k)/w)^2), whose phase at each border is random, and a tenth of it
    of one wave, without which equal vortices never pair. Ripples grow where 2 pi `blobs` w < 1, fastest at 0.45. Layers,
    an even number, blobs and width are parameters of the sample.
    """

    ripple: float = 0.1

    def __call__(
        self, domain: Grid, channels: int, generator: torch.Generator, parameters: Mapping[str, float]
    ) -> Tensor:
        x, y = domain.coordinates()
        low, height = domain.origin[-1], domain.lengths[-1]  # type: ignore[index]
        count = round(parameters["layers"])
        phases = 2 * math.pi * torch.rand(2, count, generator=generator, dtype=torch.float64)
        speed, wind = torch.zeros_like(y), torch.zeros_like(y)
        turn = 2 * math.pi * (x - domain.origin[0]) / domain.lengths[0]  # type: ignore[index]
        for copy in (-1, 0, 1):  # of the box, which the tails reach
            for k in range(count):
                away = (y - (low + (k + 0.5 + copy * count) * height / count)) / parameters["width"]
                speed = speed + (-1) ** k * torch.tanh(away)
                waves = torch.sin(parameters["blobs"] * turn + phases[0, k]) + 0.1 * torch.sin(
                    turn + phases[1, k]
                )
                wind = wind + waves * torch.exp(-away.square())
        # As many steps up as down: from 0 to 2 and back.
        return torch.stack([0.5 * (speed - 1), self.ripple * wind, 0.5 * speed])


def spectral(pde: Boussinesq, domain: Grid, dt: float, substeps: int | None) -> Step:
    """Exponential steps in Fourier space, for speeds that vortices bring a little above those of the layers."""
    from sciml.solvers import build

    return build(pde, domain, dt, max_speed=0.6, substeps=substeps)


RECIPE = Recipe(
    name="shear_flow",
    title="2D periodic shear flow with a dye (The Well: 128 x 256 points)",
    citation="The Well, Ohana et al. (2024), shear_flow: equations, box and kind of start, which its text gives in part; "
    "the rest after the shear flow example of Dedalus, Burns et al. (2020).",
    pde=flow,
    parameters={
        "reynolds": Choice((2e3, 5e3)),
        "schmidt": Choice((0.2, 0.5, 1.0)),
        "layers": Choice((2.0, 4.0)),
        "blobs": Choice((1.0, 2.0)),
        "width": Choice((0.03, 0.04, 0.05)),
    },
    domain=Grid((64, 128), (1.0, 2.0), origin=(0.0, -1.0)),
    initial=Layers(),
    solver=spectral,
    substeps=20,
    dt=0.2,
    steps=50,
    samples={"train": 32, "valid": 8, "test": 8},
    shard_size=4,
)
