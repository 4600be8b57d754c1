"""A rollout of 10,000 steps of a 2D model on 128^2 points: memory, and time beside the bare calls of the model.

python -m sciml.experiments.benchmarks.bench_evaluation [STEPS]

The model is a small Fourier operator with random weights whose result is scaled to the size of its input, so that it
neither dies nor blows up; the truth is a solver of plane turbulence that goes on from a stored frame. Bare calls of the
model are timed in the same process, some in each twentieth of the evaluation, in CPU seconds of one thread, on the states
of its own rollout, as the speed of a shared machine changes. The ratio is that of the whole evaluation without the
truth, and with it.
"""

from __future__ import annotations

import math
import sys
import time

import torch
from torch import Tensor

from sciml import Field, FunctionStep, Grid, Trajectory
from sciml.experiments.contestants import Course, from_step
from sciml.experiments.evaluate import evaluate
from sciml.experiments.reference import from_trajectory
from sciml.fields import GaussianRandomField
from sciml.models import FNO
from sciml.pdes import NavierStokesVorticity
from sciml.solvers import build

STEPS, CALLS = 10_000, 25


def main(steps: int = STEPS) -> None:
    """Print memory and ratios."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    grid = Grid((128, 128), (2 * math.pi, 2 * math.pi))
    solver = build(NavierStokesVorticity(1e-3, 0.1, (4.0, 1.0)), grid, dt=0.01)
    generator = torch.Generator().manual_seed(0)
    start = GaussianRandomField(alpha=4.0, tau=5.0, scale=3.0)(grid, 1, generator).unsqueeze(0)
    first = torch.stack([start, solver(start)], dim=1).float()
    true = Trajectory(first, grid, torch.tensor([0.0, 0.01]), (Field("vorticity", "1/s"),))
    onward = Course(solver, lambda u: u.double(), lambda u: u.float())
    network = FNO(modes=[12, 12], width=16, layers=3, in_channels=1, out_channels=1).eval()

    def forward(u: Tensor) -> Tensor:
        v: Tensor = u + 0.1 * network(u)
        return v * (u.square().mean() / v.square().mean()).sqrt()

    model = FunctionStep(forward, 0.01, grid, ("vorticity",))

    own = first[:, 0]
    calls: list[float] = []

    def bare(done: int, total: int, note: str) -> None:
        """Some calls of the model now and then, with nothing else."""
        nonlocal own
        if done % max(1, total // 20):
            return
        with torch.no_grad():
            began = time.process_time()
            for _ in range(CALLS):
                own = model(own)
        calls.append(time.process_time() - began)

    with torch.no_grad():
        model(own)
    began = time.process_time()
    found = evaluate(
        [from_step("fno", model, "surrogate")],
        from_trajectory(true, lambda samples: onward),
        trained_steps=100,
        steps=steps,
        progress=bare,
    )
    spent = time.process_time() - began - sum(calls)
    each = sum(calls) / (CALLS * len(calls))
    alone = steps * each
    seconds, memory = found.expense.seconds, found.expense.memory
    print(f"{steps:,} steps of one field of 128 x 128; {found.sampling}")
    for step, size in sorted(memory.items()):
        print(f"resident after step {step:6,}: {size / 2**20:.0f} MiB")
    print(f"a bare call of the model: {1e3 * each:.1f} ms, mean of {CALLS * len(calls)} calls")
    print(f"the evaluation over bare calls: {(spent - seconds['truth']) / alone:.3f}")
    print(f"with the solver that is the truth: {spent / alone:.3f}")
    print(
        f"measuring over the model's calls inside the evaluation: {found.expense.overhead or math.nan:.3f}"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else STEPS)
