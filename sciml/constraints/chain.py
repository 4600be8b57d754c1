"""Several constraints, one after the other."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sciml.constraints.base import Constraint, Context


class Chain(Constraint):
    """Apply constraints in the given order.

    Projections need not commute: a later one may undo an earlier one. `violation` is that of the worst
    member, `violations` gives each by name, and `check` refuses a state that some member does not
    accept, so try it once on typical states before trusting an order. `ConservedMean` before
    `DivergenceFree` is safe (the latter keeps the mean flow), and so is `ConservedMean` before `Bounds`.

    Args:
        constraints: the members, first applied first.

    Raises:
        ValueError: there is no member.
    """

    def __init__(self, constraints: Sequence[Constraint]) -> None:
        super().__init__()
        if not len(constraints):
            raise ValueError("Chain got no constraints; give at least one.")
        self.constraints = nn.ModuleList(constraints)

    @property
    def members(self) -> tuple[Constraint, ...]:
        """The constraints in order."""
        return tuple(c for c in self.constraints if isinstance(c, Constraint))

    def project(self, u: Tensor, previous: Tensor | None = None, context: Context | None = None) -> Tensor:
        for constraint in self.members:
            u = constraint.project(u, previous, context)
        return u

    def violations(
        self, u: Tensor, previous: Tensor | None = None, context: Context | None = None
    ) -> dict[str, Tensor]:
        """Violation of each member, "0 ConservedMean" -> (B,)."""
        return {
            f"{i} {type(c).__name__}": c.violation(u, previous, context) for i, c in enumerate(self.members)
        }

    def violation(
        self, u: Tensor, previous: Tensor | None = None, context: Context | None = None
    ) -> Tensor:
        """Violation of the worst member, (B,) [unit of u]."""
        each = [v.to(torch.float64) for v in self.violations(u, previous, context).values()]
        return torch.stack(each).amax(dim=0)

    def check(
        self,
        u: Tensor,
        previous: Tensor | None = None,
        context: Context | None = None,
        *,
        tolerance: float = 1e-10,
    ) -> None:
        """Refuse a state that some member does not accept.

        Raises:
            ValueError: a violation exceeds `tolerance` or is not a number; the message names the member.
        """
        for name, values in self.violations(u, previous, context).items():
            worst = float(values.max())
            if not worst <= tolerance:
                raise ValueError(
                    f"Chain leaves constraint {name} violated by {worst:.3g}, more than {tolerance:.3g}; "
                    "put it later in the chain, or merge it with the member that undoes it."
                )
