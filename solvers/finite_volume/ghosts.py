"""Ghost cells: what a scheme sees beyond the sides of a grid."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Literal

import torch
from torch import Tensor

from sciml.domains import Side
from sciml.trajectory import Field

Kind = Literal["wrap", "copy", "mirror", "state"]


@dataclass(frozen=True, eq=False)
class Edge:
    """How ghost cells beyond one side are filled.

    Args:
        kind: "wrap" (periodic), "copy" (of the last cell), "mirror" (of the inner cells), "state" (given).
        odd: channels whose mirror image has the other sign.
        values: the state, or what is added to the mirror image of the channels, (C, *points of the other axes)
            or (C, 1, ...).
    """

    kind: Kind
    odd: tuple[int, ...] = ()
    values: Tensor | None = None


COPY, WRAP = Edge("copy"), Edge("wrap")


def edge_of(side: Side, odd: tuple[int, ...] = ()) -> Edge:
    """What a side does by its name: "periodic" wraps, "wall" mirrors, the others copy."""
    if side == "periodic":
        return WRAP
    return Edge("mirror", odd) if side == "wall" else COPY


def with_ghosts(w: Tensor, axis: int, width: int, low: Edge, high: Edge) -> Tensor:
    """(B, C, *cells) with `width` ghost cells on both ends of one axis."""
    dim, n = axis + 2, w.shape[axis + 2]
    if low.kind == "wrap":
        return torch.cat((w.narrow(dim, n - width, width), w, w.narrow(dim, 0, width)), dim=dim)
    ends = []
    for edge, last, start in ((low, 0, 0), (high, n - 1, n - width)):
        if edge.kind == "copy":
            ends.append(w.narrow(dim, last, 1).expand(*w.shape[:dim], width, *w.shape[dim + 1 :]))
            continue
        if edge.kind == "state":
            assert edge.values is not None
            state = _across(edge.values, w, axis)
            ends.append(state.expand(*w.shape[:dim], width, *w.shape[dim + 1 :]))
            continue
        ghosts = w.narrow(dim, start, width).flip(dim)
        if edge.odd:
            sign = torch.ones(w.shape[1], dtype=w.dtype, device=w.device)
            sign[list(edge.odd)] = -1.0
            ghosts = ghosts * sign.reshape(-1, *([1] * (w.ndim - 2)))
        if edge.values is not None:
            ghosts = ghosts + _across(edge.values, w, axis)
        ends.append(ghosts)
    return torch.cat((ends[0], w, ends[1]), dim=dim)


def _across(values: Tensor, w: Tensor, axis: int) -> Tensor:
    """(C, *points of the other axes) as (1, C, *cells with 1 on the axis), in the dtype of w.

    Other axes that have ghost cells already get the values of the last cells there.
    """
    v = values.to(dtype=w.dtype, device=w.device).unsqueeze(0).unsqueeze(axis + 2)
    for dim in range(2, w.ndim):
        n, wanted = v.shape[dim], w.shape[dim]
        if dim == axis + 2 or n in (1, wanted):
            continue
        extra = (wanted - n) // 2
        place = torch.arange(-extra, n + extra, device=w.device).clamp(0, n - 1)
        v = v.index_select(dim, place)
    return v


def odd_channels(fields: tuple[Field, ...], dimension: int, axis: int) -> tuple[int, ...]:
    """Channels that change sign in a mirror normal to `axis`: odd numbers of that axis in their index."""
    odd, channel = [], 0
    for field in fields:
        for index in product(range(dimension), repeat=field.rank):
            if index.count(axis) % 2:
                odd.append(channel)
            channel += 1
    return tuple(odd)
