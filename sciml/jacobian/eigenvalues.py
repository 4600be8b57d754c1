"""The largest eigenvalues of the Jacobian of a step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.jacobian.probes import draw
from sciml.jacobian.products import Jacobian, Mode, StepFunction, Target
from sciml.jacobian.singular import unit_rows, without


@dataclass(frozen=True)
class Eigenvalues:
    """The largest eigenvalues of J at each state.

    Attributes:
        values: complex (B, M), in falling order of their absolute values.
        residuals: |J x - lambda x| of eigenvectors x of length one, (B, M). An eigenvalue of a matrix that is
            not normal may be off by many times that.
    """

    values: Tensor
    residuals: Tensor


def leading_eigenvalues(
    step: StepFunction,
    u: Tensor,
    count: int = 1,
    *,
    krylov: int = 40,
    products: int = 400,
    tolerance: float = 1e-6,
    mode: Mode = "auto",
    target: Target | StepFunction | None = None,
    generator: torch.Generator | None = None,
) -> Eigenvalues:
    """Largest eigenvalues of J by Arnoldi's method with restarts, (B, C, *points) -> `Eigenvalues`.

    Only products J v are needed: states of 64^2 points take a second. Complex pairs are found as such; one
    that the last place of `count` would cut is not. All samples of the batch move together. Without gradients.

    Args:
        step: the step.
        u: states.
        count: M, how many are wanted.
        krylov: dimension of the Krylov space, kept in memory; small systems (n <= krylov) are solved densely.
        products: number of products J v after which what there is is returned.
        tolerance: on the residuals, relative to the largest eigenvalue.
        mode: how J v is found, see `Jacobian`. "fd" sees residuals of about its own error only.
        target: what is subtracted from J, see `Jacobian`.
        generator: of the first vector.

    Raises:
        ValueError: `count` and `krylov` do not fit: at least count + 3 dimensions are needed.

    Stewart, A Krylov-Schur algorithm for large eigenproblems, SIAM Journal on Matrix Analysis 23 (2002) 601-614.
    """
    n = u[0].numel()
    if count < 1 or krylov < count + 3 or products < 1 or count > n:
        raise ValueError(
            f"leading_eigenvalues got count={count}, krylov={krylov}, products={products} for {n} unknowns; "
            "expected 1 <= count <= the unknowns, krylov >= count + 3 and a positive number of products."
        )
    with torch.no_grad():
        jacobian = Jacobian(step, u.detach(), mode=mode, target=target)
        if n <= krylov:
            dense = jacobian.dense()
            values, vectors = torch.linalg.eig(dense)
            values, order = _falling(values)
            vectors = vectors.gather(2, order.unsqueeze(1).expand_as(vectors))
            wrong = dense.to(vectors.dtype) @ vectors - vectors * values.unsqueeze(1)
            return Eigenvalues(values[:, :count], wrong.norm(dim=1)[:, :count])
        start = draw(u, "gaussian", generator).flatten(1)
        shape = u.shape

        def multiply(v: Tensor) -> Tensor:
            return jacobian.push(v.reshape(shape)).flatten(1)

        return _krylov_schur(multiply, start, count, krylov, products, tolerance)


def spectral_radius(
    step: StepFunction,
    u: Tensor,
    *,
    krylov: int = 40,
    products: int = 400,
    mode: Mode = "auto",
    generator: torch.Generator | None = None,
) -> Tensor:
    """Largest absolute value of the eigenvalues of J, (B, C, *points) -> (B,); see `leading_eigenvalues`.

    Below one, errors at a fixed point die out in the end, but may grow before: see `transient_growth`. Along a
    trajectory that moves it says little; there, Lyapunov exponents do.
    """
    found = leading_eigenvalues(step, u, krylov=krylov, products=products, mode=mode, generator=generator)
    return found.values[:, 0].abs()


def _krylov_schur(
    multiply: Callable[[Tensor], Tensor],
    start: Tensor,
    count: int,
    krylov: int,
    products: int,
    tolerance: float,
) -> Eigenvalues:
    """Arnoldi's factorisation J V = V H + v e^T, cut down to the wanted eigenvectors when it is full.

    Samples may keep one column more than others, where a complex pair is not to be cut, so each has its own
    number of columns; those not in use are zero.
    """
    batch, n = start.shape
    rows = torch.arange(batch, device=start.device)
    basis = start.new_zeros(batch, krylov + 1, n)
    matrix = start.new_zeros(batch, krylov + 1, krylov + 1)
    used = torch.zeros(batch, dtype=torch.int64, device=start.device)
    basis[:, 0] = unit_rows(start)[0]
    spent = 0
    while True:
        for _ in range(krylov - int(used.max())):
            w = multiply(basis[rows, used])
            spent += 1
            size = w.norm(dim=1)
            for _ in range(2):  # twice, against rounding
                part = (basis @ w.unsqueeze(2)).squeeze(2)
                w = w - (basis.transpose(1, 2) @ part.unsqueeze(2)).squeeze(2)
                matrix[rows, :, used] += part
            v, norm = unit_rows(w)
            # The space is invariant: go on in any direction, which is not coupled to it.
            closed = norm <= torch.finfo(w.dtype).eps * size.clamp_min(torch.finfo(w.dtype).tiny)
            if bool(closed.any()):
                fresh = torch.roll(start, spent, 1)
                fresh = unit_rows(without(fresh, basis))[0]
                v = torch.where(closed.unsqueeze(1), fresh, v)
                norm = torch.where(closed, torch.zeros_like(norm), norm)
            matrix[rows, used + 1, used] = norm
            used = used + 1
            basis[rows, used] = v
        values = start.new_zeros(batch, count, dtype=start.dtype.to_complex())
        residuals = start.new_zeros(batch, count)
        kept = []
        for b in range(batch):
            m = int(used[b])
            if not bool(torch.isfinite(matrix[b]).all()):  # the step is not finite at this state
                values[b], residuals[b] = torch.nan, torch.nan
                basis[b], matrix[b] = 0.0, 0.0
                kept.append(torch.eye(m, m - 2, dtype=start.dtype, device=start.device))
                continue
            ritz, vectors = torch.linalg.eig(matrix[b, :m, :m])
            order = ritz.abs().argsort(descending=True, stable=True)
            ritz, vectors = ritz[order], vectors[:, order]
            missed = (matrix[b, m, :m].to(vectors.dtype) @ vectors).abs()
            values[b], residuals[b] = ritz[:count], missed[:count]
            kept.append(_real_basis(ritz, vectors, min(count + (m - count) // 2, m - 2)))
        largest = values.abs().amax(dim=1, keepdim=True)
        if not bool((residuals > tolerance * largest).any()) or spent >= products:
            return Eigenvalues(values, residuals)
        for b, turn in enumerate(kept):
            m, k = int(used[b]), turn.shape[1]
            inner, last = turn.T @ matrix[b, :m, :m] @ turn, matrix[b, m, :m] @ turn
            space, following = turn.T @ basis[b, :m], basis[b, m].clone()
            basis[b], matrix[b] = 0.0, 0.0
            basis[b, :k], basis[b, k] = space, following
            matrix[b, :k, :k], matrix[b, k, :k] = inner, last
            used[b] = k


def _real_basis(values: Tensor, vectors: Tensor, size: int) -> Tensor:
    """Orthonormal columns that span the eigenvectors of the first `size` eigenvalues, pairs uncut: (m, size or + 1)."""
    columns: list[Tensor] = []
    index = 0
    while len(columns) < size:
        x = vectors[:, index]
        if float(values[index].imag) == 0.0:
            columns.append(x.real)
            index += 1
        else:  # the conjugate comes next
            columns += [x.real, x.imag]
            index += 2
    return torch.linalg.qr(torch.stack(columns, dim=1)).Q


def _falling(values: Tensor) -> tuple[Tensor, Tensor]:
    order = values.abs().argsort(dim=1, descending=True, stable=True)
    return values.gather(1, order), order
