"""One step from a disturbed state."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sciml.objectives.base import Discrepancy, Norm, Objective, Parts, checked_window


class NoisyOneStep(Objective):
    """One step from a state with noise, L = l(F(u_0 + e), u_1 + (1 - gamma) e).

    With gamma = 1 the step has to remove the noise, with 0 to carry it along (Pfaff et al. 2021,
    arXiv 2010.03409, appendix A.2). To second order in the noise this is `OneStep` plus a uniform
    Jacobian penalty, so noise much above the one-step error makes smooth, dissipative problems worse.

    Args:
        std: standard deviation of e, in units of `channel_scale` where that is given, else of the state.
        gamma: the part of the noise that the step should remove.
        nodes: True (*points) where noise is added, everywhere if left out: leave out nodes whose values
            are prescribed.
        norm: see `Discrepancy`.
        channel_scale: see `Discrepancy`.

    Raises:
        ValueError: `std` is negative or gamma not between 0 and 1.
    """

    nodes: Tensor | None

    def __init__(
        self,
        std: float,
        gamma: float = 1.0,
        nodes: Tensor | None = None,
        norm: Norm = "mse",
        channel_scale: Sequence[float] | Tensor | None = None,
    ) -> None:
        super().__init__()
        if not std >= 0 or not 0 <= gamma <= 1:
            raise ValueError(
                f"NoisyOneStep got std={std}, gamma={gamma}; expected std >= 0 and gamma from 0 to 1."
            )
        self.std = float(std)
        self.gamma = float(gamma)
        self.register_buffer("nodes", None if nodes is None else nodes.bool(), persistent=False)
        self.discrepancy = Discrepancy(norm, channel_scale)

    def forward(
        self,
        step: Callable[[Tensor], Tensor],
        window: Tensor,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Parts]:
        window = checked_window(window, 2, "NoisyOneStep")
        u, target = window[:, 0], window[:, 1]
        if self.std > 0:
            device = u.device if generator is None else generator.device
            noise = torch.randn(u.shape, generator=generator, device=device, dtype=u.dtype).to(u.device)
            noise = noise * self.std
            if self.discrepancy.channel_scale is not None:
                scale = self.discrepancy.channel_scale.to(u)
                noise = noise * scale.reshape(1, -1, *[1] * (u.ndim - 2))
            if self.nodes is not None:
                noise = torch.where(self.nodes, noise, 0.0)
            u = u + noise
            target = target + (1 - self.gamma) * noise
        loss = self.discrepancy(step(u), target).mean()
        return loss, {"step_1": loss.detach()}
