"""Equations as least squares over basis functions: residuals, experts, gradients, processes, refusals."""

from __future__ import annotations

import math
import socket

import pytest
import torch
from torch import Tensor, nn

from sciml import Grid
from sciml.calculus import FiniteDifference, Spectral
from sciml.constraints import (
    BlockPartition,
    DiffusionResidual,
    EquationExperts,
    FunctionResidual,
    RandomPartition,
    SideCondition,
    VorticityResidual,
)
from sciml.constraints.least_squares import solve_least_squares
from sciml.models import PhysicsExperts
from sciml.pdes import DiffusionSorption, NavierStokesVorticity, PorousMedium

WALLS = {"x-": SideCondition(1.0), "x+": SideCondition(0.0)}


def burgers(u: Tensor, u_t: Tensor, u_x: Tensor, u_xx: Tensor) -> Tensor:
    return u_t + u * u_x - 0.1 * u_xx


def residual(frames: int = 8, points: int = 12, **settings) -> FunctionResidual:
    grid = Grid((points,), (1.0,), "dirichlet")
    names = ["u", "u_t", "u_x", "u_xx"]
    return FunctionResidual(
        burgers, names, grid, torch.linspace(0, 1, frames, dtype=torch.float64), WALLS, **settings
    )


def given(count: int = 2, n: int = 3, frames: int = 8, points: int = 12) -> tuple[Tensor, Tensor]:
    """Smooth random functions and initial states."""
    generator = torch.Generator().manual_seed(0)
    t, x = torch.linspace(0, 1, frames).double(), torch.linspace(0, 1, points).double()
    a = torch.randn(count, n, 4, 4, generator=generator, dtype=torch.float64)
    waves = [torch.stack([torch.cos(math.pi * k * z) for k in range(4)]) for z in (t, x)]
    basis = torch.einsum("bnij,it,jx->bntx", a, *waves)
    start = 1 - x + 0.3 * torch.randn(count, 1, 1, generator=generator).double() * torch.sin(math.pi * x)
    return basis, start


def test_residuals_are_those_of_the_equations():
    generator = torch.Generator().manual_seed(0)
    times = torch.linspace(0, 1, 6, dtype=torch.float64)
    grid = Grid((9,), (1.0,), "dirichlet")
    u = 0.5 + torch.rand(2, 6, 9, generator=generator, dtype=torch.float64)
    for pde in (DiffusionSorption(), PorousMedium(2.0, 0.3)):
        found = DiffusionResidual(pde, grid, times, WALLS, smoothing=1e-9)
        r = found(found.quantities(u).flatten(2)).reshape(u.shape)
        calc = FiniteDifference(grid)
        rate = found.rate(u)
        middle = (u[:, 4] - u[:, 2]) / 0.4
        assert torch.allclose(rate[:, 3], middle, atol=1e-12)
        v = u[:, 3:4]
        expected = middle[:, None] - pde.rhs(v, calc)
        if isinstance(pde, PorousMedium):  # div(u^2 grad u) by the product rule, on the same differences
            slope = calc.derivative(v, 0)
            expected = middle[:, None] - 0.3 * (v**2 * calc.laplacian(v) + 2 * v * slope**2)
        assert torch.allclose(r[:, 3:4], expected, atol=1e-10)

    box = Grid((12, 10), (2.0, 3.0))
    w = torch.randn(2, 6, 12, 10, generator=generator, dtype=torch.float64)
    spectral = Spectral(box)
    modes = spectral.to_modes(w.flatten(0, 1)[:, None]) * spectral.dealias(3)
    w = spectral.to_points(modes)[:, 0].unflatten(0, (2, 6))  # products without aliases
    plain = NavierStokesVorticity(0.02, 0.1, (2 * math.pi / 3, 0.7))
    flow = VorticityResidual(plain, box, times)
    z = flow.quantities(w).flatten(2) + flow.known().flatten(1)
    expected = flow.rate(w) - plain.rhs(w.flatten(0, 1)[:, None], spectral)[:, 0].unflatten(0, (2, 6))
    assert torch.allclose(flow(z).reshape(w.shape), expected, atol=1e-9)
    assert torch.allclose(flow.slopes(z), super(VorticityResidual, flow).slopes(z), atol=1e-12)


