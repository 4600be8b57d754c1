"""How errors grow under each surrogate at true states, beside the solver that it imitates."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sciml.domains import Grid
from sciml.experiments.contestants import Contestant
from sciml.experiments.reference import Reference
from sciml.experiments.scores import Evaluation
from sciml.step import FunctionStep, Step

SOLVER = "reference solver"
# Random directions of energies, iterations of singular values, dimension and products for eigenvalues.
PROBES, ITERATIONS, KRYLOV, PRODUCTS = 8, 15, 24, 45
# Steps over which the worst disturbance grows with iterations to find it, and steps for those of each wavenumber, one
# step for large states.
GROWTH, GROWTH_ITERATIONS, SHELL_STEPS, LARGE = 10, 5, 3, 5000
# States that the dearer parts are measured at.
DEAR = 3
# Exponents: how many. Along how long a path at most, and how many numbers all its states may have together: a network's
# products with its Jacobian are far dearer than a compiled solver's differences, and it is the solver's exponent that
# clocks are set by.
EXPONENTS = 4
NETWORK_PATH, NETWORK_NUMBERS = 300, 200_000
SOLVER_PATH, SOLVER_NUMBERS = 2000, 40_000_000
# Systems of so few unknowns get all their exponents, along several paths at once.
SMALL, PATHS = 16, 8
PARTS = ("singular values", "eigenvalues", "growth", "wavenumbers", "exponents")
"""What is measured of each step, in this order."""


@dataclass(frozen=True)
class Bench:
    """What is measured at, and how.

    Args:
        states: (S, C, *points), true states of the first trajectory.
        times: (S,), when they are.
        starts: (P, C, *points), where paths for exponents start.
        scale: (C,), a typical size of each channel.
        grid: where the points lie; None where there are no wavenumbers.
        seed: of all that is random.
    """

    states: Tensor
    times: np.ndarray
    starts: Tensor
    scale: Tensor
    grid: Grid | None
    seed: int = 0


def add_laboratory(
    evaluation: Evaluation,
    contestants: Sequence[Contestant],
    reference: Reference,
    *,
    solver: Step | None = None,
    half: Step | None = None,
    states: int = 9,
    seed: int = 0,
    progress: Callable[[int, str], None] | None = None,
) -> None:
    """Measure each surrogate, and the solver it imitates, at the same true states.

    Everything lands in `Evaluation.laboratory`: name -> array by name, see `measure`.

    Args:
        evaluation: receives it.
        contestants: those with a Step behind them, the first seed of each surrogate.
        reference: the truth; its first sample is walked along.
        solver: the reference solver on the data's own points for that sample, if there is one.
        half: the same with half the step, to see whether two of its steps are one.
        states: number of states, evenly spread over the training horizon twice over.
        seed: of the random probes.
        progress: called with the number of parts that are measured, `PARTS` of each step, and what comes next.
    """
    last = min(2 * evaluation.trained_steps, evaluation.steps, reference.reach)
    chosen = sorted(set(np.linspace(0, last, states).round().astype(int).tolist()))
    along = torch.cat([reference.frames(slice(0, 1), k, k + 1)[:, 0] for k in chosen])
    scale = torch.from_numpy(evaluation.reference.statistics["scale"])
    small = along[0].numel() <= SMALL
    paths = slice(0, min(PATHS, reference.samples) if small else 1)
    bench = Bench(
        along,
        np.array(chosen) * evaluation.dt,
        reference.initial(paths),
        scale,
        reference.domain if isinstance(reference.domain, Grid) else None,
        seed,
    )
    measured: dict[str, Step] = {}
    for contestant in contestants:
        if contestant.kind == "surrogate" and contestant.step is not None:
            measured.setdefault(contestant.name, contestant.step)

    def tell(number: int, name: str) -> Callable[[str], None]:
        def begins(part: str) -> None:
            if progress is not None:
                progress(number * len(PARTS) + PARTS.index(part), f"{name}: {part}")

        return begins

    for number, (name, step) in enumerate(measured.items()):
        evaluation.laboratory[name] = measure(step, bench, part=_longer(step), tell=tell(number, name))
    if solver is not None:
        begins = tell(len(measured), SOLVER)
        try:
            evaluation.laboratory[SOLVER] = measure(solver, bench, part=half, exact=True, tell=begins)
        except (RuntimeError, NotImplementedError, TypeError, ValueError):
            # Compiled or assembled solvers need not be differentiable; the surrogates then stand alone.
            evaluation.laboratory.pop(SOLVER, None)


def measure(
    step: Step,
    bench: Bench,
    *,
    part: tuple[Step, Step] | Step | None = None,
    exact: bool = False,
    tell: Callable[[str], None] = lambda name: None,
) -> dict[str, np.ndarray]:
    """Everything about one step.

    Args:
        step: surrogate or solver.
        bench: where it is measured.
        part: a step of half the length of this one, or the pair (step twice as long, this one), to see whether they
            agree.
        exact: in double precision and with differences for products with the Jacobian, as solvers want it.
        tell: called with each of `PARTS` before it begins.

    Returns:
        "times" (S,); "spectral_norm", "frobenius", "symmetry" (S,); "row_energy" (S, *points); "worst" (C, *points),
        the disturbance of the last state that grows most; at `DEAR` of the states "spectral_radius",
        "transient_growth" over "growth_steps"; "shell_gain" and "shell_growth" (K,), after one step and after
        "shell_steps"; "exponents" (K,) with "exponents_error" (K,) [1/time] along the step's own rollout;
        "semigroup" (S,).
    """
    from sciml.jacobian import (
        jacobian_diagnostics,
        leading_eigenvalues,
        lyapunov_exponents,
        semigroup_defect,
        shell_response,
        transient_growth,
    )

    dtype = torch.float64 if exact else bench.states.dtype
    states, starts, scale = bench.states.to(dtype), bench.starts.to(dtype), bench.scale.to(dtype)
    mode: Any = "fd" if exact else "auto"
    random = torch.Generator().manual_seed(bench.seed)
    tell("singular values")
    found = jacobian_diagnostics(
        step, states, probes=PROBES, iterations=ITERATIONS, mode=mode, scale=scale, generator=random
    )
    out: dict[str, Tensor] = {
        name: found[name] for name in ("row_energy", "spectral_norm", "frobenius", "symmetry")
    }
    out["worst"] = found["worst_direction"][-1]
    few = states[np.unique(np.linspace(0, len(states) - 1, DEAR).round().astype(int))]
    tell("eigenvalues")
    radius = leading_eigenvalues(
        step,
        few,
        krylov=min(KRYLOV, max(4, states[0].numel())),
        products=PRODUCTS,
        mode=mode,
        generator=random,
    )
    out["spectral_radius"] = radius.values[:, 0].abs()
    tell("growth")
    growth = transient_growth(
        step, few, GROWTH, iterations=GROWTH_ITERATIONS, mode=mode, scale=scale, generator=random
    )
    out["transient_growth"] = growth.gains[:, 0]
    out["growth_steps"] = torch.tensor(GROWTH)
    tell("wavenumbers")
    if bench.grid is not None:
        shell_steps = SHELL_STEPS if states[0].numel() <= LARGE else 1
        response = shell_response(
            step, few[-1:], bench.grid, steps=shell_steps, mode=mode, scale=scale, generator=random
        )
        out["shell_steps"] = torch.tensor(shell_steps)
        out["shell_gain"], out["shell_growth"] = response.gains[0, 0], response.gains[0, -1]
    size = states[0].numel()
    count = size if size <= SMALL else EXPONENTS
    longest, numbers = (SOLVER_PATH, SOLVER_NUMBERS) if exact else (NETWORK_PATH, NETWORK_NUMBERS)
    length = int(min(longest, max(20, numbers // (size * (count + 1) * len(starts)))))
    tell("exponents")
    path = lyapunov_exponents(
        step,
        starts,
        length,
        count=count,
        discard=length // 10,
        every=2,
        mode=mode,
        intervals=min(10, length),
    )
    alive = torch.isfinite(path.mean).all(1)
    if bool(alive.any()):
        out["exponents"] = path.mean[alive].mean(0)
        out["exponents_error"] = (path.standard_error[alive].square().sum(0)).sqrt() / int(alive.sum())
        out["exponent_steps"] = torch.tensor(length)
    if isinstance(part, tuple):
        out["semigroup"] = semigroup_defect(part[0], part[1], states)
    elif part is not None:
        out["semigroup"] = semigroup_defect(step, part, states)
    arrays = {name: value.detach().double().numpy() for name, value in out.items()}
    return {"times": bench.times, **arrays}


def _longer(step: Step) -> tuple[Step, Step] | None:
    """A step of twice the length and the step itself, where the surrogate takes its length as an argument."""
    inner: Any = step
    while hasattr(inner, "f"):
        inner = inner.f
    call = getattr(inner, "forward", inner)
    if "lead" not in inspect.signature(call).parameters:
        return None
    from sciml.models import AtLead

    twice = AtLead(step, 2.0)  # type: ignore[arg-type]  # a module that takes leads
    return FunctionStep(twice, 2 * step.dt, step.domain, step.channels), step
