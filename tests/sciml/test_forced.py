"""Teacher forcing against one-step training, backpropagation through time, and the law of its gradients."""

from __future__ import annotations

import io

import pytest
import torch
from torch import nn

from sciml.models.latent import PLRNN
from sciml.objectives import (
    AdaptiveAlpha,
    AnnealedAlpha,
    GeneralizedTeacherForcing,
    SparseTeacherForcing,
    Unrolled,
)
from sciml.objectives.forced import forced_rollout, growth

torch.set_num_threads(1)


class Bent(nn.Module):
    """A smooth map of any shape of state, mixing neighbours along the last axis."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor([0.9, 0.4], dtype=torch.float64))

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        return self.a[0] * u + self.a[1] * torch.sin(u.roll(1, -1))


def windows(shape: tuple[int, ...], frames: int = 8, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(3, frames, *shape, generator=generator, dtype=torch.float64)


def loss_and_gradient(objective, step, window):
    step.zero_grad()
    loss, _ = objective(step, window)
    loss.backward()
    return loss.detach(), torch.cat([p.grad.flatten() for p in step.parameters()])


STEPS = [(Bent, (2, 5)), (Bent, (1, 4, 3)), (lambda: PLRNN(4, hidden=7).double(), (4,))]


@pytest.mark.parametrize(("make", "shape"), STEPS)
def test_full_forcing_is_one_step_training_on_all_pairs(make, shape):
    torch.manual_seed(0)
    step, window = make(), windows(shape)
    loss, gradient = loss_and_gradient(GeneralizedTeacherForcing(7, 1.0), step, window)
    step.zero_grad()
    pairs = (step(window[:, :-1].flatten(0, 1)) - window[:, 1:].flatten(0, 1)).square().mean()
    pairs.backward()
    torch.testing.assert_close(loss, pairs.detach(), rtol=1e-12, atol=0)
    own = torch.cat([p.grad.flatten() for p in step.parameters()])
    torch.testing.assert_close(gradient, own, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(("make", "shape"), STEPS)
def test_no_forcing_is_backpropagation_through_the_rollout(make, shape):
    torch.manual_seed(0)
    step, window = make(), windows(shape)
    loss, gradient = loss_and_gradient(GeneralizedTeacherForcing(7, 0.0), step, window)
    step.zero_grad()
    u, total = window[:, 0], 0.0
    for k in range(1, 8):
        u = step(u)
        total = total + (u - window[:, k]).square().mean() / 7
    total.backward()
    torch.testing.assert_close(loss, total.detach(), rtol=1e-12, atol=0)
    own = torch.cat([p.grad.flatten() for p in step.parameters()])
    torch.testing.assert_close(gradient, own, rtol=1e-12, atol=1e-13)


def test_sparse_forcing_at_every_step_is_full_forcing_and_never_is_none():
    torch.manual_seed(0)
    step, window = PLRNN(4, hidden=7).double(), windows((4,))
    for every, alpha in ((1, 1.0), (7, 0.0)):
        sparse = loss_and_gradient(SparseTeacherForcing(7, every), step, window)
        general = loss_and_gradient(GeneralizedTeacherForcing(7, alpha), step, window)
        torch.testing.assert_close(sparse, general, rtol=1e-13, atol=0)


def test_sparse_forcing_restarts_every_so_many_steps():
    torch.manual_seed(0)
    step, window = PLRNN(4, hidden=7).double(), windows((4,), frames=7)
    loss, gradient = loss_and_gradient(SparseTeacherForcing(6, 3), step, window)
    halves = [loss_and_gradient(Unrolled(3), Windowed(step), window[:, s : s + 4, :, None]) for s in (0, 3)]
    torch.testing.assert_close(loss, (halves[0][0] + halves[1][0]) / 2, rtol=1e-12, atol=0)
    torch.testing.assert_close(gradient, (halves[0][1] + halves[1][1]) / 2, rtol=1e-12, atol=1e-13)


class Windowed(nn.Module):
    """A map of (B, C) seen as one of (B, C, 1)."""

    def __init__(self, step: nn.Module) -> None:
        super().__init__()
        self.step = step

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        return self.step(u.squeeze(-1)).unsqueeze(-1)


@pytest.mark.parametrize("alpha", [0.0, 0.02, 1 - 1 / 1.05, 0.1])
def test_the_gradient_grows_as_the_gain_allows(alpha):
    # z' = a z with a > 1: the part of z_T that hangs on z_0 is a ((1 - alpha) a)^(T - 1) for the T-th prediction.
    a, steps = 1.05, 500
    states = torch.zeros(1, steps + 1, 1, dtype=torch.float64)
    start = torch.ones(1, 1, dtype=torch.float64, requires_grad=True)
    forced = torch.cat([start.unsqueeze(1), states[:, 1:]], dim=1)
    last = forced_rollout(lambda z: a * z, forced, alpha)[0, -1, 0]
    (slope,) = torch.autograd.grad(last, start)
    expected = a * ((1 - alpha) * a) ** (steps - 1)
    assert float(slope) == pytest.approx(expected, rel=1e-10)
    if alpha == 1 - 1 / 1.05:
        assert float(slope) == pytest.approx(a, rel=1e-10)


def test_a_gain_per_channel_holds_those_channels_alone():
    window = windows((2,), frames=5)
    step = lambda z: z @ torch.tensor([[0.5, 0.2], [-0.3, 0.8]], dtype=torch.float64)  # noqa: E731
    gain = torch.tensor([1.0, 0.0], dtype=torch.float64)
    found = forced_rollout(step, window, gain)
    z = window[:, 0]
    for t in range(1, 5):
        z = step(z)
        torch.testing.assert_close(found[:, t - 1], z, rtol=1e-13, atol=1e-13)
        z = torch.stack([window[:, t, 0], z[:, 1]], dim=1)


def test_a_blow_up_does_not_reach_beyond_the_next_replacement():
    window = windows((1,), frames=7)
    window[0, 2] = 50.0

    def step(z):
        return torch.where(z > 10, torch.inf, 0.5 * z)

    for every, lost in ((1, [2]), (2, [2, 3]), (3, [])):
        gains = [1.0 if t % every == 0 else 0.0 for t in range(1, 6)]
        found = forced_rollout(step, window, gains)
        assert (~torch.isfinite(found[0, :, 0])).nonzero().flatten().tolist() == lost
        assert bool(torch.isfinite(found[1:]).all())


def test_gains_of_one_and_none_in_any_order():
    torch.manual_seed(0)
    step, window = PLRNN(4, hidden=7).double(), windows((4,), frames=9)
    gains = [0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    found = forced_rollout(step, window, gains)
    z = step(window[:, 0])
    for t in range(8):
        torch.testing.assert_close(found[:, t], z, rtol=1e-12, atol=1e-13)
        if t < 7:
            z = step(window[:, t + 1] if gains[t] == 1 else z)


def test_the_log_has_the_loss_of_some_steps_each():
    torch.manual_seed(0)
    step, window = PLRNN(4, hidden=7).double(), windows((4,), frames=8)
    for objective in (GeneralizedTeacherForcing(7, 0.3), SparseTeacherForcing(7, 3)):
        total, parts = objective(step, window)
        assert [name for name in parts if name.startswith("step_")] == [
            "step_1",
            "step_2",
            "step_4",
            "step_7",
        ]
        gains = [0.3] * 6 if "alpha" in parts else [0.0, 0.0, 1.0] * 2
        each = (forced_rollout(step, window, gains) - window[:, 1:]).square().mean(dim=(0, 2))
        for k in (1, 2, 4, 7):
            torch.testing.assert_close(parts[f"step_{k}"], each[k - 1].detach())
        torch.testing.assert_close(total, each.mean())


def test_the_controller_rises_at_once_and_falls_slowly():
    alpha = AdaptiveAlpha(start=0.0, gamma=0.999)
    assert [round(alpha.follow(g), 6) for g in (2.0, 1.5, 3.0)] == [0.5, 0.499833, 0.666667]
    assert AdaptiveAlpha(start=1.0).follow(2.0) == pytest.approx(0.9995)
    assert AdaptiveAlpha(start=0.0).follow(0.7) == 0.0


def test_the_controller_is_stored_with_the_model_and_learns_in_training_only():
    torch.manual_seed(0)
    step, window = PLRNN(3, hidden=5).double(), windows((3,))
    objective = GeneralizedTeacherForcing(7, AdaptiveAlpha(every=2, gamma=0.5))
    objective.eval()
    objective(step, window)
    assert float(objective.alpha.value) == 1.0 and int(objective.alpha.count) == 0
    objective.train()
    seen = [float(objective(step, window)[1]["alpha"]) for _ in range(5)]
    assert seen[0] == seen[1] > seen[2] == seen[3] > seen[4]
    file = io.BytesIO()
    torch.save(objective.state_dict(), file)
    file.seek(0)
    other = GeneralizedTeacherForcing(7, AdaptiveAlpha(every=2, gamma=0.5))
    other.load_state_dict(torch.load(file, weights_only=True))
    assert float(other.alpha.value) == seen[4] and int(other.alpha.count) == 5


def test_estimates_of_growth_against_dense_jacobians():
    torch.manual_seed(3)
    step, window = PLRNN(4, hidden=9).double(), windows((4,), frames=6)
    dense = torch.stack(
        [
            torch.autograd.functional.jacobian(lambda x: step(x.unsqueeze(0))[0], row)
            for row in window.flatten(0, 1)
        ]
    )
    norms = torch.linalg.svdvals(dense)[:, 0].reshape(3, 6)
    expected = {
        "product_upper_bound": max(float(row.prod()) ** (1 / 6) for row in norms),
        "batch_maximum": float(norms.max()),
        "arithmetic_mean": float(torch.linalg.svdvals(dense.mean(dim=0))[0]),
        "parameters": float(step.growth_bound()),
    }
    for name, value in expected.items():
        assert growth(step, window, name) == pytest.approx(value, rel=1e-9), name
    # The same from autograd, for a step that does not state its Jacobian, and with axes of points.
    plain = lambda z: step(z)  # noqa: E731
    assert growth(plain, window) == pytest.approx(expected["product_upper_bound"], rel=1e-9)
    assert growth(Windowed(step), window.unsqueeze(-1)) == pytest.approx(
        expected["product_upper_bound"], rel=1e-9
    )
    with pytest.raises(ValueError, match="growth_bound"):
        growth(plain, window, "parameters")


def test_large_states_are_multiplied_with_instead(monkeypatch):
    torch.manual_seed(3)
    step, window = PLRNN(4, hidden=9).double(), windows((4,), frames=6)
    exact = {name: growth(step, window, name) for name in ("product_upper_bound", "arithmetic_mean")}
    monkeypatch.setattr("sciml.objectives.forced.DENSE", 1)
    for name, value in exact.items():
        # Power iteration comes from below; 60 products leave less than 1e-3 where two singular values are near.
        found = growth(step, window, name, iterations=60)
        assert value * (1 - 1e-3) < found <= value * (1 + 1e-9), name


def test_annealing_is_linear_and_ends():
    alpha = AnnealedAlpha(end=0.2, updates=4)
    seen = [alpha(nn.Identity(), windows((2,))) for _ in range(6)]
    assert seen == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2, 0.2])


def test_wrong_arguments_are_refused():
    for wrong in (
        lambda: GeneralizedTeacherForcing(0),
        lambda: GeneralizedTeacherForcing(5, 1.5),
        lambda: SparseTeacherForcing(5, 0),
        lambda: AdaptiveAlpha("mean"),
        lambda: AdaptiveAlpha(gamma=1.0),
        lambda: AnnealedAlpha(0.1, 0),
        lambda: forced_rollout(nn.Identity(), windows((2,)), [0.5]),
        lambda: GeneralizedTeacherForcing(9)(nn.Identity(), windows((2,))),
    ):
        with pytest.raises(ValueError, match="got"):
            wrong()
