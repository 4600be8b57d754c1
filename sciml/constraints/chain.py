"""Several constraints, one after the other."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from sciml.constraints.base import Constraint, Context
from sciml.constraints.linear import Linear
from sciml.constraints.several import Several
from sciml.constraints.stack import Stack


class Chain(Several):
    """Apply constraints in the given order, linear neighbours together.

    Linear constraints (`ConservedMean`, `LinearRows`, `FixedValues`, additive `BlockAverage`) that follow each other are
    met by one projection, as in a `Stack`: their order does not matter, and none undoes another. Other projections
    need not commute: a later one may undo an earlier one. `violation` is that of the worst member, `violations` gives
    each by name, and `check` refuses a state that some member does not accept, so try it once on typical states before
    trusting an order. `ConservedMean` before `DivergenceFree` is safe (the latter keeps the mean flow), and so is
    `ConservedMean` before `Bounds`.

    Args:
        constraints: the members, first applied first.

    Raises:
        ValueError: there is no member. When a state comes, rows of linear neighbours depend on each other or leave no
            admissible state, see `Stack`.
    """

    def __init__(self, constraints: Sequence[Constraint]) -> None:
        super().__init__()
        if not len(constraints):
            raise ValueError("Chain got no constraints; give at least one.")
        groups: list[list[Constraint]] = []
        for constraint in constraints:
            joins = isinstance(constraint, Linear) and constraint.nearest
            last = groups[-1][-1] if groups else None
            if joins and isinstance(last, Linear) and last.nearest:
                groups[-1].append(constraint)
            else:
                groups.append([constraint])
        self._sizes = tuple(map(len, groups))
        self.links = nn.ModuleList(g[0] if len(g) == 1 else Stack(g) for g in groups)

    @property
    def members(self) -> tuple[Constraint, ...]:
        """The constraints in order."""
        out: list[Constraint] = []
        for link, size in zip(self.links, self._sizes, strict=True):
            if size > 1 and isinstance(link, Stack):
                out += link.members
            elif isinstance(link, Constraint):
                out.append(link)
        return tuple(out)

    def prepare(self, channels: int) -> None:
        for link in self.links:
            if isinstance(link, Constraint):
                link.prepare(channels)

    @property
    def nonexpansive(self) -> bool:
        """Of all members alike, in the norm that they share."""
        return all(isinstance(link, Constraint) and link.nonexpansive for link in self.links)

    def project(self, u: Tensor, previous: Tensor | None = None, context: Context | None = None) -> Tensor:
        for link in self.links:
            u = link(u, previous, context)
        return u
