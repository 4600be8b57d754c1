"""Equations whose nonlinear term is a few products at the points between multipliers of Fourier modes.

The equation stays the only statement of itself: a form is used only after it gave the same numbers as
`pde.nonlinear` on a random state.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.calculus import Spectral, Symbol
from sciml.pdes import (
    Burgers,
    ConservativeBurgers,
    KuramotoSivashinsky,
    NavierStokes,
    NavierStokesVorticity,
    ScalarBurgers,
)
from sciml.pdes.allen_cahn import AllenCahn
from sciml.pdes.base import SemiLinear
from sciml.pdes.cahn_hilliard import CahnHilliard
from sciml.pdes.fisher_kpp import FisherKPP
from sciml.pdes.gray_scott import GrayScott
from sciml.pdes.swift_hohenberg import SwiftHohenberg

Terms = tuple[tuple[int, Tensor | None], ...]


@dataclass(frozen=True)
class Pointwise:
    """N_c(u) = sum_g out_cg F[products_g(fields)] + constant_c, fields_f = F^-1[sum in_fc u_c], in Fourier space.

    Args:
        inputs: of each field its terms, each a channel of u and a multiplier (*half spectrum); None is 1.
        products: a name of `PRODUCTS`.
        outputs: of each channel a multiplier (*half spectrum) of the transform of each product; None is 0.
        constants: of each channel the coefficients (*half spectrum) of a steady source in the sense of
            `Spectral.to_modes`, or None.
        numbers: what the products are made with besides the fields.
    """

    inputs: tuple[Terms, ...]
    products: str
    outputs: tuple[tuple[Tensor | None, ...], ...]
    constants: tuple[Tensor | None, ...]
    numbers: tuple[float, ...] = ()

    def nonlinear(self, u: Tensor, spectral: Spectral, mask: Tensor) -> Tensor:
        """N(u) of real samples (B, C, *points), its modes times a mask: the form read aloud, for checks."""
        modes = spectral.to_modes(u) * mask
        fields = []
        for terms in self.inputs:
            total = torch.zeros_like(modes[:, :1])
            for c, m in terms:
                total = total + modes[:, c : c + 1] * (1.0 if m is None else m)
            fields.append(spectral.to_points(total))
        products = [spectral.to_modes(p) for p in PRODUCTS[self.products](fields, self.numbers)]
        rows = []
        for row, constant in zip(self.outputs, self.constants, strict=True):
            total = torch.zeros_like(modes[:, :1])
            for m, product in zip(row, products, strict=True):
                if m is not None:
                    total = total + m * product
            rows.append(total if constant is None else total + constant)
        return spectral.to_points(torch.cat(rows, dim=1) * mask)

    def states(self, pde: SemiLinear, spectral: Spectral, mask: Tensor) -> bool:
        """Whether this form is the equation's nonlinear term, tried on a random state."""
        generator = torch.Generator().manual_seed(1)
        shape = (1, len(self.outputs), *spectral.grid.shape)
        u = torch.randn(shape, generator=generator, dtype=torch.float64)
        with torch.no_grad():
            modes = pde.project(spectral.to_modes(u) * mask, Symbol(spectral))
            u = spectral.to_points(modes)
            stated = spectral.to_points(spectral.to_modes(pde.nonlinear(u, spectral)) * mask)
            read = self.nonlinear(u, spectral, mask)
            if stated.shape != read.shape:
                return False
            return bool((read - stated).abs().max() <= 1e-9 * stated.abs().max())


def _polynomial(fields: list[Tensor], numbers: Sequence[float]) -> list[Tensor]:
    """a u + b u^2 + c u^3."""
    (u,), (a, b, c) = fields, numbers
    return [u * (a + u * (b + u * c))]


def _catalysis(fields: list[Tensor], numbers: Sequence[float]) -> list[Tensor]:
    """a b^2."""
    a, b = fields
    return [a * b * b]


def _steepness(fields: list[Tensor], numbers: Sequence[float]) -> list[Tensor]:
    """x^2 + y^2 (+ z^2)."""
    return [sum((f * f for f in fields[1:]), fields[0] * fields[0])]


def _stresses(fields: list[Tensor], numbers: Sequence[float]) -> list[Tensor]:
    """(v_x v_y, v_y^2 - v_x^2) of the velocity."""
    x, y = fields
    return [x * y, (y - x) * (y + x)]


def _lamb(fields: list[Tensor], numbers: Sequence[float]) -> list[Tensor]:
    """u x w of a velocity and its curl, in 2D and 3D."""
    if len(fields) == 3:
        u, v, w = fields
        return [v * w, -(u * w)]
    a, b, c, d, e, f = fields
    return [b * f - c * e, c * d - a * f, a * e - b * d]


def _bernoulli(fields: list[Tensor], numbers: Sequence[float]) -> list[Tensor]:
    """u x w and |u|^2."""
    return _lamb(fields, numbers) + _steepness(fields[: 2 if len(fields) == 3 else 3], numbers)


def _dyads(fields: list[Tensor], numbers: Sequence[float]) -> list[Tensor]:
    """u_i u_j, i <= j."""
    return [fields[i] * fields[j] for i in range(len(fields)) for j in range(i, len(fields))]


# Fields and numbers -> products, point by point. The compiled loops know the same names.
PRODUCTS: dict[str, Callable[[list[Tensor], Sequence[float]], list[Tensor]]] = {
    "polynomial": _polynomial,
    "catalysis": _catalysis,
    "steepness": _steepness,
    "stresses": _stresses,
    "lamb": _lamb,
    "bernoulli": _bernoulli,
    "dyads": _dyads,
}


