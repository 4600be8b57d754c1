"""Averages over windows of lead time."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def lead_windows(frames: int, edges: int = 5) -> list[tuple[int, int]]:
    """Log-spaced windows [first, last) of lead time that cover a rollout, as The Well forms them.

    The edges are 0 and floor(exp(linspace(0, ln frames, edges))) (arXiv 2412.00568, its code; at most 100 frames there);
    windows that the rounding leaves empty are left out. The last one ends at `frames`.
    """
    if frames < 1 or edges < 2:
        raise ValueError(f"lead_windows got frames={frames}, edges={edges}; expected at least 1 and 2.")
    count = min(frames, edges)
    # The shift keeps exp(ln n) = n from falling below n by rounding.
    marks = [0] + [int(math.exp(math.log(frames) * k / max(1, count - 1)) + 1e-9) for k in range(count)]
    marks[-1] = frames
    return [(a, b) for a, b in zip(marks, marks[1:], strict=False) if a < b]


def window_means(values: Tensor, windows: list[tuple[int, int]] | None = None) -> Tensor:
    """Means of an error over windows of time, (B, T, ...) -> (B, windows, ...); those of `lead_windows` by default."""
    chosen = lead_windows(values.shape[1]) if windows is None else windows
    return torch.stack([values[:, a:b].mean(dim=1) for a, b in chosen], dim=1)
