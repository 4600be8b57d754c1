"""Turn (equation, domain, dt) into a Step."""

from sciml.solvers.build import Solver, build
from sciml.solvers.spectral import PseudoSpectral, pseudo_spectral

__all__ = ["PseudoSpectral", "Solver", "build", "pseudo_spectral"]
