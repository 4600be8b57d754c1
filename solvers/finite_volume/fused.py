"""Steps of an ideal gas on cells in one compiled loop: the formulas of the tensors, a row of cells at a time.

A substep reads and writes each cell dozens of times when written with whole arrays. Here the rows along the last
axis are cut into vectors, and what a row needs (states on its faces, fluxes) lies in the first-level cache. The
time of each sample runs by itself: it is stepped to the end of a Step before the next sample begins.

Cells stand in padded arrays [channel][plane][row][cell], with ghost cells on the axes that the grid has.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import FunctionType
from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

from sciml.solvers.finite_volume import formulas
from sciml.solvers.finite_volume.march import AGAIN, GROWTH, SHORTER
from sciml.solvers.lanes.share import share
from sciml.solvers.lanes.vector import (
    BYTES,
    choose,
    kernel,
    larger,
    largest,
    load,
    magnitude,
    root,
    smaller,
    splat,
    store,
    zero,
)

Array = np.ndarray[Any, Any]

RECONSTRUCTIONS = {"godunov": 0, "muscl": 1, "weno5": 2}
RIEMANN = {"rusanov": 0, "hll": 1, "hllc": 2}
# Weights of the state at the start of the substep in the combination after each stage.
TIMES = {"sweeps": (0.0,), "hancock": (0.0,), "ssprk2": (0.0, 0.5), "ssprk3": (0.0, 0.75, 1 / 3)}
SIDES = {"wrap": 0, "copy": 1, "mirror": 2, "state": 3}

_MEANINGS: dict[str, Any] = {
    "minimum": smaller,
    "maximum": larger,
    "where": choose,
    "sqrt": root,
    "absolute": magnitude,
}


def _compiled(function: Callable[..., Any]) -> Any:
    """A formula for vectors: the same code, with their meaning of its names."""
    taken = FunctionType(function.__code__, _MEANINGS, function.__name__)
    _MEANINGS[function.__name__] = njit(forceinline=True)(taken)
    return _MEANINGS[function.__name__]


_half_slope = _compiled(formulas.half_slope)
_weno_face = _compiled(formulas.weno_face)
_energy_of = _compiled(formulas.energy_of)
_davis_bounds = _compiled(formulas.davis_bounds)
_rusanov_bounds = _compiled(formulas.rusanov_bounds)
_fan_weights = _compiled(formulas.fan_weights)
_hllc_flux = _compiled(formulas.hllc_flux)


# What `numbers` holds: gamma, 1/(gamma - 1), 1/spacing per axis, what keeps WENO from dividing by zero.
_GAMMA, _CAPACITY, _INVERSE, _TINY = 0, 1, 2, 5
# What the fluxes are taken with: the state as it is, ahead in time by all axes, or by each axis as it is swept.
NOW, AHEAD, SWEEPS = 0, 1, 2
# Cells of a row that are swept together, and the places that they take with their neighbours.
_PIECE, _ROW = 128, 160


@njit(forceinline=True)
def _others(state, at, gap, channels, normal):  # type: ignore[no-untyped-def]
    """Kinetic energy per mass of the velocities along the face."""
    k = zero(state)
    for c in range(1, channels - 1):
        if c != normal:
            v = load(state, c * gap + at)
            k = k + 0.5 * (v * v)
    return k


@njit
def _primitive(u, w, size, base, n, width, channels, first, how, numbers, found):  # type: ignore[no-untyped-def]
    """Primitive variables of a row; `found` gathers the largest rate, and what is not admissible.

    The rate is that of the axes together, or the largest of them where they are swept one after the other.
    """
    gamma = splat(numbers, _GAMMA)
    last = channels - 1
    top, least, poison = load(found, 0), load(found, width), load(found, 2 * width)
    j = 0
    while True:
        at = base + j
        r = load(u, at)
        kinetic = zero(u)
        each = 1.0 / r
        for c in range(1, last):
            m = load(u, c * size + at)
            v = m * each
            kinetic = kinetic + m * v
            store(w, c * size + at, v)
        p = (gamma - 1.0) * (load(u, last * size + at) - 0.5 * kinetic)
        store(w, at, r)
        store(w, last * size + at, p)
        sound = root(gamma * (p * each))
        rate = zero(u)
        for c in range(1, last):
            part = (magnitude(load(w, c * size + at)) + sound) * splat(numbers, _INVERSE + first + c - 1)
            rate = larger(rate, part) if how == SWEEPS else rate + part
        top, least = larger(top, rate), smaller(smaller(r, p), least)
        # Zero, or not a number once one was met.
        poison = poison + (rate - rate)
        if j >= n - width:
            break
        j = min(j + width, n - width)
    store(found, 0, top)
    store(found, width, least)
    store(found, 2 * width, poison)


@njit
def _faces(w, low, high, size, base, stride, n, width, channels, pitch, scheme, numbers):  # type: ignore[no-untyped-def]
    """States at the low and high faces of n cells along `stride`, in rows [channel][pitch]."""
    for c in range(channels):
        o, to = c * size + base, c * pitch
        if scheme == 0:
            for j in range(0, n, width):
                v = load(w, o + j)
                store(low, to + j, v)
                store(high, to + j, v)
        elif scheme == 1:
            for j in range(0, n, width):
                v = load(w, o + j)
                half = _half_slope(v - load(w, o + j - stride), load(w, o + j + stride) - v)
                store(low, to + j, v - half)
                store(high, to + j, v + half)
        else:
            tiny = splat(numbers, _TINY)
            for j in range(0, n, width):
                at = o + j
                a, b, v = load(w, at - 2 * stride), load(w, at - stride), load(w, at)
                d, e = load(w, at + stride), load(w, at + 2 * stride)
                store(low, to + j, _weno_face(e, d, v, b, a, tiny))
                store(high, to + j, _weno_face(a, b, v, d, e, tiny))


@njit
def _predict(low, high, change, size, base, n, width, channels, pitch, normal, numbers, scale, fresh):  # type: ignore[no-untyped-def]
    """What the fluxes at the own states of each cell's faces change it by in half a substep, along one axis."""
    capacity = splat(numbers, _CAPACITY)
    last = channels - 1
    for j in range(0, n, width):
        rl, ul, pl = load(low, j), load(low, normal * pitch + j), load(low, last * pitch + j)
        rh, uh, ph = load(high, j), load(high, normal * pitch + j), load(high, last * pitch + j)
        el = _energy_of(capacity, rl, ul, _others(low, j, pitch, channels, normal), pl)
        eh = _energy_of(capacity, rh, uh, _others(high, j, pitch, channels, normal), ph)
        ml, mh = rl * ul, rh * uh
        for c in range(channels):
            if c == 0:
                d = ml - mh
            elif c == last:
                d = ul * (el + pl) - uh * (eh + ph)
            else:
                d = ml * load(low, c * pitch + j) - mh * load(high, c * pitch + j)
                if c == normal:
                    d = d + (pl - ph)
            d = d * scale
            at = c * size + base + j
            if not fresh:
                d = d + load(change, at)
            store(change, at, d)


