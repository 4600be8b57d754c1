"""Metrics against golden values, identities and hand-computed arrays."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sciml import Cloud, Field, Grid, Mesh
from sciml.metrics import (
    RolloutMetrics,
    aggregate,
    band_mse,
    blow_up_time,
    correlation,
    correlation_time,
    crmse,
    energy_spectrum,
    freeze_time,
    frmse,
    gmean,
    high_band_gain,
    invariant_drift,
    max_error,
    nrmse,
    resolved_shells,
    rmse,
    spectral_distance,
    spectrum,
    survival,
    valid_frames,
    vrmse,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def sine(n: int = 64) -> Tensor:
    return torch.sin(2 * torch.pi * torch.arange(n, dtype=torch.float64) / n).reshape(1, 1, 1, n)


def test_golden_values_of_a_damped_and_of_a_shifted_sine():
    u, n = sine(), 64
    assert nrmse(0.9 * u, u).item() == pytest.approx(0.1, rel=1e-14)
    assert correlation(0.9 * u, u).item() == pytest.approx(1.0, rel=1e-14)
    # The variance of The Well carries 1e-7 beside 1/2, hence 1e-6.
    assert vrmse(0.9 * u, u).item() == pytest.approx(0.1 * math.sqrt((n - 1) / n), rel=1e-6)
    assert crmse(0.9 * u, u).item() == pytest.approx(0.0, abs=1e-16)
    assert crmse(u + 0.1, u).item() == pytest.approx(0.1, rel=1e-12)
    assert correlation(u + 0.1, u).item() == pytest.approx(1.0, rel=1e-12)
    assert correlation(u + 0.1, u, mode="cosine").item() == pytest.approx(0.9901, abs=5e-5)
    assert correlation(u + 0.1, u, mode="well").item() == pytest.approx((n - 1) / n, rel=1e-12)
    assert max_error(u + 0.1, u).item() == pytest.approx(0.1)


def test_conventions_against_arrays_worked_out_by_hand():
    ref = torch.tensor([[[[3.0, 4.0], [0.0, 2.0]]]], dtype=torch.float64)
    pred = ref + torch.tensor([[[[1.0, 0.0], [0.0, 1.0]]]], dtype=torch.float64)
    torch.testing.assert_close(nrmse(pred, ref)[0, 0], torch.tensor([1 / 5, 1 / 2], dtype=torch.float64))
    assert nrmse(pred, ref, mode="joint").item() == pytest.approx(math.sqrt(2 / 29))
    assert nrmse(pred, ref, mode="apebench").item() == pytest.approx(0.7)
    assert nrmse(pred, ref, mode="joint").shape == (1, 1, 1)
    # Channel by channel: p = (4, 4), r = (3, 4) and p = (0, 3), r = (0, 2).
    assert correlation(pred, ref, mode="cosine").item() == pytest.approx(
        (28 / (math.sqrt(32) * 5) + 1.0) / 2
    )
    p, r = torch.tensor([4.0, 4, 0, 3]), torch.tensor([3.0, 4, 0, 2])
    joint = torch.corrcoef(torch.stack([p, r]).double())[0, 1].item()
    assert correlation(pred, ref).item() == pytest.approx(joint)
    with pytest.raises(ValueError, match="expected one of"):
        nrmse(pred, ref, mode="best")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected one of"):
        correlation(pred, ref, mode="best")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="same shape"):
        rmse(pred, ref[..., :1])
    with pytest.raises(ValueError, match="weights of shape"):
        rmse(pred, ref, torch.ones(3))


def test_shapes_scaling_and_permutation():
    pred, ref = noise(4, 3, 2, 8, 6, seed=1), noise(4, 3, 2, 8, 6, seed=2)
    order = torch.tensor([2, 0, 3, 1])
    for metric in (rmse, nrmse, vrmse, max_error, crmse, spectral_distance, high_band_gain):
        value = metric(pred, ref)
        assert value.shape == (4, 3, 2)
        torch.testing.assert_close(metric(pred[order], ref[order]), value[order])
    for metric in (nrmse, vrmse, correlation, spectral_distance, high_band_gain):
        # Only the 1e-7 inside vrmse notices the size.
        torch.testing.assert_close(metric(7 * pred, 7 * ref), metric(pred, ref), rtol=1e-6, atol=0)


def test_weights_are_cell_volumes():
    """A field that is one on a part of the domain has the mean square of that part's volume."""
    points = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [3.0, 2.0]], dtype=torch.float64)
    mesh = Mesh(points, torch.tensor([[0, 1, 2], [1, 3, 2]]))
    w = mesh.weights()
    error = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=torch.float64).reshape(1, 1, 1, 4)
    ref = noise(1, 1, 1, 4, seed=3)
    share = (w[3] / w.sum()).item()
    assert rmse(ref + error, ref, w).item() == pytest.approx(math.sqrt(share))
    assert crmse(ref + error, ref, w).item() == pytest.approx(share)
    equal = torch.full((4,), 2.5, dtype=torch.float64)
    for metric in (rmse, nrmse, vrmse, crmse, correlation):
        torch.testing.assert_close(metric(ref + error, ref, equal), metric(ref + error, ref))


