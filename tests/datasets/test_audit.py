"""An audit tells right data from wrong ones: by what the checking solver's own errors explain, and by nothing else."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from torch import Tensor

import sciml.datasets as datasets
from sciml import Field, Grid, Trajectory, rollout
from sciml.datasets import survey as survey_module
from sciml.datasets import volume
from sciml.datasets.certificate import _displacement, certify
from sciml.datasets.defect import Verdict, judge
from sciml.datasets.duplicates import Duplicates
from sciml.datasets.equations import Known, known_equation
from sciml.datasets.findings import Collector
from sciml.datasets.histogram import BINS, Histogram
from sciml.datasets.recipe import load_recipe
from sciml.experiments.cli import main
from sciml.fields import RandomFourier
from sciml.pdes import Advection, Burgers, CompressibleEuler, FisherKPP, Heat
from sciml.solvers import build
from sciml.solvers.elliptic import solve_darcy


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A few samples of a recipe, made once."""
    folders: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in folders:
            folders[name] = datasets.generate(
                name,
                tmp_path_factory.mktemp("made") / name,
                {"train": 3, "valid": 0, "test": 0}
                if name != "heat"
                else {"train": 4, "test": 1, "valid": 0},
                certificate=False,
            )
        return folders[name]

    return make


def verdict(folder: Path, change: Callable[[Known], Known] = lambda k: k, split: str = "train") -> Verdict:
    """The judgement of one split, with the equation changed."""
    dataset = datasets.open(folder)
    known, _ = known_equation(dataset)
    assert known is not None
    found = judge(change(known), dataset[split])
    assert isinstance(found, Verdict), found
    return found


def levels(report: datasets.Report, topic: str) -> list[str]:
    return [f"{f.level}: {f.message}" for f in report.findings if f.topic == topic]


# What the solver's own errors explain -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["euler", "burgers", "heat", "advection", "compressible_1d_outflow", "darcy"]
)
def test_recipes_pass_also_where_frames_are_averages_of_a_finer_grid(
    name: str, made: Callable[[str], Path]
) -> None:
    found = verdict(made(name))
    assert found.ok, found.worst
    # Errors of five percent of the change would have shown, at the very least.
    assert found.sharpness < 0.05


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["navier_stokes", "acoustic_scattering", "orszag_tang", "kuramoto_sivashinsky"]
)
def test_recipes_that_take_longer_pass(name: str, made: Callable[[str], Path]) -> None:
    found = verdict(made(name))
    assert found.ok, found.worst
    wrong = verdict(made(name), lambda known: replace(known, dt=1.1 * (known.dt or 0)))
    assert not wrong.ok


def with_parameter(**values: float) -> Callable[[Known], Known]:
    def change(known: Known) -> Known:
        return replace(known, equation=lambda p, d: replace(known.equation(p, d), **values))  # type: ignore[type-var]

    return change


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("euler", with_parameter(gamma=1.54)),
        ("burgers", with_parameter(viscosity=3.3e-3)),
        ("heat", with_parameter(diffusivity=0.055)),
        ("compressible_1d_outflow", with_parameter(gamma=1.1 * 5 / 3)),
        *[
            (name, lambda known: replace(known, dt=1.1 * (known.dt or 0)))
            for name in ("euler", "burgers", "heat", "compressible_1d_outflow")
        ],
        ("burgers", lambda known: replace(known, equation=lambda p, d: Heat(3e-3))),
        ("heat", lambda known: replace(known, equation=lambda p, d: Burgers(0.05))),
    ],
)
def test_a_tenth_off_and_another_equation_fail(
    name: str, change: Callable[[Known], Known], made: Callable[[str], Path]
) -> None:
    found = verdict(made(name), change)
    assert not found.ok and found.worst.excess > 1.5


