"""Nonlinear diffusion by fluxes between control volumes, implicit by Newton's method or explicit."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor
from torch.autograd import forward_ad

from sciml.domains import Domain, Grid, Side
from sciml.linear import conjugate_gradient, implicit_solve
from sciml.pdes.diffusion_law import DiffusionLaw
from sciml.solvers.elliptic import Diffusion, Multigrid, discretise
from sciml.solvers.parabolic.sides import SideConditions, hold_nodes, read_sides
from sciml.solvers.parabolic.tableaus import BACKWARD_EULER, SCHEMES, Scheme
from sciml.solvers.parabolic.tridiagonal import solve_tridiagonal
from sciml.solvers.time import SSPRK3, ImexTableau, explicit_rk

Mean = Literal["integral", "arithmetic", "harmonic"]

_NEWTON = 40
# Share of the reaction in the diagonal up to which multigrid pays.
_DOMINATED = 0.05
# How often a step is halved where Newton's method fails, before the sample is given up.
_HALVINGS = 8
# Times below zero, of the largest value, that is rounding and not a state.
_BELOW = 1e-9


class DiffusionVolumes:
    """A Step that solves a `DiffusionLaw` on control volumes; made by `parabolic`.

    What is stored changes by the fluxes through the faces alone, so its sum is kept to rounding where the
    sides let nothing through.

    Attributes:
        dt, domain, channels: as every Step.
        substeps: the fixed number of substeps, or None where the state decides.
        last_substeps: how many the last call took.
        iterations: Newton iterations of the last call.
        fallbacks: steps of samples, over all calls, that were taken again by backward Euler because they left
            the states that are not negative.
        halvings: steps, over all calls, that were cut in two because Newton's method failed.
        method: the scheme in words.
    """

    def __init__(
        self,
        pde: DiffusionLaw,
        grid: Grid,
        dt: float,
        *,
        conditions: SideConditions | None,
        scheme: Scheme | Literal["explicit"],
        mean: Mean,
        substeps: int | None,
        fourier: float,
        max_substeps: int = 100_000,
    ) -> None:
        self.pde, self.grid, self.dt = pde, grid, float(dt)
        self.domain: Domain = grid
        self.channels = pde.channels(grid.dimension)
        self.substeps, self.fourier, self.mean, self.max_substeps = substeps, fourier, mean, max_substeps
        self.last_substeps = self.iterations = self.fallbacks = self.halvings = 0
        self.tableau = None if scheme == "explicit" else SCHEMES[scheme]
        self.edges = read_sides(grid, conditions, len(self.channels))
        plain = replace(grid, boundary=tuple((_plain(low), _plain(high)) for low, high in grid.sides))
        problem = discretise(torch.ones(1, *grid.shape, dtype=torch.float64), plain)
        self._faces, self._volumes = problem.operator.faces, problem.volumes
        self._kept = problem.kept
        self._areas = [problem.areas(axis) for axis in range(grid.dimension)]
        self.method = (
            "finite volumes of the potential" if mean == "integral" else f"finite volumes, {mean} means"
        )
        brings = [
            e for e in self.edges.values() if e.kind == "flux" or (e.kind == "robin" and e.coefficient == 0)
        ]
        if scheme == "explicit" and any(bool((e.datum != 0).any()) for e in brings):
            raise ValueError(
                "parabolic got scheme='explicit' with a Flux; how much diffuses faster for what it brings in cannot be "
                "planned. Use an implicit scheme."
            )
        name = "SSPRK3 explicit" if self.tableau is None else f"{self.tableau.name} implicit"
        self.method += f", {name}"

    def __repr__(self) -> str:
        return f"DiffusionVolumes({self.pde}, {self.grid.shape}, dt={self.dt}, {self.method})"

    def __call__(self, u: Tensor, /) -> Tensor:
        expected = (len(self.channels), *self.grid.shape)
        if tuple(u.shape[1:]) != expected or not u.is_floating_point():
            raise ValueError(
                f"parabolic got a state of shape {tuple(u.shape)} and type {u.dtype}; expected (B, *{expected}) with "
                f"channels {self.channels}, in float32 or float64."
            )
        if self.pde.nonnegative:
            _refuse_negative(u, self.pde)
        u = hold_nodes(u, self.grid, self.edges)
        inflow = _Inflow(self, u)
        self.iterations = 0
        stored = self.pde.storage(u[self._free])
        stored = self._explicit(stored, inflow) if self.tableau is None else self._implicit(stored, inflow)
        return self._whole(self.pde.state(stored), u)

    def rate(self, stored: Tensor, inflow: Callable[[Tensor], Tensor]) -> Tensor:
        """Change of what is stored by diffusion alone, (B, C, *unknowns) -> the same [s/time]."""
        u = self.pde.state(stored)
        return (inflow(u) - self._leaves(u)) / self._volumes.to(u)

    @property
    def _free(self) -> tuple[slice, ...]:
        return (slice(None), slice(None), *self._kept)

    def _operator(self, u: Tensor, factor: float = 1.0) -> Diffusion:
        return Diffusion(tuple(factor * k.to(u) for k in self._faces), self.grid.periodic)

    def _leaves(self, u: Tensor) -> Tensor:
        """Fluxes out of the control volumes through inner faces and, with nothing outside, Dirichlet ones."""
        potential = self.pde.potential(u)
        flat = potential.flatten(0, 1)
        if self.mean == "integral":
            return self._operator(u)(flat).reshape(u.shape)
        conductivity, total = self.pde.conductivity(u), torch.zeros_like(u)
        for axis, (k, wraps) in enumerate(zip(self._faces, self.grid.periodic, strict=True)):
            dim, n = axis + 2, u.shape[axis + 2]
            k = k.to(u).unsqueeze(1)
            left, right = conductivity.narrow(dim, 0, n - 1), conductivity.narrow(dim, 1, n - 1)
            inner = k.narrow(dim, 1, n - 1) * self._average(left, right) * torch.diff(u, dim=dim)
            first, last = k.narrow(dim, 0, 1), k.narrow(dim, n, 1)
            if wraps:
                a, b = conductivity.narrow(dim, n - 1, 1), conductivity.narrow(dim, 0, 1)
                seam = first * self._average(a, b) * (u.narrow(dim, 0, 1) - u.narrow(dim, n - 1, 1))
                low = high = seam
            else:
                low = first * potential.narrow(dim, 0, 1)
                high = -last * potential.narrow(dim, n - 1, 1)
            total = total - torch.diff(torch.cat((low, inner, high), dim=dim), dim=dim)
        return total

    def _average(self, left: Tensor, right: Tensor) -> Tensor:
        if self.mean == "arithmetic":
            return 0.5 * (left + right)
        return 2 * left * right / (left + right).clamp(min=torch.finfo(left.dtype).tiny)

    def _source(self, stored: Tensor) -> Tensor | None:
        return self.pde.source(self.pde.state(stored))

    def _limits(self, stored: Tensor, inflow: _Inflow) -> tuple[Tensor, Tensor]:
        """Rates of each sample [1/time]: of the fastest control volume, and of a step over one spacing.

        With the largest diffusivity of all values between the smallest and the largest that are there or at the
        sides, because fronts bring them to places where nothing conducts yet.
        """
        with torch.no_grad():
            u = self.pde.state(stored.detach())
            values = [u.flatten(2), *inflow.values(u)]
            low = torch.stack([v.amin(dim=2) for v in values]).amin(dim=0)
            high = torch.stack([v.amax(dim=2) for v in values]).amax(dim=0)
            share = torch.linspace(0.0, 1.0, 33, dtype=u.dtype, device=u.device)
            between = low.unsqueeze(2) + (high - low).unsqueeze(2) * share
            between = between.reshape(*between.shape, *[1] * (u.ndim - 3))
            mobility = (self.pde.conductivity(between) * self.pde.release(between)).flatten(1).amax(dim=1)
            diagonal = (self._operator(u).diagonal.unsqueeze(1) / self._volumes.to(u)).amax()
            outward = (-inflow.slope(u) * self.pde.release(u)).clamp(min=0.0) / self._volumes.to(u)
            fastest = diagonal * mobility + outward.flatten(1).amax(dim=1)
        return fastest, mobility * sum(h**-2 for h in self.grid.spacing)

    def _explicit(self, stored: Tensor, inflow: _Inflow) -> Tensor:
        """SSPRK3 in substeps in which a forward Euler step keeps states between their neighbours."""

        def rate(s: Tensor) -> Tensor:
            diffusion, source = self.rate(s, inflow), self._source(s)
            return diffusion if source is None else diffusion + source

        taken, remaining = 0, self.dt
        while remaining > 0:
            if self.substeps is not None:
                count = self.substeps - taken
            else:
                counts = self._limits(stored, inflow)[0] * (remaining / 0.95)
                lost = torch.isfinite(counts) & (counts > self.max_substeps - taken)
                if bool(lost.any()):
                    stored = torch.where(_wide(lost, stored), torch.nan, stored)
                count = _most(counts[~lost])
            h = remaining / count
            stored = explicit_rk(rate, h, SSPRK3)(stored)
            taken += 1
            remaining = remaining - h if count > 1 else 0.0
        self.last_substeps = taken
        return stored

    def _implicit(self, stored: Tensor, inflow: _Inflow) -> Tensor:
        count = self.substeps
        if count is None:
            count = min(
                _most(self._limits(stored, inflow)[1] * (self.dt / self.fourier)), self.max_substeps
            )
        self.last_substeps = count
        for _ in range(count):
            stored = self._advance(stored, self.dt / count, inflow, _HALVINGS)
        return stored

    def _advance(self, stored: Tensor, h: float, inflow: _Inflow, halvings: int) -> Tensor:
        """One step; samples for which Newton's method fails take two of half the size instead."""
        assert self.tableau is not None
        new, good = self._stages(stored, h, inflow, self.tableau)
        if self.pde.nonnegative and self.tableau is not BACKWARD_EULER:
            with torch.no_grad():
                low, high = new.detach().flatten(1).amin(dim=1), stored.detach().flatten(1).amax(dim=1)
                below = good & (low < -1e-12 * high)
            if bool(below.any()):
                self.fallbacks += int(below.sum())
                safe, solved = self._stages(stored, h, inflow, BACKWARD_EULER)
                new = torch.where(_wide(below, new), safe, new)
                good = torch.where(below, solved, good)
        if bool(good.all()):
            return new
        # What was not finite before cannot be helped.
        lost = ~torch.isfinite(stored.detach()).flatten(1).all(dim=1)
        again = ~good & ~lost
        if bool(again.any()):
            if halvings == 0:
                lost = lost | again
            else:
                self.halvings += 1
                calm = torch.where(_wide(again, stored), stored, torch.zeros_like(stored))
                for _ in range(2):
                    calm = self._advance(calm, 0.5 * h, inflow, halvings - 1)
                new = torch.where(_wide(again, new), calm, new)
        return torch.where(_wide(lost, new), torch.full_like(new, torch.nan), new)

    def _stages(
        self, stored: Tensor, h: float, inflow: _Inflow, tableau: ImexTableau
    ) -> tuple[Tensor, Tensor]:
        """The stages of a method: diffusion implicit, source explicit."""
        explicit = tableau.explicit
        uses_first = any(row[0] != 0 for row in tableau.implicit) or tableau.b[0] != 0
        rates: list[Tensor | None] = [self.rate(stored, inflow) if uses_first else None]
        sources = [self._source(stored)]
        good = torch.isfinite(stored.detach()).flatten(1).all(dim=1)
        stage, known = stored, stored
        for given, row in zip(explicit.a, tableau.implicit, strict=True):
            known = _sum(stored, h, row[:-1], rates)
            known = _sum(known, h, given, sources)
            stage, solved = self._solve(known, stage, h * row[-1], inflow)
            good = good & solved
            # The slope as the stage needed it, without the rounding of the fluxes.
            rates.append((stage - known) / (h * row[-1]))
            sources.append(self._source(stage))
        # The last stage is the step but for the source: all these methods are stiffly accurate.
        weights = [b - a for b, a in zip(explicit.b, (*explicit.a[-1], 0.0), strict=True)]
        return _sum(stage, h, weights, sources), good

    def _solve(self, known: Tensor, start: Tensor, h: float, inflow: _Inflow) -> tuple[Tensor, Tensor]:
        """s with s - h rate(s) = known, and for which samples it was found."""
        with torch.no_grad():
            s, good = self._newton(known.detach(), start.detach(), h, inflow)
        u = self.pde.state(s)
        left = self._volumes.to(s) * (s - known) - h * (inflow(u) - self._leaves(u))
        if (
            left.requires_grad
            or torch._C._are_functorch_transforms_active()
            or forward_ad._current_level >= 0
        ):
            # One more step of Newton's method does not move the solution and has its derivatives.
            with torch.no_grad():
                system = self._linearised(u.detach(), h, inflow.detached())
            left = torch.where(_wide(good, left), left, torch.zeros_like(left))
            s = s - system(left)
        return s, good

    def _newton(self, known: Tensor, start: Tensor, h: float, inflow: _Inflow) -> tuple[Tensor, Tensor]:
        inflow = inflow.detached()
        fine = torch.isfinite(known).flatten(1).all(dim=1) & torch.isfinite(start).flatten(1).all(dim=1)
        zero = torch.zeros_like(known)
        known = torch.where(_wide(fine, known), known, zero)
        s = torch.where(_wide(fine, known), start, zero)
        tolerance = 1e-12 if s.dtype == torch.float64 else 2e-6
        scale = known.flatten(1).abs().amax(dim=1).clamp(min=torch.finfo(s.dtype).tiny)
        done, previous = ~fine, torch.full_like(scale, math.inf)
        for _ in range(_NEWTON):
            u = self.pde.state(s)
            left = self._volumes.to(s) * (s - known) - h * (inflow(u) - self._leaves(u))
            step = self._linearised(u, h, inflow)(left)
            s = torch.where(_wide(done, s), s, s - step)
            # An empty box that something enters has no size yet.
            scale = torch.maximum(scale, s.flatten(1).abs().amax(dim=1).nan_to_num(0.0, 0.0, 0.0))
            change = step.flatten(1).abs().amax(dim=1) / scale
            self.iterations += 1
            # Converged, or as near as rounding lets it come.
            stuck = (change > 0.25 * previous) & (change <= 1e3 * tolerance)
            done = done | (change <= tolerance) | stuck | ~torch.isfinite(change)
            fine = fine & torch.isfinite(change)
            previous = change
            if bool(done.all()):
                break
        return s, done & fine

    def _linearised(self, u: Tensor, h: float, inflow: _Inflow) -> Callable[[Tensor], Tensor]:
        """The inverse of J = V - h d(inflow) + h A D, D = dK/ds, A the conductances, at a constant state.

        With z = D x, (V - h d(inflow))/D + h A is symmetric and positive, and x follows from z by what the
        faces carry: the sum of V x is that of the right side however exact z is.
        """
        release = self.pde.release(u)
        slope = self.pde.conductivity(u) * release
        # Where nothing conducts z is nothing; the floor is far below what Newton's method notices.
        floor = 1e-13 * slope.flatten(1).amax(dim=1).clamp(min=torch.finfo(u.dtype).tiny * 1e20)
        slope = torch.maximum(slope, _wide(floor, slope))
        mass = (self._volumes.to(u) - h * inflow.slope(u) * release).detach()
        faces = self._operator(u, h)
        shape, reaction = u.shape, (mass / slope).detach().flatten(0, 1)
        operator = Diffusion(faces.faces, faces.periodic, reaction)
        if len(shape) == 3:
            solve = _direct(operator)
        else:
            near = _preconditioner(operator)
            tolerance = 1e-11 if u.dtype == torch.float64 else 1e-5

            def solve(b: Tensor) -> Tensor:
                finite = torch.isfinite(b).flatten(1).all(dim=1).reshape(-1, *[1] * (b.ndim - 1))
                b = torch.where(finite, b, torch.zeros_like(b))
                x = conjugate_gradient(
                    lambda v: -operator.residual(v, torch.zeros_like(v)),
                    b,
                    preconditioner=near,
                    tolerance=tolerance,
                    max_iterations=1000,
                    strict=False,
                ).x
                return torch.where(finite, x, torch.full_like(x, torch.nan))

        def inverse(right: Tensor) -> Tensor:
            flat = right.flatten(0, 1)
            z = implicit_solve(operator, flat, solve) if torch.is_grad_enabled() else solve(flat)
            return (right - faces(z).reshape(shape)) / mass

        return inverse

    def _whole(self, v: Tensor, u: Tensor) -> Tensor:
        if tuple(v.shape[2:]) == self.grid.shape:
            return v
        pads: list[int] = []
        free = torch.zeros(self.grid.shape, dtype=torch.bool, device=u.device)
        free[self._kept] = True
        for span, n in reversed(list(zip(self._kept, self.grid.shape, strict=True))):
            pads += [span.start, n - span.stop]
        return torch.where(free, torch.nn.functional.pad(v, pads), u)


