"""Long rollouts of every contestant beside the same truth, scored in one pass and in constant memory.

All contestants take their steps in turn, so that the truth is computed once. Samples go in parts of a given size,
and where everything stands is written down now and then: a run that was killed goes on from there and ends with the
same numbers.
"""

from __future__ import annotations

import math
import os
import resource
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sciml.constraints.base import Constraint
from sciml.domains import Domain
from sciml.errors import UserError
from sciml.experiments.contestants import Contestant, Course, cpu_seconds_per_step
from sciml.experiments.files import load_tensors, save_tensors
from sciml.experiments.plan import Plan
from sciml.experiments.reference import Reference, Stream
from sciml.experiments.scores import Evaluation, Expense, Rival, Scores
from sciml.experiments.tally import (
    BINS,
    WITHOUT_TRUTH,
    Invariants,
    Ruler,
    Tally,
    Truth,
    UserMetric,
    samples_first,
)
from sciml.odes.base import ODE
from sciml.pdes.base import PDE
from sciml.trajectory import channel_names

# Contestants are measured together up to so many numbers in all their states.
TOGETHER = 1 << 19
# With fewer samples the two halves that mean fields are compared by are those of the time.
FEWEST_SAMPLES = 4


def invariants_of(equation: PDE | ODE | None, domain: Domain) -> Invariants | None:
    """The equation's invariants as a function of the state, or None where it has none."""
    if equation is None:
        return None
    if isinstance(equation, ODE):
        return equation.invariants
    found = equation

    def values(u: Tensor) -> Mapping[str, Tensor]:
        return found.invariants(u, domain)

    return values


def survey(
    reference: Reference,
    plan: Plan,
    metrics: Mapping[str, UserMetric],
    violations: Mapping[str, Constraint] | None = None,
    most: int = 64,
) -> Ruler:
    """The ruler for a truth, from at most `most` of its stored frames: range, mean, spread, and change per step."""
    chosen = sorted(set(np.linspace(0, reference.reach - 1, most).round().astype(int).tolist()))
    low: Tensor | None = None
    high: Tensor | None = None
    total = square = change = 0.0  # type: Any
    count = 0
    for frame in chosen:
        pair = reference.frames(slice(None), frame, frame + 2).double()
        if not bool(torch.isfinite(pair).all()):
            raise UserError(
                "evaluate got reference data with NaN or Inf; run `sciml check` on the dataset."
            )
        flat = pair.flatten(0, 1).flatten(2) if pair.ndim > 3 else pair.flatten(0, 1).unsqueeze(-1)
        low = flat.amin((0, 2)) if low is None else torch.minimum(low, flat.amin((0, 2)))
        high = flat.amax((0, 2)) if high is None else torch.maximum(high, flat.amax((0, 2)))
        total = total + flat.mean((0, 2))
        square = square + flat.square().mean((0, 2))
        change += float((pair[:, 1] - pair[:, 0]).square().mean())
        count += 1
    assert low is not None and high is not None  # there is always a first frame
    mean = total / count
    scale = (square / count - mean.square()).clamp_min(0).sqrt()
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    return Ruler(
        plan,
        reference.domain,
        channel_names(reference.fields, reference.domain.dimension),
        low - 0.1 * scale,
        high + 0.1 * scale,
        mean,
        scale,
        math.sqrt(change / count),
        metrics,
        violations or {},
    )


