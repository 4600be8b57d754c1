"""Gridded files of PDEArena, APEBench, Poseidon, PDEBench and labelled stores, made here as their layouts say.

Grids are never square, so that a transposed axis is seen.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

import sciml.datasets as datasets
from sciml import Field, Grid, Trajectory
from sciml.datasets import Dataset, Hints, Pairs, Split
from sciml.datasets.blocks import ArrayBlock
from sciml.datasets.interop import apebench, labelled, pdebench, poseidon
from sciml.errors import UserError

RNG = np.random.default_rng(0)


def values(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def states(found: Dataset, split: str = "train") -> np.ndarray:
    return found[split].trajectories().data.numpy()


def grid_of(found: Dataset) -> Grid:
    assert isinstance(found.domain, Grid)
    return found.domain


# PDEArena -------------------------------------------------------------------------------------------------


def smoke_file(path: Path, split: str, samples: int = 2, buoyancy: float = 0.5) -> dict[str, np.ndarray]:
    """Two samples of 14 frames on 12 x 8 cells of a quarter, in double precision."""
    arrays = {name: RNG.standard_normal((samples, 14, 12, 8)) for name in ("u", "vx", "vy")}
    with h5py.File(path, "w") as file:
        group = file.create_group(split)
        for name, array in arrays.items():
            group[name] = array
        group["t"] = np.tile(np.linspace(18, 102, 14), (samples, 1))
        group["x"] = np.tile(np.linspace(0, 3, 12), (samples, 1))
        group["y"] = np.tile(np.linspace(0, 2, 8), (samples, 1))
        for name, value in (("dt", 6.0), ("dx", 0.25), ("dy", 0.25), ("buo_y", buoyancy)):
            group[name] = np.full(samples, value)
    return arrays


def test_smoke_of_pdearena(tmp_path: Path) -> None:
    path = tmp_path / "NavierStokes2D_train_1_0.50000_2.h5"
    arrays = smoke_file(path, "train")
    found = datasets.open(path)
    assert found.kind == "pdearena" and found.channels == ("smoke", "velocity_x", "velocity_y")
    data = states(found)
    for channel, name in enumerate(("u", "vx", "vy")):
        assert np.array_equal(data[:, :, channel], arrays[name].astype(np.float32))
    grid = grid_of(found)
    assert grid.shape == (12, 8) and grid.lengths == (3.0, 2.0) and grid.centering == "cell"
    assert grid.sides == (("wall", "wall"), ("wall", "wall"))
    assert found.times.tolist() == [18 + 6.0 * i for i in range(14)]  # dt, not t
    assert found["train"].parameters["buoyancy"].tolist() == [0.5, 0.5]
    notes = " ".join(found.notes)
    assert "low faces" in notes and "6.462 apart and its dt is 6" in notes and "took them as walls" in notes
    assert grid_of(datasets.open(path, Hints(boundary="periodic", dt=2.0))).periodic == (True, True)


def test_a_folder_of_pdearena_joins_the_files_of_a_split(tmp_path: Path) -> None:
    first = smoke_file(tmp_path / "NavierStokes2D_train_10_0.5.h5", "train")
    second = smoke_file(tmp_path / "NavierStokes2D_train_9_0.3.h5", "train", 3, 0.3)
    smoke_file(tmp_path / "NavierStokes2D_test_1_0.5.h5", "test", 1)
    found = datasets.open(tmp_path)
    assert {name: len(split) for name, split in found.splits.items()} == {"train": 5, "test": 1}
    assert found["train"].parameters["buoyancy"].tolist() == [0.3] * 3 + [0.5] * 2
    assert np.array_equal(states(found)[:3, :, 0], second["u"].astype("f4"))
    assert np.array_equal(states(found)[3:, :, 2], first["vy"].astype("f4"))


def test_lines_of_pdearena_have_a_box_and_a_step_each(tmp_path: Path) -> None:
    path = tmp_path / "KS_train.h5"
    u = RNG.standard_normal((4, 5, 16))
    with h5py.File(path, "w") as file:
        group = file.create_group("train")
        group["pde_5-16"] = u
        group["dt"], group["dx"] = [0.2, 0.2, 0.3, 0.2], [0.5, 0.5, 0.5, 0.25]
        group["v"] = [1.0, 1.1, 1.2, 1.3]
    found = datasets.open(path)
    split = found["train"]
    assert np.array_equal(
        np.stack([split[i].data.numpy()[0, :, 0] for i in range(4)]), u.astype(np.float32)
    )
    assert [split.domain_of(i).lengths for i in range(4)] == [(8.0,), (8.0,), (8.0,), (4.0,)]
    assert [round(float(split.times_of(i)[1]), 12) for i in range(4)] == [0.2, 0.2, 0.3, 0.2]
    assert split.parameters["v"].tolist() == [1.0, 1.1, 1.2, 1.3]
    window = split.windows(1, 1).__getitems__([0, 8])[:, :, 0].numpy()  # the third sample's first window
    assert np.array_equal(window[1], u[2, :2].astype(np.float32))


def test_maxwell_of_pdearena_asks_for_its_box(tmp_path: Path) -> None:
    path = tmp_path / "Maxwell3D.h5"
    d, h = values(2, 3, 4, 5, 6, 3), values(2, 3, 4, 5, 6, 3)
    with h5py.File(path, "w") as file:
        file["test/d_field"], file["test/h_field"] = d, h
    with pytest.raises(UserError, match=r"\(dt\), .*lengths=\(1.0, 1.0, 1.0\).*--hints.boundary periodic"):
        datasets.open(path)
    found = datasets.open(path, Hints(lengths=(1, 2, 3), boundary="periodic", dt=0.5, centering="node"))
    data = states(found, "test")
    assert data.shape == (2, 3, 6, 4, 5, 6)
    assert np.array_equal(data[:, :, 1], d[..., 1]) and np.array_equal(data[:, :, 5], h[..., 2])


def test_damaged_files_of_pdearena_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a_train.h5"
    smoke_file(path, "train")
    for change, match in (
        (lambda g: (g.pop("vy"), g.create_dataset("vy", data=np.zeros((2, 14, 8, 12)))), "vy' has shape"),
        (
            lambda g: (g.pop("dt"), g.create_dataset("dt", data=np.zeros(2))),
            "time steps are not all positive",
        ),
        (lambda g: (g.pop("dt"), g.create_dataset("dt", data=np.ones(7))), "7 values for 2 samples"),
        (lambda g: (g.pop("dx"), g.create_dataset("dx", data=[np.nan, 1])), "not finite"),
        (
            lambda g: (g.pop("u"), g.create_dataset("u", (2, 14, 12, 8), h5py.string_dtype())),
            "real numbers",
        ),
    ):
        broken = tmp_path / "b_train.h5"
        shutil.copy(path, broken)
        with h5py.File(broken, "a") as file:
            change(file["train"])
        with pytest.raises(UserError, match=match):
            datasets.open(broken)
    with h5py.File(path, "a") as file:
        del file["train/dt"]
    with pytest.raises(UserError, match="does not say the time between its frames"):
        datasets.open(path)


# APEBench -------------------------------------------------------------------------------------------------


def scenario(folder: Path, name: str = "1d_diff_adv", **more: Any) -> tuple[np.ndarray, np.ndarray]:
    """Advection by four cells a step, as the layout's own example has it, on 20 points."""
    start = values(3, 1, 20)
    train = np.stack([np.roll(start, 4 * i, axis=-1) for i in range(6)], axis=1)
    test = np.stack([np.roll(start[:2], 4 * i, axis=-1) for i in range(9)], axis=1)
    info = {"num_points": 20, "num_spatial_dims": 1, "num_channels": 1, "advection_gamma": -4.0} | more
    info |= {"gammas": [0.0, 4.0], "optim_config": "adam;10_000"}
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps({"name": name, "info": info}))
    np.save(folder / f"{name}_train.npy", train)
    np.save(folder / f"{name}_test.npy", test)
    return train, test


