"""Linear equations: exact solutions, one multiplication per step, parameters per sample, refusals, difficulties."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from sciml import Grid
from sciml.calculus import Autograd, FiniteDifference, Spectral, Symbol
from sciml.errors import UserError
from sciml.fields import RandomFourier
from sciml.pdes import (
    AnisotropicDiffusion,
    Dispersion,
    HasExact,
    Heat,
    HyperDiffusion,
    LinearEquation,
    SemiLinear,
    Wave,
)
from sciml.pdes import difficulty as d
from sciml.pdes.wave import oscillation
from sciml.solvers import build
from sciml.step import rollout

TAU = 2 * math.pi
TENSOR = ((0.3, 0.2, 0.05), (0.2, 0.4, -0.1), (0.05, -0.1, 0.2))
APEBENCH = {"dt": 0.1, "length": 1.0, "points": 160, "dimension": 1}


def _full(dimension: int) -> AnisotropicDiffusion:
    return AnisotropicDiffusion(tuple(row[:dimension] for row in TENSOR[:dimension]))


def _mixture(dimension: int) -> LinearEquation:
    rows = ((-1.0, 0.5, 0.3), (0.05, 0.02, 0.03), (0.02, -0.01, 0.03), (-0.002, -0.003, -0.001))
    return LinearEquation((-0.1, *(row[:dimension] for row in rows), 0.001))


MAKERS: list[Callable[[int], SemiLinear]] = [
    _mixture,
    _full,
    lambda n: AnisotropicDiffusion((0.1, 0.0, 0.3)[:n]),
    lambda n: Dispersion((0.1, -0.05, 0.2)[:n]),
    lambda n: HyperDiffusion(0.02),
    lambda n: Wave(1.5),
    lambda n: Wave(1.5, 0.4),
    lambda n: Wave(0.5, 3.0),
    lambda n: LinearEquation(
        (0.1, 0.2, -0.1, 0.0, -0.1)
    ),  # the linear part of Kuramoto-Sivashinsky, and growth
]


def _states(grid: Grid, channels: int, samples: int = 2, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([RandomFourier(modes=3)(grid, channels, generator) for _ in range(samples)])


def _noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("dimension", [1, 2, 3])
@pytest.mark.parametrize("make", MAKERS)
def test_exact_solutions_have_no_residual(make: Callable[[int], SemiLinear], dimension: int) -> None:
    pde = make(dimension)
    assert isinstance(pde, HasExact)
    generator = torch.Generator().manual_seed(3)
    x = (TAU * torch.rand(2, dimension, 15, generator=generator, dtype=torch.float64)).requires_grad_()
    t = torch.rand(2, 1, 15, generator=generator, dtype=torch.float64).requires_grad_()
    calc = Autograd(x)
    u = pde.exact(x, t)
    residual = calc.time_derivative(u, t) - pde.rhs(u, calc)
    assert residual.abs().max() < 1e-11  # rounding times |k|^5 of a few hundred


@pytest.mark.parametrize("dimension", [1, 2, 3])
@pytest.mark.parametrize("make", MAKERS)
def test_one_multiplication_per_stored_time(make: Callable[[int], SemiLinear], dimension: int) -> None:
    """However long the step is, and two steps are one of twice the length."""
    pde = make(dimension)
    grid = Grid((12, 9, 8)[:dimension], (TAU, 3.0, 5.0)[:dimension])
    solver = build(pde, grid, 0.7)
    assert solver.substeps == 1 and solver.step.linear
    assert "exact" in solver.method
    u = _states(grid, len(pde.channels(dimension)))
    twice, once = solver(solver(u)), build(pde, grid, 1.4)(u)
    assert (twice - once).abs().max() < 1e-12 * once.abs().max().clamp(min=1.0)  # rounding


@pytest.mark.parametrize("make", MAKERS)
def test_white_noise_is_solved_like_smooth_data(make: Callable[[int], SemiLinear]) -> None:
    """Every mode, the last one included, obeys the equation: the step solves its own right-hand side."""
    pde = make(2)
    grid = Grid((8, 7), (TAU, 5.0))
    calc, h = Spectral(grid), 1e-3
    u = _noise(2, len(pde.channels(2)), 8, 7)
    rate = pde.rhs(u, calc)
    ahead, behind = build(pde, grid, 2 * h)(u), u
    now = build(pde, grid, h)(u)
    centred = (ahead - behind) / (2 * h)
    # The error of the centred difference is h^2/6 of the third rate of change.
    third = pde.rhs(pde.rhs(pde.rhs(now, calc), calc), calc).abs().max()
    assert (centred - pde.rhs(now, calc)).abs().max() < h**2 * third + 1e-11
    assert rate.abs().max() > 0


def test_the_symbol_is_that_of_the_calculus() -> None:
    pde = _mixture(3)
    grid = Grid((8, 8, 8), (TAU,) * 3)
    spectral = Spectral(grid)
    multiplier = pde.linear(torch.ones(1, 1, *spectral.symbol_shape, dtype=torch.float64), Symbol(spectral))
    growth, turning = pde.symbol((1.0, -2.0, 3.0))
    assert multiplier[0, 0, 1, -2, 3].item() == pytest.approx(complex(growth, turning), rel=1e-13)
    # By hand: -0.1 + 0.05 (-1) + 0.02 (-4) + 0.03 (-9) - 0.002 - 0.003 * 16 - 0.001 * 81
    assert growth == pytest.approx(-0.1 - 0.05 - 0.08 - 0.27 - 0.002 - 0.048 - 0.081, rel=1e-13)
    # (-1 - 1 + 0.9) - (0.02 + 0.08 + 0.81) + 0.001 (1 - 32 + 243)
    assert turning == pytest.approx(-1.1 - 0.91 + 0.212, rel=1e-13)


PER_SAMPLE: list[tuple[Callable[[Tensor], SemiLinear], Callable[[float], SemiLinear]]] = [
    (
        lambda p: LinearEquation((0.0, -p, (0.1, p), 0.01)),
        lambda p: LinearEquation((0.0, -p, (0.1, p), 0.01)),
    ),
    (lambda p: Dispersion((p, 0.1)), lambda p: Dispersion((p, 0.1))),
    (HyperDiffusion, HyperDiffusion),
    (Wave, Wave),
    (lambda p: Wave(1.2, p), lambda p: Wave(1.2, p)),
    (
        lambda p: AnisotropicDiffusion(p.reshape(-1, 1, 1) * torch.tensor([[1.0, 0.5], [0.5, 2.0]])),
        lambda p: AnisotropicDiffusion(((p, 0.5 * p), (0.5 * p, 2 * p))),
    ),
]


@pytest.mark.parametrize(("batched", "single"), PER_SAMPLE)
@pytest.mark.parametrize("trailing", [0, 3])
def test_each_sample_has_its_own_parameter(
    batched: Callable[[Tensor], SemiLinear], single: Callable[[float], SemiLinear], trailing: int
) -> None:
    values = torch.tensor([0.3, 0.9, 0.5], dtype=torch.float64)
    pde = batched(values.reshape(-1, *[1] * trailing))
    grid = Grid((12, 10), (TAU, TAU))
    channels = len(pde.channels(2))
    u = _states(grid, channels, 3)
    together = build(pde, grid, 0.4)(u)
    x = grid.coordinates()[None].expand(3, -1, -1, -1)
    assert isinstance(pde, HasExact)
    exact = pde.exact(x, 0.8)
    for i, value in enumerate(values.tolist()):
        alone = single(value)
        assert isinstance(alone, HasExact)
        assert (together[i : i + 1] - build(alone, grid, 0.4)(u[i : i + 1])).abs().max() < 1e-12  # rounding
        assert (exact[i : i + 1] - alone.exact(x[:1], 0.8)).abs().max() < 1e-12


@pytest.mark.parametrize(
    "make",
    [
        lambda p: LinearEquation((p[0], -p[1], p[2], p[0], -p[1])),
        lambda p: Wave(p[0], p[1]),
        lambda p: AnisotropicDiffusion(torch.stack([torch.stack([p[0], p[1]]), torch.stack([p[1], p[2]])])),
        lambda p: Dispersion((p[0], p[1])),
        lambda p: HyperDiffusion(p[0]),
    ],
)
def test_gradients_reach_state_and_parameters(make: Callable[[Tensor], SemiLinear]) -> None:
    grid = Grid((5, 4), (TAU, TAU))
    parameters = torch.tensor([0.7, 0.2, 0.6], dtype=torch.float64, requires_grad=True)
    u = _noise(1, len(make(parameters).channels(2)), 5, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda p, v: build(make(p), grid, 0.3)(v), (parameters, u))


def test_single_precision_follows_double() -> None:
    for pde in (_mixture(2), _full(2), Wave(1.5, 0.1)):
        grid = Grid((16, 16), (TAU, TAU))
        u = _states(grid, len(pde.channels(2)))
        solver = build(pde, grid, 0.5)
        double, single = rollout(solver, 10)(u), rollout(solver, 10)(u.float())
        assert single.dtype == torch.float32
        assert (single - double).abs().max() < 1e-5 * double.abs().max()  # 6e-8 times 10 steps and |k|


def test_pure_and_mixed_derivatives_differ_from_2d_on() -> None:
    line, plane = Spectral(Grid((16,), (TAU,))), Spectral(Grid((16, 16), (TAU, TAU)))
    wave = torch.sin(2 * line.grid.coordinates()[None])
    for mixed, pure in (
        (Dispersion(0.1), LinearEquation((0, 0, 0, 0.1))),
        (HyperDiffusion(0.1), LinearEquation((0, 0, 0, 0, -0.1))),
    ):
        assert (mixed.rhs(wave, line) - pure.rhs(wave, line)).abs().max() < 1e-11  # rounding
    x, y = plane.grid.coordinates()[None].split(1, dim=1)
    u = torch.sin(x + 2 * y)
    # (d_x + d_y)(d_xx + d_yy) gives -(1 + 2)(1 + 4) cos, the sum of third derivatives -(1 + 8) cos.
    assert (Dispersion(0.1).rhs(u, plane) + 1.5 * torch.cos(x + 2 * y)).abs().max() < 1e-11
    assert (LinearEquation((0, 0, 0, 0.1)).rhs(u, plane) + 0.9 * torch.cos(x + 2 * y)).abs().max() < 1e-11
    assert (HyperDiffusion(0.1).rhs(u, plane) + 2.5 * u).abs().max() < 1e-11  # (1 + 4)^2
    assert (LinearEquation((0, 0, 0, 0, -0.1)).rhs(u, plane) + 1.7 * u).abs().max() < 1e-11  # 1 + 16


def test_invariants_name_what_is_kept() -> None:
    grid = Grid((8,), (TAU,))
    u = _noise(2, 1, 8)
    assert set(LinearEquation((0, -1.0, 0, 0.2)).invariants(u, grid)) == {"content", "square"}
    assert set(LinearEquation((0, -1.0, 0.1)).invariants(u, grid)) == {"content"}
    assert not LinearEquation((0.1, -1.0)).invariants(u, grid)
    walls = Grid((8,), (TAU,), boundary="neumann")
    assert not LinearEquation((0, -1.0)).invariants(u, walls)
    square = Grid((6, 6), (TAU, TAU), boundary="neumann")
    v = _noise(1, 1, 6, 6)
    assert set(AnisotropicDiffusion((0.1, 0.2)).invariants(v, square)) == {"content"}
    assert not _full(2).invariants(v, square)
    w = _noise(1, 2, 8)
    assert set(Wave().invariants(w, grid)) == {"momentum", "energy"}
    assert set(Wave(1.0, 0.1).invariants(w, grid)) == {"momentum"}
    assert set(Wave().invariants(w, walls)) == {"momentum"}


def test_a_tensor_diffuses_along_its_eigenvectors() -> None:
    grid = Grid((16, 16), (TAU, TAU))
    u = _states(grid, 1)
    once = build(AnisotropicDiffusion(((0.3, 0.0), (0.0, 0.3))), grid, 0.5)(u)
    assert (once - build(Heat(0.3), grid, 0.5)(u)).abs().max() < 1e-14  # rounding
    # n = (1, 1)/sqrt 2: waves of x - y have no gradient along it and stay.
    streak = AnisotropicDiffusion(((0.5, 0.5), (0.5, 0.5)))
    x, y = grid.coordinates()[None].split(1, dim=1)
    along, across = torch.sin(x - y), torch.sin(x + y)
    assert (build(streak, grid, 3.0)(along) - along).abs().max() < 1e-13  # rounding
    gone = build(streak, grid, 1.0)(across)
    assert (gone - math.exp(-2.0) * across).abs().max() < 1e-14  # k A k = 0.5 * 2^2


def test_a_diagonal_tensor_between_insulated_sides_keeps_its_content() -> None:
    grid = Grid((17, 9), (math.pi, math.pi), boundary="neumann")
    pde = AnisotropicDiffusion((0.1, 0.3))
    x, y = grid.coordinates()[None].split(1, dim=1)
    u = 1.0 + torch.cos(x) * torch.cos(2 * y)
    new = build(pde, grid, 0.5)(u)
    kept = pde.invariants(u, grid)["content"] - pde.invariants(new, grid)["content"]
    assert kept.abs().max() < 1e-13
    exact = 1.0 + math.exp(-0.5 * (0.1 + 4 * 0.3)) * torch.cos(x) * torch.cos(2 * y)
    assert (new - exact).abs().max() < 2e-2  # four cells per half wave along y
    series = build(pde, grid, 0.5, basis="trigonometric")(u)
    assert (series - exact).abs().max() < 1e-13  # rounding


def test_the_mean_of_a_wave_drifts_with_its_rate() -> None:
    """The mode k = 0 is a Jordan block: its exponential grows linearly, and no other way."""
    u = torch.zeros(1, 2, 6, 6, dtype=torch.float64)
    u[:, 0], u[:, 1] = 2.0, -0.5
    grid = Grid((6, 6), (1.0, 1.0))
    new = build(Wave(3.0), grid, 1000.0)(u)
    assert (new[:, 0] - (2.0 - 500.0)).abs().max() < 1e-9  # rounding of the far modes
    assert (new[:, 1] + 0.5).abs().max() < 1e-12
    slowed = build(Wave(3.0, 0.1), grid, 20.0)(u)
    assert (slowed[:, 0] - (2.0 - 5.0 * (1 - math.exp(-2.0)))).abs().max() < 1e-12
    assert (build(Wave(0.0), grid, 4.0)(u)[:, 0]).abs().max() < 1e-15  # 2 - 0.5 * 4, and no speed at all


@pytest.mark.parametrize(("shape", "dt"), [((1024,), 1.0), ((64, 64), 0.5)])
def test_the_energy_of_short_waves_is_kept(shape: tuple[int, ...], dt: float) -> None:
    """White noise, whose waves turn thousands of times in a step."""
    grid = Grid(shape, (1.0,) * len(shape))
    pde, u = Wave(1.0), _noise(2, 2, *shape)
    u[:, 1] *= math.pi * shape[0]
    last = rollout(build(pde, grid, dt), 20)(u)[:, -1]
    before, after = pde.energy(u, grid), pde.energy(last, grid)
    assert ((after - before) / before).abs().max() < 1e-10  # rounding of 3200 radians, 20 times


def test_damped_waves_lose_energy() -> None:
    grid = Grid((32,), (TAU,))
    path = rollout(build(Wave(1.0, 0.3), grid, 0.2), 30)(_states(grid, 2, 1))
    energies = torch.stack([Wave().energy(path[:, i], grid) for i in range(31)])
    assert (energies.diff(dim=0) < 0).all()
    # Each mode as e^{-0.3 t}, but for the beat between its two forms.
    assert float(energies[-1] / energies[0]) == pytest.approx(math.exp(-0.3 * 6.0), rel=0.3)


def test_waves_stand_between_walls() -> None:
    for sides, shape in (("neumann", torch.cos), ("dirichlet", torch.sin)):
        grid = Grid((9, 17), (math.pi, math.pi), boundary=sides)
        x, y = grid.coordinates()[None].split(1, dim=1)
        mode = shape(x) * shape(2 * y)
        u = torch.cat([mode, 0.5 * mode], dim=1)
        solver = build(Wave(1.5), grid, 0.7, basis="trigonometric")
        assert solver.substeps == 1 and solver.step.linear
        w = 1.5 * math.sqrt(5.0)
        factor = math.cos(0.7 * w) + 0.5 * math.sin(0.7 * w) / w
        assert (solver(u)[:, :1] - factor * mode).abs().max() < 1e-13  # rounding


def test_oscillations_pass_from_swinging_to_creeping() -> None:
    t = torch.linspace(0.0, 3.0, 7, dtype=torch.float64)
    one = torch.ones(1, dtype=torch.float64)
    at = oscillation(one, 2 * one, t)
    for nearby in (2 - 1e-7, 2 + 1e-7):
        for a, b in zip(oscillation(one, nearby * one, t), at, strict=True):
            assert (a - b).abs().max() < 1e-6  # the distance from the critical damping
    assert (at[0] - (1 + t) * torch.exp(-t)).abs().max() < 1e-15
    # A large damping over a long time neither overflows nor loses the slow decay, at the rate w^2/g.
    p, q = oscillation(one, 1000 * one, torch.tensor([100.0], dtype=torch.float64))
    assert float(p) == pytest.approx(math.exp(-0.1), rel=1e-4)
    assert float(q) == pytest.approx(math.exp(-0.1) / 1000, rel=1e-4)
    damping = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64, requires_grad=True)
    oscillation(one, damping, torch.tensor(0.5, dtype=torch.float64))[0].sum().backward()
    assert damping.grad is not None and torch.isfinite(damping.grad).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LinearEquation(()), "expected a sequence"),
        (lambda: LinearEquation(-1.0), "expected a sequence"),  # type: ignore[arg-type]
        (lambda: LinearEquation((0.0, float("nan"))), "a_1=nan"),
        (lambda: LinearEquation((0.0, "fast")), "a_1='fast'"),  # type: ignore[arg-type]
        (lambda: LinearEquation(((0.1, 0.2), 1.0)), "a_0"),
        (lambda: LinearEquation((0.0, (1.0, 2.0), (0.1,))), "different numbers of axes"),
        (lambda: LinearEquation((0.0, 0.0, -0.1)), "a_2=-0.1.*has to be positive"),
        (lambda: LinearEquation((0.0, 0.0, 0.1, 0.0, 0.1)), "a_4=0.1.*has to be negative"),
        (lambda: LinearEquation((0.0, 0.0, (0.1, -0.1))), "along axis 1"),
        (lambda: LinearEquation((0, 0, torch.tensor([0.1, -0.1]), 0, torch.tensor([-1.0, 0.0]))), "a_2"),
        (lambda: HyperDiffusion(-0.1), "hyper_diffusivity=-0.1.*at least 0"),
        (lambda: Dispersion(float("inf")), "dispersivity=inf"),
        (lambda: Dispersion(()), "one number or tensor per axis"),
        (lambda: Wave(-1.0), "speed=-1.0"),
        (lambda: Wave(1.0, torch.tensor([0.1, -0.1])), "damping"),
        (lambda: AnisotropicDiffusion(-0.1), "at least 0"),
        (lambda: AnisotropicDiffusion((0.1, -0.1)), "diffusivity=-0.1.*at least 0"),
        (lambda: AnisotropicDiffusion(((1.0, 0.5), (0.4, 1.0))), r"transpose by 0.1; .*\(A \+ A\^T\)/2"),
        (lambda: AnisotropicDiffusion(((1.0, 2.0), (2.0, 1.0))), "eigenvalue -1"),
        (lambda: AnisotropicDiffusion(torch.tensor([[[1.0, 2.0], [2.0, 1.0]]])), "eigenvalue -1"),
        (lambda: AnisotropicDiffusion(((1.0, 0.5),)), "as many rows as columns"),
        (lambda: AnisotropicDiffusion(torch.ones(2, 3)), r"shape \(2, 3\)"),
        (lambda: AnisotropicDiffusion(()), "expected a number"),
    ],
)
def test_what_makes_no_sense_is_refused(make: Callable[[], SemiLinear], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_growing_middle_orders_are_welcome() -> None:
    """The linear part of Kuramoto-Sivashinsky, k^2 - k^4: short waves decay, so it is sound."""
    pde = LinearEquation((0.0, 0.0, -1.0, 0.0, -1.0))
    assert pde.symbol((0.5,))[0] == pytest.approx(0.25 - 0.0625)
    assert pde.symbol((2.0,))[0] == pytest.approx(4.0 - 16.0)


def test_another_number_of_axes_is_refused() -> None:
    grid = Grid((8, 8, 8), (1.0,) * 3)
    for pde in (
        LinearEquation((0.0, (1.0, 2.0))),
        Dispersion((1.0, 2.0)),
        AnisotropicDiffusion((0.1, 0.2)),
    ):
        with pytest.raises(ValueError, match="3 space axes"):
            build(pde, grid, 0.1)
    with pytest.raises(ValueError, match="3 channels; expected displacement and rate"):
        Wave().rhs(torch.zeros(1, 3, 8, 8, 8), FiniteDifference(grid))
    with pytest.raises(UserError):  # odd derivatives do not keep the symmetry of the series
        build(
            LinearEquation((0.0, -1.0)), Grid((9,), (1.0,), boundary="neumann"), 0.1, basis="trigonometric"
        )


# Coefficients and difficulties as published for 160 points in 1D: transport, diffusion, dispersion, hyper-diffusion.
def test_difficulties_of_the_benchmark() -> None:
    gammas = d.linear_difficulties((0.0, -0.25, 0.008), **APEBENCH)
    assert gammas[0] == 0.0
    assert gammas[1] == pytest.approx(-4.0, rel=1e-14)
    assert gammas[2] == pytest.approx(40.96, rel=1e-14)
    assert round(float(gammas[2])) == 41
    third = d.linear_difficulties((0, 0, 0, 0.00025), **{**APEBENCH, "dt": 1e-3})[3]
    fourth = d.linear_difficulties((0, 0, 0, 0, -7.5e-5), **{**APEBENCH, "dt": 1e-5})[4]
    assert third == pytest.approx(4.096, rel=1e-14)
    assert fourth == pytest.approx(-3.93216, rel=1e-14)
    # b_1 = 0.125 and M = 1 move at most two cells per step.
    assert d.convection_difficulty(0.125, **APEBENCH) == pytest.approx(2.0, rel=1e-14)
    assert d.normalized_coefficients((0.5, -0.25, 0.008), dt=0.1, length=2.0) == pytest.approx(
        (0.05, -0.0125, 0.0002), rel=1e-14
    )
    setting = {"dt": 0.1, "length": 2.0, "points": 32, "dimension": 3}
    # 0.5 * 0.1 * 32 * 3 * 4 / 2 and 0.5 * 0.1 * 32^2 * 3 * 4 / 2^2
    assert d.convection_difficulty(0.5, **setting, maximum=4.0) == pytest.approx(9.6, rel=1e-14)
    assert d.gradient_norm_difficulty(0.5, **setting, maximum=4.0) == pytest.approx(153.6, rel=1e-14)
    # alpha_2 N^2 2 D = 0.1 * 0.2/4 * 1024 * 2 * 3
    assert d.linear_difficulties((0, 0, 0.2), **setting)[2] == pytest.approx(30.72, rel=1e-14)


@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_difficulties_lead_back_to_coefficients(dimension: int) -> None:
    setting = {"dt": 0.03, "length": 2.5, "points": 48, "dimension": dimension}
    given = (0.3, -0.7, 0.2, 0.01, -0.004)
    assert d.from_linear_difficulties(d.linear_difficulties(given, **setting), **setting) == pytest.approx(
        given, rel=1e-14
    )
    box = {"dt": 0.03, "length": 2.5}
    assert d.from_normalized_coefficients(d.normalized_coefficients(given, **box), **box) == pytest.approx(
        given, rel=1e-14
    )
    for there, back in (
        (d.convection_difficulty, d.from_convection_difficulty),
        (d.gradient_norm_difficulty, d.from_gradient_norm_difficulty),
    ):
        assert back(there(0.7, **setting, maximum=3.0), **setting, maximum=3.0) == pytest.approx(
            0.7, rel=1e-14
        )


def test_a_difficulty_says_how_many_cells_a_wave_moves() -> None:
    grid = Grid((160,), (1.0,))
    u = _states(grid, 1)
    pde = d.linear_from_difficulties((0.0, -4.0), points=160, dimension=1, dt=0.1)
    assert pde.coefficients[1] == pytest.approx(-0.25)
    assert (build(pde, grid, 0.1)(u) - u.roll(4, 2)).abs().max() < 1e-13  # rounding
    # In 2D gamma_1 counts the cells of both axes; one difficulty per sample.
    plane = Grid((16, 16), (3.0, 3.0))
    cells = torch.tensor([-4.0, -8.0], dtype=torch.float64)
    each = d.linear_from_difficulties((0.0, cells), points=16, dimension=2, dt=0.2, length=3.0)
    v = _states(plane, 1)
    moved = torch.cat([v[:1].roll((2, 2), (2, 3)), v[1:].roll((4, 4), (2, 3))])
    assert (build(each, plane, 0.2)(v) - moved).abs().max() < 1e-13


def test_normalized_coefficients_make_alike_equations() -> None:
    """The same alpha_j give the same states, whatever the box and the step."""
    alphas = (-0.01, -0.02, 1e-4, 1e-6, -1e-8)
    u = _states(Grid((32,), (1.0,)), 1)
    ends = [
        build(d.linear_from_normalized(alphas, dt=dt, length=side), Grid((32,), (side,)), dt)(u)
        for dt, side in ((1.0, 1.0), (0.05, 7.0))
    ]
    assert (ends[0] - ends[1]).abs().max() < 1e-13  # rounding


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: d.normalized_coefficients((), dt=0.1, length=1.0), "no numbers"),
        (lambda: d.normalized_coefficients((1.0,), dt=0.0, length=1.0), "dt=0.0; expected a positive"),
        (lambda: d.from_normalized_coefficients((1.0,), dt=0.1, length=-1.0), "length=-1.0"),
        (lambda: d.linear_difficulties((float("inf"),), **APEBENCH), "number 0=inf"),
        (lambda: d.linear_difficulties((1.0,), **{**APEBENCH, "points": 1}), "points=1"),
        (lambda: d.linear_difficulties((1.0,), **{**APEBENCH, "points": 1.5}), "points=1.5"),
        (lambda: d.from_linear_difficulties((1.0,), **{**APEBENCH, "dimension": 4}), "dimension=4"),
        (lambda: d.convection_difficulty(1.0, **APEBENCH, maximum=0.0), "maximum=0.0"),
        (lambda: d.from_convection_difficulty(float("nan"), **APEBENCH), "number 0=nan"),
        (lambda: d.gradient_norm_difficulty(1.0, **APEBENCH, maximum=-1.0), "maximum=-1.0"),
        (lambda: d.from_gradient_norm_difficulty(1.0, **{**APEBENCH, "dt": math.nan}), "dt=nan"),
        (lambda: d.linear_from_difficulties((0.0, 0.0, -4.0), points=32, dimension=1), "a_2"),
    ],
)
def test_difficulties_refuse_nonsense(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
