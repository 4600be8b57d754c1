"""Spatio-temporal chaos: the Kuramoto-Sivashinsky equation."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from sciml.calculus import Spectral
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
    checks = _integrated(cls, grid, u)
    floor = self_convergence(lambda g, n: build(pde, g, 0.5, substeps=n), grid, 16, u, 10)
    return [
        at_most("initial rate of a sine", rate_error(pde, grid, wave, rate), 1e-5, "64 points, L = 22"),
        at_most(
            "growth of a small mode", relative_error(grown, exact).max(), 1e-6, "amplitude 1e-7, t = 10"
        ),
        at_least("order in time", time_order(pde, grid, 1.0, (20, 40), u), 3.0, "substeps 0.05 to 0.025"),
        at_most("self-convergence error", floor.max(), 1e-5, "64 points, substep 1/32, t = 5"),
        *structure(pde, grid, 0.1, 50, u),
        *checks,
    ]


def _integrated(cls: type[KuramotoSivashinsky], grid: Grid, slope: Tensor) -> list[Check]:
    """The form for the height: in 1D its slope follows the derivative form, in 2D rates by hand."""
    calc = Spectral(grid)
    # The antiderivative of a state of zero mean.
    height = calc.inverse_laplacian(calc.derivative(slope, 0))
    with torch.no_grad():
        one = build(cls(), grid, 2.0, substeps=160)(calc.derivative(height, 0))
        two = calc.derivative(build(cls(integrated=True), grid, 2.0, substeps=160)(height), 0)
    plane = Grid((32, 32), (12.0, 12.0))
    k = 2 * math.pi / 12.0
    a, b = (k * points(plane)[:, i : i + 1] for i in (0, 1))
    wave = torch.sin(a) + torch.cos(2 * b)
    growth = (k**2 - k**4) * torch.sin(a) + (4 * k**2 - 16 * k**4) * torch.cos(2 * b)
    # |grad|^2/2 less its mean: cos^2 a - 1/2 and 4 (sin^2 2b - 1/2), halved.
    steep = k**2 * (torch.cos(2 * a) / 4 - torch.cos(4 * b))
    by_hand = rate_error(cls(), plane, wave, growth - steep, h=3e-4)
    return [
        at_most(
            "slope of the height against the derivative form",
            relative_error(two, one).max(),
            1e-6,
            "64 points, L = 22, substep 1/80, t = 2",
        ),
        at_most("initial rate of the height in 2D", by_hand, 1e-5, "32^2, L = 12"),
        *(
            replace(check, name=f"{check.name}, height in 2D")
            for check in structure(cls(), plane, 0.1, 20, random_states(plane, 1, 1))
        ),
    ]


SUITES: Suites = {
    KuramotoSivashinsky: _kuramoto_sivashinsky,
}
