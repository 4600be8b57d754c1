"""Stefan problem: a melting front that enters from a side held at one, with a threshold u* from 0.55 to 0.7.

u jumps at the front from u* to 0; the front stands at 2 z sqrt(t), and the mass grows with sqrt(t). Test values are
u* = 0.6 and, outside the range, 0.5.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sciml.datasets.distributions import Uniform
from sciml.datasets.recipe import Recipe
from sciml.datasets.recipes._known_fronts import CITATION, Known, averages
from sciml.domains import Grid
from sciml.pdes import Stefan
from sciml.step import Step


def exact(domain: Grid, parameter: Tensor, time: float) -> Tensor:
    """Cell averages (B, 1, n) for thresholds (B, 1, 1)."""
    laws = [Stefan(float(star)) for star in parameter.flatten()]
    if time == 0:
        return torch.zeros(len(laws), 1, *domain.shape, dtype=torch.float64)
    front = torch.tensor([law.front(time) for law in laws], dtype=torch.float64).reshape(-1, 1, 1)
    fall = 0.5 * math.sqrt(math.pi / time) * mass(parameter, time)  # u = 1 - fall erf(x / (2 sqrt(t)))
    root = 2 * math.sqrt(time)

    def antiderivative(x: Tensor) -> Tensor:
        y = torch.minimum(x, front)
        share = y / root
        return y - fall * (y * torch.erf(share) + root / math.sqrt(math.pi) * torch.exp(-share.square()))

    return averages(antiderivative, domain)


def mass(parameter: Tensor, time: float) -> Tensor:
    """Integral of u, (B, 1, 1)."""
    found = [Stefan(float(star)).content(time) for star in parameter.flatten()]
    return torch.tensor(found, dtype=torch.float64).reshape(-1, 1, 1)


def solve(pde: Stefan, domain: Grid, dt: float, substeps: int | None) -> Step:
    """Implicit finite volumes of the potential beside a side held at one."""
    from sciml.solvers.elliptic import Value
    from sciml.solvers.parabolic import parabolic

    return parabolic(
        pde, domain, dt, conditions={"x-": Value(1.0)}, scheme="backward-euler", substeps=substeps
    )


RECIPE = Recipe(
    name="stefan",
    title="1D Stefan problem, a melting front with a threshold per sample, exact solution known",
    citation=CITATION,
    pde=Stefan,
    parameters={"threshold": Uniform(0.55, 0.7)},
    domain=Grid((200,), (1.0,), boundary=(("dirichlet", "neumann"),), centering="cell"),
    initial=Known(exact, "threshold"),
    solver=solve,
    dt=0.002,
    steps=50,
    substeps=8,
    samples={"train": 128, "valid": 16, "test": 16},
    shard_size=16,
)
