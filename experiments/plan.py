"""Which steps of a rollout are looked at: all of a short one, a growing spacing along a long one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

# Rollouts up to this length are scored at every step.
DENSE = 1000
# Longer ones at every step up to here, and then at steps that are two percent apart.
EARLY, SPACING = 100, 1.02
# How many states of a rollout enter its statistics, and the share of the rollout before them that does not.
SAMPLED, TRANSIENT = 1000, 0.2
# Statistics are kept for this many equal pieces of time.
BLOCKS = 8


@dataclass(frozen=True)
class Plan:
    """What is measured when.

    Args:
        steps: length of the rollout.
        trained: length of the training trajectories.
        known: steps that have a truth.
    """

    steps: int
    trained: int
    known: int

    @cached_property
    def leads(self) -> np.ndarray:
        """Lead steps (L,) at which predictions are compared with the truth, increasing, the last included."""
        if self.steps <= DENSE:
            return np.arange(1, self.steps + 1)
        count = int(math.log(self.steps / EARLY) / math.log(SPACING))
        spaced = (round(EARLY * SPACING**k) for k in range(1, count + 1))
        chosen = {*range(1, EARLY + 1), *spaced, *self.spectra, self.known}
        return np.array(sorted(chosen))

    @cached_property
    def spectra(self) -> tuple[int, ...]:
        """Lead steps whose spectra are kept: the first, the end of training, half way and the last."""
        return tuple(
            sorted({1, min(self.trained, self.known), max(1, self.known // 2), self.known, self.steps})
        )

    @cached_property
    def first(self) -> int:
        """The first step that enters the statistics."""
        return min(self.steps, int(TRANSIENT * self.steps) + 1)

    @cached_property
    def every(self) -> int:
        """Steps between states that enter the statistics."""
        return max(1, (self.steps - self.first + 1) // SAMPLED)

    def block(self, step: int) -> int | None:
        """The piece of time that a state counts for in the statistics; None if it is not looked at."""
        if step < self.first or (step - self.first) % self.every:
            return None
        return BLOCKS * (step - self.first) // (self.steps - self.first + 1)

    @cached_property
    def index(self) -> dict[int, int]:
        """Lead step -> its place in `leads`."""
        return {int(step): place for place, step in enumerate(self.leads)}

    def describe(self) -> str:
        """In words, for the report."""
        if self.steps <= DENSE:
            points = f"every one of {self.steps} steps"
        else:
            points = (
                f"{len(self.leads)} of {self.steps:,} steps (each of the first {EARLY}, then "
                f"{SPACING - 1:.0%} apart)"
            )
        which = "every step" if self.every == 1 else f"one step in {self.every}"
        return (
            f"Errors are measured at {points}; statistics take {which} from step {self.first:,} on; that a state is "
            "finite, bounded and moving is checked at every step."
        )
