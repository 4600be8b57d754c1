"""Read and write the layouts of PDEBench (Takamoto et al. 2022), told apart by their keys.

Scalars in 1D (`tensor`), Darcy (`nu`, `tensor`), compressible flow (`density`, `pressure`, `Vx`, ...), and
files with a group per sample (`0000/data`). Coordinates are cell centres. The files name neither the sides
of the box nor, in part, their equation: what is assumed is noted, what cannot be is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor

from sciml.datasets import schema
from sciml.datasets.blocks import FileBlock, Variable
from sciml.datasets.dataset import Dataset, Hints
from sciml.datasets.splits import Pairs, Split
from sciml.datasets.writer import whole_file
from sciml.domains import Centering, Grid
from sciml.errors import UserError
from sciml.trajectory import Field, Trajectory

VELOCITIES = ("Vx", "Vy", "Vz")


def is_pdebench(file: h5py.File) -> bool:
    """Whether a file has one of the layouts, by content."""
    return "tensor" in file or {"density", "pressure", "Vx"} <= set(file) or _grouped(file)


def _grouped(file: h5py.File) -> bool:
    first = next(iter(sorted(file)), "")
    group = file.get(first)
    return first.isdigit() and isinstance(group, h5py.Group) and "data" in group and "grid" in group


def read_pdebench(path: Path, split: str, hints: Hints) -> Dataset:
    """Open one file as one split.

    Raises:
        UserError: the file is cut off or inconsistent, or does not say what a hint has to.
    """
    with schema.open_hdf5(path) as file:
        if "tensor" in file and "nu" in file:
            return _darcy(file, path, split, hints)
        if "tensor" in file:
            return _scalar(file, path, split, hints)
        if "density" in file:
            return _flow(file, path, split, hints)
        return _groups(file, path, split, hints)


def _axes(
    file: h5py.File | h5py.Group, names: list[str], points: tuple[int, ...], boundary: Any, hints: Hints
) -> Grid:
    """The grid behind coordinate arrays."""
    place = str(file.file.filename)
    sides = Grid((2,) * len(points), (1.0,) * len(points), boundary).sides
    origins, lengths = [], []
    # Files of that project hold cell centres; those that we write say it where they do not.
    nodes = schema.text(file.file.attrs.get("centering", "cell")) == "node"
    centering: Centering = hints.centering or ("node" if nodes else "cell")
    for name, n, (low, _) in zip(names, points, sides, strict=True):
        if name not in file:
            raise UserError(f"{place} has no {name!r}; it has {sorted(file)[:8]}.")
        x = np.asarray(file[name][()], dtype=np.float64)
        if len(x) != n:
            raise UserError(f"{place}: {name!r} has {len(x)} coordinates for {n} points of the fields.")
        origin, length, _, _ = schema.uniform_axis(name, x, low == "periodic", place, centering)
        origins.append(origin)
        lengths.append(length)
    if hints.lengths is not None:
        lengths = list(hints.lengths)
    return Grid(points, tuple(lengths), sides, tuple(origins), centering)


def _times(file: h5py.File | h5py.Group, name: str, frames: int, hints: Hints) -> Tensor:
    """The first `frames` times; generators write one too many."""
    if hints.dt is not None:
        return torch.arange(frames, dtype=torch.float64) * hints.dt
    if name not in file:
        raise UserError(
            f"{file.file.filename} has no {name!r}, so the time between frames is unknown; pass "
            "hints=Hints(dt=...)."
        )
    t = np.asarray(file[name][()], dtype=np.float64)
    if len(t) < frames:
        raise UserError(f"{file.file.filename}: {name!r} has {len(t)} times for {frames} frames.")
    return schema.times_tensor(t[:frames])


def _numbers(file: h5py.File) -> dict[str, float]:
    """Root attributes that are numbers."""
    return {
        name: float(np.asarray(value).reshape(-1)[0])
        for name, value in file.attrs.items()
        if np.size(value) == 1 and np.issubdtype(np.asarray(value).dtype, np.number)
    }


def _scalar(file: h5py.File, path: Path, split: str, hints: Hints) -> Dataset:
    tensor = file["tensor"]
    if tensor.ndim != 3:
        raise UserError(f"{path}: 'tensor' has shape {tensor.shape}; expected (samples, times, points).")
    constants, notes = _numbers(file), []
    boundary = hints.boundary
    if boundary is None:
        boundary = "periodic"
        notes.append("the file does not name its sides; took them as periodic, as the 1D sets are made")
    if "Nu" in constants and "rho" in constants:
        notes.append(
            "reaction-diffusion files of this origin are made with a reaction step near the rounding unit of "
            "float32 and are wrong by tens of percent in places; do not take them as truth"
        )
    elif "Nu" in constants:
        notes.append("the diffusion coefficient behind the attribute Nu is Nu / pi in the Burgers files")
    samples, frames, n = tensor.shape
    grid = _axes(file, ["x-coordinate"], (n,), boundary, hints)
    fields = hints.fields or (Field("u"),)
    block = FileBlock(path, [Variable("tensor", "ntx")], (samples, frames, 1, n))
    times = _times(file, "t-coordinate", frames, hints)
    kept = Split(split, fields, (block,), (grid,), (times,))
    return Dataset(path, path.stem, "pdebench", {split: kept}, constants, tuple(notes))


def _darcy(file: h5py.File, path: Path, split: str, hints: Hints) -> Dataset:
    nu, tensor = file["nu"], file["tensor"]
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
    grid = _axes(file, ["x-coordinate", "y-coordinate"], nu.shape[1:], boundary, hints)
    shape = (nu.shape[0], 1, 1, *nu.shape[1:])
    pairs = Pairs(
        split,
        (Field("coefficient"),),
        hints.fields or (Field("solution"),),
        (FileBlock(path, [Variable("nu", "nxy")], shape),),
        (FileBlock(path, [Variable("tensor", "ntxy")], shape),),
        grid,
    )
    return Dataset(path, path.stem, "pdebench", {split: pairs}, _numbers(file), tuple(notes))


def _flow(file: h5py.File, path: Path, split: str, hints: Hints) -> Dataset:
    shape = file["density"].shape
    dimension = len(shape) - 2
    names = ["density", "pressure", *VELOCITIES[:dimension]]
    for name in names:
        if name not in file or file[name].shape != shape:
            found = file[name].shape if name in file else "nothing"
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
    grid = _axes(file, axes, points, boundary, hints)
    letters = "nt" + schema.points_letters(dimension)
    fields = (Field("density", "kg/m^3"), Field("pressure", "Pa"), Field("velocity", "m/s", rank=1))
    block = FileBlock(path, [Variable(n, letters) for n in names], (*shape[:2], len(names), *points))
    times = _times(file, "t-coordinate", shape[1], hints)
    kept = Split(split, fields, (block,), (grid,), (times,))
    return Dataset(path, path.stem, "pdebench", {split: kept}, _numbers(file), tuple(notes))


def _groups(file: h5py.File, path: Path, split: str, hints: Hints) -> Dataset:
    keys = sorted(k for k in file if k.isdigit())
    first = file[keys[0]]
    data = first["data"]
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
    grid = _axes(first["grid"], list(schema.points_letters(dimension)), points, hints.boundary, hints)
    width = data.shape[-1]
    fields = hints.fields or tuple(Field(f"u{i}") if width > 1 else Field("u") for i in range(width))
    notes = [] if hints.fields else ["the file does not name its variables; numbered them"]
    blocks, times = [], []
    for key in keys:
        if file[key]["data"].shape != data.shape:
            raise UserError(
                f"{path}: '{key}/data' has shape {file[key]['data'].shape}, others {data.shape}."
            )
        blocks.append(
            FileBlock(path, [Variable(f"{key}/data", letters, width)], (1, data.shape[0], width, *points))
        )
    times.append(_times(first["grid"], "t", data.shape[0], hints))
    kept = Split(split, fields, tuple(blocks), (grid,), tuple(times))
    return Dataset(path, path.stem, "pdebench", {split: kept}, _numbers(file), tuple(notes))


def write_pdebench(path: Path, trajectory: Trajectory, constants: Mapping[str, float]) -> None:
    """Write trajectories as `tensor` (one scalar in 1D) or as compressible flow.

    Raises:
        UserError: the fields fit neither layout.
    """
    grid, data = trajectory.domain, trajectory.data.to(torch.float32).numpy()
    if not isinstance(grid, Grid):
        raise UserError(
            f"PDEBench's layouts hold fields on grids; this dataset lies on a {type(grid).__name__}."
        )
    names = trajectory.channels
    flow = ("density", "pressure", *(f"velocity_{a}" for a in grid.axis_names))
    if len(names) == 1 and grid.dimension == 1:
        arrays = {"tensor": data[:, :, 0]}
    elif set(names) == set(flow):
        targets = ("density", "pressure", *VELOCITIES)
        arrays = {t: data[:, :, names.index(n)] for n, t in zip(flow, targets, strict=False)}
    else:
        raise UserError(
            f"PDEBench's layouts hold one scalar in 1D, or {', '.join(flow)}; this dataset has "
            f"{', '.join(names)}. Convert to 'the_well' instead."
        )
    times = trajectory.times.numpy()
    dt = times[1] - times[0] if len(times) > 1 else 1.0
    with whole_file(path) as part, h5py.File(part, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=np.ascontiguousarray(array), track_times=False)
        for name, axis in zip(grid.axis_names, grid.axes(torch.float32), strict=True):
            file.create_dataset(f"{name}-coordinate", data=axis.numpy(), track_times=False)
        # The generators of that project write one time more than there are frames.
        file.create_dataset(
            "t-coordinate", data=np.append(times, times[-1] + dt).astype(np.float32), track_times=False
        )
        file.attrs["centering"] = grid.centering
        for name, value in constants.items():
            if math.isfinite(value):
                file.attrs[name] = value
