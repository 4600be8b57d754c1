"""Models of few numbers: learned dynamics of states without space, or behind an observation."""

from sciml.models.latent.observed import ObservationPrior, Observed
from sciml.models.latent.plrnn import PLRNN, Cycle, MemoryPrior, PiecewiseLinear

__all__ = ["PLRNN", "Cycle", "MemoryPrior", "ObservationPrior", "Observed", "PiecewiseLinear"]
