"""Whether fronts stay as steep as they are."""

from __future__ import annotations

import torch
from torch import Tensor


def steepness(pred: Tensor, ref: Tensor) -> Tensor:
    """Steepest slope of a prediction over that of the truth, (B, T, C, *points) twice -> (B, T, C), on grids.

    The largest difference of two neighbours along any axis, each axis with its own; the axes' ratios are averaged.
    One is right, below one smeared, above one ringing or blowing up. A reference without slopes has none (NaN).

    Raises:
        ValueError: the shapes differ, or there is no axis of points.
    """
    if pred.shape != ref.shape or pred.ndim < 4:
        raise ValueError(
            f"steepness got shapes {tuple(pred.shape)} and {tuple(ref.shape)}; expected (B, T, C, *points) twice."
        )
    ratios = []
    for axis in range(3, pred.ndim):
        if pred.shape[axis] < 2:
            continue
        above, below = (u.diff(dim=axis).abs().flatten(3).amax(dim=3) for u in (pred, ref))
        ratios.append(torch.where(below > 0, above / torch.where(below > 0, below, 1.0), torch.nan))
    if not ratios:
        raise ValueError(f"steepness got points of shape {tuple(pred.shape[3:])}; expected at least two.")
    return torch.stack(ratios).mean(dim=0)
