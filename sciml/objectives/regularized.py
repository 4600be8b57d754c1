"""A loss with a penalty."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor

from sciml.jacobian.remembered import Remembered
from sciml.objectives.base import Objective, Parts
from sciml.objectives.schedules import Schedule
from sciml.regularizers.base import Regularizer

Place = Literal["start", "rollout"]


class Regularized(Objective):
    """A loss L and a penalty R on the step's Jacobian at the first state of each window.

        scale free   log(L + floor) + w R        otherwise   L + w R

    One-step losses fall to 1e-6 and below, where any fixed weight ends up ruling the plain sum; under
    the logarithm the penalty keeps its proportion. The weight grows linearly from 0 over the first
    `warmup` training updates; the count is a buffer stored with the model, so a resumed run goes on
    where it stopped. Only calls in training mode are counted.

    Args:
        objective: gives L.
        regularizer: gives R, (B,).
        weight: w after the warm-up, 0 or more; a number or a schedule.
        warmup: number of training updates.
        scale_free: take the logarithm of the loss.
        floor: added under the logarithm.
        every: take the penalty at every m-th training update only, m times as heavy: the same gradient
            on average for about an m-th of its cost. Between, its part is logged as NaN.
        at: "start" penalises at the first state; "rollout" at the state that k free steps reach, held fixed, with k
            drawn per batch from 0 to the horizon of the loss less one: the states that a rollout meets. A sample
            whose free steps do not stay finite is taken at its first state.

    Raises:
        ValueError: weight or warm-up are negative, the floor is not positive, `every` is below 1, or the place is
            unknown.
    """

    updates: Tensor

    def __init__(
        self,
        objective: Objective,
        regularizer: Regularizer,
        weight: float | Schedule = 0.01,
        warmup: int = 0,
        scale_free: bool = True,
        floor: float = 1e-12,
        every: int = 1,
        at: Place = "start",
    ) -> None:
        super().__init__()
        least = weight.limits[0] if isinstance(weight, Schedule) else weight
        if not least >= 0 or warmup < 0 or not floor > 0 or every < 1:
            raise ValueError(
                f"Regularized got weight={weight}, warmup={warmup}, floor={floor}, every={every}; expected "
                "weight and warm-up of 0 or more, a positive floor and every >= 1."
            )
        if at not in get_args(Place):
            raise ValueError(f"Regularized got at={at!r}; expected one of {list(get_args(Place))}.")
        self.objective = objective
        self.horizon = objective.horizon
        self.regularizer = regularizer
        self.weight = weight
        self.warmup = int(warmup)
        self.scale_free = scale_free
        self.floor = float(floor)
        self.every = int(every)
        self.at = at
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    def current_weight(self) -> Tensor:
        """w at the present update."""
        weight = self.weight.at(int(self.updates)) if isinstance(self.weight, Schedule) else self.weight
        if self.warmup == 0:
            return torch.full((), weight, dtype=torch.float64, device=self.updates.device)
        return weight * (self.updates.to(torch.float64) / self.warmup).clamp(max=1.0)

    def forward(
        self,
        step: Callable[[Tensor], Tensor],
        window: Tensor,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Parts]:
        penalty = None
        told: Parts = {}
        if not self.training or self.every == 1 or int(self.updates) % self.every == 0:
            if self.objective.shares:  # what the penalty computes at the first state, the loss need not
                step = Remembered(step)
            penalty = self.regularizer(step, self._place(step, window, generator), generator).mean()
            told = self.regularizer.told()
        loss, parts = self.objective(step, window, generator)
        weight = self.current_weight().to(loss.dtype)
        total = torch.log(loss + self.floor) if self.scale_free else loss
        if penalty is None:
            penalty = loss.new_full((), torch.nan)
        else:
            total = total + weight * (self.every if self.training else 1) * penalty
        if self.training:
            self.updates += 1
        return total, {
            **parts,
            **told,
            "loss": loss.detach(),
            "penalty": penalty.detach(),
            "weight": weight,
        }

    def _place(
        self, step: Callable[[Tensor], Tensor], window: Tensor, generator: torch.Generator | None
    ) -> Tensor:
        """The states (B, C, *points) that are penalised at."""
        first = window[:, 0]
        if self.at == "start" or self.horizon < 2:
            return first
        device = None if generator is None else generator.device
        u = first
        with torch.no_grad():
            for _ in range(int(torch.randint(self.horizon, (), generator=generator, device=device))):
                u = step(u)
            if u is first:
                return first
            alive = torch.isfinite(u).flatten(1).all(dim=1)
            return torch.where(alive.reshape(-1, *[1] * (u.ndim - 1)), u, first)
