"""How many rollouts are still alive, with the band that so many samples allow."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from sciml.metrics.pointwise import checked_mode

Interval = Literal["wilson", "greenwood"]


class SurvivalCurve(NamedTuple):
    """A step function: from `times[i]` on (until the next) the fraction `survival[i]` lives, all (K,)."""

    times: Tensor
    survival: Tensor
    lower: Tensor
    upper: Tensor
    at_risk: Tensor


def survival(valid: Tensor) -> Tensor:
    """Fraction of trajectories that are still valid at each time, (B, T) of bool -> (T,)."""
    return valid.to(torch.float64).mean(dim=0)


def survival_curve(
    times: Tensor, failed: Tensor, level: float = 0.95, interval: Interval = "wilson"
) -> SurvivalCurve:
    """Kaplan and Meier's estimate of the fraction that survives, with a pointwise confidence band.

    A rollout that ended without failing is censored: it lived at least that long, and counts among those at risk up to
    then (J. Am. Stat. Assoc. 53, 1958). "greenwood" is the normal band of Greenwood's variance, of no width while
    nobody has failed; "wilson" is Wilson's band (J. Am. Stat. Assoc. 22, 1927) for the number of samples that has the
    same variance without censoring, which stays honest near one and zero.

    The first entry is time zero, where all are alive. Later entries are the times of failure, and the last time of all.

    Args:
        times: of failure or of the end of the rollout (B,) [time], such as `blow_up_time` gives.
        failed: whether it failed then (B,) of bool; false is censored.
        level: of confidence, for each time by itself.
        interval: which band.

    Raises:
        ValueError: the shapes differ or are empty, or the level is not between zero and one.
    """
    checked_mode(interval, Interval, "survival_curve")
    if times.ndim != 1 or times.shape != failed.shape or not len(times):
        raise ValueError(
            f"survival_curve got times of shape {tuple(times.shape)} and flags of {tuple(failed.shape)}; "
            "expected (B,) twice."
        )
    if not 0 < level < 1:
        raise ValueError(f"survival_curve got level={level}; expected a number between zero and one.")
    t, dead = times.to(torch.float64), failed.bool()
    at = torch.unique(torch.cat([t.new_zeros(1), t[dead], t.max().reshape(1)]))
    deaths = (dead & (t == at.unsqueeze(1))).sum(dim=1).to(torch.float64)
    at_risk = (t >= at.unsqueeze(1)).sum(dim=1).to(torch.float64)
    alive = (1 - deaths / at_risk).cumprod(dim=0)
    # Greenwood's sum is infinite once nobody is left, where the variance is zero times infinity.
    spread = torch.where(deaths < at_risk, deaths / (at_risk * (at_risk - deaths)), 0.0).cumsum(dim=0)
    variance = alive.square() * spread
    z = torch.special.ndtri(torch.tensor(0.5 + level / 2, dtype=torch.float64, device=t.device))
    if interval == "greenwood":
        half = z * variance.sqrt()
        return SurvivalCurve(at, alive, (alive - half).clamp_min(0), (alive + half).clamp_max(1), at_risk)
    inner = (alive > 0) & (alive < 1) & (variance > 0)
    count = torch.where(inner, alive * (1 - alive) / variance, at_risk)
    # Before the first failure all at risk speak; after the last death those who died do.
    count = torch.where(alive <= 0, t.new_tensor(float(len(t))), count)
    bend = z.square() / count
    centre = (alive + bend / 2) / (1 + bend)
    half = z / (1 + bend) * (alive * (1 - alive) / count + bend / (4 * count)).sqrt()
    return SurvivalCurve(at, alive, (centre - half).clamp(0, 1), (centre + half).clamp(0, 1), at_risk)