def test_a_scenario_of_apebench(tmp_path: Path) -> None:
    train, test = scenario(tmp_path)
    for path in (tmp_path, tmp_path / "1d_diff_adv.json"):
        found = datasets.open(path)
        assert found.kind == "apebench" and found.name == "1d_diff_adv" and found.channels == ("u",)
        assert np.array_equal(states(found), train) and np.array_equal(states(found, "test"), test)
        assert grid_of(found) == Grid((20,), (1.0,), "periodic") and found["train"].frames == 6
        assert found.constants["advection_gamma"] == -4.0 and found.constants["gammas_1"] == 4.0
        notes = " ".join(found.notes)
        assert "took sides of 1" in notes and "took dt = 1" in notes and "adam;10_000" in notes
    physical = tmp_path / "physical"
    scenario(physical, domain_extent=30.0, dt=0.1)
    found = datasets.open(physical)
    assert grid_of(found).lengths == (30.0,) and found.dt == pytest.approx(0.1)


def test_several_scenarios_are_selected(tmp_path: Path) -> None:
    scenario(tmp_path, "one")
    train, _ = scenario(tmp_path, "two")
    with pytest.raises(UserError, match="holds the scenarios one, two; say which with select"):
        datasets.open(tmp_path)
    assert np.array_equal(states(datasets.open(tmp_path, select="two")), train)


def test_arrays_in_fortran_order_keep_their_axes(tmp_path: Path) -> None:
    scenario(tmp_path, "flow", num_spatial_dims=2, num_points=6)
    data = values(3, 4, 2, 6, 6)
    np.save(tmp_path / "flow_train.npy", np.asfortranarray(data))
    np.save(tmp_path / "flow_test.npy", data.astype(">f8"))
    found = datasets.open(tmp_path, Hints(fields=(Field("velocity", rank=1),)))
    assert np.array_equal(states(found), data) and np.array_equal(states(found, "test"), data)
    assert found.channels == ("velocity_x", "velocity_y")
    assert datasets.open(tmp_path).channels == ("u0", "u1")


