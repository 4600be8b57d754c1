"""What the recipes after Poseidon's data have in common: grids, solvers, vortices and curved partitions.

The sets were published with Herde et al., Poseidon: Efficient Foundation Models for PDEs (2024), whose supplement
describes their initial states. Each recipe says what it takes from there and what is its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.domains import Grid
from sciml.pdes import CompressibleEuler, NavierStokes
from sciml.step import Step

CITATION = "Poseidon, Herde et al. (2024), supplement B"

NODES = Grid((128, 128), (1.0, 1.0))
"""Of incompressible flow, which is solved in Fourier space."""

CELLS = Grid((128, 128), (1.0, 1.0), boundary="periodic", centering="cell")
"""Of compressible flow, which is solved by finite volumes."""

VISCOSITY = 4e-4
"""0.05/128, rounded as the supplement does. There it damps waves shorter than about a tenth of the box only, a device
of the scheme; here all of them, so that the data solve an equation, to which finer grids converge."""

MODES = 63
"""Longest wave vector per axis of a start: as many waves as 128 points can tell apart."""

GAMMA = 1.4

SUBCELLS = 4
"""Points per axis of a cell that averages are taken over."""


def uniform(generator: torch.Generator, low: float, high: float, *shape: int) -> Tensor:
    """Evenly distributed numbers of float64."""
    return low + (high - low) * torch.rand(*shape, generator=generator, dtype=torch.float64)


def whole(generator: torch.Generator, low: int, high: int) -> int:
    """A whole number from `low` to `high`, both possible."""
    return int(torch.randint(low, high + 1, (), generator=generator))


# Flow without divergence. A field on the unit box is given by its Fourier coefficients, those of
# exp(2 pi i (k x + m y)) with k = -M..M and m = 0..M in a tensor (..., 2 M + 1, M + 1); those of (-k, -m) are conjugate.


def wavenumbers(modes: int = MODES) -> tuple[Tensor, Tensor]:
    """k and m of such a tensor, (2 M + 1, 1) and (1, M + 1)."""
    return (
        torch.arange(-modes, modes + 1, dtype=torch.float64).unsqueeze(1),
        torch.arange(modes + 1, dtype=torch.float64).unsqueeze(0),
    )


def coefficients_of(samples: Tensor, modes: int = MODES) -> Tensor:
    """Fourier coefficients of values on the nodes of the unit box, (..., N, N) with N > 2 M."""
    table = torch.fft.rfft2(samples, norm="forward")
    return torch.cat([table[..., -modes:, :], table[..., : modes + 1, :]], dim=-2)[..., : modes + 1]


def on_points(coefficients: Tensor, domain: Grid) -> Tensor:
    """The field (..., *points) at the nodes of a periodic unit box, or its averages over cells.

    A grid that is too coarse for the waves leaves out those that it does not carry.
    """
    modes = coefficients.shape[-1] - 1
    rows, columns = domain.shape
    k, m = wavenumbers(modes)
    keep_k, keep_m = min(modes, (rows - 1) // 2), min(modes, (columns - 1) // 2)
    if domain.centering == "cell":
        shift = torch.polar(torch.ones_like(k + m), math.pi * (k / rows + m / columns))
        coefficients = coefficients * shift * (torch.sinc(k / rows) * torch.sinc(m / columns))
    inside = coefficients[..., modes - keep_k : modes + keep_k + 1, : keep_m + 1]
    table = coefficients.new_zeros(*coefficients.shape[:-2], rows, columns // 2 + 1)
    table[..., : keep_k + 1, : keep_m + 1] = inside[..., keep_k:, :]
    table[..., rows - keep_k :, : keep_m + 1] = inside[..., :keep_k, :]
    return torch.fft.irfft2(table, s=(rows, columns), norm="forward")


def flow_of(vorticity: Tensor) -> Tensor:
    """Coefficients of the velocity (2, ...) that has this vorticity v_x - u_y, no divergence and no mean."""
    k, m = wavenumbers(vorticity.shape[-1] - 1)
    square = k.square() + m.square()
    stream = vorticity / (2 * math.pi * torch.where(square > 0, square, math.inf))
    return torch.stack([1j * m * stream, -1j * k * stream])


def vorticity_of(velocity: Tensor) -> Tensor:
    """Coefficients of v_x - u_y of a velocity (2, ...)."""
    k, m = wavenumbers(velocity.shape[-1] - 1)
    return 2j * math.pi * (k * velocity[1] - m * velocity[0])


@dataclass(frozen=True)
class GaussianVortices:
    """Coefficients of a sum of round vortices, each repeated in all copies of the box.

    sum_i a_i/s_i exp(-|x - x_i|^2/(2 s_i^2)) with a_i even in (-1, 1), s_i in `widths`, x_i anywhere.
    """

    count: int = 100
    widths: tuple[float, float] = (0.01, 0.1)

    def __call__(self, generator: torch.Generator) -> Tensor:
        strength = uniform(generator, -1, 1, self.count)
        width = uniform(generator, *self.widths, self.count).unsqueeze(1)
        x, y = uniform(generator, 0, 1, 2, self.count, 1)
        k, m = (numbers.flatten() for numbers in wavenumbers())
        # The transform of a Gaussian, 2 pi s^2 exp(-2 (pi s)^2 |k|^2), is a product of one factor per axis.
        along, across = (
            torch.polar(torch.exp(-2 * (math.pi * width * n).square()), -2 * math.pi * n * place)
            for n, place in ((k, x), (m, y))
        )
        size = (2 * math.pi * strength * width.squeeze(1)).to(along.dtype)
        return torch.einsum("i,ia,ib->ab", size, along, across)


@dataclass(frozen=True)
class Patches:
    """Coefficients of a vorticity that is constant in each of `count` x `count` squares, even in (-1, 1) `strength`."""

    count: int = 10
    strength: float = 1.0

    def __call__(self, generator: torch.Generator) -> Tensor:
        values = uniform(generator, -self.strength, self.strength, self.count, self.count)
        middles = (torch.arange(self.count, dtype=torch.float64).unsqueeze(1) + 0.5) / self.count

        def squares(numbers: Tensor) -> Tensor:
            n = numbers.reshape(1, -1)
            return torch.polar(torch.sinc(n / self.count) / self.count, -2 * math.pi * n * middles)

        k, m = wavenumbers()
        return torch.einsum("ij,ia,jb->ab", values.to(torch.complex128), squares(k), squares(m))


@dataclass(frozen=True)
class Vortices:
    """The flow (2, *points) of a random vorticity, less its mean; the same on all grids, but for waves too short."""

    vorticity: Callable[[torch.Generator], Tensor]

    def __call__(self, domain: Grid, channels: int, generator: torch.Generator) -> Tensor:
        return on_points(flow_of(self.vorticity(generator)), domain)


@dataclass(frozen=True)
class Spectral:
    """Exponential steps in Fourier space, as short as the greatest speed of the family asks for."""

    max_speed: float

    def __call__(self, pde: NavierStokes, domain: Grid, dt: float, substeps: int | None) -> Step:
        from sciml.solvers import build

        return build(pde, domain, dt, max_speed=self.max_speed, substeps=substeps)


# Gases, as averages over cells.


def averages(primitive: Callable[[Tensor], Tensor], domain: Grid, gamma: float = GAMMA) -> Tensor:
    """Cell averages (4, *cells) of the conserved variables of a gas.

    Args:
        primitive: density, velocity and pressure (4, *points) at points (2, *points).
        domain: cells.
        gamma: ratio of specific heats.
    """
    state = primitive(domain.refined(SUBCELLS).coordinates())
    conserved = CompressibleEuler(gamma).conservative(state.unsqueeze(0))
    return torch.nn.functional.avg_pool2d(conserved, SUBCELLS)[0]


@dataclass(frozen=True)
class Partition:
    """A gas that is uniform in each of 2 x 2 parts of a periodic unit box, (4, *cells).

    A point (x, y) belongs to the part of ({x + s(x, y)}, {y + t(x, y)}), {} being what remains of whole numbers, in
    halves of the box. s and t are sums over i, j = 1..2 of a_ij sin(2 pi ((i + shift) x + (j + shift) y + b_ij)), a_ij
    even in (-1, 1) `bend`, b_ij in (0, 1).

    Args:
        density, speed, pressure: ranges of each part's state, in which each velocity component is drawn on its own.
        bend: largest amplitude of a wave of the borders; 0 for straight ones.
        shift: added to the wavenumbers.
    """

    density: tuple[float, float] = (0.1, 1.0)
    speed: tuple[float, float] = (-1.0, 1.0)
    pressure: tuple[float, float] = (0.1, 1.0)
    bend: float = 0.0
    shift: int = 0
    parts: int = 2

    def __call__(self, domain: Grid, channels: int, generator: torch.Generator) -> Tensor:
        n = self.parts
        ranges = (self.density, self.speed, self.speed, self.pressure)
        states = torch.stack([uniform(generator, low, high, n, n) for low, high in ranges])
        bends = uniform(generator, -self.bend, self.bend, 2, n, n)
        phases = uniform(generator, 0, 1, 2, n, n)

        def primitive(x: Tensor) -> Tensor:
            places = x.clone()
            for axis in range(2) if self.bend else ():
                for i in range(n):
                    for j in range(n):
                        turns = (
                            (i + 1 + self.shift) * x[0] + (j + 1 + self.shift) * x[1] + phases[axis, i, j]
                        )
                        places[axis] += bends[axis, i, j] * torch.sin(2 * math.pi * turns)
            part = (places.remainder(1.0) * n).long().clamp(max=n - 1)
            return states[:, part[0], part[1]]

        return averages(primitive, domain)


def volumes(pde: CompressibleEuler, domain: Grid, dt: float, substeps: int | None) -> Step:
    """Second-order finite volumes, HLLC fluxes, swept along the axes in turns."""
    from sciml.solvers.finite_volume import finite_volume

    return finite_volume(pde, domain, dt, substeps=substeps)
