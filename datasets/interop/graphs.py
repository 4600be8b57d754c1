"""Read meshes and particles in HDF5: one group per trajectory; and what fields on meshes have in common.

The native flavour stores static arrays once, (1, nodes, ...), and links them; the conversions of the
MeshGraphNets sets (Pfaff et al. 2021) in circulation since 2022 repeat them for every frame and call the
node positions `pos`. Both are read, and so is the later one of the same origin: the meshes of a split one
after the other in an .npz file, the velocities as plain float32 in a .dat file beside it.
"""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor

from sciml.datasets import schema
from sciml.datasets.blocks import Block, FileBlock, MappedBlock, Raw, Variable
from sciml.datasets.dataset import Dataset, Hints
from sciml.datasets.interop import hdf5
from sciml.datasets.splits import Pairs, Split
from sciml.datasets.stored import child
from sciml.domains import AXIS_NAMES, Cloud, Domain, Mesh
from sciml.errors import UserError
from sciml.trajectory import Field, channel_names

STATIC = ("mesh_pos", "pos", "cells", "node_type", "particle_type")
VECTORS = ("velocity", "world_pos", "position", "displacement")


# What fields on meshes have in common ------------------------------------------------------------------------


def fields_of_width(name: str, width: int, dimension: int) -> tuple[Field, ...]:
    """The fields behind an array of `width` components whose meaning its file does not tell.

    As many components as axes make a vector; three on a surface, whose nodes move in space, are the scalars
    "name_x", "name_y", "name_z"; any other number makes scalars that are counted.
    """
    if width == dimension and (dimension > 1 or name in VECTORS):
        return (Field(name, rank=1),)
    if width == 1:
        return (Field(name),)
    if (width, dimension) == (3, 2):
        return tuple(Field(f"{name}_{axis}") for axis in AXIS_NAMES)
    return tuple(Field(f"{name}_{i}") for i in range(width))


def make_mesh(place: str, points: np.ndarray, cells: np.ndarray, types: np.ndarray | None) -> Mesh:
    """The mesh of a file.

    Raises:
        UserError: its arrays do not make one.
    """
    try:
        return Mesh(
            torch.from_numpy(np.array(points, dtype=np.float64)),
            torch.from_numpy(np.array(cells, dtype=np.int64)),
            None if types is None else torch.from_numpy(np.array(types, dtype=np.int64).reshape(-1)),
        )
    except (ValueError, TypeError, RuntimeError) as error:
        raise UserError(f"{place}: {error}") from error


def mesh_splits(
    name: str,
    fields: tuple[Field, ...],
    blocks: Sequence[Block],
    domains: Sequence[Domain],
    times: Sequence[Tensor],
    parameters: Mapping[str, Sequence[float]],
) -> Split:
    """A split of one block per trajectory; equal domains and times are kept once."""
    one_domain = all(d is domains[0] for d in domains)
    one_time = all(t is times[0] or torch.equal(t, times[0]) for t in times)
    return Split(
        name,
        fields,
        tuple(blocks),
        tuple(domains[:1] if one_domain else domains),
        tuple(times[:1] if one_time else times),
        {p: torch.tensor(v, dtype=torch.float64) for p, v in parameters.items()},
    )


# A group per trajectory --------------------------------------------------------------------------------------


def is_graphs(file: h5py.File) -> bool:
    """Whether a file holds a group per trajectory on a mesh, or our own clouds, by content."""
    first = next((k for k in file if k.isdigit()), None)
    group = None if first is None else child(file, first)
    if not isinstance(group, h5py.Group):
        return False
    return "cells" in group or ("provenance" in file and "features" in file.attrs)


def _static(group: h5py.Group, name: str) -> np.ndarray:
    """An array that does not change, from its first entry (1 or T, rows, width) -> (rows, width)."""
    found = hdf5.array(group, name, axes="txc")
    size = 8 * found.shape[1] * found.shape[2]
    schema.require_memory(size, f"Reading {found.name} of {group.file.filename}")
    return np.asarray(found[0])


def _mesh(group: h5py.Group, place: str) -> Mesh:
    position = "mesh_pos" if "mesh_pos" in group else "pos"
    if position not in group:
        raise UserError(f"{place} has neither mesh_pos nor pos.")
    types = _static(group, "node_type") if "node_type" in group else None
    return make_mesh(place, _static(group, position), _static(group, "cells"), types)


