"""Compressible Navier-Stokes in 1D: random waves of a viscous gas that steepen, on a periodic line.

The random periodic set of PDEBench at a quarter of its cells: there 1024 cells, 101 frames, 10,000 samples for each of
eta = zeta = 1e-8, 0.01 and 0.1. `compressible_1d_outflow` and `compressible_1d_shock` are the other two families.

Friction is as in its text, eta lap(v) + (zeta + eta/3) grad div v with constant eta and no conduction of heat; its
generator multiplies eta and zeta by the density.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.datasets.distributions import Constant
from sciml.datasets.recipe import Recipe
from sciml.domains import Grid
from sciml.fields import RandomFourier
from sciml.pdes import CompressibleNavierStokes
from sciml.pdes.parameters import Parameter
from sciml.step import Step

GAMMA = 5 / 3


def gas(eta: Parameter, zeta: Parameter) -> CompressibleNavierStokes:
    """A monatomic gas of shear and bulk viscosity eta and zeta that conducts no heat."""
    return CompressibleNavierStokes(GAMMA, viscosity=eta, bulk_viscosity=zeta, conductivity=0.0)


@dataclass(frozen=True)
class RandomWaves:
    """Random Fourier waves in density, velocity and pressure of a gas, as conserved variables (D + 2, *points).

    Density and pressure have a mean even in the logarithm between their ends and swing by up to `swing` of it; no
    velocity component exceeds `speed`.

    Args:
        density: range of the mean [kg/m^3].
        pressure: range of the mean [Pa].
        speed: largest velocity component [m/s].
        swing: largest relative deviation of density and pressure, below 1.
        modes: largest number of waves per side.
    """

    density: tuple[float, float] = (1.0, 10.0)
    pressure: tuple[float, float] = (10.0, 100.0)
    speed: float = 1.0
    swing: float = 0.5
    modes: int = 4

    def __call__(self, domain: Grid, channels: int, generator: torch.Generator) -> Tensor:
        draws = torch.rand(2, generator=generator, dtype=torch.float64).tolist()
        means = [
            low * (high / low) ** t
            for (low, high), t in zip((self.density, self.pressure), draws, strict=True)
        ]
        waves = RandomFourier(modes=self.modes)(domain, channels, generator)
        state = self.speed * waves
        state[0] = means[0] * (1 + self.swing * waves[0])
        state[-1] = means[1] * (1 + self.swing * waves[-1])
        return gas(0.0, 0.0).conservative(state.unsqueeze(0))[0]


def volumes(pde: CompressibleNavierStokes, domain: Grid, dt: float, substeps: int | None) -> Step:
    """Second-order finite volumes at twice the usual step: sound crosses the box many times, and friction takes tensors."""
    from sciml.solvers.finite_volume import finite_volume

    return finite_volume(pde, domain, dt, time="ssprk2", cfl=0.8, substeps=substeps)


RECIPE = Recipe(
    name="compressible_1d",
    title="1D compressible Navier-Stokes, random waves of a viscous gas (PDEBench: 1024 cells)",
    citation="PDEBench, Takamoto et al. (2022), appendix D.5, random periodic fields at eta = zeta = 0.01.",
    pde=gas,
    parameters={"eta": Constant(0.01), "zeta": Constant(0.01)},
    domain=Grid((256,), (2.0,), boundary="periodic", origin=-1.0, centering="cell"),
    initial=RandomWaves(),
    solver=volumes,
    dt=0.01,
    steps=100,
    samples={"train": 64, "valid": 32, "test": 32},
    # Steps of these few cells take as long for one sample as for thirty.
    shard_size=32,
)
