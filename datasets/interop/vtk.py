"""Write files of VTK, which ParaView and pyvista open: one for each frame, and a list of them for each sample.

Grids become .vtr, meshes .vtu, particles .vtp; <split>/sample-00000.pvd lists the frames of a sample with
their times. The files are for looking at data: they are not read back as a dataset.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from xml.sax.saxutils import quoteattr

import torch

from sciml.datasets.dataset import Dataset
from sciml.datasets.splits import Pairs, Split
from sciml.datasets.writer import write_bytes
from sciml.domains import Cloud, Domain, Grid, Point
from sciml.errors import UserError
from sciml.extras import require
from sciml.trajectory import Trajectory

MOST_FILES = 1_000_000
"""More files than this are hardly wanted, and no folder of them can be used."""


def write_vtk(dataset: Dataset, dst: Path, progress: Callable[[int], None]) -> tuple[str, ...]:
    """Write every frame as a file, values in float32 as they are.

    Pairs of static fields become one frame with inputs and targets.

    Returns:
        What was lost or had to be given.

    Raises:
        UserError: the data have no place in space, or there are too many frames; nothing is written then.
        ModuleNotFoundError: pyvista is missing; the message names the extra.
    """
    total = 0
    for name, split in dataset.splits.items():
        domains = split.domains if isinstance(split, Split) else (split.domain,)
        if any(isinstance(d, Point) for d in domains):
            raise UserError(
                f"{dataset.path} has no space, so there is nothing that VTK could draw. Choose native."
            )
        known = [f.name for f in split.fields if f.rank == 1]
        if any(isinstance(d, Cloud) for d in domains) and "position" not in known:
            raise UserError(
                f"{dataset.path} holds particles without a vector field 'position'. Choose native."
            )
        names = [f.name for f in (*split.fields, *(split.input_fields if isinstance(split, Pairs) else ()))]
        twice = {n for n in names if names.count(n) > 1}
        if twice or "/" in name:
            raise UserError(
                f"{dataset.path}: the names {sorted(twice) or [name]} cannot be used here. Rename them."
            )
        total += (
            sum(b.shape[0] * b.shape[1] for b in split.blocks) if isinstance(split, Split) else len(split)
        )
    if total > MOST_FILES:
        raise UserError(
            f"{dataset.path} has {total} frames, and each becomes a file; at most {MOST_FILES} are written. Choose another "
            "layout, or take some samples out first."
        )
    require("pyvista", extra="report3d", purpose="Writing VTK files")
    done = 0
    for name, split in dataset.splits.items():
        for sample in range(len(split)):
            trajectory = split[sample] if isinstance(split, Split) else _joined(split, sample)
            _write_sample(trajectory, dst / name, f"sample-{sample:05d}")
            done += 1
            progress(done)
    notes = ["every frame is a file of its own; names of splits and times stand in the .pvd files"]
    if any(f.unit != "1" for f in dataset.fields):
        notes.append("VTK has no place for units")
    if dataset.constants:
        notes.append(f"VTK files do not hold the constants {', '.join(sorted(dataset.constants))}")
    if any(isinstance(d, Grid) for d in _domains(dataset)):
        notes.append("VTK has no place for the kinds of the sides of a grid")
    return tuple(notes)


def _domains(dataset: Dataset) -> list[Domain]:
    return [
        d for s in dataset.splits.values() for d in (s.domains if isinstance(s, Split) else (s.domain,))
    ]


def _joined(split: Pairs, sample: int) -> Trajectory:
    """A pair as one frame with the inputs before the targets."""
    given, wanted = split[sample]
    return Trajectory(
        torch.cat([given, wanted])[None, None],
        split.domain,
        torch.zeros(1, dtype=torch.float64),
        (*split.input_fields, *split.fields),
        {name: values[sample : sample + 1] for name, values in split.parameters.items()},
    )


def _write_sample(trajectory: Trajectory, folder: Path, name: str) -> None:
    (folder / name).mkdir(parents=True, exist_ok=True)
    ending = (
        ".vtr"
        if isinstance(trajectory.domain, Grid)
        else ".vtp"
        if isinstance(trajectory.domain, Cloud)
        else ".vtu"
    )
    lines = []
    for frame, time in enumerate(trajectory.times.tolist()):
        file = f"{name}/frame-{frame:05d}{ending}"
        trajectory.to_pyvista(0, frame).save(folder / file)
        lines.append(f'    <DataSet timestep="{time!r}" part="0" file={quoteattr(file)}/>')
    text = "\n".join(
        ['<?xml version="1.0"?>', '<VTKFile type="Collection" version="1.0">', "  <Collection>"]
        + lines
        + ["  </Collection>", "</VTKFile>", ""]
    )
    write_bytes(folder / f"{name}.pvd", text.encode())
