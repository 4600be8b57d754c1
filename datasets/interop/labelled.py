"""Read and write arrays with named dimensions: NetCDF4 files (which are HDF5) and Zarr stores.

Dimensions that are called time, x, y, z, lon, lat, sample, channel, ... say what the axes are; the meaning of others is
asked for. Coordinates give the grid and the times, the attribute `units` the units. Values stay where they lie and are
read by windows. Layout of the names: NetCDF Climate and Forecast conventions, and what xarray writes.
"""

from __future__ import annotations

import base64
import json
import math
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor

from sciml.datasets import schema
from sciml.datasets.blocks import Block, FileBlock, Variable, arrange
from sciml.datasets.dataset import Dataset, Hints
from sciml.datasets.interop import hdf5
from sciml.datasets.interop.asking import Lacking, frames_of, make_grid
from sciml.datasets.interop.imprint import NAME, Imprint, one_grid, read_imprint
from sciml.datasets.splits import Pairs, Split
from sciml.datasets.stored import child
from sciml.datasets.writer import PART
from sciml.domains import Grid
from sciml.errors import UserError
from sciml.extras import require
from sciml.trajectory import Field

MEANINGS: Mapping[str, tuple[str, ...]] = {
    "n": (
        "sample",
        "samples",
        "n",
        "b",
        "batch",
        "member",
        "ensemble",
        "realization",
        "trajectory",
        "run",
        "seed",
    ),
    "t": ("time", "times", "t"),
    "c": ("channel", "channels", "c", "component", "components"),
    "x": ("x", "lon", "longitude"),
    "y": ("y", "lat", "latitude"),
    "z": ("z", "lev", "level", "depth", "height", "altitude"),
}
"""Letter of an axis -> names of dimensions that say it, in lower case."""

_LETTERS = {name: letter for letter, names in MEANINGS.items() for name in names}
_NO_VARIABLE = "This is a netCDF dimension but not a netCDF variable"


@dataclass(frozen=True)
class _Array:
    """An array of a store: its dimensions by name, its shape, unit and packing."""

    name: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    unit: str
    packing: tuple[float, float, float | None]
    """Factor and offset of its values, and the value that stands for nothing."""


# NetCDF4 --------------------------------------------------------------------------------------------------


def is_netcdf(file: h5py.File) -> bool:
    """Whether an HDF5 file has arrays with named dimensions, by content."""
    for name in file:
        found = child(file, name)
        if isinstance(found, h5py.Dataset) and found.ndim > 1 and not found.is_scale:
            return all(_scales(found))
    return False


def _scales(found: h5py.Dataset) -> list[str]:
    """The dimension names of an array, empty where it has none."""
    names = []
    for axis in found.dims:
        try:
            names.append(axis[0].name.rpartition("/")[2] if len(axis) else "")
        except (OSError, RuntimeError, KeyError, ValueError, TypeError):
            names.append("")
    return names


class _NetCDF:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.notes: list[str] = []
        self.arrays: dict[str, _Array] = {}
        self.attributes: dict[str, Any] = {}
        with hdf5.opened(path) as file:
            for name in file:
                found = child(file, name)
                if not isinstance(found, h5py.Dataset) or found.dtype.kind not in "fiub":
                    continue
                label = hdf5.attribute(found, "NAME")
                if found.is_scale and schema.text(label or "").startswith(_NO_VARIABLE):
                    continue
                dims = (name,) if found.is_scale and found.ndim == 1 else tuple(_scales(found))
                found = hdf5.array(file, name)
                said = {key: hdf5.attribute(found, key) for key in _PACKING}
                unit = _unit(hdf5.attribute(found, "units"))
                self.arrays[name] = _Array(name, dims, found.shape, unit, _packing(said, f"{path}: {name}"))
            for key in file.attrs:
                self.attributes[key] = hdf5.attribute(file, key)

    def values(self, name: str) -> np.ndarray:
        with hdf5.opened(self.path) as file:
            return hdf5.values(file, name)

    def block(self, variables: Sequence[Variable], shape: tuple[int, ...]) -> Block:
        return FileBlock(self.path, variables, shape)


