"""Waves in media that vary from place to place: acoustics and Maxwell's equations."""

from sciml.solvers.waves.acoustic import AcousticLeapfrog, acoustic
from sciml.solvers.waves.build import build_waves
from sciml.solvers.waves.layers import PML, Sponge
from sciml.solvers.waves.staggered import Leapfrog, numerical_frequency
from sciml.solvers.waves.volumes import AcousticVolumes
from sciml.solvers.waves.yee import Yee, yee

__all__ = [
    "PML",
    "AcousticLeapfrog",
    "AcousticVolumes",
    "Leapfrog",
    "Sponge",
    "Yee",
    "acoustic",
    "build_waves",
    "numerical_frequency",
    "yee",
]
