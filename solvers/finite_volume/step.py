"""Finite-volume steps for conservation laws on grids of cells."""

from __future__ import annotations

import math
from itertools import product
from typing import Literal, Protocol, cast, get_args, runtime_checkable

import torch
from torch import Tensor

from sciml.calculus.base import Calculus
from sciml.domains import Grid, Sides
from sciml.pdes.base import ConservationLaw
from sciml.pdes.euler import CompressibleEuler
from sciml.solvers.finite_volume.reconstruction import RECONSTRUCTIONS
from sciml.solvers.finite_volume.riemann import NumericalFlux, hllc, rusanov

ReconstructionName = Literal["godunov", "muscl", "weno5"]
RiemannName = Literal["auto", "hllc", "rusanov"]

_SIDES = ("periodic", "outflow", "wall")


@runtime_checkable
class HasPrimitive(Protocol):
    """A law with variables, in the places of the conserved ones, that are better reconstructed."""

    def primitive(self, u: Tensor) -> Tensor: ...

    def conservative(self, w: Tensor) -> Tensor: ...


@runtime_checkable
class HasAdmissible(Protocol):
    """A law whose states must stay in a set, such as positive density and pressure."""

    def admissible(self, u: Tensor) -> Tensor: ...


class FiniteVolume:
    """A Step that advances cell averages (B, C, *cells) by `dt` with as many substeps as are stable.

    Use `finite_volume` to make one.

    Attributes:
        dt, domain, channels: as every Step.
        substeps: the fixed number of substeps, or None where the CFL condition chooses.
        last_substeps: how many the last call took.
        fallbacks: how many cells, over all calls so far, were computed again at first order because
            a stage left the admissible states.
        method: the scheme in words.
    """

    def __init__(
        self,
        pde: ConservationLaw,
        grid: Grid,
        dt: float,
        *,
        cfl: float,
        reconstruction: ReconstructionName,
        riemann: Literal["hllc", "rusanov"],
        substeps: int | None,
        max_substeps: int,
        calculus: Calculus | None,
    ) -> None:
        self.pde, self.domain, self.dt = pde, grid, float(dt)
        self.channels = pde.channels(grid.dimension)
        self.cfl, self.substeps, self.max_substeps = cfl, substeps, max_substeps
        self.last_substeps = 0
        self.fallbacks = 0
        self.method = f"finite volumes, {reconstruction} + {riemann} + SSPRK3"
        self._scheme = RECONSTRUCTIONS[reconstruction]
        self._riemann: NumericalFlux = cast(NumericalFlux, hllc) if riemann == "hllc" else rusanov
        self._flux_of_primitives = riemann == "hllc"
        self._primitive = pde if isinstance(pde, HasPrimitive) else None
        self._admissible = pde if isinstance(pde, HasAdmissible) else None
        self._calculus = calculus
        self._mirrored = [_odd_channels(pde, grid.dimension, axis) for axis in range(grid.dimension)]

    def __repr__(self) -> str:
        return f"FiniteVolume({self.pde}, {self.domain.shape}, dt={self.dt}, {self.method})"

    def __call__(self, u: Tensor, /) -> Tensor:
        expected = (len(self.channels), *self.domain.shape)
        if tuple(u.shape[1:]) != expected:
            raise ValueError(
                f"finite_volume got a state of shape {tuple(u.shape)}; expected (B, *{expected}) with "
                f"channels {self.channels}."
            )
        taken, remaining = 0, self.dt
        while remaining > 0:
            u, count = self._plan(u, remaining, taken)
            h = remaining / count
            u = self._ssprk3(u, h)
            taken += 1
            # The last substep takes all that is left: the step lands on dt exactly.
            remaining = remaining - h if count > 1 else 0.0
        self.last_substeps = taken
        return u

    def rate(self, u: Tensor, first_order: Tensor | None = None) -> Tensor:
        """Right-hand side of the semi-discrete scheme, (B, C, *cells) -> (B, C, *cells) [u / time].

        Args:
            u: cell averages.
            first_order: (B, 1, *cells), cells in which the reconstruction is replaced by the average.
        """
        w = u if self._primitive is None else self._primitive.primitive(u)
        parts = []
        for axis, (sides, h) in enumerate(zip(self.domain.sides, self.domain.spacing, strict=True)):
            padded = _with_ghosts(w, axis, self._scheme.ghosts, sides, self._mirrored[axis])
            left, right = self._scheme.faces(padded, axis + 2)
            if first_order is not None:
                mask = _with_ghosts(first_order, axis, 1, sides, ())
                cells = _with_ghosts(w, axis, 1, sides, self._mirrored[axis])
                faces = left.shape[axis + 2]
                left, right = (
                    torch.where(mask.narrow(axis + 2, i, faces), cells.narrow(axis + 2, i, faces), state)
                    for i, state in enumerate((left, right))
                )
            if self._primitive is not None and not self._flux_of_primitives:
                left, right = self._primitive.conservative(left), self._primitive.conservative(right)
            flux = self._riemann(self.pde, left, right, axis)
            parts.append(torch.diff(flux, dim=axis + 2) * (-1.0 / h))
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        if self._calculus is not None:
            source = self.pde.source(u, self._calculus)
            total = total if source is None else total + source
        return total

    def courant(self, u: Tensor) -> Tensor:
        """Inverse of the time in which a signal crosses a cell, summed over axes, (B,) [1/time]."""
        with torch.no_grad():
            speed = self.pde.max_speed(u)
            rate = sum(speed[:, axis] / h for axis, h in enumerate(self.domain.spacing))
            return cast(Tensor, rate).flatten(1).amax(dim=1)

    def _plan(self, u: Tensor, remaining: float, taken: int) -> tuple[Tensor, int]:
        """The state, and into how many equal substeps the remaining time is cut.

        Planned anew before each substep, because waves that meet make faster ones. Samples that have
        blown up do not slow the others down; those that would need more than `max_substeps` are
        counted among them and become NaN.
        """
        if self.substeps is not None:
            if taken == 0:
                rates = self.courant(u)
                rates = rates[torch.isfinite(rates)]
                number = float(rates.max()) * self.dt / self.substeps if len(rates) else 0.0
                if number > 1.0:
                    raise ValueError(
                        f"finite_volume with substeps={self.substeps} got a state of CFL number "
                        f"{number:.3g}; expected at most 1. Use at least "
                        f"{math.ceil(number * self.substeps / self.cfl)} substeps, a smaller dt, or "
                        "substeps=None, which chooses by itself."
                    )
            return u, self.substeps - taken
        counts = self.courant(u) * (remaining / self.cfl)
        finite = torch.isfinite(counts)
        lost = finite & (counts > self.max_substeps - taken)
        if bool(lost.any()):
            u = torch.where(lost.reshape(-1, *([1] * (u.ndim - 1))), torch.nan, u)
        counts = counts[finite & ~lost]
        most = float(counts.max()) if len(counts) else 0.0
        # A hair off, so that rounding in an exact fraction does not cost one more substep.
        return u, max(1, math.ceil(most * (1 - 1e-12)))

    def _ssprk3(self, u: Tensor, h: float) -> Tensor:
        """Strong-stability-preserving Runge-Kutta, third order. Shu and Osher (1988)."""
        first = self._euler(u, h)
        second = 0.75 * u + 0.25 * self._euler(first, h)
        return u / 3 + 2 / 3 * self._euler(second, h)

    def _euler(self, u: Tensor, h: float) -> Tensor:
        """u + h rate(u); cells that leave the admissible states are computed again at first order.

        The face states in such cells and their neighbours are replaced by averages before the fluxes
        are taken, so that what is conserved stays conserved. Clain, Diot and Loubere (2011).
        """
        new = u + h * self.rate(u)
        if self._admissible is None:
            return new
        with torch.no_grad():
            good = self._admissible.admissible(new)
            if bool(good.all()):
                return new
            # Only what was admissible before can be helped; the rest has blown up already.
            before = self._admissible.admissible(u).flatten(1).all(dim=1)
            bad = ~good & before.reshape(-1, *([1] * (u.ndim - 1)))
            if not bool(bad.any()):
                return new
            self.fallbacks += int(bad.sum())
            for axis, sides in enumerate(self.domain.sides):
                near = _with_ghosts(bad, axis, 1, sides, ())
                count = bad.shape[axis + 2]
                bad = near.narrow(axis + 2, 0, count) | bad | near.narrow(axis + 2, 2, count)
        return u + h * self.rate(u, first_order=bad)


