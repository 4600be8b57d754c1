"""Reflections, quarter turns and translations of states on grids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations, product
from typing import Literal, get_args

import torch
from torch import Tensor

from sciml.domains import Grid

PointGroup = Literal["none", "reflections", "rotations", "all"]


@dataclass(frozen=True)
class Turn:
    """One element: axis a of the turned state is axis `order[a]` of the old one, reversed where `flips[a]`, and then
    moved by `shift[a]` points."""

    order: tuple[int, ...]
    flips: tuple[bool, ...]
    shift: tuple[int, ...]

    @property
    def determinant(self) -> int:
        """-1 where it turns right hands into left ones."""
        inversions = sum(a > b for i, a in enumerate(self.order) for b in self.order[i + 1 :])
        return (-1) ** (inversions + sum(self.flips))


class GridSymmetries:
    """A group of symmetries of a grid and what its elements do to states, vectors turned along.

    "reflections" are those of the named axes, "rotations" all quarter turns between them (4 in 2D, 24 in 3D), "all" both
    (8 and 48), "none" nothing but translations. On node k of a periodic axis a reflection is that about node 0, between
    sides about the middle. A state that a solver steps forward stays as well as the equation allows: rotating forces,
    gravity along an axis, or a flow that enters on one side break a symmetry, and it is yours to leave that axis out.

    Args:
        grid: where the states live; reflected axes have equal sides at both ends, exchanged ones are alike.
        point_group: see above.
        axes: those that are reflected and exchanged, all where left out.
        translations: per axis the number of equal shifts that make up a period, 1 for none; they divide the points of
            the axis, which is periodic.
        vectors: of each vector the D channels in the order of the axes.
        pseudoscalars: channels that change their sign in a mirror, such as a vorticity in 2D.
        tensors: of each tensor of second order the D*D channels, row by row.
        staggered: vectors lie on the low faces of cells along their own axis, all else at the centres.

    Raises:
        TypeError: the domain is no grid.
        ValueError: the grid has not the symmetry, or channels do not fit.
    """

    def __init__(
        self,
        grid: Grid,
        point_group: PointGroup = "all",
        axes: Sequence[int] | None = None,
        translations: Sequence[int] | None = None,
        vectors: Sequence[Sequence[int]] = (),
        pseudoscalars: Sequence[int] = (),
        tensors: Sequence[Sequence[int]] = (),
        staggered: bool = False,
    ) -> None:
        if not isinstance(grid, Grid):
            raise TypeError(f"GridSymmetries got a {type(grid).__name__}; expected a Grid.")
        if point_group not in get_args(PointGroup):
            raise ValueError(
                f"GridSymmetries got point_group={point_group!r}; expected one of {list(get_args(PointGroup))}."
            )
        d = grid.dimension
        self.grid, self.staggered = grid, staggered
        self.axes = tuple(range(d)) if axes is None else tuple(int(a) for a in axes)
        if len(set(self.axes)) != len(self.axes) or not set(self.axes) <= set(range(d)):
            raise ValueError(
                f"GridSymmetries got axes {self.axes}; expected different ones from 0 to {d - 1}."
            )
        self.vectors = tuple(tuple(int(c) for c in v) for v in vectors)
        self.tensors = tuple(tuple(int(c) for c in v) for v in tensors)
        self.pseudoscalars = tuple(int(c) for c in pseudoscalars)
        named = [c for group in (*self.vectors, *self.tensors) for c in group] + list(self.pseudoscalars)
        if (
            any(len(v) != d for v in self.vectors)
            or any(len(v) != d * d for v in self.tensors)
            or len(set(named)) != len(named)
            or min(named, default=0) < 0
        ):
            raise ValueError(
                f"GridSymmetries got vectors {self.vectors}, tensors {self.tensors} and pseudoscalars "
                f"{self.pseudoscalars}; expected {d} channels of each vector, {d * d} of each tensor, and no channel twice."
            )
        if staggered and (grid.centering != "cell" or self.tensors):
            raise ValueError(
                "GridSymmetries got staggered=True on a grid of nodes or with tensors; expected cells and vectors."
            )
        self._check_grid(point_group)
        shifts = [range(1)] * d if translations is None else self._shifts(translations, point_group)
        self.elements = tuple(
            Turn(order, flips, shift)
            for order, flips in self._points(point_group)
            for shift in product(*shifts)
        )

    def _check_grid(self, point_group: PointGroup) -> None:
        grid = self.grid
        if point_group == "none":
            return
        kinds = ("periodic", "wall") if self.staggered else None
        for axis in self.axes:
            low, high = grid.sides[axis]
            if low != high or (kinds is not None and low not in kinds):
                raise ValueError(
                    f"GridSymmetries got sides {(low, high)} on axis {axis}, which has no mirror image"
                    f"{' on a staggered grid' if kinds else ''}; leave that axis out of `axes`."
                )
        first = self.axes[0] if self.axes else 0
        alike = [
            (grid.shape[a], grid.sides[a]) == (grid.shape[first], grid.sides[first])
            and abs(grid.spacing[a] - grid.spacing[first]) <= 1e-12 * grid.spacing[first]
            for a in self.axes
        ]
        if point_group in ("rotations", "all") and not all(alike):
            raise ValueError(
                f"GridSymmetries got point_group={point_group!r} on axes {self.axes} of {grid.shape} points, lengths "
                f"{grid.lengths}, sides {grid.sides}; quarter turns need axes that are alike. Use "
                "'reflections', or name fewer axes."
            )

    def _shifts(self, translations: Sequence[int], point_group: PointGroup) -> list[range]:
        grid, counts = self.grid, tuple(int(n) for n in translations)
        wrong = len(counts) != grid.dimension or any(
            n < 1 or points % n or (n > 1 and not periodic)
            for n, points, periodic in zip(counts, grid.shape, grid.periodic, strict=False)
        )
        if wrong:
            raise ValueError(
                f"GridSymmetries got translations {counts}; expected one number per axis that divides its points "
                f"{grid.shape}, and 1 on axes that are not periodic."
            )
        if point_group in ("rotations", "all") and len({counts[a] for a in self.axes}) > 1:
            raise ValueError(
                f"GridSymmetries got translations {counts} with point_group={point_group!r}; expected one number for axes "
                f"{self.axes} that are exchanged."
            )
        return [range(0, points, points // n) for points, n in zip(grid.shape, counts, strict=True)]

    def _points(self, point_group: PointGroup) -> list[tuple[tuple[int, ...], tuple[bool, ...]]]:
        d, axes = self.grid.dimension, self.axes
        if point_group == "none":
            return [(tuple(range(d)), (False,) * d)]
        found = []
        orders = permutations(axes) if point_group in ("rotations", "all") else [axes]
        for chosen in orders:
            order = list(range(d))
            for a, b in zip(axes, chosen, strict=True):
                order[a] = b
            for flips in product((False, True), repeat=len(axes)):
                flipped = [False] * d
                for a, flip in zip(axes, flips, strict=True):
                    flipped[a] = flip
                turn = Turn(tuple(order), tuple(flipped), (0,) * d)
                if point_group != "rotations" or turn.determinant > 0:
                    found.append((turn.order, turn.flips))
        return found

    def apply(self, turn: Turn, u: Tensor, inverse: bool = False) -> Tensor:
        """The turned state, (B, C, *points) -> (B, C, *points).

        Raises:
            ValueError: points or channels do not fit.
        """
        grid, d = self.grid, self.grid.dimension
        named = [c for group in (*self.vectors, *self.tensors, self.pseudoscalars) for c in group]
        if u.ndim != d + 2 or tuple(u.shape[2:]) != grid.shape or u.shape[1] <= max(named, default=0):
            raise ValueError(
                f"GridSymmetries got a state of shape {tuple(u.shape)}; expected (B, C, *points) with points {grid.shape} "
                f"and channels {sorted(named)}."
            )
        source, sign = self._channels(turn, u.shape[1], inverse)
        if not inverse:
            u = u.permute(0, 1, *(2 + a for a in turn.order))
            if source != tuple(range(len(source))):
                u = u[:, list(source)]
            u = self._reversed(u, turn)
            if any(turn.shift):
                u = u.roll(turn.shift, tuple(range(2, d + 2)))
        else:
            if any(turn.shift):
                u = u.roll(tuple(-s for s in turn.shift), tuple(range(2, d + 2)))
            u = self._reversed(u, turn)
            if source != tuple(range(len(source))):
                u = u[:, list(source)]
            back = sorted(range(d), key=lambda a: turn.order[a])
            u = u.permute(0, 1, *(2 + a for a in back))
        if min(sign) < 0:
            u = u * torch.tensor(sign, dtype=u.dtype, device=u.device).reshape(1, -1, *[1] * d)
        return u

    def _channels(self, turn: Turn, count: int, inverse: bool) -> tuple[tuple[int, ...], tuple[float, ...]]:
        """Of each new channel the old one and its sign."""
        d = self.grid.dimension
        back = sorted(range(d), key=lambda a: turn.order[a])
        order = back if inverse else list(turn.order)
        # Signs belong to the axes of the turned state.
        signs = [-1.0 if turn.flips[back[a] if inverse else a] else 1.0 for a in range(d)]
        source, sign = list(range(count)), [1.0] * count
        for vector in self.vectors:
            for a in range(d):
                source[vector[a]], sign[vector[a]] = vector[order[a]], signs[a]
        for tensor in self.tensors:
            for a, b in product(range(d), repeat=2):
                source[tensor[a * d + b]] = tensor[order[a] * d + order[b]]
                sign[tensor[a * d + b]] = signs[a] * signs[b]
        for channel in self.pseudoscalars:
            sign[channel] = float(turn.determinant)
        return tuple(source), tuple(sign)

    def _reversed(self, u: Tensor, turn: Turn) -> Tensor:
        """The state with the flipped axes reversed, each channel about the same place."""
        for axis, flip in enumerate(turn.flips):
            if not flip:
                continue
            u = u.flip(axis + 2)
            if self.grid.centering == "node" and self.grid.periodic[axis]:
                u = u.roll(1, axis + 2)
            elif self.staggered:
                # Low faces mirror to high faces, the low faces of the next cells.
                on_faces = [v[axis] for v in self.vectors]
                index = torch.zeros(u.shape[1], dtype=torch.bool, device=u.device)
                index[on_faces] = True
                u = torch.where(index.reshape(1, -1, *[1] * self.grid.dimension), u.roll(1, axis + 2), u)
        return u

    def average(self, u: Tensor) -> Tensor:
        """The mean of all turned states, which no element changes, (B, C, *points) -> (B, C, *points)."""
        total = torch.zeros_like(u)
        for turn in self.elements:
            total = total + self.apply(turn, u)
        return total / len(self.elements)
