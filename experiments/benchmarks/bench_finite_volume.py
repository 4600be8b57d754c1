"""Finite volumes for Euler's equations beside pyclaw: trajectories per CPU second, and their errors.

    python -m sciml.experiments.benchmarks.bench_finite_volume [--seconds 4]

Sod's tube on 1000 cells to t = 0.2 against the exact density, and a blast on 128^2 cells to t = 0.1 against WENO5 on
four times the cells, in double and single precision; the compiled form (`fused`, where numba is installed), tensors,
and pyclaw's Fortran (Roe's fluxes, the same limiter, CFL 0.9) where clawpack is installed. All take turns within one
process and one thread; CPU seconds, least of the samples. The error of the blast is most of it that of a front of two
cells, and depends on the length of the last substeps: it is the mean over six times. The compiled form runs on
slightly finer cells too, on which its error is below pyclaw's for certain.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from sciml.domains import Grid
from sciml.experiments.benchmarks.bench_exponax import least
from sciml.pdes import CompressibleEuler
from sciml.solvers.finite_volume import finite_volume
from sciml.solvers.finite_volume.exact import SOD
from sciml.solvers.lanes import available
from sciml.step import Step

GAS = CompressibleEuler()


def tube(n: int) -> tuple[Grid, Tensor, float]:
    """Grid, conserved state (1, 3, n) and final time of Sod's tube."""
    grid = Grid((n,), (1.0,), boundary="outflow", centering="cell")
    return grid, GAS.conservative(SOD.exact(grid.axes()[0], 0.0).unsqueeze(0)), 0.2


def blast(n: int) -> tuple[Grid, Tensor, float]:
    """Grid, conserved state (1, 4, n, n) and final time of a hot spot of ten times the pressure."""
    grid = Grid((n, n), (1.0, 1.0), boundary="outflow", centering="cell")
    x, y = grid.coordinates()
    pressure = 1.0 + 9.0 * torch.exp(-((x - 0.5).square() + (y - 0.5).square()) / 0.01)
    rest = torch.zeros_like(x)
    return grid, GAS.conservative(torch.stack([torch.ones_like(x), rest, rest, pressure]).unsqueeze(0)), 0.1


# Shares of the time at whose end the density is compared.
TIMES = {"tube": (1.0,), "blast": (0.6, 0.7, 0.8, 0.9, 1.0, 1.1)}


def references(name: str, n: int) -> list[Tensor]:
    """The density at those times, exact or from WENO5 on a fine grid, (*cells) each."""
    grid, start, end = {"tube": tube, "blast": blast}[name](n)
    if name == "tube":
        return [SOD.exact(grid.axes()[0], share * end)[0] for share in TIMES[name]]
    fine, u, _ = blast(4 * n)
    found, before = [], 0.0
    for share in TIMES[name]:
        u = finite_volume(GAS, fine, (share - before) * end, reconstruction="weno5")(u)
        found.append(torch.nn.functional.avg_pool2d(u[:, :1], 4)[0, 0])
        before = share
    return found


def density(steps: dict[float, Step], u: Tensor, share: float) -> Tensor:
    """The density of the first sample after a share of the time."""
    return steps[share](u)[0, 0]


def pyclaw_density(runs: dict[float, Callable[[], Tensor]], share: float) -> Tensor:
    """The same by pyclaw."""
    return runs[share]()


def pyclaw_run(grid: Grid, start: Tensor, end: float) -> Callable[[], Tensor]:
    """The same problem by pyclaw, as a function that gives the density (*cells)."""
    from clawpack import pyclaw, riemann

    logging.getLogger("pyclaw").setLevel(logging.CRITICAL)
    dimension = grid.dimension

    def run() -> Tensor:
        solver = (pyclaw.ClawSolver1D if dimension == 1 else pyclaw.ClawSolver2D)(
            riemann.euler_with_efix_1D if dimension == 1 else riemann.euler_4wave_2D
        )
        solver.kernel_language = "Fortran"
        solver.limiters = pyclaw.limiters.tvd.MC
        solver.all_bcs = pyclaw.BC.extrap
        solver.dt_initial = 0.3 * grid.spacing[0] / 4
        domain = pyclaw.Domain([0.0] * dimension, list(grid.lengths), list(grid.shape))
        state = pyclaw.State(domain, dimension + 2)
        state.problem_data.update(gamma=1.4, gamma1=0.4)
        if dimension == 1:
            state.problem_data["efix"] = False
        state.q[...] = start[0].numpy()
        controller = pyclaw.Controller()
        controller.solution, controller.solver = pyclaw.Solution(state, domain), solver
        controller.tfinal, controller.num_output_times = end, 1
        controller.output_format, controller.keep_copy, controller.verbosity = None, False, 0
        controller.run()
        return torch.from_numpy(controller.solution.q[0].copy())

    return run


