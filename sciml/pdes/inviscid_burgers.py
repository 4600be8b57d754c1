"""Burgers' equation without viscosity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sciml.pdes.scalar_law import ScalarLaw


@dataclass(frozen=True)
class InviscidBurgers(ScalarLaw):
    """Inviscid Burgers' equation of one channel, u_t + sum_d n_d d(u^2/2)/dx_d = 0.

    Shocks run at the mean of the states beside them; see `ScalarLaw` for the direction n. The limit of
    `ScalarBurgers` without viscosity.
    """

    wave: ClassVar[tuple[float, float]] = (0.5, 0.2)

    @property
    def sonic_points(self) -> tuple[float, ...]:
        return (0.0,)

    def flow(self, u: Tensor) -> Tensor:
        return 0.5 * u.square()

    def speed(self, u: Tensor) -> Tensor:
        return u
