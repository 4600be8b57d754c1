"""Coefficients of basis functions that make an equation's residual smallest, with the gradient of that minimum.

A network proposes N functions on a grid; the solution is the combination u = B w whose residual, with initial and boundary
conditions, is smallest in the mean square. The search is Levenberg and Marquardt's, for many small problems at once; what it
finds is differentiated by the equations that hold at a minimum, so that memory does not grow with its iterations. The
equation is satisfied to what N functions allow, not exactly: `LeastSquares.residual` says how well.

Negiar, Mahoney and Krishnapriyan, ICLR 2023 (arXiv 2207.08675); Chalapathi, Du and Krishnapriyan, ICLR 2024
(arXiv 2402.13412).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

# Gradient, relative to the first, from which on curvature of the equation is worth its passes: then Newton's steps converge
# quadratically, where Gauss and Newton's are slow beside a residual that stays.
_CLOSE = 1e-2

Backward = Literal["implicit", "detach", "unroll"]
BACKWARDS: tuple[str, ...] = ("implicit", "detach", "unroll")

Pointwise = Callable[[Tensor], Tensor]
"""Residual of an equation from what it is made of: (P, F, m), such as u, u_t and u_xx at m points, -> (P, m); the residual of
a point depends on that point alone."""


@dataclass(frozen=True)
class LeastSquares:
    """What was found for P problems.

    Attributes:
        coefficients: w (P, N).
        residual: root mean square of the equation's residual at the given points (P,).
        gradient: largest entry of the gradient of half the sum of squares (P,); zero at a minimum.
        iterations: how many were taken, (P,).
        converged: (P,) of bools. What has not converged has no gradient of a minimum; it is handed on without one.
        condition: of the Gauss-Newton matrix, (P,); above 1e14 the basis functions are nearly dependent.
    """

    coefficients: Tensor
    residual: Tensor
    gradient: Tensor
    iterations: Tensor
    converged: Tensor
    condition: Tensor


def solve_least_squares(
    equation: Pointwise,
    features: Tensor,
    rows: Tensor | None = None,
    targets: Tensor | None = None,
    *,
    start: Tensor | None = None,
    ridge: float = 1e-4,
    max_iterations: int = 50,
    tolerance: float = 1e-9,
    backward: Backward = "implicit",
    offset: Tensor | None = None,
    slopes: Pointwise | None = None,
) -> LeastSquares:
    """Minimise |equation(Z w + z)|^2 + |A w - b|^2 + ridge^2 |w|^2 over w, for P problems at once.

    All derivatives in an equation are linear in u, so stencils are applied to every basis function once: Z. Within the
    search an equation is a function of a few numbers per point, and the Jacobian with respect to w a sum of products. In
    double precision within, since normal equations square the condition; coefficients come back in the features' dtype.

    Args:
        equation: (P, F, m) -> (P, m); differentiable twice.
        features: Z (P, F, m, N): F linear quantities of the N basis functions at m points.
        rows: A (P, q, N), linear conditions such as the basis functions at the initial time, weighted.
        targets: b (P, q).
        start: w to begin with (P, N); zeros if left out.
        ridge: keeps nearly dependent functions from cancelling each other.
        max_iterations: at most so many.
        tolerance: of the gradient, relative to what it was at the start, and of a step, relative to w.
        backward: "implicit" differentiates the minimum: -H^-1 d(J^T r), H the whole Hessian J^T J + sum r_i Hess r_i;
            "detach" takes the coefficients as they are, exact where the outer loss is the same sum of squares;
            "unroll" differentiates the iterations, whose graph it keeps.
        offset: z (P, F, m), of what is known beside the combination, such as a start or a force; zeros if left out.
        slopes: derivatives of the equation by each quantity, (P, F, m) -> (P, F, m); automatic if left out.

    Raises:
        ValueError: shapes do not fit, or an option is unknown.
    """
    _check(features, rows, targets, start, offset, ridge, max_iterations, backward)
    double, dtype = torch.float64, features.dtype
    problem = _Problem(
        equation,
        features.to(double),
        features.new_zeros(len(features), 0, features.shape[-1]).to(double)
        if rows is None
        else rows.to(double),
        features.new_zeros(len(features), 0).to(double) if targets is None else targets.to(double),
        ridge,
        None if offset is None else offset.to(double),
        slopes,
    )
    w = torch.zeros(len(features), features.shape[-1], dtype=double, device=features.device)
    w = w if start is None else start.to(double)
    with torch.set_grad_enabled(backward == "unroll" and torch.is_grad_enabled()):
        w, iterations, converged = _search(problem, w, max_iterations, tolerance)
    with torch.no_grad():
        r, each = problem.linearised(w)
        square, gradient = problem.normal(w, r, each)
        spectrum = torch.linalg.eigvalsh(square)
        condition = spectrum[:, -1] / spectrum[:, 0].clamp(min=torch.finfo(double).tiny)
    found = w
    if backward == "implicit" and torch.is_grad_enabled():
        found = _implicit(problem, w, r, square, converged)
    return LeastSquares(
        found.to(dtype),
        r.square().mean(dim=1).sqrt().to(dtype),
        gradient.abs().amax(dim=1).to(dtype),
        iterations,
        converged,
        condition,
    )


@dataclass(frozen=True)
class _Problem:
    equation: Pointwise
    z: Tensor  # (P, F, m, N)
    a: Tensor  # (P, q, N)
    b: Tensor  # (P, q)
    ridge: float
    known: Tensor | None  # (P, F, m)
    slopes: Pointwise | None

    def values(self, w: Tensor) -> Tensor:
        """The linear quantities of u = B w, (P, F, m), with what is known beside it."""
        own = torch.einsum("pfmn,pn->pfm", self.z, w)
        return own if self.known is None else own + self.known

    def cost(self, w: Tensor) -> Tensor:
        """Half the sum of squares (P,)."""
        r, miss = self.equation(self.values(w)), self.miss(w)
        return 0.5 * (r.square().sum(1) + miss.square().sum(1) + self.ridge**2 * w.square().sum(1))

    def miss(self, w: Tensor) -> Tensor:
        return torch.einsum("pqn,pn->pq", self.a, w) - self.b

    def linearised(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """Residual (P, m) and its slopes by each quantity (P, F, m)."""
        if self.slopes is not None:
            values = self.values(w)
            return self.equation(values), self.slopes(values)
        r, pull = torch.func.vjp(self.equation, self.values(w))[:2]
        # A point's residual depends on that point alone, so that one reverse pass gives all slopes.
        (slopes,) = pull(torch.ones_like(r))
        return r, slopes

    def jacobian(self, slopes: Tensor) -> Tensor:
        """Of the residual by w, (P, m, N)."""
        # Few quantities and many points: products one after the other, where a contraction would copy all features.
        total = slopes[:, 0].unsqueeze(-1) * self.z[:, 0]
        for f in range(1, self.z.shape[1]):
            total = torch.addcmul(total, slopes[:, f].unsqueeze(-1), self.z[:, f])
        return total

    def normal(self, w: Tensor, r: Tensor, slopes: Tensor) -> tuple[Tensor, Tensor]:
        """J^T J and J^T r of everything that is squared, (P, N, N) and (P, N)."""
        j = self.jacobian(slopes)
        eye = torch.eye(w.shape[1], dtype=w.dtype, device=w.device)
        square = j.mT @ j + self.a.mT @ self.a + self.ridge**2 * eye
        gradient = (
            torch.einsum("pmn,pm->pn", j, r)
            + torch.einsum("pqn,pq->pn", self.a, self.miss(w))
            + self.ridge**2 * w
        )
        return square, gradient

    def curvature(self, w: Tensor, r: Tensor) -> Tensor:
        """sum_i r_i Hess_w(r_i), (P, N, N)."""

        def automatic(values: Tensor) -> Tensor:
            found, pull = torch.func.vjp(self.equation, values)[:2]
            own: Tensor = pull(torch.ones_like(found))[0]
            return own

        found, pull = torch.func.vjp(self.slopes or automatic, self.values(w))[:2]
        out = torch.zeros(len(w), w.shape[1], w.shape[1], dtype=w.dtype, device=w.device)
        for k in range(found.shape[1]):
            weight = torch.zeros_like(found)
            weight[:, k] = r
            (second,) = pull(weight)  # r_i d2F_i / dz_k dz_f, (P, F, m)
            out = out + self.z[:, k].mT @ self.jacobian(second)
        return out


def _search(
    problem: _Problem, w: Tensor, max_iterations: int, tolerance: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Levenberg and Marquardt's search with the gain ratio as judge (Nocedal and Wright, 2006, section 10.3)."""
    count = len(w)
    damping = torch.full((count,), 1e-2, dtype=w.dtype, device=w.device)
    iterations = torch.zeros(count, dtype=torch.int64, device=w.device)
    converged = torch.zeros(count, dtype=torch.bool, device=w.device)
    first: Tensor | None = None
    cost = problem.cost(w)
    for _ in range(max_iterations + 1):
        r, slopes = problem.linearised(w)
        square, gradient = problem.normal(w, r, slopes)
        steep = gradient.detach().abs().amax(dim=1)
        first = steep.clamp(min=1.0) if first is None else first
        converged = converged | (steep <= tolerance * first)
        running = ~converged & torch.isfinite(cost) & (iterations < max_iterations)
        if not bool(running.any()):
            break
        model = _model(problem, w, r, square, running & (steep <= _CLOSE * first))
        diagonal = square.diagonal(dim1=-2, dim2=-1)
        factor, info = torch.linalg.cholesky_ex(model + torch.diag_embed(damping.unsqueeze(1) * diagonal))
        step = -torch.cholesky_solve(gradient.unsqueeze(-1), factor).squeeze(-1)
        trial = problem.cost(w + step)
        # What the quadratic model promises; below rounding of the cost nothing can be judged.
        promised = -(gradient * step).sum(1) - 0.5 * torch.einsum("pn,pnk,pk->p", step, model, step)
        with torch.no_grad():
            even = (trial - cost).abs() <= 1e-14 * cost
            better = running & (info == 0) & ((cost - trial > 1e-4 * promised) | even)
            short = running & (step.norm(dim=1) <= tolerance * (w.norm(dim=1) + tolerance)) & (info == 0)
            converged = converged | (short & (damping < 1.0))
            iterations = iterations + running
            damping = torch.where(better, (damping / 3).clamp(min=1e-12), damping * 3)
        w = torch.where(better.unsqueeze(1), w + step, w)
        cost = torch.where(better, trial, cost)
    return w, iterations, converged


