"""Learning rates as parts of their peak, by how much of a training is done."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import accumulate
from statistics import median

Schedule = Callable[[float], float]
"""Progress from 0 to 1 -> part of the peak."""


def constant(progress: float) -> float:
    """The peak throughout; with an average of weights the end need not fall."""
    return 1.0


def cosine(progress: float) -> float:
    """Half a wave from the peak to zero."""
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))


def linear(progress: float) -> float:
    """Straight from the peak to zero: the best one for constant norms of the gradient (arXiv 2310.07831, theorem 4)."""
    return 1.0 - min(1.0, progress)


SCHEDULES: dict[str, Schedule] = {"cosine": cosine, "linear": linear, "constant": constant}
"""The schedules that need nothing but the progress, by name."""


def refined(norms: Sequence[float], power: float = 1.0, width: float = 0.1) -> tuple[float, ...]:
    """The schedule that the norms of a pilot run's gradients ask for, as parts of its peak at equal distances.

        w_t = norm_t^-power;   rate_t ~ w_t sum_(p >= t) w_p

    after a running median, reflected at both ends. Constant norms give the linear schedule, rising ones a warm-up of
    its own, falling ones an early decay. The norms must be those before clipping.

    Args:
        norms: of the gradients of the pilot's updates, at equal distances; the l1 norm with power 1 for Adam and other
            methods of unit steps, the l2 norm with power 2 for plain gradient descent.
        power: see there.
        width: of the median, as a part of the run.

    Raises:
        ValueError: there are no norms, or one is not positive and finite.

    Defazio, Cutkosky, Mehta and Mishchenko, Optimal Linear Decay Learning Rate Schedules and Further Refinements,
    arXiv 2310.07831, algorithm 1 and theorem 3.
    """
    wrong = [n for n in norms if not (math.isfinite(n) and n > 0)]
    if not norms or wrong:
        raise ValueError(
            f"refined got {len(norms)} norms, of which {wrong[:3]} are not positive and finite."
        )
    smooth = _running_median(norms, max(1, round(width * len(norms))))
    least = min(smooth)  # a common factor, which keeps the powers in range
    weights = [(n / least) ** -power for n in smooth]
    rest = list(accumulate(reversed(weights)))[::-1]
    rates = [w * r for w, r in zip(weights, rest, strict=True)]
    return tuple(r / max(rates) for r in rates)


def tabulated(rates: Sequence[float]) -> Schedule:
    """A schedule through values at progress 0, 1/n, 2/n, ... and zero at the end."""
    values = [*rates, 0.0]

    def schedule(progress: float) -> float:
        place = min(1.0, max(0.0, progress)) * (len(values) - 1)
        index = min(int(place), len(values) - 2)
        return values[index] + (place - index) * (values[index + 1] - values[index])

    return schedule


def batch_scaled(rate: float, batch: int, reference: int, power: float = 0.5) -> float:
    """A rate found at one size of batches for another one: times (batch / reference)^power.

    The square root is right for Adam and other methods of unit steps, power 1 for gradient descent with momentum, each
    until the sharpest direction of the full loss limits the rate (Granziol, Zohren and Roberts, arXiv 2006.09092).

    Raises:
        ValueError: a size is below one, or the rate is not positive.
    """
    if batch < 1 or reference < 1 or not rate > 0:
        raise ValueError(
            f"batch_scaled got rate={rate}, batch={batch}, reference={reference}; expected positive numbers."
        )
    return rate * (batch / reference) ** power


def _running_median(values: Sequence[float], width: int) -> list[float]:
    half, n = width // 2, len(values)

    def at(i: int) -> float:
        i %= 2 * n  # reflected at both ends, the end value twice
        return values[i if i < n else 2 * n - 1 - i]

    return [median(at(j) for j in range(i - half, i + half + 1)) for i in range(n)]
