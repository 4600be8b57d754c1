"""What a training update costs under each objective and each penalty, relative to the one-step loss.

python -m sciml.experiments.benchmarks.bench_training_cost [CASE...]

CASE is one of conv-1d, fno-1d, conv-2d, fno-2d; all are taken where none is named. `time` is CPU seconds of one
thread for loss and gradient, the cases taken in turn, least of the repeats and median in brackets. `graph` is the
most that autograd held at any moment, counted in bytes of distinct memory that its graphs had saved, parameters left
out: the activations, without those that are computed again in the backward pass. Both are ratios to the one-step
loss of the same network, whose own numbers stand in the first line. `rss` is by how many MiB the resident memory of a
process of its own rose in an update (of 16 samples in 1D, 8 in 2D) after one of a single sample: it also holds
gradients and scratch space, but not what the small update had left free.

Penalties are those of `Regularized`, which share their pass of the step with the loss; "apart" is the same without
that. `LocalError` is of steps that solve an equation adaptively, whose cost `papers.local_regularization` prints.
"""

from __future__ import annotations

import multiprocessing
import re
import statistics
import sys
import time
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sciml import Grid
from sciml.models import FNO, ConvNet, LeadTime, Refined
from sciml.models.wrappers import Residual
from sciml.objectives import (
    AllPairs,
    Dissipativity,
    DivertedChain,
    EquationResidual,
    GeneralizedTeacherForcing,
    InvariantMeasure,
    LogSpectrum,
    MixedChain,
    NoisyOneStep,
    Objective,
    OneStep,
    PerState,
    Pushforward,
    Refinement,
    Regularized,
    Sobolev,
    SolverDefect,
    SparseTeacherForcing,
    Unrolled,
    WeightedSum,
)
from sciml.pdes import Burgers
from sciml.regularizers import (
    JAWS,
    Asymmetry,
    Frobenius,
    Hinge,
    LogDeterminant,
    Regularizer,
    SpectralNorm,
    StudentT,
)
from sciml.solvers import build

CASES = ("conv-1d", "fno-1d", "conv-2d", "fno-2d")
FRAMES = 6


