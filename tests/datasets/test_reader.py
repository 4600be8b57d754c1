"""What cannot be opened is told with what was found, what was expected and what to do."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

import sciml.datasets as datasets
from sciml import Field, Grid, Trajectory
from sciml.datasets.schema import require_memory
from sciml.errors import UserError

GRID = Grid((16,), (1.0,))


def write(
    path: Path, grid: Grid = GRID, name: str = "demo", fields: tuple[Field, ...] = (Field("u"),)
) -> Path:
    generator = torch.Generator().manual_seed(0)
    channels = sum(grid.dimension**f.rank for f in fields)
    data = torch.randn(2, 4, channels, *grid.shape, generator=generator)
    times = torch.arange(4, dtype=torch.float64)
    datasets.write_shard(path, Trajectory(data, grid, times, fields), name=name)
    return path


def test_a_truncated_file_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "data/train/a.hdf5")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=f"a.hdf5 is cut off: {len(whole) // 2} bytes.*generate it again"):
        datasets.open(tmp_path)


def test_a_file_of_something_else_is_told(tmp_path: Path) -> None:
    other = tmp_path / "a.hdf5"
    other.write_text("not HDF5 at all")
    with pytest.raises(
        UserError, match="holds nothing that is known here. Expected a native dataset folder"
    ):
        datasets.open(other)
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["temperature"] = np.zeros(3)
    with pytest.raises(UserError, match="entries \\['temperature'\\], which is no layout that is known"):
        datasets.open(tmp_path / "b.h5")
    with pytest.raises(UserError, match="does not exist"):
        datasets.open(tmp_path / "nowhere")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UserError, match="holds no dataset: no data/<split>"):
        datasets.open(empty)


def test_two_resolutions_or_fields_in_one_split_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "data/train/a.hdf5")
    write(tmp_path / "data/train/b.hdf5", GRID.resized((32,)))
    with pytest.raises(UserError, match="differ in resolution: a.hdf5 has \\(16,\\), b.hdf5 has \\(32,\\)"):
        datasets.open(tmp_path)
    write(tmp_path / "data/train/b.hdf5", name="other")
    with pytest.raises(UserError, match="differ in dataset_name: a.hdf5 has demo, b.hdf5 has other"):
        datasets.open(tmp_path)
    write(tmp_path / "data/train/b.hdf5", fields=(Field("v"),))
    with pytest.raises(UserError, match="differ in fields"):
        datasets.open(tmp_path)


def test_a_broken_schema_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "data/train/a.hdf5")
    with h5py.File(path, "a") as file:
        file["t0_fields"].attrs["field_names"] = np.array(["w"], dtype=object)
    with pytest.raises(UserError, match="lists the field 'w' in t0_fields but does not hold it"):
        datasets.open(tmp_path)
    path = write(tmp_path / "data/train/a.hdf5")
    with h5py.File(path, "a") as file:
        del file["scalars"]
    with pytest.raises(UserError, match="groups \\['scalars'\\] are missing"):
        datasets.open(tmp_path)
    path = write(tmp_path / "data/train/a.hdf5")
    with h5py.File(path, "a") as file:
        file.attrs["n_trajectories"] = 3
    with pytest.raises(UserError, match="field 'u' has shape \\(2, 4, 16\\); .* say \\(3, 4, 16\\)"):
        datasets.open(tmp_path)
    path = write(tmp_path / "data/train/a.hdf5")
    with h5py.File(path, "a") as file:
        file.attrs["grid_type"] = "spherical"
    with pytest.raises(UserError, match="lies on a 'spherical' grid"):
        datasets.open(tmp_path)
    path = write(tmp_path / "data/train/a.hdf5")
    with h5py.File(path, "a") as file:
        file["provenance"].attrs["format_version"] = 99
    with pytest.raises(UserError, match="format version 99; this release reads up to 1. Update"):
        datasets.open(tmp_path)


def test_a_manifest_that_is_no_json_is_told(tmp_path: Path) -> None:
    write(tmp_path / "data/train/a.hdf5")
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(UserError, match="manifest.json is not valid JSON"):
        datasets.open(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps([1]))
    with pytest.raises(UserError, match="holds list; expected a JSON object"):
        datasets.open(tmp_path)


def test_splits_are_asked_for_by_their_names(tmp_path: Path) -> None:
    write(tmp_path / "data/train/a.hdf5")
    write(tmp_path / "data/test/a.hdf5")
    found = datasets.open(tmp_path)
    assert list(found.splits) == ["train", "test"] and "valid" not in found
    with pytest.raises(UserError, match="has no split 'validation'; it has train, test"):
        found["validation"]


def test_a_model_of_another_resolution_is_told(tmp_path: Path) -> None:
    write(tmp_path / "data/train/a.hdf5")
    found = datasets.open(tmp_path)
    found.require(GRID, ("u",))
    with pytest.raises(UserError, match="has points \\(16,\\); the model was made for \\(32,\\)"):
        found.require(GRID.resized((32,)), ("u",))
    with pytest.raises(UserError, match="has the channels \\('u',\\); the model was made for \\('v',\\)"):
        found.require(GRID, ("v",))
    with pytest.raises(UserError, match="the model was made for Grid"):
        found.require(Grid((16,), (2.0,)), ("u",))


def test_more_than_the_memory_is_refused_before_it_is_taken() -> None:
    with pytest.raises(UserError, match="takes 1000000.0 GB in memory and this machine has"):
        require_memory(10**15, "Reading everything")


def test_chunked_and_compressed_files_are_read_as_well(tmp_path: Path) -> None:
    path = write(tmp_path / "data/train/a.hdf5")
    expected = datasets.open(tmp_path)["train"].trajectories().data.clone()
    with h5py.File(path, "a") as file:
        values = file["t0_fields/u"][()]
        attributes = dict(file["t0_fields/u"].attrs)
        del file["t0_fields/u"]
        file.create_dataset("t0_fields/u", data=values, chunks=(1, 1, 16), compression="gzip")
        for name, value in attributes.items():
            file["t0_fields/u"].attrs[name] = value
    split = datasets.open(tmp_path)["train"]
    assert torch.equal(split.trajectories().data, expected)
    assert torch.equal(split.windows(1, 1, 2).__getitems__([3])[0], expected[1, 1::2])


def test_a_replaced_file_is_not_read_through_an_old_handle(tmp_path: Path) -> None:
    path = write(tmp_path / "data/train/a.hdf5")
    first = datasets.open(tmp_path)["train"].trajectories().data.clone()
    grid_data = Trajectory(first + 1, GRID, torch.arange(4, dtype=torch.float64), (Field("u"),))
    datasets.write_shard(path, grid_data, name="demo")
    assert torch.equal(datasets.open(tmp_path)["train"].trajectories().data, first + 1)


def test_numbers_of_samples_are_a_table(tmp_path: Path) -> None:
    grid, times = Grid((4,), (1.0,)), 0.5 * torch.arange(3, dtype=torch.float64)
    data = torch.zeros(2, 3, 1, 4)
    trajectory = Trajectory(data, grid, times, (Field("u"),), {"nu": torch.tensor([0.1, 0.2])})
    datasets.write_shard(tmp_path / "data/train/a.hdf5", trajectory, name="table")
    table = datasets.open(tmp_path)["train"].to_pandas()
    assert list(table.columns) == ["nu", "frames", "last_time"] and table.index.name == "sample"
    # Where files of other projects keep parameters they do so in float32.
    assert table["nu"].tolist() == pytest.approx([0.1, 0.2])
    assert table["frames"].tolist() == [3, 3] and table["last_time"].tolist() == [1.0, 1.0]


def test_pairs_are_labelled_by_input_and_target(tmp_path: Path) -> None:
    grid = Grid((4, 6), (1.0, 2.0), "dirichlet")
    given = torch.rand(3, 1, 4, 6, generator=torch.Generator().manual_seed(0))
    wanted = Trajectory(
        given.unsqueeze(1) + 1, grid, torch.zeros(1, dtype=torch.float64), (Field("solution", "K"),)
    )
    datasets.write_shard(
        tmp_path / "data/train/a.hdf5",
        wanted,
        name="pairs",
        inputs=given,
        input_fields=(Field("coefficient"),),
    )
    pairs = datasets.open(tmp_path)["train"]
    labelled = pairs.to_xarray()
    assert (
        labelled["coefficient"].dims == ("sample", "x", "y") and labelled["solution"].attrs["units"] == "K"
    )
    assert np.array_equal(labelled["solution"].values, labelled["coefficient"].values + 1)
    assert len(pairs.to_pandas()) == 3
