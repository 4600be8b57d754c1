"""Read and write folders of LagrangeBench (Toshev et al. 2023): particle positions and a metadata.json.

Positions are the state, one vector field; they are wrapped into the box along its periodic axes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor

from sciml.datasets import schema
from sciml.datasets.blocks import Block, FileBlock, Variable
from sciml.datasets.dataset import Dataset, Hints
from sciml.datasets.interop import hdf5
from sciml.datasets.interop.graphs import mesh_splits
from sciml.datasets.splits import Pairs, Split
from sciml.datasets.stored import child
from sciml.datasets.writer import whole_file, write_json
from sciml.domains import Cloud, Domain
from sciml.errors import UserError
from sciml.trajectory import Field, channel_names

OURS = "sciml"
"""Key of metadata.json under which we keep what it has no place for; other readers pass over it."""

RADIUS = "default_connectivity_radius"
_COUNTED = ("dim", "dt", "write_every", "num_particles_max")
"""Numbers of metadata.json that follow from the data; the others, such as the spacing dx and the viscosity, are constants."""


# What several layouts of particles have in common ------------------------------------------------------------


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        UserError: it is not one.
    """
    try:
        content = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON: {error}. Restore it.") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds {type(content).__name__}; expected a JSON object.")
    return content


def step_of(place: Path, metadata: Mapping[str, Any], hints: Hints) -> tuple[float, list[str]]:
    """Time between stored frames, and what had to be assumed of it.

    Raises:
        UserError: neither the file nor a hint says it.
    """
    if hints.dt is not None:
        return hints.dt, []
    dt: Any = metadata.get("dt")
    every: Any = metadata.get("write_every", 1)
    if dt == 0:
        return 1.0, [f"{place.name} says dt 0, a series of loads without time; counted the frames instead"]
    if not _number(dt) or not _number(every) or not 0 < dt * every < math.inf:
        raise UserError(
            f"{place} does not say the time between frames (dt {dt!r}); pass hints=Hints(dt=...)."
        )
    return float(dt) * float(every), []


def _number(value: Any) -> bool:
    return type(value) in (int, float)


class Boxes:
    """The box of metadata.json, as a domain for each set of particle types.

    Raises:
        UserError: the box is missing or damaged.
    """

    def __init__(self, place: Path, metadata: Mapping[str, Any], hints: Hints) -> None:
        bounds = metadata.get("bounds")
        flags = metadata.get("periodic_boundary_conditions")
        self.notes: tuple[str, ...] = ()
        try:
            box = tuple((float(low), float(high)) for low, high in bounds or ())
            if flags is None:
                self.notes = (f"{place.name} does not say which axes are periodic; took none",)
                if hints.boundary is not None:
                    sides = (
                        [hints.boundary] * len(box) if isinstance(hints.boundary, str) else hints.boundary
                    )
                    flags, self.notes = ["periodic" in side for side in sides], ()
                else:
                    flags = [False] * len(box)
            self._cloud = Cloud(box, tuple(bool(p) for p in flags))
        except (TypeError, ValueError) as error:
            raise UserError(
                f"{place}: bounds {str(bounds)[:80]} and periodic_boundary_conditions {str(flags)[:80]} describe no box: "
                f"{error}."
            ) from error
        self._known: dict[bytes | None, Cloud] = {None: self._cloud}

    @property
    def dimension(self) -> int:
        """Number of space axes."""
        return self._cloud.dimension

    def of(self, types: np.ndarray | None) -> Cloud:
        """The box with particles of these types (N,)."""
        key = None if types is None else np.ascontiguousarray(types, dtype=np.int64).tobytes()
        if key not in self._known:
            types_tensor = torch.frombuffer(bytearray(key or b""), dtype=torch.int64)
            self._known[key] = Cloud(self._cloud.box, self._cloud.periodic, types_tensor)
        return self._known[key]


# Reading -----------------------------------------------------------------------------------------------------


