"""Constraints one by one."""

from __future__ import annotations

import pytest
import torch

from sciml import Cloud, Grid, Mesh
from sciml.constraints import Bounds, Chain, ConservedMean, Context, DivergenceFree, Energy


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def patch() -> Mesh:
    """Two triangles whose nodes have unlike volumes."""
    points = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [3.0, 2.0]], dtype=torch.float64)
    return Mesh(points, torch.tensor([[0, 1, 2], [1, 3, 2]]))


def kkt(z: torch.Tensor, volumes: torch.Tensor, mean: float) -> torch.Tensor:
    """Nearest u to z in the V-norm with V.u = mean sum V, by the dense optimality system."""
    n = len(z)
    matrix = torch.zeros(n + 1, n + 1, dtype=torch.float64)
    matrix[:n, :n] = torch.diag(volumes)
    matrix[n, :n] = matrix[:n, n] = volumes
    right = torch.cat([volumes * z, (mean * volumes.sum()).reshape(1)])
    return torch.linalg.solve(matrix, right)[:n]


@pytest.mark.parametrize("domain", [patch(), Grid((5,), (2.0,), boundary="dirichlet")])
def test_conserved_mean_is_the_nearest_state_in_the_volume_norm(domain):
    z = torch.randn(1, 1, *domain.shape, generator=generator(), dtype=torch.float64)
    projected = ConservedMean(domain).project(z, context=Context(mean=torch.tensor([0.7])))
    expected = kkt(z[0, 0], domain.weights(), 0.7)
    # The target came as float32 0.7, hence 1e-7; the solve itself is exact to 1e-14.
    torch.testing.assert_close(projected[0, 0], expected, rtol=0, atol=1e-7)
    plain = z + (0.7 - z.mean())
    weights = domain.weights()
    assert abs(float((plain[0, 0] * weights).sum() / weights.sum()) - 0.7) > 1e-2


def test_conserved_mean_never_enlarges_a_difference():
    domain = patch()
    u, v, previous = torch.randn(3, 8, 1, 4, generator=generator(1), dtype=torch.float64)
    constraint = ConservedMean(domain)
    w = domain.weights()
    before = ((u - v).square() * w).sum(-1)
    after = ((constraint.project(u, previous) - constraint.project(v, previous)).square() * w).sum(-1)
    assert (after <= before * (1 + 1e-12)).all()


def test_conserved_mean_leaves_other_channels_to_the_last_bit():
    grid = Grid((6,), (1.0,))
    u, previous = torch.randn(2, 4, 3, 6, generator=generator(2), dtype=torch.float64)
    projected = ConservedMean(grid, channels=[1]).project(u, previous)
    assert torch.equal(projected[:, [0, 2]], u[:, [0, 2]])
    torch.testing.assert_close(projected[:, 1].mean(-1), previous[:, 1].mean(-1), rtol=0, atol=1e-15)


def test_explicit_target_wins_over_the_previous_state_and_is_per_sample():
    grid = Grid((6,), (1.0,))
    u, previous = torch.randn(2, 4, 2, 6, generator=generator(3), dtype=torch.float64)
    target = torch.randn(4, 2, generator=generator(4), dtype=torch.float64)
    projected = ConservedMean(grid).project(u, previous, Context(mean=target))
    torch.testing.assert_close(projected.mean(-1), target, rtol=0, atol=1e-15)


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("domain", [Grid((64,), (1.0,)), Grid((33,), (1.0,), boundary="neumann")])
def test_ten_thousand_steps_of_a_random_map_keep_the_mean(domain, dtype, bound):
    n = domain.shape[0]
    matrix = torch.randn(n, n, generator=generator(5), dtype=torch.float64).to(dtype) / n**0.5 * 2
    constraint = ConservedMean(domain).to(dtype)
    u = first = torch.randn(2, 1, n, generator=generator(6), dtype=torch.float64).to(dtype)
    free = first
    with torch.no_grad():
        for _ in range(10_000):
            u = constraint.project(torch.tanh(u @ matrix) + 0.1, previous=u)
            free = torch.tanh(free @ matrix) + 0.1
    drift = (constraint.mean(u) - constraint.mean(first)).abs().max()
    assert drift <= bound
    assert (constraint.mean(free) - constraint.mean(first)).abs().max() > 1e-2  # the map itself drifts
    assert u.std() > 0.1  # it did not die out