_PACKING = ("scale_factor", "add_offset", "_FillValue", "missing_value")


def _unit(value: Any) -> str:
    return str(schema.text(value)) if isinstance(value, str | bytes) and value else "1"


def _packing(
    said: Mapping[str, Any], place: str, dtype: np.dtype | None = None
) -> tuple[float, float, float | None]:
    try:
        number = {
            k: None
            if v is None
            else _from_base64(v, dtype)
            if isinstance(v, str) and dtype is not None
            else float(np.asarray(v).reshape(-1)[0])
            for k, v in said.items()
        }
    except (ValueError, TypeError, IndexError) as error:
        raise UserError(f"{place}: an attribute of {_PACKING} is no number.") from error
    factor, offset, fill, missing = (number.get(k) for k in _PACKING)
    nothing = fill if fill is not None else missing
    if nothing is not None and math.isnan(nothing):
        nothing = None  # NaN stands for itself
    return 1.0 if factor is None else factor, 0.0 if offset is None else offset, nothing


def _from_base64(text: str, dtype: np.dtype) -> float:
    """A number as xarray writes it into stores of version 3: the base64 of its bytes."""
    content = base64.standard_b64decode(text)
    wide = dtype if len(content) == dtype.itemsize else np.dtype("<f8")
    return float(np.frombuffer(content, wide, count=1)[0])


class _Unpacked:
    """A block whose channels are packed: value = factor * stored + offset, and NaN where nothing is stored."""

    def __init__(self, block: Block, packings: Sequence[tuple[float, float, float | None]]) -> None:
        self.block, self.packings, self.shape = block, packings, block.shape

    def parts(self) -> Sequence[tuple[slice, Any]]:
        return [(c, _Values(s, p)) for (c, s), p in zip(self.block.parts(), self.packings, strict=True)]


@dataclass(frozen=True)
class _Values:
    source: Any
    packing: tuple[float, float, float | None]

    def __getitem__(self, index: tuple[int, slice]) -> np.ndarray:
        raw = np.asarray(self.source[index])
        factor, offset, nothing = self.packing
        out = raw.astype(np.float64) * factor + offset
        return out if nothing is None else np.where(raw == raw.dtype.type(nothing), np.nan, out)


# Zarr -----------------------------------------------------------------------------------------------------

_CODECS = {
    "bytes",
    "blosc",
    "gzip",
    "zstd",
    "zlib",
    "lz4",
    "lzma",
    "bz2",
    "crc32c",
    "transpose",
    "shuffle",
    "delta",
}
"""Codecs that only move and pack numbers. Others, of which one unpickles, are refused."""
_DESCRIPTIONS = {"zarr.json", ".zarray", ".zattrs", ".zgroup"}
_TYPES = re.compile(r"[<>|=]?(f[248]|[iu][1248]|b1)|float(16|32|64)|u?int(8|16|32|64)|bool")
_LARGEST_CHUNK = 1 << 31
_LARGEST_TEXT = 1 << 22


def is_zarr(path: Path) -> bool:
    """Whether a folder is a Zarr store, of version 2 or 3."""
    return path.is_dir() and any((path / name).is_file() for name in ("zarr.json", ".zgroup"))


def _json(path: Path) -> dict[str, Any]:
    if path.is_symlink() or not path.is_file():
        return {}
    if path.stat().st_size > _LARGEST_TEXT:
        raise UserError(f"{path} is {path.stat().st_size} bytes; expected a short description of an array.")
    try:
        content = json.loads(path.read_text())
    except (ValueError, RecursionError, OSError) as error:
        raise UserError(
            f"{path} is not valid JSON: {error}. Restore it or make the store again."
        ) from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds {type(content).__name__}; expected a JSON object.")
    return content


def _whole(values: Any, place: Path) -> tuple[int, ...]:
    if (
        not isinstance(values, list)
        or not all(type(v) is int and v >= 0 for v in values)
        or len(values) > 8
    ):
        raise UserError(f"{place}: {str(values)[:80]} is no list of sizes.")
    return tuple(values)


