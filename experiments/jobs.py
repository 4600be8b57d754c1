"""One training: a variant with a seed. Run here, in a process of its own, or on a cluster's worker."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import sciml.datasets as datasets
from sciml.errors import UserError
from sciml.experiments import closed_form, components, data, surrogates
from sciml.experiments.config import Study, TrainingSettings, Variant, as_tree, read_study
from sciml.experiments.online import OnlineSolver
from sciml.experiments.pool import Done, Failed, Pool, Told
from sciml.experiments.progress import Reporter, Task
from sciml.experiments.training import Interrupted, Tell, fit, stop_on_interrupt

# Settings that change how a training is carried out, but not what it computes.
INCIDENTAL = ("checkpoint_every", "log_every", "curvature_every", "threads", "accelerator")


@dataclass(frozen=True)
class Job:
    """One training of a study; plain enough to be sent to another process."""

    tree: dict[str, Any]
    variant: str
    seed: int
    data: str
    checkpoint: str

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.variant}, seed {self.seed}"


def job(study: Study, variant: str, seed: int, data_path: Path, checkpoint: Path) -> Job:
    """A job of a study."""
    return Job(as_tree(study), variant, seed, str(data_path), str(checkpoint))


def essential(settings: TrainingSettings) -> dict[str, Any]:
    """The settings that decide what a training computes."""
    return {name: value for name, value in asdict(settings).items() if name not in INCIDENTAL}


def header(study: Study, variant: str, seed: int, facts: surrogates.Facts, made_of: str) -> dict[str, Any]:
    """What the job's checkpoint holds beside weights and states."""
    return {
        **surrogates.header(study.variants[variant], variant, facts, seed),
        "settings": essential(study.settings(variant)),
        "data": made_of,
    }


def is_done(work: Job, study: Study | None = None) -> bool:
    """Whether the job's checkpoint is there and complete; `study` saves reading it from the job's tree again.

    Raises:
        UserError: it is of other settings, or of other data.
    """
    path = Path(work.checkpoint)
    if not path.is_file():
        return False
    study = study or read_study(work.tree, work.name)
    found = surrogates.read_header(path)
    expected = {
        "variant": asdict(study.variants[work.variant]),
        "settings": essential(study.settings(work.variant)),
    }
    # A setting that the checkpoint's version did not know had what is now its default.
    default = {
        "variant": asdict(Variant(study.variants[work.variant].network)),
        "settings": asdict(TrainingSettings()),
    }
    known = {part: {**default[part], **found.get(part, {})} for part in expected}
    changed = [
        f"{part}.{name} was {known[part][name]!r} and is now {value!r}"
        for part, values in expected.items()
        for name, value in values.items()
        if known[part][name] != value and name != "training"
    ]
    if changed:
        raise UserError(
            f"{path} was trained with other settings: {'; '.join(changed)}. Give the run another folder with "
            "--out, or remove the checkpoint to train anew."
        )
    identity = data.identity(Path(work.data), study.data.noise)
    if found["data"] != identity:
        raise UserError(
            f"{path} was trained on other data ({found['data']}) than {work.data} ({identity}). Give the run "
            "another folder with --out, or remove the checkpoint to train anew."
        )
    return bool(found["updates"] >= found["total"])


def spent(checkpoint: Path) -> dict[str, Any]:
    """What a training took up to its checkpoint: updates, seconds, cpu_seconds and memory in bytes.

    Raises:
        UserError: there is no checkpoint, or it cannot be read.
    """
    content = surrogates.read_header(checkpoint)
    training = content["training"]
    return {
        "updates": content["updates"],
        "seconds": training["seconds"],
        **training.get("spent", {}),
    }


def check(study: Study, data_path: Path) -> None:
    """Make every variant's surrogate and objective once, so that what does not fit the data stops a run before it starts.

    Raises:
        UserError: one of them does not.
    """
    dataset = data.open_dataset(study.data, data_path)
    facts = data.facts(study, dataset)
    for name, variant in study.variants.items():
        surrogate = surrogates.build(variant, facts, seed=study.seeds[0], name=name)
        if not closed_form.is_fitted_at_once(surrogate):
            _objective(study, name, study.seeds[0], dataset, facts)


def _objective(
    study: Study, name: str, seed: int, dataset: datasets.Dataset, facts: surrogates.Facts
) -> tuple[Any, tuple[Tensor, Tensor] | None]:
    """A variant's objective, and mean and standard deviation where it acts on normalised states."""
    variant = study.variants[name]
    where = f"variants.{name}.objective"
    given = facts.arguments("objective")
    equation = data.equation(dataset)
    if equation is not None:
        given["pde"] = equation
    elif dataset.recipe is not None and "pde" in components.needed(variant.objective, where, "objective"):
        varying = dataset.recipe.varying
        why = f"differs between samples in {', '.join(varying)}" if varying else "is none in time"
        raise UserError(
            f"{where} asks for the equation of {dataset.path}, which {why}; take data of one equation in time, or an "
            "objective that does without."
        )
    units = (facts.mean, facts.std) if variant.normalized and study.kind == "rollout" else None
    given["units"] = units
    if facts.recipe is not None and study.kind == "rollout":
        given["solver"] = OnlineSolver(facts.recipe, facts.domain, facts.dt, units=units)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 1)
        objective = components.build(variant.objective, where, "objective", given)
    return objective, units


