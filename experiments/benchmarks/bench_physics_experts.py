"""Time and memory of experts on blocks against one search, as the number of points grows.

python -m sciml.experiments.benchmarks.bench_physics_experts [POINTS...]

Diffusion-sorption with products of cosines as functions, one sample, every point of the grid asked; POINTS are 100, 1000,
10000 and 100000 where left out. `experts` are four blocks with eight functions each; `one` is a single search with eight
functions, `one, all` with 32: as many coefficients as the experts have together. Times are CPU seconds of one thread, least
of interleaved samples (two from 10000 points on), of the search with its features (`forward`) and with gradients by the
functions (`both`); `rss` is by how many MiB the resident memory of a process of its own rose in one forward and reverse pass.
Ratios are those to the experts: above one, the experts are cheaper. `unrolled` keeps the graph of all iterations.

Four blocks one after the other on one core cannot be faster than they are together; what they can gain here is smaller
matrices, and fewer iterations where blocks are easier than the whole. Several processes share the blocks as well.
"""

from __future__ import annotations

import math
import multiprocessing
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sciml import Grid
from sciml.constraints import BlockPartition, DiffusionResidual, EquationExperts, EquationFit, SideCondition
from sciml.experiments.benchmarks.bench_training_cost import _status
from sciml.pdes import DiffusionSorption

POINTS = (100, 1_000, 10_000, 100_000)
# Name of a case -> blocks along x, functions along t and x, how the search is differentiated.
CASES: dict[str, tuple[int, tuple[int, int], str]] = {
    "experts": (4, (2, 4), "implicit"),
    "one": (1, (2, 4), "implicit"),
    "one, all": (1, (4, 8), "implicit"),
    "experts, unrolled": (4, (2, 4), "unroll"),
    "one, unrolled": (1, (2, 4), "unroll"),
}


class Search:
    """One case at one size, again and again."""

    def __init__(self, name: str, points: int) -> None:
        blocks, (slow, fast), backward = CASES[name]
        frames = max(8, round(math.sqrt(points / 2)))
        places = max(10, round(points / (frames - 1)) + 2)
        grid = Grid((places,), (1.0,), boundary=(("dirichlet", "neumann"),))  # type: ignore[arg-type]
        s, x = torch.linspace(0, 1, frames, dtype=torch.float64), grid.axes()[0]
        pde = DiffusionSorption()
        sides = {"x-": SideCondition(1.0), "x+": SideCondition(0.0, 1.0, float(pde.diffusivity))}
        corner = (s[:, None] < 0.15) & (torch.minimum(x, 1 - x) < 0.1)
        residual = DiffusionResidual(pde, grid, 500 * s**2, sides, left_out=corner)
        self.layer = EquationExperts(
            residual,
            BlockPartition((1, blocks)),
            backward=backward,  # type: ignore[arg-type]
        )
        waves = [
            torch.cos(math.pi * j * s)[:, None] * torch.cos(math.pi * k * x)
            for j in range(slow)
            for k in range(fast)
        ]
        self.basis = torch.stack(waves)[None]
        self.start = (0.1 + 0.2 * torch.exp(-(((x - 0.6) / 0.1) ** 2)))[None, None]

    @property
    def points(self) -> int:
        """At which the equation is asked for."""
        return int(self.layer.residual.where.sum())

    def forward(self) -> EquationFit:
        """The search and its report."""
        found: EquationFit = self.layer(self.basis, self.start)
        return found

    def both(self) -> Tensor:
        """The gradient by the functions."""
        basis = self.basis.clone().requires_grad_()
        fit = self.layer(basis, self.start)
        (slope,) = torch.autograd.grad(self.layer.loss(fit.residual, fit.initial, fit.sides), basis)
        return slope


def _rise(name: str, points: int, answer: Any) -> None:
    torch.set_num_threads(1)
    Search(name, 100).both()  # imports and plans
    search = Search(name, points)
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    search.both()
    answer.put(_status("VmHWM") - before)


def resident_bytes(name: str, points: int) -> int:
    """Rise of the resident memory, in a process of its own; 0 where the system does not tell."""
    if not Path("/proc/self/clear_refs").exists():
        return 0
    context = multiprocessing.get_context("fork")
    answer: Any = context.Queue()
    process = context.Process(target=_rise, args=(name, points, answer))
    process.start()
    found = int(answer.get(timeout=1800))
    process.join()
    return found


def measure(points: int, repeats: int) -> None:
    """Lines of one size."""
    resident = {name: resident_bytes(name, points) / 2**20 for name in CASES}
    searches = {name: Search(name, points) for name in CASES}
    spent: dict[tuple[str, str], float] = {}
    fits: dict[str, EquationFit] = {}
    for _ in range(repeats):
        for name, search in searches.items():
            for kind, call in (("forward", search.forward), ("both", search.both)):
                began = time.process_time()
                found = call()
                now = time.process_time() - began
                spent[name, kind] = min(spent.get((name, kind), math.inf), now)
                if isinstance(found, EquationFit):
                    fits[name] = found
    for name, search in searches.items():
        fit = fits[name]
        cells = [f"{search.points}", name, f"{int(fit.iterations.max())}", f"{int(fit.converged.sum())}"]
        cells += [f"{float(fit.residual.detach()):.3g}"]
        for kind in ("forward", "both"):
            ratio = spent[name, kind] / spent["experts", kind]
            cells.append(f"{1e3 * spent[name, kind]:.1f} ({ratio:.2f})")
        cells.append(f"{resident[name]:.1f} ({resident[name] / max(resident['experts'], 0.1):.2f})")
        print("| " + " | ".join(cells) + " |", flush=True)


def main(arguments: list[str]) -> int:
    """The table; 2 for sizes that are none."""
    if not all(word.isdigit() and int(word) >= 100 for word in arguments):
        print(f"got {' '.join(arguments)!r}; expected numbers of points, 100 or more", file=sys.stderr)
        return 2
    torch.set_num_threads(1)
    print(
        "| points | search | most iterations | converged | residual | forward ms (ratio) | both ms (ratio) | "
        "rss MiB (ratio) |"
    )
    print("|---" * 8 + "|")
    for points in [int(word) for word in arguments] or POINTS:
        measure(points, repeats=5 if points < 10_000 else 2)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
