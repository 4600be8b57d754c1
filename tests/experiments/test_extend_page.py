"""What the manual says of parts of one's own: its files and its commands, as they are printed."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml

from sciml.experiments.cli import main
from sciml.experiments.surrogates import load_surrogate

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/extend/constraint.md").read_text()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The files of the page, and what its commands made of them."""
    where = tmp_path_factory.mktemp("page")
    for included in re.findall(r'--8<-- "(docs/examples/my_[^"]+)"', PAGE):
        shutil.copy(ROOT / included, where)
    for name, text in re.findall(r'```yaml title="(my_run[^"]+)"\n(.*?)```', PAGE, re.S):
        (where / name).write_text(text)
    commands = [shlex.split(line) for line in re.findall(r"^    (sciml .*)$", PAGE, re.M)]
    assert [words[1] for words in commands] == ["study", "run"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(where)
        for words in commands:
            assert main(words[1:]) == 0
    return where


def test_every_part_of_ones_own_is_used_and_judged(folder, monkeypatch):
    monkeypatch.chdir(folder)  # files of one's own are looked for from where one is
    wide = pd.read_csv(folder / "runs/my-study/summary.csv")
    assert len(wide) == 4 and set(wide.status) == {"complete"}
    assert wide["worst_point last"].between(0, 10).all() and wide["worst_point last"].nunique() >= 3
    cell = folder / "runs/my-study/objective=one_step_regularizer=none_constraint=within"
    (checkpoint,) = cell.rglob("seed-0.pt")
    assert any(type(part).__name__ == "Within" for part in load_surrogate(checkpoint).modules())
    paired = pd.read_csv(folder / "runs/my-study/comparisons.csv")
    assert set(paired.metric) == {"worst_point"} and paired.baseline.sum() == 3


def test_an_argument_is_set_on_the_command_line(folder):
    config = yaml.safe_load((folder / "runs/my-run/config.yaml").read_text())
    assert config["variants"]["mine"]["objective"]["init_args"] == {"scale": 0.2}
    metrics = pd.read_csv(folder / "runs/my-run/metrics.csv")
    assert len(metrics[(metrics.step == "mine") & (metrics.metric == "worst_point")]) > 0


def test_the_example_parts_do_what_they_say(folder):
    import importlib.util

    import torch

    spec = importlib.util.spec_from_file_location("my_parts", folder / "my_parts.py")
    parts = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(parts)
    u = torch.linspace(-3, 3, 12, dtype=torch.float64).reshape(1, 1, 12)
    kept = parts.Within(-2, 2)
    assert kept.violation(u).item() == 1.0 and kept.violation(kept.project(u)).item() == 0.0
    window = torch.stack([u, u + 0.3], dim=1)
    loss, _ = parts.LogCosh(0.1)(lambda state: state, window, None)
    assert loss.item() == pytest.approx(torch.log(torch.cosh(torch.tensor(3.0))).item(), rel=1e-6)
    generator = torch.Generator().manual_seed(0)
    grows = parts.NoGrowth()(lambda state: 3 * state, u, generator)
    assert grows.shape == (1,) and grows.item() == pytest.approx(4.0)  # growth 3, two more than none
    assert parts.NoGrowth()(lambda state: 0.5 * state, u, generator).item() == 0.0
    assert parts.worst_point(window[:, 1:], window[:, :1]).item() == pytest.approx(0.1)
