"""Steps that keep their promises by structure, whatever their weights."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sciml import Grid, rollout
from sciml.domains import Point
from sciml.linear import NotConverged
from sciml.models import LimitedTransport, SoftmaxShare, StructuredFlow
from sciml.models.structured_flow import Canonical, DiscreteGradient, Exchange, LocalEnergy
from sciml.odes import HenonHeiles

LINE = Grid((16,), (2.0,))
PLANE = Grid((5, 4), (1.0, 2.0))


def normal(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def flow(domain, seed: int = 0, **arguments) -> StructuredFlow:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return StructuredFlow(2, 2, domain, dt=0.2, width=6, **arguments).double()


def relative_drift(energies: Tensor) -> float:
    return float(((energies - energies[0]).abs() / energies[0].abs()).max())


def test_a_hamiltonian_system_keeps_its_energy_where_a_one_step_method_does_not():
    system = HenonHeiles()
    u0 = normal(3, 4, scale=0.15)
    step = DiscreteGradient(system.hamiltonian, Canonical(), dt=0.25)
    with torch.no_grad():
        states = rollout(step, 12)(u0)
    energies = torch.stack([system.hamiltonian(u) for u in states.unbind(1)])
    assert relative_drift(energies) < 1e-13
    middle = u0 + 0.25 * system.rhs(u0 + 0.125 * system.rhs(u0))
    assert float(((system.hamiltonian(middle) - energies[0]).abs() / energies[0]).max()) > 1e-5


def test_the_step_is_of_second_order():
    system = HenonHeiles()
    u0 = normal(2, 4, seed=1, scale=0.3)

    def end(steps: int) -> Tensor:
        with torch.no_grad():
            return rollout(DiscreteGradient(system.hamiltonian, Canonical(), 0.8 / steps), steps)(u0)[:, -1]

    exact = end(16)
    coarse, fine = ((end(n) - exact).norm() for n in (2, 4))
    assert 3.4 < float(coarse / fine) < 4.8  # four, with the error of the reference and of higher orders


@pytest.mark.parametrize("domain", [Point(), LINE, PLANE, Grid((3, 2, 3), (1.0, 1.0, 2.0))])
def test_any_weights_keep_the_energy_or_let_it_fall(domain):
    u = normal(2, 2, *domain.shape, seed=2)
    for dissipative in (False, True):
        step = flow(domain, dissipative=dissipative)
        with torch.no_grad():
            states = rollout(step, 2)(u)
            energies = torch.stack([step.energy(v) for v in states.unbind(1)])
        assert (states[:, -1] - u).norm() > 1e-3 * u.norm()  # coefficients start at a tenth
        if dissipative:
            assert (energies.diff(dim=0) < 0).all()
        else:
            assert relative_drift(energies) < 1e-13


def test_means_are_kept_where_asked():
    u = normal(2, 2, *PLANE.shape, seed=3)
    with torch.no_grad():
        moved = flow(PLANE, keep_means=True)(u)
        free = flow(PLANE)(u)
    torch.testing.assert_close(moved.mean(dim=(2, 3)), u.mean(dim=(2, 3)), rtol=0, atol=1e-14)
    assert (free.mean(dim=(2, 3)) - u.mean(dim=(2, 3))).abs().max() > 1e-4


def test_what_moves_energy_does_no_work_and_what_takes_it_does():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        both, moving = (Exchange(2, PLANE, dissipative=d).double() for d in (True, False))
    g = normal(3, 2, *PLANE.shape, seed=5)
    assert (g * moving(g, g)).flatten(1).sum(dim=1).abs().max() < 1e-13
    assert ((g * both(g, g)).flatten(1).sum(dim=1) < 0).all()


def test_gradients_of_state_and_weights():
    step = flow(Point(), seed=6)
    u = normal(1, 2, seed=7).requires_grad_()
    names, weights = zip(*step.named_parameters(), strict=True)

    def moved(u: Tensor, *weights: Tensor) -> Tensor:
        return torch.func.functional_call(step, dict(zip(names, weights, strict=True)), (u,))

    step(u).square().sum().backward()
    silent = [n for n, p in step.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []
    loss = float(step(u).square().sum().detach())
    weight = step.step.balance.energy.outer.weight
    h = 1e-5
    with torch.no_grad():
        weight[0, 0] += h
        difference = (float(step(u).square().sum()) - loss) / h
    assert float(weight.grad[0, 0]) == pytest.approx(difference, rel=1e-3, abs=1e-8)  # one-sided, h = 1e-5
    assert torch.autograd.gradcheck(step, (u,), check_forward_ad=True)


def test_the_matrix_free_solve_agrees_with_the_dense_one(monkeypatch):
    step, u = flow(PLANE, seed=8), normal(2, 2, *PLANE.shape, seed=9).requires_grad_()
    dense = step(u)
    (slope,) = torch.autograd.grad(dense.pow(3).sum(), u)
    monkeypatch.setattr("sciml.models.structured_flow.DENSE", 1)
    free = step(u)
    torch.testing.assert_close(free, dense, rtol=0, atol=1e-13)
    (other,) = torch.autograd.grad(free.pow(3).sum(), u)
    torch.testing.assert_close(other, slope, rtol=0, atol=1e-10)


def pendulum(u: Tensor) -> Tensor:
    """Some five turns per unit of time about each hollow."""
    return 0.5 * u[:, 1].square() - 40.0 * torch.cos(5.0 * u[:, 0])


def test_a_step_that_is_too_long_is_taken_in_parts_and_keeps_its_energy():
    u = normal(8, 2)
    with pytest.raises(NotConverged, match=r"samples \[1\], in a part of 1 of dt=1.*halvings=0"):
        DiscreteGradient(pendulum, Canonical(), 1.0, halvings=0)(u)
    step = DiscreteGradient(pendulum, Canonical(), 1.0)
    v = step(u.requires_grad_())
    assert float((pendulum(v) - pendulum(u)).detach().abs().max()) < 1e-12  # of 45
    assert torch.equal(step(u[1:2]), v[1:2])
    (slope,) = torch.autograd.grad(v[1].sum(), u)
    h = 1e-6
    with torch.no_grad():
        w = u.detach()[1:2] + torch.tensor([[h, 0.0], [-h, 0.0]], dtype=torch.float64)
        ends = step(w).sum(dim=1)
    assert float(slope[1, 0]) == pytest.approx(float(ends[0] - ends[1]) / (2 * h), rel=1e-5)
    assert float(slope[2:].abs().max()) == 0.0
    # Equal parts of a part each: the same as two steps of half the length.
    half = DiscreteGradient(pendulum, Canonical(), 0.1)
    twice = DiscreteGradient(pendulum, Canonical(), 0.2, substeps=2)
    torch.testing.assert_close(twice(u), half(half(u)), rtol=0, atol=1e-13)


def test_single_precision_states_and_states_that_blew_up():
    step = flow(LINE).float()
    u = normal(2, 2, 16, seed=10).float()
    u[1, 0, 0] = torch.nan
    with torch.no_grad():
        out = step(u)
    assert out.dtype == torch.float32 and torch.isfinite(out[0]).all() and out[1].isnan().any()
    torch.testing.assert_close(out[:1], step(u[:1]), rtol=1e-6, atol=1e-6)


def test_refusals():
    with pytest.raises(ValueError, match="periodic"):
        LocalEnergy(2, Grid((8,), (1.0,), boundary="wall"))
    with pytest.raises(ValueError, match="as many"):
        StructuredFlow(2, 3, LINE, dt=0.1)
    with pytest.raises(NotConverged, match=r"samples \[0\]"):
        DiscreteGradient(lambda u: u.pow(4).sum(dim=1), Canonical(), dt=50.0, max_iterations=1)(
            torch.ones(1, 2)
        )
    with pytest.raises(ValueError, match="substeps=0"):
        DiscreteGradient(lambda u: u.sum(dim=1), Canonical(), dt=1.0, substeps=0)


# Steps by shares and by limited fluxes


def network(channels: int, out: int, axes: int, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        kind = (nn.Conv1d, nn.Conv2d)[axes - 1]
        return nn.Sequential(
            kind(channels, 4, 3, padding=1, padding_mode="circular"),
            nn.GELU(),
            kind(4, out, 3, padding=1, padding_mode="circular"),
        ).double()


@pytest.mark.parametrize(("relative", "steps"), [(False, 1000), (True, 100)])
def test_shares_stay_positive_and_keep_their_mass(relative, steps):
    grid = Grid((12,), (1.0,), boundary="dirichlet")
    step = SoftmaxShare(lambda u: 2 * torch.sin(3 * u.roll(1, 2)), grid, relative)
    w = grid.weights() / grid.weights().sum()
    u0 = normal(2, 1, 12, seed=11).abs()
    u = u0
    with torch.no_grad():
        for _ in range(steps):
            u = step(u)
            assert u.min() >= 0
    assert ((w * u).sum(dim=2) - (w * u0).sum(dim=2)).abs().max() < 1e-12
    assert (u - u0).abs().max() > 1e-2


def test_a_share_of_nothing_new_is_the_identity():
    u = normal(2, 1, 12, seed=12).abs()
    step = SoftmaxShare(lambda u: torch.zeros_like(u), Grid((12,), (1.0,)))
    torch.testing.assert_close(step(u), u, rtol=0, atol=1e-15)
    assert torch.autograd.gradcheck(
        SoftmaxShare(network(1, 1, 1, 1), Grid((12,), (1.0,))), (u[:1].requires_grad_(),)
    )


@pytest.mark.parametrize(
    "grid", [Grid((12,), (1.0,)), Grid((6, 5), (1.0, 1.0), boundary=("wall", "periodic"), centering="cell")]
)
def test_limited_transport_makes_no_new_extremes(grid):
    u = normal(2, 1, *grid.shape, seed=13).abs()
    start = u.flatten(1)
    step = LimitedTransport(network(1, grid.dimension, grid.dimension, 2), grid)
    low, high, sums = start.amin(1), start.amax(1), start.sum(1)
    with torch.no_grad():
        first = step(u)
        assert (first - u).abs().max() > 1e-2
        for _ in range(150):
            u = step(u)
    flat = u.flatten(1)
    assert (flat.amin(1) >= low - 1e-14).all() and (flat.amax(1) <= high + 1e-14).all()
    assert (flat.sum(1) - sums).abs().max() < 1e-12
    assert torch.equal(step(torch.ones_like(u)), torch.ones_like(u))


def test_limited_transport_on_a_monotone_base_and_its_refusals():
    grid = Grid((12,), (1.0,))
    upwind = lambda u: u - 0.8 * (u - u.roll(1, 2))  # noqa: E731
    step = LimitedTransport(network(1, 1, 1, 3), grid, base=upwind, lower=0.0)
    u = normal(2, 1, 12, seed=14).abs()
    out = step(u)
    torch.testing.assert_close(out.sum(2), u.sum(2), rtol=0, atol=1e-14)
    assert out.min() >= 0
    still = LimitedTransport(lambda u: torch.zeros_like(u), grid, base=upwind)
    assert torch.equal(still(u), upwind(u))
    with pytest.raises(ValueError, match="let nothing through"):
        LimitedTransport(lambda u: u, Grid((8,), (1.0,), boundary="outflow", centering="cell"))
    with pytest.raises(ValueError, match="fluxes of shape"):
        LimitedTransport(lambda u: u.repeat(1, 2, 1), grid)(u)
