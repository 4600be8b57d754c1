"""Derivatives of functions of place by forward differentiation, for networks whose output is a derivative."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Field = Callable[..., Tensor]
"""x (B, D, *points), or x and t (B, 1, *points) -> (B, C, *points), each point by itself."""


def along(f: Callable[[Tensor], Tensor], x: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """f(x) and its derivative along a direction at each point, (B, D, *points) -> twice (B, C, *points).

    Works without gradients enabled, and is differentiable any number of times where they are.
    """
    found = torch.func.jvp(f, (x,), (direction,))
    return found[0], found[1]


def axis_slope(f: Callable[[Tensor], Tensor], x: Tensor, axis: int) -> Tensor:
    """df/dx_axis, (B, D, *points) -> (B, C, *points)."""
    direction = torch.zeros_like(x)
    direction[:, axis] = 1.0
    return along(f, x, direction)[1]


def gradient(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Gradient of the sum of the channels of f at each point, (B, D, *points) -> the same."""
    pulled = torch.func.vjp(f, x)
    found: Tensor = pulled[1](torch.ones_like(pulled[0]))[0]
    return found
