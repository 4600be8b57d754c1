"""Dormand-Prince 5(4): order, interpolant, tolerance, derivatives, and what happens to a sample that blows up."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.integrate import RK45, solve_ivp
from torch import Tensor

from sciml.odes import Lorenz63
from sciml.solvers.time import DORMAND_PRINCE, TSITOURAS, EmbeddedPair, adaptive_rk
from sciml.solvers.verify.measure import observed_order


def _swing(u: Tensor) -> Tensor:
    """Pendulum, nonlinear but tame."""
    return torch.stack([u[:, 1], -torch.sin(u[:, 0])], dim=1)


START = torch.tensor([[1.0, 0.5]], dtype=torch.float64)


def _at(times: list[float], tolerance: float = 1e-13) -> Tensor:
    return adaptive_rk(_swing, START, [0.0, *times], rtol=tolerance, atol=tolerance).states[:, 1:]


def test_one_step_is_that_of_scipy() -> None:
    """State, error estimate and interpolant of one step against an independent implementation."""
    h = 0.3
    solver = RK45(
        lambda t, u: [u[1], -math.sin(u[0])], 0.0, START[0].numpy(), 1.0, rtol=1.0, atol=1.0, first_step=h
    )
    solver.step()
    assert solver.t == pytest.approx(h)
    dense = solver.dense_output()
    times = [0.0, 0.05, 0.11, 0.2, 0.29, h]
    found = adaptive_rk(_swing, START, times, rtol=1.0, atol=1.0, first_step=h)
    assert found.steps == (h,) and found.rejected == 0
    expected = np.stack([dense(t) for t in times])
    assert np.abs(found.states[0].numpy() - expected).max() < 1e-14
    slopes = [torch.as_tensor(k) for k in solver.K]
    error = sum(w * k for w, k in zip(DORMAND_PRINCE.error, slopes, strict=True))
    assert np.abs(np.abs(error.numpy()) - np.abs(solver.K.T @ RK45.E)).max() < 1e-15


@pytest.mark.parametrize("pair", [DORMAND_PRINCE, TSITOURAS], ids=["Dormand-Prince", "Tsitouras"])
def test_orders_of_the_step_and_between_steps(pair: EmbeddedPair) -> None:
    """Fixed steps by a tolerance that rejects nothing: order 5 at the ends, 4 at least between them."""
    exact = _at([0.37, 1.0])
    ends, between = [], []
    for n in (4, 8, 16):
        u, t = START, 0.0
        for i in range(n):
            inside = t < 0.37 < t + 1 / n
            times = [t, 0.37, t + 1 / n] if inside else [t, t + 1 / n]
            states = adaptive_rk(_swing, u, times, rtol=1e9, atol=1e9, first_step=1 / n, pair=pair).states
            if inside:
                between.append(float((states[:, 1] - exact[:, 0]).norm()))
            u, t = states[:, -1], (i + 1) / n
        ends.append(float((u - exact[:, 1]).norm()))
    assert observed_order(ends) == pytest.approx(5.0, abs=0.25)
    # The interpolant has order 4 globally: an error of h^5 in each step; where in the step it falls varies.
    assert between[0] / between[2] > 4**4 * 0.5


@pytest.mark.parametrize("tolerance", [1e-4, 1e-7, 1e-10])
def test_errors_follow_the_tolerance(tolerance: float) -> None:
    times = np.linspace(0, 10, 101).tolist()
    found = adaptive_rk(_swing, START, times, rtol=tolerance, atol=tolerance)
    error = float((found.states[:, 1:] - _at(times[1:])).abs().max())
    # Errors of steps add up over a time of 10; shear lets them grow in proportion to it again.
    assert error < 50 * tolerance
    assert error > 1e-2 * tolerance
    assert sum(found.steps) == pytest.approx(10.0)
    assert found.evaluations == 2 + 6 * (len(found.steps) + found.rejected)


def test_the_number_of_steps_grows_with_the_fifth_root() -> None:
    counts = [
        len(adaptive_rk(_swing, START, [0.0, 50.0], rtol=tol, atol=tol).steps) for tol in (1e-6, 1e-11)
    ]
    assert counts[1] / counts[0] == pytest.approx(10.0, rel=0.2)


def test_sudden_changes_are_met_by_rejections() -> None:
    """Van der Pol's oscillator, slow for long and then fast, against scipy."""

    def rhs(u: Tensor) -> Tensor:
        return torch.stack([u[:, 1], 10 * (1 - u[:, 0] ** 2) * u[:, 1] - u[:, 0]], dim=1)

    u = torch.tensor([[2.0, 0.0]], dtype=torch.float64)
    found = adaptive_rk(rhs, u, [0.0, 20.0], rtol=1e-8, atol=1e-8)
    assert found.rejected > 0 and max(found.steps) > 10 * min(found.steps[1:])
    exact = solve_ivp(
        lambda t, v: [v[1], 10 * (1 - v[0] ** 2) * v[1] - v[0]],
        (0, 20),
        [2.0, 0.0],
        "DOP853",
        rtol=1e-12,
        atol=1e-12,
    )
    assert np.abs(found.states[0, -1].numpy() - exact.y[:, -1]).max() < 1e-5


def test_the_worst_sample_decides_and_each_is_within_tolerance() -> None:
    ode = Lorenz63()
    u = ode.initial(4, torch.Generator().manual_seed(0))
    together = adaptive_rk(ode.rhs, u, [0.0, 1.0], rtol=1e-8, atol=1e-8)
    alone = [adaptive_rk(ode.rhs, v[None], [0.0, 1.0], rtol=1e-8, atol=1e-8) for v in u]
    assert len(together.steps) >= max(len(a.steps) for a in alone)
    exact = adaptive_rk(ode.rhs, u, [0.0, 1.0], rtol=1e-12, atol=1e-12).states
    assert (together.states - exact).abs().max() < 1e-5


