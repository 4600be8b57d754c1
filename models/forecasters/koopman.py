"""The Koopman operator on a dictionary, from pairs of snapshots, with a residual for everything it says."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Koopman:
    """Galerkin approximation of (K g)(x) = g(F(x)) on functions g = psi v.

    An eigenvalue of the matrix need not be near the spectrum of K. What tells is the residual

        res(z, g) = |K g - z g| / |g|,   norms with the weights of the snapshots,

    which needs the images too: a small one is a certificate, a large one is not. All is computed by orthogonal
    factors, without the squares of normal equations, so that residuals are right down to rounding.

    Attributes:
        basis: (N, r) coefficients of r orthonormal functions in the dictionary.
        before: values of these functions at the snapshots, compressed to (R, r) by a unitary factor.
        after: values at their images, compressed likewise.
        singular_values: of the weighted dictionary at the snapshots, largest first, (N,).
    """

    basis: Tensor
    before: Tensor
    after: Tensor
    singular_values: Tensor

    @property
    def rank(self) -> int:
        """r, directions of the dictionary that the snapshots tell apart."""
        return self.basis.shape[1]

    @property
    def condition(self) -> float:
        """Condition number of G = Psi^* W Psi, infinite where the dictionary is dependent on the snapshots."""
        least = float(self.singular_values[-1])
        return (float(self.singular_values[0]) / least) ** 2 if least > 0 else math.inf

    @property
    def matrix(self) -> Tensor:
        """K in the orthonormal functions, (r, r): that of extended dynamic mode decomposition."""
        return self.before.mH @ self.after

    def measure_preserving(self) -> Tensor:
        """The unitary matrix (r, r) nearest to `matrix`, with all eigenvalues on the unit circle.

        For systems that keep a measure which the snapshots sample. Colbrook, SIAM J. Numerical Analysis 61 (2023)
        1585-1608.
        """
        left, _, right = torch.linalg.svd(self.matrix)
        return left @ right

    def coefficients(self, functions: Tensor) -> Tensor:
        """Functions (r, m) of the orthonormal basis by their coefficients in the dictionary, (N, m)."""
        return self.basis @ functions

    def eigenpairs(self, matrix: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Eigenvalues (r,), eigenfunctions (r, r) as columns, and the residual of each pair (r,).

        Args:
            matrix: another than `matrix`, such as `measure_preserving()`.

        Returns:
            In the order of their residuals, smallest first.
        """
        values, vectors = torch.linalg.eig(self.matrix if matrix is None else matrix)
        residuals = self.residuals(values, vectors)
        order = residuals.argsort()
        return values[order], vectors[:, order], residuals[order]

    def residuals(self, values: Tensor, functions: Tensor, other: Koopman | None = None) -> Tensor:
        """res(z_j, g_j) of numbers (m,) and functions (r, m) in the orthonormal basis, (m,).

        Args:
            values: z_j.
            functions: g_j, by columns.
            other: the same functions at other snapshots (`Koopman.at`), to judge what was learned on these.
        """
        where = self if other is None else other
        g = functions.to(_complex(where.before))
        before, after = where.before.to(g) @ g, where.after.to(g) @ g
        error = after - values.to(g) * before
        tiny = torch.finfo(error.real.dtype).tiny
        return torch.linalg.vector_norm(error, dim=0) / torch.linalg.vector_norm(before, dim=0).clamp_min(
            tiny
        )

    def tau(self, z: Tensor) -> Tensor:
        """The smallest residual of any function of the dictionary at numbers z, of any shape.

        The pseudospectrum of K contains all z with tau(z) < eps; tau falls as the dictionary grows. Algorithm 2 of
        Colbrook and Townsend, Comm. Pure and Applied Mathematics 77 (2024) 221-283.
        """
        before, after = (m.to(_complex(m)) for m in (self.before, self.after))
        # On few rows the rest is cheap: one unitary factor of [before, after] keeps all norms.
        triangle = torch.linalg.qr(torch.cat([before, after], dim=1), mode="r").R
        before, after = triangle[:, : self.rank], triangle[:, self.rank :]
        found = [
            torch.linalg.svdvals(after - part[:, None, None] * before)[:, -1]
            for part in z.flatten().to(before).split(64)
        ]
        return torch.cat(found).reshape(z.shape)

    def at(self, rows: Iterable[tuple[Tensor, Tensor, Tensor | None]]) -> Koopman:
        """The same orthonormal functions at other snapshots; see `snapshots` for the rows."""
        triangle, count = _compress(rows)
        before, after = triangle[:, :count] @ self.basis, triangle[:, count:] @ self.basis
        return Koopman(self.basis, before, after, torch.linalg.svdvals(triangle[:, :count]))


def _complex(m: Tensor) -> torch.dtype:
    return torch.complex128 if m.dtype in (torch.float64, torch.complex128) else torch.complex64


def _compress(rows: Iterable[tuple[Tensor, Tensor, Tensor | None]]) -> tuple[Tensor, int]:
    """The triangular factor of all weighted rows [psi(x), psi(y)], and N."""
    triangle: Tensor | None = None
    count = 0
    for before, after, weights in rows:
        both = torch.cat([before, after], dim=1)
        count = before.shape[1]
        if weights is not None:
            both = weights.sqrt().unsqueeze(1) * both
        triangle = both if triangle is None else torch.cat([triangle, both])
        if len(triangle) > triangle.shape[1]:
            triangle = torch.linalg.qr(triangle, mode="r").R
    if triangle is None:
        raise ValueError("Koopman got no snapshots.")
    return triangle, count


def snapshots(rows: Iterable[tuple[Tensor, Tensor, Tensor | None]], truncation: float = 1e-12) -> Koopman:
    """The Koopman operator from rows that come in parts, in the memory of the dictionary alone.

    Args:
        rows: parts of (psi(x) (M, N), psi(F(x)) (M, N), weights (M,) or None). Weights are those of a quadrature
            rule, for snapshots that do not sample the measure of interest; None for all alike.
        truncation: singular values of the dictionary below this part of the largest are left out.

    Raises:
        ValueError: there are no snapshots.
    """
    triangle, count = _compress(rows)
    before, after = triangle[:, :count], triangle[:, count:]
    left, values, right = torch.linalg.svd(before, full_matrices=False)
    rank = int((values > truncation * values[0]).sum())
    basis = right[:rank].mH / values[:rank]
    padded = torch.zeros(count, dtype=values.dtype, device=values.device)
    padded[: len(values)] = values
    return Koopman(basis, left[:, :rank], after @ basis, padded)


def continuous(values: Tensor, dt: float) -> Tensor:
    """Rates ln(lambda) / dt [1/time] of eigenvalues of steps of dt; frequencies beyond pi / dt are aliased."""
    return values.to(torch.complex128).log() / dt
