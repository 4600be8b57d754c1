"""The loss of a physics-informed network: how far it is from satisfying its equation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.calculus.autograd import Autograd
from sciml.objectives.base import Objective, Parts
from sciml.pdes.base import PDE

SpaceTimeFunction = Callable[..., Tensor]  # (x, t) -> u


@dataclass(frozen=True)
class Collocation:
    """Points in a box and times in [0, horizon], drawn uniformly: (generator) -> x (1, D, N), t (1, 1, N).

    Times are stratified, one in each of N equal parts of the horizon, so that no batch leaves a gap.

    Args:
        lengths: side of the box per axis [length].
        horizon: last time [time].
        points: N.
        origin: low corner, one number or one per axis [length].

    Raises:
        ValueError: a side, the horizon or the number of points is not positive, or the numbers of axes
            differ.
    """

    lengths: tuple[float, ...]
    horizon: float
    points: int = 2000
    origin: float | tuple[float, ...] = 0.0

    def __post_init__(self) -> None:
        lengths = tuple(float(length) for length in self.lengths)
        origin = self.origin
        low = (float(origin),) * len(lengths) if isinstance(origin, (int, float)) else tuple(origin)
        if not lengths or len(low) != len(lengths):
            raise ValueError(
                f"Collocation got lengths {lengths} and origins {low}; expected one of each per axis."
            )
        if min(*lengths, self.horizon) <= 0 or self.points < 1:
            raise ValueError(
                f"Collocation got lengths {lengths}, horizon={self.horizon}, points={self.points}; expected "
                "positive sides and times, and at least one point."
            )
        object.__setattr__(self, "lengths", lengths)
        object.__setattr__(self, "origin", low)

    def __call__(self, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        device = None if generator is None else generator.device
        shape = (len(self.lengths) + 1, self.points)
        unit = torch.rand(shape, generator=generator, dtype=torch.float64, device=device)
        scale = unit.new_tensor(self.lengths).unsqueeze(1)
        low = unit.new_tensor(self.origin).unsqueeze(1)
        parts = torch.arange(self.points, dtype=unit.dtype, device=unit.device)
        t = (parts + unit[-1:]) * (self.horizon / self.points)
        return (low + scale * unit[:-1]).unsqueeze(0), t.unsqueeze(0)


class Residual(Objective):
    """Mean square of u_t - rhs(u) at scattered points, for a network u(x, t).

    The right-hand side is the one of the equation itself, differentiated by `Autograd`. The network has
    its initial and boundary values by construction, so that this is the whole loss. No data are used:
    `window` is ignored and may be None.

    Args:
        pde: the equation.
        sampler: gives points x (1, D, N) and times t (1, 1, N) from a generator. Equal states of the
            generator give equal points, which a quasi-Newton method needs within one line search.
        channel_scale: a typical size of the rate of change of each channel (C,) [u / time]; divides the
            residual, so that channels of unlike units weigh alike.

    Raises:
        ValueError: a scale is not positive, or the numbers of channels differ.
    """

    channel_scale: Tensor | None

    def __init__(
        self,
        pde: PDE,
        sampler: Callable[[torch.Generator | None], tuple[Tensor, Tensor]],
        channel_scale: Sequence[float] | Tensor | None = None,
    ) -> None:
        super().__init__()
        scale = None
        if channel_scale is not None:
            scale = torch.as_tensor(channel_scale, dtype=torch.float64).detach().clone()
            if scale.ndim != 1 or not bool((torch.isfinite(scale) & (scale > 0)).all()):
                raise ValueError(
                    f"Residual got channel_scale {scale.tolist()}; expected one positive number a channel."
                )
        self.pde = pde
        self.sampler = sampler
        self.register_buffer("channel_scale", scale, persistent=False)

    def residual(self, u: SpaceTimeFunction, x: Tensor, t: Tensor) -> Tensor:
        """u_t - rhs(u) at points x (B, D, *points) and times t (B, 1, *points), (B, C, *points) [u / time]."""
        x = x.detach().clone().requires_grad_(True)
        t = t.detach().clone().requires_grad_(True)
        values = u(x, t)
        calculus = Autograd(x)
        return calculus.time_derivative(values, t) - self.pde.rhs(values, calculus)

    def forward(
        self,
        step: SpaceTimeFunction,
        window: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Parts]:
        x, t = self.sampler(generator)
        parameter = next(step.parameters(), None) if isinstance(step, torch.nn.Module) else None
        if parameter is not None:
            x, t = x.to(parameter), t.to(parameter)
        # A validation pass runs without gradients, which derivatives in x and t still need.
        with torch.inference_mode(False), torch.enable_grad():
            r = self.residual(step, x, t)
        if self.channel_scale is not None:
            if len(self.channel_scale) != r.shape[1]:
                raise ValueError(
                    f"Residual has {len(self.channel_scale)} channel scales for {r.shape[1]} channels."
                )
            r = r / self.channel_scale.to(r).reshape(1, -1, *[1] * (r.ndim - 2))
        loss = r.square().mean()
        return loss, {"residual": loss.detach()}
