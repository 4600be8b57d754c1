"""Read users' own arrays: .npy, .npz, .mat and text files of numbers, one trajectory a file or several.

The arrays say nothing but their shapes; what their axes, fields, box and time step are comes from `Hints`. Values of
.npy files, and of .npz and MATLAB files that are not packed, stay where they lie; others are read into memory.

Files of the Fourier neural operator's paper (Li et al. 2021), with the variables `a` and `u` or `coeff` and `sol`,
are known: their boxes are those of the paper.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import h5py
import numpy as np
from torch import Tensor

from sciml.datasets import schema
from sciml.datasets.blocks import ArrayBlock, Block, FileBlock, MappedBlock, Raw, Variable, arrange
from sciml.datasets.dataset import Dataset, Hints
from sciml.datasets.interop import hdf5
from sciml.datasets.interop.asking import Lacking, frames_of, make_grid, scalars, width_of
from sciml.datasets.interop.matlab import MAGIC as _MATLAB
from sciml.datasets.interop.matlab import read_matlab
from sciml.datasets.interop.numpy_files import MAGIC, npy_header, read_header
from sciml.datasets.interop.parts import Together
from sciml.datasets.splits import Pairs, Split
from sciml.datasets.stored import child
from sciml.domains import Centering, Domain, Grid, Point
from sciml.errors import UserError
from sciml.trajectory import Field

ENDINGS = (".npy", ".npz", ".mat", ".csv", ".txt", ".tsv", ".dat")
"""Endings of the files that are looked for in a folder; what they are is found out by content."""

_HDF5 = b"\x89HDF\r\n\x1a\n"
_ZIP, _MATLAB_73 = b"PK\x03\x04", b"MATLAB 7.3 MAT-file"
_HEAD = 4096
_MOST_DENSE = 1100
"""Bytes that deflate makes of one at most, with some room."""


@dataclass(frozen=True)
class _Stored:
    """One array of a file, in place or in memory.

    Args:
        name: in its file, empty where it has none.
        shape: as its user sees it.
        raw: where it lies in a plain file, with its shape there; `turned` says whether the axes are reversed.
        key: its name in an HDF5 file.
        data: its values, where they had to be read.
    """

    name: str
    shape: tuple[int, ...]
    raw: tuple[int, str] | None = None
    key: str | None = None
    data: np.ndarray | None = None
    turned: bool = False

    def block(self, path: Path, axes: str, channels: int, shape: tuple[int, ...]) -> Block:
        """It as channels of a block (n, T, C, *points)."""
        if self.data is not None:
            return ArrayBlock(np.asarray(arrange(self.data, Variable(self.name, axes, channels), shape)))
        stored, letters = (self.shape[::-1], axes[::-1]) if self.turned else (self.shape, axes)
        if self.key is not None:
            return FileBlock(path, [Variable(self.key, letters, channels)], shape)
        assert self.raw is not None  # one of the three
        offset, dtype = self.raw
        variable = Variable(self.name or path.name, letters, channels)
        return MappedBlock(path, [Raw(offset, dtype, stored, variable)], shape)


@dataclass(frozen=True)
class _File:
    path: Path
    arrays: Sequence[_Stored]
    columns: Sequence[str] = ()
    """Names over the columns of a text file."""
    times: np.ndarray | None = None
    """A column of times."""

    def named(self, name: str) -> _Stored | None:
        return next((a for a in self.arrays if a.name == name), None)


@dataclass
class _Found:
    """Trajectories of one split, file after file."""

    blocks: list[Block] = field(default_factory=list)
    inputs: list[Block] = field(default_factory=list)
    times: list[Tensor] = field(default_factory=list)


# Files ----------------------------------------------------------------------------------------------------


def is_arrays(path: Path) -> bool:
    """Whether a file holds plain arrays, by content."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if head.startswith((MAGIC, _MATLAB, _MATLAB_73)):
        return True
    if head.startswith(_ZIP):
        return _is_npz(path)
    return _is_text(head)


