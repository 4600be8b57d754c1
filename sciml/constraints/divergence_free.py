"""Incompressible velocities on periodic grids and between walls without friction."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sciml.calculus import Trigonometric
from sciml.constraints.base import (
    Constraint,
    Context,
    at_least_single,
    checked_channels,
    replace_channels,
    select,
)
from sciml.domains import Grid
from sciml.trajectory import Field


class DivergenceFree(Constraint):
    """Remove the divergence of a velocity field in 2D or 3D in Fourier space (Leray projection).

        u^ = z^ - k (k . z^) / |k|^2

    The mean flow k = 0 is kept to the last bit. On an axis with an even number of points the Nyquist
    wavenumber has no real odd derivative: its factor is zero, in the projection and in the divergence
    alike; keeping it would leave a divergence of order one. Exact for this spectral divergence; a
    finite-difference divergence of the same field is small only where the field is resolved.

    Orthogonal and self-adjoint, so it never enlarges the difference of two states.

    Sides "wall" are mirrors, as in spectral solvers (`sciml.calculus.Trigonometric`): the velocity through them is odd
    about them and all else even, and the projection is that of the field so continued. Nodes on a wall get no velocity
    through it. Walls with friction, openings and bodies: `StaggeredDivergenceFree`.

    Args:
        grid: axes periodic or between walls; sizes even or odd, sides of any length.
        channels: the D channels that hold the velocity, in the order of the axes; left out, the state
            is the velocity.

    Raises:
        ValueError: the grid has other sides or one axis, or channels or points do not fit.
    """

    wavenumbers: Tensor
    direction: Tensor

    def __init__(self, grid: Grid, channels: Sequence[int] | None = None) -> None:
        super().__init__()
        if not isinstance(grid, Grid):
            raise TypeError(f"DivergenceFree got a {type(grid).__name__}; expected a Grid.")
        if grid.dimension < 2 or not {s for pair in grid.sides for s in pair} <= {"periodic", "wall"}:
            raise ValueError(
                f"DivergenceFree got a grid of {grid.dimension} axes with sides {grid.sides}; expected two "
                "or three axes, all periodic or between walls. For openings take StaggeredDivergenceFree."
            )
        self.grid = grid
        self.channels = checked_channels(channels, "DivergenceFree")
        if self.channels is not None and len(self.channels) != grid.dimension:
            raise ValueError(
                f"DivergenceFree got {len(self.channels)} channels {self.channels} on a grid of "
                f"{grid.dimension} axes; expected one per axis."
            )
        self._mirror: Trigonometric | None = None
        self._whole = grid
        if not all(grid.periodic):
            self._mirror = Trigonometric(grid, (Field("velocity", rank=1),))
            self._whole = self._mirror.doubled.grid
        lines = []
        for axis, (n, length) in enumerate(zip(self._whole.shape, self._whole.lengths, strict=True)):
            last = axis == grid.dimension - 1
            line = (torch.fft.rfftfreq if last else torch.fft.fftfreq)(n, d=1 / n, dtype=torch.float64)
            if n % 2 == 0:
                line[n // 2] = 0.0
            lines.append(line * (2 * math.pi / length))
        k = torch.stack(torch.meshgrid(*lines, indexing="ij"))
        square = k.square().sum(dim=0)
        self.register_buffer("wavenumbers", k, persistent=False)
        direction = torch.where(square > 0, k / square.clamp_min(torch.finfo(k.dtype).tiny), 0.0)
        self.register_buffer("direction", direction, persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> DivergenceFree:
        # Only the device follows the network; the wavenumbers stay in float64 and are rounded on use.
        wavenumbers, direction = self.wavenumbers, self.direction
        super()._apply(fn, recurse)
        self.wavenumbers = wavenumbers.to(self.wavenumbers.device)
        self.direction = direction.to(self.direction.device)
        return self

    def _velocity(self, u: Tensor) -> Tensor:
        velocity = at_least_single(select(u, self.channels, "DivergenceFree"))
        if velocity.shape[1] != self.grid.dimension or velocity.shape[2:] != self.grid.shape:
            raise ValueError(
                f"DivergenceFree got a velocity of shape {tuple(velocity.shape)}; expected "
                f"(B, {self.grid.dimension}, {', '.join(map(str, self.grid.shape))}). Name the velocity's "
                "channels if the state has others."
            )
        return velocity

    def _continued(self, velocity: Tensor) -> Tensor:
        """The velocity on the periodic box that mirrors make of the grid."""
        return velocity if self._mirror is None else self._mirror.extend(velocity)

    def _flux(self, velocity: Tensor) -> tuple[Tensor, tuple[int, ...]]:
        """k . z^ on the periodic box, (B, 1, *modes), and the axes of the transform."""
        axes = tuple(range(2, velocity.ndim))
        modes = torch.fft.rfftn(velocity, dim=axes)
        return (modes * self.wavenumbers.to(velocity.dtype)).sum(dim=1, keepdim=True), axes

    def divergence(self, u: Tensor) -> Tensor:
        """Spectral divergence of the velocity, (B, C, *points) -> (B, 1, *points) [velocity / length]."""
        flux, axes = self._flux(self._continued(self._velocity(u)))
        found = torch.fft.irfftn(1j * flux, s=self._whole.shape, dim=axes)
        for axis, n in enumerate(self.grid.shape):
            found = found.narrow(axis + 2, 0, n)
        return found

    def orthogonal(self) -> Tensor:
        return self.grid.weights(device=self.wavenumbers.device)

    @property
    def nonexpansive(self) -> bool:
        return True

    def project(self, u: Tensor, previous: Tensor | None = None, context: Context | None = None) -> Tensor:
        velocity = self._continued(self._velocity(u))
        flux, axes = self._flux(velocity)
        # The gradient part is subtracted from z itself, which leaves the other modes as they were.
        gradient = torch.fft.irfftn(flux * self.direction.to(velocity.dtype), s=self._whole.shape, dim=axes)
        flow = velocity - gradient
        flow = flow if self._mirror is None else self._mirror.restrict(flow)
        return replace_channels(at_least_single(u), self.channels, flow)

    def violation(
        self, u: Tensor, previous: Tensor | None = None, context: Context | None = None
    ) -> Tensor:
        """Root mean square of the divergence times the finest spacing, or the largest velocity through a node on a
        wall where that is more, (B,) [unit of u]."""
        net = self.divergence(u).flatten(1).square().mean(dim=1).sqrt() * min(self.grid.spacing)
        if self._mirror is None:
            return net
        velocity = self._velocity(u)
        through = velocity - self._mirror.restrict(self._mirror.extend(velocity))
        return torch.maximum(net, through.abs().flatten(1).amax(dim=1))
