"""How far do cheap forecasts reach on ten chaotic systems, and does one system's order of methods hold on another?

After the short protocol of Gilpin (arXiv 2303.08011): 100 points a period, ten periods of one trajectory to learn from,
the next two to forecast (or more, `--ask`), everything recursive and nothing tuned on the test. A method is fitted anew
on each of several trajectories. Horizons are how long the error stays below 0.4 of the root mean square, at most to the
end of what is asked, and how long the symmetric percentage error stays below 30; beside them stand that error over the
first two periods and how alike the rankings of the methods are between systems (Spearman). With `--out` all of it is
kept as an HDF5 file, which xarray reads, and the tables beside it as Markdown.

    python -m sciml.experiments.papers.chaotic_forecasts [--systems Lorenz Chen] [--pieces 5] [--ask 10] [--noise 0.01]
"""

from __future__ import annotations

import argparse
import io
import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import torch
import xarray as xr
from torch import Tensor

from sciml.domains import Point
from sciml.experiments.files import write_bytes, write_text
from sciml.extras import require
from sciml.jacobian import leading_exponent
from sciml.metrics import rank_correlation, series_scores, smape_time, valid_prediction_time
from sciml.models.forecasters import (
    EDMD,
    NVAR,
    Analog,
    Climatology,
    EchoState,
    Forecaster,
    Modes,
    Persistence,
    RandomForest,
)
from sciml.models.latent import PLRNN
from sciml.objectives import AdaptiveAlpha, GeneralizedTeacherForcing
from sciml.odes import ODE, FunctionODE, HenonHeiles, Lorenz63, Lorenz96, MackeyGlass, Roessler
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
    """A system, a state near its attractor, a time step that resolves it; every how many of its numbers are seen."""

    ode: ODE
    near: tuple[float, ...]
    step: float
    every: int = 1


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
    # Every second of 19 points of the history: ten, as delay systems are stored in the database.
    "Mackey-Glass": System(MackeyGlass(), (0.9,) * 19, 0.5, every=2),
}  # fmt: skip


class TeacherForced:
    """A clipped shallow PLRNN with 50 units, trained by generalised teacher forcing with an adaptive gain.

    The budget is short, 1000 updates on 64 windows of 10 steps: a few seconds, where the literature spends minutes.

    Args:
        size: n, numbers of a state.
    """

    steps, updates, batch = 10, 1000, 64

    def __init__(self, size: int) -> None:
        self.network = PLRNN(size, "clipped", hidden=50)

    def fit(self, trajectories: Tensor, generator: torch.Generator) -> None:
        """Learn from normalised trajectories (B, T, n)."""
        data, network = trajectories.float(), self.network
        # Memory of a fiftieth of the updates, so that the gain has come down from 1 long before the end.
        objective = GeneralizedTeacherForcing(self.steps, AdaptiveAlpha(gamma=0.98))
        optimizer = torch.optim.Adam(network.parameters(), 0.02)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, self.updates)
        ahead = torch.arange(self.steps + 1)
        for _ in range(self.updates):
            which = torch.randint(len(data), (self.batch, 1), generator=generator)
            start = torch.randint(data.shape[1] - self.steps, (self.batch, 1), generator=generator)
            loss, _ = objective(network, data[which, start + ahead], generator)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 10.0)
            optimizer.step()
            schedule.step()

    @torch.no_grad()
    def forecast(self, history: Tensor, steps: int) -> Tensor:
        """The next states: history (B, T, n) -> (B, steps, n)."""
        return rollout(self.network, steps)(history[:, -1].float())[:, 1:].to(history.dtype)


METHODS: dict[str, Callable[[int], Forecaster | TeacherForced]] = {
    "persistence": Persistence,
    "mean": Climatology,
    "AR(10)": lambda n: NVAR(n, 10, 1),
    "delay DMD": lambda n: EDMD(n, Modes(20), delays=25),
    "NVAR": lambda n: NVAR(n, 2, 2),
    "reservoir": EchoState,
    "analog": Analog,
    "forest": lambda n: RandomForest(n, 10),
    "PLRNN": TeacherForced,
}

SCORES = {
    "lyapunov_times": "time until the error exceeds 0.4 of the root mean square [Lyapunov times]",
    "periods": "the same [periods]",
    "smape_times": "time until the symmetric percentage error exceeds 30 [Lyapunov times]",
    "smape": "symmetric percentage error of the first two periods",
    "cpu_seconds": "CPU time of fit and forecast [s]",
}


