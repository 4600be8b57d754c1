"""Numerical fluxes between two states."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from sciml.pdes.base import ConservationLaw
from sciml.pdes.euler import IdealGas
from sciml.pdes.magnetohydrodynamics import IdealMHD
from sciml.pdes.scalar_law import ScalarLaw, as_tensor, clamped
from sciml.solvers.finite_volume.formulas import fan_weights, hllc_flux
from sciml.solvers.finite_volume.hlld import hlld

RiemannName = Literal["auto", "rusanov", "hll", "hllc", "roe", "hlld", "exact"]


@runtime_checkable
class HasWaveBounds(Protocol):
    """A law that bounds the speeds of the waves between two states."""

    def wave_bounds(self, left: Tensor, right: Tensor, axis: int) -> tuple[Tensor, Tensor]:
        """Slowest and fastest along an axis, from conserved states (B, C, *faces), each (B, 1, *faces)."""
        ...


def rusanov(pde: ConservationLaw, left: Tensor, right: Tensor, axis: int) -> Tensor:
    """Local Lax-Friedrichs flux through faces normal to `axis`, for any conservation law.

    Conserved states (B, C, *faces) on either side -> flux (B, C, *faces). Robust, and more diffusive
    than HLLC at contacts. LeVeque, Finite Volume Methods for Hyperbolic Problems (2002), section 12.5.
    """
    mean = 0.5 * (pde.flux(left)[:, :, axis] + pde.flux(right)[:, :, axis])
    return mean - 0.5 * fastest(pde, left, right, axis) * (right - left)


def fastest(pde: ConservationLaw, left: Tensor, right: Tensor, axis: int) -> Tensor:
    """Speed of the fastest wave along an axis of two conserved states, (B, 1, *faces) [length/time]."""
    if isinstance(pde, ScalarLaw):  # between the states may lie faster waves than at them
        slow, fast = pde.wave_bounds(left, right, axis)
        return torch.maximum(-slow, fast)
    return torch.maximum(pde.max_speed(left), pde.max_speed(right))[:, axis : axis + 1]


def hllc(pde: IdealGas, left: Tensor, right: Tensor, axis: int) -> Tensor:
    """Three-wave flux of an ideal gas through faces normal to `axis`.

    Primitive states (B, D+2, *faces) on either side -> flux of the conserved variables. Keeps
    isolated contacts and shear waves exactly. Davis' wave speeds. Toro, Riemann Solvers and Numerical
    Methods for Fluid Dynamics (2009), equations 10.37-10.39.
    """
    normal = slice(1 + axis, 2 + axis)
    rl, ul, pl = left[:, :1], left[:, normal], left[:, -1:]
    rr, ur, pr = right[:, :1], right[:, normal], right[:, -1:]
    kl, kr = (
        (0.5 * w[:, 1:-1].square()).sum(1, keepdim=True) - 0.5 * w[:, normal].square()
        for w in (left, right)
    )
    mass, normal_flux, work, from_left = hllc_flux(
        pde.gamma, 1.0 / (pde.gamma - 1.0), rl, ul, kl, pl, pl / rl, rr, ur, kr, pr, pr / rr
    )
    # What moves along the face is carried by the mass.
    v = torch.where(from_left, left[:, 1:-1], right[:, 1:-1])
    return torch.cat((mass, mass * v[:, :axis], normal_flux, mass * v[:, axis + 1 :], work), dim=1)


def hll(pde: ConservationLaw, left: Tensor, right: Tensor, axis: int) -> Tensor:
    """Two-wave flux through faces normal to `axis`, for laws with `wave_bounds`.

    Conserved states (B, C, *faces) on either side -> flux. Smears contacts and shears like Rusanov's, but takes
    supersonic flow from upwind alone. Harten, Lax and van Leer, SIAM Review 25 (1983); Toro (2009), section 10.3.
    """
    assert isinstance(pde, HasWaveBounds)  # refused at the door otherwise
    slow, fast = pde.wave_bounds(left, right, axis)
    before, after, jump = fan_weights(slow, fast)
    from_left, from_right = (pde.flux(u)[:, :, axis] for u in (left, right))
    return before * from_left + after * from_right + jump * (right - left)


def roe(pde: IdealGas, left: Tensor, right: Tensor, axis: int) -> Tensor:
    """Flux of the linearised Riemann problem of an ideal gas through faces normal to `axis`.

    Primitive states (B, D+2, *faces) on either side -> flux of the conserved variables. Keeps isolated
    shocks, contacts and shears exactly. Sound waves that turn round inside a fan are spread by the entropy
    fix of Harten and Hyman, J. Comput. Phys. 50 (1983). In near vacuum the linearised states may have negative
    pressure. Toro (2009), sections 11.2 and 11.4.
    """
    normal = slice(1 + axis, 2 + axis)
    rl, vl, pl = left[:, :1], left[:, 1:-1], left[:, -1:]
    rr, vr, pr = right[:, :1], right[:, 1:-1], right[:, -1:]
    ul, ur = left[:, normal], right[:, normal]
    stiffness = pde.gamma - 1.0
    el = pl / stiffness + 0.5 * rl * vl.square().sum(1, keepdim=True)
    er = pr / stiffness + 0.5 * rr * vr.square().sum(1, keepdim=True)
    wl, wr = torch.sqrt(rl), torch.sqrt(rr)
    wl, wr = wl / (wl + wr), wr / (wl + wr)
    v = wl * vl + wr * vr
    u = v[:, axis : axis + 1]
    enthalpy = wl * (el + pl) / rl + wr * (er + pr) / rr
    half_square = 0.5 * v.square().sum(1, keepdim=True)
    square = stiffness * (enthalpy - half_square)
    c = torch.sqrt(square)
    density = torch.sqrt(rl * rr)

    def fixed(middle: Tensor, before: Tensor, after: Tensor) -> Tensor:
        """|speed| of a wave, at least by how much it changes across itself where it spreads."""
        spread = torch.maximum(middle - before, after - middle).clamp(min=0.0)
        return torch.maximum(middle.abs(), spread)

    cl, cr = torch.sqrt(pde.gamma * pl / rl), torch.sqrt(pde.gamma * pr / rr)
    jump_p, jump_u = pr - pl, ur - ul
    down = fixed(u - c, ul - cl, ur - cr) * (jump_p - density * c * jump_u) / (2.0 * square)
    up = fixed(u + c, ul + cl, ur + cr) * (jump_p + density * c * jump_u) / (2.0 * square)
    still = u.abs() * (rr - rl - jump_p / square)
    shear = u.abs() * density * (vr - vl)
    shear = torch.cat((shear[:, :axis], torch.zeros_like(u), shear[:, axis + 1 :]), dim=1)
    lost_mass = down + up + still
    push = c * (up - down)
    lost_momentum = v * lost_mass + shear
    lost_momentum = torch.cat(
        (
            lost_momentum[:, :axis],
            lost_momentum[:, axis : axis + 1] + push,
            lost_momentum[:, axis + 1 :],
        ),
        dim=1,
    )
    lost_energy = enthalpy * (down + up) + u * push + half_square * still + (v * shear).sum(1, keepdim=True)

    def flux(r: Tensor, w: Tensor, p: Tensor, e: Tensor, speed: Tensor) -> Tensor:
        momentum = r * speed * w
        momentum = torch.cat(
            (momentum[:, :axis], momentum[:, axis : axis + 1] + p, momentum[:, axis + 1 :]), dim=1
        )
        return torch.cat((r * speed, momentum, speed * (e + p)), dim=1)

    lost = torch.cat((lost_mass, lost_momentum, lost_energy), dim=1)
    return 0.5 * (flux(rl, vl, pl, el, ul) + flux(rr, vr, pr, er, ur) - lost)


def upwind(pde: ScalarLaw, left: Tensor, right: Tensor, axis: int) -> Tensor:
    """Flux of the exact solution of a scalar Riemann problem, for laws with `sonic_points`.

    States (B, 1, *faces) on either side -> flux: the least flux between them where left is below right, the
    largest otherwise. LeVeque (2002), equation 12.4; Osher, SIAM J. Numer. Anal. 21 (1984).
    """
    points = pde.sonic_points
    assert points is not None  # refused at the door otherwise
    low, high = torch.minimum(left, right), torch.maximum(left, right)
    between = [clamped(as_tensor(v, left), low, high) for v in points]
    flows = torch.stack([pde.along(axis, left.ndim - 2, v) * pde.flow(v) for v in (left, right, *between)])
    return torch.where(left <= right, flows.amin(dim=0), flows.amax(dim=0))


@dataclass(frozen=True)
class Riemann:
    """A numerical flux and what it is given.

    Args:
        flux: (law, left, right, axis) -> flux through the faces.
        primitive: whether the states are primitive variables rather than conserved ones.
    """

    flux: Callable[..., Tensor]
    primitive: bool = False


RIEMANN = {
    "rusanov": Riemann(rusanov),
    "hll": Riemann(hll),
    "hllc": Riemann(hllc, primitive=True),
    "roe": Riemann(roe, primitive=True),
    "hlld": Riemann(hlld, primitive=True),
    "exact": Riemann(upwind),
}


def choose_riemann(pde: ConservationLaw, name: RiemannName, asker: str) -> str:
    """The Riemann solver for a law.

    Args:
        pde: the law.
        name: what was asked for.
        asker: who got it, for the message.

    Raises:
        ValueError: the solver does not know the law.
    """
    gas = isinstance(pde, IdealGas)
    exact = isinstance(pde, ScalarLaw) and pde.sonic_points is not None
    if name == "auto" and isinstance(pde, IdealMHD):
        return "hlld"
    if name == "auto":
        # Of scalar laws HLL takes from upwind alone what moves one way.
        return "hllc" if gas else "exact" if exact else "hll" if isinstance(pde, ScalarLaw) else "rusanov"
    law, use = type(pde).__name__, "Use riemann='rusanov'."
    if name in ("hllc", "roe") and not gas:
        raise ValueError(
            f"{asker} got riemann={name!r} for {law}; it knows the waves of ideal gases alone. {use}"
        )
    if name == "hlld" and not isinstance(pde, IdealMHD):
        raise ValueError(
            f"{asker} got riemann='hlld' for {law}; it knows the waves of IdealMHD alone. {use}"
        )
    if name == "exact" and not exact:
        raise ValueError(
            f"{asker} got riemann='exact' for {law}; that is for scalar laws that state their sonic_points. {use}"
        )
    if name == "hll" and not isinstance(pde, HasWaveBounds):
        raise ValueError(f"{asker} got riemann='hll' for {law}, which states no wave_bounds. {use}")
    return name
