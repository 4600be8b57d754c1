"""What an evaluation says about a surrogate, a sentence at a time with the numbers behind it."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch

from sciml.experiments.bootstrap import Estimate, interval
from sciml.experiments.climate import Comparison, compare
from sciml.experiments.evaluate import FEWEST_SAMPLES, correlation_steps, first_crossing
from sciml.experiments.scores import Evaluation, Rival, Scores
from sciml.experiments.wording import duration, number
from sciml.metrics import survival_curve

Topic = Literal["valid until", "statistics", "stability", "invariants", "error floor", "growth", "cost"]

# A correlation below this is lost, and an error of this share of the truth's root mean square is no forecast.
CORRELATED, FORECAST = 0.8, 0.4
# With fewer rollouts a sentence says that they are few.
FEW = 8
# Drifts below this are rounding of what is stored in single precision.
ROUNDING = 1e-6


@dataclass(frozen=True)
class Finding:
    """One sentence.

    Args:
        topic: what it speaks of.
        sentence: in words, with figures.
        good: whether it speaks for the surrogate; None where it does neither.
        numbers: every figure by name; None for what could not be told.
    """

    topic: Topic
    sentence: str
    good: bool | None
    numbers: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """All that is found about one surrogate, over its seeds and the initial states.

    Args:
        surrogate: its name.
        findings: in reading order.
        comparisons: the statistics behind what is said about them.
    """

    surrogate: str
    findings: tuple[Finding, ...]
    comparisons: tuple[Comparison, ...] = ()

    def of(self, topic: Topic) -> list[Finding]:
        """The findings of one topic."""
        return [f for f in self.findings if f.topic == topic]


def verdicts(evaluation: Evaluation) -> list[Verdict]:
    """A verdict for each surrogate."""
    found = []
    for name, group in evaluation.groups().items():
        if group[0].kind != "surrogate":
            continue
        comparisons = compare(group, evaluation.reference)
        findings = [
            *_valid(evaluation, group),
            *_statistics(evaluation, group, comparisons),
            *_stability(evaluation, group),
            *_invariants(evaluation, group),
            *_floor(evaluation, group),
            *_growth(evaluation, name),
            *(_cost(rival, evaluation.dt) for rival in evaluation.rivals if rival.surrogate == name),
        ]
        found.append(Verdict(name, tuple(findings), tuple(comparisons)))
    return found


def _few(evaluation: Evaluation, group: Sequence[Scores]) -> str:
    """What has to be said where there are few rollouts."""
    samples = len(group[0].blow_up)
    rollouts = samples * len(group)
    if samples >= FEW:
        return ""
    states = "initial state" if samples == 1 else "initial states"
    return f" Only {rollouts} rollouts from {samples} {states}: take it as an anecdote."


def _time(estimate: Estimate, end: float, dt: float) -> str:
    """A time with its interval; what lies beyond the end is "at least"."""

    def one(steps: float | None) -> str:
        assert steps is not None  # asked for only where there is an interval
        return f"beyond {number(end * dt)}" if steps > end else number(steps * dt)

    text = (
        f"at least t = {number(end * dt)}" if estimate.value > end else f"t = {number(estimate.value * dt)}"
    )
    if estimate.low is not None and (estimate.low <= end or estimate.value <= end):
        text += f" (95 % interval {one(estimate.low)} to {one(estimate.high)})"
    return text


def lyapunov_exponent(evaluation: Evaluation) -> float | None:
    """Leading exponent [1/time] of the reference solver, where it was measured; never a surrogate's.

    0 where it is within two standard errors of that.
    """
    found = evaluation.laboratory.get("reference solver", {})
    if "exponents" not in found:
        return None
    value, error = float(found["exponents"][0]), float(np.nan_to_num(found["exponents_error"][0]))
    return value if abs(value) > 2 * error else 0.0


def _valid(evaluation: Evaluation, group: Sequence[Scores]) -> list[Finding]:
    end, dt = evaluation.known, evaluation.dt
    numbers: dict[str, Any] = {"known_until": end * dt}
    said = []
    if "correlation" in group[0].values:
        lost = interval([correlation_steps(evaluation, s, CORRELATED) for s in group])
        numbers |= _numbers("correlation_time", lost, end, dt)
        said.append(f"its correlation with the truth stays above {CORRELATED} until {_time(lost, end, dt)}")
    wrong = interval([prediction_steps(evaluation, s) for s in group])
    numbers |= _numbers("prediction_time", wrong, end, dt)
    said.append(
        f"its error stays below {FORECAST} of the truth's root mean square until {_time(wrong, end, dt)}"
    )
    exponent = lyapunov_exponent(evaluation)
    numbers["lyapunov_exponent"] = exponent
    if exponent is not None and exponent > 0:
        least = "at least " if wrong.value > end else ""
        times = min(wrong.value, end) * dt * exponent
        numbers["prediction_lyapunov_times"] = times
        said.append(
            f"that is {least}{number(times)} Lyapunov times of the reference (exponent {number(exponent)})"
        )
    sentence = "Valid until: in the median, " + "; ".join(said) + "."
    if evaluation.known < evaluation.steps:
        sentence += f" Beyond t = {number(end * dt)} there is no truth to compare with."
    return [Finding("valid until", sentence + _few(evaluation, group), None, numbers)]


def _numbers(name: str, estimate: Estimate, end: float, dt: float) -> dict[str, Any]:
    """A time and its interval as numbers, cut at the end, and whether it was cut."""

    def cut(steps: float | None) -> float | None:
        return None if steps is None else min(steps, end) * dt

    return {
        name: cut(estimate.value),
        f"{name}_interval": [cut(estimate.low), cut(estimate.high)],
        f"{name}_censored": bool(estimate.value > end),
    }


def prediction_steps(evaluation: Evaluation, scores: Scores) -> np.ndarray:
    """Step (B,) at which the error first exceeds `FORECAST` of the root mean square of the truth; inf if never.

    Both are in standard deviations of the data from their mean, channels taken together (valid prediction time).
    """
    have = evaluation.reference.statistics
    seen = np.maximum(have["count"].sum(0), 1)
    size = np.sqrt(have["moments"][..., 1].sum(0).mean(-1) / seen)
    size = np.where(size > 0, size, 1.0)
    return first_crossing(
        scores.values["scaled_error"] / size, evaluation.steps_of(scores, "scaled_error"), FORECAST
    )


def _statistics(
    evaluation: Evaluation, group: Sequence[Scores], comparisons: Sequence[Comparison]
) -> list[Finding]:
    if not comparisons:
        return []
    wrong = [c for c in comparisons if not c.faithful]
    parts = []
    for c in comparisons:
        if not math.isfinite(c.value):
            parts.append(f"{c.name}: nothing was left to compare")
            continue
        factor = c.value / c.floor if c.floor > 0 else math.inf
        beside = "at its floor" if c.faithful else f"{number(factor)} times its floor"
        chance = f", chance reaches {number(c.limit)}" if c.faithful and c.value > c.floor else ""
        parts.append(f"{c.name} {beside} ({number(c.value)} against {number(c.floor)}{chance})")
    numbers = {
        c.name: {
            "value": c.value,
            "floor": c.floor,
            "limit": c.limit,
            "unit": c.unit,
            "faithful": c.faithful,
        }
        for c in comparisons
    }
    alive = float(np.mean([np.mean(s.blow_up > evaluation.steps) for s in group]))
    word = "Statistically faithful" if not wrong else "Not statistically faithful"
    sentence = (
        f"{word}: {'; '.join(parts)}. The floor is the distance of the truth from another half of itself."
    )
    if alive < 1:
        sentence += (
            f" Only {alive:.0%} of the rollouts reach the end; what blew up counts for the time before."
        )
    if evaluation.known < evaluation.steps:
        sentence += " The truth's statistics are those of the stored data."
    samples = len(evaluation.reference.blow_up)
    if samples < FEWEST_SAMPLES:
        sentence += (
            f" With {samples} initial state{'s' if samples > 1 else ''} the halves are those of the time, which says little "
            "if the statistics change with it."
        )
    elif samples < FEW:
        sentence += f" Halves of {samples} initial states: the floor itself is hardly known."
    return [Finding("statistics", sentence, not wrong, numbers)]


def survival_band(
    evaluation: Evaluation, group: Sequence[Scores], level: float = 0.95
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Steps, fraction alive, and the limits of its band, all (K,).

    The band is the wider one of two at each time: Wilson's for so many rollouts, which says how little a few rollouts
    without a failure show, and the bootstrap over seeds and initial states, which knows that rollouts of one seed fail
    together.
    """
    failed = np.stack([s.blow_up for s in group]).astype(float)
    end = float(evaluation.steps)
    curve = survival_curve(
        torch.from_numpy(failed.clip(max=end).ravel()), torch.from_numpy(failed.ravel() <= end), level
    )
    when = curve.times.numpy()
    random = np.random.default_rng(0)
    rows = random.integers(0, failed.shape[0], (500, failed.shape[0]))
    columns = random.integers(0, failed.shape[1], (500, failed.shape[1]))
    drawn = failed[rows[:, :, None], columns[:, None, :]].reshape(500, 1, -1)
    again = np.sort((drawn > when[:, None]).mean(axis=2), axis=0)
    outer = (1 - level) / 2
    low = np.minimum(curve.lower.numpy(), again[int(outer * 499)])
    high = np.maximum(curve.upper.numpy(), again[math.ceil((1 - outer) * 499)])
    return when, curve.survival.numpy(), low, high


