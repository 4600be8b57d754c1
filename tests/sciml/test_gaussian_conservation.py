"""Beliefs about fields whose sums are known: exactness, limits, gradients, refusals."""

from __future__ import annotations

import pytest
import torch

from sciml.constraints.gaussian import (
    Gaussian,
    condition,
    conditional_log_density,
    mixture,
    project_mean,
    smooth,
    trapezoid,
)

POINTS = torch.linspace(0.0, 1.0, 21, dtype=torch.float64)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def independent(*batch: int, n: int = 21) -> Gaussian:
    g = generator()
    mean = torch.randn(*batch, n, dtype=torch.float64, generator=g)
    return Gaussian(mean, torch.rand(*batch, n, dtype=torch.float64, generator=g) + 0.05)


def correlated(*batch: int, n: int = 21) -> Gaussian:
    factor = torch.randn(*batch, n, n, dtype=torch.float64, generator=generator(1))
    covariance = factor @ factor.mT / n + 0.1 * torch.eye(n, dtype=torch.float64)
    return Gaussian.dense(torch.randn(*batch, n, dtype=torch.float64, generator=generator(2)), covariance)


def sums(q: int = 2) -> torch.Tensor:
    """The integral over everything, and over the first half."""
    rows = trapezoid(POINTS).repeat(q, 1)
    for k in range(1, q):
        rows[k, 11 + k :] = 0.0
    return rows


@pytest.mark.parametrize("prior", [independent(3), correlated(3)], ids=["independent", "correlated"])
@pytest.mark.parametrize("q", [1, 2])
def test_sums_hold_to_rounding_and_have_no_variance_left(prior, q):
    g, b = sums(q), torch.tensor([0.7, 0.2], dtype=torch.float64)[:q]
    found = condition(prior, g, b)
    assert bool(((found.mean @ g.mT - b).abs() <= 1e-12 * (1 + b.abs())).all())
    before, after = (g @ p.covariance @ g.mT for p in (prior, found))
    assert float(after.abs().max()) <= 1e-12 * float(before.abs().max())
    covariance = found.covariance
    assert float((covariance - covariance.mT).abs().max()) < 1e-14
    assert float(torch.linalg.eigvalsh(covariance).min()) > -1e-12
    assert torch.allclose(found.variance, covariance.diagonal(dim1=-2, dim2=-1), atol=1e-14)


@pytest.mark.parametrize("noise", [0.0, 0.03])
def test_is_the_textbook_formula(noise):
    prior, g, b = correlated(), sums(), torch.tensor([0.7, 0.2], dtype=torch.float64)
    sigma = prior.covariance
    gain = sigma @ g.T @ torch.linalg.inv(g @ sigma @ g.T + noise * torch.eye(2, dtype=torch.float64))
    found = condition(prior, g, b, noise)
    assert torch.allclose(found.mean, prior.mean - gain @ (g @ prior.mean - b), atol=1e-12)
    assert torch.allclose(found.covariance, sigma - gain @ g @ sigma, atol=1e-12)


def test_one_row_is_the_closed_form():
    prior, w = independent(), trapezoid(POINTS)
    found = condition(prior, w[None], torch.tensor([0.4], dtype=torch.float64))
    share = prior.spread * w / (prior.spread * w**2).sum()
    assert torch.allclose(found.mean, prior.mean - share * (prior.mean @ w - 0.4), atol=1e-13)


def test_equal_variances_are_the_orthogonal_projection_and_much_noise_says_nothing():
    prior, g, b = independent(2), sums(), torch.tensor([0.7, 0.2], dtype=torch.float64)
    even = condition(Gaussian(prior.mean, torch.full_like(prior.mean, 0.3)), g, b)
    orthogonal = prior.mean - (prior.mean @ g.T - b) @ torch.linalg.pinv(g).T
    assert torch.allclose(even.mean, orthogonal, atol=1e-12)
    hard = project_mean(prior, g, b)
    assert torch.allclose(hard.mean, orthogonal, atol=1e-12)
    assert torch.equal(hard.variance, prior.variance)
    deaf = condition(prior, g, b, 1e14)
    assert torch.allclose(deaf.mean, prior.mean, atol=1e-12)
    assert torch.allclose(deaf.variance, prior.variance, atol=1e-12)


def test_rows_one_after_the_other_are_rows_together():
    prior, g, b = correlated(2), sums(), torch.tensor([0.7, 0.2], dtype=torch.float64)
    together = condition(prior, g, b)
    in_turn = condition(condition(prior, g[:1], b[:1]), g[1:], b[1:])
    assert torch.allclose(in_turn.mean, together.mean, atol=1e-10)
    assert torch.allclose(in_turn.covariance, together.covariance, atol=1e-10)


