"""The Helmholtz equation: plane waves, cavities, point sources, layers, gradients, refusals."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from scipy.special import hankel1
from torch import Tensor

from sciml import Grid
from sciml.linear import NotConverged
from sciml.solvers.elliptic import (
    AbsorbingLayer,
    Robin,
    Value,
    points_per_wavelength,
    solve_darcy,
    solve_helmholtz,
)

METHODS = ["fft", "direct", "gmres", "bicgstab"]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(autouse=True)
def resolved() -> Iterator[None]:
    """Too few points are an error here, unless a test expects the warning."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="solve_helmholtz got .* points per wavelength")
        yield


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("centering", ["node", "cell"])
def test_plane_wave_leaves_through_an_open_side(centering, method):
    k, errors = 20.0, []
    for n in (100, 200):
        grid = Grid((n,), (1.0,), [("dirichlet", "outflow")], centering=centering)
        u = solve_helmholtz(k, 0.0, grid, boundary_values=1.0, method=method)
        errors.append(float((u[0, 0] - torch.exp(1j * k * grid.axes()[0])).abs().max()))
        # The phase error over length 1 is k (kh)^2 / 24; the side adds as much again.
        assert errors[-1] < 3 * k * (k * grid.spacing[0]) ** 2 / 24
    assert math.log2(errors[0] / errors[1]) == pytest.approx(2.0, abs=0.1)


def test_a_wrong_sign_at_the_open_side_is_caught():
    # A side that lets exp(-ikx) out sends exp(ikx) back: standing waves, an error of order one.
    grid = Grid((100,), (1.0,), [("dirichlet", "neumann")])
    wave = torch.exp(20j * grid.axes()[0])
    for film, level in ((-20j, 0.05), (20j, math.inf)):
        u = solve_helmholtz(20.0, 0.0, grid, boundary_values=1.0, conditions={"x+": Robin(film)})
        error = float((u[0, 0] - wave).abs().max())
        assert error < level
    assert error > 1.0


@pytest.mark.parametrize("dimension", [1, 2, 3])
@pytest.mark.parametrize("sides", ["dirichlet", "neumann", "periodic"])
def test_closed_boxes_are_of_second_order_by_every_method(sides, dimension):
    n = {1: 48, 2: 20, 3: 12}[dimension]
    k, errors = 4.0, []
    for points in (n, 2 * n):
        grid = Grid((points,) * dimension, (1.0,) * dimension, sides, centering="cell")
        x = grid.coordinates()
        # A mode of the box that is driven off its resonance: (dimension (2 pi)^2 - k^2) u = f.
        wave = torch.sin if sides == "dirichlet" else torch.cos
        u = wave(2 * math.pi * x).prod(dim=0)[None, None]
        f = (dimension * 4 * math.pi**2 - k**2) * u
        # Factors of a cube fill in too much for a quick test.
        others = ("direct", "gmres") if math.prod(grid.shape) < 5000 else ("gmres",)
        found = {m: solve_helmholtz(k, f, grid, method=m, tolerance=1e-11) for m in ("fft", *others)}
        errors.append(float((found["fft"] - u).abs().max()))
        assert found["fft"].dtype == torch.float64
        for other in others:
            assert (found[other] - found["fft"]).abs().max() < 1e-9
    assert math.log2(errors[0] / errors[1]) == pytest.approx(2.0, abs=0.15)


