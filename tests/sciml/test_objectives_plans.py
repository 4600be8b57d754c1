"""Starts, unrolling and schedules: what they compute, what they need, and what they cost."""

from __future__ import annotations

import io
import math

import pytest
import torch
from torch import Tensor, nn

from sciml import iterate, rollout
from sciml.objectives import (
    Constant,
    Diverted,
    Doubling,
    FreeSteps,
    Geometric,
    Noise,
    NoisyOneStep,
    OneStep,
    Plateau,
    Pushforward,
    Ramp,
    RandomWalkNoise,
    Stairs,
    Start,
    Unrolled,
    WeightedSum,
)
from sciml.objectives.schedules import counted

N = 32


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Linear(nn.Module):
    """F(u) = W u on 32 points; counts the samples it is called on."""

    def __init__(self, seed: int = 0, size: int = N) -> None:
        super().__init__()
        noise = torch.randn(size, size, generator=generator(seed), dtype=torch.float64)
        self.w = nn.Parameter(torch.eye(size, dtype=torch.float64) * 0.9 + 0.3 * noise / size**0.5)
        self.samples = 0

    def forward(self, u: Tensor) -> Tensor:
        self.samples += len(u)
        return u @ self.w.T


def window(batch: int = 3, frames: int = 8, seed: int = 1, channels: int = 1) -> Tensor:
    return torch.randn(batch, frames, channels, N, generator=generator(seed), dtype=torch.float64)


def gradient(total: Tensor, step: Linear) -> Tensor:
    return torch.autograd.grad(total, step.w)[0]


def assert_same(a: tuple[Tensor, object], b: tuple[Tensor, object], step: Linear) -> None:
    assert torch.equal(a[0], b[0])
    assert torch.equal(gradient(a[0], step), gradient(b[0], step))


# Schedules


def test_schedules_pass_through_their_corners():
    ramp = Ramp(0.0, 1.0, updates=10, after=5)
    assert [ramp.at(n) for n in (0, 5, 10, 15, 99)] == [0.0, 0.0, 0.5, 1.0, 1.0]
    falling = Geometric(1e-1, 1e-3, updates=4)
    assert [falling.at(n) for n in range(5)] == pytest.approx([10 ** (-1 - n / 2) for n in range(5)])
    assert falling.limits == (1e-3, 1e-1) and falling.at(9) == 1e-3
    stairs = Stairs([1, 2, 5], [10, 20])
    assert [stairs.at(n) for n in (0, 9, 10, 19, 20, 500)] == [1, 1, 2, 2, 5, 5]
    doubling = Doubling(1, 6, every=3)
    assert [doubling.at(n) for n in (0, 2, 3, 6, 9, 10**9)] == [1, 1, 2, 4, 6, 6]
    assert Constant(3).at(7) == 3


@pytest.mark.parametrize(
    "make",
    [
        lambda: Ramp(0, 1, updates=0),
        lambda: Geometric(0.0, 1.0, updates=3),
        lambda: Stairs([1, 2], [3, 4]),
        lambda: Stairs([1, 2, 3], [4, 4]),
        lambda: Doubling(2, 1, every=3),
        lambda: Plateau(0, 4),
        lambda: Plateau(1, 4, improvement=1.0),
        lambda: Unrolled(Ramp(0, 3, 10)),
        lambda: NoisyOneStep(Ramp(-0.1, 0.0, 10)),
        lambda: Unrolled(2.5),  # type: ignore[arg-type]
        lambda: FreeSteps(True) and FreeSteps(1.5),  # type: ignore[arg-type]
    ],
)
def test_schedules_out_of_range_are_refused(make):
    with pytest.raises(ValueError, match="expected"):
        make()


