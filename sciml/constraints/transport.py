"""Flux-corrected transport: as much of given fluxes as local bounds admit."""

from __future__ import annotations

import torch
from torch import Tensor

from sciml.domains import Grid

CLOSED = ("wall", "neumann")


def check_cells(grid: Grid, owner: str) -> None:
    """Refuse grids whose cells differ, or whose sides let something through that fluxes here do not know.

    Raises:
        ValueError: as said.
    """
    for axis, sides in enumerate(grid.sides):
        if sides[0] == "periodic":
            continue
        if any(side not in CLOSED for side in sides) or grid.centering != "cell":
            raise ValueError(
                f"{owner} got sides {sides} on axis {axis} of a grid of {grid.centering}s; expected periodic axes, or cells "
                f"between sides that let nothing through, {CLOSED}."
            )


def close_sides(fluxes: Tensor, grid: Grid) -> Tensor:
    """Fluxes through the low faces of cells (B, C, D, *points), with none through closed sides."""
    parts = []
    for axis, periodic in enumerate(grid.periodic):
        flux = fluxes[:, :, axis]
        if not periodic:
            index = torch.zeros(1, dtype=torch.int64, device=flux.device)
            flux = flux.index_fill(2 + axis, index, 0.0)
        parts.append(flux)
    return torch.stack(parts, dim=2)


def inflow(fluxes: Tensor) -> Tensor:
    """What fluxes through low faces (B, C, D, *points) bring into each cell, (B, C, *points).

    The high face of the last cell is the low face of the first: a closed axis has no flux there. Each flux is added to
    one cell and taken from another, so that the sum over the cells does not change.
    """
    total = torch.zeros_like(fluxes[:, :, 0])
    for axis in range(fluxes.shape[2]):
        flux = fluxes[:, :, axis]
        total = total + flux - flux.roll(-1, 2 + axis)
    return total


def local_range(u: Tensor, grid: Grid, radius: int = 1) -> tuple[Tensor, Tensor]:
    """Least and largest value within `radius` cells along the axes, one axis after the other, (B, C, *points) each."""
    low = high = u
    for axis, (n, periodic) in enumerate(zip(grid.shape, grid.periodic, strict=True)):
        dim = 2 + axis
        place = torch.arange(n, device=u.device)
        for source in ("low", "high"):
            field = low if source == "low" else high
            reach = field
            for shift in [s for r in range(1, radius + 1) for s in (-r, r)]:
                index = (place + shift) % n if periodic else (place + shift).clamp(0, n - 1)
                other = field.index_select(dim, index)
                reach = torch.minimum(reach, other) if source == "low" else torch.maximum(reach, other)
            low, high = (reach, high) if source == "low" else (low, reach)
    return low, high


def flux_corrected(u: Tensor, fluxes: Tensor, lower: Tensor | float, upper: Tensor | float) -> Tensor:
    """u moved by the largest shares of fluxes that keep every cell between bounds, whatever its neighbours do.

        u_i + sum_f +- C_f A_f,  C_f = min(R+ of the cell that gains, R- of the cell that loses),
        R+ = min(1, (upper - u) / P+),  R- = min(1, (u - lower) / P-)

    with P+ and P- all that flows into and out of a cell. The sum over the cells is kept to rounding: each face has one
    value. Differentiable almost everywhere.

    Args:
        u: states between the bounds (B, C, *points), as a monotone scheme gives them, on cells of equal volume.
        fluxes: A, the amount per volume of a cell that passes the low face of each cell along each axis, towards larger
            coordinates, (B, C, D, *points) [unit of u]; zero on closed sides, see `close_sides`.
        lower, upper: bounds (B, C, *points) or numbers [unit of u].

    Zalesak, Journal of Computational Physics 31 (1979) 335.
    """
    gains = torch.zeros_like(u)
    losses = torch.zeros_like(u)
    for axis in range(fluxes.shape[2]):
        flux = fluxes[:, :, axis]
        after = flux.roll(-1, 2 + axis)
        gains = gains + flux.clamp_min(0.0) + (-after).clamp_min(0.0)
        losses = losses + (-flux).clamp_min(0.0) + after.clamp_min(0.0)

    def share(room: Tensor, asked: Tensor) -> Tensor:
        room = room.clamp_min(0.0)
        tight = asked > room
        return torch.where(tight, room / torch.where(tight, asked, 1.0), 1.0)

    gain, loss = share(upper - u, gains), share(u - lower, losses)
    limited = []
    for axis in range(fluxes.shape[2]):
        flux = fluxes[:, :, axis]
        before_gain, before_loss = gain.roll(1, 2 + axis), loss.roll(1, 2 + axis)
        factor = torch.where(flux > 0, torch.minimum(gain, before_loss), torch.minimum(before_gain, loss))
        limited.append(factor * flux)
    return u + inflow(torch.stack(limited, dim=2))
