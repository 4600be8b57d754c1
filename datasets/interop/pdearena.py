"""Read the HDF5 files of PDEArena (Gupta and Brandstetter 2022): a group named after the split, double precision.

Smoke in 2D (`u`, `vx`, `vy`), Kuramoto-Sivashinsky in 1D (`pde_...`), Maxwell in 3D (`d_field`, `h_field`). The
velocities of the smoke are those on the low faces of the cells: they are given as they lie. Spacing in time is `dt`;
the array `t` of the smoke files is divided evenly up to its last entry and disagrees with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor

from sciml.datasets import schema
from sciml.datasets.blocks import Block, FileBlock, Variable
from sciml.datasets.dataset import Dataset, Hints
from sciml.datasets.interop import hdf5
from sciml.datasets.interop.asking import Lacking, frames_of, make_grid, width_of
from sciml.datasets.interop.parts import Selected
from sciml.datasets.splits import Split
from sciml.datasets.stored import child
from sciml.domains import Domain, Grid
from sciml.errors import UserError
from sciml.trajectory import Field

_SMOKE = ("u", "vx", "vy")
_STAGGERED = (
    "velocities lie on the low faces of the cells, vx half a cell to the left and vy half a cell below the centres, and "
    "are given there"
)
_WALLS = "the file does not name its sides; took them as walls, as the generator closes its box"


def is_pdearena(file: h5py.File) -> bool:
    """Whether a file has one of the layouts, by content."""
    return any(_kind(file, name) for name in schema.SPLITS)


def _kind(file: h5py.File, split: str) -> str:
    """ "smoke", "line", "maxwell", or nothing."""
    group = child(file, split)
    if not isinstance(group, h5py.Group):
        return ""
    if hdf5.has(group, *_SMOKE):
        return "smoke"
    if hdf5.has(group, "d_field", "h_field"):
        return "maxwell"
    return "line" if any(name.startswith("pde_") for name in group) else ""


@dataclass(frozen=True, eq=False)
class _Part:
    """What one file holds of one split: blocks and of each the grid and times."""

    blocks: Sequence[Block]
    grids: Sequence[Grid]
    times: Sequence[Tensor]
    fields: tuple[Field, ...]
    parameters: Mapping[str, Tensor]


def read_pdearena(path: Path, files: Sequence[Path], hints: Hints) -> Dataset:
    """Open files, one or several per split; their groups say which split they belong to.

    Raises:
        UserError: a file is cut off or inconsistent, or does not say what a hint has to.
    """
    notes: list[str] = []
    parts: dict[str, list[_Part]] = {}
    for path_of_one in files:
        with hdf5.opened(path_of_one) as file:
            found = [(name, _kind(file, name)) for name in schema.SPLITS if _kind(file, name)]
            if not found:
                raise UserError(
                    f"{path_of_one} has no group train, valid or test with the arrays of PDEArena; it has {sorted(file)[:8]}."
                )
            for split, kind in found:
                read = {"smoke": _smoke, "line": _line, "maxwell": _maxwell}[kind]
                parts.setdefault(split, []).append(read(file[split], path_of_one, split, hints, notes))
    order = [name for name in schema.SPLITS if name in parts]
    splits = {name: _split(name, parts[name], path) for name in order}
    channels = {name: split.channels for name, split in splits.items()}
    if len(set(channels.values())) > 1:
        raise UserError(f"The splits of {path} differ in their channels: {channels}.")
    return Dataset(path, path.stem, "pdearena", splits, {}, tuple(dict.fromkeys(notes)))


def _split(name: str, parts: Sequence[_Part], path: Path) -> Split:
    """The samples of several files, in the order of the files."""
    first = parts[0]
    for part in parts[1:]:
        if part.fields != first.fields or set(part.parameters) != set(first.parameters):
            raise UserError(f"The files of split {name!r} in {path} hold different fields or parameters.")
        if part.grids[0].shape != first.grids[0].shape:
            raise UserError(
                f"The files of split {name!r} in {path} differ in resolution: {first.grids[0].shape} and "
                f"{part.grids[0].shape}. Put them into different folders."
            )
    blocks = tuple(b for part in parts for b in part.blocks)
    domains: tuple[Domain, ...] = tuple(g for part in parts for g in part.grids)
    times = tuple(t for part in parts for t in part.times)
    if all(d == domains[0] for d in domains):
        domains = domains[:1]
    if all(len(t) == len(times[0]) and bool((t == times[0]).all()) for t in times):
        times = times[:1]
    parameters = {key: torch.cat([part.parameters[key] for part in parts]) for key in first.parameters}
    return Split(name, first.fields, blocks, domains, times, parameters)


def _each(group: h5py.Group, name: str, samples: int) -> np.ndarray | None:
    """A number for each sample, or None where there is no such array.

    Raises:
        UserError: there is another number of them.
    """
    if not hdf5.has(group, name):
        return None
    values = hdf5.values(group, name).reshape(-1)
    if values.size not in (1, samples):
        raise UserError(
            f"{group.file.filename}: {group.name}/{name} has {values.size} values for {samples} samples."
        )
    return np.broadcast_to(values, (samples,))


def _varying(
    block: Block, keys: Sequence[tuple[tuple[float, ...], float]]
) -> list[tuple[Block, tuple[float, ...], float]]:
    """Runs of samples of equal (lengths, dt), since domains and times go with blocks."""
    out: list[tuple[Block, tuple[float, ...], float]] = []
    start = 0
    for stop in range(1, len(keys) + 1):
        if stop == len(keys) or keys[stop] != keys[start]:
            whole = start == 0 and stop == len(keys)
            out.append((block if whole else Selected(block, range(start, stop)), *keys[start]))
            start = stop
    return out


def _named(path: Path, hints: Hints, default: tuple[Field, ...], dimension: int) -> tuple[Field, ...]:
    fields = hints.fields or default
    width = width_of(default, dimension)
    if width_of(fields, dimension) != width:
        raise UserError(
            f"{path} has {width} channels, and hints.fields name {width_of(fields, dimension)} "
            f"({', '.join(f.name for f in fields)}). Name each channel."
        )
    return fields


def _positive(values: np.ndarray, what: str, path: Path) -> None:
    if not (values > 0).all():
        raise UserError(f"{path}: {what} are not all positive: {values[:4]}.")


def _smoke(group: h5py.Group, path: Path, split: str, hints: Hints, notes: list[str]) -> _Part:
    shape = hdf5.array(group, "u", axes="ntxy").shape
    for name in ("vx", "vy"):
        if hdf5.array(group, name).shape != shape:
            raise UserError(f"{path}: '{split}/{name}' has shape {group[name].shape}, the smoke {shape}.")
    samples, frames, *points = shape
    dt = _each(group, "dt", samples)
    spacings = [_each(group, name, samples) for name in ("dx", "dy")]
    dx, dy = spacings
    lack = Lacking(path, hints, 2)
    lack.take("dt", dt)
    lack.take("lengths", spacings if dx is not None and dy is not None else None)
    lack.ask()
    steps = np.full(samples, hints.dt) if hints.dt is not None or dt is None else dt
    _positive(steps, "the time steps", path)
    boxes: list[tuple[float, ...]]
    if hints.lengths is not None or dx is None or dy is None:
        boxes = [tuple(hints.lengths or ())] * samples
    else:
        _positive(np.concatenate([dx, dy]), "the spacings", path)
        boxes = [(float(a) * points[0], float(b) * points[1]) for a, b in zip(dx, dy, strict=True)]
    if hints.boundary is None:
        notes.append(_WALLS)
    notes.append(_STAGGERED)
    if hdf5.has(group, "t") and hints.dt is None:
        stored = hdf5.values(group, "t").reshape(-1)[:2]
        if len(stored) == 2 and abs(float(stored[1] - stored[0]) - steps[0]) > 1e-6 * steps[0]:
            notes.append(
                f"the times of the file are {stored[1] - stored[0]:.4g} apart and its dt is {steps[0]:.4g}; took dt, by "
                "which the frames were made"
            )
    start = float(hdf5.values(group, "t").reshape(-1)[0]) if hdf5.has(group, "t") else 0.0
    fields = _named(path, hints, (Field("smoke"), Field("velocity", rank=1)), 2)
    variables = [Variable(f"{split}/{name}", "ntxy") for name in _SMOKE]
    block = FileBlock(path, variables, (samples, frames, 3, *points))
    runs = _varying(block, [(box, float(step)) for box, step in zip(boxes, steps, strict=True)])
    grids = [
        make_grid(path, points, box, hints.boundary or "wall", hints.centering or "cell")
        for _, box, _ in runs
    ]
    parameters = {}
    lift = _each(group, "buo_y", samples)
    if lift is not None:
        parameters["buoyancy"] = torch.from_numpy(lift.copy())
    times = [start + frames_of(frames, step) for _, _, step in runs]
    return _Part([b for b, _, _ in runs], grids, times, fields, parameters)


def _line(group: h5py.Group, path: Path, split: str, hints: Hints, notes: list[str]) -> _Part:
    names = [name for name in group if name.startswith("pde_")]
    if len(names) != 1:
        raise UserError(
            f"{path}: group {split!r} has the arrays {names}; expected one that begins with 'pde_'."
        )
    shape = hdf5.array(group, names[0], axes="ntx").shape
    samples, frames, n = shape
    dt, dx = _each(group, "dt", samples), _each(group, "dx", samples)
    lack = Lacking(path, hints, 1)
    lack.take("dt", dt)
    lack.take("lengths", dx)
    lack.ask()
    steps = np.full(samples, hints.dt) if hints.dt is not None or dt is None else dt
    _positive(steps, "the time steps", path)
    if hints.lengths is not None or dx is None:
        boxes = [tuple(hints.lengths or ())] * samples
    else:
        _positive(dx, "the spacings", path)
        boxes = [(float(h) * n,) for h in dx]
    if hints.boundary is None:
        notes.append("the file does not name its sides; took them as periodic, as this set is made")
    fields = _named(path, hints, (Field("u"),), 1)
    block = FileBlock(path, [Variable(f"{split}/{names[0]}", "ntx")], (samples, frames, 1, n))
    runs = _varying(block, [(box, float(step)) for box, step in zip(boxes, steps, strict=True)])
    grids = [
        make_grid(path, (n,), box, hints.boundary or "periodic", hints.centering or "node")
        for _, box, _ in runs
    ]
    parameters = {}
    values = _each(group, "v", samples)
    if values is not None:
        parameters["v"] = torch.from_numpy(values.copy())
    times = [frames_of(frames, step) for _, _, step in runs]
    return _Part([b for b, _, _ in runs], grids, times, fields, parameters)


def _maxwell(group: h5py.Group, path: Path, split: str, hints: Hints, notes: list[str]) -> _Part:
    shape = hdf5.array(group, "d_field", axes="ntxyzc").shape
    if shape[-1] != 3 or hdf5.array(group, "h_field").shape != shape:
        raise UserError(
            f"{path}: 'd_field' has shape {shape} and 'h_field' {group['h_field'].shape}; expected (N, T, x, y, z, 3) "
            "of both."
        )
    samples, frames, *points, _ = shape
    lack = Lacking(path, hints, 3)
    dt, lengths = lack.take("dt", None), lack.take("lengths", None)
    boundary, centering = lack.take("boundary", None), lack.take("centering", None)
    lack.ask()
    fields = _named(path, hints, (Field("d_field", rank=1), Field("h_field", rank=1)), 3)
    variables = [Variable(f"{split}/{name}", "ntxyzc", 3) for name in ("d_field", "h_field")]
    block = FileBlock(path, variables, (samples, frames, 6, *points))
    grid = make_grid(path, points, lengths, boundary, centering)  # type: ignore[arg-type]  # asked for above
    return _Part([block], [grid], [frames_of(frames, float(dt or 0))], fields, {})
