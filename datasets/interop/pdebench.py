"""Read and write the layouts of PDEBench (Takamoto et al. 2022), told apart by their keys.

Scalars in 1D (`tensor`), Darcy (`nu`, `tensor`), compressible flow (`density`, `pressure`, `Vx`, ...), files
with a group per sample (`0000/data`), and incompressible flow (`velocity`, `particles`, `force`).
Coordinates are cell centres. The files name neither the sides of the box nor, in part, their equation: what is
assumed is noted, what cannot be is asked for.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor

from sciml.datasets import schema
from sciml.datasets.blocks import Block, FileBlock, Variable
from sciml.datasets.dataset import Dataset, Hints
from sciml.datasets.interop import hdf5
from sciml.datasets.interop.asking import Lacking, frames_of, make_grid, scalars, width_of
from sciml.datasets.interop.imprint import NAME, Imprint, one_grid, read_imprint
from sciml.datasets.interop.parts import Selected
from sciml.datasets.splits import Pairs, Split
from sciml.datasets.writer import whole_file
from sciml.domains import Centering, Grid
from sciml.errors import UserError
from sciml.trajectory import Field

VELOCITIES = ("Vx", "Vy", "Vz")
FEWEST_GROUPS = 24

_PRIMITIVE = (Field("density", "kg/m^3"), Field("pressure", "Pa"), Field("velocity", "m/s", rank=1))
_NUMBER = re.compile(r"^([A-Za-z_]\w*):\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*$", re.MULTILINE)


def is_pdebench(file: h5py.File) -> bool:
    """Whether a file has one of the layouts, by content."""
    return (
        hdf5.has(file, "tensor")
        or hdf5.has(file, "density", "pressure", "Vx")
        or hdf5.has(file, "velocity", "particles")
        or _grouped(file)
    )


def _grouped(file: h5py.File) -> bool:
    first = min((k for k in file if k.isdigit()), default=None)
    group = None if first is None else hdf5.child(file, first)
    return isinstance(group, h5py.Group) and "data" in group and "grid" in group


def read_pdebench(path: Path, split: str, hints: Hints) -> Dataset:
    """Open one file as one split.

    Raises:
        UserError: the file is cut off or inconsistent, or does not say what a hint has to.
    """
    with hdf5.opened(path) as file:
        imprint = read_imprint(hdf5.attribute(file, NAME), path)
        if imprint is not None:
            hints = imprint.told(hints)
        kept: Split | Pairs
        if hdf5.has(file, "tensor", "nu"):
            kept, notes = _darcy(file, path, split, hints, imprint)
        elif hdf5.has(file, "tensor"):
            kept, notes = _scalar(file, path, split, hints, imprint)
        elif hdf5.has(file, "density"):
            kept, notes = _flow(file, path, split, hints, imprint)
        elif hdf5.has(file, "velocity"):
            kept, notes = _incompressible(file, path, split, hints, imprint)
        else:
            kept, notes = _groups(file, path, split, hints, imprint)
        constants = hdf5.number_attributes(file)
        constants.pop("latestIndex", None)
        kept = replace(kept, parameters={**kept.parameters, **_stored_parameters(file, len(kept))})
        return Dataset(path, path.stem, "pdebench", {split: kept}, constants, tuple(notes))


def _stored_parameters(file: h5py.File, samples: int) -> dict[str, Tensor]:
    """Numbers that differ between samples, where our own writer has put them."""
    group = hdf5.child(file, "parameters")
    found: dict[str, Tensor] = {}
    if isinstance(group, h5py.Group):
        for name in group:
            values = hdf5.values(group, name)
            if values.shape[:1] != (samples,):
                raise UserError(
                    f"{file.filename}: parameter {name!r} has shape {values.shape} for {samples} samples."
                )
            found[name] = torch.from_numpy(values)
    return found


def _axes(
    file: h5py.File | h5py.Group,
    names: list[str],
    points: tuple[int, ...],
    boundary: Any,
    hints: Hints,
    imprint: Imprint | None,
) -> Grid:
    """The grid behind coordinate arrays."""
    place = str(file.file.filename)
    if imprint is not None:
        return imprint.on(points, hints, place)
    sides = make_grid(place, (2,) * len(points), (1.0,) * len(points), boundary, "cell").sides
    origins, lengths = [], []
    # Files of that project hold cell centres; those that we write say it where they do not.
    nodes = schema.text(hdf5.attribute(file.file, "centering") or "cell") == "node"
    centering: Centering = hints.centering or ("node" if nodes else "cell")
    for name, n, (low, _) in zip(names, points, sides, strict=True):
        x = hdf5.values(file, name, axes="x")
        if len(x) != n:
            raise UserError(f"{place}: {name!r} has {len(x)} coordinates for {n} points of the fields.")
        origin, length, _, _ = schema.uniform_axis(name, x, low == "periodic", place, centering)
        origins.append(origin)
        lengths.append(length)
    return make_grid(place, points, hints.lengths or lengths, sides, centering, origins)


def _times(
    file: h5py.File | h5py.Group, name: str, frames: int, hints: Hints, imprint: Imprint | None
) -> Tensor:
    """The first `frames` times; generators write one too many."""
    if imprint is not None:
        return imprint.at(frames, hints, file.file.filename)
    if hints.dt is not None:
        return frames_of(frames, hints.dt)
    if not hdf5.has(file, name):
        raise UserError(
            f"{file.file.filename} has no {name!r}, so the time between frames is unknown; pass "
            "hints=Hints(dt=...)."
        )
    t = hdf5.values(file, name, axes="t")
    if len(t) < frames:
        raise UserError(f"{file.file.filename}: {name!r} has {len(t)} times for {frames} frames.")
    return schema.times_tensor(t[:frames])


def _named(
    path: Path, hints: Hints, default: tuple[Field, ...], channels: int, dimension: int
) -> tuple[Field, ...]:
    """The fields of so many channels.

    Raises:
        UserError: the hints name another number of channels.
    """
    fields = hints.fields or default
    if width_of(fields, dimension) != channels:
        raise UserError(
            f"{path} has {channels} channels, and hints.fields name {width_of(fields, dimension)} "
            f"({', '.join(f.name for f in fields)}, vectors count {dimension}). Name each channel."
        )
    return fields


def _scalar(
    file: h5py.File, path: Path, split: str, hints: Hints, imprint: Imprint | None
) -> tuple[Split, list[str]]:
    tensor = hdf5.array(file, "tensor")
    if tensor.ndim != 3:
        raise UserError(f"{path}: 'tensor' has shape {tensor.shape}; expected (samples, times, points).")
    constants = hdf5.number_attributes(file)
    notes = []
    boundary = hints.boundary
    if boundary is None:
        boundary = "periodic"
        notes.append("the file does not name its sides; took them as periodic, as the 1D sets are made")
    if imprint is not None:
        pass  # made by us, not by that project's generators
    elif "Nu" in constants and "rho" in constants:
        notes.append(
            "reaction-diffusion files of this origin are made with a reaction step near the rounding unit of "
            "float32 and are wrong by tens of percent in places; do not take them as truth"
        )
    elif "Nu" in constants:
        notes.append("the diffusion coefficient behind the attribute Nu is Nu / pi in the Burgers files")
    samples, frames, n = tensor.shape
    grid = _axes(file, ["x-coordinate"], (n,), boundary, hints, imprint)
    fields = _named(path, hints, (Field("u"),), 1, 1)
    block = FileBlock(path, [Variable("tensor", "ntx")], (samples, frames, 1, n))
    times = _times(file, "t-coordinate", frames, hints, imprint)
    return Split(split, fields, (block,), (grid,), (times,)), notes


def _darcy(
    file: h5py.File, path: Path, split: str, hints: Hints, imprint: Imprint | None
) -> tuple[Pairs, list[str]]:
    nu, tensor = hdf5.array(file, "nu"), hdf5.array(file, "tensor")
    if nu.ndim != 3 or tensor.shape != (nu.shape[0], 1, *nu.shape[1:]):
        raise UserError(
            f"{path}: 'nu' has shape {nu.shape} and 'tensor' {tensor.shape}; expected (N, X, Y) and (N, 1, X, Y)."
        )
    notes = []
    boundary = hints.boundary
    if boundary is None:
        boundary = "dirichlet"
        notes.append(
            "the file does not name its sides; took them as zero Dirichlet, as the Darcy sets are made"
        )
    grid = _axes(file, ["x-coordinate", "y-coordinate"], nu.shape[1:], boundary, hints, imprint)
    shape = (nu.shape[0], 1, 1, *nu.shape[1:])
    pairs = Pairs(
        split,
        hints.inputs or (Field("coefficient"),),
        _named(path, hints, (Field("solution"),), 1, 2),
        (FileBlock(path, [Variable("nu", "nxy")], shape),),
        (FileBlock(path, [Variable("tensor", "ntxy")], shape),),
        grid,
    )
    return pairs, notes


def _flow(
    file: h5py.File, path: Path, split: str, hints: Hints, imprint: Imprint | None
) -> tuple[Split, list[str]]:
    shape = hdf5.array(file, "density").shape
    dimension = len(shape) - 2
    if not 1 <= dimension <= 3:
        raise UserError(f"{path}: 'density' has shape {shape}; expected (samples, times, x[, y[, z]]).")
    names = ["density", "pressure", *VELOCITIES[:dimension]]
    for name in names:
        found = hdf5.array(file, name).shape if hdf5.has(file, name) else "nothing"
        if found != shape:
            raise UserError(f"{path}: expected {name!r} of shape {shape} like the density; found {found}.")
    notes = []
    boundary = hints.boundary
    if boundary is None:
        boundary = "outflow" if "trans" in path.stem else "periodic"
        notes.append(
            f"the file does not name its sides; took them as {boundary} from its name ('trans' means open ends)"
        )
    points = shape[2:]
    axes = [f"{a}-coordinate" for a in schema.points_letters(dimension)]
    grid = _axes(file, axes, points, boundary, hints, imprint)
    letters = "nt" + schema.points_letters(dimension)
    fields = _named(path, hints, _PRIMITIVE, len(names), dimension)
    block = FileBlock(path, [Variable(n, letters) for n in names], (*shape[:2], len(names), *points))
    times = _times(file, "t-coordinate", shape[1], hints, imprint)
    return Split(split, fields, (block,), (grid,), (times,)), notes


def _groups(
    file: h5py.File, path: Path, split: str, hints: Hints, imprint: Imprint | None
) -> tuple[Split, list[str]]:
    keys = sorted((k for k in file if k.isdigit()), key=lambda k: (len(k), k))
    first = hdf5.child(file, keys[0])
    grid_group = hdf5.child(first, "grid") if isinstance(first, h5py.Group) else None
    if not isinstance(first, h5py.Group) or not isinstance(grid_group, h5py.Group):
        raise UserError(f"{path}: {keys[0]!r} is no group with 'data' and 'grid'.")
    data = hdf5.array(first, "data")
    dimension = data.ndim - 2
    if dimension not in (1, 2):
        raise UserError(
            f"{path}: '{keys[0]}/data' has shape {data.shape}; expected (T, X, V) or (T, Y, X, V)."
        )
    if hints.boundary is None:
        raise UserError(
            f"{path} does not name the sides of its box, and files of this kind differ; pass "
            "hints=Hints(boundary='neumann') for diffusion-reaction, boundary='outflow' for the dam break."
        )
    # Two-dimensional files store (t, y, x, v).
    letters = "txc" if dimension == 1 else "tyxc"
    points = (data.shape[1],) if dimension == 1 else (data.shape[2], data.shape[1])
    names = list(schema.points_letters(dimension))
    grid = _axes(grid_group, names, points, hints.boundary, hints, imprint)
    width = data.shape[-1]
    default = scalars(["u"] if width == 1 else [f"u{i}" for i in range(width)])
    fields = _named(path, hints, default, width, dimension)
    notes = [] if hints.fields else ["the file does not name its variables; numbered them"]
    if len(keys) < FEWEST_GROUPS:
        notes.append(f"there are {len(keys)} groups; PDEBench's own loader of single files needs 24")
    blocks: list[Block] = []
    found: list[dict[str, float]] = []
    for key in keys:
        # There may be ten thousand; what else is to be looked at, the block looks at before it reads.
        stored = h5py.h5d.open(file.id, f"{key}/data".encode())
        if stored.shape != data.shape:
            raise UserError(f"{path}: '{key}/data' has shape {stored.shape}, others {data.shape}.")
        variable = Variable(f"{key}/data", letters, width)
        blocks.append(FileBlock(path, [variable], (1, data.shape[0], width, *points)))
        # Configurations of that project's generators are nested and alike; ours hold a sample's parameters.
        group = hdf5.child(file, key) if imprint is not None else None
        found.append(_config(group) if isinstance(group, h5py.Group) else {})
    times = _times(grid_group, "t", data.shape[0], hints, imprint)
    shared = set.intersection(*(set(c) for c in found)) - {"seed"}
    parameters = {
        name: torch.tensor([c[name] for c in found], dtype=torch.float64) for name in sorted(shared)
    }
    return Split(split, fields, tuple(blocks), (grid,), (times,), parameters), notes


def _config(group: h5py.Group) -> dict[str, float]:
    """The numbers on the first level of the generator's configuration, which is YAML."""
    config = hdf5.attribute(group, "config")
    return {k: float(v) for k, v in _NUMBER.findall(schema.text(config or ""))}


