"""Climatology and ensembles against processes of known statistics and sums written out."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from sciml import Grid
from sciml.metrics import (
    autocorrelation,
    autocorrelation_time,
    correlation_length,
    crps,
    dtw_distance,
    ensemble_metric,
    ensemble_spread,
    mutual_information,
    rank_correlation,
    rmse,
    series_scores,
    time_mean_error,
    time_variance_error,
    two_point_correlation,
    value_density,
)

F = torch.float64


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F)


def test_errors_of_mean_and_variance_fields():
    ref = noise(2, 30, 2, 6, 5, seed=1) + 2.0
    # Twice the deviations and a mean larger by half: relative errors of 1/2 and 3.
    mean = ref.mean(1, keepdim=True)
    pred = 1.5 * mean + 2 * (ref - mean)
    torch.testing.assert_close(time_mean_error(pred, ref), torch.full((2, 2), 0.5, dtype=F))
    torch.testing.assert_close(time_variance_error(pred, ref), torch.full((2, 2), 3.0, dtype=F))
    # Any number of times, and weights of points.
    twice = torch.cat([pred, pred], dim=1)
    weights = torch.rand(6, 5, generator=torch.Generator().manual_seed(2), dtype=F)
    torch.testing.assert_close(time_variance_error(twice, ref, weights), torch.full((2, 2), 3.0, dtype=F))
    one = torch.zeros(6, 5, dtype=F)
    one[2, 3] = 1.0
    expected = (pred.mean(1) - ref.mean(1) - 1)[..., 2, 3].abs() / ref.mean(1)[..., 2, 3].abs()
    torch.testing.assert_close(time_mean_error(pred - 1, ref, one), expected)
    torch.testing.assert_close(
        time_mean_error(pred[..., 0, 0], ref[..., 0, 0]), torch.full((2, 2), 0.5, dtype=F)
    )
    with pytest.raises(ValueError, match="twice"):
        time_mean_error(pred, ref[:, 0])


def test_density_of_values_against_counting():
    u = torch.tensor([0.1, 0.2, 0.6, 1.0, 1.5, -0.1], dtype=F).reshape(1, 2, 1, 3)
    density = value_density(u, [0.0, 0.5, 1.0])[0, 0]
    torch.testing.assert_close(density, torch.tensor([2 / 6 / 0.5, 2 / 6 / 0.5], dtype=F))
    weights = torch.tensor([1.0, 0.0, 3.0], dtype=F)
    # Points 0 and 2 hold 0.1, 1.0 (a quarter each) and 0.6, -0.1 (three quarters each).
    density = value_density(u, [0.0, 0.5, 1.0], weights)[0, 0]
    torch.testing.assert_close(density, torch.tensor([0.25 / 2 / 0.5, (0.75 + 0.25) / 2 / 0.5], dtype=F))
    with pytest.raises(ValueError, match="increasing"):
        value_density(u, [1.0, 0.0])


def test_autocorrelation_against_its_sum():
    u = noise(2, 40, 3, seed=3)
    v = u - u.mean(1, keepdim=True)
    expected = torch.stack([(v[:, : 40 - k] * v[:, k:]).sum(1) / v.square().sum(1) for k in range(11)], 1)
    torch.testing.assert_close(autocorrelation(u, 10), expected)
    assert autocorrelation(u).shape == (2, 40, 3)
    with pytest.raises(ValueError, match="fewer than T"):
        autocorrelation(u, 40)


def test_integral_scale_of_known_functions():
    # A triangle that crosses zero halfway between samples: area 1/2 x 3.5 x 1.
    triangle = 1 - torch.arange(8, dtype=F) / 3.5
    assert correlation_length(triangle, 0.1).item() == pytest.approx(0.175)
    assert correlation_length(torch.ones(5, dtype=F), 2.0).item() == pytest.approx(
        8.0
    )  # no zero: a lower bound
    decay = torch.exp(-torch.arange(4000, dtype=F) * 0.01)
    assert correlation_length(decay, 0.01).item() == pytest.approx(1.0, rel=1e-4)


def test_memory_of_an_autoregressive_process():
    """x' = a x + noise remembers for sum a^k = 1/2 + a/(1 - a) steps in the trapezoidal sense."""
    a, frames = 0.8, 20_000
    kicks = noise(4, frames, 1, 8, seed=4)
    state, kept = kicks[:, 0], []
    for k in range(frames):
        state = a * state + kicks[:, k]
        kept.append(state)
    found = autocorrelation_time(torch.stack(kept, dim=1), dt=0.5, lags=60)
    expected = 0.5 * (0.5 + a / (1 - a))
    # Thirty-two points of 20,000 steps: a few per cent.
    torch.testing.assert_close(found, torch.full((4, 1), expected, dtype=F), rtol=0.06, atol=0)


