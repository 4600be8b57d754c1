"""Losses on one step and on several steps in a row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint as recompute

from sciml.objectives.base import Discrepancy, Norm, Objective, Parts, checked_window


class Unrolled(Objective):
    """Compare the first K states of a rollout with the data, L = sum_k w_k l(F^k(u_0), u_k).

    With `gradient="full"` the parameters see how they shape later inputs (memory K steps); with "none"
    every input is cut off from its past, which shows the step its own errors but keeps no long-term
    gradient; an integer m cuts after every m steps, between the two (1 is "none", K is "full"). Taxonomy
    and comparison: List, Chen, Bali and Thuerey, arXiv 2402.12971.

    Args:
        steps: K, at least 1. The window needs K + 1 states; further ones are not used.
        gradient: "full", "none", or how many steps a gradient reaches back.
        norm: see `Discrepancy`.
        channel_scale: see `Discrepancy`.
        reduction: "mean" over k keeps the size of the gradient as K grows, "sum" does not.
        weights: w_k (K,), ones where left out.
        checkpoint: compute inside each step again in the backward pass: memory of the states only.

    Raises:
        ValueError: an argument is out of range, or a window is too short.
    """

    def __init__(
        self,
        steps: int,
        gradient: Literal["full", "none"] | int = "full",
        norm: Norm = "mse",
        channel_scale: Sequence[float] | Tensor | None = None,
        reduction: Literal["mean", "sum"] = "mean",
        weights: Sequence[float] | None = None,
        checkpoint: bool = False,
    ) -> None:
        super().__init__()
        if steps < 1:
            raise ValueError(f"Unrolled got steps={steps}; expected at least 1.")
        reach = steps if gradient == "full" else 1 if gradient == "none" else gradient
        if not isinstance(reach, int) or isinstance(reach, bool) or reach < 1:
            raise ValueError(
                f"Unrolled got gradient={gradient!r}; expected 'full', 'none' or a number of steps from 1."
            )
        if reduction not in ("mean", "sum"):
            raise ValueError(f"Unrolled got reduction={reduction!r}; expected 'mean' or 'sum'.")
        factors = tuple(float(w) for w in weights) if weights is not None else (1.0,) * steps
        if len(factors) != steps or min(factors) < 0 or sum(factors) <= 0:
            raise ValueError(
                f"Unrolled got weights {factors}; expected {steps}, zero or more, not all zero."
            )
        self.steps = steps
        self.horizon = steps
        self.reach = reach
        self.weights = factors
        self.reduction = reduction
        self.checkpoint = checkpoint
        self.discrepancy = Discrepancy(norm, channel_scale)

    def forward(
        self,
        step: Callable[[Tensor], Tensor],
        window: Tensor,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Parts]:
        window = checked_window(window, self.steps + 1, type(self).__name__)
        u = window[:, 0]
        terms: list[Tensor] = []
        parts: Parts = {}
        for k in range(1, self.steps + 1):
            if k > 1 and (k - 1) % self.reach == 0:
                u = u.detach()
            u = recompute(step, u, use_reentrant=False) if self.checkpoint else step(u)
            loss = self.discrepancy(u, window[:, k]).mean()
            parts[f"step_{k}"] = loss.detach()
            terms.append(self.weights[k - 1] * loss)
        total = torch.stack(terms).sum()
        return (total / self.steps if self.reduction == "mean" else total), parts


class OneStep(Objective):
    """Compare one step with the data, L = l(F(u_0), u_1): `Unrolled` with one step.

    Args:
        norm: see `Discrepancy`.
        channel_scale: see `Discrepancy`.
    """

    def __init__(self, norm: Norm = "mse", channel_scale: Sequence[float] | Tensor | None = None) -> None:
        super().__init__()
        self.unrolled = Unrolled(1, norm=norm, channel_scale=channel_scale)

    def forward(
        self,
        step: Callable[[Tensor], Tensor],
        window: Tensor,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Parts]:
        return self.unrolled(step, checked_window(window, 2, "OneStep"), generator)
