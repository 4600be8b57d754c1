"""ETDRK steps of N_c(u) = sum_g out_cg F[products_g(F^-1[in_1 u], ...)] + constant_c with lanes, in 1D and 2D.

Between two transforms a stage reads and writes each mode about ten times when written with whole arrays. Here a
block of modes is taken through everything while it lies in cache. In 1D the lanes are pairs of samples and a
block goes through all steps at once. In 2D the lanes are neighbouring columns of the spectrum: a stage is one
sweep over blocks of columns (transform, new stage, transform back) and one over blocks of rows (transform,
products, transform back), and columns above the 2/3 rule are never transformed.

The state is one complex field for two real samples, its modes cut to the band of the 2/3 rule; see
`spectral_packed`, which states the same steps with tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

from sciml.solvers.lanes.fourier import Plan, four_modes, four_points, plan, to_modes, to_points
from sciml.solvers.lanes.multipliers import real_or_turned
from sciml.solvers.lanes.products import PRODUCTS
from sciml.solvers.lanes.share import share
from sciml.solvers.lanes.vector import BYTES, gather_tile, kernel, load, scatter_tile, splat, store, zero
from sciml.solvers.time.etdrk import Etdrk

Array = np.ndarray[Any, Any]

# `layout` says where a mode's coefficients stand in its row of the table: first these numbers, then of each
# field its channel, column and turn, then of each channel the columns of its constant, of each product (with
# its turn) and of each stage (propagator and weights). A column below zero is not there.
_PRODUCTS, _FIELDS, _RESULTS, _STAGES, _COUNT, _CHANNELS, _HEAD = 0, 1, 2, 3, 4, 5, 6


@njit(forceinline=True)
def _coefficient(table, row, count, column, width, wide):  # type: ignore[no-untyped-def]
    if wide:
        return load(table, (row * count + column) * width)
    return splat(table, row * count + column)


@njit(forceinline=True)
def _multiplied(re, im, factor, turned):  # type: ignore[no-untyped-def]
    """(re + i im) factor, or that times i."""
    re, im = re * factor, im * factor
    if turned:
        return -im, re
    return re, im


@njit(forceinline=True)
def _clear(work, at, gap, fields, width, unused):  # type: ignore[no-untyped-def]
    nothing = zero(work)
    for f in range(fields):
        for place in unused:
            to = at + f * gap + 2 * width * place
            store(work, to, nothing)
            store(work, to + width, nothing)


@njit(forceinline=True)
def _begin(work, at, gap, width, source, s, places, unused, table, row, layout, wide):  # type: ignore[no-untyped-def]
    """From a state [channel][mode][re, im][lane] to the padded spectra of the fields."""
    size, count = 2 * width * len(places), layout[_COUNT]
    for f in range(layout[_FIELDS]):
        start = s + layout[_HEAD + 3 * f] * size
        column, turned = layout[_HEAD + 3 * f + 1], layout[_HEAD + 3 * f + 2]
        for j in range(len(places)):
            o, to = start + 2 * width * j, at + f * gap + 2 * width * places[j]
            vr, vi = load(source, o), load(source, o + width)
            xr, xi = vr, vi
            if column >= 0:
                m = _coefficient(table, row + j, count, column, width, wide)
                xr, xi = _multiplied(vr, vi, m, turned)
            store(work, to, xr)
            store(work, to + width, xi)
    _clear(work, at, gap, layout[_FIELDS], width, unused)


@njit(forceinline=True)
def _stage(  # type: ignore[no-untyped-def]
    work, at, gap, width, state, slopes, fresh, s, q, stage, places, unused, table, row, layout, wide, more
):
    """From the transformed products to the padded spectra of the next stage's fields."""
    size = 2 * width * len(places)
    fields, results, stages, count = layout[_FIELDS], layout[_RESULTS], layout[_STAGES], layout[_COUNT]
    channels = layout[_CHANNELS]
    last = stage == stages - 1
    for channel in range(channels):
        first = _HEAD + 3 * fields + channel * (1 + 2 * results + stages * (stages + 1))
        constant, out, turned = layout[first], layout[first + 1], layout[first + 2]
        out_1, turned_1 = layout[first + 1], layout[first + 2]
        if results > 1:
            out_1, turned_1 = layout[first + 3], layout[first + 4]
        columns = first + 1 + 2 * results + stage * (stages + 1)
        start = s + channel * size
        for j in range(len(places)):
            place, r, o = places[j], row + j, 2 * width * j
            w = at + 2 * width * place
            m = _coefficient(table, r, count, out, width, wide)
            kr, ki = _multiplied(load(work, w), load(work, w + width), m, turned)
            if results > 1:
                m = _coefficient(table, r, count, out_1, width, wide)
                xr, xi = _multiplied(load(work, w + gap), load(work, w + gap + width), m, turned_1)
                kr, ki = kr + xr, ki + xi
            if constant >= 0:
                kr = kr + _coefficient(table, r, count, constant, width, wide)
                ki = ki + _coefficient(table, r, count, constant + 1, width, wide)
            e = _coefficient(table, r, count, layout[columns], width, wide)
            vr, vi = e * load(state, start + o), e * load(state, start + o + width)
            m = _coefficient(table, r, count, layout[columns + 1 + stage], width, wide)
            vr, vi = vr + m * kr, vi + m * ki
            for i in range(stage):
                column = layout[columns + 1 + i]
                if column >= 0:
                    m = _coefficient(table, r, count, column, width, wide)
                    p = q + (i * channels + channel) * size + o
                    vr, vi = vr + m * load(slopes, p), vi + m * load(slopes, p + width)
            if last:
                store(state, start + o, vr)
                store(state, start + o + width, vi)
            else:
                p = q + (stage * channels + channel) * size + o
                store(slopes, p, kr)
                store(slopes, p + width, ki)
            if channels > 1:
                # The fields stand where the products do, which the other channels still need.
                if not last:
                    store(fresh, channel * size + o, vr)
                    store(fresh, channel * size + o + width, vi)
            elif more:
                # As in `_begin`; a function for both makes this loop four times slower.
                for f in range(fields):
                    column = layout[_HEAD + 3 * f + 1]
                    xr, xi = vr, vi
                    if column >= 0:
                        m = _coefficient(table, r, count, column, width, wide)
                        xr, xi = _multiplied(vr, vi, m, layout[_HEAD + 3 * f + 2])
                    to = at + f * gap + 2 * width * place
                    store(work, to, xr)
                    store(work, to + width, xi)
    if more:
        if channels == 1:
            _clear(work, at, gap, fields, width, unused)
        elif last:
            _begin(work, at, gap, width, state, s, places, unused, table, row, layout, wide)
        else:
            _begin(work, at, gap, width, fresh, 0, places, unused, table, row, layout, wide)


