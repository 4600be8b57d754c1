"""The pushforward loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sciml.objectives.base import Distance, Norm, Objective, Parts
from sciml.objectives.schedules import Schedule
from sciml.objectives.starts import FreeSteps
from sciml.objectives.unrolled import Unrolled


class Pushforward(Objective):
    """Take free steps, then one step with gradient, L = l(F(z), u_{r+1}) with z = F^r(u_0) held.

    The step learns to correct its own errors at the memory of one step. It minimises no fixed scalar:
    its fixed points balance gradients at states that move with the parameters. Brandstetter, Worrall
    and Welling, ICLR 2022, arXiv 2202.03376. `Unrolled` with one step that starts from `FreeSteps`.

    Args:
        steps: r, the free steps, 0 or more, perhaps of a schedule; 0 is `OneStep`. The window needs r + 2
            states for the largest r.
        random: draw r uniformly from 0 to `steps` for each window batch.
        norm: see `Discrepancy`.
        channel_scale: see `Discrepancy`.

    Raises:
        ValueError: `steps` is negative, or a window is too short.
    """

    def __init__(
        self,
        steps: int | Schedule = 1,
        random: bool = False,
        norm: Norm | Distance = "mse",
        channel_scale: Sequence[float] | Tensor | None = None,
    ) -> None:
        super().__init__()
        start = FreeSteps(steps, "batch" if random else "fixed")
        self.unrolled = Unrolled(1, norm=norm, channel_scale=channel_scale, start=start)
        self.horizon = self.unrolled.horizon
        self.shares = self.unrolled.shares

    def forward(
        self,
        step: Callable[[Tensor], Tensor],
        window: Tensor,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Parts]:
        return self.unrolled(step, window, generator)
