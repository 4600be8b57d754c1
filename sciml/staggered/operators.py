"""Gradient, divergence and ghosts on a staggered grid of velocities on faces."""

from __future__ import annotations

import torch
from torch import Tensor

from sciml.staggered.sides import Sides


class Staggered:
    """Operators between faces and cells; the gradient is minus the transpose of the divergence.

    States are (B, C, *cells) with the velocity along axis d on the low face of each cell in channel d. Where the
    high side of an axis is an outflow, its faces are a second tensor `exit`, (B, 1, *cells, 1 along the axis); on
    other sides they are known.
    """

    def __init__(self, sides: Sides) -> None:
        self.sides, self.grid = sides, sides.grid
        self.dimension, self.spacing = self.grid.dimension, self.grid.spacing
        # Faces of an outflow get ghosts along the other axes like all others: its axis comes first.
        self.order = sorted(range(self.dimension), key=lambda a: a != sides.exit)
        self._ghosts = {
            side: (ghosts.scale, self._spread(side[0], ghosts.shift))
            for side, ghosts in sides.ghosts.items()
        }
        self.recorded = any(shift is not None and shift.requires_grad for _, shift in self._ghosts.values())
        self._cast: dict[tuple[int, torch.dtype, torch.device], Tensor] = {}

    def cast(self, value: Tensor, like: Tensor) -> Tensor:
        """A constant that lives as long as this, in the precision and place of `like`; kept."""
        if value.dtype == like.dtype and value.device == like.device:
            return value
        key = (id(value), like.dtype, like.device)
        if key not in self._cast:
            self._cast[key] = value.to(dtype=like.dtype, device=like.device)
        return self._cast[key]

    def hold(self, u: Tensor) -> Tensor:
        """A copy of the state with the given velocity on the low sides that have one."""
        return self.restore(u.clone())

    def restore(self, u: Tensor) -> Tensor:
        """`hold` in place."""
        for axis in range(self.dimension):
            if (axis, 0) in self.sides.through and self.sides.grid.sides[axis][0] != "outflow":
                value = self.sides.through[axis, 0]
                face = u[:, axis].select(axis + 1, 0)
                if value is None:
                    face.zero_()
                else:
                    face.copy_(self.cast(value, u).select(axis, 0).expand_as(face))
        return u

    def release(self, rate: Tensor) -> Tensor:
        """Zero, in place, the rates of the faces that `hold` sets."""
        for axis in range(self.dimension):
            if (axis, 0) in self.sides.through and self.sides.grid.sides[axis][0] != "outflow":
                rate[:, axis].select(axis + 1, 0).zero_()
        return rate

    def exit_of(self, u: Tensor) -> Tensor | None:
        """Velocity on the high outflow side, from the continuity of the cells before it."""
        axis = self.sides.exit
        if axis is None:
            return None
        n = self.grid.shape[axis]
        none = torch.zeros_like(u[:, :1].narrow(axis + 2, 0, 1))
        last = u.narrow(axis + 2, n - 1, 1)
        rest = none
        for d, h in enumerate(self.spacing):
            if d != axis:
                face = last[:, d : d + 1]
                rest = rest + (self._after(face, d, None, crop=(axis, n - 1)) - face) / h
        return last[:, axis : axis + 1] - self.spacing[axis] * rest

    def divergence(self, u: Tensor, exit: Tensor | None) -> Tensor:
        """Net outflow of each cell over its volume, (B, C, *cells) -> (B, *cells) [1/time]."""
        total = torch.zeros((), dtype=u.dtype, device=u.device)
        for d, h in enumerate(self.spacing):
            face, n = u[:, d], self.grid.shape[d]
            total = face * (-1.0 / h) if d == 0 else total.sub_(face, alpha=1.0 / h)
            total.narrow(d + 1, 0, n - 1).add_(face.narrow(d + 1, 1, n - 1), alpha=1.0 / h)
            high = self._high(face.unsqueeze(1), d, exit)
            if high is not None:
                total.narrow(d + 1, n - 1, 1).add_(high.squeeze(1), alpha=1.0 / h)
        return total

    def _high(
        self, face: Tensor, d: int, exit: Tensor | None, crop: tuple[int, int] | None = None
    ) -> Tensor | None:
        """The faces after the last cells along axis d, (B, 1, *cells, 1 along d), or None where they are zero."""
        if self.grid.periodic[d]:
            return face.narrow(d + 2, 0, 1)
        if d == self.sides.exit:
            assert exit is not None
            return exit
        value = self.sides.through[d, 1]
        if value is None:
            return None
        value = self.cast(value, face)
        if crop is not None:
            value = value.narrow(crop[0], crop[1], 1)
        return value.expand_as(face.narrow(d + 2, 0, 1))

    def _after(
        self, face: Tensor, d: int, exit: Tensor | None, crop: tuple[int, int] | None = None
    ) -> Tensor:
        """The high face of each cell along axis d, (B, 1, *cells) -> the same."""
        dim, n = d + 2, face.shape[d + 2]
        high = self._high(face, d, exit, crop)
        if high is None:
            high = torch.zeros_like(face.narrow(dim, 0, 1))
        return torch.cat((face.narrow(dim, 1, n - 1), high), dim=dim)

    def subtract_gradient(
        self, u: Tensor, exit: Tensor | None, q: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """u - grad q, in place, for q (B, *cells); faces where the mask (D, *cells) is zero stay."""
        for d, h in enumerate(self.spacing):
            n, face = self.grid.shape[d], u[:, d]
            low, high = self.sides.ends[d]
            open_ = None if mask is None else mask[d]
            if low == "periodic":
                step = q - q.roll(1, d + 1)
                face.sub_(step if open_ is None else step * open_, alpha=1.0 / h)
                continue
            step = q.diff(dim=d + 1)
            if open_ is not None:
                step = step * open_.narrow(d, 1, n - 1)
            face.narrow(d + 1, 1, n - 1).sub_(step, alpha=1.0 / h)
            if low == "dirichlet":
                face.narrow(d + 1, 0, 1).sub_(q.narrow(d + 1, 0, 1), alpha=2.0 / h)
            if high == "dirichlet":
                assert exit is not None
                exit = exit + q.narrow(d + 1, n - 1, 1).unsqueeze(1) * (2.0 / h)
        return u, exit

    def pad(self, u: Tensor, exit: Tensor | None) -> Tensor:
        """The state with one layer of ghosts all round, (B, C, *cells) -> (B, C, *(cells + 2)).

        Along its own axis, the layer after the cells holds the high face of the last cell.
        """
        for axis in self.order:
            dim, n = axis + 2, u.shape[axis + 2]
            if self.grid.periodic[axis]:
                u = torch.cat((u.narrow(dim, n - 1, 1), u, u.narrow(dim, 0, 1)), dim=dim)
            else:
                low = self._ghost(u.narrow(dim, 0, 1), axis, 0)
                high = self._ghost(u.narrow(dim, n - 1, 1), axis, 1)
                if axis == self.sides.exit:
                    assert exit is not None
                    high = torch.cat((high[:, :axis], exit, high[:, axis + 1 :]), dim=1)
                u = torch.cat((low, u, high), dim=dim)
        return u

    def _ghost(self, edge: Tensor, axis: int, end: int) -> Tensor:
        scale, shift = self._ghosts[axis, end]
        if shift is None:
            return edge * self.cast(scale, edge)
        return torch.addcmul(self.cast(shift, edge), edge, self.cast(scale, edge))

    def shift(self, axis: int, end: int) -> Tensor | None:
        """What the ghosts beyond a bounded side are moved by, (C, *cells and earlier ghosts, 1 along the axis)."""
        return self._ghosts[axis, end][1] if (axis, end) in self._ghosts else None

    def _spread(self, axis: int, shift: Tensor | None) -> Tensor | None:
        """Shifts on the cells of a side and on the ghosts that were added along other axes before."""
        if shift is None:
            return None
        for other in self.order[: self.order.index(axis)]:
            n, dim = shift.shape[other + 1], other + 1
            if n > 1:
                ends = (n - 1, 0) if self.grid.periodic[other] else (0, n - 1)
                shift = torch.cat(
                    (shift.narrow(dim, ends[0], 1), shift, shift.narrow(dim, ends[1], 1)), dim
                )
        return shift

    def to_cells(self, u: Tensor, exit: Tensor | None) -> Tensor:
        """Velocities at cell centres, the means of the two faces; the scalar as it is, (B, C, *cells)."""
        parts = []
        for d in range(self.dimension):
            face = u[:, d : d + 1]
            parts.append(0.5 * (face + self._after(face, d, exit)))
        return torch.cat((*parts, u[:, self.dimension :]), dim=1)

    def to_faces(self, v: Tensor) -> Tensor:
        """Velocities on low faces, the means of the two cells; on bounded low sides the first cell's."""
        parts = []
        for d in range(self.dimension):
            cell, dim, n = v[:, d : d + 1], d + 2, v.shape[d + 2]
            if self.grid.periodic[d]:
                before = cell.roll(1, dim)
            else:
                before = torch.cat((cell.narrow(dim, 0, 1), cell.narrow(dim, 0, n - 1)), dim=dim)
            parts.append(0.5 * (cell + before))
        return self.hold(torch.cat((*parts, v[:, self.dimension :]), dim=1))
