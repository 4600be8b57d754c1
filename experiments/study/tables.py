"""The tables of a study: every number once, one line a training, one line a row, one line a comparison."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sciml.experiments.files import write_text
from sciml.experiments.study.plan import Plan
from sciml.experiments.study.results import (
    Against,
    Group,
    Lead,
    Row,
    errors,
    stability,
)
from sciml.experiments.wording import number

MIB = 2**20

LARGEST = "largest "
"""Beginning of the names of what each rollout has one number of, the largest of all its steps."""


def write_scores(path: Path, plan: Plan, rows: Sequence[Row]) -> None:
    """study.csv: every score of every training, tidy, and a line with the metric "failed" for what has none."""
    parts = []
    for row in rows:
        own = row.scores.drop(columns="step").assign(**row.choice)
        failed = [seed for seed in row.seeds if row.failure(seed) is not None]
        if failed:
            lines = pd.DataFrame({"seed": failed, "metric": "failed", "value": 1.0}).assign(**row.choice)
            own = pd.concat([own, lines]) if len(own) else lines
        parts.append(own)
    table = pd.concat(parts, ignore_index=True)
    order = [*plan.axes, "seed", "sample", "lead_step", "lead_time", "split", "metric", "value"]
    columns = [name for name in order if name in table and not table[name].isna().all()]
    for name in ("seed", "sample", "lead_step"):
        if name in columns:
            table[name] = table[name].astype("Int64")
    write_text(path, table[columns].to_csv(index=False, float_format="%.9g", lineterminator="\n"))


def summary(plan: Plan, groups: Sequence[Group], rows: Sequence[Row], out: Path) -> list[dict[str, Any]]:
    """One entry per row and seed: axes, how it ended, medians over initial states, what the training took."""
    of = {id(row): group for group in groups for row in group.rows}
    lines = []
    for row in rows:
        group = of.get(id(row))
        samples = group.samples if group else row.samples()
        scored = _medians(row, samples, plan.comparison.cap) if len(row.scores) else {}
        for place, seed in enumerate(row.seeds):
            failure = row.failure(seed)
            line: dict[str, Any] = {
                **row.choice,
                "seed": seed,
                "status": "failed" if failure else "complete",
            }
            if not failure:
                line |= {name: values[place] for name, values in scored.items()}
            line |= spent(row, seed)
            line["run"] = os.path.relpath(row.run.folder.path, out)
            line["failure"] = " ".join((failure or "").split())
            lines.append(line)
    return lines


def _medians(row: Row, samples: Sequence[int], cap: float) -> dict[str, np.ndarray[Any, Any]]:
    """Medians over the initial states (seeds,) of every metric at its main lead times."""
    out: dict[str, np.ndarray[Any, Any]] = {}
    moments = ("blow_up_step", "freeze_step", "correlation_step")

    def median(values: np.ndarray[Any, Any], bad: float = np.inf) -> np.ndarray[Any, Any]:
        # What is not finite has blown up: as bad as can be, and not left out.
        return np.asarray(np.median(np.where(np.isfinite(values), values, bad), axis=1))

    for metric in row.scores["metric"].unique():
        if metric in moments:
            continue
        if metric.startswith(LARGEST):  # each rollout has its own, none where it blew up at once
            out[metric] = _largest(row, metric, samples)
            continue
        if "lead_step" not in row.scores:
            for split in row.scores["split"].unique():
                out[f"{metric} {split}"] = median(row.values(metric, split, samples, cap))
            continue
        bad = -1.0 if metric == "correlation" else np.inf
        for lead in ("trained", "last"):
            out[f"{metric} {lead}"] = median(row.values(metric, lead, samples, cap), bad)
    dt = float(row.numbers.get("dt", 1.0))
    known = set(row.scores["metric"])
    if "correlation_step" in known:
        out["correlation_time"] = median(row.moments("correlation_step", samples)) * dt
    if "blow_up_step" in known:
        out["stable"] = row.stable(samples).mean(axis=1)
    return out


def _largest(row: Row, metric: str, samples: Sequence[int]) -> np.ndarray[Any, Any]:
    """The largest over steps and rollouts of each training (seeds,), NaN where there is none."""
    values = row.moments(metric, samples)
    worst = np.where(np.isfinite(values), values, -np.inf).max(axis=1, initial=-np.inf)
    return np.where(worst > -np.inf, worst, np.nan)


def spent(row: Row, seed: int) -> dict[str, Any]:
    """What a training took, in the units of the tables."""
    found = row.spent.get(seed, {})
    out: dict[str, Any] = {name: found.get(name) for name in ("updates", "seconds", "cpu_seconds")}
    for name in ("peak_memory", "own_memory", "device_memory"):
        if name in found:
            out[f"{name}_mib"] = found[name] / MIB
    return out


def write_lines(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """A table of entries with the same or fewer columns as CSV."""
    names = list(dict.fromkeys(name for line in lines for name in line))
    last: list[str] = [name for name in ("run", "failure") if name in names]
    names = [name for name in names if name not in last] + last
    stream = io.StringIO()
    writer = csv.DictWriter(stream, names, restval="", lineterminator="\n")
    writer.writeheader()
    for line in lines:
        writer.writerow({k: f"{v:.9g}" if isinstance(v, float) else v for k, v in line.items()})
    write_text(path, stream.getvalue())


def comparison_lines(found: Sequence[Against]) -> list[dict[str, Any]]:
    """One entry per comparison, for a table."""
    lines = []
    for a in found:
        ratio, medians = a.found.ratio, a.found.medians
        lines.append(
            {
                "data": a.group,
                "row": a.row.name,
                "other": a.other.name,
                "baseline": int(a.baseline),
                "metric": a.metric,
                "lead": a.lead,
                "ratio": ratio.value,
                "low": ratio.low,
                "high": ratio.high,
                "ratio_of_medians": medians.value,
                "medians_low": medians.low,
                "medians_high": medians.high,
                "better_share": a.found.better,
                "seeds": a.found.seeds,
                "samples": a.found.samples,
                "capped": a.found.capped[0],
                "capped_other": a.found.capped[1],
            }
        )
    return lines


def lead_text(lead: Lead) -> str:
    """A lead time for people."""
    return {
        "trained": "training horizon",
        "last": "last step",
        "mean": "mean over lead times",
    }.get(str(lead), f"step {lead}" if isinstance(lead, int) else str(lead))


def table(
    plan: Plan, group: Group, found: Sequence[Against]
) -> tuple[list[str], list[tuple[Row, list[str]]]]:
    """Head and lines of the table of a group, one line a row, best first by the last lead time."""
    how = plan.comparison
    axes = [axis for axis in plan.axes if axis != "dataset"] or ["variant"]
    head = [*axes, *[f"{group.metric}, {lead_text(lead)}" for lead in group.leads]]
    against = {(id(a.row), a.lead): a.found for a in found if a.baseline and a.group == group.name}
    if against:
        head.append(f"ratio to baseline, {lead_text(group.leads[-1])}")
    rollouts = any(row.steps for row in group.rows)
    if rollouts:
        head.append("stable")
    laws = _laws(group)
    head += [f"worst {law.removeprefix(LARGEST)}" for law in laws]
    head += ["failed", "updates", "wall s", "CPU s", "peak MiB", "own MiB"]
    lines = []
    for row in group.rows:
        cells = [row.choice.get(axis, row.variant) for axis in axes]
        scores = [errors(group, row, lead, how.cap) for lead in group.leads]
        cells += [_error(values) for values in scores]
        if against:
            pair = against.get((id(row), group.leads[-1]))
            text = "baseline" if _is_baseline(plan, group, row) else "—"
            if pair is not None:
                r = pair.ratio
                text = f"{number(r.value)} [{number(r.low)}, {number(r.high)}]"
            cells.append(text)
        if rollouts:
            share = stability(row, group.samples, how.level)
            cells.append("—" if share is None else f"{share.value:.0%} [{share.low:.0%}, {share.high:.0%}]")
        for law in laws:
            worst = _largest(row, law, group.samples)
            known = worst[np.isfinite(worst)]
            cells.append(f"{known.max():.1e}" if len(known) else "—")
        failed = sum(row.failure(seed) is not None for seed in row.seeds)
        cells.append(f"{failed}/{len(row.seeds)}")
        cells += _budget(row)
        middle = np.median(np.where(np.isfinite(scores[-1]), scores[-1], np.inf))
        lines.append((float(middle), (row, cells)))
    lines.sort(key=lambda line: line[0])  # equal ones stay in the order of the study
    return head, [line for _, line in lines]


def _laws(group: Group) -> list[str]:
    """Metrics of the constraints that the rows of a group are measured by."""
    found = [m for row in group.rows for m in row.scores["metric"].unique()]
    return list(dict.fromkeys(m for m in found if m.startswith(f"{LARGEST}violation ") and " on " not in m))


def _is_baseline(plan: Plan, group: Group, row: Row) -> bool:
    return all(row.choice.get(axis) == name for axis, name in plan.baseline.items())


def _error(values: np.ndarray[Any, Any]) -> str:
    """Median over initial states and seeds, and with several seeds the range of the seeds' medians."""
    filled = np.where(np.isfinite(values), values, np.inf)
    per_seed = np.median(filled, axis=1)
    text = number(float(np.median(filled)))
    if len(per_seed) > 1:
        text += f" ({number(float(per_seed.min()))}–{number(float(per_seed.max()))})"
    return text


