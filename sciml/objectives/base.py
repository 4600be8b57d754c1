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
    `horizon` says how many states after the first one a window must have.
    """

    horizon: int = 1

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
    """The window, if it has enough frames.

    Raises:
        ValueError: it has fewer than `frames`, or no axes of points.
    """
    if window.ndim < 4 or window.shape[1] < frames:
        raise ValueError(
            f"{owner} got a window of shape {tuple(window.shape)}; expected (B, T, C, *points) with "
            f"T >= {frames}. Ask the data for a horizon of at least {frames - 1}."
        )
    return window


class Discrepancy(nn.Module):
    """Distance of two states, one number per sample, (B, C, *points) twice -> (B,).

    Args:
        norm: "mse" mean square over channels and points, "mae" mean absolute value, "relative_l2" root
            of the summed squares over that of the target.
        channel_scale: a typical size of each channel (C,), such as the standard deviation of the state
            or of its change in one step; divides the difference (and the target), so that unlike units
            weigh alike.

    Raises:
        ValueError: the norm is unknown, or a scale is not positive.
    """

    channel_scale: Tensor | None

    def __init__(self, norm: Norm = "mse", channel_scale: Sequence[float] | Tensor | None = None) -> None:
        super().__init__()
        if norm not in get_args(Norm):
            raise ValueError(f"Objective got norm {norm!r}; expected one of {list(get_args(Norm))}.")
        scale = None
        if channel_scale is not None:
            scale = torch.as_tensor(channel_scale, dtype=torch.float64).detach().clone()
            if scale.ndim != 1 or not bool((torch.isfinite(scale) & (scale > 0)).all()):
                raise ValueError(
                    f"Objective got channel_scale {scale.tolist()}; expected one positive number a channel."
                )
        self.norm = norm
        self.register_buffer("channel_scale", scale, persistent=False)

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        if pred.shape != target.shape:
            raise ValueError(
                f"Objective compares a prediction of shape {tuple(pred.shape)} with a target of shape "
                f"{tuple(target.shape)}; they must agree."
            )
        error = pred - target
        if self.channel_scale is not None:
            if self.channel_scale.shape != pred.shape[1:2]:
                raise ValueError(
                    f"Objective has {len(self.channel_scale)} channel scales for {pred.shape[1]} channels."
                )
            scale = self.channel_scale.to(error).reshape(1, -1, *[1] * (pred.ndim - 2))
            error, target = error / scale, target / scale
        error = error.flatten(1)
        if self.norm == "mse":
            return error.square().mean(dim=1)
        if self.norm == "mae":
            return error.abs().mean(dim=1)
        tiny = torch.finfo(error.dtype).tiny
        return error.norm(dim=1) / target.flatten(1).norm(dim=1).clamp_min(tiny)
