"""Losses against gradients worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from sciml import rollout
from sciml.objectives import (
    NoisyOneStep,
    OneStep,
    Pushforward,
    Regularized,
    RelativeL2Map,
    Unrolled,
)
from sciml.regularizers import JAWS, Frobenius

N, K = 32, 4


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Linear(nn.Module):
    """F(u) = W u on 32 points."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        noise = torch.randn(N, N, generator=generator(seed), dtype=torch.float64)
        self.w = nn.Parameter(torch.eye(N, dtype=torch.float64) * 0.9 + 0.3 * noise / N**0.5)

    def forward(self, u: Tensor) -> Tensor:
        return u @ self.w.T


def window(batch: int = 3, frames: int = K + 1, seed: int = 1) -> Tensor:
    return torch.randn(batch, frames, 1, N, generator=generator(seed), dtype=torch.float64)


def gradient(objective: nn.Module, step: Linear, data: Tensor) -> Tensor:
    (g,) = torch.autograd.grad(objective(step, data)[0], step.w)
    return g


def analytic(w: Tensor, data: Tensor, reach: int) -> Tensor:
    """d/dW of sum_k mean |W^k u_0 - u_k|^2, with the adjoint carried back over at most `reach` steps.

    lambda_j is the derivative of the loss in the j-th state; the chain is cut before step k where
    (k - 1) is a multiple of `reach`.
    """
    u = [data[:, 0, 0]]
    for _ in range(K):
        u.append(u[-1] @ w.T)
    total = torch.zeros_like(w)
    adjoint = torch.zeros_like(u[0])
    for k in range(K, 0, -1):
        adjoint = adjoint + 2 * (u[k] - data[:, k, 0]) / u[k].numel()
        total += adjoint.T @ u[k - 1]
        adjoint = torch.zeros_like(adjoint) if (k - 1) % reach == 0 else adjoint @ w
    return total


@pytest.mark.parametrize("reach", [1, 2, 3, K])
def test_gradients_of_a_linear_step_are_the_analytic_ones(reach):
    step, data = Linear(), window()
    objective = Unrolled(K, gradient=reach, reduction="sum")
    expected = analytic(step.w.detach(), data, reach)
    torch.testing.assert_close(gradient(objective, step, data), expected, rtol=1e-10, atol=1e-12)


def test_full_and_none_are_the_ends_of_truncation_and_differ():
    step, data = Linear(), window()
    full, none = (gradient(Unrolled(K, gradient=g), step, data) for g in ("full", "none"))
    assert torch.equal(full, gradient(Unrolled(K, gradient=K), step, data))
    assert torch.equal(none, gradient(Unrolled(K, gradient=1), step, data))
    assert (full - none).norm() > 0.1 * full.norm()


def test_none_is_the_sum_of_one_step_gradients_at_held_states():
    step, data = Linear(), window()
    with torch.no_grad():
        states = rollout(step, K - 1)(data[:, 0])
    total = sum(
        gradient(OneStep(), step, torch.stack([states[:, k], data[:, k + 1]], dim=1)) for k in range(K)
    )
    found = gradient(Unrolled(K, gradient="none", reduction="sum"), step, data)
    torch.testing.assert_close(found, total, rtol=1e-12, atol=1e-14)


def test_mean_is_the_sum_over_k_and_weights_choose():
    step, data = Linear(), window()
    summed, mean = (Unrolled(K, reduction=r)(step, data)[0] for r in ("sum", "mean"))
    torch.testing.assert_close(mean * K, summed)
    last, parts = Unrolled(K, reduction="sum", weights=[0, 0, 0, 1])(step, data)
    assert last.item() == parts[f"step_{K}"].item()
    assert set(parts) == {"step_1", "step_2", "step_3", "step_4"}
    assert not any(part.requires_grad for part in parts.values())


def test_checkpointing_changes_nothing_but_memory():
    step, data = Linear(), window()
    plain, saved = (gradient(Unrolled(K, checkpoint=c), step, data) for c in (False, True))
    torch.testing.assert_close(plain, saved, rtol=0, atol=1e-12)


@pytest.mark.parametrize("norm", ["mse", "mae", "relative_l2"])
@pytest.mark.parametrize("scale", [None, [0.3]])
@pytest.mark.parametrize(
    "make",
    [
        lambda **k: Unrolled(1, **k),
        lambda **k: Unrolled(1, gradient="none", reduction="sum", **k),
        lambda **k: Pushforward(0, **k),
        lambda **k: NoisyOneStep(0.0, **k),
    ],
    ids=["unrolled", "cut", "pushforward", "noise"],
)
def test_every_plan_reduces_to_one_step_bit_for_bit(make, norm, scale):
    step, data = Linear(), window()
    one, other = OneStep(norm, scale), make(norm=norm, channel_scale=scale)
    assert torch.equal(one(step, data)[0], other(step, data)[0])
    assert torch.equal(gradient(one, step, data), gradient(other, step, data))
    assert one(step, data)[1].keys() == other(step, data)[1].keys()


