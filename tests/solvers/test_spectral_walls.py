"""Pseudo-spectral steps between sides: exact solutions, orders, symmetry, gradients, refusals."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from sciml.calculus import Calculus, Trigonometric
from sciml.domains import Cloud, Grid
from sciml.errors import UserError
from sciml.pdes import (
    Advection,
    Burgers,
    Heat,
    KuramotoSivashinsky,
    NavierStokes,
    NavierStokesVorticity,
    SemiLinear,
)
from sciml.solvers import build
from sciml.solvers.lanes import available
from sciml.solvers.spectral import Form, PseudoSpectral, pseudo_spectral
from sciml.step import rollout
from sciml.trajectory import Field

DOUBLE = torch.float64
PI = math.pi
# Phases that turn cos(m x) into the series of a pair of sides of a box of side pi, and the lowest numbers m.
SERIES = {
    "periodic": (2.0, 0.4),
    "dirichlet": (1.0, -PI / 2),
    "neumann": (1.0, 0.0),
    ("dirichlet", "neumann"): (0.5, -PI / 2),
    ("neumann", "dirichlet"): (0.5, 0.0),
}
BOXES = [
    ("dirichlet",),
    ("neumann",),
    (("neumann", "dirichlet"),),
    ("dirichlet", "dirichlet"),
    ("neumann", "neumann"),
    ("periodic", "dirichlet"),
    (("dirichlet", "neumann"), "neumann"),
    ("dirichlet", "dirichlet", "dirichlet"),
    ("neumann", "neumann", "neumann"),
    ("periodic", "neumann", "dirichlet"),
]


def _box(sides: tuple[object, ...], n: int) -> Grid:
    """A box of side pi with n points per half wave of the lowest waves; bounded axes include both ends."""
    shape = tuple(2 * n if side == "periodic" else n + 1 for side in sides)
    return Grid(shape, (PI,) * len(sides), boundary=sides)  # type: ignore[arg-type]


def _mode(grid: Grid, sides: tuple[object, ...], times: int = 1) -> tuple[Tensor, float]:
    """A product of waves that fits the sides, `times` the lowest odd multiple, and its |k|^2."""
    u, square = torch.ones(grid.shape, dtype=DOUBLE), 0.0
    for side, x in zip(sides, grid.coordinates(), strict=True):
        number, phase = SERIES[side]  # type: ignore[index]
        u = u * torch.cos(times * number * x + (phase * times if side != "periodic" else phase))
        square += (times * number) ** 2
    return u[None, None], square


@dataclass(frozen=True)
class Folded(SemiLinear):
    """u_t = lap(u) + tanh(u) |grad u|^2, for which sinh(u) solves the heat equation: odd in u."""

    fields: ClassVar[tuple[Field, ...]] = (Field("u"),)

    def linear(self, u: Tensor, calc: Calculus) -> Tensor:
        return calc.laplacian(u)

    def nonlinear(self, u: Tensor, calc: Calculus) -> Tensor:
        return torch.tanh(u) * calc.gradient(u).square().sum(dim=2)


@dataclass(frozen=True)
class Separating(SemiLinear):
    """u_t = lap(u^3 - u) - 0.1 lap lap u, with the linear parts apart."""

    fields: ClassVar[tuple[Field, ...]] = (Field("u"),)
    degree: ClassVar[int] = 3

    def linear(self, u: Tensor, calc: Calculus) -> Tensor:
        curvature = calc.laplacian(u)
        return -curvature - 0.1 * calc.laplacian(curvature)

    def nonlinear(self, u: Tensor, calc: Calculus) -> Tensor:
        return calc.laplacian(u**3)


@dataclass(frozen=True)
class Logistic(SemiLinear):
    """u_t = lap(u) + u (1 - u): even about no Dirichlet side."""

    fields: ClassVar[tuple[Field, ...]] = (Field("u"),)

    def linear(self, u: Tensor, calc: Calculus) -> Tensor:
        return calc.laplacian(u) + u

    def nonlinear(self, u: Tensor, calc: Calculus) -> Tensor:
        return -u.square()


@dataclass(frozen=True)
class Sound(SemiLinear):
    """p_t = -div v, v_t = -grad p: odd derivatives that couple odd and even channels."""

    fields: ClassVar[tuple[Field, ...]] = (Field("pressure"), Field("velocity", rank=1))

    def linear(self, u: Tensor, calc: Calculus) -> Tensor:
        pressure, velocity = u[:, :1], u[:, 1:]
        return torch.cat([-calc.div(velocity.unsqueeze(1)), -calc.gradient(pressure)[:, 0]], dim=1)

    def nonlinear(self, u: Tensor, calc: Calculus) -> Tensor:
        return torch.zeros_like(u)


def _potential_burgers(grid: Grid, t: float, nu: float) -> Tensor:
    """-2 nu grad(phi)/phi, phi = 1 + a exp(-D nu t) prod cos(x_d): between walls of a box of side pi."""
    x = grid.coordinates()
    a = 0.5 * math.exp(-grid.dimension * nu * t)
    phi = 1 + a * torch.cos(x).prod(dim=0)
    slopes = []
    for axis in range(grid.dimension):
        other = torch.cat([torch.cos(x[:axis]), torch.cos(x[axis + 1 :])]).prod(dim=0)
        slopes.append(-a * torch.sin(x[axis]) * other)
    return (-2 * nu * torch.stack(slopes) / phi)[None]


@pytest.mark.parametrize("sides", BOXES, ids=str)
@pytest.mark.parametrize("n", [8, 9])
def test_heat_modes_decay_exactly(sides: tuple[object, ...], n: int) -> None:
    grid = _box(sides, n)
    step = pseudo_spectral(Heat(0.3), grid, 0.7)
    assert step.linear and "exact in time" in step.method
    u, square = _mode(grid, sides)
    high, high_square = _mode(grid, sides, times=3)
    expected = math.exp(-0.21 * square) * u + 2 * math.exp(-0.21 * high_square) * high
    assert float((step(u + 2 * high) - expected).abs().max()) < 1e-14


@pytest.mark.parametrize("sides", BOXES, ids=str)
def test_a_nonlinear_equation_converges_like_a_spectral_method(sides: tuple[object, ...]) -> None:
    errors = []
    sizes = (6, 12, 24) if len(sides) < 3 else (4, 8, 16)
    for n in sizes:
        grid = _box(sides, n)
        mode, square = _mode(grid, sides)
        got = pseudo_spectral(Folded(), grid, 0.1, substeps=20)(torch.asinh(0.8 * mode))
        exact = torch.asinh(0.8 * math.exp(-0.1 * square) * mode)
        errors.append(float((got - exact).abs().max()))
    # Twice the points square the error of an analytic field; quarter waves and time's floor leave less.
    assert errors[0] / errors[1] > 10
    assert errors[2] < 1e-7 and errors[1] / errors[2] > 50


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("side", ["dirichlet", "neumann"])
def test_order_in_time(order: int, side: str) -> None:
    grid = _box((side,), 48)
    mode, square = _mode(grid, (side,))
    exact = torch.asinh(0.8 * math.exp(-0.4 * square) * mode)
    errors = []
    for substeps in (8, 16):
        step = pseudo_spectral(Folded(), grid, 0.4, substeps=substeps, order=order)
        errors.append(float((step(torch.asinh(0.8 * mode)) - exact).norm()))
    # Stiff order reduction and the next term of the error at a substep of 1/40.
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.35)


@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_burgers_between_walls_matches_a_potential_flow(dimension: int) -> None:
    nu = 0.2
    errors = []
    for n in (8, 16):
        grid = _box(("wall",) * dimension, n)
        u = _potential_burgers(grid, 0.0, nu)
        got = pseudo_spectral(Burgers(nu), grid, 0.5, substeps=8)(u)
        errors.append(float((got - _potential_burgers(grid, 0.5, nu)).abs().max()))
        for axis in range(dimension):
            assert float(got[:, axis].select(1 + axis, 0).abs().max()) == 0.0
    assert errors[1] < 1e-6 and errors[0] / errors[1] > 50


@pytest.mark.parametrize("n", [32, 45])
@pytest.mark.parametrize("form", ["generic", "packed", *(["lanes"] if available() else [])])
def test_odd_burgers_between_walls_is_the_periodic_one_on_the_doubled_box(n: int, form: Form) -> None:
    grid = Grid((n + 1,), (1.0,), boundary="dirichlet", origin=0.5)
    double = Grid((2 * n,), (2.0,), origin=0.5)

    def start(g: Grid) -> Tensor:
        x = g.coordinates()[None] - 0.5
        amplitudes = torch.tensor([1.0, -0.4, 0.3], dtype=DOUBLE)
        return torch.stack(
            [
                sum(a * (j + 1) * torch.sin((i + 1) * PI * x) for i, a in enumerate(amplitudes))
                for j in range(3)
            ]
        )[:, 0]

    walls = pseudo_spectral(Burgers(0.05), grid, 0.05, substeps=4, form=form)
    periodic = pseudo_spectral(Burgers(0.05), double, 0.05, substeps=4, form="generic")
    u, v = rollout(walls, 20)(start(grid))[:, -1], rollout(periodic, 20)(start(double))[:, -1]
    assert walls.form == form
    # Rounding of 80 substeps.
    assert float((u - v[..., : n + 1]).abs().max()) < 1e-12
    assert float(u[..., 0].abs().max()) == 0.0 == float(u[..., -1].abs().max())


def test_neumann_sides_conserve_mass() -> None:
    grid = Grid((17, 16), (2 * PI, 3.0), boundary=("neumann", "periodic"))
    u = 0.2 * torch.randn(2, 1, 17, 16, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    end = rollout(pseudo_spectral(Separating(), grid, 0.02, substeps=4), 50)(u)[:, -1]
    mass = ((end - u) * grid.weights()).sum(dim=(2, 3)).abs().max()
    assert float(mass) < 1e-12 * grid.volume
    # The phases did separate.
    assert float((end - u).abs().max()) > 0.3


def test_sound_stands_between_walls() -> None:
    """Odd derivatives of the linear part are allowed where they keep the symmetry."""
    grid = Grid((9, 8), (PI, PI), boundary=("wall", "periodic"))
    x = grid.coordinates()[0]
    zero = torch.zeros_like(x)
    u = torch.stack([torch.cos(2 * x), zero, zero])[None]
    got = pseudo_spectral(Sound(), grid, 0.7)(u)
    expected = torch.stack([math.cos(1.4) * torch.cos(2 * x), math.sin(1.4) * torch.sin(2 * x), zero])[None]
    assert float((got - expected).abs().max()) < 1e-13


def test_vorticity_in_a_frictionless_box() -> None:
    """Taylor-Green vortices fill the box; an odd vorticity has no flow through its sides."""
    grid = Grid((17, 17), (PI, PI), boundary="dirichlet")
    x, y = grid.coordinates()
    vortex = (torch.sin(x) * torch.sin(y))[None, None]
    step = pseudo_spectral(NavierStokesVorticity(0.1), grid, 0.5, substeps=5)
    assert float((step(vortex) - math.exp(-0.1) * vortex).abs().max()) < 1e-13
    generator = torch.Generator().manual_seed(0)
    rough = torch.randn(1, 1, 17, 17, generator=generator, dtype=DOUBLE)
    rough = step.sides.restrict(step.sides.extend(rough)) if step.sides else rough
    generic = pseudo_spectral(NavierStokesVorticity(0.1), grid, 0.5, substeps=5, form="generic")
    assert float((step(rough) - generic(rough)).abs().max()) < 1e-13


def test_velocity_between_walls_is_vorticity_between_dirichlet_sides() -> None:
    """Two statements of one flow: slip along the walls has a vorticity that is odd about them."""
    grid = _box(("wall", "wall"), 32)
    x, y = grid.coordinates()
    modes = [(1, 1, 0.7), (2, 1, -0.5), (1, 3, 0.2)]

    def each(term: Callable[[int, int], Tensor]) -> Tensor:
        return torch.stack([a * term(m, n) for m, n, a in modes]).sum(dim=0)[None, None]

    # Of the stream function sum a sin(m x) sin(n y).
    u = each(lambda m, n: n * torch.sin(m * x) * torch.cos(n * y))
    v = each(lambda m, n: -m * torch.cos(m * x) * torch.sin(n * y))
    w = each(lambda m, n: (m**2 + n**2) * torch.sin(m * x) * torch.sin(n * y))
    flow = pseudo_spectral(NavierStokes(0.05), grid, 0.5, substeps=20)(torch.cat([u, v], dim=1))
    spin = pseudo_spectral(
        NavierStokesVorticity(0.05), _box(("dirichlet", "dirichlet"), 32), 0.5, substeps=20
    )(w)
    calc = Trigonometric(grid, NavierStokes.fields)
    found = calc.derivative(flow, 0)[:, 1:] - calc.derivative(flow, 1)[:, :1]
    # A divergence is a scalar, even about walls.
    assert float(Trigonometric(grid).div(flow.unsqueeze(1)).abs().max()) < 1e-11
    # Truncation of 2/3 of 32 modes and the error in time; the flow turns by a unit.
    assert float((found - spin).abs().max()) < 1e-6
    assert float((spin - w).abs().max()) > 0.5


def test_finite_differences_converge_to_the_series() -> None:
    pde, gaps = Burgers(0.1), []
    for n in (32, 64):
        grid = _box(("dirichlet",), n)
        u = torch.sin(grid.coordinates())[None]
        differences = build(pde, grid, 0.25, stepping="explicit")
        gaps.append(float((differences(u) - build(pde, grid, 0.25, basis="trigonometric")(u)).norm()))
    # Fourth order; norm grows by sqrt(2) with the points.
    assert math.log2(gaps[0] / gaps[1]) > 3.2


@pytest.mark.parametrize("sides", [("dirichlet",), ("neumann",), (("dirichlet", "neumann"),)], ids=str)
def test_gradients(sides: tuple[object, ...]) -> None:
    grid = _box(sides, 4)
    mode, _ = _mode(grid, sides)
    step = pseudo_spectral(Folded(), grid, 0.1, substeps=2)
    u = (0.5 * mode).requires_grad_()
    assert torch.autograd.gradcheck(step, (u,), check_forward_ad=True)
    rows = torch.func.jacrev(step)(u.detach())
    columns = torch.func.jacfwd(step)(u.detach())
    torch.testing.assert_close(rows, columns, rtol=0, atol=1e-13)

    def of_diffusivity(kappa: Tensor) -> Tensor:
        return pseudo_spectral(Heat(kappa), grid, 0.1)(mode)

    assert torch.autograd.gradcheck(of_diffusivity, (torch.tensor(0.3, dtype=DOUBLE, requires_grad=True),))


def test_precision_batches_and_parameters_of_samples() -> None:
    grid = _box(("dirichlet",), 16)
    u = torch.sin(grid.coordinates())[None].repeat(3, 1, 1) * torch.tensor([1.0, 0.5, 2.0]).reshape(3, 1, 1)
    many = pseudo_spectral(Burgers(torch.tensor([0.1, 0.2, 0.3], dtype=DOUBLE).reshape(3, 1, 1)), grid, 0.1)
    for i, nu in enumerate((0.1, 0.2, 0.3)):
        alone = pseudo_spectral(Burgers(nu), grid, 0.1)(u[i : i + 1])
        torch.testing.assert_close(many(u)[i : i + 1], alone, rtol=0, atol=1e-13)
    step = pseudo_spectral(Burgers(0.1), grid, 0.1)
    # sin(pi) in single precision is 9e-8 on the side, which passes for zero.
    single = step(u.float())
    assert single.dtype == torch.float32
    assert float((single - step(u)).abs().max()) < 1e-6
    assert step(torch.full((1, 1, 17), math.nan, dtype=DOUBLE)).isnan().any()


def test_build_chooses_series_when_asked_and_only_then() -> None:
    grid = _box(("dirichlet",), 32)
    assert "finite differences" in build(Burgers(0.1), grid, 0.1).method
    step = build(Burgers(0.1), grid, 0.1, basis="trigonometric")
    assert isinstance(step.step, PseudoSpectral)
    assert step.method == "sine pseudo-spectral, ETDRK4, 2/3 rule"
    assert step.substeps == math.ceil(0.1 * 2 * 32 / PI)
    assert "homogeneous sides" in step.reason
    heat = build(Heat(1.0), _box(("periodic", ("neumann", "dirichlet")), 8), 3.0, basis="trigonometric")
    assert heat.method == "Fourier-sine-cosine, exact in time" and heat.substeps == 1
    periodic = build(Burgers(0.1), Grid((32,), (1.0,)), 0.01, basis="trigonometric")
    assert "Fourier" in periodic.method
    for pde, domain in (
        (Burgers(0.1), Grid((8,), (1.0,), centering="cell")),
        (Heat(), Cloud(((0.0, 1.0), (0.0, 1.0)))),
    ):
        with pytest.raises(UserError, match="semi-linear equations on a Grid of nodes"):
            build(pde, domain, 0.1, basis="trigonometric")
    with pytest.raises(UserError, match="basis='sine'; expected one of"):
        build(Heat(), grid, 0.1, basis="sine")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="does not keep the symmetry"):
        build(Advection(1.0), grid, 0.1, basis="trigonometric")


@pytest.mark.parametrize(
    ("pde", "sides", "part"),
    [
        (Advection(1.0), ("dirichlet",), "linear"),
        (Advection((1.0, 0.0)), ("neumann", "periodic"), "linear"),
        (Burgers(0.1), ("neumann",), "nonlinear"),
        (Burgers(0.1), (("dirichlet", "neumann"),), "nonlinear"),
        (Burgers(0.1), ("dirichlet", "dirichlet"), "nonlinear"),
        (KuramotoSivashinsky(), ("neumann",), "nonlinear"),
        (Logistic(), ("dirichlet",), "nonlinear"),
        (NavierStokesVorticity(0.1), ("neumann", "neumann"), "nonlinear"),
    ],
    ids=str,
)
def test_equations_that_break_the_symmetry_are_refused(
    pde: SemiLinear, sides: tuple[object, ...], part: str
) -> None:
    with pytest.raises(ValueError, match=f"on axis 0; its {part} part does not keep .* build"):
        pseudo_spectral(pde, _box(sides, 8), 0.1)


def test_equations_that_keep_the_symmetry_are_not() -> None:
    cases: list[tuple[SemiLinear, tuple[object, ...]]] = [
        (Advection((0.0, 1.0)), ("neumann", "periodic")),
        (Logistic(), ("neumann",)),
        (Separating(), (("dirichlet", "neumann"), "periodic")),
        (KuramotoSivashinsky(), ("dirichlet",)),
        (Burgers(0.1), ("wall", "periodic")),
    ]
    for pde, sides in cases:
        step = pseudo_spectral(pde, _box(sides, 8), 0.1)
        zero = torch.zeros(1, len(step.channels), *step.grid.shape, dtype=DOUBLE)
        assert torch.equal(step(zero), zero)


def test_states_that_do_not_vanish_on_dirichlet_sides_are_refused() -> None:
    grid = _box(("dirichlet", "neumann"), 8)
    step = pseudo_spectral(Heat(1.0), grid, 0.1)
    u = torch.ones(2, 1, 9, 9, dtype=DOUBLE)
    u[:, :, 0] = u[:, :, -1] = 0.0
    step(u)
    u[1, 0, -1, 3] = 0.01
    with pytest.raises(ValueError, match="up to 0.01 on a side of axis 0 .* Subtract a steady field"):
        step(u)
    with pytest.raises(ValueError, match=r"expected \(B, \*\(1, 9, 9\)\)"):
        step(torch.zeros(1, 1, 16, 16, dtype=DOUBLE))
    walls = pseudo_spectral(Burgers(0.1), _box(("wall", "wall"), 8), 0.1)
    with pytest.raises(ValueError, match="up to 1 on a side of axis 0"):
        walls(torch.ones(1, 2, 9, 9, dtype=DOUBLE))


def test_a_field_of_the_equation_does_not_fit_the_mirror_image() -> None:
    grid = _box(("dirichlet", "dirichlet"), 8)
    forcing = torch.zeros(1, 1, *grid.shape, dtype=DOUBLE)
    with pytest.raises(ValueError, match=r"mirror image of \(16, 16\) points"):
        pseudo_spectral(NavierStokesVorticity(0.1, forcing=forcing), grid, 0.1)