@njit
def _moved(state, change, size, base, n, width, channels, pitch, numbers):  # type: ignore[no-untyped-def]
    """Primitive states of a row after a change of the conserved variables, in place."""
    gamma, capacity = splat(numbers, _GAMMA), splat(numbers, _CAPACITY)
    last = channels - 1
    for j in range(0, n, width):
        r = load(state, j)
        k = _others(state, j, pitch, channels, 0)
        energy = _energy_of(capacity, r, zero(state), k, load(state, last * pitch + j))
        energy = energy + load(change, last * size + base + j)
        new = r + load(change, base + j)
        kinetic, each = zero(state), 1.0 / new
        for c in range(1, last):
            m = r * load(state, c * pitch + j) + load(change, c * size + base + j)
            v = m * each
            kinetic = kinetic + m * v
            store(state, c * pitch + j, v)
        p = (gamma - 1.0) * (energy - 0.5 * kinetic)
        store(state, j, new)
        store(state, last * pitch + j, p)
        store(state, channels * pitch + j, p * each)


@njit
def _ahead(low, high, n, width, channels, pitch, normal, numbers, scale):  # type: ignore[no-untyped-def]
    """`_predict` and `_moved` of both rows at once, where one axis moves by itself."""
    gamma, capacity = splat(numbers, _GAMMA), splat(numbers, _CAPACITY)
    last = channels - 1
    for j in range(0, n, width):
        rl, ul, pl = load(low, j), load(low, normal * pitch + j), load(low, last * pitch + j)
        rh, uh, ph = load(high, j), load(high, normal * pitch + j), load(high, last * pitch + j)
        el = _energy_of(capacity, rl, ul, _others(low, j, pitch, channels, normal), pl)
        eh = _energy_of(capacity, rh, uh, _others(high, j, pitch, channels, normal), ph)
        ml, mh = rl * ul, rh * uh
        mass = (ml - mh) * scale
        push = (ml * ul - mh * uh + (pl - ph)) * scale
        work = (ul * (el + pl) - uh * (eh + ph)) * scale
        nl, nh = rl + mass, rh + mass
        each_l, each_h = 1.0 / nl, 1.0 / nh
        ul, uh = (ml + push) * each_l, (mh + push) * each_h
        kinetic_l, kinetic_h = (ml + push) * ul, (mh + push) * uh
        store(low, normal * pitch + j, ul)
        store(high, normal * pitch + j, uh)
        for c in range(1, last):
            if c != normal:
                vl, vh = load(low, c * pitch + j), load(high, c * pitch + j)
                drag = (ml * vl - mh * vh) * scale
                tl, th = rl * vl + drag, rh * vh + drag
                vl, vh = tl * each_l, th * each_h
                kinetic_l, kinetic_h = kinetic_l + tl * vl, kinetic_h + th * vh
                store(low, c * pitch + j, vl)
                store(high, c * pitch + j, vh)
        pl = (gamma - 1.0) * (el + work - 0.5 * kinetic_l)
        ph = (gamma - 1.0) * (eh + work - 0.5 * kinetic_h)
        store(low, j, nl)
        store(high, j, nh)
        store(low, last * pitch + j, pl)
        store(high, last * pitch + j, ph)
        store(low, channels * pitch + j, pl * each_l)
        store(high, channels * pitch + j, ph * each_h)


