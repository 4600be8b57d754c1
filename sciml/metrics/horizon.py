"""Up to when a forecast of a chaotic system is good."""

from __future__ import annotations

import torch
from torch import Tensor

from sciml.metrics.pointwise import checked_pair, flat_points, ratio, spatial_mean


def valid_prediction_time(
    pred: Tensor,
    ref: Tensor,
    dt: float,
    threshold: float = 0.4,
    *,
    weights: Tensor | None = None,
    mean: Tensor | None = None,
    scale: Tensor | None = None,
    exponent: float | None = None,
) -> Tensor:
    """Lead time of the last frame before |p_t - r_t| / sqrt(mean_t |r_t|^2) first exceeds a threshold, (B,).

    Frame j lies at (j + 1) dt, and a forecast that is wrong at the first frame is valid for no time: some authors count
    to the first wrong frame, which is one dt more. T dt where the threshold is never exceeded: such a value is
    censored. A state that is not finite exceeds every threshold.

    Args:
        pred: prediction (B, T, C, *points).
        ref: reference.
        dt: time between frames.
        threshold: 0.4, with 0.3 and 0.5 also in use.
        weights: of the points.
        mean: of each channel (C,), taken off the states first. The measure is meant for standardised data: without
            it a large mean makes all forecasts look good.
        scale: standard deviation of each channel (C,), by which the states are divided first.
        exponent: leading Lyapunov exponent of the reference system, never of the model [1/time]; the result is then in
            Lyapunov times, otherwise in the unit of dt.
    """
    w = checked_pair(pred, ref, weights, "valid_prediction_time")
    p, r = (_standardised(u, mean, scale) for u in (pred, ref))
    error = spatial_mean((p - r).square(), w).sum(dim=2).sqrt()
    size = spatial_mean(r.square(), w).sum(dim=2).mean(dim=1, keepdim=True).sqrt()
    return _valid_until(ratio(error, size) > threshold, error, dt, exponent)


def smape(pred: Tensor, ref: Tensor) -> Tensor:
    """Symmetric mean absolute percentage error, 100 <2 |e| / (|p| + |r| + 1e-10)>, (B, T, C), from 0 to 200.

    As the package dysts computes it (arXiv 2110.05266). Not blind to shifts: raw and standardised data differ.
    """
    checked_pair(pred, ref, None, "smape")
    p, r = flat_points(pred), flat_points(ref)
    return 100 * (2 * (p - r).abs() / (p.abs() + r.abs() + 1e-10)).mean(dim=3)


def smape_time(
    pred: Tensor, ref: Tensor, dt: float, threshold: float = 30.0, *, exponent: float | None = None
) -> Tensor:
    """Lead time of the last frame up to which `smape`, averaged over channels, stays below a threshold, (B,).

    Gilpin's valid prediction time (arXiv 2303.08011), counted as by `valid_prediction_time`. Censored at T dt. In
    Lyapunov times with the `exponent` of the reference system.
    """
    values = smape(pred, ref).mean(dim=2)
    return _valid_until(values >= threshold, values, dt, exponent)


def _standardised(u: Tensor, mean: Tensor | None, scale: Tensor | None) -> Tensor:
    flat = flat_points(u)
    if mean is not None:
        flat = flat - mean.to(flat).reshape(-1, 1)
    if scale is not None:
        flat = flat / scale.to(flat).reshape(-1, 1)
    return flat.reshape(u.shape)


def _valid_until(beyond: Tensor, values: Tensor, dt: float, exponent: float | None) -> Tensor:
    """Time of the last frame before the first flagged one, (B, T) -> (B,)."""
    if not dt > 0 or (exponent is not None and not exponent > 0):
        raise ValueError(f"A time got dt={dt} and exponent={exponent}; both have to be positive.")
    beyond = beyond | ~torch.isfinite(values)
    frames = beyond.shape[1]
    index = torch.arange(frames, device=beyond.device)
    first = torch.where(beyond, index, frames).amin(dim=1)
    return first.to(torch.float64) * (dt if exponent is None else dt * exponent)