def _is_npz(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False
    return bool(names) and all(name.endswith(".npy") for name in names)


def _is_text(head: bytes) -> bool:
    """Whether there are lines of numbers, below at most one line of names."""
    try:
        lines = _lines(head.decode("utf-8", errors="ignore" if len(head) == _HEAD else "strict"))
    except UnicodeDecodeError:
        return False
    if len(head) == _HEAD and lines:  # cut in the middle of a line
        last = lines.pop()
        if not lines:
            separator = _separator(last)
            lines = [(separator or " ").join(last.split(separator)[:-1])]
    rows = [_numbers_in(line) for line in lines]
    return bool(rows) and (rows[0] or len(rows) > 1) and all(rows[1:])


def _lines(content: str) -> list[str]:
    """Lines that are neither empty nor remarks."""
    return [line for line in content.splitlines() if line.strip() and line[0] not in "#%"]


def _separator(line: str) -> str | None:
    return next((s for s in (",", ";", "\t") if s in line), None)


def _numbers_in(line: str) -> bool:
    words = line.split(_separator(line))
    try:
        [float(word) for word in words]
    except ValueError:
        return False
    return bool(words)


def _load(path: Path) -> _File:
    """The arrays of a file, not their values where those can stay."""
    if not path.is_file():
        raise UserError(f"{path} does not exist.")
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if head.startswith(MAGIC):
        found = npy_header(path)
        raw = (found.offset, found.dtype.str)
        return _File(path, [_Stored("", found.shape, raw=raw, turned=found.fortran)])
    if head.startswith(_MATLAB_73):
        return _hierarchical(path, turned=True)  # MATLAB reverses the axes
    if head.startswith(_MATLAB):
        return _matlab(path)
    if head.startswith(_ZIP) and _is_npz(path):
        return _npz(path)
    if head.startswith(_HDF5):
        return _hierarchical(path, turned=False)
    if _is_text(head):
        return _text(path)
    raise UserError(
        f"{path} holds no arrays that are known: expected what numpy.save or numpy.savez wrote, a MATLAB file of version 5 "
        "to 7.3, or lines of numbers."
    )


def _npz(path: Path) -> _File:
    arrays = []
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                name = member.filename.removesuffix(".npy")
                if member.flag_bits & 1:
                    raise UserError(f"{path}: {name!r} is encrypted; store it without a password.")
                if member.file_size > _MOST_DENSE * member.compress_size + 4096:
                    raise UserError(
                        f"{path}: {name!r} claims {member.file_size} bytes packed into {member.compress_size}; the file is "
                        "damaged."
                    )
                stored = member.compress_type == zipfile.ZIP_STORED
                start = _payload(path, member) if stored else 0
                with archive.open(member) as file:
                    found = read_header(file, f"{path}: {name}", start, member.file_size)  # type: ignore[arg-type]
                    if stored:
                        raw = (found.offset, found.dtype.str)
                        arrays.append(_Stored(name, found.shape, raw=raw, turned=found.fortran))
                        continue
                    schema.require_memory(found.nbytes, f"Unpacking {name!r} of {path}")
                    content = file.read(found.nbytes)
                    if len(content) != found.nbytes or file.read(1):  # compares the checksum at its end
                        raise UserError(
                            f"{path} is damaged: {name!r} does not hold the {found.nbytes} bytes of its shape."
                        )
                    order = "F" if found.fortran else "C"
                    data = np.frombuffer(content, found.dtype).reshape(found.shape, order=order)  # type: ignore[call-overload]
                    arrays.append(_Stored(name, found.shape, data=data))
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} is damaged: {error}. Expected what numpy.savez wrote.") from error
    except Exception as error:  # zlib has an error of its own
        raise UserError(f"{path} is damaged: {error}. Expected what numpy.savez wrote.") from error
    return _File(path, arrays)


