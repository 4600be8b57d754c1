"""Paired comparisons and shares, against values worked out otherwise."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sciml.experiments.study.paired import capped, compare, wilson


def test_ratios_are_those_of_the_definitions():
    a = np.array([[1.0, 2.0, 4.0], [2.0, 2.0, 8.0]])
    b = np.array([[2.0, 2.0, 2.0], [1.0, 4.0, 16.0]])
    found = compare(a, b)
    logs = [math.log(min(x, 10) / min(y, 10)) for x, y in zip(a.ravel(), b.ravel(), strict=True)]
    assert found.ratio.value == pytest.approx(math.exp(sum(logs) / 6), rel=1e-12)
    # Sixteen counts as ten, the cap.
    assert found.medians.value == pytest.approx(2.0 / 2.0) and found.better == pytest.approx(3.5 / 6)
    assert (found.seeds, found.samples, found.capped) == (2, 3, (0, 1))
    back = compare(b, a)
    assert back.ratio.value == pytest.approx(1 / found.ratio.value)
    assert back.ratio.low == pytest.approx(1 / found.ratio.high)


def test_what_is_not_finite_counts_as_the_cap():
    bad = np.array([[np.nan, np.inf, 50.0, 0.0, 3.0]])
    assert capped(bad, 10.0).tolist() == [[10.0, 10.0, 10.0, 1e-12, 3.0]]
    found = compare(np.full((2, 4), np.nan), np.full((2, 4), 0.1))
    assert found.ratio.value == pytest.approx(100.0) and found.capped == (8, 0)
    assert found.ratio.decided == 1 and found.better == 0.0


def test_the_same_errors_are_not_told_apart_and_draws_are_repeated():
    errors = np.exp(np.random.default_rng(0).normal(size=(4, 6)))
    same = compare(errors, errors)
    assert same.ratio == same.medians and same.ratio.value == same.ratio.low == same.ratio.high == 1.0
    assert same.ratio.decided == 0 and same.better == 0.5
    other = errors * 1.1
    assert compare(errors, other, seed=3) == compare(errors, other, seed=3)
    assert compare(errors, other).ratio.value == pytest.approx(1 / 1.1)


def test_draws_take_both_errors_of_a_pair_and_whole_seeds():
    """Against a bootstrap written the long way: lists, loops, and the same generator."""
    generator = np.random.default_rng(1)
    a, b = np.exp(generator.normal(size=(2, 3, 4)))
    draws = np.random.default_rng(7)
    rows, columns = draws.integers(0, 3, (50, 3)), draws.integers(0, 4, (50, 4))
    means = []
    for r, c in zip(rows, columns, strict=True):
        logs = [math.log(min(a[i, j], 10)) - math.log(min(b[i, j], 10)) for i in r for j in c]
        means.append(sum(logs) / len(logs))
    found = compare(a, b, draws=50, seed=7)
    assert found.ratio.low == pytest.approx(math.exp(np.quantile(means, 0.025)))
    assert found.ratio.high == pytest.approx(math.exp(np.quantile(means, 0.975)))


def test_intervals_hold_the_truth_as_often_as_they_say():
    """Effects of seeds and of initial states, crossed: an interval over samples alone would miss most of the time."""
    generator, held, narrow = np.random.default_rng(5), 0, 0
    for _ in range(150):
        seeds, states = generator.normal(0, 0.3, (12, 1)), generator.normal(0, 0.3, (1, 12))
        difference = 0.2 + seeds + states + generator.normal(0, 0.2, (12, 12))
        found = compare(np.exp(difference), np.ones((12, 12)), cap=1e6, draws=300, level=0.9).ratio
        held += found.low <= math.exp(0.2) <= found.high
        mean, error = difference.mean(), difference.std() / 12
        narrow += abs(mean - 0.2) <= 1.645 * error
    # 90 % asked for; twelve seeds give a little less. Binomial spread of 150 trials: 2.4 %.
    assert 0.82 <= held / 150 <= 0.99 and narrow / 150 < 0.6


def test_shares_have_the_published_interval():
    # Newcombe, Statistics in Medicine 17 (1998) 857-872, Table I, method 3.
    for successes, trials, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        found = wilson(successes, trials)
        assert (found.low, found.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))
    assert wilson(7, 7).high == 1.0 and wilson(7, 7).low > 0.6
    with pytest.raises(ValueError, match="expected some trials"):
        wilson(1, 0)


def test_unlike_shapes_are_refused():
    with pytest.raises(ValueError, match="the same seeds and samples"):
        compare(np.ones((2, 3)), np.ones((2, 4)))
