"""Explicit Runge-Kutta steps of any right-hand side."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from sciml.solvers.time.tableau import Tableau


def explicit_rk(
    rhs: Callable[[Tensor], Tensor], dt: float | Tensor, tableau: Tableau
) -> Callable[[Tensor], Tensor]:
    """One step of u' = rhs(u) by an explicit Runge-Kutta method, as a function u -> u(t + dt).

    Differentiable in the state, in what `rhs` holds, and in `dt` where that is a tensor. Stable only
    while dt times the eigenvalues of rhs lie inside the method's region (`Tableau.stability_limit`).
    """

    def step(u: Tensor) -> Tensor:
        slopes = [rhs(u)]
        for row in tableau.a:
            slopes.append(rhs(u + dt * _combination(row, slopes)))
        return u + dt * _combination(tableau.b, slopes)

    return step


def _combination(weights: tuple[float, ...], slopes: list[Tensor]) -> Tensor:
    """Weighted sum; zero weights cost nothing."""
    terms = [w * k for w, k in zip(weights, slopes, strict=True) if w != 0.0]
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total
