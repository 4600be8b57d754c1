"""Open a dataset of ours by its manifest, without a look into its files.

What a split needs (numbers of samples, parameters, times, fields, domain) stands in the manifest, so that
a folder of very many files opens at once. Each file is checked when it is first read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from sciml.datasets import manifest as manifests
from sciml.datasets import schema
from sciml.datasets.blocks import Block, FileBlock, MappedBlock, Raw, Variable
from sciml.datasets.dataset import Dataset, Hints
from sciml.datasets.splits import Pairs, Split
from sciml.domains import Domain, Mesh
from sciml.errors import UserError
from sciml.trajectory import Field, channel_names

_SHARD = re.compile(r"data/([^/]+)/(shard-\d{5,12}\.hdf5)")

UNFINISHED = "generation did not finish; run the same generate command again"


def with_manifest(dataset: Dataset, folder: Path) -> Dataset:
    """A dataset that was opened file by file, with its manifest and certificate where it has them.

    Raises:
        UserError: one of them is damaged.
    """
    content = manifests.read_manifest(folder)
    if content.get("format") != schema.FORMAT:
        return dataset
    notes = dataset.notes if content.get("complete") else (*dataset.notes, UNFINISHED)
    return replace(dataset, kind="native", notes=notes, manifest=content, certificate=_certificate(folder))


def _certificate(folder: Path) -> dict[str, Any] | None:
    from sciml.datasets.reader import read_json

    path = folder / "certificate.json"
    return read_json(path) if path.is_file() else None


def open_native(folder: Path) -> Dataset | None:
    """The dataset behind a manifest that says all that is needed; None if there is none, or no shard.

    Raises:
        UserError: the manifest is damaged.
    """
    content = manifests.read_manifest(folder)
    if content.get("format") != schema.FORMAT or content.get("format_version", 1) < 2:
        return None
    if not content.get("shards"):
        return None
    try:
        with manifests.without_collection():
            return _open(folder, content)
    except (KeyError, TypeError, AttributeError, IndexError, OverflowError, RuntimeError) as error:
        raise UserError(_damaged(folder, repr(error))) from error
    except ValueError as error:
        if isinstance(error, UserError):
            raise
        raise UserError(_damaged(folder, str(error))) from error


def _damaged(folder: Path, why: str) -> str:
    return f"{folder / manifests.NAME} is damaged: {why}. Restore it, or delete it to open the files one by one."


def _open(folder: Path, content: Mapping[str, Any]) -> Dataset:
    by_split = _by_split(folder, content)
    there: dict[str, list[Mapping[str, Any]]] = {}
    notes, missing = [], []
    for split, entries in by_split.items():
        with (
            os.scandir(folder / "data" / split)
            if (folder / "data" / split).is_dir()
            else _nothing() as found
        ):
            names = {file.name for file in found}
        there[split] = []
        for entry in entries:
            if entry["file"].rpartition("/")[2] in names:
                there[split].append(entry)
            else:
                missing.append(entry["file"])
    if missing:
        notes.append(
            f"{len(missing)} files of the manifest are missing, {missing[0]} first; generate makes them again"
        )
    there = {split: entries for split, entries in there.items() if entries}
    if not there:
        raise UserError(
            f"{folder} has a manifest and none of its files: {missing[0] if missing else 'data'} is missing. "
            "Restore data/, or run the same generate command again."
        )
    if not content.get("complete"):
        notes.append(UNFINISHED)

    fields, inputs = _fields(content["fields"]), _fields(content["input_fields"])
    domain = _domain(folder, content["domain"], there)
    splits: dict[str, Split | Pairs] = {}
    for split, entries in there.items():
        steps = 0 if inputs else content["splits"][split]["steps"]
        schema.require_memory(8 * (steps + 1), f"{folder / manifests.NAME}: the times of split {split!r}")
        times = torch.arange(steps + 1, dtype=torch.float64) * float(content["dt"])
        parameters = {
            name: torch.tensor([v for e in entries for v in e["parameters"][name]], dtype=torch.float64)
            for name in entries[0]["parameters"]
        }
        samples = sum(entry["samples"] for entry in entries)
        for name, values in parameters.items():
            if len(values) != samples:
                raise ValueError(f"{len(values)} values of {name!r} for {samples} samples of {split!r}")
        if isinstance(domain, Mesh):
            blocks = _mesh_blocks(folder, entries, fields, domain, len(times))
            splits[split] = Split(split, fields, blocks, (domain,), (times,), parameters)
            continue
        blocks = _blocks(folder, entries, fields, domain, len(times), True)
        if inputs:
            before = _blocks(folder, entries, inputs, domain, 1, False)
            splits[split] = Pairs(split, inputs, fields, before, blocks, domain, parameters)
        else:
            splits[split] = Split(split, fields, blocks, (domain,), (times,), parameters)
    constants = {str(name): float(value) for name, value in content["constants"].items()}
    name, certificate = str(content["name"]), _certificate(folder)
    return Dataset(folder, name, "native", splits, constants, tuple(notes), content, certificate)


class _nothing:
    """A folder that is not there, as `os.scandir` would give it."""

    def __enter__(self) -> tuple[os.DirEntry[str], ...]:
        return ()

    def __exit__(self, *fault: object) -> None:
        return None


def _by_split(folder: Path, content: Mapping[str, Any]) -> dict[str, list[Mapping[str, Any]]]:
    """Entries that have a file, by split in the usual order, each checked for what is taken from it."""
    found: dict[str, list[Mapping[str, Any]]] = {
        name: [] for name in sorted(content["splits"], key=split_order)
    }
    for entry in content["shards"]:
        match = _SHARD.fullmatch(entry["file"])
        if match is None or match[1] in (".", "..") or match[1] not in found:
            raise ValueError(f"it lists {entry['file']!r}, which is no shard of its splits")
        if type(entry["samples"]) is not int or entry["samples"] < 0:
            raise ValueError(f"{entry['file']} has {entry['samples']!r} samples")
        if entry["samples"]:
            found[match[1]].append(entry)
    for split, described in content["splits"].items():
        found[split].sort(key=lambda entry: entry["first_sample"])
        if type(described["steps"]) is not int or described["steps"] < 0:
            raise ValueError(f"split {split!r} has {described['steps']!r} steps")
    return found


def split_order(name: str) -> tuple[int, str]:
    """Sorts train, valid and test before other splits."""
    return (schema.SPLITS.index(name) if name in schema.SPLITS else len(schema.SPLITS), name)


def _fields(found: Sequence[Mapping[str, Any]]) -> tuple[Field, ...]:
    fields = tuple(Field(str(f["name"]), str(f["unit"]), f["rank"]) for f in found)
    for f in fields:
        if f.rank not in (0, 1, 2) or "/" in f.name:
            raise ValueError(f"field {f.name!r} of rank {f.rank!r}")
    return fields


def _domain(
    folder: Path, described: Mapping[str, Any], there: Mapping[str, Sequence[Mapping[str, Any]]]
) -> Domain:
    """The domain that all samples share; that of a mesh is read from the first file."""
    if described["kind"] in ("grid", "point"):
        return schema.domain_from_description(described)
    from sciml.datasets.interop.graphs import read_graphs

    split, entries = next(iter(there.items()))
    first = read_graphs(folder, {split: [folder / entries[0]["file"]]}, Hints())
    domain = first[split].domain_of(0)
    if not isinstance(domain, Mesh) or schema.mesh_digest(domain) != described["sha256"]:
        raise ValueError(f"its mesh is not the one in {entries[0]['file']}")
    return domain


def _blocks(
    folder: Path,
    entries: Sequence[Mapping[str, Any]],
    fields: Sequence[Field],
    domain: Any,
    frames: int,
    in_time: bool,
) -> tuple[Block, ...]:
    """One block a file, as the writer lays gridded fields out."""
    dimension = domain.dimension
    axes = ("nt" if in_time else "n") + schema.points_letters(dimension)
    variables = tuple(
        Variable(f"t{f.rank}_fields/{f.name}", axes + schema.components(f.rank), dimension**f.rank)
        for f in fields
    )
    shape = (frames, len(channel_names(fields, dimension)), *domain.shape)
    return tuple(_block(folder, e, variables, (e["samples"], *shape)) for e in entries)


def _block(
    folder: Path, entry: Mapping[str, Any], variables: Sequence[Variable], shape: tuple[int, ...]
) -> Block:
    """Where a block's values lie: by the manifest where it says so, without HDF5; else by the file."""
    places = entry.get("places") or {}
    if any(v.name not in places for v in variables):
        return FileBlock(folder / entry["file"], variables, shape)
    sizes = dict(zip("nt" + "xyz"[: len(shape) - 3], (*shape[:2], *shape[3:]), strict=True))
    arrays = []
    for v in variables:
        offset = places[v.name]
        if type(offset) is not int:
            raise ValueError(f"{entry['file']} has {v.name!r} at {offset!r}")
        arrays.append(Raw(offset, "<f4", tuple(sizes[a] if a in sizes else _width(v) for a in v.axes), v))
    return MappedBlock(folder / entry["file"], arrays, shape, size=entry["bytes"])


def _width(variable: Variable) -> int:
    """Length of each of the axes of components."""
    return round(variable.channels ** (1 / sum(a in "cd" for a in variable.axes)))


def _mesh_blocks(
    folder: Path, entries: Sequence[Mapping[str, Any]], fields: Sequence[Field], domain: Mesh, frames: int
) -> tuple[Block, ...]:
    """One block a sample, as the writer lays fields on a mesh out."""
    dimension = domain.dimension
    shape = (1, frames, len(channel_names(fields, dimension)), *domain.shape)
    return tuple(
        _block(
            folder,
            entry,
            [Variable(f"{sample}/{f.name}", "txc", dimension**f.rank) for f in fields],
            shape,
        )
        for entry in entries
        for sample in range(entry["samples"])
    )
