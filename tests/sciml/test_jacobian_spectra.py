"""Singular values, eigenvalues, transient growth, determinants and symmetry, against dense linear algebra."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from sciml import rollout
from sciml.jacobian import (
    asymmetry,
    dense_jacobian,
    leading_eigenvalues,
    leading_singular,
    log_determinant,
    spectral_norm,
    spectral_radius,
    symmetry,
    transient_growth,
    worst_direction,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def network(channels: int = 1, seed: int = 0) -> nn.Module:
    """A small convolutional step in float64, on periodic points."""
    net = nn.Sequential(
        nn.Conv1d(channels, 6, 5, padding=2, padding_mode="circular"),
        nn.Tanh(),
        nn.Conv1d(6, channels, 3, padding=1, padding_mode="circular"),
    ).double()
    g = generator(seed)
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(0.5 * torch.randn(p.shape, generator=g, dtype=torch.float64))
    return net


class Matrix:
    """A linear step, one matrix for each sample."""

    def __init__(self, matrices: Tensor) -> None:
        self.matrices = matrices.requires_grad_()

    def __call__(self, u: Tensor) -> Tensor:
        return (self.matrices @ u.flatten(1).unsqueeze(2)).reshape(u.shape)


def test_the_spectral_norm_is_approached_from_below():
    step, u = network(2), random(4, 2, 16, seed=12)
    exact = torch.linalg.matrix_norm(dense_jacobian(step, u), ord=2).detach()
    for iterations, tolerance in ((20, 0.02), (32, 1e-9)):
        found, worst = worst_direction(step, u, iterations, generator=generator(13))
        assert (found <= exact * (1 + 1e-12)).all()
        torch.testing.assert_close(found, exact, rtol=tolerance, atol=0)
        torch.testing.assert_close(worst.flatten(1).norm(dim=1), torch.ones(4).double())
    # At the converged direction the gradient is that of the singular value.
    parameter = next(step.parameters())
    (gradient,) = torch.autograd.grad(spectral_norm(step, u, 32, generator=generator(13)).sum(), parameter)
    matrix = torch.stack(
        [
            torch.func.jacrev(
                lambda x, p: torch.func.functional_call(step, {"0.weight": p}, (x,)), argnums=0
            )(u[b : b + 1], parameter).reshape(32, 32)
            for b in range(4)
        ]
    )
    (expected,) = torch.autograd.grad(torch.linalg.matrix_norm(matrix, ord=2).sum(), parameter)
    torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-8)
    # A good guess needs one iteration.
    again = worst_direction(step, u, 1, start=worst)[0]
    torch.testing.assert_close(again, exact, rtol=1e-9, atol=0)


def test_bidiagonalisation_beats_power_iteration_and_finds_several():
    a = random(2, 60, 60, seed=1)
    exact = torch.linalg.svdvals(a)
    step = Matrix(a)
    with torch.no_grad():
        v = random(2, 1, 60, seed=2)
        power = v
        for _ in range(12):
            power = (a.mT @ (a @ power.flatten(1).unsqueeze(2))).reshape(v.shape)
            power = power / power.flatten(1).norm(dim=1).reshape(-1, 1, 1)
        reached = step(power).flatten(1).norm(dim=1)
        values, vectors = leading_singular(
            step, lambda w: (a.mT @ w.flatten(1).unsqueeze(2)).reshape(w.shape), v, 12
        )
        assert (values[:, 0] > reached).all() and (values[:, 0] <= exact[:, 0] * (1 + 1e-12)).all()
        values, vectors = leading_singular(
            step, lambda w: (a.mT @ w.flatten(1).unsqueeze(2)).reshape(w.shape), v, 45
        )
        torch.testing.assert_close(values[:, :3], exact[:, :3], rtol=1e-6, atol=0)
        grown = step(vectors[:, 1]).flatten(1).norm(dim=1)
        torch.testing.assert_close(grown, exact[:, 1], rtol=1e-5, atol=0)
    assert spectral_norm(lambda u: u * 1.0, random(2, 1, 9)).tolist() == pytest.approx([1.0, 1.0])
    assert spectral_norm(lambda u: u * 0.0, random(2, 1, 9)).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("n", [12, 90])
def test_the_largest_eigenvalues_come_with_their_pairs_and_residuals(n):
    a = random(4, n, n, seed=3) / n**0.5
    a[1] = a[1] + a[1].mT  # real ones only
    a[2] *= 1e-3  # the tolerance is relative
    u = random(4, 1, n, seed=4)
    found = leading_eigenvalues(Matrix(a), u, 4, generator=generator(5))
    exact = torch.linalg.eigvals(a.detach())
    assert (found.residuals <= 1e-6 * found.values.abs().amax(1, keepdim=True)).all()
    for b in range(4):
        for value in found.values[b]:
            near = (exact[b] - value).abs().min() / exact[b].abs().max()
            assert near < 1e-5
        order = exact[b].abs().sort(descending=True).values
        torch.testing.assert_close(found.values[b].abs(), order[:4], rtol=1e-5, atol=0)
    torch.testing.assert_close(
        spectral_radius(Matrix(a), u, generator=generator(6)), exact.abs().amax(1), rtol=1e-5, atol=0
    )


def test_closed_krylov_spaces_and_states_that_are_not_finite():
    u = random(3, 1, 50, seed=6)
    u[1, 0, 3] = math.nan
    factors = torch.cat([torch.full((25,), 0.5), torch.full((25,), -0.25)]).double()
    found = leading_eigenvalues(lambda x: factors * x + 0.0 * x**2, u, 2, generator=generator(7))
    assert found.values[1].isnan().all()
    for b in (0, 2):  # two different eigenvalues, each 25 times
        assert found.values[b].abs().tolist() == pytest.approx([0.5, 0.5])


def test_damping_of_two_percent_is_seen_in_the_eigenvalues():
    """A step that multiplies its neighbour's result by 0.98 has its largest eigenvalue shifted by as much."""
    a = random(1, 80, 80, seed=8)
    q = torch.linalg.qr(a[0] - a[0].mT).Q  # orthogonal: all eigenvalues have the absolute value one
    step = Matrix(q.unsqueeze(0) * torch.linspace(0.5, 1.0, 80).double())
    u = random(1, 1, 80, seed=9)
    whole = spectral_radius(step, u, generator=generator(1))
    damped = spectral_radius(lambda x: 0.98 * step(x), u, generator=generator(1))
    assert float(whole - damped) == pytest.approx(0.02 * float(whole), rel=1e-3)


