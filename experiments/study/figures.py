"""The pictures of a study, each a matplotlib figure made from a group of rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402  the backend is chosen first
import numpy as np  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.ticker import LogFormatter  # noqa: E402

from sciml.experiments.report.figures import COLOURS  # noqa: E402
from sciml.experiments.study.plan import Plan  # noqa: E402
from sciml.experiments.study.results import Against, Group, Row, errors, stability  # noqa: E402
from sciml.experiments.study.tables import lead_text, spent  # noqa: E402

DASHES = ("-", "--", "-.", ":")


def styles(group: Group) -> dict[int, dict[str, Any]]:
    """A colour and, once these are used up, a dash for each row."""
    return {
        id(row): {"color": COLOURS[k % len(COLOURS)], "ls": DASHES[k // len(COLOURS) % len(DASHES)]}
        for k, row in enumerate(group.rows)
    }


def label(group: Group, row: Row) -> str:
    """A row's entries on the axes that differ within its group."""
    differ = [a for a in row.choice if len({r.choice.get(a) for r in group.rows}) > 1]
    return ", ".join(row.choice[a] for a in differ) or row.name


class _Plain(LogFormatter):
    """0.05, 0.5, 2 instead of powers of ten, on the ticks that matplotlib would label."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return f"{x:g}" if super().__call__(x, pos) else ""


def plain_numbers(axes: Axes, *which: str) -> None:
    """Write the ticks of logarithmic axes ("x", "y"), which span a decade or two here, as plain numbers."""
    for name in which:
        scale = axes.xaxis if name == "x" else axes.yaxis
        scale.set_major_formatter(_Plain())
        scale.set_minor_formatter(_Plain(labelOnlyBase=False, minor_thresholds=(1.0, 0.4)))


def error_against_lead_time(plan: Plan, group: Group) -> Figure | None:
    """Error over lead time: the median over all rollouts of a row, and a band from the best seed to the worst."""
    scored = [row for row in group.rows if row.steps and row.leads(group.metric)]
    if not scored:
        return None
    figure, axis = plt.subplots(figsize=(9.8, 4.8), layout="constrained")
    style = styles(group)
    cap = plan.comparison.cap
    for row in scored:
        leads = row.leads(group.metric)
        dt = float(row.numbers["dt"])
        values = np.stack([errors(group, row, lead, cap) for lead in leads])
        values = np.where(np.isfinite(values), np.minimum(values, cap), cap)
        per_seed = np.median(values, axis=2)
        when = dt * np.array(leads)
        axis.plot(when, np.median(values, axis=(1, 2)), lw=1.8, label=label(group, row), **style[id(row)])
        if per_seed.shape[1] > 1:
            low, high = per_seed.min(axis=1), per_seed.max(axis=1)
            axis.fill_between(when, low, high, color=style[id(row)]["color"], alpha=0.15, lw=0)
    trained = float(scored[0].numbers["dt"]) * scored[0].step_of("trained", group.metric)
    axis.axvline(trained, color="#aaaaaa", lw=0.8)
    axis.set(xscale="log", yscale="log", xlabel="lead time", ylabel=f"{group.metric} (at most {cap:g})")
    axis.grid(alpha=0.25, which="both", lw=0.4)
    figure.legend(loc="outside right upper", fontsize=8)
    return figure


def ratios(plan: Plan, group: Group, found: Sequence[Against]) -> Figure | None:
    """The paired ratio of each row to its baseline with its interval, a panel a lead time."""
    own = [a for a in found if a.baseline and a.group == group.name]
    rows = [row for row in group.rows if any(a.row is row for a in own)]
    if not rows:
        return None
    leads = list(dict.fromkeys(a.lead for a in own))
    figure, axes = plt.subplots(
        1,
        len(leads),
        figsize=(3.2 + 2.6 * len(leads), 1.3 + 0.32 * len(rows)),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    places = {id(row): len(rows) - 1 - k for k, row in enumerate(rows)}
    colours = {-1: COLOURS[2], 0: "#777777", 1: COLOURS[1]}
    for axis, lead in zip(axes[0], leads, strict=True):
        for a in own:
            if a.lead != lead:
                continue
            r, place = a.found.ratio, places[id(a.row)]
            axis.plot([r.low, r.high], [place, place], color=colours[r.decided], lw=2.2)
            axis.plot(r.value, place, "o", color=colours[r.decided], ms=5)
        axis.axvline(1.0, color="black", lw=0.8)
        axis.set(xscale="log", title=lead_text(lead), ylim=(-0.7, len(rows) - 0.3))
        plain_numbers(axis, "x")
        axis.grid(alpha=0.25, axis="x", which="both", lw=0.4)
    axes[0][0].set_yticks(list(places.values()), [label(group, row) for row in rows], fontsize=8)
    figure.supxlabel(f"{group.metric} over that of the baseline", fontsize=9)
    return figure


def stable_shares(plan: Plan, group: Group) -> Figure | None:
    """Share of rollouts that reach the end, with Wilson's interval."""
    shares = [(row, stability(row, group.samples, plan.comparison.level)) for row in group.rows]
    known = [(row, share) for row, share in shares if share is not None]
    if not any(row.steps for row, _ in known):
        return None
    figure, axis = plt.subplots(figsize=(7.6, 1.2 + 0.3 * len(known)), layout="constrained")
    for place, (row, share) in enumerate(reversed(known)):
        colour = styles(group)[id(row)]["color"]
        axis.barh(place, share.value, color=colour, alpha=0.55, height=0.6)
        axis.plot([share.low, share.high], [place, place], color="black", lw=1.4)
    axis.set_yticks(range(len(known)), [label(group, row) for row, _ in reversed(known)], fontsize=8)
    axis.set(xlim=(0, 1.02), xlabel="share of rollouts that reach the end")
    axis.grid(alpha=0.25, axis="x", lw=0.4)
    return figure


