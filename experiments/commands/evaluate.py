"""Roll the trained surrogates of a run out on the test trajectories and score them beside persistence, the
training mean and the same solver on coarser grids. Writes metrics.csv and summary.json into the run folder.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sciml.experiments.cli import Result

if TYPE_CHECKING:
    from argparse import Namespace

    import jsonargparse

    from sciml.experiments.progress import Reporter

EXAMPLES = (
    "sciml evaluate runs/burgers",
    "sciml evaluate runs/burgers --steps 100 --samples 8",
    "sciml evaluate runs/burgers --data data/other --json",
)


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    parser.add_argument("run", type=str, help="run folder with trained surrogates")
    parser.add_argument("--steps", type=int, help="rollout length in steps (default: the study's)")
    parser.add_argument("--samples", type=int, help="number of test trajectories (default: the study's)")
    parser.add_argument(
        "--data", type=str, help="another dataset to test on, of the same fields and points"
    )


def execute(arguments: Namespace, reporter: Reporter) -> Result:
    from sciml.experiments.run import RunFolder, evaluate, summary_text

    folder = RunFolder(Path(arguments.run))
    study = folder.study()
    changed = {n: arguments.get(n) for n in ("steps", "samples") if arguments.get(n) is not None}
    evaluation = replace(study.evaluation, **changed)
    data = arguments.get("data")
    evaluate(folder, reporter, data=Path(data) if data else None, evaluation=evaluation)
    numbers = json.loads((folder.path / "summary.json").read_text())
    text = f"{summary_text(numbers)}\n\nscores in {folder.path / 'metrics.csv'}; next: sciml report {folder.path}"
    return Result({"folder": folder.path, "summary": numbers}, text)
