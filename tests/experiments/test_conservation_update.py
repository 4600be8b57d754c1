"""The study of conservation by conditioning, at the smallest size: its exact solutions, its scores, its files."""

from __future__ import annotations

import csv

import pytest
import torch

from sciml.experiments.papers.conservation_update import GRID, PROBLEMS, WAYS, WEIGHTS, front, main


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
    assert float(WEIGHTS.sum()) == pytest.approx(1.0)


def test_runs_and_keeps_rows_and_pictures(tmp_path, capsys):
    words = ["--problems", "stefan", "--seeds", "0", "--updates", "3", "--functions", "8", "--tests", "2"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    with open(tmp_path / "out" / "rows.csv") as stream:
        rows = list(csv.DictReader(stream))
    assert {(r["model"], r["way"]) for r in rows} == {(m, w) for m in ("process", "gaussian") for w in WAYS}
    for row in rows:
        held = row["way"] != "none"
        assert (abs(float(row["|mass error|"])) < 1e-12) == held
    assert len(list((tmp_path / "out").glob("*.png"))) == 2
    assert "| stefan 0.6 | process | conditioned |" in capsys.readouterr().out
