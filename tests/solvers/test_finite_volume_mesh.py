"""Finite volumes on meshes of triangles."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from sciml import Grid, Mesh
from sciml.domains import Inflow, MovingWall, NodeType
from sciml.pdes import (
    CompressibleEuler,
    CompressibleNavierStokes,
    ConservationLaw,
    InviscidBurgers,
    ScalarLaw,
    ShallowWater,
)
from sciml.pdes.parameters import Parameter
from sciml.solvers import build
from sciml.solvers.finite_element import box, channel_with_cylinder, rectangle
from sciml.solvers.finite_volume import (
    SOD,
    STRONG_BLAST,
    MedianDual,
    MeshFiniteVolume,
    facet_sides,
    finite_volume_on_mesh,
    median_dual,
)
from sciml.trajectory import Field

EULER = CompressibleEuler()
LIMITERS = ("monotonised", "barth-jespersen", "venkatakrishnan", "none")
FLOW = EULER.conservative(torch.tensor([1.0, 0.7, 0.2, 0.8], dtype=torch.float64).reshape(1, 4, 1))


@dataclass(frozen=True)
class Carried(ScalarLaw):
    """Advection, f(u) = u."""

    def flow(self, u: Tensor) -> Tensor:
        return u

    def speed(self, u: Tensor) -> Tensor:
        return torch.ones_like(u)

    @property
    def sonic_points(self) -> tuple[Parameter, ...]:
        return ()


@cache
def channel() -> Mesh:
    """A coarse channel with an obstacle, about 400 nodes."""
    return channel_with_cylinder(spacing=0.1)


def gas(mesh: Mesh, samples: int = 1, seed: int = 0) -> Tensor:
    """Random states that jump from node to node (B, 4, N)."""
    generator = torch.Generator().manual_seed(seed)
    w = torch.rand(samples, 4, mesh.shape[0], generator=generator, dtype=torch.float64)
    return EULER.conservative(torch.cat((0.5 + w[:, :1], w[:, 1:3] - 0.5, 0.5 + w[:, 3:]), dim=1))


def smooth(mesh: Mesh) -> Tensor:
    x, y = mesh.points.T
    w = torch.stack((1 + 0.1 * torch.sin(2 * x + y), 0.3 + 0.1 * y, 0.2 * torch.cos(x), 1 + 0.1 * x * y))
    return EULER.conservative(w.unsqueeze(0))


# --- Geometry -------------------------------------------------------------------------------------


def test_control_volumes_are_closed_and_share_the_weights_of_the_mesh() -> None:
    mesh = channel()
    dual = median_dual(mesh)
    # Sums of about ten normals.
    assert float((dual.divergence((dual.normal * dual.area)[None]) * dual.volume).abs().max()) < 1e-15
    assert torch.equal(dual.volume, mesh.weights())
    outward = (dual.normal * dual.area)[:, dual.edges :]
    middles = mesh.points[mesh.boundary_facets].mean(dim=1)[dual.facet].T
    # The divergence theorem for the position, whose divergence is 2.
    assert float((outward * middles).sum()) == pytest.approx(2 * mesh.volume, rel=1e-13)


def test_gradients_of_linear_fields_are_exact() -> None:
    mesh = channel()
    x, y = mesh.points.T
    field = torch.stack((2 + 3 * x - 1.5 * y, 0.3 * y)).unsqueeze(0)
    found = median_dual(mesh).gradient(field)[0]
    expected = torch.tensor([[3.0, -1.5], [0.0, 0.3]], dtype=torch.float64).unsqueeze(-1)
    assert float((found - expected).abs().max()) < 1e-12


@pytest.mark.parametrize("limiter", ["monotonised", "none"])
def test_fluxes_of_linear_fields_are_exact(limiter: str) -> None:
    # Of advection the divergence of a linear field is one number, also in the half volumes on the boundary.
    mesh = channel()
    x, y = mesh.points.T
    u = (2 + 3 * x - 1.5 * y).reshape(1, 1, -1)
    law = Carried(direction=(0.7, 0.4))
    step = finite_volume_on_mesh(
        law, mesh, 0.1, limiter=limiter, sides="in", conditions={"in": Inflow(u[0])}
    )
    assert float((step.rate(u) + 0.7 * 3 - 0.4 * 1.5).abs().max()) < 1e-11


# --- Conservation and symmetry --------------------------------------------------------------------


@pytest.mark.parametrize("limiter", LIMITERS)
def test_a_free_stream_stays_and_closed_walls_keep_mass_and_energy(limiter: str) -> None:
    mesh = channel()
    stream = FLOW.expand(1, 4, mesh.shape[0]).contiguous()
    step = finite_volume_on_mesh(
        EULER, mesh, 0.1, limiter=limiter, sides="far", conditions={"far": Inflow(FLOW.flatten())}
    )
    # Roundings of some substeps.
    assert float((step(stream) - stream).abs().max()) < 1e-13
    assert step.last_substeps > 5
    closed = finite_volume_on_mesh(EULER, mesh, 0.03, limiter=limiter, sides="wall")
    u = start = gas(mesh, samples=2)
    for _ in range(3):
        u = closed(u)
    kept = ((u - start) * mesh.weights()).sum(-1) / (start.abs() * mesh.weights()).sum(-1)
    assert float(kept[:, [0, 3]].abs().max()) < 1e-14
    assert float(kept[:, 1].abs().max()) > 1e-4  # walls push


def test_the_solution_turns_with_the_mesh() -> None:
    mesh, angle = channel(), 0.7
    turn = torch.tensor(
        [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]], dtype=torch.float64
    )
    turned = Mesh(mesh.points @ turn.T, mesh.cells, mesh.node_type)

    def rotate(u: Tensor) -> Tensor:
        return torch.cat((u[:, :1], torch.einsum("ij,bjn->bin", turn, u[:, 1:3]), u[:, 3:]), dim=1)

    u, state = gas(mesh), FLOW
    here = finite_volume_on_mesh(
        EULER, mesh, 0.02, conditions={"inflow": Inflow(state.flatten())}, substeps=4
    )
    there = finite_volume_on_mesh(
        EULER, turned, 0.02, conditions={"inflow": Inflow(rotate(state).flatten())}, substeps=4
    )
    # Roundings that limiters pass on.
    assert float((rotate(here(u)) - there(rotate(u))).abs().max()) < 1e-11


def test_samples_do_not_see_each_other_and_single_precision_follows_double() -> None:
    mesh = channel()
    step = finite_volume_on_mesh(EULER, mesh, 0.05, conditions={"inflow": Inflow(FLOW.flatten())})
    u = gas(mesh, samples=3)
    u[1] = FLOW[0]
    together = step(u)
    apart = torch.cat([step(u[i : i + 1]) for i in range(3)])
    assert torch.allclose(together, apart, rtol=0, atol=1e-14)
    single = step(u.float())
    assert single.dtype == torch.float32
    assert float((single - together).abs().max()) < 1e-4


# --- Accuracy -------------------------------------------------------------------------------------
# Orders on smooth flows, walls that bend and oblique shocks are in the certificate.


def tube(problem: object, n: int, **scheme: object) -> tuple[Tensor, Tensor, MeshFiniteVolume]:
    from sciml.solvers.verify.suites.euler_mesh import irregular

    mesh = irregular((n, max(4, n // 10)), (1.0, max(4, n // 10) / n))
    x = mesh.points[:, 0]
    middles = mesh.points[mesh.boundary_facets].mean(dim=1)[:, 0]
    sides = ["outflow" if abs(float(m) - 0.5) > 0.5 - 1e-9 else "wall" for m in middles]

    def state(t: float) -> Tensor:
        r, v, p = problem.exact(x, t)  # type: ignore[attr-defined]
        return EULER.conservative(torch.stack((r, v, torch.zeros_like(v), p)).unsqueeze(0))

    step = finite_volume_on_mesh(EULER, mesh, problem.time, sides=sides, **scheme)  # type: ignore[attr-defined, arg-type]
    found = step(state(0.0))
    return found, ((found - state(problem.time))[0, 0].abs() * mesh.weights()).sum() / mesh.volume, step  # type: ignore[attr-defined]


@pytest.mark.parametrize("riemann", ["hllc", "hll", "roe", "rusanov"])
def test_sods_tube(riemann: str) -> None:
    found, error, step = tube(SOD, 40, riemann=riemann)
    assert float(error) < 2e-2
    assert bool(EULER.admissible(found).all()) and step.fallbacks == 0


@pytest.mark.parametrize("limiter", ["monotonised", "none"])
def test_a_strong_blast_stays_positive(limiter: str) -> None:
    # Without a limiter states go negative, and first-order fluxes must come to help.
    found, error, step = tube(STRONG_BLAST, 30, limiter=limiter)
    assert step.lost is None and bool(EULER.admissible(found).all())
    assert float(error) < 0.4
    assert step.fallbacks > 0


def test_shallow_water_breaks_a_dam_like_the_grid() -> None:
    from sciml.solvers.finite_volume import dam_break
    from sciml.solvers.verify.suites.euler_mesh import irregular

    mesh = irregular((60, 6), (10.0, 1.0))
    x = mesh.points[:, 0]
    law = ShallowWater()
    u = torch.stack((torch.where(x < 5, 2.0, 1.0).double(), 0 * x, 0 * x)).unsqueeze(0)
    found = finite_volume_on_mesh(law, mesh, 0.6, sides="wall")(u)
    exact = dam_break((2.0, 0.0), (1.0, 0.0), (x - 5.0) / 0.6)
    assert float((found[0, 0] - exact[0]).abs().mean()) < 2e-2
    total = (found * mesh.weights()).sum(-1) / (u * mesh.weights()).sum(-1)
    assert float(total[0, 0]) == pytest.approx(1.0, abs=1e-14)


def test_a_scalar_stays_within_its_bounds_and_its_walls() -> None:
    mesh = channel()
    law = InviscidBurgers(direction=(1.0, 0.5))
    u = (torch.rand(1, 1, mesh.shape[0], generator=torch.Generator().manual_seed(2)) > 0.5).double()
    step = finite_volume_on_mesh(law, mesh, 0.3, sides="wall", limiter="barth-jespersen")
    found = step(u)
    weights = mesh.weights()
    assert float((found * weights).sum() / (u * weights).sum()) == pytest.approx(1.0, abs=1e-14)
    directions = torch.tensor([[1.0, 0.5], [-1.0, 0.2]], dtype=torch.float64).unsqueeze(-1)
    both = finite_volume_on_mesh(InviscidBurgers(direction=directions), mesh, 0.3, sides="wall")
    assert torch.allclose(
        both(torch.cat((u, u)))[:1],
        finite_volume_on_mesh(law, mesh, 0.3, sides="wall")(u),
        rtol=0,
        atol=1e-14,
    )


def test_a_law_of_ones_own_that_is_not_isotropic() -> None:
    @dataclass(frozen=True)
    class Sound(ConservationLaw):
        """Linear sound, p_t + div v = 0 and v_t + grad p = 0, with no word on turning it."""

        fields: ClassVar[tuple[Field, ...]] = (Field("p"), Field("v", rank=1))

        def flux(self, u: Tensor) -> Tensor:
            eye = torch.eye(2, dtype=u.dtype).reshape(1, 2, 2, *[1] * (u.ndim - 2))
            return torch.cat((u[:, 1:].unsqueeze(1), u[:, :1].unsqueeze(1) * eye), dim=1)

        def max_speed(self, u: Tensor) -> Tensor:
            return torch.ones_like(u[:, 1:])

    @dataclass(frozen=True)
    class Isotropic(Sound):
        isotropic: ClassVar[bool] = True

    mesh = channel()
    u = smooth(mesh)[:, :3]
    own, known = (
        finite_volume_on_mesh(law(), mesh, 0.1, sides="wall", riemann="rusanov", limiter="none")
        for law in (Sound, Isotropic)
    )
    # Within, where jumps are small, they differ by no more than the bounds of the speeds do.
    within = torch.ones(mesh.shape, dtype=torch.bool).index_fill(0, mesh.boundary_facets.flatten(), False)
    there, gap = known.rate(u)[..., within], (own.rate(u) - known.rate(u))[..., within]
    assert float(gap.abs().max()) < 0.05 * float(there.abs().max())
    assert float(own(u).square().sum()) < float(u.square().sum())


def test_a_bump_is_carried_in_second_order_across_the_sides() -> None:
    from sciml.solvers.verify.suites.euler_mesh import irregular, mean

    def bump(mesh: Mesh, t: float) -> Tensor:
        x, y = mesh.points.T
        square = (x - 0.3 - 0.7 * t).square() + (y - 0.4 - 0.4 * t).square()
        return torch.exp(-50 * square).reshape(1, 1, -1)

    errors = []
    for n in (20, 40):
        mesh = irregular((n, n), (1.0, 1.0), seed=n)
        # Half of it has left by then.
        step = finite_volume_on_mesh(
            Carried(direction=(0.7, 0.4)), mesh, 1.0, sides="in", conditions={"in": Inflow(0.0)}
        )
        errors.append(mean((step(bump(mesh, 0.0)) - bump(mesh, 1.0))[0, 0], mesh))
    assert math.log2(errors[0] / errors[1]) > 1.8
    assert errors[1] < 2e-3


def test_angle_and_pressures_of_an_oblique_shock() -> None:
    from sciml.solvers.verify.suites.euler_mesh import oblique_shock

    # Anderson (2003), example 4.1: Mach 3 turned by 20 degrees.
    beta, ratio = oblique_shock(3.0, math.radians(20.0), 1.4)
    assert math.degrees(beta) == pytest.approx(37.76, abs=0.02) and ratio == pytest.approx(3.77, abs=0.01)


@pytest.mark.slow
def test_gradients_a_tenth_too_small_cost_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    from sciml.solvers.verify.suites.euler_mesh import annulus_error

    right = MedianDual.gradient_of_jumps
    monkeypatch.setattr(MedianDual, "gradient_of_jumps", lambda self, jump: 0.9 * right(self, jump))
    coarse, fine = (annulus_error(EULER, n, walls=False, limiter="none") for n in (4, 8))
    assert math.log2(coarse / fine) < 1.7  # 2.0 otherwise


# --- Derivatives ----------------------------------------------------------------------------------


@cache
def small() -> Mesh:
    return rectangle((1.0, 1.0), 0.34)


@pytest.mark.parametrize("limiter", ["venkatakrishnan", "none"])
def test_derivatives_in_the_state_and_in_what_enters(limiter: str) -> None:
    mesh = small()
    u = smooth(mesh).requires_grad_()
    entering = FLOW.flatten().clone().requires_grad_()

    def advance(u: Tensor, state: Tensor) -> Tensor:
        step = finite_volume_on_mesh(
            EULER, mesh, 0.02, limiter=limiter, sides="in", conditions={"in": Inflow(state)}, substeps=1
        )
        return step(u)

    assert torch.autograd.gradcheck(advance, (u, entering), eps=1e-6, atol=1e-6, fast_mode=True)
    advance(u, entering).square().sum().backward()
    assert entering.grad is not None and float(entering.grad.abs().min()) > 0


# --- Sides ----------------------------------------------------------------------------------------


def test_corners_belong_to_what_they_run_on_into() -> None:
    mesh = channel()
    middles = mesh.points[mesh.boundary_facets].mean(dim=1)
    for name, (x, _) in zip(facet_sides(mesh), middles.tolist(), strict=True):
        assert name == ("inflow" if x < 1e-9 else "outflow" if x > 3 - 1e-9 else "wall")


def test_build_takes_conservation_laws_on_a_mesh() -> None:
    solver = build(EULER, channel(), 0.05, conditions={"inflow": Inflow(FLOW.flatten())})
    assert isinstance(solver.step, MeshFiniteVolume) and "hllc" in solver.method
    u = FLOW.expand(1, 4, channel().shape[0])
    assert bool(EULER.admissible(solver(u)).all())
    with pytest.raises(ValueError, match="has no state"):
        build(EULER, channel(), 0.05)


def retyped(kind: NodeType) -> Mesh:
    mesh = small()
    return Mesh(mesh.points, mesh.cells, torch.full(mesh.shape, int(kind)))


def halved() -> Mesh:
    """A side that changes in the middle of a straight line."""
    mesh = small()
    types = torch.where(mesh.points[:, 0] < 0.5, int(NodeType.INFLOW), int(NodeType.WALL_BOUNDARY))
    return Mesh(mesh.points, mesh.cells, types)


REFUSALS: list[tuple[Callable[[], object], str]] = [
    (lambda: finite_volume_on_mesh(EULER, box((1, 1, 1), (2, 2, 2)), 0.1), "mesh in 3D"),
    (
        lambda: finite_volume_on_mesh(EULER, Grid((8, 8), (1.0, 1.0), centering="cell"), 0.1),  # type: ignore[arg-type]
        "got a Grid; expected a Mesh",
    ),
    (lambda: finite_volume_on_mesh(EULER, channel(), 0.1), "'inflow' of the mesh has no state"),
    (lambda: finite_volume_on_mesh(EULER, retyped(NodeType.NORMAL), 0.1), "is NORMAL"),
    (lambda: finite_volume_on_mesh(EULER, halved(), 0.1), "could belong to either"),
    (lambda: finite_volume_on_mesh(EULER, small(), 0.1, sides=["wall"]), "1 names of sides"),
    (lambda: finite_volume_on_mesh(EULER, small(), 0.1, sides="wal"), "'wal' of the mesh has no state"),
    (
        lambda: finite_volume_on_mesh(EULER, small(), 0.1, conditions={"inflow": Inflow((1.0, 0, 0, 1))}),
        "enters through 'inflow'",
    ),
    (
        lambda: finite_volume_on_mesh(EULER, small(), 0.1, conditions={"wall": MovingWall((1.0, 0.0))}),
        "take Inflow alone",
    ),
    (
        lambda: finite_volume_on_mesh(EULER, channel(), 0.1, conditions={"inflow": Inflow((1.0, 2.0))}),
        "one for each channel",
    ),
    (
        lambda: finite_volume_on_mesh(EULER, channel(), 0.1, conditions={"inflow": Inflow((1.0, 9, 0, 1))}),
        "no state of CompressibleEuler",
    ),
    (lambda: finite_volume_on_mesh(InviscidBurgers(), small(), 0.1, riemann="hllc"), "ideal gases alone"),
    (lambda: finite_volume_on_mesh(ShallowWater(), small(), 0.1, riemann="hll"), "states no wave_bounds"),
    (lambda: finite_volume_on_mesh(CompressibleNavierStokes(), small(), 0.1), "friction"),
    (lambda: finite_volume_on_mesh(ShallowWater(friction=0.1), small(), 0.1), "bed or friction"),
    (lambda: finite_volume_on_mesh(EULER, small(), 0.1, limiter="minmod"), "limiter='minmod'"),  # type: ignore[arg-type]
    (lambda: finite_volume_on_mesh(EULER, small(), 0.1, cfl=1.5), "cfl=1.5"),
    (lambda: finite_volume_on_mesh(EULER, small(), -0.1), "positive time"),
    (lambda: finite_volume_on_mesh(EULER, small(), 0.1)(-smooth(small())), "density -"),
    (lambda: finite_volume_on_mesh(EULER, small(), 0.1)(smooth(channel())), "got a state of shape"),
    (lambda: finite_volume_on_mesh(EULER, small(), 1.0, substeps=1)(smooth(small())), "CFL number"),
]


@pytest.mark.parametrize(("call", "message"), REFUSALS, ids=[m for _, m in REFUSALS])
def test_refusals(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
