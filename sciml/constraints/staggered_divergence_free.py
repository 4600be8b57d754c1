"""Incompressible velocities between walls and around bodies."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sciml.constraints.base import (
    Constraint,
    Context,
    at_least_single,
    checked_channels,
    replace_channels,
    select,
)
from sciml.domains import Conditions, Grid
from sciml.linear.fast_poisson import FastPoisson
from sciml.staggered import Bodies, Obstacle, Sides, Staggered, block, cylinder

# Divergence, over the speed of what enters, that no pressure can remove: a part of the box without an exit.
_CUT_OFF = 1e-9


class StaggeredDivergenceFree(Constraint):
    """Remove the net outflow of every cell of a staggered grid between walls, openings and around bodies.

        u = z - G p,    D G p = D z,    G = -D^T on the faces that are free

    with the divergence D and the gradient G of `sciml.solvers.incompressible`, whose states these are: channel d is the
    velocity along axis d on the low face of each cell. Faces on walls and inflows get their values, those of solid
    cells zero; the face beyond the last cell follows from its side, on an outflow from the continuity of the last
    cell. The Poisson problem is solved directly by transforms along the axes, around bodies with a small dense system
    for their faces (conjugate gradients above 4096 of them), so that the divergence left is rounding.

    Without outflow the nearest such flow, an orthogonal projection plus a constant that never enlarges the difference of two
    states; with one, nearest where faces of the outflow count half. Computed in float64 whatever the precision of the state.

    Args:
        grid: cells (`centering="cell"`) in 2D or 3D with sides "periodic", "wall", "inflow", "outflow".
        conditions: `Inflow` by side with D components, of which the one through the side counts.
        obstacles: bodies as boolean masks (*cells), or functions of positions that are negative inside.
        cylinders: further bodies, each as the coordinates of its centre and its radius (D + 1 numbers; in 3D three
            numbers make one along the last axis) [length].
        blocks: further bodies, each as its low and its high corner (2 D numbers) [length].
        channels: the D channels that hold the velocity, in the order of the axes; left out, the state is the velocity.

    Raises:
        TypeError: the domain is no grid.
        ValueError: the grid is not of cells, a side or a body is refused (see `sciml.staggered`), inflows do not
            balance, bodies cut an inflow off from every outflow (the message names a cell), or channels or points do
            not fit.

    Harlow and Welch, Physics of Fluids 8 (1965) 2182, for the grid; Chorin, Mathematics of Computation 22 (1968) 745,
    for the projection.
    """

    def __init__(
        self,
        grid: Grid,
        conditions: Conditions | None = None,
        obstacles: Sequence[Obstacle] = (),
        cylinders: Sequence[Sequence[float]] = (),
        blocks: Sequence[Sequence[float]] = (),
        channels: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(grid, Grid):
            raise TypeError(
                f"StaggeredDivergenceFree got a {type(grid).__name__}; expected a Grid of cells."
            )
        if grid.dimension < 2 or grid.centering != "cell":
            raise ValueError(
                f"StaggeredDivergenceFree got a grid of {grid.dimension} axes of {grid.centering}s; expected cells "
                "(centering='cell') in two or three axes. On periodic nodes take DivergenceFree."
            )
        self.grid = grid
        self.channels = checked_channels(channels, "StaggeredDivergenceFree")
        if self.channels is not None and len(self.channels) != grid.dimension:
            raise ValueError(
                f"StaggeredDivergenceFree got {len(self.channels)} channels {self.channels} on a grid of "
                f"{grid.dimension} axes; expected one per axis."
            )
        bodies: list[Obstacle] = list(obstacles)
        bodies += [cylinder(numbers[:-1], numbers[-1]) for numbers in cylinders]
        bodies += [block(numbers[: len(numbers) // 2], numbers[len(numbers) // 2 :]) for numbers in blocks]
        self._sides = Sides(grid, grid.dimension, conditions, (), None)
        self._faces = Staggered(self._sides)
        self._poisson = FastPoisson(grid.shape, grid.spacing, self._sides.ends)
        self._bodies = Bodies(grid, bodies, self._poisson) if bodies else None
        if self._bodies is not None and self._sides.speed > 0:
            self._refuse_dead_ends(self._bodies)

    def _refuse_dead_ends(self, bodies: Bodies) -> None:
        still = torch.zeros(1, self.grid.dimension, *self.grid.shape, dtype=torch.float64)
        left = self.divergence(self.project(still)).abs() * min(self.grid.spacing)
        if float(left.max()) > _CUT_OFF * self._sides.speed:
            flat = int(left.flatten().argmax())
            cell = tuple(int(i) for i in torch.unravel_index(torch.tensor(flat), self.grid.shape))
            raise ValueError(
                f"StaggeredDivergenceFree got bodies that cut what enters off from what leaves: no flow is without "
                f"divergence, it stays at cell {cell} for one. Open a way of a cell or more, or close the inflow there."
            )

    def _velocity(self, u: Tensor) -> Tensor:
        velocity = at_least_single(select(u, self.channels, "StaggeredDivergenceFree"))
        if velocity.shape[1] != self.grid.dimension or velocity.shape[2:] != self.grid.shape:
            raise ValueError(
                f"StaggeredDivergenceFree got a velocity of shape {tuple(velocity.shape)}; expected "
                f"(B, {self.grid.dimension}, {', '.join(map(str, self.grid.shape))}). Name the velocity's "
                "channels if the state has others."
            )
        return velocity

    def _held(self, velocity: Tensor) -> Tensor:
        """A copy with the given values on sides and zero on bodies."""
        held = self._faces.hold(velocity)
        return held if self._bodies is None else held * self._bodies.open(held)

    def divergence(self, u: Tensor) -> Tensor:
        """Net outflow of each cell over its volume, (B, C, *cells) -> (B, 1, *cells) [velocity / length]."""
        velocity = self._velocity(u)
        return self._faces.divergence(velocity, self._faces.exit_of(velocity)).unsqueeze(1)

    def orthogonal(self) -> Tensor | None:
        leaves = any(side == "outflow" for pair in self.grid.sides for side in pair)
        return None if leaves else torch.ones(self.grid.shape, dtype=torch.float64)

    @property
    def nonexpansive(self) -> bool:
        return self.orthogonal() is not None

    def project(self, u: Tensor, previous: Tensor | None = None, context: Context | None = None) -> Tensor:
        # In double precision: automatic mixed precision would take the products with modes in half precision.
        flow = self._held(self._velocity(u)).to(torch.float64)
        leaving = self._faces.exit_of(flow)
        net = self._faces.divergence(flow, leaving)
        pressure = self._poisson(net) if self._bodies is None else self._bodies.solve(net)
        mask = None if self._bodies is None else self._bodies.open(flow)
        flow, _ = self._faces.subtract_gradient(flow, leaving, pressure, mask)
        u = at_least_single(u)
        return replace_channels(u, self.channels, flow.to(u.dtype))

    def violation(
        self, u: Tensor, previous: Tensor | None = None, context: Context | None = None
    ) -> Tensor:
        """The larger of the root mean square of the divergence times the finest spacing, and of the largest error
        on a face of a side or a body, (B,) [unit of u]."""
        velocity = self._velocity(u)
        net = self.divergence(u).flatten(1).square().mean(dim=1).sqrt() * min(self.grid.spacing)
        return torch.maximum(net, (velocity - self._held(velocity)).abs().flatten(1).amax(dim=1))