class _Inflow:
    """What enters through the sides, a function of the unknowns point by point, (B, C, *unknowns)."""

    def __init__(self, step: DiffusionVolumes, u: Tensor) -> None:
        self._pde, self._step = step.pde, step
        self._parts: list[tuple[int, int, str, Tensor, float]] = []
        nodes = step.grid.centering == "node"
        for (axis, end), edge in step.edges.items():
            if edge.kind in ("periodic", "insulated"):
                continue
            dim = axis + 2
            if nodes and edge.kind in ("held", "value"):
                datum = u.narrow(dim, end * (u.shape[dim] - 1), 1)
            else:
                datum = edge.datum.to(u)
            across = tuple(
                slice(None) if other == axis or datum.shape[other + 2] == 1 else span
                for other, span in enumerate(step._kept)
            )
            self._parts.append(
                (axis, end, edge.kind, datum[(slice(None), slice(None), *across)], edge.coefficient)
            )

    def detached(self) -> _Inflow:
        """The same outside of any graph."""
        copy = object.__new__(_Inflow)
        copy._pde, copy._step = self._pde, self._step
        copy._parts = [(a, e, kind, datum.detach(), c) for a, e, kind, datum, c in self._parts]
        return copy

    def __call__(self, u: Tensor) -> Tensor:
        total = torch.zeros_like(u)
        for axis, end, kind, datum, coefficient in self._parts:
            dim = axis + 2
            n = u.shape[dim]
            beside = u.narrow(dim, end * (n - 1), 1)
            area = self._step._areas[axis].to(u).unsqueeze(1)
            if kind in ("held", "value"):
                face = self._step._faces[axis].to(u).unsqueeze(1).narrow(dim, end * n, 1)
                part = face * self._pde.potential(datum)
            elif kind == "flux":
                part = area * datum
            else:
                part = area * (datum - coefficient * beside)
                if self._step.grid.centering == "cell":
                    # Between centre and side lies half a cell, whose resistance adds to that of the side.
                    k = 2 * self._pde.conductivity(beside) / self._step.grid.spacing[axis]
                    tiny = torch.finfo(u.dtype).tiny
                    part = part * (k + tiny) / (k + coefficient + tiny)
            part = part.expand(u.shape[0], u.shape[1], *part.shape[2:])
            pads = [0, 0] * (u.ndim - 2)
            pads[2 * (u.ndim - 1 - dim) + (1 - end)] = n - 1
            across = [*u.shape[:dim], 1, *u.shape[dim + 1 :]]
            total = total + torch.nn.functional.pad(part.expand(across), pads)
        return total

    def values(self, u: Tensor) -> list[Tensor]:
        """What the sides hold or let in, (B, C, any number) each."""
        found = []
        for _, _, kind, datum, coefficient in self._parts:
            if kind == "robin" and coefficient == 0.0:
                continue
            outside = datum / coefficient if kind == "robin" else datum
            if kind != "flux":
                found.append(outside.expand(u.shape[0], u.shape[1], *outside.shape[2:]).flatten(2))
        return found

    def slope(self, u: Tensor) -> Tensor:
        """d(inflow)/du of each unknown."""
        if all(kind != "robin" for _, _, kind, _, _ in self._parts):
            return torch.zeros_like(u)
        with torch.enable_grad():
            v = u.detach().requires_grad_()
            (found,) = torch.autograd.grad(self.detached()(v).sum(), v)
        return found


