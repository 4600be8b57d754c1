"""Carrying a field to another grid keeps what it says it keeps."""

from __future__ import annotations

import math

import pytest
import torch

from sciml.domains import Grid
from sciml.resample import resample


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
