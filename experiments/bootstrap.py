"""How sure a median over seeds and initial states is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Estimate:
    """A number with an interval that covers it in 95 of 100 repetitions.

    `low` and `high` are None where there is but one sample to draw from, and infinite where the number may be.
    """

    value: float
    low: float | None = None
    high: float | None = None


def median_of_medians(values: np.ndarray) -> np.ndarray:
    """Median over seeds of the median over samples, (..., seeds, samples) -> (...); infinity is a number."""
    return _median(_median(values))


def _median(values: np.ndarray) -> np.ndarray:
    ordered = np.sort(values, axis=-1)
    n = ordered.shape[-1]
    low, high = ordered[..., (n - 1) // 2], ordered[..., n // 2]
    # Half way between a number and infinity is infinity; between two infinities there is no half way.
    return np.where(np.isinf(high), high, (low + np.where(np.isinf(high), low, high)) / 2)


def interval(
    groups: Sequence[np.ndarray],
    statistic: Callable[[np.ndarray], np.ndarray] = median_of_medians,
    *,
    draws: int = 500,
    level: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """A statistic over seeds and samples with its bootstrap interval (percentiles; Efron and Tibshirani 1993).

    Seeds and initial states are drawn anew independently of each other, each with replacement: all seeds have met the
    same initial states, so that the rows and the columns of one table are exchangeable, its entries are not (Owen,
    Annals of Applied Statistics 1, 2007). It is a little too wide rather than too narrow.

    Args:
        groups: per seed one number per sample, (B,) each; infinity is a number.
        statistic: (draws, seeds, samples) -> (draws,).
        draws: bootstrap repetitions.
        level: what the interval is to cover.
        seed: of the draws.
    """
    table = np.stack(groups).astype(float)
    value = float(statistic(table[None])[0])
    if table.size < 2:
        return Estimate(value)
    random = np.random.default_rng(seed)
    rows = random.integers(0, table.shape[0], (draws, table.shape[0]))
    columns = random.integers(0, table.shape[1], (draws, table.shape[1]))
    found = np.sort(statistic(table[rows[:, :, None], columns[:, None, :]]))
    outer = (1 - level) / 2
    low, high = found[int(outer * (draws - 1))], found[int(np.ceil((1 - outer) * (draws - 1)))]
    return Estimate(value, float(low), float(high))
