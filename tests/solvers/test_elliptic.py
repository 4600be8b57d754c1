"""Darcy and Poisson: manufactured solutions, layers, multigrid rates, gradients, refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from sciml import Grid
from sciml.linear import NotConverged, conjugate_gradient
from sciml.solvers.elliptic import Diffusion, Multigrid, discretise, solve_darcy, solve_poisson

TOLERANCE = 1e-11


def two_phase(samples: int, shape: tuple[int, ...], *, high: float = 12.0, low: float = 3.0) -> Tensor:
    """The usual porous medium: a smooth random field cut at zero, (B, 1, *shape)."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(samples, *shape, generator=generator, dtype=torch.float64)
    waves = torch.meshgrid(
        *[torch.fft.fftfreq(n, 1 / n, dtype=torch.float64) for n in shape], indexing="ij"
    )
    filtered = 1.0 / (sum(k.square() for k in waves) + 0.25)
    axes = tuple(range(1, len(shape) + 1))
    field = torch.fft.ifftn(torch.fft.fftn(noise, dim=axes) * filtered, dim=axes).real
    return (low + (high - low) * (field > 0).double()).unsqueeze(1)


def manufactured(x: Tensor, kind: str) -> tuple[Tensor, Tensor, Tensor]:
    """u, a and f = -div(a grad u) at x (D, *points), by automatic differentiation."""
    shape, dimension = x.shape[1:], x.shape[0]
    wave = torch.cos if kind == "neumann" else torch.sin
    scale = 2 * math.pi if kind == "periodic" else math.pi

    def u(p: Tensor) -> Tensor:
        value = wave(scale * p).prod()
        # Not zero on the sides, nor a discrete eigenvector.
        return value + (
            torch.exp(p.sum() / 2) if kind == "dirichlet" else torch.cos(2 * scale * p).prod() / 3
        )

    def a(p: Tensor) -> Tensor:
        return 1.5 + torch.cos(2 * math.pi * p).sum() / dimension

    def flux(p: Tensor) -> Tensor:
        return -a(p) * torch.func.grad(u)(p)

    points = x.flatten(1).T
    f = torch.func.vmap(lambda p: torch.func.jacfwd(flux)(p).trace())(points)
    return tuple(
        v.reshape(1, 1, *shape) for v in (torch.func.vmap(u)(points), torch.func.vmap(a)(points), f)
    )


def error(n: int, dimension: int, kind: str, centering: str) -> float:
    shape = tuple(n + 3 * axis for axis in range(dimension))
    grid = Grid(shape, (1.0,) * dimension, kind, centering=centering)
    u, a, f = manufactured(grid.coordinates(), kind)
    if kind != "dirichlet":
        weights = grid.weights()
        # The sampled source balances up to the quadrature error only.
        f = f - (f * weights).sum() / weights.sum()
        u = u - (u * weights).sum() / weights.sum()
    found = solve_darcy(a, f, grid, boundary_values=lambda x: manufactured(x, kind)[0], tolerance=TOLERANCE)
    return float(((found - u).square() * grid.weights()).sum().sqrt())


@pytest.mark.parametrize("kind", ["dirichlet", "neumann", "periodic"])
@pytest.mark.parametrize("centering", ["node", "cell"])
@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_second_order(dimension, centering, kind):
    coarse, fine = {1: (32, 64), 2: (24, 48), 3: (12, 24)}[dimension]
    h = [1 / (n if centering == "cell" or kind == "periodic" else n - 1) for n in (coarse, fine)]
    errors = [error(n, dimension, kind, centering) for n in (coarse, fine)]
    order = math.log(errors[0] / errors[1]) / math.log(h[0] / h[1])
    # Axes differ by three points each, which are not refined: the order is not quite that of h.
    assert order == pytest.approx(2.0, abs=0.1 + 0.25 * (dimension - 1))


@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_order_on_equal_axes(dimension):
    coarse, fine = {1: (64, 128), 2: (32, 64), 3: (16, 32)}[dimension]

    def equal(n: int) -> float:
        grid = Grid((n,) * dimension, (1.0,) * dimension, "dirichlet", centering="cell")
        u, a, f = manufactured(grid.coordinates(), "dirichlet")
        found = solve_darcy(a, f, grid, boundary_values=lambda x: manufactured(x, "dirichlet")[0])
        return float((found - u).square().mean().sqrt())

    assert math.log2(equal(coarse) / equal(fine)) == pytest.approx(2.0, abs=0.1)