def test_a_curriculum_asks_for_the_longest_window_and_goes_on_after_a_restart():
    step, data = Linear(), window()
    first = Unrolled(Doubling(1, 4, every=2))
    assert first.horizon == 4
    seen = [int(first(step, data)[1]["steps"]) for _ in range(3)]
    stored = first.state_dict()
    assert all(isinstance(value, Tensor) for value in stored.values())  # as checkpoints want them
    second = Unrolled(Doubling(1, 4, every=2))
    second.load_state_dict(stored)
    seen += [int(second(step, data)[1]["steps"]) for _ in range(3)]
    assert seen == [1, 1, 2, 2, 4, 4]
    second.eval()
    for _ in range(3):
        second(step, data)
    assert second.steps.updates == 6  # evaluation does not count
    torch.testing.assert_close(second(step, data)[0], Unrolled(4)(step, data)[0], rtol=0, atol=0)


def test_a_curriculum_doubles_where_the_loss_no_longer_falls():
    """A step that does not learn: means of two updates, the first is the least, two more do not fall."""
    step, data = Linear(), window()
    curriculum = Plateau(1, 4, every=2, patience=2)
    first, second = Unrolled(curriculum), Unrolled(curriculum)
    assert first.horizon == 4
    seen = [int(first(step, data)[1]["steps"]) for _ in range(9)]
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.load_state_dict(torch.load(file, weights_only=True))
    second.eval()
    for _ in range(5):  # evaluation is not heard
        second(step, data)
    second.train()
    seen += [int(second(step, data)[1]["steps"]) for _ in range(7)]
    assert seen == [1] * 6 + [2] * 6 + [4] * 4
    pushed = Pushforward(Plateau(1, 2, every=1, patience=3))
    assert [int(pushed(step, data)[1]["free_steps"]) for _ in range(6)] == [1, 1, 1, 1, 2, 2]
    both = WeightedSum([OneStep(), OneStep()], [1.0, Plateau(4.0, 1.0, every=1, patience=1)])
    totals = [float(both(step, data)[0].detach()) for _ in range(4)]
    one = float(OneStep()(step, data)[0].detach())
    # The sum falls when the weight does, by more than a hundredth.
    assert totals == pytest.approx([5 * one, 5 * one, 3 * one, 3 * one])


def test_a_plateau_waits_for_the_loss():
    falling = counted(Plateau(8.0, 1.0, every=1, patience=2, improvement=0.1), "Owner.value", 0.0)
    values = []
    for loss in (1.0, 0.8, 0.75, 0.6, 0.59, 0.58, 3.0, 2.9, 2.8, 2.0):
        values.append(falling())
        falling.hear(torch.tensor(loss))
    # 0.75 and then 0.59, 0.58 are not a tenth below the least; after a change the least is forgotten.
    assert values == [8, 8, 8, 8, 8, 8, 4, 4, 4, 2]
    with pytest.raises(ValueError, match="follows a loss"):
        Plateau(1, 4).at(0)


def test_plain_numbers_leave_nothing_in_a_checkpoint():
    start = [FreeSteps(2), Noise(0.1)]
    assert not Unrolled(3, start=start, norm="mae", channel_scale=[2.0]).state_dict()


def test_noise_free_steps_and_weights_follow_their_schedules():
    step, data = Linear(), window()
    noisy = NoisyOneStep(Stairs([0.0, 0.3], [1]))
    assert_same(noisy(step, data, generator()), OneStep()(step, data), step)
    assert noisy(step, data, generator())[1]["noise_std"] == pytest.approx(0.3)
    free = Pushforward(Ramp(0, 2, updates=2))
    assert [free(step, data)[1]["free_steps"].item() for _ in range(4)] == [0, 1, 2, 2]
    both = WeightedSum([OneStep(), Unrolled(3)], [Constant(1.0), Stairs([0.0, 0.5], [1])])
    assert_same(both(step, data), OneStep()(step, data), step)
    total, parts = both(step, data)
    expected = OneStep()(step, data)[0] + 0.5 * Unrolled(3)(step, data)[0]
    torch.testing.assert_close(total, expected)
    assert {"OneStep.loss", "Unrolled.loss", "Unrolled.step_3"} <= parts.keys()
    assert both.horizon == 3


