"""Compressible Navier-Stokes in 2D: random fields of density, velocity and pressure at Mach 0.1 or 1, periodic.

PDEBench's random sets at eta = zeta = 0.01, at a quarter of their cells: there 128^2 cells, 21 frames, 10,000 samples of
each Mach number. `compressible_2d_inviscid` has eta = zeta = 1e-8, `compressible_2d_turbulence` starts from
turbulence, and `compressible_3d` lives in 3D.

The Mach number is that of the start, rms speed over mean speed of sound, and stored with every sample. Mean densities
begin at 1 instead of 0.1, where a constant viscosity of 0.01 is that of syrup; the original's lets the viscosity follow
the density. Its windows, which silence parts of half of the samples, are left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.datasets.distributions import Choice, Constant
from sciml.datasets.recipe import Recipe
from sciml.datasets.recipes.compressible_1d import GAMMA, volumes
from sciml.datasets.recipes.compressible_1d import gas as any_gas
from sciml.domains import Grid
from sciml.pdes import CompressibleEuler, CompressibleNavierStokes
from sciml.pdes.parameters import Parameter


def gas(eta: Parameter, zeta: Parameter, mach: Parameter) -> CompressibleNavierStokes:
    """A monatomic gas of shear and bulk viscosity eta and zeta; only its start knows the Mach number."""
    return any_gas(eta, zeta)


def random_waves(
    domain: Grid,
    channels: int,
    generator: torch.Generator,
    modes: int,
    decay: float,
    solenoidal: bool = False,
) -> Tensor:
    """Periodic random fields of zero mean and a mean square of one per channel, (C, *points).

    Sums of waves with |k_d| <= modes, normal amplitudes that fall like |k|^-decay and any phase. `solenoidal` ones are
    velocities across their wave vectors, C = D, without divergence, whose mean squares add up to C.
    """
    dimension = domain.dimension
    k = torch.cartesian_prod(*[torch.arange(-modes, modes + 1, dtype=torch.float64)] * dimension)
    # One of each pair k, -k: that whose first component other than zero is positive.
    k = k[(k @ (2.0 * modes + 1) ** torch.arange(dimension - 1, -1, -1, dtype=torch.float64)) > 0]
    size = torch.randn(len(k), channels, generator=generator, dtype=torch.float64)
    phase = 2 * math.pi * torch.rand(len(k), channels, generator=generator, dtype=torch.float64)
    size = size * k.norm(dim=1, keepdim=True) ** -decay
    if solenoidal:
        size = size - k * (size * k).sum(dim=1, keepdim=True) / k.square().sum(dim=1, keepdim=True)
        # One phase for all components: a wave is across its wave vector at any point.
        phase = phase[:, :1].expand(-1, channels)
        size = size * math.sqrt(2 * channels) / size.norm()
    else:
        size = size * math.sqrt(2) / size.norm(dim=0)
    coefficients = size * torch.polar(torch.ones_like(phase), phase)
    table = coefficients.new_zeros(*[2 * modes + 1] * dimension, channels)
    table[tuple((k + modes).long().T)] = coefficients
    numbers = torch.arange(-modes, modes + 1, dtype=torch.float64)
    for x, low, length in zip(domain.axes(), domain.origin, domain.lengths, strict=True):  # type: ignore[arg-type]
        turns = torch.exp(2j * math.pi * numbers[:, None] * ((x - low) / length))
        # The first axis of wavenumbers becomes the last of points.
        table = torch.tensordot(table, turns, dims=([0], [0]))
    return table.real.contiguous()


@dataclass(frozen=True)
class RandomFlow:
    """Random density, velocity and pressure, as conserved variables (D + 2, *points) of an ideal gas.

    Waves of amplitude |k|^(-1/2), in the logarithm of density and pressure; the rms speed is the parameter `mach` of
    the sample times the mean speed of sound.

    Args:
        density: range of the mean [kg/m^3].
        temperature: range of mean pressure over mean density [m^2/s^2].
        swing: range of the rms of the logarithms of density and pressure.
        modes: largest number of waves per side.
    """

    density: tuple[float, float] = (1.0, 10.0)
    temperature: tuple[float, float] = (0.1, 10.0)
    swing: tuple[float, float] = (0.01, 0.2)
    modes: int = 4

    def __call__(
        self, domain: Grid, channels: int, generator: torch.Generator, parameters: Mapping[str, float]
    ) -> Tensor:
        ranges = (self.density, self.temperature, self.swing, self.swing)
        draws = torch.rand(4, generator=generator, dtype=torch.float64).tolist()
        density, temperature, *swings = (a + (b - a) * t for (a, b), t in zip(ranges, draws, strict=True))
        state = random_waves(domain, channels, generator, self.modes, decay=0.5)
        sound, dimension = math.sqrt(GAMMA * temperature), channels - 2
        state[0] = density * torch.exp(swings[0] * state[0])
        state[-1] = density * temperature * torch.exp(swings[1] * state[-1])
        state[1:-1] *= parameters["mach"] * sound / math.sqrt(dimension)
        return CompressibleEuler(GAMMA).conservative(state.unsqueeze(0))[0]


@dataclass(frozen=True)
class Turbulence:
    """Even density 1 and pressure 1/(mach^2 gamma) under random flow without divergence of rms speed 1.

    As conserved variables (D + 2, *points); `mach` is the sample's parameter.

    Args:
        modes: largest number of waves per side.
        decay: of amplitudes with the wavenumber.
    """

    modes: int = 4
    decay: float = 1.5

    def __call__(
        self, domain: Grid, channels: int, generator: torch.Generator, parameters: Mapping[str, float]
    ) -> Tensor:
        dimension = channels - 2
        flow = random_waves(domain, dimension, generator, self.modes, self.decay, solenoidal=True)
        ones = torch.ones(1, *domain.shape, dtype=torch.float64)
        pressure = ones / (parameters["mach"] ** 2 * GAMMA)
        state = torch.cat([ones, flow / math.sqrt(dimension), pressure])
        return CompressibleEuler(GAMMA).conservative(state.unsqueeze(0))[0]


RECIPE = Recipe(
    name="compressible_2d",
    title="2D compressible Navier-Stokes, random fields of a viscous gas (PDEBench: 128^2 cells)",
    citation="PDEBench, Takamoto et al. (2022), appendix D.5, random fields at eta = zeta = 0.01 and Mach 0.1 and 1.",
    pde=gas,
    parameters={"eta": Constant(0.01), "zeta": Constant(0.01), "mach": Choice((0.1, 1.0))},
    domain=Grid((64, 64), (1.0, 1.0), boundary="periodic", centering="cell"),
    initial=RandomFlow(),
    solver=volumes,
    dt=0.05,
    steps=20,
    samples={"train": 32, "valid": 8, "test": 8},
    shard_size=8,
)
