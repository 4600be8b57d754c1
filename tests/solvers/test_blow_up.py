"""A rollout that blows up says when, where and why."""

from __future__ import annotations

import math

import torch

from sciml.domains import Grid
from sciml.pdes import Burgers, CompressibleEuler
from sciml.solvers.blow_up import blow_ups
from sciml.solvers.finite_volume import CellStep, finite_volume
from sciml.solvers.spectral import pseudo_spectral
from sciml.step import rollout

TAU = 2 * math.pi


def _rough(grid: Grid) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(2, 1, *grid.shape, generator=generator, dtype=torch.float64)
    u = torch.sin(grid.coordinates()[None]) + 1e-6 * noise
    u[1] *= 0.01
    return u


def test_a_step_that_is_too_long_is_named_with_its_place() -> None:
    grid = Grid((128,), (TAU,))
    pde = Burgers(1e-4)
    states = rollout(pseudo_spectral(pde, grid, 0.5, substeps=2), 12)(_rough(grid))
    found = blow_ups(states, grid, 0.5, ("velocity",), pde=pde, substeps=2)
    assert [b.sample for b in found] == [0]
    (end,) = found
    assert not torch.isfinite(states[0, end.step]).all() and torch.isfinite(states[0, end.step - 1]).all()
    assert end.time == end.step * 0.5
    largest = states[0, end.step - 1, 0].abs()
    assert end.largest == float(largest.max())
    assert end.position == (float(grid.axes()[0][int(largest.argmax())]),)
    # h * max|u| / dx = 0.25 / (2 pi / 128) = 5.1 for the sine.
    assert "substep 0.25 is too long" in end.cause and "times as many substeps" in end.cause
    assert str(end).startswith(f"sample 0 is not finite from step {end.step} (t = {end.time:g})")


def test_a_coarse_grid_is_named_where_the_step_is_short() -> None:
    grid = Grid((64,), (TAU,))
    pde = Burgers(1e-4)
    front = rollout(pseudo_spectral(pde, grid, 0.02), 200)(torch.sin(grid.coordinates()[None]))
    # The cut-off front rings; a frame that is not finite is put behind it.
    states = torch.cat([front[:, :120], torch.full_like(front[:, :1], math.nan)], dim=1)
    (end,) = blow_ups(states, grid, 0.02, ("velocity",), pde=pde)
    assert "grid is too coarse" in end.cause


def test_a_resolved_state_and_a_bad_start_are_told_apart() -> None:
    grid = Grid((64,), (TAU,))
    wave = torch.sin(grid.coordinates()[None])[:, None].expand(1, 3, 1, 64).clone()
    wave[:, 2] = math.inf
    (end,) = blow_ups(wave, grid, 0.01, ("velocity",), pde=Burgers(0.1))
    assert end.step == 2 and "the equation's own" in end.cause
    wave[:, 0, 0, 3] = math.nan
    (end,) = blow_ups(wave, grid, 0.01, ("velocity",))
    assert end.step == 0 and "start itself" in end.cause


def test_finite_rollouts_have_none() -> None:
    grid = Grid((16,), (TAU,))
    assert blow_ups(torch.zeros(2, 3, 1, 16), grid, 0.1, ("velocity",)) == []


def test_a_gas_that_is_none_is_named_with_its_place() -> None:
    gas = CompressibleEuler()
    grid = Grid((32,), (1.0,), centering="cell")
    w = torch.ones(1, 4, 3, 32, dtype=torch.float64)
    states = gas.conservative(w.reshape(4, 3, 32)).reshape(1, 4, 3, 32)
    states[0, 3] = math.nan
    states[0, 2, 2, 5] = 0.25  # energy below the kinetic 0.5: pressure 0.4 (0.25 - 0.5) = -0.1
    names = ("density", "momentum_x", "energy")
    (end,) = blow_ups(states, grid, 0.1, names, pde=gas)
    assert end.step == 3
    assert (
        "In frame 2 the state was none that CompressibleEuler admits: pressure -0.1 at (0.1719)"
        in end.cause
    )
    states[0, 2, 0, 7] = -2.0
    (end,) = blow_ups(states, grid, 0.1, names, pde=gas)
    assert "density -2 at (0.2344), where above 0 is expected" in end.cause


def test_near_vacuum_is_named_with_its_place() -> None:
    gas = CompressibleEuler()
    grid = Grid((8, 8), (1.0, 1.0), centering="cell")
    w = torch.ones(1, 4, 8, 8, dtype=torch.float64)
    w[0, 3, 2, 6] = 1e-6
    states = torch.stack([gas.conservative(w), torch.full_like(w, math.nan)], dim=1)
    (end,) = blow_ups(states, grid, 0.1, gas.channels(2), pde=gas)
    assert "the pressure was down to 1e-06 at (0.3125, 0.8125)" in end.cause and "near vacuum" in end.cause


class Drain(CellStep):
    """Takes energy out of one cell of the second sample, whatever its fluxes are."""

    method = "drain"

    def rate(self, u: torch.Tensor, first_order: torch.Tensor | None = None) -> torch.Tensor:
        out = torch.zeros_like(u)
        out[1, -1, 5] = -100.0
        return out

    def courant(self, u: torch.Tensor) -> torch.Tensor:
        return torch.ones(len(u), dtype=torch.float64)

    def admissible(self, u: torch.Tensor) -> torch.Tensor:
        return CompressibleEuler().admissible(u)


def test_a_step_names_what_it_lost() -> None:
    gas = CompressibleEuler()
    grid = Grid((16,), (1.0,), "outflow", centering="cell")
    u = gas.conservative(torch.ones(2, 3, 16, dtype=torch.float64))
    drain = Drain(gas, grid, 0.1, cfl=0.5, substeps=None, max_substeps=10, time="ssprk2")
    out = drain(u)
    assert torch.isfinite(out[0]).all() and not torch.isfinite(out[1]).all()
    assert drain.lost is not None
    assert drain.lost.startswith("sample 1: pressure -3") and "at (0.3438), where above 0" in drain.lost
    slow = finite_volume(gas, grid, 1.0, max_substeps=10)
    assert not torch.isfinite(slow(u)).any()
    assert slow.lost == "sample 0: more than max_substeps=10 are needed"
