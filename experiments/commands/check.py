"""Look for faults in a dataset of any layout: files, values, times, duplicates and leaks between splits, statistics,
resolution, and whether the stored frames solve their equation: that of the recipe, that which the file's attributes
name, or the one given by --equation. A gap is an error where the checking solver's own errors do not explain it. Every
value is read once. The exit status is 1 if there is an error; warnings are for a person to judge.
"""

from __future__ import annotations

import io
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sciml.experiments.cli import Result
from sciml.experiments.commands import equation, hints

if TYPE_CHECKING:
    from argparse import Namespace

    import jsonargparse

    from sciml.datasets.findings import Report
    from sciml.experiments.progress import Reporter

EXAMPLES = (
    "sciml check data/burgers",
    "sciml check data/burgers --plot --out audit.png",
    "sciml check 1D_Burgers.hdf5 --hints.lengths [1.0]",
    "sciml check mine.hdf5 --equation Heat --equation.diffusivity 0.05",
    'sciml check mine.hdf5 --equation "{class_path: sciml.pdes.Burgers, init_args: {viscosity: 0.01}}" --json',
)

WIDTH = 118
"""Columns of a report that does not go to a terminal."""

TITLES = {
    "files": "files",
    "values": "values",
    "time": "times and frames",
    "duplicates": "duplicates and leaks",
    "statistics": "statistics",
    "equation": "equation",
    "resolution": "resolution",
}
COLOURS = {"error": "bold red", "warning": "yellow", "note": "cyan"}


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    parser.add_argument(
        "path",
        type=str,
        nargs="+",
        help="folder or file of a dataset, or several files of arrays that make one",
    )
    hints.add_hints(parser)
    equation.add_equation(parser)
    parser.add_argument(
        "--plot", action="store_true", help="draw histograms, spectra and the gap to the equation"
    )
    parser.add_argument("--out", type=str, help="file of the picture (default: audit.png)")


take_free_options = equation.take_equation


def execute(arguments: Namespace, reporter: Reporter) -> Result:
    from sciml.datasets.check import check

    stated = equation.read(arguments)
    paths = list(arguments.path)
    with reporter.task(f"check {paths[0]} [KiB]", 1) as task:
        found = check(
            paths[0] if len(paths) == 1 else paths,
            hints.read(arguments),
            equation=stated,
            progress=lambda done, total: task.update(done >> 10, total=max(total >> 10, 1)),
        )
    data = found.as_dict()
    if arguments.get("plot"):
        from sciml.datasets.audit_picture import draw_audit
        from sciml.datasets.reader import open as open_dataset

        picture = Path(arguments.get("out") or "audit.png")
        certificate = open_dataset(arguments.path, hints.read(arguments)).certificate
        data["picture"] = str(draw_audit(found, certificate, picture))
    return Result(data, render(found), status=0 if found.ok else 1)


def render(report: Report, terminal: bool | None = None) -> str:
    """A report as tables, coloured on a terminal."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    terminal = sys.stdout.isatty() if terminal is None else terminal
    page = io.StringIO()
    console = Console(
        file=page, force_terminal=terminal, width=None if terminal else WIDTH, highlight=False
    )
    state = Text("ok", "bold green") if report.ok else Text("not ok", "bold red")
    console.print(Text(f"{report.path}: ").append(state), soft_wrap=True)
    plain = {k: v for k, v in report.measured.items() if isinstance(v, str | dict) and " of " not in k}
    for name, value in plain.items():
        shown = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
        console.print(Text(f"  {name}: {shown}"), soft_wrap=True)
    for topic, title in TITLES.items():
        for finding in report.of(topic):  # type: ignore[arg-type]
            line = Text(f"  {title}: ").append(finding.level, COLOURS[finding.level])
            console.print(line.append(f": {finding.where}: {finding.message}"), soft_wrap=True)
    judged = [name for name in report.audit if f"judgement of {name}" in report.measured]
    if judged:
        table = Table("split", "gap", "explained", "field", "from", "steps", "shows from", "residual")
        table.title, table.title_justify = "gap to the equation, over the change", "left"
        for name in judged:
            row = report.measured[f"judgement of {name}"]
            start = f"sample {row['sample']}, frame {row['frame']}"
            residual = report.measured.get(f"residual of {name}")
            numbers = (row["gap"], row["allowed"], row["smallest_that_shows"], residual)
            gap, allowed, least, rest = (_number(v) for v in numbers)
            table.add_row(name, gap, allowed, row["field"], start, str(row["steps"]), least, rest)
        console.print(table)
    table = Table("split", "channel", "smallest", "largest", "drift of mean", "upper half of spectrum")
    table.title, table.title_justify = "values", "left"
    for name, entry in report.audit.items():
        drift = entry.get("drift_of_means", {})
        tails = entry.get("spectra", {}).get("upper_half", {})
        for channel, found in entry["values"].items():
            tail = [v for v in tails.get(channel, []) if v is not None]
            numbers = (found["smallest"], found["largest"], drift.get(channel), max(tail, default=None))
            table.add_row(name, channel, *(_number(v) for v in numbers))
    if table.row_count:
        console.print(table)
    return page.getvalue().rstrip()


def _number(value: Any) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.3g}"
