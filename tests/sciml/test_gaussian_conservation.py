"""Beliefs about fields whose sums are known: exactness, limits, gradients, refusals."""

from __future__ import annotations

import pytest
import torch

from sciml.constraints import Nonlinear, Quadratic
from sciml.constraints.gaussian import (
    Gaussian,
    condition,
    conditional_log_density,
    forecast,
    mixture,
    moments,
    parts,
    project_mean,
    smooth,
    through,
    trapezoid,
)
from sciml.domains import Grid
from sciml.metrics.gaussian import gaussian_crps

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


def test_rows_of_moments_and_parts_are_integrals():
    u = 2.0 + 3.0 * POINTS
    mass, first, second = (moments(POINTS, 3) @ u).tolist()
    assert mass == pytest.approx(3.5, abs=1e-12)
    assert first == pytest.approx(2.0, abs=3e-3) and second == pytest.approx(2 / 3 + 3 / 4, abs=4e-3)
    pieces = parts(POINTS, [0, 5, 20])
    assert (pieces @ u).tolist() == pytest.approx([0.5 + 0.09375, 3.5 - 0.59375], abs=1e-12)
    assert torch.allclose(pieces.sum(dim=0), trapezoid(POINTS), atol=1e-15)
    found = condition(independent(), pieces, torch.tensor([0.1, 0.9], dtype=torch.float64))
    assert torch.allclose(pieces @ found.mean, torch.tensor([0.1, 0.9]).double(), atol=1e-12)


def test_a_linear_constraint_as_a_map_is_conditioning():
    """J Sigma J' of the projection in the metric of Sigma^-1 is Sigma - Sigma G' S^-1 G Sigma."""
    prior, g, b = correlated(2), sums(), torch.tensor([0.7, 0.2], dtype=torch.float64)

    def project(u: torch.Tensor) -> torch.Tensor:
        moved = Gaussian(u, prior.spread, prior.added)
        return condition(moved, g, b).mean

    mapped, expected = through(prior, project), condition(prior, g, b)
    assert torch.allclose(mapped.mean, expected.mean, atol=1e-12)
    assert torch.allclose(mapped.covariance, expected.covariance, atol=1e-10)


def test_an_affine_map_of_what_is_conditioned_already():
    prior = condition(correlated(2), sums(), torch.tensor([0.7, 0.2], dtype=torch.float64))
    a = torch.randn(21, 21, dtype=torch.float64, generator=generator(5)) / 5
    found = through(prior, lambda u: u @ a.T + 1.0, noise=0.03)
    assert torch.allclose(found.mean, prior.mean @ a.T + 1.0, atol=1e-12)
    expected = a @ prior.covariance @ a.T + 0.03 * torch.eye(21, dtype=torch.float64)
    assert torch.allclose(found.covariance, expected, atol=1e-10)


def test_uncertainty_after_a_nonlinear_constraint_is_that_of_projected_draws():
    grid = Grid((12,), (1.0,))
    energy = Nonlinear(grid, Quadratic(grid), 0.5)
    mean = 1 + 0.3 * torch.sin(torch.arange(12, dtype=torch.float64))
    prior = Gaussian(mean, 4e-4 * (1 + torch.rand(12, dtype=torch.float64, generator=generator(7))))
    drawn = prior.sample(10_000, generator(8)).unsqueeze(1)
    with torch.no_grad():
        found = through(prior, lambda u: energy.project(u), shape=(1, 12))
        projected = energy.project(drawn).squeeze(1)
    gap = (torch.cov(projected.T) - found.covariance).abs().max() / found.covariance.abs().max()
    assert float(gap) < 0.05  # the noise of so many draws is about 0.03
    assert float((projected.mean(dim=0) - found.mean).abs().max()) < 2e-3
    # Nothing is left along the gradient of what is held, where there was something before.
    slope = found.mean / found.mean.norm()
    assert float(slope @ found.covariance @ slope) < 1e-16 < float(slope @ prior.covariance @ slope)


def test_sums_hold_along_a_rollout_and_say_something_of_what_they_do_not_fix():
    """Diffusion with a wrong diffusivity: mass and subdomain balance from the flux, beside beliefs without them."""
    n = len(POINTS)

    def diffuse(u: torch.Tensor, k: float) -> torch.Tensor:
        pad = torch.cat((u[..., :1], u, u[..., -1:]), dim=-1)
        return u + k * pad.diff(n=2, dim=-1)

    truth, frames = torch.exp(-50 * (POINTS - 0.3) ** 2), []
    for _ in range(8):
        truth = diffuse(truth, 0.4)
        frames.append(truth)
    rows = torch.stack((parts(POINTS, [0, 10])[0], parts(POINTS, [10, 20])[0]))
    start = Gaussian(torch.exp(-50 * (POINTS - 0.3) ** 2), torch.full((n,), 1e-4, dtype=torch.float64))

    def step(belief: Gaussian) -> Gaussian:
        return through(belief, lambda u: diffuse(u, 0.2), noise=1e-3 * belief.mean.square() + 1e-8)

    values = torch.stack([rows @ f for f in frames])
    held = forecast(step, start, rows, values)
    free = start
    for belief, b in zip(held, values, strict=True):
        free = step(free)
        assert torch.allclose(rows @ belief.mean, b, atol=1e-12)
        assert float((rows @ belief.covariance @ rows.T).abs().max()) < 1e-15
        assert float(torch.linalg.eigvalsh(belief.covariance).min()) > -1e-12
        assert bool((belief.variance <= free.variance * (1 + 1e-9)).all())
    errors = [float((b.mean - frames[-1]).square().mean()) for b in (free, held[-1])]
    assert errors[1] < errors[0]
    for factor in (step(held[-1]).added, step(held[-1]).removed):
        assert factor is not None and factor.shape[-1] <= n  # does not grow with time


def test_a_score_is_trained_through_the_projection():
    """CRPS of what comes out, by gradients through mean and variance of `condition`."""
    g, b = sums(1), torch.tensor([0.5], dtype=torch.float64)
    truth = torch.rand(21, dtype=torch.float64, generator=generator(4))
    truth = truth + 0.5 - truth @ g[0]

    def score(mean: torch.Tensor, log_deviation: torch.Tensor) -> torch.Tensor:
        found = condition(Gaussian(mean, (2 * log_deviation).exp()), g, b)
        return gaussian_crps(found.mean, found.variance.sqrt(), truth).mean()

    mean = torch.zeros(21, dtype=torch.float64, requires_grad=True)
    deviation = torch.full((21,), -1.0, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(score, (mean, deviation), fast_mode=True)
    optimizer = torch.optim.Adam((mean, deviation), 0.15)
    first = float(score(mean, deviation).detach())
    for _ in range(60):
        optimizer.zero_grad()
        loss = score(mean, deviation)
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.1 * first
    found = condition(Gaussian(mean.detach(), (2 * deviation.detach()).exp()), g, b)
    assert float((found.mean @ g[0] - 0.5).abs()) < 1e-12


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
        (lambda: parts(POINTS, [0, 30]), "edges \\[0, 30\\] for 21 points"),
        (lambda: moments(POINTS, 0), "count=0"),
        (lambda: through(independent(), torch.sin, (2, 11)), "expected 21 in all"),
        (lambda: through(independent(), torch.sin, noise=-1.0), "noise of -1"),
    ],
)
def test_refusals(call, words):
    with pytest.raises(ValueError, match=words):
        call()
