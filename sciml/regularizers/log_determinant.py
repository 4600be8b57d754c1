"""A penalty on how volumes of states shrink."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sciml.jacobian.determinant import (
    DENSE_LIMIT,
    Method,
    check_method,
    log_determinant,
    log_determinant_samples,
)
from sciml.jacobian.probes import Distribution, check_probes
from sciml.jacobian.products import Mode, check_mode
from sciml.regularizers.base import Regularizer


class LogDeterminant(Regularizer):
    """(log |det J| - reference)^2: volumes of states shrink as they do in truth.

    log |det J| is the sum of all finite-time Lyapunov exponents times dt. The reference is a number, such as that
    of an equation whose divergence is constant, or that of the solver at the same states.

    With the series, the square of one estimate would add its variance to the penalty; pairs of independent probes
    do not. Gradients of the dense determinant need J to be regular.

    Args:
        reference: of log |det J| per unknown if normalised, of the whole otherwise.
        solver: a step whose own log |det J| at the same states takes the place of the number.
        method: "dense", "series" or "auto", see `sciml.jacobian.log_determinant`.
        terms: of the series.
        probes: of the series, at least 2; None for all unit vectors.
        normalise: divide log |det J| by the number of unknowns, so that grids compare.
        distribution: of the directions.
        mode: how the Jacobian is multiplied, see `sciml.jacobian.Jacobian`.

    Raises:
        ValueError: an option is unknown or out of range.
    """

    def __init__(
        self,
        reference: float = 0.0,
        solver: Callable[[Tensor], Tensor] | None = None,
        method: Method = "auto",
        terms: int = 10,
        probes: int | None = 2,
        normalise: bool = True,
        distribution: Distribution = "rademacher",
        mode: Mode = "auto",
    ) -> None:
        super().__init__()
        check_method(method, terms)
        check_probes(probes, distribution)
        check_mode(mode)
        if probes == 1:
            raise ValueError(
                "LogDeterminant got probes=1; expected at least 2, whose products have no bias, or None."
            )
        self.reference = float(reference)
        self.solver = (solver,)  # in a tuple: its parameters, if any, are not the model's
        self.method: Method = method
        self.terms = terms
        self.probes = probes
        self.normalise = normalise
        self.distribution = distribution
        self.mode = mode

    def forward(
        self, step: Callable[[Tensor], Tensor], u: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        n = u[0].numel()
        dense = self.method == "dense" or (self.method == "auto" and n <= DENSE_LIMIT)
        size = n if self.normalise else 1
        wanted = self._wanted(u, dense, generator)
        if dense:
            found = log_determinant(step, u, method="dense", mode=self.mode)
            return (found / size - wanted).square()
        samples = log_determinant_samples(
            step,
            u,
            terms=self.terms,
            probes=self.probes,
            distribution=self.distribution,
            mode=self.mode,
            generator=generator,
        )
        off = samples / size - wanted
        if self.probes is None:
            return off.mean(dim=0).square()
        pairs = len(off) * (len(off) - 1)
        return (off.sum(dim=0).square() - off.square().sum(dim=0)) / pairs

    def _wanted(self, u: Tensor, dense: bool, generator: torch.Generator | None) -> Tensor:
        (solver,) = self.solver
        if solver is None:
            return torch.tensor(self.reference, dtype=u.dtype, device=u.device)
        with torch.no_grad():
            found = log_determinant(
                solver,
                u.detach(),
                method="dense" if dense else "series",
                terms=self.terms,
                probes=self.probes,
                distribution=self.distribution,
                mode=self.mode,
                generator=generator,
            )
        return found / u[0].numel() if self.normalise else found
