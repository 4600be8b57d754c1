"""Write a dataset from a recipe: shards of trajectories, statistics, and a certificate of their own error.

The bytes do not depend on the number of workers. What is complete is kept, so that an interrupted generation is
finished by the same command, and a dataset is extended by asking for more samples.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from sciml.errors import UserError
from sciml.experiments.cli import Result

if TYPE_CHECKING:
    from argparse import Namespace

    import jsonargparse

    from sciml.experiments.progress import Reporter

EXAMPLES = (
    "sciml generate burgers --out data/burgers",
    "sciml generate burgers --out data/large --samples train=800,valid=100,test=100 --workers 2",
    "sciml generate my_recipe.py --out data/mine --scheduler tcp://10.0.0.1:8786",
)


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    parser.add_argument(
        "recipe", type=str, help="name (`sciml list recipes`), or a Python file with RECIPE"
    )
    parser.add_argument("--out", type=str, help="folder of the dataset (default: data/<name>)")
    parser.add_argument("--samples", type=str, help="trajectories per split, such as train=800,test=100")
    parser.add_argument(
        "--workers", type=int, help="processes, one thread each (default: as many as cores)"
    )
    parser.add_argument("--scheduler", type=str, help="address of a Dask scheduler to use instead")


def samples_of(text: str) -> dict[str, int]:
    """ "train=800,test=100" as numbers by split.

    Raises:
        UserError: it is written otherwise.
    """
    counts = {}
    for part in text.split(","):
        split, equals, number = part.partition("=")
        if not equals or not split.strip() or not number.strip().isdigit():
            raise UserError(
                f"--samples is {text!r}; expected counts per split, such as train=800,valid=100,test=100."
            )
        counts[split.strip()] = int(number)
    return counts


def execute(arguments: Namespace, reporter: Reporter) -> Result:
    given = arguments.get("samples")
    samples = samples_of(given) if given else None
    from sciml import datasets
    from sciml.experiments.run import cores

    recipe = datasets.load_recipe(arguments.recipe)
    out = Path(arguments.get("out") or Path("data") / recipe.name)
    workers = cores() if arguments.get("workers") is None else arguments.workers
    total = sum({**recipe.samples, **(samples or {})}.values())
    with reporter.task(f"generate {recipe.name} into {out}", total) as task:
        datasets.generate(
            recipe,
            out,
            samples,
            workers=workers,
            scheduler=arguments.get("scheduler"),
            progress=lambda done, total: task.update(done),
        )
    manifest = json.loads((out / "manifest.json").read_text())
    splits = ", ".join(f"{name} {split['samples']}" for name, split in manifest["splits"].items())
    size = sum(shard["bytes"] for shard in manifest["shards"]) / 2**20
    text = f"{out}: {splits} samples, {size:.1f} MiB, with its certificate and preview.png"
    return Result({"folder": out, "splits": manifest["splits"], "mebibytes": size}, text)
