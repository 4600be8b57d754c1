"""Parts of a surrogate's training and of its judgement that are not in the package, named in my_study.yaml."""

from __future__ import annotations

import torch
from torch import Tensor

from sciml.constraints import Constraint
from sciml.objectives import Objective
from sciml.regularizers import Regularizer


class LogCosh(Objective):
    """One step, compared by log cosh: square for small errors, absolute value for large ones.

    Args:
        scale: error at which the one turns into the other.
    """

    horizon = 1  # states after the first one that a window has to have

    def __init__(self, scale: float = 0.1) -> None:
        super().__init__()
        if not scale > 0:
            raise ValueError(f"LogCosh got scale={scale}; expected a positive number.")
        self.scale = scale

    def forward(self, step, window: Tensor, generator=None):
        error = (step(window[:, 0]) - window[:, 1]) / self.scale
        # log cosh x without overflow
        size = error.abs()
        loss = (size + torch.log1p(torch.exp(-2 * size)) - 0.6931471805599453).mean()
        return loss, {"step_1": loss.detach()}


class NoGrowth(Regularizer):
    """Mean square by which a small random perturbation of the state grows in one step, where it grows.

    Args:
        size: of the perturbation, in the units of the state that the objective sees.
    """

    def __init__(self, size: float = 1e-2) -> None:
        super().__init__()
        self.size = size

    def forward(self, step, u: Tensor, generator=None) -> Tensor:
        direction = torch.randn(u.shape, generator=generator, dtype=u.dtype, device=u.device)
        after = (step(u + self.size * direction) - step(u)) / self.size
        growth = after.flatten(1).norm(dim=1) / direction.flatten(1).norm(dim=1)
        return (growth - 1).clamp_min(0).square()  # (B,)


class Within(Constraint):
    """Values between two bounds, in physical units.

    Args:
        low, high: the bounds.
    """

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        if not low < high:
            raise ValueError(f"Within got low={low}, high={high}; expected low < high.")
        self.low, self.high = low, high

    def project(self, u: Tensor, previous=None, context=None) -> Tensor:
        return u.clamp(self.low, self.high)

    def violation(self, u: Tensor, previous=None, context=None) -> Tensor:
        return (u - self.project(u)).abs().flatten(1).amax(dim=1)


def worst_point(pred: Tensor, ref: Tensor) -> Tensor:
    """Largest error of any point over the largest value of the truth, (B, T, C, *points) twice -> (B, T, C)."""
    return (pred - ref).abs().flatten(3).amax(dim=3) / ref.abs().flatten(3).amax(dim=3)
