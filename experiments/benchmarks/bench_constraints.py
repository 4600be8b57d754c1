"""How exact each constraint is, in double and in single precision, and what it costs beside a network.

python -m sciml.experiments.benchmarks.bench_constraints [--steps 10000]

Fields of two channels on 64 x 64 points (three where a constraint needs them), values of order one. Of each constraint:

- violation: largest of eight random states before, and after one projection, in float64 and float32;
- twice: largest change by a second projection, float64;
- gradient: of one reverse pass beside central differences along a random direction, relative, float64;
- drift: violation against the first state after so many steps u <- P(0.999 u + 0.02 noise), in both precisions;
- cost: time of a projection over that of a forward pass of an FNO (12 modes, width 20, 4 layers) on the same batch of
  eight in float32, least of interleaved samples.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from sciml import Grid
from sciml.constraints import (
    BlockAverage,
    Bounds,
    Chain,
    Completion,
    ConservedMean,
    Constraint,
    ConvexSet,
    DivergenceFree,
    Energy,
    Entropy,
    FixedValues,
    Inequalities,
    LinearRows,
    Nonlinear,
    Quadratic,
    SideCondition,
    SideConditions,
    Simplex,
    Stack,
    StaggeredDivergenceFree,
    Symmetric,
    TensorForm,
)
from sciml.experiments.progress import Reporter
from sciml.extras import require
from sciml.models import FNO

N = 64
BATCH = 8
PERIODIC = Grid((N, N), (1.0, 1.0))
CELLS = Grid((N, N), (1.0, 1.0), boundary="wall", centering="cell")


def some_rows(count: int) -> Tensor:
    """Rows at random over both channels, of length about one."""
    rows = torch.randn(count, 2, N, N, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return rows / rows[0].numel() ** 0.5


def rim() -> Tensor:
    """The points along the left and the right side."""
    mask = torch.zeros(N, N, dtype=torch.bool)
    mask[0], mask[-1] = True, True
    return mask


def cosh(u: Tensor) -> Tensor:
    """A convex function of the state at each point."""
    return u.cosh().sum(dim=1)


def means(u: Tensor) -> Tensor:
    """Of each channel."""
    return u.mean(dim=(2, 3))


def below_five(u: Tensor) -> Tensor:
    """Positive where it is not."""
    return u.flatten(1) - 5.0


def share(u: Any, previous: Any) -> list[Any]:
    """Between bounds, with the sums of before."""
    cvxpy = require("cvxpy", extra="convex", purpose="The row of ConvexSet")
    sums = [cvxpy.sum(u[c]) == cvxpy.sum(previous[c]) for c in range(2)]
    return [u >= -1, u <= 1, *sums]


CASES: dict[str, tuple[Callable[[], Constraint], int]] = {
    "ConservedMean": (lambda: ConservedMean(PERIODIC), 2),
    "BlockAverage, 8 x 8 blocks": (lambda: BlockAverage(PERIODIC, [8, 8]), 2),
    "BlockAverage, scaled": (
        lambda: BlockAverage(PERIODIC, [8, 8], form="scaled", lower=-8.0, upper=8.0),
        2,
    ),
    "LinearRows, 16 dense": (lambda: LinearRows(PERIODIC, some_rows(16)), 2),
    "FixedValues, two sides": (lambda: FixedValues(PERIODIC, rim()), 2),
    "SideConditions, Dirichlet and Robin": (
        lambda: SideConditions(CELLS, {"x-": SideCondition(0.5), "x+": SideCondition(1.0, 1.0, 0.3)}),
        2,
    ),
    "DivergenceFree": (lambda: DivergenceFree(PERIODIC), 2),
    "StaggeredDivergenceFree, walls and a block": (
        lambda: StaggeredDivergenceFree(CELLS, blocks=[(0.3, 0.4, 0.5, 0.7)]),
        2,
    ),
    "Stack of divergence, rows and mean": (
        lambda: Stack(
            [DivergenceFree(PERIODIC), LinearRows(PERIODIC, some_rows(4)), ConservedMean(PERIODIC)]
        ),
        2,
    ),
    "Energy, conserved": (lambda: Energy(PERIODIC), 2),
    "Entropy, conserved": (lambda: Entropy(PERIODIC, cosh, "conserved"), 2),
    "Bounds": (lambda: Bounds(PERIODIC, lower=-1.0, upper=1.0), 2),
    "Simplex": (lambda: Simplex(PERIODIC, lower=-1.0, upper=1.0), 2),
    "Inequalities, 16 dense": (lambda: Inequalities(PERIODIC, some_rows(16), -0.1, 0.1), 2),
    "Nonlinear, energy and momentum": (lambda: Nonlinear(PERIODIC, Quadratic(PERIODIC, momentum=True)), 2),
    "ConvexSet, bounds and sums": (lambda: ConvexSet(PERIODIC, share), 2),
    "Completion, means, u below 5": (lambda: Completion(PERIODIC, means, below_five), 2),
    "Symmetric, all of the square": (lambda: Symmetric(PERIODIC, "all", vectors=[(0, 1)]), 2),
    "TensorForm, symmetric without trace": (lambda: TensorForm(PERIODIC, [(0, 1, 2, 3)], "deviatoric"), 4),
    "Chain of mean and bounds": (lambda: Chain([ConservedMean(PERIODIC), Bounds(PERIODIC, lower=-1.0)]), 2),
}


def states(channels: int, seed: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """States to project, and those before them, smaller so that what bounds ask for is possible."""
    generator = torch.Generator().manual_seed(seed)
    shape = (BATCH, channels, N, N)
    u = torch.randn(shape, generator=generator, dtype=torch.float64)
    return u.to(dtype), (0.3 * torch.randn(shape, generator=generator, dtype=torch.float64)).to(dtype)


def gradient_error(constraint: Constraint, channels: int) -> float:
    """Relative difference between a reverse pass and central differences."""
    u, previous = states(channels, 1)
    generator = torch.Generator().manual_seed(2)
    v, w = (torch.randn(u.shape, generator=generator, dtype=u.dtype) for _ in range(2))
    start = u.clone().requires_grad_()
    (back,) = torch.autograd.grad(constraint.project(start, previous), start, w)
    h = 1e-6
    with torch.no_grad():
        ahead, behind = (constraint.project(u + s * h * v, previous) for s in (1, -1))
    differences = float(((ahead - behind) / (2 * h) * w).sum())
    return abs(float((back * v).sum()) - differences) / max(abs(differences), 1.0)


@torch.no_grad()
def drift(constraint: Constraint, channels: int, steps: int, dtype: torch.dtype) -> float:
    """Violation against the first state at the end of a random walk."""
    _, u = states(channels, 4, dtype)
    first = u = constraint.project(u[:1], u[:1])
    generator = torch.Generator().manual_seed(5)
    for _ in range(steps):
        noise = torch.randn(u.shape, generator=generator, dtype=dtype)
        u = constraint.project(0.999 * u + 0.02 * noise, u)
    return float(constraint.violation(u, first).max())


@torch.no_grad()
def cost(constraint: Constraint, channels: int, repeats: int = 12) -> float:
    """Time of a projection over that of a network's forward pass."""
    u, previous = states(channels, 1, torch.float32)
    network = FNO(modes=[12, 12], width=20, layers=4, in_channels=channels, out_channels=channels).eval()
    spent: dict[str, float] = {}
    for _ in range(repeats):
        for name, call in (
            ("network", lambda: network(u)),
            ("projection", lambda: constraint.project(u, previous)),
        ):
            began = time.perf_counter()
            call()
            spent[name] = min(spent.get(name, float("inf")), time.perf_counter() - began)
    return spent["projection"] / spent["network"]


