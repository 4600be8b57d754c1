"""Long solves have exact derivatives: the adjoint of 200 steps against differences, in state and parameters."""

from __future__ import annotations

import math

import pytest
import torch

from sciml.domains import Grid
from sciml.fields import RandomFourier
from sciml.pdes import Burgers, KuramotoSivashinsky, NavierStokesVorticity, SemiLinear
from sciml.solvers.spectral import pseudo_spectral
from sciml.step import rollout

TAU = 2 * math.pi
STEPS = 200


def _states(grid: Grid, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    draw = RandomFourier(modes=3)
    return torch.stack([draw(grid, 1, generator) for _ in range(2)])


@pytest.mark.parametrize(
    ("pde", "grid", "dt"),
    [
        (Burgers(0.05), Grid((48,), (TAU,)), 0.01),
        (KuramotoSivashinsky(), Grid((48,), (22.0,)), 0.1),
        (NavierStokesVorticity(0.02, drag=0.1, forcing=(2.0, 1.0)), Grid((16, 16), (TAU, TAU)), 0.02),
    ],
    ids=lambda v: type(v).__name__,
)
def test_the_adjoint_of_200_steps_against_differences(pde: SemiLinear, grid: Grid, dt: float) -> None:
    step = pseudo_spectral(pde, grid, dt)
    u, direction, weight = _states(grid), _states(grid, 1), _states(grid, 2)

    def end(v: torch.Tensor) -> torch.Tensor:
        return (rollout(step, STEPS)(v)[:, -1] * weight).sum()

    gradients = []
    for checkpoint in (False, True) if grid.dimension == 1 else (False,):
        v = u.clone().requires_grad_()
        last = (rollout(step, STEPS, checkpoint=checkpoint)(v)[:, -1] * weight).sum()
        gradients.append(torch.autograd.grad(last, v)[0])
    assert torch.equal(gradients[0], gradients[-1])
    slope = float((gradients[0] * direction).sum())
    # Differences of order 4: their error is h^4 and rounding / h, both near 1e-11 of values of order 10.
    h = 1e-3
    with torch.no_grad():
        near = [float(end(u + k * h * direction)) for k in (-2, -1, 1, 2)]
    difference = (near[0] - 8 * near[1] + 8 * near[2] - near[3]) / (12 * h)
    assert abs(slope - difference) < 1e-6 * max(1.0, abs(slope))
    if grid.dimension > 1:
        return
    # The derivative forwards in time is the same number.
    tangent = torch.func.jvp(lambda v: rollout(step, STEPS)(v)[:, -1], (u,), (direction,))[1]
    assert abs(float((tangent * weight).sum()) - slope) < 1e-9 * max(1.0, abs(slope))


def test_the_parameter_of_each_sample_after_200_steps() -> None:
    grid = Grid((48,), (TAU,))
    u, weight = _states(grid), _states(grid, 2)
    values = torch.tensor([0.05, 0.2], dtype=torch.float64)

    def end(nu: torch.Tensor) -> torch.Tensor:
        step = pseudo_spectral(Burgers(nu.reshape(2, 1, 1)), grid, 0.01)
        return (rollout(step, STEPS, checkpoint=True)(u)[:, -1] * weight).flatten(1).sum(dim=1)

    nu = values.clone().requires_grad_()
    gradient = torch.autograd.grad(end(nu).sum(), nu)[0]
    h = 1e-4
    with torch.no_grad():
        near = [end(values + k * h) for k in (-2, -1, 1, 2)]
    difference = (near[0] - 8 * near[1] + 8 * near[2] - near[3]) / (12 * h)
    torch.testing.assert_close(gradient, difference, rtol=1e-6, atol=1e-7)
