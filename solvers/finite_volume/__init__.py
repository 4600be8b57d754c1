"""Finite volumes for conservation laws."""

from sciml.solvers.finite_volume.classical import Classical
from sciml.solvers.finite_volume.exact import (
    DOUBLE_RAREFACTION,
    LAX,
    SOD,
    STRONG_BLAST,
    ShockTube,
    exact_riemann,
    exact_scalar_riemann,
    viscous_shock,
)
from sciml.solvers.finite_volume.march import CellStep, ssprk2, ssprk3
from sciml.solvers.finite_volume.mesh_dual import MedianDual, median_dual
from sciml.solvers.finite_volume.mesh_sides import facet_sides
from sciml.solvers.finite_volume.mesh_step import MeshFiniteVolume, finite_volume_on_mesh
from sciml.solvers.finite_volume.reconstruction import godunov, muscl, weno5, weno5_characteristic
from sciml.solvers.finite_volume.riemann import hll, hllc, roe, rusanov, upwind
from sciml.solvers.finite_volume.shallow_water import ShallowWaterStep, shallow_water
from sciml.solvers.finite_volume.shallow_water_exact import (
    dam_break,
    paraboloid_oscillation,
    planar_oscillation,
    transcritical_flow,
)
from sciml.solvers.finite_volume.step import FiniteVolume, finite_volume

__all__ = [
    "DOUBLE_RAREFACTION",
    "LAX",
    "SOD",
    "STRONG_BLAST",
    "CellStep",
    "Classical",
    "FiniteVolume",
    "MedianDual",
    "MeshFiniteVolume",
    "ShallowWaterStep",
    "ShockTube",
    "dam_break",
    "exact_riemann",
    "exact_scalar_riemann",
    "facet_sides",
    "finite_volume",
    "finite_volume_on_mesh",
    "godunov",
    "hll",
    "hllc",
    "median_dual",
    "muscl",
    "paraboloid_oscillation",
    "planar_oscillation",
    "roe",
    "rusanov",
    "shallow_water",
    "ssprk2",
    "ssprk3",
    "transcritical_flow",
    "upwind",
    "viscous_shock",
    "weno5",
    "weno5_characteristic",
]
