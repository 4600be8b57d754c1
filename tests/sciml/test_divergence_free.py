"""Projections of velocities against dense least squares, and with the solver whose states they are for."""

import pytest
import torch

from sciml import Grid, Mesh
from sciml.constraints import DivergenceFree, StaggeredDivergenceFree
from sciml.domains import Inflow
from sciml.experiments import components
from sciml.pdes import NavierStokes
from sciml.solvers.incompressible import block, incompressible

torch.set_num_threads(1)
CHANNEL = Grid((6, 5), (1.2, 2.0), boundary=("periodic", "wall"), centering="cell")
TUNNEL = Grid((9, 6), (1.8, 1.0), boundary=(("inflow", "outflow"), "wall"), centering="cell")
BOX = Grid((4, 3, 5), (1.0, 1.0, 2.0), boundary=("wall", "periodic", "wall"), centering="cell")


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def nearest(constraint, z, free):
    """The closest field to z (1, D, *cells) among those without divergence that differ on free faces, densely."""
    shape, count = z.shape[1:], z[0].numel()
    unit = torch.eye(count, dtype=torch.float64)[free.flatten()].reshape(-1, *shape)
    zero = constraint.divergence(torch.zeros_like(z)).flatten()
    rows = (constraint.divergence(unit).flatten(1) - zero).T  # divergence is affine where something enters
    change = torch.linalg.pinv(rows, rcond=1e-10) @ -constraint.divergence(z).flatten()
    out = z.flatten().clone()
    out[free.flatten()] += change
    return out.reshape(z.shape)


@pytest.mark.parametrize("bodies", [[], [(0.4, 0.5, 0.8, 1.5)]])
def test_staggered_projection_is_the_nearest_flow(bodies):
    constraint = StaggeredDivergenceFree(CHANNEL, blocks=bodies)
    z = noise(1, 2, 6, 5)
    # Free faces: neither on the low wall nor of the body's cells 2..3 x 1..3.
    free = torch.ones(2, 6, 5, dtype=torch.bool)
    free[1, :, 0] = False
    if bodies:
        free[0, 2:5, 1:4] = False  # cells 2, 3 have the faces 2, 3 and 4
        free[1, 2:4, 1:5] = False
    z = torch.where(free, z, 0.0)
    torch.testing.assert_close(constraint.project(z), nearest(constraint, z, free), rtol=0, atol=1e-12)


def test_staggered_projection_in_three_axes_is_the_nearest_flow():
    constraint = StaggeredDivergenceFree(BOX)
    z, free = noise(1, 3, 4, 3, 5), torch.ones(3, 4, 3, 5, dtype=torch.bool)
    free[0, 0], free[2, :, :, 0] = False, False
    z = torch.where(free, z, 0.0)
    torch.testing.assert_close(constraint.project(z), nearest(constraint, z, free), rtol=0, atol=1e-12)


def test_divergence_of_a_known_field():
    # u = x, v = 0 on the faces: one in every cell but the last, whose high face is a wall.
    grid = Grid((4, 3), (4.0, 3.0), boundary=("wall", "periodic"), centering="cell")
    u = torch.zeros(1, 2, 4, 3, dtype=torch.float64)
    u[0, 0] = torch.arange(4.0).unsqueeze(1)
    expected = torch.tensor([1.0, 1.0, 1.0, -3.0]).double().reshape(1, 1, 4, 1).expand(1, 1, 4, 3)
    torch.testing.assert_close(StaggeredDivergenceFree(grid).divergence(u), expected)


def test_what_the_solver_makes_is_admissible_and_its_projection_is_this_one():
    options = {"conditions": {"x-": Inflow((1.0, 0.0))}, "obstacles": [block((0.4, 0.4), (0.8, 0.7))]}
    step = incompressible(NavierStokes(1.0), TUNNEL, 0.01, compiled=False, **options)
    constraint = StaggeredDivergenceFree(TUNNEL, **options)
    u = noise(2, 2, *TUNNEL.shape)
    assert float(constraint.violation(u).min()) > 0.1
    assert float(constraint.violation(step(u)).max()) < 1e-13
    closed = incompressible(NavierStokes(0.05), CHANNEL, 0.02, compiled=False)
    v = noise(2, 2, *CHANNEL.shape)
    torch.testing.assert_close(
        StaggeredDivergenceFree(CHANNEL).project(v), closed.project(v), rtol=0, atol=1e-15
    )


def test_many_faces_of_bodies_take_iterations_to_rounding():
    constraint = StaggeredDivergenceFree(CHANNEL, blocks=[(0.4, 0.5, 0.8, 1.5)])
    u = noise(3, 2, 6, 5)
    direct = constraint.project(u)
    assert constraint._bodies is not None
    constraint._bodies.iterative = True
    torch.testing.assert_close(constraint.project(u), direct, rtol=0, atol=1e-11)
    assert float(constraint.violation(constraint.project(u)).max()) < 1e-11


