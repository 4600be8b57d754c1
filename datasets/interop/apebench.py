"""Read and write scenarios of APEBench (Koehler et al. 2024): `<name>.json` and `<name>_{train,test}.npy`.

Arrays are (samples, times, channels, x[, y[, z]]) in float32; the first frame is the initial state. Grids are
periodic, with the left end and without the right. Only the JSON speaks of the physics.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from sciml.datasets import schema
from sciml.datasets.blocks import MappedBlock, Raw, Variable
from sciml.datasets.dataset import Dataset, Hints
from sciml.datasets.interop.asking import frames_of, make_grid, scalars, width_of
from sciml.datasets.interop.imprint import NAME, lost_parameters, one_grid, read_imprint
from sciml.datasets.interop.numpy_files import npy_header, npy_writer
from sciml.datasets.splits import Pairs, Split
from sciml.datasets.writer import write_json
from sciml.errors import UserError

_LARGEST_JSON = 1 << 24
_SIZE = re.compile(r"num_(spatial_dims|points|channels|\w+_samples)|\w+_temporal_horizon|domain_extent|dt")


def scenarios(folder: Path) -> dict[str, Path]:
    """Name -> JSON file of the scenarios in a folder, those that have arrays beside them."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        if _arrays(path) and _info(path) is not None:
            found[path.stem] = path
    return found


def is_apebench(path: Path) -> bool:
    """Whether a JSON file is that of a scenario, by content and by the arrays beside it."""
    return bool(_arrays(path)) and _info(path) is not None


def _arrays(path: Path) -> dict[str, Path]:
    """Split -> array beside a JSON file."""
    there = {name: path.with_name(f"{path.stem}_{name}.npy") for name in schema.SPLITS}
    return {name: array for name, array in there.items() if array.is_file()}


def read_object(path: Path) -> dict[str, Any] | None:
    """A JSON object, or None where a file is none or very large."""
    if not path.is_file() or path.stat().st_size > _LARGEST_JSON:
        return None
    try:
        content = json.loads(path.read_text())
    except (ValueError, RecursionError, OSError):
        return None
    return content if isinstance(content, dict) else None


def _info(path: Path) -> dict[str, Any] | None:
    """What the JSON says, or None where it is not of this kind."""
    content = read_object(path)
    return (
        content
        if content is not None and "name" in content and isinstance(content.get("info"), dict)
        else None
    )


