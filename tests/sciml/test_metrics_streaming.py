"""Metrics frame by frame: chunks, resuming, single precision, any domain, and what they cost."""

from __future__ import annotations

import io
import resource
import time

import pytest
import torch
from torch import Tensor

from sciml import Cloud, Field, Grid, Mesh
from sciml.domains import Point
from sciml.metrics import (
    RolloutMetrics,
    blow_up_time,
    correlation,
    drift_slope,
    freeze_time,
    max_error,
    movement,
    nrmse,
    rmse,
    spectral_distance,
    valid_frames,
    valid_prediction_time,
    vrmse,
)

F = torch.float64
FLOW = (Field("velocity", "m/s", rank=1),)
FRAMES = 24


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F)


def rollouts(*points: int, samples: int = 4, channels: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    """Start, prediction that goes astray, reference; the second sample blows up at frame 15."""
    start = noise(samples, channels, *points, seed=1)
    ref = start.unsqueeze(1) + 0.3 * noise(samples, FRAMES, channels, *points, seed=2).cumsum(1)
    growth = torch.linspace(0.05, 1.0, FRAMES, dtype=F).reshape(1, -1, *[1] * (1 + len(points)))
    pred = ref + growth * noise(samples, FRAMES, channels, *points, seed=3)
    pred[1, 15:] *= 1e6
    return start, pred, ref


def energy(u: Tensor) -> dict[str, Tensor]:
    return {"energy": u.square().reshape(len(u), -1).mean(1), "first": u[:, 0].reshape(len(u), -1).mean(1)}


def score(
    domain: Grid | Mesh | Cloud | Point,
    start: Tensor,
    pred: Tensor,
    ref: Tensor,
    every: int = 1,
    fields: tuple[Field, ...] = FLOW,
) -> RolloutMetrics:
    metrics = RolloutMetrics(domain, 0.5, fields, initial=start, invariants=energy, every=every)
    for k in range(pred.shape[1]):
        metrics.update(pred[:, k], ref[:, k])
    return metrics


def same(first: dict[str, Tensor], second: dict[str, Tensor], **tolerance: float) -> None:
    assert list(first) == list(second)
    for name, values in first.items():
        torch.testing.assert_close(values, second[name], equal_nan=True, **tolerance, msg=name)


GRID = Grid((12, 8), (1.0, 2.0))


def mesh() -> Mesh:
    points = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [3.0, 2.0], [0.0, 3.0]], dtype=F)
    return Mesh(points, torch.tensor([[0, 1, 2], [1, 3, 2], [2, 3, 4]]))


@pytest.mark.parametrize(
    "domain",
    [GRID, Grid((7, 6), (1.0, 2.0), boundary="wall"), Grid((4, 6, 5), (1.0, 1.0, 1.0)), mesh()],
    ids=["periodic", "walls", "solid", "mesh"],
)
def test_every_domain_gives_what_whole_trajectories_give(domain):
    fields = (Field("a"), Field("b"))
    start, pred, ref = rollouts(*domain.shape)
    metrics = score(domain, start, pred, ref, fields=fields)
    valid = valid_frames(pred, ref)
    assert torch.equal(metrics.valid, valid)
    w = domain.weights()
    whole = {
        "nrmse": nrmse(pred, ref, w, mode="joint")[..., 0],
        "correlation": correlation(pred, ref, w),
        "rmse_b": rmse(pred, ref, w)[..., 1],
        "vrmse": vrmse(pred, ref, w).mean(-1),
        "max_error_a": max_error(pred, ref)[..., 0],
        "movement": movement(pred, ref, start),
    }
    if isinstance(domain, Grid):
        whole["spectral_distance"] = spectral_distance(pred, ref, domain).mean(-1)
    curves = metrics.curves()
    for name, values in whole.items():
        torch.testing.assert_close(curves[name][valid], values[valid], rtol=1e-9, atol=1e-12)
        assert torch.isnan(curves[name][~valid]).all()
    torch.testing.assert_close(metrics.summary()["blow_up_time"], blow_up_time(pred, ref, 0.5).double())


