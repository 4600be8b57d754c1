"""Diffusion that prefers directions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sciml.calculus.base import Calculus
from sciml.domains import Domain
from sciml.pdes.base import SemiLinear, integral, is_insulated, is_periodic
from sciml.pdes.parameters import Parameter, check_parameter, fit
from sciml.trajectory import Field

Diffusivity = float | tuple[float, ...] | tuple[tuple[float, ...], ...] | Tensor
"""One number, one per axis, the rows of a symmetric tensor, or a tensor (D, D), (B, D, D) of such."""

# Wave vectors and amplitudes of the exact solution, cut to the number of axes.
_WAVES = (((1.0, 2.0, 1.0), 1.0), ((2.0, -1.0, 1.0), 0.5))


def _check_tensor(value: Tensor) -> None:
    """Refuse what is no symmetric positive semidefinite tensor, (B, D, D)."""
    a = value.detach().to(dtype=torch.float64, device="cpu")
    size = float(a.abs().max())
    # A tensor computed in single precision is symmetric to its rounding only.
    rounding = size * 100 * torch.finfo(value.dtype).eps
    gap = float((a - a.mT).abs().max())
    if gap > rounding:
        raise ValueError(
            f"AnisotropicDiffusion got a diffusivity that differs from its transpose by {gap:.3g}; only the "
            f"symmetric part diffuses, so give (A + A^T)/2. Found {a.tolist()}."
        )
    least = float(torch.linalg.eigvalsh(a).min())
    if least < -rounding:
        raise ValueError(
            f"AnisotropicDiffusion got a diffusivity with the eigenvalue {least:.3g}; a negative one lets "
            f"short waves grow without bound. Expected none below zero. Found {a.tolist()}."
        )


def _check_diffusivity(given: object) -> Diffusivity:
    owner, name = "AnisotropicDiffusion", "diffusivity"
    if isinstance(given, Tensor):
        value = given.unsqueeze(0) if given.ndim == 2 else given
        if value.ndim != 3 or value.shape[1] != value.shape[2] or not 1 <= value.shape[1] <= 3:
            raise ValueError(
                f"{owner} got a diffusivity of shape {tuple(given.shape)}; expected (D, D) or (B, D, D) with D "
                "from 1 to 3."
            )
        check_parameter(owner, name, value)
        _check_tensor(value)
        return value
    if isinstance(given, int | float):
        check_parameter(owner, name, given, minimum=0.0)
        return float(given)
    if isinstance(given, str) or not isinstance(given, Sequence) or not 1 <= len(given) <= 3:
        raise ValueError(
            f"{owner} got diffusivity={given!r}; expected a number, one per axis, or the rows of a tensor."
        )
    if all(isinstance(v, int | float) for v in given):
        for v in given:
            check_parameter(owner, name, v, minimum=0.0)
        return tuple(float(v) for v in given)
    if not all(isinstance(row, Sequence) and len(row) == len(given) for row in given):
        raise ValueError(
            f"{owner} got diffusivity={given!r}; expected one number per axis or as many rows as columns."
        )
    rows = tuple(tuple(float(v) for v in row) for row in given)
    matrix = torch.tensor([rows], dtype=torch.float64)
    check_parameter(owner, name, matrix)
    _check_tensor(matrix)
    return rows


@dataclass(frozen=True)
class AnisotropicDiffusion(SemiLinear):
    """Diffusion with a constant tensor, u_t = div(A grad u) = sum_ij A_ij d^2 u/dx_i dx_j.

    A diagonal tensor spreads at another rate along each axis, a full one along its eigenvectors, and one
    with a zero eigenvalue not at all along that one. Keeps the integral of u on periodic boxes, and
    between insulated (Neumann) sides where the tensor is diagonal: the flux A grad u of a full one crosses
    a side at which only the normal gradient is zero. The maximum of u never grows.

    Args:
        diffusivity: A [length^2/time], see `Diffusivity`; symmetric, no negative eigenvalue.

    Raises:
        ValueError: the tensor is not finite, not square, not symmetric, or has a negative eigenvalue.
    """

    diffusivity: Diffusivity = 1.0

    fields: ClassVar[tuple[Field, ...]] = (Field("concentration"),)

    def __post_init__(self) -> None:
        object.__setattr__(self, "diffusivity", _check_diffusivity(self.diffusivity))

    def entry(self, i: int, j: int, dimension: int) -> Parameter:
        """A_ij, the mean of both for i != j; for a tensor (B, D, D) one value per sample (B,).

        Raises:
            ValueError: the tensor has another size than there are axes.
        """
        a = self.diffusivity
        if isinstance(a, float):
            return a if i == j else 0.0
        size = a.shape[1] if isinstance(a, Tensor) else len(a)
        if size != dimension:
            raise ValueError(
                f"The diffusivity is for {size} axes but there are {dimension} space axes; give one "
                "component per axis."
            )
        if isinstance(a, Tensor):
            return 0.5 * (a[:, i, j] + a[:, j, i])
        row, column = a[i], a[j]
        if isinstance(row, tuple) and isinstance(column, tuple):
            return 0.5 * (row[j] + column[i])
        assert not isinstance(row, tuple)
        return row if i == j else 0.0

    def _is_diagonal(self, dimension: int) -> bool:
        pairs = [(i, j) for i in range(dimension) for j in range(i)]
        return not any(bool(torch.as_tensor(self.entry(*p, dimension)).any()) for p in pairs)

    def linear(self, u: Tensor, calc: Calculus) -> Tensor:
        if isinstance(self.diffusivity, float):
            return self.diffusivity * calc.laplacian(u)
        rate = torch.zeros_like(u)
        for i in range(calc.dimension):
            rate = rate + fit(self.entry(i, i, calc.dimension), u) * calc.derivative(u, i, 2)
            for j in range(i):
                value = self.entry(i, j, calc.dimension)
                if isinstance(value, Tensor) or value != 0.0:
                    mixed = calc.derivative(calc.derivative(u, i), j)
                    rate = rate + 2 * fit(value, u) * mixed
        return rate

    def nonlinear(self, u: Tensor, calc: Calculus) -> Tensor:
        return torch.zeros_like(u)

    def invariants(self, u: Tensor, domain: Domain) -> Mapping[str, Tensor]:
        kept = is_periodic(domain) or (is_insulated(domain) and self._is_diagonal(domain.dimension))
        return {"content": integral(u, domain)[:, 0]} if kept else {}

    def exact(self, x: Tensor, t: Tensor | float) -> Tensor:
        """Two decaying plane waves at points x (B, D, *points) and times t, on a box of side 2 pi."""
        t = torch.as_tensor(t, dtype=x.dtype, device=x.device)
        dimension = x.shape[1]
        u = torch.zeros((), dtype=x.dtype, device=x.device)
        for numbers, amplitude in _WAVES:
            k = numbers[:dimension]
            rate: Parameter = 0.0
            for i in range(dimension):
                for j in range(dimension):
                    rate = rate + k[i] * k[j] * self.entry(i, j, dimension)
            wave = x.new_tensor(k).reshape(1, -1, *[1] * (x.ndim - 2)) * x
            u = u + amplitude * torch.exp(-fit(rate, x) * t) * torch.sin(wave.sum(dim=1, keepdim=True))
        return u

    def exact_lengths(self, dimension: int) -> tuple[float, ...]:
        """Sides of the periodic box of `exact` [length]."""
        return (2 * math.pi,) * dimension
