"""Open any dataset by what is in it, not by what it is called."""

from __future__ import annotations

import builtins
import glob
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sciml.datasets import schema
from sciml.datasets.dataset import Dataset, Hints
from sciml.datasets.guard import understood
from sciml.datasets.interop import hdf5, neuraloperator
from sciml.datasets.interop.apebench import is_apebench, read_apebench, scenarios
from sciml.datasets.interop.arrays import ENDINGS, is_arrays, natural, read_arrays
from sciml.datasets.interop.autocast import autocast_files, is_autocast, read_autocast
from sciml.datasets.interop.cfdbench import cases, read_cfdbench
from sciml.datasets.interop.graphs import is_graphs, is_mesh_memory, read_graphs, read_mesh_memory
from sciml.datasets.interop.labelled import is_netcdf, is_zarr, read_labelled
from sciml.datasets.interop.lagrangebench import is_lagrangebench, read_lagrangebench
from sciml.datasets.interop.meshgraphnets import is_gns, is_meshgraphnets, read_gns, read_meshgraphnets
from sciml.datasets.interop.parts import divide
from sciml.datasets.interop.pdearena import is_pdearena, read_pdearena
from sciml.datasets.interop.pdebench import is_pdebench, read_pdebench
from sciml.datasets.interop.poseidon import is_poseidon, read_poseidon
from sciml.datasets.interop.tfrecord import is_tfrecord
from sciml.datasets.interop.the_well import files_of, is_well, read_well
from sciml.datasets.native import open_native, split_order, with_manifest
from sciml.datasets.writer import PART
from sciml.errors import UserError

KNOWN = (
    "a native dataset folder, The Well, PDEBench, PDEArena, APEBench, Poseidon, MeshGraphNets, GNS, LagrangeBench, tensor "
    "files of neuraloperator, labelled arrays (NetCDF4, Zarr), or arrays of your own (.npy, .npz, .mat, .csv)"
)

Source = str | os.PathLike[str] | Sequence[str | Path]
"""A folder, a file, a pattern of files, or several files that make one dataset."""

_HDF5 = b"\x89HDF\r\n\x1a\n"
_SPLIT_WORD = re.compile(r"(?<![a-z])(train|valid|test|val)(?:ing|ation)?(?![a-z])")


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
    """The split that a file's name speaks of, "train" if of none."""
    found = _SPLIT_WORD.findall(path.stem.lower())
    return {"val": "valid"}.get(found[-1], found[-1]) if found else "train"


def _by_split(paths: Iterable[Path]) -> dict[str, Sequence[Path]]:
    """Files by the splits that their names speak of, in natural order."""
    found: dict[str, list[Path]] = {}
    for path in sorted(paths, key=natural):
        found.setdefault(_split_of(path), []).append(path)
    return {name: found[name] for name in sorted(found, key=split_order)}


def _head(path: Path) -> bytes:
    with builtins.open(path, "rb") as file:
        return file.read(8)


def _is_hdf5(path: Path) -> bool:
    return path.is_file() and path.suffix != PART and _head(path) == _HDF5


def _hdf5(
    path: Path, files: Mapping[str, Sequence[Path]], hints: Hints, select: str | None = None
) -> Dataset:
    first = next(iter(files.values()))[0]
    everything = [f for found in files.values() for f in found]
    with hdf5.opened(first) as file:
        well, graphs, bench = is_well(file), is_graphs(file), is_pdebench(file)
        arena, poseidon, labelled = is_pdearena(file), is_poseidon(file), is_netcdf(file)
        keys = sorted(file)[:8]
        broken = "t0_fields" in file or "dimensions" in file
    if well or broken:  # a file that nearly follows the schema is told what it lacks
        return read_well(path, files, hints)
    if arena:
        return read_pdearena(path, everything, hints)
    if graphs:
        return read_graphs(path, files, hints)
    if poseidon:
        return read_poseidon(path, _pieces(path, everything, select), hints)
    if bench:
        parts = [read_pdebench(f, split, hints) for split, found in files.items() for f in found]
        if len(parts) > len(files):
            raise UserError(f"{path} holds several PDEBench files in one split; open them one at a time.")
        splits = {name: split for part in parts for name, split in part.splits.items()}
        notes = tuple(dict.fromkeys(note for part in parts for note in part.notes))
        name = path.stem if len(parts) == 1 else _common_name(everything, path)
        return replace(parts[0], path=path, name=name, splits=splits, notes=notes)
    if labelled:
        return read_labelled(path, files, hints)
    if hints.axes is not None:
        return read_arrays(path, files, hints)
    raise UserError(
        f"{first} is HDF5 with the entries {keys}, which is no layout that is known here. Expected {KNOWN}. If its arrays "
        "are your own, say what their axes are with hints=Hints(axes='ntcx', ...)."
    )


