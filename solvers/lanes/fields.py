"""ETDRK steps of N_c(u) = sum_g out_cg F[products_g(fields)] + constant_c on half spectra, in 2D and 3D.

The state of a sample is the half spectrum of each of its channels, cut to the modes that products reach. Along
all axes but the last the lanes are neighbouring columns of the spectrum. Along the last one two real fields
travel as one complex line, and the lanes are neighbouring lines. Columns that hold nothing but modes above the
cut are never transformed.

A stage of a flow in 3D is one sweep over blocks of columns along the first axis, in which the products'
transforms end, the new stage is made and the fields' transforms begin, and one over its planes, each of which
stays in the second-level cache while it is taken to points, multiplied and taken back. In 2D there is one plane.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

from sciml.solvers.lanes.fourier import Plan, plan, to_modes, to_points
from sciml.solvers.lanes.multipliers import real_or_turned
from sciml.solvers.lanes.products import PRODUCTS
from sciml.solvers.lanes.share import share
from sciml.solvers.lanes.vector import BYTES, gather_tile, kernel, load, scatter_tile, splat, store, zero
from sciml.solvers.time.etdrk import Etdrk

Array = np.ndarray[Any, Any]

# What stands where in `layout`: these numbers; from `_INPUTS_AT` of each field the number of its terms and of
# each term its channel, column of the table and turn by i; from `_CHANNELS_AT` of each channel the column of
# its constant, the number of its terms, of each its product, column and turn, and of each stage the columns of
# its propagator and weights. A column below zero is not there.
_KIND, _FIELDS, _RESULTS, _CHANNELS, _STAGES, _COUNT, _INPUTS_AT, _CHANNELS_AT, _HEAD = range(9)


@njit(forceinline=True)
def _coefficient(table, row, count, column, width):  # type: ignore[no-untyped-def]
    return load(table, (row * count + column) * width)


@njit(forceinline=True)
def _spread(work, at, gap, width, source, start, places, unused, table, row, layout):  # type: ignore[no-untyped-def]
    """From modes [channel][mode] to the padded spectra of the fields."""
    size, count, cursor = 2 * width * len(places), layout[_COUNT], layout[_INPUTS_AT]
    nothing = zero(work)
    for f in range(layout[_FIELDS]):
        base, terms = at + f * gap, layout[cursor]
        for term in range(terms):
            channel, column = layout[cursor + 1 + 3 * term], layout[cursor + 2 + 3 * term]
            turned, s = layout[cursor + 3 + 3 * term], start + channel * size
            for j in range(len(places)):
                o, to = s + 2 * width * j, base + 2 * width * places[j]
                vr, vi = load(source, o), load(source, o + width)
                if column >= 0:
                    m = _coefficient(table, row + j, count, column, width)
                    vr, vi = vr * m, vi * m
                if turned:
                    vr, vi = -vi, vr
                if term > 0:
                    vr, vi = vr + load(work, to), vi + load(work, to + width)
                store(work, to, vr)
                store(work, to + width, vi)
        cursor += 1 + 3 * terms
        for place in unused:
            to = base + 2 * width * place
            store(work, to, nothing)
            store(work, to + width, nothing)


@njit(forceinline=True)
def _update(  # type: ignore[no-untyped-def]
    work, at, gap, width, state, s, slopes, q, fresh, to, stage, places, table, row, layout
):
    """From the transformed products to the next stage, in `fresh`, or after the last one to the new state."""
    size, count, stages = 2 * width * len(places), layout[_COUNT], layout[_STAGES]
    channels, cursor = layout[_CHANNELS], layout[_CHANNELS_AT]
    for channel in range(channels):
        constant, terms = layout[cursor], layout[cursor + 1]
        k = q + (stage * channels + channel) * size
        for term in range(terms):
            base = at + layout[cursor + 2 + 3 * term] * gap
            column, turned = layout[cursor + 3 + 3 * term], layout[cursor + 4 + 3 * term]
            for j in range(len(places)):
                w, o = base + 2 * width * places[j], k + 2 * width * j
                m = _coefficient(table, row + j, count, column, width)
                kr, ki = m * load(work, w), m * load(work, w + width)
                if turned:
                    kr, ki = -ki, kr
                if term > 0:
                    kr, ki = kr + load(slopes, o), ki + load(slopes, o + width)
                store(slopes, o, kr)
                store(slopes, o + width, ki)
        if constant >= 0:
            for j in range(len(places)):
                o = k + 2 * width * j
                kr = load(slopes, o) + _coefficient(table, row + j, count, constant, width)
                ki = load(slopes, o + width) + _coefficient(table, row + j, count, constant + 1, width)
                store(slopes, o, kr)
                store(slopes, o + width, ki)
        columns = cursor + 2 + 3 * terms + stage * (stages + 1)
        start = s + channel * size
        for j in range(len(places)):
            r, o = row + j, 2 * width * j
            e = _coefficient(table, r, count, layout[columns], width)
            vr, vi = e * load(state, start + o), e * load(state, start + o + width)
            for i in range(stage + 1):
                column = layout[columns + 1 + i]
                if column >= 0:
                    m = _coefficient(table, r, count, column, width)
                    p = q + (i * channels + channel) * size + o
                    vr, vi = vr + m * load(slopes, p), vi + m * load(slopes, p + width)
            if stage == stages - 1:
                store(state, start + o, vr)
                store(state, start + o + width, vi)
            else:
                store(fresh, to + channel * size + o, vr)
                store(fresh, to + channel * size + o + width, vi)
        cursor += 2 + 3 * terms + stages * (stages + 1)


@njit(forceinline=True)
def _place(q, gap, width):  # type: ignore[no-untyped-def]
    """Where field or product q stands among the lines: two travel as one complex line."""
    return (q // 2) * gap + (q % 2) * width


@njit(forceinline=True)
def _multiply(kind, row, gap, n, width, samples, fields, results, numbers):  # type: ignore[no-untyped-def]
    """The products at the points of a block of lines, in place, of each sample."""
    if kind == 0:
        a, b, c = splat(numbers, 0), splat(numbers, 1), splat(numbers, 2)
        for i in range(0, (samples + 1) // 2 * gap, width):
            u = load(row, i)
            store(row, i, u * (a + u * (b + u * c)))
        return
    for g in range(samples):
        f, p = g * fields, g * results
        x, y = _place(f, gap, width), _place(f + 1, gap, width)
        z = _place(f + 2, gap, width)
        r, s, t = _place(p, gap, width), _place(p + 1, gap, width), _place(p + 2, gap, width)
        if kind == 1:
            for i in range(0, 2 * width * n, 2 * width):
                b = load(row, y + i)
                store(row, r + i, load(row, x + i) * b * b)
        elif kind == 2:
            for i in range(0, 2 * width * n, 2 * width):
                a, b = load(row, x + i), load(row, y + i)
                c = a * a + b * b
                if fields == 3:
                    d = load(row, z + i)
                    c = c + d * d
                store(row, r + i, c)
        elif kind == 3:
            for i in range(0, 2 * width * n, 2 * width):
                a, b = load(row, x + i), load(row, y + i)
                store(row, r + i, a * b)
                store(row, s + i, (b - a) * (b + a))
        elif kind == 4 or kind == 5:
            if fields == 3:
                for i in range(0, 2 * width * n, 2 * width):
                    a, b, w = load(row, x + i), load(row, y + i), load(row, z + i)
                    store(row, r + i, b * w)
                    store(row, s + i, -(a * w))
                    if kind == 5:
                        store(row, t + i, a * a + b * b)
            else:
                k, o, m = _place(f + 3, gap, width), _place(f + 4, gap, width), _place(f + 5, gap, width)
                v = _place(p + 3, gap, width)
                for i in range(0, 2 * width * n, 2 * width):
                    a, b, c = load(row, x + i), load(row, y + i), load(row, z + i)
                    d, e, h = load(row, k + i), load(row, o + i), load(row, m + i)
                    store(row, r + i, b * h - c * e)
                    store(row, s + i, c * d - a * h)
                    store(row, t + i, a * e - b * d)
                    if kind == 5:
                        store(row, v + i, a * a + b * b + c * c)
        else:
            for i in range(0, 2 * width * n, 2 * width):
                a, b = load(row, x + i), load(row, y + i)
                if fields == 2:
                    store(row, r + i, a * a)
                    store(row, s + i, a * b)
                    store(row, t + i, b * b)
                else:
                    c = load(row, z + i)
                    store(row, r + i, a * a)
                    store(row, s + i, a * b)
                    store(row, t + i, a * c)
                    store(row, _place(p + 3, gap, width) + i, b * b)
                    store(row, _place(p + 4, gap, width) + i, b * c)
                    store(row, _place(p + 5, gap, width) + i, c * c)


@njit(forceinline=True)
def _join(pair, row, at, width, places, mirrors, unused, gap):  # type: ignore[no-untyped-def]
    """Half spectra of the real f and g, side by side in `pair`, to the spectrum of f + i g."""
    to = at + 2 * width * places[0]
    # The mean along a line is real; what the other axes leave in its imaginary part is rounding.
    store(row, to, load(pair, 0))
    store(row, to + width, load(pair, gap))
    for k in range(1, len(places)):
        o = 2 * width * k
        fr, fi = load(pair, o), load(pair, o + width)
        gr, gi = load(pair, gap + o), load(pair, gap + o + width)
        to = at + 2 * width * places[k]
        store(row, to, fr - gi)
        store(row, to + width, fi + gr)
        to = at + 2 * width * mirrors[k]
        store(row, to, fr + gi)
        store(row, to + width, gr - fi)
    nothing = zero(row)
    for place in unused:
        store(row, at + 2 * width * place, nothing)
        store(row, at + 2 * width * place + width, nothing)


@njit(forceinline=True)
def _part(row, at, pair, width, places, mirrors, gap):  # type: ignore[no-untyped-def]
    """The spectrum of f + i g to twice the half spectra of f and g."""
    o = at + 2 * width * places[0]
    nothing, a, b = zero(row), load(row, o), load(row, o + width)
    store(pair, 0, a + a)
    store(pair, width, nothing)
    store(pair, gap, b + b)
    store(pair, gap + width, nothing)
    for k in range(1, len(places)):
        o, to = at + 2 * width * places[k], 2 * width * k
        ar, ai = load(row, o), load(row, o + width)
        o = at + 2 * width * mirrors[k]
        br, bi = load(row, o), load(row, o + width)
        store(pair, to, ar + br)
        store(pair, to + width, ai - bi)
        store(pair, gap + to, ai + bi)
        store(pair, gap + to + width, br - ar)


@njit
def _lines(  # type: ignore[no-untyped-def]
    fields,
    rows,
    blocks,
    width,
    samples,
    n,
    places,
    mirrors,
    unused,
    passes,
    roots,
    lanes,
    layout,
    numbers,
    row,
    pair,
):
    """From columns at the points of the other axes, [field][block][row][re, im][lane], to those of the products."""
    kind, inputs, results = layout[_KIND], layout[_FIELDS], layout[_RESULTS]
    padded = -(-rows // width) * width
    column, line, side = 2 * width * padded, 2 * width * n, 2 * width * (len(places) + 1)
    nothing = zero(row)
    for band in range(0, rows, width):
        for f in range(0, samples * inputs, 2):
            for g in range(2):
                if f + g < samples * inputs:
                    for block in range(blocks):
                        at = ((f + g) * blocks + block) * column + band * 2 * width
                        for part in range(2):
                            listed = ((2 * g + part) * blocks + block) * width
                            scatter_tile(fields, pair, at + part * width, 2 * width, lanes, listed)
                else:
                    for o in range(side, 2 * side, width):
                        store(pair, o, nothing)
            at = f // 2 * line
            _join(pair, row, at, width, places, mirrors, unused, side)
            to_points(row, at, n, width, passes, roots, 0)
        # Numbers, not the variable: each copy then knows its product, and has no choice inside its loop.
        if kind == 0:
            _multiply(0, row, line, n, width, samples, inputs, results, numbers)
        elif kind == 1:
            _multiply(1, row, line, n, width, samples, inputs, results, numbers)
        elif kind == 2:
            _multiply(2, row, line, n, width, samples, inputs, results, numbers)
        elif kind == 3:
            _multiply(3, row, line, n, width, samples, inputs, results, numbers)
        elif kind == 4:
            _multiply(4, row, line, n, width, samples, inputs, results, numbers)
        elif kind == 5:
            _multiply(5, row, line, n, width, samples, inputs, results, numbers)
        else:
            _multiply(6, row, line, n, width, samples, inputs, results, numbers)
        if samples * results % 2:
            # The other half of the last line, or what is there would grow from one transform to the next.
            alone = _place(samples * results, line, width)
            for i in range(0, line, 2 * width):
                store(row, alone + i, nothing)
        for f in range(0, samples * results, 2):
            at = f // 2 * line
            to_modes(row, at, n, width, passes, roots, 0)
            _part(row, at, pair, width, places, mirrors, side)
            for g in range(min(2, samples * results - f)):
                for block in range(blocks):
                    at = ((f + g) * blocks + block) * column + band * 2 * width
                    for part in range(2):
                        listed = ((2 * g + part) * blocks + block) * width
                        gather_tile(pair, fields, at + part * width, 2 * width, lanes, listed)


@kernel
def plane(  # type: ignore[no-untyped-def]
    state, first, last, steps, width, samples,
    rows, down, unused_down, passes_down, roots_down,
    n, places, mirrors, unused, passes, roots, lanes,
    table, layout, numbers, fields, slopes, fresh, row, pair,
):  # fmt: skip
    """`steps` steps of the samples first to last - 1 of state [sample][block][channel][mode][re, im][lane].

    `samples` of them travel together; `rows` points along the columns, `n` along the lines.
    """
    blocks, stages = len(lanes) // (4 * width), layout[_STAGES]
    column = 2 * width * (-(-rows // width) * width)
    one = 2 * width * len(down) * layout[_CHANNELS]
    gap = blocks * column
    for sample in range(first, last, samples):
        for step in range(-1, steps):
            for j in range(stages):
                if step < 0 and j < stages - 1:
                    continue
                more = step < steps - 1 or j < stages - 1
                for block in range(blocks):
                    start = block * len(down)
                    for g in range(samples if step >= 0 else 0):
                        at, s = (
                            g * layout[_RESULTS] * gap + block * column,
                            ((sample + g) * blocks + block) * one,
                        )
                        for p in range(layout[_RESULTS]):
                            to_modes(fields, at + p * gap, rows, width, passes_down, roots_down, 0)
                        q = (g * blocks + block) * one * stages
                        _update(
                            fields,
                            at,
                            gap,
                            width,
                            state,
                            s,
                            slopes,
                            q,
                            fresh,
                            g * one,
                            j,
                            down,
                            table,
                            start,
                            layout,
                        )
                    for g in range(samples if more else 0):
                        at, s = (
                            g * layout[_FIELDS] * gap + block * column,
                            ((sample + g) * blocks + block) * one,
                        )
                        if j == stages - 1:
                            _spread(
                                fields, at, gap, width, state, s, down, unused_down, table, start, layout
                            )
                        else:
                            _spread(
                                fields,
                                at,
                                gap,
                                width,
                                fresh,
                                g * one,
                                down,
                                unused_down,
                                table,
                                start,
                                layout,
                            )
                        for f in range(layout[_FIELDS]):
                            to_points(fields, at + f * gap, rows, width, passes_down, roots_down, 0)
                if more:
                    _lines(
                        fields, rows, blocks, width, samples, n, places, mirrors, unused, passes, roots, lanes,
                        layout, numbers, row, pair,
                    )  # fmt: skip


@kernel
def box(  # type: ignore[no-untyped-def]
    state, first, last, steps, width, samples,
    planes, through, unused_through, passes_through, roots_through,
    rows, down, unused_down, passes_down, roots_down,
    n, places, mirrors, unused, passes, roots, lanes,
    table, layout, numbers, whole, work, fields, slopes, fresh, row, pair,
):  # fmt: skip
    """As `plane`, of state [sample][mode of axis 1][block][channel][mode][re, im][lane]; `planes` points on axis 0.

    `whole` [field][plane][mode of axis 1][block][re, im][lane] stays half in modes between the two sweeps.
    """
    blocks, stages = len(lanes) // (4 * width), layout[_STAGES]
    columns, s2 = len(down) * blocks, 2 * width
    one, gap = s2 * len(through) * layout[_CHANNELS], s2 * planes
    column = s2 * (-(-rows // width) * width)
    inputs, results = layout[_FIELDS], layout[_RESULTS]
    for sample in range(first, last, samples):
        for step in range(-1, steps):
            for j in range(stages):
                if step < 0 and j < stages - 1:
                    continue
                more = step < steps - 1 or j < stages - 1
                for c in range(columns):
                    start = c * len(through)
                    for g in range(samples if step >= 0 else 0):
                        for p in range(results):
                            for i in range(planes):
                                at, to = (
                                    (((g * results + p) * planes + i) * columns + c) * s2,
                                    p * gap + i * s2,
                                )
                                store(work, to, load(whole, at))
                                store(work, to + width, load(whole, at + width))
                            to_modes(work, p * gap, planes, width, passes_through, roots_through, 0)
                        s, q = ((sample + g) * columns + c) * one, (g * columns + c) * one * stages
                        _update(
                            work,
                            0,
                            gap,
                            width,
                            state,
                            s,
                            slopes,
                            q,
                            fresh,
                            g * one,
                            j,
                            through,
                            table,
                            start,
                            layout,
                        )
                    for g in range(samples if more else 0):
                        if j == stages - 1:
                            s = ((sample + g) * columns + c) * one
                            _spread(
                                work, 0, gap, width, state, s, through, unused_through, table, start, layout
                            )
                        else:
                            _spread(
                                work,
                                0,
                                gap,
                                width,
                                fresh,
                                g * one,
                                through,
                                unused_through,
                                table,
                                start,
                                layout,
                            )
                        for f in range(inputs):
                            to_points(work, f * gap, planes, width, passes_through, roots_through, 0)
                            for i in range(planes):
                                at, to = (
                                    f * gap + i * s2,
                                    (((g * inputs + f) * planes + i) * columns + c) * s2,
                                )
                                store(whole, to, load(work, at))
                                store(whole, to + width, load(work, at + width))
                if not more:
                    continue
                nothing = zero(fields)
                for i in range(planes):
                    for f in range(samples * inputs):
                        for block in range(blocks):
                            base = (f * blocks + block) * column
                            for k in range(len(down)):
                                at, to = (
                                    (((f * planes + i) * len(down) + k) * blocks + block) * s2,
                                    base + s2 * down[k],
                                )
                                store(fields, to, load(whole, at))
                                store(fields, to + width, load(whole, at + width))
                            for place in unused_down:
                                store(fields, base + s2 * place, nothing)
                                store(fields, base + s2 * place + width, nothing)
                            to_points(fields, base, rows, width, passes_down, roots_down, 0)
                    _lines(
                        fields, rows, blocks, width, samples, n, places, mirrors, unused, passes, roots, lanes,
                        layout, numbers, row, pair,
                    )  # fmt: skip
                    for p in range(samples * results):
                        for block in range(blocks):
                            base = (p * blocks + block) * column
                            to_modes(fields, base, rows, width, passes_down, roots_down, 0)
                            for k in range(len(down)):
                                at, to = (
                                    base + s2 * down[k],
                                    (((p * planes + i) * len(down) + k) * blocks + block) * s2,
                                )
                                store(whole, to, load(fields, at))
                                store(whole, to + width, load(fields, at + width))


@dataclass(frozen=True)
class _Axis:
    """One axis: its transform, where the modes of the band stand in it, and those of opposite wavenumber."""

    plan: Plan
    places: Array
    mirrors: Array
    unused: Array

    @staticmethod
    def of(n: int, modes: Array, dtype: Any) -> _Axis | None:
        tables = plan(n, dtype)
        if tables is None:
            return None
        places, mirrors = tables.places[modes], tables.places[-modes % n]
        used = np.union1d(places, mirrors)
        return _Axis(tables, places, mirrors, np.setdiff1d(np.arange(n), used).astype(np.int64))


class FieldSteps:
    """Several ETDRK steps of half spectra (B, C, *half band) in one precision; made by `field_steps`."""

    def __init__(
        self,
        axes: list[_Axis],
        points: Sequence[int],
        table: Tensor,
        layout: Array,
        numbers: Array,
        substeps: int,
    ) -> None:
        self.axes, self.points, self.layout, self.numbers = axes, tuple(points), layout, numbers
        self.substeps, self.width = substeps, BYTES // table.element_size()
        width, modes = self.width, len(axes[-1].places)
        # Columns past the band fill the last vector; their coefficients are zero.
        self.blocks = -(-modes // width)
        places = np.full(self.blocks * width, modes, dtype=np.int64)
        places[:modes] = np.arange(modes)
        gap = 2 * width * (modes + 1)
        self.lanes = np.concatenate(
            [2 * width * places + f * gap + part * width for f in (0, 1) for part in (0, 1)]
        )
        self.table = self._in_lanes(table[None, None]).reshape(-1).numpy()

    def _in_lanes(self, x: Tensor) -> Tensor:
        """(B, C, *half band, parts) -> (B, mode of axis 1 or 1, block, C, mode of axis 0, parts, lane)."""
        if len(self.axes) == 2:
            x = x.unsqueeze(3)
        batch, channels, through, down, modes, parts = x.shape
        padded = x.new_zeros(batch, channels, through, down, self.blocks * self.width, parts)
        padded[..., :modes, :] = x
        padded = padded.reshape(batch, channels, through, down, self.blocks, self.width, parts)
        return padded.permute(0, 3, 4, 1, 2, 6, 5).contiguous()

    def together(self, batch: int) -> int:
        """How many samples travel together: a pair where one would leave lines with one real field alone."""
        inputs, results = int(self.layout[_FIELDS]), int(self.layout[_RESULTS])
        return 2 if batch > 1 and results <= inputs and (inputs % 2 or results % 2) else 1

    def __call__(self, state: Tensor) -> Tensor:
        """The state (B, C, *half band), complex, after the steps."""
        batch, channels, *band = state.shape
        together = self.together(batch)
        real = torch.view_as_real(state)
        if batch % together:
            real = torch.cat([real, torch.zeros_like(real[:1])])
        lanes = self._in_lanes(real)
        flat = lanes.view(-1).numpy()
        stages, most, width = (
            int(self.layout[_STAGES]),
            int(max(self.layout[_FIELDS], self.layout[_RESULTS])),
            self.width,
        )
        last, deep = self.axes[-1], len(self.axes) == 3
        rows = self.points[-2]
        column = 2 * width * (-(-rows // width) * width)

        def run(first: int, end: int) -> None:
            def empty(*shape: int) -> Array:
                found: Array = real.new_zeros(math.prod(shape)).numpy()
                return found

            one = 2 * width * channels * band[0]
            fields = empty(together, most, self.blocks, column)
            slopes = empty(together, stages, len(lanes[0].view(-1)))
            fresh = empty(together, one)
            row = empty(-(-together * most // 2), 2 * width * self.points[-1])
            pair = empty(2, 2 * width * (band[-1] + 1))
            across = (
                self.points[-1],
                last.places,
                last.mirrors,
                last.unused,
                last.plan.passes,
                last.plan.roots,
                self.lanes,
            )
            down = self.axes[-2]
            downward = (rows, down.places, down.unused, down.plan.passes, down.plan.roots)
            units = (flat, together * first, together * end, self.substeps, width, together)
            given = (self.table, self.layout, self.numbers)
            if not deep:
                plane(*units, *downward, *across, *given, fields, slopes, fresh, row, pair)
                return
            through, planes = self.axes[0], self.points[0]
            whole = empty(together, most, planes, band[1], self.blocks, 2 * width)
            work = empty(most, planes, 2 * width)
            inward = (planes, through.places, through.unused, through.plan.passes, through.plan.roots)
            box(*units, *inward, *downward, *across, *given, whole, work, fields, slopes, fresh, row, pair)

        share(len(lanes) // together, run)
        back = lanes.permute(0, 3, 4, 1, 2, 6, 5).flatten(4, 5)[:batch, ..., : band[-1], :]
        return torch.view_as_complex(back.reshape(batch, channels, *band, 2).contiguous())


def field_steps(
    points: Sequence[int],
    *,
    inputs: Sequence[Sequence[tuple[int, Tensor | None]]],
    products: str,
    numbers: Sequence[float],
    outputs: Sequence[Sequence[Tensor | None]],
    constants: Sequence[Tensor | None],
    method: Etdrk,
    substeps: int,
    dtype: torch.dtype,
) -> FieldSteps | None:
    """The steps in lanes, or None where there is no such form.

    There is one on 2D and 3D grids whose sizes have no other factors than 2, 3 and 5, for multipliers that are
    real or imaginary and a method with real coefficients.

    Args:
        points: the grid's sizes.
        inputs, numbers, outputs, constants: as in `spectral_forms.Pointwise`, cut to the half band, float64 or
            complex128.
        products: a name of `PRODUCTS`.
        method: its coefficients, cut to the half band (C, *half band).
        substeps: steps per call.
        dtype: float32 or float64.
    """
    given = [m for terms in inputs for _, m in terms if m is not None]
    given += [m for row in outputs for m in row if m is not None]
    if len(points) not in (2, 3) or any(e.is_complex() for e in method.propagators):
        return None
    if any(real_or_turned(m) is None for m in given) or any(row[-1] is None for row in method.weights):
        return None
    scalar = {torch.float64: np.float64, torch.float32: np.float32}[dtype]
    band = tuple(method.propagators[0].shape[1:])
    axes = []
    for axis, (n, size) in enumerate(zip(points, band, strict=True)):
        half = size if axis == len(band) - 1 else (size + 1) // 2
        modes = np.r_[0:half] if axis == len(band) - 1 or size == 1 else np.r_[0:half, n - half + 1 : n]
        axes.append(_Axis.of(n, modes, scalar))
    whole = [a for a in axes if a is not None]
    if len(whole) < len(axes):
        return None
    columns: list[Tensor] = []

    def column(x: Tensor) -> int:
        """The column that holds x, one for all that are equal."""
        x = x.expand(band)
        for number, known in enumerate(columns):
            if torch.equal(known, x):
                return number
        columns.append(x)
        return len(columns) - 1

    # Twice the spectrum of a product, and not divided by the number of points, is what the loops have.
    scale = 0.5 / math.prod(points)

    def multiplier(m: Tensor | None, factor: float = 1.0) -> list[int]:
        found = None if m is None else real_or_turned(m)
        return [-1, 0] if found is None else [column(found[0] * factor), found[1]]

    stages = len(method.weights)
    head: list[int] = []
    for terms in inputs:
        head.append(len(terms))
        for channel, m in terms:
            head += [channel, *multiplier(m)]
    tail: list[int] = []
    for channel, (row, constant) in enumerate(zip(outputs, constants, strict=True)):
        tail.append(-1)
        if constant is not None:
            # Neighbours by position, whatever is known already.
            tail[-1] = len(columns)
            columns += [constant.real.expand(band), constant.imag.expand(band)]
        there = [(g, m) for g, m in enumerate(row) if m is not None]
        tail.append(len(there))
        for g, m in there:
            tail += [g, *multiplier(m, scale)]
        for propagator, weights in zip(method.propagators, method.weights, strict=True):
            tail.append(column(propagator[channel]))
            tail += [-1 if w is None else column(w[channel]) for w in weights]
            tail += [-1] * (stages - len(weights))
    counts = [PRODUCTS[products], len(inputs), len(outputs[0]), len(outputs), stages, len(columns)]
    layout = [*counts, _HEAD, _HEAD + len(head), *head, *tail]
    table = torch.stack(columns, dim=-1).to(dtype)
    return FieldSteps(
        whole, points, table, np.array(layout, dtype=np.int64), np.array(numbers, dtype=scalar), substeps
    )