def _stability(evaluation: Evaluation, group: Sequence[Scores]) -> list[Finding]:
    steps, dt = evaluation.steps, evaluation.dt
    blow = np.concatenate([s.blow_up for s in group])
    freeze = np.concatenate([s.freeze for s in group])
    gone, still = int((blow <= steps).sum()), int((freeze <= steps).sum())
    _, alive, low, high = survival_band(evaluation, group)
    seeds = len(group)
    who = f"{len(blow)} rollouts ({seeds} seed{'s' if seeds > 1 else ''}, {len(blow) // seeds} initial states)"
    band = f"{low[-1]:.0%} to {high[-1]:.0%} survive, 95 % band"
    if not gone:
        sentence = f"Stable: none of {who} blew up in {steps:,} steps (t = {number(steps * dt)}); {band}."
    else:
        first = int(blow.min())
        word = "Unstable" if high[-1] < 0.95 or alive[-1] < 0.9 else "Not quite stable"
        sentence = (
            f"{word}: {gone} of {who} blew up within {steps:,} steps, the first at step {first:,} "
            f"(t = {number(first * dt)}); {band}."
        )
        if seeds > 1:
            worst = [float((s.blow_up <= steps).mean()) for s in group]
            sentence += f" Per seed {min(worst):.0%} to {max(worst):.0%} fail."
    if still:
        sentence += f" {still} froze while the truth went on, the first at step {int(freeze.min()):,}."
    numbers = {
        "rollouts": len(blow),
        "blown_up": gone,
        "first_unstable_step": int(blow.min()) if gone else None,
        "surviving": float(alive[-1]),
        "surviving_interval": [float(low[-1]), float(high[-1])],
        "frozen": still,
        "first_frozen_step": int(freeze.min()) if still else None,
    }
    return [Finding("stability", sentence, not gone and not still, numbers)]


