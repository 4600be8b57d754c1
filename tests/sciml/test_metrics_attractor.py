"""Invariant measures of Lorenz (1963) against each other, surrogates of known quality and dense histograms."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
import torch
from torch import Tensor

from sciml import rollout
from sciml.metrics import (
    RunningOccupation,
    against_floor,
    axis_wasserstein,
    correlation_dimension,
    histogram_wasserstein,
    mixture_divergence,
    power_spectrum_hellinger,
    prediction_error,
    sliced_wasserstein,
    state_space_divergence,
    valid_prediction_time,
    value_wasserstein,
    wasserstein,
)
from sciml.metrics.hellinger import gaussian_smooth
from sciml.odes import Lorenz63
from sciml.solvers.time import RK4, explicit_rk

F = torch.float64
FRAMES = 100_000
EXPONENT = 0.9056  # leading Lyapunov exponent of Lorenz (1963)


def lorenz(start: tuple[float, float, float], steps: int, dt: float = 0.01) -> Tensor:
    """The classical Runge-Kutta method in plain numbers, forty times as fast as tensors of three."""

    def rates(x: float, y: float, z: float) -> tuple[float, float, float]:
        return 10.0 * (y - x), x * (28.0 - z) - y, x * y - 8.0 / 3.0 * z

    (x, y, z), h, kept = start, dt / 2, []
    for _ in range(steps):
        a, b, c = rates(x, y, z)
        d, e, f = rates(x + h * a, y + h * b, z + h * c)
        g, i, j = rates(x + h * d, y + h * e, z + h * f)
        k, m, n = rates(x + dt * g, y + dt * i, z + dt * j)
        x += dt / 6 * (a + 2 * d + 2 * g + k)
        y += dt / 6 * (b + 2 * e + 2 * i + m)
        z += dt / 6 * (c + 2 * f + 2 * j + n)
        kept.append((x, y, z))
    return torch.tensor(kept, dtype=F)


@pytest.fixture(scope="module")
def attractors() -> tuple[Tensor, Tensor]:
    """Two long series from unlike starts, standardised alike."""
    first, second = (lorenz(start, FRAMES + 2000)[2000:] for start in ((1.0, 1.0, 20.0), (-3.0, 2.0, 15.0)))
    mean, scale = first.mean(0), first.std(0)
    return (first - mean) / scale, (second - mean) / scale


def test_the_series_is_that_of_the_platforms_own_runge_kutta():
    pde = Lorenz63()
    start = torch.tensor([[1.0, 1.0, 20.0]], dtype=F)
    own = rollout(explicit_rk(pde.rhs, 0.01, RK4), 100)(start)[0, 1:]
    torch.testing.assert_close(own, lorenz((1.0, 1.0, 20.0), 100), rtol=1e-10, atol=1e-10)


def test_two_pieces_of_an_attractor_are_near_and_surrogates_far(attractors):
    """Bounds for 100,000 points of dt = 0.01: below 0.35 and 0.10; above 3 and 0.8; above 14; within seconds."""
    first, second = attractors
    began = time.process_time()
    assert 0.02 < state_space_divergence(second, first).item() < 0.35
    assert power_spectrum_hellinger(second, first).item() < 0.10
    white = torch.randn(FRAMES, 3, generator=torch.Generator().manual_seed(0), dtype=F)
    assert state_space_divergence(white, first).item() > 3
    assert power_spectrum_hellinger(white, first).item() > 0.8
    phase = 2 * math.pi * torch.arange(FRAMES, dtype=F) * 0.01 / 0.758
    cycle = torch.stack([phase.sin(), phase.cos(), (2 * phase).sin()], dim=1)
    assert state_space_divergence(cycle, first).item() > 14
    assert state_space_divergence(0 * first, first).item() > 14
    assert power_spectrum_hellinger(0 * first, first).item() == 1.0
    assert time.process_time() - began < 5  # about 0.6


def test_the_floor_rises_as_series_get_shorter_and_stands_beside_the_value(attractors):
    first, second = attractors
    floors = []
    for length in (50_000, 2_000):
        pieces = (second[:length], first[:length], first[-length:])
        found = against_floor(state_space_divergence, *pieces)
        floors.append(found.floor.item())
        assert found.value.item() == state_space_divergence(pieces[0], pieces[1]).item()
        assert found.excess.item() == pytest.approx(found.value.item() / found.floor.item())
    assert floors[1] > 5 * floors[0]
    with pytest.raises(ValueError, match="one length only"):
        against_floor(state_space_divergence, second[:100], first[:100], first[-99:])


def test_unlike_lengths_are_refused():
    a, b = torch.zeros(10, 3, dtype=F), torch.zeros(11, 3, dtype=F)
    for distance in (state_space_divergence, mixture_divergence, power_spectrum_hellinger):
        with pytest.raises(ValueError, match="same: cut the longer"):
            distance(a, b)
    with pytest.raises(ValueError, match="mixture_divergence in high"):
        state_space_divergence(torch.zeros(5, 30, dtype=F), torch.zeros(5, 30, dtype=F))


def test_binned_divergence_against_a_dense_histogram(attractors):
    ref, gen = attractors[0][:3000].clone(), 1.3 * attractors[1][:3000]
    gen[7] = torch.nan
    low, high = (
        (ref.min(0).values - 0.1 * ref.std(0)).numpy(),
        (ref.max(0).values + 0.1 * ref.std(0)).numpy(),
    )
    edges = [np.linspace(a, b, 13) for a, b in zip(low, high, strict=True)]
    kept = gen[torch.isfinite(gen).all(1)]
    p, q = (np.histogramdd(x.numpy(), edges)[0] + 1e-5 for x in (ref, kept))
    p, q = p / p.sum(), q / q.sum()
    expected = (p * np.log(p / q)).sum()
    assert state_space_divergence(gen, ref, bins=12).item() == pytest.approx(expected, rel=1e-10)
    both = state_space_divergence(torch.stack([gen, ref]), torch.stack([ref, ref]), bins=12)
    assert both[0].item() == pytest.approx(expected, rel=1e-10)
    assert both[1].item() == pytest.approx(0.0, abs=1e-12)
    assert math.isnan(state_space_divergence(gen + 1e3, ref).item())


def test_occupation_gathered_state_by_state_gives_the_same_divergence(attractors):
    ref, gen = attractors[0][:2000], attractors[1][:2000]
    seen = [RunningOccupation.of_reference(ref, bins=20) for _ in range(3)]
    for u in ref.split(100):
        seen[0].update(u)
    for u in gen[:900].split(50):
        seen[1].update(u)
    seen[2].update(gen[900:])
    with pytest.raises(ValueError, match="depends on their number"):
        seen[1].divergence(seen[0])
    seen[1].merge(seen[2])
    expected = state_space_divergence(gen, ref, bins=20).item()
    assert seen[1].divergence(seen[0]).item() == pytest.approx(expected, rel=1e-12)
    again = RunningOccupation.of_reference(ref, bins=20)
    again.load_state_dict(seen[1].state_dict())
    assert again.divergence(seen[0]).item() == pytest.approx(expected, rel=1e-12)
    with pytest.raises(ValueError, match="fewer numbers"):
        RunningOccupation(torch.zeros(6), torch.ones(6), bins=30)


def test_mixtures_of_two_gaussians_have_the_divergence_of_the_integral():
    """Both series a single point: Gaussians at distance d have the divergence d^2 / (2 s^2)."""
    ref = torch.zeros(5, 8, dtype=F)
    gen = torch.full((5, 8), 0.5, dtype=F)
    found = mixture_divergence(gen, ref, samples=40_000).item()
    # Monte Carlo: standard deviation of ln p - ln q is d = sqrt(2), over 200.
    assert found == pytest.approx(8 * 0.25 / 2, abs=4 * math.sqrt(2) / 200)
    half = mixture_divergence(gen, ref, variance=0.25, samples=40_000).item()
    assert half == pytest.approx(8 * 0.25 / 2 / 0.25, abs=4 * math.sqrt(8) / 200)
    assert mixture_divergence(ref, ref).item() == pytest.approx(0.0, abs=1e-12)
    assert math.isnan(mixture_divergence(ref + 1e3, ref).item())  # every density underflows
    assert math.isnan(mixture_divergence(ref * torch.nan, ref).item())


@pytest.mark.parametrize(("sigma", "n"), [(20.0, 300), (20.0, 40), (2.0, 100), (0.5, 7)])
def test_smoothing_is_a_sum_over_the_mirrored_series(sigma, n):
    values = torch.randn(2, n, generator=torch.Generator().manual_seed(1), dtype=F)
    radius = int(4 * sigma + 0.5)
    kernel = [math.exp(-0.5 * (j / sigma) ** 2) for j in range(-radius, radius + 1)]
    long = np.pad(values.numpy(), ((0, 0), (radius, radius)), mode="symmetric")
    expected = sum(k * long[:, j : j + n] for j, k in enumerate(kernel)) / sum(kernel)
    np.testing.assert_allclose(gaussian_smooth(values, sigma).numpy(), expected, rtol=1e-10, atol=1e-13)


def test_hellinger_of_series_of_one_and_of_another_wave():
    t = torch.arange(4096, dtype=F)
    one, other = (torch.sin(2 * math.pi * k * t / 4096).unsqueeze(1) for k in (200, 1500))
    assert power_spectrum_hellinger(one, one).item() == 0.0
    assert power_spectrum_hellinger(other, one).item() == pytest.approx(
        1.0, abs=1e-7
    )  # rounding under roots
    # Amplitude and phase are not seen.
    assert power_spectrum_hellinger(3 * one.roll(5, 0) + 1, one).item() == pytest.approx(0.0, abs=1e-6)
    # Overlapping bumps of equal width: 1 - exp(-d^2 / (8 s^2)) is the squared distance.
    near = torch.sin(2 * math.pi * 230 * t / 4096).unsqueeze(1)
    expected = math.sqrt(1 - math.exp(-(30**2) / (8 * 20**2)))
    assert power_spectrum_hellinger(near, one).item() == pytest.approx(expected, abs=2e-3)


def test_persistence_on_lorenz_is_valid_for_a_twentieth_of_a_lyapunov_time():
    """Windows of dt = 0.025 and 350 steps, standardised, threshold 0.4.

    Twenty windows have been seen to give 0.055, and the climatological mean 0.011. Means of twenty windows scatter by
    0.007 round 0.064 (measured on a thousand), those of 150 by 0.003.
    """
    count = 150
    series = lorenz((1.0, 1.0, 20.0), 2000 + 2000 + count * 350 + 1, dt=0.025)[2000:]
    train, test = series[:2000], series[2000:]
    mean, scale = train.mean(0), train.std(0)
    windows = torch.stack([test[350 * k : 350 * k + 351] for k in range(count)])
    ref = windows[:, 1:]
    times = [
        valid_prediction_time(forecast, ref, 0.025, 0.4, mean=mean, scale=scale, exponent=EXPONENT)
        .mean()
        .item()
        for forecast in (windows[:, :1].expand_as(ref), mean.expand_as(ref))
    ]
    assert times[0] == pytest.approx(0.064, abs=0.009)
    assert times[1] == pytest.approx(0.012, abs=0.004)


def test_short_forecasts_from_every_point():
    """A linear map with a wrong factor: after n steps the error is (a^n - b^n) x."""
    a, b, n = 1.01, 1.02, 5
    series = (a ** torch.arange(40, dtype=F)).reshape(1, 40, 1).repeat(2, 1, 2) * torch.tensor(
        [1.0, 3.0], dtype=F
    )
    found = prediction_error(lambda u: b * u, series, n, chunk=7)
    starts = series[0, :-n]
    torch.testing.assert_close(found, ((a**n - b**n) * starts).square().mean(0))
    assert prediction_error(lambda u: a * u, series, n).max().item() < 1e-25
    with pytest.raises(ValueError, match="more times than steps"):
        prediction_error(lambda u: u, series[:, :5], 5)


class TestWasserstein:
    def test_shifts_and_unequal_numbers(self):
        x = torch.randn(3, 50, generator=torch.Generator().manual_seed(2), dtype=F)
        torch.testing.assert_close(wasserstein(x + 0.7, x.flip(1)), torch.full((3,), 0.7, dtype=F))
        # Quantile functions 0, 1 on halves against 0, 3, 6 on thirds: |.| = 0, 3, 2, 5 on 1/3, 1/6, 1/6, 1/3.
        y, z = torch.tensor([1.0, 0.0], dtype=F), torch.tensor([0.0, 6.0, 3.0], dtype=F)
        assert wasserstein(y, z).item() == pytest.approx(0 / 3 + 3 / 6 + 2 / 6 + 5 / 3)
        # Each sample repeated changes nothing.
        assert wasserstein(y.repeat(3), z.repeat(2)).item() == pytest.approx(wasserstein(y, z).item())
        with pytest.raises(ValueError, match=r"\(\.\.\., n\)"):
            wasserstein(x, y)

    def test_axes_and_slices(self):
        x = torch.randn(200, 3, generator=torch.Generator().manual_seed(3), dtype=F)
        shift = torch.tensor([1.0, -2.0, 0.0], dtype=F)
        torch.testing.assert_close(axis_wasserstein(x + shift, x), shift.abs())
        # A shift by d moves a projection by |d . w|, on the sphere in 3D |d| / 2 in the mean.
        many = sliced_wasserstein(x + shift, x, projections=20_000).item()
        assert many == pytest.approx(math.sqrt(5) / 2, rel=0.02)
        assert sliced_wasserstein(x + shift, x).item() == sliced_wasserstein(x + shift, x).item()

    def test_values_over_time_and_space_in_three_units(self):
        ref = torch.randn(2, 4, 1, 10, generator=torch.Generator().manual_seed(4), dtype=F)
        pred = ref.flip(3).roll(1, 1) + 0.3
        torch.testing.assert_close(value_wasserstein(pred, ref), torch.full((2, 1), 0.3, dtype=F))
        square = ref.square().flatten(1).mean(1, keepdim=True)
        torch.testing.assert_close(value_wasserstein(pred, ref, mode="well"), 0.3 / (square + 1e-7))
        torch.testing.assert_close(value_wasserstein(pred, ref, mode="scaled"), 0.3 / square.sqrt())
        longer = torch.cat([pred, pred], dim=1)
        torch.testing.assert_close(value_wasserstein(longer, ref), torch.full((2, 1), 0.3, dtype=F))

    def test_histograms(self):
        p, q = torch.tensor([2.0, 0, 0, 2]), torch.tensor([0.0, 1, 0, 1])
        assert histogram_wasserstein(p, q, 0.5).item() == pytest.approx(0.25)


def test_dimensions_of_a_curve_a_square_and_lorenz(attractors):
    """One, two, and the 2.05 of Grassberger and Procaccia (1983) for Lorenz."""
    phase = 2 * math.pi * torch.rand(3000, generator=torch.Generator().manual_seed(5), dtype=F)
    circle = torch.stack([phase.cos(), phase.sin()], dim=1)
    assert correlation_dimension(circle, limit=1500).item() == pytest.approx(1.0, abs=0.02)
    square = torch.rand(3000, 2, generator=torch.Generator().manual_seed(6), dtype=F)
    assert correlation_dimension(square, limit=1500).item() == pytest.approx(2.0, abs=0.1)
    assert correlation_dimension(attractors[0], exclude=20, limit=1500).item() == pytest.approx(
        2.05, abs=0.12
    )
    with pytest.raises(ValueError, match="ten points"):
        correlation_dimension(square[:5])
