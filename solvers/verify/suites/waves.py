"""Waves: two coupled unknowns, solved exactly in Fourier space."""

from __future__ import annotations

import math

import torch

from sciml.pdes import Wave
from sciml.solvers.build import build
from sciml.solvers.verify.certificate import Check, Suites, at_least, at_most
from sciml.solvers.verify.measure import (
    box,
    exact_error,
    observed_order,
    points,
    random_states,
    rate_error,
    relative_error,
    structure,
)
from sciml.solvers.verify.suites.linear import differences, linear_checks
from sciml.step import rollout


def _alembert(pde: Wave) -> Check:
    """Any displacement at rest parts into two halves that travel unchanged."""
    grid = box(pde, 60, 1)
    u = random_states(grid, 2)
    u[:, 1] = 0.0
    cells = 7
    with torch.no_grad():
        new = build(pde, grid, cells * grid.spacing[0] / 1.5)(u)[:, :1]
    halves = 0.5 * (u[:, :1].roll(cells, 2) + u[:, :1].roll(-cells, 2))
    return at_most(
        "error against d'Alembert's halves", relative_error(new, halves).max(), 1e-12, "60 points, 7 cells"
    )


def _drift(pde: Wave) -> Check:
    """The mean displacement, which nothing restores, moves by the mean rate."""
    grid = box(pde, 16, 2)
    u = random_states(grid, 2) + torch.tensor([0.4, -0.7], dtype=torch.float64).reshape(1, 2, 1, 1)
    mean = u.mean(dim=(2, 3))
    with torch.no_grad():
        path = rollout(build(pde, grid, 0.5), 40)(u)
    last = path[:, -1].mean(dim=(2, 3))
    expected = torch.stack([mean[:, 0] + 20.0 * mean[:, 1], mean[:, 1]], dim=1)
    return at_most(
        "error of the drifting mean", (last - expected).abs().max() / 20.0, 1e-12, "16^2, 40 steps of 0.5"
    )


def _return(pde: Wave) -> Check:
    """With the rate turned round the way leads back."""
    grid = box(pde, 32, 2)
    u, mirror = random_states(grid, 2), torch.tensor([1.0, -1.0], dtype=torch.float64).reshape(1, 2, 1, 1)
    step = build(pde, grid, 0.37)
    with torch.no_grad():
        there = rollout(step, 20)(u)[:, -1]
        back = mirror * rollout(step, 20)(mirror * there)[:, -1]
    return at_most("way there and back", relative_error(back, u).max(), 1e-11, "32^2, 20 steps of 0.37")


def _wave(cls: type[Wave]) -> list[Check]:
    pde = cls(speed=1.5)
    damped, creeping = cls(speed=1.5, damping=0.4), cls(speed=0.5, damping=3.0)
    line, plane = box(pde, 64, 1), box(pde, 32, 2)
    x, y = points(plane).split(1, dim=1)
    u = torch.cat([torch.sin(x + 2 * y), torch.cos(2 * x)], dim=1)
    # v_t = 1.5^2 lap(u) - 0.4 v, with lap(u) = -5 u.
    rate = torch.cat([torch.cos(2 * x), -11.25 * u[:, :1] - 0.4 * u[:, 1:]], dim=1)
    checks = [
        *linear_checks(lambda d: pde, "standing and travelling waves"),
        at_most("initial rate of two waves", rate_error(damped, plane, u, rate, 1e-4), 1e-6, "32^2"),
        _alembert(pde),
        _drift(pde),
        _return(pde),
        differences(damped, 1, (32, 64), 0.5, 50),
    ]
    for name, one in (("damped", damped), ("overdamped", creeping)):
        for grid in (line, plane):
            checks.append(
                at_most(
                    f"error of {name} waves in {grid.dimension}D",
                    exact_error(one, build(one, grid, 0.3), grid, 10),
                    1e-12,
                    "t = 3",
                )
            )
    walls = []
    for n in (17, 33):
        bounded = box(pde, n, 2, boundary="neumann")
        x, y = points(bounded).split(1, dim=1)
        shape = torch.cos(x) * torch.cos(2 * y)
        angle = 1.5 * math.sqrt(5) * 0.4
        with torch.no_grad():
            new = build(pde, bounded, 0.4)(torch.cat([shape, 0 * shape], dim=1))[:, :1]
        walls.append(float(relative_error(new, math.cos(angle) * shape).max()))
    checks.append(
        at_least(
            "order in space between walls", observed_order(walls), 3.5, "17^2 to 33^2, Neumann, t = 0.4"
        )
    )
    return checks + structure(damped, plane, 0.1, 50, random_states(plane, 2))


SUITES: Suites = {
    Wave: _wave,
}