class _Zarr:
    """Looks at the descriptions of all arrays before the library does, since codecs can run code."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.arrays: dict[str, _Array] = {}
        self.notes: list[str] = []
        self.blosc: dict[str, int] = {}
        """Arrays that are packed by Blosc -> bytes of a chunk of theirs."""
        root = _json(path / "zarr.json")
        self.attributes = root.get("attributes", {}) if root else _json(path / ".zattrs")
        if not isinstance(self.attributes, dict):
            raise UserError(f"{path}: its attributes are no JSON object.")
        for folder in sorted(p for p in path.iterdir() if p.is_dir() and not p.is_symlink()):
            try:
                found = self._new(folder) if root else self._old(folder)
            except (TypeError, AttributeError, KeyError) as error:
                raise UserError(f"{folder}: its description is damaged: {error}.") from error
            if found is not None:
                self.arrays[found.name] = found

    def _old(self, folder: Path) -> _Array | None:
        """The description of version 2."""
        said = _json(folder / ".zarray")
        if not said:
            return None
        codecs = [*(said.get("filters") or []), *([said["compressor"]] if said.get("compressor") else [])]
        names = [c.get("id") if isinstance(c, dict) else c for c in codecs]
        attributes = _json(folder / ".zattrs")
        dims = attributes.get("_ARRAY_DIMENSIONS") or ()
        return self._array(
            folder, said.get("shape"), said.get("chunks"), said.get("dtype"), names, attributes, dims
        )

    def _new(self, folder: Path) -> _Array | None:
        """The description of version 3."""
        said = _json(folder / "zarr.json")
        if said.get("node_type") != "array":
            return None
        codecs = said.get("codecs") or []
        names = [c.get("name") if isinstance(c, dict) else c for c in codecs]
        grid = said.get("chunk_grid")
        chunks = grid.get("configuration", {}).get("chunk_shape") if isinstance(grid, dict) else None
        attributes = said.get("attributes") or {}
        dims = said.get("dimension_names") or ()
        return self._array(
            folder, said.get("shape"), chunks, said.get("data_type"), names, attributes, dims
        )

    def _array(
        self,
        folder: Path,
        shape: Any,
        chunks: Any,
        dtype: Any,
        codecs: Sequence[Any],
        attributes: Any,
        dims: Any,
    ) -> _Array | None:
        if not isinstance(dtype, str) or not _TYPES.fullmatch(dtype):
            self.notes.append(
                f"the array {folder.name!r} has values of type {str(dtype)[:40]} and was left out"
            )
            return None
        sizes, pieces = _whole(shape, folder), _whole(chunks, folder)
        foreign = sorted({str(c)[:40] for c in codecs} - _CODECS)
        if foreign:
            raise UserError(
                f"{folder} is packed by {', '.join(foreign)}, which is not among the codecs that are read: "
                f"{', '.join(sorted(_CODECS))}. Write the store again with one of those."
            )
        if len(pieces) != len(sizes) or 0 in pieces or 8 * math.prod(pieces) > _LARGEST_CHUNK:
            raise UserError(
                f"{folder} has shape {sizes} in chunks of {pieces}; expected chunks of at most 2 GB."
            )
        if not isinstance(attributes, dict) or not all(isinstance(d, str) for d in dims):
            raise UserError(f"{folder}: its attributes or dimension names are damaged.")
        if dims and len(dims) != len(sizes):
            raise UserError(f"{folder} has shape {sizes} and dimensions {tuple(dims)}.")
        schema.require_memory(8 * math.prod(pieces), f"A chunk of {folder}")
        kind = np.dtype(dtype)
        packing = _packing({key: attributes.get(key) for key in _PACKING}, str(folder), kind)
        unit = _unit(attributes.get("units"))
        if "blosc" in codecs:
            if next(c for c in reversed(codecs) if c != "crc32c") != "blosc":
                raise UserError(
                    f"{folder} is packed once more after blosc; write the store again without that."
                )
            self.blosc[folder.name] = kind.itemsize * math.prod(pieces)
        return _Array(folder.name, tuple(dims), sizes, unit, packing)

    def open(self) -> Any:
        zarr = require("zarr", extra="interop", purpose="Reading a Zarr store")
        blosc = dict(self.blosc)

        class Checked(zarr.storage.LocalStore):  # type: ignore[misc, name-defined]
            """Looks at the lengths in Blosc's header, beyond which its decoder would read."""

            async def get(self, key: str, *arguments: Any, **named: Any) -> Any:
                value = await super().get(key, *arguments, **named)
                name, _, chunk = key.partition("/")
                if value is None or name not in blosc or chunk.rpartition("/")[2] in _DESCRIPTIONS:
                    return value
                head = value.as_numpy_array()[:16].tobytes()
                whole, packed = (int.from_bytes(head[i : i + 4], "little") for i in (4, 12))
                if len(head) < 16 or packed > len(value) or whole != blosc[name]:
                    raise ValueError(f"chunk {chunk} has {len(value)} bytes, and its header says {packed}")
                return value

        try:
            return zarr.open_group(Checked(self.path, read_only=True), mode="r", use_consolidated=False)
        except Exception as error:  # it raises errors of many kinds on damaged descriptions
            raise UserError(f"{self.path} is damaged: {error}. Copy or make the store again.") from error

    def values(self, name: str) -> np.ndarray:
        found = self.arrays[name]
        schema.require_memory(8 * math.prod(found.shape), f"Reading {name} of {self.path}")
        return np.asarray(_read(self.open(), self.path, name, ...), dtype=np.float64)

    def block(self, variables: Sequence[Variable], shape: tuple[int, ...]) -> Block:
        return _ZarrBlock(self.path, tuple(variables), shape)