@pytest.mark.parametrize("method", ["direct", "bicgstab"])
def test_point_source_in_an_absorbing_layer(method):
    k, errors = 30.0, []
    for n in (80, 160):
        grid = Grid((n + 1, n + 1), (1.0, 1.0), "neumann")
        f = torch.zeros(1, 1, n + 1, n + 1, dtype=torch.float64)
        f[0, 0, n // 2, n // 2] = n * n
        u = solve_helmholtz(k, f, grid, absorbing=AbsorbingLayer(0.2), method=method, tolerance=1e-9)
        x = grid.coordinates() - 0.5
        r = x.square().sum(dim=0).sqrt()
        seen = (r > 0.1) & (x.abs().amax(dim=0) < 0.28)
        exact = torch.from_numpy(0.25j * hankel1(0, k * r.clamp(min=1e-9).numpy()))
        errors.append(float((u[0, 0] - exact).abs()[seen].max() / exact.abs()[seen].max()))
    assert errors[1] < 0.01
    assert math.log2(errors[0] / errors[1]) == pytest.approx(2.0, abs=0.25)


def test_the_layer_reflects_what_it_says():
    # A wave enters at the left and fades in the layer before the wall at the right: r is what comes back.
    k, n = 20.0, 2000
    grid = Grid((n,), (1.0,), "dirichlet")
    for reflection in (1e-2, 1e-3):
        layer = AbsorbingLayer(0.3, ("x+",), reflection)
        u = solve_helmholtz(k, 0.0, grid, conditions={"x-": Value(1.0)}, absorbing=layer, method="direct")
        x, inside = grid.axes()[0], grid.axes()[0] < 0.69
        both = torch.stack([torch.exp(1j * k * x), torch.exp(-1j * k * x)], dim=1)[inside]
        forth, back = torch.linalg.lstsq(both, u[0, 0, inside].unsqueeze(1)).solution.flatten()
        assert float((back / forth).abs()) == pytest.approx(reflection, rel=0.01)


def test_variable_medium_agrees_between_methods_and_with_layers_worked_out_by_hand():
    # k = 10 for x < 1/2 and 20 beyond, out at both ends: transmission 2 k1 / (k1 + k2) at the interface.
    n = 2000
    grid = Grid((n,), (1.0,), [("neumann", "outflow")], centering="cell")
    x = grid.axes()[0]
    k = torch.where(x < 0.5, 10.0, 20.0).double()[None, None]
    u = solve_helmholtz(k, 0.0, grid, conditions={"x-": Robin(-10j, -20j)})  # a wave of one enters
    through = 2 * 10 / 30 * torch.exp(0.5j * 10 + 1j * 20 * (x - 0.5))
    right = x > 0.5
    assert float((u[0, 0] - through).abs()[right].max()) < 0.01
    plane = Grid((40, 40), (1.0, 1.0), "outflow", centering="cell")
    varied = 12.0 + 4.0 * torch.sin(5 * plane.coordinates().sum(dim=0))[None, None].expand(2, 1, 40, 40)
    f = random(2, 1, 40, 40)
    exact = solve_helmholtz(varied, f, plane, method="direct")
    for method in ("gmres", "bicgstab"):
        for preconditioner in ("fast", "multigrid"):
            found = solve_helmholtz(
                varied, f, plane, method=method, preconditioner=preconditioner, tolerance=1e-10
            )
            assert (found - exact).abs().max() < 1e-7 * exact.abs().max()


def test_iterations_of_the_fast_preconditioner_stay_few():
    from sciml.linear import gmres
    from sciml.solvers.elliptic.helmholtz import _discretised, _Solver

    counts = []
    for n in (32, 64, 128):
        grid = Grid((n, n), (1.0, 1.0), "outflow", centering="cell")
        x = grid.coordinates()
        bump = 1 - 0.3 * torch.exp(-20 * (x - 0.5).square().sum(dim=0))
        k = (2 * math.pi * n / 12 * bump)[None]
        problem = _discretised(k, k.square(), grid, None, None, 0.0)
        solver = _Solver(problem, k, grid, None, None, 0.0, "gmres", "fast")
        b = random(1, n, n).to(torch.complex128)
        cycle = solver._fast(exact=False)
        found = gmres(problem.operator, b, preconditioner=cycle, tolerance=1e-6, restart=100)
        counts.append(int(found.iterations))
    # 2.7, 5.3 and 10.7 wavelengths: linear growth.
    assert counts[0] <= 15 and counts[2] <= 60


def test_damping_of_the_medium():
    grid = Grid((400,), (1.0,), [("dirichlet", "outflow")])
    u = solve_helmholtz(20.0, 0.0, grid, boundary_values=1.0, damping=0.1)
    root = 20.0 * (1 + 0.1j) ** 0.5
    inside = grid.axes()[0] < 0.5
    wave = torch.exp(1j * root * grid.axes()[0])
    # The open side is made for no damping: it returns 2.5 %, damped once more.
    assert float((u[0, 0] - wave).abs()[inside].max()) < 0.02


@pytest.mark.parametrize("method", ["direct", "gmres"])
def test_gradients(method):
    grid = Grid((4, 5), (0.4, 0.5), [("dirichlet", "outflow"), ("neumann", "outflow")], centering="cell")
    k = 3.0 + random(2, 1, 4, 5).abs() * 0.2
    f = random(2, 1, 4, 5, seed=1).to(torch.complex128)
    value = torch.tensor(0.3 + 0.1j, dtype=torch.complex128)

    def solve(k: Tensor, f: Tensor, value: Tensor) -> Tensor:
        return solve_helmholtz(k, f, grid, conditions={"x-": Value(value)}, method=method, tolerance=1e-13)

    assert torch.autograd.gradcheck(solve, [v.requires_grad_() for v in (k, f, value)], fast_mode=True)
    real = Grid((4, 5), (0.4, 0.5), "dirichlet")
    f = random(1, 1, 4, 5).requires_grad_()
    layer = AbsorbingLayer(0.1, wavenumber=3.0)
    for absorbing in (None, layer):
        inputs = (k[:1].detach().requires_grad_(), f)
        assert torch.autograd.gradcheck(
            lambda k, f, layer=absorbing: solve_helmholtz(
                k, f, real, absorbing=layer, method=method, tolerance=1e-13
            ),
            inputs,
            fast_mode=True,
        )


def test_gradient_through_transforms():
    grid = Grid((5, 6), (0.4, 0.5), [("dirichlet", "outflow"), "periodic"], centering="cell")
    k = torch.tensor([3.0, 2.0], dtype=torch.float64).reshape(2, 1, 1, 1).expand(2, 1, 5, 6)
    inputs = (k.clone().requires_grad_(), random(2, 1, 5, 6).requires_grad_())

    def solve(k: Tensor, f: Tensor) -> Tensor:
        return solve_helmholtz(k[:, :, :1, :1].expand(2, 1, 5, 6), f, grid, method="fft")

    assert torch.autograd.gradcheck(solve, inputs, fast_mode=True)


def test_static_limit_is_that_of_diffusion():
    grid = Grid((20, 20), (1.0, 1.0), "dirichlet")
    f = random(2, 1, 20, 20)
    slow, still = solve_helmholtz(1e-6, f, grid), solve_darcy(1.0, f, grid)
    assert (slow - still).abs().max() < 1e-10 * still.abs().max()
    single = solve_helmholtz(torch.ones(1, 1, 20, 20), f.float(), grid)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single, solve_helmholtz(1.0, f, grid).float(), rtol=1e-4, atol=1e-6)


