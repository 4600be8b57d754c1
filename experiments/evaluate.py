"""Long rollouts of every contestant beside the same reference, scored in one pass and in constant memory."""

from __future__ import annotations

import json
import math
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from sciml.domains import Domain, Grid
from sciml.errors import UserError
from sciml.metrics import RolloutMetrics, energy_spectrum
from sciml.pdes.base import PDE
from sciml.step import Step, iterate
from sciml.trajectory import Field, Trajectory

Kind = Literal["surrogate", "solver", "baseline"]

# A state this many times larger than the largest reference state counts as blown up (rollout_metrics).
BLOW_UP_FACTOR = 10.0

# What is kept of each frame; `RolloutMetrics` knows more.
CURVES = ("nrmse", "vrmse", "correlation", "spectral_distance", "high_band_gain")


@dataclass(frozen=True)
class Contestant:
    """Something that predicts what follows an initial state.

    Args:
        name: what the report calls it.
        kind: "surrogate" (trained), "solver" (classical, on some grid), "baseline" (persistence, mean).
        states: (u0 (B, C, *points), number of steps) -> that many predicted states on the reference's
            points, one after another.
        advance: one step without the interpolation that scoring may need, for timing; None if free.
        start: the state from which `advance` is timed, from u0.
        seed: training seed; 0 for what has none.
        parameters: number of trained real parameters.
        step: the Step behind a surrogate, for Jacobian diagnostics.
    """

    name: str
    kind: Kind
    states: Callable[[Tensor, int], Iterator[Tensor]]
    advance: Callable[[Tensor], Tensor] | None = None
    start: Callable[[Tensor], Tensor] | None = None
    seed: int = 0
    parameters: int = 0
    step: Step | None = None


def from_step(name: str, step: Step, kind: Kind, *, seed: int = 0, parameters: int = 0) -> Contestant:
    """A contestant whose states are those of a Step."""

    def states(u0: Tensor, steps: int) -> Iterator[Tensor]:
        following = iterate(step, u0, steps)
        next(following)
        return following

    return Contestant(name, kind, states, step, None, seed, parameters, step)


@dataclass
class Scores:
    """What one contestant scored: arrays over lead time and sample.

    `values` maps a metric to (steps, samples); after a blow-up the entries are not finite. `spectra` maps a
    lead step to the sample-mean energy spectrum (K,). `cost` is CPU seconds per step and sample.
    """

    name: str
    kind: Kind
    seed: int
    parameters: int
    values: dict[str, np.ndarray]
    blow_up: np.ndarray
    spectra: dict[int, np.ndarray]
    cost: float

    def median(self, metric: str) -> np.ndarray:
        """Median over samples at each lead time (steps,), a blown-up sample counting as infinitely bad."""
        values = self.values[metric]
        bad = np.inf if metric != "correlation" else -np.inf
        return np.median(np.where(np.isfinite(values), values, bad), axis=1)


@dataclass(frozen=True)
class Verdict:
    """Whether a surrogate beats a coarse classical solver.

    `solver` is the cheapest classical contestant whose error at `lead` steps is no larger than the surrogate's,
    or None where no solver tried reaches it. `cost_ratio` is the surrogate's cost over the solver's: below one
    the surrogate is cheaper at equal error.
    """

    surrogate: str
    lead: int
    error: float
    cost: float
    solver: str | None
    solver_error: float | None
    solver_cost: float | None
    cost_ratio: float | None


@dataclass
class Evaluation:
    """All scores of a run, with what the report needs to draw them."""

    dt: float
    steps: int
    trained_steps: int
    fields: tuple[Field, ...]
    scores: list[Scores]
    reference_spectra: dict[int, np.ndarray]
    reference_drift: dict[str, np.ndarray]
    floor: np.ndarray | None = None
    verdicts: list[Verdict] = field(default_factory=list)
    pictures: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    picture_times: np.ndarray | None = None
    picture_labels: dict[str, str] = field(default_factory=dict)
    jacobians: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)

    def groups(self) -> dict[str, list[Scores]]:
        """Scores by name, one entry per seed."""
        out: dict[str, list[Scores]] = {}
        for score in self.scores:
            out.setdefault(score.name, []).append(score)
        return out


def cpu_seconds_per_step(
    advance: Callable[[Tensor], Tensor], u0: Tensor, *, seconds: float = 0.4, limit: int = 200
) -> float:
    """Median CPU seconds of one step per sample, measured over at least three steps in this process."""
    u = u0
    with torch.no_grad():
        advance(u)  # first call fills caches and plans
        spent: list[float] = []
        while (sum(spent) < seconds or len(spent) < 3) and len(spent) < limit:
            began = time.process_time()
            v = advance(u)
            spent.append(time.process_time() - began)
            if bool(torch.isfinite(v).all()):
                u = v
    return float(np.median(spent)) / u0.shape[0]


