from __future__ import annotations

import statistics
import sys
from dataclasses import replace

import h5py
import pytest
import torch
from scipy.interpolate import CubicSpline

from sciml.experiments.papers import chaotic_forecasts as chaos
from sciml.experiments.papers import local_regularization as paper


def test_a_short_run_prints_its_table(tmp_path, capsys):
    small = {
        name: replace(problem, variants=problem.variants[:1]) for name, problem in paper.PROBLEMS.items()
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paper, "PROBLEMS", small)
        rows = paper.measure(["spiral"], [0], updates=2)
    assert [row["variant"] for row in rows] == [
        *("none", "none, tested at 1e-05", "none, tested at 0.0001", "none, tested at 0.001"),
        "error unbiased 0.03",
    ]
    counts = [row["evaluations"] for row in rows[:4]]
    assert counts == sorted(counts, reverse=True) and counts[0] > counts[-1]
    text = paper.table(rows)
    assert len(text.splitlines()) == 2 + 5 and "| spiral | none |" in text


@pytest.mark.parametrize("name", list(paper.PROBLEMS))
def test_the_truth_is_that_of_the_equation(name):
    """Against the classical method of order 4 with small steps."""
    problem = paper.PROBLEMS[name]
    windows = problem.windows(3, 1, 0)
    u, h = windows[:, 0], 1 / 400
    for _ in range(400):
        a = problem.truth(u)
        b = problem.truth(u + h / 2 * a)
        c = problem.truth(u + h / 2 * b)
        u = u + h / 6 * (a + 2 * b + 2 * c + problem.truth(u + h * c))
    assert windows.shape[1:] == (2, *problem.shape)
    assert torch.allclose(windows[:, 1], u, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_some_weight_saves_a_quarter_of_the_evaluations_at_nearly_equal_error():
    """Means of three seeds on the spiral; more weight means fewer evaluations."""
    problem = paper.PROBLEMS["spiral"]
    local = [v for v in problem.variants if v[1] in ("unbiased", "biased")]
    found: dict[object, list[tuple[float, float]]] = {}
    for seed in range(3):
        test = problem.windows(64, paper.ROLLOUT, 99)
        for variant in (None, *local):
            model, _ = paper.trained(problem, variant, seed, 300)
            numbers = paper.judged(model, test)
            found.setdefault(variant, []).append((numbers["evaluations"], numbers["error one step"]))
    means = {v: [sum(x) / 3 for x in zip(*rows, strict=True)] for v, rows in found.items()}
    for sampling in ("unbiased", "biased"):
        counts = [count for v, (count, _) in means.items() if v is None or v[1] == sampling]
        assert counts == sorted(counts, reverse=True)
    plain = means.pop(None)
    assert any(count <= 0.75 * plain[0] and error <= plain[1] + 0.03 for count, error in means.values())


REST = {
    "Chen": (63**0.5, 63**0.5, 21.0),
    "Chua": (1.5, 0.0, -1.5),
    "Halvorsen": (-9.4, -9.4, -9.4),
    "Thomas": (0.0, 0.0, 0.0),
    "Aizawa": (0.0, 0.0, 1.943264),
}
SHRINKING = {
    "Chen": -10.0,
    "Halvorsen": -4.2,
    "Thomas": -5.55,
    "Chua": None,
    "Aizawa": None,
}


@pytest.mark.parametrize("name", list(REST))
def test_systems_rest_where_they_should_and_shrink_as_they_should(name):
    ode = chaos.SYSTEMS[name].ode
    rest = torch.tensor([REST[name]], dtype=torch.float64)
    assert float(ode.rhs(rest).abs().max()) < 1e-4  # what its coefficients or the root are rounded to
    u = torch.tensor([0.3, -0.7, 0.4], dtype=torch.float64)
    matrix = torch.autograd.functional.jacobian(lambda v: ode.rhs(v.unsqueeze(0))[0], u)
    if SHRINKING[name] is not None:
        assert float(matrix.trace()) == pytest.approx(SHRINKING[name], abs=1e-12)
    elif name == "Aizawa":
        x, y, z = u.tolist()
        exact = 2 * (z - 0.7) + 0.95 - z**2 - 0.25 * (x**2 + y**2) + 0.1 * x**3
        assert float(matrix.trace()) == pytest.approx(exact, abs=1e-12)
    else:
        assert float(matrix.trace()) == pytest.approx(-15.6 * (1 - 1.142857) - 1, abs=1e-9)


@pytest.mark.slow
def test_forecasts_of_lorenz_are_ranked(capsys):
    rows = chaos.measure(["Lorenz"], ["persistence", "AR(10)", "NVAR"], pieces=2)
    assert len(rows) == 6 and 0.6 < rows[0]["exponent"] < 1.2
    horizon = {
        m: max(r["periods"] for r in rows if r["method"] == m) for m in chaos.METHODS if m in str(rows)
    }
    assert horizon["persistence"] < 0.2 < horizon["AR(10)"] < 0.8 < horizon["NVAR"] <= 2
    text = chaos.table(rows)
    assert text.splitlines()[2].startswith("| Lorenz | ") and len(text.splitlines()) == 4
    again = [{**row, "system": "another"} for row in rows]
    assert chaos.likeness([*rows, *again]) == pytest.approx(1.0)


def test_the_mean_period_of_a_wave_is_its_period():
    t = torch.arange(4000, dtype=torch.float64) * 0.05
    wave = torch.stack([torch.sin(t * 2), torch.cos(t * 2)], dim=1)[None]
    assert chaos.mean_period(wave, 0.05) == pytest.approx(torch.pi, rel=0.02)


def _rows():
    """Two systems, three methods, four trajectories, and horizons that say where they belong."""
    horizon = {("one", "a"): 3.0, ("one", "b"): 1.0, ("one", "c"): 1.0}
    horizon |= {("two", "a"): 0.5, ("two", "b"): 0.2, ("two", "c"): 0.1}
    return [
        {
            **{"system": system, "method": method, "piece": piece, "period": 2.0, "exponent": 0.5},
            **{"periods": middle + 0.01 * extra, "lyapunov_times": middle + 0.01 * extra},
            **{"smape_times": middle, "smape": 100.0, "cpu_seconds": 0.1},
        }
        for (system, method), middle in horizon.items()
        for piece, extra in enumerate((-2.0, -1.0, 1.0, 5.0))
    ]


def test_the_table_is_kept_with_its_quartiles_and_ranks(tmp_path):
    rows = _rows()
    found = chaos.dataset(rows[::-1], noise=0.01)  # in no order
    assert found.sizes == {"system": 2, "forecaster": 3, "piece": 4, "quartile": 3}
    chaos.write(chaos.dataset(rows, noise=0.01), tmp_path / "sub" / "table.h5")
    with h5py.File(tmp_path / "sub" / "table.h5") as file:
        assert file["system"].asstr()[:].tolist() == ["one", "two"]
        assert file["rank"][:].tolist() == [[1.0, 2.5, 2.5], [1.0, 2.0, 3.0]]
        assert file["lyapunov_times"][0, 0].tolist() == pytest.approx([2.98, 2.99, 3.01, 3.05])
        # Of four numbers the quartiles lie a quarter, a half and three quarters of the way through three gaps.
        assert file["periods_quartiles"][:, 1, 0].tolist() == pytest.approx([0.4875, 0.5, 0.52])
        assert file.attrs["noise"] == 0.01
        assert file.attrs["likeness"] == pytest.approx(chaos.likeness(rows))
    pytest.importorskip("h5netcdf")
    import xarray as xr

    with xr.open_dataset(tmp_path / "sub" / "table.h5", engine="h5netcdf") as read:
        again = read.sel(system=found["system"], forecaster=found["forecaster"], piece=found["piece"])
        assert again.load().equals(found)
        assert read["lyapunov_times"].sel(system="two", forecaster="b").dims == ("piece",)
    text = chaos.summary(rows, found)
    assert "Mean rank: a 1.0, b 2.2, c 2.8." in text
    assert "| one | 2 | 0.5 | 3 (3-3) | 1 (0.99-1) | 1 (0.99-1) |" in text


def test_wrong_words_end_before_any_work(capsys, monkeypatch):
    monkeypatch.setattr(chaos, "measure", None)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    for words, message in (
        (["--out", "table.csv", "--methods", "mean"], "expected a name that ends in .h5"),
        (["--noise", "2", "--methods", "mean"], "--noise 2.0"),
        (["--ask", "1", "--methods", "mean"], "--ask 1"),
        ([], "sciml[forest]"),
    ):
        with pytest.raises(SystemExit) as stopped:
            chaos.main(words)
        assert stopped.value.code == 2 and message in capsys.readouterr().err


def test_a_short_training_finds_a_turning(monkeypatch):
    monkeypatch.setattr(chaos.TeacherForced, "updates", 200)
    t = 0.1 * torch.arange(500, dtype=torch.float64)
    wave = torch.stack([t.cos(), t.sin()], dim=1).unsqueeze(0) * 2**0.5
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = chaos.TeacherForced(2)
    model.fit(wave[:, :300], torch.Generator().manual_seed(0))
    error = (model.forecast(wave[:, :300], 20) - wave[:, 300:320]).square().sum(2).mean().sqrt()
    kept = (wave[:, 299:300] - wave[:, 300:320]).square().sum(2).mean().sqrt()
    assert float(error) < 0.2 * float(kept)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Lorenz", "Halvorsen", "Chen"])
def test_noise_shortens_what_the_good_methods_reach(name):
    found = chaos.record(chaos.SYSTEMS[name], pieces=3, asked=8)
    for method in ("NVAR", "reservoir"):
        clean, noisy = (
            statistics.median(chaos.scores(method, found, piece, noise)["periods"] for piece in range(3))
            for noise in (0.0, 0.01)
        )
        assert noisy < clean


@pytest.mark.slow
def test_mackey_glass_is_seen_at_ten_ages_of_its_history():
    found = chaos.record(chaos.SYSTEMS["Mackey-Glass"], pieces=2, asked=2)
    assert found.states.shape == (2, 1200, 10) and 40 < found.period < 55
    assert found.exponent == pytest.approx(0.0051, abs=0.002)
    # The oldest is the present one a delay of 17 before, up to the interpolation in time.
    now, oldest = found.states[0, :, 0].numpy(), found.states[0, :, -1].numpy()
    times = found.dt * torch.arange(1200, dtype=torch.float64).numpy()
    spline = CubicSpline(times, now)
    late = times > 17
    assert abs(oldest[late] - spline(times[late] - 17)).max() < 1e-4
    assert statistics.fmean(now) == pytest.approx(0.93, abs=0.05)