def _incompressible(
    file: h5py.File, path: Path, split: str, hints: Hints, imprint: Imprint | None
) -> tuple[Split, list[str]]:
    velocity, particles = hdf5.array(file, "velocity"), hdf5.array(file, "particles")
    shape = velocity.shape
    if len(shape) != 5 or shape[-1] != 2 or particles.shape != (*shape[:-1], 1):
        raise UserError(
            f"{path}: 'velocity' has shape {shape} and 'particles' {particles.shape}; expected (N, T, x, y, 2) "
            "and (N, T, x, y, 1)."
        )
    samples, frames = shape[:2]
    points = shape[2:4]
    notes = []
    latest = hdf5.attribute(file, "latestIndex")
    kept = frames
    if latest is not None and np.size(latest) == 1 and np.asarray(latest).dtype.kind in "iu":
        kept = min(frames, int(np.asarray(latest).reshape(-1)[0]) + 1)
        if kept < 1:
            raise UserError(f"{path}: latestIndex is {int(latest)}, so no frame was written.")
        if kept < frames:
            notes.append(
                f"the file is incomplete: its last written frame is {kept - 1} of {frames - 1} (latestIndex); the rest "
                "is left out"
            )
    lack = Lacking(path, hints, 2, "Its grid and its sides are not stored.")
    lengths = lack.take("lengths", None)
    boundary = lack.take("boundary", None)
    t = hdf5.values(file, "t") if hdf5.has(file, "t") and hints.dt is None else None
    if t is None and imprint is None:
        lack.take("dt")
    lack.ask()
    grid = (
        make_grid(path, points, lengths, boundary, hints.centering or "cell")
        if imprint is None
        else imprint.on(points, hints, path)
    )
    variables = [Variable("velocity", "ntxyc", 2), Variable("particles", "ntxyc", 1)]
    default: tuple[Field, ...] = (Field("velocity", "m/s", rank=1), Field("particles"))
    if hdf5.has(file, "force"):
        if hdf5.array(file, "force").shape != (samples, *points, 2):
            raise UserError(
                f"{path}: 'force' has shape {file['force'].shape}; expected {(samples, *points, 2)}."
            )
        variables.append(Variable("force", "nxyc", 2))
        default = (*default, Field("force", "m/s^2", rank=1))
        notes.append("the force does not change in time and is repeated with each frame")
    width = sum(v.channels for v in variables)
    fields = _named(path, hints, default, width, 2)
    whole = FileBlock(path, variables, (samples, frames, width, *points))
    blocks: tuple[Block, ...] = (whole if kept == frames else Selected(whole, range(samples), kept),)
    times: tuple[Tensor, ...]
    if imprint is not None:
        times = (imprint.at(frames, hints, path)[:kept],)
    elif t is None:
        assert hints.dt is not None  # asked for above
        times = (frames_of(kept, hints.dt),)
    else:
        if t.shape not in ((samples, frames), (frames,)):
            raise UserError(f"{path}: 't' has shape {t.shape}; expected {(samples, frames)}.")
        rows = np.atleast_2d(t)[:, :kept]
        same = bool((rows == rows[0]).all())
        times = tuple(schema.times_tensor(row) for row in (rows[:1] if same else rows))
        if not same:  # a block for each sample, since times go with blocks
            blocks = tuple(Selected(whole, range(i, i + 1), kept) for i in range(samples))
    return Split(split, fields, blocks, (grid,), times), notes


