"""Look at an HDF5 file of unknown origin before reading it: no links, no foreign types, no sizes that are not there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from sciml.datasets import schema
from sciml.datasets.stored import child, numbers
from sciml.errors import UserError

MOST_DENSE = 1 << 12
"""Values per stored byte beyond which sizes are taken as false; gzip and LZF reach about a thousand."""


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """The file, whatever HDF5 finds wrong in it later told as a damage.

    Raises:
        UserError: it is not HDF5, is cut off or damaged.
    """
    with schema.open_hdf5(path) as file:
        try:
            yield file
        except (OSError, RuntimeError, KeyError, OverflowError, UnicodeDecodeError) as error:
            first = str(error).strip("'\"").splitlines() or [type(error).__name__]
            raise UserError(f"{path} is damaged: {first[0]}. Copy or generate it again.") from error


def has(group: h5py.Group, *names: str) -> bool:
    """Whether all of these are arrays of this group."""
    return all(isinstance(child(group, name), h5py.Dataset) for name in names)


def array(group: h5py.Group, name: str, *, axes: str = "") -> h5py.Dataset:
    """An array of numbers that lies in this very file.

    Args:
        group: where it lies.
        name: of the array.
        axes: its number of axes, spelled for the message, as in "ntxy".

    Raises:
        UserError: it is missing, a link, not of numbers, of another rank, or claims more than is stored.
    """
    found = numbers(group, name)
    place = f"{group.file.filename}: {group.name.strip('/')}/{name}".replace(": /", ": ")
    if found.shape is None or (axes and found.ndim != len(axes)) or 0 in found.shape:
        letters = f"; expected axes {tuple(axes)}" if axes else "; expected values"
        raise UserError(f"{place} has shape {found.shape}{letters}.")
    claimed, stored = found.size * found.dtype.itemsize, found.id.get_storage_size()
    if claimed > (1 << 20) and claimed > MOST_DENSE * max(stored, 1):
        raise UserError(
            f"{place} claims {claimed} bytes, shape {found.shape}, and {stored} are stored: the file is damaged or was "
            "never filled."
        )
    return found


def values(group: h5py.Group, name: str, *, axes: str = "") -> np.ndarray:
    """A small array, such as coordinates or times, read as float64.

    Raises:
        UserError: as for `array`, or it does not fit into memory or holds values that are not finite.
    """
    found = array(group, name, axes=axes)
    schema.require_memory(8 * found.size, f"Reading {found.name} of {group.file.filename}")
    out = np.asarray(found[()], dtype=np.float64)
    if not np.isfinite(out).all():
        raise UserError(f"{group.file.filename}: {found.name} holds values that are not finite.")
    return out


def number_attributes(group: h5py.Group | h5py.File) -> dict[str, float]:
    """The attributes that are single numbers."""
    found: dict[str, float] = {}
    for name in group.attrs:
        value = attribute(group, name)
        if value is not None and np.size(value) == 1 and np.asarray(value).dtype.kind in "fiub":
            found[name] = float(np.asarray(value).reshape(-1)[0])
    return found


def attribute(node: h5py.Group | h5py.Dataset | h5py.File, name: str) -> Any:
    """An attribute, or None where it is missing, unreadable or larger than an attribute may be."""
    if name not in node.attrs:
        return None
    try:
        identity = node.attrs.get_id(name)
        if (
            identity.get_storage_size() > (1 << 20)
            or identity.dtype.kind == "O"
            and identity.shape not in ((), (1,))
        ):
            return None
        return node.attrs[name]
    except (OSError, TypeError, ValueError, KeyError, RuntimeError, UnicodeDecodeError):
        return None
