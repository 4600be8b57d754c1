"""Ideal magnetohydrodynamics in 2D: vortices of Orszag and Tang with random strengths and phases, periodic.

Flow and field start from one wave per component, steepen, and shocks run through each other; at Mach number 1 and
field 1 and without phases it is the problem of Orszag and Tang as solvers are compared on it, up to t = 0.5. Solved on
the cells that are stored, some ten seconds a sample. The last channel, psi, is what cleans div B: it tells of the scheme's
errors, vanishes on finer grids, and is kept so that a stored frame can be stepped on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.datasets.distributions import Uniform
from sciml.datasets.recipe import Recipe
from sciml.domains import Grid
from sciml.pdes import IdealMHD
from sciml.pdes.parameters import Parameter
from sciml.step import Step


def plasma(mach: Parameter, field: Parameter) -> IdealMHD:
    """A monatomic plasma; only its start knows how strong flow and field are."""
    return IdealMHD(cleaning_speed=4.0)


@dataclass(frozen=True)
class Vortices:
    """v = mach (-sin(y + a), sin(x + b)) and B = field (-sin(y + c), sin(2 x + d)) / sqrt(4 pi), conserved variables.

    Angles x and y go round once in the box; a to d are random. Density is 25/(36 pi) and pressure 5/(12 pi), so that
    sound is 1. `mach` and `field` are parameters of the sample.
    """

    def __call__(
        self, domain: Grid, channels: int, generator: torch.Generator, parameters: Mapping[str, float]
    ) -> Tensor:
        lengths = torch.tensor(domain.lengths, dtype=torch.float64).reshape(2, 1, 1)
        x, y = 2 * math.pi * domain.coordinates() / lengths
        a, b, c, d = (2 * math.pi * torch.rand(4, generator=generator, dtype=torch.float64)).tolist()
        speed, field = parameters["mach"], parameters["field"] / math.sqrt(4 * math.pi)
        one = torch.ones_like(x)
        w = torch.stack(
            (
                25 / (36 * math.pi) * one,
                -speed * torch.sin(y + a),
                speed * torch.sin(x + b),
                5 / (12 * math.pi) * one,
                -field * torch.sin(y + c),
                field * torch.sin(2 * x + d),
                0 * one,
            )
        )
        return IdealMHD().conservative(w.unsqueeze(0))[0]


def predicted(pde: IdealMHD, domain: Grid, dt: float, substeps: int | None) -> Step:
    """One stage per substep, which treats both axes alike and costs a third of what Runge-Kutta stages do."""
    from sciml.solvers.finite_volume import finite_volume

    return finite_volume(pde, domain, dt, time="hancock", cfl=0.8, substeps=substeps)


RECIPE = Recipe(
    name="orszag_tang",
    title="2D ideal magnetohydrodynamics, vortices of Orszag and Tang",
    citation="Orszag and Tang, J. Fluid Mech. 90 (1979); compressible as in Toth, J. Comput. Phys. 161 (2000), section 6.4.",
    pde=plasma,
    parameters={"mach": Uniform(0.5, 1.2), "field": Uniform(0.5, 1.2)},
    domain=Grid((64, 64), (1.0, 1.0), boundary="periodic", centering="cell"),
    initial=Vortices(),
    solver=predicted,
    dt=0.02,
    steps=25,
    samples={"train": 32, "valid": 8, "test": 8},
    shard_size=4,
)
