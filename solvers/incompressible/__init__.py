"""Incompressible flow between walls and around obstacles."""

from sciml.solvers.incompressible.obstacles import block, cylinder
from sciml.solvers.incompressible.poisson import FastPoisson
from sciml.solvers.incompressible.sides import face_coordinates
from sciml.solvers.incompressible.step import Incompressible, incompressible, staggered

__all__ = [
    "FastPoisson",
    "Incompressible",
    "block",
    "cylinder",
    "face_coordinates",
    "incompressible",
    "staggered",
]