def write_pdebench(dataset: Dataset, dst: Path, progress: Callable[[int], None]) -> tuple[str, ...]:
    """Write `<name>_<split>.hdf5` or `.h5` for each split into the folder `dst`.

    The layout follows from the fields: one scalar in 1D is `tensor`; a pair of scalars in 2D is Darcy's;
    density, pressure and velocity (or density, momentum and energy, with the parameter "gamma") are
    compressible flow; velocity and one scalar in 2D are incompressible flow; anything else in 1D or 2D has a
    group per sample.

    Args:
        dataset: trajectories or pairs on one grid.
        dst: a folder.
        progress: told the number of samples done.

    Returns what was lost or had to be given, a sentence each.

    Raises:
        UserError: no layout can hold the fields; nothing has been written then.
    """
    imprints = one_grid(dataset, "PDEBench's layout")
    layouts = {name: _layout(dataset, split, imprints[name]) for name, split in dataset.splits.items()}
    notes: list[str] = []
    done = 0
    for name, split in dataset.splits.items():
        layout = layouts[name]
        ending = ".h5" if layout in ("groups", "incompressible") else ".hdf5"
        with whole_file(dst / f"{dataset.name}_{name}{ending}") as part, h5py.File(part, "w") as file:
            for key, value in dataset.constants.items():
                if math.isfinite(value):
                    file.attrs[key] = value
            file.attrs["centering"] = imprints[name].grid.centering
            for count in _WRITERS[layout](file, split, imprints[name], dataset):
                progress(done + count)
            done += len(split)
        notes += _said(layout, split, imprints[name])
    return tuple(dict.fromkeys(notes))


