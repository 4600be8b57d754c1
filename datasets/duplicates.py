"""Trajectories that appear twice: bit for bit, or up to rounding, a scale, or a shift along periodic axes.

Equal bits are found by a digest of the first two frames. Near ones by a few numbers for each initial state that neither
scale nor shift changes, sorted along one line, so that only neighbours are ever compared: N log N for N samples.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from sciml.datasets.findings import Collector, Finding, Level
from sciml.domains import Domain, Grid

FEATURES = 24
"""Numbers that are kept of each initial state."""

LOWEST = 8
"""Waves per periodic axis that they are made of."""

NEAR = 1e-3
"""Relative distance up to which two states are called the same."""

NEIGHBOURS = 8
"""States along the line that each is compared with."""

MOST = 200_000
"""Samples whose numbers are kept; beyond them near duplicates are not looked for."""


@dataclass(frozen=True)
class _Seen:
    split: str
    sample: int
    parameters: Mapping[str, float]
    domain: Domain


class Duplicates:
    """Takes in the first frames of all samples of all splits, and tells which are the same."""

    def __init__(self, collector: Collector) -> None:
        self._collector = collector
        self._starts: dict[bytes, int] = {}
        self._paths: dict[bytes, int] = {}
        self._seen: list[_Seen] = []
        self._features: list[np.ndarray] = []
        self._shapes: list[tuple[int, ...]] = []
        self._same: set[int] = set()
        self._bases: dict[tuple[int, ...], np.ndarray] = {}

    def add(
        self,
        split: str,
        sample: int,
        head: list[np.ndarray],
        parameters: Mapping[str, float],
        domain: Domain,
    ) -> None:
        """The first frame or two (C, *points) of one sample."""
        number, place = len(self._seen), f"{split}[{sample}]"
        self._seen.append(_Seen(split, sample, parameters, domain))
        start, path = (_digest(head[:n]) for n in (1, 2))
        known = self._paths.setdefault(path, number)
        first = self._starts.setdefault(start, number)
        if known != number:
            self._same.add(number)
            other = self._seen[known]
            level: Level = "error" if other.split != split else "warning"
            text = f"starts exactly as {other.split}[{other.sample}]: a duplicate"
            self._tell(level, place, text, "duplicates", split)
        elif first != number:
            self._same.add(number)
            other = self._seen[first]
            same = other.parameters == parameters
            text = f"starts exactly as {other.split}[{other.sample}] and goes on otherwise, " + (
                "with the same parameters" if same else "with other parameters"
            )
            level = "warning" if other.split != split or same else "note"
            self._tell(level, place, text, "equal initial states", split)
        if number < MOST:
            self._features.append(self._numbers(head[0], domain))
            self._shapes.append(head[0].shape)

    def _tell(self, level: Level, place: str, text: str, kind: str, split: str) -> None:
        self._collector.add(Finding(level, place, text, "duplicates"), kind, split)

    def _numbers(self, state: np.ndarray, domain: Domain) -> np.ndarray:
        """Numbers (FEATURES,) of a state that a scale, or a shift along periodic axes, does not change."""
        values = state.astype(np.float64)
        if _shifts(domain):
            axes = tuple(range(1, values.ndim))
            values = np.abs(np.fft.rfftn(values, axes=axes))
            for axis in axes:  # low waves of both signs
                n = values.shape[axis]
                keep = np.r_[0 : min(n, LOWEST), max(LOWEST, n - LOWEST) : n]
                values = np.take(values, keep, axis=axis)
        flat = values.reshape(-1)
        if flat.shape not in self._bases:
            generator = np.random.default_rng(len(flat))
            if len(flat) > 1 << 16:  # every so-manieth value will do, and the table stays small
                self._bases[flat.shape] = generator.standard_normal((FEATURES, 1 << 16))
            else:
                self._bases[flat.shape] = generator.standard_normal((FEATURES, len(flat)))
        basis = self._bases[flat.shape]
        thinned = flat[:: max(1, len(flat) // basis.shape[1])][: basis.shape[1]]
        found = basis[:, : len(thinned)] @ thinned
        size = float(found[int(np.abs(found).argmax())])  # a negative scale turns its sign as well
        return np.asarray(found / size if size != 0 else found)

    def near(self, load: Callable[[str, int], np.ndarray]) -> None:
        """Tell of initial states that are nearly the same; `load` gives the first frame of (split, sample)."""
        for a, b in self._pairs():
            first, second = self._seen[a], self._seen[b]
            text = _alike(load(first.split, first.sample), load(second.split, second.sample), second.domain)
            if text is not None:
                same = "the same" if first.parameters == second.parameters else "other"
                text = f"starts as {first.split}[{first.sample}] {text}, with {same} parameters: a near duplicate"
                self._tell(
                    "warning", f"{second.split}[{second.sample}]", text, "near duplicates", second.split
                )

    def _pairs(self) -> Iterator[tuple[int, int]]:
        """Samples whose numbers agree, earlier first; each sample at most once."""
        told: set[int] = set()
        for shape in set(self._shapes):
            members = np.array([i for i, s in enumerate(self._shapes) if s == shape])
            members = members[[int(i) not in self._same for i in members]]
            if len(members) < 2:
                continue
            features = np.stack([self._features[i] for i in members])
            line = features @ np.random.default_rng(0).standard_normal(FEATURES)
            order = np.argsort(line, kind="stable")
            members, features, line = members[order], features[order], line[order]
            for away in range(1, min(NEIGHBOURS, len(members) - 1) + 1):
                gap = np.linalg.norm(features[away:] - features[:-away], axis=1)
                for k in np.flatnonzero(gap < NEAR):
                    a, b = sorted((int(members[k]), int(members[k + away])))
                    if b not in told and np.linalg.norm(features[k]) > 0:
                        told.add(b)
                        yield a, b


def _digest(frames: list[np.ndarray]) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for frame in frames:
        digest.update(str(frame.shape).encode())
        digest.update(np.ascontiguousarray(frame).tobytes())
    return digest.digest()


def _shifts(domain: Domain) -> bool:
    return isinstance(domain, Grid) and all(domain.periodic)


def _alike(a: np.ndarray, b: np.ndarray, domain: Domain) -> str | None:
    """How b is a in another guise, or None where it is not."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    shift: tuple[int, ...] = ()
    if _shifts(domain):
        axes = tuple(range(1, a.ndim))
        product = np.fft.fftn(b, axes=axes) * np.conj(np.fft.fftn(a, axes=axes))
        likeness = np.abs(np.fft.ifftn(product, axes=axes).real.sum(axis=0))
        peak = np.unravel_index(int(likeness.argmax()), likeness.shape)
        shift = tuple(int(k) for k in peak)
        a = np.roll(a, shift, axis=axes)
    size = float((a * a).sum())
    if size == 0:
        return None
    scale = float((a * b).sum()) / size
    if not np.linalg.norm(b - scale * a) < NEAR * np.linalg.norm(b):
        return None
    words = [f"shifted by {shift} points"] if any(shift) else []
    if abs(scale - 1) > NEAR:
        words.append(f"times {scale:.4g}")
    return " and ".join(words) if words else "but for rounding"