def test_sums_are_in_double_precision_under_autocast():
    grid = Grid((4096,), (1.0,))
    previous = 100 + torch.randn(1, 1, 4096, generator=generator(7))
    u = previous + 0.01 * torch.randn(1, 1, 4096, generator=generator(8)) + 0.5
    constraint = ConservedMean(grid)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        projected = constraint.project(u, previous)
    assert projected.dtype == torch.float32
    # Values near 100 are spaced by 8e-6 in float32; the mean of 4096 of them stays within one spacing.
    assert constraint.violation(projected, previous).item() < 8e-6


def test_conserved_mean_says_what_is_missing():
    grid = Grid((6,), (1.0,))
    u = torch.zeros(1, 2, 6)
    with pytest.raises(ValueError, match="needs a target"):
        ConservedMean(grid).project(u)
    with pytest.raises(ValueError, match="must agree"):
        ConservedMean(grid).project(u, u[:, :1])
    with pytest.raises(ValueError, match=r"expected \(1, 2\) or \(2,\)"):
        ConservedMean(grid).project(u, context=Context(mean=torch.zeros(3)))
    with pytest.raises(ValueError, match="state has 2"):
        ConservedMean(grid, channels=[2]).project(u, u)
    with pytest.raises(ValueError, match="different numbers"):
        ConservedMean(grid, channels=[1, 1])
    with pytest.raises(TypeError, match="Grid or a Mesh"):
        ConservedMean(Cloud(((0.0, 1.0),)))  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(32, 32), (33, 33), (32, 17), (9, 8), (8, 6, 5), (6, 6, 6)])
def test_leray_projection_removes_the_divergence_of_white_noise(shape):
    """Even sizes carry Nyquist modes; keeping their wavenumber leaves a divergence of order one."""
    grid = Grid(shape, tuple(1.0 + 0.5 * d for d in range(len(shape))))
    constraint = DivergenceFree(grid)
    u = torch.randn(2, len(shape), *shape, generator=generator(9), dtype=torch.float64) + 3.0
    projected = constraint.project(u)
    # Wavenumbers reach pi / dx, about 100 on these grids, and multiply the rounding of the transform.
    assert constraint.divergence(projected).abs().max() < 1e-12 * 100
    assert constraint.violation(projected).max() < 1e-14
    single = constraint.project(u.float())
    assert constraint.violation(single).max() < 5e-6
    axes = tuple(range(2, u.ndim))
    torch.testing.assert_close(projected.mean(axes), u.mean(axes), rtol=0, atol=1e-14)


def test_leray_projection_keeps_rotation_and_removes_gradients():
    grid = Grid((24, 20), (2.0, 3.0))
    x, y = grid.coordinates()
    a, b = torch.pi * x, 2 * torch.pi * y / 3
    rotation = torch.stack([2 / 3 * torch.sin(a) * torch.cos(b), -torch.cos(a) * torch.sin(b)])
    gradient = torch.stack([torch.cos(a) * torch.sin(b), 2 / 3 * torch.sin(a) * torch.cos(b)])
    # rotation = (d_y, -d_x) of a stream function sin(a) sin(b), up to the factor pi.
    constraint = DivergenceFree(grid)
    projected = constraint.project((rotation + gradient)[None])[0]
    torch.testing.assert_close(projected, rotation, rtol=0, atol=1e-14)


def test_leray_projection_is_self_adjoint_and_does_not_enlarge():
    grid = Grid((8, 7), (1.0, 2.0))
    constraint = DivergenceFree(grid)
    u, v = torch.randn(2, 1, 2, 8, 7, generator=generator(10), dtype=torch.float64)
    assert torch.sum(constraint(u) * v).item() == pytest.approx(
        torch.sum(u * constraint(v)).item(), abs=1e-12
    )
    assert constraint(u).norm() < u.norm()


