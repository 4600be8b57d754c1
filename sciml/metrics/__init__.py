"""How far a prediction is from the truth: pointwise, by scale, over time, and in what it conserves."""

from collections.abc import Callable

from torch import Tensor

from sciml.metrics.flow import (
    dissipation,
    energy_budget,
    energy_injection,
    enstrophy,
    helicity,
    kinetic_energy,
)
from sciml.metrics.pointwise import crmse, max_error, nrmse, rmse, vrmse
from sciml.metrics.sinkhorn import sinkhorn_divergence, squared_distances
from sciml.metrics.spectral import (
    band_mse,
    energy_spectrum,
    frmse,
    high_band_gain,
    log_spectral_distance,
    resolved_shells,
    spectral_distance,
    spectrum,
)
from sciml.metrics.stability import (
    aggregate,
    blow_up_time,
    freeze_time,
    invariant_drift,
    survival,
    valid_frames,
)
from sciml.metrics.streaming import MetricRow, RolloutMetrics
from sciml.metrics.temporal import correlation, correlation_time, gmean

METRICS: tuple[Callable[..., Tensor], ...] = (
    rmse,
    nrmse,
    vrmse,
    max_error,
    crmse,
    frmse,
    band_mse,
    correlation,
    correlation_time,
    gmean,
    spectrum,
    energy_spectrum,
    spectral_distance,
    high_band_gain,
    valid_frames,
    blow_up_time,
    survival,
    freeze_time,
    invariant_drift,
    sinkhorn_divergence,
)

__all__ = [
    "METRICS",
    "MetricRow",
    "RolloutMetrics",
    "aggregate",
    "band_mse",
    "blow_up_time",
    "correlation",
    "correlation_time",
    "crmse",
    "dissipation",
    "energy_budget",
    "energy_injection",
    "energy_spectrum",
    "enstrophy",
    "freeze_time",
    "frmse",
    "gmean",
    "helicity",
    "high_band_gain",
    "invariant_drift",
    "kinetic_energy",
    "log_spectral_distance",
    "max_error",
    "nrmse",
    "resolved_shells",
    "rmse",
    "sinkhorn_divergence",
    "spectral_distance",
    "spectrum",
    "squared_distances",
    "survival",
    "valid_frames",
    "vrmse",
]
