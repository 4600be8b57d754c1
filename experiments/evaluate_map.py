"""Scores of surrogates for static maps, input field to solution field, at one or several resolutions."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sciml.errors import UserError
from sciml.experiments.contestants import Kind, cpu_seconds_per_step
from sciml.experiments.storage import finite, replacing


@dataclass(frozen=True)
class MapContestant:
    """Something that predicts targets (N, C, *points) from inputs (N, A, *points)."""

    name: str
    kind: Kind
    predict: Callable[[Tensor], Tensor]
    seed: int = 0
    parameters: int = 0
    timed: bool = True


@dataclass
class MapScores:
    """Relative L2 error of each test sample per split, and CPU seconds per sample per split."""

    name: str
    kind: Kind
    seed: int
    parameters: int
    errors: dict[str, np.ndarray]
    cost: dict[str, float]


@dataclass
class MapEvaluation:
    """All scores of a map study with the pictures of three samples per split."""

    scores: list[MapScores]
    pictures: dict[str, dict[str, np.ndarray]]

    def groups(self) -> dict[str, list[MapScores]]:
        """Scores by name, one entry per seed."""
        out: dict[str, list[MapScores]] = {}
        for score in self.scores:
            out.setdefault(score.name, []).append(score)
        return out


def relative_l2(prediction: Tensor, target: Tensor) -> Tensor:
    """||prediction - target|| / ||target|| over channels and points, (N, C, *points) -> (N,)."""
    gap = (prediction - target).double().flatten(1).norm(dim=1)
    return gap / target.double().flatten(1).norm(dim=1).clamp_min(torch.finfo(torch.float64).tiny)


def evaluate_maps(
    contestants: Sequence[MapContestant],
    splits: Mapping[str, tuple[Tensor, Tensor]],
    *,
    progress: Callable[[str], None] | None = None,
) -> MapEvaluation:
    """Score every contestant on every split (inputs, targets).

    Raises:
        UserError: a split is empty or not finite.
    """
    for name, (inputs, targets) in splits.items():
        if not len(inputs) or not bool(torch.isfinite(inputs).all() and torch.isfinite(targets).all()):
            raise UserError(f"split {name!r} is empty or has NaN or Inf; run `sciml check` on the data.")
    scores, pictures = [], {}
    picks: dict[str, list[int]] = {}
    for contestant in contestants:
        errors, cost = {}, {}
        for split, (inputs, targets) in splits.items():
            with torch.no_grad():
                prediction = contestant.predict(inputs)
            errors[split] = relative_l2(prediction, targets).numpy()
            if contestant.timed:
                cost[split] = cpu_seconds_per_step(contestant.predict, inputs)
            if contestant.kind == "surrogate":
                if split not in picks:
                    order = np.argsort(errors[split], kind="stable")
                    picks[split] = [int(order[0]), int(order[len(order) // 2]), int(order[-1])]
                    for label, sample in zip(("best", "median", "worst"), picks[split], strict=True):
                        pictures[f"{split}/{label}"] = {
                            "input": inputs[sample, 0].float().numpy(),
                            "truth": targets[sample, 0].float().numpy(),
                        }
                for label, sample in zip(("best", "median", "worst"), picks[split], strict=True):
                    shown = pictures[f"{split}/{label}"]
                    shown.setdefault(contestant.name, prediction[sample, 0].float().numpy())
        scores.append(
            MapScores(
                contestant.name, contestant.kind, contestant.seed, contestant.parameters, errors, cost
            )
        )
        if progress is not None:
            progress(contestant.name)
    return MapEvaluation(scores, pictures)


def summary(evaluation: MapEvaluation, limits: Mapping[str, float] | None = None) -> dict[str, Any]:
    """Mean relative L2 per contestant and split: the median over seeds, with their range, and the study's limits."""
    table = []
    for name, group in evaluation.groups().items():
        row: dict[str, Any] = {
            "name": name,
            "kind": group[0].kind,
            "seeds": [s.seed for s in group],
            "parameters": group[0].parameters,
        }
        for split in group[0].errors:
            means = [float(s.errors[split].mean()) for s in group]
            row[f"relative_l2 {split}"] = float(np.median(means))
            row[f"relative_l2 {split}_range"] = [min(means), max(means)]
            costs = [s.cost[split] for s in group if split in s.cost]
            if costs:
                row[f"cost_seconds {split}"] = float(np.median(costs))
        table.append(row)
    return {"table": table, "limits": dict(limits or {})}


def save(evaluation: MapEvaluation, folder: Path, limits: Mapping[str, float] | None = None) -> None:
    """Write `evaluation.npz`, `summary.json` and `metrics.csv` into a run folder, each renamed when whole."""
    arrays = {}
    heads = []
    for index, s in enumerate(evaluation.scores):
        heads.append(
            {"name": s.name, "kind": s.kind, "seed": s.seed, "parameters": s.parameters, "cost": s.cost,
             "splits": list(s.errors)}
        )  # fmt: skip
        for split, values in s.errors.items():
            arrays[f"errors/{index}/{split}"] = values
    for key, picture in evaluation.pictures.items():
        for name, values in picture.items():
            arrays[f"pictures/{key}/{name}"] = values
    head = {"kind": "map", "scores": heads, "limits": dict(limits or {})}
    arrays["head"] = np.frombuffer(json.dumps(head).encode(), dtype=np.uint8)
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / "evaluation.npz") as temporary, open(temporary, "wb") as stream:
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]  # its stub lacks arrays by name
    with replacing(folder / "summary.json") as temporary:
        temporary.write_text(json.dumps(finite(summary(evaluation, limits)), indent=2) + "\n")
    with replacing(folder / "metrics.csv") as temporary, open(temporary, "w") as stream:
        stream.write("step,seed,sample,split,metric,value\n")
        for s in evaluation.scores:
            for split, values in s.errors.items():
                for sample, value in enumerate(values):
                    stream.write(f'"{s.name}",{s.seed},{sample},{split},relative_l2,{value:.9g}\n')


def load(folder: Path) -> tuple[MapEvaluation, dict[str, float]]:
    """Read what `save` wrote: the evaluation and the study's limits.

    Raises:
        UserError: the folder has no map evaluation, or it is damaged.
    """
    path = folder / "evaluation.npz"
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        head = json.loads(arrays["head"].tobytes())
        scores = [
            MapScores(
                s["name"],
                s["kind"],
                s["seed"],
                s["parameters"],
                {split: arrays[f"errors/{i}/{split}"] for split in s["splits"]},
                s["cost"],
            )
            for i, s in enumerate(head["scores"])
        ]
        pictures: dict[str, dict[str, np.ndarray]] = {}
        for key, values in arrays.items():
            if key.startswith("pictures/"):
                split, label, name = key.removeprefix("pictures/").split("/", 2)
                pictures.setdefault(f"{split}/{label}", {})[name] = values
        return MapEvaluation(scores, pictures), head["limits"]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{path} is missing or damaged ({error}); run `sciml evaluate {folder}` first."
        ) from error