def _payload(path: Path, member: zipfile.ZipInfo) -> int:
    """Where the bytes of a stored member begin: behind its local header, whose lengths are its own."""
    with path.open("rb") as file:
        file.seek(member.header_offset)
        header = file.read(30)
    if len(header) != 30 or not header.startswith(_ZIP):
        raise UserError(f"{path} is damaged: {member.filename!r} has no header of its own.")
    return (
        member.header_offset
        + 30
        + int.from_bytes(header[26:28], "little")
        + int.from_bytes(header[28:30], "little")
    )


def _matlab(path: Path) -> _File:
    arrays = []
    for found in read_matlab(path):
        raw = None if found.offset is None else (found.offset, found.dtype)
        data = None if found.data is None else found.data.reshape(found.shape, order="F")
        arrays.append(_Stored(found.name, found.shape, raw=raw, data=data, turned=raw is not None))
    return _File(path, arrays)


def _hierarchical(path: Path, *, turned: bool) -> _File:
    """The arrays on the first level of an HDF5 file."""
    arrays = []
    with hdf5.opened(path) as file:
        for name in file:
            found = child(file, name)
            if (
                isinstance(found, h5py.Dataset)
                and found.dtype.kind in "fiub"
                and 0 not in (found.shape or (0,))
            ):
                shape = hdf5.array(file, name).shape
                arrays.append(_Stored(name, shape[::-1] if turned else shape, key=name, turned=turned))
    return _File(path, arrays)


def _text(path: Path) -> _File:
    """Lines of numbers, separated by commas, semicolons, tabs or blanks, below at most one line of names."""
    schema.require_memory(16 * path.stat().st_size, f"Reading {path}")
    try:
        content = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no text: {error}.") from error
    lines = _lines(content)
    separator = _separator(lines[0])
    names: list[str] = []
    if not _numbers_in(lines[0]):
        names = [word.strip().strip('"') for word in lines[0].split(separator)]
        lines = lines[1:]
    try:
        data = np.loadtxt(io.StringIO("\n".join(lines)), delimiter=separator, ndmin=2, comments=None)
    except ValueError as error:
        raise UserError(
            f"{path} holds more than numbers: {error}. Expected as many numbers in each line, below at most one line of "
            "names."
        ) from error
    if names and len(names) != data.shape[1]:
        raise UserError(f"{path} has {len(names)} names over {data.shape[1]} columns; give one for each.")
    times = None
    if names and names[0].lower() in ("t", "time"):
        times, data, names = data[:, 0].copy(), data[:, 1:], names[1:]
    if not data.size:
        raise UserError(f"{path} holds no values.")
    return _File(path, [_Stored("", data.shape, data=data)], names, times)


# What the hints make of them ------------------------------------------------------------------------------


def natural(path: Path) -> list[tuple[int, str]]:
    """A key that sorts u2 before u10."""
    return [(int(w), "") if w.isdigit() else (-1, w) for w in re.split(r"(\d+)", str(path))]


