"""Momentum whose matrices are orthogonalised."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from sciml.optimizers.momentum import Adjustment, MatrixOptimizer

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic iteration that inflates small singular values fastest (K. Jordan, 2024)."""


def orthogonalised(
    x: Tensor, iterations: int = 5, coefficients: tuple[float, float, float] = COEFFICIENTS
) -> Tensor:
    """Matrices (..., rows, columns), real or complex, with their singular values brought near one.

    Newton and Schulz's iteration X <- a X + (b A + c A^2) X with A = X X^H, after division by the Frobenius norm,
    in the type of x: the singular values end between about 0.7 and 1.2 and are not brought nearer by more
    iterations. A zero matrix stays zero.
    """
    a, b, c = coefficients
    tall = x.shape[-2] > x.shape[-1]
    x = x.mH if tall else x
    norm = torch.linalg.matrix_norm(x, keepdim=True)
    x = x / norm.clamp(min=torch.finfo(norm.dtype).tiny)
    for _ in range(iterations):
        gram = x @ x.mH
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x.mH if tall else x


class Muon(MatrixOptimizer):
    """Orthogonalised momentum for hidden matrices, convolutions and Fourier modes; AdamW for all else.

    `torch.optim.Muon` takes real weights with two axes only and iterates in bfloat16. This one takes every kind of
    `parameter_groups`, a Fourier weight as one complex matrix per mode, and iterates in the type of the weights, so
    that training in float64 keeps its digits. Clipping by the norm of the gradient changes nothing but the momentum's
    memory; an update has spectral norm of about one, whatever a penalty on the Jacobian or on the norm of the layer
    may want: tune both together. A mode whose gradient is mere rounding gets a full update all the same.

    Args:
        params: groups of `parameter_groups`, or parameters; what is no hidden matrix goes to AdamW.
        lr: of the matrices.
        momentum: decay of the average of gradients.
        nesterov: look ahead by one update.
        weight_decay: decoupled, times the rate.
        adjustment: "rms" lets rates of AdamW be used; "original" wants about 0.02.
        iterations: of Newton and Schulz.
        coefficients: of their quintic polynomial.
        other_lr: rate of AdamW; that of the matrices if left out.
        betas, eps: of AdamW.

    Raises:
        ValueError: a number is out of its range.

    K. Jordan et al., Muon (2024); adjustment "rms" from Liu et al., Muon is Scalable for LLM Training, arXiv 2502.16982.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0.95,
        nesterov: bool = True,
        weight_decay: float = 0.0,
        adjustment: Adjustment = "rms",
        iterations: int = 5,
        coefficients: tuple[float, float, float] = COEFFICIENTS,
        other_lr: float | None = None,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        if not 1 <= iterations < 100 or len(coefficients) != 3:
            raise ValueError(
                f"Muon got iterations={iterations}, coefficients={tuple(coefficients)}; expected 1 to 99 iterations of "
                "a polynomial with 3 coefficients."
            )
        self.iterations, self.coefficients = iterations, (coefficients[0], coefficients[1], coefficients[2])
        super().__init__(params, lr, momentum, nesterov, weight_decay, adjustment, other_lr, betas, eps)

    def direction(self, u: Tensor) -> Tensor:
        return orthogonalised(u, self.iterations, self.coefficients)
