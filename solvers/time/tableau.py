"""Explicit Runge-Kutta methods as tables of numbers."""

from __future__ import annotations

import cmath
import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Tableau:
    """An explicit Runge-Kutta method (Butcher's table).

    Args:
        a: the rows below the first; row j holds the weights of the j earlier slopes.
        b: weights of the slopes in the step.
        c: times of the stages in units of the step, the first one zero; the sums of the rows.
        order: order of accuracy.
        name: what reports and messages call it.

    Raises:
        ValueError: the numbers of rows, weights and times differ, or are inconsistent.
    """

    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]
    c: tuple[float, ...]
    order: int
    name: str

    def __post_init__(self) -> None:
        stages = len(self.b)
        if [len(row) for row in self.a] != list(range(1, stages)) or len(self.c) != stages:
            raise ValueError(
                f"Tableau {self.name!r} got {stages} weights b, {len(self.c)} times c and rows a of lengths "
                f"{[len(row) for row in self.a]}; expected {stages} times and rows of lengths "
                f"{list(range(1, stages))}."
            )
        sums = (0.0, *(sum(row) for row in self.a))
        if not math.isclose(sum(self.b), 1.0, abs_tol=1e-12) or any(
            not math.isclose(s, t, abs_tol=1e-12) for s, t in zip(sums, self.c, strict=True)
        ):
            raise ValueError(
                f"Tableau {self.name!r} is inconsistent: b sums to {sum(self.b)} (expected 1) and the rows of "
                f"a to {sums} (expected c = {self.c})."
            )

    def amplification(self, z: complex) -> complex:
        """Growth factor R(z) of u' = lambda u over one step, z = lambda dt."""
        slopes: list[complex] = [1.0]
        for row in self.a:
            slopes.append(1.0 + z * sum(w * k for w, k in zip(row, slopes, strict=True)))
        return 1.0 + z * sum(w * k for w, k in zip(self.b, slopes, strict=True))

    def stability_limit(self, direction: complex) -> float:
        """Largest r such that |R(s direction)| <= 1 for all s up to r; 0 where there is none.

        Direction -1 is diffusion, 1j is advection by central differences. Rounding is forgiven, so that
        the order of contact at the origin decides and not its last digit.
        """
        direction = direction / abs(direction)
        step, reach = 0.01, 0.0
        while reach < 100.0 and abs(self.amplification((reach + step) * direction)) <= 1.0 + 1e-9:
            reach += step
        low, high = reach, reach + step
        for _ in range(40):
            middle = 0.5 * (low + high)
            inside = abs(self.amplification(middle * direction)) <= 1.0 + 1e-9
            low, high = (middle, high) if inside else (low, middle)
        # A method that leaves the unit disc at once passes the test only through the forgiven rounding.
        return low if reach > 0.0 else 0.0

    @property
    def sector_limit(self) -> float:
        """Radius of the largest half disc of the left half plane, without the imaginary axis, that is stable.

        The bound to use for operators that damp and carry at once. Angles from 100 to 180 degrees.
        """
        return min(self.stability_limit(cmath.exp(1j * math.radians(t))) for t in range(100, 181, 5))


EULER = Tableau((), (1.0,), (0.0,), 1, "Euler")
MIDPOINT = Tableau(((0.5,),), (0.0, 1.0), (0.0, 0.5), 2, "midpoint")
HEUN = Tableau(((1.0,),), (0.5, 0.5), (0.0, 1.0), 2, "Heun")
RALSTON = Tableau(((2 / 3,),), (0.25, 0.75), (0.0, 2 / 3), 2, "Ralston")
RK3 = Tableau(((0.5,), (-1.0, 2.0)), (1 / 6, 2 / 3, 1 / 6), (0.0, 0.5, 1.0), 3, "Kutta 3")
# Shu and Osher (1988), equation 2.18: convex combinations of Euler steps, which keep what Euler keeps.
SSPRK3 = Tableau(((1.0,), (0.25, 0.25)), (1 / 6, 1 / 6, 2 / 3), (0.0, 1.0, 0.5), 3, "SSPRK3")
RK4 = Tableau(
    ((0.5,), (0.0, 0.5), (0.0, 0.0, 1.0)), (1 / 6, 1 / 3, 1 / 3, 1 / 6), (0.0, 0.5, 0.5, 1.0), 4, "RK4"
)
RK38 = Tableau(
    ((1 / 3,), (-1 / 3, 1.0), (1.0, -1.0, 1.0)),
    (1 / 8, 3 / 8, 3 / 8, 1 / 8),
    (0.0, 1 / 3, 2 / 3, 1.0),
    4,
    "Kutta 3/8",
)
# Dormand and Prince (1980), the fifth-order weights of their 5(4) pair without its error estimate.
DOPRI5 = Tableau(
    (
        (1 / 5,),
        (3 / 40, 9 / 40),
        (44 / 45, -56 / 15, 32 / 9),
        (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
        (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    ),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
    (0.0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0),
    5,
    "Dormand-Prince 5",
)
# Tsitouras, Comput. Math. Appl. 62 (2011) 770-775: order 5 with a smaller error than Dormand and Prince's.
TSIT5 = Tableau(
    (
        (0.161,),
        (-0.008480655492356989, 0.335480655492357),
        (2.8971530571054935, -6.359448489975075, 4.3622954328695815),
        (5.325864828439257, -11.748883564062828, 7.4955393428898365, -0.09249506636175525),
        (
            5.86145544294642,
            -12.92096931784711,
            8.159367898576159,
            -0.071584973281401,
            -0.028269050394068383,
        ),
    ),
    (
        0.09646076681806523,
        0.01,
        0.4798896504144996,
        1.379008574103742,
        -3.290069515436081,
        2.324710524099774,
    ),
    (0.0, 0.161, 0.327, 0.9, 0.9800255409045097, 1.0),
    5,
    "Tsitouras 5",
)

TABLEAUS: tuple[Tableau, ...] = (EULER, MIDPOINT, HEUN, RALSTON, RK3, SSPRK3, RK4, RK38, DOPRI5, TSIT5)
