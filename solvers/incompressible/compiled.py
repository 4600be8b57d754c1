"""Stages of a flow on a staggered grid in compiled loops: the formulas of `Rates` and `Staggered`, to rounding.

One pass over the rows of a state gives advection, friction, forces and the combination with the start of the step,
a second one the divergence, and after the Poisson solve a third one takes the gradient away. Needs numba (the extra
`compiled`), real numbers and a processor's memory; records no derivatives.

States stand in padded arrays [sample][channel][plane][row][cell] with one layer of ghosts on the axes that the grid
has: channel and axis e of D stand for axis e + 3 - D of three. The high faces of an outflow lie in the layer of
ghosts after the cells, where they are computed like all others.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

from sciml.solvers.lanes.share import share
from sciml.solvers.lanes.vector import (
    BYTES,
    choose,
    kernel,
    larger,
    largest,
    load,
    magnitude,
    smaller,
    store,
    zero,
)
from sciml.staggered.obstacles import Bodies
from sciml.staggered.operators import Staggered

Array = np.ndarray[Any, Any]

# What `lay` holds: cells per axis, distances of planes, rows and channels, the first cell, the number of channels and
# the axis of a high outflow, or -1.
_N0, _N1, _N2, _PLANE, _PITCH, _SIZE, _FIRST, _CHANNELS, _EXIT = range(9)
# Per axis: how the gradient ends before the first cell, and whether values wrap round.
_LOW, _WRAPS = 9, 12
# Per axis and other axis, whether the ghosts of the other are filled before.
_EARLY = 15
# Per axis and end, where the shifts of its ghosts stand in the array of all, or -1.
_PLACE = 24
_LAY = 30
# What stands before the first cell of an axis, for the gradient: nothing, the last cell, a zero on the face.
_CLOSED, _AROUND, _ZERO = 0, 1, 2
# What `numbers` holds for each sample: viscosity, diffusivity, buoyancy, background gradient, drag.
_NU, _KAPPA, _LIFT, _RISE, _DRAG = range(5)
NUMBERS = 5
# Cells of a batch from which on a pass is worth its threads.
_SHARED = 2**18


@njit(forceinline=True)
def _stride(axis, plane, pitch):  # type: ignore[no-untyped-def]
    return plane if axis == 0 else pitch if axis == 1 else 1


@njit(forceinline=True)
def _along(w, own, other, s, t, same, u, k, r):  # type: ignore[no-untyped-def]
    """r (second difference) - k (difference of fluxes) along the axis of stride t for the faces of stride s.

    Fluxes are products of two sums: of the velocity that carries, `other`, across the edge, and of the one carried.
    """
    far, near = load(w, own + t), load(w, own - t)
    high, low = far + u, u + near
    if same:
        a, b = high, low
    else:
        a = load(w, other + t) + load(w, other + t - s)
        b = load(w, other) + load(w, other - s)
    return r * ((far - u) - (u - near)) - k * (a * high - b * low)


@njit(forceinline=True)
def _momentum(w, at, e, d, size, plane, pitch, k0, k1, k2, r0, r1, r2):  # type: ignore[no-untyped-def]
    """Advection and friction of the velocity along axis e; `at` is the cell in the first channel."""
    own = (e + d - 3) * size + at
    s, u = _stride(e, plane, pitch), load(w, own)
    total = _along(w, own, (d - 1) * size + at, s, 1, e == 2, u, k2, r2)
    total = total + _along(w, own, (d - 2) * size + at, s, pitch, e == 1, u, k1, r1)
    if d == 3:
        total = total + _along(w, own, at, s, plane, e == 0, u, k0, r0)
    return total


@njit(forceinline=True)
def _scalar(w, own, v, t, u, k, r):  # type: ignore[no-untyped-def]
    """As `_along` for the scalar with central fluxes."""
    far, near = load(w, own + t), load(w, own - t)
    return r * ((far - u) - (u - near)) - k * (load(w, v + t) * (far + u) - load(w, v) * (u + near))


@njit(forceinline=True)
def _through(w, own, passes, face, t, u, r):  # type: ignore[no-untyped-def]
    """r (second difference) of the scalar through open faces alone."""
    rise, fall = load(w, own + t) - u, u - load(w, own - t)
    return r * (rise * load(passes, face + t) - fall * load(passes, face))


@njit(forceinline=True)
def _upwind(w, own, v, slopes, at, t):  # type: ignore[no-untyped-def]
    """Flux through the low face of a cell by the value on the side that it comes from."""
    speed = load(w, v)
    low = load(w, own - t) + 0.5 * load(slopes, at - t)
    high = load(w, own) - 0.5 * load(slopes, at)
    return larger(speed, 0.0) * low + smaller(speed, 0.0) * high


@njit
def _slopes_along(w, own, slopes, at, t, lay, axis, width):  # type: ignore[no-untyped-def]
    """Monotonised slopes of the scalar along one axis, as `Rates._limited_flux`."""
    n0, n1, n2, plane, pitch = lay[_N0], lay[_N1], lay[_N2], lay[_PLANE], lay[_PITCH]
    for i in range(n0):
        for j in range(n1):
            row = i * plane + j * pitch
            for q in range(row, row + n2, width):
                u = load(w, own + q)
                before, after = u - load(w, own + q - t), load(w, own + q + t) - u
                size = smaller(
                    2.0 * smaller(magnitude(before), magnitude(after)), 0.5 * magnitude(before + after)
                )
                signed = choose(before > 0.0, size, -size)
                store(slopes, at + q, choose(before * after > 0.0, signed, zero(w)))
    n = lay[axis]
    m0, m1, m2 = (1 if axis == 0 else n0), (1 if axis == 1 else n1), (1 if axis == 2 else n2)
    for i in range(m0):
        for j in range(m1):
            for k in range(m2):
                q = at + i * plane + j * pitch + k
                if lay[_WRAPS + axis]:
                    slopes[q - t], slopes[q + n * t] = slopes[q + (n - 1) * t], slopes[q]
                else:
                    slopes[q - t], slopes[q + n * t] = 0.0, 0.0


# Whatever has branches works on whole rows: numba counts references to arrays where they are passed on beside one.


@njit
def _velocities(w, old, new, at, e, n, lay, keep, here, k, r, d, width):  # type: ignore[no-untyped-def]
    """A row of the velocity along axis e, but for what has to do with bodies and forces."""
    plane, pitch, size = lay[_PLANE], lay[_PITCH], lay[_SIZE]
    own = (e + d - 3) * size
    k0, k1, k2 = k
    r0, r1, r2 = r
    for q in range(at, at + n, width):
        total = _momentum(w, q, e, d, size, plane, pitch, k0, k1, k2, r0, r1, r2)
        store(new, own + q, total + here * load(w, own + q) + keep * load(old, own + q))


@njit
def _pushed(new, at, n, force, place, push, width):  # type: ignore[no-untyped-def]
    for q in range(0, n, width):
        store(new, at + q, load(new, at + q) + push * load(force, place + q))


@njit
def _stopped(w, new, at, n, shape, open_, face, nu, width):  # type: ignore[no-untyped-def]
    """The pull of bodies half a cell away, and their own faces."""
    for q in range(0, n, width):
        total = load(new, at + q) - (nu * load(shape, face + q)) * load(w, at + q)
        store(new, at + q, total * load(open_, face + q))


@njit
def _lifted(w, new, at, own, n, lift, width):  # type: ignore[no-untyped-def]
    """Buoyancy of a row of the last velocity by the scalar at `own`."""
    for q in range(0, n, width):
        store(new, at + q, load(new, at + q) + lift * (load(w, own + q) + load(w, own + q - 1)))


@njit
def _carried(w, old, new, at, n, lay, keep, here, k, c, rise, d, width):  # type: ignore[no-untyped-def]
    """A row of the scalar with central fluxes, none where k is zero."""
    plane, pitch, size = lay[_PLANE], lay[_PITCH], lay[_SIZE]
    k0, k1, k2 = k
    c0, c1, c2 = c
    for q in range(at, at + n, width):
        own, v = q + d * size, q + (d - 1) * size
        u = load(w, own)
        total = _scalar(w, own, v, 1, u, 2.0 * k2, c2)
        total = total + _scalar(w, own, v - size, pitch, u, 2.0 * k1, c1)
        if d == 3:
            total = total + _scalar(w, own, v - 2 * size, plane, u, 2.0 * k0, c0)
        total = total - rise * (load(w, v) + load(w, v + 1))
        store(new, own, total + here * u + keep * load(old, own))


@njit
def _insulated(w, new, at, n, lay, c, passes, face, d, width):  # type: ignore[no-untyped-def]
    """Diffusion of a row of the scalar beside bodies."""
    plane, pitch, size = lay[_PLANE], lay[_PITCH], lay[_SIZE]
    c0, c1, c2 = c
    for q in range(0, n, width):
        own, f = at + q + d * size, face + q + (d - 1) * size
        u = load(w, own)
        total = _through(w, own, passes, f, 1, u, c2) + _through(w, own, passes, f - size, pitch, u, c1)
        if d == 3:
            total = total + _through(w, own, passes, f - 2 * size, plane, u, c0)
        store(new, own, load(new, own) + total)


@njit
def _upwinded(w, new, at, n, lay, inverse, push, slopes, face, d, width):  # type: ignore[no-untyped-def]
    """Limited fluxes of a row of the scalar."""
    plane, pitch, size = lay[_PLANE], lay[_PITCH], lay[_SIZE]
    i0, i1, i2 = push * inverse[0], push * inverse[1], push * inverse[2]
    for q in range(0, n, width):
        own, v, f = at + q + d * size, at + q + (d - 1) * size, face + q + (d - 1) * size
        total = load(new, own) + i2 * (
            _upwind(w, own, v, slopes, f, 1) - _upwind(w, own + 1, v + 1, slopes, f + 1, 1)
        )
        v, f, t = v - size, f - size, pitch
        total = total + i1 * (
            _upwind(w, own, v, slopes, f, t) - _upwind(w, own + t, v + t, slopes, f + t, t)
        )
        if d == 3:
            v, f, t = v - size, f - size, plane
            total = total + i0 * (
                _upwind(w, own, v, slopes, f, t) - _upwind(w, own + t, v + t, slopes, f + t, t)
            )
        store(new, own, total)


@njit(forceinline=True)
def _march(  # type: ignore[no-untyped-def]
    w,
    old,
    new,
    start,
    lay,
    number,
    inverse,
    weights,
    d,
    limited,
    force,
    fstart,
    open_,
    shape,
    passes,
    slopes,
    width,
):
    """One sample: new = keep old + here w + push (explicit rate) + slide (friction), on all faces and cells."""
    n0, n1, n2, plane, pitch, size = lay[_N0], lay[_N1], lay[_N2], lay[_PLANE], lay[_PITCH], lay[_SIZE]
    exit_, scalar = lay[_EXIT], lay[_CHANNELS] > d
    keep, here, push, slide = weights[0], weights[1], weights[2], weights[3]
    nu, kappa, drag = slide * number[_NU], slide * number[_KAPPA], push * number[_DRAG]
    lift, rise = 0.5 * push * number[_LIFT], 0.5 * push * number[_RISE]
    i0, i1, i2 = inverse[0], inverse[1], inverse[2]
    k = (0.25 * push * i0, 0.25 * push * i1, 0.25 * push * i2)
    r = (nu * i0 * i0, nu * i1 * i1, nu * i2 * i2)
    c = (kappa * i0 * i0, kappa * i1 * i1, kappa * i2 * i2)
    none = (0.0, 0.0, 0.0)
    first, s, last = lay[_FIRST], d * size, (d - 1) * size
    if limited:
        for e in range(d):
            axis = e + 3 - d
            t = _stride(axis, plane, pitch)
            _slopes_along(w, start + s, slopes, e * size + first, t, lay, axis, width)
    for i in range(n0 + (1 if exit_ == 0 else 0)):
        for j in range(n1 + (1 if exit_ == 1 else 0)):
            row = i * plane + j * pitch
            at, inside, n = start + row, i < n0 and j < n1, n2 + (1 if exit_ == 2 else 0)
            if d == 3 and j < n1:
                _velocities(w, old, new, at, 0, n2, lay, keep, here - drag, k, r, 3, width)
            if i < n0:
                _velocities(w, old, new, at, 1, n2, lay, keep, here - drag, k, r, d, width)
            if inside:
                _velocities(w, old, new, at, 2, n, lay, keep, here - drag, k, r, d, width)
                if scalar:
                    _lifted(w, new, last + at, s + at, n, lift, width)
                    # Bodies and limiters have their own diffusion and transport.
                    a, b = (none if limited else k), (none if len(passes) > 0 else c)
                    _carried(w, old, new, at, n2, lay, keep, here, a, b, rise, d, width)
                    if limited:
                        _upwinded(w, new, at, n2, lay, inverse, push, slopes, first + row, d, width)
                    if len(passes) > 0:
                        _insulated(w, new, at, n2, lay, c, passes, first + row, d, width)
            # The rows that were computed: behind the last cells of an outflow those of one component.
            for e in range(d):
                axis = e + 3 - d
                if (i < n0 or axis == 0) and (j < n1 or axis == 1):
                    o, m = e * size, n if axis == 2 else n2
                    if len(force) > 0:
                        _pushed(new, o + at, m, force, fstart + o + row, push, width)
                    if len(open_) > 0:
                        _stopped(w, new, o + at, m, shape, open_, first + o + row, nu, width)


@njit
def _side(w, start, lay, scales, shifts, axis, end, to, source, c0, c1, wide):  # type: ignore[no-untyped-def]
    """Layer `to` of a side = scale * layer `source` + shift, for channels c0 to c1, with ghosts if wide."""
    plane, pitch, size = lay[_PLANE], lay[_PITCH], lay[_SIZE]
    y, z = (0 if axis > 0 else 1), (2 if axis < 2 else 1)
    t, ty, tz = _stride(axis, plane, pitch), _stride(y, plane, pitch), _stride(z, plane, pitch)
    gy, gz = lay[_EARLY + 3 * axis + y], lay[_EARLY + 3 * axis + z]
    my, mz = lay[y] + 2 * gy, lay[z] + 2 * gz
    ly, lz = (0, 0) if wide else (gy, gz)
    place, wraps = lay[_PLACE + 2 * axis + end], lay[_WRAPS + axis]
    for c in range(c0, c1):
        scale = 1.0 if wraps else scales[(2 * axis + end) * lay[_CHANNELS] + c]
        for a in range(ly, my - ly):
            for b in range(lz, mz - lz):
                at = start + c * size + (a - gy) * ty + (b - gz) * tz
                value = 0.0
                if scale != 0.0:
                    value = scale * w[at + source * t]
                if place >= 0:
                    value += shifts[place + (c * my + a) * mz + b]
                w[at + to * t] = value


@njit
def _sides(w, start, lay, scales, shifts, plan):  # type: ignore[no-untyped-def]
    """`_side` for each row of a plan."""
    for i in range(len(plan)):
        axis, end, to, source = plan[i, 0], plan[i, 1], plan[i, 2], plan[i, 3]
        c0, c1, wide = plan[i, 4], plan[i, 5], plan[i, 6]
        _side(w, start, lay, scales, shifts, axis, end, to, source, c0, c1, wide)


@njit
def _ghosts(w, start, lay, scales, shifts, layers, d):  # type: ignore[no-untyped-def]
    """All ghosts of a state."""
    _sides(w, start, lay, scales, shifts, layers)
    if lay[_EXIT] >= 0:
        # Beyond an outflow nothing changes.
        axis = lay[_EXIT]
        n, t = lay[axis], _stride(axis, lay[_PLANE], lay[_PITCH])
        base = start + (axis + d - 3) * lay[_SIZE] + n * t
        for i in range(1 if axis == 0 else lay[_N0]):
            for j in range(1 if axis == 1 else lay[_N1]):
                for k in range(1 if axis == 2 else lay[_N2]):
                    at = base + i * lay[_PLANE] + j * lay[_PITCH] + k
                    w[at + t] = w[at]


@njit(forceinline=True)
def _outflow(w, start, lay, inverse, d):  # type: ignore[no-untyped-def]
    """The high faces of the outflow by the continuity of the cells before them."""
    axis = lay[_EXIT]
    plane, pitch, size = lay[_PLANE], lay[_PITCH], lay[_SIZE]
    t = _stride(axis, plane, pitch)
    base = start + (lay[axis] - 1) * t
    for i in range(1 if axis == 0 else lay[_N0]):
        for j in range(1 if axis == 1 else lay[_N1]):
            for k in range(1 if axis == 2 else lay[_N2]):
                at, rest = base + i * plane + j * pitch + k, 0.0
                for e in range(3 - d, 3):
                    if e != axis:
                        face = at + (e + d - 3) * size
                        rest += (w[face + _stride(e, plane, pitch)] - w[face]) * inverse[e]
                own = at + (axis + d - 3) * size
                w[own + t] = w[own] - rest / inverse[axis]


@kernel
def _enter(u, w, lay, scales, shifts, held, layers, inverse, open_, d, whole, first, last, width):  # type: ignore[no-untyped-def]
    """States (B, C, *cells) into padded ones, held, with ghosts."""
    n0, n1, n2, plane, pitch = lay[_N0], lay[_N1], lay[_N2], lay[_PLANE], lay[_PITCH]
    channels, size = lay[_CHANNELS], lay[_SIZE]
    for b in range(first, last):
        start = b * channels * size + lay[_FIRST]
        for c in range(channels):
            masked = len(open_) > 0 and c < d
            for i in range(n0):
                for j in range(n1):
                    at = start + c * size + i * plane + j * pitch
                    source = (((b * channels + c) * n0 + i) * n1 + j) * n2
                    q = 0
                    while q + width <= n2:
                        store(w, at + q, load(u, source + q))
                        q += width
                    while q < n2:
                        w[at + q] = u[source + q]
                        q += 1
                    if masked:
                        face = at - b * channels * size
                        for k in range(0, n2, width):
                            store(w, at + k, load(w, at + k) * load(open_, face + k))
        if whole:
            _sides(w, start, lay, scales, shifts, held)
            if lay[_EXIT] >= 0:
                _outflow(w, start, lay, inverse, d)
            _ghosts(w, start, lay, scales, shifts, layers, d)


@kernel
def _leave(w, u, lay, first, last, width):  # type: ignore[no-untyped-def]
    """Padded states into (B, C, *cells)."""
    n0, n1, n2, plane, pitch = lay[_N0], lay[_N1], lay[_N2], lay[_PLANE], lay[_PITCH]
    channels, size = lay[_CHANNELS], lay[_SIZE]
    for b in range(first, last):
        for c in range(channels):
            for i in range(n0):
                for j in range(n1):
                    at = (b * channels + c) * size + lay[_FIRST] + i * plane + j * pitch
                    to = (((b * channels + c) * n0 + i) * n1 + j) * n2
                    q = 0
                    while q + width <= n2:
                        store(u, to + q, load(w, at + q))
                        q += width
                    while q < n2:
                        u[to + q] = w[at + q]
                        q += 1


@kernel
def _speeds(w, lay, out, d, first, last, width):  # type: ignore[no-untyped-def]
    """Largest size of each component, out (B, D); not a number where one is not finite."""
    n0, n1, n2, plane, pitch = lay[_N0], lay[_N1], lay[_N2], lay[_PLANE], lay[_PITCH]
    for b in range(first, last):
        for c in range(d):
            axis = c + 3 - d
            base = (b * lay[_CHANNELS] + c) * lay[_SIZE] + lay[_FIRST]
            top, poison = zero(w), zero(w)
            rest = 0.0
            for i in range(n0 + (1 if axis == 0 and lay[_EXIT] == 0 else 0)):
                for j in range(n1 + (1 if axis == 1 and lay[_EXIT] == 1 else 0)):
                    at = base + i * plane + j * pitch
                    count = n2 + (1 if axis == 2 and lay[_EXIT] == 2 else 0)
                    q = 0
                    while q + width <= count:
                        v = load(w, at + q)
                        top = larger(magnitude(v), top)
                        poison = poison + (v - v)
                        q += width
                    while q < count:
                        v1 = abs(w[at + q])
                        if not rest >= v1:
                            rest = v1
                        q += 1
            # Zero, or not a number once one was met.
            bad = largest(magnitude(poison))
            out[b * d + c] = max(largest(top), rest)
            if not (bad == 0.0 and rest - rest == 0.0):
                out[b * d + c] = math.nan


@njit(forceinline=True)
def _row_divergence(w, at, out, to, n2, k0, k1, k2, d, size, plane, pitch, width):  # type: ignore[no-untyped-def]
    u, v, x = at, at + (d - 2) * size, at + (d - 1) * size
    q = 0
    while q + width <= n2:
        total = k2 * (load(w, x + q + 1) - load(w, x + q))
        total = total + k1 * (load(w, v + q + pitch) - load(w, v + q))
        if d == 3:
            total = total + k0 * (load(w, u + q + plane) - load(w, u + q))
        store(out, to + q, total)
        q += width
    while q < n2:
        rest = k2 * (w[x + q + 1] - w[x + q]) + k1 * (w[v + q + pitch] - w[v + q])
        if d == 3:
            rest += k0 * (w[u + q + plane] - w[u + q])
        out[to + q] = rest
        q += 1


@njit(forceinline=True)
def _diverge(w, b, lay, inverse, out, d, width):  # type: ignore[no-untyped-def]
    """Net outflow of the cells of one sample, out (B, *cells)."""
    n0, n1, n2, plane, pitch = lay[_N0], lay[_N1], lay[_N2], lay[_PLANE], lay[_PITCH]
    start = b * lay[_CHANNELS] * lay[_SIZE] + lay[_FIRST]
    for i in range(n0):
        for j in range(n1):
            _row_divergence(
                w, start + i * plane + j * pitch, out, ((b * n0 + i) * n1 + j) * n2, n2, inverse[0], inverse[1],
                inverse[2], d, lay[_SIZE], plane, pitch, width,
            )  # fmt: skip


@kernel
def _stage(  # type: ignore[no-untyped-def]
    w, old, new, lay, scales, shifts, held, inverse, numbers, weights, force, open_, shape, passes, out, dims, limited,
    first, last, width,
):  # fmt: skip
    """Everything of a stage before its Poisson solve; `out` takes the divergence if it has room.

    `dims` is a tuple of the length of the dimension: what belongs to another is not compiled.
    """
    d = len(dims)
    channels, size = lay[_CHANNELS], lay[_SIZE]
    slopes = np.empty(d * size + width if limited else 0, dtype=w.dtype)
    for b in range(first, last):
        start = b * channels * size + lay[_FIRST]
        fstart = lay[_FIRST] + (b * d * size if len(force) >= 2 * d * size else 0)
        number = numbers[b]
        if d == 2:
            _march(w, old, new, start, lay, number, inverse, weights, 2, limited, force, fstart, open_, shape, passes,
                   slopes, width)  # fmt: skip
        else:
            _march(w, old, new, start, lay, number, inverse, weights, 3, limited, force, fstart, open_, shape, passes,
                   slopes, width)  # fmt: skip
        if len(out) > 0:
            _sides(new, start, lay, scales, shifts, held)
            if d == 2:
                _diverge(new, b, lay, inverse, out, 2, width)
            else:
                _diverge(new, b, lay, inverse, out, 3, width)


@kernel
def _net(w, lay, inverse, out, dims, first, last, width):  # type: ignore[no-untyped-def]
    """The divergence of padded states; `dims` as in `_stage`."""
    d = len(dims)
    for b in range(first, last):
        if d == 2:
            _diverge(w, b, lay, inverse, out, 2, width)
        else:
            _diverge(w, b, lay, inverse, out, 3, width)


@njit(forceinline=True)
def _row_step(w, at, q, here, before, n, k, open_, face, width):  # type: ignore[no-untyped-def]
    """w - k (q_here - q_before) times what passes, over one row."""
    masked, j = len(open_) > 0, 0
    while j + width <= n:
        step = k * (load(q, here + j) - load(q, before + j))
        if masked:
            step = step * load(open_, face + j)
        store(w, at + j, load(w, at + j) - step)
        j += width
    while j < n:
        rest = k * (q[here + j] - q[before + j])
        if masked:
            rest *= open_[face + j]
        w[at + j] -= rest
        j += 1


@njit(forceinline=True)
def _row_axis(w, at, q, row, index, n, t, n2, k, code, open_, face, width):  # type: ignore[no-untyped-def]
    """The step along an axis but the last, for one row at an index along it."""
    if index > 0:
        _row_step(w, at, q, row, row - t, n2, k, open_, face, width)
    elif code == _AROUND:
        _row_step(w, at, q, row, row + (n - 1) * t, n2, k, open_, face, width)
    elif code == _ZERO:
        for j in range(n2):
            w[at + j] -= 2.0 * k * q[row + j]


@kernel
def _correct(w, q, lay, scales, shifts, layers, inverse, open_, d, filled, first, last, width):  # type: ignore[no-untyped-def]
    """w - grad q on open faces, q (B, *cells), then all ghosts if `filled`."""
    n0, n1, n2, plane, pitch = lay[_N0], lay[_N1], lay[_N2], lay[_PLANE], lay[_PITCH]
    channels, size, exit_ = lay[_CHANNELS], lay[_SIZE], lay[_EXIT]
    k0, k1, k2 = inverse[0], inverse[1], inverse[2]
    masked = len(open_) > 0
    for b in range(first, last):
        start = b * channels * size + lay[_FIRST]
        for i in range(n0):
            for j in range(n1):
                row, line = ((b * n0 + i) * n1 + j) * n2, i * plane + j * pitch
                at, face = start + line, lay[_FIRST] + line
                if d == 3:
                    _row_axis(w, at, q, row, i, n0, n1 * n2, n2, k0, lay[_LOW], open_, face, width)
                c = (d - 2) * size
                _row_axis(w, at + c, q, row, j, n1, n2, n2, k1, lay[_LOW + 1], open_, face + c, width)
                c = (d - 1) * size
                _row_step(w, at + c + 1, q, row + 1, row, n2 - 1, k2, open_, face + c + 1, width)
                if lay[_LOW + 2] == _AROUND:
                    step = k2 * (q[row] - q[row + n2 - 1])
                    w[at + c] -= step * (open_[face + c] if masked else 1.0)
                elif lay[_LOW + 2] == _ZERO:
                    w[at + c] -= 2.0 * k2 * q[row]
                if exit_ == 2:
                    w[at + c + n2] += 2.0 * k2 * q[row + n2 - 1]
                elif exit_ == 1 and j == n1 - 1:
                    for k in range(n2):
                        w[at + (d - 2) * size + pitch + k] += 2.0 * k1 * q[row + k]
                elif exit_ == 0 and i == n0 - 1:
                    for k in range(n2):
                        w[at + plane + k] += 2.0 * k0 * q[row + k]
        if filled:
            _ghosts(w, start, lay, scales, shifts, layers, d)


@dataclass
class Flow:
    """States on their way through a Step, in padded arrays.

    Attributes:
        now: the state, with ghosts.
        arrays: two or three more of its size.
        net: room for the divergence, (B, *cells).
        numbers: coefficients of each sample, (B, `NUMBERS`).
        force: body force in padded arrays, of one sample or of all, or empty.
    """

    now: Array
    arrays: list[Array]
    net: Tensor
    numbers: Array
    force: Array


class Loops:
    """Steps of a staggered grid in compiled loops.

    Args:
        faces: the grid and its sides.
        bodies: obstacles, or None.
        limited: whether the scalar's fluxes are.
    """

    def __init__(self, faces: Staggered, bodies: Bodies | None, limited: bool) -> None:
        self._faces, self._bodies, self._limited = faces, bodies, limited
        sides, grid = faces.sides, faces.grid
        self._d, self._channels = grid.dimension, sides.channels
        self._shape = (1,) * (3 - self._d) + grid.shape
        self._inverse = np.array([0.0] * (3 - self._d) + [1.0 / h for h in grid.spacing])
        self._dims = (0,) * self._d
        self._held, self._layers = self._plans()
        self._layouts: dict[torch.dtype, Array] = {}
        self._tables: dict[tuple[str, torch.dtype], Array] = {}
        self._spare: list[Flow] = []

    # Layout.

    def _lay(self, dtype: torch.dtype) -> Array:
        if dtype in self._layouts:
            return self._layouts[dtype]
        sides, missing, width = self._faces.sides, 3 - self._d, _width(dtype)
        n0, n1, n2 = self._shape
        exit_ = -1 if sides.exit is None else sides.exit + missing
        # Room for two layers beyond an outflow, and for vectors that reach over the end of a row.
        pitch = width + -(-(n2 + 2) // width) * width
        plane = (n1 + 2 + int(exit_ == 1)) * pitch
        size = plane * (n0 + 2 + int(exit_ == 0)) if self._d == 3 else plane
        first = (plane if self._d == 3 else 0) + pitch + width
        lay = np.zeros(_LAY, dtype=np.int64)
        lay[:_LOW] = n0, n1, n2, plane, pitch, size, first, self._channels, exit_
        lay[_PLACE:] = -1
        codes = {"neumann": _CLOSED, "periodic": _AROUND, "dirichlet": _ZERO}
        order = [axis + missing for axis in self._faces.order]
        place = 0
        for index, axis in enumerate(order):
            a = axis - missing
            lay[_LOW + axis] = codes[sides.ends[a][0]]
            lay[_WRAPS + axis] = sides.grid.periodic[a]
            for other in order[:index]:
                lay[_EARLY + 3 * axis + other] = 1
            for end in (0, 1):
                shift = self._faces.shift(a, end)
                if shift is not None:
                    lay[_PLACE + 2 * axis + end] = place
                    place += math.prod(self._shift_shape(a, lay))
        self._layouts[dtype] = lay
        return lay

    def _plans(self) -> tuple[Array, Array]:
        """What `_sides` does for the faces that are given, and for all ghosts, in this order.

        Axis, end, layer to fill, layer to take, channels from and to, and whether earlier ghosts are included.
        """
        sides, missing = self._faces.sides, 3 - self._d
        held, layers = [], []
        for a in self._faces.order:
            axis, n, wraps = a + missing, self._shape[a + missing], sides.grid.periodic[a]
            # The scale of a side's own velocity is zero: what is given stands in its shift.
            if (a, 0) in sides.through and sides.grid.sides[a][0] != "outflow":
                held.append((axis, 0, 0, 0, a, a + 1, 0))
            layers.append((axis, 0, -1, n - 1 if wraps else 0, 0, self._channels, 1))
            source = 0 if wraps else n - 1
            if a == sides.exit:
                layers.append((axis, 1, n, source, 0, a, 1))
                layers.append((axis, 1, n, source, a + 1, self._channels, 1))
            else:
                held.append((axis, 1, n, 0, a, a + 1, 0))
                layers.append((axis, 1, n, source, 0, self._channels, 1))
        return np.array(held, dtype=np.int64).reshape(-1, 7), np.array(layers, dtype=np.int64)

    def _shift_shape(self, a: int, lay: Array) -> tuple[int, ...]:
        axis, missing = a + 3 - self._d, 3 - self._d
        return (
            self._channels,
            *(
                1 if e == axis else self._shape[e] + 2 * int(lay[_EARLY + 3 * axis + e])
                for e in range(missing, 3)
            ),
        )

    def _table(self, name: str, dtype: torch.dtype) -> Array:
        """Constants in the precision of the state."""
        key = (name, dtype)
        if key not in self._tables:
            self._tables[key] = getattr(self, f"_make_{name}")(dtype).astype(_numpy(dtype))
        return self._tables[key]

    def _make_scales(self, dtype: torch.dtype) -> Array:
        out = np.zeros((3, 2, self._channels))
        for (axis, end), ghosts in self._faces.sides.ghosts.items():
            out[axis + 3 - self._d, end] = ghosts.scale.flatten().numpy()
        return out.ravel()

    def _make_shifts(self, dtype: torch.dtype) -> Array:
        lay, parts = self._lay(dtype), [np.zeros(0)]
        for axis in self._faces.order:
            for end in (0, 1):
                shift = self._faces.shift(axis, end)
                if shift is not None:
                    parts.append(
                        shift.detach().expand(self._shift_shape(axis, lay)).contiguous().numpy().ravel()
                    )
        return np.concatenate(parts)

    def _make_open(self, dtype: torch.dtype) -> Array:
        if self._bodies is None:
            return np.zeros(0)
        return self.padded(self._bodies.open(torch.zeros(0, dtype=torch.float64)), dtype, 1.0)

    def _make_shape(self, dtype: torch.dtype) -> Array:
        """How strongly bodies pull on each face."""
        if self._bodies is None:
            return np.zeros(0)
        return self.padded(self._bodies.pull(torch.zeros(0, dtype=torch.float64)), dtype, 0.0)

    def _make_passes(self, dtype: torch.dtype) -> Array:
        """Faces through which the scalar diffuses: sides of the box say themselves what passes."""
        if self._bodies is None or self._channels == self._d:
            return np.zeros(0)
        open_ = self._bodies.open(torch.zeros(0, dtype=torch.float64)).clone()
        for axis, periodic in enumerate(self._faces.grid.periodic):
            if not periodic:
                open_[axis].select(axis, 0).fill_(1.0)
        return self.padded(open_, dtype, 1.0, wraps=True)

    def padded(self, values: Tensor, dtype: torch.dtype, fill: float, wraps: bool = False) -> Array:
        """Values on faces (D, *cells) or (B, D, *cells) in padded arrays.

        Behind the last cells stand those of the first ones where `wraps`, and of the last ones at an outflow where
        the fill is zero.
        """
        lay = self._lay(dtype)
        rows = values.detach().double().reshape(-1, *self._shape).numpy()
        _, _, _, plane, pitch, size, first = (int(v) for v in lay[:_CHANNELS])
        flat = np.full((len(rows), size), fill)
        out = np.zeros(flat.size + _width(dtype), dtype=_numpy(dtype))
        for index, row in enumerate(rows):
            axis = index % self._d
            more = [0, 0, 0]
            if wraps and self._faces.grid.periodic[axis]:
                more[axis + 3 - self._d] = 1
                row = np.pad(row, [(0, m) for m in more], mode="wrap")
            elif axis == self._faces.sides.exit and fill == 0.0:
                more[axis + 3 - self._d] = 1
                row = np.pad(row, [(0, m) for m in more], mode="edge")
            view = np.lib.stride_tricks.as_strided(
                flat[index, first:], row.shape, tuple(8 * s for s in (plane, pitch, 1))
            )
            view[...] = row
        out[: flat.size] = flat.ravel()
        return out

    # Steps.

    def enter(self, u: Tensor, numbers: Array, force: Array | None, spare: bool = False) -> Flow:
        """The states (B, C, *cells), held, with ghosts and the flow through an outflow by continuity.

        With `spare`, three arrays in place of two beside the state.
        """
        batch, dtype = u.shape[0], u.dtype
        lay = self._lay(dtype)
        try:
            flow = self._spare.pop()
        except IndexError:
            flow = None
        if flow is None or flow.net.shape[0] != batch or flow.net.dtype != dtype:
            count = batch * self._channels * int(lay[_SIZE]) + _width(dtype)
            # Torch's memory begins where vectors do.
            room = [torch.empty(count, dtype=dtype).numpy() for _ in range(4 if spare else 3)]
            net = torch.empty(u.shape[:1] + u.shape[2:], dtype=dtype)
            flow = Flow(room[0], room[1:], net, numbers, numbers)
        flow.numbers, flow.force = numbers, self._nothing(dtype) if force is None else force
        self.fill(flow.now, u, True)
        return flow

    def free(self, flow: Flow) -> None:
        """Keep the memory of one flow for the next: the system takes long to hand out pages."""
        if not self._spare:
            self._spare.append(flow)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_spare": []}

    def fill(self, to: Array, u: Tensor, whole: bool) -> None:
        """States into a padded array; held and with ghosts if `whole`."""
        dtype, source = u.dtype, u.detach().contiguous().numpy().reshape(-1)
        lay, scales, shifts = self._lay(dtype), self._table("scales", dtype), self._table("shifts", dtype)
        open_ = self._table("open", dtype)
        self._share(
            u.shape[0],
            lambda a, b: _enter(
                source,
                to,
                lay,
                scales,
                shifts,
                self._held,
                self._layers,
                self._inverse,
                open_,
                self._d,
                whole,
                a,
                b,
                _width(dtype),
            ),
        )

    def leave(self, flow: Flow, source: Array | None = None) -> Tensor:
        """A padded array, the state unless said otherwise, as (B, C, *cells)."""
        dtype, cells = flow.net.dtype, flow.net.shape[1:]
        u = torch.empty(flow.net.shape[0], self._channels, *cells, dtype=dtype)
        to, lay = u.numpy().reshape(-1), self._lay(dtype)
        given = flow.now if source is None else source
        self._share(len(u), lambda a, b: _leave(given, to, lay, a, b, _width(dtype)))
        return u

    def speeds(self, flow: Flow) -> list[list[float]]:
        """Largest size of each component, (B, D), also through an outflow."""
        dtype, batch = flow.net.dtype, flow.net.shape[0]
        out, lay = np.empty(batch * self._d), self._lay(dtype)
        self._share(batch, lambda a, b: _speeds(flow.now, lay, out, self._d, a, b, _width(dtype)))
        found: list[list[float]] = out.reshape(batch, self._d).tolist()
        return found

    def combine(
        self,
        flow: Flow,
        old: Array,
        new: Array,
        weights: tuple[float, float, float, float],
        diverge: bool = True,
    ) -> None:
        """new = keep old + here now + push (rate without friction) + slide (friction over its coefficient's time).

        Then held, and its divergence in `flow.net`, if `diverge`.
        """
        dtype = flow.net.dtype
        tables = [self._table(name, dtype) for name in ("scales", "shifts", "open", "shape", "passes")]
        scales, shifts, open_, shape, passes = tables
        net = flow.net.numpy().reshape(-1) if diverge else self._nothing(dtype)
        lay, factors = self._lay(dtype), np.array(weights)
        self._share(
            flow.net.shape[0],
            lambda a, b: _stage(
                flow.now, old, new, lay, scales, shifts, self._held, self._inverse, flow.numbers, factors, flow.force,
                open_, shape, passes, net, self._dims, self._limited, a, b, _width(dtype),
            ),
        )  # fmt: skip

    def diverge(self, flow: Flow) -> Tensor:
        """The divergence of the state, in `flow.net`."""
        dtype, out = flow.net.dtype, flow.net.numpy().reshape(-1)
        lay = self._lay(dtype)
        self._share(
            flow.net.shape[0],
            lambda a, b: _net(flow.now, lay, self._inverse, out, self._dims, a, b, _width(dtype)),
        )
        return flow.net

    def correct(self, to: Array, q: Tensor, filled: bool) -> None:
        """A padded array less the gradient of q (B, *cells), with ghosts if `filled`."""
        dtype, source = q.dtype, q.detach().contiguous().numpy().reshape(-1)
        lay, scales, shifts = self._lay(dtype), self._table("scales", dtype), self._table("shifts", dtype)
        open_ = self._table("open", dtype)
        self._share(
            q.shape[0],
            lambda a, b: _correct(
                to,
                source,
                lay,
                scales,
                shifts,
                self._layers,
                self._inverse,
                open_,
                self._d,
                filled,
                a,
                b,
                _width(dtype),
            ),
        )

    def _share(self, batch: int, run: Callable[[int, int], None]) -> None:
        """run(first, end) over the samples, by several threads where starting them pays."""
        if batch * math.prod(self._shape) < _SHARED:
            run(0, batch)
        else:
            share(batch, run)

    def _nothing(self, dtype: torch.dtype) -> Array:
        return np.zeros(0, dtype=_numpy(dtype))


def _width(dtype: torch.dtype) -> int:
    return BYTES // dtype.itemsize


def _numpy(dtype: torch.dtype) -> type[np.floating[Any]]:
    return np.float64 if dtype == torch.float64 else np.float32
