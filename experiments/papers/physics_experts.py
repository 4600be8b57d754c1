"""Does solving an equation inside a network, by one expert or one for each block, beat a penalty on its residual?

Chalapathi, Du and Krishnapriyan (ICLR 2024, arXiv 2402.13412) let a Fourier operator propose N functions of time and place
whose best combination, by least squares of the equation, is the solution: PI-HC with one combination, PI-HC-MoE with one
for each block, PI-SC with a penalty instead. Nothing is learned from solutions. Beside them here what the comparison in the
paper leaves open: one expert with as many functions or as many points as all experts have, experts without a region of
their own, experts that are joined at their faces, and coefficients whose gradient is left out.

- sorption: diffusion-sorption, u = 1 on the left and D u_x + u = 0 on the right, from a + b bump(x) with a in (0, 0.2) and
  b in (0, 0.4), up to t = 500, 26 frames at t = 500 s^2, 64 nodes. Within 0.2 of the sides the start goes over to what they
  ask for: nodes do not resolve a front that leaves a corner where both contradict each other, and where the equation is left
  out there instead, it leaves open what comes out of the corner.
- flow: vorticity on a periodic square of side 1, viscosity 1e-3, 11 frames up to t = 1, 32 x 32 points, the start exact.

Errors are relative L2 norms over all frames after the start, of starts that training has not seen, against solvers on finer
grids. Controls: the mean of the training solutions, linear interpolation between them in the two parameters (sorption), and
the start for ever (flow); these know solutions.

    python -m sciml.experiments.papers.physics_experts --out folder [--problem sorption] [--ways soft one experts]
        [--seeds 0 1 2] [--updates 400]

What is finished in the folder is not done again; a folder of other settings, or a complete one, is refused.
"""

from __future__ import annotations

import argparse
import csv
import json
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

from sciml import Grid
from sciml.constraints import (
    BlockPartition,
    DiffusionResidual,
    EquationExperts,
    PointwiseResidual,
    RandomPartition,
    SideCondition,
    VorticityResidual,
)
from sciml.experiments.progress import Reporter, Task
from sciml.fields import GaussianRandomField
from sciml.models import FNO, PhysicsExperts
from sciml.pdes import DiffusionSorption, NavierStokesVorticity
from sciml.solvers import build
from sciml.solvers.elliptic import Robin, Value
from sciml.solvers.parabolic import parabolic
from sciml.step import rollout


@dataclass(frozen=True)
class Problem:
    """An equation on its grid, starts to solve it from, and what a way of solving it gets.

    Args:
        residual: the equation.
        starts: (count, seed) -> parameters (count, p) and starts (count, 1, *points).
        truth: parameters and starts -> solutions (count, T, 1, *points).
        blocks: of the experts.
        functions, points: N and m of one expert.
        modes: of the operator.
        settings: of every search.
    """

    residual: PointwiseResidual
    starts: Callable[[int, int], tuple[Tensor, Tensor]]
    truth: Callable[[Tensor, Tensor], Tensor]
    blocks: tuple[int, ...]
    functions: int
    points: int
    modes: tuple[int, ...]
    settings: dict[str, Any]


def _bumps(parameters: Tensor, x: Tensor) -> Tensor:
    inside = parameters[:, :1] + parameters[:, 1:] * torch.exp(-(((x - 0.6) / 0.1) ** 2))
    left, right = torch.exp(-((x / 0.2) ** 2)), torch.exp(-(((1 - x) / 0.2) ** 2))
    return (left + (1 - left) * (1 - right) * inside).unsqueeze(1)


