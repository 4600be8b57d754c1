"""What a training loss promises, and how two states are compared."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

Norm = Literal["mse", "mae", "relative_l2"]

Parts = dict[str, Tensor]


class Objective(nn.Module, ABC):
    """A training loss as a value: (step, window) -> number to minimise, and what it is made of.

    The trainer knows nothing else. An objective neither reads files nor changes the step; what it
    remembers (warm-up counters, adaptive weights) are buffers and parameters, stored with the model.
    `horizon` says how many states after the first one a window must have. `shares` says that it calls the step at
    the window's first states as a plain map and is differentiated as a whole, so that a penalty that has been there
    before may hand on its pass (`sciml.jacobian.Remembered`).
    """

    horizon: int = 1
    shares: bool = False

    @abstractmethod
    def forward(
        self,
        step: Callable[..., Tensor],
        window: Tensor,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Parts]:
        """The loss of a step on windows of consecutive states.

        Args:
            step: (B, C, *points) -> (B, C, *points); for the residual of an equation, a function u(x, t).
            window: (B, T, C, *points), the step's `dt` apart.
            generator: of whatever is random.

        Returns:
            The total, a scalar with gradient, and named parts, scalars without, for the log.
        """


def checked_window(window: Tensor, frames: int, owner: str) -> Tensor:
    """The window, if it has enough frames; those of systems without space are (B, T, C).

    Raises:
        ValueError: it has fewer than `frames`, or no axis of channels.
    """
    if window.ndim < 3 or window.shape[1] < frames:
        raise ValueError(
            f"{owner} got a window of shape {tuple(window.shape)}; expected (B, T, C, *points) with "
            f"T >= {frames}. Ask the data for a horizon of at least {frames - 1}."
        )
    return window


class ChannelScale(nn.Module):
    """A typical size of each channel, or none: what noise is multiplied by and differences are divided by.

    Args:
        values: one positive number a channel (C,), or None for ones.

    Raises:
        ValueError: a number is not positive, or the field has another number of channels.
    """

    values: Tensor | None

    def __init__(self, values: Sequence[float] | Tensor | None) -> None:
        super().__init__()
        scale = None
        if values is not None:
            scale = torch.as_tensor(values, dtype=torch.float64).detach().clone()
            if scale.ndim != 1 or not bool((torch.isfinite(scale) & (scale > 0)).all()):
                raise ValueError(
                    f"Objective got channel_scale {scale.tolist()}; expected one positive number a channel."
                )
        self.register_buffer("values", scale, persistent=False)

    def forward(self, u: Tensor, axis: int = 1) -> Tensor:
        """u times the scale of each channel, which are on `axis`."""
        return u if self.values is None else u * self._shaped(u, axis)

    def divide(self, u: Tensor, axis: int = 1) -> Tensor:
        """u in units of the scale."""
        return u if self.values is None else u / self._shaped(u, axis)

    def _shaped(self, u: Tensor, axis: int) -> Tensor:
        assert self.values is not None
        if self.values.shape != u.shape[axis : axis + 1]:
            raise ValueError(
                f"Objective has {len(self.values)} channel scales for {u.shape[axis]} channels."
            )
        return self.values.to(u).reshape(-1, *[1] * (u.ndim - 1 - axis))


class Distance(nn.Module, ABC):
    """How far two states are from each other, for where a norm by name does not do."""

    @abstractmethod
    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        """One number per sample, (B, C, *points) twice -> (B,)."""


class Discrepancy(nn.Module):
    """Distance of two states, one number per sample, (B, C, *points) twice -> (B,).

    Args:
        norm: "mse" mean square over channels and points, "mae" mean absolute value, "relative_l2" root
            of the summed squares over that of the target; or a `Distance`.
        channel_scale: a typical size of each channel (C,), such as the standard deviation of the state
            or of its change in one step; divides both states, so that unlike units weigh alike.

    Raises:
        ValueError: the norm is unknown, or a scale is not positive.
    """

    def __init__(
        self, norm: Norm | Distance = "mse", channel_scale: Sequence[float] | Tensor | None = None
    ) -> None:
        super().__init__()
        if not isinstance(norm, Distance) and norm not in get_args(Norm):
            raise ValueError(
                f"Objective got norm {norm!r}; expected one of {list(get_args(Norm))} or a Distance."
            )
        self.norm = norm
        self.name = norm if isinstance(norm, str) else type(norm).__name__
        self.scale = ChannelScale(channel_scale)

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        if pred.shape != target.shape:
            raise ValueError(
                f"Objective compares a prediction of shape {tuple(pred.shape)} with a target of shape "
                f"{tuple(target.shape)}; they must agree."
            )
        if isinstance(self.norm, Distance):
            return self.norm(self.scale.divide(pred), self.scale.divide(target))
        error = self.scale.divide(pred - target).flatten(1)
        if self.norm == "mse":
            return error.square().mean(dim=1)
        if self.norm == "mae":
            return error.abs().mean(dim=1)
        tiny = torch.finfo(error.dtype).tiny
        return error.norm(dim=1) / self.scale.divide(target).flatten(1).norm(dim=1).clamp_min(tiny)
