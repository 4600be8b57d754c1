"""What a law that is held costs and gains: small networks trained with and without, ten training horizons on."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sciml import Grid, rollout
from sciml.constraints import ConservedMean
from sciml.fields import RandomFourier
from sciml.models import Constrained, ConvNet, FluxForm, Residual
from sciml.objectives import NoisyOneStep
from sciml.pdes import Burgers
from sciml.solvers import build

GRID = Grid((64,), (1.0,))
HORIZON = 20


def trajectories(samples: int, steps: int, seed: int) -> Tensor:
    """Burgers' equation from random waves about a mean wind, (B, T, 1, 64) in float64."""
    generator = torch.Generator().manual_seed(seed)
    start = [0.2 + RandomFourier(modes=3)(GRID, 1, generator) for _ in range(samples)]
    solver = build(Burgers(0.01), GRID, 0.05, max_speed=1.2)
    return rollout(solver, steps)(torch.stack(start))


def made(law: str, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = ConvNet(1, 1, width=16, hidden_layers=2, kernel=5, boundary="circular").double()
    if law == "flux form":
        return FluxForm(net, GRID)
    step = Residual(net)
    return Constrained(step, ConservedMean(GRID)) if law == "trained" else step


def trained(law: str, data: Tensor, seed: int, updates: int = 400) -> nn.Module:
    step, objective = made(law, seed), NoisyOneStep(0.02)
    optimizer = torch.optim.Adam(step.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, updates)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(updates):
        sample = torch.randint(len(data), (16,), generator=generator)
        first = torch.randint(HORIZON, (16,), generator=generator)
        window = torch.stack([data[i, k : k + 2] for i, k in zip(sample, first, strict=True)])
        optimizer.zero_grad()
        objective(step, window, generator)[0].backward()
        optimizer.step()
        schedule.step()
    return step.eval()


@pytest.mark.slow
def test_mass_is_held_over_ten_horizons_and_errors_are_no_larger():
    data = trajectories(8, HORIZON, seed=0)
    truth = trajectories(8, 10 * HORIZON, seed=1)
    mass: dict[str, list[float]] = {}
    error: dict[str, list[float]] = {}
    for law in ("none", "trained", "flux form"):
        for seed in range(3):
            step = trained(law, data, seed)
            with torch.no_grad():
                states = rollout(step, 10 * HORIZON)(truth[:, 0])
            off = (states - truth).flatten(2).norm(dim=2) / truth.flatten(2).norm(dim=2)
            drift = (states.mean(-1) - truth[:, :1].mean(-1)).abs().amax()
            mass.setdefault(law, []).append(float(drift))
            error.setdefault(law, []).append(float(off[:, -1].mean()))
    assert min(mass["none"]) > 1e-3
    assert max(mass["trained"] + mass["flux form"]) <= 1e-10
    assert max(sum(error["trained"]), sum(error["flux form"])) <= sum(error["none"])