def pointwise_form(pde: SemiLinear, spectral: Spectral) -> Pointwise | None:
    """The nonlinear term of the equations that have such a form, or None."""
    own = [value for name, value in vars(pde).items() if name != "forcing" and isinstance(value, Tensor)]
    if any(value.numel() > 1 or value.requires_grad for value in own):
        return None  # each sample has its own, or they learn
    dimension, axes = spectral.dimension, range(spectral.dimension)
    k = torch.broadcast_tensors(*spectral.wavenumbers)
    ones = torch.ones(spectral.symbol_shape, dtype=torch.float64)
    itself: Terms = ((0, None),)

    def polynomial(output: Tensor, *numbers: float) -> Pointwise:
        return Pointwise((itself,), "polynomial", ((output,),), (None,), numbers)

    if isinstance(pde, KuramotoSivashinsky) and (pde.integrated or dimension > 1):
        half = -0.5 * ones
        half[(0,) * dimension] = 0.0  # less the mean
        if dimension > 1:
            return Pointwise(tuple(((0, 1j * k[i]),) for i in axes), "steepness", ((half,),), (None,))
        return Pointwise((((0, 1j * k[0]),),), "polynomial", ((half,),), (None,), (0.0, 1.0, 0.0))
    if isinstance(pde, (Burgers, ConservativeBurgers, KuramotoSivashinsky)) and dimension == 1:
        return polynomial(-0.5j * k[0], 0.0, 1.0, 0.0)
    if isinstance(pde, ScalarBurgers):
        return polynomial(-0.5j * float(pde.convection) * sum(k), 0.0, 1.0, 0.0)
    if isinstance(pde, FisherKPP):
        return polynomial(float(pde.growth) * ones, 1.0, -1.0, 0.0)
    if isinstance(pde, AllenCahn):
        return polynomial(float(pde.reaction) * ones, 1.0, 0.0, -1.0)
    if isinstance(pde, CahnHilliard):
        return polynomial(-float(pde.mobility) * Symbol(spectral).laplacian(ones), 1.0, 0.0, -1.0)
    if isinstance(pde, SwiftHohenberg):
        return polynomial(ones, float(pde.drive), float(pde.quadratic), -1.0)
    if isinstance(pde, GrayScott):
        fed = torch.zeros_like(ones).to(torch.complex128)
        fed[(0,) * dimension] = float(pde.feed)
        return Pointwise((itself, ((1, None),)), "catalysis", ((-ones,), (ones,)), (fed, None))
    if isinstance(pde, NavierStokesVorticity):
        square = k[0] ** 2 + k[1] ** 2
        inverse = torch.where(square > 0, 1 / torch.where(square > 0, square, 1.0), 0.0)
        source = _source(pde, spectral, 1)
        if source is None:
            return None
        # Basdevant (1983): div(v w) = (dxx - dyy)(v_x v_y) + dxy(v_y^2 - v_x^2), four transforms, not five.
        return Pointwise(
            (((0, 1j * k[1] * inverse),), ((0, -1j * k[0] * inverse),)),
            "stresses",
            ((k[0] ** 2 - k[1] ** 2, k[0] * k[1]),),
            source,
        )
    if isinstance(pde, ConservativeBurgers):
        pairs = [(i, j) for i in axes for j in axes if i <= j]
        outputs = tuple(
            tuple(-0.5j * k[j if c == i else i] if c in (i, j) else None for i, j in pairs) for c in axes
        )
        return Pointwise(tuple(((c, None),) for c in axes), "dyads", outputs, (None,) * dimension)
    if isinstance(pde, Burgers):
        # (u . grad) u = grad |u|^2/2 - u x curl u: fewer transforms than the gradient of u.
        outputs = tuple((*(ones if g == c else None for g in axes), -0.5j * k[c]) for c in axes)
        return Pointwise(_flow(k), "bernoulli", outputs, (None,) * dimension)
    if isinstance(pde, NavierStokes):
        square = sum(k[i] ** 2 for i in axes)
        inverse = torch.where(square > 0, 1 / torch.where(square > 0, square, 1.0), 0.0)
        kept = ones.clone()
        kept[(0,) * dimension] = 0.0  # the mean flow stays
        outputs = tuple(
            tuple((kept if c == g else 0.0) - k[c] * k[g] * inverse for g in axes) for c in axes
        )
        source = _source(pde, spectral, dimension)
        return None if source is None else Pointwise(_flow(k), "lamb", outputs, source)
    return None


def _flow(k: Sequence[Tensor]) -> tuple[Terms, ...]:
    """The components of a velocity and of its curl."""
    velocity: tuple[Terms, ...] = tuple(((c, None),) for c in range(len(k)))
    if len(k) == 2:
        return (*velocity, ((1, 1j * k[0]), (0, -1j * k[1])))
    turns = [(1, 2), (2, 0), (0, 1)]
    return velocity + tuple(((j, 1j * k[i]), (i, -1j * k[j])) for i, j in turns)


def _source(
    pde: NavierStokes | NavierStokesVorticity, spectral: Spectral, channels: int
) -> tuple[Tensor | None, ...] | None:
    """Of each channel the modes of the force, or None where each sample has its own."""
    force = pde.force(torch.zeros(1, channels, *spectral.grid.shape, dtype=torch.float64), spectral)
    if force is None:
        return (None,) * channels
    if force.shape[0] != 1:
        return None
    modes = pde.project(spectral.to_modes(force), Symbol(spectral))
    return tuple(modes[0, c] for c in range(channels))