def test_sides_are_values_and_outward_slopes():
    grid = Grid((9,), (1.0,), "dirichlet")
    conditions = {"x-": SideCondition(0.5, 2.0, 3.0), "x+": SideCondition(0.0, 1.0, 0.7)}
    times = torch.linspace(0, 2, 5, dtype=torch.float64)
    found = FunctionResidual(lambda u: u, ["u"], grid, times, conditions)
    x = grid.axes()[0]
    u = (times[:, None] * x**2 + 2 * x + 1)[None]  # differences of second order are exact
    later = times[1:]
    expected = torch.cat((2.0 - 3.0 * 2 * torch.ones(4), later + 3 + 0.7 * (2 * later + 2)))
    assert torch.allclose(found.sides(u)[0], expected, atol=1e-12)
    assert found.side_data().tolist() == [0.5] * 4 + [0.0] * 4
    assert torch.equal(u[0].flatten()[found.side_places()], torch.cat((u[0, 1:, 0], u[0, 1:, -1])))


def test_times_may_lie_closer_at_the_start():
    grid = Grid((9,), (1.0,), "dirichlet")
    times = torch.linspace(0, 1, 11, dtype=torch.float64) ** 2
    found = FunctionResidual(lambda u_t: u_t, ["u_t"], grid, times, WALLS)
    u = times.sqrt().reshape(1, -1, 1).expand(1, 11, 9)  # u = s, t = s^2: u_t = 1/(2 s)
    assert torch.allclose(found.rate(u)[0, 1:, 0], 0.5 / times.sqrt()[1:], atol=1e-12)
    assert torch.allclose((found.rate(u) * found.weight)[0, 1:], torch.ones(10, 9).double(), atol=1e-12)


def test_one_expert_is_the_plain_search_to_the_last_bit():
    basis, start = given()
    equation = residual()
    fit = EquationExperts(equation)(basis, start)
    z = equation.quantities(basis.flatten(0, 1)).unflatten(0, basis.shape[:2]).flatten(3)
    inside = equation.where.flatten()
    rows = torch.cat(
        (
            basis[:, :, 0, 1:-1] / 10**0.5,
            equation.sides(basis.flatten(0, 1)).unflatten(0, (2, 3)) / 14**0.5,
        ),
        2,
    )
    targets = torch.cat((start[:, 0, 1:-1] / 10**0.5, equation.side_data().expand(2, -1) / 14**0.5), 1)
    plain = solve_least_squares(
        lambda v: equation(v) / 70**0.5, z[..., inside].permute(0, 2, 3, 1), rows.mT, targets
    )
    assert torch.allclose(fit.coefficients[:, 0], plain.coefficients, atol=1e-12, rtol=0)
    whole = EquationExperts(equation, BlockPartition((1, 1)))(basis, start)
    assert torch.equal(whole.u, fit.u) and torch.equal(whole.coefficients, fit.coefficients)
    u = torch.einsum("bntx,bn->btx", basis, plain.coefficients)
    assert torch.allclose(fit.u[:, :, 0], u, atol=1e-11)
    r = (equation(equation.quantities(u).flatten(2)) * equation.weight.flatten())[:, inside]
    assert torch.allclose(fit.residual, r.square().mean(1).sqrt(), atol=1e-12)
    assert torch.allclose(fit.sampled[:, 0], fit.residual, atol=1e-12)
    for own, other in zip(
        (fit.residual, fit.initial, fit.sides), EquationExperts(equation).measure(fit.u, start), strict=True
    ):
        assert torch.allclose(own, other, atol=1e-11)


class Renamed(BlockPartition):
    """Blocks with their numbers in another order."""

    def labels(self, shape):
        return torch.tensor([2, 0, 3, 1])[super().labels(shape)]


def test_experts_in_any_order_and_samples_alone_or_together():
    basis, start = given(8)
    plain = EquationExperts(residual(), BlockPartition((1, 4)))
    fit = plain(basis, start)
    other = EquationExperts(residual(), Renamed((1, 4)))(basis, start)
    assert torch.allclose(fit.u, other.u, atol=1e-12, rtol=0)
    assert torch.allclose(fit.coefficients[:, 0], other.coefficients[:, 2], atol=1e-12, rtol=0)
    each = torch.cat([plain(basis[k : k + 1], start[k : k + 1]).u for k in range(8)])
    assert torch.allclose(fit.u, each, atol=1e-12, rtol=0)
    assert fit.coefficients.shape == (8, 4, 3) and bool(fit.converged.all()) and fit.report() == ""
    assert float(fit.jump.min()) > 1e-3  # nothing joins the blocks