def test_states_without_space_are_scored_without_a_spread():
    fields = tuple(Field(name) for name in "xyz")
    start, pred, ref = rollouts(channels=3)
    metrics = score(Point(), start, pred, ref, fields=fields)
    curves = metrics.curves()
    valid = metrics.valid
    assert "vrmse" not in curves and "spectral_distance" not in curves
    torch.testing.assert_close(curves["nrmse"][valid], nrmse(pred, ref, mode="joint")[..., 0][valid])
    torch.testing.assert_close(curves["rmse_y"][valid], rmse(pred, ref)[..., 1][valid])
    mean = ref.mean((0, 1))
    scale = (ref - mean).square().mean((0, 1)).sqrt()
    standard = (ref - mean) / scale
    # The size over all samples is sqrt(3), that of each sample is not.
    error = ((pred - ref) / scale).square().sum(2).sqrt() / standard.square().sum(2).mean().sqrt()
    expected = [next((k for k in range(FRAMES) if e[k] > 0.7), FRAMES) * 0.5 for e in error]
    assert metrics.valid_prediction_time(0.7).tolist() == pytest.approx(expected)
    assert metrics.valid_prediction_time(0.7, exponent=2.0).tolist() == pytest.approx(
        [2 * x for x in expected]
    )
    # For one sample alone it is the metric of whole trajectories.
    alone = score(Point(), start[:1], pred[:1], ref[:1], fields=fields)
    mean, scale = ref[0].mean(0), ref[0].std(0, correction=0)
    whole = valid_prediction_time(pred[:1], ref[:1], 0.5, 0.7, mean=mean, scale=scale)
    assert alone.valid_prediction_time(0.7).tolist() == pytest.approx(whole.tolist())


def test_single_precision_keeps_six_digits():
    start, pred, ref = rollouts(12, 8)
    pred, ref, start = pred + 50.0, ref + 50.0, start + 50.0  # a background that squares would lose
    pred[1, 15:] *= 1e6
    exact = score(GRID, start.float().double(), pred.float().double(), ref.float().double())
    single = score(GRID, start.float(), pred.float(), ref.float())
    for name, values in exact.curves().items():
        torch.testing.assert_close(
            single.curves()[name],
            values,
            rtol=2e-5,
            atol=2e-6,
            equal_nan=True,
            msg=name,
        )
    half = score(GRID, start.bfloat16(), pred.bfloat16(), ref.bfloat16())
    assert half.curves()["nrmse"].dtype == F


def test_chunks_of_samples_merge_and_runs_go_on():
    start, pred, ref = rollouts(12, 8)
    whole = score(GRID, start, pred, ref)
    parts = [score(GRID, start[a:b], pred[a:b], ref[a:b]) for a, b in ((0, 1), (1, 4))]
    parts[0].merge(parts[1])
    same(parts[0].curves(), whole.curves())
    same(parts[0].summary(), whole.summary())
    for mine, theirs in zip(parts[0].spectra(), whole.spectra(), strict=True):
        torch.testing.assert_close(mine, theirs)
    first = score(GRID, start, pred[:, :11], ref[:, :11])
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = RolloutMetrics(GRID, 0.5, FLOW, initial=start, invariants=energy)
    second.load_state_dict(torch.load(file, weights_only=True))
    with pytest.raises(ValueError, match="score both alike"):
        whole.merge(second)
    for k in range(11, FRAMES):
        second.update(pred[:, k], ref[:, k])
    same(second.curves(), whole.curves(), rtol=0, atol=0)
    same(second.summary(), whole.summary(), rtol=0, atol=0)
    with pytest.raises(ValueError, match="got the state of one with"):
        RolloutMetrics(GRID, 0.25, FLOW).load_state_dict(first.state_dict())


def test_frames_between_are_watched_but_not_scored():
    start, pred, ref = rollouts(12, 8)
    whole, some = score(GRID, start, pred, ref), score(GRID, start, pred, ref, every=5)
    assert len(some) == FRAMES // 5
    assert some.frames == FRAMES
    assert some.lead_times.tolist() == [2.5, 5.0, 7.5, 10.0]
    assert torch.equal(some.lived, whole.lived)
    for name, values in some.curves().items():
        assert torch.equal(values.nan_to_num(-1), whole.curves()[name][:, 4::5].nan_to_num(-1))
    assert torch.equal(some.summary()["blow_up_time"], whole.summary()["blow_up_time"])
    with pytest.raises(ValueError, match="every=0"):
        RolloutMetrics(GRID, 0.5, FLOW, every=0)


