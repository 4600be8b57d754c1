"""Make a dataset from a recipe: shards in any order, by any number of workers, the same bytes.

A shard is one batch of the solver. It is kept if the manifest lists it and its checksum matches, and made
again otherwise, so that a run that was killed goes on where it was.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import pickle
import platform
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor

from sciml.calculus import Spectral
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
from sciml.datasets.writer import PART, require_space, shard_bytes, write_json, write_shard
from sciml.domains import Cloud, Domain, Grid
from sciml.domains.grid import AXIS_NAMES
from sciml.errors import UserError
from sciml.extras import require
from sciml.pdes.base import PDE, Elliptic, is_periodic
from sciml.resample import resample
from sciml.solvers.blow_up import blow_ups
from sciml.solvers.lanes import available
from sciml.step import LowFaces, iterate, low_faces_of
from sciml.trajectory import Field, Trajectory, channel_names, first_non_finite

ATTEMPTS = 20
"""Draws of one sample before the recipe is taken to be unstable."""

Progress = Callable[[int, int], None]
"""Told (samples done, samples in all) after each shard."""


@dataclass(frozen=True, eq=False)
class Solved:
    """What a recipe gives for a batch, before storage.

    `states` (B, T, C, *points) on the stored domain, `inputs` (B, A, *points) of an elliptic
    equation, `rounding` the largest |u - float32(u)| per channel (C,), `low_faces` what a staggered step says of its
    channels.
    """

    states: Tensor
    inputs: Tensor | None
    rounding: Tensor
    method: str
    substeps: int | None
    low_faces: LowFaces | None


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
    u = initial.to(DTYPES[recipe.dtype])
    inputs, low_faces = None, low_faces_of(step)
    with torch.no_grad():
        if isinstance(equation, Elliptic):
            inputs = to_stored(u, domain, stored).to(dtype)
            frames: Iterator[Tensor] = iter([step(u)])
            steps = 0
        else:
            frames = iterate(step, u, steps)
        out: Tensor | None = None
        rounding = torch.zeros(1, dtype=torch.float64)
        for t, frame in enumerate(frames):
            frame = to_stored(frame, domain, stored, low_faces)
            if out is None:
                out = torch.empty(len(frame), steps + 1, *frame.shape[1:], dtype=dtype)
                rounding = torch.zeros(frame.shape[1], dtype=torch.float64)
            out[:, t] = frame
            gap = (frame - frame.to(torch.float32)).abs().transpose(0, 1).flatten(1).amax(dim=1).double()
            rounding = torch.maximum(rounding, torch.nan_to_num(gap, posinf=0.0))
    assert out is not None  # there is always the initial frame
    taken = getattr(step, "substeps", substeps)
    return Solved(
        out,
        inputs,
        rounding,
        str(getattr(step, "method", type(step).__name__)),
        taken if isinstance(taken, int) else None,
        low_faces,
    )


def draw_batch(
    recipe: Recipe, split: str, keys: list[tuple[int, int]], domain: Domain
) -> tuple[dict[str, Tensor], Tensor]:
    """Parameters (B,) and states after the warm-up of the samples `keys` = (index, attempt).

    What is drawn is projected onto the states that the equation admits, so that the first stored state is
    the one that the solver starts from.
    """
    equation = _sample_equation(recipe, domain)
    fields, inputs = fields_of(equation)
    channels = channels_of(inputs or fields, domain)
    drawn = [recipe.draw(split, index, domain, channels, attempt) for index, attempt in keys]
    parameters = {
        name: torch.tensor([p[name] for p, _ in drawn], dtype=torch.float64) for name in recipe.varying
    }
    u = torch.stack([u for _, u in drawn])
    equation = recipe.equation(parameters, domain)
    cells = isinstance(domain, Grid) and domain.centering == "cell"
    step = None
    if not inputs and (recipe.warmup or cells):
        step = recipe.solver(equation, domain, recipe.dt, recipe.substeps)
    projected = getattr(getattr(step, "step", step), "project", None)
    if low_faces_of(step) is not None and projected is not None:
        u = projected(u)
    elif isinstance(equation, PDE) and is_periodic(domain):
        assert isinstance(domain, Grid)  # nothing else is periodic along every axis
        u = equation.project(u, Spectral(domain))
    u = u.to(DTYPES[recipe.dtype])
    if recipe.warmup and step is not None:
        with torch.no_grad():
            for _ in range(recipe.warmup):
                u = step(u)
    return parameters, u


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


def make_shard(recipe: Recipe | str, out: Path, split: str, number: int, samples: int) -> dict[str, Any]:
    """Compute and write one shard; what the manifest keeps of it.

    Raises:
        UserError: a sample blows up in every draw, or the disk is full.
    """
    recipe = load_recipe(recipe) if isinstance(recipe, str) else recipe
    threads = torch.get_num_threads()
    # Sums depend on how they are split over threads, so every shard is computed by one.
    torch.set_num_threads(1)
    try:
        return _make_shard(recipe, out, split, number, samples)
    finally:
        torch.set_num_threads(threads)


def _make_shard(recipe: Recipe, out: Path, split: str, number: int, samples: int) -> dict[str, Any]:
    started = time.perf_counter()
    stored, fields, input_fields = layout(recipe)
    factor = recipe.resolution_factor
    domain = recipe.domain_at(factor) if factor > 1 else stored
    steps = 0 if input_fields else recipe.steps_of(split)
    first = number * recipe.shard_size
    keys = [(first + i, 0) for i in range(recipe.shard_size)]
    parameters, initial = draw_batch(recipe, split, keys, domain)
    solved = solve(recipe, parameters, initial, domain, steps, recipe.substeps, stored)
    states, inputs, rounding = solved.states, solved.inputs, solved.rounding
    rejected: list[dict[str, int]] = []
    for attempt in range(1, ATTEMPTS + 1):
        frames = first_non_finite(states)
        bad = [i for i in range(len(keys)) if int(frames[i]) < states.shape[1]]
        if not bad:
            break
        if attempt == ATTEMPTS:
            why, during = "", f"last at frame {int(frames[bad[0]])}"
            if not input_fields:
                path, where = states[bad[:1]], stored
                if int(frames[bad[0]]) == 0 and recipe.warmup:
                    path, where = _warmup(recipe, split, (first + bad[0], attempt - 1), domain), domain
                    during = "last during the warm-up"
                equation = _sample_equation(recipe, domain)
                names = channel_names(fields, stored.dimension)
                last = blow_ups(
                    path,
                    where,
                    recipe.dt,
                    names,
                    pde=None if isinstance(equation, Elliptic) else equation,
                    substeps=solved.substeps or 1,
                )[0]
                why = f" The last one: {replace(last, sample=first + bad[0])}"
            raise UserError(
                f"Recipe {recipe.name!r}: sample {first + bad[0]} of {split!r} blew up in {ATTEMPTS} draws, "
                f"{during}. The solver is unstable there: take more substeps, a "
                f"finer grid or gentler parameters.{why}"
            )
        rejected += [{"index": first + i, "attempt": attempt - 1, "frame": int(frames[i])} for i in bad]
        again, u = draw_batch(recipe, split, [(first + i, attempt) for i in bad], domain)
        redone = solve(recipe, again, u, domain, steps, recipe.substeps, stored)
        states[bad] = redone.states
        if inputs is not None and redone.inputs is not None:
            inputs[bad] = redone.inputs
        for name, values in again.items():
            parameters[name][bad] = values
        rounding = torch.maximum(rounding, redone.rounding)
    times = torch.arange(steps + 1, dtype=torch.float64) * recipe.dt
    trajectory = Trajectory(states, stored, times, fields, parameters)[:samples]
    names = channel_names(fields, stored.dimension)
    places = {} if solved.low_faces is None else {"low_faces": _words(names, solved.low_faces)}
    written = write_shard(
        out / shard_name(split, number),
        trajectory,
        name=recipe.name,
        inputs=None if inputs is None else inputs[:samples],
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
            "rejected": rejected,
            "rounding": dict(zip(names, rounding.tolist(), strict=True)),
            "versions": versions(),
        },
    )
    return {
        "file": shard_name(split, number),
        "samples": samples,
        "first_sample": first,
        "bytes": written.bytes,
        "sha256": written.sha256,
        "dtype": "float32",
        "wall_time": time.perf_counter() - started,
        "solver": solved.method,
        "substeps": solved.substeps,
        **places,
        "rejected": rejected,
        "rounding": dict(zip(names, rounding.tolist(), strict=True)),
    }


def _words(channels: tuple[str, ...], low_faces: LowFaces) -> dict[str, str]:
    """The channels of a staggered state that do not lie at the centres of cells, with the axes of their faces."""
    return {
        name: "".join(AXIS_NAMES[axis] for axis in axes)
        for name, axes in zip(channels, low_faces, strict=True)
        if axes
    }


def versions() -> dict[str, str]:
    """Versions of what the numbers come from; numba's where compiled loops make them."""
    from sciml import __version__

    found = {
        "sciml": __version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "h5py": h5py.__version__,
        "python": platform.python_version(),
    }
    return found | ({"numba": version("numba")} if available() else {})


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


