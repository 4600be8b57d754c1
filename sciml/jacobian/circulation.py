"""Work that a vector field does along closed loops."""

from __future__ import annotations

import torch
from torch import Tensor

from sciml.jacobian.products import StepFunction

# Gauss-Legendre points on [0, 1] and their weights, exact for polynomials of degree 9.
_POINTS = tuple(
    0.5 + 0.5 * x
    for x in (-0.9061798459386640, -0.5384693101056831, 0.0, 0.5384693101056831, 0.9061798459386640)
)
_WEIGHTS = (0.1184634425280945, 0.2393143352496832, 64 / 225, 0.2393143352496832, 0.1184634425280945)


def circulation(field: StepFunction, loop: Tensor, pieces: int = 1) -> tuple[Tensor, Tensor]:
    """The integral of F . du round a closed polygon of states, and that of |F| |du|, two scalars [F times u].

    Zero for every loop where F is a gradient; over the second number it lies between -1 and 1 and says how much of the
    work does not cancel. Five Gauss points on each piece of an edge: for fields that curve within it take more pieces.

    Args:
        field: F, (B, C, *points) -> (B, C, *points), such as a `HelmholtzNet` at points (B, D, 1).
        loop: corners (M, C, *points); the last is joined to the first.
        pieces: equal parts of each edge.

    Raises:
        ValueError: there are fewer than three corners, or no pieces.
    """
    if loop.ndim < 2 or len(loop) < 3 or pieces < 1:
        raise ValueError(
            f"circulation got a loop of shape {tuple(loop.shape)} and pieces={pieces}; expected three corners "
            "(M, C, *points) or more, and one piece or more."
        )
    edges = loop.roll(-1, 0) - loop
    work = torch.zeros((), dtype=loop.dtype, device=loop.device)
    size = torch.zeros_like(work)
    lengths = edges.flatten(1).norm(dim=1)
    for piece in range(pieces):
        for point, weight in zip(_POINTS, _WEIGHTS, strict=True):
            force = field(loop + (piece + point) / pieces * edges)
            work = work + weight / pieces * (force * edges).sum()
            size = size + weight / pieces * (force.flatten(1).norm(dim=1) * lengths).sum()
    return work, size
