"""Carrying a field to another grid keeps what it says it keeps."""

from __future__ import annotations

import math

import pytest
import torch

from sciml.domains import Grid
from sciml.pdes import NavierStokes
from sciml.resample import resample
from sciml.solvers.incompressible import incompressible, staggered


@pytest.mark.parametrize("shape", [(16,), (16, 12), (8, 12, 9)])
def test_fourier_resampling_evaluates_the_same_trigonometric_polynomial(shape):
    coarse = Grid(shape, (1.0,) * len(shape))
    fine = coarse.resized(tuple(2 * n + 3 for n in shape))

    def wave(grid):
        x = 2 * math.pi * grid.coordinates()
        return (torch.sin(2 * x[0]) + sum(torch.cos(3 * a + 0.4) for a in x)).expand(2, 1, *grid.shape)

    assert torch.allclose(resample(wave(coarse), coarse, fine), wave(fine), atol=1e-13)
    assert torch.allclose(resample(wave(fine), fine, coarse), wave(coarse), atol=1e-13)


@pytest.mark.parametrize("boundary", ["periodic", "wall"])
def test_cells_keep_their_integral_both_ways(boundary):
    grid = Grid((12, 8), (1.0, 2.0), boundary, centering="cell")
    u = torch.rand(3, 2, 12, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    finer, coarser = grid.resized((24, 24)), grid.resized((4, 4))
    for target in (finer, coarser):
        v = resample(u, grid, target)
        before, after = (u * grid.weights()).sum((-1, -2)), (v * target.weights()).sum((-1, -2))
        assert torch.allclose(before, after, rtol=1e-13)
    assert torch.allclose(resample(resample(u, grid, finer), finer, grid), u, atol=1e-14)


def test_bounded_nodes_are_interpolated_linearly():
    grid = Grid((5,), (1.0,), "dirichlet")
    u = (3 * grid.coordinates() + 1).unsqueeze(0)
    fine = grid.resized((17,))
    assert torch.allclose(resample(u, grid, fine), (3 * fine.coordinates() + 1).unsqueeze(0), atol=1e-14)


def test_different_boxes_are_refused():
    with pytest.raises(ValueError, match="shape only"):
        resample(torch.zeros(1, 1, 8), Grid((8,), (1.0,)), Grid((16,), (2.0,)))
    cells = Grid((8,), (1.0,), centering="cell")
    with pytest.raises(ValueError, match="multiple"):
        resample(torch.zeros(1, 1, 8), cells, cells.resized((12,)))


@pytest.mark.parametrize("shape", [(16, 8), (8, 12, 8)])
def test_staggered_flow_without_divergence_keeps_none_on_a_coarser_grid(shape: tuple[int, ...]) -> None:
    d = len(shape)
    sides = ("wall", *["periodic"] * (d - 1))
    fine = Grid(shape, (1.0,) * d, boundary=sides, centering="cell")
    coarse = fine.resized(tuple(n // 2 for n in shape))
    step, other = (incompressible(NavierStokes(0.1), grid, 0.1) for grid in (fine, coarse))
    u = torch.randn(2, d, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    u = step.project(u)
    small = resample(u, fine, coarse, step.low_faces)
    assert small.shape == (2, d, *coarse.shape)
    assert float(other.divergence(small).abs().max()) < 1e-12 < float(small.abs().max())
    # Averages of cells would mix faces on the wall with faces beside it.
    assert float(other.divergence(other._faces.hold(resample(u, fine, coarse))).abs().max()) > 0.1


def test_staggered_velocities_keep_their_places_up_and_down() -> None:
    """Second order both ways; taken for averages, faces are half a cell off, an error of first order."""

    def flow(x: torch.Tensor) -> torch.Tensor:
        a, b = torch.sin(2 * math.pi * x[0]), torch.cos(2 * math.pi * x[1])
        return torch.stack([a * b, b - a, a + b])

    errors, wrong = [], []
    for n in (16, 32):
        grid = Grid((n, n), (1.0, 1.0), centering="cell")
        fine, faces = grid.resized((4 * n, 4 * n)), ((0,), (1,), ())
        u, v = staggered(flow, grid), staggered(flow, fine)
        errors.append(
            [
                float((resample(v, fine, grid, faces) - u).abs().max()),
                float((resample(u, grid, fine, faces) - v).abs().max()),
            ]
        )
        wrong.append(float((resample(v, fine, grid) - u).abs().max()))
    for coarse, half in zip(*errors, strict=True):
        assert math.log2(coarse / half) == pytest.approx(2.0, abs=0.15)
    assert math.log2(wrong[0] / wrong[1]) == pytest.approx(1.0, abs=0.15)


def test_low_faces_of_another_number_of_channels_are_refused() -> None:
    grid = Grid((8, 8), (1.0, 1.0), centering="cell")
    with pytest.raises(ValueError, match="low_faces of 2 channels"):
        resample(torch.zeros(1, 3, 8, 8), grid, grid.resized((4, 4)), ((0,), (1,)))
