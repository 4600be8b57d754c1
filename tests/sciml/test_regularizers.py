"""Jacobian estimates against dense Jacobians."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from sciml.jacobian import (
    jacobian_diagnostics,
    jacobian_energy,
    jacobian_vector,
    leading_lyapunov,
    spectral_norm,
    vector_jacobian,
)
from sciml.regularizers import JAWS, Frobenius


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


class Cubed(torch.autograd.Function):
    """x^3 with a gradient but without forward mode, like a compiled solver."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * 3 * x**2


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


def test_the_gradient_of_the_estimate_is_unbiased():
    """Against autograd through the dense Jacobian, for the parameters of the first layer."""
    step, u = network(), torch.randn(1, 1, 10, generator=generator(5), dtype=torch.float64)
    parameter = next(step.parameters())
    matrix = torch.func.jacrev(
        lambda x, p: torch.func.functional_call(step, {"0.weight": p}, (x,)), argnums=0
    )(u, parameter)
    exact = torch.autograd.grad(matrix.square().sum(), parameter)[0]
    count = 4000
    estimate = torch.autograd.grad(
        Frobenius(normalise=False)(step, u.expand(count, 1, 10), generator(6)).mean(), parameter
    )[0]
    # One probe scatters by about the gradient itself; 4,000 leave 2 % of its norm.
    assert ((estimate - exact).norm() / exact.norm()).item() < 0.06


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


def test_steps_without_forward_mode_fall_back_to_two_reverse_passes():
    u = torch.randn(2, 1, 5, generator=generator(9), dtype=torch.float64)
    weight = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)

    def step(x):
        return weight * Cubed.apply(x)

    value = Frobenius(normalise=False)(step, u, generator(1))
    # The Jacobian is diagonal, so one probe of signs is exact: sum (3 w x^2)^2.
    torch.testing.assert_close(value, (6 * u.square()).square().sum(dim=(1, 2)))
    (gradient,) = torch.autograd.grad(value.sum(), weight)
    torch.testing.assert_close(gradient, (2 * 2 * (3 * u.square()).square()).sum())
    with pytest.raises(RuntimeError, match="setup_context|jvp|forward"):
        Frobenius(mode="jvp")(step, u)


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


def test_the_identity_has_the_penalty_one_on_every_grid_and_none_as_a_target():
    for shape in [(2, 7), (1, 4, 5)]:
        u = torch.randn(3, *shape, generator=generator(10), dtype=torch.float64)
        torch.testing.assert_close(Frobenius()(lambda x: x, u), torch.ones(3, dtype=torch.float64))
        assert Frobenius(target="identity")(lambda x: x, u).abs().max() == 0


def test_unlike_units_do_not_change_the_scaled_penalty():
    """A pressure in pascal or in bar: the scaled Jacobian is the same, the plain one is not."""
    unit = torch.tensor([1.0, 1e5], dtype=torch.float64)
    step, u = network(2), torch.randn(2, 2, 8, generator=generator(11), dtype=torch.float64)

    def in_other_units(x):
        return step(x / unit[:, None]) * unit[:, None]

    plain = [Frobenius()(s, x, generator(1)) for s, x in ((step, u), (in_other_units, u * unit[:, None]))]
    scaled = [
        Frobenius(scale=unit)(in_other_units, u * unit[:, None], generator(1)),
        Frobenius(scale=[1.0, 1.0])(step, u, generator(1)),
    ]
    torch.testing.assert_close(scaled[0], scaled[1], rtol=1e-10, atol=0)
    torch.testing.assert_close(scaled[1], plain[0], rtol=1e-12, atol=0)
    assert (plain[1] / plain[0]).min() > 1e6
    columns = [
        jacobian_energy(s, x, kind="column", scale=c, generator=generator(1))
        for s, x, c in ((step, u, None), (in_other_units, u * unit[:, None], unit))
    ]
    torch.testing.assert_close(columns[0], columns[1], rtol=1e-10, atol=0)
    norms = [
        spectral_norm(s, x, scale=c, generator=generator(1))
        for s, x, c in ((step, u, None), (in_other_units, u * unit[:, None], unit))
    ]
    torch.testing.assert_close(norms[0], norms[1], rtol=1e-8, atol=0)


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


def test_lyapunov_exponent_of_the_logistic_map_and_of_a_linear_map():
    """ln 2 per step for x -> 4x(1 - x); the logarithm of the largest eigenvalue for a diagonal map."""
    u = torch.tensor([[[0.123456]], [[0.7321]]], dtype=torch.float64)
    found = leading_lyapunov(lambda x: 4 * x * (1 - x), u, 1500, 0.5, transient=50, generator=generator())
    # Finite-time exponents of this map scatter by about 1/steps^0.5 at worst: 2 % of ln 2.
    torch.testing.assert_close(
        found, torch.full((2,), math.log(2) / 0.5, dtype=torch.float64), rtol=0.02, atol=0
    )
    factors = torch.tensor([0.5, 1.25, 0.9], dtype=torch.float64)
    linear = leading_lyapunov(
        lambda x: factors * x,
        torch.ones(1, 1, 3, dtype=torch.float64),
        200,
        0.1,
        transient=200,
        generator=generator(),
    )
    assert linear.item() == pytest.approx(math.log(1.25) / 0.1, rel=1e-10)