def _invariants(evaluation: Evaluation, group: Sequence[Scores]) -> list[Finding]:
    names = [m.removeprefix("drift ") for m in group[0].values if m.startswith("drift ")]
    parts, numbers, kept = [], {}, True
    for name in names:
        metric = f"drift {name}"
        rows = group[0].values[metric]
        when = evaluation.steps_of(group[0], metric)
        true = evaluation.reference.median(metric)
        common = min(len(true), len(rows)) - 1
        time = float(when[common]) * evaluation.dt
        drift = interval([s.worst_filled(metric)[common] for s in group])
        reference = float(true[common])
        numbers[name] = {
            "drift": drift.value,
            "drift_interval": [drift.low, drift.high],
            "per_time": drift.value / time,
            "reference": reference,
            "reference_per_time": reference / time,
            "time": time,
        }
        held = drift.value <= max(2 * reference, ROUNDING)
        kept &= held
        if not math.isfinite(drift.value):
            text = f"{name} is lost in blow-ups"
        elif held:
            text = f"{name} as the reference solver keeps it ({number(drift.value)}, reference {number(reference)})"
        else:
            times = f"{number(drift.value / reference)} times as much" if reference > 0 else "nothing"
            text = (
                f"{name} by {number(drift.value)} of its size until t = {number(time)}, "
                f"{number(drift.value / time)} per unit of time (the reference {number(reference)}, "
                f"so {times if reference == 0 else 'it drifts ' + times})"
            )
        parts.append(text)
    if not parts:
        return []
    return [
        Finding(
            "invariants", f"Invariants {'kept' if kept else 'drift'}: {'; '.join(parts)}.", kept, numbers
        )
    ]


def _floor(evaluation: Evaluation, group: Sequence[Scores]) -> list[Finding]:
    floor = evaluation.floor
    if floor is None:
        return []
    numbers: dict[str, Any] = {}
    parts, near = [], []
    last = min(len(floor) - 1, evaluation.known)
    for lead in sorted({1, min(evaluation.horizons[0], last), last}):
        error = interval([s.worst_filled("nrmse")[evaluation.place(lead)] for s in group])
        own = float(floor[lead])
        if not own > 0:
            continue
        numbers[str(lead)] = {
            "error": error.value,
            "error_interval": [error.low, error.high],
            "floor": own,
            "ratio": error.value / own,
        }
        at = f"at step {lead:,}"
        near.append(error.value <= own)
        if not math.isfinite(error.value):
            parts.append(f"{at} most rollouts have blown up")
        elif error.value <= own:
            parts.append(f"{at} not above the data's own error of {number(own)}: nothing finer can be told")
        else:
            parts.append(
                f"{at} {number(error.value / own)} times the data's own ({number(error.value)} against {number(own)})"
            )
    if not parts:
        return []
    return [Finding("error floor", f"Error: {'; '.join(parts)}.", all(near) or None, numbers)]


