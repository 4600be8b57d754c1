"""Scores of point forecasts of time series, as benchmarks of chaotic systems list them."""

from __future__ import annotations

import torch
from torch import Tensor

from sciml.metrics.pointwise import ratio


def series_scores(pred: Tensor, ref: Tensor) -> dict[str, Tensor]:
    """Scores over time of each channel of a series, (B, T, C) twice -> name -> (B, C).

    With e the error, y the truth and <.> the mean over time: "mae" <|e|>, "rmse", "nrmse" rmse over the deviation of y,
    "marre" 100 <|e|> / (max y - min y), "r2" 1 - <e^2> / var y, "mape" 100 <|e| / |y|>, "wape" 100 <|e|> / <|y|>,
    "smape" 100 <2 |e| / (|p| + |y|)>, "rmsle" the root mean square of ln(1 + p') - ln(1 + y') with p' and y' counted
    from their own minima, "cv" 100 std e / |<y>|, "pearson", "spearman" and "kendall" (tau b). Percentages are of raw
    values: "mape", "wape", "smape" and "cv" change with the origin.

    The list is that of the dysts benchmark (Gilpin, arXiv 2303.08011); `mutual_information` stands apart. Its code averages
    some over channels before dividing and takes signed values in "mape"; for one channel of positive values the numbers
    agree. Its divergence and its distance of spectra have better forms in `mixture_divergence` and
    `power_spectrum_hellinger`.

    Raises:
        ValueError: the shapes differ, or there are fewer than two times.
    """
    if pred.shape != ref.shape or pred.ndim != 3 or pred.shape[1] < 2:
        raise ValueError(
            f"series_scores got shapes {tuple(pred.shape)} and {tuple(ref.shape)}; expected (B, T, C) twice with two "
            "times or more."
        )
    p, y = pred.mT, ref.mT  # (B, C, T)
    error = p - y
    size = error.abs().mean(dim=2)
    square = error.square().mean(dim=2)
    variance = y.var(dim=2, correction=0)
    logs = [(u - u.amin(dim=2, keepdim=True)).log1p() for u in (p, y)]
    return {
        "mae": size,
        "rmse": square.sqrt(),
        "nrmse": ratio(square, variance).sqrt(),
        "marre": 100 * ratio(size, y.amax(dim=2) - y.amin(dim=2)),
        "r2": 1 - ratio(square, variance),
        "mape": 100 * ratio(error.abs(), y.abs()).mean(dim=2),
        "wape": 100 * ratio(size, y.abs().mean(dim=2)),
        "smape": 100 * ratio(2 * error.abs(), p.abs() + y.abs()).mean(dim=2),
        "rmsle": (logs[0] - logs[1]).square().mean(dim=2).sqrt(),
        "cv": 100 * ratio(error.std(dim=2, correction=0), y.mean(dim=2).abs()),
        "pearson": _pearson(p, y),
        "spearman": rank_correlation(p, y),
        "kendall": kendall_correlation(p, y),
    }


def _pearson(x: Tensor, y: Tensor) -> Tensor:
    """Correlation along the last axis, (..., n) twice -> (...)."""
    x, y = (u - u.mean(dim=-1, keepdim=True) for u in (x, y))
    return ratio((x * y).sum(dim=-1), x.norm(dim=-1) * y.norm(dim=-1))


def ranks(values: Tensor) -> Tensor:
    """Rank of each entry along the last axis from 1, equal ones sharing the mean of theirs, shaped like `values`."""
    ordered = values.sort(dim=-1).values.contiguous()
    below = torch.searchsorted(ordered, values.contiguous(), right=False)
    upto = torch.searchsorted(ordered, values.contiguous(), right=True)
    return 0.5 * (below + upto + 1).to(torch.float64)


def rank_correlation(x: Tensor, y: Tensor) -> Tensor:
    """Spearman's correlation along the last axis, (..., n) twice -> (...).

    Of two series, or of two rankings of methods: how far the order on one system holds on another.
    """
    return _pearson(ranks(x), ranks(y))


def kendall_correlation(x: Tensor, y: Tensor) -> Tensor:
    """Kendall's tau b along the last axis, (..., n) twice -> (...); all pairs at once, so memory grows as n^2."""
    a, b = (torch.sign(u.unsqueeze(-1) - u.unsqueeze(-2)).to(torch.float64) for u in (x, y))
    agree = (a * b).sum(dim=(-2, -1))
    return ratio(agree, (a.square().sum(dim=(-2, -1)) * b.square().sum(dim=(-2, -1))).sqrt())


def mutual_information(x: Tensor, y: Tensor, neighbours: int = 3) -> Tensor:
    """Mutual information of two series, (..., n) twice -> (...) [nats], whatever order relates them to each other.

    The estimate of Kraskov, Stoegbauer and Grassberger, Physical Review E 69 (2004) 066138, equation 8, from the
    distances to the k-th neighbours in the plane: psi(k) + psi(n) - <psi(n_x + 1) + psi(n_y + 1)>, n_x and n_y the other
    points that are nearer in x, and in y, alone. Not below zero. All pairs at once, so memory grows as n^2.

    Args:
        x: first series, of distinct values.
        y: second series.
        neighbours: k; 3 is usual, more scatter less and blur more.

    Raises:
        ValueError: the shapes differ, or there are no more points than neighbours.
    """
    n = x.shape[-1]
    if x.shape != y.shape or not 1 <= neighbours < n:
        raise ValueError(
            f"mutual_information got shapes {tuple(x.shape)} and {tuple(y.shape)} with {neighbours} neighbours; expected "
            "two of one shape with more points than neighbours, of which there is at least one."
        )
    gaps = []
    for u in (x, y):
        u = ratio(u - u.mean(dim=-1, keepdim=True), u.std(dim=-1, keepdim=True)).to(torch.float64)
        gaps.append((u.unsqueeze(-1) - u.unsqueeze(-2)).abs())
    # The nearest one is the point itself.
    reach = torch.maximum(*gaps).kthvalue(neighbours + 1, dim=-1, keepdim=True).values
    inside = [torch.digamma((gap < reach).sum(dim=-1).clamp_min(1).to(torch.float64)) for gap in gaps]
    known = torch.digamma(
        torch.tensor([float(neighbours), float(n)], dtype=torch.float64, device=x.device)
    ).sum()
    return (known - (inside[0] + inside[1]).mean(dim=-1)).clamp_min(0)