def test_damaged_scenarios_are_refused(tmp_path: Path) -> None:
    train, _ = scenario(tmp_path)
    array = tmp_path / "1d_diff_adv_train.npy"
    whole = array.read_bytes()
    array.write_bytes(whole[:-10])
    with pytest.raises(UserError, match="is cut off: shape .* takes 1440 bytes and 1430 are there"):
        datasets.open(tmp_path)
    array.write_bytes(whole.replace(b"(3, 6, 1, 20)", b"(3,99999,1,9)"))
    with pytest.raises(UserError, match="is cut off"):
        datasets.open(tmp_path)
    array.write_bytes(whole.replace(b"'<f4'", b"'|O' "))
    with pytest.raises(UserError, match="Objects are not unpickled"):
        datasets.open(tmp_path)
    array.write_bytes(b"\x93NUMPY")
    with pytest.raises(UserError, match="is damaged"):
        datasets.open(tmp_path)
    np.save(array, train.swapaxes(2, 3))
    with pytest.raises(UserError, match="says num_points 20; expected"):
        datasets.open(tmp_path)


# Poseidon -------------------------------------------------------------------------------------------------

BOX = Hints(lengths=(1.0, 1.0), boundary="periodic", centering="node")


def test_velocities_of_poseidon_in_pieces(tmp_path: Path) -> None:
    parts = [values(n, 21, 3, 6, 4) for n in (4, 2, 3)]
    for number, part in ((0, parts[0]), (2, parts[1]), (10, parts[2])):
        with h5py.File(tmp_path / f"velocity_{number}.nc", "w") as file:
            file["velocity"] = part
    with pytest.raises(
        UserError, match=r"sides of its box \(boundary\).*hints=Hints\(lengths=\(1.0, 1.0\)"
    ):
        datasets.open(tmp_path)
    found = datasets.open(tmp_path, BOX)
    assert found.kind == "poseidon" and found.channels == ("velocity_x", "velocity_y", "tracer")
    assert np.array_equal(states(found), np.concatenate(parts))
    assert found.dt == pytest.approx(1 / 20) and any("dt = 1/20" in note for note in found.notes)
    assert any("9 is no published number" in note for note in found.notes)
    parted = datasets.open(tmp_path, Hints(**{**BOX.__dict__, "split": (4, 2, 3), "dt": 0.5}))
    assert np.array_equal(states(parted, "test"), parts[2])
    assert np.array_equal(states(parted, "valid"), parts[1]) and parted.dt == 0.5
    window = parted["valid"].windows(1, 2).__getitems__([0, 20])[1].numpy()
    assert np.array_equal(window, parts[1][1, 1:4])


def test_published_numbers_of_samples_are_split_by_position(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "CE-RM.nc", "w") as file:  # chunks that were never written take no room
        file.create_dataset("solution", (1260, 2, 4, 2, 3), "f4")[:] = 1
        file["solution"][1259] = 7
    found = datasets.open(tmp_path / "CE-RM.nc", Hints(**{**BOX.__dict__, "dt": 1.0}))
    assert {n: len(s) for n, s in found.splits.items()} == {"train": 1030, "valid": 100, "test": 130}
    assert float(found["test"][-1].data.min()) == 7 and float(found["train"][-1].data.max()) == 1
    assert found.channels == ("density", "velocity_x", "velocity_y", "pressure")


def test_channels_of_poseidon_beyond_the_known_are_left_unless_named(tmp_path: Path) -> None:
    data = values(2, 21, 5, 6, 4)
    with h5py.File(tmp_path / "CE-RP.nc", "w") as file:
        file["data"] = data
    found = datasets.open(tmp_path / "CE-RP.nc", BOX)
    assert found.channels == ("density", "velocity_x", "velocity_y", "pressure")
    assert np.array_equal(states(found), data[:, :, :4])
    assert any("took the first 4 of 5 channels" in note for note in found.notes)
    gas = (Field("density"), Field("velocity", rank=1), Field("pressure"), Field("energy"))
    named = datasets.open(tmp_path / "CE-RP.nc", Hints(**{**BOX.__dict__, "fields": gas}))
    assert np.array_equal(states(named), data)
    with h5py.File(tmp_path / "odd.nc", "w") as file:
        file["solution"] = values(2, 21, 3, 6, 4)
    with pytest.raises(UserError, match=r"what its channels are \(fields\)"):
        datasets.open(tmp_path / "odd.nc", BOX)
    with pytest.raises(UserError, match="has 3 channels; the fields .* fill 5"):
        datasets.open(tmp_path / "odd.nc", Hints(**{**BOX.__dict__, "fields": gas}))


def test_waves_of_poseidon_keep_their_speed(tmp_path: Path) -> None:
    u, c = values(3, 21, 6, 4), values(3, 6, 4)
    with h5py.File(tmp_path / "Wave.nc", "w") as file:
        file["solution"], file["c"] = u, c
    found = datasets.open(tmp_path / "Wave.nc", BOX)
    assert found.channels == ("displacement", "wave_speed")
    data = states(found)
    assert np.array_equal(data[:, :, 0], u) and np.array_equal(data[:, 20, 1], c)


