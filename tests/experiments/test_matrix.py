"""The form in which a study of several runs is written: axes, combinations, budgets, a matrix of dotted settings."""

from __future__ import annotations

import copy

import pytest
import yaml

from sciml.errors import UserError
from sciml.experiments.config import load_study
from sciml.experiments.study.plan import read_plan

TREE = {
    "name": "small",
    "data": {"recipe": "advection", "samples": {"train": 4}},
    "model": {"class_path": "ConvNet", "init_args": {"width": 4}},
    "training": {"batch_size": 4},
    "seeds": [0, 1],
    "axes": {
        "objective": {
            "one_step": "OneStep",
            "k2": {"class_path": "Unrolled", "init_args": {"steps": 2}},
        },
        "regularizer": {
            None: None,
            "jaws": {
                "regularizer": {"class_path": "JAWS", "init_args": {"mode": "fd"}},
                "weight": 0.003,
                "warmup": 5,
            },
        },
    },
}


@pytest.fixture
def plan(tmp_path):
    def read(tree=TREE, **changes):
        file = tmp_path / "m.yaml"
        file.write_text(yaml.safe_dump({**copy.deepcopy(tree), **changes}, sort_keys=False))
        return read_plan(str(file))

    return read


def only_variant(cell):
    ((name, variant),) = cell.study.variants.items()
    return name, variant


def test_axes_are_put_together_to_one_surrogate_a_cell(plan):
    found = plan()
    assert [cell.label for cell in found.cells] == [
        "objective=one_step_regularizer=none",
        "objective=one_step_regularizer=jaws",
        "objective=k2_regularizer=none",
        "objective=k2_regularizer=jaws",
    ]
    assert found.axes == {"objective": ["one_step", "k2"], "regularizer": ["none", "jaws"]}
    plain, jaws = only_variant(found.cells[0]), only_variant(found.cells[3])
    assert plain[0] == "one_step none" and plain[1].objective == "OneStep"
    assert jaws[1].objective == {
        "class_path": "Regularized",
        "init_args": {
            "objective": {"class_path": "Unrolled", "init_args": {"steps": 2}},
            "regularizer": {"class_path": "JAWS", "init_args": {"mode": "fd"}},
            "weight": 0.003,
            "warmup": 5,
        },
    }
    assert all(cell.study.seeds == [0, 1] for cell in found.cells)
    assert all(only_variant(c)[1].network == TREE["model"] for c in found.cells)


def test_every_part_may_be_an_axis_and_settings_go_along(plan):
    axes = {
        "dataset": {"a": "advection", "b": {"recipe": "burgers", "also": {"model.network.width": 8}}},
        "model": {
            "conv": {"network": {"class_path": "ConvNet", "init_args": {"width": 2}}, "residual": False},
            "fno": {"class_path": "FNO", "init_args": {"modes": [2], "width": 4}},
        },
        "constraint": {"free": None, "kept": "ConservedMean"},
        "training": {"slow": {"learning_rate": 1e-4}},
        "evaluation": {"short": {"steps": 3}},
        "layers": {"two": {"model.network.kernel": 5, "training.clip": 1.0}},
    }
    tree = {k: v for k, v in TREE.items() if k not in ("axes", "model")}
    found = plan(tree, axes=axes, only=[{"model": "conv"}])
    assert len(found.cells) == 4
    last = found.cells[-1]
    assert last.choice == dict(
        dataset="b", model="conv", constraint="kept", training="slow", evaluation="short", layers="two"
    )
    name, variant = only_variant(last)
    assert name == "conv kept slow short two"
    assert variant.network == {"class_path": "ConvNet", "init_args": {"width": 8, "kernel": 5}}
    assert variant.constraint == "ConservedMean" and variant.residual is False
    study = last.study
    assert study.data.recipe == "burgers" and study.data.samples == {"train": 4}
    assert study.training.learning_rate == 1e-4 and study.training.clip == 1.0
    assert study.training.batch_size == 4 and study.evaluation.steps == 3


def test_only_and_skip_choose_combinations(plan):
    labels = [c.label for c in plan(only=[{"regularizer": "none"}, {"objective": "one_step"}]).cells]
    assert labels == [
        "objective=one_step_regularizer=none",
        "objective=one_step_regularizer=jaws",
        "objective=k2_regularizer=none",
    ]
    skipped = plan(skip=[{"objective": ["k2", "one_step"], "regularizer": "jaws"}])
    assert [c.choice["regularizer"] for c in skipped.cells] == ["none", "none"]


def test_a_budget_goes_to_every_training(plan):
    for budget in ({"updates": 7}, {"seconds": 2.5}):
        found = plan(budget=budget)
        ((name, value),) = budget.items()
        for cell in found.cells:
            assert getattr(cell.study.settings(only_variant(cell)[0]), name) == value


def test_the_baseline_is_told_by_entries(plan):
    assert plan(baseline={"regularizer": "none"}).baseline == {"regularizer": "none"}


def test_variants_of_a_run_are_rows_beside_axes_of_settings(plan):
    variants = {
        n: {"network": {"class_path": "ConvNet", "init_args": {"width": w}}}
        for n, w in (("a", 2), ("b", 4))
    }
    tree = {"name": "v", "data": {"recipe": "advection"}, "variants": variants}
    found = plan(tree, axes={"dataset": {"x": "advection", "y": "burgers"}}, baseline={"variant": "a"})
    assert found.axes == {"dataset": ["x", "y"], "variant": ["a", "b"]} and len(found.cells) == 2
    assert (
        list(found.cells[1].study.variants) == ["a", "b"] and found.cells[1].study.data.recipe == "burgers"
    )


