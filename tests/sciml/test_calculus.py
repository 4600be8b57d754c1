"""Derivatives against functions with known ones: orders, adjoints, gradients, refusals."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from sciml import Grid
from sciml.calculus import Autograd, Calculus, FiniteDifference, Spectral, Symbol
from sciml.calculus.finite_difference import stencil

SHAPES = [(16,), (15,), (12, 14), (9, 10), (8, 7, 10), (7, 9, 8)]
BOX = 2 * math.pi


def _periodic(shape: tuple[int, ...], **options: str) -> Grid:
    return Grid(shape, (2.0, 3.0, 1.5)[: len(shape)], **options)


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _wave(grid: Grid) -> tuple[Tensor, list[float], Tensor]:
    """sin(k.(x - origin) + 0.3) with two, one and two waves per side, its k and its phase."""
    k = [2 * math.pi * n / length for n, length in zip((2, 1, 2), grid.lengths, strict=False)]
    x = grid.coordinates()
    phase = 0.3 + sum(kd * xd for kd, xd in zip(k, x, strict=True))
    return torch.sin(phase)[None, None], k, phase


@pytest.mark.parametrize("centering", ["node", "cell"])
@pytest.mark.parametrize("shape", SHAPES)
def test_spectral_is_exact_for_resolved_waves(shape: tuple[int, ...], centering: str) -> None:
    grid = _periodic(shape, centering=centering)
    calc = Spectral(grid)
    u, k, phase = _wave(grid)
    for axis in range(grid.dimension):
        for order, exact in enumerate(
            (torch.sin, torch.cos, lambda p: -torch.sin(p), lambda p: -torch.cos(p))
        ):
            expected = k[axis] ** order * exact(phase)
            error = (calc.derivative(u, axis, order)[0, 0] - expected).abs().max()
            assert error < 1e-13 * max(
                1.0, (max(shape) * math.pi / 1.5) ** order
            )  # rounding of k_max^order
    square = sum(kd**2 for kd in k)
    assert (calc.laplacian(u) + square * u).abs().max() < 1e-10
    assert (calc.inverse_laplacian(u + 3.0) + u / square).abs().max() < 1e-13
    slope = torch.stack([kd * torch.cos(phase) for kd in k])
    assert (calc.gradient(u)[0, 0] - slope).abs().max() < 1e-11
    assert (calc.div(calc.gradient(u)) + square * u).abs().max() < 1e-9


def test_spectral_nyquist() -> None:
    """The sawtooth +1, -1 has no odd derivative and the even ones of a cosine."""
    grid = Grid((8,), (BOX,))
    u = torch.cos(4 * grid.coordinates())[None]
    calc = Spectral(grid)
    assert calc.derivative(u, 0).abs().max() < 1e-15  # rounding
    assert calc.derivative(u, 0, 3).abs().max() < 1e-15
    assert (calc.derivative(u, 0, 2) + 16 * u).abs().max() < 1e-12
    assert not calc.wavenumbers[0][4]


@pytest.mark.parametrize("shape", SHAPES)
def test_symbol_multiplies_as_spectral_differentiates(shape: tuple[int, ...]) -> None:
    spectral = Spectral(_periodic(shape))
    symbol = Symbol(spectral)
    u = _random(2, 1, *shape)
    modes = spectral.to_modes(u)
    assert modes.shape[2:] == spectral.symbol_shape
    assert (
        modes.real[(slice(None), slice(None), *[0] * len(shape))] - u.flatten(2).mean(2)
    ).abs().max() < 1e-14
    assert (spectral.to_points(modes) - u).abs().max() < 1e-14
    one = torch.ones(1, 1, *spectral.symbol_shape, dtype=torch.float64)
    for axis in range(len(shape)):
        for order in (1, 2, 3, 4):
            factor = symbol.derivative(one, axis, order)
            assert factor.is_complex() == (order % 2 == 1)
            direct = spectral.derivative(u, axis, order)
            gap = (spectral.to_points(factor * modes) - direct).abs().max()
            assert gap < 1e-13 * direct.abs().max()  # rounding
    for name in ("laplacian", "inverse_laplacian"):
        factor = getattr(symbol, name)(one)
        assert not factor.is_complex()
        direct = getattr(spectral, name)(u)
        assert (spectral.to_points(factor * modes) - direct).abs().max() < 1e-13 * direct.abs().max()
    assert symbol.laplacian(one.to(torch.complex128)).dtype == torch.complex128


@pytest.mark.parametrize("degree", [2, 3])
@pytest.mark.parametrize("shape", [(24,), (25,), (12, 18), (8, 9, 10)])
def test_dealiased_products_are_free_of_aliasing(shape: tuple[int, ...], degree: int) -> None:
    """The kept modes of a power of kept modes are those found on a grid three times as fine."""
    grid = _periodic(shape)
    coarse, fine = Spectral(grid), Spectral(grid.resized([3 * n for n in shape]))
    mask = coarse.dealias(degree)
    assert mask.shape == coarse.symbol_shape
    assert mask.dtype == torch.bool
    modes = coarse.to_modes(_random(1, 1, *shape)) * mask
    wide = torch.zeros(1, 1, *fine.symbol_shape, dtype=modes.dtype)
    where = [torch.fft.fftfreq(n, 1 / n).round().long() for n in shape[:-1]]
    where.append(torch.arange(shape[-1] // 2 + 1))
    grids = torch.meshgrid(*where, indexing="ij")
    wide[(0, 0, *grids)] = modes[0, 0]
    product = fine.to_modes(fine.to_points(wide) ** degree)[(0, 0, *grids)] * mask
    aliased = coarse.to_modes(coarse.to_points(modes) ** degree)[0, 0] * mask
    assert (aliased - product).abs().max() < 1e-14  # rounding
    assert coarse.dealias(1).all()


@pytest.mark.parametrize(
    "make",
    [
        Spectral,
        lambda g: FiniteDifference(g, 2),
        lambda g: FiniteDifference(g, 4),
        # The fourth derivative takes nine points.
        lambda g: FiniteDifference(g, 6 if min(g.shape) >= 9 else 4),
    ],
)
@pytest.mark.parametrize("shape", SHAPES)
def test_periodic_adjoints_and_inverse(make: Callable[[Grid], Calculus], shape: tuple[int, ...]) -> None:
    """<D u, v> = -<u, D v> and <lap u, v> = <u, lap v>; lap(lap^-1 u) = u - mean(u)."""
    calc = make(_periodic(shape))
    u, v = _random(1, 1, *shape), _random(1, 1, *shape, seed=1)
    for axis in range(len(shape)):
        for order, sign in ((1, -1), (2, 1), (3, -1), (4, 1)):
            du, dv = calc.derivative(u, axis, order), calc.derivative(v, axis, order)
            gap = (du * v).sum() - sign * (u * dv).sum()
            assert gap.abs() < 1e-12 * du.norm() * v.norm()  # rounding
            assert du.sum().abs() < 1e-12 * du.abs().sum()
    lu, lv = calc.laplacian(u), calc.laplacian(v)
    assert ((lu * v).sum() - (u * lv).sum()).abs() < 1e-12 * lu.norm() * v.norm()
    assert (lu * u).sum() < 0
    p = calc.inverse_laplacian(u)
    assert p.mean().abs() < 1e-15
    assert (calc.laplacian(p) - (u - u.mean())).abs().max() < 1e-12


@pytest.mark.parametrize("order", [2, 4, 6])
@pytest.mark.parametrize("centering", ["node", "cell"])
@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_finite_difference_order_on_periodic_grids(dimension: int, centering: str, order: int) -> None:
    errors = []
    for n in (16, 32):
        grid = Grid((n,) * dimension, (2.0, 3.0, 1.5)[:dimension], centering=centering)
        calc = FiniteDifference(grid, order)
        u, k, phase = _wave(grid)
        found = [(calc.laplacian(u)[0, 0] + sum(q**2 for q in k) * torch.sin(phase)).abs().max()]
        for axis in range(dimension):
            found.append((calc.derivative(u, axis)[0, 0] - k[axis] * torch.cos(phase)).abs().max())
            third = -(k[axis] ** 3) * torch.cos(phase)
            found.append((calc.derivative(u, axis, 3)[0, 0] - third).abs().max())
            fourth = k[axis] ** 4 * torch.sin(phase)
            found.append((calc.derivative(u, axis, 4)[0, 0] - fourth).abs().max())
        errors.append(torch.stack(found))
    slopes = torch.log2(errors[0] / errors[1])
    # at 8 points a wave the next term of the expansion still takes up to a third off the slope
    assert (slopes > order - 0.35).all() and (slopes < order + 0.35).all()


def _cosine(grid: Grid, shift: float) -> Tensor:
    return torch.cos(grid.coordinates() + shift).prod(dim=0)[None, None]


@pytest.mark.parametrize("order", [2, 4, 6])
@pytest.mark.parametrize(
    ("boundary", "centering"),
    [
        ("neumann", "node"),
        ("neumann", "cell"),
        ("outflow", "node"),
        ("outflow", "cell"),
        ("dirichlet", "node"),
        (("dirichlet", "neumann"), "node"),
    ],
)
@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_finite_difference_order_at_walls(
    dimension: int, boundary: str, centering: str, order: int
) -> None:
    """cos x on (0, pi) has zero gradient at both sides; cos(x + 1/2) has none where nothing is asked of it."""
    sides = boundary if isinstance(boundary, str) else (boundary,) * dimension
    free = boundary == "dirichlet"
    shift = 0.5 if free else 0.0
    errors = []
    # At order 6 the rounding of a fourth derivative, eps/dx^4, reaches its error beyond 40 points.
    sizes = (20, 40) if order == 6 else {1: (32, 64), 2: (32, 64), 3: (24, 48)}[dimension]
    for n in sizes:
        grid = Grid((n,) * dimension, (math.pi,) * dimension, boundary=sides, centering=centering)
        calc = FiniteDifference(grid, order)
        u = _cosine(grid, shift)
        found = [(calc.laplacian(u) + dimension * u).abs().max()]
        x = grid.coordinates()[0]
        for d in (1, 3, 4):
            ratio = {1: -torch.tan(x + shift), 3: torch.tan(x + shift), 4: torch.ones_like(x)}[d]
            found.append((calc.derivative(u, 0, d)[0, 0] - ratio * u[0, 0]).abs().max())
        errors.append(torch.stack(found))
    slopes = torch.log2(errors[0] / errors[1])
    # one-sided stencils reach their order from below; symmetric functions gain an order at the wall
    assert (slopes > order - 0.5).all(), slopes


def test_one_sided_stencils_are_exact_for_polynomials() -> None:
    """Order p means exact up to degree p + m - 1 (periodic wraps aside), at both ends."""
    grid = Grid((11,), (1.0,), boundary="dirichlet", origin=-0.3)
    x = grid.axes()[0]
    for order in (2, 4, 6):
        calc = FiniteDifference(grid, order)
        for derivative in (1, 2, 3, 4):
            for degree in range(order + derivative):
                factor = math.perm(degree, derivative)
                expected = factor * x ** max(degree - derivative, 0)
                found = calc.derivative((x**degree)[None, None], 0, derivative)[0, 0]
                assert (
                    found - expected
                ).abs().max() < 1e-8  # weights of a hundred, and rounding over dx^4 = 1e-4


def test_neumann_laplacian_keeps_the_weighted_sum_and_is_self_adjoint() -> None:
    for centering in ("node", "cell"):
        grid = Grid((9, 10), (1.0, 2.0), boundary=("neumann", ("outflow", "neumann")), centering=centering)
        w = grid.weights()
        u, v = _random(1, 1, 9, 10), _random(1, 1, 9, 10, seed=1)
        for order in (2, 4, 6):
            calc = FiniteDifference(grid, order)
            lu, lv = calc.laplacian(u), calc.laplacian(v)
            assert ((w * lu * v).sum() - (w * u * lv).sum()).abs() < 1e-12 * lu.norm()  # rounding
            assert (w * lu).sum().abs() < 1e-11


def test_compact_laplacian_sees_the_chequerboard() -> None:
    grid = Grid((8, 8), (1.0, 1.0))
    i = torch.arange(8)
    board = ((-1.0) ** (i[:, None] + i)).double()[None, None]
    calc = FiniteDifference(grid, 2)
    assert calc.derivative(board, 0).abs().max() == 0.0
    assert (calc.laplacian(board) + 8 * 64 * board).abs().max() < 1e-10


def test_stencils_are_the_textbook_ones() -> None:
    assert stencil((-1, 0, 1), 2) == (1.0, -2.0, 1.0)
    assert stencil((-2, -1, 0, 1, 2), 1) == (1 / 12, -8 / 12, 0.0, 8 / 12, -1 / 12)
    assert stencil((0, 1, 2), 1) == (-1.5, 2.0, -0.5)
    assert stencil((0, 1, 2, 3), 2) == (2.0, -5.0, 4.0, -1.0)
    assert stencil((-3, -2, -1, 0, 1, 2, 3), 4) == (-1 / 6, 2.0, -6.5, 28 / 3, -6.5, 2.0, -1 / 6)


@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_autograd_derivatives(dimension: int) -> None:
    x = _random(2, dimension, 5, 4).requires_grad_()
    t = _random(2, 1, 5, 4, seed=1).requires_grad_()
    calc = Autograd(x)
    k = torch.tensor([1.0, 2.0, -0.5], dtype=torch.float64)[:dimension]
    phase = (k.reshape(1, -1, 1, 1) * x).sum(1, keepdim=True) - 0.7 * t
    u = torch.cat([torch.sin(phase), torch.exp(0.3 * phase)], dim=1)
    for axis in range(dimension):
        third = torch.cat([-torch.cos(phase), 0.3**3 * torch.exp(0.3 * phase)], dim=1) * k[axis] ** 3
        assert (calc.derivative(u, axis, 3) - third).abs().max() < 1e-13  # rounding
    square = k.square().sum()
    lap = torch.cat([-torch.sin(phase), 0.09 * torch.exp(0.3 * phase)], dim=1) * square
    assert (calc.laplacian(u) - lap).abs().max() < 1e-13
    assert calc.gradient(u).shape == (2, 2, dimension, 5, 4)
    rate = -0.7 * torch.cat([torch.cos(phase), 0.3 * torch.exp(0.3 * phase)], dim=1)
    assert (calc.time_derivative(u, t) - rate).abs().max() < 1e-14
    # Straight lines and parabolas run out of graph, but not of derivatives.
    line, parabola = 3 * x[:, :1] + 1, x[:, :1].square()
    assert not calc.derivative(line, 0, 2).any()
    assert not calc.laplacian(calc.laplacian(parabola)).any()
    assert (calc.laplacian(parabola) - 2.0).abs().max() == 0.0


@pytest.mark.parametrize("shape", [(6,), (5, 6), (4, 5, 6)])
def test_gradients_flow_through_every_calculus(shape: tuple[int, ...]) -> None:
    bounded = Grid(
        (6,) * len(shape), (1.0,) * len(shape), boundary=(("dirichlet", "neumann"),) * len(shape)
    )
    calculi = [
        (Spectral(_periodic(shape)), shape),
        (FiniteDifference(_periodic(tuple(max(5, n) for n in shape)), 4), tuple(max(5, n) for n in shape)),
        (FiniteDifference(bounded, 2), bounded.shape),
    ]
    for calc, points in calculi:
        u = _random(1, 1, *points).requires_grad_()

        def energy(u: Tensor, calc: Calculus = calc) -> Tensor:
            out = calc.laplacian(u) + (u.unsqueeze(2) * calc.gradient(u)).sum(2)
            if calc.__class__ is Spectral:
                out = out + calc.inverse_laplacian(u) + calc.derivative(u, 0, 3)
            return 1e-2 * out.square().sum()

        assert torch.autograd.gradcheck(energy, (u,), atol=1e-5)


def test_gradients_flow_through_autograd_calculus() -> None:
    weights = _random(3, 2).requires_grad_()
    x = _random(1, 2, 4, seed=1)

    def residual(weights: Tensor) -> Tensor:
        points = x.clone().requires_grad_()
        u = torch.tanh(torch.einsum("ij,bjn->bin", weights, points)).sum(1, keepdim=True)
        return Autograd(points).laplacian(u)

    assert torch.autograd.gradcheck(residual, (weights,))


def test_functional_transforms_leave_no_trace() -> None:
    """A calculus first used inside jvp or inference mode works outside afterwards."""
    for make in (Spectral, FiniteDifference):
        calc = make(Grid((8, 8), (1.0, 1.0)))
        u = _random(1, 1, 8, 8)
        with torch.inference_mode():
            calc.inverse_laplacian(calc.laplacian(u))
        out, slope = torch.func.jvp(calc.laplacian, (u,), (u,))
        assert torch.equal(out, slope)
        both = torch.func.vmap(calc.laplacian)(torch.stack([u, 2 * u]))
        assert (both[1] - 2 * out).abs().max() < 1e-12
        v = u.clone().requires_grad_()
        calc.laplacian(v).square().sum().backward()
        assert v.grad is not None and torch.isfinite(v.grad).all()


@pytest.mark.parametrize("make", [Spectral, FiniteDifference])
def test_casting_the_module_keeps_the_operators_precise(make: Callable[[Grid], Calculus]) -> None:
    grid = Grid((32, 32), (1.0, 3.0))
    u = _random(1, 1, 32, 32)
    expected = make(grid).inverse_laplacian(u)
    cast = make(grid).float().to(torch.bfloat16).half()
    assert torch.equal(cast.inverse_laplacian(u), expected)
    assert not cast.state_dict()
    single = cast.inverse_laplacian(u.float())
    assert single.dtype == torch.float32
    assert (single.double() - expected).abs().max() < 1e-6 * expected.abs().max() * 10  # float32 rounding


def test_forcing_terms_find_their_points() -> None:
    grid = Grid((4, 6), (1.0, 2.0), origin=(1.0, -1.0))
    u = torch.zeros(1, 1, 4, 6)
    for calc in (Spectral(grid), FiniteDifference(grid)):
        points = calc.coordinates(u)
        assert points.dtype == torch.float32
        assert torch.equal(points[0], grid.coordinates(torch.float32))
    x = torch.rand(2, 2, 3, requires_grad=True)
    assert torch.equal(Autograd(x).coordinates(u), x)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: Spectral(Grid((8, 8), (1.0, 1.0), boundary=("periodic", "neumann"))),
            ValueError,
            "periodic",
        ),
        (lambda: FiniteDifference(Grid((8,), (1.0,)), 3), ValueError, "order 3"),
        (lambda: FiniteDifference(Grid((8,), (1.0,), boundary="wall")), ValueError, "wall"),
        (
            lambda: FiniteDifference(Grid((8,), (1.0,), boundary="dirichlet", centering="cell")),
            ValueError,
            "no cell carries",
        ),
        (lambda: FiniteDifference(Grid((4,), (1.0,)), 4), ValueError, "at least 5"),
        (lambda: Autograd(torch.zeros(1, 2, 3)), ValueError, "requires_grad_"),
        (lambda: Autograd(torch.zeros(1, 5, 3, requires_grad=True)), ValueError, r"\(B, D, \*points\)"),
        (lambda: Spectral(Grid((8,), (1.0,))).derivative(torch.zeros(1, 1, 8), 1), ValueError, "axis 1"),
        (
            lambda: Spectral(Grid((8,), (1.0,))).laplacian(torch.zeros(1, 1, 9)),
            ValueError,
            r"points \(9,\)",
        ),
        (
            lambda: FiniteDifference(Grid((8,), (1.0,))).laplacian(torch.zeros(1, 1, 9)),
            ValueError,
            r"\(9,\)",
        ),
        (
            lambda: FiniteDifference(Grid((5,), (1.0,)), 4).derivative(torch.zeros(1, 1, 5), 0, 4),
            ValueError,
            "at least 7",
        ),
        (
            lambda: FiniteDifference(Grid((8,), (1.0,), boundary="neumann")).inverse_laplacian(
                torch.zeros(1, 1, 8)
            ),
            TypeError,
            "periodic grids only",
        ),
        (lambda: Spectral(Grid((8,), (1.0,))).dealias(0), ValueError, "degree 0"),
        (
            lambda: Autograd(torch.zeros(1, 1, 3, requires_grad=True)).laplacian(torch.zeros(1, 1, 3)),
            ValueError,
            "carries no gradient",
        ),
        (
            lambda: Autograd(torch.zeros(1, 1, 3, requires_grad=True)).inverse_laplacian(
                torch.zeros(1, 1, 3)
            ),
            TypeError,
            "no inverse Laplacian",
        ),
        (
            lambda: Symbol(Spectral(Grid((8,), (1.0,)))).coordinates(torch.zeros(1, 1, 5)),
            TypeError,
            "knows no points",
        ),
    ],
)
def test_refusals(make: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_the_language_needs_torch_and_numpy_only() -> None:
    """Importing it loads none of the heavy parts."""
    code = (
        "import sys, sciml, sciml.calculus, sciml.pdes, sciml.fields;"
        "heavy = {'lightning', 'torch_geometric', 'pyvista', 'neuralop', 'skfem', 'matplotlib', 'scipy'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