def _read(group: Any, path: Path, name: str, index: Any) -> np.ndarray:
    """Some values of an array, any fault of the library told as a damage."""
    try:
        return np.asarray(group[name][index])
    except UserError:
        raise
    except Exception as error:  # codecs raise errors of many kinds
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path / name} is damaged: {first}. Copy or make the store again.") from error


class _ZarrBlock:
    """Trajectories in a Zarr store, read window by window, opened once per process."""

    def __init__(self, path: Path, variables: tuple[Variable, ...], shape: tuple[int, ...]) -> None:
        self.path, self.variables, self.shape = path, variables, tuple(shape)
        self._process, self._group = -1, None

    def parts(self) -> Sequence[tuple[slice, Any]]:
        if self._process != os.getpid():
            self._group, self._process = _Zarr(self.path).open(), os.getpid()
        found, start = [], 0
        for variable in self.variables:
            window = _Window(self._group, self.path, variable, self.shape)
            found.append((slice(start, start + variable.channels), window))
            start += variable.channels
        return found

    def __getstate__(self) -> dict[str, object]:
        return {"path": self.path, "variables": self.variables, "shape": self.shape}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]


@dataclass(frozen=True)
class _Window:
    group: Any
    path: Path
    variable: Variable
    shape: tuple[int, ...]

    def __getitem__(self, index: tuple[int, slice]) -> np.ndarray:
        sample, frames = index
        axes = self.variable.axes
        choose: list[Any] = [slice(None)] * len(axes)
        if "n" in axes:
            choose[axes.index("n")] = slice(sample, sample + 1)
        if "t" in axes:
            choose[axes.index("t")] = frames
        count = len(range(*frames.indices(self.shape[1])))
        values = _read(self.group, self.path, self.variable.name, tuple(choose))
        return arrange(values, self.variable, (1, count, *self.shape[2:]))[0]


_Store = _NetCDF | _Zarr
"""A file or folder with labelled arrays."""


# What the names say ----------------------------------------------------------------------------------------


