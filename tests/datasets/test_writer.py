"""What is written is read back bit for bit, or is not there at all."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

import sciml.datasets as datasets
from sciml import Cloud, Field, Grid, Mesh, Trajectory
from sciml.datasets import writer
from sciml.errors import UserError


def random_trajectory(
    grid: Grid | Mesh | Cloud,
    fields: tuple[Field, ...],
    points: tuple[int, ...],
    samples: int = 3,
    frames: int = 5,
) -> Trajectory:
    generator = torch.Generator().manual_seed(1)
    channels = sum(grid.dimension**f.rank for f in fields)
    data = torch.randn(samples, frames, channels, *points, generator=generator)
    parameters = {"nu": torch.rand(samples, generator=generator, dtype=torch.float64)}
    return Trajectory(data, grid, torch.arange(frames, dtype=torch.float64) * 0.1, fields, parameters)


GRIDS = [
    Grid((12,), (2.0,)),
    Grid((8, 6), (1.0, 3.0), (("dirichlet", "outflow"), "periodic"), origin=(0.5, -1.0)),
    Grid((4, 5, 6), (1.0, 1.0, 2.0), ("wall", "periodic", "neumann"), centering="cell"),
]


@pytest.mark.parametrize("grid", GRIDS, ids=["1D", "2D", "3D"])
def test_gridded_round_trip_keeps_every_bit_and_all_that_is_known(grid: Grid, tmp_path: Path) -> None:
    fields = (Field("velocity", "m/s", 1), Field("pressure", "Pa"), Field("stress", "Pa", 2))
    written = random_trajectory(grid, fields, grid.shape)
    datasets.write_shard(
        tmp_path / "data/train/shard-00000.hdf5", written, name="demo", constants={"gamma": 1.4}
    )
    found = datasets.open(tmp_path)
    split = found["train"]
    back = split.trajectories()
    assert torch.equal(back.data, written.data)
    assert back.domain == grid and back.fields == fields
    assert torch.equal(back.times, written.times) and torch.equal(
        back.parameters["nu"], written.parameters["nu"]
    )
    assert found.constants == {"gamma": 1.4} and found.name == "demo" and found.notes == ()
    assert found.dt == pytest.approx(0.1, rel=1e-12)
    assert torch.equal(split[-1].data, written.data[2:])


def test_xarray_has_names_units_and_coordinates(tmp_path: Path) -> None:
    grid = GRIDS[1]
    written = random_trajectory(grid, (Field("velocity", "m/s", 1),), grid.shape)
    datasets.write_shard(tmp_path / "data/train/a.hdf5", written, name="demo")
    table = datasets.open(tmp_path)["train"].to_xarray(slice(1, 3))
    assert table["velocity_y"].attrs["units"] == "m/s" and table.sizes["sample"] == 2
    value = table["velocity_y"].sel(time=0.3, x=0.5, method="nearest").isel(sample=0, y=2)
    assert float(value) == float(written.data[1, 3, 1, 0, 2])


def square(shift: float = 0.0) -> Mesh:
    points = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0 + shift]], dtype=torch.float64)
    return Mesh(points, torch.tensor([[0, 1, 2], [1, 3, 2]]), torch.tensor([0, 4, 5, 6]))


def test_a_shared_mesh_is_stored_once_and_read_as_one_domain(tmp_path: Path) -> None:
    mesh = square()
    written = random_trajectory(mesh, (Field("velocity", "m/s", 1), Field("pressure", "Pa")), (4,))
    path = tmp_path / "data/train/a.hdf5"
    datasets.write_shard(path, written, name="demo", constants={"rho": 2.0})
    with h5py.File(path) as file:
        assert file["0/mesh_pos"].id == file["2/mesh_pos"].id  # one array under three names
        assert file["1/velocity"].shape == (5, 4, 2) and file["1/cells"].dtype == np.int32
        assert json.loads(file.attrs["features"])["cells"]["type"] == "static"
    found = datasets.open(tmp_path)
    back = found["train"].trajectories()
    assert torch.equal(back.data, written.data) and found.constants == {"rho": 2.0}
    assert torch.equal(back.domain.points, mesh.points) and torch.equal(back.domain.types, mesh.types)
    assert torch.equal(back.parameters["nu"], written.parameters["nu"])
    batch = found["train"].windows(1, 2).__getitems__([0, 5])
    assert torch.equal(batch, torch.stack([written.data[0, :3], written.data[1, 2:5]]))


def test_each_trajectory_may_have_its_own_mesh(tmp_path: Path) -> None:
    several = [random_trajectory(square(s), (Field("u"),), (4,), samples=1) for s in (0.0, 0.5)]
    datasets.write_shard(tmp_path / "data/train/a.hdf5", several, name="demo")
    split = datasets.open(tmp_path)["train"]
    assert float(split.domain_of(1).points[3, 1]) == 1.5 and float(split[0].domain.points[3, 1]) == 1.0
    with pytest.raises(UserError, match="lie on 2 different domains"):
        _ = split.domain


def test_particles_round_trip(tmp_path: Path) -> None:
    cloud = Cloud(((0.0, 1.0), (-1.0, 1.0)), (True, False))
    written = random_trajectory(cloud, (Field("position", "m", 1),), (7,))
    datasets.write_shard(tmp_path / "data/train/a.hdf5", written, name="demo")
    back = datasets.open(tmp_path)["train"].trajectories()
    assert back.domain == cloud and torch.equal(back.data, written.data)


def test_static_pairs_round_trip(tmp_path: Path) -> None:
    grid = Grid((6, 6), (1.0, 1.0), "dirichlet")
    targets = random_trajectory(grid, (Field("pressure", "Pa"),), grid.shape, frames=1)
    inputs = torch.randn(3, 2, 6, 6, generator=torch.Generator().manual_seed(2))
    names = (Field("mobility"), Field("source"))
    datasets.write_shard(
        tmp_path / "data/train/a.hdf5", targets, name="demo", inputs=inputs, input_fields=names
    )
    split = datasets.open(tmp_path)["train"]
    assert isinstance(split, datasets.Pairs) and split.input_fields == names and len(split) == 3
    assert torch.equal(split.inputs, inputs) and torch.equal(split.targets, targets.data[:, 0])
    assert torch.equal(split[2][0], inputs[2]) and torch.equal(split[-1][1], targets.data[2, 0])


def test_files_are_contiguous_and_typed_as_the_schema_wants(tmp_path: Path) -> None:
    grid = GRIDS[0]
    path = tmp_path / "a.hdf5"
    datasets.write_shard(
        path, random_trajectory(grid, (Field("u"),), grid.shape), name="demo", constants={"c": 1.0}
    )
    with h5py.File(path) as file:
        u = file["t0_fields/u"]
        assert u.chunks is None and u.id.get_offset() % 8 == 0 and u.dtype == np.float32
        kind = u.attrs.get_id("time_varying").get_type()
        assert isinstance(kind, h5py.h5t.TypeEnumID)
        assert [kind.enum_nameof(i) for i in (0, 1)] == [b"FALSE", b"TRUE"]
        assert file["boundary_conditions/x_periodic/mask"].dtype == bool
        assert isinstance(file.attrs["dataset_name"], str)
        assert h5py.check_string_dtype(file["t0_fields"].attrs.get_id("field_names").dtype).length is None
        assert file["scalars/c"].shape == ()
        mapped = np.memmap(path, np.float32, "r", u.id.get_offset(), u.shape)
        assert np.array_equal(mapped, u[()])


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    grid = GRIDS[1]
    made = [
        datasets.write_shard(tmp_path / n, random_trajectory(grid, (Field("u"),), grid.shape), name="demo")
        for n in ("a.hdf5", "b.hdf5")
    ]
    assert made[0].sha256 == made[1].sha256
    assert (tmp_path / "a.hdf5").read_bytes() == (tmp_path / "b.hdf5").read_bytes()


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    trajectory = random_trajectory(GRIDS[0], (Field("u"),), GRIDS[0].shape)
    trajectory.data[1, 2, 0, 3] = float("nan")
    with pytest.raises(ValueError, match="not finite"):
        datasets.write_shard(tmp_path / "a.hdf5", trajectory, name="demo")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(writer.os, "fsync", full)
    trajectory = random_trajectory(GRIDS[0], (Field("u"),), GRIDS[0].shape)
    with pytest.raises(UserError, match="The disk is full: .*a.hdf5 was not written"):
        datasets.write_shard(tmp_path / "a.hdf5", trajectory, name="demo")
    assert list(tmp_path.iterdir()) == []


def test_a_full_tmpfs_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)], capture_output=True
    )
    if done.returncode:
        pytest.skip(f"cannot mount a tmpfs: {done.stderr.decode().strip()}")
    try:
        grid = Grid((64, 64), (1.0, 1.0))
        trajectory = random_trajectory(grid, (Field("u"),), grid.shape)
        with pytest.raises(UserError, match="The disk is full"):
            datasets.write_shard(small / "a.hdf5", trajectory, name="demo")
        assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_an_interrupt_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), writer.whole_file(tmp_path / "a.bin") as part:
        part.write_bytes(b"half")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("codec", ["none", "lzf"])
@pytest.mark.parametrize(
    ("fields", "dtype"),
    [
        ((Field("u"),), torch.float32),
        ((Field("u"),), torch.float64),
        ((Field("velocity", "m/s", 1), Field("pressure", "Pa"), Field("stress", "Pa", 2)), torch.float32),
    ],
)
def test_large_arrays_arrive_whole_with_their_checksum(
    codec: writer.Codec, fields: tuple[Field, ...], dtype: torch.dtype, tmp_path: Path
) -> None:
    """Sizes at which arrays are written beside HDF5, in several pieces, some of part of a sample's frames."""
    for shape, samples, frames in (((64, 40), 40, 3), ((200, 300), 2, 7)):
        grid = Grid(shape, (1.0, 1.0))
        written = random_trajectory(grid, fields, grid.shape, samples=samples, frames=frames)
        written = replace(written, data=written.data.to(dtype))
        path = tmp_path / f"{samples}" / "data/train/a.hdf5"
        found = datasets.write_shard(path, written, name="demo", codec=codec)
        assert torch.equal(datasets.open(path)["train"].trajectories().data, written.data.float())
        content = path.read_bytes()
        assert found.bytes == len(content) and found.sha256 == hashlib.sha256(content).hexdigest()


def test_archives_are_read_by_the_well(tmp_path: Path) -> None:
    """Its own reader takes LZF files, frame by frame, as HDF5 does everywhere."""
    grid = Grid((16, 16), (1.0, 1.0))
    written = random_trajectory(grid, (Field("velocity", "m/s", 1), Field("pressure", "Pa")), grid.shape)
    path = tmp_path / "data/train/a.hdf5"
    datasets.write_shard(path, written, name="demo", codec="lzf")
    with h5py.File(path) as file:
        assert file["t1_fields/velocity"].chunks == (1, 1, 16, 16, 2)
        assert file["t1_fields/velocity"].compression == "lzf" and file["t1_fields/velocity"].shuffle
    well = pytest.importorskip("the_well.data")
    found = well.WellDataset(
        path=str(tmp_path / "data/train"), n_steps_input=2, n_steps_output=1, use_normalization=False
    )[1]
    expected = written.data[0, 1:3].movedim(1, -1)
    assert torch.equal(torch.as_tensor(found["input_fields"])[..., 0], expected[..., 2])
    assert torch.equal(torch.as_tensor(found["input_fields"])[..., 1:], expected[..., :2])