@njit(forceinline=True)
def _stresses(x, y):  # type: ignore[no-untyped-def]
    return x * y, (y - x) * (y + x)


@njit(forceinline=True)
def _polynomial(u, a, b, c):  # type: ignore[no-untyped-def]
    return u * (a + u * (b + u * c))


@njit(forceinline=True)
def _joint(kind, x, y):  # type: ignore[no-untyped-def]
    if kind == 1:
        return x * y * y
    return x * x + y * y


@njit(forceinline=True)
def _products_of_points(kind, work, at, gap, n, width, numbers):  # type: ignore[no-untyped-def]
    """Point by point and for each of the two samples, in place."""
    c0, c1, c2 = splat(numbers, 0), splat(numbers, 1), splat(numbers, 2)
    for i in range(at, at + 2 * width * n, width):
        if kind == 0:
            store(work, i, _polynomial(load(work, i), c0, c1, c2))
        elif kind == 3:
            x, y = _stresses(load(work, i), load(work, i + gap))
            store(work, i, x)
            store(work, i + gap, y)
        else:
            store(work, i, _joint(kind, load(work, i), load(work, i + gap)))


@njit(forceinline=True)
def _products_between(kind, work, at, gap, m, width, roots, t, numbers):  # type: ignore[no-untyped-def]
    """The last inverse pass, the products and the first forward pass of radix 4 at once: same four numbers."""
    s = 2 * width
    c0, c1, c2 = splat(numbers, 0), splat(numbers, 1), splat(numbers, 2)
    for p in range(m):
        i0 = at + p * s
        i1 = i0 + m * s
        i2 = i1 + m * s
        i3 = i2 + m * s
        a, b, c, d, e, f, g, h = four_points(work, i0, i1, i2, i3, width, roots, t)
        if kind > 0:
            j0, j1, j2, j3 = i0 + gap, i1 + gap, i2 + gap, i3 + gap
            q, r, u, v, w, x, y, z = four_points(work, j0, j1, j2, j3, width, roots, t)
            if kind == 3:
                a, q = _stresses(a, q)
                b, r = _stresses(b, r)
                c, u = _stresses(c, u)
                d, v = _stresses(d, v)
                e, w = _stresses(e, w)
                f, x = _stresses(f, x)
                g, y = _stresses(g, y)
                h, z = _stresses(h, z)
                four_modes(work, j0, j1, j2, j3, width, roots, t, q, r, u, v, w, x, y, z)
            else:
                a, b, c, d = _joint(kind, a, q), _joint(kind, b, r), _joint(kind, c, u), _joint(kind, d, v)
                e, f, g, h = _joint(kind, e, w), _joint(kind, f, x), _joint(kind, g, y), _joint(kind, h, z)
        else:
            a, b = _polynomial(a, c0, c1, c2), _polynomial(b, c0, c1, c2)
            c, d = _polynomial(c, c0, c1, c2), _polynomial(d, c0, c1, c2)
            e, f = _polynomial(e, c0, c1, c2), _polynomial(f, c0, c1, c2)
            g, h = _polynomial(g, c0, c1, c2), _polynomial(h, c0, c1, c2)
        four_modes(work, i0, i1, i2, i3, width, roots, t, a, b, c, d, e, f, g, h)
        t += 6


