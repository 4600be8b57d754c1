"""Who takes part in an evaluation: surrogates, classical solvers, baselines, and how each carries states along."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from sciml.step import Step, ahead

Kind = Literal["surrogate", "solver", "baseline"]


def same(u: Tensor) -> Tensor:
    """The state itself."""
    return u


@dataclass(frozen=True)
class Course:
    """How states are carried along, one step at a time.

    What is carried may be something else than states on the data's points: a field on a coarser grid, or the time of
    a function of place and time. It is one tensor, so that a long rollout can be written down and gone on with.

    Args:
        advance: what is carried -> the same one step later.
        begin: states (B, C, *points) on the data's points -> what is carried.
        show: what is carried -> states (B, C, *points) on the data's points.
    """

    advance: Callable[[Tensor], Tensor]
    begin: Callable[[Tensor], Tensor] = same
    show: Callable[[Tensor], Tensor] = same


@dataclass(frozen=True)
class Contestant:
    """Something that predicts what follows an initial state.

    Args:
        name: what the report calls it.
        kind: "surrogate" (trained), "solver" (classical, on some grid), "baseline" (persistence, mean).
        course: samples -> how they are carried along. Solvers of equations with parameters of their own for each
            sample differ from one part of the samples to the next.
        seed: training seed; 0 for what has none.
        parameters: number of trained real parameters.
        step: the Step behind a surrogate, for what is measured of its Jacobian.
        timed: whether a step of it costs anything worth measuring.
        cost_of: what is timed in the place of `Course.advance`, from what is carried.
    """

    name: str
    kind: Kind
    course: Callable[[slice], Course]
    seed: int = 0
    parameters: int = 0
    step: Step | None = None
    timed: bool = True
    cost_of: Callable[[Tensor], Tensor] | None = None


def from_step(name: str, step: Step, kind: Kind, *, seed: int = 0, parameters: int = 0) -> Contestant:
    """A contestant whose states are those of a Step."""
    if getattr(step, "bundle", 1) > 1:

        def advance(coming: Tensor) -> Tensor:
            return coming[:, 1:] if coming.shape[1] > 1 else ahead(step, coming[:, 0])

        # What is carried is the bundle of states to come, (B, m, C, *points), which gets shorter step by step.
        course = Course(advance, lambda u0: u0.unsqueeze(1), lambda coming: coming[:, 0])
    else:
        course = Course(step)
    return Contestant(name, kind, lambda samples: course, seed, parameters, step)


def cpu_seconds_per_step(
    advance: Callable[[Tensor], Tensor], start: Tensor, *, seconds: float = 0.4, limit: int = 200
) -> float:
    """Median CPU seconds of one step per sample, measured over at least three steps in this process."""
    u = start
    with torch.no_grad():
        advance(u)  # first call fills caches and plans
        spent: list[float] = []
        while (sum(spent) < seconds or len(spent) < 3) and len(spent) < limit:
            began = time.process_time()
            v = advance(u)
            spent.append(time.process_time() - began)
            if bool(torch.isfinite(v).all()):
                u = v
    return float(np.median(spent)) / start.shape[0]
