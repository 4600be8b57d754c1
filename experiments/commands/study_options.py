"""Options of the commands that read a study: the study itself, its settings by dotted name, where to write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sciml.experiments.cli import Result
from sciml.experiments.config import Data, EvaluationSettings, Study, TrainingSettings, load_study

if TYPE_CHECKING:
    from argparse import Namespace

    import jsonargparse

    from sciml.experiments.run import RunFolder

# Settings below these names are free-form (components), so the study's own tree checks them.
FREE = ("variants.", "training.optimizer.", "data.samples.", "references.", "limits.")


def add_study(parser: jsonargparse.ArgumentParser) -> None:
    """The study, its overrides, and the folders."""
    parser.add_argument(
        "study", type=str, help="name of a study (`sciml list studies`), YAML file, or run folder"
    )
    parser.add_argument("--out", type=str, help="run folder (default: runs/<name of the study>)")
    parser.add_argument("--data-root", type=str, help="where generated data lie (default: data)")
    parser.add_argument(
        "--workers", type=int, help="trainings at the same time (default: as many as cores)"
    )
    parser.add_argument("--seeds", type=list[int], help="seeds instead of the study's, such as [0,1,2]")
    parser.add_argument(
        "--print_config", action="store_true", help="print the resolved study as YAML and do nothing else"
    )
    parser.add_class_arguments(TrainingSettings, "training", instantiate=False)
    parser.add_class_arguments(EvaluationSettings, "evaluation", instantiate=False)
    parser.add_class_arguments(Data, "data", instantiate=False)


def take_free_options(words: list[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """Take options such as `--variants.fno.network.width 64` out of the words of a command line.

    Raises:
        UserError: such an option has no value.
    """
    from sciml.errors import UserError

    taken, left, rest = [], [], iter(words)
    for word in rest:
        key, equals, value = word[2:].partition("=")
        if not word.startswith("--") or not key.startswith(FREE):
            left.append(word)
            continue
        if not equals:
            found = next(rest, None)
            if found is None or found.startswith("--"):
                raise UserError(f"{word} needs a value, such as {word} 64.")
            value = found
        taken.append((key, value))
    return taken, left


def read(arguments: Namespace) -> tuple[Study, Path, Path]:
    """The study with its overrides, its run folder, and the folder of data.

    Raises:
        UserError: see `load_study`.
    """
    given: dict[str, Any] = arguments.as_dict() if hasattr(arguments, "as_dict") else vars(arguments)
    options: list[tuple[str, Any]] = []
    for group in ("training", "evaluation", "data"):
        for name, value in (given.get(group) or {}).items():
            options.append((f"{group}.{name}", value))
    # What reaches into a part comes after the part itself.
    options += given.get("free", [])
    if given.get("seeds") is not None:
        options.append(("seeds", list(given["seeds"])))
    study = load_study(given["study"], options)
    source = Path(given["study"])
    default = source if (source / "config.yaml").is_file() else Path("runs") / study.name
    return study, Path(given.get("out") or default), Path(given.get("data_root") or "data")


def printed(study: Study) -> Result:
    """The resolved study as YAML."""
    import yaml

    from sciml.experiments.config import as_tree

    tree = as_tree(study)
    return Result(tree, yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, width=110).rstrip())


def finished(folder: RunFolder, report: Path) -> Result:
    """The table and the paths at the end of a run."""
    from sciml.experiments.run import summary_text

    numbers = json.loads((folder.path / "summary.json").read_text())
    text = f"{summary_text(numbers)}\n\nreport: {report}"
    return Result({"folder": folder.path, "report": report, "summary": numbers}, text)
