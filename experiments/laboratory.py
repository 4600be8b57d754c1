"""Jacobians of the surrogates along true states, beside those of the solver that they imitate."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from sciml.experiments.contestants import Contestant
from sciml.experiments.reference import Reference
from sciml.experiments.scores import Evaluation
from sciml.step import Step


def add_laboratory(
    evaluation: Evaluation,
    contestants: Sequence[Contestant],
    reference: Reference,
    *,
    solver: Step | None = None,
    states: int = 9,
    seed: int = 0,
) -> None:
    """Keep norms of the one-step Jacobian of each surrogate, and of the solver it imitates, along one true trajectory.

    Args:
        evaluation: receives them.
        contestants: those with a Step behind them, the first seed of each surrogate.
        reference: the truth; its first sample is walked along.
        solver: the reference solver on the data's own points for that sample, if there is one.
        states: number of states, evenly spread over the training horizon twice over.
        seed: of the random probes.
    """
    from sciml.jacobian import jacobian_diagnostics

    last = min(2 * evaluation.trained_steps, evaluation.steps, reference.reach)
    chosen = sorted(set(np.linspace(0, last, states).round().astype(int).tolist()))
    along = torch.cat([reference.frames(slice(0, 1), k, k + 1)[:, 0] for k in chosen])
    measured: dict[str, Callable[[Tensor], Tensor]] = {}
    for contestant in contestants:
        if contestant.kind == "surrogate" and contestant.step is not None:
            measured.setdefault(contestant.name, contestant.step)
    if solver is not None:
        measured["reference solver"] = solver
    for name, step in measured.items():
        at = along.double() if name == "reference solver" else along
        generator = torch.Generator().manual_seed(seed)
        found = jacobian_diagnostics(step, at, probes=32, iterations=40, generator=generator)
        energy = found["row_energy"][-1]
        evaluation.laboratory[name] = {
            "times": np.array(chosen) * evaluation.dt,
            "spectral_norm": found["spectral_norm"].double().numpy(),
            "frobenius": found["frobenius"].double().numpy(),
            "row_energy": energy.flatten(1).mean(dim=1).double().numpy()
            if energy.ndim > 1
            else energy.double().numpy(),
        }
