"""Losses of rollouts that the data hold on to, for chaotic dynamics."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Literal, Protocol, get_args, runtime_checkable

import torch
from torch import Tensor, nn

from sciml.jacobian import jacobian_vector, spectral_norm, vector_jacobian
from sciml.objectives.base import Discrepancy, Norm, Objective, Parts

Estimator = Literal["product_upper_bound", "arithmetic_mean", "batch_maximum", "parameters"]

# States of at most this many numbers have their Jacobian written out; larger ones are multiplied with.
DENSE = 40


@runtime_checkable
class Latent(Protocol):
    """A step of hidden states that are seen through an observation."""

    def advance(self, z: Tensor, /) -> Tensor:
        """Hidden state (B, M) to the next."""

    def observe(self, z: Tensor, /) -> Tensor:
        """Hidden states (..., M) to observed ones (..., C)."""

    def infer(self, x: Tensor, /) -> Tensor:
        """Observed states (..., C) to what they say about the hidden ones (..., M)."""

    @property
    def held(self) -> Tensor:
        """Which hidden numbers the observation says, (M,) of ones and zeros."""


def forced_rollout(
    step: Callable[[Tensor], Tensor],
    states: Tensor,
    alpha: float | Tensor | Sequence[float | Tensor],
) -> Tensor:
    """A rollout that is pulled towards given states before every step.

        y_0 = x_0,   y_t = (1 - alpha) z_t + alpha x_t,   z_{t+1} = F(y_t)

    An observer with gain alpha: dz_{t+1}/dz_t = (1 - alpha) J(y_t), so gradients stay bounded however long the
    rollout is if (1 - alpha) |J| < 1 on average. alpha = 1 is one step from each state, alpha = 0 a free rollout.

    Args:
        step: F, (B, C, *points) to itself.
        states: x_0 to x_T, (B, T + 1, C, *points).
        alpha: the gain: a number, or a tensor that broadcasts with a state (C, *points), such as zeros for channels
            that are not held; or T - 1 of them, one for each of the times 1 to T - 1.

    Returns:
        z_1 to z_T, (B, T, C, *points), which are not pulled.
    """
    steps = states.shape[1] - 1
    gains = list(alpha) if isinstance(alpha, Sequence) else [alpha] * (steps - 1)
    if len(gains) != steps - 1:
        raise ValueError(f"forced_rollout got {len(gains)} gains; expected {steps - 1}, one a time.")
    if all(not isinstance(gain, Tensor) and gain in (0, 1) for gain in gains):
        return _restarted(step, states, [0, *(t for t, gain in enumerate(gains, start=1) if gain == 1)])
    z = step(states[:, 0])
    found = [z]
    for t, gain in enumerate(gains, start=1):
        y = z + gain * (states[:, t] - z) if isinstance(gain, Tensor) else torch.lerp(z, states[:, t], gain)
        z = step(y)
        found.append(z)
    return torch.stack(found, dim=1)


def _restarted(step: Callable[[Tensor], Tensor], states: Tensor, starts: Sequence[int]) -> Tensor:
    """Free rollouts from the states at some times, each until the next of them, all side by side.

    They do not depend on each other, so that full forcing is one call of the step. Nor does what follows a blow-up.
    """
    batch, steps = len(states), states.shape[1] - 1
    lengths = [end - start for start, end in zip(starts, [*starts[1:], steps], strict=True)]
    order = sorted(range(len(starts)), key=lambda i: -lengths[i])  # the longest first: the others drop out
    z = states[:, [starts[i] for i in order]].transpose(0, 1)  # (pieces, B, C, *points)
    found: list[list[Tensor]] = [[] for _ in starts]
    for k in range(max(lengths)):
        alive = sum(lengths[i] > k for i in order)
        z = step(z[:alive].flatten(0, 1)).unflatten(0, (alive, batch))
        for place, piece in enumerate(z):
            found[order[place]].append(piece)
    return torch.stack([state for piece in found for state in piece], dim=1)


class Alpha(nn.Module, ABC):
    """A gain that changes in the course of training; what it remembers are buffers."""

    @abstractmethod
    def forward(self, step: Callable[[Tensor], Tensor], states: Tensor) -> float:
        """The gain of this update, after what it learns from states (B, T, C, *points) in training mode."""


class FixedAlpha(Alpha):
    """A gain that stays.

    Args:
        value: the gain.

    Raises:
        ValueError: it is not between 0 and 1.
    """

    def __init__(self, value: float) -> None:
        super().__init__()
        if not 0 <= value <= 1:
            raise ValueError(f"FixedAlpha got {value}; expected a gain from 0 to 1.")
        self.value = float(value)

    def forward(self, step: Callable[[Tensor], Tensor], states: Tensor) -> float:
        return self.value


class AnnealedAlpha(Alpha):
    """From one gain to another, linearly in the updates of training.

    Args:
        end: the last gain.
        updates: updates until then.
        start: the first gain.

    Raises:
        ValueError: a gain is not between 0 and 1, or there is no update.
    """

    count: Tensor

    def __init__(self, end: float, updates: int, start: float = 1.0) -> None:
        super().__init__()
        if not (0 <= end <= 1 and 0 <= start <= 1) or updates < 1:
            raise ValueError(
                f"AnnealedAlpha got start={start}, end={end}, updates={updates}; expected gains from 0 to 1 and at "
                "least one update."
            )
        self.start, self.end, self.updates = float(start), float(end), int(updates)
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def forward(self, step: Callable[[Tensor], Tensor], states: Tensor) -> float:
        part = min(1.0, int(self.count) / self.updates)
        if self.training:
            self.count += 1
        return self.start + (self.end - self.start) * part


class AdaptiveAlpha(Alpha):
    """The smallest gain that keeps gradients bounded, alpha* = max(0, 1 - 1 / growth), followed with memory.

    Rises to alpha* at once and falls slowly, alpha <- gamma alpha + (1 - gamma) alpha*. How fast one step lets
    differences grow is estimated at the states of a batch, from the Jacobian J of the step there:

        product_upper_bound   the largest geometric mean of |J| along a window
        arithmetic_mean       |mean of J| over all states; may fall below what bounded gradients need
        batch_maximum         the largest |J| of the batch
        parameters            the step's own `growth_bound()`, no matter the states

    |J| is the largest singular value; for states of more than 40 numbers by power iteration, from below.

    Args:
        estimator: of the growth.
        gamma: memory of the fall, from 0 to below 1.
        every: updates between two estimates.
        start: the first gain.
        iterations: of the power iteration.

    Raises:
        ValueError: an option is unknown or a number out of range.

    Hess, Monfared, Brenner and Durstewitz, ICML 2023, arXiv 2306.04406, section 3.
    """

    value: Tensor
    count: Tensor

    def __init__(
        self,
        estimator: Estimator = "product_upper_bound",
        gamma: float = 0.999,
        every: int = 5,
        start: float = 1.0,
        iterations: int = 20,
    ) -> None:
        super().__init__()
        if estimator not in get_args(Estimator):
            raise ValueError(
                f"AdaptiveAlpha got estimator {estimator!r}; expected one of {list(get_args(Estimator))}."
            )
        if not 0 <= gamma < 1 or every < 1 or not 0 <= start <= 1 or iterations < 1:
            raise ValueError(
                f"AdaptiveAlpha got gamma={gamma}, every={every}, start={start}, iterations={iterations}; expected "
                "gamma from 0 to below 1, a start from 0 to 1, and at least 1 of the others."
            )
        self.estimator, self.gamma = estimator, float(gamma)
        self.every, self.iterations = int(every), int(iterations)
        self.register_buffer("value", torch.tensor(float(start), dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def follow(self, growth: float) -> float:
        """Take in one estimate of the growth; returns the new gain."""
        wanted = max(0.0, 1.0 - 1.0 / growth) if growth > 0 else 0.0
        now = float(self.value)
        self.value.fill_(wanted if wanted > now else self.gamma * now + (1 - self.gamma) * wanted)
        return float(self.value)

    def forward(self, step: Callable[[Tensor], Tensor], states: Tensor) -> float:
        if self.training:
            if int(self.count) % self.every == 0:
                found = growth(step, states, self.estimator, self.iterations)
                if found < float("inf"):  # a blow-up, or no number, says nothing about the gain
                    self.follow(found)
            self.count += 1
        return float(self.value)


@torch.no_grad()
def growth(
    step: Callable[[Tensor], Tensor],
    states: Tensor,
    estimator: Estimator = "product_upper_bound",
    iterations: int = 20,
) -> float:
    """How much one step enlarges small differences, at states (B, T, C, *points); see `AdaptiveAlpha`.

    Raises:
        ValueError: "parameters" is asked of a step that has no `growth_bound()`.
    """
    if estimator == "parameters":
        bound = getattr(step, "growth_bound", None)
        if bound is None:
            raise ValueError(
                f"a {type(step).__name__} has no growth_bound() of its parameters; choose another estimator."
            )
        return float(bound())
    flat = states.flatten(0, 1)
    if flat[0].numel() > DENSE:
        if estimator == "arithmetic_mean":
            return _norm_of_mean(step, flat, iterations)
        norms = spectral_norm(step, flat, iterations)
    else:
        jacobian = _dense(step, flat)
        if estimator == "arithmetic_mean":
            return float(torch.linalg.matrix_norm(jacobian.mean(dim=0), 2))
        # The largest eigenvalue of J^T J is several times cheaper than a decomposition by singular values.
        norms = torch.linalg.eigvalsh(jacobian.mT @ jacobian)[:, -1].clamp_min(0).sqrt()
    if estimator == "batch_maximum":
        return float(norms.max())
    tiny = torch.finfo(norms.dtype).tiny
    logs = norms.clamp_min(tiny).log().reshape(states.shape[:2])
    return float(logs.mean(dim=1).exp().max())


def _dense(step: Callable[[Tensor], Tensor], u: Tensor) -> Tensor:
    """Jacobians (S, n, n) at states (S, C, *points): the step's own where it states them, else row by row."""
    own = getattr(step, "jacobian", None)
    size = u[0].numel()
    if own is not None and u.ndim == 2:
        found: Tensor = own(u)
        return found
    rows = torch.eye(size, dtype=u.dtype, device=u.device).reshape(size, *u.shape[1:])
    _, pulled = vector_jacobian(
        step, u.repeat_interleave(size, dim=0), rows.repeat(len(u), *[1] * (u.ndim - 1))
    )
    return pulled.reshape(len(u), size, size)


