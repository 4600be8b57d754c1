"""Check a dataset: schema, checksums, values, duplicates, and the equation itself where it is known."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
import torch
from torch import Tensor

from sciml.datasets import schema
from sciml.datasets.blocks import Block, read
from sciml.datasets.dataset import Dataset, Hints
from sciml.datasets.interop.the_well import GROUPS, is_well
from sciml.datasets.reader import open as open_dataset
from sciml.datasets.recipe import fields_of
from sciml.datasets.splits import Pairs, Split
from sciml.datasets.statistics import measure
from sciml.datasets.writer import PART
from sciml.domains import Grid
from sciml.errors import UserError
from sciml.odes.base import ODE
from sciml.pdes.base import PDE, Elliptic

Level = Literal["error", "warning", "note"]

RESIDUAL_SAMPLES = 2
RESIDUAL_FRAMES = 3
RESIDUAL_LIMIT = 0.05
"""One stored step of the recipe's own solver may differ by this much, relative to the change in that step."""


@dataclass(frozen=True)
class Finding:
    """Something that was noticed, and where."""

    level: Level
    where: str
    message: str


@dataclass(frozen=True)
class Report:
    """What a check found. `ok` without errors; warnings are for a person to judge."""

    path: str
    findings: tuple[Finding, ...]
    measured: dict[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether there is no error."""
        return all(f.level != "error" for f in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "path": self.path,
            "ok": self.ok,
            "findings": [vars(f) for f in self.findings],
            "measured": self.measured,
        }

    def __str__(self) -> str:
        lines = [f"{self.path}: {'ok' if self.ok else 'not ok'}"]
        lines += [f"  {f.level}: {f.where}: {f.message}" for f in self.findings]
        lines += [f"  {name}: {value}" for name, value in self.measured.items()]
        return "\n".join(lines)


def check(path: str | Path, hints: Hints | None = None) -> Report:
    """Check a dataset, native or foreign. Reads every value once.

    Errors: a broken schema, a checksum that does not match, missing shards, NaN or Inf (with the place), the
    same trajectory in two splits, statistics that are not those of the training split, one step of the
    recipe's solver that does not lead from one stored frame to the next. Warnings: frames without any
    change, trajectories that appear twice in one split, leftovers of a killed run.

    Raises:
        UserError: the path is no dataset that can be opened.
    """
    dataset = open_dataset(path, hints)
    findings: list[Finding] = [Finding("note", str(path), note) for note in dataset.notes]
    measured: dict[str, Any] = {
        "layout": dataset.kind,
        "splits": {s: len(v) for s, v in dataset.splits.items()},
    }
    findings += _schema(dataset)
    findings += _manifest(dataset)
    finite = True
    digests: dict[str, tuple[str, int]] = {}
    for name, split in dataset.splits.items():
        for finding in _values(name, split, digests):
            finite &= "not finite" not in finding.message
            findings.append(finding)
    if finite:
        findings += _statistics(dataset)
        defects, more = _equation(dataset)
        measured |= defects
        findings += more
    return Report(str(path), tuple(findings), measured)


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
        yield Finding("error", place, "the times are not evenly spaced")
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


def _blocks(split: Split | Pairs) -> list[tuple[Block, ...]]:
    return [split.blocks] if isinstance(split, Split) else [split.input_blocks, split.target_blocks]


def _values(name: str, split: Split | Pairs, digests: dict[str, tuple[str, int]]) -> Iterator[Finding]:
    """NaN, Inf, frames without change, and trajectories seen before."""
    channels = split.channels
    for part, blocks in enumerate(_blocks(split)):
        sample = 0
        names = channels if part or isinstance(split, Split) else split.input_channels
        for block in blocks:
            buffer = np.empty(block.shape[1:], dtype=np.float32)
            for i in range(block.shape[0]):
                read(block, i, slice(None), buffer)
                place = f"{name}[{sample}]"
                bad = ~np.isfinite(buffer)
                if bad.any():
                    frame, channel, *point = (int(k) for k in np.argwhere(bad)[0])
                    yield Finding(
                        "error",
                        place,
                        f"{int(bad.sum())} values are not finite, the first in frame {frame}, channel "
                        f"{names[channel]!r}, point {tuple(point)}",
                    )
                elif len(buffer) > 1:
                    still = np.flatnonzero(
                        (np.diff(buffer, axis=0) == 0).reshape(len(buffer) - 1, -1).all(axis=1)
                    )
                    if still.size:
                        yield Finding(
                            "warning",
                            place,
                            f"{still.size} frames equal the one before, first frame {int(still[0]) + 1}",
                        )
                if part == 0:
                    # The first frames tell trajectories of different length apart, or the same.
                    digest = hashlib.sha256(np.ascontiguousarray(buffer[:1]).tobytes()).hexdigest()
                    if digest in digests:
                        other, index = digests[digest]
                        level: Level = "error" if other != name else "warning"
                        yield Finding(level, place, f"starts exactly as {other}[{index}]: a duplicate")
                    else:
                        digests[digest] = (name, sample)
                sample += 1


def _statistics(dataset: Dataset) -> Iterator[Finding]:
    if dataset.kind not in ("native", "the_well", "graphs") or "train" not in dataset:
        return
    try:
        stored = dataset.stats
    except UserError as fault:
        yield Finding("error" if dataset.manifest else "warning", "stats.yaml", str(fault))
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
            )


def _equation(dataset: Dataset) -> tuple[dict[str, Any], list[Finding]]:
    """How well stored frames satisfy the recipe's equation."""
    recipe = dataset.recipe
    if recipe is None:
        note = "no recipe is known, so the equation was not checked"
        return {}, [Finding("note", "equation", note)] if not dataset.manifest else [
            Finding(
                "warning",
                "equation",
                "the recipe is not found or has changed; the equation was not checked",
            )
        ]
    findings: list[Finding] = []
    measured: dict[str, Any] = {}
    for name, split in dataset.splits.items():
        count = min(RESIDUAL_SAMPLES, len(split))
        parameters = {k: v[:count] for k, v in split.parameters.items()}
        domain = split.domain
        equation = recipe.equation(parameters, domain)
        fields_of(equation)
        if isinstance(split, Pairs) and isinstance(equation, Elliptic):
            given = torch.stack([split[i][0] for i in range(count)]).double()
            wanted = torch.stack([split[i][1] for i in range(count)]).double()
            again = recipe.solver(equation, domain, recipe.dt, recipe.substeps)(given)
            defect = float((again - wanted).norm() / wanted.norm())
            measured[f"defect of {name}"] = defect
        elif isinstance(split, Split) and isinstance(equation, PDE | ODE):
            states = split.trajectories(slice(0, count)).data.double()
            defect = _defect(recipe, equation, domain, states)
            measured[f"defect of {name}"] = defect
            residual = (
                _residual(equation, domain, states, split.times) if isinstance(equation, PDE) else None
            )
            if residual is not None:
                measured[f"residual of {name}"] = residual
        else:
            continue
        if not defect < RESIDUAL_LIMIT:
            findings.append(
                Finding(
                    "error",
                    name,
                    f"one step of the recipe's solver misses the next stored frame by {defect:.2g} of the change; the "
                    "data do not solve the equation at this dt, or were changed",
                )
            )
    return measured, findings


def _defect(recipe: Any, equation: PDE | ODE, domain: Any, states: Tensor) -> float:
    """||S(u_t) - u_{t+1}|| / ||u_{t+1} - u_t|| over a few frames, the largest.

    Frames in which hardly anything happens are measured by a thousandth of the state instead.
    """
    step = recipe.solver(equation, domain, recipe.dt, recipe.substeps)
    last = states.shape[1] - 2
    if last < 0:
        return 0.0
    worst = 0.0
    with torch.no_grad():
        for t in sorted({0, last // 2, last})[:RESIDUAL_FRAMES]:
            change = float((states[:, t + 1] - states[:, t]).norm())
            gap = float((step(states[:, t]) - states[:, t + 1]).norm())
            worst = max(worst, gap / max(change, 1e-3 * float(states[:, t].norm()), 1e-30))
    return worst


def _residual(equation: PDE, domain: Any, states: Tensor, times: Tensor) -> float | None:
    """Median over frames of ||u_t - rhs(u)|| / ||u_t||, with u_t by central differences in time.

    An independent look at the equation; its own error is that of the differences, of order dt^2.
    """
    if states.shape[1] < 3 or not isinstance(domain, Grid) or not all(domain.periodic):
        return None
    if domain.centering != "node":
        return None
    from sciml.calculus import Spectral

    calculus, values = Spectral(domain), []
    h = float(times[1] - times[0])
    for t in np.linspace(1, states.shape[1] - 2, 7).round().astype(int):
        rate = (states[:, t + 1] - states[:, t - 1]) / (2 * h)
        size = float(rate.norm())
        if size > 0:
            values.append(float((rate - equation.rhs(states[:, t], calculus)).norm()) / size)
    return float(np.median(values)) if values else math.nan