def _model(problem: _Problem, w: Tensor, r: Tensor, square: Tensor, close: Tensor) -> Tensor:
    """The matrix of a step: the Hessian where a minimum is close and it is positive definite, else J^T J."""
    if not bool(close.any()):
        return square
    with torch.no_grad():
        hessian = square + problem.curvature(w, r.detach())
        _, info = torch.linalg.cholesky_ex(hessian)
        return torch.where((close & (info == 0))[:, None, None], hessian, square)


def _implicit(problem: _Problem, w: Tensor, r: Tensor, square: Tensor, converged: Tensor) -> Tensor:
    """w with the gradient of the minimum: at J^T r = 0, H dw = -d(J^T r). One step of Newton's method has that gradient."""
    with torch.no_grad():
        hessian = square + problem.curvature(w, r)
        factor, info = torch.linalg.cholesky_ex(hessian)
        good = converged & (info == 0)  # a minimum, not a saddle
        eye = torch.eye(w.shape[1], dtype=w.dtype, device=w.device)
        factor = torch.where(good[:, None, None], factor, eye)
    again, own = problem.linearised(w)
    _, gradient = problem.normal(w, again, own)
    # The value of the gradient is what the search left over; only how it changes is wanted.
    step = torch.cholesky_solve((gradient - gradient.detach()).unsqueeze(-1), factor).squeeze(-1)
    return w - torch.where(good.unsqueeze(1), step, 0.0)