def _norm_of_mean(step: Callable[[Tensor], Tensor], u: Tensor, iterations: int) -> float:
    """|mean of J| over states (S, C, *points) by power iteration."""
    generator = torch.Generator().manual_seed(0)
    v = torch.randn(u.shape[1:], generator=generator, dtype=torch.float64).to(u)
    norm = v.new_ones(())
    for _ in range(iterations + 1):
        v = v / v.norm().clamp_min(torch.finfo(v.dtype).tiny)
        y = jacobian_vector(step, u, v.expand_as(u).contiguous())[1].mean(dim=0)
        norm = y.norm()
        v = vector_jacobian(step, u, y.expand_as(u).contiguous())[1].mean(dim=0)
    return float(norm)


def _rolled(
    step: Callable[[Tensor], Tensor] | Latent, window: Tensor, alpha: float | Sequence[float]
) -> Tensor:
    """Predictions (B, T, C, *points) of a forced rollout, through the observation where there is one."""
    if not isinstance(step, Latent):
        return forced_rollout(step, window, alpha)
    inferred, held = step.infer(window), step.held
    if bool((held == 1).all()):
        return step.observe(forced_rollout(step.advance, inferred, alpha))
    # What is not observed starts from a guess that is learned with the model, and is free from there.
    several = alpha if isinstance(alpha, Sequence) else [alpha] * (window.shape[1] - 2)
    return step.observe(forced_rollout(step.advance, inferred, [gain * held for gain in several]))


