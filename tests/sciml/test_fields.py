"""Random states: what they promise on every grid, and their statistics."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from sciml import Grid
from sciml.calculus import Spectral
from sciml.fields import GaussianRandomField, RandomFourier, Sines

FIELDS = [
    RandomFourier(modes=3),
    RandomFourier(modes=3, zero_mean=False, max_one=False, amplitude=2.0),
    GaussianRandomField(alpha=2.5, tau=7.0, modes=3),
    GaussianRandomField(alpha=2.5, tau=7.0, modes=3, zero_mean=False),
    Sines(count=4, modes=3),
]
SIDES = (2.0, 3.0, 1.5)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("dimension", [1, 2, 3])
@pytest.mark.parametrize("field", FIELDS)
def test_the_grid_samples_a_function_that_is_there_without_it(
    field: Callable[..., Tensor], dimension: int
) -> None:
    """Every second point of the fine grid is the coarse grid; the function has no wave beyond its modes."""
    coarse = Grid((8, 10, 12)[:dimension], SIDES[:dimension], origin=0.7)
    fine = coarse.resized([2 * n for n in coarse.shape])
    u, v = field(coarse, 2, _generator()), field(fine, 2, _generator())
    assert u.shape == (2, *coarse.shape)
    assert u.dtype == torch.float64
    picked = v[(slice(None), *[slice(None, None, 2)] * dimension)]
    assert (picked - u).abs().max() < 1e-13 * u.abs().max()  # rounding
    index = torch.meshgrid(*[torch.fft.fftfreq(n, 1 / n).abs() for n in fine.shape], indexing="ij")
    beyond = torch.stack(index).amax(0) > 3.5
    modes = torch.fft.fftn(v, dim=tuple(range(1, dimension + 1)), norm="forward")
    assert modes[:, beyond].abs().max() < 1e-14
    assert modes[:, ~beyond].abs().max() > 1e-3
    zero_mean = getattr(field, "zero_mean", True)
    mean = u.flatten(1).mean(1).abs()
    assert (mean < 1e-15).all() if zero_mean else (mean > 1e-4).all()


@pytest.mark.parametrize("field", FIELDS)
def test_the_generator_decides(field: Callable[..., Tensor]) -> None:
    grid = Grid((16,), (1.0,))
    assert torch.equal(field(grid, 1, _generator(5)), field(grid, 1, _generator(5)))
    assert not torch.equal(field(grid, 1, _generator(5)), field(grid, 1, _generator(6)))
    one = _generator(5)
    assert not torch.equal(field(grid, 1, one), field(grid, 1, one))
    pair = field(grid, 2, _generator())
    assert not torch.allclose(pair[0], pair[1])


def test_coarse_gaussian_field_is_the_truncated_fine_one() -> None:
    field = GaussianRandomField(alpha=2.0, tau=5.0)
    for dimension in (1, 2, 3):
        coarse = Grid((9, 9, 9)[:dimension], SIDES[:dimension])
        fine = coarse.resized((15,) * dimension)
        u, v = field(coarse, 1, _generator()), field(fine, 1, _generator())
        axes = tuple(range(1, dimension + 1))
        few = torch.fft.fftn(u, dim=axes, norm="forward")
        many = torch.fft.fftn(v, dim=axes, norm="forward")
        kept = many
        for axis in axes:
            kept = torch.cat([kept.narrow(axis, 0, 5), kept.narrow(axis, 11, 4)], dim=axis)
        assert (few - kept).abs().max() < 1e-14  # rounding


@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_max_one_is_the_maximum_of_the_function(dimension: int) -> None:
    grid = Grid((160,) if dimension == 1 else (96, 64, 48)[-dimension:], (1.0,) * dimension)
    field = RandomFourier(modes=3, amplitude=0.5)
    for seed in range(10):
        largest = field(grid, 2, _generator(seed)).abs().flatten(1).amax(1)
        # a grid misses the crest by up to D (2 pi 3/N/2)^2/2 of it, 12 % at 48 points in 3D at the worst
        assert (largest <= 0.5 + 1e-12).all()
        assert (largest > 0.5 * (1 - dimension * (3 * math.pi / min(grid.shape)) ** 2 / 2)).all()


def test_gaussian_spectrum_is_the_stated_one() -> None:
    """Variance of each Fourier coefficient is s^2 (k^2 + tau^2)^-alpha over the volume, with k in 1/length."""
    alpha, tau, scale = 2.0, 4.0, 1.5
    field = GaussianRandomField(alpha, tau, scale, modes=2, zero_mean=False)
    grid = Grid((6, 5), (2.0, 0.5))
    generator, samples = _generator(), 4000
    draws = field(grid, samples, generator)
    power = torch.fft.fftn(draws, dim=(1, 2), norm="forward").abs().square().mean(0)
    kx = 2 * math.pi * torch.fft.fftfreq(6, 1 / 6).double() / 2.0
    ky = 2 * math.pi * torch.fft.fftfreq(5, 1 / 5).double() / 0.5
    square = kx[:, None] ** 2 + ky**2
    expected = (scale * tau ** (alpha - 1)) ** 2 * (square + tau**2) ** -alpha / grid.volume
    ratio = (power / expected)[kx.abs() < 2.5 * 2 * math.pi / 2.0]
    # mean of 4000 squares: relative spread 1.6 % (2.2 % for the real mean); 5 spreads
    assert (ratio - 1).abs().max() < 0.11


def test_random_fourier_amplitudes_are_uniform() -> None:
    grid = Grid((16,), (1.0,))
    u = RandomFourier(modes=4, max_one=False)(grid, 3000, _generator())
    sizes = 2 * Spectral(grid).to_modes(u.unsqueeze(0))[0, :, 1:5].abs()
    # U(0, 1): mean 1/2 and mean square 1/3; standard errors 0.0026 for 12000 draws
    assert float(sizes.mean()) == pytest.approx(0.5, abs=0.012)
    assert float(sizes.square().mean()) == pytest.approx(1 / 3, abs=0.012)
    assert float(sizes.max()) <= 1.0 + 1e-12


def test_sines_are_bounded() -> None:
    u = Sines(count=3, modes=2, amplitude=0.5)(Grid((8, 8), (1.0, 2.0)), 200, _generator())
    assert u.abs().max() <= 1.5
    assert float(u.square().mean()) == pytest.approx(3 * 0.25 / 3 / 2, rel=0.15)  # J E[A^2]/2, 600 draws


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomFourier(modes=0), "modes=0"),
        (lambda: RandomFourier(amplitude=math.nan), "amplitude=nan"),
        (lambda: GaussianRandomField(tau=-1.0), "tau=-1.0"),
        (lambda: Sines(count=0), "count=0"),
        (lambda: RandomFourier()(Grid((10,), (1.0,)), 1, _generator()), "more than 10 points"),
        (lambda: GaussianRandomField(modes=4)(Grid((8,), (1.0,)), 1, _generator()), "more than 8 points"),
        (
            lambda: GaussianRandomField(alpha=1.0)(Grid((8, 8), (1.0, 1.0)), 1, _generator()),
            "alpha=1.0 in 2",
        ),
    ],
)
def test_refusals(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
