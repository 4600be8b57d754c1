"""Compressible flow, inviscid and viscous."""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable
from functools import partial
from itertools import product

import torch
from torch import Tensor

from sciml.domains import Grid, Inflow, MovingWall
from sciml.pdes import CompressibleEuler, CompressibleNavierStokes
from sciml.pdes.euler import IdealGas
from sciml.solvers.build import build
from sciml.solvers.finite_volume import (
    DOUBLE_RAREFACTION,
    LAX,
    SOD,
    STRONG_BLAST,
    ShockTube,
    finite_volume,
)
from sciml.solvers.finite_volume.exact import viscous_shock
from sciml.solvers.finite_volume.step import MarchName
from sciml.solvers.verify.certificate import Check, Suites, at_least, at_most
from sciml.solvers.verify.measure import (
    box,
    observed_order,
    points,
    random_states,
    structure,
)


def _euler(cls: type[CompressibleEuler]) -> list[Check]:
    pde = cls()
    waves = []
    for n in (64, 128):
        grid = box(pde, n, 1, centering="cell")
        x = points(grid)
        # Averages over cells, exact for the sine but for the common factor sinc.
        damp = math.sin(math.pi / n) / (math.pi / n)
        u = _average(pde.exact(x, 0.0), damp)
        with torch.no_grad():
            u = build(pde, grid, 0.25)(u)
        waves.append(float((u - _average(pde.exact(x, 0.25), damp))[:, 0].abs().mean()))
    plane = box(pde, 24, 2, centering="cell")
    vortices = [_vortex_error(pde, n) for n in (32, 64)]
    return [
        at_least(
            "order in space on a density wave", observed_order(waves), 1.8, "64 to 128 cells, L1, t = 0.25"
        ),
        at_most("L1 error of Sod's density", tube_error(pde, SOD, 400), 1.6e-3, "400 cells, t = 0.2"),
        # About a third above what independent second-order schemes leave at 200 cells.
        at_most("L1 error of Lax's density", tube_error(pde, LAX, 200), 1.2e-2, "200 cells, t = 0.13"),
        at_most(
            "L1 error of a double rarefaction's density",
            tube_error(pde, DOUBLE_RAREFACTION, 200),
            5e-3,
            "200 cells, t = 0.15, near vacuum",
        ),
        at_most(
            "L1 error of a strong blast's density",
            tube_error(pde, STRONG_BLAST, 200),
            0.1,
            "200 cells, t = 0.012, pressures 1000 to 0.01, peak density 6",
        ),
        at_least(
            "order in space on a vortex", observed_order(vortices), 1.8, "32x32 to 64x64 cells, L1, t = 1"
        ),
        at_least(
            "kinetic energy of Gresho's vortex",
            gresho_energy(pde, 32),
            0.93,
            "32x32, half a turn, t = 0.63",
        ),
        # Sweeps keep the exchange of x and y only to the error of the scheme.
        at_most(
            "mirror and diagonal images",
            image_error(pde, "hancock"),
            1e-12,
            "16x16, one step of 0.05, unsplit",
        ),
        *structure(pde, plane, 0.02, 10, random_gas(pde, plane)),
    ]


