"""Say what is in a dataset, a run folder, a checkpoint or a file of another project, found out by its content."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sciml.errors import UserError
from sciml.experiments.cli import Result
from sciml.experiments.commands import hints
from sciml.experiments.commands.tables import outline

if TYPE_CHECKING:
    from argparse import Namespace

    import jsonargparse

    from sciml.experiments.progress import Reporter

EXAMPLES = (
    "sciml inspect data/burgers --plot",
    "sciml inspect runs/burgers",
    "sciml inspect runs/burgers/checkpoints/fno/seed-0.pt",
    "sciml inspect darcy_train_16.pt --plot --out darcy.png",
    "sciml inspect mine/*.npy --hints.axes tcx --hints.lengths [1.0] ...",
)


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    parser.add_argument(
        "path", type=str, nargs="+", help="folder or file, or several files of arrays that make one dataset"
    )
    parser.add_argument("--plot", action="store_true", help="draw a few samples of a dataset")
    parser.add_argument(
        "--out", type=str, help="file of the picture (default: <name>.png in the current folder)"
    )
    hints.add_hints(parser)


def execute(arguments: Namespace, reporter: Reporter) -> Result:
    paths = [Path(p) for p in arguments.path]
    for path in paths:
        if not path.exists():
            raise UserError(f"{path} does not exist (looked in {path.absolute().parent}).")
    path, several = paths[0], paths if len(paths) > 1 else paths[0]
    if len(paths) > 1:
        from sciml.datasets.inspection import describe

        found = describe(several, hints.read(arguments))
    elif (path / "config.yaml").is_file():
        found = _run(path)
    elif path.suffix == ".pt" and (checkpoint := _checkpoint(path)) is not None:
        found = checkpoint
    else:
        from sciml.datasets.inspection import describe

        found = describe(path, hints.read(arguments))
    if arguments.get("plot"):
        from sciml.datasets.inspection import plot

        picture = Path(arguments.get("out") or f"{path.resolve().stem}.png")
        with reporter.task(f"draw {picture}", 1) as task:
            found["picture"] = str(plot(several, picture, hints.read(arguments)))
            task.update(1)
    return Result(found, outline(found))


def _run(path: Path) -> dict[str, Any]:
    from sciml.experiments.run import RunFolder

    folder = RunFolder(path)
    study = folder.study()
    there = [
        f"{v}, seed {s}" for v in study.variants for s in study.seeds if folder.checkpoint(v, s).is_file()
    ]
    summary = path / "summary.json"
    table = json.loads(summary.read_text())["table"] if summary.is_file() else []
    shown = ("name", "relative_l2", "nrmse_1", "nrmse_last", "blown_up")
    return {
        "path": str(path),
        "run": study.name,
        "title": study.title,
        "kind": study.kind,
        "variants": list(study.variants),
        "seeds": study.seeds,
        "checkpoints": there,
        "report": str(path / "report.html") if (path / "report.html").is_file() else None,
        "provenance": {k: v for k, v in folder.provenance().items() if k in ("commit", "data", "seconds")},
        "scores": [
            {k: v for k, v in row.items() if k.startswith(shown) and "_range" not in k} for row in table
        ],
    }


def _checkpoint(path: Path) -> dict[str, Any] | None:
    """What one of our checkpoints says, or None for another file of tensors."""
    from sciml.experiments.files import load_tensors
    from sciml.experiments.surrogates import FORMAT, Facts, describe_domain

    content = load_tensors(path)
    if content.get("format") != FORMAT:
        return None
    facts = Facts.from_plain(content["facts"])
    return {
        "path": str(path),
        "checkpoint": content["name"],
        "seed": content["seed"],
        "updates": f"{content['updates']} of {content['total']}",
        "variant": content["variant"],
        "settings": content["settings"],
        "data": content["data"],
        "channels": list(facts.channels),
        "domain": describe_domain(facts.domain),
        "dt": facts.dt,
        "weights": {k: list(v.shape) for k, v in content["weights"].items()},
    }
