"""Diffusion between real sides: implicit and implicit-explicit steps."""

from sciml.solvers.parabolic.choose import parabolic
from sciml.solvers.parabolic.diffusion import DiffusionVolumes
from sciml.solvers.parabolic.lines import ImexLines
from sciml.solvers.parabolic.sides import SideConditions
from sciml.solvers.parabolic.tableaus import BACKWARD_EULER, CRANK_NICOLSON, SCHEMES, TR_BDF2
from sciml.solvers.parabolic.tridiagonal import solve_tridiagonal

__all__ = [
    "BACKWARD_EULER",
    "CRANK_NICOLSON",
    "SCHEMES",
    "TR_BDF2",
    "DiffusionVolumes",
    "ImexLines",
    "SideConditions",
    "parabolic",
    "solve_tridiagonal",
]