@pytest.mark.parametrize("dtype, bound", [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_twice_is_once(dtype, bound):
    prior = Gaussian(*(x.to(dtype) for x in (independent(4).mean, independent(4).spread)))
    g, b = sums().to(dtype), torch.tensor([0.7, 0.2], dtype=dtype)
    once = condition(prior, g, b)
    twice = condition(once, g, b)
    assert once.mean.dtype == dtype
    assert float((twice.mean - once.mean).abs().max()) <= bound
    assert float((twice.variance - once.variance).abs().max()) <= bound


def test_gradients_of_mean_spread_values_and_noise():
    prior, g = independent(2), sums()

    def update(mean, log_deviation, b, log_noise):
        found = condition(Gaussian(mean, (2 * log_deviation).exp()), g, b, (2 * log_noise).exp())
        return found.mean, found.covariance

    inputs = (
        prior.mean.clone().requires_grad_(),
        (0.5 * prior.spread.log()).requires_grad_(),
        torch.tensor([[0.7, 0.2], [0.1, 0.3]], dtype=torch.float64, requires_grad=True),
        torch.tensor(-2.0, dtype=torch.float64, requires_grad=True),
    )
    assert torch.autograd.gradcheck(update, inputs, fast_mode=True)


def test_correction_goes_where_the_belief_is_unsure():
    spread = torch.full((21,), 1e-6, dtype=torch.float64)
    spread[9:12] = 1.0
    prior = Gaussian(torch.zeros(21, dtype=torch.float64), spread)
    found = condition(prior, sums(1), torch.tensor([0.3], dtype=torch.float64))
    moved = found.mean.abs()
    assert float(moved[9:12].sum()) > 0.999 * float(moved.sum())


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_neighbours_that_are_alike_are_corrected_alike(seed):
    spread = torch.rand(21, dtype=torch.float64, generator=generator(seed)) + 0.05
    prior = Gaussian(torch.zeros(21, dtype=torch.float64), spread)
    g, b = sums(1), torch.tensor([0.5], dtype=torch.float64)
    plain, gentle = condition(prior, g, b), condition(smooth(prior), g, b)
    assert float((gentle.mean @ g[0] - 0.5).abs()) < 1e-12
    roughness = [float(p.mean.diff(n=2).abs().max()) for p in (plain, gentle)]
    assert roughness[1] < 0.5 * roughness[0]
    deviation = smooth(prior).variance.sqrt()
    neighbours = (smooth(prior).covariance / deviation / deviation[:, None]).diagonal(1)
    assert float(neighbours.min()) > 0.2


def test_mixture_keeps_the_sums_of_its_parts():
    parts = independent(5)
    conserved = condition(parts, sums(), torch.tensor([0.7, 0.2], dtype=torch.float64))
    one = mixture(conserved)
    assert torch.allclose(one.mean @ sums().T, torch.tensor([0.7, 0.2], dtype=torch.float64), atol=1e-12)
    total = conserved.variance.mean(dim=0) + (conserved.mean - one.mean).square().mean(dim=0)
    assert torch.allclose(one.variance, total, atol=1e-14)


def test_draws_have_the_mean_the_covariance_and_the_sums():
    found = condition(correlated(), sums(1), torch.tensor([0.5], dtype=torch.float64))
    drawn = found.sample(20_000, generator(3))
    assert float((drawn @ sums(1)[0] - 0.5).abs().max()) < 1e-3  # what the jitter leaves
    assert float((torch.cov(drawn.T) - found.covariance).abs().max()) < 0.1
    assert float((drawn.mean(dim=0) - found.mean).abs().max()) < 0.05


def test_conditional_density_is_that_of_the_joint_distribution():
    prior, g, noise = independent(), sums(), 0.02
    u = prior.mean + 0.1
    # p(u, b) / p(b) at b = G u, from the joint covariance of numbers and noisy sums.
    sigma = torch.diag(prior.spread)
    joint = torch.cat(
        (
            torch.cat((sigma, sigma @ g.T), 1),
            torch.cat((g @ sigma, g @ sigma @ g.T + noise * torch.eye(2, dtype=torch.float64)), 1),
        )
    )
    mean = torch.cat((prior.mean, g @ prior.mean))
    both = torch.distributions.MultivariateNormal(mean, joint).log_prob(torch.cat((u, g @ u)))
    alone = torch.distributions.MultivariateNormal(mean[21:], joint[21:, 21:]).log_prob(g @ u)
    assert float(conditional_log_density(prior, u, g, noise) - (both - alone)) == pytest.approx(
        0.0, abs=1e-9
    )


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: condition(independent(), sums()[:, :5], torch.zeros(2)), "expected \\(..., q, 21\\)"),
        (lambda: condition(independent(), sums(), torch.zeros(2), -1.0), "noise of -1"),
        (
            lambda: condition(independent(), sums(1).repeat(2, 1), torch.zeros(2)),
            "row 1 as a combination",
        ),
        (
            lambda: condition(condition(independent(), sums(1), torch.ones(1)), sums(1), torch.zeros(1)),
            "row 0 a value that is off by 1",
        ),
        (lambda: Gaussian(torch.zeros(3), torch.zeros(4)), "spread of \\(4,\\)"),
        (lambda: Gaussian.dense(torch.zeros(2), -torch.eye(2)), "not positive definite"),
        (lambda: trapezoid(torch.tensor([0.0, 0.0])), "ascending"),
        (lambda: smooth(independent(), 1.0), "correlation=1"),
    ],
)
def test_refusals(call, words):
    with pytest.raises(ValueError, match=words):
        call()
