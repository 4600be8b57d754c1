"""From a study's `data` to datasets, windows, reference trajectories, and what they say to the surrogates."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

import sciml.datasets as datasets
from sciml.datasets.recipe import DTYPES, specification_sha256
from sciml.domains import Cloud, Domain, Grid
from sciml.errors import UserError
from sciml.experiments.config import Data, Study
from sciml.experiments.contestants import Course
from sciml.experiments.online import recipe_place
from sciml.experiments.progress import Reporter
from sciml.experiments.surrogates import Facts
from sciml.odes.base import ODE
from sciml.pdes.base import PDE, Elliptic
from sciml.resample import resample
from sciml.step import low_faces_of
from sciml.trajectory import Trajectory


def place(settings: Data, root: Path) -> Path:
    """Where the study's dataset lies, or will lie once it is generated.

    Raises:
        UserError: the path names an environment variable that is not set.
    """
    if settings.path is None:
        assert settings.recipe is not None  # the constructor saw to it
        return root / Path(settings.recipe).stem
    return expanded(settings.path, settings.hint)


def expanded(path: str, hint: str = "") -> Path:
    """A path with its environment variables filled in.

    Raises:
        UserError: a variable is not set.
    """
    full = os.path.expandvars(os.path.expanduser(path))
    if "$" in full:
        name = full.partition("$")[2].partition("/")[0].strip("{}")
        raise UserError(f"{path} needs the environment variable {name}, which is not set. {hint}".rstrip())
    return Path(full)


def prepare(settings: Data, root: Path, reporter: Reporter, workers: int = 1) -> Path:
    """The folder or file of the study's dataset, generated if a recipe is given and something is missing.

    Raises:
        UserError: there are no data and no recipe for them, or the folder holds something else.
    """
    path = place(settings, root)
    for written in settings.tests.values():
        if _is_recipe(written):
            prepare(Data(recipe=written), path.parent, reporter, workers)
    if settings.recipe is None:
        if not path.exists():
            raise UserError(f"there are no data at {path}. {settings.hint}".rstrip())
        return path
    if _complete(path, settings):
        return path
    wanted = {**datasets.load_recipe(settings.recipe).samples, **settings.samples}
    with reporter.task(f"generate {settings.recipe} into {path}", sum(wanted.values())) as task:
        datasets.generate(
            settings.recipe,
            path,
            settings.samples or None,
            workers=workers,
            progress=lambda done, total: task.update(done),
        )
    return path


def tests(settings: Data, path: Path) -> dict[str, datasets.Dataset]:
    """The further test sets of a study by name: those of recipes lie beside its own dataset `path`.

    Raises:
        UserError: one of them cannot be opened.
    """
    return {
        label: datasets.open(
            path.parent / written if _is_recipe(written) else expanded(written, settings.hint)
        )
        for label, written in settings.tests.items()
    }


def _is_recipe(written: str) -> bool:
    """Whether a test set is given by the name of a recipe that comes with the package."""
    return written in datasets.known_recipes()


def _complete(path: Path, settings: Data) -> bool:
    """Whether a dataset of this recipe with at least these samples stands, by its manifest."""
    manifest = path / "manifest.json"
    if not manifest.is_file():
        return False
    known = json.loads(manifest.read_text())
    recipe = datasets.load_recipe(str(settings.recipe))
    same = known.get("recipe", {}).get("sha256") == specification_sha256(recipe.specification())
    splits = known.get("splits", {})
    wanted = {**recipe.samples, **settings.samples}
    # Fewer may stand where some were left out.
    made = {s: found.get("asked", found["samples"]) for s, found in splits.items()}
    enough = all(made.get(s, 0) >= n for s, n in wanted.items())
    return bool(known.get("complete")) and same and enough


def identity(path: Path, noise: float = 0.0) -> str:
    """A short text that changes when the dataset does: recipe and samples, or names and sizes of files.

    Args:
        path: the dataset.
        noise: added to what is trained on, see `Data`.
    """
    if noise:
        return f"{identity(path)} with noise {noise:g}"
    manifest = path / "manifest.json"
    if manifest.is_file():
        known = json.loads(manifest.read_text())
        shards = [[s["file"], s["sha256"]] for s in known["shards"]]
        digest = hashlib.sha256(json.dumps(shards).encode()).hexdigest()[:12]
        return f"{known['name']} {digest}"
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    sizes = [[p.name, p.stat().st_size] for p in files]
    return f"{path.name} {hashlib.sha256(json.dumps(sizes).encode()).hexdigest()[:12]}"


def open_dataset(settings: Data, path: Path) -> datasets.Dataset:
    """The dataset, with the training split there.

    Raises:
        UserError: it cannot be opened, or lacks the split.
    """
    dataset = datasets.open(path)
    dataset[settings.train]
    return dataset


def facts(study: Study, dataset: datasets.Dataset) -> Facts:
    """What the data say to the surrogates.

    Raises:
        UserError: the kind of data does not suit the kind of study.
    """
    domain = dataset.domain
    if isinstance(domain, Cloud):
        raise UserError(
            f"{dataset.path} holds particles; the networks of a study act on fields on a grid or a mesh, or on systems "
            "without space. Read such data with sciml.datasets.open and train on their windows."
        )
    stats = dataset.stats
    how = study.data.normalisation
    scaling = datasets.Scaling.rms(stats) if how == "rms" else datasets.Scaling.z_score(stats)
    delta = datasets.Scaling.delta(stats, how)
    if study.kind == "map":
        first = dataset.first
        if not isinstance(first, datasets.Pairs) or stats.inputs is None:
            raise UserError(
                f"{dataset.path} holds trajectories; a study of kind map needs pairs of input and target fields."
            )
        inputs = (
            datasets.Scaling.rms(stats.inputs) if how == "rms" else datasets.Scaling.z_score(stats.inputs)
        )
        return Facts(
            dataset.domain,
            dataset.fields,
            0.0,
            scaling.shift,
            scaling.scale,
            first.input_fields,
            inputs.shift,
            inputs.scale,
        )
    if dataset.static:
        raise UserError(f"{dataset.path} holds pairs of static fields; give the study kind: map.")
    dt = dataset.dt * study.data.stride
    found = Facts(
        dataset.domain,
        dataset.fields,
        dt,
        scaling.shift,
        scaling.scale,
        delta_mean=delta.shift,
        delta_std=delta.scale,
        recipe=recipe_place(dataset.recipe),
    )
    if study.kind == "pinn":
        if isinstance(domain, Grid) and domain.centering == "cell":
            raise UserError(
                f"{dataset.path} holds averages over cells; a study of kind pinn starts from values at nodes, and would "
                "be wrong by half a cell. Make the data with Grid(..., centering='node')."
            )
        true = reference(study, dataset, steps=study.evaluation.steps, samples=1)
        return replace(
            found, initial=true.data[0, 0].double(), horizon=float(true.times[-1] - true.times[0])
        )
    return found


class OneState(TorchDataset[Tensor]):
    """The single initial state (1, C, *points) of a study that fits one solution; the only window."""

    def __init__(self, state: Tensor) -> None:
        self.state = state

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Tensor:
        return self.state


class InMemory(TorchDataset[Any]):
    """Pairs of static fields, kept in memory and taken out a batch at a time."""

    def __init__(self, inputs: Tensor, targets: Tensor) -> None:
        self.inputs, self.targets = inputs, targets

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.inputs[index], self.targets[index]

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        return self.inputs[indices], self.targets[indices]


def windows(study: Study, dataset: datasets.Dataset, horizon: int) -> TorchDataset[Any]:
    """What the objective is trained on: windows of states, pairs, or the one initial state."""
    split = dataset[study.data.train]
    if study.kind == "map":
        return InMemory(split.inputs, split.targets)
    if study.kind == "pinn":
        return OneState(reference(study, dataset, samples=1).data[0, :1])
    if study.data.noise:
        return NoisyWindows(training_states(study, dataset), horizon + 1)
    return split.windows(history=1, horizon=horizon, stride=study.data.stride)


class NoisyWindows(TorchDataset[Any]):
    """Windows (length, C, *points) of trajectories (B, T, C, *points) in memory.

    Raises:
        UserError: the trajectories are too short.
    """

    def __init__(self, states: Tensor, length: int) -> None:
        if states.shape[1] < length:
            raise UserError(
                f"the trajectories have {states.shape[1]} frames and windows need {length}; shorten the horizon or the "
                "stride."
            )
        self.states, self.length = states, length

    def __len__(self) -> int:
        return len(self.states) * (self.states.shape[1] - self.length + 1)

    def __getitem__(self, index: int) -> Tensor:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> Tensor:
        sample, frame = np.divmod(np.asarray(indices), self.states.shape[1] - self.length + 1)
        frames = torch.from_numpy(frame)[:, None] + torch.arange(self.length)
        return self.states[torch.from_numpy(sample)[:, None], frames]


def training_states(study: Study, dataset: datasets.Dataset) -> Tensor:
    """All training trajectories (B, T, C, *points), one frame per step, with the noise that the study asks for.

    With a stride, those that begin at the frames between are trajectories of their own.
    """
    stride = study.data.stride
    states = dataset[study.data.train].trajectories().data
    if study.data.noise:
        # The same for every variant, seed and process: it belongs to the data.
        generator = torch.Generator().manual_seed(0)
        drawn = torch.randn(states.shape, generator=generator, dtype=torch.float32)
        std = dataset.stats.std.to(states).reshape(-1, *[1] * (states.ndim - 3))
        states = states + study.data.noise * std * drawn
    whole = (states.shape[1] // stride) * stride
    return torch.cat([states[:, first:whole:stride] for first in range(stride)]) if stride > 1 else states


def reference(
    study: Study, dataset: datasets.Dataset, *, steps: int | None = None, samples: int | None = None
) -> Trajectory:
    """Test trajectories with one frame per step of the surrogate, the initial state first.

    Raises:
        UserError: there are not as many steps or samples as asked for.
    """
    split = dataset[study.data.test]
    if samples is not None and samples > len(split):
        raise UserError(
            f"evaluation.samples is {samples}, but split {study.data.test!r} of {dataset.path} has {len(split)} "
            "trajectories."
        )
    true = split.trajectories(slice(0, samples))
    stride = study.data.stride
    available = (true.data.shape[1] - 1) // stride
    if steps is not None and steps > available:
        raise UserError(
            f"evaluation.steps is {steps}, but the trajectories of split {study.data.test!r} in {dataset.path} reach "
            f"{available} steps. Ask for at most {available}."
        )
    kept = slice(0, (steps or available) * stride + 1, stride)
    return replace(true, data=true.data[:, kept], times=true.times[kept])


def trained_steps(study: Study, dataset: datasets.Dataset) -> int:
    """Length of what was trained on in steps of the surrogate."""
    if study.kind == "pinn" and study.evaluation.steps is not None:
        return study.evaluation.steps
    return max(1, (dataset[study.data.train].frames - 1) // study.data.stride)


def system(
    dataset: datasets.Dataset, parameters: Mapping[str, Tensor] | None = None, domain: Domain | None = None
) -> PDE | ODE | None:
    """The equation or system behind a dataset, with the given parameters of some samples.

    None where it is not known, and where it differs between samples and none are named. `domain` as in `Recipe.equation`.
    """
    recipe = dataset.recipe
    if recipe is None or (parameters is None and recipe.varying):
        return None
    found = recipe.equation(parameters, domain)
    return None if isinstance(found, Elliptic) else found


def equation(dataset: datasets.Dataset, true: Trajectory | None = None) -> PDE | None:
    """The equation behind a dataset, with the parameters of the given trajectories; None as for `system`."""
    found = system(dataset, None if true is None else true.parameters)
    return found if isinstance(found, PDE) else None


def onward(
    dataset: datasets.Dataset, split: datasets.Split, stride: int = 1
) -> Callable[[slice], Course] | None:
    """How trajectories of a split go on after their last frame, by the solver that made them; None where unknown.

    States go to the points on which the recipe solves, in its precision, and come back the way they were stored.
    """
    recipe = dataset.recipe
    if recipe is None or system(dataset, {name: v[:1] for name, v in split.parameters.items()}) is None:
        return None
    stored, factor = split.domain, recipe.resolution_factor
    fine = recipe.domain_at(factor) if factor > 1 else stored
    if factor > 1 and not (isinstance(stored, Grid) and isinstance(fine, Grid)):
        return None

    def course(samples: slice) -> Course:
        parameters = {name: values[samples] for name, values in split.parameters.items()}
        step = recipe.solver(recipe.equation(parameters, fine), fine, recipe.dt, recipe.substeps)
        faces = low_faces_of(step)

        def advance(u: Tensor) -> Tensor:
            for _ in range(stride):
                u = step(u)
            return u

        def carried(u: Tensor, source: Domain, target: Domain) -> Tensor:
            if isinstance(source, Grid) and isinstance(target, Grid):
                return resample(u, source, target, faces)
            return u

        return Course(
            advance,
            lambda u: carried(u.to(DTYPES[recipe.dtype]), stored, fine),
            lambda u: carried(u, fine, stored).to(torch.float32),
        )

    return course


def error_floor(dataset: datasets.Dataset, stride: int, steps: int) -> np.ndarray | None:
    """Measured relative error of the data themselves at each step (steps + 1,), if it was measured.

    The mean over the certificate's samples and over the fields, as the scores of surrogates are.
    """
    errors = (dataset.certificate or {}).get("error", {})
    if not errors:
        return None
    per_field = np.array([[np.nan if v is None else v for v in e["mean"]] for e in errors.values()])
    floor = per_field.mean(axis=0)[:: max(1, stride)]
    return floor[: steps + 1] if len(floor) > steps else None


def describe(dataset: datasets.Dataset, study: Study) -> dict[str, str]:
    """A few facts for the report."""
    from sciml.experiments.surrogates import describe_domain

    entries = {"dataset": f"{dataset.name} ({dataset.kind})", "domain": describe_domain(dataset.domain)}
    entries["fields"] = ", ".join(f"{f.name} [{f.unit}]" for f in dataset.fields)
    entries["samples"] = ", ".join(f"{name} {len(split)}" for name, split in dataset.splits.items())
    if dataset.parameters:
        entries["parameters"] = ", ".join(
            f"{name} = {low:.4g}" + (f" to {high:.4g}" if high != low else "")
            for name, (low, high) in dataset.parameters.items()
        )
    if dataset.manifest.get("citation"):
        entries["source"] = str(dataset.manifest["citation"])
    return entries
