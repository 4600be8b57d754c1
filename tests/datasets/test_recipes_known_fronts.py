"""Recipes with exact solutions: errors and order against them, mass to rounding, fronts."""

from __future__ import annotations

import importlib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import sciml.datasets as datasets
from sciml.datasets.recipe import load_recipe
from sciml.datasets.recipes import stefan
from sciml.domains import Grid
from sciml.pdes import PorousMedium, Stefan
from sciml.solvers.elliptic import Value
from sciml.solvers.parabolic import parabolic
from sciml.solvers.parabolic.diffusion import DiffusionVolumes, _Inflow

# Test parameters, time, mean absolute error on 100 cells (of values up to 1 to 5), order from 50 to 100 cells, where the
# implicit steps of first order get shorter with the cells.
CASES: dict[str, tuple[tuple[float, ...], float, float, float]] = {
    "heat_decay": ((1.0, 5.0), 0.1, 2e-4, 1.9),
    "porous_medium": ((1.0, 3.0, 6.0), 0.5, 5e-3, 0.9),  # that of u^(1/m) at the front
    "stefan": ((0.5, 0.6), 0.05, 6e-4, 0.9),
    "advection_step": ((1.0, 3.0), 0.1, 1.5e-2, 0.6),  # 2/3 at a jump that is carried
    "burgers_ramp": ((1.0,), 0.8, 1e-3, 0.9),
}


def module(name: str) -> Any:
    return importlib.import_module(f"sciml.datasets.recipes.{name}")


def column(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).reshape(-1, 1, 1)


