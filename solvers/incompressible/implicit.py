"""Implicit viscosity between walls, by direct solves of each component."""

from __future__ import annotations

import torch
from torch import Tensor

from sciml.linear.fast_poisson import Dense, second_difference
from sciml.staggered.operators import Staggered


class Relaxation:
    """(1 - half nu lap)^-1 for changes of a state that vanish where it is held, channel by channel.

    Each component sees other sides: along its own axis it is held on the faces of the sides, along the others its
    ghosts are mirror images. The modes of the second difference along each axis diagonalise them all.

    Args:
        faces: the staggered grid, without outflows.
        channels: D, or D + 1 with a scalar.
    """

    def __init__(self, faces: Staggered, channels: int) -> None:
        self._faces, self._grid = faces, faces.grid
        self._axes = [self._modes(c) for c in range(channels)]

    def __call__(self, push: Tensor, nu: float | Tensor, half: float) -> Tensor:
        """(B, C, *cells) -> the same; nu is a number or (1 or B, 1 or C, 1, ...)."""
        out = []
        for c, axes in enumerate(self._axes):
            x = push[:, c]
            share = nu[:, min(c, nu.shape[1] - 1)] if isinstance(nu, Tensor) and nu.ndim > 1 else nu
            total: Tensor | None = None
            for e, (axis, h) in enumerate(zip(axes, self._grid.spacing, strict=True)):
                x = axis.forward(x, e + 1)
                shape = [-1 if i == e else 1 for i in range(self._grid.dimension)]
                values = self._faces.cast(axis.eigenvalues, push).reshape(shape) / h**2
                total = values if total is None else total + values
            assert total is not None
            x = x / (1.0 - half * share * total)
            for e, axis in enumerate(axes):
                x = axis.backward(x, e + 1)
            out.append(x)
        return torch.stack(out, dim=1)

    def _modes(self, c: int) -> list[Dense]:
        axes = []
        for e, n in enumerate(self._grid.shape):
            if self._grid.periodic[e]:
                axes.append(Dense(second_difference(n, 0.0, 0.0, periodic=True)))
            elif e == c:
                # Both faces on the sides are held; the low one stands in the state and stays.
                matrix = torch.zeros(n, n, dtype=torch.float64)
                matrix[1:, 1:] = second_difference(n - 1, 0.0, 0.0)
                axes.append(Dense(matrix))
            else:
                low, high = (float(self._faces.sides.ghosts[e, end].scale[c]) for end in (0, 1))
                axes.append(Dense(second_difference(n, low, high)))
        return axes
