"""Conduction of heat."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sciml.calculus.base import Calculus
from sciml.domains import Domain
from sciml.pdes.base import SemiLinear, integral, is_insulated
from sciml.pdes.parameters import Parameter, check_parameter, fit
from sciml.trajectory import Field

# Mode numbers and amplitudes of the exact solution, cut to the number of axes.
_MODES = (((1, 2, 1), 1.0), ((2, 1, 1), 0.5))


@dataclass(frozen=True)
class Heat(SemiLinear):
    """Heat equation, u_t = kappa lap(u).

    Keeps the integral of u on periodic boxes and between insulated (Neumann) sides.

    Args:
        diffusivity: kappa [length^2/time], not negative.
    """

    diffusivity: Parameter = 1.0

    fields: ClassVar[tuple[Field, ...]] = (Field("temperature", "K"),)

    def __post_init__(self) -> None:
        check_parameter("Heat", "diffusivity", self.diffusivity, minimum=0.0)

    def linear(self, u: Tensor, calc: Calculus) -> Tensor:
        return fit(self.diffusivity, u) * calc.laplacian(u)

    def nonlinear(self, u: Tensor, calc: Calculus) -> Tensor:
        return torch.zeros_like(u)

    def invariants(self, u: Tensor, domain: Domain) -> Mapping[str, Tensor]:
        return {"content": integral(u, domain)[:, 0]} if is_insulated(domain) else {}

    def exact(self, x: Tensor, t: Tensor | float) -> Tensor:
        """Two decaying products of cosines at points x (B, D, *points) and times t.

        On a box of side 2 pi, periodic or with Neumann sides.
        """
        t = torch.as_tensor(t, dtype=x.dtype, device=x.device)
        u = torch.zeros((), dtype=x.dtype, device=x.device)
        for numbers, amplitude in _MODES:
            k = x.new_tensor(numbers[: x.shape[1]])
            rate = fit(self.diffusivity, x) * float(k.square().sum())
            shape = torch.cos(k.reshape(1, -1, *[1] * (x.ndim - 2)) * x).prod(dim=1, keepdim=True)
            u = u + amplitude * torch.exp(-rate * t) * shape
        return u

    def exact_lengths(self, dimension: int) -> tuple[float, ...]:
        """Sides of the box of `exact` [length]."""
        return (2 * math.pi,) * dimension
