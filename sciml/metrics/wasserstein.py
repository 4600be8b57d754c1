"""Distances of distributions of numbers: how far mass has to be moved."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from sciml.metrics.pointwise import checked_mode

ValueMode = Literal["plain", "scaled", "well"]


def wasserstein(x: Tensor, y: Tensor) -> Tensor:
    """First Wasserstein distance of samples along the last axis, (..., n) and (..., m) -> (...) [their unit].

    The area between the two distribution functions: for equal numbers the mean distance of the sorted samples.
    """
    if x.shape[:-1] != y.shape[:-1] or not x.shape[-1] or not y.shape[-1]:
        raise ValueError(
            f"wasserstein got samples of shapes {tuple(x.shape)} and {tuple(y.shape)}; expected (..., n) and (..., m)."
        )
    p, q = x.sort(dim=-1).values, y.sort(dim=-1).values
    n, m = p.shape[-1], q.shape[-1]
    if n == m:
        return (p - q).abs().mean(dim=-1)
    # Both quantile functions are constant between neighbours of the merged grid of i/n and j/m.
    steps = torch.unique(torch.cat([torch.arange(1, n + 1) * m, torch.arange(1, m + 1) * n]))
    widths = (steps.diff(prepend=steps.new_zeros(1)).to(torch.float64) / (n * m)).to(p)
    first, second = ((steps - 1) // m).to(p.device), ((steps - 1) // n).to(p.device)
    return ((p[..., first] - q[..., second]).abs() * widths).sum(dim=-1)


def axis_wasserstein(x: Tensor, y: Tensor) -> Tensor:
    """First Wasserstein distance of each axis, (..., n, N) and (..., m, N) -> (..., N)."""
    return wasserstein(x.mT, y.mT)


def sliced_wasserstein(x: Tensor, y: Tensor, projections: int = 128, seed: int = 0) -> Tensor:
    """Mean first Wasserstein distance of projections onto random directions, (..., n, N), (..., m, N) -> (...).

    Directions are uniform on the sphere (Rabin et al. 2011; Bonneel et al. 2015); the seed fixes them, so that models
    are compared along the same ones.
    """
    if projections < 1 or x.ndim < 2 or x.shape[-1] != y.shape[-1]:
        raise ValueError(
            f"sliced_wasserstein got {projections} projections and points of shapes {tuple(x.shape)} and "
            f"{tuple(y.shape)}; expected at least one, (..., n, N) and (..., m, N)."
        )
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(x.shape[-1], projections, generator=generator, dtype=torch.float64)
    directions = (directions / directions.norm(dim=0)).to(x)
    return axis_wasserstein(x @ directions, y @ directions).mean(dim=-1)


def value_wasserstein(pred: Tensor, ref: Tensor, mode: ValueMode = "plain") -> Tensor:
    """First Wasserstein distance of the values over time and space, (B, T, C, *points) twice -> (B, C).

    "plain" has the unit of the field; "scaled" is divided by the root mean square of the reference. "well" divides by
    its mean square plus 1e-7 instead, which is not free of units: The Well's histogram distance, for comparison with it
    (its code). Points count equally.
    """
    checked_mode(mode, ValueMode, "value_wasserstein")
    if pred.ndim < 3 or pred.shape[0] != ref.shape[0] or pred.shape[2:] != ref.shape[2:]:
        raise ValueError(
            f"value_wasserstein got shapes {tuple(pred.shape)} and {tuple(ref.shape)}; expected (B, T, C, *points)."
        )
    x, y = (u.transpose(1, 2).flatten(2) for u in (pred, ref))
    distance = wasserstein(x, y)
    squares = y.square().mean(dim=-1)
    if mode == "plain":
        return distance
    return distance / (squares + 1e-7 if mode == "well" else squares.sqrt())


def histogram_wasserstein(first: Tensor, second: Tensor, width: Tensor | float) -> Tensor:
    """First Wasserstein distance of two histograms over the same bins, (..., bins) twice -> (...) [unit of width].

    Counts need not add up to the same number. Exact for values at the centres of the bins, so within a width.
    """
    p, q = (h.to(torch.float64) / h.sum(dim=-1, keepdim=True) for h in (first, second))
    return (p - q).cumsum(dim=-1).abs().sum(dim=-1) * width