def _compared(discrepancy: Discrepancy, found: Tensor, window: Tensor) -> tuple[Tensor, Parts]:
    """The mean loss, and for the log those after 1, 2, 4, ... steps and after the last."""
    losses = discrepancy(found.flatten(0, 1), window[:, 1:].flatten(0, 1))
    loss, steps = losses.mean(), found.shape[1]
    each = losses.detach().reshape(-1, steps).mean(dim=0)
    told = sorted({*(2**i for i in range(steps.bit_length())), steps})
    return loss, {"forced": loss.detach(), **{f"step_{k}": each[k - 1] for k in told}}


def _checked(window: Tensor, steps: int, owner: str) -> Tensor:
    """The first `steps` + 1 states of a window (B, T, C, *points), *points being none for systems without space."""
    if window.ndim < 3 or window.shape[1] < steps + 1:
        raise ValueError(
            f"{owner} got a window of shape {tuple(window.shape)}; expected (B, T, C, *points) with T >= "
            f"{steps + 1}."
        )
    return window[:, : steps + 1]


class GeneralizedTeacherForcing(Objective):
    """Long rollouts whose state is blended with the data before every step, so that gradients stay bounded.

    The loss compares what the step predicts before it is blended, over all `steps` steps: L = mean_t l(z_t, x_t)
    with z from `forced_rollout`; the log has the loss after 1, 2, 4, ... steps and after the last. With alpha = 1 this
    is one-step training on all pairs of the window, with 0 backpropagation through a free rollout. Too large a gain
    learns the noise of the states, too small a one cannot be optimised on chaotic data; the useful range depends on
    how much differences grow per step.

    Args:
        steps: T. Several Lyapunov times are a good length.
        alpha: the gain, a number from 0 to 1 or an `Alpha` such as `AdaptiveAlpha`.
        norm: see `Discrepancy`.
        channel_scale: see `Discrepancy`.

    Raises:
        ValueError: a number is out of range.

    Hess, Monfared, Brenner and Durstewitz, ICML 2023, arXiv 2306.04406, equations 5 to 9.
    """

    def __init__(
        self,
        steps: int = 50,
        alpha: float | Alpha = 0.1,
        norm: Norm = "mse",
        channel_scale: Sequence[float] | Tensor | None = None,
    ) -> None:
        super().__init__()
        if steps < 1:
            raise ValueError(f"GeneralizedTeacherForcing got steps={steps}; expected at least 1.")
        self.steps = self.horizon = int(steps)
        self.alpha: Alpha = alpha if isinstance(alpha, Alpha) else FixedAlpha(alpha)
        self.discrepancy = Discrepancy(norm, channel_scale)

    def forward(
        self,
        step: Callable[[Tensor], Tensor],
        window: Tensor,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Parts]:
        window = _checked(window, self.steps, type(self).__name__)
        inner = step.advance if isinstance(step, Latent) else step
        alpha = self.alpha(inner, step.infer(window) if isinstance(step, Latent) else window)
        found = _rolled(step, window, alpha)
        loss, parts = _compared(self.discrepancy, found, window)
        return loss, {**parts, "alpha": loss.new_tensor(alpha)}


