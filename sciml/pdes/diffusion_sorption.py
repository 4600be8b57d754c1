"""Diffusion of a dissolved substance that the ground takes up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sciml.pdes.diffusion_law import DiffusionLaw
from sciml.pdes.parameters import Parameter, check_parameter, fit, largest
from sciml.trajectory import Field

# Powers of nothing: keeps slopes finite where |u|^n has none.
_TINY = 1e-30


@dataclass(frozen=True)
class DiffusionSorption(DiffusionLaw):
    """Diffusion with retardation, R(u) u_t = D lap(u), R = 1 + (1 - phi)/phi rho k n u^(n - 1).

    In the form and with the coefficients of PDEBench's diffusion-sorption data (Takamoto et al., NeurIPS 2022;
    Nowak and Guthke, Entropy 18 (2016) 409). There x is in (0, 1), t up to 500, u(0) = 1, D u_x + u = 0 at x = 1
    (in the sign of its generator, with which the substance leaves), and u starts constant, U(0, 0.2).

    u is the concentration in the water. What is stored is that and the sorbed part, the Freundlich isotherm
    a u^n: (u + a u^n)_t = D lap(u) with a = (1 - phi)/phi rho k, and its integral is kept between insulated
    sides. R is singular at u = 0 for n < 1, where u_t is zero: a clean region is entered by a front.

    Args:
        diffusivity: D, effective [length^2/time], not negative.
        porosity: phi, above 0 and at most 1.
        density: rho, bulk density [mass/length^3], not negative.
        partition: k, Freundlich's coefficient [length^3/mass for n = 1], not negative.
        exponent: n of Freundlich, positive.
    """

    diffusivity: Parameter = 5e-4
    porosity: Parameter = 0.29
    density: Parameter = 2880.0
    partition: Parameter = 3.5e-4
    exponent: Parameter = 0.874

    fields: ClassVar[tuple[Field, ...]] = (Field("concentration"),)
    nonnegative: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name in ("diffusivity", "porosity", "density", "partition", "exponent"):
            check_parameter("DiffusionSorption", name, getattr(self, name), minimum=0.0)
        for name in ("porosity", "exponent"):
            value = torch.as_tensor(getattr(self, name), dtype=torch.float64)
            if bool((value <= 0).any()) or (name == "porosity" and largest(self.porosity) > 1):
                wanted = "above 0 and at most 1" if name == "porosity" else "above 0"
                raise ValueError(f"DiffusionSorption got {name}={getattr(self, name)}; expected {wanted}.")

    def _sorption(self, u: Tensor) -> tuple[Parameter, Parameter]:
        """a and n of the isotherm a u^n."""
        phi = fit(self.porosity, u)
        return (1 - phi) / phi * fit(self.density, u) * fit(self.partition, u), fit(self.exponent, u)

    def potential(self, u: Tensor) -> Tensor:
        return fit(self.diffusivity, u) * u

    def conductivity(self, u: Tensor) -> Tensor:
        return fit(self.diffusivity, u) * torch.ones_like(u)

    def storage(self, u: Tensor) -> Tensor:
        a, n = self._sorption(u)
        return u + a * torch.sign(u) * u.abs().clamp(min=_TINY) ** n

    def release(self, u: Tensor) -> Tensor:
        a, n = self._sorption(u)
        return 1.0 / (1.0 + a * n * u.abs().clamp(min=_TINY) ** (n - 1.0))

    def retardation(self, u: Tensor) -> Tensor:
        """R(u), (B, 1, *points) -> (B, 1, *points); large instead of infinite at u = 0."""
        return 1.0 / self.release(u)

    def state(self, stored: Tensor) -> Tensor:
        """u of what is stored, by Newton's method from a side on which it cannot overshoot."""
        with torch.no_grad():
            a, n = self._sorption(stored)
            size = stored.abs()
            ratio = size / (1.0 + a)
            # u + a u^n lies between (1 + a) u and (1 + a) u^n: the better bound is below u for n < 1, where the
            # function is concave, and above it for n > 1, where it is convex.
            u = torch.where(ratio < 1, ratio ** (1.0 / n), ratio)
            enough = 4 * torch.finfo(stored.dtype).eps
            for _ in range(100):
                change = (size - self.storage(u)) * self.release(u)
                u = (u + change).clamp(min=0.0)
                if not bool((change.abs() > enough * u).any()):
                    break
            u = torch.sign(stored) * u
        # From the solution one more step does not move, and has its derivatives.
        return u + (stored - self.storage(u)) * self.release(u)
