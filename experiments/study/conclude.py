"""From the folders of a study's runs to its tables, comparisons and page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sciml.experiments.report.leaderboard import write_leaderboard
from sciml.experiments.study import tables
from sciml.experiments.study.conduct import Run
from sciml.experiments.study.plan import Plan
from sciml.experiments.study.results import Against, Group, Row, comparisons, groups_of, rows_of


@dataclass(frozen=True, eq=False)
class Conclusion:
    """What a study came to, and the page that tells it."""

    rows: list[Row]
    groups: list[Group]
    found: list[Against]
    page: Path


def conclude(plan: Plan, runs: Sequence[Run], out: Path) -> Conclusion:
    """Write study.csv, summary.csv, comparisons.csv, table.md, figures/ and leaderboard.html.

    Raises:
        UserError: the comparison asks for a metric or a lead time that the evaluations do not have.
    """
    rows = rows_of(plan, runs)
    tables.write_scores(out / "study.csv", plan, rows)
    groups = groups_of(plan, rows)
    found = comparisons(plan, groups)
    tables.write_lines(out / "summary.csv", tables.summary(plan, groups, rows, out))
    tables.write_lines(out / "comparisons.csv", tables.comparison_lines(found))
    tables.write_markdown(out / "table.md", plan, groups, rows, found)
    return Conclusion(rows, groups, found, write_leaderboard(out, plan, groups, rows, found))


def text(plan: Plan, conclusion: Conclusion) -> str:
    """The tables for a terminal."""
    parts = []
    for group in conclusion.groups:
        head, lines = tables.table(plan, group, conclusion.found)
        cells = [head, *[cells for _, cells in lines]]
        widths = [max(len(line[i]) for line in cells) for i in range(len(head))]
        if len(conclusion.groups) > 1:
            parts.append(f"{group.name}:")
        for line in cells:
            parts.append("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip())
        parts.append("")
    return "\n".join(parts)
