"""Penalties on the Jacobian of a step, and diagnostics of it."""

from sciml.regularizers.base import Regularizer
from sciml.regularizers.frobenius import Frobenius
from sciml.regularizers.jacobian import (
    jacobian_diagnostics,
    jacobian_energy,
    jacobian_vector,
    leading_lyapunov,
    spectral_norm,
    vector_jacobian,
)
from sciml.regularizers.jaws import JAWS

REGULARIZERS: tuple[type[Regularizer], ...] = (Frobenius, JAWS)

__all__ = [
    "JAWS",
    "REGULARIZERS",
    "Frobenius",
    "Regularizer",
    "jacobian_diagnostics",
    "jacobian_energy",
    "jacobian_vector",
    "leading_lyapunov",
    "spectral_norm",
    "vector_jacobian",
]
