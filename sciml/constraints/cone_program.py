"""The nearest point of a convex set that is stated for cvxpy, and its derivatives."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sciml.extras import require

# Of the interior-point method: near the last digits, and what is asked for where these cannot be reached.
TOLERANCES = (1e-13, 1e-9, 1e-6)
# Residual of the conditions of the optimum at which a point counts as found where the method says that it got stuck.
ENOUGH = 1e-10
# Added to the diagonal where it is zero, so that what the set leaves open (values that only its formulation has, rows
# that follow from others) has a solution too; refinement takes away what it changes of the rest.
SHIFT = 1e-9
REFINEMENTS = 4
# Steps of Newton's method, which doubles the digits with each.
NEWTON = 8
# Shares from which a row counts as one that nothing pushes against.
KEPT = 1 - 1e-14


Solve = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Nearest:
    """A nearest point and what its derivatives need.

    Args:
        x: the point (n,) and the values of the formulation's own.
        w: slacks less duals of the rows of the cones (m,), in Clarabel's order.
    """

    x: np.ndarray
    w: np.ndarray


class ConeProgram:
    """min 1/2 sum_i w_i (u_i - z_i)^2 over u in a convex set, as a quadratic program over cones.

    cvxpy turns what the user wrote into rows A x + s = b with s in a product of cones, once, with u, perhaps the state
    before, and values of its own in x. Only the right-hand sides differ from state to state, and the objective stays
    a quadratic one: as a cone of its own, which layers that differentiate cones alone need, its square root would cost
    half of the digits.

    Args:
        function: u -> list of cvxpy constraints, with u a cvxpy variable (K, *points); arguments called `previous` and
            `domain` are given too, the first one another variable of that shape.
        shape: (K, *points).
        domain: for the function.

    Raises:
        ModuleNotFoundError: cvxpy is not installed; the message names the extra.
        ValueError: the function has other arguments, gives no list of constraints, constraints are not convex by
            cvxpy's rules, or need other cones than those of half-spaces, norms and positive matrices.
    """

    def __init__(self, function: Callable[..., Any], shape: Sequence[int], domain: object) -> None:
        self.given = (function, tuple(shape), domain)
        cp = require("cvxpy", extra="convex", purpose="ConvexSet")
        self.sparse = require("scipy.sparse", extra="convex", purpose="ConvexSet")
        self.factorise = require("scipy.sparse.linalg", extra="convex", purpose="ConvexSet").splu
        self.clarabel = require("clarabel", extra="convex", purpose="ConvexSet")
        self.shape = tuple(shape)
        self.size = int(np.prod(self.shape))
        self.u = cp.Variable(self.shape, name="u")
        self.before = cp.Variable(self.shape, name="previous")
        self.wants_previous, arguments = _arguments(function, {"previous": self.before, "domain": domain})
        found = function(self.u, **arguments)
        found = [found] if isinstance(found, cp.Constraint) else found
        if not isinstance(found, list | tuple) or not found:
            raise ValueError(
                f"ConvexSet got {type(found).__name__} from its function; expected a list of cvxpy constraints, such as "
                "[u >= 0, cvxpy.norm(u) <= 1]."
            )
        wrong = [str(c) for c in found if not isinstance(c, cp.Constraint)]
        bent = [str(c) for c in found if isinstance(c, cp.Constraint) and not c.is_dcp()]
        if wrong or bent:
            raise ValueError(
                f"ConvexSet got {(wrong or bent)[0]}, which is "
                + ("no cvxpy constraint" if wrong else "not convex by cvxpy's rules (dcp)")
                + "; expected convex <= concave, affine == affine, or a matrix >> 0"
                + (", with `previous` as if it were unknown as well." if self.wants_previous else ".")
            )
        own = {v for c in found for v in c.variables()} - {self.u, self.before}
        empty = [p.name() for c in found for p in c.parameters() if p.value is None]
        if own or empty:
            raise ValueError(
                f"ConvexSet got constraints with {sorted(v.name() for v in own) or empty}, whose values it does not know; "
                "expected u, `previous` and numbers alone."
            )
        self.constraints = list(found)
        # The coefficients of a linear objective tell where in x each number stands.
        numbers = np.arange(1.0, 2 * self.size + 1)
        marks = cp.vec(self.u, order="C") @ numbers[: self.size]
        if self.wants_previous:
            marks = marks + cp.vec(self.before, order="C") @ numbers[self.size :]
        data, _, _ = cp.Problem(cp.Minimize(marks), self.constraints).get_problem_data(
            cp.CLARABEL, canon_backend=cp.SCIPY_CANON_BACKEND
        )
        places = {round(float(c)): i for i, c in enumerate(data["c"]) if c != 0}
        columns = [places[int(k)] for k in numbers[: self.size * (1 + self.wants_previous)]]
        matrix = self.sparse.csc_array(data["A"])
        at_u, at_before = columns[: self.size], columns[self.size :]
        rest = sorted(set(range(matrix.shape[1])) - set(columns))
        # x = (u, values of the formulation's own).
        self.rows = matrix[:, at_u + rest]
        self.rows_before = matrix[:, at_before]
        self.right = np.asarray(data["b"], dtype=float)
        dims = data["dims"]
        if dims.exp or dims.p3d or getattr(dims, "pnd", []):
            raise ValueError(
                "ConvexSet got constraints with logarithms, exponentials or powers, whose cones it does not "
                "differentiate; expected those of half-spaces, norms, squares and positive matrices. Take Entropy or "
                "Nonlinear for laws of the others."
            )
        self.cones: list[tuple[str, int]] = [("zero", int(dims.zero)), ("positive", int(dims.nonneg))]
        self.cones += [("norm", int(n)) for n in dims.soc] + [("matrix", int(n)) for n in dims.psd]
        self.cones = [(kind, n) for kind, n in self.cones if n]

    def __deepcopy__(self, memo: object) -> ConeProgram:
        return self  # nothing in it changes

    def __reduce__(self) -> tuple[type[ConeProgram], tuple[Any, ...]]:
        return ConeProgram, self.given

    def violation(self, u: np.ndarray, previous: np.ndarray | None) -> float:
        """Largest residual of the constraints as they were written, for u and the state before (K, *points)."""
        self.u.save_value(u)
        self.before.save_value(previous)
        return max(float(np.max(np.abs(c.violation()))) for c in self.constraints)

    def solve(self, z: np.ndarray, previous: np.ndarray | None, metric: np.ndarray) -> Nearest | str:
        """The nearest point to z (n,), or how the solver failed.

        Clarabel's interior-point method ends where the objective is good to its tolerance, the point to the root of that.
        Newton's method on the conditions of the optimum takes it from there to rounding.

        Args:
            z, previous: states (n,).
            metric: w (n,).
        """
        own = np.zeros(self.rows.shape[1] - self.size)
        # Cones know no unit: in that of the state the solver meets numbers of order one.
        unit = float(np.abs(z).max()) or 1.0
        diagonal, linear = np.concatenate([metric, own]), np.concatenate([-metric * z / unit, own])
        right = self.right if previous is None else self.right - self.rows_before @ previous
        makers = {
            "zero": self.clarabel.ZeroConeT,
            "positive": self.clarabel.NonnegativeConeT,
            "norm": self.clarabel.SecondOrderConeT,
            "matrix": self.clarabel.PSDTriangleConeT,
        }
        cones = [makers[kind](n) for kind, n in self.cones]
        hessian = self.sparse.diags_array(diagonal).tocsc()
        status = ""
        for tolerance in TOLERANCES:
            settings = self.clarabel.DefaultSettings()
            settings.verbose = False
            settings.max_threads = 1
            settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = tolerance
            found = self.clarabel.DefaultSolver(
                hessian, linear, self.rows, right / unit, cones, settings
            ).solve()
            status = str(found.status)
            if "Infeasible" in status:
                return status
            start = Nearest(np.asarray(found.x), np.asarray(found.s) - np.asarray(found.z))
            nearest, error = self._newton(start, diagonal, linear, right / unit)
            if status == "Solved" or error <= ENOUGH:
                return Nearest(nearest.x * unit, nearest.w * unit)
        return status

    def _newton(
        self, start: Nearest, diagonal: np.ndarray, linear: np.ndarray, right: np.ndarray
    ) -> tuple[Nearest, float]:
        """Newton's method on H x + c + A' y = 0, A x + s = b with s = P(w), y = s - w, while it gains.

        The best point, and its largest residual.
        """
        best, least, x, w = start, np.inf, start.x, start.w
        for _ in range(NEWTON):
            if not (np.isfinite(x).all() and np.isfinite(w).all()):
                break
            turned, share = self._axes(w)
            # Projections on cones are homogeneous of degree one: they are their derivative times the point.
            slack = turned.T @ (share * (turned @ w))
            slope = -(diagonal * x + linear + self.rows.T @ (slack - w))
            gap = right - self.rows @ x - slack
            error = max(float(np.abs(slope).max()), float(np.abs(gap).max()))
            if not error < 0.5 * least:
                break
            best, least = Nearest(x, w), error
            kept = share < KEPT
            dx, dual = self._system(turned, share, diagonal)(slope, turned @ gap)
            turn = np.where(kept, -dual / np.where(kept, 1 - share, 1.0), turned @ (gap - self.rows @ dx))
            x, w = x + dx, w + turned.T @ turn
        return best, least

    def derivative(self, nearest: Nearest, metric: np.ndarray) -> Solve:
        """The solution (v, y) of H v + A' y = f, A v + ds = g at a nearest point, for f (n,) and g (m,).

        With f = w dz and g = -dp for right-hand sides that p takes away from, v is the change of u. The system is
        symmetric: the adjoint is itself.
        """
        own = np.zeros(self.rows.shape[1] - self.size)
        turned, share = self._axes(nearest.w)
        inner = self._system(turned, share, np.concatenate([metric, own]))

        def solve(f: np.ndarray, g: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            v, dual = inner(np.concatenate([f, own]), turned @ g)
            return v[: self.size], turned.T @ dual

        return solve

    def _system(self, turned: Any, share: np.ndarray, diagonal: np.ndarray) -> Solve:
        """(f, g) -> (v, y) with H v + G' y = f, G v - R y = g in the axes in which D is diagonal.

        dw = ds - dy of slacks and duals meets ds = D dw, D the derivative of the projection on the cones: rows with a
        share D_k < 1 stay, with R = D / (1 - D), and y is zero on the others.
        """
        kept = share < KEPT
        rows = (turned @ self.rows).tocsr()[kept].tocoo()
        ratio = share[kept] / (1 - share[kept])
        count, scale = len(diagonal), float(diagonal[: self.size].mean())
        shift = np.concatenate([SHIFT * scale * (diagonal == 0), np.full(len(ratio), -SHIFT / scale)])
        every = np.arange(len(shift))
        down, right = rows.row + count, rows.col
        entries = np.concatenate([np.concatenate([diagonal, -ratio]) + shift, rows.data, rows.data])
        places = (np.concatenate([every, down, right]), np.concatenate([every, right, down]))
        matrix = self.sparse.csc_array((entries, places), shape=(len(shift), len(shift)))
        factor = self.factorise(matrix)

        def solve(f: np.ndarray, g: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            given = np.concatenate([f, g[kept]])
            found = factor.solve(given)
            for _ in range(REFINEMENTS):
                found = found + factor.solve(given - matrix @ found + shift * found)
            dual = np.zeros(len(share))
            dual[kept] = found[count:]
            return found[:count], dual

        return solve

    def _axes(self, w: np.ndarray) -> tuple[Any, np.ndarray]:
        """Orthogonal axes, the rows of (m, m), in which the derivative D of the projection at w is diagonal, and D."""
        down: list[np.ndarray] = []
        right: list[np.ndarray] = []
        entries: list[np.ndarray] = []
        shares: list[np.ndarray] = []
        start = 0
        for kind, size in self.cones:
            count = size * (size + 1) // 2 if kind == "matrix" else size
            part, every = w[start : start + count], np.arange(start, start + count)
            if kind in ("zero", "positive"):
                share = np.zeros(count) if kind == "zero" else (part > 0).astype(float)
                down, right, entries = [*down, every], [*right, every], [*entries, np.ones(count)]
            else:
                axes, share = _norm_axes(part) if kind == "norm" else _matrix_axes(part, size)
                down, right = [*down, every.repeat(count)], [*right, np.tile(every, count)]
                entries.append(axes.ravel())
            shares.append(share)
            start += count
        places = (np.concatenate(down), np.concatenate(right))
        turned = self.sparse.csr_array((np.concatenate(entries), places), shape=(len(w), len(w)))
        return turned, np.concatenate(shares)


def _arguments(function: Callable[..., Any], known: dict[str, Any]) -> tuple[bool, dict[str, Any]]:
    """Whether the function wants the state before, and what it gets beside u."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    others = parameters[1:]
    unknown = [p.name for p in others if p.name not in known and p.default is p.empty]
    if unknown:
        raise ValueError(
            f"ConvexSet got a function that asks for {unknown} beside {parameters[0].name}; expected u and, where it needs "
            "them, `previous` and `domain`."
        )
    names = [p.name for p in others if p.name in known]
    return "previous" in names, {name: known[name] for name in names}