def test_each_point_has_its_own_expert():
    basis, start = given()
    for partition in (BlockPartition((2, 3)), RandomPartition(3, seed=1)):
        layer = EquationExperts(residual(), partition)
        fit = layer(basis, start)
        labels = partition.labels((8, 12))
        each = torch.einsum("bntx,bkn->bktx", basis, fit.coefficients)
        expected = each.gather(1, labels.expand(2, 1, 8, 12))[:, 0]
        assert torch.allclose(fit.u[:, :, 0], expected, atol=1e-12)
        assert labels.unique().tolist() == list(range(partition.count))
    assert RandomPartition(3).labels((8, 12)).flatten().bincount().tolist() == [32] * 3


@pytest.mark.parametrize("partition", [(1, 1), (1, 2)])
def test_gradients_are_those_of_the_minimum(partition):
    """40 and more points, 4 functions, a residual that stays; with the Gauss-Newton matrix they would be wrong."""
    basis, start = given(1, 4)
    layer = EquationExperts(
        residual(), BlockPartition(partition), neighbours=0.5 if partition[1] > 1 else 0.0,
        ridge=1e-2, tolerance=1e-12, max_iterations=200,
    )  # fmt: skip
    fit = layer(basis, start)
    assert float(fit.residual) > 0.05 and bool(fit.converged.all())

    def solve(b: Tensor, s: Tensor) -> Tensor:
        found = layer(b, s)
        return torch.cat((found.u.flatten(), found.residual, found.initial, found.sides))

    inputs = (basis.requires_grad_(), start.requires_grad_())
    assert torch.autograd.gradcheck(solve, inputs, atol=1e-6, rtol=1e-4, fast_mode=True)


def test_exact_solutions_in_the_span_are_found():
    """u = 1 + x - t/2 solves u_t + u_x^2/2 = 0, and its differences are exact."""
    grid = Grid((12,), (1.0,), "dirichlet")
    times = torch.linspace(0, 1, 8, dtype=torch.float64)
    slopes = {"x-": SideCondition(-1.0, 0.0, 1.0), "x+": SideCondition(1.0, 0.0, 1.0)}
    law = FunctionResidual(lambda u_t, u_x: u_t + 0.5 * u_x**2, ["u_t", "u_x"], grid, times, slopes)
    basis, _ = given(1, 7)
    x = grid.axes()[0]
    exact = 1 + x - times[:, None] / 2
    basis = torch.cat((exact[None, None], basis), 1)
    for partition in (None, BlockPartition((1, 2))):
        fit = EquationExperts(law, partition, ridge=0.0, tolerance=1e-12)(basis, (1 + x)[None, None])
        truth = torch.zeros_like(fit.coefficients)
        truth[..., 0] = 1.0
        assert torch.allclose(fit.coefficients, truth, atol=1e-8, rtol=0)
        assert float(fit.residual) <= 1e-10 and int(fit.iterations.max()) <= 15
        assert torch.allclose(fit.u[0, :, 0], exact, atol=1e-9)


def test_interface_rows_bring_neighbours_together():
    basis, start = given(4, 6)
    free = EquationExperts(residual(), BlockPartition((1, 3)))(basis, start)
    joined = EquationExperts(residual(), BlockPartition((1, 3)), neighbours=10.0, rounds=4)(basis, start)
    assert float((joined.jump / free.jump).mean()) < 0.5


def test_the_start_can_be_exact_and_the_mean_kept():
    box = Grid((12, 10), (1.0, 1.0))
    times = torch.linspace(0, 0.5, 6, dtype=torch.float64)
    flow = VorticityResidual(NavierStokesVorticity(0.01, forcing=(2 * math.pi, 0.5)), box, times)
    generator = torch.Generator().manual_seed(0)
    basis = torch.randn(2, 4, 6, 12, 10, generator=generator, dtype=torch.float64)
    x, y = 2 * math.pi * box.coordinates()
    start = torch.stack((torch.sin(x) * torch.cos(y), torch.cos(2 * x + y)))[:, None]
    layer = EquationExperts(
        flow, BlockPartition((1, 2, 2)), initial="exact", growth=0.1, zero_mean=True, shown="own"
    )
    fit = layer(basis, start)
    assert torch.equal(fit.u[:, 0], start) and float(fit.initial.max()) < 1e-11
    assert (
        float(
            EquationExperts(flow, initial="exact", zero_mean=True)(basis, start).u.mean((3, 4)).abs().max()
        )
        < 1e-14
    )
    still = layer.measure(start.unsqueeze(1).expand(-1, 6, -1, -1, -1), start)[0]
    assert bool((fit.residual < still).all()) and bool(fit.converged.all())


