"""Name what there is, with a line on each: equations, recipes, models, their wrappers, forecasters, constraints,
regularisers, objectives, optimisers, metrics, studies. A class of your own needs no entry anywhere: give it as
path/to/file.py:ClassName.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

from sciml.experiments.cli import Result

if TYPE_CHECKING:
    from argparse import Namespace

    import jsonargparse

    from sciml.experiments.progress import Reporter

EXAMPLES = ("sciml list", "sciml list studies", "sciml list models --json")

Topic = Literal[
    "pdes",
    "odes",
    "recipes",
    "models",
    "wrappers",
    "forecasters",
    "constraints",
    "regularizers",
    "objectives",
    "optimizers",
    "metrics",
    "studies",
]

# Topic -> (module, names) of what the entries of that topic are composed of, and of what only a model brings.
PIECES: dict[str, tuple[tuple[str, tuple[str, ...]], ...]] = {
    "forecasters": (
        (
            "sciml.models",
            ("Modes", "Monomials", "Fourier", "RadialBasis", "RandomFourier", "KernelFeatures"),
        ),
    ),
    "regularizers": (("sciml.models", ("MemoryPrior", "ObservationPrior", "Reconstruction")),),
    "objectives": (
        (
            "sciml.objectives",
            (
                *("RelativeL2Map", "Residual", "Collocation"),
                *("FreeSteps", "Noise", "RandomWalkNoise", "Diverted"),
                *(
                    "Sobolev",
                    "LogSpectrum",
                    "PerState",
                    "EquationResidual",
                    "SolverDefect",
                    "SoftConstraint",
                ),
                *("InvariantMeasure", "States", "Gradients", "Together"),
                *("AdaptiveAlpha", "AnnealedAlpha"),
                *("Constant", "Ramp", "Geometric", "Stairs", "Doubling", "Plateau"),
            ),
        ),
        ("sciml.experiments.online", ("OnlineSolver",)),
    ),
}

# Topic -> (module, the visible tuple or dictionary there that lists it).
LISTS: dict[str, tuple[str, str]] = {
    "pdes": ("sciml.pdes", "PDES"),
    "odes": ("sciml.odes", "ODES"),
    "models": ("sciml.models", "MODELS"),
    "wrappers": ("sciml.models", "WRAPPERS"),
    "forecasters": ("sciml.models", "FORECASTERS"),
    "constraints": ("sciml.constraints", "CONSTRAINTS"),
    "regularizers": ("sciml.regularizers", "REGULARIZERS"),
    "objectives": ("sciml.objectives", "OBJECTIVES"),
    "optimizers": ("sciml.optimizers", "OPTIMIZERS"),
    "metrics": ("sciml.metrics", "METRICS"),
}


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    parser.add_argument("topic", type=Topic, nargs="?", help="what to list (default: everything)")


def execute(arguments: Namespace, reporter: Reporter) -> Result:
    topic = arguments.get("topic")
    topics = [topic] if topic else [*LISTS, *FILES]
    found = {name: dict(FILES[name]() if name in FILES else _entries(*LISTS[name])) for name in topics}
    for name in found.keys() & PIECES.keys():
        for module, pieces in PIECES[name]:
            found[name] |= dict(_entries(module, pieces))
    lines = []
    for name, entries in found.items():
        lines += ([] if topic else [f"{name}:"]) + [
            f"  {n:<24} {line}".rstrip() for n, line in entries.items()
        ]
    return Result(found[topic] if topic else found, "\n".join(lines))


def _entries(module: str, name: str | tuple[str, ...]) -> Iterable[tuple[str, str]]:
    home = importlib.import_module(module)
    listed = getattr(home, name) if isinstance(name, str) else name
    named = listed.items() if isinstance(listed, dict) else ((_name(entry), entry) for entry in listed)
    for label, entry in named:
        yield label, _line(getattr(home, entry) if isinstance(entry, str) else entry)


def _name(entry: Any) -> str:
    return entry if isinstance(entry, str) else getattr(entry, "__name__", type(entry).__name__)


def _line(entry: Any) -> str:
    """First sentence of an object's docstring."""
    text = (entry.__doc__ or "").strip().splitlines()
    return text[0] if text else ""


def _studies() -> Iterable[tuple[str, str]]:
    from sciml.experiments.config import read_yaml, study_file, study_names

    for name in study_names():
        yield name, str(read_yaml(study_file(name)).get("title", ""))


def _recipes() -> Iterable[tuple[str, str]]:
    from sciml.datasets import known_recipes, load_recipe

    for name in known_recipes():
        try:
            yield name, load_recipe(name).title
        except ModuleNotFoundError as error:  # its extra is not installed, which is worth knowing
            yield name, str(error)


# Topic -> what lists the files behind it.
FILES = {"recipes": _recipes, "studies": _studies}
