"""Burgers' equation without viscosity: a ramp from a down to 0 that becomes a shock at t = 1/a, a from 1 to 4.

a enters from the left; the shock runs at a/2 and the mass is (a/2)(1 + a t) until the shock meets the right side at
t = 3/a. Test values are a = 1 and 3.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor

from sciml.datasets.distributions import Uniform
from sciml.datasets.recipe import Recipe
from sciml.datasets.recipes._known_fronts import CITATION, Known, averages
from sciml.domains import Grid
from sciml.pdes import InviscidBurgers
from sciml.pdes.parameters import Parameter, fit
from sciml.step import FunctionStep, Step

_PAD = 4  # cells of what enters; none of it changes, since everything moves to the right


@dataclass(frozen=True)
class FedBurgers(InviscidBurgers):
    """Inviscid Burgers' equation that knows what enters from the left.

    Args:
        inflow: a, not negative, a number or one per sample.
    """

    inflow: Parameter = 1.0


def exact(domain: Grid, parameter: Tensor, time: float) -> Tensor:
    """Cell averages (B, 1, n) for inflows (B, 1, 1)."""
    a = parameter
    steep = a * time - 1  # where the ramp begins, while it ends at 0
    begins = steep.clamp(max=-1e-12)
    broken = steep >= 0

    def antiderivative(x: Tensor) -> Tensor:
        inside = torch.minimum(torch.maximum(x, begins), torch.zeros_like(x))
        ramp = a * torch.minimum(x, begins) + a * (inside.square() - begins.square()) / (2 * begins)
        return torch.where(broken, a * torch.minimum(x, 0.5 * steep), ramp)

    return averages(antiderivative, domain)


def mass(parameter: Tensor, time: float) -> Tensor:
    """Integral of u from -1 to 1, (B, 1, 1), up to time 3/a."""
    return 0.5 * parameter * (1 + parameter * time)


def solve(pde: FedBurgers, domain: Grid, dt: float, substeps: int | None) -> Step:
    """Finite volumes on a line that begins a few cells further left, where the state is what enters."""
    from sciml.solvers.finite_volume import finite_volume

    (n,), (h,), (low,) = domain.shape, domain.spacing, cast("tuple[float, ...]", domain.origin)
    wide = replace(domain, shape=(n + _PAD,), lengths=((n + _PAD) * h,), origin=(low - _PAD * h,))
    step = finite_volume(pde, wide, dt, substeps=substeps)

    def advance(u: Tensor) -> Tensor:
        enters = torch.as_tensor(fit(pde.inflow, u), dtype=u.dtype).expand(len(u), 1, _PAD)
        return step(torch.cat((enters, u), dim=-1))[..., _PAD:]

    return FunctionStep(advance, dt, domain, pde.channels(1))


RECIPE = Recipe(
    name="burgers_ramp",
    title="1D inviscid Burgers, a ramp that becomes a shock, its height per sample, exact solution known",
    citation=CITATION,
    pde=FedBurgers,
    parameters={"inflow": Uniform(1.0, 4.0)},
    domain=Grid((200,), (2.0,), boundary="outflow", origin=-1.0, centering="cell"),
    initial=Known(exact, "inflow"),
    solver=solve,
    dt=0.02,
    steps=50,
    samples={"train": 128, "valid": 16, "test": 16},
    shard_size=16,
)
