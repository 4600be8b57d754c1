"""Implicit methods of low order with their explicit partners, beside those of `sciml.solvers.time`."""

from __future__ import annotations

import math
from typing import Literal

from sciml.solvers.time import ARK4, ARS222, ARS443, ImexTableau, Tableau

# The one implicit step that keeps order and positivity at any size.
BACKWARD_EULER = ImexTableau(
    Tableau(((1.0,),), (1.0, 0.0), (0.0, 1.0), 1, "Euler"), ((0.0, 1.0),), (0.0, 1.0), 1, "backward Euler"
)
# Not damped: what a step cannot resolve oscillates. With Heun's method for the explicit part.
CRANK_NICOLSON = ImexTableau(
    Tableau(((1.0,),), (0.5, 0.5), (0.0, 1.0), 2, "Heun"), ((0.5, 0.5),), (0.5, 0.5), 2, "Crank-Nicolson"
)
_ROOT = math.sqrt(2.0)
_GAMMA = 1.0 - _ROOT / 2
_LAST = (3.0 + 2.0 * _ROOT) / 6
# Bank et al., IEEE Trans. CAD 4 (1985) 436-451; explicit partner of Giraldo, Kelly and Constantinescu,
# SIAM J. Sci. Comput. 35 (2013) B1162-B1194, section 2.1.
TR_BDF2 = ImexTableau(
    Tableau(
        ((2.0 - _ROOT,), (1.0 - _LAST, _LAST)),
        (_ROOT / 4, _ROOT / 4, _GAMMA),
        (0.0, 2.0 - _ROOT, 1.0),
        2,
        "TR-BDF2 explicit",
    ),
    ((_GAMMA, _GAMMA), (_ROOT / 4, _ROOT / 4, _GAMMA)),
    (_ROOT / 4, _ROOT / 4, _GAMMA),
    2,
    "TR-BDF2",
)

Scheme = Literal["backward-euler", "crank-nicolson", "tr-bdf2", "ars222", "ars443", "ark4"]
SCHEMES: dict[str, ImexTableau] = {
    "backward-euler": BACKWARD_EULER,
    "crank-nicolson": CRANK_NICOLSON,
    "tr-bdf2": TR_BDF2,
    "ars222": ARS222,
    "ars443": ARS443,
    "ark4": ARK4,
}
