"""A penalty on how volumes of states shrink."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

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
        reference: of log |det J| per unknown if normalised, of the whole otherwise; or "solver" for that of the
            solver at the same states.
        method: "dense", "series" or "auto", see `sciml.jacobian.log_determinant`.
        terms: of the series.
        probes: of the series, at least 2; None for all unit vectors.
        normalise: divide log |det J| by the number of unknowns, so that grids compare.
        distribution: of the directions.
        mode: how the Jacobian is multiplied, see `sciml.jacobian.Jacobian`.
        solver: for the reference of that name: a step, in the model's units and precision.

    Raises:
        ValueError: an option is unknown or out of range.
    """

    def __init__(
        self,
        reference: float | Literal["solver"] = 0.0,
        method: Method = "auto",
        terms: int = 10,
        probes: int | None = 2,
        normalise: bool = True,
        distribution: Distribution = "rademacher",
        mode: Mode = "auto",
        solver: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        check_method(method, terms)
        check_probes(probes, distribution)
        check_mode(mode)
        if probes == 1:
            raise ValueError(
                "LogDeterminant got probes=1; expected at least 2, whose products have no bias, or None."
            )
        if isinstance(reference, str) and (reference != "solver" or solver is None):
            raise ValueError(
                f"LogDeterminant got reference={reference!r} and {'no' if solver is None else 'a'} solver; expected a "
                "number, or 'solver' and the step to compare with."
            )
        # In a tuple: the parameters of the solver, if it has any, are not the model's.
        self.reference = (solver if isinstance(reference, str) else float(reference),)
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
        (reference,) = self.reference
        if reference is None or isinstance(reference, float):
            return torch.tensor(reference or 0.0, dtype=u.dtype, device=u.device)
        with torch.no_grad():
            found = log_determinant(
                reference,
                u.detach(),
                method="dense" if dense else "series",
                terms=self.terms,
                probes=self.probes,
                distribution=self.distribution,
                mode=self.mode,
                generator=generator,
            )
        return found / u[0].numel() if self.normalise else found