def _fresh_manifest(recipe: Recipe, samples: Mapping[str, int]) -> dict[str, Any]:
    domain, fields, input_fields = layout(recipe)
    specification = recipe.specification()
    return {
        "format": schema.FORMAT,
        "format_version": schema.FORMAT_VERSION,
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
        "dt": recipe.dt,
        "dtype": "float32",
        "dtype_solver": recipe.dtype,
        "splits": {s: {"samples": n, "steps": recipe.steps_of(s)} for s, n in samples.items()},
        "shards": [],
    }


def _resume(out: Path, manifest: dict[str, Any], jobs: list[Job]) -> dict[Job, dict[str, Any]]:
    """Shards that stand and match what the manifest says of them."""
    path = out / "manifest.json"
    if not path.is_file():
        strangers = [p.name for p in out.iterdir()] if out.is_dir() else []
        if any(name not in ("data",) for name in strangers):
            raise UserError(
                f"{out} is not empty ({', '.join(sorted(strangers)[:4])}) and holds no dataset. Choose a new folder."
            )
        return {}
    from sciml.datasets.reader import read_json

    old = read_json(path)
    if old.get("format") == schema.FORMAT and not old.get("shards"):
        return {}  # a run that failed before its first shard; the recipe may have been mended since
    if old.get("recipe", {}).get("sha256") != manifest["recipe"]["sha256"]:
        raise UserError(
            f"{out} holds a dataset of recipe {old.get('name')!r} as it was then; the recipe {manifest['name']!r} "
            "of now would give other numbers. Choose another folder or delete this one."
        )
    for split, described in old["splits"].items():
        asked = manifest["splits"].get(split, {}).get("samples", 0)
        if asked < described["samples"]:
            raise UserError(
                f"{out} was made for {described['samples']} samples of {split!r} and {asked} are asked for. "
                "A dataset can be extended; for a smaller one choose another folder."
            )
    listed = {entry["file"]: entry for entry in old["shards"]}
    kept: dict[Job, dict[str, Any]] = {}
    for job in jobs:
        entry = listed.get(shard_name(job.split, job.number))
        file = out / shard_name(job.split, job.number)
        if not entry or entry["samples"] != job.samples or not file.is_file():
            continue
        if file.stat().st_size == entry["bytes"] and schema.sha256_file(file) == entry["sha256"]:
            kept[job] = entry
    return kept