@njit
def _ratios(state, n, width, channels, pitch):  # type: ignore[no-untyped-def]
    """Pressure over density of a row of states, behind them."""
    for j in range(0, n, width):
        store(state, channels * pitch + j, load(state, (channels - 1) * pitch + j) / load(state, j))


@njit
def _fluxes(left, before, right, after, flux, n, width, channels, pitch, normal, solver, numbers):  # type: ignore[no-untyped-def]
    """Fluxes through n faces between the states left[before + j] and right[after + j]."""
    gamma, capacity = splat(numbers, _GAMMA), splat(numbers, _CAPACITY)
    last = channels - 1
    if solver == 2:
        for j in range(0, n, width):
            a, b = before + j, after + j
            mass, push, work, from_left = _hllc_flux(
                gamma,
                capacity,
                load(left, a),
                load(left, normal * pitch + a),
                _others(left, a, pitch, channels, normal),
                load(left, last * pitch + a),
                load(left, channels * pitch + a),
                load(right, b),
                load(right, normal * pitch + b),
                _others(right, b, pitch, channels, normal),
                load(right, last * pitch + b),
                load(right, channels * pitch + b),
            )
            store(flux, j, mass)
            store(flux, last * pitch + j, work)
            for c in range(1, last):
                if c == normal:
                    store(flux, c * pitch + j, push)
                else:
                    v = choose(from_left, load(left, c * pitch + a), load(right, c * pitch + b))
                    store(flux, c * pitch + j, mass * v)
        return
    for j in range(0, n, width):
        a, b = before + j, after + j
        rl, ul, pl = load(left, a), load(left, normal * pitch + a), load(left, last * pitch + a)
        rr, ur, pr = load(right, b), load(right, normal * pitch + b), load(right, last * pitch + b)
        tl, tr = load(left, channels * pitch + a), load(right, channels * pitch + b)
        if solver == 1:
            slow, fast = _davis_bounds(gamma, tl, ul, tr, ur)
        else:
            slow, fast = _rusanov_bounds(gamma, tl, ul, tr, ur)
        f, g, h = _fan_weights(slow, fast)
        ml, mr = rl * ul, rr * ur
        store(flux, j, f * ml + g * mr + h * (rr - rl))
        for c in range(1, last):
            vl, vr = load(left, c * pitch + a), load(right, c * pitch + b)
            fl, fr = ml * vl, mr * vr
            if c == normal:
                fl, fr = fl + pl, fr + pr
            store(flux, c * pitch + j, f * fl + g * fr + h * (rr * vr - rl * vl))
        el = _energy_of(capacity, rl, ul, _others(left, a, pitch, channels, normal), pl)
        er = _energy_of(capacity, rr, ur, _others(right, b, pitch, channels, normal), pr)
        store(flux, last * pitch + j, f * (ul * (el + pl)) + g * (ur * (er + pr)) + h * (er - el))


