"""The files of an evaluation: arrays to draw from, a table of single numbers, and a summary."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from sciml.errors import UserError
from sciml.experiments.bootstrap import interval
from sciml.experiments.evaluate import correlation_steps
from sciml.experiments.scores import Evaluation, Expense, Rival, Scores
from sciml.experiments.tally import WITHOUT_TRUTH
from sciml.experiments.verdict import verdicts
from sciml.trajectory import Field


def test_folder(run: Path, label: str) -> Path:
    """Where the evaluation on a further test set lies."""
    return run / "tests" / "".join(c if c.isalnum() or c in " .-_" else "-" for c in label)


def tidy_rows(
    evaluation: Evaluation, *, leads: int = 48
) -> Iterator[tuple[str, int, int, int, float, str, float]]:
    """Rows (step name, seed, sample, lead step, lead time, metric, value) at log-spaced lead times."""
    steps, dt = evaluation.steps, evaluation.dt
    chosen = {1, 10, 50, 100, 200, *evaluation.horizons, steps}
    chosen |= set(np.geomspace(1, steps, leads).round().astype(int).tolist())
    places = sorted({evaluation.place(k) for k in chosen if 1 <= k <= steps})
    for scores in evaluation.scores:
        for metric, values in scores.values.items():
            for place in places:
                if place >= len(values):
                    break
                lead = int(evaluation.leads[place])
                for sample, value in enumerate(values[place]):
                    yield scores.name, scores.seed, sample, lead, lead * dt, metric, float(value)
        moments = {"blow_up_step": scores.blow_up, "freeze_step": scores.freeze}
        if "correlation" in scores.values:  # to the end of what is known at most
            moments["correlation_step"] = np.minimum(
                correlation_steps(evaluation, scores), evaluation.known
            )
        for metric, when in moments.items():
            for sample, value in enumerate(when):
                yield scores.name, scores.seed, sample, int(value), int(value) * dt, metric, float(value)
        for metric, values in scores.values.items():
            if not metric.startswith(WITHOUT_TRUTH):
                continue
            # Of all steps, until a rollout has blown up.
            filled = np.where(np.isfinite(values), values, -np.inf)
            for sample, row in enumerate(filled.argmax(axis=0)):
                lead, value = int(evaluation.leads[row]), float(filled[row, sample])
                if value > -np.inf:
                    yield scores.name, scores.seed, sample, lead, lead * dt, f"largest {metric}", value


def summary(evaluation: Evaluation, threshold: float = 0.8) -> dict[str, Any]:
    """The table of the report as plain numbers: one entry per contestant, medians over samples and seeds."""
    trained, last = evaluation.place(evaluation.horizons[0]), evaluation.place(evaluation.known)
    rows = [("nrmse", "nrmse_1", 0), ("nrmse", "nrmse_trained", trained), ("nrmse", "nrmse_last", last)]
    rows += [(metric, f"{metric}_last", last) for metric in ("vrmse", "spectral_distance")]
    table = []
    for name, group in evaluation.groups().items():
        entry: dict[str, Any] = {
            "name": name,
            "kind": group[0].kind,
            "seeds": [s.seed for s in group],
            "parameters": group[0].parameters,
            "cost_seconds_per_step_and_sample": float(np.median([s.cost for s in group])),
        }
        for metric, key, row in rows:
            if metric in group[0].values:
                _put(entry, key, [s.worst_filled(metric)[row] for s in group])
        if "correlation" in group[0].values:
            end, dt = evaluation.known, evaluation.dt
            times = [np.minimum(correlation_steps(evaluation, s, threshold), end) * dt for s in group]
            _put(entry, "correlation_time", times)
        entry["blown_up"] = float(np.mean([s.blow_up <= evaluation.steps for s in group]))
        entry["frozen"] = float(np.mean([s.freeze <= evaluation.steps for s in group]))
        for key in group[0].values:
            if key.startswith(WITHOUT_TRUTH) or key in evaluation.own:
                values = [s.values[key] for s in group]
                per_seed = [float(np.nanmax(v)) if np.isfinite(v).any() else math.nan for v in values]
                if key in evaluation.own:
                    _put(entry, f"{key}_last", [s.worst_filled(key)[last] for s in group])
                    continue
                entry[key] = float(np.median(per_seed))
                if len(per_seed) > 1:
                    entry[f"{key}_range"] = [float(np.min(per_seed)), float(np.max(per_seed))]
        table.append(entry)
    floor = evaluation.floor
    return {
        "dt": evaluation.dt,
        "steps": evaluation.steps,
        "known_steps": evaluation.known,
        "stored_steps": evaluation.stored,
        "trained_steps": evaluation.trained_steps,
        "samples": len(evaluation.reference.blow_up),
        "sampling": evaluation.sampling,
        "correlation_threshold": threshold,
        "own": list(evaluation.own),
        "error_floor": None
        if floor is None
        else {"first": float(floor[min(1, len(floor) - 1)]), "last": float(floor[-1])},
        "table": table,
        "verdicts": [asdict(v) for v in verdicts(evaluation)],
        "seconds": dict(evaluation.expense.seconds),
        "overhead": evaluation.expense.overhead,
        "memory_bytes": {str(step): size for step, size in evaluation.expense.memory.items()},
    }


def _put(entry: dict[str, Any], key: str, per_seed: list[np.ndarray]) -> None:
    """The median of some numbers per sample (B,), with its interval and, for several seeds, its range over them."""
    found = interval(per_seed)
    entry[key] = found.value
    if found.low is not None:
        entry[f"{key}_interval"] = [found.low, found.high]
    if len(per_seed) > 1:
        middles = [float(np.median(values)) for values in per_seed]
        entry[f"{key}_range"] = [min(middles), max(middles)]


def _score_arrays(scores: Scores, place: str, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """Put the arrays of some scores under `place`; returns what is no array."""
    for metric, values in scores.values.items():
        arrays[f"{place}/values/{metric}"] = values.astype(np.float32)
    for lead, spectrum in scores.spectra.items():
        arrays[f"{place}/spectra/{lead}"] = spectrum
    for name, values in scores.statistics.items():
        arrays[f"{place}/statistics/{name}"] = values.astype(np.float32)
    arrays[f"{place}/blow_up"], arrays[f"{place}/freeze"] = scores.blow_up, scores.freeze
    return {
        "name": scores.name,
        "kind": scores.kind,
        "seed": scores.seed,
        "parameters": scores.parameters,
        "cost": scores.cost,
    }


def _read_scores(head: dict[str, Any], place: str, arrays: dict[str, np.ndarray]) -> Scores:
    return Scores(
        head["name"],
        head["kind"],
        head["seed"],
        head["parameters"],
        _below(arrays, f"{place}/values/"),
        arrays[f"{place}/blow_up"],
        {int(lead): spectrum for lead, spectrum in _below(arrays, f"{place}/spectra/").items()},
        head["cost"],
        arrays[f"{place}/freeze"],
        _below(arrays, f"{place}/statistics/"),
    )


def _below(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name[len(prefix) :]: value for name, value in arrays.items() if name.startswith(prefix)}


def _nested(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, dict[str, np.ndarray]]:
    out: dict[str, dict[str, np.ndarray]] = {}
    for name, value in _below(arrays, prefix).items():
        label, key = name.split("/", 1)
        out.setdefault(label, {})[key] = value
    return out


def save(evaluation: Evaluation, folder: Path) -> None:
    """Write `evaluation.npz` (arrays) with `summary.json` and `metrics.csv` beside it, each renamed when whole."""
    arrays: dict[str, np.ndarray] = {"leads": evaluation.leads}
    heads = [_score_arrays(s, f"scores/{i}", arrays) for i, s in enumerate(evaluation.scores)]
    truth = _score_arrays(evaluation.reference, "truth", arrays)
    for label, picture in evaluation.pictures.items():
        for name, values in picture.items():
            arrays[f"pictures/{label}/{name}"] = values.astype(np.float32)
    for name, entries in evaluation.laboratory.items():
        for key, values in entries.items():
            arrays[f"laboratory/{name}/{key}"] = np.asarray(values)
    if evaluation.floor is not None:
        arrays["floor"] = evaluation.floor
    if evaluation.picture_times is not None:
        arrays["picture_times"] = evaluation.picture_times
    head = {
        "dt": evaluation.dt,
        "steps": evaluation.steps,
        "trained_steps": evaluation.trained_steps,
        "known": evaluation.known,
        "stored": evaluation.stored,
        "sampling": evaluation.sampling,
        "own": list(evaluation.own),
        "fields": [asdict(f) for f in evaluation.fields],
        "scores": heads,
        "truth": truth,
        "picture_labels": evaluation.picture_labels,
        "rivals": [asdict(v) for v in evaluation.rivals],
        "seconds": dict(evaluation.expense.seconds),
        "memory": {str(step): size for step, size in evaluation.expense.memory.items()},
    }
    arrays["head"] = np.frombuffer(json.dumps(head).encode(), dtype=np.uint8)
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / "evaluation.npz") as temporary, open(temporary, "wb") as stream:
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]  # its stub lacks arrays by name
    with replacing(folder / "summary.json") as temporary:
        temporary.write_text(json.dumps(finite(summary(evaluation)), indent=2) + "\n")
    with replacing(folder / "metrics.csv") as temporary, open(temporary, "w") as stream:
        stream.write("step,seed,sample,lead_step,lead_time,metric,value\n")
        for name, seed, sample, lead, when, metric, value in tidy_rows(evaluation):
            quoted = '"' + name.replace('"', '""') + '"' if "," in name else name
            stream.write(f"{quoted},{seed},{sample},{lead},{when:.9g},{metric},{value:.9g}\n")


class replacing:
    """A temporary path beside `final` that takes its name when the block ends well, and goes when it does not."""

    def __init__(self, final: Path) -> None:
        self.final = final
        self.temporary = final.with_name(f".{final.name}.part")

    def __enter__(self) -> Path:
        return self.temporary

    def __exit__(self, kind: Any, value: Any, trace: Any) -> None:
        if kind is None:
            self.temporary.replace(self.final)
        else:
            self.temporary.unlink(missing_ok=True)


def finite(value: Any) -> Any:
    """Numbers that JSON has no word for, as null."""
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def load(folder: Path) -> Evaluation:
    """Read what `save` wrote.

    Raises:
        UserError: the folder has no evaluation, or it is damaged or of another version.
    """
    path = folder / "evaluation.npz"
    if not path.exists():
        raise UserError(f"{folder} has no evaluation.npz; run `sciml evaluate {folder}` first.")
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        head = json.loads(arrays["head"].tobytes())
        return Evaluation(
            head["dt"],
            head["steps"],
            head["trained_steps"],
            tuple(Field(**f) for f in head["fields"]),
            [_read_scores(s, f"scores/{i}", arrays) for i, s in enumerate(head["scores"])],
            arrays["leads"],
            head["known"],
            head["stored"],
            head["sampling"],
            _read_scores(head["truth"], "truth", arrays),
            tuple(head["own"]),
            arrays.get("floor"),
            Expense(head["seconds"], {int(step): size for step, size in head["memory"].items()}),
            [Rival(**v) for v in head["rivals"]],
            _nested(arrays, "pictures/"),
            arrays.get("picture_times"),
            head["picture_labels"],
            _nested(arrays, "laboratory/"),
        )
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{path} is damaged or of another version ({error}); run `sciml evaluate {folder}` again."
        ) from error
