"""Make a dataset from a recipe: shards in any order, by any number of workers, the same bytes.

A shard is one batch of the solver. It is kept if the manifest lists it and the file is as it was then, and
made again otherwise, so that a run that was killed goes on where it was.
"""

from __future__ import annotations

import contextlib
import functools
import os
import pickle
import platform
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor

from sciml.calculus import Spectral
from sciml.datasets import manifest as manifests
from sciml.datasets import schema
from sciml.datasets.recipe import (
    DTYPES,
    Recipe,
    channels_of,
    fields_of,
    load_recipe,
    specification_sha256,
    with_source,
)
from sciml.datasets.rejection import Watch, channel_bounds, check_bounds
from sciml.datasets.workers import Failure, run_here, run_in_processes, run_on_cluster
from sciml.datasets.writer import Codec, require_space, shard_bytes, write_json, write_shard
from sciml.domains import Cloud, Domain, Grid
from sciml.domains.grid import AXIS_NAMES
from sciml.errors import UserError
from sciml.pdes.admissible import HasLimits
from sciml.pdes.base import PDE, Elliptic, is_periodic
from sciml.resample import resample
from sciml.solvers.blow_up import blow_ups
from sciml.solvers.lanes import available
from sciml.step import LowFaces, iterate, low_faces_of
from sciml.trajectory import Field, Trajectory, channel_names

ATTEMPTS = 20
"""Draws of one sample before the recipe is taken to be unstable."""

HOPELESS = 8
"""Shards that may fail, none of all having succeeded, before the rest is not tried."""

Progress = Callable[[int, int], None]
"""Told (samples done, samples in all) after each shard."""


@dataclass(frozen=True)
class Estimate:
    """What a generation is going to take.

    Args:
        samples: still to be made.
        shards: still to be made.
        bytes: that they take on the disk, uncompressed.
        free: bytes free there.
        seconds: of wall time with this many workers, None before anything was timed.
        workers: processes; 1 on a cluster, whose size can change.
    """

    samples: int
    shards: int
    bytes: int
    free: int
    seconds: float | None
    workers: int


@dataclass(frozen=True, eq=False)
class Solved:
    """What a recipe gives for a batch, before storage.

    `states` (B, T, C, *points) on the stored domain, `inputs` (B, A, *points) of an elliptic
    equation, `rounding` the largest |u - float32(u)| per channel (C,), `low_faces` what a staggered step says of its
    channels, `faults` the first frame of each sample that must not be stored and why, or None.
    """

    states: Tensor
    inputs: Tensor | None
    rounding: Tensor
    method: str
    substeps: int | None
    low_faces: LowFaces | None
    faults: tuple[tuple[int, str] | None, ...] = ()


def to_stored(u: Tensor, source: Domain, target: Domain, low_faces: LowFaces | None = None) -> Tensor:
    """States on the solver's domain as they are stored."""
    if isinstance(source, Grid) and isinstance(target, Grid) and source.shape != target.shape:
        return resample(u, source, target, low_faces)
    return u


def solve(
    recipe: Recipe,
    parameters: Mapping[str, Tensor],
    initial: Tensor,
    domain: Domain,
    steps: int,
    substeps: int | None,
    stored: Domain,
    dtype: torch.dtype = torch.float32,
) -> Solved:
    """Run the recipe's solver on one batch.

    Args:
        recipe: says equation, solver and precision.
        parameters: name -> (B,).
        initial: states after the warm-up, or elliptic inputs, (B, C or A, *points) on `domain`.
        domain: where the solver works.
        steps: stored steps.
        substeps: solver steps per stored step, or None.
        stored: the domain of the result.
        dtype: of the result.
    """
    equation = recipe.equation(parameters, domain)
    step = recipe.solver(equation, domain, recipe.dt, substeps)
    fields, input_fields = fields_of(equation)
    u = initial.to(DTYPES[recipe.dtype])
    inputs, low_faces = None, low_faces_of(step)
    faults: list[tuple[int, str] | None] = [None] * len(u)
    with torch.no_grad():
        if isinstance(equation, Elliptic):
            inputs = to_stored(u, domain, stored).to(dtype)
            names = channel_names(input_fields, stored.dimension)
            before = Watch(len(u), names, channel_bounds(recipe.bounds, input_fields, stored.dimension))
            before.see(0, inputs.to(torch.float32))
            faults = before.faults
            frames: Iterator[Tensor] = iter([step(u)])
            steps = 0
        else:
            frames = iterate(step, u, steps)
        out: Tensor | None = None
        names = channel_names(fields, stored.dimension)
        watch = Watch(len(u), names, channel_bounds(recipe.bounds, fields, stored.dimension))
        rounding = torch.zeros(len(names), dtype=torch.float64)
        for t, state in enumerate(frames):
            frame = to_stored(state, domain, stored, low_faces)
            if out is None:
                out = torch.empty(len(frame), steps + 1, *frame.shape[1:], dtype=dtype)
            short = frame.to(torch.float32)
            out[:, t] = short if dtype == torch.float32 else frame
            gap = (frame - short).abs_().amax(dim=0).reshape(frame.shape[1], -1).amax(dim=1).double()
            rounding = torch.maximum(rounding, torch.nan_to_num(gap, posinf=0.0))
            watch.see(t, short, state, equation)
    assert out is not None  # there is always the initial frame
    taken = getattr(step, "substeps", substeps)
    return Solved(
        out,
        inputs,
        rounding,
        str(getattr(step, "method", type(step).__name__)),
        taken if isinstance(taken, int) else None,
        low_faces,
        tuple(a or b for a, b in zip(faults, watch.faults, strict=True)),
    )


