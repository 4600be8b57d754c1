"""A constraint as a penalty, which asks and does not hold."""

from __future__ import annotations

import torch
from torch import Tensor

from sciml.constraints.base import Constraint
from sciml.objectives.schedules import Schedule
from sciml.objectives.terms import Term


class SoftConstraint(Term):
    """Mean square of what a constraint would change in each state of a rollout, |u_k - P(u_k)|^2 with P its projection.

    What a hard constraint is compared with: the same law, asked for with a weight. Of an orthogonal projection it is the
    squared distance to the admissible states, and its gradient is twice the way there: P is not differentiated, so that
    it is smooth at admissible states too, where a norm of the violation is not. The state before is the rollout's own,
    the first one being that of the data. In the units of the loss, channel by channel, beside which the weight stands;
    the constraint itself sees physical units.

    Args:
        constraint: P.
        weight: what it is multiplied by, a number or a schedule.
        units: mean and scale of each channel (C,) in which the objective sees states; none for physical units.
    """

    mean: Tensor | None
    scale: Tensor | None

    def __init__(
        self,
        constraint: Constraint,
        weight: float | Schedule = 1.0,
        units: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        super().__init__(weight, "soft_constraint")
        self.constraint = constraint
        mean, scale = (None, None) if units is None else (value.detach().clone() for value in units)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("scale", scale, persistent=False)

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        u = pred
        shape = (-1, *[1] * (pred.ndim - 3))
        if self.mean is not None and self.scale is not None:
            u = pred * self.scale.to(pred).reshape(shape) + self.mean.to(pred).reshape(shape)
        before, after = u[:, :-1].flatten(0, 1), u[:, 1:].flatten(0, 1)
        with torch.no_grad():
            admissible = self.constraint.project(after, previous=before)
        change = (after - admissible).unflatten(0, (len(pred), -1))
        if self.scale is not None:
            change = change / self.scale.to(change).reshape(shape)
        return change.square().flatten(1).mean(dim=1)
