"""A check finds what is wrong and says where; a sound dataset passes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import yaml

import sciml.datasets as datasets
from sciml import Field, Grid, Mesh, Trajectory
from sciml.datasets.reader import read_json
from sciml.datasets.schema import sha256_file


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return datasets.generate(
        "heat",
        tmp_path_factory.mktemp("heat") / "heat",
        {"train": 8, "valid": 0, "test": 2},
        certificate=False,
    )


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    shutil.copytree(sound, tmp_path / "heat")
    return tmp_path / "heat"


def errors(path: Path) -> list[str]:
    return [f"{f.where}: {f.message}" for f in datasets.check(path).findings if f.level == "error"]


def change(folder: Path, shard: str, change_values: object) -> None:
    """Change the stored array and bring the manifest's checksum along."""
    path = folder / "data" / shard
    with h5py.File(path, "a") as file:
        u = file["t0_fields/temperature"]
        values = u[()]
        change_values(values)  # type: ignore[operator]
        u[...] = values
    manifest = read_json(folder / "manifest.json")
    for entry in manifest["shards"]:
        if entry["file"] == f"data/{shard}":
            entry["sha256"] = sha256_file(path)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_a_sound_dataset_passes_and_its_equation_is_measured(sound: Path) -> None:
    report = datasets.check(sound)
    assert report.ok and not report.findings, str(report)
    # One step again, from states rounded to float32.
    assert report.measured["defect of train"] < 1e-5
    # Central differences in time have an error of order dt^2.
    assert report.measured["residual of test"] < 0.02
    assert "heat: ok" in str(report) and json.dumps(report.as_dict())


def test_nan_is_found_with_its_place(folder: Path) -> None:
    def spoil(values: np.ndarray) -> None:
        values[3, 7, 11] = np.nan
        values[3, 8, 12] = np.inf

    change(folder, "train/shard-00000.hdf5", spoil)
    found = errors(folder)
    assert found == [
        "train[3]: 2 values are not finite, the first in frame 7, channel 'temperature', point (11,)"
    ]


def test_data_of_another_equation_are_found(folder: Path) -> None:
    def slower(values: np.ndarray) -> None:
        values[:, 1:] = values[:, :-1] + 0.5 * np.diff(values, axis=1)

    change(folder, "test/shard-00000.hdf5", slower)
    found = errors(folder)
    assert len(found) == 1 and "misses the next stored frame by" in found[0] and found[0].startswith("test")


def test_duplicates_across_splits_are_found(folder: Path) -> None:
    with h5py.File(folder / "data/train/shard-00000.hdf5") as file:
        leaked = file["t0_fields/temperature"][5]

    def leak(values: np.ndarray) -> None:
        values[1] = leaked

    change(folder, "test/shard-00000.hdf5", leak)
    assert any("test[1]: starts exactly as train[5]: a duplicate" in e for e in errors(folder))


def test_changed_missing_and_unlisted_files_are_found(folder: Path) -> None:
    path = folder / "data/train/shard-00000.hdf5"
    shutil.copy(path, folder / "data/test/shard-00001.hdf5")
    with h5py.File(path, "a") as file:
        file.attrs["touched"] = 1
    (folder / "data/test/shard-00002.hdf5.part").write_bytes(b"x")
    report = datasets.check(folder)
    text = str(report)
    assert not report.ok
    assert "its SHA-256 is not the one in the manifest: it was changed" in text
    assert "shard-00001.hdf5: is not listed in the manifest" in text
    assert "test: has" not in text  # what is not listed is not read either
    assert "left by a run that was killed" in text


def test_statistics_of_other_data_are_found(folder: Path) -> None:
    path = folder / "stats.yaml"
    content = yaml.safe_load(path.read_text())
    content["mean"]["temperature"] += 0.1
    path.write_text(yaml.safe_dump(content))
    assert any(
        e.startswith("stats.yaml: mean differs from that of the training split") for e in errors(folder)
    )
    path.unlink()
    assert any("stats.yaml is missing" in e for e in errors(folder))


def test_constant_frames_are_a_warning(tmp_path: Path) -> None:
    data = torch.randn(2, 5, 1, 8, generator=torch.Generator().manual_seed(0))
    data[1, 3] = data[1, 2]
    times = torch.arange(5, dtype=torch.float64)
    trajectory = Trajectory(data, Grid((8,), (1.0,)), times, (Field("u"),))
    datasets.write_shard(tmp_path / "data/train/a.hdf5", trajectory, name="demo")
    report = datasets.check(tmp_path)
    assert report.ok
    assert [f.message for f in report.findings if f.where == "train[1]"] == [
        "1 frames equal the one before, first frame 3"
    ]


def test_a_description_is_plain_and_complete(sound: Path) -> None:
    found = datasets.describe(sound)
    assert json.loads(json.dumps(found)) == found
    assert found["layout"] == "native" and found["recipe"] == "heat" and found["complete"] is True
    assert found["splits"]["train"] == {"samples": 8, "frames": 21, "state": [1, 64], "domains": 1}
    assert found["domain"]["dx"] == [1 / 64] and found["dt"] == pytest.approx(0.05)


def _picture(path: Path) -> np.ndarray:
    from matplotlib.image import imread

    return imread(path)


@pytest.mark.parametrize("kind", ["line", "plane", "box", "mesh", "pairs"])
def test_pictures_are_drawn_of_every_kind(kind: str, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = {"line": (16,), "plane": (12, 8), "box": (6, 5, 4), "pairs": (8, 8), "mesh": (4,)}
    shape = shapes[kind]
    if kind == "mesh":
        points = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
        domain: Grid | Mesh = Mesh(points, torch.tensor([[0, 1, 2], [1, 3, 2]]))
    else:
        domain = Grid(shape, (1.0,) * len(shape))
    frames = 1 if kind == "pairs" else 4
    data = torch.randn(2, frames, 1, *shape, generator=generator)
    trajectory = Trajectory(data, domain, torch.arange(frames, dtype=torch.float64), (Field("u"),))
    datasets.write_shard(
        tmp_path / "data/train/a.hdf5",
        trajectory,
        name="demo",
        inputs=data[:, 0] if kind == "pairs" else None,
        input_fields=(Field("a"),) if kind == "pairs" else (),
    )
    picture = _picture(datasets.plot(tmp_path, tmp_path / "p.png"))
    assert picture.shape[0] > 200 and picture.shape[1] > 400
    colours = np.unique((picture[..., :3].reshape(-1, 3) * 255).astype(int), axis=0)
    assert len(colours) > 100  # a field, and not an empty frame
