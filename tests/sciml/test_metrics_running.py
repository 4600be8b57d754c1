"""Statistics gathered state by state against those of all states at once."""

from __future__ import annotations

import io
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from sciml import Grid
from sciml.metrics import (
    Running,
    RunningAutocorrelation,
    RunningHistogram,
    RunningMoments,
    RunningSpectrum,
    Trace,
    leading_modes,
    point_values,
    spectrum,
    value_density,
    value_wasserstein,
)

F = torch.float64
GRID = Grid((8, 6), (1.0, 2.0))
FRAMES = 30


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F)


def states(samples: int = 4) -> Tensor:
    """(B, T, 2, 8, 6), with a mean far from zero and a slow drift."""
    t = torch.arange(FRAMES, dtype=F).reshape(1, -1, 1, 1, 1)
    return noise(samples, FRAMES, 2, 8, 6, seed=1) + 100.0 + 0.1 * t


MAKERS: dict[str, Callable[[], Running]] = {
    "moments": RunningMoments,
    "spectrum": lambda: RunningSpectrum(GRID),
    "histogram": lambda: RunningHistogram([95.0, 95.0], [110.0, 108.0], bins=20),
    "autocorrelation": lambda: RunningAutocorrelation([0, 17, 40], lags=6),
    "trace": lambda: Trace(point_values([3, 4])),
}


def outcome(running: Running) -> Tensor:
    """The numbers that it is for."""
    if isinstance(running, RunningMoments):
        return torch.stack([running.mean, running.variance])
    if isinstance(running, RunningSpectrum):
        return running.mean
    if isinstance(running, RunningHistogram):
        return running.density
    if isinstance(running, RunningAutocorrelation):
        return running.correlation
    assert isinstance(running, Trace)
    return running.series


def gather(make: Callable[[], Running], u: Tensor) -> Running:
    running = make()
    for k in range(u.shape[1]):
        running.update(u[:, k])
    return running


