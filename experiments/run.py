"""A run: data, training of every variant and seed, evaluation, report, all under one folder."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from sciml.errors import UserError
from sciml.experiments.config import EvaluationSettings, Study, as_tree, read_study, read_yaml
from sciml.experiments.files import write_json, write_text
from sciml.experiments.progress import Reporter

if TYPE_CHECKING:
    from sciml.experiments.pool import Pool

PACKAGES = (
    "sciml",
    "torch",
    "lightning",
    "numpy",
    "scipy",
    "h5py",
    "neuraloperator",
    "torch-geometric",
    "numba",
)


@dataclass(frozen=True)
class RunFolder:
    """Where the files of a run lie: config.yaml, checkpoints/, provenance.json and what evaluation adds."""

    path: Path

    def checkpoint(self, variant: str, seed: int) -> Path:
        """Checkpoint of one variant and seed; its history lies beside it as .csv."""
        return self.path / "checkpoints" / variant / f"seed-{seed}.pt"

    def study(self) -> Study:
        """The resolved study.

        Raises:
            UserError: this is no run folder.
        """
        config = self.path / "config.yaml"
        if not config.is_file():
            raise UserError(
                f"{self.path} is no run folder: it has no config.yaml. Expected a folder that `sciml run` or "
                "`sciml train` made, such as runs/burgers."
            )
        return read_study(read_yaml(config), str(config))

    def provenance(self) -> dict[str, Any]:
        """What is known of how the run came about; empty before it began."""
        path = self.path / "provenance.json"
        return json.loads(path.read_text()) if path.is_file() else {}

    def add_provenance(self, **entries: Any) -> None:
        """Add entries to provenance.json; mappings are merged one level deep."""
        known = self.provenance()
        for name, value in entries.items():
            if isinstance(value, Mapping) and isinstance(known.get(name), dict):
                known[name] = {**known[name], **value}
            else:
                known[name] = value
        write_json(self.path / "provenance.json", known)

    def open(self, study: Study) -> None:
        """Make the folder and write config.yaml and the machine's part of the provenance."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_text(
            self.path / "config.yaml",
            yaml.safe_dump(as_tree(study), sort_keys=False, allow_unicode=True, width=110),
        )
        self.add_provenance(**machine(), seeds=study.seeds)


def machine() -> dict[str, Any]:
    """Versions, commit and computer."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "versions": versions,
        "commit": commit(),
        "machine": {
            "system": platform.platform(),
            "processor": platform.processor() or platform.machine(),
            "cores": cores(),
        },
    }


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def commit() -> str | None:
    """Commit of the source tree, with "+" if it was changed; None outside one."""
    here = Path(__file__).parent
    try:
        head, changed = (
            subprocess.run(
                ["git", "-C", str(here), *arguments], capture_output=True, text=True, check=True, timeout=10
            ).stdout.strip()
            for arguments in (("rev-parse", "HEAD"), ("status", "--porcelain", "--untracked-files=no"))
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return head + ("+" if changed else "")


def run(
    study: Study,
    folder: RunFolder,
    data_root: Path,
    reporter: Reporter,
    workers: int | None = None,
    scheduler: str | None = None,
) -> Path:
    """Everything that is missing: data, trainings, evaluation, report. Returns the report's path."""
    began = time.monotonic()
    data = train(study, folder, data_root, reporter, workers, scheduler)
    if not is_evaluated(folder, study=study):
        evaluate(folder, reporter, data=data)
    with reporter.task("report", 1) as task:
        path = report(folder)
        task.update(1)
    folder.add_provenance(seconds={"run": round(time.monotonic() - began, 1)})
    return path


def is_evaluated(
    folder: RunFolder,
    trainings: Collection[tuple[str, int]] | None = None,
    study: Study | None = None,
) -> bool:
    """Whether the run's evaluation is there and is that of its settings and of these trainings as they are now.

    Args:
        folder: the run.
        trainings: (variant, seed) of those evaluated, all if left out.
        study: what it runs, read from its configuration if left out.
    """
    known = folder.provenance().get("evaluated")
    if known is None or not (folder.path / "summary.json").is_file():
        return False
    study = study or folder.study()
    return bool(known == _fingerprint(study, folder, _all(study) if trainings is None else trainings))


def _all(study: Study) -> list[tuple[str, int]]:
    return [(v, s) for v in study.variants for s in study.seeds]