@pytest.mark.parametrize(
    "grid",
    [
        Grid((15,), (2.0,)),
        Grid((16, 9), (1.0, 3.0)),
        Grid((8, 6, 5), (1.0, 1.0, 2.0)),
        Grid((9,), (1.0,), boundary="dirichlet"),
        Grid((8, 7), (1.0, 1.0), boundary=("wall", "periodic"), centering="cell"),
    ],
)
def test_shells_add_up_to_half_the_mean_square(grid):
    """Parseval; on bounded axes with the trapezoidal or the cell weights of the grid."""
    u, ref = noise(2, 3, 2, *grid.shape, seed=4), noise(2, 3, 2, *grid.shape, seed=5)
    size = rmse(u, torch.zeros_like(u), grid.weights()).square()
    torch.testing.assert_close(2 * spectrum(u, grid).sum(-1), size, rtol=1e-12, atol=0)
    torch.testing.assert_close(energy_spectrum(u, grid, [1]), spectrum(u, grid)[:, :, 1])
    error = rmse(u, ref, grid.weights())
    torch.testing.assert_close(frmse(u, ref, grid).square().sum(-1).sqrt(), error, rtol=1e-12, atol=0)
    torch.testing.assert_close(frmse(u, ref, grid, bands=())[..., 0], error, rtol=1e-12, atol=0)


@pytest.mark.parametrize("shape", [(16,), (12, 9), (8, 6, 5)])
def test_bands_of_the_well_add_up_to_the_mean_square_error(shape):
    u, ref = noise(2, 3, 2, *shape, seed=6), noise(2, 3, 2, *shape, seed=7)
    total = rmse(u, ref).square()
    torch.testing.assert_close(band_mse(u, ref).sum(-1), total, rtol=1e-6, atol=0)
    same = band_mse(u * 0, ref, normalised=True)
    torch.testing.assert_close(same, torch.ones_like(same), rtol=1e-4, atol=0)


def test_a_wave_sits_in_the_shell_of_its_wavenumber():
    grid = Grid((32, 16), (2.0, 1.0))
    x, y = grid.coordinates()
    # Wavenumbers in units of the longest side: (3, 2 * 2), |k| = 5; energy 1/2 * 1/4 of a product of sines.
    u = (torch.sin(3 * torch.pi * x) * torch.sin(4 * torch.pi * y))[None, None, None]
    energy = spectrum(u, grid)[0, 0, 0]
    expected = torch.zeros_like(energy)
    expected[5] = 0.125
    torch.testing.assert_close(energy, expected, rtol=0, atol=1e-15)
    bands = frmse(2 * u, u, grid, bands=(4, 6))[0, 0, 0]
    torch.testing.assert_close(bands, torch.tensor([0, 0.5, 0], dtype=torch.float64), rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("grid", "last"),
    [
        (Grid((16,), (2.0,)), 8),
        (Grid((15,), (2.0,)), 7),
        (Grid((32, 9), (3.0, 1.0)), 12),
        (Grid((9,), (1.0,), boundary="wall"), 4),
        (Grid((9,), (1.0,), boundary="wall", centering="cell"), 4),
    ],
)
def test_distances_compare_the_shells_that_every_axis_resolves(grid, last):
    """A change outside those shells is not seen, and the last of them is."""
    assert resolved_shells(grid) == last
    ref = noise(1, 1, 1, *grid.shape, seed=20)
    metrics = RolloutMetrics(grid, 1.0, (Field("u"),))
    metrics.update(0.5 * ref[:, 0], 3 * ref[:, 0] + ref[:, 0].roll(1, -1))
    pair = (0.5 * ref, 3 * ref + ref.roll(1, -1))
    assert metrics.curves()["spectral_distance"].item() == pytest.approx(
        spectral_distance(*pair, grid).item(), rel=1e-12
    )


