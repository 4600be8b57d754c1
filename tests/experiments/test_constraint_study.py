"""One law asked for, mended and learned with: what a study of constraints trains, measures and tables."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from sciml import rollout
from sciml.constraints import DivergenceFree, Energy
from sciml.datasets import load_recipe
from sciml.errors import UserError
from sciml.experiments import components
from sciml.experiments.cli import main
from sciml.experiments.config import as_tree, read_study
from sciml.experiments.run import RunFolder
from sciml.experiments.storage import load
from sciml.experiments.study import tables
from sciml.experiments.study.conduct import Run
from sciml.experiments.study.plan import read_plan
from sciml.experiments.study.results import groups_of, rows_of
from sciml.experiments.surrogates import Facts, build, load_surrogate, of_domain
from sciml.experiments.training import NormalisedView
from sciml.trajectory import channel_names

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
        "late": {"network": NETWORK, "constraint": "ConservedMean", "constrained": 0.5},
    },
    "training": {
        "updates": 5,
        "log_every": 1,
        "batch_size": 4,
        "learning_rate": 0.01,
        "accelerator": "cpu",
    },
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


def test_what_is_held_late_was_first_trained_without(folder):
    laws = ("at inference", "late", "trained")
    never, late, always = (
        pd.read_csv(folder / "checkpoints" / law / "seed-0.csv")["loss"].to_numpy() for law in laws
    )
    same = never == late  # of five updates the first three come before half of them are done
    assert same[:3].all() and not same[3:].any() and late[0] != always[0]


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


@pytest.mark.parametrize(
    "name",
    [
        "constraints-shallow-water",
        "constraints-graph",
        pytest.param("constraints-burgers", marks=pytest.mark.slow),
        pytest.param("constraints-navier-stokes", marks=pytest.mark.slow),
    ],
)
def test_shipped_studies_train_every_row_and_hold_what_they_say(name):
    if name == "constraints-graph":
        pytest.importorskip("torch_geometric", reason="graph networks need torch-geometric, extra 'graph'")
    plan = read_plan(name, seeds=[0])
    evaluation = plan.cells[0].study.evaluation
    # Ten times the steps of the training trajectories, and every row is asked what every other is.
    recipe = load_recipe(str(plan.cells[0].study.data.recipe))
    assert evaluation.steps == 10 * recipe.steps_of("train")
    domain = recipe.domain_at(1)
    states = torch.stack(
        [recipe.draw("train", i, domain, channels_of(recipe, domain))[1] for i in range(2)]
    )
    if name == "constraints-navier-stokes":  # the data's first frames are on the attractor, these are drawn
        states = DivergenceFree(domain).project(states - mean_of(states).double())
        states = states * (0.6 / Energy(domain, "bounded", 0.3, 1.2).energy(states)).sqrt().reshape(
            -1, 1, 1, 1
        )
    axes = (0, *range(2, states.ndim))
    mean, std = states.mean(axes).float(), states.std(axes).clamp_min(0.1).float()
    facts = Facts(domain, recipe.equation().fields, recipe.dt, mean, std, recipe=recipe.name)
    window = torch.stack(
        [(0.99**k * (states.float() - mean_of(states)) + mean_of(states)) for k in range(3)], dim=1
    ).float()
    laws = {
        label: components.build(law, label, "constraint", of_domain(domain))
        for label, law in evaluation.violations.items()
    }
    for cell in plan.cells:
        (variant,) = cell.study.variants.values()
        step = build(variant, facts, seed=0)
        with torch.no_grad():  # initial weights step far enough to break what is not held
            for parameter in step.parameters():
                parameter *= 1.5
        units = (mean, std) if variant.normalized else None
        given = {**facts.arguments("objective"), "units": units}
        objective = components.build(variant.objective, "objective", "objective", given)
        seen, view = window, step
        if units is not None:
            view = NormalisedView(step, *units)
            seen = view.normalise(window, axis=2)
        objective(view, seen[:, : objective.horizon + 1], torch.Generator().manual_seed(0))[0].backward()
        gradients = [p.grad for p in step.parameters() if p.grad is not None]
        assert gradients and all(bool(g.isfinite().all()) for g in gradients), cell.label
        with torch.no_grad():
            last = rollout(step.eval(), 3)(states.float())[:, -1]
        found = {
            label: float(law.violation(last.double(), previous=states.float().double()).max())
            for label, law in laws.items()
        }
        held = HELD.get(cell.choice["law"], tuple(found))
        assert all(found[label] <= 3e-6 for label in held if label in found), (cell.label, found)
        if cell.choice["law"] in ("none", "soft", "JAWS"):
            assert max(found.values()) > 1e-3, (cell.label, found)


HELD: dict[str, tuple[str, ...]] = {
    "none": (),
    "soft": (),
    "JAWS": (),
    "flux form": ("mass",),
    "limited fluxes": ("mass", "bounds"),
    "edge fluxes": ("mass",),
}
"""Which violations stay at rounding; all of them in rows that are not named."""


def mean_of(states: torch.Tensor) -> torch.Tensor:
    return states.mean(tuple(range(2, states.ndim)), keepdim=True).float()


def channels_of(recipe, domain) -> int:
    return len(channel_names(recipe.equation().fields, domain.dimension))


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
    late = {"network": NETWORK, "constraint": "ConservedMean", "constrained": 1.5}
    with pytest.raises(UserError, match="a share of the training between 0 and 1"):
        read_study({**tree, "variants": {"late": late}}, "one")
