"""Preconditioned GMRES with restarts for batches of systems, without matrices."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sciml.linear.conjugate_gradient import LinearSolution, NotConverged


def gmres(
    apply: Callable[[Tensor], Tensor],
    b: Tensor,
    *,
    preconditioner: Callable[[Tensor], Tensor] | None = None,
    tolerance: float = 1e-10,
    restart: int = 30,
    max_iterations: int = 300,
    strict: bool = True,
) -> LinearSolution:
    """Solve A x = b for each sample of a batch, A any regular matrix, real or complex.

    The residual is the smallest one in the Krylov space of each cycle and never grows. All samples take the
    same number of iterations; `iterations` tells when each would have stopped. Preconditioned from the right,
    so that the residual is the true one. No gradient passes through the iterations: see `implicit_solve`.

    Args:
        apply: x -> A x for a whole batch (B, ...), each sample by itself.
        b: right-hand sides (B, ...).
        preconditioner: r -> M r, linear, near the inverse of A.
        tolerance: relative residual |b - A x| / |b| at which a sample is done.
        restart: vectors kept per cycle, each as large as b.
        max_iterations: products with A, when to give up.
        strict: raise when a sample is not done by then; otherwise tell it in `converged`.

    Raises:
        ValueError: the tolerance, restart or number of iterations is not positive, or b is not finite.
        NotConverged: with `strict`, a sample has not reached the tolerance.

    Saad, Iterative Methods for Sparse Linear Systems (2003), algorithms 6.9 and 9.5.
    """
    if not tolerance > 0 or restart < 1 or max_iterations < 1:
        raise ValueError(
            f"gmres got tolerance={tolerance}, restart={restart} and max_iterations={max_iterations}; all must be "
            "positive."
        )
    with torch.no_grad():
        if not torch.isfinite(b).all():
            raise ValueError("gmres got a right-hand side that is not finite.")
        shape, samples = b.shape, len(b)
        scale = b.flatten(1).norm(dim=1)
        scale = torch.where(scale > 0, scale, torch.ones_like(scale))
        x = torch.zeros_like(b)
        r = b.clone()
        error = r.flatten(1).norm(dim=1) / scale
        history, done = [error], 0
        iterations = torch.zeros(samples, dtype=torch.int64, device=b.device)
        while bool((error > tolerance).any()) and done < max_iterations:
            size = min(restart, max_iterations - done)
            beta = r.flatten(1).norm(dim=1)
            basis = [_divided(r.flatten(1), beta)]
            triangle = b.new_zeros(samples, size, size)
            g = b.new_zeros(samples, size + 1)
            g[:, 0] = beta.to(b.dtype)
            cosines: list[Tensor] = []
            sines: list[Tensor] = []
            used = 0
            for j in range(size):
                z = basis[j].reshape(shape)
                w = apply(z if preconditioner is None else preconditioner(z)).flatten(1)
                known = torch.stack(basis, dim=1)
                h = (known.conj() @ w.unsqueeze(2)).squeeze(2)
                w = w - (h.unsqueeze(1) @ known).squeeze(1)
                # Twice is enough: orthogonal to rounding.
                again = (known.conj() @ w.unsqueeze(2)).squeeze(2)
                w = w - (again.unsqueeze(1) @ known).squeeze(1)
                h = h + again
                length = w.flatten(1).norm(dim=1)
                basis.append(_divided(w, length))
                column = [*h.unbind(1), length.to(b.dtype)]
                for i, (c, s) in enumerate(zip(cosines, sines, strict=True)):
                    column[i], column[i + 1] = (
                        c * column[i] + s * column[i + 1],
                        -s.conj() * column[i] + c * column[i + 1],
                    )
                c, s, column[j] = _rotation(column[j], column[j + 1])
                cosines.append(c)
                sines.append(s)
                triangle[:, : j + 1, j] = torch.stack(column[: j + 1], dim=1)
                g[:, j + 1] = -s.conj() * g[:, j]
                g[:, j] = c * g[:, j]
                iterations += error > tolerance
                used, done = used + 1, done + 1
                error = torch.where(error > tolerance, g[:, j + 1].abs() / scale, error)
                history.append(error)
                if not bool((error > tolerance).any()):
                    break
            upper = triangle[:, :used, :used]
            # A space that is exhausted has zero columns, which take no part.
            empty = upper.diagonal(dim1=1, dim2=2) == 0
            upper = upper + torch.diag_embed(empty.to(b.dtype))
            right = torch.where(empty, torch.zeros_like(g[:, :used]), g[:, :used])
            y = torch.linalg.solve_triangular(upper, right.unsqueeze(2), upper=True).squeeze(2)
            step = (y.unsqueeze(1) @ torch.stack(basis[:used], dim=1)).reshape(shape)
            x = x + (step if preconditioner is None else preconditioner(step))
            before = beta / scale
            r = b - apply(x)
            error = r.flatten(1).norm(dim=1) / scale
            # What a whole cycle does not reduce stays; what does not grow smaller is rounding.
            if not bool(((error > tolerance) & (error < 0.999 * before)).any()):
                break
        converged = error <= tolerance
        result = LinearSolution(x, iterations, error, converged, torch.stack(history))
    if strict and not bool(converged.all()):
        raise NotConverged(
            f"gmres left {int((~converged).sum())} of {samples} samples at a relative residual of up to "
            f"{float(error.max()):.1e} after {done} iterations; expected {tolerance:.1e}. Use a (better) "
            "preconditioner, raise restart or max_iterations, or loosen the tolerance."
        )
    return result


def _divided(v: Tensor, length: Tensor) -> Tensor:
    """v / length, zero where the length is."""
    safe = torch.where(length > 0, length, torch.ones_like(length))
    return torch.where((length > 0).unsqueeze(1), v / safe.unsqueeze(1), torch.zeros_like(v))


def _rotation(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """c (real), s and r with c a + s b = r and -conj(s) a + c b = 0."""
    size = (a.abs().square() + b.abs().square()).sqrt()
    safe = torch.where(size > 0, size, torch.ones_like(size))
    phase = torch.where(a.abs() > 0, a / torch.where(a.abs() > 0, a.abs(), 1.0), torch.ones_like(a))
    c = torch.where(size > 0, a.abs() / safe, torch.ones_like(size)).to(a.dtype)
    s = phase * b.conj() / safe
    return c, s, phase * size
