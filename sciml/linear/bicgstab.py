"""Preconditioned BiCGStab for batches of systems, without matrices."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sciml.linear.conjugate_gradient import LinearSolution, NotConverged


def bicgstab(
    apply: Callable[[Tensor], Tensor],
    b: Tensor,
    *,
    preconditioner: Callable[[Tensor], Tensor] | None = None,
    tolerance: float = 1e-10,
    max_iterations: int = 300,
    strict: bool = True,
) -> LinearSolution:
    """Solve A x = b for each sample of a batch, A any regular matrix, real or complex.

    Two products with A per iteration and six fields of memory, whatever their number. The residual does not fall
    steadily; a sample whose recursion breaks down starts it again from its residual. Preconditioned from the
    right. No gradient passes through the iterations: see `implicit_solve`.

    Args:
        apply: x -> A x for a whole batch (B, ...), each sample by itself.
        b: right-hand sides (B, ...).
        preconditioner: r -> M r, linear, near the inverse of A.
        tolerance: relative residual |b - A x| / |b| at which a sample is done.
        max_iterations: when to give up.
        strict: raise when a sample is not done by then; otherwise tell it in `converged`.

    Raises:
        ValueError: the tolerance or number of iterations is not positive, or b is not finite.
        NotConverged: with `strict`, a sample has not reached the tolerance.

    van der Vorst, SIAM Journal on Scientific and Statistical Computing 13 (1992) 631.
    """
    if not tolerance > 0 or max_iterations < 1:
        raise ValueError(
            f"bicgstab got tolerance={tolerance} and max_iterations={max_iterations}; both must be positive."
        )
    with torch.no_grad():
        if not torch.isfinite(b).all():
            raise ValueError("bicgstab got a right-hand side that is not finite.")
        axes = tuple(range(1, b.ndim))

        def dot(p: Tensor, q: Tensor) -> Tensor:
            return (p.conj() * q).sum(dim=axes, keepdim=True)

        def length(p: Tensor) -> Tensor:
            return dot(p, p).real.sqrt()

        def ratio(p: Tensor, q: Tensor) -> Tensor:
            return torch.where(q != 0, p / torch.where(q != 0, q, torch.ones_like(q)), torch.zeros_like(p))

        scale = length(b)
        scale = torch.where(scale > 0, scale, torch.ones_like(scale))
        x, r = torch.zeros_like(b), b.clone()
        shadow, p, v = r, torch.zeros_like(b), torch.zeros_like(b)
        rho = alpha = omega = torch.ones_like(dot(b, b))
        error = length(r) / scale
        best, checked = error, error
        active, fresh = error > tolerance, torch.ones_like(error, dtype=torch.bool)
        iterations = torch.zeros_like(error, dtype=torch.int64)
        history = [error]
        while bool(active.any()):
            rho_old, rho = rho, dot(shadow, r)
            beta = torch.where(fresh, torch.zeros_like(rho), ratio(rho, rho_old) * ratio(alpha, omega))
            p = r + beta * (p - omega * v)
            y = p if preconditioner is None else preconditioner(p)
            v = apply(y)
            alpha = ratio(rho, dot(shadow, v))
            s = r - alpha * v
            z = s if preconditioner is None else preconditioner(s)
            t = apply(z)
            omega = ratio(dot(t, s), dot(t, t))
            x = torch.where(active, x + alpha * y + omega * z, x)
            r = torch.where(active, s - omega * t, r)
            iterations += active
            error = torch.where(active, length(r) / scale, error)
            history.append(error)
            # Where the shadow has lost the residual, or omega vanished, the recursion starts again.
            lost = dot(shadow, r).abs() < 1e-8 * length(shadow) * length(r)
            fresh = lost | (omega == 0)
            shadow = torch.where(fresh, r, shadow)
            active = active & (error > tolerance) & torch.isfinite(error)
            over = len(history) > max_iterations
            if over or not bool(active.any()):
                # The recursion forgets rounding: believe the true residual, and go on from it while that helps.
                x = torch.where(torch.isfinite(x), x, torch.zeros_like(x))
                r = b - apply(x)
                error = length(r) / scale
                active = (error > tolerance) & (error < 0.5 * checked) & (not over)
                checked, fresh, shadow = error, torch.ones_like(fresh), r
                p, v = torch.zeros_like(b), torch.zeros_like(b)
            best = torch.minimum(best, error)
        converged = (error <= tolerance).flatten()
        result = LinearSolution(
            x, iterations.flatten(), error.flatten(), converged, torch.stack(history).flatten(1)
        )
    if strict and not bool(converged.all()):
        raise NotConverged(
            f"bicgstab left {int((~converged).sum())} of {len(converged)} samples at a relative residual of up to "
            f"{float(error.max()):.1e} after {int(iterations.max())} iterations, the best seen being "
            f"{float(best.max()):.1e}; expected {tolerance:.1e}. Use gmres, a (better) preconditioner, more "
            "iterations or a looser tolerance."
        )
    return result
