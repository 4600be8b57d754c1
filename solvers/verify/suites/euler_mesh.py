"""Compressible flow on meshes of triangles: orders, shocks, conservation.

Adds to what `euler` measures on grids.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sciml.domains import Inflow, Mesh
from sciml.pdes.euler import CompressibleEuler, IdealGas
from sciml.solvers.finite_volume import SOD, STRONG_BLAST, ShockTube, finite_volume_on_mesh
from sciml.solvers.finite_volume.mesh_step import MeshFiniteVolume
from sciml.solvers.verify.certificate import Check, Suites, at_least, at_most
from sciml.solvers.verify.measure import observed_order
from sciml.solvers.verify.suites import euler
from sciml.solvers.verify.suites.euler import vortex

# Mach number at the inner arc of the annulus; its radii.
_MACH, _INNER, _OUTER = 2.25, 1.0, 1.384


def on_meshes(gas: IdealGas) -> list[Check]:
    """Checks of `finite_volume_on_mesh` for a gas of gamma 1.4."""
    vortices = [vortex_error(gas, n) for n in (16, 32)]
    open_arcs, walls = ([annulus_error(gas, n, walls) for n in (6, 12)] for walls in (False, True))
    tubes = [mesh_tube(gas, SOD, n) for n in (40, 80)]
    blast = mesh_tube(gas, STRONG_BLAST, 40)
    found, exact = wedge_pressure(gas)
    drift, stream = closed_drift(gas)
    return [
        at_least(
            "order in space on a vortex, triangles",
            observed_order(vortices),
            1.8,
            "irregular, 16^2 to 32^2 squares, L1, t = 1",
        ),
        at_least(
            "order in space on a steady supersonic vortex, triangles",
            observed_order(open_arcs),
            1.7,
            "irregular, 6x24 to 12x48 squares, L1, exact state beyond all sides",
        ),
        # Walls are polygons.
        at_least(
            "the same between walls", observed_order(walls), 1.6, "irregular, 6x24 to 12x48 squares, L1"
        ),
        at_most(
            "L1 error of Sod's density, triangles", tubes[1][0], 1e-2, "irregular, 80x8 squares, t = 0.2"
        ),
        at_least(
            "order in L1 on Sod's tube, triangles",
            observed_order([tubes[0][0], tubes[1][0]]),
            0.65,
            "irregular, 40 to 80 squares along it",
        ),
        at_least(
            "lowest pressure of a blast of pressures 1e5 apart, triangles",
            blast[1],
            1e-3,
            "irregular, 40x4 squares, 0.01 ahead of it",
        ),
        at_most(
            "pressure behind an oblique shock, triangles",
            abs(found / exact - 1),
            0.02,
            "Mach 2.5 at a wedge of 15 degrees, relative, 40x20 squares",
        ),
        at_most(
            "drift of mass and energy between walls, triangles", drift, 1e-12, "irregular, 20 steps of 0.05"
        ),
        at_most("change of a free stream, triangles", stream, 1e-12, "irregular, t = 1"),
    ]


def irregular(
    shape: tuple[int, int],
    lengths: tuple[float, float],
    origin: tuple[float, float] = (0.0, 0.0),
    jitter: float = 0.2,
    seed: int = 0,
) -> Mesh:
    """Squares with inner nodes moved at random and cut along either diagonal at random."""
    generator = torch.Generator().manual_seed(seed)
    n, m = shape
    index = torch.cartesian_prod(torch.arange(n + 1), torch.arange(m + 1))
    counts = torch.tensor(shape)
    inner = ((index > 0) & (index < counts)).all(dim=1, keepdim=True)
    moves = (2 * torch.rand(index.shape, generator=generator, dtype=torch.float64) - 1) * jitter
    spacing = torch.tensor(lengths, dtype=torch.float64) / counts
    points = (index + moves * inner) * spacing + torch.tensor(origin, dtype=torch.float64)
    a = (torch.arange(n).unsqueeze(1) * (m + 1) + torch.arange(m)).flatten()
    b, c, d = a + m + 1, a + m + 2, a + 1
    rising = (torch.rand(len(a), generator=generator) < 0.5).unsqueeze(1)
    low = torch.where(rising, torch.stack((a, b, c), 1), torch.stack((a, b, d), 1))
    high = torch.where(rising, torch.stack((a, c, d), 1), torch.stack((b, c, d), 1))
    return Mesh(points, torch.cat((low, high)))


def mean(error: Tensor, mesh: Mesh) -> float:
    """Mean of |error| (N,) over the mesh."""
    return float((error.abs() * mesh.weights()).sum() / mesh.volume)


def vortex_error(gas: IdealGas, n: int, **scheme: str) -> float:
    """Mean error of density of the vortex of the suite of grids, with its uniform flow beyond all sides."""
    mesh = irregular((n, n), (10.0, 10.0), (-5.0, -5.0), seed=n)
    far = gas.conservative(torch.ones(1, 4, 1, dtype=torch.float64)).flatten()
    start, end = (vortex(gas, mesh.coordinates(), t) for t in (0.0, 1.0))
    step = finite_volume_on_mesh(gas, mesh, 1.0, sides="far", conditions={"far": Inflow(far)}, **scheme)  # type: ignore[arg-type]
    with torch.no_grad():
        return mean((step(start) - end)[0, 0], mesh)


def annulus(x: Tensor, gas: IdealGas) -> Tensor:
    """Steady supersonic flow in circles, clockwise, at points (2, N): (1, 4, N).

    Isentropic, with the speed as 1/r; density and sound are 1 at the inner radius. Aftosmis, Gaitonde and Tavares, AIAA
    paper 94-0415 (1994).
    """
    gamma = float(gas.gamma)
    r = x.norm(dim=0)
    density = (1 + (gamma - 1) / 2 * _MACH**2 * (1 - (_INNER / r) ** 2)) ** (1 / (gamma - 1))
    speed = _MACH * _INNER / r
    w = torch.stack((density, speed * x[1] / r, -speed * x[0] / r, density**gamma / gamma))
    return gas.conservative(w.unsqueeze(0))


def annulus_error(gas: IdealGas, n: int, walls: bool, **scheme: str) -> float:
    """Mean error of density in a quarter of an annulus after the flow has crossed it once."""
    flat = irregular((n, 4 * n), (1.0, 1.0), seed=n)
    r = _INNER + (_OUTER - _INNER) * flat.points[:, 0]
    angle = math.pi / 2 * (1 - flat.points[:, 1])
    mesh = Mesh(torch.stack((r * angle.cos(), r * angle.sin()), dim=1), flat.cells)
    sides = []
    for _, along in flat.points[flat.boundary_facets].mean(dim=1).tolist():
        on_arc = walls and 1e-9 < along < 1 - 1e-9
        sides.append("wall" if on_arc else "outflow" if walls and along > 0.5 else "in")
    exact = annulus(mesh.coordinates(), gas)
    step = finite_volume_on_mesh(gas, mesh, 1.0, sides=sides, conditions={"in": Inflow(exact[0])}, **scheme)  # type: ignore[arg-type]
    with torch.no_grad():
        return mean((step(exact) - exact)[0, 0], mesh)


def mesh_tube(gas: IdealGas, problem: ShockTube, n: int, **scheme: str) -> tuple[float, float]:
    """Mean error of density in a shock tube of n by n/10 squares, and the lowest pressure."""
    mesh = irregular((n, n // 10), (1.0, 0.1), seed=n)
    ends = [abs(x - 0.5) > 0.5 - 1e-9 for x in mesh.points[mesh.boundary_facets].mean(dim=1)[:, 0].tolist()]
    sides = ["outflow" if end else "wall" for end in ends]

    def state(t: float) -> Tensor:
        density, velocity, pressure = problem.exact(mesh.points[:, 0], t, gamma=float(gas.gamma))
        w = torch.stack((density, velocity, torch.zeros_like(density), pressure))
        return gas.conservative(w.unsqueeze(0))

    step = finite_volume_on_mesh(gas, mesh, problem.time, sides=sides, **scheme)  # type: ignore[arg-type]
    with torch.no_grad():
        found = step(state(0.0))
    return mean((found - state(problem.time))[0, 0], mesh), float(gas.pressure(found).min())


def wedge_mesh(n: int, angle: float) -> tuple[Mesh, list[str]]:
    """A channel of 2 by 1 whose floor rises from x = 0.5 on, and its sides."""
    flat = irregular((2 * n, n), (2.0, 1.0), seed=n)
    x, y = flat.points.T
    rise = (x - 0.5).clamp(min=0.0) * math.tan(angle)
    mesh = Mesh(torch.stack((x, rise + y * (1.0 - rise)), dim=1), flat.cells)
    sides = []
    for along, up in flat.points[flat.boundary_facets].mean(dim=1).tolist():
        floor, ceiling = up < 1e-9, up > 1 - 1e-9
        # What flows over the ceiling has not met the wedge but at its end.
        sides.append("wall" if floor else "outflow" if ceiling or along > 1.0 else "in")
    return mesh, sides


def oblique_shock(mach: float, wedge: float, gamma: float) -> tuple[float, float]:
    """Angle of the weak shock that turns a flow, and the ratio of pressures across it.

    tan(wedge) = 2 cot(beta) (M^2 sin^2 beta - 1) / (M^2 (gamma + cos 2 beta) + 2). Anderson, Modern Compressible Flow
    (2003), equation 4.17; the weak solution lies between the Mach angle and the largest deflection.
    """

    def turned(beta: float) -> float:
        normal = (mach * math.sin(beta)) ** 2
        bottom = mach**2 * (gamma + math.cos(2 * beta)) + 2
        return math.atan(2 / math.tan(beta) * (normal - 1) / bottom)

    low = math.asin(1 / mach)
    steps = [low + (math.pi / 2 - low) * i / 1000 for i in range(1000)]
    high = max(steps, key=turned)
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if turned(middle) < wedge else (low, middle)
    return low, 1 + 2 * gamma / (gamma + 1) * ((mach * math.sin(low)) ** 2 - 1)


def wedge_flow(gas: IdealGas, n: int, **scheme: str) -> tuple[Mesh, Tensor, MeshFiniteVolume]:
    """Mach 2.5 past a wedge of 15 degrees until it is steady: the mesh, the state and the step."""
    mesh, sides = wedge_mesh(n, math.radians(15.0))
    gamma = float(gas.gamma)
    w = torch.tensor([1.0, 2.5, 0.0, 1.0 / gamma], dtype=torch.float64).reshape(1, 4, 1)
    state = gas.conservative(w)
    step = finite_volume_on_mesh(
        gas,
        mesh,
        2.5,
        sides=sides,
        conditions={"in": Inflow(state.flatten())},
        **scheme,  # type: ignore[arg-type]
    )
    with torch.no_grad():
        return mesh, step(state.expand(1, 4, mesh.shape[0]).contiguous()), step


def wedge_pressure(gas: IdealGas) -> tuple[float, float]:
    """Ratio of pressures across the shock at the wedge, in the mean over a piece of the ramp, and exactly."""
    mesh, found, _ = wedge_flow(gas, 20)
    x, y = mesh.points.T
    floor = (x - 0.5).clamp(min=0.0) * math.tan(math.radians(15.0))
    beta, exact = oblique_shock(2.5, math.radians(15.0), float(gas.gamma))
    shock = (x - 0.5) * math.tan(beta)
    behind = (x > 1.0) & (x < 1.6) & (y < floor + 0.5 * (shock - floor))
    pressure = gas.pressure(found)[0, 0] * float(gas.gamma)
    weights = mesh.weights()[behind]
    return float((pressure[behind] * weights).sum() / weights.sum()), exact


def closed_drift(gas: IdealGas) -> tuple[float, float]:
    """Relative drift of mass and energy of random states between walls, and what becomes of a free stream."""
    mesh = irregular((16, 16), (1.0, 1.0))
    generator = torch.Generator().manual_seed(0)
    w = torch.rand(2, 4, mesh.shape[0], generator=generator, dtype=torch.float64)
    start = gas.conservative(torch.cat((0.5 + w[:, :1], w[:, 1:3] - 0.5, 0.5 + w[:, 3:]), dim=1))
    closed = finite_volume_on_mesh(gas, mesh, 0.05, sides="wall")
    flow = gas.conservative(torch.tensor([1.0, 0.7, 0.2, 0.8], dtype=torch.float64).reshape(1, 4, 1))
    opened = finite_volume_on_mesh(gas, mesh, 1.0, sides="far", conditions={"far": Inflow(flow.flatten())})
    with torch.no_grad():
        u = start
        for _ in range(20):
            u = closed(u)
        stream = float((opened(flow.expand(1, 4, mesh.shape[0]).contiguous()) - flow).abs().max())
    totals = [(v * mesh.weights()).sum(-1)[:, [0, 3]] for v in (start, u)]
    return float((totals[1] / totals[0] - 1).abs().max()), stream


def _euler(cls: type[CompressibleEuler]) -> list[Check]:
    return [*euler.SUITES[CompressibleEuler](cls), *on_meshes(cls())]


SUITES: Suites = {CompressibleEuler: _euler}