def read_arrays(path: Path, files: Mapping[str, Sequence[Path]], hints: Hints) -> Dataset:
    """Open arrays as one dataset, split by split; the files of a split in natural order.

    Args:
        path: the file or folder for messages and for the name.
        files: split -> files.
        hints: what the arrays are.

    Raises:
        UserError: a file is damaged, the files differ, or hints are missing: all of them are named at once.
    """
    loaded = {name: [_load(f) for f in sorted(found, key=natural)] for name, found in files.items()}
    first = next(iter(loaded.values()))[0]
    if not first.arrays:
        raise UserError(f"{first.path} holds no arrays of numbers.")
    notes: list[str] = []
    known = _paper(first, hints, notes)
    if known is not None:
        hints = known
    axes, point = _axes(first, hints)
    likely = axes or {1: "t", 2: "tx", 3: "tcx", 4: "tcxy", 5: "ntcxy"}.get(
        len(first.arrays[0].shape), "ntcxyz"
    )
    dimension = sum(x in "xyz" for x in likely)
    lack = Lacking(path, hints, dimension, _advice(first))
    axes = lack.take("axes", axes or None, (repr(likely), likely))
    fields = lack.take("fields", _fields(first, axes, hints, notes))
    static = hints.inputs is not None
    if axes and "t" not in axes and not static:
        raise UserError(
            f"{path}: axes={axes!r} name no time 't'. Trajectories have one; pairs of input and target are named by "
            "hints=Hints(inputs=(Field('coefficient'),), fields=(Field('solution'),)) and lie in .npz or .mat files."
        )
    if static and len(_states(first)) < 2:
        raise UserError(
            f"{first.path} holds {_advice(first)} Pairs need an array that is given and one that is sought."
        )
    lengths = boundary = centering = None
    if not point:
        boundary, lengths = (
            lack.take("boundary", None),
            lack.take("lengths", _lengths(first, dimension) or None),
        )
        centering = lack.take("centering", None)
    if not static and _stored_times(first) is None:
        lack.take("dt")
    lack.ask()
    points: tuple[int, ...] | None = None
    splits: dict[str, Split | Pairs] = {}
    domain: Domain = Point()
    for name, group in loaded.items():
        out = _Found()
        for one in group:
            sizes, shape_points = _sizes(one, axes, fields, hints.inputs or (), dimension)
            if points is None:
                points = shape_points
                if not point:
                    domain = _domain(path, points, lengths, boundary, centering, first)
            if shape_points != points:
                raise UserError(
                    f"{one.path} has {shape_points} points, {first.path.name} {points}; all need the same."
                )
            out.blocks.append(_block(one, axes, fields, sizes, points))
            if static:
                out.inputs.append(_block(one, axes, hints.inputs or (), sizes, points))
            else:
                out.times.append(_times(one, sizes[1], hints))
        splits[name] = _made(name, fields, hints.inputs, out, domain)
    if hints.split is None and len(splits) == 1 and "train" in splits:
        notes.append(
            f"no split was given: all {len(splits['train'])} samples are in 'train'; hints.split divides them"
        )
    return Dataset(path, path.stem, "arrays", splits, {}, tuple(dict.fromkeys(notes)))


def _made(
    name: str, fields: tuple[Field, ...], inputs: tuple[Field, ...] | None, found: _Found, domain: Domain
) -> Split | Pairs:
    if inputs is not None:
        return Pairs(name, inputs, fields, tuple(found.inputs), tuple(found.blocks), domain)
    times = tuple(found.times)
    if all(len(t) == len(times[0]) and bool((t == times[0]).all()) for t in times):
        times = times[:1]
    return Split(name, fields, tuple(found.blocks), (domain,), times)


def _advice(file: _File) -> str:
    arrays = [f"{a.name or 'the array'} {a.shape}" for a in file.arrays]
    return f"{file.path.name} holds {', '.join(arrays[:8])}."


_COORDINATES = ("t", "time", "x", "y", "z")


def _states(file: _File) -> list[_Stored]:
    """The arrays that can be fields: not the coordinates."""
    return [a for a in file.arrays if a.name not in _COORDINATES]


def _axes(file: _File, hints: Hints) -> tuple[str, bool]:
    """The letters of the axes and whether there is no space."""
    axes = hints.axes or ""
    space = [x for x in axes if x in "xyz"]
    if axes and sorted(space) != list("xyz"[: len(space)]):
        raise UserError(
            f"hints.axes {axes!r} name the axes {space} of space; begin with x, then y, then z."
        )
    return axes, bool(axes) and not space


def _fields(file: _File, axes: str, hints: Hints, notes: list[str]) -> tuple[Field, ...] | None:
    """The fields where the names in the file give them, or None."""
    if hints.fields is not None or not axes:
        return hints.fields
    if file.columns and axes.endswith("c"):
        notes.append(f"took the names over the columns as fields: {', '.join(file.columns)}")
        return scalars(file.columns)
    states = _states(file)
    names = [a.name for a in states]
    if hints.inputs is not None:
        names = [n for n in names if n not in {f.name for f in hints.inputs}]
    if "" not in names and "c" not in axes and names:
        return scalars(names)
    return None


