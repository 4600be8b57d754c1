"""Walk through HDF5 files in a process of its own, so that a damaged one can hang or crash nothing else.

Run as a script: reads a path per line, prints lines of JSON. {"at": n} is a sign of life, {"ok": true} the end of a file
without fault, {"error": "..."} what is wrong with it. Imports h5py alone, so that it starts quickly.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import h5py

DEPTH, OBJECTS = 32, 5_000_000
"""Groups inside groups, and objects in one file; a dataset of a million trajectories has fewer."""

SMALL = 1 << 20
"""Arrays of so many bytes are read: coordinates, times, parameters."""

LIMIT = 4 << 30
"""Bytes of memory that the walk may ask for."""


def walk(path: str) -> None:
    """Touch every object, attribute and small array of a file once.

    Raises:
        ValueError: it is nested too deeply, holds too much, or points to other files.
        OSError, RuntimeError, KeyError: HDF5 cannot make sense of it.
    """
    count, said = 0, time.monotonic()

    def alive() -> None:
        nonlocal count, said
        count += 1
        if count > OBJECTS:
            raise ValueError(f"holds more than {OBJECTS} objects")
        if time.monotonic() - said > 0.5:
            print(json.dumps({"at": count}), flush=True)
            said = time.monotonic()

    with h5py.File(path, "r") as file:
        left: list[tuple[h5py.Group, int]] = [(file, 0)]
        seen = {h5py.h5o.get_info(file.id).addr}
        _attributes(file, alive)
        while left:
            group, depth = left.pop()
            if depth > DEPTH:
                raise ValueError(f"has groups nested more than {DEPTH} deep")
            for name in group:
                alive()
                link = group.get(name, getlink=True)
                if isinstance(link, h5py.ExternalLink):
                    raise ValueError(f"points to another file, {link.filename!r}, in {group.name}/{name}")
                if isinstance(link, h5py.SoftLink):
                    continue
                node = group[name]
                address = h5py.h5o.get_info(node.id).addr
                if address in seen:  # a second link to the same object
                    continue
                seen.add(address)
                if isinstance(node, h5py.Datatype):
                    continue
                _attributes(node, alive)
                if isinstance(node, h5py.Group):
                    left.append((node, depth + 1))
                else:
                    _array(node)


def _attributes(node: Any, alive: Any) -> None:
    for name in node.attrs:
        alive()
        node.attrs[name]


def _array(node: h5py.Dataset) -> None:
    """Look at an array's description and index, and at its values if they are few."""
    if node.is_virtual or node.external:
        raise ValueError(f"keeps the values of {node.name} in other files")
    node.id.get_offset()
    if node.chunks is not None:
        number = node.id.get_num_chunks()
        if number:
            node.id.get_chunk_info(0)
            node.id.get_chunk_info(number - 1)
    if node.shape is not None and node.dtype.kind in "fiub" and node.nbytes <= SMALL:
        node[()]


def main() -> None:
    """Serve until the input ends."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (LIMIT, LIMIT))
    except (ImportError, ValueError, OSError):
        pass  # some systems have no such limit
    for line in sys.stdin:
        try:
            walk(json.loads(line))
            answer: dict[str, Any] = {"ok": True}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