def train(work: Job, tell: Tell | None = None, stop: threading.Event | None = None) -> dict[str, Any]:
    """Do a job, or what is left of it; returns updates, loss and seconds.

    One thread unless the settings say otherwise, so that the result does not depend on how many jobs run
    beside it.

    Raises:
        Interrupted: stopped before the end.
        UserError: data, settings and checkpoint do not go together, or the training fails.
    """
    study = read_study(work.tree, work.name)
    settings = study.settings(work.variant)
    variant = study.variants[work.variant]
    torch.set_num_threads(settings.threads or 1)
    dataset = data.open_dataset(study.data, Path(work.data))
    facts = data.facts(study, dataset)
    surrogate = surrogates.build(variant, facts, seed=work.seed, name=work.variant)
    made_of = data.identity(Path(work.data), study.data.noise)
    known = header(study, work.variant, work.seed, facts, made_of)
    if closed_form.is_fitted_at_once(surrogate):
        states, place = data.training_states(study, dataset), Path(work.checkpoint)
        return closed_form.fit_at_once(surrogate, states, place, header=known, seed=work.seed)
    objective, units = _objective(study, work.variant, work.seed, dataset, facts)
    windows = data.windows(study, dataset, getattr(objective, "horizon", 1))
    outcome = fit(
        surrogate,
        objective,
        windows,
        settings,
        Path(work.checkpoint),
        header=known,
        seed=work.seed,
        units=units,
        tell=tell,
        stop=stop,
    )
    return {"updates": outcome.updates, "loss": outcome.loss, "seconds": outcome.seconds}


def _told(task: Task) -> Callable[[int, int, str], None]:
    return lambda done, total, note: task.update(done, note, total)


def train_here(jobs: Sequence[Job], reporter: Reporter) -> dict[str, dict[str, Any]]:
    """Do jobs one after another in this process."""
    results = {}
    for work in jobs:
        updates, known = _updates(work)
        with reporter.task(f"train {work.name}", updates, share=not known) as task:
            results[work.name] = train(work, _told(task))
    return results


def train_in_pool(jobs: Sequence[Job], pool: Pool, reporter: Reporter) -> dict[str, dict[str, Any]]:
    """Do jobs side by side; the first that fails stops the others, which write their checkpoints.

    Raises:
        UserError: a job failed.
        Interrupted: Ctrl-C; every job under way wrote its checkpoint.
    """
    results: dict[str, dict[str, Any]] = {}
    expected = {work.name: _updates(work) for work in jobs}
    totals = {name: updates for name, (updates, _) in expected.items()}
    known = all(known for _, known in expected.values())
    updates: dict[str, int] = {}
    failed: Failed | None = None
    left, stop = set(totals), threading.Event()
    title = f"train {len(jobs)} surrogates, {pool.size} at a time"
    try:
        with (
            reporter.task(title, sum(totals.values()), share=not known) as task,
            stop_on_interrupt(stop),
        ):
            for work in jobs:
                pool.submit(work.name, train_as_job, (work,))
            while left:
                if stop.is_set() and failed is None:
                    failed = Failed("stopped; the same command goes on from the checkpoints", stopped=True)
                    pool.stop()
                for name, event in pool.events(0.5):
                    if isinstance(event, Told):
                        updates[name], totals[name] = event.done, event.total
                        task.update(sum(updates.values()), f"{name}: {event.note}", sum(totals.values()))
                        continue
                    left.discard(name)
                    if isinstance(event, Done):
                        results[name] = event.result
                    elif failed is None:
                        failed = Failed(f"{name}: {event.message}", event.details, event.stopped)
                        pool.stop()
            task.update(sum(totals.values()))
    finally:
        pool.close()
    if failed is not None:
        raise Interrupted(failed.message) if failed.stopped else UserError(failed.message + failed.details)
    return results


def train_as_job(tell: Tell, stop: threading.Event, work: Job) -> dict[str, Any]:
    """A training as a job of a pool."""
    return train(work, tell, stop)


def _updates(work: Job) -> tuple[int, bool]:
    """Updates that a job is expected to do, until it says how many they are, and whether they are known before."""
    settings = read_study(work.tree, work.name).settings(work.variant)
    return settings.updates, settings.epochs is None and settings.seconds is None
