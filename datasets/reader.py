"""Open any dataset by what is in it, not by what it is called."""

from __future__ import annotations

import builtins
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sciml.datasets import schema
from sciml.datasets.dataset import Dataset, Hints
from sciml.datasets.interop import neuraloperator
from sciml.datasets.interop.graphs import is_graphs, is_mesh_memory, read_graphs, read_mesh_memory
from sciml.datasets.interop.lagrangebench import is_lagrangebench, read_lagrangebench
from sciml.datasets.interop.meshgraphnets import is_gns, is_meshgraphnets, read_gns, read_meshgraphnets
from sciml.datasets.interop.pdebench import is_pdebench, read_pdebench
from sciml.datasets.interop.tfrecord import is_tfrecord
from sciml.datasets.interop.the_well import files_of, is_well, read_well
from sciml.datasets.native import open_native, split_order, with_manifest
from sciml.errors import UserError

KNOWN = (
    "a native dataset folder, The Well, meshes in HDF5 groups, PDEBench, LagrangeBench, or tensor files of "
    "neuraloperator"
)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        UserError: it is not one.
    """
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
        names = sorted((p.name for p in base.iterdir() if p.is_dir()), key=split_order)
        for name in names:
            files = files_of(base / name)
            if files:
                found[name] = files
    return found


def _split_of(path: Path) -> str:
    """The split that a single file's name speaks of, "train" if of none."""
    stem = path.stem.lower()
    return next((name for name in ("valid", "test") if name in stem), "train")


def _hdf5(path: Path, files: Mapping[str, Sequence[Path]], hints: Hints) -> Dataset:
    first = next(iter(files.values()))[0]
    with schema.open_hdf5(first) as file:
        well, graphs, bench = is_well(file), is_graphs(file), is_pdebench(file)
        keys = sorted(file)[:8]
        broken = "t0_fields" in file or "dimensions" in file
    if well or broken:  # a file that nearly follows the schema is told what it lacks
        return read_well(path, files, hints)
    if graphs:
        return read_graphs(path, files, hints)
    if bench:
        parts = [read_pdebench(f, split, hints) for split, found in files.items() for f in found]
        if len(parts) > len(files):
            raise UserError(f"{path} holds several PDEBench files in one split; open them one at a time.")
        splits = {name: split for part in parts for name, split in part.splits.items()}
        return replace(parts[0], path=path, splits=splits)
    raise UserError(
        f"{first} is HDF5 with the entries {keys}, which is no layout that is known here. Expected {KNOWN}."
    )


def _torch_folder(folder: Path, select: str | None, hints: Hints) -> Dataset | None:
    """A folder of the neuraloperator project: the selected problem, else Darcy, else the only one."""
    found = neuraloperator.problems(folder)
    if not found:
        return None
    notes = []
    if select is None and len(found) > 1 and "darcy" in found:
        select = "darcy"
        notes.append(f"{folder} holds {', '.join(found)}; took darcy, others by select=...")
    if select is None and len(found) > 1:
        raise UserError(f"{folder} holds {', '.join(found)}; say which with select=...")
    name = next(iter(found)) if select is None else select
    if name not in found:
        raise UserError(f"{folder} has no problem {name!r}; it has {', '.join(found)}.")
    return neuraloperator.read_torch(folder / name, found[name], hints, notes)


def _tfrecord(path: Path, hints: Hints) -> Dataset:
    """A file of records, which says nothing of itself without the file beside it."""
    if is_meshgraphnets(path):
        return read_meshgraphnets(path, hints)
    if is_gns(path):
        return read_gns(path, hints)
    raise UserError(
        f"{path} is a file of records, and {path.parent} has neither the meta.json of meshes nor the metadata.json of "
        "particles that says what they hold. Put it there."
    )


def open(path: str | Path, hints: Hints | None = None, *, select: str | None = None) -> Dataset:
    """Open a dataset, native or foreign, found out by content. Fields are read only when asked for.

    Args:
        path: a folder or a file. In a folder of the neuraloperator project also `folder/problem`, such
            as ".../neuraloperator/burgers", which need not exist as a file.
        hints: what a foreign file does not say.
        select: which problem of such a folder; "darcy" is taken where there are several, with a note.

    Raises:
        UserError: there is nothing, it is cut off, or its layout is not known.
    """
    path, hints = Path(path), hints or Hints()
    if not path.exists():
        if path.parent.is_dir() and path.name in neuraloperator.problems(path.parent):
            found = _torch_folder(path.parent, path.name, hints)
            assert found is not None  # the problem is there
            return found
        raise UserError(f"{path} does not exist. Give the folder or file of a dataset.")
    if path.is_file():
        with builtins.open(path, "rb") as file:
            head = file.read(8)
        if head == b"\x89HDF\r\n\x1a\n":
            return _hdf5(path, {_split_of(path): [path]}, hints)
        if neuraloperator.is_torch_file(head):
            return neuraloperator.read_torch(path, {_split_of(path): path}, hints)
        if is_mesh_memory(path):
            return read_mesh_memory(path, hints)
        if is_tfrecord(path):
            return _tfrecord(path, hints)
        raise UserError(f"{path} is neither HDF5 nor a file of tensors. Expected {KNOWN}.")
    native = open_native(path)
    if native is not None:
        return native
    files = _split_files(path)
    if files:
        return with_manifest(_hdf5(path, files, hints), path)
    if is_lagrangebench(path):
        return read_lagrangebench(path, hints)
    if is_meshgraphnets(path):
        return read_meshgraphnets(path, hints)
    if is_gns(path):
        return read_gns(path, hints)
    if is_mesh_memory(path):
        return read_mesh_memory(path, hints)
    dataset = _torch_folder(path, select, hints)
    if dataset is not None:
        return dataset
    loose = files_of(path)
    if loose:
        return _hdf5(path, {path.name if path.name in schema.SPLITS else "train": loose}, hints)
    raise UserError(
        f"{path} holds no dataset: no data/<split>/*.hdf5 and no known files. Expected {KNOWN}."
    )
