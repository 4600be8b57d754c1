"""Hard constraints: projections onto admissible states, and how far a state is from them."""

from sciml.constraints.base import Constraint, Context
from sciml.constraints.bounds import Bounds
from sciml.constraints.chain import Chain
from sciml.constraints.conserved_mean import ConservedMean
from sciml.constraints.divergence_free import DivergenceFree
from sciml.constraints.energy import Energy

CONSTRAINTS: tuple[type[Constraint], ...] = (ConservedMean, DivergenceFree, Energy, Bounds, Chain)

__all__ = [
    "CONSTRAINTS",
    "Bounds",
    "Chain",
    "Constraint",
    "ConservedMean",
    "Context",
    "DivergenceFree",
    "Energy",
]
