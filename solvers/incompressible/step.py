"""Steps of incompressible flow between walls, on a staggered grid."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor

from sciml.domains import Conditions, Grid, side_name
from sciml.extras import require
from sciml.linear.fast_poisson import FastPoisson
from sciml.pdes import Boussinesq, NavierStokes
from sciml.pdes.parameters import fit
from sciml.solvers.incompressible.implicit import Relaxation
from sciml.solvers.incompressible.rates import Rates
from sciml.solvers.lanes import available, is_differentiated
from sciml.solvers.time import SSPRK3
from sciml.staggered.obstacles import Bodies, Obstacle
from sciml.staggered.operators import Staggered
from sciml.staggered.sides import Held, Sides, face_coordinates

if TYPE_CHECKING:
    from sciml.solvers.incompressible.compiled import Flow, Loops

ViscosityName = Literal["auto", "explicit", "implicit"]
ScalarFlux = Literal["central", "limited"]

# Limits of stability of SSPRK3 on the imaginary and on the negative axis, by its own polynomial.
_ALONG, _REAL = SSPRK3.stability_limit(1j), SSPRK3.stability_limit(-1)
# How much farther implicit viscosity has to reach before its extra solves pay.
_STIFF = 4.0
# Sum over axes of speed * h/dx up to which limited fluxes keep a scalar within its bounds.
_BOUNDED = 0.5
# Cells in sqrt(nu L/U), a fifth of a boundary layer, and cell Reynolds number without walls, at which a warning comes.
_LAYER, _CELL_REYNOLDS = 1.0, 100.0
# Three stages: weights of the new and the old explicit rate, and half of the step of the implicit one.
# Le and Moin, J. Comput. Phys. 92 (1991) 369-379, equation 4.
_NEW = (8 / 15, 5 / 12, 3 / 4)
_OLD = (0.0, -17 / 60, -5 / 12)
_HALF = (4 / 15, 1 / 15, 1 / 6)


class Incompressible:
    """Incompressible flow between the sides of a box and around bodies, see `incompressible`.

    Attributes:
        dt, domain, channels: as every Step.
        low_faces: the axis of each velocity, on whose low faces it lies, and none for a scalar.
        pde: the equation.
        method: the scheme in words.
        substeps: inner steps of one call, or None where the state decides.
        implicit: whether viscosity is.
        bodies: the obstacles, or None.
    """

    def __init__(
        self,
        pde: NavierStokes | Boussinesq,
        grid: Grid,
        dt: float,
        sides: Sides,
        obstacles: Sequence[Obstacle],
        viscosity: ViscosityName,
        substeps: int | None,
        cfl: float,
        max_substeps: int,
        scalar_flux: ScalarFlux,
        compiled: bool,
    ) -> None:
        self.pde, self.dt, self.domain = pde, dt, grid
        self.grid, self._d = grid, grid.dimension
        self.channels = pde.channels(grid.dimension)
        self.low_faces = tuple((c,) if c < self._d else () for c in range(len(self.channels)))
        self.substeps, self.cfl, self.max_substeps = substeps, cfl, max_substeps
        self._sides, self._faces = sides, Staggered(sides)
        self.poisson = FastPoisson(grid.shape, grid.spacing, sides.ends)
        self.bodies = Bodies(grid, obstacles, self.poisson) if obstacles else None
        self._limited = scalar_flux == "limited"
        self._rates = Rates(pde, self._faces, self.bodies, self._limited)
        self._loops: Loops | None = None
        self._padded_force: dict[torch.dtype, tuple[int | None, Any]] = {}
        if compiled:
            from sciml.solvers.incompressible.compiled import Loops

            self._loops = Loops(self._faces, self.bodies, self._limited)
        self._warned = False
        blocked = self.bodies is not None or sides.exit is not None or sides.has_outflow
        self._inverse_spacing = torch.tensor([1.0 / h for h in grid.spacing], dtype=torch.float64)
        self._steady = self._viscous_rate()
        self._along = _BOUNDED if self._limited else _ALONG
        stiff = self._steady / _REAL
        carried = sides.speed * sum(1.0 / h for h in grid.spacing) / _ALONG
        pays = stiff * dt > _STIFF * cfl * max(1.0, carried * dt / cfl)
        if viscosity == "implicit" and blocked:
            raise ValueError(
                "incompressible got viscosity='implicit' with obstacles or an outflow, where it has no fast solves; "
                "use 'explicit' or 'auto'."
            )
        self.implicit = viscosity == "implicit" or (viscosity == "auto" and pays and not blocked)
        if self.implicit:
            self._relax = Relaxation(self._faces, len(self.channels))
        where = "" if self.bodies is None else f", {len(self.bodies.masks)} obstacle(s) of cells"
        stepping = (
            "three-stage Runge-Kutta with Crank-Nicolson viscosity"
            if self.implicit
            else "SSPRK3 with a projection in each stage"
        )
        self.method = (
            f"staggered grid, energy-conserving central fluxes, {stepping}, direct Poisson solves{where}"
        )

    def __call__(self, u: Tensor, /) -> Tensor:
        u = self._checked(u)
        if not self._warned:
            self._warn(self._faces.hold(u))
        flow = self._flow(u)
        if flow is not None:
            return self._looped(flow)
        u = self._stopped(self._faces.hold(u))
        exit = self._faces.exit_of(u)
        remaining, taken, pressure = self.dt, 0, None

        def rates() -> list[float]:
            found: list[float] = self._courant(u, exit).tolist()
            return found

        while remaining > 0:
            lost, left = self._plan(rates, remaining, taken)
            if lost:
                u = u.index_fill(0, torch.tensor(lost, device=u.device), torch.nan)
            h = remaining / left
            if self.implicit:
                u, pressure = self._crank_nicolson(u, pressure, h)
            else:
                u, exit = self._ssprk3(u, exit, h)
            taken += 1
            remaining = 0.0 if left == 1 else remaining - h
        return u

    # Compiled loops.

    def _flow(self, u: Tensor) -> Flow | None:
        """The state in padded arrays where compiled loops take it, else None."""
        known = u.device.type == "cpu" and u.dtype in (torch.float32, torch.float64)
        if self._loops is None or not known or is_differentiated(u) or u.shape[0] == 0:
            return None
        if torch.is_grad_enabled() and self._faces.recorded:
            return None
        numbers = self._rates.numbers(u)
        if numbers is None:
            return None
        force, padded = self._rates.force(), None
        if force is not None:
            if force.shape[0] not in (1, u.shape[0]):
                return None
            # A force that learns changes in place.
            version = None if force.is_inference() else force._version
            known_version, padded = self._padded_force.get(u.dtype, (None, None))
            if padded is None or version != known_version:
                padded = self._loops.padded(force, u.dtype, 0.0)
                self._padded_force[u.dtype] = version, padded
        return self._loops.enter(u, numbers.numpy(), padded, self.implicit)

    def _looped(self, flow: Flow) -> Tensor:
        """All substeps in compiled loops."""
        loops = self._loops
        assert loops is not None
        remaining, taken, gone = self.dt, 0, set[int]()
        per_length = [1.0 / h for h in self.grid.spacing]

        def rates() -> list[float]:
            rest = self._rest()
            carried = [
                sum(v * k for v, k in zip(speeds, per_length, strict=True)) for speeds in loops.speeds(flow)
            ]
            return [math.nan if i in gone else v / self._along + rest for i, v in enumerate(carried)]

        pressure: Tensor | None = None
        while remaining > 0:
            lost, left = self._plan(rates, remaining, taken)
            gone.update(lost)
            h, last = remaining / left, left == 1
            if self.implicit:
                pressure = self._looped_implicit(loops, flow, pressure, h)
            else:
                self._looped_explicit(loops, flow, h, last)
            taken += 1
            remaining = 0.0 if last else remaining - h
        u = loops.leave(flow)
        loops.free(flow)
        for sample in gone:
            u[sample] = torch.nan
        return u

    def _looped_explicit(self, loops: Loops, flow: Flow, h: float, last: bool) -> None:
        """As `_ssprk3`; the last state of a Step needs no ghosts."""
        for stage, weight in enumerate((1.0, 0.25, 2 / 3)):
            # From the second stage on the start is the first of the other arrays.
            new = flow.arrays[min(stage, 1)]
            start = flow.arrays[0] if stage else flow.now
            loops.combine(flow, start, new, (1.0 - weight, weight, weight * h, weight * h))
            loops.correct(new, self._solve(flow.net), not (last and stage == 2))
            flow.arrays[min(stage, 1)], flow.now = flow.now, new

    def _looped_implicit(self, loops: Loops, flow: Flow, pressure: Tensor | None, h: float) -> Tensor:
        """As `_crank_nicolson`: the state in `flow`, and the new pressure."""
        u = loops.leave(flow)
        nu, friction = self._rates.coefficients(u), self._friction(u)
        if pressure is None:
            loops.combine(flow, flow.now, flow.arrays[2], (0.0, 0.0, 1.0, 1.0), diverge=False)
            rate = self._faces.release(loops.leave(flow, flow.arrays[2]))
            pressure = self._solve(self._faces_divergence(rate, None))
        for stage, (new_weight, old_weight, half) in enumerate(zip(_NEW, _OLD, _HALF, strict=True)):
            step = 2 * half * h
            old, rate_now, push = flow.arrays[0], flow.arrays[1], flow.arrays[2]
            if stage == 0:
                old = flow.now
            loops.combine(flow, old, push, (old_weight * h, 0.0, new_weight * h, step), diverge=False)
            if stage < 2:
                loops.combine(flow, flow.now, rate_now, (0.0, 0.0, 1.0, 0.0), diverge=False)
                flow.arrays[0], flow.arrays[1] = rate_now, flow.arrays[0]
            loops.correct(push, step * pressure, False)
            change = self._relax(self._faces.release(loops.leave(flow, push)), nu, half * h)
            loops.fill(flow.now, u + change, True)
            lack = loops.diverge(flow)
            correction = self._solve(lack)
            loops.correct(flow.now, correction, True)
            u = loops.leave(flow)
            pressure = pressure + correction / step - 0.5 * friction * lack
        return pressure

    # What a state is.

    def project(self, u: Tensor) -> Tensor:
        """The flow nearest to u that the sides and bodies admit, without divergence, (B, C, *cells).

        What flows out through a high outflow side is first taken to be what arrives at the last cells.
        """
        u = self._faces.hold(self._checked(u))
        if self.bodies is not None:
            u = self._stopped(u)
        axis, exit = self._sides.exit, None
        if axis is not None:
            exit = u[:, axis : axis + 1].narrow(axis + 2, self.grid.shape[axis] - 1, 1)
        return self._projected(u, exit)[0]

    def divergence(self, u: Tensor) -> Tensor:
        """Net outflow of each cell over its volume, (B, C, *cells) -> (B, 1, *cells) [1/time]."""
        return self._faces.divergence(u, self._faces.exit_of(u)).unsqueeze(1)

    def to_cells(self, u: Tensor) -> Tensor:
        """A state with its velocities at cell centres, second order, (B, C, *cells)."""
        return self._faces.to_cells(u, self._faces.exit_of(u))

    def from_cells(self, v: Tensor) -> Tensor:
        """The flow nearest to velocities at cell centres, (B, C, *cells)."""
        return self.project(self._faces.to_faces(self._checked(v)))

    def pressure(self, u: Tensor) -> Tensor:
        """Pressure over density that keeps the flow free of divergence at this instant, (B, 1, *cells).

        Zero on average, or on the outflow. Inside bodies it has no meaning. [length^2/time^2]
        """
        u = self._faces.hold(self._checked(u))
        exit = self._faces.exit_of(u)
        rate, exit_rate = self._rate(u, exit)
        return self._solve(self._faces_divergence(rate, exit_rate)).unsqueeze(1)

    def rate(self, u: Tensor) -> Tensor:
        """du/dt of the semi-discrete flow, without divergence, (B, C, *cells) -> the same."""
        u = self._faces.hold(self._checked(u))
        exit = self._faces.exit_of(u)
        rate, exit_rate = self._rate(u, exit)
        q = self._solve(self._faces_divergence(rate, exit_rate))
        return self._faces.subtract_gradient(rate, exit_rate, q, self._open(u))[0]

    def energy(self, u: Tensor) -> Tensor:
        """Kinetic energy |u|^2/2 of the faces in the box, (B,) [length^(D+2)/time^2]."""
        cell = math.prod(self.grid.spacing)
        return 0.5 * cell * u[:, : self._d].square().flatten(1).sum(dim=1)

    def forces(self, u: Tensor) -> Tensor:
        """Force of the flow on each body over density, (B, bodies, D) [length^(D+1)/time^2].

        The momentum that its cells take up: on its closed faces what flow, friction and pressure would have done
        there, and the extra pull on faces half a cell away.

        Raises:
            ValueError: there are no obstacles.
        """
        if self.bodies is None:
            raise ValueError(
                "forces got a flow without obstacles; give incompressible(..., obstacles=[...])."
            )
        u = self._stopped(self._faces.hold(self._checked(u)))
        exit = self._faces.exit_of(u)
        q = self._solve(self._faces_divergence(*self._rate(u, exit)))
        free, free_exit = self._rate(u, exit, through_bodies=True)
        # The pressure inside is arbitrary: its gradients over a whole body add up to what is outside.
        free, _ = self._faces.subtract_gradient(free, free_exit, q)
        nu = fit(self.pde.viscosity, u)
        cell, found = math.prod(self.grid.spacing), []
        for body in range(len(self.bodies.masks)):
            mask = self.bodies.label(body).to(u)
            pull = nu * self.bodies.near(body).to(u) * u[:, : self._d]
            found.append((free[:, : self._d] * mask + pull).flatten(2).sum(dim=2) * cell)
        return torch.stack(found, dim=1)

    # One substep.

    def _ssprk3(self, u: Tensor, exit: Tensor | None, h: float) -> tuple[Tensor, Tensor | None]:
        """Shu and Osher (1988), each stage free of divergence: third order for the flow itself."""
        a, a_exit = self._euler(u, exit, h)
        b, b_exit = self._euler(a, a_exit, h, 0.25, (u, exit))
        return self._euler(b, b_exit, h, 2 / 3, (u, exit))

    def _euler(
        self,
        u: Tensor,
        exit: Tensor | None,
        h: float,
        weight: float = 1.0,
        start: tuple[Tensor, Tensor | None] | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """(1 - weight) start + weight (u + h rate(u)), without divergence."""
        new = u.clone() if start is None else start[0].lerp(u, weight)
        new, exit_rate = self._pushed(new, u, exit, weight * h, True)
        new_exit = exit
        if exit is not None and exit_rate is not None:
            old = exit if start is None or start[1] is None else start[1].lerp(exit, weight)
            new_exit = old + (weight * h) * exit_rate
        return self._projected(self._faces.restore(new), new_exit)

    def _projected(self, u: Tensor, exit: Tensor | None) -> tuple[Tensor, Tensor | None]:
        q = self._solve(self._faces.divergence(u, exit))
        return self._faces.subtract_gradient(u, exit, q, self._open(u))

    def _solve(self, f: Tensor) -> Tensor:
        return self.poisson(f) if self.bodies is None else self.bodies.solve(f)

    def _open(self, u: Tensor) -> Tensor | None:
        return None if self.bodies is None else self.bodies.open(u)

    def _stopped(self, u: Tensor) -> Tensor:
        """The state with zero velocity on the faces of bodies."""
        if self.bodies is None:
            return u
        u = u.clone()
        u[:, : self._d] *= self.bodies.open(u)
        return u

    def _faces_divergence(self, rate: Tensor, exit: Tensor | None) -> Tensor:
        """Divergence of rates of faces, which vanish on held sides."""
        total = torch.zeros_like(rate[:, 0])
        for d, h in enumerate(self.grid.spacing):
            face, n = rate[:, d], self.grid.shape[d]
            if self.grid.periodic[d]:
                after = face.roll(-1, d + 1)
            else:
                last = torch.zeros_like(face.narrow(d + 1, 0, 1))
                if d == self._sides.exit and exit is not None:
                    last = exit.squeeze(1)
                after = torch.cat((face.narrow(d + 1, 1, n - 1), last), dim=d + 1)
            total = total + (after - face) / h
        return total

    def _rate(
        self, u: Tensor, exit: Tensor | None, through_bodies: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Advection, friction and forces on faces, without pressure, and the rate on the outflow's faces."""
        new, exit_rate = self._pushed(torch.zeros_like(u), u, exit, 1.0, True, through_bodies)
        return self._faces.release(new), exit_rate

    def _pushed(
        self,
        new: Tensor,
        u: Tensor,
        exit: Tensor | None,
        h: float,
        friction: bool,
        through_bodies: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """new + h rate(u) without pressure, in place, and the rate on the outflow's faces."""
        wide = self._faces.pad(u, exit)
        new = self._rates.add_all(new, u, wide, h, friction)
        if self.bodies is not None and not through_bodies:
            d, nu = self._d, fit(self.pde.viscosity, u)
            velocity = new[:, :d] - (h * nu) * self.bodies.pull(u) * u[:, :d]
            new = torch.cat((velocity * self.bodies.open(u), new[:, d:]), dim=1)
        return new, None if exit is None else self._rates.exit_rate(wide, exit)

    # Implicit viscosity.

    def _crank_nicolson(self, u: Tensor, pressure: Tensor | None, h: float) -> tuple[Tensor, Tensor]:
        """Three explicit stages with Crank-Nicolson viscosity and a pressure that is corrected: second order.

        Le and Moin (1991); the correction of the pressure by the viscous part after Kim and Moin (1985).
        """
        rates, nu = self._rates, self._rates.coefficients(u)
        if pressure is None:
            # Of this instant: with none, or yesterday's, the first step would be of first order.
            pressure = self._solve(self._faces_divergence(*self._rate(u, None)))
        old: Tensor | None = None
        for new_weight, old_weight, half in zip(_NEW, _OLD, _HALF, strict=True):
            wide, step = self._faces.pad(u, None), 2 * half * h
            rate = rates.add_all(torch.zeros_like(u), u, wide, 1.0, False)
            push = (new_weight * h) * rate
            if old is not None:
                push = push + (old_weight * h) * old
            push = push + step * (nu * rates.laplacian(u, wide))
            push = self._faces.subtract_gradient(push, None, step * pressure)[0]
            guess = u + self._relax(self._faces.release(push), nu, half * h)
            lack = self._faces.divergence(guess, None)
            correction = self._solve(lack)
            u, _ = self._faces.subtract_gradient(guess, None, correction)
            pressure = pressure + correction / step - 0.5 * self._friction(u) * lack
            old = rate
        return u, pressure

    def _friction(self, u: Tensor) -> float | Tensor:
        """Viscosity, ready to multiply a pressure (B, *cells)."""
        nu = self._rates.coefficients(u)
        return nu[:, 0] if isinstance(nu, Tensor) and nu.ndim > 1 else nu

    # How far a substep may go.

    def _viscous_rate(self) -> float:
        """Largest rate of the diffusive terms [1/time]."""
        nu = self._largest(self.pde.viscosity)
        pull = 0.0 if self.bodies is None else self.bodies.strongest_pull
        plain = 4.0 * sum(1.0 / h**2 for h in self.grid.spacing)
        kappa = self._largest(self.pde.diffusivity) if isinstance(self.pde, Boussinesq) else 0.0
        return max(nu * (plain + pull), kappa * plain)

    def _rest(self) -> float:
        """What has to be resolved beside the flow itself, as a share of the limit of stability [1/time]."""
        rest = 0.0 if self.implicit else self._steady / _REAL
        if isinstance(self.pde, Boussinesq):
            waves = self._largest(self.pde.buoyancy) * self._largest(self.pde.gradient)
            rest += math.sqrt(waves) / _ALONG
        return rest

    @staticmethod
    def _largest(value: float | Tensor) -> float:
        return float(value.detach().abs().max()) if isinstance(value, Tensor) else abs(float(value))

    def courant(self, u: Tensor) -> Tensor:
        """Inverse of the largest stable substep of each sample, (B,) [1/time]."""
        return self._courant(u, self._faces.exit_of(u))

    def _courant(self, u: Tensor, exit: Tensor | None) -> Tensor:
        speeds = self._speeds(u, exit)
        carried = speeds @ self._faces.cast(self._inverse_spacing, speeds)
        return carried / self._along + self._rest()

    def _speeds(self, u: Tensor, exit: Tensor | None) -> Tensor:
        """Largest size of each component, (B, D), also through an outflow."""
        with torch.no_grad():
            speeds = u[:, : self._d].abs().flatten(2).amax(dim=2)
            if exit is not None and self._sides.exit is not None:
                a = self._sides.exit
                out = exit.abs().flatten(1).amax(dim=1)
                speeds[:, a] = torch.maximum(speeds[:, a], out)
            return speeds

    def _plan(
        self, rates: Callable[[], list[float]], remaining: float, taken: int
    ) -> tuple[list[int], int]:
        """Which samples are lost, and into how many equal substeps the remaining time is cut.

        By the fastest sample that is not lost; `rates`, as `courant`, are only asked for where they matter.
        """
        if self.substeps is not None and taken > 0:
            return [], self.substeps - taken
        finite = [(rate, i) for i, rate in enumerate(rates()) if math.isfinite(rate)]
        most = max(finite)[0] if finite else 0.0
        if self.substeps is not None:
            number = most * self.dt / self.substeps
            if number > 1.0:
                raise ValueError(
                    f"incompressible with substeps={self.substeps} got a state whose substep is {number:.3g} times the "
                    f"limit of stability; use at least {math.ceil(number * self.substeps / self.cfl)} substeps, a "
                    "smaller dt, or substeps=None, which chooses by itself."
                )
            return [], self.substeps
        scale, lost = remaining / self.cfl, []
        if most * scale > self.max_substeps - taken:
            lost = [i for rate, i in finite if rate * scale > self.max_substeps - taken]
            most = max((rate for rate, i in finite if i not in lost), default=0.0)
        # A hair off, so that rounding in an exact fraction does not cost one more substep.
        return lost, max(1, math.ceil(most * scale * (1 - 1e-9)))

    # At the door.

    def _checked(self, u: Tensor) -> Tensor:
        expected = (len(self.channels), *self.grid.shape)
        if tuple(u.shape[1:]) != expected:
            raise ValueError(
                f"The solver got a state of shape {tuple(u.shape)}; expected (B, *{expected}) with channels "
                f"{self.channels}."
            )
        return u

    def _warn(self, u: Tensor) -> None:
        """Say once when cells are too coarse for the flow."""
        self._warned = True
        with torch.no_grad():
            finite = u[:, : self._d][torch.isfinite(u[:, : self._d])]
            speed = max(self._sides.speed, float(finite.abs().max()) if len(finite) else 0.0)
        nu = float(torch.as_tensor(self.pde.viscosity).detach().min())
        if nu == 0.0 or speed == 0.0:
            return
        h = max(self.grid.spacing)
        number = speed * h / nu
        if self._sides.no_slip or self.bodies is not None:
            layer = math.sqrt(nu * max(self.grid.lengths) / speed) / h
            if layer < _LAYER:
                where = [side_name(*side) for side in self._sides.no_slip] or ["the obstacles"]
                warnings.warn(
                    f"incompressible: the boundary layer at {', '.join(where)} has about {5 * layer:.2g} cells "
                    f"(5 sqrt(nu L/U) at U = {speed:.3g}), under-resolved; the cell Reynolds number is {number:.3g}. "
                    f"About {math.ceil(_LAYER / layer)} times the cells per axis would resolve it.",
                    stacklevel=3,
                )
        elif number > _CELL_REYNOLDS:
            warnings.warn(
                f"incompressible: the cell Reynolds number is {number:.3g} at U = {speed:.3g}, above {_CELL_REYNOLDS:g}; "
                "the smallest eddies are under-resolved and may leave noise at the grid scale.",
                stacklevel=3,
            )


def incompressible(
    pde: NavierStokes | Boussinesq,
    grid: Grid,
    dt: float,
    *,
    conditions: Conditions | None = None,
    obstacles: Sequence[Obstacle] = (),
    slip: Sequence[str] = (),
    held: Held | None = None,
    viscosity: ViscosityName = "auto",
    scalar_flux: ScalarFlux = "central",
    substeps: int | None = None,
    cfl: float = 0.7,
    max_substeps: int = 100_000,
    compiled: bool | None = None,
) -> Incompressible:
    """A Step of incompressible flow between walls, openings and around obstacles, in 2D and 3D.

    Staggered grid: channel d of a state (B, C, *cells) is the velocity along axis d on the LOW face of each cell
    (`face_coordinates`), and a scalar sits at the centres. The face beyond the last cell follows from its side: the
    first one again (periodic), zero (wall), the profile (inflow), or the continuity of the last cell (outflow).
    Velocities on low walls and inflows are set to theirs, whatever the state holds. `.to_cells` and `.from_cells`
    go to velocities at centres and back.

    Second order in space; div u = 0 to rounding; momentum is conserved up to the sides, and energy without viscosity
    up to the third-order error in time. A state with divergence loses it within the Step; `.project` gives the
    nearest flow. Differentiable in the state and in parameters that are tensors. Blow-up gives non-finite values in
    its own sample and raises nothing.

    Args:
        pde: `NavierStokes`, or `Boussinesq` with a scalar that rises along the last axis. Forcing fields lie on the
            faces.
        grid: cells (`centering="cell"`) with sides "periodic", "wall" (no slip, insulating), "inflow" (give its
            state), "outflow" (zero pressure, nothing changes across it).
        dt: time of one Step [time].
        conditions: `Inflow` and `MovingWall` by side. An inflow's normal velocity lies at the centres of the side's
            faces, its tangential ones on the low faces of their axes.
        obstacles: bodies as boolean masks (*cells) or functions of positions that are negative inside, such as
            `cylinder`; no slip, insulating, in the shape of their cells (first order in the size).
        slip: walls without friction, such as ("y-",).
        held: values of the scalar at walls, by side, a number or one per cell of the side.
        viscosity: "implicit" takes Crank-Nicolson steps by direct solves, second order in time, which need no
            obstacles and no outflow; "auto" does so where explicit steps would need over four times as many.
        scalar_flux: "central" keeps the square of the scalar without diffusion; "limited" keeps its bounds.
        substeps: equal substeps of each Step; None plans the remaining time anew before each from the fastest
            sample of the batch, so that results depend on the batch slightly.
        cfl: fraction of the limit of stability that a substep takes, at most 1.
        max_substeps: samples that need more in one Step are taken as blown up and become NaN.
        compiled: whether steps run in compiled loops where nobody asks for derivatives; where numba is installed (extra
            `compiled`), unless said otherwise. Equal to rounding.

    Raises:
        ValueError: an argument is out of range, the domain is no grid of cells in 2D or 3D, a condition does not fit,
            an obstacle touches an opening, or inflows do not balance; on a call, with fixed `substeps`, that they are
            beyond the limit of stability.

    Warns once, with the numbers, where a boundary layer, 5 sqrt(nu L/U) thick, has less than five cells, or without walls
    where the cell Reynolds number is above 100.
    """
    if not isinstance(pde, (NavierStokes, Boussinesq)):
        raise ValueError(f"incompressible got {type(pde).__name__}; it solves NavierStokes and Boussinesq.")
    if not isinstance(grid, Grid):
        raise ValueError(f"incompressible got a {type(grid).__name__}; it needs a Grid of cells.")
    if grid.centering != "cell":
        raise ValueError("incompressible got a grid of nodes; make it with Grid(..., centering='cell').")
    if grid.dimension not in pde.dimensions:
        raise ValueError(f"incompressible got a grid of {grid.dimension} axes; expected 2 or 3.")
    if not (math.isfinite(dt) and dt > 0):
        raise ValueError(f"incompressible got dt={dt}; expected a positive time.")
    if not 0 < cfl <= 1:
        raise ValueError(f"incompressible got cfl={cfl}; expected above 0 and at most 1, such as 0.7.")
    for name, value in (("substeps", substeps), ("max_substeps", max_substeps)):
        if value is not None and value < 1:
            raise ValueError(f"incompressible got {name}={value}; expected at least 1.")
    for name, choice, known in (
        ("viscosity", viscosity, get_args(ViscosityName)),
        ("scalar_flux", scalar_flux, get_args(ScalarFlux)),
    ):
        if choice not in known:
            raise ValueError(f"incompressible got {name}={choice!r}; expected one of {list(known)}.")
    if compiled:
        require("numba", extra="compiled", purpose="incompressible(compiled=True)")
    channels = len(pde.channels(grid.dimension))
    sides = Sides(grid, channels, conditions, slip, held)
    return Incompressible(
        pde,
        grid,
        dt,
        sides,
        obstacles,
        viscosity,
        substeps,
        cfl,
        max_substeps,
        scalar_flux,
        available() if compiled is None else compiled,
    )


def staggered(function: Callable[[Tensor], Tensor], grid: Grid) -> Tensor:
    """A velocity given at positions (D, *cells) -> (D or more, *cells), taken on low faces, (1, C, *cells).

    Components beyond the D velocities are taken at the centres.
    """
    parts = [function(face_coordinates(grid, d))[d] for d in range(grid.dimension)]
    rest = function(grid.coordinates())[grid.dimension :]
    return torch.cat((torch.stack(parts), rest)).unsqueeze(0)
