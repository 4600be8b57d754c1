"""Formulas of finite volumes for a gas, face by face, stated once for tensors and for compiled loops.

They are plain arithmetic and the functions named first, which are those of tensors here; `fused` gives them the
meaning of numbers in vector registers. Velocities along a face enter only by their kinetic energy per mass, so that
the same formulas hold in one to three dimensions.
"""

from __future__ import annotations

from typing import Any

import torch

# A tensor, or a vector of numbers inside a compiled loop.
Value = Any


def minimum(a: Value, b: Value) -> Value:
    """The smaller of a and b, of which b may be a number."""
    return torch.minimum(a, b) if isinstance(b, torch.Tensor) else torch.clamp(a, max=b)


def maximum(a: Value, b: Value) -> Value:
    """The larger of a and b, of which b may be a number."""
    return torch.maximum(a, b) if isinstance(b, torch.Tensor) else torch.clamp(a, min=b)


def where(condition: Value, a: Value, b: Value) -> Value:
    """a where the condition holds, else b."""
    return torch.where(condition, a, b)


def sqrt(a: Value) -> Value:
    """The square root."""
    return torch.sqrt(a)


def absolute(a: Value) -> Value:
    """The absolute value."""
    return torch.abs(a)


def half_slope(back: Value, ahead: Value) -> Value:
    """Half of the slope of a cell, from the jumps to the cells behind and ahead, monotonised central.

    The central difference, at most twice the one-sided ones, and zero at extrema: between zero and the smaller
    jump. Bounds of either sign are zero where the jumps differ in sign. van Leer (1977).
    """
    upper = maximum(minimum(back, ahead), 0.0)
    lower = minimum(maximum(back, ahead), 0.0)
    return minimum(maximum(0.25 * (back + ahead), lower), upper)


def weno_face(a: Value, b: Value, c: Value, d: Value, e: Value, tiny: Value) -> Value:
    """Value at the face between c and d, from the side of c.

    WENO-Z, Borges, Carmona, Costa and Don, J. Comput. Phys. 227 (2008), equations 28-31. `tiny` keeps flat data
    from dividing by zero.
    """
    x, y, z = a - 2.0 * b + c, b - 2.0 * c + d, c - 2.0 * d + e
    p, q, r = a - 4.0 * b + 3.0 * c, b - d, 3.0 * c - 4.0 * d + e
    b0 = (13 / 12) * (x * x) + 0.25 * (p * p)
    b1 = (13 / 12) * (y * y) + 0.25 * (q * q)
    b2 = (13 / 12) * (z * z) + 0.25 * (r * r)
    tau = absolute(b0 - b2)
    f, g, h = tau / (b0 + tiny), tau / (b1 + tiny), tau / (b2 + tiny)
    w0, w1, w2 = 0.1 * (1.0 + f * f), 0.6 * (1.0 + g * g), 0.3 * (1.0 + h * h)
    q0 = 2.0 * a - 7.0 * b + 11.0 * c
    q1 = 5.0 * c - b + 2.0 * d
    q2 = 2.0 * c + 5.0 * d - e
    return (w0 * q0 + w1 * q1 + w2 * q2) / (6.0 * (w0 + w1 + w2))


def energy_of(capacity: Value, r: Value, u: Value, k: Value, p: Value) -> Value:
    """Total energy from density, normal velocity, kinetic energy per mass of the others, and pressure.

    `capacity` is 1/(gamma - 1).
    """
    return p * capacity + r * (0.5 * (u * u) + k)


def davis_bounds(gamma: Value, tl: Value, ul: Value, tr: Value, ur: Value) -> tuple[Value, Value]:
    """Slowest and fastest wave between two states of velocity u and t = p/r.

    Davis, SIAM J. Sci. Stat. Comput. 9 (1988), section 3.
    """
    cl, cr = sqrt(gamma * tl), sqrt(gamma * tr)
    return minimum(ul - cl, ur - cr), maximum(ul + cl, ur + cr)


def rusanov_bounds(gamma: Value, tl: Value, ul: Value, tr: Value, ur: Value) -> tuple[Value, Value]:
    """The fastest wave of either state, both ways: with it `fan_weights` give the local Lax-Friedrichs flux."""
    cl, cr = sqrt(gamma * tl), sqrt(gamma * tr)
    speed = maximum(absolute(ul) + cl, absolute(ur) + cr)
    return -speed, speed


def fan_weights(slow: Value, fast: Value) -> tuple[Value, Value, Value]:
    """Weights of the flux from the left, from the right, and of the jump, between two waves.

    Harten, Lax and van Leer, SIAM Review 25 (1983); Toro (2009), equation 10.21.
    """
    slow, fast = minimum(slow, 0.0), maximum(fast, 0.0)
    width = fast - slow
    # Where nothing moves both fluxes are the same.
    share = fast / where(width > 0.0, width, 1.0)
    return share, 1.0 - share, slow * share


def hllc_flux(
    gamma: Value,
    capacity: Value,
    rl: Value,
    ul: Value,
    kl: Value,
    pl: Value,
    tl: Value,
    rr: Value,
    ur: Value,
    kr: Value,
    pr: Value,
    tr: Value,
) -> tuple[Value, Value, Value, Value]:
    """Fluxes of mass, normal momentum and energy, and whether the face sees the gas of the left.

    Of the states density r, normal velocity u, kinetic energy per mass k of the others, pressure p and t = p/r.
    What moves along the face is carried by the mass, from the side that the face sees. Toro (2009), equations
    10.37-10.39, with Davis' speeds.
    """
    slow, fast = davis_bounds(gamma, tl, ul, tr, ur)
    ml, mr = rl * (slow - ul), rr * (fast - ur)
    contact = (pr - pl + ul * ml - ur * mr) / (ml - mr)
    from_left = contact > 0.0
    r, u = where(from_left, rl, rr), where(from_left, ul, ur)
    k, p = where(from_left, kl, kr), where(from_left, pl, pr)
    outer, t = where(from_left, slow, fast), where(from_left, tl, tr)
    # Behind a supersonic wave the star state does not reach the face: its part is switched off.
    reach = where(from_left, minimum(slow, 0.0), maximum(fast, 0.0))
    momentum, each = r * u, t * capacity + 0.5 * (u * u) + k
    near = 1.0 / (outer - contact)
    density = r * (outer - u) * near
    gain = density - r
    raised = (contact - u) * (density * contact + p * near)
    mass = momentum + reach * gain
    normal = u * momentum + p + reach * (density * contact - momentum)
    work = u * (r * each + p) + reach * (gain * each + raised)
    return mass, normal, work, from_left
