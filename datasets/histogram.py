"""Counts of values in bins that widen as values come, so that one pass suffices and nothing is kept of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

BINS = 128
"""Most bins."""


class Histogram:
    """How often values fall into bins of width 2^e, whose edges are multiples of it.

    A value beyond the bins makes them twice as wide, neighbours merged, as often as needed: counts are exact at any
    time, whatever the order in which values came.
    """

    def __init__(self) -> None:
        self.counts = np.zeros(BINS, dtype=np.int64)
        self.low, self.exponent, self.total = 0, 0, 0
        self.smallest, self.largest = math.inf, -math.inf

    def add(self, values: np.ndarray) -> None:
        """Take in finite values of any shape."""
        if not values.size:
            return
        least, most = float(values.min()), float(values.max())
        if not self.total:
            # Bins far finer than the first values ask for, and not finer than float32 tells apart.
            width = max(most - least, 2.0**-20 * max(abs(least), abs(most)), 1e-300) / (BINS / 2)
            self.exponent = math.ceil(math.log2(width))
            self.low = math.floor(least / 2.0**self.exponent)
        self.total += values.size
        self.smallest, self.largest = min(self.smallest, least), max(self.largest, most)
        while True:
            width = 2.0**self.exponent
            first, last = math.floor(least / width), math.floor(most / width)
            held = np.flatnonzero(self.counts)
            low = min(first, self.low + int(held[0])) if held.size else first
            high = max(last, self.low + int(held[-1])) if held.size else last
            if high - low < BINS:
                break
            self._widen()
        self._shift(low)
        index = np.floor(values.reshape(-1) / np.float64(width)).astype(np.int64) - low
        self.counts += np.bincount(np.clip(index, 0, BINS - 1), minlength=BINS)

    def _shift(self, low: int) -> None:
        """Let the bins start at `low` widths; what is counted stays inside."""
        counts = np.zeros_like(self.counts)
        held = np.flatnonzero(self.counts)
        counts[held + self.low - low] = self.counts[held]
        self.counts, self.low = counts, low

    def _widen(self) -> None:
        """Merge neighbours."""
        held = np.flatnonzero(self.counts)
        pairs = (self.low + held) // 2
        low = self.low // 2
        counts = np.zeros_like(self.counts)
        np.add.at(counts, pairs - low, self.counts[held])
        self.counts, self.low, self.exponent = counts, low, self.exponent + 1

    @property
    def edges(self) -> np.ndarray:
        """Edges of the bins that hold something, ascending."""
        held = np.flatnonzero(self.counts)
        if not held.size:
            return np.zeros(1)
        return (self.low + np.arange(held[0], held[-1] + 2)) * 2.0**self.exponent

    def as_dict(self) -> dict[str, Any]:
        """Edges and counts, ready for JSON."""
        held = np.flatnonzero(self.counts)
        counts = self.counts[held[0] : held[-1] + 1].tolist() if held.size else []
        return {
            "smallest": self.smallest if self.total else None,
            "largest": self.largest if self.total else None,
            "edges": self.edges.tolist(),
            "counts": counts,
        }
