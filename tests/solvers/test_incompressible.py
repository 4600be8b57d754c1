"""Incompressible flow between walls and around obstacles on staggered grids."""

from __future__ import annotations

import itertools
import math
import warnings
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from sciml import Grid
from sciml.domains import Inflow, Mesh, MovingWall
from sciml.pdes import Boussinesq, Burgers, NavierStokes, Smoke, rayleigh_benard
from sciml.solvers import build
from sciml.solvers.incompressible import (
    FastPoisson,
    Incompressible,
    block,
    cylinder,
    face_coordinates,
    incompressible,
    staggered,
)
from sciml.solvers.incompressible.rates import Rates
from sciml.solvers.verify import verify
from sciml.solvers.verify.suites.incompressible import (
    settle,
)
from sciml.step import rollout

CLOSED = Grid((16, 16), (1.0, 1.0), boundary="wall", centering="cell")
LID = {"y+": MovingWall((1.0, 0.0))}


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def channel(shape: tuple[int, ...] = (24, 16), bodies: bool = True, **options: object) -> Incompressible:
    """A body in a channel: inflow, outflow, walls, and periodic across in 3D."""
    sides = (("inflow", "outflow"), ("wall", "wall"), ("periodic", "periodic"))
    d = len(shape)
    grid = Grid(shape, (1.5, 1.0, 0.5)[:d], boundary=sides[:d], centering="cell")
    y = grid.axes()[1]
    profile = torch.zeros(d, *shape[1:], dtype=torch.float64)
    profile[0] = (6 * y * (1 - y)).reshape(-1, *[1] * (d - 2))
    inside = [cylinder((0.5, 0.5), 0.15)] if bodies else []
    return incompressible(
        NavierStokes(0.05), grid, 0.02, conditions={"x-": Inflow(profile)}, obstacles=inside, **options
    )  # type: ignore[arg-type]


# The Poisson solver.

PAIRS = [("periodic", "periodic"), *itertools.product(("neumann", "dirichlet"), repeat=2)]


@pytest.mark.parametrize("dense", [0, 64], ids=["fourier", "matrices"])
@pytest.mark.parametrize("shape", [(12, 10), (9, 14), (6, 4, 8)])
def test_poisson_solves_are_exact(shape: tuple[int, ...], dense: int) -> None:
    spacing = (0.1, 0.2, 0.3)[: len(shape)]
    for ends in itertools.product(PAIRS, repeat=len(shape)):
        solve = FastPoisson(shape, spacing, ends, dense=dense)  # type: ignore[arg-type]
        f = noise(2, *shape)
        if solve.singular:
            f = f - f.flatten(1).mean(dim=1).reshape(-1, *[1] * len(shape))
        # Rounding times the condition number of the smallest grids, about 4/h^2.
        assert (solve.laplacian(solve(f)) - f).abs().max() < 1e-12, ends
        # Symmetric: its gradient is itself.
        g = noise(2, *shape, seed=1)
        assert torch.allclose((solve(f) * g).sum(), (f * solve(g)).sum(), rtol=0, atol=1e-11)


def test_fourier_transforms_and_matrices_agree_on_a_long_axis() -> None:
    for ends in itertools.product(PAIRS, repeat=2):
        f = noise(1, 200, 30)
        f = f - f.mean()
        one, other = (
            FastPoisson((200, 30), (0.01, 0.02), ends, dense=n)(f)  # type: ignore[arg-type]
            for n in (0, 1000)
        )
        assert (one - other).abs().max() < 1e-11 * one.abs().max()  # rounding times the condition number


def test_a_mean_is_left_out_where_no_side_holds_the_value() -> None:
    solve = FastPoisson((8, 8), (0.1, 0.1), [("neumann", "neumann")] * 2)
    f = noise(1, 8, 8)
    assert (solve(f) - solve(f - f.mean())).abs().max() < 1e-13
    assert solve(f).mean().abs() < 1e-14


# States without divergence.

CASES = [
    ((16, 12), "periodic"),
    ((16, 12), "wall"),
    ((16, 12), ("periodic", "wall")),
    ((8, 6, 10), "wall"),
    ((8, 6, 10), ("wall", "periodic", "wall")),
]


