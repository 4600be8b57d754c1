"""Whether the states that a surrogate visits are those of the truth, in distribution.

Everything is compared between disjoint halves of the samples: the surrogate on one half against the truth on the other,
and the truth on one half against the truth on the other, which is the floor. A perfect surrogate would score the floor,
no less and no more. Where there are too few samples, the halves are those of the time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sciml.experiments.scores import Scores
from sciml.metrics import log_spectral_distance
from sciml.metrics.hellinger import power_spectrum_hellinger
from sciml.metrics.occupation import mixture_divergence, state_space_divergence
from sciml.metrics.wasserstein import histogram_wasserstein

# Random ways to halve the samples, for what is cheap and for what is not.
SPLITS, FEW_SPLITS = 64, 8
# Where there is but one way to halve, a distance up to this many floors counts as the floor.
SINGLE = 2.0
# Dimensions up to which state space is divided into bins.
BINNED = 5
# Points of a system without space that enter one comparison.
POINTS = 20_000


@dataclass(frozen=True)
class Comparison:
    """A distance of statistics beside its floor.

    Args:
        name: "spectrum", "distribution", "mean field", "variance field", "D_stsp", "D_H".
        value: the surrogate against the truth, the median over ways to halve and seeds.
        floor: the truth against the truth, the median over ways to halve.
        limit: what 95 of 100 ways to halve the truth stay below; the value is no worse than the truth up to here.
        unit: what the distance is measured in.
        units: independent pieces that were halved.
    """

    name: str
    value: float
    floor: float
    limit: float
    unit: str
    units: int

    @property
    def faithful(self) -> bool:
        """Whether the distance is one that the truth has to itself."""
        return bool(self.value <= self.limit)


def compare(group: Sequence[Scores], truth: Scores) -> list[Comparison]:
    """All statistics of a surrogate (one entry per seed) against those of the truth.

    What a surrogate that blew up left behind counts for the time before. Empty if nothing was gathered.
    """
    have = truth.statistics
    if not have or not have["count"].any():
        return []
    by_sample = len(truth.blow_up) >= 4
    halves = _halvings(len(truth.blow_up) if by_sample else len(have["count"]), SPLITS)
    out = []
    if "spectrum" in have:
        out.append(
            _halved(
                "spectrum",
                "root mean square of ln E",
                group,
                truth,
                "spectrum",
                _spectral,
                halves,
                by_sample,
            )
        )
    width = have["width"]

    def distribution(a: Tensor, b: Tensor) -> Tensor:
        return histogram_wasserstein(a, b, torch.from_numpy(width).double()).mean(-1)

    out.append(
        _halved(
            "distribution",
            "standard deviations of the data",
            group,
            truth,
            "histogram",
            distribution,
            halves,
            by_sample,
        )
    )
    if "series" in have:
        out += _of_series(group, truth, by_sample)
    else:
        out += _fields(group, truth)
    return out


def _halvings(units: int, count: int) -> np.ndarray:
    """Random choices of half of the units, (count, units) of bool, the first units first."""
    random = np.random.default_rng(0)
    rows = [np.arange(units) < units // 2]
    rows += [random.permutation(units) < units // 2 for _ in range(count - 1)]
    return np.stack(rows)


def _spectral(a: Tensor, b: Tensor) -> Tensor:
    """Log-spectral distance of mean spectra (..., C, S), shells from 1 on, mean over channels."""
    return log_spectral_distance(a[..., 1:], b[..., 1:]).mean(-1)


def _half_means(scores: Scores, name: str, halves: np.ndarray, by_sample: bool) -> tuple[Tensor, Tensor]:
    """Means of what was gathered over either half, (splits, ...) twice; NaN where nothing was."""
    total = torch.from_numpy(scores.statistics[name]).double().sum(0 if by_sample else 1)
    count = torch.from_numpy(scores.statistics["count"]).double().sum(0 if by_sample else 1)
    chosen = torch.from_numpy(halves).double()
    found = []
    for mask in (chosen, 1 - chosen):
        summed = torch.einsum("hu,u...->h...", mask, total)
        seen = mask @ count
        found.append(summed / torch.where(seen > 0, seen, torch.nan).reshape(-1, *[1] * (summed.ndim - 1)))
    return found[0], found[1]


def _halved(
    name: str,
    unit: str,
    group: Sequence[Scores],
    truth: Scores,
    statistic: str,
    distance: Callable[[Tensor, Tensor], Tensor],
    halves: np.ndarray,
    by_sample: bool,
) -> Comparison:
    one, other = _half_means(truth, statistic, halves, by_sample)
    floors = distance(one, other).numpy()
    values = []
    for scores in group:
        mine = _half_means(scores, statistic, halves, by_sample)
        values += [distance(mine[0], other).numpy(), distance(mine[1], one).numpy()]
    return Comparison(
        name,
        _middle(np.concatenate(values)),
        float(np.median(floors)),
        float(np.quantile(floors, 0.95)),
        unit,
        halves.shape[1],
    )


def _middle(values: np.ndarray) -> float:
    """Median, infinite if most of the values are not there."""
    return float(np.median(np.where(np.isfinite(values), values, np.inf)))


def _fields(group: Sequence[Scores], truth: Scores) -> list[Comparison]:
    """Mean and variance in time and over samples at each point, in units of the data's spread."""

    def moments(scores: Scores) -> tuple[np.ndarray, np.ndarray]:
        sums = scores.statistics["fields"].astype(float)
        weight = scores.statistics["weight"].astype(float)
        with np.errstate(invalid="ignore", divide="ignore"):
            sums = sums / np.where(weight > 0, weight, np.nan).reshape(2, 1, *[1] * (sums.ndim - 2))
        return sums[:, 0], sums[:, 1] - sums[:, 0] ** 2

    def gap(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.sqrt(np.mean((a - b) ** 2)))

    out = []
    true = moments(truth)
    for index, name in enumerate(("mean field", "variance field")):
        one, other = true[index]
        floor = gap(one, other)
        values = []
        for scores in group:
            mine = moments(scores)[index]
            values += [gap(mine[0], other), gap(mine[1], one)]
        if np.isfinite(floor):
            power = "standard deviations" if index == 0 else "variances"
            out.append(
                Comparison(
                    name, _middle(np.array(values)), floor, SINGLE * floor, f"{power} of the data", 2
                )
            )
    return out