def finite_volume(
    pde: ConservationLaw,
    grid: Grid,
    dt: float,
    *,
    cfl: float = 0.4,
    reconstruction: ReconstructionName = "muscl",
    riemann: RiemannName = "auto",
    substeps: int | None = None,
    max_substeps: int = 100_000,
    calculus: Calculus | None = None,
) -> FiniteVolume:
    """A Step that solves u_t + div F(u) = S(u) for cell averages on a grid of cells, in 1D to 3D.

    Reconstruction in primitive variables where the law has them, a Riemann solver at each face, and
    SSPRK3 in time; the axes are summed, not split. Conserves the sum over cells on periodic sides to
    rounding, and with walls whatever the law keeps there. Preserves a uniform state exactly. Second
    order on smooth flows, first order at shocks. Differentiable; limiters have kinks. A state that
    blows up becomes non-finite and raises nothing; other samples of its batch are not touched.

    Args:
        pde: the law.
        grid: cells (`centering="cell"`) with sides "periodic", "outflow" (the gas leaves, zero
            gradient) or "wall" (the normal component of every vector field is mirrored).
        dt: time of one Step [time].
        cfl: Courant number max_x sum_d(speed_d / dx_d) h of a substep h, at most 1; 0.4 is safe.
        reconstruction: "godunov" (none, first order), "muscl" (monotonised central), "weno5".
        riemann: "hllc" (ideal gas), "rusanov" (any law), or "auto", HLLC where it applies.
        substeps: equal substeps of each Step; None plans the remaining time anew before each substep
            from the fastest sample of the batch, so that results depend on the batch slightly.
        max_substeps: samples that need more in one Step are taken as blown up and become NaN.
        calculus: given to the law's source; needed only by laws that have one.

    Raises:
        ValueError: an argument is out of range or unknown, the grid does not fit, HLLC is asked of
            another law, or a law with a source lacks its calculus; on a call, with fixed `substeps`,
            that the state has a CFL number above 1.
    """
    for name, value, known in (
        ("reconstruction", reconstruction, get_args(ReconstructionName)),
        ("riemann", riemann, get_args(RiemannName)),
    ):
        if value not in known:
            raise ValueError(f"finite_volume got {name}={value!r}; expected one of {list(known)}.")
    if not (math.isfinite(dt) and dt > 0):
        raise ValueError(f"finite_volume got dt={dt}; expected a positive time.")
    if not 0 < cfl <= 1:
        raise ValueError(f"finite_volume got cfl={cfl}; expected above 0 and at most 1, such as 0.4.")
    if substeps is not None and substeps < 1:
        raise ValueError(f"finite_volume got substeps={substeps}; expected at least 1, or None.")
    if max_substeps < 1:
        raise ValueError(f"finite_volume got max_substeps={max_substeps}; expected at least 1.")
    if grid.dimension not in pde.dimensions:
        raise ValueError(
            f"finite_volume got a grid of {grid.dimension} axes; {type(pde).__name__} lives in {pde.dimensions}."
        )
    if grid.centering != "cell":
        raise ValueError("finite_volume got a grid of nodes; make it with Grid(..., centering='cell').")
    unknown = sorted({side for pair in grid.sides for side in pair if side not in _SIDES})
    if unknown:
        raise ValueError(f"finite_volume got sides {unknown}; it knows {list(_SIDES)}.")
    ghosts = RECONSTRUCTIONS[reconstruction].ghosts
    if min(grid.shape) < ghosts:
        raise ValueError(
            f"finite_volume got a grid of {grid.shape} cells; {reconstruction} needs at least {ghosts} per axis."
        )
    is_euler = isinstance(pde, CompressibleEuler)
    if riemann == "hllc" and not is_euler:
        raise ValueError(
            f"finite_volume got riemann='hllc' for {type(pde).__name__}; HLLC knows the waves of "
            "CompressibleEuler alone. Use riemann='rusanov'."
        )
    if type(pde).source is not ConservationLaw.source and calculus is None:
        raise ValueError(
            f"{type(pde).__name__} has a source; give finite_volume the calculus to evaluate it with."
        )
    return FiniteVolume(
        pde,
        grid,
        dt,
        cfl=cfl,
        reconstruction=reconstruction,
        riemann="hllc" if riemann == "hllc" or (riemann == "auto" and is_euler) else "rusanov",
        substeps=substeps,
        max_substeps=max_substeps,
        calculus=calculus,
    )