def measure(name: str, n: int, finer: int, batch: int, seconds: float) -> list[dict[str, Any]]:
    """One row per code and precision: trajectories per CPU second and mean error of the density.

    Args:
        name: the problem.
        n, finer: cells per axis, and those on which the compiled form runs too (0 for none).
        batch: trajectories that are made together, where a code can.
        seconds: time for all samples.
    """
    problem, shares = {"tube": tube, "blast": blast}[name], TIMES[name]
    # Each is a function of the share of the time that it runs for.
    runs: dict[str, tuple[int, Callable[[float], Tensor]]] = {}
    errors: dict[str, float] = {}
    for cells in (n, finer) if finer and available() else (n,):
        grid, start, end = problem(cells)
        mine: dict[str, tuple[int, Callable[[float], Tensor]]] = {}
        for form in ("tensors",) if not available() else ("fused",) if cells != n else ("fused", "tensors"):
            for dtype in (torch.float64, torch.float32):
                u = start.to(dtype).repeat(batch, *[1] * (start.ndim - 1))
                steps: dict[float, Step] = {
                    s: finite_volume(GAS, grid, s * end, form=form)  # type: ignore[arg-type]
                    for s in shares
                }
                more = "" if cells == n else f", {cells} cells"
                mine[f"{form} {str(dtype)[6:]}{more}"] = (batch, partial(density, steps, u))
        if cells == n and find_spec("clawpack") is not None:
            peers = {s: pyclaw_run(grid, start, s * end) for s in shares}
            mine["pyclaw float64"] = (1, partial(pyclaw_density, peers))
        exact = references(name, cells)
        for key, (_, run) in mine.items():
            parts = [float((run(s).double() - e).abs().mean()) for s, e in zip(shares, exact, strict=True)]
            errors[key] = sum(parts) / len(parts)
        runs.update(mine)
    taken: dict[str, list[float]] = {key: [] for key in runs}
    begin = time.perf_counter()
    while time.perf_counter() - begin < seconds or len(taken["tensors float64"]) < 2:
        for key, (count, run) in runs.items():
            began = time.process_time()
            run(1.0)
            taken[key].append((time.process_time() - began) / count)
    rate = {key: 1.0 / least(values) for key, values in taken.items()}
    peer = rate.get("pyclaw float64")
    return [
        {
            "code": key,
            "trajectories": rate[key],
            "error": errors[key],
            "ratio": None if peer is None else rate[key] / peer,
        }
        for key in runs
    ]


def main() -> None:
    """Print trajectories per CPU second, errors and ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="time for each of the two problems")
    seconds = parser.parse_args().seconds
    torch.set_num_threads(1)
    for title, name, n, finer, batch in (
        ("Sod's tube, 1000 cells, t = 0.2", "tube", 1000, 0, 16),
        ("blast, 128 x 128 cells, t = 0.1", "blast", 128, 136, 2),
    ):
        print(title)
        print(f"  {'':26s}{'trajectories / CPU s':>22s}{'mean error of density':>24s}{'over pyclaw':>14s}")
        with torch.no_grad():
            for row in measure(name, n, finer, batch, seconds):
                ratio = "-" if row["ratio"] is None else f"{row['ratio']:.2f}"
                print(f"  {row['code']:26s}{row['trajectories']:22.2f}{row['error']:24.3e}{ratio:>14s}")


if __name__ == "__main__":
    main()
