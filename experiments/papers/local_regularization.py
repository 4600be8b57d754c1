"""Does a penalty on one local error make a neural equation cheaper to solve, at equal error?

Pal, Edelman and Rackauckas (arXiv 2303.02262) report 0.56 to 0.73 of the function evaluations of the unregularised
model, with local penalties about as good as those summed over the whole solution. Here, beside each other:

- spiral: a latent equation behind a linear encoder and decoder learns the flow of u' = A u^3 over one unit of time;
- lines: a method of lines with known diffusion and a learned reaction learns an Allen-Cahn equation on 32 points.

    python -m sciml.experiments.papers.local_regularization [--seeds 0 1 2] [--updates 300] [--out table.csv]
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
from torch import Tensor, nn

from sciml.models.latent import DenseField, NeuralODE
from sciml.objectives import OneStep, Regularized
from sciml.objectives.base import Objective
from sciml.regularizers import LocalError
from sciml.step import rollout

TOLERANCE = 1e-7
ROLLOUT = 10


class Latent(nn.Module):
    """Encode, follow the latent equation for one unit of time, decode: (B, 2) -> (B, 2)."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(2, 6), nn.Linear(6, 2)
        self.ode = NeuralODE(6, width=24, rtol=TOLERANCE, atol=TOLERANCE)

    def forward(self, u: Tensor) -> Tensor:
        return self.decoder(self.ode(self.encoder(u)))


class ReactionDiffusion(nn.Module):
    """D u_xx + r(u) on a periodic grid of n points over a unit length, r a network of the value alone."""

    def __init__(self, points: int, diffusivity: float) -> None:
        super().__init__()
        self.rate = diffusivity * points**2
        self.reaction = DenseField(1, 1, width=16, layers=2)

    def forward(self, u: Tensor) -> Tensor:
        return self.rate * (u.roll(1, -1) - 2 * u + u.roll(-1, -1)) + self.reaction(u)


class Lines(nn.Module):
    """One unit of time of a learned reaction with known diffusion: (B, 1, 32) -> (B, 1, 32)."""

    def __init__(self) -> None:
        super().__init__()
        self.ode = NeuralODE(1, ReactionDiffusion(32, 1e-3), rtol=TOLERANCE, atol=TOLERANCE)

    def forward(self, u: Tensor) -> Tensor:
        return self.ode(u)


def spiral(u: Tensor) -> Tensor:
    """u' = A u^3 with A = [[-0.1, 2], [-2, -0.1]] (Chen et al., arXiv 1806.07366)."""
    a = torch.tensor([[-0.1, 2.0], [-2.0, -0.1]], dtype=u.dtype)
    return u**3 @ a.T


def allen_cahn(u: Tensor) -> Tensor:
    """u_t = D u_xx + 3 (u - u^3)."""
    return 1e-3 * 32**2 * (u.roll(1, -1) - 2 * u + u.roll(-1, -1)) + 3 * (u - u**3)


@dataclass(frozen=True)
class Problem:
    """What is learned, from where, and with which weights of the penalty."""

    make: Callable[[], nn.Module]
    truth: Callable[[Tensor], Tensor]
    shape: tuple[int, ...]
    size: float
    variants: tuple[tuple[str, str, float], ...]  # kind, sampling, weight

    def windows(self, count: int, steps: int, seed: int) -> Tensor:
        """True trajectories (B, T, C, *points)."""
        generator = torch.Generator().manual_seed(seed)
        u = torch.randn(count, *self.shape, generator=generator, dtype=torch.float64)
        if len(self.shape) > 1:  # smooth in space
            v = torch.fft.rfft(u)
            v[..., 4:] = 0
            u = torch.fft.irfft(v, n=self.shape[-1])
        u = self.size * u / u.flatten(1).square().mean(1).sqrt().reshape(-1, *[1] * len(self.shape))
        exact = NeuralODE(self.shape[0], self.truth, rtol=1e-9, atol=1e-9)
        with torch.no_grad():
            return rollout(exact, steps)(u)


WEIGHTS = (0.03, 0.1, 0.3)
PROBLEMS = {
    "spiral": Problem(
        Latent, spiral, (2,), 0.8,
        (*(("error", s, w) for s in ("unbiased", "biased", "global") for w in WEIGHTS),),
    ),
    "lines": Problem(
        Lines, allen_cahn, (1, 32), 0.5,
        (
            *(("error", s, w) for s in ("unbiased", "global") for w in (*WEIGHTS, 1.0)),
            *(("stiffness", "unbiased", w) for w in (0.001, 0.01, 0.1)),
        ),
    ),
}  # fmt: skip


