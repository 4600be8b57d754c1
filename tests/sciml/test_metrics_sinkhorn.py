"""Entropic transport against its limits, an assignment found by trying all, and finite differences."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from sciml import Cloud
from sciml.metrics.sinkhorn import sinkhorn_divergence, squared_distances


def points(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def test_small_epsilon_gives_the_best_assignment_and_large_epsilon_the_distance_of_the_means():
    x, y = points(2, 6, 2, seed=1), points(2, 6, 2, seed=2)
    cost = squared_distances(x, y)
    best = [
        min(sum(c[i, j].item() for i, j in enumerate(p)) / 6 for p in itertools.permutations(range(6)))
        for c in cost
    ]
    found = sinkhorn_divergence(x, y, 1e-3, iterations=5000, tolerance=1e-8)
    # Bias of order epsilon ln N.
    assert found.tolist() == pytest.approx(best, abs=5e-3)
    means = (x.mean(1) - y.mean(1)).square().sum(1)
    torch.testing.assert_close(sinkhorn_divergence(x, y, 1e5), means, rtol=1e-3, atol=0)


def test_it_is_zero_for_equal_sets_positive_for_others_and_blind_to_order():
    x, y = points(1, 12, 3, seed=3), points(1, 9, 3, seed=4)
    assert sinkhorn_divergence(x, x.flip(1), 1.0, tolerance=1e-10).item() == pytest.approx(0, abs=1e-9)
    value = sinkhorn_divergence(x, y, 1.0, tolerance=1e-10)
    assert value.item() > 0.01
    torch.testing.assert_close(sinkhorn_divergence(y, x.flip(1), 1.0, tolerance=1e-10), value)


def test_masses_count_points():
    """A point of double mass is two points in one place."""
    x, y = points(1, 5, 2, seed=5), points(1, 4, 2, seed=6)
    twice = torch.cat([x, x[:, :1]], dim=1)
    masses = torch.tensor([2.0, 1, 1, 1, 1], dtype=torch.float64) / 6
    torch.testing.assert_close(
        sinkhorn_divergence(x, y, 0.2, x_weights=masses, tolerance=1e-12),
        sinkhorn_divergence(twice, y, 0.2, tolerance=1e-12),
        rtol=1e-9,
        atol=0,
    )


def test_slopes_are_those_of_finite_differences():
    x, y = points(2, 5, 2, seed=7).requires_grad_(), points(2, 4, 2, seed=8).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda p, q: sinkhorn_divergence(p, q, 1.0, tolerance=1e-13, iterations=20000), (x, y)
    )
    # Equal sets are the minimum, where the slope is zero.
    same = x.detach().clone().requires_grad_()
    sinkhorn_divergence(same, x.detach(), 2.0, tolerance=1e-12).sum().backward()
    assert same.grad is not None and same.grad.abs().max() < 1e-9


def test_a_periodic_box_is_crossed_the_short_way():
    box = Cloud(((0.0, 1.0),), periodic=True)
    x = torch.full((1, 1, 1), 0.05, dtype=torch.float64)
    y = torch.full((1, 1, 1), 0.95, dtype=torch.float64)
    assert sinkhorn_divergence(x, y, 0.01, box=box).item() == pytest.approx(0.01, rel=1e-9)
    assert sinkhorn_divergence(x, y, 0.01).item() == pytest.approx(0.81, rel=1e-9)


def test_a_lost_sample_is_nan_and_the_others_stay():
    x, y = points(2, 6, 2, seed=9), points(2, 6, 2, seed=10)
    value = sinkhorn_divergence(x, y, 0.1)
    x[1, 3, 0] = torch.inf
    broken = sinkhorn_divergence(x, y, 0.1)
    assert torch.isnan(broken[1])
    torch.testing.assert_close(broken[0], value[0], rtol=1e-3, atol=0)


def test_refusals():
    x = points(1, 3, 2, seed=0)
    with pytest.raises(ValueError, match=r"\(B, M, D\)"):
        sinkhorn_divergence(x, x[0])
    with pytest.raises(ValueError, match="positive"):
        sinkhorn_divergence(x, x, 0.0)
    with pytest.raises(ValueError, match="x_weights"):
        sinkhorn_divergence(x, x, x_weights=torch.ones(2))
    with pytest.raises(ValueError, match="box of 1"):
        sinkhorn_divergence(x, x, box=Cloud(((0.0, 1.0),)))
