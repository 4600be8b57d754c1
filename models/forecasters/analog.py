"""Forecasts by what followed alike states before."""

from __future__ import annotations

import torch
from torch import Tensor

from sciml.domains import Domain
from sciml.models.forecasters.base import Forecaster, histories, state_size


class Analog(Forecaster):
    """The mean of what followed the most similar pieces of history.

    Weights fall exponentially with the distance, measured by the nearest (simplex projection). It knows nothing but
    what it has seen, and repeats it: what a large sequence model has to beat before it is said to understand.

    Args:
        in_channels: C.
        delays: states of a piece.
        neighbours: pieces that are averaged; one more than the dimension of the delay vector if left out.
        library: pieces kept, drawn at random where there are more.
        increments: average how the state changed, and not what it became: forecasts then do not jump.
        domain: where the points lie; none for states without space.

    Raises:
        ValueError: a number is out of range.

    Sugihara and May, Nature 344 (1990) 734-741.
    """

    pieces: Tensor
    following: Tensor

    def __init__(
        self,
        in_channels: int,
        delays: int = 2,
        neighbours: int | None = None,
        library: int = 2000,
        increments: bool = True,
        domain: Domain | None = None,
    ) -> None:
        size = state_size(in_channels, domain, "Analog")
        count = delays * size + 1 if neighbours is None else neighbours
        if delays < 1 or count < 1 or library < count:
            raise ValueError(
                f"Analog got delays={delays}, neighbours={count}, library={library}; expected at least 1, and a "
                "library of as many pieces as there are neighbours."
            )
        super().__init__(size, delays)
        self.neighbours, self.increments = count, increments
        # Empty places are infinitely far away.
        self.register_buffer("pieces", torch.full((library, delays * size), torch.inf, dtype=torch.float64))
        self.register_buffer("following", torch.zeros(library, size, dtype=torch.float64))

    def fit(self, trajectories: Tensor, generator: torch.Generator | None = None) -> None:
        pieces, following = histories(self._checked(trajectories, self.history + 1), self.history)
        if len(pieces) < self.neighbours:
            raise ValueError(f"Analog got {len(pieces)} pieces for {self.neighbours} neighbours.")
        if len(pieces) > len(self.pieces):
            generator = torch.Generator().manual_seed(0) if generator is None else generator
            chosen = torch.randperm(len(pieces), generator=generator)[: len(self.pieces)]
            pieces, following = pieces[chosen], following[chosen]
        self.pieces.fill_(torch.inf)
        self.pieces[: len(pieces)] = pieces.flatten(1)
        self.following[: len(pieces)] = following - pieces[:, -1] if self.increments else following

    def begin(self, history: Tensor) -> Tensor:
        return history.double().flatten(1)

    def advance(self, carried: Tensor) -> Tensor:
        distance = torch.cdist(carried, self.pieces, compute_mode="donot_use_mm_for_euclid_dist")
        near, index = distance.topk(self.neighbours, dim=1, largest=False)
        scale = near[:, :1].clamp_min(torch.finfo(near.dtype).tiny)
        weight = torch.exp(-near / scale)
        weight = torch.where(near[:, :1] > 0, weight, (near == 0).to(weight))
        new = (weight.unsqueeze(-1) * self.following[index]).sum(1) / weight.sum(1, keepdim=True)
        if self.increments:
            new = new + self.show(carried)
        return torch.cat([carried[:, self.size :], new], dim=1)

    def show(self, carried: Tensor) -> Tensor:
        return carried[:, -self.size :]
