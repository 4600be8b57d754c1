"""Contestants of a run, from its checkpoints and its data, handed to the evaluation of each kind of study."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

import sciml.datasets as datasets
from sciml.domains import Cloud, Domain, Grid, Mesh, Point
from sciml.errors import UserError
from sciml.experiments import baselines, data, evaluate, evaluate_map, surrogates
from sciml.experiments.config import Study
from sciml.experiments.progress import Reporter
from sciml.step import FunctionStep, Step
from sciml.trajectory import Trajectory

Paths = Mapping[tuple[str, int], Path]
"""(variant, seed) -> checkpoint"""


def rollouts(study: Study, dataset: datasets.Dataset, paths: Paths, out: Path, reporter: Reporter) -> None:
    """Roll surrogates, baselines and classical solvers out from the same initial states.

    Raises:
        UserError: a checkpoint is of other data, or the data do not reach as far as asked.
    """
    true = data.reference(study, dataset, steps=study.evaluation.steps, samples=study.evaluation.samples)
    contestants = []
    for (variant, seed), path in paths.items():
        step: Any = surrogates.load_surrogate(path)
        dataset.require(step.domain, step.channels)
        count = surrogates.parameter_count(step)
        contestants.append(evaluate.from_step(variant, step, "surrogate", seed=seed, parameters=count))
    like = contestants[0].step
    assert like is not None  # a surrogate
    _compete(study, dataset, true, contestants, [baselines.persistence_baseline(like)], out, reporter)


def functions(study: Study, dataset: datasets.Dataset, paths: Paths, out: Path, reporter: Reporter) -> None:
    """Score functions of place and time, which solve one initial state, like rollouts of that state."""
    true = data.reference(study, dataset, steps=study.evaluation.steps, samples=1)
    contestants = []
    for (variant, seed), path in paths.items():
        network = surrogates.load_surrogate(path)
        horizon = surrogates.Facts.from_plain(surrogates.read_header(path)["facts"]).horizon
        asked = float(true.times[-1] - true.times[0])
        if asked > horizon * (1 + 1e-9):
            raise UserError(
                f"{path} covers times up to {horizon:g}, and evaluation.steps asks for {asked:g}. Ask for fewer steps, "
                "or train it anew in another folder."
            )
        count = surrogates.parameter_count(network)
        contestants.append(_function_contestant(variant, network, true, seed=seed, parameters=count))
    _compete(study, dataset, true, contestants, [], out, reporter)


def _function_contestant(
    name: str, network: nn.Module, true: Trajectory, *, seed: int, parameters: int
) -> evaluate.Contestant:
    """A function u(x, t) as a contestant: its states are its values on the data's points at their times."""
    kept = next(network.parameters())
    if isinstance(true.domain, Cloud | Point):
        raise UserError(
            "a function of place and time is judged on the points of a grid or a mesh; got a "
            f"{type(true.domain).__name__}."
        )
    x = true.domain.coordinates(dtype=kept.dtype).unsqueeze(0)
    times = (true.times - true.times[0]).to(kept.dtype)

    def at(time: Tensor) -> Tensor:
        with torch.no_grad():
            return network(x, time.expand_as(x[:, :1]))

    def states(u0: Tensor, steps: int) -> Iterator[Tensor]:
        for k in range(1, steps + 1):
            yield at(times[k]).to(u0.dtype).expand_as(u0)  # all of u0 is the one initial state

    return evaluate.Contestant(
        name, "surrogate", states, lambda u: at(times[1]), seed=seed, parameters=parameters
    )


def _compete(
    study: Study,
    dataset: datasets.Dataset,
    true: Trajectory,
    surrogates_: list[evaluate.Contestant],
    others: list[evaluate.Contestant],
    out: Path,
    reporter: Reporter,
) -> None:
    """Score all contestants, add what the report draws, and save."""
    dt = dataset.dt * study.data.stride
    if study.evaluation.solvers and dataset.manifest and dataset.recipe is None:
        reporter.say(
            f"{dataset.path}: the recipe {dataset.manifest['name']!r} of now is not the one that made it, so no "
            "classical solver takes part; generate the dataset again to have them."
        )
    mean = baselines.mean_of(_training_states(study, dataset), dataset.domain)
    others = [*others, baselines.training_mean(mean), *solvers(study, dataset, true, dt)]
    everyone = [*surrogates_, *others]
    steps = true.data.shape[1] - 1
    numbers = {name: index for index, name in enumerate(dict.fromkeys(c.name for c in everyone))}
    with reporter.task(f"roll out {len(everyone)} contestants", len(numbers)) as task:
        result = evaluate.evaluate(
            everyone,
            true,
            trained_steps=data.trained_steps(study, dataset),
            pde=data.equation(dataset, true),
            floor=data.error_floor(dataset, study.data.stride, steps),
            progress=lambda name, done: task.update(numbers[name], f"{name}: step {done}/{steps}"),
        )
        task.update(len(numbers))
    if study.evaluation.pictures:
        evaluate.add_pictures(result, everyone, true)
        own = data.solver(dataset, true, dt)
        stepping = [c for c in surrogates_ if c.step is not None]
        if stepping:
            evaluate.add_jacobians(result, stepping, true, solver=own)
    evaluate.save(result, out)


