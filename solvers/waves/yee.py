"""Maxwell's equations on Yee's staggered cells."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sciml.domains import Grid
from sciml.pdes.maxwell import MaxwellEquations, curl_terms
from sciml.pdes.parameters import Parameter, fit, smallest
from sciml.solvers.waves.acoustic import described, largest_of_each
from sciml.solvers.waves.layers import Layer, open_axes
from sciml.solvers.waves.staggered import Leapfrog, Term


class Yee(Leapfrog):
    """Electric field on the edges and magnetic field on the faces of the cells. Use `yee`.

    In cells from the low corner, E_a lies at 1/2 along a and at 0 along the other axes, H_a at 0 along a and
    at 1/2 along the others (`.offsets`).
    """

    name = "yee"

    def __init__(
        self,
        pde: MaxwellEquations,
        grid: Grid,
        dt: float,
        *,
        substeps: int | None,
        cfl: float,
        layer: Layer | None,
    ) -> None:
        if open_axes(grid) and layer is None:
            raise ValueError(
                f"yee got sides 'outflow' in {grid.sides} without a layer to absorb what leaves. Give layer=PML() or "
                "Sponge(), or take 'wall' (a perfect conductor)."
            )
        self.medium, dimension, first = pde, grid.dimension, len(pde.electric)
        offsets = [tuple(0.5 if a == e else 0.0 for a in range(dimension)) for e in pde.electric]
        offsets += [tuple(0.0 if a == m else 0.5 for a in range(dimension)) for m in pde.magnetic]
        terms = [
            Term(i, first + j, axis, sign)
            for i, j, axis, sign in curl_terms(pde.electric, pde.magnetic, dimension)
        ]
        terms += [
            Term(first + i, j, axis, -sign)
            for i, j, axis, sign in curl_terms(pde.magnetic, pde.electric, dimension)
        ]
        super().__init__(
            pde,
            grid,
            dt,
            offsets=offsets,
            first=first,
            terms=terms,
            substeps=substeps,
            cfl=cfl,
            layer=layer,
            method="Yee's leapfrog on staggered cells" + described(layer, grid),
        )

    def _permittivity(self, u: Tensor) -> list[Parameter]:
        # Along an edge E is continuous and the four cells that meet there add up: the mean.
        return [self._at(self.medium.permittivity, e, u, "arithmetic") for e in range(self._first)]

    def _permeability(self, u: Tensor) -> list[Parameter]:
        # Through a face mu H is continuous, and H is mu H times the mean of 1/mu.
        return [
            self._at(self.medium.permeability, c, u, "harmonic")
            for c in range(self._first, len(self.offsets))
        ]

    def _coefficients(self, u: Tensor) -> list[Parameter]:
        return [1.0 / v for v in (*self._permittivity(u), *self._permeability(u))]

    def _loss(self, u: Tensor) -> list[Parameter | None]:
        if not isinstance(self.medium.conductivity, Tensor) and self.medium.conductivity == 0.0:
            return [None] * self._first
        sigma = [self._at(self.medium.conductivity, e, u, "arithmetic") for e in range(self._first)]
        return [s / eps for s, eps in zip(sigma, self._permittivity(u), strict=True)]

    def _speed(self, u: Tensor) -> Parameter:
        product = fit(self.medium.permittivity, u) * fit(self.medium.permeability, u)
        speed = torch.rsqrt(product) if isinstance(product, Tensor) else 1.0 / math.sqrt(product)
        return largest_of_each(speed)

    def _largest_square(self) -> float:
        """4 sum_d 1/dx_d^2 over the smallest eps times the smallest mu, exact in a uniform medium."""
        square = 4.0 * sum(1.0 / h**2 for h in self.domain.spacing)
        return square / (smallest(self.medium.permittivity) * smallest(self.medium.permeability))

    def magnetic_charge(self, u: Tensor) -> Tensor:
        """div(mu H) at the centres of the cells, (B, *cells); none in `MaxwellTE`.

        No step without layers changes it, to rounding: div curl is zero term by term. On a high wall the
        stored flux through the face is that of the wall, none.
        """
        return self._charge(u, self._first, self.medium.magnetic, self._permeability(u))

    def electric_charge(self, u: Tensor) -> Tensor:
        """div(eps E) at the corners of the cells, (B, *cells); none in `MaxwellTM`, kept where nothing conducts.

        On corners of low walls it is left at zero: what is there is the charge of the conductor.
        """
        return self._charge(u, 0, self.medium.electric, self._permittivity(u))

    def _charge(
        self, u: Tensor, start: int, components: tuple[int, ...], weights: list[Parameter]
    ) -> Tensor:
        self._check(u, self.channels)
        total = torch.zeros_like(u[:, 0])
        for i, component in enumerate(components):
            if component >= self.domain.dimension:
                continue
            weight = weights[i]
            flux = u[:, start + i] * (
                weight.squeeze(1) if isinstance(weight, Tensor) and weight.ndim else weight
            )
            total = total + self._difference(flux, Term(0, start + i, component, 1.0))
        if start == 0:
            for axis in range(self.domain.dimension):
                if not self.domain.periodic[axis]:
                    total.select(axis + 1, 0).zero_()
        return total


def yee(
    pde: MaxwellEquations,
    grid: Grid,
    dt: float,
    *,
    layer: Layer | None = None,
    substeps: int | None = None,
    cfl: float = 0.9,
) -> Yee:
    """A Step for Maxwell's equations on Yee's cells, in 3D (`Maxwell`) and in the plane (`MaxwellTM`, `MaxwellTE`).

    States are (B, 6, *cells), E then H, in the plane (B, 3, *cells); every channel at its own position of the
    cell (see `Yee`): make states with `.sample` or `.from_centres`, look at them with `.to_centres`. Second
    order in space and time. div(mu H), and div(eps E) without conductivity, stay what they are to rounding; a
    modified energy (`.energy`) is kept to rounding between perfect conductors and on periodic boxes. A
    conductivity acts at the mean of both times of a substep: stable and second order at any strength.
    Permittivity and conductivity are means of the cells around an edge, permeability the harmonic mean across
    a face; at jumps of the medium the scheme is of first order in places.
    Yee, IEEE Transactions on Antennas and Propagation 14 (1966) 302; Taflove and Hagness (2005), chapter 3.

    Sides: "periodic"; "wall", a perfect conductor; "outflow", which needs a layer inside the grid.

    Args:
        pde: the medium.
        grid: cells.
        dt: time of one Step [time].
        layer: `PML` or `Sponge` at all sides "outflow". A `PML` has memory channels behind the fields:
            start from `.start(fields)`.
        substeps: equal substeps of a Step; None takes as many as `cfl` times the stable limit asks for,
            1/(c (sum_d 1/dx_d^2)^(1/2)) in a uniform medium.
        cfl: part of the stable limit.

    Raises:
        ValueError: the grid, the layer or a number does not fit, or the substeps asked for are longer than
            the limit; the message names it.
    """
    if not isinstance(pde, MaxwellEquations):
        raise ValueError(f"yee got {type(pde).__name__}; expected Maxwell, MaxwellTM or MaxwellTE.")
    if grid.dimension not in pde.dimensions:
        raise ValueError(
            f"yee got a grid of {grid.dimension} axes; {type(pde).__name__} lives in {pde.dimensions}."
        )
    return Yee(pde, grid, dt, substeps=substeps, cfl=cfl, layer=layer)
