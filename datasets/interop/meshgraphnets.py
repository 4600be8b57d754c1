"""Read and write the folders of MeshGraphNets (Pfaff et al. 2021): meta.json and a TFRecord file per split.

meta.json says of each array whether it is static, dynamic, or dynamic with a length per frame, how wide it is
and of which type; a record holds the arrays of one trajectory as raw bytes. States are mapped where they lie.

The particles of the same authors (Sanchez-Gonzalez et al. 2020) come as metadata.json and TFRecord files with
an entry per frame, and are read as well.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sciml.datasets import schema
from sciml.datasets.blocks import Raw, Variable
from sciml.datasets.dataset import Dataset, Hints
from sciml.datasets.interop.graphs import fields_of_width, make_mesh, mesh_splits
from sciml.datasets.interop.lagrangebench import Boxes, read_object, step_of
from sciml.datasets.interop.tfrecord import Example, RecordBlock, Spaced, read_examples, write_example
from sciml.datasets.splits import Pairs, Split
from sciml.datasets.writer import whole_file, write_json
from sciml.domains import AXIS_NAMES, Mesh
from sciml.errors import UserError
from sciml.trajectory import Field, Trajectory, channel_names

MESH = ("mesh_pos", "cells", "node_type")
EXACT = "mesh_pos_float64"
"""Node coordinates that float32 would round, in a feature of their own."""
PARAMETER = "parameter_"
"""Start of the name of a static feature (1, 1, 1) that holds a parameter of the trajectory."""
OURS = "sciml"
"""Key of meta.json under which we keep what it has no place for; other readers pass over it."""

_TYPES = {"float32": "<f4", "float64": "<f8", "int32": "<i4", "int64": "<i8"}


# Reading -----------------------------------------------------------------------------------------------------


def _records(folder: Path) -> dict[str, Path]:
    """The files of a folder by split."""
    found = {path.stem: path for path in folder.glob("*.tfrecord") if path.is_file()}
    order = [*(s for s in schema.SPLITS if s in found), *sorted(set(found) - set(schema.SPLITS))]
    return {name: found[name] for name in order}


def is_meshgraphnets(path: Path) -> bool:
    """Whether a folder has meta.json and records, or a file of records lies in one, by content."""
    folder = path if path.is_dir() else path.parent
    return (folder / "meta.json").is_file() and bool(_records(folder))


@dataclass(frozen=True)
class _Feature:
    """What meta.json says of an array: its kind, entries along the first axis, width, and type."""

    name: str
    kind: str
    width: int
    dtype: str

    @property
    def size(self) -> int:
        """Bytes of a node or cell in one frame."""
        return self.width * np.dtype(self.dtype).itemsize


def _features(path: Path, meta: Mapping[str, Any]) -> tuple[dict[str, _Feature], list[str]]:
    given = meta.get("features")
    if not isinstance(given, dict) or not given:
        raise UserError(f"{path} has no mapping 'features' with the arrays of a record.")
    found, notes = {}, []
    for name, entry in given.items():
        entry = dict(entry) if isinstance(entry, dict) else {}
        if name == "sizing_field" and entry.get("dtype") not in _TYPES:
            # The published files of the sizing sets say 4 and no known type, of an array of three float32.
            entry |= {"dtype": "float32", "shape": [*list(entry.get("shape") or [-1])[:-1], 3]}
            notes.append(
                "meta.json is known to be wrong of sizing_field; took it as three values of float32"
            )
        shape: Any = entry.get("shape")
        fits = isinstance(shape, list) and len(shape) in (2, 3) and all(type(n) is int for n in shape)
        kind, dtype = str(entry.get("type")), str(entry.get("dtype"))
        if not fits or kind not in ("static", "dynamic", "dynamic_varlen") or dtype not in _TYPES:
            raise UserError(
                f"{path}: the feature {name!r} is described as {json.dumps(entry)[:200]}; expected type static, dynamic "
                f"or dynamic_varlen, a shape such as [600, -1, 2], and a dtype of {', '.join(_TYPES)}."
            )
        width = shape[-1]
        if not 1 <= width <= 1 << 16:
            raise UserError(
                f"{path}: the feature {name!r} is {width} wide; expected at least one component."
            )
        found[name] = _Feature(name, kind, width, _TYPES[dtype])
    missing = [name for name in ("mesh_pos", "cells") if name not in found]
    if missing:
        raise UserError(f"{path} describes no {' and no '.join(missing)}, without which there is no mesh.")
    return found, notes


class _Arrays:
    """The arrays of one record: where each begins in each frame, and how many nodes or cells it has there."""

    def __init__(
        self, path: Path, example: Example, features: Mapping[str, _Feature], frames: int, data: np.ndarray
    ) -> None:
        self.path, self.example, self.features, self.data = path, example, features, data
        self.place = f"{path}: the record at byte {example.record.offset - 12}"
        lengths = [self._lengths(f) for f in features.values() if f.kind == "dynamic_varlen"]
        if lengths:
            frames = len(lengths[0])
        if frames > example.record.size:  # before anything of that length is made
            raise UserError(
                f"{self.place} has {example.record.size} bytes, which cannot hold {frames} frames."
            )
        self.frames = frames
        self.starts: dict[str, np.ndarray] = {}
        self.counts: dict[str, np.ndarray] = {}
        for name, feature in features.items():
            offset, size = self._span(name)
            if feature.kind == "dynamic_varlen":
                counts = self._lengths(feature)
            else:
                rows = 1 if feature.kind == "static" else frames
                counts = np.full(frames, size // max(1, rows * feature.size), dtype=np.int64)
            step = 0 if feature.kind == "static" else feature.size
            ends = np.cumsum(counts) * step
            total = int(counts[0]) * feature.size if feature.kind == "static" else int(ends[-1])
            if len(counts) != frames or total != size or not frames:
                raise UserError(
                    f"{self.place} has {size} bytes of {name!r}; that is no whole number of frames ({frames}) of "
                    f"{feature.width} values of {feature.dtype}. meta.json and the record do not belong together."
                )
            self.starts[name] = offset + ends - counts * step
            self.counts[name] = counts

    def _span(self, name: str) -> tuple[int, int]:
        spans = self.example.features.get(name, ())
        if len(spans) != 1:
            raise UserError(
                f"{self.place} has {len(spans)} arrays of raw bytes under {name!r}; expected one. It has "
                f"{', '.join(sorted(self.example.features)[:12]) or 'nothing'}."
            )
        return spans[0]

    def _lengths(self, feature: _Feature) -> np.ndarray:
        offset, size = self._span(f"length_{feature.name}")
        counts = self.data[offset : offset + size - size % 4].view("<i4").astype(np.int64)
        if not len(counts) or int(counts.min()) < 0 or int(counts.max()) > self.example.record.size:
            raise UserError(f"{self.place} has impossible numbers of rows in 'length_{feature.name}'.")
        return counts

    def bytes(self, name: str, frame: int) -> np.ndarray:
        """The bytes of an array in one frame."""
        start, feature = int(self.starts[name][frame]), self.features[name]
        return self.data[start : start + int(self.counts[name][frame]) * feature.size]

    def values(self, name: str, frame: int) -> np.ndarray:
        """An array in one frame, (rows, width)."""
        feature = self.features[name]
        schema.require_memory(8 * len(self.bytes(name, frame)), f"The array {name!r} of {self.place}")
        return self.bytes(name, frame).view(feature.dtype).reshape(-1, feature.width)

    def runs(self, fields: Sequence[str]) -> Iterator[tuple[int, int]]:
        """(first, behind the last) frame of the stretches in which the mesh stays the same."""
        mesh = [name for name in (*MESH, EXACT) if name in self.features]
        if all(self.features[name].kind == "static" for name in mesh):
            yield 0, self.frames
            return
        start = 0
        for frame in range(1, self.frames + 1):
            if frame == self.frames or not all(
                np.array_equal(self.bytes(name, frame - 1), self.bytes(name, frame)) for name in mesh
            ):
                yield start, frame
                start = frame


def read_meshgraphnets(path: Path, hints: Hints) -> Dataset:
    """Open such a folder, or one of its files.

    Trajectories whose mesh changes from frame to frame are read as stretches of the same mesh, each with its own
    times; the parameter "trajectory" says which belong together.

    Raises:
        UserError: meta.json or a record is damaged or does not fit the other, or the time step is missing.
    """
    folder = path if path.is_dir() else path.parent
    meta = read_object(folder / "meta.json")
    features, notes = _features(folder / "meta.json", meta)
    ours = meta.get(OURS) if isinstance(meta.get(OURS), dict) else None
    length: Any = meta.get("trajectory_length")
    wants = any(f.kind == "dynamic" for f in features.values())
    if wants and (type(length) is not int or not 1 <= length <= 1 << 31):
        raise UserError(
            f"{folder / 'meta.json'} has trajectory_length {length!r}; expected a number of frames."
        )
    dt, more = step_of(folder / "meta.json", meta, hints)
    notes += more
    reader = _Reader(features, length if wants else 1, dt, hints, ours)
    splits: dict[str, Split | Pairs] = {}
    for name, file in _records(folder).items() if path.is_dir() else [(path.stem, path)]:
        splits[name] = reader.split(name, file)
    notes += reader.notes
    if path.is_dir():  # splits of another length, which we write into folders of their own
        for inner in sorted(p for p in path.iterdir() if p.is_dir() and p.name not in splits):
            if ours and is_meshgraphnets(inner):
                splits |= read_meshgraphnets(inner, hints).splits
    order = [*(s for s in schema.SPLITS if s in splits), *(s for s in splits if s not in schema.SPLITS)]
    constants = {
        key: float(value)
        for key, value in (
            ours["constants"] if ours and isinstance(ours.get("constants"), dict) else meta
        ).items()
        if type(value) in (int, float) and key not in ("trajectory_length", "dt") and math.isfinite(value)
    }
    name = str(ours["name"]) if ours and "name" in ours else path.stem
    known = {s: splits[s] for s in order}
    return Dataset(path, name, "meshgraphnets", known, constants, tuple(dict.fromkeys(notes)))


class _Reader:
    """Reads the splits of one folder; meshes that come again are shared."""

    def __init__(
        self,
        features: Mapping[str, _Feature],
        frames: int,
        dt: float,
        hints: Hints,
        ours: Mapping[str, Any] | None,
    ) -> None:
        self.features, self.frames, self.dt, self.hints, self.ours = features, frames, dt, hints, ours
        self.meshes: dict[str, Mesh] = {}
        self.parameters = [
            name
            for name, f in features.items()
            if name.startswith(PARAMETER) and f.kind == "static" and f.width == 1
        ]
        special = {*MESH, EXACT, *self.parameters}
        self.names = [name for name in features if name not in special]
        if not self.names:
            raise UserError("meta.json describes a mesh and no field on it.")
        dimension = features["mesh_pos"].width
        fields = [f for name in self.names for f in fields_of_width(name, features[name].width, dimension)]
        self.fields = tuple(fields)
        width = len(channel_names(self.fields, dimension)) if dimension in (2, 3) else 0
        for given, of in ((hints.fields, "hints"), (_fields(ours), OURS)):
            if given and (of == OURS or not ours):
                if len(channel_names(given, dimension)) != width:
                    raise UserError(
                        f"The fields of {of} have {len(channel_names(given, dimension))} channels; the records have {width}."
                    )
                self.fields = given
        times = (ours or {}).get("times")
        self.times: Tensor | None = None
        if isinstance(times, list) and len(times) == frames and all(type(t) in (int, float) for t in times):
            self.times = torch.tensor(times, dtype=torch.float64)
        self.notes = [
            f"the array {name!r} does not change in time; it is repeated in every frame, without being stored again"
            for name in self.names
            if features[name].kind == "static"
        ]

    def split(self, name: str, path: Path) -> Split:
        blocks: list[RecordBlock] = []
        domains: list[Mesh] = []
        times: list[Tensor] = []
        values: dict[str, list[float]] = {p.removeprefix(PARAMETER): [] for p in self.parameters}
        origins: list[float] = []
        data = np.memmap(path, np.uint8, "r") if path.stat().st_size else np.zeros(0, np.uint8)
        clock = self.times
        for number, example in enumerate(read_examples(path)):
            arrays = _Arrays(path, example, self.features, self.frames, data)
            if clock is None or len(clock) != arrays.frames:
                clock = torch.arange(arrays.frames, dtype=torch.float64) * self.dt
            found = {p: arrays.values(p, 0).reshape(-1) for p in self.parameters}
            for first, stop in arrays.runs(self.names):
                mesh = self._mesh(arrays, first)
                raws = [self._raw(arrays, f, first, stop, mesh.shape[0]) for f in self.names]
                channels = sum(self.features[f].width for f in self.names)
                blocks.append(
                    RecordBlock(path, example.record, raws, (1, stop - first, channels, mesh.shape[0]))
                )
                domains.append(mesh)
                times.append(clock if stop - first == len(clock) else clock[first:stop])
                origins.append(float(number))
                for p, array in found.items():
                    if len(array) != 1:
                        raise UserError(f"{arrays.place} has {len(array)} values of {p!r}; expected one.")
                    values[p.removeprefix(PARAMETER)].append(float(array[0]))
        if not blocks:
            raise UserError(f"{path} holds no trajectory.")
        if len(blocks) > len(set(origins)):
            values["trajectory"] = origins
            self.notes.append(
                "the mesh changes along trajectories: each stretch with one mesh is a sample with its own times, and "
                "the parameter 'trajectory' says which belong together"
            )
        return mesh_splits(name, self.fields, blocks, domains, times, values)

    def _mesh(self, arrays: _Arrays, frame: int) -> Mesh:
        position = EXACT if EXACT in self.features else "mesh_pos"
        types = arrays.values("node_type", frame) if "node_type" in self.features else None
        mesh = make_mesh(arrays.place, arrays.values(position, frame), arrays.values("cells", frame), types)
        return self.meshes.setdefault(schema.mesh_digest(mesh), mesh)

    def _raw(self, arrays: _Arrays, name: str, first: int, stop: int, nodes: int) -> Raw:
        feature = self.features[name]
        if not bool((arrays.counts[name][first:stop] == nodes).all()):
            raise UserError(
                f"{arrays.place} has {int(arrays.counts[name][first])} values of {name!r} on a mesh of {nodes} nodes."
            )
        offset = int(arrays.starts[name][first])
        if feature.kind == "static":
            return Raw(offset, feature.dtype, (nodes, feature.width), Variable(name, "xc", feature.width))
        shape = (stop - first, nodes, feature.width)
        return Raw(offset, feature.dtype, shape, Variable(name, "txc", feature.width))


def _fields(ours: Mapping[str, Any] | None) -> tuple[Field, ...]:
    """The fields that our own writer noted, or none."""
    try:
        return (
            tuple(Field(str(f["name"]), str(f["unit"]), int(f["rank"])) for f in ours["fields"])
            if ours
            else ()
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"meta.json: the fields under {OURS!r} are damaged: {error!r}.") from error


# Particles ---------------------------------------------------------------------------------------------------


def is_gns(path: Path) -> bool:
    """Whether a folder holds particles as metadata.json and records, or a file of records lies in one."""
    folder = path if path.is_dir() else path.parent
    return (folder / "metadata.json").is_file() and bool(_records(folder))


def read_gns(path: Path, hints: Hints) -> Dataset:
    """Open such a folder, or one of its files.

    Positions are the state, and inputs per step are further channels, equal everywhere.

    Raises:
        UserError: metadata.json or a record is damaged.
    """
    place = (path if path.is_dir() else path.parent) / "metadata.json"
    metadata = read_object(place)
    boxes = Boxes(place, metadata, hints)
    dt, notes = step_of(place, metadata, hints)
    width = boxes.dimension
    splits: dict[str, Split | Pairs] = {}
    for name, file in _records(path).items() if path.is_dir() else [(path.stem, path)]:
        blocks: list[RecordBlock] = []
        domains, times = [], []
        fields: tuple[Field, ...] = ()
        data = np.memmap(file, np.uint8, "r") if file.stat().st_size else np.zeros(0, np.uint8)
        for example in read_examples(file):
            where = f"{file}: the record at byte {example.record.offset - 12}"
            raws, found = [], [Field("position", rank=1)]
            raws.append(_frames(where, example, "position", 4 * width))
            frames, count = raws[0].shape[0], raws[0].shape[1] // width
            raws[0] = replace(
                raws[0], shape=(frames, count, width), variable=Variable("position", "txc", width)
            )
            if "step_context" in example.lists:
                given = _frames(where, example, "step_context", 4)
                if given.shape[0] != frames:
                    raise UserError(
                        f"{where} has {given.shape[0]} entries of 'step_context' for {frames} frames."
                    )
                wide = given.shape[1]
                raws.append(replace(given, variable=Variable("step_context", "tc", wide)))
                found += [Field("step_context" if wide == 1 else f"step_context_{i}") for i in range(wide)]
            if fields and fields != tuple(found):
                raise UserError(f"{where} has other inputs per step than the records before it.")
            fields = tuple(found)
            channels = len(channel_names(fields, width))
            blocks.append(RecordBlock(file, example.record, raws, (1, frames, channels, count)))
            domains.append(boxes.of(_types(where, example, data, count)))
            times.append(torch.arange(frames, dtype=torch.float64) * dt)
        if not blocks:
            raise UserError(f"{file} holds no trajectory.")
        splits[name] = mesh_splits(name, fields, blocks, domains, times, {})
    return Dataset(path, path.stem, "gns", splits, {}, (*notes, *boxes.notes))


def _frames(where: str, example: Example, name: str, size: int) -> Spaced:
    """The entries of a list, one per frame, as one array whose rows lie apart: (T, values)."""
    spans = example.lists.get(name, ())
    if not spans or len({count for _, count in spans}) != 1 or not spans[0][1] or spans[0][1] % size:
        raise UserError(
            f"{where} has {len(spans)} entries of {name!r} of {sorted({c for _, c in spans})[:4]} bytes; expected one "
            f"per frame, all of a multiple of {size} bytes."
        )
    steps = {b - a for (a, _), (b, _) in zip(spans, spans[1:], strict=False)} or {spans[0][1]}
    if len(steps) != 1:
        raise UserError(f"{where}: the entries of {name!r} lie at uneven distances, as nobody writes them.")
    shape = (len(spans), spans[0][1] // 4)
    return Spaced(spans[0][0], "<f4", shape, Variable(name, "tc", shape[1]), steps.pop())


def _types(where: str, example: Example, data: np.ndarray, count: int) -> np.ndarray | None:
    spans = example.features.get("particle_type", ())
    if not spans:
        return None
    offset, size = spans[0]
    if size != 8 * count:
        raise UserError(f"{where} has {size} bytes of particle types; expected int64 of {count} particles.")
    return data[offset : offset + size].view("<i8")


# Writing -----------------------------------------------------------------------------------------------------


def _written_features(fields: Sequence[Field], dimension: int) -> list[tuple[str, int]]:
    """Arrays (name, width) for the fields; x, y and z of a quantity on a surface become one array again."""
    names: list[tuple[str, int]] = []
    place = 0
    while place < len(fields):
        f = fields[place]
        stem = re.sub("_x$", "", f.name)
        three = [Field(f"{stem}_{axis}", f.unit) for axis in AXIS_NAMES]
        if dimension == 2 and f.name != stem and list(fields[place : place + 3]) == three:
            names.append((stem, 3))
            place += 3
        else:
            names.append((f.name, dimension**f.rank))
            place += 1
    return names


def write_meshgraphnets(dataset: Dataset, dst: Path, progress: Callable[[int], None]) -> tuple[str, ...]:
    """Write trajectories on meshes as meta.json and a TFRecord file per split.

    meta.json gives one length for all its files, so a split whose times differ from the first one's gets a folder
    of its own inside `dst`. Parameters of the samples are static arrays of one value, named "parameter_...";
    exact times, units and constants stand in meta.json under a key that other readers pass over.

    Returns:
        What was lost or had to be given.

    Raises:
        UserError: the data are no trajectories on meshes, differ in length within a split, or two arrays would have
            the same name; nothing is written then.
    """
    splits = _meshes_only(dataset)
    first = next(iter(splits.values()))
    dimension = first.domain_of(0).dimension
    arrays = _written_features(first.fields, dimension)
    names = [name for name, _ in arrays]
    parameters = list(first.parameters)
    taken = [
        n
        for n in names
        if n in (*MESH, EXACT) or n.startswith((PARAMETER, "length_")) or names.count(n) > 1
    ]
    if taken:
        raise UserError(
            f"{dataset.path} has fields {taken}, names that mean something else in this layout. Rename them."
        )
    meshes = {id(d): d for s in splits.values() for d in s.domains}.values()
    exact = any(bool((m.points.float().double() != m.points).any()) for m in meshes if isinstance(m, Mesh))
    notes: list[str] = []
    described: set[Path] = set()
    done = 0
    for name, split in splits.items():
        folder = dst if torch.equal(split.times, first.times) else dst / name
        if folder not in described:
            described.add(folder)
            features = _meta_features(arrays, parameters, dimension, split.frames, exact)
            write_json(folder / "meta.json", _meta(dataset, split, features))
        if folder != dst:
            notes.append(
                f"the split {name!r} has {split.frames} frames or other times than the first; it lies in a folder "
                f"{name!r} with its own meta.json, which gives one length for all its files"
            )
        with whole_file(folder / f"{name}.tfrecord") as part, part.open("wb") as file:
            for _, piece in split.pieces():
                for sample in range(len(piece)):
                    write_example(file, _arrays_of(piece, sample, arrays, exact))
                    done += 1
                    progress(done)
    if exact:
        notes.append(
            f"node coordinates do not fit float32; the exact ones are stored once more as {EXACT!r}"
        )
    return tuple(notes)


def _meta(dataset: Dataset, split: Split, features: Mapping[str, Any]) -> dict[str, Any]:
    times = split.times
    return {
        "simulator": dataset.name,
        "dt": float(times[1] - times[0]) if len(times) > 1 else 0.0,
        "trajectory_length": len(times),
        "field_names": list(features),
        "features": features,
        OURS: {
            "name": dataset.name,
            "fields": json.loads(schema.fields_json(split.fields)),
            "times": times.tolist(),
            "constants": dict(dataset.constants),
        },
    }


def _meshes_only(dataset: Dataset) -> dict[str, Split]:
    """The splits, once it is clear that all of them can be written."""
    splits: dict[str, Split] = {}
    for name, split in dataset.splits.items():
        if not isinstance(split, Split):
            raise UserError(
                f"{dataset.path} holds static pairs; MeshGraphNets' layout holds trajectories. Choose native."
            )
        other = next((d for d in split.domains if not isinstance(d, Mesh)), None)
        if other is not None:
            raise UserError(
                f"{dataset.path} lies on a {type(other).__name__}; MeshGraphNets' layout holds trajectories on meshes. "
                "Choose native or the_well for grids, lagrangebench for particles."
            )
        if len({(len(t), tuple(t.tolist())) for t in split.block_times}) != 1:
            raise UserError(
                f"The trajectories of split {name!r} have different times; MeshGraphNets' meta.json gives one length and "
                "step for all. Choose native."
            )
        splits[name] = split
    return splits


def _meta_features(
    arrays: Sequence[tuple[str, int]], parameters: Sequence[str], dimension: int, frames: int, exact: bool
) -> dict[str, dict[str, Any]]:
    features: dict[str, dict[str, Any]] = {
        "cells": {"type": "static", "shape": [1, -1, dimension + 1], "dtype": "int32"},
        "mesh_pos": {"type": "static", "shape": [1, -1, dimension], "dtype": "float32"},
        "node_type": {"type": "static", "shape": [1, -1, 1], "dtype": "int32"},
    }
    if exact:
        features[EXACT] = {"type": "static", "shape": [1, -1, dimension], "dtype": "float64"}
    for name, width in arrays:
        features[name] = {"type": "dynamic", "shape": [frames, -1, width], "dtype": "float32"}
    for name in parameters:
        features[PARAMETER + name] = {"type": "static", "shape": [1, 1, 1], "dtype": "float64"}
    return features


def _arrays_of(
    piece: Trajectory, sample: int, arrays: Sequence[tuple[str, int]], exact: bool
) -> dict[str, np.ndarray]:
    mesh = piece.domain
    assert isinstance(mesh, Mesh)  # looked at before anything was written
    found = {
        "cells": mesh.cells.numpy().astype(np.int32),
        "mesh_pos": mesh.points.numpy().astype(np.float32),
        "node_type": mesh.types.numpy().astype(np.int32),
    }
    if exact:
        found[EXACT] = mesh.points.numpy()
    start = 0
    for name, width in arrays:
        found[name] = piece.data[sample, :, start : start + width].transpose(1, 2).contiguous().numpy()
        start += width
    for name, values in piece.parameters.items():
        found[PARAMETER + name] = values.reshape(len(piece))[sample : sample + 1].double().numpy()
    return found
