"""Read meshes and particles: one HDF5 group per trajectory.

The native flavour stores static arrays once, (1, nodes, ...), and links them; the conversions of the
MeshGraphNets sets (Pfaff et al. 2021) in circulation since 2022 repeat them for every frame and call the
node positions `pos`. Both are read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor

from sciml.datasets import schema
from sciml.datasets.blocks import FileBlock, Variable
from sciml.datasets.dataset import Dataset, Hints
from sciml.datasets.splits import Pairs, Split
from sciml.domains import Cloud, Domain, Mesh
from sciml.errors import UserError
from sciml.trajectory import Field, channel_names

STATIC = ("mesh_pos", "pos", "cells", "node_type", "particle_type")
VECTORS = ("velocity", "world_pos", "position", "displacement")


def is_graphs(file: h5py.File) -> bool:
    """Whether a file holds a group per trajectory on a mesh, or our own clouds, by content."""
    groups = [file[k] for k in file if k.isdigit() and isinstance(file[k], h5py.Group)]
    if not groups:
        return False
    return "cells" in groups[0] or ("provenance" in file and "features" in file.attrs)


def _mesh(group: h5py.Group, dimension_hint: str) -> Mesh:
    points = np.asarray(group[dimension_hint][0], dtype=np.float64)
    cells = np.asarray(group["cells"][0], dtype=np.int64)
    types = np.asarray(group["node_type"][0], dtype=np.int64).reshape(-1) if "node_type" in group else None
    return Mesh(
        torch.from_numpy(points),
        torch.from_numpy(cells),
        None if types is None else torch.from_numpy(types),
    )


def _fields(group: h5py.Group, dimension: int) -> tuple[Field, ...]:
    """Fields of a foreign file: whatever is not static; width D and a vector's name make a vector."""
    found = []
    for name, dataset in group.items():
        if name in STATIC or not isinstance(dataset, h5py.Dataset) or dataset.ndim != 3:
            continue
        width = dataset.shape[2]
        if width == dimension and (dimension > 1 or name in VECTORS):
            found.append(Field(name, rank=1))
        elif width == 1:
            found.append(Field(name))
        else:
            raise UserError(f"{group.file.filename}: {name!r} has {width} components in {dimension} axes.")
    return tuple(found)


def read_graphs(path: Path, split_files: Mapping[str, Sequence[Path]], hints: Hints) -> Dataset:
    """Open files of trajectories on meshes or in boxes of particles.

    Raises:
        UserError: a file is cut off or lacks the time step, and no hint gives it.
    """
    splits: dict[str, Split | Pairs] = {}
    constants: dict[str, float] = {}
    notes: list[str] = []
    name = path.stem
    meshes: dict[str, Mesh] = {}
    for split, files in split_files.items():
        blocks: list[FileBlock] = []
        domains: list[Domain] = []
        times: list[Tensor] = []
        parameters: dict[str, list[float]] = {}
        fields: tuple[Field, ...] = ()
        for file_path in files:
            with schema.open_hdf5(file_path) as file:
                own = file.get("provenance")
                if "dataset_name" in file.attrs:
                    name = schema.text(file.attrs["dataset_name"])
                cloud = None
                if own is not None and "domain" in own.attrs:
                    box = json.loads(own.attrs["domain"])
                    cloud = Cloud(tuple((a, b) for a, b in box["box"]), tuple(box["periodic"]))
                if own is not None:
                    for constant in schema.texts(own.attrs["constants"]):
                        constants[constant] = float(file.attrs[constant])
                for key in sorted((k for k in file if k.isdigit()), key=int):
                    group = file[key]
                    if cloud is not None:
                        domain: Domain = cloud
                    else:
                        position = "mesh_pos" if "mesh_pos" in group else "pos"
                        if position not in group:
                            raise UserError(f"{file_path}: group {key!r} has neither mesh_pos nor pos.")
                        mesh = _mesh(group, position)
                        domain = meshes.setdefault(schema.mesh_digest(mesh), mesh)
                    if not fields:
                        fields = (
                            schema.fields_from_json(schema.text(own.attrs["fields"]))
                            if own is not None
                            else hints.fields or _fields(group, domain.dimension)
                        )
                    missing = [f.name for f in fields if f.name not in group]
                    if missing:
                        raise UserError(f"{file_path}: group {key!r} has no {', '.join(missing)}.")
                    variables = [
                        Variable(f"{key}/{f.name}", "txc", domain.dimension**f.rank) for f in fields
                    ]
                    frames, nodes = group[fields[0].name].shape[:2]
                    channels = len(channel_names(fields, domain.dimension))
                    blocks.append(FileBlock(file_path, variables, (1, frames, channels, nodes)))
                    domains.append(domain)
                    if own is not None:
                        times.append(schema.times_tensor(own["time"][()]))
                        for parameter in schema.texts(own.attrs["parameters"]):
                            parameters.setdefault(parameter, []).append(float(group.attrs[parameter]))
                    else:
                        dt = hints.dt if hints.dt is not None else float(file.attrs.get("dt", 0.0))
                        if not dt > 0:
                            raise UserError(
                                f"{file_path} does not say the time between frames; pass hints=Hints(dt=...)."
                            )
                        times.append(torch.arange(frames, dtype=torch.float64) * dt)
        if not blocks:
            raise UserError(f"Split {split!r} of {path} holds no trajectory.")
        if all(d is domains[0] for d in domains):
            domains = domains[:1]
        if all(len(t) == len(times[0]) and bool((t == times[0]).all()) for t in times):
            times = times[:1]
        splits[split] = Split(
            split,
            fields,
            tuple(blocks),
            tuple(domains),
            tuple(times),
            {p: torch.tensor(v, dtype=torch.float64) for p, v in parameters.items()},
        )
    return Dataset(path, name, "graphs", splits, constants, tuple(notes))
