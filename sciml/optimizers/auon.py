"""Momentum divided by a measure of its outliers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from sciml.optimizers.momentum import MatrixOptimizer


class AuON(MatrixOptimizer):
    """Nesterov momentum over the root mean square of cosh(gamma u / ||u||), matrix by matrix.

    No orthogonalisation. Since ||u|| is the norm of the whole matrix, the divisor is 1 + gamma^2 / (2 n) for n
    entries: beyond a few dozen of them this is momentum with decay, and is kept for comparison.

    Args:
        params: groups of `parameter_groups`, or parameters; what is no hidden matrix goes to AdamW.
        lr: of the matrices.
        momentum: decay of the average of gradients.
        weight_decay: decoupled, times the rate.
        gamma: weight of outliers.
        other_lr: rate of AdamW; 1e-3 of its own, since `lr` is no step of a weight here.
        betas, eps: of AdamW.

    Raises:
        ValueError: a number is out of its range.

    AuON, arXiv 2509.24320, and its released code.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.24,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        gamma: float = 1.5,
        other_lr: float | None = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        if not gamma >= 0:
            raise ValueError(f"AuON got gamma={gamma}; expected 0 or more.")
        self.gamma = gamma
        super().__init__(params, lr, momentum, True, weight_decay, "none", other_lr, betas, eps)

    def direction(self, u: Tensor) -> Tensor:
        size = u.abs()
        norm = torch.linalg.matrix_norm(u, keepdim=True).clamp(min=torch.finfo(size.dtype).tiny)
        spread = torch.cosh(self.gamma * size / norm).square().mean(dim=(-2, -1), keepdim=True).sqrt()
        return u / spread
