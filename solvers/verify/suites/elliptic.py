"""Stationary equations: Poisson, Darcy, Helmholtz."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from sciml.calculus import Spectral
from sciml.domains import Grid
from sciml.linear import conjugate_gradient
from sciml.pdes import Darcy, Helmholtz, Poisson
from sciml.solvers.elliptic import (
    AbsorbingLayer,
    Flux,
    Multigrid,
    Robin,
    Value,
    discretise,
    separable,
    solve_darcy,
    solve_helmholtz,
    solve_poisson,
)
from sciml.solvers.verify.certificate import Check, Suites, at_least, at_most
from sciml.solvers.verify.measure import observed_order

PointFunction = Callable[[Tensor], Tensor]
_COARSE = {1: 32, 2: 16, 3: 8}


def values(function: PointFunction, x: Tensor) -> Tensor:
    """A function of one point (D,) at positions (D, *points), as (*points) or (D, *points)."""
    found = torch.func.vmap(function)(x.flatten(1).T)
    return found.movedim(0, -1).reshape(*found.shape[1:], *x.shape[1:])


def solution(p: Tensor) -> Tensor:
    """Without symmetry, and not a mode of any box."""
    return torch.exp(p.sum() / 2) + torch.sin(2 * p + 0.3).prod()


def varied(p: Tensor) -> Tensor:
    return 1.5 + torch.cos(2 * p).sum() / (2 * len(p))


def source(a: PointFunction) -> PointFunction:
    """-div(a grad u) of `solution`."""
    return lambda p: -torch.func.jacfwd(lambda q: a(q) * torch.func.grad(solution)(q))(p).trace()


def manufactured(n: int, kinds: tuple[tuple[str, str], ...], centering: str, a: PointFunction) -> float:
    """Largest error where every side is given what it needs; "robin" with a film of 2."""
    dimension = len(kinds)
    sides = [tuple("neumann" if kind == "robin" else kind for kind in pair) for pair in kinds]
    grid = Grid((n,) * dimension, (1.0,) * dimension, sides, centering=centering)  # type: ignore[arg-type]
    conditions: dict[str, Value | Flux | Robin] = {}
    for axis, end in itertools.product(range(dimension), (0, 1)):

        def outward(p: Tensor, axis: int = axis, end: int = end) -> Tensor:
            return (2 * end - 1) * a(p) * torch.func.grad(solution)(p)[axis]

        def film(p: Tensor, out: PointFunction = outward) -> Tensor:
            return out(p) + 2 * solution(p)

        name = "xyz"[axis] + "-+"[end]
        if kinds[axis][end] == "dirichlet":
            conditions[name] = Value(partial(values, solution))
        elif kinds[axis][end] == "neumann":
            conditions[name] = Flux(partial(values, outward))
        else:
            conditions[name] = Robin(2.0, partial(values, film))
    x = grid.coordinates()
    found = solve_darcy(
        values(a, x)[None, None], values(source(a), x)[None, None], grid, conditions=conditions
    )
    return float((found[0, 0] - values(solution, x)).abs().max())


def orders(a: PointFunction) -> list[Check]:
    """The least order over all pairs of sides in 1D and 2D, and mixed ones in 3D."""
    ends = ("dirichlet", "neumann", "robin")
    pairs = [(one, two) for one in ends for two in ends if (one, two) != ("neumann", "neumann")]
    boxes: dict[int, list[tuple[tuple[str, str], ...]]] = {
        1: [(pair,) for pair in pairs],
        2: [(one, other) for one, other in zip(pairs, pairs[3:] + pairs[:3], strict=True)],
        3: [(("dirichlet", "robin"), ("neumann", "dirichlet"), ("robin", "neumann"))],
    }
    checks = []
    for dimension, chosen in boxes.items():
        n, least = _COARSE[dimension], math.inf
        for kinds, (centering, more) in itertools.product(chosen, (("cell", 0), ("node", 1))):
            errors = [manufactured(m + more, kinds, centering, a) for m in (n, 2 * n)]
            least = min(least, observed_order(errors))
        setting = (
            f"{len(chosen)} boxes of mixed sides, cells and nodes, {n}^{dimension} to {2 * n}^{dimension}"
        )
        checks.append(at_least(f"least order in space in {dimension}D", least, 1.85, setting))
    return checks


def residual(cls: type[Any], inputs: Callable[[Tensor, Tensor], Tensor], setting: str) -> Check:
    """What the equation, as stated, leaves of a solution worked out by hand: sin x cos 2y on a periodic box."""
    grid = Grid((32, 32), (2 * math.pi,) * 2)
    x, y = grid.coordinates()
    u = (torch.sin(x) * torch.cos(2 * y))[None, None]
    left = cls().residual(u, inputs(x, y), Spectral(grid)).abs().max()
    return at_most("residual of a solution worked out by hand", left, 1e-11, setting)


def elements(smooth: PointFunction | None) -> list[Check]:
    """Distance from linear finite elements by scikit-fem on the same nodes, where it is installed."""
    if find_spec("skfem") is None:
        return []
    import numpy as np
    import skfem
    from skfem.helpers import dot, grad

    distances, errors = [], []
    for n in (16, 32):
        grid = Grid((n + 1, n + 1), (1.0, 1.0), "dirichlet")
        line = np.linspace(0, 1, n + 1)
        basis = skfem.Basis(skfem.MeshTri.init_tensor(line, line), skfem.ElementTriP1(), intorder=4)
        a = smooth or (lambda p: torch.ones_like(p[0]))

        def at(function: PointFunction, x: Any) -> Any:
            return values(function, torch.from_numpy(np.ascontiguousarray(x))).numpy()

        stiffness = skfem.BilinearForm(lambda u, v, w, a=a: at(a, w.x) * dot(grad(u), grad(v))).assemble(
            basis
        )
        load = skfem.LinearForm(lambda v, w, a=a: at(source(a), w.x) * v).assemble(basis)
        known = at(solution, basis.doflocs)
        by_elements = skfem.solve(*skfem.condense(stiffness, load, x=known, D=basis.mesh.boundary_nodes()))
        x = grid.coordinates()
        ours = solve_darcy(
            values(a, x)[None, None],
            values(source(a), x)[None, None],
            grid,
            boundary_values=lambda x: values(solution, x),
        )[0, 0]
        places = np.rint(basis.doflocs * n).astype(int)
        distances.append(float(np.abs(by_elements - ours.numpy()[places[0], places[1]]).max()))
        errors.append(float(np.abs(by_elements - known).max()))
    setting = "scikit-fem, 16^2 to 32^2 squares of two triangles, Dirichlet sides"
    return [
        at_most("distance from elements, over their own error", distances[-1] / errors[-1], 3.0, setting),
        at_least("order at which the distance falls", observed_order(distances), 1.8, setting),
    ]


def _poisson(cls: type[Poisson]) -> list[Check]:
    worst = 0.0
    sides: list[Any] = ["periodic", *itertools.product(("dirichlet", "neumann"), repeat=2)]
    for centering, pair in itertools.product(("node", "cell"), itertools.product(sides, repeat=2)):
        grid = Grid((15, 12), (1.0, 1.3), list(pair), centering=centering)  # type: ignore[arg-type]
        problem = discretise(torch.ones(1, 15, 12, dtype=torch.float64), grid)
        fast = separable(problem, largest=0)
        if fast is None:
            return [at_most("sides without a fast transform", math.inf, 0.0, str(pair))]
        b = torch.randn(
            problem.operator.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64
        )
        b = (b - b.mean()).unsqueeze(0)
        worst = max(worst, float((problem.operator(fast(b)) - b).abs().max() / b.abs().max()))
    grid = Grid((65, 65), (1.0, 1.0), "dirichlet")
    odd = torch.arange(1, 200, 2, dtype=torch.float64)
    m, n = torch.meshgrid(odd, odd, indexing="ij")
    signs = torch.sin(math.pi * m / 2) * torch.sin(math.pi * n / 2)
    middle = float((16 / math.pi**4 * signs / (m * n * (m**2 + n**2))).sum())
    found = float(solve_poisson(1.0, grid)[0, 0, 32, 32])
    return [
        residual(cls, lambda x, y: (5 * torch.sin(x) * torch.cos(2 * y))[None, None], "32^2 periodic"),
        *orders(lambda p: torch.ones_like(p[0])),
        at_most("residual of fast transforms", worst, 1e-12, "50 boxes of 15x12, all sides"),
        at_most("error in the middle of a square", abs(found / middle - 1), 3e-4, "64^2, sine series"),
        *elements(None),
    ]


def _darcy(cls: type[Darcy]) -> list[Check]:
    def inputs(x: Tensor, y: Tensor) -> Tensor:
        # a = 2 + cos x: -div(a grad u) = sin x u_x + 5 a u.
        a, u = 2 + torch.cos(x), torch.sin(x) * torch.cos(2 * y)
        return torch.stack([a, torch.sin(x) * torch.cos(x) * torch.cos(2 * y) + 5 * a * u]).unsqueeze(0)

    grid = Grid((32,), (1.0,), "dirichlet", centering="cell")
    x = grid.axes()[0]
    layers = torch.where(x < 0.5, 12.0, 3.0).double().reshape(1, 1, -1)
    u = solve_darcy(layers, 0.0, grid, boundary_values=lambda x: 1 - x[0], tolerance=1e-13).flatten()
    flux = 1 / (0.5 / 12 + 0.5 / 3)
    exact = torch.where(x < 0.5, 1 - flux * x / 12, flux * (1 - x) / 3)
    generator = torch.Generator().manual_seed(0)
    counts = []
    for n in (64, 128, 256):
        square = Grid((n, n), (1.0, 1.0), "dirichlet", centering="cell")
        waves = torch.fft.fftfreq(n, 1 / n, dtype=torch.float64).square()
        noise = torch.fft.fft2(torch.randn(n, n, generator=generator, dtype=torch.float64))
        field = torch.fft.ifft2(noise / (waves[:, None] + waves + 0.25)).real
        a = torch.where(field > 0, 12.0, 3.0).double()[None]
        problem = discretise(a, square)
        b = problem.right_hand_side(torch.ones_like(a), 0.0, 0.0)
        cycle = Multigrid(problem.operator)
        counts.append(int(conjugate_gradient(problem.operator, b, preconditioner=cycle).iterations))
    a = a.unsqueeze(1)
    tight = [solve_darcy(a, 1.0, square, method=m, tolerance=1e-12) for m in ("multigrid", "direct")]
    apart = (tight[0] - tight[1]).abs().max() / tight[1].abs().max()
    return [
        residual(cls, inputs, "32^2 periodic"),
        *orders(varied),
        at_most("error through two layers", (u - exact).abs().max(), 1e-12, "32 cells, 12 and 3"),
        at_most("iterations to 1e-10", max(counts), 14, "64^2, 128^2 and 256^2, 12 and 3"),
        at_most("distance of multigrid from factors", apart, 1e-9, "256^2, 12 and 3, tolerance 1e-12"),
        at_least("least value under a positive source", tight[0].min(), 0.0, "the same"),
        *elements(varied),
    ]


def _helmholtz(cls: type[Helmholtz]) -> list[Check]:
    def inputs(x: Tensor, y: Tensor) -> Tensor:
        k, u = 3 + torch.cos(x), torch.sin(x) * torch.cos(2 * y)
        return torch.stack([k, 5 * u - k.square() * u]).unsqueeze(0)

    checks = [residual(cls, inputs, "32^2 periodic")]
    for method in ("fft", "direct", "bicgstab"):
        errors = []
        for n in (100, 200):
            line = Grid((n,), (1.0,), [("dirichlet", "outflow")], centering="cell")  # type: ignore[arg-type]
            wave = torch.exp(20j * line.axes()[0])
            u = solve_helmholtz(20.0, 0.0, line, boundary_values=1.0, method=method)  # type: ignore[arg-type]
            errors.append(float((u[0, 0] - wave).abs().max()))
        setting = "kL = 20, 100 to 200 cells, open side"
        checks.append(at_least(f"order of a plane wave, {method}", observed_order(errors), 1.9, setting))
    for dimension, n in ((1, 48), (2, 24), (3, 12)):
        errors = []
        for m in (n, 2 * n):
            box = Grid((m,) * dimension, (1.0,) * dimension, "neumann", centering="cell")
            u = torch.cos(2 * math.pi * box.coordinates()).prod(dim=0)[None, None]
            f = (dimension * 4 * math.pi**2 - 16.0) * u
            errors.append(float((solve_helmholtz(4.0, f, box) - u).abs().max()))
        setting = f"{n}^{dimension} to {2 * n}^{dimension}, Neumann sides, k = 4"
        checks.append(
            at_least(f"order of a cavity mode in {dimension}D", observed_order(errors), 1.9, setting)
        )
    return [*checks, *_point_source()]


def _point_source() -> list[Check]:
    from scipy.special import hankel1

    k, errors = 30.0, []
    for n in (80, 160):
        grid = Grid((n + 1, n + 1), (1.0, 1.0), "neumann")
        f = torch.zeros(1, 1, n + 1, n + 1, dtype=torch.float64)
        f[0, 0, n // 2, n // 2] = n * n
        u = solve_helmholtz(k, f, grid, absorbing=AbsorbingLayer(0.2))
        x = grid.coordinates() - 0.5
        r = x.square().sum(dim=0).sqrt()
        seen = (r > 0.1) & (x.abs().amax(dim=0) < 0.28)
        exact = torch.from_numpy(0.25j * hankel1(0, k * r.clamp(min=1e-9).numpy()))
        errors.append(float((u[0, 0] - exact).abs()[seen].max() / exact.abs()[seen].max()))
    setting = "Hankel function, k = 30, layer of 0.2, 80^2 to 160^2"
    return [
        at_most("error of a point source", errors[-1], 0.01, setting),
        at_least("order of a point source", observed_order(errors), 1.7, setting),
    ]


SUITES: Suites = {Poisson: _poisson, Darcy: _darcy, Helmholtz: _helmholtz}
