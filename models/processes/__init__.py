"""Models that predict a field from scattered values of it, and how sure they are."""

from sciml.models.processes.attentive import AttentiveProcess
from sciml.models.processes.gaussian import GaussianProcess

__all__ = ["AttentiveProcess", "GaussianProcess"]
