"""The native layout on disk: names, attributes and the way domains are written down.

Gridded data follow the HDF5 schema of The Well (Ohana et al. 2024), so that tools made for it read them
unchanged; what that schema has no place for lies in the group `provenance`, which its reader ignores.
Meshes and particles keep one group per trajectory with the vocabulary of MeshGraphNets (Pfaff et al.
2021), static arrays stored once.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
import torch

from sciml.datasets.guard import examine
from sciml.domains import AXIS_NAMES, Cloud, Domain, Grid, Mesh, Point
from sciml.errors import UserError
from sciml.trajectory import Field

FORMAT = "sciml"
FORMAT_VERSION = 1
SPLITS = ("train", "valid", "test")
SUFFIXES = (".hdf5", ".h5")
TEXT = h5py.string_dtype("utf-8")

BC_TYPES: Mapping[str, str] = {
    "periodic": "periodic",
    "wall": "wall",
    "dirichlet": "wall",
    "neumann": "wall",
    "outflow": "open",
    "inflow": "open",
}
"""Side of a `Grid` -> `bc_type` of the schema, which knows only three; the exact name is in `provenance`."""

SIDES_OF_BC: Mapping[str, str] = {"periodic": "periodic", "wall": "wall", "open": "outflow"}
"""`bc_type` -> side of a `Grid`, for files that other projects wrote."""


def open_hdf5(path: Path) -> h5py.File:
    """Open an HDF5 file for reading.

    Raises:
        UserError: it is missing, is not HDF5, or was cut off.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist.")
    examine(path)
    try:
        return h5py.File(path, "r")
    except OSError as error:  # it changed since it was examined
        raise UserError(
            f"{path} cannot be read as HDF5: {error}. Expected a complete HDF5 file."
        ) from error


def require_memory(needed: int, what: str) -> None:
    """Refuse to read what does not fit into the machine's memory.

    Raises:
        UserError: `needed` bytes are more than there is.
    """
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > total:
        raise UserError(
            f"{what} takes {needed / 1e9:.1f} GB in memory and this machine has {total / 1e9:.1f} GB. Read "
            "fewer samples at a time, or windows."
        )


def text(value: Any) -> str:
    """A string attribute, whether it came as str or as bytes."""
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def texts(values: Iterable[Any]) -> list[str]:
    """A list-of-strings attribute."""
    return [text(v) for v in np.asarray(values, dtype=object).reshape(-1)]


def set_texts(attributes: h5py.AttributeManager, name: str, values: Sequence[str]) -> None:
    """Write a list of strings as a 1-D array of variable-length UTF-8 strings, also when it is empty."""
    attributes.create(name, np.array(list(values), dtype=object), shape=(len(values),), dtype=TEXT)


def set_flags(node: h5py.Dataset | h5py.Group, **flags: bool | Sequence[bool]) -> None:
    """Write booleans as the HDF5 enum (FALSE, TRUE), not as integers."""
    for name, flag in flags.items():
        node.attrs.create(name, np.bool_(flag) if isinstance(flag, bool) else np.array(flag, dtype=bool))


def fields_json(fields: Sequence[Field]) -> str:
    """Names, units and ranks of fields in channel order."""
    return json.dumps([{"name": f.name, "unit": f.unit, "rank": f.rank} for f in fields])


def fields_from_json(value: str) -> tuple[Field, ...]:
    """Inverse of `fields_json`."""
    return tuple(Field(f["name"], f["unit"], f["rank"]) for f in json.loads(value))


def describe_domain(domain: Domain) -> dict[str, Any]:
    """A domain in plain numbers, for a manifest or an attribute; of a mesh only its sizes and digest."""
    if isinstance(domain, Grid):
        return {
            "kind": "grid",
            "shape": list(domain.shape),
            "lengths": list(domain.lengths),
            "origin": list(domain.origin) if isinstance(domain.origin, tuple) else domain.origin,
            "sides": [list(pair) for pair in domain.sides],
            "centering": domain.centering,
            "dx": list(domain.spacing),
            "periodic": list(domain.periodic),
        }
    if isinstance(domain, Mesh):
        return {
            "kind": "mesh",
            "nodes": domain.shape[0],
            "cells": int(domain.cells.shape[0]),
            "dimension": domain.dimension,
            "sha256": mesh_digest(domain),
        }
    if isinstance(domain, Point):
        return {"kind": "point"}
    return {"kind": "cloud", "box": [list(side) for side in domain.box], "periodic": list(domain.flags)}


