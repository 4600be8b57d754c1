"""The recipes that come with the package, and how a recipe is found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import sciml.datasets as datasets
from sciml import Grid
from sciml.calculus import Spectral
from sciml.datasets.generate import _sample_equation, draw_batch, layout, solve
from sciml.datasets.recipe import channels_of, known_recipes, load_recipe
from sciml.datasets.recipes.rayleigh_benard import NoisyLayer
from sciml.domains import Mesh, Point
from sciml.errors import UserError
from sciml.pdes import CompressibleEuler, Smoke
from sciml.resample import resample
from sciml.solvers.finite_volume import exact_riemann
from sciml.step import low_faces_of


@pytest.fixture(params=known_recipes())
def recipe(request: pytest.FixtureRequest) -> datasets.Recipe:
    if request.param == "cylinder":
        pytest.importorskip("skfem", reason="the cylinder is solved with scikit-fem, extra 'fem'")
    return load_recipe(request.param)


def test_every_recipe_steps_and_is_reproducible(recipe: datasets.Recipe) -> None:
    domain, fields, inputs = layout(recipe)
    assert recipe.name == Path(str(recipe.source)).stem and recipe.title
    few = replace(recipe, warmup=0)
    parameters, u = draw_batch(few, "train", [(0, 0), (1, 0)], domain)
    assert torch.equal(u, draw_batch(few, "train", [(0, 0), (1, 0)], domain)[1])
    same = all(torch.equal(values[:1], values[1:]) for values in parameters.values())
    assert not (torch.equal(u[0], u[1]) and same)
    if not inputs and recipe.name != "advection":  # which moves by whole cells per frame
        few = replace(few, dt=recipe.dt / 10, substeps=None)
    out = solve(few, parameters, u, domain, 0 if inputs else 1, few.substeps, domain)
    frames = 1 if inputs else 2
    assert out.states.shape == (2, frames, channels_of(fields, domain), *domain.shape)  # type: ignore[union-attr]
    assert bool(torch.isfinite(out.states).all())
    if inputs:
        assert out.inputs is not None and out.inputs.shape[1] == channels_of(inputs, domain)
    else:
        assert float((out.states[:, 1] - out.states[:, 0]).abs().max()) > 1e-6


def test_initial_states_are_functions_and_not_arrays(recipe: datasets.Recipe) -> None:
    """The certificate solves the same sample on a finer domain, so it has to start from the same function."""
    if isinstance(recipe.domain, Point):  # there is nothing finer
        return
    stored, fine = recipe.domain_at(1), recipe.domain_at(2)
    if isinstance(stored, Mesh):
        assert isinstance(fine, Mesh) and fine.shape[0] > 2 * stored.shape[0]
        return
    assert isinstance(stored, Grid) and isinstance(fine, Grid)
    _, fields, inputs = layout(recipe)
    channels = channels_of(inputs or fields, stored)
    a = recipe.draw("train", 0, stored, channels)[1]
    b = recipe.draw("train", 0, fine, channels)[1]
    if stored.centering == "node":
        assert torch.allclose(a, b[(slice(None), *[slice(None, None, 2)] * stored.dimension)], atol=1e-10)
    else:
        step = None if inputs else recipe.solver(_sample_equation(recipe, stored), stored, recipe.dt, None)
        mean = resample(b, fine, stored, low_faces_of(step))
        gap = (a - mean).abs()
        # A point value differs from the mean of its cell by dx^2, and by a jump where there is one.
        assert float(gap.mean()) <= 0.02 * float(a.abs().mean())


def test_advection_moves_by_exactly_four_cells(tmp_path: Path) -> None:
    folder = datasets.generate(
        "advection", tmp_path / "a", {"train": 2, "valid": 0, "test": 1}, certificate=False
    )
    data = datasets.open(folder)
    u = data["test"].trajectories().data
    assert u.shape == (1, 201, 1, 160)
    assert torch.equal(u[:, 1:], torch.roll(u[:, :-1], 4, dims=-1))
    # Five modes, zero mean, largest value of the function one: on 160 points slightly less.
    assert float(u.abs().max()) == pytest.approx(1.0, abs=0.01) and abs(float(u[0, 0].mean())) < 1e-7
    modes = torch.fft.rfft(u[0, 0, 0].double(), norm="forward").abs()
    assert float(modes[6:].max()) < 1e-7 < float(modes[1:6].min())


def test_burgers_fronts_steepen_and_are_resolved(tmp_path: Path) -> None:
    recipe = replace(load_recipe("burgers"), steps=30, samples={"train": 4}, shard_size=4, source=None)
    folder = datasets.generate(recipe, tmp_path / "b", certificate=False)
    u = datasets.open(folder)["train"].trajectories().data[:, :, 0].double()
    slope = (u.diff(dim=-1) * 256).amin(dim=-1)
    assert bool((slope.amin(dim=1) < 2 * slope[:, 0]).all())  # compression sharpens to a front
    spectrum = torch.fft.rfft(u, norm="forward").abs()
    # What lies beyond the 2/3 rule is small also where a front of height two is thinnest, 1.5 cells.
    assert float((spectrum[:, :, 85:].amax(dim=-1) / spectrum.amax(dim=-1)).max()) < 2e-3
    assert bool((u.abs().amax(dim=-1).diff(dim=1) < 1e-3).all())  # maximum principle
    assert float(u.mean(dim=-1).abs().max()) < 1e-7


def test_an_unknown_recipe_names_the_nearest_and_where_all_are(tmp_path: Path) -> None:
    with pytest.raises(
        UserError,
        match=r"no recipe 'burger'. Did you mean 'burgers' or .*\? `sciml list recipes` names all \d+",
    ):
        load_recipe("burger")
    with pytest.raises(UserError, match="does not exist"):
        load_recipe(tmp_path / "missing.py")
    empty = tmp_path / "empty.py"
    empty.write_text("x = 1\n")
    with pytest.raises(UserError, match="does not export RECIPE.*NoneType"):
        load_recipe(empty)
    empty.write_text("def\n")
    with pytest.raises(UserError, match="not valid Python"):
        load_recipe(empty)


def test_a_file_of_the_package_is_the_recipe_of_that_name() -> None:
    by_name = load_recipe("heat")
    assert load_recipe(str(by_name.source)) == by_name


def test_impossible_recipes_are_refused() -> None:
    heat = load_recipe("heat")
    with pytest.raises(ValueError, match="shard_size=0"):
        replace(heat, shard_size=0)
    with pytest.raises(ValueError, match="no steps for split 'valid'"):
        replace(heat, steps={"train": 3, "test": 3})
    with pytest.raises(ValueError, match="dtype 'float16'; expected one of"):
        replace(heat, dtype="float16")
    with pytest.raises(ValueError, match="low < high"):
        datasets.Uniform(1.0, 1.0)
    with pytest.raises(ValueError, match="0 < low < high"):
        datasets.LogUniform(0.0, 1.0)
    with pytest.raises(ValueError, match="at least one"):
        datasets.Choice(())


def test_distributions_stay_in_their_ranges_and_have_their_means() -> None:
    generator = torch.Generator().manual_seed(0)
    n = 4000
    uniform = torch.tensor([datasets.Uniform(2.0, 4.0)(generator) for _ in range(n)])
    logarithm = torch.tensor([datasets.LogUniform(1e-3, 1e1)(generator) for _ in range(n)]).log10()
    choice = torch.tensor([datasets.Choice((1.0, 5.0))(generator) for _ in range(n)])
    # Four standard errors of each mean.
    assert float(uniform.min()) >= 2 and float(uniform.max()) <= 4
    assert float(uniform.mean()) == pytest.approx(3.0, abs=4 * (2 / 12**0.5) / n**0.5)
    assert float(logarithm.mean()) == pytest.approx(-1.0, abs=4 * (4 / 12**0.5) / n**0.5)
    assert set(choice.tolist()) == {1.0, 5.0} and float(choice.mean()) == pytest.approx(
        3.0, abs=4 * 2 / n**0.5
    )
    assert datasets.Constant(7.0)(generator) == 7.0


def _primitive(name: str, split: str, index: int) -> tuple[dict[str, float], torch.Tensor]:
    """Parameters of a sample, and its density, velocity and pressure (1, D + 2, *points)."""
    recipe = load_recipe(name)
    domain, fields, _ = layout(recipe)
    parameters, u = recipe.draw(split, index, domain, channels_of(fields, domain))
    return recipe.constants | parameters, CompressibleEuler(5 / 3).primitive(u.unsqueeze(0))


@pytest.mark.parametrize("name", ["compressible_2d", "compressible_2d_inviscid", "compressible_3d"])
def test_random_gases_start_at_the_mach_number_of_their_sample(name: str) -> None:
    found = set()
    for index in range(4):
        parameters, w = _primitive(name, "train", index)
        speed = w[:, 1:-1].square().sum(dim=1).mean().sqrt()
        # Of the mean fields, whose waves in the logarithm have a deviation of at most 0.2.
        sound = (5 / 3 * w[:, -1].log().mean().exp() / w[:, 0].log().mean().exp()).sqrt()
        assert float(speed / sound) == pytest.approx(parameters["mach"], rel=1e-9)
        found.add(parameters["mach"])
    assert found == ({1.0} if name == "compressible_3d" else {0.1, 1.0})


@pytest.mark.parametrize("name", ["compressible_2d_turbulence", "compressible_3d_turbulence"])
def test_turbulence_starts_without_divergence_at_the_mach_number_of_its_sample(name: str) -> None:
    parameters, w = _primitive(name, "train", 0)
    grid = load_recipe(name).domain_at(1)
    assert isinstance(grid, Grid)
    velocity = w[:, 1:-1]
    # The waves are far longer than cells, so that Fourier differences are exact at the centres as well.
    assert float(Spectral(grid).div(velocity.unsqueeze(1)).abs().max()) < 1e-9
    sound = (5 / 3 * w[0, -1].mean() / w[0, 0].mean()).sqrt()
    assert float(velocity.square().sum(dim=1).mean().sqrt() / sound) == pytest.approx(parameters["mach"])


def test_shock_tubes_of_the_recipe_have_the_exact_waves() -> None:
    recipe = replace(load_recipe("compressible_1d_shock"), steps=20)
    domain, _, _ = layout(recipe)
    assert isinstance(domain, Grid)
    parameters, u = draw_batch(recipe, "train", [(0, 0)], domain)
    gas = CompressibleEuler(5 / 3)
    left, right = (gas.primitive(u[:, :, [i]])[0, :, 0] for i in (0, -1))
    w = gas.primitive(u)[0]
    border = domain.axes()[0][int((w - left[:, None]).abs().sum(dim=0).gt(1e-9).nonzero()[0])]
    t = 0.1
    out = solve(recipe, parameters, u, domain, 10, None, domain, torch.float64).states[0, 10]
    rays = (domain.axes()[0] - border) / t
    exact = gas.conservative(exact_riemann(left.tolist(), right.tolist(), rays, 5 / 3).unsqueeze(0))[0]
    # Shocks and contacts over two or three of 256 cells.
    assert float((out - exact).abs().mean() / exact.abs().mean()) < 0.01


def _short(name: str, shape: tuple[int, ...], **changed: object) -> datasets.Recipe:
    """A recipe on few cells, without warm-up, of two samples."""
    recipe = load_recipe(name)
    assert isinstance(recipe.domain, Grid)
    few: dict[str, object] = {
        "domain": recipe.domain.resized(shape),
        "samples": {"train": 2},
        "shard_size": 2,
    }
    return replace(recipe, warmup=0, substeps=None, source=None, **few | changed)  # type: ignore[arg-type]


def test_smoke_rises_and_stays_in_its_box(tmp_path: Path) -> None:
    recipe = _short("smoke_conditioned", (16, 16), steps=8)
    folder = datasets.generate(recipe, tmp_path / "smoke")
    data = datasets.open(folder)
    u = data["train"].trajectories().data.double()
    smoke, height = u[:, :, 2], recipe.domain_at(1).coordinates()[1]  # type: ignore[union-attr]
    total = smoke.sum(dim=(2, 3))
    # Sums of 256 values kept in float32.
    assert float((total / total[:, :1] - 1).abs().max()) < 1e-6
    mean = (smoke * height).sum(dim=(2, 3)) / total
    assert bool((mean.diff(dim=1) > 0).all())
    assert float(smoke.min()) >= 0.0  # limited fluxes make no new extremes
    step = recipe.solver(Smoke(0.01, buoyancy=0.5), recipe.domain_at(1), 1.5, None)
    assert float(step.divergence(u[:, -1]).abs().max()) < 1e-5  # type: ignore[attr-defined]
    card = (folder / "card.md").read_text()
    assert "Staggered: values on the low faces of the cells, velocity_x along x, velocity_y along y" in card
    assert "buoyancy" in data.parameters


def test_warm_fluid_rises_between_the_plates() -> None:
    recipe = _short("rayleigh_benard", (32, 16), initial=NoisyLayer(noise=0.1), steps=30)
    domain, _, _ = layout(recipe)
    parameters, u = draw_batch(recipe, "train", [(0, 0), (1, 0)], domain)
    out = solve(recipe, parameters, u, domain, 30, None, domain, torch.float64).states
    rising = 0.5 * (out[:, :, 1] + out[:, :, 1].roll(-1, 3))  # on the plates the velocity is zero
    heat = (rising * out[:, :, 2]).mean(dim=(2, 3))
    assert bool((heat[:, 0].abs() < 1e-12).all()) and bool((heat[:, -1] > 0.01).all())
    # Nothing is hotter than the lower plate or colder than the upper one, but for ripples of central fluxes.
    assert float(out[:, :, 2].min()) > -0.1 and float(out[:, :, 2].max()) < 1.1


def test_shear_layers_roll_up_and_their_dye_stays() -> None:
    one = {"reynolds": 2e3, "schmidt": 0.2, "layers": 2.0, "blobs": 1.0, "width": 0.05}
    constants = {name: datasets.Constant(value) for name, value in one.items()}
    recipe = _short("shear_flow", (32, 64), parameters=constants, steps=15)
    domain, _, _ = layout(recipe)
    parameters, u = draw_batch(recipe, "train", [(0, 0), (1, 0)], domain)
    out = solve(recipe, parameters, u, domain, 15, None, domain, torch.float64).states
    across = out[:, :, 1].square().mean(dim=(2, 3)).sqrt()
    # The wave of k w = 0.31 grows like exp(0.19 t/(2 w)) at first: 17 times in 1.5 time units, less what saturates.
    assert bool((across[:, -1] > 4 * across[:, 0]).all())
    dye = out[:, :, 2].mean(dim=(2, 3))
    assert float((dye - 0.5).abs().max()) < 1e-6
    assert float(Spectral(domain).div(out[:, -1, :2].unsqueeze(1)).abs().max()) < 1e-10  # type: ignore[arg-type]


# Recipes as YAML

BASED = """
base: burgers
domain: {shape: [64]}
parameters: {viscosity: {class_path: LogUniform, init_args: {low: 1e-2, high: 3e-2}}}
steps: {train: 3, valid: 3, test: 5}
samples: {train: 4, test: 2}
shard_size: 2
bounds: {velocity: [-2, 2]}
solver: {substeps: 10, order: 3}
"""

STATED = """
title: Heat of my own
pde: {class_path: Heat}
parameters: {diffusivity: 1e-2}
domain: {class_path: Grid, init_args: {shape: [8, 8], lengths: [1.0, 2.0]}}
initial: {class_path: "states.py:Bumps", init_args: {size: 2}}
dt: 0.1
steps: 2
samples: {train: 2}
rejection: leave_out
"""

STATES = """
from dataclasses import dataclass
import torch


