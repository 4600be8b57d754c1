"""Affine inequalities, met by a closed form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from sciml.constraints.base import Constraint, Context, named
from sciml.constraints.linear_rows import LinearRows
from sciml.constraints.right_hand_side import RightHandSide
from sciml.constraints.row_maps import RowMap
from sciml.domains import Domain

_VALUES = "values of the rows of Inequalities"


class Inequalities(Constraint):
    """Rows of your own between bounds, l <= A u <= r, by moving along the rows that are violated.

        u = z + A+ (relu(l - A z) - relu(A z - r)),    A+ = W^-1 A' (A W^-1 A')^-1

    which gives A u = min(max(A z, l), r) to rounding, and leaves what is admissible as it is. The rows must be
    independent, hence no more than there are unknowns; they are refused by name otherwise, as are l > r. In one pass and
    differentiable almost everywhere. Rows that are orthogonal in W (sums over disjoint cells, single points) make it the
    nearest state; for others it moves further than a projection would.

    Rows, metric and where numbers come from are as for `LinearRows`. The bounds are numbers (q,), one for all rows, a
    file, "previous" for A of the previous state (what may only fall or only grow) or "context" for
    `Context(targets={"lower": ..., "upper": ...})`; one of them may be left out.

    Args:
        domain: gives the volumes.
        rows: A, see `LinearRows`.
        lower, upper: l and r, None for no such bound.
        channels: numbers of the channels that the rows see and that may change, all where left out.
        scales: typical size of each channel of the state [unit of u].
        volumes: of the points in place of the domain's.
        names: of the rows, for messages.

    Raises:
        ValueError: there is no bound, shapes do not fit, rows depend on each other, or a lower bound is above an upper.
        UserError: a file is missing or cannot be read safely.

    Min and Azizan, HardNet: Hard-Constrained Neural Networks with Universal Approximation Guarantees, arXiv 2410.10807.
    """

    def __init__(
        self,
        domain: Domain,
        rows: Tensor | Sequence[Any] | str | Callable[..., Any] | RowMap,
        lower: Tensor | Sequence[float] | float | str | None = None,
        upper: Tensor | Sequence[float] | float | str | None = None,
        channels: Sequence[int] | None = None,
        scales: Sequence[float] | None = None,
        volumes: Tensor | Sequence[float] | None = None,
        names: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        if lower is None and upper is None:
            raise ValueError("Inequalities got no bound; give lower, upper or both.")
        self.rows = LinearRows(
            domain,
            rows,
            values="context",
            channels=channels,
            scales=scales,
            volumes=volumes,
            names=names,
            target=_VALUES,
        )
        self.lower = None if lower is None else RightHandSide(lower, "lower", "Inequalities")
        self.upper = None if upper is None else RightHandSide(upper, "upper", "Inequalities")
        low = None if self.lower is None else self.lower.constant
        high = None if self.upper is None else self.upper.constant
        for bound in (low, high):
            if bound is not None and bound.shape not in ((), (1,), (self._count(),)):
                raise ValueError(
                    f"Inequalities got {self._count()} rows and a bound of shape {tuple(bound.shape)}; expected one for "
                    "each row, or one number."
                )
        if low is not None and high is not None:
            self._ordered(low.expand(1, self._count()), high.expand(1, self._count()))

    def _count(self) -> int:
        return self.rows.count(0)

    def _ordered(self, low: Tensor, high: Tensor) -> None:
        crossed = (low > high).any(dim=0).nonzero().flatten().tolist()
        if crossed:
            names = [self.rows.row_name(row, 1) for row in crossed]
            raise ValueError(
                f"Inequalities got a lower bound above the upper one for {named(names)}; no state is admissible."
            )

    def _bounds(
        self, u: Tensor, previous: Tensor | None, context: Context | None
    ) -> tuple[Tensor | None, Tensor | None]:
        found: list[Tensor | None] = []
        for side in (self.lower, self.upper):
            if side is None:
                found.append(None)
            elif side.source == "previous":
                found.append(self.rows.multiply(side.before(u, previous)))
            else:
                found.append(side.given(u, context, (self._count(),)))
        return found[0], found[1]

    def project(self, u: Tensor, previous: Tensor | None = None, context: Context | None = None) -> Tensor:
        values = self.rows.multiply(u.to(torch.float64))
        low, high = self._bounds(u, previous, context)
        if low is not None and high is not None and not torch.compiler.is_compiling():
            self._ordered(low.detach(), high.detach())
        wanted = values if low is None else torch.maximum(values, low)
        wanted = wanted if high is None else torch.minimum(wanted, high)
        return self.rows.project(u, context=Context(targets={_VALUES: wanted}))

    def violation(
        self, u: Tensor, previous: Tensor | None = None, context: Context | None = None
    ) -> Tensor:
        """Largest excess of a row over a bound, (B,), zero inside [unit of the rows]."""
        values = self.rows.multiply(u.to(torch.float64))
        low, high = self._bounds(u, previous, context)
        excess = torch.zeros_like(values)
        excess = excess if low is None else torch.maximum(excess, low - values)
        excess = excess if high is None else torch.maximum(excess, values - high)
        return excess.amax(dim=1)
