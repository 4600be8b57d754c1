"""The uniform Jacobian penalty."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sciml.jacobian.energy import Kind, per_sample
from sciml.jacobian.probes import Distribution
from sciml.jacobian.products import Mode
from sciml.regularizers.base import Regularizer
from sciml.regularizers.energy import Energy, Target


class Frobenius(Regularizer):
    """Squared Frobenius norm of the Jacobian, estimated with random probes.

    Without bias, and the gradient too (Hutchinson 1989). Under other names: the contractive penalty (Rifai et al.
    2011) is this one; adding noise of standard deviation s to the input of a step costs s^2 ||J||_F^2 / n to
    second order; and the output-projected penalty of Hoffman, Roberts and Yaida (arXiv 1908.02729),
    C |J^T v|^2 / 2 with v uniform on the unit sphere of the C outputs, is half of
    `Frobenius(kind="column", distribution="sphere", normalise=False)`.

    Args:
        probes: random directions per state; one, drawn afresh at each call, is unbiased. None takes all unit
            vectors: exact, for small systems. Several are cheaper in mode "vjp", which computes the step once.
        normalise: divide by n, the number of channels times points, so that the identity has the
            penalty one on every grid.
        target: "identity" penalises J - I, which leaves near-identity steps alone; "solver" J - J_ref, the
            difference from the solver's own Jacobian at the same state, which keeps the true sensitivity.
        scale: a typical size of each channel (C,), where channels have unlike units.
        distribution: of the directions; signs scatter least.
        mode: how the Jacobian is multiplied, see `sciml.jacobian.Jacobian`.
        kind: "row" by products J v, "column" by J^T v: the same number on average, at a lower cost.
        solver: for the target of that name: a step, in the model's units and precision.

    Raises:
        ValueError: an option is unknown or out of range.
    """

    def __init__(
        self,
        probes: int | None = 1,
        normalise: bool = True,
        target: Target | None = None,
        scale: Sequence[float] | Tensor | None = None,
        distribution: Distribution = "rademacher",
        mode: Mode = "auto",
        kind: Kind = "row",
        solver: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.normalise = normalise
        self.energy = Energy(kind, probes, target, solver, scale, distribution, mode, "Frobenius")

    def forward(
        self, step: Callable[[Tensor], Tensor], u: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        total = per_sample(self.energy(step, u, generator))
        return total / u[0].numel() if self.normalise else total
