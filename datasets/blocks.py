"""Arrays in files as trajectories (n, T, C, *points), mapped where the file allows it.

A contiguous, unfiltered HDF5 dataset is a plain array at some offset of the file, so it is mapped there
and read at the speed of memory; anything else goes through HDF5. Files are opened when first needed, once
per process: an open handle must not cross a fork or be pickled to a worker.
"""

from __future__ import annotations

import math
import mmap
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import h5py
import numpy as np

from sciml.datasets.schema import open_hdf5
from sciml.datasets.stored import numbers
from sciml.errors import UserError


@dataclass(frozen=True)
class Variable:
    """One array of a file and what its axes mean.

    `axes` has a letter per axis in the order on disk: "n" sample, "t" time, "x", "y", "z" space, "c" and
    "d" components. A missing "n" or "t" means the same values for all; a missing space axis likewise.
    """

    name: str
    axes: str
    channels: int = 1


class Block(Protocol):
    """Some trajectories that lie in one place."""

    shape: tuple[int, ...]
    """(n, T, C, *points)."""

    def parts(self) -> Sequence[tuple[slice, np.ndarray | _Filtered]]:
        """Channels and where they come from, indexed [sample, frames] -> (T', C', *points)."""
        ...


def arrange(array: np.ndarray, variable: Variable, shape: tuple[int, ...]) -> np.ndarray:
    """View an array with the axes of `variable` as (n, T, C', *points), repeating what is missing.

    `shape` is the block's (n, T, C, *points).
    """
    axes, space = variable.axes, "xyz"[: len(shape) - 3]
    present = "".join(a for a in "nt" + "cd" + space if a in axes)
    view = array.transpose([axes.index(a) for a in present])
    for place, axis in enumerate("nt" + "cd" + space):
        if axis not in axes:
            view = np.expand_dims(view, place)
    n, t, c, d, *points = view.shape
    view = view.reshape(n, t, c * d, *points) if d > 1 else view[:, :, :, 0]
    return np.broadcast_to(view, (*shape[:2], variable.channels, *shape[3:]))


class _Filtered:
    """A chunked or compressed dataset, read window by window through HDF5."""

    def __init__(self, dataset: h5py.Dataset, variable: Variable, shape: tuple[int, ...]) -> None:
        self._dataset, self._variable, self._shape = dataset, variable, shape

    def __getitem__(self, index: tuple[int, slice]) -> np.ndarray:
        sample, frames = index
        choose = [slice(None)] * len(self._variable.axes)
        if "n" in self._variable.axes:
            choose[self._variable.axes.index("n")] = slice(sample, sample + 1)
        if "t" in self._variable.axes:
            choose[self._variable.axes.index("t")] = frames
        count = len(range(*frames.indices(self._shape[1])))
        try:
            values = self._dataset[tuple(choose)]
        except (OSError, RuntimeError) as error:
            raise UserError(
                f"{self._variable.name!r}, sample {sample} cannot be read from its file: {error}. The file is damaged, or "
                "was compressed by a method that is not installed here."
            ) from error
        return arrange(values, self._variable, (1, count, *self._shape[2:]))[0]


class _Opened:
    """One file as this process sees it: a map of its bytes, and an HDF5 handle once something needs it."""

    def __init__(self, path: Path, process: int) -> None:
        self.process = process
        with path.open("rb") as file:
            self.map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.bytes = np.frombuffer(self.map, np.uint8)
        self.file: h5py.File | None = None
        self.parts: WeakKeyDictionary[_Lazy, list[tuple[slice, np.ndarray | _Filtered]]] = (
            WeakKeyDictionary()
        )
        """By the block that asked for them."""

    def close(self) -> None:
        """Forget the parts, so that the map goes with the last array made of it."""
        self.parts.clear()
        self.process = -1
        if self.file is not None:
            self.file.close()


MAPS, HANDLES = 4096, 128
"""Files that a process keeps mapped (a system allows some 65,000 maps), and open (often 1,024 descriptors)."""

_opened: dict[tuple[Path, int, int], _Opened] = {}
"""By path, inode and time of change, so that a new file does not find an old map; the least recently opened first."""