@torch.no_grad()
def violations(make: Callable[[], Constraint], channels: int) -> tuple[float, float, float, float]:
    """Before, after in float64, after in float32, and the change by a second projection."""
    constraint = make()
    u, previous = states(channels, 1)
    once = constraint.project(u, previous)
    twice = float((constraint.project(once, previous) - once).abs().max())
    before, after = (float(constraint.violation(x, previous).max()) for x in (u, once))
    single = make().to(torch.float32)
    u, previous = states(channels, 1, torch.float32)
    small = float(single.violation(single.project(u, previous), previous).max())
    return before, after, small, twice


def main(words: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=10_000, help="of the drift")
    parser.add_argument("--only", nargs="*", help="beginnings of names")
    given = parser.parse_args(words)
    torch.set_num_threads(1)
    chosen = {
        name: case
        for name, case in CASES.items()
        if given.only is None or any(name.startswith(start) for start in given.only)
    }
    print(
        "| constraint | violation before | after, float64 | float32 | twice | gradient | drift, float64 | float32 | cost |\n"
        "|---|---|---|---|---|---|---|---|---|"
    )
    with Reporter().task("constraints", len(chosen)) as task:
        for count, (name, (make, channels)) in enumerate(chosen.items()):
            task.update(count, name)
            before, after, small, twice = violations(make, channels)
            drifts = [
                drift(make().to(dtype), channels, given.steps, dtype)
                for dtype in (torch.float64, torch.float32)
            ]
            print(
                f"| {name} | {before:.2g} | {after:.0e} | {small:.0e} | {twice:.0e} | "
                f"{gradient_error(make(), channels):.0e} | {drifts[0]:.0e} | {drifts[1]:.0e} | "
                f"{cost(make().to(torch.float32), channels):.2f} |",
                flush=True,
            )
        task.update(len(chosen))
    return 0


if __name__ == "__main__":
    sys.exit(main())
