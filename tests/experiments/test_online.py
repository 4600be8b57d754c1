"""The solver inside a training against the one that makes the data."""

from __future__ import annotations

import pytest
import torch

from sciml import Grid
from sciml.datasets import load_recipe
from sciml.errors import UserError
from sciml.experiments import surrogates
from sciml.experiments.config import Variant
from sciml.experiments.online import OnlineSolver, recipe_place
from sciml.models import Corrected
from sciml.resample import resample
from sciml.solvers import build

RECIPE = load_recipe("apebench_1d_diff_burgers")
GRID = RECIPE.domain_at(1)
assert isinstance(GRID, Grid)


@pytest.fixture(scope="module")
def state() -> torch.Tensor:
    return torch.stack([RECIPE.draw("train", i, GRID, 1)[1] for i in range(2)])


def test_it_solves_as_the_data_were_made(state):
    fine = GRID.refined(RECIPE.resolution_factor)
    step = RECIPE.solver(RECIPE.equation(None, fine), fine, RECIPE.dt, RECIPE.substeps)
    expected = resample(step(step(resample(state, GRID, fine))), fine, GRID)
    found = OnlineSolver(RECIPE.name, GRID, 2 * RECIPE.dt)(state)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    single = OnlineSolver(RECIPE.name, GRID, RECIPE.dt)(state.float())
    assert single.dtype == torch.float32


def test_units_are_those_of_the_loss_and_gradients_pass(state):
    units = (torch.tensor([0.3]), torch.tensor([2.0]))
    plain, view = (OnlineSolver(RECIPE.name, GRID, RECIPE.dt, units=u) for u in (None, units))
    torch.testing.assert_close(view((state - 0.3) / 2) * 2 + 0.3, plain(state), rtol=1e-6, atol=1e-6)
    u, v = state.clone().requires_grad_(True), 1e-6 * torch.randn_like(state)
    (slope,) = torch.autograd.grad(plain(u).square().sum(), u)
    change = plain(state + v).square().sum() - plain(state - v).square().sum()
    assert (slope * v).sum().item() == pytest.approx(change.item() / 2, rel=1e-5)
    assert not view.state_dict()


def test_a_coarser_one_is_cheaper_and_less_exact_but_the_same_equation(state):
    coarse = GRID.resized([40])
    expected = resample(
        build(RECIPE.equation(), coarse, RECIPE.dt)(resample(state, GRID, coarse)), coarse, GRID
    )
    found = OnlineSolver(RECIPE.name, GRID, RECIPE.dt, coarsening=4)(state)
    error = (found - OnlineSolver(RECIPE.name, GRID, RECIPE.dt)(state)).norm() / state.norm()
    assert 1e-8 < error < 0.3
    assert (found - expected).norm() / state.norm() < 0.3


def test_what_cannot_be_solved_is_refused(state):
    with pytest.raises(UserError, match="differ between samples"):
        OnlineSolver("heat", load_recipe("heat").domain_at(1), load_recipe("heat").dt)(state)
    with pytest.raises(UserError, match="divide"):
        OnlineSolver(RECIPE.name, GRID, RECIPE.dt, coarsening=7)(state)
    with pytest.raises(UserError, match="no multiple"):
        OnlineSolver(RECIPE.name, GRID, 1.5 * RECIPE.dt)(state)
    with pytest.raises(ValueError, match="coarsening"):
        OnlineSolver(RECIPE.name, GRID, RECIPE.dt, coarsening=0)


def test_a_corrected_solver_lives_in_a_checkpoint_without_the_data(state):
    inner = {"class_path": "ConvNet", "init_args": {"width": 4, "hidden_layers": 1}}
    inner = {
        "class_path": "Normalized",
        "init_args": {"f": {"class_path": "Residual", "init_args": {"f": inner}}},
    }
    solver = {"class_path": "OnlineSolver", "init_args": {"coarsening": 2}}
    network = {"class_path": "Corrected", "init_args": {"mode": "sequential", "solver": solver, "f": inner}}
    facts = surrogates.Facts(
        GRID,
        RECIPE.equation().fields,
        RECIPE.dt,
        torch.tensor([0.1]),
        torch.tensor([0.7]),
        recipe=recipe_place(RECIPE),
    )
    variant = Variant(network, residual=False, normalized=False)
    step = surrogates.build(variant, facts, seed=0)
    again = surrogates.build(variant, surrogates.Facts.from_plain(facts.to_plain()), seed=1)
    again.load_state_dict(step.state_dict())
    assert torch.equal(step(state.float()), again(state.float()))
    assert isinstance(step.f, Corrected) and step.f.f.mean.item() == pytest.approx(0.1)
    for wrong in (Variant(network, normalized=False), Variant(network, residual=False)):
        with pytest.raises(UserError, match="residual: false and normalized: false"):
            surrogates.build(wrong, facts, seed=0)