def _of_series(group: Sequence[Scores], truth: Scores, by_sample: bool) -> list[Comparison]:
    """Occupation of state space and power spectra in time of a system without space."""

    def pieces(scores: Scores) -> Tensor:
        """(units, T, C): whole trajectories, or the two halves of each."""
        series = torch.from_numpy(scores.statistics["series"]).double()
        series = series[len(series) // 5 :]  # off the transient
        if by_sample:
            return series.transpose(0, 1)
        half = len(series) // 2
        return torch.cat([series[:half], series[half : 2 * half]], dim=1).transpose(0, 1)

    true = pieces(truth)
    if true.shape[1] < 16:
        return []
    flat = true.flatten(0, 1)
    mean, spread = flat.nanmean(0), flat[torch.isfinite(flat).all(1)].std(0).clamp_min(1e-300)

    def standard(x: Tensor) -> Tensor:
        return (x - mean) / spread

    halves = _halvings(len(true), FEW_SPLITS)
    if not by_sample:  # first halves of the time against second ones
        count = len(true) // 2
        halves = (np.arange(2 * count) < count)[None]

    def cloud(x: Tensor, mask: np.ndarray) -> Tensor:
        points = standard(x[torch.from_numpy(mask)]).flatten(0, 1)
        step = max(1, -(-len(points) // POINTS))
        return points[::step]

    def occupied(a: Tensor, b: Tensor) -> float:
        size = min(len(a), len(b))
        binned = true.shape[2] <= BINNED
        return float((state_space_divergence if binned else mixture_divergence)(a[:size], b[:size]))

    def rhythm(a: Tensor, b: Tensor) -> float:
        """Series against other series, paired."""
        size = min(len(a), len(b))
        return float(power_spectrum_hellinger(standard(a[:size]), standard(b[:size])).nanmean())

    floors: dict[str, list[float]] = {"D_stsp": [], "D_H": []}
    values: dict[str, list[float]] = {"D_stsp": [], "D_H": []}
    everyone = [pieces(scores) for scores in group]
    for mask in halves:
        mine, others = torch.from_numpy(mask), torch.from_numpy(~mask)
        floors["D_stsp"].append(occupied(cloud(true, mask), cloud(true, ~mask)))
        floors["D_H"].append(rhythm(true[mine], true[others]))
        for found in everyone:
            values["D_stsp"].append(occupied(cloud(found, mask), cloud(true, ~mask)))
            values["D_H"].append(rhythm(found[mine], true[others]))
    out = []
    for name in ("D_stsp", "D_H"):
        floor = np.array(floors[name])
        limit = float(floor.max()) if len(floor) > 1 else SINGLE * float(floor[0])
        unit = "nats" if name == "D_stsp" else "Hellinger distance"
        out.append(
            Comparison(
                name, _middle(np.array(values[name])), float(np.median(floor)), limit, unit, len(true)
            )
        )
    return out
