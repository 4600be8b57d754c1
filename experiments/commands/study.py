"""Run a matrix of settings: every combination of the values listed under `matrix`, with every seed, each a run of
its own; then one page that sets them side by side.

The file is a study with one more entry, or only a base and the matrix:

  base: burgers
  name: how-long
  matrix:
    training.updates: [500, 2000]
    variants.fno.network.width: [16, 32]

A file without a matrix is a single run. Runs that are complete are skipped; trainings go to --workers processes
here, or to the workers of a Dask scheduler that sees the same folders.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

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

    from sciml.experiments.matrix import expand
    from sciml.experiments.run import RunFolder, compare, run, summary_text

    name, cells = expand(arguments.file, arguments.get("seeds"))
    out = Path(arguments.get("out") or Path("runs") / name)
    folders, lines, summaries = [], [], {}
    for number, (label, study) in enumerate(cells, start=1):
        folder = RunFolder(out / label if len(cells) > 1 else out)
        reporter.say(f"run {number} of {len(cells)}: {label}")
        run(
            study,
            folder,
            Path(arguments.get("data_root") or "data"),
            reporter,
            arguments.get("workers"),
            arguments.get("scheduler"),
        )
        numbers: dict[str, Any] = json.loads((folder.path / "summary.json").read_text())
        folders.append(folder)
        summaries[label] = numbers
        lines += [f"{label}:", summary_text(numbers), ""]
    page = out / "report.html" if len(cells) == 1 else compare(folders, out / "comparison.html")
    lines.append(f"report: {page}")
    return Result({"folder": out, "report": page, "runs": summaries}, "\n".join(lines))
