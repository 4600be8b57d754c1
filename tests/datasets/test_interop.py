"""Files of other projects, made here as their layouts say, and real ones where they are at hand."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

import sciml.datasets as datasets
from sciml import Cloud, Field, Grid, Trajectory
from sciml.datasets import Hints
from sciml.datasets.schema import set_flags, set_texts
from sciml.datasets.statistics import make_statistics
from sciml.errors import UserError

RNG = np.random.default_rng(0)


def values(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


@pytest.fixture
def external() -> Path:
    folder = os.environ.get("SCIML_EXTERNAL_DATA")
    if not folder:
        pytest.skip("SCIML_EXTERNAL_DATA is not set: it names the folder with the files of other projects")
    return Path(folder)


# The Well -------------------------------------------------------------------------------------------------


def well_file(path: Path) -> dict[str, np.ndarray]:
    """The smallest complete example: 2D periodic, 2 trajectories of 6 frames on 8 x 4 points."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {
        "rho": values(2, 6, 8, 4),
        "mask0": values(8, 4),
        "velocity": values(2, 6, 8, 4, 2),
        "stress": values(2, 6, 8, 4, 2, 2),
    }
    with h5py.File(path, "w") as file:
        file.attrs.update({"dataset_name": "demo", "grid_type": "cartesian", "n_spatial_dims": 2})
        file.attrs.update({"n_trajectories": 2, "nu": 0.01})
        set_texts(file.attrs, "simulation_parameters", ["nu"])
        dimensions = file.create_group("dimensions")
        set_texts(dimensions.attrs, "spatial_dims", ["x", "y"])
        axes = {"time": np.linspace(0, 1, 6), "x": np.arange(8) / 8, "y": np.arange(4) / 4}
        for name, axis in axes.items():
            set_flags(
                dimensions.create_dataset(name, data=axis.astype("f4")),
                sample_varying=False,
                time_varying=name == "time",
            )
        boundaries = file.create_group("boundary_conditions")
        for axis, n in (("x", 8), ("y", 4)):
            group = boundaries.create_group(f"{axis}_periodic")
            group.attrs["bc_type"] = "periodic"
            set_texts(group.attrs, "associated_dims", [axis])
            set_texts(group.attrs, "associated_fields", [])
            set_flags(group, sample_varying=False, time_varying=False)
            mask = np.zeros(n, dtype=bool)
            mask[[0, -1]] = True
            group["mask"] = mask
        scalars = file.create_group("scalars")
        set_texts(scalars.attrs, "field_names", ["nu"])
        scalars["nu"] = np.float32(0.01)
        set_flags(scalars["nu"], sample_varying=False, time_varying=False)
        for rank, names in enumerate((["rho", "mask0"], ["velocity"], ["stress"])):
            group = file.create_group(f"t{rank}_fields")
            set_texts(group.attrs, "field_names", names)
            for name in names:
                group[name] = arrays[name]
                moving = name != "mask0"
                set_flags(group[name], sample_varying=moving, time_varying=moving, dim_varying=[True, True])
                if rank == 2:
                    set_flags(group[name], symmetric=True, antisymmetric=False)
    return arrays


def test_a_file_of_the_well_is_read_with_all_its_ranks(tmp_path: Path) -> None:
    arrays = well_file(tmp_path / "data/train/a.h5")
    found = datasets.open(tmp_path)
    assert found.channels == (
        *("rho", "velocity_x", "velocity_y"),
        *("stress_xx", "stress_xy", "stress_yx", "stress_yy"),
    )
    data = found["train"].trajectories().data.numpy()
    assert np.array_equal(data[:, :, 0], arrays["rho"])
    assert np.array_equal(data[:, :, 2], arrays["velocity"][..., 1])
    assert np.array_equal(data[:, :, 4], arrays["stress"][..., 0, 1])
    assert found.domain == Grid((8, 4), (1.0, 1.0)) and found.constants == {"nu": pytest.approx(0.01)}
    assert any("mask0" in note for note in found.notes)
    assert datasets.check(tmp_path / "data/train/a.h5").ok


