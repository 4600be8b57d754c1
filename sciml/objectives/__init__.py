"""Training losses as values."""

from sciml.objectives.base import Discrepancy, Distance, Objective, Parts
from sciml.objectives.forced import (
    AdaptiveAlpha,
    Alpha,
    AnnealedAlpha,
    GeneralizedTeacherForcing,
    SparseTeacherForcing,
)
from sciml.objectives.maps import MapObjective, RelativeL2Map
from sciml.objectives.noisy import NoisyOneStep
from sciml.objectives.pushforward import Pushforward
from sciml.objectives.regularized import Regularized
from sciml.objectives.residual import Collocation, Residual
from sciml.objectives.schedules import Constant, Doubling, Geometric, Ramp, Schedule, Stairs
from sciml.objectives.starts import Diverted, FreeSteps, Noise, RandomWalkNoise, Start
from sciml.objectives.terms import Term
from sciml.objectives.unrolled import OneStep, Unrolled
from sciml.objectives.weighted_sum import WeightedSum

OBJECTIVES: tuple[type[Objective], ...] = (
    OneStep,
    Unrolled,
    Pushforward,
    NoisyOneStep,
    GeneralizedTeacherForcing,
    SparseTeacherForcing,
    Regularized,
    WeightedSum,
)

__all__ = [
    "OBJECTIVES",
    "AdaptiveAlpha",
    "Alpha",
    "AnnealedAlpha",
    "Collocation",
    "Constant",
    "Discrepancy",
    "Distance",
    "Diverted",
    "Doubling",
    "FreeSteps",
    "GeneralizedTeacherForcing",
    "Geometric",
    "MapObjective",
    "Noise",
    "NoisyOneStep",
    "Objective",
    "OneStep",
    "Parts",
    "Pushforward",
    "Ramp",
    "RandomWalkNoise",
    "Regularized",
    "RelativeL2Map",
    "Residual",
    "Schedule",
    "SparseTeacherForcing",
    "Stairs",
    "Start",
    "Term",
    "Unrolled",
    "WeightedSum",
]