def read_labelled(
    path: Path, files: Mapping[str, Sequence[Path]], hints: Hints, *, zarr: bool = False
) -> Dataset:
    """Open NetCDF4 files or Zarr stores, split by split; those of one split are joined sample after sample.

    Raises:
        UserError: a file is damaged, the files of a split differ, or neither names nor hints say what is needed.
    """
    splits: dict[str, Split | Pairs] = {}
    constants: dict[str, float] = {}
    notes: list[str] = []
    for name, found in files.items():
        stores = [_Zarr(f) if zarr else _NetCDF(f) for f in found]
        parts = [_part(store, name, hints, notes) for store in stores]
        splits[name] = parts[0] if len(parts) == 1 else _joined(parts, found)
        for store in stores:
            notes += store.notes
            for key, value in store.attributes.items():
                number = np.asarray(value)
                if number.size == 1 and number.dtype.kind in "fiu":
                    constants[key] = float(number.reshape(-1)[0])
    return Dataset(
        path, path.stem, "zarr" if zarr else "netcdf", splits, constants, tuple(dict.fromkeys(notes))
    )


def _joined(parts: Sequence[Split | Pairs], files: Sequence[Path]) -> Split | Pairs:
    """The samples of several files as one split.

    Raises:
        UserError: they differ in fields, points or parameters.
    """
    first = parts[0]
    for part, file in zip(parts, files, strict=True):
        if (
            type(part) is not type(first)
            or part.channels != first.channels
            or part.domain != first.domain
            or set(part.parameters) != set(first.parameters)
        ):
            raise UserError(
                f"The files of one split differ: {files[0]} holds {', '.join(first.channels)} on {first.domain}, "
                f"{file} {', '.join(part.channels)} on {part.domain}. Open them one at a time."
            )
    parameters = {name: torch.cat([p.parameters[name] for p in parts]) for name in first.parameters}
    if isinstance(first, Pairs):
        pairs = [p for p in parts if isinstance(p, Pairs)]
        inputs = tuple(b for p in pairs for b in p.input_blocks)
        targets = tuple(b for p in pairs for b in p.target_blocks)
        return Pairs(
            first.name, first.input_fields, first.fields, inputs, targets, first.domain, parameters
        )
    splits = [p for p in parts if isinstance(p, Split)]
    blocks = tuple(b for p in splits for b in p.blocks)
    times = tuple(t for p in splits for t in p.block_times)
    if all(len(t) == len(times[0]) and bool((t == times[0]).all()) for t in times):
        times = times[:1]
    return Split(first.name, first.fields, blocks, first.domains, times, parameters)


def _letters(store: _Store, arrays: Sequence[_Array], hints: Hints) -> dict[str, str]:
    """Dimension -> letter of its axis.

    Raises:
        UserError: a dimension says nothing, or two say the same.
    """
    place, widest = store.path, max(arrays, key=lambda a: len(a.dims))
    sizes = {d: n for a in arrays for d, n in zip(a.dims, a.shape, strict=True)}
    if hints.axes is not None:
        if len(hints.axes) != len(widest.dims):
            raise UserError(
                f"{place}: {widest.name!r} has the dimensions {widest.dims}, and hints.axes {hints.axes!r} has "
                f"{len(hints.axes)} letters; give one for each."
            )
        found = dict(zip(widest.dims, hints.axes, strict=True))
    else:
        found = {}
        for dim, size in sizes.items():
            letter = _LETTERS.get(dim.lower(), "")
            if size == 1 and letter in ("", "z", "c"):
                letter = "d" if "c" in found.values() else "c"  # an axis without extent, such as a level
            if letter:
                found[dim] = letter
    unknown = [d for d in sizes if d not in found]
    if unknown:
        lack = Lacking(place, Hints(), 2, f"The array {widest.name!r} has the dimensions {widest.dims}.")
        lack.take("axes", None)
        lack.ask()
    for array in arrays:
        here = [found[d] for d in array.dims]
        if len(set(here)) != len(here):
            raise UserError(
                f"{place}: the dimensions {array.dims} of {array.name!r} are taken as {here}, one twice; say what they "
                "are with hints=Hints(axes=...)."
            )
    space = sorted({letter for letter in found.values() if letter in "xyz"})
    renamed = dict(zip(space, "xyz", strict=False))
    return {dim: renamed.get(letter, letter) for dim, letter in found.items()}


