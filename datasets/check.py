"""Check a dataset: files, values, duplicates, statistics, resolution, and the equation itself where it is known."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from sciml.datasets import schema
from sciml.datasets.audit import facts, invariants, spectra, under_resolved
from sciml.datasets.dataset import Dataset, Hints
from sciml.datasets.defect import BLUNT, Verdict, judge, stored_frame
from sciml.datasets.duplicates import Duplicates
from sciml.datasets.equations import Known, Stated, known_equation
from sciml.datasets.findings import Collector, Finding, Report
from sciml.datasets.interop.the_well import GROUPS, is_well
from sciml.datasets.reader import Source
from sciml.datasets.reader import open as open_dataset
from sciml.datasets.residual import residual
from sciml.datasets.splits import Pairs, Split
from sciml.datasets.statistics import measure
from sciml.datasets.survey import Survey, survey
from sciml.datasets.writer import PART, write_json
from sciml.errors import UserError

Progress = Callable[[int, int], None]
"""Told (bytes read, all bytes of the values)."""

UNEVEN = 1e-3
"""Part of a time step by which times in float32 may be off."""


def check(
    path: Source,
    hints: Hints | None = None,
    *,
    equation: Stated | None = None,
    progress: Progress = lambda done, total: None,
) -> Report:
    """Check a dataset, native or foreign. Reads every value once, those of the training split twice.

    Errors: a broken schema, a checksum that does not match, missing shards, values that cannot be read, NaN or Inf
    (with the place), the same trajectory in two splits, statistics that are not those of the training split, times that
    do not grow, and frames that the equation does not lead to: further off than the solver's own error explains (see
    `defect`). Warnings: frames without any change, jumps and swapped frames, uneven times, trajectories that appear
    twice in one split or nearly twice, leftovers of a killed run.

    Args:
        path: a folder, a file or several, as `open` takes them.
        hints: what a foreign file does not say.
        equation: what the data solve, in place of what a recipe or the file says: an equation, or a class or function
            that makes one of the file's parameters, which it names as its arguments.
        progress: told (bytes read, all bytes).

    Raises:
        UserError: the path is no dataset that can be opened, or the equation does not fit it.
    """
    dataset = open_dataset(path, hints)
    one = isinstance(path, str | os.PathLike)
    place = str(path if one else dataset.path)  # of several files, their folder
    collector = Collector()
    for note in dataset.notes:
        collector.add(Finding("note", place, note))
    for finding in (*_schema(dataset), *_manifest(dataset)):
        collector.add(finding)
    measured, audit = _examine(dataset, collector, equation, progress)
    return Report(place, tuple(collector.results()), measured, audit)


def _name(path: Source) -> str:
    return str(path) if isinstance(path, str | os.PathLike) else ", ".join(str(p) for p in path)


def write_audit(folder: str | Path, progress: Progress = lambda done, total: None) -> Report:
    """Measure what the values of a generated dataset show and keep it as audit.json and audit.png.

    What `check` says of files is left out: their checksums stand in the manifest.
    """
    from sciml.datasets.audit_picture import draw_audit

    dataset = open_dataset(folder)
    collector = Collector()
    measured, audit = _examine(dataset, collector, None, progress)
    report = Report(dataset.name, tuple(collector.results()), measured, audit)
    write_json(dataset.path / "audit.json", report.as_dict())
    draw_audit(report, dataset.certificate, dataset.path / "audit.png")
    return report


def _examine(
    dataset: Dataset, collector: Collector, equation: Stated | None, progress: Progress
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Values, statistics, resolution and equation: a few numbers for people, and all that was measured."""
    known, where = known_equation(dataset, equation)
    measured: dict[str, Any] = {
        "layout": dataset.kind,
        "splits": {s: len(v) for s, v in dataset.splits.items()},
        "equation": where,
    }
    surveys = _surveys(dataset, collector, progress)
    audit: dict[str, Any] = {name: facts(split, surveys[name]) for name, split in dataset.splits.items()}
    if known is None:
        level = "warning" if dataset.manifest else "note"
        text = f"the equation was not checked: {where}"
        collector.add(Finding(level, "equation", text, "equation"))  # type: ignore[arg-type]
    if not all(seen.finite for seen in surveys.values()):
        return measured, audit
    for finding in _statistics(dataset):
        collector.add(finding)
    for name, split in dataset.splits.items():
        found = spectra(split)
        if found is not None:
            audit[name]["spectra"] = found.as_dict()
            for finding in under_resolved(name, found):
                collector.add(finding, "under-resolved", name)
        if known is None:
            continue
        verdict = judge(known, split, surveys[name].suspects)
        measured |= _measured(name, verdict)
        if isinstance(verdict, Verdict):
            audit[name]["gaps"] = [vars(gap) for gap in verdict.gaps]
        for finding in _judged(name, verdict, known.origin):
            collector.add(finding)
        if isinstance(split, Split):
            audit[name]["drift_of_invariants"] = invariants(known, split)
            for finding in (*_time_step(name, split, known.dt), *_residual(name, split, known, measured)):
                collector.add(finding)
    return measured, audit