# Reduction to one step


@pytest.mark.parametrize("norm", ["mse", "relative_l2"])
@pytest.mark.parametrize(
    "make",
    [
        lambda **k: Unrolled(1, start=FreeSteps(0), **k),
        lambda **k: Unrolled(1, start=[FreeSteps(0, "sample"), Noise(0.0)], **k),
        lambda **k: Unrolled(1, draw="batch", **k),
        lambda **k: Unrolled(1, draw="sample", **k),
        lambda **k: Unrolled(Constant(1), checkpoint=True, gradient_norms=True, **k),
        lambda **k: Pushforward(Constant(0), random=True, **k),
        lambda **k: WeightedSum([Unrolled(1, **k)]),
        lambda **k: WeightedSum([OneStep(**k), Unrolled(4)], [1.0, 0.0]),
    ],
)
def test_every_plan_reduces_to_one_step_bit_for_bit(make, norm):
    step, data = Linear(), window()
    assert_same(make(norm=norm)(step, data, generator()), OneStep(norm)(step, data), step)


def test_systems_without_space_are_trained_like_fields():
    step, data = Linear(size=3), torch.randn(5, 6, 3, generator=generator(), dtype=torch.float64)
    for objective in (
        OneStep(),
        Unrolled(3),
        Pushforward(2),
        NoisyOneStep(0.1, channel_scale=[1.0, 2.0, 3.0]),
    ):
        total, _ = objective(step, data, generator())
        assert torch.isfinite(gradient(total, step)).all()
    expected = (step(data[:, 0]) - data[:, 1]).square().mean()
    torch.testing.assert_close(OneStep()(step, data)[0], expected)
    with pytest.raises(ValueError, match="T >= 2"):
        OneStep()(step, data[:, 0])


# Starts


def test_a_pushforward_start_and_several_steps_compose():
    step, data = Linear(), window()
    with torch.no_grad():
        reached = step(step(data[:, 0]))
    follow = torch.cat([reached.unsqueeze(1), data[:, 3:]], dim=1)
    hybrid = Unrolled(3, start=FreeSteps(2))
    assert hybrid.horizon == 5
    assert_same(hybrid(step, data), Unrolled(3)(step, follow), step)


def test_free_steps_of_each_sample_and_lengths_of_each_sample():
    step, data = Linear(), window(batch=6)
    objective = Unrolled(3, start=FreeSteps(2, "sample"), draw="sample")
    assert objective.horizon == 5
    total, parts = objective(step, data, generator(4))
    g = generator(4)
    free = torch.randint(0, 3, (6,), generator=g)
    length = torch.randint(1, 4, (6,), generator=g)
    assert len(set(free.tolist())) == len(set(length.tolist())) == 3
    expected = torch.zeros((), dtype=torch.float64)
    for b in range(6):
        r, k = int(free[b]), int(length[b])
        one = data[b : b + 1, : r + k + 1]
        start = FreeSteps(r) if r else None
        expected = expected + Unrolled(k, start=start)(step, one)[0] / 6
    torch.testing.assert_close(total, expected, rtol=1e-13, atol=0)
    torch.testing.assert_close(gradient(total, step), gradient(expected, step), rtol=1e-12, atol=1e-15)
    assert parts["steps"].item() == pytest.approx(length.double().mean().item())
    step.samples = 0
    objective(step, data, generator(4))
    assert step.samples == int(free.sum() + length.sum())  # nobody is carried further than he goes


def test_random_lengths_come_from_the_generator_and_are_uniform():
    step, data = Linear(), window()
    objective = Unrolled(3, draw="batch")
    g = generator(5)
    drawn = [int(objective(step, data, g)[1]["steps"]) for _ in range(300)]
    # 100 expected each, standard deviation 8: five of them.
    assert all(drawn.count(k) > 60 for k in (1, 2, 3))
    g.manual_seed(5)
    assert [int(objective(step, data, g)[1]["steps"]) for _ in range(300)] == drawn


