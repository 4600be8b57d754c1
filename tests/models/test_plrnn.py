"""Piecewise-linear recurrent maps against autograd, bounds, and cycles found by enumerating regions."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from sciml import rollout
from sciml.domains import Point
from sciml.jacobian import lyapunov_spectrum
from sciml.models.latent import PLRNN, MemoryPrior, ObservationPrior, Observed
from sciml.objectives import GeneralizedTeacherForcing, OneStep, Regularized
from sciml.step import FunctionStep

torch.set_num_threads(1)
KINDS = ("plain", "dendritic", "shallow", "clipped")


def make(kind: str, m: int = 4, hidden: int = 9, seed: int = 0, scale: float = 1.0) -> PLRNN:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = PLRNN(m, kind, hidden=hidden, bases=3).double()
        with torch.no_grad():
            for p in model.parameters():
                p.copy_(p + 0.3 * torch.randn_like(p))
            if kind in ("shallow", "clipped"):
                model.outer.mul_(scale)
    return model


def by_hand(model: PLRNN, z: torch.Tensor) -> torch.Tensor:
    """The formulas of the docstring, written once more sample by sample."""
    p = {name: value.detach() for name, value in model.named_parameters()}
    out = []
    for row in z:
        new = p["diagonal"] * row + p["offset"]
        if model.kind in ("plain", "dendritic"):
            w = p["coupling"] - torch.diag(torch.diag(p["coupling"]))
            if model.kind == "plain":
                new = new + w @ row.clamp(min=0)
            else:
                for alpha, h in zip(p["slopes"], p["thresholds"], strict=True):
                    new = new + w @ (alpha * (row - h).clamp(min=0))
        else:
            drive = p["inner"] @ row
            bracket = (drive + p["threshold"]).clamp(min=0)
            if model.kind == "clipped":
                bracket = bracket - drive.clamp(min=0)
            new = new + p["outer"] @ bracket
        out.append(new)
    return torch.stack(out)


@pytest.mark.parametrize("kind", KINDS)
def test_the_map_and_its_jacobian_are_those_of_the_formulas(kind):
    model = make(kind)
    z = 2 * torch.randn(7, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    torch.testing.assert_close(model(z), by_hand(model, z), rtol=1e-13, atol=1e-13)
    dense = torch.stack(
        [torch.autograd.functional.jacobian(lambda x: model(x.unsqueeze(0))[0], row) for row in z]
    )
    torch.testing.assert_close(model.jacobian(z), dense, rtol=1e-12, atol=1e-12)
    jacobian, shift = model.form().affine(z)
    torch.testing.assert_close(
        model(z), (jacobian @ z.unsqueeze(-1)).squeeze(-1) + shift, rtol=1e-12, atol=1e-12
    )


def test_the_number_of_parameters_of_a_clipped_map_is_that_of_the_paper():
    # 2 M + 2 M L + L for three components and 100 hidden units.
    assert sum(p.numel() for p in PLRNN(3, "clipped", hidden=100).parameters()) == 706


def test_the_first_memory_is_at_most_one():
    for seed in range(5):
        torch.manual_seed(seed)
        model = PLRNN(6, "plain")
        memory = model.diagonal.detach()
        assert float(memory.min()) > 0 and float(memory.max()) <= 1 + 1e-6
        full = model.coupling.detach() + memory.diag()
        assert float(torch.linalg.eigvalsh(full)[-1]) == pytest.approx(1, abs=1e-5)


def test_a_clipped_map_never_leaves_its_ball():
    model = make("clipped", m=3, hidden=30, seed=2)
    with torch.no_grad():
        model.diagonal.copy_(torch.tensor([0.9, -0.7, 0.95], dtype=torch.float64))
    z = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    z = 1e3 * z / z.norm(dim=1, keepdim=True)
    radius = float(model.radius().detach())
    inside = torch.zeros(4, dtype=torch.bool)
    form = model.form()
    with torch.no_grad():
        for _ in range(100_000 // 4):
            z = model(z)
            size = z.norm(dim=1)
            assert bool((size[inside] <= radius + 1e-9).all())
            inside = inside | (size <= radius)
    assert bool(inside.all())
    assert float(form.diagonal.abs().max()) < 1


def test_only_clipped_maps_state_a_radius():
    with pytest.raises(ValueError, match="not bounded"):
        make("shallow").radius()
    grown = make("clipped")
    with torch.no_grad():
        grown.diagonal[0] = 1.1
    assert math.isinf(float(grown.radius()))


@pytest.mark.parametrize("kind", KINDS)
def test_no_step_grows_more_than_the_bound_of_the_parameters(kind):
    model = make(kind)
    z = 2 * torch.randn(200, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert float(torch.linalg.matrix_norm(model.jacobian(z), 2).max()) <= float(model.growth_bound())


def fixed_points_by_enumeration(model: PLRNN) -> list[torch.Tensor]:
    """All fixed points of a plain map: one linear solve for each of the 2^M quadrants."""
    a, w = model.diagonal.detach().diag(), model.form().outer.detach()
    found = []
    for signs in itertools.product((0.0, 1.0), repeat=model.in_channels):
        d = torch.tensor(signs, dtype=torch.float64)
        z = torch.linalg.solve(
            torch.eye(model.in_channels, dtype=torch.float64) - a - w * d, model.offset.detach()
        )
        if bool(((z > 0).double() == d).all()):
            found.append(z)
    return found


@pytest.mark.parametrize("seed", range(6))
def test_fixed_points_are_those_of_all_regions(seed):
    model = make("plain", m=4, seed=seed)
    expected = fixed_points_by_enumeration(model)
    found = model.cycles(starts=64)
    assert len(found) == len(expected)
    for z in expected:
        assert min(float((c.states[0] - z).abs().max()) for c in found) < 1e-9
    for cycle in found:
        slopes = torch.linalg.eigvals(model.jacobian(cycle.states[0]))
        assert cycle.stable == bool((slopes.abs() < 1).all())


def test_cycles_return_and_have_no_shorter_period():
    model = make("clipped", m=2, hidden=6, seed=3, scale=2.5)
    with torch.no_grad():
        model.diagonal.copy_(torch.tensor([0.5, -0.6], dtype=torch.float64))
    seen = 0
    for order in (1, 2, 3):
        for cycle in model.cycles(order):
            seen += 1
            path = rollout(model, order)(cycle.states[:1])[0]
            torch.testing.assert_close(path[-1], cycle.states[0], rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(path[:-1], cycle.states, rtol=1e-9, atol=1e-9)
            assert all(float((s - cycle.states[0]).abs().max()) > 1e-6 for s in cycle.states[1:])
            product = torch.eye(2, dtype=torch.float64)
            for state in cycle.states:
                product = model.jacobian(state) @ product
            assert (
                float((torch.linalg.eigvals(product).abs().max() - cycle.multipliers.abs().max()).abs())
                < 1e-9
            )
    assert seen >= 2


def test_lyapunov_exponents_are_those_of_products_of_its_jacobians():
    model = make("clipped", m=3, hidden=12, seed=5, scale=1.5)
    with torch.no_grad():
        model.diagonal.copy_(torch.tensor([0.8, 0.7, -0.6], dtype=torch.float64))
    step = FunctionStep(model, 0.5, Point(), ("a", "b", "c"))
    z0 = torch.randn(1, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = lyapunov_spectrum(step, z0, 400, discard=50)[0]
    z, q, logs = z0, torch.eye(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    with torch.no_grad():
        for k in range(450):
            q, r = torch.linalg.qr(model.jacobian(z)[0] @ q)
            z = model(z)
            if k >= 50:
                logs += r.diagonal().abs().log()
    # Two first frames: the directions agree after the discarded steps only up to a boundary term / time.
    torch.testing.assert_close(found, logs / (400 * 0.5), rtol=0, atol=2e-2)


def test_the_prior_counts_memory_from_one_and_all_else_from_zero():
    model = make("clipped")
    expected = (1 - model.diagonal).square().sum() + sum(
        p.square().sum() for name, p in model.named_parameters() if name != "diagonal"
    )
    penalty = MemoryPrior()(torch.nn.Sequential(model), torch.zeros(5, 4, dtype=torch.float64))
    assert penalty.shape == (5,)
    torch.testing.assert_close(penalty, expected.expand(5))
    # Beside a loss that shares its pass with the penalty the step is no module, but holds one.
    window = torch.zeros(5, 2, 4, dtype=torch.float64)
    _, parts = Regularized(OneStep(), MemoryPrior())(model, window)
    torch.testing.assert_close(parts["penalty"], expected)
    with pytest.raises(ValueError, match="found no PLRNN"):
        MemoryPrior()(torch.nn.Linear(2, 2), torch.zeros(1, 2))


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="expected one of"):
        PLRNN(3, "deep")
    with pytest.raises(ValueError, match="at least 1"):
        PLRNN(0)
    with pytest.raises(ValueError, match=r"expected \(B, 3\)"):
        PLRNN(3)(torch.zeros(2, 3, 4))
    with pytest.raises(ValueError, match="at least 1"):
        PLRNN(3).cycles(0)


def test_an_affine_view_is_a_step_of_what_is_seen():
    torch.manual_seed(0)
    seen = Observed(PLRNN(3, hidden=8), 5, 3).double()
    z = torch.randn(4, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x = seen.observe(z)
    torch.testing.assert_close(seen.infer(x), z, rtol=1e-10, atol=1e-12)
    # Seen from outside or carried along inside, it is the same path.
    outside, carried = x, seen.begin(x.unsqueeze(1))
    for _ in range(5):
        outside, carried = seen(outside), seen.advance(carried)
    torch.testing.assert_close(outside, seen.show(carried), rtol=1e-10, atol=1e-10)
    prior = ObservationPrior(size=0.5)
    assert float(prior(seen, x)[0]) == pytest.approx(0.5 * 3, abs=1e-6)  # orthonormal at first
    with torch.no_grad():
        seen.matrix[:, 0] *= 2
    assert float(prior(seen, x)[0]) == pytest.approx((1 - 2) ** 2 + 0.5 * 6, abs=1e-6)


def test_teacher_forcing_through_a_view():
    torch.manual_seed(0)
    window = torch.randn(3, 9, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    affine = Observed(PLRNN(4, hidden=8), 4, 4).double()
    # A square view of full rank: in the latent states the forcing is that of the observed ones.
    loss, _ = GeneralizedTeacherForcing(8, 0.3)(affine, window)
    direct, _ = GeneralizedTeacherForcing(8, 0.3)(affine.forward, window)
    torch.testing.assert_close(loss, direct, rtol=1e-9, atol=0)
    partial = Observed(PLRNN(6, hidden=8), 4, 6, "partial").double()
    loss, _ = GeneralizedTeacherForcing(8, 0.3)(partial, window)
    z, total = partial.infer(window[:, 0]), 0.0
    for t in range(1, 9):
        z = partial.f(z)
        total = total + (z[:, :4] - window[:, t]).square().mean() / 8
        z = torch.cat([0.7 * z[:, :4] + 0.3 * window[:, t], z[:, 4:]], dim=1)
    torch.testing.assert_close(loss, total, rtol=1e-12, atol=0)
    loss.backward()
    assert float(partial.guess.grad.abs().max()) > 0
    with pytest.raises(ValueError, match="needs more latent"):
        Observed(PLRNN(3), 4, 3, "partial")
    with pytest.raises(ValueError, match="at most as many"):
        Observed(PLRNN(5), 4, 5)