def _common_name(files: Sequence[Path], path: Path) -> str:
    """What the names of the files of all splits have in common."""
    stem = os.path.commonprefix([f.stem for f in files]).rstrip("_-. ")
    return stem or path.stem


def _pieces(path: Path, files: Sequence[Path], select: str | None) -> list[Path]:
    """The numbered pieces of one data set among files.

    Raises:
        UserError: there are several data sets, and none is selected.
    """
    groups: dict[str, list[Path]] = {}
    for file in sorted(files, key=natural):
        groups.setdefault(re.sub(r"_\d+$", "", file.stem), []).append(file)
    if len(groups) > 1 and select not in groups:
        raise UserError(f"{path} holds {', '.join(groups)}; say which with select=...")
    return groups[select] if select in groups else next(iter(groups.values()))


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


def open(path: Source, hints: Hints | None = None, *, select: str | None = None) -> Dataset:
    """Open a dataset, native or foreign, found out by content. Fields are read only when asked for.

    Args:
        path: a folder or a file; or several files that make one dataset, as a list or a pattern such as
            "mine/*.npy". In a folder of the neuraloperator project also `folder/problem`, such as
            ".../neuraloperator/burgers", which need not exist as a file.
        hints: what a foreign file does not say.
        select: which problem of such a folder ("darcy" is taken where there are several, with a note), or which
            scenario or data set of a folder that holds several.

    Raises:
        UserError: there is nothing, it is cut off, its layout is not known, or it does not say what a hint has to.
    """
    hints = hints or Hints()
    with understood(path):
        return _divided(_undivided(path, hints, select), hints)


def _undivided(path: Source, hints: Hints, select: str | None) -> Dataset:
    """The dataset with the splits of its source."""
    if isinstance(path, str | os.PathLike):
        if isinstance(path, str) and re.search(r"[*?\[]", path) and not Path(path).exists():
            matches = [Path(p) for p in glob.glob(path)]
            if not matches:
                raise UserError(f"{path} matches no file.")
            return _open_several(matches, hints)
        return _open(Path(path), hints, select)
    if not path:
        raise UserError("open got an empty list; give the folder or file of a dataset.")
    return _open_several([Path(p) for p in path], hints)


def _divided(dataset: Dataset, hints: Hints) -> Dataset:
    """The dataset, split as the hints say where its source has no splits.

    Raises:
        UserError: it has splits of its own.
    """
    if hints.split is None or dataset.kind in ("native", "poseidon"):
        return dataset  # the one needs none, the other goes by position
    if len(dataset.splits) > 1:
        raise UserError(
            f"{dataset.path} has the splits {', '.join(dataset.splits)} already; leave hints.split out."
        )
    (whole,) = dataset.splits.values()
    splits = divide(whole, hints.split)
    note = "samples were drawn into " + ", ".join(f"{len(s)} {name}" for name, s in splits.items())
    return replace(dataset, splits=splits, notes=(*dataset.notes, f"{note}, always the same ones"))


def _open_several(paths: Sequence[Path], hints: Hints) -> Dataset:
    """Several files as one dataset."""
    missing = [p for p in paths if not p.is_file()]
    if missing and len(paths) > 1:
        raise UserError(f"{missing[0]} is no file; several paths are files of one dataset.")
    if len(paths) == 1:
        return _open(paths[0], hints, None)
    folder = Path(os.path.commonpath([p.absolute().parent for p in paths]))
    files = _by_split(paths)
    if all(_is_hdf5(p) for p in paths):
        return _hdf5(folder, files, hints)
    if zarr := [p for p in paths if is_zarr(p)]:
        return read_labelled(folder, _by_split(zarr), hints, zarr=True)
    return read_arrays(folder, files, hints)


