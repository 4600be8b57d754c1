"""Time integrators: tables of Runge-Kutta methods and exponential integrators. None mentions space."""

from sciml.solvers.time.etdrk import Etdrk, contour, etdrk
from sciml.solvers.time.explicit import explicit_rk
from sciml.solvers.time.splitting import SPLITTINGS, STRANG, YOSHIDA4, Splitting, splitting
from sciml.solvers.time.tableau import (
    DOPRI5,
    EULER,
    HEUN,
    MIDPOINT,
    RALSTON,
    RK3,
    RK4,
    RK38,
    SSPRK3,
    TABLEAUS,
    Tableau,
)

__all__ = [
    "DOPRI5",
    "EULER",
    "HEUN",
    "MIDPOINT",
    "RALSTON",
    "RK3",
    "RK38",
    "RK4",
    "SPLITTINGS",
    "SSPRK3",
    "STRANG",
    "TABLEAUS",
    "YOSHIDA4",
    "Etdrk",
    "Splitting",
    "Tableau",
    "contour",
    "etdrk",
    "explicit_rk",
    "splitting",
]
