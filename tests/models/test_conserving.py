"""What conserves without a projection: pools, wide transports, null spaces, potentials on edges, clips with a gradient."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from sciml import Grid, Mesh
from sciml.constraints import LinearRows
from sciml.domains import Point
from sciml.experiments.components import build
from sciml.models import Clipped, EdgePotential, NullSpace, Redistribution, WideTransport
from sciml.models.edge_potential import loop_sums


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def network(inputs: int, outputs: int, seed: int = 0, scale: float = 2.0) -> Callable[[Tensor], Tensor]:
    """A rough map of channels, (B, C, ...) -> (B, outputs, ...), in the precision of its input."""
    first, second = normal(8, inputs, seed=seed), scale * normal(outputs, 8, seed=seed + 1)

    def f(u: Tensor) -> Tensor:
        hidden = torch.tanh(torch.einsum("kc,bc...->bk...", first.to(u), u))
        if u.ndim > 2:
            hidden = hidden + hidden.roll(1, -1)
        return torch.einsum("ok,bk...->bo...", second.to(u), hidden)

    return f


class TestRedistribution:
    def test_ten_thousand_steps_lose_nothing(self) -> None:
        step = Redistribution(network(5, 16), 4)
        u = normal(3, 4).abs()
        before, last, path = u.sum(dim=1), u, 0.0
        with torch.no_grad():
            for _ in range(10_000):
                last, u = u, step(u)
                path += float((u - last).abs().max())
        assert float(((u.sum(dim=1) - before) / before).abs().max()) < 1e-12
        assert u.min() >= 0 and path > 0.1

    def test_store_and_input_are_output_and_new_store(self) -> None:
        count, steps = 3, 500
        step = Redistribution(network(4, 15), count, inputs=0.2, open_pools=True, own=1.0)
        u = normal(2, count, 4, 5).abs()
        start, given, left = u.sum(dim=1), torch.zeros(2, 4, 5).double(), torch.zeros(2, 4, 5).double()
        with torch.no_grad():
            for n in range(steps):
                x = 0.1 * normal(2, 4, 5, seed=n).square()
                u, y = step.exchange(u, x)
                given, left = given + x, left + y.sum(dim=1)
                assert y.min() >= 0 and u.min() >= 0
        balance = (start + given - left - u.sum(dim=1)).abs() / given
        assert balance.max() < 1e-13 < 0.1 < float((left / given).min())
        # One number for each sample reaches all of its points alike.
        per_sample = step.exchange(u, torch.tensor([0.1, 0.3]))[0]
        everywhere = step.exchange(u, torch.tensor([0.1, 0.3]).reshape(2, 1, 1).expand(2, 4, 5))[0]
        torch.testing.assert_close(per_sample, everywhere, rtol=0, atol=0)

    def test_columns_are_shares_and_zero_logits_stay(self) -> None:
        matrix, fed, out = Redistribution(network(4, 9), 3, own=0.0).shares(normal(2, 3, 6).abs())
        assert fed is None and out is None
        torch.testing.assert_close(matrix.sum(dim=1), torch.ones(2, 3, 6).double(), rtol=0, atol=1e-15)
        # By hand: pool 1 gives everything to pool 0.
        logits = torch.zeros(1, 9).double()
        logits[0, 3] = 100.0
        moved = Redistribution(lambda u: logits, 3, own=50.0)(torch.tensor([[1.0, 2.0, 4.0]]).double())
        torch.testing.assert_close(moved, torch.tensor([[3.0, 0.0, 4.0]]).double())

    def test_gradients_and_precision(self) -> None:
        step = Redistribution(network(3, 8), 2, inputs=[0.1, 0.2], open_pools=True)
        u = normal(2, 2, 3).abs()
        assert torch.autograd.gradcheck(step, (u.requires_grad_(),), check_forward_ad=True)
        closed = Redistribution(network(3, 4), 2)
        single = u.detach().float()
        assert closed(single).dtype == torch.float32
        torch.testing.assert_close(closed(single).sum(dim=1), single.sum(dim=1), rtol=3e-7, atol=0)

    def test_a_study_builds_it_for_a_system_without_space(self) -> None:
        inner = {
            "class_path": "ConvNet",
            "init_args": {"in_channels": 3, "out_channels": 4, "dimension": 1},
        }
        spec = {"class_path": "Redistribution", "init_args": {"f": inner, "pools": 2}}
        made = build(spec, "here", "network", {"domain": Grid((8,), (1.0,))})
        u = normal(1, 2, 8).abs().float()
        torch.testing.assert_close(made(u).sum(dim=1), u.sum(dim=1), rtol=1e-6, atol=0)

    def test_refusals(self) -> None:
        with pytest.raises(ValueError, match="pools=0; expected 1 or more"):
            Redistribution(network(1, 1), 0)
        with pytest.raises(ValueError, match="input of -1.0; expected none below zero"):
            Redistribution(network(1, 1), 1, inputs=-1.0)
        with pytest.raises(ValueError, match=r"state of shape \(1, 2\); expected \(B, 3"):
            Redistribution(network(4, 9), 3)(normal(1, 2))
        with pytest.raises(
            ValueError, match=r"logits of shape \(1, 8\) from its network; expected \(1, 9\)"
        ):
            Redistribution(network(4, 8), 3)(normal(1, 3).abs())
        with pytest.raises(ValueError, match="was built without"):
            Redistribution(network(4, 9), 3).exchange(normal(1, 3).abs(), torch.ones(1))


GRIDS = [
    Grid((11,), (1.0,)),
    Grid((7, 6), (1.0, 1.0), boundary=("wall", "periodic"), centering="cell"),
    Grid((5, 5, 6), (1.0, 1.0, 2.0), boundary=("periodic", "wall", "neumann"), centering="cell"),
]


class TestWideTransport:
    @pytest.mark.parametrize("grid", GRIDS, ids=["1D", "2D", "3D"])
    @pytest.mark.parametrize("upper", [None, 1.0])
    def test_sums_and_bounds_over_many_steps(self, grid: Grid, upper: float | None) -> None:
        radius = 2 if grid.dimension < 3 else 1
        ways = (2 * radius + 1) ** grid.dimension
        step = WideTransport(network(2, 2 * ways), grid, radius=radius, upper=upper, own=0.0)
        u = torch.rand(2, 2, *grid.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        u[:, :, 0] = 0.0
        start = u
        with torch.no_grad():
            for _ in range({1: 300, 2: 100, 3: 20}[grid.dimension]):
                u = step(u)
                assert u.min() >= 0.0 and (upper is None or u.max() <= upper)
        drift = (u - start).flatten(2).sum(dim=2) / start.flatten(2).sum(dim=2)
        assert drift.abs().max() < 1e-12 and (u - start).abs().max() > 0.1

    @pytest.mark.parametrize("grid", GRIDS[:2], ids=["1D", "2D"])
    def test_it_carries_as_far_as_its_radius_in_one_step(self, grid: Grid) -> None:
        shifts = list(itertools.product(range(-2, 3), repeat=grid.dimension))
        way = (2,) if grid.dimension == 1 else (-2, 1)
        logits = torch.zeros(len(shifts)).double()
        logits[shifts.index(way)] = 200.0
        f = lambda u: logits.reshape(1, -1, *[1] * grid.dimension).expand(1, -1, *grid.shape)  # noqa: E731
        u = torch.rand(1, 1, *grid.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
        moved = WideTransport(f, grid, radius=2)(u)
        exact = u.roll(way, tuple(range(2, 2 + grid.dimension)))
        if grid.dimension == 1:  # a shift of two cells: a Courant number of two
            torch.testing.assert_close(moved, exact, rtol=0, atol=1e-15)
            return
        # At the wall those who cannot go stay; all others go.
        inner = u.clone()
        inner[:, :, :2] = 0.0
        torch.testing.assert_close(
            WideTransport(f, grid, radius=2)(inner), inner.roll(way, (2, 3)), rtol=0, atol=1e-15
        )
        torch.testing.assert_close(moved.sum(), u.sum(), rtol=1e-15, atol=0)

    def test_a_crowd_moves_on_in_rounds(self) -> None:
        grid = Grid((12,), (1.0,))
        logits = torch.zeros(3).double()
        logits[2] = 200.0
        f = lambda u: logits.reshape(1, 3, 1).expand(1, 3, 12)  # noqa: E731
        u = torch.zeros(1, 1, 12).double()
        u[..., 2:6] = 1.0
        whole = WideTransport(f, grid, radius=1, upper=1.0, passes=4)(u)
        torch.testing.assert_close(whole, u.roll(1, 2), rtol=0, atol=1e-15)
        held = WideTransport(f, grid, radius=1, upper=1.0, passes=1)(u)
        expected = u.clone()
        expected[..., 5], expected[..., 6] = 0.0, 1.0  # only the first could
        torch.testing.assert_close(held, expected, rtol=0, atol=1e-15)

    def test_gradients_precision_and_refusals(self) -> None:
        grid = Grid((6,), (1.0,))
        u = normal(2, 1, 6).abs() * 0.4
        for upper in (None, 0.6):
            step = WideTransport(network(1, 3), grid, radius=1, lower=-0.1, upper=upper, own=0.0)
            v = u.clone().requires_grad_()
            assert torch.autograd.gradcheck(step, (v,), check_forward_ad=True)
        assert step(u.float()).dtype == torch.float32
        with pytest.raises(
            ValueError, match=r"logits of shape \(2, 2, 6\).*expected \(2, 3, 6\), 3 for each"
        ):
            WideTransport(network(1, 2), grid, radius=1)(u)
        for arguments, message in (
            ({"radius": 3}, "radius=3 and passes=4 on .6,. cells"),
            ({"radius": 0}, "expected 1 or more of each"),
            ({"radius": 1, "upper": -1.0}, "lower 0.0 and upper -1.0"),
        ):
            with pytest.raises(ValueError, match=message):
                WideTransport(network(1, 3), grid, **arguments)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="expected periodic axes, or cells"):
            WideTransport(network(1, 3), Grid((6,), (1.0,), boundary="outflow", centering="cell"), 1)


class TestNullSpace:
    @pytest.mark.parametrize("values", [None, [0.5, -1.0, 2.0]])
    def test_rows_are_kept_whatever_the_network_says(self, values: list[float] | None) -> None:
        grid = Grid((4, 3), (1.0, 2.0), boundary=("dirichlet", "periodic"))  # unequal volumes
        rows = normal(3, 2, 4, 3, seed=3)
        f = lambda u: network(2, 1)(u).flatten(1).repeat(1, 2)[:, :21]  # noqa: E731
        step = NullSpace(f, grid, rows, channels=2, values=values)
        law = LinearRows(grid, rows, values)
        u = normal(3, 2, 4, 3)
        start, first = u, step(u)
        assert law.violation(first, u).max() < 1e-13 < 0.1 < (first - u).abs().max()
        for _ in range(300):
            u = step(u)
        assert law.violation(u, start).max() < 1e-13 * max(1.0, float(u.abs().max()))
        # |c| is the size of the change in the norm of the volumes, and any change without effect on A u is one.
        basis = step.constants.get("basis", u)
        metric = law.weights.expand(2, 4, 3).flatten()
        torch.testing.assert_close(
            basis.T @ (metric[:, None] * basis), torch.eye(21).double(), rtol=0, atol=1e-14
        )
        assert step.free == 21 and float((rows.flatten(1) @ basis).abs().max()) < 1e-13

    def test_of_a_system_without_space_and_gradients(self) -> None:
        total = torch.ones(1, 4)
        step = NullSpace(network(4, 3), Point(), total, channels=4)
        u = normal(2, 4).requires_grad_()
        torch.testing.assert_close(step(u).sum(dim=1), u.sum(dim=1), rtol=0, atol=1e-14)
        assert torch.autograd.gradcheck(step, (u,), check_forward_ad=True)
        assert step(u.detach().float()).dtype == torch.float32

    def test_refusals(self) -> None:
        with pytest.raises(ValueError, match="expected 3, the unknowns less the rows"):
            NullSpace(network(4, 4), Point(), torch.ones(1, 4), channels=4)(normal(1, 4))
        with pytest.raises(ValueError, match="4 rows for 4 unknowns; expected fewer"):
            NullSpace(network(4, 4), Point(), torch.eye(4), channels=4)
        with pytest.raises(ValueError, match="dependent on each other: row 0, row 1"):
            NullSpace(network(4, 4), Point(), torch.ones(2, 4), channels=4)
        with pytest.raises(ValueError, match="which no step passes on"):
            NullSpace(network(4, 4), Point(), torch.ones(1, 4), channels=4, values="context")
        with pytest.raises(ValueError, match=r"state of shape \(1, 3\); expected \(B, 4\)"):
            NullSpace(network(4, 3), Point(), torch.ones(1, 4), channels=4)(normal(1, 3))


def fan(count: int = 9) -> Mesh:
    angle = torch.linspace(0, 2 * torch.pi, count, dtype=torch.float64)[:-1]
    radius = 1 + torch.rand(count - 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rim = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)
    i = torch.arange(count - 1)
    cells = torch.stack([torch.zeros_like(i), i + 1, (i + 1) % (count - 1) + 1], dim=1)
    return Mesh(torch.cat([torch.zeros(1, 2, dtype=torch.float64), rim]), cells)


class TestEdgePotential:
    def test_no_work_is_done_round_any_loop(self) -> None:
        mesh = fan()
        step = EdgePotential(network(2, 2), mesh)
        forces = step.forces(normal(3, 2, 9))
        any_forces = normal(*forces.shape, seed=4)
        for loop in ([0, 1, 2], [0, 2, 1], list(range(1, 9)), [0, 3, 4, 5, 6]):
            assert loop_sums(forces, mesh, loop).abs().max() < 1e-13 * forces.abs().max()
            assert loop_sums(any_forces, mesh, loop).abs().max() > 0.1
        backward = loop_sums(any_forces, mesh, [2, 1, 0])
        torch.testing.assert_close(backward, -loop_sums(any_forces, mesh, [0, 1, 2]))

    def test_a_linear_potential_pulls_along_its_gradient(self) -> None:
        mesh = fan()
        slope = torch.tensor([0.7, -1.3]).double()
        forces = EdgePotential(lambda u: (mesh.points @ slope).reshape(1, 1, -1), mesh).forces(
            normal(1, 1, 9)
        )
        gap = mesh.points[mesh.edges[1]] - mesh.points[mesh.edges[0]]
        torch.testing.assert_close(forces[0, 0], (gap @ slope) / gap.norm(dim=1))

    def test_as_a_step_it_keeps_sums_and_evens_out_what_it_is_given(self) -> None:
        mesh = fan()
        volumes = mesh.weights()
        wild = EdgePotential(network(2, 2), mesh, coefficient=0.1)
        even = EdgePotential(nn.Identity(), mesh, coefficient=0.05)
        u = start = normal(2, 2, 9)
        for _ in range(300):
            u = wild(u)
        drift = ((u - start) * volumes).sum(dim=2).abs() / u.abs().flatten(2).sum(dim=2)
        assert drift.max() < 1e-14 and (u - start).abs().max() > 0.1
        u = start
        for _ in range(1000):
            u = even(u)
        mean = (start * volumes).sum(dim=2, keepdim=True) / volumes.sum()
        torch.testing.assert_close(u, mean.expand_as(u), rtol=0, atol=1e-10)
        assert torch.autograd.gradcheck(even, (start[:1].clone().requires_grad_(),), check_forward_ad=True)
        assert wild(start.float()).dtype == torch.float32

    def test_refusals(self) -> None:
        mesh = fan()
        with pytest.raises(TypeError, match="got a Grid; expected a Mesh"):
            EdgePotential(nn.Identity(), GRIDS[0])  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="potentials of 3 channels"):
            EdgePotential(network(2, 3), mesh)(normal(1, 2, 9))
        with pytest.raises(ValueError, match=r"potentials of shape \(1, 1, 8\)"):
            EdgePotential(lambda u: u[..., 1:], mesh).forces(normal(1, 1, 9))
        forces = EdgePotential(nn.Identity(), mesh).forces(normal(1, 1, 9))
        with pytest.raises(ValueError, match="from node 1 to node 3, which share no edge"):
            loop_sums(forces, mesh, [0, 1, 3])
        with pytest.raises(ValueError, match="expected three nodes or more"):
            loop_sums(forces, mesh, [0, 1])


class TestClipped:
    def test_the_value_is_that_of_a_clip_and_the_gradient_goes_on(self) -> None:
        z = normal(4, 1, 50) * 3
        for leak in (0.0, 0.25, 1.0):
            u = z.clone().requires_grad_()
            out = Clipped(nn.Identity(), lower=-1.0, upper=0.7, leak=leak)(u)
            assert torch.equal(out, z.clamp(-1.0, 0.7))
            (gradient,) = torch.autograd.grad(out.sum(), u)
            inside = (z > -1.0) & (z < 0.7)
            torch.testing.assert_close(gradient, torch.where(inside, 1.0, leak).double())
        assert Clipped(nn.Identity())(z.float()).min() == 0.0

    def test_what_starts_out_of_bounds_learns_to_come_back(self) -> None:
        target = torch.full((1, 1, 3), 0.5).double()
        found = []
        for leak in (0.0, 1.0):
            weight = nn.Parameter(torch.full((1, 1, 3), -2.0).double())
            step = Clipped(lambda u, w=weight: w + 0 * u, leak=leak)
            optimizer = torch.optim.SGD([weight], 0.2)
            for _ in range(200):
                optimizer.zero_grad()
                (step(target) - target).square().sum().backward()
                optimizer.step()
            found.append(float((step(target).detach() - target).abs().max()))
        assert found[1] < 1e-6 < 0.4 < found[0]

    def test_refusals(self) -> None:
        for arguments, message in (
            ({"lower": None}, "expected lower < upper, or one"),
            ({"upper": -1.0}, "lower 0.0 and upper -1.0"),
            ({"leak": 2.0}, "leak=2.0; expected a number from 0 to 1"),
        ):
            with pytest.raises(ValueError, match=message):
                Clipped(nn.Identity(), **arguments)  # type: ignore[arg-type]
