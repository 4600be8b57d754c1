"""Diffusion between real sides: fronts, held and insulated sides, and those that let something through."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from sciml.calculus.finite_difference import Accuracy
from sciml.domains import Grid
from sciml.pdes import (
    AdvectionDiffusion,
    DiffusionSorption,
    FitzHughNagumo,
    Heat,
    PorousMedium,
    Stefan,
)
from sciml.solvers.build import build
from sciml.solvers.elliptic import Flux, Robin, Value
from sciml.solvers.parabolic import parabolic
from sciml.solvers.parabolic.tableaus import Scheme
from sciml.solvers.verify.certificate import Check, Suites, at_least, at_most
from sciml.solvers.verify.measure import observed_order, points, relative_error
from sciml.solvers.verify.suites import linear, reactions
from sciml.step import rollout

_SCHEMES: dict[Scheme, float] = {
    "backward-euler": 1.0,
    "crank-nicolson": 2.0,
    "tr-bdf2": 2.0,
    "ars222": 2.0,
    "ars443": 3.0,
    "ark4": 4.0,
}


def _between(
    n: int, sides: Any = "neumann", centering: str = "cell", dimension: int = 1, half: float = 0.5
) -> Grid:
    """A box with its centre at the origin, or from 0 where `half` is 0.5."""
    origin = 0.0 if half == 0.5 else -half
    return Grid(
        (n,) * dimension,
        (2 * half,) * dimension,
        boundary=sides,
        origin=origin,
        centering=centering,  # type: ignore[arg-type]
    )


def _averages(function: Callable[[Tensor], Tensor], grid: Grid, fine: int = 16) -> Tensor:
    """Cell averages of a function of points on a line, where a front leaves no point value to trust."""
    n = grid.shape[0]
    return function(points(grid.resized((fine * n,)))).reshape(1, 1, n, fine).mean(dim=3)


def time_orders(
    pde: Any, grid: Grid, u: Tensor, dt: float, counts: Sequence[int], **options: Any
) -> list[Check]:
    """Order of each scheme between the last two numbers of substeps, against eight times the last."""
    checks = []
    name = "x".join(map(str, grid.shape))
    with torch.no_grad():
        for scheme, order in _SCHEMES.items():

            def run(substeps: int, scheme: Scheme = scheme) -> Tensor:
                return parabolic(pde, grid, dt, scheme=scheme, substeps=substeps, **options)(u)

            reference = run(8 * counts[-1])
            found = observed_order([float((run(n) - reference).norm()) for n in counts])
            # First order falls short against a reference of its own kind by 1/8 of the error.
            checks.append(
                at_least(
                    f"order in time, {scheme}",
                    found,
                    order - 0.3,
                    f"{name}, {counts} substeps of t = {dt:g}",
                )
            )
    return checks


def _barenblatt(cls: type[PorousMedium], m: float) -> list[Check]:
    """A point source that spreads from t = 1 to 2: error, mass, front, bounds."""
    pde, errors, gaps = cls(m), [], []
    drift = low = high = 0.0
    for n in (100, 200, 400):
        grid = _between(n, half=6.0)
        u = _averages(lambda x: pde.barenblatt(x, 1.0), grid)
        exact = _averages(lambda x: pde.barenblatt(x, 2.0), grid)
        with torch.no_grad():
            v = rollout(parabolic(pde, grid, 0.25, scheme="ars222"), 4)(u)[:, -1]
        errors.append(float((v - exact).abs().sum() / exact.sum()))
        drift = max(drift, float((v.sum() - u.sum()).abs() / u.sum()))
        low, high = max(low, -float(v.min())), max(high, float(v.max() - u.max()))
        (inside,) = (v[0, 0] > 1e-3 * v.max()).nonzero(as_tuple=True)
        edge = grid.axes()[0][inside[-1]] + 0.5 * grid.spacing[0]
        gaps.append(abs(float(edge - pde.barenblatt_front(2.0, 1))) / grid.spacing[0])
    total = float(_averages(lambda x: pde.barenblatt(x, 1.0), grid).sum()) * grid.spacing[0]
    expected = float(pde.barenblatt_mass(1))
    where = f"m = {m:g}, 400 cells, t = 1 to 2"
    return [
        at_most("L1 error of Barenblatt's solution", errors[-1], 3e-4, where),
        at_least(
            "order in space of Barenblatt's solution",
            math.log(errors[0] / errors[-1]) / math.log(4.0),
            1.2,
            f"m = {m:g}, 100 to 400 cells, front included",
        ),
        at_most("place of the front, in cells", max(gaps), 1.5, f"m = {m:g}, 100, 200, 400 cells"),
        at_most("drift of mass", drift, 1e-14, where),
        at_most("mass against the formula", abs(total / expected - 1), 1e-3 * 10 ** max(0, m - 2), where),
        at_most("below zero or above the start", max(low, high), 1e-12, where),
    ]


def _porous_medium(cls: type[PorousMedium]) -> list[Check]:
    checks = [check for m in (1.0, 2.0, 3.0) for check in _barenblatt(cls, m)]
    pde = cls(2.0)
    # In 2D and 3D, where point values will do for an error of a percent.
    for d, n, level in ((2, 48, 8e-3), (3, 20, 6e-2)):
        grid = _between(n, dimension=d, half=4.0)
        u = pde.barenblatt(points(grid), 1.0)
        with torch.no_grad():
            v = parabolic(pde, grid, 1.0, scheme="explicit")(u)
            w = parabolic(pde, grid, 1.0, scheme="ars222", substeps=4)(u)
        exact = pde.barenblatt(points(grid), 2.0)
        size = exact.sum()
        setting = f"m = 2, {'x'.join([str(n)] * d)}, t = 1 to 2"
        checks += [
            at_most(f"L1 error in {d}D", (w - exact).abs().sum() / size, level, setting),
            at_most(
                f"implicit against explicit steps in {d}D", (v - w).abs().sum() / size, 0.5 * level, setting
            ),
            at_most(f"drift of mass in {d}D", (w.sum() - u.sum()).abs() / u.sum(), 1e-13, setting),
            at_most(f"exchange of axes in {d}D", (w - w.transpose(2, 3)).abs().max(), 1e-11, setting),
        ]
    # Locked fronts are what other means are known for.
    grid = _between(200, half=6.0)
    u, exact = (_averages(partial(pde.barenblatt, t=t), grid) for t in (1.0, 2.0))
    with torch.no_grad():
        ours, locked = (
            float(
                (parabolic(pde, grid, 1.0, scheme="explicit", mean=mean)(u) - exact).abs().sum()
                / exact.sum()
            )
            for mean in ("integral", "harmonic")
        )
    checks.append(
        at_least(
            "error of harmonic means, over that of potentials", locked / ours, 10.0, "m = 2, 200 cells"
        )
    )
    smooth = _between(48)
    wave = 1.0 + 0.5 * torch.cos(math.pi * points(smooth))
    return [*checks, *time_orders(pde, smooth, wave, 0.05, (4, 8))]


def _melting(cls: type[Stefan], star: float) -> list[Check]:
    """The front that enters from a side held at 1."""
    pde, end, errors, gaps = cls(star), 0.05, [], []
    for n in (100, 200, 400):
        grid = _between(n, (("dirichlet", "neumann"),))
        u = torch.zeros(1, 1, n, dtype=torch.float64)
        with torch.no_grad():
            v = parabolic(pde, grid, end, conditions={"x-": Value(1.0)})(u)
        exact = _averages(lambda x: pde.similarity(x, end), grid)
        errors.append(float((v - exact).abs().sum() / exact.sum()))
        edge = float((v[0, 0] > 0.5 * star).sum()) * grid.spacing[0]
        gaps.append(abs(edge - pde.front(end)) / grid.spacing[0])
    content = abs(float(v.sum()) * grid.spacing[0] / pde.content(end) - 1)
    setting = f"u* = {star:g}, t = {end:g}"
    return [
        at_most("place of the front, in cells", max(gaps), 1.0, f"{setting}, 100, 200, 400 cells"),
        at_most("L1 error of the similarity solution", errors[-1], 2e-3, f"{setting}, 400 cells"),
        at_most("content that has entered", content, 1e-3, f"{setting}, 400 cells"),
    ]


def _stefan(cls: type[Stefan]) -> list[Check]:
    checks = [check for star in (0.5, 0.6) for check in _melting(cls, star)]
    pde = cls(0.6)
    closed = _between(64)
    x = points(closed)
    u = torch.where(x < 0.4, 1.2 - x, 0.1)
    with torch.no_grad():
        v = parabolic(pde, closed, 0.02, scheme="backward-euler")(u)
    return [
        *checks,
        at_most(
            "drift of content between insulated sides",
            (v.sum() - u.sum()).abs() / u.sum(),
            1e-13,
            "64 cells",
        ),
        at_most(
            "leaving the bounds of the start",
            torch.maximum(v.max() - u.max(), u.min() - v.min()).clamp(min=0.0),
            1e-12,
            "64 cells, backward Euler",
        ),
    ]


def _freundlich(u: Any) -> Any:
    """Retardation with PDEBench's numbers, written down a second time."""
    return 1 + (1 - 0.29) / 0.29 * 2880 * 3.5e-4 * 0.874 * u ** (0.874 - 1)