def test_two_point_correlation_of_a_wave_and_against_pairs():
    grid = Grid((64,), (2.0,))
    x = grid.axes()[0]
    wave = torch.cos(2 * math.pi * 3 * x / 2.0 + 0.4).reshape(1, 1, 1, -1) + 5.0
    distance, rho = two_point_correlation(wave, grid)
    torch.testing.assert_close(distance, torch.arange(33, dtype=F) / 32)
    torch.testing.assert_close(rho[0, 0, 0], torch.cos(2 * math.pi * 3 * distance / 2.0))
    grid = Grid((6, 4), (3.0, 2.0))
    u = noise(1, 1, 1, 6, 4, seed=5)
    distance, rho = two_point_correlation(u, grid)
    v = u[0, 0, 0] - u.mean()
    sums, lengths, counts = [0.0] * 3, [0.0] * 3, [0] * 3
    for (i, j), (k, m) in itertools.product(itertools.product(range(6), range(4)), repeat=2):
        a, b = abs(i - k), abs(j - m)
        r = math.hypot(min(a, 6 - a), min(b, 4 - b)) * 0.5
        s = math.floor(r / 0.5 + 0.5)
        if s < 3:
            sums[s] += (v[i, j] * v[k, m]).item()
            lengths[s] += r
            counts[s] += 1
    zero = sums[0] / counts[0]
    torch.testing.assert_close(
        rho[0, 0, 0], torch.tensor([s / n / zero for s, n in zip(sums, counts, strict=True)], dtype=F)
    )
    torch.testing.assert_close(
        distance, torch.tensor([s / n for s, n in zip(lengths, counts, strict=True)], dtype=F)
    )
    with pytest.raises(ValueError, match="periodic everywhere"):
        two_point_correlation(u, Grid((6, 4), (3.0, 2.0), boundary="wall"))


def test_crps_against_all_pairs():
    members, ref = noise(5, 2, 3, 2, 7, seed=6), noise(2, 3, 2, 7, seed=7)
    weights = torch.rand(7, generator=torch.Generator().manual_seed(8), dtype=F)
    accuracy = (members - ref).abs().mean(0)
    pairs = (members[:, None] - members[None]).abs().sum((0, 1))
    w = weights / weights.sum()
    torch.testing.assert_close(crps(members, ref), (accuracy - pairs / 50).mean(-1))
    torch.testing.assert_close(crps(members, ref, weights), ((accuracy - pairs / 50) * w).sum(-1))
    torch.testing.assert_close(crps(members, ref, fair=True), (accuracy - pairs / 40).mean(-1))
    torch.testing.assert_close(crps(members[:1], ref), (members[0] - ref).abs().mean(-1))
    with pytest.raises(ValueError, match="two or more"):
        crps(members[:1], ref, fair=True)
    with pytest.raises(ValueError, match=r"\(M, B, T, C"):
        crps(ref, ref)


