"""Stationary diffusion: finite volumes, multigrid, adjoint gradients."""

from sciml.solvers.elliptic.darcy import solve_darcy, solve_poisson
from sciml.solvers.elliptic.diffusion import Diffusion, DiffusionProblem, discretise
from sciml.solvers.elliptic.multigrid import Multigrid

__all__ = ["Diffusion", "DiffusionProblem", "Multigrid", "discretise", "solve_darcy", "solve_poisson"]
