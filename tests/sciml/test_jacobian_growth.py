"""Growth of errors by wavenumber, agreement of steps of different length, and the summary of them all."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sciml import FunctionStep, Grid, Point
from sciml.jacobian import (
    dense_jacobian,
    jacobian_diagnostics,
    semigroup_defect,
    shell_response,
    spectral_norm,
    spectral_radius,
    transient_growth,
)
from sciml.jacobian.shells import Shells
from sciml.metrics import resolved_shells, spectrum
from sciml.odes import Lorenz63
from sciml.pdes import Heat
from sciml.solvers import build


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


GRIDS = (
    Grid((16,), (2.0,)),
    Grid((9,), (2.0,)),
    Grid((12, 10), (1.0, 2.0)),
    Grid((9, 8), (1.0, 1.0), boundary=("wall", "periodic")),
    Grid((8,), (1.0,), boundary="wall", centering="cell"),
    Grid((4, 5, 6), (1.0, 1.0, 1.0)),
)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_shells_are_those_of_the_spectral_metrics(grid):
    shells = Shells(grid)
    # The last shell on cells between walls has no even mode.
    assert shells.count == resolved_shells(grid) + (1 if grid.centering == "node" else 0)
    v = random(2, 2, *grid.shape)
    power = spectrum(v.unsqueeze(1), grid)[:, 0].sum(1)
    share = power / power.sum(1, keepdim=True)
    torch.testing.assert_close(shells.shares(v), share[:, : shells.count])
    for s in range(shells.count):
        e = shells.noise(v, s, generator(s))
        torch.testing.assert_close(e.flatten(1).norm(dim=1), torch.ones(2).double())
        torch.testing.assert_close(shells.shares(e)[:, s], torch.ones(2).double())


def test_a_fourier_multiplier_has_its_symbol_as_gain():
    grid, rate = Grid((32,), (2 * math.pi,)), 0.01
    step = build(Heat(rate), grid, 0.5)
    found = shell_response(step, random(2, 1, 32), grid, steps=3, generator=generator(1))
    k = torch.arange(17, dtype=torch.float64)
    for t in range(3):
        expected = torch.exp(-rate * k**2 * 0.5 * (t + 1)).expand(2, 17)
        torch.testing.assert_close(found.gains[:, t], expected)
    torch.testing.assert_close(found.transfer, torch.diag_embed(found.gains[:, 2].square()))


def test_products_of_fields_pass_errors_to_the_next_wavenumbers():
    grid = Grid((32,), (2 * math.pi,))
    wave = torch.cos(grid.coordinates()).unsqueeze(0)  # (1, 1, 32)
    step = FunctionStep(lambda u: 0.5 * u * u, 1.0, grid, ("u",))  # J v = u v
    found = shell_response(step, wave, grid, probes=4, generator=generator(2))
    for s in range(2, 15):
        # cos(x) cos(s x) is half of either neighbour, each with half the amplitude and so a quarter of the square.
        column = found.transfer[0, :, s]
        assert float(column[s - 1]) == pytest.approx(0.25, abs=1e-12)
        assert float(column[s + 1]) == pytest.approx(0.25, abs=1e-12)
        assert float(column.sum()) == pytest.approx(0.5, abs=1e-12)
        assert float(found.gains[0, 0, s]) == pytest.approx(math.sqrt(0.5), abs=1e-12)


def test_the_gain_of_a_shell_is_its_part_of_the_dense_jacobian():
    grid = Grid((6, 6), (1.0, 1.0))
    scale = torch.tensor([1.0, 20.0], dtype=torch.float64)

    def step(u: Tensor) -> Tensor:
        return torch.stack([torch.tanh(u[:, 0]) * u[:, 1] / 20, u[:, 1] + 3 * u[:, 0].roll(1, -1)], dim=1)

    u = random(1, 2, 6, 6, seed=3) * scale.reshape(1, 2, 1, 1)
    found = shell_response(step, u.expand(1500, 2, 6, 6), grid, scale=scale, generator=generator(4))
    squares = found.gains[:, 0].square().mean(0)
    matrix = dense_jacobian(step, u, scale=scale)[0].detach()
    shells = Shells(grid)
    units = torch.eye(72, dtype=torch.float64).reshape(72, 2, 6, 6)
    for s in range(shells.count):
        modes = torch.fft.rfftn(units, dim=(2, 3)) * (shells._index == s)
        projection = torch.fft.irfftn(modes, s=(6, 6), dim=(2, 3)).reshape(72, 72)
        exact = (matrix @ projection).square().sum() / projection.trace()
        # The squared gain of one probe scatters by less than itself: 1,500 leave 2 %.
        assert float(squares[s]) == pytest.approx(float(exact), rel=0.08)


def test_exact_flows_are_semigroups_and_euler_steps_nearly():
    grid = Grid((16,), (1.0,))
    heat = Heat(0.01)
    u = random(3, 1, 16)
    assert semigroup_defect(build(heat, grid, 0.4), build(heat, grid, 0.1), u).max() < 1e-12

    def euler(dt: float) -> FunctionStep:
        return FunctionStep(lambda u: u - dt * u, dt, grid, ("u",))

    # (1 - h)  -  (1 - h/2)^2 = -h^2/4, over a change of h.
    found = semigroup_defect(euler(0.2), euler(0.1), u)
    torch.testing.assert_close(found, torch.full((3,), 0.05).double())
    with pytest.raises(ValueError, match="dt=0.25 and dt=0.1"):
        semigroup_defect(euler(0.25), euler(0.1), u)


def test_diagnostics_agree_with_the_single_parts_and_with_dense_jacobians():
    grid = Grid((10,), (1.0,))

    def step(u: Tensor) -> Tensor:
        return u - 0.3 * torch.sin(u) * u.roll(1, -1) + 0.1 * u.flip(1)

    u = random(2, 2, 10, seed=14)
    found = jacobian_diagnostics(
        step, u, probes=150, krylov=40, growth_steps=3, grid=grid, mode="vjp", generator=generator(15)
    )
    matrix = dense_jacobian(step, u)
    square = matrix.square()
    rows, columns = (square.sum(d).reshape(2, 2, 10).sum(1) for d in (2, 1))
    # Relative scatter of one probe is about one; 150 leave 8 %, and 20 points are compared.
    torch.testing.assert_close(found["row_energy"], rows, rtol=0.3, atol=0)
    torch.testing.assert_close(found["column_energy"], columns, rtol=0.3, atol=0)
    torch.testing.assert_close(found["frobenius"], square.sum((1, 2)).div(20).sqrt(), rtol=0.05, atol=0)
    torch.testing.assert_close(found["spectral_norm"], torch.linalg.matrix_norm(matrix, ord=2))
    grown = (matrix @ found["worst_direction"].reshape(2, 20, 1)).norm(dim=1)[:, 0]
    torch.testing.assert_close(grown, found["spectral_norm"])
    torch.testing.assert_close(found["spectral_radius"], torch.linalg.eigvals(matrix).abs().amax(1))
    torch.testing.assert_close(found["spectral_radius"], spectral_radius(step, u))
    even, odd = (matrix + matrix.mT).flatten(1).norm(dim=1), (matrix - matrix.mT).flatten(1).norm(dim=1)
    torch.testing.assert_close(found["symmetry"], even / (even + odd), rtol=0.05, atol=0)
    growth = transient_growth(step, u, 3, generator=generator(1)).gains[:, 0]
    torch.testing.assert_close(found["transient_growth"], growth)
    assert found["shell_gain"].shape == (2, 6)
    assert not any(value.requires_grad for value in found.values())
    torch.testing.assert_close(found["spectral_norm"], spectral_norm(step, u, 20, generator=generator(3)))


def test_diagnostics_of_a_system_without_space():
    ode = Lorenz63()
    step = build(ode, Point(), 0.05, substeps=1)
    u = ode.initial(4, generator())
    found = jacobian_diagnostics(step, u, probes=4, iterations=3, krylov=10, growth_steps=4, mode="vjp")
    matrix = dense_jacobian(step, u)
    assert found["row_energy"].shape == (4,)
    torch.testing.assert_close(found["spectral_norm"], torch.linalg.matrix_norm(matrix, ord=2))
    torch.testing.assert_close(found["spectral_radius"], torch.linalg.eigvals(matrix).abs().amax(1))


def test_refusals():
    u = torch.zeros(1, 1, 8)
    with pytest.raises(ValueError, match="probes=0"):
        shell_response(lambda x: x, u, Grid((8,), (1.0,)), probes=0)
    with pytest.raises(ValueError, match=r"points \(8,\) on a grid of \(9,\)"):
        shell_response(lambda x: x, u, Grid((9,), (1.0,)))