def draw_batch(
    recipe: Recipe, split: str, keys: list[tuple[int, int]], domain: Domain
) -> tuple[dict[str, Tensor], Tensor]:
    """Parameters (B,) and states after the warm-up of the samples `keys` = (index, attempt).

    What is drawn is projected onto the states that the equation admits, so that the first stored state is
    the one that the solver starts from.
    """
    parameters, u = _cold(recipe, split, keys, domain)
    return parameters, _warmed(recipe, parameters, u, domain)


def _cold(
    recipe: Recipe, split: str, keys: list[tuple[int, int]], domain: Domain
) -> tuple[dict[str, Tensor], Tensor]:
    """Parameters (B,) and states as drawn and projected."""
    equation = _sample_equation(recipe, domain)
    fields, inputs = fields_of(equation)
    channels = channels_of(inputs or fields, domain)
    drawn = [recipe.draw(split, index, domain, channels, attempt) for index, attempt in keys]
    parameters = {
        name: torch.tensor([p[name] for p, _ in drawn], dtype=torch.float64) for name in recipe.varying
    }
    u = torch.stack([u for _, u in drawn])
    equation = recipe.equation(parameters, domain)
    step = None
    if not inputs and isinstance(domain, Grid) and domain.centering == "cell":
        step = recipe.solver(equation, domain, recipe.dt, recipe.substeps)
    projected = getattr(getattr(step, "step", step), "project", None)
    if low_faces_of(step) is not None and projected is not None:
        u = projected(u)
    elif isinstance(equation, PDE) and is_periodic(domain):
        assert isinstance(domain, Grid)  # nothing else is periodic along every axis
        u = equation.project(u, Spectral(domain))
    return parameters, u.to(DTYPES[recipe.dtype])


def _warmed(recipe: Recipe, parameters: Mapping[str, Tensor], u: Tensor, domain: Domain) -> Tensor:
    """States after the steps that are run and thrown away."""
    equation = recipe.equation(parameters, domain)
    if recipe.warmup and not isinstance(equation, Elliptic):
        step = recipe.solver(equation, domain, recipe.dt, recipe.substeps)
        with torch.no_grad():
            for _ in range(recipe.warmup):
                u = step(u)
    return u


def _warmup(recipe: Recipe, split: str, key: tuple[int, int], domain: Domain) -> Tensor:
    """The frames (1, T, C, *points) of one sample that are run and thrown away, on the solver's domain."""
    cold = replace(recipe, warmup=0)
    parameters, u = draw_batch(cold, split, [key], domain)
    return solve(cold, parameters, u, domain, recipe.warmup, recipe.substeps, domain).states


def _sample_equation(recipe: Recipe, domain: Domain) -> Any:
    """The equation with some value of each parameter, for what does not depend on it."""
    generator = torch.Generator().manual_seed(0)
    values = {name: recipe.parameters[name](generator) for name in recipe.varying}
    return recipe.equation(values, domain)


def layout(recipe: Recipe) -> tuple[Domain, tuple[Field, ...], tuple[Field, ...]]:
    """Stored domain, state or target fields, input fields."""
    domain = recipe.domain_at(1)
    if isinstance(domain, Cloud):
        raise UserError(
            f"Recipe {recipe.name!r} lives on a Cloud; generation knows grids, meshes and points without space."
        )
    return domain, *fields_of(_sample_equation(recipe, domain))