def test_liberties_that_the_well_takes_are_understood(tmp_path: Path) -> None:
    path = tmp_path / "a.hdf5"
    arrays = well_file(path)
    with h5py.File(path, "a") as file:
        del file["dimensions/time"].attrs["time_varying"]  # its own documentation omits it
        stress = file["t2_fields/stress"][()]
        attributes = dict(file["t2_fields/stress"].attrs)
        del file["t2_fields/stress"]
        file["t2_fields/stress"] = stress.reshape(2, 6, 8, 4, 4)  # D*D in one axis
        del file["t0_fields/rho"]
        file["t0_fields/rho"] = arrays["rho"][:, :, :, 0]  # an axis left out
        set_flags(file["t0_fields/rho"], sample_varying=True, time_varying=True, dim_varying=[True, False])
        for name, value in attributes.items():
            file["t2_fields/stress"].attrs[name] = value
        wall = file["boundary_conditions"].move("y_periodic", "y_wall")
        assert wall is None
        file["boundary_conditions/y_wall"].attrs["bc_type"] = "wall"
    found = datasets.open(path)
    data = found["train"].trajectories().data.numpy()
    assert np.array_equal(data[:, :, 5], arrays["stress"][..., 1, 0])
    assert np.array_equal(data[:, :, 0], np.broadcast_to(arrays["rho"][..., :1], (2, 6, 8, 4)))
    assert isinstance(found.domain, Grid) and found.domain.sides[1] == ("wall", "wall")
    assert found.domain.lengths == pytest.approx((1.0, 0.75))  # nodes on both walls
    assert any("'wall'" in note for note in found.notes)
    told = datasets.open(path, Hints(boundary=("periodic", "dirichlet"))).domain
    assert isinstance(told, Grid) and told.sides[1] == ("dirichlet", "dirichlet")


def test_the_wells_own_loader_reads_our_files(tmp_path: Path) -> None:
    the_well = pytest.importorskip("the_well.data", reason="the-well is not installed, extra 'dev'")
    grid = Grid((8, 6), (2.0, 3.0), ("periodic", "wall"))
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(3, 5, 3, 8, 6, generator=generator)
    parameters = {"nu": torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)}
    times = torch.arange(5, dtype=torch.float64) * 0.5
    fields = (Field("density"), Field("velocity", "m/s", 1))
    trajectory = Trajectory(data, grid, times, fields, parameters)
    for split in ("train", "valid", "test"):
        datasets.write_shard(
            tmp_path / f"data/{split}/shard-00000.hdf5", trajectory, name="ours", constants={"gamma": 1.4}
        )
    make_statistics(tmp_path)
    normal = __import__("the_well.data.normalization", fromlist=["ZScoreNormalization"])
    for split in ("train", "valid", "test"):
        theirs = the_well.WellDataset(
            path=str(tmp_path), well_split_name=split, n_steps_input=2, n_steps_output=1
        )
        assert len(theirs) == 3 * 3
        item = theirs[4]  # second trajectory, from its second frame
        assert torch.equal(item["input_fields"], data[1, 1:3].movedim(1, -1))
        assert torch.equal(item["output_fields"], data[1, 3:4].movedim(1, -1))
        assert item["boundary_conditions"].tolist() == [[2, 2], [0, 0]]
        assert sorted(item["constant_scalars"].tolist()) == pytest.approx([0.2, 1.4])
        assert torch.allclose(item["space_grid"].movedim(-1, 0), grid.coordinates().float())
    scaled = the_well.WellDataset(
        path=str(tmp_path),
        well_split_name="train",
        normalization_path="stats.yaml",
        use_normalization=True,
        normalization_type=normal.ZScoreNormalization,
    )
    stats = datasets.open(tmp_path).stats
    expected = (data[0, 0, 0].double() - stats.mean[0]) / stats.std[0]
    assert torch.allclose(scaled[0]["input_fields"][0, ..., 0].double(), expected, atol=1e-5)


def test_the_wells_own_example_is_read_by_us(tmp_path: Path) -> None:
    dummy: Any = pytest.importorskip(
        "the_well.utils.dummy_data", reason="the-well is not installed, extra 'dev'"
    )
    path = tmp_path / "dummy.hdf5"
    dummy.write_dummy_data(str(path))
    try:
        found = datasets.open(path)
    except UserError as fault:  # their example may lie on a grid that is not uniform
        assert "uniform" in str(fault) or "evenly" in str(fault)
        return
    assert len(found["train"]) > 0 and found["train"][0].data.ndim == 5


# PDEBench -------------------------------------------------------------------------------------------------