def test_swapped_frames_fail_and_are_named(tmp_path: Path) -> None:
    states, grid = smooth_paths(3)
    states[2, [6, 7]] = states[2, [7, 6]]
    write(tmp_path, states.float(), grid, 0.05 * torch.arange(13), Heat.fields)
    report = datasets.check(tmp_path, equation=Heat(0.01))
    assert any("frames 6 and 7 look swapped" in m for m in levels(report, "time"))
    assert not report.ok and any("sample 2" in m for m in levels(report, "equation"))


def write(
    folder: Path,
    states: Tensor,
    domain: object,
    times: Tensor,
    fields: tuple[Field, ...],
    split: str = "train",
) -> Path:
    trajectory = Trajectory(states, domain, times, fields)  # type: ignore[arg-type]
    datasets.write_shard(folder / f"data/{split}/a.hdf5", trajectory, name="demo")
    return folder


def test_data_of_unknown_origin_are_held_against_the_equation_that_the_user_states(tmp_path: Path) -> None:
    grid = Grid((128,), (1.0,))
    u0 = torch.stack([RandomFourier(modes=3)(grid, 1, torch.Generator().manual_seed(i)) for i in range(3)])
    states = rollout(build(Burgers(0.01), grid, dt=0.02), 20)(u0)
    write(tmp_path, states.float(), grid, 0.02 * torch.arange(21), Burgers.fields)
    assert datasets.check(tmp_path, equation=Burgers(0.01)).ok
    assert not datasets.check(tmp_path, equation=Burgers(0.011)).ok
    assert not datasets.check(tmp_path, equation=Advection(1.0)).ok
    nothing = datasets.check(tmp_path)
    assert nothing.ok and "--equation" in nothing.measured["equation"]


def test_a_second_order_scheme_on_the_same_points_passes(tmp_path: Path) -> None:
    """Data of another code have errors of their own, which the points allow them."""
    grid = Grid((128,), (1.0,))
    x = grid.axes()[0]
    u = torch.sin(2 * math.pi * x) + 0.5 * torch.cos(6 * math.pi * x)
    frames, h = [u], 1 / 128
    for _ in range(10):
        for _ in range(40):  # Lax-Wendroff at a Courant number of 0.128
            c = 5e-4 / h
            right, left = u.roll(-1), u.roll(1)
            u = u - c / 2 * (right - left) + c * c / 2 * (right - 2 * u + left)
        frames.append(u)
    states = torch.stack(frames)[None, :, None].float()
    write(tmp_path, states, grid, 0.02 * torch.arange(11), (Field("u"),))
    assert datasets.check(tmp_path, equation=Advection(1.0)).ok
    assert not datasets.check(tmp_path, equation=Advection(1.1)).ok


# Files that name their equation -----------------------------------------------------------------------------------


def pdebench(path: Path, tensor: np.ndarray, dt: float, **attributes: float) -> Path:
    """A file of scalars in 1D as PDEBench lays it out: centres of cells on 0..1, one time too many."""
    n = tensor.shape[-1]
    with h5py.File(path, "w") as file:
        file["tensor"] = tensor.astype(np.float32)
        file["x-coordinate"] = ((np.arange(n) + 0.5) / n).astype(np.float32)
        file["t-coordinate"] = (dt * np.arange(tensor.shape[1] + 1)).astype(np.float32)
        for name, value in attributes.items():
            file.attrs[name] = value
    return path


def solved(pde: object, n: int, dt: float, steps: int, u0: Callable[[Tensor], Tensor]) -> np.ndarray:
    """Three samples by our solver in float64, (3, steps + 1, n), at the centres of cells."""
    grid = Grid((n,), (1.0,), origin=0.5 / n)
    x = grid.axes()[0]
    start = torch.stack([u0(x + 0.3 * i)[None] for i in range(3)])
    return rollout(build(pde, grid, dt=dt), steps)(start)[:, :, 0].numpy()  # type: ignore[arg-type]


def growth(u: Tensor) -> Tensor:
    return 0.5 + 0.3 * torch.sin(2 * math.pi * u) + 0.1 * torch.cos(4 * math.pi * u)


def inner(dt: float) -> tuple[float, int]:
    """Length and number of the small steps of about 2.3e-7 that make up one of `dt`."""
    steps = round(dt / 2.3e-7)
    return dt / steps, steps


