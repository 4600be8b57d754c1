"""Short forecasts from every point of a long series."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def prediction_error(
    step: Callable[[Tensor], Tensor], series: Tensor, steps: int = 20, chunk: int = 4096
) -> Tensor:
    """PE(n): mean square error of forecasts n steps ahead, started from every state of a series.

    (B, T, C, *points) -> (C,), averaged over starts, samples and points (Hess et al. 2023, arXiv 2306.04406). Takes no
    gradients.

    Args:
        step: advances states (b, C, *points) by the distance of the series' frames.
        series: true states, standardised as published.
        steps: n.
        chunk: starts that are advanced at once.

    Raises:
        ValueError: the series is not longer than the forecasts.
    """
    if series.ndim < 3 or steps < 1 or series.shape[1] <= steps or chunk < 1:
        raise ValueError(
            f"prediction_error got a series of shape {tuple(series.shape)} and {steps} steps; expected "
            "(B, T, C, *points) with more times than steps, and at least one."
        )
    starts, targets = (u.flatten(0, 1) for u in (series[:, :-steps], series[:, steps:]))
    total = torch.zeros(series.shape[2], dtype=torch.float64, device=series.device)
    with torch.no_grad():
        for u, target in zip(starts.split(chunk), targets.split(chunk), strict=True):
            for _ in range(steps):
                u = step(u)
            squares = (u - target).square().reshape(*u.shape[:2], -1).mean(dim=2)
            total += squares.double().sum(dim=0)
    return total / len(starts)