@njit
def _ghosts(w, size, channels, shape, first, pitch, g, sides, entering, start, end):  # type: ignore[no-untyped-def]
    """Fill the ghost cells of primitive variables, axis by axis, from one axis up to another."""
    rows, planes = shape[1] + (2 * g if first < 2 else 0), shape[0] + (2 * g if first < 1 else 0)
    plane = rows * pitch
    for c in range(channels):
        o = c * size
        for axis in range(start, end):
            n = shape[axis]
            sign = -1.0 if c == 1 + axis - first else 1.0
            for side in range(2):
                kind = sides[2 * (axis - first) + side]
                for k in range(g):
                    ghost = g - 1 - k if side == 0 else g + n + k
                    if kind == 0:
                        source = ghost + n if side == 0 else ghost - n
                    elif kind == 2:
                        source = g + k if side == 0 else g + n - 1 - k
                    else:
                        source = g if side == 0 else g + n - 1
                    s = sign if kind == 2 else 1.0
                    if axis == 2:
                        for i in range(planes):
                            for r in range(rows):
                                at = o + i * plane + r * pitch
                                w[at + ghost] = s * w[at + source]
                                if kind == 3:
                                    w[at + ghost] = entering[(2 * (axis - first) + side) * channels + c]
                    else:
                        step, other = (pitch, planes) if axis == 1 else (plane, rows)
                        across = plane if axis == 1 else pitch
                        for i in range(other):
                            for j in range(pitch):
                                at = o + i * across + j
                                w[at + ghost * step] = s * w[at + source * step]
                                if kind == 3:
                                    w[at + ghost * step] = entering[
                                        (2 * (axis - first) + side) * channels + c
                                    ]