_CONSERVED = ("density", "momentum", "energy")


def _layout(dataset: Dataset, split: Split | Pairs, imprint: Imprint) -> str:
    """Which layout holds a split."""
    dimension = imprint.grid.dimension
    names, ranks = [f.name for f in split.fields], [f.rank for f in split.fields]
    if isinstance(split, Pairs):
        if dimension == 2 and len(split.channels) == len(split.input_channels) == 1:
            return "darcy"
        raise UserError(
            f"PDEBench's layout of pairs holds one coefficient and one solution in 2D; this dataset has "
            f"{', '.join(split.input_channels)} -> {', '.join(split.channels)} in {dimension}D. Convert to 'the_well'."
        )
    if dimension == 1 and len(split.channels) == 1:
        return "tensor"
    if set(names) == {"density", "pressure", "velocity"} and len(split.channels) == dimension + 2:
        return "flow"
    if tuple(names) == _CONSERVED and ranks == [0, 1, 0]:
        if "gamma" not in dataset.constants:
            raise UserError(
                f"{dataset.path} holds conserved variables and no parameter 'gamma', without which there is no "
                "pressure."
            )
        return "flow"
    if dimension == 2 and sorted(ranks) == [0, 1] and names[ranks.index(1)] == "velocity":
        return "incompressible"
    if dimension in (1, 2):
        return "groups"
    raise UserError(
        f"PDEBench's layouts in 3D hold density, pressure and velocity only; this dataset has "
        f"{', '.join(split.channels)}. Convert to 'the_well' instead."
    )


