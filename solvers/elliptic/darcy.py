"""Steady diffusion with a variable coefficient, and Poisson's equation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from sciml.domains import Grid
from sciml.linear import NotConverged, conjugate_gradient, implicit_solve
from sciml.solvers.elliptic.diffusion import DiffusionProblem, discretise
from sciml.solvers.elliptic.multigrid import Multigrid
from sciml.solvers.elliptic.separable import separable
from sciml.solvers.elliptic.sides import EllipticConditions, SideValues
from sciml.solvers.lanes import available

EllipticMethod = Literal["auto", "fft", "multigrid", "pyamg", "direct"]


def solve_darcy(
    a: float | Tensor,
    f: float | Tensor,
    grid: Grid,
    *,
    boundary_values: SideValues = 0.0,
    boundary_flux: SideValues = 0.0,
    conditions: EllipticConditions | None = None,
    reaction: float | Tensor = 0.0,
    tolerance: float = 1e-10,
    method: EllipticMethod = "auto",
    max_iterations: int = 200,
    compiled: bool | None = None,
) -> Tensor:
    """Solve -div(a grad u) + c u = f on a grid of cells or nodes in 1D to 3D, (B, 1, *points).

    Finite volumes with harmonic means: second order for smooth coefficients, exact fluxes through
    layers, maximum principle. Differentiable in a, c, f and the boundary data by the adjoint system.
    Computed in float64 whatever the inputs; float32 would stall far above the tolerance.

    Args:
        a: coefficient, positive, (B, 1, *points), (1, 1, *points) or a number; (B, D, *points) gives each
            axis its own, the diagonal of a tensor.
        f: source, (B, 1, *points), (1, 1, *points) or a number.
        grid: its sides are "dirichlet", "neumann" or "periodic", each its own. Without a Dirichlet or Robin
            side and without reaction the source and the flux must balance, and the solution with zero mean
            is returned.
        boundary_values: u on the Dirichlet sides: a number, a function of positions (D, *points), or,
            for grids of nodes, a field (B, 1, *points) of which the nodes on these sides are read.
        boundary_flux: a du/dn, inwards where positive, on the Neumann sides; likewise.
        conditions: sides of their own, such as {"x-": Value(field), "y+": Robin(2.0, 1.0)}; see
            `Value`, `Flux` and `Robin`.
        reaction: c, at least zero, like a.
        tolerance: relative residual; "fft" and "direct" do without.
        method: "fft" (direct, batched, for constant a and c), "multigrid" (conjugate gradients, batched), "pyamg"
            (one sample after the other), "direct" (SuperLU, likewise), or "auto": the first of these that applies.
        max_iterations: when to give up.
        compiled: whether multigrid runs in compiled loops; where they are available, unless said otherwise. The
            same iteration with its cycles in single precision.

    Raises:
        ValueError: a shape, side or method does not fit, a is not positive and finite, c is negative, f is
            not finite, or source and flux do not balance where they must.
        NotConverged: the tolerance was not reached.
    """
    if method not in get_args(EllipticMethod):
        raise ValueError(
            f"solve_darcy got method={method!r}; expected one of {list(get_args(EllipticMethod))}."
        )
    coefficient, source = (
        field_input("solve_darcy", "a", a, grid, axes=True),
        field_input("solve_darcy", "f", f, grid)[:, 0],
    )
    lost = (
        None
        if isinstance(reaction, (int, float)) and reaction == 0
        else field_input("solve_darcy", "reaction", reaction, grid)[:, 0]
    )
    counts = {len(v) for v in (coefficient, source, *([] if lost is None else [lost]))} - {1}
    if len(counts) > 1:
        raise ValueError(
            f"solve_darcy got {len(coefficient)} coefficients and {len(source)} sources"
            f"{'' if lost is None else f' and {len(lost)} reactions'}; expected as many of each, or one."
        )
    check_positive("solve_darcy", coefficient, grid)
    if lost is not None and bool((lost < 0).any()):
        raise ValueError(
            f"solve_darcy got a reaction with the smallest value {float(lost.detach().min()):.3g}; expected at least "
            "zero: less makes the operator indefinite. For waves use solve_helmholtz."
        )
    problem = discretise(
        coefficient.unbind(1) if coefficient.shape[1] > 1 else coefficient[:, 0], grid, conditions, lost
    )
    b = problem.right_hand_side(source, boundary_values, boundary_flux)
    if b.is_complex() or any(p.is_complex() for p in problem.operator.parameters):
        raise ValueError("solve_darcy got complex boundary data; it solves for real fields.")
    samples = max(len(b), problem.operator.samples)
    b = b.expand(samples, *b.shape[1:])
    inputs = [v.dtype for v in (a, f, reaction) if isinstance(v, Tensor)]
    out = torch.float64
    if inputs:
        out = inputs[0]
        for other in inputs[1:]:
            out = torch.promote_types(out, other)
    if problem.singular:
        b = _balanced(b, 1e-4 if out == torch.float32 else 1e-8)
    u = implicit_solve(
        lambda u, *parameters: problem.operator.with_parameters(parameters)(u),
        b,
        _solver(problem, method, tolerance=tolerance, max_iterations=max_iterations, compiled=compiled),
        problem.operator.parameters,
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
    conditions: EllipticConditions | None = None,
    tolerance: float = 1e-10,
    method: EllipticMethod = "auto",
) -> Tensor:
    """Solve -lap(u) = f, (B, 1, *points); `solve_darcy` with a = 1, which says the rest."""
    return solve_darcy(
        1.0,
        f,
        grid,
        boundary_values=boundary_values,
        boundary_flux=boundary_flux,
        conditions=conditions,
        tolerance=tolerance,
        method=method,
    )


def field_input(solver: str, name: str, value: float | Tensor, grid: Grid, axes: bool = False) -> Tensor:
    """A number or (B, C, *points) as (B, C, *points) in float64, C = 1 or, with `axes`, D."""
    if not isinstance(value, Tensor) or value.ndim == 0:
        field = torch.as_tensor(value, dtype=torch.float64).expand(1, 1, *grid.shape)
    elif tuple(value.shape[2:]) != grid.shape or value.shape[1] not in (
        (1, grid.dimension) if axes else (1,)
    ):
        raise ValueError(
            f"{solver} got {name} of shape {tuple(value.shape)}; expected (B, 1, *{grid.shape})"
            f"{f' or (B, {grid.dimension}, *{grid.shape})' if axes and grid.dimension > 1 else ''}."
        )
    else:
        field = value.to(torch.float64)
    if not bool(torch.isfinite(field).all()):
        raise ValueError(f"{solver} got {name} with values that are not finite.")
    return field


def check_positive(solver: str, a: Tensor, grid: Grid) -> None:
    """Refuse a coefficient (B, C, *points) that is not positive, and say where."""
    wrong = (a.detach() <= 0).nonzero()
    if len(wrong):
        where = ", ".join(str(tuple(int(i) for i in place[2:])) for place in wrong[:4])
        raise ValueError(
            f"{solver} got a coefficient with the smallest value {float(a.detach().min()):.3g}; "
            f"expected positive values everywhere. {len(wrong)} of {a.numel()} are not: sample {int(wrong[0, 0])}, "
            f"{grid.centering}s {where}{', ...' if len(wrong) > 4 else ''}."
        )


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
    problem: DiffusionProblem,
    method: EllipticMethod,
    *,
    tolerance: float,
    max_iterations: int,
    compiled: bool | None = None,
) -> Callable[[Tensor], Tensor]:
    """b (B, *unknowns) -> u; what depends on the operator alone is computed once, when first needed."""
    if method in ("auto", "fft"):
        # Eigenvectors of an axis pay where many lines share them.
        several = problem.operator.dimension > 1 and problem.operator.samples == 1
        fast = separable(problem, largest=1024 if method == "fft" else 256 if several else 0)
        if fast is not None:
            return fast
        if method == "fft":
            raise ValueError(
                "solve_darcy got method='fft' and a coefficient or reaction that varies; expected constants. Use "
                "method='multigrid', or 'auto', which chooses."
            )
    if method in ("auto", "multigrid"):
        return _multigrid(problem, tolerance, max_iterations, compiled)

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


def _multigrid(
    problem: DiffusionProblem, tolerance: float, max_iterations: int, compiled: bool | None
) -> Callable[[Tensor], Tensor]:
    operator = problem.operator.detached()
    can = available() and operator.faces[0].device.type == "cpu"
    if compiled and not can:
        raise ValueError(
            "solve_darcy got compiled=True, which needs numba and tensors in the processor's memory; install it "
            "by: pip install 'sciml[compiled]', or leave it out."
        )
    if can if compiled is None else compiled:
        from sciml.solvers.elliptic.compiled import CompiledMultigrid

        loops = CompiledMultigrid(operator, singular=problem.singular)

    tensors: list[Multigrid] = []

    def apply(u: Tensor) -> Tensor:
        return -operator.residual(u, torch.zeros_like(u))

    def by_tensors(b: Tensor) -> Tensor:
        if not tensors:
            tensors.append(Multigrid(operator, singular=problem.singular))
        return conjugate_gradient(
            apply, b, preconditioner=tensors[0], tolerance=tolerance, max_iterations=max_iterations
        ).x

    def by_loops(b: Tensor) -> Tensor:
        if not bool(torch.isfinite(b).all()):
            raise ValueError("solve_darcy got a right-hand side that is not finite.")
        x, _, residuals = loops.solve(b, tolerance, max_iterations)
        # Where cycles in single precision are not near enough to the inverse, those in double precision go on.
        return x if bool((residuals <= tolerance).all()) else by_tensors(b)

    return by_loops if (can if compiled is None else compiled) else by_tensors


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
