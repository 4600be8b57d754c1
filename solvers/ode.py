"""Choose a sound integrator for a system of ordinary differential equations."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sciml.domains import Domain, Point
from sciml.errors import UserError
from sciml.odes.base import ODE, Hamiltonian, Separable
from sciml.pdes.base import PDE, Elliptic
from sciml.solvers.build import Solver
from sciml.solvers.time.adaptive import AdaptiveSolution, adaptive_rk
from sciml.solvers.time.composition import SINGLE, SUZUKI4, YOSHIDA6, Composition
from sciml.solvers.time.explicit import explicit_rk
from sciml.solvers.time.implicit_midpoint import implicit_midpoint
from sciml.solvers.time.symplectic import symplectic
from sciml.solvers.time.tableau import DOPRI5, EULER, HEUN, RK3, RK4, Tableau

TOLERANCE = 1e-10

_EXPLICIT: dict[int, Tableau] = {1: EULER, 2: HEUN, 3: RK3, 4: RK4, 5: DOPRI5}
_COMPOSED: dict[int, Composition] = {1: SINGLE, 2: SINGLE, 3: SUZUKI4, 4: SUZUKI4, 5: YOSHIDA6, 6: YOSHIDA6}
# h times the largest rate of the motion. The energy then oscillates by 4e-4, 1e-6 and 7e-9 of itself (orders 2,
# 4 and 6) for Henon-Heiles, by 1e-3, 2e-5 and 6e-6 for the double pendulum, whose rate grows as it tumbles.
_RESOLVED = {2: 0.05, 4: 0.15, 6: 0.15}


class ODEStep:
    """A Step for the states (B, C) of a system without space.

    Attributes:
        dt, domain, channels: as every Step; the domain is a `Point`.
        ode: the system.
        substeps: equal steps of the method inside one call, or None where a tolerance decides.
        method: the scheme in words.
    """

    def __init__(
        self, ode: ODE, dt: float, advance: Callable[[Tensor], Tensor], substeps: int | None, method: str
    ) -> None:
        self.ode, self.dt = ode, float(dt)
        self.domain: Domain = Point()
        self.channels = ode.channels()
        self.advance, self.substeps, self.method = advance, substeps, method

    def __call__(self, u: Tensor, /) -> Tensor:
        check_state(u, self.channels)
        return self.advance(u)

    def __repr__(self) -> str:
        return f"ODEStep({self.ode}, dt={self.dt}, {self.method})"


class AdaptiveStep(ODEStep):
    """An `ODEStep` whose inner steps follow a tolerance, with output at any times.

    A call forgets the steps of the one before, so that it depends on the state alone; `solve` does not
    start again at each time and is the cheaper way to a long record.
    """

    def __init__(self, ode: ODE, dt: float, tolerance: float) -> None:
        self.tolerance = tolerance
        super().__init__(
            ode,
            dt,
            lambda u: self.solve(u, (0.0, self.dt)).states[:, -1],
            None,
            f"Dormand-Prince 5(4), tolerance {tolerance:g}",
        )

    def solve(self, u: Tensor, times: Sequence[float]) -> AdaptiveSolution:
        """States at increasing times, of which the first is that of u: (B, C) -> (B, T, C)."""
        check_state(u, self.channels)
        return adaptive_rk(self.ode.rhs, u, times, rtol=self.tolerance, atol=self.tolerance)


def check_state(u: Tensor, channels: tuple[str, ...]) -> None:
    """Refuse what is not (B, C) in a real type."""
    if u.ndim != 2 or u.shape[1] != len(channels) or not u.is_floating_point():
        names = channels if len(channels) <= 6 else (*channels[:5], "...")
        raise ValueError(
            f"The solver got a state of shape {tuple(u.shape)} and type {u.dtype}; expected real (B, "
            f"{len(channels)}) with channels {names}."
        )


def build_ode(
    ode: ODE | PDE | Elliptic,
    domain: Domain,
    dt: float,
    *,
    order: int = 4,
    substeps: int | None = None,
    tolerance: float | None = None,
) -> Solver:
    """An integrator of a system as a Step of `dt`.

    - a Hamiltonian system: symplectic steps of order 2, 4 or 6 (the next even one), kicks and drifts where H
      separates, else the implicit midpoint rule and its compositions; as many as the fastest motion of
      states of the usual size asks for, or `substeps`.
    - any other with `substeps`: equal steps of an explicit Runge-Kutta method of the order, 1 to 5.
    - any other, or any with `tolerance`: Dormand-Prince 5(4), whose steps follow the tolerance.

    Args:
        ode: the system.
        domain: `Point()`.
        dt: time of one Step [time].
        order: in time; where a tolerance decides it is 5.
        substeps: equal inner steps of one Step.
        tolerance: relative and absolute error of an inner step; 1e-10 where nothing is said.

    Raises:
        UserError: no system, another domain, both substeps and tolerance, or a number out of range.
    """
    name = type(ode).__name__
    if not isinstance(ode, ODE):
        raise UserError(
            f"build got {name} on a Point; expected a system without space, such as Lorenz63()."
        )
    if not isinstance(domain, Point):
        raise UserError(f"build got {name} on a {type(domain).__name__}; it has no space. Use Point().")
    if not (isinstance(dt, (int, float)) and math.isfinite(dt) and dt > 0):
        raise UserError(f"build got dt={dt}; expected a positive time.")
    if substeps is not None and substeps < 1:
        raise UserError(f"build got substeps={substeps}; expected at least 1, or None to choose.")
    if tolerance is not None and not 0 < tolerance < 1:
        raise UserError(f"build got tolerance={tolerance}; expected a number between 0 and 1.")
    if substeps is not None and tolerance is not None:
        raise UserError(
            f"build got substeps={substeps} and tolerance={tolerance:g}; equal steps and steps that follow a "
            "tolerance exclude each other. Leave one out."
        )
    if tolerance is None and isinstance(ode, Hamiltonian):
        return _symplectic(ode, dt, order, substeps)
    if substeps is not None:
        tableau = _EXPLICIT.get(order)
        if tableau is None:
            raise UserError(f"build got order={order} for {name}; expected one of {list(_EXPLICIT)}.")
        step = ODEStep(
            ode,
            dt,
            _repeated(explicit_rk(ode.rhs, dt / substeps, tableau), substeps),
            substeps,
            f"{tableau.name}, equal steps",
        )
        reason = (
            f"{name} with {substeps} equal substeps of {dt / substeps:.3g}, as asked for: the error is not "
            "controlled, and the same for every state."
        )
        return Solver(step, substeps, step.method, reason)
    adaptive = AdaptiveStep(ode, dt, TOLERANCE if tolerance is None else tolerance)
    if isinstance(ode, Hamiltonian):
        why = f"{name} is Hamiltonian, but a tolerance was asked for: errors are controlled, and the energy drifts"
    else:
        why = f"{name} has no structure for a method to keep, so that steps follow the error"
    reason = f"{why}; the worst sample of a batch decides for all."
    return Solver(adaptive, None, adaptive.method, reason)


def _symplectic(ode: Hamiltonian, dt: float, order: int, substeps: int | None) -> Solver:
    name = type(ode).__name__
    scheme = _COMPOSED.get(order)
    if scheme is None:
        raise UserError(f"build got order={order} for {name}; expected one of {list(_COMPOSED)}.")
    rate = fastest_rate(ode)
    limit = _RESOLVED[scheme.order]
    count = max(1, math.ceil(dt * rate / limit * (1 - 1e-12))) if substeps is None else substeps
    suffix = "" if scheme is SINGLE else f", {scheme.name}"
    if isinstance(ode, Separable):
        advance = symplectic(ode.velocity, ode.force, dt, scheme, substeps=count)
        method, what = (
            f"velocity Verlet{suffix}",
            "a separable Hamiltonian, for which kicks and drifts are explicit",
        )
        reach = scheme.stability_limit()
    else:
        advance = implicit_midpoint(ode.rhs, dt, scheme, substeps=count)
        method, what = f"implicit midpoint{suffix}", "Hamiltonian without being separable"
        reach = math.inf
    h = dt / count * rate
    if substeps is None:
        asked = f"keep h * rate <= {limit:g}"
    else:
        asked = "were asked for" + (
            "" if h <= reach else f", beyond the limit {reach / rate:.3g}: it blows up"
        )
    reason = (
        f"{name} is {what}; symplectic steps keep its energy within bounds for long times. {count} substeps "
        f"{asked}, with the rate {rate:.3g} of the fastest motion seen."
    )
    step = ODEStep(ode, dt, advance, count, method)
    return Solver(step, count, method, reason)


def _repeated(step: Callable[[Tensor], Tensor], times: int) -> Callable[[Tensor], Tensor]:
    def repeated(u: Tensor) -> Tensor:
        for _ in range(times):
            u = step(u)
        return u

    return repeated


def fastest_rate(ode: ODE, samples: int = 8) -> float:
    """Largest |eigenvalue| of the Jacobian of rhs along paths from states of the usual size, [1/time].

    Seen on 8 paths, or a path or more of each sample that has parameters of its own, over ten times the
    inverse rate of their starts: an estimate, not a bound.
    """
    own = max((len(p) for p in vars(ode).values() if isinstance(p, Tensor) and p.ndim), default=1)
    batch = samples if own == 1 else own  # parameters per sample fit batches of their own size only
    generator = torch.Generator().manual_seed(0)
    fastest = 0.0
    for _ in range(math.ceil(samples / batch)):
        u = ode.initial(batch, generator)
        start = _rates(ode, u)
        fastest = max(fastest, start)
        if start == 0.0:
            continue
        with torch.no_grad():
            times = torch.linspace(0.0, 10.0 / start, 21, dtype=torch.float64).tolist()
            path = adaptive_rk(ode.rhs, u, times, rtol=1e-4, atol=1e-6).states
        for frame in path[:, 1:].unbind(1):
            ended = ~torch.isfinite(frame).all(dim=1, keepdim=True)
            fastest = max(fastest, _rates(ode, torch.where(ended, u, frame)))
    return fastest


def _rates(ode: ODE, u: Tensor) -> float:
    pull = torch.func.vjp(ode.rhs, u)[1]
    unit = torch.eye(u.shape[1], dtype=u.dtype)
    jacobian = torch.stack([pull(row.expand_as(u))[0] for row in unit], dim=1).detach()
    return float(torch.linalg.eigvals(jacobian).abs().max())
