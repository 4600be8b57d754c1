"""Steady transport: manufactured flows, layers, balances, gradients, refusals."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sciml import Grid
from sciml.solvers.elliptic import Flux, Robin, Value, solve_darcy, solve_transport


def solution(p: Tensor) -> Tensor:
    return torch.exp(p.sum() / 2) + torch.sin(2 * p).prod()


def diffusivity(p: Tensor) -> Tensor:
    return 1.5 + torch.cos(2 * p).sum() / (2 * len(p))


def flow(p: Tensor) -> Tensor:
    return 1 + 2 * p + torch.sin(p.roll(-1))


def at(function, x: Tensor) -> Tensor:
    values = torch.func.vmap(function)(x.flatten(1).T)
    return values.movedim(0, -1).reshape(*values.shape[1:], *x.shape[1:])


def outward(axis: int, end: int):
    return lambda p: (2 * end - 1) * diffusivity(p) * torch.func.grad(solution)(p)[axis]


def error(
    n: int, dimension: int, centering: str, kinds, scheme="central", method="auto", sign=1.0
) -> float:
    sides = [tuple("neumann" if k == "robin" else k for k in kinds)] * dimension
    grid = Grid((n,) * dimension, (1.0,) * dimension, sides, centering=centering)
    conditions = {}
    for axis in range(dimension):
        for end, kind in enumerate(kinds):
            out = outward(axis, end)
            conditions["xyz"[axis] + "-+"[end]] = {
                "dirichlet": Value(lambda x: at(solution, x)),
                "neumann": Flux(lambda x, out=out: at(out, x)),
                "robin": Robin(2.0, lambda x, out=out: at(lambda p: out(p) + 2 * solution(p), x)),
            }[kind]
    x = grid.coordinates()

    def total(p: Tensor) -> Tensor:
        return flow(p) * solution(p) - diffusivity(p) * torch.func.grad(solution)(p)

    f = at(lambda p: torch.func.jacfwd(total)(p).trace(), x)
    found = solve_transport(
        at(diffusivity, x)[None, None],
        sign * at(flow, x).unsqueeze(0),
        f[None, None],
        grid,
        conditions=conditions,
        scheme=scheme,
        method=method,
    )
    return float((found[0, 0] - at(solution, x)).abs().max())


@pytest.mark.parametrize("centering", ["node", "cell"])
@pytest.mark.parametrize("kinds", [("dirichlet",) * 2, ("dirichlet", "neumann"), ("robin", "neumann")])
@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_second_order(dimension, kinds, centering):
    coarse, extra = {1: 32, 2: 16, 3: 8}[dimension], int(centering == "node")
    errors = [error(n + extra, dimension, centering, kinds) for n in (coarse, 2 * coarse)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(2.0, abs=0.15)


def test_upwind_is_of_first_order_and_a_wrong_sign_is_caught():
    errors = [error(n, 2, "cell", ("dirichlet", "neumann"), scheme="upwind") for n in (32, 64)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(1.0, abs=0.2)
    right, wrong = (error(16, 2, "cell", ("dirichlet", "neumann"), sign=s) for s in (1.0, -1.0))
    assert wrong > 50 * right


def test_boundary_layer_resolved_and_not():
    # -u'' a + u' = 0 between 0 and 1: u = (exp(x/a) - 1) / (exp(1/a) - 1).
    def run(n: int, a: float, scheme: str) -> tuple[Tensor, Tensor]:
        grid = Grid((n + 1,), (1.0,), "dirichlet")
        x = grid.axes()[0]
        u = solve_transport(a, (1.0,), 0.0, grid, conditions={"x+": Value(1.0)}, scheme=scheme)
        return u.flatten(), torch.expm1(x / a) / math.expm1(1 / a)

    u, exact = run(200, 0.05, "central")
    assert (u - exact).abs().max() < 1e-3
    with pytest.warns(
        UserWarning, match=r"Peclet number \|v\| h / a of 5 across a cell.*2\.5 times smaller"
    ):
        wiggly, _ = run(20, 0.01, "central")
    smooth, _ = run(20, 0.01, "upwind")
    assert wiggly.min() < -0.1 and smooth.min() >= -1e-9 and (smooth.diff() >= -1e-9).all()


def test_methods_agree_and_stillness_is_diffusion():
    grid = Grid((12, 10), (1.0, 1.0), ["periodic", "dirichlet"], centering="cell")
    g = torch.Generator().manual_seed(0)
    a, v, f = (torch.randn(2, c, 12, 10, generator=g, dtype=torch.float64) for c in (2, 2, 1))
    a = a.abs() + 0.3
    one, other = (solve_transport(a, v, f, grid, method=m, tolerance=1e-13) for m in ("krylov", "direct"))
    assert (one - other).abs().max() < 1e-11 * other.abs().max()
    still = solve_transport(a, (0.0, 0.0), f, grid)
    assert (still - solve_darcy(a, f, grid)).abs().max() < 1e-9 * still.abs().max()


@pytest.mark.parametrize("scheme", ["central", "upwind"])
def test_what_enters_leaves(scheme):
    # A uniform stream enters with value 2 and leaves with the same mean, whatever the diffusivity.
    grid = Grid((20, 8), (2.0, 1.0), [("dirichlet", "neumann"), "periodic"], centering="cell")
    a = 0.3 + torch.rand(1, 1, 20, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    u = solve_transport(
        a, (1.5, 0.3), 0.0, grid, conditions={"x-": Value(2.0)}, scheme=scheme, tolerance=1e-13
    )
    torch.testing.assert_close(u, torch.full_like(u, 2.0), rtol=0, atol=1e-11)


@pytest.mark.parametrize("method", ["krylov", "direct"])
@pytest.mark.parametrize("centering", ["node", "cell"])
def test_gradients(centering, method):
    grid = Grid((4, 5), (1.0, 1.0), [("dirichlet", "neumann"), "periodic"], centering=centering)
    g = torch.Generator().manual_seed(0)
    a, v, f = (torch.randn(2, c, 4, 5, generator=g, dtype=torch.float64) for c in (1, 2, 1))
    value, film = torch.tensor([0.3, 1.2], dtype=torch.float64)

    def solve(a: Tensor, v: Tensor, f: Tensor, value: Tensor, film: Tensor) -> Tensor:
        conditions = {"x-": Value(value), "x+": Robin(film, value)}
        return solve_transport(a, v, f, grid, conditions=conditions, tolerance=1e-13, method=method)

    inputs = [t.requires_grad_() for t in (a.abs() + 0.5, v, f, value, film)]
    assert torch.autograd.gradcheck(solve, inputs, fast_mode=True)


def test_refusals():
    grid = Grid((8, 8), (1.0, 1.0), "neumann")
    with pytest.raises(ValueError, match="nothing holds the level"):
        solve_transport(1.0, (1.0, 0.0), 0.0, grid)
    with pytest.raises(ValueError, match=r"velocity of shape \(3,\); expected \(2,\)"):
        solve_transport(1.0, (1.0, 0.0, 0.0), 0.0, grid)
    with pytest.raises(ValueError, match="velocity that is not finite"):
        solve_transport(1.0, (math.nan, 0.0), 0.0, grid, reaction=1.0)
    with pytest.raises(ValueError, match="scheme='quick'"):
        solve_transport(1.0, (1.0, 0.0), 0.0, grid, scheme="quick")
    with pytest.raises(ValueError, match="solve_transport got a coefficient with the smallest value -1"):
        solve_transport(-1.0, (1.0, 0.0), 0.0, grid)