def test_static_sets_of_poseidon_are_pairs(tmp_path: Path) -> None:
    source, solution, two = values(4, 6, 5), values(4, 6, 5), values(4, 2, 6, 5)
    with h5py.File(tmp_path / "Poisson-Gauss.nc", "w") as file:
        file["source"], file["solution"] = source, solution
    poisson = datasets.open(tmp_path / "Poisson-Gauss.nc", BOX)["train"]
    assert isinstance(poisson, Pairs) and np.array_equal(poisson.inputs.numpy()[:, 0], source)
    assert np.array_equal(poisson.targets.numpy()[:, 0], solution)
    with h5py.File(tmp_path / "SE-AF.nc", "w") as file:
        file["solution"] = two
    airfoil = datasets.open(tmp_path / "SE-AF.nc", BOX)["train"]
    assert airfoil.input_channels == ("mask",) and airfoil.channels == ("density",)
    assert np.array_equal(airfoil.inputs.numpy()[:, 0], two[:, 0])
    assert np.array_equal(airfoil[3][1].numpy()[0], two[3, 1])
    with h5py.File(tmp_path / "Helmholtz.h5", "w") as file:
        for i in range(12):
            file[f"Sample_{i}/a"], file[f"Sample_{i}/u"] = source[i % 4] + i, solution[i % 4] - i
            file[f"Sample_{i}/bc"] = np.float32(i)
    helmholtz = datasets.open(tmp_path / "Helmholtz.h5", BOX)["train"]
    assert helmholtz.parameters["bc"].tolist() == list(range(12))  # not 0, 1, 10, 11, 2, ...
    assert np.array_equal(helmholtz[10][0].numpy()[0], source[2] + 10)


def test_damaged_files_of_poseidon_are_refused(tmp_path: Path) -> None:
    for number, shape in ((0, (2, 21, 3, 6, 4)), (1, (2, 21, 3, 4, 6))):
        with h5py.File(tmp_path / f"velocity_{number}.nc", "w") as file:
            file["velocity"] = values(*shape)
    with pytest.raises(UserError, match="The pieces of one data set differ"):
        datasets.open(tmp_path, BOX)
    whole = (tmp_path / "velocity_0.nc").read_bytes()
    (tmp_path / "velocity_0.nc").write_bytes(whole[:-4000])
    with pytest.raises(UserError, match="is cut off"):
        datasets.open(tmp_path / "velocity_0.nc", BOX)
    with h5py.File(tmp_path / "large.nc", "w") as file:  # 4 TB of which nothing is there
        file.create_dataset("velocity", (10**6, 21, 3, 128, 128), "f4", chunks=(1, 1, 1, 128, 128))
    with pytest.raises(UserError, match="claims .* bytes"):
        datasets.open(tmp_path / "large.nc", BOX)
    with h5py.File(tmp_path / "link.nc", "w") as file:
        file["velocity"] = h5py.ExternalLink(str(tmp_path / "velocity_1.nc"), "/velocity")
    with pytest.raises(UserError, match="another file|no layout that is known"):
        datasets.open(tmp_path / "link.nc", BOX)


# PDEBench, incompressible ----------------------------------------------------------------------------------


def incompressible_file(path: Path, latest: int = 4) -> dict[str, np.ndarray]:
    arrays = {
        "velocity": values(2, 5, 8, 6, 2),
        "particles": values(2, 5, 8, 6, 1),
        "force": values(2, 8, 6, 2),
    }
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            chunks = (1, 1, *array.shape[2:]) if name != "force" else None
            file.create_dataset(name, data=array, chunks=chunks, compression="lzf" if chunks else None)
        file["t"] = np.tile(np.arange(1, 6) * 0.005, (2, 1)).astype("f4")
        file.attrs["config"], file.attrs["latestIndex"] = "sim_name: ns_sim_2d\nNU: 0.01\n", latest
    return arrays


def test_incompressible_flow_of_pdebench(tmp_path: Path) -> None:
    arrays = incompressible_file(tmp_path / "ns_incom.h5")
    with pytest.raises(UserError, match=r"\(lengths\) and .*\(boundary\).*Its grid and its sides"):
        datasets.open(tmp_path / "ns_incom.h5")
    found = datasets.open(tmp_path / "ns_incom.h5", Hints(lengths=(1.0, 0.75), boundary="dirichlet"))
    assert found.channels == ("velocity_x", "velocity_y", "particles", "force_x", "force_y")
    data = states(found)
    assert np.array_equal(data[:, :, 1], arrays["velocity"][..., 1])
    assert np.array_equal(data[:, :, 2], arrays["particles"][..., 0])
    assert np.array_equal(data[:, 3, 4], arrays["force"][..., 1])
    assert found.times.tolist() == pytest.approx([0.005 * i for i in range(1, 6)])
    assert grid_of(found).spacing == (0.125, 0.125)


def test_frames_that_were_not_written_are_left_out(tmp_path: Path) -> None:
    arrays = incompressible_file(tmp_path / "cut.h5", latest=2)
    found = datasets.open(tmp_path / "cut.h5", Hints(lengths=(1.0, 0.75), boundary="dirichlet"))
    assert states(found).shape[1] == 3 == len(found.times)
    assert np.array_equal(states(found)[:, :, 0], arrays["velocity"][:, :3, ..., 0])
    assert len(found["train"].windows(2, 1)) == 2
    assert any("incomplete: its last written frame is 2 of 4" in note for note in found.notes)


# Labelled --------------------------------------------------------------------------------------------------


def labelled_dataset() -> Any:
    xarray = pytest.importorskip("xarray")
    return xarray.Dataset(
        {
            "vor": (("time", "sample", "lat", "lon"), values(4, 3, 6, 8), {"units": "1/s"}),
            "pres": (("sample", "time", "level", "lon", "lat"), values(3, 4, 1, 8, 6), {"units": "Pa"}),
            "depth": (("lat", "lon"), values(6, 8)),
        },
        coords={
            "time": np.arange(4) * 0.5 + 1,
            "lon": ("lon", np.arange(8) * 45.0, {"units": "degrees_east"}),
            "lat": ("lat", np.arange(6) * 30.0 - 75, {"units": "degrees_north"}),
            "nu": ("sample", [0.1, 0.2, 0.3]),
        },
        attrs={"gravity": 9.81},
    )


