"""Ideal magnetohydrodynamics, with the divergence of the magnetic field carried away."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sciml.calculus.base import Calculus
from sciml.domains import Domain, Grid
from sciml.pdes.admissible import Limit
from sciml.pdes.base import ConservationLaw, integral
from sciml.pdes.parameters import Parameter, check_parameter, fit, largest, smallest
from sciml.trajectory import Field


@dataclass(frozen=True)
class IdealMHD(ConservationLaw):
    """A perfectly conducting gas with its magnetic field B, in two or three space axes.

    With velocity v = m / rho, pressure p = (gamma - 1) (E - rho |v|^2 / 2 - |B|^2 / 2) and q = p + |B|^2 / 2,

        rho_t + div m = 0,                      m_t + div(m v - B B + q I) = 0,
        E_t + div((E + q) v - B (v.B)) = 0,     B_t + div(B v - v B + psi I) = 0,
        psi_t + c^2 div B = -k psi.

    div B = 0 stays so in the exact flow, and psi = 0 then. Schemes make errors of div B; the cleaning of Dedner et
    al., J. Comput. Phys. 175 (2002), section 3, carries them away with speed c and damps them at the rate k. Every
    total is conserved all the same (psi's without damping).

    States are conserved variables (B, 2 D + 3, *points): density, D momenta, energy density, D components of B, psi;
    vectors have as many components as there are axes. The same places hold density, velocity, pressure, B and psi in
    the primitive variables. B is in units in which |B|^2 / 2 is a pressure (B / sqrt(mu0) in SI, B / sqrt(4 pi) in
    Gaussian units). A tube along one axis is solved on a strip of a few cells across.

    At a wall the normal component of B is mirrored to the other sign, as that of momentum is, and psi is not: no
    field passes through a perfect conductor that had none inside. A field that is frozen into the wall needs another
    condition.

    Args:
        gamma: ratio of specific heats, above 1.
        cleaning_speed: c [m/s]. Expected to be at least the fastest wave, max |v| + c_fast, as `max_speed` tells it
            of a state with a small c: then errors outrun the flow that makes them. Smaller ones are stable and clean
            less; larger ones shorten the time step. 0 leaves div B to itself.
        damping: k [1/s], not negative. Dedner et al. take c / 0.18 on boxes of unit length. It belongs to the equation
            because it is a number of the flow, not of the grid. With 0 the scheme alone damps psi: what varies from
            cell to cell, as errors at shocks do, but no long waves, such as those of a start with div B.

        Each may be a (B, 1, ...) tensor, which gives each sample its own.

    Where B^2 is a thousand times the pressure, this is a small difference of energies and div B pushes; cells that even
    first-order fluxes cannot keep positive become NaN.

    Raises:
        ValueError: a parameter is out of its range.
    """

    gamma: Parameter = 5.0 / 3.0
    cleaning_speed: Parameter = 3.0
    damping: Parameter = 0.0

    fields: ClassVar[tuple[Field, ...]] = (
        Field("density", "kg/m^3"),
        Field("momentum", "kg/(m^2 s)", rank=1),
        Field("energy", "J/m^3"),
        Field("magnetic", "Pa^(1/2)", rank=1),
        Field("cleaning", "Pa^(1/2) m/s"),
    )
    dimensions: ClassVar[tuple[int, ...]] = (2, 3)
    isotropic: ClassVar[bool] = True
    source_is_local: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_parameter("IdealMHD", "gamma", self.gamma)
        if smallest(self.gamma) <= 1.0:
            raise ValueError(
                f"IdealMHD got gamma={smallest(self.gamma)}; expected above 1, such as 5/3 for a plasma."
            )
        check_parameter("IdealMHD", "cleaning_speed", self.cleaning_speed, minimum=0.0)
        check_parameter("IdealMHD", "damping", self.damping, minimum=0.0)

    def primitive(self, u: Tensor) -> Tensor:
        """Density, velocity, pressure, B and psi of conserved variables, (B, 2 D + 3, *points) -> the same shape."""
        density, momentum, energy, magnetic, psi = split(u)
        velocity = momentum / density
        kinetic = (momentum * velocity).sum(1, keepdim=True)
        thermal = energy - 0.5 * (kinetic + magnetic.square().sum(1, keepdim=True))
        pressure = (fit(self.gamma, u) - 1.0) * thermal
        return torch.cat((density, velocity, pressure, magnetic, psi), dim=1)

    def conservative(self, w: Tensor) -> Tensor:
        """Conserved variables of density, velocity, pressure, B and psi, (B, 2 D + 3, *points) -> the same shape."""
        density, velocity, pressure, magnetic, psi = split(w)
        momentum = density * velocity
        squares = (momentum * velocity).sum(1, keepdim=True) + magnetic.square().sum(1, keepdim=True)
        energy = pressure / (fit(self.gamma, w) - 1.0) + 0.5 * squares
        return torch.cat((density, momentum, energy, magnetic, psi), dim=1)

    def pressure(self, u: Tensor) -> Tensor:
        """Pressure of the gas (B, 1, *points) [Pa], without that of the field."""
        return split(self.primitive(u))[2]

    def magnetic(self, u: Tensor) -> Tensor:
        """The magnetic field (B, D, *points) of a state."""
        return split(u)[3]

    def admissible(self, u: Tensor) -> Tensor:
        """Where density and pressure are positive and all is finite, (B, 1, *points) of bools."""
        density, momentum, energy, magnetic, psi = split(u)
        # Twice density times thermal energy, which needs no division; NaN and infinity fail.
        thermal = density * (2.0 * energy - magnetic.square().sum(1, keepdim=True))
        thermal = thermal - momentum.square().sum(1, keepdim=True)
        return (density > 0) & (thermal > 0) & (thermal < torch.inf) & (psi.abs() < torch.inf)

    def limits(self, u: Tensor) -> tuple[Limit, ...]:
        """Density and pressure, which are positive."""
        return Limit("density", u[:, :1]), Limit("pressure", self.pressure(u))

    def flux(self, u: Tensor) -> Tensor:
        """Physical flux, (B, 2 D + 3, *points) -> (B, 2 D + 3, D, *points)."""
        momentum, energy, magnetic, psi = split(u)[1:]
        density, velocity, pressure = split(self.primitive(u))[:3]
        dimension = velocity.shape[1]
        identity = torch.eye(dimension, dtype=u.dtype, device=u.device)
        identity = identity.reshape(1, dimension, dimension, *[1] * (u.ndim - 2))
        total = pressure + 0.5 * magnetic.square().sum(1, keepdim=True)

        def outer(a: Tensor, b: Tensor) -> Tensor:
            return a.unsqueeze(2) * b.unsqueeze(1)

        stress = outer(momentum, velocity) - outer(magnetic, magnetic) + total.unsqueeze(1) * identity
        work = (energy + total) * velocity - (velocity * magnetic).sum(1, keepdim=True) * magnetic
        induction = outer(magnetic, velocity) - outer(velocity, magnetic) + psi.unsqueeze(1) * identity
        cleaning = torch.as_tensor(fit(self.cleaning_speed, u)).square() * magnetic
        return torch.cat(
            (momentum.unsqueeze(1), stress, work.unsqueeze(1), induction, cleaning.unsqueeze(1)), dim=1
        )

    def source(self, u: Tensor, calc: Calculus) -> Tensor | None:
        """Damping of psi; None without. Point by point: the calculus is not used."""
        if largest(self.damping) == 0 and not _learns(self.damping):
            return None
        damped = -fit(self.damping, u) * u[:, -1:]
        rest = torch.zeros_like(u[:, :-1])
        return torch.cat((rest.expand(len(damped), *rest.shape[1:]), damped), dim=1)

    def source_rate(self, u: Tensor) -> Tensor | float:
        """Rate at which psi is damped [1/s]."""
        return fit(self.damping, u)

    def fast_speed(self, w: Tensor) -> Tensor:
        """Speed of fast magnetosonic waves along each axis, of primitive variables, (B, D, *points) [m/s].

        With sound a^2 = gamma p / rho and b = B / sqrt(rho), c^2 = (a^2 + b^2 + r) / 2 where
        r^2 = (a^2 + b^2)^2 - 4 a^2 b_d^2, written as a sum of squares here. NaN where p / rho < 0.
        """
        density, _, pressure, magnetic, _ = split(w)
        sound = torch.sqrt(fit(self.gamma, w) * pressure / density).square()
        alfven = magnetic.square() / density
        whole = alfven.sum(1, keepdim=True)
        root = (sound - whole).square() + 4.0 * sound * (whole - alfven)
        # Fast and slow waves are one where sound is as fast as a field along the axis; the slope of a root has no
        # bound there.
        return torch.sqrt(0.5 * (sound + whole + torch.sqrt(root.clamp(min=1e-30))))

    def max_speed(self, u: Tensor) -> Tensor:
        """The larger of |v_d| + c_fast and the cleaning speed along each axis, (B, 2 D + 3, *points) -> (B, D, *points)."""
        w = self.primitive(u)
        return torch.maximum(split(w)[1].abs() + self.fast_speed(w), self._cleaning(w))

    def wave_bounds(self, left: Tensor, right: Tensor, axis: int) -> tuple[Tensor, Tensor]:
        """Slowest and fastest signal along an axis between two conserved states, each (B, 1, *faces) [m/s].

        Davis' estimate: the fast waves of both states, and what carries div B. SIAM J. Sci. Stat. Comput. 9 (1988).
        """
        fast = self._cleaning(left)
        slow = -fast
        for u in (left, right):
            w = self.primitive(u)
            normal, speed = (v[:, axis : axis + 1] for v in (split(w)[1], self.fast_speed(w)))
            slow, fast = torch.minimum(slow, normal - speed), torch.maximum(fast, normal + speed)
        return slow, fast

    def _cleaning(self, u: Tensor) -> Tensor:
        """The cleaning speed as a tensor that fits u."""
        return torch.as_tensor(fit(self.cleaning_speed, u), dtype=u.dtype, device=u.device)

    def invariants(self, u: Tensor, domain: Domain) -> Mapping[str, Tensor]:
        """Totals (B,) of what the flow keeps on this domain, by channel name; that of B is the mean field.

        All of them on periodic boxes, psi without damping alone. A wall keeps all but momentum and field normal to it;
        a side through which the gas may leave keeps nothing.
        """
        dimension = domain.dimension
        names = self.channels(dimension)
        kept = [True] * len(names)
        kept[-1] = largest(self.damping) == 0
        if isinstance(domain, Grid):
            for axis, pair in enumerate(domain.sides):
                if "wall" in pair:
                    kept[1 + axis] = kept[2 + dimension + axis] = False
                if any(side not in ("periodic", "wall") for side in pair):
                    return {}
        totals = integral(u, domain)
        return {f"total_{name}": totals[:, i] for i, name in enumerate(names) if kept[i]}

    def scales(self, u: Tensor, domain: Domain) -> Mapping[str, Tensor]:
        """psi, which is zero in the exact flow, is measured by c |B|: of that size a psi changes B as fast as B itself."""
        weights = domain.weights(dtype=u.dtype, device=u.device) if hasattr(domain, "weights") else 1.0
        square = (
            self.magnetic(u).square().sum(1, keepdim=True) * self._cleaning(u).square() * weights
        ).flatten(1)
        return {"cleaning": square.sum(dim=1).sqrt()}

    def exact(self, x: Tensor, t: Tensor | float) -> Tensor:
        """A field at rest in a gas that moves with v = 1 along each axis, through which a density wave runs.

        In the frame of the gas nothing moves: forces balance. In 2D the field is that of the potential
        A = cos(k x) cos(k y) / (2 k), whose pull the pressure 1 + k^2 A^2 holds; in 3D that of Arnold, Beltrami and
        Childress, B = (sin k z + cos k y, sin k x + cos k z, sin k y + cos k x) / 4, which pulls nowhere, at pressure 1.
        The density is 1 + sin(k sum_d x_d) / 5, k = 2 pi.

        Args:
            x: points (B, D, *points), D 2 or 3.
            t: times, broadcastable to (B, 1, *points).

        Returns conserved variables (B, 2 D + 3, *points), with psi = 0.
        """
        dimension = x.shape[1]
        k = 2.0 * math.pi
        s = k * (x - t)
        cosine, sine = torch.cos(s), torch.sin(s)
        density = 1.0 + 0.2 * torch.sin(s.sum(dim=1, keepdim=True))
        ones = torch.ones_like(density)
        pressure = ones
        if dimension == 2:
            magnetic = 0.5 * torch.stack((-cosine[:, 0] * sine[:, 1], sine[:, 0] * cosine[:, 1]), dim=1)
            pressure = 1.0 + 0.25 * cosine.prod(dim=1, keepdim=True).square()
        elif dimension == 3:
            magnetic = 0.25 * (sine[:, [2, 0, 1]] + cosine[:, [1, 2, 0]])
        else:
            raise ValueError(f"IdealMHD.exact got points with {dimension} coordinates; expected 2 or 3.")
        w = torch.cat((density, *[ones] * dimension, pressure, magnetic, torch.zeros_like(ones)), dim=1)
        return self.conservative(w)

    def exact_lengths(self, dimension: int) -> tuple[float, ...]:
        """Sides of the periodic box of `exact` [length]."""
        return (1.0,) * dimension


def split(u: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Density, momentum, energy, magnetic field and psi of a state, or what stands in their places.

    Raises:
        ValueError: the channels are not those of two or three axes.
    """
    if u.shape[1] not in (7, 9):
        raise ValueError(
            f"IdealMHD got {u.shape[1]} channels; expected (B, 2 D + 3, *points) with D 2 or 3: density, D momenta, "
            "energy, D components of the magnetic field, and what cleans it."
        )
    d = (u.shape[1] - 3) // 2
    return u[:, :1], u[:, 1 : 1 + d], u[:, 1 + d : 2 + d], u[:, 2 + d : 2 + 2 * d], u[:, 2 + 2 * d :]


def _learns(value: Parameter) -> bool:
    return isinstance(value, Tensor) and value.requires_grad
