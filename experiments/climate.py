"""Whether the states that a surrogate visits are those of the truth, in distribution.

Everything is compared between disjoint halves of the samples: the surrogate on one half against the truth on the other,
and the truth on one half against the truth on the other, which is the floor. A perfect surrogate would score the floor,
no less and no more. How far from the floor chance may take it is told by the truth's other halves, and by halves that
surrogate and truth have been shuffled into: if they are alike, it makes no difference who is who (a permutation test). A
surrogate far from the truth makes shuffled halves differ widely from each other as well, so that they may widen the
truth's own range twofold at most. Where there are too few samples, the halves are those of the time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sciml.experiments.evaluate import FEWEST_SAMPLES
from sciml.experiments.scores import Scores
from sciml.metrics import log_spectral_distance
from sciml.metrics.hellinger import power_spectrum_hellinger
from sciml.metrics.occupation import mixture_divergence, state_space_divergence
from sciml.metrics.wasserstein import histogram_wasserstein

# Random ways to halve the samples, for what is cheap and for what is not.
SPLITS, FEW_SPLITS = 64, 16
# Where there is but one way to halve, a distance up to this many floors counts as the floor; where there are several, it is
# how far shuffling may widen their range.
SINGLE = 2.0
# Dimensions up to which state space is divided into bins.
BINNED = 5
# Wavenumbers are energetic where the truth has this part of its largest energy: a hundredth of the amplitude.
ENERGETIC = 1e-4
# Points of a system without space that enter one comparison.
POINTS = 20_000


@dataclass(frozen=True)
class Comparison:
    """A distance of statistics beside its floor.

    Args:
        name: "spectrum", "energetic spectrum", "distribution", "mean field", "variance field", "D_stsp", "D_H".
        value: the surrogate against the truth, the median over ways to halve and seeds.
        floor: the truth against the truth, the median over ways to halve.
        limit: what 95 of 100 ways to halve the truth stay below; where the value lies beyond, but no more than twice as
            far, what the ways to halve truth and surrogate shuffled do. Up to here the value is no worse than the truth.
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
    by_sample = len(truth.blow_up) >= FEWEST_SAMPLES
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
        energetic = _energetic(have["spectrum"])
        out.append(
            _halved(
                "energetic spectrum",
                "root mean square of ln E",
                group,
                truth,
                "spectrum",
                lambda a, b: _spectral(a, b, energetic),
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


def _spectral(a: Tensor, b: Tensor, counted: Tensor | None = None) -> Tensor:
    """Log-spectral distance of mean spectra (..., C, S), shells from 1 on that count (C, S), mean over channels."""
    if counted is None:
        return log_spectral_distance(a[..., 1:], b[..., 1:]).mean(-1)
    own = [log_spectral_distance(a[..., c, here], b[..., c, here]) for c, here in enumerate(counted)]
    return torch.stack(own, dim=-1).mean(-1)


def _energetic(spectra: np.ndarray) -> Tensor:
    """Shells (C, S) from 1 on in which the truth (..., C, S) has at least `ENERGETIC` of its largest energy."""
    mean = torch.from_numpy(spectra).double().sum(dim=tuple(range(spectra.ndim - 2)))
    mean[:, 0] = 0
    return mean >= ENERGETIC * mean.amax(dim=-1, keepdim=True).clamp_min(torch.finfo(mean.dtype).tiny)


def _shuffled(units: int, count: int) -> np.ndarray:
    """Random pairs of disjoint sets of half as many out of twice as many units, (count, 2, 2 units) of bool."""
    random = np.random.default_rng(1)
    out = np.zeros((count, 2, 2 * units), dtype=bool)
    for row in out:
        order = random.permutation(2 * units)
        row[0, order[: units // 2]] = True
        row[1, order[units // 2 : 2 * (units // 2)]] = True
    return out


def _units(scores: Scores, name: str, by_sample: bool) -> tuple[Tensor, Tensor]:
    """What was gathered of each unit, (units, ...), and of how many states (units,)."""
    axis = 0 if by_sample else 1
    total = torch.from_numpy(scores.statistics[name]).double().sum(axis)
    return total, torch.from_numpy(scores.statistics["count"]).double().sum(axis)


def _means(units: tuple[Tensor, Tensor], masks: np.ndarray) -> Tensor:
    """Means over chosen units, masks (splits, units) -> (splits, ...); NaN where nothing was gathered."""
    total, count = units
    chosen = torch.from_numpy(masks).double()
    summed = torch.einsum("hu,u...->h...", chosen, total)
    seen = chosen @ count
    return summed / torch.where(seen > 0, seen, torch.nan).reshape(-1, *[1] * (summed.ndim - 1))


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
    true = _units(truth, statistic, by_sample)
    one, other = _means(true, halves), _means(true, ~halves)
    floors = distance(one, other).numpy()
    mine = [_units(scores, statistic, by_sample) for scores in group]
    values = [
        distance(_means(own, here), there).numpy()
        for own in mine
        for here, there in ((halves, other), (~halves, one))
    ]
    value = _middle(np.concatenate(values))

    def shuffled() -> float:
        masks = _shuffled(halves.shape[1], len(halves))
        chance = []
        for own in mine:
            both = (torch.cat([true[0], own[0]]), torch.cat([true[1], own[1]]))
            chance.append(distance(_means(both, masks[:, 0]), _means(both, masks[:, 1])).numpy())
        return _quantile(np.concatenate(chance))

    limit = _limit(float(np.quantile(floors, 0.95)), value, shuffled)
    return Comparison(name, value, float(np.median(floors)), limit, unit, halves.shape[1])


def _limit(own: float, value: float, shuffled: Callable[[], float]) -> float:
    """How far chance may go: as far as the truth's own halves, or as shuffled ones, at most twice as far.

    Shuffling costs, and is asked only where it decides.
    """
    if not own < value <= SINGLE * own:
        return own
    return max(own, min(shuffled(), SINGLE * own))


def _quantile(values: np.ndarray) -> float:
    """What 95 of 100 stay below, of those that are there; 0 if none is."""
    there = values[np.isfinite(values)]
    return float(np.quantile(there, 0.95)) if there.size else 0.0


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

    distances: dict[str, Callable[[Tensor, np.ndarray, Tensor, np.ndarray], float]] = {
        "D_stsp": lambda a, first, b, second: occupied(cloud(a, first), cloud(b, second)),
        "D_H": lambda a, first, b, second: rhythm(a[torch.from_numpy(first)], b[torch.from_numpy(second)]),
    }
    everyone = [pieces(scores) for scores in group]
    masks = _shuffled(len(true), FEW_SPLITS) if by_sample else ()
    out = []
    for name, distance in distances.items():
        floors = np.array([distance(true, mask, true, ~mask) for mask in halves])
        value = _middle(
            np.array([distance(mine, mask, true, ~mask) for mine in everyone for mask in halves])
        )

        def shuffled(distance: Callable[..., float] = distance) -> float:
            both = [torch.cat([true, mine]) for mine in everyone]
            chance = (distance(union, first, union, second) for union in both for first, second in masks)
            return max((c for c in chance if np.isfinite(c)), default=0.0)

        limit = (
            _limit(float(floors.max()), value, shuffled) if len(floors) > 1 else SINGLE * float(floors[0])
        )
        unit = "nats" if name == "D_stsp" else "Hellinger distance"
        out.append(Comparison(name, value, float(np.median(floors)), limit, unit, len(true)))
    return out
