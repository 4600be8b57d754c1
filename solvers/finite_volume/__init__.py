"""Finite volumes for conservation laws."""

from sciml.solvers.finite_volume.riemann import LAX, SOD, ShockTube, exact_riemann, hllc, rusanov
from sciml.solvers.finite_volume.step import FiniteVolume, finite_volume

__all__ = [
    "LAX",
    "SOD",
    "FiniteVolume",
    "ShockTube",
    "exact_riemann",
    "finite_volume",
    "hllc",
    "rusanov",
]
