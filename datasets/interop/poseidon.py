"""Read and write the layout of Poseidon's data sets (Herde et al. 2024): NetCDF4, which is HDF5.

Trajectories are `velocity`, `solution` or `data` (N, T, C, x, y), or `solution` (N, T, x, y) of one scalar with, for
waves, the speed `c` (N, x, y); pairs are `source` and `solution` (N, x, y), or `solution` (N, 2, x, y) of a mask and a
density, or groups `Sample_<i>` with `a`, `bc`, `u`. Copies are cut into numbered pieces, `velocity_0.nc`, which are
joined. Grid, sides and times are not stored: 21 frames span one unit of time. Splits go by position.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from sciml.datasets.blocks import Block, FileBlock, Variable
from sciml.datasets.dataset import Dataset, Hints
from sciml.datasets.interop import hdf5
from sciml.datasets.interop.asking import Lacking, frames_of, make_grid, width_of
from sciml.datasets.interop.imprint import NAME, Imprint, lost_parameters, one_grid, read_imprint
from sciml.datasets.interop.parts import Together, divide
from sciml.datasets.splits import Pairs, Split
from sciml.datasets.stored import child
from sciml.datasets.writer import whole_file
from sciml.errors import UserError
from sciml.trajectory import Field

STATES = ("velocity", "solution", "data")
FRAMES = 21
"""Stored times of one unit of time, in all sets that depend on it."""

COUNTS: Mapping[int, tuple[int, int]] = {
    20000: (120, 240),
    10000: (120, 240),
    15000: (60, 240),
    10512: (60, 240),
    1260: (100, 130),
}
"""Published number of trajectories -> those for validation and, at the end, for the test."""

_VELOCITY = Field("velocity", rank=1)
_GAS = (Field("density"), _VELOCITY, Field("pressure"))
_SAMPLE = re.compile(r"Sample_(\d+)")
_CHANNEL = ("channel", "channels", "c", "component", "components", "variable", "phony_dim")


def is_poseidon(file: h5py.File) -> bool:
    """Whether a file has one of the layouts, by content."""
    if hdf5.has(file, "source", "solution"):
        return True
    names = {k for k in file if not _is_axis(file, k)} - {"parameters"}  # which our own writer adds
    if names and all(_SAMPLE.fullmatch(k) for k in names):
        first = child(file, sorted(names)[0])
        return isinstance(first, h5py.Group) and hdf5.has(first, "a", "u")
    state = [k for k in STATES if k in names]
    if len(state) != 1 or names - {state[0], "c"} or not hdf5.has(file, state[0]):
        return False
    found = file[state[0]]
    axes = _axis_names(found)
    if found.ndim == 5:  # the third axis has to be that of the channels wherever axes have names
        return found.shape[2] <= 16 and (axes[2] is None or axes[2].startswith(_CHANNEL))
    return state[0] == "solution" and found.ndim == 4


def _is_axis(file: h5py.File, name: str) -> bool:
    """Whether an array is a coordinate of NetCDF rather than a field."""
    found = child(file, name)
    return isinstance(found, h5py.Dataset) and (found.ndim <= 1 or found.is_scale)


def _axis_names(found: h5py.Dataset) -> list[str | None]:
    """The dimension names of an array, None where it has none."""
    names: list[str | None] = []
    for axis in found.dims:
        try:
            scale = axis[0].name.rpartition("/")[2].lower() if len(axis) else None
        except (OSError, RuntimeError, KeyError, ValueError):
            scale = None
        names.append(scale)
    return names


def read_poseidon(path: Path, files: Sequence[Path], hints: Hints) -> Dataset:
    """Open the pieces of one data set, in order.

    Raises:
        UserError: a piece is cut off or differs from the others, or does not say what a hint has to.
    """
    first = files[0]
    with hdf5.opened(first) as file:
        imprint = read_imprint(hdf5.attribute(file, NAME), first)
        if imprint is not None:
            hints = imprint.told(hints)
        constants = hdf5.number_attributes(file) if imprint is not None else {}
        stored = hdf5.attribute(file, "split")
        names = set(file)
    if imprint is not None and hints.split is None and stored is not None:
        numbers = np.asarray(stored).reshape(-1)
        if numbers.size != 3 or numbers.dtype.kind not in "iu":
            raise UserError(
                f"{first}: the attribute 'split' is damaged; expected three numbers of samples."
            )
        hints = Hints(**{**hints.__dict__, "split": tuple(int(n) for n in numbers)})
    notes: list[str] = []
    whole: Split | Pairs
    if any(_SAMPLE.fullmatch(k) for k in names):
        whole = _helmholtz(files, hints, notes)
    elif "source" in names:
        whole = _pairs(files, hints, imprint, notes, "source")
    else:
        state = next(k for k in STATES if k in names)
        with hdf5.opened(first) as file:
            shape = hdf5.array(file, state).shape
        if len(shape) == 4 and shape[1] == 2 and hints.dt is None and imprint is None:
            whole = _pairs(files, hints, imprint, notes, None)
        else:
            whole = _trajectories(files, state, hints, imprint, notes)
    splits = _splits(whole, hints, notes)
    return Dataset(path, path.stem, "poseidon", splits, constants, tuple(dict.fromkeys(notes)))


def _splits(whole: Split | Pairs, hints: Hints, notes: list[str]) -> Mapping[str, Split | Pairs]:
    """By position: the last samples are for the test, those before for validation."""
    total = len(whole)
    if hints.split is not None:
        return divide(whole, hints.split, positional=True)
    if total in COUNTS:
        valid, test = COUNTS[total]
        notes.append(
            f"{total} samples: took the published split by position, the last {test} for the test and the {valid} before "
            "for validation"
        )
        return divide(whole, (total - valid - test, valid, test), positional=True)
    notes.append(
        f"splits go by position and {total} is no published number of samples; all are in 'train', and hints.split "
        "divides them"
    )
    return {"train": whole}


def _shapes(files: Sequence[Path], name: str) -> list[tuple[int, ...]]:
    """The shapes of an array in all pieces, which differ in their first axis only.

    Raises:
        UserError: they differ in others, or one is missing.
    """
    found = []
    for path in files:
        with hdf5.opened(path) as file:
            found.append(hdf5.array(file, name).shape)
    for path, shape in zip(files, found, strict=True):
        if shape[1:] != found[0][1:]:
            raise UserError(
                f"The pieces of one data set differ: {name!r} has shape {found[0]} in {files[0].name} and {shape} in "
                f"{path.name}."
            )
    return found


def _grid(path: Path, points: tuple[int, ...], hints: Hints, imprint: Imprint | None, lack: Lacking) -> Any:
    lengths, boundary = lack.take("lengths", None), lack.take("boundary", None)
    centering = lack.take("centering", None)
    lack.ask()
    if imprint is not None:
        return imprint.on(points, hints, path)
    return make_grid(path, points, lengths, boundary, centering)  # type: ignore[arg-type]  # asked for above


def _trajectories(
    files: Sequence[Path], state: str, hints: Hints, imprint: Imprint | None, notes: list[str]
) -> Split:
    path = files[0]
    shapes = _shapes(files, state)
    frames, points = shapes[0][1], shapes[0][-2:]
    channels = shapes[0][2] if len(shapes[0]) == 5 else 1
    if len(shapes[0]) not in (4, 5):
        raise UserError(
            f"{path}: {state!r} has shape {shapes[0]}; expected (N, T, C, x, y), or (N, T, x, y) of one scalar."
        )
    with hdf5.opened(path) as file:
        speed = hdf5.has(file, "c")
    lack = Lacking(path, hints, 2, "The published sets lie on the unit square.")
    fields = lack.take(
        "fields", _usual(state, channels, speed), ("(Field('velocity', rank=1),)", "velocity:1:vector")
    )
    dt = hints.dt
    if dt is None and imprint is None:
        dt = lack.take("dt", 1 / (FRAMES - 1) if frames == FRAMES else None)
        if frames == FRAMES:
            notes.append(
                f"{FRAMES} frames span one unit of time in sets of this kind; took dt = 1/{FRAMES - 1}"
            )
    grid = _grid(path, points, hints, imprint, lack)
    width = width_of(fields, 2)
    own = width - 1 if speed else width
    if not 0 < own <= channels:
        raise UserError(
            f"{path}: {state!r} has {channels} channels"
            + (" and 'c' one more" if speed else "")
            + f"; the fields {', '.join(f.name for f in fields)} fill {width}. Name at most those that are there."
        )
    if own < channels:
        notes.append(f"took the first {own} of {channels} channels; hints.fields names more of them")
    if speed:
        notes.append("the wave speed 'c' does not change in time and is repeated with each frame")
        if _shapes(files, "c") != [(s[0], *points) for s in shapes]:
            raise UserError(f"{path}: 'c' has another shape than (N, x, y) of {state!r}.")
    blocks: list[Block] = []
    for piece, shape in zip(files, shapes, strict=True):
        samples = shape[0]
        variable = Variable(state, "ntcxy" if len(shape) == 5 else "ntxy", channels)
        block: Block = FileBlock(piece, [variable], (samples, frames, channels, *points))
        if own < channels:
            block = _FirstChannels(block, own)
        if speed:
            extra = FileBlock(piece, [Variable("c", "nxy")], (samples, frames, 1, *points))
            block = Together((block, extra))
        blocks.append(block)
    times = imprint.at(frames, hints, path) if imprint is not None else frames_of(frames, dt or 1.0)
    return Split(
        "train", fields, tuple(blocks), (grid,), (times,), _parameters(files, sum(s[0] for s in shapes))
    )


def _usual(state: str, channels: int, speed: bool) -> tuple[Field, ...] | None:
    """The fields that the name of the array and its channels fix, or None."""
    if channels == 1:
        return (Field("displacement"), Field("wave_speed")) if speed else (Field("u"),)
    if channels == 2:
        return (_VELOCITY,)
    if channels == 3 and state == "velocity":
        return (_VELOCITY, Field("tracer"))
    if channels >= 4 and state in ("data", "solution"):
        return _GAS
    return None


class _FirstChannels:
    """The first channels of a block."""

    def __init__(self, block: Block, count: int) -> None:
        self.block, self.count = block, count
        self.shape = (*block.shape[:2], count, *block.shape[3:])

    def parts(self) -> Sequence[tuple[slice, Any]]:
        (_, source), *_ = self.block.parts()
        if isinstance(source, np.ndarray):
            return [(slice(0, self.count), source[:, :, : self.count])]
        return [(slice(0, self.count), _Fewer(source, self.count))]


class _Fewer:
    def __init__(self, source: Any, count: int) -> None:
        self.source, self.count = source, count

    def __getitem__(self, index: tuple[int, slice]) -> np.ndarray:
        return self.source[index][:, : self.count]


def _parameters(files: Sequence[Path], samples: int) -> dict[str, torch.Tensor]:
    """Numbers that differ between samples, where our own writer has put them."""
    found: dict[str, torch.Tensor] = {}
    if len(files) > 1:
        return found
    with hdf5.opened(files[0]) as file:
        group = child(file, "parameters")
        if isinstance(group, h5py.Group):
            for name in group:
                values = hdf5.values(group, name)
                if values.shape[:1] != (samples,):
                    raise UserError(
                        f"{files[0]}: parameter {name!r} has shape {values.shape} for {samples} samples."
                    )
                found[name] = torch.from_numpy(values)
    return found


def _pairs(
    files: Sequence[Path], hints: Hints, imprint: Imprint | None, notes: list[str], source: str | None
) -> Pairs:
    path = files[0]
    shapes = _shapes(files, "solution")
    points = shapes[0][-2:]
    lack = Lacking(path, hints, 2, "The published sets lie on the unit square.")
    inputs: list[Block] = []
    targets: list[Block] = []
    if source is not None:
        if len(shapes[0]) != 3 or _shapes(files, source) != shapes:
            raise UserError(
                f"{path}: 'solution' has shape {shapes[0]} and {source!r} another; expected (N, x, y) of both."
            )
        given, sought = hints.inputs or (Field("source"),), hints.fields or (Field("solution"),)
        for piece, shape in zip(files, shapes, strict=True):
            block = (shape[0], 1, 1, *points)
            inputs.append(FileBlock(piece, [Variable(source, "nxy")], block))
            targets.append(FileBlock(piece, [Variable("solution", "nxy")], block))
    else:
        given, sought = hints.inputs or (Field("mask"),), hints.fields or (Field("density"),)
        notes.append(
            "two entries along the second axis are a mask and a density, as in the set of airfoils; pass "
            "hints=Hints(dt=...) if they are frames"
        )
        for piece, shape in zip(files, shapes, strict=True):
            whole = FileBlock(piece, [Variable("solution", "ntxy")], (shape[0], 2, 1, *points))
            inputs.append(_Frame(whole, 0))
            targets.append(_Frame(whole, 1))
    grid = _grid(path, points, hints, imprint, lack)
    total = sum(s[0] for s in shapes)
    return Pairs("train", given, sought, tuple(inputs), tuple(targets), grid, _parameters(files, total))


class _Frame:
    """One frame of a block."""

    def __init__(self, block: Block, frame: int) -> None:
        self.block, self.frame = block, frame
        self.shape = (block.shape[0], 1, *block.shape[2:])

    def parts(self) -> Sequence[tuple[slice, Any]]:
        return [(channels, _At(source, self.frame)) for channels, source in self.block.parts()]


class _At:
    def __init__(self, source: Any, frame: int) -> None:
        self.source, self.frame = source, frame

    def __getitem__(self, index: tuple[int, slice]) -> np.ndarray:
        return self.source[index[0], slice(self.frame, self.frame + 1)]


def _helmholtz(files: Sequence[Path], hints: Hints, notes: list[str]) -> Pairs:
    path = files[0]
    inputs: list[Block] = []
    targets: list[Block] = []
    bc: list[float] = []
    points: tuple[int, ...] | None = None
    for piece in files:
        with hdf5.opened(piece) as file:
            names = sorted((k for k in file if _SAMPLE.fullmatch(k)), key=lambda k: int(k[7:]))
            for name in names:
                group = child(file, name)
                if not isinstance(group, h5py.Group):
                    raise UserError(f"{piece}: {name!r} is no group with 'a', 'bc' and 'u'.")
                a, u = hdf5.array(group, "a", axes="xy"), hdf5.array(group, "u", axes="xy")
                points = points or a.shape
                if a.shape != points or u.shape != points:
                    raise UserError(
                        f"{piece}: 'a' {a.shape} and 'u' {u.shape} of {name} differ from {points}."
                    )
                shape = (1, 1, 1, *points)
                inputs.append(FileBlock(piece, [Variable(f"{name}/a", "xy")], shape))
                targets.append(FileBlock(piece, [Variable(f"{name}/u", "xy")], shape))
                if hdf5.has(group, "bc"):
                    bc.append(float(hdf5.values(group, "bc").reshape(-1)[0]))
    assert points is not None  # there is at least one sample
    grid = _grid(
        path, points, hints, None, Lacking(path, hints, 2, "The published sets lie on the unit square.")
    )
    parameters = {}
    if len(bc) == len(targets):
        parameters["bc"] = torch.tensor(bc, dtype=torch.float64)
    elif bc:
        notes.append("'bc' is not given for all samples and was left out")
    return Pairs(
        "train",
        hints.inputs or (Field("coefficient"),),
        hints.fields or (Field("solution"),),
        tuple(inputs),
        tuple(targets),
        grid,
        parameters,
    )


def write_poseidon(dataset: Dataset, dst: Path, progress: Callable[[int], None]) -> tuple[str, ...]:
    """Write `<name>.nc` into the folder `dst`: all samples, training first, then validation, then the test.

    Args:
        dataset: trajectories in 2D, or pairs of one source and one solution, on one grid.
        dst: a folder.
        progress: told the number of samples done.

    Returns what was lost or had to be given, a sentence each.

    Raises:
        UserError: the fields do not lie on one 2D grid; nothing has been written then.
    """
    imprints = one_grid(dataset, "Poseidon's layout")
    order = sorted(dataset.splits, key=lambda name: ("train", "valid", "test", name).index(name))
    splits = [dataset.splits[name] for name in order]
    first = splits[0]
    imprint = imprints[first.name]
    for name, other in imprints.items():
        if (other.grid, other.times, other.fields) != (imprint.grid, imprint.times, imprint.fields):
            raise UserError(
                f"Poseidon's layout holds all splits in one array; {first.name!r} and {name!r} differ in their grid or "
                "times."
            )
    extra = [name for name in order if name not in ("train", "valid", "test")]
    if extra or imprint.grid.dimension != 2:
        raise UserError(
            f"Poseidon's layout holds train, valid and test on a grid in 2D; this dataset has {', '.join(order)} in "
            f"{imprint.grid.dimension}D."
        )
    if isinstance(first, Pairs) and not len(first.channels) == len(first.input_channels) == 1:
        raise UserError(
            f"Poseidon's layout of pairs holds one source and one solution; this dataset has "
            f"{', '.join(first.input_channels)} -> {', '.join(first.channels)}."
        )
    total = sum(len(split) for split in splits)
    with whole_file(dst / f"{dataset.name}.nc") as part, h5py.File(part, "w", track_order=True) as file:
        _write_arrays(file, splits, imprint, total, progress)
        for key, value in dataset.constants.items():
            file.attrs[key] = value
        counts = [next((len(s) for s in splits if s.name == n), 0) for n in ("train", "valid", "test")]
        file.attrs["split"] = np.array(counts, dtype=np.int64)
        file.attrs[NAME] = imprint.text()
    notes = [
        "splits go by position: "
        + ", ".join(f"{len(s)} {s.name}" for s in splits)
        + "; Poseidon's own readers need these numbers",
        "names, units, sides and times lie in an attribute that Poseidon's readers do not read",
    ]
    if imprint.grid.shape != (128, 128):
        notes.append(f"Poseidon's own readers expect 128 x 128 points; these are {imprint.grid.shape}")
    if isinstance(first, Split) and len(imprint.times) != FRAMES:
        notes.append(f"Poseidon's own readers expect {FRAMES} frames; these are {len(imprint.times)}")
    if lost_parameters(dataset):
        notes.append(
            f"Poseidon does not know parameters of samples; {', '.join(lost_parameters(dataset))} lie in a group of "
            "their own"
        )
    return tuple(notes)


def _state_name(split: Split) -> str:
    """The array that Poseidon keeps such fields in."""
    names = [f.name for f in split.fields]
    if names[:1] == ["velocity"] and len(split.channels) in (2, 3):
        return "velocity"
    return "data" if names[:3] == ["density", "velocity", "pressure"] else "solution"


def _write_arrays(
    file: h5py.File,
    splits: Sequence[Split | Pairs],
    imprint: Imprint,
    total: int,
    progress: Callable[[int], None],
) -> None:
    grid, first = imprint.grid, splits[0]
    axes = {name: axis.numpy() for name, axis in zip(grid.axis_names, grid.axes(), strict=True)}

    def new(name: str, shape: tuple[int, ...], letters: Sequence[str]) -> h5py.Dataset:
        out = file.create_dataset(name, shape, "f4", track_times=False)
        for place, letter in enumerate(letters):
            if letter not in file:
                size = shape[place]
                values = {**axes, "time": np.array(imprint.times)}.get(letter, np.arange(size))
                file.create_dataset(letter, data=values, track_times=False).make_scale(letter)
            out.dims[place].attach_scale(file[letter])
        return out

    for name in {n for split in splits for n in split.parameters}:
        if all(name in split.parameters for split in splits):
            values = np.concatenate([split.parameters[name].numpy() for split in splits])
            file.require_group("parameters").create_dataset(name, data=values, track_times=False)
    begin = 0
    if isinstance(first, Pairs):
        source = new("source", (total, *grid.shape), ("sample", "x", "y"))
        solution = new("solution", (total, *grid.shape), ("sample", "x", "y"))
        for split in splits:
            assert isinstance(split, Pairs)  # all splits have the fields of the first
            for i in range(len(split)):
                given, sought = split[i]
                source[begin + i], solution[begin + i] = given[0].numpy(), sought[0].numpy()
                progress(begin + i + 1)
            begin += len(split)
        return
    frames, channels = len(imprint.times), len(first.channels)
    if channels == 1:
        state = new("solution", (total, frames, *grid.shape), ("sample", "time", "x", "y"))
    else:
        shape = (total, frames, channels, *grid.shape)
        state = new(_state_name(first), shape, ("sample", "time", "channel", "x", "y"))
    for split in splits:
        assert isinstance(split, Split)  # all splits have the fields of the first
        for start, piece in split.pieces():
            data = piece.data.numpy()
            state[begin + start : begin + start + len(piece)] = data[:, :, 0] if channels == 1 else data
            progress(begin + start + len(piece))
        begin += len(split)
