"""Contraction where there are no data."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sciml.objectives.base import Discrepancy, Distance, Norm, Objective, Parts, checked_window


class Dissipativity(Objective):
    """Ask the step to contract far outside the data, L = l(F(w), factor w) for random states w of large size.

    The directions of w are uniform on the sphere, its root mean square is uniform between two radii, which should
    lie well outside the states of the data (in units of the objective; where states are normalised theirs is about
    1). Added with a small weight to another loss (`WeightedSum`) it keeps rollouts from running off; with
    `sciml.models.Dissipative` around the step they cannot. Li et al., NeurIPS 2022, arXiv 2106.06898, section 4.

    Args:
        inner, outer: smallest and largest root mean square of w.
        factor: what should remain of w after one step.
        samples: number of random states, as many as windows if left out.
        norm: see `Discrepancy`.
        channel_scale: see `Discrepancy`; w has this size in each channel.

    Raises:
        ValueError: the radii are not 0 < inner <= outer, or another number is out of range.
    """

    def __init__(
        self,
        inner: float,
        outer: float,
        factor: float = 0.5,
        samples: int | None = None,
        norm: Norm | Distance = "mse",
        channel_scale: Sequence[float] | Tensor | None = None,
    ) -> None:
        super().__init__()
        if not 0 < inner <= outer or not 0 <= factor < 1 or (samples is not None and samples < 1):
            raise ValueError(
                f"Dissipativity got inner={inner}, outer={outer}, factor={factor}, samples={samples}; expected "
                "0 < inner <= outer, a factor from 0 to below 1, and at least one sample."
            )
        self.inner, self.outer, self.factor, self.samples = (
            float(inner),
            float(outer),
            float(factor),
            samples,
        )
        self.discrepancy = Discrepancy(norm, channel_scale)

    def forward(
        self,
        step: Callable[..., Tensor],
        window: Tensor,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Parts]:
        u = checked_window(window, 1, "Dissipativity")[:, 0]
        device = u.device if generator is None else generator.device
        count = len(u) if self.samples is None else self.samples
        w = torch.randn((count, *u.shape[1:]), generator=generator, device=device, dtype=u.dtype)
        radius = torch.rand(count, generator=generator, device=device, dtype=u.dtype)
        radius = self.inner + (self.outer - self.inner) * radius
        size = w.flatten(1).square().mean(dim=1).sqrt()
        w = (w * (radius / size).reshape(-1, *[1] * (u.ndim - 1))).to(u.device)
        w = self.discrepancy.scale(w)
        loss = self.discrepancy(step(w), self.factor * w).mean()
        return loss, {"dissipativity": loss.detach()}
