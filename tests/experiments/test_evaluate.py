"""Scores, verdicts and files of an evaluation, on steps whose errors are known in closed form."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sciml import Field, FunctionStep, Grid, Mesh, Trajectory, rollout
from sciml.datasets import load_recipe
from sciml.errors import UserError
from sciml.experiments import judge
from sciml.experiments.baselines import (
    coarse_grid_solvers,
    nodal_interpolation,
    persistence_baseline,
    through,
    training_mean,
)
from sciml.experiments.contestants import Contestant, from_step
from sciml.experiments.evaluate import evaluate
from sciml.experiments.laboratory import add_laboratory
from sciml.experiments.pictures import add_pictures
from sciml.experiments.reference import from_trajectory
from sciml.experiments.report import figures
from sciml.experiments.report.rollout import compare, write_rollout_report
from sciml.experiments.storage import load, save, summary, tidy_rows

GRID = Grid((32,), (1.0,))
CHANNELS = ("u",)


def shift(u):
    return torch.roll(u, 2, dims=-1)


def step_of(function):
    return FunctionStep(function, 0.1, GRID, CHANNELS)


@pytest.fixture(scope="module")
def reference():
    x = GRID.coordinates()[0]
    phases = torch.linspace(0, 1, 4, dtype=torch.float64)
    u0 = torch.stack([torch.sin(2 * math.pi * (x + p)) for p in phases]).unsqueeze(1)
    return from_trajectory(Trajectory(rollout(shift, 20)(u0), GRID, 0.1 * torch.arange(21), (Field("u"),)))


def test_a_known_damping_gives_the_known_error(reference):
    damped = from_step("damped", step_of(lambda u: 0.9 * shift(u)), "surrogate", parameters=1)
    out = evaluate(
        [damped, persistence_baseline(damped.step), training_mean(torch.zeros(1))],
        reference,
        trained_steps=5,
    )
    lead = np.arange(1, 21)
    assert np.allclose(out.scores[0].values["nrmse"], (1 - 0.9**lead)[:, None], rtol=1e-5)
    assert np.allclose(out.scores[0].values["correlation"], 1.0, atol=1e-5)
    # After k steps of two cells the wave has turned by 4 pi k / 32; persistence is off by 2 |sin| of half of it.
    expected = 2 * np.abs(np.sin(2 * math.pi * lead / 32))
    assert np.allclose(out.scores[1].values["nrmse"][:, 0], expected, atol=1e-5)
    assert np.allclose(out.scores[2].values["nrmse"], 1.0, atol=1e-6)


def test_a_blow_up_is_a_result_and_spoils_no_median(reference):
    count = {"n": 0}

    def fails(u):
        count["n"] += 1
        v = shift(u).clone()
        if count["n"] >= 7:
            v[1] = torch.nan
        return v

    out = evaluate([from_step("fails", step_of(fails), "surrogate")], reference, trained_steps=5)
    assert out.scores[0].blow_up.tolist() == [21, 7, 21, 21]
    assert out.scores[0].median("nrmse")[-1] == pytest.approx(0.0, abs=1e-6)
    numbers = summary(out)
    assert numbers["table"][0]["blown_up"] == 0.25


def test_a_surrogate_that_is_lost_at_once_is_judged(reference, tmp_path):
    lost = from_step("lost", step_of(lambda u: torch.full_like(u, torch.nan)), "surrogate", parameters=1)
    out = evaluate([lost, persistence_baseline(lost.step)], reference, trained_steps=5)
    assert out.scores[0].blow_up.tolist() == [1, 1, 1, 1]
    save(out, tmp_path)
    (verdict,) = summary(load(tmp_path))["verdicts"]
    said = " ".join(f["sentence"] for f in verdict["findings"])
    assert "step 1" in said or "first step" in said, said


def test_the_verdict_names_the_cheapest_solver_that_is_as_exact(reference):
    def slow(u):
        for _ in range(300):
            torch.roll(u, 1, dims=-1)
        return shift(u)

    surrogate = from_step("surrogate", step_of(lambda u: 0.999 * slow(u)), "surrogate")
    exact = from_step("exact and quick", step_of(shift), "solver")
    dear = from_step("exact and slow", step_of(slow), "solver")
    poor = from_step("poor", step_of(lambda u: 0.5 * u), "solver")
    out = evaluate([surrogate, dear, poor, exact], reference, trained_steps=5)
    assert {v.solver for v in out.rivals} == {"exact and quick"}
    assert {v.lead for v in out.rivals} == {5, 20}
    assert all(v.cost_ratio > 1 for v in out.rivals)
    alone = evaluate([surrogate, poor], reference, trained_steps=5)
    assert all(v.solver is None for v in alone.rivals)


def test_a_solver_on_fewer_points_is_scored_on_the_data_points(reference):
    coarse = GRID.resized((16,))
    course = through(
        lambda u: torch.roll(u, 1, dims=-1),
        lambda u: u[..., ::2],
        lambda u: u.repeat_interleave(2, dim=-1),
    )
    half = Contestant("half", "solver", lambda samples: course)
    out = evaluate([half], reference, trained_steps=5)
    assert out.scores[0].values["nrmse"].shape == (20, 4)
    # Piecewise constant prolongation of a sine over two cells: the half-cell shift, constant in time.
    assert np.ptp(out.scores[0].values["nrmse"]) < 1e-5

    def build(pde, grid, dt, order=None, substeps=None):
        return FunctionStep(lambda u: torch.roll(u, grid.shape[0] // 16, dims=-1), dt, grid, CHANNELS)

    solvers = coarse_grid_solvers(
        lambda samples, grid: None, GRID, 0.1, factors=(1, 2, 3, 16), orders=(4,), build=build
    )
    assert [s.name for s in solvers] == ["solver order 4, 32", "solver order 4, 16"]
    exact = evaluate(solvers, reference, trained_steps=5)
    # One sine is resolved by 16 points: the spectral carry costs rounding only.
    assert all(s.values["nrmse"].max() < 1e-6 for s in exact.scores)
    assert coarse.shape == (16,)


def test_a_solver_takes_part_at_every_resolution():
    """One step per frame where that is stable, the data's own steps elsewhere, its own solver between sides."""
    made = []

    def build(pde, grid, dt, order=None, substeps=None):
        if grid.shape[0] > 16 and substeps == 1:
            raise UserError("one step would blow up")
        made.append(("build", pde, grid.shape[0], order))
        return FunctionStep(lambda u: u, dt, grid, CHANNELS)

    def own(pde, grid, dt):
        made.append(("own", pde, grid.shape[0], None))
        return lambda u: u

    def names(grid, **more):
        made.clear()
        equation = lambda samples, points: points.shape[0]  # noqa: E731
        return [
            s.name
            for s in coarse_grid_solvers(
                equation, grid, 0.1, factors=(1, 2), orders=(4,), build=build, **more
            )
        ]

    assert names(GRID, own=own) == ["solver 32", "solver order 4, 16"]
    assert made == [("own", 32, 32, None), ("build", 16, 16, 4)]
    assert names(GRID) == ["solver 32", "solver order 4, 16"]
    walls = Grid((32,), (1.0,), boundary="wall", centering="cell")
    assert names(walls, own=own) == ["solver 32", "solver 16"]
    assert [kind for kind, *_ in made] == ["own", "own"]


