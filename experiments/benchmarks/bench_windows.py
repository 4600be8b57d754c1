"""Random training windows from a native dataset, beside a numpy memory map of the same numbers and the loader of The
Well on the same files.

python -m sciml.experiments.benchmarks.bench_windows

Batches of windows of two frames. "in process" is windows per CPU second of one thread, page cache warm, cases taken in
turn: the best of each, and the median of the ratios of neighbouring turns. The memory map is read with the same loop into
the same kind of buffer: what a hand-written loader would do at best. "two workers" is windows per second of the wall clock
out of a DataLoader with two processes. The last part reads a sparse dataset of 20 GB at random and prints how much of it
is resident in the process.
"""

from __future__ import annotations

import itertools
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

import sciml.datasets as datasets
from sciml import Field, Grid, Trajectory
from sciml.datasets.statistics import make_statistics

CASES: tuple[tuple[str, tuple[int, ...], tuple[Field, ...], int, int, int], ...] = (
    ("256, u", (256,), (Field("u"),), 256, 51, 64),
    ("64x64, u", (64, 64), (Field("u"),), 64, 41, 64),
    ("128x128, u v", (128, 128), (Field("u"), Field("v")), 32, 41, 16),
    ("128x128, velocity", (128, 128), (Field("velocity", rank=1),), 32, 41, 16),
)
"""Name, points, fields, samples, frames, windows per batch."""

BATCHES, SHARDS = 40, 8