def _lead_steps(steps: int, trained: int) -> list[int]:
    """Lead steps at which spectra are kept: the first, the end of training, half way and the last."""
    return sorted({1, min(trained, steps), max(1, steps // 2), steps})


def score(
    contestant: Contestant,
    reference: Tensor,
    *,
    domain: Domain,
    dt: float,
    fields: Sequence[Field],
    spectra_at: Sequence[int] = (),
    invariants: Callable[[Tensor], Mapping[str, Tensor]] | None = None,
    progress: Callable[[int], None] | None = None,
) -> tuple[Scores, dict[str, np.ndarray]]:
    """Roll one contestant out from reference[:, 0] and score every state against reference[:, 1:].

    Args:
        contestant: what predicts.
        reference: (B, T + 1, C, *points), the truth with its initial state first.
        domain: where the points lie; its weights enter the norms.
        dt: time between frames.
        fields: the quantities behind the channels.
        spectra_at: lead steps at which the energy spectrum is kept (grids only).
        invariants: state -> name -> (B,), to measure their drift.
        progress: called with the number of steps done.

    Returns the scores, and the drift (T, B) of the reference's own invariants by name.
    """
    u0, steps = reference[:, 0], reference.shape[1] - 1
    metrics = RolloutMetrics(domain, dt, fields, initial=u0, invariants=invariants, factor=BLOW_UP_FACTOR)
    spectra: dict[int, np.ndarray] = {}
    for lead, state in enumerate(contestant.states(u0, steps), start=1):
        metrics.update(state, reference[:, lead])
        if lead in spectra_at and isinstance(domain, Grid):
            spectra[lead] = _mean_spectrum(state.double(), domain, metrics.valid[:, -1])
        if progress is not None:
            progress(lead)
    curves = metrics.curves()
    cost = 0.0
    if contestant.advance is not None:
        start = contestant.start(u0) if contestant.start is not None else u0
        cost = cpu_seconds_per_step(contestant.advance, start)
    kept = {
        name.replace("drift_", "drift "): values.T.float().numpy()
        for name, values in curves.items()
        if name in CURVES or name.startswith("drift_")
    }
    drift = {
        name.removeprefix("reference_drift_"): values.T.float().numpy()
        for name, values in curves.items()
        if name.startswith("reference_drift_")
    }
    scores = Scores(
        contestant.name,
        contestant.kind,
        contestant.seed,
        contestant.parameters,
        kept,
        curves["valid"].sum(dim=1).long().numpy() + 1,
        spectra,
        cost,
    )
    return scores, drift


def _mean_spectrum(state: Tensor, grid: Grid, alive: Tensor) -> np.ndarray:
    """Energy spectrum (K,), averaged over the samples that are still alive; empty where none is."""
    spectrum = energy_spectrum(state.unsqueeze(1), grid)[:, 0]
    return spectrum[alive].mean(dim=0).numpy() if bool(alive.any()) else np.array([])


def invariants_of(pde: PDE | None, domain: Domain) -> Callable[[Tensor], Mapping[str, Tensor]] | None:
    """The equation's invariants as a function of the state, or None where it has none."""
    if pde is None:
        return None
    found = pde

    def values(u: Tensor) -> Mapping[str, Tensor]:
        return found.invariants(u, domain)

    return values


def evaluate(
    contestants: Sequence[Contestant],
    reference: Trajectory,
    *,
    trained_steps: int,
    pde: PDE | None = None,
    floor: np.ndarray | None = None,
    progress: Callable[[str, int], None] | None = None,
) -> Evaluation:
    """Score all contestants against one set of reference trajectories and draw the verdicts.

    Args:
        contestants: surrogates (one per variant and seed), classical solvers, baselines.
        reference: test trajectories, the initial state first.
        trained_steps: length of the training trajectories in steps, the horizon that error is "10x" of.
        pde: gives invariants; none where the data's equation is not known.
        floor: (T + 1,) relative discretisation error of the reference data itself, if measured.
        progress: called with the contestant's name and the steps done.

    Raises:
        UserError: the reference has no step, or is not finite.
    """
    data = reference.data
    if data.shape[1] < 2:
        raise UserError("evaluate got reference trajectories of one frame; expected at least two.")
    if not bool(torch.isfinite(data).all()):
        raise UserError("evaluate got reference data with NaN or Inf; run `sciml check` on the dataset.")
    steps = data.shape[1] - 1
    dt = float(reference.times[1] - reference.times[0])
    leads = _lead_steps(steps, trained_steps)
    measured = invariants_of(pde, reference.domain)
    scores: list[Scores] = []
    drift: dict[str, np.ndarray] = {}
    for contestant in contestants:
        tell = None if progress is None else _named(progress, contestant.name)
        found, drift = score(
            contestant,
            data,
            domain=reference.domain,
            dt=dt,
            fields=reference.fields,
            spectra_at=leads,
            invariants=measured,
            progress=tell,
        )
        scores.append(found)
    spectra = {}
    if isinstance(reference.domain, Grid):
        everyone = torch.ones(len(reference), dtype=torch.bool)
        spectra = {
            lead: _mean_spectrum(data[:, lead].double(), reference.domain, everyone) for lead in leads
        }
    out = Evaluation(dt, steps, trained_steps, reference.fields, scores, spectra, drift, floor)
    out.verdicts = verdicts(out)
    return out


def _named(progress: Callable[[str, int], None], name: str) -> Callable[[int], None]:
    return lambda done: progress(name, done)


def verdicts(evaluation: Evaluation) -> list[Verdict]:
    """For each surrogate, the cheapest classical solver that is at least as exact, at two lead times.

    The lead times are the training horizon and the end of the rollout; errors are medians over samples (and over
    seeds for the surrogate), costs are those measured in this process. Without a classical contestant, no verdict.
    """
    found = []
    solvers = [s for s in evaluation.scores if s.kind == "solver"]
    for name, group in evaluation.groups().items():
        if group[0].kind != "surrogate" or not solvers:
            continue
        cost = float(np.median([s.cost for s in group]))
        for lead in sorted({min(evaluation.trained_steps, evaluation.steps), evaluation.steps}):
            error = float(np.median([s.median("nrmse")[lead - 1] for s in group]))
            good = (
                [s for s in solvers if s.median("nrmse")[lead - 1] <= error]
                if math.isfinite(error)
                else solvers
            )
            best = min(good, key=lambda s: s.cost, default=None)
            found.append(
                Verdict(
                    name,
                    lead,
                    error,
                    cost,
                    best.name if best else None,
                    float(best.median("nrmse")[lead - 1]) if best else None,
                    best.cost if best else None,
                    cost / best.cost if best and best.cost > 0 else None,
                )
            )
    return found


def correlation_steps(scores: Scores, threshold: float = 0.8) -> np.ndarray:
    """First lead step (B,) at which the correlation falls below the threshold, steps + 1 where it never does."""
    values = np.nan_to_num(scores.values["correlation"], nan=-1.0)
    below = values < threshold
    return np.where(below.any(axis=0), below.argmax(axis=0) + 1, values.shape[0] + 1)


def add_pictures(
    evaluation: Evaluation,
    contestants: Sequence[Contestant],
    reference: Trajectory,
    *,
    frames: int = 64,
) -> None:
    """Keep the truth and each surrogate's prediction of the best, median and worst trajectory.

    Samples are ranked by the time-mean error of the first surrogate. At most `frames` frames are kept, evenly
    spread over the rollout.
    """
    surrogates = [c for c in contestants if c.kind == "surrogate"]
    shown: dict[str, Contestant] = {}
    for contestant in surrogates:
        shown.setdefault(contestant.name, contestant)
    if not shown:
        return
    first = next(s for s in evaluation.scores if s.name == surrogates[0].name)
    errors = np.nan_to_num(first.values["nrmse"], nan=1e3, posinf=1e3).mean(axis=0)
    order = np.argsort(errors, kind="stable")
    picks = {"best": order[0], "median": order[len(order) // 2], "worst": order[-1]}
    chosen = torch.tensor(list(picks.values()))
    keep = sorted(
        set(np.linspace(0, evaluation.steps, min(frames, evaluation.steps + 1)).round().astype(int))
    )
    truth = reference.data[chosen][:, keep].numpy()
    evaluation.picture_times = reference.times.numpy()[keep]
    evaluation.picture_labels = {
        label: f"{label} trajectory (sample {int(sample)}, mean nRMSE {errors[sample]:.3g})"
        for label, sample in picks.items()
    }
    for position, label in enumerate(picks):
        evaluation.pictures[label] = {"truth": truth[position]}
    for name, contestant in shown.items():
        kept = [reference.data[chosen, 0]]
        for lead, state in enumerate(
            contestant.states(reference.data[chosen, 0], evaluation.steps), start=1
        ):
            if lead in keep:
                kept.append(state)
        stacked = torch.stack(kept, dim=1).float().numpy()
        for position, label in enumerate(picks):
            evaluation.pictures[label][name] = stacked[position]


def tidy_rows(
    evaluation: Evaluation, *, leads: int = 48
) -> Iterator[tuple[str, int, int, int, float, str, float]]:
    """Rows (step name, seed, sample, lead step, lead time, metric, value) at log-spaced lead times."""
    steps = evaluation.steps
    chosen = {1, 10, 50, 100, 200, evaluation.trained_steps, steps}
    chosen |= set(np.geomspace(1, steps, leads).round().astype(int).tolist())
    picked = sorted(k for k in chosen if 1 <= k <= steps)
    for scores in evaluation.scores:
        for metric, values in scores.values.items():
            for lead in picked:
                for sample, value in enumerate(values[lead - 1]):
                    yield scores.name, scores.seed, sample, lead, lead * evaluation.dt, metric, float(value)
        for sample, when in enumerate(scores.blow_up):
            survived = min(int(when), steps + 1)
            yield (
                scores.name,
                scores.seed,
                sample,
                survived,
                survived * evaluation.dt,
                "blow_up_step",
                float(when),
            )


def summary(evaluation: Evaluation, threshold: float = 0.8) -> dict[str, Any]:
    """The table of the report as plain numbers: one entry per contestant, medians over samples and seeds."""
    steps, trained = evaluation.steps, min(evaluation.trained_steps, evaluation.steps)
    table = []
    for name, group in evaluation.groups().items():
        per_seed = {
            "nrmse_1": [s.median("nrmse")[0] for s in group],
            "nrmse_trained": [s.median("nrmse")[trained - 1] for s in group],
            "nrmse_last": [s.median("nrmse")[-1] for s in group],
            "vrmse_last": [s.median("vrmse")[-1] for s in group],
            "correlation_time": [
                float(np.median(correlation_steps(s, threshold))) * evaluation.dt for s in group
            ],
            "blown_up": [float((s.blow_up <= steps).mean()) for s in group],
        }
        if "spectral_distance" in group[0].values:
            per_seed["spectral_distance_last"] = [s.median("spectral_distance")[-1] for s in group]
        for key in group[0].values:
            if key.startswith("drift "):
                per_seed[key] = [
                    float(np.nanmax(s.values[key])) if np.isfinite(s.values[key]).any() else math.nan
                    for s in group
                ]
        entry: dict[str, Any] = {
            "name": name,
            "kind": group[0].kind,
            "seeds": [s.seed for s in group],
            "parameters": group[0].parameters,
            "cost_seconds_per_step_and_sample": float(np.median([s.cost for s in group])),
        }
        for key, values in per_seed.items():
            entry[key] = float(np.median(values))
            if len(values) > 1:
                entry[f"{key}_range"] = [float(np.min(values)), float(np.max(values))]
        table.append(entry)
    floor = (
        None
        if evaluation.floor is None
        else {
            "first": float(evaluation.floor[min(1, len(evaluation.floor) - 1)]),
            "last": float(evaluation.floor[-1]),
        }
    )
    return {
        "dt": evaluation.dt,
        "steps": steps,
        "trained_steps": evaluation.trained_steps,
        "samples": int(evaluation.scores[0].blow_up.shape[0]) if evaluation.scores else 0,
        "correlation_threshold": threshold,
        "error_floor": floor,
        "table": table,
        "verdicts": [asdict(v) for v in evaluation.verdicts],
    }


def save(evaluation: Evaluation, folder: Path) -> None:
    """Write `evaluation.npz` (arrays) with `summary.json` and `metrics.csv` beside it, each renamed when whole."""
    arrays: dict[str, np.ndarray] = {}
    heads = []
    for index, s in enumerate(evaluation.scores):
        heads.append(
            {
                "name": s.name,
                "kind": s.kind,
                "seed": s.seed,
                "parameters": s.parameters,
                "cost": s.cost,
                "metrics": list(s.values),
                "spectra": [int(k) for k in s.spectra],
            }
        )
        for metric, values in s.values.items():
            arrays[f"scores/{index}/{metric}"] = values.astype(np.float32)
        arrays[f"blow_up/{index}"] = s.blow_up
        for lead, spectrum in s.spectra.items():
            arrays[f"spectra/{index}/{lead}"] = spectrum
    for lead, spectrum in evaluation.reference_spectra.items():
        arrays[f"reference_spectra/{lead}"] = spectrum
    for name, values in evaluation.reference_drift.items():
        arrays[f"reference_drift/{name}"] = values
    for label, picture in evaluation.pictures.items():
        for name, values in picture.items():
            arrays[f"pictures/{label}/{name}"] = values.astype(np.float32)
    for name, entries in evaluation.jacobians.items():
        for key, values in entries.items():
            arrays[f"jacobians/{name}/{key}"] = np.asarray(values)
    if evaluation.floor is not None:
        arrays["floor"] = evaluation.floor
    if evaluation.picture_times is not None:
        arrays["picture_times"] = evaluation.picture_times
    head = {
        "dt": evaluation.dt,
        "steps": evaluation.steps,
        "trained_steps": evaluation.trained_steps,
        "fields": [asdict(f) for f in evaluation.fields],
        "scores": heads,
        "picture_labels": evaluation.picture_labels,
        "verdicts": [asdict(v) for v in evaluation.verdicts],
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
    if isinstance(value, list):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def load(folder: Path) -> Evaluation:
    """Read what `save` wrote.

    Raises:
        UserError: the folder has no evaluation, or it is damaged.
    """
    path = folder / "evaluation.npz"
    if not path.exists():
        raise UserError(f"{folder} has no evaluation.npz; run `sciml evaluate {folder}` first.")
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        head = json.loads(arrays["head"].tobytes())
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is damaged ({error}); run `sciml evaluate {folder}` again.") from error
    scores = [
        Scores(
            s["name"],
            s["kind"],
            s["seed"],
            s["parameters"],
            {metric: arrays[f"scores/{i}/{metric}"] for metric in s["metrics"]},
            arrays[f"blow_up/{i}"],
            {lead: arrays[f"spectra/{i}/{lead}"] for lead in s["spectra"]},
            s["cost"],
        )
        for i, s in enumerate(head["scores"])
    ]

    def below(prefix: str) -> dict[str, np.ndarray]:
        return {k[len(prefix) :]: v for k, v in arrays.items() if k.startswith(prefix)}

    def nested(prefix: str) -> dict[str, dict[str, np.ndarray]]:
        out: dict[str, dict[str, np.ndarray]] = {}
        for key, value in below(prefix).items():
            label, name = key.split("/", 1)
            out.setdefault(label, {})[name] = value
        return out

    return Evaluation(
        head["dt"],
        head["steps"],
        head["trained_steps"],
        tuple(Field(**f) for f in head["fields"]),
        scores,
        {int(k): v for k, v in below("reference_spectra/").items()},
        below("reference_drift/"),
        arrays.get("floor"),
        [Verdict(**v) for v in head["verdicts"]],
        nested("pictures/"),
        arrays.get("picture_times"),
        head["picture_labels"],
        nested("jacobians/"),
    )


def add_jacobians(
    evaluation: Evaluation,
    contestants: Sequence[Contestant],
    reference: Trajectory,
    *,
    solver: Step | None = None,
    states: int = 9,
    seed: int = 0,
) -> None:
    """Keep norms of the one-step Jacobian of each surrogate, and of the solver it imitates, along one true trajectory.

    Args:
        evaluation: receives them.
        contestants: those with a Step behind them, the first seed of each surrogate.
        reference: test trajectories; the first sample is walked along.
        solver: the reference solver on the data's own points, if there is one.
        states: number of states, evenly spread over the training horizon twice over.
        seed: of the random probes.
    """
    from sciml.jacobian import jacobian_diagnostics

    last = min(2 * evaluation.trained_steps, evaluation.steps)
    chosen = sorted(set(np.linspace(0, last, states).round().astype(int).tolist()))
    along = reference.data[0, chosen]
    measured: dict[str, Callable[[Tensor], Tensor]] = {}
    for contestant in contestants:
        if contestant.kind == "surrogate" and contestant.step is not None:
            measured.setdefault(contestant.name, contestant.step)
    if solver is not None:
        measured["reference solver"] = solver
    for name, step in measured.items():
        at = along.double() if name == "reference solver" else along
        generator = torch.Generator().manual_seed(seed)
        found = jacobian_diagnostics(step, at, probes=32, iterations=40, generator=generator)
        energy = found["row_energy"][-1]
        evaluation.jacobians[name] = {
            "times": reference.times.numpy()[chosen],
            "spectral_norm": found["spectral_norm"].double().numpy(),
            "frobenius": found["frobenius"].double().numpy(),
            "row_energy": energy.flatten(1).mean(dim=1).double().numpy()
            if energy.ndim > 1
            else energy.double().numpy(),
        }
