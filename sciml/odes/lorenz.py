"""Two systems of Lorenz: convection in three unknowns, and weather on a circle of latitude."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.odes.base import ODE
from sciml.pdes.parameters import Parameter, check_parameter, fit
from sciml.trajectory import Field


@dataclass(frozen=True)
class Lorenz63(ODE):
    """x' = sigma (y - x), y' = x (rho - z) - y, z' = x y - beta z; all dimensionless.

    Chaotic at the classical values, where the exponents are 0.906, 0 and -14.57; volumes shrink at the rate
    sigma + 1 + beta everywhere. Symmetric under (x, y) -> (-x, -y).

    Args:
        sigma: Prandtl number.
        rho: Rayleigh number over its critical value.
        beta: shape of the convection cells.

    Lorenz, Journal of the Atmospheric Sciences 20 (1963) 130-141, equations 25 to 27.
    """

    sigma: Parameter = 10.0
    rho: Parameter = 28.0
    beta: Parameter = 8.0 / 3.0

    def __post_init__(self) -> None:
        for name in ("sigma", "rho", "beta"):
            check_parameter("Lorenz63", name, getattr(self, name))

    @property
    def fields(self) -> tuple[Field, ...]:
        return (Field("x"), Field("y"), Field("z"))

    def rhs(self, u: Tensor) -> Tensor:
        x, y, z = u.unbind(1)
        sigma, rho, beta = (fit(p, x) for p in (self.sigma, self.rho, self.beta))
        return torch.stack([sigma * (y - x), x * (rho - z) - y, x * y - beta * z], dim=1)

    def initial(self, samples: int, generator: torch.Generator) -> Tensor:
        """Normal round (0, 0, 25) with deviations (8, 8, 8): the attractor's size, not yet on it."""
        u = 8.0 * torch.randn(samples, 3, generator=generator, dtype=torch.float64)
        return u + u.new_tensor([0.0, 0.0, 25.0])


@dataclass(frozen=True)
class Lorenz96(ODE):
    """x_i' = (x_{i+1} - x_{i-2}) x_{i-1} - x_i + F on a ring of sites; dimensionless.

    The quadratic part carries things round and keeps sum x_i^2; damping and forcing do not. Chaotic for F
    above about 4 or 5 with 40 sites, and strongly so at F = 8. Turning the ring changes nothing.

    Args:
        sites: their number, at least 4.
        forcing: F.

    Lorenz, Predictability: a problem partly solved, ECMWF seminar (1996), equation 1.
    """

    sites: int = 40
    forcing: Parameter = 8.0

    def __post_init__(self) -> None:
        if not isinstance(self.sites, int) or self.sites < 4:
            raise ValueError(f"Lorenz96 got sites={self.sites!r}; expected a whole number of at least 4.")
        check_parameter("Lorenz96", "forcing", self.forcing)

    @property
    def fields(self) -> tuple[Field, ...]:
        return tuple(Field(f"x_{i + 1}") for i in range(self.sites))

    def rhs(self, u: Tensor) -> Tensor:
        carried = (u.roll(-1, 1) - u.roll(2, 1)) * u.roll(1, 1)
        return carried - u + fit(self.forcing, u)

    def initial(self, samples: int, generator: torch.Generator) -> Tensor:
        """The steady state x_i = F with a normal disturbance of deviation one."""
        u = torch.randn(samples, self.sites, generator=generator, dtype=torch.float64)
        return u + fit(self.forcing, u)
