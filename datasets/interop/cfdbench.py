"""Read CFDBench (Luo et al. 2023): folders case0000, case0001, ... with u.npy, v.npy (T, 64, 64) and case.json.

The JSON holds the numbers of a case: inlet velocity, density, viscosity, sizes. Which axis of the arrays is x, the box, its
sides and the time step are not stored.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from sciml.datasets.blocks import Block, MappedBlock, Raw, Variable
from sciml.datasets.dataset import Dataset, Hints
from sciml.datasets.interop.apebench import read_object
from sciml.datasets.interop.asking import Lacking, frames_of, make_grid, width_of
from sciml.datasets.interop.numpy_files import npy_header
from sciml.datasets.interop.parts import Together
from sciml.datasets.splits import Split
from sciml.errors import UserError
from sciml.trajectory import Field

_ARRAYS = ("u.npy", "v.npy")


def cases(folder: Path) -> list[Path]:
    """The folders of cases in a folder, or one level deeper (bc, geo, prop)."""
    found = [p for pattern in ("case*", "*/case*") for p in folder.glob(pattern)]
    whole = [p for p in found if all((p / name).is_file() for name in (*_ARRAYS, "case.json"))]
    return sorted(whole, key=lambda p: (p.parent.name, p.name))


def read_cfdbench(path: Path, folders: Sequence[Path], hints: Hints) -> Dataset:
    """Open cases as the samples of one split.

    Raises:
        UserError: an array is damaged, the cases differ in their points, or hints are missing.
    """
    lack = Lacking(path, hints, 2, "Arrays are (time, 64, 64); which of the last two is x is not stored.")
    axes = lack.take("axes", None, ("'tyx'", "tyx"))
    lengths, boundary = lack.take("lengths"), lack.take("boundary")
    centering, dt = lack.take("centering"), lack.take("dt")
    lack.ask()
    if sorted(axes) != ["t", "x", "y"]:
        raise UserError(f"{path}: arrays of cases have the axes t, x and y; hints.axes is {axes!r}.")
    fields = hints.fields or (Field("velocity", "m/s", 1),)
    if width_of(fields, 2) != 2:
        raise UserError(f"{path} has two channels, u and v; hints.fields fill {width_of(fields, 2)}.")
    blocks: list[Block] = []
    times, numbers = [], []
    points: tuple[int, ...] = ()
    for folder in folders:
        shape, parts = None, []
        for name in _ARRAYS:
            found = npy_header(folder / name)
            if len(found.shape) != 3 or found.shape != (shape or found.shape):
                raise UserError(
                    f"{folder / name} has shape {found.shape}; expected {shape or '(time, y, x)'}."
                )
            shape = found.shape
            sizes = dict(zip(axes, shape, strict=True))
            stored, letters = (shape[::-1], axes[::-1]) if found.fortran else (shape, axes)
            raw = Raw(found.offset, found.dtype.str, stored, Variable(name, letters))
            parts.append(MappedBlock(folder / name, [raw], (1, sizes["t"], 1, sizes["x"], sizes["y"])))
        points = points or parts[0].shape[3:]
        if parts[0].shape[3:] != points:
            raise UserError(f"{folder} has {parts[0].shape[3:]} points, the first case {points}.")
        blocks.append(Together(parts))
        times.append(frames_of(parts[0].shape[1], dt))
        numbers.append(_numbers(folder / "case.json"))
    shared = set.intersection(*(set(n) for n in numbers))
    parameters = {k: torch.tensor([n[k] for n in numbers], dtype=torch.float64) for k in sorted(shared)}
    grid = make_grid(path, points, lengths, boundary, centering)
    if all(len(t) == len(times[0]) for t in times):
        times = times[:1]
    split = Split("train", fields, tuple(blocks), (grid,), tuple(times), parameters)
    notes = ("cases are in 'train'; hints.split divides them",) if hints.split is None else ()
    return Dataset(path, path.stem, "cfdbench", {"train": split}, {}, notes)


def _numbers(path: Path) -> dict[str, float]:
    content: dict[str, Any] | None = read_object(path)
    if content is None:
        raise UserError(f"{path} is no JSON object; restore it.")
    return {
        k: float(v)
        for k, v in content.items()
        if isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v)
    }