def float32_reaction(u: np.ndarray, nu: float, rho: float, dt: float, steps: int) -> np.ndarray:
    """Explicit diffusion, then the exact logistic growth of one step, all in float32 like the files in question.

    Over a step of 2.3e-7 the growth is a few roundings, and much of it is lost or made up, depending on the value.
    """
    u = u.astype(np.float32)
    n = u.shape[-1]
    weight, decay = np.float32(nu * dt * n * n), np.exp(np.float32(-rho * dt))
    one = np.float32(1)
    for _ in range(steps):
        wide = np.concatenate([u[..., -1:], u, u[..., :1]], axis=-1)
        u = u + weight * (wide[..., 2:] - 2 * u + wide[..., :-2])
        u = one / (one + decay * (one - u) / u)
    return u


def test_reaction_diffusion_updated_in_float32_is_caught_and_ours_passes(tmp_path: Path) -> None:
    nu, rho, n, dt = 0.5, 1.0, 1024, 1e-3
    ours = solved(FisherKPP(nu, rho), n, dt, 3, growth)
    right = datasets.check(pdebench(tmp_path / "right.hdf5", ours, dt, Nu=nu, rho=rho))
    assert right.ok, str(right)
    assert right.measured["equation"].startswith("FisherKPP(diffusivity=0.5, growth=1.0)")

    frames = [ours[:1, 0].astype(np.float32)]
    for _ in range(3):
        frames.append(float32_reaction(frames[-1], nu, rho, *inner(dt)))
    theirs = np.stack(frames, axis=1)
    wrong = datasets.check(pdebench(tmp_path / "wrong.hdf5", theirs, dt, Nu=nu, rho=rho))
    assert not wrong.ok
    assert any("misses the" in m for m in levels(wrong, "equation"))


@pytest.mark.slow
def test_reaction_diffusion_in_float32_at_full_size_is_wrong_by_tens_of_percent(tmp_path: Path) -> None:
    """1024 points up to t = 0.2: what flat states of 0.45 and 0.75 gain, and what the check says."""
    nu, rho, dt = 0.5, 1.0, 0.01
    start = np.stack([np.full(1024, value) for value in (0.45, 0.75)])
    frames = [start.astype(np.float32)]
    for _ in range(20):
        frames.append(float32_reaction(frames[-1], nu, rho, *inner(dt)))
    theirs = np.stack(frames, axis=1)
    exact = start / (start + (1 - start) * math.exp(-rho * 0.2))
    gained = (theirs[:, -1].mean(axis=1) - start[:, 0]) / (exact - start)[:, 0]
    # Some forty percent too much at the one, nothing at the other.
    assert 1.3 < gained[0] < 1.6 and abs(gained[1]) < 0.05
    assert not datasets.check(pdebench(tmp_path / "wrong.hdf5", theirs, dt, Nu=nu, rho=rho)).ok
    ours = solved(FisherKPP(nu, rho), 1024, dt, 20, growth)
    assert datasets.check(pdebench(tmp_path / "right.hdf5", ours, dt, Nu=nu, rho=rho)).ok


def test_waves_at_twice_the_stated_speed_are_caught(tmp_path: Path) -> None:
    """As in the first release of the advection files."""
    data = solved(Advection(0.8), 128, 0.01, 10, growth)
    assert datasets.check(pdebench(tmp_path / "right.hdf5", data, 0.01, beta=0.8)).ok
    report = datasets.check(pdebench(tmp_path / "wrong.hdf5", data, 0.01, beta=0.4))
    assert not report.ok and report.measured["defect of train"] == pytest.approx(0.5, abs=0.02)


def test_the_viscosity_of_burgers_files_is_divided_by_pi(tmp_path: Path) -> None:
    data = solved(Burgers(0.1 / math.pi), 128, 0.01, 10, growth)
    assert datasets.check(pdebench(tmp_path / "right.hdf5", data, 0.01, Nu=0.1)).ok
    assert not datasets.check(pdebench(tmp_path / "wrong.hdf5", data, 0.01, Nu=0.1 * math.pi)).ok


