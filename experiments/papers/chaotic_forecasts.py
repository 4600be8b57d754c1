"""How far do cheap forecasts reach on ten chaotic systems, and does one system's order of methods hold on another?

After the short protocol of Gilpin (arXiv 2303.08011): 100 points a period, ten periods of one trajectory to learn from,
the next two to forecast (or more, `--ask`), everything recursive and nothing tuned on the test. A method is fitted anew
on each of several trajectories. Horizons are how long the error stays below 0.4 of the root mean square, at most to the
end of what is asked; beside them stand the symmetric percentage error of the first two periods and how alike the rankings
of the methods are between systems (Spearman).

    python -m sciml.experiments.papers.chaotic_forecasts [--systems Lorenz Chen] [--pieces 5] [--ask 10] [--noise 0.01]
"""

from __future__ import annotations

import argparse
import csv
import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sciml.domains import Point
from sciml.jacobian import leading_exponent
from sciml.metrics import rank_correlation, series_scores, valid_prediction_time
from sciml.models.forecasters import (
    EDMD,
    NVAR,
    Analog,
    Climatology,
    EchoState,
    Forecaster,
    Modes,
    Persistence,
)
from sciml.odes import ODE, FunctionODE, HenonHeiles, Lorenz63, Lorenz96, Roessler
from sciml.solvers import build
from sciml.step import Step, rollout

POINTS, LEARNED, ASKED = 100, 10, 2
"""Points a period, periods to learn from, periods to forecast."""


def _ode(names: str, rates: Callable[..., tuple[Tensor, ...]]) -> ODE:
    return FunctionODE(lambda u: torch.stack(rates(*u.unbind(1)), dim=1), names.split())


def _chua(x: Tensor, y: Tensor, z: Tensor) -> tuple[Tensor, ...]:
    inner, outer = -1.142857, -0.71429
    bend = outer * x + 0.5 * (inner - outer) * ((x + 1).abs() - (x - 1).abs())
    return 15.6 * (y - x - bend), x - y + z, -28.0 * y


def _aizawa(x: Tensor, y: Tensor, z: Tensor) -> tuple[Tensor, ...]:
    square = x**2 + y**2
    up = 0.6 + 0.95 * z - z**3 / 3 - square * (1 + 0.25 * z) + 0.1 * z * x**3
    return (z - 0.7) * x - 3.5 * y, 3.5 * x + (z - 0.7) * y, up


@dataclass(frozen=True)
class System:
    """A system, a state near its attractor, and a time step that resolves it."""

    ode: ODE
    near: tuple[float, ...]
    step: float


SYSTEMS = {
    "Lorenz": System(Lorenz63(), (1.0, 1.0, 20.0), 0.01),
    "Roessler": System(Roessler(), (1.0, 1.0, 0.0), 0.05),
    "Chua": System(_ode("x y z", _chua), (0.7, 0.0, 0.0), 0.02),
    "Lorenz-96": System(Lorenz96(sites=4, forcing=20.0), (1.0, 2.0, 3.0, 4.0), 0.005),
    "Thomas": System(
        _ode("x y z", lambda x, y, z: tuple(-1.85 * p + 10 * torch.sin(q) for p, q in ((x, y), (y, z), (z, x)))),
        (0.1, 0.5, -0.3),
        0.02,
    ),
    "Halvorsen": System(
        _ode(
            "x y z",
            lambda x, y, z: tuple(
                -1.4 * p - 4 * (q + r) - q**2 for p, q, r in ((x, y, z), (y, z, x), (z, x, y))
            ),
        ),
        (-5.0, 0.5, -1.0),
        0.01,
    ),
    "Chen": System(
        _ode("x y z", lambda x, y, z: (35 * (y - x), -7 * x - x * z + 28 * y, x * y - 3 * z)),
        (3.0, 4.0, 20.0),
        0.005,
    ),
    "Aizawa": System(_ode("x y z", _aizawa), (0.1, 0.0, 0.0), 0.02),
    "Henon-Heiles": System(HenonHeiles(), (0.0, -0.25, 0.42, 0.0), 0.1),
    "Sprott B": System(
        _ode("x y z", lambda x, y, z: (y * z, x - y, 1 - x * y)), (0.1, 0.2, 0.3), 0.05
    ),
}  # fmt: skip

METHODS: dict[str, Callable[[int], Forecaster]] = {
    "persistence": Persistence,
    "mean": Climatology,
    "AR(10)": lambda n: NVAR(n, 10, 1),
    "delay DMD": lambda n: EDMD(n, Modes(20), delays=25),
    "NVAR": lambda n: NVAR(n, 2, 2),
    "reservoir": EchoState,
    "analog": Analog,
}


@dataclass(frozen=True)
class Record:
    """What is learned from and asked for, of one system.

    Args:
        states: (pieces, T, n), on the attractor.
        dt: time between two of them.
        period: the inverse of the mean frequency, weighted by power.
        exponent: leading Lyapunov exponent [1/time], of the system itself.
    """

    states: Tensor
    dt: float
    period: float
    exponent: float


def mean_period(paths: Tensor, dt: float) -> float:
    """Of paths (B, T, n): sum of the power over that of frequency times power, all numbers in units of their spread."""
    scaled = (paths - paths.mean(dim=(0, 1))) / paths.std(dim=(0, 1))
    power = torch.fft.rfft(scaled, dim=1).abs().square().sum(dim=(0, 2))
    frequency = torch.fft.rfftfreq(paths.shape[1], dt, dtype=torch.float64)
    return float(power[1:].sum() / (power[1:] * frequency[1:]).sum())


