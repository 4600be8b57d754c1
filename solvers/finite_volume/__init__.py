"""Finite volumes for conservation laws."""

from sciml.solvers.finite_volume.exact import (
    DOUBLE_RAREFACTION,
    LAX,
    SOD,
    STRONG_BLAST,
    ShockTube,
    exact_riemann,
    exact_scalar_riemann,
)
from sciml.solvers.finite_volume.march import CellStep, ssprk2, ssprk3
from sciml.solvers.finite_volume.reconstruction import godunov, muscl, weno5, weno5_characteristic
from sciml.solvers.finite_volume.riemann import hll, hllc, roe, rusanov, upwind
from sciml.solvers.finite_volume.step import FiniteVolume, finite_volume

__all__ = [
    "DOUBLE_RAREFACTION",
    "LAX",
    "SOD",
    "STRONG_BLAST",
    "CellStep",
    "FiniteVolume",
    "ShockTube",
    "exact_riemann",
    "exact_scalar_riemann",
    "finite_volume",
    "godunov",
    "hll",
    "hllc",
    "muscl",
    "roe",
    "rusanov",
    "ssprk2",
    "ssprk3",
    "upwind",
    "weno5",
    "weno5_characteristic",
]
