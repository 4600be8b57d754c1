"""Patterns of one wavelength."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sciml.calculus.base import Calculus
from sciml.calculus.spectral import Spectral
from sciml.domains import Grid
from sciml.pdes.base import SemiLinear, integral
from sciml.pdes.parameters import Parameter, check_parameter, fit, largest, smallest
from sciml.trajectory import Field


@dataclass(frozen=True)
class SwiftHohenberg(SemiLinear):
    """Swift-Hohenberg equation, u_t = r u - (1 + lap)^2 u + g u^2 - u^3, dimensionless.

    Waves near k = 1 grow at up to r and saturate as stripes (g = 0) or hexagons (g > 0); the functional of
    `energy` falls, u_t being minus its gradient. The box should have sides of several 2 pi, and the products
    (k < N pi/(2 side) on N points) should reach k = 2. Nothing is conserved.

    r u goes with the nonlinear part, so that no mode that products do not reach grows.

    Args:
        drive: r [1/time].
        quadratic: g [1/(u time)], without which u and -u are alike.

    Swift and Hohenberg, Phys. Rev. A 15 (1977) 319-328.
    """

    drive: Parameter = 0.7
    quadratic: Parameter = 1.0

    fields: ClassVar[tuple[Field, ...]] = (Field("u"),)
    degree: ClassVar[int] = 3

    def __post_init__(self) -> None:
        check_parameter("SwiftHohenberg", "drive", self.drive)
        check_parameter("SwiftHohenberg", "quadratic", self.quadratic)

    def linear(self, u: Tensor, calc: Calculus) -> Tensor:
        once = u + calc.laplacian(u)
        return -(once + calc.laplacian(once))

    def nonlinear(self, u: Tensor, calc: Calculus) -> Tensor:
        return fit(self.drive, u) * u + fit(self.quadratic, u) * u.square() - u**3

    def nonlinear_rate(self, grid: Grid, max_speed: float) -> float:
        """|r + 2 g u - 3 u^2| at the crests of a pattern; the speed does not matter."""
        r, g = (max(abs(largest(p)), abs(smallest(p))) for p in (self.drive, self.quadratic))
        # Crests stay below the u of r u + g u^2 - u^3 = 0 or so, where the slope is -(2 r + g u).
        crest = (g + (g * g + 4 * r) ** 0.5) / 2
        return 2 * r + g * crest

    def energy(self, u: Tensor, grid: Grid) -> Tensor:
        """Integral of ((1 + lap) u)^2/2 - r u^2/2 - g u^3/3 + u^4/4, (B, 1, *points) -> (B,), periodic grid."""
        bent = u + Spectral(grid).to(u.device).laplacian(u)
        square = u.square()
        density = (
            (bent.square() - fit(self.drive, u) * square) / 2
            - fit(self.quadratic, u) * u * square / 3
            + square.square() / 4
        )
        return integral(density, grid)[:, 0]
