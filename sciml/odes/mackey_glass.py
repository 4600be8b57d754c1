"""The blood cells of Mackey and Glass."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.odes.delay import Delay
from sciml.pdes.parameters import Parameter, check_parameter, fit
from sciml.trajectory import Field


@dataclass(frozen=True)
class MackeyGlass(Delay):
    """u'(t) = beta u(t - tau) / (1 + u(t - tau)^n) - gamma u(t): cells that are made a delay after they were missed.

    Stays positive. At the values given here a band round a swing of period 50 whose exponents are 0.0051, 0 and -0.039
    (0.0056 where one short path was measured); periodic below tau = 16.8, of more dimensions the longer the delay.
    With 19 points solutions on the attractor follow those of the delay equation to 3e-6 over four delays; longer
    delays need more of them.

    Args:
        beta: of what is made, beta / 2 at u = 1 [1/time].
        gamma: what is lost [1/time].
        power: n, how abruptly production stops.
        delay: tau [time].
        nodes: values of the history, see `Delay`.

    Mackey and Glass, Science 197 (1977) 287-289, equation 4b; Farmer, Physica D 4 (1982) 366-393, for its exponents.
    """

    beta: Parameter = 0.2
    gamma: Parameter = 0.1
    power: Parameter = 10.0
    delay: Parameter = 17.0
    nodes: int = 19

    def __post_init__(self) -> None:
        for name in ("beta", "gamma", "power"):
            check_parameter("MackeyGlass", name, getattr(self, name))
        self.check_delay()

    @property
    def unknowns(self) -> tuple[Field, ...]:
        return (Field("u"),)

    def rate(self, now: Tensor, then: Tensor) -> Tensor:
        beta, gamma, power = (fit(p, now) for p in (self.beta, self.gamma, self.power))
        return beta * then / (1 + then**power) - gamma * now

    def initial(self, samples: int, generator: torch.Generator) -> Tensor:
        """A swing of amplitude 0.2 and one to three turns in a delay, round a level from 0.7 to 1.1."""
        level, turns, phase = torch.rand(3, samples, 1, generator=generator, dtype=torch.float64).unbind(0)
        angle = (1 + 2 * turns) * self.ages / torch.as_tensor(self.delay, dtype=torch.float64).unsqueeze(
            -1
        ) + phase
        return 0.7 + 0.4 * level + 0.2 * torch.sin(2 * torch.pi * angle)