def test_spectral_distance_and_gain_of_fields_of_known_amplitude():
    u = noise(1, 1, 1, 64, seed=8)
    # All energies times e^2: a distance of 2 in every shell.
    assert spectral_distance(math.e * u, u).item() == pytest.approx(2.0, rel=1e-9)
    assert high_band_gain(math.e * u, u).item() == pytest.approx(math.e**2, rel=1e-9)
    modes = torch.fft.rfft(u)
    modes[..., 16:] = 0
    smooth = torch.fft.irfft(modes, n=64)
    assert high_band_gain(smooth, u).item() < 1e-20
    assert spectral_distance(smooth, u).item() > 10
    assert spectral_distance(u + 5.0, u).item() == pytest.approx(0.0, abs=1e-9)  # the mean is not compared


def test_pdebench_bands_against_their_formula():
    pred, ref = noise(3, 2, 1, 32, seed=9), noise(3, 2, 1, 32, seed=10)
    grid = Grid((32,), (2.0,))
    modes = torch.fft.rfft(pred - ref).abs().square().mean(dim=0).sqrt() * 2.0 / 32
    expected = torch.stack(
        [modes[..., :4].mean(-1), modes[..., 4:12].mean(-1), modes[..., 12:].mean(-1)], -1
    )
    torch.testing.assert_close(frmse(pred, ref, grid, mode="pdebench")[0], expected)
    pred, ref = noise(2, 1, 1, 16, 16, seed=11), noise(2, 1, 1, 16, 16, seed=12)
    power = torch.fft.fft2(pred - ref).abs().square()[:, 0, 0]
    shells = torch.zeros(2, 8, dtype=torch.float64)
    for i in range(8):
        for j in range(8):
            s = math.floor(math.hypot(i, j))
            if s < 8:
                shells[:, s] += power[:, i, j]
    root = shells.mean(0).sqrt() / 256
    found = frmse(pred, ref, bands=(2, 5), mode="pdebench")[0, 0, 0]
    torch.testing.assert_close(found, torch.stack([root[:2].mean(), root[2:5].mean(), root[5:].mean()]))
    with pytest.raises(ValueError, match="wavenumbers below"):
        frmse(pred, ref, bands=(4, 12), mode="pdebench")
    with pytest.raises(ValueError, match="increasing"):
        frmse(pred, ref, bands=(4, 2))


def test_correlation_time_is_the_first_crossing_interpolated_and_censored():
    rho = torch.tensor(
        [[1.0, 0.9, 0.7, 0.95], [0.99, 0.98, 0.97, 0.96], [0.6, 0.9, 0.9, 0.9], [0.9, torch.nan, 0.9, 0.9]],
        dtype=torch.float64,
    )
    # Crossings of 0.8: halfway between frames at 2 dt and 3 dt; never; at half of dt; after frame dt.
    expected = torch.tensor([2.5, 4.0, 0.5, 1.0], dtype=torch.float64) * 0.2
    torch.testing.assert_close(correlation_time(rho, 0.2), expected)
    with pytest.raises(ValueError, match="positive"):
        correlation_time(rho, 0.0)


def test_geometric_mean_counts_factors_and_caps_what_is_not_finite():
    values = torch.tensor([[1e-2, 1e-4, 1.0], [1e-2, torch.nan, 1.0]], dtype=torch.float64)
    torch.testing.assert_close(gmean(values), torch.tensor([1e-2, 10 ** (1 / 3)], dtype=torch.float64))
    assert gmean(values, up_to=2)[0].item() == pytest.approx(1e-3)