class Diary:
    """Where an evaluation stands, in one file that is written whole or not at all.

    Args:
        path: the file; None keeps none.
        fingerprint: of everything that the numbers depend on; a file of another one is not used.
        every: seconds between two entries.
    """

    def __init__(self, path: Path | None, fingerprint: str, every: float = 30.0) -> None:
        self.path, self.fingerprint, self.every = path, fingerprint, every
        self._last = time.monotonic()

    def read(self) -> dict[str, Any]:
        """The last entry; empty where there is none that fits."""
        if self.path is None or not self.path.is_file():
            return {}
        try:
            found = load_tensors(self.path)
        except UserError:  # of another version, or damaged: nothing is lost but time
            return {}
        return found if found.get("fingerprint") == self.fingerprint else {}

    @property
    def due(self) -> bool:
        """Whether it is time for an entry."""
        return self.path is not None and time.monotonic() - self._last >= self.every

    def write(self, content: dict[str, Any]) -> None:
        """Make an entry in the place of the last."""
        if self.path is not None:
            save_tensors(self.path, {"fingerprint": self.fingerprint, **content})
            self._last = time.monotonic()

    def close(self) -> None:
        """The evaluation is done; take the file away."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def resident_bytes() -> int:
    """Memory of this process that is resident now; its peak where the system does not say."""
    try:
        with open("/proc/self/statm") as stream:
            return int(stream.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def evaluate(
    contestants: Sequence[Contestant],
    reference: Reference,
    *,
    trained_steps: int,
    steps: int | None = None,
    invariants: Callable[[slice], Invariants | None] | None = None,
    floor: np.ndarray | None = None,
    metrics: Mapping[str, UserMetric] | None = None,
    violations: Mapping[str, Constraint] | None = None,
    chunk: int = 64,
    diary: Diary | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> Evaluation:
    """Score all contestants against one set of true trajectories.

    Args:
        contestants: surrogates (one per variant and seed), classical solvers, baselines.
        reference: the truth, as far as it is known.
        trained_steps: length of the training trajectories in steps, the horizon that errors are told at.
        steps: length of the rollouts; as far as the truth is stored if left out.
        invariants: samples -> (state -> name -> (b,)), to measure their drift.
        floor: (F,) relative discretisation error of the stored data at each step from 0, if measured.
        metrics: the user's own, name -> f(pred, ref) (B, T, C, *points) twice -> (B, T, C) or (B, T).
        violations: constraints that states are measured by, by name; the initial state is the one before.
        chunk: samples rolled out at the same time.
        diary: where the state of the evaluation is written down.
        progress: called with the steps done, those in all, and a remark.

    Raises:
        UserError: the truth is not finite where it is stored, or a metric of the user gives something else.
    """
    steps = reference.reach if steps is None else steps
    known = reference.known(steps)
    plan = Plan(steps, trained_steps, known)
    ruler = survey(reference, plan, metrics or {}, violations)
    diary = diary or Diary(None, "")
    entry = diary.read()
    done: list[list[dict[str, Tensor]]] = entry.get("done", [])
    seconds: dict[str, float] = defaultdict(float, entry.get("seconds", {}))
    memory: dict[int, int] = dict(entry.get("memory", {}))
    parts = [slice(a, min(a + chunk, reference.samples)) for a in range(0, reference.samples, chunk)]
    for number, part in enumerate(parts):
        if number < len(done):
            continue
        now = entry.pop("now", None)  # of the part that was under way
        race = _Race(contestants, reference, ruler, part, None if invariants is None else invariants(part))
        if now:
            race.restore(now)
        for step in range(race.step + 1, steps + 1):
            race.go(step, seconds)
            if number == 0 and step in (100, steps):
                memory[step] = resident_bytes()
            if progress is not None:
                progress(number * steps + step, len(parts) * steps, race.note(step))
            if diary.due and step < steps:
                diary.write(
                    {"done": done, "now": race.state(), "seconds": dict(seconds), "memory": dict(memory)}
                )
        done.append(race.result())
        diary.write({"done": done, "seconds": dict(seconds), "memory": dict(memory)})
    everyone = [*contestants, _TRUTH]
    joined = [_joined([tallies[i] for tallies in done]) for i in range(len(everyone))]
    costs = [_cost(c, reference, parts[0]) for c in contestants]
    scores = [
        _scores(c, kept, plan, cost) for c, kept, cost in zip(everyone, joined, [*costs, 0.0], strict=True)
    ]
    # Bins of the distribution of point values, in standard deviations of the data.
    scores[-1].statistics["width"] = ((ruler.high - ruler.low) / (BINS - 2) / ruler.scale).numpy()
    scores[-1].statistics["scale"] = ruler.scale.numpy()
    scores[-1].statistics["low"] = ((ruler.low - ruler.shift) / ruler.scale).numpy()
    out = Evaluation(
        reference.dt,
        steps,
        trained_steps,
        reference.fields,
        scores[:-1],
        plan.leads,
        known,
        min(steps, reference.reach),
        plan.describe(),
        scores[-1],
        tuple(metrics or ()),
        floor,
        Expense(dict(seconds), memory),
    )
    out.rivals = rivals(out)
    return out


_TRUTH = Contestant("truth", "solver", lambda samples: Course(lambda u: u), timed=False)


class _Race:
    """All contestants and the truth on one part of the samples, side by side."""

    def __init__(
        self,
        contestants: Sequence[Contestant],
        reference: Reference,
        ruler: Ruler,
        part: slice,
        invariants: Invariants | None,
    ) -> None:
        self.contestants, self.reference, self.ruler, self.part = contestants, reference, ruler, part
        u0 = reference.initial(part)
        enough = reference.samples >= FEWEST_SAMPLES
        halves = torch.arange(part.start, part.stop) % 2 if enough else None
        self.courses = [c.course(part) for c in contestants]
        with torch.no_grad():
            self.own = [course.begin(u0) for course in self.courses]
            together = max(1, TOGETHER // max(1, u0.numel()))
            self.teams = [
                range(a, min(a + together, len(contestants))) for a in range(0, len(contestants), together)
            ]
            self.tallies = [Tally(ruler, u0, len(team), halves, invariants) for team in self.teams]
            # What is known of the truth may end before the rollouts: its statistics are those of what is known.
            truth = replace(ruler, plan=replace(ruler.plan, steps=reference.known(ruler.plan.steps)))
            self.tallies.append(Tally(truth, u0, 1, halves, invariants))
        self.stream = Stream(reference, part)
        self.step = 0
        self.largest = u0.flatten(1).norm(dim=1).double()
        self.previous = u0
        self.shown = [u0 for _ in contestants]

    def state(self) -> dict[str, Any]:
        """Everything that changes from step to step."""
        return {
            "step": self.step,
            "own": self.own,
            "shown": self.shown,
            "tallies": [tally.kept for tally in self.tallies],
            "carried": self.stream.carried,
            "largest": self.largest,
            "previous": self.previous,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self.step, self.own, self.shown = state["step"], state["own"], state["shown"]
        self.largest, self.previous = state["largest"], state["previous"]
        self.stream.carried = state["carried"]
        for tally, kept in zip(self.tallies, state["tallies"], strict=True):
            tally.restore(kept)

    def go(self, step: int, seconds: dict[str, float]) -> None:
        """One step of everyone."""
        clock = time.process_time
        with torch.no_grad():
            began = clock()
            state = self.stream.at(step)
            seconds["truth"] += clock() - began
            began = clock()
            truth = None
            if state is not None:
                truth = Truth(self.ruler, state, self.previous, self.largest)
                self.largest, self.previous = truth.largest, state
                self.tallies[-1].see(step, [state], None, self.largest)
            seconds["scoring"] += clock() - began
            for team, tally in zip(self.teams, self.tallies, strict=False):
                for place, index in enumerate(team):
                    if not tally.left(place):
                        continue
                    course, surrogate = self.courses[index], self.contestants[index].kind == "surrogate"
                    began = clock()
                    self.own[index] = course.advance(self.own[index])
                    stepped = clock()
                    self.shown[index] = course.show(self.own[index])
                    seconds["surrogates" if surrogate else "others"] += stepped - began
                    seconds["others"] += clock() - stepped
                began = clock()
                if any(tally.left(place) for place in range(len(team))):
                    tally.see(step, [self.shown[index] for index in team], truth, self.largest)
                seconds["scoring"] += clock() - began
        self.step = step

    def note(self, step: int) -> str:
        """A remark for the progress."""
        pairs = zip(self.teams, self.tallies, strict=False)
        gone = sum(not tally.left(place) for team, tally in pairs for place in range(len(team)))
        return f"step {step:,}" + (f", {gone} of {len(self.contestants)} blown up" if gone else "")

    def result(self) -> list[dict[str, Tensor]]:
        """What is kept of everyone, the truth last."""
        return [kept for tally in self.tallies for kept in tally.result()]


def _joined(parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The samples of all parts together."""
    out = {}
    for name in parts[0]:
        pieces = [part[name] for part in parts]
        if name in ("fields", "weight"):
            out[name] = torch.stack(pieces).sum(0)
        else:
            out[name] = torch.cat(pieces, dim=0 if samples_first(name) else 1)
    return out


