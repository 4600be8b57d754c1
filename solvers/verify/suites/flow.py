"""Incompressible flow as velocity, in 2D and 3D."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from sciml.calculus import Spectral
from sciml.domains import Grid
from sciml.metrics.flow import energy_budget
from sciml.pdes import NavierStokes, NavierStokesVorticity
from sciml.solvers.build import build
from sciml.solvers.time import RK4, explicit_rk
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
from sciml.step import Step, rollout


def random_flow(pde: NavierStokes, grid: Grid, samples: int = 2) -> Tensor:
    """Smooth random velocities (B, D, *points) without divergence, of at most 3 modes, seed 0."""
    return pde.project(random_states(grid, grid.dimension, samples), Spectral(grid))


def taylor_green(grid: Grid) -> Tensor:
    """(sin x cos y cos z, -cos x sin y cos z, 0) on a box of side 2 pi, (1, 3, *points)."""
    x, y, z = points(grid).split(1, dim=1)
    down = torch.cos(z)
    u, v = torch.sin(x) * torch.cos(y) * down, -torch.cos(x) * torch.sin(y) * down
    return torch.cat([u, v, torch.zeros_like(u)], dim=1)


def budget_gap(pde: NavierStokes, step: Step, grid: Grid, u: Tensor, steps: int) -> float:
    """Largest gap of dE/dt = injection - drag - dissipation along a run, relative to its largest term.

    E(t + 2 dt) - E(t) is held against Simpson's rule over three states, whose error is dt^4/90 of the fourth
    derivative of the rate.
    """
    with torch.no_grad():
        terms = energy_budget(pde, rollout(step, steps)(u), grid)
    rate, energy = terms["rate"], terms["energy"]
    gained = (energy[:, 2:] - energy[:, :-2]) / (2 * step.dt)
    simpson = (rate[:, :-2] + 4 * rate[:, 1:-1] + rate[:, 2:]) / 6
    scale = max(float(terms[name].abs().max()) for name in ("injection", "drag", "dissipation"))
    return float((gained - simpson).abs().max()) / scale


def divergence(u: Tensor, grid: Grid) -> float:
    """Largest |div u|, times the shortest side over max |u|."""
    size = float(Spectral(grid).div(u.unsqueeze(1)).abs().max())
    return size * min(grid.lengths) / float(u.abs().max())


def _orders(make: Callable[[int], Step], pde: NavierStokes, grid: Grid, steps: int) -> list[float]:
    return [exact_error(pde, make(n), grid, steps) for n in (4, 8, 16)]


def _navier_stokes(cls: type[NavierStokes]) -> list[Check]:
    pde = cls(viscosity=0.05, drag=0.1)
    plane, cube = box(pde, 32, 2), box(pde, 16, 3)
    flat = _orders(lambda n: build(pde, plane, 0.25, substeps=n), pde, plane, 4)
    deep = _orders(lambda n: build(pde, cube, 0.5, substeps=n), pde, cube, 1)
    forced = cls(viscosity=0.05, drag=0.1, forcing=(3.0, 1.0))
    calm = cls(viscosity=0.02, forcing=(2.0, 1.0))
    fine, solid = plane.resized((48, 48)), cube.resized((24, 24, 24))
    u, v = 2 * random_flow(pde, fine), 2 * random_flow(pde, solid, 1)
    twin = NavierStokesVorticity(viscosity=0.01, drag=0.05, forcing=(2.0, 1.0))
    same = cls(viscosity=0.01, drag=0.05, forcing=(2.0, 1.0))
    calculus = Spectral(fine)
    still = u - u.mean(dim=(2, 3), keepdim=True)
    with torch.no_grad():
        late = build(same, fine, 1.0, substeps=40)(still)
        spin = build(twin, fine, 1.0, substeps=40)(calculus.curl(still))
        moved = rollout(build(cls(viscosity=0.01), solid, 0.1, substeps=2), 5)(v)[:, -1]
        # The same right-hand side, stepped by a classical method on dealiased points.
        keep = Spectral(cube)
        mask = keep.dealias()

        def cut(w: Tensor) -> Tensor:
            return keep.to_points(keep.to_modes(w) * mask)

        start = cut(random_flow(pde, cube, 1))
        march, plain = explicit_rk(lambda w: cut(pde.rhs(w, keep)), 0.01, RK4), start
        for _ in range(50):
            plain = march(plain)
        there = build(pde, cube, 0.5, substeps=25)(start)
    checks = [
        at_most("error against moving Taylor-Green vortices", flat[-1], 1e-6, "32^2, t = 1, substep 1/64"),
        at_least("order in time in 2D", observed_order(flat), 3.7, "substeps 1/32 to 1/64"),
        at_most("error against a moving ABC flow", deep[-1], 1e-6, "16^3, t = 0.5, substep 1/32"),
        at_least("order in time in 3D", observed_order(deep), 3.7, "substeps 1/16 to 1/32"),
        at_most(
            "error against laminar Kolmogorov flow",
            exact_error(forced, build(forced, plane, 0.2), plane, 10),
            1e-10,
            "32^2, forcing sin(3 y), t = 2",
        ),
        at_most("initial rate of two waves", _two_waves(pde, plane), 1e-5, "32^2"),
        at_most("initial rate of Taylor-Green vortices", _vortex_rate(pde, cube), 1e-5, "16^3"),
        at_most(
            "distance to the vorticity form",
            relative_error(calculus.curl(late), spin).max(),
            1e-7,
            "48^2, Kolmogorov forcing and drag, t = 1, substep 1/40",
        ),
        at_most(
            "distance to classical Runge-Kutta", relative_error(there, plain).max(), 1e-7, "16^3, t = 0.5"
        ),
        at_most("divergence left", divergence(moved, solid), 1e-12, "24^3, t = 0.5"),
        at_most(
            "gap of the energy budget in 2D",
            budget_gap(calm, build(calm, fine, 0.01, substeps=1), fine, u, 40),
            1e-6,
            "48^2, Kolmogorov forcing, 40 steps of 0.01",
        ),
    ]
    ideal = cls(viscosity=0.0)
    with torch.no_grad():
        first, last = v, rollout(build(ideal, solid, 0.1, substeps=4), 5)(v)[:, -1]
    for name in ("energy", "helicity"):
        before, after = (ideal.invariants(w, solid)[name] for w in (first, last))
        # Helicity has a sign and may be small: it is held against |u| |curl u|.
        scale = before if name == "energy" else _helicity_bound(first, solid)
        checks.append(
            at_most(
                f"drift of {name} without viscosity",
                ((after - before) / scale).abs().max(),
                1e-6,
                "24^3, t = 0.5, substep 1/40",
            )
        )
    still_there = structure(cls(viscosity=0.01), fine, 0.05, 10, u)
    return checks + still_there + structure(cls(viscosity=0.01), cube, 0.1, 5, random_flow(pde, cube, 1))


def _two_waves(pde: NavierStokes, grid: Grid) -> float:
    """v = (-sin(2 y)/2, sin x): its vorticity grows by 3/2 sin x sin 2y, whose velocity is written here."""
    x, y = points(grid).split(1, dim=1)
    u = torch.cat([-0.5 * torch.sin(2 * y), torch.sin(x)], dim=1)
    gain = torch.cat([0.6 * torch.sin(x) * torch.cos(2 * y), -0.3 * torch.cos(x) * torch.sin(2 * y)], dim=1)
    loss = 0.05 * torch.cat([4 * u[:, :1], u[:, 1:]], dim=1) + 0.1 * u
    return rate_error(pde, grid, u, gain - loss)


def _vortex_rate(pde: NavierStokes, grid: Grid) -> float:
    """(u.grad)u + grad p of the Taylor-Green vortices, p = (cos 2x + cos 2y)(cos 2z + 2)/16, by hand."""
    x, y, z = (2 * c for c in points(grid).split(1, dim=1))
    gain = torch.cat(
        [
            -torch.sin(x) * torch.cos(z),
            -torch.sin(y) * torch.cos(z),
            (torch.cos(x) + torch.cos(y)) * torch.sin(z),
        ],
        dim=1,
    )
    u = taylor_green(grid)
    return rate_error(pde, grid, u, gain / 8 - (3 * 0.05 + 0.1) * u)


def _helicity_bound(u: Tensor, grid: Grid) -> Tensor:
    w = Spectral(grid).curl(u)
    size = (u.square().flatten(1).sum(1) * w.square().flatten(1).sum(1)).sqrt()
    return size * grid.volume / math.prod(grid.shape)


SUITES: Suites = {
    NavierStokes: _navier_stokes,
}
