"""What a verdict says, on steps whose errors, drifts and ends are known."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from sciml import Field, FunctionStep, Grid, Trajectory, rollout
from sciml.experiments.bootstrap import interval
from sciml.experiments.contestants import from_step
from sciml.experiments.evaluate import evaluate
from sciml.experiments.laboratory import SOLVER, add_laboratory
from sciml.experiments.reference import from_trajectory
from sciml.experiments.verdict import in_words, survival_band, verdicts

GRID = Grid((32,), (1.0,))
STEPS = 60


def shift(u):
    return torch.roll(u, 2, dims=-1)


def step_of(function):
    return FunctionStep(function, 0.1, GRID, ("u",))


@pytest.fixture(scope="module")
def reference():
    generator = torch.Generator().manual_seed(1)
    x = GRID.coordinates()[0]
    k = torch.arange(1, 9, dtype=torch.float64)
    amplitude = torch.randn(12, 8, 1, generator=generator, dtype=torch.float64) / k[:, None]
    phase = torch.rand(12, 8, 1, generator=generator, dtype=torch.float64)
    u0 = (amplitude * torch.sin(2 * math.pi * (k[:, None] * x + phase))).sum(1, keepdim=True)
    true = Trajectory(rollout(shift, STEPS)(u0), GRID, 0.1 * torch.arange(STEPS + 1), (Field("u"),))
    return from_trajectory(true)


def judged(reference, *functions, **options):
    steps = [from_step(f"s{i}", step_of(f), "surrogate") for i, f in enumerate(functions)]

    def invariants(samples):
        return lambda u: {"mean": u.mean((1, 2)), "square": u.square().mean((1, 2))}

    return evaluate(steps, reference, trained_steps=10, invariants=invariants, **options)


def test_a_perfect_surrogate_is_at_the_floor_and_never_below(reference):
    out = judged(reference, shift, floor=np.full(STEPS + 1, 1e-3))
    verdict = verdicts(out)[0]
    for c in verdict.comparisons:
        # It is the truth, so that its distance to other samples is that of the truth: exactly, and not zero.
        assert c.value == pytest.approx(c.floor, rel=0.35) and c.value > 0 and c.faithful
    assert verdict.of("statistics")[0].good
    valid = verdict.of("valid until")[0]
    assert "at least t = 6" in valid.sentence and valid.numbers["correlation_time_censored"]
    floor = verdict.of("error floor")[0]
    assert "not above the data's own error" in floor.sentence and "times the data" not in floor.sentence
    assert verdict.of("invariants")[0].good
    assert in_words({"surrogate": "s0", "findings": [vars(f) for f in verdict.findings]}).startswith(
        "s0:\n"
    )


def test_a_smoothing_surrogate_is_told_by_its_spectrum_and_its_drift(reference):
    def smooth(u):
        return 0.5 * shift(u) + 0.25 * (torch.roll(u, 1, -1) + torch.roll(u, 3, -1))

    out = judged(reference, smooth)
    verdict = verdicts(out)[0]
    spectrum = next(c for c in verdict.comparisons if c.name == "spectrum")
    assert spectrum.value > 3 * spectrum.floor and not verdict.of("statistics")[0].good
    drift = verdict.of("invariants")[0]
    assert (
        not drift.good and drift.numbers["square"]["drift"] > 0.5 and drift.numbers["mean"]["drift"] < 1e-6
    )
    assert "the reference" in drift.sentence


def test_a_tail_without_energy_is_told_from_the_energetic_scales(reference):
    def with_tail(u):
        v = torch.fft.rfft(shift(u))
        v[..., 9:] = 1e-3  # the truth has waves 1 to 8
        return torch.fft.irfft(v, n=u.shape[-1])

    found = {c.name: c for c in verdicts(judged(reference, with_tail))[0].comparisons}
    assert not found["spectrum"].faithful and found["spectrum"].value > 1
    assert found["energetic spectrum"].faithful
    # What is wrong there is wrong in both.
    found = {c.name: c for c in verdicts(judged(reference, lambda u: 0.9 * shift(u)))[0].comparisons}
    assert not found["energetic spectrum"].faithful


def test_blow_ups_make_a_band_over_samples_and_seeds(reference):
    def explode(when):
        count = {"n": 0}

        def step(u):
            count["n"] += 1
            v = shift(u).clone()
            if count["n"] >= when:
                v[: len(v) // 2] = torch.inf
            return v

        return step

    steps = [from_step("s", step_of(explode(20 + 10 * seed)), "surrogate", seed=seed) for seed in range(2)]
    out = evaluate(steps, reference, trained_steps=10)
    when, alive, low, high = survival_band(out, out.groups()["s"])
    assert when.tolist() == [0, 20, 30, 60] and alive.tolist() == [1, 0.75, 0.5, 0.5]
    assert np.all(low <= alive) and np.all(high >= alive) and low[0] < 1
    found = verdicts(out)[0].of("stability")[0]
    assert found.numbers["first_unstable_step"] == 20 and found.numbers["blown_up"] == 12
    assert not found.good and "Unstable: 12 of 24 rollouts (2 seeds, 12 initial states)" in found.sentence


def test_no_blow_up_in_few_rollouts_shows_little(reference):
    few = replace(reference, samples=2)
    verdict = verdicts(judged(few, shift))[0]
    numbers = verdict.of("stability")[0].numbers
    # Wilson's interval for two of two: 1 / (1 + z^2 / 2).
    assert numbers["surviving_interval"][0] == pytest.approx(1 / (1 + 1.96**2 / 2), abs=1e-3)
    assert "anecdote" in verdict.of("valid until")[0].sentence


def test_freezing_is_told_with_its_first_step(reference):
    count = {"n": 0}

    def stops(u):
        count["n"] += 1
        return shift(u) if count["n"] < 31 else u

    out = judged(reference, stops)
    found = verdicts(out)[0].of("stability")[0]
    assert found.numbers["frozen"] == 12 and found.numbers["first_frozen_step"] == 31 and not found.good


def test_the_laboratory_measures_what_a_linear_step_is(reference):
    out = judged(reference, lambda u: 0.9 * shift(u))
    surrogate = from_step("s0", step_of(lambda u: 0.9 * shift(u)), "surrogate")
    add_laboratory(out, [surrogate], reference, solver=step_of(shift), half=None, states=3)
    mine, true = out.laboratory["s0"], out.laboratory[SOLVER]
    assert np.allclose(mine["spectral_norm"], 0.9, atol=1e-6) and np.allclose(
        true["spectral_norm"], 1, atol=1e-6
    )
    assert np.allclose(mine["spectral_radius"], 0.9, atol=1e-4)
    assert np.allclose(mine["transient_growth"], 0.9**10, atol=1e-6)
    assert np.allclose(mine["shell_gain"], 0.9, atol=1e-6)
    assert np.allclose(mine["exponents"], math.log(0.9) / 0.1, atol=1e-3)
    sentence = verdicts(out)[0].of("growth")[0].sentence
    assert "0.9 in one step (reference solver 1)" in sentence
    # The shift and its damping treat all wavenumbers alike; one that is enlarged is named.
    assert "by 0.729 in 3 steps (reference solver at" in sentence

    def enlarged(u):
        return torch.fft.irfft(torch.fft.rfft(u) * rises.to(u), n=32)

    rises = torch.ones(17, dtype=torch.float64)
    rises[5] = 1.1
    surrogate = from_step("s0", step_of(enlarged), "surrogate")
    add_laboratory(out, [surrogate], reference, states=2)
    found = verdicts(out)[0].of("growth")[0]
    assert "random errors grow most at wavenumber 5, by 1.33 in 3 steps" in found.sentence
    assert found.numbers["fastest_wavenumber"] == 5
    assert found.numbers["fastest_growth"] == pytest.approx(1.1**3, rel=1e-5)


def test_the_interval_of_a_median_covers_it():
    random = np.random.default_rng(5)
    hits = 0
    for trial in range(60):
        found = interval([random.normal(size=25) for _ in range(2)], seed=trial, draws=200)
        hits += found.low <= 0 <= found.high
    # 57 of 60 are expected, somewhat more as the intervals are wide; 50 would be a chance of one in a thousand.
    assert hits >= 50


def test_infinite_numbers_have_medians_and_one_sample_has_no_interval():
    found = interval([np.array([1.0, 2.0, np.inf, np.inf, np.inf])])
    assert math.isinf(found.value) and found.low <= 2 and math.isinf(found.high)
    assert interval([np.array([3.0])]).low is None
    assert interval([np.array([1.0, np.inf])]).value == math.inf
