"""Run a matrix of settings: every combination of the axes, with every seed, each a run of its own; then one table,
paired comparisons and a page that ranks them.

The file names the parts of a surrogate and, as axes, what is tried for each:

  name: short-rollouts
  data: {recipe: burgers}
  model: {class_path: FNO, init_args: {modes: [24], width: 20}}
  axes:
    objective:
      one_step: OneStep
      k2: {class_path: Unrolled, init_args: {steps: 2}}
    regularizer:
      none: null
      jaws: {regularizer: JAWS, weight: 0.003}
  budget: {updates: 1500}
  baseline: {objective: one_step, regularizer: none}
  seeds: [0, 1, 2]

or lists values of dotted settings under `matrix`, with another study as `base`. A file with neither is a single run.

All trainings and evaluations go to --workers processes here, or to the workers of a Dask scheduler that sees the
same folders. What is complete is skipped, what was stopped goes on, what failed is tried again; a training that fails
does not hold up the others, is listed in failures.json, and makes the exit status 1.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from sciml.experiments.cli import Result

if TYPE_CHECKING:
    from argparse import Namespace

    import jsonargparse

    from sciml.experiments.progress import Reporter

EXAMPLES = (
    "sciml study matrix.yaml",
    "sciml study matrix.yaml --seeds [0,1,2] --workers 2",
    "sciml study matrix.yaml --scheduler tcp://10.0.0.1:8786",
)


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    parser.add_argument("file", type=str, help="YAML file with a matrix, or any study")
    parser.add_argument("--out", type=str, help="folder of the runs (default: runs/<name>)")
    parser.add_argument("--data-root", type=str, help="where generated data lie (default: data)")
    parser.add_argument("--seeds", type=list[int], help="seeds instead of the file's, such as [0,1,2]")
    parser.add_argument(
        "--workers", type=int, help="trainings at the same time (default: as many as cores)"
    )
    parser.add_argument("--scheduler", type=str, help="address of a Dask scheduler that trains instead")


def execute(arguments: Namespace, reporter: Reporter) -> Result:
    from pathlib import Path

    from sciml.experiments.study.conclude import conclude, text
    from sciml.experiments.study.conduct import conduct
    from sciml.experiments.study.plan import read_plan

    plan = read_plan(arguments.file, arguments.get("seeds"))
    out = Path(arguments.get("out") or Path("runs") / plan.name)
    root = Path(arguments.get("data_root") or "data")
    runs = conduct(plan, out, root, reporter, arguments.get("workers"), arguments.get("scheduler"))
    with reporter.task("compare the rows", 1) as task:
        conclusion = conclude(plan, runs, out)
        task.update(1)
    failures = [failure for run in runs for failure in run.failures]
    lines = [text(plan, conclusion), f"leaderboard: {conclusion.page}"]
    if len(runs) == 1:
        lines.append(f"report: {out / 'report.html'}")
    if failures:
        lines += [
            "",
            f"{len(failures)} failed (see {out / 'failures.json'}); the same command tries them again:",
        ]
        lines += [f"  {failure.text()}" for failure in failures]
    summaries = {
        run.cell.label: json.loads((run.folder.path / "summary.json").read_text())
        for run in runs
        if (run.folder.path / "summary.json").is_file()
    }
    data = {
        "folder": out,
        "leaderboard": conclusion.page,
        "table": out / "table.md",
        "runs": summaries,
        "failures": [asdict(failure) for failure in failures],
    }
    return Result(data, "\n".join(lines), status=1 if failures else 0)