def _said(layout: str, split: Split | Pairs, imprint: Imprint) -> list[str]:
    """What of a split its layout does not keep."""
    notes = []
    if layout == "groups" and len(split) < FEWEST_GROUPS:
        notes.append(
            f"split {split.name!r} has {len(split)} groups; PDEBench's loader of single files takes the grid from "
            "the group 0023 and needs at least 24 of them"
        )
    if layout == "groups" and imprint.grid.dimension == 2:
        notes.append("frames are stored as (t, y, x, v), as in PDEBench's grouped files")
    if layout == "flow" and [f.name for f in split.fields] == list(_CONSERVED):
        notes.append(
            "momentum and energy became velocity and pressure, by the ratio of specific heats 'gamma'"
        )
    notes.append(
        "names, units, sides and exact times lie in an attribute that PDEBench's loaders do not read"
    )
    return notes


def _coordinates(group: h5py.Group, grid: Grid, pattern: str) -> None:
    for name, axis in zip(grid.axis_names, grid.axes(torch.float32), strict=True):
        group.create_dataset(pattern.format(name), data=axis.numpy(), track_times=False)


def _times_too_many(file: h5py.File, imprint: Imprint) -> None:
    """`t-coordinate`, with one time more than there are frames, as the generators of that project write it."""
    times = imprint.times
    dt = times[-1] - times[-2] if len(times) > 1 else 1.0
    file.create_dataset(
        "t-coordinate", data=np.array([*times, times[-1] + dt], dtype=np.float32), track_times=False
    )


