"""Open any dataset by what is in it, not by what it is called."""

from __future__ import annotations

import builtins
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sciml.datasets import schema
from sciml.datasets.dataset import Dataset, Hints
from sciml.datasets.interop.graphs import is_graphs, read_graphs
from sciml.datasets.interop.the_well import files_of, is_well, read_well
from sciml.errors import UserError

KNOWN = "a native dataset folder, a folder or file of The Well, or HDF5 groups of meshes"


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file, or UserError."""
    try:
        content = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path} is not valid JSON: {error}. Restore it or generate the dataset again."
        ) from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds {type(content).__name__}; expected a JSON object.")
    return content


def _split_files(folder: Path) -> dict[str, Sequence[Path]]:
    """The files of each split of a folder with data/<split>/*.hdf5."""
    base = folder / "data"
    found: dict[str, Sequence[Path]] = {}
    if base.is_dir():
        names = sorted((p.name for p in base.iterdir() if p.is_dir()), key=_split_order)
        for name in names:
            files = files_of(base / name)
            if files:
                found[name] = files
    return found


def _split_order(name: str) -> tuple[int, str]:
    return (schema.SPLITS.index(name) if name in schema.SPLITS else len(schema.SPLITS), name)


def _hdf5(path: Path, files: Mapping[str, Sequence[Path]], hints: Hints) -> Dataset:
    first = next(iter(files.values()))[0]
    with schema.open_hdf5(first) as file:
        kind = "well" if is_well(file) else "graphs" if is_graphs(file) else None
        keys = sorted(file)[:8]
        missing = [g for g in ("dimensions", "t0_fields") if g not in file]
    readers: Mapping[str, Callable[[Path, Mapping[str, Sequence[Path]], Hints], Dataset]] = {
        "well": read_well,
        "graphs": read_graphs,
    }
    if kind is None:
        raise UserError(
            f"{first} is HDF5 with the entries {keys}, which is no layout that is known here (for The Well it "
            f"lacks {missing}). Expected {KNOWN}."
        )
    return readers[kind](path, files, hints)


def open(path: str | Path, hints: Hints | None = None) -> Dataset:
    """Open a dataset, native or foreign, found out by content. Fields are read only when asked for.

    Args:
        path: a folder or a file.
        hints: what a foreign file does not say.

    Raises:
        UserError: there is nothing, it is cut off, or its layout is not known.
    """
    path, hints = Path(path), hints or Hints()
    if not path.exists():
        raise UserError(f"{path} does not exist. Give the folder or file of a dataset.")
    if path.is_file():
        with builtins.open(path, "rb") as file:
            head = file.read(8)
        if head == b"\x89HDF\r\n\x1a\n":
            return _hdf5(path, {"train": [path]}, hints)
        raise UserError(f"{path} is neither HDF5 nor another known layout. Expected {KNOWN}.")
    files = _split_files(path)
    if files:
        dataset = _hdf5(path, files, hints)
        manifest = path / "manifest.json"
        if manifest.is_file():
            content = read_json(manifest)
            if content.get("format") == schema.FORMAT:
                certificate = path / "certificate.json"
                dataset = replace(
                    dataset,
                    kind="native",
                    manifest=content,
                    certificate=read_json(certificate) if certificate.is_file() else None,
                )
        return dataset
    loose = files_of(path)
    if loose:
        return _hdf5(path, {path.name if path.name in schema.SPLITS else "train": loose}, hints)
    raise UserError(f"{path} holds no dataset: no data/<split>/*.hdf5 and no HDF5 files. Expected {KNOWN}.")
