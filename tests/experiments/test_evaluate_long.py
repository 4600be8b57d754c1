"""Rollouts longer than the stored truth: constant memory, going on after a kill, systems without space, own metrics."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch

from sciml import Field, FunctionStep, Grid, Trajectory, rollout
from sciml.domains import Point
from sciml.errors import UserError
from sciml.experiments.contestants import Course, from_step
from sciml.experiments.evaluate import Diary, evaluate, first_crossing
from sciml.experiments.plan import EARLY, Plan
from sciml.experiments.reference import from_trajectory
from sciml.experiments.storage import load, save, summary, tidy_rows
from sciml.experiments.user_metrics import load_metrics
from sciml.experiments.verdict import verdicts
from sciml.odes import Lorenz63
from sciml.solvers import build

GRID = Grid((16,), (1.0,))


def shift(u):
    return torch.roll(u, 1, dims=-1)


def step_of(function):
    return FunctionStep(function, 0.1, GRID, ("u",))


def waves(samples=5, frames=4):
    x = GRID.coordinates()[0]
    phases = torch.linspace(0, 0.9, samples, dtype=torch.float64)
    u0 = torch.stack([torch.sin(2 * math.pi * (x + p)) for p in phases]).unsqueeze(1)
    return Trajectory(rollout(shift, frames)(u0), GRID, 0.1 * torch.arange(frames + 1), (Field("u"),))


def same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert np.array_equal(a[name], b[name], equal_nan=True), name


def test_a_long_plan_looks_at_few_steps_and_at_the_ends():
    plan = Plan(10_000, 50, 10_000)
    assert len(plan.leads) < 400
    assert {1, 50, EARLY, 10_000} <= set(plan.leads.tolist())
    assert np.all(np.diff(plan.leads)[EARLY:] <= 0.021 * plan.leads[EARLY:-1] + 1)
    blocks = [plan.block(k) for k in range(1, 10_001)]
    counted = [b for b in blocks if b is not None]
    assert blocks[:2000] == [None] * 2000 and min(counted) == 0 and max(counted) == 7
    assert 900 <= len(counted) <= 1100 and np.ptp(np.bincount(counted)) <= 1
    # What is known to a certain step is looked at where the whole is looked at.
    known = Plan(3000, 50, 3000)
    assert set(known.leads) - {3000, 1500} <= set(plan.leads)


def test_truth_goes_on_with_the_solver_and_without_one_only_statistics_do():
    true = waves()
    exact = from_step("exact", step_of(shift), "surrogate")
    onward = Course(lambda u: shift(u), lambda u: u.double(), lambda u: u)
    out = evaluate([exact], from_trajectory(true, lambda s: onward), steps=40, trained_steps=4)
    assert (out.known, out.stored, out.steps) == (40, 4, 40)
    assert out.scores[0].values["nrmse"].shape == (40, 5) and out.scores[0].values["nrmse"].max() < 1e-12
    alone = evaluate([exact], from_trajectory(true), steps=40, trained_steps=4)
    assert alone.known == 4 and alone.scores[0].values["nrmse"].shape == (4, 5)
    assert alone.scores[0].blow_up.tolist() == [41] * 5
    assert (
        alone.scores[0].statistics["count"].sum() == 5 * 32
        and alone.reference.statistics["count"].sum() == 5 * 4
    )
    numbers = summary(alone)
    sentences = " ".join(f["sentence"] for f in numbers["verdicts"][0]["findings"])
    assert "no truth to compare with" in sentences and "at least t = 0.4" in sentences


def test_parts_of_the_samples_give_the_numbers_of_the_whole():
    true = waves(samples=6, frames=30)
    damped = from_step("damped", step_of(lambda u: 0.99 * shift(u)), "surrogate")
    kept = [evaluate([damped], from_trajectory(true), trained_steps=4, chunk=n) for n in (6, 4, 1)]
    for other in kept[1:]:
        same(kept[0].scores[0].values, other.scores[0].values)
        for name in ("count", "histogram", "moments", "spectrum"):
            assert np.allclose(
                kept[0].scores[0].statistics[name], other.scores[0].statistics[name], rtol=1e-12
            )
        assert np.allclose(kept[0].scores[0].statistics["fields"], other.scores[0].statistics["fields"])


def test_what_is_kept_does_not_grow_with_the_length():
    def kept(steps):
        out = evaluate(
            [from_step("s", step_of(shift), "surrogate")],
            from_trajectory(waves(), lambda s: Course(shift)),
            steps=steps,
            trained_steps=4,
        )
        scores = out.scores[0]
        return sum(v.nbytes for v in (*scores.values.values(), *scores.statistics.values()))

    short, long = kept(1010), kept(2020)
    assert long < 1.2 * short  # a few more rows of curves, two percent apart


class Killed(Exception):
    pass


@pytest.mark.parametrize("stop", [7, 50, 63])
def test_a_stopped_evaluation_goes_on_with_the_same_numbers(tmp_path, stop):
    true = waves(samples=5, frames=6)
    noisy = from_step("chaotic", step_of(lambda u: 3.9 * u.abs() * (1 - u.abs())), "surrogate")
    damped = from_step("damped", step_of(lambda u: 0.9 * shift(u)), "surrogate")
    reference = from_trajectory(true, lambda s: Course(shift))

    def run(diary, until=None):
        def progress(done, total, note):
            if done == until:
                raise Killed

        return evaluate(
            [noisy, damped], reference, steps=25, trained_steps=4, chunk=2, diary=diary, progress=progress
        )

    whole = run(None)
    path = tmp_path / "evaluation.partial"
    with pytest.raises(Killed):
        run(Diary(path, "same", every=0.0), until=stop)
    assert path.is_file()
    calls = []
    again = evaluate(
        [noisy, damped],
        reference,
        steps=25,
        trained_steps=4,
        chunk=2,
        diary=Diary(path, "same", every=0.0),
        progress=lambda done, total, note: calls.append(done),
    )
    assert calls[0] == stop  # the step under way was lost, nothing before
    for a, b in zip([*whole.scores, whole.reference], [*again.scores, again.reference], strict=True):
        same(a.values, b.values)
        same(a.statistics, b.statistics)
        assert a.blow_up.tolist() == b.blow_up.tolist()
    other = Diary(path, "another study", every=1e9)
    assert other.read() == {}


@pytest.mark.slow
def test_killing_the_process_loses_nothing(tmp_path):
    script = tmp_path / "roll.py"
    script.write_text(
        textwrap.dedent(
            """
            import sys, time, torch
            from pathlib import Path
            from sciml import Field, FunctionStep, Grid, Trajectory, rollout
            from sciml.experiments.contestants import Course, from_step
            from sciml.experiments.evaluate import Diary, evaluate
            from sciml.experiments.reference import from_trajectory
            from sciml.experiments.storage import save
            torch.set_num_threads(1)
            grid = Grid((16,), (1.0,))
            u0 = torch.randn(3, 1, 16, generator=torch.Generator().manual_seed(0))
            shift = lambda u: torch.roll(u, 1, dims=-1)
            true = Trajectory(rollout(shift, 3)(u0), grid, torch.arange(4.0), (Field("u"),))
            slow = float(sys.argv[2])
            def model(u):
                time.sleep(slow)
                return shift(u) * 0.999
            out = evaluate(
                [from_step("s", FunctionStep(model, 1.0, grid, ("u",)), "surrogate")],
                from_trajectory(true, lambda s: Course(shift)), steps=120, trained_steps=3, chunk=2,
                diary=Diary(Path(sys.argv[1]) / "partial", "x", every=0.0),
                progress=lambda done, total, note: print(done, flush=True),
            )
            out.scores[0].cost, out.rivals = 0.0, []
            save(out, Path(sys.argv[1]))
            """
        )
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def start(folder, slow):
        folder.mkdir(exist_ok=True)
        words = [sys.executable, str(script), str(folder), str(slow)]
        return subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment)

    killed = start(tmp_path / "killed", 0.02)
    for line in killed.stdout:
        if int(line) >= 150:  # in the second part of the samples
            break
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not (tmp_path / "killed" / "summary.json").exists()
    again = start(tmp_path / "killed", 0.0)
    first = int(again.stdout.readline())
    assert again.wait() == 0 and first >= 150
    whole = start(tmp_path / "whole", 0.0)
    whole.communicate()
    one, two = load(tmp_path / "killed"), load(tmp_path / "whole")
    same(one.scores[0].values, two.scores[0].values)
    assert (tmp_path / "killed" / "metrics.csv").read_text() == (
        tmp_path / "whole" / "metrics.csv"
    ).read_text()


def test_a_metric_of_ones_own_is_streamed_into_the_table(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "def largest(pred, ref):\n"
        "    return (pred - ref).abs().flatten(3).amax(3)\n\n"
        "def gap(pred, ref):\n"
        "    return (pred - ref).flatten(2).mean(2).abs()\n\n"
        "def wrong(pred, ref):\n    return pred\n\n"
        "def nrmse(pred, ref):\n    return pred\n"
    )
    metrics = load_metrics([f"{file}:largest", f"{file}:gap"])
    true = waves(frames=12)
    damped = from_step("damped", step_of(lambda u: 0.9 * shift(u)), "surrogate")
    out = evaluate([damped], from_trajectory(true), trained_steps=4, metrics=metrics)
    pred = rollout(damped.step, 12)(true.data[:, 0])[:, 1:]
    direct = metrics["largest"](pred, true.data[:, 1:])[:, :, 0].T
    assert np.allclose(out.scores[0].values["largest"], direct, rtol=1e-6)
    assert out.scores[0].values["gap"].shape == (12, 5)
    rows = {row[5] for row in tidy_rows(out)}
    assert {"largest", "gap", "nrmse"} <= rows
    save(out, tmp_path)
    assert load(tmp_path).own == ("largest", "gap")
    assert summary(out)["table"][0]["largest_last"] == pytest.approx(float(np.median(direct[-1])), rel=1e-6)
    with pytest.raises(UserError, match=r"expected \(B, T, C\)"):
        evaluate([damped], from_trajectory(true), trained_steps=4, metrics=load_metrics([f"{file}:wrong"]))
    for path, words in (
        (f"{file}:nrmse", "rename"),
        (f"{file}:larges", "did you mean largest"),
        ("nowhere.py:f", "no file"),
        ("no_such_module.f", "no module"),
        ("plain", "neither"),
    ):
        with pytest.raises(UserError, match=words):
            load_metrics([path])


def test_first_crossing_is_linear_between_steps_that_were_looked_at():
    leads = np.array([1, 2, 10])
    values = np.array([[0.1, 0.5, 0.0, np.nan], [0.2, 0.5, 0.0, 1.0], [1.0, 0.5, 0.1, 1.0]])
    assert first_crossing(values, leads, 0.4).tolist() == pytest.approx([2 + 8 * 0.25, 0.8, math.inf, 0.0])


@pytest.fixture(scope="module")
def lorenz():
    ode = Lorenz63()
    step = build(ode, Point(), dt=0.02, substeps=4)
    u0 = ode.initial(6, torch.Generator().manual_seed(3))
    with torch.no_grad():
        for _ in range(500):
            u0 = step(u0)
    data = rollout(step, 20)(u0).float()
    truth = Trajectory(data, Point(), 0.02 * torch.arange(21), ode.fields)
    reference = from_trajectory(truth, lambda s: Course(step, lambda u: u.double(), lambda u: u.float()))
    wrapped = FunctionStep(step, 0.02, Point(), ode.channels())

    def turn(u):
        planar = torch.stack([-u[:, 1], u[:, 0], 0 * u[:, 2]], dim=1)
        return u + 0.05 * planar / u[:, :2].norm(dim=1, keepdim=True)

    def rounded(u):
        return step(u.double()).float()

    models = {"perfect": rounded, "circle": turn}
    perfect, circle = (
        from_step(name, FunctionStep(model, 0.02, Point(), ode.channels()), "surrogate")
        for name, model in models.items()
    )
    out = evaluate([perfect, circle], reference, steps=1500, trained_steps=500)
    return out, wrapped, reference, circle


def test_chaos_without_space_has_statistics_of_its_own(lorenz):
    out = lorenz[0]
    out.laboratory["reference solver"] = {
        "exponents": np.array([0.9, 0.0, -14.6]),
        "exponents_error": np.array([0.1, 0.1, 0.1]),
    }
    perfect, circle = verdicts(out)
    by_name = {c.name: c for c in perfect.comparisons}
    assert set(by_name) == {"distribution", "D_stsp", "D_H"}
    # The perfect model leaves the truth by rounding, and is then as far from it as the truth is from itself.
    assert all(c.faithful for c in perfect.comparisons)
    assert all(0.5 < c.value / c.floor < 2 for c in perfect.comparisons)
    assert perfect.of("statistics")[0].good and perfect.of("stability")[0].good
    wrong = {c.name: c for c in circle.comparisons}
    assert not circle.of("statistics")[0].good and wrong["D_stsp"].value > 3 * wrong["D_stsp"].floor
    numbers = perfect.of("valid until")[0].numbers
    # Rounding of 6e-8 grows by e in 1.1 units of time: about 16 Lyapunov times to 0.4 of the attractor.
    assert 8 < numbers["prediction_lyapunov_times"] < 22
    assert "Lyapunov times of the reference" in perfect.of("valid until")[0].sentence
    assert "correlation" not in out.scores[0].values


def test_states_without_space_are_saved_and_reported(lorenz, tmp_path, monkeypatch):
    from sciml.experiments import laboratory
    from sciml.experiments.pictures import add_pictures
    from sciml.experiments.report.rollout import write_rollout_report

    out, solver, reference, circle = lorenz
    add_pictures(out, [circle], reference)
    monkeypatch.setattr(laboratory, "SOLVER_PATH", 600)
    monkeypatch.setattr(laboratory, "NETWORK_PATH", 20)
    laboratory.add_laboratory(out, [circle], reference, solver=solver, states=3)
    exponents = out.laboratory["reference solver"]["exponents"]
    assert exponents[0] == pytest.approx(0.906, abs=0.1) and exponents.sum() == pytest.approx(
        -13.667, abs=0.1
    )
    save(out, tmp_path)
    page = write_rollout_report(tmp_path, domain=Point(), title="Lorenz").read_text()
    assert "D_stsp" in page and (tmp_path / "figures" / "worst.png").exists()


def test_a_bundle_of_states_is_taken_apart():
    class Two:
        dt, domain, channels, bundle = 0.1, GRID, ("u",), 2

        def __init__(self):
            self.calls = 0

        def __call__(self, u):
            return shift(u)

        def ahead(self, u):
            self.calls += 1
            return torch.stack([shift(u), shift(shift(u))], dim=1)

    model = Two()
    out = evaluate(
        [from_step("two", model, "surrogate")], from_trajectory(waves(frames=10)), trained_steps=4
    )
    assert out.scores[0].values["nrmse"].max() < 1e-12
    assert model.calls >= 5