def _fields(group: h5py.Group, dimension: int) -> dict[str, tuple[Field, ...]]:
    """Array -> fields of a foreign file: whatever is not static."""
    found = {}
    for name in sorted(group):
        node = child(group, name)
        if name not in STATIC and isinstance(node, h5py.Dataset) and node.ndim == 3:
            width = node.shape[2]
            if not 1 <= width <= 1 << 12:
                raise UserError(f"{group.file.filename}: {node.name} has {width} components.")
            found[name] = fields_of_width(name, width, dimension)
    if not found:
        raise UserError(f"{group.file.filename}: group {group.name!r} has a mesh and no field on it.")
    return found


class _Files:
    """Reads files of one dataset; domains that come again are shared."""

    def __init__(self, path: Path, hints: Hints) -> None:
        self.path, self.hints, self.name = path, hints, path.stem
        self.constants: dict[str, float] = {}
        self.domains: dict[bytes, Domain] = {}

    def split(self, name: str, files: Sequence[Path]) -> Split:
        blocks: list[Block] = []
        domains: list[Domain] = []
        times: list[Tensor] = []
        parameters: dict[str, list[float]] = {}
        arrays: dict[str, tuple[Field, ...]] = {}
        for path in files:
            with hdf5.opened(path) as file:
                own = child(file, "provenance")
                own = own if isinstance(own, h5py.Group) else None
                box = self._own(file, own)
                clock = None if own is None else schema.times_tensor(hdf5.values(own, "time", axes="t"))
                for key in sorted((k for k in file if k.isdigit() and len(k) < 19), key=int):
                    place = f"{path}: group {key!r}"
                    group = child(file, key)
                    if not isinstance(group, h5py.Group):
                        raise UserError(f"{place} is no group of this file.")
                    domain = self._domain(group, place, box)
                    if not arrays:
                        arrays = self._arrays(group, own, domain.dimension)
                    block = self._block(path, group, key, arrays, domain)
                    blocks.append(block)
                    domains.append(domain)
                    if clock is None:
                        times.append(self._clock(file, path, block.shape[1]))
                    elif len(clock) != block.shape[1]:
                        raise UserError(f"{place} has {block.shape[1]} frames for {len(clock)} times.")
                    else:
                        times.append(clock)
                    if own is not None:
                        for parameter in schema.texts(own.attrs["parameters"]):
                            value = hdf5.number_attributes(group).get(parameter)
                            if value is None:
                                raise UserError(f"{place} has no number for the parameter {parameter!r}.")
                            parameters.setdefault(parameter, []).append(value)
        if not blocks:
            raise UserError(f"Split {name!r} of {self.path} holds no trajectory.")
        fields = tuple(f for several in arrays.values() for f in several)
        if any(len(values) != len(blocks) for values in parameters.values()):
            raise UserError(
                f"The files of split {name!r} of {self.path} differ in the names of parameters."
            )
        return mesh_splits(name, fields, blocks, domains, times, parameters)

    def _own(self, file: h5py.File, own: h5py.Group | None) -> Cloud | None:
        """What our own writer noted: the name, the constants, and the box of particles."""
        title = hdf5.attribute(file, "dataset_name")
        self.name = self.name if title is None else schema.text(title)
        if own is None:
            return None
        numbers = hdf5.number_attributes(file)
        for constant in schema.texts(own.attrs["constants"]):
            if constant not in numbers:
                raise UserError(f"{file.filename} has no number for the constant {constant!r}.")
            self.constants[constant] = numbers[constant]
        if "domain" not in own.attrs:
            return None
        try:
            found = json.loads(schema.text(own.attrs["domain"]))
            return Cloud(tuple((a, b) for a, b in found["box"]), tuple(bool(p) for p in found["periodic"]))
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise UserError(f"{file.filename}: the box of the particles is damaged: {error!r}.") from error

    def _domain(self, group: h5py.Group, place: str, box: Cloud | None) -> Domain:
        if box is None:
            mesh = _mesh(group, place)
            return self.domains.setdefault(schema.mesh_digest(mesh).encode(), mesh)
        types = None
        if "particle_type" in group:
            types = torch.from_numpy(_static(group, "particle_type").reshape(-1).astype(np.int64))
        key = repr((box.box, box.flags)).encode() + (b"" if types is None else types.numpy().tobytes())
        if key not in self.domains:
            self.domains[key] = Cloud(box.box, box.periodic, types)
        return self.domains[key]

    def _arrays(
        self, group: h5py.Group, own: h5py.Group | None, dimension: int
    ) -> dict[str, tuple[Field, ...]]:
        if own is not None:
            try:
                known = schema.fields_from_json(schema.text(own.attrs["fields"]))
            except (ValueError, TypeError, KeyError, RecursionError) as error:
                raise UserError(f"{group.file.filename}: the names of its fields are damaged.") from error
            return {f.name: (f,) for f in known}
        if self.hints.fields:
            missing = [f.name for f in self.hints.fields if f.name not in group]
            if missing:
                raise UserError(
                    f"{group.file.filename}: group {group.name!r} has no {', '.join(missing)}; it has "
                    f"{', '.join(sorted(group)[:12])}."
                )
            return {f.name: (f,) for f in self.hints.fields}
        return _fields(group, dimension)

    def _block(
        self,
        path: Path,
        group: h5py.Group,
        key: str,
        arrays: Mapping[str, tuple[Field, ...]],
        domain: Domain,
    ) -> FileBlock:
        first = hdf5.array(group, next(iter(arrays)), axes="txc").shape
        nodes = domain.shape[0] if isinstance(domain, Mesh) else first[1]
        fitting = None if not isinstance(domain, Cloud) else domain.particle_type
        if fitting is not None and len(fitting) != nodes:
            raise UserError(f"{path}: group {key!r} has {len(fitting)} types of {nodes} particles.")
        variables = []
        for name, fields in arrays.items():
            width = len(channel_names(fields, domain.dimension))
            shape = hdf5.array(group, name, axes="txc").shape
            if shape != (first[0], nodes, width):
                raise UserError(
                    f"{path}: group {key!r} holds {name!r} of shape {shape}; expected {(first[0], nodes, width)}."
                )
            variables.append(Variable(f"{key}/{name}", "txc", width))
        return FileBlock(path, variables, (1, first[0], sum(v.channels for v in variables), nodes))

    def _clock(self, file: h5py.File, path: Path, frames: int) -> Tensor:
        dt = self.hints.dt if self.hints.dt is not None else hdf5.number_attributes(file).get("dt", 0.0)
        if not 0 < dt < float("inf"):
            raise UserError(f"{path} does not say the time between frames; pass hints=Hints(dt=...).")
        return torch.arange(frames, dtype=torch.float64) * dt


