"""Statistics of a field over a long time, where single trajectories can no longer be compared.

Distributions of point values are in `value_wasserstein`, spectra in `spectrum`; `sciml.metrics.running` gathers all of
these from runs that do not fit into memory.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sciml.domains import Grid
from sciml.metrics.pointwise import checked_pair, ratio


def _checked(pred: Tensor, ref: Tensor, weights: Tensor | None, owner: str) -> Tensor | None:
    """Weights as `checked_pair` gives them; the two may differ in their times."""
    if pred.ndim < 3 or ref.ndim != pred.ndim or not pred.shape[1] or not ref.shape[1]:
        raise ValueError(
            f"{owner} got shapes {tuple(pred.shape)} and {tuple(ref.shape)}; expected (B, T, C, *points) twice."
        )
    return checked_pair(pred[:, :1], ref[:, :1], weights, owner)


def _relative_difference(pred: Tensor, ref: Tensor, w: Tensor | None) -> Tensor:
    """|pred - ref| / |ref| over the points of fields (B, C, *points), (B, C)."""
    p, r = (u.reshape(*u.shape[:2], -1) for u in (pred, ref))
    parts = ((p - r).square(), r.square())
    error, size = (x.mean(dim=2) if w is None else (x * w).sum(dim=2) for x in parts)
    return ratio(error.sqrt(), size.sqrt())


def time_mean_error(pred: Tensor, ref: Tensor, weights: Tensor | None = None) -> Tensor:
    """Relative error of the time-mean field, (B, T, C, *points) twice -> (B, C).

    The two may have unlike numbers of times. Where the mean is zero by symmetry the reference is noise: compare with
    the same number for two pieces of the reference (`against_floor` takes series; here call it twice).
    """
    w = _checked(pred, ref, weights, "time_mean_error")
    return _relative_difference(pred.mean(dim=1), ref.mean(dim=1), w)


def time_variance_error(pred: Tensor, ref: Tensor, weights: Tensor | None = None) -> Tensor:
    """Relative error of the field of variances in time, (B, T, C, *points) twice -> (B, C); one where nothing moves."""
    w = _checked(pred, ref, weights, "time_variance_error")
    return _relative_difference(pred.var(dim=1, correction=0), ref.var(dim=1, correction=0), w)


def value_density(u: Tensor, edges: Tensor | Sequence[float], weights: Tensor | None = None) -> Tensor:
    """Probability density of the point values over time and space, (B, T, C, *points) -> (B, C, bins) [1/unit].

    Args:
        u: states.
        edges: of the bins (bins + 1,), increasing; what lies outside is left out, so that the integral may be below 1.
        weights: of the points.
    """
    limits = torch.as_tensor(edges, dtype=u.dtype, device=u.device)
    if u.ndim < 3 or limits.ndim != 1 or len(limits) < 2 or not bool((limits.diff() > 0).all()):
        raise ValueError(
            f"value_density got shape {tuple(u.shape)} and {limits.numel()} edges; expected (B, T, C, *points) and "
            "two or more increasing edges."
        )
    w = checked_pair(u, u, weights, "value_density")
    flat = u.transpose(1, 2).flatten(2)  # (B, C, T N)
    points = max(1, flat.shape[2] // u.shape[1])
    share = flat.new_full((points,), 1 / points) if w is None else w
    share = share.repeat(u.shape[1]) / u.shape[1]
    bins = torch.bucketize(flat, limits, right=True)
    # The last edge belongs to the last bin.
    bins = torch.where(flat == limits[-1], len(limits) - 1, bins)
    counts = flat.new_zeros(*flat.shape[:2], len(limits) + 1)
    counts.scatter_add_(2, bins, share.expand_as(flat).contiguous())
    return counts[..., 1:-1] / limits.diff()


def autocorrelation(series: Tensor, lags: int | None = None) -> Tensor:
    """Correlation of a series with itself at later times, (B, T, ...) -> (B, lags + 1, ...), 1 at lag 0.

    Means over time taken off, products divided by T whatever the lag, so that values at large lags go to zero and not
    astray. Of the fluctuations at each place by itself; average over places afterwards.

    Raises:
        ValueError: there are not more times than lags.
    """
    frames = series.shape[1]
    last = frames - 1 if lags is None else lags
    if series.ndim < 2 or not 0 <= last < frames:
        raise ValueError(
            f"autocorrelation got shape {tuple(series.shape)} and {lags} lags; expected fewer than T."
        )
    u = series - series.mean(dim=1, keepdim=True)
    size = 2 * frames  # the zeros behind keep the end from meeting the beginning
    modes = torch.fft.rfft(u, n=size, dim=1)
    power = modes.real.square() + modes.imag.square()
    covariance = torch.fft.irfft(power.to(modes.dtype), n=size, dim=1)[:, : last + 1]
    return ratio(covariance, covariance[:, :1])


def correlation_length(correlation: Tensor, spacing: float) -> Tensor:
    """Integral scale of a correlation function: its integral to the first zero, (..., lags) -> (...) [unit of spacing].

    Trapezoidal, the zero interpolated linearly. To the last lag where there is no zero, which is then a lower bound.
    """
    if not spacing > 0 or not correlation.shape[-1]:
        raise ValueError(
            f"correlation_length got shape {tuple(correlation.shape)} and spacing {spacing}; expected at least one "
            "lag and a positive spacing."
        )
    rho = correlation
    count = rho.shape[-1]
    index = torch.arange(count, device=rho.device)
    first = torch.where(rho <= 0, index, count).amin(dim=-1, keepdim=True)
    before, after = rho[..., :-1], rho[..., 1:]
    whole = 0.5 * (before + after)
    # Up to its zero the last piece is a triangle.
    corner = 0.5 * before.square() / (before - after).clamp_min(torch.finfo(rho.dtype).tiny)
    pieces = torch.where(index[1:] < first, whole, torch.where(index[1:] == first, corner, 0.0))
    return pieces.sum(dim=-1) * spacing


def autocorrelation_time(series: Tensor, dt: float, lags: int | None = None) -> Tensor:
    """Integral time scale, averaged over channels' points by their variance, (B, T, C, *points) -> (B, C) [time].

    The covariances of all points of a channel are added before they are divided by the variance, so that points that
    hardly move do not speak as loud as others.
    """
    if series.ndim < 3:
        raise ValueError(
            f"autocorrelation_time got shape {tuple(series.shape)}; expected (B, T, C, *points)."
        )
    variance = series.var(dim=1, correction=0, keepdim=True)
    covariance = autocorrelation(series, lags) * variance
    total = covariance.reshape(*covariance.shape[:3], -1).sum(dim=3)
    return correlation_length(ratio(total, total[:, :1]).transpose(1, 2), dt)


def two_point_correlation(u: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Correlation of the fluctuations at two points against their distance, on a periodic grid.

    (B, T, C, *points) -> distances (S,) [length] and correlations (B, T, C, S), 1 at distance zero: the spatial mean is
    taken off each state, products are averaged over all pairs whose distance rounds to the same multiple of the largest
    spacing, up to half of the shortest side.

    Raises:
        ValueError: the grid has a bounded axis, or other points.
    """
    if u.ndim < 4 or tuple(u.shape[3:]) != grid.shape or not all(grid.periodic):
        raise ValueError(
            f"two_point_correlation got shape {tuple(u.shape)} on a grid of {grid.shape} with periodic axes "
            f"{grid.periodic}; expected (B, T, C, *points) on a grid that is periodic everywhere."
        )
    axes = tuple(range(3, u.ndim))
    away = u - u.mean(dim=axes, keepdim=True)
    modes = torch.fft.rfftn(away, dim=axes)
    power = modes.real.square() + modes.imag.square()
    covariance = torch.fft.irfftn(power.to(modes.dtype), s=grid.shape, dim=axes).flatten(3)
    lines = []
    for n, h in zip(grid.shape, grid.spacing, strict=True):
        steps = torch.arange(n, dtype=torch.float64, device=u.device)
        lines.append(torch.minimum(steps, n - steps) * h)
    distance = torch.stack(torch.meshgrid(*lines, indexing="ij")).square().sum(dim=0).sqrt().flatten()
    width = max(grid.spacing)
    bins = (distance / width + 0.5).floor().long()
    count = int(min(grid.lengths) / 2 / width + 1e-9) + 1
    inside = bins < count
    pairs = torch.bincount(bins[inside], minlength=count)
    total = covariance.new_zeros(*covariance.shape[:3], count).index_add(
        3, bins[inside], covariance[..., inside]
    )
    mean = total / pairs
    # The mean distance of the pairs of a bin, which is not its middle.
    where = torch.zeros(count, dtype=torch.float64, device=u.device).index_add(
        0, bins[inside], distance[inside]
    )
    return where / pairs, ratio(mean, covariance[..., :1])
