"""Conversions: from everything to everything that can hold it, whole folders or none, in bounded memory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
import yaml

import sciml.datasets as datasets
from sciml import Cloud, Field, Grid, Mesh, Point, Trajectory
from sciml.datasets import Dataset, Hints, Pairs, Split
from sciml.datasets.blocks import ArrayBlock
from sciml.datasets.convert import convert, write_native
from sciml.errors import UserError

FORMATS = (
    "native",
    "the_well",
    "pdebench",
    "apebench",
    "poseidon",
    "meshgraphnets",
    "lagrangebench",
    "zarr",
    "vtk",
)


# Sources -------------------------------------------------------------------------------------------------------


def block(generator: torch.Generator, *shape: int) -> ArrayBlock:
    return ArrayBlock(torch.randn(shape, generator=generator).numpy())


def source(kind: str, folder: Path) -> Dataset:
    """A native dataset of two or three splits, with awkward times, a parameter of the samples and a constant."""
    generator = torch.Generator().manual_seed(sum(kind.encode()))
    gas = (Field("density", "kg/m^3"), Field("pressure", "Pa"), Field("velocity", "m/s", 1))
    smoke = (Field("velocity", "m/s", 1), Field("smoke"))
    cells: dict[str, Any] = {"centering": "cell", "origin": -1 / 3}
    domains: dict[str, tuple[Any, tuple[Field, ...]]] = {
        "line": (Grid((16,), (2 / 3,)), (Field("u", "m/s"),)),
        "gas": (Grid((6, 4), (1.0, 0.3), **cells), gas),
        "gas3d": (Grid((4, 3, 2), (1.0, 2.0, 3.0), "outflow", **cells), gas),
        "smoke": (Grid((6, 4), (1.0, 0.3), (("wall", "wall"), ("inflow", "outflow")), **cells), smoke),
        "heat3d": (Grid((4, 3, 2), (1.0, 2.0, 3.0), "neumann"), (Field("temperature", "K"),)),
        "stress": (
            Grid((5, 4), (1.0, 1.0), "dirichlet"),
            (Field("s", "Pa", 2), Field("w"), Field("n", rank=1)),
        ),
        "cube": (Grid((4, 4), (1.0, 1.0)), (Field("a"), Field("b"), Field("c"), Field("d"))),
        "point": (Point(), (Field("x"), Field("y"))),
        "particles": (
            Cloud(((0.0, 1.0), (0.0, 1 / 3)), (True, False), torch.tensor([0, 0, 1, 2, 0])),
            (Field("velocity", "m/s", 1), Field("position", "m", 1)),
        ),
        "mesh": (_mesh(), (Field("velocity", "m/s", 1), Field("pressure", "Pa"))),
    }
    splits: dict[str, Split | Pairs] = {}
    for name, samples in (("train", 3), ("valid", 1), ("test", 2)):
        parameters = {"nu": torch.rand(samples, dtype=torch.float64, generator=generator)}
        if kind == "pairs":
            grid = Grid((6, 5), (1.0, 0.5), "dirichlet")
            blocks = [(block(generator, samples, 1, 1, 6, 5),) for _ in range(2)]
            fields = (Field("coefficient", "m^2/s"),), (Field("solution", "K"),)
            splits[name] = Pairs(name, *fields, *blocks, grid, parameters)  # type: ignore[arg-type]
            continue
        domain, stored = domains[kind]
        channels = sum(domain.dimension**f.rank for f in stored)
        points = (5,) if kind == "particles" else domain.shape
        # Poseidon's layout has one length for all splits, and the others each their own.
        frames = 4 if kind in ("smoke", "cube") or name != "test" else 7
        times = torch.arange(frames, dtype=torch.float64) * (1 / 3)
        data = block(generator, samples, frames, channels, *points)
        splits[name] = Split(name, stored, (data,), (domain,), (times,), parameters)
    made = Dataset(Path("memory"), kind, "memory", splits, {"gamma": 1.4, "beta": 1 / 3})
    write_native(made, folder, lambda done: None)
    return datasets.open(folder)


def _mesh() -> Mesh:
    points = torch.tensor([[0, 0], [1, 0], [1, 1], [0, 1], [1 / 3, 0.5]], dtype=torch.float64)
    cells = torch.tensor([[0, 1, 4], [1, 2, 4], [2, 3, 4], [3, 0, 4]])
    return Mesh(points, cells, torch.tensor([6, 4, 5, 6, 0]))


def same(a: Dataset, b: Dataset) -> None:
    """Every bit of values, times and parameters; names, units, ranks, constants and domains."""
    assert list(a.splits) == list(b.splits)
    assert {k: float(v) for k, v in a.constants.items()} == {k: float(v) for k, v in b.constants.items()}
    for name in a.splits:
        one, two = a[name], b[name]
        assert len(one) == len(two) and one.fields == two.fields, (one.fields, two.fields)
        assert set(one.parameters) == set(two.parameters)
        assert all(torch.equal(one.parameters[p], two.parameters[p]) for p in one.parameters)
        if isinstance(one, Pairs):
            assert one.input_fields == two.input_fields and one.domain == two.domain
            assert torch.equal(one.inputs, two.inputs) and torch.equal(one.targets, two.targets)
            continue
        for i in range(len(one)):
            assert torch.equal(one[i].data, two[i].data) and torch.equal(one.times_of(i), two.times_of(i))
            here, there = one.domain_of(i), two.domain_of(i)
            if isinstance(here, Mesh) and isinstance(there, Mesh):
                assert torch.equal(here.points, there.points) and torch.equal(here.cells, there.cells)
                assert torch.equal(here.types, there.types)
            else:
                assert here == there


# What can be held, and what must be said of it (a part of a note) or is the reason to refuse.
GRID_ONLY = "lies on a (Mesh|Cloud|Point)|trajectories on meshes|trajectories of particles|no space"
HELD: Mapping[str, Mapping[str, str]] = {
    "line": {
        "the_well": "",
        "pdebench": "exact times",
        "apebench": "names, units and sides",
        "zarr": "exact box",
    },
    "gas": {"the_well": "", "pdebench": "exact times", "zarr": "exact box"},
    "gas3d": {"the_well": "", "pdebench": "exact times", "zarr": "exact box"},
    "smoke": {
        "the_well": "inflow as open",
        "pdebench": "exact times",
        "poseidon": "128 x 128",
        "zarr": "exact box",
    },
    "heat3d": {"the_well": "neumann as wall", "zarr": "exact box"},
    "stress": {"the_well": "dirichlet as wall", "pdebench": "(t, y, x, v)", "zarr": "exact box"},
    "cube": {
        "the_well": "",
        "pdebench": "24 of them",
        "apebench": "'sides'",
        "poseidon": "21 frames",
        "zarr": "",
    },
    "pairs": {
        "the_well": "dirichlet as wall",
        "pdebench": "exact times",
        "poseidon": "128 x 128",
        "zarr": "exact box",
    },
    "mesh": {"meshgraphnets": "lies in a folder 'test'"},
    "particles": {"lagrangebench": "'train' alone"},
    "point": {},
}
REFUSED = "|".join(
    (
        "trajectories on meshes",
        "trajectories of particles",
        "fields on grids",
        "lies on a (Mesh|Cloud|Point)",
        "one periodic grid",
        "on a grid in 2D",
        "static pairs",
        "density, pressure and velocity only",
        "has no space",
        "differ in their grid or times",
    )
)


def _no_picture(path: Any, out: Path, hints: Hints | None = None) -> Path:
    out.write_bytes(b"")
    return out


@pytest.fixture(autouse=True)
def quick(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes most of the time of a small conversion; one test does it."""
    if "complete_dataset" not in request.node.name:
        monkeypatch.setattr("sciml.datasets.inspection.plot", _no_picture)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Dataset]:
    folder = tmp_path_factory.mktemp("sources")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sciml.datasets.inspection.plot", _no_picture)
        return {kind: source(kind, folder / kind) for kind in HELD}


