"""Every loss on the page of losses is built from its lines and trains a network."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import yaml

from sciml.datasets import load_recipe
from sciml.experiments import components, surrogates
from sciml.experiments.config import Variant
from sciml.experiments.online import OnlineSolver
from sciml.experiments.training import NormalisedView
from sciml.objectives import OBJECTIVES
from sciml.step import rollout

PAGE = Path(__file__).parents[2] / "docs" / "objectives.md"
SNIPPETS = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
NAME = "advection"
RECIPE = load_recipe(NAME)


@pytest.fixture(scope="module")
def data() -> torch.Tensor:
    """A few trajectories of the recipe, made by its own solver."""
    grid = RECIPE.domain_at(1)
    step = OnlineSolver(NAME, grid, RECIPE.dt)
    states = [RECIPE.draw("train", i, grid, 1)[1] for i in range(2)]
    return rollout(step, 16)(torch.stack(states).double()).float()


def facts(data: torch.Tensor) -> surrogates.Facts:
    mean, std = torch.tensor([data.mean()]), torch.tensor([data.std()])
    equation = RECIPE.equation()
    return surrogates.Facts(RECIPE.domain_at(1), equation.fields, RECIPE.dt, mean, std, recipe=NAME)


@pytest.mark.parametrize("text", SNIPPETS, ids=[f"{i}" for i in range(len(SNIPPETS))])
def test_what_the_page_says_trains(text, data):
    tree = {
        "network": {"class_path": "ConvNet", "init_args": {"width": 4, "hidden_layers": 1}},
        **yaml.safe_load(text),
    }
    history = yaml.safe_load(text)["objective"]
    history = history["init_args"].get("history", 1) if isinstance(history, dict) else 1
    variant, known = Variant(**tree), facts(data)
    for part in ("network", "objective"):
        components.check(tree[part], part, part)
    units = (known.mean, known.std) if variant.normalized else None
    given = {**known.arguments("objective"), "units": units, "pde": RECIPE.equation()}
    given["solver"] = OnlineSolver(NAME, known.domain, known.dt, units=units)
    objective = components.build(variant.objective, "objective", "objective", given)
    windows = data[:, : objective.horizon + 1]
    if history > 1:  # frames side by side, for which studies have no networks
        step = torch.nn.Conv1d(history, history, 1)
    else:
        surrogate = surrogates.build(variant, known, seed=0)
        step = surrogate
        if units is not None:
            step = NormalisedView(surrogate, *units)
            windows = step.normalise(windows, axis=2)
    total, parts = objective(step, windows, torch.Generator().manual_seed(0))
    total.backward()
    assert torch.isfinite(total) and parts
    gradients = [p.grad for p in step.parameters()]
    assert any(g is not None and g.abs().sum() > 0 for g in gradients)


def test_the_page_names_every_loss():
    text = PAGE.read_text()
    assert [o.__name__ for o in OBJECTIVES if o.__name__ not in text] == []
    assert len(SNIPPETS) > 25