def _parameters(file: h5py.File, split: Split | Pairs) -> None:
    """Numbers that differ between samples; no loader of that project knows this group."""
    for name, values in split.parameters.items():
        file.require_group("parameters").create_dataset(name, data=values.numpy(), track_times=False)


def _empty(file: h5py.File, name: str, shape: tuple[int, ...]) -> h5py.Dataset:
    return file.create_dataset(name, shape, "f4", track_times=False)


def _write_tensor(file: h5py.File, split: Split, imprint: Imprint, dataset: Dataset) -> Iterator[int]:
    grid = imprint.grid
    out = _empty(file, "tensor", (len(split), len(imprint.times), *grid.shape))
    _coordinates(file, grid, "{}-coordinate")
    _times_too_many(file, imprint)
    _parameters(file, split)
    file.attrs[NAME] = imprint.text()
    for start, piece in split.pieces():
        out[start : start + len(piece)] = piece.data[:, :, 0].numpy()
        yield start + len(piece)


def _write_darcy(file: h5py.File, pairs: Pairs, imprint: Imprint, dataset: Dataset) -> Iterator[int]:
    grid = imprint.grid
    nu = _empty(file, "nu", (len(pairs), *grid.shape))
    tensor = _empty(file, "tensor", (len(pairs), 1, *grid.shape))
    _coordinates(file, grid, "{}-coordinate")
    _parameters(file, pairs)
    file.attrs[NAME] = imprint.text()
    for i in range(len(pairs)):
        given, sought = pairs[i]
        nu[i], tensor[i] = given[0].numpy(), sought.numpy()
        yield i + 1


