"""Look at an array in an HDF5 file of unknown origin before it is read: it must lie in that file and hold numbers."""

from __future__ import annotations

import h5py

from sciml.errors import UserError


def child(group: h5py.Group, name: str) -> h5py.Group | h5py.Dataset | None:
    """What lies under a name of this very group, or None where nothing does or a link leads elsewhere."""
    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        return None
    found = group.get(name)
    return found if isinstance(found, h5py.Group | h5py.Dataset) else None


def numbers(group: h5py.Group, name: str) -> h5py.Dataset:
    """The array of numbers under a name, which may lead through groups, and never out of the file.

    Nothing is read, and its sizes are what the file claims.

    Raises:
        UserError: it is missing, a link, a group, not of numbers, or keeps its values in other files.
    """
    place = f"{group.file.filename}: {group.name.strip('/')}/{name.strip('/')}".replace(": /", ": ")
    found: h5py.Group | h5py.Dataset | None = group
    for part in name.strip("/").split("/"):
        above = found
        found = child(above, part) if isinstance(above, h5py.Group) else None
        if found is None:
            here = ", ".join(sorted(above)[:8]) if isinstance(above, h5py.Group) else ""
            raise UserError(
                f"{place} is missing, or is a link, which is not followed; there is {here or 'nothing'}."
            )
    if not isinstance(found, h5py.Dataset):
        raise UserError(f"{place} is a group; expected an array.")
    if found.dtype.kind not in "fiub":
        raise UserError(f"{place} has values of type {found.dtype}; expected real numbers.")
    if found.is_virtual or found.external:
        raise UserError(
            f"{place} keeps its values in other files, which are not read. Copy them into one file."
        )
    return found
