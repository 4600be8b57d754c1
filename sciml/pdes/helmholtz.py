"""The Helmholtz equation: waves of one frequency."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sciml.calculus.base import Calculus
from sciml.pdes.base import Elliptic
from sciml.trajectory import Field


@dataclass(frozen=True)
class Helmholtz(Elliptic):
    """-lap(u) - k^2 u = f, with the inputs (B, 2, *points): wavenumber k, then source f.

    u is real between walls, and complex, a factor of exp(-i omega t), where waves leave.
    """

    fields: ClassVar[tuple[Field, ...]] = (Field("amplitude"),)
    inputs: ClassVar[tuple[Field, ...]] = (Field("wavenumber", "1/m"), Field("source", "1/m^2"))

    def residual(self, u: Tensor, a: Tensor, calc: Calculus) -> Tensor:
        """-lap(u) - k^2 u - f for u (B, 1, *points).

        Raises:
            ValueError: a has not two channels.
        """
        if a.shape[1] != 2:
            raise ValueError(
                f"Helmholtz got {a.shape[1]} input channels; expected 2, the wavenumber and the source."
            )
        wavenumber, source = a[:, :1], a[:, 1:]
        return -calc.laplacian(u) - wavenumber.square() * u - source
