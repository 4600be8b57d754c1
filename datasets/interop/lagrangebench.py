"""Read folders of LagrangeBench (Toshev et al. 2023): particle positions and a metadata.json.

Positions are the state, one vector field; they are wrapped into the box along its periodic axes.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

from sciml.datasets import schema
from sciml.datasets.blocks import FileBlock, Variable
from sciml.datasets.dataset import Dataset, Hints
from sciml.datasets.splits import Pairs, Split
from sciml.domains import Cloud
from sciml.errors import UserError
from sciml.trajectory import Field


def is_lagrangebench(folder: Path) -> bool:
    """Whether a folder has the metadata and files of this kind, by content."""
    metadata = folder / "metadata.json"
    if not metadata.is_file() or not list(folder.glob("*.h5")):
        return False
    try:
        return {"bounds", "periodic_boundary_conditions", "dt"} <= set(json.loads(metadata.read_text()))
    except (json.JSONDecodeError, UnicodeDecodeError):
        return False


def read_lagrangebench(folder: Path, hints: Hints) -> Dataset:
    """Open such a folder.

    Raises:
        UserError: a file is cut off or has no positions.
    """
    metadata = json.loads((folder / "metadata.json").read_text())
    box = tuple((float(low), float(high)) for low, high in metadata["bounds"])
    cloud = Cloud(box, tuple(bool(p) for p in metadata["periodic_boundary_conditions"]))
    dt = hints.dt or float(metadata["dt"]) * float(metadata.get("write_every", 1))
    notes = []
    if "write_every" not in metadata and hints.dt is None:
        notes.append("metadata.json has no write_every; took every solver step as stored")
    dimension = len(box)
    splits: dict[str, Split | Pairs] = {}
    for name in schema.SPLITS:
        path = folder / f"{name}.h5"
        if not path.is_file():
            continue
        blocks, times = [], []
        with schema.open_hdf5(path) as file:
            for key in sorted(file):
                if "position" not in file[key]:
                    raise UserError(f"{path}: group {key!r} has no 'position'; it has {sorted(file[key])}.")
                frames, count, width = file[key]["position"].shape
                if width != dimension:
                    raise UserError(
                        f"{path}: positions have {width} components in a box of {dimension} axes."
                    )
                variable = Variable(f"{key}/position", "txc", width)
                blocks.append(FileBlock(path, [variable], (1, frames, width, count)))
                times.append(torch.arange(frames, dtype=torch.float64) * dt)
        if all(len(t) == len(times[0]) for t in times):
            times = times[:1]
        fields = (Field("position", rank=1),)
        splits[name] = Split(name, fields, tuple(blocks), (cloud,), tuple(times))
    return Dataset(folder, folder.name, "lagrangebench", splits, {}, tuple(notes))
