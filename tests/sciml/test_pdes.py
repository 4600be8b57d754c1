"""Single equations against closed forms, and what they refuse."""

from __future__ import annotations

import math

import pytest
import torch

from sciml import Grid, Mesh
from sciml.calculus import Autograd, FiniteDifference, Spectral, Symbol
from sciml.pdes import (
    Advection,
    AdvectionDiffusion,
    Burgers,
    Heat,
    KuramotoSivashinsky,
    NavierStokesVorticity,
)

BOX = 2 * math.pi


def _plane(n: int = 16) -> Grid:
    return Grid((n, n), (BOX, BOX))


def test_vorticity_transport_of_two_waves() -> None:
    """w = cos x + cos 2y has psi = cos x + cos(2y)/4, so -v.grad w = 3/2 sin x sin 2y by hand."""
    grid = _plane()
    x, y = grid.coordinates()
    pde, calc = NavierStokesVorticity(), Spectral(grid)
    w = (torch.cos(x) + torch.cos(2 * y))[None, None]
    v = pde.velocity(w, calc)
    assert (v[0, 0] + 0.5 * torch.sin(2 * y)).abs().max() < 1e-13  # rounding
    assert (v[0, 1] - torch.sin(x)).abs().max() < 1e-13
    assert (pde.nonlinear(w, calc)[0, 0] - 1.5 * torch.sin(x) * torch.sin(2 * y)).abs().max() < 1e-13
    assert calc.div(v.unsqueeze(1)).abs().max() < 1e-13
    curl = calc.derivative(v[:, 1:], 0) - calc.derivative(v[:, :1], 1)
    assert (curl - w).abs().max() < 1e-13


@pytest.mark.parametrize(
    "pde",
    [
        NavierStokesVorticity(0.05),
        NavierStokesVorticity(0.05, drag=0.3),
        NavierStokesVorticity(0.05, drag=0.1, forcing=(4, 1.5)),
        NavierStokesVorticity(0.0, forcing=(4, 1.5)),
    ],
)
def test_vorticity_exact_solution_has_no_residual(pde: NavierStokesVorticity) -> None:
    grid = Grid((16, 16), pde.exact_lengths(2))
    calc = Spectral(grid)
    x = grid.coordinates().unsqueeze(0)
    t = torch.full((1, 1, 16, 16), 0.7, dtype=torch.float64, requires_grad=True)
    w = pde.exact(x, t)
    rate = Autograd(x.requires_grad_()).time_derivative(w, t)
    assert (rate - pde.rhs(w, calc)).abs().max() < 1e-12  # rounding
    assert w.abs().max() > 0.1


def test_vorticity_forcing_is_the_curl_of_the_body_force() -> None:
    grid = _plane(32)
    calc = Spectral(grid)
    body = 1.5 * torch.sin(4 * grid.coordinates()[1])[None, None]
    force = NavierStokesVorticity(forcing=(4, 1.5)).force(body, calc)
    assert (force + calc.derivative(body, 1)).abs().max() < 1e-12  # rounding
    by_field = NavierStokesVorticity(forcing=force).nonlinear(body, calc)
    assert torch.equal(by_field, NavierStokesVorticity(forcing=(4, 1.5)).nonlinear(body, calc))


def test_inviscid_flow_keeps_energy_and_enstrophy() -> None:
    grid = _plane(24)
    calc = Spectral(grid)
    pde = NavierStokesVorticity(viscosity=0.0)
    x, y = grid.coordinates()
    w = (torch.cos(x + 2 * y) + torch.sin(3 * x - y) + torch.cos(2 * y))[None, None]
    rate = pde.rhs(w, calc)
    assert rate.abs().max() > 1
    kept = pde.invariants(w, grid)
    assert set(kept) == {"circulation", "energy", "enstrophy"}
    # 1/2 <w^2> of waves of amplitude 1 is 1/4 each; the energy divides it by k^2 = 5, 10, 4
    assert float(kept["enstrophy"]) == pytest.approx(0.75 * BOX**2, rel=1e-12)
    assert float(kept["energy"]) == pytest.approx(0.25 * (1 / 5 + 1 / 10 + 1 / 4) * BOX**2, rel=1e-12)
    for name in kept:
        _, drift = torch.func.jvp(lambda v, name=name: pde.invariants(v, grid)[name], (w,), (rate,))
        assert drift.abs() < 1e-12 * BOX**2, name  # rounding
    # friction and viscosity take energy, so they must not claim to keep it
    for lossy in (NavierStokesVorticity(0.01), NavierStokesVorticity(0.0, forcing=(4, 1.0))):
        assert set(lossy.invariants(w, grid)) == {"circulation"}
    assert not NavierStokesVorticity(0.0, drag=0.1).invariants(w, grid)