@njit(forceinline=True)
def _through_points(work, at, gap, n, width, passes, roots, layout, numbers):  # type: ignore[no-untyped-def]
    """Spectra of the fields -> spectra of the products, in place."""
    kind, fields, results = layout[_PRODUCTS], layout[_FIELDS], layout[_RESULTS]
    joined = 1 if len(passes) > 0 and passes[0, 0] == 4 else 0
    for f in range(fields):
        to_points(work, at + f * gap, n, width, passes, roots, joined)
    if joined:
        m, t = passes[0, 1], passes[0, 2]
        # Numbers, not the variable: each inlined copy then knows its product, and has no choice inside its loop.
        if kind == 0:
            _products_between(0, work, at, gap, m, width, roots, t, numbers)
        elif kind == 1:
            _products_between(1, work, at, gap, m, width, roots, t, numbers)
        elif kind == 2:
            _products_between(2, work, at, gap, m, width, roots, t, numbers)
        else:
            _products_between(3, work, at, gap, m, width, roots, t, numbers)
    else:
        _products_of_points(kind, work, at, gap, n, width, numbers)
    for g in range(results):
        to_modes(work, at + g * gap, n, width, passes, roots, joined)


@kernel
def line(  # type: ignore[no-untyped-def]
    state,
    first,
    last,
    steps,
    width,
    n,
    places,
    unused,
    passes,
    roots,
    table,
    layout,
    numbers,
    work,
    slopes,
    fresh,
):
    """`steps` steps of the blocks first to last - 1 of state [block][channel][mode][re, im][lane]."""
    gap, stages = 2 * width * n, layout[_STAGES]
    size = 2 * width * len(places) * layout[_CHANNELS]
    for block in range(first, last):
        s = block * size
        _begin(work, 0, gap, width, state, s, places, unused, table, 0, layout, False)
        for step in range(steps):
            for j in range(stages):
                _through_points(work, 0, gap, n, width, passes, roots, layout, numbers)
                more = step < steps - 1 or j < stages - 1
                _stage(
                    work,
                    0,
                    gap,
                    width,
                    state,
                    slopes,
                    fresh,
                    s,
                    0,
                    j,
                    places,
                    unused,
                    table,
                    0,
                    layout,
                    False,
                    more,
                )


