from __future__ import annotations

import pytest
import yaml

from sciml.errors import UserError
from sciml.experiments.config import TrainingSettings, as_tree, override, read_study

LION = {"class_path": "Lion", "init_args": {"betas": [0.8, 0.9]}}


def tree(**options):
    made = {
        "name": "small",
        "data": {"recipe": "advection"},
        "variants": {"net": {"network": {"class_path": "FNO", "init_args": {"modes": [4], "width": 4}}}},
        "training": {"updates": 10},
    }
    override(made, list(options.items()))
    return made


def test_an_optimiser_is_a_component_of_the_study_and_of_a_variant():
    given = tree(
        **{"training.optimizer": LION, "variants.net.training": {"optimizer": "AdamW", "updates": 3}}
    )
    study = read_study(given, "test")
    assert study.training == TrainingSettings(updates=10, optimizer=LION)
    assert study.settings("net") == TrainingSettings(updates=3, optimizer="AdamW")
    override(given, [("variants.net.training.optimizer.betas", "[0.5, 0.6]")])
    study = read_study(given, "test")
    expected = {"class_path": "AdamW", "init_args": {"betas": [0.5, 0.6]}}
    assert study.settings("net").optimizer == expected
    assert read_study(yaml.safe_load(yaml.safe_dump(as_tree(study))), "again") == study


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("training.optimizer", "Lino", "training.optimizer: no class 'Lino'; did you mean Lion"),
        ("training.optimizer", {"class_path": "Lion", "init_args": {"beta": 1}}, "no argument 'beta'; did you mean 'betas'"),
        ("training.optimizer", {"class_path": "Lion", "init_args": {"betas": "fast"}}, "betas.*fast"),
        ("training.optimizer", {"init_args": {}}, "expected a class name, or class_path"),
        ("variants.net.training", {"optimizer": {"class_path": "Lion", "with": 1}}, "beside class_path"),
        ("variants.net.training", {"optimizer": "nowhere.py:Mine"}, "there is no file 'nowhere.py'"),
        ("training.polisher", "QuasiNewtonian", "training.polisher: no class.*did you mean QuasiNewton"),
        ("training.pilot", "a.csv", "needs the history of a pilot run"),
        ("training.swa", 1.5, "between 0 and 1"),
        ("variants.net.training", {"swa": 0.5, "ema": 0.9}, "choose one"),
        ("training.seconds", "0", "training.seconds is 0.0; expected a positive time"),
        ("training.schedule", "steep", "cosine.*steep"),
    ],
)  # fmt: skip
def test_mistakes_are_told(key, value, message):
    with pytest.raises(UserError, match=message):
        read_study(tree(**{key: value}), "test")
