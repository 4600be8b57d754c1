"""The Kuramoto-Sivashinsky equation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sciml.calculus.base import Calculus
from sciml.domains import Domain
from sciml.pdes.base import SemiLinear, integral, is_periodic
from sciml.trajectory import Field


@dataclass(frozen=True)
class KuramotoSivashinsky(SemiLinear):
    """Kuramoto-Sivashinsky equation, dimensionless; the sides of the box set what it does.

    In 1D the derivative form u_t + u u_x + u_xx + u_xxxx = 0, with u the slope of a front. In 2D and 3D,
    and in 1D where `integrated`, the form for its height (of combustion),
    u_t + |grad u|^2/2 + lap(u) + lap(lap(u)) = 0, less the spatial mean of the second term: that mean
    grows without bound and acts back on nothing. In 1D its slope obeys the derivative form. The vector form
    would be one statement for all dimensions, but its solenoidal modes grow with nothing to saturate
    them, so that rounding ends it. The mean of u is kept in each form, on periodic boxes; the mean is
    taken over the points, which have to cover the box evenly.

    Args:
        integrated: whether u is the height in 1D too.

    Chaotic from sides of about 22 on. Kuramoto, Progress of Theoretical Physics 55 (1976) 356-369;
    Sivashinsky, Acta Astronautica 4 (1977) 1177-1206.
    """

    integrated: bool = False

    fields: ClassVar[tuple[Field, ...]] = (Field("u"),)

    def __post_init__(self) -> None:
        if not isinstance(self.integrated, bool):
            raise ValueError(
                f"KuramotoSivashinsky got integrated={self.integrated!r}; expected True or False."
            )

    def linear(self, u: Tensor, calc: Calculus) -> Tensor:
        if calc.dimension == 1:
            return -(calc.derivative(u, 0, 2) + calc.derivative(u, 0, 4))
        curvature = calc.laplacian(u)
        return -(curvature + calc.laplacian(curvature))

    def nonlinear(self, u: Tensor, calc: Calculus) -> Tensor:
        if calc.dimension == 1 and not self.integrated:
            return -0.5 * calc.derivative(u.square(), 0)
        steepness = 0.5 * calc.gradient(u).square().sum(dim=2)
        return steepness.mean(dim=tuple(range(2, u.ndim)), keepdim=True) - steepness

    def invariants(self, u: Tensor, domain: Domain) -> Mapping[str, Tensor]:
        return {"integral": integral(u, domain)[:, 0]} if is_periodic(domain) else {}
