"""Stationary problems: diffusion and waves, by fast transforms, multigrid and sparse factors; adjoint gradients."""

from sciml.solvers.elliptic.darcy import solve_darcy, solve_poisson
from sciml.solvers.elliptic.diffusion import Diffusion, DiffusionProblem, discretise
from sciml.solvers.elliptic.multigrid import Multigrid
from sciml.solvers.elliptic.separable import Separable, separable
from sciml.solvers.elliptic.sides import EllipticConditions, Flux, Robin, Value

__all__ = [
    "Diffusion",
    "DiffusionProblem",
    "EllipticConditions",
    "Flux",
    "Multigrid",
    "Robin",
    "Separable",
    "Value",
    "discretise",
    "separable",
    "solve_darcy",
    "solve_poisson",
]
