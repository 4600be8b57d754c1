"""Do stored frames solve their equation? A trusted solver goes from frame to frame, and says how far it can be trusted.

The gap between what the solver makes of one stored frame and a later one is held against three errors that are
measured beside it, never against a number from the air:

- that of the solver and of what the stored points do not hold: the same span solved from the same frame on half the
  points, compared on those. Errors at least halve from grid to grid, so that of the stored grid is at most as large;
  three times it is allowed, the factor of safety of Roache's grid convergence index for two grids
  (J. Fluids Eng. 116 (1994), 405-413);
- that of storing float32: the same span from a frame changed in its last bit;
- of data that another code made: what second-order differences on the same points would get wrong.

Data whose recipe works on the stored points should come out the same up to rounding, and pass if they do; if not, they
are allowed the error of its steps in time, and none of its grid.

Sizes are means of the modulus: a shock that is a cell off costs that one cell, as it should. Beside one stored step a
longer span is tested, over which a wrong time step or parameter grows and the width of a shock does not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sciml.calculus import FiniteDifference, Spectral
from sciml.datasets.blocks import read
from sciml.datasets.equations import Equation, Known
from sciml.datasets.generate import to_stored
from sciml.datasets.schema import require_memory
from sciml.datasets.splits import Pairs, Split
from sciml.domains import Cloud, Domain, Grid
from sciml.errors import UserError
from sciml.odes.base import ODE
from sciml.pdes.base import PDE, Elliptic
from sciml.resample import resample
from sciml.step import LowFaces, low_faces_of
from sciml.trajectory import Field

SAFETY = 3.0
"""Factor of safety on an error estimated from two grids."""

ECHO = 16.0
"""Roundings of one frame that may add up where two codes, or two machines, do the same sums in another order, and over
the several steps of a span."""

LONGEST = 16
"""Stored steps of the longest span."""

FEWEST = 8
"""Points per axis below which a grid says nothing about a finer one."""

STARTS = 6
"""Frames that are stepped from, at most."""

BATCH_BYTES = 1 << 28
"""float64 states that are stepped on together."""

BLUNT = 0.2
"""Where not even this part of the change would be seen, the check says nothing."""


@dataclass(frozen=True)
class Gap:
    """How far the solver ends from a stored frame, in one field.

    Args:
        sample, frame: where it started.
        span: stored steps.
        field: name.
        gap: mean |solver - stored|.
        allowed: what the errors measured beside it explain.
        change: mean |stored - start|, or for pairs mean |stored|.
    """

    sample: int
    frame: int
    span: int
    field: str
    gap: float
    allowed: float
    change: float

    @property
    def excess(self) -> float:
        """Gap over what is allowed: above one, the data do not solve the equation."""
        if self.allowed > 0:
            return self.gap / self.allowed
        return math.inf if self.gap > 0 else 0.0

    @property
    def relative(self) -> float:
        """Gap over the change."""
        return self.gap / self.change if self.change > 0 else 0.0


@dataclass(frozen=True)
class Verdict:
    """What stepping from stored frames showed.

    Args:
        gaps: one for each start, span and field.
        sharpness: the smallest part of the change that would have been noticed; above `BLUNT` nothing would.
    """

    gaps: tuple[Gap, ...]
    sharpness: float

    @property
    def defect(self) -> float:
        """The largest gap of one stored step, relative to the change in that step."""
        return max((g.relative for g in self.gaps if g.span == 1), default=0.0)

    @property
    def worst(self) -> Gap:
        """The gap that is furthest beyond what is allowed."""
        return max(self.gaps, key=lambda g: g.excess)

    @property
    def ok(self) -> bool:
        """Whether all gaps are explained."""
        return self.worst.excess <= 1.0


def judge(
    known: Known, split: Split | Pairs, suspects: Iterable[tuple[int, int]] = (), seconds: float = 5.0
) -> Verdict | str:
    """Step from stored frames and compare, or say why that cannot be done.

    Args:
        known: the equation and its solver.
        split: what is tested: its first and second samples at their first, middle and last steps.
        suspects: (sample, frame) that are tested as well, where something looked unusual.
        seconds: of stepping on the stored points, after which spans are not made longer.
    """
    try:
        if isinstance(split, Pairs):
            return _judge_pairs(known, split)
        return _judge_frames(known, split, suspects, seconds)
    except (UserError, ValueError, TypeError, NotImplementedError, ModuleNotFoundError) as error:
        # A combination for which there is no solver here is no fault of the data.
        return f"no solver here checks it: {error}"


def stored_frame(split: Split, sample: int, frame: int) -> Tensor:
    """One frame (1, C, *points) in float64; nothing else is read."""
    block, place = split.locate(sample)
    shape = split.blocks[block].shape[2:]
    require_memory(8 * math.prod(shape), f"One frame of split {split.name!r}")
    out = np.empty((1, *shape), dtype=np.float32)
    read(split.blocks[block], place, slice(frame, frame + 1), out)
    return torch.from_numpy(out).to(torch.float64)


class _Leap:
    """Some stored steps from frames on a grid, solved on that grid or a finer one, and back."""

    def __init__(
        self, known: Known, equation: Equation, grid: Domain, dt: float, *, halved: bool = False
    ) -> None:
        self.grid, self.parts = grid, 1
        self.fine = grid.refined(known.factor) if isinstance(grid, Grid) and known.factor > 1 else grid
        self.step = known.solver(equation, self.fine, dt, known.substeps)
        if halved:
            inner: Any = getattr(self.step, "step", self.step)
            if known.substeps is None and isinstance(getattr(inner, "cfl", None), float):
                inner.cfl *= 0.5  # substeps that follow the state would be the same in half the time
            else:
                self.parts = 2
                self.step = known.solver(equation, self.fine, dt / 2, known.substeps)
        self.low_faces = low_faces_of(self.step)

    def __call__(self, u: Tensor, spans: Sequence[int], seconds: float = math.inf) -> dict[int, Tensor]:
        """States after each of the spans, increasing; the first always, longer ones while there is time."""
        began, ends, done = time.monotonic(), {}, 0
        w = _refined(u, self.grid, self.fine, self.low_faces)
        for span in spans:
            for _ in range(self.parts * (span - done)):
                w = self.step(w)
            done = span
            ends[span] = to_stored(w, self.fine, self.grid, self.low_faces)
            if time.monotonic() - began > seconds:
                break
        return ends


def _refined(u: Tensor, grid: Domain, fine: Domain, low_faces: LowFaces | None) -> Tensor:
    """States on a finer grid. Averages of cells are not carried beyond those of their neighbours.

    Linear values in the cells next to a jump would be, and a density may be negative there. As in Barth and Jespersen
    (1989), what a block adds to its average is scaled until it is not.
    """
    out = to_stored(u, grid, fine, low_faces)
    plain = not (low_faces is not None and any(low_faces))
    if (
        grid is fine
        or not (isinstance(grid, Grid) and isinstance(fine, Grid))
        or grid.centering != "cell"
        or not plain
    ):
        return out
    d = grid.dimension
    pool = (torch.nn.functional.max_pool1d, torch.nn.functional.max_pool2d, torch.nn.functional.max_pool3d)[
        d - 1
    ]
    wide = u
    for axis, periodic in enumerate(grid.periodic):
        widths = [0, 0] * (d - 1 - axis) + [1, 1] + [0, 0] * axis
        wide = torch.nn.functional.pad(wide, widths, mode="circular" if periodic else "replicate")
    largest, smallest = pool(wide, 3, 1), -pool(-wide, 3, 1)
    factor = fine.shape[0] // grid.shape[0]

    def spread(x: Tensor) -> Tensor:
        for axis in range(2, 2 + d):
            x = x.repeat_interleave(factor, dim=axis)
        return x

    centre = spread(u)
    away = out - centre
    room = torch.where(away > 0, spread(largest) - centre, spread(smallest) - centre)
    share = torch.where(
        away != 0, room / torch.where(away != 0, away, torch.ones_like(away)), torch.ones_like(away)
    )
    least = -pool(-share.clamp(0, 1), factor, factor)
    return centre + spread(least) * away


def _judge_frames(
    known: Known, split: Split, suspects: Iterable[tuple[int, int]], seconds: float
) -> Verdict | str:
    gaps: list[Gap] = []
    starts = _starts(split, suspects)
    if not starts:
        return "no trajectory has a second frame"
    count = len(starts)
    with torch.no_grad():
        while starts:  # what shares a domain and a time step goes in one batch
            first, frame_of_first = starts[0]
            domain, dt = split.domain_of(first), time_step(split, first, known)
            together = [
                (s, t)
                for s, t in starts
                if split.domain_of(s) is domain
                and time_step(split, s, known) == dt
                # Where the fastest of a batch sets the substeps of all, later frames keep their own.
                and (known.substeps is not None or t == frame_of_first)
            ]
            starts = [s for s in starts if s not in together]
            frame = 8 * math.prod(split.blocks[split.locate(together[0][0])[0]].shape[2:])
            together = together[: max(1, BATCH_BYTES // frame)]
            if isinstance(domain, Cloud):
                return "particles have no solver here"
            found = _batch(known, split, together, domain, dt, seconds * len(together) / count)
            if isinstance(found, str):
                return found
            gaps += found
    sharp = [g.allowed / g.change for g in gaps if g.change > 0]
    return Verdict(tuple(gaps), min(sharp, default=math.inf))


def time_step(split: Split, sample: int, known: Known) -> float:
    """Time between stored frames: what the recipe says, or the file."""
    times = split.times_of(sample)
    mean = float(times[-1] - times[0]) / max(len(times) - 1, 1)
    return mean if known.dt is None else known.dt


def _starts(split: Split, suspects: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """(sample, frame) to step from: begin, middle and last step of two samples, and what looked unusual."""
    found: list[tuple[int, int]] = []
    for sample in range(min(2, len(split))):
        last = len(split.times_of(sample)) - 2
        if last >= 0:
            found += [(sample, t) for t in sorted({0, last // 2, last})]
    unusual = [(s, t) for s, t in suspects if 0 <= t < len(split.times_of(s)) - 1]
    return list(dict.fromkeys([*unusual[: STARTS // 2], *found]))[:STARTS]


def _batch(
    known: Known, split: Split, starts: list[tuple[int, int]], domain: Domain, dt: float, seconds: float
) -> list[Gap] | str:
    samples = torch.tensor([s for s, _ in starts])
    parameters = {name: values[samples] for name, values in split.parameters.items()}
    place = known.place(domain)
    u = torch.cat([known.view(stored_frame(split, s, t)) for s, t in starts])
    left = max(len(split.times_of(s)) - 1 - t for s, t in starts)
    spans = [k for k in (1, 2, 4, 8, LONGEST) if k <= left]

    def leap(grid: Domain, halved: bool = False) -> _Leap:
        return _Leap(known, known.equation(parameters, grid), grid, dt, halved=halved)

    equation = known.equation(parameters, place)
    if isinstance(equation, Elliptic):
        return "its equation is stationary and the data are trajectories"
    whole = leap(place)
    ends = whole(u, spans, seconds)
    spans = sorted({1, max(ends)})
    if not bool(torch.isfinite(ends[1]).all()):
        return "the solver blows up within one stored step on these points, which do not resolve the states"
    spans = [k for k in spans if bool(torch.isfinite(ends[k]).all())]
    echoes = whole(nudged(u), spans)
    foreign = _second_order(equation, u, place) if known.origin != "recipe" else None
    fields, dimension = equation.fields, domain.dimension

    def rows(trusted: dict[int, Tensor] | None) -> list[Gap]:
        found: list[Gap] = []
        for k in spans:
            for row, (sample, t) in enumerate(starts):
                if t + k > len(split.times_of(sample)) - 1:
                    continue
                v = known.view(stored_frame(split, sample, t + k))[0]
                gap = sizes(ends[k][row] - v, fields, dimension)
                change = sizes(v - u[row], fields, dimension)
                last_bit = torch.finfo(torch.float32).eps / 2 * sizes(v, fields, dimension)
                allowed = ECHO * (sizes(echoes[k][row] - ends[k][row], fields, dimension) + last_bit)
                if trusted is not None:
                    allowed = allowed + SAFETY * trusted[k][row]
                if foreign is not None:
                    allowed = allowed + SAFETY * foreign[row] * change
                found += [
                    Gap(sample, t, k, f.name, *(float(x[i]) for x in (gap, allowed, change)))
                    for i, f in enumerate(fields)
                ]
        return found

    own = known.origin == "recipe" and known.factor == 1
    if own:
        exact = rows(None)
        if all(gap.excess <= 1 for gap in exact):
            return exact
    errors = (
        _in_time(leap, place, fields, u, spans, ends)
        if own
        else _errors(known, equation, leap, whole, u, spans, ends)
    )
    return errors if isinstance(errors, str) else rows(errors)


def _in_time(
    leap: Callable[..., _Leap],
    place: Domain,
    fields: Sequence[Field],
    u: Tensor,
    spans: Sequence[int],
    ends: dict[int, Tensor],
) -> dict[int, Tensor]:
    """Errors in time alone (B, F), by steps of half the length: points and scheme are the data's own."""
    half = leap(place, True)(u, spans)
    return {k: _each(ends[k] - half[k], fields, place.dimension) for k in spans}


