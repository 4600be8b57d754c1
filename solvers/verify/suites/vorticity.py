"""Plane incompressible flow as vorticity."""

from __future__ import annotations

import torch

from sciml.pdes import (
    NavierStokesVorticity,
)
from sciml.solvers.build import build
from sciml.solvers.verify.certificate import Check, Suites, at_least, at_most
from sciml.solvers.verify.measure import (
    box,
    exact_error,
    points,
    random_states,
    rate_error,
    structure,
    time_order,
)
from sciml.step import rollout


def _vorticity(cls: type[NavierStokesVorticity]) -> list[Check]:
    pde = cls(viscosity=0.05, drag=0.1)
    grid = box(pde, 32, 2)
    x, y = (points(grid)[:, i : i + 1] for i in (0, 1))
    forced = cls(viscosity=0.05, drag=0.1, forcing=(3.0, 1.0))
    # v = (-sin(2 y)/2, sin x) carries w = cos x + cos 2y: -v.grad(w) = 3/2 sin x sin 2y, by hand.
    w = torch.cos(x) + torch.cos(2 * y)
    rate = 1.5 * torch.sin(x) * torch.sin(2 * y) - 0.15 * torch.cos(x) - 0.3 * torch.cos(2 * y)
    fine = grid.resized((64, 64))
    u = 4 * random_states(fine, 1)
    ideal = cls(viscosity=0.0)
    with torch.no_grad():
        path = rollout(build(ideal, fine, 0.1, substeps=8), 10)(u)
        first, last = ideal.invariants(path[:, 0], fine), ideal.invariants(path[:, -1], fine)
    checks = [
        at_most(
            "error against Taylor-Green",
            exact_error(pde, build(pde, grid, 0.2), grid, 10),
            1e-12,
            "32^2, t = 2",
        ),
        at_most(
            "error against laminar Kolmogorov flow",
            exact_error(forced, build(forced, grid, 0.2), grid, 10),
            1e-10,
            "32^2, forcing sin(3 y), t = 2",
        ),
        at_most("initial rate of two waves", rate_error(pde, grid, w, rate), 1e-5, "32^2"),
        at_least(
            "order in time", time_order(pde, fine, 0.5, (10, 20), u), 3.7, "64^2, substeps 0.05 to 0.025"
        ),
    ]
    for name in ("energy", "enstrophy"):
        change = ((last[name] - first[name]) / first[name]).abs().max()
        checks.append(
            at_most(f"drift of {name} without viscosity", change, 1e-6, "64^2, t = 1, substep 0.0125")
        )
    return checks + structure(cls(viscosity=0.01), fine, 0.05, 20, u)


SUITES: Suites = {
    NavierStokesVorticity: _vorticity,
}
