"""What an evaluation found: arrays over lead time and sample, for each contestant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from sciml.experiments.contestants import Kind
from sciml.trajectory import Field


@dataclass
class Scores:
    """What one contestant scored.

    Args:
        name, kind, seed, parameters: of the contestant.
        values: metric -> (L, samples) at the evaluation's lead steps; not finite after a blow-up. What compares with
            the truth has fewer rows where the truth is not known to the end.
        blow_up: (samples,), first step that is not finite or far too large; steps + 1 where there is none.
        spectra: lead step -> mean energy spectrum (K,) of the samples that are left; empty where none is.
        cost: CPU seconds per step and sample; 0 for what is free.
        freeze: (samples,), first step from which the state hardly moves; steps + 1 where it goes on.
        statistics: of the states in pieces of time, by name, see `sciml.experiments.climate`.
    """

    name: str
    kind: Kind
    seed: int
    parameters: int
    values: dict[str, np.ndarray]
    blow_up: np.ndarray
    spectra: dict[int, np.ndarray]
    cost: float
    freeze: np.ndarray
    statistics: dict[str, np.ndarray] = field(default_factory=dict)

    def median(self, metric: str) -> np.ndarray:
        """Median over samples at each lead time (L,), a blown-up sample counting as infinitely bad."""
        return np.median(self.worst_filled(metric), axis=1)

    def worst_filled(self, metric: str) -> np.ndarray:
        """The values (L, samples) with blown-up samples counting as infinitely bad."""
        values = self.values[metric]
        bad = np.inf if metric != "correlation" else -np.inf
        return np.where(np.isfinite(values), values, bad)


@dataclass(frozen=True)
class Rival:
    """Whether a surrogate beats a coarse classical solver.

    `solver` is the cheapest classical contestant whose error at `lead` steps is no larger than the surrogate's,
    or None where no solver tried reaches it. `cost_ratio` is the surrogate's cost over the solver's: below one
    the surrogate is cheaper at equal error.
    """

    surrogate: str
    lead: int
    error: float
    cost: float
    solver: str | None
    solver_error: float | None
    solver_cost: float | None
    cost_ratio: float | None


@dataclass(frozen=True)
class Expense:
    """What the evaluation itself took.

    Args:
        seconds: "surrogates", "others", "truth" and "scoring" -> CPU seconds inside the loop.
        memory: step -> bytes of resident memory after it, of the first part of the samples.
    """

    seconds: Mapping[str, float] = field(default_factory=dict)
    memory: Mapping[int, int] = field(default_factory=dict)

    @property
    def overhead(self) -> float | None:
        """Time of the surrogates with all the measuring over that of the surrogates alone; None where none ran."""
        bare = self.seconds.get("surrogates", 0.0)
        return 1 + self.seconds.get("scoring", 0.0) / bare if bare > 0 else None


@dataclass
class Evaluation:
    """All scores of a run, with what verdict and report need.

    Args:
        dt: time between steps.
        steps: length of the rollouts.
        trained_steps: length of the training trajectories.
        fields: quantities behind the channels.
        scores: one entry per contestant and seed.
        leads: (L,), the lead steps of all curves.
        known: steps that have a truth.
        stored: steps whose truth is stored; what follows is a solver's.
        sampling: which steps were looked at, in words.
        reference: the truth's own scores: drift of its invariants, its statistics.
        own: names of the user's own metrics.
        floor: (F,), relative discretisation error of the stored data at each step from 0, if it was measured.
    """

    dt: float
    steps: int
    trained_steps: int
    fields: tuple[Field, ...]
    scores: list[Scores]
    leads: np.ndarray
    known: int
    stored: int
    sampling: str
    reference: Scores
    own: tuple[str, ...] = ()
    floor: np.ndarray | None = None
    expense: Expense = field(default_factory=Expense)
    rivals: list[Rival] = field(default_factory=list)
    pictures: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    picture_times: np.ndarray | None = None
    picture_labels: dict[str, str] = field(default_factory=dict)
    laboratory: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)

    def groups(self) -> dict[str, list[Scores]]:
        """Scores by name, one entry per seed."""
        out: dict[str, list[Scores]] = {}
        for score in self.scores:
            out.setdefault(score.name, []).append(score)
        return out

    def steps_of(self, scores: Scores, metric: str) -> np.ndarray:
        """Lead steps of the rows of a metric."""
        return self.leads[: len(scores.values[metric])]

    def place(self, lead: int) -> int:
        """Row of a lead step, or of the last one before it."""
        return max(0, int(np.searchsorted(self.leads, lead, side="right")) - 1)

    @property
    def horizons(self) -> tuple[int, ...]:
        """The end of the training horizon and the end of what is known, the lead steps that verdicts speak of."""
        return tuple(sorted({min(self.trained_steps, self.known), self.known}))