def _norm_axes(w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Axes (rows) and shares of the projection's derivative on |x| <= t at w = (t, x)."""
    t, x = w[0], w[1:]
    length = float(np.linalg.norm(x))
    axes = np.eye(len(w))
    if abs(t) >= length or not len(x):
        return axes, np.full(len(w), float(t > 0))
    normal = x / length
    # A reflection that takes the first axis of x to its direction; the others are tangents of the sphere.
    mirror = normal.copy()
    mirror[0] += 1.0 if normal[0] >= 0 else -1.0
    axes[1:, 1:] -= 2 * np.outer(mirror, mirror) / (mirror @ mirror)
    axes[0] = np.concatenate([[1.0], normal]) / np.sqrt(2)
    axes[1] = np.concatenate([[1.0], -normal]) / np.sqrt(2)
    shares = np.full(len(w), 0.5 * (1 + t / length))
    shares[0], shares[1] = 1.0, 0.0
    return axes, shares


def _matrix_axes(w: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Axes and shares for symmetric matrices without negative eigenvalues, numbers by columns of the upper triangle,
    those off the diagonal times the root of 2."""
    column, row = np.tril_indices(size)  # by columns of the upper triangle
    scale = np.where(row == column, 1.0, np.sqrt(0.5))
    matrix = np.zeros((size, size))
    matrix[row, column] = w * scale
    matrix[column, row] = w * scale
    values, vectors = np.linalg.eigh(matrix)
    # Entry (i, j) of Q' X Q, as a functional of the numbers of X.
    left, right = vectors[:, row], vectors[:, column]
    products = left[:, None, :] * right[None, :, :]
    products = 0.5 * (products + products.transpose(1, 0, 2))
    axes = (products[row, column] / np.outer(scale, scale)).T
    up = np.maximum(values, 0.0)
    gap = values[row] - values[column]
    same = np.abs(gap) < 1e-14 * max(1.0, float(np.abs(values).max()))
    slope = np.where(
        same, (values[row] > 0).astype(float), (up[row] - up[column]) / np.where(same, 1.0, gap)
    )
    return axes, slope