def _part(store: _Store, name: str, hints: Hints, notes: list[str]) -> Split | Pairs:
    """One file as one split."""
    place = store.path
    imprint = read_imprint(store.attributes.get(NAME), place)
    if imprint is not None:
        hints = imprint.told(hints)
    fields = [a for a in store.arrays.values() if len(a.dims) > 1 and a.name not in a.dims]
    if not fields or not all(all(a.dims) for a in fields):
        here = {a.name: a.shape for a in store.arrays.values()}
        raise UserError(f"{place} has no arrays with named dimensions; it has {here}.")
    letters = _letters(store, fields, hints)
    by_name = {a.name: a for a in fields}
    axes = {a.name: "".join(letters[d] for d in a.dims) for a in fields}
    space = "".join(x for x in "xyz" if any(x in s for s in axes.values()))
    dimension = len(space)
    if not dimension:
        raise UserError(f"{place} has no axis of space; its arrays have the dimensions {sorted(letters)}.")
    sizes: dict[str, int] = {}
    for a in fields:
        for letter, n in zip(axes[a.name], a.shape, strict=True):
            if letter in "ntxyz" and sizes.setdefault(letter, n) != n:
                raise UserError(
                    f"{place}: {a.name!r} has {n} points where other arrays have {sizes[letter]}."
                )
    moving = [a for a in fields if "t" in axes[a.name] and set(space) <= set(axes[a.name])]
    chosen, variables = _choose(place, by_name, axes, moving, hints.fields, dimension, notes)
    grid = _grid(store, letters, tuple(sizes[x] for x in space), imprint, hints, notes, bool(moving))
    samples = sizes.get("n", 1)
    parameters = _parameters(store, letters, samples)

    def block(arrays: Sequence[Variable], frames: int) -> Block:
        width = sum(v.channels for v in arrays)
        whole = store.block(arrays, (samples, frames, width, *grid.shape))
        packings = [by_name[v.name].packing for v in arrays]
        return _Unpacked(whole, packings) if any(p != (1.0, 0.0, None) for p in packings) else whole

    if hints.inputs is not None or not moving:
        if hints.inputs is None:
            raise UserError(
                f"{place} has no dimension of time. Say which one is, with hints=Hints(axes=...), or which arrays are "
                "given and which are sought: hints=Hints(inputs=(Field('coefficient'),), fields=(Field('solution'),))."
            )
        given, sources = _choose(place, by_name, axes, [], hints.inputs, dimension, notes)
        if "t" in sizes and sizes["t"] != 1:
            raise UserError(f"{place} has {sizes['t']} frames; pairs of input and target have none.")
        return Pairs(name, given, chosen, (block(sources, 1),), (block(variables, 1),), grid, parameters)
    times = _times(store, letters, sizes["t"], imprint, hints)
    return Split(name, chosen, (block(variables, sizes["t"]),), (grid,), (times,), parameters)


def _choose(
    place: Path,
    arrays: Mapping[str, _Array],
    axes: Mapping[str, str],
    moving: Sequence[_Array],
    fields: Sequence[Field] | None,
    dimension: int,
    notes: list[str],
) -> tuple[tuple[Field, ...], list[Variable]]:
    """The fields and the arrays that hold them: those that are named, else all that move."""
    width = {
        a.name: math.prod(n for n, x in zip(a.shape, axes[a.name], strict=True) if x in "cd")
        for a in arrays.values()
    }
    if fields is None:
        found: list[Field] = []
        for a in moving:
            wide = width[a.name]
            found += [Field(a.name if wide == 1 else f"{a.name}_{i}", a.unit) for i in range(wide)]
            if wide > 1:
                notes.append(
                    f"the {wide} components of {a.name!r} are numbered; hints.fields can make a vector of them"
                )
        left = sorted(set(arrays) - {a.name for a in moving})
        if left and moving:
            notes.append(f"arrays that do not change in time are not part of the state: {', '.join(left)}")
        return tuple(found), [Variable(a.name, axes[a.name], width[a.name]) for a in moving]
    variables = []
    for field in fields:
        names = [field.name] if field.name in arrays else list(field.channels(dimension))
        missing = [n for n in names if n not in arrays]
        if missing:
            raise UserError(
                f"{place} has no array {field.name!r}"
                + (f" nor {', '.join(missing)}" if field.rank else "")
                + f"; it has {', '.join(sorted(arrays))}. Name those in hints.fields."
            )
        if sum(width[n] for n in names) != dimension**field.rank:
            raise UserError(
                f"{place}: {field.name!r} has {sum(width[n] for n in names)} components; a field of rank {field.rank} in "
                f"{dimension}D has {dimension**field.rank}."
            )
        variables += [Variable(n, axes[n], width[n]) for n in names]
    return tuple(fields), variables


