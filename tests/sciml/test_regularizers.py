"""Jacobian estimates against dense Jacobians."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sciml.jacobian import jacobian_energy, spectral_norm
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
