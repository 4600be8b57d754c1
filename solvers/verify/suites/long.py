"""What takes minutes: published flows at the Reynolds numbers they are known for, fine references, ten thousand steps."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor

from sciml.domains import Grid
from sciml.pdes import Boussinesq, CompressibleEuler, NavierStokes, ShallowWater
from sciml.pdes.base import ConservationLaw
from sciml.solvers.finite_volume import finite_volume
from sciml.solvers.finite_volume.shallow_water import shallow_water
from sciml.solvers.finite_volume.step import MarchName, ReconstructionName
from sciml.solvers.verify.certificate import Check, Suites, at_least, at_most
from sciml.solvers.verify.suites.euler import averaged, random_gas
from sciml.solvers.verify.suites.incompressible import (
    BOTELLA_PEYRET,
    CRITICAL_RAYLEIGH,
    DRAG,
    GHIA,
    LIFT,
    cavity,
    channel_with_cylinder,
    critical_rayleigh,
    settle,
)

STEPS = 10_000


def _navier_stokes(cls: type[NavierStokes]) -> list[Check]:
    four = cavity(cls(1 / 400), 64)
    coarse, fine = (cavity(cls(1e-3), n) for n in (80, 160))

    def distance(found: Tensor, values: tuple[float, ...]) -> float:
        return float((found - torch.tensor(values, dtype=torch.float64)).abs().max())

    drags, lifts = [], []
    for cells in (10, 20):
        step, u = channel_with_cylinder(cls(1e-3), cells, 0.2, 0.25)
        drag, lift = (step.forces(settle(step, u, 1e-4, 60))[0, 0] * 2 / (0.2**2 * 0.1)).tolist()
        drags.append(abs(drag / DRAG - 1))
        lifts.append(abs(lift - LIFT))
    drag, lift, strouhal = vortex_street(cls(1e-3), 20)
    return [
        at_most("distance to Ghia's cavity", distance(four, GHIA[400]), 0.01, "Re 400, 64^2 cells"),
        at_most("distance to Ghia's cavity", distance(fine, GHIA[1000]), 0.015, "Re 1000, 160^2 cells"),
        at_most(
            "distance to a spectral cavity", distance(fine, BOTELLA_PEYRET), 5e-3, "Re 1000, 160^2 cells"
        ),
        at_least(
            "order of this distance",
            math.log2(distance(coarse, BOTELLA_PEYRET) / distance(fine, BOTELLA_PEYRET)),
            1.7,
            "80^2 to 160^2 cells",
        ),
        at_most("error of a cylinder's drag", drags[1], 0.01, "2D-1, 20 cells across"),
        at_least(
            "order of this error", math.log2(drags[0] / drags[1]), 0.3, "2D-1, 10 to 20 cells across, steps"
        ),
        at_most("error of a cylinder's lift", lifts[1], 0.01, "2D-1, 20 cells across"),
        at_least("order of this error", math.log2(lifts[0] / lifts[1]), 0.3, "2D-1, 10 to 20 cells across"),
        # Bounds of the reference: Strouhal number 0.295 to 0.305, drag 3.22 to 3.24, lift 0.98 to 1.02.
        at_most("error of the Strouhal number", abs(strouhal / 0.3 - 1), 1 / 60, "2D-2, 20 cells across"),
        at_most("error of the largest drag", abs(drag / 3.23 - 1), 0.01, "2D-2, 20 cells across"),
        # A body of whole cells: 37 per cent at 10 cells across, 3 at 16, 10 at 20.
        at_most("error of the largest lift", abs(lift / 1.0 - 1), 0.12, "2D-2, 20 cells across"),
    ]


def vortex_street(pde: NavierStokes, cells: int) -> tuple[float, float, float]:
    """Largest drag and lift coefficients and Strouhal number of Schaefer and Turek's case 2D-2, `cells` across."""
    step, u = channel_with_cylinder(pde, cells, 1.0, 0.01)
    forces = []
    with torch.no_grad():
        for i in range(800):
            u = step(u)
            if i >= 500:
                forces.append(step.forces(u)[0, 0] * 2 / (1.0**2 * 0.1))
    drag, lift = torch.stack(forces).unbind(1)
    x = (lift - lift.mean()).tolist()
    ups = [i - x[i] / (x[i + 1] - x[i]) for i in range(len(x) - 1) if x[i] < 0 <= x[i + 1]]
    period = 0.01 * (ups[-1] - ups[0]) / (len(ups) - 1) if len(ups) > 1 else math.nan
    return float(drag.max()), float(lift.max()), 0.1 / period


def _boussinesq(cls: type[Boussinesq]) -> list[Check]:
    gaps = [abs(critical_rayleigh(cls, n) / CRITICAL_RAYLEIGH - 1) for n in (24, 48, 96)]
    return [
        at_most("error of the critical Rayleigh number", gaps[-1], 1e-3, "plates without slip, 96^2 cells"),
        at_least(
            "order of this error",
            min(math.log2(a / b) for a, b in pairwise(gaps)),
            1.9,
            "24^2 to 96^2 cells",
        ),
    ]


