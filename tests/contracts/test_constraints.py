"""Promises that every constraint keeps."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch import Tensor

from sciml import Grid, Mesh
from sciml.constraints import (
    CONSTRAINTS,
    BlockAverage,
    Bounds,
    Chain,
    Completion,
    ConservedMean,
    Constraint,
    ConvexSet,
    DivergenceFree,
    Energy,
    Entropy,
    FixedValues,
    FunctionRows,
    Inequalities,
    LinearRows,
    Nonlinear,
    Quadratic,
    SideCondition,
    SideConditions,
    Simplex,
    Stack,
    StaggeredDivergenceFree,
    Symmetric,
    TensorForm,
)
from sciml.domains import Inflow


def disc(count: int = 30, seed: int = 0) -> Mesh:
    """A fan of triangles of unlike sizes round the origin."""
    generator = torch.Generator().manual_seed(seed)
    angle = torch.linspace(0, 2 * torch.pi, count, dtype=torch.float64)[:-1]
    radius = 1 + torch.rand(count - 1, generator=generator, dtype=torch.float64)
    rim = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)
    points = torch.cat([torch.zeros(1, 2, dtype=torch.float64), rim])
    i = torch.arange(count - 1)
    cells = torch.stack([torch.zeros_like(i), i + 1, (i + 1) % (count - 1) + 1], dim=1)
    return Mesh(points, cells)


SQUARE = Grid((6, 5), (1.0, 3.0))
WALLS = Grid((7, 4), (1.0, 2.0), boundary=(("dirichlet", "neumann"), "periodic"))
CELLS = Grid((9,), (2.0,), boundary="wall", centering="cell")
MIRRORS = Grid((5, 4), (1.0, 2.0), boundary=("wall", "periodic"))
CHANNEL = Grid((4, 4), (1.2, 2.0), boundary=("periodic", "wall"), centering="cell")
TUNNEL = Grid((5, 4), (1.0, 0.8), boundary=(("inflow", "outflow"), "wall"), centering="cell")
ROOM = Grid((3, 2, 3), (1.0, 1.0, 2.0), boundary=("wall", "wall", ("outflow", "wall")), centering="cell")

BOX = Grid((4, 3, 5), (1.0, 1.0, 2.0))
SLAB = Grid((4, 3, 2), (1.0, 1.0, 2.0))
TILE = Grid((4, 3), (1.0, 3.0))


def some_rows(count: int, channels: int, domain: Grid | Mesh) -> Tensor:
    """Rows at random, of length about one."""
    shape = (count, channels, *domain.shape)
    rows = torch.randn(shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return rows / rows[0].numel() ** 0.5


def sparse_rows(domain: Mesh) -> Tensor:
    """Differences of the values at the ends of every third edge of the rim."""
    ends = domain.edges[:, domain.edges[0] > 0][:, ::3]
    rows = torch.zeros(ends.shape[1], domain.shape[0], dtype=torch.float64)
    number = torch.arange(len(rows))
    rows[number, ends[0]], rows[number, ends[1]] = 1.0, -1.0
    return rows.to_sparse()


def sums_along_the_first_axis(u: Tensor) -> Tensor:
    return u.mean(dim=2).flatten(1)


def fans(domain: Mesh) -> Tensor:
    """Three blocks of nodes, and the middle in none."""
    return torch.arange(domain.shape[0]) % 4 - 1


def rim(domain: Grid | Mesh) -> Tensor:
    """The first and the last points along the first axis."""
    mask = torch.zeros(domain.shape, dtype=torch.bool)
    mask[0], mask[-1] = True, True
    return mask


# Few points, so that derivatives by differences of what is solved by iterations stay cheap; volumes of the ends are half.
LINE = Grid((4,), (1.5,), boundary="dirichlet")
THREE = Grid((3,), (1.5,), boundary="dirichlet")


def cosh(u: Tensor) -> Tensor:
    """A convex function of the state at each point."""
    return u.cosh().sum(dim=1)


def moments(u: Tensor) -> Tensor:
    """The second and the fourth moment of the second channel."""
    return torch.stack([u[:, 1].square().mean(dim=1), u[:, 1].pow(4).mean(dim=1)], dim=1)


def above_one(u: Tensor) -> Tensor:
    return u.flatten(1) - 1.0


def calm(u: Any, previous: Any) -> list[Any]:
    """Above a bound, with the sum of before, and not too large."""
    import cvxpy as cp

    return [u[0] >= -0.3, cp.sum(u[0]) == cp.sum(previous[0]), cp.norm(u[1]) <= 0.6]


def smooth(u: Any, domain: Mesh) -> list[Any]:
    """Small differences along the edges."""
    import cvxpy as cp

    first, second = domain.edges.tolist()
    return [cp.norm1(u[0, first] - u[0, second]) <= 3.0, cp.sum_squares(u) <= 4.0]


def positive_matrices(u: Any) -> list[Any]:
    import cvxpy as cp

    return [cp.bmat([[a[0], a[1]], [a[1], a[2]]]) >> 0.1 * torch.eye(2).numpy() for a in (u[:, 0], u[:, 1])]


SIDES = Grid((5, 3), (1.0, 2.0), boundary=("wall", "periodic"))
QUADRATIC = Grid((4, 4), (1.0, 1.0))


def apart(domain: Grid) -> Tensor:
    """The first points of one channel and the last ones of another."""
    mask = torch.zeros(2, *domain.shape, dtype=torch.bool)
    mask[0, 0], mask[1, -1] = True, True
    return mask


# Every constraint of the list stands here with the domain and the channels of a fitting state.
CASES: dict[type[Constraint], list[tuple[Callable[[], Constraint], Grid | Mesh, int]]] = {
    ConservedMean: [
        (lambda: ConservedMean(CELLS), CELLS, 2),
        (lambda: ConservedMean(WALLS, channels=[1]), WALLS, 3),
        (lambda: ConservedMean(Grid((4, 3, 5), (1.0, 1.0, 2.0))), Grid((4, 3, 5), (1.0, 1.0, 2.0)), 1),
        (lambda: ConservedMean(disc()), disc(), 2),
    ],
    DivergenceFree: [
        (lambda: DivergenceFree(SQUARE), SQUARE, 2),
        (lambda: DivergenceFree(SQUARE, channels=[2, 0]), SQUARE, 3),
        (lambda: DivergenceFree(Grid((4, 3, 6), (1.0, 2.0, 1.5))), Grid((4, 3, 6), (1.0, 2.0, 1.5)), 3),
        (lambda: DivergenceFree(MIRRORS), MIRRORS, 2),
    ],
    StaggeredDivergenceFree: [
        (
            lambda: StaggeredDivergenceFree(CHANNEL, blocks=[(0.3, 0.5, 0.6, 1.0)], channels=[2, 0]),
            CHANNEL,
            3,
        ),
        (
            lambda: StaggeredDivergenceFree(
                TUNNEL, {"x-": Inflow((1.0, 0.0))}, cylinders=[(0.5, 0.5, 0.12)]
            ),
            TUNNEL,
            2,
        ),
        (lambda: StaggeredDivergenceFree(ROOM), ROOM, 3),
    ],
    SideConditions: [
        (
            lambda: SideConditions(
                SIDES, {"x-": SideCondition([0.5, 1.0]), "x+": SideCondition(1.0, 1.0, 0.3)}
            ),
            SIDES,
            2,
        ),
        (
            lambda: SideConditions(CELLS, {"x+": SideCondition("previous", 0.0, 1.0)}, interior="moved"),
            CELLS,
            1,
        ),
    ],
    Symmetric: [
        (lambda: Symmetric(QUADRATIC, "all", vectors=[(2, 0)], pseudoscalars=[1]), QUADRATIC, 3),
        (lambda: Symmetric(CHANNEL, vectors=[(0, 1)], translations=(2, 1), staggered=True), CHANNEL, 2),
        (lambda: Symmetric(BOX, axes=[2]), BOX, 1),
    ],
    TensorForm: [
        (lambda: TensorForm(QUADRATIC, [(1, 4, 0, 2)], "deviatoric"), QUADRATIC, 5),
        (lambda: TensorForm(CELLS, [(0,)], "traceless"), CELLS, 1),
        (lambda: TensorForm(disc(8), [(0, 1, 2, 3)], "antisymmetric"), disc(8), 4),
    ],
    Energy: [
        (lambda: Energy(disc(), "bounded", upper=0.7), disc(), 2),
        (lambda: Energy(SQUARE, "decaying", channels=[0, 2]), SQUARE, 3),
        (lambda: Energy(Grid((4, 3, 5), (1.0, 1.0, 2.0))), Grid((4, 3, 5), (1.0, 1.0, 2.0)), 3),
    ],
    Bounds: [
        (lambda: Bounds(CELLS, lower=-1.0, upper=1.0), CELLS, 2),
        (lambda: Bounds(disc(), lower=-0.8, channels=[0]), disc(), 2),
    ],
    LinearRows: [
        (lambda: LinearRows(WALLS, some_rows(3, 2, WALLS), [0.5, -1.0, 0.2], scales=[1.0, 5.0]), WALLS, 2),
        (lambda: LinearRows(disc(), sparse_rows(disc()), channels=[1]), disc(), 2),
        (lambda: LinearRows(BOX, FunctionRows(sums_along_the_first_axis, (1, *BOX.shape))), BOX, 1),
    ],
    BlockAverage: [
        (lambda: BlockAverage(BOX, [2, 3, 1]), BOX, 2),
        (lambda: BlockAverage(disc(), labels=fans(disc()), channels=[1]), disc(), 2),
        (lambda: BlockAverage(CELLS, [3], form="multiplicative", lower=-2.0), CELLS, 1),
        (lambda: BlockAverage(CELLS, [3], form="scaled", lower=-1.5, upper=1.0), CELLS, 2),
    ],
    FixedValues: [
        (lambda: FixedValues(WALLS, rim(WALLS)), WALLS, 2),
        (lambda: FixedValues(disc(), rim(disc()), 0.25, channels=[1]), disc(), 2),
        (lambda: FixedValues(SLAB, apart(SLAB), channels=[2, 0]), SLAB, 3),
    ],
    Stack: [
        (lambda: Stack([ConservedMean(WALLS), FixedValues(WALLS, rim(WALLS))]), WALLS, 2),
        (lambda: Stack([LinearRows(disc(), sparse_rows(disc())), ConservedMean(disc())]), disc(), 1),
        (
            lambda: Stack(
                [DivergenceFree(TILE), LinearRows(TILE, some_rows(2, 2, TILE)), ConservedMean(TILE)]
            ),
            TILE,
            2,
        ),
        (
            lambda: Stack(
                [
                    ConservedMean(SLAB),
                    BlockAverage(SLAB, [2, 3, 2]),
                    FixedValues(SLAB, rim(SLAB), channels=[1]),
                ],
                dependent="drop",
            ),
            SLAB,
            2,
        ),
    ],
    Entropy: [
        (lambda: Entropy(disc(8), cosh, channels=[0]), disc(8), 2),
        (lambda: Entropy(disc(8), cosh, "conserved", channels=[0]), disc(8), 2),
    ],
    Simplex: [
        (lambda: Simplex(CELLS, lower=-0.2), CELLS, 2),
        (lambda: Simplex(disc(), lower=-0.4, upper=0.5, channels=[1]), disc(), 2),
        (lambda: Simplex(BOX, lower=None, upper=0.3), BOX, 1),
    ],
    Inequalities: [
        (lambda: Inequalities(disc(8), some_rows(5, 1, disc(8)), -0.1, 0.1, channels=[1]), disc(8), 2),
        (lambda: Inequalities(LINE, some_rows(3, 2, LINE), upper="previous"), LINE, 2),
    ],
    Nonlinear: [
        (lambda: Nonlinear(THREE, Quadratic(THREE, momentum=True)), THREE, 1),
        (lambda: Nonlinear(THREE, moments, [0.5, 0.4], scales=[1.0, 2.0], channels=[1]), THREE, 2),
    ],
    ConvexSet: [
        (lambda: ConvexSet(LINE, calm, scales=[1.0, 2.0]), LINE, 2),
        (lambda: ConvexSet(disc(8), smooth, channels=[1]), disc(8), 2),
        (lambda: ConvexSet(Grid((2,), (1.0,)), positive_matrices), Grid((2,), (1.0,)), 3),
    ],
    Completion: [
        (lambda: Completion(LINE, Quadratic(LINE), shapes=some_rows(1, 2, LINE), values=4.0), LINE, 2),
        (
            lambda: Completion(
                LINE, lambda u: u.mean(dim=2), above_one, values=[0.1, 0.2], steps=40, margin=1e-3
            ),
            LINE,
            2,
        ),
    ],
    Chain: [
        (lambda: Chain([BlockAverage(CELLS, [3]), FixedValues(CELLS, rim(CELLS))]), CELLS, 2),
        (lambda: Chain([ConservedMean(SQUARE), DivergenceFree(SQUARE)]), SQUARE, 2),
        (lambda: Chain([ConservedMean(disc()), Bounds(disc(), lower=-1.0)]), disc(), 1),
    ],
}
MISSING = {ConvexSet} if find_spec("cvxpy") is None else set()  # what an extra that is not installed brings
ABLE = {kind: cases for kind, cases in CASES.items() if kind not in MISSING}
FLAT = [(make, domain, channels) for cases in ABLE.values() for make, domain, channels in cases]
NAMES = [f"{kind.__name__}-{i}" for kind, cases in ABLE.items() for i in range(len(cases))]


def states(domain: Grid | Mesh, channels: int, count: int = 3, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (count, channels, *domain.shape)
    u = torch.randn(shape, generator=generator, dtype=torch.float64)
    return u, 0.3 * torch.randn(shape, generator=generator, dtype=torch.float64)


def test_every_constraint_of_the_list_is_tested_here():
    assert set(CASES) == set(CONSTRAINTS)


def test_what_claims_so_enlarges_no_difference_of_two_states():
    claimed = [(name, case) for name, case in zip(NAMES, FLAT, strict=True) if case[0]().nonexpansive]
    assert len(claimed) > len(FLAT) // 2
    for name, (make, domain, channels) in claimed:
        constraint = make()
        u, previous = states(domain, channels)
        v, _ = states(domain, channels, seed=2)
        scales = torch.tensor(getattr(constraint, "scales", None) or [1.0] * channels)
        metric = domain.weights() / scales.reshape(-1, *[1] * len(domain.shape)) ** 2
        before = ((u - v).square() * metric).flatten(1).sum(dim=1)
        difference = constraint.project(u, previous) - constraint.project(v, previous)
        after = (difference.square() * metric).flatten(1).sum(dim=1)
        assert bool((after <= before * (1 + 1e-12)).all()), name


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same_states_and_slopes():
    for name, (make, domain, channels) in zip(NAMES, FLAT, strict=True):
        found = []
        for device in ("cpu", "cuda"):
            u, previous = (x.to(device).requires_grad_() for x in states(domain, channels))
            projected = make().to(device).project(u, previous)
            assert projected.device.type == device, name
            slopes = torch.autograd.grad(projected.square().sum(), (u, previous), allow_unused=True)
            found.append([x.detach().cpu() for x in (projected, *slopes) if x is not None])
        for here, there in zip(*found, strict=True):
            torch.testing.assert_close(there, here, rtol=1e-11, atol=1e-11, msg=name)


@pytest.mark.parametrize(("make", "domain", "channels"), FLAT, ids=NAMES)
class TestEvery:
    def test_projected_states_are_admissible_and_random_ones_are_not(self, make, domain, channels):
        constraint = make()
        u, previous = states(domain, channels)
        assert constraint.violation(u, previous).min() > 1e-3
        after = constraint.violation(constraint.project(u, previous), previous)
        assert after.shape == (3,)
        assert after.max() <= 1e-14 * 10  # rounding of sums over some dozens of points of size one

    def test_projecting_twice_is_projecting_once(self, make, domain, channels):
        constraint = make()
        u, previous = states(domain, channels)
        once = constraint.project(u, previous)
        torch.testing.assert_close(constraint.project(once, previous), once, rtol=0, atol=1e-12)

    def test_calling_is_projecting(self, make, domain, channels):
        constraint = make()
        u, previous = states(domain, channels)
        assert torch.equal(constraint(u, previous), constraint.project(u, previous))

    def test_gradients(self, make, domain, channels):
        constraint = make()
        u, previous = states(domain, channels, count=1)
        u.requires_grad_()
        previous.requires_grad_()
        assert torch.autograd.gradcheck(constraint.project, (u, previous), check_forward_ad=True)

    def test_a_batch_is_a_loop(self, make, domain, channels):
        constraint = make()
        u, previous = states(domain, channels)
        alone = torch.cat([constraint.project(u[i : i + 1], previous[i : i + 1]) for i in range(len(u))])
        torch.testing.assert_close(constraint.project(u, previous), alone, rtol=0, atol=1e-14)

    def test_single_precision_survives_a_module_moved_to_it(self, make, domain, channels):
        constraint = make().to(torch.float32)
        u, previous = (x.float() for x in states(domain, channels))
        projected = constraint.project(u, previous)
        assert projected.dtype == torch.float32
        assert constraint.violation(projected, previous).max() <= 1e-6  # float32 rounding of order one
        exact = make().project(u.double(), previous.double())
        torch.testing.assert_close(projected.double(), exact, rtol=1e-5, atol=1e-5)

    def test_half_precision_comes_back_in_single(self, make, domain, channels):
        u, previous = (x.bfloat16() for x in states(domain, channels))
        assert make().project(u, previous).dtype == torch.float32

    def test_mixed_precision_keeps_it_exact(self, make, domain, channels):
        constraint = make().to(torch.float32)
        u, previous = (x.float() for x in states(domain, channels))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            projected = constraint.project(u, previous)
            after = constraint.violation(projected, previous)
        assert projected.dtype == torch.float32
        assert after.max() <= 1e-6
        torch.testing.assert_close(projected, constraint.project(u, previous), rtol=1e-6, atol=1e-6)

    @pytest.mark.slow
    def test_compiled_it_is_as_exact(self, make, domain, channels):
        torch._dynamo.reset()
        constraint = make()
        u, previous = states(domain, channels)
        projected = torch.compile(constraint.project)(u, previous)
        assert constraint.violation(projected, previous).max() <= 1e-13
        torch.testing.assert_close(projected, constraint.project(u, previous), rtol=0, atol=1e-12)

    def test_a_state_on_other_points_is_refused(self, make, domain, channels):
        u = torch.zeros(1, channels, *[n + 1 for n in domain.shape], dtype=torch.float64)
        with pytest.raises(ValueError, match="expected"):
            make().project(u, u)