@pytest.mark.parametrize("kind", HELD)
def test_what_fits_comes_back_bit_for_bit_and_the_rest_is_refused(
    made: dict[str, Dataset], tmp_path: Path, kind: str
) -> None:
    native = made[kind]
    report = datasets.check(native.path)
    assert report.ok, str(report)
    for to in FORMATS:
        there = tmp_path / to
        if to in ("native", "vtk"):
            continue
        if to not in HELD[kind]:
            with pytest.raises(UserError, match=REFUSED):
                convert(native.path, there, to)
            assert list(tmp_path.glob(f"{to}*")) == []  # refused before anything was written
            continue
        steps: list[tuple[int, int]] = []
        found = convert(native.path, there, to, progress=lambda *done, steps=steps: steps.append(done))
        assert found.path == there and found.samples == {"train": 3, "valid": 1, "test": 2}
        assert steps[0] == (0, 6) and steps[-1] == (6, 6) and sorted(steps) == steps
        assert (
            not HELD[kind][to] or any(HELD[kind][to] in note for note in found.notes) or to == "apebench"
        ), found
        same(native, datasets.open(there))
        back = convert(there, tmp_path / f"{to}-back", "native")
        same(native, datasets.open(back))
        assert not list(tmp_path.rglob("*.part"))
        said = json.loads((there / "conversion.json").read_text())
        assert said["format"] == to and said["complete"] and said["notes"] == list(found.notes)


