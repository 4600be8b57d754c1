"""Whether statistics are the truth's: what chance may do, and what it may not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sciml.experiments.climate import compare
from sciml.experiments.scores import Scores


def visited(series: torch.Tensor) -> Scores:
    """A contestant that went through states (T, samples, C)."""
    samples, channels = series.shape[1:]
    histogram = np.stack(
        [
            np.stack([np.histogram(series[:, b, c].numpy(), 32, (-4, 4))[0] for c in range(channels)])
            for b in range(samples)
        ]
    )[None].astype(float)
    statistics = {
        "count": np.full((1, samples), len(series), dtype=float),
        "histogram": histogram,
        "width": np.full(channels, 8 / 32),
        "series": series.numpy(),
    }
    never = np.full(samples, len(series) + 1)
    return Scores("some", "surrogate", 0, 1, {}, never, {}, 0.0, never, statistics)


def wandering(seed: int, scale: float = 1.0) -> torch.Tensor:
    """A process that forgets within ten steps, of unit variance, (2000, 8, 2)."""
    noise = torch.randn(2000, 8, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    out = torch.empty_like(noise)
    state = noise[0]
    for k in range(len(noise)):
        state = 0.9 * state + (1 - 0.9**2) ** 0.5 * noise[k]
        out[k] = state
    return scale * out


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_the_same_process_is_faithful(seed):
    found = {c.name: c for c in compare([visited(wandering(seed))], visited(wandering(0)))}
    assert set(found) == {"distribution", "D_stsp", "D_H"}
    assert all(c.faithful for c in found.values()), found


def test_what_stands_still_here_and_there_is_not():
    truth = visited(wandering(0))
    frozen = visited(wandering(1)[:1].expand(2000, -1, -1).contiguous())
    alike = {c.name: c for c in compare([visited(wandering(1))], truth)}
    for c in compare([frozen], truth):
        # Shuffled with such states, the truth's halves differ widely: that is no reason to call them alike.
        assert c.limit <= 2 * alike[c.name].limit
        assert not c.faithful, c


def test_a_wider_process_is_not():
    found = {c.name: c for c in compare([visited(wandering(1, 1.5))], visited(wandering(0)))}
    assert not found["distribution"].faithful