def test_difficulties_of_apebench_are_an_equation(tmp_path: Path) -> None:
    """A scenario that moves by four cells in each frame, and what says five."""
    start = solved(Advection(1.0), 160, 0.01, 0, growth)[:, 0]
    frames = np.stack([np.roll(start, 4 * t, axis=-1) for t in range(6)], axis=1)[:, :, None]
    for gamma, ok in ((-4.0, True), (-5.0, False)):
        folder = tmp_path / str(ok)
        folder.mkdir()
        np.save(folder / "1d_diff_adv_train.npy", frames.astype(np.float32))
        info = {"num_points": 160, "num_spatial_dims": 1, "advection_gamma": gamma}
        (folder / "1d_diff_adv.json").write_text(json.dumps({"name": "1d_diff_adv", "info": info}))
        report = datasets.check(folder / "1d_diff_adv.json")
        assert report.ok == ok and "advection_gamma" in report.measured["equation"], str(report)


def test_attributes_that_make_no_equation_are_a_note(tmp_path: Path) -> None:
    data = solved(Advection(1.0), 32, 0.01, 4, growth)
    for attributes in ({}, {"Nu": -1.0}, {"beta": math.nan}):
        report = datasets.check(pdebench(tmp_path / "file.hdf5", data, 0.01, **attributes))
        assert report.ok and any("was not checked" in m for m in levels(report, "equation"))


def test_darcy_files_are_solved_again(tmp_path: Path) -> None:
    grid = Grid((32, 32), (1.0, 1.0), boundary="dirichlet", centering="cell")
    generator = torch.Generator().manual_seed(0)
    smooth = RandomFourier(modes=2)(grid.resized((32, 32)), 1, generator)
    a = torch.where(smooth > 0, 1.0, 0.1).double()[None]
    u = solve_darcy(a, 1.0, grid)
    for beta, ok in ((1.0, True), (2.0, False)):
        path = tmp_path / f"2D_DarcyFlow_{beta}.hdf5"
        with h5py.File(path, "w") as file:
            file["nu"], file["tensor"] = a[:, 0].numpy(), u.float().numpy()
            for axis in ("x", "y"):
                file[f"{axis}-coordinate"] = ((np.arange(32) + 0.5) / 32).astype(np.float32)
            file.attrs["beta"] = beta
        report = datasets.check(path)
        assert report.ok == ok, str(report)


def test_gases_stored_by_pressure_and_velocity_are_checked(
    tmp_path: Path, made: Callable[[str], Path]
) -> None:
    data = datasets.open(made("compressible_1d_outflow"))["train"].trajectories()
    gas = CompressibleEuler(5 / 3)
    primitive = torch.stack([gas.primitive(row.double()) for row in data.data]).float()
    grid = data.domain
    assert isinstance(grid, Grid)
    for dt, ok in ((0.01, True), (0.011, False)):
        path = tmp_path / f"1D_CFD_trans_{dt}.hdf5"
        with h5py.File(path, "w") as file:
            for i, name in enumerate(("density", "Vx", "pressure")):
                file[name] = primitive[:, :, i].numpy()
            file["x-coordinate"] = grid.axes()[0].float().numpy()
            file["t-coordinate"] = (dt * np.arange(102)).astype(np.float32)
            file.attrs["eta"] = file.attrs["zeta"] = 1e-8
        assert datasets.check(path, datasets.Hints(boundary="outflow")).ok == ok


# Values -----------------------------------------------------------------------------------------------------------


