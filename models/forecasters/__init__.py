"""Forecasts fitted at once, most in closed form: what a trained surrogate has to beat."""

from sciml.models.forecasters.analog import Analog
from sciml.models.forecasters.base import Forecaster, LeastSquares
from sciml.models.forecasters.dictionary import (
    Dictionary,
    Fourier,
    KernelFeatures,
    Modes,
    Monomials,
    RadialBasis,
    RandomFourier,
)
from sciml.models.forecasters.dmd import EDMD
from sciml.models.forecasters.echo_state import EchoState
from sciml.models.forecasters.koopman import Koopman, continuous, snapshots
from sciml.models.forecasters.naive import Climatology, Persistence
from sciml.models.forecasters.nvar import NVAR
from sciml.models.forecasters.random_forest import RandomForest
from sciml.models.forecasters.surrogate import ForecastSurrogate

__all__ = [
    "EDMD",
    "NVAR",
    "Analog",
    "Climatology",
    "Dictionary",
    "EchoState",
    "ForecastSurrogate",
    "Forecaster",
    "Fourier",
    "KernelFeatures",
    "Koopman",
    "LeastSquares",
    "Modes",
    "Monomials",
    "Persistence",
    "RadialBasis",
    "RandomForest",
    "RandomFourier",
    "continuous",
    "snapshots",
]