def nrmse(pred: Tensor, true: Tensor) -> float:
    """Root of the mean square error over that of the truth."""
    return float((pred - true).square().mean().sqrt() / true.square().mean().sqrt())


@torch.no_grad()
def judged(model: nn.Module, test: Tensor) -> dict[str, float]:
    """Errors after one step and after the rollout, and evaluations per step of it."""
    ode = next(m for m in model.modules() if isinstance(m, NeuralODE))
    u, counts, found = test[:, 0], [], {}
    for k in range(1, test.shape[1]):
        u = model(u)
        assert ode.statistics is not None
        counts.append(ode.statistics.evaluations)
        if k in (1, test.shape[1] - 1):
            found[f"error {'one step' if k == 1 else 'rollout'}"] = nrmse(u, test[:, k])
    return {**found, "evaluations": statistics.fmean(counts)}


def trained(
    problem: Problem, variant: tuple[str, str, float] | None, seed: int, updates: int
) -> tuple[nn.Module, dict[str, float]]:
    """A model after its training, and what the training took."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = problem.make().double()
    objective: Objective = OneStep()
    if variant is not None:
        kind, sampling, weight = variant
        regularizer = LocalError(kind, sampling)  # type: ignore[arg-type]
        objective = Regularized(objective, regularizer, weight, scale_free=False)
    windows = problem.windows(512, 1, 1000 + seed)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: 1 - k / updates)
    ode = next(m for m in model.modules() if isinstance(m, NeuralODE))
    spent, began = 0, time.process_time()
    for _ in range(updates):
        batch = windows[torch.randint(len(windows), (32,), generator=generator)]
        loss, _ = objective(model, batch, generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        assert ode.statistics is not None
        spent += ode.statistics.evaluations
    return model, {"training evaluations": spent, "CPU seconds": time.process_time() - began}


def measure(names: Sequence[str], seeds: Sequence[int], updates: int) -> list[dict[str, Any]]:
    """All trainings of the problems, one row each."""
    rows: list[dict[str, Any]] = []
    for name in names:
        problem = PROBLEMS[name]
        for seed in seeds:
            test = problem.windows(64, ROLLOUT, 99)
            for variant in (None, *problem.variants):
                model, took = trained(problem, variant, seed, updates)
                label = "none" if variant is None else " ".join(map(str, variant))
                rows.append(
                    {"problem": name, "variant": label, "seed": seed, **judged(model, test), **took}
                )
                print(
                    "  ".join(f"{v:.4g}" if isinstance(v, float) else str(v) for v in rows[-1].values()),
                    flush=True,
                )
                if variant is None:  # what a looser tolerance would give for nothing
                    ode = next(m for m in model.modules() if isinstance(m, NeuralODE))
                    for looser in (1e-5, 1e-4, 1e-3):
                        ode.rtol = ode.atol = looser
                        row = {"problem": name, "variant": f"none, tested at {looser:g}", "seed": seed}
                        rows.append({**row, **judged(model, test)})
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Medians over seeds, with evaluations as a part of the unregularised model's of the same seed."""
    columns = (
        "error one step",
        "error rollout",
        "evaluations",
        "ratio",
        "training evaluations",
        "CPU seconds",
    )
    base = {(r["problem"], r["seed"]): r["evaluations"] for r in rows if r["variant"] == "none"}
    lines = ["| problem | penalty | " + " | ".join(columns) + " |", "|---" * (len(columns) + 2) + "|"]
    for problem, variant in dict.fromkeys((r["problem"], r["variant"]) for r in rows):
        own = [r for r in rows if (r["problem"], r["variant"]) == (problem, variant)]
        cells = []
        for column in columns:
            values = [
                float(r["evaluations"]) / float(base[r["problem"], r["seed"]])
                if column == "ratio"
                else r.get(column)
                for r in own
            ]
            numbers = [float(v) for v in values if v is not None]
            if not numbers:
                cells.append("")
                continue
            low, middle, high = min(numbers), statistics.median(numbers), max(numbers)
            cells.append(f"{middle:.3g} ({low:.3g}-{high:.3g})")
        lines.append(f"| {problem} | {variant} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(words: Sequence[str] | None = None) -> int:
    """Run it and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--problems", nargs="+", choices=list(PROBLEMS), default=list(PROBLEMS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--updates", type=int, default=300)
    parser.add_argument("--out", type=Path, help="file for the rows")
    given = parser.parse_args(words)
    torch.set_num_threads(1)
    rows = measure(given.problems, given.seeds, given.updates)
    if given.out is not None:
        names = list(dict.fromkeys(key for row in rows for key in row))
        with open(given.out, "w", newline="") as stream:
            writer = csv.DictWriter(stream, names, restval="")
            writer.writeheader()
            writer.writerows(rows)
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