def test_carried_noise_shrinks_by_its_factor_at_every_step():
    """A step that multiplies by 1 - gamma, on data that it makes, carries the noise exactly."""
    gamma = 0.4
    first = window(batch=3, frames=1)
    data = torch.cat([first * (1 - gamma) ** k for k in range(5)], dim=1)
    objective = Unrolled(4, start=Noise(0.5, gamma), reduction="sum")
    assert objective(lambda u: (1 - gamma) * u, data, generator())[0] < 1e-28
    assert objective(lambda u: u, data, generator())[0] > 0.1


def test_random_walk_noise_has_its_size_at_the_last_velocity_and_leaves_the_next_one_clean():
    n, std = 6, 6.7e-4
    x0 = torch.rand(50_000, 1, 2, generator=generator(1))
    velocity = 0.01 * torch.randn(50_000, n, 2, generator=generator(2))
    x = torch.cat([x0, x0 + velocity.cumsum(1)], dim=1)  # 7 frames of 50,000 particles in 2D, (B, T, C)
    objective = Unrolled(1, start=RandomWalkNoise(std), history=n)
    assert objective.horizon == n
    start, span = objective.starts[0], objective.spans[0]
    noisy, _ = start(lambda u: u, x, span, generator(3))
    assert torch.equal(noisy[:, 0], x[:, 0])
    last = (noisy[:, n - 1] - noisy[:, n - 2]) - (x[:, n - 1] - x[:, n - 2])
    # 1e5 draws: 0.22 % for the standard deviation; float32 positions round by 3e-8, 5e-5 of it.
    assert last.std().item() == pytest.approx(std, rel=0.02)
    wanted = noisy[:, n] - noisy[:, n - 1]  # the velocity that the target asks for
    torch.testing.assert_close(wanted, x[:, n] - x[:, n - 1], rtol=0, atol=1e-6)
    offset = noisy[:, n - 1] - x[:, n - 1]
    torch.testing.assert_close(noisy[:, n] - x[:, n], offset, rtol=0, atol=2e-7)
    assert offset.abs().mean() > std
    # The walk accumulates: the variance of the velocity grows linearly along the history.
    moved = (noisy[:, 1:n] - noisy[:, : n - 1]) - (x[:, 1:n] - x[:, : n - 1])
    spread = moved.var(dim=(0, 2)) / std**2
    torch.testing.assert_close(spread, torch.arange(1, n) / (n - 1.0), rtol=0.03, atol=0)
    with pytest.raises(ValueError, match="two frames"):
        Unrolled(1, start=RandomWalkNoise(std))


def test_noise_stays_off_held_nodes():
    nodes = torch.arange(N) >= 4
    data = window(frames=7)
    for objective in (
        Unrolled(1, start=RandomWalkNoise(0.1, nodes=nodes), history=3),
        Unrolled(2, start=Noise(0.1, 0.5, nodes=nodes)),
    ):
        noisy, _ = objective.starts[0](lambda u: u, data, objective.spans[0], generator())
        assert torch.equal(noisy[..., :4], data[..., :4])
        assert (noisy[..., 4:] != data[..., 4:]).any()


def test_diverted_targets_are_the_solvers_and_need_no_data():
    step, solver = Linear(), Linear(seed=3)
    for p in solver.parameters():
        p.requires_grad_(False)
    objective = Unrolled(3, start=[FreeSteps(2), Diverted(solver)])
    assert objective.window.frames == 1  # the first state is enough
    data = window(frames=1)
    with torch.no_grad():
        z = step(step(data[:, 0]))
        branch = rollout(solver, 3)(z)
    assert_same(objective(step, data), Unrolled(3)(step, branch), step)


