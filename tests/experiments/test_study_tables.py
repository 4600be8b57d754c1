"""Tables, comparisons, pictures and page of a study, from scores that are made up."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from sciml.errors import UserError
from sciml.experiments.report.leaderboard import write_leaderboard
from sciml.experiments.run import RunFolder
from sciml.experiments.study import figures, tables
from sciml.experiments.study.conduct import Failure, Run
from sciml.experiments.study.plan import read_plan
from sciml.experiments.study.results import Row, comparisons, groups_of, stability

AXES = {
    "dataset": {"left": "advection", "right": "burgers"},
    "objective": {"one": "OneStep", "k2": {"class_path": "Unrolled", "init_args": {"steps": 2}}},
    "regularizer": {"none": None, "flat": "Frobenius"},
}
TREE = {
    "name": "made-up",
    "title": "Made up & not run",
    "data": {"samples": {"train": 2, "valid": 0, "test": 2}},
    "model": "ConvNet",
    "axes": AXES,
    "seeds": [3, 5],
    "baseline": {"regularizer": "none"},
    "comparison": {"leads": ["trained", "last", 2]},
}
STEPS, DT, LEADS = 10, 0.5, (1, 2, 5, 10)


@pytest.fixture
def made(tmp_path):
    def make(factor, failed=(), blown=(), tree=TREE):
        """Rows whose error at step k is k/100 times a factor by cell, with some seeds failed or blown up at step 6."""
        file = tmp_path / "m.yaml"
        file.write_text(yaml.safe_dump(tree, sort_keys=False))
        plan, rows = read_plan(str(file)), []
        for cell in plan.cells:
            run = Run(cell, RunFolder(tmp_path / cell.label), data=Path("/data", cell.choice["dataset"]))
            lines = []
            for seed in cell.study.seeds:
                if (cell.label, seed) in failed:
                    (name,) = cell.study.variants
                    run.failures.append(Failure(cell.label, "training", "loss <became> nan", name, seed))
                    continue
                for sample in (0, 1, 2):
                    dies = (cell.label, seed, sample) in blown
                    for lead in LEADS:
                        error = np.inf if dies and lead >= 6 else 0.01 * lead * factor(cell, seed, sample)
                        lines.append(("x", seed, sample, lead, DT * lead, "nrmse", error))
                    end = 6 if dies else STEPS + 1
                    lines.append(("x", seed, sample, end, DT * end, "blow_up_step", end))
            columns = ["step", "seed", "sample", "lead_step", "lead_time", "metric", "value"]
            spent = {
                s: {"updates": 7, "seconds": 2.0, "cpu_seconds": 1.0, "peak_memory": 2**30} for s in (3, 5)
            }
            numbers = {"steps": STEPS, "dt": DT, "trained_steps": 5}
            (name,) = cell.study.variants
            rows.append(Row(run, name, cell.choice, pd.DataFrame(lines, columns=columns), numbers, spent))
        return plan, rows

    return make


def half_with_penalty(cell, seed, sample):
    return (1 + seed + sample) * (0.5 if cell.choice["regularizer"] == "flat" else 1.0)


def label(dataset, objective, regularizer):
    return f"dataset={dataset}_objective={objective}_regularizer={regularizer}"


def test_rows_meet_their_own_baseline_on_their_own_data(made):
    plan, rows = made(half_with_penalty)
    groups = groups_of(plan, rows)
    assert [g.name for g in groups] == ["left", "right"] and [len(g.rows) for g in groups] == [4, 4]
    found = comparisons(plan, groups)
    assert len(found) == 2 * 3 * 6  # groups, lead times, pairs
    against = [a for a in found if a.baseline]
    assert len(against) == 2 * 3 * 2
    for a in against:
        assert a.row.choice == {**a.other.choice, "regularizer": "flat"}
        assert a.found.ratio.value == pytest.approx(0.5) and a.found.ratio.decided == -1
    others = [
        a for a in found if not a.baseline and a.row.choice["regularizer"] == a.other.choice["regularizer"]
    ]
    assert others and all(a.found.ratio.value == pytest.approx(1.0) for a in others)
    assert all(a.row.choice["dataset"] == a.other.choice["dataset"] for a in found)


def test_lead_times_are_the_steps_that_they_name(made):
    plan, rows = made(lambda cell, seed, sample: 1.0)
    row = rows[0]
    for lead, error in (("trained", 0.05), ("last", 0.1), (2, 0.02), (4, 0.02)):
        assert row.values("nrmse", lead, [0, 1, 2], 10.0) == pytest.approx(np.full((2, 3), error))
    mean = np.exp(np.mean(np.log([0.01, 0.02, 0.05, 0.1])))
    assert row.values("nrmse", "mean", [0, 1, 2], 10.0) == pytest.approx(np.full((2, 3), mean))
    for lead, message in ((11, "known from 1 to 10"), ("end", "expected lead steps, 'trained'")):
        with pytest.raises(UserError, match=message):
            row.values("nrmse", lead, [0], 10.0)
    plan, rows = made(lambda cell, seed, sample: 1.0, tree={**TREE, "comparison": {"metric": "vrmse"}})
    with pytest.raises(UserError, match="metric is 'vrmse'.*expected one of blow_up_step, nrmse"):
        groups_of(plan, rows)


def test_what_fails_and_blows_up_is_counted(made):
    bad, shaky = label("left", "k2", "flat"), label("left", "one", "flat")
    plan, rows = made(lambda *_: 1.0, failed={(bad, 5)}, blown={(shaky, 3, 1), (shaky, 5, 1)})
    (group, _) = groups_of(plan, rows)
    by = {row.run.cell.label: row for row in rows}
    share = stability(by[bad], group.samples, 0.95)
    assert share.value == 0.5 and share.low == pytest.approx(0.1876, abs=1e-4)  # Wilson, 3 of 6
    assert stability(by[shaky], group.samples, 0.95).value == pytest.approx(4 / 6)
    found = {(a.row.run.cell.label, a.lead): a.found for a in comparisons(plan, [group]) if a.baseline}
    # Three of six pairs at the cap of ten against 0.1, the others alike; and two of six.
    assert found[bad, "last"].ratio.value == pytest.approx(100**0.5)
    assert found[shaky, "last"].ratio.value == pytest.approx(100 ** (2 / 6))
    assert found[shaky, "trained"].ratio.value == pytest.approx(1.0)
    assert found[bad, "last"].capped == (3, 0)

    lines = tables.summary(plan, [group], [by[bad]], Path("/"))
    assert [line["status"] for line in lines] == ["complete", "failed"]
    assert lines[1]["failure"] == "loss <became> nan" and "nrmse last" not in lines[1]
    assert lines[0]["nrmse last"] == pytest.approx(0.1) and lines[1]["updates"] == 7
    assert lines[0]["peak_memory_mib"] == 1024 and lines[0]["stable"] == 1.0


def test_the_tidy_table_has_a_line_for_every_score_and_every_failure(made, tmp_path):
    bad = label("right", "one", "none")
    plan, rows = made(half_with_penalty, failed={(bad, 3)})
    tables.write_scores(tmp_path / "study.csv", plan, rows)
    table = pd.read_csv(tmp_path / "study.csv")
    columns = [
        "dataset",
        "objective",
        "regularizer",
        "seed",
        "sample",
        "lead_step",
        "lead_time",
        "metric",
        "value",
    ]
    assert list(table.columns) == columns
    assert len(table) == (8 * 2 - 1) * 3 * 5 + 1
    (failed,) = table[table.metric == "failed"].to_dict("records")
    assert (failed["dataset"], failed["objective"], failed["seed"]) == ("right", "one", 3)
    one = table[(table.dataset == "left") & (table.regularizer == "flat") & (table.metric == "nrmse")]
    one = one[(one.seed == 5) & (one["sample"] == 2) & (one.lead_step == 10) & (one.objective == "k2")]
    assert one.value.tolist() == [pytest.approx(0.1 * 8 * 0.5)]


def test_the_page_ranks_and_links_and_hides_nothing(made, tmp_path):
    bad = label("left", "k2", "flat")
    plan, rows = made(half_with_penalty, failed={(bad, 3), (bad, 5)})
    for row in rows:
        row.run.folder.path.mkdir()
        (row.run.folder.path / "report.html").touch()
    groups = groups_of(plan, rows)
    found = comparisons(plan, groups)
    page = write_leaderboard(tmp_path, plan, groups, rows, found).read_text()
    assert "Made up &amp; not run" in page and "loss &lt;became&gt; nan" in page
    links = re.findall(r'href="([^"]+report.html)">', page)
    assert len(links) == 8 and links[0] == "dataset%3Dleft_objective%3Done_regularizer%3Dflat/report.html"
    assert page.count("<img") == 8 and "script" not in page and "http" not in page
    head, lines = tables.table(plan, groups[0], found)
    ranked = [row.run.cell.label for row, _ in lines]
    assert ranked[0] == label("left", "one", "flat") and ranked[-1] == bad
    worst = dict(zip(head, lines[-1][1], strict=True))
    assert (
        worst["failed"] == "2/2"
        and worst["stable"].startswith("0%")
        and worst["nrmse, last step"].startswith("∞")
    )
    tables.write_markdown(tmp_path / "table.md", plan, groups, rows, found)
    text = (tmp_path / "table.md").read_text()
    assert text.count("| one | flat |") == 2 and "training of " + bad in text


def test_maps_are_compared_by_their_test_sets(made):
    plan, rows = made(lambda *_: 1.0, tree={**TREE, "comparison": {}})
    lines = [
        ("x", seed, sample, split, "relative_l2", 0.1 * (1 + (split == "fine")))
        for seed in (3, 5)
        for sample in (0, 1)
        for split in ("test", "fine")
    ]
    scores = pd.DataFrame(lines, columns=["step", "seed", "sample", "split", "metric", "value"])
    rows = [Row(r.run, r.variant, r.choice, scores, {"table": []}, r.spent) for r in rows]
    group = groups_of(plan, rows)[0]
    assert group.leads == ["test", "fine"] and group.metric == "relative_l2"
    found = comparisons(plan, [group])
    head, table = tables.table(plan, group, found)
    assert "relative_l2, fine" in head and "stable" not in head
    assert tables.summary(plan, [group], group.rows, Path("/"))[0]["relative_l2 fine"] == pytest.approx(0.2)
    drawn = [name for name, _, _ in figures.pictures(plan, group, found)]
    assert drawn == ["left-ratios.png", "left-budget.png"]
    with pytest.raises(UserError, match="the test sets are test, fine"):
        group.rows[0].values("relative_l2", "coarse", [0], 10.0)