def test_one_nan_in_one_of_eight_trajectories():
    """Survival falls to 7/8 at its frame, later frames are invalid, and every statistic stays finite."""
    ref = noise(8, 60, 1, 16, seed=13)
    pred = ref + 0.1 * noise(8, 60, 1, 16, seed=14)
    pred[5, 37, 0, 3] = torch.nan
    valid = valid_frames(pred, ref)
    assert survival(valid)[36].item() == 1.0
    assert survival(valid)[37].item() == survival(valid)[59].item() == 7 / 8
    times = blow_up_time(pred, ref, dt=0.5)
    assert times.tolist() == [30.0] * 5 + [18.5] + [30.0] * 2
    table = aggregate(nrmse(pred, ref)[..., 0], valid, cap=1.0)
    assert all(torch.isfinite(value).all() for value in table.values())
    assert table["valid"][37].item() == 7 / 8
    survivors = nrmse(pred, ref)[torch.arange(8) != 5, 40, 0]
    assert table["mean"][40].item() == pytest.approx(survivors.mean().item())
    assert table["worst"][40].item() == pytest.approx(survivors.max().item())
    assert table["capped_mean"][40].item() == pytest.approx((survivors.sum().item() + 1.0) / 8)
    nobody = aggregate(torch.full((3,), torch.nan))
    assert nobody["mean"].item() == 1.0
    assert nobody["valid"].item() == 0.0


def test_ten_times_the_largest_norm_is_a_blow_up():
    ref = torch.ones(2, 5, 1, 4, dtype=torch.float64)
    ref[:, 2] = 3.0
    pred = ref.clone()
    pred[0, 1] = 29.0  # below ten times the largest norm of the whole reference
    pred[1, 3] = 31.0
    assert blow_up_time(pred, ref, 1.0).tolist() == [5.0, 3.0]


def test_a_frozen_prediction_is_found_and_a_slow_truth_is_not():
    t = torch.arange(40, dtype=torch.float64).reshape(1, 40, 1, 1)
    ref = torch.exp(-0.1 * t).expand(1, 40, 1, 3)
    stuck = torch.where(t < 12, ref, ref[:, 12:13])
    assert freeze_time(stuck, ref, dt=1.0).item() == 13.0
    assert freeze_time(ref, ref, dt=1.0).item() == 40.0
    assert freeze_time(ref[:, :5], ref[:, :5], dt=1.0).item() == 5.0


def test_drift_is_relative_to_the_invariant_or_its_scale():
    values = torch.tensor([[2.0, 2.2], [0.1, -0.1]], dtype=torch.float64)
    drift = invariant_drift(values, torch.tensor([2.0, 0.0], dtype=torch.float64), 0.5)
    torch.testing.assert_close(drift, torch.tensor([[0.0, 0.1], [0.2, 0.2]], dtype=torch.float64))
    with pytest.raises(ValueError, match=r"expected \(B, T\) and \(B,\)"):
        invariant_drift(values, values)