def _odd_channels(pde: ConservationLaw, dimension: int, axis: int) -> tuple[int, ...]:
    """Channels that change sign in a mirror normal to `axis`: odd numbers of that axis in their index."""
    odd, channel = [], 0
    for field in pde.fields:
        for index in product(range(dimension), repeat=field.rank):
            if index.count(axis) % 2:
                odd.append(channel)
            channel += 1
    return tuple(odd)


def _with_ghosts(w: Tensor, axis: int, width: int, sides: Sides, odd: tuple[int, ...]) -> Tensor:
    """(B, C, *cells) with `width` ghost cells on both ends of one axis."""
    dim, n = axis + 2, w.shape[axis + 2]
    if sides[0] == "periodic":
        return torch.cat((w.narrow(dim, n - width, width), w, w.narrow(dim, 0, width)), dim=dim)
    ends = []
    for side, edge, start in ((sides[0], 0, 0), (sides[1], n - 1, n - width)):
        if side == "outflow":
            ends.append(w.narrow(dim, edge, 1).expand(*w.shape[:dim], width, *w.shape[dim + 1 :]))
        else:
            ghosts = w.narrow(dim, start, width).flip(dim)
            if odd:
                sign = torch.ones(w.shape[1], dtype=w.dtype, device=w.device)
                sign[list(odd)] = -1.0
                ghosts = ghosts * sign.reshape(-1, *([1] * (w.ndim - 2)))
            ends.append(ghosts)
    return torch.cat((ends[0], w, ends[1]), dim=dim)
