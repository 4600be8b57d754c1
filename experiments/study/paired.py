"""Comparing two surrogates that met the same seeds and the same initial states, and counting what fell over."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

SMALLEST = 1e-12
"""Errors below are taken for this one, so that an exact prediction has a logarithm."""


@dataclass(frozen=True)
class Interval:
    """An estimate with the interval that holds it at some level."""

    value: float
    low: float
    high: float

    @property
    def decided(self) -> int:
        """-1 where all of the interval lies below one, 1 where it lies above, 0 where it holds one."""
        return -1 if self.high < 1 else 1 if self.low > 1 else 0


@dataclass(frozen=True)
class Paired:
    """What came out of a comparison of errors a with errors b.

    Args:
        ratio: geometric mean of a/b over all pairs, exp(mean(log a - log b)); below one, a is better.
        medians: median of a over median of b.
        better: share of pairs in which a is the smaller; ties count half.
        seeds, samples: how many of each.
        capped: how many errors of a and of b stand at the cap.
    """

    ratio: Interval
    medians: Interval
    better: float
    seeds: int
    samples: int
    capped: tuple[int, int]


def capped(errors: Array, cap: float) -> Array:
    """Errors with what is not finite or larger than the cap at the cap, none below `SMALLEST`."""
    return np.clip(np.where(np.isfinite(errors), errors, cap), SMALLEST, cap)


def compare(
    a: Array, b: Array, *, cap: float = 10.0, draws: int = 2000, seed: int = 0, level: float = 0.95
) -> Paired:
    """Compare errors of two surrogates pair by pair.

    Seeds and initial states are drawn again with replacement, independently of each other since every seed met every
    state, and both surrogates get the same draw; an interval is that between quantiles of the draws. With one seed
    it says nothing about other seeds, and with few of them it is too narrow.

    Owen, The pigeonhole bootstrap, Annals of Applied Statistics 1 (2007) 386-411, for rows and columns drawn
    independently.

    Args:
        a, b: errors (seeds, samples), positive; not finite where a rollout has blown up or a training has failed.
        cap: the largest error that counts.
        draws: of the bootstrap.
        seed: of the draws.
        level: of the intervals.

    Raises:
        ValueError: the arrays are empty, or not of the same shape.
    """
    if a.shape != b.shape or a.ndim != 2 or a.size == 0:
        raise ValueError(
            f"compare got errors of shapes {a.shape} and {b.shape}; expected the same seeds and samples for both, "
            "(seeds, samples)."
        )
    first, second = capped(a, cap), capped(b, cap)
    difference = np.log(first) - np.log(second)
    seeds, samples = a.shape
    generator = np.random.default_rng(seed)
    rows = generator.integers(0, seeds, (draws, seeds))
    columns = generator.integers(0, samples, (draws, samples))
    means, medians = np.empty(draws), np.empty(draws)
    for start in range(0, draws, 256):  # a draw of many seeds and samples is large
        part = slice(start, start + 256)
        taken = rows[part, :, None], columns[part, None, :]
        means[part] = difference[taken].mean(axis=(1, 2))
        medians[part] = np.median(first[taken], axis=(1, 2)) / np.median(second[taken], axis=(1, 2))
    tails = [(1 - level) / 2, (1 + level) / 2]
    low, high = np.exp(np.quantile(means, tails))
    ratio = Interval(float(np.exp(difference.mean())), float(low), float(high))
    low, high = np.quantile(medians, tails)
    middle = float(np.median(first) / np.median(second))
    return Paired(
        ratio,
        Interval(middle, float(low), float(high)),
        float((difference < 0).mean() + 0.5 * (difference == 0).mean()),
        seeds,
        samples,
        (int((first >= cap).sum()), int((second >= cap).sum())),
    )


def wilson(successes: int, trials: int, level: float = 0.95) -> Interval:
    """A share with its score interval, which stays within 0 and 1 and does not vanish where none or all succeed.

    Wilson, Journal of the American Statistical Association 22 (1927) 209-212. The trials are taken to be independent.

    Raises:
        ValueError: there are no trials, or more successes than trials.
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(
            f"wilson got {successes} successes in {trials} trials; expected some trials, and no more."
        )
    z = NormalDist().inv_cdf((1 + level) / 2)
    share = successes / trials
    scale = 1 + z**2 / trials
    centre = (share + z**2 / (2 * trials)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    # At the ends the two terms are equal, and only rounding would keep them apart.
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == trials else centre + half
    return Interval(share, low, high)
