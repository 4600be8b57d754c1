"""What every equation in PDES promises; a new one inherits these tests."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sciml import Grid
from sciml.calculus import Autograd, FiniteDifference, Spectral, Symbol
from sciml.pdes import PDE, PDES, Boussinesq, HasExact, NavierStokes, NavierStokesVorticity, SemiLinear

CASES = [pytest.param(cls(), d, id=f"{cls.__name__}-{d}D") for cls in PDES for d in cls.dimensions]
SEMILINEAR = [case for case in CASES if isinstance(case.values[0], SemiLinear)]
# Incompressible flow inverts a Laplacian, which scattered points have not: see the tests on a grid.
AT_POINTS = [
    case
    for case in CASES
    if isinstance(case.values[0], HasExact)
    and not isinstance(case.values[0], (Boussinesq, NavierStokes, NavierStokesVorticity))
]


def _grid(dimension: int, points: int = 16) -> Grid:
    return Grid((points, points + 2, points + 1)[:dimension], (2 * math.pi, 3.0, 4.0)[:dimension])


def _smooth(pde: PDE, grid: Grid, seed: int = 0) -> Tensor:
    """A state (2, C, *points) with waves up to the third, far below what a square can alias."""
    generator = torch.Generator().manual_seed(seed)
    x = grid.coordinates() * 2 * math.pi
    channels = pde.channels(grid.dimension)
    u = torch.zeros(2, len(channels), *grid.shape, dtype=torch.float64)
    for _ in range(4):
        k = torch.randint(-3, 4, (2, len(channels), grid.dimension), generator=generator).double()
        k = k / torch.tensor(grid.lengths, dtype=torch.float64)
        phase = 2 * math.pi * torch.rand(2, len(channels), generator=generator, dtype=torch.float64)
        u += 0.1 * torch.sin(
            torch.tensordot(k, x, dims=1) + phase.reshape(*phase.shape, *[1] * grid.dimension)
        )
    for i, name in enumerate(channels):
        # Gases need positive density and pressure.
        u[:, i] += {"density": 2.0, "depth": 2.0, "energy": 10.0}.get(name, 0.0)
    return u


@pytest.mark.parametrize(("pde", "dimension"), CASES)
def test_rhs_keeps_shape_and_dtype(pde: PDE, dimension: int) -> None:
    grid = _grid(dimension)
    for calc in (Spectral(grid), FiniteDifference(grid, 4)):
        for dtype in (torch.float64, torch.float32):
            rate = pde.rhs(_smooth(pde, grid).to(dtype), calc)
            assert rate.shape == (2, len(pde.channels(dimension)), *grid.shape)
            assert rate.dtype == dtype
            assert torch.isfinite(rate).all()


@pytest.mark.parametrize(("pde", "dimension"), CASES)
def test_single_precision_agrees_with_double(pde: PDE, dimension: int) -> None:
    grid = _grid(dimension)
    calc = Spectral(grid)
    u = _smooth(pde, grid)
    double, single = pde.rhs(u, calc), pde.rhs(u.float(), calc).double()
    # float32 rounding 6e-8 times the fourth derivative's k^4 < 5e3 at most
    assert (single - double).abs().max() <= 1e-3 * double.abs().max()


@pytest.mark.parametrize(("pde", "dimension"), CASES)
def test_batch_is_independent(pde: PDE, dimension: int) -> None:
    grid = _grid(dimension)
    calc = Spectral(grid)
    u = _smooth(pde, grid)
    alone = torch.cat([pde.rhs(u[i : i + 1], calc) for i in range(2)])
    assert (pde.rhs(u, calc) - alone).abs().max() < 1e-12 * alone.abs().max().clamp(min=1.0)  # rounding


@pytest.mark.parametrize(("pde", "dimension"), CASES)
def test_invariants_stand_still_under_the_rhs(pde: PDE, dimension: int) -> None:
    """d/dt I(u) = I'(u) rhs(u) = 0, exactly for states whose products the grid resolves."""
    grid = _grid(dimension)
    u, calc = _smooth(pde, grid), Spectral(grid)
    rate = pde.rhs(u, calc)
    names = pde.invariants(u, grid)
    for name in names:
        _, drift = torch.func.jvp(lambda v, name=name: pde.invariants(v, grid)[name], (u,), (rate,))
        scale = grid.volume * rate.abs().max()
        assert drift.abs().max() <= 1e-12 * scale, name  # rounding of a sum; nothing where nothing moves


