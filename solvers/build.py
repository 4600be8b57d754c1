"""Choose a sound classical solver for an equation on a domain."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor

from sciml.calculus import Calculus, FiniteDifference
from sciml.domains import Cloud, Conditions, Domain, Grid, Mesh, Point
from sciml.errors import UserError
from sciml.extras import require
from sciml.odes.base import ODE
from sciml.pdes.acoustics import Acoustics, AcousticScattering
from sciml.pdes.base import PDE, ConservationLaw, Elliptic, SemiLinear
from sciml.pdes.boussinesq import Boussinesq
from sciml.pdes.diffusion_law import DiffusionLaw
from sciml.pdes.maxwell import MaxwellEquations
from sciml.pdes.navier_stokes import NavierStokes
from sciml.pdes.shallow_water import ShallowWater
from sciml.solvers.spectral import PseudoSpectral, Stepping, pseudo_spectral
from sciml.solvers.time import EULER, HEUN, RK4, SSPRK3, Tableau, explicit_rk
from sciml.step import Step

# h times the rate of the nonlinear part (for transport max_speed * sum_d 1/dx_d) of an ETDRK step: half the
# limit on the imaginary axis for modes cut by the 2/3 rule at orders 3 and 4, where the error in time then
# stays below that of the grid; orders 1 and 2 have no stable piece of that axis and live on dissipation alone.
_COURANT = {1: 0.1, 2: 0.25, 3: 0.5, 4: 0.5}
# What a substep may multiply a mode by, beyond the growth of the equation itself, before it is refused.
_GROWTH = 2.0
_EXPLICIT: dict[int, Tableau] = {1: EULER, 2: HEUN, 3: SSPRK3, 4: RK4}
_SAFETY = 0.8
# h * |L| up to which a linear part is called not stiff: explicit steps that the nonlinear part asks for anyway
# are then stable, and as accurate.
_MILD = 0.5

Basis = Literal["auto", "trigonometric"]
Choice = Literal["auto", "exponential", "explicit"]


class Solver:
    """A classical solver as a Step, with the choice that was made and why.

    Attributes:
        dt, domain, channels: as every Step.
        step: the method itself, with what it alone knows.
        substeps: inner steps of one call, or None where the state decides (finite volumes).
        method: the scheme in words.
        reason: a sentence that says why this method and this many substeps.
    """

    def __init__(self, step: Step, substeps: int | None, method: str, reason: str) -> None:
        self.dt: float = step.dt
        self.domain: Domain = step.domain
        self.channels: tuple[str, ...] = step.channels
        self.step, self.substeps, self.method, self.reason = step, substeps, method, reason

    def __call__(self, u: Tensor, /) -> Tensor:
        return self.step(u)

    def __repr__(self) -> str:
        return f"Solver({self.method}, {self.domain}, dt={self.dt:g}, substeps={self.substeps})"


class MethodOfLines:
    """Finite differences in space and an explicit Runge-Kutta method in time; Dirichlet nodes hold their value.

    Attributes:
        dt, domain, channels: as every Step.
        substeps: Runge-Kutta steps inside one call.
        held: nodes that keep their incoming value, (*points) bool.
        calculus, tableau: how it differentiates and integrates.
    """

    def __init__(
        self, pde: PDE, grid: Grid, dt: float, calculus: Calculus, tableau: Tableau, substeps: int
    ) -> None:
        self.pde, self.grid, self.dt = pde, grid, dt
        self.domain: Domain = grid
        self.channels = pde.channels(grid.dimension)
        self.calculus, self.tableau, self.substeps = calculus, tableau, substeps
        self.held = dirichlet_nodes(grid)

    def __call__(self, u: Tensor, /) -> Tensor:
        expected = (len(self.channels), *self.grid.shape)
        if tuple(u.shape[1:]) != expected:
            raise ValueError(
                f"The solver got a state of shape {tuple(u.shape)}; expected (B, *{expected}) with channels "
                f"{self.channels}."
            )
        step = explicit_rk(self.rate, self.dt / self.substeps, self.tableau)
        for _ in range(self.substeps):
            u = step(u)
        return u

    def rate(self, u: Tensor) -> Tensor:
        """Right-hand side, zero on held nodes, (B, C, *points) -> (B, C, *points) [u / time]."""
        rate = self.pde.rhs(u, self.calculus).to(u.dtype)
        return torch.where(self.held.to(u.device), torch.zeros((), dtype=u.dtype, device=u.device), rate)


def dirichlet_nodes(grid: Grid) -> Tensor:
    """Nodes on the Dirichlet sides of a grid of nodes, (*points) bool."""
    held = torch.zeros(grid.shape, dtype=torch.bool)
    for axis, (low, high) in enumerate(grid.sides):
        for side, index in ((low, 0), (high, grid.shape[axis] - 1)):
            if side == "dirichlet":
                held.select(axis, index).fill_(True)
    return held


def spectral_radius(operator: Callable[[Tensor], Tensor], start: Tensor, iterations: int = 60) -> float:
    """Estimate of the largest |eigenvalue| of a linear operator, from below, by power iteration.

    The mean growth over the last third of the iterations, which also settles for complex pairs.
    """
    v, growth = start / start.norm(), []
    for _ in range(iterations):
        w = operator(v)
        norm = float(w.norm())
        if norm == 0.0:
            return 0.0
        growth.append(math.log(norm))
        v = w / norm
    tail = growth[-(iterations // 3) :]
    return math.exp(sum(tail) / len(tail))


def build(
    pde: PDE | Elliptic | ODE,
    domain: Domain,
    dt: float,
    *,
    order: int = 4,
    substeps: int | None = None,
    max_speed: float = 1.0,
    cfl: float | None = None,
    basis: Basis = "auto",
    stepping: Choice = "auto",
    tolerance: float | None = None,
    conditions: Conditions | None = None,
) -> Solver:
    """A classical solver of an equation on a domain as a Step of `dt`.

    - `SemiLinear` on nodes periodic along every axis: Fourier pseudo-spectral, ETDRK of the order.
    - `ShallowWater` on a grid of cells: well-balanced finite volumes with moving shores, see `shallow_water`.
    - any other `ConservationLaw` on a grid of cells: finite volumes (MUSCL; HLLC, exact, HLL or Rusanov fluxes; for gases
      Hancock in sweeps along the axes, else SSPRK3), see `finite_volume`.
    - acoustics and Maxwell's equations on a grid of cells: finite volumes and Yee's scheme, see `waves`.
    - `NavierStokes` and `Boussinesq` on a grid of cells, periodic or between real sides: a staggered grid, see
      `incompressible`, which also takes obstacles and walls that hold the scalar.
    - any equation on nodes with bounded sides: finite differences (order 4 where `order` is 4 and the
      axes have the points, else 2); explicit Runge-Kutta, or diffusion implicit and the rest explicit where it is
      stiff and `SemiLinear`; nodes on Dirichlet sides hold their value.
    - `DiffusionLaw` on cells or nodes, and `SemiLinear` on cells with bounded sides: fluxes between control
      volumes, implicit or explicit by stiffness. What sides hold beyond zero is told to `parabolic.parabolic`.
    - `SemiLinear` on nodes with bounded sides and `basis="trigonometric"`: sine and cosine series, ETDRK. Never
      chosen unasked, because Dirichlet sides are then zero rather than held at the values of the state.
    - `ConservationLaw` on a `Mesh` of triangles: finite volumes around its nodes, see `finite_volume_on_mesh`.
    - heat and advection(-diffusion) on a `Mesh`: linear finite elements, implicit (extra `fem`).
    - an `ODE` on a `Point`: symplectic, explicit or adaptive Runge-Kutta steps, see `ode.build_ode`.

    Args:
        pde: the equation.
        domain: where to solve it.
        dt: time of one Step [time].
        order: order in time, 1 to 4; finite volumes and finite elements have their own.
        substeps: inner steps of one Step; None chooses: exact methods take one, the others as many as
            the advective limit at `max_speed` and, for explicit methods, the diffusive limit ask for.
        max_speed: the largest speed that the nonlinear term carries things with [length/time]: max|u| for
            Burgers, Navier-Stokes and the slope form of Kuramoto-Sivashinsky, max|grad u| for its height
            form, max|v| for the vorticity equation. In Fourier, sine and cosine series some equations read
            it otherwise (`nonlinear_rate`): max|u| for Korteweg-de Vries and the scalar Burgers equation,
            which multiply it by their |convection|; max|psi| for Schroedinger and Gross-Pitaevskii, where
            the rate grows with its square. Reactions and phase fields (Fisher-KPP, Allen-Cahn,
            Cahn-Hilliard, Swift-Hohenberg, Gray-Scott, FitzHugh-Nagumo, Belousov-Zhabotinsky) state their
            rate themselves and do not use it. Finite differences count any nonlinear term as transport at
            it. Not used by linear equations, finite volumes, which measure it, finite elements and
            systems without space.
        cfl: Courant number of finite volumes; None takes what suits the method.
        basis: "trigonometric" insists on Fourier, sine and cosine series (`pseudo_spectral`), for homogeneous
            sides and equations that keep their symmetry.
        stepping: of a semi-linear equation in series. "auto" takes exponential steps where the linear part is
            stiff, h max|L| > 1/2, or its coefficients are given; explicit ones where it is not stiff and they learn,
            so that the tables of exponential steps would be made and differentiated anew in every call. The
            others insist. On nodes with bounded sides "auto" takes implicit diffusion where that is cheaper, and
            "explicit" insists on the other.
        tolerance: error of an inner step of an `ODE`, for steps that follow it.
        conditions: what enters through sides "inflow" and how sides "wall" slide, `{"x-": Inflow(state), "y+":
            MovingWall(velocity)}`, for finite volumes of conservation laws, shallow water and incompressible flow on
            cells; on a mesh `{"inflow": Inflow(state)}`. No other method has such sides.

    Returns a `Solver` that computes in the precision of the state and says what it is in `.method`,
    `.substeps` and `.reason`.

    Raises:
        UserError: (a ValueError) the combination has no sound method, or an argument is out of range; the
            message names the limit.
        ModuleNotFoundError: a mesh without scikit-fem; the message names the extra.
    """
    if isinstance(pde, ODE) or isinstance(domain, Point):
        from sciml.solvers.ode import build_ode

        if conditions:
            raise UserError(
                f"build got conditions at {sorted(conditions)} for {type(pde).__name__}, a system without space. Leave them "
                "out."
            )
        return build_ode(pde, domain, dt, order=order, substeps=substeps, tolerance=tolerance)
    name = type(pde).__name__
    if isinstance(pde, Elliptic):
        raise UserError(
            f"build got {name}, a stationary equation without steps; see sciml.solvers.elliptic."
        )
    if not isinstance(pde, PDE):
        raise UserError(f"build got {name} for an equation; expected an instance of a PDE, such as Heat().")
    if not (isinstance(dt, (int, float)) and math.isfinite(dt) and dt > 0):
        raise UserError(f"build got dt={dt!r}; expected a positive time.")
    if order not in _EXPLICIT:
        raise UserError(f"build got order={order}; expected 1, 2, 3 or 4.")
    if substeps is not None and not (isinstance(substeps, int) and substeps >= 1):
        raise UserError(
            f"build got substeps={substeps!r}; expected a whole number from 1, or None to choose."
        )
    if not (isinstance(max_speed, (int, float)) and math.isfinite(max_speed) and max_speed > 0):
        raise UserError(f"build got max_speed={max_speed!r}; expected a positive speed.")
    if not isinstance(domain, (Grid, Mesh, Cloud)):
        raise UserError(f"build got {type(domain).__name__} for a domain; expected a Grid or a Mesh.")
    if basis not in get_args(Basis):
        raise UserError(f"build got basis={basis!r}; expected one of {get_args(Basis)}.")
    if stepping not in get_args(Choice):
        raise UserError(f"build got stepping={stepping!r}; expected one of {get_args(Choice)}.")
    if basis == "trigonometric" and not (
        isinstance(pde, SemiLinear) and isinstance(domain, Grid) and domain.centering == "node"
    ):
        raise UserError(
            f"build got basis='trigonometric' for {name} on a {type(domain).__name__}; sine and cosine series "
            "are there for semi-linear equations on a Grid of nodes. Leave basis='auto'."
        )
    in_series = (
        isinstance(pde, SemiLinear)
        and isinstance(domain, Grid)
        and domain.centering == "node"
        and (all(domain.periodic) or basis == "trigonometric")
    )
    on_lines = isinstance(domain, Grid) and domain.centering == "node" and not isinstance(pde, DiffusionLaw)
    if stepping != "auto" and not in_series and not (stepping == "explicit" and on_lines):
        raise UserError(
            f"build got stepping={stepping!r} for {name} on a {type(domain).__name__}; that is a choice for "
            "semi-linear equations on a Grid of nodes with periodic sides, or with basis='trigonometric'; between "
            "other sides 'explicit' alone. Leave stepping='auto'."
        )
    if isinstance(domain, Cloud):
        raise UserError(f"build got a Cloud; {name} is solved on a Grid or a Mesh.")
    if domain.dimension not in pde.dimensions:
        raise UserError(
            f"build got a domain of {domain.dimension} space axes; {name} lives in {pde.dimensions}."
        )
    if conditions and not _takes_conditions(pde, domain):
        raise UserError(
            f"build got conditions at {sorted(conditions)} for {name} on {domain}, whose method knows no Inflow and no "
            "MovingWall; finite volumes of conservation laws (on a Mesh too), shallow water and incompressible flow do, on a "
            "Grid of cells. Leave them out. Values, fluxes and leaks of what diffuses are told to `parabolic.parabolic`."
        )
    if isinstance(domain, Mesh) and isinstance(pde, ConservationLaw):
        from sciml.solvers.finite_volume.mesh_step import build_on_mesh

        return build_on_mesh(pde, domain, dt, cfl, substeps, conditions)
    if isinstance(domain, Mesh):
        return _finite_elements(pde, domain, dt, substeps)
    if isinstance(pde, (Acoustics, AcousticScattering, MaxwellEquations)):
        from sciml.solvers.waves import build_waves

        return build_waves(pde, domain, dt, substeps)
    if isinstance(pde, ShallowWater):
        from sciml.solvers.finite_volume.shallow_water import build_shallow_water

        return build_shallow_water(pde, domain, dt, 0.4 if cfl is None else cfl, substeps, conditions)
    if isinstance(pde, ConservationLaw):
        if domain.centering != "cell":
            raise UserError(
                f"build got {name} on a grid of nodes; finite volumes keep cell averages. Use "
                "Grid(..., centering='cell')."
            )
        from sciml.solvers.finite_volume import finite_volume

        try:
            step = finite_volume(pde, domain, dt, cfl=cfl, substeps=substeps, conditions=conditions)
        except ValueError as error:
            raise UserError(str(error)) from error
        reason = (
            f"{name} is a conservation law, whose shocks finite volumes capture; the substeps follow the "
            f"fastest wave at CFL {step.cfl:g}."
            if substeps is None
            else f"{name} is a conservation law, whose shocks finite volumes capture; {substeps} substeps "
            "were asked for."
        )
        return Solver(step, substeps, step.method, reason)
    if domain.centering == "cell" and isinstance(pde, (NavierStokes, Boussinesq)):
        return _staggered(pde, domain, dt, substeps, conditions)
    if isinstance(pde, DiffusionLaw) or (
        isinstance(pde, SemiLinear) and domain.centering == "cell" and not all(domain.periodic)
    ):
        from sciml.solvers.parabolic.choose import build_parabolic

        return build_parabolic(pde, domain, dt, order, substeps, max_speed)
    if domain.centering != "node":
        raise UserError(
            f"build got {name} on a grid of cells; it is solved at nodes. Use Grid(..., centering='node')."
        )
    if isinstance(pde, SemiLinear) and in_series:
        return _series(pde, domain, dt, order, substeps, max_speed, stepping)
    return _lines(pde, domain, dt, order, substeps, max_speed, stepping)


def _series(
    pde: SemiLinear,
    grid: Grid,
    dt: float,
    order: int,
    substeps: int | None,
    max_speed: float,
    stepping: Choice,
) -> Solver:
    name = type(pde).__name__
    rate = pde.nonlinear_rate(grid, max_speed)
    limit = _COURANT[order] / rate
    count = max(1, math.ceil(dt / limit * (1 - 1e-12))) if substeps is None else substeps

    def made(count: int, stepping: Stepping) -> PseudoSpectral:
        try:
            return pseudo_spectral(pde, grid, dt, order=order, substeps=count, stepping=stepping)
        except ValueError as error:
            raise UserError(str(error)) from error

    step = made(count, "exponential")
    where, space = ("a periodic grid", "Fourier space")
    if step.sides is not None:
        where, space = ("a grid with homogeneous sides", "sine and cosine series")
    if step.linear:
        return Solver(
            step,
            1,
            step.method,
            f"{name} is linear with constant coefficients on {where}: its modes are advanced exactly, whatever dt.",
        )
    rates = step.linear_rates()
    stiffness = float(rates.abs().max()) * dt / count
    mild = stiffness <= _MILD and dt / count <= 2 * limit * (1 + 1e-12)
    opening = f"{name} is semi-linear on {where}: "
    limits = f"the nonlinear part, of rate {rate:.3g} at max_speed={max_speed:g}, limits the step"
    if stepping == "explicit" or (stepping == "auto" and mild and order > 2 and step.learns):
        if stepping == "explicit":
            count = _explicit_count(name, rates, rate, dt, order, substeps)
            stiffness = float(rates.abs().max()) * dt / count
            chosen = "it is stepped explicitly with the rest, as asked for"
        else:
            chosen = "explicit steps are stable, and save the tables of exponential ones, which change as it learns"
        kind = "not stiff" if stiffness <= _MILD else "stiff"
        step = made(count, "explicit")
        asked = "were asked for" if substeps is not None else "stay within the limit"
        reason = (
            f"its linear part is {kind} (h |L| <= {stiffness:.2g}): {chosen}. {count} substeps {asked}."
        )
        return Solver(step, count, step.method, opening + reason)
    if substeps is None:
        asked = f"keep h * rate <= {_COURANT[order]:g}"
    elif dt / count <= 2 * limit * (1 + 1e-12):
        asked = "were asked for, within the limit"
    else:
        growth = _amplification(step, rate)
        if growth > _GROWTH:
            raise UserError(
                f"build got substeps={substeps} for {name}: a substep of {dt / count:.3g} at max_speed="
                f"{max_speed:g} (rate {rate:.3g}) multiplies some modes by {growth:.3g}, which blows up. The limit is "
                f"about {2 * limit:.3g}: use at least {math.ceil(dt / (2 * limit))} substeps, or substeps=None, which "
                "chooses."
            )
        # Dissipation helps beyond the limit, and a coarse solver is judged by its result.
        asked = f"were asked for, beyond the limit {2 * limit:.3g} of a substep: it may blow up"
    if stiffness > _MILD:
        reason = (
            f"its stiff linear part (h |L| <= {stiffness:.3g}) is exact in {space}, so only {limits}; "
            f"{count} substeps {asked}."
        )
    else:
        reason = (
            f"{limits}; the linear part is not stiff (h |L| <= {stiffness:.2g}), and exact in {space} at no more than "
            f"explicit steps would cost; {count} substeps {asked}."
        )
    return Solver(step, count, step.method, opening + reason)


def _explicit_count(
    name: str, rates: Tensor, rate: float, dt: float, order: int, substeps: int | None
) -> int:
    """Substeps of explicit steps of linear and nonlinear part together, or UserError where they blow up."""
    tableau = _EXPLICIT[order]
    fastest = rates[rates.abs().argmax()]
    turns = bool((rates.imag.abs() > 1e-3 * rates.abs().max()).any())
    real = tableau.stability_limit(1j) if turns else tableau.stability_limit(-1)
    if real == 0.0:
        raise UserError(
            f"build got stepping='explicit' and order={order} for {name}, whose linear part turns modes; {tableau.name} "
            "is unstable for that at any step. Use order 3 or 4, or stepping='exponential'."
        )
    linear = float(fastest.abs())
    # The largest steps that either part alone allows, taken together as if they pulled the same way.
    stable = 1.0 / (linear / real + rate / (2 * _COURANT[order]))
    if substeps is None:
        return max(1, math.ceil(dt / (_SAFETY * stable)))
    if dt / substeps * linear > real:
        raise UserError(
            f"build got stepping='explicit' and substeps={substeps} for {name}: a substep of {dt / substeps:.3g} exceeds "
            f"the limit {real / linear:.3g} of {tableau.name} for a linear part of rate {linear:.3g}. Use at least "
            f"{math.ceil(dt / stable)} substeps, substeps=None, which chooses, or stepping='exponential'."
        )
    return substeps


def _amplification(step: PseudoSpectral, rate: float) -> float:
    """Largest factor by which a substep multiplies a mode where N acts as transport, beyond its own growth.

    With N replaced by i m(k), m growing with the wavenumber to pi times the rate at the grid's last mode, each
    mode that products reach is a scalar equation, and the method's own coefficients say what it becomes.
    """
    method, reach = step.linear_method()
    last = method.propagators[-1]
    own, shape = last.abs(), last.shape
    if method.coupled:
        own = torch.linalg.matrix_norm(last.movedim((1, 2), (-2, -1)), 2).unsqueeze(1)
        shape = shape[:2] + shape[3:]
    worst = 0.0
    for part in (0.5, 1.0):
        turn = 1j * math.pi * rate * part * reach
        new = method.step(torch.ones(shape, dtype=torch.complex128), lambda v, turn=turn: turn * v)  # type: ignore[misc]
        worst = max(worst, float((new.abs() / own.clamp(min=1.0)).max()))
    return worst


def _lines(
    pde: PDE,
    grid: Grid,
    dt: float,
    order: int,
    substeps: int | None,
    max_speed: float,
    stepping: Choice,
) -> Solver:
    name = type(pde).__name__
    accuracy = 4 if order == 4 and min(grid.shape) >= 8 else 2
    try:
        calculus = FiniteDifference(grid, 4 if accuracy == 4 else 2)
    except ValueError as error:
        raise UserError(str(error)) from error
    tableau = _EXPLICIT[order]
    probe = MethodOfLines(pde, grid, dt, calculus, tableau, 1)
    try:
        stiff, advects = _rates(pde, probe, max_speed, accuracy)
    except TypeError as error:  # the equation asks for what the calculus does not have
        raise UserError(f"build got {name} on {grid}: {error}") from error
    # Seen from the origin the spectrum is a cloud around the negative axis that advection widens: the
    # half-disc bounds both. Without a stable piece of the imaginary axis advection needs damping.
    along = tableau.stability_limit(1j)
    if advects > 0 and along == 0.0:
        raise UserError(
            f"build got order={order} for {name} between bounded sides; {tableau.name} is unstable for central "
            "differences of a transport term at any step. Use order 3 or 4."
        )
    real = (
        min(tableau.stability_limit(-1), tableau.sector_limit)
        if advects > 0
        else tableau.stability_limit(-1)
    )
    inverse = stiff / real + (advects / along if advects > 0 else 0.0)
    stable = math.inf if inverse == 0 else 1.0 / inverse
    limit = _SAFETY * stable
    count = max(1, math.ceil(dt / limit)) if substeps is None else substeps
    if stepping == "auto" and (substeps is None or dt / count * stiff > tableau.stability_limit(-1)):
        from sciml.solvers.parabolic.choose import implicit_lines

        needed = max(1, math.ceil(dt / limit))
        implicit = implicit_lines(pde, grid, dt, order, accuracy, substeps, max_speed, needed)
        if implicit is not None:
            return implicit
    if dt / count * stiff > tableau.stability_limit(-1):
        raise UserError(
            f"build got substeps={substeps} for {name}: explicit {tableau.name} substeps of {dt / count:.3g} "
            f"exceed the diffusive limit {tableau.stability_limit(-1) / stiff:.3g} on spacing {grid.spacing}. Use at "
            f"least {math.ceil(dt / stable)} substeps, or substeps=None, which chooses."
        )
    step = MethodOfLines(pde, grid, dt, calculus, tableau, count)
    method = f"finite differences of order {accuracy}, {tableau.name}"
    what = "bounded sides" if not all(grid.periodic) else "no semi-linear form"
    reason = (
        f"{name} on a grid with {what} has no Fourier form; {count} explicit substeps "
        f"{'were asked for' if substeps is not None else f'keep {_SAFETY:.0%} of the stability limit {stable:.3g}'}."
    )
    if isinstance(pde, SemiLinear) and not any("outflow" in sides for sides in grid.sides):
        reason += " Where the sides are homogeneous, basis='trigonometric' may be far more accurate."
    return Solver(step, count, method, reason)


def _rates(pde: PDE, lines: MethodOfLines, max_speed: float, accuracy: int) -> tuple[float, float]:
    """Largest rates of the linear part, and of the transport by the nonlinear one, [1/time]."""
    grid = lines.grid
    generator = torch.Generator().manual_seed(0)
    u = torch.randn(1, len(lines.channels), *grid.shape, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        if isinstance(pde, SemiLinear):
            held = lines.held

            def linear(v: Tensor) -> Tensor:
                return torch.where(held, 0.0, pde.linear(v, lines.calculus))

            stiff = spectral_radius(linear, u)
            transports = bool(pde.nonlinear(u, lines.calculus).any())
            linear_carries = _is_skew(linear, u)
        else:
            scaled = max_speed * u.clamp(-1.0, 1.0)

            def linear(v: Tensor) -> Tensor:
                return torch.func.jvp(lines.rate, (scaled,), (v,))[1]

            stiff, transports, linear_carries = spectral_radius(linear, u), False, True
    # Largest modified wavenumber of the central first difference times dx: 1 at order 2, 1.372 at order 4.
    top = 1.0 if accuracy == 2 else 1.372
    carried = top * max_speed * sum(1.0 / h for h in grid.spacing) if transports else 0.0
    if linear_carries:
        # Eigenvalues of the linear part may lie anywhere: bound them as if on the imaginary axis.
        return 0.0, carried + 1.05 * stiff
    return 1.05 * stiff, carried


def _is_skew(linear: Callable[[Tensor], Tensor], u: Tensor) -> bool:
    """Whether a linear operator damps a random state by less than half of what it does to it."""
    image = linear(u)
    size = float(image.norm() * u.norm())
    return size > 0 and float((u * image).sum()) > -0.5 * size


def _takes_conditions(pde: PDE, domain: Domain) -> bool:
    """Whether the method for an equation on a domain knows what enters and moves at sides."""
    if isinstance(domain, Mesh):
        return isinstance(pde, ConservationLaw)
    waves = isinstance(pde, (Acoustics, AcousticScattering, MaxwellEquations))
    known = isinstance(pde, (ConservationLaw, NavierStokes, Boussinesq)) and not waves
    return known and isinstance(domain, Grid) and domain.centering == "cell"


def _staggered(
    pde: NavierStokes | Boussinesq,
    grid: Grid,
    dt: float,
    substeps: int | None,
    conditions: Conditions | None,
) -> Solver:
    from sciml.solvers.incompressible import incompressible

    try:
        step = incompressible(pde, grid, dt, conditions=conditions, substeps=substeps)
    except ValueError as error:
        raise UserError(str(error)) from error
    viscous = "implicit, as explicit steps would have to be far shorter" if step.implicit else "explicit"
    reason = (
        f"{type(pde).__name__} on cells: velocities on their faces keep the flow free of divergence to rounding, also "
        f"between walls; viscosity is {viscous}."
    )
    return Solver(step, substeps, step.method, reason)


def _finite_elements(pde: PDE, mesh: Mesh, dt: float, substeps: int | None) -> Solver:
    require("skfem", extra="fem", purpose="build on a Mesh")
    from sciml.solvers.finite_element import p1_step

    count = 1 if substeps is None else substeps
    try:
        step = p1_step(pde, mesh, dt, substeps=count)
    except TypeError as error:
        raise UserError(str(error)) from error
    reason = (
        f"{type(pde).__name__} on a mesh: implicit finite elements are stable for any step; {count} substep(s)"
        f"{' were asked for' if substeps is not None else ''}."
    )
    return Solver(step, count, step.method, reason)