def test_pushforward_is_one_step_from_the_state_the_model_reached():
    step, data = Linear(), window()
    with torch.no_grad():
        reached = step(step(data[:, 0]))
    expected = gradient(OneStep(), step, torch.stack([reached, data[:, 3]], dim=1))
    assert torch.equal(gradient(Pushforward(2), step, data), expected)


def test_random_pushforward_draws_every_number_of_free_steps_from_its_generator():
    step, data = Linear(), window()
    objective, g = Pushforward(2, random=True), generator(5)
    drawn = [objective(step, data, g)[1]["free_steps"].item() for _ in range(300)]
    counts = [drawn.count(r) for r in (0, 1, 2)]
    assert sum(counts) == 300
    # 100 expected each, standard deviation 8: five of them.
    assert min(counts) > 60
    g.manual_seed(5)
    assert [objective(step, data, g)[1]["free_steps"].item() for _ in range(300)] == drawn


def test_noise_has_the_stated_size_and_goes_where_it_may():
    nodes = torch.arange(N) >= 4
    scale = [2.0]
    seen: list[Tensor] = []

    def step(u: Tensor) -> Tensor:
        seen.append(u)
        return u

    data = torch.zeros(400, 2, 1, N, dtype=torch.float64)
    absorb = NoisyOneStep(0.1, nodes=nodes, channel_scale=scale)
    carry = NoisyOneStep(0.1, gamma=0.0, nodes=nodes, channel_scale=scale)
    assert absorb(step, data, generator(6))[0] > 0
    assert carry(step, data, generator(6))[0] == 0  # the identity carries all of the noise
    assert seen[0][..., :4].abs().max() == 0
    # 11,200 draws: relative error of a standard deviation 1/sqrt(2 * 11200) = 0.7 %.
    assert seen[0][..., 4:].std().item() == pytest.approx(0.2, rel=0.03)


def test_noise_is_a_jacobian_penalty_to_second_order():
    """E l(F(u + s e), y) = l(F(u), y) + s^2 ||J||_F^2 / n, exactly for a linear step."""
    step, s = Linear(), 0.1
    data = window(batch=1, frames=2).expand(20_000, 2, 1, N)
    plain = OneStep()(step, data)[0]
    noisy = NoisyOneStep(s)(step, data, generator(7))[0]
    penalty = s**2 * step.w.square().sum() / N
    # 20,000 samples: the cross term scatters by about 2 s sqrt(l)/sqrt(n 20000), 1 % of the penalty.
    assert ((noisy - plain) / penalty).item() == pytest.approx(1.0, abs=0.05)


def test_norms_are_what_their_formulae_say():
    pred = torch.tensor([[[3.0, 0.0]], [[1.0, 1.0]]], dtype=torch.float64)
    target = torch.tensor([[[0.0, 4.0]], [[1.0, 0.0]]], dtype=torch.float64)
    data = torch.stack([pred, target], dim=1)
    values = {norm: OneStep(norm)(lambda u: u, data)[0].item() for norm in ("mse", "mae", "relative_l2")}
    assert values == pytest.approx(
        {"mse": (12.5 + 0.5) / 2, "mae": (3.5 + 0.5) / 2, "relative_l2": (5 / 4 + 1) / 2}
    )


def test_channel_scale_makes_unlike_units_weigh_alike():
    data = torch.randn(4, 2, 2, 8, generator=generator(8), dtype=torch.float64)
    unit = torch.tensor([1.0, 1e5], dtype=torch.float64)
    expected = OneStep()(lambda u: u, data)[0]
    found = OneStep(channel_scale=unit)(lambda u: u, data * unit[:, None])[0]
    torch.testing.assert_close(found, expected)
    assert OneStep()(lambda u: u, data * unit[:, None])[0] > 1e8 * expected
    with pytest.raises(ValueError, match="2 channel scales for 1 channels"):
        OneStep(channel_scale=unit)(lambda u: u, data[:, :, :1])
    with pytest.raises(ValueError, match="positive"):
        OneStep(channel_scale=[0.0])


