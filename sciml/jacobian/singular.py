"""Largest singular values of a linear map that is known by its products."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sciml.jacobian.probes import draw
from sciml.jacobian.products import Jacobian, Mode, StepFunction, Target

Product = Callable[[Tensor], Tensor]


def leading_singular(push: Product, pull: Product, start: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """Largest singular values of a map and their right vectors, by Golub and Kahan's bidiagonalisation.

    After m iterations the values are the best that the Krylov space of J^T J from `start` holds: never above
    the true ones, and never below what m steps of power iteration reach. With full reorthogonalisation.

    Args:
        push, pull: J v and J^T w, (B, C, *points) each.
        start: first directions, like the fields; need not be normalised.
        iterations: m; no more than n are taken.

    Returns:
        Values (B, M) in falling order, and vectors of length one (B, M, C, *points), M = min(m, n).

    Golub and Kahan, SIAM Journal on Numerical Analysis B 2 (1965) 205-224.
    """
    batch, shape = start.shape[0], start.shape[1:]
    n = start[0].numel()
    steps = min(iterations, n)
    right = start.new_zeros(batch, steps, n)
    left = start.new_zeros(batch, steps, n)
    band = start.new_zeros(batch, steps, steps)
    v, beta = unit_rows(start.reshape(batch, n))[0], start.new_zeros(batch)
    for k in range(steps):
        right[:, k] = v
        w = push(v.reshape(start.shape)).reshape(batch, n) - beta.unsqueeze(1) * left[:, k - 1]
        w, alpha = unit_rows(without(w, left[:, :k]))
        left[:, k], band[:, k, k] = w, alpha
        v = pull(w.reshape(start.shape)).reshape(batch, n) - alpha.unsqueeze(1) * v
        v, beta = unit_rows(without(v, right[:, : k + 1]))
        if k + 1 < steps:
            band[:, k, k + 1] = beta
    values, turned = torch.linalg.svd(band)[1:]
    return values, (turned @ right).reshape(batch, steps, *shape)


def spectral_norm(
    step: StepFunction,
    u: Tensor,
    iterations: int = 20,
    *,
    mode: Mode = "auto",
    scale: Tensor | None = None,
    target: Target | StepFunction | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Largest singular value of J, (B, C, *points) -> (B,), from below; see `leading_singular`.

    The last product is differentiable in the parameters of the step, with the direction held, which is the
    gradient of the singular value once the direction has converged.
    """
    return worst_direction(step, u, iterations, mode=mode, scale=scale, target=target, generator=generator)[
        0
    ]


def worst_direction(
    step: StepFunction,
    u: Tensor,
    iterations: int = 20,
    *,
    start: Tensor | None = None,
    mode: Mode = "auto",
    scale: Tensor | None = None,
    target: Target | StepFunction | None = None,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """The spectral norm (B,) as by `spectral_norm`, and the disturbance of length one that grows by it.

    Args:
        step: the step.
        u: states (B, C, *points).
        iterations: products with J and with J^T.
        start: a first guess of the disturbance, like u, such as that of the state before.
        mode, scale, target: see `Jacobian`.
        generator: of the first direction, if none is given.

    Raises:
        ValueError: `iterations` is below 1.
    """
    if iterations < 1:
        raise ValueError(f"spectral_norm got iterations={iterations}; expected at least 1.")
    first = draw(u, "gaussian", generator) if start is None else start
    with torch.no_grad():
        still = Jacobian(step, u.detach(), mode=mode, scale=scale, target=target)
        vectors = leading_singular(still.push, still.pull, first, iterations)[1]
    worst = vectors[:, 0]
    grown = Jacobian(step, u, mode=mode, scale=scale, target=target).push(worst)
    return grown.flatten(1).norm(dim=1), worst


def unit_rows(v: Tensor) -> tuple[Tensor, Tensor]:
    """v / |v| and |v|; zero stays zero."""
    norm = v.norm(dim=1)
    return v / norm.clamp_min(torch.finfo(v.dtype).tiny).unsqueeze(1), norm


def without(v: Tensor, basis: Tensor) -> Tensor:
    """v (B, n) minus its part in the span of orthonormal rows (B, k, n), taken away twice against rounding."""
    for _ in range(2):
        v = v - (basis.transpose(1, 2) @ (basis @ v.unsqueeze(2))).squeeze(2)
    return v
