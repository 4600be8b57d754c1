"""Preconditioned conjugate gradients for batches of systems, without matrices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


class NotConverged(ArithmeticError):
    """An iterative solver stopped before it reached its tolerance."""


@dataclass(frozen=True)
class LinearSolution:
    """What an iterative solver found.

    Args:
        x: the solutions (B, ...).
        iterations: how many each sample took (B,).
        residuals: |b - A x| / |b| of each sample (B,), computed from x.
        converged: which samples reached the tolerance (B,).
        history: relative residuals as the recursion tracks them (iterations + 1, B); a sample that is
            done repeats its last.
    """

    x: Tensor
    iterations: Tensor
    residuals: Tensor
    converged: Tensor
    history: Tensor


def conjugate_gradient(
    apply: Callable[[Tensor], Tensor],
    b: Tensor,
    *,
    preconditioner: Callable[[Tensor], Tensor] | None = None,
    tolerance: float = 1e-10,
    max_iterations: int = 200,
    strict: bool = True,
    best: bool = False,
) -> LinearSolution:
    """Solve A x = b for each sample of a batch, A symmetric and positive (semi-)definite.

    Each sample has its own step lengths and stops by itself; those that are done are held fixed while
    the others go on. No gradient passes through the iterations: see `implicit_solve`.

    Args:
        apply: x -> A x for a whole batch (B, ...), each sample by itself.
        b: right-hand sides (B, ...). Orthogonal to the null space of a singular A.
        preconditioner: r -> M r, linear, symmetric and positive, near the inverse of A.
        tolerance: relative residual |b - A x| / |b| at which a sample is done.
        max_iterations: when to give up.
        strict: raise when a sample is not done by then; otherwise tell it in `converged`.
        best: give each sample's iterate of least residual: for a singular A and a b with a part outside its range,
            of rounding say, beyond which the iterates grow.

    Raises:
        ValueError: the tolerance or number of iterations is not positive, or b is not finite.
        NotConverged: with `strict`, a sample has not reached the tolerance.

    Hestenes and Stiefel (1952); Saad, Iterative Methods for Sparse Linear Systems (2003), algorithm 9.1.
    """
    if not tolerance > 0 or max_iterations < 1:
        raise ValueError(
            f"conjugate_gradient got tolerance={tolerance} and max_iterations={max_iterations}; both must "
            "be positive."
        )
    with torch.no_grad():
        if not torch.isfinite(b).all():
            raise ValueError("conjugate_gradient got a right-hand side that is not finite.")
        axes = tuple(range(1, b.ndim))

        def dot(p: Tensor, q: Tensor) -> Tensor:
            return (p * q).sum(dim=axes, keepdim=True)

        scale = dot(b, b).sqrt()
        # A zero right-hand side has the zero solution, and no relative residual.
        scale = torch.where(scale > 0, scale, torch.ones_like(scale))
        x, r, p = torch.zeros_like(b), b.clone(), torch.zeros_like(b)
        error = dot(r, r).sqrt() / scale
        checked = error
        active, fresh = error > tolerance, torch.ones_like(error, dtype=torch.bool)
        rz = torch.ones_like(error)
        iterations = torch.zeros_like(error, dtype=torch.int64)
        history = [error]
        kept, least = x, error
        while bool(active.any()):
            z = r if preconditioner is None else preconditioner(r)
            rz, rz_old = dot(r, z), rz
            beta = torch.where(active & ~fresh & (rz_old != 0), rz / rz_old, 0.0)
            p = z + beta * p
            ap = apply(p)
            curvature = dot(p, ap)
            alpha = torch.where(active & (curvature > 0), rz / curvature, 0.0)
            x = x + alpha * p
            r = r - alpha * ap
            iterations += active
            error = torch.where(active, dot(r, r).sqrt() / scale, error)
            history.append(error)
            fresh = torch.zeros_like(fresh)
            # Without curvature A is not positive, or r is rounding: no further progress.
            active = active & (error > tolerance) & (curvature > 0)
            if best:
                kept = torch.where(error < least, x, kept)
                least = torch.minimum(error, least)
                active = active & (error < 1e3 * least)
            over = len(history) > max_iterations
            if over or not bool(active.any()):
                # The recursion forgets rounding: believe the true residual, and go on from it while
                # that still helps.
                x = kept if best else x
                r = b - apply(x)
                error = least = dot(r, r).sqrt() / scale
                active = (error > tolerance) & (error < 0.5 * checked) & (not over)
                checked, fresh = error, torch.ones_like(fresh)
        converged = (error <= tolerance).flatten()
        result = LinearSolution(
            x, iterations.flatten(), error.flatten(), converged, torch.stack(history).flatten(1)
        )
    if strict and not bool(converged.all()):
        raise NotConverged(
            f"conjugate_gradient left {int((~converged).sum())} of {len(converged)} samples at a relative "
            f"residual of up to {float(error.max()):.1e} after {int(iterations.max())} iterations; expected "
            f"{tolerance:.1e}. Check that the operator is symmetric and positive, use a (better) "
            "preconditioner, raise max_iterations, or loosen the tolerance: rounding times the condition number "
            "is the least that can be had."
        )
    return result