def test_the_native_copy_is_a_complete_dataset(made: dict[str, Dataset], tmp_path: Path) -> None:
    for kind in ("line", "pairs", "mesh", "particles", "point"):
        found = convert(made[kind].path, tmp_path / kind, "native")
        report = datasets.check(found)
        assert report.ok and not [f for f in report.findings if "SHA" in f.message], str(report)
        again = datasets.open(found)
        assert again.kind == "native" and again.name == kind
        same(made[kind], again)
        assert sorted(p.name for p in (tmp_path / kind).iterdir()) == sorted(
            ("card.md", "conversion.json", "data", "manifest.json", "preview.png", "stats.yaml")
        )
        assert "| train | 3 |" in (tmp_path / kind / "card.md").read_text()
        shard = next((tmp_path / kind / "data/train").iterdir())
        content = bytearray(shard.read_bytes())
        content[-1] ^= 1
        shard.write_bytes(content)
        assert not datasets.check(found).ok


def test_what_is_known_of_a_recipe_goes_with_its_values(tmp_path: Path) -> None:
    recipe = datasets.load_recipe("heat")
    datasets.generate(recipe, tmp_path / "heat", samples={"train": 2, "valid": 1, "test": 1})
    found = datasets.open(convert(tmp_path / "heat", tmp_path / "copy", "native"))
    assert found.recipe is not None and found.certificate == datasets.open(tmp_path / "heat").certificate
    report = datasets.check(tmp_path / "copy")
    assert report.ok and any("defect" in key for key in report.measured)


# From files that do not say all ------------------------------------------------------------------------------