def is_lagrangebench(folder: Path) -> bool:
    """Whether a folder has the metadata and files of this kind, by content."""
    metadata = folder / "metadata.json"
    if not metadata.is_file() or not list(folder.glob("*.h5")):
        return False
    try:
        return {"bounds", "periodic_boundary_conditions", "dt"} <= set(json.loads(metadata.read_text()))
    except (ValueError, TypeError, RecursionError):
        return False


def read_lagrangebench(folder: Path, hints: Hints) -> Dataset:
    """Open such a folder.

    Raises:
        UserError: a file is cut off or damaged, or has no positions.
    """
    place = folder / "metadata.json"
    metadata = read_object(place)
    boxes = Boxes(place, metadata, hints)
    dt, notes = step_of(place, metadata, hints)
    if "write_every" not in metadata and hints.dt is None:
        notes.append("metadata.json has no write_every; took every solver step as stored")
    found: Any = metadata.get(OURS)
    ours: dict[str, Any] = found if isinstance(found, dict) else {}
    try:
        fields = tuple(
            Field(str(f["name"]), str(f["unit"]), int(f["rank"])) for f in ours.get("fields", [])
        )
        clocks = {str(k): [float(t) for t in v] for k, v in dict(ours.get("times", {})).items()}
        constants = {str(k): float(v) for k, v in dict(ours.get("constants", _constants(metadata))).items()}
        parameters = [str(p) for p in ours.get("parameters", [])]
    except (TypeError, ValueError, KeyError) as error:
        raise UserError(f"{place}: what stands under {OURS!r} is damaged: {error!r}.") from error
    fields = fields or (Field("position", rank=1),)
    splits: dict[str, Split | Pairs] = {}
    for name in schema.SPLITS:
        path = folder / f"{name}.h5"
        if path.is_file():
            splits[name] = _split(name, path, fields, parameters, boxes, dt, clocks.get(name))
    if not splits:
        raise UserError(f"{folder} has none of train.h5, valid.h5 and test.h5.")
    title = str(ours.get("name", folder.name))
    return Dataset(folder, title, "lagrangebench", splits, constants, (*notes, *boxes.notes))


def _constants(metadata: Mapping[str, Any]) -> dict[str, float]:
    return {
        key: float(value)
        for key, value in metadata.items()
        if _number(value)
        and math.isfinite(value)
        and key not in _COUNTED
        and not key.startswith(("sequence_length", "num_trajs"))
    }


def _split(
    name: str,
    path: Path,
    fields: tuple[Field, ...],
    parameters: list[str],
    boxes: Boxes,
    dt: float,
    clock: list[float] | None,
) -> Split:
    blocks: list[Block] = []
    domains: list[Domain] = []
    times: list[Tensor] = []
    values: dict[str, list[float]] = {p: [] for p in parameters}
    with hdf5.opened(path) as file:
        for key in sorted(file):
            group = child(file, key)
            if not isinstance(group, h5py.Group) or child(group, "position") is None:
                found = sorted(group) if isinstance(group, h5py.Group) else "no group"
                raise UserError(f"{path}: group {key!r} has no 'position'; it has {found}.")
            frames, count, width = hdf5.array(group, "position", axes="txc").shape
            if width != boxes.dimension:
                raise UserError(
                    f"{path}: positions have {width} components in a box of {boxes.dimension} axes."
                )
            variables = []
            for f in fields:
                wanted = (frames, count, boxes.dimension**f.rank)
                if hdf5.array(group, f.name, axes="txc").shape != wanted:
                    raise UserError(f"{path}: {key}/{f.name} has another shape than {wanted}.")
                variables.append(Variable(f"{key}/{f.name}", "txc", wanted[2]))
            types = None
            if "particle_type" in group:
                stored = hdf5.array(group, "particle_type", axes="x")
                if stored.shape != (count,) or stored.dtype.kind not in "iu":
                    raise UserError(
                        f"{path}: group {key!r} has {stored.shape} types of {count} particles, as {stored.dtype}."
                    )
                types = np.asarray(stored[()])
            channels = len(channel_names(fields, boxes.dimension))
            blocks.append(FileBlock(path, variables, (1, frames, channels, count)))
            domains.append(boxes.of(types))
            exact = clock is not None and len(clock) == frames
            times.append(
                torch.tensor(clock, dtype=torch.float64)
                if exact
                else torch.arange(frames, dtype=torch.float64) * dt
            )
            numbers = hdf5.number_attributes(group) if parameters else {}
            for p in parameters:
                if p not in numbers:
                    raise UserError(f"{path}: group {key!r} has no number for the parameter {p!r}.")
                values[p].append(numbers[p])
    if not blocks:
        raise UserError(f"{path} holds no trajectory.")
    return mesh_splits(name, fields, blocks, domains, times, values)


