"""Distance of two rollouts that may run ahead of or behind each other."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from sciml.metrics.pointwise import checked_mode, checked_pair, flat_points

WarpMode = Literal["plain", "well"]


def dtw_distance(pred: Tensor, ref: Tensor, window: int = 10, mode: WarpMode = "plain") -> Tensor:
    """Dynamic time warping: the least error over alignments in time, (B, T, C, *points) twice -> (B, C).

    Frames i and j at most `window` apart are compared by the mean square difference over points; the sum along the best
    path from the first pair of frames to the last, each step forward in one or in both, divided by T, under a root.
    "plain" compares the states as they are and has the unit of the field. "well" is The Well's (its code): states are
    first divided by their norm over the channels at each point plus 1e-7, the first pair is free, and j - i runs from
    -window to window - 1.

    Not differentiable in its choice of path; takes no gradients.

    Raises:
        ValueError: the shapes differ, or the window is below one.
    """
    checked_mode(mode, WarpMode, "dtw_distance")
    checked_pair(pred, ref, None, "dtw_distance")
    if window < 1:
        raise ValueError(f"dtw_distance got window={window}; expected at least 1.")
    with torch.no_grad():
        p, r = flat_points(pred), flat_points(ref)
        if mode == "well":
            p, r = (u / (u.norm(dim=2, keepdim=True) + 1e-7) for u in (p, r))
        frames, last = p.shape[1], window if mode == "well" else window + 1
        start = 1 if mode == "well" else 0
        far = p.new_full((p.shape[0], p.shape[2]), torch.inf)
        # One row of the table at a time, by the frame of the reference.
        before: dict[int, Tensor] = (
            {0: torch.zeros_like(far)} if mode == "well" else {-1: torch.zeros_like(far)}
        )
        for i in range(start, frames):
            row: dict[int, Tensor] = {}
            for j in range(max(start, i - window), min(frames, i + last)):
                cost = (p[:, i] - r[:, j]).square().mean(dim=2)
                best = torch.minimum(before.get(j, far), before.get(j - 1, far))
                row[j] = cost + torch.minimum(best, row.get(j - 1, far))
            before = row
        total = before.get(frames - 1, far)
        return (total / frames).sqrt()