def test_summary_tells_of_freezing_and_drifting():
    t = 0.5 * torch.arange(1, 31, dtype=F).reshape(1, -1, 1, 1)
    ref = torch.exp(-0.1 * t) * noise(1, 1, 1, 16, seed=5)
    pred = torch.where(t < 6.25, ref, ref[:, 12:13])
    grid = Grid((16,), (1.0,))
    metrics = RolloutMetrics(
        grid,
        0.5,
        (Field("u"),),
        initial=torch.ones(1, 1, 16, dtype=F),
        invariants=lambda u: {"size": u.abs().flatten(1).mean(1)},
    )
    for k in range(30):
        metrics.update(pred[:, k], ref[:, k])
    summary, curves = metrics.summary(), metrics.curves()
    assert summary["freeze_time"].item() == freeze_time(pred, ref, 0.5).item() == 6.5
    drift = curves["reference_drift_size"]
    assert summary["reference_drift_max_size"].item() == drift.max().item()
    assert summary["reference_drift_slope_size"].item() == drift_slope(drift, 0.5).item()
    assert summary["drift_slope_size"].item() == drift_slope(curves["drift_size"], 0.5).item()


def test_metrics_of_ones_own_and_spectra_of_the_last_frame():
    start, pred, ref = rollouts(12, 8)
    metrics = RolloutMetrics(GRID, 0.5, FLOW, initial=start, extra={"worst": max_error})
    for k in range(4):
        metrics.update(pred[:, k], ref[:, k])
    torch.testing.assert_close(metrics.curves()["worst"], metrics.curves()["max_error"])
    before = metrics.spectra()[0] * 4
    metrics.update(pred[:, 4], ref[:, 4])
    torch.testing.assert_close(metrics.spectra()[0] * 5 - before, metrics.latest_spectra()[0])
    assert metrics.alive.all()


def test_particles_are_refused_on_a_grid_of_another_shape():
    metrics = RolloutMetrics(Cloud(((0.0, 1.0),) * 2), 1.0, FLOW)
    with pytest.raises(ValueError, match=r"\(N,\)"):
        metrics.update(noise(2, 2, 4, 4), noise(2, 2, 4, 4))
    with pytest.raises(ValueError, match="no frame yet"):
        _ = metrics.alive


def test_scoring_a_frame_costs_a_few_transforms():
    """128 x 128 points, four samples of two channels: 2 ms where the two transforms take 0.4 ms, measured."""
    grid = Grid((128, 128), (1.0, 1.0))
    pred, ref = noise(4, 2, 128, 128, seed=6).float(), noise(4, 2, 128, 128, seed=7).float()
    metrics = RolloutMetrics(grid, 0.1, FLOW)

    def fastest(work: object, repeats: int = 15) -> float:
        assert callable(work)
        spent = []
        for _ in range(repeats):
            began = time.process_time()
            work()
            spent.append(time.process_time() - began)
        return min(spent)

    scored = fastest(lambda: metrics.update(pred, ref))
    transformed = fastest(lambda: (torch.fft.rfft2(pred), torch.fft.rfft2(ref)))
    assert scored < 30 * transformed


@pytest.mark.slow
def test_ten_thousand_frames_of_a_plane_keep_numbers_only():
    grid = Grid((128, 128), (1.0, 1.0))
    pred, ref = noise(1, 2, 128, 128, seed=8).float(), noise(1, 2, 128, 128, seed=9).float()
    metrics = RolloutMetrics(grid, 0.1, FLOW, initial=ref)
    used = []
    for k in range(10_000):
        metrics.update(pred, ref * (1 + 1e-3 * (k % 7)))
        if k in (99, 9_999):
            used.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    # One row of about fifty numbers each: 4 MB, doubled where the table grows.
    assert used[1] - used[0] < 32
