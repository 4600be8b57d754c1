"""Errors point by point, reduced over space only.

Everywhere: `pred` and `ref` are (B, T, C, *points) in physical units, frame 0 is the first prediction
(the initial state is left out), and `weights` (*points) are cell volumes where points are not equally
heavy (`grid.weights()`, `mesh.weights()`). Space is reduced first, then the root is taken, then channels,
samples and times: squares averaged over samples before the root give larger, incomparable numbers.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

RelativeMode = Literal["pdebench", "joint", "apebench"]


def checked_pair(pred: Tensor, ref: Tensor, weights: Tensor | None, owner: str) -> Tensor | None:
    """The weights (points,), summing to one, or None.

    Raises:
        ValueError: the shapes of prediction, reference and weights do not fit.
    """
    if pred.shape != ref.shape or pred.ndim < 4:
        raise ValueError(
            f"{owner} got a prediction of shape {tuple(pred.shape)} and a reference of shape "
            f"{tuple(ref.shape)}; expected two of the same shape (B, T, C, *points)."
        )
    if weights is None:
        return None
    if weights.shape != pred.shape[3:]:
        raise ValueError(
            f"{owner} got weights of shape {tuple(weights.shape)} for points {tuple(pred.shape[3:])}."
        )
    flat = weights.to(pred).flatten()
    return flat / flat.sum()


def spatial_mean(u: Tensor, weights: Tensor | None) -> Tensor:
    """Mean over points, (B, T, C, *points) -> (B, T, C); `weights` as `checked_pair` returns them."""
    flat = u.flatten(3)
    return flat.mean(dim=3) if weights is None else (flat * weights).sum(dim=3)


def _ratio(error: Tensor, size: Tensor) -> Tensor:
    return error / size.clamp_min(torch.finfo(size.dtype).tiny)


def rmse(pred: Tensor, ref: Tensor, weights: Tensor | None = None) -> Tensor:
    """Root mean square error, (B, T, C) [unit of the field]."""
    w = checked_pair(pred, ref, weights, "rmse")
    return spatial_mean((pred - ref).square(), w).sqrt()


def nrmse(
    pred: Tensor, ref: Tensor, weights: Tensor | None = None, mode: RelativeMode = "pdebench"
) -> Tensor:
    """Error relative to the size of the reference.

    Three conventions that give different numbers: "pdebench" one ratio per channel, (B, T, C), to be
    averaged (arXiv 2210.07182); "joint" one ratio of norms over channels and points together, (B, T, 1),
    the usual relative L2; "apebench" the sum over channels of the ratios, (B, T, 1) (arXiv 2411.00180).
    Grows without bound where the reference decays.
    """
    if mode not in get_args(RelativeMode):
        raise ValueError(f"nrmse got mode {mode!r}; expected one of {list(get_args(RelativeMode))}.")
    w = checked_pair(pred, ref, weights, "nrmse")
    error, size = spatial_mean((pred - ref).square(), w), spatial_mean(ref.square(), w)
    if mode == "joint":
        return _ratio(error.sum(2, keepdim=True).sqrt(), size.sum(2, keepdim=True).sqrt())
    ratio = _ratio(error.sqrt(), size.sqrt())
    return ratio if mode == "pdebench" else ratio.sum(2, keepdim=True)


def vrmse(pred: Tensor, ref: Tensor, weights: Tensor | None = None) -> Tensor:
    """Error relative to the spatial spread of the reference, (B, T, C).

        sqrt( <e^2> / (Var(ref) + 1e-7) )

    with the unbiased variance over points, as The Well defines it (arXiv 2412.00568). One is no better
    than predicting the spatial mean; unlike `nrmse` it does not reward a large constant background.
    """
    w = checked_pair(pred, ref, weights, "vrmse")
    centred = ref - spatial_mean(ref, w).reshape(*ref.shape[:3], *[1] * (ref.ndim - 3))
    variance = spatial_mean(centred.square(), w)
    count = centred[0, 0, 0].numel()
    # Sum of squared weights is 1/N for equal ones, so this is the factor N / (N - 1) of equal weights.
    concentration = 1 / count if w is None else float(w.square().sum())
    variance = variance / (1 - concentration)
    return (spatial_mean((pred - ref).square(), w) / (variance + 1e-7)).sqrt()


def max_error(pred: Tensor, ref: Tensor) -> Tensor:
    """Largest absolute error over points, (B, T, C) [unit of the field]."""
    checked_pair(pred, ref, None, "max_error")
    return (pred - ref).abs().flatten(3).amax(dim=3)


def crmse(pred: Tensor, ref: Tensor, weights: Tensor | None = None) -> Tensor:
    """Error of the domain mean, |<pred> - <ref>|, (B, T, C) [unit of the field].

    PDEBench's conservation error is its root mean square over samples.
    """
    w = checked_pair(pred, ref, weights, "crmse")
    return spatial_mean(pred - ref, w).abs()
