"""Losses with a solver inside, lead times, refinement: against what they are on linear problems."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from sciml import Grid, rollout
from sciml.models import (
    AtLead,
    Bundled,
    ConvNet,
    Dissipative,
    LeadTime,
    Normalized,
    Refined,
    Residual,
    Surrogate,
)
from sciml.objectives import (
    AllPairs,
    Dissipativity,
    DivertedChain,
    MixedChain,
    OneStep,
    Refinement,
    Unrolled,
)
from sciml.pdes import Burgers
from sciml.solvers import build

N = 32


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Linear(nn.Module):
    """F(u) = W u."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        noise = torch.randn(N, N, generator=generator(seed), dtype=torch.float64)
        self.w = nn.Parameter(torch.eye(N, dtype=torch.float64) * 0.9 + 0.2 * noise / N**0.5)

    def forward(self, u: Tensor) -> Tensor:
        return u @ self.w.T


def window(batch: int = 3, frames: int = 8, seed: int = 1) -> Tensor:
    return torch.randn(batch, frames, 1, N, generator=generator(seed), dtype=torch.float64)


def gradient(total: Tensor, step: Linear) -> Tensor:
    return torch.autograd.grad(total, step.w)[0]


def solver() -> Linear:
    found = Linear(seed=3)
    found.w.requires_grad_(False)
    return found


# Chains


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_a_single_branch_of_an_exact_solver_is_supervised_unrolling(reduction):
    grid = Grid((N,), (1.0,))
    exact = build(Burgers(viscosity=0.05), grid, dt=0.01)
    x = torch.arange(N, dtype=torch.float64) / N
    first = torch.stack([torch.sin(2 * math.pi * (x - s)) for s in (0.0, 0.2, 0.5)]).unsqueeze(1)
    data = rollout(exact, 4)(first)
    step = Linear()
    diverted = DivertedChain(exact, steps=4, branch=4, reduction=reduction)
    found, expected = (o(step, data)[0] for o in (diverted, Unrolled(4, reduction=reduction)))
    assert torch.equal(found, expected)
    assert torch.equal(gradient(found, step), gradient(expected, step))
    assert diverted.horizon == 1


def test_branches_start_at_every_state_of_the_rollout():
    step, reference, data = Linear(), solver(), window()
    total, parts = DivertedChain(reference, steps=3, branch=2, reduction="sum")(step, data)
    with torch.no_grad():
        z = rollout(step, 3)(data[:, 0])
    expected = 0.0
    for j in (0, 1):
        y = rollout(reference, 2)(z[:, j])
        for b in (1, 2):
            expected += (z[:, j + b] - y[:, b]).square().mean().item()
    assert total.item() == pytest.approx(expected, rel=1e-13)
    assert set(parts) == {"branch_0_1", "branch_0_2", "branch_1_1", "branch_1_2", "dropped"}


def test_gradients_through_the_solver_and_cut_ones_are_what_they_say():
    """T = 2, B = 1: L = |W u - P u|^2 + |W z - P z|^2 with z = W u, differentiated by hand."""
    step, reference, data = Linear(), solver(), window()
    w, p, u = step.w.detach(), reference.w, data[:, 0, 0]
    z = u @ w.T
    first, second = (2 * (v @ (w - p).T) / v.numel() for v in (u, z))
    direct = first.T @ u + second.T @ z
    through_f, through_p = second @ w, second @ p
    expected = {
        ("none", False): direct,
        ("full", False): direct + through_f.T @ u,
        ("full", True): direct + (through_f - through_p).T @ u,
    }
    for (cut, through), value in expected.items():
        objective = DivertedChain(reference, 2, 1, gradient=cut, through_solver=through, reduction="sum")  # type: ignore[arg-type]
        torch.testing.assert_close(gradient(objective(step, data)[0], step), value, rtol=1e-11, atol=1e-14)


def test_a_mixed_chain_ends_with_the_solver_and_its_gradient_passes_it():
    step, reference, data = Linear(), solver(), window()
    objective = MixedChain(reference, steps=1, after=2, intermediate=False)
    assert objective.horizon == 3
    w, p, u = step.w.detach(), reference.w, data[:, 0, 0]
    end = u @ w.T @ p.T @ p.T
    adjoint = 2 * (end - data[:, 3, 0]) / end.numel() @ p @ p
    found, parts = objective(step, data)
    torch.testing.assert_close(gradient(found, step), adjoint.T @ u, rtol=1e-11, atol=1e-14)
    assert set(parts) == {"solver_2", "dropped"}
    plain = MixedChain(reference, steps=3, after=0)
    assert torch.equal(plain(step, data)[0], Unrolled(3)(step, data)[0])
    assert torch.equal(MixedChain(reference, 1, 0)(step, data)[0], OneStep()(step, data)[0])


