"""Several linear constraints, met together."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sciml.constraints.base import Constraint, Context, at_least_single, named
from sciml.constraints.linear import Dependent, Linear, Projection, Rows
from sciml.constraints.several import Several


class Stack(Several):
    """The nearest state that meets several linear constraints at once: their rows in one projection.

    Projections on one after the other undo each other in general; this one meets all, to rounding, and is the nearest
    such state in the volume-weighted norm. Values that are prescribed at points (`FixedValues`) are written there to the
    last bit, and the other rows are met by the unknowns that are left, which gives the same state. `violations` tells
    of each member. `Chain` stacks neighbours of its own accord, all but projections without rows.

    One member may be an orthogonal projection without rows, such as `DivergenceFree`; the rows of the others are then
    met inside its set, u = P z - P W^-1 A' (A P W^-1 A')^-1 (A P z - b), and prescribed values are rows like others.

    Args:
        constraints: `ConservedMean`, `LinearRows`, `FixedValues`, additive `BlockAverage`, and other `Linear` ones, on
            the same points with the same volumes; at most one with `orthogonal` volumes.
        scales: typical size of each channel of the state, which balances channels of unlike units; one for all
            where left out [unit of u].
        dependent: rows that depend on others are refused, or dropped where their right-hand sides agree. The mean of
            all and the means of blocks that cover all are such rows.

    Raises:
        TypeError: a member is not linear.
        ValueError: there is no member. When a state of a new number of channels comes: points, volumes or scales of the
            members differ, rows depend on each other, contradict each other, or have no unknown left; the rows are named.
            When a state is projected outside torch.compile: right-hand sides of dropped rows do not agree.
    """

    def __init__(
        self,
        constraints: Sequence[Constraint],
        scales: Sequence[float] | None = None,
        dependent: Dependent = "refuse",
    ) -> None:
        super().__init__()
        if not len(constraints):
            raise ValueError("Stack got no constraints; give at least one.")
        without_rows = []
        for member in constraints:
            if isinstance(member, Linear) and member.nearest:
                continue
            if member.orthogonal() is None:
                raise TypeError(
                    f"Stack got a {type(member).__name__} that is no projection on rows A u = b; put it into a Chain, "
                    "before or after the others."
                )
            without_rows.append(type(member).__name__)
        if len(without_rows) > 1:
            raise ValueError(
                f"Stack got {named(without_rows)}; expected one projection without rows at most, which the rows of "
                "the others are met in."
            )
        self.constraints = nn.ModuleList(constraints)
        self.projection = Projection("Stack", dependent, scales)
        self._twice: dict[int, bool] = {}  # by number of channels, whether members fix the same values

    @property
    def members(self) -> tuple[Constraint, ...]:
        """The constraints in order."""
        return tuple(c for c in self.constraints if isinstance(c, Constraint))

    @property
    def within(self) -> Constraint | None:
        """The member without rows."""
        return next((m for m in self.members if not isinstance(m, Linear)), None)

    @torch.compiler.disable
    def prepare(self, channels: int) -> None:
        held, rows, fixed = self._parts(channels)
        if channels not in self._twice:
            self._twice[channels] = self._fixed_twice(held, channels)
        if rows is not None:
            self.projection.factor(rows, fixed)

    def _parts(self, channels: int) -> tuple[list[Linear], Rows | None, Tensor | None]:
        """Members that fix values, the rows of the others, and where values are fixed."""
        linear = [m for m in self.members if isinstance(m, Linear)]
        if self.within is not None:
            return [], Rows(linear, channels, self.within) if linear else None, None
        held, others, fixed = [], [], None
        for member in linear:
            where = member.fixed(channels)
            if where is None:
                others.append(member)
            else:
                held.append(member)
                fixed = where if fixed is None else fixed | where
        return held, Rows(others, channels) if others else None, fixed

    def _fixed_twice(self, held: Sequence[Linear], channels: int) -> bool:
        """Whether members fix the same values, which is refused unless the same rows may come twice."""
        masks = [where for where in (m.fixed(channels) for m in held) if where is not None]
        if len(masks) < 2:
            return False
        twice = torch.stack(masks).sum(dim=0) > 1
        if bool(twice.any()) and self.projection.dependent == "refuse":
            rows = Rows(held, channels)
            which = rows.multiply(twice.to(torch.float64).unsqueeze(0))[0].nonzero().flatten()
            raise ValueError(
                f"Stack got values that are fixed more than once: {rows.names(which)}. Leave out one of them, or say "
                "dependent='drop'."
            )
        return bool(twice.any())

    @property
    def nonexpansive(self) -> bool:
        return True

    def project(self, u: Tensor, previous: Tensor | None = None, context: Context | None = None) -> Tensor:
        u = at_least_single(u)
        channels = u.shape[1]
        if channels not in self._twice:
            self.prepare(channels)
        held, rows, fixed = self._parts(channels)
        dtype = u.dtype
        if self.within is not None:
            u = self.within.project(u.to(torch.float64), previous, context)
        for member in held:
            u = member.project(u, previous, context)
        if self._twice[channels] and not torch.compiler.is_compiling():
            self._check_agreement(held, u, previous, context)
        if rows is None:
            return u.to(dtype)
        right = rows.target(u, previous, context)
        return self.projection(rows, self.projection.factor(rows, fixed), u, right).to(dtype)

    @torch.no_grad()
    def _check_agreement(
        self, held: Sequence[Linear], u: Tensor, previous: Tensor | None, context: Context | None
    ) -> None:
        """Refuse values that members fix differently."""
        allowed = 100 * torch.finfo(u.dtype).eps * u.abs().amax()
        rows = Rows(held, u.shape[1])
        off = (rows.multiply(u.to(torch.float64)) - rows.target(u, previous, context)).abs() > allowed
        if bool(off.any()):
            which = off.any(dim=0).nonzero().flatten()
            raise ValueError(
                f"Stack got values that contradict each other: {rows.names(which)}. No state meets them all."
            )