def read_graphs(path: Path, split_files: Mapping[str, Sequence[Path]], hints: Hints) -> Dataset:
    """Open files of trajectories on meshes or in boxes of particles.

    Raises:
        UserError: a file is cut off, damaged or lacks the time step, and no hint gives it.
    """
    files = _Files(path, hints)
    splits: dict[str, Split | Pairs] = {
        name: files.split(name, found) for name, found in split_files.items()
    }
    return Dataset(path, files.name, "graphs", splits, files.constants)


# Meshes in .npz, velocities in .dat --------------------------------------------------------------------------

_KEYS = ("pos", "node_type", "cells", "indices", "cindices", "all_velocity_shape")


def is_mesh_memory(path: Path) -> bool:
    """Whether a folder holds .npz files of meshes with a .dat file each, or a path is one of them, by content."""
    return any(_lists_meshes(file) for file in _npz_with_dat(path).values())


def _npz_with_dat(path: Path) -> dict[str, Path]:
    files = sorted(path.glob("*.npz")) if path.is_dir() else [path] if path.suffix == ".npz" else []
    return {file.stem: file for file in files if file.with_suffix(".dat").is_file()}


def _lists_meshes(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return "cindices.npy" in archive.namelist()
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):
        return False


def _members(path: Path) -> dict[str, np.ndarray]:
    """The small arrays of an .npz file, once it is known that they fit into memory.

    Raises:
        UserError: it is damaged, lacks one of them, or holds pickled objects.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            total = sum(info.file_size for info in archive.infolist())
        schema.require_memory(total, f"Reading {path}")
        with np.load(path, allow_pickle=False) as file:
            missing = [key for key in _KEYS if key not in file.files]
            if missing:
                raise UserError(
                    f"{path} has no {', '.join(missing)}; it has {', '.join(file.files[:12])}. Expected the meshes of a "
                    "split one after the other."
                )
            found = {key: np.asarray(file[key]) for key in _KEYS}
    except UserError:
        raise
    except Exception as error:  # a zip or .npy header may break in many ways
        if "pickle" in str(error):
            raise UserError(
                f"{path} holds pickled objects, which can run any code when they are read, and are therefore not. Save "
                "the arrays anew with numpy.savez, or convert the original TFRecord files."
            ) from error
        raise UserError(f"{path} cannot be read: {error}.") from error
    if any(array.dtype.kind not in "fiub" for array in found.values()):
        raise UserError(f"{path} holds values that are not numbers.")
    return found


def read_mesh_memory(path: Path, hints: Hints) -> Dataset:
    """Open such files: <split>.npz with the meshes, <split>.dat with the velocities (nodes, T, 2) of all of them.

    Raises:
        UserError: a file is damaged or does not fit the other, or the time step is missing.
    """
    splits: dict[str, Split | Pairs] = {}
    meshes: dict[str, Mesh] = {}
    found = _npz_with_dat(path)
    order = [*(s for s in schema.SPLITS if s in found), *(s for s in found if s not in schema.SPLITS)]
    for name in order:
        splits[name] = _mesh_memory(name, found[name], hints, meshes)
    return Dataset(path, path.stem, "graphs", splits)


def _mesh_memory(name: str, path: Path, hints: Hints, meshes: dict[str, Mesh]) -> Split:
    arrays = _members(path)
    shape: Any = tuple(int(n) for n in arrays["all_velocity_shape"].reshape(-1)[:4])
    nodes, corners = (arrays[key].reshape(-1).astype(np.int64) for key in ("indices", "cindices"))
    pos, cells, types = arrays["pos"], arrays["cells"], arrays["node_type"].reshape(-1)
    fits = (
        len(shape) == 3
        and min(shape) >= 1
        and pos.ndim == cells.ndim == 2
        and len(nodes) == len(corners) >= 2
        and len(pos) == len(types) == shape[0]
    )
    for ends, total in ((nodes, len(pos)), (corners, len(cells))):
        fits = fits and ends[0] == 0 and bool((np.diff(ends) > 0).all()) and ends[-1] == total
    if not fits:
        raise UserError(
            f"{path}: its arrays do not fit together: {', '.join(f'{k} {v.shape}' for k, v in arrays.items())}."
        )
    size, stored = 4 * math.prod(shape), path.with_suffix(".dat").stat().st_size
    if size != stored:
        raise UserError(
            f"{path.with_suffix('.dat')} has {stored} bytes; {size} are expected of velocities of shape {shape} in float32. "
            "It is cut off, or does not belong to the meshes."
        )
    if hints.dt is None or not hints.dt > 0:
        raise UserError(f"{path} does not say the time between frames; pass hints=Hints(dt=...).")
    dimension, (_, frames, width) = pos.shape[1], shape
    fields = hints.fields or fields_of_width("velocity", width, dimension)
    if len(channel_names(fields, dimension)) != width:
        raise UserError(
            f"{path} has velocities of {width} components; the hint names {len(fields)} fields."
        )
    times = torch.arange(frames, dtype=torch.float64) * hints.dt
    blocks: list[Block] = []
    domains: list[Domain] = []
    for i, (start, stop) in enumerate(zip(nodes[:-1].tolist(), nodes[1:].tolist(), strict=True)):
        mesh = make_mesh(
            f"{path}: mesh {i}", pos[start:stop], cells[corners[i] : corners[i + 1]], types[start:stop]
        )
        domains.append(meshes.setdefault(schema.mesh_digest(mesh), mesh))
        variable = Variable("velocity", "xtc", width)
        raw = Raw(4 * start * frames * width, "<f4", (stop - start, frames, width), variable)
        blocks.append(MappedBlock(path.with_suffix(".dat"), [raw], (1, frames, width, stop - start)))
    return mesh_splits(name, fields, blocks, domains, [times] * len(blocks), {})
