"""The pushforward loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sciml.objectives.base import Discrepancy, Norm, Objective, Parts, checked_window


class Pushforward(Objective):
    """Take free steps, then one step with gradient, L = l(F(z), u_{r+1}) with z = F^r(u_0) held.

    The step learns to correct its own errors at the memory of one step. It minimises no fixed scalar:
    its fixed points balance gradients at states that move with the parameters. Brandstetter, Worrall
    and Welling, ICLR 2022, arXiv 2202.03376.

    Args:
        steps: r, the free steps, 0 or more; 0 is `OneStep`. The window needs r + 2 states.
        random: draw r uniformly from 0 to `steps` for each window batch.
        norm: see `Discrepancy`.
        channel_scale: see `Discrepancy`.

    Raises:
        ValueError: `steps` is negative, or a window is too short.
    """

    def __init__(
        self,
        steps: int = 1,
        random: bool = False,
        norm: Norm = "mse",
        channel_scale: Sequence[float] | Tensor | None = None,
    ) -> None:
        super().__init__()
        if steps < 0:
            raise ValueError(f"Pushforward got steps={steps}; expected 0 or more.")
        self.steps = steps
        self.horizon = steps + 1
        self.random = random
        self.discrepancy = Discrepancy(norm, channel_scale)

    def forward(
        self,
        step: Callable[[Tensor], Tensor],
        window: Tensor,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Parts]:
        window = checked_window(window, self.steps + 2, "Pushforward")
        free = self.steps
        if self.random:
            device = "cpu" if generator is None else generator.device
            free = int(torch.randint(0, self.steps + 1, (), generator=generator, device=device))
        u = window[:, 0]
        with torch.no_grad():
            for _ in range(free):
                u = step(u)
        loss = self.discrepancy(step(u), window[:, free + 1]).mean()
        return loss, {f"step_{free + 1}": loss.detach()}
