"""Well-balanced finite volumes for shallow water over a bed, with dry places."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, cast, get_args

import torch
from torch import Tensor

from sciml.domains import Conditions, Grid, MovingWall, side_conditions, side_name
from sciml.errors import UserError
from sciml.pdes.parameters import fit
from sciml.pdes.shallow_water import ShallowWater
from sciml.solvers.finite_volume.ghosts import edge_of, with_ghosts
from sciml.solvers.finite_volume.march import CellStep, Over, Stages, check_options
from sciml.solvers.finite_volume.reconstruction import RECONSTRUCTIONS, godunov, muscl, weno5

if TYPE_CHECKING:
    from sciml.solvers.build import Solver

ReconstructionName = Literal["godunov", "muscl", "weno5"]
RiemannName = Literal["hllc", "hll", "roe", "rusanov"]
TimeName = Literal["ssprk2", "ssprk3"]
# A time, or of each sample its own, (B, 1, ..., 1).
Duration = float | Tensor

_SIDES = ("periodic", "outflow", "wall", "inflow")
# A cell gives away at most this part of its water in a stage, so that rounding leaves no less than none.
_ALL = 1.0 - 1e-14
# Part of a cell's depth that a polynomial of fourth degree has to leave at its faces and in its middle.
_ENOUGH = 0.2


class ShallowWaterStep(CellStep):
    """A Step that advances depth and discharge (B, 1 + D, *cells) by `dt`; use `shallow_water` to make one.

    Attributes:
        dt, domain, channels: as every Step.
        substeps: the fixed number of substeps, or None where the CFL condition chooses.
        last_substeps: how many the last call took.
        lost: which sample of the last call needed too many substeps, in words; None where none did.
        method: the scheme in words.
    """

    pde: ShallowWater
    domain: Grid

    def __init__(
        self,
        pde: ShallowWater,
        grid: Grid,
        dt: float,
        *,
        cfl: float,
        reconstruction: ReconstructionName,
        riemann: RiemannName,
        time: TimeName,
        substeps: int | None,
        max_substeps: int,
        dry: float,
        conditions: Conditions | None,
    ) -> None:
        super().__init__(pde, grid, dt, cfl=cfl, substeps=substeps, max_substeps=max_substeps, time=time)
        self.dry = dry
        self.method = (
            f"finite volumes, hydrostatic reconstruction, {reconstruction} + {riemann} + {time.upper()}"
        )
        if pde.has_friction:
            self.method += ", friction exact in Strang's splitting"
            self._stages = self._around(self._stages)
        self._scheme, self._riemann = reconstruction, _RIEMANN[riemann]
        found = side_conditions(grid, conditions, len(self.channels))
        self._inflows: dict[tuple[int, int], Tensor] = {}
        for place, condition in found.items():
            if isinstance(condition, MovingWall):
                raise ValueError(
                    f"shallow_water got a MovingWall at {side_name(*place)}; water without viscosity does not feel one. "
                    "Leave it out."
                )
            entering = cast(Tensor, condition.value)
            if bool((entering[0] < 0).any()):
                raise ValueError(
                    f"shallow_water got an Inflow of depth {float(entering[0].min()):g} at {side_name(*place)}; expected 0 "
                    "or more."
                )
            self._inflows[place] = entering

    def __repr__(self) -> str:
        return (
            f"ShallowWaterStep({type(self.pde).__name__}, {self.domain.shape}, dt={self.dt}, {self.method})"
        )

    def __call__(self, u: Tensor, /) -> Tensor:
        """The state `dt` later; depths that rounding left below zero count as zero."""
        return super().__call__(self._tidy(u) if _is_sound(u) else u)

    def rate(self, u: Tensor, first_order: Tensor | None = None) -> Tensor:
        """Rate of change without friction, (B, 1 + D, *cells) -> (B, 1 + D, *cells) [u / time].

        Args:
            u: depth and discharge, cell averages.
            first_order: (B, 1, *cells), cells in which the reconstruction is replaced by the average.
        """
        return self._rate(u, 0.0, first_order)

    def _rate(self, u: Tensor, h: Duration, first_order: Tensor | None = None) -> Tensor:
        """`rate`, with fluxes cut so that in a time h no cell gives away more water than it has."""
        depth, velocity = u[:, :1], self.pde.velocity(u, self.dry)
        bed = torch.zeros_like(depth[:1]) if self.pde.is_flat else self.pde.bed_like(depth)
        faces = [
            self._faces(depth, velocity, bed, axis, first_order) for axis in range(self.domain.dimension)
        ]
        keep = self._limited(depth, [mass for mass, _, _, _ in faces], h)
        total = torch.zeros_like(u)
        for axis, (mass, left, right, inner) in enumerate(faces):
            if keep is not None:
                part = self._donor(keep, mass, axis)
                carried, mass = mass, part * mass
                # What the missing water would have carried goes missing with it; the pressure stays.
                carrier = _pair(self._ghosts(velocity, axis, 1), axis)
                lost = (carried - mass) * torch.where(carried > 0, carrier[0], carrier[1])
                left, right = left - lost, right - lost
            dim, cells, size = axis + 2, self.domain.shape[axis], self.domain.spacing[axis]
            momentum = right.narrow(dim, 0, cells) - left.narrow(dim, 1, cells)
            momentum = momentum - _along(inner, axis, self.domain.dimension)
            total = total + torch.cat((-torch.diff(mass, dim=dim), momentum), dim=1) / size
        return total

    def courant(self, u: Tensor) -> Tensor:
        """Inverse of the time in which a wave crosses a cell, summed over axes, (B,) [1/time]."""
        speed = self.pde.velocity(u, self.dry).abs() + self.pde.celerity(u[:, :1])
        rate = sum(speed[:, axis] / h for axis, h in enumerate(self.domain.spacing))
        return cast(Tensor, rate).flatten(1).amax(dim=1)

    def _check(self, u: Tensor) -> None:
        expected = (len(self.channels), *self.domain.shape)
        if tuple(u.shape[1:]) != expected:
            raise ValueError(
                f"shallow_water got a state of shape {tuple(u.shape)}; expected (B, *{expected}) with channels "
                f"{self.channels}."
            )
        self.pde.bed_like(u[:, :1])  # refuses beds of another batch
        depth = u.detach()[:, 0]
        lowest = depth.nan_to_num(0.0).amin()
        if bool(lowest < 0):
            index = torch.nonzero(depth == lowest)[0].tolist()
            place = [float(x[i]) for x, i in zip(self.domain.axes(), index[1:], strict=True)]
            raise ValueError(
                f"shallow_water got a negative depth, {float(lowest):.4g}, in sample {index[0]} at cell "
                f"{tuple(index[1:])}, ({', '.join(f'{x:.4g}' for x in place)}); expected 0 where it is dry and more "
                "elsewhere."
            )

    def _around(self, stages: Stages) -> Stages:
        """Strang's splitting: friction, for which the depth stands still, around the flow."""

        def split(u: Tensor, h: Duration, euler: Callable[[Tensor, Duration], Tensor]) -> Tensor:
            return self._drag(stages(self._drag(u, h / 2), h, euler), h / 2)

        return split

    def euler(self, u: Tensor, h: Duration, over: Over | None = None) -> Tensor:
        """u + h rate(u), with depths at or above zero."""
        return self._tidy(u + h * (self._rate(u, h) if over is None else over(u, h, None)))

    def _tidy(self, u: Tensor) -> Tensor:
        """Without depths that rounding left below zero, nor discharges of films that their velocity does not tell."""
        depth = u[:, :1].clamp(min=0.0)
        # Kept, the discharge of what is hardly there would become that of the water that comes.
        film = depth < self.dry
        return torch.cat(
            (depth, torch.where(film, depth * self.pde.velocity(u, self.dry), u[:, 1:])), dim=1
        )

    def _drag(self, u: Tensor, h: Duration) -> Tensor:
        """The exact solution of q_t = -(k + r |q|) q, r = g n^2 / h^(7/3); it slows and never turns the flow."""
        depth, discharge = u[:, :1], u[:, 1:]
        linear = torch.as_tensor(fit(self.pde.friction, u), dtype=u.dtype, device=u.device)
        # Time as the decay sees it, (1 - e^(-k h)) / k, of which h (1 - k h / 2) is left where k h is small.
        small = linear * h < 1e-8
        time = torch.where(
            small, h * (1 - 0.5 * linear * h), -torch.expm1(-linear * h) / torch.where(small, 1.0, linear)
        )
        rate = self.pde.drag(depth.clamp(min=self.dry), discharge) - linear
        return torch.cat((depth, discharge * torch.exp(-linear * h) / (1.0 + time * rate)), dim=1)

    def _faces(
        self, depth: Tensor, velocity: Tensor, bed: Tensor, axis: int, first_order: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Through the N + 1 faces normal to an axis: mass, and momentum less hydrostatic pressure as the cells
        left and right of it see it; and the force per width inside each of the N cells.

        Audusse, Bouchut, Bristeau, Klein and Perthame, SIAM J. Sci. Comput. 25 (2004), equations 2.15-2.18 and
        4.2-4.5: both sides of a face look at each other over the higher of their beds. The pressures of (4.4)
        and the centred source (4.5) are written as one, g (h_a + h_d) / 2 times the rise of the surface over
        the cell, which is zero to rounding where the surface is level.
        """
        pde, dimension = self.pde, self.domain.dimension
        left, right, middle = self._states(depth, velocity, bed, axis, first_order)
        (hl, wl, vl), (hr, wr, vr) = left, right
        low, high = hl, hr
        if not pde.is_flat:
            base = torch.maximum(wl - hl, wr - hr)
            low, high = (wl - base).clamp(min=0.0), (wr - base).clamp(min=0.0)
        mass, momentum = self._riemann(pde, (low, vl), (high, vr), axis)
        seen_left = momentum - _along(pde.pressure(low), axis, dimension)
        seen_right = momentum - _along(pde.pressure(high), axis, dimension)

        dim, cells = axis + 2, self.domain.shape[axis]
        ha, wa = hr.narrow(dim, 0, cells), wr.narrow(dim, 0, cells)
        hd, wd = hl.narrow(dim, 1, cells), wl.narrow(dim, 1, cells)
        inner = (ha + hd) * (wd - wa)
        if middle is not None:
            # Richardson's extrapolation of the trapezoidal rule: fourth order, and zero for a level surface.
            # Noelle, Pankratz, Puppo and Natvig, J. Comput. Phys. 213 (2006), section 3.
            hm, wm = middle
            halves = (ha + hm) * (wm - wa) + (hm + hd) * (wd - wm)
            inner = (4.0 * halves - inner) / 3.0
        return mass, seen_left, seen_right, 0.5 * fit(pde.gravity, depth) * inner

    def _ghosts(self, w: Tensor, axis: int, width: int, odd: tuple[int, ...] = ()) -> Tensor:
        """(B, C, *cells) with ghost cells on both ends of one axis; the channels `odd` turn round in a wall."""
        low, high = (edge_of(side, odd) for side in self.domain.sides[axis])
        return with_ghosts(w, axis, width, low, high)

    def _surroundings(self, depth: Tensor, velocity: Tensor, bed: Tensor, axis: int, width: int) -> Tensor:
        """Depth, surface, velocity and bed with ghost cells, (B, 3 + D, ...)."""
        w = torch.cat((depth, depth + bed, velocity, bed.expand_as(depth)), dim=1)
        w = self._ghosts(w, axis, width, odd=(2 + axis,))
        dim = axis + 2
        for end in (0, 1):
            if (axis, end) not in self._inflows:
                continue
            entering = self._inflows[axis, end].to(w).unsqueeze(axis + 1).unsqueeze(0)
            values = torch.cat(
                (entering[:, :1], entering[:, :1], self.pde.velocity(entering, self.dry)), dim=1
            )
            start = 0 if end == 0 else w.shape[dim] - width
            ghost = w.narrow(dim, start, width)
            base = ghost[:, -1:]  # the bed goes on level
            values = values.expand_as(ghost[:, :-1])
            ghost = torch.cat((values[:, :1], values[:, 1:2] + base, values[:, 2:], base), dim=1)
            parts = [w.narrow(dim, width, w.shape[dim] - width)] if end == 0 else [w.narrow(dim, 0, start)]
            w = torch.cat([ghost, *parts] if end == 0 else [*parts, ghost], dim=dim)
        return w

    def _states(
        self, depth: Tensor, velocity: Tensor, bed: Tensor, axis: int, first_order: Tensor | None
    ) -> tuple[_State, _State, tuple[Tensor, Tensor] | None]:
        """Depth, surface and velocity left and right of each face, and depth and surface amid cells (WENO)."""
        dim, cells, last = axis + 2, self.domain.shape[axis], 2 + velocity.shape[1]
        ghosts = RECONSTRUCTIONS[self._scheme].ghosts
        w = self._surroundings(depth, velocity, bed, axis, ghosts)
        # Over a flat bed the surface is the depth: one field less to reconstruct.
        first = 1 if self.pde.is_flat else 0
        state = _of_depth if self.pde.is_flat else _state

        def near(width: int) -> Tensor:
            return w[:, first:last].narrow(dim, ghosts - width, cells + 2 * width)

        if self._scheme == "godunov":
            left, right = godunov(near(1), dim)
            return state(left), state(right), None
        linear = muscl(near(2), dim)
        if first_order is not None:
            mean, coarse = godunov(near(1), dim), _pair(self._ghosts(first_order, axis, 1), axis)
            linear = tuple(torch.where(c, a, b) for c, a, b in zip(coarse, mean, linear, strict=True))  # type: ignore[assignment]
        if self._scheme == "muscl":
            return state(linear[0]), state(linear[1]), None

        # What is averaged is reconstructed, surface, discharge and bed: fifth order. Linearly near dry cells.
        h, v = w[:, :1], w[:, 2:last]
        averages = torch.cat((w[:, 1:2], h * v, w[:, last:]), dim=1)
        high = [_from_discharge(face) for face in weno5(averages, dim)]
        # The middle of each cell, from the polynomial through the averages of five.
        taps = (9.0, -116.0, 2134.0, -116.0, 9.0)
        amid = torch.zeros_like(averages.narrow(dim, 0, cells))
        for i, tap in enumerate(taps):
            amid = amid + tap / 1920.0 * averages.narrow(dim, 1 + i, cells)
        polynomials = (amid[:, :1] - amid[:, -1:], amid[:, :1])
        with torch.no_grad():
            # Cells that are wet with their neighbours, and where the polynomials leave enough water.
            inner = -h.nan_to_num(0.0).narrow(dim, 1, cells + 4).movedim(dim, -1)
            least = -torch.nn.functional.max_pool1d(inner.reshape(-1, 1, cells + 4), 5, stride=1)
            inside = least.reshape(*inner.shape[:-1], cells).movedim(-1, dim) > self.dry
            for part in (
                high[0][0].narrow(dim, 1, cells),
                high[1][0].narrow(dim, 0, cells),
                polynomials[0],
            ):
                inside = inside & (part > _ENOUGH * depth)
            if first_order is not None:
                inside = inside & ~first_order
            # Ghost cells do as the cells whose images they are, or water would be lost at the sides.
            wet = self._ghosts(inside, axis, 1)
        below, above = (
            cast(_State, tuple(torch.where(c, a, b) for a, b in zip(polynomial, state(line), strict=True)))
            for c, polynomial, line in zip(_pair(wet, axis), high, linear, strict=True)
        )
        ha, hd = above[0].narrow(dim, 0, cells), below[0].narrow(dim, 1, cells)
        wa, wd = above[1].narrow(dim, 0, cells), below[1].narrow(dim, 1, cells)
        # Where the cell is linear, so is its middle: Richardson's extrapolation then changes nothing.
        at_middle = (
            torch.where(inside, a, b)
            for a, b in zip(polynomials, (0.5 * (ha + hd), 0.5 * (wa + wd)), strict=True)
        )
        deep, level = at_middle
        return below, above, (deep, level)

    def _limited(self, depth: Tensor, fluxes: list[Tensor], h: Duration) -> Tensor | None:
        """By what the water that leaves each cell in time h is multiplied so that no more leaves than is there.

        None where every cell has enough. Bollermann, Noelle and Lukacova, Commun. Comput. Phys. 10 (2011),
        section 3.2, who let the fluxes of such a cell last a shorter time.
        """
        if isinstance(h, float) and h == 0.0:
            return None
        leaving = torch.zeros_like(depth)
        for axis, (mass, size) in enumerate(zip(fluxes, self.domain.spacing, strict=True)):
            cells = self.domain.shape[axis]
            out = mass.narrow(axis + 2, 1, cells).clamp(min=0.0) - mass.narrow(axis + 2, 0, cells).clamp(
                max=0.0
            )
            leaving = leaving + out * (h / size)
        short = leaving > depth * _ALL
        if not bool(short.any()):
            return None
        return torch.where(short, depth * _ALL / torch.where(short, leaving, 1.0), 1.0)

    def _donor(self, keep: Tensor, mass: Tensor, axis: int) -> Tensor:
        """The factor of the cell that gives the water, at each face; 1 where it comes from outside."""
        sides = self.domain.sides[axis]
        left, right = _pair(self._ghosts(keep, axis, 1), axis)
        if sides[0] != "periodic":
            dim, faces = axis + 2, mass.shape[axis + 2]
            place = torch.arange(faces, device=mass.device).reshape(-1, *[1] * (mass.ndim - 1 - dim))
            left = torch.where(place == 0, 1.0, left)
            right = torch.where(place == faces - 1, 1.0, right)
        return torch.where(mass > 0, left, right)


_State = tuple[Tensor, Tensor, Tensor]
_Side = tuple[Tensor, Tensor]
"""Depth (B, 1, *faces) and velocity (B, D, *faces)."""


def _state(w: Tensor) -> _State:
    return w[:, :1], w[:, 1:2], w[:, 2:]


def _of_depth(w: Tensor) -> _State:
    return w[:, :1], w[:, :1], w[:, 1:]


def _from_discharge(w: Tensor) -> _State:
    """Depth, surface and velocity of surface, discharge and bed; of use where it is wet."""
    surface, discharge, bed = w[:, :1], w[:, 1:-1], w[:, -1:]
    depth = (surface - bed).clamp(min=0.0)
    return depth, bed + depth, discharge / torch.where(depth > 0, depth, 1.0)


def _along(value: Tensor, axis: int, dimension: int) -> Tensor:
    """A scalar (B, 1, ...) as the component of a vector (B, D, ...) along one axis."""
    zero = torch.zeros_like(value)
    return torch.cat([value if other == axis else zero for other in range(dimension)], dim=1)


def _pair(w: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """The cells left and right of each face, of cells with one ghost cell on either end."""
    faces = w.shape[axis + 2] - 1
    return w.narrow(axis + 2, 0, faces), w.narrow(axis + 2, 1, faces)


def _is_sound(u: Tensor) -> bool:
    """Whether a state has cells, and no depth is below zero by more than rounding."""
    if u.ndim < 3 or u.shape[1] < 2 or not u.numel():
        return False
    depth = u.detach()[:, 0].nan_to_num(0.0, 0.0, 0.0)
    return bool(depth.amin() >= -4 * torch.finfo(u.dtype).eps * depth.amax())


# --- Riemann solvers: (equation, left, right, axis) -> mass (B, 1, *faces) and momentum (B, D, *faces) ----


def _physical(pde: ShallowWater, side: _Side, axis: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mass, momentum normal to the face, and the normal velocity."""
    depth, velocity = side
    normal = velocity[:, axis : axis + 1]
    mass = depth * normal
    return mass, mass * normal + pde.pressure(depth), normal


def _with_transverse(mass: Tensor, normal: Tensor, left: _Side, right: _Side, axis: int) -> Tensor:
    """Momentum whose part along the face is carried by the mass from where it comes."""
    carried = mass * torch.where(mass > 0, left[1], right[1])
    return torch.cat((carried[:, :axis], normal, carried[:, axis + 1 :]), dim=1)


def _signals(pde: ShallowWater, left: _Side, right: _Side, axis: int) -> tuple[Tensor, Tensor]:
    """Lower and upper bound of the speeds of waves, of the two-rarefaction solution and of dry beds.

    Toro, Shock-Capturing Methods for Free-Surface Shallow Flows (2001), sections 10.4-10.5.
    """
    (hl, vl), (hr, vr) = left, right
    ul, ur = vl[:, axis : axis + 1], vr[:, axis : axis + 1]
    cl, cr = pde.celerity(hl), pde.celerity(hr)
    middle = 0.5 * (ul + ur) + cl - cr
    star = (0.5 * (cl + cr) + 0.25 * (ul - ur)).clamp(min=0.0)
    slow = torch.minimum(ul - cl, middle - star)
    fast = torch.maximum(ur + cr, middle + star)
    slow = torch.where(hl > 0, slow, ur - 2.0 * cr)
    fast = torch.where(hr > 0, fast, ul + 2.0 * cl)
    slow = torch.where(hr > 0, slow, ul - cl)
    fast = torch.where(hl > 0, fast, ur + cr)
    return slow, fast


def _hll_normal(pde: ShallowWater, left: _Side, right: _Side, axis: int) -> tuple[Tensor, Tensor]:
    slow, fast = _signals(pde, left, right, axis)
    slow, fast = slow.clamp(max=0.0), fast.clamp(min=0.0)
    ml, pl, _ = _physical(pde, left, axis)
    mr, pr, _ = _physical(pde, right, axis)
    width = fast - slow
    moves = width > 0
    width = torch.where(moves, width, 1.0)

    def mean(a: Tensor, b: Tensor, jump: Tensor) -> Tensor:
        return (fast * a - slow * b + slow * fast * jump) / width

    return mean(ml, mr, right[0] - left[0]), mean(pl, pr, mr - ml)


def _hll(pde: ShallowWater, left: _Side, right: _Side, axis: int) -> tuple[Tensor, Tensor]:
    """Two waves. Harten, Lax and van Leer, SIAM Rev. 25 (1983). Smears shear that moves with the flow."""
    mass, normal = _hll_normal(pde, left, right, axis)
    slow, fast = (
        s.clamp(max=0.0) if i == 0 else s.clamp(min=0.0)
        for i, s in enumerate(_signals(pde, left, right, axis))
    )
    ml, _, _ = _physical(pde, left, axis)
    mr, _, _ = _physical(pde, right, axis)
    width = torch.where(fast - slow > 0, fast - slow, 1.0)
    all_parts = (
        fast * ml * left[1] - slow * mr * right[1] + slow * fast * (right[0] * right[1] - left[0] * left[1])
    ) / width
    return mass, torch.cat((all_parts[:, :axis], normal, all_parts[:, axis + 1 :]), dim=1)


def _hllc(pde: ShallowWater, left: _Side, right: _Side, axis: int) -> tuple[Tensor, Tensor]:
    """Two waves and a shear wave between them: what moves along the face goes with the mass.

    The depth and the normal discharge do not see the third wave: those fluxes are those of HLL. Toro (2001),
    section 10.4.
    """
    mass, normal = _hll_normal(pde, left, right, axis)
    return mass, _with_transverse(mass, normal, left, right, axis)


def _rusanov(pde: ShallowWater, left: _Side, right: _Side, axis: int) -> tuple[Tensor, Tensor]:
    """One speed for all waves; robust, and more diffusive."""
    ml, pl, ul = _physical(pde, left, axis)
    mr, pr, ur = _physical(pde, right, axis)
    speed = torch.maximum(ul.abs() + pde.celerity(left[0]), ur.abs() + pde.celerity(right[0]))
    mass = 0.5 * (ml + mr) - 0.5 * speed * (right[0] - left[0])
    both = 0.5 * (ml * left[1] + mr * right[1]) - 0.5 * speed * (right[0] * right[1] - left[0] * left[1])
    pressure = 0.5 * (pde.pressure(left[0]) + pde.pressure(right[0]))
    return mass, both + _along(pressure, axis, left[1].shape[1])


def _roe(pde: ShallowWater, left: _Side, right: _Side, axis: int) -> tuple[Tensor, Tensor]:
    """Linearised waves with Harten's entropy fix; HLLC where a side is dry or a wave would leave less than none.

    Roe, J. Comput. Phys. 43 (1981); Glaister, J. Comput. Phys. 77 (1988) for shallow water.
    """
    mass, momentum = _hllc(pde, left, right, axis)
    ml, pl, ul = _physical(pde, left, axis)
    mr, pr, ur = _physical(pde, right, axis)
    hl, hr = left[0], right[0]
    wet = (pde.celerity(hl) > 0) & (pde.celerity(hr) > 0)
    safe_l, safe_r = torch.where(wet, hl, 1.0), torch.where(wet, hr, 1.0)
    rl, rr = safe_l.sqrt(), safe_r.sqrt()
    u = (rl * ul + rr * ur) / (rl + rr)
    c = pde.celerity(0.5 * (safe_l + safe_r))
    jump, swing = hr - hl, mr - ml
    slow, fast = u - c, u + c
    first = (fast * jump - swing) / (2.0 * c)
    second = (swing - slow * jump) / (2.0 * c)

    def size(speed: Tensor, before: Tensor, after: Tensor) -> Tensor:
        """|speed|, rounded off near zero in a fan that spreads across the face."""
        width = 2.0 * (after - before).clamp(min=0.0)
        inside = speed.abs() < 0.5 * width
        wide = torch.where(inside, width, 1.0)
        return torch.where(inside, speed.square() / wide + 0.25 * wide, speed.abs())

    cl, cr = pde.celerity(safe_l), pde.celerity(safe_r)
    a, b = size(slow, ul - cl, ur - cr), size(fast, ul + cl, ur + cr)
    roe_mass = 0.5 * (ml + mr) - 0.5 * (a * first + b * second)
    roe_normal = 0.5 * (pl + pr) - 0.5 * (a * first * slow + b * second * fast)
    sound = wet & (hl + first > 0) & (hr - second > 0)
    mass = torch.where(sound, roe_mass, mass)
    normal = torch.where(sound, roe_normal, momentum[:, axis : axis + 1])
    return mass, _with_transverse(mass, normal, left, right, axis)


_RIEMANN: dict[str, Callable[[ShallowWater, _Side, _Side, int], tuple[Tensor, Tensor]]] = {
    "hllc": _hllc,
    "hll": _hll,
    "roe": _roe,
    "rusanov": _rusanov,
}


def shallow_water(
    pde: ShallowWater,
    grid: Grid,
    dt: float,
    *,
    cfl: float = 0.4,
    reconstruction: ReconstructionName = "muscl",
    riemann: RiemannName = "hllc",
    time: TimeName = "ssprk3",
    substeps: int | None = None,
    max_substeps: int = 100_000,
    dry: float = 1e-6,
    conditions: Conditions | None = None,
) -> ShallowWaterStep:
    """A Step of shallow water over a bed, with shores that move, on a grid of cells in 1D or 2D.

    Water at rest under a level surface stays so to rounding, whatever the bed, islands included, and for all
    choices below. Depths stay at or above zero: no cell gives away more than it has. The total depth is kept
    to rounding on periodic sides and between walls, the total discharge on flat periodic ones. Reflections and
    a flat uniform flow are kept exactly. Differentiable in the state, the bed, gravity and friction; limiters
    and shores have kinks. A state that blows up becomes non-finite and raises nothing; other samples of its
    batch are not touched.

    Second order on smooth flows. "weno5" is fifth order in 1D over a flat bed and fourth over a smooth one
    where water is deep, second order in 2D with a smaller error, and linear near shores. First order at
    shocks, and about that at shores that move. Steady flows are kept to the order of the scheme, not to
    rounding. Friction is solved exactly in Strang's splitting, second order in the substep, so that thin films
    stop and do not turn; a balance of friction and slope holds up to that splitting.

    Args:
        pde: the equation, with its bed (cell averages), gravity and friction.
        grid: cells (`centering="cell"`) with sides "periodic", "outflow" (zero gradient: beyond the side
            all is as in the last cell, so that nothing holds the level of water that stands there), "wall" or
            "inflow".
        dt: time of one Step [time].
        cfl: Courant number max_x sum_d((|v_d| + c) / dx_d) h of a substep h, at most 1; 0.4 is safe.
        reconstruction: "godunov" (first order), "muscl" (monotonised central) or "weno5".
        riemann: "hllc", "hll", "roe" (with entropy fix, HLLC at dry faces) or "rusanov".
        time: "ssprk2" or "ssprk3".
        substeps: equal substeps of each Step; None plans the remaining time anew before each substep,
            for each sample by its own fastest wave.
        max_substeps: samples that need more in one Step are taken as blown up and become NaN.
        dry: depth below which water is a film, whose velocity is damped [length].
        conditions: `{"x-": Inflow((h, hu[, hv]))}` for sides "inflow": the state outside, from which the
            Riemann solver takes what waves carry in. The bed goes on level there.

    Raises:
        ValueError: an argument is out of range or unknown, the grid or the bed does not fit, or an inflow
            is missing; on a call, that a depth is negative, with its place, or that with fixed `substeps`
            the CFL number is above 1.

    Audusse et al. (2004) for balance and shores, see `ShallowWaterStep.rate`.
    """
    if not isinstance(pde, ShallowWater):
        raise ValueError(
            f"shallow_water got {type(pde).__name__}; expected ShallowWater. See `finite_volume` for other laws."
        )
    check_options(
        "shallow_water",
        dt,
        cfl,
        substeps,
        max_substeps,
        {
            "reconstruction": (reconstruction, get_args(ReconstructionName)),
            "riemann": (riemann, get_args(RiemannName)),
            "time": (time, get_args(TimeName)),
        },
    )
    if not (math.isfinite(dry) and dry > 0):
        raise ValueError(f"shallow_water got dry={dry}; expected a small positive depth, such as 1e-6.")
    if grid.dimension not in pde.dimensions:
        raise ValueError(
            f"shallow_water got a grid of {grid.dimension} axes; ShallowWater lives in {pde.dimensions}."
        )
    if grid.centering != "cell":
        raise ValueError(
            "shallow_water got a grid of nodes; it steps averages over cells. Use Grid(..., centering='cell')."
        )
    unknown = sorted({side for pair in grid.sides for side in pair if side not in _SIDES})
    if unknown:
        raise ValueError(f"shallow_water got sides {unknown}; it knows {list(_SIDES)}.")
    ghosts = RECONSTRUCTIONS[reconstruction].ghosts
    if min(grid.shape) < ghosts:
        raise ValueError(
            f"shallow_water got a grid of {grid.shape} cells; {reconstruction} needs at least {ghosts} per axis."
        )
    bed = pde.bed
    if isinstance(bed, Tensor) and bed.ndim and tuple(bed.shape[2:]) != grid.shape:
        raise ValueError(
            f"shallow_water got a bed of shape {tuple(bed.shape)}, which does not fit the grid of {grid.shape} cells; "
            f"expected (1, 1, {', '.join(map(str, grid.shape))}) or one per sample."
        )
    return ShallowWaterStep(
        pde,
        grid,
        dt,
        cfl=cfl,
        reconstruction=reconstruction,
        riemann=riemann,
        time=time,
        substeps=substeps,
        max_substeps=max_substeps,
        dry=dry,
        conditions=conditions,
    )


def build_shallow_water(
    pde: ShallowWater,
    grid: Grid,
    dt: float,
    cfl: float,
    substeps: int | None,
    conditions: Conditions | None = None,
) -> Solver:
    """What `build` takes: MUSCL, HLLC and SSPRK3.

    Raises:
        UserError: (a ValueError) what `shallow_water` refuses.
    """
    from sciml.solvers.build import Solver

    try:
        step = shallow_water(
            pde, grid, dt, cfl=0.4 if cfl is None else cfl, conditions=conditions, substeps=substeps
        )
    except ValueError as error:
        raise UserError(str(error)) from error
    count = (
        f"the substeps follow the fastest wave at CFL {step.cfl:g}"
        if substeps is None
        else f"{substeps} substeps were asked for"
    )
    reason = (
        "Shallow water has jumps, which finite volumes capture, and beds, over which hydrostatic reconstruction keeps a "
        f"lake at rest; {count}."
    )
    return Solver(step, substeps, step.method, reason)