def _surveys(dataset: Dataset, collector: Collector, progress: Progress) -> Mapping[str, Survey]:
    """One pass over all values of all splits."""
    duplicates = Duplicates(collector)
    total, done, found = sum(_bytes(s) for s in dataset.splits.values()), 0, {}
    progress(0, total)

    def read(count: int) -> None:
        nonlocal done
        done += count
        progress(min(done, total), total)

    for name, split in dataset.splits.items():
        found[name] = survey(split, collector, duplicates, read)
        if isinstance(split, Split):
            for finding in _times(name, split):
                collector.add(finding, "times", name)

    def first_frame(name: str, sample: int) -> np.ndarray:
        split = dataset.splits[name]
        if isinstance(split, Pairs):
            return split[sample][0].numpy()
        return stored_frame(split, sample, 0)[0].numpy()

    duplicates.near(first_frame)
    return found


def _bytes(split: Split | Pairs) -> int:
    blocks = split.blocks if isinstance(split, Split) else (*split.input_blocks, *split.target_blocks)
    return sum(4 * int(np.prod(block.shape)) for block in blocks)


def _times(name: str, split: Split) -> Iterator[Finding]:
    """Times that do not grow, or not evenly."""
    for number, times in enumerate(split.block_times):
        gaps = torch.diff(times)
        if not len(gaps):
            continue
        place = name if len(split.block_times) == 1 else f"{name}, block {number}"
        mean = float(gaps.mean())
        if not bool(torch.isfinite(times).all()) or float(gaps.min()) <= 0:
            worst = int(torch.nan_to_num(gaps, nan=-1.0).argmin())
            text = f"the times do not grow: {float(times[worst]):g}, then {float(times[worst + 1]):g}"
            yield Finding("error", place, text, "time")
        elif float((gaps - mean).abs().max()) > UNEVEN * mean:
            worst = int((gaps - mean).abs().argmax())
            text = f"the times are not evenly spaced: {float(gaps[worst]):g} after frame {worst}, {mean:g} on average"
            yield Finding("warning", place, text, "time")


def _time_step(name: str, split: Split, dt: float | None) -> Iterator[Finding]:
    times = split.times
    found = float(times[-1] - times[0]) / max(len(times) - 1, 1)
    if dt is not None and len(times) > 1 and abs(found - dt) > UNEVEN * dt:
        text = f"the stored times are {found:g} apart; the recipe steps by {dt:g}"
        yield Finding("error", name, text, "equation")


def _residual(name: str, split: Split, known: Known, measured: dict[str, Any]) -> Iterator[Finding]:
    """The residual, where it can be taken, into `measured`; a warning where its own error does not explain it."""
    found = residual(known, split)
    if found is None:
        return
    measured[f"residual of {name}"] = found.largest
    for field in found.unexplained:
        text = (
            f"u_t of {field!r} differs from the right-hand side by {found.size[field]:.2g} of itself, by differences "
            f"between frames whose own errors explain {found.allowed[field]:.2g}"
        )
        yield Finding("warning", name, text, "equation")


def _measured(name: str, verdict: Verdict | str) -> dict[str, Any]:
    """Numbers of one verdict, for people and for JSON."""
    if isinstance(verdict, str):
        return {}
    worst = verdict.worst
    return {
        f"defect of {name}": verdict.defect,
        f"judgement of {name}": {
            "gap": worst.relative,
            "allowed": worst.allowed / worst.change if worst.change > 0 else None,
            "field": worst.field,
            "sample": worst.sample,
            "frame": worst.frame,
            "steps": worst.span,
            "tests": len(verdict.gaps),
            "smallest_that_shows": verdict.sharpness,
        },
    }


def _judged(name: str, verdict: Verdict | str, origin: str) -> Iterator[Finding]:
    """What a verdict means."""
    if isinstance(verdict, str):
        yield Finding("note", name, f"the equation was not checked: {verdict}", "equation")
        return
    worst = verdict.worst
    if not verdict.ok:
        what = "one step" if worst.span == 1 else f"{worst.span} steps"
        there = "next stored" if worst.span == 1 else "stored"
        of = "the size" if worst.change == 0 else "the change"
        solver = "the recipe's solver" if origin == "recipe" else "a trusted solver"
        share = worst.relative if worst.change > 0 else worst.gap
        limit = worst.allowed / worst.change if worst.change > 0 else worst.allowed
        text = (
            f"{what} of {solver} from frame {worst.frame} of sample {worst.sample} misses the {there} frame by "
            f"{share:.2g} of {of} in {worst.field!r}, and its own errors explain {limit:.2g}; the data do not solve the "
            "equation at this dt and with these parameters, or were changed"
        )
        yield Finding("error", name, text, "equation")
    elif verdict.sharpness > BLUNT:
        text = (
            f"the points resolve so little that less than {verdict.sharpness:.2g} of the change would not have shown; "
            "that the equation holds is not known"
        )
        yield Finding("note", name, text, "equation")