def test_leray_divergence_agrees_with_a_derivative_by_hand():
    grid = Grid((16, 12), (2.0, 1.0))
    x, y = grid.coordinates()
    u = torch.stack([torch.sin(torch.pi * x), torch.cos(2 * torch.pi * y)])[None]
    exact = torch.pi * torch.cos(torch.pi * x) - 2 * torch.pi * torch.sin(2 * torch.pi * y)
    torch.testing.assert_close(DivergenceFree(grid).divergence(u)[0, 0], exact, rtol=0, atol=1e-12)


def test_leray_projection_refuses_what_it_cannot_do():
    with pytest.raises(ValueError, match="all periodic"):
        DivergenceFree(Grid((8, 8), (1.0, 1.0), boundary="outflow"))
    with pytest.raises(ValueError, match="two"):
        DivergenceFree(Grid((8,), (1.0,)))
    with pytest.raises(ValueError, match="one per axis"):
        DivergenceFree(Grid((8, 8), (1.0, 1.0)), channels=[0])
    with pytest.raises(ValueError, match="Name the velocity's channels"):
        DivergenceFree(Grid((8, 8), (1.0, 1.0))).project(torch.zeros(1, 3, 8, 8))


def test_mean_and_positivity_survive_a_thousand_steps():
    domain = patch()
    chain = Chain([ConservedMean(domain), Bounds(domain, lower=0.0)])
    u = first = torch.rand(4, 1, 4, generator=generator(11), dtype=torch.float64)
    matrix = torch.randn(4, 4, generator=generator(12), dtype=torch.float64)
    lowest = 0.0
    with torch.no_grad():
        for _ in range(1000):
            u = chain.project(torch.tanh(u @ matrix), previous=u)
            lowest = min(lowest, u.min().item())
    mean = ConservedMean(domain).mean
    assert lowest >= 0.0  # to the last bit
    assert (mean(u) - mean(first)).abs().max() <= 1e-12


def test_bounds_leave_admissible_states_alone_and_tell_of_impossible_means():
    grid = Grid((5,), (1.0,))
    bounds = Bounds(grid, lower=0.0, upper=1.0)
    good = torch.rand(3, 2, 5, generator=generator(13), dtype=torch.float64)
    assert torch.equal(bounds.project(good), good)
    impossible = good - 5.0
    projected = bounds.project(impossible)
    assert projected.std(dim=-1).max() < 1e-14  # the constant with the given mean
    assert (bounds.violation(projected) > 3.9).all()
    with pytest.raises(ValueError, match="lower < upper"):
        Bounds(grid, lower=1.0, upper=0.0)


def test_chain_tells_which_member_a_wrong_order_violates():
    grid = Grid((6,), (1.0,))
    u = torch.randn(2, 1, 6, generator=generator(14), dtype=torch.float64)
    previous = u.abs() + 0.1
    right = Chain([ConservedMean(grid), Bounds(grid, lower=0.0)])
    right.check(right.project(u, previous), previous)
    wrong = Chain([Bounds(grid, lower=0.0), ConservedMean(grid)])
    target = Context(mean=torch.full((1,), 0.1, dtype=torch.float64))
    with pytest.raises(ValueError, match="0 Bounds violated"):
        wrong.check(wrong.project(previous, context=target), context=target)
    nan = torch.full_like(previous, torch.nan)
    with pytest.raises(ValueError, match="0 ConservedMean violated by nan"):
        right.check(nan, previous)
    with pytest.raises(ValueError, match="at least one"):
        Chain([])


