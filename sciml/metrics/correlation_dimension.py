"""How many dimensions an attractor fills."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def correlation_dimension(
    series: Tensor,
    *,
    exclude: int = 0,
    limit: int = 3000,
    range_of_pairs: tuple[float, float] = (1e-3, 2e-2),
    seed: int = 0,
) -> Tensor:
    """Slope of ln C(r) against ln r, C(r) the share of pairs closer than r, (T, N) -> ().

    Grassberger and Procaccia (Physica D 9, 1983). Fitted by least squares over twenty radii between two quantiles of
    the distances: too small ones see the noise and the finite number of points, too large ones the attractor's outline,
    so that a few per cent of error remain. Compare with the same number of the reference at the same settings.

    Args:
        series: without its transient.
        exclude: pairs at most that many frames apart are left out, which are near because little time has passed
            (Theiler 1986): about a quarter of a period.
        limit: points drawn from longer series.
        range_of_pairs: shares of pairs between which the slope is taken.
        seed: of the draw.

    Raises:
        ValueError: the series is not (T, N) with ten points or more, or the range is not increasing within (0, 1).
    """
    low, high = range_of_pairs
    if series.ndim != 2 or len(series) < 10 or exclude < 0 or not 0 < low < high < 1:
        raise ValueError(
            f"correlation_dimension got a series of shape {tuple(series.shape)}, exclude={exclude} and range "
            f"{range_of_pairs}; expected (T, N) with ten points or more, 0 or more frames, and 0 < low < high < 1."
        )
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(series), generator=generator)[:limit].sort().values
    points = series[chosen.to(series.device)].to(torch.float64)
    distances = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
    apart = (chosen.unsqueeze(0) - chosen.unsqueeze(1)) > exclude  # each pair once
    found = distances[apart.to(distances.device)].sort().values
    found = found[found > 0]
    at = torch.logspace(math.log10(low), math.log10(high), 20, dtype=torch.float64)
    index = (at * len(found)).long().clamp(1, len(found) - 1)
    x, y = found[index.to(found.device)].log(), index.double().log().to(found.device)
    x = x - x.mean()
    return (x * y).sum() / x.square().sum()