# Writing -----------------------------------------------------------------------------------------------------


class _Moments:
    """Sums of velocities and accelerations of fluid particles, per axis."""

    def __init__(self, dimension: int) -> None:
        self.count = 0
        self.sums = np.zeros((2, dimension))

    def add(self, values: Tensor) -> None:
        """Take in (T, D, N)."""
        self.count += values.shape[0] * values.shape[2]
        self.sums += torch.stack([values.sum(dim=(0, 2)), values.square().sum(dim=(0, 2))]).numpy()

    def results(self) -> tuple[list[float], list[float]]:
        """Mean and deviation; a deviation below 1e-7 counts as 1, as the shipped script does it."""
        mean, square = self.sums / max(self.count, 1)
        std = np.sqrt(np.maximum(square - mean**2, 0.0))
        return mean.tolist(), np.where(std < 1e-7, 1.0, std).tolist()


def write_lagrangebench(dataset: Dataset, dst: Path, progress: Callable[[int], None]) -> tuple[str, ...]:
    """Write trajectories of particles as <split>.h5 and metadata.json.

    Statistics are those of the training split alone: differences of positions along the shortest way, of
    fluid particles. Fields other than the position, parameters, exact times and constants are kept beside what
    the layout knows, where its own reader passes over them.

    Returns:
        What was lost or had to be given.

    Raises:
        UserError: the data are no particles with positions, or their times are not even; nothing is written then.
    """
    splits, cloud, dt = _particles_only(dataset)
    names = [f.name for f in dataset.fields]
    place = sum(cloud.dimension**f.rank for f in dataset.fields[: names.index("position")])
    first = "train" if "train" in splits else next(iter(splits))
    notes = [f"statistics are those of the split {first!r} alone"]
    velocity, acceleration = _Moments(cloud.dimension), _Moments(cloud.dimension)
    most, done, lengths, clocks = 0, 0, {}, {}
    for name, split in splits.items():
        lengths[name] = (split.frames, len(split))
        clocks[name] = split.times.tolist()
        number = 0
        with whole_file(dst / f"{name}.h5") as part, h5py.File(part, "w") as file:
            for _, piece in split.pieces():
                most = max(most, piece.data.shape[-1])
                for sample in range(len(piece)):
                    group = file.create_group(f"{number:05d}")
                    number += 1
                    start = 0
                    for f in piece.fields:
                        width = cloud.dimension**f.rank
                        array = piece.data[sample, :, start : start + width].transpose(1, 2)
                        start += width
                        group.create_dataset(
                            f.name,
                            data=array.contiguous().numpy(),
                            compression="gzip",
                            compression_opts=1,
                            track_times=False,
                        )
                    types = _types_of(piece.domain, piece.data.shape[-1])
                    group.create_dataset("particle_type", data=types.numpy(), track_times=False)
                    for parameter, values in piece.parameters.items():
                        group.attrs[parameter] = float(values.reshape(len(piece))[sample])
                    if name == first:
                        x = piece.data[sample, :, place : place + cloud.dimension, types == 0].double()
                        moved = cloud.displacement(x[1:], x[:-1])
                        velocity.add(moved)
                        acceleration.add(moved[1:] - moved[:-1])
                    done += 1
                    progress(done)
    known = {key: value for key, value in dataset.constants.items() if math.isfinite(value)}
    if "dx" not in known:
        known["dx"] = (cloud.volume / most) ** (1 / cloud.dimension)
        notes.append(
            f"the spacing of the particles is not recorded; gave dx {known['dx']:.4g}, the side of the room that each has in "
            "the box"
        )
    if RADIUS not in known:
        known[RADIUS] = float(f"{1.45 * known['dx']:.2g}")
        notes.append(f"gave a radius of connections of {known[RADIUS]:g}, 1.45 times dx")
    if any(split.frames and len(split.block_times) > 1 for split in splits.values()):
        notes.append("trajectories differ in length; sequence lengths in metadata.json are the longest")
    (vel_mean, vel_std), (acc_mean, acc_std) = velocity.results(), acceleration.results()
    longest, count = lengths[first]
    test = lengths.get("test", lengths[list(lengths)[-1]])
    metadata = known | {
        "case": dataset.name,
        "dim": cloud.dimension,
        "dt": dt,
        "write_every": 1,
        "sequence_length_train": longest,
        "num_trajs_train": count,
        "sequence_length_test": test[0],
        "num_trajs_test": test[1],
        "num_particles_max": most,
        "periodic_boundary_conditions": list(cloud.flags),
        "bounds": [list(side) for side in cloud.box],
        "vel_mean": vel_mean,
        "vel_std": vel_std,
        "acc_mean": acc_mean,
        "acc_std": acc_std,
        OURS: {
            "name": dataset.name,
            "fields": json.loads(schema.fields_json(dataset.fields)),
            "times": clocks,
            "constants": dict(dataset.constants),
            "parameters": list(dataset.first.parameters),
        },
    }
    write_json(dst / "metadata.json", metadata)
    return tuple(notes)


