"""How long a prediction stays with the truth."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from sciml.metrics.pointwise import checked_mode, checked_pair, flat_points

CorrelationMode = Literal["pearson", "cosine", "well"]


def correlation(
    pred: Tensor, ref: Tensor, weights: Tensor | None = None, mode: CorrelationMode = "pearson"
) -> Tensor:
    """Correlation of prediction and reference at each time, (B, T, C, *points) twice -> (B, T).

    Three conventions: "pearson", means removed, channels and points taken together, biased moments
    (PDEArena, arXiv 2308.05732); "cosine", no mean removed, averaged over channels (APEBench and, for one
    channel, JAX-CFD); "well", Pearson per channel with a biased covariance over unbiased deviations, a
    factor (N - 1)/N smaller, averaged over channels (The Well). Blind to amplitude: a field that is ten
    times too weak still has correlation one. Without space "pearson" runs over the channels alone, which says
    something where these are many and alike, as in Lorenz (1996).
    """
    checked_mode(mode, CorrelationMode, "correlation")
    w = checked_pair(pred, ref, weights, "correlation")
    channels = pred.shape[2]
    p, r = flat_points(pred), flat_points(ref)
    if w is None:
        w = torch.full_like(p[0, 0, 0], 1 / p.shape[3])
    if mode == "pearson":
        p, r, w = p.flatten(2), r.flatten(2), w.repeat(channels) / channels
    if mode != "cosine":
        p = p - (p * w).sum(-1, keepdim=True)
        r = r - (r * w).sum(-1, keepdim=True)
    size = ((p.square() * w).sum(-1) * (r.square() * w).sum(-1)).sqrt()
    value = (p * r * w).sum(-1) / size.clamp_min(torch.finfo(p.dtype).tiny)
    if mode == "well":
        value = value * (1 - w.square().sum())
    return value if mode == "pearson" else value.mean(dim=2)


def correlation_time(correlation: Tensor, dt: float, threshold: float = 0.8) -> Tensor:
    """First time at which the correlation falls below a threshold, (B, T) -> (B,) [time].

    Frame j lies at time (j + 1) dt, and the correlation is 1 at time 0. The crossing is interpolated
    linearly; the correlation may recover later, which does not count. T dt where it never falls below:
    such a value is censored, the true one is larger. A correlation that is not a number counts as lost
    from the frame before.

    Times of samples averaged are not the time of the averaged correlation; for the latter pass
    `correlation.mean(0, keepdim=True)`.
    """
    if correlation.ndim != 2 or not dt > 0:
        raise ValueError(
            f"correlation_time got shape {tuple(correlation.shape)} and dt={dt}; expected (B, T) and a "
            "positive time step."
        )
    frames = correlation.shape[1]
    rho = torch.cat([torch.ones_like(correlation[:, :1]), correlation], dim=1)
    below = ~(rho >= threshold)
    index = torch.arange(frames + 1, device=rho.device)
    first = torch.where(below, index, frames + 1).amin(dim=1)
    lost = first <= frames
    at = first.clamp(1, frames)
    before = rho.gather(1, (at - 1).unsqueeze(1)).squeeze(1)
    after = rho.gather(1, at.unsqueeze(1)).squeeze(1)
    fraction = torch.nan_to_num((before - threshold) / (before - after), nan=0.0)
    time = (at - 1 + fraction.clamp(0, 1)) * dt
    return torch.where(lost, time, frames * dt)


def correlation_steps(correlation: Tensor, threshold: float = 0.8) -> Tensor:
    """Number of steps at which the correlation, averaged over samples, exceeds a threshold, (B, T) -> ().

    PDEArena's count (arXiv 2308.05732, its code), which goes on after the first crossing.
    """
    if correlation.ndim != 2:
        raise ValueError(f"correlation_steps got shape {tuple(correlation.shape)}; expected (B, T).")
    return (correlation.mean(dim=0) > threshold).sum()


def gmean(values: Tensor, up_to: int = 100, floor: float = 1e-12, cap: float = 1e3) -> Tensor:
    """Geometric mean of an error over the first `up_to` times, (B, T, ...) -> (B, ...).

    APEBench's rollout score (arXiv 2411.00180): a factor two counts the same early and late. Values are
    clamped to [floor, cap], and those that are not finite count as `cap`.
    """
    if up_to < 1 or not 0 < floor < cap:
        raise ValueError(
            f"gmean got up_to={up_to}, floor={floor}, cap={cap}; expected 1 or more, 0 < floor < cap."
        )
    early = torch.nan_to_num(values[:, :up_to], nan=cap, posinf=cap, neginf=cap)
    return early.clamp(floor, cap).log().mean(dim=1).exp()