def _sizes(
    file: _File, axes: str, fields: Sequence[Field], inputs: Sequence[Field], dimension: int
) -> tuple[tuple[int, int], tuple[int, ...]]:
    """((samples, frames), points) of a file, which all its fields share."""
    found: dict[str, int] = {}
    for _, array, letters in _members(file, axes, (*fields, *inputs)):
        for letter, n in zip(letters, array.shape, strict=True):
            if letter != "c" and found.setdefault(letter, n) != n:
                raise UserError(
                    f"{file.path}: {array.name or 'the array'} has {n} along {letter!r}, others {found[letter]}."
                )
    points = tuple(found[x] for x in "xyz"[:dimension])
    return (found.get("n", 1), found.get("t", 1)), points


def _members(
    file: _File, axes: str, fields: Sequence[Field]
) -> list[tuple[tuple[Field, ...], _Stored, str]]:
    """The arrays that hold fields: each with its fields and the letters of its axes.

    A single array holds all fields along its channel axis; several hold those of their names.
    """
    states = _states(file)
    single = states[0] if len(states) == 1 else None
    if single is not None and (not single.name or single.name not in {f.name for f in fields}):
        chosen = [(tuple(fields), single)]
    else:
        chosen = []
        for f in fields:
            array = file.named(f.name)
            if array is None:
                here = ", ".join(a.name or "one without a name" for a in states)
                raise UserError(
                    f"{file.path} has no array {f.name!r}; it has {here}. Name those in hints.fields."
                )
            chosen.append(((f,), array))
    out = []
    for some, array in chosen:
        letters = axes
        if len(array.shape) == len(axes) - 1 and "c" in axes:
            letters = axes.replace("c", "")  # a scalar among vectors
        if len(array.shape) != len(letters):
            raise UserError(
                f"{file.path}: {array.name or 'the array'} has shape {array.shape}, and hints.axes {axes!r} name "
                f"{len(axes)} axes; give a letter for each."
            )
        out.append((some, array, letters))
    return out


def _block(
    file: _File, axes: str, fields: Sequence[Field], sizes: tuple[int, int], points: tuple[int, ...]
) -> Block:
    blocks = []
    for some, array, letters in _members(file, axes, fields):
        held = array.shape[letters.index("c")] if "c" in letters else 1
        wanted = width_of(some, len(points))
        if held != wanted:
            raise UserError(
                f"{file.path}: {array.name or 'the array'} of shape {array.shape} has {held} channels, and the fields "
                f"{', '.join(f.name for f in some)} fill {wanted} in {len(points)}D. Name each channel in hints.fields, a "
                "vector with rank=1 (on the command line name:unit:vector)."
            )
        blocks.append(array.block(file.path, letters, wanted, (*sizes, wanted, *points)))
    return blocks[0] if len(blocks) == 1 else Together(tuple(blocks))


def _stored_times(file: _File) -> np.ndarray | None:
    """Times that lie beside the fields, under the name t or time."""
    if file.times is not None:
        return file.times
    array = next((a for a in file.arrays if a.name in ("t", "time")), None)
    return None if array is None else _line(file.path, array)


def _line(path: Path, array: _Stored) -> np.ndarray | None:
    """A small array of one axis, read."""
    if sum(n != 1 for n in array.shape) > 1 or np.prod(array.shape) > 1 << 24:
        return None
    count = int(np.prod(array.shape))
    if array.data is not None:
        return array.data.astype(np.float64).reshape(-1)
    if array.key is not None:
        with hdf5.opened(path) as file:
            return hdf5.values(file, array.key).reshape(-1)
    assert array.raw is not None  # one of the three
    offset, dtype = array.raw
    with path.open("rb") as stream:
        stream.seek(offset)
        out = np.frombuffer(stream.read(count * np.dtype(dtype).itemsize), np.dtype(dtype))
    return out.astype(np.float64)