def _fingerprint(study: Study, folder: RunFolder, trainings: Collection[tuple[str, int]]) -> str:
    """Changes when what an evaluation depends on changes."""
    files = [folder.checkpoint(v, s) for v, s in trainings]
    stamps = [[str(p.relative_to(folder.path)), p.stat().st_mtime_ns] for p in files if p.is_file()]
    text = json.dumps([as_tree(study), stamps], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def train(
    study: Study,
    folder: RunFolder,
    data_root: Path,
    reporter: Reporter,
    workers: int | None = None,
    scheduler: str | None = None,
) -> Path:
    """Generate what is missing and train every variant with every seed; returns the dataset's path.

    Args:
        study: what is trained.
        folder: receives configuration, checkpoints and provenance.
        data_root: where generated data lie.
        reporter: says how far it is.
        workers: processes that train at the same time; as many as there are cores if left out.
        scheduler: address of a Dask scheduler whose workers train instead.

    Raises:
        UserError: the data or a checkpoint do not suit the study.
        Interrupted: stopped; all checkpoints are complete.
    """
    from sciml.experiments import jobs
    from sciml.experiments.data import prepare

    if workers is not None and workers < 1:
        raise UserError(f"--workers is {workers}; expected at least 1.")
    began = time.monotonic()
    data = prepare(study.data, data_root, reporter, workers or cores())
    prepared = time.monotonic()
    every = [
        jobs.job(study, variant, seed, data.absolute(), folder.checkpoint(variant, seed).absolute())
        for variant in study.variants
        for seed in study.seeds
    ]
    todo = [work for work in every if not jobs.is_done(work, study)]
    folder.open(study)
    folder.add_provenance(data=str(data.resolve()), seconds={"data": round(prepared - began, 1)})
    if not todo:
        reporter.say(f"{study.name}: all {len(every)} trainings are complete")
        return data
    if len(study.variants) > 1:  # a single one stops before its first update anyway
        jobs.check(study, data)
    count = min(len(todo), workers or side_by_side())
    if scheduler is not None or count > 1:
        done = jobs.train_in_pool(todo, pool_of(count, scheduler), reporter)
    else:
        done = jobs.train_here(todo, reporter)
    folder.add_provenance(trainings=done, seconds={"training": round(time.monotonic() - prepared, 1)})
    return data


def pool_of(count: int, scheduler: str | None = None) -> Pool:
    """Where jobs are done: `count` processes here, or the workers of a Dask scheduler at an address."""
    if scheduler is not None:
        from sciml.experiments.cluster import Cluster

        return Cluster(scheduler)
    from sciml.experiments.pool import Processes

    return Processes(count)


def side_by_side() -> int:
    """How many trainings run at once unless told: one per core, or one where an accelerator does the work."""
    import torch

    return 1 if torch.cuda.is_available() or torch.backends.mps.is_available() else cores()


def evaluate(
    folder: RunFolder,
    reporter: Reporter,
    data: Path | None = None,
    evaluation: EvaluationSettings | None = None,
    trainings: Collection[tuple[str, int]] | None = None,
) -> None:
    """Roll out and score every trained surrogate of a run; writes summary.json, metrics.csv, evaluation.npz.

    Args:
        folder: the run.
        reporter: says how far it is.
        data: another dataset than the run's own.
        evaluation: other settings than the study's.
        trainings: (variant, seed) of the surrogates, all if left out.

    Raises:
        UserError: a checkpoint is missing or not complete, or the data do not suit the surrogates.
    """
    from sciml.experiments import judge
    from sciml.experiments.data import open_dataset

    began = time.monotonic()
    study = folder.study()
    known = folder.provenance().get("data")
    # An evaluation of other data or settings is none that the run could go on from.
    own = evaluation in (None, study.evaluation)
    own = own and (data is None or known is None or data.resolve() == Path(str(known)).resolve())
    if evaluation is not None:
        study = replace(study, evaluation=evaluation)
    if data is None and known is None:
        raise UserError(f"{folder.path} does not say which data it was trained on; give them with --data.")
    dataset = open_dataset(study.data, data or Path(str(known)))
    wanted = _all(study) if trainings is None else trainings
    paths = {(v, s): folder.checkpoint(v, s) for v, s in wanted}
    missing = [path for path in paths.values() if not path.is_file()]
    if missing:
        raise UserError(
            f"{missing[0]} is not there ({len(missing)} of {len(paths)} trainings are missing); run "
            f"`sciml train {folder.path}` first."
        )
    import torch

    threads = torch.get_num_threads()
    # One thread: costs then compare as CPU seconds, and small fields gain nothing from more.
    torch.set_num_threads(1)
    try:
        {"rollout": judge.rollouts, "map": judge.maps, "pinn": judge.functions}[study.kind](
            study, dataset, paths, folder.path, reporter
        )
    finally:
        torch.set_num_threads(threads)
    folder.add_provenance(
        seconds={"evaluation": round(time.monotonic() - began, 1)},
        evaluated=_fingerprint(study, folder, wanted) if own else None,
    )


def report(folder: RunFolder) -> Path:
    """Write the run's report.html from what evaluation left; returns its path.

    Raises:
        UserError: the run was not evaluated.
    """
    from sciml.experiments import data
    from sciml.experiments.report.map import write_map_report
    from sciml.experiments.report.rollout import write_rollout_report

    study = folder.study()
    if not (folder.path / "summary.json").is_file():
        raise UserError(f"{folder.path} has no summary.json; run `sciml evaluate {folder.path}` first.")
    provenance = folder.provenance()
    dataset = data.open_dataset(study.data, Path(str(provenance["data"])))
    trainings = provenance.get("trainings", {})
    lead = "Trained: " + "; ".join(
        f"{name} in {entry['seconds']:.0f} s, {entry['updates']} updates"
        for name, entry in trainings.items()
    )
    told: dict[str, Any] = {
        "title": study.title,
        "lead": lead if trainings else "",
        "settings": as_tree(study),
        "provenance": provenance,
        "dataset": data.describe(dataset, study),
    }
    if study.kind == "map":
        return write_map_report(folder.path, **told)
    return write_rollout_report(
        folder.path, domain=dataset[study.data.test].domain, references=study.references or None, **told
    )


def compare(folders: Sequence[RunFolder], out: Path) -> Path:
    """One page that sets several runs side by side; returns its path.

    Raises:
        UserError: a run was not evaluated.
    """
    from sciml.experiments.report.rollout import compare as write

    for folder in folders:
        folder.study()
    return write([folder.path for folder in folders], out)


COLUMNS = {
    "nrmse_1": "nRMSE step 1",
    "nrmse_trained": "trained horizon",
    "nrmse_last": "last step",
    "correlation_time": "corr. time",
    "blown_up": "blown up",
    "cost_seconds_per_step_and_sample": "CPU s/step",
    "parameters": "parameters",
}
"""Columns of a rollout's table on a terminal; the report has all of them."""


def summary_text(numbers: Mapping[str, Any]) -> str:
    """The table and the verdicts of a summary as text for a terminal."""
    from sciml.experiments.tally import WITHOUT_TRUTH
    from sciml.experiments.verdict import in_words

    rows = numbers["table"]
    rolled = any("nrmse_1" in row for row in rows)
    wanted = [key for key in COLUMNS if any(row.get(key) is not None for row in rows)] if rolled else []
    wanted += [f"{name}_last" for name in numbers.get("own", ())]
    for row in rows:
        prefixes = WITHOUT_TRUTH if rolled else ("relative_l2", "cost_seconds", "parameters")
        wanted += [
            k
            for k in row
            if k.startswith(prefixes) and not k.endswith(("_range", "_interval")) and k not in wanted
        ]
    head = ["", *[COLUMNS.get(key, key.replace("_", " ")) for key in wanted]]
    cells = [head, *[[str(row["name"]), *[_cell(row, key) for key in wanted]] for row in rows]]
    widths = [max(len(line[i]) for line in cells) for i in range(len(head))]
    lines = [
        "  ".join(
            c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True))
        )
        for line in cells
    ]
    for verdict in numbers.get("verdicts", ()):
        lines += ["", in_words(verdict)]
    for split, limit in (numbers.get("limits") or {}).items():
        for row in rows:
            if row["kind"] == "surrogate" and f"relative_l2 {split}" in row:
                worst = row[f"relative_l2 {split}_range"][1]
                word = "within" if worst <= limit else "above"
                lines += [
                    "",
                    f"{row['name']} on {split}: worst seed {worst:.3g}, {word} the study's limit of {limit:g}.",
                ]
    return "\n".join(line.rstrip() for line in lines)


def _cell(row: Mapping[str, Any], key: str) -> str:
    """A number of a row, with its 95 % interval where it has one."""
    value, sure = row.get(key), row.get(f"{key}_interval")
    if isinstance(value, int):
        return f"{value:,}" if value else "-"
    if not isinstance(value, float):
        return "-"
    if sure is None or None in sure:
        return f"{value:.3g}"
    return f"{value:.3g} [{sure[0]:.2g}, {sure[1]:.2g}]"
