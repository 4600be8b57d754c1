"""Linear systems without matrices, and their gradients."""

from sciml.linear.bicgstab import bicgstab
from sciml.linear.conjugate_gradient import LinearSolution, NotConverged, conjugate_gradient
from sciml.linear.gmres import gmres
from sciml.linear.implicit import implicit_solve

__all__ = ["LinearSolution", "NotConverged", "bicgstab", "conjugate_gradient", "gmres", "implicit_solve"]
