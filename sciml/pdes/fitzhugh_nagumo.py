"""An activator and its inhibitor."""

from __future__ import annotations

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
class FitzHughNagumo(SemiLinear):
    """FitzHugh-Nagumo model, u_t = D_u lap(u) + u - u^3 - k - v, v_t = D_v lap(v) + u - v.

    In the form and with the coefficients of PDEBench's diffusion-reaction data (Takamoto et al., NeurIPS 2022),
    which has a box 2 wide and insulated sides. u = v = -k^(1/3) is steady, and unstable to waves. Nothing is
    conserved.

    The linear part is (D_u lap(u) - v, D_v lap(v) + u - v): the coupling, which turns one field into the other
    and adds nothing to u^2 + v^2, is exact in time. The growth u stays with the cubic, since it would amplify
    the rounding of modes that products do not reach.

    Args:
        diffusivity_u, diffusivity_v: D_u, D_v [length^2/time], not negative.
        threshold: k [u/time].

    FitzHugh, Biophys. J. 1 (1961) 445-466; Nagumo et al., Proc. IRE 50 (1962) 2061-2070.
    """

    diffusivity_u: Parameter = 1e-3
    diffusivity_v: Parameter = 5e-3
    threshold: Parameter = 5e-3

    fields: ClassVar[tuple[Field, ...]] = (Field("activator"), Field("inhibitor"))
    degree: ClassVar[int] = 3

    def __post_init__(self) -> None:
        check_parameter("FitzHughNagumo", "diffusivity_u", self.diffusivity_u, minimum=0.0)
        check_parameter("FitzHughNagumo", "diffusivity_v", self.diffusivity_v, minimum=0.0)
        check_parameter("FitzHughNagumo", "threshold", self.threshold)

    def linear(self, u: Tensor, calc: Calculus) -> Tensor:
        curved = calc.laplacian(u)
        activator, inhibitor = u[:, :1], u[:, 1:]
        first = fit(self.diffusivity_u, u) * curved[:, :1] - inhibitor
        second = fit(self.diffusivity_v, u) * curved[:, 1:] + activator - inhibitor
        # Either may have a parameter per sample where the other has none.
        return torch.cat(torch.broadcast_tensors(first, second), dim=1)

    def nonlinear(self, u: Tensor, calc: Calculus) -> Tensor:
        activator = u[:, :1]
        rate = activator - activator**3 - fit(self.threshold, u)
        return torch.cat([rate, torch.zeros_like(rate)], dim=1)

    def nonlinear_rate(self, grid: Grid, max_speed: float) -> float:
        """3 [1/time], that of the cubic where |u| = 1.15; the speed does not matter.

        White noise of unit deviation, PDEBench's initial state, reaches |u| = 4 and a rate of 47 in its
        first instants: the substeps chosen are stable there, but wrong by 1e-3.
        """
        return 3.0