def test_crps_of_a_normal_ensemble_is_the_closed_form():
    """sigma (z (2 Phi(z) - 1) + 2 phi(z) - 1/sqrt(pi)) for a normal forecast, Gneiting and Raftery 2007."""
    members = 2.0 * noise(20_000, 1, 1, 1, 4, seed=9)
    z = torch.tensor([-1.5, 0.0, 0.4, 2.0], dtype=F)
    phi = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
    expected = 2.0 * (z * (2 * torch.special.ndtr(z) - 1) + 2 * phi - 1 / math.sqrt(math.pi))
    found = crps(members, (2.0 * z).reshape(1, 1, 1, 4), fair=True).item()
    assert found == pytest.approx(expected.mean().item(), abs=0.02)


def test_two_ways_to_score_an_ensemble_and_its_spread():
    members, ref = noise(40, 3, 1, 1, 500, seed=10), noise(3, 1, 1, 500, seed=11)
    of_mean = ensemble_metric(rmse, members, ref)
    torch.testing.assert_close(of_mean, rmse(members.mean(0), ref))
    of_members = ensemble_metric(rmse, members, ref, mode="mean_of_metric")
    torch.testing.assert_close(of_members, torch.stack([rmse(m, ref) for m in members]).mean(0))
    assert bool((of_members > of_mean).all())
    # Members and truth drawn alike: the spread tells the error of the mean.
    ratio = ensemble_spread(members) * math.sqrt(41 / 40) / of_mean
    torch.testing.assert_close(ratio, torch.ones(3, 1, 1, dtype=F), rtol=0.1, atol=0)
    with pytest.raises(ValueError, match="two or more"):
        ensemble_spread(members[:1])


def test_scores_of_a_short_series_by_hand():
    ref = torch.tensor([1.0, 2.0, 4.0, 1.0], dtype=F).reshape(1, 4, 1)
    pred = torch.tensor([1.0, 3.0, 3.0, 2.0], dtype=F).reshape(1, 4, 1)
    found = {name: value.item() for name, value in series_scores(pred, ref).items()}
    variance = (1 + 4 + 16 + 1) / 4 - 4
    logs = [math.log(a) - math.log(b) for a, b in ((1, 1), (3, 2), (3, 4), (2, 1))]
    expected = {
        "mae": 0.75,
        "rmse": math.sqrt(0.75),
        "nrmse": math.sqrt(0.75 / variance),
        "marre": 100 * 0.75 / 3,
        "r2": 1 - 0.75 / variance,
        "mape": 100 * (0.5 + 0.25 + 1) / 4,
        "wape": 100 * 3 / 8,
        "smape": 100 * (2 / 5 + 2 / 7 + 2 / 3) / 4,
        "rmsle": math.sqrt(sum(x * x for x in logs) / 4),
        "cv": 100 * math.sqrt(0.75 - 0.25**2) / 2,
    }
    for name, value in expected.items():
        assert found[name] == pytest.approx(value), name
    assert found["pearson"] == pytest.approx(
        torch.corrcoef(torch.stack([pred, ref]).reshape(2, 4))[0, 1].item()
    )
    # Ranks 1, 3.5, 3.5, 2 and 1.5, 3, 4, 1.5.
    both = torch.tensor([[1.0, 3.5, 3.5, 2.0], [1.5, 3.0, 4.0, 1.5]], dtype=F)
    assert found["spearman"] == pytest.approx(torch.corrcoef(both)[0, 1].item())
    # Five pairs differ in either one; of the four that differ in both all agree.
    assert found["kendall"] == pytest.approx(4 / 5)
    with pytest.raises(ValueError, match="two times"):
        series_scores(pred[:, :1], ref[:, :1])


def test_information_of_normal_pairs_is_the_closed_form():
    """-ln(1 - rho^2)/2; none of what is independent, the same after any monotone change of one."""
    x, noise = (torch.randn(4, 1500, generator=torch.Generator().manual_seed(k), dtype=F) for k in (1, 2))
    rho = torch.tensor([0.0, 0.5, 0.9, -0.99], dtype=F)[:, None]
    y = rho * x + (1 - rho**2).sqrt() * noise
    exact = -0.5 * torch.log1p(-(rho[:, 0] ** 2))
    # The estimate scatters by about 0.03 with 1500 points.
    torch.testing.assert_close(mutual_information(x, y), exact, rtol=0, atol=0.1)
    torch.testing.assert_close(mutual_information(x[1:3], y[1:3].exp()), exact[1:3], rtol=0, atol=0.15)
    # Correlation does not see a square, information does.
    assert float(mutual_information(x[0], x[0] ** 2)) > 2
    with pytest.raises(ValueError, match="more points than neighbours"):
        mutual_information(x[:, :3], y[:, :3])


