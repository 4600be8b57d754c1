"""States on the faces between nodes, from values and gradients at the nodes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sciml.solvers.finite_volume.mesh_dual import MedianDual, at

# Variations below the cube of this many times a cell's share of the mesh count as smooth: Venkatakrishnan's K.
_SMOOTH = 5.0


def barth_jespersen(w: Tensor, gradient: Tensor, dual: MedianDual) -> Tensor:
    """By how much of its gradient each node may go, (B, C, N): no edge's middle leaves the values around.

    Barth and Jespersen, AIAA paper 89-0366 (1989).
    """

    def share(room: Tensor, way: Tensor, scale: Tensor) -> Tensor:
        moves = way.abs() > 0
        return torch.where(moves, (room / torch.where(moves, way, 1.0)).clamp(max=1.0), 1.0)

    return _least(w, gradient, dual, share)


def venkatakrishnan(w: Tensor, gradient: Tensor, dual: MedianDual) -> Tensor:
    """The same with a smooth function, which leaves small variations alone and may overshoot by as much.

    Small is what is below (5 h / L)^3 of the square of each channel's range, with h the size of a cell and L of the
    mesh. Venkatakrishnan, J. Comput. Phys. 118 (1995), section 4.
    """

    def share(room: Tensor, way: Tensor, scale: Tensor) -> Tensor:
        top = room.square() + 2.0 * room * way + scale
        bottom = room.square() + 2.0 * way.square() + room * way + scale
        return torch.where(bottom > 0, top / torch.where(bottom > 0, bottom, 1.0), 1.0)

    return _least(w, gradient, dual, share)


def _least(
    w: Tensor, gradient: Tensor, dual: MedianDual, share: Callable[[Tensor, Tensor, Tensor], Tensor]
) -> Tensor:
    """The least over the edges of each node of a share of the way to their middles."""
    count = dual.edges
    ends = (dual.owner[:count], dual.other[:count])
    values = [at(w, node) for node in ends]
    high, low = w, w
    for node, far in ((ends[0], values[1]), (ends[1], values[0])):
        index = node.expand_as(far)
        high = high.scatter_reduce(2, index, far, "amax")
        low = low.scatter_reduce(2, index, far, "amin")
    with torch.no_grad():
        span = (w.amax(dim=2, keepdim=True) - w.amin(dim=2, keepdim=True)).square()
        scale = span * (_SMOOTH * (dual.volume / dual.volume.sum()).sqrt()) ** 3
    least = torch.ones_like(w)
    for node, sign in zip(ends, (0.5, -0.5), strict=True):
        way = sign * along(gradient, dual, node)
        room = torch.where(way > 0, at(high - w, node), at(low - w, node))
        # Both signs of the way alike.
        part = share(room.abs(), way.abs(), at(scale, node))
        least = least.scatter_reduce(2, node.expand_as(part), part, "amin")
    return least


def along(gradient: Tensor, dual: MedianDual, node: Tensor) -> Tensor:
    """Change by a node's gradient over the whole of each edge, (B, C, 2, N) -> (B, C, E)."""
    samples, channels = gradient.shape[:2]
    found = at(gradient.reshape(samples, 2 * channels, -1), node).reshape(samples, channels, 2, -1)
    return found[:, :, 0] * dual.along[0] + found[:, :, 1] * dual.along[1]


LIMITERS = {"barth-jespersen": barth_jespersen, "venkatakrishnan": venkatakrishnan}