def test_a_resolution_without_a_solver_is_told():
    walls = Grid((32,), (1.0,), boundary="wall", centering="cell")

    def own(pde, grid, dt):
        if grid.shape[0] < 32:
            raise UserError("16 points are too few.")
        return lambda u: u

    said: list[str] = []
    found = coarse_grid_solvers(
        lambda samples, grid: None, walls, 0.1, factors=(1, 2), own=own, say=said.append
    )
    assert [s.name for s in found] == ["solver 32"]
    assert said == ["No classical solver on 16 points takes part: 16 points are too few."]


@pytest.mark.parametrize(("name", "one_step"), [("traffic_jam", False), ("cylinder", True)])
def test_solvers_on_meshes_take_one_step_only_where_it_is_implicit(name, one_step):
    recipe = load_recipe(name)
    mesh = recipe.domain_at(1)
    field = SimpleNamespace(
        dataset=SimpleNamespace(recipe=recipe),
        study=SimpleNamespace(evaluation=SimpleNamespace(solvers=(1, 4))),
        reference=SimpleNamespace(domain=mesh, dt=recipe.dt),
        equation=lambda samples, domain=None: recipe.equation(domain=domain),
    )
    found = judge.solvers(field, print)
    assert len(found) == 2 and found[0].name == f"solver {mesh.shape[0]} nodes"
    _, u = recipe.draw("test", 0, mesh, len(recipe.equation(domain=mesh).channels(2)))
    for contestant in found:
        course = contestant.course(slice(0, 1))
        state = course.show(course.advance(course.begin(u[None].double())))
        assert state.shape == (1, *u.shape) and bool(torch.isfinite(state).all())
    assert (found[0].course(slice(0, 1)).advance.substeps == 1) == one_step