def _diffusion_sorption(cls: type[DiffusionSorption]) -> list[Check]:
    pde, end = cls(), 100.0
    sides = (("dirichlet", "neumann"),)
    conditions: dict[str, Value | Flux | Robin] = {"x-": Value(1.0), "x+": Robin(1.0)}

    def start(x: Tensor) -> Tensor:
        return 0.1 + 0.9 * (1 - x) ** 6

    errors = []
    # The second method: nodes, R(u) u_t = D u_xx, Radau, where ours has cells, (u + a u^n)_t and Newton.
    n = 800
    h = 1.0 / n
    nodes = torch.linspace(0.0, 1.0, n + 1, dtype=torch.float64).reshape(1, 1, -1)

    def rate(_: float, y: np.ndarray) -> np.ndarray:
        w = np.concatenate([[1.0], y])
        second = np.empty_like(y)
        second[:-1] = (w[2:] - 2 * w[1:-1] + w[:-2]) / h**2
        # D u_x + u = 0 by a ghost node.
        second[-1] = 2 * (w[-2] - w[-1] - h * w[-1] / 5e-4) / h**2
        return 5e-4 * second / _freundlich(np.maximum(y, 1e-30))

    from scipy.sparse import diags

    band = diags([np.ones(n - 1), np.ones(n), np.ones(n - 1)], [-1, 0, 1])
    found = solve_ivp(
        rate,
        (0.0, end),
        start(nodes)[0, 0, 1:].numpy(),
        method="Radau",
        jac_sparsity=band,
        rtol=1e-9,
        atol=1e-11,
    ).y[:, -1]
    reference = np.concatenate([[1.0], found])
    for cells in (50, 100):
        grid = _between(cells, sides)
        with torch.no_grad():
            v = parabolic(pde, grid, end, conditions=conditions, substeps=4 * cells // 5)(
                start(points(grid))
            )
        centre = np.interp(grid.axes()[0].numpy(), nodes[0, 0].numpy(), reference)
        errors.append(float(np.abs(v[0, 0].numpy() - centre).mean() / np.abs(centre).mean()))
    # A linear isotherm slows diffusion by a constant; a mode between a held and a leaky side decays.
    slow = cls(exponent=1.0)
    retardation = 1 + (1 - 0.29) / 0.29 * 2880 * 3.5e-4
    low, high = 0.5 * math.pi, math.pi
    for _ in range(100):
        k = 0.5 * (low + high)
        low, high = (k, high) if 5e-4 * k * math.cos(k) + math.sin(k) > 0 else (low, k)
    modes = []
    for cells in (40, 80):
        grid = _between(cells, sides)
        wave = torch.sin(k * points(grid))
        with torch.no_grad():
            v = parabolic(slow, grid, 200.0, conditions={"x+": Robin(1.0)}, scheme="ars222", substeps=400)(
                wave
            )
        exact = math.exp(-5e-4 * k**2 * 200.0 / retardation) * wave
        modes.append(float(relative_error(v, exact).max()))
    closed = _between(100)
    u = 0.5 + 0.4 * torch.cos(math.pi * points(closed))
    with torch.no_grad():
        v = parabolic(pde, closed, 50.0, scheme="ars222", substeps=10)(u)
        drift = (pde.storage(v).sum() - pde.storage(u).sum()).abs() / pde.storage(u).sum()
        dry = parabolic(pde, _between(100, sides), 500.0, conditions=conditions)(torch.zeros_like(u))
    smooth = _between(32)
    w = 0.5 + 0.3 * torch.cos(math.pi * points(smooth))
    return [
        at_most(
            "distance to Radau on nodes", errors[-1], 5e-4, f"100 cells, PDEBench's sides, t = {end:g}"
        ),
        at_least("order in space", observed_order(errors), 1.8, "50 to 100 cells, PDEBench's sides"),
        at_most(
            "decay of a mode with linear sorption",
            modes[-1],
            2e-4,
            "80 cells, held and leaky sides, t = 200",
        ),
        at_least("order in space of that mode", observed_order(modes), 1.8, "40 to 80 cells"),
        at_most("drift of what is stored", drift, 1e-12, "100 cells, insulated, t = 50"),
        at_most(
            "below zero or above the side",
            max(-float(dry.min()), float(dry.max()) - 1),
            1e-12,
            "clean ground, t = 500",
        ),
        *time_orders(pde, smooth, w, 100.0, (4, 8)),
    ]


