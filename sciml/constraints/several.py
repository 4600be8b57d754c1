"""What constraints that consist of several have in common."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from sciml.constraints.base import Constraint, Context


class Several(Constraint):
    """A constraint with members."""

    @property
    @abstractmethod
    def members(self) -> tuple[Constraint, ...]:
        """The constraints in order."""

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
                    f"{type(self).__name__} leaves constraint {name} violated by {worst:.3g}, more than "
                    f"{tolerance:.3g}; put it later in the chain, or merge it with the member that undoes it."
                )
