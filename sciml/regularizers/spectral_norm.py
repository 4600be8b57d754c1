"""A penalty on the worst direction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from sciml.jacobian.products import Mode, check_mode
from sciml.jacobian.singular import worst_direction
from sciml.regularizers.base import Regularizer
from sciml.regularizers.energy import Against, Target, channel_scales

Form = Literal["square", "hinge"]


class SpectralNorm(Regularizer):
    """Largest singular value of the Jacobian, as sigma^2 or relu(sigma - limit)^2.

    The direction is found anew at each call, without gradients, by `sciml.jacobian.leading_singular`; the value
    is differentiated with the direction held. It approaches sigma from below, so the penalty is too small by the
    little that is missing. Each iteration costs a product with J and one with J^T.

    Yoshida and Miyato, arXiv 1705.10941, penalise the layers; this is the norm of the whole step.

    Args:
        iterations: of the search.
        form: "square" for sigma^2, "hinge" for relu(sigma - limit)^2, which leaves contractions alone.
        limit: enlargement that is free in the form "hinge".
        target: "identity" measures J - I, "solver" J - J_ref.
        scale: a typical size of each channel (C,), where channels have unlike units.
        mode: how the Jacobian is multiplied, see `sciml.jacobian.Jacobian`.
        solver: for the target of that name.

    Raises:
        ValueError: an option is unknown or out of range.
    """

    scale: Tensor | None

    def __init__(
        self,
        iterations: int = 5,
        form: Form = "hinge",
        limit: float = 1.0,
        target: Target | None = None,
        scale: Sequence[float] | Tensor | None = None,
        mode: Mode = "auto",
        solver: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        if iterations < 1 or form not in get_args(Form) or not limit >= 0:
            raise ValueError(
                f"SpectralNorm got iterations={iterations}, form={form!r}, limit={limit}; expected at least 1, one of "
                f"{list(get_args(Form))} and a number from 0."
            )
        check_mode(mode)
        self.iterations = iterations
        self.form = form
        self.limit = float(limit)
        self.mode = mode
        self.against = Against(target, solver, "SpectralNorm")
        self.register_buffer("scale", channel_scales(scale, "SpectralNorm"), persistent=False)

    def forward(
        self, step: Callable[[Tensor], Tensor], u: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        sigma = worst_direction(
            step,
            u,
            self.iterations,
            mode=self.mode,
            scale=self.scale,
            target=self.against.what,  # type: ignore[arg-type] # "solver" has become the solver
            generator=generator,
        )[0]
        return sigma.square() if self.form == "square" else torch.relu(sigma - self.limit).square()
