"""ETDRK steps on half spectra in compiled loops, for any number of channels, fields and products in 2D and 3D.

Only the modes that products reach are stored; those above follow the linear part and are touched once per call.
Not differentiable.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sciml.calculus import Spectral, Symbol
from sciml.pdes.base import SemiLinear
from sciml.solvers.spectral_forms import Pointwise
from sciml.solvers.time.etdrk import Etdrk

if TYPE_CHECKING:
    from sciml.solvers.lanes.fields import FieldSteps


Block = tuple[Any, ...]


class HalfSpectra:
    """Several ETDRK steps of u (B, C, *points) at once, without derivatives."""

    def __init__(
        self,
        pde: SemiLinear,
        form: Pointwise,
        spectral: Spectral,
        symbol: Tensor,
        method: Etdrk,
        h: float,
        substeps: int,
        degree: int,
    ) -> None:
        self.pde, self.form, self.spectral = pde, form, spectral
        self.method, self.substeps = method, substeps
        points = spectral.grid.shape
        self.axes = tuple(range(-len(points), 0))
        # Modes |k| < N/(degree + 1) of each axis, of the last one those that are not negative.
        kept = [-(-n // (degree + 1)) for n in points]
        self.band = (*(2 * m - 1 for m in kept[:-1]), kept[-1])
        ends = [
            [(slice(0, m), slice(0, m)), (slice(m, None), slice(n - m + 1, n))]
            for n, m in zip(points, kept, strict=True)
        ]
        ends[-1] = ends[-1][:1]
        self._blocks: list[tuple[Block, Block]] = [
            ((..., *(inner for inner, _ in corner)), (..., *(outer for _, outer in corner)))
            for corner in product(*ends)
        ]
        # What the steps do to a mode that products do not reach.
        self._beyond = {
            dtype: torch.exp(symbol * (h * substeps)).to(dtype) for dtype in (torch.float64, torch.float32)
        }
        self._steps = {dtype: self._compiled(dtype) for dtype in (torch.float64, torch.float32)}

    def _cut(self, full: Tensor) -> Tensor:
        """(..., *half spectrum) -> (..., *half band)."""
        full = full.expand(*full.shape[: full.ndim - len(self.axes)], *self.spectral.symbol_shape)
        band = full.new_empty(*full.shape[: full.ndim - len(self.axes)], *self.band)
        for inner, outer in self._blocks:
            band[inner] = full[outer]
        return band

    def _compiled(self, dtype: torch.dtype) -> FieldSteps | None:
        from sciml.solvers.lanes.fields import field_steps

        form, cut = self.form, self._cut
        return field_steps(
            self.spectral.grid.shape,
            inputs=[[(c, None if m is None else cut(m)) for c, m in terms] for terms in form.inputs],
            products=form.products,
            numbers=form.numbers,
            outputs=[[None if m is None else cut(m) for m in row] for row in form.outputs],
            constants=[None if c is None else cut(c) for c in form.constants],
            method=self.method.map(lambda w: cut(w[0])),
            substeps=self.substeps,
            dtype=dtype,
        )

    @property
    def exists(self) -> bool:
        """Whether the compiled loops have such steps."""
        return self._steps[torch.float64] is not None

    def takes(self, u: Tensor) -> bool:
        """Whether this form steps such states."""
        return u.device.type == "cpu" and self._steps[u.dtype] is not None

    def partners(self, batch: int) -> Tensor:
        """Which sample travels with each of a batch, itself where it is alone, (B,)."""
        steps, index = self._steps[torch.float64], torch.arange(batch)
        if steps is None or steps.together(batch) == 1:
            return index
        there = index ^ 1
        return torch.where(there < batch, there, index)

    @torch.no_grad()
    def __call__(self, u: Tensor) -> Tensor:
        steps = self._steps[u.dtype]
        assert steps is not None
        modes = self.pde.project(self.spectral.to_modes(u), Symbol(self.spectral))
        state = steps(self._cut(modes))
        modes = modes * self._beyond[u.dtype]
        for inner, outer in self._blocks:
            modes[outer] = state[inner]
        return self.spectral.to_points(modes)


def half_steps(
    pde: SemiLinear,
    form: Pointwise,
    spectral: Spectral,
    symbol: Tensor,
    method: Etdrk,
    h: float,
    substeps: int,
    degree: int,
) -> HalfSpectra | None:
    """The steps of half spectra, or None where the compiled loops have none.

    Args:
        pde: the equation, whose projection its states need.
        form: its nonlinear term.
        spectral: its grid.
        symbol: real multiplier of the linear part, (C, *half spectrum) [1/time].
        method: ETDRK coefficients for it, (1, C, *half spectrum).
        h, substeps: time and number of the steps of one call.
        degree: number of factors of the products.
    """
    if spectral.dimension == 1:
        return None
    steps = HalfSpectra(pde, form, spectral, symbol, method, h, substeps, degree)
    return steps if steps.exists else None