def test_derivatives_are_those_of_the_accepted_steps() -> None:
    stiffness = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)

    def end(u: Tensor, k: Tensor) -> Tensor:
        def rhs(v: Tensor) -> Tensor:
            return torch.stack([v[:, 1], -k * torch.sin(v[:, 0])], dim=1)

        return adaptive_rk(rhs, u, [0.0, 0.4, 1.0], rtol=1e-6, atol=1e-6).states

    u = START.clone().requires_grad_()
    # Differences see the steps change with the state too, by an amount below the tolerance of 1e-6.
    assert torch.autograd.gradcheck(end, (u, stiffness), eps=1e-5, atol=1e-4, check_forward_ad=True)
    tight = torch.autograd.functional.jacobian(lambda v: _flow(v, 1e-12), START)
    loose = torch.autograd.functional.jacobian(lambda v: _flow(v, 1e-7), START)
    assert (tight - loose).abs().max() < 1e-5


def _flow(u: Tensor, tolerance: float) -> Tensor:
    return adaptive_rk(_swing, u, [0.0, 1.0], rtol=tolerance, atol=tolerance).states[:, -1]


def test_a_sample_that_runs_to_infinity_leaves_the_others_alone() -> None:
    """u' = u^2 from 1 ends at t = 1, from 0.1 at t = 10."""
    u = torch.tensor([[1.0], [0.1], [math.nan]], dtype=torch.float64)
    found = adaptive_rk(lambda v: v**2, u, [0.0, 0.5, 2.0], rtol=1e-8, atol=1e-8).states[..., 0]
    assert float(found[0, 1]) == pytest.approx(2.0, rel=1e-6)
    assert found[0, 2].isnan() and found[2, 1:].isnan().all()
    assert float(found[1, 2]) == pytest.approx(0.125, rel=1e-6)
    gone = adaptive_rk(lambda v: v**2, u[:1], [0.0, 2.0, 3.0]).states
    assert gone[0, 1:].isnan().all() and gone.shape == (1, 3, 1)


def test_single_precision_is_asked_for_no_more_than_it_has() -> None:
    found = adaptive_rk(_swing, START.float(), [0.0, 1.0], rtol=1e-12, atol=1e-12)
    assert found.states.dtype == torch.float32
    assert (found.states[:, -1] - _at([1.0])[:, 0]).abs().max() < 1e-5


def test_a_state_of_rest_takes_few_steps() -> None:
    found = adaptive_rk(_swing, torch.zeros(1, 2, dtype=torch.float64), [0.0, 10.0])
    assert not found.states.any() and len(found.steps) < 20


def test_refusals() -> None:
    for times in ([0.0, 1.0, 1.0], [], [0.0, math.inf]):
        with pytest.raises(ValueError, match="increasing"):
            adaptive_rk(_swing, START, times)
    with pytest.raises(ValueError, match="rtol=0"):
        adaptive_rk(_swing, START, [0.0, 1.0], rtol=0.0)
    with pytest.raises(ArithmeticError, match="took 5 steps"):
        adaptive_rk(_swing, START, [0.0, 100.0], max_steps=5)
    with pytest.raises(ValueError, match="expected 7"):
        EmbeddedPair(DORMAND_PRINCE.tableau, (1.0,), DORMAND_PRINCE.bump, 4)
    assert torch.equal(adaptive_rk(_swing, START, [0.0]).states, START.unsqueeze(1))


def test_the_estimate_of_tsitouras_has_order_five() -> None:
    """Weights that sum to zero, and an estimate that falls by 2^5 when the step is halved."""
    assert sum(TSITOURAS.error) == pytest.approx(0, abs=1e-14) and sum(TSITOURAS.bump) == pytest.approx(
        0, abs=1e-13
    )
    sizes = []
    for h in (0.2, 0.1, 0.05):
        seen = []
        adaptive_rk(
            _swing, START, [0.0, h], rtol=1e9, atol=1e9, first_step=h, pair=TSITOURAS, watch=seen.append
        )
        slopes = seen[0].slopes
        sizes.append(float((h * sum(w * k for w, k in zip(TSITOURAS.error, slopes, strict=True))).norm()))
    assert observed_order(sizes) == pytest.approx(5.0, abs=0.2)


@pytest.mark.parametrize("pair", [DORMAND_PRINCE, TSITOURAS], ids=["Dormand-Prince", "Tsitouras"])
def test_time_reaches_every_stage(pair: EmbeddedPair) -> None:
    """u' = u cos t, u = exp(sin t); who watches sees the steps, whose interpolants are those of the solution."""
    seen = []
    found = adaptive_rk(
        lambda u, t: u * math.cos(t),
        torch.ones(1, 1, dtype=torch.float64),
        [0.0, 1.3, 4.0],
        rtol=1e-10,
        atol=1e-10,
        pair=pair,
        timed=True,
        watch=seen.append,
    )
    assert found.states[0, 1:, 0].tolist() == pytest.approx(
        [math.exp(math.sin(t)) for t in (1.3, 4.0)], rel=1e-8
    )
    assert [step.h for step in seen] == list(found.steps) and seen[0].t == 0.0
    inside = next(step for step in seen if step.t <= 1.3 < step.t + step.h)
    assert torch.equal(inside.at(1.3), found.states[:, 1])
