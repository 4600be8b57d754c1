"""Orthogonalised momentum without its outliers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from sciml.optimizers.momentum import Adjustment, MatrixOptimizer
from sciml.optimizers.muon import COEFFICIENTS, orthogonalised


class ROOT(MatrixOptimizer):
    """Muon whose momentum is clipped at a quantile of its entries before it is orthogonalised.

    What exceeds the quantile of |u| is taken off (a soft threshold splits u into a bounded part and outliers), the
    bounded part is orthogonalised. The paper fits the polynomial's coefficients to the shape of each matrix and
    prints a few shapes of language models; those of Muon are used unless others are given.

    Args:
        params: groups of `parameter_groups`, or parameters; what is no hidden matrix goes to AdamW.
        lr: of the matrices.
        momentum: decay of the average of gradients.
        weight_decay: decoupled, times the rate.
        quantile: of |u| within each matrix, at which it is clipped; 1 clips nothing.
        adjustment: see `MatrixOptimizer`.
        coefficients: of Newton and Schulz's polynomial.
        other_lr: rate of AdamW; that of the matrices if left out.
        betas, eps: of AdamW.

    Raises:
        ValueError: a number is out of its range.

    ROOT: Robust Orthogonalized Optimizer for Neural Network Training, arXiv 2511.20626.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        quantile: float = 0.9,
        adjustment: Adjustment = "rms",
        coefficients: tuple[float, float, float] = COEFFICIENTS,
        other_lr: float | None = None,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        if not 0 < quantile <= 1 or len(coefficients) != 3:
            raise ValueError(
                f"ROOT got quantile={quantile}, coefficients={tuple(coefficients)}; expected a quantile in (0, 1] and 3 "
                "coefficients."
            )
        self.quantile, self.coefficients = quantile, (coefficients[0], coefficients[1], coefficients[2])
        super().__init__(params, lr, momentum, True, weight_decay, adjustment, other_lr, betas, eps)

    def direction(self, u: Tensor) -> Tensor:
        size = u.abs()
        limit = torch.quantile(size.flatten(-2), self.quantile, dim=-1)[..., None, None]
        # sgn, not sign: a complex entry keeps its phase.
        return orthogonalised(torch.sgn(u) * torch.minimum(size, limit), coefficients=self.coefficients)
