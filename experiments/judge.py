"""Contestants of a run, from its checkpoints and its data, handed to the evaluation of each kind of study."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

import sciml.datasets as datasets
from sciml.constraints import Constraint
from sciml.domains import Cloud, Domain, Grid, Mesh, Point
from sciml.errors import UserError
from sciml.experiments import (
    baselines,
    components,
    contestants,
    data,
    evaluate,
    evaluate_map,
    storage,
    surrogates,
)
from sciml.experiments.config import Study, as_tree
from sciml.experiments.evaluate import Diary, invariants_of
from sciml.experiments.laboratory import PARTS, add_laboratory
from sciml.experiments.pictures import add_pictures
from sciml.experiments.progress import Reporter
from sciml.experiments.reference import Reference, from_split
from sciml.experiments.tally import Invariants
from sciml.experiments.user_metrics import load_metrics
from sciml.odes.base import ODE
from sciml.pdes.base import PDE
from sciml.step import FunctionStep, Step

Paths = Mapping[tuple[str, int], Path]
"""(variant, seed) -> checkpoint"""


def rollouts(study: Study, dataset: datasets.Dataset, paths: Paths, out: Path, reporter: Reporter) -> None:
    """Roll surrogates, baselines and classical solvers out from the same initial states.

    Raises:
        UserError: a checkpoint is of other data, or there are fewer samples than asked for.
    """
    loaded: dict[tuple[str, int], Any] = {
        key: surrogates.load_surrogate(path) for key, path in paths.items()
    }
    # All begin where the longest memory does, so that they are asked for the same.
    before = max(getattr(step, "history", 1) for step in loaded.values()) - 1
    like = next(iter(loaded.values()))
    for place, judged, data_of_it in _arenas(study, dataset, out):
        field = _Field.of(judged, data_of_it, judged.evaluation.samples, before)
        entrants = []
        for (variant, seed), step in loaded.items():
            data_of_it.require(step.domain, step.channels)
            count = surrogates.parameter_count(step)
            if hasattr(step, "history"):
                entrants.append(_carrying(variant, step, field, seed=seed, parameters=count))
            else:
                entrants.append(
                    contestants.from_step(variant, step, "surrogate", seed=seed, parameters=count)
                )
        others = [baselines.persistence_baseline(like)]
        _compete(judged, field, dataset, entrants, others, paths, place, reporter)


def _arenas(
    study: Study, dataset: datasets.Dataset, out: Path
) -> Iterator[tuple[Path, Study, datasets.Dataset]]:
    """Folder, study and dataset of each evaluation: the test split, then the further test sets without pictures."""
    yield out, study, dataset
    for label, further in data.tests(study.data, dataset.path).items():
        if further.static:
            raise UserError(
                f"data.tests: {label!r} ({further.path}) holds pairs; a rollout needs trajectories."
            )
        if abs(further.dt - dataset.dt) > 1e-6 * dataset.dt:
            raise UserError(
                f"data.tests: {label!r} ({further.path}) has a frame every {further.dt:g}, {dataset.path} one every "
                f"{dataset.dt:g}; a surrogate knows one time step."
            )
        split = study.data.test if study.data.test in further else further.first.name
        yield (
            storage.test_folder(out, label),
            replace(
                study,
                data=replace(study.data, test=split),
                evaluation=replace(study.evaluation, pictures=False, laboratory=0),
            ),
            further,
        )


def _carrying(
    name: str, surrogate: Any, field: _Field, *, seed: int, parameters: int
) -> contestants.Contestant:
    """A surrogate that carries more along than a state, from the frames up to the initial one."""
    first = field.before + 1 - surrogate.history

    def course(samples: slice) -> contestants.Course:
        def begin(u0: Tensor) -> Tensor:
            found: Tensor = surrogate.begin(field.stored(samples, first, field.before + 1))
            return found

        return contestants.Course(surrogate.advance, begin, surrogate.show)

    return contestants.Contestant(name, "surrogate", course, seed, parameters)


def functions(study: Study, dataset: datasets.Dataset, paths: Paths, out: Path, reporter: Reporter) -> None:
    """Score functions of place and time, which solve one initial state, like rollouts of that state."""
    field = _Field.of(study, dataset, 1)
    steps = study.evaluation.steps or field.reference.reach
    entrants = []
    for (variant, seed), path in paths.items():
        network = surrogates.load_surrogate(path)
        horizon = surrogates.Facts.from_plain(surrogates.read_header(path)["facts"]).horizon
        asked = steps * field.reference.dt
        if asked > horizon * (1 + 1e-9):
            raise UserError(
                f"{path} covers times up to {horizon:g}, and evaluation.steps asks for {asked:g}. Ask for fewer steps, "
                "or train it anew in another folder."
            )
        count = surrogates.parameter_count(network)
        entrants.append(
            _function_contestant(variant, network, field.reference, seed=seed, parameters=count)
        )
    _compete(study, field, dataset, entrants, [], paths, out, reporter)


def _function_contestant(
    name: str, network: nn.Module, reference: Reference, *, seed: int, parameters: int
) -> contestants.Contestant:
    """A function u(x, t) as a contestant: what it carries along is the number of steps."""
    kept = next(network.parameters())
    if isinstance(reference.domain, Cloud | Point):
        raise UserError(
            "a function of place and time is judged on the points of a grid or a mesh; got a "
            f"{type(reference.domain).__name__}."
        )
    x = reference.domain.coordinates(dtype=kept.dtype).unsqueeze(0)

    def at(steps: Tensor) -> Tensor:
        with torch.no_grad():
            time = (steps[:1].double() * reference.dt).to(
                kept.dtype
            )  # all samples are the one initial state
            found: Tensor = network(x, time.expand_as(x[:, :1]))
            return found.expand(len(steps), *found.shape[1:])

    course = contestants.Course(
        lambda steps: steps + 1, lambda u0: torch.zeros(len(u0), dtype=torch.int64), at
    )
    return contestants.Contestant(
        name, "surrogate", lambda samples: course, seed, parameters, cost_of=lambda steps: at(steps + 1)
    )


@dataclass(frozen=True)
class _Field:
    """The data that contestants meet on.

    Args:
        study: how they are read and judged.
        dataset: where they come from.
        split: the test split.
        reference: its first samples as the truth, and the solver that goes on where they end.
        before: stored frames before the initial state.
        stored: (samples, first frame, one past the last) of all that is stored -> states (b, n, C, *points).
    """

    study: Study
    dataset: datasets.Dataset
    split: datasets.Split
    reference: Reference
    before: int
    stored: Callable[[slice, int, int], Tensor]

    @classmethod
    def of(cls, study: Study, dataset: datasets.Dataset, samples: int | None, before: int = 0) -> _Field:
        """The test split of a study.

        Raises:
            UserError: it has fewer samples.
        """
        split = dataset[study.data.test]
        if samples is not None and samples > len(split):
            raise UserError(
                f"evaluation.samples is {samples}, but split {study.data.test!r} of {dataset.path} has {len(split)} "
                "trajectories."
            )
        stride = study.data.stride
        truth = from_split(
            split,
            samples or len(split),
            dt=dataset.dt * stride,
            stride=stride,
            onward=data.onward(dataset, split, stride),
        )
        begun = truth.after(before) if before else truth
        return cls(study, dataset, split, begun, before, truth.frames)

    def equation(self, samples: slice, domain: Domain | None = None) -> PDE | ODE | None:
        """The equation with the parameters of some samples, on the stored points or others; None where unknown."""
        return data.system(self.dataset, self._parameters(samples), domain)

    def _parameters(self, samples: slice) -> dict[str, Tensor]:
        count = self.reference.samples
        return {name: values[:count][samples] for name, values in self.split.parameters.items()}

    def invariants(self, samples: slice) -> Invariants | None:
        """State -> invariants by name; None for unknown equations."""
        return invariants_of(self.equation(samples), self.reference.domain)

    def solver(self, samples: slice, parts: int = 1) -> Step | None:
        """The data's own solver on its own points with a part of the step; None where the recipe is not known."""
        recipe, equation = self.dataset.recipe, self.equation(samples)
        if recipe is None or equation is None:
            return None
        dt, domain = self.reference.dt / parts, self.reference.domain
        return FunctionStep(recipe.solver(equation, domain, dt, None), dt, domain, self.dataset.channels)


