"""The recipes after APEBench and PDEBench: their equations, what is exact in them, and the way to their layouts."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

import sciml.datasets as datasets
from sciml import Grid
from sciml.calculus import Spectral
from sciml.datasets.certificate import certify
from sciml.datasets.generate import draw_batch, layout, solve
from sciml.datasets.recipe import known_recipes, load_recipe
from sciml.datasets.recipes import _apebench as ape
from sciml.datasets.recipes._pdebench import TwoWaves, line
from sciml.datasets.recipes.pdebench_incompressible import Pushed, PushedSmoke
from sciml.errors import UserError
from sciml.pdes import (
    Burgers,
    ConservativeBurgers,
    FisherKPP,
    KortewegDeVries,
    KuramotoSivashinsky,
    LinearEquation,
    ScalarBurgers,
)
from sciml.pdes.base import PDE

NAMES = tuple(n for n in known_recipes() if n.startswith(("apebench_", "pdebench_")))

FAST = ("apebench_1d_diff_ks",)

TINY = """
base: {base}
samples: {{train: 2, test: 1}}
shard_size: 2
steps: {steps}
warmup: {warmup}
"""


def tiny(name: str, folder: Path, steps: int = 3, more: str = "") -> Path:
    """The recipe with few samples and steps, as a YAML file."""
    file = folder / f"{name}_tiny.yaml"
    warmup = 3 if load_recipe(name).warmup else 0
    file.write_text(TINY.format(base=name, steps=steps, warmup=warmup) + more)
    return file


@pytest.mark.parametrize(
    "name", [n if n in FAST else pytest.param(n, marks=pytest.mark.slow) for n in NAMES]
)
def test_tiny_sets_have_certificates_and_pass_the_check(name: str, tmp_path: Path) -> None:
    folder = datasets.generate(tiny(name, tmp_path), tmp_path / "out")
    assert json.loads((folder / "certificate.json").read_text())["error"]
    report = datasets.check(folder)
    assert report.ok, str(report)
    assert "recipe" in report.measured["equation"]


# What is known of the numbers


def test_advection_by_difficulty_moves_whole_points(tmp_path: Path) -> None:
    folder = datasets.generate(
        "apebench_1d_diff_adv", tmp_path / "a", {"train": 1, "valid": 0, "test": 1}, certificate=False
    )
    data = datasets.open(folder)
    u = data["test"].trajectories().data
    assert u.shape == (1, 201, 1, 160) and data["train"].frames == 51
    assert torch.equal(u[:, 1:], torch.roll(u[:, :-1], 4, dims=-1))
    plane = datasets.generate(tiny("apebench_2d_diff_adv", tmp_path), tmp_path / "b", certificate=False)
    v = datasets.open(plane)["test"].trajectories().data
    assert torch.equal(v[:, 1:], torch.roll(v[:, :-1], (2, 2), dims=(-2, -1)))


@pytest.mark.parametrize(
    ("name", "decay"),
    [
        # exp(alpha (2 pi i n)^j) with alpha_j = gamma_j/(N^j 2^(j-1)), N = 160.
        ("apebench_1d_diff_diff", lambda n: np.exp(-(4 / (160**2 * 2)) * (2 * np.pi * n) ** 2)),
        ("apebench_1d_diff_hyp_diff", lambda n: np.exp(-(4 / (160**4 * 8)) * (2 * np.pi * n) ** 4)),
        ("apebench_1d_diff_disp", lambda n: np.exp(-1j * (4 / (160**3 * 4)) * (2 * np.pi * n) ** 3)),
        (
            "apebench_1d_diff_adv_diff",
            lambda n: np.exp(-(4 / 160) * 2j * np.pi * n - (4 / (160**2 * 2)) * (2 * np.pi * n) ** 2),
        ),
    ],
)
def test_modes_of_linear_scenarios_follow_their_difficulties(
    name: str, decay: Callable[[np.ndarray], np.ndarray], tmp_path: Path
) -> None:
    folder = datasets.generate(tiny(name, tmp_path, steps=5), tmp_path / "out", certificate=False)
    u = datasets.open(folder)["train"].trajectories().data[:, :, 0].double().numpy()
    modes = np.fft.rfft(u, norm="forward")[:, :, 1:6]
    n = np.arange(1, 6)
    exact = modes[:, :1] * decay(n) ** np.arange(6)[:, None]
    assert np.abs(modes - exact).max() < 3e-8  # single precision of values up to 1


def test_scalar_advection_of_pdebench_moves_its_kinks_exactly(tmp_path: Path) -> None:
    folder = datasets.generate(tiny("pdebench_advection", tmp_path), tmp_path / "a", certificate=False)
    u = datasets.open(folder)["train"].trajectories().data
    assert torch.equal(u[:, 1:], torch.roll(u[:, :-1], 2, dims=-1))  # 0.4 * 0.01 * 500
    between = tiny("pdebench_advection", tmp_path, more="parameters: {beta: 0.1}\n")
    v = datasets.open(datasets.generate(between, tmp_path / "b", certificate=False))["train"]
    w = v.trajectories().data
    assert torch.equal(w[:, 0], u[:, 0])
    assert float((w[:, 2] - torch.roll(w[:, 0], 1, dims=-1)).abs().max()) < 1e-6  # half a point per frame


def test_starts_of_pdebench_have_their_waves() -> None:
    domain, waves = line(500), TwoWaves(rare=0.0)
    assert float(domain.axes()[0][0]) == pytest.approx(1e-3)
    means, tops = [], set()
    for seed in range(40):
        u = waves(domain, 1, torch.Generator().manual_seed(seed))[0]
        modes = torch.fft.rfft(u, norm="forward").abs()
        assert float(modes[9:].max()) < 1e-14
        tops |= set((modes > 1e-9).nonzero().flatten().tolist())
        means.append(float(modes[0]))
    assert tops == {0, 1, 2, 3, 4, 6, 8} and max(means) > 0.1
    whole = [TwoWaves(unit=True)(domain, 1, torch.Generator().manual_seed(seed)) for seed in range(10)]
    for u in whole:
        assert abs(float(u.min())) < 1e-3 and abs(float(u.max()) - 1) < 1e-3
    cut = TwoWaves(rare=1.0)(domain, 1, torch.Generator().manual_seed(0))[0]
    assert float(cut[:25].abs().max()) < 1e-3 and float(cut.abs().max()) > 0.1
    assert float(cut.min()) * float(cut.max()) < 1e-6  # a modulus with one sign


@pytest.mark.parametrize(
    ("general", "known", "dimension"),
    [
        (ape.GeneralScalar(LinearEquation((0, 0, 0.1)), convection=-2.0), ScalarBurgers(0.1, 2.0), 2),
        (ape.GeneralVelocity(LinearEquation((0, 0, 0.1)), -1.0), ConservativeBurgers(0.1), 2),
        (ape.GeneralVelocity(LinearEquation((0, 0, 0.1)), -1.0), Burgers(0.1), 1),
        (ape.GeneralScalar(LinearEquation((2.0, 0, 0.1)), quadratic=-2.0), FisherKPP(0.1, 2.0), 2),
        (
            ape.GeneralScalar(LinearEquation((0, 0, 0, -1.0, -0.1)), convection=-6.0),
            KortewegDeVries(6.0, 1.0, 0.1),
            1,
        ),
        (
            ape.GeneralScalar(LinearEquation((0, 0, -1, 0, -1)), gradient_norm=-1.0),
            KuramotoSivashinsky(integrated=True),
            1,
        ),
    ],
)
def test_general_equations_hold_the_known_ones(general: PDE, known: PDE, dimension: int) -> None:
    grid = Grid((16,) * dimension, (2 * math.pi,) * dimension)
    channels = len(general.channels(dimension))
    u = torch.stack(
        [ape.RandomFourier(3)(grid, channels, torch.Generator().manual_seed(s)) for s in (0, 1)]
    )
    calc = Spectral(grid)
    ours, theirs = general.rhs(u, calc), known.rhs(u, calc)
    assert float((ours - theirs).abs().max()) < 1e-11 * float(theirs.abs().max())
    same = {k.replace("content", "integral").replace("mass", "integral") for k in known.invariants(u, grid)}
    assert set(general.invariants(u, grid)) <= same | {"momentum_x"}


def test_difficulties_become_the_coefficients_of_the_card() -> None:
    """Those that APEBench gives for the same scenarios in physical numbers: 0.25, 0.125 and 3e-4 with dt = 0.1."""
    grid, dt = Grid((160,), (1.0,)), 0.1
    moves = ape.linear(grid, dt, advection_gamma=-4.0)
    assert moves.coefficients[1] == pytest.approx(-0.25)
    front = ape.convection(grid, dt, diffusion_gamma=1.5, convection_delta=-2.0)
    assert front.scale == pytest.approx(-0.125)
    assert front.part.coefficients[2] == pytest.approx(1.5 / (160**2 * 2 * dt))
    flame = ape.nonlinear(grid, 1.0, gradient_norm_delta=-6.0, drag_gamma=0.02)
    assert flame.gradient_norm == pytest.approx(-6 / 160**2) and flame.part.coefficients[0] == 0.02


def test_a_shear_of_force_on_even_smoke_drives_the_known_flow() -> None:
    """u_t = f sin(2 pi y) + nu lap(u) from rest, in a box that closes; between walls, the force has no way along them."""
    n, nu, t = 32, 0.01, 0.5
    grid = Grid((n, n), (1.0, 1.0), boundary="periodic", centering="cell")
    force = torch.sin(2 * math.pi * grid.coordinates()[1])
    u = torch.zeros(1, 5, n, n, dtype=torch.float64)
    u[:, 2], u[:, 3] = 1.0, force
    step = Pushed(PushedSmoke(nu), grid, t, 8)
    out = step(u)
    rate = nu * 4 * n**2 * math.sin(math.pi / n) ** 2  # of the differences, 4 pi^2 nu less a part in 300
    assert torch.allclose(out[0, 0], force * (1 - math.exp(-rate * t)) / rate, atol=2e-5)
    assert torch.equal(out[:, 3:], u[:, 3:]) and float((out[:, 2] - 1).abs().max()) < 1e-12
    nodes = Grid((n, n), (1.0, 1.0))
    v = out.clone()
    v[0, 0] = v[0, 3] = torch.sin(2 * math.pi * nodes.coordinates()[1])
    v[:, 1] = 0.0
    found = PushedSmoke(nu).rhs(v, Spectral(nodes))
    expected = (1 - nu * 4 * math.pi**2) * v[:, 0]
    assert torch.allclose(found[:, 0], expected, atol=1e-10) and float(found[:, 1:].abs().max()) < 1e-10


def test_smoke_in_a_box_stays_and_is_pushed_where_it_is() -> None:
    recipe = load_recipe("pdebench_incompressible")
    assert isinstance(recipe.domain, Grid)
    recipe = replace(recipe, domain=recipe.domain.resized((32, 32)))
    domain, _, _ = layout(recipe)
    parameters, u = draw_batch(recipe, "train", [(0, 0)], domain)
    assert float(u[:, 2:].square().mean(dim=(2, 3)).sub(1).abs().max()) < 0.1
    states = solve(recipe, parameters, u, domain, 4, 4, domain, torch.float64).states[0]
    assert torch.equal(states[-1, 3:], states[0, 3:])
    smoke = states[:, 2].sum(dim=(1, 2))
    assert float((smoke - smoke[0]).abs().max()) < 1e-10 * float(states[0, 2].abs().sum())
    assert float(states[-1, 2].abs().max()) < 1.01 * float(states[0, 2].abs().max())
    none = states[0].clone()
    none[2] = 0.0  # without smoke there is no push, and friction takes all
    still = solve(recipe, parameters, none.unsqueeze(0), domain, 4, 4, domain, torch.float64).states[0]
    energy = still[:, :2].square().sum(dim=(1, 2, 3))
    assert bool((energy.diff() < 0).all())
    assert float((states[-1, :2] - still[-1, :2]).abs().max()) > 0.05


# Scenarios of one's own

OWN = """
base: apebench_1d_diff_burgers
domain: {shape: [64]}
parameters:
  convection_delta: -1.0
  diffusion_gamma: {class_path: Uniform, init_args: {low: 2.0, high: 4.0}}
  dispersion_gamma: 1.0
