"""Anything that maps a state to the next state, and what is built from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint as recompute

from sciml.domains import Domain


@runtime_checkable
class Step(Protocol):
    """A callable (B, C, *points) -> (B, C, *points) that advances the state by `dt`.

    Solvers, networks, constrained networks, coarse solvers and persistence alike; `domain` says where
    the points lie and `channels` names the C components.
    """

    @property
    def dt(self) -> float:
        """Time that one call advances."""

    @property
    def domain(self) -> Domain:
        """Where the points lie."""

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the C channels."""

    def __call__(self, u: Tensor, /) -> Tensor: ...


LowFaces = tuple[tuple[int, ...], ...]
"""Of each channel of a staggered state the axes along which it lies on the low faces of cells, not at their centres."""


def low_faces_of(step: object) -> LowFaces | None:
    """Where the channels of a step's states lie, or None where all are averages of cells or values of nodes.

    Steps on staggered grids say it in their attribute `low_faces`; the velocities of 2D flow with a scalar lie on
    ((0,), (1,), ()).
    """
    found: LowFaces | None = getattr(getattr(step, "step", step), "low_faces", None)
    return found


@dataclass(frozen=True)
class FunctionStep:
    """A plain function as a Step."""

    function: Callable[[Tensor], Tensor]
    dt: float
    domain: Domain
    channels: tuple[str, ...]

    def __call__(self, u: Tensor, /) -> Tensor:
        return self.function(u)


def persistence(like: Step) -> FunctionStep:
    """The step that changes nothing, the baseline every surrogate has to beat."""
    return FunctionStep(lambda u: u, like.dt, like.domain, like.channels)


def repeat(step: Step, times: int) -> FunctionStep:
    """`times` steps as one, with the time step multiplied."""
    if times < 1:
        raise ValueError(f"repeat got times={times}; expected at least 1.")

    def repeated(u: Tensor) -> Tensor:
        for _ in range(times):
            u = step(u)
        return u

    return FunctionStep(repeated, step.dt * times, step.domain, step.channels)


def with_dtype(step: Step, dtype: torch.dtype) -> FunctionStep:
    """The step computed in `dtype`, between states of any other precision."""
    return FunctionStep(lambda u: step(u.to(dtype)).to(u.dtype), step.dt, step.domain, step.channels)


def ahead(step: Callable[[Tensor], Tensor], u: Tensor) -> Tensor:
    """The next states of a step, (B, C, *points) -> (B, m, C, *points): what one call gives.

    Steps that give m > 1 states at once say so in their attribute `bundle` and give them by their method
    `ahead`; called as a step they give the first. All others give one.
    """
    if getattr(step, "bundle", 1) == 1:
        return step(u).unsqueeze(1)
    found: Tensor = step.ahead(u)  # type: ignore[attr-defined]
    return found


def rollout(
    step: Callable[[Tensor], Tensor], steps: int, *, checkpoint: bool = False
) -> Callable[[Tensor], Tensor]:
    """Turn a step into u0 (B, C, *points) -> trajectory (B, steps + 1, C, *points).

    Differentiable in u0 and in the step's parameters. A rollout that blows up runs to its end;
    `first_non_finite` tells where it did. A step that gives several states at once (see `ahead`) is called
    accordingly less often.

    Args:
        step: the step.
        steps: how many to take, 0 or more.
        checkpoint: keep only the states and compute inside each step again in the backward pass:
            less memory, one more forward pass.
    """
    if steps < 0:
        raise ValueError(f"rollout got steps={steps}; expected 0 or more.")

    def trajectory(u0: Tensor) -> Tensor:
        states = [u0]
        while len(states) <= steps:
            last = states[-1]
            new = recompute(ahead, step, last, use_reentrant=False) if checkpoint else ahead(step, last)
            states += new.unbind(1)
        return torch.stack(states[: steps + 1], dim=1)

    return trajectory


def iterate(step: Callable[[Tensor], Tensor], u0: Tensor, steps: int) -> Iterator[Tensor]:
    """Yield u0 and the `steps` states after it, (B, C, *points) each, in constant memory.

    Takes no gradients. Stops for nothing: a state that is not finite is yielded like any other.
    """
    u, done = u0, 0
    yield u
    while done < steps:
        with torch.no_grad():  # entered per step: a generator must not leave grad mode off outside
            states = ahead(step, u).unbind(1)
        for u in states[: steps - done]:
            done += 1
            yield u
