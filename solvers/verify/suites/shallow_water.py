"""Shallow water over beds, with shores that move."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from sciml.calculus import Spectral
from sciml.domains import Grid, Inflow
from sciml.pdes import ShallowWater
from sciml.solvers.finite_volume.shallow_water import shallow_water
from sciml.solvers.finite_volume.shallow_water_exact import (
    dam_break,
    paraboloid_oscillation,
    planar_oscillation,
    transcritical_flow,
)
from sciml.solvers.verify.certificate import Check, Suites, at_least, at_most
from sciml.solvers.verify.measure import (
    box,
    observed_order,
    random_states,
    rate_error,
    structure,
)


def averages(function: Callable[[Tensor], Tensor], grid: Grid, nodes: int = 4) -> Tensor:
    """Means over the cells of a function of points (1, D, *cells) -> (1, C, *cells), by Gauss's rule."""
    places, weights = np.polynomial.legendre.leggauss(nodes)
    x = grid.coordinates().unsqueeze(0)
    total: Tensor | None = None
    for index in itertools.product(range(nodes), repeat=grid.dimension):
        shift = torch.tensor(
            [0.5 * h * places[i] for i, h in zip(index, grid.spacing, strict=True)], dtype=torch.float64
        )
        weight = math.prod(0.5 * weights[i] for i in index)
        value = weight * function(x + shift.reshape(1, -1, *[1] * grid.dimension))
        total = value if total is None else total + value
    assert total is not None
    return total


def _wave_error(pde: ShallowWater, n: int, dimension: int, time: float, **scheme: object) -> float:
    grid = box(pde, n, dimension, centering="cell")
    start, end = (averages(lambda x, t=t: pde.exact(x, t), grid) for t in (0.0, time))  # type: ignore[misc]
    with torch.no_grad():
        u = shallow_water(pde, grid, time, **scheme)(start)  # type: ignore[arg-type]
    return float((u - end)[:, 0].abs().mean())


def _dam_break(cls: type[ShallowWater]) -> list[Check]:
    checks = []
    for name, right, time, level in (("wet", 1.0, 2.0, 3.3e-3), ("dry", 0.0, 1.5, 3e-3)):
        errors = []
        for n in (100, 200):
            grid = Grid((n,), (10.0,), boundary="outflow", origin=-5.0, centering="cell")
            x = grid.axes()[0]
            start, end = (dam_break((2.0, 0.0), (right, 0.0), x / t, 1.0)[None] for t in (1e-12, time))
            with torch.no_grad():
                u = shallow_water(cls(gravity=1.0), grid, time)(start)
            errors.append(float((u - end)[:, 0].abs().mean()))
        setting = f"depths 2 and {right:g}, t = {time:g}"
        checks += [
            at_most(
                f"L1 error of the depth of a dam break, {name}", errors[1], level, f"200 cells, {setting}"
            ),
            at_least(f"order of it, {name}", observed_order(errors), 0.85, f"100 to 200 cells, {setting}"),
        ]
    return checks


def _rest(cls: type[ShallowWater], dimension: int, steps: int) -> Check:
    shape = (60,) if dimension == 1 else (20, 16)
    grid = Grid(shape, (1.0,) * dimension, boundary="wall", centering="cell")
    generator = torch.Generator().manual_seed(0)
    bed = 1.4 * torch.rand(2, 1, *shape, generator=generator, dtype=torch.float64)
    depth = (1.0 - bed).clamp(min=0.0)
    u = torch.cat((depth, torch.zeros(2, dimension, *shape, dtype=torch.float64)), dim=1)
    step = shallow_water(cls(bed=bed), grid, 0.1)
    v, substeps = u, 0
    with torch.no_grad():
        while substeps < steps:
            v = step(v)
            substeps += step.last_substeps
    return at_most(
        f"motion of a lake at rest, {dimension}D",
        (v - u).abs().max(),
        1e-13,
        f"{'x'.join(map(str, shape))}, {substeps} substeps, random bed with islands",
    )


def _lakes(cls: type[ShallowWater]) -> list[Check]:
    checks, errors, lowest, gained = [], [], 0.0, 0.0
    for n in (100, 200):
        grid = Grid((n,), (4.0,), boundary="wall", origin=-2.0, centering="cell")
        x, period = grid.coordinates(), 2 * math.pi / math.sqrt(2 * 9.81 * 0.5)
        u, bed = planar_oscillation(x, 0.0)
        with torch.no_grad():
            v = shallow_water(cls(bed=bed[None]), grid, period)(u[None])[0]
        end = planar_oscillation(x, period)[0]
        errors.append(float((v - end)[0].abs().mean() / end[0].mean()))
        lowest = min(lowest, float(v[0].min()))
        gained = max(gained, float(((v - u)[0].sum() / u[0].sum()).abs()))
    setting = "one period of Thacker's lake with a plane surface"
    checks += [
        at_most("L1 error of a swinging lake", errors[1], 4e-3, f"200 cells, {setting}"),
        at_least("order of it", observed_order(errors), 1.2, f"100 to 200 cells, {setting}"),
        at_least("lowest depth beside its shores", lowest, 0.0, f"100 and 200 cells, {setting}"),
        at_most("gain of its water", gained, 1e-12, f"100 and 200 cells, {setting}"),
    ]
    errors = []
    for n in (32, 64):
        plane = Grid((n, n), (4.0, 4.0), boundary="wall", origin=-2.0, centering="cell")
        x, period = plane.coordinates(), 2 * math.pi / math.sqrt(8 * 9.81 * 0.1)
        u, bed = paraboloid_oscillation(x, 0.0)
        with torch.no_grad():
            v = shallow_water(cls(bed=bed[None]), plane, period)(u[None])[0]
        errors.append(float((v - paraboloid_oscillation(x, period)[0])[0].abs().mean() / u[0].mean()))
    setting = "one period of Thacker's lake with a curved surface"
    return [
        *checks,
        at_most("L1 error of a rising and falling lake", errors[1], 5e-2, f"64x64, {setting}"),
        at_least("order of it, 2D", observed_order(errors), 1.0, f"32x32 to 64x64, {setting}"),
    ]