def test_burgers_tells_shear_from_divergence() -> None:
    """u = (c, exp(-nu t) sin(x - c t)) solves u_t + (u.grad)u = nu lap u and has vorticity, unlike Cole-Hopf."""
    pde, c = Burgers(0.2), 0.7
    x = BOX * torch.rand(1, 2, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x.requires_grad_()
    t = torch.full((1, 1, 30), 0.4, dtype=torch.float64, requires_grad=True)
    wave = torch.exp(-0.2 * t) * torch.sin(x[:, :1] - c * t)
    u = torch.cat([c + 0 * wave, wave], dim=1)
    calc = Autograd(x)
    assert (calc.time_derivative(u, t) - pde.rhs(u, calc)).abs().max() < 1e-13  # rounding


def test_half_the_divergence_is_another_equation_in_2d() -> None:
    pde = Burgers(0.1)
    generator = torch.Generator().manual_seed(0)
    for dimension, agrees in ((1, True), (2, False)):
        x = BOX * torch.rand(1, dimension, 50, generator=generator, dtype=torch.float64)
        x.requires_grad_()
        calc = Autograd(x)
        u = pde.exact(x, 0.3)
        half = -0.5 * calc.div(u.unsqueeze(1) * u.unsqueeze(2))
        gap = (half - pde.nonlinear(u, calc)).abs().max()
        assert (gap < 1e-13) if agrees else (gap > 0.1)  # u div(u)/2 is of the size of the term itself


@pytest.mark.parametrize("viscosity", [1.0, 0.05, 0.005])
@pytest.mark.parametrize("time", [0.0, 0.5, 2.0, 30.0])
def test_cole_hopf_against_its_fourier_series(viscosity: float, time: float) -> None:
    """phi = I_0(z) + 2 sum_n I_n(z) exp(-nu n^2 t) cos(n x), z = 1/(2 nu), where that does not cancel."""
    from scipy.special import ive

    x = torch.linspace(0.1, min(1.5, math.sqrt(20 * viscosity)), 40, dtype=torch.float64)[None, None]
    n = torch.arange(1, 400, dtype=torch.float64)
    bessel = torch.as_tensor(ive(n.numpy(), 0.5 / viscosity))
    decay = bessel * torch.exp(-viscosity * n**2 * time)
    phi = float(ive(0, 0.5 / viscosity)) + 2 * (decay * torch.cos(n * x[..., None])).sum(-1)
    series = 4 * viscosity * (n * decay * torch.sin(n * x[..., None])).sum(-1) / phi
    # rounding, which the series multiplies by phi(0)/phi(x) <= exp(x^2/(4 nu)) = 150
    assert (Burgers(viscosity).exact(x, time) - series).abs().max() < 1e-11


def test_cole_hopf_starts_as_sines_in_every_dimension() -> None:
    waves = {1: [(1,)], 2: [(1, 1), (1, -1)], 3: [(1, 1, 1), (1, -1, 0)]}
    for dimension, vectors in waves.items():
        x = BOX * torch.rand(
            2, dimension, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(2)
        )
        start = torch.zeros_like(x)
        for vector in vectors:
            k = torch.tensor(vector, dtype=torch.float64).reshape(1, -1, 1)
            start += k * torch.sin((k * x).sum(1, keepdim=True))
        assert (Burgers(0.01).exact(x, 0.0) - start).abs().max() < 1e-14  # rounding


def test_parameters_per_sample() -> None:
    """A (B, 1, 1) tensor gives each sample what a float gives it alone, in rhs and exact."""
    grid = Grid((32,), (BOX,))
    calc = Spectral(grid)
    values = torch.tensor([0.1, 0.4], dtype=torch.float64)
    x = grid.coordinates().expand(2, 1, -1)
    for cls in (Burgers, Heat):
        both = cls(values.reshape(2, 1, 1))
        u = both.exact(x, 0.3)
        for i, value in enumerate(values.tolist()):
            one = cls(value)
            assert (u[i] - one.exact(x[:1], 0.3)[0]).abs().max() < 1e-13  # other quadrature points
            assert (both.rhs(u, calc)[i] - one.rhs(u[i : i + 1], calc)[0]).abs().max() < 1e-13
        short = cls(values)  # (B,) is the same
        assert torch.equal(short.rhs(u, calc), both.rhs(u, calc))


@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_velocity_forms_agree(dimension: int) -> None:
    grid = Grid((12,) * dimension, (BOX,) * dimension)
    calc = Spectral(grid)
    c = (0.3, -1.2, 0.8)[:dimension]
    x = grid.coordinates().unsqueeze(0)
    u = Advection(c).exact(x, 0.2)
    per_sample = torch.tensor(c, dtype=torch.float64).reshape(1, dimension, *[1] * dimension)
    field = per_sample.expand(1, dimension, *grid.shape).contiguous()
    expected = AdvectionDiffusion(c, 0.1).rhs(u, calc)
    for velocity in (per_sample, field):
        pde = AdvectionDiffusion(velocity, 0.1)
        assert (pde.rhs(u, calc) - expected).abs().max() < 1e-13  # rounding
    assert not AdvectionDiffusion(per_sample, 0.1).nonlinear(u, calc).any()
    assert AdvectionDiffusion(field, 0.1).nonlinear(u, calc).abs().max() > 0.1
    assert (Advection(field).rhs(u, calc) - Advection(c).rhs(u, calc)).abs().max() < 1e-13
    one = torch.ones(1, 1, *calc.symbol_shape, dtype=torch.float64)
    assert not AdvectionDiffusion(field, 0.1).linear(one, Symbol(calc)).is_complex()
    assert Advection(c).linear(one, Symbol(calc)).is_complex()
    # the wave arrives where the velocity carries it
    moved = x - 0.5 * per_sample
    assert (Advection(c).exact(x, 0.5) - Advection(c).exact(moved, 0.0)).abs().max() < 1e-13


def test_kuramoto_sivashinsky_growth_and_mean() -> None:
    """Waves grow by k^2 - k^4; the 2D form keeps the mean and agrees with the slope of the 1D height."""
    spectral = Spectral(Grid((32, 32), (22.0, 22.0)))
    one = torch.ones(1, 1, *spectral.symbol_shape, dtype=torch.float64)
    growth = KuramotoSivashinsky().linear(one, Symbol(spectral))
    k = 2 * math.pi * torch.tensor([2.0, 3.0], dtype=torch.float64) / 22.0
    square = float(k.square().sum())
    assert not growth.is_complex()
    assert float(growth[0, 0, 2, 3]) == pytest.approx(square - square**2, rel=1e-12)
    x = spectral.grid.coordinates()[0]
    height = (torch.sin(2 * math.pi * x / 22) + 0.5 * torch.cos(4 * math.pi * x / 22))[None, None]
    rate = KuramotoSivashinsky().rhs(height, spectral)
    assert rate.mean().abs() < 1e-15
    line = Spectral(Grid((32,), (22.0,)))
    slope = line.derivative(height[..., 0], 0)
    assert (
        line.derivative(rate[..., 0], 0) - KuramotoSivashinsky().rhs(slope, line)
    ).abs().max() < 1e-12  # rounding: the derivative of the integrated form is the derivative form


def test_insulated_domains_keep_heat() -> None:
    generator = torch.Generator().manual_seed(4)
    pde = Heat(0.7)
    for centering in ("node", "cell"):
        grid = Grid((12, 11), (1.0, 2.0), boundary=("neumann", "periodic"), centering=centering)
        u = torch.randn(2, 1, *grid.shape, generator=generator, dtype=torch.float64)
        for order in (2, 4):
            drift = pde.invariants(pde.rhs(u, FiniteDifference(grid, order)), grid)["content"]
            assert drift.abs().max() < 1e-11  # rounding of sums of terms u/dx^2 of 1e2
    held = Grid((12,), (1.0,), boundary="dirichlet")
    assert not pde.invariants(u[..., 0], held)
    mesh = Mesh(torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), torch.tensor([[0, 1, 2]]))
    content = pde.invariants(torch.ones(1, 1, 3, dtype=torch.float64), mesh)["content"]
    assert float(content) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Burgers(-0.1), "viscosity=-0.1"),
        (lambda: Heat(float("nan")), "diffusivity=nan"),
        (lambda: Heat(torch.tensor([0.1, -1.0])), "at least 0"),
        (lambda: Advection((1.0, float("inf"))), "velocity=inf; expected finite"),
        (lambda: Advection(torch.ones(3)), r"shape \(3,\)"),
        (lambda: NavierStokesVorticity(forcing=(1.0, 2.0, 3.0)), "wavenumber, amplitude"),
    ],
)
def test_wrong_parameters_are_refused(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]


def test_wrong_uses_are_refused() -> None:
    calc = Spectral(_plane())
    u = torch.zeros(1, 1, 16, 16, dtype=torch.float64)
    with pytest.raises(ValueError, match="1 channels in 2 space axes"):
        Burgers().rhs(u, calc)
    with pytest.raises(ValueError, match="3 components in 2 space axes"):
        Advection((1.0, 2.0, 3.0)).rhs(u, calc)
    with pytest.raises(ValueError, match="positive viscosity"):
        Burgers(0.0).exact(u[:, :, 0], 0.1)
    with pytest.raises(ValueError, match="differs from point to point"):
        Advection(torch.ones(1, 2, 16, 16)).exact(torch.zeros(1, 2, 16, 16), 0.0)
    with pytest.raises(ValueError, match="no exact solution for a forcing field"):
        NavierStokesVorticity(forcing=u).exact(torch.zeros(1, 2, 16, 16), 0.0)