def test_branches_that_blow_up_are_dropped_and_counted():
    step, data = Linear(), window(batch=4)
    data[1] *= 1e3

    def solver(u: Tensor) -> Tensor:
        return torch.where(u.flatten(1).abs().amax(1).reshape(-1, 1, 1) > 100, math.nan, 0.5 * u)

    objective = Unrolled(2, start=Diverted(solver))
    total, parts = objective(step, data)
    assert parts["dropped"] == 1
    rest = data[[0, 2, 3]]
    assert torch.equal(total, objective(step, rest)[0])
    limited = Unrolled(2, start=Diverted(lambda u: 0.5 * u, limit=100.0))
    assert torch.equal(limited(step, data)[0], total)
    none, parts = objective(step, data[1:2])
    assert parts["dropped"] == 1 and none == 0
    assert torch.equal(gradient(none, step), torch.zeros(N, N, dtype=torch.float64))


def test_a_start_of_ones_own_composes_with_the_rest():
    class Doubled(Start):
        def forward(self, step, window, span, generator=None):
            return 2 * window, {"doubled": torch.ones(())}

    step, data = Linear(), window()
    total, parts = Unrolled(2, start=[Doubled(), FreeSteps(1)])(step, data)
    assert torch.equal(total, Unrolled(2, start=FreeSteps(1))(step, 2 * data)[0])
    assert parts["doubled"] == 1


# Bundles and histories


class Several(nn.Module):
    """Powers of W at once: frames W u to W^m u."""

    def __init__(self, bundle: int) -> None:
        super().__init__()
        self.inner = Linear()
        self.bundle = bundle
        self.calls = 0

    def ahead(self, u: Tensor) -> Tensor:
        self.calls += 1
        return rollout(self.inner, self.bundle)(u)[:, 1:]

    def forward(self, u: Tensor) -> Tensor:
        return self.ahead(u)[:, 0]


@pytest.mark.parametrize("checkpoint", [False, True])
def test_a_bundle_is_compared_frame_by_frame(checkpoint):
    step, data = Several(3), window()
    bundled = Unrolled(2, bundle=3, checkpoint=checkpoint, start=Noise(0.0))
    assert bundled.horizon == 6
    total, parts = bundled(step, data)
    assert step.calls == 2 and "step_6" in parts
    plain = Unrolled(6)(step.inner, data)[0]
    torch.testing.assert_close(total, plain, rtol=1e-14, atol=0)
    torch.testing.assert_close(gradient(total, step.inner), gradient(plain, step.inner))
    pushed = Unrolled(1, bundle=3, start=FreeSteps(1))
    assert pushed.horizon == 6
    expected = Unrolled(3, start=FreeSteps(3))(step.inner, data)[0]
    torch.testing.assert_close(pushed(step, data)[0], expected, rtol=1e-14, atol=0)
    with pytest.raises(ValueError, match="bundles of 2"):
        Unrolled(1, bundle=2)(step, data)


def test_rollouts_take_all_frames_of_a_bundle():
    step, u0 = Several(3), window()[:, 0]
    expected = rollout(step.inner, 7)(u0)
    found = rollout(step, 7)(u0)
    assert step.calls == 3
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.stack(list(iterate(step, u0, 7)), dim=1), expected)
    torch.testing.assert_close(rollout(step, 7, checkpoint=True)(u0), expected)
    assert rollout(step, 0)(u0).shape[1] == 1


def test_a_step_with_history_sees_the_frames_side_by_side():
    """Two frames in: u_{k+1} = 2 u_k - u_{k-1} on channels, compared in the newest frame only."""

    def inertia(state: Tensor) -> Tensor:
        old, new = state.chunk(2, dim=1)
        return torch.cat([new, 2 * new - old], dim=1)

    start, velocity = window(frames=1, channels=2), window(frames=1, channels=2, seed=2)
    line = torch.cat([start + k * velocity for k in range(7)], dim=1)
    objective = Unrolled(3, history=2, reduction="sum")
    assert objective.horizon == 4
    assert objective(inertia, line)[0] < 1e-26
    bent = line.clone()
    bent[:, 3] += 1.0  # the second predicted frame
    total, parts = objective(inertia, bent)
    assert total.item() == pytest.approx(1.0) and parts["step_2"].item() == pytest.approx(1.0)


