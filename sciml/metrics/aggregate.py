"""From one number per sample to what a table shows."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def aggregate(
    values: Tensor, valid: Tensor | None = None, cap: float = 1.0, *, higher_is_better: bool = False
) -> Mapping[str, Tensor]:
    """Statistics over samples or seeds, (B, ...) -> name -> (...).

    What is invalid or not finite can be told in three ways, and all three are given: "valid" is the fraction that
    survives; "mean", "median", "lower" and "upper" quartile and "worst" leave it out, which speaks of survivors only;
    "capped_mean" counts it as `cap` or the worst survivor, whichever is worse. Where nobody survives, all of these but
    "valid" are `cap`. "count" is the number of samples or seeds, survivors or not.

    Over seeds and samples reduce the samples first, then the seeds: they are not alike.

    Args:
        values: a metric, samples first.
        valid: which entries count, like values; all finite ones where left out.
        cap: what an invalid entry costs; 1 is the error of predicting the mean, for `vrmse`.
        higher_is_better: as for correlations; the worst is then the smallest.

    Raises:
        ValueError: there is no sample, or the flags are shaped otherwise.
    """
    if values.ndim < 1 or not values.shape[0]:
        raise ValueError(
            f"aggregate got values of shape {tuple(values.shape)}; expected (B, ...) with B > 0."
        )
    usable = torch.isfinite(values)
    if valid is not None:
        if valid.shape != values.shape:
            raise ValueError(
                f"aggregate got values of shape {tuple(values.shape)} and flags of {tuple(valid.shape)}."
            )
        usable = usable & valid
    sign = -1.0 if higher_is_better else 1.0
    survivors = torch.where(usable, values, torch.nan)
    nobody = ~usable.any(dim=0)
    quantiles = torch.tensor([0.25, 0.5, 0.75], dtype=values.dtype, device=values.device)
    lower, median, upper = survivors.nanquantile(quantiles, dim=0)
    worst = torch.where(usable, sign * values, -torch.inf).amax(dim=0)
    price = sign * worst.clamp_min(sign * cap)
    out = {
        "mean": survivors.nanmean(dim=0),
        "median": median,
        "lower": lower,
        "upper": upper,
        "worst": sign * worst,
        "capped_mean": torch.where(usable, values, price.expand_as(values)).mean(dim=0),
    }
    out = {name: torch.where(nobody, cap, value) for name, value in out.items()}
    out["valid"] = usable.to(values.dtype).mean(dim=0)
    out["count"] = torch.full_like(out["valid"], values.shape[0])
    return out