def _compete(
    study: Study,
    field: _Field,
    trained: datasets.Dataset,
    surrogates_: list[contestants.Contestant],
    others: list[contestants.Contestant],
    paths: Paths,
    out: Path,
    reporter: Reporter,
) -> None:
    """Score all contestants, which were trained on `trained`, add what the report draws, and save."""
    dataset, reference, asked = field.dataset, field.reference, study.evaluation
    if asked.solvers and dataset.manifest and dataset.recipe is None:
        reporter.say(
            f"{dataset.path}: the recipe {dataset.manifest['name']!r} of now is not the one that made it, so no "
            "classical solver takes part; generate the dataset again to have them."
        )
    steps = asked.steps or reference.reach
    if reference.known(steps) < steps:
        reporter.say(
            f"{dataset.path} reaches {reference.reach} steps and its equation is not known: beyond them there is no "
            "truth, only statistics and stability."
        )
    mean = baselines.mean_of(_training_states(study, trained), dataset.domain)
    everyone = [*surrogates_, *others, baselines.training_mean(mean), *solvers(field, reporter.say)]
    floor = data.error_floor(dataset, study.data.stride, min(steps, reference.reach))
    diary = Diary(out / "evaluation.partial", _fingerprint(study, dataset, paths))
    with reporter.task(f"roll out {len(everyone)} contestants", steps) as task:
        result = evaluate.evaluate(
            everyone,
            reference,
            steps=steps,
            trained_steps=data.trained_steps(study, trained),
            invariants=field.invariants,
            floor=floor,
            metrics=load_metrics(asked.metrics),
            violations=_violations(asked.violations, reference.domain),
            chunk=asked.chunk,
            diary=diary,
            progress=lambda done, total, note: task.update(done, note, total),
        )
    if asked.pictures:
        add_pictures(result, everyone, reference)
    stepping = [c for c in surrogates_ if c.step is not None]
    if asked.laboratory and stepping:
        own = field.solver(slice(0, 1))
        parts = len(PARTS) * (len({c.name for c in stepping}) + (own is not None))
        with reporter.task("laboratory", parts) as task:
            add_laboratory(
                result,
                stepping,
                reference,
                solver=own,
                half=field.solver(slice(0, 1), 2),
                states=asked.laboratory,
                progress=task.update,
            )
            task.update(parts)
    storage.save(result, out)
    diary.close()


