"""TFRecord files and the messages inside them, without TensorFlow.

A file is a row of records: eight bytes of length and their checksum, the payload and its checksum, all
little-endian; checksums are CRC-32C, rotated and shifted by a constant so that a record may hold records.
The payload is a message `Example` or `SequenceExample` of protocol buffers, of which only the few fields
are understood that hold arrays as raw bytes. Their places in the file are found without reading them, so
that they can be mapped.

Lengths are checked when a file is opened. Payloads, which may be as large as a disk, are checked record by
record when one is first read, once per process, as readers of such files do.

https://www.tensorflow.org/tutorials/load_data/tfrecord, https://protobuf.dev/programming-guides/encoding/,
RFC 3720 section 12.1 for the checksum.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from sciml.datasets.blocks import Raw, _Lazy, _Opened, arrange, touch
from sciml.errors import UserError

_ONES = 0xFFFFFFFF
_POLYNOMIAL = 0x82F63B78  # Castagnoli's, the lowest power in the highest bit
_PIECE = 1 << 24

ENTRIES = 1 << 20
"""Entries that one message may have: more than any trajectory has frames, few enough to be read in a second."""

LARGEST = (1 << 31) - 1
"""Bytes of a message of protocol buffers at most."""


# The checksum ------------------------------------------------------------------------------------------------


@cache
def _bytes_table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (_POLYNOMIAL if value & 1 else 0)
        table.append(value)
    return table


# x^5321 + x^3574 + x^2491 + 1 is a multiple of the polynomial, and so is the sum of its 8th or 64th powers. A bit
# therefore counts as much as the three that lie so much further on, and whole rows of bits can be moved there.
_FURTHER = (5321 - 3574, 5321 - 2491, 5321)


def _fold(units: np.ndarray) -> np.ndarray:
    """The end of a message that has the same remainder as all of it; spoils `units`."""
    first, second, third = _FURTHER
    last = len(units) - third
    for start in range(0, last, first):
        row = units[start : min(start + first, last)]
        for by in _FURTHER:
            units[start + by : start + by + len(row)] ^= row
    return units[max(last, 0) :]


def _advance(state: int, piece: np.ndarray) -> int:
    """The remainder behind a piece of the message."""
    if len(piece) > 2 * _FURTHER[-1]:
        # Zeros in front of a message do not change its remainder; a state before it is one added to its first bytes.
        begin = -len(piece) % 8
        work = np.zeros(begin + len(piece), dtype=np.uint8)
        work[begin:] = piece
        work[begin : begin + 4] ^= np.frombuffer(state.to_bytes(4, "little"), dtype=np.uint8)
        piece, state = _fold(_fold(work.view(np.uint64)).view(np.uint8)), 0
    table = _bytes_table()
    for byte in piece.tolist():
        state = table[(state ^ byte) & 0xFF] ^ (state >> 8)
    return state


def crc32c(data: bytes | memoryview | np.ndarray, value: int = 0) -> int:
    """CRC-32C of some bytes; `value` is that of what came before them."""
    flat = np.frombuffer(data, dtype=np.uint8) if len(data) else np.zeros(0, dtype=np.uint8)
    state = value ^ _ONES
    for start in range(0, len(flat), _PIECE):
        state = _advance(state, flat[start : start + _PIECE])
    return state ^ _ONES


def masked(crc: int) -> int:
    """A checksum as TFRecord stores it."""
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & _ONES


# Reading -----------------------------------------------------------------------------------------------------

Spans = tuple[tuple[int, int], ...]
"""(offset in the file, number of bytes) of the entries of a list of raw bytes."""


@dataclass(frozen=True)
class Record:
    """Where a payload lies, and its masked checksum."""

    offset: int
    size: int
    crc: int


@dataclass(frozen=True)
class Example:
    """The raw bytes in one record, by name.

    Args:
        record: the record.
        features: of an `Example`, or of the context of a `SequenceExample`.
        lists: of a `SequenceExample`, an entry per step.
    """

    record: Record
    features: Mapping[str, Spans]
    lists: Mapping[str, Spans]


def is_tfrecord(path: Path) -> bool:
    """Whether a file begins with a length and its checksum, by content."""
    with path.open("rb") as file:
        head = file.read(12)
    return len(head) == 12 and masked(crc32c(head[:8])) == int.from_bytes(head[8:], "little")


def read_examples(path: Path) -> Iterator[Example]:
    """Where the arrays of each record lie; payloads are looked at, not read.

    Raises:
        UserError: a length does not match its checksum or reaches beyond the file, or a payload is no message of
            the known kinds.
    """
    size = path.stat().st_size
    if not size:
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        at, number = 0, 0
        while at < size:
            head = data[at : at + 12]
            where = f"{path}: record {number} at byte {at}"
            if len(head) < 12:
                raise UserError(f"{where} is cut off. Copy the file again.")
            if masked(crc32c(head[:8])) != int.from_bytes(head[8:], "little"):
                raise UserError(
                    f"{where} has a length that does not match its checksum: damaged, or no TFRecord."
                )
            length = int.from_bytes(head[:8], "little")
            start, stop = at + 12, at + 12 + length
            if stop + 4 > size:
                raise UserError(
                    f"{where} is cut off: {length} bytes are promised, {size - start} follow. Copy the file again."
                )
            record = Record(start, length, int.from_bytes(data[stop : stop + 4], "little"))
            yield _example(data, record, where)
            at, number = stop + 4, number + 1


def _varint(data: Any, at: int, stop: int, where: str) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= stop:
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise UserError(f"{where} is damaged: a number in it does not end.")


def _entries(data: Any, start: int, stop: int, where: str) -> Iterator[tuple[int, int, int, int]]:
    """(field, wire type, begin, end) of the entries of a message that lies between two bytes of the file."""
    at = start
    for _ in range(ENTRIES):
        if at == stop:
            return
        key, at = _varint(data, at, stop, where)
        begin, wire = at, key & 7
        if wire == 0:
            _, end = _varint(data, at, stop, where)
        elif wire == 2:
            length, begin = _varint(data, at, stop, where)
            end = begin + length
        else:
            end = begin + {1: 8, 5: 4}.get(wire, stop)
        if end > stop:
            raise UserError(
                f"{where} is damaged: a part of it would end behind it, at byte {end} of {stop}."
            )
        yield key >> 3, wire, begin, end
        at = end
    raise UserError(f"{where} is damaged: one of its messages has more than {ENTRIES} entries.")


def _named(data: Any, start: int, stop: int, where: str) -> Iterator[tuple[str, int, int]]:
    """(name, begin, end) of the values of a map from strings to messages."""
    for number, wire, begin, end in _entries(data, start, stop, where):
        if (number, wire) != (1, 2):
            continue
        name, value = "", (0, 0)
        for part, kind, a, b in _entries(data, begin, end, where):
            if (part, kind) == (1, 2):
                name = bytes(data[a : min(b, a + 256)]).decode("utf-8", "replace")
            elif (part, kind) == (2, 2):
                value = (a, b)
        yield name, *value


def _raw(data: Any, start: int, stop: int, where: str) -> Spans:
    """The entries of the list of bytes of a feature; none where it holds numbers."""
    found: list[tuple[int, int]] = []
    for number, wire, begin, end in _entries(data, start, stop, where):
        if (number, wire) == (1, 2):
            found += [(a, b - a) for n, w, a, b in _entries(data, begin, end, where) if (n, w) == (1, 2)]
    return tuple(found)


def _example(data: Any, record: Record, where: str) -> Example:
    features: dict[str, Spans] = {}
    lists: dict[str, Spans] = {}
    for number, wire, start, stop in _entries(data, record.offset, record.offset + record.size, where):
        if (number, wire) == (1, 2):
            for name, a, b in _named(data, start, stop, where):
                features[name] = _raw(data, a, b, where)
        elif (number, wire) == (2, 2):
            for name, a, b in _named(data, start, stop, where):
                steps = [
                    _raw(data, c, d, where)
                    for n, w, c, d in _entries(data, a, b, where)
                    if (n, w) == (1, 2)
                ]
                lists[name] = tuple(span for step in steps for span in step)
    return Example(record, features, lists)


@dataclass(frozen=True)
class Spaced(Raw):
    """An array whose entries along its first axis begin `stride` bytes apart instead of back to back."""

    stride: int = 0


class _Check:
    """Compares a record with its checksum when its first value is asked for."""

    def __init__(self, path: Path, record: Record, data: np.ndarray) -> None:
        self._path, self._record, self._data = path, record, data
        self._done = False

    def __call__(self) -> None:
        if not self._done:
            check_record(self._path, self._record, self._data)
            touch(1, self._record.size)
            self._done = True


@dataclass(frozen=True)
class _Verified:
    """An array of a record, given away once its checksum was compared."""

    array: np.ndarray
    check: _Check

    def __getitem__(self, index: Any) -> np.ndarray:
        self.check()
        return self.array[index]


class RecordBlock(_Lazy):
    """Trajectories that lie as plain bytes in one record, mapped, and checked when they are first read.

    Args:
        path: the file.
        record: the record.
        arrays: where its arrays lie, in the order of the channels; all inside the record.
        shape: of the block, (n, T, C, *points).

    Raises:
        UserError: an array reaches beyond the record, or, on reading, the record does not match its checksum.
    """

    def __init__(self, path: Path, record: Record, arrays: Sequence[Raw], shape: tuple[int, ...]) -> None:
        self.path, self.record, self.arrays, self.shape = path, record, tuple(arrays), tuple(shape)
        for raw in self.arrays:
            size = np.dtype(raw.dtype).itemsize * math.prod(raw.shape)
            if isinstance(raw, Spaced):
                size = raw.stride * (raw.shape[0] - 1) + size // max(1, raw.shape[0])
            if not record.offset <= raw.offset <= raw.offset + size <= record.offset + record.size:
                raise UserError(
                    f"{path} is damaged: {raw.variable.name!r} of shape {raw.shape} does not fit into its record."
                )

    def _find(self, opened: _Opened) -> list[tuple[slice, Any]]:
        found: list[tuple[slice, Any]] = []
        start, check = 0, _Check(self.path, self.record, opened.bytes)
        for raw in self.arrays:
            dtype = np.dtype(raw.dtype)
            strides = [dtype.itemsize * math.prod(raw.shape[axis + 1 :]) for axis in range(len(raw.shape))]
            if isinstance(raw, Spaced):
                strides[0] = raw.stride
            # The bytes of a message are not aligned to its numbers; NumPy reads them all the same.
            array: np.ndarray = np.ndarray(raw.shape, dtype, opened.bytes.data, raw.offset, tuple(strides))
            channels = slice(start, start + raw.variable.channels)
            found.append((channels, _Verified(arrange(array, raw.variable, self.shape), check)))
            start = channels.stop
        return found

    def __getstate__(self) -> dict[str, object]:
        return {"path": self.path, "record": self.record, "arrays": self.arrays, "shape": self.shape}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__init__(**state)  # type: ignore[misc]


def check_record(path: Path, record: Record, data: np.ndarray) -> None:
    """Compare a record with its checksum; `data` are the bytes of the file.

    Raises:
        UserError: they differ.
    """
    if masked(crc32c(data[record.offset : record.offset + record.size])) != record.crc:
        raise UserError(
            f"{path}: the record at byte {record.offset - 12} does not match its checksum: it was damaged. Copy the "
            "file again."
        )


# Writing -----------------------------------------------------------------------------------------------------


def _number(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _head(field: int, size: int) -> bytes:
    """What stands before a part of known length."""
    return _number(field << 3 | 2) + _number(size)


def write_example(file: BinaryIO, features: Mapping[str, np.ndarray]) -> None:
    """Append a record with one array of raw little-endian bytes per name.

    Raises:
        UserError: they take more than a message can hold.
    """
    parts: list[tuple[bytes, np.ndarray]] = []
    for name, array in features.items():
        data = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"), copy=False))
        lead = _head(1, data.nbytes)  # the only value of a bytes_list
        for wrapping in (1, 2):  # bytes_list of a feature, value of a map entry
            lead = _head(wrapping, len(lead) + data.nbytes) + lead
        key = _head(1, len(name.encode())) + name.encode()
        lead = key + lead
        parts.append((_head(1, len(lead) + data.nbytes) + lead, data))
    inner = sum(len(lead) + data.nbytes for lead, data in parts)
    front = _head(1, inner)
    size = len(front) + inner
    if size > LARGEST:
        raise UserError(
            f"A trajectory takes {size / 1e9:.1f} GB and a record holds {LARGEST / 1e9:.1f} GB at most. Choose "
            "another layout."
        )
    length = size.to_bytes(8, "little")
    file.write(length + masked(crc32c(length)).to_bytes(4, "little") + front)
    crc = crc32c(front)
    for lead, data in parts:
        file.write(lead)
        crc = crc32c(lead, crc)
        flat = data.reshape(-1).view(np.uint8)
        file.write(flat.data)
        crc = crc32c(flat, crc)
    file.write(masked(crc).to_bytes(4, "little"))
