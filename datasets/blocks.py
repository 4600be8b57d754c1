"""Arrays in files as trajectories (n, T, C, *points), mapped where the file allows it.

A contiguous, unfiltered HDF5 dataset is a plain array at some offset of the file, so it is mapped there
and read at the speed of memory; anything else goes through HDF5. Files are opened when first needed, once
per process: an open handle must not cross a fork or be pickled to a worker.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import h5py
import numpy as np

from sciml.datasets.schema import open_hdf5
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
        return arrange(self._dataset[tuple(choose)], self._variable, (1, count, *self._shape[2:]))[0]


class _Opened:
    """One file as this process sees it: a map of its bytes, and an HDF5 handle once something needs it."""

    def __init__(self, path: Path) -> None:
        self.bytes = np.memmap(path, np.uint8, "r").view(np.ndarray)
        self.file: h5py.File | None = None


_opened: dict[tuple[int, Path, int, int], _Opened] = {}
"""By process, path, inode and time of change, so that neither a fork nor a new file finds an old handle."""


def _shared(path: Path) -> _Opened:
    if not path.is_file():
        raise UserError(f"{path} does not exist any more.")
    status = path.stat()
    key = (os.getpid(), path, status.st_ino, status.st_mtime_ns)
    if key not in _opened:
        for old in [k for k in _opened if k[1] == path]:
            del _opened[old]
        _opened[key] = _Opened(path)
    return _opened[key]


class FileBlock:
    """Trajectories in one HDF5 file."""

    def __init__(self, path: Path, variables: Sequence[Variable], shape: tuple[int, ...]) -> None:
        self.path, self.variables, self.shape = path, tuple(variables), tuple(shape)
        self._process = -1
        self._parts: list[tuple[slice, np.ndarray | _Filtered]] = []

    def parts(self) -> Sequence[tuple[slice, np.ndarray | _Filtered]]:
        if self._process != os.getpid():
            self._parts = self._open()
            self._process = os.getpid()
        return self._parts

    def _open(self) -> list[tuple[slice, np.ndarray | _Filtered]]:
        found: list[tuple[slice, np.ndarray | _Filtered]] = []
        opened, start = _shared(self.path), 0
        file = opened.file or open_hdf5(self.path)
        for variable in self.variables:
            dataset = file[variable.name]
            channels = slice(start, start + variable.channels)
            start = channels.stop
            offset = dataset.id.get_offset()
            if offset is None:  # chunked, compact or not yet allocated
                opened.file = file
                found.append((channels, _Filtered(dataset, variable, self.shape)))
            else:
                flat = opened.bytes[offset : offset + dataset.id.get_storage_size()]
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


class MappedBlock:
    """Trajectories that lie as plain bytes in a file of any kind, mapped once per process.

    Args:
        path: the file.
        arrays: where its arrays lie, in the order of the channels.
        shape: of the block, (n, T, C, *points).

    Raises:
        UserError: an array reaches beyond the end of the file, or does not hold numbers.
    """

    def __init__(self, path: Path, arrays: Sequence[Raw], shape: tuple[int, ...]) -> None:
        self.path, self.arrays, self.shape = path, tuple(arrays), tuple(shape)
        size = path.stat().st_size
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
        self._process = -1
        self._parts: list[tuple[slice, np.ndarray | _Filtered]] = []

    def parts(self) -> Sequence[tuple[slice, np.ndarray | _Filtered]]:
        if self._process != os.getpid():
            self._parts, start = [], 0
            everything = _shared(self.path).bytes
            for raw in self.arrays:
                count = np.dtype(raw.dtype).itemsize * math.prod(raw.shape)
                flat = everything[raw.offset : raw.offset + count]
                array = flat.view(np.dtype(raw.dtype)).reshape(raw.shape)
                channels = slice(start, start + raw.variable.channels)
                self._parts.append((channels, arrange(array, raw.variable, self.shape)))
                start = channels.stop
            self._process = os.getpid()
        return self._parts

    def __getstate__(self) -> dict[str, object]:
        return {"path": self.path, "arrays": self.arrays, "shape": self.shape}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__init__(**state)  # type: ignore[misc]


class ArrayBlock:
    """Trajectories in memory, (n, T, C, *points)."""

    def __init__(self, data: np.ndarray) -> None:
        self.shape, self._data = data.shape, data

    def parts(self) -> Sequence[tuple[slice, np.ndarray | _Filtered]]:
        return [(slice(0, self.shape[2]), self._data)]


def read(block: Block, sample: int, frames: slice, out: np.ndarray) -> None:
    """Copy frames of one trajectory into `out` (T', C, *points), converting to its type."""
    for channels, source in block.parts():
        out[:, channels] = source[sample, frames]
