"""Turn (equation, domain, dt) into a Step."""

from sciml.solvers.build import Solver, build
from sciml.solvers.imex_spectral import ImexSpectral, imex_spectral
from sciml.solvers.spectral import PseudoSpectral, pseudo_spectral

__all__ = ["ImexSpectral", "PseudoSpectral", "Solver", "build", "imex_spectral", "pseudo_spectral"]