def _scores(contestant: Contestant, kept: Mapping[str, Tensor], plan: Plan, cost: float) -> Scores:
    compared = int((plan.leads <= plan.known).sum())
    values, spectra = {}, {}
    for name, value in kept.items():
        if name.startswith("value "):
            metric = name.removeprefix("value ")
            rows = value if metric.startswith(WITHOUT_TRUTH) else value[:compared]
            values[metric] = rows.numpy()
        elif name.startswith("spectrum at "):
            whole = value[torch.isfinite(value).all(dim=1)]
            spectra[int(name.removeprefix("spectrum at "))] = (
                whole.mean(0).numpy() if len(whole) else np.array([])
            )
    statistics = {
        name: kept[name].numpy()
        for name in ("count", "histogram", "moments", "fields", "weight", "spectrum", "series")
        if name in kept
    }
    return Scores(
        contestant.name,
        contestant.kind,
        contestant.seed,
        contestant.parameters,
        values,
        kept["failed"].numpy(),
        spectra,
        cost,
        kept["frozen"].numpy(),
        statistics,
    )


def _cost(contestant: Contestant, reference: Reference, part: slice) -> float:
    if not contestant.timed:
        return 0.0
    course = contestant.course(part)
    with torch.no_grad():
        start = course.begin(reference.initial(part))
        if contestant.cost_of is not None:
            found = contestant.cost_of
            return cpu_seconds_per_step(lambda own: found(start), start)
        return cpu_seconds_per_step(course.advance, start)


