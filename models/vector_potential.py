"""Velocities without divergence, as the curl of a potential that a network gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from sciml.calculus import Spectral
from sciml.calculus.constants import Constants
from sciml.constraints.base import at_least_single, checked_channels
from sciml.domains import Grid
from sciml.models.channel_statistics import ChannelStatistics
from sciml.models.wrappers import Map
from sciml.staggered import Obstacle, block, cylinder
from sciml.staggered.obstacles import cells_of

Method = Literal["spectral", "staggered"]
MeanFlow = Literal["kept", "predicted", "zero"]


class VectorPotential(nn.Module):
    """A step whose velocity is a curl: u = (d psi/dy, -d psi/dx) in 2D, u = curl A in 3D, plus a mean flow.

    Free of divergence for any weights, without a solve. Spectral: collocated on a periodic grid, for the divergence of
    `DivergenceFree`. Staggered: velocities on the low faces of cells (the states of `sciml.solvers.incompressible` and of
    `StaggeredDivergenceFree`), psi at the low corners and A on the low edges, where the divergence telescopes; sides
    periodic or "wall", through which nothing flows because psi, or A along the wall, is zero there. In 2D bodies have
    one value of psi each, the mean of what the network gives on their corners. Openings: `StaggeredDivergenceFree`.

    A potential cannot carry a mean flow along periodic axes. It is that of the given state ("kept", as where momentum
    is conserved), the mean over the points of further channels of the network ("predicted"), or "zero".

    The network f gives, in this order, 1 (2D) or 3 (3D) channels of the potential, one channel per periodic axis where
    the mean is predicted, and one for each channel of the state that is no velocity. It sees (u - mean) / std; the
    potential is multiplied by the root mean square of the velocities' std times `length`, the others by their std:
    `residual: false` and `normalized: false` in a study. With `residual` here, curl and other channels are added to the
    given state, whose divergence then stays as it is.

    Args:
        f: map (B, C, *points) -> (B, as above, *points).
        grid: two or three axes.
        method: see above.
        mean_flow: see above.
        obstacles: bodies of a staggered grid in 2D, as boolean masks (*cells) or signed distances, negative inside.
        cylinders: further bodies, each the coordinates of the centre and the radius [length].
        blocks: further bodies, each the low and the high corner [length].
        channels: the D channels of the velocity, the first ones where left out.
        residual: see above.
        length: by which potentials are scaled, the geometric mean of the sides over 2 pi where left out [length].
        mean, std: statistics of the channels (C,), none or both [unit of u].

    Raises:
        TypeError: the domain is no grid.
        ValueError: sides, bodies or arguments do not suit the method, bodies touch each other or cross a periodic side,
            or the network gives another number of channels.

    Richter-Powell, Lipman and Chen, Neural conservation laws (NeurIPS 2022), in the continuous case.
    """

    physical = True

    def __init__(
        self,
        f: Map,
        grid: Grid,
        method: Method = "spectral",
        mean_flow: MeanFlow = "kept",
        obstacles: Sequence[Obstacle] = (),
        cylinders: Sequence[Sequence[float]] = (),
        blocks: Sequence[Sequence[float]] = (),
        channels: Sequence[int] | None = None,
        residual: bool = False,
        length: float | None = None,
        mean: Tensor | Sequence[float] | float | None = None,
        std: Tensor | Sequence[float] | float | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(grid, Grid):
            raise TypeError(f"VectorPotential got a {type(grid).__name__}; expected a Grid.")
        for name, given, known in (
            ("method", method, get_args(Method)),
            ("mean_flow", mean_flow, get_args(MeanFlow)),
        ):
            if given not in known:
                raise ValueError(f"VectorPotential got {name}={given!r}; expected one of {list(known)}.")
        sides = {side for pair in grid.sides for side in pair}
        dimension = grid.dimension
        if dimension < 2 or (method == "spectral" and sides != {"periodic"}):
            raise ValueError(
                f"VectorPotential got a grid of {dimension} axes with sides {grid.sides}; expected two or three, "
                "periodic for method='spectral'."
            )
        if method == "staggered" and (grid.centering != "cell" or not sides <= {"periodic", "wall"}):
            raise ValueError(
                f"VectorPotential got {grid.centering}s with sides {grid.sides}; method='staggered' needs "
                "centering='cell' and sides 'periodic' or 'wall'. For openings take StaggeredDivergenceFree."
            )
        bodies: list[Obstacle] = list(obstacles)
        bodies += [cylinder(numbers[:-1], numbers[-1]) for numbers in cylinders]
        bodies += [block(numbers[: len(numbers) // 2], numbers[len(numbers) // 2 :]) for numbers in blocks]
        if bodies and (method != "staggered" or dimension != 2):
            raise ValueError(
                f"VectorPotential got bodies with method={method!r} in {dimension}D; it takes them in on staggered grids in "
                "2D. Elsewhere project with StaggeredDivergenceFree."
            )
        self.f, self.grid = f, grid
        self.method, self.mean_flow, self.residual = method, mean_flow, residual
        self.channels = checked_channels(channels, "VectorPotential") or tuple(range(dimension))
        if len(self.channels) != dimension:
            raise ValueError(
                f"VectorPotential got channels {self.channels} on a grid of {dimension} axes; expected one per axis."
            )
        volume = 1.0
        for side in grid.lengths:
            volume *= side
        self.length = volume ** (1 / dimension) / (2 * torch.pi) if length is None else float(length)
        if not self.length > 0:
            raise ValueError(f"VectorPotential got length={length}; expected a positive number.")
        values: dict[str, Tensor] = {}
        self.statistics = ChannelStatistics("VectorPotential", mean, std, dimension)
        if bodies:
            masks = [_corners(cells_of(grid, body, i)) for i, body in enumerate(bodies)]
            values |= self._bodies(masks)
        self.bodies = len(bodies)
        self.constants = Constants(values)
        self.calculus = Spectral(grid) if method == "spectral" else None

    def _bodies(self, masks: list[Tensor]) -> dict[str, Tensor]:
        """Weights of the corners (bodies, *corners), and where bodies are fixed by a wall."""
        if int(torch.stack(masks).sum(dim=0).max()) > 1:
            raise ValueError(
                "VectorPotential got bodies that touch each other; give what touches as one body."
            )
        fixed = []
        for number, mask in enumerate(masks):
            touched = []
            for axis, periodic in enumerate(self.grid.periodic):
                ends = [mask.select(axis, 0), mask.select(axis, mask.shape[axis] - 1)]
                if periodic and any(bool(end.any()) for end in ends):
                    raise ValueError(
                        f"VectorPotential got body {number} on the periodic side of axis {axis}; move it inside."
                    )
                touched += [(axis, end) for end, on in enumerate(ends) if not periodic and bool(on.any())]
            fixed.append(touched)
        # A body on a wall has the wall's value of psi; from the network comes nothing.
        weights = [
            torch.zeros_like(mask, dtype=torch.float64) if touched else mask.double() / mask.sum()
            for mask, touched in zip(masks, fixed, strict=True)
        ]
        walls = []
        for number, touched in enumerate(fixed):
            values = {self._wall_corner(axis, end) for axis, end in touched}
            if len(values) > 1 and any(self.grid.periodic):
                raise ValueError(
                    f"VectorPotential got body {number} on both walls, where nothing can pass it; leave a way."
                )
            walls.append(list(values.pop()) if values else [0.0, 0.0])
        return {
            "inside": torch.stack(masks).double(),
            "weights": torch.stack(weights),
            "on_wall": torch.tensor([[1.0 if touched else 0.0] for touched in fixed]),
            "wall_at": torch.tensor(walls, dtype=torch.float64),
        }

    def _wall_corner(self, axis: int, end: int) -> tuple[float, float]:
        """Distance of a wall from the low corner of the box along the axis, as a vector."""
        at = [0.0, 0.0]
        at[axis] = end * self.grid.lengths[axis]
        return (at[0], at[1])

    def forward(self, u: Tensor, lead: Tensor | None = None) -> Tensor:
        u = at_least_single(u)
        grid, dimension = self.grid, self.grid.dimension
        if u.ndim != dimension + 2 or tuple(u.shape[2:]) != grid.shape or u.shape[1] <= max(self.channels):
            raise ValueError(
                f"VectorPotential got a state of shape {tuple(u.shape)}; expected (B, C, *points) with points "
                f"{grid.shape} and the velocity in channels {self.channels}."
            )
        z = self.statistics.normalised(u)
        found = self.f(z) if lead is None else self.f(z, lead)
        others = [c for c in range(u.shape[1]) if c not in self.channels]
        along = [axis for axis, periodic in enumerate(grid.periodic) if periodic]
        potentials = 1 if dimension == 2 else 3
        means = len(along) if self.mean_flow == "predicted" else 0
        if found.shape != (len(u), potentials + means + len(others), *grid.shape):
            raise ValueError(
                f"VectorPotential got an answer of shape {tuple(found.shape)} from its network; a state of {u.shape[1]} "
                f"channels needs out_channels: {potentials + means + len(others)}, which are {potentials} of the "
                f"potential, {means} of the mean flow and {len(others)} of the other quantities."
            )
        exact = found.to(u.dtype if self.method == "spectral" else torch.float64)
        potential, mean, rest = exact.split([potentials, means, len(others)], dim=1)
        scale = torch.ones((), dtype=exact.dtype, device=u.device)
        if self.statistics.known:
            std = self.statistics.std(exact)
            each = std.expand(u.shape[1], *[1] * dimension)
            scale = each[list(self.channels)].square().mean().sqrt()
            rest = rest * each[others]
        flow = exact.new_zeros(len(u), dimension)
        if self.mean_flow == "predicted":
            index = torch.tensor(along, device=u.device)
            flow = flow.index_copy(1, index, mean.flatten(2).mean(dim=2) * scale)
        elif self.mean_flow == "kept" and not self.residual:
            kept = u[:, list(self.channels)].to(exact.dtype).flatten(2).mean(dim=2)
            flow = kept * torch.tensor(grid.periodic, device=u.device)
        velocity = self.curl(potential * (scale * self.length), flow)
        if self.statistics.known and not self.residual:
            rest = rest + self.statistics.mean(exact).expand(u.shape[1], *[1] * dimension)[others]
        order = [*self.channels, *others]
        new = torch.cat([velocity, rest], dim=1)[:, torch.tensor(order, device=u.device).argsort()]
        return (new + u if self.residual else new).to(u.dtype)

    def curl(self, potential: Tensor, flow: Tensor | None = None) -> Tensor:
        """The velocity of a potential, (B, 1 or 3, *points) -> (B, D, *points) [potential / length].

        Args:
            potential: at the points; at low corners (2D) or low edges (3D) of a staggered grid.
            flow: mean flow (B, D), zero along axes between walls.
        """
        dimension = self.grid.dimension
        uniform = None if flow is None else flow.reshape(-1, dimension, *[1] * dimension)
        if self.calculus is not None:
            if dimension == 2:
                slope = [self.calculus.derivative(potential, axis) for axis in (0, 1)]
                velocity = torch.cat([slope[1], -slope[0]], dim=1)
            else:
                velocity = self.calculus.curl(potential)
            return velocity if uniform is None else velocity + uniform
        if dimension == 3:
            wide = [self._edges(potential[:, axis : axis + 1], axis) for axis in range(3)]
            parts = []
            for axis in range(3):
                b, c = (axis + 1) % 3, (axis + 2) % 3
                parts.append(
                    self._difference(wide[c], b, (axis, c)) - self._difference(wide[b], c, (axis, b))
                )
            velocity = torch.cat(parts, dim=1)
            return velocity if uniform is None else velocity + uniform
        psi = self._edges(potential, None)
        if self.bodies:
            psi = self._held(psi, flow)
        velocity = torch.cat([self._difference(psi, 1, (0,)), -self._difference(psi, 0, (1,))], dim=1)
        return velocity if uniform is None else velocity + uniform

    def _edges(self, values: Tensor, along: int | None) -> Tensor:
        """Values at low edges or corners with those beyond the last cells; zero on walls."""
        for axis, periodic in enumerate(self.grid.periodic):
            if axis == along:
                continue
            dim = axis + 2
            first = values.narrow(dim, 0, 1)
            if periodic:
                values = torch.cat([values, first], dim=dim)
            else:
                inner = values.narrow(dim, 1, values.shape[dim] - 1)
                values = torch.cat([torch.zeros_like(first), inner, torch.zeros_like(first)], dim=dim)
        return values

    def _difference(self, values: Tensor, axis: int, faces: tuple[int, ...]) -> Tensor:
        """Slope along an axis on the low faces of cells."""
        slope = values.diff(dim=axis + 2) / self.grid.spacing[axis]
        for other in faces:
            slope = slope.narrow(other + 2, 0, self.grid.shape[other])
        return slope

    def _held(self, psi: Tensor, flow: Tensor | None) -> Tensor:
        """psi with one value of the whole stream function on each body, (B, 1, *corners)."""
        inside, weights = self.constants.get("inside", psi), self.constants.get("weights", psi)
        uniform = torch.zeros_like(psi)
        walls = psi.new_zeros(len(psi), self.bodies)
        if flow is not None:
            # The mean flow has the stream function U y - V x, counted from the low corner of the box.
            x, y = (
                h * torch.arange(n + 1, dtype=psi.dtype, device=psi.device)
                for n, h in zip(self.grid.shape, self.grid.spacing, strict=True)
            )
            speed, rise = flow[:, :1].unsqueeze(-1), flow[:, 1:].unsqueeze(-1)
            uniform = (speed * y - rise * x.unsqueeze(1)).unsqueeze(1)
            at = self.constants.get("wall_at", psi)
            walls = flow[:, :1] * at[:, 1] - flow[:, 1:] * at[:, 0]
        total = psi + uniform
        of_body = torch.einsum("bxy,nxy->bn", total[:, 0], weights)
        of_body = of_body + walls * self.constants.get("on_wall", psi).flatten()
        held = torch.einsum("bn,nxy->bxy", of_body, inside).unsqueeze(1) - uniform
        return torch.where(inside.sum(dim=0) > 0, held, psi)


def _corners(cells: Tensor) -> Tensor:
    """Corners (N + 1, M + 1) of the cells of a body (N, M)."""
    wide = torch.zeros([n + 1 for n in cells.shape], dtype=torch.bool)
    for i in (0, 1):
        for j in (0, 1):
            wide[i : i + cells.shape[0], j : j + cells.shape[1]] |= cells
    return wide
