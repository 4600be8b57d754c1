"""The residual u_t - rhs(u) of stored frames, by differences between them: a look at the equation without any solver.

The rate is taken by central differences over stored frames, whose error the same differences over twice the time
tell; the right-hand side on the stored points, whose error fewer points or differences of another order tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sciml.calculus import Calculus, FiniteDifference, Spectral
from sciml.datasets.defect import (
    BATCH_BYTES,
    ECHO,
    SAFETY,
    coarser_grids,
    nudged,
    sizes,
    stored_frame,
    time_step,
)
from sciml.datasets.equations import Known
from sciml.datasets.splits import Split
from sciml.domains import Grid
from sciml.pdes.base import PDE, ConservationLaw
from sciml.resample import resample

FRAMES = 7
"""Frames of the first sample at which it is taken."""


@dataclass(frozen=True)
class Residual:
    """Medians over the frames of mean |u_t - rhs| and of what its own errors explain, over mean |u_t|; by field."""

    size: Mapping[str, float]
    allowed: Mapping[str, float]

    @property
    def largest(self) -> float:
        """That of the worst field."""
        return max(self.size.values())

    @property
    def unexplained(self) -> tuple[str, ...]:
        """Fields whose residual is larger than allowed."""
        return tuple(name for name, size in self.size.items() if size > self.allowed[name])


def residual(known: Known, split: Split) -> Residual | None:
    """The residual of the first sample; None where the frames are too few or no calculus fits the points."""
    times, domain = split.times_of(0), known.place(split.domain_of(0))
    if len(times) < 5 or not isinstance(domain, Grid):
        return None
    parameters = {name: values[:1] for name, values in split.parameters.items()}
    equation = known.equation(parameters, domain)
    if not isinstance(equation, PDE) or 8 * 5 * np.prod(split.blocks[0].shape[2:]) > BATCH_BYTES:
        return None
    waves = domain.centering == "node" and all(domain.periodic)
    if not waves and not isinstance(equation, ConservationLaw):
        return None  # staggered values, and nodes that a side holds
    h, fields = time_step(split, 0, known), equation.fields
    rows: list[tuple[Tensor, Tensor, Tensor]] = []
    with torch.no_grad():
        for t in np.unique(np.linspace(2, len(times) - 3, FRAMES).round().astype(int)):
            u = [known.view(stored_frame(split, 0, int(t) + k)) for k in (-2, -1, 0, 1, 2)]
            rate, longer = (u[3] - u[1]) / (2 * h), (u[4] - u[0]) / (4 * h)
            try:
                found, error = _right_side(equation, domain, u[2], waves)
                echo = _right_side(equation, domain, nudged(u[2]), waves)[0] - found
            except (TypeError, ValueError, NotImplementedError):
                return None

            def size(x: Tensor) -> Tensor:
                return sizes(x[0], fields, domain.dimension)

            last_bit = torch.finfo(torch.float32).eps / 2 * size(u[2]) / h
            # The error of central differences grows by four over twice the time.
            allowed = SAFETY * (size(rate - longer) / 3 + size(error)) + ECHO * (size(echo) + last_bit)
            rows.append((size(rate - found), allowed, size(rate)))
    gap, allowed, whole = (torch.stack(column).median(dim=0).values for column in zip(*rows, strict=True))
    scale = torch.where(whole > 0, whole, torch.ones_like(whole))
    names = [f.name for f in fields]
    return Residual(
        dict(zip(names, (gap / scale).tolist(), strict=True)),
        dict(zip(names, (allowed / scale).tolist(), strict=True)),
    )


def _right_side(equation: PDE, grid: Grid, u: Tensor, waves: bool) -> tuple[Tensor, Tensor]:
    """rhs(u), and an estimate of its error (on points of its own)."""
    if waves:
        best, coarse = equation.rhs(u, Spectral(grid)), coarser_grids(grid)
        if not coarse:
            return best, torch.zeros_like(best)
        less = equation.rhs(resample(u, grid, coarse[0]), Spectral(coarse[0]))
        return best, resample(best, grid, coarse[0]) - less
    calculi: list[Calculus] = [FiniteDifference(grid, order) for order in (4, 2)]
    best, usual = (equation.rhs(u, c) for c in calculi)
    return best, best - usual
