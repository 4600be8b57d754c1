"""Hard constraints: projections onto admissible states, and how far a state is from them."""

from sciml.constraints.base import Constraint, Context
from sciml.constraints.block_average import BlockAverage
from sciml.constraints.bounds import Bounds
from sciml.constraints.chain import Chain
from sciml.constraints.conserved_mean import ConservedMean
from sciml.constraints.divergence_free import DivergenceFree
from sciml.constraints.energy import Energy
from sciml.constraints.fixed_values import FixedValues
from sciml.constraints.linear import Linear
from sciml.constraints.linear_rows import LinearRows
from sciml.constraints.row_maps import DenseRows, FunctionRows, RowMap, SparseRows
from sciml.constraints.side_conditions import SideCondition, SideConditions
from sciml.constraints.stack import Stack
from sciml.constraints.staggered_divergence_free import StaggeredDivergenceFree

CONSTRAINTS: tuple[type[Constraint], ...] = (
    ConservedMean,
    DivergenceFree,
    StaggeredDivergenceFree,
    Energy,
    Bounds,
    LinearRows,
    BlockAverage,
    FixedValues,
    SideConditions,
    Stack,
    Chain,
)

__all__ = [
    "CONSTRAINTS",
    "BlockAverage",
    "Bounds",
    "Chain",
    "Constraint",
    "ConservedMean",
    "Context",
    "DenseRows",
    "DivergenceFree",
    "Energy",
    "FixedValues",
    "FunctionRows",
    "Linear",
    "LinearRows",
    "RowMap",
    "SideCondition",
    "SideConditions",
    "SparseRows",
    "Stack",
    "StaggeredDivergenceFree",
]
