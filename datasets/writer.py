"""Write shards: one HDF5 file, complete or absent.

A shard is written under a temporary name, flushed to the disk and renamed, so that whatever stands under a
final name is whole. Arrays are contiguous, so that a reader can map them: HDF5 lays out the file, and the
large arrays are then written into the places it gave them, without a copy in between. Archives may be
compressed, one frame a chunk. Nothing in a file depends on the clock: the same content gives the same bytes.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import queue
import secrets
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
import torch
from torch import Tensor

from sciml.datasets import schema
from sciml.domains import Cloud, Grid, Mesh, Point
from sciml.errors import UserError
from sciml.trajectory import Field, Trajectory

PART = ".part"
"""Ending of a file that is being written; it is never read."""

_HEADROOM = 1 << 20  # HDF5's own structures of one shard, generously
_LARGE = 1 << 16  # bytes from which an array is written beside HDF5, not through it
_PIECE = 1 << 22  # bytes that are written or hashed at once
_MOVED = 1 << 20  # bytes whose axes are moved at once: they stay in the cache until they are written

Codec = Literal["none", "lzf"]
"""How arrays are compressed: not at all, so that they can be mapped, or by LZF of shuffled bytes, which HDF5
itself can read everywhere."""


class DiskFull(UserError):
    """There is no room for a file; more of the same will not fit either."""


@dataclass(frozen=True)
class Written:
    """A shard that stands under its final name."""

    path: Path
    samples: int
    bytes: int
    sha256: str
    places: Mapping[str, int]
    """Offset in the file of each array of numbers that lies there as plain bytes, by its path."""


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` which becomes `path` only if the block ends without an error.

    Raises:
        UserError: the disk is full or the folder cannot be written.
    """
    # No other process may have the same name under way: a worker whose parent died can still be writing.
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}{PART}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        part.unlink(missing_ok=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(
                f"The disk is full: {path} was not written and nothing stands under that name. "
                f"Free space in {path.parent} or choose another folder, then run the same command again."
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise UserError(
                f"{path} cannot be written: {error.strerror}. Choose another folder."
            ) from error
        raise
    except BaseException:  # also Ctrl-C: nothing half-written stays behind
        part.unlink(missing_ok=True)
        raise


def write_bytes(path: Path, content: bytes) -> None:
    """Write a whole file or none."""
    with whole_file(path) as part, part.open("wb") as file:
        file.write(content)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file, whole or not at all."""
    write_bytes(path, (json.dumps(content, indent=2) + "\n").encode())


def shard_bytes(samples: int, frames: int, channels: int, points: int, inputs: int = 0) -> int:
    """Upper estimate of a shard's size in bytes, float32."""
    return 4 * samples * points * (frames * channels + inputs) + _HEADROOM


def require_space(folder: Path, needed: int) -> int:
    """Refuse to start what the disk cannot hold; the number of bytes that are free.

    Raises:
        UserError: less than `needed` bytes are free.
    """
    place = folder
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < needed:
        raise DiskFull(
            f"The disk is full: {folder} needs about {needed / 1e6:.1f} MB and {free / 1e6:.1f} MB are free. "
            "Free space, ask for fewer samples, or choose another folder."
        )
    return free


@dataclass(frozen=True)
class _Pieces:
    """An array that is put together piece by piece, in cache: the channels of one field, moved to the end.

    `part` is (n, [T,] C', *points) with `lead` axes before the channels; the array is float32 of `shape`
    (n, [T,] *points, components).
    """

    part: Tensor
    lead: int
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return 4 * math.prod(self.shape)

    def __iter__(self) -> Iterator[np.ndarray]:
        part = self.part
        if part.shape[self.lead] == 1 and part.is_contiguous() and part.dtype == torch.float32:
            yield part.numpy()  # as it lies
            return
        if self.lead == 2 and 4 * math.prod(part.shape[1:]) > _MOVED:
            frames = max(1, _MOVED // (4 * math.prod(part.shape[2:])))
            chosen = (p[None] for sample in part for p in sample.split(frames))
        else:
            chosen = iter(part.split(max(1, _MOVED // max(1, 4 * math.prod(part.shape[1:])))))
        before = (slice(None),) * self.lead
        for piece in chosen:
            values = piece.to(torch.float32).numpy()
            width = values.shape[self.lead]
            turned = np.empty(
                (*values.shape[: self.lead], *values.shape[self.lead + 1 :], width), np.float32
            )
            for c in range(width):  # twice as fast as moving the axis at once
                turned[..., c] = values[(*before, c)]
            yield turned

    def whole(self) -> np.ndarray:
        """The array itself."""
        found = [piece.reshape(-1) for piece in self]
        return (
            found[0] if len(found) == 1 else np.concatenate(found or [np.empty(0, np.float32)])
        ).reshape(self.shape)


class _Sheet:
    """An HDF5 file while it is filled: lays arrays out in it, and keeps the large ones to be written last.

    Args:
        file: open for writing.
        codec: of the arrays that are given a chunk.
        beside: whether large arrays wait in `waiting`, to be written into the finished file.
    """

    def __init__(self, file: h5py.File, codec: Codec, beside: bool) -> None:
        self.file, self.codec, self.beside = file, codec, beside
        self.waiting: list[tuple[h5py.Dataset, np.ndarray | _Pieces]] = []
        self.plain: list[h5py.Dataset] = []

    def put(
        self,
        group: h5py.Group,
        name: str,
        data: np.ndarray | _Pieces,
        chunk: tuple[int, ...] | None = None,
    ) -> h5py.Dataset:
        """An array, allocated at once, so that it has an offset at which it can be mapped.

        Args:
            group: where it goes.
            name: its name there.
            data: its values.
            chunk: the shape that is compressed at once, where the codec compresses.
        """
        beside = self.beside and data.nbytes >= _LARGE
        if isinstance(data, np.ndarray):
            data = np.require(data, requirements="C")  # unlike ascontiguousarray, leaves a scalar a scalar
        elif not beside:
            data = data.whole()
        if not beside and chunk is not None and isinstance(data, np.ndarray):
            _require_finite(data)
        if self.codec != "none" and chunk is not None and isinstance(data, np.ndarray) and data.size:
            return group.create_dataset(
                name, data=data, chunks=chunk, compression=self.codec, shuffle=True, track_times=False
            )
        creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        creation.set_layout(h5py.h5d.CONTIGUOUS)
        creation.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        creation.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        creation.set_obj_track_times(False)
        dtype = data.dtype if isinstance(data, np.ndarray) else np.dtype(np.float32)
        kind = h5py.h5t.py_create(dtype, logical=True)
        space = h5py.h5s.create_simple(data.shape) if data.shape else h5py.h5s.create(h5py.h5s.SCALAR)
        dataset = h5py.Dataset(h5py.h5d.create(group.id, name.encode(), kind, space, creation))
        self.plain.append(dataset)
        if beside:
            self.waiting.append((dataset, data))
        elif isinstance(data, np.ndarray) and data.size:
            dataset[...] = data
        return dataset


_ALIGNED: Mapping[str, Any] = {"alignment_threshold": 4096, "alignment_interval": 64}


def _image(fill: Callable[[_Sheet], None], codec: Codec) -> bytes:
    """The bytes of an HDF5 file that `fill` fills, built in memory."""
    with h5py.File(
        "shard", "w", driver="core", backing_store=False, block_size=1 << 20, **_ALIGNED
    ) as file:
        fill(_Sheet(file, codec, beside=False))
        file.flush()
        return file.id.get_file_image()


def _write_hdf5(
    path: Path, fill: Callable[[_Sheet], None], codec: Codec
) -> tuple[int, str, dict[str, int]]:
    """Write the HDF5 file that `fill` fills, whole or not at all: its size, SHA-256, and where its arrays lie."""
    if codec != "none":  # what HDF5 compresses lies where it likes, and is smaller
        image = _image(fill, codec)
        write_bytes(path, image)
        return len(image), hashlib.sha256(image).hexdigest(), {}
    with whole_file(path) as part:
        try:
            # No lock: the name is new, and some network file systems have none.
            with h5py.File(part, "w", locking=False, **_ALIGNED) as file:
                sheet = _Sheet(file, codec, beside=True)
                fill(sheet)
                plain = {
                    d.name.lstrip("/"): d.id.get_offset() for d in sheet.plain if d.dtype == np.float32
                }
                places = sorted(
                    ((d.id.get_offset(), data) for d, data in sheet.waiting), key=lambda found: found[0]
                )
        except RuntimeError as error:  # what HDF5 says of a disk that has no room for its own structures
            raise OSError(errno.ENOSPC, str(error)) from error
        with part.open("r+b", buffering=0) as raw, _Digest() as digest:
            for offset, data in places:
                digest.add(raw.read(offset - raw.tell()))  # what HDF5 wrote before it
                for piece in [data] if isinstance(data, np.ndarray) else data:
                    flat = piece.reshape(-1).data.cast("B")
                    for start in range(0, len(flat), _PIECE):
                        some = flat[start : start + _PIECE]
                        digest.add(some)
                        _require_finite(np.frombuffer(some, piece.dtype))
                        at, count = raw.tell(), len(some)
                        while len(some):
                            some = some[raw.write(some) :]
                        _begin_flush(raw.fileno(), at, count)
            digest.add(raw.read())
            os.fsync(raw.fileno())
            size = os.fstat(raw.fileno()).st_size
        return size, digest.hexdigest, plain


def _begin_flush(file: int, at: int, count: int) -> None:
    """Let the disk begin with what was just written, so that the flush at the end has little left to wait for.

    Linux starts to write pages that it is told not to keep, and keeps them until they are written.
    """
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(file, at, count, os.POSIX_FADV_DONTNEED)


def _require_finite(values: np.ndarray) -> None:
    """Refuse values of a field that are not finite; a piece at a time, this costs next to nothing.

    Raises:
        ValueError: there is one.
    """
    if values.size and not math.isfinite(sum(map(float, torch.aminmax(torch.from_numpy(values))))):
        raise ValueError("write_shard got values that are not finite; leave such samples out.")


class _Digest(threading.Thread):
    """SHA-256 of bytes in memory, worked out while the disk is busy: reading a file back would take longer."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        # As many pieces as a large shard has: the disk should not wait for the sum.
        self._queue: queue.Queue[bytes | memoryview | None] = queue.Queue(maxsize=64)
        self._digest = hashlib.sha256()

    def __enter__(self) -> _Digest:
        self.start()
        return self

    def __exit__(self, *fault: object) -> None:
        self._queue.put(None)
        self.join()

    def add(self, data: bytes | memoryview) -> None:
        """The next bytes, which must not change any more."""
        self._queue.put(data)

    def run(self) -> None:
        while (data := self._queue.get()) is not None:
            self._digest.update(data)

    @property
    def hexdigest(self) -> str:
        """Of all that was added, once the block has ended."""
        return self._digest.hexdigest()


def _provenance(file: h5py.File, content: Mapping[str, Any]) -> h5py.Group:
    group = file.create_group("provenance")
    for name, value in content.items():
        if isinstance(value, (dict, list, tuple)):
            group.attrs[name] = json.dumps(value)
        else:
            group.attrs[name] = value
    group.attrs["format"] = schema.FORMAT
    group.attrs["format_version"] = schema.FORMAT_VERSION
    return group


def _stack(data: Tensor, start: int, f: Field, dimension: int) -> tuple[_Pieces, int]:
    """The channels of one field, (n, [T,] C, *points) -> (n, [T,] *points, components), and the next start."""
    lead = data.ndim - dimension - 1
    count = dimension**f.rank
    part = data.detach().cpu().narrow(lead, start, count)
    shape = (*part.shape[:lead], *part.shape[lead + 1 :], *[dimension] * f.rank)
    return _Pieces(part, lead, shape), start + count


def _fill_well(
    sheet: _Sheet,
    trajectory: Trajectory,
    name: str,
    inputs: Tensor | None,
    input_fields: Sequence[Field],
    constants: Mapping[str, float],
    provenance: Mapping[str, Any],
) -> None:
    file, domain = sheet.file, trajectory.domain
    assert isinstance(domain, Grid | Point)  # write_shard chose this layout by the domain
    dimension, samples = domain.dimension, len(trajectory)
    file.attrs["dataset_name"] = name
    file.attrs["grid_type"] = "cartesian"
    file.attrs["n_spatial_dims"] = dimension
    file.attrs["n_trajectories"] = samples
    schema.set_texts(file.attrs, "simulation_parameters", list(constants))
    for parameter, value in constants.items():
        file.attrs[parameter] = float(value)

    dimensions = file.create_group("dimensions")
    schema.set_texts(dimensions.attrs, "spatial_dims", schema.AXIS_NAMES[:dimension])
    time = sheet.put(dimensions, "time", trajectory.times.numpy().astype(np.float32))
    schema.set_flags(time, sample_varying=False, time_varying=True)
    if isinstance(domain, Grid):
        for axis, x in zip(domain.axis_names, domain.axes(torch.float32), strict=True):
            schema.set_flags(
                sheet.put(dimensions, axis, x.numpy()), sample_varying=False, time_varying=False
            )
    _fill_boundaries(sheet, file.create_group("boundary_conditions"), domain)

    scalars = file.create_group("scalars")
    schema.set_texts(scalars.attrs, "field_names", [*constants, *trajectory.parameters])
    for parameter, value in constants.items():
        scalar = sheet.put(scalars, parameter, np.array(value, dtype=np.float32))
        schema.set_flags(scalar, sample_varying=False, time_varying=False)
    for parameter, values in trajectory.parameters.items():
        scalar = sheet.put(scalars, parameter, values.reshape(samples).to(torch.float32).numpy())
        schema.set_flags(scalar, sample_varying=True, time_varying=False)

    groups = [file.create_group(f"t{rank}_fields") for rank in range(3)]
    start, names = 0, [[] for _ in range(3)]  # type: tuple[int, list[list[str]]]
    for f in trajectory.fields:
        values_of, start = _stack(trajectory.data, start, f, dimension)
        dataset = sheet.put(groups[f.rank], f.name, values_of, (1, 1, *values_of.shape[2:]))
        schema.set_flags(dataset, sample_varying=True, time_varying=True, dim_varying=[True] * dimension)
        if f.rank == 2:
            schema.set_flags(dataset, symmetric=False, antisymmetric=False)
        dataset.attrs["unit"] = f.unit
        names[f.rank].append(f.name)
    start = 0
    for f in input_fields:
        assert inputs is not None  # write_shard checked that both or neither are given
        values_of, start = _stack(inputs, start, f, dimension)
        dataset = sheet.put(groups[f.rank], f.name, values_of, (1, *values_of.shape[1:]))
        schema.set_flags(dataset, sample_varying=True, time_varying=False, dim_varying=[True] * dimension)
        if f.rank == 2:
            schema.set_flags(dataset, symmetric=False, antisymmetric=False)
        dataset.attrs["unit"] = f.unit
        names[f.rank].append(f.name)
    for group, listed in zip(groups, names, strict=True):
        schema.set_texts(group.attrs, "field_names", listed)

    extra = _provenance(file, provenance)
    extra.attrs["fields"] = schema.fields_json(trajectory.fields)
    extra.attrs["input_fields"] = schema.fields_json(input_fields)
    extra.attrs["domain"] = json.dumps(schema.describe_domain(domain))
    if isinstance(domain, Grid):
        extra.attrs["centering"] = domain.centering
        extra.attrs["dx"] = np.array(domain.spacing)
        extra.attrs["lengths"] = np.array(domain.lengths)
        extra.attrs["origin"] = np.array(domain.origin)
        schema.set_flags(extra, periodic=list(domain.periodic))
        schema.set_texts(extra.attrs, "axis_names", domain.axis_names)
    # The schema keeps coordinates and parameters in float32; here are the numbers that were used.
    sheet.put(extra, "time", trajectory.times.to(torch.float64).numpy())
    exact = extra.create_group("parameters")
    for parameter, values in trajectory.parameters.items():
        sheet.put(exact, parameter, values.reshape(samples).to(torch.float64).numpy())


def _fill_boundaries(sheet: _Sheet, boundaries: h5py.Group, domain: Grid | Point) -> None:
    """A group per axis and kind of side, with the points where it holds."""
    if isinstance(domain, Point):
        return
    for axis, n, (low, high) in zip(domain.axis_names, domain.shape, domain.sides, strict=True):
        ends: dict[str, list[int]] = {}
        for end, side in ((0, low), (n - 1, high)):
            ends.setdefault(schema.BC_TYPES[side], []).append(end)
        for kind, places in ends.items():
            group = boundaries.create_group(f"{axis}_{kind}")
            group.attrs["bc_type"] = kind
            schema.set_texts(group.attrs, "associated_dims", [axis])
            schema.set_texts(group.attrs, "associated_fields", [])
            schema.set_flags(group, sample_varying=False, time_varying=False)
            mask = np.zeros(n, dtype=bool)
            mask[places] = True
            sheet.put(group, "mask", mask)


def _fill_groups(
    sheet: _Sheet,
    trajectories: Sequence[Trajectory],
    name: str,
    constants: Mapping[str, float],
    provenance: Mapping[str, Any],
) -> None:
    file, first = sheet.file, trajectories[0]
    dimension = first.domain.dimension
    features: dict[str, dict[str, Any]] = {}
    if isinstance(first.domain, Mesh):
        corners = int(first.domain.cells.shape[1])
        features["mesh_pos"] = {"type": "static", "shape": [1, -1, dimension], "dtype": "float64"}
        features["cells"] = {"type": "static", "shape": [1, -1, corners], "dtype": "int32"}
        features["node_type"] = {"type": "static", "shape": [1, -1, 1], "dtype": "int32"}
    if isinstance(first.domain, Cloud) and first.domain.particle_type is not None:
        features["particle_type"] = {"type": "static", "shape": [1, -1, 1], "dtype": "int32"}
    frames = int(first.data.shape[1])
    for f in first.fields:
        width = dimension**f.rank
        features[f.name] = {"type": "dynamic", "shape": [frames, -1, width], "dtype": "float32"}
    times = first.times.to(torch.float64).numpy()
    file.attrs["dataset_name"] = name
    file.attrs["trajectory_length"] = frames
    file.attrs["dt"] = float(times[1] - times[0]) if frames > 1 else 0.0
    schema.set_texts(file.attrs, "field_names", list(features))
    file.attrs["features"] = json.dumps(features)
    for parameter, value in constants.items():
        file.attrs[parameter] = float(value)

    homes: dict[str, h5py.Group] = {}
    number = 0
    for trajectory in trajectories:
        for sample in range(len(trajectory)):
            group = file.create_group(str(number))
            number += 1
            if isinstance(trajectory.domain, Mesh):
                mesh, digest = trajectory.domain, schema.mesh_digest(trajectory.domain)
                if digest in homes:  # a hard link: the arrays are stored once
                    for static in ("mesh_pos", "cells", "node_type"):
                        group[static] = homes[digest][static]
                else:
                    homes[digest] = group
                    sheet.put(group, "mesh_pos", mesh.points.numpy()[None])
                    sheet.put(group, "cells", mesh.cells.numpy().astype(np.int32)[None])
                    sheet.put(group, "node_type", mesh.types.numpy().astype(np.int32)[None, :, None])
            if isinstance(trajectory.domain, Cloud) and trajectory.domain.particle_type is not None:
                types = trajectory.domain.particle_type.numpy().astype(np.int32)
                digest = hashlib.sha256(types.tobytes()).hexdigest()
                if digest in homes:
                    group["particle_type"] = homes[digest]["particle_type"]
                else:
                    homes[digest] = group
                    sheet.put(group, "particle_type", types[None, :, None])
            start = 0
            state = trajectory.data[sample].detach().cpu().to(torch.float32)
            for f in trajectory.fields:
                width = dimension**f.rank
                part = state[:, start : start + width].transpose(1, 2)
                sheet.put(group, f.name, part.contiguous().numpy(), (1, *part.shape[1:]))
                start += width
            for parameter, values in trajectory.parameters.items():
                group.attrs[parameter] = float(values.reshape(len(trajectory))[sample])
    extra = _provenance(file, provenance)
    extra.attrs["fields"] = schema.fields_json(first.fields)
    schema.set_texts(extra.attrs, "parameters", list(first.parameters))
    schema.set_texts(extra.attrs, "constants", list(constants))
    if isinstance(first.domain, Cloud):
        extra.attrs["domain"] = json.dumps(schema.describe_domain(first.domain))
    sheet.put(extra, "time", times)


def write_shard(
    path: Path,
    trajectories: Trajectory | Sequence[Trajectory],
    *,
    name: str,
    inputs: Tensor | None = None,
    input_fields: Sequence[Field] = (),
    constants: Mapping[str, float] | None = None,
    provenance: Mapping[str, Any] | None = None,
    codec: Codec = "none",
) -> Written:
    """Write one shard, float32, and return its size and checksum.

    Args:
        path: final name, ending in .hdf5.
        trajectories: one Trajectory on a Grid or a Point; or one or several on meshes or clouds, each with its own
            domain. A mesh that several samples share is stored once.
        name: name of the dataset, the same in all its files.
        inputs: fields that do not change in time but differ between samples, (n, A, *points): the
            coefficient of a stationary equation. Grids only.
        input_fields: what `inputs` holds.
        constants: parameters that all samples share.
        provenance: whatever else a later reader should know; numbers, strings, and what JSON can say.
        codec: "none" for arrays that are mapped, "lzf" for archives: compressed frame by frame.

    Raises:
        DiskFull: the disk is full.
        UserError: the folder cannot be written.
        ValueError: the arguments do not fit together, or a value is not finite.
    """
    several = [trajectories] if isinstance(trajectories, Trajectory) else list(trajectories)
    if not several:
        raise ValueError("write_shard got no trajectories; a shard holds at least one.")
    for trajectory in several:
        if trajectory.fields != several[0].fields or type(trajectory.domain) is not type(several[0].domain):
            raise ValueError("write_shard got trajectories of different fields or kinds of domain.")
    if (inputs is None) != (not input_fields):
        raise ValueError("write_shard needs inputs and input_fields together, or neither.")
    constants, provenance = dict(constants or {}), dict(provenance or {})
    if isinstance(several[0].domain, Grid | Point):
        if len(several) != 1:
            raise ValueError(
                f"write_shard got {len(several)} trajectories on one grid or point; join them to one batch."
            )

        def fill(sheet: _Sheet) -> None:
            _fill_well(sheet, several[0], name, inputs, input_fields, constants, provenance)

    else:
        if inputs is not None:
            raise ValueError("write_shard stores inputs on grids only.")
        if len({(t.data.shape[1], tuple(t.times.tolist())) for t in several}) != 1:
            raise ValueError(
                "write_shard got trajectories of different times; one shard holds one set of times."
            )

        def fill(sheet: _Sheet) -> None:
            _fill_groups(sheet, several, name, constants, provenance)

    size, sha256, places = _write_hdf5(path, fill, codec)
    return Written(path, sum(len(t) for t in several), size, sha256, places)
