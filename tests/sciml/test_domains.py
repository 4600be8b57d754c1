"""Grids, meshes and clouds: sizes, weights, neighbours, refusals."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from itertools import product

import pytest
import torch
from torch import Tensor

from sciml import Cloud, Grid, Mesh, NodeType

TRIANGLES = (
    torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]),
    torch.tensor([[0, 1, 2], [0, 2, 3]]),
)


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_periodic_nodes_leave_the_right_end_out() -> None:
    grid = Grid((4,), (2.0,), origin=1.0)
    assert grid.axes()[0].tolist() == [1.0, 1.5, 2.0, 2.5]
    assert grid.spacing == (0.5,)


def test_bounded_nodes_include_both_ends() -> None:
    grid = Grid((5,), (2.0,), boundary="dirichlet", origin=1.0)
    assert grid.axes()[0].tolist() == [1.0, 1.5, 2.0, 2.5, 3.0]
    assert grid.spacing == (0.5,)


@pytest.mark.parametrize("boundary", ["periodic", "wall"])
def test_cells_lie_at_centres(boundary: str) -> None:
    grid = Grid((4,), (2.0,), boundary=boundary, centering="cell")
    assert grid.axes()[0].tolist() == [0.25, 0.75, 1.25, 1.75]


def test_sides_expand() -> None:
    grid = Grid((4, 4, 4), (1.0, 1.0, 1.0), boundary=("periodic", "wall", ("dirichlet", "outflow")))
    assert grid.sides == (("periodic", "periodic"), ("wall", "wall"), ("dirichlet", "outflow"))
    assert grid.periodic == (True, False, False)
    assert grid.axis_names == ("x", "y", "z")


def test_grids_are_values() -> None:
    grid = Grid([8, 9], [1, 2], origin=(0, 1))
    assert grid == Grid((8, 9), (1.0, 2.0), "periodic", (0.0, 1.0))
    assert hash(grid) == hash(Grid((8, 9), (1.0, 2.0), "periodic", (0.0, 1.0)))
    assert grid.resized((4, 3)).lengths == (1.0, 2.0)
    assert grid.resized((4, 3)).origin == (0.0, 1.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        grid.shape = (1,)  # type: ignore[misc]


@pytest.mark.parametrize("centering", ["node", "cell"])
@pytest.mark.parametrize("boundary", ["periodic", "neumann"])
@pytest.mark.parametrize("shape", [(7,), (6, 9), (4, 5, 6)])
def test_weights_sum_to_the_volume_and_integrate(
    shape: tuple[int, ...], boundary: str, centering: str
) -> None:
    lengths = (2.0, 0.5, 3.0)[: len(shape)]
    grid = Grid(shape, lengths, boundary=boundary, centering=centering)
    assert grid.coordinates().shape == (len(shape), *shape)
    assert float(grid.weights().sum()) == pytest.approx(math.prod(lengths), rel=1e-14)
    assert grid.volume == pytest.approx(math.prod(lengths))
    if boundary == "neumann" or centering == "cell":
        # trapezoidal and midpoint rules are exact for linear functions
        x = grid.coordinates()
        moment = (x[0] * grid.weights()).sum()
        assert float(moment) == pytest.approx(grid.volume * lengths[0] / 2, rel=1e-13)


def test_grid_dtypes() -> None:
    grid = Grid((8,), (1.0,))
    assert grid.coordinates().dtype == torch.float64
    assert grid.coordinates(torch.float32).dtype == torch.float32
    assert grid.weights(torch.float32).dtype == torch.float32


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Grid((8, 8), (1.0,)), r"2 sizes \(8, 8\) but 1 lengths"),
        (lambda: Grid((8,) * 4, (1.0,) * 4), "4 axes"),
        (lambda: Grid((1,), (1.0,)), "at least 2"),
        (lambda: Grid((8,), (-1.0,)), "positive"),
        (lambda: Grid((8,), (float("nan"),)), "positive"),
        (lambda: Grid((8,), (1.0,), boundary="dirichelt"), "'dirichelt' on axis 0; expected one of"),
        (lambda: Grid((8, 8), (1.0, 1.0), boundary=("periodic",)), "boundaries for 1 axes"),
        (lambda: Grid((8,), (1.0,), boundary=(("periodic", "wall"),)), "both sides or on neither"),
        (lambda: Grid((8,), (1.0,), boundary=(("wall", "wall", "wall"),)), "pair"),
        (lambda: Grid((8,), (1.0,), origin=(0.0, 1.0)), "2 origins"),
        (lambda: Grid((8,), (1.0,), centering="vertex"), "'vertex'"),
    ],
)
def test_grid_refusals(make: Callable[[], Grid], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_square_of_two_triangles() -> None:
    points, cells = TRIANGLES
    mesh = Mesh(points, cells.flip(1), torch.tensor([0, 0, 4, 6]))  # clockwise: turned round
    assert mesh.edges.T.tolist() == [[0, 1], [0, 2], [0, 3], [1, 2], [2, 3]]
    assert mesh.cell_volumes.tolist() == [0.5, 0.5]
    assert mesh.weights().tolist() == pytest.approx([1 / 3, 1 / 6, 1 / 3, 1 / 6])
    assert mesh.volume == 1.0
    assert mesh.boundary_facets.tolist() == [[0, 1], [0, 3], [1, 2], [2, 3]]
    assert mesh.types[2] == NodeType.INFLOW and mesh.types[3] == NodeType.WALL_BOUNDARY
    corners = mesh.points[mesh.cells]
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    assert ((first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]) > 0).all()
    assert mesh.coordinates().shape == (2, 4)
    assert mesh.shape == (4,) and mesh.dimension == 2


def test_cube_of_six_tetrahedra() -> None:
    """Kuhn's split of the unit cube: 8 nodes, 19 edges, 12 outer faces, volume 1."""
    points = torch.tensor(list(product((0.0, 1.0), repeat=3)))
    cells = []
    for order in ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)):
        corner, path = [0, 0, 0], [0]
        for axis in order:
            corner[axis] = 1
            path.append(4 * corner[0] + 2 * corner[1] + corner[2])
        cells.append(path)
    mesh = Mesh(points, torch.tensor(cells))
    assert mesh.volume == pytest.approx(1.0, rel=1e-14)
    assert float(mesh.weights().sum()) == pytest.approx(1.0, rel=1e-14)
    assert mesh.edges.shape == (2, 19)
    assert mesh.boundary_facets.shape == (12, 3)


