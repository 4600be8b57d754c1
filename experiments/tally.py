"""What is kept of a rollout while it runs: numbers in memory that does not grow with the length."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from sciml.domains import Cloud, Domain, Grid, Point
from sciml.errors import UserError
from sciml.experiments.plan import BLOCKS, Plan
from sciml.metrics import (
    correlation,
    invariant_drift,
    log_spectral_distance,
    nrmse,
    resolved_shells,
    rmse,
    vrmse,
)
from sciml.metrics import spectrum as spectrum_of
from sciml.metrics.spectral import band_gain

# A state this many times larger than the largest reference state counts as blown up.
BLOW_UP_FACTOR = 10.0
# A state that moves this much less than the truth, so many steps in a row, is frozen.
FREEZE_RATIO, FREEZE_STEPS = 0.01, 10
# Bins of the distribution of point values, the outermost for what lies beyond.
BINS = 128
# States of a system without space are kept themselves, thinned to at most so many numbers.
SERIES = 2_000_000

UserMetric = Callable[[Tensor, Tensor], Tensor]
Invariants = Callable[[Tensor], Mapping[str, Tensor]]


@dataclass(frozen=True)
class Ruler:
    """What all contestants of an evaluation are measured with.

    Args:
        plan: when.
        domain: where the points lie.
        channels: names of the channels.
        low, high: per channel (C,), the range of the data, which the distribution of point values covers.
        scale: per channel (C,), the standard deviation of the data.
        shift: per channel (C,), their mean.
        change: root mean square of a step's change in the data, all points and channels together.
        metrics: the user's own, by name.
    """

    plan: Plan
    domain: Domain
    channels: tuple[str, ...]
    low: Tensor
    high: Tensor
    shift: Tensor
    scale: Tensor
    change: float
    metrics: Mapping[str, UserMetric]

    @cached_property
    def grid(self) -> Grid | None:
        """The grid, if it is one."""
        return self.domain if isinstance(self.domain, Grid) else None

    @cached_property
    def weights(self) -> Tensor | None:
        """Weights of the points (*points); None where all are alike."""
        if isinstance(self.domain, Cloud | Point):
            return None
        return self.domain.weights()

    @cached_property
    def shares(self) -> Tensor | None:
        """The weights (N,), summing to one."""
        return None if self.weights is None else (self.weights / self.weights.sum()).flatten()

    @cached_property
    def spatial(self) -> bool:
        """Whether there is more than one point, so that means and correlations over points say something."""
        return not isinstance(self.domain, Point)

    def frame(self, u: Tensor) -> Tensor:
        """States (b, C, *points) as one frame (b, 1, C, *points) in double precision, one point where no space is."""
        frame = u.detach().double().unsqueeze(1)
        return frame if self.spatial else frame.unsqueeze(-1)


class Truth:
    """One true state and what all contestants need of it, computed once."""

    def __init__(self, ruler: Ruler, state: Tensor, previous: Tensor, largest: Tensor) -> None:
        self.state = state
        self._ruler = ruler
        self.size = state.flatten(1).norm(dim=1).double()
        self.largest = torch.maximum(largest, self.size)
        self.change = (state - previous).flatten(1).norm(dim=1)

    @cached_property
    def frame(self) -> Tensor:
        """(b, 1, C, *points), double."""
        return self._ruler.frame(self.state)

    @cached_property
    def spectrum(self) -> Tensor:
        """(b, C, S); on grids only."""
        return spectrum_of(self.frame, self._ruler.grid)[:, 0]


class Tally:
    """Everything that is kept of one contestant on some samples.

    All of it is tensors by name, in `kept`: they are written down, read again, and gone on with.

    Args:
        ruler: what is measured.
        u0: initial states (b, C, *points).
        halves: (b,) of 0 and 1, the half of the samples that each belongs to for mean fields; None where the two
            halves are those of the time.
        invariants: state -> name -> (b,).
    """

    def __init__(
        self, ruler: Ruler, u0: Tensor, halves: Tensor | None, invariants: Invariants | None = None
    ) -> None:
        self.ruler, self.halves = ruler, halves
        batch, channels = u0.shape[:2]
        plan = ruler.plan
        self._invariants = invariants
        self._first: dict[str, tuple[Tensor, Tensor]] = {}
        if invariants is not None:
            sizes = invariants(u0.double().abs())
            self._first = {
                name: (value, sizes[name].abs()) for name, value in invariants(u0.double()).items()
            }
        self.kept: dict[str, Tensor] = {
            "alive": torch.ones(batch, dtype=torch.bool),
            "failed": torch.full((batch,), plan.steps + 1, dtype=torch.int64),
            "frozen": torch.full((batch,), plan.steps + 1, dtype=torch.int64),
            "still": torch.zeros(batch, dtype=torch.int64),
            "last": u0.clone(),
            "count": torch.zeros(BLOCKS, batch, dtype=torch.float64),
            "histogram": torch.zeros(BLOCKS, batch, channels, BINS, dtype=torch.float64),
            "moments": torch.zeros(BLOCKS, batch, channels, 2, dtype=torch.float64),
            "fields": torch.zeros(2, 2, *u0.shape[1:], dtype=torch.float64),
            "weight": torch.zeros(2, dtype=torch.float64),
        }
        if not ruler.spatial:
            most = max(1, SERIES // (batch * channels))
            self.thinned = max(1, -(-plan.steps // most))
            self.kept["series"] = torch.full(
                (plan.steps // self.thinned, batch, channels), torch.nan, dtype=torch.float32
            )

    def restore(self, kept: Mapping[str, Tensor]) -> None:
        """Go on with what was written down."""
        self.kept = dict(kept)

    @property
    def dead(self) -> bool:
        """Whether no sample is left."""
        return not bool(self.kept["alive"].any())

    def see(self, step: int, state: Tensor, truth: Truth | None, largest: Tensor) -> None:
        """Take in the state (b, C, *points) after `step` steps.

        Args:
            step: from 1.
            state: what the contestant shows.
            truth: the true state, where it is known.
            largest: (b,), largest norm of a true state so far.
        """
        kept, plan = self.kept, self.ruler.plan
        size = state.flatten(1).norm(dim=1).double()  # not finite if any value is not
        fine = size <= BLOW_UP_FACTOR * largest
        if not bool(fine.all()):
            kept["failed"][kept["alive"] & ~fine] = step
            kept["alive"] &= fine
        moved = (state - kept["last"]).flatten(1).norm(dim=1)
        usual = self.ruler.change * state[0].numel() ** 0.5 if truth is None else truth.change
        still = moved < FREEZE_RATIO * usual
        kept["still"] = (kept["still"] + 1) * still
        frozen = kept["still"] == FREEZE_STEPS
        if bool(frozen.any()):
            now = frozen & kept["alive"] & (kept["frozen"] > step)
            kept["frozen"][now] = step - FREEZE_STEPS + 1
        kept["last"] = state
        lead, block = plan.index.get(step), plan.block(step)
        if "series" in kept and step % self.thinned == 0:
            kept["series"][step // self.thinned - 1] = torch.where(
                kept["alive"].unsqueeze(1), state, torch.nan
            ).float()
        if lead is None and block is None:
            return
        frame = self.ruler.frame(state)
        spectrum = spectrum_of(frame, self.ruler.grid)[:, 0] if self.ruler.grid is not None else None
        if lead is not None:
            self._compare(lead, step, state, frame, spectrum, truth)
        if block is not None:
            self._gather(block, frame, spectrum)

    def _put(self, name: str, lead: int, values: Tensor) -> None:
        alive = self.kept["alive"]
        if name not in self.kept:
            self.kept[name] = torch.full(
                (len(self.ruler.plan.leads), len(alive)), torch.nan, dtype=torch.float32
            )
        self.kept[name][lead] = torch.where(alive, values, torch.nan).float()

    def _compare(
        self,
        lead: int,
        step: int,
        state: Tensor,
        frame: Tensor,
        spectrum: Tensor | None,
        truth: Truth | None,
    ) -> None:
        ruler, w = self.ruler, self.ruler.weights
        for name, (first, size) in self._first.items():
            assert self._invariants is not None  # `_first` is empty without
            value = self._invariants(state.double())[name]
            self._put(f"value drift {name}", lead, invariant_drift(value.unsqueeze(1), first, size)[:, 0])
        if step in ruler.plan.spectra and spectrum is not None:
            self.kept[f"spectrum at {step}"] = torch.where(
                self.kept["alive"].unsqueeze(1), spectrum.sum(dim=1), torch.nan
            )
        if truth is None:
            return
        true = truth.frame
        self._put("value nrmse", lead, nrmse(frame, true, w, mode="joint")[:, 0, 0])
        self._put(
            "value scaled_error", lead, (rmse(frame, true, w)[:, 0] / ruler.scale).square().mean(1).sqrt()
        )
        if ruler.spatial:
            self._put("value vrmse", lead, vrmse(frame, true, w)[:, 0].mean(1))
            self._put("value correlation", lead, correlation(frame, true, w)[:, 0])
        if spectrum is not None and ruler.grid is not None:
            inner = slice(1, resolved_shells(ruler.grid) + 1)
            pair = (spectrum[..., inner], truth.spectrum[..., inner])
            self._put("value spectral_distance", lead, log_spectral_distance(*pair).mean(1))
            self._put("value high_band_gain", lead, band_gain(*pair).mean(1))
        for name, metric in ruler.metrics.items():
            self._own(name, metric, lead, frame, true)

    def _own(self, name: str, metric: UserMetric, lead: int, frame: Tensor, true: Tensor) -> None:
        if not self.ruler.spatial:
            frame, true = frame.squeeze(-1), true.squeeze(-1)
        found = metric(frame, true)
        batch, channels = frame.shape[0], frame.shape[2]
        if not isinstance(found, Tensor) or tuple(found.shape) not in ((batch, 1), (batch, 1, channels)):
            what = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise UserError(
                f"metric {name!r} gave {what} for states of shape {tuple(frame.shape)}; expected (B, T, C) or (B, T), "
                f"here {(batch, 1, channels)} or {(batch, 1)}."
            )
        values = found[:, 0].detach().double()
        if values.ndim == 1:
            self._put(f"value {name}", lead, values)
            return
        self._put(f"value {name}", lead, values.mean(1))
        if channels > 1:
            for channel, column in zip(self.ruler.channels, values.unbind(1), strict=True):
                self._put(f"value {name}_{channel}", lead, column)

    def _gather(self, block: int, frame: Tensor, spectrum: Tensor | None) -> None:
        ruler, kept = self.ruler, self.kept
        alive = kept["alive"]
        state = torch.where(alive.reshape(-1, *[1] * (frame.ndim - 1)), frame, 0.0)[:, 0]
        kept["count"][block] += alive
        flat = state.flatten(2)
        share = ruler.shares
        share = torch.full_like(flat[0, 0], 1 / flat.shape[2]) if share is None else share
        share = share * alive.reshape(-1, 1, 1)  # (b, 1, N)
        column = (1, -1, 1)
        unit = (flat - ruler.low.reshape(column)) / (ruler.high - ruler.low).reshape(column)
        bins = (unit * (BINS - 2) + 1).clamp_(0, BINS - 1).long()
        kept["histogram"][block].scatter_add_(2, bins, share.expand_as(flat))
        z = (flat - ruler.shift.reshape(column)) / ruler.scale.reshape(column)
        kept["moments"][block, :, :, 0] += (z * share).sum(2)
        kept["moments"][block, :, :, 1] += (z.square() * share).sum(2)
        if spectrum is not None:
            if "spectrum" not in kept:
                kept["spectrum"] = torch.zeros(BLOCKS, *spectrum.shape, dtype=torch.float64)
            kept["spectrum"][block] += torch.where(alive.reshape(-1, 1, 1), spectrum, 0.0)
        shaped = z.reshape(frame[:, 0].shape) if ruler.spatial else z.squeeze(-1)
        for half in (0, 1):
            if self.halves is None:
                if half != (block >= BLOCKS // 2):
                    continue
                mine = alive
            else:
                mine = alive & (self.halves == half)
            if bool(mine.any()):
                chosen = shaped[mine]
                kept["fields"][half, 0] += chosen.sum(0)
                kept["fields"][half, 1] += chosen.square().sum(0)
                kept["weight"][half] += mine.sum()