def test_coarse_grids_are_told_with_the_number():
    grid = Grid((20,), (1.0,), "outflow", centering="cell")
    assert points_per_wavelength(20.0, grid) == pytest.approx(2 * math.pi / 20 * 20)
    with pytest.warns(UserWarning, match=r"6\.3 points per wavelength at the largest wavenumber 20; ten"):
        solve_helmholtz(20.0, 1.0, grid)


def test_refusals():
    closed = Grid((16, 16), (1.0, 1.0), "dirichlet", centering="cell")
    h = 1 / 16
    resonant = math.sqrt(2 * (2 - 2 * math.cos(math.pi * h)) / h**2)
    with pytest.raises(ValueError, match="of an eigenvalue of the closed box"):
        solve_helmholtz(resonant, 1.0, closed)
    cases = [
        (dict(wavenumber=-1.0), "not positive"),
        (dict(f=math.nan), "f with values that are not finite"),
        (dict(wavenumber=torch.ones(1, 1, 3, 3)), r"wavenumber of shape \(1, 1, 3, 3\)"),
        (
            dict(wavenumber=torch.ones(2, 1, 16, 16), f=torch.ones(3, 1, 16, 16)),
            "2 wavenumbers and 3 sources",
        ),
        (dict(method="cg"), "method='cg'"),
        (dict(preconditioner="ilu"), "preconditioner='ilu'"),
        (dict(damping=-0.1), "damping=-0.1"),
        (dict(absorbing=AbsorbingLayer(0.5)), "leaves nothing of the length 1"),
        (dict(absorbing=AbsorbingLayer(0.2, ("z+",))), r"the sides \['z\+'\]"),
        (dict(wavenumber=1 + random(1, 1, 16, 16).abs(), method="fft"), "wavenumber or sides that vary"),
    ]
    for change, message in cases:
        with pytest.raises(ValueError, match=message):
            solve_helmholtz(**{"wavenumber": 1.0, "f": 1.0, "grid": closed, **change})  # type: ignore[arg-type]
    outflow = Grid((16,), (1.0,), "outflow")
    with pytest.raises(ValueError, match="or an absorbing layer"):
        fine = Grid((120,), (1.0,), "neumann")
        solve_helmholtz(20.0, 1.0, fine, absorbing=AbsorbingLayer(0.2), method="fft")
    with pytest.raises(ValueError, match="make the side 'neumann'"):
        solve_helmholtz(1.0, 1.0, outflow, conditions={"x-": Robin(-1j)})
    with pytest.raises(ValueError, match="expected a positive length"):
        AbsorbingLayer(0.0)
    varied = 5 + random(1, 1, 16, 16).abs()
    with pytest.raises(NotConverged, match="gmres left 1 of 1"):
        solve_helmholtz(varied, 1.0, closed, method="gmres", max_iterations=1)
    # Conjugate gradients refuse the indefinite operator instead of wandering.
    from sciml.linear import conjugate_gradient
    from sciml.solvers.elliptic.helmholtz import _discretised

    k = torch.full((1, 16, 16), 12.0, dtype=torch.float64)
    problem = _discretised(k, k.square(), closed, None, None, 0.0)
    with pytest.raises(NotConverged, match="symmetric and positive"):
        conjugate_gradient(problem.operator, torch.ones(1, 16, 16, dtype=torch.float64))


def test_reciprocity():
    # The answer at B to a source at A is that at A to one at B, whatever lies between.
    grid = Grid((30, 30), (1.0, 1.0), "outflow", centering="cell")
    k = (8 + 4 * torch.sin(7 * grid.coordinates()[0]))[None, None]
    f = torch.zeros(2, 1, 30, 30, dtype=torch.float64)
    a, b = (5, 7), (22, 17)
    f[(0, 0, *a)] = f[(1, 0, *b)] = 1.0
    u = solve_helmholtz(k, f, grid, method="direct")
    np.testing.assert_allclose(complex(u[(0, 0, *b)]), complex(u[(1, 0, *a)]), rtol=1e-10)
