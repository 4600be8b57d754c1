from __future__ import annotations

from dataclasses import replace

import pytest
import torch

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
