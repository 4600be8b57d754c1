"""Does imposing a known integral on an uncertain prediction help, and where?

Hansen et al. (ICML 2023, arXiv 2302.11002) condition the belief of an attentive neural process on the total mass: errors
fall where the profile is a kink or a jump and the belief is unsure there. Here, beside each other on the same beliefs:

- none: the base model's own mean and variance;
- orthogonal: the mean moved to the right mass, all points alike, the variance kept;
- conditioned: mean and variance given the mass;
- smoothed: given the mass, and that neighbours are alike.

Problems: porous medium waves u_t = (u^m u_x)_x with m drawn from 1 to 6, and a melting front with a threshold drawn from
0.55 to 0.7. The mass comes from the exact flux through the side, not from the test data.

    python -m sciml.experiments.papers.conservation_update [--problems porous stefan] [--models process gaussian]
        [--seeds 0 1 2] [--updates 1000] [--out folder]
"""

from __future__ import annotations

import argparse
import csv
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sciml.constraints.gaussian import Gaussian, condition, mixture, project_mean, smooth, trapezoid
from sciml.experiments.progress import Reporter, Task
from sciml.metrics.gaussian import gaussian_crps, gaussian_log_likelihood
from sciml.models.processes import AttentiveProcess, GaussianProcess
from sciml.pdes import PorousMedium, Stefan

CONTEXT = 100
GRID = torch.linspace(0.0, 1.0, 201, dtype=torch.float64)
WEIGHTS = trapezoid(GRID)
WAYS: dict[str, Callable[[Gaussian, Tensor, Tensor], Gaussian]] = {
    "none": lambda belief, g, b: belief,
    "orthogonal": project_mean,
    "conditioned": condition,
    "smoothed": lambda belief, g, b: condition(smooth(belief), g, b),
}


@dataclass(frozen=True)
class Problem:
    """A family of exact solutions on the unit interval, and the mass that enters through its left side.

    Args:
        exact: (parameter, t (...), x (...)) -> u (...).
        mass: (parameter, t) -> integral of u.
        low, high: of the parameter, in training.
        tests: parameters of the tests.
        end: the last time of the data.
        at: the time of the test.
    """

    exact: Callable[[float, Tensor, Tensor], Tensor]
    mass: Callable[[float, float], float]
    low: float
    high: float
    tests: tuple[float, ...]
    end: float
    at: float


def _porous(m: float, t: Tensor, x: Tensor) -> Tensor:
    return PorousMedium(m).wave(x.reshape(1, 1, -1), t.reshape(1, 1, -1)).reshape(x.shape)


def _stefan(star: float, t: Tensor, x: Tensor) -> Tensor:
    # The solution depends on x / sqrt(t) alone.
    one = Stefan(star).similarity((x / t.clamp(min=1e-12).sqrt()).reshape(1, 1, -1), 1.0)
    return one.reshape(x.shape)


PROBLEMS = {
    "porous": Problem(
        _porous,
        lambda m, t: m ** (1 + 1 / m) / (m + 1) * t ** (1 + 1 / m),
        1.0, 6.0, (1.0, 3.0, 6.0), 1.0, 0.5,
    ),
    "stefan": Problem(_stefan, lambda star, t: Stefan(star).content(t), 0.55, 0.7, (0.6,), 0.1, 0.05),
}  # fmt: skip


