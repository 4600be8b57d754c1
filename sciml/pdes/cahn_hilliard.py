"""Two phases that keep their masses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sciml.calculus.base import Calculus
from sciml.calculus.spectral import Spectral
from sciml.domains import Domain, Grid
from sciml.pdes.base import SemiLinear, integral, is_periodic
from sciml.pdes.fronts import two_kinks, two_kinks_lengths
from sciml.pdes.parameters import Parameter, check_parameter, fit, largest, smallest
from sciml.trajectory import Field


@dataclass(frozen=True)
class CahnHilliard(SemiLinear):
    """Cahn-Hilliard equation, u_t = D lap(u^3 - u - gamma lap(u)).

    Keeps the integral of u on periodic boxes, while the energy of `energy` falls. From u = 0 a small wave
    grows at D k^2 (1 - gamma k^2); the phases near -1 and 1 then coarsen slowly. A grid has to have a few
    points in sqrt(gamma).

    The linear part is -D gamma lap(lap(u)) alone: growth in it would amplify the rounding of modes that products
    do not reach, and damping, put in and taken out again, makes the errors in time larger.

    Args:
        mobility: D [length^2/time], not negative.
        gradient_energy: gamma [length^2], positive; interfaces are sqrt(2 gamma) thick.

    Cahn and Hilliard, J. Chem. Phys. 28 (1958) 258-267; Cahn, Acta Metallurgica 9 (1961) 795-801.
    """

    mobility: Parameter = 0.01
    gradient_energy: Parameter = 1e-3

    fields: ClassVar[tuple[Field, ...]] = (Field("phase"),)
    degree: ClassVar[int] = 3

    def __post_init__(self) -> None:
        check_parameter("CahnHilliard", "mobility", self.mobility, minimum=0.0)
        check_parameter("CahnHilliard", "gradient_energy", self.gradient_energy, minimum=0.0)
        if smallest(self.gradient_energy) == 0.0:
            raise ValueError(
                f"CahnHilliard got gradient_energy={self.gradient_energy}; without it short waves grow without "
                "bound. Give a positive one."
            )

    def linear(self, u: Tensor, calc: Calculus) -> Tensor:
        curved = fit(self.gradient_energy, u) * calc.laplacian(u)
        return -fit(self.mobility, u) * calc.laplacian(curved)

    def nonlinear(self, u: Tensor, calc: Calculus) -> Tensor:
        return fit(self.mobility, u) * calc.laplacian(u**3 - u)

    def nonlinear_rate(self, grid: Grid, max_speed: float) -> float:
        """D/gamma, four times the fastest growth; the linear part holds the shorter waves. Speed plays no role."""
        return largest(self.mobility) / smallest(self.gradient_energy)

    def invariants(self, u: Tensor, domain: Domain) -> Mapping[str, Tensor]:
        return {"mass": integral(u, domain)[:, 0]} if is_periodic(domain) else {}

    def energy(self, u: Tensor, grid: Grid) -> Tensor:
        """Integral of (1 - u^2)^2/4 + gamma |grad u|^2/2, (B, 1, *points) -> (B,), on a periodic grid."""
        steep = Spectral(grid).to(u.device).gradient(u).square().sum(dim=2)
        density = (1 - u.square()).square() / 4 + fit(self.gradient_energy, u) * steep / 2
        return integral(density, grid)[:, 0]

    def exact(self, x: Tensor, t: Tensor | float) -> Tensor:
        """Two kinks tanh(x/sqrt(2 gamma)) that stand still, at points x (B, D, *points) and any t.

        Across the diagonal of a box of `exact_lengths`; they solve the equation up to 1e-12 D/gamma, what each
        leaves of its tail at the other.
        """
        kinks = two_kinks(x, self._width(), self.exact_lengths(x.shape[1]))
        # Times may be given per point, and shape what is returned.
        return kinks + 0.0 * t

    def exact_lengths(self, dimension: int) -> tuple[float, ...]:
        """Sides of the periodic box of `exact` [length], 45 sqrt(gamma) in 1D."""
        return two_kinks_lengths(self._width(), dimension)

    def _width(self) -> Parameter:
        """sqrt(2 gamma), that of an interface [length]."""
        return (2 * self.gradient_energy) ** 0.5
