"""Burgers' equation."""

from __future__ import annotations

from sciml.pdes import (
    Burgers,
)
from sciml.solvers.build import build
from sciml.solvers.verify.certificate import Check, Suites, at_least, at_most
from sciml.solvers.verify.measure import (
    box,
    exact_error,
    observed_order,
    random_states,
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
        walls.append(exact_error(pde, build(pde, bounded, 0.25), bounded, 2))
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
        *structure(pde, grid, 0.05, 50, states),
    ]


SUITES: Suites = {
    Burgers: _burgers,
}