def scattered(problem: Problem, parameter: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Points (N, 2) of (t, x), ten random places at each of ten random times, and values (N,); t in units of the end."""
    share = ((torch.arange(10) + _each(10, generator)) / 10).repeat_interleave(10)
    x = torch.rand(CONTEXT, generator=generator, dtype=torch.float64)
    return torch.stack((share, x), -1), problem.exact(parameter, share * problem.end, x)


def _each(count: int, generator: torch.Generator) -> Tensor:
    return torch.rand(count, generator=generator, dtype=torch.float64)


def anywhere(problem: Problem, parameter: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Points (N, 2) drawn evenly, and their values (N,)."""
    place = torch.rand(CONTEXT, 2, generator=generator, dtype=torch.float64)
    return place, problem.exact(parameter, place[:, 0] * problem.end, place[:, 1])


def functions(problem: Problem, count: int, seed: int) -> tuple[Tensor, ...]:
    """Context points and values and target points and values of so many functions, (count, N, ...) each, float32."""
    generator = torch.Generator().manual_seed(seed)
    drawn = []
    for _ in range(count):
        parameter = problem.low + (problem.high - problem.low) * float(_each(1, generator))
        drawn.append((*scattered(problem, parameter, generator), *anywhere(problem, parameter, generator)))
    return tuple(torch.stack(part).float() for part in zip(*drawn, strict=True))


def trained(problem: Problem, seed: int, updates: int, count: int, task: Task) -> AttentiveProcess:
    """An attentive process after its training."""
    x, u, at, truth = functions(problem, count, 1000 + seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AttentiveProcess(2, width=32, heads=4, scale=float(truth.std()))
        optimizer = torch.optim.Adam(model.parameters(), 2e-3)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, updates)
        for update in range(updates):
            chosen = torch.randint(count, (32,))
            loss = model.loss(x[chosen], u[chosen], at[chosen], truth[chosen])
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            task.update(update + 1, f"loss {float(loss):.3f}")
    return model.eval()


def beliefs(
    model: AttentiveProcess | GaussianProcess, problem: Problem, parameter: float, count: int, seed: int
) -> list[tuple[Gaussian, Tensor, Tensor]]:
    """For each test function: the belief on the grid (draws, n), and the context points and values."""
    generator = torch.Generator().manual_seed(seed)
    at = torch.stack((torch.full_like(GRID, problem.at / problem.end), GRID), -1)
    found = []
    for _ in range(count):
        x, u = scattered(problem, parameter, generator)
        with torch.no_grad():
            if isinstance(model, GaussianProcess):
                belief = model(x[None], u[None], at[None])
            else:
                belief = model(x[None].float(), u[None].float(), at[None].float(), 20, generator)
                belief = Gaussian(belief.mean[:, 0].double(), belief.spread[:, 0].double())
        found.append((belief, x, u))
    return found


def front(u: Tensor) -> Tensor:
    """Place of the first point without content, (..., n) -> (...); the last point where there is none."""
    empty = u <= 0
    first = empty.to(torch.uint8).argmax(dim=-1)
    return GRID[torch.where(empty.any(dim=-1), first, len(GRID) - 1)]


def judged(
    belief: Gaussian, truth: Tensor, mass: float, generator: torch.Generator, with_front: bool
) -> dict[str, float]:
    """Scores of a belief that is an even mixture of draws (draws, n)."""
    one = mixture(belief)
    deviation = one.variance.clamp(min=1e-8).sqrt()
    scores = {
        "mass error": float(one.mean @ WEIGHTS) - mass,
        "log likelihood": float(gaussian_log_likelihood(one.mean, deviation, truth).mean()),
        "MSE": float((one.mean - truth).square().mean()),
        "CRPS": float(gaussian_crps(one.mean, deviation, truth).mean()),
    }
    if with_front:
        each = max(1, 500 // len(belief.mean))
        drawn = belief.sample(each, generator).flatten(0, -2)
        scores["front error"] = float((front(drawn).median() - front(truth)).abs()) / float(GRID[1])
    return scores


def measure(
    names: Sequence[str], models: Sequence[str], seeds: Sequence[int], updates: int, count: int, tests: int
) -> tuple[list[dict[str, Any]], dict[str, tuple[Tensor, dict[str, Gaussian]]]]:
    """A row for each problem, model, seed, parameter and way; and the first belief of each problem, to be drawn."""
    rows: list[dict[str, Any]] = []
    shown: dict[str, tuple[Tensor, dict[str, Gaussian]]] = {}
    for name in names:
        problem = PROBLEMS[name]
        for kind in models:
            for seed in seeds:
                began = time.process_time()
                steps = updates if kind == "process" else 1
                with Reporter().task(f"{name}, {kind}, seed {seed}", steps) as task:
                    model = made(problem, kind, seed, updates, count, task)
                spent = time.process_time() - began
                for parameter in problem.tests:
                    rows += tested(model, problem, name, kind, seed, parameter, tests, spent, shown)
    return rows, shown


def made(
    problem: Problem, kind: str, seed: int, updates: int, count: int, task: Task
) -> AttentiveProcess | GaussianProcess:
    """The base model, trained or fitted."""
    if kind == "process":
        return trained(problem, seed, updates, count, task)
    x, u, _, _ = functions(problem, 8, 1000 + seed)
    found = GaussianProcess(2, "matern 1/2" if problem is PROBLEMS["stefan"] else "matern 3/2").fit(x, u)
    task.update(1, "fitted")
    return found


def tested(
    model: AttentiveProcess | GaussianProcess,
    problem: Problem,
    name: str,
    kind: str,
    seed: int,
    parameter: float,
    tests: int,
    spent: float,
    shown: dict[str, tuple[Tensor, dict[str, Gaussian]]],
) -> list[dict[str, Any]]:
    """A row for each way, means over test functions."""
    truth = problem.exact(parameter, torch.full_like(GRID, problem.at), GRID)
    mass = problem.mass(parameter, problem.at)
    b = torch.tensor([mass], dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    drawn = beliefs(model, problem, parameter, tests, 2000 + seed)
    rows = []
    for way, impose in WAYS.items():
        scores = []
        for belief, _, _ in drawn:
            imposed = impose(belief, WEIGHTS[None], b)
            scores.append(judged(imposed, truth, mass, generator, with_front=name == "stefan"))
            shown.setdefault(f"{name} {parameter:g}, {kind}", (truth, {}))[1].setdefault(
                way, mixture(imposed)
            )
        means = {key: statistics.fmean(s[key] for s in scores) for key in scores[0]}
        means["|mass error|"] = statistics.fmean(abs(s["mass error"]) for s in scores)
        if "front error" in means:
            means["front error"] = statistics.median(s["front error"] for s in scores)
        rows.append(
            {"problem": name, "model": kind, "parameter": parameter, "way": way, "seed": seed, **means,
             "CPU seconds": spent}
        )  # fmt: skip
    return rows


COLUMNS = ("|mass error|", "log likelihood", "MSE", "CRPS", "front error")


def table(rows: list[dict[str, Any]]) -> str:
    """Medians over seeds and their range."""
    lines = ["| problem | model | mass | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 3) + "|"]
    keys = list(dict.fromkeys((r["problem"], r["parameter"], r["model"], r["way"]) for r in rows))
    for key in keys:
        own = [r for r in rows if (r["problem"], r["parameter"], r["model"], r["way"]) == key]
        cells = []
        for column in COLUMNS:
            values = [float(r[column]) for r in own if column in r]
            cells.append(
                f"{statistics.median(values):.3g} ({min(values):.3g} to {max(values):.3g})"
                if values
                else ""
            )
        problem, parameter, model, way = key
        lines.append(f"| {problem} {parameter:g} | {model} | {way} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw(shown: dict[str, tuple[Tensor, dict[str, Gaussian]]], out: Path) -> list[Path]:
    """A picture for each problem: truth, mean and two deviations before and after."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    paths = []
    for title, (truth, ways) in shown.items():
        figure, axes = plt.subplots(
            1, len(ways), figsize=(3.4 * len(ways), 3.0), sharey=True, layout="constrained"
        )
        for axis, (way, belief) in zip(axes, ways.items(), strict=True):
            mean, deviation = belief.mean, belief.variance.sqrt()
            axis.fill_between(
                GRID, mean - 2 * deviation, mean + 2 * deviation, alpha=0.25, lw=0, color="#0072b2"
            )
            axis.plot(GRID, mean, color="#0072b2", lw=1.4, label="mean, two deviations")
            axis.plot(GRID, truth, color="black", lw=0.9, label="truth")
            axis.set(title=way, xlabel="x")
        axes[0].set_ylabel("u")
        axes[0].legend(fontsize=7)
        figure.suptitle(title, fontsize=10)
        name = "".join(c if c.isalnum() else "-" for c in title)
        paths.append(out / f"{name}.png")
        figure.savefig(paths[-1], dpi=110)
        plt.close(figure)
    return paths


def main(words: Sequence[str] | None = None) -> int:
    """Run it, print the table, and keep rows and pictures where asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--problems", nargs="+", choices=list(PROBLEMS), default=list(PROBLEMS))
    parser.add_argument(
        "--models", nargs="+", choices=["process", "gaussian"], default=["process", "gaussian"]
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--updates", type=int, default=1000)
    parser.add_argument("--functions", type=int, default=2000)
    parser.add_argument("--tests", type=int, default=50, help="functions per parameter")
    parser.add_argument("--out", type=Path, help="folder for rows.csv and pictures")
    given = parser.parse_args(words)
    torch.set_num_threads(1)
    rows, shown = measure(
        given.problems, given.models, given.seeds, given.updates, given.functions, given.tests
    )
    if given.out is not None:
        given.out.mkdir(parents=True, exist_ok=True)
        names = list(dict.fromkeys(key for row in rows for key in row))
        with open(given.out / "rows.csv", "w", newline="") as stream:
            writer = csv.DictWriter(stream, names, restval="")
            writer.writeheader()
            writer.writerows(rows)
        for path in draw(shown, given.out):
            print(path)
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
