"""Training losses as values."""

from sciml.objectives.all_pairs import AllPairs
from sciml.objectives.base import Discrepancy, Distance, Objective, Parts
from sciml.objectives.chains import DivertedChain, MixedChain
from sciml.objectives.dissipativity import Dissipativity
from sciml.objectives.distances import LogSpectrum, PerState, Sobolev
from sciml.objectives.equation_residual import EquationResidual, SolverDefect
from sciml.objectives.forced import (
    AdaptiveAlpha,
    Alpha,
    AnnealedAlpha,
    GeneralizedTeacherForcing,
    SparseTeacherForcing,
)
from sciml.objectives.invariant_measure import Gradients, InvariantMeasure, States, Statistics, Together
from sciml.objectives.maps import MapObjective, RelativeL2Map
from sciml.objectives.noisy import NoisyOneStep
from sciml.objectives.pushforward import Pushforward
from sciml.objectives.refinement import Refinement
from sciml.objectives.regularized import Regularized
from sciml.objectives.residual import Collocation, Residual
from sciml.objectives.schedules import Constant, Doubling, Geometric, Plateau, Ramp, Schedule, Stairs
from sciml.objectives.soft_constraint import SoftConstraint
from sciml.objectives.starts import Diverted, FreeSteps, Noise, RandomWalkNoise, Start
from sciml.objectives.terms import Term
from sciml.objectives.unrolled import OneStep, Unrolled
from sciml.objectives.weighted_sum import WeightedSum

OBJECTIVES: tuple[type[Objective], ...] = (
    OneStep,
    Unrolled,
    Pushforward,
    NoisyOneStep,
    DivertedChain,
    MixedChain,
    AllPairs,
    Refinement,
    Dissipativity,
    GeneralizedTeacherForcing,
    SparseTeacherForcing,
    Regularized,
    WeightedSum,
)

__all__ = [
    "OBJECTIVES",
    "AdaptiveAlpha",
    "AllPairs",
    "Alpha",
    "AnnealedAlpha",
    "Collocation",
    "Constant",
    "Discrepancy",
    "Dissipativity",
    "Distance",
    "Diverted",
    "DivertedChain",
    "Doubling",
    "EquationResidual",
    "FreeSteps",
    "GeneralizedTeacherForcing",
    "Geometric",
    "Gradients",
    "InvariantMeasure",
    "LogSpectrum",
    "MapObjective",
    "MixedChain",
    "Noise",
    "NoisyOneStep",
    "Objective",
    "OneStep",
    "Parts",
    "PerState",
    "Plateau",
    "Pushforward",
    "Ramp",
    "RandomWalkNoise",
    "Refinement",
    "Regularized",
    "RelativeL2Map",
    "Residual",
    "Schedule",
    "Sobolev",
    "SoftConstraint",
    "SolverDefect",
    "SparseTeacherForcing",
    "Stairs",
    "Start",
    "States",
    "Statistics",
    "Term",
    "Together",
    "Unrolled",
    "WeightedSum",
]
