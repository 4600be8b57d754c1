"""States that a law admits: what must stay positive or within bounds, and where a state breaks it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from sciml.domains import Domain


@dataclass(frozen=True)
class Limit:
    """A quantity and the open interval it must lie in.

    Args:
        name: of the quantity, such as "pressure".
        values: (B, 1, *points).
        low: below all admitted values.
        high: above all admitted values.
    """

    name: str
    values: Tensor
    low: float = 0.0
    high: float = math.inf


@runtime_checkable
class HasAdmissible(Protocol):
    """A law whose states must stay in a set, such as positive density and pressure."""

    def admissible(self, u: Tensor) -> Tensor:
        """Where a state (B, C, *points) is in it, (B, 1, *points) of bools; nowhere where not finite."""
        ...


@runtime_checkable
class HasLimits(Protocol):
    """A law that says by which quantities its admissible states are told from others."""

    def limits(self, u: Tensor) -> tuple[Limit, ...]: ...


def first_violation(pde: object, u: Tensor, domain: Domain) -> str | None:
    """The worst place at which the first sample that breaks a limit does so, in words; None where all hold.

    Samples that are not finite have blown up before and are passed over.

    Args:
        pde: the law; without `limits` nothing is found.
        u: states (B, C, *points).
        domain: where the points lie.
    """
    if not isinstance(pde, HasLimits):
        return None
    with torch.no_grad():
        sound = torch.isfinite(u).flatten(1).all(dim=1)
        limits = pde.limits(u)
        for sample in torch.nonzero(sound).flatten().tolist():
            for limit in limits:
                values = limit.values[sample, 0].flatten().double()
                excess = torch.maximum(limit.low - values, values - limit.high)
                # A quantity that cannot be worked out, such as pressure over zero density, breaks its limit.
                excess = torch.where(torch.isnan(values), -math.inf, excess)
                point = int(excess.argmax())
                if not float(excess[point]) >= 0:
                    continue
                place = ""
                if hasattr(domain, "coordinates"):
                    x = domain.coordinates().flatten(1)[:, point].tolist()
                    place = f" at ({', '.join(f'{v:.4g}' for v in x)})"
                found = f"sample {sample}: {limit.name} {float(values[point]):.4g}{place}"
                if limit.high == math.inf:
                    return f"{found}, where above {limit.low:g} is expected"
                return f"{found}, where {limit.low:g} to {limit.high:g} is expected"
    return None
