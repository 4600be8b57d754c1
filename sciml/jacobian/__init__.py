"""The Jacobian of a step: products with it, numbers estimated from them, and how errors grow along a rollout."""

from sciml.jacobian.asymmetry import asymmetry, symmetry
from sciml.jacobian.circulation import circulation
from sciml.jacobian.determinant import log_determinant
from sciml.jacobian.diagnostics import jacobian_diagnostics
from sciml.jacobian.eigenvalues import Eigenvalues, leading_eigenvalues, spectral_radius
from sciml.jacobian.energy import jacobian_energy
from sciml.jacobian.lyapunov import (
    LyapunovExponents,
    finite_time_exponents,
    kaplan_yorke_dimension,
    leading_exponent,
    lyapunov_exponents,
    lyapunov_spectrum,
)
from sciml.jacobian.products import Jacobian, dense_jacobian, jacobian_vector, vector_jacobian
from sciml.jacobian.remembered import Remembered
from sciml.jacobian.semigroup import semigroup_defect
from sciml.jacobian.singular import leading_singular, spectral_norm, worst_direction
from sciml.jacobian.transient import TransientGrowth, transient_growth
from sciml.jacobian.wavenumbers import ShellResponse, shell_response

__all__ = [
    "Eigenvalues",
    "Jacobian",
    "LyapunovExponents",
    "Remembered",
    "ShellResponse",
    "TransientGrowth",
    "asymmetry",
    "circulation",
    "dense_jacobian",
    "finite_time_exponents",
    "jacobian_diagnostics",
    "jacobian_energy",
    "jacobian_vector",
    "kaplan_yorke_dimension",
    "leading_eigenvalues",
    "leading_exponent",
    "leading_singular",
    "log_determinant",
    "lyapunov_exponents",
    "lyapunov_spectrum",
    "semigroup_defect",
    "shell_response",
    "spectral_norm",
    "spectral_radius",
    "symmetry",
    "transient_growth",
    "vector_jacobian",
    "worst_direction",
]