@pytest.mark.parametrize("objective", [OneStep(), Unrolled(3), Pushforward(2), NoisyOneStep(0.1)])
def test_short_windows_are_refused_with_the_horizon_to_ask_for(objective):
    with pytest.raises(ValueError, match="Ask the data for a horizon of at least"):
        objective(Linear(), window(frames=1))


def test_shapes_and_arguments_are_checked():
    with pytest.raises(ValueError, match="they must agree"):
        OneStep()(lambda u: u[..., :3], window())
    with pytest.raises(ValueError, match="known|expected one of"):
        OneStep("l7")  # type: ignore[arg-type]
    for arguments in ({"steps": 0}, {"steps": 2, "gradient": 0}, {"steps": 2, "weights": [1.0]}):
        with pytest.raises(ValueError, match="Unrolled got"):
            Unrolled(**arguments)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="steps=-1"):
        Pushforward(-1)
    with pytest.raises(ValueError, match="gamma"):
        NoisyOneStep(0.1, gamma=2.0)


def test_regularized_adds_what_it_says_with_a_linear_warm_up():
    step, data = Linear(), window()
    penalty = Frobenius()(step, data[:, 0], generator(9)).mean()
    loss = OneStep()(step, data)[0]
    for scale_free in (True, False):
        objective = Regularized(OneStep(), Frobenius(), 0.1, warmup=4, scale_free=scale_free)
        for update in range(7):
            total, parts = objective(step, data, generator(9))
            weight = 0.1 * min(update / 4, 1)
            base = torch.log(loss + 1e-12) if scale_free else loss
            torch.testing.assert_close(total, base + weight * penalty)
            assert parts["weight"].item() == pytest.approx(weight)
            assert parts["loss"].item() == loss.item()
            assert parts["penalty"].item() == pytest.approx(penalty.item())
        assert objective.updates.item() == 7


def test_a_penalty_at_every_third_update_has_the_same_mean_gradient():
    step, data = Linear(), window()
    always, rarely = (Regularized(OneStep(), Frobenius(), 0.1, every=m) for m in (1, 3))
    # The penalty of a linear step and one probe is quadratic in the same noise: equal generators agree.
    expected = torch.autograd.grad(always(step, data, generator(1))[0], step.w)[0]
    found, logged = torch.zeros_like(expected), []
    for _ in range(6):
        total, parts = rarely(step, data, generator(1))
        found += torch.autograd.grad(total, step.w)[0] / 6
        logged.append(math.isnan(parts["penalty"].item()))
    torch.testing.assert_close(found, expected)
    assert logged == [False, True, True] * 2
    rarely.eval()
    torch.testing.assert_close(rarely(step, data, generator(1))[0], always(step, data, generator(1))[0])


def test_the_scale_free_form_does_not_see_the_size_of_the_field():
    """Scaling u for a linear step scales the loss, not the gradient."""
    step, data = Linear(), window()
    objective = Regularized(OneStep(), Frobenius(), 0.1)
    small, large = (
        torch.autograd.grad(objective(step, data * c, generator(1))[0], step.w)[0] for c in (1e-3, 1.0)
    )
    # The floor of 1e-12 under a loss of 1e-6 is felt in the sixth digit.
    torch.testing.assert_close(small, large, rtol=1e-5, atol=1e-6)


def test_a_resumed_run_goes_on_with_the_warm_up_and_evaluation_does_not_count():
    step, data = Linear(), window()
    first = Regularized(OneStep(), JAWS(1, 1).double(), 0.1, warmup=10)
    for _ in range(3):
        first(step, data, generator(1))
    first.eval()
    first(step, data, generator(1))
    second = Regularized(OneStep(), JAWS(1, 1).double(), 0.1, warmup=10)
    second.load_state_dict(first.state_dict())
    assert second.updates.item() == 3
    total, _ = second.train()(step, data, generator(1))
    first.train()
    assert torch.equal(total, first(step, data, generator(1))[0])
    assert second.updates.item() == first.updates.item() == 4


def test_map_loss_is_the_mean_of_relative_errors():
    inputs = torch.randn(5, 3, 8, generator=generator(10), dtype=torch.float64)
    targets = torch.randn(5, 1, 8, generator=generator(11), dtype=torch.float64)
    factors = torch.linspace(0.5, 2.0, 5, dtype=torch.float64).reshape(5, 1, 1)
    total, parts = RelativeL2Map()(lambda a: targets * factors, (inputs, targets))
    assert total.item() == pytest.approx((factors - 1).abs().mean().item(), rel=1e-14)
    assert parts["relative_l2"].item() == total.item()
    assert math.isclose(RelativeL2Map()(lambda a: targets, (inputs, targets))[0].item(), 0.0)
