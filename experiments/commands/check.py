"""Look for faults in a dataset: schema, checksums, NaN, trajectories that appear twice across splits, statistics, and
frames that the recipe's own solver does not lead to. Reads every value once. The exit status is 1 if there is an
error; warnings are for a person to judge.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sciml.experiments.cli import Result
from sciml.experiments.commands import hints

if TYPE_CHECKING:
    from argparse import Namespace

    import jsonargparse

    from sciml.experiments.progress import Reporter

EXAMPLES = (
    "sciml check data/burgers",
    "sciml check data/burgers --json",
    "sciml check 1D_Burgers.hdf5 --hints.lengths [1.0]",
)


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    parser.add_argument("path", type=str, help="folder or file of a dataset")
    hints.add_hints(parser)


def execute(arguments: Namespace, reporter: Reporter) -> Result:
    from sciml.datasets.check import check

    with reporter.task(f"check {arguments.path}", 1) as task:
        found = check(arguments.path, hints.read(arguments))
        task.update(1)
    return Result(found.as_dict(), str(found), status=0 if found.ok else 1)