@njit
def _advanced(  # type: ignore[no-untyped-def]
    u, w, change, size, channels, shape, first, pitch, g, width, scheme, solver, predicted, h, numbers,
    low, high, held, flux,
):  # fmt: skip
    """u + h times its rate, in place, from the primitive variables w with their ghost cells."""
    n0, n1, n2 = shape[0], shape[1], shape[2]
    g0, g1 = (g if first < 1 else 0), (g if first < 2 else 0)
    plane = (n1 + 2 * g1) * pitch
    if predicted:
        e0, e1 = (1 if first < 1 else 0), (1 if first < 2 else 0)
        for i in range(g0 - e0, g0 + n0 + e0):
            for r in range(g1 - e1, g1 + n1 + e1):
                base = i * plane + r * pitch + g - 1
                for axis in range(2, first - 1, -1):
                    stride = 1 if axis == 2 else (pitch if axis == 1 else plane)
                    scale = 0.5 * h * numbers[_INVERSE + axis]
                    _faces(
                        w, low, high, size, base, stride, n2 + 2, width, channels, pitch, scheme, numbers
                    )
                    _predict(
                        low, high, change, size, base, n2 + 2, width, channels, pitch, 1 + axis - first, numbers,
                        scale, axis == 2,
                    )  # fmt: skip
    scale = h * numbers[_INVERSE + 2]
    for i in range(g0, g0 + n0):
        for r in range(g1, g1 + n1):
            base = i * plane + r * pitch + g
            _faces(w, low, high, size, base - 1, 1, n2 + 2, width, channels, pitch, scheme, numbers)
            if predicted:
                _moved(low, change, size, base - 1, n2 + 2, width, channels, pitch, numbers)
                _moved(high, change, size, base - 1, n2 + 2, width, channels, pitch, numbers)
            else:
                _ratios(low, n2 + 2, width, channels, pitch)
                _ratios(high, n2 + 2, width, channels, pitch)
            _fluxes(high, 0, low, 1, flux, n2 + 1, width, channels, pitch, 3 - first, solver, numbers)
            for c in range(channels):
                o, f = c * size + base, c * pitch
                for j in range(0, n2, width):
                    store(u, o + j, load(u, o + j) - (load(flux, f + j + 1) - load(flux, f + j)) * scale)
    for axis in range(first, 2):
        stride, step = (pitch, plane) if axis == 1 else (plane, pitch)
        n, across = (n1, n0) if axis == 1 else (n0, n1)
        start = g0 if axis == 1 else g1
        scale = h * numbers[_INVERSE + axis]
        for other in range(start, start + across):
            swap = False
            for k in range(g - 1, g + n + 1):
                base = other * step + k * stride + g
                # The states above the cells before stay in one of two rows.
                if swap:
                    above, below = held, high
                else:
                    above, below = high, held
                _faces(w, low, above, size, base, stride, n2, width, channels, pitch, scheme, numbers)
                if predicted:
                    _moved(low, change, size, base, n2, width, channels, pitch, numbers)
                    _moved(above, change, size, base, n2, width, channels, pitch, numbers)
                else:
                    _ratios(low, n2, width, channels, pitch)
                    _ratios(above, n2, width, channels, pitch)
                if k >= g:
                    _fluxes(
                        below,
                        0,
                        low,
                        0,
                        flux,
                        n2,
                        width,
                        channels,
                        pitch,
                        1 + axis - first,
                        solver,
                        numbers,
                    )
                    for c in range(channels):
                        o, f = c * size + base, c * pitch
                        for j in range(0, n2, width):
                            change_ = load(flux, f + j) * scale
                            if k > g:
                                store(u, o + j - stride, load(u, o + j - stride) - change_)
                            if k < g + n:
                                store(u, o + j, load(u, o + j) + change_)
                swap = not swap


