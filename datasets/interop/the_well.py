"""Read files and folders in the layout of The Well, which is also the native layout of gridded data.

Ohana et al., "The Well: a large-scale collection of diverse physics simulations" (2024). Fields without
a time axis become the inputs of static pairs where a file holds a single frame, and are left out of the
state otherwise. What our own writer adds in the group `provenance` replaces what the schema cannot say.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor

from sciml.datasets import schema
from sciml.datasets.blocks import FileBlock, Variable
from sciml.datasets.dataset import Dataset, Hints
from sciml.datasets.interop.hdf5 import array, values
from sciml.datasets.splits import Pairs, Split
from sciml.domains import Grid, Point
from sciml.errors import UserError
from sciml.trajectory import Field, channel_names

GROUPS = ("dimensions", "boundary_conditions", "scalars", "t0_fields", "t1_fields", "t2_fields")


@dataclass(frozen=True, eq=False)
class _Shard:
    path: Path
    name: str
    grid: Grid | Point
    samples: int
    times: Tensor
    fields: tuple[Field, ...]
    variables: tuple[Variable, ...]
    inputs: tuple[Field, ...]
    input_variables: tuple[Variable, ...]
    constants: Mapping[str, float]
    parameters: Mapping[str, Tensor]
    notes: tuple[str, ...]


def is_well(file: h5py.File) -> bool:
    """Whether a file follows the schema, by content."""
    return all(group in file for group in GROUPS) and "dataset_name" in file.attrs


def _sides(file: h5py.File, axes: Sequence[str]) -> list[list[str]]:
    """(low, high) per axis; axes without a boundary group count as open."""
    sides = [["outflow", "outflow"] for _ in axes]
    for name, group in file["boundary_conditions"].items():
        kind = schema.text(group.attrs["bc_type"]).lower()
        if kind not in schema.SIDES_OF_BC:
            known = list(schema.SIDES_OF_BC)
            raise UserError(
                f"{file.filename}: boundary {name!r} has bc_type {kind!r}; expected one of {known}."
            )
        dims = schema.texts(group.attrs["associated_dims"])
        mask = values(group, "mask")
        mask = mask.reshape(
            mask.shape[mask.ndim - len(dims) :] if mask.ndim == len(dims) else (-1, *mask.shape[1:])
        )
        while mask.ndim > len(dims):  # a mask that changes with sample or time counts where it ever holds
            mask = np.asarray(mask.any(axis=0))
        for place, axis in enumerate(dims):
            for end, index in ((0, 0), (1, -1)):
                line = np.asarray(np.take(mask, index, axis=place))
                if bool(line.all() if kind == "wall" else line.any()):
                    sides[list(axes).index(axis)][end] = schema.SIDES_OF_BC[kind]
    return sides


def _grid(file: h5py.File, axes: Sequence[str], hints: Hints) -> tuple[Grid | Point, list[str]]:
    if not axes:
        return Point(), []
    place, notes = str(file.filename), []
    sides: list[list[Any]] = [list(pair) for pair in _sides(file, axes)]
    if hints.boundary is not None:
        given = Grid((2,) * len(axes), (1.0,) * len(axes), hints.boundary)
        sides = [list(pair) for pair in given.sides]
    elif any(side == "wall" for pair in sides for side in pair):
        notes.append("the schema says only 'wall'; the exact condition there is not recorded")
    origin, lengths, centerings, shape = [], [], set(), []
    for axis, pair in zip(axes, sides, strict=True):
        x = values(file["dimensions"], axis)
        x = x[0] if x.ndim == 2 else x
        low, length, centering, note = schema.uniform_axis(
            axis, x, pair[0] == "periodic", place, hints.centering
        )
        shape.append(x.size)
        origin.append(low)
        lengths.append(length)
        centerings.add(centering)
        notes += [note] if note else []
    if len(centerings) != 1:
        raise UserError(
            f"{place}: the axes look partly node- and partly cell-centred; say which with "
            "hints=Hints(centering='node')."
        )
    if hints.lengths is not None:
        lengths = list(hints.lengths)
    grid = Grid(
        tuple(shape), tuple(lengths), tuple((a, b) for a, b in sides), tuple(origin), centerings.pop()
    )
    return grid, notes


def read_shard(path: Path, hints: Hints) -> _Shard:
    """What one file holds, without reading its fields.

    Raises:
        UserError: the file is cut off, breaks the schema, or its grid is not uniform and Cartesian.
    """
    with schema.open_hdf5(path) as file:
        try:
            return _parse(file, path, hints)
        except KeyError as error:
            raise UserError(f"{path} breaks the schema of The Well: {error.args[0]}.") from error


def _flag(node: h5py.Dataset, name: str, default: bool) -> bool:
    return bool(node.attrs.get(name, default))


def _parse(file: h5py.File, path: Path, hints: Hints) -> _Shard:
    missing = [g for g in GROUPS if g not in file]
    if missing:
        raise UserError(f"{path} breaks the schema of The Well: groups {missing} are missing.")
    kind = schema.text(file.attrs["grid_type"])
    if kind != "cartesian":
        raise UserError(f"{path} lies on a {kind!r} grid; only uniform Cartesian grids are supported.")
    axes = schema.texts(file["dimensions"].attrs["spatial_dims"])
    dimension, samples = len(axes), int(file.attrs["n_trajectories"])
    own = file.get("provenance")
    native = own is not None and schema.text(own.attrs.get("format", "")) == schema.FORMAT
    notes: list[str] = []
    if native:
        if int(own.attrs["format_version"]) > schema.FORMAT_VERSION:
            raise UserError(
                f"{path} has format version {int(own.attrs['format_version'])}; this release reads up to "
                f"{schema.FORMAT_VERSION}. Update sciml."
            )
        grid = schema.domain_from_description(json.loads(own.attrs["domain"]))
        times = schema.times_tensor(values(own, "time"))
    else:
        grid, notes = _grid(file, axes, hints)
        stored = values(file["dimensions"], "time")
        times = schema.times_tensor(stored[0] if stored.ndim == 2 else stored)
        if hints.dt is not None:
            times = torch.arange(len(times), dtype=torch.float64) * hints.dt

    fields: list[Field] = []
    inputs: list[Field] = []
    variables: dict[str, Variable] = {}
    letters = schema.points_letters(dimension)
    for rank in range(3):
        group = file[f"t{rank}_fields"]
        for name in schema.texts(group.attrs["field_names"]):
            if name not in group:
                raise UserError(f"{path} lists the field {name!r} in t{rank}_fields but does not hold it.")
            dataset = group[name]
            varying = np.asarray(dataset.attrs.get("dim_varying", [True] * dimension), dtype=bool)
            in_time = _flag(dataset, "time_varying", True)
            axes_here = ("n" if _flag(dataset, "sample_varying", True) else "") + ("t" if in_time else "")
            axes_here += "".join(a for a, here in zip(letters, varying, strict=True) if here)
            comps = schema.components(rank)
            if rank == 2 and dataset.ndim == len(axes_here) + 1:
                comps = "c"  # tensors written as one axis of D*D
            axes_here += comps
            expected = _expected_shape(axes_here, samples, len(times), grid, comps, rank)
            if dataset.shape != expected:
                raise UserError(
                    f"{path}: field {name!r} has shape {dataset.shape}; its attributes and the dimensions "
                    f"say {expected}."
                )
            f = Field(name, schema.text(dataset.attrs.get("unit", "1")), rank)
            variables[name] = Variable(dataset.name, axes_here, dimension**rank)
            (fields if in_time else inputs).append(f)
    if native:
        fields = list(schema.fields_from_json(schema.text(own.attrs["fields"])))
        inputs = list(schema.fields_from_json(schema.text(own.attrs["input_fields"])))
    if not fields:
        raise UserError(f"{path} holds no field that varies in time.")

    constants: dict[str, float] = {}
    parameters: dict[str, Tensor] = {}
    for name in schema.texts(file["scalars"].attrs["field_names"]):
        scalar = file["scalars"][name]
        if _flag(scalar, "time_varying", False):
            notes.append(f"the scalar {name!r} varies in time and was left out")
        elif _flag(scalar, "sample_varying", False):
            group = own["parameters"] if native and name in own["parameters"] else file["scalars"]
            given = np.asarray(array(group, name)[()], dtype=np.float64)
            parameters[name] = torch.from_numpy(given.reshape(samples))
        else:
            constants[name] = float(np.asarray(array(file["scalars"], name)[()]).reshape(-1)[0])
    for name in schema.texts(file.attrs.get("simulation_parameters", [])):
        value: Any = file.attrs.get(name)
        if value is not None and np.size(value) == 1 and np.issubdtype(np.asarray(value).dtype, np.number):
            constants[name] = float(np.asarray(value).reshape(-1)[0])
    return _Shard(
        path,
        schema.text(file.attrs["dataset_name"]),
        grid,
        samples,
        times,
        tuple(fields),
        tuple(variables[f.name] for f in fields),
        tuple(inputs),
        tuple(variables[f.name] for f in inputs),
        constants,
        parameters,
        tuple(notes),
    )


def _expected_shape(
    axes: str, samples: int, frames: int, grid: Grid | Point, comps: str, rank: int
) -> tuple[int, ...]:
    sizes = {"n": samples, "t": frames, **dict(zip("xyz", grid.shape, strict=False))}
    width = grid.dimension**rank if rank == 2 and comps == "c" else grid.dimension
    sizes |= {"c": width, "d": grid.dimension}
    return tuple(sizes[a] for a in axes)


def _same(shards: Sequence[_Shard], what: str, of: Any) -> None:
    """Refuse a split whose files disagree."""
    first = of(shards[0])
    for shard in shards[1:]:
        if of(shard) != first:
            raise UserError(
                f"The files of one split differ in {what}: {shards[0].path.name} has {first}, "
                f"{shard.path.name} has {of(shard)}. Put them into different datasets."
            )


def _split(name: str, shards: Sequence[_Shard]) -> tuple[Split | Pairs, Mapping[str, float]]:
    _same(shards, "resolution", lambda s: s.grid.shape)
    _same(shards, "fields", lambda s: channel_names(s.fields, s.grid.dimension))
    _same(shards, "names of parameters", lambda s: sorted({*s.parameters, *s.constants}))
    # A constant of one file that differs in the next is a parameter of the samples.
    varying = {
        p
        for p in {*shards[0].parameters, *shards[0].constants}
        if any(p in s.parameters or s.constants[p] != shards[0].constants.get(p) for s in shards)
    }
    parameters = {
        p: torch.cat(
            [
                s.parameters[p]
                if p in s.parameters
                else torch.full((s.samples,), s.constants[p], dtype=torch.float64)
                for s in shards
            ]
        )
        for p in sorted(varying)
    }
    constants = {p: v for p, v in shards[0].constants.items() if p not in varying}
    grid, fields = shards[0].grid, shards[0].fields
    channels = len(channel_names(fields, grid.dimension))
    blocks = tuple(
        FileBlock(s.path, s.variables, (s.samples, len(s.times), channels, *grid.shape)) for s in shards
    )
    if shards[0].inputs and all(len(s.times) == 1 for s in shards):
        inputs = shards[0].inputs
        width = len(channel_names(inputs, grid.dimension))
        input_blocks = tuple(
            FileBlock(s.path, s.input_variables, (s.samples, 1, width, *grid.shape)) for s in shards
        )
        return Pairs(name, inputs, fields, input_blocks, blocks, grid, parameters), constants
    times = tuple(s.times for s in shards)
    if all(len(t) == len(times[0]) and bool((t == times[0]).all()) for t in times):
        times = times[:1]
    return Split(name, fields, blocks, (grid,), times, parameters), constants


def files_of(folder: Path) -> list[Path]:
    """The HDF5 files directly in a folder, sorted by name."""
    return sorted(p for p in folder.iterdir() if p.suffix in schema.SUFFIXES and p.is_file())


def read_well(path: Path, split_files: Mapping[str, Sequence[Path]], hints: Hints) -> Dataset:
    """Open files in this layout, split by split.

    Raises:
        UserError: a file breaks the schema, or the files of a split disagree.
    """
    splits: dict[str, Split | Pairs] = {}
    constants: dict[str, float] = {}
    notes: list[str] = []
    name = path.stem
    for split, files in split_files.items():
        shards = [read_shard(file, hints) for file in files]
        _same(shards, "dataset_name", lambda s: s.name)
        name = shards[0].name
        splits[split], found = _split(split, shards)
        constants |= found
        notes += [n for s in shards for n in s.notes]
        kept = splits[split]
        if shards[0].inputs and isinstance(kept, Split):
            left = [f.name for f in shards[0].inputs]
            notes.append(f"fields that do not change in time are not part of the state: {', '.join(left)}")
    return Dataset(path, name, "the_well", splits, constants, tuple(dict.fromkeys(notes)))
