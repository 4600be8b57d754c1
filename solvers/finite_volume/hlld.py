"""The five-wave flux of magnetohydrodynamics."""

from __future__ import annotations

import torch
from torch import Tensor

from sciml.pdes.magnetohydrodynamics import IdealMHD, split
from sciml.pdes.parameters import fit


def hlld(pde: IdealMHD, left: Tensor, right: Tensor, axis: int) -> Tensor:
    """Flux of fast, Alfven and contact waves through faces normal to `axis`.

    Primitive states (B, 2 D + 3, *faces) on either side -> flux of the conserved variables. Keeps isolated contacts,
    tangential and rotational discontinuities exactly; smears slow waves. The normal field and psi between the states
    are those of their own two linear waves, of speed -c and c, and the others meet that field. Miyoshi and Kusano, J.
    Comput. Phys. 208 (2005), section 5; Dedner et al., J. Comput. Phys. 175 (2002), equation 42.

    The state that stands on the face is chosen and its flux taken: behind each wave the jump conditions hold, so that
    this is the flux of their sum, without the rounding of large terms that cancel.
    """
    dimension = split(left)[1].shape[1]
    others = [i for i in range(dimension) if i != axis]
    gamma = fit(pde.gamma, left)

    def parts(w: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Density, normal and other velocities, pressure, normal and other fields, psi."""
        density, velocity, pressure, magnetic, psi = split(w)
        n = slice(axis, axis + 1)
        return (
            density,
            velocity[:, n],
            velocity[:, others],
            pressure,
            magnetic[:, n],
            magnetic[:, others],
            psi,
        )

    (rl, ul, vl, pl, nl, bl, sl), (rr, ur, vr, pr, nr, br, sr) = parts(left), parts(right)
    c = torch.as_tensor(fit(pde.cleaning_speed, left), dtype=left.dtype, device=left.device)
    swift = torch.where(c > 0, c, 1.0)
    normal = 0.5 * (nl + nr) - torch.where(c > 0, 0.5 * (sr - sl) / swift, 0.0)
    psi = 0.5 * (sl + sr) - 0.5 * c * (nr - nl)
    square = normal.square()

    def fast(r: Tensor, p: Tensor, b: Tensor) -> Tensor:
        sound = torch.sqrt(gamma * p / r).square()
        along, across = square / r, b.square().sum(1, keepdim=True) / r
        root = (sound - along - across).square() + 4.0 * sound * across
        return torch.sqrt(0.5 * (sound + along + across + torch.sqrt(root.clamp(min=1e-30))))

    speed = torch.maximum(fast(rl, pl, bl), fast(rr, pr, br))
    slow, quick = torch.minimum(ul, ur) - speed, torch.maximum(ul, ur) + speed

    def dot(a: Tensor, b: Tensor) -> Tensor:
        return (a * b).sum(1, keepdim=True)

    def totals(r: Tensor, u: Tensor, v: Tensor, p: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """Total pressure and energy, with the normal field on the face."""
        magnetic = 0.5 * (square + dot(b, b))
        return p + magnetic, p / (gamma - 1.0) + 0.5 * r * (u.square() + dot(v, v)) + magnetic

    (ql, el), (qr, er) = totals(rl, ul, vl, pl, bl), totals(rr, ur, vr, pr, br)
    # Mass that crosses the fast waves.
    ml, mr = rl * (slow - ul), rr * (quick - ur)
    middle = (mr * ur - ml * ul - qr + ql) / (mr - ml)
    q = (mr * ql - ml * qr + ml * mr * (ur - ul)) / (mr - ml)
    tiny = torch.finfo(left.dtype).eps ** 0.5

    def behind_fast(
        m: Tensor, s: Tensor, u: Tensor, v: Tensor, p: Tensor, e: Tensor, b: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Density, other velocities, energy and other fields."""
        bend = m * (s - middle) - square
        # A field along the axis alone, on which the gas stands still: nothing bends.
        bends = bend.abs() > tiny * q.abs()
        safe = torch.where(bends, bend, 1.0)
        v1 = torch.where(bends, v - normal * b * (middle - u) / safe, v)
        b1 = torch.where(bends, b * (m * (s - u) - square) / safe, b)
        turned = normal * (u * normal + dot(v, b) - middle * normal - dot(v1, b1))
        e1 = ((s - u) * e - p * u + q * middle + turned) / (s - middle)
        return m / (s - middle), v1, e1, b1

    rl1, vl1, el1, bl1 = behind_fast(ml, slow, ul, vl, ql, el, bl)
    rr1, vr1, er1, br1 = behind_fast(mr, quick, ur, vr, qr, er, br)
    # Between the Alfven waves.
    wl, wr, sign = torch.sqrt(rl1), torch.sqrt(rr1), torch.sign(normal)
    v2 = (wl * vl1 + wr * vr1 + (br1 - bl1) * sign) / (wl + wr)
    b2 = (wl * br1 + wr * bl1 + wl * wr * (vr1 - vl1) * sign) / (wl + wr)
    work = dot(v2, b2)
    el2 = el1 - wl * (dot(vl1, bl1) - work) * sign
    er2 = er1 + wr * (dot(vr1, br1) - work) * sign
    states = (
        (rl, ul, vl, ql, el, bl),
        (rl1, middle, vl1, q, el1, bl1),
        (rl1, middle, v2, q, el2, b2),
        (rr1, middle, v2, q, er2, b2),
        (rr1, middle, vr1, q, er1, br1),
        (rr, ur, vr, qr, er, br),
    )
    waves = (slow, middle - normal.abs() / wl, middle, middle + normal.abs() / wr, quick)
    stacked = [torch.cat(state, dim=1) for state in states]
    chosen = stacked[-1]
    for wave, state in zip(waves[::-1], stacked[-2::-1], strict=True):
        chosen = torch.where(wave >= 0, state, chosen)

    d = dimension - 1
    r, u, v = chosen[:, :1], chosen[:, 1:2], chosen[:, 2 : 2 + d]
    total, e, b = chosen[:, 2 + d : 3 + d], chosen[:, 3 + d : 4 + d], chosen[:, 4 + d :]

    def vector(along: Tensor, across: Tensor) -> Tensor:
        return torch.cat((across[:, :axis], along, across[:, axis:]), dim=1)

    mass = r * u
    return torch.cat(
        (
            mass,
            vector(mass * u + total - square, mass * v - normal * b),
            (e + total) * u - normal * (u * normal + dot(v, b)),
            vector(psi, u * b - normal * v),
            c.square() * normal,
        ),
        dim=1,
    )
