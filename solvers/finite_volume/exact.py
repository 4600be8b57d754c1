"""Exact solutions of Riemann problems: of an ideal gas, and of scalar laws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.pdes.scalar_law import ScalarLaw


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
# Toro's tests 2 and 3 (2009, table 4.1): near vacuum between two fans, and a shock of Mach number 198.
DOUBLE_RAREFACTION = ShockTube((1.0, -2.0, 0.4), (1.0, 2.0, 0.4), time=0.15)
STRONG_BLAST = ShockTube((1.0, 0.0, 1000.0), (1.0, 0.0, 0.01), time=0.012)


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


def exact_scalar_riemann(
    law: ScalarLaw, left: float, right: float, x_over_t: Tensor, axis: int = 0
) -> Tensor:
    """The entropy solution of a scalar Riemann problem, in float64, for any flux of one's own.

    Args:
        law: with one value for each parameter.
        left: u on the left.
        right: u on the right.
        x_over_t: rays along the axis on which the solution is wanted, any shape.
        axis: the axis along which the states differ; its direction scales the flux.

    Returns u on the rays. Where left is below right it is the u between them at which n f(u) - (x/t) u is
    least, and largest otherwise: found among 4097 values and refined by bisection of its derivative. Osher,
    SIAM J. Numer. Anal. 21 (1984), equation 1.14.
    """
    ray = x_over_t.to(torch.float64)
    low, high = min(left, right), max(left, right)
    sign = 1.0 if left <= right else -1.0
    values = torch.linspace(low, high, 4097, dtype=torch.float64, device=ray.device)
    dimension = axis + 1 if isinstance(law.direction, (int, float)) else len(law.direction)

    def wide(u: Tensor) -> Tensor:
        return u.reshape(1, 1, -1)

    n = float(torch.as_tensor(law.along(axis, dimension, wide(values))))
    with torch.no_grad():
        flows = n * law.flow(wide(values)).flatten()
        rays = ray.flatten()
        best = torch.empty(len(rays), dtype=torch.long, device=ray.device)
        for chunk in torch.arange(len(rays), device=ray.device).split(512):
            best[chunk] = (sign * (flows - rays[chunk, None] * values)).argmin(dim=1)
        a, b = values[(best - 1).clamp(min=0)], values[(best + 1).clamp(max=4096)]
        for _ in range(60):
            middle = 0.5 * (a + b)
            falling = sign * (n * law.speed(wide(middle)).flatten() - rays) < 0
            a, b = torch.where(falling, middle, a), torch.where(falling, b, middle)
        u = 0.5 * (a + b)
        candidates = torch.stack((u, values[best]))
        scores = sign * (n * law.flow(wide(candidates)).reshape(2, -1) - rays * candidates)
        u = torch.where(scores[0] <= scores[1], candidates[0], candidates[1])
    return u.reshape(ray.shape)


def viscous_shock(x: Tensor, *, mach: float, viscosity: float, gamma: float = 1.4) -> Tensor:
    """A steady shock of a viscous gas with longitudinal Prandtl number 1: density, velocity and pressure.

    Gas of density 1 and pressure 1 comes from the left at `mach` times its speed of sound, u > 0, and is slowed
    down around x = 0, where the velocity is the geometric mean of both ends. With Pr = 3/4 and no bulk
    viscosity (`CompressibleNavierStokes(prandtl=0.75)`), or in general 4/3 mu + zeta = (gamma - 1) k / gamma,
    total enthalpy is uniform, and

        v v' = K (v - v0) (v - v1),   K = (gamma + 1) m / (2 gamma (4/3 mu + zeta)),   m = rho v,

    which integrates to x as a function of v. Becker, Z. Phys. 8 (1922); Morduchow and Libby, J. Aeronaut. Sci. 16
    (1949).

    Args:
        x: positions, any shape [length].
        mach: of the gas on the left, above 1.
        viscosity: mu + 3/4 zeta [Pa s].
        gamma: ratio of specific heats.

    Returns density, velocity and pressure (3, *x.shape) in float64.

    Raises:
        ValueError: the Mach number is not above 1 or the viscosity not above 0.
    """
    if not (mach > 1 and viscosity > 0):
        raise ValueError(
            f"viscous_shock got mach={mach} and viscosity={viscosity}; expected above 1 and above 0."
        )
    x = x.to(torch.float64)
    fast = mach * gamma**0.5
    slow = fast * ((gamma - 1) * mach**2 + 2) / ((gamma + 1) * mach**2)
    steepness = (gamma + 1) * fast / (2 * gamma * (4 / 3 * viscosity))
    enthalpy = gamma / (gamma - 1) + 0.5 * fast**2
    width = fast - slow
    middle = (fast * slow) ** 0.5

    def place(share: Tensor) -> Tensor:
        """steepness x where the velocity is slow + width / (1 + exp(share)), which resolves both ends."""
        upper, lower = torch.nn.functional.softplus(-share), torch.nn.functional.softplus(share)
        return (slow * lower - fast * upper) / width

    centre = torch.tensor((fast - middle) / (middle - slow), dtype=torch.float64).log()
    wanted = steepness * x + place(centre)
    reach = wanted.abs() * width / slow + 60.0 * fast / slow
    low, high = -reach, reach
    for _ in range(200):
        share = 0.5 * (low + high)
        short = place(share) < wanted
        low, high = torch.where(short, share, low), torch.where(short, high, share)
    velocity = slow + width * torch.sigmoid(-0.5 * (low + high))
    density = fast / velocity
    pressure = (gamma - 1) / gamma * density * (enthalpy - 0.5 * velocity.square())
    return torch.stack((density, velocity, pressure))
