"""Windows are the frames that they say, of one trajectory each."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

import sciml.datasets as datasets
from sciml import Field, Grid, Trajectory
from sciml.errors import UserError

FRAMES, SAMPLES, SHARDS = 7, 3, 2


@pytest.fixture
def split(tmp_path: Path) -> datasets.Split:
    """Two fields whose values say (sample, frame): 100 * sample + frame, and its negative."""
    grid = Grid((4,), (1.0,))
    for shard in range(SHARDS):
        samples = torch.arange(SAMPLES) + SAMPLES * shard
        value = (100.0 * samples[:, None] + torch.arange(FRAMES)).reshape(SAMPLES, FRAMES, 1, 1)
        data = torch.cat([value, -value], dim=2).expand(-1, -1, -1, 4)
        times = torch.arange(FRAMES, dtype=torch.float64)
        trajectory = Trajectory(data, grid, times, (Field("a"), Field("b")))
        datasets.write_shard(tmp_path / f"data/train/{shard}.hdf5", trajectory, name="demo")
    return datasets.open(tmp_path)["train"]


@pytest.mark.parametrize(("history", "horizon", "stride"), [(1, 1, 1), (2, 3, 1), (1, 2, 3), (3, 4, 1)])
def test_windows_never_cross_trajectories(
    split: datasets.Split, history: int, horizon: int, stride: int
) -> None:
    windows = split.windows(history, horizon, stride)
    length = history + horizon
    per_trajectory = FRAMES - stride * (length - 1)
    assert len(windows) == SAMPLES * SHARDS * per_trajectory
    batch = windows.__getitems__(range(len(windows)))
    assert batch.shape == (len(windows), length, 2, 4) and batch.dtype == torch.float32
    expected = torch.tensor(
        [
            [100.0 * sample + start + stride * k for k in range(length)]
            for sample in range(SAMPLES * SHARDS)
            for start in range(per_trajectory)
        ]
    )
    assert torch.equal(batch[:, :, 0, 0], expected)
    assert torch.equal(batch[:, :, 1, 3], -expected)
    assert torch.equal(torch.stack([windows[i] for i in range(len(windows))]), batch)


def test_negative_and_wrong_indices(split: datasets.Split) -> None:
    windows = split.windows()
    assert torch.equal(windows[-1], windows[len(windows) - 1])
    with pytest.raises(IndexError, match="There are 36 windows; got index 36"):
        windows[36]
    with pytest.raises(IndexError, match="There are 36 windows"):
        windows.__getitems__([0, 36])


def test_too_long_windows_are_refused(split: datasets.Split) -> None:
    with pytest.raises(
        UserError, match="at most 7 frames per trajectory; windows of 5 frames 2 apart need 9"
    ):
        split.windows(2, 3, stride=2)
    with pytest.raises(UserError, match="each must be at least 1"):
        split.windows(0, 1)


def test_loader_and_workers_give_the_same_batches(split: datasets.Split) -> None:
    windows = split.windows(1, 2)
    windows[0]  # maps the files in this process, which the worker must not inherit
    seen = []
    for workers in (0, 1):
        loader = DataLoader(windows, batch_size=8, num_workers=workers, collate_fn=windows.collate)
        seen.append(torch.cat(list(loader)))
    assert torch.equal(seen[0], seen[1]) and torch.equal(seen[0], windows.__getitems__(range(len(windows))))
    assert torch.equal(pickle.loads(pickle.dumps(windows))[3], windows[3])


def test_batches_see_every_window_once_in_a_seeded_order(split: datasets.Split) -> None:
    windows = split.windows()
    passes = [
        torch.cat(list(datasets.batches(windows, 5, generator=torch.Generator().manual_seed(seed))))
        for seed in (0, 0, 1)
    ]
    assert torch.equal(passes[0], passes[1]) and not torch.equal(passes[0], passes[2])
    everything = windows.__getitems__(range(len(windows)))[:, 0, 0, 0]
    assert torch.equal(passes[0][:, 0, 0, 0].sort().values, everything.sort().values)
    assert len(list(datasets.batches(windows, 5, drop_last=True))) == 36 // 5


def test_a_limited_split_holds_the_first_samples(split: datasets.Split) -> None:
    few = split.limited(4)
    assert len(few) == 4 and len(few.windows()) == 4 * 6
    assert torch.equal(few[3].data, split[3].data)
    with pytest.raises(UserError, match="has 6 samples; asked for the first 7"):
        split.limited(7)


def test_reading_only_some_samples_keeps_their_order(split: datasets.Split) -> None:
    chosen = split.trajectories([5, 0, 3])
    assert chosen.data[:, 0, 0, 0].tolist() == [500.0, 0.0, 300.0]
    with pytest.raises(IndexError, match="6 samples; got index 6"):
        split[6]