def _shared(path: Path) -> _Opened:
    if not path.is_file():
        raise UserError(f"{path} does not exist any more.")
    status = path.stat()
    key, process = (path, status.st_ino, status.st_mtime_ns), os.getpid()
    found = _opened.pop(key, None)
    if found is None or found.process != process:
        if not status.st_size:
            raise UserError(f"{path} is empty.")
        found = _Opened(path, process)
        for old in [k for k in _opened if k[0] == path or _opened[k].process != process]:
            _forget(old)
        while len(_opened) >= MAPS:
            _forget(next(iter(_opened)))
        handles = [k for k, opened in _opened.items() if opened.file is not None]
        for old in handles[: max(0, len(handles) - HANDLES + 1)]:
            _forget(old)
    _opened[key] = found
    return found


def _forget(key: tuple[Path, int, int]) -> None:
    """Close a file; what the parent of a fork opened is left to the parent."""
    opened = _opened.pop(key)
    if opened.process == os.getpid():
        opened.close()


RESIDENT = 128 << 20
"""Bytes of mapped files that a process keeps in its own memory; the system's cache keeps them all the same."""

_touched, _floor = 0, -1


def _mapped_bytes() -> int:
    """Bytes of files, libraries among them, that are resident in this process; 0 where the system does not say."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[2]) * mmap.PAGESIZE
    except OSError:
        return 0


def touch(count: int, size: int) -> None:
    """Account for `count` reads of `size` bytes, and hand mapped pages back once there are too many.

    Without this a process that reads a dataset larger than its memory looks, and may be billed, as if it held it all.
    """
    global _touched, _floor
    _touched += count * max(size, 1 << 16)  # a fault brings in its neighbourhood
    if _touched < RESIDENT:
        return
    _touched = 0
    resident = _mapped_bytes()
    if _floor < 0:
        _floor = resident
    if resident > _floor + RESIDENT:
        hand_back()
        _floor = _mapped_bytes()


def hand_back() -> None:
    """Give all mapped pages back: what is read again comes from the system's cache."""
    for opened in _opened.values():
        if opened.process == os.getpid():
            opened.map.madvise(mmap.MADV_DONTNEED)


class _Lazy(ABC):
    """What blocks in files have in common: parts that are found once per process and file, and can be dropped."""

    path: Path
    _opened: _Opened | None = None

    def parts(self) -> Sequence[tuple[slice, np.ndarray | _Filtered]]:
        opened = self._opened
        if opened is None or opened.process != os.getpid():
            opened = self._opened = _shared(self.path)
        parts = opened.parts.get(self)
        if parts is None:
            parts = opened.parts[self] = self._find(opened)
        return parts

    @abstractmethod
    def _find(self, opened: _Opened) -> list[tuple[slice, np.ndarray | _Filtered]]:
        """Channels and where they come from, in a file that this process has just mapped."""


LARGEST, RATIO = 64 << 20, 1100
"""Bytes that a chunk or frame may have in any case, and how many times those that are stored (gzip reaches 1032)."""


def _expected(variable: Variable, shape: tuple[int, ...]) -> dict[str, int]:
    """Letter -> size of the axes that a block of `shape` fixes."""
    return dict(zip("nt" + "xyz"[: len(shape) - 3], (*shape[:2], *shape[3:]), strict=True))


