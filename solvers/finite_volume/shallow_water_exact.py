"""Exact solutions of the shallow-water equations: Riemann problems, oscillating lakes, steady flow over a bump."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def dam_break(
    left: Sequence[float], right: Sequence[float], x_over_t: Tensor, gravity: float = 9.81
) -> Tensor:
    """Exact solution of the Riemann problem over a flat bed, wet or dry, in float64.

    Args:
        left: depth [m] and velocity [m/s] on the left; the depth may be 0 (Ritter's dam break).
        right: the same on the right.
        x_over_t: rays on which the solution is wanted, any shape [m/s].
        gravity: g [m/s^2].

    Returns depth and discharge, (2, *shape); dry where the two sides part so fast that the bed shows.

    Raises:
        ValueError: a depth is negative.

    Toro, Shock-Capturing Methods for Free-Surface Shallow Flows (2001), chapters 5 and 6; Stoker, Water Waves
    (1957), section 10.8.
    """
    ray = x_over_t.to(torch.float64)
    (hl, ul), (hr, ur) = ((float(h), float(u)) for h, u in (left, right))
    if hl < 0 or hr < 0:
        raise ValueError(f"dam_break got depths {hl:g} and {hr:g}; expected 0 or more.")
    cl, cr = math.sqrt(gravity * hl), math.sqrt(gravity * hr)

    def fan(side: int, u: float, c: float) -> tuple[Tensor, Tensor]:
        """Velocity and celerity on rays inside the fan into the side (-1 left, 1 right)."""
        celerity = ((2 * c - side * u + side * ray) / 3).clamp(min=0)
        return ray - side * celerity, celerity

    def pick(pieces: list[tuple[Tensor, tuple[Tensor, Tensor]]], last: tuple[Tensor, Tensor]) -> Tensor:
        depth, velocity = (torch.as_tensor(v, dtype=torch.float64) + 0 * ray for v in last)
        for where, (h, u) in reversed(pieces):
            depth, velocity = torch.where(where, h, depth), torch.where(where, u, velocity)
        return torch.stack((depth, depth * velocity))

    def constant(h: float, u: float) -> tuple[Tensor, Tensor]:
        return torch.full_like(ray, h), torch.full_like(ray, u)

    left_fan, right_fan = fan(-1, ul, cl), fan(1, ur, cr)
    left_inside = (left_fan[1].square() / gravity, left_fan[0])
    right_inside = (right_fan[1].square() / gravity, right_fan[0])
    if hl == 0 or hr == 0 or ul + 2 * cl <= ur - 2 * cr:  # a dry bed beside or between the sides
        pieces = []
        if hl > 0:
            pieces += [(ray < ul - cl, constant(hl, ul)), (ray < ul + 2 * cl, left_inside)]
        if hr > 0:
            pieces += [
                (ray < ur - 2 * cr, constant(0.0, 0.0)),
                (ray < ur + cr, right_inside),
                (ray >= ur + cr, constant(hr, ur)),
            ]
        return pick(pieces, constant(0.0, 0.0))

    def change(h: float, side: float, c: float) -> float:
        """Change of velocity across the wave that joins depth `side` to h."""
        if h <= side:
            return 2 * (math.sqrt(gravity * h) - c)
        return (h - side) * math.sqrt(gravity * (h + side) / (2 * h * side))

    low, high = 0.0, max(hl, hr)
    while change(high, hl, cl) + change(high, hr, cr) + ur - ul < 0:
        high *= 2
    for _ in range(200):
        middle = 0.5 * (low + high)
        if change(middle, hl, cl) + change(middle, hr, cr) + ur - ul > 0:
            high = middle
        else:
            low = middle
    h = 0.5 * (low + high)
    u = 0.5 * (ul + ur + change(h, hr, cr) - change(h, hl, cl))
    c = math.sqrt(gravity * h)
    star = constant(h, u)
    if h > hl:
        shock = ul - cl * math.sqrt(h * (h + hl) / (2 * hl * hl))
        pieces = [(ray < shock, constant(hl, ul))]
    else:
        pieces = [(ray < ul - cl, constant(hl, ul)), (ray < u - c, left_inside)]
    if h > hr:
        shock = ur + cr * math.sqrt(h * (h + hr) / (2 * hr * hr))
        pieces += [(ray < shock, star)]
    else:
        pieces += [(ray < u + c, star), (ray < ur + cr, right_inside)]
    return pick(pieces, constant(hr, ur))


def planar_oscillation(
    x: Tensor,
    t: float,
    *,
    depth: float = 0.5,
    radius: float = 1.0,
    swing: float = 0.5,
    gravity: float = 9.81,
) -> tuple[Tensor, Tensor]:
    """A lake in a paraboloid whose plane surface swings to and fro (1D) or goes round (2D).

    Args:
        x: points (D, *points), the lake's middle at the origin [m].
        t: time [s]; the period is 2 pi radius / sqrt(2 g depth).
        depth: of the still lake in its middle [m].
        radius: of the still lake's shore [m].
        swing: how far the water's middle moves [m].
        gravity: g [m/s^2].

    Returns the state (1 + D, *points) and the bed (1, *points), depth (|x|^2 / radius^2 - 1).

    Thacker, J. Fluid Mech. 107 (1981), section 4; Delestre et al., Int. J. Numer. Meth. Fluids 72 (2013),
    sections 4.2.1 and 4.2.2.
    """
    omega = math.sqrt(2 * gravity * depth) / radius
    phase = omega * t
    bed = depth * (x.square().sum(dim=0) / radius**2 - 1)
    # The circle of water moves as a rigid body along a circle of radius `swing` (a line in 1D).
    centre = (math.cos(phase), math.sin(phase))[: x.shape[0]]
    velocity = (-math.sin(phase), math.cos(phase))[: x.shape[0]]
    away = sum((xi - swing * ci).square() for xi, ci in zip(x, centre, strict=True))
    water = (depth * (1 - torch.as_tensor(away) / radius**2)).clamp(min=0)
    parts = [water, *[water * (swing * omega * v) for v in velocity]]
    return torch.stack(parts), bed.unsqueeze(0)


def paraboloid_oscillation(
    x: Tensor,
    t: float,
    *,
    depth: float = 0.1,
    radius: float = 1.0,
    rise: float = 0.28,
    gravity: float = 9.81,
) -> tuple[Tensor, Tensor]:
    """A lake in a paraboloid whose curved surface rises and falls in its middle, in 2D.

    Args:
        x: points (2, *points), the lake's middle at the origin [m].
        t: time [s]; the period is 2 pi radius / sqrt(8 g depth).
        depth: of the still lake in its middle [m].
        radius: of the still lake's shore [m].
        rise: 0 (still) to 1, by which the surface is curved: Thacker's A.
        gravity: g [m/s^2].

    Returns the state (3, *points) and the bed (1, *points), depth (|x|^2 / radius^2 - 1).

    Thacker (1981), section 5; Delestre et al. (2013), section 4.2.2.
    """
    omega = math.sqrt(8 * gravity * depth) / radius
    square = x.square().sum(dim=0)
    bed = depth * (square / radius**2 - 1)
    low = 1 - rise * math.cos(omega * t)
    root = math.sqrt(1 - rise**2)
    # h + b = depth (root / low - 1 - r^2 / radius^2 ((1 - A^2) / low^2 - 1)); the bed's r^2 cancels in h.
    water = (depth * (root / low - (1 - rise**2) / low**2 * square / radius**2)).clamp(min=0)
    stretch = 0.5 * omega * rise * math.sin(omega * t) / low
    return torch.stack((water, *(water * stretch * xi for xi in x))), bed.unsqueeze(0)


def transcritical_flow(bed: Tensor, discharge: float, gravity: float = 9.81) -> Tensor:
    """Depth of the steady flow without friction that turns supercritical on the top of a bump.

    Energy q^2 / (2 g h^2) + h + b is the same everywhere, and the flow critical where the bed is highest:
    deep before it and shallow after.

    Args:
        bed: heights (N,) along the flow, with one top [m].
        discharge: q [m^2/s].
        gravity: g [m/s^2].

    Returns depths (N,) in float64. Delestre et al. (2013), section 3.1.
    """
    b = bed.to(torch.float64)
    critical = (discharge**2 / gravity) ** (1 / 3)
    top = int(b.argmax())
    head = 1.5 * critical + b.max() - b  # q^2 / (2 g h^2) + h at each point
    before = torch.arange(len(b), device=b.device) < top
    low = torch.where(before, critical, 0.0 * b + 1e-12)
    high = torch.where(before, head, torch.full_like(b, critical))
    for _ in range(100):
        middle = 0.5 * (low + high)
        energy = discharge**2 / (2 * gravity * middle.square()) + middle
        # Energy grows with the depth on the deep branch and falls with it on the shallow one.
        deeper = torch.where(before, energy < head, energy > head)
        low, high = torch.where(deeper, middle, low), torch.where(deeper, high, middle)
    return 0.5 * (low + high)
