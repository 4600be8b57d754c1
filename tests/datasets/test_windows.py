"""Windows are the frames that they say, of one trajectory each."""

from __future__ import annotations

import multiprocessing
import os
import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import sciml.datasets as datasets
import sciml.datasets.windows as windows_module
from sciml import Field, Grid, Mesh, Trajectory
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


def test_components_that_lie_side_by_side_stay_so_and_mean_the_same(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(3, 5, 2, 6, 4, generator=generator)
    times = torch.arange(5, dtype=torch.float64)
    grid = Grid((6, 4), (1.0, 1.0))
    vector = Trajectory(data, grid, times, (Field("velocity", rank=1),))
    datasets.write_shard(tmp_path / "data/train/a.hdf5", vector, name="vector")
    windows = datasets.open(tmp_path)["train"].windows(1, 2)
    batch = windows.__getitems__([0, 4, 8])
    assert torch.equal(batch, torch.stack([data[0, 0:3], data[1, 1:4], data[2, 2:5]]))
    assert batch.movedim(2, -1).is_contiguous()
    assert torch.equal(windows[5], data[1, 2:5])


def test_scaling_is_that_of_the_training_split_and_turns_back(split: datasets.Split) -> None:
    stats = datasets.Statistics(
        ("a", "b"), *(torch.tensor(v, dtype=torch.float64) for v in ([3.0, 1.0], [2.0, 0.0], [4.0, 5.0])),
        *(torch.tensor(v, dtype=torch.float64) for v in ([1.0, -1.0], [0.5, 0.25], [2.0, 3.0])),
    )  # fmt: skip
    plain = split.windows(1, 1).__getitems__([0, 7])
    for scaling, shift, scale in (
        (datasets.Scaling.z_score(stats), (3.0, 1.0), (2.0, 1.0)),
        (datasets.Scaling.rms(stats), (0.0, 0.0), (4.0, 5.0)),
        (datasets.Scaling.delta(stats), (1.0, -1.0), (0.5, 0.25)),
        (datasets.Scaling.delta(stats, "rms"), (0.0, 0.0), (2.0, 3.0)),
    ):
        scaled = split.windows(1, 1, scaling=scaling).__getitems__([0, 7])
        for channel in range(2):
            expected = (plain[:, :, channel] - shift[channel]) / scale[channel]
            assert torch.allclose(scaled[:, :, channel], expected)
        assert torch.allclose(scaling.inverse(scaled, axis=2), plain, atol=1e-4)
    with pytest.raises(UserError, match="2 channels got 3"):
        scaling(torch.zeros(1, 3, 4))


def test_lead_pairs_are_all_pairs_with_their_times(split: datasets.Split) -> None:
    pairs = split.lead_pairs(most=3, least=0)
    assert len(pairs) == SAMPLES * SHARDS * (7 + 6 + 5 + 4)
    given, wanted, lead = pairs.__getitems__(list(range(len(pairs))))
    # The values say the frame, and frames lie one unit of time apart.
    assert torch.equal(wanted[:, 0, 0] - given[:, 0, 0], lead)
    assert torch.equal(torch.bincount(lead.long()), torch.tensor([7, 6, 5, 4]) * SAMPLES * SHARDS)
    seen = {(float(a), float(b)) for a, b in zip(given[:, 0, 0], wanted[:, 0, 0], strict=True)}
    assert len(seen) == len(pairs)
    one = pairs[-1]
    assert torch.equal(one[0], given[-1]) and torch.equal(one[2], lead[-1])
    assert len(split.lead_pairs()) == SAMPLES * SHARDS * (6 + 5 + 4 + 3 + 2 + 1)
    with pytest.raises(UserError, match="do not fit into trajectories of 7 frames"):
        split.lead_pairs(most=7)


def test_a_mixture_gives_batches_of_one_member(split: datasets.Split) -> None:
    short, long = split.windows(1, 1), split.windows(1, 3)
    mixture = datasets.Mixture([short, long])
    assert mixture.counts == (36, 24) and len(mixture) == 60
    assert torch.equal(mixture.__getitems__([36, 40]), long.__getitems__([0, 4]))
    assert torch.equal(mixture[3], short[3])
    with pytest.raises(UserError, match=r"members \[0, 1\]"):
        mixture.__getitems__([0, 50])
    order = datasets.Order(mixture.counts, 4, seed=0, weights=(1, 1), last=20)
    loader = DataLoader(mixture, batch_sampler=order, collate_fn=datasets.Windows.collate)
    lengths = {batch.shape[1] for batch in loader}
    assert lengths == {2, 4}


@pytest.mark.parametrize("centering", ["node", "cell"])
def test_thinning_keeps_nodes_and_averages_cells(tmp_path: Path, centering: str) -> None:
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(2, 7, 3, 8, 4, generator=generator)
    grid = Grid((8, 4), (2.0, 1.0), centering=centering)  # type: ignore[arg-type]
    times = 0.1 * torch.arange(7, dtype=torch.float64)
    both = Trajectory(data, grid, times, (Field("u"), Field("velocity", rank=1)))
    datasets.write_shard(tmp_path / "data/train/a.hdf5", both, name="thin")
    split = datasets.open(tmp_path)["train"]
    thin = split.thinned(points=2, frames=3)
    assert thin.domain == grid.resized((4, 2))
    assert torch.equal(thin.times, times[::3])
    if centering == "node":
        expected = data[:, ::3, :, ::2, ::2]
    else:
        expected = data[:, ::3].double().reshape(2, 3, 3, 4, 2, 2, 2).mean(dim=(4, 6)).float()
    assert torch.equal(thin.trajectories().data, expected)
    assert torch.equal(
        thin.windows(1, 1).__getitems__([3, 0]), torch.stack([expected[1, 1:3], expected[0, 0:2]])
    )
    with pytest.raises(UserError, match="not a multiple"):
        split.thinned(points=3)


def test_windows_of_meshes_that_differ_join_to_one_mesh(tmp_path: Path) -> None:
    square = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]], dtype=torch.float64)
    two = Mesh(square, torch.tensor([[0, 1, 2], [0, 2, 3]]))
    one = Mesh(square[:3], torch.tensor([[0, 1, 2]]))
    times, parts = torch.arange(4, dtype=torch.float64), []
    for number, mesh in enumerate((two, one)):
        state = 100.0 * number + torch.arange(4.0).reshape(1, 4, 1, 1).expand(1, 4, 1, mesh.shape[0])
        parts.append(Trajectory(state, mesh, times, (Field("u"),)))
    datasets.write_shard(tmp_path / "data/train/a.hdf5", parts, name="meshes")
    split = datasets.open(tmp_path)["train"]
    with pytest.raises(UserError, match="mesh_windows"):
        split.windows()
    windows = split.mesh_windows(1, 1)
    states, mesh, nodes = windows.__getitems__([1, 5])
    assert nodes.tolist() == [4, 3] and states.shape == (1, 2, 1, 7)
    assert states[0, :, 0].tolist() == [[1.0] * 4 + [102.0] * 3, [2.0] * 4 + [103.0] * 3]
    assert mesh.edges.max() == 6 and len(mesh.cells) == 3
    # No edge leads from one part to the other.
    assert bool(((mesh.edges < 4).all(dim=0) | (mesh.edges >= 4).all(dim=0)).all())
    assert mesh.volume == pytest.approx(1.5)


