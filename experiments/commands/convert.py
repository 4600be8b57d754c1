"""Copy a dataset into another layout: native (The Well's HDF5 with provenance), the_well, or pdebench. The source may
be any dataset that `sciml inspect` knows.
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
    "sciml convert 1D_Burgers_Sols_Nu0.01.hdf5 data/pdebench-burgers --to native",
    "sciml convert data/burgers burgers-pdebench --to pdebench",
    "sciml convert darcy_train_16.pt data/darcy-16 --to the_well --hints.lengths [1.0,1.0]",
)


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    from sciml.datasets.convert import Format

    parser.add_argument("src", type=str, help="folder or file to read")
    parser.add_argument("dst", type=str, help="new folder")
    parser.add_argument("--to", type=Format, required=True, help="layout to write")
    hints.add_hints(parser)


def execute(arguments: Namespace, reporter: Reporter) -> Result:
    from sciml.datasets.convert import convert

    with reporter.task(f"convert {arguments.src} to {arguments.to}", 1) as task:
        folder = convert(arguments.src, arguments.dst, arguments.to, hints.read(arguments))
        task.update(1)
    return Result({"folder": folder, "layout": arguments.to}, f"{folder}: {arguments.to}")
