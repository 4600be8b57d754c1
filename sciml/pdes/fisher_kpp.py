"""Logistic growth with diffusion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sciml.calculus.base import Calculus
from sciml.domains import Grid
from sciml.pdes.base import SemiLinear
from sciml.pdes.fronts import two_fronts, two_fronts_lengths
from sciml.pdes.parameters import Parameter, check_parameter, fit, largest, smallest
from sciml.trajectory import Field


@dataclass(frozen=True)
class FisherKPP(SemiLinear):
    """Fisher's or the Kolmogorov-Petrovsky-Piskunov equation, u_t = D lap(u) + r u (1 - u).

    States between 0 and 1 stay there and are drawn to 1, behind fronts of speed 2 sqrt(r D) or more;
    negative states run away to minus infinity in a finite time. Nothing is conserved.

    The linear part is D lap(u) alone: growth in it would amplify the rounding of modes that products do not
    reach, and damping, put in and taken out again, makes the errors in time larger. A grid too coarse for the
    width sqrt(D/r) of a front throws u below 0, where it does not come back; so does the rounding of an
    empty part after r t of about 35.

    Args:
        diffusivity: D [length^2/time], not negative.
        growth: r [1/time], not negative.

    Fisher, Annals of Eugenics 7 (1937) 355-369. Front: Ablowitz and Zeppetella, Bull. Math. Biol. 41 (1979)
    835-840.
    """

    diffusivity: Parameter = 0.01
    growth: Parameter = 1.0

    fields: ClassVar[tuple[Field, ...]] = (Field("density"),)

    def __post_init__(self) -> None:
        check_parameter("FisherKPP", "diffusivity", self.diffusivity, minimum=0.0)
        check_parameter("FisherKPP", "growth", self.growth, minimum=0.0)

    def linear(self, u: Tensor, calc: Calculus) -> Tensor:
        return fit(self.diffusivity, u) * calc.laplacian(u)

    def nonlinear(self, u: Tensor, calc: Calculus) -> Tensor:
        return fit(self.growth, u) * (u - u.square())

    def nonlinear_rate(self, grid: Grid, max_speed: float) -> float:
        """2 r, twice that of the states 0 and 1, for fronts right to 1e-5; the speed does not matter."""
        return 2 * largest(self.growth)

    def exact(self, x: Tensor, t: Tensor | float) -> Tensor:
        """Two fronts (1 + e^z)^-2 that leave each other at points x (B, D, *points) and times t, r t <= 6.

        Of speed 5 sqrt(r D/6), across the diagonal of a box of `exact_lengths`; solves the equation up to
        1e-11 r, what each front leaves at the other. See `two_fronts`.
        """
        return two_fronts(x, t, self.diffusivity, self.growth, 1, self.exact_lengths(x.shape[1]))

    def exact_lengths(self, dimension: int) -> tuple[float, ...]:
        """Sides of the periodic box of `exact` [length], 157 sqrt(D/r) in 1D.

        Raises:
            ValueError: a diffusivity or growth of zero has no front.
        """
        if smallest(self.diffusivity) == 0.0 or smallest(self.growth) == 0.0:
            raise ValueError(
                f"FisherKPP got diffusivity={self.diffusivity}, growth={self.growth}; a front needs both positive."
            )
        return two_fronts_lengths(self.diffusivity, self.growth, 1, dimension)
