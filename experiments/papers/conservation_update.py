"""Does imposing a known integral on an uncertain prediction help, and where?

Hansen et al. (ICML 2023, arXiv 2302.11002) condition the belief of an attentive neural process on the total mass: errors
fall where the profile is a kink or a jump and the belief is unsure there. Here, beside each other on the same beliefs:

- none: the base model's own mean and variance;
- orthogonal: the mean moved to the right mass, all points alike, the variance kept;
- conditioned: mean and variance given the mass;
- noisy: given the mass up to what the trapezoidal rule misses of it on this grid, about a thousandth;
- smoothed: given the mass, and that neighbours are alike.

Problems: a melting front with a threshold drawn from 0.55 to 0.7, tested at 0.5 (outside) and 0.6; porous medium waves
u_t = (u^m u_x)_x with m drawn from 1 to 6; decaying waves of heat with a diffusivity drawn from 1 to 5. The mass comes
from the exact flux through the side, not from the test data. An attentive process that was trained with dropout is judged
twice: with it at rest ("process") and active ("dropout"), as the paper's own figures are; each draw is then another network.

    python -m sciml.experiments.papers.conservation_update [--problems stefan porous heat] [--models process gaussian]
        [--seeds 0 1 2] [--updates 1200] [--dropout 0.0] [--out folder] [--resume]

A folder gets rows.csv, a row for each way as soon as it is measured, table.md, pictures, and both in report.html.
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
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sciml.constraints.gaussian import Gaussian, condition, mixture, project_mean, smooth, trapezoid
from sciml.experiments.progress import Reporter, Task
from sciml.experiments.report.html import Page, write
from sciml.metrics.gaussian import coverage, gaussian_crps, gaussian_log_likelihood
from sciml.models.processes import AttentiveProcess, GaussianProcess
from sciml.pdes import PorousMedium, Stefan

CONTEXT = 100
DRAWS = 20
QUADRATURE = 1e-3  # at most 1.4e-3 for the exact solutions of the tests, at a jump within a cell
GRID = torch.linspace(0.0, 1.0, 201, dtype=torch.float64)
WEIGHTS = trapezoid(GRID)
WAYS: dict[str, Callable[[Gaussian, Tensor, Tensor], Gaussian]] = {
    "none": lambda belief, g, b: belief,
    "orthogonal": project_mean,
    "conditioned": condition,
    "noisy": lambda belief, g, b: condition(belief, g, b, QUADRATURE**2),
    "smoothed": lambda belief, g, b: condition(smooth(belief), g, b),
}


@dataclass(frozen=True)
class Problem:
    """A family of exact solutions on the unit interval, and its mass, of which the rest enters through the left side.

    Args:
        exact: (parameter, t (...), x (...)) -> u (...).
        mass: (parameter, t) -> integral of u.
        low, high: of the parameter, in training.
        tests: parameters of the tests.
        end: the last time of the data.
        at: the time of the test.
        front: height of its jump, by parameter, where there is a front to find.
    """

    exact: Callable[[float, Tensor, Tensor], Tensor]
    mass: Callable[[float, float], float]
    low: float
    high: float
    tests: tuple[float, ...]
    end: float
    at: float
    front: Callable[[float], float] | None = None


def _porous(m: float, t: Tensor, x: Tensor) -> Tensor:
    return PorousMedium(m).wave(x.reshape(1, 1, -1), t.reshape(1, 1, -1)).reshape(x.shape)


def _stefan(star: float, t: Tensor, x: Tensor) -> Tensor:
    # The solution depends on x / sqrt(t) alone.
    one = Stefan(star).similarity((x / t.clamp(min=1e-12).sqrt()).reshape(1, 1, -1), 1.0)
    return one.reshape(x.shape)


def _heat(c: float, t: Tensor, x: Tensor) -> Tensor:
    return torch.sin(2 * math.pi * x) * (-c * t).exp()  # an interval of 2 pi, in units of its length


PROBLEMS = {
    "stefan": Problem(
        _stefan, lambda star, t: Stefan(star).content(t), 0.55, 0.7, (0.5, 0.6), 0.1, 0.05,
        front=lambda star: star,
    ),
    "porous": Problem(
        _porous,
        lambda m, t: m ** (1 + 1 / m) / (m + 1) * t ** (1 + 1 / m),
        1.0, 6.0, (1.0, 3.0, 6.0), 1.0, 0.5,
    ),
    "heat": Problem(_heat, lambda c, t: 0.0, 1.0, 5.0, (1.0, 5.0), 1.0, 0.5),
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


def trained(
    problem: Problem, seed: int, updates: int, count: int, dropout: float, task: Task
) -> AttentiveProcess:
    """An attentive process after its training."""
    x, u, at, truth = functions(problem, count, 1000 + seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AttentiveProcess(2, width=32, heads=4, dropout=dropout, scale=float(truth.std()))
        optimizer = torch.optim.Adam(model.parameters(), 2e-3, fused=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, updates)
        for update in range(updates):
            chosen = torch.randint(count, (16,))
            loss = model.loss(x[chosen], u[chosen], at[chosen], truth[chosen])
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            task.update(update + 1, f"loss {loss.item():.3f}")
    return model.eval()


def beliefs(
    model: AttentiveProcess | GaussianProcess, problem: Problem, parameter: float, count: int, seed: int
) -> list[Gaussian]:
    """The belief on the grid for each test function, (draws, n) each: 20 draws of an attentive process, or one."""
    generator = torch.Generator().manual_seed(seed)
    contexts = [scattered(problem, parameter, generator) for _ in range(count)]
    x, u = (torch.stack(part) for part in zip(*contexts, strict=True))
    place = torch.stack((torch.full_like(GRID, problem.at / problem.end), GRID), -1)
    at = place.expand(count, -1, -1)
    with torch.no_grad(), torch.random.fork_rng():
        if isinstance(model, GaussianProcess):
            return [model(x[i : i + 1], u[i : i + 1], at[:1]) for i in range(count)]
        torch.manual_seed(seed)
        # Dropout, where it is active, thins out another network for each draw.
        parts = [(model, 1)] * DRAWS if model.training else [(model, DRAWS)]
        drawn = [m(x.float(), u.float(), at.float(), k, generator) for m, k in parts]
    mean = torch.cat([d.mean for d in drawn]).double()
    spread = torch.cat([d.spread for d in drawn]).double()
    return [Gaussian(mean[:, i], spread[:, i]) for i in range(count)]


def front(u: Tensor, level: float = 0.0) -> Tensor:
    """Place of the first point whose content is not above a level, (..., n) -> (...); the last point where none is."""
    empty = u <= level
    first = empty.to(torch.uint8).argmax(dim=-1)
    return GRID[torch.where(empty.any(dim=-1), first, len(GRID) - 1)]


def judged(
    belief: Gaussian, truth: Tensor, mass: float, generator: torch.Generator, jump: float | None
) -> dict[str, float]:
    """Scores of a belief that is an even mixture of draws (draws, n).

    The place of a front is the median over 500 draws of fields of the first point without content, as in the paper, and
    of the first point below half the jump.
    """
    one = mixture(belief)
    deviation = one.variance.clamp(min=1e-8).sqrt()
    scores = {
        "mass error": float(one.mean @ WEIGHTS) - mass,
        "log likelihood": float(gaussian_log_likelihood(one.mean, deviation, truth).mean()),
        "MSE": float((one.mean - truth).square().mean()),
        "CRPS": float(gaussian_crps(one.mean, deviation, truth).mean()),
        "coverage": float(coverage(one.mean, deviation, truth)),
    }
    if jump is not None:
        drawn = belief.sample(max(1, 500 // len(belief.mean)), generator)
        for name, level in (("front error", 0.0), ("front error at half height", 0.5 * jump)):
            gap = front(drawn, level).median() - front(truth, level)
            scores[name] = float(gap.abs()) / float(GRID[1])
    return scores


Drawn = dict[str, Gaussian]


def measure(
    names: Sequence[str],
    models: Sequence[str],
    seeds: Sequence[int],
    updates: int,
    count: int,
    tests: int,
    dropout: float,
    done: Callable[[list[dict[str, Any]], dict[str, tuple[Tensor, Drawn]]], None],
    known: list[dict[str, Any]],
) -> list[dict[str, Any]]:
    """A row for each problem, model, seed, parameter and way.

    Args:
        done: told the rows of each trained model and one test's beliefs, by title, as soon as they are there.
        known: rows of an earlier run; what they have is not trained again.
    """
    rows = list(known)
    for seed in seeds:
        for name in names:
            problem = PROBLEMS[name]
            for kind in models:
                if any((r["problem"], r["model"], int(r["seed"])) == (name, kind, seed) for r in known):
                    continue
                began = time.process_time()
                steps = updates if kind == "process" else 1
                with Reporter().task(f"{name}, {kind}, seed {seed}", steps) as task:
                    model = made(problem, kind, seed, updates, count, dropout, task)
                spent = time.process_time() - began
                new: list[dict[str, Any]] = []
                shown: dict[str, tuple[Tensor, Drawn]] = {}
                for mode in (kind, "dropout") if kind == "process" and dropout > 0 else (kind,):
                    model.train(mode == "dropout")
                    for parameter in problem.tests:
                        measured, beliefs_of = tested(model, problem, parameter, tests, seed)
                        label = {"problem": name, "model": mode, "parameter": parameter, "seed": seed}
                        new += [{**label, **row, "CPU seconds": spent} for row in measured]
                        truth = problem.exact(parameter, torch.full_like(GRID, problem.at), GRID)
                        shown[f"{name} {parameter:g}, {mode}, seed {seed}"] = (truth, beliefs_of)
                done(new, shown)
                rows += new
    return rows


def made(
    problem: Problem, kind: str, seed: int, updates: int, count: int, dropout: float, task: Task
) -> AttentiveProcess | GaussianProcess:
    """The base model, trained or fitted."""
    if kind == "process":
        return trained(problem, seed, updates, count, dropout, task)
    x, u, _, _ = functions(problem, 8, 1000 + seed)
    found = GaussianProcess(2, "matern 1/2" if problem.front is not None else "matern 3/2").fit(x, u)
    task.update(1, "fitted")
    return found


def tested(
    model: AttentiveProcess | GaussianProcess, problem: Problem, parameter: float, tests: int, seed: int
) -> tuple[list[dict[str, Any]], Drawn]:
    """A row for each way, means over test functions but for medians of what says so; and the first function's beliefs."""
    truth = problem.exact(parameter, torch.full_like(GRID, problem.at), GRID)
    mass = problem.mass(parameter, problem.at)
    b = torch.tensor([mass], dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    drawn = beliefs(model, problem, parameter, tests, 2000 + seed)
    jump = None if problem.front is None else problem.front(parameter)
    rows: list[dict[str, Any]] = []
    shown: Drawn = {}
    for way, impose in WAYS.items():
        scores = []
        for belief in drawn:
            imposed = impose(belief, WEIGHTS[None], b)
            scores.append(judged(imposed, truth, mass, generator, jump))
            shown.setdefault(way, mixture(imposed))
        row: dict[str, Any] = {"way": way}
        for key in scores[0]:
            values = [s[key] for s in scores]
            row[key] = statistics.median(values) if "front" in key else statistics.fmean(values)
        row["|mass error|"] = statistics.fmean(abs(s["mass error"]) for s in scores)
        rows.append(row)
    return rows, shown


FIELDS = (
    "problem", "model", "parameter", "way", "seed", "mass error", "|mass error|", "log likelihood", "MSE", "CRPS",
    "coverage", "front error", "front error at half height", "CPU seconds",
)  # fmt: skip
COLUMNS = (
    "|mass error|", "log likelihood", "MSE", "CRPS", "coverage", "front error",
    "front error at half height", "none / this, MSE",
)  # fmt: skip


def summary(rows: list[dict[str, Any]]) -> list[list[str]]:
    """Problem, model, way, and of each column the median over seeds with their range, a line for each way.

    The last column is of ratios with the same seed.
    """
    lines = []
    keys = list(dict.fromkeys((r["problem"], float(r["parameter"]), r["model"], r["way"]) for r in rows))
    for problem, parameter, model, way in keys:
        same = [
            r for r in rows
            if (r["problem"], float(r["parameter"]), r["model"]) == (problem, parameter, model)
        ]  # fmt: skip
        free = {int(r["seed"]): float(r["MSE"]) for r in same if r["way"] == "none"}
        own = [{**r, COLUMNS[-1]: free[int(r["seed"])] / float(r["MSE"])} for r in same if r["way"] == way]
        cells = []
        for column in COLUMNS:
            values = [float(r[column]) for r in own if r.get(column, "") != ""]
            cells.append(
                f"{statistics.median(values):.3g} ({min(values):.3g} to {max(values):.3g})"
                if values
                else ""
            )
        lines.append([f"{problem} {parameter:g}", model, way, *cells])
    return lines


HEAD = ("problem", "model", "mass", *COLUMNS)


def table(rows: list[dict[str, Any]]) -> str:
    """The summary in Markdown."""
    lines = [HEAD, ["---"] * len(HEAD), *summary(rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def report(rows: list[dict[str, Any]], out: Path) -> Path:
    """The summary and all pictures of the folder on one page."""
    page = Page(
        "Uncertain fields and a known mass",
        "The same belief as the model states it (none), with its mean moved to the mass, and conditioned on it. Medians over "
        "seeds, in brackets from the smallest to the largest.",
    )
    page.picture(
        (out / "ratios.png").read_bytes(), "Mean square error over that of none, a point for each seed"
    )
    page.table(HEAD, summary(rows))
    page.heading("Mean and two deviations")
    for path in sorted(out.glob("*-seed-*.png")):
        page.picture(path.read_bytes(), path.stem.replace("-", " "))
    return write(page, out / "report.html")


def draw(title: str, truth: Tensor, ways: Drawn, out: Path) -> None:
    """A picture of one test: truth, mean and two deviations in each way."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        1, len(ways), figsize=(3.0 * len(ways), 2.8), sharey=True, layout="constrained", squeeze=False
    )
    for axis, (way, belief) in zip(axes[0], ways.items(), strict=True):
        mean, deviation = belief.mean, belief.variance.sqrt()
        axis.fill_between(
            GRID, mean - 2 * deviation, mean + 2 * deviation, alpha=0.25, lw=0, color="#0072b2"
        )
        axis.plot(GRID, mean, color="#0072b2", lw=1.4, label="mean, two deviations")
        axis.plot(GRID, truth, color="black", lw=0.9, label="truth")
        axis.set(title=way, xlabel="x")
    axes[0, 0].set_ylabel("u")
    axes[0, 0].legend(fontsize=7)
    figure.suptitle(title, fontsize=10)
    figure.savefig(out / f"{'-'.join(title.replace(',', '').split())}.png", dpi=110)
    plt.close(figure)


def draw_ratios(rows: list[dict[str, Any]], out: Path) -> None:
    """The mean square error of each way over that of none, a point for each seed."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    models = list(dict.fromkeys(r["model"] for r in rows))
    figure, axes = plt.subplots(
        1, len(models), figsize=(3.6 * len(models), 3.0), sharey=True, layout="constrained", squeeze=False
    )
    colours = dict(zip(list(WAYS)[1:], ("#e69f00", "#0072b2", "#cc79a7", "#009e73"), strict=True))
    for axis, model in zip(axes[0], models, strict=True):
        own = [r for r in rows if r["model"] == model]
        places = list(dict.fromkeys((r["problem"], float(r["parameter"])) for r in own))
        free = {
            (r["problem"], float(r["parameter"]), r["seed"]): float(r["MSE"])
            for r in own
            if r["way"] == "none"
        }
        for shift, (way, colour) in enumerate(colours.items()):
            points = [
                (places.index(key[:2]) + 0.18 * (shift - 1.5), float(r["MSE"]) / free[key])
                for r in own
                if r["way"] == way
                for key in [(r["problem"], float(r["parameter"]), r["seed"])]
            ]
            axis.plot(*zip(*points, strict=True), "o", ms=4, color=colour, label=way)
        axis.axhline(1.0, color="black", lw=0.8)
        axis.set_xticks(range(len(places)), [f"{p} {v:g}" for p, v in places], rotation=40, fontsize=8)
        axis.set(title=model, yscale="log")
    axes[0, 0].set_ylabel("MSE over that of none")
    axes[0, 0].legend(fontsize=7)
    figure.savefig(out / "ratios.png", dpi=110)
    plt.close(figure)


def main(words: Sequence[str] | None = None) -> int:
    """Run it, print the table, and keep rows and pictures where asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--problems", nargs="+", choices=list(PROBLEMS), default=list(PROBLEMS))
    parser.add_argument(
        "--models", nargs="+", choices=["process", "gaussian"], default=["process", "gaussian"]
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--updates", type=int, default=1200)
    parser.add_argument("--dropout", type=float, default=0.0, help="of the attentive process, such as 0.1")
    parser.add_argument("--functions", type=int, default=2000)
    parser.add_argument("--tests", type=int, default=50, help="functions per parameter")
    parser.add_argument("--out", type=Path, help="folder for rows.csv, table.md, pictures and report.html")
    parser.add_argument("--resume", action="store_true", help="go on with what the folder has")
    given = parser.parse_args(words)
    kept = None if given.out is None else given.out / "rows.csv"
    known: list[dict[str, Any]] = []
    if kept is not None and kept.exists():
        if not given.resume:
            parser.error(f"{kept} exists; give --resume to go on with it, or another --out.")
        with open(kept, newline="") as stream:
            known = list(csv.DictReader(stream))
    torch.set_num_threads(1)

    def done(rows: list[dict[str, Any]], shown: dict[str, tuple[Tensor, Drawn]]) -> None:
        if kept is None:
            return
        kept.parent.mkdir(parents=True, exist_ok=True)
        fresh = not kept.exists()
        with open(kept, "a", newline="") as stream:
            writer = csv.DictWriter(stream, FIELDS, restval="")
            if fresh:
                writer.writeheader()
            writer.writerows(rows)
        # One of the seeds is enough to look at.
        for title, (truth, ways) in shown.items() if rows[0]["seed"] == given.seeds[0] else ():
            draw(title, truth, ways, kept.parent)

    rows = measure(
        given.problems, given.models, given.seeds, given.updates, given.functions, given.tests, given.dropout,
        done, known,
    )  # fmt: skip
    if kept is not None:
        (kept.parent / "table.md").write_text(table(rows) + "\n")
        draw_ratios(rows, kept.parent)
    print(table(rows))
    if kept is not None:
        print(f"\nreport: {report(rows, kept.parent)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