def test_information_against_loops():
    x, y = (torch.randn(20, generator=torch.Generator().manual_seed(k), dtype=F) for k in (3, 4))
    total, k, n = 0.0, 2, 20
    for i in range(n):
        dx, dy = ((u / u.std() - u[i] / u.std()).abs() for u in (x, y))
        far = torch.sort(torch.maximum(dx, dy)).values[k]
        counts = [float((d < far).sum()) for d in (dx, dy)]  # the point itself among them
        total += sum(float(torch.digamma(torch.tensor(c, dtype=F))) for c in counts)
    psi = [float(torch.digamma(torch.tensor(float(v), dtype=F))) for v in (k, n)]
    expected = max(0.0, psi[0] + psi[1] - total / n)
    assert float(mutual_information(x, y, neighbours=k)) == pytest.approx(expected, abs=1e-12)


def test_rankings_that_agree_and_that_are_reversed():
    x = noise(3, 9, seed=12)
    ones = torch.ones(3, dtype=F)
    torch.testing.assert_close(rank_correlation(x, x.exp()), ones)
    torch.testing.assert_close(rank_correlation(x, -x), -ones)


def paths(frames: int, start: int) -> list[list[tuple[int, int]]]:
    """All alignments of two series, from the pair (start, start) to the last."""
    if start == frames - 1:
        return [[(start, start)]]
    found: list[list[tuple[int, int]]] = []

    def walk(path: list[tuple[int, int]]) -> None:
        i, j = path[-1]
        if (i, j) == (frames - 1, frames - 1):
            found.append(path)
            return
        for a, b in ((1, 0), (0, 1), (1, 1)):
            if i + a < frames and j + b < frames:
                walk([*path, (i + a, j + b)])

    walk([(start, start)])
    return found


@pytest.mark.parametrize("window", [1, 2, 4])
def test_warping_finds_the_best_of_all_alignments(window):
    pred, ref = noise(1, 5, 1, 3, seed=13), noise(1, 5, 1, 3, seed=14)
    cost = (pred[0, :, None, 0] - ref[0, None, :, 0]).square().mean(-1)
    allowed = [path for path in paths(5, 0) if all(abs(i - j) <= window for i, j in path)]
    best = min(sum(cost[i, j].item() for i, j in path) for path in allowed)
    assert dtw_distance(pred, ref, window).item() == pytest.approx(math.sqrt(best / 5))
    # The Well: signs alone for one channel, the first pair free, one step less ahead than behind.
    cost = (pred.sign()[0, :, None, 0] - ref.sign()[0, None, :, 0]).square().mean(-1)
    allowed = [path for path in paths(5, 1) if all(-window <= j - i < window for i, j in path)]
    best = min(sum(cost[i, j].item() for i, j in path) for path in allowed)
    assert dtw_distance(pred, ref, window, mode="well").item() == pytest.approx(
        math.sqrt(best / 5), abs=1e-6
    )


def test_a_delay_costs_less_than_an_error():
    t = torch.arange(40, dtype=F).reshape(1, -1, 1, 1)
    x = torch.arange(16, dtype=F) / 16
    ref, late = (torch.sin(2 * math.pi * (x - 0.02 * s)) for s in (t, t - 3))
    plain = rmse(late, ref).square().mean(1).sqrt()
    assert dtw_distance(late, ref).item() < 0.5 * plain.item()
    assert dtw_distance(ref, ref).item() == 0.0
    with pytest.raises(ValueError, match="window=0"):
        dtw_distance(ref, ref, 0)
