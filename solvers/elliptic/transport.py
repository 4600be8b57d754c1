"""Steady transport: a field carried by a flow and spread by diffusion."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from sciml.domains import Grid
from sciml.linear import bicgstab, gmres, implicit_solve
from sciml.solvers.elliptic.darcy import check_positive, field_input
from sciml.solvers.elliptic.diffusion import DiffusionProblem, discretise, padded
from sciml.solvers.elliptic.multigrid import Multigrid
from sciml.solvers.elliptic.separable import separable
from sciml.solvers.elliptic.sides import EllipticConditions, SideValues

TransportScheme = Literal["central", "upwind"]
TransportMethod = Literal["auto", "krylov", "direct"]
# Peclet number of a cell above which "auto" takes sparse factors: diffusion alone is no preconditioner any more.
_STRONG = 20.0


@dataclass(frozen=True)
class _Carried:
    """Fluxes w (left u_i-1 + right u_i) through the faces, w the areas times velocities.

    Args:
        left, right: per axis the shares (B or 1, *points with one more along that axis).
        periodic: which axes wrap round.
    """

    left: tuple[Tensor, ...]
    right: tuple[Tensor, ...]
    periodic: tuple[bool, ...]

    def __call__(self, u: Tensor) -> Tensor:
        total = torch.zeros_like(u)
        for axis, (left, right, wraps) in enumerate(zip(self.left, self.right, self.periodic, strict=True)):
            dim, n = axis + 1, u.shape[axis + 1]
            around = padded(u, dim, wraps)
            flux = left * around.narrow(dim, 0, n + 1) + right * around.narrow(dim, 1, n + 1)
            total = total + torch.diff(flux, dim=dim)
        return total

    def matrix(self, sample: int, shape: tuple[int, ...]) -> object:
        """Of one sample, (N, N)."""
        from scipy.sparse import coo_array

        index = np.arange(math.prod(shape)).reshape(shape)
        rows, columns, values = [], [], []
        for axis, (left, right, wraps) in enumerate(zip(self.left, self.right, self.periodic, strict=True)):
            n = shape[axis]
            for weights, ahead in ((left, 0), (right, 1)):
                w = weights[min(sample, len(weights) - 1)].detach().cpu().numpy()
                w = np.broadcast_to(w, tuple(n + 1 if d == axis else m for d, m in enumerate(shape)))
                # The flux of face f leaves point f - 1 and enters point f.
                for target, sign in ((-1, 1.0), (0, -1.0)):
                    face = np.arange(n + 1)
                    row, column = face + target, face - 1 + ahead
                    keep = (row >= 0) & (row < n)
                    keep &= np.full(n + 1, True) if wraps else (column >= 0) & (column < n)
                    rows.append(np.take(index, row[keep], axis).ravel())
                    columns.append(np.take(index, column[keep] % n, axis).ravel())
                    values.append(sign * np.take(w, face[keep], axis).ravel())
        entries = (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
        return coo_array(entries, shape=(index.size, index.size)).tocsr()


def solve_transport(
    a: float | Tensor,
    velocity: Sequence[float] | Tensor,
    f: float | Tensor,
    grid: Grid,
    *,
    boundary_values: SideValues = 0.0,
    boundary_flux: SideValues = 0.0,
    conditions: EllipticConditions | None = None,
    reaction: float | Tensor = 0.0,
    scheme: TransportScheme = "central",
    tolerance: float = 1e-10,
    method: TransportMethod = "auto",
    max_iterations: int = 500,
) -> Tensor:
    """Solve div(v u - a grad u) + c u = f on a grid of cells or nodes in 1D to 3D, (B, 1, *points).

    Finite volumes: what leaves one control volume enters the next, so that source, loss and what passes the sides
    balance to the tolerance. Differentiable in a, v, c, f and the boundary data by the adjoint system.

    Central fluxes are of second order and oscillate where a layer is thinner than the cells, at Peclet numbers
    |v| h / a above 2; a warning tells. Upwind fluxes are of first order and do not oscillate.

    Args:
        a: diffusivity, as for `solve_darcy`.
        velocity: v, a number per axis or a field (B, D, *points) [length/time].
        f: source, (B, 1, *points), (1, 1, *points) or a number.
        grid: its sides are "dirichlet", "neumann" or "periodic". A Neumann side has the diffusive flux given and lets
            pass what the flow carries.
        boundary_values, boundary_flux, conditions, reaction: as for `solve_darcy`.
        scheme: "central" or "upwind".
        tolerance: relative residual of the iterations.
        method: "krylov" (batched, preconditioned by the diffusion), "direct" (sparse factors, one sample after the
            other), or "auto": the first while diffusion is felt across a cell, in 3D always.
        max_iterations: when to give up.

    Raises:
        ValueError: a shape, side, scheme or method does not fit, a is not positive and finite, or no side or
            reaction holds the level of u.
        NotConverged: the tolerance was not reached.
    """
    if scheme not in get_args(TransportScheme) or method not in get_args(TransportMethod):
        raise ValueError(
            f"solve_transport got scheme={scheme!r} and method={method!r}; expected one of "
            f"{list(get_args(TransportScheme))} and one of {list(get_args(TransportMethod))}."
        )
    name = "solve_transport"
    coefficient, source = field_input(name, "a", a, grid, axes=True), field_input(name, "f", f, grid)[:, 0]
    check_positive(name, coefficient, grid)
    speeds = _velocity(velocity, grid)
    lost = (
        None
        if isinstance(reaction, (int, float)) and reaction == 0
        else field_input(name, "reaction", reaction, grid)[:, 0]
    )
    peclet = _peclet(coefficient, speeds, grid)
    if scheme == "central" and peclet > 2:
        warnings.warn(
            f"solve_transport got a Peclet number |v| h / a of {peclet:.3g} across a cell; central fluxes oscillate above 2 "
            f"where there are layers. Use spacings {peclet / 2:.2g} times smaller, or scheme='upwind', which is of first "
            "order.",
            stacklevel=2,
        )
    parts = coefficient.unbind(1) if coefficient.shape[1] > 1 else coefficient[:, 0]
    problem = discretise(parts, grid, conditions, lost)
    if problem.singular:
        raise ValueError(
            "solve_transport got no Dirichlet or Robin side and no reaction, so that nothing holds the level of u; hold a "
            "value on one side."
        )
    b = problem.right_hand_side(source, boundary_values, boundary_flux)
    carried, inflow = _carried(problem, coefficient, speeds, scheme, boundary_values, boundary_flux, b)
    b = b - inflow
    samples = max(len(b), problem.operator.samples, *(len(w) for w in carried.left))
    b = b.expand(samples, *b.shape[1:])
    diffusive, dimension = len(problem.operator.parameters), grid.dimension

    def apply(u: Tensor, *parameters: Tensor) -> Tensor:
        left = parameters[diffusive : diffusive + dimension]
        right = parameters[diffusive + dimension :]
        spread = problem.operator.with_parameters(parameters[:diffusive])(u)
        return spread + _Carried(tuple(left), tuple(right), grid.periodic)(u)

    parameters = (*problem.operator.parameters, *carried.left, *carried.right)
    fixed = tuple(p.detach() for p in parameters)
    if method == "auto":
        method = "direct" if peclet > _STRONG and dimension < 3 else "krylov"
    solve: Callable[[Tensor, bool], Tensor]
    if method == "direct":
        solve = _factors(problem, carried)
    else:
        solve = _krylov(problem, lambda u: apply(u, *fixed), tolerance, max_iterations)
    u = implicit_solve(apply, b, lambda r: solve(r, False), parameters, adjoint=lambda r: solve(r, True))
    inputs = [v.dtype for v in (a, velocity, f, reaction) if isinstance(v, Tensor)]
    out = torch.float32 if inputs and all(d == torch.float32 for d in inputs) else torch.float64
    return problem.complete(u, boundary_values).unsqueeze(1).to(out)


def _velocity(velocity: Sequence[float] | Tensor, grid: Grid) -> Tensor:
    """(B or 1, D, *points) in float64."""
    v = torch.as_tensor(velocity, dtype=torch.float64)
    if tuple(v.shape) == (grid.dimension,):
        v = v.reshape(1, grid.dimension, *[1] * grid.dimension).expand(1, -1, *grid.shape)
    if tuple(v.shape[1:]) != (grid.dimension, *grid.shape):
        raise ValueError(
            f"solve_transport got a velocity of shape {tuple(v.shape)}; expected ({grid.dimension},) or "
            f"(B, {grid.dimension}, *{grid.shape})."
        )
    if not bool(torch.isfinite(v).all()):
        raise ValueError("solve_transport got a velocity that is not finite.")
    return v


def _peclet(a: Tensor, v: Tensor, grid: Grid) -> float:
    h = torch.tensor(grid.spacing, dtype=torch.float64).reshape(1, -1, *[1] * grid.dimension)
    return float((v.detach().abs() * h / a.detach()).max())


def _carried(
    problem: DiffusionProblem,
    a: Tensor,
    v: Tensor,
    scheme: TransportScheme,
    values: SideValues,
    flux: SideValues,
    like: Tensor,
) -> tuple[_Carried, Tensor]:
    """The advective part of the operator, and what leaves with values that are known."""
    grid, left, right = problem.grid, [], []
    cells = grid.centering == "cell"
    known = torch.zeros_like(like[:1])
    for axis, (pair, h) in enumerate(zip(grid.sides, grid.spacing, strict=True)):
        dim, n = axis + 1, problem.operator.shape[axis]
        across = tuple(slice(None) if d == axis else span for d, span in enumerate(problem.kept))
        line = v[:, axis][(slice(None), *across)]
        points = line.shape[dim]
        mean = 0.5 * (line.narrow(dim, 0, points - 1) + line.narrow(dim, 1, points - 1))
        ends = [
            _beyond(line, dim, end) if cells else line.narrow(dim, (points - 1) * end, 1) for end in (0, 1)
        ]
        if pair[0] == "periodic":
            seam = 0.5 * (line.narrow(dim, 0, 1) + line.narrow(dim, points - 1, 1))
            w = torch.cat((seam, mean, seam), dim=dim)
        else:
            held = [not cells and side == "dirichlet" for side in pair]
            w = torch.cat((*([] if held[0] else ends[:1]), mean, *([] if held[1] else ends[1:])), dim=dim)
        w = w * problem.areas(axis)
        shares = [0.5 * w, 0.5 * w] if scheme == "central" else [w.clamp(min=0), w.clamp(max=0)]
        for end, side in enumerate(pair):
            if side == "periodic":
                continue
            place = torch.zeros(n + 1, dtype=torch.bool, device=w.device)
            place[n * end] = True
            place = place.reshape([-1 if d == dim else 1 for d in range(w.ndim)])
            edge = w.narrow(dim, n * end, 1)
            if side == "dirichlet" and not cells:
                # The known node is one of the two of its face.
                outside = shares[end].narrow(dim, n * end, 1) * problem.on_side(values, axis, end, like)
                shares[end] = torch.where(place, 0.0, shares[end])
            elif side == "dirichlet":
                outside = edge * problem.on_side(values, axis, end, like)
                shares = [torch.where(place, 0.0, s) for s in shares]
            else:
                # On the side itself u is that of the last cell and half a cell of the slope that the flux gives.
                film = problem.shares.get((axis, end), torch.ones_like(edge[:1]))
                outside = torch.zeros_like(edge)
                if cells:
                    beside = a[:, min(axis, a.shape[1] - 1)][(slice(None), *across)]
                    beside = beside.narrow(dim, (points - 1) * end, 1)
                    outside = edge * film * problem.on_side(flux, axis, end, like) * h / (2 * beside)
                shares[end] = torch.where(place, 0.0, shares[end])
                shares[1 - end] = torch.where(place, edge * film, shares[1 - end])
            outside = outside if end else -outside
            rest = [n - 1 if d == axis else m for d, m in enumerate(outside.shape[1:])]
            nothing = outside.new_zeros(len(outside), *rest)
            known = known + torch.cat((nothing, outside) if end else (outside, nothing), dim=dim)
        left.append(shares[0])
        right.append(shares[1])
    return _Carried(tuple(left), tuple(right), grid.periodic), known


def _beyond(line: Tensor, dim: int, end: int) -> Tensor:
    """Half a cell outside of the first or last value, in a straight line."""
    n = line.shape[dim]
    last, before = (n - 1, n - 2) if end else (0, 1)
    return 1.5 * line.narrow(dim, last, 1) - 0.5 * line.narrow(dim, before, 1)


def _krylov(
    problem: DiffusionProblem, apply: Callable[[Tensor], Tensor], tolerance: float, most: int
) -> Callable[[Tensor, bool], Tensor]:
    """BiCGStab, and GMRES where it fails, with the inverse of the diffusive part or a cycle near it."""
    kept: list[Callable[[Tensor], Tensor]] = []

    def solve(b: Tensor, transposed: bool) -> Tensor:
        if not kept:
            kept.append(separable(problem, largest=0) or Multigrid(problem.operator.detached()))
        product = apply
        if transposed:
            product = torch.func.vjp(apply, torch.zeros_like(b))[1]

        def times(u: Tensor) -> Tensor:
            out = product(u)
            return out[0] if isinstance(out, tuple) else out

        found = bicgstab(
            times, b, preconditioner=kept[0], tolerance=tolerance, max_iterations=most, strict=False
        )
        if bool(found.converged.all()):
            return found.x
        return gmres(
            times, b, preconditioner=kept[0], tolerance=tolerance, restart=60, max_iterations=most
        ).x

    return solve


def _factors(problem: DiffusionProblem, carried: _Carried) -> Callable[[Tensor, bool], Tensor]:
    """SuperLU, of each sample when first needed."""
    from scipy.sparse.linalg import splu

    kept: dict[int, object] = {}
    shared = problem.operator.samples == 1 and all(len(w) == 1 for w in (*carried.left, *carried.right))

    def solve(b: Tensor, transposed: bool) -> Tensor:
        out = []
        for i, row in enumerate(b.detach().flatten(1).cpu().numpy()):
            key = 0 if shared else i
            if key not in kept:
                matrix = problem.operator.matrix(key) + carried.matrix(key, problem.operator.shape)
                kept[key] = splu(matrix.tocsc())
            out.append(kept[key].solve(row, trans="T" if transposed else "N"))  # type: ignore[attr-defined]
        return torch.as_tensor(np.stack(out)).to(b).reshape(b.shape)

    return solve
