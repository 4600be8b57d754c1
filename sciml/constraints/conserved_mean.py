"""Conservation of volume-weighted means."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sciml.constraints.base import (
    Context,
    at_least_single,
    checked_channels,
    point_volumes,
    replace_channels,
    select,
)
from sciml.constraints.linear import Linear
from sciml.domains import Cloud, Grid, Mesh


class ConservedMean(Linear):
    """Hold the volume-weighted mean of each channel by adding one number to the whole field.

        u = z + (m - <z>),   <z> = sum_i V_i z_i / sum_i V_i

    This is the projection that is nearest in the volume-weighted L2 norm, so it never enlarges the
    difference of two states. The target m is the mean of `previous`, or `context.mean` where that is
    given: anchor a long rollout to the means of its initial state, and rounding does not add up.

    Right where the exact flow keeps the integral (periodic or closed domains); with inflow, outflow or
    Dirichlet sides the mean changes, and `context.mean` has to say how. Sums are accumulated in
    float64 whatever the precision of the state.

    Beside other linear constraints in a `Stack` or a `Chain` it is met together with them, by their joint projection.

    Args:
        domain: gives the volumes: grids of nodes or cells, with any sides, and meshes.
        channels: numbers of the channels that are held, all where left out.
        volumes: of the points in place of the domain's; those of a cloud's particles.

    Raises:
        TypeError: the domain is a cloud, which has no volumes, and none are given.
        ValueError: the channels, the points or the target do not fit, or volumes are not positive.
    """

    disjoint = True
    weights: Tensor

    def __init__(
        self,
        domain: Grid | Mesh | Cloud,
        channels: Sequence[int] | None = None,
        volumes: Tensor | Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(domain, Grid | Mesh | Cloud):
            raise TypeError(
                f"ConservedMean got a {type(domain).__name__}; expected a Grid or a Mesh, whose points "
                "have volumes."
            )
        self.domain = domain
        self.channels = checked_channels(channels, "ConservedMean")
        weights = point_volumes(domain, volumes, "ConservedMean")
        self.uniform = bool((weights == weights.flatten()[0]).all())
        self.register_buffer("weights", weights / weights.sum(), persistent=False)

    @property
    def points(self) -> tuple[int, ...]:
        return tuple(self.weights.shape)

    @property
    def volumes(self) -> Tensor:
        return self.weights

    def count(self, channels: int) -> int:
        return channels if self.channels is None else len(self.channels)

    def mean(self, u: Tensor) -> Tensor:
        """Volume-weighted means of all channels, (B, C, *points) -> (B, C) in float64 [unit of u]."""
        if u.shape[2:] != self.weights.shape:
            raise ValueError(
                f"ConservedMean got a state of shape {tuple(u.shape)}; expected (B, C, *points) with "
                f"points {tuple(self.weights.shape)}."
            )
        flat = u.flatten(2)
        if self.uniform:
            return flat.mean(dim=2, dtype=torch.float64)
        return (flat.to(torch.float64) * self.weights.flatten()).sum(dim=2)

    def multiply(self, u: Tensor) -> Tensor:
        return self.mean(select(u, self.channels, "ConservedMean"))

    def transpose(self, y: Tensor, channels: int) -> Tensor:
        v = y.reshape(*y.shape, *[1] * self.weights.ndim) * self.weights
        if self.channels is None:
            return v
        return replace_channels(v.new_zeros(len(v), channels, *self.points), self.channels, v)

    def squares(self, diagonal: Tensor) -> Tensor:
        held = diagonal if self.channels is None else diagonal[list(self.channels)]
        return (held * self.weights.square()).flatten(1).sum(dim=1)

    def row_name(self, row: int, channels: int) -> str:
        return f"mean of channel {row if self.channels is None else self.channels[row]}"

    def target(self, u: Tensor, previous: Tensor | None, context: Context | None) -> Tensor:
        if context is not None and context.mean is not None:
            given = context.mean.to(device=u.device, dtype=torch.float64)
            if given.shape not in ((u.shape[1],), u.shape[:2]):
                raise ValueError(
                    f"ConservedMean got target means of shape {tuple(given.shape)}; expected "
                    f"{tuple(u.shape[:2])} or {(u.shape[1],)}, one for each channel of the state."
                )
            given = given.expand(u.shape[:2])
            return given if self.channels is None else given[:, list(self.channels)]
        if previous is None:
            raise ValueError(
                "ConservedMean needs a target: pass the previous state, or context=Context(mean=...)."
            )
        if previous.shape != u.shape:
            raise ValueError(
                f"ConservedMean got a state of shape {tuple(u.shape)} after one of shape "
                f"{tuple(previous.shape)}; they must agree."
            )
        return self.multiply(previous)

    def residual(self, u: Tensor, previous: Tensor | None = None, context: Context | None = None) -> Tensor:
        """Means of the held channels minus their targets, (B, K) in float64 [unit of u]."""
        return self.multiply(u) - self.target(u, previous, context)

    def project(self, u: Tensor, previous: Tensor | None = None, context: Context | None = None) -> Tensor:
        u = at_least_single(u)
        excess = self.residual(u, previous, context)
        excess = excess.reshape(*excess.shape, *[1] * (u.ndim - 2)).to(u.dtype)
        return replace_channels(u, self.channels, select(u, self.channels, "ConservedMean") - excess)
