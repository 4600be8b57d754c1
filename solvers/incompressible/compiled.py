"""Advection and friction on a staggered grid in compiled loops, in one pass over the data.

The same fluxes as `Rates.add_explicit` and `add_friction`, to rounding. Needs numba (the extra `compiled`), real
numbers and a processor's memory; records no derivatives.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from sciml.solvers.lanes.vector import kernel


@kernel
def _push_2d(new: Any, wide: Any, numbers: Any, hx: float, hy: float, h: float, scalar: bool) -> None:
    """new (B, C, N, M) + h rate of wide (B, C, N + 2, M + 2), in place."""
    samples, _, n, m = new.shape
    ax, ay = 0.25 * h / hx, 0.25 * h / hy
    for b in range(samples):
        nu, kappa = numbers[b, 0], numbers[b, 1]
        lift, rise = 0.5 * h * numbers[b, 2], 0.5 * h * numbers[b, 3]
        vx, vy = h * nu / hx**2, h * nu / hy**2
        for i in range(n):
            u0, u1, u2 = wide[b, 0, i], wide[b, 0, i + 1], wide[b, 0, i + 2]
            v0, v1, v2 = wide[b, 1, i], wide[b, 1, i + 1], wide[b, 1, i + 2]
            to_u, to_v = new[b, 0, i], new[b, 1, i]
            for j in range(m):
                k = j + 1
                east, west = u2[k] + u1[k], u1[k] + u0[k]
                north = (v1[k + 1] + v0[k + 1]) * (u1[k + 1] + u1[k])
                south = (v1[k] + v0[k]) * (u1[k] + u1[k - 1])
                bend = vx * (u2[k] - 2.0 * u1[k] + u0[k]) + vy * (u1[k + 1] - 2.0 * u1[k] + u1[k - 1])
                to_u[j] += bend - ax * (east * east - west * west) - ay * (north - south)
            for j in range(m):
                k = j + 1
                north, south = v1[k + 1] + v1[k], v1[k] + v1[k - 1]
                east = (u2[k] + u2[k - 1]) * (v2[k] + v1[k])
                west = (u1[k] + u1[k - 1]) * (v1[k] + v0[k])
                bend = vx * (v2[k] - 2.0 * v1[k] + v0[k]) + vy * (v1[k + 1] - 2.0 * v1[k] + v1[k - 1])
                to_v[j] += bend - ay * (north * north - south * south) - ax * (east - west)
            if scalar:
                s0, s1, s2 = wide[b, 2, i], wide[b, 2, i + 1], wide[b, 2, i + 2]
                to_s = new[b, 2, i]
                cx, cy = h * kappa / hx**2, h * kappa / hy**2
                for j in range(m):
                    k = j + 1
                    to_v[j] += lift * (s1[k] + s1[k - 1])
                    east, west = u2[k] * (s2[k] + s1[k]), u1[k] * (s1[k] + s0[k])
                    north, south = v1[k + 1] * (s1[k + 1] + s1[k]), v1[k] * (s1[k] + s1[k - 1])
                    bend = cx * (s2[k] - 2.0 * s1[k] + s0[k]) + cy * (s1[k + 1] - 2.0 * s1[k] + s1[k - 1])
                    to_s[j] += (
                        bend
                        - 2.0 * ax * (east - west)
                        - 2.0 * ay * (north - south)
                        - rise * (v1[k + 1] + v1[k])
                    )


@kernel
def _push_3d(
    new: Any, wide: Any, numbers: Any, hx: float, hy: float, hz: float, h: float, scalar: bool
) -> None:
    """new (B, C, N, M, L) + h rate of wide (B, C, N + 2, M + 2, L + 2), in place."""
    samples, _, n, m, length = new.shape
    ax, ay, az = 0.25 * h / hx, 0.25 * h / hy, 0.25 * h / hz
    for b in range(samples):
        nu, kappa = numbers[b, 0], numbers[b, 1]
        lift, rise = 0.5 * h * numbers[b, 2], 0.5 * h * numbers[b, 3]
        vx, vy, vz = h * nu / hx**2, h * nu / hy**2, h * nu / hz**2
        cx, cy, cz = h * kappa / hx**2, h * kappa / hy**2, h * kappa / hz**2
        for i in range(n):
            for j in range(m):
                # Rows of the cell (c), and of its neighbours west, east, south and north.
                uc, uw, ue = wide[b, 0, i + 1, j + 1], wide[b, 0, i, j + 1], wide[b, 0, i + 2, j + 1]
                us, un = wide[b, 0, i + 1, j], wide[b, 0, i + 1, j + 2]
                vc, vw, ve = wide[b, 1, i + 1, j + 1], wide[b, 1, i, j + 1], wide[b, 1, i + 2, j + 1]
                vs, vn = wide[b, 1, i + 1, j], wide[b, 1, i + 1, j + 2]
                wc, ww, we = wide[b, 2, i + 1, j + 1], wide[b, 2, i, j + 1], wide[b, 2, i + 2, j + 1]
                ws, wn = wide[b, 2, i + 1, j], wide[b, 2, i + 1, j + 2]
                # Velocities that carry across the far edges: south-east and north-west of the cell.
                use, vnw = wide[b, 0, i + 2, j], wide[b, 1, i, j + 2]
                to_u, to_v, to_w = new[b, 0, i, j], new[b, 1, i, j], new[b, 2, i, j]
                for q in range(length):
                    k = q + 1
                    x1, x0 = ue[k] + uc[k], uc[k] + uw[k]
                    y1 = (vn[k] + vnw[k]) * (un[k] + uc[k])
                    y0 = (vc[k] + vw[k]) * (uc[k] + us[k])
                    z1 = (wc[k + 1] + ww[k + 1]) * (uc[k + 1] + uc[k])
                    z0 = (wc[k] + ww[k]) * (uc[k] + uc[k - 1])
                    bend = vx * (ue[k] - 2.0 * uc[k] + uw[k]) + vy * (un[k] - 2.0 * uc[k] + us[k])
                    bend += vz * (uc[k + 1] - 2.0 * uc[k] + uc[k - 1])
                    to_u[q] += bend - ax * (x1 * x1 - x0 * x0) - ay * (y1 - y0) - az * (z1 - z0)
                for q in range(length):
                    k = q + 1
                    y1, y0 = vn[k] + vc[k], vc[k] + vs[k]
                    x1 = (ue[k] + use[k]) * (ve[k] + vc[k])
                    x0 = (uc[k] + us[k]) * (vc[k] + vw[k])
                    z1 = (wc[k + 1] + ws[k + 1]) * (vc[k + 1] + vc[k])
                    z0 = (wc[k] + ws[k]) * (vc[k] + vc[k - 1])
                    bend = vx * (ve[k] - 2.0 * vc[k] + vw[k]) + vy * (vn[k] - 2.0 * vc[k] + vs[k])
                    bend += vz * (vc[k + 1] - 2.0 * vc[k] + vc[k - 1])
                    to_v[q] += bend - ax * (x1 - x0) - ay * (y1 * y1 - y0 * y0) - az * (z1 - z0)
                for q in range(length):
                    k = q + 1
                    z1, z0 = wc[k + 1] + wc[k], wc[k] + wc[k - 1]
                    x1 = (ue[k] + ue[k - 1]) * (we[k] + wc[k])
                    x0 = (uc[k] + uc[k - 1]) * (wc[k] + ww[k])
                    y1 = (vn[k] + vn[k - 1]) * (wn[k] + wc[k])
                    y0 = (vc[k] + vc[k - 1]) * (wc[k] + ws[k])
                    bend = vx * (we[k] - 2.0 * wc[k] + ww[k]) + vy * (wn[k] - 2.0 * wc[k] + ws[k])
                    bend += vz * (wc[k + 1] - 2.0 * wc[k] + wc[k - 1])
                    to_w[q] += bend - ax * (x1 - x0) - ay * (y1 - y0) - az * (z1 * z1 - z0 * z0)
                if scalar:
                    sc, sw, se = wide[b, 3, i + 1, j + 1], wide[b, 3, i, j + 1], wide[b, 3, i + 2, j + 1]
                    ss, sn = wide[b, 3, i + 1, j], wide[b, 3, i + 1, j + 2]
                    to_s = new[b, 3, i, j]
                    for q in range(length):
                        k = q + 1
                        to_w[q] += lift * (sc[k] + sc[k - 1])
                        x1, x0 = ue[k] * (se[k] + sc[k]), uc[k] * (sc[k] + sw[k])
                        y1, y0 = vn[k] * (sn[k] + sc[k]), vc[k] * (sc[k] + ss[k])
                        z1, z0 = wc[k + 1] * (sc[k + 1] + sc[k]), wc[k] * (sc[k] + sc[k - 1])
                        bend = cx * (se[k] - 2.0 * sc[k] + sw[k]) + cy * (sn[k] - 2.0 * sc[k] + ss[k])
                        bend += cz * (sc[k + 1] - 2.0 * sc[k] + sc[k - 1])
                        carried = ax * (x1 - x0) + ay * (y1 - y0) + az * (z1 - z0)
                        to_s[q] += bend - 2.0 * carried - rise * (wc[k + 1] + wc[k])


# What stands before the first cell of an axis, for its gradient: nothing, the last cell, a zero on the face.
_CLOSED, _AROUND, _ZERO = 0, 1, 2


@kernel
def _divergence_2d(total: Any, u: Any, after_x: Any, after_y: Any, kx: float, ky: float) -> None:
    """Outflow of cells (B, N, M) by faces u (B, C, N, M) and those after the last, (B or 1, M) and (B or 1, N)."""
    samples, n, m = total.shape
    for b in range(samples):
        last_x, last_y = after_x[b % after_x.shape[0]], after_y[b % after_y.shape[0]]
        for i in range(n):
            here, v, out = u[b, 0, i], u[b, 1, i], total[b, i]
            there = u[b, 0, i + 1] if i + 1 < n else last_x
            for j in range(m - 1):
                out[j] = kx * (there[j] - here[j]) + ky * (v[j + 1] - v[j])
            out[m - 1] = kx * (there[m - 1] - here[m - 1]) + ky * (last_y[i] - v[m - 1])


@kernel
def _subtract_2d(u: Any, q: Any, passes: Any, kx: float, ky: float, low_x: int, low_y: int) -> None:
    """u - grad q in place, times what passes a face, (2, N, M), or everything if that is empty."""
    samples, n, m = q.shape
    masked = passes.shape[1] > 0
    for b in range(samples):
        for i in range(n):
            here, before = q[b, i], q[b, i - 1] if i > 0 else q[b, n - 1]
            face, side = u[b, 0, i], u[b, 1, i]
            if i > 0 or low_x == _AROUND:
                if masked:
                    px = passes[0, i]
                    for j in range(m):
                        face[j] -= kx * px[j] * (here[j] - before[j])
                else:
                    for j in range(m):
                        face[j] -= kx * (here[j] - before[j])
            elif low_x == _ZERO:
                for j in range(m):
                    face[j] -= 2.0 * kx * here[j]
            if low_y == _AROUND:
                side[0] -= ky * (here[0] - here[m - 1]) * (passes[1, i, 0] if masked else 1.0)
            elif low_y == _ZERO:
                side[0] -= 2.0 * ky * here[0]
            if masked:
                py = passes[1, i]
                for j in range(1, m):
                    side[j] -= ky * py[j] * (here[j] - here[j - 1])
            else:
                for j in range(1, m):
                    side[j] -= ky * (here[j] - here[j - 1])


def divergence_2d(u: Tensor, after: Sequence[Tensor], spacing: Sequence[float]) -> Tensor:
    """As `Staggered.divergence`, for (B, C, N, M) and the faces after the last cells, (B or 1, M) and (B or 1, N)."""
    total = u.new_empty(u.shape[0], *u.shape[2:])
    after_x, after_y = (a.contiguous().detach().numpy() for a in after)
    _divergence_2d(
        total.detach().numpy(), u.detach().numpy(), after_x, after_y, 1.0 / spacing[0], 1.0 / spacing[1]
    )
    return total


def subtract_gradient_2d(
    u: Tensor, q: Tensor, mask: Tensor | None, spacing: Sequence[float], lows: Sequence[str]
) -> None:
    """As `Staggered.subtract_gradient`, in place, but for the faces of an outflow; `lows` are the low ends."""
    codes = {"neumann": _CLOSED, "periodic": _AROUND, "dirichlet": _ZERO}
    passes = q.new_empty(2, 0, 0) if mask is None else mask
    _subtract_2d(
        u.detach().numpy(),
        q.contiguous().detach().numpy(),
        passes.detach().numpy(),
        1.0 / spacing[0],
        1.0 / spacing[1],
        codes[lows[0]],
        codes[lows[1]],
    )


def push(
    new: Tensor, wide: Tensor, numbers: Tensor, spacing: tuple[float, ...], h: float, scalar: bool
) -> Tensor:
    """new + h (advection, friction, buoyancy) of the state with ghosts, in place.

    Args:
        new: (B, C, *cells), contiguous.
        wide: (B, C, *(cells + 2)).
        numbers: per sample viscosity, diffusivity, buoyancy and background gradient, (B, 4).
        spacing: of the cells [length].
        h: time [time].
        scalar: whether the last channel is one.
    """
    run = _push_2d if len(spacing) == 2 else _push_3d
    run(
        new.detach().numpy(),
        wide.contiguous().detach().numpy(),
        numbers.to(new.dtype).detach().numpy(),
        *spacing,
        h,
        scalar,
    )
    return new