@pytest.mark.parametrize(
    ("points", "cells", "types", "message"),
    [
        (torch.zeros(3, 1), [[0, 1, 2]], None, r"\(N, 2\) or \(N, 3\)"),
        (TRIANGLES[0], [[0, 1]], None, r"expected \(M, 3\)"),
        (TRIANGLES[0], torch.zeros(0, 3, dtype=torch.int64), None, r"expected \(M, 3\)"),
        (TRIANGLES[0], [[0, 1, 4]], None, "from 0 to 4 for 4 points"),
        (TRIANGLES[0], [[0, 1, 1]], None, "1 cells without volume"),
        (TRIANGLES[0] * float("nan"), [[0, 1, 2]], None, "not finite"),
        (TRIANGLES[0], [[0, 1, 2]], torch.zeros(3), "3 node types for 4 points"),
    ],
)
def test_mesh_refusals(points: Tensor, cells: object, types: Tensor | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Mesh(points, torch.as_tensor(cells), types)


def _brute_force(cloud: Cloud, x: Tensor, radius: float) -> set[tuple[int, int]]:
    gap = x.unsqueeze(2) - x.unsqueeze(1)
    for axis, wraps in enumerate(cloud.flags):
        if wraps:
            length = cloud.lengths[axis]
            images = torch.stack([gap[axis] + m * length for m in (-2, -1, 0, 1, 2)])
            nearest = images.abs().argmin(dim=0, keepdim=True)
            gap[axis] = images.gather(0, nearest)[0]
    near = gap.square().sum(0) < radius**2
    near.fill_diagonal_(False)
    return set(map(tuple, near.nonzero().tolist()))


@pytest.mark.parametrize("radius", [0.07, 0.2, 0.45])
@pytest.mark.parametrize("periodic", [True, False, "mixed"])
@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_neighbours_are_those_of_all_pairs(dimension: int, periodic: bool | str, radius: float) -> None:
    flags = tuple(axis % 2 == 0 for axis in range(dimension)) if periodic == "mixed" else periodic
    cloud = Cloud(((-0.5, 0.5), (1.0, 2.2), (0.0, 0.9))[:dimension], flags)
    for seed, count in ((0, 1), (1, 2), (2, 150)):
        unit = _random(dimension, count, seed=seed)
        low = torch.tensor([low for low, _ in cloud.box], dtype=torch.float64).unsqueeze(1)
        # Some lie outside: periodic axes bring them back, open ones keep them.
        x = low + (1.4 * unit - 0.2) * torch.tensor(cloud.lengths, dtype=torch.float64).unsqueeze(1)
        pairs = cloud.neighbours(x, radius)
        found = list(map(tuple, pairs.T.tolist()))
        assert len(found) == len(set(found))
        assert set(found) == _brute_force(cloud, x, radius)
        assert (pairs[1].diff() >= 0).all()  # sorted by the receiver


def test_neighbours_of_particles_on_the_seam_and_on_one_spot() -> None:
    cloud = Cloud(((0.0, 1.0), (0.0, 1.0)), True)
    x = torch.tensor([[0.0, 1.0, 0.999, 0.5, 0.5], [0.0, 1.0, 0.5, 0.25, 0.25]], dtype=torch.float64)
    assert set(map(tuple, cloud.neighbours(x, 0.1).T.tolist())) == {(0, 1), (1, 0), (3, 4), (4, 3)}


def test_wrap_and_displacement() -> None:
    cloud = Cloud(((1.0, 3.0), (0.0, 1.0)), (True, False))
    x = torch.tensor([[0.5, 3.5, 2.0], [1.5, -0.5, 0.5]], dtype=torch.float64)
    assert cloud.wrap(x).tolist() == [[2.5, 1.5, 2.0], [1.5, -0.5, 0.5]]
    a, b = _random(4, 2, 10, seed=1) * 2, _random(4, 2, 10, seed=2) * 2
    gap = cloud.displacement(a, b)
    assert (gap[:, 0].abs() <= 1.0).all()
    assert torch.equal(gap[:, 1], (a - b)[:, 1])
    assert (torch.remainder(gap[:, 0] - (a - b)[:, 0] + 1, 2) - 1).abs().max() < 1e-15  # whole boxes apart
    assert cloud.volume == 2.0 and cloud.dimension == 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Cloud(()), "0 axes"),
        (lambda: Cloud(((1.0, 0.0),)), "low < high"),
        (lambda: Cloud(((0.0, float("inf")),)), "finite"),
        (lambda: Cloud(((0.0, 1.0),), (True, False)), "2 periodic flags for 1 axes"),
        (lambda: Cloud(((0.0, 1.0),)).neighbours(torch.zeros(2, 3), 0.1), r"expected \(1, N\)"),
        (
            lambda: Cloud(((0.0, 1.0),), True).neighbours(torch.zeros(1, 3), 0.6),
            "half of each periodic side",
        ),
        (lambda: Cloud(((0.0, 1.0),)).neighbours(torch.zeros(1, 3), 0.0), "positive"),
        (lambda: Cloud(((0.0, 1.0),)).neighbours(torch.full((1, 3), math.nan), 0.1), "not finite"),
    ],
)
def test_cloud_refusals(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
