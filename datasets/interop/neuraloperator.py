"""Read the small example data of the neuraloperator project: mappings of tensors saved by torch.

`x` and `y` of the same shape are static pairs (Darcy: a boolean coefficient and the solution); `y` with one
axis more is a trajectory that starts at `x` (Burgers, with `visc`). The files hold no coordinates.

A folder is opened by problem: files `<problem>_<split>_<points>.pt` of one problem become the splits of one
dataset, the resolution of the training file first: "train", "test", and "test_32" for another resolution.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sciml.datasets import schema
from sciml.datasets.blocks import ArrayBlock
from sciml.datasets.dataset import Dataset, Hints
from sciml.datasets.splits import Pairs, Split
from sciml.domains import Grid
from sciml.errors import UserError
from sciml.trajectory import Field

_NAME = re.compile(r"(?P<problem>.+)_(?P<split>train|valid|test)_(?P<points>\d+)\.pt")


def is_torch_file(head: bytes) -> bool:
    """Whether the first bytes are those of torch.save, zipped or not."""
    return head.startswith(b"PK\x03\x04") or head.startswith(b"\x80\x02")


def problems(folder: Path) -> dict[str, dict[str, Path]]:
    """Problem -> split -> file of a folder of such files."""
    found: dict[str, list[tuple[str, int, Path]]] = {}
    for path in sorted(folder.glob("*.pt")):
        match = _NAME.fullmatch(path.name)
        if match:
            entry = (match["split"], int(match["points"]), path)
            found.setdefault(match["problem"], []).append(entry)
    out: dict[str, dict[str, Path]] = {}
    for problem, entries in found.items():
        own = min((n for split, n, _ in entries if split == "train"), default=min(n for _, n, _ in entries))
        entries.sort(key=lambda e: (schema.SPLITS.index(e[0]), e[1] != own, e[1]))
        out[problem] = {split if n == own else f"{split}_{n}": path for split, n, path in entries}
    return out


def load_tensors(path: Path) -> dict[str, Tensor]:
    """A mapping of names to tensors, without running what a file may carry.

    Raises:
        UserError: it is something else, or damaged.
    """
    schema.require_memory(path.stat().st_size, f"Reading {path}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files raise errors of many kinds
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{path} cannot be loaded safely: {first} Expected a complete file of plain tensors; "
            "files that need unpickling of code are not opened."
        ) from error
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise UserError(f"{path} holds {type(content).__name__}; expected a mapping of names to tensors.")
    return content


def _load(path: Path) -> dict[str, Tensor]:
    content = load_tensors(path)
    if not {"x", "y"} <= set(content) or len(content["x"]) != len(content["y"]):
        shapes = {k: tuple(v.shape) for k, v in content.items()}
        raise UserError(f"{path} holds {shapes}; expected 'x' and 'y' with as many samples.")
    return content


def _array(values: Tensor) -> np.ndarray:
    return values.to(torch.float32).contiguous().numpy()


def _pairs(name: str, x: Tensor, y: Tensor, hints: Hints) -> tuple[Pairs, list[str]]:
    points = tuple(x.shape[1:])
    notes = ["the file names no fields; called them coefficient and solution"]
    if hints.lengths is None or hints.boundary is None:
        # In the published pair of resolutions the coarse points are every second of the fine ones, the
        # first included and the last left out; the solution vanishes on the low sides only.
        notes.append(
            "the file holds no coordinates; took point i of n at i/n of a unit box, so that the low sides are zero "
            "Dirichlet and the high sides lie inside"
        )
    grid = Grid(
        points,
        hints.lengths or tuple(1 - 1 / n for n in points),
        hints.boundary or tuple(("dirichlet", "outflow") for _ in points),
        centering=hints.centering or "node",
    )
    fields = hints.fields or (Field("solution"),)
    pairs = Pairs(
        name,
        (Field("coefficient"),),
        fields,
        (ArrayBlock(_array(x)[:, None, None]),),
        (ArrayBlock(_array(y)[:, None, None]),),
        grid,
    )
    return pairs, notes


def _trajectories(name: str, x: Tensor, y: Tensor, hints: Hints, path: Path) -> tuple[Split, list[str]]:
    if not bool((y[:, 0] == x).all()):
        raise UserError(f"{path}: 'y' has one axis more than 'x' but does not start at it.")
    points, frames = tuple(x.shape[1:]), y.shape[1]
    notes = ["the file names no fields; called the state u"] if hints.fields is None else []
    dt = hints.dt
    if dt is None:
        dt = 1 / frames
        notes.append(
            f"the file holds no times; took the frames as t = i/{frames}, at which Burgers' equation on a unit box "
            "reproduces them to two percent"
        )
    if hints.lengths is None or hints.boundary is None:
        notes.append("the file holds no coordinates; took a periodic box of side 1")
    grid = Grid(
        points,
        hints.lengths or (1.0,) * len(points),
        hints.boundary or "periodic",
        centering=hints.centering or "node",
    )
    fields = hints.fields or (Field("u"),)
    times = torch.arange(frames, dtype=torch.float64) * dt
    return Split(name, fields, (ArrayBlock(_array(y)[:, :, None]),), (grid,), (times,)), notes


def read_torch(path: Path, files: Mapping[str, Path], hints: Hints, notes: Sequence[str] = ()) -> Dataset:
    """Open such files, one per split.

    Raises:
        UserError: a file is not a plain mapping of tensors `x` and `y`, or their shapes do not fit.
    """
    splits: dict[str, Split | Pairs] = {}
    constants: dict[str, float] = {}
    said = list(notes)
    for name, file in files.items():
        content = _load(file)
        x, y = content["x"], content["y"]
        if x.shape == y.shape:
            splits[name], more = _pairs(name, x, y, hints)
        elif y.ndim == x.ndim + 1 and y.shape[2:] == x.shape[1:]:
            splits[name], more = _trajectories(name, x, y, hints, file)
        else:
            raise UserError(
                f"{file} holds 'x' {tuple(x.shape)} and 'y' {tuple(y.shape)}; expected equal shapes, or 'y' with "
                "an axis of time after the first."
            )
        said += more
        for key, value in content.items():
            if key not in ("x", "y") and value.numel() == 1:
                constants["viscosity" if key == "visc" else key] = float(value)
    return Dataset(path, path.stem, "neuraloperator", splits, constants, tuple(dict.fromkeys(said)))
