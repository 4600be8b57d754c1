"""Write a dataset from a recipe: shards of trajectories, statistics, and a certificate of their own error.

The bytes do not depend on the number of workers. What is complete is kept, so that an interrupted generation is
finished by the same command, and a dataset is extended by asking for more samples. A worker that dies is
replaced and its shard tried again; shards that fail are reported at the end, after the others. Progress is
also kept in generate.log in the dataset's folder.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from sciml.errors import UserError
from sciml.experiments.cli import Result

if TYPE_CHECKING:
    from argparse import Namespace

    import jsonargparse

    from sciml.datasets.generate import Estimate
    from sciml.datasets.writer import Codec
    from sciml.experiments.progress import Reporter

EXAMPLES = (
    "sciml generate burgers --out data/burgers",
    "sciml generate my_recipe.yaml --dry-run",
    "sciml generate burgers --out data/large --samples train=800,valid=100,test=100 --workers 2",
    "sciml generate my_recipe.py --out data/mine --scheduler tcp://10.0.0.1:8786",
)


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    parser.add_argument(
        "recipe",
        type=str,
        help="name (`sciml list recipes`), a Python file with RECIPE, or a YAML file",
    )
    parser.add_argument("--out", type=str, help="folder of the dataset (default: data/<name>)")
    parser.add_argument("--samples", type=str, help="trajectories per split, such as train=800,test=100")
    parser.add_argument(
        "--workers", type=int, help="processes, one thread each (default: as many as cores)"
    )
    parser.add_argument("--scheduler", type=str, help="address of a Dask scheduler to use instead")
    parser.add_argument(
        "--codec",
        type=str,
        help="none: arrays that are mapped, fast (default); lzf: compressed frame by frame, for archives",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="make one shard, throw it away, and say what all would take",
    )


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


def said(estimate: Estimate, out: Path) -> str:
    """An estimate in one line."""
    from sciml.experiments.progress import duration

    workers = f"{estimate.workers} worker{'s' * (estimate.workers != 1)}"
    time = "" if estimate.seconds is None else f", about {duration(estimate.seconds)} with {workers}"
    return (
        f"{out}: {estimate.samples} samples in {estimate.shards} shards to make, at most "
        f"{estimate.bytes / 2**20:.1f} MiB of {estimate.free / 2**20:.0f} MiB free{time}"
    )


def execute(arguments: Namespace, reporter: Reporter) -> Result:
    given = arguments.get("samples")
    samples = samples_of(given) if given else None
    asked = arguments.get("codec") or "none"
    if asked not in ("none", "lzf"):
        raise UserError(f"--codec is {asked!r}; expected none or lzf.")
    codec: Codec = "lzf" if asked == "lzf" else "none"
    from sciml import datasets
    from sciml.datasets.generate import estimate
    from sciml.datasets.manifest import LOG, read_manifest
    from sciml.experiments.run import cores

    recipe = datasets.load_recipe(arguments.recipe)
    out = Path(arguments.get("out") or Path("data") / recipe.name)
    workers = cores() if arguments.get("workers") is None else arguments.workers
    if workers < 1:
        raise UserError(f"--workers is {workers}; expected at least 1.")
    if arguments.get("dry_run"):
        found = estimate(recipe, out, samples, workers=workers, codec=codec)
        return Result(asdict(found), said(found, out))
    total = sum({**recipe.samples, **(samples or {})}.values())
    with reporter.task(f"generate {recipe.name} into {out}", total, log=out / LOG) as task:
        datasets.generate(
            recipe,
            out,
            samples,
            workers=workers,
            scheduler=arguments.get("scheduler"),
            codec=codec,
            progress=lambda done, total: task.update(done),
            announce=lambda found: reporter.say(said(found, out)),
        )
    manifest = read_manifest(out)
    splits = ", ".join(f"{name} {split['samples']}" for name, split in manifest["splits"].items())
    size = sum(shard["bytes"] for shard in manifest["shards"]) / 2**20
    left_out = sum(split["asked"] - split["samples"] for split in manifest["splits"].values())
    text = f"{out}: {splits} samples, {size:.1f} MiB, with its certificate and preview.png"
    text += f"; {left_out} samples left their bounds and were left out" if left_out else ""
    return Result({"folder": out, "splits": manifest["splits"], "mebibytes": size}, text)
