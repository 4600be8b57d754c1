"""Porous medium: a front that enters an empty line at speed one, u = (m (t - x))^(1/m), with m from 1 to 6.

What enters through the left side is known, u(t, 0) per time, and so is the mass, m^(1 + 1/m)/(m + 1) t^(1 + 1/m): the
solver reads the time from the mass of a state and lets in what belongs to it, so that mass is exact to rounding. At the
front u has the slope of (t - x)^(1/m), infinite for m > 1. Test values are m = 1, 3 and 6. The front meets the right
side at t = 1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sciml.datasets.distributions import Uniform
from sciml.datasets.recipe import Recipe
from sciml.datasets.recipes._known_fronts import CITATION, Known, averages
from sciml.domains import Grid
from sciml.pdes import PorousMedium
from sciml.pdes.parameters import fit
from sciml.step import Step


def exact(domain: Grid, parameter: Tensor, time: float) -> Tensor:
    """Cell averages (B, 1, n) for exponents (B, 1, 1)."""
    m = parameter
    return averages(
        lambda x: -(m ** (1 + 1 / m)) / (m + 1) * (time - x).clamp(min=0.0) ** (1 + 1 / m), domain
    )


def mass(parameter: Tensor, time: float | Tensor) -> Tensor:
    """Integral of u, (B, 1, 1), up to time 1."""
    m = parameter
    return m ** (1 + 1 / m) / (m + 1) * torch.as_tensor(time, dtype=m.dtype) ** (1 + 1 / m)


class Filling:
    """A Step of a porous medium into which flows what the wave of speed one brings.

    Args:
        pde: the medium, of diffusivity one.
        domain: cells from 0, insulated.
        dt: time of one step.
        substeps: implicit steps of it.
    """

    def __init__(self, pde: PorousMedium, domain: Grid, dt: float, substeps: int) -> None:
        self.pde, self.domain, self.dt, self.substeps = pde, domain, dt, substeps
        self.channels = pde.channels(1)

    def __call__(self, u: Tensor, /) -> Tensor:
        from sciml.solvers.elliptic import Flux
        from sciml.solvers.parabolic import parabolic

        m = torch.as_tensor(fit(self.pde.exponent, u), dtype=torch.float64).expand(len(u), 1, 1)
        h = self.dt / self.substeps
        content = u.detach().double().sum(dim=-1, keepdim=True) * self.domain.spacing[0]
        time = (content / mass(m, 1.0)).clamp(min=0.0) ** (m / (m + 1))
        for k in range(self.substeps):
            entered = mass(m, time + (k + 1) * h) - mass(m, time + k * h)
            step = parabolic(
                self.pde,
                self.domain,
                h,
                conditions={"x-": Flux((entered / h)[:, :, 0])},
                scheme="backward-euler",
                substeps=1,
            )
            u = step(u)
        return u


def solve(pde: PorousMedium, domain: Grid, dt: float, substeps: int | None) -> Step:
    """Implicit finite volumes of the potential."""
    return Filling(pde, domain, dt, substeps or 8)


RECIPE = Recipe(
    name="porous_medium",
    title="1D porous medium, a front into an empty line, exponents 1 to 6, exact solution known",
    citation=CITATION,
    pde=PorousMedium,
    parameters={"exponent": Uniform(1.0, 6.0)},
    domain=Grid((200,), (1.0,), boundary="neumann", centering="cell"),
    initial=Known(exact, "exponent"),
    solver=solve,
    dt=0.02,
    steps=50,
    substeps=8,
    samples={"train": 128, "valid": 16, "test": 16},
    shard_size=16,
)
