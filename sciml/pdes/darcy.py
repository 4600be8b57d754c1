"""Darcy's law in a porous medium, or any steady diffusion with a variable coefficient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sciml.calculus.base import Calculus
from sciml.pdes.base import Elliptic
from sciml.trajectory import Field


@dataclass(frozen=True)
class Darcy(Elliptic):
    """-div(a grad u) = f, with the inputs (B, 2, *points): coefficient a > 0, then source f."""

    fields: ClassVar[tuple[Field, ...]] = (Field("pressure", "Pa"),)
    inputs: ClassVar[tuple[Field, ...]] = (Field("mobility", "m^2/(Pa s)"), Field("source", "1/s"))

    def residual(self, u: Tensor, a: Tensor, calc: Calculus) -> Tensor:
        """-div(a grad u) - f for u (B, 1, *points).

        The divergence is taken of the product, so that a coefficient which jumps needs a calculus
        that resolves it; finite volumes with harmonic means do not.

        Raises:
            ValueError: a has not two channels.
        """
        if a.shape[1] != 2:
            raise ValueError(
                f"Darcy got {a.shape[1]} input channels; expected 2, the coefficient and the source."
            )
        coefficient, source = a[:, :1], a[:, 1:]
        return -calc.div(coefficient.unsqueeze(2) * calc.gradient(u)) - source
