"""Hard constraints: projections onto admissible states, and how far a state is from them."""

from sciml.constraints.base import Constraint, Context
from sciml.constraints.block_average import BlockAverage
from sciml.constraints.bounds import Bounds
from sciml.constraints.chain import Chain
from sciml.constraints.completion import Completion
from sciml.constraints.conserved_mean import ConservedMean
from sciml.constraints.convex_set import ConvexSet
from sciml.constraints.divergence_free import DivergenceFree
from sciml.constraints.energy import Energy
from sciml.constraints.entropy import Entropy, GasEntropy
from sciml.constraints.equation_experts import EquationExperts, EquationFit
from sciml.constraints.equations import GasTotals, Invariants, Quadratic
from sciml.constraints.fixed_values import FixedValues
from sciml.constraints.inequalities import Inequalities
from sciml.constraints.linear import Linear
from sciml.constraints.linear_rows import LinearRows
from sciml.constraints.nonlinear import Infeasible, Nonlinear
from sciml.constraints.partitions import BlockPartition, Partition, RandomPartition
from sciml.constraints.pointwise import (
    DiffusionResidual,
    FunctionResidual,
    PointwiseResidual,
    VorticityResidual,
)
from sciml.constraints.row_maps import DenseRows, FunctionRows, RowMap, SparseRows
from sciml.constraints.side_conditions import SideCondition, SideConditions
from sciml.constraints.simplex import Simplex
from sciml.constraints.stack import Stack
from sciml.constraints.staggered_divergence_free import StaggeredDivergenceFree
from sciml.constraints.symmetric import Symmetric
from sciml.constraints.tensor_form import TensorForm

CONSTRAINTS: tuple[type[Constraint], ...] = (
    ConservedMean,
    DivergenceFree,
    StaggeredDivergenceFree,
    Energy,
    Entropy,
    Bounds,
    Simplex,
    LinearRows,
    BlockAverage,
    FixedValues,
    SideConditions,
    Symmetric,
    TensorForm,
    Inequalities,
    Nonlinear,
    ConvexSet,
    Completion,
    Stack,
    Chain,
)

__all__ = [
    "CONSTRAINTS",
    "BlockAverage",
    "BlockPartition",
    "Bounds",
    "Chain",
    "Completion",
    "ConservedMean",
    "Constraint",
    "Context",
    "ConvexSet",
    "DenseRows",
    "DiffusionResidual",
    "DivergenceFree",
    "Energy",
    "Entropy",
    "EquationExperts",
    "EquationFit",
    "FixedValues",
    "FunctionResidual",
    "FunctionRows",
    "GasEntropy",
    "GasTotals",
    "Inequalities",
    "Infeasible",
    "Invariants",
    "Linear",
    "LinearRows",
    "Nonlinear",
    "Partition",
    "PointwiseResidual",
    "Quadratic",
    "RandomPartition",
    "RowMap",
    "Simplex",
    "SideCondition",
    "SideConditions",
    "SparseRows",
    "Stack",
    "StaggeredDivergenceFree",
    "Symmetric",
    "TensorForm",
    "VorticityResidual",
]