def test_a_matrix_makes_a_study_of_each_combination(plan, tmp_path):
    tree = {"name": "small", "data": {"recipe": "advection"}}
    tree["variants"] = {"fno": {"network": {"class_path": "FNO", "init_args": {"modes": [4], "width": 4}}}}
    matrix = {"training.updates": [5, 6], "variants.fno.network.width": [2, 3]}
    file = tmp_path / "n.yaml"
    file.write_text(yaml.safe_dump({**tree, "matrix": matrix}))
    found = read_plan(str(file), seeds=[1, 2])
    assert found.name == "small" and len(found.cells) == 4
    assert found.cells[3].label == "updates=6_width=3"
    assert found.cells[3].choice == {"updates": "6", "width": "3"}
    assert found.cells[3].study.training.updates == 6 and found.cells[3].study.seeds == [1, 2]
    assert found.cells[0].study.variants["fno"].network["init_args"]["width"] == 2
    with pytest.raises(UserError, match="expected lists of values"):
        plan(tree, matrix={"training.updates": 5})
    with pytest.raises(UserError, match="updats"):
        plan({"base": "smoke", "name": "x", "matrix": {"training.updats": [1]}})
    both = plan(matrix={"model.network.width": [2, 3]}, only={"objective": "k2", "regularizer": "none"})
    assert [c.label for c in both.cells] == [f"objective=k2_regularizer=none_width={w}" for w in (2, 3)]
    assert [only_variant(c)[1].network["init_args"]["width"] for c in both.cells] == [2, 3]


def test_a_file_without_axes_is_one_run():
    found = read_plan("smoke")
    assert [c.label for c in found.cells] == ["smoke"] and found.axes["variant"] == ["conv", "kept"]


REGULARIZED = {
    "class_path": "Regularized",
    "init_args": {"objective": "OneStep", "regularizer": "Frobenius"},
}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"axes": {"objective": ["OneStep"]}}, "axes.objective is .*expected entries by name"),
        ({"axes": {"objective": {"a/b": "OneStep"}}}, "is to name a folder"),
        ({"axes": {"objective": {"a": 3}}}, "axes.objective.a is 3; expected a class"),
        ({"axes": {"objectiv": {"a": "OneStep"}}}, "did you mean the axis 'objective'"),
        ({"axes": {"width": {"a": 3}}}, "expected settings.*Axes that stand"),
        ({"axes": {"width": {"a": {"model.network.widht": 3}}}}, "no argument 'widht'; did you mean 'width'"),
        ({"axes": {"objective": {"r": REGULARIZED}, "regularizer": {"f": "Frobenius"}}}, "holds a regulariser already"),
        ({"axes": {"regularizer": {"f": {"weight": 1.0}}}}, "expected a class, or settings of a penalty"),
        ({"axes": {"regularizer": {"f": {"regularizer": "JAWS", "wieght": 1.0}}}}, "did you mean 'weight'"),
        ({"axes": {"regularizer": {"f": "Frobenus"}}}, "did you mean Frobenius"),
        ({"skip": [{"objective": "k3"}]}, "no entry 'k3'; expected one of one_step, k2"),
        ({"only": [{"objektive": "k2"}]}, "names the axis 'objektive'; expected one of objective, regularizer"),
        ({"skip": [{"objective": ["k2", "one_step"]}]}, "leave no combination"),
        ({"baseline": {"objective": ["k2", "one_step"]}}, "baseline has .*expected one entry"),
        ({"budget": {"updates": 5, "seconds": 3}}, "expected one of updates or seconds"),
        ({"budget": {"update": 5}}, "did you mean 'updates'"),
        ({"budget": {"updates": 5}, "training": {"epochs": 3}}, "budget is equal updates.*epochs.*is 3"),
        (
            {"budget": {"updates": 5}, "axes": {"training": {"long": {"updates": 9}}}},
            "budget is equal updates.*training.updates.*is 9",
        ),
        ({"comparison": {"draws": 0}}, "at least one draw"),
        ({"variants": {"a": {"network": "ConvNet"}}}, "variants and, beside them, model, objective"),
        ({"model": None}, "there is no network"),
    ],
)  # fmt: skip
def test_mistakes_are_told_before_anything_runs(plan, changes, message):
    with pytest.raises(UserError, match=message):
        plan(**changes)


def test_a_study_of_several_runs_is_not_taken_for_one(tmp_path):
    (tmp_path / "m.yaml").write_text(yaml.safe_dump(TREE))
    with pytest.raises(UserError, match="give it to `sciml study`"):
        load_study(str(tmp_path / "m.yaml"))


def test_a_bare_name_inside_a_component_is_one_too():
    from sciml import Grid
    from sciml.experiments import components
    from sciml.objectives import Unrolled
    from sciml.regularizers import JAWS

    facts = {"channels": 1, "dimension": 1, "domain": Grid((16,), (1.0,))}
    inner = {"objective": {"class_path": "Unrolled", "init_args": {"steps": 2}}, "regularizer": "JAWS"}
    made = components.build(
        {"class_path": "Regularized", "init_args": inner}, "objective", "objective", facts
    )
    # JAWS needs channels and dimension, which only the data know.
    assert isinstance(made.objective, Unrolled) and isinstance(made.regularizer, JAWS)
    with pytest.raises(UserError, match="no class 'JAW'; did you mean JAWS"):
        components.check(
            {"class_path": "Regularized", "init_args": {"objective": "OneStep", "regularizer": "JAW"}},
            "objective",
            "objective",
        )
