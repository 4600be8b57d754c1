"""One step from a disturbed state."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sciml.objectives.base import Distance, Norm, Objective, Parts
from sciml.objectives.schedules import Schedule
from sciml.objectives.starts import Noise
from sciml.objectives.unrolled import Unrolled


class NoisyOneStep(Objective):
    """One step from a state with noise, L = l(F(u_0 + e), u_1 + (1 - gamma) e).

    With gamma = 1 the step has to remove the noise, with 0 to carry it along (Pfaff et al. 2021,
    arXiv 2010.03409, appendix A.2). To second order in the noise this is `OneStep` plus a uniform
    Jacobian penalty, so noise much above the one-step error makes smooth, dissipative problems worse.
    `Unrolled` with one step that starts from `Noise`.

    Args:
        std: standard deviation of e, in units of `channel_scale` where that is given, else of the state;
            a number or a schedule.
        gamma: the part of the noise that the step should remove.
        nodes: True (*points) where noise is added, everywhere if left out: leave out nodes whose values
            are prescribed.
        norm: see `Discrepancy`.
        channel_scale: see `Discrepancy`.

    Raises:
        ValueError: `std` is negative or gamma not between 0 and 1.
    """

    def __init__(
        self,
        std: float | Schedule,
        gamma: float = 1.0,
        nodes: Tensor | None = None,
        norm: Norm | Distance = "mse",
        channel_scale: Sequence[float] | Tensor | None = None,
    ) -> None:
        super().__init__()
        start = Noise(std, gamma, nodes, channel_scale)
        self.unrolled = Unrolled(1, norm=norm, channel_scale=channel_scale, start=start)

    def forward(
        self,
        step: Callable[[Tensor], Tensor],
        window: Tensor,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Parts]:
        return self.unrolled(step, window, generator)