class SparseTeacherForcing(Objective):
    """Long rollouts whose state is replaced by the data every so many steps, and free between.

    With `every` = 1 this is one-step training on all pairs of the window. About ln 2 over the leading Lyapunov
    exponent is the interval to begin with.

    Args:
        steps: T.
        every: steps between two replacements, the first being the start.
        norm: see `Discrepancy`.
        channel_scale: see `Discrepancy`.

    Raises:
        ValueError: a number is out of range.

    Mikhaeil, Monfared and Durstewitz, NeurIPS 2022, arXiv 2110.07238.
    """

    def __init__(
        self,
        steps: int = 50,
        every: int = 16,
        norm: Norm = "mse",
        channel_scale: Sequence[float] | Tensor | None = None,
    ) -> None:
        super().__init__()
        if steps < 1 or every < 1:
            raise ValueError(
                f"SparseTeacherForcing got steps={steps}, every={every}; expected at least 1 of both."
            )
        self.steps = self.horizon = int(steps)
        self.every = int(every)
        self.discrepancy = Discrepancy(norm, channel_scale)

    def forward(
        self,
        step: Callable[[Tensor], Tensor],
        window: Tensor,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Parts]:
        window = _checked(window, self.steps, type(self).__name__)
        gains = [1.0 if t % self.every == 0 else 0.0 for t in range(1, self.steps)]
        found = _rolled(step, window, gains)
        return _compared(self.discrepancy, found, window)