def rivals(evaluation: Evaluation) -> list[Rival]:
    """For each surrogate, the cheapest classical solver that is at least as exact, at two lead times.

    The lead times are the training horizon and the end of what is known; errors are medians over samples (and over
    seeds for the surrogate), costs are those measured in this process. Without a classical contestant, nothing.
    """
    found = []
    solvers = [s for s in evaluation.scores if s.kind == "solver"]
    for name, group in evaluation.groups().items():
        if group[0].kind != "surrogate" or not solvers:
            continue
        cost = float(np.median([s.cost for s in group]))
        for lead in evaluation.horizons:
            row = evaluation.place(lead)
            error = float(np.median([s.median("nrmse")[row] for s in group]))
            good = (
                [s for s in solvers if s.median("nrmse")[row] <= error] if math.isfinite(error) else solvers
            )
            best = min(good, key=lambda s: s.cost, default=None)
            found.append(
                Rival(
                    name,
                    lead,
                    error,
                    cost,
                    best.name if best else None,
                    float(best.median("nrmse")[row]) if best else None,
                    best.cost if best else None,
                    cost / best.cost if best and best.cost > 0 else None,
                )
            )
    return found


def correlation_steps(evaluation: Evaluation, scores: Scores, threshold: float = 0.8) -> np.ndarray:
    """Lead step (B,) at which the correlation falls below the threshold, inf where it never does.

    Linear in between two steps that were looked at; it is one at step 0.
    """
    return first_crossing(
        1 - np.nan_to_num(scores.values["correlation"], nan=-1.0),
        evaluation.steps_of(scores, "correlation"),
        1 - threshold,
    )


def first_crossing(values: np.ndarray, leads: np.ndarray, threshold: float) -> np.ndarray:
    """Step (B,) at which what starts from 0 first exceeds the threshold, inf where it never does.

    Args:
        values: (L, B); what is not finite has exceeded everything.
        leads: (L,), the steps.
        threshold: above zero.
    """
    rows = np.concatenate([np.zeros((1, values.shape[1])), np.where(np.isfinite(values), values, np.inf)])
    steps = np.concatenate([[0], leads]).astype(float)
    above = rows > threshold
    first = np.maximum(above.argmax(axis=0), 1)
    column = np.arange(rows.shape[1])
    before, after = rows[first - 1, column], rows[first, column]
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.nan_to_num((threshold - before) / (after - before), nan=1.0)
    share = np.where(
        np.isinf(after), 0.0, np.clip(share, 0.0, 1.0)
    )  # gone: it was right until the step before
    when = steps[first - 1] + share * (steps[first] - steps[first - 1])
    return np.where(above.any(axis=0), when, np.inf)
