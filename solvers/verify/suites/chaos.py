"""Spatio-temporal chaos: the Kuramoto-Sivashinsky equation."""

from __future__ import annotations

import math

import torch

from sciml.domains import Grid
from sciml.pdes import (
    KuramotoSivashinsky,
)
from sciml.solvers.build import build
from sciml.solvers.verify.certificate import Check, Suites, at_least, at_most
from sciml.solvers.verify.measure import (
    points,
    random_states,
    rate_error,
    relative_error,
    self_convergence,
    structure,
    time_order,
)
from sciml.step import rollout


def _kuramoto_sivashinsky(cls: type[KuramotoSivashinsky]) -> list[Check]:
    pde, length = cls(), 22.0
    grid = Grid((64,), (length,))
    k = 2 * 2 * math.pi / length
    x = points(grid)
    wave = torch.sin(k * x)
    rate = (k**2 - k**4) * wave - 0.5 * k * torch.sin(2 * k * x)
    u = random_states(grid, 1)
    with torch.no_grad():
        u = rollout(build(pde, grid, 0.5, max_speed=3.0), 40)(u)[:, -1]
        small = 1e-7 * wave
        grown = build(pde, grid, 10.0, substeps=40)(small)
        exact = small * math.exp((k**2 - k**4) * 10.0)
    floor = self_convergence(lambda g, n: build(pde, g, 0.5, substeps=n), grid, 16, u, 10)
    return [
        at_most("initial rate of a sine", rate_error(pde, grid, wave, rate), 1e-5, "64 points, L = 22"),
        at_most(
            "growth of a small mode", relative_error(grown, exact).max(), 1e-6, "amplitude 1e-7, t = 10"
        ),
        at_least("order in time", time_order(pde, grid, 1.0, (20, 40), u), 3.0, "substeps 0.05 to 0.025"),
        at_most("self-convergence error", floor.max(), 1e-5, "64 points, substep 1/32, t = 5"),
        *structure(pde, grid, 0.1, 50, u),
    ]


SUITES: Suites = {
    KuramotoSivashinsky: _kuramoto_sivashinsky,
}
