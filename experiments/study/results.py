"""What the runs of a study scored, row by row: one row is one surrogate of one cell, with all its seeds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sciml.errors import UserError
from sciml.experiments import jobs
from sciml.experiments.config import Study
from sciml.experiments.run import is_evaluated
from sciml.experiments.storage import test_folder
from sciml.experiments.study.conduct import Run
from sciml.experiments.study.paired import Array, Interval, Paired, capped, compare, wilson
from sciml.experiments.study.plan import LEADS, Plan

Lead = int | str
"""A lead step, "trained", "last", "mean"; the name of a test set for maps."""

KEYS = ("step", "seed", "sample", "lead_step", "lead_time", "split", "metric", "value")
"""Columns of a run's metrics.csv."""


@dataclass(frozen=True, eq=False)
class Row:
    """One surrogate of one cell.

    Args:
        run: its cell.
        variant: its name there.
        choice: entry by axis, with the variant where the runs hold several.
        scores: (seed, sample, lead_step, lead_time or split, metric, value) of its trainings that were evaluated.
        numbers: the cell's summary.json; empty where nothing was evaluated.
        spent: by seed, what the training took, as far as there is a checkpoint.
    """

    run: Run
    variant: str
    choice: dict[str, str]
    scores: pd.DataFrame
    numbers: Mapping[str, Any]
    spent: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """For people."""
        return ", ".join(self.choice.values()) or self.variant

    @property
    def seeds(self) -> list[int]:
        """Those that it was to be trained with."""
        return self.run.cell.study.seeds

    @property
    def steps(self) -> int:
        """Length of its rollouts; 0 for maps."""
        return int(self.numbers.get("steps", 0))

    @cached_property
    def group(self) -> str:
        """What it was judged on; only rows of the same group can be compared."""
        study = self.run.cell.study
        asked = study.evaluation
        return json.dumps(
            [
                str(self.run.data),
                study.data.test,
                study.data.tests,
                study.data.stride,
                asked.steps,
                asked.samples,
            ]
        )

    @property
    def where(self) -> str:
        """The group in a word: the entry of the axis of datasets, or the dataset's name."""
        data = self.run.cell.study.data
        return self.choice.get("dataset") or Path(data.path or data.recipe or "").stem

    def failure(self, seed: int) -> str | None:
        """Why a seed has no scores; None where it has."""
        if seed in set(self.scores["seed"]):
            return None
        own = [f for f in self.run.failures if f.seed == seed and f.variant == self.variant]
        everybody = [f for f in self.run.failures if f.seed is None]
        return next((f.message for f in (*own, *everybody)), "not evaluated")

    def leads(self, metric: str) -> list[int]:
        """Lead steps at which a metric is known."""
        rows = self.scores[self.scores["metric"] == metric]
        return sorted(int(k) for k in rows["lead_step"].unique()) if "lead_step" in rows else []

    def values(self, metric: str, lead: Lead, samples: Sequence[int], cap: float) -> Array:
        """A metric (seeds, samples) at a lead time, NaN where a training failed or nothing is known.

        Raises:
            UserError: the lead time is none that the metric has.
        """
        rows = self.scores[self.scores["metric"] == metric]
        out = np.full((len(self.seeds), len(samples)), np.nan)
        if rows.empty:
            return out
        if "lead_step" not in rows:
            if lead not in set(rows["split"]):
                known = ", ".join(map(str, rows["split"].unique()))
                raise UserError(f"comparison.leads has {lead!r}; the test sets are {known}.")
            chosen = rows[rows["split"] == lead]
        elif lead == "mean":
            chosen = rows.assign(value=np.log(capped(rows["value"].to_numpy(float), cap)))
            mean = chosen.groupby(["seed", "sample"])["value"].mean()
            chosen = np.exp(mean).reset_index()
        else:
            chosen = rows[rows["lead_step"] == self.step_of(lead, metric)]
        table = chosen.pivot(index="seed", columns="sample", values="value")
        return table.reindex(index=self.seeds, columns=list(samples)).to_numpy(float)

    def step_of(self, lead: Lead, metric: str) -> int:
        """A lead time as one of the lead steps that the metric is known at.

        Raises:
            UserError: it is no lead time, or beyond the last.
        """
        known = self.leads(metric)
        if lead == "last":
            return known[-1]
        wanted = int(self.numbers.get("trained_steps", 1)) if lead == "trained" else lead
        if not isinstance(wanted, int):
            raise UserError(
                f"comparison.leads has {lead!r}; expected lead steps, 'trained', 'last' or 'mean'."
            )
        if lead != "trained" and not known[0] <= wanted <= known[-1]:
            raise UserError(
                f"comparison.leads has step {lead}; {metric} is known from {known[0]} to {known[-1]}."
            )
        return max((k for k in known if k <= wanted), default=known[0])

    def samples(self) -> list[int]:
        """Numbers of the initial states that it met."""
        return sorted(int(s) for s in self.scores["sample"].unique()) if len(self.scores) else []

    def moments(self, metric: str, samples: Sequence[int]) -> Array:
        """A metric that each rollout has one number of (seeds, samples), such as when it blew up; NaN where none."""
        rows = self.scores[self.scores["metric"] == metric]
        table = rows.pivot(index="seed", columns="sample", values="value")
        return table.reindex(index=self.seeds, columns=list(samples)).to_numpy(float)

    def stable(self, samples: Sequence[int]) -> NDArray[np.bool_]:
        """Which rollouts (seeds, samples) reach the end without a blow-up; none of a training that failed does."""
        return np.asarray(self.moments("blow_up_step", samples) > self.steps)  # not so where it is NaN


