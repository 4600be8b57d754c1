"""Shallow water over a bed, with friction."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sciml.calculus.base import Calculus
from sciml.domains import Domain, Grid
from sciml.pdes.base import ConservationLaw, integral
from sciml.pdes.parameters import Parameter, check_parameter, fit, largest, smallest
from sciml.trajectory import Field


@dataclass(frozen=True)
class ShallowWater(ConservationLaw):
    """Water of depth h that moves with velocity v over a bed b, in one or two space axes.

        h_t + div(h v) = 0,
        (h v)_t + div(h v v + g h^2 / 2 I) = -g h grad b - (k + g n^2 |v| / h^(4/3)) h v.

    States are (B, 1 + D, *points): the depth h [m] and the discharge h v [m^2/s]. Dry places have h = 0 and
    no discharge. At rest the surface h + b is level wherever there is water.

    Args:
        gravity: g [m/s^2], above zero; a (B,) or (B, 1, ...) tensor gives each sample its own.
        bed: height b [m], one number, which changes nothing, or a field (1 or B, 1, *points): on grids of
            cells its averages over them. A tensor that requires gradients gets them.
        friction: linear drag k [1/time].
        manning: Manning's roughness n [s/m^(1/3)], 0.01 for glass to 0.15 for a wooded flood plain.

    Raises:
        ValueError: gravity is not above zero, a drag is below it, or the bed is no field or not finite.
    """

    gravity: Parameter = 9.81
    bed: Parameter = 0.0
    friction: Parameter = 0.0
    manning: Parameter = 0.0

    fields: ClassVar[tuple[Field, ...]] = (Field("depth", "m"), Field("discharge", "m^2/s", rank=1))
    dimensions: ClassVar[tuple[int, ...]] = (1, 2)
    isotropic: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_parameter("ShallowWater", "gravity", self.gravity)
        if smallest(self.gravity) <= 0:
            raise ValueError(
                f"ShallowWater got gravity={smallest(self.gravity):g}; expected above 0, such as 9.81. Without it there "
                "are no waves, and the system is not hyperbolic."
            )
        check_parameter("ShallowWater", "friction", self.friction, minimum=0.0)
        check_parameter("ShallowWater", "manning", self.manning, minimum=0.0)
        check_parameter("ShallowWater", "bed", self.bed)
        if isinstance(self.bed, Tensor) and self.bed.ndim and (self.bed.ndim < 3 or self.bed.shape[1] != 1):
            raise ValueError(
                f"ShallowWater got a bed of shape {tuple(self.bed.shape)}; expected a number, or a field "
                "(1, 1, *points) for all samples or (B, 1, *points) with one for each."
            )

    @property
    def is_flat(self) -> bool:
        """Whether the bed is one number."""
        return not isinstance(self.bed, Tensor) or self.bed.ndim == 0

    @property
    def has_friction(self) -> bool:
        """Whether anything slows the flow down."""
        drags = (self.friction, self.manning)
        return any(largest(d) > 0 or (isinstance(d, Tensor) and d.requires_grad) for d in drags)

    def velocity(self, u: Tensor, dry: float = 0.0) -> Tensor:
        """Velocity (B, D, *points) [m/s]; 0 where there is no water.

        Args:
            u: a state.
            dry: depth below which the quotient is damped, v = 2 h q / (h^2 + dry^2), because that of two
                roundings is no velocity [m]. Kurganov and Petrova, Commun. Math. Sci. 5 (2007), section 3.2,
                have a form with fourth powers.
        """
        depth, discharge = _split(u)
        square = depth.square()
        below = square + square.clamp(min=dry**2)
        wet = below > 0
        return torch.where(wet, 2.0 * depth * discharge / torch.where(wet, below, 1.0), 0.0)

    def celerity(self, depth: Tensor) -> Tensor:
        """Speed of small waves, sqrt(g h) [m/s]; its gradient is 0 where there is no water."""
        wet = depth > 1e-30  # the slope of a root has no bound, and 0 times infinity is no gradient
        root = torch.sqrt(fit(self.gravity, depth) * torch.where(wet, depth, 1.0))
        return torch.where(wet, root, 0.0 * depth)  # keeps NaN

    def pressure(self, depth: Tensor) -> Tensor:
        """Force of the water on a wall of unit width, over its density, g h^2 / 2 [m^3/s^2]."""
        return 0.5 * fit(self.gravity, depth) * depth.square()

    def flux(self, u: Tensor) -> Tensor:
        """Physical flux, (B, 1 + D, *points) -> (B, 1 + D, D, *points)."""
        depth, discharge = _split(u)
        velocity = self.velocity(u)
        dimension = discharge.shape[1]
        identity = torch.eye(dimension, dtype=u.dtype, device=u.device)
        identity = identity.reshape(1, dimension, dimension, *([1] * (u.ndim - 2)))
        carried = discharge.unsqueeze(2) * velocity.unsqueeze(1)
        return torch.cat(
            (discharge.unsqueeze(1), carried + self.pressure(depth).unsqueeze(1) * identity), dim=1
        )

    def max_speed(self, u: Tensor) -> Tensor:
        """|v_d| + sqrt(g h) along each axis, (B, 1 + D, *points) -> (B, D, *points) [m/s]."""
        return self.velocity(u).abs() + self.celerity(u[:, :1])

    def source(self, u: Tensor, calc: Calculus) -> Tensor | None:
        """Weight of the water along the bed, and drag; None without either.

        Raises:
            ValueError: the bed does not fit the state.
        """
        if self.is_flat and not self.has_friction:
            return None
        depth, discharge = _split(u)
        force = -self.drag(depth, discharge) * discharge
        if not self.is_flat:
            bed = self.bed_like(depth)
            force = force - fit(self.gravity, depth) * depth * calc.gradient(bed)[:, 0]
        return torch.cat((torch.zeros_like(depth), force), dim=1)

    def drag(self, depth: Tensor, discharge: Tensor) -> Tensor:
        """Rate at which friction slows the flow, (B, 1, *points) [1/time]."""
        speed = discharge.square().sum(dim=1, keepdim=True)
        wet = speed > 0
        speed = torch.where(wet, torch.where(wet, speed, 1.0).sqrt(), 0.0 * speed)
        return fit(self.friction, depth) + self.roughness(depth) * speed

    def roughness(self, depth: Tensor) -> Tensor:
        """Manning's g n^2 / h^(7/3), by which |h v| h v is multiplied [1/m^2]; 0 where there is no water."""
        wet = depth > 0
        power = torch.where(wet, depth, 1.0) ** (-7.0 / 3.0)
        coefficient = fit(self.gravity, depth) * fit(self.manning, depth) ** 2
        return torch.where(wet, coefficient * power, 0.0 * depth)

    def bed_like(self, depth: Tensor) -> Tensor:
        """The bed in the dtype of the depth (B, 1, *points), with its points.

        Raises:
            ValueError: it has other points, or neither one field nor one per sample.
        """
        bed = torch.as_tensor(self.bed, dtype=depth.dtype, device=depth.device)
        if self.is_flat:
            return bed.expand(1, 1, *depth.shape[2:])
        if bed.shape[2:] != depth.shape[2:] or bed.shape[0] not in (1, depth.shape[0]):
            raise ValueError(
                f"ShallowWater has a bed of shape {tuple(bed.shape)}, which does not fit a depth of shape "
                f"{tuple(depth.shape)}; expected (1, 1, *points) or one per sample, with the points of the grid."
            )
        return bed

    def surface(self, u: Tensor) -> Tensor:
        """Height of the surface h + b, (B, 1, *points) [m]; of the bed where it is dry."""
        depth = u[:, :1]
        return depth + self.bed_like(depth)

    def energy(self, u: Tensor, domain: Domain) -> Tensor:
        """Integral of h |v|^2 / 2 + g h (h / 2 + b), (B,) [m^3/s^2 m^D]; shocks and friction lessen it."""
        depth, discharge = _split(u)
        kinetic = 0.5 * (discharge * self.velocity(u)).sum(dim=1, keepdim=True)
        potential = fit(self.gravity, depth) * depth * (0.5 * depth + self.bed_like(depth))
        return integral(kinetic + potential, domain)[:, 0]

    def invariants(self, u: Tensor, domain: Domain) -> Mapping[str, Tensor]:
        """Total depth (B,) on periodic boxes and between walls, and on flat beds without friction the total
        discharge along axes without walls."""
        walled = [False] * domain.dimension
        if isinstance(domain, Grid):
            if any(side not in ("periodic", "wall") for pair in domain.sides for side in pair):
                return {}
            walled = ["wall" in pair for pair in domain.sides]
        totals = integral(u, domain)
        kept = {"total_depth": totals[:, 0]}
        if self.is_flat and not self.has_friction:
            names = self.channels(domain.dimension)[1:]
            kept |= {
                f"total_{name}": totals[:, 1 + axis] for axis, name in enumerate(names) if not walled[axis]
            }
        return kept

    def exact(self, x: Tensor, t: Tensor | float) -> Tensor:
        """A simple wave along the diagonal, over a flat bed without friction; it steepens.

        The wave speed c is 1 + sin(2 pi s) / 20 times that of still water of depth 1 where it starts, on
        s = sum_d x_d / 10, and the velocity 2 (c - sqrt(g)): the other Riemann invariant is uniform, so that
        states travel unchanged with v + c. It breaks at t = 10 / (0.3 pi sqrt(g D)), 3.4 and 2.4 where g is 9.81.

        Args:
            x: points (B, D, *points) of the box of side 10 [m].
            t: times before it breaks, broadcastable to (B, 1, *points).

        Returns (B, 1 + D, *points).

        Raises:
            ValueError: the bed is not flat, or there is friction.
        """
        if not self.is_flat or self.has_friction:
            raise ValueError(
                "ShallowWater.exact knows a wave over a flat bed without friction; this one has a bed or a drag."
            )
        dimension = x.shape[1]
        gravity = torch.as_tensor(fit(self.gravity, x), dtype=x.dtype, device=x.device)
        still = torch.sqrt(gravity)
        phase = 2.0 * math.pi / 10.0 * x.sum(dim=1, keepdim=True)
        number = 2.0 * math.pi / 10.0 * math.sqrt(dimension)
        # phase - number * t * (v + c), with v + c itself a function of where a state came from: Newton.
        start = phase - number * t * still
        for _ in range(12):
            speed = still * (1.0 + 0.15 * torch.sin(start))
            slope = 1.0 + number * t * still * 0.15 * torch.cos(start)
            start = start - (start - phase + number * t * speed) / slope
        celerity = still * (1.0 + 0.05 * torch.sin(start))
        depth = celerity.square() / gravity
        along = depth * 2.0 * (celerity - still) / math.sqrt(dimension)
        return torch.cat((depth, *[along] * dimension), dim=1)

    def exact_lengths(self, dimension: int) -> tuple[float, ...]:
        """Sides of the periodic box of `exact` [length]."""
        return (10.0,) * dimension


def _split(u: Tensor) -> tuple[Tensor, Tensor]:
    """Depth and discharge, with their channel axis."""
    if u.shape[1] not in (2, 3):
        raise ValueError(
            f"ShallowWater got {u.shape[1]} channels; expected depth and one or two discharges, (B, 1 + D, *points)."
        )
    return u[:, :1], u[:, 1:]
