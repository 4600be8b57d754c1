"""Fluxes of friction and conduction at the faces of a grid of cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from sciml.solvers.finite_volume.ghosts import Edge, with_ghosts


@runtime_checkable
class HasDiffusion(Protocol):
    """A conservation law with fluxes that gradients drive, as `CompressibleNavierStokes` states them."""

    def diffused(self, u: Tensor) -> Tensor: ...

    def diffusive_flux(self, q: Tensor, gradient: Tensor) -> Tensor: ...

    def diffusivity(self, u: Tensor) -> Tensor: ...


def diffusive_fluxes(
    law: HasDiffusion, u: Tensor, spacing: Sequence[float], edges: Sequence[tuple[Edge, Edge]]
) -> list[Tensor]:
    """Flux through the faces normal to each axis, D tensors (B, C, *cells with one more on the axis).

    Second-order central: means and differences of the two cells beside a face, and along the face the mean
    of their central differences. Every face has one flux, so that the sum over cells is kept.

    Args:
        law: gives the diffused quantities (B, K, *points) and the flux that their gradients drive.
        u: cell averages (B, C, *cells).
        spacing: of the cells on each axis [length].
        edges: per axis how the ghost cells of the diffused quantities are filled.
    """
    dimension = len(spacing)
    q = law.diffused(u)
    for axis, (low, high) in enumerate(edges):
        q = with_ghosts(q, axis, 1, low, high)

    def inner(v: Tensor, axis: int) -> Tensor:
        """Without ghost cells on the other axes."""
        for other in range(dimension):
            if other != axis:
                v = v.narrow(other + 2, 1, v.shape[other + 2] - 2)
        return v

    fluxes = []
    for axis, h in enumerate(spacing):
        dim, faces = axis + 2, q.shape[axis + 2] - 1
        before, after = q.narrow(dim, 0, faces), q.narrow(dim, 1, faces)
        mean = 0.5 * (before + after)
        gradient = []
        for other, width in enumerate(spacing):
            if other == axis:
                gradient.append(inner((after - before) / h, axis))
                continue
            n = mean.shape[other + 2] - 2
            slope = (mean.narrow(other + 2, 2, n) - mean.narrow(other + 2, 0, n)) / (2 * width)
            for third in range(dimension):
                if third not in (axis, other):
                    slope = slope.narrow(third + 2, 1, slope.shape[third + 2] - 2)
            gradient.append(slope)
        fluxes.append(law.diffusive_flux(inner(mean, axis), torch.stack(gradient, dim=2))[:, :, axis])
    return fluxes
