"""Conjugate gradients with the multigrid cycle of `multigrid`, in compiled loops, one sample after the other.

With tensors each operation passes over all samples in memory. Here one sample lies in cache, a sweep reads and
writes it once, and the cycle works in single precision: it only has to be near the inverse, while residuals and
solution are kept in double precision.

Needs numba (the extra `compiled`), real numbers and a processor's memory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from llvmlite import ir
from numba import njit
from torch import Tensor

from sciml.solvers.elliptic.diffusion import Diffusion
from sciml.solvers.elliptic.multigrid import DENSE, plan, smoothing_weights
from sciml.solvers.lanes.share import share
from sciml.solvers.lanes.vector import Vector, intrinsic, kernel, load, splat, store, zero

Array = np.ndarray[Any, Any]

# Fields are three-dimensional, missing axes in front have one point. Each row starts after _PAD elements, the last
# of which is the value beyond its low end, and is filled up with zeros to whole vectors: what is computed there
# stays zero, as the inverse diagonal is zero.
_PAD = 16
# Columns of the table that has a row for each stage of coarsening: sizes, distances between rows and planes, places
# of the first elements of conductances, inverse diagonal, reaction, two iterates and right-hand side, the axis
# along which the stage before was halved, weights of the transfer, and whether there is smoothing on it.
_N0, _N1, _N2, _ROW, _PLANE, _K0, _K1, _K2, _DINV, _REACTION, _U, _V, _B = range(13)
_AXIS, _LOWER, _UPPER, _SMOOTH, _COLUMNS = range(13, 18)
# Places of single numbers at the head of the pool.
_WEIGHTS, _SUMS, _HEAD = 0, 16, 64


def _shuffled(choose: Any) -> Any:
    def typed(typing: Any, a: Any, b: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            kind = ir.VectorType(ir.IntType(32), a.width)
            return builder.shuffle_vector(*arguments, ir.Constant(kind, choose(a.width)))

        return (a(a, b), generate) if isinstance(a, Vector) else None

    return typed


_evens = intrinsic(_shuffled(lambda width: [2 * i for i in range(width)]))
_odds = intrinsic(_shuffled(lambda width: [2 * i + 1 for i in range(width)]))
_zip_low = intrinsic(_shuffled(lambda width: [i // 2 + width * (i % 2) for i in range(width)]))
_zip_high = intrinsic(_shuffled(lambda width: [(width + i) // 2 + width * (i % 2) for i in range(width)]))


@njit(forceinline=True)
def _flows(pool, stage, u, q, lost):  # type: ignore[no-untyped-def]
    """-A u for the vector of points at q."""
    row, plane = stage[_ROW], stage[_PLANE]
    c = load(pool, u + q)
    k = stage[_K2] + q
    r = load(pool, k) * (load(pool, u + q - 1) - c) + load(pool, k + 1) * (load(pool, u + q + 1) - c)
    if stage[_K1] > 0:
        k = stage[_K1] + q
        r = r + load(pool, k) * (load(pool, u + q - row) - c)
        r = r + load(pool, k + row) * (load(pool, u + q + row) - c)
    if stage[_K0] > 0:
        k = stage[_K0] + q
        r = r + load(pool, k) * (load(pool, u + q - plane) - c)
        r = r + load(pool, k + plane) * (load(pool, u + q + plane) - c)
    if lost:
        r = r - load(pool, stage[_REACTION] + q) * c
    return r


@kernel
def _sweep(pool, stage, u, v, weight, width, lost):  # type: ignore[no-untyped-def]
    """v = u + weight (b - A u) / diagonal."""
    w = splat(pool, weight)
    for i in range(stage[_N0]):
        for j in range(stage[_N1]):
            first = i * stage[_PLANE] + j * stage[_ROW]
            for q in range(first, first + stage[_N2], width):
                r = load(pool, stage[_B] + q) + _flows(pool, stage, u, q, lost)
                store(pool, v + q, load(pool, u + q) + w * load(pool, stage[_DINV] + q) * r)


@kernel
def _first_sweep(pool, stage, u, weight, width):  # type: ignore[no-untyped-def]
    """u = weight b / diagonal."""
    w = splat(pool, weight)
    for i in range(stage[_N0]):
        for j in range(stage[_N1]):
            first = i * stage[_PLANE] + j * stage[_ROW]
            for q in range(first, first + stage[_N2], width):
                store(pool, u + q, w * load(pool, stage[_DINV] + q) * load(pool, stage[_B] + q))


@kernel
def _residual(pool, stage, u, v, width, lost):  # type: ignore[no-untyped-def]
    """v = b - A u, zero outside."""
    for i in range(stage[_N0]):
        for j in range(stage[_N1]):
            first = i * stage[_PLANE] + j * stage[_ROW]
            for q in range(first, first + stage[_N2], width):
                store(pool, v + q, load(pool, stage[_B] + q) + _flows(pool, stage, u, q, lost))
            pool[v + first - 1] = 0.0
            pool[v + first + stage[_N2]] = 0.0


@kernel
def _wrap(pool, stage, u, wraps):  # type: ignore[no-untyped-def]
    """The values beyond the ends: zero, or those from the other end."""
    n0, n1, n2, row, plane = stage[_N0], stage[_N1], stage[_N2], stage[_ROW], stage[_PLANE]
    for i in range(n0):
        for j in range(n1):
            o = u + i * plane + j * row
            pool[o - 1] = pool[o + n2 - 1] if wraps[2] else 0.0
            pool[o + n2] = pool[o] if wraps[2] else 0.0
        if wraps[1]:
            o = u + i * plane
            for k in range(n2):
                pool[o - row + k] = pool[o + (n1 - 1) * row + k]
                pool[o + n1 * row + k] = pool[o + k]
    if wraps[0]:
        for j in range(n1):
            o = u + j * row
            for k in range(n2):
                pool[o - plane + k] = pool[o + (n0 - 1) * plane + k]
                pool[o + n0 * plane + k] = pool[o + k]


@njit(forceinline=True)
def _across(stage, axis):  # type: ignore[no-untyped-def]
    """Points and distance along `axis`, and along the other axis that is not the last."""
    if axis == 0:
        return stage[_N0], stage[_PLANE], stage[_N1], stage[_ROW]
    return stage[_N1], stage[_ROW], stage[_N0], stage[_PLANE]


@kernel
def _restrict(pool, fine, coarse, r, wraps, width):  # type: ignore[no-untyped-def]
    """b of the coarse stage from the residual r of the fine one: the transpose of `_prolong`."""
    axis, lower, upper, b = coarse[_AXIS], coarse[_LOWER], coarse[_UPPER], coarse[_B]
    if axis == 2:
        m = coarse[_N2]
        for i in range(coarse[_N0]):
            for j in range(coarse[_N1]):
                to = i * coarse[_PLANE] + j * coarse[_ROW]
                of = r + i * fine[_PLANE] + j * fine[_ROW]
                for k in range(0, m, width):
                    q, p = to + k, of + 2 * k
                    a0, a1 = load(pool, p), load(pool, p + width)
                    b0, b1 = load(pool, p - 2), load(pool, p + width - 2)
                    c0, c1 = load(pool, p + 2), load(pool, p + width + 2)
                    first, second = _evens(a0, a1), _odds(a0, a1)
                    down, up = load(pool, lower + q), load(pool, upper + q)
                    s = first + second - down * first - up * second
                    s = s + load(pool, lower + q + 1) * _evens(c0, c1)
                    s = s + load(pool, upper + q - 1) * _odds(b0, b1)
                    store(pool, b + q, s)
                if wraps[2]:
                    pool[b + to + m - 1] += pool[lower + to] * pool[of]
                    pool[b + to] += pool[upper + to + m - 1] * pool[of + 2 * m - 1]
                for k in range(to + m, to + (m + width - 1) // width * width):
                    pool[b + k] = 0.0
        return
    n, step, others, other = _across(fine, axis)
    m, to_step, _, to_other = _across(coarse, axis)
    nothing = zero(pool)
    for i in range(others):
        for j in range(m):
            of, to = r + i * other + 2 * j * step, i * to_other + j * to_step
            below = j - 1 if j > 0 else m - 1
            above = j + 1 if j + 1 < m else 0
            has_below, has_above = j > 0 or wraps[axis], j + 1 < m or wraps[axis]
            has_second, has_second_below = 2 * j + 1 < n, 2 * below + 1 < n
            for k in range(0, coarse[_N2], width):
                q = to + k
                first = load(pool, of + k)
                s = first - load(pool, lower + q) * first
                if has_second:
                    second = load(pool, of + step + k)
                    s = s + second - load(pool, upper + q) * second
                if has_above:
                    at = i * to_other + above * to_step + k
                    s = s + load(pool, lower + at) * load(pool, r + i * other + 2 * above * step + k)
                if has_below and has_second_below:
                    at = i * to_other + below * to_step + k
                    s = s + load(pool, upper + at) * load(pool, r + i * other + (2 * below + 1) * step + k)
                store(pool, b + q, s + nothing)


@kernel
def _prolong(pool, fine, coarse, e, u, adding, width):  # type: ignore[no-untyped-def]
    """u of the fine stage, or what is added to it, from e on the coarse one."""
    axis, lower, upper = coarse[_AXIS], coarse[_LOWER], coarse[_UPPER]
    if axis == 2:
        for i in range(coarse[_N0]):
            for j in range(coarse[_N1]):
                of = i * coarse[_PLANE] + j * coarse[_ROW]
                to = u + i * fine[_PLANE] + j * fine[_ROW]
                for k in range(0, coarse[_N2], width):
                    q, p = of + k, to + 2 * k
                    c = load(pool, e + q)
                    first = c - load(pool, lower + q) * (c - load(pool, e + q - 1))
                    second = c + load(pool, upper + q) * (load(pool, e + q + 1) - c)
                    low, high = _zip_low(first, second), _zip_high(first, second)
                    if adding:
                        low, high = low + load(pool, p), high + load(pool, p + width)
                    store(pool, p, low)
                    if 2 * k + width < fine[_N2]:
                        store(pool, p + width, high)
                pool[to + fine[_N2]] = 0.0
        return
    n, step, others, other = _across(fine, axis)
    m, from_step, _, from_other = _across(coarse, axis)
    for i in range(others):
        for j in range(m):
            of, to = i * from_other + j * from_step, u + i * other + 2 * j * step
            has_second = 2 * j + 1 < n
            for k in range(0, coarse[_N2], width):
                q, p = of + k, to + k
                c = load(pool, e + q)
                first = c - load(pool, lower + q) * (c - load(pool, e + q - from_step))
                if adding:
                    first = first + load(pool, p)
                store(pool, p, first)
                if has_second:
                    second = c + load(pool, upper + q) * (load(pool, e + q + from_step) - c)
                    if adding:
                        second = second + load(pool, p + step)
                    store(pool, p + step, second)


@kernel
def _halve(pool, fine, coarse, wraps, lost):  # type: ignore[no-untyped-def]
    """Conductances of the coarse stage: resistances in series along the axis, in parallel across it."""
    axis = coarse[_AXIS]
    fs, cs = (fine[_PLANE], fine[_ROW], 1), (coarse[_PLANE], coarse[_ROW], 1)
    n, m = fine[axis], coarse[axis]
    k, kc, half = fine[_K0 + axis], coarse[_K0 + axis], coarse[_B]
    lower, upper = coarse[_LOWER], coarse[_UPPER]
    a = (axis + 1) % 3
    c = (axis + 2) % 3
    if a > c:
        a, c = c, a
    one = pool.dtype.type(1.0)
    for i in range(fine[a]):
        for j in range(fine[c]):
            of, to = i * fs[a] + j * fs[c], i * cs[a] + j * cs[c]
            for pair in range(m):
                if 2 * pair + 1 < n:
                    within = pool[k + of + (2 * pair + 1) * fs[axis]]
                    pool[half + to + pair * cs[axis]] = pool.dtype.type(0.5) / within
                else:
                    pool[half + to + pair * cs[axis]] = 0.0
            pool[half + to - cs[axis]] = pool[half + to + (m - 1) * cs[axis]] if wraps[axis] else 0.0
            pool[half + to + m * cs[axis]] = pool[half + to] if wraps[axis] else 0.0
            for face in range(m + 1):
                g = pool[k + of + (2 * face if face < m else n) * fs[axis]]
                o = to + face * cs[axis]
                pool[kc + o] = g / (one + g * (pool[half + o - cs[axis]] + pool[half + o]))
            for pair in range(m):
                o = to + pair * cs[axis]
                pool[lower + o] = pool[half + o] * pool[kc + o]
                pool[upper + o] = pool[half + o] * pool[kc + o + cs[axis]]
            pool[half + to - cs[axis]] = 0.0
            pool[half + to + m * cs[axis]] = 0.0
    for other in (a, c):
        if fine[_K0 + other] > 0:
            # One more face along the other axis.
            na, nc = fine[a] + (other == a), fine[c] + (other == c)
            _pairs(pool, fine[_K0 + other], coarse[_K0 + other], n, m, na, nc, fs, cs, axis, a, c)
    if lost:
        _pairs(pool, fine[_REACTION], coarse[_REACTION], n, m, fine[a], fine[c], fs, cs, axis, a, c)


@njit(forceinline=True)
def _pairs(pool, fine, coarse, n, m, na, nc, fs, cs, axis, a, c):  # type: ignore[no-untyped-def]
    for i in range(na):
        for pair in range(m):
            both = 2 * pair + 1 < n
            for j in range(nc):
                of = fine + i * fs[a] + j * fs[c] + 2 * pair * fs[axis]
                value = pool[of]
                if both:
                    value += pool[of + fs[axis]]
                pool[coarse + i * cs[a] + j * cs[c] + pair * cs[axis]] = value


@kernel
def _inverse_diagonal(pool, stage, lost):  # type: ignore[no-untyped-def]
    row, plane = stage[_ROW], stage[_PLANE]
    one = pool.dtype.type(1.0)
    for i in range(stage[_N0]):
        for j in range(stage[_N1]):
            first = i * plane + j * row
            for q in range(first, first + stage[_N2]):
                d = pool[stage[_K2] + q] + pool[stage[_K2] + q + 1]
                if stage[_K1] > 0:
                    d += pool[stage[_K1] + q] + pool[stage[_K1] + q + row]
                if stage[_K0] > 0:
                    d += pool[stage[_K0] + q] + pool[stage[_K0] + q + plane]
                if lost:
                    d += pool[stage[_REACTION] + q]
                pool[stage[_DINV] + q] = one / d


@kernel
def _invert(pool, stage, wraps, lost, singular, matrix):  # type: ignore[no-untyped-def]
    """The inverse of the coarsest operator by elimination, in double precision."""
    n0, n1, n2 = stage[_N0], stage[_N1], stage[_N2]
    count = n0 * n1 * n2
    matrix[:, :] = 0.0
    sizes, steps, places = (n0, n1, n2), (n1 * n2, n2, 1), (stage[_PLANE], stage[_ROW], 1)
    for i in range(n0):
        for j in range(n1):
            for k in range(n2):
                me, q = (i * n1 + j) * n2 + k, i * places[0] + j * places[1] + k
                at = (i, j, k)
                if lost:
                    matrix[me, me] += pool[stage[_REACTION] + q]
                for axis in range(3):
                    if stage[_K0 + axis] <= 0:
                        continue
                    for end in range(2):
                        g = pool[stage[_K0 + axis] + q + end * places[axis]]
                        matrix[me, me] += g
                        to = at[axis] + 2 * end - 1
                        if 0 <= to < sizes[axis]:
                            matrix[me, me + (2 * end - 1) * steps[axis]] -= g
                        elif wraps[axis]:
                            matrix[me, me - (2 * end - 1) * (sizes[axis] - 1) * steps[axis]] -= g
    if singular:
        mean = 0.0
        for i in range(count):
            mean += matrix[i, i]
        matrix[:, :] += mean / count / count
    for i in range(count):
        pivot = 1.0 / matrix[i, i]
        matrix[i, i] = 1.0
        for k in range(count):
            matrix[i, k] *= pivot
        for j in range(count):
            if j != i:
                factor = matrix[j, i]
                matrix[j, i] = 0.0
                for k in range(count):
                    matrix[j, k] -= factor * matrix[i, k]


@kernel
def _solve_coarsest(pool, stage, inverse):  # type: ignore[no-untyped-def]
    n0, n1, n2 = stage[_N0], stage[_N1], stage[_N2]
    for me in range(n0 * n1 * n2):
        total, other = 0.0, 0
        for i in range(n0):
            for j in range(n1):
                b = stage[_B] + i * stage[_PLANE] + j * stage[_ROW]
                for k in range(n2):
                    total += inverse[me, other] * pool[b + k]
                    other += 1
        i, j, k = me // (n1 * n2), me // n2 % n1, me % n2
        pool[stage[_U] + i * stage[_PLANE] + j * stage[_ROW] + k] = total


@kernel
def _set_up(pool, table, wraps, lost, singular, inverse):  # type: ignore[no-untyped-def]
    """Everything that depends on the operator alone, from the conductances of the first stage."""
    for s in range(1, len(table)):
        _halve(pool, table[s - 1], table[s], wraps, lost)
    for s in range(len(table) - 1):
        if table[s, _SMOOTH]:
            _inverse_diagonal(pool, table[s], lost)
    _invert(pool, table[len(table) - 1], wraps, lost, singular, inverse)


@kernel
def _cycle(pool, table, wraps, lost, sweeps, inverse, width):  # type: ignore[no-untyped-def]
    """One V-cycle from b of the first stage; the place of the result."""
    any_wraps = wraps[0] or wraps[1] or wraps[2]
    last = len(table) - 1
    s = 0
    while s < last:
        stage = table[s]
        u, v = stage[_U], stage[_V]
        _first_sweep(pool, stage, u, _WEIGHTS, width)
        if any_wraps:
            _wrap(pool, stage, u, wraps)
        for sweep in range(1, sweeps):
            _sweep(pool, stage, u, v, _WEIGHTS + sweep, width, lost)
            u, v = v, u
            if any_wraps:
                _wrap(pool, stage, u, wraps)
        _residual(pool, stage, u, v, width, lost)
        r = v
        while True:
            _restrict(pool, table[s], table[s + 1], r, wraps, width)
            s += 1
            if table[s, _SMOOTH]:
                break
            r = table[s, _B]
    _solve_coarsest(pool, table[last], inverse)
    e = table[last, _U]
    while s > 0:
        _wrap(pool, table[s], e, wraps)
        below = s - 1
        while not table[below, _SMOOTH]:
            _prolong(pool, table[below], table[below + 1], e, table[below, _U], False, width)
            e = table[below, _U]
            _wrap(pool, table[below], e, wraps)
            below -= 1
        stage = table[below]
        u, v = (stage[_U], stage[_V]) if sweeps % 2 else (stage[_V], stage[_U])
        _prolong(pool, stage, table[below + 1], e, u, True, width)
        s = below
        for sweep in range(sweeps):
            _wrap(pool, stage, u, wraps)
            _sweep(pool, stage, u, v, _WEIGHTS + sweeps - 1 - sweep, width, lost)
            u, v = v, u
        e = u
    return e


@njit(forceinline=True)
def _sum(pool, place, vector, width):  # type: ignore[no-untyped-def]
    store(pool, place, vector)
    total = 0.0
    for i in range(width):
        total += pool[place + i]
    return total


@kernel
def _apply(work, stage, p, ap, wraps, lost, width):  # type: ignore[no-untyped-def]
    """ap = A p and the product p ap."""
    _wrap(work, stage, p, wraps)
    total = zero(work)
    nothing = zero(work)
    for i in range(stage[_N0]):
        for j in range(stage[_N1]):
            first = i * stage[_PLANE] + j * stage[_ROW]
            for q in range(first, first + stage[_N2], width):
                r = nothing - _flows(work, stage, p, q, lost)
                store(work, ap + q, r)
                total = total + r * load(work, p + q)
            # Beyond the end: the flux to a known value, and a value from the other end.
            total = total - _outside(work, stage, p, ap, first, width)
    return _sum(work, _SUMS, total, width)


@njit(forceinline=True)
def _outside(work, stage, p, ap, first, width):  # type: ignore[no-untyped-def]
    """The one point after the end of a row that a vector may have touched: taken out, and set to zero."""
    n = stage[_N2]
    at = first + n // width * width
    if n % width == 0:
        return zero(work)
    before = load(work, ap + at) * load(work, p + at)
    work[ap + first + n] = 0.0
    after = load(work, ap + at) * load(work, p + at)
    return before - after


@kernel
def _advance(work, stage, x, r, p, ap, alpha, width):  # type: ignore[no-untyped-def]
    """x += alpha p, r -= alpha ap; the product r r."""
    work[_WEIGHTS] = alpha
    a = splat(work, _WEIGHTS)
    total = zero(work)
    for i in range(stage[_N0]):
        for j in range(stage[_N1]):
            first = i * stage[_PLANE] + j * stage[_ROW]
            for q in range(first, first + stage[_N2], width):
                store(work, x + q, load(work, x + q) + a * load(work, p + q))
                v = load(work, r + q) - a * load(work, ap + q)
                store(work, r + q, v)
                total = total + v * v
    return _sum(work, _SUMS, total, width)


@kernel
def _feed(pool, b, work, r, stage, scale):  # type: ignore[no-untyped-def]
    """b = scale r, in the precision of the cycle."""
    for i in range(stage[_N0]):
        for j in range(stage[_N1]):
            first = i * stage[_PLANE] + j * stage[_ROW]
            for q in range(first, first + stage[_N2]):
                pool[b + q] = work[r + q] * scale


@kernel
def _product(pool, z, work, r, stage):  # type: ignore[no-untyped-def]
    total = 0.0
    for i in range(stage[_N0]):
        for j in range(stage[_N1]):
            first = i * stage[_PLANE] + j * stage[_ROW]
            t0, t1, t2, t3 = 0.0, 0.0, 0.0, 0.0
            end = first + stage[_N2] // 4 * 4
            for q in range(first, end, 4):
                t0 += pool[z + q] * work[r + q]
                t1 += pool[z + q + 1] * work[r + q + 1]
                t2 += pool[z + q + 2] * work[r + q + 2]
                t3 += pool[z + q + 3] * work[r + q + 3]
            for q in range(end, first + stage[_N2]):
                t0 += pool[z + q] * work[r + q]
            total += (t0 + t1) + (t2 + t3)
    return total


@kernel
def _turn(pool, z, work, p, stage, beta, scale):  # type: ignore[no-untyped-def]
    """p = z / scale + beta p."""
    back = 1.0 / scale
    for i in range(stage[_N0]):
        for j in range(stage[_N1]):
            first = i * stage[_PLANE] + j * stage[_ROW]
            for q in range(first, first + stage[_N2]):
                work[p + q] = pool[z + q] * back + beta * work[p + q]


@kernel
def _put(pool, place, stage, values):  # type: ignore[no-untyped-def]
    """values (n0, n1, n2) into a field."""
    n0, n1, n2 = values.shape
    for i in range(n0):
        for j in range(n1):
            o = place + i * stage[_PLANE] + j * stage[_ROW]
            for k in range(n2):
                pool[o + k] = values[i, j, k]


@kernel
def _take(pool, place, stage, values):  # type: ignore[no-untyped-def]
    n0, n1, n2 = values.shape
    for i in range(n0):
        for j in range(n1):
            o = place + i * stage[_PLANE] + j * stage[_ROW]
            for k in range(n2):
                values[i, j, k] = pool[o + k]


@kernel
def _true_residual(work, fields, b, x, r, wraps, lost, width):  # type: ignore[no-untyped-def]
    """r = b - A x; its norm."""
    _apply(work, fields, x, r, wraps, lost, width)
    total = 0.0
    for i in range(fields[_N0]):
        for j in range(fields[_N1]):
            first = i * fields[_PLANE] + j * fields[_ROW]
            for q in range(first, first + fields[_N2]):
                v = work[b + q] - work[r + q]
                work[r + q] = v
                total += v * v
    return math.sqrt(total)


@kernel
def _conjugate_gradient(  # type: ignore[no-untyped-def]
    pool, work, table, fields, places, wraps, lost, sweeps, inverse, widths, tolerance, most
):
    """Iterations and relative residual; as `sciml.linear.conjugate_gradient`."""
    x, r, p, ap, b = places
    stage = fields
    size = 0.0
    for i in range(stage[_N0]):
        for j in range(stage[_N1]):
            first = i * stage[_PLANE] + j * stage[_ROW]
            for q in range(first, first + stage[_N2]):
                work[x + q] = 0.0
                work[r + q] = work[b + q]
                size += work[b + q] * work[b + q]
    size = math.sqrt(size)
    if size == 0.0:
        return 0, 0.0
    error, checked, rz, fresh, iterations = 1.0, 1.0, 1.0, True, 0
    while error > tolerance:
        scale = 1.0 / (error * size)
        _feed(pool, table[0, _B], work, r, stage, scale)
        z = _cycle(pool, table, wraps, lost, sweeps, inverse, widths[0])
        rz_old = rz
        rz = _product(pool, z, work, r, stage) / scale
        beta = 0.0 if fresh else rz / rz_old
        _turn(pool, z, work, p, stage, beta, scale)
        curvature = _apply(work, stage, p, ap, wraps, lost, widths[1])
        fresh = False
        if curvature > 0.0:
            error = math.sqrt(_advance(work, stage, x, r, p, ap, rz / curvature, widths[1])) / size
            iterations += 1
        over = iterations >= most
        if not (curvature > 0.0 and error > tolerance and not over):
            # The recursion forgets rounding: believe the true residual.
            error = _true_residual(work, stage, b, x, r, wraps, lost, widths[1]) / size
            if over or not error < 0.5 * checked:
                break
            checked, fresh = error, True
    return iterations, error


def _layout(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Distances of rows and planes, offset of the first element and size of a field of (n0, n1, n2)."""
    n0, n1, n2 = shape
    row = _PAD + -(-n2 // _PAD) * _PAD
    plane = (n1 + 2) * row
    # Rows and planes around the field stand for what lies beyond its ends.
    return row, plane, plane + row + _PAD, (n0 + 2) * plane + 2 * _PAD


@dataclass
class _Workspace:
    """Memory of one thread."""

    pool: Array
    work: Array
    inverse: Array


class CompiledMultigrid:
    """b (B, *unknowns) -> u with A u = b, by conjugate gradients with one V-cycle as preconditioner.

    The same iteration as `conjugate_gradient` with `Multigrid`, up to rounding of the cycle.

    Args:
        operator: A, real and symmetric positive (semi-)definite, in float64.
        singular: A has the constants as null space.
        sweeps: as for `Multigrid`.
        precision: of the cycle.
    """

    def __init__(
        self,
        operator: Diffusion,
        *,
        singular: bool = False,
        sweeps: int = 3,
        precision: torch.dtype = torch.float32,
    ) -> None:
        self.operator, self.singular, self.sweeps = operator.detached(), singular, sweeps
        self.precision = np.float32 if precision == torch.float32 else np.float64
        missing = 3 - operator.dimension
        self._shape = (1,) * missing + operator.shape
        self._wraps = np.array([False] * missing + list(operator.periodic))
        self._lost = operator.reaction is not None
        self._faces = [
            np.ascontiguousarray(k.detach().numpy()).reshape(
                len(k), *(n + int(axis == d + missing) for axis, n in enumerate(self._shape))
            )
            for d, k in enumerate(operator.faces)
        ]
        self._reaction = (
            None
            if operator.reaction is None
            else np.ascontiguousarray(operator.reaction.detach().numpy()).reshape(-1, *self._shape)
        )
        self._stages(plan(operator))
        low = {1: 1.0, 2: 0.5, 3: 0.33}[operator.dimension]
        self._weights = smoothing_weights(sweeps, low)

    def _stages(self, halvings: list[list[int]]) -> None:
        missing = 3 - self.operator.dimension
        rows: list[list[int]] = []
        at = _HEAD

        def stage(shape: tuple[int, ...], axis: int, smooth: bool) -> None:
            nonlocal at
            row, plane, offset, size = _layout(shape)
            places = []
            for column in range(_K0, _B + 1):
                absent = column < _K0 + missing or (column == _REACTION and not self._lost)
                places.append(0 if absent else at + offset)
                at += 0 if absent else size
            weights = [at + offset, at + size + offset]
            at += 2 * size
            rows.append([*shape, row, plane, *places, axis, *weights, int(smooth)])

        shape = self._shape
        stage(shape, -1, True)
        for axes in halvings:
            for i, axis in enumerate(axes):
                at_axis = axis + missing
                shape = tuple((n + 1) // 2 if d == at_axis else n for d, n in enumerate(shape))
                stage(shape, at_axis, i == len(axes) - 1)
        self._table = np.array(rows, dtype=np.int64)
        self._size = at
        assert math.prod(shape) <= max(DENSE, 2**3)
        # The double-precision fields: conductances, reaction, then x, r, p, A p, b.
        row, plane, offset, size = _layout(self._shape)
        fields, at = self._table[0].copy(), _HEAD
        self._places = []
        for column in (_K0, _K1, _K2, _REACTION):
            if fields[column] > 0:
                fields[column] = at + offset
                at += size
        for _ in range(5):
            self._places.append(at + offset)
            at += size
        self._fields, self._work_size = fields, at

    def workspace(self) -> _Workspace:
        """Zeroed memory for one thread."""
        pool = np.zeros(self._size, dtype=self.precision)
        pool[: self.sweeps] = self._weights
        count = int(np.prod(self._table[-1, : _N2 + 1]))
        return _Workspace(pool, np.zeros(self._work_size), np.zeros((count, count)))

    def prepare(self, space: _Workspace, sample: int) -> None:
        """Everything that depends on the operator of one sample."""
        missing = 3 - self.operator.dimension
        # The cycle sees conductances near one: single precision has a small range.
        scale = 1.0 / max(float(np.abs(k[min(sample, len(k) - 1)]).max()) for k in self._faces)
        fields, first = self._fields, self._table[0]
        for d, k in enumerate(self._faces):
            values = k[min(sample, len(k) - 1)]
            _put(space.work, fields[_K0 + missing + d], fields, values)
            _put(space.pool, first[_K0 + missing + d], first, values * scale)
        if self._reaction is not None:
            values = self._reaction[min(sample, len(self._reaction) - 1)]
            _put(space.work, fields[_REACTION], fields, values)
            _put(space.pool, first[_REACTION], first, values * scale)
        _set_up(space.pool, self._table, self._wraps, self._lost, self.singular, space.inverse)

    def cycle(self, space: _Workspace, r: Tensor) -> Tensor:
        """One V-cycle for the prepared sample, r (*unknowns) -> z, up to the factor that `prepare` takes out."""
        _put(space.pool, self._table[0, _B], self._table[0], r.numpy().reshape(self._shape))
        width = 64 // space.pool.itemsize
        at = _cycle(space.pool, self._table, self._wraps, self._lost, self.sweeps, space.inverse, width)
        out = np.empty(self._shape, dtype=space.pool.dtype)
        _take(space.pool, at, self._table[0], out)
        return torch.from_numpy(out).reshape(r.shape)

    def solve(self, b: Tensor, tolerance: float, max_iterations: int) -> tuple[Tensor, Array, Array]:
        """Solutions (B, *unknowns), iterations (B,) and relative residuals (B,)."""
        right = np.ascontiguousarray(b.detach().numpy()).reshape(len(b), *self._shape)
        out = np.empty_like(right)
        iterations, residuals = np.zeros(len(b), dtype=np.int64), np.zeros(len(b))
        shared = self.operator.samples == 1
        widths = (64 // np.dtype(self.precision).itemsize, 8)

        def run(first: int, end: int) -> None:
            space = self.workspace()
            for i in range(first, end):
                if i == first or not shared:
                    self.prepare(space, i)
                _put(space.work, self._places[4], self._fields, right[i])
                iterations[i], residuals[i] = _conjugate_gradient(
                    space.pool,
                    space.work,
                    self._table,
                    self._fields,
                    tuple(self._places),
                    self._wraps,
                    self._lost,
                    self.sweeps,
                    space.inverse,
                    widths,
                    tolerance,
                    max_iterations,
                )
                _take(space.work, self._places[0], self._fields, out[i])

        share(len(b), run)
        return torch.from_numpy(out).reshape(b.shape), iterations, residuals