def _types_of(domain: Domain, count: int) -> Tensor:
    assert isinstance(domain, Cloud)  # looked at before anything was written
    return torch.zeros(count, dtype=torch.int64) if domain.particle_type is None else domain.particle_type


def _particles_only(dataset: Dataset) -> tuple[dict[str, Split], Cloud, float]:
    """The splits, their box and the time between frames, once it is clear that all can be written."""
    splits: dict[str, Split] = {}
    found: list[Cloud] = []
    for name, split in dataset.splits.items():
        if not isinstance(split, Split) or not all(isinstance(d, Cloud) for d in split.domains):
            kind = "static pairs" if isinstance(split, Pairs) else f"a {type(split.domains[0]).__name__}"
            raise UserError(
                f"{dataset.path} lies on {kind}; LagrangeBench's layout holds trajectories of particles. Choose native."
            )
        if name not in schema.SPLITS:
            raise UserError(
                f"{dataset.path} has a split {name!r}; LagrangeBench knows train, valid and test. Rename it."
            )
        if not any(f.name == "position" and f.rank == 1 for f in split.fields):
            raise UserError(
                f"{dataset.path} has no vector field 'position'; it has {', '.join(split.channels)}."
            )
        if any(f.name == "particle_type" for f in split.fields):
            raise UserError(
                f"{dataset.path} has a field 'particle_type', which means something else here. Rename it."
            )
        splits[name] = split
        found += [d for d in split.domains if isinstance(d, Cloud)]
    if len({(cloud.box, cloud.flags) for cloud in found}) != 1:
        raise UserError(
            f"{dataset.path} has boxes of different sizes; LagrangeBench's metadata.json names one."
        )
    steps = [(t[1:] - t[:-1]) for s in splits.values() for t in s.block_times if len(t) > 1]
    dt = float(steps[0][0]) if steps else 1.0
    if any(float((step - dt).abs().max()) > 1e-6 * abs(dt) for step in steps) or not dt > 0:
        raise UserError(
            f"{dataset.path} has frames at uneven times; LagrangeBench's layout has one dt. Choose native."
        )
    return splits, found[0], dt
