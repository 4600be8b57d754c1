"""Conditions of a user's own, as the manual shows them: in training, in rollouts, and refused where they conflict."""

from __future__ import annotations

import pickle
import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from sciml import rollout
from sciml.constraints import Chain, LinearRows
from sciml.domains import Grid
from sciml.errors import UserError
from sciml.experiments import components, surrogates
from sciml.experiments.cli import main
from sciml.experiments.config import Variant
from sciml.experiments.surrogates import Facts, load_surrogate
from sciml.trajectory import Field

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/extend/constraint.md").read_text()
GRID = Grid((8,), (1.0,))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    shutil.copy(ROOT / "docs/examples/my_rows.py", tmp_path)
    (text,) = re.findall(r'```yaml title="rows_run.yaml"\n(.*?)```', PAGE, re.S)
    (tmp_path / "rows_run.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def facts() -> Facts:
    return Facts(GRID, (Field("u"),), 0.1, torch.zeros(1), torch.ones(1))


def build(constraint) -> torch.nn.Module:
    variant = Variant(network={"class_path": "ConvNet", "init_args": {"width": 2}}, constraint=constraint)
    return surrogates.build(variant, facts(), seed=0, name="mine")


def drifts(step: torch.nn.Module) -> tuple[float, float]:
    """Changes of the mean, and sawtooth, in 30 steps from a smooth state, over the largest value met."""
    x = step.domain.coordinates()[0]
    u0 = (1 + 0.5 * torch.sin(2 * torch.pi * x / step.domain.lengths[0])).float()[None, None]
    sign = 1.0 - 2.0 * (torch.arange(len(x)) % 2)
    with torch.no_grad():
        states = rollout(step, 30)(u0)[:, 1:].double()
    size = float(states.abs().max())
    mean = (states.mean(-1) - u0.double().mean(-1)[:, None]).abs().max()
    return float(mean) / size, float((states * sign).mean(-1).abs().max()) / size


def test_rows_by_functions_hold_while_a_network_learns_and_in_rollouts(folder):
    tree = yaml.safe_load((folder / "rows_run.yaml").read_text())
    steps = {n: build(v.get("constraint")) for n, v in tree["variants"].items()}
    x = GRID.coordinates()[0]
    wave = [torch.sin(2 * torch.pi * (x - t)).float()[None, None] + 1 for t in (0.0, 0.1)]
    for step in steps.values():
        optimizer = torch.optim.Adam(step.parameters(), 1e-2)
        losses = []
        for _ in range(20):
            loss = (step(wave[0]) - wave[1]).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        assert losses[-1] < 0.5 * losses[0]
    # 30 roundings of single precision.
    assert max(drifts(steps["held"])) < 1e-6 < 1e-4 < min(drifts(steps["free"]))


@pytest.mark.slow
def test_the_page_of_the_manual_runs_and_its_surrogate_holds_the_rows(folder):
    assert main(["run", "rows_run.yaml"]) == 0
    found = {p.parent.name: load_surrogate(p) for p in folder.rglob("seed-0.pt")}
    assert any(isinstance(part, Chain) for part in found["held"].modules())
    assert max(drifts(found["held"])) < 1e-6 < 1e-4 < min(drifts(found["free"]))


def test_rows_are_numbers_or_files_in_a_study_and_what_conflicts_is_refused_before_training(folder):
    rows = [[1.0] * 8, [1.0, -1.0] * 4]
    constraint = {"class_path": "LinearRows", "init_args": {"rows": rows, "values": [2.0, 0.0]}}
    u = torch.randn(1, 1, 8, generator=torch.Generator().manual_seed(1))
    after = build(constraint)(u).double()[0, 0]
    assert torch.allclose(
        after @ torch.tensor(rows).double().T, torch.tensor([2.0, 0.0]).double(), atol=1e-6
    )
    (folder / "rows.npy").write_bytes(pickle.dumps(rows))
    for given, message in (
        ({"rows": "rows.npy"}, "LinearRows: rows.npy holds no array that can be read safely"),
        ({"rows": "my_rows.py:totals"}, "is not a function; did you mean total"),
        ({"rows": "nowhere.npy"}, "there is no file 'nowhere.npy'"),
        ({"rows": [rows[0], rows[0]]}, "dependent on each other: row 0, row 1"),
        ({"rows": [rows[0], rows[0]], "values": [1.0, 2.0]}, "contradict each other: row 0, row 1"),
    ):
        with pytest.raises(UserError, match=message):
            build({"class_path": "LinearRows", "init_args": given})
    members = ["ConservedMean", {"class_path": "LinearRows", "init_args": {"rows": "my_rows.py:total"}}]
    with pytest.raises(UserError, match="variants.mine.constraint: Stack .*mean of channel 0, row 0"):
        build({"class_path": "Chain", "init_args": {"constraints": members}})
    dropped = {"class_path": "Stack", "init_args": {"constraints": members, "dependent": "drop"}}
    assert abs(float((build(dropped)(u).mean() - u.mean()).detach())) < 1e-6


def test_a_function_is_named_wherever_a_class_asks_for_one(folder):
    spec = {"class_path": "LinearRows", "init_args": {"rows": "my_rows.py:no_sawtooth"}}
    made = components.build(spec, "here", "constraint", {"domain": GRID})
    assert isinstance(made, LinearRows) and made.right.constant is not None
    tree = yaml.safe_load((folder / "rows_run.yaml").read_text())
    members = tree["variants"]["held"]["constraint"]["init_args"]["constraints"]
    assert [m["class_path"] for m in members] == ["LinearRows", "LinearRows"]
