"""The arrays of a MATLAB file of version 5 to 7: where they lie, or their values where they are packed.

The layout is that of "MAT-File Format" (The MathWorks), Level 5: a header of 128 bytes, then elements of a tag (type and
number of bytes) and data. Only full arrays of real numbers are read; other variables are left out. Every length is
compared with the bytes that are there before anything is read, for readers in compiled code have been seen to crash on
damaged files.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sciml.datasets.schema import require_memory
from sciml.errors import UserError

MAGIC = b"MATLAB 5.0 MAT-file"

_STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
"""Type of an element -> type of its values."""
_MATRIX, _COMPRESSED = 14, 15
_NUMBERS = range(
    6, 16
)  # classes of arrays: double, single, and the integers; below are cells, structures, text
_COMPLEX = 0x08
_HEADER = 4096
"""Bytes of an unpacked variable that surely hold its flags, sizes and name."""
_MOST_DENSE = 1100


@dataclass(frozen=True)
class Variable5:
    """One array.

    Args:
        name: of the variable.
        shape: as in MATLAB; the first axis runs fastest.
        dtype: of the values as they are stored, with the byte order.
        offset: of the first of them in the file, or None where they are packed.
        data: the values, flat, where they were packed.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    offset: int | None
    data: np.ndarray | None = None


class _Damaged(Exception):
    """What is wrong with a file."""


def read_matlab(path: Path) -> list[Variable5]:
    """The full arrays of real numbers in a file.

    Raises:
        UserError: it is cut off or damaged.
    """
    content = np.memmap(path, np.uint8, "r")
    try:
        return list(_variables(content, path))
    except (_Damaged, zlib.error, UnicodeDecodeError) as error:
        raise UserError(
            f"{path} is damaged: {error}. Expected a complete MATLAB file of version 5 to 7.3."
        ) from error


def _variables(content: np.ndarray, path: Path) -> Iterator[Variable5]:
    if len(content) < 128:
        raise _Damaged("it ends within its header")
    ending = content[126:128].tobytes()
    if ending not in (b"IM", b"MI"):
        raise _Damaged("its header does not say the order of bytes")
    order = "<" if ending == b"IM" else ">"
    place = 128
    while place < len(content):
        kind, begin, size, after = _tag(content, place, order)
        if kind == _COMPRESSED:
            found = _packed(content[begin : begin + size].tobytes(), order, path)
            after = begin + size  # packed elements are not padded
        elif kind == _MATRIX:
            found = _matrix(content, begin, begin + size, order)
        else:
            found = None
        if found is not None:
            yield found
        place = after


def _tag(content: np.ndarray, place: int, order: str) -> tuple[int, int, int, int]:
    """Type of an element, where its data begin, their bytes, and where the next element begins."""
    if place + 8 > len(content):
        raise _Damaged(f"an element at byte {place} is cut off")
    first, second = (int(v) for v in np.frombuffer(content[place : place + 8].tobytes(), order + "u4"))
    if first >> 16:  # up to four bytes lie within the tag
        kind, size, begin, after = first & 0xFFFF, first >> 16, place + 4, place + 8
        if size > 4:
            raise _Damaged(f"an element at byte {place} holds {size} bytes within its tag")
    else:
        kind, size, begin = first, second, place + 8
        after = begin + size + (-size) % 8
    if begin + size > len(content):
        raise _Damaged(f"an element at byte {place} would end at byte {begin + size} of {len(content)}")
    return kind, begin, size, after


def _packed(content: bytes, order: str, path: Path) -> Variable5 | None:
    """A variable that is packed by zlib; its sizes are looked at before all of it is unpacked."""
    unpacker = zlib.decompressobj()
    head = unpacker.decompress(content, _HEADER)
    if len(head) < 8:
        raise _Damaged("a packed variable is cut off")
    kind, size = (int(v) for v in np.frombuffer(head[:8], order + "u4"))
    if kind != _MATRIX:
        return None
    if size > _MOST_DENSE * len(content) + _HEADER:
        raise _Damaged(f"a variable claims {size} bytes, packed into {len(content)}")
    flags = _flags(np.frombuffer(head, np.uint8), 8, order)
    if flags is None:  # no numbers: nothing of it is needed
        return None
    require_memory(2 * size, f"Unpacking a variable of {path}")
    whole = head + unpacker.decompress(unpacker.unconsumed_tail, max(1, size + 8 - len(head)))
    more = unpacker.decompress(unpacker.unconsumed_tail, 1)  # compares the checksum at its end
    if len(whole) != size + 8 or more or not unpacker.eof:
        raise _Damaged(f"a packed variable of {size} bytes does not have as many")
    unpacked = np.frombuffer(whole, np.uint8)
    found = _matrix(unpacked, 8, 8 + size, order)
    if found is None or found.offset is None:
        return None
    count = math.prod(found.shape)
    data = np.frombuffer(whole, found.dtype, count, found.offset)
    return Variable5(found.name, found.shape, found.dtype, None, data)


def _flags(content: np.ndarray, place: int, order: str) -> int | None:
    """Where the sizes of an array begin, or None if it is no full array of real numbers."""
    kind, begin, size, after = _tag(content, place, order)
    if kind != 6 or size != 8:
        raise _Damaged("a variable has no flags")
    word = int(np.frombuffer(content[begin : begin + 4].tobytes(), order + "u4")[0])
    return after if word & 0xFF in _NUMBERS and not (word >> 8) & _COMPLEX else None


def _matrix(content: np.ndarray, begin: int, end: int, order: str) -> Variable5 | None:
    """A variable; its offset is that in `content`."""
    if begin == end:
        return None  # an empty matrix
    inside = content[:end]
    place = _flags(inside, begin, order)
    if place is None:
        return None
    kind, where, size, place = _tag(inside, place, order)
    if kind != 5 or size < 8 or size % 4 or size > 4 * 16:
        raise _Damaged("a variable has no sizes")
    shape = tuple(int(n) for n in np.frombuffer(inside[where : where + size].tobytes(), order + "i4"))
    kind, where, size, place = _tag(inside, place, order)
    if kind not in (1, 2, 16) or size > 4096:  # 16 is UTF-8
        raise _Damaged("a variable has no name")
    name = inside[where : where + size].tobytes().decode("utf-8")
    if min(shape) < 0:
        raise _Damaged(f"the variable {name!r} has sizes {shape}")
    if 0 in shape:
        return None
    kind, where, size, _ = _tag(inside, place, order)
    if kind not in _STORED:
        raise _Damaged(f"the variable {name!r} has values of type {kind}")
    dtype = np.dtype(order + _STORED[kind])
    if size != dtype.itemsize * math.prod(shape):
        raise _Damaged(f"the variable {name!r} of sizes {shape} has {size} bytes of {dtype}")
    return Variable5(name, shape, dtype.str, where)


__all__ = ["MAGIC", "Variable5", "read_matlab"]
