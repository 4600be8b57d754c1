"""Compressible Euler: conversions, flux, invariants and the exact density wave."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sciml import Grid
from sciml.pdes.euler import CompressibleEuler

DIMENSIONS = [1, 2, 3]


def states(dimension: int, points: tuple[int, ...], seed: int = 0) -> Tensor:
    """Random primitive states (2, D+2, *points) with positive density and pressure."""
    generator = torch.Generator().manual_seed(seed)
    w = torch.randn(2, dimension + 2, *points, generator=generator, dtype=torch.float64)
    w[:, 0], w[:, -1] = w[:, 0].abs() + 0.5, w[:, -1].abs() + 0.5
    return w


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_conversions_are_inverse_to_each_other(dimension):
    pde, w = CompressibleEuler(), states(dimension, (7,))
    torch.testing.assert_close(pde.primitive(pde.conservative(w)), w, rtol=0, atol=1e-13)
    torch.testing.assert_close(pde.pressure(pde.conservative(w)), w[:, -1:], rtol=0, atol=1e-13)


def test_flux_of_a_state_worked_out_by_hand():
    # rho 2, v (3, -1), p 4: rho |v|^2 / 2 = 10, E = 4 / 0.4 + 10 = 20, E + p = 24.
    pde = CompressibleEuler(gamma=1.4)
    u = pde.conservative(torch.tensor([2.0, 3.0, -1.0, 4.0], dtype=torch.float64).reshape(1, 4, 1))
    torch.testing.assert_close(u.flatten(), torch.tensor([2.0, 6.0, -2.0, 20.0], dtype=torch.float64))
    expected = torch.tensor([[6.0, -2.0], [22.0, -6.0], [-6.0, 6.0], [72.0, -24.0]], dtype=torch.float64)
    torch.testing.assert_close(pde.flux(u)[0, :, :, 0], expected, rtol=0, atol=1e-13)
    sound = (1.4 * 4 / 2) ** 0.5
    speeds = torch.tensor([3 + sound, 1 + sound], dtype=torch.float64)
    torch.testing.assert_close(pde.max_speed(u).flatten(), speeds, rtol=0, atol=1e-13)


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_largest_eigenvalue_of_the_flux_is_the_speed(dimension):
    pde, u = CompressibleEuler(), CompressibleEuler().conservative(states(dimension, (1,))[:1])
    for axis in range(dimension):
        jacobian = torch.func.jacrev(lambda v, axis=axis: pde.flux(v.reshape(u.shape))[0, :, axis, 0])(
            u.flatten()
        )
        largest = torch.linalg.eigvals(jacobian).real.abs().max()
        # The eigenvalue v is D-fold, which costs half of the digits at worst.
        assert float(largest) == pytest.approx(float(pde.max_speed(u)[0, axis, 0]), rel=1e-6)


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_density_wave_has_no_residual(dimension):
    pde = CompressibleEuler()
    x = torch.rand(1, dimension, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    t = torch.tensor(0.3, dtype=torch.float64)
    u_t = torch.func.jacfwd(lambda t: pde.exact(x, t))(t)
    total = torch.zeros_like(u_t)
    for axis in range(dimension):
        shift = torch.zeros_like(x)
        shift[:, axis] = 1.0
        _, slope = torch.func.jvp(
            lambda x, axis=axis: pde.flux(pde.exact(x, t))[:, :, axis], (x,), (shift,)
        )
        total = total + slope
    # Exact derivatives of a wave with wave number 2 pi: rounding only.
    assert (u_t + total).abs().max() < 1e-12
    assert u_t.abs().max() > 0.5


def test_invariants_depend_on_the_sides():
    pde, u = CompressibleEuler(), CompressibleEuler().conservative(states(2, (4, 6)))
    box = Grid((4, 6), (2.0, 3.0), "periodic", centering="cell")
    totals = pde.invariants(u, box)
    assert list(totals) == ["total_density", "total_momentum_x", "total_momentum_y", "total_energy"]
    torch.testing.assert_close(totals["total_density"], u[:, 0].mean(dim=(1, 2)) * 6.0)
    walls = Grid((4, 6), (2.0, 3.0), ("wall", "periodic"), centering="cell")
    assert list(pde.invariants(u, walls)) == ["total_density", "total_momentum_y", "total_energy"]
    assert pde.invariants(u, Grid((4, 6), (2.0, 3.0), "outflow", centering="cell")) == {}


def test_gamma_per_sample():
    w = states(1, (5,))
    gamma = torch.tensor([1.4, 5 / 3], dtype=torch.float64).reshape(2, 1, 1)
    both = CompressibleEuler(gamma=gamma).flux(w)
    torch.testing.assert_close(both[1:], CompressibleEuler(gamma=5 / 3).flux(w[1:]), rtol=1e-14, atol=0)


def test_refusals():
    with pytest.raises(ValueError, match="expected above 1"):
        CompressibleEuler(gamma=1.0)
    with pytest.raises(ValueError, match="got 2 channels"):
        CompressibleEuler().flux(torch.ones(1, 2, 4))
    assert CompressibleEuler.channels(2) == ("density", "momentum_x", "momentum_y", "energy")


def test_admissible_tells_negative_pressure_and_density():
    pde = CompressibleEuler()
    u = torch.tensor([[1.0, 1.0, -1.0, 1.0], [0.0, 3.0, 0.0, 0.0], [1.0, 1.0, 1.0, torch.nan]]).unsqueeze(0)
    assert pde.admissible(u).flatten().tolist() == [True, False, False, False]
