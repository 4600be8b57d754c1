"""Errors point by point, reduced over space only.

Everywhere: `pred` and `ref` are (B, T, C, *points) in physical units ((B, T, C) for systems without space), frame 0
is the first prediction (the initial state is left out), and `weights` (*points) are cell volumes where points are not
equally heavy (`grid.weights()`, `mesh.weights()`). Space is reduced first, then the root is taken, then channels,
samples and times: squares averaged over samples before the root give larger, incomparable numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

RelativeMode = Literal["pdebench", "joint", "global", "apebench"]
SampleMode = Literal["sample", "pdebench"]


def checked_pair(pred: Tensor, ref: Tensor, weights: Tensor | None, owner: str) -> Tensor | None:
    """The weights (points,), summing to one, or None.

    Raises:
        ValueError: the shapes of prediction, reference and weights do not fit.
    """
    if pred.shape != ref.shape or pred.ndim < 3:
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


def checked_mode(mode: str, known: object, owner: str) -> None:
    """Raise ValueError unless `mode` is one of a Literal's."""
    if mode not in get_args(known):
        raise ValueError(f"{owner} got mode {mode!r}; expected one of {list(get_args(known))}.")


def flat_points(u: Tensor) -> Tensor:
    """(B, T, C, *points) -> (B, T, C, N), with N = 1 where there is no space."""
    return u.reshape(*u.shape[:3], -1)


def spatial_mean(u: Tensor, weights: Tensor | None) -> Tensor:
    """Mean over points, (B, T, C, *points) -> (B, T, C); `weights` as `checked_pair` returns them."""
    flat = flat_points(u)
    return flat.mean(dim=3) if weights is None else (flat * weights).sum(dim=3)


def ratio(error: Tensor, size: Tensor) -> Tensor:
    """error / size, infinite or zero where the size is zero."""
    return error / size.clamp_min(torch.finfo(size.dtype).tiny)


def rmse(pred: Tensor, ref: Tensor, weights: Tensor | None = None) -> Tensor:
    """Root mean square error, (B, T, C) [unit of the field]."""
    w = checked_pair(pred, ref, weights, "rmse")
    return spatial_mean((pred - ref).square(), w).sqrt()


def nrmse(
    pred: Tensor, ref: Tensor, weights: Tensor | None = None, mode: RelativeMode = "pdebench"
) -> Tensor:
    """Error relative to the size of the reference.

    Four conventions that give different numbers: "pdebench" one ratio per channel, (B, T, C), to be
    averaged (arXiv 2210.07182); "joint" one ratio of norms over channels and points together, (B, T, 1),
    the usual relative L2; "global" the same over all times as well, (B, 1, 1), which hides late divergence;
    "apebench" the sum over channels of the ratios, (B, T, 1) (arXiv 2411.00180). Grows without bound where
    the reference decays; `initial_nrmse` does not.
    """
    checked_mode(mode, RelativeMode, "nrmse")
    w = checked_pair(pred, ref, weights, "nrmse")
    error, size = spatial_mean((pred - ref).square(), w), spatial_mean(ref.square(), w)
    if mode in ("joint", "global"):
        over = 2 if mode == "joint" else (1, 2)
        return ratio(error.sum(over, keepdim=True).sqrt(), size.sum(over, keepdim=True).sqrt())
    each = ratio(error.sqrt(), size.sqrt())
    return each if mode == "pdebench" else each.sum(2, keepdim=True)


def initial_nrmse(pred: Tensor, ref: Tensor, initial: Tensor, weights: Tensor | None = None) -> Tensor:
    """Error relative to the size of the initial state (B, C, *points), channels together, (B, T, 1).

    For solutions that decay, where an error relative to the reference of the same time says little.
    """
    w = checked_pair(pred, ref, weights, "initial_nrmse")
    if initial.shape != ref[:, 0].shape:
        raise ValueError(
            f"initial_nrmse got an initial state of shape {tuple(initial.shape)} for states "
            f"{tuple(ref[:, 0].shape)}."
        )
    error = spatial_mean((pred - ref).square(), w).sum(2, keepdim=True).sqrt()
    size = spatial_mean(initial.unsqueeze(1).square(), w).sum(2, keepdim=True).sqrt()
    return ratio(error, size)


def srmse(pred: Tensor, ref: Tensor, weights: Tensor | None = None) -> Tensor:
    """Symmetric relative error, 2 |e| / (|pred| + |ref|) in root mean squares, (B, T, C), at most 2.

    Bounded where the reference goes to zero. APEBench sums it over channels.
    """
    w = checked_pair(pred, ref, weights, "srmse")
    size = spatial_mean(pred.square(), w).sqrt() + spatial_mean(ref.square(), w).sqrt()
    return ratio(2 * spatial_mean((pred - ref).square(), w).sqrt(), size)


