"""Write report.html of a run that was evaluated, or one page that sets several runs side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sciml.experiments.cli import Result

if TYPE_CHECKING:
    from argparse import Namespace

    import jsonargparse

    from sciml.experiments.progress import Reporter

EXAMPLES = (
    "sciml report runs/burgers",
    "sciml report runs/burgers runs/short --out side-by-side.html",
)


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    parser.add_argument("runs", type=str, nargs="+", help="run folders")
    parser.add_argument("--out", type=str, help="file for several runs (default: runs/comparison.html)")


def execute(arguments: Namespace, reporter: Reporter) -> Result:
    from sciml.experiments.run import RunFolder, compare, report

    folders = [RunFolder(Path(name)) for name in arguments.runs]
    with reporter.task("report", len(folders)) as task:
        if len(folders) == 1 and not arguments.get("out"):
            path = report(folders[0])
        else:
            path = compare(folders, Path(arguments.get("out") or "runs/comparison.html"))
        task.update(len(folders))
    return Result({"report": path}, f"report: {path}")
