"""Train the variants of a study, each with every seed, and leave a checkpoint of each.

Trainings that are complete are skipped, and one that was interrupted goes on from its last checkpoint and ends
with the same weights as if nothing had happened. Data are generated first if they are missing.
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
    "sciml train burgers",
    "sciml train my_study.yaml --training.epochs 3 --seeds [0]",
    "sciml train my_study.yaml --variants.fno.network.modes [16]",
)

__all__ = ["EXAMPLES", "add_arguments", "execute", "take_free_options"]


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    study_options.add_study(parser)


def execute(arguments: Namespace, reporter: Reporter) -> Result:
    study, out, data_root = study_options.read(arguments)
    if arguments.get("print_config"):
        return study_options.printed(study)
    from sciml.experiments.run import RunFolder, train

    folder = RunFolder(out)
    train(study, folder, data_root, reporter, arguments.get("workers"))
    done = folder.provenance().get("trainings", {})
    lines = [
        f"{name}: {t['updates']} updates, loss {t['loss']:.3g}, {t['seconds']:.0f} s"
        for name, t in done.items()
    ]
    text = "\n".join([*lines, f"checkpoints in {out / 'checkpoints'}; next: sciml evaluate {out}"])
    return Result({"folder": out, "trainings": done}, text)
