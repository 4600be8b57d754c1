"""2D incompressible flow in a box, pushed by a random force where there is smoke, in the set-up of PDEBench.

    u_t + (u . grad) u = -grad p + nu lap(u) + s f(x),    div u = 0,    s_t + div(u s) = 0

Unit box with walls that hold the air, nu = 0.01. Velocity, smoke s and force f start as periodic noise of deviation one
whose wave amplitudes fall like |k|^-2, as PhiFlow's of smoothness 1, here up to 8 waves a side; s takes either sign. f
stays, and is stored with each frame, as the reader of PDEBench's files shows it.

PDEBench: 512^2 cells (256^2 in its configuration), 1000 frames up to t = 5 by semi-Lagrangian steps of 5e-5, and frames
from after the first step on. Here 64^2 cells and 51 frames up to t = 2.5. Velocities and forces lie on the low faces of
the cells. Nothing but the flow spreads the smoke, and 64^2 cells blur it: against 128^2 it differs by 7 percent at t = 0.5,
the velocity by 1 percent.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sciml.calculus.base import Calculus
from sciml.datasets.distributions import Constant
from sciml.datasets.recipe import Recipe
from sciml.datasets.recipes._pdebench import CITATION
from sciml.domains import Domain, Grid
from sciml.pdes import Smoke
from sciml.pdes.base import PDE
from sciml.pdes.parameters import Parameter, fit
from sciml.trajectory import Field


@dataclass(frozen=True)
class PushedSmoke(PDE):
    """Flow, smoke, and the force on smoky air, which does not change.

    Args:
        viscosity: nu [length^2/time].
    """

    viscosity: Parameter = 0.01

    fields: ClassVar[tuple[Field, ...]] = (
        Field("velocity", "m/s", rank=1),
        Field("particles"),
        Field("force", "m/s^2", rank=1),
    )
    dimensions: ClassVar[tuple[int, ...]] = (2,)

    def rhs(self, u: Tensor, calc: Calculus) -> Tensor:
        velocity, smoke, force = u[:, :2], u[:, 2:3], u[:, 3:]
        carried = calc.div(velocity.unsqueeze(1) * velocity.unsqueeze(2))
        rate = calc.solenoidal(smoke * force - carried) + fit(self.viscosity, u) * calc.laplacian(velocity)
        return torch.cat([rate, -calc.div((velocity * smoke).unsqueeze(1)), torch.zeros_like(force)], dim=1)


class Pushed:
    """Pushes of half a substep before and after substeps of the flow between walls (Strang), of second order.

    Attributes:
        dt, domain, channels: as every Step.
        substeps: of one call.
        low_faces: where the channels lie.
    """

    low_faces = ((0,), (1,), (), (0,), (1,))

    def __init__(self, pde: PushedSmoke, domain: Grid, dt: float, substeps: int) -> None:
        from sciml.solvers.incompressible import incompressible

        flow = Smoke(pde.viscosity, buoyancy=0.0)
        self._flow = incompressible(flow, domain, dt / substeps, scalar_flux="limited")
        self.dt, self.substeps, self.channels = dt, substeps, pde.channels(2)
        self.domain: Domain = domain
        self.method = f"{self._flow.method}, pushed in Strang steps"

    def project(self, u: Tensor) -> Tensor:
        """The state of the nearest flow without divergence that stays in the box."""
        return torch.cat([self._flow.project(u[:, :3]), u[:, 3:]], dim=1)

    def __call__(self, u: Tensor, /) -> Tensor:
        state, force, h = u[:, :3], u[:, 3:], self.dt / self.substeps
        for _ in range(self.substeps):
            state = self._push(self._flow(self._push(state, force, h / 2)), force, h / 2)
        return torch.cat([state, force], dim=1)

    def _push(self, state: Tensor, force: Tensor, h: float) -> Tensor:
        smoke = state[:, 2]
        # On a face the mean of its cells; what reaches through a wall is taken out by the projection.
        at = torch.stack([0.5 * (smoke + smoke.roll(1, dims=axis + 1)) for axis in range(2)], dim=1)
        return self._flow.project(torch.cat([state[:, :2] + h * at * force, state[:, 2:]], dim=1))


@dataclass(frozen=True)
class Noise:
    """Velocity and force on the low faces and smoke at the centres of cells, all independent, (5, *cells).

    Args:
        modes: largest number of waves a side.
        steepness: p of the amplitudes |k|^-p.
    """

    modes: int = 8
    steepness: float = 2.0

    def __call__(self, domain: Grid, channels: int, generator: torch.Generator) -> Tensor:
        middle = domain.coordinates()
        low = [0.5 * h * unit for h, unit in zip(domain.spacing, torch.eye(2), strict=True)]
        places = [middle - low[0].reshape(2, 1, 1), middle - low[1].reshape(2, 1, 1), middle]
        side = torch.tensor(domain.lengths, dtype=torch.float64).reshape(2, 1, 1)
        return torch.stack([self._drawn(generator)(places[i] / side) for i in (0, 1, 2, 0, 1)])

    def _drawn(self, generator: torch.Generator) -> Callable[[Tensor], Tensor]:
        line = torch.arange(-self.modes, self.modes + 1)
        k = torch.cartesian_prod(line, line)
        k = k[(k[:, 0] > 0) | ((k[:, 0] == 0) & (k[:, 1] > 0))].to(torch.float64)  # one of k and -k
        size = torch.randn(2, len(k), dtype=torch.float64, generator=generator)
        size = size * k.norm(dim=1) ** -self.steepness
        size = size / (0.5 * size.square().sum()).sqrt()

        def function(x: Tensor) -> Tensor:
            angle = 2 * math.pi * torch.tensordot(k, x, dims=1)
            return torch.tensordot(size[0], angle.cos(), dims=1) + torch.tensordot(
                size[1], angle.sin(), dims=1
            )

        return function


def pushed(pde: PushedSmoke, domain: Grid, dt: float, substeps: int | None) -> Pushed:
    """The solver, by default with four substeps."""
    return Pushed(pde, domain, dt, substeps or 4)


RECIPE = Recipe(
    name="pdebench_incompressible",
    title="2D smoke in a box under a random force (PDEBench: 512^2 cells, 1000 frames)",
    citation=f"{CITATION}.6.",
    pde=PushedSmoke,
    parameters={"viscosity": Constant(0.01)},
    domain=Grid((64, 64), (1.0, 1.0), boundary="wall", centering="cell"),
    initial=Noise(),
    solver=pushed,
    dt=0.05,
    steps=50,
    substeps=4,
    samples={"train": 16, "valid": 2, "test": 2},
    shard_size=2,
)