@pytest.mark.parametrize(("shape", "sides"), CASES)
def test_projection_is_exact_orthogonal_and_idempotent(
    shape: tuple[int, ...], sides: str | tuple[str, ...]
) -> None:
    grid = Grid(shape, (1.0, 1.3, 0.7)[: len(shape)], boundary=sides, centering="cell")  # type: ignore[arg-type]
    step = incompressible(NavierStokes(0.01), grid, 0.1)
    u = noise(2, len(shape), *shape)
    once = step.project(u)
    assert step.divergence(once).abs().max() < 1e-12 * u.abs().max() / min(grid.spacing)
    assert (step.project(once) - once).abs().max() < 1e-13
    held = step._faces.hold(u)
    assert ((held - once) * once).sum().abs() < 1e-11  # the part taken away is a gradient
    rate = step.rate(once)
    assert step.divergence(rate).abs().max() < 1e-11 * rate.abs().max() / min(grid.spacing)
    # Advection moves energy about: <u, rate> is friction alone, and without it zero.
    ideal = incompressible(NavierStokes(0.0), grid, 0.1).rate(once)
    assert (once * ideal).flatten(1).sum(dim=1).abs().max() < 1e-12 * once.norm() * ideal.norm()
    friction = (once * rate).flatten(1).sum(dim=1)
    assert (friction < 0).all()


def test_divergence_stays_at_rounding_over_a_thousand_steps() -> None:
    step = incompressible(NavierStokes(0.01), CLOSED, 0.02, conditions=LID, substeps=1)
    u = step.project(0.5 * noise(1, 2, 16, 16))
    with torch.no_grad():
        for _ in range(1000):
            u = step(u)
    assert step.divergence(u).abs().max() < 1e-12
    assert 0.3 < float(u.abs().max()) < 1.0


def test_cells_and_faces() -> None:
    """Second order both ways, and a uniform stream is kept by both."""
    gaps = []
    for n in (16, 32):
        grid = Grid((n, n), (2 * math.pi,) * 2, centering="cell")
        step = incompressible(NavierStokes(0.1), grid, 0.1)

        def flow(x: Tensor) -> Tensor:
            return torch.stack([torch.sin(x[0]) * torch.cos(x[1]), -torch.cos(x[0]) * torch.sin(x[1])])

        cells, faces = flow(grid.coordinates())[None], staggered(flow, grid)
        gaps.append([float((step.to_cells(faces) - cells).abs().max())])
        gaps[-1].append(float((step.from_cells(cells) - faces).abs().max()))
    for coarse, fine in zip(*gaps, strict=True):
        assert math.log2(coarse / fine) == pytest.approx(2.0, abs=0.1)
    out = channel(bodies=False)
    u = out.project(torch.ones(1, 2, 24, 16, dtype=torch.float64))
    leaves = 2 * out.to_cells(u)[0, 0, -1] - u[0, 0, -1]  # the last faces, by continuity
    assert float(leaves.sum() - u[0, 0, 0].sum()) == pytest.approx(0.0, abs=1e-12)
    grid = CLOSED
    assert torch.equal(face_coordinates(grid, 0)[0, :, 0], torch.arange(16) / 16.0)
    assert torch.equal(face_coordinates(grid, 0)[1], grid.coordinates()[1])


# Exact and published flows. Orders on periodic cells, Couette, Poiseuille, Re 100 and the onset of convection are
# certified by `verify`, see test_verify.