@njit
def _swept(  # type: ignore[no-untyped-def]
    u, w, size, channels, shape, first, pitch, g, width, scheme, solver, h, numbers, axis, low, high, held, flux,
):  # fmt: skip
    """u after h of the fluxes along one axis, in place, from the primitive variables w with their ghost cells there.

    In pieces of rows, so that the states on their faces stay in the first-level cache.
    """
    n0, n1, n2 = shape[0], shape[1], shape[2]
    g0, g1 = (g if first < 1 else 0), (g if first < 2 else 0)
    plane = (n1 + 2 * g1) * pitch
    normal = 1 + axis - first
    scale = h * numbers[_INVERSE + axis]
    half = scale * 0.5
    if axis == 2:
        for i in range(g0, g0 + n0):
            for r in range(g1, g1 + n1):
                for piece in range(0, n2, _PIECE):
                    n = min(_PIECE, n2 - piece)
                    base = i * plane + r * pitch + g + piece
                    _faces(w, low, high, size, base - 1, 1, n + 2, width, channels, _ROW, scheme, numbers)
                    _ahead(low, high, n + 2, width, channels, _ROW, normal, numbers, half)
                    _fluxes(high, 0, low, 1, flux, n + 1, width, channels, _ROW, normal, solver, numbers)
                    for c in range(channels):
                        o, f = c * size + base, c * _ROW
                        for j in range(0, n, width):
                            through = load(flux, f + j + 1) - load(flux, f + j)
                            store(u, o + j, load(u, o + j) - through * scale)
        return
    stride, step = (pitch, plane) if axis == 1 else (plane, pitch)
    count, across, start = (n1, n0, g0) if axis == 1 else (n0, n1, g1)
    for other in range(start, start + across):
        for piece in range(0, n2, _PIECE):
            n = min(_PIECE, n2 - piece)
            for k in range(g - 1, g + count + 1):
                base = other * step + k * stride + g + piece
                # The states above the cells before stay in one of two rows.
                if (k - g) % 2 == 0:
                    above, below = held, high
                else:
                    above, below = high, held
                _faces(w, low, above, size, base, stride, n, width, channels, _ROW, scheme, numbers)
                _ahead(low, above, n, width, channels, _ROW, normal, numbers, half)
                if k < g:
                    continue
                _fluxes(below, 0, low, 0, flux, n, width, channels, _ROW, normal, solver, numbers)
                for c in range(channels):
                    o, f = c * size + base, c * _ROW
                    for j in range(0, n, width):
                        through = load(flux, f + j) * scale
                        if k > g:
                            store(u, o + j - stride, load(u, o + j - stride) - through)
                        if k < g + count:
                            store(u, o + j, load(u, o + j) + through)


@njit
def _rows(u, w, size, channels, shape, first, pitch, g, width, how, numbers, found):  # type: ignore[no-untyped-def]
    """Primitive variables of all cells; the largest rate, and whether all are admissible."""
    g0, g1 = (g if first < 1 else 0), (g if first < 2 else 0)
    plane = (shape[1] + 2 * g1) * pitch
    nothing = zero(found)
    store(found, 0, nothing)
    store(found, width, nothing + math.inf)
    store(found, 2 * width, nothing)
    for i in range(g0, g0 + shape[0]):
        for r in range(g1, g1 + shape[1]):
            base = i * plane + r * pitch + g
            _primitive(u, w, size, base, shape[2], width, channels, first, how, numbers, found)
    top = largest(load(found, 0))
    good = True
    for k in range(width):
        good = good and found[width + k] > 0.0 and found[2 * width + k] == 0.0
    return top, good