@pytest.mark.parametrize("name", MAKERS)
def test_chunks_of_samples_merge_to_the_whole(name):
    u = states()
    whole = gather(MAKERS[name], u)
    parts = [gather(MAKERS[name], u[a:b]) for a, b in ((0, 1), (1, 4))]
    parts[0].merge(parts[1])
    torch.testing.assert_close(outcome(parts[0]), outcome(whole), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", MAKERS)
def test_what_was_saved_goes_on_as_if_nothing_had_happened(name):
    u = states()
    whole = gather(MAKERS[name], u)
    first = gather(MAKERS[name], u[:, :11])
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    first.update(u[:, 11])  # what goes on must not reach into what was saved
    file.seek(0)
    second = MAKERS[name]()
    second.load_state_dict(torch.load(file, weights_only=True))
    saved = second.state_dict()
    kept = {key: value.clone() if isinstance(value, Tensor) else value for key, value in saved.items()}
    for k in range(11, FRAMES):
        second.update(u[:, k])
    assert torch.equal(outcome(second), outcome(whole))
    for key, value in kept.items():
        assert torch.equal(saved[key], value) if isinstance(value, Tensor) else saved[key] == value


@pytest.mark.parametrize("name", ["moments", "spectrum", "histogram"])
def test_a_lost_sample_is_left_out_and_counted(name):
    u = states()
    v = u.clone()
    v[2, 20:, 0, 3, 3] = torch.nan
    running = gather(MAKERS[name], v)
    assert running.lost == FRAMES - 20
    expected = gather(MAKERS[name], u[:, :20])
    for k in range(20, FRAMES):
        expected.update(u[[0, 1, 3], k])
    torch.testing.assert_close(outcome(running), outcome(expected), rtol=1e-12, atol=1e-12)
    running.update(torch.full((4, 2, 8, 6), torch.inf, dtype=F))
    assert running.lost == FRAMES - 20 + 4


def test_moments_are_those_of_all_states_in_single_precision_too():
    u = states()
    running = gather(RunningMoments, u)
    assert isinstance(running, RunningMoments) and running.count == 4 * FRAMES
    flat = u.transpose(0, 1).flatten(0, 1)
    torch.testing.assert_close(running.mean, flat.mean(0), rtol=1e-13, atol=0)
    torch.testing.assert_close(running.variance, flat.var(0, correction=0), rtol=1e-10, atol=0)
    single = gather(RunningMoments, u.float())
    assert isinstance(single, RunningMoments)
    # A mean a hundred deviations from zero: rounding of 1e-7 x 100 of each value is 1e-5 of the variance.
    torch.testing.assert_close(single.variance, running.variance, rtol=1e-4, atol=0)
    with pytest.raises(ValueError, match="got states of shape"):
        running.update(u[:, 0, :1])
    with pytest.raises(ValueError, match="no state yet"):
        _ = RunningMoments().mean


def test_spectrum_is_the_mean_of_spectra():
    u = states()
    running = gather(lambda: RunningSpectrum(GRID), u)
    torch.testing.assert_close(outcome(running), spectrum(u, GRID).mean((0, 1)), rtol=1e-12, atol=0)
    with pytest.raises(ValueError, match="cannot merge"):
        running.merge(RunningSpectrum(Grid((8, 6), (1.0, 1.0))))


def test_histograms_against_densities_and_sorted_values():
    u = states(2)
    make = lambda: RunningHistogram([95.0, 97.0], [110.0, 104.0], bins=40)  # noqa: E731
    running = gather(make, u)
    assert isinstance(running, RunningHistogram)
    pooled = u.transpose(1, 2).transpose(0, 1).reshape(1, 2, -1).transpose(1, 2).reshape(1, -1, 2)
    for channel, (low, high) in enumerate(((95.0, 110.0), (97.0, 104.0))):
        edges = torch.linspace(low, high, 41, dtype=F)
        inside = value_density(pooled[..., channel : channel + 1], edges)[0, 0]
        torch.testing.assert_close(running.density[channel], inside, rtol=1e-9, atol=1e-12)
    outside = ((u[:, :, 1] < 97).double().mean(), (u[:, :, 1] >= 104).double().mean())
    torch.testing.assert_close(running.outside[1], torch.stack(outside))
    other = gather(lambda: RunningHistogram([95.0, 90.0], [110.0, 111.0], bins=2000), u + 0.4)
    same = gather(lambda: RunningHistogram([95.0, 90.0], [110.0, 111.0], bins=2000), u)
    assert isinstance(other, RunningHistogram) and isinstance(same, RunningHistogram)
    flat = value_wasserstein(u.reshape(1, -1, 2, 48) + 0.4, u.reshape(1, -1, 2, 48))[0]
    torch.testing.assert_close(other.distance(same), flat, rtol=0, atol=21 / 2000)
    with pytest.raises(ValueError, match="other settings"):
        running.merge(other)
    weights = torch.zeros(8, 6, dtype=F)
    weights[2, 3] = 5.0
    heavy = RunningHistogram([95.0, 95.0], [110.0, 110.0], bins=3, weights=weights)
    heavy.update(u[:1, 0])
    place = ((u[0, 0, 0, 2, 3] - 95.0) / 5.0).long()
    assert heavy.density[0, place].item() == pytest.approx(1 / 5)
    with pytest.raises(ValueError, match="lower < upper"):
        RunningHistogram([1.0], [1.0])


def test_autocorrelation_of_waves_and_of_noise():
    t = torch.arange(1500, dtype=F)
    wave = torch.stack([torch.sin(0.1 * t + phase) for phase in (0.0, 1.0)])  # two samples
    fields = wave[:, :, None, None] * torch.tensor([1.0, -3.0, 2.0], dtype=F)
    running = RunningAutocorrelation([0, 2], lags=50)
    for k in range(1500):
        running.update(fields[:, k])
    lags = torch.arange(51, dtype=F)
    torch.testing.assert_close(running.correlation[0], torch.cos(0.1 * lags), rtol=0, atol=5e-3)
    # To the first zero of the cosine: 1 / 0.1 lags.
    assert running.time(0.5).item() == pytest.approx(10 * 0.5, rel=5e-3)
    plain = RunningAutocorrelation([0], lags=3)
    for u in noise(1500, 6, 1, seed=3):
        plain.update(u)
    assert plain.correlation[0, 1:].abs().max().item() < 4 / math.sqrt(9_000)
    with pytest.raises(ValueError, match="same samples"):
        plain.update(noise(3, 1))


def test_series_of_summaries():
    u = states()
    trace = gather(lambda: Trace(point_values([5, 47]), every=7), u)
    assert isinstance(trace, Trace)
    expected = u[:, ::7].flatten(3)[..., [5, 47]].flatten(2)
    assert torch.equal(trace.series, expected)
    plain = gather(Trace, noise(2, 300, 3, seed=4))
    assert isinstance(plain, Trace)
    assert torch.equal(plain.series, noise(2, 300, 3, seed=4))
    with pytest.raises(ValueError, match="as long"):
        trace.merge(gather(lambda: Trace(point_values([5, 47]), every=7), u[:, :9]))  # type: ignore[arg-type]


def test_leading_modes_are_the_amplitudes_of_the_longest_waves():
    grid = Grid((16, 12), (1.0, 3.0))
    x, y = grid.coordinates()
    # Longest first: one and two waves along y (lengths 3 and 1.5), then one along x (length 1).
    u = 4.0 + 0.6 * torch.cos(2 * math.pi * y / 3.0) + 0.2 * torch.sin(2 * math.pi * 2 * y / 3.0)
    u = u + 0.8 * torch.cos(2 * math.pi * x + 0.5)
    summary = leading_modes(grid, 5)(torch.stack([u, -u]).unsqueeze(0))
    assert summary.shape == (1, 2 * 2 * 5)
    first = summary[0, :10].reshape(5, 2)
    torch.testing.assert_close(first[0], torch.tensor([0.3, 0.0], dtype=F))
    torch.testing.assert_close(first[1], torch.tensor([0.0, -0.1], dtype=F))
    amplitudes = first.norm(dim=1)[2:].sort().values
    torch.testing.assert_close(amplitudes, torch.tensor([0.0, 0.0, 0.4], dtype=F), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(summary[0, 10:], -summary[0, :10])
    with pytest.raises(ValueError, match="periodic everywhere"):
        leading_modes(Grid((8,), (1.0,), boundary="wall"), 1)
    with pytest.raises(ValueError, match="wave that it resolves"):
        leading_modes(Grid((4,), (1.0,)), 2)