def test_boundary_flux_enters_with_its_sign():
    # u = x^2 on (0, 2) with a = 3: flux inwards a u' = 12 at the right, value 0 at the left, f = -6.
    # Exact on nodes and cells but for the half cell at the left, where u is a parabola: error h^2/4.
    for centering, allowed in (("node", 1e-9), ("cell", 0.25 / 32**2 * 4.001)):
        grid = Grid(
            (33 if centering == "node" else 32,), (2.0,), [("dirichlet", "neumann")], centering=centering
        )
        found = solve_darcy(3.0, -6.0, grid, boundary_flux=12.0, tolerance=1e-12)
        assert float((found - grid.coordinates().square()).abs().max()) <= allowed


@pytest.mark.parametrize("method", ["multigrid", "pyamg", "direct"])
def test_flux_through_two_layers_is_exact(method):
    # Layers of 12 and 3 that meet half-way: flux 1 / (0.5/12 + 0.5/3) for a unit drop.
    grid = Grid((32,), (1.0,), "dirichlet", centering="cell")
    x = grid.axes()[0]
    a = torch.where(x < 0.5, 12.0, 3.0).double().reshape(1, 1, -1)
    u = solve_darcy(a, 0.0, grid, boundary_values=lambda x: 1.0 - x[0], tolerance=1e-12, method=method)
    flux = 1 / (0.5 / 12 + 0.5 / 3)
    expected = torch.where(x < 0.5, 1 - flux * x / 12, flux * (1 - x) / 3)
    torch.testing.assert_close(u.flatten(), expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("shape", [(9,), (8, 11), (5, 6, 7)])
@pytest.mark.parametrize("sides", ["dirichlet", "neumann", "periodic", ("dirichlet", "neumann")])
@pytest.mark.parametrize("centering", ["node", "cell"])
def test_operator_is_symmetric_and_agrees_with_its_matrix(shape, sides, centering):
    grid = Grid(shape, tuple(1.0 + i for i in range(len(shape))), [sides] * len(shape), centering=centering)
    problem = discretise(two_phase(2, shape)[:, 0], grid)
    operator = problem.operator
    generator = torch.Generator().manual_seed(1)
    u, v = torch.randn(2, 2, *operator.shape, generator=generator, dtype=torch.float64)
    size = float(operator.diagonal.max())
    assert float(((operator(u) * v).sum() - (operator(v) * u).sum()).abs()) < 1e-12 * size
    assert (operator(u) + operator.residual(u, torch.zeros_like(u))).abs().max() < 1e-14 * size
    matrix = operator.matrix(1)
    np.testing.assert_allclose(
        matrix @ u[1].numpy().ravel(), operator(u)[1].numpy().ravel(), atol=1e-14 * size
    )
    assert (operator(torch.ones_like(u)).abs().max() < 1e-13 * size) == problem.singular
    # The preconditioner must be symmetric too.
    cycle = Multigrid(operator, singular=problem.singular)
    one, other = (cycle(u) * v).sum(), (cycle(v) * u).sum()
    assert float((one - other).abs()) < 1e-12 * float(cycle(u).norm() * v.norm())


def residual_factor(grid: Grid) -> float:
    """Mean factor by which the later of ten plain V-cycles reduce the residual, a = 1."""
    problem = discretise(torch.ones(1, *grid.shape, dtype=torch.float64), grid)
    cycle, operator = Multigrid(problem.operator, singular=problem.singular), problem.operator
    u = torch.randn(1, *operator.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    norms = []
    for _ in range(10):
        r = operator.residual(u, torch.zeros_like(u))
        norms.append(float(r.norm()))
        u = u + cycle(r)
    return float((norms[-1] / norms[4]) ** (1 / 5))


@pytest.mark.parametrize("shape", [(512,), (64, 64), (100, 75), (128, 128), (32, 32, 32)])
@pytest.mark.parametrize("sides", ["dirichlet", "periodic"])
def test_each_cycle_reduces_the_residual_independently_of_the_size(shape, sides):
    grid = Grid(shape, tuple(n / 64 for n in shape), sides, centering="cell")
    assert residual_factor(grid) <= (0.16 if len(shape) < 3 else 0.2)


def iterations(a: Tensor, grid: Grid) -> int:
    problem = discretise(a[:, 0], grid)
    b = problem.right_hand_side(torch.ones_like(a[:, 0]), 0.0, 0.0)
    found = conjugate_gradient(problem.operator, b, preconditioner=Multigrid(problem.operator))
    true = problem.operator.residual(found.x, b).flatten(1).norm(dim=1) / b.flatten(1).norm(dim=1)
    assert (true <= 1.01e-10).all()
    return int(found.iterations.max())


@pytest.mark.parametrize("n", [64, 128])
@pytest.mark.parametrize("centering", ["node", "cell"])
def test_few_iterations_to_1e_10(n, centering):
    grid = Grid((n, n), (1.0, 1.0), "dirichlet", centering=centering)
    assert iterations(torch.ones(1, 1, n, n, dtype=torch.float64), grid) <= 10
    assert iterations(two_phase(3, (n, n)), grid) <= 13


def test_stretched_cells_and_strong_contrast_do_not_stop_it():
    thin = Grid((64, 64), (1.0, 100.0), "dirichlet", centering="cell")
    assert iterations(torch.ones(1, 1, 64, 64, dtype=torch.float64), thin) <= 12
    box = Grid((64, 64), (1.0, 1.0), "dirichlet", centering="cell")
    assert iterations(two_phase(2, (64, 64), high=1000.0, low=1.0), box) <= 40


@pytest.mark.parametrize("method", ["pyamg", "direct"])
@pytest.mark.parametrize("sides", ["dirichlet", "neumann", ("dirichlet", "neumann")])
def test_methods_agree(method, sides):
    grid = Grid((20, 17), (1.0, 2.0), [sides, sides], centering="node")
    a = two_phase(2, grid.shape)
    f = torch.randn(2, 1, *grid.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    f = f - (f * grid.weights()).sum(dim=(2, 3), keepdim=True) / grid.volume
    ours = solve_darcy(a, f, grid, tolerance=1e-12)
    other = solve_darcy(a, f, grid, tolerance=1e-12, method=method)
    # Condition number about 1e4 times the tolerance.
    assert (ours - other).abs().max() < 1e-8 * ours.abs().max()


def test_batch_is_its_samples_and_one_coefficient_serves_many_sources():
    grid = Grid((24, 24), (1.0, 1.0), "dirichlet")
    a = two_phase(3, grid.shape)
    together = solve_darcy(a, 1.0, grid)
    alone = solve_darcy(a[1:2], 1.0, grid)
    # Sizes of batches change the order of sums; the tolerance is far above that.
    assert (together[1:2] - alone).abs().max() < 1e-9 * alone.abs().max()
    f = torch.tensor([1.0, 2.0], dtype=torch.float64).reshape(2, 1, 1, 1).expand(2, 1, 24, 24)
    many = solve_darcy(a[:1], f, grid)
    assert many.shape == (2, 1, 24, 24)
    assert (many[1] - 2 * many[0]).abs().max() < 1e-9 * many.abs().max()


def test_maximum_principle():
    grid = Grid((32, 32), (1.0, 1.0), "dirichlet")
    a = two_phase(3, grid.shape, high=100.0, low=0.1)
    assert solve_darcy(a, 1.0, grid).amin() >= -1e-12
    g = torch.rand(3, 1, 32, 32, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    u = solve_darcy(a, 0.0, grid, boundary_values=g)
    edge = torch.ones(32, 32, dtype=torch.bool)
    edge[1:-1, 1:-1] = False
    torch.testing.assert_close(u[..., edge], g[..., edge], rtol=0, atol=0)
    for sample, values in zip(u, g[..., edge], strict=True):
        assert values.min() <= sample.min() and sample.max() <= values.max()


@pytest.mark.parametrize("centering", ["node", "cell"])
@pytest.mark.parametrize("sides", ["dirichlet", "periodic", ("neumann", "dirichlet")])
def test_gradients_by_the_adjoint_system(centering, sides):
    grid = Grid((4, 5), (1.0, 1.0), [sides, sides], centering=centering)
    generator = torch.Generator().manual_seed(4)
    a = torch.rand(2, 1, 4, 5, generator=generator, dtype=torch.float64) + 0.5
    f = torch.randn(2, 1, 4, 5, generator=generator, dtype=torch.float64)
    g = torch.tensor(0.3, dtype=torch.float64)

    def solve(a: Tensor, f: Tensor, g: Tensor) -> Tensor:
        f = f - (f * grid.weights()).sum(dim=(2, 3), keepdim=True) / grid.volume
        return solve_darcy(a, f, grid, boundary_values=g, tolerance=1e-12)

    inputs = (a.requires_grad_(), f.requires_grad_(), g.requires_grad_())
    assert torch.autograd.gradcheck(solve, inputs, fast_mode=True)


def test_gradient_through_multigrid_levels_is_the_adjoint():
    # Large enough that the cycle has levels; derivative along a direction by central differences.
    grid = Grid((24, 24), (1.0, 1.0), "dirichlet")
    a, direction = two_phase(1, grid.shape), two_phase(1, grid.shape, high=1.0, low=-0.5)
    a.requires_grad_()
    (gradient,) = torch.autograd.grad(solve_darcy(a, 1.0, grid, tolerance=1e-12).square().sum(), a)
    with torch.no_grad():
        ends = [
            solve_darcy(a + h * direction, 1.0, grid, tolerance=1e-12).square().sum() for h in (1e-4, -1e-4)
        ]
    difference = float(ends[0] - ends[1]) / 2e-4
    # Central differences of step 1e-4: truncation of relative order 1e-8, rounding the same.
    assert float((gradient * direction).sum()) == pytest.approx(difference, rel=1e-6)


def test_single_precision_in_and_out_is_solved_in_double():
    grid = Grid((64, 64), (1.0, 1.0), "dirichlet")
    a = two_phase(1, grid.shape)
    single = solve_darcy(a.float(), 1.0, grid)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single, solve_darcy(a, 1.0, grid).float(), rtol=1e-6, atol=0)


def test_poisson_matches_the_sine_series():
    grid = Grid((65, 65), (1.0, 1.0), "dirichlet")
    u = solve_poisson(1.0, grid)
    odd = torch.arange(1, 200, 2, dtype=torch.float64)
    m, n = torch.meshgrid(odd, odd, indexing="ij")
    signs = torch.sin(math.pi * m / 2) * torch.sin(math.pi * n / 2)
    middle = float((16 / math.pi**4 * signs / (m * n * (m**2 + n**2))).sum())
    # 0.0736713...; five points with h = 1/64 err by about h^2 / 12 of it.
    assert float(u[0, 0, 32, 32]) == pytest.approx(middle, rel=3e-4)


def test_refusals_say_what_was_found():
    grid = Grid((8, 8), (1.0, 1.0), "dirichlet")
    one = torch.ones(1, 1, 8, 8, dtype=torch.float64)
    closed = Grid((8, 8), (1.0, 1.0), "neumann")
    with pytest.raises(ValueError, match="Subtract the mean of the source"):
        solve_darcy(one, 1.0, closed)
    with pytest.raises(ValueError, match="smallest value -1; expected positive"):
        solve_darcy(-one, 1.0, grid)
    with pytest.raises(ValueError, match=r"a of shape \(1, 8, 8\); expected \(B, 1, \*\(8, 8\)\)"):
        solve_darcy(one[0], 1.0, grid)
    with pytest.raises(ValueError, match="f with values that are not finite"):
        solve_darcy(one, one * torch.nan, grid)
    with pytest.raises(
        ValueError, match=r"method='amg'; expected one of \['auto', 'fft', 'multigrid', 'pyamg', 'direct'\]"
    ):
        solve_darcy(one, 1.0, grid, method="amg")
    with pytest.raises(ValueError, match=r"sides \['outflow'\]"):
        solve_darcy(one, 1.0, Grid((8, 8), (1.0, 1.0), "outflow"))
    with pytest.raises(ValueError, match="2 coefficients and 3 sources"):
        solve_darcy(one.expand(2, -1, -1, -1), one.expand(3, -1, -1, -1), grid)
    with pytest.raises(ValueError, match="give a number, or a function"):
        solve_darcy(one, 1.0, Grid((8, 8), (1.0, 1.0), "dirichlet", centering="cell"), boundary_values=one)
    with pytest.raises(ValueError, match="at least 3 nodes"):
        solve_darcy(1.0, 1.0, Grid((2,), (1.0,), "dirichlet"))
    with pytest.raises(NotConverged, match="after 2 iterations; expected 1.0e-10"):
        wide = Grid((64, 64), (1.0, 1.0), "dirichlet")
        solve_darcy(two_phase(1, (64, 64)), 1.0, wide, max_iterations=2)
    with pytest.raises(ValueError, match="sweeps=0"):
        Multigrid(Diffusion((torch.ones(1, 9),), (False,)), sweeps=0)
