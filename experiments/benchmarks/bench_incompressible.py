"""Steps of incompressible flow between walls beside the Poisson solves they contain.

python -m sciml.experiments.benchmarks.bench_incompressible [SIZE...]

A lid-driven cavity at Reynolds number 1000 of SIZE^2 cells, one substep of three stages with a projection in each. CPU
time of one thread, median and least of the repeats. `solves` is what the Poisson solves take inside the step, where
other data have passed through the caches in between, and `ratio` the step over that; `alone` is the same solves in a row
with nothing between. Then the same with tensors in place of compiled loops, for several samples together, with
gradients (where the backward solves do not count as solves), with implicit viscosity, a cylinder, or smoke.
"""

from __future__ import annotations

import statistics
import sys
import time
import warnings

import torch
from torch import Tensor

from sciml import Grid
from sciml.domains import MovingWall
from sciml.pdes import NavierStokes, Smoke
from sciml.solvers.incompressible import FastPoisson, Incompressible, cylinder, incompressible

REYNOLDS = 1000.0


def cases(n: int) -> dict[str, tuple[Incompressible, int, bool]]:
    """Name -> (step, number of samples, whether with gradients)."""
    grid = Grid((n, n), (1.0, 1.0), boundary="wall", centering="cell")
    flow, lid, dt = NavierStokes(1.0 / REYNOLDS), {"y+": MovingWall((1.0, 0.0))}, 0.2 / n
    plain = incompressible(flow, grid, dt, conditions=lid, substeps=1, viscosity="explicit")
    body = [cylinder((0.5, 0.5), 0.1)]
    return {
        "cavity": (plain, 1, False),
        "cavity, tensors": (
            incompressible(
                flow, grid, dt, conditions=lid, substeps=1, viscosity="explicit", compiled=False
            ),
            1,
            False,
        ),
        "8 cavities together": (plain, 8, False),
        "cavity and its gradient": (plain, 1, True),
        "implicit viscosity": (
            incompressible(flow, grid, dt, conditions=lid, substeps=1, viscosity="implicit"),
            1,
            False,
        ),
        "with a cylinder": (
            incompressible(flow, grid, dt, conditions=lid, substeps=1, obstacles=body),
            1,
            False,
        ),
        "smoke": (
            incompressible(
                Smoke(1.0 / REYNOLDS), grid, dt, conditions=lid, substeps=1, viscosity="explicit"
            ),
            1,
            False,
        ),
    }


def measure(n: int, repeats: int) -> None:
    """Print a table for one size."""
    for name in cases(n):
        step, samples, gradient = cases(n)[name]
        generator = torch.Generator().manual_seed(0)
        shape = (samples, len(step.channels), n, n)
        u = 0.2 * step.project(torch.randn(shape, generator=generator, dtype=torch.float64))
        f = torch.randn(samples, n, n, generator=generator, dtype=torch.float64)

        def advance(step: Incompressible = step, u: Tensor = u, gradient: bool = gradient) -> None:
            if gradient:
                v = u.clone().requires_grad_()
                step(v).square().sum().backward()
            else:
                step(u)

        watch = Watch(step.poisson)
        if step.bodies is not None:
            step.bodies.poisson = watch  # type: ignore[assignment]
        step.poisson = watch  # type: ignore[assignment]
        whole, inside, alone = [], [], []
        with torch.set_grad_enabled(gradient):
            for index in range(repeats + 2):
                watch.spent, watch.calls, start = 0.0, 0, time.process_time()
                advance()
                end, calls, spent = time.process_time(), watch.calls, watch.spent
                for _ in range(calls):
                    watch(f)
                if index >= 2:
                    whole.append(end - start)
                    inside.append(spent)
                    alone.append(time.process_time() - end)
        middle, least = statistics.median(whole), min(whole)
        print(
            f"{n}^2  {name:26s} {middle * 1e3:8.2f} ms (least {least * 1e3:.2f})  "
            f"{samples * n * n / middle / 1e6:5.2f} million cell-steps/s  {calls} solves "
            f"{statistics.median(inside) * 1e3:7.2f} ms (least {min(inside) * 1e3:.2f}, alone {min(alone) * 1e3:.2f})  "
            f"ratio {statistics.median(a / b for a, b in zip(whole, inside, strict=True)):.2f}",
            flush=True,
        )


class Watch:
    """A Poisson solver that says how long it took."""

    def __init__(self, solve: FastPoisson) -> None:
        self._solve, self.spent, self.calls = solve, 0.0, 0

    def __call__(self, f: Tensor) -> Tensor:
        start = time.process_time()
        found = self._solve(f)
        self.spent += time.process_time() - start
        self.calls += 1
        return found


def main(arguments: list[str]) -> None:
    """Tables for the sizes given."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # coarse grids are told once; here they are meant
    for n in [int(v) for v in arguments] or [64, 128, 256, 512]:
        measure(n, repeats=60 if n <= 128 else 20 if n <= 256 else 7)


if __name__ == "__main__":
    main(sys.argv[1:])
