"""Where the values of a .npy file lie, from its header, without reading or unpickling anything."""

from __future__ import annotations

import math
import struct
import tokenize
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from sciml.datasets.writer import whole_file
from sciml.errors import UserError

_FAULTS = (
    *(
        ValueError,
        TypeError,
        struct.error,
        EOFError,
        SyntaxError,
        RecursionError,
        MemoryError,
        OverflowError,
    ),
    tokenize.TokenError,
)
"""What numpy raises on headers that are none."""

MAGIC = b"\x93NUMPY"


@dataclass(frozen=True)
class Npy:
    """An array as it lies in a file.

    Args:
        offset: of its first byte.
        dtype: of its values, with the byte order.
        shape: of the array.
        fortran: whether the first axis runs fastest.
    """

    offset: int
    dtype: np.dtype
    shape: tuple[int, ...]
    fortran: bool

    @property
    def nbytes(self) -> int:
        """Bytes of its values."""
        return self.dtype.itemsize * math.prod(self.shape)


def read_header(file: BinaryIO, place: str | Path, start: int, size: int) -> Npy:
    """The header of an array.

    Args:
        file: opened for reading bytes, at whose beginning the header stands.
        place: what it is, for messages.
        start: offset of that beginning in the file on disk.
        size: bytes from there on that belong to the array.

    Raises:
        UserError: it is no such header, the values are not numbers, or are not all there.
    """
    try:
        major, minor = np.lib.format.read_magic(file)
        if (major, minor) == (1, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        elif (major, minor) == (2, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_2_0(file)
        else:
            raise UserError(f"{place} has version {major}.{minor} of numpy's format; 1.0 and 2.0 are read.")
    except UserError:
        raise
    except _FAULTS as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{place} is damaged: {first} Expected an array that numpy.save wrote.") from error
    if dtype.kind not in "fiub" or dtype.itemsize > 8:
        raise UserError(
            f"{place} has values of type {dtype}; expected real numbers of at most 8 bytes. Objects are not unpickled."
        )
    offset = start + file.tell()
    found = Npy(offset, dtype, tuple(int(n) for n in shape), bool(fortran))
    if min(found.shape, default=1) < 1:
        raise UserError(f"{place} has shape {found.shape}; expected values.")
    if found.nbytes + (offset - start) > size:
        raise UserError(
            f"{place} is cut off: shape {found.shape} of {dtype} takes {found.nbytes} bytes and "
            f"{max(0, size - (offset - start))} are there. Copy or generate it again."
        )
    return found


def npy_header(path: Path) -> Npy:
    """The header of a .npy file.

    Raises:
        UserError: as `read_header`.
    """
    with path.open("rb") as file:
        return read_header(file, path, 0, path.stat().st_size)


@contextmanager
def npy_writer(path: Path, shape: tuple[int, ...]) -> Iterator[Callable[[np.ndarray], None]]:
    """Write a float32 array piece by piece along its first axis, whole or not at all."""
    header: Mapping[str, object] = {"descr": "<f4", "fortran_order": False, "shape": shape}
    with whole_file(path) as part, part.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, dict(header))

        def write(piece: np.ndarray) -> None:
            file.write(np.ascontiguousarray(piece, dtype="<f4").data)

        yield write
        file.flush()