def _open(path: Path, hints: Hints, select: str | None) -> Dataset:
    if not path.exists():
        if path.parent.is_dir() and path.name in neuraloperator.problems(path.parent):
            found = _torch_folder(path.parent, path.name, hints)
            assert found is not None  # the problem is there
            return found
        raise UserError(f"{path} does not exist. Give the folder or file of a dataset.")
    return _open_file(path, hints) if path.is_file() else _open_folder(path, hints, select)


def _open_file(path: Path, hints: Hints) -> Dataset:
    head, one = _head(path), {_split_of(path): [path]}
    if head == _HDF5:
        return _hdf5(path, one, hints)
    if is_mesh_memory(path):
        return read_mesh_memory(path, hints)
    if is_arrays(path):
        return read_arrays(path, one, hints)
    if neuraloperator.is_torch_file(head):
        if is_autocast(path):
            name = path.parent.name if path.parent.name in schema.SPLITS else "train"
            return read_autocast(path, {name: path}, hints)
        return neuraloperator.read_torch(path, {_split_of(path): path}, hints)
    if is_tfrecord(path):
        return _tfrecord(path, hints)
    if is_apebench(path):
        return read_apebench(path, hints)
    if head.startswith(b"CDF"):
        raise UserError(
            f"{path} is classic NetCDF; make it NetCDF4, with `nccopy -k nc4 {path.name} new.nc`."
        )
    raise UserError(f"{path} holds nothing that is known here. Expected {KNOWN}.")


def _open_folder(path: Path, hints: Hints, select: str | None) -> Dataset:
    native = open_native(path)
    if native is not None:
        return native
    files = _split_files(path)
    if files:
        return with_manifest(_hdf5(path, files, hints), path)
    if is_zarr(path):
        return read_labelled(path, {_split_of(path): [path]}, hints, zarr=True)
    if is_lagrangebench(path):
        return read_lagrangebench(path, hints)
    if is_meshgraphnets(path):
        return read_meshgraphnets(path, hints)
    if is_gns(path):
        return read_gns(path, hints)
    if is_mesh_memory(path):
        return read_mesh_memory(path, hints)
    there = scenarios(path)
    if there:
        if len(there) > 1 and select not in there:
            raise UserError(f"{path} holds the scenarios {', '.join(there)}; say which with select=...")
        return read_apebench(there[select] if select in there else next(iter(there.values())), hints)
    dataset = _torch_folder(path, select, hints)
    if dataset is not None:
        return dataset
    if tensors := autocast_files(path):
        return read_autocast(path, tensors, hints)
    if folders := cases(path):
        return read_cfdbench(path, folders, hints)
    inside = sorted((p for p in path.iterdir() if not p.name.startswith(".")), key=natural)
    own_name = path.name if path.name in schema.SPLITS else None
    loose = [p for p in inside if _is_hdf5(p)]
    if loose:
        return _hdf5(path, {own_name: loose} if own_name else _by_split(loose), hints, select)
    stores = [p for p in inside if is_zarr(p)]
    if stores:
        return read_labelled(path, _by_split(stores), hints, zarr=True)
    for pick in (_tree, _own_arrays):
        parts = {p.name: pick(p) for p in inside if p.is_dir() and p.name in schema.SPLITS}
        found: dict[str, Sequence[Path]] = {
            name: parts[name] for name in sorted(parts, key=split_order) if parts[name]
        }
        files = found or _by_split(pick(path))
        if files:
            return _hdf5(path, files, hints) if pick is _tree else read_arrays(path, files, hints)
    raise UserError(
        f"{path} holds no dataset: no data/<split>/*.hdf5 and no known files. Expected {KNOWN}."
    )


def _tree(folder: Path) -> list[Path]:
    """One file per run, as the generator of PDEArena's shallow water leaves them."""
    return sorted((p for p in folder.glob("seed=*/run*/*.nc") if _is_hdf5(p)), key=natural)


def _own_arrays(folder: Path) -> list[Path]:
    """Files of arrays in a folder."""
    return [p for p in folder.iterdir() if p.suffix.lower() in ENDINGS and is_arrays(p)]
