"""A penalty on expansion only."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sciml.jacobian.energy import Kind, per_sample
from sciml.jacobian.probes import Distribution
from sciml.jacobian.products import Mode
from sciml.regularizers.base import Regularizer
from sciml.regularizers.energy import Energy, Target


class Hinge(Regularizer):
    """Mean over points of relu(sqrt(q + eps) - rho)^2: only where errors are enlarged beyond rho.

    q is the row energy of the Jacobian; contraction costs nothing, so a dissipative step is left as it is. The
    penalty is of the sampled q: with few probes, points whose true energy is somewhat below rho^2 are pressed at
    times, the less the more probes are taken.

    Args:
        rho: the enlargement that is free.
        eps: keeps the root differentiable where q is zero.
        probes: random directions per state, averaged before the root; None takes all unit vectors.
        target: "identity" measures J - I, "solver" J - J_ref.
        scale: a typical size of each channel (C,), where channels have unlike units.
        distribution: of the directions.
        mode: how the Jacobian is multiplied, see `sciml.jacobian.Jacobian`.
        kind: "row" presses where errors appear, "column" where they come from.
        solver: for the target of that name.

    Raises:
        ValueError: an option is unknown or out of range.
    """

    def __init__(
        self,
        rho: float = 1.0,
        eps: float = 1e-6,
        probes: int | None = 1,
        target: Target | None = None,
        scale: Sequence[float] | Tensor | None = None,
        distribution: Distribution = "rademacher",
        mode: Mode = "auto",
        kind: Kind = "row",
        solver: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        if not rho >= 0 or not eps > 0:
            raise ValueError(f"Hinge got rho={rho}, eps={eps}; expected rho >= 0 and a positive eps.")
        self.rho = float(rho)
        self.eps = float(eps)
        self.energy = Energy(kind, probes, target, solver, scale, distribution, mode, "Hinge")

    def forward(
        self, step: Callable[[Tensor], Tensor], u: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        q = self.energy(step, u, generator)
        return per_sample(torch.relu((q + self.eps).sqrt() - self.rho).square()) / q[0].numel()
