"""A step that only moves amounts from cell to cell: conservation by construction on grids."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from sciml.calculus.constants import Constants
from sciml.constraints.base import at_least_single
from sciml.domains import Grid, side_name
from sciml.models.channel_statistics import ChannelStatistics
from sciml.models.wrappers import Map

Flux = float | Sequence[float] | Tensor | Callable[[Tensor], Tensor]
"""Of each channel a number (C,), a field on the side (C, *points of the other axes), or a function of the state."""

# Sides without a given flux: nothing passes a wall or a side of zero derivative; of others it would be a guess.
_CLOSED = ("wall", "neumann")


class FluxForm(nn.Module):
    """u minus what leaves each cell through its faces, for a network that gives one transport per face.

        u_i <- u_i - sum over axes d of (T_{i+1/2, d} - T_{i-1/2, d}) / w_{i, d}

    What leaves a cell enters its neighbour, so that the volume-weighted sum of each channel changes by what passes
    the sides of the grid and by nothing else, for any weights, and fronts get the speed that the balance asks for.
    The network f gives D C channels: channel c D + d at point i is T of channel c through the face between i and the
    point before it along axis d, in the unit of u, an amount per area over the spacing. On a bounded axis the two
    outer faces are data: `fluxes`, or zero at sides "wall" and "neumann"; what the network gives there is not used.
    w is one, and a half for nodes on a bounded side. Differences are taken in float64, and the state is rounded
    once: a rollout in float64 keeps its sums to rounding, in float32 to the rounding of the stored state, under
    autocast too; states in half precision come back in single precision.

    The network acts on (u - mean) / std and its answer is multiplied by std, so that `Normalized` and `Residual` are
    not needed around it: `residual: false` and `normalized: false` in a study.

    Args:
        f: map (B, C, *points) -> (B, D C, *points).
        domain: the grid.
        fluxes: by side ("x-" the low side of the first axis) the flux along the positive axis, what passes per area
            and time; a number per channel, a field on the side, or a function u -> (B, C, *points of the other
            axes) [unit of u * length / time].
        dt: time that one application advances, or one step of a lead, by which `fluxes` are multiplied [time].
        base: transports that the network corrects, such as those of a classical scheme: a map of u in physical units
            to (B, D C, *points) [unit of u].
        mean, std: statistics of the channels (C,), none or both [unit of u].

    Raises:
        TypeError: the domain is no grid.
        ValueError: a side is unknown or periodic, an open side has no flux, dt is not positive, values do not fit, or
            the network gives another number of channels.

    LeVeque, Finite Volume Methods for Hyperbolic Problems (2002), section 4.1, for the form.
    """

    physical = True

    def __init__(
        self,
        f: Map,
        domain: Grid,
        fluxes: Mapping[str, Flux] | None = None,
        dt: float = 1.0,
        base: Map | None = None,
        mean: Tensor | Sequence[float] | float | None = None,
        std: Tensor | Sequence[float] | float | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(domain, Grid):
            raise TypeError(
                f"FluxForm got a {type(domain).__name__}; expected a Grid. On a mesh take EdgeFluxes."
            )
        if not dt > 0:
            raise ValueError(f"FluxForm got dt={dt}; expected a positive time.")
        self.f, self.base = f, base
        self.domain, self.dt = domain, float(dt)
        names = {side_name(axis, end): (axis, end) for axis in range(domain.dimension) for end in (0, 1)}
        given = dict(fluxes or {})
        wrong = [side for side in given if side not in names or domain.periodic[names[side][0]]]
        if wrong:
            bounded = [side for side, (axis, _) in names.items() if not domain.periodic[axis]]
            raise ValueError(f"FluxForm got fluxes at {wrong}; expected bounded sides, out of {bounded}.")
        values: dict[str, Tensor] = {}
        self._functions: dict[tuple[int, int], Callable[[Tensor], Tensor]] = {}
        for side, (axis, end) in names.items():
            kind = domain.sides[axis][end]
            if kind != "periodic" and kind not in _CLOSED and side not in given:
                raise ValueError(
                    f"FluxForm got no flux at the side {side}, which is {kind!r}: what passes there is data. Give "
                    f"fluxes={{'{side}': ...}}, a number, a field or a function of the state."
                )
            flux = given.get(side)
            if callable(flux):
                self._functions[axis, end] = flux
            elif flux is not None:
                values[f"side{axis}{end}"] = _on_side(flux, domain, axis, side) * self.dt
        for axis, (n, periodic) in enumerate(zip(domain.shape, domain.periodic, strict=True)):
            width = torch.ones(n, dtype=torch.float64)
            if domain.centering == "node" and not periodic:
                width[0] = width[-1] = 0.5
            values[f"width{axis}"] = width.reshape(
                [-1 if a == axis else 1 for a in range(domain.dimension)]
            )
        self.statistics = ChannelStatistics("FluxForm", mean, std, domain.dimension)
        self._given = tuple(key for key in values if key.startswith("side"))
        self.constants = Constants(values)

    def transports(self, u: Tensor, lead: Tensor | None = None) -> tuple[Tensor, ...]:
        """T on all faces, along axis d (B, C, *points with N_d + 1), float64 [unit of u]."""
        grid, dimension = self.domain, self.domain.dimension
        if u.ndim != dimension + 2 or tuple(u.shape[2:]) != grid.shape:
            raise ValueError(
                f"FluxForm got a state of shape {tuple(u.shape)}; expected (B, C, *points) with points {grid.shape}."
            )
        z = self.statistics.normalised(u)
        found = self.f(z) if lead is None else self.f(z, lead)
        if found.shape != (len(u), u.shape[1] * dimension, *grid.shape):
            raise ValueError(
                f"FluxForm got transports of shape {tuple(found.shape)} from its network; a state of {u.shape[1]} "
                f"channels in {dimension} axes needs out_channels: {u.shape[1] * dimension}."
            )
        exact = found.to(torch.float64).unflatten(1, (u.shape[1], dimension))
        if self.statistics.known:
            exact = exact * self.statistics.std(exact).unsqueeze(1)
        if self.base is not None:
            exact = exact + self.base(u).to(torch.float64).unflatten(1, (u.shape[1], dimension))
        faces = []
        for axis in range(dimension):
            low, dim = exact[:, :, axis], axis + 2
            if grid.periodic[axis]:
                faces.append(torch.cat([low, low.narrow(dim, 0, 1)], dim=dim))
                continue
            inner = low.narrow(dim, 1, grid.shape[axis] - 1)
            ends = [self._side(u, axis, end, lead).expand_as(low.narrow(dim, 0, 1)) for end in (0, 1)]
            faces.append(torch.cat([ends[0], inner, ends[1]], dim=dim))
        return tuple(faces)

    def _side(self, u: Tensor, axis: int, end: int, lead: Tensor | None) -> Tensor:
        """T on one side, (B or 1, C or 1, *points, one along the axis)."""
        one = self._side_of_a_step(u, axis, end)
        return one if lead is None else one * lead.to(one).reshape(-1, *[1] * (u.ndim - 1))

    def _side_of_a_step(self, u: Tensor, axis: int, end: int) -> Tensor:
        spacing = self.domain.spacing[axis]
        if (axis, end) in self._functions:
            flux = self._functions[axis, end](u).to(torch.float64) * (self.dt / spacing)
            expected = (*u.shape[:2], *(n for a, n in enumerate(self.domain.shape) if a != axis))
            if flux.shape != expected:
                raise ValueError(
                    f"FluxForm got fluxes of shape {tuple(flux.shape)} from the function at "
                    f"{side_name(axis, end)}; expected {expected}."
                )
            return flux.unsqueeze(axis + 2)
        if f"side{axis}{end}" not in self._given:
            return torch.zeros((1,) * u.ndim, dtype=torch.float64, device=u.device)
        value = self.constants.get(f"side{axis}{end}", u.to(torch.float64)) / spacing
        if len(value) not in (1, u.shape[1]):
            raise ValueError(
                f"FluxForm got fluxes of {len(value)} channels at {side_name(axis, end)}; the state has {u.shape[1]}."
            )
        return value.unsqueeze(0)

    def gain(self, u: Tensor, lead: Tensor | None = None) -> Tensor:
        """What one application adds to the integral of each channel through the sides, (B, C, *points) -> (B, C).

        In float64 [unit of u * length^D]; divided by the volume of the grid it is the change of the means.
        """
        u = at_least_single(u)
        total = torch.zeros(u.shape[:2], dtype=torch.float64, device=u.device)
        for axis, spacing in enumerate(self.domain.spacing):
            if self.domain.periodic[axis]:
                continue
            area = torch.ones((), dtype=torch.float64, device=u.device)
            for other, h in enumerate(self.domain.spacing):
                if other != axis:
                    area = area * h * self.constants.get(f"width{other}", area)
            for end in (0, 1):
                passed = (self._side(u, axis, end, lead) * spacing * area).expand(
                    *u.shape[:2], *(1 if a == axis else n for a, n in enumerate(self.domain.shape))
                )
                total = total + (1 - 2 * end) * passed.flatten(2).sum(dim=2)
        return total

    def forward(self, u: Tensor, lead: Tensor | None = None) -> Tensor:
        u = at_least_single(u)
        new = u.to(torch.float64)
        for axis, faces in enumerate(self.transports(u, lead)):
            new = new - faces.diff(dim=axis + 2) / self.constants.get(f"width{axis}", faces)
        return new.to(u.dtype)


def _on_side(flux: float | Sequence[float] | Tensor, grid: Grid, axis: int, side: str) -> Tensor:
    """Given fluxes as (C or 1, *points, one along the axis), float64."""
    value = torch.as_tensor(cast("Tensor", flux), dtype=torch.float64).detach().clone()
    across = tuple(n for a, n in enumerate(grid.shape) if a != axis)
    if value.ndim < 2:
        value = value.reshape(-1, *[1] * len(across))
    if value.ndim != grid.dimension or (tuple(value.shape[1:]) not in (across, (1,) * len(across))):
        raise ValueError(
            f"FluxForm got fluxes of shape {tuple(value.shape)} at {side}; expected a number per channel, or "
            f"(C, {', '.join(map(str, across))})."
        )
    if not bool(torch.isfinite(value).all()):
        raise ValueError(f"FluxForm got fluxes at {side} that are not finite.")
    return value.unsqueeze(axis + 1)
