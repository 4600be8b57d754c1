"""Three reagents of an oscillating reaction."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sciml.calculus.base import Calculus
from sciml.domains import Grid
from sciml.pdes.base import SemiLinear
from sciml.pdes.parameters import Parameter, check_parameter, fit
from sciml.trajectory import Field


@dataclass(frozen=True)
class BelousovZhabotinsky(SemiLinear):
    """A scaled Belousov-Zhabotinsky reaction with all rates 1, dimensionless but for lengths.

    u_t = D_u lap(u) + u + v - u v - u^2, v_t = D_v lap(v) + w - v - u v, w_t = D_w lap(w) + u - w.

    As posed among the examples of Chebfun's `spin`. The first reaction is (1 - u) (u + v): where
    nothing is negative and u <= 1 this stays so, and fronts carry the state (1, 1/2, 1) into the empty one
    (0, 0, 0). With these rates nothing oscillates. States with u + v < 0 can run away to minus infinity: a
    grid too coarse for the width sqrt(D_u) of a front (spacing above three times that or so) throws u below 0, and
    the rounding of a box left empty for t = 30 or so is enough, as it grows at rate 1.2. Start with a little
    everywhere. Nothing is conserved.

    Diffusion and the decay of v and w are in the linear part; growth there would amplify the rounding of modes
    that products do not reach.

    Args:
        diffusivity_u, diffusivity_v, diffusivity_w: D_u, D_v, D_w [length^2/time], not negative.

    Field and Noyes, J. Chem. Phys. 60 (1974) 1877-1884, for the mechanism.
    """

    diffusivity_u: Parameter = 1e-5
    diffusivity_v: Parameter = 2e-5
    diffusivity_w: Parameter = 1e-5

    fields: ClassVar[tuple[Field, ...]] = (Field("u"), Field("v"), Field("w"))

    def __post_init__(self) -> None:
        for name in ("diffusivity_u", "diffusivity_v", "diffusivity_w"):
            check_parameter("BelousovZhabotinsky", name, getattr(self, name), minimum=0.0)

    def linear(self, u: Tensor, calc: Calculus) -> Tensor:
        curved = calc.laplacian(u)
        rates = (self.diffusivity_u, self.diffusivity_v, self.diffusivity_w)
        spread = [fit(rate, u) * curved[:, i : i + 1] for i, rate in enumerate(rates)]
        decay = torch.cat([torch.zeros_like(u[:, :1]), u[:, 1:]], dim=1)
        # One may have a parameter per sample where the others have none.
        return torch.cat(torch.broadcast_tensors(*spread), dim=1) - decay

    def nonlinear(self, u: Tensor, calc: Calculus) -> Tensor:
        first, second, third = u[:, :1], u[:, 1:2], u[:, 2:]
        met = first * second
        return torch.cat([first + second - met - first.square(), third - met, first], dim=1)

    def nonlinear_rate(self, grid: Grid, max_speed: float) -> float:
        """2 [1/time], that of the empty state; the speed does not matter."""
        return 2.0

    def exact(self, x: Tensor, t: Tensor | float) -> Tensor:
        """The first reagent used up, u = 1, at points x (B, D, *points) and times t, on a box of side 2 pi.

        w = 1 + C s and v = 1/2 + C (s/(1 + q (D_v - D_w)) + e^(-(2 + q D_v) t)/2), s = e^(-(1 + q D_w) t),
        with 2 C the product of the cosines of all q axes. Blind to D_u.
        """
        t = torch.as_tensor(t, dtype=x.dtype, device=x.device)
        q = x.shape[1]
        shape = torch.cos(x).prod(dim=1, keepdim=True) / 2
        second, third = fit(self.diffusivity_v, x), fit(self.diffusivity_w, x)
        slow, fast = torch.exp(-(1 + q * third) * t), torch.exp(-(2 + q * second) * t)
        w = 1 + shape * slow
        v = 0.5 + shape * (slow / (1 + q * (second - third)) + fast / 2)
        return torch.cat([torch.ones_like(w), v, w], dim=1)

    def exact_lengths(self, dimension: int) -> tuple[float, ...]:
        """Sides of the periodic box of `exact` [length]."""
        return (2 * math.pi,) * dimension