def _growth(evaluation: Evaluation, name: str) -> list[Finding]:
    mine = evaluation.laboratory.get(name)
    if mine is None:
        return []
    true = evaluation.laboratory.get("reference solver", {})
    parts: list[str] = []
    numbers: dict[str, float | None] = {}
    for key, words in (
        ("spectral_norm", "errors grow by up to {} in one step"),
        ("transient_growth", "by up to {} over the next {} steps"),
        ("spectral_radius", "the spectral radius is {}"),
        ("exponent", "the leading Lyapunov exponent of its own rollout is {}"),
        ("semigroup", "steps of two lengths disagree by {} of the change"),
    ):
        source = "exponents" if key == "exponent" else key
        if source not in mine:
            continue

        def middle(entry: Mapping[str, np.ndarray], source: str = source, key: str = key) -> float:
            values = entry[source]
            return float(values[0]) if key == "exponent" else float(np.median(values))

        own = middle(mine)
        other = middle(true) if source in true else None
        numbers[key] = own
        numbers[f"reference_{key}"] = other
        text = words.format(number(own), int(mine["growth_steps"]) if "growth_steps" in mine else 0)
        parts.append(text + (f" (reference solver {number(other)})" if other is not None else ""))
    if "shell_growth" in mine:
        steps = int(mine["shell_steps"])
        k, gain = _fastest(mine)
        numbers |= {"fastest_wavenumber": k, "fastest_growth": gain}
        text = f"random errors grow most at wavenumber {number(k)}, by {number(gain)} in {steps} step{'s' * (steps > 1)}"
        if "shell_growth" in true:
            k, gain = _fastest(true)
            text += f" (reference solver at {number(k)}, by {number(gain)})"
            numbers |= {"reference_fastest_wavenumber": k, "reference_fastest_growth": gain}
        parts.append(text)
    if not parts:
        return []
    return [Finding("growth", "Along true states " + "; ".join(parts) + ".", None, numbers)]


def _fastest(entry: Mapping[str, np.ndarray]) -> tuple[float, float]:
    """The wavenumber whose random errors grow most, and by how much in the root mean square."""
    gains = np.nan_to_num(entry["shell_growth"], nan=np.inf)
    k = int(gains.argmax())
    return float(k), float(gains[k])


def _cost(rival: Rival, dt: float) -> Finding:
    numbers = {
        "lead": rival.lead,
        "error": rival.error,
        "cost": rival.cost,
        "solver": rival.solver,
        "solver_error": rival.solver_error,
        "solver_cost": rival.solver_cost,
        "cost_ratio": rival.cost_ratio,
    }
    when = f"At lead time {number(rival.lead * dt)} (step {rival.lead:,})"
    if not math.isfinite(rival.error):
        sentence = (
            f"{when}, {rival.surrogate} has blown up on most trajectories; every classical solver that survives is "
            "better."
        )
        return Finding("cost", sentence, False, numbers)
    said = (
        f"{when}, {rival.surrogate} has a median nRMSE of {number(rival.error)} at {duration(rival.cost)} per step and "
        "trajectory."
    )
    if rival.solver is None or rival.solver_error is None or rival.solver_cost is None:
        return Finding(
            "cost", f"{said} No classical solver among those tried reaches this error.", True, numbers
        )
    said += (
        f" The cheapest classical solver that is at least as exact is “{rival.solver}”: nRMSE "
        f"{number(rival.solver_error)} at {duration(rival.solver_cost)}."
    )
    ratio = rival.cost_ratio
    if ratio is None:
        return Finding("cost", said, None, numbers)
    if ratio < 1:
        said += f" The surrogate is {number(1 / ratio)} times cheaper."
    else:
        said += f" The surrogate is {number(ratio)} times dearer: the coarse solver wins."
    return Finding("cost", said, ratio < 1, numbers)


def in_words(verdict: Mapping[str, Any]) -> str:
    """A verdict of a summary as text for a terminal: its name, and a sentence a line."""
    marks = {True: "+", False: "-", None: " "}
    lines = [f"{verdict['surrogate']}:"]
    for finding in verdict["findings"]:
        lines += textwrap.wrap(
            finding["sentence"],
            118,
            initial_indent=f"  {marks[finding['good']]} ",
            subsequent_indent="    ",
        )
    return "\n".join(lines)
