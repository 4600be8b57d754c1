"""Penalties on the Jacobian of a step."""

from sciml.regularizers.asymmetry import Asymmetry
from sciml.regularizers.base import Regularizer
from sciml.regularizers.frobenius import Frobenius
from sciml.regularizers.hinge import Hinge
from sciml.regularizers.jaws import JAWS
from sciml.regularizers.local_error import LocalError
from sciml.regularizers.log_determinant import LogDeterminant
from sciml.regularizers.spectral_norm import SpectralNorm
from sciml.regularizers.student_t import StudentT

REGULARIZERS: tuple[type[Regularizer], ...] = (
    Frobenius,
    Hinge,
    SpectralNorm,
    LogDeterminant,
    StudentT,
    Asymmetry,
    JAWS,
    LocalError,
)

__all__ = [
    "JAWS",
    "REGULARIZERS",
    "Asymmetry",
    "Frobenius",
    "Hinge",
    "LocalError",
    "LogDeterminant",
    "Regularizer",
    "SpectralNorm",
    "StudentT",
]
