"""Whether steps of different length agree."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sciml.step import Step


def semigroup_defect(whole: Step, part: Step, u: Tensor) -> Tensor:
    """|F(u) - f^k(u)| / |F(u) - u|, how far one step is from k steps of dt / k, (B, C, *points) -> (B,).

    Zero for exact flows, of the order of their error for solvers, and about one for surrogates that have
    learnt each time step by itself. Two half steps against one, or k steps against one k times as long: the
    ratio of the steps' `dt` says. Without gradients.

    Args:
        whole: F, a step of length dt.
        part: f, a step of length dt / k with whole k.
        u: states.

    Raises:
        ValueError: the longer step is not a multiple of the shorter one.
    """
    times = round(whole.dt / part.dt)
    if times < 1 or not math.isclose(times * part.dt, whole.dt, rel_tol=1e-6):
        raise ValueError(
            f"semigroup_defect got steps of dt={whole.dt:g} and dt={part.dt:g}; expected the first to be a "
            "multiple of the second."
        )
    with torch.no_grad():
        once, often = whole(u), u
        for _ in range(times):
            often = part(often)
        change = (once - u).flatten(1).norm(dim=1)
        return (once - often).flatten(1).norm(dim=1) / change.clamp_min(torch.finfo(u.dtype).tiny)
