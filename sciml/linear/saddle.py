"""Saddle-point systems of few equations in many unknowns, without matrices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Gradients:
    """Gradients A (B, q, n) of q equations in a metric W (n,), with what every solve with them needs.

    Args:
        matrix: A.
        metric: the diagonal of W, positive.
        inverse: (A W^-1 A')^-1, (B, q, q), on the part of the rows that is independent.
        rank: share of the smallest in the largest eigenvalue of A W^-1 A', rows scaled to length one (B,).
        weakest: the combination of rows that is closest to zero, (B, q).
    """

    matrix: Tensor
    metric: Tensor
    inverse: Tensor
    rank: Tensor
    weakest: Tensor

    @staticmethod
    def of(matrix: Tensor, metric: Tensor, cut: float = 1e-13) -> Gradients:
        """Factorise; combinations of scaled rows below `cut` of the largest count as none."""
        gram = (matrix / metric) @ matrix.mT
        length = gram.diagonal(dim1=1, dim2=2).sqrt()
        scale = torch.where(length > 0, length, 1.0)
        finite = torch.isfinite(gram).all(dim=(1, 2))
        scaled = torch.where(finite[:, None, None], gram / (scale[:, :, None] * scale[:, None, :]), 0.0)
        values, vectors = torch.linalg.eigh(scaled)
        largest = values[:, -1:].clamp_min(torch.finfo(values.dtype).tiny)
        kept = values > cut * largest
        inverted = torch.where(kept, 1 / torch.where(kept, values, 1.0), 0.0)
        inverse = (vectors * inverted[:, None, :]) @ vectors.mT / (scale[:, :, None] * scale[:, None, :])
        return Gradients(matrix, metric, inverse, values[:, 0] / largest[:, 0], vectors[:, :, 0])

    def lengths(self) -> Tensor:
        """Lengths of the rows in the norm of W^-1, (B, q)."""
        return (self.matrix.square() / self.metric).sum(dim=2).sqrt()

    def multipliers(self, a: Tensor) -> Tensor:
        """(A W^-1 A')^-1 A W^-1 a, (B, n) -> (B, q)."""
        return self._small(self.apply(a / self.metric))

    def apply(self, v: Tensor) -> Tensor:
        """A v, (B, n) -> (B, q)."""
        return (self.matrix @ v.unsqueeze(2)).squeeze(2)

    def transposed(self, y: Tensor) -> Tensor:
        """A' y, (B, q) -> (B, n)."""
        return (y.unsqueeze(1) @ self.matrix).squeeze(1)

    def normal(self, c: Tensor) -> Tensor:
        """The shortest w in the norm of W with A w = c, (B, q) -> (B, n)."""
        return self.transposed(self._small(c)) / self.metric

    def tangent(self, a: Tensor) -> Tensor:
        """W^-1 a without its part across the rows: the w with A w = 0 that is nearest to it, (B, n) -> (B, n)."""
        return (a - self.transposed(self.multipliers(a))) / self.metric

    def _small(self, c: Tensor) -> Tensor:
        return (self.inverse @ c.unsqueeze(2)).squeeze(2)


@dataclass(frozen=True)
class SaddleSolution:
    """w (B, n) and y (B, q) of a saddle-point system; `curved` (B,) where the Hessian was positive on the way."""

    w: Tensor
    y: Tensor
    curved: Tensor


def saddle_solve(
    hessian: Callable[[Tensor], Tensor],
    rows: Gradients,
    a: Tensor,
    c: Tensor,
    *,
    tolerance: float | Tensor = 1e-13,
    max_iterations: int = 200,
) -> SaddleSolution:
    """Solve H w + A' y = a, A w = c by conjugate gradients on the null space of A, preconditioned by W.

    Few iterations suffice where H is near W, as in a projection that moves a state a little. A w = c holds to rounding
    after any number of them. Each sample stops by itself.

    Args:
        hessian: p -> H p, (B, n) -> (B, n), symmetric; positive on the null space of A for a minimum.
        rows: A and W.
        a, c: right-hand sides (B, n) and (B, q).
        tolerance: relative size of the residual in the null space at which a sample is done, one or (B,).
        max_iterations: when to stop.

    Gould, Hribar and Nocedal, SIAM Journal on Scientific Computing 23 (2001) 1376, algorithm 6.2.
    """

    def dot(x: Tensor, y: Tensor) -> Tensor:
        return (x * y).sum(dim=1)

    w = rows.normal(c)
    r = a - hessian(w)
    g = rows.tangent(r)
    # r is replaced by W g, its part along the null space: the rest would only grow by rounding.
    r = rows.metric * g
    p, size = g, dot(r, g)
    goal = size * tolerance**2
    curved = torch.ones_like(size, dtype=torch.bool)
    active = size > 0
    for _ in range(max_iterations):
        if not bool(active.any()):
            break
        hp = hessian(p)
        curvature = dot(p, hp)
        floor = 1e-10 * dot(p, rows.metric * p)
        curved &= ~active | (curvature > floor)
        active &= curvature > floor
        step = torch.where(active, size / torch.where(active, curvature, 1.0), 0.0)[:, None]
        w = w + step * p
        r = r - step * hp
        g = rows.tangent(r)
        r = rows.metric * g
        new = dot(r, g)
        ratio = torch.where(active, new / torch.where(size > 0, size, 1.0), 0.0)[:, None]
        p = torch.where(active[:, None], g + ratio * p, p)
        size = new
        active &= new > goal
    return SaddleSolution(w, rows.multipliers(a - hessian(w)), curved)
