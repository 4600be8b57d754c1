"""Finite volumes for Euler: cells advanced per CPU second, and what one flux evaluation costs.

python -m sciml.experiments.benchmarks.bench_finite_volume

One thread, substeps of SSPRK3 (three evaluations of MUSCL + HLLC each), beside a copy of the state.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial

import torch

from sciml import Grid
from sciml.pdes import CompressibleEuler
from sciml.solvers.finite_volume import finite_volume


def per_call(function: Callable[[], object], seconds: float) -> float:
    """Least CPU seconds of a call within a budget."""
    function()
    best, spent = math.inf, 0.0
    while spent < seconds:
        began = time.process_time()
        function()
        taken = time.process_time() - began
        best, spent = min(best, taken), spent + taken
    return best


def main(seconds: float = 1.0) -> None:
    """Print cells per second in 1D, 2D and 3D, double and single precision."""
    torch.set_num_threads(1)
    pde = CompressibleEuler()
    for shape, batch in (((1024,), 16), ((64, 64), 4), ((128, 128), 1), ((24, 24, 24), 1)):
        grid = Grid(shape, (1.0,) * len(shape), centering="cell")
        start = pde.exact(grid.coordinates().unsqueeze(0), 0.0).repeat(batch, *([1] * (len(shape) + 1)))
        step = finite_volume(pde, grid, 1e-4, substeps=1)
        for dtype in (torch.float64, torch.float32):
            u = start.to(dtype)
            with torch.no_grad():
                cost = per_call(partial(step, u), seconds)
                copy = per_call(u.clone, seconds / 10)
            cells = batch * math.prod(shape)
            name = "x".join(str(n) for n in shape)
            print(
                f"{name} x {batch} {str(dtype).removeprefix('torch.'):8s} {cells / cost / 1e6:6.2f} Mcells/s  "
                f"{cost / copy:7.0f} copies of the state"
            )


if __name__ == "__main__":
    main()
