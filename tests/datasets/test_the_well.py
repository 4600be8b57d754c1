"""Folders of ours in the hands of The Well's own tools, and against the rules of its format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

import sciml.datasets as datasets
from sciml import Field, Grid, Trajectory
from sciml.datasets.statistics import make_statistics

CASES: dict[str, tuple[Grid, tuple[Field, ...]]] = {
    "line": (Grid((16,), (1.0,), "periodic"), (Field("u"),)),
    "cells": (
        Grid((8, 6), (2.0, 1.0), ("wall", "outflow"), centering="cell"),
        (Field("p"), Field("v", "m/s", 1)),
    ),
    "box": (
        Grid((4, 6, 5), (1.0, 2.0, 3.0), ("periodic", ("inflow", "outflow"), "dirichlet")),
        (Field("density"), Field("momentum", rank=1), Field("stress", rank=2)),
    ),
}


def write(folder: Path, case: str, chunked: bool = False) -> torch.Tensor:
    """Two shards per split of random numbers; what the training split holds."""
    grid, fields = CASES[case]
    generator = torch.Generator().manual_seed(0)
    times = 0.5 * torch.arange(4, dtype=torch.float64)
    channels = sum(len(f.channels(grid.dimension)) for f in fields)
    kept = []
    for split in ("train", "valid", "test"):
        for shard in range(2):
            data = 3 + torch.randn(2, 4, channels, *grid.shape, generator=generator)
            parameters = {"nu": torch.rand(2, generator=generator, dtype=torch.float64)}
            datasets.write_shard(
                folder / f"data/{split}/shard-{shard:05d}.hdf5",
                Trajectory(data, grid, times, fields, parameters),
                name=case,
                constants={"gamma": 1.4},
                codec="lzf" if chunked else "none",
            )
            kept += [data] if split == "train" else []
    make_statistics(folder)
    return torch.cat(kept)


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("how", ["ZScoreNormalization", "RMSNormalization"])
def test_its_loader_reads_and_normalises_our_folders(
    tmp_path: Path, case: str, how: str, chunked: bool
) -> None:
    data: Any = pytest.importorskip("the_well.data", reason="the-well is not installed, extra 'dev'")
    from the_well.data import normalization

    states = write(tmp_path, case, chunked)
    stats = datasets.open(tmp_path).stats
    scaling = datasets.Scaling.z_score(stats) if how.startswith("Z") else datasets.Scaling.rms(stats)
    loader = data.WellDataset(
        path=str(tmp_path),
        well_split_name="train",
        n_steps_input=2,
        n_steps_output=1,
        normalization_path="stats.yaml",
        use_normalization=True,
        normalization_type=getattr(normalization, how),
    )
    assert len(loader) == 4 * 2
    for index in (0, 5):
        sample, frame = divmod(index, 2)
        expected = scaling(states[sample, frame : frame + 3]).movedim(1, -1)
        found = torch.cat([loader[index]["input_fields"], loader[index]["output_fields"]])
        assert torch.allclose(found, expected, atol=1e-4)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _flags(node: Any, *names: str) -> None:
    for name in names:
        value = np.asarray(node.attrs[name])
        assert value.dtype == np.bool_, f"{node.name}: {name} is {value.dtype}"


@pytest.mark.parametrize("case", CASES)
def test_our_files_keep_the_rules_of_the_format(tmp_path: Path, case: str) -> None:
    """The rules that the project's own checker enforces, written down from its description."""
    write(tmp_path, case)
    grid, fields = CASES[case]
    dimension, samples, frames = grid.dimension, 2, 4
    with h5py.File(tmp_path / "data/train/shard-00000.hdf5", "r") as file:
        assert _is_text(file.attrs["dataset_name"]) and file.attrs["grid_type"] == "cartesian"
        assert (
            int(file.attrs["n_spatial_dims"]) == dimension and int(file.attrs["n_trajectories"]) == samples
        )
        for name in file.attrs["simulation_parameters"]:
            assert _is_text(name) and float(file.attrs[name]) == 1.4 and name in file["scalars"]
        assert {
            "dimensions",
            "boundary_conditions",
            "scalars",
            "t0_fields",
            "t1_fields",
            "t2_fields",
        } <= set(file)
        axes = list(file["dimensions"].attrs["spatial_dims"])
        assert axes == list("xyz"[:dimension]) and all(_is_text(a) for a in axes)
        assert file["dimensions/time"].shape == (frames,) and bool(
            file["dimensions/time"].attrs["time_varying"]
        )
        for axis, n in zip(["time", *axes], [frames, *grid.shape], strict=True):
            assert file["dimensions"][axis].shape == (n,)
            _flags(file["dimensions"][axis], "sample_varying", "time_varying")
        for name, group in file["boundary_conditions"].items():
            kind, along = group.attrs["bc_type"], list(group.attrs["associated_dims"])
            assert kind in ("periodic", "wall", "open") and kind in name and along[0] in name
            assert [a for a in axes if a in along] == along and len(
                list(group.attrs["associated_fields"])
            ) == 0
            _flags(group, "sample_varying", "time_varying")
            mask = group["mask"][()]
            assert mask.dtype == np.bool_ and mask.shape == (grid.shape[axes.index(along[0])],)
            assert mask[0] or mask[-1]
        for name in file["scalars"].attrs["field_names"]:
            varying = bool(file["scalars"][name].attrs["sample_varying"])
            assert file["scalars"][name].shape == ((samples,) if varying else ())
            _flags(file["scalars"][name], "sample_varying", "time_varying")
        for rank in range(3):
            group = file[f"t{rank}_fields"]
            assert list(group.attrs["field_names"]) == [f.name for f in fields if f.rank == rank]
            for name in group.attrs["field_names"]:
                stored = group[name]
                assert stored.dtype == np.float32
                assert stored.shape == (samples, frames, *grid.shape, *[dimension] * rank)
                _flags(stored, "sample_varying", "time_varying", "dim_varying")
                assert (
                    bool(np.all(stored.attrs["dim_varying"]))
                    and len(stored.attrs["dim_varying"]) == dimension
                )
                if rank == 2:
                    _flags(stored, "symmetric", "antisymmetric")