def test_histograms_count_exactly_whatever_the_order() -> None:
    generator = np.random.default_rng(0)
    values = np.concatenate([generator.normal(size=5000), 1e3 * generator.normal(size=50), [0.0, -7e4]])
    several = []
    for order in (
        np.arange(len(values)),
        np.argsort(values),
        np.argsort(-values),
        generator.permutation(len(values)),
    ):
        found = Histogram()
        for part in np.array_split(values[order].astype(np.float32), 37):
            found.add(part)
        edges, counts = found.edges, np.array(found.as_dict()["counts"])
        assert len(counts) <= BINS and counts.sum() == len(values)
        expected, _ = np.histogram(values.astype(np.float32).astype(np.float64), edges)
        assert np.array_equal(counts, expected)
        several.append(edges)
    assert all(len(edges) > 20 for edges in several)


def test_pieces_of_any_size_show_the_same(
    made: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = datasets.check(made("euler"))
    monkeypatch.setattr(survey_module, "PIECE", 4 * 3 * 256 * 7)  # seven frames
    parts = datasets.check(made("euler"))
    assert whole.as_dict() == parts.as_dict()


def smooth_paths(count: int, seed: int = 0) -> tuple[Tensor, Grid]:
    grid = Grid((64,), (1.0,))
    generator = torch.Generator().manual_seed(seed)
    u0 = torch.stack([RandomFourier(modes=5)(grid, 1, generator) for _ in range(count)])
    return rollout(build(Heat(0.01), grid, dt=0.05), 12)(u0), grid


def test_near_duplicates_are_told_by_what_was_done_to_them(tmp_path: Path) -> None:
    states, grid = smooth_paths(8)
    times = 0.05 * torch.arange(13)
    write(tmp_path, states.float(), grid, times, Heat.fields)
    leaked = torch.stack(
        [
            states[0].roll(17, dims=-1),
            -2.5 * states[1],
            states[2].half().double(),
            3 * states[3].roll(5, dims=-1),
            smooth_paths(1, seed=9)[0][0],
        ]
    )
    write(tmp_path, leaked.float(), grid, times, Heat.fields, "test")
    found = levels(datasets.check(tmp_path), "duplicates")
    assert len(found) == 4, found
    for text in (
        "train[0] shifted by (17,) points",
        "train[1] times -2.5",
        "train[2] but for rounding",
        "train[3] shifted by (5,) points and times 3",
    ):
        assert sum(text in line for line in found) == 1, (text, found)


def test_equal_starts_with_other_parameters_are_no_duplicates(tmp_path: Path) -> None:
    states, grid = smooth_paths(2)
    states[1, 0] = states[0, 0]
    write(tmp_path, states.float(), grid, 0.05 * torch.arange(13), Heat.fields)
    found = levels(datasets.check(tmp_path), "duplicates")
    assert found == ["warning: starts exactly as train[0] and goes on otherwise, with the same parameters"]


def test_a_frame_that_does_not_belong_is_a_jump(tmp_path: Path) -> None:
    states, grid = smooth_paths(3)
    states[1, 6] = states[2, 0]
    write(tmp_path, states.float(), grid, 0.05 * torch.arange(13), Heat.fields)
    report = datasets.check(tmp_path)
    jumps = [f for f in report.findings if "the state changes" in f.message]
    assert {f.where for f in jumps} == {"train[1]"} and "from frame 5 to 6" in jumps[0].message
    # What looks unusual is where the equation is tested.
    stated = datasets.check(tmp_path, equation=Heat(0.01))
    assert any("sample 1" in m for m in levels(stated, "equation"))


def test_sound_paths_have_no_findings(tmp_path: Path) -> None:
    states, grid = smooth_paths(4)
    write(tmp_path, states.float(), grid, 0.05 * torch.arange(13), Heat.fields)
    report = datasets.check(tmp_path, equation=Heat(0.01))
    assert report.ok and all(
        f.level == "note" or f.topic in ("files", "statistics") for f in report.findings
    )


def test_many_findings_of_one_kind_are_counted(tmp_path: Path) -> None:
    data = solved(Advection(1.0), 16, 0.01, 3, growth).repeat(20, axis=0)
    data[:, 2, 5] = np.nan
    report = datasets.check(pdebench(tmp_path / "file.hdf5", data, 0.01, beta=1.0))
    values = levels(report, "values")
    assert len(values) == 11 and values[-1] == "error: 50 more: values are not finite"


def test_what_cannot_be_read_is_an_error_and_not_a_crash() -> None:
    class Broken:
        shape = (2, 3, 1, 8)

        def parts(self) -> list[tuple[slice, np.ndarray]]:
            raise OSError("a filter returned failure")

    split = datasets.Split("train", (Field("u"),), (Broken(),), (Grid((8,), (1.0,)),), (torch.arange(3.0),))
    collector = Collector()
    found = survey_module.survey(split, collector, Duplicates(collector))
    assert not found.finite
    assert [f.message for f in collector.results()] == 2 * [
        "its values cannot be read: a filter returned failure"
    ]


def test_uneven_and_backward_times_are_told(tmp_path: Path) -> None:
    data = solved(Advection(1.0), 16, 0.01, 4, growth)
    path = pdebench(tmp_path / "file.hdf5", data, 0.01, beta=1.0)
    with h5py.File(path, "a") as file:
        file["t-coordinate"][3] = 0.035
    assert any("not evenly spaced" in m for m in levels(datasets.check(path), "time"))
    with h5py.File(path, "a") as file:
        file["t-coordinate"][3] = 0.005
    report = datasets.check(path)
    assert not report.ok and any("do not grow" in m for m in levels(report, "time"))


def test_spectra_that_do_not_fall_are_told(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(2, 4, 1, 64, generator=generator)
    write(tmp_path, states, Grid((64,), (1.0,)), torch.arange(4.0), (Field("u"),))
    found = levels(datasets.check(tmp_path), "resolution")
    assert any("hardly resolve" in line for line in found)


# What is kept with generated data ---------------------------------------------------------------------------------


def test_the_certificate_parts_the_error_into_time_and_space() -> None:
    recipe = replace(load_recipe("burgers"), steps=10, source=None, substeps=1)
    found = certify(recipe)
    time, space, whole = (
        found["parts"]["time"]["velocity"]["max"][-1],
        found["parts"]["space"]["velocity"]["max"][-1],
        found["error"]["velocity"]["max"][-1],
    )
    assert time > 0 and space > 0 and whole <= 1.001 * (time + space)
    # One step of ETDRK4 in place of five: sixteen times and more for each halving.
    finer = certify(replace(recipe, substeps=2))["parts"]["time"]["velocity"]["max"][-1]
    assert time > 8 * finer
    assert 1e-9 < found["float32"]["velocity"]["max"][-1] < 1e-4


def test_a_shifted_pattern_is_recognised_as_displaced() -> None:
    grid = Grid((64, 64), (1.0, 1.0))
    x, y = grid.coordinates()

    def pattern(dx: float, dy: float) -> Tensor:
        wave = torch.sin(2 * math.pi * (x - dx)) * torch.cos(4 * math.pi * (y - dy))
        return wave[None, None]

    found = _displacement(pattern(0.4 / 64, -0.3 / 64), pattern(0.0, 0.0), (Field("u"),), grid)["u"]
    assert found["share"] > 0.99 and found["points"] == pytest.approx(0.5, rel=0.02)
    noise = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = _displacement(pattern(0.0, 0.0) + 0.01 * noise, pattern(0.0, 0.0), (Field("u"),), grid)["u"]
    assert found["share"] < 0.05


def test_what_cleans_a_divergence_is_measured_by_the_field_it_acts_on() -> None:
    recipe = load_recipe("orszag_tang")
    small = replace(
        recipe,
        domain=replace(recipe.domain, shape=(16, 16)),
        steps=2,
        source=None,
        shard_size=2,  # type: ignore[type-var]
    )
    found = certify(small)
    assert set(found["scales"]) == {"cleaning"} and found["scales"]["cleaning"] > 0.1
    errors = {name: max(e["max"]) for name, e in found["error"].items()}
    # Beside itself it would be wrong by its whole size; as an error of the magnetic field it is one among others.
    assert errors["cleaning"] < errors["magnetic"] * 3


def test_generated_data_carry_their_audit(tmp_path: Path) -> None:
    folder = datasets.generate("heat", tmp_path / "heat", {"train": 4, "valid": 0, "test": 1})
    audit = json.loads((folder / "audit.json").read_text())
    assert audit["ok"] and audit["findings"] == []
    assert set(audit["audit"]) == {"train", "test"}
    entry = audit["audit"]["train"]
    assert {"values", "spectra", "gaps", "drift_of_means", "drift_of_invariants"} <= set(entry)
    assert sum(entry["values"]["temperature"]["counts"]) == 4 * 21 * 64
    assert (folder / "audit.png").stat().st_size > 10_000
    card = (folder / "card.md").read_text()
    assert (
        "## What its values show" in card
        and "0 errors and 0 warnings" in card
        and "in float32 differs" in card
    )


def box_of_waves(folder: Path) -> Path:
    grid = Grid((16, 12, 10), (1.0, 1.0, 1.0))
    x, y, z = grid.coordinates()
    frames = [torch.sin(2 * math.pi * (x - 0.1 * t)) * torch.cos(2 * math.pi * y) + z for t in range(4)]
    return write(folder, torch.stack(frames)[None, :, None].float(), grid, torch.arange(4.0), (Field("u"),))


def test_volumes_are_drawn_by_pyvista_in_another_process(tmp_path: Path) -> None:
    pytest.importorskip("pyvista", reason="volumes are drawn by pyvista, extra 'report3d'")
    from matplotlib.image import imread

    picture = imread(datasets.plot(box_of_waves(tmp_path), tmp_path / "p.png"))
    assert picture.shape[0] >= 400 and picture.shape[1] > 1000
    colours = np.unique((picture[..., :3].reshape(-1, 3) * 255).astype(int), axis=0)
    assert len(colours) > 100


@pytest.mark.parametrize("why", ["missing", "crash", "hang"])
def test_volumes_fall_back_to_slices(why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever happens to the process that draws, there is a picture."""
    if why == "missing":
        monkeypatch.setattr(volume, "find_spec", lambda name: None)
    else:
        script = "import os; os.abort()" if why == "crash" else "import time; time.sleep(60)"
        run = subprocess.run
        monkeypatch.setattr(volume, "SECONDS", 0.5)
        monkeypatch.setattr(volume, "find_spec", lambda name: object())
        monkeypatch.setattr(
            volume.subprocess, "run", lambda words, **more: run([sys.executable, "-c", script], **more)
        )
    picture = datasets.plot(box_of_waves(tmp_path), tmp_path / "p.png")
    assert picture.stat().st_size > 10_000 and not list(tmp_path.glob("*.part"))


# The command ------------------------------------------------------------------------------------------------------


def test_the_command_takes_an_equation_and_draws(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    states, grid = smooth_paths(2)
    write(tmp_path, states.float(), grid, 0.05 * torch.arange(13), Heat.fields)
    words = ["check", str(tmp_path), "--equation", "Heat", "--equation.diffusivity"]
    assert main([*words, "0.01", "--plot"]) == 0
    assert (tmp_path / "audit.png").is_file()
    assert "gap to the equation" in capsys.readouterr().out
    assert main([*words, "0.02", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] is False and told["measured"]["judgement of train"]["gap"] > 0.2
    spelt = "{class_path: sciml.pdes.Heat, init_args: {diffusivity: 0.01}}"
    assert main(["check", str(tmp_path), "--equation", spelt]) == 0
    for words, text in (
        (["--equation", "Het"], "did you mean Heat"),
        (["--equation", "Heat", "--equation.viscosity", "1"], "no argument 'viscosity'"),
        (["--equation", "FNO"], "no equation"),
        (["--equation.viscosity", "1"], "without --equation"),
        (["--equation", "NavierStokes"], "space axes"),
        (["--equation", "GrayScott"], "channels"),
        (["--equation", "Darcy"], "does not fit"),
    ):
        capsys.readouterr()
        assert main(["check", str(tmp_path), *words]) == 2
        assert text in capsys.readouterr().err, text