@pytest.mark.parametrize("through", [False, True])
def test_a_solver_that_blows_up_takes_its_samples_along_and_no_others(through):
    """exp of exp: infinite with infinite derivatives for one sample, harmless for the others."""
    step, data = Linear(), window(batch=4)
    data[2] *= 50
    for objective in (
        DivertedChain(lambda u: u.exp().exp(), steps=2, through_solver=through),
        MixedChain(lambda u: u.exp().exp(), steps=1, after=1),
    ):
        total, parts = objective(step, data * 0.2)
        assert parts["dropped"] == 1
        expected = objective(step, data[[0, 1, 3]] * 0.2)[0]
        assert torch.equal(total, expected)
        assert torch.equal(gradient(total, step), gradient(expected, step))
        none, parts = objective(step, data[2:3] * 0.2)
        assert none == 0 and parts["dropped"] == 1 and not gradient(none, step).any()
    limited = DivertedChain(lambda u: 0.9 * u, steps=2, limit=20.0)
    assert limited(step, data)[1]["dropped"] == 1


# Lead times


class Flow(nn.Module):
    """exp(lead A) u, the exact flow of a linear system, as a step that takes lead times."""

    def __init__(self) -> None:
        super().__init__()
        noise = torch.randn(N, N, generator=generator(5), dtype=torch.float64)
        self.a = nn.Parameter(0.1 * noise / N**0.5)
        self.leads: list[float] = []

    def forward(self, u: Tensor, lead: Tensor | None = None) -> Tensor:
        lead = u.new_ones(len(u)) if lead is None else lead
        self.leads += lead.tolist()
        return torch.einsum("bij,bcj->bci", torch.linalg.matrix_exp(lead.reshape(-1, 1, 1) * self.a), u)


@pytest.mark.parametrize("n", [1, 3, 7])
def test_all_pairs_of_a_window_are_taken_once(n):
    step, data = Flow(), window(batch=2, frames=n + 1)
    objective = AllPairs(n)
    assert objective.horizon == n
    _, parts = objective(step, data)
    pairs = (n + 1) * (n + 2) // 2
    assert len(step.leads) == 2 * pairs
    assert sorted(step.leads[:pairs]) == sorted(j - i for i in range(n + 1) for j in range(i, n + 1))
    assert set(parts) == {f"lead_{k}" for k in range(n + 1)}
    if n == 7:
        assert pairs == 36


def test_a_flow_satisfies_all_pairs_and_errors_land_on_their_lead():
    flow, first = Flow(), window(frames=1)[:, 0]
    data = rollout(flow, 4)(first).detach()
    total, parts = AllPairs(4)(flow, data)
    assert total < 1e-28
    data[:, 4] += 1.0  # pairs that end there: one of each lead; (4, 4) compares it with itself
    total, parts = AllPairs(4, identity=False)(flow, data)
    assert total.item() == pytest.approx(4 / 10)
    expected = {"lead_1": 1 / 4, "lead_2": 1 / 3, "lead_3": 1 / 2, "lead_4": 1.0}
    assert {k: v.item() for k, v in parts.items()} == pytest.approx(expected, rel=1e-9)


def test_pairs_may_be_drawn_and_two_frames_are_one_step():
    flow, data = Flow(), window(batch=5)
    AllPairs(7, pairs=3)(flow, data, generator())
    assert len(flow.leads) == 15
    found = AllPairs(1, identity=False)(flow, data)[0]
    assert torch.equal(found, OneStep()(flow, data)[0])


