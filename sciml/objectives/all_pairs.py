"""Training on every lead time that a trajectory offers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sciml.objectives.base import Discrepancy, Distance, Norm, Objective, Parts, checked_window


class AllPairs(Objective):
    """Compare F(u_i, j - i) with u_j for all pairs i <= j of a window, for steps that take a lead time.

    A window of n + 1 frames has (n + 1)(n + 2)/2 pairs. Pairs of equal frames anchor the identity. Right for
    autonomous equations only, whose flow over a time does not depend on when it begins. Herde et al., Poseidon,
    NeurIPS 2024, arXiv 2405.19101. All pairs cost that many samples per window: compare with other losses at equal
    updates and at equal time.

    Args:
        steps: n, the longest lead, in steps.
        identity: whether pairs i = j are among them.
        pairs: draw that many pairs for each window, with repetition, instead of taking all.
        norm: see `Discrepancy`.
        channel_scale: see `Discrepancy`.

    Raises:
        ValueError: a number is out of range, or a window is too short.
    """

    first: Tensor
    last: Tensor

    def __init__(
        self,
        steps: int,
        identity: bool = True,
        pairs: int | None = None,
        norm: Norm | Distance = "mse",
        channel_scale: Sequence[float] | Tensor | None = None,
    ) -> None:
        super().__init__()
        if steps < 1 or (pairs is not None and pairs < 1):
            raise ValueError(f"AllPairs got steps={steps}, pairs={pairs}; expected at least 1.")
        self.horizon = self.steps = int(steps)
        self.pairs, self.identity = pairs, identity
        known = [(i, j) for i in range(steps + 1) for j in range(i if identity else i + 1, steps + 1)]
        self.register_buffer("first", torch.tensor([i for i, _ in known]), persistent=False)
        self.register_buffer("last", torch.tensor([j for _, j in known]), persistent=False)
        self.discrepancy = Discrepancy(norm, channel_scale)

    def forward(
        self,
        step: Callable[..., Tensor],
        window: Tensor,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Parts]:
        window = checked_window(window, self.steps + 1, "AllPairs")
        first, last = self.first.to(window.device), self.last.to(window.device)
        batch = len(window)
        if self.pairs is None:
            first, last = first.expand(batch, -1), last.expand(batch, -1)
        else:
            device = "cpu" if generator is None else generator.device
            chosen = torch.randint(len(first), (batch, self.pairs), generator=generator, device=device)
            first, last = first[chosen.to(window.device)], last[chosen.to(window.device)]
        rows = torch.arange(batch, device=window.device).unsqueeze(1)
        given, wanted = window[rows, first].flatten(0, 1), window[rows, last].flatten(0, 1)
        lead = (last - first).flatten()
        loss = self.discrepancy(step(given, lead.to(window.dtype)), wanted)
        each, zero = loss.detach(), loss.new_zeros(self.steps + 1)
        count = zero.index_add(0, lead, torch.ones_like(each))
        means = zero.index_add(0, lead, each) / count  # NaN for a lead that was not drawn
        return loss.mean(), {f"lead_{k}": mean for k, mean in enumerate(means) if k or self.identity}