def test_pdebench_scalar(tmp_path: Path) -> None:
    tensor = values(3, 5, 8)
    path = tmp_path / "1D_Advection_Sols_beta0.4.hdf5"
    with h5py.File(path, "w") as file:
        file["tensor"] = tensor
        file["x-coordinate"] = ((np.arange(8) + 0.5) / 8).astype("f4")
        file["t-coordinate"] = (np.arange(6) * 0.01).astype("f4")  # one too many
        file.attrs["beta"] = 0.4
    found = datasets.open(path, Hints(fields=(Field("concentration"),)))
    split = found["train"]
    assert np.array_equal(split.trajectories().data.numpy()[:, :, 0], tensor)
    assert (
        isinstance(found.domain, Grid)
        and found.domain.centering == "cell"
        and found.domain.periodic == (True,)
    )
    assert found.domain.lengths == pytest.approx((1.0,)) and found.domain.origin == pytest.approx(
        (0.0,), abs=1e-7
    )
    assert found.dt == pytest.approx(0.01, rel=1e-6) and found.constants == {"beta": 0.4}
    assert any("took them as periodic" in n for n in found.notes) and found.channels == ("concentration",)
    assert datasets.open(path, Hints(boundary="outflow")).notes == ()
    assert float(found.stats.mean[0]) == pytest.approx(float(tensor.astype("f8").mean()), rel=1e-6)


def test_pdebench_warns_of_what_is_wrong_at_its_origin(tmp_path: Path) -> None:
    path = tmp_path / "ReacDiff.hdf5"
    with h5py.File(path, "w") as file:
        file["tensor"] = values(2, 3, 4)
        file["x-coordinate"], file["t-coordinate"] = (np.arange(4) + 0.5) / 4, np.arange(4) * 0.1
        file.attrs["Nu"], file.attrs["rho"] = 0.5, 1.0
    assert any("do not take them as truth" in n for n in datasets.open(path).notes)


def test_pdebench_flow_in_2d(tmp_path: Path) -> None:
    path = tmp_path / "2D_CFD_Rand_M0.1_Eta0.01_Zeta0.01_periodic_128_Train.hdf5"
    arrays = {n: values(2, 3, 16, 12) for n in ("density", "pressure", "Vx", "Vy")}
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array
        file["x-coordinate"], file["y-coordinate"] = (np.arange(16) + 0.5) / 16, (np.arange(12) + 0.5) / 12
        file["t-coordinate"] = np.arange(4) * 0.05
        file.attrs["M"] = 0.1
    found = datasets.open(path)
    assert found.channels == ("density", "pressure", "velocity_x", "velocity_y")
    data = found["train"].trajectories().data.numpy()
    for channel, name in enumerate(("density", "pressure", "Vx", "Vy")):
        assert np.array_equal(data[:, :, channel], arrays[name])
    with h5py.File(path, "a") as file:
        del file["Vy"]
    with pytest.raises(UserError, match="expected 'Vy' of shape .* found nothing"):
        datasets.open(path)


def test_pdebench_open_ends_are_read_from_the_name(tmp_path: Path) -> None:
    path = tmp_path / "1D_CFD_Shock_Eta1.e-8_Zeta1.e-8_trans_Train.hdf5"
    with h5py.File(path, "w") as file:
        for name in ("density", "pressure", "Vx"):
            file[name] = values(2, 3, 8)
        file["x-coordinate"], file["t-coordinate"] = -1 + (np.arange(8) + 0.5) / 4, np.arange(4) * 0.1
    domain = datasets.open(path).domain
    assert isinstance(domain, Grid) and domain.sides == (("outflow", "outflow"),)
    assert domain.lengths == pytest.approx((2.0,)) and domain.origin == pytest.approx((-1.0,))


def test_pdebench_darcy(tmp_path: Path) -> None:
    path = tmp_path / "2D_DarcyFlow_beta1.0_Train.hdf5"
    nu, tensor = values(10, 8, 8), values(10, 1, 8, 8)
    with h5py.File(path, "w") as file:
        file["nu"], file["tensor"] = nu, tensor
        file["x-coordinate"] = file["y-coordinate"] = (np.arange(8) + 0.5) / 8
        file.attrs["beta"] = 1.0
    split = datasets.open(path)["train"]
    assert isinstance(split, datasets.Pairs)
    assert np.array_equal(split.inputs.numpy()[:, 0], nu) and np.array_equal(split.targets.numpy(), tensor)


