"""Higher orders from a symmetric step of order 2, taken several times with fractions of the time step."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Composition:
    """Fractions of the time step for which a symmetric basic method of order 2 runs in turn.

    Args:
        weights: the fractions, the same forwards and backwards; above order 2 some are negative.
        order: order in time of the whole.
        name: what reports call it.

    Raises:
        ValueError: the fractions are not symmetric or do not sum to 1.
    """

    weights: tuple[float, ...]
    order: int
    name: str

    def __post_init__(self) -> None:
        if self.weights != self.weights[::-1] or not math.isclose(sum(self.weights), 1.0, abs_tol=1e-12):
            raise ValueError(
                f"Composition {self.name!r} got weights {self.weights}, which sum to {sum(self.weights):.6g}; "
                "expected the same forwards and backwards, with sum 1."
            )

    def stability_limit(self) -> float:
        """Largest h omega for which kicks and drifts of an oscillator of frequency omega stay bounded.

        2 for Verlet. A step is stable while the trace of its matrix, of determinant one, lies within +-2.
        """
        step, reach = 1e-3, 0.0
        while reach < 100.0 and abs(self._trace(reach + step)) <= 2.0 + 1e-9:
            reach += step
        return reach

    def _trace(self, z: float) -> float:
        """Trace of the matrix of one step of q'' = -q with h = z."""
        total = 0.0
        for q, p in ((1.0, 0.0), (0.0, 1.0)):
            start = (q, p)
            for w in self.weights:
                p -= 0.5 * w * z * q
                q += w * z * p
                p -= 0.5 * w * z * q
            total += q if start[0] else p
        return total


def _symmetric(*outer: float) -> tuple[float, ...]:
    """The outer weights, the middle one that makes the sum 1, and the outer ones back."""
    return (*outer, 1.0 - 2.0 * sum(outer), *reversed(outer))


SINGLE = Composition((1.0,), 2, "order 2")
# Forest and Ruth (1990), Yoshida (1990): the outer steps overshoot and the middle one comes back.
TRIPLE_JUMP = Composition(_symmetric(1.0 / (2.0 - 2.0 ** (1.0 / 3.0))), 4, "triple jump of order 4")
# Suzuki (1990): five smaller steps, with an error some thirty times smaller than that of the triple jump.
SUZUKI4 = Composition(_symmetric(*[1.0 / (4.0 - 4.0 ** (1.0 / 3.0))] * 2), 4, "Suzuki's order 4")
# Yoshida (1990), table 1, solution A.
YOSHIDA6 = Composition(
    _symmetric(0.784513610477557263819, 0.235573213359358133684, -1.17767998417887100694),
    6,
    "Yoshida's order 6",
)

COMPOSITIONS: tuple[Composition, ...] = (SINGLE, TRIPLE_JUMP, SUZUKI4, YOSHIDA6)