def _training_states(study: Study, dataset: datasets.Dataset, most: int = 64) -> Tensor:
    """States of at most `most` training trajectories (B, T, C, *points), for their mean."""
    split = dataset[study.data.train]
    return split.trajectories(slice(0, min(len(split), most))).data


def solvers(
    study: Study, dataset: datasets.Dataset, true: Trajectory, dt: float
) -> list[evaluate.Contestant]:
    """The equation's classical solver on the data's points and on coarser ones; none for unknown equations."""
    pde = data.equation(dataset, true)
    if pde is None or not study.evaluation.solvers:
        return []
    if isinstance(true.domain, Grid):
        return baselines.coarse_grid_solvers(pde, true.domain, dt, factors=study.evaluation.solvers)
    if isinstance(true.domain, Mesh):
        return _mesh_solvers(study, dataset, true.domain, dt)
    return []


def _mesh_solvers(
    study: Study, dataset: datasets.Dataset, mesh: Mesh, dt: float
) -> list[evaluate.Contestant]:
    """The recipe's finite elements with one substep, on its own mesh and on coarser meshes of the region."""
    recipe = dataset.recipe
    assert recipe is not None  # its equation is known
    make = recipe.domain
    coarser = []
    for factor in study.evaluation.solvers:
        if factor > 1 and callable(make):
            # A recipe makes its mesh by the edge length, which a fraction makes longer.
            domain = cast(Callable[[float], Domain], make)(1 / factor)
            if isinstance(domain, Mesh):
                coarser.append(domain)

    def step(on: Mesh) -> Step:
        solver = recipe.solver(recipe.equation(domain=on), on, dt, 1)
        return FunctionStep(solver, dt, on, dataset.channels)

    return baselines.coarse_mesh_solvers(step, mesh, coarser)


def maps(study: Study, dataset: datasets.Dataset, paths: Paths, out: Path, reporter: Reporter) -> None:
    """Score maps from input to target on the test split and on further test sets.

    Raises:
        UserError: a checkpoint is of other fields, or a test set is missing.
    """
    splits = {study.data.test: dataset[study.data.test]} if study.data.test in dataset else {}
    for label, written in study.data.tests.items():
        place = data.expanded(written, study.data.hint)
        further = datasets.open(place)
        splits[label] = further.first
    if not splits:
        raise UserError(
            f"{dataset.path} has no split {study.data.test!r}, and data.tests names no other test set."
        )
    pairs = {label: (split.inputs, split.targets) for label, split in splits.items()}
    contestants = [_mean_map(dataset, study)]
    for (variant, seed), path in paths.items():
        model = surrogates.load_surrogate(path)
        facts = surrogates.Facts.from_plain(surrogates.read_header(path)["facts"])
        for label, split in splits.items():
            _require_fields(facts, split, label)
        count = surrogates.parameter_count(model)
        contestants.insert(
            -1, evaluate_map.MapContestant(variant, "surrogate", _in_parts(model), seed, count)
        )
    with reporter.task("score maps", len(contestants)) as task:
        done = iter(range(1, len(contestants) + 1))
        result = evaluate_map.evaluate_maps(
            contestants, pairs, progress=lambda name: task.update(next(done), name)
        )
    evaluate_map.save(result, out, study.limits)


def _require_fields(facts: surrogates.Facts, split: Any, label: str) -> None:
    found = (tuple(f.name for f in split.input_fields), tuple(f.name for f in split.fields))
    expected = (tuple(f.name for f in facts.inputs), tuple(f.name for f in facts.fields))
    if found != expected:
        raise UserError(
            f"test set {label!r} maps {found[0]} to {found[1]}; the model maps {expected[0]} to {expected[1]}."
        )


def _in_parts(model: nn.Module, size: int = 64) -> Callable[[Tensor], Tensor]:
    """A model applied to at most `size` samples at a time."""
    return lambda a: torch.cat([model(part) for part in a.split(size)])


def _mean_map(dataset: datasets.Dataset, study: Study) -> evaluate_map.MapContestant:
    """The mean target of the training split, resampled where the test set has other points."""
    mean = dataset[study.data.train].targets.double().mean(dim=0, keepdim=True)

    def predict(a: Tensor) -> Tensor:
        size = tuple(a.shape[2:])
        shaped = mean
        if tuple(mean.shape[2:]) != size:
            mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(size)]
            shaped = nn.functional.interpolate(mean, size=size, mode=mode)
        return shaped.expand(len(a), -1, *size).to(a.dtype)

    return evaluate_map.MapContestant("training mean", "baseline", predict, timed=False)