def test_transient_growth_is_the_norm_of_the_product_of_jacobians():
    step, u = network(2, seed=3), random(2, 2, 10, seed=1)
    states = rollout(step, 3)(u)
    product = torch.eye(20, dtype=torch.float64)
    for k in range(3):
        product = dense_jacobian(step, states[:, k]) @ product
    exact = torch.linalg.svd(product.detach())
    for mode in ("auto", "vjp"):
        found = transient_growth(step, u, 3, count=2, iterations=20, mode=mode, generator=generator(2))
        torch.testing.assert_close(found.gains, exact.S[:, :2], rtol=1e-8, atol=0)
        overlap = (found.initial[:, 0].flatten(1) * exact.Vh[:, 0]).sum(1).abs()
        torch.testing.assert_close(overlap, torch.ones(2).double(), rtol=1e-6, atol=0)
        size = found.final.flatten(2).norm(dim=2)
        torch.testing.assert_close(size, found.gains, rtol=1e-8, atol=0)
    assert not found.gains.requires_grad


def test_errors_grow_before_they_die_where_the_jacobian_is_not_normal():
    """[[0.9, 5], [0, 0.9]]: radius 0.9, and a peak in between."""
    matrix = torch.tensor([[0.9, 5.0], [0.0, 0.9]], dtype=torch.float64).reshape(1, 2, 2)
    step, u = Matrix(matrix), torch.ones(1, 2, dtype=torch.float64)
    gains = {k: float(transient_growth(step, u, k, generator=generator()).gains) for k in (1, 5, 10, 100)}
    for k, gain in gains.items():
        expected = torch.linalg.matrix_norm(torch.linalg.matrix_power(matrix[0].detach(), k), ord=2)
        assert gain == pytest.approx(float(expected), rel=1e-8)
    assert gains[10] > gains[1] > 1 > gains[100]
    assert float(spectral_radius(step, u)) == pytest.approx(0.9, rel=1e-6)


