"""Run a study: generate the data that are missing, train every variant with every seed, roll all of them out
beside the baselines, and write the report.

What is complete is not done again, so an interrupted run is resumed by the same command. Any setting of the
study can be given by its dotted name; those of variants are checked against the constructors, for example
--variants.fno.network.width 64.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sciml.experiments.cli import Result
from sciml.experiments.commands import study_options
from sciml.experiments.commands.study_options import take_free_options

if TYPE_CHECKING:
    from argparse import Namespace

    import jsonargparse

    from sciml.experiments.progress import Reporter

EXAMPLES = (
    "sciml run burgers",
    "sciml run burgers --training.updates 500 --out runs/short",
    "sciml run my_study.yaml --seeds [0,1,2] --workers 2",
    "sciml run burgers --variants.fno.network.width 64 --print_config",
)

__all__ = ["EXAMPLES", "add_arguments", "execute", "take_free_options"]


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    study_options.add_study(parser)


def execute(arguments: Namespace, reporter: Reporter) -> Result:
    study, out, data_root = study_options.read(arguments)
    if arguments.get("print_config"):
        return study_options.printed(study)
    from sciml.experiments.run import RunFolder, run

    folder = RunFolder(out)
    report = run(study, folder, data_root, reporter, arguments.get("workers"))
    return study_options.finished(folder, report)
