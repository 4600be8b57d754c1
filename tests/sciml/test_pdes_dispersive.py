"""Dispersive and convective equations: what the contract tests, which take default parameters, do not see."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sciml import Grid
from sciml.calculus import Autograd, Spectral
from sciml.pdes import (
    PDE,
    Burgers,
    ConservativeBurgers,
    GrossPitaevskii,
    KortewegDeVries,
    KuramotoSivashinsky,
    ScalarBurgers,
    Schroedinger,
)
from sciml.pdes.soliton_trains import (
    sech_frequency,
    sech_squared_speed,
    sech_squared_train,
    sech_train,
)


def _draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _waves(channels: int, grid: Grid, samples: int = 2, seed: int = 0) -> Tensor:
    """States (B, C, *points) of modes up to the third: products of four stay below the alias."""
    x = grid.coordinates()
    u = torch.zeros(samples, channels, *grid.shape, dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(4):
        k = torch.randint(-3, 4, (samples, channels, grid.dimension), generator=generator).double()
        k = k * 2 * math.pi / torch.tensor(grid.lengths, dtype=torch.float64)
        phase = 2 * math.pi * torch.rand(samples, channels, generator=generator, dtype=torch.float64)
        u += 0.3 * torch.cos(
            torch.tensordot(k, x, dims=1) + phase.reshape(*phase.shape, *[1] * grid.dimension)
        )
    return u


def _residual(pde: PDE, dimension: int) -> float:
    """Largest |u_t - rhs(u)| of `exact` at scattered points, relative to the largest |u|."""
    sides = torch.tensor(pde.exact_lengths(dimension), dtype=torch.float64).reshape(1, -1, 1)  # type: ignore[attr-defined]
    x = (sides * _draw(2, dimension, 30)).requires_grad_()
    t = (0.1 + _draw(2, 1, 30, seed=1)).requires_grad_()
    calc = Autograd(x)
    u = pde.exact(x, t)  # type: ignore[attr-defined]
    rest = calc.time_derivative(u, t) - pde.rhs(u, calc)
    return float((rest.abs().max() / u.abs().max()).detach())


@pytest.mark.parametrize("side", [2.0, 5.0, 40.0])
def test_soliton_trains_solve_their_equations(side: float) -> None:
    z = (side * (_draw(1, 1, 50) - 0.5)).requires_grad_()
    calc = Autograd(z)
    k = 0.8
    q = sech_squared_train(z, k, side)
    # Q'' - a Q + 6 Q^2 is a constant, -b.
    rest = (calc.derivative(q, 0, 2) - sech_squared_speed(k, side) * q + 6 * q**2).detach()
    assert float(rest.max() - rest.min()) < 1e-12
    f = sech_train(z, k, side)
    assert (calc.derivative(f, 0, 2) - sech_frequency(k, side) * f + 2 * f**3).abs().max() < 1e-12


@pytest.mark.parametrize("dimension", [1, 2, 3])
@pytest.mark.parametrize(
    "pde",
    [
        KortewegDeVries(1.0, 0.3),
        KortewegDeVries(-2.0, 0.5),
        KortewegDeVries(torch.tensor([[6.0], [1.0]]), torch.tensor([[1.0], [0.3]])),
        Schroedinger(1.0, 2.0),
        Schroedinger(0.5, -1.0),
        Schroedinger(-0.7, -0.4),
        Schroedinger(1.0, 0.0),
        Schroedinger(torch.tensor([0.5, 1.0]), torch.tensor([1.0, 3.0])),
        ScalarBurgers(0.2, 0.125),
        ScalarBurgers(0.2, torch.tensor([-0.5, 2.0])),
        ConservativeBurgers(torch.tensor([0.2, 0.4])),
    ],
)
def test_exact_solutions_hold_for_any_parameters(pde: PDE, dimension: int) -> None:
    # Third derivatives of rounding, and of the single precision in which the tensors state 0.3 and 0.4
    # once: the solution and the equation take the same number.
    assert _residual(pde, dimension) < 1e-10


@pytest.mark.parametrize("dimension", [1, 2])
@pytest.mark.parametrize(
    "pde",
    [
        KortewegDeVries(2.0, 0.7),
        KortewegDeVries(1.0, -0.3),
        Schroedinger(0.8, 2.5),
        Schroedinger(0.5, -1.0),
        GrossPitaevskii(0.7, 3.0, 1.0),
        GrossPitaevskii(0.0, -2.0),
    ],
)
def test_invariants_have_the_right_coefficients(pde: PDE, dimension: int) -> None:
    grid = Grid((20, 22)[:dimension], (5.0, 6.0)[:dimension])
    u = _waves(len(pde.channels(dimension)), grid)
    rate = pde.rhs(u, Spectral(grid))
    names = set(pde.invariants(u, grid))
    assert {"mass", "energy"} <= names
    for name in names:
        _, drift = torch.func.jvp(lambda v, name=name: pde.invariants(v, grid)[name], (u,), (rate,))
        assert drift.abs().max() < 1e-11 * grid.volume * rate.abs().max()  # rounding of a sum of cubes
    assert ("momentum_x" in names) == (isinstance(pde, Schroedinger) or pde == GrossPitaevskii(0.0, -2.0))


def test_korteweg_de_vries_energy_is_the_usual_one() -> None:
    """u = cos x on 2 pi: the integrals of u^2 and of u^3 - u_x^2/2 are pi and -pi/2."""
    grid = Grid((32,), (2 * math.pi,))
    kept = KortewegDeVries().invariants(torch.cos(grid.coordinates())[None], grid)
    assert float(kept["momentum"]) == pytest.approx(math.pi, abs=1e-12)
    assert float(kept["energy"]) == pytest.approx(-math.pi / 2, abs=1e-12)


def test_hyperdiffusion_damps_and_ends_the_invariants() -> None:
    grid = Grid((32, 32), (2 * math.pi,) * 2)
    pde = KortewegDeVries(6.0, 1.0, 0.125)
    u = _waves(1, grid)
    assert set(pde.invariants(u, grid)) == {"mass"}
    rate = pde.linear(u, Spectral(grid))
    lap = Spectral(grid).laplacian(u)
    # d/dt of the integral of u^2/2 is -gamma times that of lap(u)^2: dispersion takes nothing
    assert float((u * rate).sum() + 0.125 * lap.square().sum()) == pytest.approx(0.0, abs=1e-8)
    with pytest.raises(ValueError, match="hyperdiffusion 0"):
        pde.exact(torch.zeros(1, 1, 4, dtype=torch.float64), 0.0)
    with pytest.raises(ValueError, match="hyperdiffusion=-1"):
        KortewegDeVries(hyperdiffusion=-1.0)
    with pytest.raises(ValueError, match="convection"):
        ScalarBurgers(convection=math.nan)
    with pytest.raises(ValueError, match="Cole-Hopf"):
        ScalarBurgers(convection=0.0).exact(torch.zeros(1, 1, 4, dtype=torch.float64), 0.0)
    with pytest.raises(ValueError, match="positive viscosity"):
        ConservativeBurgers(0.0).exact(torch.zeros(1, 1, 4, dtype=torch.float64), 0.0)


def test_gross_pitaevskii_obeys_newton_whatever_the_interaction() -> None:
    """d<x>/dt = <p> and d<p>/dt = -w^2 <x - c>: the interaction pushes nobody away as a whole."""
    grid = Grid((48, 48), (14.0, 14.0), origin=-7.0)
    pde = GrossPitaevskii((1.0, 1.5), 4.0, (0.4, -0.3))
    x = grid.coordinates()[None]
    calc = Spectral(grid)
    size = torch.exp(-0.5 * x.square().sum(1, keepdim=True) + 0.3 * x[:, :1])
    u = torch.cat(
        [size * torch.cos(0.7 * x[:, :1]), size * torch.sin(0.7 * x[:, :1] - 0.2 * x[:, 1:])], dim=1
    )
    rate = pde.rhs(u, calc)

    def moments(v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        slope = calc.gradient(v)
        momentum = (v[:, :1] * slope[:, 1] - v[:, 1:] * slope[:, 0]).sum(dim=(0, 2, 3))
        return (x * v.square().sum(1, keepdim=True)).sum(dim=(0, 2, 3)), momentum, v.square().sum()

    (place, momentum, mass), (velocity, force, growth) = torch.func.jvp(moments, (u,), (rate,))
    pull = -torch.tensor([1.0, 2.25]) * (place - mass * torch.tensor([0.4, -0.3]))
    # psi at the sides of the box is 1e-8 of its peak
    assert (velocity - momentum).abs().max() < 1e-7 * mass
    assert (force - pull).abs().max() < 1e-6 * mass
    assert growth.abs() < 1e-10 * mass


def test_gross_pitaevskii_says_what_does_not_fit() -> None:
    calc = Spectral(Grid((8, 8), (4.0, 4.0)))
    u = torch.zeros(1, 2, 8, 8, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"frequency=\(1.0,\) in 2 space axes"):
        GrossPitaevskii((1.0,)).rhs(u, calc)
    with pytest.raises(ValueError, match="at least 0"):
        GrossPitaevskii(-1.0)
    with pytest.raises(ValueError, match="finite"):
        GrossPitaevskii(centre=math.inf)


def test_the_rates_follow_what_the_nonlinear_part_does() -> None:
    grid = Grid((64,), (16.0,), origin=-8.0)
    assert KortewegDeVries().nonlinear_rate(grid, 2.0) == pytest.approx(6 * 2 / 0.25)
    assert ScalarBurgers(0.1, 0.125).nonlinear_rate(grid, 1.0) == pytest.approx(0.5)
    assert Schroedinger(0.5, 2.0).nonlinear_rate(grid, 0.5) == pytest.approx(1.5)
    assert GrossPitaevskii(1.0, 2.0).nonlinear_rate(grid, 0.5) == pytest.approx(32 + 1.5)


def test_forms_of_burgers_agree_where_they_should() -> None:
    line, plane = Grid((32,), (2 * math.pi,)), Grid((32, 32), (2 * math.pi,) * 2)
    u = _waves(1, line)
    one = Burgers(0.1).rhs(u, Spectral(line))
    for other in (ConservativeBurgers(0.1), ScalarBurgers(0.1)):
        assert (other.rhs(u, Spectral(line)) - one).abs().max() < 1e-12  # rounding
    # div(u u)/2 = (u . grad) u/2 + u div(u)/2
    v, calc = _waves(2, plane), Spectral(plane)
    apart = ConservativeBurgers(0.1).rhs(v, calc) - Burgers(0.1).rhs(v, calc)
    carried = (v.unsqueeze(1) * calc.gradient(v)).sum(dim=2)
    assert (apart - 0.5 * (carried - v * calc.div(v.unsqueeze(1)))).abs().max() < 1e-11
    assert apart.abs().max() > 0.1


def test_slope_of_the_height_obeys_the_derivative_form() -> None:
    grid = Grid((64,), (22.0,))
    calc, height = Spectral(grid), _waves(1, grid)
    slope = calc.derivative(height, 0)
    rate = KuramotoSivashinsky(integrated=True).rhs(height, calc)
    assert (calc.derivative(rate, 0) - KuramotoSivashinsky().rhs(slope, calc)).abs().max() < 1e-11
    assert rate.mean(dim=2).abs().max() < 1e-12
    plane = Grid((16, 16), (12.0, 12.0))
    w = _waves(1, plane)
    both = [KuramotoSivashinsky(i).rhs(w, Spectral(plane)) for i in (False, True)]
    assert torch.equal(*both)
