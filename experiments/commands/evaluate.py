"""Roll the trained surrogates of a run out from the test states and judge them beside the truth, persistence, the
training mean and the same solver on coarser grids. Writes metrics.csv and summary.json into the run folder.

More steps than are stored are as welcome: the data's own solver goes on with the truth. A long evaluation that was
interrupted goes on where it stood when the same command is given again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sciml.experiments.cli import Result

if TYPE_CHECKING:
    from argparse import Namespace

    import jsonargparse

    from sciml.experiments.progress import Reporter

EXAMPLES = (
    "sciml evaluate runs/burgers",
    "sciml evaluate runs/burgers --steps 100 --samples 8",
    "sciml evaluate runs/burgers --steps 10000 --chunk 4",
    "sciml evaluate runs/burgers --data data/other --json",
)


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    parser.add_argument("run", type=str, help="run folder with trained surrogates")
    parser.add_argument("--steps", type=int, help="rollout length in steps (default: the study's)")
    parser.add_argument("--samples", type=int, help="number of test trajectories (default: the study's)")
    parser.add_argument(
        "--chunk", type=int, help="trajectories rolled out at the same time (default: the study's)"
    )
    parser.add_argument(
        "--data", type=str, help="another dataset to test on, of the same fields and points"
    )


def execute(arguments: Namespace, reporter: Reporter) -> Result:
    from sciml.experiments.run import RunFolder, evaluate, summary_text

    folder = RunFolder(Path(arguments.run))
    study = folder.study()
    changed = {n: arguments.get(n) for n in ("steps", "samples", "chunk") if arguments.get(n) is not None}
    evaluation = replace(study.evaluation, **changed)
    data = arguments.get("data")
    evaluate(folder, reporter, data=Path(data) if data else None, evaluation=evaluation)
    numbers = json.loads((folder.path / "summary.json").read_text())
    parts = [summary_text(numbers), _expense(numbers)]
    parts.append(f"scores in {folder.path / 'metrics.csv'}; next: sciml report {folder.path}")
    text = "\n\n".join(part for part in parts if part)
    return Result({"folder": folder.path, "summary": numbers}, text)


def _expense(numbers: Mapping[str, Any]) -> str:
    """What was looked at and what it took, for rollouts."""
    if "sampling" not in numbers:
        return ""
    lines = [str(numbers["sampling"])]
    if numbers["memory_bytes"]:
        sizes = [
            f"{size / 2**20:.0f} MiB after step {int(k):,}" for k, size in numbers["memory_bytes"].items()
        ]
        lines.append(f"Resident memory: {', '.join(sizes)}.")
    if numbers["overhead"] is not None:
        lines.append(
            f"The surrogates' calls and all the measuring took {numbers['overhead']:.2f} times the calls."
        )
    return "\n".join(lines)
