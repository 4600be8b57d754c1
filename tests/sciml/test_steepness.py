"""The ratio of steepest slopes."""

from __future__ import annotations

import math

import pytest
import torch

from sciml.metrics import steepness


@pytest.mark.parametrize("points", [(16,), (8, 12), (6, 4, 5)])
def test_a_field_scaled_by_two_is_twice_as_steep(points: tuple[int, ...]) -> None:
    ref = torch.randn(2, 3, 2, *points, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = steepness(2 * ref + 5, ref)
    torch.testing.assert_close(found, torch.full_like(found, 2.0), rtol=1e-14, atol=0)


def test_each_axis_is_compared_with_its_own_and_one_front_decides() -> None:
    x, y = torch.arange(4.0), torch.arange(5.0)
    ref = (x[:, None] + 10 * y[None, :]).reshape(1, 1, 1, 4, 5)
    pred = (3 * x[:, None] + 10 * y[None, :]).reshape(1, 1, 1, 4, 5)
    assert float(steepness(pred, ref)) == pytest.approx((3 + 1) / 2)
    front = torch.zeros(1, 1, 1, 8)
    front[..., 4:] = 1.0
    smeared = torch.tensor([0, 0, 0, 0.25, 0.75, 1, 1, 1]).reshape(1, 1, 1, 8)
    assert float(steepness(smeared, front)) == pytest.approx(0.5)


def test_flat_references_have_no_ratio_and_wrong_shapes_are_refused() -> None:
    flat = torch.ones(1, 1, 1, 4)
    assert math.isnan(float(steepness(flat, flat)))
    with pytest.raises(ValueError, match="steepness got shapes"):
        steepness(flat, flat[..., :3])
    with pytest.raises(ValueError, match="at least two"):
        steepness(flat[..., :1], flat[..., :1])
