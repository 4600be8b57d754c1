"""The page of a study: what was tried at which budget, who came out ahead of whom, and the way to every report."""

from __future__ import annotations

import html
import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from sciml.experiments.report.html import Page, png, write, yaml_block
from sciml.experiments.study import figures, tables
from sciml.experiments.study.plan import Plan
from sciml.experiments.study.results import Against, Group, Row
from sciml.experiments.wording import number

ALL_PAIRS = 12
"""Up to so many rows a matrix of all pairs can be read."""


def write_leaderboard(
    out: Path, plan: Plan, groups: Sequence[Group], rows: Sequence[Row], found: Sequence[Against]
) -> Path:
    """Write `leaderboard.html` and `figures/*.png` into a study's folder; returns the page's path."""
    path = out / "leaderboard.html"
    runs = list({id(row.run): row.run for row in rows}.values())
    failures = [failure for run in runs for failure in run.failures]
    trainings = sum(len(row.seeds) for row in rows)
    page = Page(
        plan.title,
        f"{len(rows)} surrogates, {trainings} trainings. Budget: {tables.budget_text(plan)}.",
    )
    if failures:
        page.heading("Failed")
        page.text(
            f"{len(failures)} of the study's jobs did not succeed. They are counted in the tables as they are, and the "
            "same command tries them again."
        )
        page.table(
            ["run", "what", "seed", "message"],
            [
                [f.cell, f.stage, "—" if f.seed is None else str(f.seed), " ".join(f.message.split())]
                for f in failures
            ],
        )
    store = out / "figures"
    store.mkdir(parents=True, exist_ok=True)
    for group in groups:
        page.heading(f"Results on {group.name}" if len(groups) > 1 else "Results")
        _ranking(page, plan, group, found, out)
        _baselines(page, plan, group, found)
        for name, figure, caption in figures.pictures(plan, group, found):
            data = png(figure)
            (store / name).write_bytes(data)
            page.picture(data, caption)
        _pairs(page, plan, group, found)
    page.heading("How to read it")
    page.text(tables.explanation(plan))
    files = ("study.csv", "summary.csv", "comparisons.csv", "table.md", "failures.json", "study.yaml")
    page.parts.append(
        "<p>All numbers: " + ", ".join(f'<a href="{name}">{name}</a>' for name in files) + ".</p>"
    )
    page.folded(
        "settings of every run",
        yaml_block({run.cell.label: run.cell.choice for run in runs}),
    )
    return write(page, path)


def _ranking(page: Page, plan: Plan, group: Group, found: Sequence[Against], out: Path) -> None:
    """The table of a group, best first, with a link from every row to its run's report."""
    head, lines = tables.table(plan, group, found)
    parts = ["<table><thead><tr><th>report</th>", *(f"<th>{html.escape(h)}</th>" for h in head)]
    parts.append("</tr></thead><tbody>")
    for place, (row, cells) in enumerate(lines, start=1):
        report = row.run.folder.path / "report.html"
        shown = str(place)
        if report.is_file():
            link = quote(os.path.relpath(report, out).replace(os.sep, "/"))
            shown = f'<a href="{link}">{place}</a>'
        parts += ["<tr><td>", shown, "</td>", *(f"<td>{html.escape(c)}</td>" for c in cells), "</tr>"]
    page.parts.append("".join([*parts, "</tbody></table>"]))


def _baselines(page: Page, plan: Plan, group: Group, found: Sequence[Against]) -> None:
    """What can be said of each row against its baseline, in words."""
    own = [a for a in found if a.baseline and a.group == group.name]
    if not own:
        return
    for lead in dict.fromkeys(a.lead for a in own):
        told = {-1: [], 0: [], 1: []}  # type: dict[int, list[str]]
        for a in own:
            if a.lead == lead:
                r = a.found.ratio
                told[r.decided].append(
                    f"{figures.label(group, a.row)} ({number(r.value)}, {number(r.low)} to {number(r.high)})"
                )
        when = tables.lead_text(lead)
        if told[-1]:
            page.verdict(f"{when}: smaller error than the baseline: {'; '.join(told[-1])}.", True)
        if told[1]:
            page.verdict(f"{when}: larger error than the baseline: {'; '.join(told[1])}.", False)
        if told[0]:
            page.text(f"{when}: not decided: {'; '.join(told[0])}.")


def _pairs(page: Page, plan: Plan, group: Group, found: Sequence[Against]) -> None:
    """All pairs at the last lead time, row over column."""
    lead = group.leads[-1]
    pairs = {
        (id(a.row), id(a.other)): a.found.ratio for a in found if a.lead == lead and a.group == group.name
    }
    if not pairs or len(group.rows) > ALL_PAIRS or len(group.rows) < 3:
        return
    names = [figures.label(group, row) for row in group.rows]
    body = []
    for row, name in zip(group.rows, names, strict=True):
        cells = [name]
        for other in group.rows:
            ratio, back = pairs.get((id(row), id(other))), pairs.get((id(other), id(row)))
            if ratio is None and back is None:
                cells.append("—" if row is other else "")
                continue
            if ratio is not None:
                value, decided = ratio.value, ratio.decided
            else:
                assert back is not None
                value, decided = 1 / back.value, -back.decided
            cells.append(number(value) + (" *" if decided else ""))
        body.append(cells)
    page.text(
        f"All pairs, {tables.lead_text(lead)}: error of the row over error of the column; a star where the "
        f"{plan.comparison.level:.0%} interval leaves one out. Among many pairs some stars are there by chance."
    )
    page.table(["", *names], body)