def _navier_stokes(cls: type[CompressibleNavierStokes]) -> list[Check]:
    shocks = [_shock_error(cls, n) for n in (50, 100)]
    pde = cls()
    plane = Grid((20, 20), (1.0, 1.0), centering="cell")
    bulky = cls(viscosity=0.01, bulk_viscosity=0.03)
    sounds = [_linear_error(bulky, n, 0) for n in (32, 64)]
    return [
        at_least(
            "order in space on a viscous shock",
            observed_order(shocks),
            1.7,
            "50 to 100 cells, Mach 2, moving",
        ),
        at_most("L1 error of a viscous shock's density", shocks[1], 2e-3, "100 cells, Mach 2, moving"),
        at_most(
            "heat of a shear flow between sliding walls",
            max(couette_error(cls, 2, axis, 1 - axis) for axis in (0, 1)),
            1e-11,
            "2D, both ways, t = 0.2, relative",
        ),
        at_most(
            "the same in 3D",
            max(couette_error(cls, 3, axis, (axis + 1) % 3) for axis in range(3)),
            1e-11,
            "3D, three ways, t = 0.2, relative",
        ),
        # The central fluxes miss (k dx)^2 / 12 = 8e-4 of the exponents, which are about 1.
        at_most(
            "linear sound and heat waves along x", sounds[1], 1.5e-3, "64 cells, t = 1, with bulk viscosity"
        ),
        at_least("order in space on them", observed_order(sounds), 1.7, "32 to 64 cells"),
        at_most(
            "linear sound and heat waves along y", _linear_error(bulky, 64, 1), 1.5e-3, "4x64 cells, t = 1"
        ),
        at_most("mirror and diagonal images", image_error(pde, "auto"), 1e-12, "16x16, one step of 0.05"),
        *structure(pde, plane, 0.01, 5, random_gas(pde, plane)),
    ]


def tube_error(gas: IdealGas, problem: ShockTube, n: int, **scheme: str) -> float:
    """Mean error of density in a shock tube of n cells."""
    grid = Grid((n,), (1.0,), boundary="outflow", centering="cell")
    line = grid.axes()[0]
    start, end = (
        gas.conservative(problem.exact(line, t, gamma=float(gas.gamma))[None]) for t in (0.0, problem.time)
    )
    with torch.no_grad():
        found = finite_volume(gas, grid, problem.time, **scheme)(start)  # type: ignore[arg-type]
    return float((found - end)[:, 0].abs().mean())


def averaged(function: Callable[[Tensor], Tensor], grid: Grid) -> Tensor:
    """Averages over cells of a function of points (D, *points), by three Gauss points per axis."""
    ends = math.sqrt(0.6)
    nodes, weights = (-ends, 0.0, ends), (5 / 18, 8 / 18, 5 / 18)
    total: Tensor | None = None
    for place in product(range(3), repeat=grid.dimension):
        shift = torch.tensor([0.5 * h * nodes[i] for h, i in zip(grid.spacing, place, strict=True)])
        shift = shift.to(torch.float64).reshape(-1, *[1] * grid.dimension)
        part = math.prod(weights[i] for i in place) * function(grid.coordinates() + shift)
        total = part if total is None else total + part
    assert total is not None
    return total


def vortex(gas: IdealGas, x: Tensor, t: float) -> Tensor:
    """Isentropic vortex carried along the diagonal of a periodic box of side 10, (2, *points) -> (1, 4, *points).

    Shu, ICASE report 97-65 (1997), section 5, of strength 5. What is cut off at the sides is below 1e-10.
    """
    gamma, strength = float(gas.gamma), 5.0
    d = (x - t + 5.0) % 10.0 - 5.0
    square = d.square().sum(0)
    turn = strength / (2 * math.pi) * torch.exp((1 - square) / 2)
    temperature = 1 - (gamma - 1) * strength**2 / (8 * gamma * math.pi**2) * torch.exp(1 - square)
    density = temperature ** (1 / (gamma - 1))
    w = torch.stack((density, 1 - turn * d[1], 1 + turn * d[0], density * temperature))
    return gas.conservative(w.unsqueeze(0))


def _vortex_error(gas: IdealGas, n: int, time: float = 1.0, **scheme: str) -> float:
    grid = Grid((n, n), (10.0, 10.0), origin=-5.0, centering="cell")
    start, end = (averaged(partial(vortex, gas, t=t), grid) for t in (0.0, time))
    with torch.no_grad():
        found = finite_volume(gas, grid, time, **scheme)(start)  # type: ignore[arg-type]
    return float((found - end)[:, 0].abs().mean())


