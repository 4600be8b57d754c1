"""What the optimisers' constructors refuse."""

from __future__ import annotations

import math
from collections.abc import Sequence


def check_numbers(owner: str, **values: float) -> None:
    """Rates, decays and the like.

    Raises:
        ValueError: one is negative or not finite.
    """
    for name, value in values.items():
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{owner} got {name}={value}; expected a finite number, 0 or more.")


def check_betas(owner: str, betas: Sequence[float]) -> None:
    """Decay rates of two moments.

    Raises:
        ValueError: they are not two numbers in [0, 1).
    """
    if len(betas) != 2 or not all(0 <= b < 1 for b in betas):
        raise ValueError(f"{owner} got betas={tuple(betas)}; expected two numbers in [0, 1).")