# What is logged


@pytest.mark.parametrize("reach", ["full", "none"])
def test_gradient_norms_are_those_of_the_states(reach):
    step, data = Linear(), window()
    objective = Unrolled(3, gradient=reach, gradient_norms=True, reduction="sum")
    total, parts = objective(step, data)
    assert math.isnan(parts["gradient_3"].item())
    total.backward()
    with torch.no_grad():
        u = rollout(step, 3)(data[:, 0])
    adjoint, expected = torch.zeros_like(u[:, 0]), {}
    for k in (3, 2, 1):
        direct = 2 * (u[:, k] - data[:, k]) / u[:, k].numel()
        adjoint = direct + (adjoint @ step.w if reach == "full" else 0)
        expected[f"gradient_{k}"] = adjoint.norm().item()
    assert {k: parts[k].item() for k in expected} == pytest.approx(expected, rel=1e-12)


# Memory


class Kept:
    """Counts the bytes that graphs keep for their backward passes, each piece of memory once."""

    def __init__(self, step: nn.Module, data: Tensor) -> None:
        self.free = {p.untyped_storage().data_ptr() for p in step.parameters()}
        self.free.add(data.untyped_storage().data_ptr())
        self.users: dict[int, int] = {}
        self.now = self.peak = 0

    def pack(self, tensor: Tensor) -> Held:
        return Held(tensor, self)


class Held:
    def __init__(self, tensor: Tensor, kept: Kept) -> None:
        self.tensor, self.kept = tensor, kept
        storage = tensor.untyped_storage()
        self.pointer, self.size = storage.data_ptr(), storage.nbytes()
        if self.pointer in kept.free:
            self.size = 0
        users = kept.users.get(self.pointer, 0)
        kept.users[self.pointer] = users + 1
        if not users:
            kept.now += self.size
            kept.peak = max(kept.peak, kept.now)

    def __del__(self) -> None:
        self.kept.users[self.pointer] -= 1
        if not self.kept.users[self.pointer]:
            self.kept.now -= self.size


def saved_bytes(objective: nn.Module, step: nn.Module, data: Tensor) -> int:
    """The most that is kept at a time while a loss is computed."""
    kept = Kept(step, data)
    with torch.autograd.graph.saved_tensors_hooks(kept.pack, lambda held: held.tensor):
        total, _ = objective(step, data)
        total.backward()
    assert kept.now == 0
    return kept.peak


