"""Cars on a road."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sciml.pdes.parameters import Parameter, check_parameter, fit, largest, smallest
from sciml.pdes.scalar_law import ScalarLaw
from sciml.trajectory import Field


@dataclass(frozen=True)
class Traffic(ScalarLaw):
    """Density u of cars that drive the slower the closer they are, u_t + sum_d n_d d(u v(u))/dx_d = 0.

    Lighthill-Whitham-Richards with Greenshields' v(u) = V (1 - u / R). The flux is concave: cars that run
    into a queue make a shock, those that leave one a fan. A side "wall" is a red light. LeVeque, Finite
    Volume Methods for Hyperbolic Problems (2002), section 11.1.

    Args:
        free_speed: V [length/time], on an empty road, above 0.
        jam_density: R, bumper to bumper [1/length], above 0.

    Raises:
        ValueError: one of them is not above zero.
    """

    free_speed: Parameter = 1.0
    jam_density: Parameter = 1.0

    fields: ClassVar[tuple[Field, ...]] = (Field("density", "1/m"),)
    wave: ClassVar[tuple[float, float]] = (0.3, 0.1)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("free_speed", "jam_density"):
            value = getattr(self, name)
            check_parameter("Traffic", name, value)
            if smallest(value) <= 0:
                raise ValueError(f"Traffic got {name}={value}; expected above 0.")

    @property
    def bounds(self) -> tuple[float, float]:
        return 0.0, largest(self.jam_density)

    @property
    def sonic_points(self) -> tuple[Parameter, ...]:
        return (0.5 * self.jam_density,)

    def flow(self, u: Tensor) -> Tensor:
        return fit(self.free_speed, u) * u * (1.0 - u / fit(self.jam_density, u))

    def speed(self, u: Tensor) -> Tensor:
        return fit(self.free_speed, u) * (1.0 - 2.0 * u / fit(self.jam_density, u))
