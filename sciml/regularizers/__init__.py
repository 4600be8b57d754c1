"""Penalties on the Jacobian of a step."""

from sciml.regularizers.base import Regularizer
from sciml.regularizers.frobenius import Frobenius
from sciml.regularizers.jaws import JAWS

REGULARIZERS: tuple[type[Regularizer], ...] = (Frobenius, JAWS)

__all__ = [
    "JAWS",
    "REGULARIZERS",
    "Frobenius",
    "Regularizer",
]
