"""Training losses as values."""

from sciml.objectives.base import Discrepancy, Objective, Parts
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
from sciml.objectives.unrolled import OneStep, Unrolled

OBJECTIVES: tuple[type[Objective], ...] = (
    OneStep,
    Unrolled,
    Pushforward,
    NoisyOneStep,
    GeneralizedTeacherForcing,
    SparseTeacherForcing,
    Regularized,
)

__all__ = [
    "OBJECTIVES",
    "AdaptiveAlpha",
    "Alpha",
    "AnnealedAlpha",
    "Collocation",
    "Discrepancy",
    "GeneralizedTeacherForcing",
    "MapObjective",
    "NoisyOneStep",
    "Objective",
    "OneStep",
    "Parts",
    "Pushforward",
    "Regularized",
    "RelativeL2Map",
    "Residual",
    "SparseTeacherForcing",
    "Unrolled",
]
