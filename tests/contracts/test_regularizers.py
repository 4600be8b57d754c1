"""Promises that every regulariser keeps, on steps of different making."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from sciml import Grid
from sciml.constraints import ConservedMean
from sciml.regularizers import (
    JAWS,
    REGULARIZERS,
    Asymmetry,
    Frobenius,
    Hinge,
    LocalError,
    LogDeterminant,
    Regularizer,
    SpectralNorm,
    StudentT,
)


def damped(u: Tensor) -> Tensor:
    """A reference step."""
    return 0.9 * u - 0.1 * u.roll(1, -1) * u


CASES: dict[type[Regularizer], list[Callable[[int, int], Regularizer]]] = {
    Frobenius: [
        lambda channels, dimension: Frobenius(),
        lambda channels, dimension: Frobenius(probes=2, target="identity", scale=[0.5] * channels),
    ],
    Hinge: [lambda channels, dimension: Hinge(0.5, target="identity")],
    SpectralNorm: [
        # So many iterations that the direction, which is held in the gradient, has converged.
        lambda channels, dimension: SpectralNorm(50, form="square"),
        lambda channels, dimension: SpectralNorm(50, limit=0.1, target="solver", solver=damped),
    ],
    LogDeterminant: [
        lambda channels, dimension: LogDeterminant(-0.1),
        lambda channels, dimension: LogDeterminant(
            "solver", method="series", terms=3, solver=damped, normalise=False
        ),
    ],
    StudentT: [lambda channels, dimension: StudentT(kind="column")],
    Asymmetry: [lambda channels, dimension: Asymmetry(scale=[0.5] * channels)],
    JAWS: [
        lambda channels, dimension: JAWS(channels, dimension, kernel=3, width=4),
        lambda channels, dimension: JAWS(
            channels, dimension, kernel=3, width=4, hyperprior=(0.5, 0.1), target="solver", solver=damped
        ),
    ],
}
FLAT = [make for makes in CASES.values() for make in makes]
POSITIVE = (Frobenius, Hinge, SpectralNorm)


class FourierStep(nn.Module):
    """u + irfft(filter rfft(u)) tanh u, then the mean of u restored: a constrained spectral network."""

    def __init__(self, grid: Grid, channels: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        shape = (channels, *grid.shape[:-1], grid.shape[-1] // 2 + 1)
        self.filter = nn.Parameter(torch.randn(*shape, 2, generator=generator, dtype=torch.float64))
        self.constraint = ConservedMean(grid)
        self.points = grid.shape

    def forward(self, u: Tensor) -> Tensor:
        axes = tuple(range(2, u.ndim))
        modes = torch.fft.rfftn(u, dim=axes) * torch.view_as_complex(self.filter)
        v = torch.fft.irfftn(modes, s=self.points, dim=axes)
        return self.constraint.project(u + 0.3 * torch.tanh(v) * u, previous=u)


def test_every_regulariser_of_the_list_is_tested_here():
    # LocalError needs a step with a solver inside: tests/sciml/test_local_error.py.
    assert {*CASES, LocalError} == set(REGULARIZERS)


@pytest.mark.parametrize("shape", [(8,), (6, 5), (4, 3, 5)])
@pytest.mark.parametrize("make", FLAT)
class TestEvery:
    def setup_step(self, shape: tuple[int, ...]) -> tuple[FourierStep, Tensor]:
        grid = Grid(shape, (1.0,) * len(shape))
        u = torch.randn(3, 2, *shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        return FourierStep(grid, 2), u

    def test_one_number_per_sample(self, make, shape):
        step, u = self.setup_step(shape)
        regularizer = make(2, len(shape)).double()
        value = regularizer(step, u, torch.Generator().manual_seed(2))
        assert value.shape == (3,)
        assert torch.isfinite(value).all()
        if isinstance(regularizer, POSITIVE):
            assert (value > 0).all()

    def test_equal_generators_give_equal_bits(self, make, shape):
        step, u = self.setup_step(shape)
        regularizer = make(2, len(shape)).double()
        a, b = (regularizer(step, u, torch.Generator().manual_seed(2)) for _ in range(2))
        assert torch.equal(a, b)

    def test_the_gradient_in_the_parameters_is_the_difference_quotient(self, make, shape):
        step, u = self.setup_step(shape)
        regularizer = make(2, len(shape)).double()

        def value() -> Tensor:
            return regularizer(step, u, torch.Generator().manual_seed(2)).sum()

        (gradient,) = torch.autograd.grad(value(), step.filter)
        direction = torch.randn(
            gradient.shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64
        )
        eps = 1e-5
        with torch.no_grad():
            step.filter += eps * direction
            plus = value()
            step.filter -= 2 * eps * direction
            minus = value()
        # Central differences: eps^2 truncation, and rounding of 1e-16 / eps.
        assert float((gradient * direction).sum()) == pytest.approx(
            float((plus - minus) / (2 * eps)), rel=1e-6, abs=1e-8
        )

    def test_all_its_own_parameters_get_a_gradient(self, make, shape):
        step, u = self.setup_step(shape)
        regularizer = make(2, len(shape)).double()
        regularizer(step, u, torch.Generator().manual_seed(2)).sum().backward()
        assert all(p.grad is not None for p in regularizer.parameters())
