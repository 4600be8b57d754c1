"""Carry a study out: data, then all trainings and evaluations of all cells in one pool, resumed where they stopped."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from sciml.errors import UserError
from sciml.experiments import jobs
from sciml.experiments.config import Data, as_tree
from sciml.experiments.data import place, prepare
from sciml.experiments.files import write_json, write_text
from sciml.experiments.pool import Done, Event, Failed, Pool, Told
from sciml.experiments.progress import Reporter, Task
from sciml.experiments.run import RunFolder, cores, is_evaluated, pool_of, side_by_side
from sciml.experiments.study.plan import Cell, Plan, folder_of
from sciml.experiments.training import stop_on_interrupt

EVALUATION = 0.2
"""What an evaluation counts in the progress, a training being 1."""


@dataclass(frozen=True)
class Failure:
    """Something that did not succeed.

    Args:
        cell: label of the run.
        stage: "data", "training" or "evaluation".
        message: why.
        variant, seed: of a training.
        details: a traceback, where the fault may be in the code.
    """

    cell: str
    stage: str
    message: str
    variant: str | None = None
    seed: int | None = None
    details: str = ""

    def text(self) -> str:
        """One line."""
        who = self.cell if self.seed is None else f"{self.cell}, {self.variant}, seed {self.seed}"
        return f"{self.stage} of {who}: {' '.join(self.message.split())}"


@dataclass
class Run:
    """A cell under way: where it lies and what is left to do.

    Args:
        cell: what it runs.
        folder: its files.
        data: the dataset's path.
        trainings: (variant, seed) of all its trainings that are complete.
        left: names of the trainings that are not.
        failures: what went wrong in it.
    """

    cell: Cell
    folder: RunFolder
    data: Path | None = None
    trainings: set[tuple[str, int]] = field(default_factory=set)
    left: set[str] = field(default_factory=set)
    failures: list[Failure] = field(default_factory=list)

    def complete(self) -> list[tuple[str, int]]:
        """The complete trainings in the order of the study."""
        study = self.cell.study
        return [(v, s) for v in study.variants for s in study.seeds if (v, s) in self.trainings]


def conduct(
    plan: Plan,
    out: Path,
    data_root: Path,
    reporter: Reporter,
    workers: int | None = None,
    scheduler: str | None = None,
) -> list[Run]:
    """Do everything of a study that is not done; what fails is recorded in its run, and the rest goes on.

    Args:
        plan: what is run.
        out: folder of the study.
        data_root: where generated data lie.
        reporter: says how far the whole is.
        workers: jobs at the same time; as many as there are cores if left out.
        scheduler: address of a Dask scheduler whose workers do the jobs instead.

    Raises:
        UserError: another process works in this folder, or a checkpoint there is of other settings or data.
        KeyboardInterrupt: stopped; what was under way wrote its checkpoints.
    """
    if workers is not None and workers < 1:
        raise UserError(f"--workers is {workers}; expected at least 1.")
    out.mkdir(parents=True, exist_ok=True)
    with alone(out):
        runs = [Run(cell, RunFolder(folder_of(plan, cell, out))) for cell in plan.cells]
        _write_plan(plan, out)
        _sweep(runs)
        _data(runs, data_root, reporter, workers or cores())
        todo = _open(runs)
        waiting = [run for run in runs if not run.left and _to_evaluate(run)]
        if todo or waiting:
            count = min(len(todo) + len(waiting), workers or side_by_side())
            if plan.budget and plan.budget.seconds and scheduler is None and count > cores():
                reporter.say(
                    f"{plan.name}: {count} trainings share {cores()} cores, so that equal wall time is no equal share of "
                    f"them; --workers {cores()} is fair."
                )
            pool = pool_of(count, scheduler)
            try:
                title = f"{plan.name}: {len(todo)} trainings, {len(runs)} runs"
                with reporter.task(title, _UNITS * max(1, len(todo)), share=True) as task:
                    _Conductor(runs, todo, waiting, pool, task).work()
            finally:
                pool.close()
        else:
            reporter.say(f"{plan.name}: all trainings and evaluations are complete")
        failures = [asdict(failure) for run in runs for failure in run.failures]
        write_json(out / "failures.json", failures)
    return runs


_UNITS = 1000


class _Conductor:
    """Hands jobs to a pool and hears how they end."""

    def __init__(
        self,
        runs: Sequence[Run],
        todo: Mapping[str, tuple[Run, jobs.Job]],
        waiting: Sequence[Run],
        pool: Pool,
        task: Task,
    ) -> None:
        self.todo, self.pool, self.task = todo, pool, task
        self.by_name = {f"evaluate {run.cell.label}": run for run in runs}
        self.open: set[str] = set()
        self.parts: dict[str, float] = {}
        self.evaluations = sum(1 for run in runs if run.left) + len(waiting)
        self.ended = {"trainings": 0, "evaluations": 0}
        for name, (_, work) in todo.items():
            pool.submit(name, jobs.train_as_job, (work,))
            self.open.add(name)
        for run in waiting:
            self._evaluate(run)

    def work(self) -> None:
        """Until nothing is left; Ctrl-C stops what is under way, a second one ends it.

        Raises:
            KeyboardInterrupt: it was stopped.
        """
        self._say("")
        stop, told = threading.Event(), False
        # An exception that can come at any line could lose what a job has just told.
        with stop_on_interrupt(stop):
            while self.open:
                if stop.is_set() and not told:
                    self.pool.stop()
                    told = True
                for name, event in self.pool.events(0.5):
                    if not told:
                        self._hear(name, event)
                    elif not isinstance(event, Told):
                        self.open.discard(name)
        if stop.is_set():
            raise KeyboardInterrupt

    def _hear(self, name: str, event: Event) -> None:
        if isinstance(event, Told):
            self.parts[name] = min(1.0, event.done / max(1, event.total))
            self._say(f"{name}: {event.note}" if event.note else name)
            return
        self.open.discard(name)
        self.parts[name] = 1.0
        if name in self.by_name:
            run = self.by_name[name]
            self.ended["evaluations"] += 1
            if isinstance(event, Failed):
                run.failures.append(
                    Failure(run.cell.label, "evaluation", event.message, details=event.details)
                )
        else:
            run, work = self.todo[name]
            self.ended["trainings"] += 1
            if isinstance(event, Done):
                run.trainings.add((work.variant, work.seed))
            else:
                run.failures.append(
                    Failure(
                        run.cell.label, "training", event.message, work.variant, work.seed, event.details
                    )
                )
            run.left.discard(name)
            if not run.left:
                if _to_evaluate(run):
                    self._evaluate(run)
                else:
                    self.evaluations -= 1
        self._say(name)

    def _evaluate(self, run: Run) -> None:
        name = f"evaluate {run.cell.label}"
        _note_trainings(run)
        # Before the trainings that wait: a cell's report is there as soon as it can be.
        self.pool.submit(name, evaluate, (str(run.folder.path), str(run.data), run.complete()), first=True)
        self.open.add(name)

    def _say(self, note: str) -> None:
        done = sum(
            part * (EVALUATION if name in self.by_name else 1.0) for name, part in self.parts.items()
        )
        total = len(self.todo) + EVALUATION * self.evaluations
        ended = (
            f"trained {self.ended['trainings']}/{len(self.todo)}, evaluated {self.ended['evaluations']}/"
            f"{self.evaluations}"
        )
        self.task.update(
            round(_UNITS * done), f"{ended}; {note}" if note else ended, max(1, round(_UNITS * total))
        )


def evaluate(
    tell: Any, stop: Any, folder: str, data: str, trainings: Sequence[tuple[str, int]]
) -> dict[str, Any]:
    """Evaluation and report of a run, as far as they are missing, as a job of a pool."""
    from sciml.experiments import run

    place = RunFolder(Path(folder))
    reporter = _Telling(tell)
    if not is_evaluated(place, trainings):
        run.evaluate(place, reporter, data=Path(data), trainings=trainings)
    run.report(place)
    return {}


class _Telling(Reporter):
    """Passes what happens in a job on as its remarks."""

    def __init__(self, tell: Any) -> None:
        super().__init__(quiet=True)
        self._tell = tell

    @contextlib.contextmanager
    def task(self, title: str, total: int, log: Path | None = None, share: bool = False) -> Iterator[Task]:
        tell = self._tell

        class Passed:
            def update(self, done: int, note: str = "", total_: int | None = None) -> None:
                tell(min(done, total), total + 1, note or title)

        yield Passed()  # type: ignore[misc]


def _data(runs: Sequence[Run], root: Path, reporter: Reporter, workers: int) -> None:
    """Generate what is missing; each dataset once, however many cells read it."""
    wanted: dict[Path, Data] = {}
    for run in runs:
        settings = run.cell.study.data
        where = place(settings, root)
        known = wanted.setdefault(where, settings)
        if (known.recipe, known.samples) != (settings.recipe, settings.samples):
            raise UserError(
                f"two cells make other data in the same folder {where}: {known.recipe} with {known.samples} and "
                f"{settings.recipe} with {settings.samples}. Give one of them a folder of its own by data.path, beside "
                "data.recipe."
            )
    failed: dict[Path, str] = {}
    for where, settings in wanted.items():
        try:
            prepare(settings, root, reporter, workers)
        except UserError as error:
            failed[where] = str(error)
    if failed and len(failed) == len(wanted):
        raise UserError(next(iter(failed.values())))
    for run in runs:
        where = place(run.cell.study.data, root)
        if where in failed:
            run.failures.append(Failure(run.cell.label, "data", failed[where]))
        else:
            run.data = where.resolve()


def _open(runs: Sequence[Run]) -> dict[str, tuple[Run, jobs.Job]]:
    """Make the folders and find out which trainings are complete; returns the others by name.

    Raises:
        UserError: a checkpoint is of other settings or other data.
    """
    todo: dict[str, tuple[Run, jobs.Job]] = {}
    found: list[tuple[Run, jobs.Job, bool]] = []
    for run in runs:
        if run.data is None:
            continue
        study = run.cell.study
        for variant in study.variants:
            for seed in study.seeds:
                path = run.folder.checkpoint(variant, seed).absolute()
                work = jobs.job(study, variant, seed, run.data, path)
                found.append((run, work, jobs.is_done(work, study)))
    for run in runs:  # only now that all checkpoints are known to suit
        if run.data is not None:
            run.folder.open(run.cell.study)
            run.folder.add_provenance(data=str(run.data))
    for run, work, done in found:
        if done:
            run.trainings.add((work.variant, work.seed))
            continue
        name = f"{run.cell.label}, {work.name}" if len(run.cell.study.variants) > 1 else ""
        name = name or f"{run.cell.label}, seed {work.seed}"
        todo[name] = (run, work)
        run.left.add(name)
    return todo


def _to_evaluate(run: Run) -> bool:
    """Whether a run has something to evaluate that was not, or no report."""
    trainings = run.complete()
    if not trainings:
        return False
    return (
        not is_evaluated(run.folder, trainings, run.cell.study)
        or not (run.folder.path / "report.html").is_file()
    )


def _note_trainings(run: Run) -> None:
    """Write what the trainings took into the run's provenance, from their checkpoints."""
    spent = {
        f"{variant}, seed {seed}": jobs.spent(run.folder.checkpoint(variant, seed))
        for variant, seed in run.complete()
    }
    run.folder.add_provenance(trainings=spent)


