"""Rollouts, streams and repetitions of a step, and the trajectories they make."""

from __future__ import annotations

import gc
import math
import weakref

import pytest
import torch
from torch import Tensor, nn

from sciml import (
    Cloud,
    Field,
    FunctionStep,
    Grid,
    Mesh,
    Step,
    Trajectory,
    first_non_finite,
    iterate,
    persistence,
    repeat,
    rollout,
    with_dtype,
)

GRID = Grid((12,), (1.0,))


def _step(dt: float = 0.1) -> FunctionStep:
    return FunctionStep(lambda u: torch.roll(u, 1, -1) - 0.1 * u**3, dt, GRID, ("u",))


def _start(batch: int = 2) -> Tensor:
    return torch.randn(batch, 1, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_rollout_iterate_and_repeat_agree() -> None:
    step, u0 = _step(), _start()
    u = rollout(step, 6)(u0)
    assert u.shape == (2, 7, 1, 12)
    assert torch.equal(u[:, 0], u0)
    assert torch.equal(torch.stack(list(iterate(step, u0, 6)), dim=1), u)
    double = repeat(step, 2)
    assert double.dt == pytest.approx(0.2)
    assert torch.equal(rollout(double, 3)(u0), u[:, ::2])
    assert torch.equal(repeat(double, 3)(u0), u[:, 6])
    assert isinstance(double, Step) and double.domain is GRID and double.channels == ("u",)


def test_no_steps_is_the_start() -> None:
    u0 = _start()
    assert torch.equal(rollout(_step(), 0)(u0), u0.unsqueeze(1))
    assert len(list(iterate(_step(), u0, 0))) == 1


def test_persistence_stands_still() -> None:
    still = persistence(_step())
    u = rollout(still, 3)(_start())
    assert torch.equal(u[:, 3], u[:, 0])
    assert still.dt == 0.1


def test_rollout_is_differentiable() -> None:
    u0 = _start(1).requires_grad_()
    assert torch.autograd.gradcheck(lambda u: rollout(_step(), 3)(u), (u0,))


def test_checkpointing_gives_the_same_gradients() -> None:
    network = nn.Sequential(
        nn.Conv1d(1, 4, 3, padding=1), nn.Tanh(), nn.Conv1d(4, 1, 3, padding=1)
    ).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in network.parameters():
            p.copy_(0.3 * torch.randn(p.shape, generator=generator, dtype=torch.float64))
    gradients, values = [], []
    for checkpoint in (False, True):
        u0 = _start().requires_grad_()
        network.zero_grad()
        u = rollout(lambda u: u + network(u), 5, checkpoint=checkpoint)(u0)
        u[:, 1:].square().sum().backward()
        values.append(u.detach())
        gradients.append([u0.grad, *[p.grad.clone() for p in network.parameters()]])
    assert torch.equal(values[0], values[1])
    for plain, recomputed in zip(*gradients, strict=True):
        assert torch.equal(plain, recomputed)
        assert plain.abs().max() > 0


def test_iterate_holds_one_state_and_no_graph() -> None:
    """Each state is freed before the next but one is made, and gradients stay off inside only."""
    seen: list[weakref.ref[Tensor]] = []
    factor = torch.ones((), requires_grad=True)
    for u in iterate(lambda u: factor * u, _start(), 50):
        assert torch.is_grad_enabled()
        assert not u.requires_grad
        seen.append(weakref.ref(u))
        gc.collect(0)
        assert sum(r() is not None for r in seen[1:]) <= 2
        del u


def test_blow_up_is_told_per_sample() -> None:
    u0 = torch.tensor([1.0, 1e3, 0.0, math.nan], dtype=torch.float32).reshape(4, 1, 1)
    u = rollout(lambda u: u**2 * 10, 8)(u0)
    # 1, 10, 1e3, 1e7, 1e15, 1e31, then past 3.4e38; 1e3, 1e7, 1e15, 1e31, inf
    assert first_non_finite(u).tolist() == [6, 4, 9, 0]
    assert u.shape[1] == 9


def test_with_dtype_computes_in_another_precision() -> None:
    seen = []

    def record(u: Tensor) -> Tensor:
        seen.append(u.dtype)
        return u / 3

    step = with_dtype(FunctionStep(record, 0.1, GRID, ("u",)), torch.float64)
    out = step(_start().float())
    assert seen == [torch.float64]
    assert out.dtype == torch.float32
    assert torch.equal(out, (_start().float().double() / 3).float())


@pytest.mark.parametrize(
    ("make", "message"), [(lambda: rollout(_step(), -1), "-1"), (lambda: repeat(_step(), 0), "0")]
)
def test_step_refusals(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=f"got (steps|times)={message}"):
        make()  # type: ignore[operator]


FLOW = (Field("density", "kg/m^3"), Field("velocity", "m/s", rank=1), Field("stress", "Pa", rank=2))


def _trajectory(grid: Grid) -> Trajectory:
    channels = sum(len(f.channels(grid.dimension)) for f in FLOW)
    generator = torch.Generator().manual_seed(3)
    data = torch.randn(3, 4, channels, *grid.shape, generator=generator, dtype=torch.float64)
    times = 0.5 + 0.25 * torch.arange(4, dtype=torch.float64)
    return Trajectory(data, grid, times, FLOW, {"viscosity": torch.tensor([0.1, 0.2, 0.3])})


def test_channel_names() -> None:
    grid = Grid((4, 5), (1.0, 2.0))
    assert _trajectory(grid).channels == (
        "density",
        "velocity_x",
        "velocity_y",
        "stress_xx",
        "stress_xy",
        "stress_yx",
        "stress_yy",
    )


@pytest.mark.parametrize("shape", [(6,), (4, 5), (3, 4, 5)])
def test_to_xarray_labels_everything(shape: tuple[int, ...]) -> None:
    grid = Grid(shape, (1.0, 2.0, 3.0)[: len(shape)], origin=0.5)
    trajectory = _trajectory(grid)
    labelled = trajectory.to_xarray()
    assert tuple(labelled.data_vars) == trajectory.channels
    assert labelled["density"].dims == ("sample", "time", *"xyz"[: len(shape)])
    assert labelled["velocity_x"].attrs["units"] == "m/s"
    assert labelled["viscosity"].values.tolist() == pytest.approx([0.1, 0.2, 0.3])
    for i, name in enumerate(trajectory.channels):
        assert (labelled[name].values == trajectory.data[:, :, i].numpy()).all()
    # by label: the value at a time and a place is the one of that frame and point
    x = float(grid.axes()[0][2])
    picked = labelled["density"].sel(time=1.0, x=x).values
    assert (picked == trajectory.data[:, 2, 0, 2].numpy()).all()


def test_to_pyvista_puts_values_on_their_points() -> None:
    pyvista = pytest.importorskip("pyvista")
    for shape in ((6,), (4, 5), (3, 4, 5)):
        grid = Grid(shape, (1.0, 2.0, 3.0)[: len(shape)], boundary="neumann")
        trajectory = _trajectory(grid)
        x = grid.coordinates()
        trajectory.data[1, 2, 0] = x.sum(0)  # a density that tells where it is
        trajectory.data[1, 2, 1] = x[-1]
        drawn = trajectory.to_pyvista(sample=1, frame=2)
        assert isinstance(drawn, pyvista.RectilinearGrid)
        points = torch.as_tensor(drawn.points).double()
        assert (
            torch.as_tensor(drawn.point_data["density"]) - points.sum(1)
        ).abs().max() < 1e-6  # float32 points
        velocity = torch.as_tensor(drawn.point_data["velocity"])
        assert velocity.shape == (math.prod(shape), 3)
        assert (velocity[:, 0] - points[:, len(shape) - 1]).abs().max() < 1e-6
        assert not velocity[:, len(shape) :].any()


def test_meshes_are_labelled_and_drawn() -> None:
    pytest.importorskip("pyvista")
    points = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]], dtype=torch.float64)
    mesh = Mesh(points, torch.tensor([[0, 1, 2], [0, 2, 3]]), torch.tensor([0, 4, 0, 6]))
    data = (points[:, 0] + 10 * points[:, 1]).reshape(1, 1, 1, 4)
    trajectory = Trajectory(data, mesh, torch.zeros(1), (Field("temperature", "K"),))
    labelled = trajectory.to_xarray()
    assert labelled["temperature"].dims == ("sample", "time", "node")
    assert labelled["node_type"].values.tolist() == [0, 4, 0, 6]
    drawn = trajectory.to_pyvista()
    assert drawn.n_cells == 2
    assert drawn.point_data["temperature"].tolist() == [0.0, 1.0, 11.0, 10.0]
    cloud = Trajectory(data.reshape(1, 1, 1, 4), Cloud(((0.0, 1.0),)), torch.zeros(1), (Field("mass"),))
    with pytest.raises(TypeError, match="grids, meshes"):
        cloud.to_pyvista()