samples: {train: 2, test: 1}
shard_size: 2
steps: 3
"""


def test_a_scenario_of_ones_own_is_a_base_and_difficulties(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(OWN)
    recipe = load_recipe(file)
    gamma = torch.tensor([2.0, 3.0], dtype=torch.float64)
    stored, _, _ = layout(recipe)
    fine = recipe.equation({"diffusion_gamma": gamma}, recipe.domain_at(4))
    coarse = recipe.equation({"diffusion_gamma": gamma}, stored)
    assert isinstance(fine, ape.GeneralVelocity) and isinstance(coarse, ape.GeneralVelocity)
    assert fine.scale == coarse.scale == pytest.approx(-1 / 64)  # of the stored points, on any grid
    assert torch.allclose(
        torch.as_tensor(fine.part.coefficients[2]).flatten(), gamma / (64**2 * 2), rtol=1e-14
    )
    assert fine.part.coefficients[3] == pytest.approx(1 / (64**3 * 4))
    folder = datasets.generate(file, tmp_path / "out", certificate=False)
    data = datasets.open(folder)
    assert data["train"].trajectories().data.shape == (2, 4, 1, 64)
    assert data.constants == {"convection_delta": -1.0, "dispersion_gamma": 1.0}
    assert datasets.check(folder).ok
    file.write_text(
        OWN.replace("shape: [64]", "shape: [64, 32], lengths: [1.0, 1.0], boundary: periodic, origin: 0.0")
    )
    with pytest.raises(UserError, match="cube of N points a side.*64, 32"):
        layout(load_recipe(file))


def test_a_shorter_time_between_frames_keeps_the_difficulty(tmp_path: Path) -> None:
    half = tiny("apebench_1d_diff_diff", tmp_path, more="dt: 0.5\n")
    u = datasets.open(datasets.generate(half, tmp_path / "a", certificate=False))["train"]
    whole = tiny("apebench_1d_diff_diff", tmp_path, more="dt: 1.0\n")
    v = datasets.open(datasets.generate(whole, tmp_path / "b", certificate=False))["train"]
    assert u.times.tolist() == [0.0, 0.5, 1.0, 1.5]
    assert torch.equal(u.trajectories().data, v.trajectories().data)


# Their layouts


@pytest.mark.parametrize(
    "name", ["apebench_1d_diff_adv_diff", "apebench_1d_diff_kdv", "apebench_2d_diff_burgers"]
)
def test_scenarios_go_to_their_layout_and_back(name: str, tmp_path: Path) -> None:
    file = tiny(name, tmp_path, steps=5)
    made = datasets.open(datasets.generate(file, tmp_path / "a", certificate=False))
    converted = datasets.convert(made.path, tmp_path / "b", "apebench")
    stem = file.stem
    info = json.loads((converted.path / f"{stem}.json").read_text())["info"]
    assert {k: info[k] for k in made.constants} == made.constants
    raw = np.load(converted.path / f"{stem}_train.npy", allow_pickle=False)
    assert raw.dtype == np.float32 and raw.shape[:2] == (2, 6)
    back = datasets.open(converted.path)
    for split in ("train", "test"):
        u, v = (d[split].trajectories() for d in (made, back))
        assert torch.equal(u.data, v.data) and u.channels == v.channels and u.domain == v.domain
    report = datasets.check(converted.path)
    assert report.ok, str(report)
    if name == "apebench_1d_diff_adv_diff":  # told by advection_gamma and diffusion_gamma in the file
        assert "by advection_gamma, diffusion_gamma" in report.measured["equation"]


@pytest.mark.parametrize(
    ("name", "said", "attributes"),
    [
        ("pdebench_advection", "Advection(velocity=0.4), by the attributes beta", {"beta": 0.4}),
        ("pdebench_burgers", "Burgers(viscosity=0.003183", {"Nu": 0.01}),
        (
            "pdebench_reaction_diffusion",
            "FisherKPP(diffusivity=0.5, growth=1.0), by the attributes Nu, rho",
            {"Nu": 0.5, "rho": 1.0},
        ),
    ],
)
def test_scalars_go_to_their_layout_and_are_judged_by_its_attributes(
    name: str, said: str, attributes: dict[str, float], tmp_path: Path
) -> None:
    file = tiny(name, tmp_path, steps=8)
    made = datasets.open(datasets.generate(file, tmp_path / "a", certificate=False))
    converted = datasets.convert(made.path, tmp_path / "b", "pdebench")
    path = converted.path / f"{file.stem}_train.hdf5"
    with h5py.File(path) as stored:
        assert {k: float(stored.attrs[k]) for k in attributes} == attributes
        points = stored["tensor"].shape[-1]
        assert stored["tensor"].shape == (2, 9, points) and len(stored["t-coordinate"]) == 10
        assert stored["x-coordinate"][0] == pytest.approx(0.5 / points)
    back = datasets.open(path)
    assert torch.equal(made["train"].trajectories().data, back["train"].trajectories().data)
    report = datasets.check(path)
    assert report.ok, str(report)
    assert said in report.measured["equation"]
    with h5py.File(path, "r+") as stored:  # as if the equation were another
        key = next(iter(attributes))
        stored.attrs[key] = 2 * attributes[key]
    assert not datasets.check(path).ok


def test_certificates_are_as_small_as_the_scenarios_allow() -> None:
    for name, steps, most in (
        ("apebench_1d_diff_adv_diff", 50, 1e-13),
        ("apebench_1d_diff_burgers", 5, 1e-5),
        ("pdebench_reaction_diffusion", 20, 1e-4),
    ):
        recipe = replace(load_recipe(name), steps=steps, samples={"train": 1}, source=None)
        (error,) = certify(recipe, samples=1)["error"].values()
        assert max(x for x in error["max"] if x is not None) < most