def test_what_a_source_lacks_is_asked_for_and_then_reported(tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal((4, 3, 2, 8, 8)).astype("f4")
    np.save(tmp_path / "runs.npy", values)
    for to in ("native", "the_well", "poseidon"):
        with pytest.raises(UserError, match="does not say"):
            convert(tmp_path / "runs.npy", tmp_path / to, to)  # type: ignore[arg-type]
    hints = Hints(
        axes="ntcxy",
        lengths=(1.0, 1.0),
        boundary="neumann",
        centering="cell",
        dt=0.5,
        fields=(Field("velocity", "m/s", 1),),
        split=(0.5, 0.25, 0.25),
    )
    found = convert(tmp_path / "runs.npy", tmp_path / "out", "native", hints)
    assert found.samples == {"train": 2, "valid": 1, "test": 1}
    said = json.loads((tmp_path / "out/conversion.json").read_text())
    assert said["hints"]["boundary"] == "neumann" and said["hints"]["fields"] == [
        {"name": "velocity", "unit": "m/s", "rank": 1}
    ]
    assert any("drawn into 2 train" in note for note in found.notes) and datasets.check(found).ok
    stored = sorted(
        datasets.open(found)[s][i].data.sum().item() for s, n in found.samples.items() for i in range(n)
    )
    assert stored == pytest.approx(sorted(values.reshape(4, -1).sum(axis=1).tolist()), rel=1e-4)


def test_several_files_of_arrays_are_one_dataset(tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal((3, 5, 1, 16)).astype("f4")
    for i, array in enumerate(values):
        np.save(tmp_path / f"run-{i}.npy", array)
    hints = Hints(
        axes="tcx", lengths=(1.0,), boundary="periodic", centering="node", dt=0.1, fields=(Field("u"),)
    )
    paths = sorted(tmp_path.glob("run-*.npy"))
    for number, given in enumerate((paths, str(tmp_path / "run-*.npy"))):
        found = convert(given, tmp_path / str(number), "native", hints)
        assert np.array_equal(datasets.open(found)["train"].trajectories().data.numpy(), values)


def test_there_and_back_through_pdebench(tmp_path: Path) -> None:
    grid = Grid((16,), (2.0,), "periodic", centering="cell")
    data = torch.randn(4, 5, 1, 16, generator=torch.Generator().manual_seed(0))
    times = torch.arange(5, dtype=torch.float64) * 0.25
    trajectory = Trajectory(data, grid, times, (Field("u"),))
    datasets.write_shard(tmp_path / "a/data/train/0.hdf5", trajectory, name="wave", constants={"beta": 0.4})
    convert(tmp_path / "a", tmp_path / "b", "pdebench")
    there = tmp_path / "b/wave_train.hdf5"
    with h5py.File(there) as file:
        assert file["tensor"].shape == (4, 5, 16) and len(file["t-coordinate"]) == 6
    convert(there, tmp_path / "c", "native")
    back = datasets.open(tmp_path / "c")
    assert torch.equal(back["train"].trajectories().data, data) and back.constants == {"beta": 0.4}
    assert back.domain == grid and back.dt == pytest.approx(0.25)
    assert yaml.safe_load((tmp_path / "c/stats.yaml").read_text())["std"]["u"] == pytest.approx(
        float(data.double().std(correction=0)), rel=1e-12
    )


def test_conserved_variables_become_primitive_ones(tmp_path: Path) -> None:
    grid = Grid((8,), (1.0,), "outflow", centering="cell")
    density, velocity, pressure = 2.0, 3.0, 5.0
    energy = pressure / 0.4 + 0.5 * density * velocity**2
    state = torch.tensor([density, density * velocity, energy]).reshape(1, 1, 3, 1).expand(2, 3, 3, 8)
    fields = (Field("density"), Field("momentum", rank=1), Field("energy"))
    trajectory = Trajectory(state, grid, torch.arange(3, dtype=torch.float64), fields)
    datasets.write_shard(tmp_path / "a/data/train/0.hdf5", trajectory, name="gas", constants={"gamma": 1.4})
    convert(tmp_path / "a", tmp_path / "b", "pdebench")
    found = datasets.open(tmp_path / "b/gas_train.hdf5", Hints(boundary="outflow"))
    assert found["train"][0].data[0, 0, :, 0].tolist() == pytest.approx(
        [density, pressure, velocity], rel=1e-6
    )


def test_static_pairs_of_tensors_are_converted(tmp_path: Path) -> None:
    x = torch.randn(6, 8, 8, generator=torch.Generator().manual_seed(0)) > 0
    torch.save({"x": x, "y": x.float() * 2}, tmp_path / "darcy_train_8.pt")
    convert(tmp_path / "darcy_train_8.pt", tmp_path / "out", "native")
    found = datasets.open(tmp_path / "out")
    assert found.static and torch.equal(found["train"].targets, 2 * x[:, None].float())
    assert "no coordinates" in (tmp_path / "out/conversion.json").read_text()
    convert(tmp_path / "out", tmp_path / "bench", "pdebench")
    with h5py.File(next((tmp_path / "bench").glob("*.hdf5"))) as file:
        assert np.array_equal(file["nu"][()], x.numpy()) and file["tensor"].shape == (6, 1, 8, 8)


# For looking at -----------------------------------------------------------------------------------------------


def test_frames_for_paraview_hold_the_values_in_their_places(
    made: dict[str, Dataset], tmp_path: Path
) -> None:
    pyvista = pytest.importorskip("pyvista")
    for kind in ("line", "gas", "gas3d", "mesh", "particles", "pairs"):
        found = convert(made[kind].path, tmp_path / kind, "vtk")
        assert any("units" in note for note in found.notes)
        split = made[kind]["train"]
        listed = pyvista.get_reader(str(tmp_path / kind / "train/sample-00002.pvd"))
        if isinstance(split, Pairs):
            drawn, domain = listed.read()[0], split.domain
            state = torch.cat(split[2])
            fields = (*split.input_fields, *split.fields)
        else:
            times, domain = split.times.tolist(), split.domain
            assert listed.time_values == pytest.approx(times, abs=0)
            listed.set_active_time_value(listed.time_values[3])
            drawn = listed.read()[0]
            state, fields = split[2].data[0, 3], split.fields
        cells = isinstance(domain, Grid) and domain.centering == "cell"
        arrays, start = drawn.cell_data if cells else drawn.point_data, 0
        for f in fields:
            count = domain.dimension**f.rank
            stored = np.asarray(arrays[f.name])
            assert stored.dtype == np.float32
            for i in range(count):
                column = stored[:, i] if stored.ndim == 2 else stored
                wanted = state[start + i].numpy()
                assert np.array_equal(
                    column, wanted.ravel(order="F") if isinstance(domain, Grid) else wanted
                )
            start += count
        assert float(np.asarray(drawn.field_data["nu"])[0]) == float(split.parameters["nu"][2])
        if isinstance(domain, Grid):
            places = np.asarray(drawn.cell_centers().points if cells else drawn.points)[
                :, : domain.dimension
            ]
            wanted = np.stack([c.numpy().ravel(order="F") for c in domain.coordinates()], axis=1)
            assert np.abs(places - wanted).max() < 1e-6  # pyvista's points are float32
    with pytest.raises(UserError, match="no space"):
        convert(made["point"].path, tmp_path / "point", "vtk")
    with pytest.raises(UserError):  # for looking at, not for reading back
        datasets.open(tmp_path / "gas")


# All or nothing -----------------------------------------------------------------------------------------------


def test_wrong_wishes_are_refused(made: dict[str, Dataset], tmp_path: Path) -> None:
    line = made["line"].path
    with pytest.raises(UserError, match="convert got to='hdf4'; it writes native, the_well, .*, vtk"):
        convert(line, tmp_path / "out", "hdf4")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="no source"):
        convert([], tmp_path / "out", "native")
    with pytest.raises(UserError, match="does not exist"):
        convert(tmp_path / "nowhere", tmp_path / "out", "native")
    with pytest.raises(UserError, match="exists and is not an empty folder"):
        convert(line, line, "native")
    (tmp_path / "out.part").mkdir()
    (tmp_path / "out.part/precious.txt").write_text("mine")
    with pytest.raises(UserError, match="out.part is in the way, and no conversion has left it"):
        convert(line, tmp_path / "out", "native")
    assert (tmp_path / "out.part/precious.txt").is_file()


def test_values_that_are_not_finite_end_it_and_leave_nothing(tmp_path: Path) -> None:
    values = np.zeros((5, 3, 1, 8), dtype="f4")
    values[3, 2, 0, 1] = np.nan
    times = torch.arange(3, dtype=torch.float64)
    split = Split("train", (Field("u"),), (ArrayBlock(values),), (Grid((8,), (1.0,)),), (times,))
    with pytest.raises(
        UserError, match="Sample 3 of split 'train' has a value in frame 2 that is not finite"
    ):
        write_native(Dataset(tmp_path, "x", "x", {"train": split}), tmp_path / "out", lambda done: None)
    np.save(tmp_path / "runs.npy", values)
    hints = Hints(
        axes="ntcx", lengths=(1.0,), boundary="periodic", centering="node", dt=0.1, fields=(Field("u"),)
    )
    with pytest.raises(UserError, match="not finite"):
        convert(tmp_path / "runs.npy", tmp_path / "there", "native", hints)
    assert not (tmp_path / "there").exists() and not (tmp_path / "there.part").exists()


SLOWLY = """
import sys, time
from sciml.datasets import convert
def wait(done, total):
    print(done, flush=True)
    if done:
        time.sleep(60)
convert(sys.argv[1], sys.argv[2], "native", progress=wait)
"""


def test_a_killed_run_leaves_nothing_that_looks_whole(made: dict[str, Dataset], tmp_path: Path) -> None:
    target = tmp_path / "out"
    run = subprocess.Popen(
        [sys.executable, "-c", SLOWLY, str(made["line"].path), str(target)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert run.stdout is not None
    while run.stdout.readline().strip() in ("0",):
        pass
    run.send_signal(signal.SIGKILL)
    run.wait()
    assert not target.exists() and list((tmp_path / "out.part").rglob("*.hdf5"))
    convert(made["line"].path, target, "native")
    assert datasets.check(target).ok and not (tmp_path / "out.part").exists()


def test_the_command_says_what_was_lost(made: dict[str, Dataset], tmp_path: Path, capsys: Any) -> None:
    from sciml.experiments.cli import main

    words = ["convert", str(made["smoke"].path), str(tmp_path / "out"), "--to", "poseidon"]
    assert main(words) == 0
    said = capsys.readouterr()
    assert "poseidon, 3 train, 1 valid, 2 test" in said.out and "note: splits go by position" in said.out
    assert "6/6" in said.err
    assert main([*words[:2], str(tmp_path / "two"), "--to", "the_well", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["samples"] == {"train": 3, "valid": 1, "test": 2}
    assert main(words) == 2 and "not an empty folder" in capsys.readouterr().err
    values = np.random.default_rng(0).standard_normal((3, 5, 16)).astype("f4")
    for i, array in enumerate(values):
        np.save(tmp_path / f"{i}.npy", array)
    files = [str(tmp_path / f"{i}.npy") for i in range(3)]
    told = ["--hints.axes", "tx", "--hints.lengths", "[1.0]", "--hints.boundary", "periodic"]
    told += ["--hints.centering", "node", "--hints.dt", "0.1", "--hints.fields", "u"]
    assert main(["convert", *files, str(tmp_path / "mine"), "--to", "native", *told]) == 0
    assert np.array_equal(
        datasets.open(tmp_path / "mine")["train"].trajectories().data.numpy()[:, :, 0], values
    )


# Memory -------------------------------------------------------------------------------------------------------

MEASURED = """
import resource, sys
import numpy as np
from sciml import Field
from sciml.datasets import Hints, convert, open
import sciml.datasets.inspection, matplotlib.figure, h5py, yaml
given, target, to = sys.argv[1:]
hints = Hints(axes="ntcxy", lengths=(1.0, 1.0), boundary="periodic", centering="node", dt=0.1, fields=(Field("u"),))
open(given, hints)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
convert(given, target, to, hints)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.slow
@pytest.mark.parametrize("to", ["native", "the_well", "pdebench", "apebench", "poseidon", "zarr"])
def test_600_megabytes_are_converted_in_less_than_400(tmp_path: Path, to: str) -> None:
    if to == "zarr":
        pytest.importorskip("zarr")
    given = tmp_path / "runs.npy"
    # A file with a hole: no disk is used by the source, and all its values are zero.
    np.lib.format.open_memmap(given, "w+", "<f4", (40, 60, 1, 256, 256)).flush()
    begin = time.monotonic()
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-c", MEASURED, str(given), str(tmp_path / "out"), to]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    print(f"{to}: {float(done.stdout):.0f} MiB above the interpreter, {time.monotonic() - begin:.1f} s")
    assert float(done.stdout) < 400
