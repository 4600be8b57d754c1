"""Penalties that make a learned field cheap for the adaptive solver that integrates it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, Protocol, get_args

import torch
from torch import Tensor, nn

from sciml.jacobian.remembered import Remembered
from sciml.regularizers.base import Regularizer

Kind = Literal["error", "stiffness"]
Sampling = Literal["unbiased", "biased", "global"]
StepSize = Literal["solver", "initial"]

_TINY = 1e-12  # under the root, whose slope at zero is infinite: fields that start at zero have no error


class Table(Protocol):
    """An explicit Runge-Kutta method: rows below the first, weights and times of the stages."""

    @property
    def a(self) -> tuple[tuple[float, ...], ...]: ...

    @property
    def b(self) -> tuple[float, ...]: ...

    @property
    def c(self) -> tuple[float, ...]: ...


class Pair(Protocol):
    """A method with an error estimate; the slope at the new state is its last stage."""

    @property
    def tableau(self) -> Table: ...

    @property
    def error(self) -> tuple[float, ...]: ...

    @property
    def error_order(self) -> int: ...


class Accepted(Protocol):
    """A step that an adaptive solver has taken."""

    @property
    def t(self) -> float: ...

    @property
    def h(self) -> float: ...

    @property
    def u(self) -> Tensor: ...

    @property
    def new(self) -> Tensor: ...

    @property
    def slopes(self) -> tuple[Tensor, ...]: ...

    def at(self, t: float) -> Tensor:
        """The state at a time within the step."""
        ...


class AdaptiveFlow(Protocol):
    """What the penalty needs of a step that solves an equation; `NeuralODE` is one."""

    pair: Any
    rtol: float
    atol: float
    extent: float
    duration: float

    def slope(self, u: Tensor, t: float) -> Tensor: ...

    def watched(self, watch: Callable[[Any], None]) -> AbstractContextManager[None]: ...


def scaled_error(error: Tensor, u: Tensor, new: Tensor, rtol: float, atol: float) -> Tensor:
    """Root mean square of error / (atol + rtol max(|u|, |new|)) over the unknowns of each sample, (B,)."""
    scale = atol + rtol * torch.maximum(u.abs(), new.abs())
    return ((error / scale).flatten(1).square().mean(dim=1) + _TINY**2).sqrt()


def local_cost(
    field: Callable[[Tensor, float], Tensor],
    t: float,
    u: Tensor,
    h: float,
    pair: Pair,
    rtol: float,
    atol: float,
    first: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """What one step of size h from (t, u) says of a field's cost: local error E (B,) and stiffness S (B,).

        E = || h sum d_i k_i || in units of the tolerance;    S = ||k_s - k_(s-1)|| / ||g_s - g_(s-1)||

    with error weights d, and the last two stages g, both at t + h. A step is accepted if E <= 1; S is a lower
    estimate of the largest rate of the field there, and zero for a field that does not depend on u. Differentiable
    in what the field holds, in u, and in the first slope where it is not given.

    Args:
        field: f(u, t), (B, C, *points).
        t, u: where the step begins.
        h: its size.
        pair: method and error weights; its last two stages must both lie at t + h for S.
        rtol, atol: tolerances of E.
        first: f(u, t), where it is known; without gradient it spoils that of E, see `LocalError`.
    """
    tableau = pair.tableau
    slopes = [field(u, t) if first is None else first]
    inner = u
    for row, c in zip(tableau.a, tableau.c[1:], strict=True):
        inner = u + h * _combined(row, slopes)
        slopes.append(field(inner, t + c * h))
    new = u + h * _combined(tableau.b, slopes)
    slopes.append(field(new, t + h))
    error = scaled_error(h * _combined(pair.error, slopes), u, new, rtol, atol)
    rise = (slopes[-1] - slopes[-2]).flatten(1).square().mean(dim=1)
    way = (new - inner).flatten(1).square().mean(dim=1)
    stiffness = (rise + _TINY**2).sqrt() / ((way + _TINY**2).sqrt() + torch.finfo(u.dtype).eps)
    return error, stiffness


def initial_step(
    field: Callable[[Tensor, float], Tensor],
    t: float,
    u: Tensor,
    slope: Tensor,
    pair: Pair,
    rtol: float,
    atol: float,
) -> float:
    """The step that a solver would begin with at (t, u), the smallest one of the batch.

    Hairer, Norsett and Wanner, Solving Ordinary Differential Equations I (1993), section II.4.
    """
    with torch.no_grad():
        scale = atol + rtol * u.abs()

        def norm(x: Tensor) -> Tensor:
            return (x / scale).flatten(1).square().mean(dim=1).sqrt()

        guess = float((0.01 * norm(u) / norm(slope).clamp(min=1e-5)).min())
        guess = guess if guess > 0 else 1e-6
        bend = norm(field(u + guess * slope, t + guess) - slope) / guess
        top = float(torch.maximum(norm(slope), bend).max())
        return min(100 * guess, (0.01 / max(top, 1e-15)) ** (1 / (pair.error_order + 1)))


class Watcher:
    """Picks a place of a solution while it comes about, without keeping its steps.

    Args:
        sampling: "unbiased" takes the time `u` of the duration; "biased" any accepted step with equal chance, by
            keeping the k-th with a chance of 1 / k; "global" sums over all steps.
        flow: for tolerances and duration.
        generator: of the draws.
    """

    def __init__(self, sampling: Sampling, flow: AdaptiveFlow, generator: torch.Generator | None) -> None:
        self.sampling, self.flow, self.generator = sampling, flow, generator
        self.count = 0
        self.place: tuple[float, Tensor, float] | None = None
        self.wanted = flow.duration * self._draw() if sampling == "unbiased" else 0.0
        self.error: Tensor | None = None
        self.stiffness: Tensor | None = None

    def _draw(self) -> float:
        device = "cpu" if self.generator is None else self.generator.device
        return float(torch.rand((), generator=self.generator, device=device, dtype=torch.float64))

    def __call__(self, step: Accepted) -> None:
        """Take notice of an accepted step."""
        self.count += 1
        if self.sampling == "global":
            self._add(step)
        elif self.sampling == "biased":
            if self._draw() * self.count < 1:
                self.place = (step.t, step.u.detach(), step.h)
        # A hair of tolerance: the last step ends at the duration but for a rounding.
        elif self.place is None and self.wanted <= step.t + (1 + 1e-9) * step.h:
            with torch.no_grad():
                inside = min(self.wanted, step.t + step.h)
                self.place = (inside, step.at(inside).detach(), step.h)

    def _add(self, step: Accepted) -> None:
        flow = self.flow
        slopes = list(step.slopes)
        error = step.h * _combined(flow.pair.error, slopes)
        size = step.h * scaled_error(error, step.u, step.new, flow.rtol, flow.atol)
        # The last stage before the new state, from the slopes that made it.
        inner = step.u + step.h * _combined(flow.pair.tableau.a[-1], slopes[: len(flow.pair.tableau.a)])
        rise = (slopes[-1] - slopes[-2]).flatten(1).square().mean(dim=1)
        way = (step.new - inner).flatten(1).square().mean(dim=1)
        stiff = (rise + _TINY**2).sqrt() / ((way + _TINY**2).sqrt() + torch.finfo(inner.dtype).eps)
        self.error = size if self.error is None else self.error + size
        self.stiffness = stiff if self.stiffness is None else self.stiffness + stiff


class LocalError(Regularizer):
    """Local error or stiffness of the field inside a step that solves an equation adaptively, such as `NeuralODE`.

    The solver spends its steps where its estimate E of the local error asks for them. One step of size h from one
    place u(t1) of the solution is taken again and h E, or the stiffness, is penalised; the gradient flows through the
    field's evaluations of that step alone, so that the solution may be differentiated in any way (Pal, Edelman and
    Rackauckas 2023). An error controller keeps E near its limit whatever the field is: it is the gradient at fixed h
    that makes the next solution cheaper, and the value says nothing. Watch the number of evaluations
    (`NeuralODE.statistics`) beside the error: a strong penalty buys cheap dynamics that are wrong, and a looser
    tolerance may do as well.

    A good weight depends on method, tolerances and the choice of h, since E counts in tolerances: keep them together.
    For a decaying one, give `Regularized` a schedule as its weight.

    Args:
        kind: "error" penalises h E, "stiffness" the rate S over the extent of the method's stability.
        sampling: "unbiased" draws t1 uniformly, which estimates the integral over time; "biased" draws an accepted step,
            which favours the times where steps are short; "global" sums over all accepted steps with gradients
            through the solver, which excludes the adjoint (Pal, Ma, Shah and Rackauckas 2021).
        step_size: h is that of the solver's own step there, or the one that it would begin with.

    Raises:
        ValueError: an option is unknown, or the step solves no equation, or "global" meets an adjoint.

    Locally Regularized Neural Differential Equations, arXiv 2303.02262; the global one is arXiv 2105.03918.
    """

    def __init__(
        self, kind: Kind = "error", sampling: Sampling = "unbiased", step_size: StepSize = "solver"
    ) -> None:
        super().__init__()
        chosen = {
            "kind": (kind, Kind),
            "sampling": (sampling, Sampling),
            "step_size": (step_size, StepSize),
        }
        for name, (value, known) in chosen.items():
            if value not in get_args(known):
                raise ValueError(
                    f"LocalError got {name}={value!r}; expected one of {list(get_args(known))}."
                )
        self.kind, self.sampling, self.step_size = kind, sampling, step_size

    def forward(
        self, step: Callable[[Tensor], Tensor], u: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        flow = flow_of(step)
        watcher = Watcher(self.sampling, flow, generator)
        with flow.watched(watcher):
            y = step(u)
        if isinstance(step, Remembered):
            step.keep(u, y)
        if self.sampling == "global":
            total = watcher.error if self.kind == "error" else watcher.stiffness
            assert total is not None
            if not total.requires_grad and y.requires_grad:
                raise ValueError(
                    "LocalError got sampling='global' and a step with an adjoint; it needs gradients through the solver "
                    "(gradient='through')."
                )
            return total if self.kind == "error" else total / flow.extent
        assert watcher.place is not None
        t, state, h = watcher.place
        if self.step_size == "initial":
            with torch.no_grad():
                first = flow.slope(state, t)
                h = initial_step(flow.slope, t, state, first, flow.pair, flow.rtol, flow.atol)
        # The first slope keeps its gradient. The error is a difference of slopes whose weights sum to zero: with one of
        # them frozen, its derivative would be that of the field itself and drown that of the error.
        error, stiffness = local_cost(flow.slope, t, state, h, flow.pair, flow.rtol, flow.atol)
        return error * h if self.kind == "error" else stiffness / flow.extent


def flow_of(step: object) -> AdaptiveFlow:
    """The one part of a step that solves an equation adaptively.

    Raises:
        ValueError: there is none, or more than one.
    """
    found = [part for part in _parts(step) if hasattr(part, "watched") and hasattr(part, "pair")]
    if len(found) != 1:
        raise ValueError(
            f"LocalError got a step with {len(found)} parts that solve an equation adaptively; expected one, such as "
            "NeuralODE."
        )
    return found[0]


def _parts(step: object) -> Iterator[Any]:
    if isinstance(step, Remembered):
        yield from _parts(step.step)
    elif isinstance(step, nn.Module):
        yield from step.modules()
    elif step is not None:
        yield step
        yield from _parts(getattr(step, "step", None))


def _combined(weights: Sequence[float], slopes: Sequence[Tensor]) -> Tensor:
    terms = [w * k for w, k in zip(weights, slopes, strict=True) if w != 0.0]
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total