def error_against_budget(plan: Plan, group: Group) -> Figure | None:
    """Error at the last lead time against the time of the training: one dot a seed, one cross a row."""
    figure, axis = plt.subplots(figsize=(8.6, 4.4), layout="constrained")
    style, drawn = styles(group), False
    lead, cap = group.leads[-1], plan.comparison.cap
    for row in group.rows:
        took = np.array([spent(row, seed).get("seconds") or np.nan for seed in row.seeds])
        values = errors(group, row, lead, cap)
        per_seed = np.median(np.where(np.isfinite(values), np.minimum(values, cap), cap), axis=1)
        if not np.isfinite(took).any():
            continue
        drawn = True
        colour = style[id(row)]["color"]
        axis.plot(took, per_seed, "o", ms=4, alpha=0.5, color=colour)
        axis.plot(np.nanmedian(took), np.median(per_seed), "X", ms=9, color=colour, label=label(group, row))
    if not drawn:
        plt.close(figure)
        return None
    axis.set(
        xscale="log",
        yscale="log",
        xlabel="wall time of the training [s]",
        ylabel=f"{group.metric}, {lead_text(lead)}",
    )
    plain_numbers(axis, "x", "y")
    axis.grid(alpha=0.25, which="both", lw=0.4)
    figure.legend(loc="outside right upper", fontsize=8)
    return figure


def pictures(plan: Plan, group: Group, found: Sequence[Against]) -> list[tuple[str, Figure, str]]:
    """(file name, figure, caption) of every picture that a group allows, in reading order."""
    level = f"{plan.comparison.level:.0%}"
    drawn: list[tuple[str, Figure | None, str]] = [
        (
            "error",
            error_against_lead_time(plan, group),
            "Error against lead time: median over initial states and seeds, and the range of the seeds' medians. The grey "
            "line is the training horizon.",
        ),
        (
            "ratios",
            ratios(plan, group, found),
            f"Error over that of the baseline, pair by pair: geometric mean and {level} interval over seeds and initial "
            "states. Green is better, red is worse, grey is not decided.",
        ),
        (
            "stable",
            stable_shares(plan, group),
            f"Share of rollouts that reach the end without a blow-up, with Wilson's {level} interval.",
        ),
        (
            "budget",
            error_against_budget(plan, group),
            f"Error ({lead_text(group.leads[-1])}) against the time that the training took: a dot for each seed, a cross "
            "for the median.",
        ),
    ]
    name = "".join(c if c.isalnum() or c in "-_" else "-" for c in group.name)
    return [
        (f"{name}-{kind}.png", figure, caption) for kind, figure, caption in drawn if figure is not None
    ]
