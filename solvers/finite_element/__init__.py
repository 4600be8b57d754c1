"""Finite elements on unstructured meshes: meshes, assembly, implicit steps, Stokes flow."""

from sciml.solvers.finite_element.evolution import P1Step, p1_step
from sciml.solvers.finite_element.heated_cylinder import heated_cylinder
from sciml.solvers.finite_element.initial import RandomBlobs, random_temperature
from sciml.solvers.finite_element.meshing import (
    box,
    channel_inflow,
    channel_with_cylinder,
    minimum_angle,
    rectangle,
)
from sciml.solvers.finite_element.stokes import stokes_flow

__all__ = [
    "P1Step",
    "RandomBlobs",
    "box",
    "channel_inflow",
    "channel_with_cylinder",
    "heated_cylinder",
    "minimum_angle",
    "p1_step",
    "random_temperature",
    "rectangle",
    "stokes_flow",
]
