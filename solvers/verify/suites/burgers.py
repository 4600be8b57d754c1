"""Burgers' equation."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from sciml.domains import Grid
from sciml.pdes.burgers import Burgers, ConservativeBurgers, ScalarBurgers
from sciml.solvers.build import build
from sciml.solvers.verify.certificate import Check, Suites, at_least, at_most
from sciml.solvers.verify.measure import (
    box,
    exact_error,
    observed_order,
    points,
    random_states,
    rate_error,
    structure,
)


def _burgers(cls: type[Burgers]) -> list[Check]:
    pde = cls(viscosity=0.1)
    grid = box(pde, 128, 1)
    times = [exact_error(pde, build(pde, grid, 0.2, substeps=n), grid, 5) for n in (4, 8, 16)]
    space = []
    for n in (16, 32, 64):
        coarse = box(pde, n, 1)
        space.append(exact_error(pde, build(pde, coarse, 0.2, substeps=32), coarse, 5))
    thick = cls(viscosity=0.3)
    plane = box(thick, 48, 2)
    flat = exact_error(thick, build(thick, plane, 0.1, substeps=16), plane, 4)
    walls = []
    for n in (65, 129):
        bounded = box(pde, n, 1, boundary="dirichlet")
        walls.append(exact_error(pde, build(pde, bounded, 0.25, stepping="explicit"), bounded, 2))
    series = []
    for flow, n, dimension, side in ((pde, 129, 1, "dirichlet"), (thick, 33, 2, "wall")):
        room = box(flow, n, dimension, boundary=side)
        solver = build(flow, room, 0.1, substeps=8, basis="trigonometric")
        series.append(exact_error(flow, solver, room, 4))
    states = random_states(box(pde, 128, 1), 1)
    return [
        at_most("error against Cole-Hopf", times[-1], 2e-8, "nu = 0.1, 128 points, substep 0.0125, t = 1"),
        at_least("order in time against Cole-Hopf", observed_order(times), 3.7, "substeps 0.025 to 0.0125"),
        at_least(
            "order in space against Cole-Hopf",
            observed_order(space),
            6.0,
            "32 to 64 points, substep 0.00625",
        ),
        at_most("error in 2D against Cole-Hopf", flat, 1e-6, "nu = 0.3, 48^2, t = 0.4"),
        at_least(
            "order in space between walls",
            observed_order(walls),
            3.5,
            "65 to 129 nodes, Dirichlet, t = 0.5",
        ),
        at_most("error of sine series", series[0], 2e-8, "nu = 0.1, 129 nodes, Dirichlet, t = 0.4"),
        at_most("error of series between walls", series[1], 1e-4, "nu = 0.3, 33^2, t = 0.4"),
        *structure(pde, grid, 0.05, 50, states),
    ]


def _waves(pde: ConservativeBurgers | ScalarBurgers) -> list[Check]:
    """Errors and orders against plane waves of Cole-Hopf's transformation."""
    grid = box(pde, 128, 1)
    times = [exact_error(pde, build(pde, grid, 0.2, substeps=n), grid, 5) for n in (8, 16)]
    space = []
    for n in (32, 64):
        coarse = box(pde, n, 1)
        space.append(exact_error(pde, build(pde, coarse, 0.2, substeps=32), coarse, 5))
    thick = replace(pde, viscosity=0.3)
    checks = [
        at_most("error against Cole-Hopf", times[-1], 2e-8, "nu = 0.1, 128 points, substep 0.0125, t = 1"),
        at_least("order in time against Cole-Hopf", observed_order(times), 3.7, "substeps 0.025 to 0.0125"),
        at_least("order in space against Cole-Hopf", observed_order(space), 6.0, "32 to 64 points"),
    ]
    for dimension, n, substeps, level in ((2, 64, 40, 1e-6), (3, 32, 20, 1e-4)):
        cube = box(thick, n, dimension)
        error = exact_error(thick, build(thick, cube, 0.2, substeps=substeps), cube, 1)
        setting = f"a diagonal wave, nu = 0.3, {n}^{dimension}, t = 0.2"
        checks.append(at_most(f"error in {dimension}D against Cole-Hopf", error, level, setting))
    return checks


def _conservative(cls: type[ConservativeBurgers]) -> list[Check]:
    pde = cls(viscosity=0.1)
    plane = Grid((32, 32), (2 * math.pi,) * 2)
    x, y = (points(plane)[:, i : i + 1] for i in (0, 1))
    # By hand for (sin y, cos x): no component is carried by itself, (uv)/2 = sin y cos x/2 by the other.
    u = torch.cat([torch.sin(y), torch.cos(x)], dim=1)
    carried = 0.5 * torch.cat([torch.cos(y) * torch.cos(x), -torch.sin(y) * torch.sin(x)], dim=1)
    by_hand = rate_error(pde, plane, u, -carried - 0.1 * u)
    return [
        *_waves(pde),
        at_most("initial rate of two shear flows", by_hand, 1e-5, "32^2, nu = 0.1"),
        *structure(pde, plane, 0.05, 20, random_states(plane, 2, 1)),
    ]


def _scalar(cls: type[ScalarBurgers]) -> list[Check]:
    pde = cls(viscosity=0.1, convection=0.125)
    plane = Grid((32, 32), (2 * math.pi,) * 2)
    x, y = (points(plane)[:, i : i + 1] for i in (0, 1))
    u = torch.sin(x) + torch.cos(2 * y)
    slopes = torch.cos(x) - 2 * torch.sin(2 * y)
    rate = -0.125 * u * slopes - 0.1 * (torch.sin(x) + 4 * torch.cos(2 * y))
    by_hand = rate_error(pde, plane, u, rate)
    return [
        *_waves(pde),
        at_most("initial rate of two waves", by_hand, 1e-5, "b = 1/8, 32^2, nu = 0.1"),
        *structure(pde, plane, 0.05, 20, random_states(plane, 1, 1)),
    ]


SUITES: Suites = {
    Burgers: _burgers,
    ConservativeBurgers: _conservative,
    ScalarBurgers: _scalar,
}
