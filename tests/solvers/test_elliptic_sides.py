"""Sides of every kind, tensors, reaction, fast transforms and compiled loops for stationary diffusion."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from sciml import Grid
from sciml.solvers.elliptic import (
    Diffusion,
    Flux,
    Multigrid,
    Robin,
    Value,
    discretise,
    separable,
    solve_darcy,
    solve_poisson,
)
from sciml.solvers.lanes import available

compiled_only = pytest.mark.skipif(not available(), reason="the extra 'compiled' is not installed")
ENDS = ["dirichlet", "neumann", "robin"]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def solution(p: Tensor) -> Tensor:
    """At one point (D,), without any symmetry."""
    return torch.exp(p.sum() / 2) + torch.sin(2 * p + 0.3).prod()


def diagonal(p: Tensor) -> Tensor:
    """Coefficient of each axis (D,)."""
    return 1.5 + torch.cos(2 * p).sum() / (2 * len(p)) + torch.arange(len(p)) * 0.5


def at(function, x: Tensor) -> Tensor:
    """A function of one point at positions (D, *points), as (*points) or (D, *points)."""
    values = torch.func.vmap(function)(x.flatten(1).T)
    return values.movedim(0, -1).reshape(*values.shape[1:], *x.shape[1:])


def manufactured_error(n: int, kinds: list[tuple[str, str]], centering: str, sign: float = 1.0) -> float:
    """Largest error of -div(A grad u) + c u = f with every side given its own condition."""
    dimension = len(kinds)
    sides = [tuple("neumann" if kind == "robin" else kind for kind in pair) for pair in kinds]
    grid = Grid((n,) * dimension, (1.0,) * dimension, sides, centering=centering)
    conditions = {}
    for axis, end in itertools.product(range(dimension), (0, 1)):

        def outward(p: Tensor, axis: int = axis, end: int = end) -> Tensor:
            return (2 * end - 1) * diagonal(p)[axis] * torch.func.grad(solution)(p)[axis]

        film = 0.7 + axis + end
        conditions["xyz"[axis] + "-+"[end]] = {
            "dirichlet": Value(lambda x: at(solution, x)),
            "neumann": Flux(lambda x, out=outward: sign * at(out, x)),
            "robin": Robin(film, lambda x, out=outward, c=film: at(lambda p: out(p) + c * solution(p), x)),
        }[kinds[axis][end]]
    x = grid.coordinates()

    def source(p: Tensor) -> Tensor:
        slopes = torch.func.jacfwd(lambda q: diagonal(q) * torch.func.grad(solution)(q))(p)
        return 0.4 * solution(p) - slopes.trace()

    found = solve_darcy(
        at(diagonal, x).unsqueeze(0), at(source, x)[None, None], grid, conditions=conditions, reaction=0.4
    )
    return float((found[0, 0] - at(solution, x)).abs().max())


def order(kinds: list[tuple[str, str]], centering: str, coarse: int) -> float:
    extra = int(centering == "node")
    errors = [manufactured_error(n + extra, kinds, centering) for n in (coarse, 2 * coarse)]
    return math.log2(errors[0] / errors[1])


@pytest.mark.parametrize("centering", ["node", "cell"])
@pytest.mark.parametrize("low", ENDS)
@pytest.mark.parametrize("high", ENDS)
def test_second_order_for_every_pair_of_sides(low, high, centering):
    assert order([(low, high)], centering, 32) == pytest.approx(2.0, abs=0.1)
    # Another pair on the second axis, so that corners of all kinds are met over the test.
    assert order([(low, high), (high, "robin")], centering, 16) == pytest.approx(2.0, abs=0.2)


@pytest.mark.parametrize("centering", ["node", "cell"])
def test_second_order_in_3d_with_a_tensor_and_mixed_sides(centering):
    kinds = [("dirichlet", "robin"), ("neumann", "dirichlet"), ("robin", "neumann")]
    assert order(kinds, centering, 8) == pytest.approx(2.0, abs=0.2)


def test_a_wrong_sign_of_the_flux_is_caught():
    kinds = [("dirichlet", "neumann"), ("robin", "neumann")]
    right, wrong = (manufactured_error(16, kinds, "cell", sign) for sign in (1.0, -1.0))
    assert wrong > 20 * right


def test_film_of_a_robin_side_is_in_series_with_the_slab():
    # Conductivity 2 over length 1, film 4 at the right to surroundings of 3, value 1 at the left:
    # flux (3 - 1) / (1/2 + 1/4), a straight line, exact on any grid.
    for centering in ("node", "cell"):
        grid = Grid((9,), (1.0,), [("dirichlet", "neumann")], centering=centering)
        u = solve_darcy(2.0, 0.0, grid, boundary_values=1.0, conditions={"x+": Robin(4.0, 12.0)})
        slope = 2 / 0.75 / 2
        torch.testing.assert_close(u.flatten(), 1 + slope * grid.axes()[0], rtol=0, atol=1e-12)


def test_layers_along_a_diagonal_tensor_are_exact():
    # Two layers in x; the coefficient across them is another, and changes nothing.
    grid = Grid((16, 6), (1.0, 1.0), ["dirichlet", "periodic"], centering="cell")
    x = grid.coordinates()[0]
    a = torch.stack([torch.where(x < 0.5, 12.0, 3.0), 7.0 + 0 * x]).double().unsqueeze(0)
    u = solve_darcy(a, 0.0, grid, conditions={"x-": Value(1.0)}, tolerance=1e-13)
    flux = 1 / (0.5 / 12 + 0.5 / 3)
    expected = torch.where(x < 0.5, 1 - flux * x / 12, flux * (1 - x) / 3)
    torch.testing.assert_close(u[0, 0], expected, rtol=0, atol=1e-11)


PAIRS = ["periodic", *itertools.product(("dirichlet", "neumann"), repeat=2)]


@pytest.mark.parametrize("centering", ["node", "cell"])
@pytest.mark.parametrize("shape", [(7,), (8,), (7, 10), (4, 5, 6)])
def test_fast_transforms_invert_the_operator_for_all_sides(shape, centering):
    kinds = itertools.product(PAIRS, repeat=len(shape))
    chosen = list(kinds) if len(shape) < 3 else [k for i, k in enumerate(kinds) if i % 7 == 0]
    for sides in chosen:
        grid = Grid(
            shape, tuple(1.0 + 0.3 * i for i in range(len(shape))), list(sides), centering=centering
        )
        problem = discretise(torch.full((1, *shape), 2.0, dtype=torch.float64), grid)
        fast = separable(problem, largest=0)
        assert fast is not None, sides
        b = random(2, *problem.operator.shape)
        if problem.singular:
            b = b - b.mean(dim=tuple(range(1, b.ndim)), keepdim=True)
        left = (problem.operator(fast(b)) - b).abs().max() / b.abs().max()
        assert left < 1e-12, sides


def test_eigenvectors_serve_robin_sides_and_reaction():
    grid = Grid((12, 9), (1.0, 2.0), [("neumann", "neumann"), ("dirichlet", "neumann")], centering="cell")
    conditions = {"x-": Robin(2.0, 1.0), "x+": Robin(0.5)}
    f = random(3, 1, 12, 9)
    found = {
        m: solve_darcy(
            1.5, f, grid, conditions=conditions, reaction=0.3, tolerance=1e-13, method=m, compiled=False
        )
        for m in ("fft", "multigrid", "pyamg", "direct")
    }
    for other in ("multigrid", "pyamg", "direct"):
        assert (found["fft"] - found[other]).abs().max() < 1e-11 * found["fft"].abs().max()


def test_auto_takes_transforms_for_constants_and_refuses_them_elsewhere():
    grid = Grid((16, 16), (1.0, 1.0), "dirichlet")
    a = torch.tensor([1.0, 3.0], dtype=torch.float64).reshape(2, 1, 1, 1).expand(2, 1, 16, 16)
    torch.testing.assert_close(
        solve_darcy(a, 1.0, grid), solve_poisson(1.0, grid) / a[:, :, :1, :1], rtol=1e-12, atol=0
    )
    varied = 1.0 + random(1, 1, 16, 16).abs()
    with pytest.raises(ValueError, match="coefficient or reaction that varies"):
        solve_darcy(varied, 1.0, grid, method="fft")
    # A single cell decides.
    once = torch.ones(1, 1, 16, 16, dtype=torch.float64)
    once[0, 0, 9, 9] = 2.0
    close = solve_darcy(once, 1.0, grid, tolerance=1e-12) - solve_darcy(once, 1.0, grid, method="direct")
    assert close.abs().max() < 1e-12


CASES = [
    ((33,), ["dirichlet"]),
    ((200,), [("neumann", "dirichlet")]),
    ((41, 64), ["periodic", "periodic"]),
    ((21, 30), ["periodic", "dirichlet"]),
    ((65, 38), ["dirichlet", ("neumann", "dirichlet")]),
    ((20, 12, 17), ["dirichlet"] * 3),
    ((13, 16, 10), ["periodic", "neumann", ("dirichlet", "neumann")]),
]


@compiled_only
@pytest.mark.parametrize("reaction", [False, True])
@pytest.mark.parametrize(("shape", "sides"), CASES)
def test_compiled_cycle_is_that_of_tensors(shape, sides, reaction):
    from sciml.solvers.elliptic.compiled import CompiledMultigrid

    grid = Grid(shape, (1.0,) * len(shape), sides, centering="cell")
    lost = random(1, *shape, seed=2).abs() if reaction else None
    problem = discretise(random(1, *shape).abs() + 0.2, grid, None, lost)
    b = random(1, *problem.operator.shape, seed=1)
    if problem.singular:
        b = b - b.mean()
    expected = Multigrid(problem.operator, singular=problem.singular)(b)[0]
    largest = max(float(k.abs().max()) for k in problem.operator.faces)
    # Rounding of some tens of operations, in either precision.
    for precision, allowed in ((torch.float64, 1e-13), (torch.float32, 2e-5)):
        loops = CompiledMultigrid(problem.operator, singular=problem.singular, precision=precision)
        space = loops.workspace()
        loops.prepare(space, 0)
        found = loops.cycle(space, b[0]).double() / largest
        if problem.singular:
            found = found - found.mean()
        assert (found - expected).abs().max() < allowed * expected.abs().max()


@compiled_only
@pytest.mark.parametrize(("shape", "sides"), CASES)
def test_compiled_solution_is_that_of_tensors(shape, sides):
    grid = Grid(shape, (1.0,) * len(shape), sides, centering="node")
    a, f = random(2, 1, *shape).abs() + 0.2, random(3, 1, *shape, seed=1)[:2]
    if problem_is_closed(grid):
        f = f - (f * grid.weights()).sum(dim=tuple(range(2, f.ndim)), keepdim=True) / grid.volume
    one, other = (
        solve_darcy(a, f, grid, tolerance=1e-12, method="multigrid", compiled=c) for c in (True, False)
    )
    # Both reach 1e-12; condition numbers are up to 1e4.
    assert (one - other).abs().max() < 1e-8 * other.abs().max()


def problem_is_closed(grid: Grid) -> bool:
    return not any("dirichlet" in pair for pair in grid.sides)


@compiled_only
def test_compiled_loops_take_as_many_iterations_and_serve_threads():
    from sciml.linear import conjugate_gradient
    from sciml.solvers.elliptic.compiled import CompiledMultigrid

    grid = Grid((70, 61), (1.0, 1.0), "dirichlet")
    a = torch.where(random(3, 70, 61) > 0, 12.0, 3.0).double()
    problem = discretise(a, grid)
    b = random(3, *problem.operator.shape, seed=1)
    tensors = conjugate_gradient(problem.operator, b, preconditioner=Multigrid(problem.operator))
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            x, iterations, residuals = CompiledMultigrid(problem.operator).solve(b, 1e-10, 100)
            # Single precision in the cycle may cost one iteration.
            assert (abs(iterations - tensors.iterations.numpy()) <= 1).all()
            assert (residuals <= 1e-10).all()
            true = problem.operator.residual(x, b).flatten(1).norm(dim=1) / b.flatten(1).norm(dim=1)
            assert (true <= 1.01e-10).all()
    finally:
        torch.set_num_threads(before)


@compiled_only
def test_what_single_precision_cannot_reach_goes_on_in_double():
    grid = Grid((48, 48), (1.0, 1.0), "dirichlet", centering="cell")
    a = 10.0 ** (
        6 * torch.rand(1, 1, 48, 48, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    )
    f = torch.ones_like(a)
    found = solve_darcy(a, f, grid, tolerance=1e-9, method="multigrid", max_iterations=2000)
    exact = solve_darcy(a, f, grid, method="direct")
    assert (found - exact).abs().max() < 1e-5 * exact.abs().max()
    with pytest.raises(ValueError, match="that is not finite"):
        solve_darcy(a, f, grid, boundary_values=math.inf, method="multigrid")


@pytest.mark.parametrize("method", ["multigrid", "direct"])
@pytest.mark.parametrize("centering", ["node", "cell"])
def test_gradients_in_everything(centering, method):
    grid = Grid(
        (4, 5), (1.0, 1.0), [("dirichlet", "neumann"), ("neumann", "dirichlet")], centering=centering
    )
    a, c = random(2, 2, 4, 5).abs() + 0.5, random(2, 1, 4, 5, seed=1).abs()
    inputs = (
        a,
        c,
        random(2, 1, 4, 5, seed=2),
        random(2, 1, 5, seed=3),
        random(4, seed=4).abs(),
        random(4, seed=5),
    )

    def solve(a: Tensor, c: Tensor, f: Tensor, g: Tensor, film: Tensor, out: Tensor) -> Tensor:
        conditions = {"x-": Value(g), "y-": Robin(film, out), "x+": Flux(out[:1].expand(5))}
        return solve_darcy(a, f, grid, conditions=conditions, reaction=c, tolerance=1e-13, method=method)

    assert torch.autograd.gradcheck(solve, [v.requires_grad_() for v in inputs])


def test_gradients_through_transforms():
    grid = Grid((4, 5), (1.0, 1.0), ["periodic", ("neumann", "dirichlet")], centering="cell")
    a, f = torch.tensor(1.7, dtype=torch.float64), random(2, 1, 4, 5)
    inputs = (
        a.requires_grad_(),
        f.requires_grad_(),
        torch.tensor(0.3, dtype=torch.float64).requires_grad_(),
    )
    solve = lambda a, f, g: solve_darcy(a, f, grid, boundary_values=g, method="fft")  # noqa: E731
    assert torch.autograd.gradcheck(solve, inputs)
    assert torch.autograd.gradgradcheck(solve, inputs)


def test_numbers_are_taken_in_double_precision():
    grid = Grid((3, 3), (1.0, 1.0), "dirichlet", centering="cell")
    for values in (
        dict(boundary_values=0.1),
        dict(conditions={s: Value(0.1) for s in ("x-", "x+", "y-", "y+")}),
    ):
        u = solve_darcy(1.0, 0.0, grid, **values)
        assert (u - 0.1).abs().max() < 1e-15


def test_values_of_a_side_on_cells_and_corners_of_nodes():
    nodes = Grid((5, 4), (1.0, 1.0), "dirichlet")
    u = solve_darcy(1.0, 0.0, nodes, conditions={"x-": Value(torch.arange(4.0)), "y+": Value(9.0)})
    assert u[0, 0, 0].tolist() == [0.0, 1.0, 2.0, 9.0]  # the later axis has the corner
    assert u[0, 0, :, 3].tolist() == [9.0] * 5
    cells = Grid((8, 8), (1.0, 1.0), ["dirichlet", "periodic"], centering="cell")
    field = random(2, 1, 8)
    by_field = solve_darcy(1.0, 0.0, cells, conditions={"x+": Value(field)})
    one = solve_darcy(1.0, 0.0, cells, conditions={"x+": Value(field[1, 0])})
    torch.testing.assert_close(by_field[1:], one, rtol=1e-12, atol=1e-14)


def test_refusals_name_sides_and_cells():
    grid = Grid((8, 8), (1.0, 1.0), [("dirichlet", "neumann"), "periodic"], centering="cell")
    a = torch.ones(2, 1, 8, 8, dtype=torch.float64)
    a[1, 0, 3, 4] = -1.0
    with pytest.raises(ValueError, match=r"1 of 128 are not: sample 1, cells \(3, 4\)"):
        solve_darcy(a, 1.0, grid)
    cases = [
        ({"x+": Value(1.0)}, "The side x\\+ is 'neumann'; Value is a condition of sides 'dirichlet'"),
        ({"x-": Robin(1.0)}, "The side x- is 'dirichlet'; Robin"),
        ({"z-": Flux(1.0)}, r"sides \['z-'\]; this grid has"),
        ({"x+": 3.0}, "expected Value, Flux or Robin"),
        ({"x+": Robin(-1.0)}, "coefficient -1; expected at least zero"),
        ({"x+": Robin(math.nan)}, "coefficient that is not finite"),
        ({"x+": Flux(torch.ones(3))}, r"x\+ got values of shape \(3,\); expected a number, \(8,\)"),
        ({"x+": Robin(-1j)}, "complex boundary data"),
    ]
    for conditions, message in cases:
        with pytest.raises(ValueError, match=message):
            solve_darcy(1.0, 1.0, grid, conditions=conditions)
    with pytest.raises(ValueError, match="reaction with the smallest value -2.*solve_helmholtz"):
        solve_darcy(1.0, 1.0, grid, reaction=-2.0)
    with pytest.raises(ValueError, match=r"expected \(B, 1, \*\(8, 8\)\) or \(B, 2, \*\(8, 8\)\)"):
        solve_darcy(torch.ones(1, 3, 8, 8), 1.0, grid)
    with pytest.raises(ValueError, match="1 coefficients for 2 axes"):
        discretise([torch.ones(1, 8, 8)], grid)
    # A film or a loss holds the level: no gauge is needed, no balance asked for.
    closed = Grid((8, 8), (1.0, 1.0), "neumann", centering="cell")
    assert torch.isfinite(solve_darcy(1.0, 1.0, closed, conditions={"x-": Robin(1.0)})).all()
    assert solve_darcy(1.0, 1.0, closed, reaction=2.0).flatten() == pytest.approx(torch.full((64,), 0.5))
    with pytest.raises(ValueError, match="Subtract the mean of the source"):
        solve_darcy(1.0, 1.0, closed, conditions={"x-": Robin(0.0)})


def test_balances_hold():
    # What the source gives leaves through the sides: sum of A u = sum of b, exactly.
    grid = Grid((12, 10), (1.0, 1.0), "neumann", centering="cell")
    a, f = random(1, 1, 12, 10).abs() + 0.5, random(1, 1, 12, 10, seed=1)
    u = solve_darcy(a, f, grid, conditions={"x-": Robin(2.0, 1.0)}, tolerance=1e-13)
    h, edge = grid.spacing[0], a[0, 0, 0]
    wall = (2 * edge / h * u[0, 0, 0] + 1.0) / (2 * edge / h + 2.0)
    out = ((2.0 * wall - 1.0) * grid.spacing[1]).sum()
    assert float(out) == pytest.approx(float((f[0, 0] * grid.weights()).sum()), abs=1e-11)


def test_joined_axes_follow_strength():
    thin = Diffusion((torch.full((1, 65, 64), 100.0), torch.full((1, 64, 65), 1.0)), (False, False))
    from sciml.solvers.elliptic.multigrid import plan

    # Pairs along the strong axis couple half as strongly along it and twice as strongly across it.
    assert plan(thin)[:3] == [[0], [0], [0]]
    assert [0, 1] in plan(thin)
