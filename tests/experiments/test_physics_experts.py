"""The study of equations inside networks, at the smallest size."""

from __future__ import annotations

import csv

import pytest
import torch

from sciml.experiments.papers import physics_experts as paper


def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(paper.PROBLEMS, "sorption", lambda: paper.sorption(refinement=1, substeps=1))


@pytest.mark.slow
def test_runs_goes_on_and_refuses(tmp_path, capsys, monkeypatch):
    small(monkeypatch)
    out = tmp_path / "out"
    words = [
        "--out",
        str(out),
        "--updates",
        "1",
        "--batch",
        "1",
        "--train",
        "4",
        "--test",
        "2",
        "--seeds",
        "0",
    ]
    assert paper.main([*words, "--ways", "soft", "experts"]) == 0
    with open(out / "rows.csv") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["way"] for row in rows] == ["soft", "experts"]
    assert float(rows[1]["converged"]) > 0.5 and rows[0]["converged"] == ""
    assert {path.name for path in out.glob("*.png")} == {"errors.png", "solution.png"}
    text = (out / "table.md").read_text()
    assert "| interpolation |" in text and "| experts |" in capsys.readouterr().out
    assert paper.main(words) == 2 and "complete result" in capsys.readouterr().err
    (out / "table.md").unlink()
    assert paper.main([*words, "--ways", "soft", "experts"]) == 0  # nothing is trained again
    assert (out / "table.md").read_text() == text
    (out / "table.md").unlink()
    assert paper.main([*words, "--batch", "2"]) == 2 and "other settings" in capsys.readouterr().err


def test_interpolation_is_exact_for_what_is_linear():
    generator = torch.Generator().manual_seed(0)
    known, asked = (torch.rand(n, 2, generator=generator, dtype=torch.float64) for n in (30, 5))
    asked = 0.3 + 0.3 * asked
    field = lambda p: (p[:, :1] * 2 - p[:, 1:])[..., None] * torch.ones(3, 4).double()  # noqa: E731
    found = paper.interpolated(known, field(known)[:, :, None], asked)
    assert torch.allclose(found, field(asked)[:, :, None], atol=1e-12)


@pytest.mark.slow
def test_a_search_beats_a_penalty_after_few_updates(tmp_path):
    """Neither has seen a solution: 0.16 against 0.77 on held-out starts when this was written."""
    out = tmp_path / "out"
    words = ["--out", str(out), "--ways", "soft", "one", "--seeds", "0", "--updates", "60"]
    assert paper.main(words) == 0
    with open(out / "rows.csv") as stream:
        rows = {row["way"]: row for row in csv.DictReader(stream)}
    assert float(rows["one"]["error"]) < 0.5 * float(rows["soft"]["error"])
    assert float(rows["one"]["converged"]) == 1.0
