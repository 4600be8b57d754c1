"""Linear equations: advection, diffusion and both."""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib.util import find_spec

from sciml.pdes import (
    Advection,
    AdvectionDiffusion,
    Heat,
)
from sciml.pdes.base import PDE, HasExact
from sciml.solvers.build import build
from sciml.solvers.verify.certificate import Check, Suites, at_least, at_most
from sciml.solvers.verify.measure import (
    box,
    exact_error,
    observed_order,
    random_states,
    structure,
)


def linear_checks(make: Callable[[int], PDE], names: str) -> list[Check]:
    """Equations that Fourier space solves exactly."""
    checks = []
    for dimension, n in ((1, 64), (2, 32), (3, 16)):
        pde = make(dimension)
        assert isinstance(pde, HasExact)
        grid = box(pde, n, dimension)
        error = exact_error(pde, build(pde, grid, 0.3), grid, 10)
        checks.append(
            at_most(f"error in {dimension}D", error, 1e-12, f"{names}, {n}^{dimension} periodic, t = 3")
        )
    pde = make(2)
    grid = box(pde, 32, 2)
    return checks + structure(pde, grid, 0.1, 50, random_states(grid, 1))


def _advection(cls: type[Advection]) -> list[Check]:
    return linear_checks(lambda d: cls(velocity=(1.0, -0.5, 0.3)[:d]), "Fourier modes")


def _advection_diffusion(cls: type[AdvectionDiffusion]) -> list[Check]:
    return linear_checks(
        lambda d: cls(velocity=(1.0, -0.5, 0.3)[:d], diffusivity=0.05), "decaying Fourier modes"
    )


def _heat(cls: type[Heat]) -> list[Check]:
    checks = linear_checks(lambda d: cls(diffusivity=0.1), "decaying Fourier modes")
    pde = cls(diffusivity=0.1)
    for order, level in ((2, 1.9), (4, 3.7)):
        errors = []
        for n in (17, 33):
            grid = box(pde, n, 2, boundary="neumann")
            errors.append(exact_error(pde, build(pde, grid, 0.25, order=order), grid, 2))
        checks.append(
            at_least(
                f"order in space, differences of order {order}",
                observed_order(errors),
                level,
                "17^2 to 33^2, Neumann sides, t = 0.5",
            )
        )
    return checks + _elements(pde)


def _elements(pde: PDE) -> list[Check]:
    """Order in space of finite elements, where scikit-fem is installed."""
    if find_spec("skfem") is None:
        return []
    from sciml.solvers.finite_element import rectangle

    assert isinstance(pde, HasExact)
    errors, sizes = [], []
    for spacing in (0.5, 0.25):
        mesh = rectangle(pde.exact_lengths(2), spacing)  # type: ignore[arg-type]
        x = mesh.coordinates().unsqueeze(0)
        # Substeps of 0.02: an error in time far below that of the mesh.
        u = build(pde, mesh, 0.5, substeps=25)(pde.exact(x, 0.0).contiguous())
        weights = mesh.weights()
        errors.append(float(((u - pde.exact(x, 0.5)).square() * weights).sum().sqrt()))
        sizes.append(len(mesh.points) ** -0.5)
    order = math.log(errors[0] / errors[1]) / math.log(sizes[0] / sizes[1])
    return [at_least("order in space, finite elements", order, 1.8, "triangles of 0.5 to 0.25, t = 0.5")]


SUITES: Suites = {
    Advection: _advection,
    Heat: _heat,
    AdvectionDiffusion: _advection_diffusion,
}