@pytest.mark.parametrize("kind", ["netcdf", "zarr2", "zarr3"])
def test_labelled_arrays(tmp_path: Path, kind: str) -> None:
    stored = labelled_dataset()
    if kind == "netcdf":
        pytest.importorskip("h5netcdf", reason="h5netcdf is not installed, extra 'dev'")
        path = tmp_path / "output.nc"
        stored.to_netcdf(
            path, engine="h5netcdf", encoding={"pres": {"chunksizes": (1, 1, 1, 8, 6), "zlib": True}}
        )
    else:
        pytest.importorskip("zarr", reason="zarr is not installed, extra 'interop'")
        path = tmp_path / "train.zarr"
        stored.to_zarr(path, zarr_format=int(kind[-1]), consolidated=False)
    with pytest.raises(
        UserError, match=r"does not say what holds on the sides of its box \(boundary\); pass"
    ):
        datasets.open(path)
    found = datasets.open(path, Hints(boundary=("periodic", "wall"), centering="cell"))
    assert set(found.channels) == {"vor", "pres"} and found.kind == kind.rstrip("23")
    data = dict(zip(found.channels, states(found).swapaxes(0, 2), strict=True))  # (t, n, x, y) each
    assert np.array_equal(data["vor"], stored["vor"].transpose("time", "sample", "lon", "lat"))
    assert np.array_equal(data["pres"], stored["pres"][:, :, 0].transpose("time", "sample", "lon", "lat"))
    assert {f.name: f.unit for f in found.fields} == {"vor": "1/s", "pres": "Pa"}
    grid = grid_of(found)
    assert grid.shape == (8, 6) and grid.lengths == pytest.approx((360, 180)) and grid.centering == "cell"
    assert grid.origin == pytest.approx((-22.5, -90)) and found.times.tolist() == [1, 1.5, 2, 2.5]
    assert found["train"].parameters["nu"].tolist() == [0.1, 0.2, 0.3] and found.constants == {
        "gravity": 9.81
    }
    assert any("degrees_east" in note for note in found.notes) and any(
        "depth" in note for note in found.notes
    )
    window = found["train"].windows(1, 1)[3].numpy()[:, found.channels.index("vor")]
    assert np.array_equal(window, stored["vor"].values[0:2, 1].swapaxes(1, 2))


def test_runs_in_a_tree_are_samples(tmp_path: Path) -> None:
    pytest.importorskip("h5netcdf", reason="h5netcdf is not installed, extra 'dev'")
    stored = labelled_dataset()
    for i, folder in enumerate(("train/seed=1/run0001", "train/seed=1/run0002", "valid/seed=2/run0001")):
        (tmp_path / folder).mkdir(parents=True)
        stored.isel(sample=i).drop_vars("nu").to_netcdf(tmp_path / folder / "output.nc", engine="h5netcdf")
    found = datasets.open(tmp_path, Hints(boundary=("periodic", "wall"), centering="cell"))
    assert {n: len(s) for n, s in found.splits.items()} == {"train": 2, "valid": 1}
    vor = states(found)[1, :, found.channels.index("vor")]
    assert np.array_equal(vor, stored["vor"].values[:, 1].swapaxes(1, 2))


def test_dimensions_that_say_nothing_are_asked_for(tmp_path: Path) -> None:
    xarray = pytest.importorskip("xarray")
    pytest.importorskip("zarr", reason="zarr is not installed, extra 'interop'")
    stored = xarray.Dataset({"q": (("i", "step", "row", "column"), values(2, 3, 4, 5))})
    stored.to_zarr(tmp_path / "a.zarr", consolidated=False)
    with pytest.raises(
        UserError, match=r"axes.*The array 'q' has the dimensions \('i', 'step', 'row', 'column'\)"
    ):
        datasets.open(tmp_path / "a.zarr")
    hints = Hints(axes="ntyx", lengths=(5.0, 4.0), boundary="periodic", centering="node", dt=0.1)
    found = datasets.open(tmp_path / "a.zarr", hints)
    assert np.array_equal(states(found)[:, :, 0], stored["q"].values.swapaxes(2, 3))


def test_packed_integers_become_numbers(tmp_path: Path) -> None:
    pytest.importorskip("h5netcdf", reason="h5netcdf is not installed, extra 'dev'")
    stored = labelled_dataset()[["vor"]]
    stored["vor"].values[:] = np.round(stored["vor"].values, 2)
    stored["vor"].values[0, 0, 0, 0] = np.nan
    packed = {"vor": {"dtype": "i2", "scale_factor": 0.01, "add_offset": 1.0, "_FillValue": -9999}}
    stored.to_netcdf(tmp_path / "a.nc", engine="h5netcdf", encoding=packed)
    data = states(datasets.open(tmp_path / "a.nc", Hints(boundary="wall", centering="cell")))
    expected = stored["vor"].transpose("sample", "time", "lon", "lat").values
    assert np.allclose(data[:, :, 0], expected, atol=1e-6, equal_nan=True)