def test_a_network_with_a_lead_channel_is_a_step_at_every_lead_through_its_wrappers():
    grid = Grid((N,), (1.0,))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = ConvNet(2, 1, width=4, hidden_layers=1)
    inner = Residual(LeadTime(net, longest=4))
    step = Surrogate(Normalized(inner, 1.0, 2.0), 0.1, grid, ("u",)).double()
    u = window()[:, 0]
    assert torch.equal(step(u), step(u, torch.ones(len(u))))
    assert not torch.equal(step(u), step(u, torch.full((len(u),), 2.0)))
    leads = torch.tensor([1.0, 2.0, 4.0])
    together = step(u, leads)
    for k, lead in enumerate(leads.tolist()):
        jump = AtLead(step, lead)
        torch.testing.assert_close(jump(u)[k], together[k])
        assert jump.dt == pytest.approx(0.1 * lead) and jump.domain is grid
    total, _ = AllPairs(3)(step, window())
    total.backward()
    assert all(p.grad is not None for p in step.parameters())


# Bundles


def test_a_bundled_network_is_a_step_and_the_same_through_its_wrappers():
    grid = Grid((N,), (1.0,))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = ConvNet(1, 3, width=4, hidden_layers=1)
    step = Surrogate(Normalized(Residual(Bundled(net, 3)), 1.0, 2.0), 0.1, grid, ("u",)).double()
    u = window()[:, 0]
    z = (u - 1) / 2
    rates = net(z)
    frames = torch.stack([2 * (z + k * rates[:, k - 1 : k]) + 1 for k in (1, 2, 3)], dim=1)
    torch.testing.assert_close(step.ahead(u), frames)
    torch.testing.assert_close(step(u), frames[:, 0])
    long = rollout(step, 5)(u)
    torch.testing.assert_close(long[:, 1:4], frames)
    torch.testing.assert_close(long[:, 4:], step.ahead(frames[:, 2])[:, :2])
    total, parts = Unrolled(2, bundle=3)(step, window())
    assert "step_6" in parts and torch.isfinite(total)
    with pytest.raises(ValueError, match="out_channels: 4"):
        Bundled(net, 4)(u)


def test_a_bundle_with_history_moves_its_window_of_frames():
    """Straight lines, with the newest frame plus l times the last velocity: MP-PDE's form, 2 frames to 3."""

    def velocity(state: Tensor) -> Tensor:
        old, new = state.chunk(2, dim=1)
        return (new - old).repeat(1, 3, 1)

    step = Bundled(velocity, 3, history=2, residual=True)
    start, slope = window(frames=1), window(frames=1, seed=2)
    line = torch.cat([start + k * slope for k in range(8)], dim=1)
    state = line[:, :2].flatten(1, 2)
    assert Unrolled(2, history=2, bundle=3).horizon == 7
    assert Unrolled(2, history=2, bundle=3)(step, line)[0] < 1e-26
    torch.testing.assert_close(step(state), line[:, 1:3].flatten(1, 2))
    torch.testing.assert_close(rollout(step, 4)(state)[:, 4], line[:, 4:6].flatten(1, 2))


# Refinement


def refined(refinements: int = 3, **options: float) -> Refined:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        net = ConvNet(3, 1, width=6, hidden_layers=1)
    return Refined(net, refinements, **options).double()  # type: ignore[arg-type]


def test_levels_of_noise_are_those_of_the_paper():
    step = refined()
    variance = 4e-7
    betas = [variance ** (k / 3) for k in (1, 2, 3)]
    alpha = [math.prod(1 - b for b in betas[k:]) for k in range(3)]
    assert step.signal.square().tolist() == pytest.approx([0.0, *alpha], rel=1e-12)
    assert step.noise.square().tolist() == pytest.approx([1.0, *(1 - a for a in alpha)], rel=1e-8)
    assert step.noise[3].item() == pytest.approx(6.32e-4, rel=1e-3)


def test_a_perfect_denoiser_gives_the_true_step_whatever_the_noise():
    """Knowing y, it answers v exactly; then every refinement returns y."""
    truth = window()[:, 0] * 0.1

    class Oracle(nn.Module):
        def forward(self, given: Tensor) -> Tensor:
            x, level = given[:, 1:2], (3 * given[:, 2:, :1]).round()
            a, s = (v[level.long().flatten()].reshape(-1, 1, 1) for v in (step.signal, step.noise))
            return torch.where(level == 0, truth, (a * (x - a * truth) / s) - s * truth)

    step = Refined(Oracle(), 3)
    u = window(seed=4)[:, 0]
    for g in (None, generator(7)):
        torch.testing.assert_close(step(u, g), u + 0.3 * truth, rtol=1e-10, atol=1e-10)


