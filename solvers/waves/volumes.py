"""Acoustic waves by finite volumes, with the exact Riemann solution between two media."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor

from sciml.domains import Grid
from sciml.pdes.acoustics import Acoustics, AcousticScattering
from sciml.pdes.parameters import Parameter, fit
from sciml.solvers.finite_volume.reconstruction import Faces, godunov, muscl, weno5
from sciml.solvers.waves.layers import Layer, Sponge, check_layer, depth, open_axes, strength
from sciml.solvers.waves.staggered import check_field, check_grid, choose_substeps

Reconstruct = Literal["godunov", "muscl", "fromm", "upwind5", "weno5"]


def _fromm(w: Tensor, axis: int) -> Faces:
    """Linear in each cell with the central slope, unlimited: linear in the state, and not monotone."""
    inner = w.shape[axis] - 2
    slope = 0.25 * (w.narrow(axis, 2, inner) - w.narrow(axis, 0, inner))
    middle = w.narrow(axis, 1, inner)
    return (middle + slope).narrow(axis, 0, inner - 1), (middle - slope).narrow(axis, 1, inner - 1)


def _upwind5(w: Tensor, axis: int) -> Faces:
    """Of fifth order along an axis, unlimited: what WENO5 is on smooth data, at a fifth of its cost."""
    faces = w.shape[axis] - 5
    a, b, c, d, e, f = (w.narrow(axis, i, faces) for i in range(6))
    left = (2.0 * a - 13.0 * b + 47.0 * c + 27.0 * d - 3.0 * e) / 60.0
    right = (2.0 * f - 13.0 * e + 47.0 * d + 27.0 * c - 3.0 * b) / 60.0
    return left, right


# Face states, and how many ghost cells they read on each side.
_RECONSTRUCTIONS: dict[str, tuple[Callable[[Tensor, int], Faces], int]] = {
    "godunov": (godunov, 1),
    "muscl": (muscl, 2),
    "fromm": (_fromm, 2),
    "upwind5": (_upwind5, 3),
    "weno5": (weno5, 3),
}


def between(left: Faces, right: Faces) -> tuple[Tensor, Tensor]:
    """Pressure and normal velocity on the face between two media.

    p + Z_l v arrives from the left unchanged, p - Z_r v from the right. LeVeque (2002), equation 9.42.

    Args:
        left: pressure and normal velocity (2, stacked in dimension 1), and impedance, left of the face.
        right: the same on the right.
    """
    (wl, zl), (wr, zr) = left, right
    pl, ul, pr, ur = wl[:, :1], wl[:, 1:], wr[:, :1], wr[:, 1:]
    total = zl + zr
    pressure = (zr * pl + zl * pr + zl * zr * (ul - ur)) / total
    velocity = (zl * ul + zr * ur + pl - pr) / total
    return pressure, velocity


class AcousticVolumes:
    """Averages over cells of pressure, velocity and, for `AcousticScattering`, density. Use `acoustic`.

    Attributes:
        dt, domain, channels, method: as every Step.
        substeps: equal substeps of one call; None where the density in the state decides.
        last_substeps: how many the last call took.
        limit: the largest stable substep [time]; None where the state decides.
        layer: the `Sponge` at the sides "outflow", or None.
    """

    def __init__(
        self,
        pde: Acoustics | AcousticScattering,
        grid: Grid,
        dt: float,
        *,
        substeps: int | None,
        cfl: float,
        layer: Layer | None,
        reconstruction: Reconstruct,
    ) -> None:
        check_grid("acoustic", grid, dt, substeps, cfl)
        check_layer("acoustic", layer, grid)
        if reconstruction not in get_args(Reconstruct):
            raise ValueError(
                f"acoustic got reconstruction={reconstruction!r}; expected one of {list(get_args(Reconstruct))}."
            )
        if layer is not None and not isinstance(layer, Sponge):
            raise ValueError(
                f"acoustic got a {type(layer).__name__} for volumes, which know no memory. Use a Sponge, or "
                "scheme='staggered'."
            )
        self.pde, self.domain, self.dt, self.layer, self.cfl = pde, grid, float(dt), layer, cfl
        self.channels = pde.channels(grid.dimension)
        self._faces, self._ghosts = _RECONSTRUCTIONS[reconstruction]
        if min(grid.shape) < self._ghosts:
            raise ValueError(
                f"acoustic got a grid of {grid.shape} cells; {reconstruction} needs at least {self._ghosts} per axis."
            )
        self._inverse = sum(1.0 / h for h in grid.spacing)
        self.substeps, self.limit = substeps, None
        if isinstance(pde, Acoustics):
            u = torch.zeros([1] * (2 + grid.dimension), dtype=torch.float64)
            for value in (pde.density, pde.bulk_modulus):
                if isinstance(value, Tensor) and any(n != 1 for n in value.shape[2:]):
                    check_field("acoustic", value, grid)
            fastest = _sound(fit(pde.density, u), fit(pde.bulk_modulus, u)).detach().max()
            self.limit = 1.0 / (float(fastest) * self._inverse)
            self.substeps = choose_substeps("acoustic", dt, self.limit, substeps, cfl)
        self.last_substeps = self.substeps or 0
        end = (
            ""
            if not open_axes(grid)
            else ", outflow"
            if layer is None
            else f", Sponge of {layer.cells} cells"
        )
        self.method = f"finite volumes, {reconstruction} + exact acoustic Riemann + SSPRK3{end}"

    def __repr__(self) -> str:
        return f"AcousticVolumes({self.pde}, {self.domain.shape}, dt={self.dt}, {self.method})"

    def __call__(self, u: Tensor, /) -> Tensor:
        expected = (len(self.channels), *self.domain.shape)
        if tuple(u.shape[1:]) != expected:
            raise ValueError(
                f"acoustic got a state of shape {tuple(u.shape)}; expected (B, *{expected}) with channels "
                f"{self.channels}."
            )
        modulus = fit(self.pde.bulk_modulus, u)
        if isinstance(self.pde, Acoustics):
            waves, density, carried = u, fit(self.pde.density, u), []
        else:
            waves, density, carried = u[:, :-1], u[:, -1:], [u[:, -1:]]
        sound = _sound(density, modulus).to(dtype=u.dtype, device=u.device)
        count = self._count(sound)
        self.last_substeps = count
        h = self.dt / count
        impedance = torch.as_tensor(modulus, dtype=u.dtype, device=u.device) / sound
        decay = self._decay(sound, h, u)
        for _ in range(count):
            waves = waves if decay is None else waves * decay
            first = waves + h * self._rate(waves, density, modulus, impedance)
            second = 0.75 * waves + 0.25 * (first + h * self._rate(first, density, modulus, impedance))
            third = second + h * self._rate(second, density, modulus, impedance)
            waves = waves / 3.0 + 2.0 / 3.0 * third
            waves = waves if decay is None else waves * decay
        return torch.cat([waves, *carried], dim=1) if carried else waves

    def _count(self, sound: Tensor) -> int:
        """Substeps of this call."""
        if self.limit is not None:
            assert self.substeps is not None
            return self.substeps
        speeds = sound.detach()
        speeds = speeds[torch.isfinite(speeds)]  # media that make no sense spoil their own sample only
        fastest = float(speeds.max()) if speeds.numel() else 0.0
        limit = 1.0 / (fastest * self._inverse) if fastest > 0 else math.inf
        if self.substeps is None and self.dt / (self.cfl * limit) > 1e5:
            return 1  # a density next to nothing: what follows blows up, as it should
        return choose_substeps("acoustic", self.dt, limit, self.substeps, self.cfl)

    def _rate(self, w: Tensor, density: Parameter, modulus: Parameter, impedance: Tensor) -> Tensor:
        """d/dt of pressure and velocities, (B, 1 + D, *cells)."""
        squeeze: Tensor | None = None
        push = []
        for axis, h in enumerate(self.domain.spacing):
            dim = axis + 2
            pair = torch.cat([w[:, :1], w[:, 1 + axis : 2 + axis]], dim=1)
            wide = self._with_ghosts(pair, axis, self._ghosts, odd=True)
            left, right = self._faces(wide, dim)
            z = impedance
            if z.ndim > 2 and z.shape[dim] > 1:
                z = self._with_ghosts(z, axis, 1, odd=False)
                zl, zr = z.narrow(dim, 0, z.shape[dim] - 1), z.narrow(dim, 1, z.shape[dim] - 1)
            else:
                zl = zr = z
            pressure, velocity = between((left, zl), (right, zr))
            flow = modulus * velocity.diff(dim=dim) / h
            squeeze = flow if squeeze is None else squeeze + flow
            push.append(-pressure.diff(dim=dim) / (h * density))
        assert squeeze is not None
        return torch.cat([-squeeze, *push], dim=1)

    def _with_ghosts(self, w: Tensor, axis: int, width: int, *, odd: bool) -> Tensor:
        """(B, 2, *cells) with `width` cells more at both ends; the second channel is odd in walls."""
        dim, n = axis + 2, w.shape[axis + 2]
        low, high = self.domain.sides[axis]
        if low == "periodic":
            return torch.cat([w.narrow(dim, n - width, width), w, w.narrow(dim, 0, width)], dim=dim)
        ends = []
        for side, edge, start in ((low, 0, 0), (high, n - 1, n - width)):
            if side == "outflow":
                ends.append(w.narrow(dim, edge, 1).expand(*w.shape[:dim], width, *w.shape[dim + 1 :]))
            else:
                mirrored = w.narrow(dim, start, width).flip(dim)
                ends.append(torch.cat([mirrored[:, :1], -mirrored[:, 1:]], dim=1) if odd else mirrored)
        return torch.cat([ends[0], w, ends[1]], dim=dim)

    def _decay(self, sound: Tensor, h: float, u: Tensor) -> Tensor | None:
        """The sponge's factor over half a substep, (B or 1, 1, *cells)."""
        if self.layer is None:
            return None
        rate = u.new_zeros([1] * self.domain.dimension)
        for axis in open_axes(self.domain):
            ones = [1] * self.domain.dimension
            ones[axis] = -1
            into = (
                depth(self.layer, self.domain, axis, 0.5).reshape(ones).to(dtype=u.dtype, device=u.device)
            )
            rate = rate + strength(self.layer, self.domain, axis) * into**self.layer.order
        fastest = sound.detach()
        if fastest.ndim > 1:
            fastest = fastest.amax(dim=tuple(range(1, fastest.ndim)), keepdim=True)
        return torch.exp(-0.5 * h * fastest * rate)


def _sound(density: Parameter, modulus: Parameter) -> Tensor:
    ratio = modulus / density
    return (
        torch.sqrt(ratio)
        if isinstance(ratio, Tensor)
        else torch.tensor(math.sqrt(ratio), dtype=torch.float64)
    )
