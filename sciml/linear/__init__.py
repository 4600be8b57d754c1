"""Linear systems without matrices, and their gradients."""

from sciml.linear.conjugate_gradient import LinearSolution, NotConverged, conjugate_gradient
from sciml.linear.implicit import implicit_solve

__all__ = ["LinearSolution", "NotConverged", "conjugate_gradient", "implicit_solve"]