def test_samples_are_picked_as_batches() -> None:
    trajectory = _trajectory(Grid((4, 5), (1.0, 2.0)))
    assert len(trajectory) == 3
    for index, kept in ((0, [0]), (-1, [2]), (slice(1, None), [1, 2])):
        part = trajectory[index]
        assert torch.equal(part.data, trajectory.data[kept])
        assert torch.equal(part.parameters["viscosity"], trajectory.parameters["viscosity"][kept])
    with pytest.raises(IndexError, match="3 samples; got index 3"):
        trajectory[3]


@pytest.mark.parametrize(
    ("data", "times", "parameters", "message"),
    [
        (torch.zeros(2, 3, 2, 12), torch.zeros(3), {}, "C = 1 channels"),
        (torch.zeros(2, 3, 12), torch.zeros(3), {}, r"expected \(B, T, C"),
        (torch.zeros(2, 3, 1, 12), torch.zeros(4), {}, r"\(4,\) times for 3 frames"),
        (torch.zeros(2, 3, 1, 13), torch.zeros(3), {}, r"points \(13,\)"),
        (torch.zeros(2, 3, 1, 12), torch.zeros(3), {"nu": torch.zeros(3)}, "parameter 'nu' for 2 samples"),
    ],
)
def test_trajectory_refusals(
    data: Tensor, times: Tensor, parameters: dict[str, Tensor], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Trajectory(data, GRID, times, (Field("u"),), parameters)