def turns(cases: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """CPU seconds of each case, taken in turn after one call to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for repeat in range(repeats + 1):
        for name, case in cases.items():
            began = time.process_time()
            case()
            spent = time.process_time() - began
            if repeat:
                seconds[name].append(spent)
    return seconds


def ratio(ours: list[float], other: list[float]) -> float:
    """Median of the ratios of neighbouring turns: the memory of a shared machine is now fast, now slow."""
    return statistics.median(b / a for a, b in zip(ours, other, strict=True))


def write(
    folder: Path, shape: tuple[int, ...], fields: tuple[Field, ...], samples: int, frames: int
) -> None:
    """A native split of random numbers, and beside it the same numbers as one array in array.npy."""
    generator = torch.Generator().manual_seed(0)
    grid = Grid(shape, (1.0,) * len(shape))
    times = torch.arange(frames, dtype=torch.float64)
    channels = sum(len(f.channels(len(shape))) for f in fields)
    parts = []
    for shard in range(SHARDS):
        data = torch.randn(samples // SHARDS, frames, channels, *shape, generator=generator)
        trajectory = Trajectory(data, grid, times, fields)
        datasets.write_shard(folder / f"data/train/shard-{shard:05d}.hdf5", trajectory, name="bench")
        parts.append(data.numpy())
    np.save(folder / "array.npy", np.concatenate(parts))


class Mapped(Dataset[Any]):
    """The hand-written loader: windows out of one memory-mapped array."""

    def __init__(self, path: Path) -> None:
        self.path, self.array = path, np.load(path, mmap_mode="r").view(np.ndarray)
        self.starts = self.array.shape[1] - 1

    def __len__(self) -> int:
        return len(self.array) * self.starts

    def __getitems__(self, indices: list[int]) -> Tensor:
        out = np.empty((len(indices), 2, *self.array.shape[2:]), dtype=np.float32)
        for row, index in zip(out, indices, strict=True):
            i, t = divmod(index, self.starts)
            row[:] = self.array[i, t : t + 2]
        return torch.from_numpy(out)

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]


def through_workers(windows: Any, batch: int, count: int) -> float:
    """Windows per second out of a DataLoader with two workers, the best of three passes."""
    order = datasets.Order(len(windows), batch, last=count)
    loader: DataLoader[Any] = DataLoader(
        windows,
        batch_sampler=order,
        collate_fn=datasets.Windows.collate,
        num_workers=2,
        persistent_workers=True,
        prefetch_factor=4,
    )
    rates = []
    for _ in range(4):
        began = time.perf_counter()
        for _ in loader:
            pass
        rates.append(batch * count / (time.perf_counter() - began))
    return max(rates[1:])


def wells_own(folder: Path) -> Callable[[list[int]], object] | None:
    """The windows of The Well's own loader on the same files; None where it is not installed."""
    try:
        from the_well.data import WellDataset
    except ImportError:
        return None
    theirs = WellDataset(path=str(folder), well_split_name="train", n_steps_input=1, n_steps_output=1)
    return lambda chosen: [theirs[i] for i in chosen]


def speed(repeats: int) -> None:
    """Print the table of windows per second."""
    for name, shape, fields, samples, frames, batch in CASES:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            write(folder, shape, fields, samples, frames)
            make_statistics(folder)
            windows = datasets.open(folder)["train"].windows()
            mapped = Mapped(folder / "array.npy")
            order = list(datasets.Order(len(windows), batch, seed=1, last=BATCHES))
            assert torch.equal(windows.__getitems__(order[0]), mapped.__getitems__(order[0]))

            def run(take: Any, chosen: list[list[int]]) -> Callable[[], object]:
                return lambda: [take(indices) for indices in chosen] and None

            cases = {"native": run(windows.__getitems__, order), "memmap": run(mapped.__getitems__, order)}
            theirs = wells_own(folder)
            few = order[: 64 // batch]
            if theirs is not None:
                cases["well"] = run(theirs, few)
            found = turns(cases, repeats)
            count = batch * BATCHES
            rate = {n: (batch * len(few) if n == "well" else count) / min(s) for n, s in found.items()}
            line = (
                f"{name:18s} in process: native {rate['native']:8.0f}/s  memmap {rate['memmap']:8.0f}/s  "
                f"ratio {ratio(found['native'], found['memmap']):.2f}"
            )
            if "well" in rate:
                share = batch * len(few) / count
                times = ratio(found["native"], [s / share for s in found["well"]])
                line += f"  WellDataset {rate['well']:5.0f}/s  ratio {times:.0f}"
            print(line, flush=True)
            ours, other = [], []
            for _ in range(3):
                ours.append(through_workers(windows, batch, 4 * BATCHES))
                other.append(through_workers(mapped, batch, 4 * BATCHES))
            print(
                f"{'':18s} two workers: native {max(ours):7.0f}/s  memmap {max(other):8.0f}/s  "
                f"ratio {ratio(other, ours):.2f}",
                flush=True,
            )


def sparse(folder: Path, gigabytes: int) -> None:
    """A dataset of that size whose arrays are holes in the file, 1 GB a shard."""
    frames, side = 64, 128
    samples = 10**9 // (4 * frames * side * side)
    for shard in range(gigabytes):
        path = folder / f"data/train/shard-{shard:05d}.hdf5"
        data = torch.zeros(1, frames, 1, side, side)
        times = torch.arange(frames, dtype=torch.float64)
        small = Trajectory(data, Grid((side, side), (1.0, 1.0)), times, (Field("u"),))
        datasets.write_shard(path, small, name="sparse")
        with h5py.File(path, "r+") as file:
            attributes = dict(file["t0_fields/u"].attrs)
            del file["t0_fields/u"]
            creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            creation.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
            creation.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
            space = h5py.h5s.create_simple((samples, frames, side, side))
            kind = h5py.h5t.IEEE_F32LE
            large = h5py.Dataset(h5py.h5d.create(file["t0_fields"].id, b"u", kind, space, creation))
            for key, value in attributes.items():
                large.attrs[key] = value
            file.attrs["n_trajectories"] = samples


def resident(folder: Path, seconds: float = 20.0) -> None:
    """Read windows at random and print what the process holds of the files; run in a process of its own."""
    windows = datasets.open(folder)["train"].windows()
    size = sum(p.stat().st_size for p in folder.glob("data/*/*"))
    order = datasets.Order(len(windows), 16, last=10**9)
    largest, read, began = 0, 0, time.perf_counter()
    for chosen in itertools.islice(order, 10**9):
        read += windows.__getitems__(chosen).numel() * 4
        if time.perf_counter() - began > seconds:
            break
        status = Path("/proc/self/status").read_text()
        largest = max(largest, int(status.partition("VmRSS:")[2].split()[0]) * 1024)
    print(
        f"{size / 1e9:.1f} GB dataset: {read / 1e9:.1f} GB of random windows read, at most {largest / 1e9:.2f} GB resident "
        "(code of torch and others included)"
    )


def main(repeats: int = 15, gigabytes: int = 20) -> None:
    """Print windows per second, ratios, and resident memory."""
    torch.set_num_threads(1)
    speed(repeats)
    with tempfile.TemporaryDirectory() as temporary:
        sparse(Path(temporary), gigabytes)
        code = "import sys; from pathlib import Path; from sciml.experiments.benchmarks import bench_windows as b; "
        subprocess.run(
            [sys.executable, "-c", code + "b.resident(Path(sys.argv[1]))", temporary], check=True
        )


if __name__ == "__main__":
    main()