def _errors(
    known: Known,
    equation: Equation,
    leap: Callable[..., _Leap],
    whole: _Leap,
    u: Tensor,
    spans: Sequence[int],
    ends: dict[int, Tensor],
) -> dict[int, Tensor] | str:
    """Errors of the solver and of what the points hold, per span (B, F), before the factor of safety.

    Of cells a quarter of the points are compared with a half as well, and half of that is an error too: where a jump
    lies in its cell may make one pair of grids agree by luck, and hardly two.
    """
    place, fields = whole.grid, equation.fields
    if not isinstance(place, Grid):
        if known.origin != "recipe" and not isinstance(equation, ODE):
            return "only grids, systems without space and recipes tell how large the solver's error may be"
        return _in_time(leap, place, fields, u, spans, ends)
    refused = f"{place.shape} points are too few, or odd, to compare with half of them"
    for coarse in coarser_grids(place):
        try:
            step = leap(coarse)
        except ValueError as error:
            refused = str(error)
            continue

        def less(v: Tensor, source: Grid, target: Grid) -> Tensor:
            return resample(v, source, target, whole.low_faces)

        v = less(u, place, coarse)
        half = step(v, spans)
        found = {k: _each(less(ends[k], place, coarse) - half[k], fields, place.dimension) for k in spans}
        for quarter in coarser_grids(coarse) if place.centering == "cell" else []:
            fewer = leap(quarter)(less(v, coarse, quarter), spans)
            for k in spans:
                again = 0.5 * _each(less(half[k], coarse, quarter) - fewer[k], fields, place.dimension)
                found[k] = torch.maximum(found[k], torch.nan_to_num(again))
            break
        return found
    return refused