def domain_from_description(found: Mapping[str, Any]) -> Grid | Point:
    """Inverse of `describe_domain` for grids and for the point without space."""
    if found["kind"] == "point":
        return Point()
    if found["kind"] != "grid":
        raise UserError(
            f"A domain of kind {found['kind']!r} is not known here; expected 'grid' or 'point'."
        )
    return Grid(
        tuple(found["shape"]),
        tuple(found["lengths"]),
        tuple((low, high) for low, high in found["sides"]),
        tuple(found["origin"]),
        found["centering"],
    )


def mesh_digest(mesh: Mesh) -> str:
    """SHA-256 of points, cells and node types: equal digests are the same mesh."""
    digest = hashlib.sha256()
    for array in (mesh.points, mesh.cells, mesh.types):
        digest.update(np.ascontiguousarray(array.numpy()).tobytes())
    return digest.hexdigest()


def sha256_file(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with open(path, "rb", buffering=0) as file:
        if (
            os.fstat(file.fileno()).st_size < 1 << 20
        ):  # where the setting up would cost more than the hashing
            return hashlib.sha256(file.read()).hexdigest()
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_files(paths: Sequence[Path | str]) -> list[str]:
    """SHA-256 of many files, in hexadecimal, on all cores: hashing leaves the interpreter to other threads."""

    def several(chosen: Sequence[Path | str]) -> list[str]:
        return [sha256_file(Path(path)) for path in chosen]

    parts = [paths[i : i + 64] for i in range(0, len(paths), 64)]
    with ThreadPoolExecutor(min(8, 2 * (os.cpu_count() or 1))) as pool:
        return [digest for part in pool.map(several, parts) for digest in part]


def uniform_axis(
    name: str, x: np.ndarray, periodic: bool, place: str, centering: Literal["node", "cell"] | None
) -> tuple[float, float, Literal["node", "cell"], str | None]:
    """Origin, length and centering of one axis from its coordinates, and what had to be assumed.

    Coordinates alone do not say whether values sit on nodes or in cells. Where the caller does not know,
    a first coordinate half a spacing above zero means cells, anything else nodes.

    Raises:
        UserError: the coordinates are not evenly spaced.
    """
    x = np.asarray(x, dtype=np.float64)
    if x.ndim != 1 or x.size < 2:
        raise UserError(f"{place}: axis {name!r} has coordinates of shape {x.shape}; expected at least 2.")
    h = (x[-1] - x[0]) / (x.size - 1)
    # Coordinates are commonly stored in float32.
    tolerance = 1e-3 * abs(h) + 4e-7 * float(np.abs(x).max())
    if not h > 0 or float(np.abs(np.diff(x) - h).max()) > tolerance:
        raise UserError(
            f"{place}: axis {name!r} is not an evenly spaced, increasing line of points (first spacing "
            f"{x[1] - x[0]:.6g}, mean {h:.6g}); only uniform grids are supported."
        )
    note = None
    if centering is None:
        centering = "cell" if abs(x[0] - h / 2) <= tolerance else "node"
        note = f"axis {name!r}: took values as {centering} values, from the first coordinate {x[0]:.6g}"
    if centering == "cell":
        return float(x[0] - h / 2), float(h * x.size), centering, note
    return float(x[0]), float(h * (x.size if periodic else x.size - 1)), centering, note


def points_letters(dimension: int) -> str:
    """Letters of the space axes in the axis strings of `blocks.Variable`."""
    return "xyz"[:dimension]


def components(rank: int) -> str:
    """Letters of the component axes of a field of this rank in axis strings."""
    return "cd"[:rank]


def times_tensor(times: np.ndarray) -> torch.Tensor:
    """Stored times as float64."""
    return torch.as_tensor(np.asarray(times, dtype=np.float64))


__all__ = [
    "AXIS_NAMES",
    "BC_TYPES",
    "Cloud",
    "FORMAT",
    "FORMAT_VERSION",
    "SIDES_OF_BC",
    "SPLITS",
    "SUFFIXES",
    "TEXT",
    "components",
    "describe_domain",
    "domain_from_description",
    "fields_from_json",
    "fields_json",
    "mesh_digest",
    "open_hdf5",
    "points_letters",
    "require_memory",
    "set_flags",
    "set_texts",
    "sha256_file",
    "sha256_files",
    "text",
    "texts",
    "times_tensor",
    "uniform_axis",
]
