"""Read the data of AutoSim and AutoCast: `data.pt` in folders train, valid and test, or one such file.

A mapping saved by torch: `data` (N, T, x, y, C), and where they are there `constant_scalars` (N, S) and `constant_fields`
(N, x, y, Cc). Neither box, times nor names are stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sciml.datasets.blocks import ArrayBlock, Block, Variable, arrange
from sciml.datasets.dataset import Dataset, Hints
from sciml.datasets.interop.asking import Lacking, frames_of, make_grid, width_of
from sciml.datasets.interop.neuraloperator import load_tensors
from sciml.datasets.interop.parts import Together
from sciml.datasets.schema import SPLITS
from sciml.datasets.splits import Split
from sciml.errors import UserError
from sciml.trajectory import Field


def autocast_files(folder: Path) -> dict[str, Path]:
    """Split -> file of a folder."""
    there = {name: folder / name / "data.pt" for name in SPLITS}
    return {name: path for name, path in there.items() if path.is_file()}


def is_autocast(path: Path) -> bool:
    """Whether a file of tensors has this layout, by content; its values are not read."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception:  # of many kinds; the reader of other tensor files says what is wrong
        return False
    return isinstance(content, dict) and "data" in content and "x" not in content


def read_autocast(path: Path, files: Mapping[str, Path], hints: Hints) -> Dataset:
    """Open such files, one per split.

    Raises:
        UserError: a file is damaged or of another shape, or hints are missing.
    """
    lack = Lacking(path, hints, 2)
    lengths, boundary = lack.take("lengths"), lack.take("boundary")
    centering, dt, fields = lack.take("centering"), lack.take("dt"), lack.take("fields")
    lack.ask()
    splits: dict[str, Split] = {}
    for name, file in files.items():
        content = load_tensors(file)
        data = content.get("data")
        if data is None or data.ndim != 5 or data.is_complex() or 0 in data.shape:
            shapes = {k: tuple(v.shape) for k, v in content.items()}
            raise UserError(f"{file} holds {shapes}; expected 'data' (N, T, x, y, C).")
        samples, frames, *points, channels = data.shape
        blocks: list[Block] = [_block(data, "ntxyc", (samples, frames, channels, *points))]
        extra = content.get("constant_fields")
        if extra is not None:
            if tuple(extra.shape[:-1]) != (samples, *points):
                raise UserError(
                    f"{file}: 'constant_fields' has shape {tuple(extra.shape)} beside {tuple(data.shape)}."
                )
            blocks.append(_block(extra, "nxyc", (samples, frames, extra.shape[-1], *points)))
        width = sum(b.shape[2] for b in blocks)
        if width_of(fields, 2) != width:
            raise UserError(
                f"{file} has {width} channels, constant ones last, and hints.fields fill {width_of(fields, 2)}. Name each."
            )
        scalars = content.get("constant_scalars")
        parameters: dict[str, Tensor] = {}
        if scalars is not None:
            if scalars.ndim != 2 or len(scalars) != samples:
                raise UserError(
                    f"{file}: 'constant_scalars' has shape {tuple(scalars.shape)} for {samples} samples."
                )
            parameters = {f"scalar_{i}": scalars[:, i].double() for i in range(scalars.shape[1])}
        block = blocks[0] if len(blocks) == 1 else Together(blocks)
        grid = make_grid(file, points, lengths, boundary, centering)
        named: tuple[Field, ...] = fields
        splits[name] = Split(name, named, (block,), (grid,), (frames_of(frames, dt),), parameters)
    notes = (
        ["scalars of samples have no names and are numbered"]
        if any(s.parameters for s in splits.values())
        else []
    )
    return Dataset(path, path.stem, "autocast", splits, {}, tuple(notes))


def _block(values: Tensor, axes: str, shape: tuple[int, ...]) -> ArrayBlock:
    array: np.ndarray = values.float().numpy()
    return ArrayBlock(np.asarray(arrange(array, Variable("data", axes, values.shape[-1]), shape)))
