"""Steps of any length from one network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sciml.domains import Domain
from sciml.models.wrappers import Map


class LeadTime(nn.Module):
    """f([u, lead / longest]): how far to go, in steps, as one further channel of the same value everywhere.

    Called as f(u, lead) with leads (B,), and as a step with a lead of one. Networks that take a lead time
    themselves, such as those with lead-time conditioned normalisation, are called the same way and need no
    wrapper. Trained by `AllPairs`.

    Args:
        f: map (B, C + 1, *points) -> (B, C, *points).
        longest: the longest lead that is trained, in steps.

    Raises:
        ValueError: `longest` is not positive.
    """

    def __init__(self, f: Map, longest: float) -> None:
        super().__init__()
        if not longest > 0:
            raise ValueError(f"LeadTime got longest={longest}; expected a positive number of steps.")
        self.f = f
        self.longest = float(longest)

    def forward(self, u: Tensor, lead: Tensor | None = None) -> Tensor:
        if lead is None:
            lead = u.new_ones(len(u))
        channel = (lead.to(u) / self.longest).reshape(-1, *[1] * (u.ndim - 1))
        return self.f(torch.cat([u, channel.expand(len(u), 1, *u.shape[2:])], dim=1))


class AtLead(nn.Module):
    """A step that takes lead times, at one of them: `dt` is that much longer or shorter.

    Args:
        step: a step called as step(u, lead), such as a `Surrogate`.
        lead: how far to go, in steps.

    Raises:
        ValueError: the lead is not positive.
    """

    def __init__(self, step: nn.Module, lead: float) -> None:
        super().__init__()
        if not lead > 0:
            raise ValueError(f"AtLead got lead={lead}; expected a positive number of steps.")
        self.step = step
        self.lead = float(lead)
        self.dt: float = step.dt * self.lead  # type: ignore[assignment,operator]
        self.domain: Domain = step.domain  # type: ignore[assignment]
        self.channels: tuple[str, ...] = step.channels  # type: ignore[assignment]

    def forward(self, u: Tensor) -> Tensor:
        return self.step(u, u.new_full((len(u),), self.lead))
