"""What equations of nonlinear diffusion promise."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from sciml.calculus.base import Calculus
from sciml.domains import Domain
from sciml.pdes.base import PDE, integral, is_insulated


class DiffusionLaw(PDE):
    """s(u)_t = div(k(u) grad u) + r(u): what is stored, s, moves down the gradient of a potential K, K' = k.

    Each channel diffuses by itself; the source may couple them. `storage` grows with u and `potential` does not
    fall, point by point, so that implicit steps have one solution and states keep their order. The flux is
    taken as grad K(u): the difference of potentials beside a face is the mean of k over the values between
    them, with which fronts into regions of k = 0 move at their speed. Harmonic means of k lock them (Maddix,
    Sampaio and Gerritsen, J. Comput. Phys. 361 (2018) 430-441); arithmetic ones move them to within 1.5 cells.

    What is stored is conserved on periodic boxes and between insulated sides where there is no source.

    `nonnegative` says that states below zero make no sense, which solvers refuse; the functions are continued
    to them nevertheless, for residuals of what networks predict. `smooth` is False where k jumps.
    """

    nonnegative: ClassVar[bool] = False
    smooth: ClassVar[bool] = True

    @abstractmethod
    def potential(self, u: Tensor) -> Tensor:
        """K(u), (B, C, *points) -> (B, C, *points) [s * length^2 / time]."""

    @abstractmethod
    def conductivity(self, u: Tensor) -> Tensor:
        """k(u) = K'(u) >= 0, (B, C, *points) -> (B, C, *points) [s / u * length^2 / time]."""

    def storage(self, u: Tensor) -> Tensor:
        """s(u), u itself unless the equation says otherwise."""
        return u

    def state(self, stored: Tensor) -> Tensor:
        """u of s(u), the inverse of `storage`."""
        return stored

    def release(self, u: Tensor) -> Tensor:
        """du/ds = 1/s'(u) >= 0, finite where s' is not."""
        return torch.ones_like(u)

    def source(self, u: Tensor) -> Tensor | None:
        """r(u), or None where there is none, (B, C, *points) -> (B, C, *points) [s / time]."""
        return None

    def rhs(self, u: Tensor, calc: Calculus) -> Tensor:
        rate, source = calc.laplacian(self.potential(u)), self.source(u)
        return self.release(u) * (rate if source is None else rate + source)

    def invariants(self, u: Tensor, domain: Domain) -> Mapping[str, Tensor]:
        if self.source(u) is not None or not is_insulated(domain):
            return {}
        content = integral(self.storage(u), domain)
        if len(self.fields) == 1:
            return {"content": content[:, 0]}
        return {f"content of {f.name}": content[:, i] for i, f in enumerate(self.fields)}
