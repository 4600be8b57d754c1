"""What a penalty on a step promises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn


def parts_of(step: Callable[[Tensor], Tensor]) -> Iterator[nn.Module]:
    """The modules inside a step, none for a plain function; of what a `Remembered` holds, too, which is no module."""
    modules = getattr(step, "modules", None)
    return iter(()) if modules is None else modules()


class Regularizer(nn.Module, ABC):
    """A penalty on the Jacobian of a step, differentiable in the parameters of the step.

    It sees nothing but the step, solver and network alike, so the same number is a penalty in training,
    a diagnostic along a rollout, and a property of the solver that a network imitates. It may own
    parameters, which are trained with the model (without weight decay) and left out afterwards.
    """

    @abstractmethod
    def forward(
        self, step: Callable[[Tensor], Tensor], u: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """The penalty at states u, (B, C, *points) -> (B,)."""

    def told(self) -> dict[str, Tensor]:
        """What the last call has to say beside its value, scalars without gradient by name, for the log."""
        return {}
