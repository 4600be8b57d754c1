"""Random training windows from a native file beside a numpy memory map of the same numbers.

python -m sciml.experiments.benchmarks.bench_windows

Windows per CPU second of one thread, page cache warm, cases taken in turn, least time of each. The memory
map is read with the same loop into the same kind of buffer: what a hand-written loader would do at best.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import sciml.datasets as datasets
from sciml import Field, Grid, Trajectory


def best(cases: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Least CPU seconds of each case, taken in turn after one call to warm up."""
    seconds: dict[str, float] = {}
    for repeat in range(repeats + 1):
        for name, case in cases.items():
            began = time.process_time()
            case()
            spent = time.process_time() - began
            if repeat:
                seconds[name] = min(spent, seconds.get(name, spent))
    return seconds


def write(folder: Path, shape: tuple[int, ...], samples: int, frames: int, shards: int) -> datasets.Split:
    """A native split of random numbers, and beside it the same numbers as one array in array.npy."""
    generator = torch.Generator().manual_seed(0)
    grid = Grid(shape, (1.0,) * len(shape))
    times = torch.arange(frames, dtype=torch.float64)
    parts = []
    for shard in range(shards):
        data = torch.randn(samples // shards, frames, 1, *shape, generator=generator)
        trajectory = Trajectory(data, grid, times, (Field("u"),))
        datasets.write_shard(folder / f"data/train/shard-{shard:05d}.hdf5", trajectory, name="bench")
        parts.append(data.numpy())
    np.save(folder / "array.npy", np.concatenate(parts))
    split: datasets.Split = datasets.open(folder)["train"]
    return split


def main(batch: int = 64, batches: int = 40, repeats: int = 7) -> None:
    """Print windows per second and ratios for one- and two-dimensional states."""
    torch.set_num_threads(1)
    for shape, samples, frames in (((256,), 256, 51), ((64, 64), 64, 41), ((128, 128), 32, 41)):
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            split = write(folder, shape, samples, frames, shards=8)
            windows = split.windows(history=1, horizon=1)
            array = np.load(folder / "array.npy", mmap_mode="r").view(np.ndarray)
            generator = torch.Generator().manual_seed(1)
            order = torch.randint(len(windows), (batches, batch), generator=generator).tolist()
            starts = frames - windows.length + 1

            def native(order: list[list[int]] = order, windows: datasets.Windows = windows) -> None:
                for chosen in order:
                    windows.__getitems__(chosen)

            def mapped(
                order: list[list[int]] = order, array: np.ndarray = array, starts: int = starts
            ) -> None:
                for chosen in order:
                    out = np.empty((len(chosen), 2, *array.shape[2:]), dtype=np.float32)
                    for row, index in zip(out, chosen, strict=True):
                        i, t = divmod(index, starts)
                        row[:] = array[i, t : t + 2]
                    torch.from_numpy(out)

            first: Tensor = windows.__getitems__(order[0])
            i, t = divmod(order[0][0], starts)
            assert bool((first[0] == torch.from_numpy(array[i, t : t + 2].copy())).all())
            seconds = best({"native": native, "memmap": mapped}, repeats)
            count = batch * batches
            name = "x".join(str(n) for n in shape)
            print(
                f"{name:8s} native {count / seconds['native']:9.0f}/s   memmap {count / seconds['memmap']:9.0f}/s   "
                f"ratio {seconds['memmap'] / seconds['native']:.2f}"
            )


if __name__ == "__main__":
    main()
