"""Complex Fourier transforms of as many signals as a vector has lanes, in place.

A block holds n complex numbers of each lane as [number][re, im][lane]. The forward transform takes points in
their order to modes in the order `Plan.places`; the inverse takes them back: nobody needs the modes in order,
so nothing is permuted. Radices 4, 2, 3 and 5 (decimation in frequency and its adjoint); passes whose blocks
exceed the first-level cache are taken over the whole, the others block by block.

Neither direction scales: inverse(forward(x)) = n x.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit

from sciml.solvers.lanes.vector import load, splat, store

Array = np.ndarray[Any, Any]

# Numbers of one lane block (64 bytes times re, im) that stay in 32 KiB.
_CACHED = 256
_SIN3 = 0.8660254037844386467637
_COS51, _SIN51 = 0.3090169943749474241023, 0.9510565162951535721164
_COS52, _SIN52 = -0.8090169943749474241023, 0.5877852522924731291687
_CONSTANTS = (_SIN3, -0.5, _COS51, _SIN51, _COS52, _SIN52)


def factors(n: int) -> list[int] | None:
    """The radices of the passes of a transform of n numbers, or None where n has other factors than 2, 3, 5."""
    found = []
    for radix in (4, 2, 3, 5):
        while n % radix == 0:
            found.append(radix)
            n //= radix
    return found if n == 1 else None


@dataclass(frozen=True)
class Plan:
    """Tables of a transform of n numbers.

    Attributes:
        passes: (P, 3), of each pass the radix, the distance of its butterfly's numbers, and where its factors
            begin in `roots`.
        roots: factors (re, im) of all passes, after six constants of the odd radices.
        places: (n,), where mode k stands in a block.
    """

    n: int
    passes: Array
    roots: Array
    places: Array


def plan(n: int, dtype: Any) -> Plan | None:
    """The tables of a transform, or None where n has other factors than 2, 3 and 5."""
    radices = factors(n)
    if radices is None:
        return None
    passes, roots = [], [np.array(_CONSTANTS)]
    length, start = n, len(_CONSTANTS)
    mode, places = np.arange(n), np.zeros(n, dtype=np.int64)
    for radix in radices:
        distance = length // radix
        passes.append((radix, distance, start))
        angle = np.outer(np.arange(distance), np.arange(1, radix)) * (-2 * np.pi / length)
        roots.append(np.stack([np.cos(angle), np.sin(angle)], axis=-1).ravel())
        start += roots[-1].size
        places += mode % radix * distance
        mode = mode // radix
        length = distance
    table = np.array(passes, dtype=np.int64).reshape(-1, 3)
    return Plan(n, table, np.concatenate(roots).astype(dtype), places)


@njit(forceinline=True)
def _times(ar, ai, br, bi):  # type: ignore[no-untyped-def]
    return ar * br - ai * bi, ar * bi + ai * br


@njit(forceinline=True)
def _back(ar, ai, br, bi):  # type: ignore[no-untyped-def]
    """a conj(b)."""
    return ar * br + ai * bi, ai * br - ar * bi


@njit(forceinline=True)
def _two(x, at, width, m, roots, t, forward):  # type: ignore[no-untyped-def]
    s = 2 * width
    for p in range(m):
        i0 = at + p * s
        i1 = i0 + m * s
        wr, wi = splat(roots, t), splat(roots, t + 1)
        ar, ai, br, bi = load(x, i0), load(x, i0 + width), load(x, i1), load(x, i1 + width)
        if not forward:
            br, bi = _back(br, bi, wr, wi)
        store(x, i0, ar + br)
        store(x, i0 + width, ai + bi)
        cr, ci = ar - br, ai - bi
        if forward:
            cr, ci = _times(cr, ci, wr, wi)
        store(x, i1, cr)
        store(x, i1 + width, ci)
        t += 2


@njit(forceinline=True)
def _three(x, at, width, m, roots, t, forward):  # type: ignore[no-untyped-def]
    s = 2 * width
    sine, half = splat(roots, 0), splat(roots, 1)
    for p in range(m):
        i0 = at + p * s
        i1 = i0 + m * s
        i2 = i1 + m * s
        vr, vi, wr, wi = splat(roots, t), splat(roots, t + 1), splat(roots, t + 2), splat(roots, t + 3)
        ar, ai = load(x, i0), load(x, i0 + width)
        br, bi = load(x, i1), load(x, i1 + width)
        cr, ci = load(x, i2), load(x, i2 + width)
        if not forward:
            # The conjugate transform: the other rotation is had by exchanging the two.
            er, ei = _back(br, bi, vr, vi)
            br, bi = _back(cr, ci, wr, wi)
            cr, ci = er, ei
        sr, si = br + cr, bi + ci
        dr, di = sine * (bi - ci), sine * (cr - br)
        store(x, i0, ar + sr)
        store(x, i0 + width, ai + si)
        mr, mi = ar + half * sr, ai + half * si
        er, ei, fr, fi = mr + dr, mi + di, mr - dr, mi - di
        if forward:
            er, ei = _times(er, ei, vr, vi)
            fr, fi = _times(fr, fi, wr, wi)
        store(x, i1, er)
        store(x, i1 + width, ei)
        store(x, i2, fr)
        store(x, i2 + width, fi)
        t += 4


@njit(forceinline=True)
def four_points(x, i0, i1, i2, i3, width, roots, t):  # type: ignore[no-untyped-def]
    """The inverse butterfly of radix 4 of what stands at i0 to i3, as (re, im) four times."""
    ar, ai = load(x, i0), load(x, i0 + width)
    br, bi = _back(load(x, i1), load(x, i1 + width), splat(roots, t), splat(roots, t + 1))
    cr, ci = _back(load(x, i2), load(x, i2 + width), splat(roots, t + 2), splat(roots, t + 3))
    dr, di = _back(load(x, i3), load(x, i3 + width), splat(roots, t + 4), splat(roots, t + 5))
    er, ei, gr, gi = ar + cr, ai + ci, ar - cr, ai - ci
    hr, hi, kr, ki = br + dr, bi + di, di - bi, br - dr
    return er + hr, ei + hi, gr + kr, gi + ki, er - hr, ei - hi, gr - kr, gi - ki


@njit(forceinline=True)
def four_modes(x, i0, i1, i2, i3, width, roots, t, ar, ai, br, bi, cr, ci, dr, di):  # type: ignore[no-untyped-def]
    """Store the forward butterfly of radix 4 of a, b, c, d at i0 to i3."""
    er, ei, gr, gi = ar + cr, ai + ci, ar - cr, ai - ci
    hr, hi, kr, ki = br + dr, bi + di, bi - di, dr - br
    store(x, i0, er + hr)
    store(x, i0 + width, ei + hi)
    yr, yi = _times(gr + kr, gi + ki, splat(roots, t), splat(roots, t + 1))
    store(x, i1, yr)
    store(x, i1 + width, yi)
    yr, yi = _times(er - hr, ei - hi, splat(roots, t + 2), splat(roots, t + 3))
    store(x, i2, yr)
    store(x, i2 + width, yi)
    yr, yi = _times(gr - kr, gi - ki, splat(roots, t + 4), splat(roots, t + 5))
    store(x, i3, yr)
    store(x, i3 + width, yi)


@njit(forceinline=True)
def _four(x, at, width, m, roots, t, forward):  # type: ignore[no-untyped-def]
    s = 2 * width
    for p in range(m):
        i0 = at + p * s
        i1 = i0 + m * s
        i2 = i1 + m * s
        i3 = i2 + m * s
        if forward:
            four_modes(
                x,
                i0,
                i1,
                i2,
                i3,
                width,
                roots,
                t,
                load(x, i0),
                load(x, i0 + width),
                load(x, i1),
                load(x, i1 + width),
                load(x, i2),
                load(x, i2 + width),
                load(x, i3),
                load(x, i3 + width),
            )
        else:
            ar, ai, br, bi, cr, ci, dr, di = four_points(x, i0, i1, i2, i3, width, roots, t)
            store(x, i0, ar)
            store(x, i0 + width, ai)
            store(x, i1, br)
            store(x, i1 + width, bi)
            store(x, i2, cr)
            store(x, i2 + width, ci)
            store(x, i3, dr)
            store(x, i3 + width, di)
        t += 6


@njit(forceinline=True)
def _five(x, at, width, m, roots, t, forward):  # type: ignore[no-untyped-def]
    s = 2 * width
    c1, s1, c2, s2 = splat(roots, 2), splat(roots, 3), splat(roots, 4), splat(roots, 5)
    for p in range(m):
        i0 = at + p * s
        i1 = i0 + m * s
        i2 = i1 + m * s
        i3 = i2 + m * s
        i4 = i3 + m * s
        ar, ai = load(x, i0), load(x, i0 + width)
        br, bi = load(x, i1), load(x, i1 + width)
        cr, ci = load(x, i2), load(x, i2 + width)
        dr, di = load(x, i3), load(x, i3 + width)
        er, ei = load(x, i4), load(x, i4 + width)
        if not forward:
            fr, fi = _back(br, bi, splat(roots, t), splat(roots, t + 1))
            gr, gi = _back(cr, ci, splat(roots, t + 2), splat(roots, t + 3))
            br, bi = _back(er, ei, splat(roots, t + 6), splat(roots, t + 7))
            cr, ci = _back(dr, di, splat(roots, t + 4), splat(roots, t + 5))
            dr, di, er, ei = gr, gi, fr, fi
        pr, pi, qr, qi = br + er, bi + ei, cr + dr, ci + di
        fr, fi, gr, gi = bi - ei, er - br, ci - di, dr - cr
        store(x, i0, ar + pr + qr)
        store(x, i0 + width, ai + pi + qi)
        mr, mi = ar + c1 * pr + c2 * qr, ai + c1 * pi + c2 * qi
        nr, ni = ar + c2 * pr + c1 * qr, ai + c2 * pi + c1 * qi
        ur, ui = s1 * fr + s2 * gr, s1 * fi + s2 * gi
        vr, vi = s2 * fr - s1 * gr, s2 * fi - s1 * gi
        yr, yi, zr, zi = mr + ur, mi + ui, nr + vr, ni + vi
        kr, ki, lr, li = nr - vr, ni - vi, mr - ur, mi - ui
        if forward:
            yr, yi = _times(yr, yi, splat(roots, t), splat(roots, t + 1))
            zr, zi = _times(zr, zi, splat(roots, t + 2), splat(roots, t + 3))
            kr, ki = _times(kr, ki, splat(roots, t + 4), splat(roots, t + 5))
            lr, li = _times(lr, li, splat(roots, t + 6), splat(roots, t + 7))
        store(x, i1, yr)
        store(x, i1 + width, yi)
        store(x, i2, zr)
        store(x, i2 + width, zi)
        store(x, i3, kr)
        store(x, i3 + width, ki)
        store(x, i4, lr)
        store(x, i4 + width, li)
        t += 8


@njit
def _pass_to_modes(x, at, width, radix, m, roots, t):  # type: ignore[no-untyped-def]
    if radix == 4:
        _four(x, at, width, m, roots, t, True)
    elif radix == 2:
        _two(x, at, width, m, roots, t, True)
    elif radix == 3:
        _three(x, at, width, m, roots, t, True)
    else:
        _five(x, at, width, m, roots, t, True)


@njit
def _pass_to_points(x, at, width, radix, m, roots, t):  # type: ignore[no-untyped-def]
    if radix == 4:
        _four(x, at, width, m, roots, t, False)
    elif radix == 2:
        _two(x, at, width, m, roots, t, False)
    elif radix == 3:
        _three(x, at, width, m, roots, t, False)
    else:
        _five(x, at, width, m, roots, t, False)


@njit
def to_modes(x, at, n, width, passes, roots, skipped):  # type: ignore[no-untyped-def]
    """Forward transform of the block that begins at x[at], without its first `skipped` (0 or 1) passes."""
    first, length = 0, n
    while (length > _CACHED or first < skipped) and first < len(passes):
        radix, m, t = passes[first, 0], passes[first, 1], passes[first, 2]
        if first >= skipped:
            for start in range(0, n, length):
                _pass_to_modes(x, at + 2 * width * start, width, radix, m, roots, t)
        length = m
        first += 1
    for block in range(0, n, length):
        for k in range(first, len(passes)):
            radix, m, t = passes[k, 0], passes[k, 1], passes[k, 2]
            for start in range(block, block + length, radix * m):
                _pass_to_modes(x, at + 2 * width * start, width, radix, m, roots, t)


@njit
def to_points(x, at, n, width, passes, roots, skipped):  # type: ignore[no-untyped-def]
    """Inverse transform, without its factor 1/n, of the block that begins at x[at].

    Its last `skipped` (0 or 1) passes are left out: they undo the first ones of `to_modes`.
    """
    first, length = 0, n
    while (length > _CACHED or first < skipped) and first < len(passes):
        length = passes[first, 1]
        first += 1
    for block in range(0, n, length):
        for k in range(len(passes) - 1, first - 1, -1):
            radix, m, t = passes[k, 0], passes[k, 1], passes[k, 2]
            for start in range(block, block + length, radix * m):
                _pass_to_points(x, at + 2 * width * start, width, radix, m, roots, t)
    for k in range(first - 1, skipped - 1, -1):
        radix, m, t = passes[k, 0], passes[k, 1], passes[k, 2]
        for start in range(0, n, radix * m):
            _pass_to_points(x, at + 2 * width * start, width, radix, m, roots, t)
