"""Walk through HDF5 files in a process of its own, so that a damaged one can hang or crash nothing else.

Run as a script: reads a path per line, prints lines of JSON. {"at": n} is a sign of life, {"ok": true} the end of a file
without fault, {"error": "..."} what is wrong with it. Imports h5py alone, so that it starts quickly.
"""

from __future__ import annotations

import json
import math
import signal
import sys
import time
from typing import Any

import h5py

DEPTH, OBJECTS = 32, 5_000_000
"""Groups inside groups, and objects in one file; a dataset of a million trajectories has fewer."""

SMALL = 1 << 20
"""Arrays of so many bytes are read: coordinates, times, parameters."""

ALARM = 30
"""Seconds after which a process that hangs in the library ends itself, should nobody else end it."""

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
        _alarm(ALARM)
        if count > OBJECTS:
            raise ValueError(f"holds more than {OBJECTS} objects")
        if time.monotonic() - said > 0.5:
            print(json.dumps({"at": count}), flush=True)
            said = time.monotonic()

    with h5py.File(path, "r") as file:
        root = h5py.h5g.open(file.id, b"/")
        left: list[tuple[h5py.h5g.GroupID, int]] = [(root, 0)]
        seen = {h5py.h5o.get_info(root).addr}
        _attributes(root, alive)
        while left:
            group, depth = left.pop()
            if depth > DEPTH:
                raise ValueError(f"has groups nested more than {DEPTH} deep")
            for (
                name
            ) in group:  # the layer below h5py's own, which takes ten times as long for many small groups
                alive()
                link = group.links.get_info(name)
                if link.type == h5py.h5l.TYPE_EXTERNAL:
                    raise ValueError(f"points to another file in {name.decode(errors='replace')!r}")
                if link.type != h5py.h5l.TYPE_HARD:
                    continue
                node = h5py.h5o.open(group, name)
                address = h5py.h5o.get_info(node).addr
                if address in seen:  # a second link to the same object
                    continue
                seen.add(address)
                if isinstance(node, h5py.h5g.GroupID):
                    left.append((node, depth + 1))
                elif isinstance(node, h5py.h5d.DatasetID):
                    _array(node)
                else:
                    continue
                _attributes(node, alive)


def _attributes(node: Any, alive: Any) -> None:
    if h5py.h5a.get_num_attrs(node):
        attributes = h5py.AttributeManager(_Owner(node))
        for name in attributes:
            alive()
            attributes[name]


class _Owner:
    """What `AttributeManager` wants of an object."""

    def __init__(self, node: Any) -> None:
        self.id = node


def _array(node: h5py.h5d.DatasetID) -> None:
    """Look at an array's description and index, and at its values if they are few and not simply there."""
    creation = node.get_create_plist()
    layout = creation.get_layout()
    if layout == h5py.h5d.VIRTUAL or creation.get_external_count():
        raise ValueError("keeps the values of an array in other files")
    node.get_offset()
    shape, kind = node.shape, node.dtype.kind
    if layout == h5py.h5d.CHUNKED:
        number = node.get_num_chunks()
        if number:
            node.get_chunk_info(0)
            node.get_chunk_info(number - 1)
    small = node.dtype.itemsize * math.prod(shape or ()) <= SMALL
    if layout != h5py.h5d.CONTIGUOUS and shape and kind in "fiub" and small:
        h5py.Dataset(node)[()]


def _alarm(seconds: int) -> None:
    """Set, or with 0 clear, the signal that ends this process; not on Windows."""
    if hasattr(signal, "alarm"):
        signal.alarm(seconds)


def main() -> None:
    """Serve until the input ends."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (LIMIT, LIMIT))
    except (ImportError, ValueError, OSError):
        pass  # some systems have no such limit
    for line in sys.stdin:
        _alarm(ALARM)
        try:
            walk(json.loads(line))
            answer: dict[str, Any] = {"ok": True}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        _alarm(0)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