class Parted(Objective):
    """A loss and a penalty that each compute the step."""

    def __init__(self, objective: Objective, regularizer: Regularizer) -> None:
        super().__init__()
        self.objective, self.regularizer = objective, regularizer

    def forward(
        self, step: Callable[..., Tensor], window: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        loss, parts = self.objective(step, window, generator)
        return loss + 0.1 * self.regularizer(step, window[:, 0], generator).mean(), parts


def network(case: str, inputs: int, outputs: int) -> nn.Module:
    """The surrogate of a case."""
    dimension = int(case[-2])
    if case.startswith("conv"):
        return ConvNet(inputs, outputs, dimension, width=24, hidden_layers=3, kernel=5, activation="gelu")
    return FNO(inputs, outputs, (16,) if dimension == 1 else (12, 12), 24, layers=4)


def penalties(
    dimension: int, solver: Callable[[], Callable[[Tensor], Tensor]]
) -> dict[str, Callable[[], Regularizer]]:
    """Every penalty, and the ways to estimate the uniform one."""
    return {
        "Frobenius": Frobenius,
        "Frobenius, two reverse passes": lambda: Frobenius(mode="vjp"),
        "Frobenius, 4 probes": lambda: Frobenius(probes=4),
        "Frobenius, 4 probes, two reverse passes": lambda: Frobenius(probes=4, mode="vjp"),
        "Frobenius, differences": lambda: Frobenius(mode="fd"),
        "Frobenius, columns": lambda: Frobenius(kind="column"),
        "Frobenius, against the solver": lambda: Frobenius(target="solver", solver=solver()),
        "Hinge": Hinge,
        "StudentT": StudentT,
        "SpectralNorm, 5 iterations": lambda: SpectralNorm(5),
        "LogDeterminant, 3 terms, 2 probes": lambda: LogDeterminant(method="series", terms=3, probes=2),
        "Asymmetry": Asymmetry,
        "Asymmetry, probability 0.4": lambda: Asymmetry(probability=0.4),
        "JAWS": lambda: JAWS(dimension, dimension),
        "JAWS, differences": lambda: JAWS(dimension, dimension, mode="fd"),
    }


def losses(case: str) -> dict[str, Callable[[], tuple[nn.Module, Objective]]]:
    """Name of a loss -> what makes the step and the loss."""
    dimension = int(case[-2])
    grid = Grid(points(case), (1.0,) * dimension)

    def step() -> nn.Module:
        return Residual(network(case, dimension, dimension))

    def lead() -> nn.Module:
        return Residual(LeadTime(network(case, dimension + 1, dimension), longest=3))

    def refined() -> nn.Module:
        return Refined(network(case, 2 * dimension + 1, dimension))

    def solver() -> Callable[[Tensor], Tensor]:
        exact = build(Burgers(viscosity=0.05), grid, 0.002)
        return lambda u: exact(u.double()).to(u.dtype)

    found: dict[str, Callable[[], tuple[nn.Module, Objective]]] = {
        "OneStep": lambda: (step(), OneStep()),
        "OneStep, Sobolev norm": lambda: (step(), OneStep(norm=Sobolev(grid))),
        "NoisyOneStep": lambda: (step(), NoisyOneStep(0.01)),
        "Pushforward(1)": lambda: (step(), Pushforward(1)),
        "Unrolled(2)": lambda: (step(), Unrolled(2)),
        "Unrolled(5)": lambda: (step(), Unrolled(5)),
        "Unrolled(5), gradient over 2": lambda: (step(), Unrolled(5, gradient=2)),
        "Unrolled(5), no gradient in time": lambda: (step(), Unrolled(5, gradient="none")),
        "Unrolled(5), computed again": lambda: (step(), Unrolled(5, checkpoint=True)),
        "Unrolled(2), log spectrum": lambda: (
            step(),
            Unrolled(2, terms=[PerState(LogSpectrum(grid), 0.1)]),
        ),
        "Unrolled(2), measure of 64 points": lambda: (
            step(),
            Unrolled(2, terms=[InvariantMeasure(weight=0.1, points=64)]),
        ),
        "Unrolled(2), equation's residual": lambda: (
            step(),
            Unrolled(2, terms=[EquationResidual(Burgers(viscosity=0.05), grid, 0.002, weight=0.1)]),
        ),
        "Unrolled(2), solver's defect": lambda: (
            step(),
            Unrolled(2, terms=[SolverDefect(solver(), weight=0.1)]),
        ),
        "GeneralizedTeacherForcing(5)": lambda: (step(), GeneralizedTeacherForcing(5, 0.5)),
        "SparseTeacherForcing(5), every 2": lambda: (step(), SparseTeacherForcing(5, 2)),
        "DivertedChain(2)": lambda: (step(), DivertedChain(solver(), 2)),
        "MixedChain(1, 1)": lambda: (step(), MixedChain(solver(), 1, 1)),
        "AllPairs(3), 4 pairs": lambda: (lead(), AllPairs(3, pairs=4)),
        "Refinement": lambda: (refined(), Refinement()),
        "OneStep + Dissipativity": lambda: (
            step(),
            WeightedSum([OneStep(), Dissipativity(2.0, 4.0)], [1.0, 0.01]),
        ),
        "Frobenius, apart": lambda: (step(), Parted(OneStep(), Frobenius())),
        "JAWS, Unrolled(2)": lambda: (step(), Regularized(Unrolled(2), JAWS(dimension, dimension))),
    }
    for name, penalty in penalties(dimension, solver).items():
        found[name] = lambda penalty=penalty: (step(), Regularized(OneStep(), penalty()))  # type: ignore[misc]
    return found


def points(case: str) -> tuple[int, ...]:
    """Points of the grid of a case."""
    return (128,) if case.endswith("1d") else (64, 64)


class Update:
    """Loss and gradient of a case, again and again."""

    def __init__(self, case: str, name: str, batch: int | None = None) -> None:
        torch.manual_seed(0)
        self.step, self.objective = losses(case)[name]()
        self.parameters = [*self.step.parameters(), *self.objective.parameters()]
        self.generator = torch.Generator().manual_seed(0)
        batch = batch or (16 if case.endswith("1d") else 2)
        shape = (batch, FRAMES, int(case[-2]), *points(case))
        self.window = torch.randn(shape, generator=self.generator)

    def __call__(self) -> None:
        for p in self.parameters:
            p.grad = None
        self.objective(self.step, self.window, self.generator)[0].backward()


class Held:
    """A tensor that a graph has saved."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


class Watch:
    """Bytes that autograd's graphs hold, now and at most."""

    def __init__(self, leave_out: set[int]) -> None:
        self.now = self.most = 0
        self._leave_out = leave_out
        self._owners: dict[int, int] = {}

    def pack(self, tensor: Tensor) -> Held:
        """Count what a graph saves, each piece of memory once."""
        held, storage = Held(tensor), tensor.untyped_storage()
        try:
            key, size = storage.data_ptr(), storage.nbytes()
        except RuntimeError:  # zeros of forward mode that are not written out
            return held
        if key not in self._leave_out:
            self._owners[key] = self._owners.get(key, 0) + 1
            if self._owners[key] == 1:
                self.now += size
                self.most = max(self.most, self.now)
            weakref.finalize(held, self._let_go, key, size)
        return held

    def _let_go(self, key: int, size: int) -> None:
        self._owners[key] -= 1
        if self._owners[key] == 0:
            self.now -= size
            del self._owners[key]


def graph_bytes(case: str, name: str) -> int:
    """The most that graphs hold at any moment of an update."""
    update = Update(case, name)
    update()
    watch = Watch({p.untyped_storage().data_ptr() for p in update.parameters})
    with torch.autograd.graph.saved_tensors_hooks(watch.pack, lambda held: held.tensor):
        update()
    return watch.most


def _status(key: str) -> int:
    found = re.search(rf"{key}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found.group(1)) * 1024 if found else 0


def _resident(case: str, name: str, answer: Any) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    update = Update(case, name, 16 if case.endswith("1d") else 8)
    window, update.window = update.window, update.window[:1]
    update()  # imports, compiles and plans what is needed once
    update.window = window
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    update()
    answer.put(_status("VmHWM") - before)


def resident_bytes(case: str, name: str) -> int:
    """Rise of the resident memory in an update, in a process of its own; 0 where the system does not tell."""
    if not Path("/proc/self/clear_refs").exists():
        return 0
    context = multiprocessing.get_context("fork")
    answer: Any = context.Queue()
    process = context.Process(target=_resident, args=(case, name, answer))
    process.start()
    found = int(answer.get(timeout=300))
    process.join()
    return found


def measure(case: str, repeats: int) -> None:
    """Print the table of a case."""
    names = list(losses(case))
    network(case, 1, 1)  # imports, so that the processes below need not
    resident = {name: resident_bytes(case, name) for name in names}
    graph = {name: graph_bytes(case, name) for name in names}
    runs = {name: Update(case, name) for name in names}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for repeat in range(repeats + 1):
        for name, run in runs.items():
            began = time.process_time()
            run()
            if repeat:
                seconds[name].append(time.process_time() - began)
    first = names[0]
    least, middle = min(seconds[first]), statistics.median(seconds[first])
    print(
        f"{case}: {first} takes {least * 1e3:.2f} ms ({middle * 1e3:.2f}), graph {graph[first] / 2**20:.2f} MiB"
    )
    print(f"  {'relative to OneStep':42s} {'time':>14s} {'graph':>7s} {'rss MiB':>8s}")
    for name in names:
        times = f"{min(seconds[name]) / least:.2f} ({statistics.median(seconds[name]) / middle:.2f})"
        memory = f"{graph[name] / graph[first]:7.2f} {resident[name] / 2**20:8.1f}"
        print(f"  {name:42s} {times:>14s} {memory}", flush=True)


def main(arguments: list[str]) -> int:
    """Tables of the cases named; 2 for an unknown one."""
    unknown = [name for name in arguments if name not in CASES]
    if unknown:
        print(f"unknown case {unknown[0]!r}; expected one of {', '.join(CASES)}", file=sys.stderr)
        return 2
    torch.set_num_threads(1)
    warnings.simplefilter(
        "ignore"
    )  # random states are no trajectories of the solver; its hints are not meant
    for case in arguments or CASES:
        measure(case, repeats=12 if case.endswith("1d") else 4)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
