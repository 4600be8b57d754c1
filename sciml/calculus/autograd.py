"""Derivatives of functions of scattered points, by automatic differentiation."""

from __future__ import annotations

import torch
from torch import Tensor

from sciml.calculus.base import Calculus
from sciml.calculus.spectral import check_request


class Autograd(Calculus):
    """Derivatives of a field that was computed from the points x, as physics-informed networks need.

    Exact to rounding, and differentiable again. Each value must depend on its own point only: the
    gradient of the sum over the points is then the derivative at each.

    Args:
        x: points (B, D, *points) with `requires_grad`, from which the fields are computed [length].

    Raises:
        ValueError: x carries no gradient or has no axes, or a field was not computed from x.
    """

    def __init__(self, x: Tensor) -> None:
        super().__init__()
        if x.ndim < 3 or not 1 <= x.shape[1] <= 3:
            raise ValueError(
                f"Autograd got points of shape {tuple(x.shape)}; expected (B, D, *points) with D from 1 "
                "to 3."
            )
        if not x.requires_grad:
            raise ValueError(
                "Autograd got points without gradients; call x.requires_grad_() before the field is "
                "computed from them."
            )
        self.x = x
        self.dimension = x.shape[1]

    def coordinates(self, u: Tensor) -> Tensor:
        return self.x.detach()

    def derivative(self, u: Tensor, axis: int, order: int = 1) -> Tensor:
        check_request(self, axis, order)
        for _ in range(order):
            u = self.gradient(u)[:, :, axis]
        return u

    def gradient(self, u: Tensor) -> Tensor:
        return torch.stack([_sum_gradient(u[:, c], self.x) for c in range(u.shape[1])], dim=1)

    def laplacian(self, u: Tensor) -> Tensor:
        return self.div(self.gradient(u))

    def time_derivative(self, u: Tensor, t: Tensor) -> Tensor:
        """du/dt of u (B, C, *points) computed from times t (B, 1, *points) with `requires_grad`."""
        return torch.cat([_sum_gradient(u[:, c], t) for c in range(u.shape[1])], dim=1)


def _sum_gradient(values: Tensor, at: Tensor) -> Tensor:
    """Gradient of sum(values) (B, *points) with respect to `at` (B, D, *points), which it keeps."""
    if not (torch.is_grad_enabled() and values.requires_grad):
        raise ValueError(
            "Autograd got a field that carries no gradient; compute it from the points x given to "
            "Autograd, with gradients enabled."
        )
    (slope,) = torch.autograd.grad(values.sum(), at, create_graph=True, materialize_grads=True)
    # The slope of a linear field is a constant without a graph; it must still be differentiable (to 0).
    return slope if slope.requires_grad else slope + 0.0 * at
