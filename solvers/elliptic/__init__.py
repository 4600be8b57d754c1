"""Stationary diffusion, transport and waves, by fast transforms, multigrid and sparse factors; adjoint gradients."""

from sciml.solvers.elliptic.darcy import solve_darcy, solve_poisson
from sciml.solvers.elliptic.diffusion import Diffusion, DiffusionProblem, discretise
from sciml.solvers.elliptic.helmholtz import AbsorbingLayer, points_per_wavelength, solve_helmholtz
from sciml.solvers.elliptic.multigrid import Multigrid
from sciml.solvers.elliptic.separable import Separable, separable
from sciml.solvers.elliptic.sides import EllipticConditions, Flux, Robin, Value
from sciml.solvers.elliptic.transport import solve_transport

__all__ = [
    "AbsorbingLayer",
    "Diffusion",
    "DiffusionProblem",
    "EllipticConditions",
    "Flux",
    "Multigrid",
    "Robin",
    "Separable",
    "Value",
    "discretise",
    "points_per_wavelength",
    "separable",
    "solve_darcy",
    "solve_helmholtz",
    "solve_poisson",
    "solve_transport",
]
