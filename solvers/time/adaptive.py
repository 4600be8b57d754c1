"""Embedded Runge-Kutta pairs that choose their own steps, with output at any time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.solvers.time.tableau import DOPRI5, TSIT5, Tableau


@dataclass(frozen=True)
class EmbeddedPair:
    """An explicit method, an estimate of its error, and a polynomial between its two ends.

    The slope at the new state counts as a last stage; it is the first of the next step (FSAL).

    Args:
        tableau: the method that gives the new state.
        error: weights of the slopes in the difference to the embedded method, one more than stages.
        bump: weights of the slopes in the term that lifts the cubic of Hermite to order 4.
        error_order: order of the embedded method.
    """

    tableau: Tableau
    error: tuple[float, ...]
    bump: tuple[float, ...]
    error_order: int

    def __post_init__(self) -> None:
        expected = len(self.tableau.b) + 1
        if len(self.error) != expected or len(self.bump) != expected:
            raise ValueError(
                f"EmbeddedPair got {len(self.error)} error weights and {len(self.bump)} weights of the "
                f"interpolant; expected {expected}, one more than the stages of {self.tableau.name}."
            )


# Dormand and Prince (1980), table 2, with the interpolant of Shampine (1986) in the form of Hairer, Norsett and
# Wanner, Solving Ordinary Differential Equations I (1993), section II.6.
DORMAND_PRINCE = EmbeddedPair(
    DOPRI5,
    (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40),
    (
        -12715105075 / 11282082432,
        0.0,
        87487479700 / 32700410799,
        -10690763975 / 1880347072,
        701980252875 / 199316789632,
        -1453857185 / 822651844,
        69997945 / 29380423,
    ),
    4,
)

# Tsitouras (2011): error weights and the free interpolant, of which the quartic part is what Hermite's cubic lacks.
TSITOURAS = EmbeddedPair(
    TSIT5,
    (
        -0.001780011052226,
        -0.000816434459657,
        0.007880878010262,
        -0.144711007173263,
        0.582357165452555,
        -0.458082105929187,
        1 / 66,
    ),
    (
        -1.0530884977290216,
        0.1017,
        2.490627285651253,
        -16.548102889244903,
        47.37952196281928,
        -34.87065786149661,
        2.5,
    ),
    4,
)

# Controller of Gustafsson (1991) as in section II.4 of Hairer, Norsett and Wanner, with their values.
_SAFETY, _BETA, _SHRINK, _GROW = 0.9, 0.04, 0.2, 10.0


@dataclass(frozen=True, eq=False)
class AdaptiveSolution:
    """States at the times asked for, and what they took.

    Attributes:
        states: (B, T, C, *points).
        steps: sizes of the accepted steps [time].
        rejected: steps tried in vain.
        evaluations: calls of the right-hand side.
    """

    states: Tensor
    steps: tuple[float, ...]
    rejected: int
    evaluations: int


@dataclass(frozen=True, eq=False)
class AcceptedStep:
    """A step that was taken, for who watches a solution come about.

    Attributes:
        t, h: where it begins and how long it is [time].
        u, new: states at both ends (B, C, *points).
        slopes: of all stages, that at the new state last.
        pair: the method.
    """

    t: float
    h: float
    u: Tensor
    new: Tensor
    slopes: tuple[Tensor, ...]
    pair: EmbeddedPair

    def at(self, t: float) -> Tensor:
        """The state at a time within the step."""
        bump = self.h * _combine(self.pair.bump, list(self.slopes))
        left, right = self.h * self.slopes[0], self.h * self.slopes[-1]
        return _between(self.u, self.new, left, right, bump, (t - self.t) / self.h)


def adaptive_rk(
    rhs: Callable[..., Tensor],
    u: Tensor,
    times: Sequence[float],
    *,
    rtol: float = 1e-6,
    atol: float = 1e-9,
    pair: EmbeddedPair = DORMAND_PRINCE,
    first_step: float | None = None,
    max_steps: int = 100_000,
    timed: bool = False,
    watch: Callable[[AcceptedStep], None] | None = None,
) -> AdaptiveSolution:
    """Solve u' = rhs(u) or u' = rhs(u, t) with steps that keep the estimated error of each within the tolerance.

    All samples of a batch take the same steps, those that the worst one of them needs: its root mean square
    over the unknowns of error / (atol + rtol |u|) stays below 1. A sample thus comes out a little better,
    and in its last digits otherwise, in company. States at the times between two steps come from the
    polynomial of order 4 of the step.

    Differentiable in the state and in what rhs holds, in reverse and forward mode: the derivative is that of
    the accepted steps, whose sizes count as constants. A sample that runs to infinity becomes NaN and
    no longer counts. Explicit: on stiff systems the stability limit (3.3 / rate on the negative axis) and
    not the tolerance sets the step.

    Args:
        rhs: (B, C, *points) -> (B, C, *points) [u / time]; takes the time as well if `timed`.
        u: states at the first of the times.
        times: increasing; the first one is the start [time].
        rtol: relative tolerance of a step; at least ten roundings of the state's type are granted.
        atol: absolute tolerance of a step, in the units of the state.
        pair: the method.
        first_step: size of the first step tried; None estimates it from two slopes.
        max_steps: accepted and rejected ones together.
        timed: whether rhs wants the time.
        watch: called with each accepted step.

    Raises:
        ValueError: times that do not increase, or a tolerance that is not positive.
        ArithmeticError: max_steps did not suffice.

    Dormand and Prince, J. Comput. Appl. Math. 6 (1980) 19-26; Shampine, Math. Comp. 46 (1986) 135-150.
    """
    grid = [float(t) for t in times]
    if (
        not grid
        or not all(map(math.isfinite, grid))
        or any(b <= a for a, b in zip(grid, grid[1:], strict=False))
    ):
        raise ValueError(f"adaptive_rk got times {grid[:5]}...; expected finite and increasing ones.")
    if not (rtol > 0 and atol > 0 and math.isfinite(rtol) and math.isfinite(atol)):
        raise ValueError(f"adaptive_rk got rtol={rtol}, atol={atol}; expected positive tolerances.")
    rtol = max(rtol, 10 * torch.finfo(u.dtype).eps)
    f: Callable[[Tensor, float], Tensor] = rhs if timed else lambda v, t: rhs(v)
    measure = _Measure(rtol, atol, u)
    out = [u]
    if len(grid) == 1:
        return AdaptiveSolution(torch.stack(out, dim=1), (), 0, 0)
    t, end = grid[0], grid[-1]
    slope, evaluations, rejected = f(u, t), 1, 0
    order = pair.error_order + 1
    if first_step is None:
        h, evaluations = measure.first_step(f, t, u, slope, order), evaluations + 1
    else:
        h = first_step
    taken: list[float] = []
    before, grow = 1e-4, _GROW
    while len(out) < len(grid):
        if len(taken) + rejected >= max_steps:
            raise ArithmeticError(
                f"adaptive_rk took {max_steps} steps and came to t={t:.6g} of {end:.6g}, with steps of {h:.3g}. "
                "Loosen the tolerance, raise max_steps, or use an implicit method if the system is stiff."
            )
        # A last crumb would cost a step of its own: the step before is stretched by it.
        last = t + 1.01 * h >= end
        if last:
            h = end - t
        new, slopes = _stages(f, t, u, slope, h, pair.tableau)
        evaluations += len(slopes) - 1
        errors = measure.errors(h * _combine(pair.error, slopes), u, new)
        error = float(errors.max())
        least = 16 * math.ulp(max(abs(t), abs(end)))
        if error > 1.0 and h <= least:
            measure.give_up(errors > 1.0)
            nothing = torch.full_like(u, torch.nan)
            dead = ~measure.alive.reshape(-1, *[1] * (u.ndim - 1))
            u, slope = torch.where(dead, nothing, u), torch.where(dead, nothing, slope)
            rejected += 1
            if not bool(measure.alive.any()):
                out += [u] * (len(grid) - len(out))
            continue
        if error > 1.0:
            shrink = _SAFETY * error ** (-1 / order) if math.isfinite(error) else 0.0
            h = max(h * max(_SHRINK, shrink), least)
            rejected, grow = rejected + 1, 1.0
            continue
        bump: Tensor | None = None
        arrival = end if last else t + h
        while len(out) < len(grid) and grid[len(out)] <= arrival:
            at = grid[len(out)]
            if at == arrival:
                out.append(new)
                continue
            bump = h * _combine(pair.bump, slopes) if bump is None else bump
            out.append(_between(u, new, h * slopes[0], h * slopes[-1], bump, (at - t) / h))
        if watch is not None:
            watch(AcceptedStep(t, h, u, new, tuple(slopes), pair))
        taken.append(h)
        t, u, slope = arrival, new, slopes[-1]
        error = max(error, 1e-10)
        factor = _SAFETY * error ** (-(1 / order - 0.75 * _BETA)) * before**_BETA
        h, before, grow = h * min(grow, max(_SHRINK, factor)), max(error, 1e-4), _GROW
    return AdaptiveSolution(torch.stack(out, dim=1), tuple(taken), rejected, evaluations)


class _Measure:
    """Sizes of changes in units of the tolerance, of the samples that still count."""

    def __init__(self, rtol: float, atol: float, u: Tensor) -> None:
        self.rtol, self.atol = rtol, atol
        with torch.no_grad():
            self.alive = torch.isfinite(u.detach()).flatten(1).all(1)

    def _norm(self, change: Tensor, scale: Tensor) -> Tensor:
        return (change / scale).flatten(1).square().mean(1).sqrt()

    def _counted(self, values: Tensor) -> Tensor:
        values = torch.where(torch.isfinite(values), values, torch.full_like(values, torch.inf))
        return torch.where(self.alive, values, torch.zeros_like(values))

    def errors(self, error: Tensor, u: Tensor, new: Tensor) -> Tensor:
        """Error of each sample over its tolerance, (B,): infinite where not a number, zero where given up."""
        with torch.no_grad():
            scale = self.atol + self.rtol * torch.maximum(u.detach().abs(), new.detach().abs())
            return self._counted(self._norm(error.detach(), scale))

    def give_up(self, samples: Tensor) -> None:
        self.alive = self.alive & ~samples

    def first_step(
        self, rhs: Callable[[Tensor, float], Tensor], t: float, u: Tensor, slope: Tensor, order: int
    ) -> float:
        """Hairer, Norsett and Wanner (1993), section II.4: from the sizes of u, u' and an estimate of u''."""
        with torch.no_grad():
            u, slope = u.detach(), slope.detach()
            scale = self.atol + self.rtol * u.abs()
            size, rate = self._norm(u, scale), self._norm(slope, scale)
            guess = 0.01 * size / rate
            sound = self.alive & torch.isfinite(guess) & (size > 1e-5) & (rate > 1e-5)
            h = float(torch.where(sound, guess, torch.full_like(guess, torch.inf)).min())
            if not math.isfinite(h):
                h = 1e-6
            curve = self._counted(self._norm(rhs(u + h * slope, t + h) - slope, scale) / h)
            top = float(torch.maximum(self._counted(rate), curve).max())
        if not math.isfinite(top):
            return 1e-3 * h
        better = max(1e-6, 1e-3 * h) if top <= 1e-15 else (0.01 / top) ** (1 / order)
        return min(100 * h, better)


def _stages(
    rhs: Callable[[Tensor, float], Tensor], t: float, u: Tensor, slope: Tensor, h: float, tableau: Tableau
) -> tuple[Tensor, list[Tensor]]:
    """The new state and all slopes, that at the new state last."""
    slopes = [slope]
    for row, c in zip(tableau.a, tableau.c[1:], strict=True):
        slopes.append(rhs(u + h * _combine(row, slopes), t + c * h))
    new = u + h * _combine(tableau.b, slopes)
    slopes.append(rhs(new, t + h))
    return new, slopes


def _combine(weights: tuple[float, ...], slopes: list[Tensor]) -> Tensor:
    terms = [w * k for w, k in zip(weights, slopes, strict=True) if w != 0.0]
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def _between(u: Tensor, new: Tensor, left: Tensor, right: Tensor, bump: Tensor, x: float) -> Tensor:
    """The state at the fraction x of a step: Hermite's cubic of both states and slopes, plus x^2 (1-x)^2 bump."""
    rise = new - u
    bend = left - rise
    twist = rise - right - bend
    return u + x * (rise + (1 - x) * (bend + x * (twist + (1 - x) * bump)))
