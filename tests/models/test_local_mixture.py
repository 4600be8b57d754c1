"""Means of neighbours and fields that rise along an axis."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sciml import Grid
from sciml.experiments import components
from sciml.models import LocalMixture, Monotone


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def logits(count: int):
    """A map that gives `count` numbers per channel, different at every point and for every state."""
    factors = 3.0 * normal(count, seed=5)
    return lambda u: torch.sin(
        torch.einsum("s,bc...->bcs...", factors, u + u.roll(1, -1)).flatten(1, 2) * 2.0
    )


@pytest.mark.parametrize(
    "grid", [Grid((9,), (1.0,)), Grid((5, 4), (1.0, 1.0), boundary=("wall", "periodic"), centering="cell")]
)
def test_no_value_leaves_the_range_of_its_neighbourhood(grid):
    step = LocalMixture(logits(3**grid.dimension), grid, own=0.0)
    u = normal(2, 2, *grid.shape)
    low, high = u.flatten(2).amin(2), u.flatten(2).amax(2)
    # By hand, at an inner point.
    near = u[(slice(None), slice(None), *[slice(1, 4)] * grid.dimension)].flatten(2)
    weights = step.weights(u)[(slice(None), slice(None), slice(None), *[2] * grid.dimension)]
    torch.testing.assert_close(
        step(u)[(slice(None), slice(None), *[2] * grid.dimension)], (weights * near).sum(2)
    )
    for precision in (torch.float64, torch.float32):
        v = u.to(precision)
        ends = v.flatten(2).amin(2), v.flatten(2).amax(2)
        for _ in range(50):
            v = step(v)
            assert v.dtype == precision
            assert (v.flatten(2).amin(2) >= ends[0]).all() and (v.flatten(2).amax(2) <= ends[1]).all()
    assert (
        float((v.flatten(2).amax(2) - v.flatten(2).amin(2) - (high - low)).max()) < -0.1
    )  # and it did mix
    assert torch.equal(step(torch.full_like(u, 0.1)), torch.full_like(u, 0.1))


def test_beyond_a_side_lies_the_value_at_the_side_and_a_period_wraps():
    left = torch.tensor([50.0, 0.0, 0.0]).double()  # all weight on the neighbour before
    move = lambda u: left.reshape(1, 3, 1).expand(1, 3, 4)  # noqa: E731
    u = torch.arange(4.0, dtype=torch.float64).reshape(1, 1, 4)
    wrapped = LocalMixture(move, Grid((4,), (1.0,)))(u)
    walled = LocalMixture(move, Grid((4,), (1.0,), boundary="wall", centering="cell"))(u)
    torch.testing.assert_close(wrapped.flatten(), torch.tensor([3.0, 0, 1, 2]).double(), rtol=0, atol=1e-12)
    torch.testing.assert_close(walled.flatten(), torch.tensor([0.0, 0, 1, 2]).double(), rtol=0, atol=1e-12)


def test_gradients_and_what_a_network_of_zeros_does():
    grid = Grid((4,), (1.0,))
    u = normal(1, 1, 4).requires_grad_()
    assert torch.autograd.gradcheck(LocalMixture(logits(3), grid, own=1.0), (u,), check_forward_ad=True)
    still = LocalMixture(lambda u: torch.zeros(1, 3, 4), grid, own=40.0)
    torch.testing.assert_close(still(u), u, rtol=0, atol=1e-15)
    for more in ({}, {"lower": -1.0, "upper": 2.0}):
        assert torch.autograd.gradcheck(Monotone(torch.sin, **more), (u,), check_forward_ad=True)


def test_fields_rise_or_fall_and_end_where_they_should():
    u = 30.0 * normal(2, 2, 6, 5)
    rises = Monotone(lambda u: u, axis=1)(u)
    assert (rises.diff(dim=3) >= 0).all() and torch.equal(rises[..., 0], u[..., 0])
    assert (Monotone(lambda u: u, falling=True)(u).diff(dim=2) <= 0).all()
    between = Monotone(lambda u: u, lower=-1.0, upper=3.0)(u)
    assert (between.diff(dim=2) >= 0).all() and float(between.min()) >= -1.0
    torch.testing.assert_close(between[:, :, -1], torch.full((2, 2, 5), 3.0).double(), rtol=0, atol=1e-14)
    down = Monotone(lambda u: u, falling=True, lower=-1.0, upper=3.0)(u.float())
    assert down.dtype == torch.float32 and (down.diff(dim=2) <= 0).all() and float(down.max()) <= 3.0


def test_a_study_names_them_and_wrong_arguments_are_refused():
    grid = Grid((6,), (1.0,))
    facts = {"grid": grid, "domain": grid, "in_channels": 1, "out_channels": 1, "dimension": 1}
    inner = {"class_path": "ConvNet", "init_args": {"width": 3, "hidden_layers": 1}}
    for name, out in (("LocalMixture", 3), ("Monotone", 1)):
        f = {**inner, "init_args": {**inner["init_args"], "out_channels": out}}
        step = components.build({"class_path": name, "init_args": {"f": f}}, "here", "network", facts)
        assert step(normal(2, 1, 6).float()).shape == (2, 1, 6)
    with pytest.raises(ValueError, match="3 for each channel"):
        LocalMixture(lambda u: u, grid)(normal(1, 1, 6))
    with pytest.raises(ValueError, match="radius=6"):
        LocalMixture(logits(3), grid, radius=6)
    with pytest.raises(ValueError, match="lower < upper"):
        Monotone(torch.sin, lower=1.0)
    with pytest.raises(ValueError, match="2 axes or more"):
        Monotone(torch.sin, axis=1)(normal(1, 1, 6))