def test_a_few_points_are_drawn_anew_in_training_only():
    basis, start = given()
    layer = EquationExperts(residual(), BlockPartition((1, 2)), points=20)
    one, two = (layer(basis, start, torch.Generator().manual_seed(k)).u for k in (0, 1))
    assert not torch.equal(one, two)
    layer.eval()
    assert torch.equal(layer(basis, start).u, layer(basis, start).u)
    fit = layer(basis, start)
    assert bool((fit.residual > fit.sampled.min(dim=1).values).all())
    all_of_them = EquationExperts(residual(), BlockPartition((1, 2)), points=10**6)(basis, start)
    assert torch.equal(all_of_them.u, EquationExperts(residual(), BlockPartition((1, 2)))(basis, start).u)


def test_points_left_out_are_not_asked():
    basis, start = given()
    left = torch.zeros(8, 12, dtype=torch.bool)
    left[1:3, :4] = True
    changed = basis.clone()
    changed[:, :, 1, 1] += (
        5.0  # in the middle of what is left out, and in the stencils of its neighbours only
    )
    near = residual(left_out=left)
    assert torch.allclose(
        EquationExperts(near)(basis, start).coefficients,
        EquationExperts(near)(changed, start).coefficients,
        atol=1e-9,
    )
    assert not torch.allclose(
        EquationExperts(residual())(basis, start).u,
        EquationExperts(residual())(changed, start).u,
        atol=1e-3,
    )


def test_what_has_not_converged_is_told_and_dropped():
    basis, start = given()
    basis = basis.requires_grad_()
    cut = {"max_iterations": 1, "tolerance": 1e-13}
    kept = EquationExperts(residual(), **cut)
    fit = kept(basis, start)
    assert fit.report().startswith("2 of 2 samples have experts that did not converge (2 of 2 searches")
    assert bool(fit.counted.all()) and not bool(fit.converged.any())
    (slope,) = torch.autograd.grad(kept.loss(fit.residual, fit.initial, fit.sides, fit.counted), basis)
    assert float(slope.abs().max()) > 0  # of the functions with the coefficients as they are
    dropped = EquationExperts(residual(), unconverged="drop", **cut)
    fit = dropped(basis, start)
    (slope,) = torch.autograd.grad(dropped.loss(fit.residual, fit.initial, fit.sides, fit.counted), basis)
    assert not bool(fit.counted.any()) and float(slope.abs().max()) == 0


def graph_nodes(backward: str, iterations: int) -> int:
    """Operations that autograd keeps of a search that is not allowed to end."""
    basis, start = given(1)
    layer = EquationExperts(residual(), max_iterations=iterations, tolerance=0.0, backward=backward)
    waiting = [layer(basis.requires_grad_(), start).u.grad_fn]
    seen = set()
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting += [below for below, _ in node.next_functions]
    return len(seen)


def test_memory_does_not_grow_with_the_iterations_of_a_search():
    assert graph_nodes("implicit", 12) == graph_nodes("implicit", 4)
    assert graph_nodes("unroll", 12) > 1.5 * graph_nodes("unroll", 4) > 1.5 * graph_nodes("implicit", 4)


def network(inputs: int, functions: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(inputs, 16, 5, padding=2), nn.GELU(), nn.Conv2d(16, functions, 5, padding=2)
    )


