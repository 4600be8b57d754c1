"""Splitting of u' = A(u) + B(u) into the two exact flows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

Flow = Callable[[Tensor, float], Tensor]
"""The state after a time that may be negative, given the state: (u, time) -> u."""


@dataclass(frozen=True)
class Splitting:
    """Fractions of a step for which the two flows run in turn: a_1 of A, b_1 of B, a_2 of A, ...

    Args:
        name: as in the literature.
        first: fractions of flow A, one more than those of flow B.
        second: fractions of flow B.
        order: order in time.

    Raises:
        ValueError: the numbers do not fit, or the fractions of a flow do not sum to 1.
    """

    name: str
    first: tuple[float, ...]
    second: tuple[float, ...]
    order: int

    def __post_init__(self) -> None:
        sums = sum(self.first), sum(self.second)
        if len(self.first) != len(self.second) + 1 or max(abs(s - 1.0) for s in sums) > 1e-12:
            raise ValueError(
                f"Splitting {self.name!r} got {len(self.first)} and {len(self.second)} fractions that sum to "
                f"{sums[0]:g} and {sums[1]:g}; expected one more of the first flow, and sums of 1."
            )


STRANG = Splitting("Strang", (0.5, 0.5), (1.0,), 2)

# Three Strang steps of w, 1 - 2 w, w: the middle one runs backwards, as order 4 needs.
_W = 1 / (2 - 2 ** (1 / 3))
YOSHIDA4 = Splitting("Yoshida 4", (_W / 2, (1 - _W) / 2, (1 - _W) / 2, _W / 2), (_W, 1 - 2 * _W, _W), 4)

SPLITTINGS = (STRANG, YOSHIDA4)


def splitting(
    first: Flow, second: Flow, dt: float, scheme: Splitting = YOSHIDA4, *, substeps: int = 1
) -> Callable[[Tensor], Tensor]:
    """One step of u' = A(u) + B(u) as a function u -> u(t + dt), from the exact flows of A and of B.

    Keeps what both flows keep (mass and phase-space volume of Schroedinger's equation, to rounding), and
    is undone by a step of -dt. Schemes of an order above 2 run flows backwards in time, so that they
    must be reversible; diffusion is not. Differentiable as far as the flows are.

    Args:
        first, second: the flows (u, time) -> u; `first` runs more often.
        dt: time of the step [time].
        scheme: `STRANG` or `YOSHIDA4`, or one's own.
        substeps: equal steps inside one; the last and first flow of neighbours run as one.

    Strang, SIAM J. Numer. Anal. 5 (1968) 506-517; Yoshida, Physics Letters A 150 (1990) 262-268, section 3.
    """
    if substeps < 1:
        raise ValueError(f"splitting got substeps={substeps}; expected at least 1.")
    h = dt / substeps

    def step(u: Tensor) -> Tensor:
        u = first(u, scheme.first[0] * h)
        for index in range(substeps):
            for a, b in zip(scheme.first[1:-1], scheme.second[:-1], strict=True):
                u = first(second(u, b * h), a * h)
            u = second(u, scheme.second[-1] * h)
            last = scheme.first[-1] + (scheme.first[0] if index < substeps - 1 else 0.0)
            u = first(u, last * h)
        return u

    return step
