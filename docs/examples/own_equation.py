"""An equation of one's own in one file: solver, certificate and dataset follow without further code.

sciml verify own_equation.py          # the certificate
sciml generate own_equation.py        # the dataset
python own_equation.py                # both, and a look at the solver
"""

import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from sciml import Field, Grid, datasets
from sciml.calculus.base import Calculus
from sciml.datasets.recipe import Recipe
from sciml.domains import Domain
from sciml.fields import RandomFourier
from sciml.pdes.base import SemiLinear, integral, is_periodic
from sciml.solvers import build
from sciml.solvers.verify import verify


@dataclass(frozen=True)
class DampedBurgers(SemiLinear):
    """Burgers' equation with friction, u_t + u u_x = nu u_xx - mu u."""

    viscosity: float = 0.1  # nu [length^2/time]
    friction: float = 0.5  # mu [1/time]

    fields: ClassVar[tuple[Field, ...]] = (Field("velocity", "m/s"),)
    dimensions: ClassVar[tuple[int, ...]] = (1,)

    def linear(self, u: Tensor, calc: Calculus) -> Tensor:
        return self.viscosity * calc.laplacian(u) - self.friction * u

    def nonlinear(self, u: Tensor, calc: Calculus) -> Tensor:
        return -calc.derivative(u.square(), 0) / 2

    def invariants(self, u: Tensor, domain: Domain) -> Mapping[str, Tensor]:
        # Friction takes momentum away: only without it is there something to keep.
        return {"momentum": integral(u, domain)[:, 0]} if not self.friction and is_periodic(domain) else {}


RECIPE = Recipe(
    name="damped_burgers",
    title="1D Burgers with friction",
    citation="",
    pde=DampedBurgers,
    domain=Grid((128,), (2 * math.pi,)),
    initial=RandomFourier(modes=4),
    dt=0.05,
    steps={"train": 20, "test": 40},
    samples={"train": 8, "test": 4},
    shard_size=8,
)

if __name__ == "__main__":
    step = build(DampedBurgers(), RECIPE.domain, dt=RECIPE.dt)
    print(step.method, "-", step.reason)

    certificate = verify(DampedBurgers)
    for check in certificate.checks:
        print(f"{check.name:45s}{check.value:10.2g}  {check.sense} {check.level:g}")
    assert certificate.passed

    with tempfile.TemporaryDirectory() as folder:
        datasets.generate(__file__, Path(folder) / "data")
        train = datasets.open(Path(folder) / "data")["train"]
        first = train[0].data
        print("dataset:", tuple(first.shape))
        # The mean decays like e^(-mu t), whatever the waves do; stored in single precision.
        mean = first.mean(dim=(2, 3))[0]
        expected = mean[0] * torch.exp(-0.5 * RECIPE.dt * torch.arange(len(mean)))
        assert float((mean - expected).abs().max()) < 1e-6
