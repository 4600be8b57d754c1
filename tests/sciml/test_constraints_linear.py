"""Affine rows, block averages, prescribed values, and several of them at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from sciml import Cloud, Grid, Mesh
from sciml.constraints import (
    BlockAverage,
    Bounds,
    Chain,
    ConservedMean,
    Constraint,
    Context,
    DivergenceFree,
    FixedValues,
    FunctionRows,
    LinearRows,
    Stack,
    StaggeredDivergenceFree,
    linear,
)
from sciml.domains import Point
from sciml.errors import UserError
from sciml.models.wrappers import Constrained, Surrogate


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


def patch() -> Mesh:
    """Four triangles whose six nodes have unlike volumes."""
    points = [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [3.0, 2.0], [0.2, 3.0], [4.0, 0.0]]
    return Mesh(torch.tensor(points), torch.tensor([[0, 1, 2], [1, 3, 2], [2, 3, 4], [1, 5, 3]]))


def kkt(z: Tensor, metric: Tensor, rows: Tensor, b: Tensor) -> Tensor:
    """Nearest u to z (n,) in the metric (n,) with A u = b, by the dense optimality system."""
    n, q = len(z), len(rows)
    matrix = z.new_zeros(n + q, n + q)
    matrix[:n, :n] = torch.diag(metric)
    matrix[n:, :n], matrix[:n, n:] = rows, rows.T
    return torch.linalg.solve(matrix, torch.cat([metric * z, b]))[:n]


def unit_rows(constraint: linear.Linear, channels: int) -> Tensor:
    """A as a matrix, column by column."""
    n = channels * int(np.prod(constraint.points))
    return constraint.multiply(torch.eye(n, dtype=torch.float64).reshape(n, channels, *constraint.points)).T


DOMAINS = [
    Grid((7,), (2.0,), boundary="dirichlet"),
    Grid((4, 3), (1.0, 2.0), boundary=("periodic", "wall")),
    Grid((3, 2, 4), (1.0, 1.0, 1.0)),
    patch(),
]


@pytest.mark.parametrize("domain", DOMAINS, ids=lambda d: str(d.shape))
@pytest.mark.parametrize("kind", ["dense", "sparse", "function", "iterated"])
def test_rows_give_the_nearest_state_in_the_metric(domain, kind, monkeypatch):
    shape = (2, *domain.shape)
    matrix = randn(3, *shape, seed=1)
    b, z = randn(3, seed=2), randn(2, *shape, seed=3)
    given: object = matrix
    if kind == "sparse":
        given = matrix.flatten(1).to_sparse_csr()
    if kind == "function":
        given = FunctionRows(lambda u: u.flatten(1) @ matrix.flatten(1).T, shape)
    if kind == "iterated":
        monkeypatch.setattr(linear, "DENSE", 0)
    scales = (1.0, 20.0)
    constraint = LinearRows(domain, given, b, scales=scales)
    metric = (domain.weights() / torch.tensor(scales).reshape(2, *[1] * len(domain.shape)) ** 2).flatten()
    expected = torch.stack([kkt(x.flatten(), metric, matrix.flatten(1), b) for x in z])
    projected = constraint.project(z)
    torch.testing.assert_close(projected.flatten(1), expected, rtol=0, atol=1e-11)
    size = matrix.flatten(1).norm(dim=1) * projected.flatten(1).norm(dim=1, keepdim=True)
    assert float((constraint.residual(projected).abs() / size).max()) <= 1e-15  # relative
    torch.testing.assert_close(constraint.project(projected), projected, rtol=0, atol=1e-12)


def test_what_is_taken_away_is_orthogonal_in_the_metric_and_differences_do_not_grow():
    domain = patch()
    matrix = randn(2, 6, seed=4)
    constraint = LinearRows(domain, matrix)
    u, v, previous = randn(3, 5, 1, 6, seed=5)
    weights = domain.weights()
    null = torch.linalg.svd(matrix).Vh[2:]  # directions that the rows do not see
    removed = (u - constraint(u, previous))[:, 0]
    assert float((removed * weights @ null.T).abs().max()) < 1e-14
    before = ((u - v).square() * weights).sum(dim=(1, 2))
    after = ((constraint(u, previous) - constraint(v, previous)).square() * weights).sum(dim=(1, 2))
    assert bool((after <= before * (1 + 1e-12)).all()) and bool((after < 0.999 * before).any())


def test_nearly_dependent_rows_are_met_to_rounding_and_dependent_ones_are_named():
    grid = Grid((64,), (1.0,))
    x = grid.coordinates()[0]
    moments = torch.stack([x**k for k in range(7)])  # condition number of A W^-1 A' about 1e9
    z = randn(3, 1, 64, seed=6)
    constraint = LinearRows(grid, moments / 64, torch.zeros(7))
    assert constraint.violation(constraint(z)).max() < 1e-15
    with pytest.raises(ValueError, match="not independent"):
        LinearRows(grid, torch.stack([x**k for k in range(14)]))
    rows = randn(4, 64, seed=7)
    rows[2] = rows[0] - 2 * rows[3]
    with pytest.raises(ValueError, match="dependent on each other: row 0, row 2, row 3. Leave out"):
        LinearRows(grid, rows)
    with pytest.raises(ValueError, match="contradict each other: 'a', 'c', 'd'. No state"):
        LinearRows(grid, rows, [1.0, 0.0, 1.0, 1.0], names=["a", "b", "c", "d"])
    rows[1] = 0.0
    with pytest.raises(ValueError, match="1 have no unknown that is free.*: row 1; dependent"):
        LinearRows(grid, rows)


@pytest.mark.parametrize("dense", [1024, 0])
def test_dependent_rows_may_be_dropped_where_their_right_hand_sides_agree(dense, monkeypatch):
    monkeypatch.setattr(linear, "DENSE", dense)
    grid = Grid((20,), (1.0,))
    rows = randn(4, 20, seed=8)
    rows[2] = rows[0] - 2 * rows[3]
    z, previous = randn(2, 3, 1, 20, seed=9)
    with pytest.raises(ValueError, match="row 0, row 2, row 3"):
        LinearRows(grid, rows)
    held = LinearRows(grid, rows, dependent="drop")
    expected = LinearRows(grid, rows[[0, 1, 3]])(z, previous)
    torch.testing.assert_close(held(z, previous), expected, rtol=0, atol=1e-11)
    torch.testing.assert_close(held(expected, previous), expected, rtol=0, atol=1e-11)
    free = LinearRows(grid, rows, "context", dependent="drop")
    right = held.multiply(previous)
    torch.testing.assert_close(
        free(z, None, Context(targets={"rows": right})), expected, rtol=0, atol=1e-11
    )
    right[1, 2] += 1e-3
    with pytest.raises(ValueError, match="(?s)sample 1.*row 2"):
        free(z, None, Context(targets={"rows": right}))
    with pytest.raises(ValueError, match="contradict each other: row 0, row 2, row 3"):
        LinearRows(grid, rows, [1.0, 0.0, 0.0, 1.0], dependent="drop")


def test_many_rows_are_met_without_a_matrix_of_them(monkeypatch):
    monkeypatch.setattr(linear, "DENSE", 8)
    grid = Grid((24, 16), (1.0, 2.0))

    def differences(u: Tensor) -> Tensor:  # along the first axis, on half of the lines
        return (torch.roll(u, -1, dims=2) - u)[:, 0, ::2].flatten(1)

    constraint = LinearRows(grid, FunctionRows(differences, (1, 24, 16)), 0.25)
    z = randn(2, 1, 24, 16, seed=10).requires_grad_()
    projected = constraint(z)
    assert constraint.violation(projected).max() < 1e-14
    direct = LinearRows(grid, unit_rows(constraint, 1), 0.25)
    monkeypatch.setattr(linear, "DENSE", 1024)
    same = LinearRows(grid, unit_rows(constraint, 1), 0.25)(z)
    torch.testing.assert_close(projected, same, rtol=0, atol=1e-12)
    torch.testing.assert_close(direct(z), same, rtol=0, atol=1e-12)
    weight = randn(2, 1, 24, 16, seed=11)
    (ours,) = torch.autograd.grad((projected * weight).sum(), z)
    (dense,) = torch.autograd.grad((same * weight).sum(), z)
    torch.testing.assert_close(ours, dense, rtol=0, atol=1e-11)
    blown = z.detach().clone()
    blown[1, 0, 3, 3] = torch.nan
    torch.testing.assert_close(constraint(blown)[0], projected[0], rtol=0, atol=1e-12)


def test_gradients_of_the_right_hand_side_and_of_iterated_rows(monkeypatch):
    monkeypatch.setattr(linear, "DENSE", 0)
    grid = Grid((5,), (1.0,))
    constraint = LinearRows(grid, randn(2, 5, seed=12).to_sparse(), "context")
    z, b = randn(2, 1, 5, seed=13).requires_grad_(), randn(2, 2, seed=14).requires_grad_()

    def project(z: Tensor, b: Tensor) -> Tensor:
        return constraint(z, None, Context(targets={"rows": b}))

    assert torch.autograd.gradcheck(project, (z, b), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(project, (z, b))


def test_targets_of_the_context_stop_the_drift_of_single_precision():
    grid = Grid((32,), (1.0,), boundary="neumann")
    rows = torch.stack([torch.ones(32), torch.linspace(0, 1, 32)]).double() / 32
    matrix = (randn(32, 32, seed=15) / 32**0.5 * 2).float()
    first = randn(2, 1, 32, seed=16)

    def network(u: Tensor) -> Tensor:
        return torch.tanh(u @ matrix.to(u.dtype)) + 0.1

    drifts = {}
    for dtype in (torch.float32, torch.float64):
        u0 = first.to(dtype)
        wanted = LinearRows(grid, rows).multiply(u0)
        for kind in ("previous", "context"):
            constraint = LinearRows(grid, rows, kind).to(dtype)  # type: ignore[arg-type]
            step = Constrained(network, constraint, Context(targets={"rows": wanted}))
            u = u0
            with torch.no_grad():
                for _ in range(1_000):
                    u = step(u)
            drifts[dtype, kind] = float((constraint.multiply(u) - wanted).abs().max())
            assert u.std() > 0.1 and u.dtype == dtype
    # Every step rounds the values, of size one, and the mean of 32 of them by a fifth of that at most.
    assert drifts[torch.float32, "context"] < 6e-8
    assert drifts[torch.float32, "context"] < drifts[torch.float32, "previous"] < 1_000**0.5 * 6e-8
    assert drifts[torch.float64, "context"] < 1e-15
    assert drifts[torch.float64, "previous"] < 1e-12


STACKED = Grid((8, 6), (1.0, 1.0), boundary="wall", centering="cell")


def stacked() -> Stack:
    mask = torch.zeros(8, 6, dtype=torch.bool)
    mask[0] = True
    return Stack(
        [
            ConservedMean(STACKED),
            LinearRows(STACKED, randn(2, 2, 8, 6, seed=17) / 10),
            FixedValues(STACKED, mask, channels=[0]),
            BlockAverage(STACKED, [4, 6], values=[[[0.5], [-0.5]]], channels=[1]),
        ][1:]
    )


@pytest.mark.parametrize(
    "make",
    [
        stacked,
        lambda: LinearRows(STACKED, randn(3, 2, 8, 6, seed=18)),
        lambda: BlockAverage(STACKED, [2, 3]),
    ],
)
def test_exact_under_autocast_and_compiled(make):
    u, previous = (100 + randn(2, 2, 2, 8, 6, seed=19)).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        projected = make()(u, previous)
    torch.testing.assert_close(projected, make()(u, previous), rtol=0, atol=0)
    assert projected.dtype == torch.float32
    exact = make()(u.double(), previous.double())
    torch.testing.assert_close(projected.double(), exact, rtol=6e-8, atol=0)  # correctly rounded
    constraint = make()
    torch._dynamo.reset()
    compiled = torch.compile(constraint, backend="eager")
    for precision in (torch.float64, torch.float32):
        expected = make()(u.to(precision), previous.to(precision))
        torch.testing.assert_close(
            compiled(u.to(precision), previous.to(precision)), expected, rtol=0, atol=1e-12
        )


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0)])
@pytest.mark.parametrize("several", [Stack, Chain])
def test_linear_constraints_are_met_together_by_the_nearest_state(several, order):
    domain = patch()
    mask = torch.tensor([True, False, False, False, False, True])
    members: list[linear.Linear] = [
        ConservedMean(domain, channels=[0]),
        LinearRows(domain, randn(2, 2, 6, seed=20)),
        FixedValues(domain, mask, 0.3, channels=[1]),
        BlockAverage(domain, labels=[0, 0, 1, 1, -1, -1], channels=[1], values="context"),
    ]
    together = several([members[i] for i in order])
    z, previous = randn(2, 3, 2, 6, seed=21)
    context = Context(targets={"blocks": randn(3, 1, 2, seed=22)})
    projected = together(z, previous, context)
    rows = torch.cat([unit_rows(m, 2) for m in members])
    right = torch.cat([m.target(z, previous, context) for m in members], dim=1)
    metric = domain.weights().repeat(2)
    expected = torch.stack(
        [kkt(x.flatten(), metric, rows, b) for x, b in zip(z, right, strict=True)]
    ).reshape(z.shape)
    torch.testing.assert_close(projected, expected, rtol=0, atol=1e-12)
    assert bool((projected[:, 1, mask] == 0.3).all())  # to the last bit
    each = together.violations(projected, previous, context)
    assert [name.split()[1] for name in each] == [type(members[i]).__name__ for i in order]
    assert max(float(v.max()) for v in each.values()) < 1e-14
    one_by_one: Tensor = z
    for member in members:
        one_by_one = member(one_by_one, previous, context)
    assert float(together.violation(one_by_one, previous, context).max()) > 1e-2


def test_scales_of_a_stack_balance_unlike_units():
    grid = Grid((5,), (1.0,))
    rows = torch.ones(1, 2, 5, dtype=torch.float64)
    z, previous = randn(2, 1, 2, 5, seed=23)
    both = [LinearRows(grid, rows, names=["sum of both"]), FixedValues(grid, torch.arange(5) == 0)]
    change = Stack(both, scales=[1.0, 1e3])(z, previous) - z
    ratio = change[0, 1, 1:].abs() / change[0, 0, 1:].abs()
    torch.testing.assert_close(ratio, torch.full_like(ratio, 1e6))
    with pytest.raises(ValueError, match="3 scales for states of 2 channels"):
        Stack(both, scales=[1.0, 1.0, 1.0])(z, previous)
    with pytest.raises(ValueError, match="expected the same for all"):
        Stack([LinearRows(grid, rows, scales=[1.0, 2.0])], scales=[1.0, 3.0])(z, previous)


@pytest.mark.parametrize(
    "make",
    [
        lambda: DivergenceFree(Grid((6, 5), (1.0, 2.0))),
        lambda: DivergenceFree(Grid((5, 4), (1.0, 2.0), boundary=("wall", "periodic"))),
        lambda: StaggeredDivergenceFree(
            Grid((5, 4), (1.0, 2.0), boundary=("wall", "periodic"), centering="cell"),
            blocks=[[0.2, 0.5, 0.5, 1.0]],
        ),
    ],
    ids=["periodic", "mirrors", "staggered"],
)
def test_rows_are_met_inside_the_set_of_an_orthogonal_projection(make):
    surface = make()
    grid = surface.grid
    z, previous = randn(2, 2, 2, *grid.shape, seed=40)
    start, weights = surface.project(previous), surface.orthogonal()
    mask = torch.zeros(grid.shape, dtype=torch.bool)
    mask[3, 2] = True
    members = [
        LinearRows(grid, randn(2, 2, *grid.shape, seed=41), volumes=weights),
        surface,
        FixedValues(grid, mask, channels=[1]),
    ]
    together = Stack(members)
    projected = together(z, start)
    assert max(float(v.max()) for v in together.violations(projected, start).values()) < 1e-13
    # Any admissible state differs from the nearest one at right angles to what was taken away.
    other = together(randn(2, 2, *grid.shape, seed=42), start)
    angle = ((z - projected) * (other - projected) * weights).sum(dim=(1, 2, 3))
    lengths = [((a - projected).square() * weights).sum(dim=(1, 2, 3)).sqrt() for a in (z, other)]
    assert float((angle / (lengths[0] * lengths[1])).abs().max()) < 1e-13
    assert float(lengths[1].min()) > 0.1
    torch.testing.assert_close(together(projected, start), projected, rtol=0, atol=1e-12)
    torch.testing.assert_close(Stack([surface])(z), surface(z), rtol=0, atol=0)
    with pytest.raises(ValueError, match="one projection without rows at most"):
        Stack([surface, make()])
    with pytest.raises(ValueError, match="nearest with one for all"):
        Stack(members, scales=[1.0, 2.0])(z, start)


def test_prescribed_values_are_rows_like_others():
    grid = Grid((3, 4), (1.0, 1.0))
    mask = torch.rand(2, 3, 4, generator=generator(43)) < 0.4
    u, previous = randn(2, 2, 3, 3, 4, seed=44)
    for held, channels in ((mask, [2, 0]), (mask[0], [1]), (mask[1], None)):
        fixed = FixedValues(grid, held, channels=channels)
        rows = unit_rows(fixed, 3)
        names = [fixed.row_name(i, 3) for i in range(fixed.count(3))]
        where = fixed.fixed(3).nonzero().tolist()
        assert sorted(names) == sorted(f"channel {c} at point {tuple(p)}" for c, *p in where)
        for name, row in zip(names, rows, strict=True):
            (c, *p) = row.reshape(3, 3, 4).nonzero()[0].tolist()
            assert name == f"channel {c} at point {tuple(p)}" and row.sum() == 1
        y = randn(2, len(rows), seed=45)
        assert torch.equal(fixed.transpose(y, 3).flatten(1), y @ rows)
        diagonal = randn(3, 3, 4, seed=46)
        assert torch.equal(fixed.squares(diagonal), rows @ diagonal.flatten())
        general = LinearRows(grid, rows)(u, previous)
        torch.testing.assert_close(fixed(u, previous), general, rtol=0, atol=1e-14)


def test_chain_stacks_neighbours_and_keeps_the_order_of_the_others():
    grid = Grid((6,), (1.0,))
    mask = torch.arange(6) == 2
    u, previous = randn(2, 2, 1, 6, seed=24)
    previous = previous.abs() + 0.1
    chain = Chain([ConservedMean(grid), FixedValues(grid, mask), Bounds(grid)])
    assert [type(m).__name__ for m in chain.members] == ["ConservedMean", "FixedValues", "Bounds"]
    stack = Stack([ConservedMean(grid), FixedValues(grid, mask)])
    assert torch.equal(chain(u, previous), Bounds(grid)(stack(u, previous)))
    apart = Chain([ConservedMean(grid), Bounds(grid), FixedValues(grid, mask)])
    before = Bounds(grid)(ConservedMean(grid)(u, previous))
    assert torch.equal(apart(u, previous), torch.where(mask, previous, before))
    scaled = BlockAverage(grid, [3], form="multiplicative")
    assert len(Chain([ConservedMean(grid), scaled]).links) == 2
    assert set(chain.state_dict()) == set()


def test_conflicts_of_several_constraints_are_named():
    grid = Grid((6,), (1.0,))
    z, previous = randn(2, 2, 1, 6, seed=25)
    everywhere = FixedValues(grid, torch.ones(6, dtype=torch.bool))
    with pytest.raises(ValueError, match="no unknown that is free.*mean of channel 0"):
        Stack([ConservedMean(grid), everywhere])(z, previous)
    blocks = [ConservedMean(grid), BlockAverage(grid, [3])]
    with pytest.raises(
        ValueError,
        match="dependent on each other: mean of channel 0, block 0 of channel 0, block 1 of channel 0.*drop",
    ):
        Chain(blocks).prepare(1)
    both = Stack(blocks, dependent="drop")
    torch.testing.assert_close(both(z, previous), blocks[1](z, previous), rtol=0, atol=1e-14)
    with pytest.raises(ValueError, match="contradict each other by .* in sample 0: mean of channel 0"):
        both(z, previous, Context(mean=torch.ones(1)))
    impossible = [
        BlockAverage(grid, [3], values=[[1.0, 2.0]]),
        LinearRows(grid, torch.ones(1, 6) / 6, [1.0], names=["total"]),
    ]
    for dependent in ("refuse", "drop"):
        with pytest.raises(ValueError, match="contradict each other: block 0.*block 1.*'total'. No state"):
            Stack(impossible, dependent=dependent).prepare(1)  # type: ignore[arg-type]
    half = FixedValues(grid, torch.arange(6) < 3)
    with pytest.raises(ValueError, match="1 have no unknown that is free.*block 0 of channel 0"):
        Stack([half, BlockAverage(grid, [3])])(z, previous)
    wanted = Context(targets={"blocks": torch.zeros(1, 2)})
    allowed = Stack([half, BlockAverage(grid, [3], values="context")], dependent="drop")
    with pytest.raises(ValueError, match="contradict each other by .*: block 0 of channel 0"):
        allowed(z, previous, wanted)
    twice = [half, FixedValues(grid, torch.arange(6) > 1, 0.0)]
    with pytest.raises(
        ValueError, match=r"more than once: channel 0 at point \(2,\), channel 0 at point \(2,\)"
    ):
        Stack(twice)(z, previous)
    with pytest.raises(ValueError, match=r"contradict each other: channel 0 at point \(2,\)"):
        Stack(twice, dependent="drop")(z, previous)
    previous[..., 2] = 0.0
    assert Stack(twice, dependent="drop")(z, previous)[..., 2:].abs().max() == 0.0
    with pytest.raises(ValueError, match="same points"):
        Stack([ConservedMean(grid), ConservedMean(Grid((7,), (1.0,)))])(z, previous)
    with pytest.raises(ValueError, match="different volumes"):
        Stack([ConservedMean(grid), ConservedMean(Grid((6,), (1.0,), boundary="neumann"))])(z, previous)
    with pytest.raises(TypeError, match="put it into a Chain"):
        Stack([ConservedMean(grid), Bounds(grid)])
    with pytest.raises(ValueError, match="at least one"):
        Stack([])


@pytest.mark.parametrize("domain", [Grid((6, 4), (1.0, 1.0), boundary=("neumann", "periodic")), patch()])
def test_additive_block_averages_are_the_nearest_state(domain):
    blocks = {"size": [3, 2]} if isinstance(domain, Grid) else {"labels": [0, 1, 1, 0, -1, 0]}
    constraint = BlockAverage(domain, **blocks)  # type: ignore[arg-type]
    z, previous = randn(2, 2, 2, *domain.shape, seed=26)
    rows = unit_rows(constraint, 2)
    metric = domain.weights().flatten().repeat(2)
    expected = torch.stack(
        [kkt(x.flatten(), metric, rows, rows @ p.flatten()) for x, p in zip(z, previous, strict=True)]
    )
    torch.testing.assert_close(constraint(z, previous).flatten(1), expected, rtol=0, atol=1e-13)
    # As rows in a stack of one, by the general formula.
    torch.testing.assert_close(Stack([constraint])(z, previous).flatten(1), expected, rtol=0, atol=1e-13)
    sums = BlockAverage(domain, quantity="integral", values="context", **blocks)  # type: ignore[arg-type]
    size = sums.sizes.reshape(constraint.blocks)
    context = Context(targets={"blocks": constraint.means(previous) * size})
    torch.testing.assert_close(sums(z, None, context), constraint(z, previous), rtol=0, atol=1e-14)


def test_forms_of_block_averages_that_keep_bounds():
    grid = Grid((12,), (1.0,))
    y = 0.98 * torch.tanh(randn(4, 1, 12, seed=27))
    x = 0.9 * torch.tanh(randn(4, 1, 3, seed=28))
    context = Context(targets={"blocks": x})
    scaled = BlockAverage(grid, [4], values="context", form="scaled", lower=-1.0, upper=1.0)
    found = scaled(y, None, context)
    mean = y.unflatten(2, (3, 4)).mean(dim=3)
    spread = [t.repeat_interleave(4, dim=2) for t in (x, mean, torch.sign(mean - x))]
    harder = y + (spread[0] - spread[1]) * (spread[2] + y) / (spread[2] + spread[1])
    torch.testing.assert_close(found, harder, rtol=0, atol=1e-14)
    assert found.abs().max() < 1.0
    assert scaled.violation(found, None, context).max() < 1e-15
    added = BlockAverage(grid, [4], values="context")(y, None, context)
    assert added.abs().max() > 1.0
    positive, wanted = y.exp(), Context(targets={"blocks": x.exp()})
    share = BlockAverage(grid, [4], values="context", form="multiplicative")(positive, None, wanted)
    means = positive.unflatten(2, (3, 4)).mean(dim=3)
    torch.testing.assert_close(share, positive * (x.exp() / means).repeat_interleave(4, dim=2))
    assert share.min() > 0
    # Where no positive block has the mean, it is added to and still has it.
    still = BlockAverage(grid, [4], values="context", form="multiplicative")
    assert still.violation(still(y, None, context), None, context).max() < 1e-15


def test_block_averages_say_what_does_not_fit():
    grid = Grid((6, 4), (1.0, 1.0))
    for arguments, message in (
        ({}, "either size"),
        ({"size": [4, 2]}, "expected a divisor"),
        ({"size": [3]}, "expected a divisor"),
        ({"labels": [0, 1]}, "expected whole numbers"),
        ({"labels": torch.zeros(6, 4) + 2}, "without a point in block 0, 1"),
        ({"size": [3, 2], "form": "softmax"}, "expected one of"),
        ({"size": [3, 2], "form": "scaled"}, "expected lower < upper"),
        ({"size": [3, 2], "upper": 1.0}, "no upper with another form"),
    ):
        with pytest.raises(ValueError, match=message):
            BlockAverage(grid, **arguments)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"expected \(1, 2, 2\) or \(3, 1, 2, 2\)"):
        BlockAverage(grid, [3, 2], values=[1.0, 2.0, 3.0])(torch.zeros(3, 1, 6, 4))
    with pytest.raises(ValueError, match="targets={'blocks'"):
        BlockAverage(grid, [3, 2], values="context")(torch.zeros(3, 1, 6, 4))


def test_volumes_that_are_not_positive_are_named():
    points = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [5.0, 5.0]])
    lonely = Mesh(points, torch.tensor([[0, 1, 2]]))
    for make in (
        lambda: ConservedMean(lonely),
        lambda: LinearRows(lonely, torch.ones(1, 4)),
        lambda: BlockAverage(lonely, labels=[0, 0, 0, 0]),
    ):
        with pytest.raises(ValueError, match=r"not positive at 1 points: \(3,\)"):
            make()
    with pytest.raises(ValueError, match=r"not positive at 2 points: \(0,\), \(2,\), the first being -1"):
        ConservedMean(Grid((3,), (1.0,)), volumes=[-1.0, 1.0, float("nan")])


def test_particles_bring_their_volumes_and_systems_without_space_have_one():
    cloud = Cloud(((0.0, 1.0),))
    volumes = torch.tensor([1.0, 2.0, 3.0, 4.0])
    u, previous = randn(2, 2, 3, 4, seed=29)
    held = ConservedMean(cloud, volumes=volumes)(u, previous)
    torch.testing.assert_close((held * volumes).sum(-1), (previous * volumes).sum(-1), rtol=0, atol=1e-13)
    rows = LinearRows(cloud, volumes.reshape(1, 1, 4), channels=[1], volumes=volumes)
    torch.testing.assert_close(rows(u, previous)[:, 1], held[:, 1], rtol=0, atol=1e-14)
    assert torch.equal(rows(u, previous)[:, [0, 2]], u[:, [0, 2]])
    with pytest.raises(TypeError, match="volumes for the particles"):
        LinearRows(cloud, volumes.reshape(1, 1, 4))
    z = randn(5, 3, seed=30)
    on_plane = LinearRows(Point(), [[1.0, 1.0, 1.0]], [2.0])(z)
    torch.testing.assert_close(on_plane, z + (2 - z.sum(1, keepdim=True)) / 3, rtol=0, atol=1e-15)


def test_rows_and_values_from_files_are_read_without_pickle(tmp_path, monkeypatch):
    import scipy.sparse

    monkeypatch.chdir(tmp_path)
    grid = Grid((6,), (1.0,))
    rows, b, z = randn(2, 6, seed=31), randn(2, seed=32), randn(3, 1, 6, seed=33)
    expected = LinearRows(grid, rows, b)(z)
    np.save("rows.npy", rows.numpy())
    np.savez("both.npz", rows=rows.numpy(), values=b.numpy())
    for name, layout in (("csr", "csr_matrix"), ("csc", "csc_matrix"), ("coo", "coo_matrix")):
        scipy.sparse.save_npz(f"{name}.npz", getattr(scipy.sparse, layout)(rows.numpy()))
    for file in ("rows.npy", "both.npz", "csr.npz", "csc.npz", "coo.npz"):
        found = LinearRows(grid, file, "both.npz")(z)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-14)
    torch.testing.assert_close(LinearRows(grid, rows.tolist(), b.tolist())(z), expected)
    torch.testing.assert_close(LinearRows(grid, lambda domain: (rows, b))(z), expected)
    np.save("objects.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    np.savez("other.npz", matrix=rows.numpy())
    (tmp_path / "broken.npz").write_bytes(b"PK nothing")
    (tmp_path / "rows.txt").write_text("1 2")
    for file, message in (
        ("objects.npy", "cannot be loaded when allow_pickle=False|no array that can be read safely"),
        ("other.npz", r"holds \['matrix'\]; expected an array called 'rows'"),
        ("broken.npz", "no array that can be read safely"),
        ("rows.txt", "expected numbers, a file"),
        ("none.npy", "there is no file 'none.npy'"),
    ):
        with pytest.raises(UserError, match=message):
            LinearRows(grid, file)


def test_rows_say_what_does_not_fit():
    grid = Grid((6,), (1.0,))
    rows = torch.ones(1, 6)
    for make, message in (
        (lambda: LinearRows(grid, torch.ones(1, 5)), "a multiple of the 6 points"),
        (lambda: LinearRows(grid, torch.ones(6)), "q of 1 or more"),
        (lambda: LinearRows(grid, torch.ones(1, 2, 5)), "DenseRows got a matrix"),
        (lambda: LinearRows(grid, rows, [1.0, 2.0]), "one for each row"),
        (lambda: LinearRows(grid, rows, names=["a", "b"]), "2 names for 1 rows"),
        (lambda: LinearRows(grid, rows, channels=[0, 1]), "act on channels"),
        (lambda: LinearRows(grid, rows, scales=[-1.0]), "positive numbers"),
        (lambda: LinearRows(grid, rows, dependent="keep"), "refuse"),
        (lambda: LinearRows(grid, rows * float("inf")), "not all finite"),
        (lambda: LinearRows(grid, [[1.0], [1.0, 2.0]]), "lists of equal length"),
        (lambda: LinearRows(grid, lambda domain: None), "gave nothing"),
        (lambda: FunctionRows(lambda u: u.flatten(1) + 1, (1, 6)), "not linear in rows 0, 1"),
        (lambda: FunctionRows(lambda u: u.flatten(1).square(), (1, 6)), "not linear"),
        (lambda: FunctionRows(lambda u: u, (1, 6)), r"expected \(4, q\)"),
        (lambda: FixedValues(grid, torch.ones(6)), "expected booleans"),
        (lambda: FixedValues(grid, torch.zeros(6, dtype=torch.bool)), "one point or more"),
        (lambda: FixedValues(grid, torch.ones(5, dtype=torch.bool)), r"expected \(6,\)"),
        (lambda: LinearRows(grid, rows)(torch.zeros(1, 1, 6)), "pass it"),
        (lambda: LinearRows(grid, rows)(torch.zeros(1, 2, 6), torch.zeros(1, 2, 6)), "rows for 1 channels"),
        (lambda: LinearRows(grid, rows, "context")(torch.zeros(1, 1, 6)), "targets={'rows'"),
    ):
        with pytest.raises(ValueError, match=message):
            make()


def test_a_constrained_step_keeps_rows_in_a_rollout_and_under_many_states_at_once():
    grid = Grid((8,), (1.0,))
    rows = randn(2, 8, seed=34)
    mixing = randn(8, 8, seed=35) / 2

    class TwoAhead(torch.nn.Module):
        bundle = 2

        def forward(self, u: Tensor) -> Tensor:
            return torch.tanh(u @ mixing)

        def ahead(self, u: Tensor) -> Tensor:
            return torch.stack([self(u), self(self(u))], dim=1)

    constraint: Constraint = LinearRows(grid, rows, "context")
    u0 = randn(3, 1, 8, seed=36)
    wanted = Context(targets={"rows": u0.flatten(1) @ rows.T})
    step = Surrogate(Constrained(TwoAhead(), constraint, wanted), 0.1, grid, ("u",))
    states = step.ahead(step(u0))
    assert states.shape == (3, 2, 1, 8)
    for state in states.unbind(1):
        assert constraint.violation(state, None, wanted).max() < 1e-14
