"""Incompressible flow between walls and around obstacles."""

from sciml.linear.fast_poisson import FastPoisson
from sciml.solvers.incompressible.step import Incompressible, incompressible, staggered
from sciml.staggered.obstacles import block, cylinder
from sciml.staggered.sides import face_coordinates

__all__ = [
    "FastPoisson",
    "Incompressible",
    "block",
    "cylinder",
    "face_coordinates",
    "incompressible",
    "staggered",
]