def test_stores_that_would_run_code_or_claim_too_much_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("zarr", reason="zarr is not installed, extra 'interop'")
    path = tmp_path / "a.zarr"
    labelled_dataset().to_zarr(path, zarr_format=2, consolidated=False)
    hints = Hints(boundary="wall", centering="cell")
    described = path / "vor/.zarray"
    whole = described.read_text()
    for change, match in (
        ({"filters": [{"id": "pickle"}]}, "packed by pickle, which is not among the codecs"),
        ({"chunks": [10**6, 10**6, 10, 10]}, "expected chunks of at most 2 GB"),
        ({"shape": [4, 3, 6]}, "has shape"),
        ({"shape": "many"}, "is no list of sizes"),
        ({"compressor": 7}, "packed by 7"),
    ):
        described.write_text(json.dumps(json.loads(whole) | change))
        with pytest.raises(UserError, match=match):
            datasets.open(path, hints)
    described.write_text("{")
    with pytest.raises(UserError, match="not valid JSON"):
        datasets.open(path, hints)
    described.write_text(whole)
    chunk = next(p for p in (path / "vor").iterdir() if not p.name.startswith("."))
    chunk.write_bytes(chunk.read_bytes()[:20])
    with pytest.raises(UserError, match="is damaged"):
        states(datasets.open(path, hints))


# Smaller ones -----------------------------------------------------------------------------------------------


def test_cases_of_cfdbench(tmp_path: Path) -> None:
    arrays = {}
    for kind, number, frames in (("bc", 0, 5), ("bc", 1, 4), ("geo", 0, 5)):
        folder = tmp_path / f"cavity/{kind}/case{number:04d}"
        folder.mkdir(parents=True)
        u, v = values(frames, 6, 4), values(frames, 6, 4)
        np.save(folder / "u.npy", u)
        np.save(folder / "v.npy", v)
        (folder / "case.json").write_text(json.dumps({"vel_in": number + 0.5, "density": 10, "name": "x"}))
        arrays[kind, number] = u, v
    hints = Hints(axes="tyx", lengths=(0.4, 0.6), boundary="wall", centering="cell", dt=0.1)
    with pytest.raises(UserError, match=r"which of the last two is x is not stored"):
        datasets.open(tmp_path / "cavity")
    found = datasets.open(tmp_path / "cavity", hints)
    split = found["train"]
    assert (
        len(split) == 3
        and grid_of(found).shape == (4, 6)
        and found.channels == ("velocity_x", "velocity_y")
    )
    assert split.parameters["vel_in"].tolist() == [0.5, 1.5, 0.5] and len(split.times_of(1)) == 4
    assert np.array_equal(split[1].data[0, :, 1].numpy(), arrays["bc", 1][1].swapaxes(1, 2))
    assert np.array_equal(split[2].data[0, :, 0].numpy(), arrays["geo", 0][0].swapaxes(1, 2))


def test_tensors_of_autocast(tmp_path: Path) -> None:
    data, fixed = values(3, 4, 6, 5, 2), values(3, 6, 5, 1)
    for name in ("train", "test"):
        (tmp_path / name).mkdir()
        tensors = {"data": data, "constant_fields": fixed, "constant_scalars": values(3, 2)}
        torch.save({k: torch.from_numpy(v) for k, v in tensors.items()}, tmp_path / name / "data.pt")
    with pytest.raises(UserError, match=r"\(lengths\).*\(fields\)"):
        datasets.open(tmp_path)
    fields = (Field("u"), Field("v"), Field("mask"))
    hints = Hints(lengths=(1.0, 2.0), boundary="wall", centering="cell", dt=0.1, fields=fields)
    for path, splits in ((tmp_path, ["train", "test"]), (tmp_path / "test/data.pt", ["test"])):
        found = datasets.open(path, hints)
        assert list(found.splits) == splits and list(found["test"].parameters) == ["scalar_0", "scalar_1"]
        assert np.array_equal(states(found, "test")[:, :, 1], data[..., 1])
        assert np.array_equal(states(found, "test")[:, 2, 2], fixed[..., 0])


def test_bubbles_open_as_arrays_of_ones_own(tmp_path: Path) -> None:
    """BubbleML: one HDF5 file per simulation, every variable (T, Y, X), the coordinates too."""
    t, u = values(4, 6, 5), values(4, 6, 5)
    with h5py.File(tmp_path / "Twall-90.hdf5", "w") as file:
        file["temperature"], file["velx"] = t, u
        file["x"], file["y"] = np.zeros((4, 6, 5)), np.zeros((4, 6, 5))
    fields = (Field("temperature", "K"), Field("velx", "m/s"))
    box = {"lengths": (5.0, 6.0), "boundary": "wall", "centering": "cell", "dt": 0.1}
    with pytest.raises(UserError, match="say what their axes are with hints"):
        datasets.open(tmp_path / "Twall-90.hdf5")
    found = datasets.open(tmp_path / "Twall-90.hdf5", Hints(axes="tyx", fields=fields, **box))
    assert np.array_equal(states(found)[0, :, 1], u.swapaxes(1, 2))


# There and back --------------------------------------------------------------------------------------------