@kernel
def plane(  # type: ignore[no-untyped-def]
    state,
    first,
    last,
    steps,
    width,
    n,
    rows,
    places,
    unused,
    passes,
    roots,
    across,
    lanes,
    unused_across,
    passes_across,
    roots_across,
    table,
    layout,
    numbers,
    fields,
    slopes,
    fresh,
    row,
):
    """`steps` steps of the pairs first to last - 1 of state [pair][column block][channel][mode][re, im][lane].

    `n` points along the columns, padded to `rows`; `across` along the rows, of which `lanes` lists the places in
    `row` of the modes of the band, block by block, once for each field and part.
    """
    blocks = len(lanes) // (4 * width)
    column, stages = 2 * width * rows, layout[_STAGES]
    size = 2 * width * len(places) * layout[_CHANNELS]
    gap, line_gap = blocks * column, 2 * width * (across + 1)
    for step in range(-1, steps):
        for j in range(stages):
            if step < 0 and j < stages - 1:
                continue
            more = step < steps - 1 or j < stages - 1
            for block in range(blocks):
                for pair in range(first, last):
                    at = 2 * (pair - first) * gap + block * column
                    s = (pair * blocks + block) * size
                    if step < 0:
                        _begin(
                            fields,
                            at,
                            gap,
                            width,
                            state,
                            s,
                            places,
                            unused,
                            table,
                            block * len(places),
                            layout,
                            True,
                        )
                    else:
                        for g in range(layout[_RESULTS]):
                            to_modes(fields, at + g * gap, n, width, passes, roots, 0)
                        _stage(
                            fields,
                            at,
                            gap,
                            width,
                            state,
                            slopes,
                            fresh,
                            s,
                            ((pair - first) * blocks + block) * size * stages,
                            j,
                            places,
                            unused,
                            table,
                            block * len(places),
                            layout,
                            True,
                            more,
                        )
                    if more:
                        for f in range(layout[_FIELDS]):
                            to_points(fields, at + f * gap, n, width, passes, roots, 0)
            if not more:
                continue
            for pair in range(first, last):
                for band in range(0, rows, width):
                    for f in range(layout[_FIELDS]):
                        for block in range(blocks):
                            at = (2 * (pair - first) + f) * gap + block * column + band * 2 * width
                            for part in range(2):
                                scatter_tile(
                                    fields,
                                    row,
                                    at + part * width,
                                    2 * width,
                                    lanes,
                                    ((2 * f + part) * blocks + block) * width,
                                )
                    _clear(row, 0, line_gap, layout[_FIELDS], width, unused_across)
                    _through_points(
                        row, 0, line_gap, across, width, passes_across, roots_across, layout, numbers
                    )
                    for g in range(layout[_RESULTS]):
                        for block in range(blocks):
                            at = (2 * (pair - first) + g) * gap + block * column + band * 2 * width
                            for part in range(2):
                                gather_tile(
                                    row,
                                    fields,
                                    at + part * width,
                                    2 * width,
                                    lanes,
                                    ((2 * g + part) * blocks + block) * width,
                                )


@dataclass(frozen=True)
class _Axis:
    """One axis: its transform and where the modes of the band stand in it."""

    plan: Plan
    places: Array
    unused: Array


def _axis(n: int, size: int, dtype: Any) -> _Axis | None:
    tables = plan(n, dtype)
    if tables is None:
        return None
    half = (size + 1) // 2
    modes = np.r_[0:half, n - half + 1 : n] if size > 1 else np.zeros(1, dtype=np.int64)
    places = tables.places[modes]
    return _Axis(tables, places, np.setdiff1d(np.arange(n), places).astype(np.int64))


