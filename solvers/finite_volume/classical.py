"""Textbook schemes for scalar laws, as baselines: what leaves a cell enters its neighbour, and little more."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from sciml.domains import Conditions, Grid, Inflow, side_conditions
from sciml.pdes.scalar_law import ScalarLaw
from sciml.solvers.finite_volume.ghosts import Edge, edge_of, with_ghosts
from sciml.solvers.finite_volume.riemann import upwind

ClassicalName = Literal["upwind", "lax-friedrichs", "lax-wendroff", "minmod"]
_GHOSTS = 2
_SIDES = ("periodic", "outflow", "inflow")


class Classical:
    """A Step of one of four schemes for a scalar conservation law on a grid of cells, axis by axis in turn.

    "upwind": the exact flux between neighbours, first order, monotone. "lax-friedrichs": mean of the fluxes beside a
    face less dx/(2 h) times the jump, first order, the most diffusive. "lax-wendroff": mean of the fluxes less h/(2 dx)
    times the square of the speed times the jump, second order, rings at jumps, and keeps shocks that should spread.
    "minmod": linear cells with minmod slopes, half a step forward in time (MUSCL-Hancock), then the exact flux; second
    order where smooth, no new extremes in one dimension.

    All are conservative: the change of the total is what came in through the sides (`entered`), to rounding. For
    production see `finite_volume`.

    Args:
        law: with `sonic_points` for "upwind" and "minmod".
        grid: of cells, with sides "periodic", "outflow" or "inflow".
        dt: time of one Step.
        scheme: see above.
        cfl: Courant number of a substep along the fastest axis, at most 1.
        conditions: of sides "inflow", as in `finite_volume`.

    Attributes:
        entered: what came in through all sides during the last call, less what went out, (B, 1) [u * length^D].
        last_substeps: how many the last call took.

    Raises:
        ValueError: an argument is out of range, or a side is of another kind.

    LeVeque, Finite Volume Methods for Hyperbolic Problems (2002), sections 4.6, 4.7, 6.9 and 12.2.
    """

    def __init__(
        self,
        law: ScalarLaw,
        grid: Grid,
        dt: float,
        scheme: ClassicalName = "upwind",
        cfl: float = 0.9,
        conditions: Conditions | None = None,
    ) -> None:
        if not isinstance(law, ScalarLaw) or grid.centering != "cell":
            raise ValueError(
                f"Classical got {type(law).__name__} on {grid.centering}s; expected a ScalarLaw on cells."
            )
        if scheme not in get_args(ClassicalName):
            raise ValueError(
                f"Classical got scheme={scheme!r}; expected one of {list(get_args(ClassicalName))}."
            )
        if not (math.isfinite(dt) and dt > 0 and 0 < cfl <= 1):
            raise ValueError(
                f"Classical got dt={dt} and cfl={cfl}; expected a positive time and a number up to 1."
            )
        if scheme in ("upwind", "minmod") and law.sonic_points is None:
            raise ValueError(
                f"Classical got scheme={scheme!r} for {type(law).__name__}, which states no sonic points; state them, or "
                "take 'lax-friedrichs'."
            )
        unknown = sorted({side for pair in grid.sides for side in pair if side not in _SIDES})
        if unknown:
            raise ValueError(f"Classical got sides {unknown}; expected some of {list(_SIDES)}.")
        self.law, self.domain, self.dt, self.scheme, self.cfl = law, grid, float(dt), scheme, float(cfl)
        self.channels = law.channels(grid.dimension)
        given = side_conditions(grid, conditions, 1)
        self._edges: list[list[Edge]] = []
        for axis, pair in enumerate(grid.sides):
            self._edges.append([])
            for end, side in enumerate(pair):
                condition = given.get((axis, end))
                inflow = isinstance(condition, Inflow)
                self._edges[-1].append(
                    Edge("state", values=torch.as_tensor(condition.value)) if inflow else edge_of(side)  # type: ignore[union-attr]
                )
        self.entered: Tensor | None = None
        self.last_substeps = 0

    def __call__(self, u: Tensor, /) -> Tensor:
        if tuple(u.shape[1:]) != (1, *self.domain.shape) or not u.is_floating_point():
            raise ValueError(
                f"Classical got a state of shape {tuple(u.shape)} and type {u.dtype}; expected (B, 1, "
                f"{', '.join(map(str, self.domain.shape))}) of floating point numbers."
            )
        entered = torch.zeros(len(u), 1, dtype=torch.float64, device=u.device)
        remaining, taken = self.dt, 0
        while remaining > 0:
            count = max(1, math.ceil(remaining * self._rate(u) / self.cfl * (1 - 1e-12)))
            h = remaining / count
            axes = range(self.domain.dimension)
            for axis in axes if taken % 2 == 0 else reversed(axes):
                flux = self.fluxes(u, axis, h)
                dim = axis + 2
                area = math.prod(s for other, s in enumerate(self.domain.spacing) if other != axis)
                ends = flux.narrow(dim, 0, 1) - flux.narrow(dim, flux.shape[dim] - 1, 1)
                entered = entered + h * area * ends.flatten(2).sum(dim=2, dtype=torch.float64)
                u = u - h / self.domain.spacing[axis] * flux.diff(dim=dim)
            taken += 1
            remaining = remaining - h if count > 1 else 0.0
        self.entered, self.last_substeps = entered, taken
        return u

    def fluxes(self, u: Tensor, axis: int, h: float) -> Tensor:
        """Through all faces normal to an axis in a substep of h, (B, 1, ..., n + 1, ...)."""
        dim, n = axis + 2, u.shape[axis + 2]
        dx, dimension = self.domain.spacing[axis], u.ndim - 2
        low, high = self._edges[axis]
        w = with_ghosts(u, axis, _GHOSTS, low, high)
        along = self.law.along(axis, dimension, w)
        left, right = w.narrow(dim, 1, n + 1), w.narrow(dim, 2, n + 1)
        if self.scheme == "upwind":
            return upwind(self.law, left, right, axis)
        if self.scheme == "minmod":
            jump = w.diff(dim=dim)
            before, after = jump.narrow(dim, 0, n + 2), jump.narrow(dim, 1, n + 2)
            same = (before * after > 0).to(w.dtype)
            half = 0.5 * same * torch.where(before.abs() < after.abs(), before, after)
            middle = w.narrow(dim, 1, n + 2)
            from_left, from_right = middle - half, middle + half
            change = 0.5 * h / dx * along * (self.law.flow(from_left) - self.law.flow(from_right))
            return upwind(
                self.law,
                (from_right + change).narrow(dim, 0, n + 1),
                (from_left + change).narrow(dim, 1, n + 1),
                axis,
            )
        mean = 0.5 * along * (self.law.flow(left) + self.law.flow(right))
        if self.scheme == "lax-friedrichs":
            return mean - 0.5 * dx / h * (right - left)
        speed = along * self.law.speed(0.5 * (left + right))
        return mean - 0.5 * h / dx * speed.square() * (right - left)

    def _rate(self, u: Tensor) -> float:
        """Cells per time that the fastest wave passes, sides included."""
        with torch.no_grad():
            fastest = 0.0
            for axis in range(self.domain.dimension):
                w = with_ghosts(u, axis, 1, *self._edges[axis])
                speed = float(self.law.max_speed(w)[:, axis].nan_to_num(0.0, 0.0, 0.0).max())
                fastest = max(fastest, speed / self.domain.spacing[axis])
        return fastest