def _budget(row: Row) -> list[str]:
    """Medians over the seeds of what the trainings took."""
    out = []
    for name in ("updates", "seconds", "cpu_seconds", "peak_memory_mib", "own_memory_mib"):
        values = [v for v in (spent(row, seed).get(name) for seed in row.seeds) if v is not None]
        if not values:
            out.append("—")
        elif name in ("seconds", "cpu_seconds"):
            out.append(number(float(np.median(values))))
        else:
            out.append(f"{np.median(values):,.0f}")
    return out


EXPLANATION = (
    "Errors are medians over initial states and seeds, in brackets the range of the seeds' medians. The ratio to the "
    "baseline is the geometric mean of error over error for the same seed and initial state, with a {level:.0%} interval "
    "from {draws:,} bootstrap draws of seeds and initial states; below one is better. What blew up, failed, or is worse "
    "than {cap:g} counts as {cap:g}. Stable is the share of rollouts that reach the end, with Wilson's {level:.0%} "
    "interval, those of failed trainings counting as not stable; a worst violation is the largest over steps, rollouts and "
    "seeds, until a rollout blows up. Wall time, CPU time and memory are medians over the "
    "trainings; peak memory is that of the training's own process, own memory what it took beyond program, data and "
    "weights."
)


def explanation(plan: Plan) -> str:
    """What the columns mean."""
    how = plan.comparison
    return EXPLANATION.format(level=how.level, draws=how.draws, cap=how.cap)


def budget_text(plan: Plan) -> str:
    """What every training was given."""
    return (
        plan.budget.text() if plan.budget else "as the settings of each run say; see updates and wall time"
    )


def write_markdown(
    path: Path, plan: Plan, groups: Sequence[Group], rows: Sequence[Row], found: Sequence[Against]
) -> None:
    """table.md: the tables of all groups, and what failed."""
    out = [f"# {plan.title}", "", f"Budget: {budget_text(plan)}.", ""]
    for group in groups:
        head, lines = table(plan, group, found)
        seeds = max(len(row.seeds) for row in group.rows)
        many = "seed" if seeds == 1 else "seeds"
        out += [f"## {group.name}", "", f"{len(group.samples)} initial states, {seeds} {many}.", ""]
        out += [_line(head), _line(["---"] * len(head)), *[_line(cells) for _, cells in lines], ""]
    failures = [f for run in {id(row.run): row.run for row in rows}.values() for f in run.failures]
    if failures:
        out += ["## Failed", "", *[f"- {failure.text()}" for failure in failures], ""]
    out += [explanation(plan), ""]
    write_text(path, "\n".join(out))


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