def _grid(
    store: _Store,
    letters: Mapping[str, str],
    points: tuple[int, ...],
    imprint: Imprint | None,
    hints: Hints,
    notes: list[str],
    moving: bool,
) -> Grid:
    place = store.path
    if imprint is not None:
        return imprint.on(points, hints, place)
    axes = {x: d for d, x in letters.items() if x in "xyz" and d in store.arrays}
    known = {
        x: store.values(d) for x, d in axes.items() if store.arrays[d].shape == (points["xyz".index(x)],)
    }
    lack = Lacking(place, hints, len(points))
    boundary = lack.take("boundary", None)
    lengths = lack.take("lengths", () if len(known) == len(points) else None)
    centering = (
        hints.centering if len(known) == len(points) and not lengths else lack.take("centering", None)
    )
    if moving:
        time = next((d for d, x in letters.items() if x == "t"), "")
        if time not in store.arrays:
            lack.take("dt")
    lack.ask()
    if lengths:
        return make_grid(place, points, lengths, boundary, centering or "node")
    sides = make_grid(place, points, (1.0,) * len(points), boundary, "cell").sides
    origin, sizes, kinds = [], [], set()
    for i, (low, _) in enumerate(sides):
        x = "xyz"[i]
        try:
            start, length, kind, note = schema.uniform_axis(
                axes[x], known[x], low == "periodic", str(place), centering
            )
        except UserError as error:
            raise UserError(
                f"{error} Or pass hints=Hints(lengths=...) to take the points as even."
            ) from error
        origin.append(start)
        sizes.append(length)
        kinds.add(kind)
        notes += [note] if note else []
        unit = store.arrays[axes[x]].unit
        if unit != "1" and unit not in ("m", "meter", "metre"):
            notes.append(f"lengths along {axes[x]!r} are in {unit}")
    if len(kinds) > 1:
        raise UserError(
            f"{place}: the axes look partly node- and partly cell-centred; say which with "
            "hints=Hints(centering='node')."
        )
    return make_grid(place, points, sizes, sides, kinds.pop(), origin)


def _times(
    store: _Store, letters: Mapping[str, str], frames: int, imprint: Imprint | None, hints: Hints
) -> Tensor:
    if imprint is not None:
        return imprint.at(frames, hints, store.path)
    if hints.dt is not None:
        return frames_of(frames, hints.dt)
    name = next(d for d, x in letters.items() if x == "t")  # `_grid` has asked where there is none
    times = store.values(name)
    if (
        times.shape != (frames,)
        or not np.isfinite(times).all()
        or (frames > 1 and not (np.diff(times) > 0).all())
    ):
        raise UserError(
            f"{store.path}: the times {name!r} do not rise, or are not {frames} numbers; pass hints=Hints(dt=...)."
        )
    return schema.times_tensor(times)


def _parameters(store: _Store, letters: Mapping[str, str], samples: int) -> dict[str, Tensor]:
    """Arrays with a number for each sample."""
    sample = next((d for d, x in letters.items() if x == "n"), None)
    found = {}
    for array in store.arrays.values():
        if sample is not None and array.dims == (sample,) and array.name != sample:
            if array.shape != (samples,):
                raise UserError(
                    f"{store.path}: {array.name!r} has {array.shape} values for {samples} samples."
                )
            factor, offset, _ = array.packing
            found[array.name] = torch.from_numpy(store.values(array.name) * factor + offset)
    return found


