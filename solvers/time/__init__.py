"""Time integrators: Runge-Kutta methods of several kinds, exponential and symplectic ones. None mentions space."""

from sciml.solvers.time.adaptive import (
    DORMAND_PRINCE,
    TSITOURAS,
    AcceptedStep,
    AdaptiveSolution,
    EmbeddedPair,
    adaptive_rk,
)
from sciml.solvers.time.composition import (
    COMPOSITIONS,
    SINGLE,
    SUZUKI4,
    TRIPLE_JUMP,
    YOSHIDA6,
    Composition,
)
from sciml.solvers.time.etdrk import Etdrk, contour, etdrk
from sciml.solvers.time.explicit import explicit_rk
from sciml.solvers.time.imex import ARK4, ARS222, ARS443, IMEX, Imex, ImexTableau, imex
from sciml.solvers.time.implicit_midpoint import implicit_midpoint
from sciml.solvers.time.splitting import SPLITTINGS, STRANG, YOSHIDA4, Splitting, splitting
from sciml.solvers.time.symplectic import symplectic
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
    TSIT5,
    Tableau,
)

__all__ = [
    "ARK4",
    "ARS222",
    "ARS443",
    "COMPOSITIONS",
    "DOPRI5",
    "DORMAND_PRINCE",
    "EULER",
    "HEUN",
    "IMEX",
    "MIDPOINT",
    "RALSTON",
    "RK3",
    "RK4",
    "RK38",
    "SINGLE",
    "SPLITTINGS",
    "SSPRK3",
    "STRANG",
    "SUZUKI4",
    "TABLEAUS",
    "TRIPLE_JUMP",
    "TSIT5",
    "TSITOURAS",
    "YOSHIDA4",
    "YOSHIDA6",
    "AcceptedStep",
    "AdaptiveSolution",
    "Composition",
    "EmbeddedPair",
    "Etdrk",
    "Imex",
    "ImexTableau",
    "Splitting",
    "Tableau",
    "adaptive_rk",
    "contour",
    "etdrk",
    "explicit_rk",
    "imex",
    "implicit_midpoint",
    "splitting",
    "symplectic",
]