def _steady(cls: type[ShallowWater]) -> list[Check]:
    discharge, errors = 1.53, []
    for n in (40, 80):
        grid = Grid((n,), (25.0,), boundary=(("inflow", "outflow"),), centering="cell")
        fine = grid.resized((40 * n,)).axes()[0]
        hill = (0.2 - 0.05 * (fine - 10.0).square()).clamp(min=0.0)
        depth, bed = transcritical_flow(hill, discharge).reshape(n, 40).mean(1), hill.reshape(n, 40).mean(1)
        u = torch.stack((depth, torch.full_like(depth, discharge)))[None]
        entering = {"x-": Inflow((float(depth[0]), discharge))}
        with torch.no_grad():
            v = shallow_water(cls(bed=bed[None, None]), grid, 15.0, conditions=entering)(u)
        errors.append(float((v - u)[0, 0].abs().mean()))
    setting = "25 m with a bump of 0.2 m, 1.53 m^2/s, t = 15"
    return [
        at_most("L1 drift of a transcritical flow [m]", errors[1], 9e-4, f"80 cells, {setting}"),
        at_least("order of it", observed_order(errors), 1.7, f"40 to 80 cells, {setting}"),
    ]


def _as_stated(cls: type[ShallowWater]) -> list[Check]:
    """The solver's first motion against the right-hand side that the equation states, bed and friction included."""
    checks = []
    for dimension, n, level in ((1, 128, 0.03), (2, 48, 0.08)):
        grid = Grid((n,) * dimension, (1.0,) * dimension, centering="cell")
        waves = random_states(grid, dimension + 2, samples=2)
        bed = 0.2 * waves[:, -1:]
        u = torch.cat((1.0 + 0.1 * waves[:, :1], 0.3 * waves[:, 1 : 1 + dimension]), dim=1)
        pde = cls(bed=bed, friction=0.5, manning=0.2)
        rate = pde.rhs(u, Spectral(grid))
        error = rate_error(pde, grid, u, rate, h=1e-4)
        checks.append(
            at_most(
                f"first motion against the equation as stated, {dimension}D",
                error,
                level,
                f"{'x'.join(map(str, grid.shape))}, random bed, flow and friction",
            )
        )
    return checks


def _friction(cls: type[ShallowWater]) -> Check:
    """A uniform flow over a flat bed, q_t = -(k + r |q|) q."""
    grid = Grid((8,), (1.0,), centering="cell")
    depth, flow, time = 0.3, 0.5, 2.0
    pde = cls(friction=0.4, manning=0.03)
    u = torch.tensor([depth, -flow], dtype=torch.float64).reshape(1, 2, 1).expand(1, 2, 8)
    with torch.no_grad():
        v = shallow_water(pde, grid, time)(u)
    r = 9.81 * 0.03**2 / depth ** (7 / 3)
    decay = math.exp(-0.4 * time)
    exact = -flow * decay / (1 + r * flow * (1 - decay) / 0.4)
    return at_most("error of friction", (v[:, 1] - exact).abs().max(), 1e-13, "uniform flow, k 0.4, n 0.03")


def _shallow_water(cls: type[ShallowWater]) -> list[Check]:
    pde = cls()
    linear = [_wave_error(pde, n, 1, 1.0) for n in (32, 64)]
    planes = [_wave_error(pde, n, 2, 0.5) for n in (24, 48)]
    # Steps short enough for the error in space to show.
    steep = [
        _wave_error(pde, n, 1, 1.0, reconstruction="weno5", cfl=0.4 * (16 / n) ** (2 / 3)) for n in (32, 64)
    ]
    plane = box(pde, 24, 2, centering="cell")
    random = random_states(plane, 3)
    flow = torch.cat((1 + 0.2 * random[:, :1], 0.3 * random[:, 1:]), dim=1)
    return [
        at_least("order in space on a simple wave, 1D", observed_order(linear), 1.8, "32 to 64 cells, L1"),
        at_least(
            "order in space on a simple wave, 2D", observed_order(planes), 1.8, "24 to 48 squared, L1"
        ),
        at_least("order of WENO5 on a simple wave", observed_order(steep), 4.4, "32 to 64 cells, L1"),
        *_as_stated(cls),
        _rest(cls, 1, 500),
        _rest(cls, 2, 200),
        *_dam_break(cls),
        *_lakes(cls),
        *_steady(cls),
        _friction(cls),
        *structure(pde, plane, 0.1, 10, flow),
    ]


SUITES: Suites = {
    ShallowWater: _shallow_water,
}