def _write_plan(plan: Plan, out: Path) -> None:
    """The study with all its cells as they are run, for the record."""
    content = {
        "name": plan.name,
        "title": plan.title,
        "axes": plan.axes,
        "budget": None if plan.budget is None else asdict(plan.budget),
        "baseline": plan.baseline,
        "comparison": asdict(plan.comparison),
        "cells": {cell.label: {"choice": cell.choice, "study": as_tree(cell.study)} for cell in plan.cells},
    }
    write_text(out / "study.yaml", yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=110))


def _sweep(runs: Sequence[Run]) -> None:
    """Remove what a process that was killed left under temporary names; nobody else works here."""
    for run in runs:
        for pattern in (".*.part", "checkpoints/*/.*.part", "figures/.*.part"):
            for path in run.folder.path.glob(pattern):
                path.unlink(missing_ok=True)


@contextlib.contextmanager
def alone(out: Path) -> Iterator[None]:
    """Hold the folder of a study, so that no second process works in it.

    Raises:
        UserError: another one does.
    """
    try:
        import fcntl
    except ImportError:  # no such locks on this system
        yield
        return
    handle = os.open(out / ".lock", os.O_CREAT | os.O_RDWR, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"another `sciml study` works in {out}; wait for it, or give this one another folder with --out."
            ) from error
        except OSError:
            pass  # a file system without locks
        yield
    finally:
        os.close(handle)
