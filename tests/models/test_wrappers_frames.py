"""Bundles of frames and lead times pass every wrapper as single states do."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sciml import Grid
from sciml.constraints import ConservedMean
from sciml.models import Constrained, HoldNodes, Normalized, Residual, Surrogate, WithCoordinates
from sciml.step import ahead

GRID = Grid((8,), (1.0,))


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Frames(nn.Module):
    """Frames sin(u), sin(2u), sin(3u) of the first two channels; called with a lead, the frame of that number."""

    bundle = 3

    def ahead(self, u: Tensor) -> Tensor:
        return torch.stack([torch.sin(k * u[:, :2]) for k in (1, 2, 3)], dim=1)

    def forward(self, u: Tensor, lead: Tensor | None = None) -> Tensor:
        factor = 1.0 if lead is None else lead.reshape(-1, 1, 1)
        return torch.sin(factor * u[:, :2])


WRAPPERS = {
    "residual": lambda f: Residual(f),
    "increments": lambda f: Residual(f, torch.tensor([1.0, 2.0]), torch.tensor([0.1, 3.0])),
    "normalized": lambda f: Normalized(f, [1.0, -3.0], [0.5, 2.0]),
    "constrained": lambda f: Constrained(f, ConservedMean(GRID)),
    "held": lambda f: HoldNodes(f, torch.arange(8) < 2),
    "located": lambda f: WithCoordinates(f, GRID),
    "surrogate": lambda f: Surrogate(f, 0.1, GRID, ("a", "b")),
    "all": lambda f: Surrogate(
        HoldNodes(
            Constrained(Normalized(Residual(f), [1.0, -3.0], [0.5, 2.0]), ConservedMean(GRID)),
            torch.arange(8) < 2,
        ),
        0.1,
        GRID,
        ("a", "b"),
    ),
}


@pytest.mark.parametrize("make", WRAPPERS.values(), ids=WRAPPERS)
def test_frames_and_leads_are_wrapped_like_single_states(make):
    """The k-th frame of the wrapped bundle is the wrapped step whose network gives that frame alone."""
    step, u = make(Frames()), noise(3, 2, 8)
    assert step.bundle == 3
    found = ahead(step, u)
    assert found.shape == (3, 3, 2, 8)
    torch.testing.assert_close(found[:, 0], step(u), rtol=1e-14, atol=1e-15)
    for k in (1, 2, 3):
        alone = make(lambda v, k=k: torch.sin(k * v[:, :2]))
        torch.testing.assert_close(found[:, k - 1], alone(u), rtol=1e-13, atol=1e-14)
        leads = torch.full((3,), float(k), dtype=torch.float64)
        torch.testing.assert_close(step(u, leads), alone(u), rtol=1e-13, atol=1e-14)


def test_steps_of_one_state_are_bundles_of_one():
    u = noise(3, 2, 8)
    step = Surrogate(Residual(torch.sin), 0.1, GRID, ("a", "b"))
    assert step.bundle == 1
    assert torch.equal(ahead(step, u), step(u).unsqueeze(1))
    assert torch.equal(ahead(torch.sin, u), torch.sin(u).unsqueeze(1))


def test_a_system_without_space_is_a_surrogate_too():
    from sciml.domains import Point

    step = Surrogate(Normalized(Residual(torch.sin), 0.0, 1.0), 0.1, Point(), ("x", "y", "z"))
    u = noise(4, 3)
    torch.testing.assert_close(step(u), u + torch.sin(u))
    with pytest.raises(ValueError, match="3, \\*points"):
        step(noise(4, 2))
