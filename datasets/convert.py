"""Convert a dataset from one layout to another."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args

import torch

from sciml.datasets import schema
from sciml.datasets.dataset import Dataset, Hints
from sciml.datasets.interop.pdebench import write_pdebench
from sciml.datasets.reader import open as open_dataset
from sciml.datasets.splits import Pairs, Split
from sciml.datasets.statistics import make_statistics
from sciml.datasets.writer import require_space, shard_bytes, write_json, write_shard
from sciml.domains import Grid, Point
from sciml.errors import UserError
from sciml.trajectory import Trajectory

Format = Literal["native", "the_well", "pdebench"]

SHARD_BYTES = 1 << 28
"""Shards of converted datasets are cut at about this size."""


def convert(src: str | Path, dst: str | Path, to: Format, hints: Hints | None = None) -> Path:
    """Write the dataset `src` anew as `dst`.

    "native" and "the_well" give the same files, a folder data/<split>/*.hdf5 with stats.yaml that tools for
    The Well read; "pdebench" gives a folder with one <name>_<split>.hdf5 per split. Conserved variables of
    compressible flow become density, pressure and velocity there, with the ratio of specific heats from
    the dataset's parameter "gamma".

    Args:
        src: any dataset that `open` knows.
        dst: a new or empty folder.
        to: the layout.
        hints: what the source does not say.

    Raises:
        UserError: the layout is not known, `dst` is not empty, or the layout cannot hold the fields.
    """
    if to not in get_args(Format):
        raise UserError(f"convert got to={to!r}; it writes {', '.join(get_args(Format))}.")
    dataset, dst = open_dataset(src, hints), Path(dst)
    if dst.exists() and (not dst.is_dir() or any(dst.iterdir())):
        raise UserError(f"{dst} exists and is not an empty folder. Choose a new name.")
    points = sum(
        block.shape[0] * block.shape[1] * int(torch.tensor(block.shape[2:]).prod())
        for split in dataset.splits.values()
        for block in (
            split.blocks if isinstance(split, Split) else (*split.input_blocks, *split.target_blocks)
        )
    )
    require_space(dst, shard_bytes(1, 1, 1, points))
    if to == "pdebench":
        write_pdebench(dataset, dst, lambda done: None)
    else:
        _to_native(dataset, dst)
    return dst


def _to_native(dataset: Dataset, dst: Path) -> None:
    name = dataset.name
    for split_name, split in dataset.splits.items():
        provenance: dict[str, Any] = {
            "converted_from": dataset.kind,
            "notes": list(dataset.notes),
            "split": split_name,
        }
        folder = dst / "data" / split_name
        if isinstance(split, Pairs):
            inputs, targets = split.inputs, split.targets
            trajectory = Trajectory(
                targets.unsqueeze(1),
                split.domain,
                torch.zeros(1, dtype=torch.float64),
                split.fields,
                split.parameters,
            )
            write_shard(
                folder / "shard-00000.hdf5",
                trajectory,
                name=name,
                inputs=inputs,
                input_fields=split.input_fields,
                constants=dataset.constants,
                provenance=provenance,
            )
            continue
        per_sample = 4 * int(torch.tensor(split.blocks[0].shape[1:]).prod())
        size = max(1, SHARD_BYTES // per_sample)
        for number, start in enumerate(range(0, len(split), size)):
            chosen = range(start, min(start + size, len(split)))
            joined = isinstance(split.domain_of(start), Grid | Point)
            write_shard(
                folder / f"shard-{number:05d}.hdf5",
                split.trajectories(slice(chosen.start, chosen.stop))
                if joined
                else [split[i] for i in chosen],
                name=name,
                constants=dataset.constants,
                provenance=provenance | {"shard": number, "first_sample": start},
            )
    if "train" in dataset.splits:
        make_statistics(dst)
    write_json(
        dst / "conversion.json",
        {
            "format": schema.FORMAT,
            "from": str(dataset.path),
            "layout": dataset.kind,
            "notes": list(dataset.notes),
        },
    )
