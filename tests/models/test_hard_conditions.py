"""Boundary values, slopes and initial states that hold for any weights."""

import pytest
import torch
from torch import nn

from sciml.experiments import components
from sciml.models import (
    BallDistance,
    BoundaryCondition,
    CoordinateNet,
    HardConditions,
    InitialState,
    JoinedDistance,
    PlaneDistance,
    SegmentDistance,
)
from sciml.models.pinns.distances import box_distances, polygon_distances

torch.set_num_threads(1)
# An L, counterclockwise: from inside, one edge lies behind the line of another.
CORNERS = [(0.0, 0.0), (2.0, 0.0), (2.0, 1.0), (1.0, 1.0), (1.0, 2.0), (0.0, 2.0)]


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def net(dimension, channels=2, seed=0, **more):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CoordinateNet(dimension, channels, 12, 2, **more).double()


def on_segment(start, end, count=7):
    s = torch.linspace(0.1, 0.9, count, dtype=torch.float64)
    a, b = torch.tensor(start).double(), torch.tensor(end).double()
    points = (a.unsqueeze(1) + (b - a).unsqueeze(1) * s).unsqueeze(0)
    tangent = (b - a) / (b - a).norm()
    return points, torch.stack([tangent[1], -tangent[0]])  # points (1, 2, N), outward normal


def value_and_slope(f, x, normal):
    direction = normal.reshape(1, -1, 1).expand_as(x).contiguous()
    return torch.func.jvp(f, (x,), (direction,))


def slopes(distance, x):
    x = x.clone().requires_grad_()
    (found,) = torch.autograd.grad(distance(x).sum(), x)
    return found


def test_distances_vanish_on_their_piece_with_unit_slope_inwards():
    edges = polygon_distances(CORNERS)
    joined = JoinedDistance(edges)
    for number, (start, end) in enumerate(zip(CORNERS, [*CORNERS[1:], CORNERS[0]], strict=True)):
        x, normal = on_segment(start, end)
        inward = -normal.reshape(1, 2, 1).expand_as(x)
        for distance in (edges[number], joined):
            assert float(distance(x).abs().max()) < 1e-15
            torch.testing.assert_close(slopes(distance, x), inward, rtol=0, atol=1e-12)
        for other, distance in enumerate(edges):
            assert other == number or float(distance(x).min()) > 1e-3
    inside = torch.tensor([[0.5, 1.5, 0.5], [1.5, 0.5, 0.5]]).double().unsqueeze(0)
    assert float(joined(inside).min()) > 0.1
    # Near an edge the joined distance is the distance, to an error of its third order.
    near = torch.tensor([[1.5], [0.01]]).double().unsqueeze(0)
    assert float(joined(near)) == pytest.approx(0.01, abs=1e-5)


def test_balls_and_planes():
    angle = torch.linspace(0, 6, 9, dtype=torch.float64)
    x = torch.stack([1 + 0.5 * angle.cos(), 0.5 * angle.sin()]).unsqueeze(0)
    outward = torch.stack([angle.cos(), angle.sin()]).unsqueeze(0)
    for outside, sign in ((False, -1), (True, 1)):
        ball = BallDistance((1.0, 0.0), 0.5, outside)
        assert float(ball(x).abs().max()) < 1e-15
        torch.testing.assert_close(slopes(ball, x), sign * outward, rtol=0, atol=1e-12)
    plane = PlaneDistance((1.0, 0.0, 0.0), (3.0, 4.0, 0.0))
    assert float(plane(torch.tensor([2.0, 1.0, 9.0]).double().reshape(1, 3, 1))) == pytest.approx(1.4)


KINDS = {"dirichlet": (1.0, 0.0), "neumann": (0.0, 1.0), "robin": (2.0, -0.7)}


