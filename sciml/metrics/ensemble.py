"""Forecasts that are many: how good an ensemble is, and whether it knows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from sciml.metrics.pointwise import checked_mode, checked_pair, spatial_mean

EnsembleMode = Literal["metric_of_mean", "mean_of_metric"]


def _checked(members: Tensor, ref: Tensor, weights: Tensor | None, owner: str) -> Tensor | None:
    if members.ndim != ref.ndim + 1 or not members.shape[0]:
        raise ValueError(
            f"{owner} got members of shape {tuple(members.shape)} and a reference of {tuple(ref.shape)}; expected "
            "(M, B, T, C, *points) and (B, T, C, *points)."
        )
    return checked_pair(members[0], ref, weights, owner)


def ensemble_metric(
    metric: Callable[[Tensor, Tensor], Tensor],
    members: Tensor,
    ref: Tensor,
    mode: EnsembleMode = "metric_of_mean",
) -> Tensor:
    """A deterministic metric of an ensemble, shaped as the metric of one member.

    "metric_of_mean" scores the mean of the members, which is smooth and beats every member in mean square beyond the
    predictability time; "mean_of_metric" is what one member may be expected to score. Report both.

    Args:
        metric: (pred, ref) -> values.
        members: (M, B, T, C, *points).
        ref: (B, T, C, *points).
        mode: which.
    """
    checked_mode(mode, EnsembleMode, "ensemble_metric")
    _checked(members, ref, None, "ensemble_metric")
    if mode == "metric_of_mean":
        return metric(members.mean(dim=0), ref)
    return torch.stack([metric(member, ref) for member in members]).mean(dim=0)


def crps(members: Tensor, ref: Tensor, weights: Tensor | None = None, fair: bool = False) -> Tensor:
    """Continuous ranked probability score, E|X - y| - E|X - X'|/2, averaged over space, (B, T, C) [unit of the field].

    (M, B, T, C, *points) and (B, T, C, *points). The mean absolute error for a single member. Expectations are over the
    members as they are (Gneiting and Raftery 2007, eq. 21), which favours large ensembles; `fair` leaves the pairs of a
    member with itself out (Ferro 2014), so that ensembles of unlike sizes compare, and needs two members.

    Raises:
        ValueError: shapes do not fit, or a fair score is asked of one member.
    """
    w = _checked(members, ref, weights, "crps")
    count = len(members)
    if fair and count < 2:
        raise ValueError("crps got one member; the fair score needs two or more.")
    accuracy = (members - ref).abs().mean(dim=0)
    ordered = members.sort(dim=0).values
    # sum_ij |x_i - x_j| = 2 sum_i (2 i - M - 1) x_(i) for sorted x, i from 1.
    rank = 2 * torch.arange(1, count + 1, dtype=members.dtype, device=members.device) - count - 1
    pairs = 2 * (ordered * rank.reshape(-1, *[1] * ref.ndim)).sum(dim=0)
    spread = pairs / (count * (count - 1) if fair else count**2)
    return spatial_mean(accuracy - spread / 2, w)


def ensemble_spread(members: Tensor, weights: Tensor | None = None) -> Tensor:
    """Root mean square deviation of the members from their mean, (M, B, T, C, *points) -> (B, T, C) [unit of the field].

    With sqrt((M + 1)/M) it equals the `rmse` of the mean where the members and the truth are drawn alike
    (Fortin et al. 2014); smaller, the ensemble is too sure of itself. Unbiased over members, of which it needs two.
    """
    if members.ndim < 4 or len(members) < 2:
        raise ValueError(
            f"ensemble_spread got shape {tuple(members.shape)}; expected (M, B, T, C, *points) with M of two or more."
        )
    w = checked_pair(members[0], members[0], weights, "ensemble_spread")
    return spatial_mean(members.var(dim=0), w).sqrt()