@dataclass(frozen=True)
class Bumps:
    size: float = 1.0

    def __call__(self, domain, channels, generator):
        return self.size * torch.rand(channels, *domain.shape, dtype=torch.float64, generator=generator)
"""


def test_a_recipe_in_yaml_starts_from_another_one(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(BASED)
    recipe, base = load_recipe(file), load_recipe("burgers")
    assert recipe.name == "mine" and recipe.pde is base.pde and recipe.dt == base.dt
    assert recipe.domain == Grid((64,), (1.0,)) and recipe.substeps == 10
    assert recipe.parameters["viscosity"] == datasets.LogUniform(1e-2, 3e-2)
    assert recipe.bounds == {"velocity": (-2.0, 2.0)} and recipe.samples == {"train": 4, "test": 2}
    assert recipe.source == str(file) and recipe.parts == (base.source,)
    by_hand = replace(
        base,
        name="mine",
        domain=recipe.domain,
        parameters=recipe.parameters,
        steps=recipe.steps,
        samples=recipe.samples,
        shard_size=2,
        bounds=recipe.bounds,
        substeps=10,
        solver=recipe.solver,
        source=None,
    )
    made = datasets.generate(file, tmp_path / "a", workers=2, certificate=False)
    same = datasets.generate(by_hand, tmp_path / "b", certificate=False)
    u, v = (datasets.open(p)["train"].trajectories().data for p in (made, same))
    assert torch.equal(u, v)
    assert datasets.open(made).recipe is not None
    twice = tmp_path / "twice.yaml"
    twice.write_text("base: mine.yaml\nseed: 3\n")
    assert load_recipe(twice).seed == 3 and load_recipe(twice).parts == (str(file), base.source)
    before = load_recipe(twice).specification()
    file.write_text(BASED + "# changed\n")
    assert load_recipe(twice).specification() != before  # what it stands on counts as well


def test_a_recipe_in_yaml_may_state_everything(tmp_path: Path) -> None:
    (tmp_path / "states.py").write_text(STATES)
    file = tmp_path / "whole.yml"
    file.write_text(STATED)
    recipe = load_recipe(file)
    assert recipe.pde.__name__ == "Heat" and recipe.constants == {"diffusivity": 0.01}  # type: ignore[attr-defined]
    assert recipe.rejection == "leave_out" and recipe.parts == (str(tmp_path / "states.py"),)
    folder = datasets.generate(file, tmp_path / "out", certificate=False)
    u = datasets.open(folder)["train"].trajectories().data
    assert u.shape == (2, 3, 1, 8, 8) and 1.5 < float(u.max()) <= 2.0


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("base: burgers", "base: burger", "no recipe 'burger'. Did you mean 'burgers'"),
        ("base: burgers", "", "has no pde, initial, dt; give them, or start from a recipe with base"),
        ("base: burgers", "base: mine.yaml", "stand on each other more than 8 deep, or in a circle"),
        ("shard_size", "shardsize", "has an entry 'shardsize'. Did you mean 'shard_size'"),
        ("LogUniform", "LogUnifrom", "have no 'LogUnifrom'; did you mean LogUniform"),
        ("low: 1e-2", "lo: 1e-2", "parameters.viscosity, LogUniform: .*lo"),
        ("low: 1e-2", "low: 1.0", "0 < low < high"),
        ("low: 1e-2", "low: little", "little"),
        ("{shape: [64]}", "{shape: [64], length: [2]}", "domain, Grid: .*length"),
        ("{shape: [64]}", "{shape: [64, 64]}", "Grid got 2 sizes"),
        ("order: 3", "orders: 3", "solver has 'orders'; `sciml.solvers.build` takes order, substeps"),
        ("shard_size: 2", "shard_size: two", "shard_size"),
        ("shard_size: 2", "shard_size: 0", "shard_size=0"),
        ("[-2, 2]", "[2, -2]", "expected .low, high. with low < high"),
        ("base: burgers", "base: [burgers", "is not YAML"),
        ("base: burgers", "base: burgers\npde: Burgerz", "have no 'Burgerz'; did you mean .*Burgers"),
        (
            "base: burgers",
            "base: burgers\npde: {class_path: Burgers, init_args: {x: 1}}",
            "Burgers takes visc",
        ),
        ("base: burgers", "base: burgers\ninitial: none.py:Bumps", "initial: there is no file 'none.py'"),
    ],
)
def test_mistakes_in_yaml_are_told(old: str, new: str, message: str, tmp_path: Path) -> None:
    assert BASED.count(old) == 1
    file = tmp_path / "mine.yaml"
    file.write_text(BASED.replace(old, new))
    with pytest.raises(UserError, match=message):
        load_recipe(file)
