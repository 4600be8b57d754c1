"""Reaction and diffusion, and phase fields."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from scipy.integrate import solve_ivp
from scipy.linalg import expm
from torch import Tensor

from sciml.calculus import Spectral
from sciml.domains import Grid
from sciml.pdes import (
    AllenCahn,
    BelousovZhabotinsky,
    CahnHilliard,
    FisherKPP,
    FitzHughNagumo,
    GrayScott,
    SwiftHohenberg,
)
from sciml.pdes.base import PDE
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
    time_order,
)
from sciml.step import rollout

# Another length along every axis, so that a mixed-up one shows.
_SIDES = (3.0, 4.0, 5.0)
# Where the nonlinear part reaches stiff modes, ETDRK4 loses up to one order until the step resolves them
# (Hochbruck and Ostermann, SIAM J. Numer. Anal. 43 (2005) 1069-1090).
_STIFF = "ETDRK4 with stiff modes"

Reaction = Callable[[Any], Sequence[Any]]
"""Rates of the reaction alone, written down a second time: channels -> rates, of numbers or of tensors."""


def _kinetics(pde: PDE, reaction: Reaction, states: Sequence[Sequence[float]], t: float) -> Check:
    """Constant states follow an ordinary differential equation."""
    grid = Grid((8,), (1.0,))
    u = torch.tensor(states, dtype=torch.float64)
    with torch.no_grad():
        found = build(pde, grid, t, substeps=math.ceil(200 * t))(
            u.unsqueeze(2).expand(-1, -1, 8).contiguous()
        )
    worst = 0.0
    for start, end in zip(u, found, strict=True):
        known = solve_ivp(
            lambda _, y: np.array(reaction(y)),
            (0.0, t),
            start.numpy(),
            method="DOP853",
            rtol=1e-12,
            atol=1e-14,
        ).y[:, -1]
        worst = max(worst, float(np.abs(end.numpy() - known[:, None]).max() / np.abs(known).max()))
    return at_most(
        "constant states against solve_ivp", worst, 1e-9, f"{len(states)} states, t = {t:g}, substep 0.005"
    )


def _growth(
    pde: PDE, steady: Sequence[float], matrix: Callable[[float], Any], t: float, sides: Sequence[float]
) -> Check:
    """A small wave on a steady state follows the linearised equation, in 3D.

    `matrix` gives its rates (C, C) at a square wavenumber.
    """
    grid = Grid((12, 14, 16), tuple(sides))
    numbers = (1, 2, 1)
    x = points(grid)
    k = [2 * math.pi * n / side for n, side in zip(numbers, sides, strict=True)]
    wave = torch.cos(sum(k[i] * x[:, i : i + 1] for i in range(3)))  # type: ignore[arg-type]
    start = 1e-7 * torch.linspace(1.0, -0.5, len(steady), dtype=torch.float64)
    base = torch.tensor(steady, dtype=torch.float64).reshape(1, -1, 1, 1, 1)
    with torch.no_grad():
        u = build(pde, grid, t, substeps=math.ceil(100 * t))(base + start.reshape(1, -1, 1, 1, 1) * wave)
    propagator = torch.from_numpy(expm(t * np.atleast_2d(matrix(sum(v * v for v in k)))))
    known = (propagator @ start).reshape(1, -1, 1, 1, 1) * wave
    # 1e-7 of the wave is beyond the linear theory, and its last digits are lost beside the steady state.
    error = (u - base - known).norm() / known.norm()
    return at_most("growth of a small wave in 3D", error, 5e-6, f"amplitude 1e-7, t = {t:g}, substep 0.01")


def _rate(pde: PDE, reaction: Reaction, diffusivities: Sequence[float], middle: float) -> Check:
    """Initial rate of a product of sines in 3D: their Laplacians are known, the reaction is point-wise."""
    grid = Grid((16, 18, 20), _SIDES)
    x = points(grid)
    k = [2 * math.pi / side for side in _SIDES]
    wave = torch.ones_like(x[:, :1])
    for i in range(3):
        wave = wave * torch.sin(k[i] * x[:, i : i + 1] + i)
    square = sum(v * v for v in k)
    heights = [0.4 / (1 + c) for c in range(len(diffusivities))]
    u = torch.cat([middle + h * wave for h in heights], dim=1)
    spread = torch.cat([-d * square * h * wave for d, h in zip(diffusivities, heights, strict=True)], dim=1)
    channels = [u[:, c : c + 1] for c in range(u.shape[1])]
    rate = spread + torch.cat([r + torch.zeros_like(wave) for r in reaction(channels)], dim=1)
    return at_most("initial rate of a wave in 3D", rate_error(pde, grid, u, rate), 1e-5, "16 x 18 x 20")


def _explicit(pde: PDE, grid: Grid, u: Tensor, t: float, steps: int, level: float) -> Check:
    """The classical Runge-Kutta method of the whole right-hand side, products and all, without any mask."""
    calc = Spectral(grid)
    step = explicit_rk(lambda v: pde.rhs(v, calc), t / steps, RK4)
    with torch.no_grad():
        found, other = build(pde, grid, t, substeps=math.ceil(steps / 4))(u), u
        for _ in range(steps):
            other = step(other)
    name = "x".join(map(str, grid.shape))
    return at_most(
        "distance to explicit Runge-Kutta",
        relative_error(found, other).max(),
        level,
        f"{name}, t = {t:g}, {steps} steps of RK4",
    )


def _parity(pde: PDE, grid: Grid, dt: float, u: Tensor) -> Check:
    """A step of a state seen in a mirror is the step seen in a mirror."""
    axes = tuple(range(2, u.ndim))

    def mirror(v: Tensor) -> Tensor:
        return v.flip(axes).roll((1,) * len(axes), axes)

    with torch.no_grad():
        step = build(pde, grid, dt)
        there, here = mirror(step(mirror(u))), step(u)
    error = (there - here).abs().max() / here.abs().max()
    return at_most(
        "reflection of all axes", error, 1e-12, f"{'x'.join(map(str, grid.shape))}, random states"
    )


def _falls(pde: Any, grid: Grid, dt: float, steps: int, u: Tensor) -> Check:
    """Largest rise of the energy from one step to the next, of its initial size."""
    with torch.no_grad():
        path = rollout(build(pde, grid, dt), steps)(u)
        energy = torch.stack([pde.energy(path[:, i], grid) for i in range(steps + 1)], dim=1)
    rise = (energy.diff(dim=1) / energy[:, :1].abs()).max()
    setting = f"{'x'.join(map(str, grid.shape))}, {steps} steps of {dt:g}, random states"
    # A certain fall, so that an energy that stands still does not pass.
    fall = ((energy[:, 0] - energy[:, -1]) / energy[:, 0].abs()).min()
    return at_most("rise of the energy", rise if bool(fall > 1e-3) else math.nan, 1e-12, setting)


def _bounds(
    pde: PDE, grid: Grid, dt: float, steps: int, u: Tensor, low: float, high: float, level: float
) -> Check:
    """How far a rollout leaves the interval that the exact solution does not."""
    with torch.no_grad():
        path = rollout(build(pde, grid, dt), steps)(u)
    beyond = torch.maximum(low - path.min(), path.max() - high).clamp(min=0.0)
    setting = f"{'x'.join(map(str, grid.shape))}, t = {dt * steps:g}"
    return at_most(f"excess over the bounds {low:g} and {high:g}", beyond, level, setting)


def _fronts(pde: Any, dt: float, counts: Sequence[int], levels: tuple[float, float]) -> list[Check]:
    """Error of the exact solution in 1D and 2D, and orders in time and space."""
    line = box(pde, 256, 1)
    times = [exact_error(pde, build(pde, line, dt, substeps=n), line, 4) for n in counts]
    space = []
    for n in (64, 96):
        coarse = box(pde, n, 1)
        space.append(exact_error(pde, build(pde, coarse, dt, substeps=2 * counts[0]), coarse, 4))
    plane = box(pde, 96, 2)
    flat = exact_error(pde, build(pde, plane, dt, substeps=counts[0]), plane, 2)
    end = f"t = {4 * dt:g}"
    return [
        at_most(
            "error of two fronts", times[-1], levels[0], f"256 points, substep {dt / counts[-1]:g}, {end}"
        ),
        at_least("order in time of two fronts", observed_order(times), 3.7, f"256 points, {end}"),
        at_least(
            "order in space of two fronts",
            math.log(space[0] / space[1]) / math.log(1.5),
            6.0,
            f"64 to 96 points, {end}",
        ),
        at_most("error of two fronts in 2D", flat, levels[1], f"96^2, t = {2 * dt:g}"),
    ]


def _fisher_kpp(cls: type[FisherKPP]) -> list[Check]:
    pde = cls(diffusivity=0.3, growth=2.0)
    plane = Grid((32, 36), _SIDES[:2])
    u = 0.5 + 0.2 * random_states(plane, 1)
    line = box(pde, 256, 1)
    start = pde.exact(points(line), 0.0)

    def reaction(y: Any) -> Sequence[Any]:
        return (2.0 * y[0] * (1 - y[0]),)

    return [
        *_fronts(pde, 0.25, (4, 8), (2e-8, 1e-3)),
        _kinetics(pde, reaction, [[0.01], [0.5], [1.4]], 2.0),
        _rate(pde, reaction, (0.3,), 0.5),
        _growth(pde, (0.0,), lambda q: 2.0 - 0.3 * q, 0.5, _SIDES),
        _bounds(pde, line, 0.25, 8, start, 0.0, 1.0, 1e-6),
        _explicit(pde, plane, u, 0.2, 400, 1e-8),
        _parity(pde, plane, 0.1, u),
        *structure(pde, plane, 0.1, 10, u),
    ]


def _allen_cahn(cls: type[AllenCahn]) -> list[Check]:
    pde = cls(diffusivity=0.05, reaction=2.0)
    kinks = Grid((256,), pde.kink_lengths(1))
    still = pde.kinks(points(kinks))
    line = Grid((256,), (3.0,))
    fine = Grid((64, 64), _SIDES[:2])
    plane = Grid((48, 48), _SIDES[:2])
    u = 0.5 * random_states(plane, 1)
    with torch.no_grad():
        moved = relative_error(rollout(build(pde, kinks, 0.5), 4)(still)[:, -1], still).max()

    def reaction(y: Any) -> Sequence[Any]:
        return (2.0 * (y[0] - y[0] ** 3),)

    return [
        *_fronts(pde, 0.25, (4, 8), (1e-7, 1e-2)),
        at_most("change of two kinks", moved, 1e-8, "256 points, t = 2"),
        _kinetics(pde, reaction, [[0.01], [-0.5], [1.4]], 2.0),
        _rate(pde, reaction, (0.05,), 0.2),
        _growth(pde, (1.0,), lambda q: -4.0 - 0.05 * q, 0.5, _SIDES),
        _falls(pde, plane, 0.25, 20, u),
        _bounds(pde, line, 0.25, 20, random_states(line, 1), -1.0, 1.0, 1e-6),
        _explicit(pde, fine, 0.5 * random_states(fine, 1), 0.2, 200, 2e-6),
        _parity(pde, plane, 0.1, u),
        *structure(pde, plane, 0.1, 10, u),
    ]


def _cahn_hilliard(cls: type[CahnHilliard]) -> list[Check]:
    pde = cls(mobility=0.02, gradient_energy=0.01)
    kinks = box(pde, 256, 1)
    line = Grid((64,), (2.0,))
    plane = Grid((48, 48), (2.0, 2.0))
    u = 0.5 * random_states(plane, 1)
    # u = m + h s of the product s of sines, by hand: lap(f(u)) = f'(u) lap(u) + f''(u) |grad u|^2.
    solid = Grid((16, 18, 20), _SIDES)
    k = [2 * math.pi / side for side in _SIDES]
    x = points(solid)
    sines = [torch.sin(k[i] * x[:, i : i + 1]) for i in range(3)]
    cosines = [k[i] * torch.cos(k[i] * x[:, i : i + 1]) for i in range(3)]
    square = sum(v * v for v in k)
    wave = 0.4 * sines[0] * sines[1] * sines[2]
    steep = sum((0.4 * cosines[i] * sines[(i + 1) % 3] * sines[(i + 2) % 3]).square() for i in range(3))
    w = 0.2 + wave
    rate = 0.02 * ((3 * w**2 - 1) * (-square * wave) + 6 * w * steep - 0.01 * square**2 * wave)
    return [
        at_most(
            "error of two kinks",
            exact_error(pde, build(pde, kinks, 0.5), kinks, 4),
            1e-8,
            "256 points, t = 2",
        ),
        at_most("initial rate of a wave in 3D", rate_error(pde, solid, w, rate), 1e-5, "16 x 18 x 20"),
        _growth(pde, (0.0,), lambda q: 0.02 * q * (1 - 0.01 * q), 2.0, _SIDES),
        _growth_mean(pde),
        _falls(pde, plane, 0.5, 20, u),
        at_least(
            "order in time",
            time_order(pde, plane, 0.25, (10, 20), u),
            3.0,
            f"48^2, substeps 0.025 to 0.0125, {_STIFF}",
        ),
        _explicit(pde, line, 0.3 * random_states(line, 1), 0.1, 1000, 1e-6),
        _parity(pde, plane, 0.1, u),
        *structure(pde, plane, 0.5, 20, u),
    ]


def _growth_mean(pde: CahnHilliard) -> Check:
    """On a mean m a wave grows at D k^2 (1 - 3 m^2 - gamma k^2): outside the spinodal, 3 m^2 > 1, it decays."""
    check = _growth(pde, (0.7,), lambda q: 0.02 * q * (1 - 3 * 0.49 - 0.01 * q), 2.0, _SIDES)
    return at_most("decay of a small wave on u = 0.7 in 3D", check.value, check.level, check.setting)


def _swift_hohenberg(cls: type[SwiftHohenberg]) -> list[Check]:
    pde = cls(drive=0.7, quadratic=1.0)
    sides = (6 * math.pi, 10 * math.pi, 8 * math.pi)
    line = Grid((96,), (10 * math.pi,))
    plane = Grid((64, 64), (10 * math.pi, 8 * math.pi))
    u = random_states(plane, 1)
    # A product of cosines of wavenumbers q: (1 + lap)^2 is (1 - sum q^2)^2 on it.
    solid = Grid((16, 18, 20), sides)
    x = points(solid)
    k = [2 * math.pi / side for side in sides]
    wave = torch.ones_like(x[:, :1])
    for i in range(3):
        wave = wave * torch.cos(k[i] * x[:, i : i + 1])
    w = 0.3 + 0.5 * wave
    off = (1 - sum(v * v for v in k)) ** 2
    rate = 0.7 * w - 0.3 - 0.5 * off * wave + w**2 - w**3
    return [
        at_most("initial rate of a wave in 3D", rate_error(pde, solid, w, rate), 1e-5, "16 x 18 x 20"),
        _kinetics(pde, lambda y: (-0.3 * y[0] + y[0] ** 2 - y[0] ** 3,), [[0.5], [-1.0]], 2.0),
        _growth(pde, (0.0,), lambda q: 0.7 - (1 - q) ** 2, 2.0, sides),
        _falls(pde, plane, 0.5, 40, u),
        at_least(
            "order in time",
            time_order(pde, plane, 0.5, (10, 20), u),
            3.3,
            f"64^2, substeps 0.05 to 0.025, {_STIFF}",
        ),
        _explicit(pde, line, 0.5 * random_states(line, 1), 0.25, 1000, 1e-6),
        _parity(pde, plane, 0.5, u),
        *structure(pde, plane, 0.5, 10, u),
    ]


def _gray_scott(cls: type[GrayScott]) -> list[Check]:
    pde = cls(feed=0.04, kill=0.06, diffusivity_a=2e-2, diffusivity_b=1e-2)

    def reaction(y: Any) -> Sequence[Any]:
        made = y[0] * y[1] ** 2
        return 0.04 * (1 - y[0]) - made, made - 0.1 * y[1]

    def around_the_fed_state(q: float) -> Any:
        return [[-0.04 - 2e-2 * q, 0.0], [0.0, -0.1 - 1e-2 * q]]

    alone = box(pde, 16, 3)
    published = cls.regime("maze")
    line = Grid((512,), (2.0,))
    b = torch.exp(-100 * (points(line) - 0.9).square())
    patch = torch.cat([1 - b, b], dim=1)
    plane, fine = (Grid(shape, _SIDES[:2]) for shape in ((32, 36), (64, 64)))
    u = 0.5 + 0.2 * random_states(plane, 2)
    return [
        at_most(
            "error of the substrate alone in 3D",
            exact_error(pde, build(pde, alone, 2.0), alone, 4),
            1e-11,
            "16^3, t = 8",
        ),
        at_most("change of a pulse", _pulse_change(cls), 1e-8, "512 points, t = 8"),
        _kinetics(pde, reaction, [[0.9, 0.3], [0.3, 0.8]], 4.0),
        _rate(pde, reaction, (2e-2, 1e-2), 0.5),
        _growth(pde, (1.0, 0.0), around_the_fed_state, 2.0, _SIDES),
        at_least(
            "order in time", time_order(pde, plane, 4.0, (4, 8), u), 3.7, "32 x 36, substeps 1 to 0.5"
        ),
        _bounds(published, line, 10.0, 50, patch, 0.0, 1.0, 1e-4),
        _explicit(pde, fine, 0.5 + 0.2 * random_states(fine, 2), 1.0, 100, 1e-6),
        _parity(pde, plane, 1.0, u),
        *structure(pde, plane, 1.0, 10, u),
    ]


def _pulse_change(cls: type[GrayScott]) -> float:
    """Change of a pulse that stands still where D_b/D_a = (f + k)/f.

    Then a = 1 - (D_b/D_a) b is in balance wherever b is, and b = 3 s/(1 + Q cosh(x sqrt(s/D_b))) with s = f + k
    and Q^2 = 1 - 9 s D_b/(2 D_a). Hale, Peletier and Troy, SIAM J. Appl. Math. 61 (2000) 102-130.
    """
    feed, kill, first = 0.04, 0.01, 2e-2
    total, ratio = feed + kill, (feed + kill) / feed
    pde = cls(feed=feed, kill=kill, diffusivity_a=first, diffusivity_b=ratio * first)
    width = math.sqrt(ratio * first / total)
    grid = Grid((512,), (80 * width,))
    far = (points(grid) - 40 * width) / width
    b = 3 * total / (1 + math.sqrt(1 - 4.5 * ratio * total) * torch.cosh(far))
    u = torch.cat([1 - ratio * b, b], dim=1)
    with torch.no_grad():
        return float(relative_error(rollout(build(pde, grid, 1.0), 8)(u)[:, -1], u).max())


def _fitzhugh_nagumo(cls: type[FitzHughNagumo]) -> list[Check]:
    pde = cls(diffusivity_u=0.01, diffusivity_v=0.05, threshold=0.027)

    def reaction(y: Any) -> Sequence[Any]:
        return y[0] - y[0] ** 3 - 0.027 - y[1], y[0] - y[1]

    def around_the_steady_state(q: float) -> Any:
        # u = v = -0.3, where 1 - 3 u^2 = 0.73
        return [[0.73 - 0.01 * q, -1.0], [1.0, -1.0 - 0.05 * q]]

    plane, fine = (Grid((n, n), _SIDES[:2]) for n in (48, 64))
    u = random_states(plane, 2)
    return [
        _kinetics(pde, reaction, [[0.9, 0.3], [-0.3, 0.8], [0.0, 0.0]], 2.0),
        _rate(pde, reaction, (0.01, 0.05), 0.2),
        _growth(pde, (-0.3, -0.3), around_the_steady_state, 2.0, _SIDES),
        at_least(
            "order in time", time_order(pde, plane, 1.0, (10, 20), u), 3.7, "48^2, substeps 0.1 to 0.05"
        ),
        _explicit(pde, fine, 0.3 * random_states(fine, 2), 0.5, 200, 1e-6),
        _parity(pde, plane, 0.5, u),
        *structure(pde, plane, 0.5, 10, u),
    ]


def _belousov_zhabotinsky(cls: type[BelousovZhabotinsky]) -> list[Check]:
    rates = (0.01, 0.02, 0.03)
    pde = cls(*rates)

    def reaction(y: Any) -> Sequence[Any]:
        return (1 - y[0]) * (y[0] + y[1]), y[2] - y[1] * (1 + y[0]), y[0] - y[2]

    def around_the_full_state(q: float) -> Any:
        jacobian = [[-1.5, 0.0, 0.0], [-0.5, -2.0, 1.0], [1.0, 0.0, -1.0]]
        return np.array(jacobian) - q * np.diag(rates)

    solid = box(pde, 16, 3)
    line = Grid((512,), (2.0,))
    x = points(line)
    drops = torch.cat([torch.exp(-100 * (x - 1 - c).square()) for c in (-0.5, 0.0, 0.5)], dim=1)
    plane = Grid((36, 40), _SIDES[:2])
    u = 0.5 + 0.2 * random_states(plane, 3)
    return [
        at_most(
            "error with u = 1 in 3D",
            exact_error(pde, build(pde, solid, 0.5, substeps=20), solid, 2),
            1e-8,
            "16^3, t = 1",
        ),
        _kinetics(pde, reaction, [[0.2, 0.3, 0.4], [0.9, 0.1, 0.0], [0.0, 0.0, 1.0]], 2.0),
        _rate(pde, reaction, rates, 0.5),
        _growth(pde, (1.0, 0.5, 1.0), around_the_full_state, 1.0, _SIDES),
        at_least(
            "order in time", time_order(pde, plane, 1.0, (8, 16), u), 3.7, "36 x 40, substeps 1/8 to 1/16"
        ),
        _bounds(cls(), line, 1.0, 20, drops, 0.0, 1.0, 1e-4),
        _explicit(pde, plane, u, 0.5, 200, 1e-6),
        _parity(pde, plane, 0.5, u),
        *structure(pde, plane, 0.5, 10, u),
    ]


SUITES: Suites = {
    FisherKPP: _fisher_kpp,
    AllenCahn: _allen_cahn,
    CahnHilliard: _cahn_hilliard,
    SwiftHohenberg: _swift_hohenberg,
    GrayScott: _gray_scott,
    FitzHughNagumo: _fitzhugh_nagumo,
    BelousovZhabotinsky: _belousov_zhabotinsky,
}
