"""Diffusion that stops where nothing is: porous media and melting fronts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from sciml.pdes.diffusion_law import DiffusionLaw
from sciml.pdes.parameters import Parameter, check_parameter, fit
from sciml.trajectory import Field


@dataclass(frozen=True)
class PorousMedium(DiffusionLaw):
    """Porous medium equation, u_t = div(kappa u^m grad u), with the heat equation at m = 0.

    For m > 0 a state that vanishes somewhere spreads at a finite speed behind a front, where u behaves as
    distance^(1/m). The integral of u is kept between insulated sides, and min and max of u stay where they
    are. Where u < 0, |u|^m stands for u^m.

    Args:
        exponent: m, not negative.
        diffusivity: kappa [length^2/time/u^m], not negative.

    Vazquez, The Porous Medium Equation (2007).
    """

    exponent: Parameter = 2.0
    diffusivity: Parameter = 1.0

    fields: ClassVar[tuple[Field, ...]] = (Field("density"),)
    nonnegative: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_parameter("PorousMedium", "exponent", self.exponent, minimum=0.0)
        check_parameter("PorousMedium", "diffusivity", self.diffusivity, minimum=0.0)

    def potential(self, u: Tensor) -> Tensor:
        m = fit(self.exponent, u)
        return fit(self.diffusivity, u) / (m + 1.0) * u.abs() ** m * u

    def conductivity(self, u: Tensor) -> Tensor:
        return fit(self.diffusivity, u) * u.abs() ** fit(self.exponent, u)

    def barenblatt(
        self, x: Tensor, t: Tensor | float, *, size: float = 1.0, center: float | tuple[float, ...] = 0.0
    ) -> Tensor:
        """The density that spreads from a point, (B, 1, *points) at points x (B, D, *points) and times t > 0.

        t^-a (C - q |x|^2 t^(-2a/d))^(1/m) where that is positive, with a = d/(d m + 2), q = a m/(2 (m + 1) d),
        t in units of (m + 1)/kappa, and C = `size`. A weak solution: at the front it has no slope for m >= 1.

        Raises:
            ValueError: m or kappa is zero, where the solution is another.

        Vazquez (2007), section 4.4.
        """
        m, tau, a, q = self._barenblatt(x, t)
        shift = torch.as_tensor(center, dtype=x.dtype, device=x.device).reshape(1, -1, *[1] * (x.ndim - 2))
        square = (x - shift).square().sum(dim=1, keepdim=True)
        inside = (size - q * square * tau ** (-2 * a / x.shape[1])).clamp(min=0.0)
        return tau**-a * inside ** (1.0 / m)

    def barenblatt_front(self, t: float, dimension: int, *, size: float = 1.0) -> Tensor:
        """Distance of its front from the centre at time t, (B, 1, 1) [length]."""
        _, tau, a, q = self._barenblatt(torch.zeros(1, dimension, 1, dtype=torch.float64), t)
        return (size / q) ** 0.5 * tau ** (a / dimension)

    def barenblatt_mass(self, dimension: int, *, size: float = 1.0) -> Tensor:
        """Its integral over all space, (B, 1, 1) [u * length^D]."""
        m, _, _, q = self._barenblatt(torch.zeros(1, dimension, 1, dtype=torch.float64), 1.0)
        half = 0.5 * dimension
        gammas = torch.exp(torch.lgamma(1 / m + 1) - torch.lgamma(1 / m + 1 + half))
        return size ** (1 / m + half) * (math.pi / q) ** half * gammas

    def wave(self, x: Tensor, t: Tensor | float, *, speed: float = 1.0) -> Tensor:
        """The density that fills an empty half-space at a constant speed v along the first axis, (B, 1, *points).

        (m v/kappa max(v t - x, 0))^(1/m). Its value on a side changes with time.
        """
        m = self._positive(x)[0]
        ahead = (speed * torch.as_tensor(t, dtype=x.dtype, device=x.device) - x[:, :1]).clamp(min=0.0)
        return (m * speed / fit(self.diffusivity, x) * ahead) ** (1.0 / m)

    def _positive(self, x: Tensor) -> tuple[Tensor, Tensor]:
        m = torch.as_tensor(fit(self.exponent, x), dtype=x.dtype, device=x.device)
        kappa = torch.as_tensor(fit(self.diffusivity, x), dtype=x.dtype, device=x.device)
        if not bool((m > 0).all()) or not bool((kappa > 0).all()):
            raise ValueError(
                f"PorousMedium has this solution for a positive exponent and diffusivity; got {self.exponent} and "
                f"{self.diffusivity}. For m = 0 see Heat."
            )
        return m, kappa

    def _barenblatt(self, x: Tensor, t: Tensor | float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        m, kappa = self._positive(x)
        d = x.shape[1]
        a = d / (d * m + 2)
        tau = kappa / (m + 1) * torch.as_tensor(t, dtype=x.dtype, device=x.device)
        return m, tau, a, a * m / (2 * (m + 1) * d)


@dataclass(frozen=True)
class Stefan(DiffusionLaw):
    """Diffusion with a threshold, u_t = div(k(u) grad u), k = kappa where u >= u*, zero below.

    A melting front in its simplest form: u is the heat content, u* what it takes to melt, and only the
    melted part conducts. u jumps at the front from u* to what lies before it. The integral of u is kept
    between insulated sides.

    Args:
        threshold: u*.
        diffusivity: kappa [length^2/time], not negative.

    Alexiades and Solomon, Mathematical Modeling of Melting and Freezing Processes (1993), chapter 4; in this
    form in Hansen et al., ICML 2023 (arXiv 2302.11002), appendix.
    """

    threshold: Parameter = 0.6
    diffusivity: Parameter = 1.0

    fields: ClassVar[tuple[Field, ...]] = (Field("content"),)
    smooth: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_parameter("Stefan", "threshold", self.threshold)
        check_parameter("Stefan", "diffusivity", self.diffusivity, minimum=0.0)

    def potential(self, u: Tensor) -> Tensor:
        return fit(self.diffusivity, u) * (u - fit(self.threshold, u)).clamp(min=0.0)

    def conductivity(self, u: Tensor) -> Tensor:
        return fit(self.diffusivity, u) * (u >= fit(self.threshold, u)).to(u.dtype)

    def similarity(self, x: Tensor, t: float) -> Tensor:
        """The front that enters an empty half-space from a side held at 1, (B, 1, *points) at x (B, D, *points).

        u = 1 - (1 - u*) erf(x/(2 sqrt(kappa t)))/erf(z) behind the front at 2 z sqrt(kappa t), 0 before it, along
        the first axis; z solves (1 - u*)/sqrt(pi) = u* z erf(z) exp(z^2).

        Raises:
            ValueError: the threshold is not one number between 0 and 1.
        """
        z, kappa = self._root, self._kappa
        share = x[:, :1] / (2 * math.sqrt(kappa * t))
        u = 1 - (1 - self._star) * torch.erf(share) / math.erf(z)
        return torch.where(share <= z, u, torch.zeros_like(u))

    def front(self, t: float) -> float:
        """Its place at time t [length]."""
        return 2 * self._root * math.sqrt(self._kappa * t)

    def content(self, t: float) -> float:
        """Its integral over the half-line at time t [u * length]."""
        return 2 * (1 - self._star) / math.erf(self._root) * math.sqrt(self._kappa * t / math.pi)

    @property
    def _star(self) -> float:
        star = torch.as_tensor(self.threshold)
        if star.numel() != 1 or not 0 < float(star) < 1:
            raise ValueError(
                f"Stefan has a similarity solution for one threshold between 0 and 1; got {self.threshold}."
            )
        return float(star)

    @property
    def _kappa(self) -> float:
        kappa = torch.as_tensor(self.diffusivity)
        if kappa.numel() != 1 or not float(kappa) > 0:
            raise ValueError(
                f"Stefan has a similarity solution for one positive diffusivity; got {self.diffusivity}."
            )
        return float(kappa)

    @cached_property
    def _root(self) -> float:
        star = self._star
        low, high = 0.0, 30.0
        for _ in range(200):  # the left side is constant, the right one grows with z
            z = 0.5 * (low + high)
            # in logarithms, as exp(z^2) overflows at the upper end
            above = math.log(star * z * math.erf(z)) + z * z > math.log((1 - star) / math.sqrt(math.pi))
            low, high = (low, z) if above else (z, high)
        return 0.5 * (low + high)