def made(
    grid: Grid, fields: tuple[Field, ...], frames: int = 5, parameters: bool = True, **constants: float
) -> Dataset:
    """A dataset in memory with three splits, whose times begin at 18."""
    width = sum(grid.dimension**f.rank for f in fields)

    def split(name: str, samples: int) -> Split:
        block = ArrayBlock(values(samples, frames, width, *grid.shape))
        times = torch.arange(frames, dtype=torch.float64) * 0.3 + 18
        nu = {"nu": torch.rand(samples, dtype=torch.float64)} if parameters else {}
        return Split(name, fields, (block,), (grid,), (times,), nu)

    splits = {"train": split("train", 5), "valid": split("valid", 2), "test": split("test", 3)}
    return Dataset(Path("memory"), "flow", "native", splits, constants)


def same(one: Dataset, other: Dataset) -> None:
    assert list(one.splits) == list(other.splits) and dict(one.constants) == dict(other.constants)
    for name in one.splits:
        a, b = one[name], other[name]
        assert b.fields == a.fields and b.domain == a.domain and torch.equal(b.times, a.times)
        assert torch.equal(a.trajectories().data, b.trajectories().data)
        assert set(a.parameters) == set(b.parameters)
        assert all(torch.equal(a.parameters[k], b.parameters[k]) for k in a.parameters)


PERIODIC = Grid((6, 4), (2.0, 3.0), "periodic", origin=(0.1, -1.0))
BOUNDED = Grid((6, 4), (2.0, 3.0), (("wall", "outflow"), "periodic"), (0.1, -1.0), "cell")
VELOCITY, SMOKE = Field("velocity", "m/s", 1), Field("smoke", "kg")
GAS = (Field("density", "kg/m^3"), Field("pressure", "Pa"), VELOCITY)


@pytest.mark.parametrize(
    ("layout", "dataset"),
    [
        (apebench.write_apebench, made(PERIODIC, (VELOCITY, SMOKE), gamma=1.4)),
        (apebench.write_apebench, made(Grid((7,), (2.0,)), (Field("u"),))),
        (poseidon.write_poseidon, made(BOUNDED, (VELOCITY, SMOKE), gamma=1.4)),
        (poseidon.write_poseidon, made(BOUNDED, (SMOKE,))),
        (poseidon.write_poseidon, made(BOUNDED, (SMOKE, VELOCITY), frames=1)),
        (labelled.write_zarr, made(BOUNDED, (SMOKE, VELOCITY), gamma=1.4)),
        (labelled.write_zarr, made(Grid((4, 3, 2), (1.0, 2.0, 3.0)), (Field("stress", "Pa", 2),))),
        (pdebench.write_pdebench, made(BOUNDED, (VELOCITY, SMOKE), gamma=1.4)),  # incompressible
        (pdebench.write_pdebench, made(BOUNDED, (SMOKE, Field("heat")), gamma=1.4)),  # groups
        (pdebench.write_pdebench, made(Grid((7,), (2.0,), "wall"), (SMOKE, Field("heat")))),
        (pdebench.write_pdebench, made(Grid((7,), (2.0,), "neumann"), (SMOKE,), beta=0.4)),
        (pdebench.write_pdebench, made(BOUNDED, GAS, M=0.1)),
        (pdebench.write_pdebench, made(Grid((4, 3, 2), (1.0, 2.0, 3.0), centering="cell"), GAS)),
    ],
)
def test_there_and_back_bit_for_bit(tmp_path: Path, layout: Any, dataset: Dataset) -> None:
    done: list[int] = []
    notes = layout(dataset, tmp_path / "out", done.append)
    assert done[-1] == 10 and done == sorted(done) and all(isinstance(note, str) for note in notes)
    assert not list((tmp_path / "out").glob("*.part"))
    same(dataset, datasets.open(tmp_path / "out"))


def pairs(grid: Grid) -> Dataset:
    fields = (Field("source", "W"),), (Field("heat", "K"),)
    splits = {
        name: Pairs(
            name,
            *fields,
            (ArrayBlock(values(n, 1, 1, *grid.shape)),),
            (ArrayBlock(values(n, 1, 1, *grid.shape)),),
            grid,
        )
        for name, n in (("train", 3), ("test", 2))
    }
    return Dataset(Path("memory"), "static", "native", splits)


@pytest.mark.parametrize("write", [poseidon.write_poseidon, labelled.write_zarr, pdebench.write_pdebench])
def test_pairs_there_and_back(tmp_path: Path, write: Any) -> None:
    dataset = pairs(BOUNDED)
    write(dataset, tmp_path / "out", lambda done: None)
    back = datasets.open(tmp_path / "out")
    for name in ("train", "test"):
        assert torch.equal(back[name].inputs, dataset[name].inputs)
        assert torch.equal(back[name].targets, dataset[name].targets)
        assert back[name].fields == dataset[name].fields and back[name].domain == BOUNDED
        assert back[name].input_fields == dataset[name].input_fields


