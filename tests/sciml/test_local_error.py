from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.integrate import RK45
from torch import nn

from sciml.jacobian.remembered import Remembered
from sciml.models import NeuralODE
from sciml.objectives import Geometric, Regularized, Unrolled
from sciml.regularizers import LocalError
from sciml.regularizers.local_error import Watcher, flow_of, initial_step, local_cost
from sciml.solvers.time import DORMAND_PRINCE, TSITOURAS


def made(seed=0, **options) -> NeuralODE:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return NeuralODE(**{"in_channels": 2, "width": 8, "rtol": 1e-6, "atol": 1e-6, **options}).double()


def states(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("pair", [TSITOURAS, DORMAND_PRINCE])
def test_stiffness_of_a_linear_field_is_its_rate(pair):
    _, stiffness = local_cost(lambda u, t: -40 * u, 0.0, states(3, 2), 0.03, pair, 1e-6, 1e-6)
    assert stiffness.tolist() == pytest.approx([40.0] * 3, rel=1e-9)
    assert TSITOURAS.tableau.stability_limit(-1) == pytest.approx(3.5068, abs=1e-4)


def test_the_error_of_a_step_is_that_of_scipy():
    def swing(t, v):
        return np.array([v[1], -math.sin(v[0]) + 0.3 * t])

    h, atol, rtol = 0.3, 1e-5, 1e-4
    start = np.array([1.0, 0.5])
    solver = RK45(swing, 0.2, start, 5.0, rtol=1.0, atol=1.0, first_step=h)
    solver.step()
    error = h * solver.K.T @ RK45.E
    expected = np.sqrt(((error / (atol + rtol * np.maximum(np.abs(start), np.abs(solver.y)))) ** 2).mean())

    def field(u, t):
        return torch.stack([u[:, 1], -torch.sin(u[:, 0]) + 0.3 * t], dim=1)

    found, _ = local_cost(field, 0.2, torch.tensor(start[None]), h, DORMAND_PRINCE, rtol, atol)
    assert float(found) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("frozen", [False, True])
def test_gradients_at_a_fixed_place_are_those_of_differences(which, frozen):
    """With u(t1) and h frozen, and with the first slope frozen or not."""
    ode, u, h = made(timed=True), 2 * states(4, 2), 1.0
    with torch.no_grad():
        for (
            p
        ) in ode.parameters():  # a wild field: frozen, the first slope leaves an error that is not small
            p.mul_(3)
        first = ode.slope(u, 0.3) if frozen else None

    def value():
        return local_cost(ode.slope, 0.3, u, h, ode.pair, ode.rtol, ode.atol, first)[which].mean()

    grads = torch.autograd.grad(value(), list(ode.parameters()))
    for p, g in zip(ode.parameters(), grads, strict=True):
        direction = states(*p.shape, seed=5)
        eps, ends = 4e-6, {}
        with torch.no_grad():
            kept = p.clone()
            for k in (-2, -1, 1, 2):  # of fourth order
                p.copy_(kept + k * eps * direction)
                ends[k] = float(value())
            p.copy_(kept)
        slope = (8 * (ends[1] - ends[-1]) - (ends[2] - ends[-2])) / (12 * eps)
        assert float((g * direction).sum()) == pytest.approx(slope, rel=1e-6)


@pytest.mark.parametrize("gradient", ["through", "adjoint"])
@pytest.mark.parametrize("sampling", ["unbiased", "biased"])
def test_loss_and_penalty_add_up_for_both_gradients(gradient, sampling):
    ode = made(gradient=gradient, rtol=1e-9, atol=1e-9)
    window = states(4, 2, 2)
    penalised = Regularized(Unrolled(1), LocalError(sampling=sampling), weight=0.3, scale_free=False)

    def grads(total):
        return torch.cat([g.flatten() for g in torch.autograd.grad(total, list(ode.parameters()))])

    generator = torch.Generator().manual_seed(1)
    both = grads(penalised(ode, window, generator)[0])
    task = grads(Unrolled(1)(ode, window, None)[0])
    generator.manual_seed(1)
    penalty = grads(LocalError(sampling=sampling)(ode, window[:, 0], generator).mean())
    assert float((both - task - 0.3 * penalty).norm()) < 1e-9 * float(both.norm())
    # The other gradient of the solution gives the same sum to the tolerance.
    other = made(gradient="adjoint" if gradient == "through" else "through", rtol=1e-9, atol=1e-9)
    total = penalised(other, window, torch.Generator().manual_seed(1))[0]
    g = torch.cat([g.flatten() for g in torch.autograd.grad(total, list(other.parameters()))])
    assert float((both - g).norm()) < 1e-5 * float(both.norm())


def test_the_solution_is_computed_once():
    ode, count = made(), 0
    inner = ode.field

    class Counting(nn.Module):
        def forward(self, u):
            nonlocal count
            count += 1
            return inner(u)

    ode.field = Counting()
    Unrolled(1)(ode, states(3, 2, 2), None)
    plain, count = count, 0
    Regularized(Unrolled(1), LocalError(), scale_free=False)(ode, states(3, 2, 2), torch.Generator())
    assert count == plain + 7  # the slopes of one step more


def test_draws_of_places():
    """Mean of h^2 over draws: unbiased weighs steps by their length, biased alike; of one recorded solution."""
    ode, u = made(3, duration=3.0, rtol=1e-10, atol=1e-10), 2 * states(3, 2)
    steps = []
    with ode.watched(steps.append), torch.no_grad():
        ode(u)
    assert len(steps) > 6 and max(s.h for s in steps) > 1.5 * min(s.h for s in steps)
    sizes = torch.tensor([s.h for s in steps], dtype=torch.float64)
    generator, draws = torch.Generator().manual_seed(0), 20_000
    seen: dict[str, list[float]] = {"unbiased": [], "biased": []}
    plain = [Bare(s) for s in steps]
    for sampling, found in seen.items():
        for _ in range(draws):
            watcher = Watcher(sampling, ode, generator)
            for step in plain:
                watcher(step)
            found.append(watcher.place[2] ** 2)
    for sampling, expected in (
        ("unbiased", (sizes / 3.0 * sizes**2).sum()),
        ("biased", (sizes**2).mean()),
    ):
        values = torch.tensor(seen[sampling], dtype=torch.float64)
        assert abs(float(values.mean() - expected)) < 3 * float(values.std()) / draws**0.5
    # Times of the unbiased draw are uniform and lie in their step.
    times = []
    for _ in range(2000):
        watcher = Watcher("unbiased", ode, generator)
        for step in plain:
            watcher(step)
        times.append(watcher.place[0])
    assert sum(times) / len(times) == pytest.approx(1.5, abs=3 * 3.0 / 12**0.5 / 2000**0.5)


class Bare:
    """An accepted step whose interpolant costs nothing."""

    def __init__(self, step):
        self.t, self.h, self.u = step.t, step.h, step.u

    def at(self, t):
        return self.u


def test_the_place_lies_on_the_solution():
    ode, u = made(duration=2.0, rtol=1e-9, atol=1e-9), states(3, 2)
    watcher = Watcher("unbiased", ode, torch.Generator().manual_seed(7))
    with ode.watched(watcher), torch.no_grad():
        ode(u)
    t, state, _ = watcher.place
    with torch.no_grad():
        expected = ode.trajectory(u, (0.0, t))[:, -1]
    assert 0 < t < 2 and torch.allclose(state, expected, rtol=0, atol=1e-7)


def test_the_global_sum_is_that_of_all_steps():
    ode, u = made(duration=2.0), states(3, 2)
    steps = []
    with ode.watched(steps.append):
        ode(u)
    parts = [local_cost(ode.slope, s.t, s.u, s.h, ode.pair, ode.rtol, ode.atol) for s in steps]
    error = sum(s.h * e for s, (e, _) in zip(steps, parts, strict=True))
    assert torch.allclose(LocalError(sampling="global")(ode, u), error, rtol=1e-10)
    stiff = sum(s for _, s in parts) / ode.extent
    assert torch.allclose(LocalError("stiffness", "global")(ode, u), stiff, rtol=1e-10)
    # Its gradient passes through the solver: the place of later steps counts.
    p = list(ode.parameters())
    (g,) = torch.autograd.grad(LocalError(sampling="global")(ode, u).sum(), p[:1])
    frozen = sum(
        s.h * local_cost(ode.slope, s.t, s.u.detach(), s.h, ode.pair, ode.rtol, ode.atol)[0] for s in steps
    )
    (other,) = torch.autograd.grad(frozen.sum(), p[:1])
    assert float((g - other).norm()) > 1e-3 * float(g.norm())
    with pytest.raises(ValueError, match="needs gradients through the solver"):
        LocalError(sampling="global")(made(gradient="adjoint"), u)


def test_the_first_step_is_the_solvers_own_guess():
    ode, u = made(), states(3, 2)
    steps = []
    with ode.watched(steps.append), torch.no_grad():
        ode(u)
        guess = initial_step(ode.slope, 0.0, u, ode.slope(u, 0.0), ode.pair, ode.rtol, ode.atol)
    assert guess == pytest.approx(steps[0].h, rel=1e-6)
    value = LocalError(step_size="initial")(ode, u, torch.Generator())
    assert value.shape == (3,) and bool((value > 0).all())


def test_it_acts_inside_wrappers_and_a_field_at_rest_has_gradients():
    ode = made()
    for p in list(ode.parameters())[-2:]:
        nn.init.zeros_(p)
    wrapped = nn.Sequential(nn.Identity(), ode)
    value = LocalError()(Remembered(wrapped), states(3, 2), torch.Generator().manual_seed(0)).mean()
    value.backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in ode.parameters())


def test_steps_without_an_equation_and_wrong_options_are_refused():
    with pytest.raises(ValueError, match="0 parts that solve an equation"):
        LocalError()(nn.Linear(2, 2), torch.zeros(1, 2))
    with pytest.raises(ValueError, match="2 parts"):
        flow_of(nn.Sequential(made(), made()))
    with pytest.raises(ValueError, match="LocalError got sampling='often'"):
        LocalError(sampling="often")  # type: ignore[arg-type]


def test_a_decaying_weight_comes_from_a_schedule():
    penalised = Regularized(
        Unrolled(1), LocalError(), weight=Geometric(2.5, 1.0, updates=10), scale_free=False
    )
    first = float(penalised.current_weight())
    for _ in range(10):
        penalised(made(), states(2, 2, 2), torch.Generator().manual_seed(0))
    assert first == pytest.approx(2.5) and float(penalised.current_weight()) == pytest.approx(1.0)