def gresho_energy(gas: IdealGas, n: int, **scheme: str) -> float:
    """Share of the kinetic energy of a steady vortex that is left after half a turn.

    Gresho and Chan, Int. J. Numer. Methods Fluids 11 (1990); pressures of Liska and Wendroff (2003), for a gas of
    1.4 a Mach number of 0.38 at most.
    """
    grid = Grid((n, n), (1.0, 1.0), origin=-0.5, centering="cell")

    def state(x: Tensor) -> Tensor:
        r = x.square().sum(0).sqrt().clamp(min=1e-12)
        turn = torch.where(r < 0.2, 5 * r, (2 - 5 * r).clamp(min=0.0))
        middle = 9 + 12.5 * r.square() - 20 * r + 4 * torch.log(5 * r)
        pressure = torch.where(
            r < 0.2, 5 + 12.5 * r.square(), torch.where(r < 0.4, middle, 3 + 4 * math.log(2))
        )
        w = torch.stack((torch.ones_like(r), -turn * x[1] / r, turn * x[0] / r, pressure))
        return gas.conservative(w.unsqueeze(0))

    def energy(u: Tensor) -> Tensor:
        return (u[:, 1:-1].square().sum(1) / u[:, 0]).sum()

    start = averaged(state, grid)
    with torch.no_grad():
        end = finite_volume(gas, grid, 0.2 * math.pi, **scheme)(start)  # type: ignore[arg-type]
    return float(energy(end) / energy(start))


def random_gas(gas: IdealGas, grid: Grid) -> Tensor:
    """Smooth random flow at Mach numbers of about a third."""
    random = random_states(grid, grid.dimension + 2)
    primitive = torch.cat([1 + 0.2 * random[:, :1], 0.3 * random[:, 1:-1], 1 + 0.2 * random[:, -1:]], dim=1)
    return gas.conservative(primitive)


def image_error(gas: IdealGas, time: MarchName) -> float:
    """By how much the step of a mirror image, and of one with x and y exchanged, differs from the image of the step."""
    grid = Grid((16, 16), (1.0, 1.0), centering="cell")
    u = random_gas(gas, grid)
    step = finite_volume(gas, grid, 0.05, substeps=16, time=time)

    def mirror(u: Tensor) -> Tensor:
        v = u.flip(2)
        return torch.cat((v[:, :1], -v[:, 1:2], v[:, 2:]), dim=1)

    def exchange(u: Tensor) -> Tensor:
        return u.transpose(2, 3)[:, [0, 2, 1, 3]]

    with torch.no_grad():
        return max(float((image(step(u)) - step(image(u))).abs().max()) for image in (mirror, exchange))


def _shock_error(cls: type[CompressibleNavierStokes], n: int) -> float:
    """Mean error of density in Becker's shock, which crosses a twentieth of the box."""
    viscosity, drift, time = 0.05, -1.0, 0.1
    gas = cls(viscosity=viscosity, prandtl=0.75)
    grid = Grid((n,), (2.0,), boundary="inflow", origin=-1.0, centering="cell")

    def state(x: Tensor, t: float) -> Tensor:
        w = viscous_shock(x[0] - drift * t, mach=2.0, viscosity=viscosity, gamma=float(gas.gamma))
        return gas.conservative(torch.stack((w[0], w[1] + drift, w[2])).unsqueeze(0))

    far = [state(torch.tensor([[s]], dtype=torch.float64), 0.0)[0, :, 0] for s in (-9.0, 9.0)]
    start, end = (averaged(partial(state, t=t), grid) for t in (0.0, time))
    with torch.no_grad():
        step = finite_volume(
            gas, grid, time, cfl=0.8, conditions={"x-": Inflow(far[0]), "x+": Inflow(far[1])}
        )
        found = step(start)
    return float((found - end)[:, 0].abs().mean())