def sorption(refinement: int = 4, substeps: int = 4) -> Problem:
    """Diffusion-sorption; its truth on so many times the cells, with so many implicit steps to a frame."""
    pde, count, frames = DiffusionSorption(), 64, 26
    grid = Grid((count,), (1.0,), boundary=(("dirichlet", "neumann"),))  # type: ignore[arg-type]
    times = 500 * torch.linspace(0, 1, frames, dtype=torch.float64) ** 2
    x = grid.axes()[0]
    sides = {"x-": SideCondition(1.0), "x+": SideCondition(0.0, 1.0, float(pde.diffusivity))}

    def starts(number: int, seed: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.rand(number, 2, generator=generator, dtype=torch.float64)
        parameters = drawn * torch.tensor([0.2, 0.4], dtype=torch.float64)
        return parameters, _bumps(parameters, x)

    def truth(parameters: Tensor, start: Tensor) -> Tensor:
        fine = grid.refined(refinement)
        u = _bumps(parameters, fine.axes()[0])
        u[..., 0] = 1.0
        frames = [u]
        for dt in times.diff().tolist():
            step = parabolic(
                pde,
                fine,
                dt,
                conditions={"x-": Value(1.0), "x+": Robin(1.0)},
                scheme="ars222",
                substeps=substeps,
            )
            frames.append(step(frames[-1]))
        return torch.stack(frames, dim=1)[..., ::refinement]

    residual = DiffusionResidual(pde, grid, times, sides)
    return Problem(residual, starts, truth, (1, 4), 8, 300, (8, 8), {})


def flow(refinement: int = 2, substeps: int = 0) -> Problem:
    """Decaying vorticity; its truth on so many times the points along each axis."""
    pde, frames = NavierStokesVorticity(1e-3), 11
    grid = Grid((32, 32), (1.0, 1.0))
    times = torch.linspace(0, 1, frames, dtype=torch.float64)
    field = GaussianRandomField(alpha=4.0, tau=5.0, scale=3.0)

    def starts(number: int, seed: int) -> tuple[Tensor, Tensor]:
        seeds = seed * 100_000 + torch.arange(number).unsqueeze(1)
        fields = [field(grid, 1, torch.Generator().manual_seed(int(k))) for k in seeds]
        return seeds.double(), torch.stack(fields)

    def truth(parameters: Tensor, start: Tensor) -> Tensor:
        fine = grid.refined(refinement)
        fields = [field(fine, 1, torch.Generator().manual_seed(int(k))) for k in parameters[:, 0]]
        step = build(pde, fine, dt=float(times[1]))
        return rollout(step, frames - 1)(torch.stack(fields))[..., ::refinement, ::refinement]

    settings = {"initial": "exact", "zero_mean": True}
    residual = VorticityResidual(pde, grid, times)
    return Problem(residual, starts, truth, (1, 2, 2), 16, 1000, (4, 8, 8), settings)


PROBLEMS: dict[str, Callable[..., Problem]] = {"sorption": sorption, "flow": flow}


def _layer(problem: Problem, **settings: Any) -> EquationExperts:
    return EquationExperts(problem.residual, **{"points": problem.points, **problem.settings, **settings})


def _experts(problem: Problem, **settings: Any) -> EquationExperts:
    return _layer(problem, partition=BlockPartition(problem.blocks), **settings)


def _many(problem: Problem) -> int:
    return math.prod(problem.blocks)


# The search of each way, and how many functions it combines over those of one expert.
WAYS: dict[str, tuple[Callable[[Problem], EquationExperts], Callable[[Problem], int]]] = {
    "soft": (_layer, lambda p: 0),
    "one": (_layer, lambda p: p.functions),
    "experts": (_experts, lambda p: p.functions),
    "one, all functions": (_layer, lambda p: p.functions * _many(p)),
    "one, all points": (lambda p: _layer(p, points=p.points * _many(p)), lambda p: p.functions),
    "experts, scattered": (
        lambda p: _layer(p, partition=RandomPartition(_many(p))),
        lambda p: p.functions,
    ),
    "experts, joined": (lambda p: _experts(p, neighbours=1.0), lambda p: p.functions),
    "experts, detached": (lambda p: _experts(p, backward="detach"), lambda p: p.functions),
    "experts, unrolled": (lambda p: _experts(p, backward="unroll"), lambda p: p.functions),
}
USUAL = tuple(
    way for way in WAYS if way != "experts, unrolled"
)  # whose memory and time are not those of the others


class Solution:
    """A way of solving a problem: a network with its search, or without one."""

    def __init__(self, problem: Problem, way: str, seed: int) -> None:
        search, functions = WAYS[way]
        self.layer = search(problem)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            network = FNO(
                PhysicsExperts.input_channels(self.layer),
                max(1, functions(problem)),
                problem.modes,
                width=16,
                layers=2,
                padding=0.0 if all(problem.residual.grid.periodic) else 0.1,
            )
        self.model = PhysicsExperts(network, self.layer)
        self.soft = functions(problem) == 0
        # A start that holds exactly is held by the penalised network as well.
        self.exact = self.layer.initial == "exact"

    def __call__(self, start: Tensor) -> Tensor:
        """Solutions of the network alone, (B, T, 1, *points)."""
        u = self.model.basis(start).double().transpose(1, 2)
        if not self.exact:
            return u
        time = self.layer.residual.times / self.layer.residual.times[-1]
        u = u - u.mean(dim=tuple(range(3, u.ndim)), keepdim=True)
        return start.unsqueeze(1) + time.reshape(-1, *[1] * (u.ndim - 2)) * u

    def loss(self, start: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """What training lowers, and what the searches needed."""
        if self.soft:
            return self.layer.loss(*self.layer.measure(self(start), start)), {}
        total, parts = self.model.loss(start, generator)
        return total, {name: float(value) for name, value in parts.items()}

    @torch.no_grad()
    def judged(self, start: Tensor, truth: Tensor) -> tuple[dict[str, float], Tensor]:
        """Scores on held-out starts, and the solutions."""
        self.model.eval()
        began = time.process_time()
        if self.soft:
            u = self(start)
            residual, initial, sides = self.layer.measure(u, start)
            scores: dict[str, float] = {}
        else:
            fit = self.model.fit(start)
            u, residual, initial, sides = fit.u, fit.residual, fit.initial, fit.sides
            scores = {
                "residual given": float(fit.sampled.square().mean().sqrt()),
                "jump": float(fit.jump.mean()),
                "iterations": float(fit.iterations.double().mean()),
                "converged": float(fit.converged.double().mean()),
                "log10 condition": float(fit.condition.clamp(min=1).log10().max()),
            }
        spent = time.process_time() - began
        self.model.train()
        error = relative_error(u, truth)
        return {
            "error": float(error.mean()),
            "worst error": float(error.max()),
            "residual": float(residual.mean()),
            "missed start": float(initial.mean()),
            "missed sides": float(sides.mean()),
            **scores,
            "CPU s, inference": spent,
        }, u


def relative_error(u: Tensor, truth: Tensor) -> Tensor:
    """Of each sample over all frames after the start, (B,)."""
    difference, size = (v[:, 1:].flatten(1).norm(dim=1) for v in (u - truth, truth))
    return difference / size


def trained(
    problem: Problem, way: str, seed: int, updates: int, start: Tensor, batch: int, task: Task
) -> tuple[Solution, list[float], float]:
    """A way after its training, the loss of every update, and the CPU seconds."""
    solution = Solution(problem, way, seed)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(solution.model.parameters(), 6e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, updates, 1e-4)
    curve, began = [], time.process_time()
    for update in range(updates):
        chosen = torch.randint(len(start), (batch,), generator=generator)
        loss, _ = solution.loss(start[chosen], generator)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(solution.model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        curve.append(float(loss.detach()))
        task.update(update + 1, f"loss {curve[-1]:.4f}")
    return solution, curve, time.process_time() - began


def interpolated(known: Tensor, solutions: Tensor, asked: Tensor) -> Tensor:
    """Linear between solutions at two parameters; the nearest one outside of their hull."""
    import numpy as np
    from scipy.interpolate import LinearNDInterpolator, NearestNDInterpolator

    scale = np.ptp(known.numpy(), axis=0)
    points, flat, at = known.numpy() / scale, solutions.flatten(1).numpy(), asked.numpy() / scale
    inside = LinearNDInterpolator(points, flat)(at)
    outside = NearestNDInterpolator(points, flat)(at)
    found = np.where(np.isnan(inside), outside, inside)
    return torch.from_numpy(found).reshape(len(asked), *solutions.shape[1:])


def controls(
    name: str, known: tuple[Tensor, Tensor], asked: tuple[Tensor, Tensor, Tensor]
) -> dict[str, float]:
    """Mean errors of what needs solutions and no equation."""
    parameters, start, truth = asked
    found = {"mean of solutions": relative_error(known[1].mean(dim=0).expand_as(truth), truth)}
    if name == "sorption":
        found["interpolation"] = relative_error(interpolated(*known, parameters), truth)
    else:
        found["start for ever"] = relative_error(start.unsqueeze(1).expand_as(truth), truth)
    return {key: float(error.mean()) for key, error in found.items()}


COLUMNS = (
    *("error", "worst error", "residual", "residual given", "missed start", "missed sides", "jump"),
    *("iterations", "converged", "log10 condition", "CPU s, training", "CPU s, inference"),
)


def table(rows: Sequence[dict[str, Any]], known: dict[str, float]) -> str:
    """Medians over seeds with their range, and the controls."""
    lines = ["| way | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for way in dict.fromkeys(row["way"] for row in rows):
        cells = []
        for column in COLUMNS:
            values = [float(row[column]) for row in rows if row["way"] == way and column in row]
            cells.append(
                f"{statistics.median(values):.3g} ({min(values):.3g} to {max(values):.3g})"
                if values
                else ""
            )
        lines.append(f"| {way} | " + " | ".join(cells) + " |")
    for name, error in known.items():
        lines.append(f"| {name} | {error:.3g} |" + " |" * (len(COLUMNS) - 1))
    return "\n".join(lines)


def draw(runs: list[dict[str, Any]], truth: Tensor, known: dict[str, float], out: Path) -> list[Path]:
    """Pictures: losses, errors beside the controls, and one held-out solution."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    ways = list(dict.fromkeys(run["row"]["way"] for run in runs))
    figure, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for way in ways:
        curves = torch.tensor([run["curve"] for run in runs if run["row"]["way"] == way])
        axes[0].semilogy(curves.median(dim=0).values, label=way, lw=1)
    axes[0].set(xlabel="update", ylabel="loss, median over seeds")
    axes[0].legend(fontsize=7)
    for place, way in enumerate(ways):
        errors = [run["row"]["error"] for run in runs if run["row"]["way"] == way]
        axes[1].plot([place] * len(errors), errors, "o", color=f"C{place}")
    for style, (name, error) in zip(("--", ":"), known.items(), strict=False):
        axes[1].axhline(error, color="black", ls=style, lw=1, label=name)
    axes[1].set_yscale("log")
    axes[1].set_xticks(range(len(ways)), ways, rotation=30, ha="right", fontsize=7)
    axes[1].set_ylabel("relative L2 error, held-out starts")
    axes[1].legend(fontsize=7)
    paths = [out / "errors.png"]
    figure.savefig(paths[0], dpi=110)
    plt.close(figure)

    chosen = {run["row"]["way"]: run["shown"] for run in reversed(runs)}
    line = truth[-1, 0] if truth.ndim == 3 else truth[-1, 0, :, truth.shape[-1] // 2]
    figure, axes = plt.subplots(1, 2, figsize=(11, 3.6), layout="constrained")
    axes[0].plot(line, color="black", lw=2, label="truth")
    for way in ways:
        u = chosen[way]
        own = u[-1, 0] if u.ndim == 3 else u[-1, 0, :, u.shape[-1] // 2]
        axes[0].plot(own, lw=1, label=way)
        axes[1].semilogy(
            (u - truth)[1:].flatten(1).norm(dim=1) / truth[1:].flatten(1).norm(dim=1), label=way
        )
    axes[0].set(xlabel="point", ylabel="u at the last time")
    axes[1].set(xlabel="frame", ylabel="relative error")
    axes[0].legend(fontsize=7)
    paths.append(out / "solution.png")
    figure.savefig(paths[1], dpi=110)
    plt.close(figure)
    return paths


def prepared(out: Path, settings: dict[str, Any]) -> str:
    """Make the folder; a sentence if what is there stands in the way."""
    noted = out / "settings.json"
    if (out / "table.md").exists():
        return f"{out} holds a complete result; name another folder."
    if noted.exists() and json.loads(noted.read_text()) != settings:
        return f"{out} holds runs of other settings, {noted.read_text().strip()}; name another folder."
    out.mkdir(parents=True, exist_ok=True)
    noted.write_text(json.dumps(settings) + "\n")
    return ""


def study(name: str, ways: Sequence[str], seeds: Sequence[int], settings: dict[str, Any], out: Path) -> str:
    """All trainings that the folder does not have, and the table."""
    problem = PROBLEMS[name]()
    solved = out / "truth.pt"
    if not solved.exists():
        train, test = problem.starts(settings["train"], 0), problem.starts(settings["test"], 1)
        torch.save({"train": problem.truth(*train), "test": problem.truth(*test)}, solved)
    truth = torch.load(solved, weights_only=True)
    parameters, start = problem.starts(settings["train"], 0)
    asked, unseen = problem.starts(settings["test"], 1)
    runs = []
    for seed in seeds:
        for way in ways:
            path = out / f"{way.replace(', ', '-').replace(' ', '-')}-{seed}.pt"
            if not path.exists():
                with Reporter().task(f"{name}, {way}, seed {seed}", settings["updates"]) as task:
                    solution, curve, spent = trained(
                        problem, way, seed, settings["updates"], start, settings["batch"], task
                    )
                scores, u = solution.judged(unseen, truth["test"])
                row = {"way": way, "seed": seed, **scores, "CPU s, training": spent}
                part = path.with_suffix(".part")
                torch.save({"row": row, "curve": curve, "shown": u[0].clone()}, part)
                part.rename(path)
            runs.append(torch.load(path, weights_only=True))
    known = controls(name, (parameters, truth["train"]), (asked, unseen, truth["test"]))
    rows = [run["row"] for run in runs]
    with open(out / "rows.csv", "w", newline="") as stream:
        writer = csv.DictWriter(stream, ["way", "seed", *COLUMNS], restval="")
        writer.writeheader()
        writer.writerows(rows)
    for path in draw(runs, truth["test"][0], known, out):
        print(path)
    text = table(rows, known)
    (out / "table.md").write_text(text + "\n")
    return text


def main(words: Sequence[str] | None = None) -> int:
    """Run it, print the table, keep rows and pictures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of the results, which may be half done"
    )
    parser.add_argument("--problem", choices=list(PROBLEMS), default="sorption")
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(USUAL))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--updates", type=int, default=400)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--train", type=int, default=64, help="starts to train on")
    parser.add_argument("--test", type=int, default=32, help="starts to judge by")
    given = parser.parse_args(words)
    torch.set_num_threads(1)
    settings = {key: getattr(given, key) for key in ("problem", "updates", "batch", "train", "test")}
    refusal = prepared(given.out, settings)
    if refusal:
        print(refusal, file=sys.stderr)
        return 2
    print(study(given.problem, given.ways, given.seeds, settings, given.out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
