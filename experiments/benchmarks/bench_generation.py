"""Where the time of generation goes, what writing costs beside a plain write, and what compression gives.

python -m sciml.experiments.benchmarks.bench_generation

- Share of the solver: time in making the recipe's step and in its calls over that of making a shard as recipes make it
  (draws, storage, checks, hashing and flushing included), in one process with one thread; of CPU time, and of
  wall time, in which the disk's flush counts as well.
- Writing: a shard with its SHA-256, flushed and renamed, beside the same bytes written in one go to a plain file and
  flushed, without a checksum and with the same SHA-256 in a second thread (which needs a second core). In turn,
  medians. All end in fsync, so it is the disk as well that is timed.
- Archives: sizes and speeds of LZF on the data of recipes, beside arrays that are mapped.
"""

from __future__ import annotations

import hashlib
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import sciml.datasets as datasets
from sciml import Field, Grid, Trajectory
from sciml.datasets.generate import make_shard
from sciml.datasets.recipe import Recipe, Solver


@dataclass
class Timed:
    """A recipe's solver, with the CPU and wall time that it and its steps take."""

    solver: Solver
    seconds: list[float] = field(default_factory=lambda: [0.0, 0.0])

    def __call__(
        self, pde: Any, domain: Any, dt: float, substeps: int | None
    ) -> Callable[[Tensor], Tensor]:
        wall, work = time.perf_counter(), time.process_time()
        step = _TimedStep(self.solver(pde, domain, dt, substeps), self.seconds)
        self.seconds[0] += time.process_time() - work
        self.seconds[1] += time.perf_counter() - wall
        return step


class _TimedStep:
    def __init__(self, step: Callable[[Tensor], Tensor], seconds: list[float]) -> None:
        self.step, self._seconds = step, seconds

    def __call__(self, u: Tensor) -> Tensor:
        wall, work = time.perf_counter(), time.process_time()
        u = self.step(u)
        self._seconds[0] += time.process_time() - work
        self._seconds[1] += time.perf_counter() - wall
        return u

    def __getattr__(self, name: str) -> Any:
        return getattr(self.step, name)


def share(recipe: Recipe, repeats: int = 3) -> tuple[float, float, float]:
    """Largest shares of the solver in making a shard, of CPU and of wall time, and the shard's CPU seconds."""
    shares, seconds = [0.0, 0.0], float("inf")
    with tempfile.TemporaryDirectory() as temporary:
        for repeat in range(repeats + 1):  # the first one compiles and plans transforms
            timed = Timed(recipe.solver)
            chosen = replace(recipe, solver=timed, source=None)
            wall, work = time.perf_counter(), time.process_time()
            make_shard(chosen, Path(temporary), "train", 0, recipe.shard_size)
            spent = (time.process_time() - work, time.perf_counter() - wall)
            if repeat:
                shares = [max(s, t / a) for s, t, a in zip(shares, timed.seconds, spent, strict=True)]
                seconds = min(seconds, spent[0])
    return shares[0], shares[1], seconds


def _plain(path: Path, data: memoryview, checksum: bool) -> float:
    """Seconds of the plain sequential write of `data`, flushed to the disk, with SHA-256 worked out beside it or not."""
    began = time.perf_counter()
    digest = threading.Thread(target=hashlib.sha256, args=(data,))
    if checksum:
        digest.start()
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    if checksum:
        digest.join()
    spent = time.perf_counter() - began
    path.unlink()
    return spent


def writing(shape: tuple[int, ...], rank: int, samples: int, frames: int, repeats: int = 11) -> None:
    """Print the speed of a shard beside that of a plain file, without and with a checksum; medians, in turns."""
    channels = len(shape) ** rank
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(samples, frames, channels, *shape, generator=generator)
    grid = Grid(shape, (1.0,) * len(shape))
    times = torch.arange(frames, dtype=torch.float64)
    trajectory = Trajectory(data, grid, times, (Field("u", rank=rank),))
    buffer = data.numpy().data.cast("B")
    spent: dict[str, list[float]] = {"plain": [], "summed": [], "shard": []}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for _ in range(repeats):
            spent["plain"].append(_plain(folder / "plain", buffer, checksum=False))
            spent["summed"].append(_plain(folder / "plain", buffer, checksum=True))
            began = time.perf_counter()
            datasets.write_shard(folder / "shard.hdf5", trajectory, name="bench")
            spent["shard"].append(time.perf_counter() - began)
            (folder / "shard.hdf5").unlink()
    plain, summed, shard = (statistics.median(seconds) for seconds in spent.values())
    size = len(buffer) / 2**20
    print(
        f"  {samples} x {frames} x {channels} x {shape}, {size:.0f} MiB: plain {size / plain:.0f} MiB/s, with its "
        f"SHA-256 {size / summed:.0f} MiB/s; shard {size / shard:.0f} MiB/s, {plain / shard:.2f} and "
        f"{summed / shard:.2f} of them"
    )


def archive(name: str, samples: int, windows: int = 400) -> None:
    """Print size and speeds of a recipe's data, mapped and compressed."""
    with tempfile.TemporaryDirectory() as temporary:
        asked = {s: samples if s == "train" else 0 for s in datasets.load_recipe(name).samples}
        plain = datasets.generate(name, Path(temporary) / "plain", asked, certificate=False)
        trajectory = datasets.open(plain)["train"].trajectories()
        size = trajectory.data.numel() * 4
        for codec in ("none", "lzf"):
            path = Path(temporary) / codec / "data/train/shard-00000.hdf5"
            began = time.process_time()
            written = datasets.write_shard(path, trajectory, name=name, codec=codec)  # type: ignore[arg-type]
            spent = time.process_time() - began
            pairs = datasets.open(Path(temporary) / codec)["train"].windows(1, 1)
            order = np.random.default_rng(0).integers(0, len(pairs), (windows // 16, 16)).tolist()
            pairs.__getitems__(order[0])
            began = time.process_time()
            for chosen in order:
                pairs.__getitems__(chosen)
            read = time.process_time() - began
            print(
                f"  {name} {codec}: {written.bytes / size:.3f} of the numbers' bytes, writing "
                f"{size / 2**20 / spent:.0f} MiB per CPU second, {windows / read:.0f} windows per CPU second"
            )


def main() -> None:
    """Print everything."""
    torch.set_num_threads(1)
    print("Share of the solver in making a shard")
    for name in ("burgers", "kuramoto_sivashinsky", "compressible_1d", "navier_stokes"):
        work, wall, seconds = share(datasets.load_recipe(name))
        print(f"  {name}: {work:.3f} of {seconds:.2f} CPU seconds, {wall:.3f} of wall time", flush=True)
    print("Writing")
    writing((256,), 0, 1024, 65)
    writing((128, 128), 0, 32, 65)
    writing((128, 128), 1, 32, 65)
    print("Archives")
    archive("burgers", 32)
    archive("navier_stokes", 8)


if __name__ == "__main__":
    main()
