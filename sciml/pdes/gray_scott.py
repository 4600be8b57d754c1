"""Autocatalysis of a substrate that is fed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, cast, get_args

import torch
from torch import Tensor

from sciml.calculus.base import Calculus
from sciml.domains import Grid
from sciml.pdes.base import SemiLinear
from sciml.pdes.parameters import Parameter, check_parameter, fit
from sciml.trajectory import Field

Regime = Literal["gliders", "bubbles", "maze", "worms", "spirals", "spots"]

# (feed, kill) of the patterns as named in The Well (Ohana et al., NeurIPS 2024, data set
# gray_scott_reaction_diffusion).
REGIMES: dict[Regime, tuple[float, float]] = {
    "gliders": (0.014, 0.054),
    "bubbles": (0.098, 0.057),
    "maze": (0.029, 0.057),
    "worms": (0.058, 0.065),
    "spirals": (0.018, 0.051),
    "spots": (0.030, 0.062),
}


@dataclass(frozen=True)
class GrayScott(SemiLinear):
    """Gray-Scott model, a_t = D_a lap(a) - a b^2 + f (1 - a), b_t = D_b lap(b) + a b^2 - (f + k) b.

    A substrate a is fed towards 1 and turned by the catalyst b into more of it. States that are not negative
    stay so, and a <= 1 is kept. (1, 0) is steady and stable: patterns need a patch of b that is large
    enough. Nothing is conserved. The box of The Well is 2 wide with 128 points
    a side, on which steep starts throw a below 0 by 0.02 for a while: their edges are sqrt(D_a) wide.

    Feed and decay are in the linear part, which couples nothing.

    Args:
        feed: f [1/time], not negative.
        kill: k [1/time], not negative.
        diffusivity_a, diffusivity_b: D_a, D_b [length^2/time], not negative.

    Gray and Scott, Chem. Eng. Sci. 39 (1984) 1087-1097; Pearson, Science 261 (1993) 189-192.
    """

    feed: Parameter = 0.04
    kill: Parameter = 0.06
    diffusivity_a: Parameter = 2e-5
    diffusivity_b: Parameter = 1e-5

    fields: ClassVar[tuple[Field, ...]] = (Field("a"), Field("b"))
    degree: ClassVar[int] = 3

    def __post_init__(self) -> None:
        for name in ("feed", "kill", "diffusivity_a", "diffusivity_b"):
            check_parameter("GrayScott", name, getattr(self, name), minimum=0.0)

    @classmethod
    def regime(cls, name: Regime) -> GrayScott:
        """The feed and kill of a pattern by its name in The Well.

        Raises:
            ValueError: an unknown name; the message lists the known ones.
        """
        if name not in REGIMES:
            raise ValueError(f"GrayScott got regime {name!r}; expected one of {get_args(Regime)}.")
        feed, kill = REGIMES[cast(Regime, name)]
        return cls(feed=feed, kill=kill)

    def linear(self, u: Tensor, calc: Calculus) -> Tensor:
        curved = calc.laplacian(u)
        feed, kill = fit(self.feed, u), fit(self.kill, u)
        a = fit(self.diffusivity_a, u) * curved[:, :1] - feed * u[:, :1]
        b = fit(self.diffusivity_b, u) * curved[:, 1:] - (feed + kill) * u[:, 1:]
        # Either may have a parameter per sample where the other has none.
        return torch.cat(torch.broadcast_tensors(a, b), dim=1)

    def nonlinear(self, u: Tensor, calc: Calculus) -> Tensor:
        made = u[:, :1] * u[:, 1:].square()
        return torch.cat(torch.broadcast_tensors(fit(self.feed, u) - made, made), dim=1)

    def nonlinear_rate(self, grid: Grid, max_speed: float) -> float:
        """1/2, the 2 a b of a strong pattern; the speed does not matter."""
        return 0.5

    def exact(self, x: Tensor, t: Tensor | float) -> Tensor:
        """The substrate alone at points x (B, D, *points) and times t, on a box of side 2 pi.

        a = 1 + exp(-(f + D D_a) t)/2 times the product of the sines of all axes, b = 0: linear, so blind to
        a b^2.
        """
        t = torch.as_tensor(t, dtype=x.dtype, device=x.device)
        rate = fit(self.feed, x) + x.shape[1] * fit(self.diffusivity_a, x)
        a = 1 + torch.exp(-rate * t) * torch.sin(x).prod(dim=1, keepdim=True) / 2
        return torch.cat([a, torch.zeros_like(a)], dim=1)

    def exact_lengths(self, dimension: int) -> tuple[float, ...]:
        """Sides of the periodic box of `exact` [length]."""
        return (2 * math.pi,) * dimension