def couette_error(cls: type[CompressibleNavierStokes], dimension: int, axis: int, along: int) -> float:
    """Of shear flow between a wall at rest and one that slides along another axis.

    A linear velocity stays, and friction heats the gas evenly: p = p0 + (gamma - 1) mu (U / L)^2 t. Exact for the
    averages of conserved variables too, the kinetic energy of which lies (U h / L)^2 rho / 24 above that of the
    averages.
    """
    viscosity, slide, time = 0.1, 0.5, 0.2
    gas = cls(viscosity=viscosity)
    shape, sides, velocity = [3] * dimension, ["periodic"] * dimension, [0.0] * dimension
    shape[axis], sides[axis], velocity[along] = 8, "wall", slide
    grid = Grid(tuple(shape), (1.0,) * dimension, tuple(sides), centering="cell")  # type: ignore[arg-type]
    w = torch.zeros(1, dimension + 2, *shape, dtype=torch.float64)
    w[:, 0], w[:, 1 + along], w[:, -1] = 1.2, slide * grid.coordinates()[axis], 2.0
    step = finite_volume(gas, grid, time, conditions={"xyz"[axis] + "+": MovingWall(tuple(velocity))})
    with torch.no_grad():
        found = gas.primitive(step(gas.conservative(w)))
    w[:, -1] += (float(gas.gamma) - 1) * viscosity * slide**2 * time
    heat = (float(gas.gamma) - 1) * viscosity * slide**2 * time
    return float((found - w).abs().max() / heat)


def _linear_error(gas: CompressibleNavierStokes, n: int, axis: int) -> float:
    """Relative L2 error of a small wave of density, velocity and pressure against the linearised equations.

    About gas at rest of density 1 and pressure 1, modes obey d/dt (rho, v, p) = A (rho, v, p) with a matrix of three
    by three, whose exponential is taken.
    """
    gamma, k, time, small = float(gas.gamma), 2 * math.pi, 1.0, 1e-5
    friction = 4 / 3 * float(torch.as_tensor(gas.viscosity)) + float(torch.as_tensor(gas.bulk_viscosity))
    heat = (gamma - 1) * k**2 * float(torch.as_tensor(gas.viscosity)) * gamma
    heat /= (gamma - 1) * float(torch.as_tensor(gas.prandtl))
    matrix = torch.tensor(
        [
            [0, -1j * k, 0],
            [0, -friction * k**2, -1j * k],
            [heat, -1j * k * gamma, -heat],  # temperature is p - rho to first order
        ],
        dtype=torch.complex128,
    )
    amplitude = torch.tensor([1.0, 0.5, 0.3 * cmath.exp(1j)], dtype=torch.complex128)
    shape = (n,) if axis == 0 else (4, n)
    grid = Grid(shape, (1.0,) * len(shape), centering="cell")
    wave = torch.exp(1j * k * grid.coordinates()[axis])

    def state(mode: Tensor) -> Tensor:
        w = torch.zeros(1, len(shape) + 2, *shape, dtype=torch.float64)
        w[:, 0] = 1 + small * (mode[0] * wave).real
        w[:, 1 + axis] = small * (mode[1] * wave).real
        w[:, -1] = 1 + small * (mode[2] * wave).real
        return w

    end = state(torch.linalg.matrix_exp(matrix * time) @ amplitude)
    with torch.no_grad():
        step = finite_volume(gas, grid, time, reconstruction="weno5")
        found = gas.primitive(step(gas.conservative(state(amplitude))))
    rest = state(torch.zeros(3, dtype=torch.complex128))
    return float((found - end).norm() / (end - rest).norm())


def _average(u: Tensor, damp: float) -> Tensor:
    """Cell averages of a state whose first harmonic is all that varies."""
    mean = u.mean(dim=2, keepdim=True)
    return mean + damp * (u - mean)


SUITES: Suites = {
    CompressibleEuler: _euler,
    CompressibleNavierStokes: _navier_stokes,
}
