"""The uniform Jacobian penalty."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sciml.jacobian.energy import check_options, jacobian_energy
from sciml.jacobian.probes import Distribution
from sciml.jacobian.products import Mode, Target
from sciml.regularizers.base import Regularizer


def channel_scales(scale: Sequence[float] | Tensor | None, owner: str) -> Tensor | None:
    """Channel scales as a float64 tensor (C,).

    Raises:
        ValueError: they are not a list of positive, finite numbers.
    """
    if scale is None:
        return None
    values = torch.as_tensor(scale, dtype=torch.float64).detach().clone()
    if values.ndim != 1 or not bool((torch.isfinite(values) & (values > 0)).all()):
        raise ValueError(f"{owner} got channel scales {values.tolist()}; expected positive numbers (C,).")
    return values


class Frobenius(Regularizer):
    """Squared Frobenius norm of the Jacobian, estimated with random probes (Hutchinson 1989).

    Args:
        probes: random directions per state; one, drawn afresh at each call, is unbiased.
        normalise: divide by n, the number of channels times points, so that the identity has the
            penalty one on every grid.
        target: "identity" penalises J - I, which leaves near-identity steps alone.
        scale: a typical size of each channel (C,), where channels have unlike units.
        distribution: of the directions.
        mode: how the Jacobian is multiplied, see `jacobian_vector`.
    """

    scale: Tensor | None

    def __init__(
        self,
        probes: int = 1,
        normalise: bool = True,
        target: Target | None = None,
        scale: Sequence[float] | Tensor | None = None,
        distribution: Distribution = "rademacher",
        mode: Mode = "auto",
    ) -> None:
        super().__init__()
        check_options("row", probes, distribution, mode, target)
        self.probes = probes
        self.normalise = normalise
        self.target = target
        self.distribution = distribution
        self.mode = mode
        self.register_buffer("scale", channel_scales(scale, "Frobenius"), persistent=False)

    def forward(
        self, step: Callable[[Tensor], Tensor], u: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        energy = jacobian_energy(
            step,
            u,
            probes=self.probes,
            distribution=self.distribution,
            mode=self.mode,
            target=self.target,
            scale=self.scale,
            generator=generator,
        )
        total = energy.flatten(1).sum(dim=1)
        return total / u[0].numel() if self.normalise else total
