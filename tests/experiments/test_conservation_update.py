"""The study of conservation by conditioning, at the smallest size: its exact solutions, its scores, its files."""

from __future__ import annotations

import base64
import csv
from dataclasses import replace

import pytest
import torch

from sciml.constraints.gaussian import Gaussian
from sciml.experiments.papers import conservation_update
from sciml.experiments.papers.conservation_update import (
    GRID,
    PROBLEMS,
    WAYS,
    WEIGHTS,
    beliefs,
    draw,
    draw_ratios,
    front,
    main,
)
from sciml.models.processes import AttentiveProcess


@pytest.mark.parametrize("name", list(PROBLEMS))
def test_exact_mass_is_the_integral_of_the_exact_solution(name):
    problem = PROBLEMS[name]
    fine = torch.linspace(0, 1, 20_001, dtype=torch.float64)
    for parameter in problem.tests:
        u = problem.exact(parameter, torch.full_like(fine, problem.at), fine)
        integral = float(torch.trapezoid(u, fine))
        assert problem.mass(parameter, problem.at) == pytest.approx(integral, abs=3e-5)


def test_front_is_the_first_empty_point():
    u = torch.zeros(2, len(GRID))
    u[0, :40] = 1.0
    u[1] = 1.0
    assert front(u).tolist() == [float(GRID[40]), 1.0]
    assert front(u * torch.linspace(2, 0, len(GRID)), 1.0).tolist() == [float(GRID[40]), float(GRID[100])]
    assert float(WEIGHTS.sum()) == pytest.approx(1.0)


def test_active_dropout_draws_other_networks():
    model = AttentiveProcess(2, width=8, heads=2, dropout=0.5)
    with torch.no_grad():
        model.decoder[0].weight[:, 8:16] = 0.0  # deaf to the latent variable
    at_rest, active = (
        beliefs(model.train(mode), PROBLEMS["stefan"], 0.6, 2, 0)[1] for mode in (False, True)
    )
    assert at_rest.mean.shape == active.mean.shape == (20, len(GRID))
    assert float(at_rest.mean.std(dim=0).max()) < 1e-6 < float(active.mean.std(dim=0).min())


def test_a_picture_for_each_test(tmp_path):
    belief = Gaussian(torch.zeros(len(GRID)), torch.full((len(GRID),), 0.1))
    draw("stefan 0.6, process, seed 0", torch.zeros(len(GRID)), {"none": belief}, tmp_path)
    assert (tmp_path / "stefan-0.6-process-seed-0.png").stat().st_size > 1000
    rows = [
        {"problem": "stefan", "parameter": 0.6, "model": "process", "way": way, "seed": 0, "MSE": 0.1}
        for way in WAYS
    ]
    draw_ratios(rows, tmp_path)
    assert (tmp_path / "ratios.png").stat().st_size > 1000


def test_runs_goes_on_and_refuses_to_overwrite(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(PROBLEMS, "stefan", replace(PROBLEMS["stefan"], tests=(0.6,)))
    drawn: list[object] = []
    monkeypatch.setattr(conservation_update, "draw", lambda title, *rest: drawn.append(title))

    def ratios(rows, out):
        drawn.append(len(rows))
        (out / "ratios.png").write_bytes(b"all seeds")

    monkeypatch.setattr(conservation_update, "draw_ratios", ratios)
    words = ["--problems", "stefan", "--updates", "3", "--functions", "8", "--tests", "1"]
    words += ["--out", str(tmp_path / "out")]
    assert main([*words, "--seeds", "0", "--models", "process", "--dropout", "0.1"]) == 0
    first = (tmp_path / "out" / "rows.csv").read_text()
    with pytest.raises(SystemExit, match="2"):
        main([*words, "--seeds", "0"])
    assert "rows.csv exists; give --resume" in capsys.readouterr().err
    assert main([*words, "--seeds", "0", "1", "--models", "gaussian", "--resume"]) == 0
    second = (tmp_path / "out" / "rows.csv").read_text()
    assert second.startswith(first)
    with open(tmp_path / "out" / "rows.csv") as stream:
        rows = list(csv.DictReader(stream))
    assert {(r["model"], r["way"]) for r in rows} == {
        (m, w) for m in ("process", "dropout", "gaussian") for w in WAYS
    }
    assert len(rows) == len(WAYS) * (2 + 2)
    for row in rows:
        assert (abs(float(row["|mass error|"])) < 1e-12) == (row["way"] not in ("none", "noisy"))
    assert [d for d in drawn if isinstance(d, str)] == [
        f"stefan 0.6, {m}, seed 0" for m in ("process", "dropout", "gaussian")
    ]
    assert [d for d in drawn if isinstance(d, int)] == [2 * len(WAYS), 4 * len(WAYS)]
    assert "| stefan 0.6 | process | conditioned |" in (tmp_path / "out" / "table.md").read_text()
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<td>conditioned</td>" in page and base64.b64encode(b"all seeds").decode() in page
