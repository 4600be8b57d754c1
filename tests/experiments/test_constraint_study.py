"""One law asked for, mended and learned with: what a study of constraints trains, measures and tables."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import yaml

from sciml.errors import UserError
from sciml.experiments.cli import main
from sciml.experiments.config import as_tree, read_study
from sciml.experiments.run import RunFolder
from sciml.experiments.storage import load
from sciml.experiments.study import tables
from sciml.experiments.study.conduct import Run
from sciml.experiments.study.plan import read_plan
from sciml.experiments.study.results import groups_of, rows_of
from sciml.experiments.surrogates import load_surrogate

NETWORK = {"class_path": "ConvNet", "init_args": {"width": 4, "hidden_layers": 1}}
ASKED = {"class_path": "SoftConstraint", "init_args": {"constraint": "ConservedMean"}}
SOFT = {"class_path": "Unrolled", "init_args": {"steps": 1, "terms": [ASKED]}}
TREE = {
    "name": "laws",
    "title": "One law in four ways",
    "data": {"recipe": "advection", "samples": {"train": 4, "valid": 0, "test": 2}},
    "variants": {
        "none": {"network": NETWORK},
        "soft": {"network": NETWORK, "objective": SOFT},
        "at inference": {"network": NETWORK, "constraint": "ConservedMean", "constrained": "rollouts"},
        "trained": {"network": NETWORK, "constraint": "ConservedMean"},
    },
    "training": {"updates": 5, "batch_size": 4, "learning_rate": 0.01, "accelerator": "cpu"},
    "seeds": [0],
    "evaluation": {
        "steps": 4,
        "solvers": [],
        "pictures": False,
        "laboratory": 0,
        "violations": {
            "mass": "ConservedMean",
            "floor": {"class_path": "Bounds", "init_args": {"lower": -100.0}},
        },
    },
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the study was trained and evaluated, in this process."""
    folder = tmp_path_factory.mktemp("laws")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        (folder / "laws.yaml").write_text(yaml.safe_dump(TREE))
        assert main(["train", "laws.yaml", "--workers", "1"]) == 0
        assert main(["evaluate", "runs/laws"]) == 0
    return folder / "runs" / "laws"


def test_what_is_held_in_rollouts_alone_was_trained_without(folder):
    laws = ("none", "at inference", "trained")
    free, mended, trained = (load_surrogate(folder / "checkpoints" / law / "seed-0.pt") for law in laws)
    theirs = [list(step.parameters()) for step in (free, mended, trained)]
    assert all(torch.equal(a, b) for a, b in zip(*theirs[:2], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(theirs[0], theirs[2], strict=True))
    u = torch.randn(2, 1, *mended.domain.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        drift = [float((step(u).mean(-1) - u.mean(-1)).abs().max()) for step in (free, mended, trained)]
    assert drift[0] > 1e-4 and max(drift[1:]) < 1e-7


def test_violations_are_measured_at_every_step_of_every_contestant(folder):
    evaluation = load(folder)
    own = evaluation.groups()["none"][0]
    mass = own.values["violation mass"]
    assert mass.shape == (4, 2) and (own.values["violation floor"] == 0).all()
    # Of the first state, in the unit of the state: what the equation's invariant drifts by, over its size.
    drift = own.values["drift content"]
    assert (mass[1:] > 1e-5).all() and np.corrcoef(mass[:, 0], drift[:, 0])[0, 1] > 0.999999
    assert evaluation.reference.values["violation mass"].max() < 1e-6
    table = json.loads((folder / "summary.json").read_text())["table"]
    (row,) = (row for row in table if row["name"] == "none")
    assert row["violation mass"] == pytest.approx(mass.max(), rel=1e-6)


def test_the_tables_tell_the_worst_of_all_steps(folder):
    own = load(folder).groups()["none"][0].values["violation mass"]
    plan = read_plan(str(folder.parents[1] / "laws.yaml"))
    run = Run(plan.cells[0], RunFolder(folder), trainings={(law, 0) for law in TREE["variants"]})
    rows = rows_of(plan, [run])
    groups = groups_of(plan, rows)
    found = {str(line["variant"]): line for line in tables.summary(plan, groups, rows, folder)}
    worst = {law: line["largest violation mass"] for law, line in found.items()}
    assert worst["none"] == pytest.approx(own.max(), rel=1e-6)
    # A penalty asks, a projection holds.
    assert worst["soft"] > 1e-4 and max(worst["at inference"], worst["trained"]) < 1e-6
    head, lines = tables.table(plan, groups[0], [])
    place = head.index("worst violation mass")
    assert "worst violation floor" in head
    assert {cells[0]: cells[place] for _, cells in lines}["none"] == f"{own.max():.1e}"


def test_mistakes_are_told_with_their_place():
    tree = {**TREE, "variants": {"free": {"network": NETWORK}}}
    read = read_study(tree, "one")
    assert read_study(as_tree(read), "again") == read
    assert "constrained" not in as_tree(read)["variants"]["free"]
    for key, value, message in (
        ("violations", {"mass": "ConservedMeen"}, "evaluation.violations.mass: no class 'ConservedMeen'"),
        ("violations", ["ConservedMean"], "expected constraints by name"),
    ):
        with pytest.raises(UserError, match=message):
            read_study({**tree, "evaluation": {key: value}}, "one")
    with pytest.raises(UserError, match="there is no constraint"):
        read_study({**tree, "variants": {"free": {"network": NETWORK, "constrained": "rollouts"}}}, "one")
