"""Darcy's equation for a batch of porous media: multigrid beside pyamg and SuperLU.

python -m sciml.experiments.benchmarks.bench_elliptic

CPU seconds of one thread, cases taken in turn, least of three; set-up included, as every coefficient
is solved once. Largest difference to the direct solution beside them.
"""

from __future__ import annotations

import time
from typing import cast

import torch
from torch import Tensor

from sciml import Grid
from sciml.solvers.elliptic import solve_darcy
from sciml.solvers.elliptic.darcy import EllipticMethod


def two_phase(samples: int, n: int) -> Tensor:
    """A smooth random field cut at zero, 12 above and 3 below, (B, 1, n, n)."""
    noise = torch.randn(samples, n, n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    k = torch.fft.fftfreq(n, 1 / n, dtype=torch.float64)
    field = torch.fft.ifft2(torch.fft.fft2(noise) / (k[:, None] ** 2 + k**2 + 0.25)).real
    return 3.0 + 9.0 * (field > 0).double().unsqueeze(1)


def main(samples: int = 8, repeats: int = 3) -> None:
    """Print times and ratios at 64^2, 128^2 and 256^2 nodes."""
    torch.set_num_threads(1)
    for n in (64, 128, 256):
        grid = Grid((n, n), (1.0, 1.0), "dirichlet")
        a = two_phase(samples, n)
        best: dict[str, float] = {}
        found: dict[str, Tensor] = {}
        for _ in range(repeats):
            for method in ("multigrid", "pyamg", "direct"):
                began = time.process_time()
                found[method] = solve_darcy(a, 1.0, grid, method=cast(EllipticMethod, method))
                spent = time.process_time() - began
                best[method] = min(spent, best.get(method, spent))
        for method, spent in best.items():
            apart = float((found[method] - found["direct"]).abs().max() / found["direct"].abs().max())
            ratio = spent / best["multigrid"]
            print(f"{n}^2 x {samples} {method:9s} {spent:7.3f} s  {ratio:5.2f} x  apart {apart:.1e}")


if __name__ == "__main__":
    main()