def test_pdebench_groups_are_transposed_and_their_sides_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "2D_diff-react_NA_NA.h5"
    arrays = [values(3, 6, 4, 2) for _ in range(24)]  # (t, y, x, v)
    with h5py.File(path, "w") as file:
        for i, array in enumerate(arrays):
            group = file.create_group(f"{i:04d}")
            group.create_dataset("data", data=array, compression="lzf")
            group["grid/x"], group["grid/y"] = -1 + (np.arange(4) + 0.5) / 2, -1 + (np.arange(6) + 0.5) / 3
            group["grid/t"] = np.arange(3) * 0.05
            group.attrs["config"] = "seed: 0"
    with pytest.raises(UserError, match="does not name the sides.*Hints\\(boundary='neumann'\\)"):
        datasets.open(path)
    found = datasets.open(path, Hints(boundary="neumann"))
    split = found["train"]
    assert len(split) == 24 and isinstance(found.domain, Grid)
    assert found.domain.shape == (4, 6) and found.domain.lengths == pytest.approx((2.0, 2.0))
    data = split.trajectories([0, 23]).data.numpy()
    assert np.array_equal(data[1], arrays[23].transpose(0, 3, 2, 1))
    window = split.windows(1, 1).__getitems__([3])[0].numpy()
    assert np.array_equal(window, arrays[1].transpose(0, 3, 2, 1)[1:3])


# MeshGraphNets conversions -----------------------------------------------------------------------------------


def test_meshes_with_static_arrays_repeated_per_frame(tmp_path: Path) -> None:
    path = tmp_path / "test.h5"
    points = np.array([[0, 0], [1, 0], [0, 1]], dtype="f4")
    velocity, pressure = values(5, 3, 2), values(5, 3, 1)
    with h5py.File(path, "w") as file:
        group = file.create_group("0")
        group["pos"] = np.tile(points, (5, 1, 1))
        group["cells"] = np.tile(np.array([[0, 1, 2]], dtype="i4"), (5, 1, 1))
        group["node_type"] = np.tile(np.array([[0], [4], [6]], dtype="i4"), (5, 1, 1))
        group["velocity"], group["pressure"] = velocity, pressure
    with pytest.raises(
        UserError, match="does not say the time between frames; pass hints=Hints\\(dt=...\\)"
    ):
        datasets.open(path)
    found = datasets.open(path, Hints(dt=0.01))
    trajectory = found["test"][0]
    assert trajectory.channels == ("pressure", "velocity_x", "velocity_y")
    assert np.array_equal(trajectory.data[0, :, 2].numpy(), velocity[..., 1])
    assert trajectory.domain.types.tolist() == [0, 4, 6] and found.dt == pytest.approx(0.01)


# neuraloperator -----------------------------------------------------------------------------------------------