# Writing --------------------------------------------------------------------------------------------------


@contextmanager
def _whole_folder(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` which becomes `path` only if the block ends without an error."""
    part = path.with_name(path.name + PART)
    shutil.rmtree(part, ignore_errors=True)
    try:
        yield part
        os.replace(part, path)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def write_zarr(dataset: Dataset, dst: Path, progress: Callable[[int], None]) -> tuple[str, ...]:
    """Write a store `<split>.zarr` of version 2 for each split into the folder `dst`; xarray opens them.

    One array per channel with the dimensions sample, time, x, y, z, their coordinates, units, and parameters of
    samples along the dimension sample.

    Args:
        dataset: trajectories or pairs on one grid.
        dst: a folder.
        progress: told the number of samples done.

    Returns what was lost or had to be given, a sentence each.

    Raises:
        UserError: the samples do not lie on one grid; nothing has been written then.
        ModuleNotFoundError: the extra `interop` is missing.
    """
    zarr = require("zarr", extra="interop", purpose="Writing a Zarr store")
    imprints = one_grid(dataset, "A Zarr store with named dimensions")
    dst.mkdir(parents=True, exist_ok=True)
    done = 0
    for name, split in dataset.splits.items():
        with _whole_folder(dst / f"{name}.zarr") as part:
            group = zarr.open_group(str(part), mode="w", zarr_format=2)
            group.attrs.update({k: v for k, v in dataset.constants.items() if math.isfinite(v)})
            group.attrs[NAME] = imprints[name].text()
            for count in _fill(group, split, imprints[name]):
                progress(done + count)
        done += len(split)
    return ("the exact box, sides and centering lie in an attribute that other readers do not read",)


def _fill(group: Any, split: Split | Pairs, imprint: Imprint) -> Iterator[int]:
    grid, samples, frames = imprint.grid, len(split), len(imprint.times)
    axes = dict(zip(grid.axis_names, grid.axes(), strict=True))
    static = isinstance(split, Pairs)
    dims = ("sample", *(() if static else ("time",)), *grid.axis_names)

    def new(name: str, shape: Sequence[int], chunks: Sequence[int], dims: Sequence[str], dtype: str) -> Any:
        # Without a fill value no reader takes zeros for missing.
        array = group.create_array(
            name, shape=tuple(shape), chunks=tuple(chunks), dtype=dtype, fill_value=None
        )
        array.attrs["_ARRAY_DIMENSIONS"] = list(dims)
        return array

    coordinates: dict[str, np.ndarray] = {n: a.numpy() for n, a in axes.items()}
    if not static:
        coordinates["time"] = np.array(imprint.times)
    for name, values in coordinates.items():
        new(name, values.shape, values.shape, (name,), "<f8")[...] = values
    for name, tensor in split.parameters.items():
        if tensor.ndim == 1:
            new(name, (samples,), (samples,), ("sample",), "<f8")[...] = tensor.numpy()
    shape = (samples, *(() if static else (frames,)), *grid.shape)
    several = max(1, min(frames, (1 << 20) // (4 * math.prod(grid.shape))))  # frames of about a megabyte
    chunks = (1, *(() if static else (several,)), *grid.shape)
    fields = (*imprint.inputs, *imprint.fields)
    arrays: list[Any] = []
    for field in fields:
        for name in field.channels(grid.dimension):
            if name in coordinates or name in [a.name for a in arrays]:
                raise UserError(f"The channel {name!r} has the name of another array; rename the field.")
            array = new(name, shape, chunks, dims, "<f4")
            array.attrs["units"] = field.unit
            arrays.append(array)
    if isinstance(split, Pairs):
        for i in range(samples):
            for array, values in zip(arrays, torch.cat(split[i]).numpy(), strict=True):
                array[i] = values
            yield i + 1
        return
    for start, piece in split.pieces():
        data = piece.data.numpy()
        for channel, array in enumerate(arrays):
            array[start : start + len(piece)] = data[:, :, channel]
        yield start + len(piece)