class TestStreaming:
    grid = Grid((8, 6), (1.0, 2.0))
    fields = (Field("velocity", "m/s", rank=1),)
    frames = 12

    def rollouts(self) -> tuple[Tensor, Tensor, Tensor]:
        start = noise(3, 2, 8, 6, seed=15)
        ref = start.unsqueeze(1) + 0.1 * noise(3, self.frames, 2, 8, 6, seed=16)
        growth = torch.linspace(0.1, 2.0, self.frames, dtype=torch.float64).reshape(1, -1, 1, 1, 1)
        pred = ref + growth * noise(3, self.frames, 2, 8, 6, seed=17)
        pred[1, 7, 0, 0, 0] = torch.inf
        return start, pred, ref

    def score(self, start: Tensor, pred: Tensor, ref: Tensor) -> RolloutMetrics:
        metrics = RolloutMetrics(
            self.grid,
            0.5,
            self.fields,
            initial=start,
            invariants=lambda u: {"momentum": u[:, 0].flatten(1).sum(1)},
        )
        for k in range(self.frames):
            metrics.update(pred[:, k], ref[:, k])
        return metrics

    def test_frame_by_frame_is_all_at_once(self):
        start, pred, ref = self.rollouts()
        metrics = self.score(start, pred, ref)
        w = self.grid.weights()
        valid = valid_frames(pred, ref)
        assert torch.equal(metrics.valid, valid)
        whole = {
            "nrmse": nrmse(pred, ref, w, mode="joint")[..., 0],
            "vrmse": vrmse(pred, ref, w).mean(-1),
            "vrmse_velocity_y": vrmse(pred, ref, w)[..., 1],
            "correlation": correlation(pred, ref, w),
            "spectral_distance": spectral_distance(pred, ref, self.grid).mean(-1),
            "high_band_gain": high_band_gain(pred, ref, self.grid).mean(-1),
        }
        curves = metrics.curves()
        for name, values in whole.items():
            assert torch.isnan(curves[name][~valid]).all()
            torch.testing.assert_close(curves[name][valid], values[valid], rtol=1e-10, atol=1e-12)
        summary = metrics.summary()
        torch.testing.assert_close(summary["blow_up_time"], blow_up_time(pred, ref, 0.5).double())
        expected = correlation_time(curves["correlation"], 0.5, 0.9)
        torch.testing.assert_close(summary["correlation_time_0.9"], expected)

    def test_invariants_are_scored_for_prediction_and_reference(self):
        start, pred, ref = self.rollouts()
        curves = self.score(start, pred, ref).curves()
        mass = [u[..., 0, :, :].flatten(-2).sum(-1) for u in (start, pred, ref)]
        size = start[:, 0].abs().flatten(1).sum(1)  # the momentum itself is nearly zero
        expected = (mass[2] - mass[0].unsqueeze(1)).abs() / size.unsqueeze(1)
        torch.testing.assert_close(curves["reference_drift_momentum"], expected)
        assert torch.isnan(curves["drift_momentum"][1, 7:]).all()
        assert (curves["drift_momentum"][0] > 0).all()

    def test_spectra_are_means_over_the_valid_frames(self):
        start, pred, ref = self.rollouts()
        p, r = self.score(start, pred, ref).spectra()
        torch.testing.assert_close(p[1], spectrum(pred[1:2, :7], self.grid)[0].mean(0))
        torch.testing.assert_close(r[0], spectrum(ref[:1], self.grid)[0].mean(0))

    def test_the_table_is_tidy(self):
        start, pred, ref = self.rollouts()
        metrics = self.score(start, pred, ref)
        rows = metrics.rows()
        curves = metrics.curves()
        assert len(rows) == len(curves) * 3 * self.frames + len(metrics.summary()) * 3
        row = next(x for x in rows if x.metric == "rmse" and x.sample == 2 and x.lead_time == 2.0)
        assert row.value == curves["rmse"][2, 3].item()
        assert metrics.lead_times.tolist() == [0.5 * k for k in range(1, self.frames + 1)]

    def test_it_keeps_numbers_and_no_states(self):
        start, pred, ref = self.rollouts()
        metrics = self.score(start, pred, ref)
        table = metrics.state_dict()["table"]
        assert table.shape[0] == self.frames and table.shape[2] == 3
        assert table.untyped_storage().nbytes() < 1.01 * self.frames * table.shape[1] * 3 * 8

    def test_clouds_have_neither_weights_nor_spectra(self):
        metrics = RolloutMetrics(Cloud(((0.0, 1.0),) * 2), 1.0, (Field("position", "m", rank=1),))
        metrics.update(noise(2, 2, 5, seed=18), noise(2, 2, 5, seed=19))
        assert "spectral_distance" not in metrics.curves()
        with pytest.raises(ValueError, match="no spectra"):
            metrics.spectra()

    def test_misuse_is_told(self):
        metrics = RolloutMetrics(self.grid, 1.0, self.fields)
        with pytest.raises(ValueError, match="call update first"):
            metrics.curves()
        with pytest.raises(ValueError, match="expected"):
            metrics.update(noise(1, 1, 8, 6), noise(1, 1, 8, 6))
        metrics.update(noise(2, 2, 8, 6), noise(2, 2, 8, 6))
        with pytest.raises(ValueError, match="same samples"):
            metrics.update(noise(1, 2, 8, 6), noise(1, 2, 8, 6))
        with pytest.raises(ValueError, match="no initial state"):
            RolloutMetrics(self.grid, 1.0, self.fields, invariants=lambda u: {})
        with pytest.raises(ValueError, match="positive"):
            RolloutMetrics(self.grid, 0.0, self.fields)