def test_tensor_files_are_pairs_or_trajectories_as_their_shapes_say(tmp_path: Path) -> None:
    x = torch.randn(6, 8, 8, generator=torch.Generator().manual_seed(0)) > 0
    y = torch.randn(6, 8, 8, generator=torch.Generator().manual_seed(1))
    fine = torch.zeros(2, 16, 16)
    torch.save({"x": x, "y": y}, tmp_path / "darcy_train_8.pt")
    torch.save({"x": x[:2], "y": y[:2]}, tmp_path / "darcy_test_8.pt")
    torch.save({"x": fine > 0, "y": fine}, tmp_path / "darcy_test_16.pt")
    u = torch.randn(4, 5, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    torch.save({"x": u[:, 0], "y": u, "visc": torch.tensor([[0.01]])}, tmp_path / "burgers_train_8.pt")
    pairs = datasets.open(tmp_path)
    assert list(pairs.splits) == ["train", "test", "test_16"] and pairs.static
    assert torch.equal(pairs["train"].inputs, x[:, None].float()) and pairs["test_16"].domain.shape == (
        16,
        16,
    )
    assert torch.equal(pairs["train"].targets, y[:, None])
    assert any("took darcy" in n for n in pairs.notes) and any("no coordinates" in n for n in pairs.notes)
    for flow in (datasets.open(tmp_path, select="burgers"), datasets.open(tmp_path / "burgers")):
        assert torch.equal(flow["train"].trajectories().data, u[:, :, None].float())
        assert flow.constants == {"viscosity": pytest.approx(0.01)} and flow.dt == pytest.approx(1 / 5)
    told = datasets.open(
        tmp_path / "burgers_train_8.pt", Hints(lengths=(2.0,), boundary="periodic", dt=0.1)
    )
    assert told.dt == pytest.approx(0.1) and told.domain == Grid((8,), (2.0,))
    with pytest.raises(UserError, match="no problem 'navier'; it has burgers, darcy"):
        datasets.open(tmp_path, select="navier")


class Dangerous:
    """Would run code when unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, ("ran",))


def test_tensor_files_that_need_code_or_are_cut_off_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"x": Dangerous()}, tmp_path / "a.pt")
    with pytest.raises(UserError, match="cannot be loaded safely"):
        datasets.open(tmp_path / "a.pt")
    assert not (tmp_path / "ran").exists()
    torch.save({"x": torch.zeros(2, 4), "y": torch.zeros(2, 4)}, tmp_path / "b.pt")
    content = (tmp_path / "b.pt").read_bytes()
    (tmp_path / "b.pt").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="cannot be loaded safely"):
        datasets.open(tmp_path / "b.pt")
    torch.save({"x": torch.zeros(2, 4), "y": torch.zeros(2, 5)}, tmp_path / "c.pt")
    with pytest.raises(UserError, match="'x' \\(2, 4\\) and 'y' \\(2, 5\\); expected equal shapes"):
        datasets.open(tmp_path / "c.pt")


@pytest.mark.external
def test_the_real_darcy_files_open_by_content(external: Path) -> None:
    found = datasets.open(external / "neuraloperator")
    assert {name: len(split) for name, split in found.splits.items()} == {
        "train": 1000,
        "test": 50,
        "test_32": 50,
    }
    coarse, fine = found["test"], found["test_32"]
    assert coarse.inputs.shape == (50, 1, 16, 16) and set(coarse.inputs.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(coarse.targets, fine.targets[..., ::2, ::2])
    # The coordinates that were assumed agree: point (i, j) of 16 is point (2i, 2j) of 32.
    assert torch.allclose(coarse.domain.coordinates(), fine.domain.coordinates()[:, ::2, ::2])
    assert found.stats.inputs is not None and 0 < float(found.stats.std[0]) < 1
    assert datasets.open(external / "neuraloperator/darcy_train_16.pt")["train"].targets.shape == (
        1000,
        1,
        16,
        16,
    )


@pytest.mark.external
def test_the_real_burgers_files_solve_burgers_at_the_assumed_times(external: Path) -> None:
    from sciml import rollout
    from sciml.pdes import Burgers
    from sciml.resample import resample
    from sciml.solvers import build

    found = datasets.open(external / "neuraloperator", select="burgers")
    true = found["train"].trajectories(slice(0, 20)).data.double()
    coarse = found.domain
    assert isinstance(coarse, Grid)
    fine = coarse.resized((128,))
    step = build(Burgers(found.constants["viscosity"]), fine, found.dt)
    mine = rollout(step, 16)(resample(true[:, 0], coarse, fine))[..., ::8]
    gap = (mine - true).flatten(2).norm(dim=2) / true.flatten(2).norm(dim=2)
    # Sixteen points, and a solver of theirs that is not known; another dt or viscosity misses by far more.
    assert float(gap.mean(dim=0).max()) < 0.02


@pytest.mark.external
def test_the_real_particles_open(external: Path) -> None:
    found = datasets.open(external / "lagrangebench/3D_LJ_3_1214every1")
    assert isinstance(found.domain, Cloud) and found.domain.lengths == (5.0, 5.0, 5.0)
    trajectory = found["train"][0]
    assert trajectory.data.shape == (1, 1214, 3, 3) and found.dt == pytest.approx(0.005)
    metadata = json.loads((external / "lagrangebench/3D_LJ_3_1214every1/metadata.json").read_text())
    states = [split[0].data[0].double() for split in found.splits.values()]
    velocity = torch.cat([found.domain.displacement(x[1:], x[:-1]) for x in states])
    # Their statistics are those of the minimum-image differences of all three splits; which frames they
    # left out is not recorded.
    assert velocity.std(dim=(0, 2)).tolist() == pytest.approx(metadata["vel_std"], rel=0.1)
