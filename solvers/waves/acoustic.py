"""Acoustic waves on cells, staggered or by finite volumes."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from sciml.domains import Grid
from sciml.pdes.acoustics import Acoustics, AcousticScattering
from sciml.pdes.parameters import Parameter, fit
from sciml.solvers.waves.layers import PML, Layer
from sciml.solvers.waves.staggered import Leapfrog, Medium, Term, previous
from sciml.solvers.waves.volumes import AcousticVolumes, Reconstruct

Scheme = Literal["staggered", "volumes"]


class AcousticLeapfrog(Leapfrog):
    """Pressure at the centres of the cells, each velocity on the low face along its axis. Use `acoustic`."""

    name = "acoustic"

    def __init__(
        self,
        pde: Acoustics,
        grid: Grid,
        dt: float,
        *,
        substeps: int | None,
        cfl: float,
        layer: Layer | None,
    ) -> None:
        dimension = grid.dimension
        centre = (0.5,) * dimension
        faces = [tuple(0.0 if a == axis else 0.5 for a in range(dimension)) for axis in range(dimension)]
        terms = [Term(0, 1 + axis, axis, -1.0) for axis in range(dimension)]
        terms += [Term(1 + axis, 0, axis, -1.0) for axis in range(dimension)]
        self.medium = pde
        super().__init__(
            pde,
            grid,
            dt,
            offsets=[centre, *faces],
            first=1,
            terms=terms,
            substeps=substeps,
            cfl=cfl,
            layer=layer,
            method="leapfrog on staggered cells" + described(layer, grid),
        )

    def _coefficients(self, u: Tensor) -> list[Parameter]:
        modulus = self._at(self.medium.bulk_modulus, 0, u, "arithmetic")
        # The momentum between two centres is that of half of either cell: the mean density.
        density = [self._at(self.medium.density, 1 + a, u, "arithmetic") for a in range(u.ndim - 2)]
        return [modulus, *[1.0 / rho for rho in density]]

    def _loss(self, u: Tensor) -> list[Parameter | None]:
        """An open end takes v = p/Z at the centre of the last cell, of which a half belongs to the grid.

        With the value beyond from v = (v_in + v_beyond)/2 the squeeze -K (v_beyond - v_in)/dx is that of
        v_beyond = -v_in, and the damping 2 c/dx.
        """
        loss: Tensor | None = None
        for axis in range(self.domain.dimension):
            for end, kind in enumerate(self._ends(axis)):
                if kind != "open":
                    continue
                edge = u.new_zeros(self.domain.shape)
                edge.select(axis, -end).fill_(2.0 / self.domain.spacing[axis])
                loss = edge if loss is None else loss + edge
        if loss is None:
            return [None]
        return [loss * self._sound(u)]

    def _sound(self, u: Tensor) -> Parameter:
        ratio = fit(self.medium.bulk_modulus, u) / fit(self.medium.density, u)
        return torch.sqrt(ratio) if isinstance(ratio, Tensor) else math.sqrt(ratio)

    def _speed(self, u: Tensor) -> Parameter:
        return largest_of_each(self._sound(u))

    def _ends(self, axis: int) -> tuple[str, str]:
        if self.domain.periodic[axis]:
            return ("periodic", "periodic")
        matched = isinstance(self.layer, PML)
        low, high = (
            "open" if s == "outflow" and not matched else "closed" for s in self.domain.sides[axis]
        )
        return (low, high)

    def _finish(self, fields: list[Tensor], medium: Medium) -> None:
        for axis in range(self.domain.dimension):
            if self._ends(axis)[0] != "open":
                continue
            v, dim = fields[1 + axis], axis + 1
            u = v.unsqueeze(1)
            product = fit(self.medium.bulk_modulus, u) * fit(self.medium.density, u)
            impedance = torch.sqrt(torch.as_tensor(product, dtype=u.dtype, device=u.device))
            impedance = impedance.squeeze(1) if impedance.ndim else impedance
            if impedance.ndim and impedance.shape[dim] > 1:
                impedance = impedance.narrow(dim, 0, 1)
            beyond = -2.0 * fields[0].narrow(dim, 0, 1) / impedance - v.narrow(dim, 1, 1)
            fields[1 + axis] = torch.cat([beyond, v.narrow(dim, 1, v.shape[dim] - 1)], dim=dim)

    def _largest_square(self) -> float:
        """Gershgorin's bound for -K div (1/rho) grad, exact in a uniform medium: 4 c^2 sum_d 1/dx_d^2."""
        u = torch.zeros([1] * (2 + self.domain.dimension), dtype=torch.float64)
        modulus, *inverse = (
            v.detach() if isinstance(v, Tensor) else torch.tensor(v, dtype=torch.float64)
            for v in self._coefficients(u)
        )
        total = torch.zeros((), dtype=torch.float64)
        for axis, (light, h) in enumerate(zip(inverse, self.domain.spacing, strict=True)):
            low = high = light
            if light.ndim and light.shape[axis + 2] > 1:
                dim, n = axis + 2, light.shape[axis + 2]
                if self.domain.periodic[axis]:
                    high = light.roll(-1, dim)
                else:
                    low = torch.cat([light.narrow(dim, 1, 1), light.narrow(dim, 1, n - 1)], dim=dim)
                    high = previous(light.flip(dim), dim, False).flip(dim)
            total = total + 2.0 * (low + high) / h**2
        return float((modulus * total).max())