@pytest.mark.parametrize(("pde", "dimension"), SEMILINEAR)
def test_symbol_is_the_linear_operator(pde: SemiLinear, dimension: int) -> None:
    grid = _grid(dimension)
    spectral = Spectral(grid)
    u = _smooth(pde, grid)
    modes, through = spectral.to_modes(u), torch.zeros_like(u)
    for channel in range(u.shape[1]):
        one = torch.zeros(1, u.shape[1], *spectral.symbol_shape, dtype=torch.float64)
        one[:, channel] = 1.0
        column = pde.linear(one, Symbol(spectral))
        through = through + spectral.to_points(column * modes[:, channel : channel + 1])
    direct = pde.linear(u, spectral)
    assert (through - direct).abs().max() < 1e-10  # rounding times k^4 of a few thousand


@pytest.mark.parametrize(("pde", "dimension"), SEMILINEAR)
def test_linear_part_is_linear(pde: SemiLinear, dimension: int) -> None:
    calc = Spectral(_grid(dimension))
    u, v = _smooth(pde, calc.grid, 0), _smooth(pde, calc.grid, 1)
    both = pde.linear(2 * u - 3 * v, calc)
    apart = 2 * pde.linear(u, calc) - 3 * pde.linear(v, calc)
    assert (both - apart).abs().max() < 1e-10  # rounding


def _residual(pde: PDE, dimension: int, rate: Tensor | None = None) -> Tensor:
    """u_t - rhs(u) of the exact solution at scattered points and times."""
    assert isinstance(pde, HasExact)
    generator = torch.Generator().manual_seed(7)
    sides = torch.tensor(pde.exact_lengths(dimension), dtype=torch.float64).reshape(1, -1, 1)
    x = (sides * torch.rand(3, dimension, 20, generator=generator, dtype=torch.float64)).requires_grad_()
    t = (0.1 + torch.rand(3, 1, 20, generator=generator, dtype=torch.float64)).requires_grad_()
    calc = Autograd(x)
    u = pde.exact(x, t)
    return calc.time_derivative(u, t) - pde.rhs(u, calc)


@pytest.mark.parametrize(("pde", "dimension"), AT_POINTS)
def test_exact_solution_has_no_residual(pde: PDE, dimension: int) -> None:
    assert _residual(pde, dimension).abs().max() < 1e-9  # rounding


@pytest.mark.parametrize(("pde", "dimension"), AT_POINTS)
def test_exact_solution_is_periodic_on_its_box(pde: PDE, dimension: int) -> None:
    assert isinstance(pde, HasExact)
    x = torch.rand(1, dimension, 30, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    sides = pde.exact_lengths(dimension)
    u = pde.exact(x, 0.3)
    for axis in range(dimension):
        moved = x.clone()
        moved[:, axis] += sides[axis]
        assert (pde.exact(moved, 0.3) - u).abs().max() < 1e-12  # rounding


@pytest.mark.parametrize(("pde", "dimension"), AT_POINTS)
def test_the_residual_sees_wrong_terms(pde: PDE, dimension: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each part of the equation, scaled by 1.01 or turned round, must leave a residual."""
    for part in [n for n in ("linear", "nonlinear", "flux") if hasattr(pde, n)]:
        right = getattr(type(pde), part)
        u = torch.rand(1, len(pde.channels(dimension)), *[16] * dimension, dtype=torch.float64) + 5.0
        value = right(pde, u) if part == "flux" else right(pde, u, Spectral(_grid_of(dimension)))
        if not value.abs().max() > 1e-12:
            continue  # an empty part, such as the nonlinear one of a linear equation
        for factor in (1.01, -1.0):
            with monkeypatch.context() as patch:
                patch.setattr(
                    type(pde), part, lambda self, *a, right=right, factor=factor: factor * right(self, *a)
                )
                assert _residual(pde, dimension).abs().max() > 1e-4, (part, factor)


def _grid_of(dimension: int) -> Grid:
    return Grid((16,) * dimension, (2 * math.pi,) * dimension)


@pytest.mark.parametrize("cls", PDES)
def test_channels_have_names_and_units(cls: type[PDE]) -> None:
    for dimension in cls.dimensions:
        names = cls.channels(dimension)
        assert len(names) == len(set(names)) >= 1
        assert all(f.unit for f in cls.fields)


def test_names_in_the_list_are_unique() -> None:
    names = [cls.__name__ for cls in PDES]
    assert len(names) == len(set(names))