@pytest.mark.parametrize("domain", [patch(), Grid((6, 5), (1.0, 2.0)), Grid((3, 4, 5), (1.0, 1.0, 1.0))])
def test_energy_is_held_and_means_stay(domain):
    z, previous = torch.randn(2, 3, 2, *domain.shape, generator=generator(30), dtype=torch.float64)
    z = ConservedMean(domain).project(
        z, previous
    )  # else its means may carry more energy than is admissible
    constraint = Energy(domain)
    u = constraint.project(z, previous)
    w = domain.weights() / domain.weights().sum()
    axes = tuple(range(1, previous.ndim))
    torch.testing.assert_close(
        0.5 * (u.square() * w).sum(dim=axes),
        0.5 * (previous.square() * w).sum(dim=axes),
        rtol=1e-14,
        atol=0,
    )
    means = ConservedMean(domain)
    torch.testing.assert_close(means.mean(u), means.mean(z), rtol=0, atol=1e-15)
    torch.testing.assert_close(constraint.project(u, previous), u, rtol=0, atol=1e-14)
    assert float(constraint.violation(u, previous).max()) < 1e-14
    assert float(constraint.violation(z, previous).min()) > 1e-3


def test_energy_may_fall_and_not_grow():
    grid = Grid((16,), (1.0,))
    previous = torch.randn(2, 1, 16, generator=generator(31), dtype=torch.float64)
    previous = previous - previous.mean(-1, keepdim=True)
    constraint = Energy(grid, "decaying")
    smaller = 0.5 * previous
    assert torch.equal(constraint.project(smaller, previous), smaller)
    grown = constraint.project(2 * previous, previous)
    torch.testing.assert_close(constraint.energy(grown), constraint.energy(previous), rtol=1e-14, atol=0)
    bounded = Energy(grid, "bounded", lower=0.2, upper=0.3)
    for size, expected in ((1e-3, 0.2), (1e3, 0.3)):
        found = bounded.energy(bounded.project(size * previous))
        torch.testing.assert_close(found, torch.full_like(found, expected), rtol=1e-13, atol=0)
    flat = torch.full((1, 1, 16), 3.0, dtype=torch.float64)
    assert torch.equal(bounded.project(flat), flat)
    assert float(bounded.violation(flat)) == pytest.approx(4.5 - 0.3)


def test_energy_is_differentiable_and_keeps_flow_free_of_divergence():
    grid = Grid((6, 8), (1.0, 1.0))
    z, previous = torch.randn(2, 1, 2, 6, 8, generator=generator(32), dtype=torch.float64)
    solenoidal = DivergenceFree(grid)
    chain = Chain([solenoidal, Energy(grid)])
    chain.check(chain.project(z, previous), previous, tolerance=1e-13)
    z.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: Energy(grid).project(x, previous), (z,))
    assert torch.autograd.gradcheck(lambda x: Energy(grid, "bounded", upper=0.1).project(x), (z,))
    same = previous.clone().requires_grad_()
    Energy(grid).project(same, previous).sum().backward()
    assert torch.isfinite(same.grad).all()


def test_energy_of_float32_drifts_by_rounding_in_ten_thousand_steps():
    grid = Grid((32,), (1.0,))
    constraint = Energy(grid)
    chain = Chain([ConservedMean(grid), constraint])
    u = first = torch.randn(4, 1, 32, generator=generator(33))
    g = generator(34)
    for _ in range(10_000):
        u = chain.project(u + 0.1 * torch.randn(u.shape, generator=g), u)
    start = constraint.energy(first)
    # A rounding of every point enters the energy as twice its random sum, and 10,000 steps as a random walk.
    assert float(((constraint.energy(u) - start) / start).abs().max()) < 10_000**0.5 * 6e-8 * 4


def test_energy_says_what_is_missing():
    grid = Grid((8,), (1.0,))
    for wrong in (
        {"kind": "bounded"},
        {"upper": 1.0},
        {"kind": "bounded", "lower": 2.0, "upper": 1.0},
        {"kind": "held"},
    ):
        with pytest.raises(ValueError, match="Energy got kind"):
            Energy(grid, **wrong)
    with pytest.raises(ValueError, match="pass the previous state"):
        Energy(grid).project(torch.randn(1, 1, 8))
