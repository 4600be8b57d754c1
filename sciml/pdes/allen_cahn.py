"""Two phases without conservation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sciml.calculus.base import Calculus
from sciml.calculus.spectral import Spectral
from sciml.domains import Grid
from sciml.pdes.base import SemiLinear, integral
from sciml.pdes.fronts import two_fronts, two_fronts_lengths, two_kinks, two_kinks_lengths
from sciml.pdes.parameters import Parameter, check_parameter, fit, largest, smallest
from sciml.trajectory import Field


@dataclass(frozen=True)
class AllenCahn(SemiLinear):
    """Allen-Cahn equation, u_t = D lap(u) + r (u - u^3).

    States between -1 and 1 stay there; the energy of `energy` falls, u_t being minus its gradient. Kinks
    tanh(x sqrt(r/(2 D))) between the phases -1 and 1 stand still where they are flat, and move by D times
    their curvature. Nothing is conserved.

    The linear part is D lap(u) alone: growth in it would amplify the rounding of modes that products do not
    reach, and damping, put in and taken out again, makes the errors in time larger.

    Args:
        diffusivity: D [length^2/time], not negative.
        reaction: r [1/time], not negative.

    Allen and Cahn, Acta Metallurgica 27 (1979) 1085-1095.
    """

    diffusivity: Parameter = 5e-3
    reaction: Parameter = 1.0

    fields: ClassVar[tuple[Field, ...]] = (Field("phase"),)
    degree: ClassVar[int] = 3

    def __post_init__(self) -> None:
        check_parameter("AllenCahn", "diffusivity", self.diffusivity, minimum=0.0)
        check_parameter("AllenCahn", "reaction", self.reaction, minimum=0.0)

    def linear(self, u: Tensor, calc: Calculus) -> Tensor:
        return fit(self.diffusivity, u) * calc.laplacian(u)

    def nonlinear(self, u: Tensor, calc: Calculus) -> Tensor:
        return fit(self.reaction, u) * (u - u**3)

    def nonlinear_rate(self, grid: Grid, max_speed: float) -> float:
        """3 r, above the 2 r of both phases, for fronts right to 1e-5; the speed does not matter."""
        return 3 * largest(self.reaction)

    def energy(self, u: Tensor, grid: Grid) -> Tensor:
        """Integral of D |grad u|^2/2 + r (1 - u^2)^2/4, (B, 1, *points) -> (B,), on a periodic grid."""
        steep = Spectral(grid).to(u.device).gradient(u).square().sum(dim=2)
        well = (1 - u.square()).square()
        density = fit(self.diffusivity, u) * steep / 2 + fit(self.reaction, u) * well / 4
        return integral(density, grid)[:, 0]

    def kinks(self, x: Tensor) -> Tensor:
        """Two kinks that stand still at points x (B, D, *points) of a periodic box of `kink_lengths`.

        Across its diagonal; they solve the equation up to 1e-12 r, what each leaves of its tail at the other.
        """
        return two_kinks(x, self._width(), self.kink_lengths(x.shape[1]))

    def kink_lengths(self, dimension: int) -> tuple[float, ...]:
        """Sides of the periodic box of `kinks` [length], 45 sqrt(D/r) in 1D."""
        return two_kinks_lengths(self._width(), dimension)

    def exact(self, x: Tensor, t: Tensor | float) -> Tensor:
        """Two fronts 1/(1 + e^z) that leave each other at points x (B, D, *points) and times t, r t <= 3.

        Of the phase 1 into the unstable state 0 at speed 3 sqrt(r D/2), across the diagonal of a box of
        `exact_lengths`; solves the equation up to 1e-11 r, what each front leaves at the other. See `two_fronts`.
        """
        return two_fronts(x, t, self.diffusivity, self.reaction, 2, self.exact_lengths(x.shape[1]))

    def exact_lengths(self, dimension: int) -> tuple[float, ...]:
        """Sides of the periodic box of `exact` [length], 91 sqrt(D/r) in 1D."""
        self._width()
        return two_fronts_lengths(self.diffusivity, self.reaction, 2, dimension)

    def _width(self) -> Parameter:
        """sqrt(2 D/r), that of a kink [length].

        Raises:
            ValueError: it is zero or infinite.
        """
        if smallest(self.diffusivity) == 0.0 or smallest(self.reaction) == 0.0:
            raise ValueError(
                f"AllenCahn got diffusivity={self.diffusivity}, reaction={self.reaction}; a front needs both "
                "positive."
            )
        return (2 * self.diffusivity / self.reaction) ** 0.5