@dataclass(frozen=True)
class Record:
    """What is learned from and asked for, of one system.

    Args:
        states: what is seen, (pieces, T, n), on the attractor.
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
    period = mean_period(paths[..., :: system.every], system.step)
    dt = period / POINTS
    step: Step = build(system.ode, Point(), dt, substeps=max(1, math.ceil(dt / system.step)))
    start = paths[:, -1]
    exponents = leading_exponent(step, start, 40 * POINTS, discard=4 * POINTS, every=4, mode="fd")
    states = rollout(step, (LEARNED + asked) * POINTS - 1)(start)
    return Record(states[..., :: system.every], dt, period, float(exponents.mean()))


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
    alike = float(smape_time(forecast.nan_to_num(), truth, found.dt))
    short = slice(0, ASKED * POINTS)
    smape = float(series_scores(forecast[:, short].nan_to_num(), truth[:, short])["smape"].mean())
    return {
        "lyapunov_times": valid * found.exponent,
        "periods": valid / found.period,
        "smape_times": alike * found.exponent,
        "smape": smape,
    }


def measure(
    systems: Sequence[str], methods: Sequence[str], pieces: int, asked: int = ASKED, noise: float = 0.0
) -> list[dict[str, Any]]:
    """All methods on all systems, one row each."""
    rows: list[dict[str, Any]] = []
    for system in systems:
        found = record(SYSTEMS[system], pieces, asked)
        for method in methods:
            for piece in range(pieces):
                began = time.process_time()
                reached = scores(method, found, piece, noise)
                rows.append(
                    {
                        "system": system,
                        "period": found.period,
                        "exponent": found.exponent,
                        "method": method,
                        "piece": piece,
                        **reached,
                        "cpu_seconds": time.process_time() - began,
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


def dataset(rows: Sequence[dict[str, Any]], **about: float | int | str) -> xr.Dataset:
    """All scores by system, forecaster and trajectory, their quartiles over trajectories, and the rank of each method.

    Rank 1 has the longest median horizon on a system; equal ones share the mean of their places. Whatever else is
    told becomes an attribute.
    """
    # A dimension named method would stand in the way of `sel`.
    table = pd.DataFrame(rows).rename(columns={"method": "forecaster"})
    names = {name: list(dict.fromkeys(table[name])) for name in ("system", "forecaster", "piece")}
    by_all = table.set_index(list(names))
    order = pd.MultiIndex.from_product(names.values())
    shape = tuple(len(values) for values in names.values())
    quartiles = [0.25, 0.5, 0.75]
    found: dict[str, Any] = {}
    for score, meaning in SCORES.items():
        values = by_all[score].reindex(order).to_numpy(float).reshape(shape)
        found[score] = (tuple(names), values, {"long_name": meaning})
        middle = np.quantile(values, quartiles, axis=2)
        found[f"{score}_quartiles"] = (("quartile", "system", "forecaster"), middle, {"long_name": meaning})
    horizon = pd.DataFrame(np.median(found["periods"][1], axis=2))
    rank = horizon.rank(axis=1, ascending=False).to_numpy()
    found["rank"] = (("system", "forecaster"), rank, {"long_name": "place by median horizon, 1 the best"})
    clocks = table.groupby("system", sort=False)[["period", "exponent"]].first().loc[names["system"]]
    found["period"] = ("system", clocks["period"].to_numpy(float), {"long_name": "mean period [time]"})
    found["exponent"] = (
        "system",
        clocks["exponent"].to_numpy(float),
        {"long_name": "leading exponent [1/time]"},
    )
    return xr.Dataset(found, {**names, "quartile": quartiles}, {**about, "likeness": likeness(rows)})


def write(found: xr.Dataset, path: Path) -> None:
    """As HDF5 in the layout of NetCDF 4, whole or not at all: `xarray.open_dataset(path, engine="h5netcdf")`."""
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file.attrs.update(found.attrs)
        for name, values in found.coords.items():
            text = values.dtype.kind in "OU"
            data = values.to_numpy().astype(object) if text else values.to_numpy()
            file.create_dataset(str(name), data=data, dtype=h5py.string_dtype() if text else None)
            file[str(name)].make_scale(str(name))
        for name, values in found.data_vars.items():
            held = file.create_dataset(str(name), data=values.to_numpy())
            held.attrs.update(values.attrs)
            for axis, dimension in enumerate(values.dims):
                held.dims[axis].attach_scale(file[str(dimension)])
    write_bytes(path, content.getvalue())


def summary(rows: Sequence[dict[str, Any]], found: xr.Dataset) -> str:
    """The tables as Markdown, and how the methods rank."""
    place = found["rank"].mean("system").to_series().sort_values()
    lines = [table(rows, score) for score in SCORES]
    lines.append("Mean rank: " + ", ".join(f"{method} {rank:.1f}" for method, rank in place.items()) + ".")
    lines.append(
        f"Rankings of the methods on two systems agree by {found.attrs['likeness']:.2f} (Spearman, mean of all pairs)."
    )
    return "\n\n".join(lines) + "\n"


def main(words: Sequence[str] | None = None) -> int:
    """Run it, print the tables and keep them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--systems", nargs="+", choices=list(SYSTEMS), default=list(SYSTEMS))
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--pieces", type=int, default=5, help="trajectories of each system")
    parser.add_argument(
        "--ask", type=int, default=ASKED, help="periods to forecast; 50 in the long protocol"
    )
    parser.add_argument("--noise", type=float, default=0.0, help="on what is learned from, over its spread")
    parser.add_argument(
        "--out", type=Path, help="NAME.h5 for all scores; the tables become NAME.md beside it"
    )
    given = parser.parse_args(words)
    if given.out is not None and given.out.suffix != ".h5":
        parser.error(f"--out got {given.out}; expected a name that ends in .h5.")
    if given.pieces < 1 or given.ask < ASKED or not 0 <= given.noise < 1:
        parser.error(
            f"got --pieces {given.pieces} --ask {given.ask} --noise {given.noise}; expected at least 1 and "
            f"{ASKED}, and a part from 0 to below 1."
        )
    if "forest" in given.methods:  # said now, and not after minutes
        try:
            require("sklearn", extra="forest", purpose="the method 'forest'")
        except ModuleNotFoundError as error:
            parser.error(f"{error} Or leave it out of --methods.")
    torch.set_num_threads(1)
    rows = measure(given.systems, given.methods, given.pieces, given.ask, given.noise)
    found = dataset(
        rows, noise=given.noise, periods_learned=LEARNED, periods_asked=given.ask, points=POINTS
    )
    text = summary(rows, found)
    if given.out is not None:
        write(found, given.out)
        write_text(given.out.with_suffix(".md"), text)
    print(text, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
