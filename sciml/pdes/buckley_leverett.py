"""Displacement of oil by water in a porous rock."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sciml.pdes.parameters import Parameter, check_parameter, fit, smallest
from sciml.pdes.scalar_law import ScalarLaw
from sciml.trajectory import Field


@dataclass(frozen=True)
class BuckleyLeverett(ScalarLaw):
    """Share u of the pores that water fills, u_t + sum_d n_d df(u)/dx_d = 0.

    With f(u) = u^2 / (u^2 + M (1 - u)^2), neither convex nor concave: water that displaces oil makes a shock
    with a fan behind it. n is the rate of filtration over the porosity, see `ScalarLaw`. LeVeque, Finite
    Volume Methods for Hyperbolic Problems (2002), section 16.1.1.

    Args:
        mobility: M, the viscosity of water over that of oil, above 0; (B,) gives each sample its own.

    Raises:
        ValueError: M is not above zero.
    """

    mobility: Parameter = 0.5

    fields: ClassVar[tuple[Field, ...]] = (Field("saturation"),)
    wave: ClassVar[tuple[float, float]] = (0.4, 0.1)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_parameter("BuckleyLeverett", "mobility", self.mobility)
        if smallest(self.mobility) <= 0:
            raise ValueError(f"BuckleyLeverett got mobility={self.mobility}; expected above 0.")

    @property
    def bounds(self) -> tuple[float, float]:
        return 0.0, 1.0

    @property
    def sonic_points(self) -> tuple[float, ...]:
        return ()  # f grows between 0 and 1

    @property
    def inflections(self) -> tuple[Parameter, ...]:
        """The root in (0, 1) of 3 u^2 - 2 u^3 = M / (1 + M), where f'' = 0."""
        share = self.mobility / (1.0 + self.mobility)
        if isinstance(share, Tensor):
            return (0.5 - torch.sin(torch.asin(1.0 - 2.0 * share) / 3.0),)
        return (0.5 - math.sin(math.asin(1.0 - 2.0 * share) / 3.0),)

    def flow(self, u: Tensor) -> Tensor:
        square = u.square()
        return square / (square + fit(self.mobility, u) * (1.0 - u).square())

    def speed(self, u: Tensor) -> Tensor:
        ratio = fit(self.mobility, u)
        return 2.0 * ratio * u * (1.0 - u) / (u.square() + ratio * (1.0 - u).square()).square()
