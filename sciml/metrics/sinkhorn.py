"""Entropic optimal transport between sets of points, without its bias."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sciml.domains import Cloud


def squared_distances(x: Tensor, y: Tensor, box: Cloud | None = None) -> Tensor:
    """|x_i - y_j|^2, (..., N, D) and (..., M, D) -> (..., N, M); the nearest image in a periodic `box`."""
    gap = x.unsqueeze(-2) - y.unsqueeze(-3)
    if box is not None:
        gap = box.displacement(gap.transpose(-1, -2), gap.new_zeros(())).transpose(-1, -2)
    return gap.square().sum(dim=-1)


def sinkhorn_divergence(
    x: Tensor,
    y: Tensor,
    epsilon: float = 0.01,
    *,
    x_weights: Tensor | None = None,
    y_weights: Tensor | None = None,
    box: Cloud | None = None,
    iterations: int = 1000,
    tolerance: float = 1e-4,
) -> Tensor:
    """Distance of two sets of points by entropic transport, (B, N, D) and (B, M, D) -> (B,) [length^2].

        S = OT(x, y) - OT(x, x)/2 - OT(y, y)/2,   OT = min_P <P, |x_i - y_j|^2> + epsilon KL(P | a b^T)

    Never negative but by what the iteration leaves, zero for equal sets, and continuous in the points: the
    squared Wasserstein distance for small epsilon, the squared distance of the means for large epsilon
    (Feydy et al., AISTATS 2019, eq. 3). Solved in the logarithm (Cuturi, NeurIPS 2013) from a coarse epsilon to
    the one asked for.

    Differentiable once in points and weights: the duals are held and the dual value is differentiated
    (envelope theorem), so that memory does not grow with the iterations. Sets with a value that is not
    finite have the distance NaN.

    geomloss with p = 2 and blur s has half the value found here with epsilon = 2 s^2.

    Args:
        x: first points.
        y: second points.
        epsilon: strength of the entropy [length^2].
        x_weights: masses (N,) or (B, N) that add up to one; equal ones where left out.
        y_weights: masses (M,) or (B, M).
        box: measures distances through its periodic sides; D is then its dimension.
        iterations: at most that many at the last epsilon.
        tolerance: of the masses that the plan gives the first points, in sum of absolute differences.

    Raises:
        ValueError: the shapes do not fit, or a number is not positive.
    """
    if x.ndim != 3 or y.ndim != 3 or x.shape[0] != y.shape[0] or x.shape[2] != y.shape[2]:
        raise ValueError(
            f"sinkhorn_divergence got points of shapes {tuple(x.shape)} and {tuple(y.shape)}; expected "
            "(B, N, D) and (B, M, D)."
        )
    if not epsilon > 0 or iterations < 1 or not tolerance > 0:
        raise ValueError(
            f"sinkhorn_divergence got epsilon={epsilon}, iterations={iterations}, tolerance={tolerance}; "
            "all must be positive."
        )
    if box is not None and box.dimension != x.shape[2]:
        raise ValueError(
            f"sinkhorn_divergence got points of {x.shape[2]} coordinates in a box of {box.dimension}."
        )
    good = torch.isfinite(x).flatten(1).all(dim=1) & torch.isfinite(y).flatten(1).all(dim=1)
    inside = good.reshape(-1, 1, 1)
    x, y = torch.where(inside, x, 0.0), torch.where(inside, y, 0.0)
    a, b = _masses(x_weights, x, "x_weights"), _masses(y_weights, y, "y_weights")
    value = (
        _transport(squared_distances(x, y, box), a, b, epsilon, iterations, tolerance)
        - 0.5 * _self_transport(squared_distances(x, x, box), a, epsilon, iterations, tolerance)
        - 0.5 * _self_transport(squared_distances(y, y, box), b, epsilon, iterations, tolerance)
    )
    return torch.where(good, value, torch.nan)


def _masses(weights: Tensor | None, points: Tensor, name: str) -> Tensor:
    batch, count, _ = points.shape
    if weights is None:
        return points.new_full((batch, count), 1 / count)
    if weights.shape not in ((count,), (batch, count)):
        raise ValueError(
            f"sinkhorn_divergence got {name} of shape {tuple(weights.shape)} for {count} points; expected "
            f"({count},) or ({batch}, {count})."
        )
    return weights.to(points).expand(batch, count)


def _soft_min(cost: Tensor, log_mass: Tensor, dual: Tensor, epsilon: Tensor) -> Tensor:
    """-eps ln sum_j mass_j exp((dual_j - cost_ij) / eps), (B, N, M) -> (B, N)."""
    exponent = (log_mass + dual / epsilon).unsqueeze(1) - cost / epsilon.unsqueeze(2)
    return -epsilon * torch.logsumexp(exponent, dim=2)


def _ladder(cost: Tensor, epsilon: float) -> list[Tensor]:
    """Values (B, 1) from the largest cost of a sample down to epsilon, halved each time."""
    top = cost.detach().flatten(1).amax(dim=1, keepdim=True).clamp_min(epsilon)
    rungs = math.ceil(math.log2(max(1.0, float(top.max()) / epsilon)))
    return [(top * 0.5**k).clamp_min(epsilon) for k in range(rungs)]


def _value(cost: Tensor, a: Tensor, b: Tensor, f: Tensor, g: Tensor, epsilon: float) -> Tensor:
    """The dual objective: right to second order in the error of the duals, its slope in cost is the plan."""
    plan = ((f.unsqueeze(2) + g.unsqueeze(1) - cost) / epsilon).exp() * a.unsqueeze(2) * b.unsqueeze(1)
    return (a * f).sum(1) + (b * g).sum(1) - epsilon * (plan.sum(dim=(1, 2)) - 1)


def _transport(
    cost: Tensor, a: Tensor, b: Tensor, epsilon: float, iterations: int, tolerance: float
) -> Tensor:
    """OT between different sets, (B, N, M) -> (B,)."""
    with torch.no_grad():
        log_a, log_b = a.log(), b.log()
        f, g = torch.zeros_like(a), torch.zeros_like(b)
        # Both duals move halfway at once, as in the transport of a set to itself: what the iteration leaves then
        # cancels in the divergence, and is nothing at all for equal sets, long before the duals have settled.
        for eps in _ladder(cost, epsilon):
            new_f, new_g = _soft_min(cost, log_b, g, eps), _soft_min(cost.mT, log_a, f, eps)
            f, g = 0.5 * (f + new_f), 0.5 * (g + new_g)
        last = cost.new_full((len(cost), 1), epsilon)
        for _ in range(iterations):
            new_f, new_g = _soft_min(cost, log_b, g, last), _soft_min(cost.mT, log_a, f, last)
            gap = (a * (((f - new_f) / epsilon).exp() - 1).abs()).sum(dim=1)
            f, g = 0.5 * (f + new_f), 0.5 * (g + new_g)
            if not bool((gap > tolerance).any()):
                break
    return _value(cost, a, b, f, g, epsilon)


def _self_transport(cost: Tensor, a: Tensor, epsilon: float, iterations: int, tolerance: float) -> Tensor:
    """OT of a set to itself, (B, N, N) -> (B,): one dual, and the mean of two iterates converges fast."""
    with torch.no_grad():
        log_a = a.log()
        f = torch.zeros_like(a)
        for eps in _ladder(cost, epsilon):
            f = 0.5 * (f + _soft_min(cost, log_a, f, eps))
        last = cost.new_full((len(cost), 1), epsilon)
        for _ in range(iterations):
            new = _soft_min(cost, log_a, f, last)
            gap = (a * (((f - new) / epsilon).exp() - 1).abs()).sum(dim=1)
            f = 0.5 * (f + new)
            if not bool((gap > tolerance).any()):
                break
    return _value(cost, a, a, f, f, epsilon)