def rows_of(plan: Plan, runs: Sequence[Run]) -> list[Row]:
    """The rows of a study in the order of its cells, read from the folders of its runs."""
    rows = []
    for run in runs:
        done = run.complete()
        numbers: Mapping[str, Any] = {}
        scores = pd.DataFrame({name: [] for name in KEYS})
        if done and is_evaluated(run.folder, done, run.cell.study):
            numbers = json.loads((run.folder.path / "summary.json").read_text())
            scores = all_scores(run.folder.path, run.cell.study)
        for variant in run.cell.study.variants:
            choice = dict(run.cell.choice)
            if "variant" in plan.axes:
                choice["variant"] = variant
            own = scores[scores["step"] == variant]
            spent = {}
            for seed in run.cell.study.seeds:
                checkpoint = run.folder.checkpoint(variant, seed)
                if checkpoint.is_file():
                    spent[seed] = jobs.spent(checkpoint)
            rows.append(Row(run, variant, choice, own, numbers, spent))
    return rows


def all_scores(folder: Path, study: Study) -> pd.DataFrame:
    """The scores of a run; those of rollouts on a further test set are metrics called "nrmse on <test set>"."""
    found = [read_scores(folder / "metrics.csv")]
    if study.kind == "rollout":
        for label in study.data.tests:
            own = read_scores(test_folder(folder, label) / "metrics.csv")
            found.append(own.assign(metric=own["metric"] + f" on {label}"))
    return pd.concat(found, ignore_index=True)


def read_scores(path: Path) -> pd.DataFrame:
    """A run's metrics.csv."""
    return pd.read_csv(path, dtype={"step": str, "split": str, "metric": str})


@dataclass(frozen=True, eq=False)
class Group:
    """Rows that met the same initial states, and can be compared.

    Args:
        name: of the dataset, for people.
        rows: in the order of the study.
        metric: by which they are compared.
        samples: numbers of the initial states.
        leads: at which they are compared.
    """

    name: str
    rows: list[Row]
    metric: str
    samples: list[int]
    leads: list[Lead]


@dataclass(frozen=True, eq=False)
class Against:
    """A row set against another one at a lead time; `baseline` where that is the one that the study names."""

    group: str
    row: Row
    other: Row
    metric: str
    lead: Lead
    found: Paired
    baseline: bool


def groups_of(plan: Plan, rows: Sequence[Row]) -> list[Group]:
    """The rows by what they were judged on, in the order of the study; without those where nothing was evaluated."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.group, []).append(row)
    out = []
    names = [members[0].where for members in found.values()]
    for number, members in enumerate(found.values()):
        scored = [row for row in members if len(row.scores)]
        if not scored:
            continue
        common = set.intersection(*(set(row.samples()) for row in scored))
        maps = "lead_step" not in scored[0].scores
        metric = plan.comparison.metric or ("relative_l2" if maps else "nrmse")
        known = set.intersection(*(set(row.scores["metric"]) for row in scored))
        if metric not in known:
            raise UserError(
                f"comparison.metric is {metric!r}, which the evaluation does not have; expected one of "
                f"{', '.join(sorted(known))}."
            )
        leads: list[Lead] = list(plan.comparison.leads)
        if maps and tuple(leads) == LEADS:
            leads = list(scored[0].scores["split"].unique())
        same = names.count(names[number]) > 1
        name = f"{names[number]} ({number + 1})" if same else names[number]
        out.append(Group(name, members, metric, sorted(common), leads))
    return out


def errors(group: Group, row: Row, lead: Lead, cap: float) -> Array:
    """Errors (seeds, samples) of a row at a lead time; NaN where it failed."""
    return row.values(group.metric, lead, group.samples, cap)


def comparisons(plan: Plan, groups: Sequence[Group]) -> list[Against]:
    """Every row against its baseline, and every pair of rows of a group, at every lead time."""
    how = plan.comparison
    out = []
    for group in groups:
        for lead in group.leads:
            found = [errors(group, row, lead, how.cap) for row in group.rows]
            for i, row in enumerate(group.rows):
                for j, other in enumerate(group.rows):
                    is_baseline = other is baseline_of(plan, group, row)
                    # A pair is set in order unless one is the other's baseline, which then comes second.
                    if i == j or not (
                        is_baseline or (i < j and row is not baseline_of(plan, group, other))
                    ):
                        continue
                    if row.seeds != other.seeds:
                        continue
                    paired = compare(
                        found[i], found[j], cap=how.cap, draws=how.draws, seed=how.seed, level=how.level
                    )
                    out.append(Against(group.name, row, other, group.metric, lead, paired, is_baseline))
    return out


def baseline_of(plan: Plan, group: Group, row: Row) -> Row | None:
    """The row that differs in taking the baseline's entries; None where it is the row itself, or not there."""
    if not plan.baseline:
        return None
    wanted = {**row.choice, **plan.baseline}
    return next((r for r in group.rows if r.choice == wanted and r is not row), None)


def stability(row: Row, samples: Sequence[int], level: float) -> Interval | None:
    """Share of rollouts that reach the end, with its interval; None where there are no rollouts."""
    if not row.steps and len(row.scores):
        return None
    if not samples:
        return None
    reached = row.stable(samples)
    return wilson(int(reached.sum()), reached.size, level)
