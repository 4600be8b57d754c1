"""Whether a rollout lives, moves, and keeps what it should keep."""

from __future__ import annotations

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


def freeze_time(pred: Tensor, ref: Tensor, dt: float, ratio: float = 0.01, steps: int = 10) -> Tensor:
    """Lead time at which a prediction stops moving while the truth goes on, (B,) [time].

    It is frozen if its change per step is below `ratio` times that of the reference for `steps` steps in
    a row: a collapse to a fixed point, which late errors of a decaying flow do not show. T dt where it
    never is.
    """
    if steps < 1:
        raise ValueError(f"freeze_time got steps={steps}; expected at least 1.")
    first = first_run(movement(pred, ref) < ratio, steps)
    frames = pred.shape[1]
    return torch.where(first < frames - 1, first + 1, frames).to(torch.float64) * dt


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


def drift_slope(drift: Tensor, dt: float) -> Tensor:
    """Rate of growth of a drift, the slope of ln d against time by least squares, (B, T) -> (B,) [1/time].

    Frames with a drift of zero or one that is not finite are left out; NaN where fewer than two remain. Frame j lies at
    (j + 1) dt. A drift that grows like t^p has a slope that falls with the length of the rollout: compare equal
    lengths, and with the drift of the reference.
    """
    if drift.ndim != 2 or not dt > 0:
        raise ValueError(
            f"drift_slope got shape {tuple(drift.shape)} and dt={dt}; expected (B, T) and a positive time step."
        )
    usable = torch.isfinite(drift) & (drift > 0)
    weight = usable.to(drift.dtype)
    count = weight.sum(dim=1, keepdim=True)
    time = (torch.arange(drift.shape[1], dtype=drift.dtype, device=drift.device) + 1) * dt
    logs = torch.where(usable, drift, 1.0).log()
    centred = (time - (weight * time).sum(1, keepdim=True) / count.clamp_min(1)) * weight
    slope = (centred * logs).sum(dim=1) / centred.square().sum(dim=1)
    return torch.where(count.squeeze(1) > 1, slope, torch.nan)


def balance_residual(energy: Tensor, rate: Tensor, dt: float) -> Tensor:
    """Mean over time of |dE/dt - rate|, (B, T) twice -> (B,) [energy/time].

    The rate is injection minus dissipation, as `energy_budget` sums it up. Between two frames the change of the energy
    is compared with the mean of the two rates, which errs by O(dt^2) for a smooth flow: take the residual of the
    reference as the floor.

    Args:
        energy: E at equal distances in time.
        rate: what the equation says dE/dt is at those times.
        dt: the distance [time].
    """
    if energy.ndim != 2 or energy.shape != rate.shape or energy.shape[1] < 2 or not dt > 0:
        raise ValueError(
            f"balance_residual got shapes {tuple(energy.shape)} and {tuple(rate.shape)} and dt={dt}; expected "
            "(B, T) twice with two times or more, and a positive time step."
        )
    change = energy.diff(dim=1) / dt
    return (change - 0.5 * (rate[:, 1:] + rate[:, :-1])).abs().mean(dim=1)


def movement(pred: Tensor, ref: Tensor, initial: Tensor | None = None) -> Tensor:
    """Change per step of the prediction over that of the reference, |p_t+1 - p_t| / |r_t+1 - r_t|, (B, T - 1).

    Infinite where the reference stands still. With the states (B, C, *points) before the first frame, (B, T).
    """
    checked_pair(pred, ref, None, "movement")
    if initial is not None:
        first = initial.unsqueeze(1)
        pred, ref = torch.cat([first, pred], dim=1), torch.cat([first, ref], dim=1)
    change, truth = (u.flatten(2).diff(dim=1).norm(dim=2) for u in (pred, ref))
    return moved(change, truth)


def moved(change: Tensor, truth: Tensor) -> Tensor:
    """change / truth, infinite where nothing should have changed."""
    return torch.where(truth > 0, change / truth, torch.inf)


def first_run(flags: Tensor, length: int) -> Tensor:
    """Index at which the first `length` true values in a row begin, (B, T) of bool -> (B,); T where none do."""
    frames = flags.shape[1]
    if frames < length:
        return torch.full((flags.shape[0],), frames, device=flags.device)
    runs = flags.long().unfold(1, length, 1).sum(dim=2) == length
    index = torch.arange(runs.shape[1], device=flags.device)
    return torch.where(runs, index, frames).amin(dim=1)
