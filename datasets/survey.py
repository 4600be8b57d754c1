"""One pass over the values of a split, frame by frame: what is not finite, still, out of step or lost, and totals.

Frames are read in pieces of bounded size, so that a trajectory need not fit into memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from sciml.datasets.blocks import Block, read
from sciml.datasets.duplicates import Duplicates
from sciml.datasets.findings import Collector, Finding
from sciml.datasets.histogram import Histogram
from sciml.datasets.schema import require_memory
from sciml.datasets.splits import Pairs, Split
from sciml.domains import Cloud, Domain
from sciml.errors import UserError

PIECE = 1 << 26
"""Bytes of frames read at a time; one frame may be larger."""

JUMP = 6.0
"""A step that changes the state this many times more than those before and after it is told."""

AROUND = 3
"""Steps on each side that say what is usual."""

Progress = Callable[[int], None]
"""Told how many bytes were read since the last time."""


@dataclass
class Survey:
    """What was seen in one split.

    Args:
        histograms: of the values, one for each channel.
        suspects: (sample, frame) of steps that look unusual, the worst first.
        drift: largest change of the mean of each channel along a trajectory, over its mean modulus.
        samples, values: how many there are.
    """

    channels: tuple[str, ...]
    histograms: list[Histogram]
    suspects: list[tuple[int, int]] = field(default_factory=list)
    drift: np.ndarray = field(default_factory=lambda: np.zeros(0))
    finite: bool = True
    samples: int = 0
    values: int = 0


def pieces(block: Block, sample: int) -> Iterator[tuple[int, np.ndarray]]:
    """(first frame, frames (T', C, *points)) of one trajectory in order, float32; the buffer is used again."""
    frames, shape = block.shape[1], block.shape[2:]
    size = 4 * math.prod(shape)
    require_memory(size, "One frame")
    room = max(1, min(frames, PIECE // max(size, 1)))
    buffer = np.empty((room, *shape), dtype=np.float32)
    for first in range(0, frames, room):
        count = min(room, frames - first)
        read(block, sample, slice(first, first + count), buffer[:count])
        yield first, buffer[:count]


def survey(
    split: Split | Pairs, collector: Collector, duplicates: Duplicates, progress: Progress = lambda n: None
) -> Survey:
    """Look at all values of a split; what is found goes to `collector` and `duplicates`."""
    if isinstance(split, Pairs):
        _look(split.name, split.input_blocks, split.input_channels, collector, duplicates, progress, split)
        return _look(split.name, split.target_blocks, split.channels, collector, None, progress, split)
    return _look(split.name, split.blocks, split.channels, collector, duplicates, progress, split)


def _look(
    name: str,
    blocks: Sequence[Block],
    channels: tuple[str, ...],
    collector: Collector,
    duplicates: Duplicates | None,
    progress: Progress,
    split: Split | Pairs,
) -> Survey:
    seen = Survey(channels, [Histogram() for _ in channels])
    drift = np.zeros(len(channels))
    unusual: list[tuple[float, int, int]] = []
    sample = 0
    for block in blocks:
        for i in range(block.shape[0]):
            domain = split.domain if isinstance(split, Pairs) else split.domain_of(sample)
            try:
                found = _trajectory(block, i, _weights(domain), seen, progress)
            except (OSError, UserError) as error:
                message = f"its values cannot be read: {error}"
                collector.add(Finding("error", f"{name}[{sample}]", message, "values"), "unreadable", name)
                seen.finite = False
                sample += 1
                continue
            place = f"{name}[{sample}]"
            if found.bad:
                frame, channel, point = found.first_bad
                message = (
                    f"{found.bad} values are not finite, the first in frame {frame}, channel "
                    f"{channels[channel]!r}, point {point}"
                )
                collector.add(Finding("error", place, message, "values"), "values are not finite", name)
                seen.finite = False
            else:
                drift = np.maximum(drift, found.drift)
                for kind, text, strength, frame in found.unusual():
                    collector.add(Finding("warning", place, text, "time"), kind, name)
                    unusual.append((strength, sample, frame))
            if found.still:
                message = f"{len(found.still)} frames equal the one before, first frame {found.still[0]}"
                collector.add(
                    Finding("warning", place, message, "time"), "frames equal the one before", name
                )
            if duplicates is not None and not found.bad:
                values = {n: float(v[sample]) for n, v in split.parameters.items()}
                duplicates.add(name, sample, found.head, values, domain)
            sample += 1
    seen.samples, seen.drift = sample, drift
    seen.suspects = [(s, t) for _, s, t in sorted(unusual, reverse=True)]
    return seen


def _weights(domain: Domain) -> np.ndarray | None:
    """Share of each point in a mean over the domain, (*points); None where all weigh alike."""
    if isinstance(domain, Cloud):
        return None
    weights = domain.weights().numpy().reshape(-1)
    return None if float(np.ptp(weights)) <= 1e-12 * float(weights.max()) else weights / weights.sum()


class _Path:
    """What is kept of one trajectory."""

    def __init__(self) -> None:
        self.bad, self.first_bad = 0, (0, 0, ())  # type: int, tuple[int, int, tuple[int, ...]]
        self.still: list[int] = []
        self.head: list[np.ndarray] = []
        self.changes: list[np.ndarray] = []  # mean square of each step, (C,) each
        self.turns: list[np.ndarray] = []  # mean product with the step before, (C,) each
        self.drift = np.zeros(0)
        self.size = np.zeros(0)

    def unusual(self) -> Iterator[tuple[str, str, float, int]]:
        """(kind, text, strength, frame) of steps that stand out against their neighbours."""
        if len(self.changes) < 2 * AROUND + 1:
            return
        squares = np.array(self.changes)  # (T - 1, C)
        changes = np.sqrt(squares)
        # What rounding to float32 alone may change.
        floor = np.finfo(np.float32).eps * np.sqrt(self.size)
        ratios = np.zeros(len(changes))
        for t in range(AROUND, len(changes) - AROUND):
            # The next step but one on either side: a wrong frame spoils both steps that touch it.
            before = np.median(changes[t - AROUND : t - 1], axis=0)
            after = np.median(changes[t + 2 : t + AROUND + 1], axis=0)
            usual = np.maximum(np.maximum(before, after), floor)
            ratios[t] = float((changes[t] / np.where(usual > 0, usual, np.inf)).max(initial=0.0))
        for t in np.flatnonzero(ratios > JUMP).tolist():
            text = (
                f"the state changes {ratios[t]:.1f} times as much from frame {t} to {t + 1} as around it: a jump, or a "
                "frame that does not belong there"
            )
            yield "jumps between frames", text, float(ratios[t]), int(t)
        # Swapped frames go forward two steps, back one, forward two.
        scale = squares.mean(axis=0)
        used = scale > 0
        if not used.any():
            return
        products = (np.array(self.turns)[:, used] / scale[used]).sum(axis=1)  # (T - 2,)
        sizes = (squares[:, used] / scale[used]).sum(axis=1)
        norms = np.sqrt(sizes[1:] * sizes[:-1])
        cosines = np.divide(products, norms, out=np.zeros_like(products), where=norms > 0)
        if np.median(cosines) > 0.5:
            for t in np.flatnonzero((cosines[:-1] < -0.5) & (cosines[1:] < -0.5)).tolist():
                text = f"frames {t + 1} and {t + 2} look swapped: the state goes back between them and forth around them"
                yield "frames look swapped", text, 100.0, int(t + 1)


def _trajectory(
    block: Block, sample: int, weights: np.ndarray | None, seen: Survey, progress: Progress
) -> _Path:
    path = _Path()
    last: np.ndarray | None = None  # (C, N)
    step: np.ndarray | None = None
    start: np.ndarray | None = None
    least = most = size = np.zeros(block.shape[2])
    for first, buffer in pieces(block, sample):
        frames = buffer.reshape(*buffer.shape[:2], -1)
        progress(buffer.nbytes)
        seen.values += buffer.size
        for frame in buffer[: max(0, 2 - len(path.head))]:
            path.head.append(frame.copy())
        for t, values in enumerate(frames):
            whole = np.isfinite(values)
            if not whole.all():
                wrong = ~whole
                if not path.bad:
                    channel, point = (int(k) for k in np.argwhere(wrong)[0])
                    at = np.unravel_index(point, block.shape[3:]) if block.shape[3:] else ()
                    path.first_bad = (first + t, channel, tuple(int(k) for k in at))
                path.bad += int(wrong.sum())
                last = step = None
                continue
            for histogram, channel_values in zip(seen.histograms, values, strict=True):
                histogram.add(channel_values)
            mean = values.mean(axis=1, dtype=np.float64) if weights is None else values @ weights
            square = np.einsum("cn,cn->c", values, values, dtype=np.float64) / values.shape[1]
            if start is None:
                start, least, most, size = mean, mean, mean, square
            least, most = np.minimum(least, mean), np.maximum(most, mean)
            size = np.maximum(size, square)
            if last is not None:
                change = values - last
                squares = np.einsum("cn,cn->c", change, change, dtype=np.float64) / values.shape[1]
                if not squares.any() and not change.any():
                    path.still.append(first + t)
                path.changes.append(squares)
                if step is not None:
                    product = np.einsum("cn,cn->c", change, step, dtype=np.float64) / values.shape[1]
                    path.turns.append(product)
                step = change
            last = values.copy()
    if start is not None:
        modulus = np.sqrt(size)
        away = np.maximum(most - start, start - least)
        path.drift = np.divide(away, modulus, out=np.zeros_like(away), where=modulus > 0)
        path.size = size
    else:
        path.drift = np.zeros(block.shape[2])
    return path
