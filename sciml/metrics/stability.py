"""Whether a rollout lives, moves, and keeps what it should keep."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sciml.metrics.pointwise import checked_pair


def valid_frames(pred: Tensor, ref: Tensor, factor: float = 10.0) -> Tensor:
    """Frames before the blow-up, (B, T, C, *points) twice -> (B, T) of bool.

    A frame fails if a value is not finite or its norm exceeds `factor` times the largest norm of the
    reference trajectory; every later frame is invalid with it, whatever it holds.
    """
    checked_pair(pred, ref, None, "valid_frames")
    limit = factor * ref.flatten(2).norm(dim=2).amax(dim=1, keepdim=True)
    flat = pred.flatten(2)
    alive = torch.isfinite(flat).all(dim=2) & (flat.norm(dim=2) <= limit)
    return alive.long().cumprod(dim=1).bool()


def blow_up_time(pred: Tensor, ref: Tensor, dt: float, factor: float = 10.0) -> Tensor:
    """Lead time of the last valid frame before the blow-up, (B,) [time].

    Frame j lies at (j + 1) dt. T dt where the rollout survives: such a value is censored.
    """
    return valid_frames(pred, ref, factor).sum(dim=1) * dt


def survival(valid: Tensor) -> Tensor:
    """Fraction of trajectories that are still valid at each time, (B, T) of bool -> (T,)."""
    return valid.to(torch.float64).mean(dim=0)


def freeze_time(pred: Tensor, ref: Tensor, dt: float, ratio: float = 0.01, steps: int = 10) -> Tensor:
    """Lead time at which a prediction stops moving while the truth goes on, (B,) [time].

    It is frozen if its change per step is below `ratio` times that of the reference for `steps` steps in
    a row: a collapse to a fixed point, which late errors of a decaying flow do not show. T dt where it
    never is.
    """
    checked_pair(pred, ref, None, "freeze_time")
    if steps < 1:
        raise ValueError(f"freeze_time got steps={steps}; expected at least 1.")
    frames = pred.shape[1]
    end = torch.full((pred.shape[0],), frames * dt, dtype=torch.float64, device=pred.device)
    if frames <= steps:
        return end
    change, truth = (u.flatten(2).diff(dim=1).norm(dim=2) for u in (pred, ref))
    still = (change < ratio * truth).long()
    runs = still.unfold(1, steps, 1).sum(dim=2) == steps
    index = torch.arange(runs.shape[1], device=pred.device)
    first = torch.where(runs, index, frames).amin(dim=1)
    return torch.where(first < frames, (first + 1).to(torch.float64) * dt, end)


def invariant_drift(values: Tensor, initial: Tensor, scale: Tensor | float = 0.0) -> Tensor:
    """Relative change of an invariant, |I(t) - I(0)| / max(|I(0)|, scale), (B, T) -> (B, T).

    Args:
        values: the invariant along the rollout (B, T).
        initial: at the initial state (B,).
        scale: a size (B,) or a number for invariants that are zero at first, such as the momentum of a
            zero-mean flow: the integral of the absolute value of the integrand.
    """
    if values.ndim != 2 or initial.shape != values.shape[:1]:
        raise ValueError(
            f"invariant_drift got values of shape {tuple(values.shape)} and initial ones of shape "
            f"{tuple(initial.shape)}; expected (B, T) and (B,)."
        )
    floor = torch.as_tensor(scale, dtype=values.dtype, device=values.device)
    size = torch.maximum(initial.abs(), floor.expand(initial.shape))
    tiny = torch.finfo(values.dtype).tiny
    return (values - initial.unsqueeze(1)).abs() / size.clamp_min(tiny).unsqueeze(1)


def aggregate(values: Tensor, valid: Tensor | None = None, cap: float = 1.0) -> Mapping[str, Tensor]:
    """Statistics over samples, (B, ...) -> name -> (...).

    Invalid entries (and any that are not finite) are left out of "mean", "median", "lower" and "upper"
    quartile and "worst", which therefore speak of survivors only; "capped_mean" counts them as `cap` or
    the worst survivor, whichever is larger, and "valid" is the fraction of survivors. Where nobody
    survives, all but "valid" are `cap`.

    Args:
        values: a metric, samples first.
        valid: which entries count, like values; all finite ones where left out.
        cap: what an invalid entry costs; 1 is the error of predicting the mean, for `vrmse`.
    """
    usable = torch.isfinite(values)
    if valid is not None:
        if valid.shape != values.shape:
            raise ValueError(
                f"aggregate got values of shape {tuple(values.shape)} and flags of {tuple(valid.shape)}."
            )
        usable = usable & valid
    survivors = torch.where(usable, values, torch.nan)
    nobody = ~usable.any(dim=0)
    quantiles = torch.tensor([0.25, 0.5, 0.75], dtype=values.dtype, device=values.device)
    lower, median, upper = survivors.nanquantile(quantiles, dim=0)
    worst = torch.where(usable, values, -torch.inf).amax(dim=0)
    out = {
        "mean": survivors.nanmean(dim=0),
        "median": median,
        "lower": lower,
        "upper": upper,
        "worst": worst,
        "capped_mean": torch.where(usable, values, worst.clamp_min(cap).expand_as(values)).mean(dim=0),
    }
    out = {name: torch.where(nobody, cap, value) for name, value in out.items()}
    out["valid"] = usable.to(values.dtype).mean(dim=0)
    return out
