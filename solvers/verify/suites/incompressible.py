"""Incompressible flow between walls, around a cylinder and under buoyancy, on staggered grids."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sciml.calculus import Spectral
from sciml.domains import Grid, Inflow, MovingWall
from sciml.pdes import Boussinesq, NavierStokes, Smoke
from sciml.solvers.build import build
from sciml.solvers.incompressible import Incompressible, cylinder, incompressible, staggered
from sciml.solvers.verify.certificate import Check, Suites, at_least, at_most
from sciml.solvers.verify.measure import (
    box,
    exact_error,
    observed_order,
    random_states,
    relative_error,
    structure,
)
from sciml.solvers.verify.suites import flow

# Velocity across the middle of the lid-driven cavity, at these heights, by Reynolds number.
# Ghia, Ghia and Shin, J. Comput. Phys. 48 (1982) 387-411, table I.
GHIA_HEIGHTS = (
    *(0.0547, 0.0625, 0.0703, 0.1016, 0.1719, 0.2813, 0.4531, 0.5000),
    *(0.6172, 0.7344, 0.8516, 0.9531, 0.9609, 0.9688, 0.9766),
)
GHIA = {
    100: (
        *(-0.03717, -0.04192, -0.04775, -0.06434, -0.10150, -0.15662, -0.21090, -0.20581),
        *(-0.13641, 0.00332, 0.23151, 0.68717, 0.73722, 0.78871, 0.84123),
    ),
    400: (
        *(-0.08186, -0.09266, -0.10338, -0.14612, -0.24299, -0.32726, -0.17119, -0.11477),
        *(0.02135, 0.16256, 0.29093, 0.55892, 0.61756, 0.68439, 0.75837),
    ),
    1000: (
        *(-0.18109, -0.20196, -0.22220, -0.29730, -0.38289, -0.27805, -0.10648, -0.06080),
        *(0.05702, 0.18719, 0.33304, 0.46604, 0.51117, 0.57492, 0.65928),
    ),
}
# The same for Reynolds number 1000 by a Chebyshev method, which moves the table's errors away.
# Botella and Peyret, Computers and Fluids 27 (1998) 421-433, table 9.
BOTELLA_PEYRET = (
    *(-0.1812881, -0.2023300, -0.2228955, -0.3004561, -0.3885691, -0.2803696, -0.1081999, -0.0620561),
    *(0.0570178, 0.1886747, 0.3372212, 0.4723329, 0.5169277, 0.5808359, 0.6644227),
)
# Steady cylinder of Reynolds number 20 in a channel: drag and lift coefficients.
# Schaefer and Turek, Flow Simulation with High-Performance Computers II (1996) 547-566, case 2D-1; the digits are those
# of later spectral solutions (Nabh 1998).
DRAG, LIFT = 5.57953523384, 0.010618948146
# Where convection between plates without slip sets in, and at which wavenumber. Chandrasekhar (1961), section 15.
CRITICAL_RAYLEIGH, CRITICAL_WAVE = 1707.762, 3.117


def settle(step: Incompressible, u: Tensor, tolerance: float, steps: int) -> Tensor:
    """Step until nothing changes by more than `tolerance` in a time of one, or `steps` are taken."""
    with torch.no_grad():
        for _ in range(steps):
            u, before = step(u), u
            if not float((u - before).abs().max()) > tolerance * step.dt:
                break
    return u


def cavity(pde: NavierStokes, n: int, tolerance: float = 1e-5) -> Tensor:
    """Velocity at Ghia's heights in the middle of a settled cavity of n^2 cells, n even, (15,)."""
    grid = Grid((n, n), (1.0, 1.0), boundary="wall", centering="cell")
    step = incompressible(pde, grid, 1.0, conditions={"y+": MovingWall((1.0, 0.0))})
    u = settle(step, torch.zeros(1, 2, n, n, dtype=torch.float64), tolerance, 200)
    wall = torch.zeros(1, dtype=torch.float64)
    heights = torch.cat((wall, grid.axes()[1], wall + 1.0))
    line = torch.cat((wall, u[0, 0, n // 2], wall + 1.0))
    return _cubic(heights, line, torch.tensor(GHIA_HEIGHTS))


def _cubic(x: Tensor, y: Tensor, at: Tensor) -> Tensor:
    """Cubic interpolation through the four nearest of the points (x, y)."""
    at = at.to(x)
    first = (torch.searchsorted(x, at) - 2).clamp(0, len(x) - 4)
    total = torch.zeros_like(at)
    for i in range(4):
        basis = torch.ones_like(at)
        for j in range(4):
            if j != i:
                basis = basis * (at - x[first + j]) / (x[first + i] - x[first + j])
        total = total + basis * y[first + i]
    return total


def channel_with_cylinder(
    pde: NavierStokes, cells: int, mean: float, dt: float
) -> tuple[Incompressible, Tensor]:
    """The set-up of Schaefer and Turek with `cells` across the diameter: step and initial state.

    A cylinder of diameter 0.1 at (0.2, 0.2) in a channel 2.2 x 0.41, a parabola of the given mean entering. Force
    coefficients are 2 F/(0.1 mean^2).
    """
    height = 0.41
    shape = (round(2.2 / 0.1 * cells), round(height / 0.1 * cells))
    grid = Grid(shape, (2.2, height), (("inflow", "outflow"), ("wall", "wall")), centering="cell")
    y = grid.axes()[1]
    profile = 6 * mean * y * (height - y) / height**2
    enters = Inflow(torch.stack([profile, torch.zeros_like(y)]))
    step = incompressible(pde, grid, dt, conditions={"x-": enters}, obstacles=[cylinder((0.2, 0.2), 0.05)])
    start = torch.zeros(1, 2, *shape, dtype=torch.float64)
    start[:, 0] = profile
    return step, step.project(start)


def critical_rayleigh(cls: type[Boussinesq], n: int, near: tuple[float, float] = (1690.0, 1725.0)) -> float:
    """Rayleigh number where disturbances of conduction between plates neither grow nor decay, on n^2 cells.

    Growth rates of the critical wave at two Rayleigh numbers, one sample each, and the zero of the line through them.
    """
    rayleigh = torch.tensor(near, dtype=torch.float64).reshape(2, 1)
    pde = cls(viscosity=rayleigh**-0.5, diffusivity=rayleigh**-0.5, buoyancy=1.0)
    grid = Grid(
        (n, n),
        (2 * math.pi / CRITICAL_WAVE, 1.0),
        (("periodic", "periodic"), ("wall", "wall")),
        centering="cell",
    )
    # Implicit: the rates have to be those of the grid, and a hundredth of a viscous time resolves them.
    step = incompressible(pde, grid, 1.0, held={"y-": 1.0, "y+": 0.0}, viscosity="implicit", substeps=4)
    x, y = grid.coordinates()
    u = torch.zeros(2, 3, n, n, dtype=torch.float64)
    rest = 1 - y
    u[:, 2] = rest + 1e-6 * torch.cos(CRITICAL_WAVE * x) * torch.sin(math.pi * y)
    sizes = []
    with torch.no_grad():
        for _ in range(20):
            u = step(u)
            sizes.append((u[:, 2] - rest).flatten(1).norm(dim=1))
    growth = torch.log(sizes[-1] / sizes[-6]) / 5
    slope = float(growth[1] - growth[0]) / (near[1] - near[0])
    return near[0] - float(growth[0]) / slope


def _exact_orders(pde: NavierStokes | Boussinesq, counts: tuple[int, ...], dimension: int) -> list[float]:
    """Errors at t = 0.5 against the moving exact solution, on faces and centres."""
    errors = []
    for n in counts:
        grid = box(pde, n, dimension, centering="cell")

        def at(t: float, grid: Grid = grid) -> Tensor:
            return staggered(lambda x: pde.exact(x[None], t)[0], grid)

        with torch.no_grad():
            u = build(pde, grid, 0.5)(at(0.0))
        errors.append(float(relative_error(u, at(0.5)).max()))
    return errors


def _closed_box(pde: NavierStokes | Boussinesq, shape: tuple[int, ...]) -> tuple[Incompressible, Tensor]:
    """A step between walls and two random flows without divergence."""
    grid = Grid(shape, (1.0, 1.25, 0.75)[: len(shape)], boundary="wall", centering="cell")
    step = incompressible(pde, grid, 0.02)
    return step, step.project(random_states(grid, len(step.channels)))


def _energy_rate(step: Incompressible, u: Tensor, channels: slice) -> Tensor:
    """<u, du/dt> over |u| |du/dt| of some channels."""
    v, rate = u[:, channels].flatten(1), step.rate(u)[:, channels].flatten(1)
    return ((v * rate).sum(dim=1) / (v.norm(dim=1) * rate.norm(dim=1))).abs().max()


def _between_walls(cls: type[NavierStokes]) -> list[Check]:
    pde = cls(viscosity=0.05, drag=0.1)
    flat, deep = _exact_orders(pde, (16, 32, 64), 2), _exact_orders(pde, (8, 16), 3)
    # Couette flow and, pushed along, Poiseuille flow, whose parabola the scheme misses by h^2/8 of its curvature.
    pair = Grid((4, 16), (0.5, 1.0), (("periodic", "periodic"), ("wall", "wall")), centering="cell")
    height = pair.axes()[1]
    nothing = torch.zeros(1, 2, *pair.shape, dtype=torch.float64)
    slide = incompressible(
        cls(viscosity=0.5), pair, 10.0, conditions={"y+": MovingWall((1.0, 0.0))}, viscosity="implicit"
    )
    push = torch.zeros(1, 2, 1, 1, dtype=torch.float64)
    push[:, 0] = 1.0
    couette = settle(slide, nothing, 1e-16, 20)[0, 0] - height
    driven = incompressible(cls(viscosity=0.5, forcing=push), pair, 10.0, viscosity="implicit")
    poiseuille = settle(driven, nothing, 1e-16, 20)[0, 0] - height * (1 - height)
    decay = []
    for n in (16, 32):
        grid = Grid((4, n), (0.5, 1.0), (("periodic", "periodic"), ("wall", "wall")), centering="cell")
        shape = torch.sin(math.pi * grid.axes()[1]).expand(4, n)
        u = torch.stack([shape, 0 * shape])[None]
        with torch.no_grad():
            v = build(cls(viscosity=0.05), grid, 1.0)(u)
        decay.append(float(relative_error(v[:, :1], math.exp(-0.05 * math.pi**2) * u[:, :1]).max()))
    lid = torch.tensor(GHIA[100], dtype=torch.float64)
    ideal, still = _closed_box(cls(viscosity=0.0), (24, 20)), _closed_box(cls(viscosity=0.0), (10, 12, 8))
    with torch.no_grad():
        later = ideal[0](ideal[1])
        drift = (ideal[0].energy(later) / ideal[0].energy(ideal[1]) - 1).abs().max()
        viscous, start = _closed_box(cls(viscosity=0.01), (24, 20))
        u = start
        for _ in range(20):
            u = viscous(u)
        # Mirrored along x: the low faces of the mirror image are the high ones.
        mirrored = _mirror(viscous(_mirror(start))) - viscous(start)
    step, past = channel_with_cylinder(cls(viscosity=1e-3), 10, 0.2, 0.25)
    past = settle(step, past, 1e-3, 24)
    force = step.forces(past)[0, 0] * 2 / (0.2**2 * 0.1)
    return [
        at_most("error of moving vortices on faces", flat[-1], 1e-3, "64^2 cells, t = 0.5"),
        at_least(
            "order in space of moving vortices in 2D", observed_order(flat), 1.9, "32^2 to 64^2 cells"
        ),
        at_least(
            "order in space of a moving ABC flow in 3D", observed_order(deep), 1.8, "8^3 to 16^3 cells"
        ),
        at_most("error of Couette flow", couette.abs().max(), 1e-12, "16 cells, implicit viscosity"),
        at_most(
            "error of Poiseuille flow beyond h^2/4",
            (poiseuille - 1 / (4 * 16**2)).abs().max(),
            1e-12,
            "16 cells, pushed",
        ),
        at_least(
            "order in space between walls", observed_order(decay), 1.9, "decaying channel, 16 to 32 cells"
        ),
        at_most(
            "distance to Ghia's cavity",
            (cavity(cls(0.01), 32) - lid).abs().max(),
            1e-2,
            "Re 100, 32^2 cells",
        ),
        at_most(
            "energy given by advection in 2D",
            _energy_rate(*ideal, slice(0, 2)),
            1e-13,
            "walls, random flow",
        ),
        at_most(
            "energy given by advection in 3D",
            _energy_rate(*still, slice(0, 3)),
            1e-13,
            "walls, random flow",
        ),
        at_most("drift of energy between walls without viscosity", drift, 1e-5, "24 x 20 cells, t = 0.02"),
        at_most(
            "divergence between walls",
            viscous.divergence(u).abs().max() / start.abs().max(),
            1e-12,
            "24 x 20 cells, 20 steps, over max |u| and the side of the box",
        ),
        at_most("mirror image", mirrored.abs().max() / start.abs().max(), 1e-12, "24 x 20 cells"),
        at_most("error of a cylinder's drag", (force[0] / DRAG - 1).abs(), 0.02, "2D-1, 10 cells across"),
        at_most("error of a cylinder's lift", (force[1] - LIFT).abs(), 0.01, "2D-1, 10 cells across"),
        at_most(
            "divergence around a cylinder",
            step.divergence(past).abs().max() / past.abs().max(),
            1e-12,
            "2D-1, over max |u| and a unit of length",
        ),
    ]


def _mirror(u: Tensor) -> Tensor:
    """The mirror image along x of a flow between walls."""
    across = u[:, :1].flip(2).roll(1, 2)
    return torch.cat((-across, u[:, 1:].flip(2)), dim=1)


def _buoyant(cls: type[Boussinesq]) -> list[Check]:
    pde = cls(viscosity=0.03, diffusivity=0.02, buoyancy=1.5, gradient=0.8)
    plane, cube = box(pde, 32, 2), box(pde, 16, 3)
    flat = [exact_error(pde, build(pde, plane, 0.25, substeps=n), plane, 4) for n in (4, 8, 16)]
    deep = exact_error(pde, build(pde, cube, 0.5, substeps=16), cube, 1)
    faces, solid = _exact_orders(pde, (16, 32, 64), 2), _exact_orders(pde, (8, 16), 3)
    found = critical_rayleigh(cls, 32)
    plates = Grid((8, 12), (1.0, 1.0), (("periodic", "periodic"), ("wall", "wall")), centering="cell")
    warm = incompressible(
        cls(viscosity=0.01, diffusivity=0.01, buoyancy=1.0), plates, 0.5, held={"y-": 1.0, "y+": 0.0}
    )
    rest = torch.zeros(1, 3, *plates.shape, dtype=torch.float64)
    rest[:, 2] = 1 - plates.axes()[1]
    closed = _closed_box(cls(0.0, 0.0, 0.7), (24, 20))
    cells = box(pde, 24, 2, centering="cell")
    smooth = random_states(cells, 3)
    with torch.no_grad():
        stays = (warm(rest) - rest).abs().max()
        later = closed[0](closed[1])
        kept = (later[:, 2].mean(dim=(1, 2)) - closed[1][:, 2].mean(dim=(1, 2))).abs().max()
        # Without viscosity and diffusion the wave exchanges energy with the background alone.
        ideal = cls(viscosity=0.0, diffusivity=0.0, buoyancy=1.5, gradient=0.8)
        grid = box(ideal, 24, 2)
        first = ideal.project(random_states(grid, 3), Spectral(grid))
        end = build(ideal, grid, 0.1, substeps=10)(first)
        # Where the wave is unstable there is no such energy, and no number.
        energy = [ideal.invariants(w, grid).get("energy", w.new_tensor(math.nan)) for w in (first, end)]
    return [
        at_most("error against an internal wave", flat[-1], 1e-6, "32^2, t = 1, substep 1/64"),
        at_least("order in time", observed_order(flat), 3.7, "substeps 1/32 to 1/64"),
        at_most("error against an internal wave in 3D", deep, 5e-6, "16^3, t = 0.5, substep 1/32"),
        at_least(
            "order in space on faces in 2D", observed_order(faces), 1.9, "32^2 to 64^2 cells, t = 0.5"
        ),
        at_least("order in space on faces in 3D", observed_order(solid), 1.7, "8^3 to 16^3 cells, t = 0.5"),
        at_most(
            "error of the critical Rayleigh number",
            abs(found / CRITICAL_RAYLEIGH - 1),
            1e-2,
            f"plates without slip, 32^2 cells, found {found:.1f}",
        ),
        at_most("motion of conduction at rest", stays, 1e-12, "8 x 12 cells"),
        at_most("drift of the scalar in a closed box", kept, 1e-14, "24 x 20 cells"),
        at_most(
            "square of the scalar given by advection",
            _energy_rate(*closed, slice(2, 3)),
            1e-13,
            "closed box",
        ),
        at_most(
            "drift of energy without viscosity",
            (energy[1] / energy[0] - 1).abs().max(),
            1e-6,
            "24^2, t = 0.1",
        ),
        *structure(cls(0.02, 0.02, 0.5), cells, 0.05, 5, smooth),
    ]


def _navier_stokes(cls: type[NavierStokes]) -> list[Check]:
    return [*flow.SUITES[NavierStokes](cls), *_between_walls(cls)]


SUITES: Suites = {
    NavierStokes: _navier_stokes,
    Boussinesq: _buoyant,
    Smoke: _buoyant,
}
