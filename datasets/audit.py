"""The audit of a dataset: what its own values show, measured once and kept beside them as audit.json and audit.png.

Histograms and means come from the pass over all values (`survey`); spectra from the first, middle and last frame of a few
samples; the gap to the equation from `defect` and `residual`. The certificate says how far a solver's numbers are from
those of a finer one; the audit says whether the stored numbers are these.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sciml.datasets.defect import BATCH_BYTES, stored_frame
from sciml.datasets.equations import Known
from sciml.datasets.findings import Finding
from sciml.datasets.splits import Pairs, Split
from sciml.datasets.survey import Survey
from sciml.domains import Cloud, Grid, Mesh, Point
from sciml.metrics.spectral import resolved_shells, spectrum
from sciml.odes.base import ODE
from sciml.pdes.base import PDE

SAMPLES = 4
"""Samples whose spectra are averaged."""

TAIL = 0.05
"""Part of the fluctuations in the upper half of the wavenumbers above which they are called under-resolved.

Shocks, whose spectra fall like k^-2, have 1/K of it there with K wavenumbers: below this one for more than forty points.
"""

PILE = 2.0
"""Growth of the spectrum towards its end that only energy which cannot leave the grid makes."""


@dataclass(frozen=True)
class Spectra:
    """Spectra of one split, per frame and channel: (frames, C, K) for the wavenumbers 1 to K of the longest side."""

    frames: tuple[int, ...]
    channels: tuple[str, ...]
    power: np.ndarray

    @property
    def tails(self) -> np.ndarray:
        """Part of the fluctuations in the upper half of the wavenumbers, (frames, C); nan without fluctuations."""
        whole, half = self.power.sum(axis=2), self.power.shape[2] // 2
        upper = self.power[:, :, half:].sum(axis=2)
        return np.divide(upper, whole, out=np.full_like(whole, np.nan), where=whole > 0)

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "frames": list(self.frames),
            "power": {name: self.power[:, i].tolist() for i, name in enumerate(self.channels)},
            "upper_half": {
                name: [None if np.isnan(v) else float(v) for v in self.tails[:, i]]
                for i, name in enumerate(self.channels)
            },
        }


def spectra(split: Split | Pairs) -> Spectra | None:
    """Mean spectra of a few samples; None where the values do not lie on a grid, or one frame is too large."""
    domain = split.domain if isinstance(split, Pairs) else split.domain_of(0)
    if not isinstance(domain, Grid) or not len(split):
        return None
    count = min(SAMPLES, len(split))
    if isinstance(split, Pairs):
        frames: tuple[int, ...] = (0,)
        states = [split[i][1].double().unsqueeze(0) for i in range(count)]
    else:
        last = len(split.times_of(0)) - 1
        frames = tuple(sorted({0, last // 2, last}))
        chosen = [
            i for i in range(count) if split.domain_of(i) is domain and len(split.times_of(i)) == last + 1
        ]
        if 8 * int(np.prod(split.blocks[0].shape[2:])) > BATCH_BYTES:
            return None
        states = [torch.cat([stored_frame(split, i, t) for t in frames]) for i in chosen]
    total: Tensor | None = None
    for state in states:  # (frames, C, *points), one sample at a time
        found = spectrum(state.unsqueeze(0), domain)[0][..., 1 : resolved_shells(domain) + 1]
        total = found if total is None else total + found
    assert total is not None  # there is a sample
    return Spectra(frames, split.channels, (total / len(states)).numpy())


def under_resolved(name: str, found: Spectra) -> Iterator[Finding]:
    """Channels whose spectra have not fallen where the grid ends."""
    top = found.power.shape[2]
    if top < 8:
        return
    eighth = max(1, top // 8)
    for row, frame in enumerate(found.frames):
        for i, channel in enumerate(found.channels):
            tail, power = found.tails[row, i], found.power[row, i]
            end, before = power[-eighth:].mean(), power[-2 * eighth : -eighth].mean()
            level = "note" if frame == 0 and len(found.frames) > 1 else "warning"
            place = f"{name}, frame {frame}"
            if tail > TAIL:
                text = (
                    f"{channel!r} has {tail:.2g} of its fluctuations in the upper half of the wavenumbers: the points hardly "
                    "resolve it"
                )
                yield Finding(level, place, text, "resolution")  # type: ignore[arg-type]
            elif end > PILE * before and end > 1e-10 * power.max():
                text = (
                    f"the spectrum of {channel!r} rises towards the end of the grid: energy piles up there"
                )
                yield Finding(level, place, text, "resolution")  # type: ignore[arg-type]


def invariants(known: Known, split: Split) -> dict[str, float]:
    """Drift of what the equation keeps, over the stored frames of two samples, relative as in the certificate."""
    drift: dict[str, float] = {}
    for sample in range(min(2, len(split))):
        domain = split.domain_of(sample)
        if isinstance(domain, Cloud):
            continue
        place = known.place(domain)
        parameters = {n: v[sample : sample + 1] for n, v in split.parameters.items()}
        equation = known.equation(parameters, place)
        if not isinstance(equation, PDE | ODE) or not isinstance(place, Grid | Mesh | Point):
            continue
        last = len(split.times_of(sample)) - 1
        start: Mapping[str, Tensor] = {}
        scale = torch.ones(1, dtype=torch.float64)
        for t in sorted({0, last // 4, last // 2, 3 * last // 4, last}):
            u = known.view(stored_frame(split, sample, t))
            found = equation.invariants(u) if isinstance(equation, ODE) else equation.invariants(u, place)
            if t == 0:
                start = found
                scale = (u.abs() * place.weights()).flatten(1).sum(dim=1)
            for name, value in found.items():
                size = torch.maximum(start[name].abs(), scale)
                gap = float(((value - start[name]).abs() / size).max())
                drift[name] = max(drift.get(name, 0.0), gap)
    return drift


def facts(split: Split | Pairs, seen: Survey) -> dict[str, Any]:
    """What the pass over all values gave, ready for JSON."""
    entry: dict[str, Any] = {
        "samples": seen.samples,
        "values": {
            channel: histogram.as_dict()
            for channel, histogram in zip(seen.channels, seen.histograms, strict=True)
        },
    }
    if isinstance(split, Split) and len(seen.drift):
        # A mean that stays is what closed sides and no source leave of a balance.
        entry["drift_of_means"] = dict(zip(seen.channels, seen.drift.tolist(), strict=True))
    return entry
