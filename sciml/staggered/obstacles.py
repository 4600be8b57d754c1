"""Solid bodies inside a flow, and the pressure around them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sciml.domains import Grid, side_name
from sciml.linear import conjugate_gradient, implicit_solve
from sciml.linear.fast_poisson import FastPoisson

Shape = Callable[[Tensor], Tensor]
"""Positions (D, *cells) -> signed distance (*cells), negative inside the body."""
Obstacle = Tensor | Shape

# Faces of a body up to which a small dense matrix replaces iterations.
_DIRECT = 4096


def cylinder(center: Sequence[float], radius: float) -> Shape:
    """A disc in 2D, a ball in 3D with three coordinates; with two coordinates in 3D a cylinder along the last axis.

    Args:
        center: coordinates of the axis or of the middle [length].
        radius: positive [length].
    """
    if not (math.isfinite(radius) and radius > 0):
        raise ValueError(f"cylinder got radius={radius}; expected a positive length.")
    middle = tuple(float(c) for c in center)

    def distance(x: Tensor) -> Tensor:
        if not 2 <= len(middle) <= x.shape[0]:
            raise ValueError(
                f"cylinder got a center of {len(middle)} coordinates in {x.shape[0]} axes; expected 2, or one per axis."
            )
        offset = [x[i] - c for i, c in enumerate(middle)]
        return torch.stack(offset).norm(dim=0) - radius

    return distance


def block(low: Sequence[float], high: Sequence[float]) -> Shape:
    """A box between two corners [length]."""
    a, b = tuple(map(float, low)), tuple(map(float, high))
    if len(a) != len(b) or not all(p < q for p, q in zip(a, b, strict=True)):
        raise ValueError(
            f"block got corners {a} and {b}; expected the second beyond the first on every axis."
        )

    def distance(x: Tensor) -> Tensor:
        if len(a) != x.shape[0]:
            raise ValueError(f"block got corners of {len(a)} coordinates in {x.shape[0]} axes.")
        outside = torch.stack(
            [torch.maximum(p - x[i], x[i] - q) for i, (p, q) in enumerate(zip(a, b, strict=True))]
        )
        return outside.clamp(min=0).norm(dim=0) + outside.amax(dim=0).clamp(max=0)

    return distance


class Bodies:
    """Cells that are solid: no flow through their faces, and none along them.

    The boundary follows the faces of cells, a staircase whose distance to the true body is up to half a cell: first
    order. Velocities on the faces of solid cells are zero exactly. A velocity that runs along a body half a cell away
    has its mirror image inside.

    Args:
        grid: cells.
        obstacles: of each body a boolean mask (*cells) of its cells, or its signed distance as a function of
            positions; a cell is solid where its centre is.
        poisson: solves on the whole box.
        direct: faces up to which a dense matrix of them is used, in place of conjugate gradients.

    Raises:
        ValueError: a body has no cell or another shape, meets another, touches an open side, or fills the box.
    """

    def __init__(
        self,
        grid: Grid,
        obstacles: Sequence[Obstacle],
        poisson: FastPoisson,
        direct: int = _DIRECT,
    ) -> None:
        self.grid, self.poisson = grid, poisson
        self.masks = [cells_of(grid, obstacle, index) for index, obstacle in enumerate(obstacles)]
        count = torch.stack(self.masks).sum(dim=0)
        if bool((count > 1).any()):
            raise ValueError(
                f"Flow got obstacles that share {int((count > 1).sum())} cells; give what overlaps as one."
            )
        self.solid = count > 0
        if bool(self.solid.all()):
            raise ValueError("Flow got obstacles that fill the whole grid; there is nothing to flow.")
        for axis, pair in enumerate(grid.sides):
            for end, side in enumerate(pair):
                edge = self.solid.select(axis, 0 if end == 0 else grid.shape[axis] - 1)
                if side in ("inflow", "outflow") and bool(edge.any()):
                    raise ValueError(
                        f"Flow got an obstacle with {int(edge.sum())} cells on the side "
                        f"{side_name(axis, end)}, an {side!r}; move it inside, or shorten the side's profile."
                    )
        before = torch.stack([self._before(self.solid, axis) for axis in range(grid.dimension)])
        self.closed = before | self.solid
        inside = before & self.solid
        self._open = (~self.closed).to(torch.float64)
        # Neighbours half a cell beyond the boundary: their mirror images double the pull of the wall.
        pull = torch.zeros(grid.dimension, *grid.shape, dtype=torch.float64)
        for d in range(grid.dimension):
            for e, h in enumerate(grid.spacing):
                if e != d:
                    near = self._before(inside[d], e).double() + self._after(inside[d], e).double()
                    pull[d] += near / h**2
        self._pull = pull * self._open
        self.strongest_pull = float(self._pull.max())
        self._tables: dict[tuple[str, torch.dtype, torch.device], Tensor] = {}
        self._gather(before ^ self.solid)
        self.iterative = len(self._cell) > direct
        if not self.iterative:
            self._capacitance = self._invert()

    def open(self, like: Tensor) -> Tensor:
        """One on open faces and zero on those of bodies, (D, *cells)."""
        return self._cast("open", self._open, like)

    def pull(self, like: Tensor) -> Tensor:
        """What -lap(u) gains per u on faces half a cell from a body, (D, *cells) [1/length^2]."""
        return self._cast("pull", self._pull, like)

    def label(self, body: int) -> Tensor:
        """Faces that belong to one body: of its cells, (D, *cells) bool."""
        mask = self.masks[body]
        return torch.stack([mask | self._before(mask, axis) for axis in range(self.grid.dimension)])

    def near(self, body: int) -> Tensor:
        """For each face how strongly this body's cells pull on it, (D, *cells) [1/length^2]."""
        mask, out = self.masks[body], torch.zeros_like(self._pull)
        for d in range(self.grid.dimension):
            inside = self._before(mask, d) & mask
            for e, h in enumerate(self.grid.spacing):
                if e != d:
                    near = self._before(inside, e).double() + self._after(inside, e).double()
                    out[d] += near / h**2
        return out * self._open

    def solve(self, f: Tensor) -> Tensor:
        """q with div(open grad q) = f, (B, *cells) -> (B, *cells); f is zero inside bodies.

        The pressure steps s = grad q across the closed faces are unknowns: lap q = f + div s on the whole box, and
        s = grad q there, a small dense system for s. Otherwise conjugate gradients on the fluid cells.
        """
        if self.iterative:
            return self._iterate(f)
        q = self.poisson(f)
        steps = self._steps(q) @ self._cast("capacitance", self._capacitance, f)
        return q + self.poisson(self._sources(steps, f))

    def _iterate(self, f: Tensor) -> Tensor:
        fluid, open_ = (~self.solid).to(f), self.open(f)
        singular = self.poisson.singular
        count = fluid.sum()

        def center(p: Tensor) -> Tensor:
            axes = tuple(range(1, p.ndim))
            return (p - (p * fluid).sum(dim=axes, keepdim=True) / count) * fluid if singular else p * fluid

        def operator(p: Tensor) -> Tensor:
            p = p * fluid
            total = -self.poisson.laplacian(p)
            # Minus what passes through the closed faces.
            for d, h in enumerate(self.grid.spacing):
                step = (p - p.roll(1, d + 1)) * (1.0 - open_[d]) / h**2
                if not self.grid.periodic[d]:
                    step = torch.cat(
                        (
                            torch.zeros_like(step.narrow(d + 1, 0, 1)),
                            step.narrow(d + 1, 1, step.shape[d + 1] - 1),
                        ),
                        dim=d + 1,
                    )
                total = total + step.roll(-1, d + 1) - step
            return total * fluid

        def solve(b: Tensor) -> Tensor:
            axes = tuple(range(1, b.ndim))
            good = torch.isfinite(b).flatten(1).all(dim=1).reshape(-1, *[1] * len(axes))
            found = conjugate_gradient(
                operator,
                center(torch.where(good, b, 0.0)),
                preconditioner=lambda r: center(-self.poisson(r)),
                tolerance=1e-13 if b.dtype == torch.float64 else 1e-6,
                max_iterations=1000,
                strict=False,
            )
            return torch.where(good, found.x, torch.nan)

        return implicit_solve(operator, -f * fluid, solve)

    def _gather(self, faces: Tensor) -> None:
        """Cells before and after each face between fluid and solid, as flat indices, and 1/h."""
        grid, strides = self.grid, []
        numbers = torch.arange(math.prod(grid.shape)).reshape(grid.shape)
        cells, befores = [], []
        for axis, h in enumerate(grid.spacing):
            at = faces[axis].clone()
            if not grid.periodic[axis]:
                at.select(axis, 0).fill_(False)
            cells.append(numbers[at])
            befores.append(numbers.roll(1, axis)[at])
            strides.append(torch.full((int(at.sum()),), 1.0 / h, dtype=torch.float64))
        self._cell, self._cell_before = torch.cat(cells), torch.cat(befores)
        self._per_length = torch.cat(strides)

    def _steps(self, q: Tensor) -> Tensor:
        """grad q on the faces between fluid and solid, (B, *cells) -> (B, W)."""
        flat, device = q.flatten(1), q.device
        step = flat.index_select(1, self._cell.to(device)) - flat.index_select(
            1, self._cell_before.to(device)
        )
        return step * self._cast("per_length", self._per_length, q)

    def _sources(self, steps: Tensor, like: Tensor) -> Tensor:
        """Divergence of fluxes on the faces between fluid and solid, (B, W) -> (B, *cells)."""
        flux = steps * self._cast("per_length", self._per_length, steps)
        flat = torch.zeros(
            steps.shape[0], math.prod(self.grid.shape), dtype=steps.dtype, device=steps.device
        )
        flat = flat.index_add(1, self._cell_before.to(steps.device), flux)
        flat = flat.index_add(1, self._cell.to(steps.device), -flux)
        return flat.reshape(-1, *self.grid.shape)

    def _invert(self) -> Tensor:
        """(1 - grad lap^-1 div)^-1 between the faces; what a body's inner pressure could do is left out."""
        faces = len(self._cell)
        columns, one = [], torch.eye(faces, dtype=torch.float64)
        like = torch.zeros(1, *self.grid.shape, dtype=torch.float64)
        chunk = max(1, 4_000_000 // math.prod(self.grid.shape))
        for start in range(0, faces, chunk):
            columns.append(self._steps(self.poisson(self._sources(one[start : start + chunk], like))))
        matrix = one - torch.cat(columns)
        values, vectors = torch.linalg.eigh(0.5 * (matrix + matrix.mT))
        inverse = torch.where(values > 1e-9, 1.0 / values, 0.0)
        return (vectors * inverse) @ vectors.mT

    def _before(self, mask: Tensor, axis: int) -> Tensor:
        """The value in the cell before, False beyond a bounded side."""
        out = mask.roll(1, axis)
        if not self.grid.periodic[axis]:
            out.select(axis, 0).fill_(False)
        return out

    def _after(self, mask: Tensor, axis: int) -> Tensor:
        out = mask.roll(-1, axis)
        if not self.grid.periodic[axis]:
            out.select(axis, self.grid.shape[axis] - 1).fill_(False)
        return out

    def _cast(self, name: str, value: Tensor, like: Tensor) -> Tensor:
        key = (name, like.dtype, like.device)
        if key not in self._tables:
            self._tables[key] = value.to(dtype=like.dtype, device=like.device)
        return self._tables[key]


def cells_of(grid: Grid, obstacle: Obstacle, index: int) -> Tensor:
    """Mask (*cells) of the cells of a body; `index` is its number, for messages.

    Raises:
        ValueError: the body has no cell, or a mask of another shape or type.
    """
    given = obstacle if isinstance(obstacle, Tensor) else obstacle(grid.coordinates())
    mask = given if given.dtype == torch.bool else given < 0
    if isinstance(obstacle, Tensor) and obstacle.dtype != torch.bool:
        raise ValueError(
            f"Flow got obstacle {index} as a tensor of {obstacle.dtype}; expected a boolean mask, or a "
            "function of positions."
        )
    if tuple(mask.shape) != grid.shape:
        raise ValueError(
            f"Flow got obstacle {index} of shape {tuple(mask.shape)}; expected {grid.shape}, one per cell."
        )
    if not bool(mask.any()):
        raise ValueError(
            f"Flow got obstacle {index} without a single cell inside it on spacing {grid.spacing}; move it "
            "onto the grid or refine."
        )
    return mask.cpu()
