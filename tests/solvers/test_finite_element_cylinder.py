"""Meshes, Stokes flow and the heated cylinder."""

from __future__ import annotations

import math

import pytest
import torch

from sciml import Grid, Mesh, NodeType, rollout
from sciml.solvers.finite_element import (
    RandomBlobs,
    box,
    channel_inflow,
    channel_with_cylinder,
    heated_cylinder,
    minimum_angle,
    p1_step,
    random_temperature,
    rectangle,
    stokes_flow,
)


def channel(spacing: float = 0.2) -> Mesh:
    """A plain channel 2 x 1 with its sides marked."""
    mesh = rectangle((2.0, 1.0), spacing, seed=0)
    x, y = mesh.coordinates()
    types = mesh.types.clone()
    types[(x == 2) & (y > 0) & (y < 1)] = int(NodeType.OUTFLOW)
    types[x == 0] = int(NodeType.INFLOW)
    return Mesh(mesh.points, mesh.cells, types)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_channel_mesh_is_good(seed: int) -> None:
    mesh = channel_with_cylinder(seed=seed)
    assert 800 <= mesh.shape[0] <= 1500
    assert minimum_angle(mesh) > 30  # found: 33 to 35 degrees
    radius, centre = 0.15, torch.tensor([0.7, 0.48], dtype=torch.float64)
    on_circle = mesh.types == int(NodeType.OBSTACLE)
    pieces = int(on_circle.sum())
    distance = torch.linalg.vector_norm(mesh.points - centre, dim=1)
    assert torch.allclose(distance[on_circle], torch.tensor(radius, dtype=torch.float64), atol=1e-12)
    assert float(distance[~on_circle].min()) > radius
    # The region is the rectangle less a regular polygon, to rounding: no cell is lost or doubled.
    polygon = 0.5 * pieces * radius**2 * math.sin(2 * math.pi / pieces)
    assert mesh.volume == pytest.approx(3.0 - polygon, abs=1e-5)
    # Every node of a boundary facet has a boundary type and no other node has.
    on_boundary = torch.zeros(mesh.shape[0], dtype=torch.bool)
    on_boundary[mesh.boundary_facets.flatten()] = True
    assert torch.equal(on_boundary, mesh.types != int(NodeType.NORMAL))
    x, y = mesh.coordinates()
    assert torch.equal(mesh.types == int(NodeType.INFLOW), x == 0)
    assert torch.equal(mesh.types == int(NodeType.OUTFLOW), (x == 3) & (y > 0) & (y < 1))
    # Euler: nodes - edges + cells = 1 - holes.
    assert mesh.shape[0] - mesh.edges.shape[1] + len(mesh.cells) == 0
    length = torch.linalg.vector_norm(mesh.points[mesh.edges[0]] - mesh.points[mesh.edges[1]], dim=1)
    near = distance[mesh.edges].mean(dim=0) < 0.2
    assert (
        1.5
        < float(length[~near & (distance[mesh.edges].mean(dim=0) > 0.6)].mean() / length[near].mean())
        < 2.5
    )


def test_meshes_repeat_and_vary_with_the_seed() -> None:
    first, second, other = (rectangle((1.0, 1.0), 0.2, seed=s) for s in (3, 3, 4))
    assert torch.equal(first.points, second.points) and torch.equal(first.cells, second.cells)
    assert first.points.shape != other.points.shape or not torch.equal(first.points, other.points)
    assert minimum_angle(first) > 25 and first.volume == pytest.approx(1.0, abs=1e-12)


def test_the_box_is_filled_with_tetrahedra() -> None:
    mesh = box((1.0, 2.0, 0.5), (3, 5, 2), jitter=0.2, seed=0)
    assert mesh.shape == (4 * 6 * 3,) and len(mesh.cells) == 6 * 30
    assert mesh.volume == pytest.approx(1.0, abs=1e-12)
    assert float(mesh.cell_volumes.min()) > 0.2 * 1.0 / len(mesh.cells)
    assert int((mesh.types == int(NodeType.NORMAL)).sum()) == 2 * 4 * 1
    assert len(mesh.boundary_facets) == 4 * (3 * 5 + 3 * 2 + 5 * 2)


def test_stokes_flow_in_a_plain_channel_is_the_parabola() -> None:
    mesh = channel()
    inflow = channel_inflow(1.0)
    # Quadratic elements represent the parabola, so nothing but rounding is left.
    assert torch.allclose(stokes_flow(mesh, inflow), inflow(mesh.coordinates()), atol=1e-11)


def test_stokes_flow_in_a_duct_of_tetrahedra_keeps_its_flux() -> None:
    mesh = box((1.0, 1.0, 1.0), (3, 3, 3), seed=1)
    x, y, z = mesh.coordinates()
    inside = (y > 0) & (y < 1) & (z > 0) & (z < 1)
    types = mesh.types.clone()
    types[(x == 0)] = int(NodeType.INFLOW)
    types[(x == 1) & inside] = int(NodeType.OUTFLOW)
    mesh = Mesh(mesh.points, mesh.cells, types)

    def inflow(p: torch.Tensor) -> torch.Tensor:
        out = torch.zeros_like(p)
        out[0] = 36 * p[1] * (1 - p[1]) * p[2] * (1 - p[2])
        return out

    v = stokes_flow(mesh, inflow)
    middle = inside & (x == 1)
    # The duct's profile on the axis is close to the product of parabolas, whose flux is 1.
    assert v[0, middle].min() > 0.5 and v[0, middle].max() < 3.0
    assert v[:, (types == int(NodeType.WALL_BOUNDARY))].abs().max() == 0


