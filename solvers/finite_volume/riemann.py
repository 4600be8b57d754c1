"""Numerical fluxes between two states, and the exact solution of the Riemann problem of an ideal gas."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.pdes.base import ConservationLaw
from sciml.pdes.euler import CompressibleEuler


def rusanov(pde: ConservationLaw, left: Tensor, right: Tensor, axis: int) -> Tensor:
    """Local Lax-Friedrichs flux through faces normal to `axis`, for any conservation law.

    Conserved states (B, C, *faces) on either side -> flux (B, C, *faces). Robust, and more diffusive
    than HLLC at contacts. LeVeque, Finite Volume Methods for Hyperbolic Problems (2002), section 12.5.
    """
    speed = torch.maximum(pde.max_speed(left), pde.max_speed(right))[:, axis : axis + 1]
    mean = 0.5 * (pde.flux(left)[:, :, axis] + pde.flux(right)[:, :, axis])
    return mean - 0.5 * speed * (right - left)


def hllc(pde: CompressibleEuler, left: Tensor, right: Tensor, axis: int) -> Tensor:
    """Three-wave flux of an ideal gas through faces normal to `axis`.

    Primitive states (B, D+2, *faces) on either side -> flux of the conserved variables. Keeps
    isolated contacts and shear waves exactly. Davis' wave speeds. Toro, Riemann Solvers and Numerical
    Methods for Fluid Dynamics (2009), equations 10.37-10.39.
    """
    normal = slice(1 + axis, 2 + axis)
    rl, ul, pl = left[:, :1], left[:, normal], left[:, -1:]
    rr, ur, pr = right[:, :1], right[:, normal], right[:, -1:]
    cl, cr = torch.sqrt(pde.gamma * pl / rl), torch.sqrt(pde.gamma * pr / rr)
    slow = torch.minimum(ul - cl, ur - cr)
    fast = torch.maximum(ul + cl, ur + cr)
    ml, mr = rl * (slow - ul), rr * (fast - ur)
    contact = (pr - pl + ul * ml - ur * mr) / (ml - mr)

    from_left = contact > 0
    w = torch.where(from_left, left, right)
    r, u, p = w[:, :1], w[:, normal], w[:, -1:]
    outer = torch.where(from_left, slow, fast)
    # Behind a supersonic wave the star state does not reach the face: its part is switched off.
    reach = torch.where(from_left, slow.clamp(max=0.0), fast.clamp(min=0.0))
    before, after = w[:, 1 : 1 + axis], w[:, 2 + axis : -1]
    momentum = r * u
    energy = p / (pde.gamma - 1.0) + 0.5 * r * w[:, 1:-1].square().sum(1, keepdim=True)
    gap = outer - u
    density = r * gap / (outer - contact)
    excess = (contact - u) * (contact + p / (r * gap))
    mass = momentum + reach * (density - r)
    normal_flux = u * momentum + p + reach * (density * contact - momentum)
    energy_flux = u * (energy + p) + reach * (density * (energy / r + excess) - energy)
    # What moves along the face is carried by the mass.
    return torch.cat((mass, mass * before, normal_flux, mass * after, energy_flux), dim=1)


NumericalFlux = Callable[[ConservationLaw, Tensor, Tensor, int], Tensor]


@dataclass(frozen=True)
class ShockTube:
    """Two gases at rest or in motion beside each other: (density, velocity, pressure) on either side.

    `time` is when solutions are usually compared, on a box of unit length with the jump in its middle.
    """

    left: tuple[float, float, float]
    right: tuple[float, float, float]
    time: float

    def exact(self, x: Tensor, t: float, *, jump: float = 0.5, gamma: float = 1.4) -> Tensor:
        """Density, velocity and pressure (3, *x.shape) at positions x and time t >= 0."""
        x = x.to(torch.float64)
        if t > 0:
            return exact_riemann(self.left, self.right, (x - jump) / t, gamma)
        pairs = zip(self.left, self.right, strict=True)
        return torch.stack([torch.where(x < jump, a, b).to(torch.float64) for a, b in pairs])


SOD = ShockTube((1.0, 0.0, 1.0), (0.125, 0.0, 0.1), time=0.2)
LAX = ShockTube((0.445, 0.698, 3.528), (0.5, 0.0, 0.571), time=0.13)


def exact_riemann(
    left: Sequence[float] | Tensor,
    right: Sequence[float] | Tensor,
    x_over_t: Tensor,
    gamma: float = 1.4,
) -> Tensor:
    """Exact solution of the Riemann problem of an ideal gas, in float64.

    Args:
        left: density, velocity and pressure on the left, three numbers or tensors that broadcast
            with `x_over_t`.
        right: the same on the right.
        x_over_t: rays on which the solution is wanted, any shape.
        gamma: ratio of specific heats.

    Returns density, velocity and pressure, (3, *shape).

    Raises:
        ValueError: a density or pressure is not positive, or the gases part so fast that a vacuum
            opens between them.

    Toro (2009), chapter 4: the pressure between the waves by bisection, then the wave pattern.
    """
    ray = x_over_t.to(torch.float64)

    def entries(state: Sequence[float] | Tensor) -> list[Tensor]:
        return [torch.as_tensor(v, dtype=torch.float64, device=ray.device) for v in state]

    (rl, ul, pl), (rr, ur, pr) = entries(left), entries(right)
    if not all(bool((v > 0).all()) for v in (rl, pl, rr, pr)):
        raise ValueError("exact_riemann got a density or pressure that is not positive.")
    cl, cr = torch.sqrt(gamma * pl / rl), torch.sqrt(gamma * pr / rr)
    if bool((2 / (gamma - 1) * (cl + cr) <= ur - ul).any()):
        raise ValueError("exact_riemann got gases that part so fast that a vacuum opens between them.")
    power = (gamma - 1) / (2 * gamma)

    def curve(p: Tensor, r: Tensor, q: Tensor, c: Tensor) -> Tensor:
        """Change of velocity across the wave that joins pressure q to p: shock above, fan below."""
        shock = (p - q) * torch.sqrt(2 / ((gamma + 1) * r) / (p + (gamma - 1) / (gamma + 1) * q))
        return torch.where(p > q, shock, 2 * c / (gamma - 1) * ((p / q) ** power - 1))

    def mismatch(p: Tensor) -> Tensor:
        return curve(p, rl, pl, cl) + curve(p, rr, pr, cr) + ur - ul

    low = torch.zeros_like(pl + pr + ul + ur)
    high = torch.maximum(pl, pr) + low
    for _ in range(200):
        short = mismatch(high) < 0
        if not bool(short.any()):
            break
        high = torch.where(short, 2 * high, high)
    for _ in range(200):
        middle = 0.5 * (low + high)
        above = mismatch(middle) > 0
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    p = 0.5 * (low + high)
    u = 0.5 * (ul + ur + curve(p, rr, pr, cr) - curve(p, rl, pl, cl))

    def side(r: Tensor, v: Tensor, q: Tensor, c: Tensor, s: Tensor, middle: Tensor) -> list[Tensor]:
        """State on ray s to the left of the contact, in coordinates where v points right."""
        ratio = p / q
        k = (gamma - 1) / (gamma + 1)
        behind_shock = r * (ratio + k) / (k * ratio + 1)
        shock = v - c * torch.sqrt((gamma + 1) / (2 * gamma) * ratio + power)
        behind_fan = r * ratio ** (1 / gamma)
        head, tail = v - c, middle - c * ratio**power
        # Inside the fan; clamped because the power of a negative number outside of it is NaN.
        sound = (2 / (gamma + 1) + k / c * (v - s)).clamp(min=0)
        inside = (r * sound ** (2 / (gamma - 1)), 2 / (gamma + 1) * (c + (gamma - 1) / 2 * v + s))
        fan_pressure = q * sound ** (2 * gamma / (gamma - 1))
        is_shock = p > q
        outer = torch.where(is_shock, s < shock, s < head)
        star = is_shock | (s > tail)
        density = torch.where(star, torch.where(is_shock, behind_shock, behind_fan), inside[0])
        velocity = torch.where(star, middle, inside[1])
        pressure = torch.where(star, p, fan_pressure)
        pairs = ((r, density), (v, velocity), (q, pressure))
        return [torch.where(outer, a, b) for a, b in pairs]

    lefts = side(rl, ul, pl, cl, ray, u)
    rights = side(rr, -ur, pr, cr, -ray, -u)  # the mirror image
    rights[1] = -rights[1]
    return torch.stack([torch.where(ray < u, a, b) for a, b in zip(lefts, rights, strict=True)])
