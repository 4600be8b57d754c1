from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from sciml.models import MODELS, NeuralODE
from sciml.models.latent import DenseField


def made(seed=0, **options) -> NeuralODE:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return NeuralODE(**{"in_channels": 2, "width": 8, "rtol": 1e-9, "atol": 1e-9, **options}).double()


def states(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("method", ["tsitouras", "dormand-prince"])
def test_a_turn_and_a_decay_come_out_as_they_are(method):
    def spiral(u):
        return torch.stack([-0.3 * u[:, 0] - 2 * u[:, 1], 2 * u[:, 0] - 0.3 * u[:, 1]], dim=1)

    ode = NeuralODE(2, spiral, duration=1.7, method=method, rtol=1e-10, atol=1e-10)
    u = states(5, 2)
    z = torch.complex(u[:, 0], u[:, 1]) * torch.exp(torch.tensor((-0.3 + 2j) * 1.7, dtype=torch.complex128))
    assert torch.allclose(ode(u), torch.stack([z.real, z.imag], 1), rtol=0, atol=1e-8)
    s = ode.statistics
    assert s.accepted == len(s.times) - 1 and s.times[0] == 0 and s.times[-1] == pytest.approx(1.7)
    assert s.evaluations == 2 + 6 * (s.accepted + s.rejected)


def test_the_same_network_acts_at_each_point_of_a_grid():
    ode = made()
    u = states(3, 2, 4, 5)
    alone = ode(u.permute(0, 2, 3, 1).reshape(-1, 2)).reshape(3, 4, 5, 2).permute(0, 3, 1, 2)
    assert torch.allclose(ode(u), alone, rtol=0, atol=1e-7)  # the steps are others


def test_a_convolution_is_a_method_of_lines():
    """u_t = D u_xx on a periodic grid of second order, against its own Fourier symbol."""
    n, d = 16, 0.05
    layer = nn.Conv1d(1, 1, 3, padding=1, padding_mode="circular", bias=False).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[[1.0, -2.0, 1.0]]]) * d * n**2)
    ode = NeuralODE(1, layer, duration=0.2, rtol=1e-10, atol=1e-10)
    u = states(2, 1, n)
    k = torch.fft.rfftfreq(n, dtype=torch.float64) * 2 * math.pi
    decay = torch.exp(0.2 * d * n**2 * (2 * torch.cos(k) - 2))
    expected = torch.fft.irfft(torch.fft.rfft(u) * decay, n=n)
    assert torch.allclose(ode(u), expected, rtol=0, atol=1e-8)


def test_a_field_that_sees_the_time():
    class Clock(nn.Module):
        def forward(self, u):
            return u[:, :1] * torch.cos(u[:, 1:])

    ode = NeuralODE(1, Clock(), duration=2.0, timed=True, rtol=1e-10, atol=1e-10)
    u = torch.ones(1, 1, dtype=torch.float64)
    found = ode.trajectory(u, (0.0, 0.5, 2.0))
    assert found[0, :, 0].tolist() == pytest.approx(
        [1.0, math.exp(math.sin(0.5)), math.exp(math.sin(2.0))], rel=1e-8
    )
    assert made(timed=True)(states(3, 2)).shape == (3, 2)


def gradients(ode, u, weights, times=(0.0, 0.4, 1.0)):
    u = u.clone().requires_grad_()
    loss = (ode.trajectory(u, times) * weights).square().sum()
    return torch.autograd.grad(loss, (u, *ode.parameters()))


@pytest.mark.parametrize("timed", [False, True])
def test_both_gradients_agree_with_finite_differences(timed):
    u, weights = states(3, 2), states(3, 3, 2, seed=1)
    through = gradients(made(timed=timed), u, weights)
    adjoint = gradients(made(timed=timed, gradient="adjoint"), u, weights)
    for a, b in zip(through, adjoint, strict=True):
        assert float((a - b).norm()) < 1e-6 * float(a.norm())
    ode, eps = made(timed=timed), 1e-5
    p = next(ode.parameters())
    direction = states(*p.shape, seed=2)
    ends = []
    for sign in (1, -1):
        with torch.no_grad():
            p.add_(sign * eps * direction)
            ends.append(float((ode.trajectory(u, (0.0, 0.4, 1.0)) * weights).square().sum()))
            p.sub_(sign * eps * direction)
    assert float((through[1] * direction).sum()) == pytest.approx((ends[0] - ends[1]) / (2 * eps), rel=1e-6)


def test_forward_derivatives_pass_through_the_solver():
    ode, u, v = made(), states(2, 2), states(2, 2, seed=3)
    _, product = torch.func.jvp(ode, (u,), (v,))
    eps = 1e-5
    assert torch.allclose(product, (ode(u + eps * v) - ode(u - eps * v)) / (2 * eps), rtol=0, atol=1e-6)


def saved_bytes(ode, u):
    """Memory of the tensors that the forward pass keeps for the backward one."""
    total = 0

    def pack(x):
        nonlocal total
        total += x.numel() * x.element_size()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        ode(u)
    return total, ode.statistics.accepted


def test_the_adjoint_needs_no_memory_for_steps():
    u = states(4, 2).requires_grad_()
    kept = {}
    for gradient in ("through", "adjoint"):
        for tolerance in (1e-3, 1e-10):
            ode = made(gradient=gradient, rtol=tolerance, atol=tolerance, duration=5.0)
            kept[gradient, tolerance] = saved_bytes(ode, u)
    assert kept["adjoint", 1e-10][0] == kept["adjoint", 1e-3][0]
    assert kept["adjoint", 1e-10][1] > 3 * kept["adjoint", 1e-3][1]
    growth = kept["through", 1e-10][0] / kept["through", 1e-3][0]
    assert growth > 2.5


def test_it_is_a_network_of_a_study_with_nested_parts():
    from sciml.experiments import components

    assert "NeuralODE" in MODELS
    facts = {"in_channels": 3, "out_channels": 3, "dimension": 1}
    plain = components.build(
        {"class_path": "NeuralODE", "init_args": {"width": 5}}, "network", "network", facts
    )
    assert isinstance(plain.field, DenseField) and plain(states(2, 3).float()).shape == (2, 3)
    field = {"class_path": "ConvNet", "init_args": {"width": 4, "hidden_layers": 1, "activation": "tanh"}}
    nested = components.build(
        {"class_path": "NeuralODE", "init_args": {"field": field}}, "network", "network", facts
    )
    assert nested(states(2, 3, 8).float()).shape == (2, 3, 8)


def test_wrong_options_are_refused():
    with pytest.raises(ValueError, match="expected one of"):
        NeuralODE(2, method="euler")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="positive numbers"):
        NeuralODE(2, rtol=0.0)
    with pytest.raises(ValueError, match=r"expected \(B, 2"):
        made()(states(3, 3))
    with pytest.raises(ArithmeticError, match="max_steps"):
        made(max_steps=1, rtol=1e-12, atol=1e-12)(states(3, 2))