@kernel
def march(  # type: ignore[no-untyped-def]
    u, w, start, change, channels, shape, first, pitch, g, width, scheme, solver, how, weights,
    remaining, taken, planned, most, cfl, growth, shorter, sides, entering, numbers, low, high, held, flux, found,
):  # fmt: skip
    """Substeps of one sample until its time is over, or one of them needs other help.

    `planned` > 0 fixes the number of substeps, of which `taken` are behind it. Returns the time that remains, the
    substeps taken, the length of a substep that left the admissible states (or 0, and the state before it), and
    whether too many are needed.
    """
    size, dimension = len(u) // channels, 3 - first
    top, good = _rows(u, w, size, channels, shape, first, pitch, g, width, how, numbers, found)
    again = 0
    short = 1.0
    while remaining > 0.0:
        if planned > 0:
            count = float(planned - taken)
        else:
            wanted = top * remaining / (cfl * short) * (1.0 - 1e-12)
            if wanted > most - taken:
                return remaining, taken, 0.0, True
            full = how != NOW and (wanted > 2.0 or (wanted > 1.0 and taken % 2 == 1))
            count = wanted if full else max(1.0, math.ceil(wanted))
        h = remaining / count
        start[:] = u
        if how == SWEEPS:
            # A last one without partner is symmetric by itself.
            alone = count <= 1.0 and taken % 2 == 0
            for k in range(2 * dimension - 1 if alone else dimension):
                axis = first + (k if k < dimension else 2 * dimension - 2 - k)
                if not alone and taken % 2 == 1:
                    axis = 2 - k
                if k > 0:
                    new, good = _rows(
                        u, w, size, channels, shape, first, pitch, g, width, how, numbers, found
                    )
                    if not good:
                        u[:] = start
                        return remaining, taken, h, False
                _ghosts(w, size, channels, shape, first, pitch, g, sides, entering, axis, axis + 1)
                part = 0.5 * h if alone and k != dimension - 1 else h
                _swept(
                    u, w, size, channels, shape, first, pitch, g, width, scheme, solver, part, numbers, axis,
                    low, high, held, flux,
                )  # fmt: skip
            new, good = _rows(u, w, size, channels, shape, first, pitch, g, width, how, numbers, found)
            if not good:
                u[:] = start
                return remaining, taken, h, False
        for stage in range(len(weights) if how != SWEEPS else 0):
            _ghosts(w, size, channels, shape, first, pitch, g, sides, entering, first, 3)
            _advanced(
                u, w, change, size, channels, shape, first, pitch, g, width, scheme, solver, how == AHEAD, h, numbers,
                low, high, held, flux,
            )  # fmt: skip
            new, good = _rows(u, w, size, channels, shape, first, pitch, g, width, how, numbers, found)
            if not good:
                u[:] = start
                return remaining, taken, h, False
            if weights[stage] > 0.0:
                a, b = weights[stage], 1.0 - weights[stage]
                for k in range(0, len(u), width):
                    store(u, k, load(start, k) * a + load(u, k) * b)
                new, good = _rows(u, w, size, channels, shape, first, pitch, g, width, how, numbers, found)
        if planned == 0 and new > growth * top and again < AGAIN:
            # Waves that were not there when it was planned.
            u[:] = start
            new_top, good = _rows(u, w, size, channels, shape, first, pitch, g, width, how, numbers, found)
            top, short = new, shorter
            again += 1
            continue
        again, short = 0, 1.0
        taken += 1
        top = new
        remaining = remaining - h if count > 1.0 else 0.0
    return remaining, taken, 0.0, False


