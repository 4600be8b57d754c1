"""Statistics of long runs, gathered state by state in constant memory."""

from sciml.metrics.running.autocorrelation import RunningAutocorrelation
from sciml.metrics.running.base import Running
from sciml.metrics.running.histogram import RunningHistogram
from sciml.metrics.running.moments import RunningMoments
from sciml.metrics.running.occupation import RunningOccupation
from sciml.metrics.running.spectra import RunningSpectrum
from sciml.metrics.running.trace import Trace, leading_modes, point_values

__all__ = [
    "Running",
    "RunningAutocorrelation",
    "RunningHistogram",
    "RunningMoments",
    "RunningOccupation",
    "RunningSpectrum",
    "Trace",
    "leading_modes",
    "point_values",
]