class Deep(nn.Module):
    """A step with many activations to keep."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(N, N).double() for _ in range(12))

    def forward(self, u: Tensor) -> Tensor:
        for layer in self.layers:
            u = torch.tanh(layer(u))
        return u


def test_memory_is_linear_in_steps_flat_for_pushforward_and_of_states_only_with_checkpoints():
    step, data = Deep(), window(batch=64, frames=14)
    one = saved_bytes(OneStep(), step, data)
    lengths = (4, 8, 12)
    full = [saved_bytes(Unrolled(k), step, data) for k in lengths]
    slopes = [(b - a) / 4 for a, b in zip(full, full[1:], strict=False)]
    assert slopes == pytest.approx([one, one], rel=0.1)
    state = data[:, 0].nbytes
    pushed = [saved_bytes(Pushforward(r), step, data) for r in lengths]
    # The state that was reached and its target are a copy beside the data; one-step training starts in them.
    assert pushed == [one + 2 * state] * 3
    cut = [saved_bytes(Unrolled(k, gradient="none"), step, data) for k in lengths]
    assert cut == pytest.approx([one] * 3, rel=0.15) and max(cut) - min(cut) <= 0.05 * one
    pairs = [saved_bytes(Unrolled(k, gradient=2), step, data) for k in lengths]
    assert pairs == pytest.approx([2 * one] * 3, rel=0.15) and max(pairs) - min(pairs) <= 0.05 * one
    kept = [saved_bytes(Unrolled(k, checkpoint=True), step, data) for k in lengths]
    # Inputs of the steps (the first is the data's) and differences from the targets: no activation.
    assert kept == [(2 * k - 1) * state for k in lengths]


def test_gradients_taken_early_are_those_of_the_whole_graph():
    """A step that is no module keeps the whole graph: the same losses and gradients, complex weights too."""

    class Complex(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            noise = torch.randn(N // 2 + 1, generator=generator(), dtype=torch.complex128)
            self.w = nn.Parameter(0.9 + 0.1 * noise)
            self.unused = nn.Parameter(torch.ones(2))

        def forward(self, u: Tensor) -> Tensor:
            return torch.tanh(torch.fft.irfft(self.w * torch.fft.rfft(u), n=N))

    step, data = Complex(), window(batch=5)
    for options in ({}, {"draw": "sample"}, {"reduction": "sum", "weights": [1, 0, 2, 3, 0.5]}):
        objective = Unrolled(5, gradient=2, gradient_norms=True, **options)  # type: ignore[arg-type]
        found, parts = objective(step, data, generator(2))
        (3 * found).backward()
        plain, others = objective(lambda u: step(u), data, generator(2))
        (expected,) = torch.autograd.grad(3 * plain, step.w)
        torch.testing.assert_close(found, plain, rtol=1e-14, atol=0)
        assert step.w.grad is not None and step.unused.grad is None
        torch.testing.assert_close(step.w.grad, expected, rtol=1e-12, atol=1e-15)
        assert parts.keys() == others.keys()
        step.w.grad = None


# What unrolling is for


def test_longer_unrolling_brings_a_learned_stencil_nearer_to_the_stable_one():
    """Advection by 0.75 cells of waves 1 to 5, a stencil of two points: the one-step optimum amplifies, upwind does not.

    List, Chen, Bali and Thuerey print 0.033, 0.025 and 0.017 for 1, 5 and 20 steps.
    """
    courant, steps = 0.75, 20
    amplitude = torch.randn(32, 5, 1, generator=generator(), dtype=torch.float64)
    shift = 2 * torch.pi * torch.rand(32, 5, 1, generator=generator(1), dtype=torch.float64)
    x = torch.arange(N, dtype=torch.float64) * 2 * torch.pi / N
    k = torch.arange(1, 6, dtype=torch.float64).reshape(1, -1, 1)
    frames = [
        amplitude * torch.sin(k * (x - 2 * torch.pi * courant * t / N) + shift) for t in range(steps + 1)
    ]
    data = torch.stack([u.sum(dim=1, keepdim=True) for u in frames], dim=1)

    class Stencil(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.tensor([0.6, 0.3], dtype=torch.float64))

        def forward(self, u: Tensor) -> Tensor:
            return self.w[0] * u.roll(1, -1) + self.w[1] * u

    distances = []
    for length in (1, 5, 20):
        step, objective = Stencil(), Unrolled(length)
        optimizer = torch.optim.LBFGS(step.parameters(), max_iter=60, line_search_fn="strong_wolfe")

        def closure(step=step, objective=objective, optimizer=optimizer):
            optimizer.zero_grad()
            total, _ = objective(step, data)
            total.backward()
            return total

        optimizer.step(closure)
        upwind = torch.tensor([courant, 1 - courant], dtype=torch.float64)
        distances.append((step.w.detach() - upwind).norm().item())
    assert distances[0] > 1.05 * distances[1] > 1.3 * distances[2]
    assert distances == pytest.approx([0.033, 0.025, 0.017], rel=0.25)
