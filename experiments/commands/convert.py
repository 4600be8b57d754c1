"""Copy a dataset into another layout, a few samples at a time: native, the_well, pdebench, apebench, poseidon,
meshgraphnets, lagrangebench, zarr, or vtk. The source may be any dataset that `sciml inspect` knows, or several files
of arrays that make one. What was lost or had to be given is printed and stands in conversion.json.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from sciml.experiments.cli import Result
from sciml.experiments.commands import hints

if TYPE_CHECKING:
    from argparse import Namespace

    import jsonargparse

    from sciml.experiments.progress import Reporter, Task

EXAMPLES = (
    "sciml convert 1D_Burgers_Sols_Nu0.01.hdf5 data/pdebench-burgers --to native",
    "sciml convert data/burgers burgers-pdebench --to pdebench",
    "sciml convert cylinder_flow data/cylinder_flow --to native",
    "sciml convert darcy_train_16.pt data/darcy-16 --to the_well --hints.lengths [1.0,1.0]",
)


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    from sciml.datasets.convert import Format

    parser.add_argument(
        "src", type=str, nargs="+", help="folder or file to read, or several files of arrays"
    )
    parser.add_argument("dst", type=str, help="new folder")
    parser.add_argument("--to", type=Format, required=True, help="layout to write")
    hints.add_hints(parser)


def execute(arguments: Namespace, reporter: Reporter) -> Result:
    from sciml.datasets.convert import convert

    sources: list[str] = list(arguments.src)
    tasks: list[Task] = []
    with ExitStack() as stack:

        def progress(done: int, total: int) -> None:
            if not tasks:  # how many samples there are is known once the source is open
                title = f"convert {sources[0]} to {arguments.to}"
                tasks.append(stack.enter_context(reporter.task(title, total)))
            tasks[0].update(done)

        source = sources[0] if len(sources) == 1 else sources
        found = convert(source, arguments.dst, arguments.to, hints.read(arguments), progress)
    samples = ", ".join(f"{count} {name}" for name, count in found.samples.items())
    lines = [f"{found.path}: {found.format}, {samples}", *(f"  note: {note}" for note in found.notes)]
    return Result(found.as_dict(), "\n".join(lines))
