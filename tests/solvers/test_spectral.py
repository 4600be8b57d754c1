"""Pseudo-spectral steps: exact solutions, derivatives, precision, and the packed form."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch

from sciml.calculus import Calculus
from sciml.domains import Grid
from sciml.fields import RandomFourier
from sciml.pdes import (
    Advection,
    AdvectionDiffusion,
    AllenCahn,
    Burgers,
    CahnHilliard,
    FisherKPP,
    Heat,
    KuramotoSivashinsky,
    NavierStokesVorticity,
    SemiLinear,
)
from sciml.solvers.lanes import available
from sciml.solvers.spectral import Form, pseudo_spectral
from sciml.step import rollout

TAU = 2 * math.pi
DOUBLE = torch.float64
FORMS: list[Form] = ["generic", "packed", *(["lanes"] if available() else [])]


def _states(grid: Grid, samples: int, channels: int = 1, seed: int = 0) -> torch.Tensor:
    """Rough states, so that modes above the 2/3 rule matter too."""
    generator = torch.Generator().manual_seed(seed)
    return 0.3 * torch.randn(samples, channels, *grid.shape, generator=generator, dtype=DOUBLE)


CASES: list[tuple[SemiLinear, Grid, float]] = [
    (Burgers(0.02), Grid((64,), (TAU,)), 0.05),
    (Burgers(0.02), Grid((45,), (1.0,)), 0.01),
    (KuramotoSivashinsky(), Grid((64,), (22.0,)), 0.1),
    (NavierStokesVorticity(0.01), Grid((33, 32), (TAU, TAU)), 0.05),
    (NavierStokesVorticity(0.01, drag=0.1, forcing=(2.0, 1.0)), Grid((24, 40), (TAU, TAU)), 0.05),
    (FisherKPP(), Grid((14, 9, 8), (TAU, TAU, TAU)), 0.1),
    (AllenCahn(), Grid((22, 30), (TAU, TAU)), 0.1),
    (CahnHilliard(), Grid((50,), (TAU,)), 0.05),
]


@pytest.mark.parametrize(("pde", "grid", "dt"), CASES, ids=lambda v: type(v).__name__)
@pytest.mark.parametrize("samples", [1, 2, 3, 4])
@pytest.mark.parametrize("order", [2, 4])
def test_packed_and_generic_forms_agree(
    pde: SemiLinear, grid: Grid, dt: float, samples: int, order: int
) -> None:
    u = _states(grid, samples)
    fast = pseudo_spectral(pde, grid, dt, substeps=3, order=order, form="packed")
    plain = pseudo_spectral(pde, grid, dt, substeps=3, order=order, form="generic")
    assert fast.packed is not None and plain.packed is None
    # Rounding of a few transforms of numbers of size one.
    assert float((fast(u) - plain(u)).abs().max()) < 1e-13


@pytest.mark.parametrize("form", FORMS)
def test_samples_do_not_mix(form: Form) -> None:
    """Each sample of a batch is what it is alone, to rounding, over 200 steps of a chaotic equation."""
    grid = Grid((64,), (22.0,))
    step = pseudo_spectral(KuramotoSivashinsky(), grid, 0.1, form=form)
    u = _states(grid, 5)
    together = rollout(step, 200)(u)[:, -1]
    alone = torch.cat([rollout(step, 200)(u[i : i + 1])[:, -1] for i in range(5)])
    # Rounding, amplified by a Lyapunov exponent of about 0.05 over t = 20.
    assert float((together - alone).abs().max()) < 1e-11


def test_an_equation_that_differs_from_its_fast_form_does_not_use_it() -> None:
    @dataclass(frozen=True)
    class Weaker(Burgers):
        def nonlinear(self, u: torch.Tensor, calc: Calculus) -> torch.Tensor:
            return 0.9 * Burgers.nonlinear(self, u, calc)

    grid = Grid((32,), (TAU,))
    step = pseudo_spectral(Weaker(0.1), grid, 0.1)
    assert step.packed is None
    u = _states(grid, 2)
    assert float((step(u) - pseudo_spectral(Burgers(0.1), grid, 0.1)(u)).abs().max()) > 1e-4


@pytest.mark.parametrize("dimension", [1, 2, 3])
@pytest.mark.parametrize("make", [lambda d: Heat(0.3), lambda d: Advection((1.0, -0.5, 0.3)[:d])])
def test_linear_equations_are_exact_for_any_step(
    dimension: int, make: Callable[[int], Heat | Advection]
) -> None:
    pde = make(dimension)
    grid = Grid((16,) * dimension, pde.exact_lengths(dimension))
    step = pseudo_spectral(pde, grid, 7.3, substeps=5)
    x = grid.coordinates()[None]
    assert step.linear and step.substeps == 1
    torch.testing.assert_close(step(pde.exact(x, 0.0)), pde.exact(x, 7.3), rtol=0, atol=1e-13)


def test_an_even_grid_keeps_its_nyquist_mode_under_advection() -> None:
    # The Nyquist mode has no real odd derivative: it must stay, not turn or vanish.
    grid = Grid((8,), (TAU,))
    u = torch.tensor([1.0, -1.0] * 4, dtype=DOUBLE).reshape(1, 1, 8)
    torch.testing.assert_close(pseudo_spectral(Advection(1.0), grid, 0.37)(u), u, rtol=0, atol=1e-14)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_order_in_time_against_cole_hopf(order: int) -> None:
    pde = Burgers(0.1)
    grid = Grid((96,), (TAU,))
    x = grid.coordinates()[None]
    exact = pde.exact(x, 0.5)
    start = pde.exact(x, 0.0).contiguous()
    errors = [
        float((pseudo_spectral(pde, grid, 0.5, order=order, substeps=n)(start) - exact).norm())
        for n in (20, 40)
    ]
    # 0.25: the next term of the error at a substep of 1/40.
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.25)


@pytest.mark.parametrize("dimension", [2, 3])
def test_burgers_in_space_matches_the_exact_diagonal_wave(dimension: int) -> None:
    pde = Burgers(0.5)
    grid = Grid((24,) * dimension, (TAU,) * dimension)
    x = grid.coordinates()[None]
    got = pseudo_spectral(pde, grid, 0.2, substeps=8)(pde.exact(x, 0.0).contiguous())
    # Truncation of the steepened wave at |k| < 8.
    torch.testing.assert_close(got, pde.exact(x, 0.2), rtol=0, atol=5e-5)


def test_the_mean_is_kept_and_a_tiny_step_changes_nothing() -> None:
    grid = Grid((64,), (TAU,))
    u = _states(grid, 3) + 0.7
    step = pseudo_spectral(Burgers(0.01), grid, 0.1, substeps=4)
    torch.testing.assert_close(step(u).mean(dim=2), u.mean(dim=2), rtol=0, atol=1e-14)
    # Rough states: modes above the 2/3 rule are carried along, not cut.
    same = pseudo_spectral(Burgers(0.01), grid, 1e-9)(u)
    assert float((same - u).abs().max()) < 1e-7


def test_each_sample_has_its_own_parameter() -> None:
    grid = Grid((64,), (TAU,))
    u = _states(grid, 3)
    values = [0.02, 0.05, 0.3]
    many = pseudo_spectral(
        Burgers(torch.tensor(values, dtype=DOUBLE).reshape(3, 1, 1)), grid, 0.1, substeps=2
    )
    assert many.packed is None
    for i, value in enumerate(values):
        one = pseudo_spectral(Burgers(value), grid, 0.1, substeps=2)(u[i : i + 1])
        torch.testing.assert_close(many(u)[i : i + 1], one, rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    "pde", [Burgers(0.05), AdvectionDiffusion(1.0, 0.1)], ids=lambda p: type(p).__name__
)
def test_single_precision_stays_single_and_close(pde: SemiLinear) -> None:
    grid = Grid((64,), (TAU,))
    u = _states(grid, 2)
    step = pseudo_spectral(pde, grid, 0.1, substeps=4)
    single = step(u.float())
    assert single.dtype == torch.float32
    # Single rounding of states of size one over eight transforms per substep.
    torch.testing.assert_close(single.double(), step(u), rtol=0, atol=5e-6)
    tensor = Burgers(torch.full((2, 1, 1), 0.05, dtype=DOUBLE))
    assert pseudo_spectral(tensor, grid, 0.1)(u.float()).dtype == torch.float32


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_gradients_in_state_and_parameter(order: int) -> None:
    grid = Grid((8,), (TAU,))
    u = _states(grid, 2).requires_grad_()
    viscosity = torch.tensor([0.1, 0.4], dtype=DOUBLE).reshape(2, 1, 1).requires_grad_()

    def end(state: torch.Tensor, nu: torch.Tensor) -> torch.Tensor:
        return pseudo_spectral(Burgers(nu), grid, 0.1, order=order, substeps=2)(state)

    assert torch.autograd.gradcheck(end, (u, viscosity), fast_mode=True)


def test_gradients_of_the_vorticity_equation() -> None:
    grid = Grid((8, 6), (TAU, TAU))
    u = _states(grid, 1).requires_grad_()
    drag = torch.tensor(0.3, dtype=DOUBLE, requires_grad=True)

    def end(state: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        return pseudo_spectral(NavierStokesVorticity(0.1, drag=value), grid, 0.1)(state)

    assert torch.autograd.gradcheck(end, (u, drag), fast_mode=True)


def test_the_adjoint_of_fifty_steps_matches_finite_differences() -> None:
    grid = Grid((32,), (TAU,))
    viscosity = torch.tensor(0.05, dtype=DOUBLE, requires_grad=True)
    u = _states(grid, 2).requires_grad_()
    direction = _states(grid, 2, seed=1)

    def loss(state: torch.Tensor, nu: torch.Tensor) -> torch.Tensor:
        return rollout(pseudo_spectral(Burgers(nu), grid, 0.02), 50)(state)[:, -1].square().sum()

    loss(u, viscosity).backward()
    assert u.grad is not None and viscosity.grad is not None
    eps = 1e-5
    with torch.no_grad():
        along = (loss(u + eps * direction, viscosity) - loss(u - eps * direction, viscosity)) / (2 * eps)
        across = (loss(u, viscosity + eps) - loss(u, viscosity - eps)) / (2 * eps)
    # Central differences: eps^2 of truncation, 1e-16/eps of rounding.
    torch.testing.assert_close((u.grad * direction).sum(), along, rtol=1e-8, atol=1e-9)
    torch.testing.assert_close(viscosity.grad, across, rtol=1e-7, atol=1e-9)


def test_a_learnt_parameter_may_be_used_and_changed_between_calls() -> None:
    grid = Grid((16,), (TAU,))
    viscosity = torch.tensor(0.1, dtype=DOUBLE, requires_grad=True)
    step = pseudo_spectral(Burgers(viscosity), grid, 0.1)
    u = _states(grid, 1)
    for _ in range(2):
        step(u).square().sum().backward()
    with torch.no_grad():
        viscosity.mul_(2.0)
    torch.testing.assert_close(
        step(u).detach(), pseudo_spectral(Burgers(0.2), grid, 0.1)(u), rtol=0, atol=1e-14
    )


def test_forward_mode_matches_reverse_mode() -> None:
    grid = Grid((16,), (TAU,))
    step = pseudo_spectral(Burgers(0.1), grid, 0.1, substeps=2)
    u, v, w = (_states(grid, 2, seed=s) for s in range(3))
    value, tangent = torch.func.jvp(step, (u,), (v,))
    _, pull = torch.func.vjp(step, u)
    torch.testing.assert_close((tangent * w).sum(), (v * pull(w)[0]).sum(), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(value, step(u), rtol=0, atol=1e-14)
    with torch.no_grad():  # forward mode works where grad mode is off, and must not meet the packed form
        torch.testing.assert_close(torch.func.jvp(step, (u,), (v,))[1], tangent, rtol=0, atol=1e-14)
    single = torch.func.jvp(step, (u.float(),), (v.float(),))[1]
    torch.testing.assert_close(single.double(), tangent, rtol=0, atol=1e-5)
    mapped = torch.func.vmap(lambda a: step(a[None])[0])(u)
    torch.testing.assert_close(mapped, value, rtol=0, atol=1e-13)


def test_a_step_first_used_in_inference_mode_can_be_differentiated_later() -> None:
    grid = Grid((16,), (TAU,))
    step = pseudo_spectral(Burgers(0.1), grid, 0.1)
    with torch.inference_mode():
        step(_states(grid, 2))
    u = _states(grid, 2).requires_grad_()
    step(u).sum().backward()
    # The mean is kept, so the sum's gradient is one everywhere.
    assert u.grad is not None
    torch.testing.assert_close(u.grad, torch.ones_like(u), rtol=0, atol=1e-13)


def test_the_input_is_not_changed() -> None:
    for pde, grid, dt in CASES:
        u = _states(grid, 3)
        before = u.clone()
        pseudo_spectral(pde, grid, dt, substeps=2)(u)
        assert torch.equal(u, before)


@pytest.mark.parametrize("form", FORMS)
def test_a_blow_up_is_a_result_of_its_own_sample(form: Form) -> None:
    grid = Grid((32,), (TAU,))
    u = _states(grid, 5)
    u[1] *= 1e6  # sample 4 would be its partner
    step = pseudo_spectral(Burgers(1e-3), grid, 0.2, form=form)
    end = rollout(step, 20)(u)[:, -1]
    assert torch.isfinite(end).flatten(1).all(dim=1).tolist() == [True, False, True, True, True]
    alone = rollout(step, 20)(u[4:])[:, -1]
    torch.testing.assert_close(end[4:], alone, rtol=0, atol=1e-9)


@dataclass(frozen=True)
class Coupled(Burgers):
    """Burgers with a rotation of its components, which couples channels linearly."""

    def linear(self, u: torch.Tensor, calc: Calculus) -> torch.Tensor:
        return Burgers.linear(self, u, calc) + torch.stack([u[:, 1], -u[:, 0]], dim=1)


@dataclass(frozen=True)
class CoupledOutside(Burgers):
    """The same equation with the rotation in its nonlinear part."""

    def nonlinear(self, u: torch.Tensor, calc: Calculus) -> torch.Tensor:
        return Burgers.nonlinear(self, u, calc) + torch.stack([u[:, 1], -u[:, 0]], dim=1)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_a_linear_part_that_couples_channels(order: int) -> None:
    grid = Grid((24, 24), (TAU, TAU))
    generator = torch.Generator().manual_seed(0)
    draw = RandomFourier(modes=3)
    u = torch.stack([draw(grid, 2, generator) for _ in range(2)])
    inside = [pseudo_spectral(Coupled(0.1), grid, 0.5, order=order, substeps=n)(u) for n in (20, 40)]
    exact = pseudo_spectral(CoupledOutside(0.1), grid, 0.5, substeps=200)(u)
    errors = [float((v - exact).abs().max()) for v in inside]
    assert math.log2(errors[0] / errors[1]) > order - 0.3
    assert errors[1] < {1: 3e-2, 2: 1e-3, 3: 3e-5, 4: 1e-6}[order]


def test_refusals_say_what_was_found() -> None:
    grid = Grid((16,), (TAU,))
    with pytest.raises(ValueError, match="dt=-1"):
        pseudo_spectral(Burgers(0.1), grid, -1.0)
    with pytest.raises(ValueError, match="order=5"):
        pseudo_spectral(Burgers(0.1), grid, 0.1, order=5)
    with pytest.raises(ValueError, match="substeps=0"):
        pseudo_spectral(Burgers(0.1), grid, 0.1, substeps=0)
    with pytest.raises(ValueError, match="1 axes; NavierStokesVorticity lives in"):
        pseudo_spectral(NavierStokesVorticity(), grid, 0.1)
    with pytest.raises(ValueError, match="grid of cells"):
        pseudo_spectral(Burgers(0.1), Grid((16,), (TAU,), centering="cell"), 0.1)
    with pytest.raises(ValueError, match="expected 'periodic', 'dirichlet', 'neumann' or 'wall'"):
        pseudo_spectral(Burgers(0.1), Grid((16,), (TAU,), boundary="outflow"), 0.1)
    with pytest.raises(ValueError, match=r"expected \(B, \*\(1, 16\)\)"):
        pseudo_spectral(Burgers(0.1), grid, 0.1)(torch.zeros(2, 1, 17))
    with pytest.raises(ValueError, match="form='fast'; expected one of"):
        pseudo_spectral(Burgers(0.1), grid, 0.1, form="fast")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="AdvectionDiffusion on .* has only the form 'generic'"):
        pseudo_spectral(AdvectionDiffusion((1.0,), 0.1), grid, 0.1, form="packed")