def total_drift(law: ConservationLaw, u: Tensor, grid: Grid, scheme: ReconstructionName) -> float:
    """The largest change of what a law conserves over `STEPS` Steps, relative to the mean of what it holds."""
    step = finite_volume(law, grid, 0.1 / max(grid.shape), reconstruction=scheme)
    before = law.invariants(u, grid)
    scale = float(u.abs().amax(dim=1).mean()) * grid.volume
    worst = 0.0
    with torch.no_grad():
        for _ in range(10):
            for _ in range(STEPS // 10):
                u = step(u)
            after = law.invariants(u, grid)
            for k, value in before.items():
                change = float((after[k] - value).abs().max())
                # Not a number counts as the worst there is.
                worst = max(worst, change / max(scale, float(value.abs().max())), key=lambda v: (v != v, v))
    return worst if before else math.nan


def shu_osher(gas: CompressibleEuler, n: int, scheme: ReconstructionName) -> Tensor:
    """Density (n,) of a shock that has run into a density wave, at t = 1.8. Shu and Osher (1989), example 8."""
    grid = Grid((n,), (10.0,), "outflow", origin=-5.0, centering="cell")

    def start(x: Tensor) -> Tensor:
        behind = x[0] < -4
        w = [
            torch.where(behind, a, b)
            for a, b in ((3.857143, 1 + 0.2 * torch.sin(5 * x[0])), (2.629369, 0.0), (10.33333, 1.0))
        ]
        return gas.conservative(torch.stack(w).unsqueeze(0))

    with torch.no_grad():
        return finite_volume(gas, grid, 1.8, reconstruction=scheme)(averaged(start, grid))[0, 0]


def sedov(
    gas: CompressibleEuler, n: int, scheme: ReconstructionName, *, symmetric: bool = False
) -> tuple[Tensor, Tensor]:
    """Density and distance from the point of a quarter of a cylindrical blast at t = 1, (n, n) each.

    Pressure 1e-6 outside. Its energy puts the shock at radius 1: E = 0.984 for gamma 1.4 in the plane. Kamm and
    Timmes, LA-UR-07-2849 (2007), table 1. `symmetric` treats both axes alike.
    """
    grid = Grid((n, n), (1.2, 1.2), (("wall", "outflow"),) * 2, centering="cell")
    w = torch.zeros(1, 4, n, n, dtype=torch.float64)
    w[:, 0], w[:, 3] = 1.0, 1e-6
    u = gas.conservative(w)
    u[0, 3, 0, 0] = 0.983909 / 4 / grid.spacing[0] ** 2
    time: MarchName = "hancock" if symmetric and scheme == "muscl" else "auto"
    with torch.no_grad():
        end = finite_volume(gas, grid, 1.0, reconstruction=scheme, time=time)(u)
    return end[0, 0], grid.coordinates().square().sum(0).sqrt()


def _euler(cls: type[CompressibleEuler]) -> list[Check]:
    gas = cls()
    drifts = []
    for shape, boundary, scheme in (
        ((64,), "periodic", "muscl"),
        ((24,), "wall", "weno5-characteristic"),
        ((8, 20), "periodic", "weno5"),
        ((7, 8, 18), "wall", "muscl"),
    ):
        grid = Grid(shape, (1.0,) * len(shape), boundary, centering="cell")
        drifts.append(total_drift(gas, random_gas(gas, grid)[:1], grid, scheme))  # type: ignore[arg-type]
    fine = shu_osher(gas, 3200, "muscl")
    waves = {
        n: float((shu_osher(gas, n, "weno5-characteristic") - fine.reshape(n, -1).mean(dim=1)).abs().mean())
        for n in (200, 400)
    }
    density, radius = sedov(gas, 48, "muscl")
    ring = density > 0.8 * density.max()
    return [
        at_most("drift of all totals", max(drifts), 1e-12, f"1D to 3D, {STEPS} steps, random states"),
        at_most(
            "L1 error of Shu and Osher's waves", waves[200], 0.055, "WENO5 of waves, 200 cells, t = 1.8"
        ),
        at_least(
            "order of this error",
            math.log2(waves[200] / waves[400]),
            0.74,
            "200 to 400 cells, with a shock",
        ),
        at_most(
            "error of Sedov's radius",
            abs(float(radius[ring].mean()) - 1.0),
            0.03,
            "48^2 cells, a quarter, t = 1; the ring lies behind the front by its width",
        ),
        at_least("peak of Sedov's density", density.max(), 3.0, "48^2 cells, 6 at the front itself"),
    ]


def _shallow_water(cls: type[ShallowWater]) -> list[Check]:
    worst = 0.0
    for shape in ((40,), (12, 12)):
        grid = Grid(shape, (1.0,) * len(shape), "wall", centering="cell")
        # A level surface at 1 over a random bed, of which islands rise out of the water.
        generator = torch.Generator().manual_seed(0)
        bed = 1.4 * torch.rand(2, 1, *shape, generator=generator, dtype=torch.float64)
        u = torch.cat(((1.0 - bed).clamp(min=0.0), *[torch.zeros_like(bed)] * len(shape)), dim=1)
        step = shallow_water(cls(bed=bed), grid, 1.0, time="ssprk2")
        v, taken = u, 0
        with torch.no_grad():
            while taken < STEPS:
                v = step(v)
                taken += step.last_substeps
        worst = max(worst, float((v - u).abs().max()))
    return [
        at_most("motion of a lake at rest", worst, 1e-13, f"1D and 2D, islands, {STEPS} steps"),
    ]


LONG: Suites = {
    NavierStokes: _navier_stokes,
    Boussinesq: _boussinesq,
    CompressibleEuler: _euler,
    ShallowWater: _shallow_water,
}
