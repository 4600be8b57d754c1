"""Models that predict fields from scattered values, with deviations."""

from __future__ import annotations

import math

import pytest
import torch

from sciml.constraints.gaussian import condition, mixture, trapezoid
from sciml.metrics.gaussian import coverage, gaussian_crps, gaussian_log_likelihood
from sciml.models.processes import AttentiveProcess, GaussianProcess


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def scattered(batch: int = 2, count: int = 12, dtype: torch.dtype = torch.float32):
    x = torch.rand(batch, count, 2, generator=generator(), dtype=dtype)
    return x, torch.sin(3 * x[..., 1]) * (1 + x[..., 0])


def process(seed: int = 0, **settings: float) -> AttentiveProcess:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return AttentiveProcess(2, width=16, heads=2, **settings).eval()


def test_order_of_context_and_of_targets_does_not_matter():
    (x, u), at, model = scattered(), torch.rand(2, 7, 2, generator=generator(1)), process()
    order, turned = torch.randperm(12, generator=generator(2)), torch.arange(6, -1, -1)
    with torch.no_grad():
        a = model(x, u, at, 3, generator(4))
        b = model(x[:, order], u[:, order], at[:, turned], 3, generator(4))
    assert a.mean.shape == (3, 2, 7)
    assert torch.allclose(a.mean, b.mean[..., turned], atol=1e-5)
    assert torch.allclose(a.spread, b.spread[..., turned], atol=1e-5)


def test_targets_do_not_see_each_other():
    (x, u), at, model = scattered(), torch.rand(2, 7, 2, generator=generator(1)), process()
    with torch.no_grad():
        whole, part = model(x, u, at, 1, generator(4)), model(x, u, at[:, :3], 1, generator(4))
    assert torch.allclose(whole.mean[..., :3], part.mean, atol=1e-6)


def test_deviations_scale_with_the_field_and_never_vanish():
    (x, u), at = scattered(), torch.rand(2, 7, 2, generator=generator(1))
    small, large = process(scale=1.0), process(scale=100.0)
    with torch.no_grad():
        a, b = small(x, u, at, 1, generator(4)), large(x, 100 * u, at, 1, generator(4))
    assert torch.allclose(100 * a.mean, b.mean, rtol=1e-4, atol=1e-3)
    assert float(b.spread.sqrt().min()) >= 0.1


def test_training_makes_the_process_better_and_surer():
    x, u = scattered(16, 12)
    at, truth = scattered(16, 12)
    model = process().train()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    losses = []
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for _ in range(60):
            loss = model.loss(x, u, at, truth)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss))
    assert losses[-1] < losses[0] - 0.5
    assert all(p.grad is not None and bool(torch.isfinite(p.grad).all()) for p in model.parameters())


@pytest.mark.parametrize("kernel", ["squared exponential", "matern 3/2", "matern 1/2"])
def test_gaussian_process_is_the_textbook_formula(kernel):
    (x, u), at = scattered(dtype=torch.float64), torch.rand(2, 7, 2, generator=generator(1)).double()
    model = GaussianProcess(2, kernel, length=0.4, deviation=1.3, noise=0.05)
    with torch.no_grad():
        belief = model(x, u, at)
        own = model.prior(x, x) + (0.05**2 + 1e-10) * torch.eye(12, dtype=torch.float64)
        gain = model.prior(at, x) @ torch.linalg.inv(own)
        assert torch.allclose(belief.mean, (gain @ u.unsqueeze(-1)).squeeze(-1), atol=1e-8)
        expected = model.prior(at, at) - gain @ model.prior(x, at)
        assert torch.allclose(belief.covariance, expected, atol=1e-7)
        likelihood = torch.distributions.MultivariateNormal(torch.zeros(12).double(), own).log_prob(u)
    assert torch.allclose(model.log_likelihood(x, u), likelihood, atol=1e-8)


def test_gaussian_process_knows_its_values_and_is_unsure_elsewhere():
    x, u = scattered(1, dtype=torch.float64)
    model = GaussianProcess(2, "squared exponential", length=0.3, noise=1e-4)
    far = torch.full((1, 1, 2), 9.0, dtype=torch.float64)
    with torch.no_grad():
        near, away = model(x, u, x), model(x, u, far)
    assert torch.allclose(near.mean, u, atol=1e-3)
    assert float(near.variance.max()) < 1e-6
    assert float(away.variance) == pytest.approx(1.0, rel=1e-3)


def test_fitting_makes_values_more_likely():
    x, u = scattered(3, 20, dtype=torch.float64)
    model = GaussianProcess(2, "squared exponential")
    before = float(model.log_likelihood(x, u).mean())
    after = float(model.fit(x, u).log_likelihood(x, u).mean())
    assert after > before + 1.0


def test_integrals_of_both_are_imposed_exactly():
    grid = torch.linspace(0, 1, 21)
    at = torch.stack((torch.full_like(grid, 0.5), grid), -1).expand(2, -1, -1)
    x, u = scattered()
    g, b = trapezoid(grid)[None], torch.tensor([0.4])
    with torch.no_grad():
        drawn = process()(x, u, at, 4, generator(3))
        one = mixture(condition(drawn, g, b))
        joint = condition(GaussianProcess(2)(x, u, at), g, b)
    assert float((one.mean @ g[0] - 0.4).abs().max()) < 1e-6
    assert float((joint.mean @ g[0] - 0.4).abs().max()) < 1e-6


def test_scores_of_normal_forecasts():
    mean, deviation = torch.tensor([0.3, -1.0]).double(), torch.tensor([0.5, 2.0]).double()
    ref = torch.tensor([1.0, -1.2]).double()
    drawn = mean + deviation * torch.randn(200_000, 2, dtype=torch.float64, generator=generator())
    half = drawn[:100_000], drawn[100_000:]
    energy = (drawn - ref).abs().mean(0) - 0.5 * (half[0] - half[1]).abs().mean(0)
    assert torch.allclose(gaussian_crps(mean, deviation, ref), energy, atol=0.01)
    density = torch.distributions.Normal(mean, deviation).log_prob(ref)
    assert torch.allclose(gaussian_log_likelihood(mean, deviation, ref), density, atol=1e-12)
    assert float(coverage(mean.expand_as(drawn), deviation.expand_as(drawn), drawn)) == pytest.approx(
        0.9, abs=0.003
    )
    sure = torch.full_like(deviation, 1e-9)
    assert torch.allclose(gaussian_crps(mean, sure, ref), (ref - mean).abs(), atol=1e-8)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: AttentiveProcess(2, width=10, heads=4), "heads that divide"),
        (lambda: AttentiveProcess(2, scale=0.0), "scale=0"),
        (lambda: process()(torch.zeros(1, 3, 3), torch.zeros(1, 3), torch.zeros(1, 2, 2)), r"\(B, N, 2\)"),
        (lambda: GaussianProcess(2, "cubic"), "kernel='cubic'"),
        (lambda: GaussianProcess(2, noise=0.0), "positive numbers"),
        (lambda: gaussian_crps(torch.zeros(2), torch.zeros(2), torch.zeros(2)), "not positive"),
        (lambda: gaussian_crps(torch.zeros(2), torch.ones(3), torch.zeros(2)), "expected one shape"),
        (lambda: coverage(torch.zeros(2), torch.ones(2), torch.zeros(2), math.inf), "share=inf"),
    ],
)
def test_refusals(call, words):
    with pytest.raises(ValueError, match=words):
        call()