@cache
def solved(name: str, n: int, values: tuple[float, ...], end: float) -> tuple[Grid, Tensor, Tensor]:
    """The grid, the solver's cell averages after five steps, and the exact ones."""
    recipe, known = load_recipe(name), module(name)
    assert isinstance(recipe.domain, Grid)
    grid, p = recipe.domain.resized((n,)), column(values)
    (parameter,) = recipe.parameters
    equation = recipe.equation({parameter: p.flatten()}, grid)
    step = recipe.solver(equation, grid, end / 5, n // 10 if recipe.substeps else None)
    u = known.exact(grid, p, 0.0)
    with torch.no_grad():
        for _ in range(5):
            u = step(u)
    return grid, u, known.exact(grid, p, end)


@pytest.mark.parametrize("name", CASES)
def test_solver_meets_the_exact_solution_and_its_mass(name: str) -> None:
    values, end, level, order = CASES[name]
    errors = []
    for n in (50, 100):
        grid, u, exact = solved(name, n, values, end)
        errors.append((u - exact).abs().mean(dim=(1, 2)))
        mass = module(name).mass(column(values), end)[:, 0, 0]
        h = grid.spacing[0]
        torch.testing.assert_close(exact.sum(dim=(1, 2)) * h, mass, rtol=0, atol=1e-14)
        off = (u.sum(dim=(1, 2)) * h - mass).abs()
        # What the held side of the Stefan problem lets in is a result; elsewhere it is known, and kept to rounding.
        assert float(off.max()) < (5e-4 if name == "stefan" else 5e-14)
    assert float(errors[1].max()) < level
    assert float((errors[0] / errors[1]).log2().min()) > order


@pytest.mark.parametrize("name, place", [("porous_medium", 0.5), ("stefan", None)])
def test_fronts_stand_within_a_cell(name: str, place: float | None) -> None:
    values, end, _, _ = CASES[name]
    grid, u, _ = solved(name, 100, values, end)
    for value, field in zip(values, u[:, 0], strict=True):
        # Half the jump, or a value that the steepest wave has a thousandth of a cell behind its front.
        level = 0.5 * value if name == "stefan" else 0.2 * (value * end) ** (1 / value)
        found = float((field > level).sum()) * grid.spacing[0]
        true = Stefan(value).front(end) if place is None else place - 0.2**value * end
        assert abs(found - true) <= 1.05 * grid.spacing[0]


def test_what_enters_beside_a_held_side_accounts_for_the_mass() -> None:
    """One step of backward Euler: the change of the content is the flux through the side, to rounding."""
    grid = stefan.RECIPE.domain_at(1)
    assert isinstance(grid, Grid)
    law, h, dt = Stefan(0.6), grid.spacing[0], 1e-3
    step = parabolic(law, grid, dt, conditions={"x-": Value(1.0)}, scheme="backward-euler", substeps=1)
    u = stefan.exact(grid, column((0.6,)), 0.02)
    one = torch.ones(1, 1, 1, dtype=torch.float64)
    for _ in range(5):
        v = step(u)
        entered = dt * (law.potential(one) - law.potential(v[..., :1])) / (0.5 * h)
        assert float(((v - u).sum() * h - entered).abs()) < 1e-13
        u = v


@pytest.mark.parametrize("mean", ["integral", "arithmetic", "harmonic"])
@pytest.mark.parametrize("law", [PorousMedium(1.0), PorousMedium(6.0), Stefan(0.6)])
def test_every_mean_of_the_conductivity_conserves(mean: Any, law: Any) -> None:
    """What leaves the cells is what comes in through a held side, whatever the mean says of inner faces."""
    grid = Grid((60,), (1.0,), boundary=(("dirichlet", "neumann"),), centering="cell")
    step = parabolic(law, grid, 1e-4, conditions={"x-": Value(1.0)}, scheme="explicit", mean=mean)
    assert isinstance(step, DiffusionVolumes)
    u = (1 - grid.coordinates().unsqueeze(0)).square()
    rate = step.rate(u, _Inflow(step, u)).sum() * grid.spacing[0]
    entered = (
        (law.potential(torch.ones(1, 1, 1).double()) - law.potential(u[..., :1])) * 2 / grid.spacing[0]
    )
    assert float((rate - entered).abs()) < 1e-12 * max(1.0, float(entered.abs()))
    closed = parabolic(
        law, grid.__class__((60,), (1.0,), "neumann", centering="cell"), 1e-3, scheme="explicit", mean=mean
    )
    assert float((closed(u) - u).sum().abs()) < 1e-12


@pytest.mark.parametrize("m", [1.0, 3.0])
def test_harmonic_means_lock_the_front(m: float) -> None:
    """Barenblatt's solution from t = 1 to 2: its front moves by cells; with harmonic means it does not move at all."""
    grid, law = Grid((48,), (8.0,), boundary="neumann", origin=-4.0, centering="cell"), PorousMedium(m)
    x = grid.coordinates().unsqueeze(0)
    u = law.barenblatt(x, 1.0)
    places = {}
    for mean in ("integral", "arithmetic", "harmonic"):
        v = parabolic(law, grid, 1.0, scheme="explicit", mean=mean)(u)  # type: ignore[arg-type]
        places[mean] = float(x[0, 0][v[0, 0] > 1e-3 * v.max()].max()) + 0.5 * grid.spacing[0]
    start, end = (float(law.barenblatt_front(t, 1)) for t in (1.0, 2.0))
    assert end - start > 2 * grid.spacing[0]
    assert abs(places["integral"] - end) < 1.5 * grid.spacing[0]
    assert abs(places["arithmetic"] - end) < 1.5 * grid.spacing[0]
    assert places["harmonic"] <= start + 0.5 * grid.spacing[0]


def test_test_values_by_a_recipe_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "stefan_test.yaml"
    file.write_text(
        "base: stefan\nname: stefan_test\nsteps: 2\nsamples: {test: 4}\n"
        "parameters: {threshold: {class_path: Choice, init_args: {values: [0.5, 0.6]}}}\n"
    )
    folder = datasets.generate(load_recipe(file), tmp_path / "out", certificate=False)
    split = datasets.open(folder)["test"]
    stars = split.parameters["threshold"]
    assert set(stars.tolist()) == {0.5, 0.6}
    exact = stefan.exact(split.domain, stars.reshape(-1, 1, 1), 0.004)  # type: ignore[arg-type]
    assert float((split.trajectories().data[:, 2] - exact).abs().mean()) < 2e-3
