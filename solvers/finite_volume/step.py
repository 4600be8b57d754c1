"""Finite-volume steps for conservation laws on grids of cells."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal, Protocol, cast, get_args, runtime_checkable

import torch
from torch import Tensor

from sciml.calculus.base import Calculus
from sciml.domains import Conditions, Grid, Inflow, MovingWall, side_conditions, side_name
from sciml.extras import require
from sciml.pdes.admissible import HasAdmissible
from sciml.pdes.base import ConservationLaw
from sciml.pdes.euler import CompressibleEuler, IdealGas
from sciml.pdes.scalar_law import ScalarLaw
from sciml.solvers.finite_volume.diffusion import HasDiffusion, diffusive_fluxes
from sciml.solvers.finite_volume.ghosts import COPY, Edge, edge_of, odd_channels, with_ghosts
from sciml.solvers.finite_volume.march import CellStep, Duration, check_options
from sciml.solvers.finite_volume.reconstruction import RECONSTRUCTIONS
from sciml.solvers.finite_volume.riemann import RIEMANN, RiemannName, choose_riemann, rusanov
from sciml.solvers.lanes import available, is_differentiated

if TYPE_CHECKING:
    from sciml.solvers.finite_volume.fused import Fused

ReconstructionName = Literal["godunov", "muscl", "weno5", "weno5-characteristic"]
MarchName = Literal["auto", "sweeps", "hancock", "ssprk3", "ssprk2"]
Walls = Literal["auto", "slip", "no-slip"]
Form = Literal["auto", "fused", "tensors"]

_SIDES = ("periodic", "outflow", "wall", "inflow")


@runtime_checkable
class HasPrimitive(Protocol):
    """A law with variables, in the places of the conserved ones, that are better reconstructed."""

    def primitive(self, u: Tensor) -> Tensor: ...

    def conservative(self, w: Tensor) -> Tensor: ...


class FiniteVolume(CellStep):
    """A Step that advances cell averages (B, C, *cells) by `dt` with as many substeps as are stable.

    Use `finite_volume` to make one. See `CellStep` for what it tells of itself.
    """

    domain: Grid

    def __init__(
        self,
        pde: ConservationLaw,
        grid: Grid,
        dt: float,
        *,
        cfl: float,
        reconstruction: ReconstructionName,
        riemann: str,
        time: str,
        substeps: int | None,
        max_substeps: int,
        calculus: Calculus | None,
        conditions: Conditions | None,
        no_slip: bool,
        form: Form,
    ) -> None:
        super().__init__(pde, grid, dt, cfl=cfl, substeps=substeps, max_substeps=max_substeps, time=time)
        self.reconstruction, self.riemann = reconstruction, riemann
        names = {
            "sweeps": "Hancock in sweeps",
            "hancock": "Hancock",
            "ssprk3": "SSPRK3",
            "ssprk2": "SSPRK2",
        }
        self.method = f"finite volumes, {reconstruction} + {riemann} + {names[time]}"
        self._scheme = RECONSTRUCTIONS[reconstruction]
        self._flux = RIEMANN[riemann]
        self._primitive = pde if isinstance(pde, HasPrimitive) else None
        self._admissible = pde if isinstance(pde, HasAdmissible) else None
        self._diffusion = pde if isinstance(pde, HasDiffusion) else None
        self._calculus = calculus
        dimension = grid.dimension
        self._conditions = side_conditions(grid, conditions, len(self.channels))
        self._edges = [
            tuple(edge_of(side, odd_channels(pde.fields, dimension, axis)) for side in sides)
            for axis, sides in enumerate(grid.sides)
        ]
        # Through the walls of a scalar nothing passes; a mirror would say so for vectors alone.
        self._sealed = isinstance(pde, ScalarLaw)
        if self._sealed:
            self._edges = [
                tuple(COPY if edge.kind == "mirror" else edge for edge in pair) for pair in self._edges
            ]
        self._no_slip = no_slip
        if self._diffusion is not None:
            self.method += ", central viscous fluxes"
        self.form: Literal["fused", "tensors"] = (
            "fused" if form != "tensors" and available() and self._has_fused() else "tensors"
        )
        self._fused: dict[torch.dtype, Fused] = {}

    def __repr__(self) -> str:
        return f"FiniteVolume({self.pde}, {self.domain.shape}, dt={self.dt}, {self.method})"

    def admissible(self, u: Tensor) -> Tensor | None:
        return None if self._admissible is None else self._admissible.admissible(u)

    def rate(self, u: Tensor, first_order: Tensor | None = None) -> Tensor:
        return self.over(u, 0.0, first_order)

    def substep(self, u: Tensor, h: Duration, index: Tensor, last: Tensor) -> Tensor:
        if self.time != "sweeps":
            return super().substep(u, h, index, last)
        shape = (-1, *[1] * (u.ndim - 1))
        odd = index % 2 == 1
        alone = last & ~odd
        # The errors of the order cancel in pairs; a last one without partner is symmetric by itself.
        forward = [(axis, 1.0) for axis in range(self.domain.dimension)]
        halves = [(axis, 0.5) for axis, _ in forward[:-1]]
        for who, sweeps in (
            (~odd & ~alone, forward),
            (odd, forward[::-1]),
            (alone, [*halves, forward[-1], *halves[::-1]]),
        ):
            if not bool(who.any()):
                continue
            own = (
                h
                if bool(who.all())
                else torch.where(
                    who.reshape(shape), torch.as_tensor(h, dtype=u.dtype, device=u.device), 0.0
                )
            )
            for axis, part in sweeps:
                u = self.euler(u, part * own, partial(self.over, axis=axis))
        return u

    def over(
        self, u: Tensor, h: Duration, first_order: Tensor | None = None, axis: int | None = None
    ) -> Tensor:
        """What `rate` is in the mean over the next h, as far as the scheme predicts it; of one axis alone if given."""
        total: Tensor | None = None
        ahead = 0.5 * h if self.time in ("sweeps", "hancock") else None
        axes = range(self.domain.dimension) if axis is None else (axis,)
        for k, flux in zip(axes, self.fluxes(u, first_order, ahead, axes), strict=True):
            part = torch.diff(flux, dim=k + 2) * (-1.0 / self.domain.spacing[k])
            total = part if total is None else total + part
        assert total is not None  # there is an axis
        if self._calculus is not None or self.pde.source_is_local:
            # Local sources leave it alone.
            source = self.pde.source(u, cast(Calculus, self._calculus))
            total = total if source is None else total + source
        return total

    def fluxes(
        self,
        u: Tensor,
        first_order: Tensor | None = None,
        ahead: Duration | None = None,
        axes: Sequence[int] | None = None,
    ) -> list[Tensor]:
        """Flux through the faces normal to each axis, tensors (B, C, *cells with one more on the axis).

        Args:
            u: cell averages (B, C, *cells).
            first_order: (B, 1, *cells), cells of which all fluxes are Rusanov's of averages: those keep density
                and pressure of a gas positive, and scalars within bounds, at CFL numbers up to one half. Perthame
                and Shu, Numer. Math. 73 (1996).
            ahead: time by which the states on the faces are moved on first, by the fluxes of each cell's own states on
                all of its faces: MUSCL-Hancock. Toro (2009), section 14.4.
            axes: along which; None takes all.
        """
        scheme, law = self._scheme, self._primitive
        works_on_primitive = law is not None and not scheme.characteristic
        w = law.primitive(u) if law is not None and works_on_primitive else u
        fluxes = []
        axes = range(self.domain.dimension) if axes is None else axes
        moved = None if ahead is None else self._moved(w, works_on_primitive, ahead, axes)
        for axis in axes:
            low, high = self._filled(axis, w, works_on_primitive)
            if moved is None:
                left, right = self._states(with_ghosts(w, axis, scheme.ghosts, low, high), axis)
            else:
                left, right = moved[axis]
            marked: Tensor | None = None
            if first_order is not None:
                faces = left.shape[axis + 2]
                edge = edge_of("periodic") if low.kind == "wrap" else COPY
                near = with_ghosts(first_order, axis, 1, edge, edge)
                marked = near.narrow(axis + 2, 0, faces) | near.narrow(axis + 2, 1, faces)
                cells = with_ghosts(w, axis, 1, low, high)
                before, after = cells.narrow(axis + 2, 0, faces), cells.narrow(axis + 2, 1, faces)
                left, right = torch.where(marked, before, left), torch.where(marked, after, right)
            flux = self._flux.flux(
                self.pde, *self._as(left, right, works_on_primitive, self._flux.primitive), axis
            )
            if marked is not None:
                robust = rusanov(self.pde, *self._as(left, right, works_on_primitive, False), axis)
                flux = torch.where(marked, robust, flux)
            fluxes.append(self._seal(flux, axis) if self._sealed else flux)
        if self._diffusion is not None:
            viscous = diffusive_fluxes(self._diffusion, u, self.domain.spacing, self._diffused_edges(u))
            fluxes = [flux - other for flux, other in zip(fluxes, viscous, strict=True)]
        return fluxes

    def _states(self, padded: Tensor, axis: int) -> tuple[Tensor, Tensor]:
        """States left and right of the faces between cells with ghost cells, in the same variables."""
        given = (self.pde, padded) if self._scheme.characteristic else (padded,)
        left, right = self._scheme.function(*given, axis + 2)
        return left, right

    def _moved(
        self, w: Tensor, primitive: bool, ahead: Duration, axes: Sequence[int]
    ) -> dict[int, tuple[Tensor, Tensor]]:
        """Per axis the states left and right of its faces after a time in which each cell keeps to itself."""
        ghosts, shape = self._scheme.ghosts + 1, self.domain.shape
        padded = w
        for axis in axes:
            padded = with_ghosts(padded, axis, ghosts, *self._filled(axis, w, primitive))

        def cut(x: Tensor, axis: int, start: int, count: int) -> Tensor:
            return x.narrow(axis + 2, start, count)

        # The states at the low and high faces of all cells and one ghost cell on each side.
        ends, change = {}, torch.zeros((), dtype=w.dtype, device=w.device)
        for axis in axes:
            below, above = self._states(padded, axis)
            low, high = cut(above, axis, 0, shape[axis] + 2), cut(below, axis, 1, shape[axis] + 2)
            for other in axes:
                if other != axis:
                    low = cut(low, other, ghosts - 1, shape[other] + 2)
                    high = cut(high, other, ghosts - 1, shape[other] + 2)
            low, high = self._as(low, high, primitive, False)
            change = change + (self.pde.flux(low)[:, :, axis] - self.pde.flux(high)[:, :, axis]) * (
                ahead / self.domain.spacing[axis]
            )
            ends[axis] = (low, high)
        moved = {}
        for axis, (low, high) in ends.items():
            left, right = high + change, low + change
            for other in axes:
                if other != axis:
                    left, right = cut(left, other, 1, shape[other]), cut(right, other, 1, shape[other])
            left, right = cut(left, axis, 0, shape[axis] + 1), cut(right, axis, 1, shape[axis] + 1)
            moved[axis] = self._as(left, right, False, primitive)
        return moved

    def _has_fused(self) -> bool:
        """Whether the compiled loops know this scheme, law and grid."""
        if type(self.pde) is not CompressibleEuler or isinstance(self.pde.gamma, Tensor):
            return False
        if self.reconstruction not in ("godunov", "muscl", "weno5"):
            return False
        if self.riemann not in ("rusanov", "hll", "hllc") or self.domain.shape[-1] < 16:
            return False
        return all(
            isinstance(c, Inflow) and cast(Tensor, c.value).numel() == len(self.channels)
            for c in self._conditions.values()
        )

    def compiled(self, u: Tensor) -> Tensor | None:
        if self.form == "tensors" or u.device.type != "cpu" or is_differentiated(u):
            return None
        if any(cast(Tensor, cast(Inflow, c).value).requires_grad for c in self._conditions.values()):
            return None
        finite = torch.isfinite(u).flatten(1).all(dim=1)
        if not bool(finite.all()):
            return None
        if u.dtype not in self._fused:
            self._fused[u.dtype] = self._make_fused(u.dtype)

        def rescue(sample: int, state: Tensor, h: float, index: int, last: bool) -> Tensor:
            new = self.substep(state, h, torch.tensor([index]), torch.tensor([last]))
            if self.lost is not None:
                self.lost = self.lost.replace("sample 0", f"sample {sample}", 1)
            return new

        new, self.last_substeps, many = self._fused[u.dtype](
            u,
            self.dt,
            cfl=self.cfl,
            substeps=self.substeps,
            max_substeps=self.max_substeps,
            rescue=rescue,
        )
        if many:
            self.lost = f"sample {many[0]}: more than max_substeps={self.max_substeps} are needed"
        return new

    def _make_fused(self, dtype: torch.dtype) -> Fused:
        from sciml.solvers.finite_volume.fused import SIDES, Fused

        assert isinstance(self.pde, CompressibleEuler)
        count = len(self.channels)
        sides, entering = [], torch.zeros(2 * self.domain.dimension, count, dtype=torch.float64)
        for axis in range(self.domain.dimension):
            for end in (0, 1):
                condition = self._conditions.get((axis, end))
                if isinstance(condition, Inflow):
                    state = cast(Tensor, condition.value).reshape(1, count, 1)
                    entering[2 * axis + end] = self.pde.primitive(state).reshape(count)
                    sides.append(SIDES["state"])
                else:
                    sides.append(SIDES[self._edges[axis][end].kind])
        return Fused(
            self.domain.shape,
            self.domain.spacing,
            float(self.pde.gamma),
            scheme=self.reconstruction,
            solver=self.riemann,
            time=self.time,
            sides=sides,
            entering=entering.numpy(),
            dtype=dtype,
        )

    def courant(self, u: Tensor) -> Tensor:
        """Inverse of the time in which a signal crosses a cell, (B,) [1/time].

        Summed over axes, or the largest of them where they are swept one after the other. With friction, twice the
        diffusivity over the square of the spacing is added, and the rate at which a source damps.
        """
        spacing = self.domain.spacing
        if isinstance(self.pde, ScalarLaw):
            rate = self._scalar_rate(self.pde, u)
        else:
            rate = self._over_axes(
                [speed / h for speed, h in zip(self.pde.max_speed(u).unbind(1), spacing, strict=True)]
            )
        if self._diffusion is not None:
            rate = rate + 2.0 * sum(h**-2 for h in spacing) * self._diffusion.diffusivity(u)[:, 0]
        most = (rate.unsqueeze(1) + self.pde.source_rate(u)).flatten(1).amax(dim=1)
        for condition in self._conditions.values():
            if isinstance(condition, Inflow):  # which may be faster than all that is inside
                value = cast(Tensor, condition.value).to(dtype=u.dtype, device=u.device)
                state = value.reshape(1, value.shape[0], -1, *[1] * (self.domain.dimension - 1))
                speeds = self.pde.max_speed(state).unbind(1)
                entering = self._over_axes([speed / h for speed, h in zip(speeds, spacing, strict=True)])
                most = torch.maximum(most, entering.amax())
        return most

    def _scalar_rate(self, law: ScalarLaw, u: Tensor) -> Tensor:
        """Of a scalar, where the fastest wave may lie between the states of two cells."""
        rates = []
        for axis, h in enumerate(self.domain.spacing):
            low, high = self._filled(axis, u, False)
            cells = with_ghosts(u, axis, 1, low, high)
            faces = cells.shape[axis + 2] - 1
            slow, fast = law.wave_bounds(
                cells.narrow(axis + 2, 0, faces), cells.narrow(axis + 2, 1, faces), axis
            )
            speed = torch.maximum(-slow, fast)[:, 0]
            at_cells = torch.maximum(
                speed.narrow(axis + 1, 0, faces - 1), speed.narrow(axis + 1, 1, faces - 1)
            )
            rates.append(at_cells / h)
        return self._over_axes(rates)

    def _over_axes(self, rates: Sequence[Tensor]) -> Tensor:
        """What the rates along the axes come to together."""
        all_of_them = torch.stack(tuple(rates))
        return all_of_them.amax(dim=0) if self.time == "sweeps" else all_of_them.sum(dim=0)

    def _as(self, left: Tensor, right: Tensor, given: bool, wanted: bool) -> tuple[Tensor, Tensor]:
        """Face states as primitive or conserved variables."""
        law = self._primitive
        if law is None or given == wanted:
            return left, right
        convert = law.primitive if wanted else law.conservative
        return convert(left), convert(right)

    def _filled(self, axis: int, w: Tensor, primitive: bool) -> tuple[Edge, Edge]:
        """The edges of an axis, with the states that enter there in the variables of w."""
        edges = list(self._edges[axis])
        for end in (0, 1):
            condition = self._conditions.get((axis, end))
            if isinstance(condition, Inflow):
                # Converted here, not at the door: a tensor that learns gets its gradient in every call.
                value = cast(Tensor, condition.value).to(dtype=w.dtype, device=w.device)
                if primitive and self._primitive is not None:
                    value = self._primitive.primitive(_at_points(value)).reshape(value.shape)
                edges[end] = Edge("state", values=value)
        return edges[0], edges[1]

    def _diffused_edges(self, u: Tensor) -> list[tuple[Edge, Edge]]:
        """The edges for velocity and temperature: walls hold the gas, or let it slip, and conduct no heat."""
        assert self._diffusion is not None
        dimension = self.domain.dimension
        velocity = tuple(range(dimension))
        pairs = []
        for axis, sides in enumerate(self.domain.sides):
            pair = []
            for end, side in enumerate(sides):
                condition = self._conditions.get((axis, end))
                if isinstance(condition, Inflow):
                    value = cast(Tensor, condition.value).to(dtype=u.dtype, device=u.device)
                    q = self._diffusion.diffused(_at_points(value))
                    pair.append(Edge("state", values=q.reshape(-1, *value.shape[1:])))
                elif side != "wall":
                    pair.append(edge_of(side))
                elif not self._no_slip:
                    pair.append(Edge("mirror", odd=(axis,)))
                elif isinstance(condition, MovingWall):
                    wall = cast(Tensor, condition.velocity).to(dtype=u.dtype, device=u.device)
                    # The mean of the cell and its image is the velocity of the wall.
                    pair.append(
                        Edge("mirror", velocity, torch.cat((2.0 * wall, torch.zeros_like(wall[:1]))))
                    )
                else:
                    pair.append(Edge("mirror", odd=velocity))
            pairs.append((pair[0], pair[1]))
        return pairs

    def _seal(self, flux: Tensor, axis: int) -> Tensor:
        """Without flux through walls."""
        dim = axis + 2
        sides, n = self.domain.sides[axis], flux.shape[dim]
        if "wall" not in sides:
            return flux
        low, high = flux.narrow(dim, 0, 1), flux.narrow(dim, n - 1, 1)
        low = torch.zeros_like(low) if sides[0] == "wall" else low
        high = torch.zeros_like(high) if sides[1] == "wall" else high
        return torch.cat((low, flux.narrow(dim, 1, n - 2), high), dim=dim)


def finite_volume(
    pde: ConservationLaw,
    grid: Grid,
    dt: float,
    *,
    cfl: float | None = None,
    reconstruction: ReconstructionName = "muscl",
    riemann: RiemannName = "auto",
    time: MarchName = "auto",
    conditions: Conditions | None = None,
    walls: Walls = "auto",
    substeps: int | None = None,
    max_substeps: int = 100_000,
    calculus: Calculus | None = None,
    form: Form = "auto",
) -> FiniteVolume:
    """A Step that solves u_t + div F(u) = S(u) for cell averages on a grid of cells, in 1D to 3D.

    Reconstruction in primitive variables where the law has them, a Riemann solver at each face, and MUSCL-Hancock
    or a strong-stability-preserving method in time. Conserves the sum over cells
    on periodic sides to rounding, and with walls whatever the law keeps there. Preserves a uniform state exactly.
    Second order on smooth flows, first order at shocks. Differentiable, also in the states that enter; limiters
    have kinks. A state that blows up becomes non-finite and raises nothing; other samples of its batch are not
    touched.

    Cells that would leave the admissible states, such as those of positive density and pressure, take
    first-order fluxes, which `fallbacks` of the step counts. What cannot be kept in even so becomes NaN, and
    `lost` names the place.

    Each sample has its own substeps, planned anew before each one. One at whose end waves are faster by a fifth than
    planned is taken again, five times shorter: a jump sends out waves that were not there before.

    Where no derivative is asked for, Euler's equations are stepped in compiled loops (`fused`) if numba is installed,
    on the CPU, with the reconstructions and fluxes that they know and at least 16 cells along the last axis: the same
    formulas, and the same numbers to rounding.

    Args:
        pde: the law.
        grid: cells (`centering="cell"`) with sides "periodic", "outflow" (what comes leaves, zero gradient), "wall"
            (the normal component of every vector field is mirrored; nothing passes of a scalar) or "inflow".
        dt: time of one Step [time].
        cfl: Courant number max_x sum_d(speed_d / dx_d + 2 nu / dx_d^2) h of a substep h, at most 1; 0.4 is safe. nu is
            the diffusivity of laws with friction. With "sweeps" the largest over d takes the place of the sum. None
            takes 0.95 for "sweeps", 0.9 for "hancock", else 0.4.
        reconstruction: "godunov" (none, first order), "muscl" (monotonised central), "weno5", or
            "weno5-characteristic" (ideal gases: rings least where shocks are strong or meet).
        riemann: "rusanov" (any law), "hll" (laws with `wave_bounds`), "hllc" and "roe" (ideal gases), "hlld" (IdealMHD),
            "exact" (scalar laws with `sonic_points`), or "auto": HLLC for gases, HLLD for IdealMHD, exact or HLL for
            scalars, else Rusanov.
            HLLC and Roe may bend strong shocks that run along the grid (carbuncles); HLL does not.
        time: "hancock" (one stage with predicted fluxes, second order; sharper than the next two at contacts), "ssprk2",
            "ssprk3", or "sweeps": Hancock along one axis after the other, there and back in turns, second order. Each
            sweep may go as far as one axis alone allows, which makes it the quickest, and the sharpest at shocks, in
            2D and 3D; but x and y are not treated alike: what is symmetric about a diagonal stays so only to the error
            of the scheme, where the others keep it to rounding. "auto" is "sweeps" (in 1D "hancock") for "muscl" and
            gases without friction, else "ssprk3", which keeps scalars within their bounds.
        conditions: what enters through sides "inflow", `{"x-": Inflow(conserved state)}`, and how walls of laws with
            friction slide, `{"y+": MovingWall(velocity)}`.
        walls: "slip", or "no-slip" for laws with friction, at which the gas rests relative to the wall; "auto" is no-slip
            where the law has friction. Walls conduct no heat.
        substeps: equal substeps of each Step; None chooses.
        max_substeps: samples that need more in one Step are taken as blown up and become NaN.
        calculus: given to the law's source; needed only by laws that have one with derivatives.
        form: "auto" takes the fastest form there is; the others insist on theirs, for comparisons.

    Raises:
        ValueError: an argument is out of range or unknown, the grid does not fit, a scheme is asked of a law that it
            does not know, or a law with a source lacks its calculus; on a call, that the state is not admissible, or
            with fixed `substeps` has a CFL number above 1.
    """
    check_options(
        "finite_volume",
        dt,
        cfl,
        substeps,
        max_substeps,
        {
            "reconstruction": (reconstruction, get_args(ReconstructionName)),
            "riemann": (riemann, get_args(RiemannName)),
            "time": (time, get_args(MarchName)),
            "form": (form, get_args(Form)),
            "walls": (walls, get_args(Walls)),
        },
    )
    sourced = type(pde).source is not ConservationLaw.source
    if sourced and pde.source_is_local:  # a coefficient of 0 may leave nothing
        probe = torch.zeros(
            1, len(pde.channels(grid.dimension)), *[1] * grid.dimension, dtype=torch.float64
        )
        sourced = pde.source(probe, cast(Calculus, calculus)) is not None
    plain = not isinstance(pde, HasDiffusion) and not sourced
    if time == "auto":
        predicts = reconstruction == "muscl" and plain and isinstance(pde, IdealGas)
        time = "ssprk3" if not predicts else "hancock" if grid.dimension == 1 else "sweeps"
    elif time in ("sweeps", "hancock") and not plain:
        raise ValueError(
            f"finite_volume got time={time!r} for {type(pde).__name__}, whose friction or source it does not predict. "
            "Use time='ssprk3'."
        )
    cfl = {"sweeps": 0.95, "hancock": 0.9}.get(time, 0.4) if cfl is None else cfl
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
    if RECONSTRUCTIONS[reconstruction].characteristic and not isinstance(pde, IdealGas):
        raise ValueError(
            f"finite_volume got reconstruction={reconstruction!r} for {type(pde).__name__}; it knows the waves of "
            "ideal gases alone. Use reconstruction='weno5'."
        )
    if sourced and not pde.source_is_local and calculus is None:
        raise ValueError(
            f"{type(pde).__name__} has a source; give finite_volume the calculus to evaluate it with."
        )
    viscous = isinstance(pde, HasDiffusion)
    if walls == "no-slip" and not viscous:
        raise ValueError(
            f"finite_volume got walls='no-slip' for {type(pde).__name__}, which has no friction to hold it. Use "
            "walls='slip', or CompressibleNavierStokes."
        )
    no_slip = viscous and walls != "slip"
    for (axis, end), condition in side_conditions(
        grid, conditions, len(pde.channels(grid.dimension))
    ).items():
        name = side_name(axis, end)
        if isinstance(condition, MovingWall) and not no_slip:
            raise ValueError(
                f"The wall {name} moves, but nothing of {type(pde).__name__} sticks to it. Walls drag laws with friction, "
                "with walls='no-slip'."
            )
        if isinstance(condition, Inflow) and isinstance(pde, HasAdmissible):
            state = _at_points(cast(Tensor, condition.value).detach())
            if not bool(pde.admissible(state).all()):
                raise ValueError(
                    f"What enters through {name} is no state of {type(pde).__name__}: {state.squeeze(0).tolist()}. Inflow "
                    f"takes the conserved channels {pde.channels(grid.dimension)}."
                )
    step = FiniteVolume(
        pde,
        grid,
        dt,
        cfl=cfl,
        reconstruction=reconstruction,
        riemann=choose_riemann(pde, riemann, "finite_volume"),
        time=time,
        substeps=substeps,
        max_substeps=max_substeps,
        calculus=calculus,
        conditions=conditions,
        no_slip=no_slip,
        form=form,
    )
    if form == "fused" and step.form != "fused":
        require("numba", extra="compiled", purpose="the form 'fused' of finite_volume")
        raise ValueError(
            f"finite_volume got form='fused'; {step.method} for {type(pde).__name__} on {grid.shape} cells has only "
            "tensors. Leave form='auto'."
        )
    return step


def _at_points(value: Tensor) -> Tensor:
    """States on a side, (C, *points of the other axes), as (1, C, N)."""
    return value.reshape(1, value.shape[0], -1)
