"""Datasets of systems without space: states (T, C) through the same files, checks and windows as fields."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import pytest
import torch

import sciml.datasets as datasets
from sciml import Grid
from sciml.datasets.certificate import certify
from sciml.datasets.generate import draw_batch
from sciml.domains import Point
from sciml.errors import UserError
from sciml.odes import HenonHeiles, Lorenz63
from sciml.solvers import build
from sciml.step import rollout

SHIPPED = datasets.load_recipe("lorenz63")
FEW = replace(SHIPPED, warmup=50, steps=20, samples={"train": 3, "test": 2}, shard_size=2, source=None)
FILE = """
from dataclasses import replace
from sciml.datasets.recipes.lorenz63 import RECIPE as SHIPPED

RECIPE = replace(SHIPPED, warmup=50, steps=20, samples={"train": 3, "test": 2}, shard_size=2)
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    (folder / "few.py").write_text(FILE)
    return datasets.generate(folder / "few.py", folder / "lorenz")


def test_a_system_goes_from_recipe_to_windows(made: Path) -> None:
    found = datasets.open(made)
    assert found.domain == Point() and found.channels == ("x", "y", "z")
    assert found.dt == pytest.approx(0.02, abs=1e-15)
    train = found["train"]
    states = train.trajectories().data
    assert states.shape == (3, 21, 3) and states.dtype == torch.float32
    # Each stored frame follows from the one before; the first comes after the warm-up.
    parameters, start = draw_batch(FEW, "train", [(0, 0), (1, 0)], Point())
    path = rollout(build(Lorenz63(), Point(), 0.02, substeps=4), 20)(start)
    assert parameters == {} and float((path - states[:2]).abs().max()) <= 2**-19  # half a digit at |u| < 64
    windows = train.windows(history=1, horizon=2, stride=3)
    assert len(windows) == 3 * (21 - 6)
    batch = windows.__getitems__([0, 20])
    assert batch.shape == (2, 3, 3)
    assert torch.equal(batch[0], states[0, 0:7:3]) and torch.equal(batch[1], states[1, 5:12:3])
    assert torch.equal(windows[0], batch[0])
    # The statistics are those of the states.
    flat = states.double().flatten(0, 1)
    assert torch.allclose(found.stats.mean, flat.mean(dim=0), rtol=1e-12)
    assert torch.allclose(found.stats.std, flat.std(dim=0, correction=0), rtol=1e-12)


def test_the_shipped_recipe_is_on_the_attractor() -> None:
    """Known moments of the attractor: mean z 23.55, deviations 7.92, 9.01 and 8.62 to a few percent."""
    few = replace(SHIPPED, steps=400, samples={"train": 32}, source=None)
    _, start = draw_batch(few, "train", [(i, 0) for i in range(32)], Point())
    path = rollout(build(Lorenz63(), Point(), 0.1, substeps=10), 100)(start).flatten(0, 1)
    assert float(path[:, 2].mean()) == pytest.approx(23.55, abs=0.3)
    assert path.std(dim=0).tolist() == pytest.approx([7.92, 9.01, 8.62], rel=0.03)


def test_its_folder_is_described_checked_and_converted(made: Path, tmp_path: Path) -> None:
    card = (made / "card.md").read_text()
    assert "no space, a system of ordinary differential equations" in card and "x [1] (scalar)" in card
    assert (made / "preview.png").read_bytes()[:4] == b"\x89PNG"
    report = datasets.check(made)
    # Frames are rounded to float32, which one step brings forward.
    assert report.ok and report.measured["defect of train"] < 1e-5
    described = datasets.describe(made)
    assert described["domain"] == {"kind": "point"} and described["splits"]["train"]["state"] == [3]
    with h5py.File(made / "data/train/shard-00000.hdf5") as file:
        assert file.attrs["n_spatial_dims"] == 0 and file["t0_fields/x"].shape == (2, 21)
    again = datasets.convert(made, tmp_path / "again", "native")
    a, b = (datasets.open(p)["train"].trajectories() for p in (made, again))
    assert torch.equal(a.data, b.data) and a.domain == b.domain
    with pytest.raises(UserError, match="this dataset lies on a Point"):
        datasets.convert(made, tmp_path / "bench", "pdebench")


def test_a_changed_frame_is_found(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(made, folder)
    with h5py.File(folder / "data/test/shard-00000.hdf5", "r+") as file:
        file["t0_fields/y"][0, 1] += 1.0
    messages = [f.message for f in datasets.check(folder).findings if f.level == "error"]
    assert any("misses the next stored frame" in m for m in messages)


def test_parameters_per_sample_and_invariants_reach_the_data(tmp_path: Path) -> None:
    recipe = datasets.Recipe(
        name="stars",
        title="Stars in a galaxy",
        pde=HenonHeiles,
        parameters={"coupling": datasets.Uniform(0.5, 1.0)},
        domain=Point(),
        initial=datasets.UsualStates(HenonHeiles()),
        dt=0.5,
        steps=40,
        samples={"train": 4},
        shard_size=4,
    )
    folder = datasets.generate(recipe, tmp_path / "stars")
    found = datasets.open(folder)
    values = found["train"].parameters["coupling"]
    assert len(values.unique()) == 4
    states = found["train"].trajectories().data.double()
    energy = [HenonHeiles(values).hamiltonian(states[:, t]) for t in (0, 40)]
    assert float((energy[1] - energy[0]).abs().max() / energy[0].abs().max()) < 1e-5
    assert found.certificate is not None and found.certificate["invariants"]["energy"]["relative"] < 1e-5
    # One coupling for all is another system.
    other = HenonHeiles(float(values[0])).hamiltonian(states[:, 40]) - energy[1]
    assert float(other[1:].abs().max()) > 1e-5


def test_steps_of_a_tolerance_are_certified_by_a_smaller_one() -> None:
    def loose(pde, domain, dt, substeps):  # type: ignore[no-untyped-def]
        return build(pde, domain, dt, tolerance=1e-4)

    few = replace(FEW, substeps=None, samples={"test": 2})
    found = [certify(replace(few, solver=s)) for s in (loose, few.solver)]
    assert found[0]["reference"] == "steps of an error of 1e-13"
    worst = [max(f["error"]["x"]["max"]) for f in found]
    # 20 stored steps of e^(0.9 t) with errors of 1e-4 and 1e-10 in each.
    assert 1e-7 < worst[0] < 1e-2 and 0 < worst[1] < 1e-7


def test_a_system_on_a_grid_and_a_sample_that_blows_up_are_refused(tmp_path: Path) -> None:
    on_grid = replace(
        FEW, name="on_grid", domain=Grid((8,), (1.0,)), initial=lambda d, c, g: torch.zeros(c, 8)
    )
    with pytest.raises(UserError, match="Lorenz63 on a Grid; it has no space. Use Point"):
        datasets.generate(on_grid, tmp_path / "grid")
    wild = replace(FEW, name="wild", dt=1.0, substeps=1, warmup=0)
    with pytest.raises(
        UserError,
        match=r"blew up in 20 draws.*not finite from step \d+ \(t = \d+\).*\|[xyz]\|.*The substep 1 is too",
    ):
        datasets.generate(wild, tmp_path / "wild")
