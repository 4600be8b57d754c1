"""Products with the Jacobian and what is estimated from them, against dense Jacobians."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sciml.jacobian import (
    jacobian_diagnostics,
    jacobian_energy,
    jacobian_vector,
    spectral_norm,
    vector_jacobian,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


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


def spectral_layer(u: Tensor) -> Tensor:
    """Fourier multiplier and nonlinearity, the inside of a Fourier neural operator."""
    n = u.shape[-1]
    k = torch.arange(n // 2 + 1, dtype=torch.float64)
    multiplier = torch.exp(-0.05 * k**2) * torch.exp(0.7j * k)
    return u + 0.5 * torch.tanh(torch.fft.irfft(multiplier * torch.fft.rfft(u), n=n) * 2)


def dense(step, u: Tensor) -> Tensor:
    """Jacobians (B, n, n), one sample after the other."""
    n = u[0].numel()
    return torch.stack(
        [torch.func.jacrev(lambda x: step(x))(u[b : b + 1]).reshape(n, n) for b in range(len(u))]
    )


@pytest.mark.parametrize("kind", ["row", "column"])
@pytest.mark.parametrize("distribution", ["rademacher", "gaussian"])
@pytest.mark.parametrize("step", [network(), spectral_layer], ids=["convolution", "fourier"])
def test_energies_are_unbiased_with_the_stated_variance(step, distribution, kind):
    """Mean of 20,000 probes within four standard errors of the dense energies, variance within 6 %."""
    u = torch.randn(1, 1, 32, generator=generator(1), dtype=torch.float64)
    matrix = dense(step, u)[0].detach()
    matrix = matrix if kind == "row" else matrix.T
    exact = matrix.square().sum(dim=1)
    count = 20_000
    with torch.no_grad():
        # The samples of one large batch of equal states draw independent probes.
        q = jacobian_energy(
            step,
            u.expand(count, 1, 32),
            kind=kind,
            distribution=distribution,
            generator=generator(3),
        )
    fourth = matrix.pow(4).sum(dim=1) if distribution == "rademacher" else torch.zeros(32)
    variance = 2 * (exact.square() - fourth)
    error = (q.mean(dim=0) - exact).abs()
    # 256 points are tested over all cases: by chance, one seed in sixty misses four standard errors.
    assert (error <= 4 * (variance / count).sqrt() + 1e-12).all()
    # The sample variance of heavy-tailed q scatters by about 3 %; averaging over points leaves less.
    assert (q.var(dim=0).mean() / variance.mean()).item() == pytest.approx(1.0, abs=0.06)


def test_sums_of_rows_and_columns_are_the_frobenius_norm():
    step, u = network(2), torch.randn(3, 2, 12, generator=generator(3), dtype=torch.float64)
    exact = dense(step, u).square().sum(dim=(1, 2))
    for kind in ("row", "column"):
        q = jacobian_energy(step, u, kind=kind, probes=400, generator=generator(4))
        # The norm from one probe scatters by about a third of itself; 400 leave 2 %.
        torch.testing.assert_close(q.sum(dim=1), exact, rtol=0.06, atol=0)


@pytest.mark.parametrize("mode", ["auto", "jvp", "vjp", "fd"])
def test_all_ways_of_multiplying_agree_with_the_dense_jacobian(mode):
    step, u = network(2), torch.randn(3, 2, 9, generator=generator(7), dtype=torch.float64)
    v = torch.randn(u.shape, generator=generator(8), dtype=torch.float64)
    expected = torch.einsum("bij,bj->bi", dense(step, u), v.flatten(1)).reshape(u.shape)
    y, product = jacobian_vector(step, u, v, mode)
    torch.testing.assert_close(y, step(u))
    tolerance = 1e-6 if mode == "fd" else 1e-12  # a one-sided difference is right to sqrt(1e-16)
    torch.testing.assert_close(product, expected, rtol=0, atol=tolerance)
    with torch.no_grad():
        quiet = jacobian_vector(step, u, v, mode)[1]
    assert not quiet.requires_grad
    torch.testing.assert_close(quiet, expected, rtol=0, atol=tolerance)
    transposed = torch.einsum("bij,bi->bj", dense(step, u), v.flatten(1)).reshape(u.shape)
    torch.testing.assert_close(vector_jacobian(step, u, v)[1], transposed, rtol=0, atol=1e-12)


def test_everything_works_inside_inference_mode():
    step, u = network(2), torch.randn(2, 2, 9, generator=generator(7), dtype=torch.float64)
    scale = torch.tensor([1.0, 2.0], dtype=torch.float64)
    for estimate in (
        lambda x: jacobian_energy(step, x, kind="column", scale=scale, generator=generator(1)),
        lambda x: jacobian_energy(step, x, mode="vjp", scale=scale, generator=generator(1)),
        lambda x: jacobian_energy(step, x, scale=scale, generator=generator(1)),
        lambda x: spectral_norm(step, x, 5, generator=generator(1)),
        lambda x: jacobian_diagnostics(step, x, generator=generator(1))["row_energy"],
    ):
        expected = estimate(u).detach()
        with torch.inference_mode():
            found = estimate(u * 1)
        torch.testing.assert_close(found.clone(), expected)


def test_steps_that_cut_their_gradient_are_refused():
    u = torch.randn(2, 1, 5, generator=generator(9), dtype=torch.float64)
    with pytest.raises(ValueError, match="no torch.no_grad"):
        jacobian_energy(lambda x: x.detach() * 2, u, kind="column")
    with pytest.raises(ValueError, match="its shape must stay"):
        jacobian_energy(lambda x: x[:, :, :2], u)


def test_power_iteration_finds_the_largest_singular_value():
    step, u = network(2), torch.randn(4, 2, 16, generator=generator(12), dtype=torch.float64)
    exact = torch.linalg.matrix_norm(dense(step, u), ord=2)
    for iterations, tolerance in ((20, 0.02), (300, 1e-6)):
        found = spectral_norm(step, u, iterations, generator=generator(13))
        assert (found <= exact * (1 + 1e-12)).all()  # a lower bound
        torch.testing.assert_close(found, exact, rtol=tolerance, atol=0)
    norm = spectral_norm(step, u, 300, generator=generator(13)).sum()
    (gradient,) = torch.autograd.grad(norm, next(step.parameters()))
    assert gradient.norm() > 0


def test_diagnostics_agree_with_the_dense_jacobian():
    step, u = network(2), torch.randn(2, 2, 10, generator=generator(14), dtype=torch.float64)
    matrix = dense(step, u)
    found = jacobian_diagnostics(step, u, probes=500, iterations=200, generator=generator(15))
    rows = matrix.square().sum(dim=2).reshape(2, 2, 10).sum(dim=1)
    # Relative scatter of one probe is about one; 500 leave 4.5 %, and 20 points are compared.
    torch.testing.assert_close(found["row_energy"], rows, rtol=0.16, atol=0)
    torch.testing.assert_close(
        found["frobenius"], matrix.square().sum(dim=(1, 2)).div(20).sqrt(), rtol=0.03, atol=0
    )
    torch.testing.assert_close(
        found["spectral_norm"], torch.linalg.matrix_norm(matrix, ord=2), rtol=1e-3, atol=0
    )
    assert not any(value.requires_grad for value in found.values())
