"""Steady diffusion with a variable coefficient, and Poisson's equation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from sciml.domains import Grid
from sciml.linear import NotConverged, conjugate_gradient, implicit_solve
from sciml.solvers.elliptic.diffusion import Diffusion, DiffusionProblem, discretise
from sciml.solvers.elliptic.sides import SideValues
from sciml.solvers.elliptic.multigrid import Multigrid

EllipticMethod = Literal["multigrid", "pyamg", "direct"]


def solve_darcy(
    a: float | Tensor,
    f: float | Tensor,
    grid: Grid,
    *,
    boundary_values: SideValues = 0.0,
    boundary_flux: SideValues = 0.0,
    tolerance: float = 1e-10,
    method: EllipticMethod = "multigrid",
    max_iterations: int = 200,
) -> Tensor:
    """Solve -div(a grad u) = f on a grid of cells or nodes in 1D to 3D, (B, 1, *points).

    Finite volumes with harmonic means: second order for smooth coefficients, exact fluxes through
    layers, maximum principle. Differentiable in a, f and the boundary data by the adjoint system.
    Computed in float64 whatever the inputs; float32 would stall far above the tolerance.

    Args:
        a: coefficient, positive, (B, 1, *points), (1, 1, *points) or a number.
        f: source, likewise.
        grid: its sides are "dirichlet", "neumann" or "periodic", each its own. Without a Dirichlet
            side the source and the flux must balance, and the solution with zero mean is returned.
        boundary_values: u on the Dirichlet sides: a number, a function of positions (D, *points), or,
            for grids of nodes, a field (B, 1, *points) of which the nodes on these sides are read.
        boundary_flux: a du/dn, inwards where positive, on the Neumann sides; likewise.
        tolerance: relative residual; "direct" does without.
        method: "multigrid" (conjugate gradients, batched), "pyamg" (one sample after the other) or
            "direct" (SuperLU, likewise).
        max_iterations: when to give up.

    Raises:
        ValueError: a shape, side or method does not fit, a is not positive and finite, f is not
            finite, or source and flux do not balance where they must.
        NotConverged: the tolerance was not reached.
    """
    if method not in get_args(EllipticMethod):
        raise ValueError(
            f"solve_darcy got method={method!r}; expected one of {list(get_args(EllipticMethod))}."
        )
    coefficient, source = _input("a", a, grid), _input("f", f, grid)
    if len(coefficient) != len(source) and 1 not in (len(coefficient), len(source)):
        raise ValueError(
            f"solve_darcy got {len(coefficient)} coefficients and {len(source)} sources; expected as "
            "many of each, or one."
        )
    if not bool((coefficient > 0).all()):
        raise ValueError(
            f"solve_darcy got a coefficient with the smallest value {float(coefficient.detach().min()):.3g}; "
            "expected positive values everywhere."
        )
    problem = discretise(coefficient, grid)
    b = problem.right_hand_side(source, boundary_values, boundary_flux)
    samples = max(len(b), len(coefficient))
    b = b.expand(samples, *b.shape[1:])
    inputs = [v.dtype for v in (a, f) if isinstance(v, Tensor)]
    out = torch.float64
    if inputs:
        out = inputs[0] if len(inputs) == 1 else torch.promote_types(*inputs)
    if problem.singular:
        b = _balanced(b, 1e-4 if out == torch.float32 else 1e-8)
    u = implicit_solve(
        lambda u, *faces: Diffusion(faces, grid.periodic)(u),
        b,
        _solver(problem, method, tolerance=tolerance, max_iterations=max_iterations),
        problem.operator.faces,
    )
    if problem.singular:
        axes = tuple(range(1, u.ndim))
        u = u - (u * problem.volumes).sum(dim=axes, keepdim=True) / problem.volumes.sum()
    return problem.complete(u, boundary_values).unsqueeze(1).to(out)


def solve_poisson(
    f: float | Tensor,
    grid: Grid,
    *,
    boundary_values: SideValues = 0.0,
    boundary_flux: SideValues = 0.0,
    tolerance: float = 1e-10,
    method: EllipticMethod = "multigrid",
) -> Tensor:
    """Solve -lap(u) = f, (B, 1, *points); `solve_darcy` with a = 1, which says the rest."""
    return solve_darcy(
        1.0,
        f,
        grid,
        boundary_values=boundary_values,
        boundary_flux=boundary_flux,
        tolerance=tolerance,
        method=method,
    )


def _input(name: str, value: float | Tensor, grid: Grid) -> Tensor:
    """A number or (B, 1, *points) as (B, *points) in float64."""
    if not isinstance(value, Tensor):
        field = torch.full((1, *grid.shape), float(value), dtype=torch.float64)
    elif tuple(value.shape[1:]) != (1, *grid.shape):
        raise ValueError(
            f"solve_darcy got {name} of shape {tuple(value.shape)}; expected (B, 1, *{grid.shape})."
        )
    else:
        field = value.squeeze(1).to(torch.float64)
    if not bool(torch.isfinite(field).all()):
        raise ValueError(f"solve_darcy got {name} with values that are not finite.")
    return field


def _balanced(b: Tensor, allowed: float) -> Tensor:
    """b less its mean, where it is near zero as the equation without Dirichlet sides demands."""
    axes = tuple(range(1, b.ndim))
    total, size = b.detach().sum(dim=axes), b.detach().abs().sum(dim=axes)
    worst = float((total.abs() / size.clamp(min=torch.finfo(b.dtype).tiny)).max())
    if worst > allowed:
        raise ValueError(
            f"solve_darcy has no Dirichlet side, and source and boundary flux add up to {worst:.2g} of "
            "their size; expected zero, or there is no solution. Subtract the mean of the source, correct "
            "the flux, or hold a value on one side."
        )
    return b - b.mean(dim=axes, keepdim=True)


def _solver(
    problem: DiffusionProblem, method: EllipticMethod, *, tolerance: float, max_iterations: int
) -> Callable[[Tensor], Tensor]:
    """b (B, *unknowns) -> u; what depends on the operator alone is computed once, when first needed."""
    if method == "multigrid":
        operator = Diffusion(tuple(k.detach() for k in problem.operator.faces), problem.operator.periodic)
        cycle = Multigrid(operator, singular=problem.singular)

        def apply(u: Tensor) -> Tensor:
            return -operator.residual(u, torch.zeros_like(u))

        def solve(b: Tensor) -> Tensor:
            return conjugate_gradient(
                apply, b, preconditioner=cycle, tolerance=tolerance, max_iterations=max_iterations
            ).x

        return solve

    factors: dict[int, Callable[[np.ndarray], np.ndarray]] = {}

    def one_by_one(b: Tensor) -> Tensor:
        shared = all(len(k) == 1 for k in problem.operator.faces)
        out = []
        for i, row in enumerate(b.detach().flatten(1).cpu().numpy()):
            key = 0 if shared else i
            if key not in factors:
                make = _factorised if method == "direct" else _algebraic
                factors[key] = make(problem, key, tolerance, max_iterations)
            out.append(factors[key](row))
        return torch.as_tensor(np.stack(out)).to(b).reshape(b.shape)

    return one_by_one


def _factorised(
    problem: DiffusionProblem, sample: int, tolerance: float, max_iterations: int
) -> Callable[[np.ndarray], np.ndarray]:
    from scipy.sparse.linalg import splu

    matrix = problem.operator.matrix(sample).tocsc()
    if not problem.singular:
        return splu(matrix, permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True}).solve
    # Hold the last unknown at zero: the equation it loses follows from the others.
    inner = splu(matrix[:-1, :-1].tocsc(), permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True})
    return lambda b: np.append(inner.solve(b[:-1]), 0.0)


def _algebraic(
    problem: DiffusionProblem, sample: int, tolerance: float, max_iterations: int
) -> Callable[[np.ndarray], np.ndarray]:
    import pyamg
    from scipy.sparse import csr_matrix

    matrix = csr_matrix(problem.operator.matrix(sample))
    if problem.singular:
        # As above: a semi-definite system leaves conjugate gradients at rounding times the mean's drift.
        matrix = matrix[:-1, :-1]
    levels = pyamg.smoothed_aggregation_solver(matrix)

    def solve(b: np.ndarray) -> np.ndarray:
        b = b[: matrix.shape[0]]
        x = levels.solve(b, tol=tolerance, accel="cg", maxiter=max_iterations)
        size = float(np.linalg.norm(b)) or 1.0
        residual = float(np.linalg.norm(b - matrix @ x)) / size
        if not residual <= 10 * tolerance:
            raise NotConverged(
                f"pyamg left sample {sample} at a relative residual of {residual:.1e}; expected "
                f"{tolerance:.1e}. Raise max_iterations, loosen the tolerance, or use method='direct'."
            )
        return np.append(x, 0.0) if problem.singular else x

    return solve