def _check(
    features: Tensor,
    rows: Tensor | None,
    targets: Tensor | None,
    start: Tensor | None,
    offset: Tensor | None,
    ridge: float,
    max_iterations: int,
    backward: str,
) -> None:
    if features.ndim != 4:
        raise ValueError(
            f"solve_least_squares got features of shape {tuple(features.shape)}; expected (problems, quantities, points, "
            "functions)."
        )
    count, n = features.shape[0], features.shape[-1]
    if (rows is None) != (targets is None):
        raise ValueError("solve_least_squares needs rows and targets together, or neither.")
    fit = rows is None or targets is None or (
        rows.ndim == 3 and rows.shape[::2] == (count, n) and targets.shape == rows.shape[:2]
    )  # fmt: skip
    if not fit:
        assert rows is not None and targets is not None
        raise ValueError(
            f"solve_least_squares got rows {tuple(rows.shape)} and targets {tuple(targets.shape)}; expected "
            f"({count}, q, {n}) and ({count}, q)."
        )
    if start is not None and tuple(start.shape) != (count, n):
        raise ValueError(
            f"solve_least_squares got a start of {tuple(start.shape)}; expected ({count}, {n})."
        )
    if offset is not None and offset.shape != features.shape[:-1]:
        raise ValueError(
            f"solve_least_squares got an offset of {tuple(offset.shape)}; expected {tuple(features.shape[:-1])}."
        )
    if not ridge >= 0 or max_iterations < 1:
        raise ValueError(
            f"solve_least_squares got ridge={ridge} and max_iterations={max_iterations}; expected zero or more, and at "
            "least one."
        )
    if backward not in BACKWARDS:
        raise ValueError(
            f"solve_least_squares got backward={backward!r}; expected one of {list(BACKWARDS)}."
        )
