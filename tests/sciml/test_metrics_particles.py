"""Errors of particles by hand, across the sides of a periodic box too."""

from __future__ import annotations

import pytest
import torch

from sciml.domains import Cloud
from sciml.metrics import particle_energy, position_mse

BOX = Cloud(((0.0, 1.0), (0.0, 2.0)), periodic=(True, False))


def positions(*frames: list[list[float]]) -> torch.Tensor:
    """(1, T, 2, N) from frames of [x of all, y of all]."""
    return torch.tensor([frames], dtype=torch.float64)


def test_errors_go_the_short_way_round():
    ref = positions([[0.1, 0.5], [1.0, 1.9]], [[0.2, 0.5], [1.0, 0.1]])
    pred = positions([[0.9, 0.5], [1.0, 1.9]], [[0.2, 0.7], [1.0, 1.9]])
    # 0.9 is 0.2 from 0.1 through the side; along y there is no way round.
    expected = torch.tensor([[0.2**2 / 4, (0.2**2 + 1.8**2) / 4]], dtype=torch.float64)
    torch.testing.assert_close(position_mse(pred, ref, BOX), expected)
    assert position_mse(pred, ref, BOX)[:, :2].mean(1).item() == pytest.approx(float(expected.mean()))


def test_energy_is_that_of_pairs_of_frames():
    # One particle moves by 0.1 in a step along x, and crosses the side in the last one; the other stands.
    x = positions(*[[[(0.7 + 0.1 * t) % 1.0, 0.5], [1.0, 1.0]] for t in range(5)])
    each = 0.1**2 / 0.5**2
    torch.testing.assert_close(particle_energy(x, BOX, 0.5), torch.full((1, 4), each, dtype=torch.float64))
    found = particle_energy(x, BOX, 0.5, volume=0.25, every=3)  # frames 0, 1 and 3, 4
    torch.testing.assert_close(found, torch.full((1, 2), 0.25 * each, dtype=torch.float64))


def test_refusals():
    x = torch.zeros(1, 3, 2, 4)
    with pytest.raises(ValueError, match=r"expected \(B, T, 2, N\) twice"):
        position_mse(x, x[:, :2], BOX)
    with pytest.raises(ValueError, match=r"expected \(B, T, 2, N\)\."):
        particle_energy(torch.zeros(1, 3, 3, 4), BOX, 0.1)
    with pytest.raises(ValueError, match="1 frames"):
        particle_energy(x[:, :1], BOX, 0.1)
