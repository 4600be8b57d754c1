"""A penalty on what turns errors instead of damping them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sciml.jacobian.asymmetry import asymmetry
from sciml.jacobian.probes import Distribution, check_probes
from sciml.jacobian.products import Mode, check_mode
from sciml.regularizers.base import Regularizer
from sciml.regularizers.energy import channel_scales


class Asymmetry(Regularizer):
    """Antisymmetric part of the Jacobian, 2 ||A||_F^2 / n, estimated with random probes (Jacobian homeostasis).

    For steps of gradient flows and diffusive physics, whose Jacobian is symmetric. Not for transport or Hamiltonian
    systems, whose generator is antisymmetric. Single values can be negative; the mean is not.

    Laborieux and Zenke, Improving equilibrium propagation without weight symmetry through Jacobian homeostasis
    (ICLR 2024), take it with the probability 0.4 and the weight 0.5 and do not divide by the probability: the
    weight here is then 0.2.

    Args:
        probes: random directions per state; None takes all unit vectors.
        probability: with which a training update takes the penalty, divided by it: the same gradient on average,
            cheaper. Other updates get zero.
        scale: a typical size of each channel (C,).
        distribution: of the directions.
        mode: how the Jacobian is multiplied, see `sciml.jacobian.Jacobian`.

    Raises:
        ValueError: an option is unknown or out of range.
    """

    scale: Tensor | None

    def __init__(
        self,
        probes: int | None = 1,
        probability: float = 1.0,
        scale: Sequence[float] | Tensor | None = None,
        distribution: Distribution = "gaussian",
        mode: Mode = "auto",
    ) -> None:
        super().__init__()
        check_probes(probes, distribution)
        check_mode(mode)
        if not 0 < probability <= 1:
            raise ValueError(f"Asymmetry got probability={probability}; expected a number in (0, 1].")
        self.probes = probes
        self.probability = float(probability)
        self.distribution = distribution
        self.mode = mode
        self.register_buffer("scale", channel_scales(scale, "Asymmetry"), persistent=False)

    def forward(
        self, step: Callable[[Tensor], Tensor], u: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        share = self.probability if self.training else 1.0
        if share < 1.0:
            device = None if generator is None else generator.device
            if float(torch.rand((), generator=generator, device=device)) >= share:
                return torch.zeros(len(u), dtype=u.dtype, device=u.device)
        found = asymmetry(
            step,
            u,
            probes=self.probes,
            distribution=self.distribution,
            mode=self.mode,
            scale=self.scale,
            generator=generator,
        )
        return found / share
