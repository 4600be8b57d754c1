"""A step that knows no preferred frame."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sciml.calculus import Spectral
from sciml.constraints.base import at_least_single, checked_channels
from sciml.domains import Grid
from sciml.models.wrappers import Map


class Galilean(nn.Module):
    """The step of a network in the frame of the mean flow: F(u) = shift(f(u - U), U dt) + U.

    U is the mean velocity of the state, taken from the velocity channels before the network and added after it; all
    fields are moved by U dt along periodic axes, by Fourier interpolation. A state in a frame that moves with c gives
    the same answer in that frame, F(u + c) = shift(F(u), c dt) + c, to rounding and for any weights; at even numbers of
    points the highest wave, which has no direction, is not moved. Right for flows in periodic boxes without drag or
    walls that know a frame.

    In a study set residual: false and normalized: false, since U dt is a way in physical units; put Normalized into the
    network if it needs that.

    Args:
        f: map (B, C, *points) -> (B, C, *points) in physical units.
        grid: periodic.
        dt: time that one application advances, or one step of a lead [time].
        channels: the D channels of the velocity, the first ones where left out.

    Raises:
        ValueError: the grid is not periodic, dt is not positive, or channels or points do not fit.

    Wang, Walters and Yu, Incorporating symmetry into deep dynamics models (ICLR 2021), subtract means alone,
    patch by patch.
    """

    physical = True

    def __init__(self, f: Map, grid: Grid, dt: float, channels: Sequence[int] | None = None) -> None:
        super().__init__()
        if not isinstance(grid, Grid) or not all(grid.periodic):
            raise ValueError(f"Galilean got {grid!r}; expected a Grid that is periodic along all axes.")
        if not dt > 0:
            raise ValueError(f"Galilean got dt={dt}; expected a positive time.")
        self.f, self.grid, self.dt = f, grid, float(dt)
        self.channels = checked_channels(channels, "Galilean") or tuple(range(grid.dimension))
        if len(self.channels) != grid.dimension:
            raise ValueError(
                f"Galilean got channels {self.channels} on a grid of {grid.dimension} axes; expected one per axis."
            )
        self.calculus = Spectral(grid)

    def forward(self, u: Tensor, lead: Tensor | None = None) -> Tensor:
        u = at_least_single(u)
        if u.shape[2:] != self.grid.shape or u.shape[1] <= max(self.channels):
            raise ValueError(
                f"Galilean got a state of shape {tuple(u.shape)}; expected (B, C, *points) with points {self.grid.shape} "
                f"and the velocity in channels {self.channels}."
            )
        index = torch.tensor(self.channels, device=u.device)
        flow = u.to(torch.float64)[:, index].flatten(2).mean(dim=2)
        shaped = flow.reshape(*flow.shape, *[1] * self.grid.dimension)
        carried = u.new_zeros(len(u), u.shape[1], *[1] * self.grid.dimension)
        carried = carried.index_copy(1, index, shaped.to(u.dtype))
        v = u - carried
        new = self.f(v) if lead is None else self.f(v, lead)
        if new.shape != u.shape:
            raise ValueError(
                f"Galilean got an answer of shape {tuple(new.shape)} from its network; expected {tuple(u.shape)}."
            )
        path = flow * self.dt if lead is None else flow * self.dt * lead.to(flow).reshape(-1, 1)
        return self.shift(new.to(u.dtype), path) + carried

    def shift(self, u: Tensor, distance: Tensor) -> Tensor:
        """u(x - distance) by Fourier interpolation, (B, C, *points) with (B, D) -> (B, C, *points)."""
        phase = torch.zeros((), dtype=torch.float64, device=u.device)
        for axis, k in enumerate(self.calculus.wavenumbers):
            step = distance[:, axis].to(torch.float64).reshape(-1, *[1] * self.grid.dimension)
            phase = phase + k.to(u.device) * step
        turn = torch.polar(torch.ones_like(phase), -phase).to(u.dtype.to_complex()).unsqueeze(1)
        return self.calculus.to_points(self.calculus.to_modes(u) * turn)
