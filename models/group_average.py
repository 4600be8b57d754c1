"""A step that treats all orientations alike, by averaging over a group."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sciml.constraints.base import at_least_single
from sciml.domains import Grid
from sciml.models.channel_statistics import ChannelStatistics
from sciml.models.wrappers import Map
from sciml.symmetries import GridSymmetries, PointGroup


class GroupAverage(nn.Module):
    """F(u) = 1/|G| sum over g of g^-1 f(g u): a step that commutes with every g, whatever the network f.

    For reflections, quarter turns and translations of grids, with vectors turned along; exact to rounding, at |G| times
    the cost of the network. Right where equation, sides and forcing have the symmetry. The states keep none: see
    `Symmetric`. Test the equivariance of what you train; an architecture that is equivariant in words may not be on a
    grid.

    A per-channel scaling would break it, since it stretches vectors. The network sees (u - mean) / std and its answer is
    multiplied by std, with the components of a vector or tensor sharing one std, and no mean for what changes its sign:
    `residual: false` and `normalized: false` in a study, and `residual` here.

    Args:
        f: map (B, C, *points) -> (B, C, *points).
        grid: where the states live.
        point_group: "reflections", "rotations", "all" or "none" (translations only).
        axes: those that are reflected and exchanged, all where left out.
        translations: per axis the number of equal shifts that make up a period; convolutions have them all already.
        vectors: of each vector its D channels.
        pseudoscalars: channels that change sign in a mirror.
        tensors: of each tensor of second order its D*D channels.
        staggered: vectors lie on the low faces of cells.
        residual: the network gives the increment of the state.
        mean, std: statistics of the channels (C,), none or both [unit of u].

    Raises:
        TypeError: the domain is no grid.
        ValueError: the grid has not the symmetry, or channels do not fit; see `sciml.symmetries.GridSymmetries`.

    Yarotsky, Constructive Approximation 55 (2022) 407, for symmetrisation by averaging.
    """

    physical = True

    def __init__(
        self,
        f: Map,
        grid: Grid,
        point_group: PointGroup = "all",
        axes: Sequence[int] | None = None,
        translations: Sequence[int] | None = None,
        vectors: Sequence[Sequence[int]] = (),
        pseudoscalars: Sequence[int] = (),
        tensors: Sequence[Sequence[int]] = (),
        staggered: bool = False,
        residual: bool = False,
        mean: Tensor | Sequence[float] | None = None,
        std: Tensor | Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.f = f
        self.residual = residual
        self.symmetries = GridSymmetries(
            grid, point_group, axes, translations, vectors, pseudoscalars, tensors, staggered
        )
        statistics = ChannelStatistics("GroupAverage", mean, std, grid.dimension)
        if statistics.known:
            # Those of what the symmetries mix or turn round are alike and without a mean.
            like = torch.zeros((), dtype=torch.float64)
            center, scale = statistics.mean(like).flatten().clone(), statistics.std(like).flatten().clone()
            for group in (*self.symmetries.vectors, *self.symmetries.tensors):
                scale[list(group)] = scale[list(group)].square().mean().sqrt()
                center[list(group)] = 0.0
            center[list(self.symmetries.pseudoscalars)] = 0.0
            statistics = ChannelStatistics("GroupAverage", center, scale, grid.dimension)
        self.statistics = statistics

    def _network(self, u: Tensor, lead: Tensor | None) -> Tensor:
        z = self.statistics.normalised(u)
        found = self.f(z) if lead is None else self.f(z, lead)
        if found.shape != u.shape:
            raise ValueError(
                f"GroupAverage got an answer of shape {tuple(found.shape)} from its network; expected {tuple(u.shape)}."
            )
        found = found.to(u.dtype) * self.statistics.std(u)
        return found if self.residual else found + self.statistics.mean(u)

    def forward(self, u: Tensor, lead: Tensor | None = None) -> Tensor:
        u = at_least_single(u)
        group = self.symmetries
        total = torch.zeros_like(u)
        for turn in group.elements:
            total = total + group.apply(turn, self._network(group.apply(turn, u), lead), inverse=True)
        average = total / len(group.elements)
        return u + average if self.residual else average
