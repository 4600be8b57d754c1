"""How to differentiate on a domain."""

from sciml.calculus.autograd import Autograd
from sciml.calculus.base import Calculus
from sciml.calculus.constants import Constants
from sciml.calculus.finite_difference import FiniteDifference
from sciml.calculus.p1 import P1
from sciml.calculus.spectral import Spectral, Symbol
from sciml.calculus.trigonometric import Trigonometric

__all__ = [
    "P1",
    "Autograd",
    "Calculus",
    "Constants",
    "FiniteDifference",
    "Spectral",
    "Symbol",
    "Trigonometric",
]
