"""How far a prediction is from the truth: pointwise, by scale, over time, and in what it conserves."""

from collections.abc import Callable

from torch import Tensor

from sciml.metrics.aggregate import (
    aggregate,
)
from sciml.metrics.climatology import (
    autocorrelation,
    autocorrelation_time,
    correlation_length,
    time_mean_error,
    time_variance_error,
    two_point_correlation,
    value_density,
)
from sciml.metrics.correlation_dimension import correlation_dimension
from sciml.metrics.dtw import dtw_distance
from sciml.metrics.ensemble import (
    crps,
    ensemble_metric,
    ensemble_spread,
)
from sciml.metrics.floor import (
    AgainstFloor,
    against_floor,
)
from sciml.metrics.flow import (
    dissipation,
    energy_budget,
    energy_injection,
    enstrophy,
    helicity,
    kinetic_energy,
)
from sciml.metrics.gaussian import coverage, gaussian_crps, gaussian_log_likelihood
from sciml.metrics.hellinger import (
    power_spectrum_hellinger,
)
from sciml.metrics.horizon import (
    smape,
    smape_time,
    valid_prediction_time,
)
from sciml.metrics.occupation import (
    mixture_divergence,
    state_space_divergence,
)
from sciml.metrics.particles import particle_energy, position_mse
from sciml.metrics.pointwise import (
    brmse,
    crmse,
    initial_nrmse,
    max_error,
    nrmse,
    relative_l1,
    rmse,
    srmse,
    vrmse,
)
from sciml.metrics.prediction_error import (
    prediction_error,
)
from sciml.metrics.running import (
    Running,
    RunningAutocorrelation,
    RunningHistogram,
    RunningMoments,
    RunningOccupation,
    RunningSpectrum,
    Trace,
    leading_modes,
    point_values,
)
from sciml.metrics.series import kendall_correlation, rank_correlation, series_scores
from sciml.metrics.sinkhorn import (
    sinkhorn_divergence,
    squared_distances,
)
from sciml.metrics.sobolev import (
    h1_error,
)
from sciml.metrics.spectral import (
    band_mse,
    energy_spectrum,
    fourier_nrmse,
    frmse,
    high_band_gain,
    log_spectral_distance,
    resolved_shells,
    spectral_distance,
    spectral_divergence,
    spectral_residual,
    spectrum,
)
from sciml.metrics.stability import (
    balance_residual,
    blow_up_time,
    drift_slope,
    freeze_time,
    invariant_drift,
    movement,
    valid_frames,
)
from sciml.metrics.steepness import steepness
from sciml.metrics.streaming import (
    MetricRow,
    RolloutMetrics,
)
from sciml.metrics.survival import (
    SurvivalCurve,
    survival,
    survival_curve,
)
from sciml.metrics.temporal import (
    correlation,
    correlation_steps,
    correlation_time,
    gmean,
)
from sciml.metrics.wasserstein import (
    axis_wasserstein,
    histogram_wasserstein,
    sliced_wasserstein,
    value_wasserstein,
    wasserstein,
)
from sciml.metrics.windows import (
    lead_windows,
    window_means,
)

METRICS: tuple[Callable[..., Tensor], ...] = (
    rmse,
    nrmse,
    initial_nrmse,
    srmse,
    vrmse,
    relative_l1,
    max_error,
    crmse,
    brmse,
    h1_error,
    frmse,
    fourier_nrmse,
    band_mse,
    correlation,
    correlation_time,
    correlation_steps,
    valid_prediction_time,
    smape,
    smape_time,
    gmean,
    window_means,
    dtw_distance,
    spectrum,
    energy_spectrum,
    spectral_distance,
    log_spectral_distance,
    spectral_divergence,
    spectral_residual,
    high_band_gain,
    steepness,
    state_space_divergence,
    mixture_divergence,
    power_spectrum_hellinger,
    wasserstein,
    axis_wasserstein,
    sliced_wasserstein,
    value_wasserstein,
    histogram_wasserstein,
    sinkhorn_divergence,
    position_mse,
    particle_energy,
    valid_frames,
    blow_up_time,
    survival,
    freeze_time,
    movement,
    invariant_drift,
    drift_slope,
    balance_residual,
    crps,
    ensemble_spread,
    prediction_error,
    time_mean_error,
    time_variance_error,
    value_density,
    autocorrelation,
    autocorrelation_time,
    correlation_length,
    correlation_dimension,
    rank_correlation,
    kendall_correlation,
)

__all__ = [
    "METRICS",
    "AgainstFloor",
    "MetricRow",
    "RolloutMetrics",
    "Running",
    "RunningAutocorrelation",
    "RunningHistogram",
    "RunningMoments",
    "RunningOccupation",
    "RunningSpectrum",
    "SurvivalCurve",
    "Trace",
    "against_floor",
    "aggregate",
    "autocorrelation",
    "autocorrelation_time",
    "axis_wasserstein",
    "balance_residual",
    "band_mse",
    "blow_up_time",
    "brmse",
    "correlation",
    "correlation_dimension",
    "correlation_length",
    "correlation_steps",
    "correlation_time",
    "coverage",
    "crmse",
    "crps",
    "dissipation",
    "drift_slope",
    "dtw_distance",
    "energy_budget",
    "energy_injection",
    "energy_spectrum",
    "ensemble_metric",
    "ensemble_spread",
    "enstrophy",
    "fourier_nrmse",
    "freeze_time",
    "frmse",
    "gaussian_crps",
    "gaussian_log_likelihood",
    "gmean",
    "h1_error",
    "helicity",
    "high_band_gain",
    "histogram_wasserstein",
    "initial_nrmse",
    "invariant_drift",
    "kendall_correlation",
    "kinetic_energy",
    "lead_windows",
    "leading_modes",
    "log_spectral_distance",
    "max_error",
    "mixture_divergence",
    "movement",
    "nrmse",
    "particle_energy",
    "point_values",
    "position_mse",
    "power_spectrum_hellinger",
    "prediction_error",
    "rank_correlation",
    "relative_l1",
    "resolved_shells",
    "rmse",
    "series_scores",
    "sinkhorn_divergence",
    "sliced_wasserstein",
    "smape",
    "smape_time",
    "spectral_distance",
    "spectral_divergence",
    "spectral_residual",
    "spectrum",
    "squared_distances",
    "srmse",
    "state_space_divergence",
    "steepness",
    "survival",
    "survival_curve",
    "time_mean_error",
    "time_variance_error",
    "two_point_correlation",
    "valid_frames",
    "valid_prediction_time",
    "value_density",
    "value_wasserstein",
    "vrmse",
    "wasserstein",
    "window_means",
]