@pytest.mark.parametrize(
    "kinds",
    [("dirichlet",) * 4, ("neumann",) * 4, ("robin",) * 4, ("dirichlet", "neumann", "robin", "neumann")],
)
def test_every_kind_holds_on_every_side_of_a_box(kinds):
    def data(x):
        return torch.stack([x[:, 0] * x[:, 1] + 1, torch.sin(x[:, 0]) - x[:, 1]], dim=1)

    distances = box_distances((0.0, -1.0), (2.0, 1.0))
    conditions = [
        BoundaryCondition(d, data, *KINDS[kind]) for d, kind in zip(distances.values(), kinds, strict=True)
    ]
    u = HardConditions(net(2), conditions)
    corners = {
        "x-": ((0, 1), (0, -1)),
        "x+": ((2, -1), (2, 1)),
        "y-": ((0, -1), (2, -1)),
        "y+": ((2, 1), (0, 1)),
    }
    for name, kind in zip(distances, kinds, strict=True):
        x, normal = on_segment(*[tuple(map(float, c)) for c in corners[name]])
        value, slope = value_and_slope(u, x, normal)
        a, b = KINDS[kind]
        torch.testing.assert_close(a * value + b * slope, data(x), rtol=0, atol=1e-12)
    inside = noise(1, 2, 5).clamp(-0.9, 0.9) * 0.5 + torch.tensor([[1.0], [0.0]])
    assert (
        float((u(inside) - HardConditions(net(2, seed=1), conditions)(inside)).detach().abs().min()) > 1e-3
    )


def test_mixed_conditions_on_an_l_shape_with_trimmed_segments():
    kinds = ["dirichlet", "neumann", "robin", "neumann", "dirichlet", "robin"]
    conditions = [
        BoundaryCondition(d, [0.5, -1.0], *KINDS[kind])
        for d, kind in zip(polygon_distances(CORNERS), kinds, strict=True)
    ]
    u = HardConditions(net(2), conditions)
    data = torch.tensor([0.5, -1.0]).double().reshape(1, 2, 1)
    for (start, end), kind in zip(
        zip(CORNERS, [*CORNERS[1:], CORNERS[0]], strict=True), kinds, strict=True
    ):
        x, normal = on_segment(start, end)
        value, slope = value_and_slope(u, x, normal)
        a, b = KINDS[kind]
        torch.testing.assert_close(a * value + b * slope, data.expand_as(value), rtol=0, atol=1e-11)
    corner = torch.tensor([[0.0], [0.0]]).double().unsqueeze(0)
    assert bool(torch.isfinite(u(corner)).all())


def test_conditions_in_one_and_three_axes_train_through_second_derivatives():
    for d in (1, 3):
        sides = box_distances((0.0,) * d, (1.0,) * d)
        u = HardConditions(net(d, 1), [BoundaryCondition(s, 2.0, 1.0, 0.5) for s in sides.values()])
        x = torch.rand(
            1, d, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True
        )
        (slope,) = torch.autograd.grad(u(x).sum(), x, create_graph=True)
        (curvature,) = torch.autograd.grad(slope.sum(), x, create_graph=True)
        curvature.square().sum().backward()
        assert all(bool(torch.isfinite(p.grad).all()) for p in u.parameters())
        face = x.detach().clone()
        face[:, 0] = 0.0
        value, out = value_and_slope(u, face, -torch.eye(d, dtype=torch.float64)[0])
        torch.testing.assert_close(value + 0.5 * out, torch.full_like(value, 2.0), rtol=0, atol=1e-12)