def _numbers(info: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a scenario, those in short lists numbered."""
    found: dict[str, float] = {}
    for key, value in info.items():
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            found[key] = float(value)
        elif isinstance(value, list) and len(value) <= 16:
            for i, v in enumerate(value):
                if isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v):
                    found[f"{key}_{i}"] = float(v)
    return found


def read_apebench(path: Path, hints: Hints) -> Dataset:
    """Open a scenario from its JSON file.

    Raises:
        UserError: an array is cut off, has other axes or is not of numbers, or the splits differ.
    """
    content = _info(path)
    if content is None:
        raise UserError(f"{path} is no scenario; expected a JSON object with 'name' and 'info'.")
    info = content["info"]
    described = content.get(NAME)
    imprints = {
        name: read_imprint(value, path)
        for name, value in (described.items() if isinstance(described, dict) else ())
    }
    numbers, notes = _numbers(info), []
    splits: dict[str, Split | Pairs] = {}
    for name, file in _arrays(path).items():
        array, imprint = npy_header(file), imprints.get(name)
        if not 4 <= len(array.shape) <= 6:
            raise UserError(
                f"{file} has shape {array.shape}; expected (samples, times, channels, x[, y[, z]])."
            )
        samples, frames, channels, *points = array.shape
        dimension = len(points)
        for key, found in (("num_points", set(points)), ("num_spatial_dims", {dimension})):
            if imprint is None and key in numbers and found != {int(numbers[key])}:
                raise UserError(
                    f"{file} has shape {array.shape}, and {path.name} says {key} {info[key]}; expected (samples, times, "
                    "channels, x[, y[, z]])."
                )
        if imprint is not None:
            grid = imprint.on(points, hints, file)
        else:
            lengths, said = _box(numbers, dimension, hints)
            notes += said
            grid = make_grid(file, points, lengths, hints.boundary or "periodic", hints.centering or "node")
        if imprint is not None:
            times = imprint.at(frames, hints, file)
        else:
            dt = hints.dt or numbers.get("dt", 1.0)
            if hints.dt is None and "dt" not in numbers:
                notes.append("no time step is given, as coefficients are those of one step; took dt = 1")
            if not dt > 0:
                raise UserError(f"{path} says dt {dt}; expected a positive time step.")
            times = frames_of(frames, dt)
        fields = hints.fields or (imprint.fields if imprint is not None else None)
        if fields is None:
            fields = scalars(["u"] if channels == 1 else [f"u{i}" for i in range(channels)])
            if channels > 1:
                notes.append("the scenario does not name its channels; numbered them")
        if width_of(fields, dimension) != channels:
            raise UserError(
                f"{file} has {channels} channels, and the fields {', '.join(f.name for f in fields)} fill "
                f"{width_of(fields, dimension)} of {dimension}D. Name each channel in hints.fields."
            )
        axes = "ntc" + schema.points_letters(dimension)
        stored = array.shape[::-1] if array.fortran else array.shape
        variable = Variable(file.name, axes[::-1] if array.fortran else axes, channels)
        block = MappedBlock(
            file,
            [Raw(array.offset, array.dtype.str, stored, variable)],
            (samples, frames, channels, *points),
        )
        parameters = _parameters(content, name, samples, path)
        splits[name] = Split(name, fields, (block,), (grid,), (times,), parameters)
    if not splits:
        raise UserError(f"{path} has no arrays {path.stem}_train.npy or {path.stem}_test.npy beside it.")
    widths = {name: s.channels for name, s in splits.items()}
    if len(set(widths.values())) > 1:
        raise UserError(f"The splits of {path} differ in their channels: {widths}.")
    words = {k: v for k, v in info.items() if isinstance(v, str)}
    if words:
        notes.append("the scenario says " + ", ".join(f"{k} {v[:80]!r}" for k, v in words.items()))
    if imprints:  # sizes are those of the arrays, not constants of the physics
        numbers = {k: v for k, v in numbers.items() if not _SIZE.fullmatch(k)}
    return Dataset(path, str(content["name"]), "apebench", splits, numbers, tuple(dict.fromkeys(notes)))


def _box(numbers: Mapping[str, float], dimension: int, hints: Hints) -> tuple[tuple[float, ...], list[str]]:
    if hints.lengths is not None:
        return hints.lengths, []
    extent = numbers.get("domain_extent")
    if extent is not None and extent > 0:
        return (extent,) * dimension, []
    note = "normalised coefficients and difficulties do not depend on the size of the box; took sides of 1"
    return (1.0,) * dimension, [note]


def _parameters(
    content: Mapping[str, Any], split: str, samples: int, path: Path
) -> dict[str, torch.Tensor]:
    """Numbers that differ between samples, where our own writer has put them."""
    stored = content.get("parameters")
    found = stored.get(split, {}) if isinstance(stored, dict) else {}
    try:
        out = {str(k): torch.tensor(v, dtype=torch.float64) for k, v in dict(found).items()}
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}: 'parameters' are damaged: {error}.") from error
    if any(v.shape[:1] != (samples,) for v in out.values()):
        raise UserError(f"{path}: 'parameters' do not have a value for each of {samples} samples.")
    return out


def write_apebench(dataset: Dataset, dst: Path, progress: Callable[[int], None]) -> tuple[str, ...]:
    """Write `<name>.json` and `<name>_<split>.npy` into the folder `dst`.

    Args:
        dataset: trajectories on one periodic grid.
        dst: a folder.
        progress: told the number of samples done.

    Returns what was lost or had to be given, a sentence each.

    Raises:
        UserError: the dataset is static, or its grid is not periodic; nothing has been written then.
    """
    imprints = one_grid(dataset, "APEBench's layout")
    grids = {imprint.grid for imprint in imprints.values()}
    grid = next(iter(grids))
    splits = {name: s for name, s in dataset.splits.items() if isinstance(s, Split)}
    if len(splits) < len(dataset.splits):
        raise UserError("APEBench's layout holds trajectories; this dataset holds static pairs.")
    if len(grids) > 1 or not all(grid.periodic) or grid.centering != "node":
        raise UserError(
            f"APEBench's layout holds fields on the nodes of one periodic grid; this dataset lies on {grid}. Convert to "
            "'the_well' or 'zarr'."
        )
    first = splits.get("train", next(iter(splits.values())))
    dts = {name: float(s.times[1] - s.times[0]) if len(s.times) > 1 else 1.0 for name, s in splits.items()}
    if len(set(dts.values())) > 1:
        raise UserError(f"APEBench's layout has one time step for all splits; these differ: {dts}.")
    info: dict[str, Any] = {
        **{k: v for k, v in dataset.constants.items() if math.isfinite(v)},
        "num_spatial_dims": grid.dimension,
        "num_points": grid.shape[0],
        "num_channels": len(first.channels),
        "domain_extent": grid.lengths[0],
        "dt": dts[first.name],
    }
    for name, split in splits.items():
        info[f"num_{name}_samples"] = len(split)
        info[f"{name}_temporal_horizon"] = split.frames - 1
    notes = []
    if len(set(grid.shape)) > 1 or len(set(grid.lengths)) > 1:
        notes.append(
            "the grid is not a cube, and APEBench's own scenarios have one number of points for all axes"
        )
    more = [name for name in splits if name not in ("train", "test")]
    if more:
        notes.append(
            f"APEBench has the splits train and test; {', '.join(more)} lie beside them in the same form"
        )
    if any(name not in schema.SPLITS for name in splits):
        raise UserError(f"APEBench's files are named by {schema.SPLITS}; this dataset has {list(splits)}.")
    if lost_parameters(dataset):
        notes.append(
            f"APEBench does not know parameters of samples; {', '.join(lost_parameters(dataset))} lie in the JSON"
        )
    notes.append("names, units and sides lie under a key of the JSON that APEBench does not read")
    done = 0
    for name, split in splits.items():
        shape = (len(split), split.frames, len(split.channels), *grid.shape)
        with npy_writer(dst / f"{dataset.name}_{name}.npy", shape) as write:
            for start, piece in split.pieces():
                write(piece.data.numpy())
                progress(done + start + len(piece))
        done += len(split)
    parameters = {
        name: {k: v.tolist() for k, v in split.parameters.items()}
        for name, split in splits.items()
        if split.parameters
    }
    write_json(
        dst / f"{dataset.name}.json",
        {
            "name": dataset.name,
            "info": info,
            NAME: {name: json.loads(imprint.text()) for name, imprint in imprints.items()},
            "parameters": parameters,
        },
    )
    return tuple(notes)
