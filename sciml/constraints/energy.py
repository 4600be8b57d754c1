"""Energy held, or kept from growing, by rescaling what varies in space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

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
from sciml.constraints.conserved_mean import ConservedMean
from sciml.domains import Grid, Mesh

Kind = Literal["conserved", "decaying", "bounded"]


class Energy(Constraint):
    """Rescale the fluctuation of a field about its means so that its energy is admissible.

        u = m + s (z - m),   E(u) = 1/2 sum_c <u_c^2>,   s^2 = (E* - E(m)) / (E(z) - E(m))

    with <.> the volume-weighted mean and m the means of the channels, which stay as they are (momentum), as does a
    zero divergence. Hold the means first where they are conserved too: Chain([ConservedMean(...), Energy(...)]).
    E* is the energy of `previous` ("conserved"), that or less ("decaying": only what is too large is scaled down),
    or between two numbers ("bounded"). Where the means alone have more energy than is admissible, the field becomes
    its means, and `violation` says how far off it is; a field without fluctuation cannot gain energy. Sums are taken
    in float64.

    Args:
        domain: gives the volumes.
        kind: see above.
        lower, upper: of "bounded", None for no such bound [unit of u squared].
        channels: numbers of the channels that make up the energy, all where left out.

    Raises:
        ValueError: the kind is unknown, or bounds are missing, given for another kind, or in the wrong order.
    """

    def __init__(
        self,
        domain: Grid | Mesh,
        kind: Kind = "conserved",
        lower: float | None = None,
        upper: float | None = None,
        channels: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if kind not in get_args(Kind):
            raise ValueError(f"Energy got kind={kind!r}; expected one of {list(get_args(Kind))}.")
        given = lower is not None or upper is not None
        low, high = lower or 0.0, float("inf") if upper is None else float(upper)
        if given != (kind == "bounded") or not 0 <= low < high:
            raise ValueError(
                f"Energy got kind={kind!r}, lower {lower} and upper {upper}; expected 0 <= lower < upper, one or "
                "both, with kind='bounded', and neither with another kind."
            )
        self.kind = kind
        self.lower, self.upper = float(low), high
        self.channels = checked_channels(channels, "Energy")
        self.means = ConservedMean(domain)

    def energy(self, u: Tensor) -> Tensor:
        """1/2 sum_c <u_c^2> of the channels, (B, C, *points) -> (B,) in float64 [unit of u squared]."""
        z = select(u, self.channels, "Energy").to(torch.float64)
        return 0.5 * self.means.mean(z.square()).sum(dim=1)

    def _range(self, previous: Tensor | None, like: Tensor) -> tuple[Tensor, Tensor]:
        """Least and largest admissible energy, (B,) each."""
        if self.kind == "bounded":
            return torch.full_like(like, self.lower), torch.full_like(like, self.upper)
        if previous is None:
            raise ValueError(f"Energy of kind {self.kind!r} needs a target: pass the previous state.")
        before = self.energy(previous)
        return (before if self.kind == "conserved" else torch.zeros_like(before)), before

    @property
    def nonexpansive(self) -> bool:
        return self.kind != "conserved" and self.lower == 0

    def project(self, u: Tensor, previous: Tensor | None = None, context: Context | None = None) -> Tensor:
        u = at_least_single(u)
        z = select(u, self.channels, "Energy").to(torch.float64)
        mean = self.means.mean(z)
        shaped = mean.reshape(*mean.shape, *[1] * (z.ndim - 2))
        fluctuation = z - shaped
        own = 0.5 * self.means.mean(fluctuation.square()).sum(dim=1)
        carried = 0.5 * mean.square().sum(dim=1)
        low, high = self._range(previous, own)
        total = own + carried
        admissible = torch.minimum(torch.maximum(total, low), high)
        wanted = admissible - carried
        # The root is kept away from zero, where its derivative is infinite.
        change = (admissible != total) & (own > 0)
        ratio = torch.where(change, wanted.clamp_min(0.0) / torch.where(change, own, 1.0), 1.0)
        positive = ratio > 0
        scale = torch.where(positive, torch.where(positive, ratio, 1.0).sqrt(), 0.0)
        scaled = (shaped + scale.reshape(-1, *[1] * (z.ndim - 1)) * fluctuation).to(u.dtype)
        kept = select(u, self.channels, "Energy")
        touched = change.reshape(-1, *[1] * (z.ndim - 1))
        return replace_channels(u, self.channels, torch.where(touched, scaled, kept))

    def violation(
        self, u: Tensor, previous: Tensor | None = None, context: Context | None = None
    ) -> Tensor:
        """Distance of the energy from what is admissible, (B,), zero inside [unit of u squared]."""
        energy = self.energy(u)
        low, high = self._range(previous, energy)
        return torch.maximum(low - energy, energy - high).clamp_min(0.0)
