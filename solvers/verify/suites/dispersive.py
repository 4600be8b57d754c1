"""Dispersive waves: Korteweg-de Vries, Schroedinger, Gross-Pitaevskii."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from sciml.domains import Grid
from sciml.pdes.base import PDE
from sciml.pdes.korteweg_de_vries import KortewegDeVries
from sciml.pdes.schroedinger import GrossPitaevskii, Schroedinger
from sciml.solvers.build import build
from sciml.solvers.split_step import ground_state, split_step
from sciml.solvers.time.splitting import STRANG, YOSHIDA4
from sciml.solvers.verify.certificate import Check, Suites, at_least, at_most
from sciml.solvers.verify.measure import (
    box,
    exact_error,
    observed_order,
    points,
    random_states,
    rate_error,
    relative_error,
)
from sciml.step import Step


def _drifts(
    pde: PDE, step: Step, grid: Grid, u: Tensor, levels: dict[str, float], setting: str
) -> list[Check]:
    """Relative change of each invariant over a step; absolute for one that is zero."""
    with torch.no_grad():
        first, last = pde.invariants(u, grid), pde.invariants(step(u), grid)
    checks = []
    for name, level in levels.items():
        size = torch.where(first[name].abs() > 1e-12, first[name].abs(), torch.ones_like(first[name]))
        checks.append(
            at_most(f"drift of {name}", ((last[name] - first[name]).abs() / size).max(), level, setting)
        )
    return checks


def _translation(step: Step, grid: Grid, u: Tensor, setting: str) -> Check:
    """Whether a shift by whole cells goes through the step."""
    shift, axes = tuple(n // 3 for n in grid.shape), tuple(range(2, u.ndim))
    with torch.no_grad():
        new = step(u)
        there = step(u.roll(shift, axes)).roll(tuple(-s for s in shift), axes)
    # Transforms of shifted data round otherwise, and again in every substep.
    return at_most(
        "translation by whole cells", (there - new).abs().max() / new.abs().max(), 1e-11, setting
    )


def two_solitons(x: Tensor, t: float) -> Tensor:
    """Solitons of speeds 4 and 1 along u_t + 6 u u_x + u_xxx = 0, the faster one behind until t = 10/3.

    u = 2 (log tau)_xx with tau a sum of exponentials of linear functions: the variance of their slopes.
    Hirota, Physical Review Letters 27 (1971) 1192-1194.
    """
    phases = [torch.zeros_like(x), 2 * (x + 10) - 8 * t, x - t]
    phases.append(phases[1] + phases[2] + 2 * math.log((2 - 1) / (2 + 1)))
    weights = torch.softmax(torch.stack(phases, dim=-1), dim=-1)
    slopes = x.new_tensor([0.0, 2.0, 1.0, 3.0])
    return 2 * ((weights * slopes**2).sum(-1) - (weights * slopes).sum(-1).square())


def _korteweg_de_vries(cls: type[KortewegDeVries]) -> list[Check]:
    pde = cls()
    grid = box(pde, 256, 1)
    times = [exact_error(pde, build(pde, grid, 1.0, substeps=n), grid, 1) for n in (250, 500)]
    space = []
    for n in (96, 192):
        coarse = box(pde, n, 1)
        space.append(exact_error(pde, build(pde, coarse, 0.5, substeps=250), coarse, 1))
    other = cls(convection=1.0, dispersion=0.5)
    checks = [
        at_most(
            "error against a soliton", times[0], 3e-6, "speed 4, L = 40, 256 points, substep 0.004, t = 1"
        ),
        at_least("order in time against a soliton", observed_order(times), 3.8, "substeps 0.004 to 0.002"),
        at_least("order in space against a soliton", observed_order(space), 8.0, "96 to 192 points"),
        at_most(
            "error in the form u u_x",
            exact_error(other, build(other, grid, 1.0, substeps=250), grid, 1),
            1e-6,
            "alpha = 1, beta = 1/2, 256 points, substep 0.004, t = 1",
        ),
    ]
    line = Grid((384,), (60.0,), origin=-25.0)
    x = points(line)
    with torch.no_grad():
        met = build(pde, line, 7.0, substeps=700)(two_solitons(x, 0.0))
    checks.append(
        at_most(
            "error after two solitons have met",
            relative_error(met, two_solitons(x, 7.0)).max(),
            2e-3,
            "speeds 4 and 1, L = 60, 384 points, substep 0.01, t = 7",
        )
    )
    for dimension, n, level in ((2, 48, 1e-6), (3, 24, 1e-5)):
        cube = box(pde, n, dimension)
        error = exact_error(pde, build(pde, cube, 0.2, substeps=40), cube, 1)
        checks.append(
            at_most(f"error in {dimension}D", error, level, f"oblique crests, {n}^{dimension}, t = 0.2")
        )
    damped = cls(hyperdiffusion=0.125)
    plane = Grid((32, 32), (2 * math.pi,) * 2)
    s = points(plane)[:, :1] + 2 * points(plane)[:, 1:]
    rate = 5 * torch.cos(s) - 0.125 * 25 * torch.sin(s) - 3 * torch.sin(2 * s)
    checks.append(
        at_most(
            "initial rate of an oblique sine",
            rate_error(damped, plane, torch.sin(s), rate, h=1e-4),
            1e-5,
            "gamma = 1/8, 32^2",
        )
    )
    step = build(pde, grid, 1.0, substeps=800)
    start = pde.exact(points(grid), 0.0)
    levels = {"mass": 1e-12, "momentum": 1e-8, "energy": 1e-8}
    checks += _drifts(pde, step, grid, start, levels, "a soliton, 256 points, substep 0.00125, t = 1")
    short = build(pde, grid, 0.1, substeps=10)
    return [
        *checks,
        _translation(short, grid, random_states(grid, 1), "256 points, random states, t = 0.1"),
    ]


def _split_orders(
    pde: Schroedinger | GrossPitaevskii,
    error: Callable[[Step], float],
    grid: Grid,
    t: float,
    counts: tuple[int, int],
) -> list[Check]:
    """Orders of the split-step methods, given the error of a Step."""
    checks = []
    for scheme, level in ((STRANG, 1.98), (YOSHIDA4, 3.8)):
        errors = [error(split_step(pde, grid, t, scheme=scheme, substeps=n)) for n in counts]
        setting = f"{grid.shape[0]} points, t = {t:g}, {counts[0]} to {counts[1]} substeps"
        checks.append(
            at_least(f"order in time, {scheme.name} split-step", observed_order(errors), level, setting)
        )
    return checks


def _schroedinger(cls: type[Schroedinger]) -> list[Check]:
    pde = cls()
    grid = box(pde, 384, 1)
    times = [exact_error(pde, build(pde, grid, 2.0, substeps=n), grid, 1) for n in (40, 80)]
    space = []
    for n in (96, 192):
        coarse = box(pde, n, 1)
        space.append(exact_error(pde, build(pde, coarse, 1.0, substeps=80), coarse, 1))
    checks = [
        at_most("error against a soliton", times[-1], 2e-7, "L = 40, 384 points, substep 0.025, t = 2"),
        at_least("order in time against a soliton", observed_order(times), 3.8, "substeps 0.05 to 0.025"),
        at_least("order in space against a soliton", observed_order(space), 5.0, "96 to 192 points"),
    ]
    waves = cls(dispersion=1.0, nonlinearity=-2.0)
    for dimension, n in ((1, 32), (2, 32), (3, 16)):
        cube = box(waves, n, dimension)
        error = exact_error(waves, build(waves, cube, 0.5, substeps=40), cube, 1)
        checks.append(
            at_most(
                f"error against a plane wave in {dimension}D",
                error,
                1e-8,
                f"a = 1, b = -2, {n}^{dimension}, t = 0.5",
            )
        )
    for dimension, n, level in ((2, 48, 1e-6), (3, 24, 2e-4)):
        cube = box(pde, n, dimension)
        error = exact_error(pde, build(pde, cube, 0.5, substeps=20), cube, 1)
        checks.append(
            at_most(
                f"error against crests in {dimension}D", error, level, f"oblique, {n}^{dimension}, t = 0.5"
            )
        )
    line = Grid((32,), (2 * math.pi,))
    x = points(line)
    state = torch.cat([torch.cos(x), torch.zeros_like(x)], dim=1)
    rate = -0.5 * torch.cos(x) + 0.75 * torch.cos(x) + 0.25 * torch.cos(3 * x)
    by_hand = rate_error(pde, line, state, torch.cat([torch.zeros_like(x), rate], dim=1))
    checks.append(at_most("initial rate of a cosine", by_hand, 1e-5, "32 points"))
    checks += _split_orders(pde, lambda step: exact_error(pde, step, grid, 1), grid, 4.0, (80, 160))
    plane = Grid((64, 64), (2 * math.pi,) * 2)
    u = random_states(plane, 2, 1)
    repelled = cls(nonlinearity=-1.0)
    solver = build(repelled, plane, 0.5, substeps=80)
    with torch.no_grad():
        one, two = solver(u), split_step(repelled, plane, 0.5, substeps=80)(u)
    levels = {"mass": 1e-9, "energy": 1e-8, "momentum_x": 1e-8, "momentum_y": 1e-8}
    return [
        *checks,
        at_most(
            "difference to Yoshida's split-step",
            relative_error(one, two).max(),
            1e-6,
            "random states, 64^2, t = 0.5",
        ),
        *_drifts(
            pde,
            build(pde, grid, 2.0, substeps=80),
            grid,
            pde.exact(points(grid), 0.0),
            {"mass": 1e-8, "energy": 1e-7, "momentum_x": 1e-7},
            "a soliton, substep 0.025, t = 2",
        ),
        *_drifts(repelled, solver, plane, u, levels, "random states, 64^2, t = 0.5"),
        _translation(solver, plane, u, "random states, 64^2, t = 0.5"),
    ]


def coherent_state(x: Tensor, t: float, frequency: float, start: float) -> Tensor:
    """A free packet that swings along every axis of a round trap centred at 0, (1, 2, *points).

    Its centre is X = start cos(w t), its momentum P = X', in each factor
    (w/pi)^(1/4) exp(-w (x - X)^2/2 + i (P x - X P/2 - w t/2)). Schroedinger (1926).
    """
    w, dimension = frequency, x.shape[1]
    centre, momentum = start * math.cos(w * t), -w * start * math.sin(w * t)
    size = (w / math.pi) ** (dimension / 4) * torch.exp(
        -0.5 * w * (x - centre).square().sum(1, keepdim=True)
    )
    phase = momentum * x.sum(1, keepdim=True) - dimension * (0.5 * centre * momentum + 0.5 * w * t)
    return torch.cat([size * torch.cos(phase), size * torch.sin(phase)], dim=1)


def _gross_pitaevskii(cls: type[GrossPitaevskii]) -> list[Check]:
    free = cls(frequency=1.0, interaction=0.0)

    def swing(step: Step) -> float:
        assert isinstance(step.domain, Grid)
        x = points(step.domain)
        with torch.no_grad():
            u = step(coherent_state(x, 0.0, 1.0, 1.0))
        return float(relative_error(u, coherent_state(x, step.dt, 1.0, 1.0)).max())

    checks = []
    line = Grid((128,), (20.0,), origin=-10.0)
    times = [swing(build(free, line, 2.0, substeps=n)) for n in (100, 200)]
    checks += [
        at_most(
            "error against a coherent state in 1D",
            times[-1],
            1e-6,
            "g = 0, 128 points, substep 0.01, t = 2",
        ),
        at_least(
            "order in time against a coherent state", observed_order(times), 3.7, "substeps 0.02 to 0.01"
        ),
    ]
    for dimension, n, side, t, level in ((2, 64, 14.0, 0.5, 1e-6), (3, 32, 10.0, 0.1, 1e-3)):
        cube = Grid((n,) * dimension, (side,) * dimension, origin=-side / 2)
        error = swing(build(free, cube, t))
        checks.append(
            at_most(
                f"error against a coherent state in {dimension}D",
                error,
                level,
                f"g = 0, {n}^{dimension}, t = {t:g}",
            )
        )
    checks += _split_orders(free, swing, line, 2.0, (40, 80))

    plane = Grid((64, 64), (14.0, 14.0), origin=-7.0)
    x = points(plane)
    tilted = cls(frequency=(1.0, 1.3), interaction=5.0)
    cloud = ground_state(replace(tilted, centre=(0.8, -0.5)), plane, tolerance=1e-9)
    solver = build(tilted, plane, 1.0)
    with torch.no_grad():
        later, split = solver(cloud), split_step(tilted, plane, 1.0, substeps=60)(cloud)
    mass = later.square().sum()
    found = [float((later.square() * x[:, i : i + 1]).sum() / mass) for i in (0, 1)]
    exact = [0.8 * math.cos(1.0), -0.5 * math.cos(1.3)]
    checks += [
        at_most(
            "centre of a displaced cloud",
            max(abs(a - b) for a, b in zip(found, exact, strict=True)),
            1e-6,
            "w = 1, 1.3, g = 5, 64^2, t = 1",
        ),
        at_most("difference to Yoshida's split-step", relative_error(later, split).max(), 1e-4, "the same"),
    ]
    # The mean square radius swings about E/w^2 at 2 w: two values a quarter of the trap's period apart.
    round_trap = cls(frequency=1.2, interaction=5.0)
    state = coherent_state(0.8 * x, 0.3, 1.2, 0.6)
    with torch.no_grad():
        solver = build(round_trap, plane, math.pi / 2 / 1.2)
        after = solver(state)
        squares = [
            (v.square() * x.square().sum(1, keepdim=True)).sum() * plane.volume / 64**2
            for v in (state, after)
        ]
        energy = round_trap.invariants(state, plane)["energy"]
        law = (1.2**2 * (squares[0] + squares[1]) / (2 * energy) - 1).abs().max()
    checks.append(at_most("breathing at twice the trap's frequency", law, 1e-6, "w = 1.2, g = 5, 64^2"))
    # A cloud that breathes, as one that swings as a whole keeps its interaction energy whatever g.
    kept = {"mass": 1e-8, "energy": 1e-7}
    return checks + _drifts(round_trap, solver, plane, state, kept, "the breathing cloud")


SUITES: Suites = {
    KortewegDeVries: _korteweg_de_vries,
    Schroedinger: _schroedinger,
    GrossPitaevskii: _gross_pitaevskii,
}