def _heat_between_sides(cls: type[Heat]) -> list[Check]:
    """A decaying mode between sides of each kind, at each order in space; orders in time; what flows in."""
    pde, t = cls(0.3), 0.1
    # D u_n + c u = 0 at both ends, symmetric about the middle: c cos(k/2) = D k sin(k/2).
    c, low, high = 0.6, 0.0, math.pi
    for _ in range(100):
        k = 0.5 * (low + high)
        low, high = (k, high) if c * math.cos(k / 2) > 0.3 * k * math.sin(k / 2) else (low, k)
    robin = k
    kinds: dict[str, tuple[Any, dict[str, Any], Callable[[Tensor], Tensor], float]] = {
        "Dirichlet": ("dirichlet", {}, lambda x: torch.sin(2 * math.pi * x), 2 * math.pi),
        "Neumann": ("neumann", {}, lambda x: torch.cos(2 * math.pi * x), 2 * math.pi),
        "Robin": (
            "neumann",
            {"x-": Robin(c), "x+": Robin(c)},
            lambda x: torch.cos(robin * (x - 0.5)),
            robin,
        ),
        "mixed": (
            (("dirichlet", "neumann"),),
            {"x-": Value(0.0), "x+": Flux(0.0)},
            lambda x: torch.sin(1.5 * math.pi * x),
            1.5 * math.pi,
        ),
    }
    checks = []
    sizes: dict[Accuracy, tuple[int, int]] = {2: (32, 64), 4: (24, 48), 6: (20, 40)}
    for kind, (sides, conditions, mode, number) in kinds.items():
        for accuracy, pair in sizes.items():
            for centering in ("node", "cell"):
                errors = []
                for n in pair:
                    grid = _between(n + (centering == "node"), sides, centering)
                    u = mode(points(grid))
                    with torch.no_grad():
                        step = parabolic(
                            pde, grid, t, conditions=conditions, accuracy=accuracy, substeps=40
                        )
                        v = step(u)
                    errors.append(float((v - math.exp(-0.3 * number**2 * t) * u).abs().max()))
                checks.append(
                    at_least(
                        f"order {accuracy} in space, {kind} sides",
                        observed_order(errors),
                        0.9 * accuracy,
                        f"{centering}s, {pair[0]} to {pair[1]}",
                    )
                )
    line = _between(33, "dirichlet", "node")
    bump = torch.sin(math.pi * points(line)) + 0.5 * torch.sin(3 * math.pi * points(line))
    # A steady slope: what enters on one side leaves on the other.
    slab = _between(20, "neumann")
    through: dict[str, Value | Flux | Robin] = {"x-": Flux(0.6), "x+": Robin(2.0, 1.0)}
    with torch.no_grad():
        v = parabolic(pde, slab, 200.0, conditions=through, scheme="backward-euler", substeps=200)(
            torch.zeros_like(points(slab))
        )
        around: Any = (("neumann", "neumann"), ("periodic", "periodic"))
        plane = Grid((24, 20), (1.0, 2.0), boundary=around, centering="cell")
        w = torch.rand(2, 1, 24, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        kept = parabolic(pde, plane, 0.5, scheme="ark4")(w)
    # At x = 1: 2 u + flux out = 1 with 0.6 leaving.
    expected = (1.0 + 0.6) / 2.0 + 0.6 / 0.3 * (1 - points(slab))
    return [
        *checks,
        *time_orders(pde, line, bump, 0.2, (4, 8), accuracy=4),
        at_most("steady slope between a flux and a leak", (v - expected).abs().max(), 1e-9, "20 cells"),
        at_most(
            "drift of content",
            (kept.sum() - w.sum()).abs() / w.sum(),
            1e-13,
            "24x20 cells, insulated and periodic",
        ),
    ]


def _boundary_layer(cls: type[AdvectionDiffusion]) -> list[Check]:
    """Steady flow towards a held side: u = (exp(v x/kappa) - 1)/(exp(v/kappa) - 1)."""
    speed, kappa = 1.0, 0.1
    pde, checks = cls(speed, kappa), []
    rows: tuple[tuple[str, Accuracy, float], ...] = (("cell", 2, 1.8), ("node", 2, 1.8), ("node", 4, 3.5))
    for centering, accuracy, level in rows:
        errors = []
        for n in (24, 48):
            grid = _between(n + (centering == "node"), "dirichlet", centering)
            x = points(grid)
            exact = torch.expm1(speed * x / kappa) / math.expm1(speed / kappa)
            with torch.no_grad():
                step = parabolic(
                    pde,
                    grid,
                    6.0,
                    conditions={"x-": Value(0.0), "x+": Value(1.0)},
                    accuracy=accuracy,
                    scheme="ars443",
                )
                errors.append(float((step(torch.zeros_like(x)) - exact).abs().max()))
        checks.append(
            at_least(
                f"order of a boundary layer, {centering}s, order {accuracy}",
                observed_order(errors),
                level,
                "24 to 48, Peclet number 10",
            )
        )
    return checks


def _zero_flux(cls: type[FitzHughNagumo]) -> list[Check]:
    """PDEBench's set-up at a small size: balance of mass, orders, and an explicit method on nodes."""
    pde = cls()
    grid = Grid((32, 32), (2.0, 2.0), boundary="neumann", origin=-1.0, centering="cell")

    def start(where: Grid) -> Tensor:
        x = math.pi * (points(where) + 1) / 2
        first = torch.cos(x[:, :1]) * torch.cos(2 * x[:, 1:])
        return torch.cat([first, 0.5 * torch.cos(2 * x[:, :1]) - 0.2 * torch.cos(x[:, 1:])], dim=1)

    u, h = start(grid), 1e-3
    with torch.no_grad():
        after = build(pde, grid, h)(u)
        # What is made, alone: diffusion brings nothing in. Both instants, so that the error is h^2.
        made = []
        for v in (u, after):
            a, b = v[:, :1], v[:, 1:]
            made.append(torch.cat([a - a**3 - 5e-3 - b, a - b], dim=1).sum(dim=(2, 3)))
        balance = ((after - u).sum(dim=(2, 3)) - 0.5 * h * (made[0] + made[1])).abs().max() / (
            h * u.numel()
        )
        states = []
        for n in (16, 32, 64):
            where = Grid((n, n), (2.0, 2.0), boundary="neumann", origin=-1.0, centering="cell")
            states.append(
                build(pde, where, 2.0)(start(where))
                .unflatten(3, (16, -1))
                .unflatten(2, (16, -1))
                .mean((3, 5))
            )
        nodes = Grid((65, 65), (2.0, 2.0), boundary="neumann", origin=-1.0)
        other = build(pde, nodes, 2.0, stepping="explicit")(start(nodes))
        mine = build(pde, where, 2.0)
        cells = mine(start(where))
        corners = 0.25 * (
            other[..., 1:, 1:] + other[..., :-1, 1:] + other[..., 1:, :-1] + other[..., :-1, :-1]
        )
    errors = [float((states[i] - states[i + 1]).norm()) for i in (0, 1)]
    return [
        at_most("balance of mass between insulated sides", balance, 1e-8, "32^2 cells, one step of 1e-3"),
        at_least(
            "order in space between insulated sides",
            observed_order(errors),
            1.8,
            "16^2, 32^2, 64^2 cells, t = 2",
        ),
        at_most(
            "implicit steps on cells against explicit ones on nodes",
            relative_error(cells, corners).max(),
            8e-3,
            "64^2, t = 2",
        ),
        *time_orders(pde, grid, u, 1.0, (4, 8)),
    ]


SUITES: Suites = {
    PorousMedium: _porous_medium,
    Stefan: _stefan,
    DiffusionSorption: _diffusion_sorption,
    Heat: lambda cls: [*linear.SUITES[Heat](cls), *_heat_between_sides(cls)],
    AdvectionDiffusion: lambda cls: [*linear.SUITES[AdvectionDiffusion](cls), *_boundary_layer(cls)],
    FitzHughNagumo: lambda cls: [*reactions.SUITES[FitzHughNagumo](cls), *_zero_flux(cls)],
}
