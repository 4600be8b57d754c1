"""Rollouts on further test sets."""

from __future__ import annotations

import json

import pandas as pd
import pytest
import yaml

from sciml.errors import UserError
from sciml.experiments import data
from sciml.experiments.config import Data, read_study, study_file
from sciml.experiments.progress import Reporter
from sciml.experiments.run import RunFolder, evaluate, report


def test_the_same_data_as_a_further_test_set_score_the_same(smoke, tmp_path):
    done = smoke / "runs" / "smoke"
    folder = RunFolder(tmp_path / "run")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoints").symlink_to(done / "checkpoints")
    tree = yaml.safe_load((done / "config.yaml").read_text())
    tree["data"]["tests"] = {"again / once": str(smoke / "data" / tree["data"]["recipe"])}
    folder.open(read_study(tree, "test"))
    evaluate(folder, Reporter(quiet=True), data=smoke / "data" / tree["data"]["recipe"])
    folder.add_provenance(data=str(smoke / "data" / tree["data"]["recipe"]))
    own = pd.read_csv(tmp_path / "run" / "metrics.csv")
    again = pd.read_csv(tmp_path / "run" / "tests" / "again - once" / "metrics.csv")
    pd.testing.assert_frame_equal(own, again)
    first = json.loads((done / "summary.json").read_text())["table"][0]
    assert json.loads((tmp_path / "run" / "tests" / "again - once" / "summary.json").read_text())["table"][
        0
    ]["nrmse_last"] == pytest.approx(first["nrmse_last"])
    assert "On other data: again - once" in report(folder).read_text()


def test_a_test_set_is_a_recipe_beside_or_a_path(tmp_path):
    settings = Data(recipe="burgers", tests={"there": str(tmp_path / "nowhere")})
    with pytest.raises(UserError, match="nowhere"):
        data.tests(settings, tmp_path / "burgers")
    beside = Data(recipe="burgers", tests={"strong": "burgers_fronts_strong"})
    with pytest.raises(UserError, match=str(tmp_path / "burgers_fronts_strong")):
        data.tests(beside, tmp_path / "burgers")
    assert study_file("burgers-fronts").is_file()