_single = threading.Lock()
_computing: list[int] = []  # torch's number of threads before the first shard under way in this process


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Sums depend on how they are split over threads, so every shard is computed by one.

    A Dask worker can be at several shards at once; the last one puts the number back.
    """
    with _single:
        _computing.append(_computing[0] if _computing else torch.get_num_threads())
        torch.set_num_threads(1)
    torch.set_num_threads(1)  # some thread pools keep the number per thread
    try:
        yield
    finally:
        with _single:
            before = _computing.pop()
            if not _computing:
                torch.set_num_threads(before)


@functools.lru_cache(maxsize=4)
def _loaded(recipe: str, changed: int) -> Recipe:
    """A recipe by its file, loaded once per process and version of the file."""
    return load_recipe(recipe)


def make_shard(
    recipe: Recipe | str,
    out: Path,
    split: str,
    number: int,
    samples: int,
    codec: Codec = "none",
    sha256: str | None = None,
) -> dict[str, Any]:
    """Compute and write one shard; what the manifest keeps of it.

    Args:
        recipe: the recipe, or the path of its file.
        out: the dataset's folder.
        split, number: which shard.
        samples: how many of its batch are asked for.
        codec: see `write_shard`.
        sha256: of the specification that the recipe must have.

    Raises:
        UserError: a sample is rejected in every draw, the disk is full, or the recipe's file was changed.
    """
    if isinstance(recipe, str):
        recipe = _loaded(recipe, os.stat(recipe).st_mtime_ns if os.path.exists(recipe) else 0)
        if sha256 is not None and specification_sha256(recipe.specification()) != sha256:
            raise UserError(
                f"The recipe file {recipe.source} was changed while its shards were being made. Put it back and run "
                "the same command again, or choose another folder."
            )
    with _one_thread():
        return _make_shard(recipe, out, split, number, samples, codec)


@dataclass
class _Batch:
    """The samples of a shard while they are drawn and drawn again; those left out are taken away."""

    keys: list[tuple[int, int]]  # (index, attempt)
    parameters: dict[str, Tensor]
    rejected: list[dict[str, Any]]

    def reject(self, places: Sequence[int], faults: Mapping[int, tuple[int, str]], recipe: Recipe) -> None:
        """Record samples of the batch and, where they are drawn again, count their attempts."""
        for i in places:
            index, attempt = self.keys[i]
            frame, reason = faults[i]
            values = {name: float(v[i]) for name, v in self.parameters.items()}
            self.rejected.append(
                {
                    "index": index,
                    "attempt": attempt,
                    "frame": frame,
                    "reason": reason,
                    "parameters": values,
                }
            )
            if recipe.rejection == "redraw":
                self.keys[i] = (index, attempt + 1)

    def without(self, places: Sequence[int]) -> list[int]:
        """Take samples away; the places of those that stay."""
        keep = [i for i in range(len(self.keys)) if i not in set(places)]
        self.keys = [self.keys[i] for i in keep]
        self.parameters = {name: v[keep] for name, v in self.parameters.items()}
        return keep


def _sound_start(recipe: Recipe, split: str, batch: _Batch, u: Tensor, domain: Domain) -> Tensor:
    """Drawn states that the equation admits: solvers refuse a whole batch for one that it does not."""
    equation = recipe.equation(batch.parameters, domain)
    if not isinstance(equation, HasLimits):
        return u
    while len(u):
        watch = Watch(len(u), [""] * u.shape[1], {})
        watch.see(0, u.to(torch.float32), u, equation)
        faults = {i: fault for i, fault in enumerate(watch.faults) if fault is not None}
        if not faults:
            return u
        bad = list(faults)
        batch.reject(bad, faults, recipe)
        if recipe.rejection == "leave_out":
            u = u[batch.without(bad)]
        else:
            _refuse_hopeless(recipe, split, batch, bad, faults)
            again, fresh = _cold(recipe, split, [batch.keys[i] for i in bad], domain)
            u[bad] = fresh
            for name, values in again.items():
                batch.parameters[name][bad] = values
        equation = recipe.equation(batch.parameters, domain)
    return u


def _refuse_hopeless(
    recipe: Recipe,
    split: str,
    batch: _Batch,
    bad: Sequence[int],
    faults: Mapping[int, tuple[int, str]],
    why: Callable[[int], tuple[str, str]] | None = None,
) -> None:
    """Stop when a sample was rejected in its last attempt."""
    over = [i for i in bad if batch.keys[i][1] >= ATTEMPTS]
    if not over:
        return
    index, (frame, reason) = batch.keys[over[0]][0], faults[over[0]]
    blew_up = reason.endswith("is not finite")
    during, explained = (f"last at frame {frame}", "") if why is None else why(over[0])
    cause = (
        "The solver is unstable there: take more substeps, a finer grid or gentler parameters."
        if blew_up
        else f"The last time, {reason}. Take wider bounds, gentler parameters or initial states, or a finer solution."
    )
    raise UserError(
        f"Recipe {recipe.name!r}: sample {index} of {split!r} {'blew up' if blew_up else 'left its bounds'} in "
        f"{ATTEMPTS} draws, {during}. {cause}{explained if blew_up else ''}"
    )


def _make_shard(
    recipe: Recipe, out: Path, split: str, number: int, samples: int, codec: Codec
) -> dict[str, Any]:
    started = time.perf_counter()
    stored, fields, input_fields = layout(recipe)
    factor = recipe.resolution_factor
    domain = recipe.domain_at(factor) if factor > 1 else stored
    steps = 0 if input_fields else recipe.steps_of(split)
    first = number * recipe.shard_size
    keys = [(first + i, 0) for i in range(recipe.shard_size)]
    names = channel_names(fields, stored.dimension)

    parameters, initial = _cold(recipe, split, keys, domain)
    batch = _Batch(keys, parameters, [])
    if not input_fields:
        initial = _sound_start(recipe, split, batch, initial, domain)
    initial = _warmed(recipe, batch.parameters, initial, domain)
    solved = solve(recipe, batch.parameters, initial, domain, steps, recipe.substeps, stored)
    states, inputs, rounding = solved.states, solved.inputs, solved.rounding
    faults = {i: fault for i, fault in enumerate(solved.faults) if fault is not None}

    def why(place: int) -> tuple[str, str]:
        """When the last attempt of a sample ended, and what most likely did it."""
        frame = faults[place][0]
        if input_fields:
            return f"last at frame {frame}", ""
        path, where, during = states[place : place + 1], stored, f"last at frame {frame}"
        index, attempt = batch.keys[place]
        if frame == 0 and recipe.warmup:
            path, where = _warmup(recipe, split, (index, attempt - 1), domain), domain
            during = "last during the warm-up"
        equation = _sample_equation(recipe, domain)
        assert not isinstance(equation, Elliptic)  # it would have inputs
        found = blow_ups(path, where, recipe.dt, names, pde=equation, substeps=solved.substeps or 1)
        return during, f" The last one: {replace(found[0], sample=index)}" if found else ""

    while faults:
        bad = sorted(faults)
        batch.reject(bad, faults, recipe)
        if recipe.rejection == "leave_out":
            keep = batch.without(bad)
            states, inputs = states[keep], None if inputs is None else inputs[keep]
            break
        _refuse_hopeless(recipe, split, batch, bad, faults, why)
        some = _Batch([batch.keys[i] for i in bad], {}, batch.rejected)
        some.parameters, u = _cold(recipe, split, some.keys, domain)
        if not input_fields:
            u = _sound_start(recipe, split, some, u, domain)
        u = _warmed(recipe, some.parameters, u, domain)
        redone = solve(recipe, some.parameters, u, domain, steps, recipe.substeps, stored)
        states[bad] = redone.states
        if inputs is not None and redone.inputs is not None:
            inputs[bad] = redone.inputs
        for place, key in zip(bad, some.keys, strict=True):
            batch.keys[place] = key
        for name, values in some.parameters.items():
            batch.parameters[name][bad] = values
        rounding = torch.maximum(rounding, redone.rounding)
        faults = {bad[i]: fault for i, fault in enumerate(redone.faults) if fault is not None}

    # Indices only grow, so that those asked for come first.
    count = sum(index < first + samples for index, _ in batch.keys)
    places = {} if solved.low_faces is None else {"low_faces": _words(names, solved.low_faces)}
    lost = dict(zip(names, rounding.tolist(), strict=True))
    entry: dict[str, Any] = {
        "file": shard_name(split, number),
        "samples": count,
        "asked": samples,
        "first_sample": first,
        "bytes": 0,
        "sha256": None,
        "modified": None,
        "dtype": "float32",
        "solver": solved.method,
        "substeps": solved.substeps,
        **places,
        "parameters": {name: v[:count].tolist() for name, v in batch.parameters.items()},
        "rejected": batch.rejected,
        "rounding": lost,
    }
    if count:
        times = torch.arange(steps + 1, dtype=torch.float64) * recipe.dt
        trajectory = Trajectory(states, stored, times, fields, batch.parameters)[:count]
        path = out / shard_name(split, number)
        written = write_shard(
            path,
            trajectory,
            name=recipe.name,
            inputs=None if inputs is None else inputs[:count],
            input_fields=input_fields,
            constants=recipe.constants,
            provenance={
                "recipe": recipe.name,
                "specification": recipe.specification(),
                "split": split,
                "shard": number,
                "first_sample": first,
                "seed": recipe.seed,
                "solver": solved.method,
                **places,
                "dt": recipe.dt,
                "substeps": solved.substeps or 0,
                "dtype_solver": recipe.dtype,
                "resolution_factor": factor,
                "rejected": batch.rejected,
                "rounding": lost,
                "versions": versions(),
            },
            codec=codec,
        )
        entry |= {
            "bytes": written.bytes,
            "sha256": written.sha256,
            "places": written.places,
            "modified": path.stat().st_mtime_ns,
        }
    entry["wall_time"] = time.perf_counter() - started
    return entry


def _words(channels: tuple[str, ...], low_faces: LowFaces) -> dict[str, str]:
    """The channels of a staggered state that do not lie at the centres of cells, with the axes of their faces."""
    return {
        name: "".join(AXIS_NAMES[axis] for axis in axes)
        for name, axes in zip(channels, low_faces, strict=True)
        if axes
    }


@functools.cache
def _versions() -> dict[str, str]:
    from sciml import __version__

    found = {
        "sciml": __version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "h5py": h5py.__version__,
        "python": platform.python_version(),
    }
    return found | ({"numba": version("numba")} if available() else {})


def versions() -> dict[str, str]:
    """Versions of what the numbers come from; numba's where compiled loops make them."""
    return dict(_versions())


