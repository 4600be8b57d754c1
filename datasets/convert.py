"""Convert a dataset from one layout to another: all that fits is kept bit for bit, and the rest is said."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from sciml.datasets import schema
from sciml.datasets.blocks import hand_back
from sciml.datasets.dataset import Dataset, Hints
from sciml.datasets.reader import Source
from sciml.datasets.reader import open as open_dataset
from sciml.datasets.splits import Pairs, Split
from sciml.datasets.statistics import make_statistics
from sciml.datasets.writer import (
    PART,
    Written,
    require_space,
    shard_bytes,
    write_bytes,
    write_json,
    write_shard,
)
from sciml.domains import Domain, Grid, Point
from sciml.errors import UserError
from sciml.trajectory import Field, Trajectory

Format = Literal[
    "native",
    "the_well",
    "pdebench",
    "apebench",
    "poseidon",
    "meshgraphnets",
    "lagrangebench",
    "zarr",
    "vtk",
]

Progress = Callable[[int], None]
Writer = Callable[[Dataset, Path, Progress], tuple[str, ...]]

SHARD_BYTES = 1 << 26
"""Shards of converted datasets are cut at about this size: two or three of them are in memory at a time."""

NOTE = "conversion.json"

# Writers of single files and folders, each in its own module, which is imported when it is asked for.
_WRITERS: Mapping[str, tuple[str, str]] = {
    "pdebench": ("pdebench", "write_pdebench"),
    "apebench": ("apebench", "write_apebench"),
    "poseidon": ("poseidon", "write_poseidon"),
    "meshgraphnets": ("meshgraphnets", "write_meshgraphnets"),
    "lagrangebench": ("lagrangebench", "write_lagrangebench"),
    "zarr": ("labelled", "write_zarr"),
    "vtk": ("vtk", "write_vtk"),
}


@dataclass(frozen=True)
class Converted:
    """A dataset in its new layout; usable as its path.

    Args:
        path: where it stands.
        format: the layout.
        samples: how many samples each split has.
        notes: what was assumed of the source, was lost, or had to be given, a sentence each.
    """

    path: Path
    format: str
    samples: Mapping[str, int]
    notes: tuple[str, ...]

    def __fspath__(self) -> str:
        return str(self.path)

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "path": str(self.path),
            "format": self.format,
            "samples": dict(self.samples),
            "notes": list(self.notes),
        }


def convert(
    src: Source,
    dst: str | Path,
    to: Format,
    hints: Hints | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Converted:
    """Write the dataset `src` anew as `dst`, a few samples at a time.

    "native" and "the_well" give a folder data/<split>/*.hdf5 with stats.yaml that tools for The Well read; the
    native one has checksums, a card and a picture besides, and also holds meshes, particles and systems without
    space. Other layouts are written as their readers expect them. All is written into a folder beside `dst` that
    becomes `dst` when it is complete; what a killed run has left there is removed by the next one.

    Args:
        src: any dataset that `open` knows, or several files of arrays that make one.
        dst: a new or empty folder.
        to: the layout.
        hints: what the source does not say.
        progress: told the number of samples that are done, and of all.

    Returns:
        Where it stands, and what was lost or had to be given; conversion.json in the folder says the same.

    Raises:
        UserError: the layout is not known, `dst` is not empty, or the layout cannot hold the data; nothing is
            written then. A value that is not finite, which the native layout does not take, ends the conversion.
    """
    if to not in get_args(Format):
        raise UserError(f"convert got to={to!r}; it writes {', '.join(get_args(Format))}.")
    sources = [src] if isinstance(src, str | os.PathLike) else list(src)
    if not sources:
        raise UserError("convert got no source; give the folder or file of a dataset.")
    dst = Path(dst)
    if dst.exists() and (not dst.is_dir() or any(dst.iterdir())):
        raise UserError(f"{dst} exists and is not an empty folder. Choose a new name.")
    dataset = open_dataset(src, hints)
    require_space(dst, shard_bytes(1, 1, 1, _values(dataset)))
    write = _writer(to)
    samples = {name: len(split) for name, split in dataset.splits.items()}
    told = {
        "from": [str(source) for source in sources],
        "layout": dataset.kind,
        "format": to,
        "samples": samples,
        "hints": {
            name: _plain(value) for name, value in vars(hints or Hints()).items() if value is not None
        },
    }
    total = sum(samples.values())
    each, kept = 4 * _values(dataset) // max(total, 1), 0

    def report(done: int) -> None:
        nonlocal kept
        if (done - kept) * each > SHARD_BYTES:  # what was written is not read again
            hand_back()
            kept = done
        if progress is not None:
            progress(done, total)

    report(0)
    with _whole_folder(dst) as part:
        notes = tuple(dict.fromkeys((*dataset.notes, *write(dataset, part, report))))
        write_json(part / NOTE, told | {"complete": True, "notes": list(notes)})
    return Converted(dst, to, samples, notes)


def _plain(value: Any) -> Any:
    """A hint as JSON can say it."""
    if isinstance(value, Field):
        return vars(value)
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    return value if isinstance(value, str | int | float | bool) or value is None else str(value)


def _writer(to: Format) -> Writer:
    if to == "native":
        return write_native
    if to == "the_well":
        return write_the_well
    module, name = _WRITERS[to]
    found: Writer = getattr(import_module(f"sciml.datasets.interop.{module}"), name)
    return found


def _values(dataset: Dataset) -> int:
    """Number of values in all splits."""
    blocks = [
        block
        for split in dataset.splits.values()
        for block in (
            split.blocks if isinstance(split, Split) else (*split.input_blocks, *split.target_blocks)
        )
    ]
    return sum(math.prod(block.shape) for block in blocks)


@contextmanager
def _whole_folder(dst: Path) -> Iterator[Path]:
    """A folder beside `dst` which becomes `dst` only if the block ends without an error.

    Raises:
        UserError: a folder of that name is there that no conversion left.
    """
    dst = Path(os.path.abspath(dst))
    part = dst.with_name(dst.name + PART)
    if part.exists():
        ours = (
            part.is_dir() and not part.is_symlink() and ((part / NOTE).is_file() or not any(part.iterdir()))
        )
        if not ours:
            raise UserError(
                f"{part} is in the way, and no conversion has left it. Remove it or choose another name."
            )
        shutil.rmtree(part)
    try:
        part.mkdir(parents=True)
        # The mark by which the next run knows what a killed one has left.
        (part / NOTE).write_text('{"complete": false}\n')
    except OSError as error:
        raise UserError(f"{part} cannot be written: {error.strerror}. Choose another folder.") from error
    try:
        yield part
        if dst.exists():
            dst.rmdir()  # found empty; a rename onto it is not possible everywhere
        os.rename(part, dst)
    except BaseException:  # also Ctrl-C: nothing half-written stays behind
        shutil.rmtree(part, ignore_errors=True)
        raise


# The native layout -------------------------------------------------------------------------------------------


def write_the_well(dataset: Dataset, dst: Path, progress: Progress) -> tuple[str, ...]:
    """Write shards on grids and stats.yaml, as tools for The Well read them.

    Raises:
        UserError: the data do not lie on one grid; nothing is written then.
    """
    grids = [d for split in dataset.splits.values() for d in _domains(split)]
    other = next((d for d in grids if not isinstance(d, Grid)), None)
    if other is not None:
        raise UserError(
            f"{dataset.path} lies on a {type(other).__name__}; The Well's layout holds fields on grids. Choose native."
        )
    _shards(dataset, dst, progress)
    sides = {side for d in grids if isinstance(d, Grid) for pair in d.sides for side in pair}
    renamed = sorted(
        f"{s} as {schema.BC_TYPES[s]}" for s in sides if schema.BC_TYPES[s] not in (s, "periodic")
    )
    notes = []
    if renamed:
        notes.append(
            f"The Well knows only periodic, wall and open sides: {', '.join(renamed)}; the exact names stand in the group "
            "provenance"
        )
    clocks = [
        t for s in dataset.splits.values() if isinstance(s, Split) for t in s.block_times if len(t) > 2
    ]
    if any(
        float((t.diff() - t.diff().mean()).abs().max()) > 1e-3 * float(t.diff().mean().abs())
        for t in clocks
    ):
        notes.append("the times are not evenly spaced, as other readers of this layout take them to be")
    return tuple(notes)


def write_native(dataset: Dataset, dst: Path, progress: Progress) -> tuple[str, ...]:
    """Write shards, a manifest with their checksums, stats.yaml, card.md and preview.png.

    Raises:
        UserError: a split lies on several grids, or a value is not finite.
    """
    from sciml.datasets.inspection import plot

    shards = _shards(dataset, dst, progress)
    content: dict[str, Any] = {
        "format": schema.FORMAT,
        "format_version": 1,  # the files say what the second version repeats here
        "name": dataset.name,
        "title": dataset.manifest.get("title") or f"{dataset.name}, converted from {dataset.kind}",
        "complete": True,
        "splits": {name: {"samples": len(split)} for name, split in dataset.splits.items()},
        "shards": [
            {
                "file": shard.path.relative_to(dst).as_posix(),
                "samples": shard.samples,
                "bytes": shard.bytes,
                "sha256": shard.sha256,
            }
            for shard in shards
        ],
    }
    if "recipe" in dataset.manifest:  # the same values, so what is known of them holds on
        content["recipe"] = dataset.manifest["recipe"]
    write_json(dst / "manifest.json", content)
    if dataset.certificate is not None:
        write_json(dst / "certificate.json", dataset.certificate)
    write_bytes(dst / "card.md", _card(dataset, content).encode())
    plot(dst, dst / "preview.png")
    return ()


def _domains(split: Split | Pairs) -> tuple[Domain, ...]:
    return split.domains if isinstance(split, Split) else (split.domain,)


def _shards(dataset: Dataset, dst: Path, progress: Progress) -> list[Written]:
    """Write all shards and, where there is a training split, stats.yaml."""
    for name, split in dataset.splits.items():
        if "/" in name or name in ("", ".", ".."):
            raise UserError(f"{dataset.path} has a split {name!r}, which cannot be a folder. Rename it.")
        several = {d for d in _domains(split) if isinstance(d, Grid)}
        if len(several) > 1:
            raise UserError(
                f"Split {name!r} of {dataset.path} lies on {len(several)} grids; one split has one. Convert them apart."
            )
    written: list[Written] = []
    done = 0
    for name, split in dataset.splits.items():
        for number, (first, trajectories, inputs) in enumerate(_batches(split)):
            _require_finite(name, first, trajectories, inputs)
            written.append(
                write_shard(
                    dst / "data" / name / f"shard-{number:05d}.hdf5",
                    trajectories if len(trajectories) > 1 else trajectories[0],
                    name=dataset.name,
                    inputs=inputs,
                    input_fields=split.input_fields if isinstance(split, Pairs) else (),
                    constants=dataset.constants,
                    provenance={
                        "converted_from": dataset.kind,
                        "notes": list(dataset.notes),
                        "split": name,
                        "shard": number,
                        "first_sample": first,
                    },
                )
            )
            done += written[-1].samples
            progress(done)
    if "train" in dataset.splits:
        make_statistics(dst)
    return written


def _batches(split: Split | Pairs) -> Iterator[tuple[int, list[Trajectory], torch.Tensor | None]]:
    """(first sample, trajectories, inputs) of each shard: one batch on a grid, or several on meshes."""
    if isinstance(split, Pairs):
        shape = split.target_blocks[0].shape[2:]
        room = max(
            1, SHARD_BYTES // (4 * math.prod(shape) + 4 * math.prod(split.input_blocks[0].shape[2:]))
        )
        for start in range(0, len(split), room):
            chosen = range(start, min(start + room, len(split)))
            pairs = [split[i] for i in chosen]
            trajectory = Trajectory(
                torch.stack([target for _, target in pairs]).unsqueeze(1),
                split.domain,
                torch.zeros(1, dtype=torch.float64),
                split.fields,
                {name: values[chosen.start : chosen.stop] for name, values in split.parameters.items()},
            )
            yield start, [trajectory], torch.stack([given for given, _ in pairs])
        return
    waiting: list[Trajectory] = []
    start, size = 0, 0
    for first, piece in split.pieces(SHARD_BYTES):
        if isinstance(piece.domain, Grid | Point):
            yield first, [piece], None
            continue
        more = size + piece.data.nbytes
        if waiting and (more > SHARD_BYTES or not torch.equal(piece.times, waiting[0].times)):
            yield start, waiting, None
            waiting, more = [], piece.data.nbytes
        start = start if waiting else first
        waiting.append(piece)
        size = more
    if waiting:
        yield start, waiting, None


def _require_finite(
    name: str, first: int, trajectories: Sequence[Trajectory], inputs: torch.Tensor | None
) -> None:
    for data in [t.data for t in trajectories] + ([] if inputs is None else [inputs.unsqueeze(1)]):
        if not math.isfinite(
            float(data.sum())
        ):  # the sum of finite values may still overflow, so look closer
            for sample in range(len(data)):
                frames = torch.isfinite(data[sample]).flatten(1).all(dim=1)
                if not bool(frames.all()):
                    frame = int((~frames).nonzero()[0])
                    raise UserError(
                        f"Sample {first + sample} of split {name!r} has a value in frame {frame} that is not finite, which "
                        "the layout does not take. Leave such samples out of the source, or repair them."
                    )
        first += len(data)


def _card(dataset: Dataset, manifest: Mapping[str, Any]) -> str:
    """The text of card.md."""
    described = schema.describe_domain(_domains(dataset.first)[0])
    lines = [
        f"# {dataset.name}",
        "",
        f"{manifest['title']}.",
        "",
        f"- Fields: {', '.join(f'{f.name} [{f.unit}]' for f in dataset.fields)}",
        f"- Domain: {_where(described)}",
    ]
    if isinstance(dataset.first, Pairs):
        lines.append(f"- Inputs: {', '.join(f'{f.name} [{f.unit}]' for f in dataset.first.input_fields)}")
    else:
        lines.append(f"- Time between stored frames: {dataset.dt:g}")
    for name, (low, high) in dataset.parameters.items():
        lines.append(f"- Parameter {name}: {low:g}" + (f" to {high:g}" if high > low else ""))
    lines += ["", "| split | samples | frames |", "|---|---|---|"]
    for name, split in dataset.splits.items():
        lines.append(f"| {name} | {len(split)} | {split.frames if isinstance(split, Split) else 1} |")
    if dataset.notes:
        lines += ["", "## What was assumed", "", *(f"- {note}" for note in dataset.notes)]
    lines += [
        "",
        "The values are those of the source, in float32; who made them, and how exactly, is not known here.",
    ]
    return "\n".join(lines) + "\n"


def _where(described: Mapping[str, Any]) -> str:
    if described["kind"] == "grid":
        points = " x ".join(str(n) for n in described["shape"])
        box = " x ".join(f"{length:g}" for length in described["lengths"])
        sides = "; ".join("/".join(pair) for pair in described["sides"])
        return f"{points} {described['centering']}s on a box of {box}, sides {sides}"
    if described["kind"] == "mesh":
        return f"meshes in {described['dimension']}D, the first of {described['nodes']} nodes"
    if described["kind"] == "cloud":
        return f"particles in the box {described['box']}, periodic {described['periodic']}"
    return "no space"
