"""A penalty with heavy tails."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sciml.jacobian.energy import Kind, per_sample
from sciml.jacobian.probes import Distribution
from sciml.jacobian.products import Mode
from sciml.regularizers.base import Regularizer
from sciml.regularizers.energy import Energy, Target


class StudentT(Regularizer):
    """Mean over points of (a + 1/2) log(b + q/2): firm on small sensitivities, lenient on large ones.

    The penalty that remains when the local strength of `JAWS` has an inverse-gamma prior of shape a and scale b and
    is eliminated: the weight of q is (a + 1/2) / (2 b + q), so fronts, which have to be sensitive, are pressed less
    than smooth regions, without a network and without a limit to clamp at. The same form preserves edges in images
    (Perona and Malik, IEEE Transactions on Pattern Analysis and Machine Intelligence 12 (1990) 629-639).

    With one probe it is the logarithmic density of Student's t distribution of the derivative of the output at
    a point along a random direction; it does not estimate the penalty of the exact energies, which more probes
    approach. The value has no sign: use it with the logarithm of the loss.

    Args:
        shape: a, positive.
        scale_parameter: b, positive, in units of q; energies below it count as small.
        probes: random directions per state, averaged before the logarithm; None takes all unit vectors.
        target: "identity" measures J - I, "solver" J - J_ref.
        scale: a typical size of each channel (C,), where channels have unlike units.
        distribution: of the directions.
        mode: how the Jacobian is multiplied, see `sciml.jacobian.Jacobian`.
        kind: "row" or "column" energies.
        solver: for the target of that name.

    Raises:
        ValueError: an option is unknown or out of range.
    """

    def __init__(
        self,
        shape: float = 0.5,
        scale_parameter: float = 0.1,
        probes: int | None = 1,
        target: Target | None = None,
        scale: Sequence[float] | Tensor | None = None,
        distribution: Distribution = "rademacher",
        mode: Mode = "auto",
        kind: Kind = "row",
        solver: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        if not shape > 0 or not scale_parameter > 0:
            raise ValueError(
                f"StudentT got shape={shape}, scale_parameter={scale_parameter}; expected positive numbers."
            )
        self.shape = float(shape)
        self.scale_parameter = float(scale_parameter)
        self.energy = Energy(kind, probes, target, solver, scale, distribution, mode, "StudentT")

    def forward(
        self, step: Callable[[Tensor], Tensor], u: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        q = self.energy(step, u, generator)
        local = (self.shape + 0.5) * torch.log(self.scale_parameter + q / 2)
        return per_sample(local) / q[0].numel()