def _schema(dataset: Dataset) -> Iterator[Finding]:
    """What readers of The Well need and ours can do without."""
    for file in sorted(dataset.path.glob("data/*/*")) if dataset.path.is_dir() else [dataset.path]:
        if file.name.endswith(PART):
            yield Finding("warning", str(file), "left by a run that was killed; generate again removes it")
        if file.suffix not in schema.SUFFIXES:
            continue
        with schema.open_hdf5(file) as shard:
            if is_well(shard):
                yield from _well_schema(shard, str(file))


def _well_schema(file: h5py.File, place: str) -> Iterator[Finding]:
    for attribute in (
        "dataset_name",
        "grid_type",
        "n_spatial_dims",
        "n_trajectories",
        "simulation_parameters",
    ):
        if attribute not in file.attrs:
            yield Finding("error", place, f"root attribute {attribute!r} is missing")
    for group in GROUPS[2:]:
        if "field_names" not in file[group].attrs:
            yield Finding("error", place, f"{group} has no attribute 'field_names'")
    time = file["dimensions"]["time"]
    if "time_varying" not in time.attrs:
        yield Finding(
            "warning", place, "dimensions/time has no attribute 'time_varying'; other checkers want it"
        )
    stored = np.asarray(time[()], dtype=np.float64).reshape(-1, time.shape[-1])
    gaps = np.diff(stored, axis=1)
    if gaps.size and float(np.abs(gaps - gaps.mean()).max()) > 1e-3 * abs(float(gaps.mean())):
        yield Finding("error", place, "the times are not evenly spaced", "time")
    for group in GROUPS[3:]:
        for name, dataset in file[group].items():
            flags = [f for f in ("sample_varying", "time_varying", "dim_varying") if f not in dataset.attrs]
            if flags:
                yield Finding("warning", f"{place}:{dataset.name}", f"attributes {flags} are missing")
            if dataset.dtype != np.float32:
                yield Finding("warning", f"{place}:{dataset.name}", f"is {dataset.dtype}; float32 is usual")
            if name not in schema.texts(file[group].attrs.get("field_names", [])):
                yield Finding("warning", f"{place}:{dataset.name}", "is not listed in field_names")


def _manifest(dataset: Dataset) -> Iterator[Finding]:
    """Checksums and completeness of a native dataset."""
    if not dataset.manifest:
        return
    if not dataset.manifest.get("complete"):
        yield Finding(
            "error", "manifest.json", "generation did not finish; run the same generate command again"
        )
    listed = set()
    for shard in dataset.manifest["shards"]:
        file = dataset.path / shard["file"]
        listed.add(file)
        if not shard["samples"]:  # all were left out: there is no file
            continue
        if not file.is_file():
            yield Finding("error", shard["file"], "is listed in the manifest and missing")
        elif schema.sha256_file(file) != shard["sha256"]:
            yield Finding(
                "error", shard["file"], "its SHA-256 is not the one in the manifest: it was changed"
            )
    for file in sorted(dataset.path.glob("data/*/*")):
        if file.suffix in schema.SUFFIXES and file not in listed:
            yield Finding("error", str(file), "is not listed in the manifest")
    for name, described in dataset.manifest["splits"].items():
        found = len(dataset.splits[name]) if name in dataset.splits else 0
        if found != described["samples"]:
            yield Finding("error", name, f"has {found} samples; the manifest says {described['samples']}")


def _statistics(dataset: Dataset) -> Iterator[Finding]:
    if dataset.kind not in ("native", "the_well", "graphs") or "train" not in dataset:
        return
    try:
        stored = dataset.stats
    except UserError as fault:
        yield Finding("error" if dataset.manifest else "warning", "stats.yaml", str(fault), "statistics")
        return
    found = measure(dataset["train"])
    for key in ("mean", "std"):
        a, b = getattr(stored, key), getattr(found, key)
        gap = float(((a - b).abs() / found.rms.clamp(min=1e-12)).max())
        if gap > 1e-3:
            yield Finding(
                "error",
                "stats.yaml",
                f"{key} differs from that of the training split by {gap:.2g} of the rms",
                "statistics",
            )
