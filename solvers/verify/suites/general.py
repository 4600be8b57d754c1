"""What can be measured of any semi-linear equation: one's own, of which nothing else is known."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from sciml.calculus import Spectral
from sciml.domains import Grid
from sciml.pdes.base import HasExact, SemiLinear
from sciml.solvers.build import build
from sciml.solvers.spectral import pseudo_spectral
from sciml.solvers.time import RK4, explicit_rk
from sciml.solvers.verify.certificate import Check, at_least, at_most
from sciml.solvers.verify.measure import (
    exact_error,
    observed_order,
    random_states,
    relative_error,
    structure,
)

_POINTS = {1: 64, 2: 32, 3: 16}


def semi_linear(cls: type[SemiLinear]) -> list[Check]:
    """Checks of the solver that `build` gives, for the equation's default coefficients on periodic boxes.

    In each dimension: the error against the exact solution where the equation states one, and how it falls on
    twice the points; agreement with an explicit Runge-Kutta method on the whole right-hand side; the order in
    time; drift of what the equation says is kept; translation by whole cells.

    The exact solution alone knows the coefficients: without one, agreement shows that the equation is solved,
    not that it is the one meant.
    """
    pde: Any = cls()
    has_exact = issubclass(cls, HasExact)
    checks = []
    for dimension in cls.dimensions:
        lengths = pde.exact_lengths(dimension) if has_exact else (2 * math.pi,) * dimension
        grid = Grid((_POINTS[dimension],) * dimension, lengths)
        rate = pde.nonlinear_rate(grid, 1.0)
        dt = 0.5 if pseudo_spectral(pde, grid, 1.0).linear else 1.0 / rate
        size = "x".join(map(str, grid.shape))
        if has_exact:
            count = build(pde, grid, dt).substeps or 1
            errors = []
            for factor in (1, 2):
                fine = grid.resized([factor * n for n in grid.shape])
                errors.append(exact_error(pde, build(pde, fine, dt, substeps=factor * count), fine, 4))
            setting = f"{'x'.join(str(2 * n) for n in grid.shape)}, 4 steps of {dt:.3g}"
            checks.append(
                at_most(f"error against the exact solution in {dimension}D", errors[1], 1e-3, setting)
            )
            # The substep is halved with the spacing: order 4 in time divides by 16; or rounding is reached.
            level = max(errors[0] / 8, 1e-8)
            checks.append(
                at_most(
                    f"the same on twice the points in {dimension}D", errors[1], level, f"{size} doubled"
                )
            )
        u = random_states(grid, len(pde.channels(dimension)))
        checks += [
            at_most(
                f"distance from an explicit method in {dimension}D",
                _distance(pde, grid, 0.1 * dt, u),
                1e-6,
                f"{size}, one step of {0.1 * dt:.3g}",
            )
        ]
        if not pseudo_spectral(pde, grid, dt).linear:
            checks.append(
                at_least(
                    f"order in time in {dimension}D",
                    _order(pde, grid, dt, u),
                    2.7,
                    f"{size}, 4 and 8 substeps",
                )
            )
        checks += structure(pde, grid, dt, 10, u, drift=1e-8)
    return checks


def _order(pde: SemiLinear, grid: Grid, dt: float, u: Tensor) -> float:
    """Order between 4 and 8 substeps against 64; infinite where these agree to rounding already."""

    def run(substeps: int) -> Tensor:
        with torch.no_grad():
            return pseudo_spectral(pde, grid, dt, substeps=substeps)(u)

    reference = run(64)
    errors = [float(relative_error(run(n), reference).max()) for n in (4, 8)]
    return math.inf if errors[1] < 1e-12 else observed_order(errors)


def _distance(pde: SemiLinear, grid: Grid, dt: float, u: Tensor) -> float:
    """From Runge-Kutta 4 on the right-hand side, its products cut to the same modes, in steps that are stable."""
    calculus = Spectral(grid)
    mask = calculus.dealias(pde.degree)

    def cut(v: Tensor) -> Tensor:
        return calculus.to_points(calculus.to_modes(v) * mask)

    def rate(v: Tensor) -> Tensor:
        return pde.linear(v, calculus) + cut(pde.nonlinear(cut(v), calculus))

    with torch.no_grad():
        probe = torch.randn(u[:1].shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        stiff = float((pde.linear(probe, calculus).norm() / probe.norm()).clamp(min=1.0))
        # A random state shows the root mean square of the rates: the largest is a few times that.
        count = min(20000, max(20, math.ceil(4 * dt * stiff)))
        step = explicit_rk(rate, dt / count, RK4)
        v = u
        for _ in range(count):
            v = step(v)
        w = build(pde, grid, dt, substeps=8)(u) if count > 20 else build(pde, grid, dt, substeps=20)(u)
    return float(relative_error(w, v).max())