def _violations(asked: Mapping[str, components.Component], domain: Domain) -> dict[str, Constraint]:
    """The constraints that states are measured by, made for a domain."""
    facts = surrogates.of_domain(domain)
    return {
        name: components.build(component, f"evaluation.violations.{name}", "constraint", facts)
        for name, component in asked.items()
    }


def _fingerprint(study: Study, dataset: datasets.Dataset, paths: Paths) -> str:
    """Changes when the numbers of an evaluation would."""
    stamps = [[str(path), path.stat().st_mtime_ns] for path in paths.values()]
    text = json.dumps([as_tree(study), data.identity(dataset.path), stamps], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _training_states(study: Study, dataset: datasets.Dataset, most: int = 64) -> Tensor:
    """States of at most `most` training trajectories (B, T, C, *points), for their mean."""
    split = dataset[study.data.train]
    found: Tensor = split.trajectories(slice(0, min(len(split), most))).data
    return found


def solvers(field: _Field, say: Callable[[str], None]) -> list[contestants.Contestant]:
    """The equation's classical solver on the data's points and on coarser ones; none for unknown equations."""
    factors, domain, dt = field.study.evaluation.solvers, field.reference.domain, field.reference.dt
    recipe = field.dataset.recipe
    if recipe is None or not isinstance(field.equation(slice(None)), PDE) or not factors:
        return []
    if isinstance(domain, Grid):

        def equation(samples: slice, grid: Grid) -> PDE:
            found = field.equation(samples, grid)
            assert isinstance(found, PDE)  # it is the same for other samples
            return found

        def own(pde: PDE, grid: Grid, dt: float) -> Callable[[Tensor], Tensor]:
            return recipe.solver(pde, grid, dt, None)

        return baselines.coarse_grid_solvers(equation, domain, dt, factors=factors, own=own, say=say)
    if isinstance(domain, Mesh):
        return _mesh_solvers(field, domain)
    return []


def _mesh_solvers(field: _Field, mesh: Mesh) -> list[contestants.Contestant]:
    """The recipe's solver on its own mesh and on coarser meshes of the region, with one implicit step where it takes such."""
    recipe, dt = field.dataset.recipe, field.reference.dt
    assert recipe is not None  # its equation is known
    make = recipe.domain
    coarser = []
    for factor in field.study.evaluation.solvers:
        if factor > 1 and callable(make):
            # A recipe makes its mesh by the edge length, which a fraction makes longer.
            domain = cast(Callable[[float], Domain], make)(1 / factor)
            if isinstance(domain, Mesh):
                coarser.append(domain)

    def step(samples: slice, on: Mesh) -> Callable[[Tensor], Tensor]:
        equation = field.equation(samples, on)
        solver = recipe.solver(equation, on, dt, None)
        # Explicit finite volumes choose their steps by the state and say None.
        return solver if getattr(solver, "substeps", None) is None else recipe.solver(equation, on, dt, 1)

    return baselines.coarse_mesh_solvers(step, mesh, coarser)


def maps(study: Study, dataset: datasets.Dataset, paths: Paths, out: Path, reporter: Reporter) -> None:
    """Score maps from input to target on the test split and on further test sets.

    Raises:
        UserError: a checkpoint is of other fields, or a test set is missing.
    """
    splits = {study.data.test: dataset[study.data.test]} if study.data.test in dataset else {}
    for label, further in data.tests(study.data, dataset.path).items():
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
