"""Darcy's equation in two-phase media: compiled and eager multigrid beside pyamg and SuperLU.

python -m sciml.experiments.benchmarks.bench_elliptic [SIZE...]

-div(a grad u) = 1 between walls, a 12 or 3, to a relative residual of 1e-8. CPU seconds of one thread per sample,
cases taken in turn, median and least of the repeats; set-up included, as every coefficient is solved once.
`apart` is the largest difference from SuperLU's solution, over the largest value.

scipy's and pyamg's cases are given the finished matrix; ours start from the coefficient. pyamg is the faster of its
Ruge-Stuben and smoothed-aggregation hierarchies, each with conjugate gradients.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from sciml import Grid
from sciml.solvers.elliptic import discretise, solve_darcy, solve_poisson
from sciml.solvers.lanes import available

TOLERANCE = 1e-8


def two_phase(samples: int, n: int) -> Tensor:
    """A smooth random field cut at zero, 12 above and 3 below, (B, 1, n, n)."""
    noise = torch.randn(samples, n, n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    k = torch.fft.fftfreq(n, 1 / n, dtype=torch.float64)
    field = torch.fft.ifft2(torch.fft.fft2(noise) / (k[:, None] ** 2 + k**2 + 0.25)).real
    return 3.0 + 9.0 * (field > 0).double().unsqueeze(1)


def cases(n: int, samples: int) -> dict[str, tuple[int, Callable[[], Tensor | np.ndarray]]]:
    """Name -> (number of samples, what is timed)."""
    import pyamg
    from scipy.sparse import csr_matrix
    from scipy.sparse.linalg import spsolve

    grid = Grid((n, n), (1.0, 1.0), "dirichlet")
    a = two_phase(samples, n)
    problem = discretise(a[:1, 0], grid)
    matrix = csr_matrix(problem.operator.matrix())
    columns = matrix.tocsc()
    b = np.ones(matrix.shape[0]) * float(problem.volumes.flatten()[0])

    def multigrid(count: int, compiled: bool) -> Tensor:
        return solve_darcy(a[:count], 1.0, grid, method="multigrid", tolerance=TOLERANCE, compiled=compiled)

    def algebraic(make: Callable[..., object]) -> np.ndarray:
        return make(matrix).solve(b, tol=TOLERANCE, accel="cg")  # type: ignore[attr-defined]

    found: dict[str, tuple[int, Callable[[], Tensor | np.ndarray]]] = {}
    if available():
        found["compiled"] = (1, lambda: multigrid(1, True))
        if samples > 1:
            found[f"compiled, {samples} together"] = (samples, lambda: multigrid(samples, True))
    found["eager"] = (1, lambda: multigrid(1, False))
    if samples > 1:
        found[f"eager, {samples} together"] = (samples, lambda: multigrid(samples, False))
    found["constant a, transforms"] = (1, lambda: solve_poisson(1.0, grid, method="fft"))
    found["pyamg, Ruge-Stuben"] = (1, lambda: algebraic(pyamg.ruge_stuben_solver))
    found["pyamg, aggregation"] = (1, lambda: algebraic(pyamg.smoothed_aggregation_solver))
    if n <= 512:
        found["scipy spsolve"] = (1, lambda: spsolve(columns, b))
        found["SuperLU, symmetric mode"] = (
            1,
            lambda: solve_darcy(a[:1], 1.0, grid, method="direct"),
        )
    return found


def measure(n: int, samples: int, repeats: int) -> None:
    """Print a table for n^2 nodes."""
    chosen = cases(n, samples)
    spent: dict[str, list[float]] = {name: [] for name in chosen}
    found: dict[str, np.ndarray] = {}
    for round_ in range(repeats + 1):
        for name, (count, run) in chosen.items():
            began = time.process_time()
            u = run()
            if round_:  # the first is warm-up
                spent[name].append((time.process_time() - began) / count)
            values = u.numpy() if isinstance(u, Tensor) else u
            found[name] = values[0, 0, 1:-1, 1:-1].ravel() if values.ndim > 1 else values
    exact = found.get("scipy spsolve")
    middle = {name: statistics.median(times) for name, times in spent.items()}
    ours = middle.get("compiled", middle["eager"])
    print(f"{n}^2 nodes, {repeats} repeats")
    for name, times in spent.items():
        apart = ""
        if exact is not None and "constant" not in name:
            apart = f"  apart {np.abs(found[name] - exact).max() / np.abs(exact).max():.0e}"
        print(
            f"  {name:24s} {middle[name]:8.4f} s (least {min(times):.4f})  {middle[name] / (n - 2) ** 2 * 1e6:6.3f} us per "
            f"unknown  {middle[name] / ours:6.2f} x ours{apart}",
            flush=True,
        )
    if exact is not None:
        amg = min(middle["pyamg, Ruge-Stuben"], middle["pyamg, aggregation"])
        direct = min(middle["scipy spsolve"], middle["SuperLU, symmetric mode"])
        for name in ("compiled", f"compiled, {samples} together", "eager", f"eager, {samples} together"):
            if name in middle:
                spent_here = middle[name]
                print(
                    f"  {name}: {middle['scipy spsolve'] / spent_here:.1f} x scipy's spsolve, "
                    f"{direct / spent_here:.1f} x the faster SuperLU, {amg / spent_here:.1f} x pyamg"
                )


def main(arguments: list[str]) -> None:
    """Tables for the sizes given."""
    torch.set_num_threads(1)
    for n in [int(v) for v in arguments] or [128, 256, 512, 1024]:
        measure(n, samples=8 if n <= 512 else 1, repeats=5 if n <= 256 else 3)


if __name__ == "__main__":
    main(sys.argv[1:])
