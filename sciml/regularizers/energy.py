"""How the penalties on sensitivity estimate it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from sciml.jacobian.energy import Kind, check_options, jacobian_energy
from sciml.jacobian.probes import Distribution
from sciml.jacobian.products import Mode, StepFunction

Target = Literal["identity", "solver"]


def channel_scales(scale: Sequence[float] | Tensor | None, owner: str) -> Tensor | None:
    """Channel scales as a float64 tensor (C,).

    Raises:
        ValueError: they are not a list of positive, finite numbers.
    """
    if scale is None:
        return None
    values = torch.as_tensor(scale, dtype=torch.float64).detach().clone()
    if values.ndim != 1 or not bool((torch.isfinite(values) & (values > 0)).all()):
        raise ValueError(f"{owner} got channel scales {values.tolist()}; expected positive numbers (C,).")
    return values


class Against:
    """What is subtracted from J before it is penalised: nothing, the identity, or a solver's J at the same state.

    Not a module: the solver's own parameters, if it has any, are neither trained nor stored with the model.

    Raises:
        ValueError: the target is unknown, or it is "solver" and none is given.
    """

    def __init__(self, target: Target | None, solver: StepFunction | None, owner: str) -> None:
        if target not in (None, *get_args(Target)):
            raise ValueError(
                f"{owner} got target={target!r}; expected None or one of {list(get_args(Target))}."
            )
        if target == "solver" and solver is None:
            raise ValueError(f"{owner} got target='solver' but no solver; give the step to compare with.")
        self.what = solver if target == "solver" else target


class Energy(nn.Module):
    """`jacobian_energy` with its options, as penalties hold it: (step, u, generator) -> (B, *points).

    Args:
        kind: "row" or "column".
        probes: random directions per state; one, drawn afresh at each call, is unbiased. None takes all unit
            vectors, for small systems.
        target, solver: see `Against`.
        scale: a typical size of each channel (C,).
        distribution: of the directions.
        mode: how the Jacobian is multiplied, see `sciml.jacobian.Jacobian`.
        owner: the penalty, for messages.

    Raises:
        ValueError: an option is unknown or out of range.
    """

    scale: Tensor | None

    def __init__(
        self,
        kind: Kind,
        probes: int | None,
        target: Target | None,
        solver: StepFunction | None,
        scale: Sequence[float] | Tensor | None,
        distribution: Distribution,
        mode: Mode,
        owner: str,
    ) -> None:
        super().__init__()
        check_options(kind, probes, distribution, mode, None)
        self.kind = kind
        self.probes = probes
        self.distribution = distribution
        self.mode = mode
        self.against = Against(target, solver, owner)
        self.register_buffer("scale", channel_scales(scale, owner), persistent=False)

    def forward(
        self, step: Callable[[Tensor], Tensor], u: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        return jacobian_energy(
            step,
            u,
            kind=self.kind,
            probes=self.probes,
            distribution=self.distribution,
            mode=self.mode,
            target=self.against.what,  # type: ignore[arg-type] # "solver" has become the solver
            scale=self.scale,
            generator=generator,
        )
