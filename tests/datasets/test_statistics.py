"""Normalisation is that of the training split, computed in float64."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

import sciml.datasets as datasets
from sciml import Field, Grid, Trajectory
from sciml.datasets.statistics import make_statistics, measure
from sciml.errors import UserError

GRID = Grid((8, 4), (1.0, 1.0))
FIELDS = (Field("velocity", "m/s", 1), Field("density"))


def write(folder: Path, split: str, data: torch.Tensor, name: str = "a") -> None:
    times = torch.arange(data.shape[1], dtype=torch.float64)
    datasets.write_shard(
        folder / f"data/{split}/{name}.hdf5", Trajectory(data, GRID, times, FIELDS), name="demo"
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    generator = torch.Generator().manual_seed(0)
    # A mean a thousand times the spread: one-pass sums of squares in float32 would lose it.
    offset = torch.tensor([1000.0, -3.0, 0.0]).reshape(3, 1, 1)
    write(tmp_path, "train", torch.randn(3, 6, 3, 8, 4, generator=generator) + offset, "a")
    write(tmp_path, "train", torch.randn(2, 6, 3, 8, 4, generator=generator) + 2 * offset, "b")
    write(tmp_path, "test", torch.full((1, 6, 3, 8, 4), 1e6))
    return tmp_path


def test_numbers_are_those_of_the_training_split(folder: Path) -> None:
    make_statistics(folder)
    found = datasets.open(folder).stats
    data = datasets.open(folder)["train"].trajectories().data.double()
    flat = data.transpose(0, 2).flatten(1)
    delta = data.diff(dim=1).transpose(0, 2).flatten(1)
    # Rounding of sums of a thousand float64 numbers.
    for key, values in (
        ("mean", flat.mean(1)),
        ("std", flat.std(1, correction=0)),
        ("rms", flat.square().mean(1).sqrt()),
        ("mean_delta", delta.mean(1)),
        ("std_delta", delta.std(1, correction=0)),
        ("rms_delta", delta.square().mean(1).sqrt()),
    ):
        assert torch.allclose(getattr(found, key), values, rtol=1e-11, atol=1e-12), key


def test_the_file_has_the_shape_that_readers_of_the_well_expect(folder: Path) -> None:
    content = yaml.safe_load(make_statistics(folder).read_text())
    assert set(content) == {"mean", "std", "rms", "mean_delta", "std_delta", "rms_delta"}
    assert isinstance(content["mean"]["density"], float) and len(content["std"]["velocity"]) == 2


def test_missing_or_broken_files_say_what_to_do(folder: Path) -> None:
    with pytest.raises(UserError, match="stats.yaml is missing.*python -m sciml.datasets.statistics"):
        _ = datasets.open(folder).stats
    path = make_statistics(folder)
    content = yaml.safe_load(path.read_text())
    del content["std"]["density"]
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(UserError, match="no field 'density' under 'std'; it has \\['velocity'\\]"):
        _ = datasets.open(folder).stats
    path.write_text("mean: [")
    with pytest.raises(UserError, match="not valid YAML"):
        _ = datasets.open(folder).stats
    path.write_text("mean: {}")
    with pytest.raises(UserError, match="must have 'mean' and 'std'; it has \\['mean'\\]"):
        _ = datasets.open(folder).stats


def test_pairs_have_statistics_of_their_inputs_too(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(3)
    targets = torch.randn(4, 1, 3, 8, 4, generator=generator)
    inputs = 5 + torch.randn(4, 1, 8, 4, generator=generator)
    datasets.write_shard(
        tmp_path / "data/train/a.hdf5",
        Trajectory(targets, GRID, torch.zeros(1, dtype=torch.float64), FIELDS),
        name="demo",
        inputs=inputs,
        input_fields=(Field("a"),),
    )
    make_statistics(tmp_path)
    found = datasets.open(tmp_path).stats
    assert found.inputs is not None
    assert float(found.inputs.mean) == pytest.approx(float(inputs.double().mean()), rel=1e-12)
    assert float(found.std[2]) == pytest.approx(
        float(targets[:, :, 2].double().std(correction=0)), rel=1e-12
    )
    assert torch.equal(found.mean, measure(datasets.open(tmp_path)["train"]).mean)
