"""Conservation of volume-weighted means."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sciml.constraints.base import (
    Constraint,
    Context,
    at_least_single,
    checked_channels,
    replace_channels,
    select,
)
from sciml.domains import Grid, Mesh


class ConservedMean(Constraint):
    """Hold the volume-weighted mean of each channel by adding one number to the whole field.

        u = z + (m - <z>),   <z> = sum_i V_i z_i / sum_i V_i

    This is the projection that is nearest in the volume-weighted L2 norm, so it never enlarges the
    difference of two states. The target m is the mean of `previous`, or `context.mean` where that is
    given: anchor a long rollout to the means of its initial state, and rounding does not add up.

    Right where the exact flow keeps the integral (periodic or closed domains); with inflow, outflow or
    Dirichlet sides the mean changes, and `context.mean` has to say how. Sums are accumulated in
    float64 whatever the precision of the state.

    Args:
        domain: gives the volumes: grids of nodes or cells, with any sides, and meshes.
        channels: numbers of the channels that are held, all where left out.

    Raises:
        TypeError: the domain is a cloud, which has no volumes.
        ValueError: the channels, the points or the target do not fit.
    """

    weights: Tensor

    def __init__(self, domain: Grid | Mesh, channels: Sequence[int] | None = None) -> None:
        super().__init__()
        if not isinstance(domain, Grid | Mesh):
            raise TypeError(
                f"ConservedMean got a {type(domain).__name__}; expected a Grid or a Mesh, whose points "
                "have volumes."
            )
        self.domain = domain
        self.channels = checked_channels(channels, "ConservedMean")
        weights = domain.weights()
        self.uniform = bool((weights == weights.flatten()[0]).all())
        self.register_buffer("weights", weights / weights.sum(), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> ConservedMean:
        # A network moved to float32 must not take the weights with it: only their device follows.
        exact = self.weights
        super()._apply(fn, recurse)
        self.weights = exact.to(self.weights.device)
        return self

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

    def _excess(self, u: Tensor, previous: Tensor | None, context: Context | None) -> Tensor:
        """Mean of u minus its target, for the held channels, (B, K)."""
        mean = self.mean(select(u, self.channels, "ConservedMean"))
        if context is not None and context.mean is not None:
            given = context.mean.to(device=u.device, dtype=torch.float64)
            if given.shape not in ((u.shape[1],), u.shape[:2]):
                raise ValueError(
                    f"ConservedMean got target means of shape {tuple(given.shape)}; expected "
                    f"{tuple(u.shape[:2])} or {(u.shape[1],)}, one for each channel of the state."
                )
            given = given.expand(u.shape[:2])
            return mean - (given if self.channels is None else given[:, list(self.channels)])
        if previous is None:
            raise ValueError(
                "ConservedMean needs a target: pass the previous state, or context=Context(mean=...)."
            )
        if previous.shape != u.shape:
            raise ValueError(
                f"ConservedMean got a state of shape {tuple(u.shape)} after one of shape "
                f"{tuple(previous.shape)}; they must agree."
            )
        return mean - self.mean(select(previous, self.channels, "ConservedMean"))

    def project(self, u: Tensor, previous: Tensor | None = None, context: Context | None = None) -> Tensor:
        u = at_least_single(u)
        excess = self._excess(u, previous, context)
        excess = excess.reshape(*excess.shape, *[1] * (u.ndim - 2)).to(u.dtype)
        return replace_channels(u, self.channels, select(u, self.channels, "ConservedMean") - excess)

    def violation(
        self, u: Tensor, previous: Tensor | None = None, context: Context | None = None
    ) -> Tensor:
        """Largest distance of a held mean from its target, (B,) [unit of u]."""
        return self._excess(u, previous, context).abs().amax(dim=1)