def largest_of_each(speed: Parameter) -> Parameter:
    """The largest value of each sample, a number or (B or 1, 1, 1...)."""
    if not isinstance(speed, Tensor) or speed.ndim < 2:
        return speed
    return speed.detach().amax(dim=tuple(range(1, speed.ndim)), keepdim=True)


def described(layer: Layer | None, grid: Grid) -> str:
    """How open sides are treated, in words to append."""
    if not any("outflow" in pair for pair in grid.sides):
        return ""
    if layer is None:
        return ", characteristic outflow"
    return f", {type(layer).__name__} of {layer.cells} cells"


def acoustic(
    pde: Acoustics | AcousticScattering,
    grid: Grid,
    dt: float,
    *,
    scheme: Scheme = "staggered",
    layer: Layer | None = None,
    substeps: int | None = None,
    cfl: float | None = None,
    reconstruction: Reconstruct = "muscl",
) -> AcousticLeapfrog | AcousticVolumes:
    """A Step for acoustic waves in a medium that varies from place to place, in 1D to 3D.

    "staggered": leapfrog with the pressure at the centres of the cells and each velocity on the low face
    along its axis (`.to_centres`, `.from_centres`, `.sample`). Second order, without dissipation: a modified
    energy (`.energy`) is kept to rounding between walls and on periodic boxes, waves disperse. Takes density
    as the mean of two cells on their face. The choice for smooth waves, long times and inverse problems.

    "volumes": averages of all fields over cells, the exact Riemann solution at each face, with its jump of
    impedance, and SSPRK3. Second order on smooth waves in 2D and 3D. "fromm" and "upwind5" are without limiters
    and linear in the state; "upwind5" carries waves over distances with the least error. The integral of p/K is
    kept to rounding between walls, that of rho v on periodic boxes, and energy is lost where waves are short.
    The choice for discontinuous waves and for states that hold averages.
    LeVeque, Finite Volume Methods for Hyperbolic Problems (2002), section 9.9.

    Sides: "periodic"; "wall", rigid; "outflow", where waves leave. Without a layer an outflow is
    characteristic: staggered, nothing enters (p = Z v at the centre of the last cell, where the grid then ends);
    volumes, zero gradient. Waves at a right angle leave whole, others return in part,
    (1 - cos a)/(1 + cos a) at the angle a to the normal: 3 % at 20 degrees, 25 % at 53. Of a pulse that meets
    the sides at up to 45 degrees 8 % of what arrives returns, from a `PML` of 10 cells 5e-5, of 20 cells 4e-6.
    A `Sponge` of 20 cells returns 2e-6 of short waves at a right angle, and as much as no layer of pulses that
    are shorter than a wave and come at a slant.

    Args:
        pde: the medium; with `AcousticScattering`, whose states carry their density, volumes only.
        grid: cells.
        dt: time of one Step [time].
        scheme: see above.
        layer: `PML` (staggered) or `Sponge` (both) at all sides "outflow", inside the grid.
        substeps: equal substeps of a Step; None takes as many as `cfl` times the stable limit asks for.
        cfl: part of the stable limit, 0.9 for staggered steps, whose dispersion falls towards 1, and 0.5
            for volumes.
        reconstruction: of volumes: "godunov", "muscl", "fromm", "upwind5", "weno5".

    Raises:
        ValueError: the grid, the layer or a number does not fit, or the substeps asked for are longer than
            the limit; the message names it.
    """
    if scheme not in get_args(Scheme):
        raise ValueError(f"acoustic got scheme={scheme!r}; expected one of {list(get_args(Scheme))}.")
    if not isinstance(pde, (Acoustics, AcousticScattering)):
        raise ValueError(f"acoustic got {type(pde).__name__}; expected Acoustics or AcousticScattering.")
    if scheme == "volumes":
        return AcousticVolumes(
            pde,
            grid,
            dt,
            substeps=substeps,
            cfl=0.5 if cfl is None else cfl,
            layer=layer,
            reconstruction=reconstruction,
        )
    if not isinstance(pde, Acoustics):
        raise ValueError(
            "acoustic got AcousticScattering for staggered cells, where densities lie on faces. Use "
            "scheme='volumes', or Acoustics(density=...)."
        )
    return AcousticLeapfrog(pde, grid, dt, substeps=substeps, cfl=0.9 if cfl is None else cfl, layer=layer)