def _write_flow(file: h5py.File, split: Split, imprint: Imprint, dataset: Dataset) -> Iterator[int]:
    grid = imprint.grid
    names = ("density", "pressure", *VELOCITIES[: grid.dimension])
    arrays = [_empty(file, n, (len(split), len(imprint.times), *grid.shape)) for n in names]
    _coordinates(file, grid, "{}-coordinate")
    _times_too_many(file, imprint)
    _parameters(file, split)
    units = {f.name: f.unit for f in split.fields}
    conserved = [f.name for f in split.fields] == list(_CONSERVED)
    fields: tuple[Field, ...] = _PRIMITIVE
    if not conserved:
        fields = tuple(Field(f.name, units[f.name], f.rank) for f in _PRIMITIVE)
    file.attrs[NAME] = replace(imprint, fields=fields).text()
    order = ("density", "pressure", *(f"velocity_{a}" for a in grid.axis_names))
    for start, piece in split.pieces():
        data = _primitive(piece.data, dataset.constants["gamma"]) if conserved else piece.data
        channels = range(len(order)) if conserved else [piece.channels.index(n) for n in order]
        for array, channel in zip(arrays, channels, strict=True):
            array[start : start + len(piece)] = data[:, :, channel].numpy()
        yield start + len(piece)


def _primitive(data: Tensor, gamma: float) -> Tensor:
    """Density, momentum, energy (B, T, D + 2, *points) as density, pressure, velocity."""
    from sciml.pdes import CompressibleEuler

    flat = CompressibleEuler(gamma).primitive(data.double().flatten(0, 1)).unflatten(0, data.shape[:2])
    last = flat.shape[2] - 1
    return flat[:, :, [0, last, *range(1, last)]].float()


def _write_groups(file: h5py.File, split: Split, imprint: Imprint, dataset: Dataset) -> Iterator[int]:
    grid = imprint.grid
    places = (0, 2, 1) if grid.dimension == 1 else (0, 3, 2, 1)  # (t, c, x, y) to (t, y, x, c)
    file.attrs[NAME] = imprint.text()
    for start, piece in split.pieces():
        for i, state in enumerate(piece.data.numpy()):
            group = file.create_group(f"{start + i:04d}")
            group.create_dataset("data", data=state.transpose(places), compression="lzf", track_times=False)
            _coordinates(group.create_group("grid"), grid, "{}")
            times = np.array(imprint.times, dtype=np.float32)
            group["grid"].create_dataset("t", data=times, track_times=False)
            numbers = {k: float(v[i]) for k, v in piece.parameters.items() if v[i].numel() == 1}
            group.attrs["config"] = "".join(f"{k}: {v!r}\n" for k, v in numbers.items())
        yield start + len(piece)


def _write_incompressible(
    file: h5py.File, split: Split, imprint: Imprint, dataset: Dataset
) -> Iterator[int]:
    grid, frames = imprint.grid, len(imprint.times)
    ranks = [f.rank for f in split.fields]
    vector = 0 if ranks[0] == 1 else 1  # channel at which the velocity begins
    scalar = 2 if vector == 0 else 0
    shape = (len(split), frames, *grid.shape)
    packed: dict[str, Any] = {"compression": "lzf", "shuffle": True, "track_times": False}
    velocity = file.create_dataset("velocity", (*shape, 2), "f4", chunks=(1, 1, *grid.shape, 2), **packed)
    particles = file.create_dataset("particles", (*shape, 1), "f4", chunks=(1, 1, *grid.shape, 1), **packed)
    file.create_dataset(
        "t", data=np.tile(np.array(imprint.times, dtype=np.float32), (len(split), 1)), track_times=False
    )
    _parameters(file, split)
    fields = tuple(sorted(split.fields, key=lambda f: -f.rank))  # velocity, then the scalar
    file.attrs[NAME] = replace(imprint, fields=fields).text()
    file.attrs["config"] = "".join(f"{k}: {v!r}\n" for k, v in dataset.constants.items())
    file.attrs["latestIndex"] = frames - 1
    for start, piece in split.pieces():
        data = piece.data.numpy()
        rows = slice(start, start + len(piece))
        velocity[rows] = np.moveaxis(data[:, :, vector : vector + 2], 2, -1)
        particles[rows] = np.moveaxis(data[:, :, scalar : scalar + 1], 2, -1)
        yield start + len(piece)


_WRITERS: Mapping[str, Callable[..., Iterator[int]]] = {
    "tensor": _write_tensor,
    "darcy": _write_darcy,
    "flow": _write_flow,
    "groups": _write_groups,
    "incompressible": _write_incompressible,
}