def coarser_grids(domain: Grid) -> list[Grid]:
    """Grids of the same box with fewer points: two thirds where waves can be cut off anywhere, and half."""
    found = []
    for thirds in (2.0, 1.5):
        shape = []
        for n, periodic in zip(domain.shape, domain.periodic, strict=True):
            if domain.centering == "node" and periodic:
                shape.append(2 * int(n * thirds / 6))
            elif domain.centering == "cell":
                shape.append(n // 2 if n % 2 == 0 else 0)
            else:
                shape.append((n - 1) // 2 + 1 if n % 2 else 0)
        if min(shape) >= FEWEST:
            found.append(domain.resized(shape))
    return found


def nudged(u: Tensor) -> Tensor:
    """States whose values differ by up to the rounding of float32."""
    generator = torch.Generator().manual_seed(0)
    noise = 2 * torch.rand(u.shape, generator=generator, dtype=torch.float64) - 1
    return u * (1 + torch.finfo(torch.float32).eps / 2 * noise)


def _second_order(equation: PDE | ODE, u: Tensor, domain: Domain) -> Tensor | None:
    """Relative error of the rate of change by second-order differences on the points, (B, F); None if unknown."""
    if not (isinstance(equation, PDE) and isinstance(domain, Grid) and all(domain.periodic)):
        return None
    if domain.centering != "node":
        return None
    best, usual = (equation.rhs(u, c) for c in (Spectral(domain), FiniteDifference(domain, 2)))
    gap, size = (_each(x, equation.fields, domain.dimension) for x in (usual - best, best))
    return torch.where(size > 0, gap / size.clamp(min=1e-300), torch.zeros_like(gap))


def sizes(u: Tensor, fields: Sequence[Field], dimension: int) -> Tensor:
    """Mean modulus of each field of a state (C, *points), (F,); components of a vector add up."""
    means = u.abs().flatten(1).mean(dim=1) if u.ndim > 1 else u.abs()
    counts = [len(f.channels(dimension)) for f in fields]
    return torch.stack([part.sum() for part in means.split(counts)])


def _each(u: Tensor, fields: Sequence[Field], dimension: int) -> Tensor:
    """`sizes` of each state of a batch (B, C, *points), (B, F)."""
    return torch.stack([sizes(row, fields, dimension) for row in u])


def _judge_pairs(known: Known, split: Pairs) -> Verdict | str:
    """Inputs solved again, held against the stored solution."""
    count = min(4, len(split))
    pairs = [split[i] for i in range(count)]
    a = known.complete(torch.stack([p[0] for p in pairs]).double())
    wanted = torch.stack([p[1] for p in pairs]).double()
    place = known.place(split.domain)
    parameters = {name: values[:count] for name, values in split.parameters.items()}
    grids = coarser_grids(place) if isinstance(place, Grid) else []
    if not grids:
        return "its points are too few, or odd, to compare with half of them"
    coarse = grids[0]

    def solve(grid: Domain, inputs: Tensor) -> Tensor:
        return _Leap(known, known.equation(parameters, grid), grid, known.dt or 0.0)(inputs, [1])[1]

    with torch.no_grad():
        found = solve(place, a)
        assert isinstance(place, Grid)  # it has coarser ones
        error = resample(found, place, coarse) - solve(coarse, resample(a, place, coarse))
        echoes = solve(place, nudged(a)) - found
    fields, dimension = split.fields, split.dimension
    gaps = []
    for i in range(count):
        gap, size = (sizes(x[i], fields, dimension) for x in (found - wanted, wanted))
        allowed = SAFETY * sizes(error[i], fields, dimension)
        last_bit = torch.finfo(torch.float32).eps / 2 * size
        allowed = allowed + ECHO * (sizes(echoes[i], fields, dimension) + last_bit)
        gaps += [
            Gap(i, 0, 1, f.name, *(float(x[j]) for x in (gap, allowed, size))) for j, f in enumerate(fields)
        ]
    return Verdict(tuple(gaps), min(g.allowed / g.change for g in gaps if g.change > 0))