def _direct(operator: Diffusion) -> Callable[[Tensor], Tensor]:
    k = operator.faces[0]
    n = operator.shape[0]
    lower, upper = -k[:, :n], -k[:, 1:]
    if not operator.periodic[0]:
        none = torch.zeros_like(k[:, :1])
        lower, upper = torch.cat((none, lower[:, 1:]), 1), torch.cat((upper[:, :-1], none), 1)
    return lambda b: solve_tridiagonal(lower, operator.diagonal, upper, b)


def _preconditioner(operator: Diffusion) -> Callable[[Tensor], Tensor]:
    """Multigrid where the diffusion dominates everywhere, else the diagonal.

    Where next to nothing conducts, and the reaction is next to infinite, the interpolation of multigrid does
    more harm than good; there, and where a step crosses few spacings, the diagonal makes the condition number
    that of the step, about 1 + 4 h D/dx^2.
    """
    assert operator.reaction is not None
    if float((operator.reaction / operator.diagonal).max()) < _DOMINATED:
        return Multigrid(operator)
    inverse = 1.0 / operator.diagonal
    return lambda r: inverse * r


def _plain(side: Side) -> Side:
    return "neumann" if side == "outflow" else side


def _wide(flags: Tensor, like: Tensor) -> Tensor:
    return flags.reshape(-1, *[1] * (like.ndim - 1))


def _most(counts: Tensor) -> int:
    """The largest finite count as a whole number, a hair off so that rounding costs no more."""
    counts = counts[torch.isfinite(counts)]
    return max(1, math.ceil(float(counts.max()) * (1 - 1e-12))) if len(counts) else 1


def _sum(
    start: Tensor, h: float, weights: tuple[float, ...] | list[float], slopes: list[Tensor | None]
) -> Tensor:
    for weight, slope in zip(weights, slopes, strict=True):
        if weight != 0.0 and slope is not None:
            start = start + (h * weight) * slope
    return start


def _refuse_negative(u: Tensor, pde: DiffusionLaw) -> None:
    low = u.detach().flatten(1).amin(dim=1)
    high = u.detach().flatten(1).abs().amax(dim=1)
    bad = low < -_BELOW * high
    if bool(bad.any()):
        sample = int(bad.nonzero()[0])
        raise ValueError(
            f"{type(pde).__name__} got a state with values down to {float(low[sample]):.3g} in sample {sample}; expected "
            "none below zero, where its powers mean nothing. Clamp or shift the state."
        )
