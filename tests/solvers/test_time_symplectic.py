"""Symplectic steps: orders, stability limits, structure, and derivatives of the implicit ones."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sciml.odes import DoublePendulum, HenonHeiles
from sciml.solvers.time import (
    COMPOSITIONS,
    SINGLE,
    SUZUKI4,
    TRIPLE_JUMP,
    YOSHIDA6,
    Composition,
    implicit_midpoint,
    symplectic,
)
from sciml.solvers.verify.measure import observed_order

STAR = HenonHeiles()
START = torch.tensor([[0.1, 0.2, 0.3, 0.1], [0.0, -0.15, 0.35, 0.2]], dtype=torch.float64)


def _kicks(dt: float, scheme: Composition, substeps: int = 1):
    return symplectic(STAR.velocity, STAR.force, dt, scheme, substeps=substeps)


@pytest.mark.parametrize("scheme", COMPOSITIONS, ids=lambda s: s.name)
@pytest.mark.parametrize("kind", ["kicks", "midpoint"])
def test_orders(scheme: Composition, kind: str) -> None:
    def run(n: int, scheme: Composition = scheme) -> Tensor:
        if kind == "kicks":
            return _kicks(2.0, scheme, n)(START)
        return implicit_midpoint(STAR.rhs, 2.0, scheme, substeps=n)(START)

    exact = _kicks(2.0, YOSHIDA6, 200)(START)
    errors = [float((run(n) - exact).norm()) for n in (8, 16)]
    assert observed_order(errors) == pytest.approx(scheme.order, abs=0.2)


def test_negative_powers_of_the_weights_cancel() -> None:
    """Order 4 needs sum w^3 = 0, order 6 sum w^5 = 0 too (Yoshida 1990)."""
    for scheme in COMPOSITIONS:
        for power in range(3, scheme.order, 2):
            assert abs(sum(w**power for w in scheme.weights)) < 1e-14


@pytest.mark.parametrize(
    ("scheme", "limit"), [(SINGLE, 2.0), (TRIPLE_JUMP, 1.573), (SUZUKI4, 2.720), (YOSHIDA6, 2.269)]
)
def test_stability_limits_are_where_an_oscillator_escapes(scheme: Composition, limit: float) -> None:
    assert scheme.stability_limit() == pytest.approx(limit, abs=2e-3)
    u = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    for factor, bounded in ((0.98, True), (1.02, False)):
        v = symplectic(lambda p: p, lambda q: -q, 500 * factor * limit, scheme, substeps=500)(u)
        assert bool(v.abs().max() < 100) is bounded


def test_substeps_are_steps() -> None:
    whole = _kicks(0.5, TRIPLE_JUMP, 5)(START)
    u = START
    for _ in range(5):
        u = _kicks(0.1, TRIPLE_JUMP)(u)
    # The kicks of neighbours are merged, which rounds otherwise.
    assert (whole - u).abs().max() < 1e-14


def test_implicit_midpoint_is_stable_and_keeps_quadratic_invariants_at_any_step() -> None:
    """A rotation a thousand times faster than the step: Newton takes over from plain iteration."""
    turn = torch.tensor([[0.0, 1e3], [-1e3, 0.0]], dtype=torch.float64)
    u = torch.tensor([[0.6, 0.8], [3.0, 0.0]], dtype=torch.float64)
    v = implicit_midpoint(lambda u: u @ turn.mT, 1.0, substeps=20)(u)
    assert (v.norm(dim=1) - u.norm(dim=1)).abs().max() < 1e-12
    # The exact result of the rule is Cayley's transform.
    half = 0.5 / 20 * turn
    unit = torch.eye(2, dtype=torch.float64)
    cayley = torch.linalg.matrix_power(torch.linalg.solve(unit - half, unit + half), 20)
    assert (v - u @ cayley.mT).abs().max() < 1e-11


def test_samples_do_not_notice_each_other() -> None:
    ode = DoublePendulum()
    u = ode.initial(3, torch.Generator().manual_seed(0))
    step = implicit_midpoint(ode.rhs, 0.05, SUZUKI4)
    assert torch.equal(step(u)[1:2], step(u[1:2]))
    hopeless = torch.cat([u, torch.full_like(u[:1], math.nan)])
    v = step(hopeless)
    assert v[3].isnan().all()
    assert (v[:3] - step(u)).abs().max() < 1e-14


def test_without_a_solution_a_sample_becomes_nan() -> None:
    """k = 1 + (u + k/2)^2 has no real solution at u = 1."""
    v = implicit_midpoint(lambda u: 1 + u**2, 1.0)(torch.tensor([[1.0], [-3.0]], dtype=torch.float64))
    assert v[0].isnan().all()
    k = v[1] + 3.0
    assert float((k - 1 - (-3.0 + k / 2) ** 2).abs()) < 1e-13


@pytest.mark.parametrize("dt", [0.05, 0.4])
def test_derivatives_of_implicit_steps(dt: float) -> None:
    """At 0.4 plain iteration does not converge everywhere and Newton's method takes part."""
    length = torch.tensor(0.8, dtype=torch.float64, requires_grad=True)
    u = DoublePendulum().initial(2, torch.Generator().manual_seed(1)).requires_grad_()

    def step(u: Tensor, length: Tensor) -> Tensor:
        return implicit_midpoint(DoublePendulum(lengths=(length, 1.0)).rhs, dt)(u)

    assert torch.autograd.gradcheck(step, (u, length))
    fixed, v = length.detach(), torch.ones_like(u)
    moved = torch.func.jvp(lambda u: step(u, fixed), (u.detach(),), (v,))[1]
    pulled = torch.autograd.grad(step(u, fixed), u, v)[0]
    # <v, J v> by forward and reverse mode.
    assert ((moved * v).sum() - (pulled * v).sum()).abs() < 1e-12


def test_refusals() -> None:
    with pytest.raises(ValueError, match="same forwards and backwards"):
        Composition((0.2, 0.8), 1, "lopsided")
    with pytest.raises(ValueError, match="sum to 0.9"):
        Composition((0.45, 0.45), 2, "short")
    for make in (lambda: _kicks(0.1, SINGLE, 0), lambda: implicit_midpoint(STAR.rhs, 0.1, substeps=0)):
        with pytest.raises(ValueError, match="substeps=0"):
            make()
