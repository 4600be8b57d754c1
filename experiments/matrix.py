"""From a file with a matrix of settings to the studies in its cells."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import product
from typing import Any

from sciml.errors import UserError
from sciml.experiments.config import Study, override, read_study, read_yaml, study_file


def expand(file: str, seeds: Sequence[int] | None = None) -> tuple[str, list[tuple[str, Study]]]:
    """Name of the whole, and (label, study) of every combination.

    Raises:
        UserError: the file, its base or a cell is wrong; all cells are checked before any is run.
    """
    path = study_file(file)
    tree = read_yaml(path)
    matrix = tree.pop("matrix", {})
    base = tree.pop("base", None)
    if base is not None:
        beside = path.parent / str(base)
        tree = {**read_yaml(study_file(str(beside if beside.is_file() else base))), **tree}
    if not isinstance(matrix, dict) or not all(isinstance(v, list) and v for v in matrix.values()):
        raise UserError(
            f"{file}: matrix is {matrix!r}; expected lists of values by dotted setting, such as "
            "{training.updates: [500, 2000]}."
        )
    if seeds is not None:
        tree["seeds"] = list(seeds)
    name = str(tree.get("name", path.stem))
    cells = []
    for values in product(*matrix.values()):
        chosen = list(zip(matrix, values, strict=True))
        own = copy.deepcopy(tree)
        override(own, chosen)
        label = "_".join(f"{_short(key, matrix)}={_text(value)}" for key, value in chosen) or name
        if chosen:
            own["title"] = f"{own.get('title', name)}: " + ", ".join(f"{k} = {v}" for k, v in chosen)
        cells.append((label, read_study(own, f"{file}, {label}")))
    return name, cells


def _short(key: str, matrix: dict[str, Any]) -> str:
    """The last parts of a dotted name that tell it from the others."""
    parts = key.split(".")
    for count in range(1, len(parts) + 1):
        short = ".".join(parts[-count:])
        if sum(other == key or other.endswith("." + short) for other in matrix) == 1:
            return short
    return key


def _text(value: Any) -> str:
    """A value as part of a folder's name."""
    return "".join(c if c.isalnum() or c in "-.+" else "-" for c in str(value)).strip("-") or "none"