def test_a_process_keeps_few_maps_and_handles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sciml.datasets import blocks

    monkeypatch.setattr(blocks, "MAPS", 3)
    monkeypatch.setattr(windows_module, "VIEWS", 2)
    grid, times = Grid((4,), (1.0,)), torch.arange(2, dtype=torch.float64)
    for shard in range(8):
        data = torch.full((2, 2, 1, 4), float(shard))
        trajectory = Trajectory(data, grid, times, (Field("u"),))
        datasets.write_shard(tmp_path / f"data/train/{shard}.hdf5", trajectory, name="many")
    windows = datasets.open(tmp_path)["train"].windows()
    for _ in range(2):
        batch = windows.__getitems__(list(range(16)))
        assert batch[:, 0, 0, 0].tolist() == [float(i // 2) for i in range(16)]
        assert len(blocks._opened) <= 3


def _child(windows: datasets.Windows, queue: object) -> None:
    from sciml.datasets import blocks

    kept = [k for k, opened in blocks._opened.items() if opened.process == os.getpid()]
    queue.put((len(kept), windows[3].flatten().tolist()))  # type: ignore[attr-defined]


@pytest.mark.parametrize("mapped", [True, False])
def test_no_handle_crosses_a_fork(tmp_path: Path, mapped: bool) -> None:
    values = np.arange(2 * 5 * 4, dtype=np.float32).reshape(2, 5, 4)
    path = tmp_path / "a.hdf5"
    with h5py.File(path, "w") as file:
        file.create_dataset("tensor", data=values, chunks=None if mapped else (1, 1, 4))
        file["x-coordinate"] = np.arange(4) + 0.5
        file["t-coordinate"] = np.arange(6.0)
    windows = datasets.open(path)["train"].windows(1, 1)
    before = windows[3].flatten().tolist()  # the parent has the file open now
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_child, args=(windows, queue))
    child.start()
    found, inside = queue.get(timeout=60)
    child.join(timeout=60)
    assert (found, inside) == (0, before) and child.exitcode == 0
    assert windows[3].flatten().tolist() == before
