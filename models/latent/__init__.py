"""Models of few numbers: learned dynamics of states without space, or behind an observation."""

from sciml.models.latent.neural_ode import DenseField, NeuralODE, SolverStatistics
from sciml.models.latent.observed import ObservationPrior, Observed
from sciml.models.latent.plrnn import PLRNN, Cycle, MemoryPrior, PiecewiseLinear

__all__ = [
    "Cycle",
    "DenseField",
    "MemoryPrior",
    "NeuralODE",
    "ObservationPrior",
    "Observed",
    "PLRNN",
    "PiecewiseLinear",
    "SolverStatistics",
]