def through_flow(n: int) -> float:
    """Error of Poiseuille flow between inflow and outflow, relative to its peak."""
    grid = Grid((n, n), (1.0, 1.0), boundary=(("inflow", "outflow"), ("wall", "wall")), centering="cell")
    y = grid.axes()[1]
    profile = torch.stack([4 * y * (1 - y), 0 * y])
    step = incompressible(NavierStokes(0.2), grid, 0.5, conditions={"x-": Inflow(profile)})
    u = settle(step, step.project(torch.zeros(1, 2, n, n, dtype=torch.float64)), 1e-9, 30)
    pressure = step.pressure(u)[0, 0]
    drop = float((pressure[0] - pressure[-1]).mean()) / (grid.lengths[0] * (1 - 1 / n))
    assert drop == pytest.approx(8 * 0.2, rel=6.0 / n**2 + 0.05)  # -p_x = 8 nu U/H^2
    return float((u[0, 0, n // 2 :] - profile[0]).abs().max())


def test_poiseuille_flow_passes_through_an_outflow() -> None:
    coarse, fine = through_flow(8), through_flow(16)
    assert fine < 5e-3
    assert math.log2(coarse / fine) > 1.6  # 1.85 from 16 to 32 cells: second order in the end


def test_a_stream_leaves_by_a_low_side_as_by_a_high_one() -> None:
    """Turned round, an outflow at x- gives the mirror image of one at x+ (the faces shift by one)."""
    sides = (("inflow", "outflow"), ("outflow", "inflow"))
    profile = torch.tensor([1.0, 0.0], dtype=torch.float64)
    runs = []
    for (low, high), sign in zip(sides, (1.0, -1.0), strict=True):
        grid = Grid((16, 12), (1.0, 1.0), boundary=((low, high), ("wall", "wall")), centering="cell")
        where = "x-" if low == "inflow" else "x+"
        step = incompressible(NavierStokes(0.05), grid, 0.1, conditions={where: Inflow(sign * profile)})
        u = step.project(
            sign
            * torch.ones(1, 1, 1, 1, dtype=torch.float64)
            * torch.ones(1, 2, 16, 12)
            * profile.reshape(2, 1, 1)
        )
        with torch.no_grad():
            runs.append(step.to_cells(rollout(step, 5)(u)[:, -1]))
    mirrored = torch.cat((-runs[1][:, :1], runs[1][:, 1:]), dim=1).flip(2)
    assert float(runs[0][:, 1].abs().max()) > 0.01  # the profile develops
    assert (runs[0] - mirrored).abs().max() < 1e-12  # rounding


def test_walls_without_friction_let_a_stream_pass() -> None:
    grid = Grid((8, 6), (1.0, 1.0), boundary=(("periodic", "periodic"), ("wall", "wall")), centering="cell")
    u = torch.zeros(1, 2, 8, 6, dtype=torch.float64)
    u[:, 0] = 1.0
    for viscosity in ("explicit", "implicit"):
        slides = incompressible(NavierStokes(0.1), grid, 0.1, slip=("y-", "y+"), viscosity=viscosity)  # type: ignore[arg-type]
        assert (slides(u) - u).abs().max() < 1e-14
        rubs = incompressible(NavierStokes(0.1), grid, 0.1, slip=("y-",), viscosity=viscosity)  # type: ignore[arg-type]
        after = rubs(u)[0, 0, 0]
        assert float(after[0]) > float(after[-1]) and float(after[-1]) < 0.9


def test_a_cavity_in_3d_between_mirrors_is_the_cavity_in_2d() -> None:
    flat = incompressible(NavierStokes(0.02), CLOSED, 0.2, conditions=LID, substeps=8)
    grid = Grid((16, 16, 3), (1.0, 1.0, 0.4), boundary="wall", centering="cell")
    lid = {"y+": MovingWall((1.0, 0.0, 0.0))}
    deep = incompressible(NavierStokes(0.02), grid, 0.2, conditions=lid, slip=("z-", "z+"), substeps=8)
    with torch.no_grad():
        u = rollout(flat, 3)(torch.zeros(1, 2, 16, 16, dtype=torch.float64))[:, -1]
        v = rollout(deep, 3)(torch.zeros(1, 3, 16, 16, 3, dtype=torch.float64))[:, -1]
    assert (v[:, :2] - u.unsqueeze(-1)).abs().max() < 1e-13
    assert v[:, 2].abs().max() < 1e-14


def test_axes_can_be_exchanged() -> None:
    """A lid that slides along y past the side x+ drives the transposed flow."""
    step = incompressible(NavierStokes(0.02), CLOSED, 0.1, conditions=LID)
    turned = incompressible(NavierStokes(0.02), CLOSED, 0.1, conditions={"x+": MovingWall((0.0, 1.0))})
    u = step.project(noise(1, 2, 16, 16))
    swapped = u.flip(1).transpose(2, 3)
    assert (turned(swapped).flip(1).transpose(2, 3) - step(u)).abs().max() < 1e-13


@pytest.mark.parametrize("viscosity", ["explicit", "implicit"])
def test_order_in_time_between_moving_and_heated_walls(viscosity: str) -> None:
    pde = Boussinesq(0.02, 0.02, 1.0)
    options = {"conditions": {"y+": MovingWall((0.5, 0.0))}, "held": {"y-": 1.0, "y+": -1.0}}
    grid = Grid((12, 10), (1.0, 1.0), boundary="wall", centering="cell")

    def make(n: int, kind: str) -> Incompressible:
        return incompressible(pde, grid, 0.4, substeps=n, viscosity=kind, **options)  # type: ignore[arg-type]

    with torch.no_grad():
        u = make(32, "explicit")(make(32, "explicit").project(0.3 * noise(1, 3, 12, 10)))
        reference = make(256, "explicit")(u)
        gaps = [float((make(n, viscosity)(u) - reference).abs().max()) for n in (16, 32)]
    # Three for SSPRK3 with exact projections; two for Crank-Nicolson and the corrected pressure.
    assert math.log2(gaps[0] / gaps[1]) == pytest.approx(3.0 if viscosity == "explicit" else 2.0, abs=0.35)


def test_long_steps_of_a_viscous_flow_are_taken_implicitly() -> None:
    fine = Grid((48, 48), (1.0, 1.0), boundary="wall", centering="cell")
    auto = build(NavierStokes(1.0), fine, 0.05)
    assert "Crank-Nicolson" in auto.method and "implicit" in auto.reason
    assert "SSPRK3" in build(NavierStokes(1e-4), fine, 0.05).method


# Obstacles.


@pytest.mark.parametrize("shape", [(24, 16), (16, 12, 6)])
def test_bodies_stop_the_flow_exactly(shape: tuple[int, ...]) -> None:
    step = channel(shape)
    assert step.bodies is not None
    u = step.project(noise(2, len(shape), *shape) + 1.0)
    for _ in range(3):
        u = step(u)
    assert (u * step.bodies.closed).abs().max() == 0.0
    assert step.divergence(u).abs().max() < 1e-12 * u.abs().max() / min(step.grid.spacing)


def test_direct_and_iterative_pressures_around_bodies_agree() -> None:
    step = channel((24, 16))
    direct, iterative = step.bodies, channel((24, 16)).bodies
    assert direct is not None and iterative is not None
    iterative.iterative = True
    f = noise(3, 24, 16) * ~direct.solid
    fluid = ~direct.solid
    gap = ((direct.solve(f) - iterative.solve(f)) * fluid).abs().max()
    assert gap < 1e-11 * direct.solve(f).abs().max()  # tolerance 1e-13 times the condition number
    f.requires_grad_()
    g = noise(3, 24, 16, seed=1) * fluid
    gradients = [torch.autograd.grad((b.solve(f) * g).sum(), f)[0] * fluid for b in (direct, iterative)]
    assert (gradients[0] - gradients[1]).abs().max() < 1e-11 * gradients[0].abs().max()
    bad = f.detach().clone()
    bad[1] = math.nan
    found = iterative.solve(bad)
    assert torch.isfinite(found[[0, 2]]).all() and torch.isnan(found[1]).all()


def test_forces_balance_the_momentum_of_a_periodic_box() -> None:
    """d/dt of the momentum is the driving force minus what the bodies take."""
    grid = Grid((20, 16), (1.0, 1.0), centering="cell")
    push = torch.tensor([0.3, -0.1], dtype=torch.float64).reshape(1, 2, 1, 1)
    bodies = [cylinder((0.3, 0.3), 0.12), block((0.6, 0.6), (0.8, 0.9))]
    step = incompressible(NavierStokes(0.03, forcing=push), grid, 0.02, obstacles=bodies)
    u = step(step.project(noise(2, 2, 20, 16)))
    forces = step.forces(u)
    assert forces.shape == (2, 2, 2)
    gained = step.rate(u).flatten(2).sum(dim=2) * math.prod(grid.spacing)
    assert (gained - (push.flatten(1) * grid.volume - forces.sum(dim=1))).abs().max() < 1e-12


def test_a_block_between_walls_drags_as_the_pressure_drops() -> None:
    """In a steady channel what pressure and inflow bring is what walls, body and outflow take; lift is zero."""
    step = channel((24, 16))
    start = torch.ones(1, 2, 24, 16, dtype=torch.float64)
    start[:, 1] = 0.0
    u = settle(step, step.project(start), 1e-7, 400)
    drag, lift = step.forces(u)[0, 0].tolist()
    assert abs(lift) < 1e-10 and drag > 0
    hx, hy = step.grid.spacing
    p, face = step.pressure(u)[0, 0], u[0, 0]
    exit = step._faces.exit_of(u)
    assert exit is not None
    out = exit.flatten()
    # Momentum of the control volumes of the faces 1..N-1, from the first to the last cell centre.
    middle = [0.5 * (face[0] + face[1]), 0.5 * (face[-1] + out)]
    flux = hy * ((middle[0] ** 2 - middle[1] ** 2).sum() + (p[0] - p[-1]).sum())
    flux = flux - 0.05 * hy / hx * ((face[1] - face[0]).sum() - (out - face[-1]).sum())
    walls = 0.05 * hx / hy * 2 * (face[1:, 0] + face[1:, -1]).sum()
    assert float(flux - walls) == pytest.approx(drag, rel=1e-5)  # as steady as it has become


def test_scalars_do_not_enter_bodies() -> None:
    grid = Grid((16, 16), (1.0, 1.0), boundary="wall", centering="cell")
    step = incompressible(Smoke(0.01, 0.01), grid, 0.2, obstacles=[block((0.3, 0.4), (0.7, 0.6))])
    assert step.bodies is not None
    u = torch.zeros(1, 3, 16, 16, dtype=torch.float64)
    u[:, 2, :, :4] = 1.0
    v = u
    for _ in range(4):
        v = step(v)
    solid = step.bodies.solid
    assert v[:, 2][:, solid].abs().max() == 0.0
    assert float(v[:, 2].sum()) == pytest.approx(float(u[:, 2].sum()), rel=1e-13)
    assert float(v[:, :2].abs().max()) > 1e-3


# Buoyancy.


def test_warm_fluid_rises() -> None:
    step = build(Boussinesq(0.01, 0.01, 0.5), CLOSED, 0.2)
    u = torch.zeros(1, 3, 16, 16, dtype=torch.float64)
    x = CLOSED.coordinates()
    u[0, 2] = torch.exp(-40 * ((x[0] - 0.5) ** 2 + (x[1] - 0.4) ** 2))
    v = step(u)
    assert float((v[0, 1] * u[0, 2]).sum()) > 0.1
    assert float((v[0, 2] * x[1]).sum() / v[0, 2].sum()) > 0.4  # and carries its heat along


def test_smoke_keeps_its_bounds_and_its_sum() -> None:
    """Limited fluxes make no new extremes where central ones do; both keep the sum."""
    grid = Grid((32, 32), (32.0, 32.0), boundary="wall", centering="cell")
    u = torch.zeros(1, 3, 32, 32, dtype=torch.float64)
    u[:, 2, 12:20, 4:12] = 1.0
    ends = {}
    for kind in ("limited", "central"):
        step = incompressible(Smoke(0.01, 0.0, 0.5), grid, 1.5, scalar_flux=kind)  # type: ignore[arg-type]
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            v = rollout(step, 6)(u)[:, -1]
        assert float(v[:, 2].sum()) == pytest.approx(64.0, rel=1e-13)
        ends[kind] = v[:, 2]
    assert float(ends["limited"].min()) > -1e-10 and float(ends["limited"].max()) < 1 + 1e-10
    assert float(ends["central"].min()) < -1e-2
    assert float(ends["limited"].mul(grid.coordinates()[1]).sum()) > 64 * 8.2  # it has risen from 8


@dataclass(frozen=True)
class Sinking(Boussinesq):
    """Buoyancy of the wrong sign, on nodes and on faces."""

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "buoyancy", -self.buoyancy)

    def exact(self, x: Tensor, t: Tensor | float) -> Tensor:
        right = Boussinesq(self.viscosity, self.diffusivity, -self.buoyancy, self.gradient)
        return right.exact(x, t)


def test_buoyancy_of_the_wrong_sign_fails() -> None:
    failed = {c.name for c in verify(Sinking).checks if not c.passed}
    assert {
        "error against an internal wave",
        "order in space on faces in 2D",
        "error of the critical Rayleigh number",
    } <= failed


def test_negative_friction_or_advection_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Signs inside the staggered scheme itself, where an exact solution of another equation cannot hide them."""
    pde = NavierStokes(0.05)
    grid = Grid((24, 24), (2 * math.pi,) * 2, centering="cell")

    def error() -> float:
        start, end = (staggered(lambda x, t=t: pde.exact(x[None], t)[0], grid) for t in (0.0, 0.3))
        step = incompressible(pde, grid, 0.3, compiled=False)
        return float((step(start) - end).abs().max())

    right = error()
    assert right < 0.01
    # Ten per cent of viscosity too much.
    start, end = (staggered(lambda x, t=t: pde.exact(x[None], t)[0], grid) for t in (0.0, 0.3))
    assert float((build(NavierStokes(0.055), grid, 0.3)(start) - end).abs().max()) > 1.2 * right
    friction, explicit = Rates.add_friction, Rates.add_explicit
    for name, method in (("add_friction", friction), ("add_explicit", explicit)):
        with monkeypatch.context() as patch:
            patch.setattr(Rates, name, lambda self, new, u, wide, h, f=method: f(self, new, u, wide, -h))
            assert error() > 3 * right


# Derivatives.


@pytest.mark.parametrize(
    "kind", ["walls", "implicit", "channel", "iterative", "limited", "3d", "inflow at both ends"]
)
def test_gradcheck_of_a_step(kind: str) -> None:
    small = Grid((4, 5), (1.0, 1.0), boundary="wall", centering="cell")
    if kind == "channel" or kind == "iterative":
        step = channel((8, 6), substeps=1)
        assert step.bodies is not None
        step.bodies.iterative = kind == "iterative"
    elif kind == "3d":
        grid = Grid((3, 4, 3), (1.0, 1.0, 1.0), ("wall", "periodic", "wall"), centering="cell")  # type: ignore[arg-type]
        step = incompressible(Boussinesq(0.02, 0.03, 1.0, 0.3), grid, 0.01, substeps=1)
    elif kind == "inflow at both ends":
        grid = Grid((5, 4), (1.0, 1.0), (("inflow", "inflow"), ("wall", "wall")), centering="cell")
        through = {side: Inflow((1.0, 0.1)) for side in ("x-", "x+")}
        step = incompressible(NavierStokes(0.1), grid, 0.01, conditions=through, substeps=1)
    else:
        step = incompressible(
            Boussinesq(0.02, 0.03, 1.0),
            small,
            0.05,
            held={"y-": 1.0},
            substeps=2,
            viscosity="implicit" if kind == "implicit" else "explicit",
            scalar_flux="limited" if kind == "limited" else "central",
        )
    u = noise(1, len(step.channels), *step.grid.shape).requires_grad_()
    assert torch.autograd.gradcheck(step, (u,), atol=1e-7, fast_mode=True)


def test_gradients_reach_viscosity_buoyancy_and_force() -> None:
    u = 0.5 * noise(2, 3, 6, 5)
    grid = Grid((6, 5), (1.0, 1.0), boundary="wall", centering="cell")

    def run(nu: Tensor, b: Tensor) -> Tensor:
        pde = Boussinesq(nu, 0.02, b)
        return incompressible(pde, grid, 0.05, substeps=2, viscosity="explicit")(u)

    nu = torch.tensor([[0.02], [0.05]], dtype=torch.float64, requires_grad=True)
    b = torch.tensor([[1.0], [0.4]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(run, (nu, b), fast_mode=True)
    # Each sample by its own numbers.
    alone = incompressible(Boussinesq(0.05, 0.02, 0.4), grid, 0.05, substeps=2, viscosity="explicit")(u[1:])
    assert (run(nu, b)[1:] - alone).abs().max() < 1e-14

    def pushed(force: Tensor) -> Tensor:
        return incompressible(NavierStokes(0.02, forcing=force), grid, 0.05, substeps=1)(u[:, :2])

    assert torch.autograd.gradcheck(pushed, (0.1 * noise(1, 2, 6, 5).requires_grad_(),), fast_mode=True)


def test_gradient_of_a_hundred_steps_of_a_cavity() -> None:
    """The energy in the end by the strength of a vortex in the beginning, against central differences."""
    step = incompressible(NavierStokes(0.01), CLOSED, 0.05, conditions=LID, substeps=1)
    vortex = step.project(noise(1, 2, 16, 16))

    def energy(strength: Tensor) -> Tensor:
        u = strength * vortex
        for _ in range(100):
            u = step(u)
        return step.energy(u).sum()

    at = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(energy(at), at)
    with torch.no_grad():
        h = 1e-4
        difference = (energy(at + h) - energy(at - h)) / (2 * h)
    # The error of a central difference is h^2 of the third derivative, a few 1e-8 of the value.
    assert float(gradient) == pytest.approx(float(difference), rel=1e-6)


# Batches, precision and compiled loops.


@pytest.mark.parametrize("shape", [(9, 12), (6, 7, 5)])
@pytest.mark.parametrize("viscosity", ["explicit", "implicit"])
def test_compiled_loops_equal_tensors(shape: tuple[int, ...], viscosity: str) -> None:
    pytest.importorskip("numba")
    d = len(shape)
    numbers = (
        torch.tensor([0.02, 0.05], dtype=torch.float64),
        torch.tensor([[1.0], [2.0]], dtype=torch.float64),
    )
    pdes = (
        NavierStokes(0.05, 0.1, forcing=noise(1, d, *shape)),
        Boussinesq(numbers[0], 0.03, numbers[1], 0.4),
    )
    for sides, pde in itertools.product(itertools.product(("periodic", "wall"), repeat=d), pdes):
        grid = Grid(shape, (1.0, 1.3, 0.8)[:d], boundary=sides, centering="cell")  # type: ignore[arg-type]
        loops, tensors = (
            incompressible(pde, grid, 0.01, substeps=2, viscosity=viscosity, compiled=c)  # type: ignore[arg-type]
            for c in (True, False)
        )
        u = loops.project(noise(2, len(loops.channels), *shape))
        assert loops._flow(u) is not None
        assert (loops(u) - tensors(u)).abs().max() < 1e-13, sides  # rounding
    for bodies in (True, False):
        loops, tensors = (channel((24, 16), bodies, compiled=c, substeps=4) for c in (True, False))
        u = loops.project(0.3 * noise(2, 2, 24, 16) + 0.5)
        assert (loops(u) - tensors(u)).abs().max() < 1e-12
        single = loops(u.float())
        assert single.dtype == torch.float32 and (single - tensors(u.float())).abs().max() < 1e-5


@pytest.mark.parametrize("kind", ["plain", "central", "limited"])
@pytest.mark.parametrize("shape", [(12, 9), (9, 12), (10, 6, 7), (6, 7, 10), (7, 10, 6)])
def test_compiled_loops_equal_tensors_around_bodies_and_through_openings(
    shape: tuple[int, ...], kind: str
) -> None:
    """Streams along the longest axis, both ways, past a body on a wall."""
    pytest.importorskip("numba")
    d, along = len(shape), shape.index(max(shape))
    wall = (along + 1) % d
    others = [n for axis, n in enumerate(shape) if axis != along]
    channels = d if kind == "plain" else d + 1
    for ends, sign in ((("inflow", "outflow"), 1.0), (("outflow", "inflow"), -1.0)):
        sides: list[str | tuple[str, str]] = ["periodic"] * d
        sides[along], sides[wall] = ends, "wall"
        grid = Grid(shape, tuple(0.1 * n for n in shape), boundary=tuple(sides), centering="cell")  # type: ignore[arg-type]
        low, high = [0.3 * n for n in grid.lengths], [0.7 * n for n in grid.lengths]
        low[wall] = -0.1
        enters = 0.1 * noise(channels, *others, seed=1)
        enters[along] += sign
        pde = (
            NavierStokes(0.05, 0.3, forcing=noise(2, d, *shape, seed=2))
            if kind == "plain"
            else Boussinesq(0.05, 0.03, torch.tensor([1.0, 2.0]), 0.4)
        )
        held = None if kind == "plain" else {"xyz"[wall] + "-": noise(*shape[:wall], *shape[wall + 1 :])}
        side = "xyz"[along] + ("-" if sign > 0 else "+")
        for bodies in ([], [block(low, high)]):
            loops, tensors = (
                incompressible(
                    pde,
                    grid,
                    0.01,
                    conditions={side: Inflow(enters)},
                    held=held,
                    obstacles=bodies,
                    substeps=2,
                    viscosity="explicit",
                    scalar_flux="limited" if kind == "limited" else "central",
                    compiled=c,
                )
                for c in (True, False)
            )
            u = tensors.project(0.3 * noise(2, channels, *shape))
            assert loops._flow(u) is not None
            assert (loops(u) - tensors(u)).abs().max() < 1e-13  # rounding
            if d == 2:
                assert (loops(u.float()) - tensors(u.float())).abs().max() < 2e-5


def test_compiled_loops_follow_parameters_that_learn() -> None:
    """Forces and viscosities that change in place count at once, and derivatives by them take tensors."""
    pytest.importorskip("numba")
    force = noise(1, 2, 16, 16).requires_grad_()
    nu = torch.tensor([0.02, 0.03], dtype=torch.float64, requires_grad=True)
    step = incompressible(NavierStokes(nu, forcing=force), CLOSED, 0.01, substeps=1, viscosity="explicit")
    u = step.project(0.3 * noise(2, 2, 16, 16))
    assert step._flow(u) is None and step(u).requires_grad
    with torch.no_grad():
        for _ in range(2):
            assert step._flow(u) is not None
            fresh = NavierStokes(nu.clone(), forcing=force.clone())
            tensors = incompressible(fresh, CLOSED, 0.01, substeps=1, viscosity="explicit", compiled=False)
            assert (step(u) - tensors(u)).abs().max() < 1e-13
            force += 1.0
            nu *= 0.5


def test_samples_do_not_touch_each_other() -> None:
    step = channel((24, 16), substeps=4)
    u = step.project(0.3 * noise(3, 2, 24, 16) + 0.5)
    together = step(u)
    for i in range(3):
        assert (step(u[i : i + 1]) - together[i : i + 1]).abs().max() < 1e-13
    bad = u.clone()
    bad[1] *= math.inf
    free = channel((24, 16))
    one, other = free(bad), free(u[[0, 2]])
    assert not torch.isfinite(one[1]).any() or not torch.isfinite(one[1]).all()
    assert (one[[0, 2]] - other).abs().max() < 1e-12
    # A sample too fast for the allowed number of substeps is lost, alone.
    wild = u.clone()
    wild[0] *= 1e9
    quick = channel((24, 16), max_substeps=50)
    lost = quick(wild)
    assert torch.isnan(lost[0]).any() and torch.isfinite(lost[1:]).all()


def test_single_precision_follows_double() -> None:
    step = channel((24, 16), substeps=4)
    u = step.project(0.3 * noise(1, 2, 24, 16) + 0.5)
    single = step(u.float())
    assert single.dtype == torch.float32
    assert (single.double() - step(u)).abs().max() < 1e-5  # rounding 6e-8 times speeds over spacings


def test_substeps_follow_the_fastest_sample() -> None:
    slow, fast = (incompressible(NavierStokes(1e-3), CLOSED, 0.5) for _ in range(2))
    u = slow.project(0.1 * noise(1, 2, 16, 16))
    assert float(fast.courant(10 * u)) > 5 * float(slow.courant(u))
    assert torch.isfinite(fast(10 * u)).all()
    with pytest.raises(ValueError, match="times the limit of stability; use at least"):
        incompressible(NavierStokes(1e-3), CLOSED, 5.0, substeps=1)(10 * u)


# Refusals and warnings.

OPEN = Grid((8, 8), (1.0, 1.0), (("inflow", "outflow"), ("wall", "wall")), centering="cell")
BOTH = Grid((8, 8), (1.0, 1.0), (("inflow", "inflow"), ("wall", "wall")), centering="cell")
ENTER = {"x-": Inflow((1.0, 0.0))}


@pytest.mark.parametrize(
    ("grid", "options", "message"),
    [
        (OPEN, {}, "'x-': Inflow"),
        (
            OPEN,
            {"conditions": ENTER, "obstacles": [block((-0.1, 0.3), (0.3, 0.6))]},
            "on the side x-, an 'inflow'",
        ),
        (
            OPEN,
            {"conditions": ENTER, "obstacles": [block((0.8, 0.3), (1.1, 0.6))]},
            "on the side x[+], an 'outflow'",
        ),
        (
            BOTH,
            {"conditions": {**ENTER, "x+": Inflow((-1.0, 0.0))}},
            "net flux of 2 into a box without an outflow: x- brings",
        ),
        (CLOSED, {"obstacles": [cylinder((5.0, 5.0), 0.1)]}, "without a single cell inside"),
        (
            CLOSED,
            {"obstacles": [torch.ones(4, 4, dtype=torch.bool)]},
            r"shape \(4, 4\); expected \(16, 16\)",
        ),
        (CLOSED, {"obstacles": [torch.ones(16, 16, dtype=torch.bool)]}, "fill the whole grid"),
        (CLOSED, {"obstacles": [torch.ones(16, 16)]}, "expected a boolean mask"),
        (CLOSED, {"obstacles": [block((0.2, 0.2), (0.5, 0.5))] * 2}, "share"),
        (CLOSED, {"slip": ("x",)}, "slip sides"),
        (CLOSED, {"slip": ("y+",), "conditions": LID}, "without friction moves nothing"),
        (CLOSED, {"held": {"y-": 1.0}}, "without a scalar"),
        (CLOSED, {"conditions": {"y+": MovingWall((0.0, 1.0))}}, "through itself"),
        (CLOSED, {"viscosity": "none"}, "viscosity='none'"),
        (CLOSED, {"cfl": 1.5}, "cfl=1.5"),
        (CLOSED, {"dt": 0.0}, "positive time"),
        (
            OPEN,
            {"conditions": ENTER, "viscosity": "implicit"},
            "implicit' with obstacles or an outflow",
        ),
        (replace(CLOSED, boundary="neumann"), {}, "got sides .*neumann"),
        (replace(CLOSED, centering="node"), {}, "grid of nodes"),
        (
            Grid((8, 8), (1.0, 1.0), "outflow", centering="cell"),
            {},
            "high end of two axes",
        ),
        (Grid((8,), (1.0,), centering="cell"), {}, "1 axes"),
    ],
)
def test_bad_input_is_refused(grid: Grid, options: dict[str, object], message: str) -> None:
    dt = options.pop("dt", 0.1)
    with pytest.raises(ValueError, match=message):
        incompressible(NavierStokes(0.1), grid, dt, **options)  # type: ignore[arg-type]


def test_other_equations_meshes_shapes_and_forces_are_refused() -> None:
    with pytest.raises(ValueError, match="got Burgers; it solves NavierStokes and Boussinesq"):
        incompressible(Burgers(0.1), CLOSED, 0.1)  # type: ignore[arg-type]
    mesh = Mesh(torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), torch.tensor([[0, 1, 2]]))
    with pytest.raises(ValueError, match="got a Mesh; it needs a Grid of cells"):
        incompressible(NavierStokes(), mesh, 0.1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="got a state of shape"):
        build(NavierStokes(), CLOSED, 0.1)(torch.zeros(1, 3, 16, 16))
    with pytest.raises(ValueError, match="forcing field of shape"):
        incompressible(NavierStokes(forcing=torch.zeros(1, 2, 4, 4)), CLOSED, 0.1)
    with pytest.raises(ValueError, match="positive number"):
        rayleigh_benard(-1.0)
    with pytest.raises(ValueError, match="without obstacles"):
        incompressible(NavierStokes(), CLOSED, 0.1).forces(torch.zeros(1, 2, 16, 16))
    with pytest.raises(ValueError, match="Dirichlet|got sides"):
        build(NavierStokes(), replace(CLOSED, boundary="dirichlet"), 0.1)
    with pytest.raises(ValueError, match="radius=-1"):
        cylinder((0.0, 0.0), -1.0)


def test_coarse_grids_are_told_with_numbers() -> None:
    thin = incompressible(NavierStokes(1e-5), CLOSED, 0.01, conditions=LID)
    u = torch.zeros(1, 2, 16, 16, dtype=torch.float64)
    # h U/nu = 1/16/1e-5, and 5 sqrt(1e-5) * 16 cells.
    with pytest.warns(
        UserWarning,
        match=r"at x-, x[+], y-, y[+] has about 0.25 cells .* cell Reynolds number is 6.25e\+03",
    ):
        thin(u)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        thin(u)  # once
        incompressible(NavierStokes(0.05), CLOSED, 0.01, conditions=LID)(u)
    periodic = incompressible(NavierStokes(1e-4), replace(CLOSED, boundary="periodic"), 0.01)
    with pytest.warns(UserWarning, match="cell Reynolds number is 625 at U = 1"):
        periodic(torch.ones(1, 2, 16, 16, dtype=torch.float64))