def _ignore_interrupt() -> None:
    """In a worker: Ctrl-C is the parent's business, which ends its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextlib.contextmanager
def _executor(workers: int, scheduler: str | None) -> Iterator[Executor]:
    if scheduler is not None:
        distributed = require("distributed", extra="distributed", purpose="generate(scheduler=...)")
        try:
            client = distributed.Client(scheduler, timeout="20s")
        except OSError as error:
            raise UserError(f"No Dask scheduler answers at {scheduler!r}: {error}.") from error
        with client, client.get_executor() as remote:
            yield remote
        return
    before = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context("spawn"), initializer=_ignore_interrupt
    )
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in set(multiprocessing.active_children()) - before:
            process.terminate()
            process.join()
        raise
    else:
        pool.shutdown()


def _run(
    recipe: Recipe, out: Path, jobs: list[Job], workers: int, scheduler: str | None
) -> Iterator[tuple[Job, dict[str, Any]]]:
    """Make shards, yielding each when it stands."""
    if scheduler is None and (workers == 1 or len(jobs) == 1):
        for job in jobs:
            yield job, make_shard(recipe, out, job.split, job.number, job.samples)
        return
    handed: Recipe | str = recipe if recipe.source is None else recipe.source
    if isinstance(handed, Recipe):
        try:
            pickle.dumps(handed)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise UserError(
                f"Recipe {recipe.name!r} cannot be sent to worker processes ({error}). Put it into a .py file "
                "that exports RECIPE and load it with load_recipe, or use workers=1."
            ) from error
    with _executor(min(workers, len(jobs)), scheduler) as pool:
        futures: dict[Future[dict[str, Any]], Job] = {
            pool.submit(make_shard, handed, out.resolve(), job.split, job.number, job.samples): job
            for job in jobs
        }
        for future in as_completed(futures):
            yield futures[future], future.result()


def generate(
    recipe: Recipe | str | Path,
    out: str | Path,
    samples: Mapping[str, int] | None = None,
    *,
    workers: int = 1,
    scheduler: str | None = None,
    certificate: bool = True,
    progress: Progress | None = None,
) -> Path:
    """Make the dataset `out`, or finish what is there of it.

    The files of `data/` are the same bytes for any number of workers, and after a run that was killed
    and started again.

    Args:
        recipe: a Recipe, the name of one that comes with the package, or the path of a file.
        out: the dataset's folder.
        samples: trajectories per split, in place of the recipe's; the other splits keep theirs.
        workers: processes, each with one thread.
        scheduler: address of a Dask scheduler whose workers see the same file system, in place of
            own processes.
        certificate: measure the error of the data and write certificate.json, card.md and preview.png.
        progress: told (samples done, all samples).

    Returns the folder.

    Raises:
        UserError: the recipe is not known or unstable, a split is not one of its own, the folder holds
            something else, or the disk is full.
    """
    recipe = with_source(recipe) if isinstance(recipe, Recipe) else load_recipe(recipe)
    out = Path(out)
    unknown = [s for s in samples or {} if s not in recipe.samples]
    if unknown:
        raise UserError(
            f"Recipe {recipe.name!r} has no split {', '.join(unknown)}; it has {', '.join(recipe.samples)}."
        )
    wanted = {s: n for s, n in {**recipe.samples, **(samples or {})}.items() if n}
    if workers < 1 or not wanted or min(wanted.values()) < 0:
        raise UserError(f"generate got workers={workers}, samples={wanted}; expected at least 1 of each.")
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; give a folder.")
    started = time.perf_counter()
    manifest, jobs = _fresh_manifest(recipe, wanted), _jobs(recipe, wanted)
    kept = _resume(out, manifest, jobs)
    todo = [job for job in jobs if job not in kept]
    require_space(out, sum(_bytes(recipe, job) for job in todo))
    out.mkdir(parents=True, exist_ok=True)
    for leftover in out.glob(f"data/*/*{PART}"):
        leftover.unlink()
    done = dict(kept)

    def save(complete: bool) -> None:
        manifest["shards"] = [done[job] for job in jobs if job in done]
        manifest["complete"] = complete
        manifest["wall_time"] = sum(entry["wall_time"] for entry in manifest["shards"])
        write_json(out / "manifest.json", manifest)

    total = sum(job.samples for job in jobs)
    try:
        save(False)
        if progress is not None:
            progress(sum(job.samples for job in done), total)
        for job, entry in _run(recipe, out, todo, workers, scheduler):
            done[job] = entry
            save(False)
            if progress is not None:
                progress(sum(j.samples for j in done), total)
    except BaseException:
        # Workers that were ended in the middle of a file left it under its temporary name.
        for leftover in out.glob(f"data/*/*{PART}"):
            leftover.unlink()
        raise
    _finish(
        recipe, out, certificate=certificate and (bool(todo) or not (out / "certificate.json").is_file())
    )
    save(True)
    manifest["elapsed"] = time.perf_counter() - started
    write_json(out / "manifest.json", manifest)
    return out


def _finish(recipe: Recipe, out: Path, *, certificate: bool) -> None:
    """Statistics, and what people read."""
    from sciml.datasets.statistics import make_statistics

    if (out / "data" / "train").is_dir():
        make_statistics(out)
    if certificate:
        from sciml.datasets.certificate import certify
        from sciml.datasets.inspection import plot, write_card

        write_json(out / "certificate.json", certify(recipe, out))
        write_card(out)
        plot(out, out / "preview.png")


def _bytes(recipe: Recipe, job: Job) -> int:
    domain, fields, input_fields = layout(recipe)
    points = int(np.prod(getattr(domain, "shape")))  # noqa: B009
    frames = 1 if input_fields else recipe.steps_of(job.split) + 1
    return shard_bytes(
        job.samples,
        frames,
        channels_of(fields, domain),
        points,
        channels_of(input_fields, domain) if input_fields else 0,
    )