def _times(file: _File, frames: int, hints: Hints) -> Tensor:
    if hints.dt is not None:
        return frames_of(frames, hints.dt)
    times = _stored_times(file)
    if (
        times is None
        or times.shape != (frames,)
        or not np.isfinite(times).all()
        or (np.diff(times) <= 0).any()
    ):
        raise UserError(
            f"{file.path} holds no {frames} rising times under the name t or time; pass hints=Hints(dt=...)."
        )
    return schema.times_tensor(times)


def _lengths(file: _File, dimension: int) -> tuple[float, ...]:
    """Placeholders that say that the box follows from coordinates beside the fields."""
    found = [file.named(x) for x in "xyz"[:dimension]]
    return (0.0,) * dimension if dimension and all(a is not None for a in found) else ()


def _domain(
    path: Path,
    points: tuple[int, ...],
    lengths: Sequence[float] | None,
    boundary: object,
    centering: object,
    first: _File,
) -> Grid:
    assert lengths is not None and centering in ("node", "cell")  # asked for
    kind: Centering = "cell" if centering == "cell" else "node"
    if all(lengths):
        return make_grid(path, points, lengths, boundary, kind)
    sides = make_grid(path, points, (1.0,) * len(points), boundary, kind).sides
    origin, sizes = [], []
    for axis, n, (low, _) in zip("xyz", points, sides, strict=False):
        array = first.named(axis)
        x = None if array is None else _line(first.path, array)
        if x is None or x.shape != (n,):
            raise UserError(
                f"{first.path}: the coordinates {axis!r} are not {n} numbers; pass hints=Hints(lengths=...)."
            )
        start, length, _, _ = schema.uniform_axis(axis, x, low == "periodic", str(first.path), kind)
        origin.append(start)
        sizes.append(length)
    return make_grid(path, points, sizes, sides, kind, origin)


# The Fourier neural operator's files ----------------------------------------------------------------------


def _paper(file: _File, hints: Hints, notes: list[str]) -> Hints | None:
    """Hints for the files of Li et al. 2021, by the names and shapes of their variables; None for others."""
    if hints.axes is not None:
        return None
    a, u = file.named("a"), file.named("u")
    if a is not None and u is not None and len(a.shape) == len(u.shape) == 2 and a.shape == u.shape:
        notes.append(
            "took 'a' and 'u' as states of Burgers' equation one unit of time apart, on a periodic unit box"
        )
        return replace(
            hints,
            axes="nx",
            inputs=hints.inputs or (Field("a"),),
            fields=hints.fields or (Field("u"),),
            lengths=hints.lengths or (1.0,),
            boundary=hints.boundary or "periodic",
            centering=hints.centering or "node",
        )
    if (
        a is not None
        and u is not None
        and len(a.shape) == 3
        and u.shape[:3] == a.shape
        and len(u.shape) == 4
    ):
        notes.append(
            "took 'u' as vorticity on the periodic unit square; 'a', the state at time 0, is not among the frames"
        )
        return replace(
            hints,
            axes="nxyt",
            fields=hints.fields or (Field("u"),),
            lengths=hints.lengths or (1.0, 1.0),
            boundary=hints.boundary or "periodic",
            centering=hints.centering or "node",
        )
    c, s = file.named("coeff"), file.named("sol")
    if c is not None and s is not None and len(c.shape) == 3 and c.shape == s.shape:
        notes.append("took 'coeff' and 'sol' as Darcy flow on the unit square, zero on its sides")
        return replace(
            hints,
            axes="nxy",
            inputs=hints.inputs or (Field("coeff"),),
            fields=hints.fields or (Field("sol"),),
            lengths=hints.lengths or (1.0, 1.0),
            boundary=hints.boundary or "dirichlet",
            centering=hints.centering or "node",
        )
    return None
