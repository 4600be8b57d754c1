"""Scalar conservation laws with a flux of one's own."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from sciml.calculus.base import Calculus
from sciml.domains import Domain, Grid
from sciml.pdes.admissible import Limit
from sciml.pdes.base import ConservationLaw, integral
from sciml.pdes.parameters import Parameter, Velocity, check_velocity, component, fit, is_field
from sciml.trajectory import Field

# By how much of their distance finite volumes may leave the bounds before they step in.
_SLACK = 1e-3


@dataclass(frozen=True)
class ScalarLaw(ConservationLaw):
    """u_t + sum_d n_d d f(u)/dx_d = 0 for one conserved scalar u.

    A law of one's own states f in `flow` and f' in `speed`, and where they turn round:

        @dataclass(frozen=True)
        class Sedimentation(ScalarLaw):
            \"\"\"Particles of volume fraction u that hinder each other's fall, f(u) = w u (1 - u)^2.\"\"\"

            settling: float = 1.0                      # w [m/s], of one particle alone

            fields = (Field("fraction"),)
            bounds = (0.0, 1.0)                        # states outside are refused
            sonic_points = (1.0 / 3.0, 1.0)            # where f' = 0
            inflections = (2.0 / 3.0,)                 # where f'' = 0

            def flow(self, u):
                return self.settling * u * (1.0 - u) ** 2

            def speed(self, u):
                return self.settling * (1.0 - u) * (1.0 - 3.0 * u)

        step = finite_volume(Sedimentation(), grid, dt=0.1)

    `inflections` may be left out where f is convex or concave. Where it is not, speeds between two states
    exceed those of the states, and a solver that does not know them keeps jumps that must spread. With
    `sonic_points` the flux at each face is that of the exact Riemann solution; without (None) it is that of
    HLL. Steep slopes with diffusive fluxes may converge to a solution without entropy where f is neither convex
    nor concave: Kurganov, Petrova and Popov, SIAM J. Sci. Comput. 29 (2007); see the tests.

    Through a side "wall" nothing passes. Totals are kept on periodic boxes and between walls; extremes bound
    solutions in one dimension and, to the order of the scheme, in more.

    Args:
        direction: n, one number for all axes or one per axis, or a (B, D, 1, ...) tensor of one per sample.

    Raises:
        ValueError: the direction is not finite or is a field.
    """

    direction: Velocity = field(default=1.0, kw_only=True)

    fields: ClassVar[tuple[Field, ...]] = (Field("u"),)
    # Mean and amplitude of the sine that `exact` starts from.
    wave: ClassVar[tuple[float, float]] = (0.5, 0.1)

    def __post_init__(self) -> None:
        direction = check_velocity(type(self).__name__, self.direction)
        if is_field(direction):
            raise ValueError(
                f"{type(self).__name__} got a direction that differs from point to point; expected one per axis."
            )
        object.__setattr__(self, "direction", direction)

    @abstractmethod
    def flow(self, u: Tensor) -> Tensor:
        """f(u), what passes per time and area; point by point."""

    @abstractmethod
    def speed(self, u: Tensor) -> Tensor:
        """f'(u), the speed of small waves [length/time]; point by point."""

    @property
    def bounds(self) -> tuple[float, float]:
        """Between which values the law makes sense."""
        return -math.inf, math.inf

    @property
    def sonic_points(self) -> tuple[Parameter, ...] | None:
        """Values at which f' changes sign; None where nobody has said."""
        return None

    @property
    def inflections(self) -> tuple[Parameter, ...]:
        """Values at which f'' changes sign; none for convex and concave fluxes."""
        return ()

    def flux(self, u: Tensor, dimension: int | None = None) -> Tensor:
        """n f(u), (B, 1, *points) -> (B, 1, D, *points); D is that of the trailing axes or as given."""
        count = u.ndim - 2 if dimension is None else dimension
        flow = self.flow(u)
        return torch.stack([self.along(axis, count, u) * flow for axis in range(count)], dim=2)

    def along(self, axis: int, dimension: int, u: Tensor) -> Parameter:
        """The direction's component on one axis, ready to multiply u."""
        return component(self.direction, axis, dimension, u)

    def rhs(self, u: Tensor, calc: Calculus) -> Tensor:
        # At scattered points the number of trailing axes is not that of space.
        rate = -calc.div(self.flux(u, calc.dimension))
        source = self.source(u, calc)
        return rate if source is None else rate + source

    def max_speed(self, u: Tensor) -> Tensor:
        """|n_d f'(u)| along each axis, (B, 1, *points) -> (B, D, *points) [length/time]."""
        speed = self.speed(u)
        count = u.ndim - 2
        return torch.cat([(self.along(axis, count, u) * speed).abs() for axis in range(count)], dim=1)

    def wave_bounds(self, left: Tensor, right: Tensor, axis: int) -> tuple[Tensor, Tensor]:
        """Slowest and fastest speed along an axis of all states between two, each (B, 1, *faces)."""
        low, high = torch.minimum(left, right), torch.maximum(left, right)
        between = [clamped(as_tensor(v, left), low, high) for v in self.inflections]
        n = self.along(axis, left.ndim - 2, left)
        speeds = torch.stack([n * self.speed(v) for v in (left, right, *between)])
        return speeds.amin(dim=0), speeds.amax(dim=0)

    def admissible(self, u: Tensor) -> Tensor:
        """Where u is finite and within its bounds, or past them by a thousandth of their distance at most."""
        low, high = self._wide_bounds()
        return (u > low) & (u < high)

    def limits(self, u: Tensor) -> tuple[Limit, ...]:
        return (Limit(self.fields[0].name, u, *self._wide_bounds()),)

    def _wide_bounds(self) -> tuple[float, float]:
        low, high = self.bounds
        if math.isinf(low) or math.isinf(high):
            return low, high
        slack = _SLACK * (high - low)
        return low - slack, high + slack

    def invariants(self, u: Tensor, domain: Domain) -> Mapping[str, Tensor]:
        """The total (B,) on periodic boxes and between walls."""
        if isinstance(domain, Grid) and any(
            side not in ("periodic", "wall") for pair in domain.sides for side in pair
        ):
            return {}
        return {f"total_{self.fields[0].name}": integral(u, domain)[:, 0]}

    def exact(self, x: Tensor, t: Tensor | float) -> Tensor:
        """A sine along the diagonal that steepens, before it breaks, on a box of side 2 pi.

        Values travel on straight lines, u(x, t) = u0(s - sum(n) f'(u) t) with s = sum_d x_d and u0 a sine;
        the foot of each line is found by bisection. Differentiable once in x and t, not in the law's
        parameters.

        Args:
            x: points (B, D, *points).
            t: times, broadcastable to (B, 1, *points).

        Raises:
            ValueError: two lines have met by then.
        """
        mean, amplitude = self.wave
        dimension = x.shape[1]
        s = x.sum(dim=1, keepdim=True)
        total: Parameter = 0.0
        for axis in range(dimension):
            total = total + self.along(axis, dimension, s)
        reach = total * t + torch.zeros_like(s)

        def start(foot: Tensor) -> Tensor:
            return mean + amplitude * torch.sin(foot)

        feet = torch.linspace(0.0, 2 * math.pi, 257, dtype=s.dtype, device=s.device).reshape(1, 1, -1)
        speeds, steepening = self._steepening(start(feet), amplitude * torch.cos(feet))
        ends = torch.stack([steepening.amin(), steepening.amax()])
        if not bool((ends.reshape(-1, 1) * reach.detach().flatten()).min() > -0.999):
            raise ValueError(
                f"{type(self).__name__}.exact got times at which its wave has broken; take earlier ones."
            )
        with torch.no_grad():
            fastest = 1.01 * float(speeds.abs().max())
            low, high = s - reach.abs() * fastest - 1e-12, s + reach.abs() * fastest + 1e-12
            for _ in range(80):
                middle = 0.5 * (low + high)
                above = middle + reach * self.speed(start(middle)) > s
                low, high = torch.where(above, low, middle), torch.where(above, middle, high)
            foot = 0.5 * (low + high)
        spread = 1.0 + reach.detach() * self._steepening(start(foot), amplitude * torch.cos(foot))[1]
        # A step of Newton's method, which carries the derivatives in x and t.
        foot = foot - (foot + reach * self.speed(start(foot)) - s) / spread
        return start(foot)

    def _steepening(self, u: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
        """f'(u), and how fast it changes where u changes at a slope, without gradients of their own."""
        with torch.enable_grad():
            value = u.detach().requires_grad_()
            speed = self.speed(value)
            (curvature,) = torch.autograd.grad(speed.sum(), value)
        return speed.detach(), (curvature * slope).detach()

    def exact_lengths(self, dimension: int) -> tuple[float, ...]:
        """Sides of the periodic box of `exact` [length]."""
        return (2 * math.pi,) * dimension


def as_tensor(value: Parameter, u: Tensor) -> Tensor:
    """A value of u, or one per sample, as a tensor that broadcasts with u."""
    return torch.as_tensor(fit(value, u), dtype=u.dtype, device=u.device)


def clamped(value: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """`value` within low and high, to differentiate also where these are equal, as beside a limited slope.

    torch.clamp hands nothing back to bounds that are equal.
    """
    return torch.minimum(torch.maximum(value, low), high)