def test_boundary_data_may_move_in_time_and_the_start_still_holds():
    sides = box_distances((0.0,), (1.0,))
    conditions = [
        BoundaryCondition(sides["x-"], lambda x, t: torch.sin(t)),
        BoundaryCondition(sides["x+"], lambda x, t: t.square() + 1.0, 0.0, 1.0),
    ]
    inner = HardConditions(net(1, 1, horizon=2.0), conditions)
    # u0 agrees with the data at t = 0: u0(0) = 0, u0'(1) = 1.
    u = InitialState(inner, lambda x: x.square() / 2, 2.0, "difference")
    t = torch.tensor([0.0, 0.3, 1.1, 2.0]).double().reshape(1, 1, 4)
    left, right = torch.zeros_like(t), torch.ones_like(t)
    torch.testing.assert_close(u(left, t), torch.sin(t), rtol=0, atol=1e-13)
    _, slope = torch.func.jvp(lambda x: u(x, t), (right,), (torch.ones_like(right),))
    torch.testing.assert_close(slope, t.square() + 1.0, rtol=0, atol=1e-12)
    x = torch.rand(1, 1, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(u(x, torch.zeros_like(x)), x.square() / 2, rtol=0, atol=1e-15)


@pytest.mark.parametrize("ramp", ["linear", "exponential", "difference"])
def test_initial_state_and_velocity(ramp):
    u = InitialState(net(2, 1, horizon=1.5), lambda x: x[:, :1], 1.5, ramp, lambda x: x[:, 1:] + 2.0)
    x = noise(1, 2, 5)
    zero = torch.zeros_like(x[:, :1])
    value, rate = torch.func.jvp(lambda t: u(x, t), (zero,), (torch.ones_like(zero),))
    torch.testing.assert_close(value, x[:, :1], rtol=0, atol=1e-15)
    torch.testing.assert_close(rate, x[:, 1:] + 2.0, rtol=0, atol=1e-13)
    later = u(x, zero + 1.0) - x[:, :1] - (x[:, 1:] + 2.0)
    assert float(later.detach().abs().min()) > 1e-3


def test_initial_values_on_a_periodic_grid():
    x = torch.arange(8, dtype=torch.float64) / 8
    u = InitialState(net(1, 1, horizon=1.0), torch.sin(2 * torch.pi * x).unsqueeze(0), lengths=(1.0,))
    at = noise(1, 1, 5)
    torch.testing.assert_close(
        u(at, torch.zeros_like(at)), torch.sin(2 * torch.pi * at), rtol=0, atol=1e-12
    )
    with pytest.raises(ValueError, match="not periodic"):
        InitialState(net(1, 1), x.unsqueeze(0), lengths=(1.0,), periodic=False)


def test_periodic_features_give_periodic_functions():
    f = net(2, 2, lengths=(1.0, 3.0), origin=(0.5, 0.0), periodic=(True, False))
    x = noise(1, 2, 4)
    shift = torch.tensor([2.0, 0.0]).double().reshape(1, 2, 1)
    torch.testing.assert_close(f(x + shift), f(x), rtol=0, atol=1e-12)
    assert float((f(x + shift.flip(1)) - f(x)).detach().abs().min()) > 1e-4


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="neither value nor slope"):
        BoundaryCondition(PlaneDistance((0.0,), (1.0,)), 0.0, 0.0, 0.0)
    with pytest.raises(ValueError, match="data of 3 channels for a network of 2"):
        HardConditions(net(1), [BoundaryCondition(PlaneDistance((0.0,), (1.0,)), [1.0, 2.0, 3.0])])(
            noise(1, 1, 2)
        )
    with pytest.raises(ValueError, match="no conditions"):
        HardConditions(nn.Identity(), [])
    with pytest.raises(ValueError, match="counterclockwise"):
        polygon_distances(CORNERS[::-1])
    with pytest.raises(ValueError, match="ramp='square'"):
        InitialState(nn.Identity(), lambda x: x, 1.0, "square")
    with pytest.raises(ValueError, match="two different points"):
        SegmentDistance((0.0, 1.0), (0.0, 1.0))


def test_a_study_names_boundary_and_start():
    plane = {"class_path": "PlaneDistance", "init_args": {"point": [0.0], "normal": [1.0]}}
    wall = {
        "class_path": "BoundaryCondition",
        "init_args": {"distance": plane, "data": 0.5, "value": 0.0, "slope": 1.0},
    }
    inner = {"class_path": "CoordinateNet", "init_args": {"width": 6, "layers": 2}}
    held = {"class_path": "HardConditions", "init_args": {"f": inner, "conditions": [wall]}}
    component = {"class_path": "InitialState", "init_args": {"f": held, "ramp": "difference"}}
    facts = {"dimension": 1, "out_channels": 1, "lengths": (1.0,), "origin": (0.0,), "periodic": (False,)}
    facts |= {"horizon": 2.0, "initial": lambda x: 1.0 - 0.5 * x}
    u = components.build(component, "network", "network", facts).double()
    x, t = (
        torch.zeros(1, 1, 3, dtype=torch.float64),
        torch.tensor([0.0, 0.5, 2.0]).double().reshape(1, 1, 3),
    )
    _, slope = torch.func.jvp(lambda z: u(z, t), (x,), (-torch.ones_like(x),))
    torch.testing.assert_close(slope, torch.full_like(slope, 0.5), rtol=0, atol=1e-13)
    torch.testing.assert_close(u(x + 0.3, 0 * t), torch.full_like(x, 0.85), rtol=0, atol=1e-15)