def test_flow_past_the_cylinder() -> None:
    pde, mesh = heated_cylinder()
    v = pde.velocity[0]
    assert v.shape == (2, mesh.shape[0]) and pde.diffusivity == pytest.approx(0.01)
    for kind in (NodeType.OBSTACLE, NodeType.WALL_BOUNDARY):
        assert v[:, mesh.types == int(kind)].abs().max() == 0
    x, y = mesh.coordinates()
    # Far behind the obstacle the flow is the parabola again: disturbances decay like exp(-4.2 x / H).
    end = mesh.types == int(NodeType.OUTFLOW)
    assert torch.allclose(v[0, end], 6 * y[end] * (1 - y[end]), atol=5e-3)
    # Beside the obstacle the same flux 1 passes through gaps of 0.33 and 0.37 at 1.5 times the mean.
    assert 1.9 < float(v[0].max()) < 2.4


def test_the_heated_cylinder_stays_bounded_and_forgets_its_initial_state() -> None:
    pde, mesh = heated_cylinder(channel_with_cylinder(spacing=0.1))
    step = p1_step(pde, mesh, 0.05, substeps=4)
    generator = torch.Generator().manual_seed(0)
    u0 = torch.stack([random_temperature(mesh, generator) for _ in range(3)])
    on_obstacle = mesh.types == int(NodeType.OBSTACLE)
    # The same obstacle temperature for all, other blobs: after 8 transit times they must agree.
    u0[:, :, on_obstacle] = 1.0
    states = rollout(step, 400)(u0)
    assert torch.equal(states[..., on_obstacle], u0[:, None, :, on_obstacle].expand(-1, 401, -1, -1))
    last = states[:, -1]
    assert (last - last[:1]).abs().max() < 1e-6
    # Overshoots of SUPG: a few per cent of the jump at the obstacle.
    assert last.min() > -0.05 and last.max() < 1.05
    assert states.min() > u0.min() - 0.1 and states.max() < max(float(u0.max()), 1.0) + 0.1
    x, y = mesh.coordinates()
    wake = (x > 1.2) & ((y - 0.48).abs() < 0.15)
    ahead = x < 0.4
    assert float(last[..., wake].mean()) > 0.15 and float(last[..., ahead].abs().max()) < 0.05


def test_random_blobs_repeat_vary_and_hold_the_boundary() -> None:
    mesh = channel_with_cylinder(spacing=0.12)
    draw = RandomBlobs(obstacle=(2.0, 3.0))
    first = draw(mesh, 2, torch.Generator().manual_seed(7))
    again = draw(mesh, 2, torch.Generator().manual_seed(7))
    assert first.shape == (2, *mesh.shape) and first.dtype == torch.float64
    assert torch.equal(first, again)
    held = first[:, mesh.types == int(NodeType.OBSTACLE)]
    assert torch.equal(held, held[:, :1].expand_as(held)) and not torch.equal(held[0], held[1])
    assert float(held.min()) >= 2 and float(held.max()) <= 3
    assert first[:, mesh.types == int(NodeType.INFLOW)].abs().max() == 0
    # Blobs of the same seed are the same function of the place on another mesh.
    finer = channel_with_cylinder(spacing=0.06)
    on_finer = draw(finer, 2, torch.Generator().manual_seed(7))
    inner, inner_finer = mesh.types == 0, finer.types == 0
    near = torch.cdist(finer.points[inner_finer], mesh.points[inner]).min(dim=1)
    gap = (on_finer[:, inner_finer] - first[:, inner][:, near.indices]).abs()
    # No blob is steeper than amplitude / width / sqrt(e), up to four of them lie on one another.
    assert bool((gap <= 4 * 1.0 / 0.08 * math.exp(-0.5) * near.values + 1e-12).all())


def test_refusals_say_what_to_do() -> None:
    with pytest.raises(ValueError, match="must keep a gap"):
        channel_with_cylinder(centre=(0.7, 0.1))
    with pytest.raises(ValueError, match="quarter of the height"):
        channel_with_cylinder(spacing=0.5)
    with pytest.raises(ValueError, match="expected positive"):
        channel_with_cylinder(radius=-1.0)
    with pytest.raises(ValueError, match="jitter 0.4"):
        box((1.0, 1.0, 1.0), (2, 2, 2), jitter=0.4)
    with pytest.raises(ValueError, match="half of the shorter"):
        rectangle((1.0, 1.0), 0.6)
    with pytest.raises(ValueError, match="without INFLOW nodes"):
        stokes_flow(rectangle((1.0, 1.0), 0.3), channel_inflow())
    with pytest.raises(ValueError, match="peclet=0"):
        heated_cylinder(peclet=0)
    with pytest.raises(TypeError, match="Grid; it fills a Mesh"):
        RandomBlobs()(Grid((4,), (1.0,)), 1, torch.Generator())
    with pytest.raises(ValueError, match="width"):
        RandomBlobs(width=(0.0, 0.1))
    with pytest.raises(ValueError, match="expected triangles"):
        minimum_angle(box((1.0, 1.0, 1.0), (2, 2, 2)))