def test_the_series_of_the_determinant_equals_the_dense_one():
    step = Matrix(
        torch.eye(40).double()
        + 0.29 * (lambda a: a / torch.linalg.matrix_norm(a, ord=2, keepdim=True))(random(3, 40, 40, seed=2))
    )
    u = random(3, 1, 40, seed=3)
    exact = torch.linalg.slogdet(step.matrices)[1]
    torch.testing.assert_close(log_determinant(step, u), exact, rtol=1e-10, atol=0)
    series = log_determinant(step, u, method="series", terms=12, probes=None)
    assert (series - exact).abs().max() < 1e-6
    (gradient,) = torch.autograd.grad(series.sum(), step.matrices)
    (expected,) = torch.autograd.grad(exact.sum(), step.matrices)
    assert (gradient - expected).abs().max() < 1e-5
    # With random probes it is right on average.
    one = Matrix(step.matrices.detach()[:1].expand(8000, 40, 40))
    many = log_determinant(
        one, u[:1].expand(8000, 1, 40), method="series", terms=12, generator=generator(1)
    )
    many = many.detach()
    assert abs(float(many.mean() - exact[0])) < 4 * float(many.std()) / 8000**0.5


def test_asymmetry_is_the_norm_of_the_antisymmetric_part():
    a = random(1, 12, 12, seed=4)
    u = random(1, 1, 12, seed=5)
    even, odd = (a + a.mT) / 2, (a - a.mT) / 2
    exact = 2 * odd.square().sum() / 12
    step = Matrix(a)
    assert float(asymmetry(step, u, probes=None)) == pytest.approx(float(exact), rel=1e-10)
    count = 20_000
    many = Matrix(a.detach().expand(count, 12, 12))
    found = asymmetry(many, u.expand(count, 1, 12), generator=generator(6)).mean().detach()
    # One probe scatters by about the value itself: 20,000 leave 1 %.
    assert float(found) == pytest.approx(float(exact), rel=0.02)
    (gradient,) = torch.autograd.grad(asymmetry(step, u, probes=None).sum(), step.matrices)
    (expected,) = torch.autograd.grad(
        ((step.matrices - step.matrices.mT) / 2).square().sum() * 2 / 12, step.matrices
    )
    torch.testing.assert_close(gradient, expected)
    share = even.norm() / (even.norm() + odd.norm())
    assert float(symmetry(step, u, probes=None)) == pytest.approx(float(share), rel=1e-10)


def test_symmetric_steps_have_none():
    a = random(2, 9, 9, seed=7)
    step, u = Matrix(a + a.mT), random(2, 1, 9, seed=8)
    assert asymmetry(step, u, probes=None).abs().max() < 1e-12
    assert symmetry(step, u, generator=generator()).tolist() == pytest.approx([1.0, 1.0])
    turn = Matrix(a - a.mT)
    assert symmetry(turn, u, generator=generator()).abs().max() < 1e-12


def test_refusals():
    u = torch.zeros(1, 1, 50)
    with pytest.raises(ValueError, match="iterations=0"):
        spectral_norm(lambda x: x, u, 0)
    with pytest.raises(ValueError, match="krylov=4"):
        leading_eigenvalues(lambda x: x, u, 2, krylov=4)
    with pytest.raises(ValueError, match="steps=0"):
        transient_growth(lambda x: x, u, 0)
    with pytest.raises(ValueError, match="method='cofactors'"):
        log_determinant(lambda x: x, u, method="cofactors")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="probes=0"):
        asymmetry(lambda x: x, u, probes=0)
    with pytest.raises(ValueError, match="distribution='uniform'"):
        symmetry(lambda x: x, u, distribution="uniform")  # type: ignore[arg-type]
