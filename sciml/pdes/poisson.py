"""Poisson's equation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sciml.calculus.base import Calculus
from sciml.pdes.base import Elliptic
from sciml.trajectory import Field


@dataclass(frozen=True)
class Poisson(Elliptic):
    """-lap(u) = f, with f (B, 1, *points) as the only input field."""

    fields: ClassVar[tuple[Field, ...]] = (Field("potential"),)
    inputs: ClassVar[tuple[Field, ...]] = (Field("source", "1/m^2"),)

    def residual(self, u: Tensor, a: Tensor, calc: Calculus) -> Tensor:
        """-lap(u) - f for u and f = a, both (B, 1, *points)."""
        return -calc.laplacian(u) - a