def test_what_a_layout_cannot_hold_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    def nothing(done: int) -> None:
        raise AssertionError("something was written")

    mixed = made(PERIODIC, (VELOCITY,))
    test = mixed["test"]
    mixed.splits["test"] = Split(  # type: ignore[index]
        "test", test.fields, test.blocks, (PERIODIC,), (torch.arange(5, dtype=torch.float64),), {}
    )
    cube = Grid((4, 3, 2), (1.0, 1.0, 1.0))
    for write, dataset, match in (
        (apebench.write_apebench, made(BOUNDED, (SMOKE,)), "nodes of one periodic grid"),
        (apebench.write_apebench, pairs(PERIODIC), "holds static pairs"),
        (apebench.write_apebench, mixed, "one time step for all splits"),
        (poseidon.write_poseidon, made(cube, (SMOKE,)), "on a grid in 2D"),
        (poseidon.write_poseidon, mixed, "differ in their grid or times"),
        (pdebench.write_pdebench, made(cube, (SMOKE,)), "hold density, pressure and velocity only"),
        (
            pdebench.write_pdebench,
            made(BOUNDED, (Field("density"), Field("momentum", rank=1), Field("energy"))),
            "'gamma'",
        ),
    ):
        with pytest.raises(UserError, match=match):
            write(dataset, tmp_path / "out", nothing)
        assert not (tmp_path / "out").exists()


def test_our_files_of_pdebench_look_like_theirs(tmp_path: Path) -> None:
    pdebench.write_pdebench(made(BOUNDED, (SMOKE, Field("heat"))), tmp_path, lambda done: None)
    with h5py.File(tmp_path / "flow_train.h5") as file:
        assert sorted(file) == [f"{i:04d}" for i in range(5)]
        group = file["0003"]
        assert group["data"].shape == (5, 4, 6, 2) and group["data"].compression == "lzf"  # (t, y, x, v)
        assert (
            group["grid/x"].shape == (6,)
            and group["grid/y"].shape == (4,)
            and group["grid/t"].shape == (5,)
        )
        assert "nu: " in group.attrs["config"]
    pdebench.write_pdebench(made(BOUNDED, (VELOCITY, SMOKE)), tmp_path / "b", lambda done: None)
    with h5py.File(tmp_path / "b/flow_test.h5") as file:
        assert file["velocity"].shape == (3, 5, 6, 4, 2) and file["velocity"].chunks == (1, 1, 6, 4, 2)
        assert file["particles"].shape == (3, 5, 6, 4, 1) and file["t"].shape == (3, 5)
        assert file.attrs["latestIndex"] == 4 and file["velocity"].shuffle


def test_our_stores_open_in_xarray_with_names_and_units(tmp_path: Path) -> None:
    xarray = pytest.importorskip("xarray")
    pytest.importorskip("zarr", reason="zarr is not installed, extra 'interop'")
    dataset = made(BOUNDED, (SMOKE, VELOCITY))
    dataset["train"].blocks[0]._data[0, 0] = 0  # zeros are values, not missing ones
    labelled.write_zarr(dataset, tmp_path, lambda done: None)
    with xarray.open_zarr(tmp_path / "train.zarr", consolidated=False) as opened:
        assert opened["velocity_y"].dims == ("sample", "time", "x", "y")
        assert opened["velocity_y"].attrs["units"] == "m/s" and float(opened["time"][0]) == 18
        assert np.array_equal(opened["smoke"].values, states(dataset)[:, :, 0])
        assert np.allclose(opened["x"].values, BOUNDED.axes()[0].numpy())


def test_a_split_may_be_drawn(tmp_path: Path) -> None:
    path = tmp_path / "1D_Advection.hdf5"
    tensor = values(20, 3, 8)
    with h5py.File(path, "w") as file:
        file["tensor"] = tensor
        file["x-coordinate"], file["t-coordinate"] = (np.arange(8) + 0.5) / 8, np.arange(4) * 0.1
    found = datasets.open(path, Hints(split=(0.7, 0.2, 0.1)))
    again = datasets.open(path, Hints(split=(0.7, 0.2, 0.1)))
    parts = [states(found, name)[:, :, 0] for name in ("train", "valid", "test")]
    assert [len(p) for p in parts] == [14, 4, 2]
    drawn = np.concatenate(parts)
    assert not np.array_equal(drawn, tensor)
    assert np.array_equal(np.sort(drawn, axis=0), np.sort(tensor, axis=0))  # each once
    assert np.array_equal(states(again, "test")[:, :, 0], parts[2])
    windows = found["valid"].windows(1, 1).__getitems__([2, 5])[:, :, 0].numpy()
    assert np.array_equal(windows[0], parts[1][1, :2]) and np.array_equal(windows[1], parts[1][2, 1:])
    for split, match in (
        ((0.5, 0.2, 0.1), "three fractions"),
        ((30, 1, 1), "cannot be divided"),
        ((-1, 1, 1), "three fractions"),
    ):
        with pytest.raises(UserError, match=match):
            datasets.open(path, Hints(split=split))


def test_trajectories_written_by_us_keep_their_batches(tmp_path: Path) -> None:
    """More than one piece: blocks of one sample each."""
    grid = Grid((5, 3), (1.0, 1.0))
    blocks = tuple(ArrayBlock(values(1, 4, 1, 5, 3)) for _ in range(7))
    times = (torch.arange(4, dtype=torch.float64),)
    split = Split("train", (Field("u"),), blocks, (grid,), times)
    dataset = Dataset(Path("memory"), "many", "native", {"train": split})
    whole = split.trajectories()
    assert isinstance(whole, Trajectory)
    poseidon.write_poseidon(dataset, tmp_path, lambda done: None)
    assert np.array_equal(states(datasets.open(tmp_path)), whole.data.numpy())
