"""Linear equations of one unknown: transport, diffusion, dispersion, any mixture."""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib.util import find_spec

import torch

from sciml.calculus import FiniteDifference
from sciml.pdes import (
    Advection,
    AdvectionDiffusion,
    AnisotropicDiffusion,
    Dispersion,
    Heat,
    HyperDiffusion,
    LinearEquation,
)
from sciml.pdes.base import PDE, HasExact
from sciml.solvers.build import MethodOfLines, Solver, build
from sciml.solvers.time import RK4
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


def multiplications(solver: Solver) -> float:
    """Multiplications by the propagator in one step; infinite where time is not treated exactly."""
    if not getattr(solver.step, "linear", False) or solver.substeps is None:
        return math.inf
    return float(solver.substeps)


def linear_checks(make: Callable[[int], PDE], names: str) -> list[Check]:
    """Equations that Fourier space solves exactly."""
    checks, most = [], 0.0
    for dimension, n in ((1, 64), (2, 32), (3, 16)):
        pde = make(dimension)
        assert isinstance(pde, HasExact)
        grid = box(pde, n, dimension)
        solver = build(pde, grid, 0.3)
        most = max(most, multiplications(solver))
        error = exact_error(pde, solver, grid, 10)
        checks.append(
            at_most(f"error in {dimension}D", error, 1e-12, f"{names}, {n}^{dimension} periodic, t = 3")
        )
    checks.append(at_most("multiplications per step", most, 1.0, "1D to 3D, steps of 0.3"))
    pde = make(2)
    grid = box(pde, 32, 2)
    states = random_states(grid, len(pde.channels(2)))
    return checks + structure(pde, grid, 0.1, 50, states)


def differences(pde: PDE, dimension: int, sizes: tuple[int, int], dt: float, substeps: int) -> Check:
    """Order in space of periodic finite differences with Runge-Kutta steps, which share nothing with Fourier."""
    errors = []
    for n in sizes:
        grid = box(pde, n, dimension)
        lines = MethodOfLines(pde, grid, dt, FiniteDifference(grid, 4), RK4, substeps)
        errors.append(exact_error(pde, lines, grid, 1))
    return at_least(
        "order in space, differences of order 4",
        observed_order(errors),
        3.7,
        f"{sizes[0]}^{dimension} to {sizes[1]}^{dimension} periodic, t = {dt:g}",
    )


def _linear_equation(cls: type[LinearEquation]) -> list[Check]:
    def make(dimension: int) -> LinearEquation:
        # Another number for every order and axis, so that none can stand in for another.
        rows = ((-1.0, 0.5, 0.3), (0.05, 0.02, 0.03), (0.02, -0.01, 0.03), (-0.002, -0.003, -0.001))
        return cls((-0.1, *(row[:dimension] for row in rows)))

    pde, grid = cls((0.2, 0.3, 0.1, -0.05, -0.02)), box(cls(), 32, 1)
    x = points(grid)
    # sin 2x has the derivatives 2 cos, -4 sin, -8 cos, 16 sin.
    rate = (0.2 - 0.4 - 0.32) * torch.sin(2 * x) + (0.6 + 0.4) * torch.cos(2 * x)
    kept = box(cls(), 32, 2)
    odd = cls((0.0, (1.0, 0.5), 0.0, (0.02, -0.03)))
    return [
        *linear_checks(make, "modes of orders 0 to 4"),
        at_most("initial rate of a sine", rate_error(pde, grid, torch.sin(2 * x), rate), 1e-6, "32 points"),
        differences(make(1), 1, (32, 64), 0.1, 50),
        *structure(odd, kept, 0.1, 50, random_states(kept, 1)),
    ]


def _dispersion(cls: type[Dispersion]) -> list[Check]:
    return [
        *linear_checks(lambda d: cls((0.1, -0.05, 0.2)[:d]), "travelling Fourier modes"),
        differences(cls((0.1, -0.05)), 2, (24, 48), 0.1, 50),
    ]


def _hyper_diffusion(cls: type[HyperDiffusion]) -> list[Check]:
    return [
        *linear_checks(lambda d: cls(0.01), "decaying Fourier modes"),
        differences(cls(0.01), 2, (24, 48), 0.1, 300),
    ]


_TENSOR = ((0.1, 0.05, 0.01), (0.05, 0.2, -0.03), (0.01, -0.03, 0.15))


def _anisotropic_diffusion(cls: type[AnisotropicDiffusion]) -> list[Check]:
    def full(dimension: int) -> AnisotropicDiffusion:
        return cls(tuple(row[:dimension] for row in _TENSOR[:dimension]))

    pde = full(2)
    grid = box(pde, 32, 2)
    x, y = points(grid).split(1, dim=1)
    # cos x sin 2y: u_xx = -u, u_yy = -4 u, u_xy = -2 sin x cos 2y.
    rate = -(0.1 + 4 * 0.2) * torch.cos(x) * torch.sin(2 * y) - 0.2 * torch.sin(x) * torch.cos(2 * y)
    u = torch.cos(x) * torch.sin(2 * y)
    diagonal = cls((0.1, 0.05, 0.2))
    cube = box(diagonal, 16, 3)
    return [
        *linear_checks(full, "decaying Fourier modes, full tensor"),
        at_most(
            "error, diagonal tensor",
            exact_error(diagonal, build(diagonal, cube, 0.3), cube, 10),
            1e-12,
            "decaying Fourier modes, 16^3 periodic, t = 3",
        ),
        at_most("initial rate of two waves", rate_error(pde, grid, u, rate), 1e-6, "32^2"),
        differences(pde, 2, (24, 48), 0.5, 100),
    ]


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
    series, content = 0.0, 0.0
    for dimension, n in ((1, 33), (2, 17), (3, 9)):
        grid = box(pde, n, dimension, boundary="neumann")
        solver = build(pde, grid, 0.3, basis="trigonometric")
        series = max(series, exact_error(pde, solver, grid, 10))
        u = random_states(grid, 1)
        drift = pde.invariants(solver(u), grid)["content"] - pde.invariants(u, grid)["content"]
        content = max(content, float(drift.abs().max()) / grid.volume)
    setting = "33, 17^2 and 9^3 nodes, Neumann sides, t = 3"
    checks.append(at_most("error of cosine series", series, 1e-12, setting))
    checks.append(at_most("drift of content, cosine series", content, 1e-12, "the same, one step of 0.3"))
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
    AnisotropicDiffusion: _anisotropic_diffusion,
    LinearEquation: _linear_equation,
    Dispersion: _dispersion,
    HyperDiffusion: _hyper_diffusion,
}
