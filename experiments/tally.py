"""What is kept of a rollout while it runs: numbers in memory that does not grow with the length."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from sciml.constraints.base import Constraint
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
# Beginnings of the names of what is measured without the truth, to the end of a rollout.
WITHOUT_TRUTH = ("drift ", "violation ")

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
        violations: constraints that states are measured by, by name.
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
    violations: Mapping[str, Constraint] = field(default_factory=dict)

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
    """Everything that is kept of some contestants on some samples.

    Small states are measured together, all contestants in one call of each function, as such calls cost their
    overhead. All that is kept is tensors by name, in `kept`, the samples of one contestant after those of another
    (n = contestants times samples): they are written down, read again, and gone on with.

    Args:
        ruler: what is measured.
        u0: initial states (b, C, *points).
        contestants: how many there are.
        halves: (b,) of 0 and 1, the half of the samples that each belongs to for mean fields; None where the two
            halves are those of the time.
        invariants: state -> name -> (b,).
    """

    def __init__(
        self,
        ruler: Ruler,
        u0: Tensor,
        contestants: int,
        halves: Tensor | None,
        invariants: Invariants | None = None,
    ) -> None:
        self.ruler, self.contestants, self.halves = ruler, contestants, halves
        self.batch, channels = u0.shape[:2]
        count = contestants * self.batch
        plan = ruler.plan
        self._invariants = invariants
        self._begin = u0
        self._first: dict[str, tuple[Tensor, Tensor]] = {}
        if invariants is not None:
            sizes = invariants(u0.double().abs())
            self._first = {
                name: (value.repeat(contestants), sizes[name].abs().repeat(contestants))
                for name, value in invariants(u0.double()).items()
            }
        self.kept: dict[str, Tensor] = {
            "alive": torch.ones(count, dtype=torch.bool),
            "failed": torch.full((count,), plan.steps + 1, dtype=torch.int64),
            "frozen": torch.full((count,), plan.steps + 1, dtype=torch.int64),
            "still": torch.zeros(count, dtype=torch.int64),
            "last": torch.cat([u0] * contestants),
            "count": torch.zeros(BLOCKS, count, dtype=torch.float64),
            "histogram": torch.zeros(BLOCKS, count, channels, BINS, dtype=torch.float64),
            "moments": torch.zeros(BLOCKS, count, channels, 2, dtype=torch.float64),
            "fields": torch.zeros(contestants, 2, 2, *u0.shape[1:], dtype=torch.float64),
            "weight": torch.zeros(contestants, 2, dtype=torch.float64),
        }
        if ruler.grid is not None:
            shells = spectrum_of(ruler.frame(u0[:1]), ruler.grid).shape[3]
            self.kept["spectrum"] = torch.zeros(BLOCKS, count, channels, shells, dtype=torch.float64)
        if not ruler.spatial:
            most = max(1, SERIES // (self.batch * channels))
            self.thinned = max(1, -(-plan.steps // most))
            self.kept["series"] = torch.full(
                (plan.steps // self.thinned, count, channels), torch.nan, dtype=torch.float32
            )

    def restore(self, kept: Mapping[str, Tensor]) -> None:
        """Go on with what was written down."""
        self.kept = dict(kept)

    def left(self, contestant: int) -> bool:
        """Whether a contestant has a sample that has not blown up."""
        first = contestant * self.batch
        return bool(self.kept["alive"][first : first + self.batch].any())

    def see(self, step: int, states: Sequence[Tensor], truth: Truth | None, largest: Tensor) -> None:
        """Take in what the contestants show after `step` steps.

        Args:
            step: from 1.
            states: of each contestant (b, C, *points).
            truth: the true state, where it is known.
            largest: (b,), largest norm of a true state so far.
        """
        kept, plan, many = self.kept, self.ruler.plan, self.contestants
        state = torch.cat(list(states)) if many > 1 else states[0]
        size = state.flatten(1).norm(dim=1).double()  # not finite if any value is not
        fine = size <= BLOW_UP_FACTOR * largest.repeat(many)
        if not bool(fine.all()):
            kept["failed"][kept["alive"] & ~fine] = step
            kept["alive"] &= fine
        moved = (state - kept["last"]).flatten(1).norm(dim=1)
        usual = self.ruler.change * state[0].numel() ** 0.5 if truth is None else truth.change.repeat(many)
        kept["still"] = (kept["still"] + 1) * (moved < FREEZE_RATIO * usual)
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
            self._compare(lead, step, frame, spectrum, truth)
        if block is not None:
            self._gather(block, frame, spectrum)

    def _put(self, lead: int, values: Mapping[str, Tensor]) -> None:
        """Numbers (n,) by name at a lead step; nothing for what has blown up."""
        alive = self.kept["alive"]
        rows = torch.where(alive, torch.stack(list(values.values())), torch.nan).float()
        for name, row in zip(values, rows, strict=True):
            key = f"value {name}"
            if key not in self.kept:
                self.kept[key] = torch.full((len(self.ruler.plan.leads), len(alive)), torch.nan)
            self.kept[key][lead] = row

    def _compare(
        self, lead: int, step: int, frame: Tensor, spectrum: Tensor | None, truth: Truth | None
    ) -> None:
        ruler, w, many = self.ruler, self.ruler.weights, self.contestants
        values: dict[str, Tensor] = {}
        state = frame[:, 0] if ruler.spatial else frame[:, 0, :, 0]
        if ruler.violations:
            first = self._begin.double().repeat(many, *[1] * (state.ndim - 1))
            alive = self.kept["alive"].reshape(-1, *[1] * (state.ndim - 1))
            seen = torch.where(alive, state, first)  # what has blown up is not asked about
            for name, constraint in ruler.violations.items():
                values[f"violation {name}"] = constraint.violation(seen, previous=first)
        if self._invariants is not None:
            parts = [self._invariants(part) for part in state.split(self.batch)]
            for name, (first, size) in self._first.items():
                value = torch.cat([part[name] for part in parts])
                values[f"drift {name}"] = invariant_drift(value.unsqueeze(1), first, size)[:, 0]
        if step in ruler.plan.spectra and spectrum is not None:
            self.kept[f"spectrum at {step}"] = torch.where(
                self.kept["alive"].unsqueeze(1), spectrum.sum(dim=1), torch.nan
            )
        if truth is not None:
            true = torch.cat([truth.frame] * many)
            values["nrmse"] = nrmse(frame, true, w, mode="joint")[:, 0, 0]
            error = rmse(frame, true, w)[:, 0]
            values["scaled_error"] = (error / ruler.scale).square().mean(1).sqrt()
            if ruler.spatial:
                values["vrmse"] = vrmse(frame, true, w)[:, 0].mean(1)
                values["correlation"] = correlation(frame, true, w)[:, 0]
            if spectrum is not None and ruler.grid is not None:
                inner = slice(1, resolved_shells(ruler.grid) + 1)
                pair = (spectrum[..., inner], truth.spectrum[..., inner].repeat(many, 1, 1))
                values["spectral_distance"] = log_spectral_distance(*pair).mean(1)
                values["high_band_gain"] = band_gain(*pair).mean(1)
            for name, metric in ruler.metrics.items():
                values |= self._own(name, metric, frame, true)
        if values:
            self._put(lead, values)

    def _own(self, name: str, metric: UserMetric, frame: Tensor, true: Tensor) -> dict[str, Tensor]:
        """A metric of the user's, and where it has several channels each of them."""
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
            return {name: values}
        out = {name: values.mean(1)}
        if channels > 1:
            for channel, column in zip(self.ruler.channels, values.unbind(1), strict=True):
                out[f"{name}_{channel}"] = column
        return out

    def _gather(self, block: int, frame: Tensor, spectrum: Tensor | None) -> None:
        ruler, kept = self.ruler, self.kept
        alive = kept["alive"]
        state = frame[:, 0]
        if not bool(alive.all()):
            state = torch.where(alive.reshape(-1, *[1] * (state.ndim - 1)), state, 0.0)
        kept["count"][block] += alive
        z = (state.flatten(2) - ruler.shift.unsqueeze(1)) / ruler.scale.unsqueeze(1)
        share = alive.double().reshape(-1, 1, 1)
        share = share / z.shape[2] if ruler.shares is None else share * ruler.shares
        low = ((ruler.low - ruler.shift) / ruler.scale).unsqueeze(1)
        width = ((ruler.high - ruler.low) / ruler.scale / (BINS - 2)).unsqueeze(1)
        bins = ((z - low) / width + 1).clamp_(0, BINS - 1).long()
        kept["histogram"][block].scatter_add_(2, bins, share.expand_as(z))
        kept["moments"][block, :, :, 0] += (z * share).sum(2)
        squares = z.square()
        kept["moments"][block, :, :, 1] += (squares * share).sum(2)
        if spectrum is not None:
            kept["spectrum"][block] += torch.where(alive.reshape(-1, 1, 1), spectrum, 0.0)
        mine = alive.reshape(self.contestants, self.batch).double()
        shape = (self.contestants, self.batch, *kept["fields"].shape[3:])
        for half in (0, 1):
            if self.halves is not None:
                chosen = mine * (self.halves == half)
            elif half == (block >= BLOCKS // 2):
                chosen = mine
            else:
                continue
            kept["weight"][:, half] += chosen.sum(1)
            for moment, values in enumerate((z, squares)):
                kept["fields"][:, half, moment] += torch.einsum(
                    "nb,nb...->n...", chosen, values.reshape(shape)
                )

    def result(self) -> list[dict[str, Tensor]]:
        """What is kept of each contestant, without what only the next step would need."""
        out: list[dict[str, Tensor]] = []
        for number in range(self.contestants):
            mine = slice(number * self.batch, (number + 1) * self.batch)
            found = {}
            for name, value in self.kept.items():
                if name in ("last", "still", "alive"):
                    continue
                if name in ("fields", "weight"):
                    found[name] = value[number]
                else:
                    found[name] = value[mine] if samples_first(name) else value[:, mine]
            out.append({name: value.clone() for name, value in found.items()})
        return out


def samples_first(name: str) -> bool:
    """Whether the samples are the first axis of what is kept under a name, and not the second."""
    return name in ("failed", "frozen") or name.startswith("spectrum at")