def test_mixed_precision_leaves_the_rounding_of_single_precision():
    options = {"conditions": {"x-": Inflow((1.0, 0.0))}, "cylinders": [(0.7, 0.5, 0.2)]}
    periodic = Grid((16, 12), (1.0, 1.0), centering="cell")
    for constraint in (StaggeredDivergenceFree(TUNNEL, **options), DivergenceFree(periodic)):
        u = noise(2, 2, *constraint.grid.shape).float()
        with torch.autocast("cpu", torch.bfloat16):
            new = constraint.project(u)
        assert new.dtype == torch.float32
        assert float(constraint.violation(new).max()) < 1e-6


def test_projection_between_mirrors_is_the_nearest_flow():
    grid = Grid((5, 4), (1.0, 3.0), boundary=("wall", "periodic"), centering="cell")
    constraint = DivergenceFree(grid)
    z = noise(1, 2, 5, 4)
    found = nearest(constraint, z, torch.ones(2, 5, 4, dtype=torch.bool))
    torch.testing.assert_close(constraint.project(z), found, rtol=0, atol=1e-12)


def test_flow_between_mirrors_keeps_what_is_right():
    grid = Grid((17, 16), (1.0, 2.0), boundary=("wall", "periodic"))
    x, y = grid.coordinates()
    k = torch.pi
    psi = (torch.cos(k * x) * torch.sin(k * y), -torch.sin(k * x) * torch.cos(k * y))
    flow = torch.stack([torch.sin(k * x) * torch.cos(k * y), -torch.cos(k * x) * torch.sin(k * y)])
    gradient = torch.stack([-torch.sin(k * x) * torch.cos(k * y), -torch.cos(k * x) * torch.sin(k * y)])
    assert psi[0].shape == x.shape
    constraint = DivergenceFree(grid)
    # The flow of sines is free of divergence; -grad of cos cos / pi is not and goes entirely.
    torch.testing.assert_close(
        constraint.project((flow + gradient).unsqueeze(0))[0], flow, rtol=0, atol=1e-13
    )
    assert float(constraint.violation(flow.unsqueeze(0))) < 1e-13


@pytest.mark.parametrize("shape", [(32, 33), (33, 32), (32, 20)])
def test_rough_fields_lose_their_divergence_at_even_and_odd_sizes(shape):
    grid = Grid(shape, (1.0, 2.0))
    constraint = DivergenceFree(grid)
    u = noise(1, 2, *shape)
    projected = constraint.project(u)
    assert float(constraint.divergence(projected).abs().max()) < 1e-11
    # With the Nyquist wavenumber kept in the projection the same divergence is of order one.
    k = torch.meshgrid(
        *(
            2 * torch.pi / side * torch.fft.fftfreq(n, 1 / n, dtype=torch.float64)
            for n, side in zip(shape, (1.0, 2.0), strict=True)
        ),
        indexing="ij",
    )
    k = torch.stack(k)
    modes = torch.fft.fft2(u)
    kept = k * ((k * modes).sum(dim=1) / k.square().sum(dim=0).clamp_min(1e-300)).unsqueeze(1)
    wrong = constraint.divergence(u - torch.fft.ifft2(kept).real)
    assert float(wrong.abs().max()) > 1


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="expected cells"):
        StaggeredDivergenceFree(Grid((4, 4), (1.0, 1.0)))
    with pytest.raises(TypeError, match="expected a Grid"):
        StaggeredDivergenceFree(Mesh(torch.eye(3, 2), torch.tensor([[0, 1, 2]])))
    with pytest.raises(ValueError, match="one per axis"):
        StaggeredDivergenceFree(CHANNEL, channels=[0])
    with pytest.raises(ValueError, match="must leave"):
        both = Grid((4, 4), (1.0, 1.0), boundary=(("inflow", "wall"), "wall"), centering="cell")
        StaggeredDivergenceFree(both, {"x-": Inflow((1.0, 0.0))})
    with pytest.raises(ValueError, match=r"it stays at cell \(\d, \d\)"):
        StaggeredDivergenceFree(TUNNEL, {"x-": Inflow((1.0, 0.0))}, blocks=[(0.5, 0.0, 0.9, 1.0)])
    with pytest.raises(ValueError, match="StaggeredDivergenceFree"):
        DivergenceFree(Grid((4, 4), (1.0, 1.0), boundary="outflow"))


def test_a_study_names_it_with_bodies_and_inflow():
    arguments = {"conditions": {"x-": {"value": [1.0, 0.0]}}, "cylinders": [[0.7, 0.5, 0.2]]}
    component = {"class_path": "StaggeredDivergenceFree", "init_args": arguments}
    constraint = components.build(component, "constraint", "constraint", {"grid": TUNNEL, "domain": TUNNEL})
    u = constraint.project(noise(1, 2, *TUNNEL.shape))
    assert float(constraint.violation(u)) < 1e-13
    torch.testing.assert_close(u[0, 0, 0], torch.ones(6, dtype=torch.float64), rtol=0, atol=0)