def test_the_loss_asks_for_what_the_step_inverts():
    step = refined()
    y, noise = window()[:, 0], window(seed=2)[:, 0]
    for k in (1, 2, 3):
        level = torch.full((3,), k)
        x, v = step.disturbed(y, level, noise)
        torch.testing.assert_close(step.signal[k] * x - step.noise[k] * v, y)
    x, v = step.disturbed(y, torch.zeros(3, dtype=torch.int64), noise)
    assert not x.any() and torch.equal(v, y)


def test_refinement_trains_every_level_and_without_any_it_is_one_step():
    grid = Grid((N,), (1.0,))
    step, data = refined(), window(batch=400, frames=2)
    total, parts = Refinement()(Surrogate(step, 0.1, grid, ("u",)), data, generator())
    assert set(parts) == {"level_0", "level_1", "level_2", "level_3"}
    assert not any(math.isnan(v) for v in parts.values())
    total.backward()
    assert all(p.grad is not None and p.grad.any() for p in step.f.parameters())
    plain, data = refined(0), window(frames=2)
    found = Refinement()(plain, data, generator())[0] * plain.scale**2
    torch.testing.assert_close(found, OneStep()(plain, data)[0], rtol=1e-13, atol=0)


def test_the_step_is_a_function_of_the_state_unless_noise_is_handed_in():
    step, u = refined(), window()[:, 0]
    assert torch.equal(step(u), step(u))
    assert torch.equal(step(u)[1:], step(u[1:]))
    assert torch.equal(step(u, generator(1)), step(u, generator(1)))
    assert not torch.equal(step(u, generator(1)), step(u, generator(2)))


def test_refinement_refuses_increments_around_it_and_precisions_that_round_the_noise_away():
    data = window(frames=2)
    with pytest.raises(ValueError, match="residual: false"):
        Refinement()(Residual(refined()), data)
    with pytest.raises(ValueError, match="no refiner"):
        Refinement()(Linear(), data)
    with pytest.raises(ValueError, match="min_variance"):
        Refinement()(refined().to(torch.bfloat16), data.to(torch.bfloat16))
    with pytest.raises(ValueError, match="min_variance"):
        Refinement()(refined(min_variance=1e-16).float(), data.float())
    Refinement()(Normalized(refined(), 0.0, 1.0), data.double(), generator())


# Dissipativity


def test_dissipativity_asks_for_contraction_on_a_shell():
    seen: list[Tensor] = []

    def step(u: Tensor) -> Tensor:
        seen.append(u)
        return 0.5 * u

    objective = Dissipativity(3.0, 5.0, samples=500)
    assert objective(step, window(), generator())[0] == 0
    size = seen[0].square().flatten(1).mean(1).sqrt()
    assert seen[0].shape == (500, 1, N) and 3.0 <= size.min() < 3.1 and 4.9 < size.max() <= 5.0
    # Uniform on [3, 5]: E r^2 = 49/3, standard error 0.24.
    doubled = objective(lambda u: 1.5 * u, window(), generator())[0]
    assert doubled.item() == pytest.approx(49 / 3, abs=1.0)


def test_a_dissipative_step_is_the_network_inside_and_contracts_outside():
    step = Dissipative(lambda u: 3 * u, radius=10.0, width=0.2)
    u = window()[:, 0]
    torch.testing.assert_close(step(u), 3 * u, rtol=1e-12, atol=0)
    torch.testing.assert_close(step(100 * u), 50 * u, rtol=1e-12, atol=0)
    long = rollout(step, 300)(u)
    assert long.square().mean((2, 3)).sqrt().max() < 40
    assert torch.isfinite(Dissipative(lambda u: u / 0, 1.0, 0.1)(1e3 * u)).all()


@pytest.mark.parametrize(
    "make",
    [
        lambda: DivertedChain(solver(), 2, 3),
        lambda: DivertedChain(solver(), 2, gradient=0),
        lambda: MixedChain(solver(), 0),
        lambda: MixedChain(solver(), reduction="max"),  # type: ignore[arg-type]
        lambda: AllPairs(0),
        lambda: AllPairs(2, pairs=0),
        lambda: Dissipativity(2.0, 1.0),
        lambda: Dissipative(solver(), 0.0, 1.0),
        lambda: Refined(solver(), -1),
        lambda: LeadTime(solver(), 0),
        lambda: Bundled(solver(), 0),
    ],
)
def test_arguments_out_of_range_are_refused(make):
    with pytest.raises(ValueError, match="expected"):
        make()
