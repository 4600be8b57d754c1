"""The published conventions of each metric against arrays worked out by hand, and their identities."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sciml import Grid
from sciml.metrics import (
    aggregate,
    balance_residual,
    brmse,
    correlation,
    correlation_steps,
    correlation_time,
    crmse,
    drift_slope,
    fourier_nrmse,
    freeze_time,
    frmse,
    h1_error,
    initial_nrmse,
    lead_windows,
    log_spectral_distance,
    max_error,
    movement,
    nrmse,
    relative_l1,
    rmse,
    smape,
    smape_time,
    spectral_divergence,
    spectral_residual,
    srmse,
    survival_curve,
    valid_prediction_time,
    vrmse,
    window_means,
)

F = torch.float64


def array(values: object) -> Tensor:
    return torch.tensor(values, dtype=F)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F)


def test_relative_errors_of_two_times_and_two_channels():
    ref = array([[[[3.0, 4.0], [0.0, 2.0]], [[1.0, 0.0], [0.0, 1.0]]]])  # (1, 2, 2, 2)
    error = array([[[[1.0, 0.0], [0.0, 1.0]], [[0.0, 2.0], [0.0, 0.0]]]])
    pred = ref + error
    torch.testing.assert_close(nrmse(pred, ref)[0], array([[1 / 5, 1 / 2], [2.0, 0.0]]))
    torch.testing.assert_close(
        nrmse(pred, ref, mode="joint")[0, :, 0], array([math.sqrt(2 / 29), math.sqrt(4 / 2)])
    )
    assert nrmse(pred, ref, mode="global").item() == pytest.approx(math.sqrt(6 / 31))
    assert nrmse(pred, ref, mode="global").shape == (1, 1, 1)
    torch.testing.assert_close(nrmse(pred, ref, mode="apebench")[0, :, 0], array([0.7, 2.0]))
    # |p| = |(4, 4)|, |(0, 3)| at the first time.
    expected = array([2 * 1 / (math.sqrt(32) + 5), 2 * 1 / (3 + 2)])
    torch.testing.assert_close(srmse(pred, ref)[0, 0], expected)
    assert srmse(pred, 0 * ref).max().item() == pytest.approx(2.0)
    initial = array([[[2.0, 0.0], [0.0, 0.0]]])
    torch.testing.assert_close(initial_nrmse(pred, ref, initial)[0, :, 0], array([math.sqrt(2) / 2, 2 / 2]))
    with pytest.raises(ValueError, match="initial state of shape"):
        initial_nrmse(pred, ref, initial[0])


def test_relative_l1_by_group_of_channels_in_percent():
    ref = array([[[[1.0, -3.0], [2.0, 2.0], [0.0, 0.0]]]])
    pred = ref + array([[[[0.5, 0.5], [0.0, 1.0], [1e-12, 0.0]]]])
    torch.testing.assert_close(
        relative_l1(pred, ref, [[0, 1], [2]])[0, 0], array([100 * 2 / 8, 100 * 1e-12 / 1e-10])
    )
    assert relative_l1(pred, ref).item() == pytest.approx(25.0)
    weights = array([3.0, 1.0])
    expected = 100 * (0.5 * 3 + 0.5) / (1 * 3 + 3)
    assert relative_l1(pred, ref, [[0]], weights).item() == pytest.approx(expected)
    with pytest.raises(ValueError, match="from 0 to 2"):
        relative_l1(pred, ref, [[3]])


def test_worst_and_conserved_and_boundary_errors_over_samples():
    error = array([[[[1.0, -3.0, 2.0]]], [[[-4.0, 0.0, 1.0]]]])  # two samples
    ref = noise(2, 1, 1, 3)
    pred = ref + error
    torch.testing.assert_close(max_error(pred, ref)[:, 0, 0], array([3.0, 4.0]))
    assert max_error(pred, ref, mode="pdebench").item() == pytest.approx(4.0)
    torch.testing.assert_close(crmse(pred, ref)[:, 0, 0], array([0.0, 1.0]))
    # sqrt(mean_b (sum_x e)^2) / N with sums 0 and -3.
    assert crmse(pred, ref, mode="pdebench").item() == pytest.approx(math.sqrt(9 / 2) / 3)
    torch.testing.assert_close(
        brmse(pred, ref)[:, 0, 0], array([math.sqrt((1 + 4) / 2), math.sqrt((16 + 1) / 2)])
    )


def test_boundary_error_counts_every_side_by_itself():
    shape = (3, 4)
    error = noise(1, 1, 1, *shape, seed=1)
    e = error[0, 0, 0]
    edges = sum(x.square().sum() for x in (e[0], e[-1], e[:, 0], e[:, -1]))
    assert brmse(error, 0 * error).item() == pytest.approx((edges / (2 * 3 + 2 * 4)).sqrt().item())
    solid = torch.ones(1, 1, 1, 3, 4, 5, dtype=F)
    assert brmse(2 * solid, 0 * solid).item() == pytest.approx(2.0)
    with pytest.raises(ValueError, match="grid"):
        brmse(noise(1, 2, 3), noise(1, 2, 3))


def test_states_without_space_have_the_same_metrics():
    pred, ref = noise(2, 5, 3, seed=2), noise(2, 5, 3, seed=3)
    for metric in (rmse, nrmse, srmse, max_error, crmse, smape):
        torch.testing.assert_close(metric(pred, ref), metric(pred[..., None], ref[..., None]))
    torch.testing.assert_close(
        nrmse(pred, ref, mode="joint")[..., 0], (pred - ref).norm(dim=2) / ref.norm(dim=2)
    )
    expected = torch.stack(
        [torch.corrcoef(torch.stack([p, r]))[0, 1] for p, r in zip(pred[0], ref[0], strict=True)]
    )
    torch.testing.assert_close(correlation(pred, ref)[0], expected)
    with pytest.raises(ValueError, match="no spread"):
        vrmse(pred, ref)


def test_one_band_is_the_whole_error_and_batches_may_be_permuted():
    pred, ref = noise(4, 2, 2, 12, 10, seed=4), noise(4, 2, 2, 12, 10, seed=5)
    torch.testing.assert_close(frmse(pred, ref, bands=())[..., 0], rmse(pred, ref), rtol=1e-12, atol=0)
    order = torch.tensor([3, 1, 0, 2])
    for metric in (srmse, brmse, fourier_nrmse, relative_l1, smape):
        torch.testing.assert_close(metric(pred[order], ref[order]), metric(pred, ref)[order])
        if metric is not brmse:
            torch.testing.assert_close(metric(3 * pred, 3 * ref), metric(pred, ref), rtol=1e-8, atol=0)


@pytest.mark.parametrize("n", [16, 15])
def test_fourier_bands_against_modes_summed_one_by_one(n):
    pred, ref = noise(2, 1, 1, n, n, seed=6), noise(2, 1, 1, n, n, seed=7)
    k = (torch.fft.fftfreq(n) * n).round().abs()
    largest = torch.maximum(k[:, None], k[None, :])

    def norm(u: Tensor, low: int, high: int) -> Tensor:
        power = torch.fft.fft2(u).abs().square()
        return torch.where((largest >= low) & (largest <= high), power, 0.0).sum((-2, -1)).sqrt()

    for low, high in ((0, 2), (3, 5), (6, n)):
        expected = norm(pred - ref, low, high) / norm(ref, low, high)
        torch.testing.assert_close(fourier_nrmse(pred, ref, low, high), expected)
    torch.testing.assert_close(fourier_nrmse(pred, ref), nrmse(pred, ref))
    with pytest.raises(ValueError, match="low <= high"):
        fourier_nrmse(pred, ref, 3, 2)


def test_fourier_bands_leave_rounding_out():
    """A field of a wave and of noise below the threshold has nothing in the other bands."""
    x = torch.arange(32, dtype=F) / 32
    ref = torch.sin(2 * math.pi * x).reshape(1, 1, 1, -1)
    pred = 0.5 * ref + 1e-8 * noise(1, 1, 1, 32, seed=8)  # coefficients of about 32 x 1e-8 at most
    assert fourier_nrmse(pred, ref, 0, 1).item() == pytest.approx(0.5, rel=1e-6)
    assert math.isnan(fourier_nrmse(pred, ref, 2).item())  # 0 / 0: neither has such waves


def test_sobolev_errors_of_waves_of_known_slope():
    grid = Grid((32, 24), (2.0, 3.0))
    x, y = grid.coordinates()
    k, q = 2 * math.pi / 2, 2 * 2 * math.pi / 3
    ref = (torch.sin(k * x) + 0 * y).reshape(1, 1, 1, 32, 24)
    error = (0.1 * torch.cos(q * y)).reshape(1, 1, 1, 32, 24)
    pred = ref + error
    expected = 0.1 * math.sqrt((1 + q**2) / (1 + k**2))
    assert h1_error(pred, ref, grid).item() == pytest.approx(expected, rel=1e-12)
    # The ratios of the norms and of the norms of the derivatives, added.
    assert h1_error(pred, ref, grid, mode="apebench").item() == pytest.approx(0.1 + 0.1 * q / k, rel=1e-12)
    integral = grid.volume * 0.01 / 2 * (1 + q**2)
    assert h1_error(pred, ref, grid, mode="apebench_mse").item() == pytest.approx(integral, rel=1e-12)
    with pytest.raises(ValueError, match="periodic everywhere"):
        h1_error(pred, ref, Grid((32, 24), (2.0, 3.0), boundary="wall"))


def test_distances_of_spectra_by_hand():
    ref, pred = array([1.0, 0.5, 0.02, 0.001]), array([math.e, 0.5, 0.0001, 0.1])
    jaxcfd = 1.0 + 0.0 + math.log(200) + abs(math.log(0.1))
    assert log_spectral_distance(pred, ref, mode="jaxcfd").item() == pytest.approx(jaxcfd)
    q, p = ref / ref.sum(), pred / pred.sum()
    assert spectral_divergence(pred, ref).item() == pytest.approx((q * (q / p).log()).sum().item())
    assert spectral_divergence(3 * ref, ref).item() == pytest.approx(0.0, abs=1e-15)
    assert spectral_divergence(array([1.0, 0.0]), array([1.0, 1.0])).item() == math.inf
    expected = math.sqrt(((math.e - 1) ** 2 + 0.0199**2 + 0.099**2) / 4)
    assert spectral_residual(pred, ref).item() == pytest.approx(expected)


def test_steps_above_a_threshold_go_on_after_the_first_crossing():
    rho = array([[1.0, 0.9, 0.7, 0.9], [0.9, 0.8, 0.6, 0.8]])  # mean 0.95, 0.85, 0.65, 0.85
    assert correlation_steps(rho, 0.8).item() == 3
    mean = rho.mean(0, keepdim=True)
    assert correlation_time(mean, 1.0, 0.8).item() == pytest.approx(2.25)
    # Times of samples averaged are another number: 2.5 and 2.
    assert correlation_time(rho, 1.0, 0.8).mean().item() == pytest.approx(2.25, abs=0.3)


def test_valid_prediction_time_of_a_growing_error():
    frames = 50
    ref = torch.ones(2, frames, 2, dtype=F)
    growth = 0.01 * torch.arange(1, frames + 1, dtype=F)
    pred = ref + growth.reshape(1, -1, 1)
    pred[1] = ref[1]
    pred[1, 30] = torch.nan
    # Relative error 0.01 (j + 1) exceeds 0.405 first at j = 40.
    times = valid_prediction_time(pred, ref, 0.5, 0.405)
    torch.testing.assert_close(times, array([40 * 0.5, 30 * 0.5]))
    lyapunov = valid_prediction_time(pred, ref, 0.5, 0.405, exponent=0.9)
    torch.testing.assert_close(lyapunov, 0.9 * times)
    assert valid_prediction_time(pred[:1], ref[:1], 0.5, 0.6).item() == 25.0  # censored
    # Standardised by a mean of 1/2 and a deviation of 1/4, the size is 2 per channel and the error four times as large.
    half, quarter = array([0.5, 0.5]), array([0.25, 0.25])
    times = valid_prediction_time(pred[:1], ref[:1], 1.0, 0.405, mean=half, scale=quarter)
    assert times.item() == 20.0
    with pytest.raises(ValueError, match="positive"):
        valid_prediction_time(pred, ref, 1.0, exponent=0.0)


def test_symmetric_percentage_error_and_its_time():
    ref = array([[[1.0], [2.0], [1.0], [1.0]]])
    pred = array([[[1.0], [1.9], [0.5], [1.0]]])
    values = smape(pred, ref)[0, :, 0]
    torch.testing.assert_close(
        values, array([0.0, 200 * 0.1 / 3.9, 200 * 0.5 / 1.5, 0.0]), rtol=1e-8, atol=1e-8
    )
    assert smape(-ref, ref).max().item() == pytest.approx(200.0)
    assert smape_time(pred, ref, 0.1).item() == pytest.approx(0.2)
    assert smape_time(pred, ref, 0.1, exponent=2.0).item() == pytest.approx(0.4)


def test_windows_of_lead_time_are_log_spaced():
    assert lead_windows(81) == [(0, 1), (1, 3), (3, 9), (9, 27), (27, 81)]
    assert lead_windows(100) == [(0, 1), (1, 3), (3, 10), (10, 31), (31, 100)]
    assert lead_windows(1) == [(0, 1)]
    for frames in range(1, 120):
        windows = lead_windows(frames)
        assert [a for a, _ in windows] == [0, *[b for _, b in windows[:-1]]]
        assert windows[-1][1] == frames
    values = torch.arange(81, dtype=F).reshape(1, 81)
    torch.testing.assert_close(window_means(values)[0], array([0.0, 1.5, 5.5, 17.5, 53.5]))
    with pytest.raises(ValueError, match="at least"):
        lead_windows(0)


def test_growth_of_a_drift_and_the_balance_of_an_energy():
    t = 0.1 * torch.arange(1, 41, dtype=F)
    drift = torch.stack([1e-3 * torch.exp(0.7 * t), 0 * t, 1e-6 * torch.exp(-2.0 * t)])
    drift[0, 3] = torch.nan
    slopes = drift_slope(drift, 0.1)
    assert slopes[0].item() == pytest.approx(0.7, rel=1e-10)
    assert math.isnan(slopes[1].item())
    assert slopes[2].item() == pytest.approx(-2.0, rel=1e-10)
    time = torch.arange(0, 201, dtype=F).reshape(1, -1) / 100
    energy, rate = torch.exp(-2 * time), -2 * torch.exp(-2 * time)
    # The trapezoidal rule errs by h^2 |E'''|/12, at most 8 h^2 / 12.
    assert balance_residual(energy, rate, 0.01).item() < 8e-4 / 12
    torch.testing.assert_close(balance_residual(energy, rate + 0.3, 0.01), array([0.3]), rtol=1e-3, atol=0)


def test_movement_is_the_change_of_the_prediction_over_that_of_the_reference():
    ref = array([[[0.0, 0.0], [3.0, 4.0], [3.0, 4.0]]])
    pred = array([[[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]]])
    values = movement(pred, ref)[0]
    assert values[0].item() == pytest.approx(0.2)
    assert values[1].item() == math.inf
    assert movement(pred, ref, array([[0.0, -1.0]])).tolist()[0][0] == 1.0
    assert freeze_time(0 * ref, ref, 1.0, steps=1).item() == 1.0


def test_aggregates_count_what_is_invalid_in_three_ways():
    values = array([0.2, 0.4, torch.nan, 0.6])
    table = aggregate(values)
    assert table["valid"].item() == 0.75
    assert table["count"].item() == 4
    assert table["mean"].item() == pytest.approx(0.4)
    assert table["capped_mean"].item() == pytest.approx((0.2 + 0.4 + 0.6 + 1.0) / 4)
    rho = aggregate(values, cap=0.0, higher_is_better=True)
    assert rho["worst"].item() == pytest.approx(0.2)
    assert rho["capped_mean"].item() == pytest.approx(1.2 / 4)
    assert aggregate(array([torch.nan]), cap=0.0, higher_is_better=True)["worst"].item() == 0.0
    with pytest.raises(ValueError, match="B > 0"):
        aggregate(torch.empty(0, 3))


class TestSurvivalCurve:
    def test_without_censoring_it_is_the_fraction_alive_with_the_binomial_band(self):
        times = array([1.0, 2.0, 2.0, 5.0, 9.0, 9.0, 9.0, 9.0])
        failed = times < 9
        curve = survival_curve(times, failed)
        assert curve.times.tolist() == [0, 1, 2, 5, 9]
        torch.testing.assert_close(curve.survival, array([1, 7 / 8, 5 / 8, 4 / 8, 4 / 8]))
        assert curve.at_risk.tolist() == [8, 8, 7, 5, 4]
        z, n = 1.959963984540054, 8
        for p, low, high in zip(
            *(x[:4].tolist() for x in (curve.survival, curve.lower, curve.upper)), strict=True
        ):
            centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
            half = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
            assert low == pytest.approx(max(0, centre - half), abs=1e-12)
            assert high == pytest.approx(min(1, centre + half), abs=1e-12)
        normal = survival_curve(times, failed, interval="greenwood")
        assert normal.lower[2].item() == pytest.approx(5 / 8 - z * math.sqrt(5 / 8 * 3 / 8 / 8))
        assert normal.lower[0].item() == normal.upper[0].item() == 1.0

    def test_censored_rollouts_leave_the_risk_set(self):
        """Kaplan and Meier by hand: deaths at 2 of 5 at risk, at 4 of 3; the others ended at 3 and 5."""
        curve = survival_curve(array([2, 3, 4, 5, 5]), torch.tensor([True, False, True, False, False]))
        assert curve.times.tolist() == [0, 2, 4, 5]
        torch.testing.assert_close(curve.survival, array([1, 4 / 5, 4 / 5 * 2 / 3, 4 / 5 * 2 / 3]))
        green = survival_curve(
            array([2, 3, 4, 5, 5]),
            torch.tensor([True, False, True, False, False]),
            interval="greenwood",
            level=0.9,
        )
        variance = (8 / 15) ** 2 * (1 / (5 * 4) + 1 / (3 * 2))
        half = 1.6448536269514722 * math.sqrt(variance)
        assert green.lower[2].item() == pytest.approx(8 / 15 - half)

    def test_all_dead_and_none_dead_keep_an_honest_band(self):
        dead = survival_curve(array([1.0, 1.0, 1.0]), torch.ones(3, dtype=torch.bool))
        assert dead.survival[-1].item() == 0.0
        assert 0.4 < dead.upper[-1].item() < 0.7  # Wilson for 0 of 3: z^2 / (3 + z^2) = 0.56
        alive = survival_curve(array([4.0, 4.0]), torch.zeros(2, dtype=torch.bool))
        assert alive.survival.tolist() == [1.0, 1.0]
        assert alive.lower[-1].item() == pytest.approx(2 / (2 + 1.959963984540054**2))

    def test_misuse(self):
        with pytest.raises(ValueError, match=r"\(B,\) twice"):
            survival_curve(torch.ones(3), torch.ones(2, dtype=torch.bool))
        with pytest.raises(ValueError, match="level"):
            survival_curve(torch.ones(3), torch.ones(3, dtype=torch.bool), level=1.0)
        with pytest.raises(ValueError, match="expected one of"):
            survival_curve(torch.ones(3), torch.ones(3, dtype=torch.bool), interval="exact")  # type: ignore[arg-type]