def stored_array(file: h5py.File, variable: Variable, shape: tuple[int, ...]) -> h5py.Dataset:
    """The dataset behind a variable, looked at before anything is read or allocated.

    Raises:
        UserError: it is missing, lies in another file, does not hold numbers, has another shape than the block, or
            its bytes are not all there.
    """
    node = numbers(file, variable.name)
    place = f"{file.filename}: {variable.name!r}"
    if (
        node.chunks is not None
    ):  # windows are read from it, so that it may be larger than what was ever filled
        # A chunk is taken into memory whole, and a hostile one claims to be larger than anything behind it.
        size = node.dtype.itemsize * math.prod(node.chunks)
        frame = node.dtype.itemsize * math.prod(
            n for n, a in zip(node.shape, variable.axes, strict=False) if a not in "nt"
        )
        stored = node.id.get_storage_size()
        if max(size, frame) > max(LARGEST, RATIO * stored):
            raise UserError(
                f"{place} claims chunks of {size:.3g} bytes and frames of {frame:.3g}, of which {stored} are stored. No "
                "compression does that; the file is damaged or made to do harm."
            )
    sizes = _expected(variable, shape)
    fits = len(node.shape) == len(variable.axes) and all(
        sizes.get(letter, n) == n for letter, n in zip(variable.axes, node.shape, strict=True)
    )
    width = math.prod(n for letter, n in zip(variable.axes, node.shape, strict=False) if letter in "cd")
    if not fits or width != variable.channels:
        raise UserError(
            f"{place} has shape {node.shape}; expected axes {variable.axes!r} of a block {shape} with "
            f"{variable.channels} of its channels."
        )
    return node


class FileBlock(_Lazy):
    """Trajectories in one HDF5 file."""

    def __init__(self, path: Path, variables: Sequence[Variable], shape: tuple[int, ...]) -> None:
        self.path, self.variables, self.shape = path, tuple(variables), tuple(shape)

    def _find(self, opened: _Opened) -> list[tuple[slice, np.ndarray | _Filtered]]:
        found: list[tuple[slice, np.ndarray | _Filtered]] = []
        start = 0
        file = opened.file or open_hdf5(self.path)
        for variable in self.variables:
            dataset = stored_array(file, variable, self.shape)
            channels = slice(start, start + variable.channels)
            start = channels.stop
            offset = dataset.id.get_offset()
            if offset is None:  # chunked, compact or not yet allocated
                opened.file = file
                found.append((channels, _Filtered(dataset, variable, self.shape)))
            else:
                size = dataset.dtype.itemsize * math.prod(dataset.shape)
                flat = opened.bytes[offset : offset + size]
                if len(flat) != size:
                    raise UserError(
                        f"{self.path} is cut off or damaged: {variable.name!r} would end at byte {offset + size} "
                        f"of {len(opened.bytes)}."
                    )
                array = flat.view(dataset.dtype).reshape(dataset.shape)
                found.append((channels, arrange(array, variable, self.shape)))
        if opened.file is None:  # a map needs no handle, and an open handle keeps others from writing
            file.close()
        return found

    def __getstate__(self) -> dict[str, object]:
        return {"path": self.path, "variables": self.variables, "shape": self.shape}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__init__(**state)  # type: ignore[misc]


@dataclass(frozen=True)
class Raw:
    """An array that lies as plain bytes, in C order, in some file.

    Args:
        offset: of its first byte.
        dtype: of its values, with the byte order, such as "<f4".
        shape: of the array.
        variable: what its axes mean.
    """

    offset: int
    dtype: str
    shape: tuple[int, ...]
    variable: Variable


class MappedBlock(_Lazy):
    """Trajectories that lie as plain bytes in a file of any kind, mapped once per process.

    Args:
        path: the file.
        arrays: where its arrays lie, in the order of the channels.
        shape: of the block, (n, T, C, *points).
        size: of the file in bytes, if it is known; then the file is looked at when it is first read.

    Raises:
        UserError: an array reaches beyond the end of the file, or does not hold numbers.
    """

    def __init__(
        self, path: Path, arrays: Sequence[Raw], shape: tuple[int, ...], size: int | None = None
    ) -> None:
        self.path, self.arrays, self.shape, self.size = path, tuple(arrays), tuple(shape), size
        size = path.stat().st_size if size is None else size
        for raw in self.arrays:
            if np.dtype(raw.dtype).kind not in "fiub":
                raise UserError(
                    f"{path}: {raw.variable.name!r} has values of type {raw.dtype}, not numbers."
                )
            end = raw.offset + np.dtype(raw.dtype).itemsize * math.prod(raw.shape)
            if raw.offset < 0 or min(raw.shape, default=0) < 0 or end > size:
                raise UserError(
                    f"{path} is cut off or damaged: {raw.variable.name!r} of shape {raw.shape} would end at byte {end} "
                    f"of {size}."
                )

    def _find(self, opened: _Opened) -> list[tuple[slice, np.ndarray | _Filtered]]:
        found: list[tuple[slice, np.ndarray | _Filtered]] = []
        start = 0
        if self.size is not None and len(opened.bytes) != self.size:
            raise UserError(
                f"{self.path} has {len(opened.bytes)} bytes, and the manifest of its dataset says {self.size}: it was cut "
                "off or changed. Generate it again, or delete the manifest to open the files as they are."
            )
        for raw in self.arrays:
            count = np.dtype(raw.dtype).itemsize * math.prod(raw.shape)
            flat = opened.bytes[raw.offset : raw.offset + count]
            array = flat.view(np.dtype(raw.dtype)).reshape(raw.shape)
            channels = slice(start, start + raw.variable.channels)
            found.append((channels, arrange(array, raw.variable, self.shape)))
            start = channels.stop
        return found

    def __getstate__(self) -> dict[str, object]:
        return {"path": self.path, "arrays": self.arrays, "shape": self.shape, "size": self.size}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__init__(**state)  # type: ignore[misc]