def test_what_is_saved_is_read_again_and_reported(reference, tmp_path):
    damped = from_step("damped", step_of(lambda u: 0.9 * shift(u)), "surrogate", parameters=7)
    solver = from_step("solver", step_of(shift), "solver")
    out = evaluate([damped, solver], reference, trained_steps=5, floor=np.full(21, 1e-6))
    add_pictures(out, [damped], reference)
    add_laboratory(out, [damped], reference, solver=solver.step, states=3)
    # A shift is orthogonal, so the damped one has all singular values 0.9.
    assert np.allclose(out.laboratory["damped"]["spectral_norm"], 0.9, atol=1e-6)
    assert np.allclose(out.laboratory["damped"]["frobenius"], 0.9, atol=1e-6)
    save(out, tmp_path)
    again = load(tmp_path)
    assert again.scores[0].parameters == 7
    assert np.array_equal(again.scores[0].values["nrmse"], out.scores[0].values["nrmse"])
    assert set(again.pictures) == {"best", "median", "worst"}
    rows = list(tidy_rows(again))
    lines = (tmp_path / "metrics.csv").read_text().splitlines()
    assert lines[0] == "step,seed,sample,lead_step,lead_time,metric,value" and len(lines) == len(rows) + 1
    table = json.loads((tmp_path / "summary.json").read_text())["table"]
    assert table[0]["nrmse_1"] == pytest.approx(0.1, rel=1e-5)
    page = write_rollout_report(
        tmp_path, domain=GRID, title="Try <this>", references={"damped": {1: 0.1, 10: 0.5}}
    ).read_text()
    assert "Try &lt;this&gt;" in page and page.count("data:image/png;base64,") == len(
        list((tmp_path / "figures").glob("*.png"))
    )
    assert 'src="http' not in page and 'href="http' not in page
    assert compare([tmp_path, tmp_path], tmp_path / "both.html").stat().st_size > 10_000
    assert not list(tmp_path.glob(".*.part"))


@pytest.mark.parametrize("count", [1, 3, 16])
def test_exponents_are_numbered_in_whole_numbers(reference, count):
    damped = from_step("damped", step_of(lambda u: 0.9 * shift(u)), "surrogate")
    out = evaluate([damped], reference, trained_steps=5)
    add_laboratory(out, [damped], reference, states=2)
    entry = out.laboratory["damped"]
    entry["exponents"] = -np.arange(1.0, count + 1)
    entry["exponents_error"] = np.full(count, 0.1)
    ticks = figures.growth(out).axes[-1].get_xticks()
    assert ticks[0] == 1 and ticks[-1] <= count and all(float(t).is_integer() for t in ticks)
    assert len(ticks) == min(count, 8)


def test_damaged_or_missing_evaluations_are_told(reference, tmp_path):
    with pytest.raises(UserError, match="sciml evaluate"):
        load(tmp_path)
    (tmp_path / "evaluation.npz").write_bytes(b"PK\x03\x04 not an archive")
    with pytest.raises(UserError, match="damaged"):
        load(tmp_path)


def test_data_with_nan_are_refused(reference):
    data = reference.frames(slice(None), 0, 21).clone()
    data[0, 3, 0, 5] = torch.nan
    broken = from_trajectory(Trajectory(data, GRID, 0.1 * torch.arange(21), reference.fields))
    with pytest.raises(UserError, match="NaN"):
        evaluate([from_step("s", step_of(shift), "solver")], broken, trained_steps=5)


def test_nodal_interpolation_is_exact_for_linear_fields():
    def square(n):
        x, y = torch.meshgrid(*[torch.linspace(0, 1, n, dtype=torch.float64)] * 2, indexing="ij")
        index = torch.arange(n * n).reshape(n, n)
        a, b, c, d = index[:-1, :-1], index[1:, :-1], index[:-1, 1:], index[1:, 1:]
        cells = torch.cat([torch.stack(t, -1).reshape(-1, 3) for t in ((a, b, d), (a, d, c))])
        return Mesh(torch.stack([x.flatten(), y.flatten()], -1), cells)

    source, target = square(5), square(8)

    def linear(m):
        return 2 * m.points[:, 0] - 3 * m.points[:, 1] + 1

    assert torch.allclose(nodal_interpolation(source, target) @ linear(source), linear(target), atol=1e-12)
