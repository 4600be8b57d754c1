"""The Jacobian of a step: products with it, numbers estimated from them, and how errors grow along a rollout."""

from sciml.jacobian.lyapunov import kaplan_yorke_dimension, leading_exponent, lyapunov_spectrum
from sciml.jacobian.products import (
    jacobian_diagnostics,
    jacobian_energy,
    jacobian_vector,
    leading_lyapunov,
    spectral_norm,
    vector_jacobian,
)

__all__ = [
    "jacobian_diagnostics",
    "jacobian_energy",
    "jacobian_vector",
    "kaplan_yorke_dimension",
    "leading_exponent",
    "leading_lyapunov",
    "lyapunov_spectrum",
    "spectral_norm",
    "vector_jacobian",
]