class LaneSteps:
    """Several ETDRK steps of packed modes (P, C, *band) in one precision; made by `lane_steps`."""

    def __init__(
        self,
        axes: list[_Axis],
        table: Tensor,
        layout: Array,
        numbers: Array,
        substeps: int,
        width: int,
        points: Sequence[int],
    ) -> None:
        self.axes, self.layout, self.numbers = axes, layout, numbers
        self.substeps, self.width = substeps, width
        self.points = tuple(points)
        self.band = tuple(len(a.places) for a in axes)
        count = int(layout[_COUNT])
        if len(axes) == 2:
            # Columns past the band fill the last vector; their coefficients are zero.
            self.blocks = -(-self.band[1] // width)
            padded = table.new_zeros(self.band[0], self.blocks * width, count)
            padded[:, : self.band[1]] = table
            table = padded.reshape(self.band[0], self.blocks, width, count).permute(1, 0, 3, 2).contiguous()
            places = np.full(self.blocks * width, self.points[1], dtype=np.int64)
            places[: self.band[1]] = axes[1].places
            gap = 2 * width * (self.points[1] + 1)
            self.lanes = np.concatenate(
                [2 * width * places + f * gap + part * width for f in (0, 1) for part in (0, 1)]
            )
        self.table = table.reshape(-1).numpy()

    def worthwhile(self, pairs: int) -> bool:
        """Whether enough lanes are filled: a few samples of long lines are done faster one by one."""
        return len(self.axes) > 1 or 2 * pairs >= self.width or self.points[0] <= 8192

    def __call__(self, state: Tensor) -> Tensor:
        """The state (P, C, *band), complex, after the steps."""
        run = self._line if len(self.axes) == 1 else self._plane
        return run(state)

    def _line(self, state: Tensor) -> Tensor:
        (axis,), width = self.axes, self.width
        pairs, channels, modes = state.shape
        blocks = -(-pairs // width)
        real = torch.view_as_real(state)
        lanes = real.new_zeros(blocks * width, channels, modes, 2)
        lanes[:pairs] = real
        lanes = lanes.reshape(blocks, width, channels, modes, 2).permute(0, 2, 3, 4, 1).contiguous()
        stages, fields = int(self.layout[_STAGES]), int(max(self.layout[_FIELDS], self.layout[_RESULTS]))
        flat = lanes.reshape(-1).numpy()

        def run(first: int, last: int) -> None:
            work = real.new_zeros(fields * 2 * width * self.points[0])
            slopes = real.new_empty(stages * channels * modes * 2 * width)
            fresh = real.new_empty(channels * modes * 2 * width)
            line(
                flat,
                first,
                last,
                self.substeps,
                width,
                self.points[0],
                axis.places,
                axis.unused,
                axis.plan.passes,
                axis.plan.roots,
                self.table,
                self.layout,
                self.numbers,
                work.numpy(),
                slopes.numpy(),
                fresh.numpy(),
            )

        share(blocks, run)
        back = lanes.permute(0, 4, 1, 2, 3).reshape(blocks * width, channels, modes, 2)[:pairs]
        return torch.view_as_complex(back.contiguous())

    def _plane(self, state: Tensor) -> Tensor:
        (down, across), width, blocks = self.axes, self.width, self.blocks
        pairs, channels, first_modes, modes = state.shape
        real = torch.view_as_real(state)
        lanes = real.new_zeros(pairs, channels, first_modes, blocks * width, 2)
        lanes[..., :modes, :] = real
        lanes = lanes.reshape(pairs, channels, first_modes, blocks, width, 2)
        lanes = lanes.permute(0, 3, 1, 2, 5, 4).contiguous()
        rows = -(-self.points[0] // width) * width
        stages = int(self.layout[_STAGES])
        flat = lanes.reshape(-1).numpy()

        def run(first: int, last: int) -> None:
            fields = real.new_zeros((last - first) * 2 * blocks * rows * 2 * width)
            slopes = real.new_empty((last - first) * blocks * stages * channels * first_modes * 2 * width)
            fresh = real.new_empty(channels * first_modes * 2 * width)
            row = real.new_zeros(2 * 2 * width * (self.points[1] + 1))
            plane(
                flat,
                first,
                last,
                self.substeps,
                width,
                self.points[0],
                rows,
                down.places,
                down.unused,
                down.plan.passes,
                down.plan.roots,
                self.points[1],
                self.lanes,
                across.unused,
                across.plan.passes,
                across.plan.roots,
                self.table,
                self.layout,
                self.numbers,
                fields.numpy(),
                slopes.numpy(),
                fresh.numpy(),
                row.numpy(),
            )

        share(pairs, run)
        back = lanes.permute(0, 2, 3, 1, 5, 4).reshape(pairs, channels, first_modes, blocks * width, 2)
        back = back[..., :modes, :]
        return torch.view_as_complex(back.contiguous())


def lane_steps(
    points: Sequence[int],
    *,
    inputs: Sequence[tuple[int, Tensor | None]],
    products: str,
    numbers: Sequence[float],
    outputs: Sequence[Sequence[Tensor]],
    constants: Sequence[Tensor | None],
    method: Etdrk,
    substeps: int,
    dtype: torch.dtype,
) -> LaneSteps | None:
    """The steps in lanes, or None where there is no such form.

    There is one on 1D and 2D grids whose sizes have no other factors than 2, 3 and 5, for at most two fields,
    multipliers that are real or imaginary and a method with real coefficients.

    Args:
        points: the grid's sizes.
        inputs: of each field its channel and its multiplier.
        outputs, constants, numbers: as in `spectral_forms.Pointwise`. All multipliers are cut to the band (*band),
            float64 or complex128.
        products: a name of `PRODUCTS`.
        method: its coefficients, cut to the band (C, *band).
        substeps: steps per call.
        dtype: float32 or float64.
    """
    given = [*(m for _, m in inputs if m is not None), *(m for row in outputs for m in row)]
    if len(points) > 2 or len(inputs) > 2 or any(e.is_complex() for e in method.propagators):
        return None
    if any(real_or_turned(m) is None for m in given) or any(row[-1] is None for row in method.weights):
        return None
    scalar = {torch.float64: np.float64, torch.float32: np.float32}[dtype]
    band = tuple(method.propagators[0].shape[1:])
    axes = [_axis(n, size, scalar) for n, size in zip(points, band, strict=True)]
    columns: list[Tensor] = []
    known: dict[tuple[int, int], int] = {}

    def column(x: Tensor, part: Tensor | None = None, key: int = 0) -> int:
        if (id(x), key) not in known:
            known[id(x), key] = len(columns)
            columns.append(x if part is None else part)
        return known[id(x), key]

    def multiplier(m: Tensor | None) -> list[int]:
        found = None if m is None else real_or_turned(m)
        return [-1, 0] if m is None or found is None else [column(m, found[0]), found[1]]

    stages = len(method.weights)
    tail: list[int] = []
    for channel, m in inputs:
        tail += [channel, *multiplier(m)]
    for channel, (row, constant) in enumerate(zip(outputs, constants, strict=True)):
        tail.append(-1)
        if constant is not None:
            tail[-1] = len(columns)
            columns += [constant.real, constant.imag]
        for m in row:
            tail += multiplier(m)
        for propagator, weights in zip(method.propagators, method.weights, strict=True):
            tail.append(column(propagator, propagator[channel], channel))
            tail += [-1 if w is None else column(w, w[channel], channel) for w in weights]
            tail += [-1] * (stages - len(weights))
    head = [PRODUCTS[products], len(inputs), len(outputs[0]), stages, len(columns), len(outputs)]
    table = torch.stack([c.expand(band) for c in columns], dim=-1).to(dtype).contiguous()
    whole = [a for a in axes if a is not None]
    if len(whole) < len(axes):
        return None
    width = BYTES // table.element_size()
    return LaneSteps(
        whole,
        table,
        np.array(head + tail, dtype=np.int64),
        np.array([*numbers, 0.0, 0.0, 0.0][:3], dtype=scalar),
        substeps,
        width,
        points,
    )