@torch.no_grad()
def record(system: System, pieces: int, asked: int = ASKED, seed: int = 0) -> Record:
    """Trajectories of a system with so many periods to forecast, and its clocks."""
    generator = torch.Generator().manual_seed(seed)
    near = torch.tensor(system.near, dtype=torch.float64)
    u = near + 1e-3 * torch.randn(pieces, len(near), generator=generator, dtype=torch.float64)
    fine = build(system.ode, Point(), system.step, substeps=1)
    paths = rollout(fine, 6000)(u)[:, 2000:]  # apart from each other, and on the attractor
    period = mean_period(paths, system.step)
    dt = period / POINTS
    step: Step = build(system.ode, Point(), dt, substeps=max(1, math.ceil(dt / system.step)))
    start = paths[:, -1]
    exponents = leading_exponent(step, start, 40 * POINTS, discard=4 * POINTS, every=4, mode="fd")
    states = rollout(step, (LEARNED + asked) * POINTS - 1)(start)
    return Record(states, dt, period, float(exponents.mean()))


def scores(name: str, found: Record, piece: int, noise: float, seed: int = 0) -> dict[str, float]:
    """What a method reaches on one trajectory; noise is in units of the spread and never on what is asked for."""
    known = LEARNED * POINTS
    states = found.states[piece : piece + 1]
    generator = torch.Generator().manual_seed(seed + piece)
    spread = states[:, :known].std(dim=1)
    seen = states[:, :known] + noise * spread * torch.randn(
        states[:, :known].shape, generator=generator, dtype=torch.float64
    )
    mean, spread = seen.mean(dim=1), seen.std(dim=1)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = METHODS[name](states.shape[2])
    learned = (seen - mean) / spread
    model.fit(learned, generator)
    truth = states[:, known:]
    forecast = model.forecast(learned, truth.shape[1]) * spread + mean
    valid = float(valid_prediction_time(forecast, truth, found.dt, 0.4, mean=mean[0], scale=spread[0]))
    short = slice(0, ASKED * POINTS)
    smape = float(series_scores(forecast[:, short].nan_to_num(), truth[:, short])["smape"].mean())
    return {"periods": valid / found.period, "lyapunov_times": valid * found.exponent, "smape": smape}


def measure(
    systems: Sequence[str], methods: Sequence[str], pieces: int, asked: int = ASKED, noise: float = 0.0
) -> list[dict[str, Any]]:
    """All methods on all systems, one row each."""
    rows: list[dict[str, Any]] = []
    for system in systems:
        found = record(SYSTEMS[system], pieces, asked)
        for method in methods:
            began = time.process_time()
            for piece in range(pieces):
                rows.append(
                    {
                        "system": system,
                        "period": found.period,
                        "exponent": found.exponent,
                        "method": method,
                        "piece": piece,
                        **scores(method, found, piece, noise),
                        "CPU seconds": (time.process_time() - began) / (piece + 1),
                    }
                )
    return rows


def _medians(rows: Sequence[dict[str, Any]], column: str) -> dict[tuple[str, str], list[float]]:
    values: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        values.setdefault((row["system"], row["method"]), []).append(float(row[column]))
    return values


def likeness(rows: Sequence[dict[str, Any]]) -> float:
    """Mean Spearman correlation between the rankings of the methods on each two systems; NaN for a single system."""
    values = _medians(rows, "periods")
    systems = list(dict.fromkeys(system for system, _ in values))
    methods = list(dict.fromkeys(method for _, method in values))
    table = torch.tensor([[statistics.median(values[s, m]) for m in methods] for s in systems])
    pairs = [float(rank_correlation(a, b)) for a, b in combinations(table, 2)]
    return statistics.fmean(pairs) if pairs else math.nan


def table(rows: Sequence[dict[str, Any]], column: str = "lyapunov_times") -> str:
    """Median of a score with quartiles over trajectories, and its median over the systems."""
    values = _medians(rows, column)
    systems = list(dict.fromkeys(system for system, _ in values))
    methods = list(dict.fromkeys(method for _, method in values))
    clocks = {row["system"]: (row["period"], row["exponent"]) for row in rows}
    lines = [f"| {column} | period | exponent | " + " | ".join(methods) + " |"]
    lines.append("|---" * (len(methods) + 3) + "|")
    for system in systems:
        cells = []
        for method in methods:
            low, middle, high = (
                torch.tensor(values[system, method]).quantile(torch.tensor([0.25, 0.5, 0.75])).tolist()
            )
            cells.append(f"{middle:.2g} ({low:.2g}-{high:.2g})")
        period, exponent = clocks[system]
        lines.append(f"| {system} | {period:.3g} | {exponent:.3g} | " + " | ".join(cells) + " |")
    middle = [statistics.median(statistics.median(values[s, m]) for s in systems) for m in methods]
    lines.append("| median of the systems | | | " + " | ".join(f"{m:.2g}" for m in middle) + " |")
    return "\n".join(lines)


def main(words: Sequence[str] | None = None) -> int:
    """Run it and print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--systems", nargs="+", choices=list(SYSTEMS), default=list(SYSTEMS))
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--pieces", type=int, default=5, help="trajectories of each system")
    parser.add_argument(
        "--ask", type=int, default=ASKED, help="periods to forecast; 50 in the long protocol"
    )
    parser.add_argument("--noise", type=float, default=0.0, help="on what is learned from, over its spread")
    parser.add_argument("--out", type=Path, help="file for the rows")
    given = parser.parse_args(words)
    torch.set_num_threads(1)
    rows = measure(given.systems, given.methods, given.pieces, given.ask, given.noise)
    if given.out is not None:
        with open(given.out, "w", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    print(table(rows), table(rows, "periods"), table(rows, "smape"), sep="\n\n")
    print(
        f"\nrankings of the methods on two systems agree by {likeness(rows):.2f} (Spearman, mean of all pairs)"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