class Fused:
    """Substeps of an ideal gas in one precision; made by `fused`."""

    def __init__(
        self,
        shape: tuple[int, ...],
        spacing: tuple[float, ...],
        gamma: float,
        *,
        scheme: str,
        solver: str,
        time: str,
        sides: list[int],
        entering: Array,
        dtype: torch.dtype,
    ) -> None:
        scalar = {torch.float64: np.float64, torch.float32: np.float32}[dtype]
        self.dimension, self.channels, self.scalar = len(shape), len(shape) + 2, scalar
        self.first = 3 - self.dimension
        self.shape = np.array((1,) * self.first + tuple(shape), dtype=np.int64)
        self.ghosts = 3 if scheme == "weno5" else 2
        self.width = BYTES // np.dtype(scalar).itemsize
        # Vectors that begin among the last cells of a row end in its padding.
        self.pitch = -(-(shape[-1] + 2 * self.ghosts) // self.width) * self.width + self.width
        inverse = [1.0 / h for h in spacing]
        tiny = 1e-40 if dtype == torch.float64 else 1e-12
        self.numbers = np.array(
            [gamma, 1.0 / (gamma - 1.0), *[0.0] * self.first, *inverse, tiny], dtype=scalar
        )
        # With one axis there is nothing to sweep apart.
        how = SWEEPS if time == "sweeps" or (time == "hancock" and self.dimension == 1) else NOW
        how = AHEAD if time == "hancock" and self.dimension > 1 else how
        self.options = (RECONSTRUCTIONS[scheme], RIEMANN[solver], how)
        self.weights = np.array(TIMES[time], dtype=scalar)
        self.sides, self.entering = np.array(sides, dtype=np.int64), entering.astype(scalar).ravel()

    def _cells(self) -> tuple[slice, ...]:
        """Where the cells of the grid stand in [channel][plane][row][cell]."""
        g = self.ghosts
        return (
            slice(None),
            *(slice(g, g + n) if a >= self.first else slice(None) for a, n in enumerate(self.shape[:2])),
            slice(g, g + self.shape[2]),
        )

    def _work(self) -> dict[str, Array]:
        padded = [int(n) + (2 * self.ghosts if a >= self.first else 0) for a, n in enumerate(self.shape)]
        whole = (self.channels, padded[0], padded[1], self.pitch)
        arrays = {name: np.zeros(whole, self.scalar) for name in ("u", "w", "start", "change")}
        rows = {
            name: np.zeros((self.channels + 1) * max(self.pitch, _ROW), self.scalar)
            for name in ("low", "high", "held", "flux")
        }
        return {**arrays, **rows, "found": np.zeros(3 * self.width, self.scalar)}

    def __call__(
        self,
        u: Tensor,
        dt: float,
        *,
        cfl: float,
        substeps: int | None,
        max_substeps: int,
        rescue: Callable[[int, Tensor, float, int, bool], Tensor],
    ) -> tuple[Tensor, int, list[int]]:
        """The states (B, C, *cells) after dt, the most substeps that a sample took, and those that need too many.

        Args:
            u: states that the law admits.
            dt: time.
            cfl, substeps, max_substeps: as in `finite_volume`.
            rescue: (sample, its state (1, C, *cells), h, substeps taken, whether it is the last) -> the state after
                a substep that left the admissible states here.
        """
        given = u.detach().numpy()
        new = np.empty_like(given)
        counts, lost = [0] * len(given), []

        def run(first: int, end: int) -> None:
            work, cells = self._work(), self._cells()
            flat = {name: array.reshape(-1) for name, array in work.items()}
            inside = work["u"][cells]
            for sample in range(first, end):
                inside[...] = given[sample].reshape(inside.shape)
                remaining, taken = dt, 0
                while remaining > 0:
                    remaining, taken, h, many = self._march(
                        flat, remaining, taken, cfl, substeps, max_substeps
                    )
                    if many or h > 0:
                        if many:
                            lost.append(sample)
                            inside[...] = np.nan
                            break
                        state = torch.from_numpy(inside.reshape(1, self.channels, *given.shape[2:]).copy())
                        after = (
                            rescue(sample, state, h, taken, h >= remaining).numpy().reshape(inside.shape)
                        )
                        inside[...] = after
                        taken += 1
                        remaining = remaining - h if remaining > h else 0.0
                        if not np.isfinite(after).all():
                            break
                counts[sample] = taken
                new[sample] = inside.reshape(given.shape[1:])

        share(len(given), run)
        return torch.from_numpy(new), max(counts, default=0), sorted(lost)

    def _march(
        self,
        flat: dict[str, Array],
        remaining: float,
        taken: int,
        cfl: float,
        substeps: int | None,
        max_substeps: int,
    ) -> tuple[float, int, float, bool]:
        found: tuple[float, int, float, bool] = march(
            flat["u"],
            flat["w"],
            flat["start"],
            flat["change"],
            self.channels,
            self.shape,
            self.first,
            self.pitch,
            self.ghosts,
            self.width,
            *self.options,
            self.weights,
            float(remaining),
            taken,
            substeps or 0,
            max_substeps,
            cfl,
            GROWTH,
            SHORTER,
            self.sides,
            self.entering,
            self.numbers,
            flat["low"],
            flat["high"],
            flat["held"],
            flat["flux"],
            flat["found"],
        )
        return found