def test_a_network_learns_from_the_equation_alone():
    layer = EquationExperts(residual(), BlockPartition((1, 2)), points=20)
    model = PhysicsExperts(network(PhysicsExperts.input_channels(layer), 6), layer)
    _, start = given(4)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    generator = torch.Generator().manual_seed(0)
    losses = []
    for _ in range(15):
        loss, parts = model.loss(start, generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.6 * losses[0] and float(parts["converged"]) > 0.9
    assert {"residual", "residual given", "jump", "log10 condition"} <= set(parts)
    assert model(start).shape == (4, 8, 1, 12) and model(start.float()).dtype == torch.float32


def solved(backward: str = "implicit") -> tuple[Tensor, Tensor, Tensor]:
    """A solution, and the gradients of a loss by the functions and by the start."""
    basis, start = (t.requires_grad_() for t in given(3))
    layer = EquationExperts(
        residual(), BlockPartition((1, 4)), neighbours=1.0, rounds=2, points=12, max_iterations=200
    )
    fit = layer(basis, start, torch.Generator().manual_seed(0))
    loss = layer.loss(fit.residual, fit.initial, fit.sides) + fit.u.pow(3).mean()
    return (fit.u.detach(), *torch.autograd.grad(loss, (basis, start)))


def share(rank: int, port: int, answers) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2
    )
    answers.put((rank, [t.numpy() for t in solved()]))
    try:
        EquationExperts(residual(), BlockPartition((1, 3)))(*given())
    except ValueError as error:
        answers.put((2 + rank, str(error)))
    torch.distributed.destroy_process_group()


def test_two_processes_are_one():
    expected = solved()
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    context = torch.multiprocessing.get_context("fork")
    answers = context.Queue()
    processes = [context.Process(target=share, args=(rank, port, answers)) for rank in range(2)]
    for process in processes:
        process.start()
    got = dict(answers.get(timeout=120) for _ in range(4))
    for process in processes:
        process.join(timeout=60)
        assert process.exitcode == 0
    for rank in range(2):
        for own, other in zip(got[rank], expected, strict=True):
            assert torch.allclose(torch.from_numpy(own), other, atol=1e-12, rtol=1e-12)
        assert "3 experts for 2 processes" in got[2 + rank]


WALLED, TIMES = Grid((12,), (1.0,), "dirichlet"), torch.linspace(0, 1, 8)
CELLS, NOTHING = Grid((12,), (1.0,), "neumann", centering="cell"), {**WALLS, "x+": SideCondition(0.0, 0.0)}
SMALL = (torch.zeros(2, 3, 8, 12), torch.zeros(2, 1, 11))


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: residual(frames=3), "got 3 times; expected at least 4"),
        (lambda: FunctionResidual(burgers, ["u"], WALLED, TIMES.flip(0), WALLS), "each later"),
        (lambda: FunctionResidual(burgers, ["u_q"], WALLED, TIMES, WALLS), "derivative 'u_q'"),
        (lambda: FunctionResidual(burgers, ["u"], WALLED, TIMES), r"conditions on \[\]; expected one on each bounded side"),
        (lambda: FunctionResidual(burgers, ["u"], WALLED, TIMES, NOTHING), "a value or a slope"),
        (lambda: residual(left_out=torch.zeros(3)), r"expected booleans \(8, 12\)"),
        (lambda: FunctionResidual(burgers, ["u"], CELLS, TIMES, WALLS), "no cell carries"),
        (lambda: VorticityResidual(NavierStokesVorticity(), WALLED, TIMES), "periodic grid of two axes"),
        (lambda: DiffusionResidual(NavierStokesVorticity(), WALLED, TIMES, WALLS), "a DiffusionLaw of one unknown"),
        (lambda: DiffusionResidual(DiffusionSorption(), WALLED, TIMES, WALLS, smoothing=0.0), "smoothing=0"),
        (lambda: EquationExperts(residual(), BlockPartition((4,))), "one number per axis"),
        (lambda: EquationExperts(residual(), BlockPartition((8, 1))), r"experts \[0\] without a point"),
        (lambda: EquationExperts(residual(), initial="soft"), "initial='soft'"),
        (lambda: EquationExperts(residual(), points=0), "points=0"),
        (lambda: EquationExperts(residual(), neighbours=-1.0), "neighbours=-1"),
        (lambda: EquationExperts(residual())(torch.zeros(2, 3, 8, 11), torch.zeros(2, 1, 12)), "functions of shape"),
        (lambda: EquationExperts(residual())(torch.zeros(2, 3, 8, 12), torch.zeros(2, 12)), "initial states of shape"),
        (lambda: BlockPartition((0, 2)), "at least one block"),
        (lambda: RandomPartition(0), "at least one"),
        (lambda: PhysicsExperts(nn.Identity(), EquationExperts(residual()))(SMALL[1]), "initial states of shape"),
    ],
)  # fmt: skip
def test_refusals(call, words):
    with pytest.raises(ValueError, match=words):
        call()