def vrmse(pred: Tensor, ref: Tensor, weights: Tensor | None = None) -> Tensor:
    """Error relative to the spatial spread of the reference, (B, T, C).

        sqrt( <e^2> / (Var(ref) + 1e-7) )

    with the unbiased variance over points, as The Well defines it (arXiv 2412.00568). One is no better
    than predicting the spatial mean; unlike `nrmse` it does not reward a large constant background.

    Raises:
        ValueError: there is one point only, which has no spread.
    """
    w = checked_pair(pred, ref, weights, "vrmse")
    flat = flat_points(ref)
    count = flat.shape[3]
    if count < 2:
        raise ValueError("vrmse got states of a single point, which have no spread in space; use nrmse.")
    variance = spatial_mean((flat - spatial_mean(ref, w).unsqueeze(3)).square(), w)
    # Sum of squared weights is 1/N for equal ones, so this is the factor N / (N - 1) of equal weights.
    concentration = 1 / count if w is None else float(w.square().sum())
    variance = variance / (1 - concentration)
    return (spatial_mean((pred - ref).square(), w) / (variance + 1e-7)).sqrt()


def relative_l1(
    pred: Tensor,
    ref: Tensor,
    groups: Sequence[Sequence[int]] | None = None,
    weights: Tensor | None = None,
) -> Tensor:
    """100 sum |e| / sum |ref| over points and the channels of each group, (B, T, groups) [percent].

    Poseidon's error (arXiv 2405.19101): groups are physical quantities, such as the components of the velocity, and
    the median over samples is reported. A reference that is zero counts as 1e-10.

    Args:
        pred: prediction.
        ref: reference.
        groups: channel numbers of each group; all channels as one where left out.
        weights: of the points.
    """
    w = checked_pair(pred, ref, weights, "relative_l1")
    channels = pred.shape[2]
    chosen = [list(range(channels))] if groups is None else [list(group) for group in groups]
    if not chosen or any(not group or not all(0 <= c < channels for c in group) for group in chosen):
        raise ValueError(
            f"relative_l1 got groups {chosen}; expected channel numbers from 0 to {channels - 1}."
        )
    error, size = spatial_mean((pred - ref).abs(), w), spatial_mean(ref.abs(), w)
    points = 1 if w is not None else max(1, pred[0, 0, 0].numel())
    parts = []
    for group in chosen:
        total = size[:, :, group].sum(2) * points
        total = torch.where(total == 0, torch.full_like(total, 1e-10), total)
        parts.append(100 * error[:, :, group].sum(2) * points / total)
    return torch.stack(parts, dim=2)


def max_error(pred: Tensor, ref: Tensor, mode: SampleMode = "sample") -> Tensor:
    """Largest absolute error over points [unit of the field].

    "sample" gives (B, T, C); "pdebench" the worst over all samples as well, (1, T, C), which grows with the number of
    samples (arXiv 2210.07182).
    """
    checked_mode(mode, SampleMode, "max_error")
    checked_pair(pred, ref, None, "max_error")
    worst = flat_points((pred - ref).abs()).amax(dim=3)
    return worst if mode == "sample" else worst.amax(dim=0, keepdim=True)


def crmse(pred: Tensor, ref: Tensor, weights: Tensor | None = None, mode: SampleMode = "sample") -> Tensor:
    """Error of the domain mean, |<pred> - <ref>| [unit of the field].

    "sample" gives (B, T, C); "pdebench" its root mean square over samples, (1, T, C), the conservation error of
    arXiv 2210.07182.
    """
    checked_mode(mode, SampleMode, "crmse")
    w = checked_pair(pred, ref, weights, "crmse")
    error = spatial_mean(pred - ref, w).abs()
    return error if mode == "sample" else error.square().mean(dim=0, keepdim=True).sqrt()


def brmse(pred: Tensor, ref: Tensor) -> Tensor:
    """Root mean square error on the outermost points of a grid, (B, T, C) [unit of the field].

    As PDEBench counts them (arXiv 2210.07182): each side by itself, so that edges and corners count once for every
    side they belong to.
    """
    checked_pair(pred, ref, None, "brmse")
    if pred.ndim < 4:
        raise ValueError(f"brmse got states of shape {tuple(pred.shape)}; expected points on a grid.")
    squares = (pred - ref).square()
    total, count = squares.new_zeros(squares.shape[:3]), 0
    for axis in range(3, squares.ndim):
        for side in (0, -1):
            face = flat_points(squares.select(axis, side))
            total = total + face.sum(dim=3)
            count += face.shape[3]
    return (total / count).sqrt()