class ArrayBlock:
    """Trajectories in memory, (n, T, C, *points)."""

    def __init__(self, data: np.ndarray) -> None:
        self.shape, self._data = data.shape, data

    def parts(self) -> Sequence[tuple[slice, np.ndarray | _Filtered]]:
        return [(slice(0, self.shape[2]), self._data)]


class Thinned:
    """Fewer points and frames of another block.

    Args:
        block: the whole one.
        points: axes of the points that are left.
        every: points per point that is left, along each axis.
        frames: frames per frame that is left.
        cells: take the mean over `every` cells instead of one node.
    """

    def __init__(
        self, block: Block, points: tuple[int, ...], every: int, frames: int, cells: bool = False
    ) -> None:
        n, t, channels = block.shape[:3]
        self.shape = (n, -(-t // frames), channels, *points)
        self._block, self._every, self._frames, self._cells = block, every, frames, cells

    def parts(self) -> Sequence[tuple[slice, np.ndarray | _Filtered]]:
        nodes = (
            slice(None),
            slice(None),
            slice(None),
            *[slice(None, None, self._every)] * (len(self.shape) - 3),
        )
        averaged = self._cells and self._every > 1
        found: list[tuple[slice, Any]] = []
        for channels, source in self._block.parts():
            if isinstance(source, np.ndarray) and not averaged:
                found.append((channels, source[:, :: self._frames][nodes if self._every > 1 else ()]))
            else:
                found.append(
                    (channels, _ThinnedPart(source, self.shape, self._every, self._frames, averaged))
                )
        return found


class _ThinnedPart:
    """What has to be read before it can be thinned out."""

    def __init__(
        self, source: Any, shape: tuple[int, ...], every: int, frames: int, averaged: bool
    ) -> None:
        self._source, self._shape, self._every, self._frames, self._averaged = (
            source,
            shape,
            every,
            frames,
            averaged,
        )

    def __getitem__(self, index: tuple[int, slice]) -> np.ndarray:
        sample, frames = index
        chosen = range(self._shape[1])[frames]
        if not len(chosen):
            step = slice(0, 0)
        else:
            step = slice(
                chosen[0] * self._frames, chosen[-1] * self._frames + 1, chosen.step * self._frames
            )
        values: np.ndarray = self._source[sample, step]
        if self._every == 1:
            return values
        if not self._averaged:
            return values[(slice(None), slice(None), *[slice(None, None, self._every)] * (values.ndim - 2))]
        split = [n for size in values.shape[2:] for n in (size // self._every, self._every)]
        cells: np.ndarray = values.reshape(*values.shape[:2], *split).astype(np.float64)
        return cells.mean(axis=tuple(range(3, cells.ndim, 2)))


def read(block: Block, sample: int, frames: slice, out: np.ndarray) -> None:
    """Copy frames of one trajectory into `out` (T', C, *points), converting to its type."""
    for channels, source in block.parts():
        out[:, channels] = source[sample, frames]
    touch(1, out.nbytes)
