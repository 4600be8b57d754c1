"""Whole trajectories without data: a network proposes functions of time and place, an equation combines them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sciml.constraints.equation_experts import EquationExperts, EquationFit


class PhysicsExperts(nn.Module):
    """Solutions (B, T, 1, *points) of an equation from initial states (B, 1, *points), as sums of a network's functions.

    Any network on grids, such as an `FNO` in time and space, gets the share of the time that has passed, the coordinates of
    bounded axes as shares of the box, and the initial state, the same at all times; it emits N channels, the functions
    that `EquationExperts` combines so that the equation's residual is smallest. Trained on that residual at all points,
    it needs initial states and no solutions. One expert is PI-HC, several are PI-HC-MoE. It predicts one stretch of time
    as a whole and is no step for rollouts.

    Args:
        network: (B, 2 + bounded axes, T, *points) -> (B, N, T, *points).
        experts: the search, with the equation and the grid.

    Negiar, Mahoney and Krishnapriyan, ICLR 2023 (arXiv 2207.08675); Chalapathi, Du and Krishnapriyan, ICLR 2024
    (arXiv 2402.13412).
    """

    def __init__(self, network: nn.Module, experts: EquationExperts) -> None:
        super().__init__()
        self.network, self.experts = network, experts
        residual = experts.residual
        time = (residual.times - residual.times[0]) / (residual.times[-1] - residual.times[0])
        places = residual.grid.coordinates()
        coordinates = [time.reshape(-1, *[1] * residual.grid.dimension).expand(residual.shape)]
        for axis, length in enumerate(residual.grid.lengths):
            if not residual.grid.periodic[axis]:  # from node to node, the first on the low side
                coordinates.append(((places[axis] - places[axis].min()) / length).expand(residual.shape))
        self.register_buffer("coordinates", torch.stack(coordinates), persistent=False)
        self.coordinates: Tensor

    @staticmethod
    def input_channels(experts: EquationExperts) -> int:
        """What the network takes: time, bounded axes, the initial state."""
        return 2 + sum(not periodic for periodic in experts.residual.grid.periodic)

    def basis(self, start: Tensor) -> Tensor:
        """The network's functions (B, N, T, *points), in its own precision."""
        residual = self.experts.residual
        if start.shape[1:] != (1, *residual.grid.shape):
            raise ValueError(
                f"PhysicsExperts got initial states of shape {tuple(start.shape)}; expected (B, 1, "
                f"{', '.join(map(str, residual.grid.shape))})."
            )
        dtype = next((p.dtype for p in self.network.parameters()), start.dtype)
        seen = start.unsqueeze(2).expand(-1, -1, residual.frames, *residual.grid.shape)
        places = self.coordinates.expand(len(start), *self.coordinates.shape)
        return self.network(torch.cat((places.to(dtype), seen.to(dtype)), dim=1))

    def fit(self, start: Tensor, generator: torch.Generator | None = None) -> EquationFit:
        """Solutions with all that is known about how good they are."""
        fitted: EquationFit = self.experts(self.basis(start), start, generator)
        return fitted

    def forward(self, start: Tensor) -> Tensor:
        return self.fit(start).u

    def loss(
        self, start: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean over samples of the sizes of residual, missed start and missed sides, and what to watch beside it.

        Sizes are root mean squares, not their squares, over all points and not only those of the search, so that
        gradients through the coefficients matter. The generator draws the points of the search.
        """
        fitted = self.fit(start, generator)
        total = self.experts.loss(fitted.residual, fitted.initial, fitted.sides, fitted.counted)
        with torch.no_grad():
            parts = {
                "residual": fitted.residual.mean(),
                "residual given": fitted.sampled.square().mean().sqrt(),
                "initial": fitted.initial.mean(),
                "sides": fitted.sides.mean(),
                "jump": fitted.jump.mean(),
                "iterations": fitted.iterations.double().mean(),
                "converged": fitted.converged.double().mean(),
                "log10 condition": fitted.condition.clamp(min=1.0).log10().max(),
            }
        return total, parts
