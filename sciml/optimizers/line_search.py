"""A step length that satisfies the strong Wolfe conditions."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Point:
    """What is known at one step length: the function, its slope along the line, and its gradient."""

    length: float
    value: float
    slope: float
    gradient: Tensor


def strong_wolfe(
    at: Callable[[float], Point],
    start: Point,
    first: float,
    *,
    decrease: float = 1e-4,
    curvature: float = 0.9,
    evaluations: int = 25,
) -> tuple[Point | None, int]:
    """A point with f <= f0 + decrease t f0' and |f'| <= curvature |f0'|, and how many evaluations it took.

    None if there is none within the evaluations and nothing better than the start was seen; the best point with
    sufficient decrease where only the second condition fails. Values that are not finite count as too high.

    Args:
        at: evaluates the function at a step length.
        start: the point at length 0, whose slope is negative.
        first: the step length tried first.
        decrease, curvature: of both conditions, 0 < decrease < curvature < 1.
        evaluations: how many at most.

    Nocedal and Wright, Numerical Optimization (2006), algorithms 3.5 and 3.6, with cubic interpolation (3.59).
    """
    low, best, length, used = start, None, first, 0
    high: Point | None = None
    while used < evaluations:
        point = at(length)
        used += 1
        enough = point.value < start.value and point.value <= start.value + decrease * length * start.slope
        if not math.isfinite(point.value) or not math.isfinite(point.slope):
            high, length = _wall(point), 0.5 * (low.length + length)
            if abs(length - low.length) < 1e-16 * max(1.0, abs(low.length)):
                break
            continue
        if enough and (best is None or point.value < best.value):
            best = point
        if not enough or (point.value >= low.value and used > 1):
            high = point
        elif abs(point.slope) <= -curvature * start.slope:
            return point, used
        elif high is None and point.slope < 0:
            low, length = point, _beyond(low, point)
            continue
        else:
            if point.slope * ((high.length if high is not None else math.inf) - point.length) >= 0:
                high = low
            low = point
        assert high is not None
        if abs(high.length - low.length) <= 1e-12 * max(abs(high.length), abs(low.length)):
            break
        length = _between(low, high)
    return best, used


def _wall(point: Point) -> Point:
    return Point(point.length, math.inf, math.nan, point.gradient)


def _cubic(a: Point, b: Point) -> float:
    """Where the cubic through two values and slopes is least; not a number if nowhere."""
    d1 = a.slope + b.slope - 3 * (a.value - b.value) / (a.length - b.length)
    square = d1 * d1 - a.slope * b.slope
    if not square >= 0:
        return math.nan
    d2 = math.copysign(math.sqrt(square), b.length - a.length)
    bottom = b.slope - a.slope + 2 * d2
    return b.length - (b.length - a.length) * (b.slope + d2 - d1) / bottom if bottom != 0 else math.nan


def _between(low: Point, high: Point) -> float:
    """A length inside the bracket and not too near its ends."""
    left, right = sorted((low.length, high.length))
    guess = _cubic(low, high) if math.isfinite(high.value) else math.nan
    margin = 0.1 * (right - left)
    if not math.isfinite(guess):
        return 0.5 * (left + right)
    return min(max(guess, left + margin), right - margin)


def _beyond(before: Point, point: Point) -> float:
    """A longer step, by the cubic where it says so."""
    guess = _cubic(before, point)
    reach = point.length - before.length
    low, high = point.length + 0.1 * reach, point.length + 9.0 * reach
    return min(max(guess, low), high) if math.isfinite(guess) and guess > point.length else high