def shard_name(split: str, number: int) -> str:
    """Path of a shard inside the dataset folder."""
    return f"data/{split}/shard-{number:05d}.hdf5"


@dataclass(frozen=True)
class Job:
    """One shard to be made."""

    split: str
    number: int
    samples: int


def _jobs(recipe: Recipe, samples: Mapping[str, int]) -> list[Job]:
    size = recipe.shard_size
    return [
        Job(split, n, min(size, count - n * size))
        for split, count in samples.items()
        for n in range(-(-count // size))
    ]


def _fresh_manifest(recipe: Recipe, samples: Mapping[str, int], codec: Codec) -> dict[str, Any]:
    domain, fields, input_fields = layout(recipe)
    check_bounds(recipe.bounds, (*fields, *input_fields), domain.dimension, recipe.name)
    specification = recipe.specification()
    return {
        "format": schema.FORMAT,
        "format_version": manifests.VERSION,
        "complete": False,
        "name": recipe.name,
        "title": recipe.title,
        "citation": recipe.citation,
        "recipe": {
            "name": recipe.name,
            "source": recipe.source,
            "sha256": specification_sha256(specification),
            "specification": specification,
        },
        "seed": recipe.seed,
        "versions": versions(),
        "fields": [{"name": f.name, "unit": f.unit, "rank": f.rank} for f in fields],
        "input_fields": [{"name": f.name, "unit": f.unit, "rank": f.rank} for f in input_fields],
        "domain": schema.describe_domain(domain),
        "constants": recipe.constants,
        "dt": recipe.dt,
        "dtype": "float32",
        "dtype_solver": recipe.dtype,
        "codec": codec,
        "splits": {s: {"samples": n, "asked": n, "steps": recipe.steps_of(s)} for s, n in samples.items()},
        "shards": [],
    }


def _refuse_strangers(out: Path) -> None:
    others = manifests.strangers(out) if out.is_dir() and not (out / manifests.NAME).is_file() else []
    if others:
        raise UserError(
            f"{out} is not empty ({', '.join(others[:4])}) and holds no dataset. Choose a new folder."
        )


def _old_manifest(out: Path, fresh: Mapping[str, Any]) -> dict[str, Any]:
    """What a folder holds of the same dataset; empty where it holds nothing yet.

    Raises:
        UserError: it holds something else.
    """
    _refuse_strangers(out)
    old = manifests.read_manifest(out)
    try:
        if not old or (old.get("format") == schema.FORMAT and not old.get("shards")):
            return {}  # a run that failed before its first shard; the recipe may have been mended since
        if old.get("recipe", {}).get("sha256") != fresh["recipe"]["sha256"]:
            raise UserError(
                f"{out} holds a dataset of recipe {old.get('name')!r} as it was then; the recipe {fresh['name']!r} "
                "of now would give other numbers. Choose another folder or delete this one."
            )
        if old.get("codec", "none") != fresh["codec"]:
            raise UserError(
                f"{out} was written with codec {old.get('codec', 'none')!r} and {fresh['codec']!r} is asked for. "
                "Choose another folder."
            )
        for split, described in old["splits"].items():
            asked = fresh["splits"].get(split, {}).get("asked", 0)
            known = described.get("asked", described["samples"])
            if asked < known:
                raise UserError(
                    f"{out} was made for {known} samples of {split!r} and {asked} are asked for. "
                    "A dataset can be extended; for a smaller one choose another folder."
                )
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(_damaged(out, error)) from error
    return old


def _damaged(out: Path, error: Exception) -> str:
    return f"{out / manifests.NAME} is damaged ({error!r}). Restore it or delete the folder and generate it again."


def _standing(out: Path, old: Mapping[str, Any], jobs: Sequence[Job]) -> dict[Job, dict[str, Any]]:
    """Shards that stand as the manifest says.

    A file of the size and the time of change that were noted when it was written is taken to be that file;
    any other is read again and must have its SHA-256. `sciml check` reads all of them.
    """
    listed = {entry["file"]: entry for entry in old.get("shards", [])}
    found: dict[str, tuple[int, int]] = {}
    for split in {job.split for job in jobs} if listed else ():
        with (
            contextlib.suppress(FileNotFoundError, NotADirectoryError),
            os.scandir(out / "data" / split) as listing,
        ):
            for place in listing:
                if place.is_file():
                    status = place.stat()
                    found[f"data/{split}/{place.name}"] = (status.st_size, status.st_mtime_ns)
    kept: dict[Job, dict[str, Any]] = {}
    doubtful: list[tuple[Job, dict[str, Any]]] = []
    for job in jobs:
        name = shard_name(job.split, job.number)
        entry, file = listed.get(name), found.get(name)
        if not entry or entry.get("asked", entry["samples"]) != job.samples:
            continue
        if entry["samples"] == 0:
            kept[job] = entry
        elif file is not None and file[0] == entry["bytes"]:
            if file[1] == entry.get("modified"):
                kept[job] = entry
            else:
                doubtful.append((job, entry | {"modified": file[1]}))
    digests = schema.sha256_files([out / entry["file"] for _, entry in doubtful])
    for (job, entry), digest in zip(doubtful, digests, strict=True):
        if digest == entry["sha256"]:
            kept[job] = entry
    return kept


def _with_parameters(recipe: Recipe, out: Path, entry: dict[str, Any]) -> dict[str, Any]:
    """The entry of a shard from the first version of the manifest, completed from its file."""
    if "parameters" in entry:
        return entry
    from sciml.datasets.reader import open as open_dataset

    found = open_dataset(out / entry["file"]).first.parameters if recipe.varying else {}
    return entry | {
        "asked": entry["samples"],
        "parameters": {name: found[name].tolist() for name in recipe.varying},
    }


def _run(
    recipe: Recipe,
    out: Path,
    jobs: Sequence[Job],
    workers: int,
    scheduler: str | None,
    codec: Codec,
    sha256: str,
) -> Generator[tuple[Job, dict[str, Any] | Failure], None, None]:
    """Make shards, yielding each when it stands or has failed."""
    handed: Recipe | str = recipe if recipe.source is None else recipe.source
    here = scheduler is None and (workers == 1 or len(jobs) == 1)
    if here:
        handed = recipe
    elif isinstance(handed, Recipe):
        try:
            pickle.dumps(handed)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise UserError(
                f"Recipe {recipe.name!r} cannot be sent to worker processes ({error}). Put it into a .py file "
                "that exports RECIPE and load it with load_recipe, or use workers=1."
            ) from error
    place = out.resolve()
    calls = [(handed, place, job.split, job.number, job.samples, codec, sha256) for job in jobs]
    if here:
        results = run_here(make_shard, calls)
    elif scheduler is None:
        results = run_in_processes(make_shard, calls, workers)
    else:
        results = run_on_cluster(make_shard, calls, scheduler)
    with contextlib.closing(results):
        for number, found in results:
            yield jobs[number], found


def _work(recipe: Recipe, job: Job) -> int:
    """What the time of a shard is in proportion to: a batch is always computed as a whole."""
    return recipe.shard_size * max(1, recipe.steps_of(job.split) + recipe.warmup)


def _seconds(
    recipe: Recipe, timed: Mapping[Job, Mapping[str, Any]], todo: Sequence[Job], workers: int
) -> float:
    """Wall time of what is to do, by what was timed."""
    spent = sum(float(entry["wall_time"]) for entry in timed.values())
    work = sum(_work(recipe, job) for job in timed)
    left = sum(_work(recipe, job) for job in todo)
    return spent / work * left / min(workers, max(1, len(todo)))


def _samples(recipe: Recipe, samples: Mapping[str, int] | None) -> dict[str, int]:
    """Trajectories per split, without splits of none.

    Raises:
        UserError: a split is not one of the recipe's, or there is nothing to do.
    """
    unknown = [s for s in samples or {} if s not in recipe.samples]
    if unknown:
        raise UserError(
            f"Recipe {recipe.name!r} has no split {', '.join(unknown)}; it has {', '.join(recipe.samples)}."
        )
    wanted = {s: n for s, n in {**recipe.samples, **(samples or {})}.items() if n}
    if not wanted or min(wanted.values()) < 0:
        raise UserError(f"generate got samples={wanted}; expected at least 1.")
    return wanted


def estimate(
    recipe: Recipe | str | Path,
    out: str | Path,
    samples: Mapping[str, int] | None = None,
    *,
    workers: int = 1,
    codec: Codec = "none",
) -> Estimate:
    """What `generate` would take, measured on shards that stand, or on one that is made and thrown away.

    Raises:
        UserError: as `generate` does, also where the disk has no room.
    """
    recipe = with_source(recipe) if isinstance(recipe, Recipe) else load_recipe(recipe)
    out, wanted = Path(out), _samples(recipe, samples)
    fresh, jobs = _fresh_manifest(recipe, wanted, codec), _jobs(recipe, wanted)
    kept: Mapping[Job, Mapping[str, Any]] = _standing(out, _old_manifest(out, fresh), jobs)
    todo = [job for job in jobs if job not in kept]
    if todo and not kept:
        with tempfile.TemporaryDirectory() as temporary:
            job = todo[0]
            kept = {job: make_shard(recipe, Path(temporary), job.split, job.number, job.samples, codec)}
    return _estimate(recipe, out, todo, kept, workers)


def _estimate(
    recipe: Recipe, out: Path, todo: Sequence[Job], timed: Mapping[Job, Mapping[str, Any]], workers: int
) -> Estimate:
    needed = _bytes(recipe, todo)
    free = require_space(out, needed)
    seconds = _seconds(recipe, timed, todo, workers) if timed else None
    return Estimate(sum(job.samples for job in todo), len(todo), needed, free, seconds, workers)


def generate(
    recipe: Recipe | str | Path,
    out: str | Path,
    samples: Mapping[str, int] | None = None,
    *,
    workers: int = 1,
    scheduler: str | None = None,
    codec: Codec = "none",
    certificate: bool = True,
    progress: Progress | None = None,
    announce: Callable[[Estimate], None] | None = None,
) -> Path:
    """Make the dataset `out`, or finish what is there of it.

    The files of `data/` are the same bytes for any number of workers, and after a run that was killed
    and started again. A shard that fails does not keep the others from being made.

    Args:
        recipe: a Recipe, the name of one that comes with the package, or the path of a file.
        out: the dataset's folder.
        samples: trajectories per split, in place of the recipe's; the other splits keep theirs.
        workers: processes, each with one thread.
        scheduler: address of a Dask scheduler whose workers see the same file system, in place of
            own processes.
        codec: "none" for arrays that are mapped, "lzf" for archives: compressed frame by frame.
        certificate: measure the error of the data and write certificate.json, card.md and preview.png.
        progress: told (samples done, all samples).
        announce: told what is left to do, before it is begun and again once the first shard was timed.

    Returns the folder.

    Raises:
        UserError: the recipe is not known, a split is not one of its own, the folder holds something
            else, the disk has no room, or some shards failed: those that stand are kept, and what a failure
            in the code said is in generate.log.
    """
    recipe = with_source(recipe) if isinstance(recipe, Recipe) else load_recipe(recipe)
    out, wanted = Path(out), _samples(recipe, samples)
    if workers < 1:
        raise UserError(f"generate got workers={workers}; expected at least 1.")
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; give a folder.")
    started = time.perf_counter()
    manifest, jobs = _fresh_manifest(recipe, wanted, codec), _jobs(recipe, wanted)
    _refuse_strangers(out)
    if not out.exists():
        require_space(out, _bytes(recipe, jobs))
        out.mkdir(parents=True)
    with manifests.locked_journal(out) as journal:
        old = _old_manifest(out, manifest)
        try:
            with manifests.without_collection():
                kept = {j: _with_parameters(recipe, out, e) for j, e in _standing(out, old, jobs).items()}
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(_damaged(out, error)) from error
        todo = [job for job in jobs if job not in kept]
        first = _estimate(recipe, out, todo, kept, 1 if scheduler else workers)
        done, failed = dict(kept), dict[Job, Failure]()
        total, ready = sum(job.samples for job in jobs), sum(job.samples for job in kept)
        certified = bool(old.get("certified")) and not todo

        def save(**more: Any) -> None:
            manifest["shards"] = [done[job] for job in jobs if job in done]
            manifest["wall_time"] = sum(entry["wall_time"] for entry in done.values())
            manifest.update(more)
            manifests.write_manifest(out, manifest)
            journal.clear()

        if not todo and old.get("complete") and (certified or not certificate):
            if progress is not None:
                progress(total, total)
            if _as_noted(old, kept, jobs):
                return out
            for name in ("splits", "certified", "elapsed"):
                manifest[name] = old.get(name)
            save(complete=True)
            return out
        manifests.remove_leftovers(out)
        try:
            save(complete=False)
            if announce is not None and todo:
                announce(first)
            if progress is not None:
                progress(ready, total)
            sha256 = manifest["recipe"]["sha256"]
            left = len(todo)
            with contextlib.closing(_run(recipe, out, todo, workers, scheduler, codec, sha256)) as results:
                for job, found in results:
                    left -= 1
                    if isinstance(found, Failure):
                        failed[job] = found
                        _log(out, job, found)
                        if found.fatal or (len(failed) >= HOPELESS and len(failed) + left == len(todo)):
                            break
                        continue
                    journal.add(found)
                    done[job] = found
                    ready += job.samples
                    if announce is not None and first.seconds is None and left:
                        rest = [j for j in todo if j not in done]
                        seconds = _seconds(recipe, {job: found}, rest, first.workers)
                        needed = _bytes(recipe, rest)
                        first = Estimate(total - ready, left, needed, first.free, seconds, first.workers)
                        announce(first)
                    if progress is not None:
                        progress(ready, total)
            for split, described in manifest["splits"].items():
                described["samples"] = sum(e["samples"] for job, e in done.items() if job.split == split)
            if failed:
                save(complete=False)
                raise UserError(_failures(out, failed, len(todo) - len(failed) - left, left)) from next(
                    iter(failed.values())
                ).error
            for split, described in manifest["splits"].items():
                if not described["samples"]:
                    raise UserError(
                        f"Recipe {recipe.name!r}: every sample of {split!r} left its bounds and was left out. "
                        "Take wider bounds or gentler parameters."
                    )
            save(complete=False)
            _finish(recipe, out, certificate=certificate)
            save(complete=True, certified=certificate, elapsed=time.perf_counter() - started)
        except BaseException:
            # Workers that were ended in the middle of a file left it under its temporary name.
            manifests.remove_leftovers(out)
            raise
    return out


def _as_noted(old: Mapping[str, Any], kept: Mapping[Job, Mapping[str, Any]], jobs: Sequence[Job]) -> bool:
    """Whether the manifest already says of every shard what was found."""
    return old.get("format_version") == manifests.VERSION and old["shards"] == [kept[job] for job in jobs]


def _log(out: Path, job: Job, failure: Failure) -> None:
    """Keep what a shard failed of."""
    with (out / manifests.LOG).open("a", encoding="utf-8") as log:
        log.write(f"{shard_name(job.split, job.number)} failed: {failure.message}\n{failure.details}")


def _failures(out: Path, failed: Mapping[Job, Failure], made: int, left: int) -> str:
    """What to tell of the shards that could not be made."""
    shown = [f"{shard_name(job.split, job.number)}: {f.message}" for job, f in list(failed.items())[:5]]
    more = [f"and {len(failed) - 5} more"] if len(failed) > 5 else []
    rest = f", {left} were not tried" if left else ""
    return (
        f"{len(failed)} of {len(failed) + made + left} shards failed{rest}; {made} were made and are kept in {out}, and "
        f"the same command makes those that are missing. {'; '.join([*shown, *more])} (all of it: "
        f"{out / manifests.LOG})"
    )


def _finish(recipe: Recipe, out: Path, *, certificate: bool) -> None:
    """Statistics, and what people read."""
    from sciml.datasets.statistics import make_statistics

    if (out / "data" / "train").is_dir():
        make_statistics(out)
    if certificate:
        from sciml.datasets.certificate import certify
        from sciml.datasets.check import write_audit
        from sciml.datasets.inspection import plot, write_card

        write_json(out / "certificate.json", certify(recipe, out))
        write_audit(out)
        write_card(out)
        plot(out, out / "preview.png")


def _bytes(recipe: Recipe, jobs: Sequence[Job]) -> int:
    """Upper estimate of what shards take on the disk."""
    domain, fields, input_fields = layout(recipe)
    points = int(np.prod(getattr(domain, "shape")))  # noqa: B009
    inputs = channels_of(input_fields, domain) if input_fields else 0
    channels = channels_of(fields, domain)
    return sum(
        shard_bytes(job.samples, 1 if inputs else recipe.steps_of(job.split) + 1, channels, points, inputs)
        for job in jobs
    )