def test_the_scale_head_learns_the_logarithm_of_the_expected_energy():
    """q(x) = c(x) chi^2_1: the optimum is log c, and not log c - 1.27, the mean of log q."""
    g = generator(16)
    x = torch.linspace(-1, 1, 32, dtype=torch.float32)
    u = x.reshape(1, 1, 32)
    level = torch.exp(2 * torch.sin(torch.pi * x))
    torch.manual_seed(0)
    jaws = JAWS(1, 1, kernel=5)
    optimiser = torch.optim.Adam(jaws.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.02, 1000)
    for _ in range(1000):
        # A diagonal step with entry sqrt(c) z has the row energy c chi^2_1 whatever the probe.
        z = torch.randn(32, 32, generator=g)
        s = jaws.log_variance(u)
        loss = (torch.exp(-s) * level * z.square() + s).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    error = (jaws.log_variance(u)[0] - level.log()).detach()
    assert error.abs().mean() < 0.1
    assert abs(error.mean().item()) < 0.1


def test_jaws_starts_as_the_uniform_penalty():
    step, u = network(), torch.randn(2, 1, 16, generator=generator(17), dtype=torch.float64)
    jaws = JAWS(1, 1).double()
    torch.testing.assert_close(jaws(step, u, generator(1)), Frobenius()(step, u, generator(1)))


def test_a_scale_beyond_its_limit_finds_back():
    """A plain clamp would have no gradient there. Above the upper limit the penalty pulls down."""
    jaws = JAWS(1, 1, limits=(-1.0, 1.0)).double()
    with torch.no_grad():
        jaws.head[2].bias.fill_(5.0)
    u = torch.zeros(1, 1, 8, dtype=torch.float64)
    jaws(lambda x: 0.1 * x, u).sum().backward()  # optimum log 0.01, far below
    assert jaws.head[2].bias.grad.item() > 0.1
    jaws.zero_grad()
    jaws(lambda x: 100 * x, u).sum().backward()  # optimum log 1e4, beyond the limit it is at
    assert jaws.head[2].bias.grad.item() == 0
    with torch.no_grad():
        jaws.head[2].bias.fill_(-5.0)
    for factor, pull in ((100.0, True), (0.1, False)):
        jaws.zero_grad()
        jaws(lambda x, f=factor: f * x, u).sum().backward()
        assert (jaws.head[2].bias.grad.item() < -0.1) is pull
        assert (jaws.head[2].bias.grad.item() == 0) is not pull
    with torch.no_grad():
        jaws.head[2].bias.fill_(5.0)
    assert jaws.diagnostics(lambda x: x, u)["clamped"].item() == 1.0
    assert jaws.diagnostics(lambda x: x, u)["log_variance"].max().item() == 1.0


def test_jaws_on_a_mesh_reads_nodes_alone_and_permutes_with_them():
    jaws = JAWS(2, 2, points="mesh").double()
    with torch.no_grad():
        jaws.head[2].weight.normal_(generator=generator(18))
    u = torch.randn(1, 2, 11, generator=generator(19), dtype=torch.float64)
    order = torch.randperm(11, generator=generator(20))
    assert jaws.log_variance(u).std() > 0.01
    torch.testing.assert_close(jaws.log_variance(u)[:, order], jaws.log_variance(u[..., order]))
    with pytest.raises(ValueError, match="points='mesh'"):
        JAWS(2, 2)(lambda x: x, u.float())


def test_unknown_options_are_refused_by_name():
    u = torch.zeros(1, 1, 4)
    with pytest.raises(ValueError, match="distribution='uniform'"):
        Frobenius(distribution="uniform")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="probes=0"):
        Frobenius(probes=0)
    with pytest.raises(ValueError, match="transpose"):
        jacobian_energy(lambda x: x, u, kind="column", mode="jvp")
    with pytest.raises(ValueError, match="channel scales"):
        Frobenius(scale=[1.0, 1.0])(lambda x: x, u)
    with pytest.raises(ValueError, match="positive numbers"):
        Frobenius(scale=[0.0])
    with pytest.raises(ValueError, match="odd"):
        JAWS(1, 1, kernel=4)
    with pytest.raises(ValueError, match="low < 0 < high"):
        JAWS(1, 1, limits=(1.0, 2.0))
    with pytest.raises(ValueError, match="iterations=0"):
        spectral_norm(lambda x: x, u, 0)
