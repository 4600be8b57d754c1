"""What `build` chooses, that the choice is sound, and what it refuses."""

from __future__ import annotations

import math
import re
import sys

import pytest
import torch

from sciml.domains import Cloud, Domain, Grid, Inflow, Mesh, MovingWall, Point
from sciml.errors import UserError
from sciml.fields import RandomFourier
from sciml.odes import Lorenz63
from sciml.pdes import (
    PDE,
    Advection,
    AdvectionDiffusion,
    Burgers,
    CompressibleEuler,
    Darcy,
    FisherKPP,
    FitzHughNagumo,
    Heat,
    KortewegDeVries,
    KuramotoSivashinsky,
    NavierStokes,
    NavierStokesVorticity,
    SemiLinear,
    ShallowWater,
)
from sciml.solvers import build
from sciml.solvers.build import dirichlet_nodes, spectral_radius
from sciml.solvers.spectral import pseudo_spectral
from sciml.step import Step, rollout

TAU = 2 * math.pi
LINE = Grid((32,), (TAU,))


def _square(n: int) -> Mesh:
    """The unit square cut into triangles."""
    x = torch.linspace(0.0, 1.0, n, dtype=torch.float64)
    points = torch.cartesian_prod(x, x)
    corner = (torch.arange(n - 1)[:, None] * n + torch.arange(n - 1)).reshape(-1)
    low = torch.stack([corner, corner + n, corner + 1], dim=1)
    high = torch.stack([corner + n, corner + n + 1, corner + 1], dim=1)
    return Mesh(points, torch.cat([low, high]))


@pytest.mark.parametrize(
    ("pde", "domain", "method"),
    [
        (Burgers(0.1), LINE, "ETDRK4"),
        (NavierStokesVorticity(0.1), Grid((16, 16), (TAU, TAU)), "ETDRK4"),
        (Heat(0.1), LINE, "exact in time"),
        (Heat(0.1), Grid((32,), (TAU,), boundary="neumann"), "finite differences of order 4, RK4"),
        (Burgers(0.1), Grid((32, 32), (1.0, 1.0), boundary=("periodic", "dirichlet")), "RK4"),
        (CompressibleEuler(), Grid((32,), (1.0,), centering="cell"), "finite volumes"),
    ],
    ids=lambda v: type(v).__name__,
)
def test_the_choice_is_a_step_that_says_what_it_is(pde: PDE, domain: Domain, method: str) -> None:
    step = build(pde, domain, 0.01)
    assert isinstance(step, Step)
    assert method in step.method
    assert step.dt == 0.01 and step.domain is domain and step.channels == pde.channels(domain.dimension)
    assert type(pde).__name__ in step.reason and step.reason.endswith(".")
    state = torch.ones(2, len(step.channels), *domain.shape, dtype=torch.float32)  # type: ignore[union-attr]
    state[:, -1] = 3.0
    assert step(state).dtype == torch.float32


def test_a_mesh_is_solved_by_finite_elements() -> None:
    pytest.importorskip("skfem")
    mesh = _square(9)
    step = build(Heat(0.1), mesh, 0.1)
    constant = torch.full((1, 1, 81), 2.5, dtype=torch.float64)
    torch.testing.assert_close(step(constant), constant, rtol=0, atol=1e-12)
    with pytest.raises(UserError, match="Burgers"):
        build(Burgers(0.1), mesh, 0.1)


def test_substeps_keep_the_advective_limit_of_the_speed() -> None:
    # dx = TAU/32; half of dx per substep at speed 1, a tenth of that at speed 10.
    dx = TAU / 32
    assert build(Burgers(0.1), LINE, 3.1 * dx).substeps == 7
    assert build(Burgers(0.1), LINE, 3.1 * dx, max_speed=10.0).substeps == 62
    assert build(Burgers(0.1), LINE, 0.01 * dx).substeps == 1
    assert build(Burgers(0.1), LINE, 3.1 * dx, substeps=3).substeps == 3
    assert "may blow up" in build(Burgers(0.1), LINE, 3.1 * dx, substeps=3).reason


@pytest.mark.parametrize("order", [3, 4])
@pytest.mark.parametrize("dimension", [1, 2])
def test_explicit_substeps_are_stable_for_rough_states_at_large_steps(order: int, dimension: int) -> None:
    generator = torch.Generator().manual_seed(0)
    for pde in (Heat(1.0), AdvectionDiffusion(1.0, 0.2)):
        # Flow enters through a held side: central differences let an open inflow grow.
        for side in ("dirichlet", ("dirichlet", "neumann")):
            grid = Grid((9,) * dimension, (1.0,) * dimension, boundary=(side,) * dimension)
            u = torch.rand(1, 1, *grid.shape, generator=generator, dtype=torch.float64)
            u[:, :, dirichlet_nodes(grid)] = 0.5
            end = rollout(build(pde, grid, 0.05, order=order), 20)(u)[:, -1]
            # Diffusion keeps states within their bounds but for small overshoots of central differences.
            assert float(end.abs().max()) < 1.5


def test_dirichlet_nodes_hold_their_value() -> None:
    grid = Grid((13,), (1.0,), boundary=(("dirichlet", "neumann"),))
    u = torch.rand(2, 1, 13, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    end = rollout(build(Heat(1.0), grid, 0.1), 60)(u)[:, -1]
    assert torch.equal(end[..., 0], u[..., 0])
    # The slowest mode decays as exp(-pi^2 t/4) = 4e-7 at t = 6: all nodes take the held value.
    torch.testing.assert_close(end, u[..., :1].expand_as(end), rtol=0, atol=1e-6)


def test_heat_between_walls_matches_its_slowest_mode() -> None:
    grid = Grid((41,), (1.0,), boundary="dirichlet")
    x = grid.coordinates()[None]
    mode = torch.sin(math.pi * x)
    end = build(Heat(1.0), grid, 0.1)(mode)
    # Fourth order of pi/40 with one-sided ends.
    torch.testing.assert_close(end, math.exp(-(math.pi**2) * 0.1) * mode, rtol=0, atol=2e-6)


def test_bounded_steps_are_differentiable() -> None:
    grid = Grid((9,), (1.0,), boundary="dirichlet")
    u = torch.rand(
        1, 1, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True
    )
    assert torch.autograd.gradcheck(build(Burgers(0.1), grid, 0.01), (u,))


def test_the_spectral_radius_of_known_operators() -> None:
    start = torch.randn(40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    diagonal = torch.linspace(-3.0, 1.0, 40, dtype=torch.float64)
    assert spectral_radius(lambda v: diagonal * v, start) == pytest.approx(3.0, rel=0.02)
    # A rotation by a quarter turn, times two: eigenvalues +-2i.
    assert spectral_radius(lambda v: 2 * torch.cat([v[20:], -v[:20]]), start) == pytest.approx(
        2.0, rel=1e-9
    )
    assert spectral_radius(torch.zeros_like, start) == 0.0


@pytest.mark.parametrize(
    ("pde", "domain", "options", "message"),
    [
        (Burgers(0.1), LINE, {"dt": 0.0}, "dt=0.0; expected a positive time"),
        (Burgers(0.1), LINE, {"dt": math.nan}, "dt=nan"),
        (Burgers(0.1), LINE, {"order": 5}, "order=5; expected 1, 2, 3 or 4"),
        (Burgers(0.1), LINE, {"substeps": 0}, "substeps=0"),
        (Burgers(0.1), LINE, {"max_speed": -1.0}, "max_speed=-1.0"),
        (NavierStokesVorticity(), LINE, {}, "NavierStokesVorticity lives in"),
        (Burgers(0.1), Grid((32,), (TAU,), centering="cell"), {}, "centering='node'"),
        (CompressibleEuler(), LINE, {}, "centering='cell'"),
        (Heat(), Cloud(((0.0, 1.0), (0.0, 1.0))), {}, "got a Cloud"),
        (Darcy(), Grid((8, 8), (1.0, 1.0)), {}, "sciml.solvers.elliptic"),
        (
            Heat(1.0),
            Grid((64,), (1.0,), boundary="dirichlet"),
            {"substeps": 2, "stepping": "explicit"},
            "diffusive limit",
        ),
        (Advection(1.0), Grid((64,), (1.0,), boundary="wall"), {}, "wall"),
        (Burgers(0.1), Grid((64,), (1.0,), boundary="dirichlet"), {"order": 2}, "Use order 3 or 4"),
        (
            NavierStokesVorticity(0.1),
            Grid((16, 16), (1.0, 1.0), boundary="dirichlet"),
            {},
            "periodic grids only",
        ),
        ("burgers", LINE, {}, "expected an instance of a PDE"),
        (Burgers, LINE, {}, "expected an instance of a PDE"),
    ],
)
def test_wrong_choices_are_refused_with_the_reason(
    pde: PDE, domain: Domain, options: dict[str, float], message: str
) -> None:
    arguments = {"dt": 0.01, **options}
    with pytest.raises(UserError, match=message):
        build(pde, domain, **arguments)  # type: ignore[arg-type]


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skfem", None)
    with pytest.raises(ModuleNotFoundError, match=r"sciml\[fem\]"):
        build(Heat(), _square(3), 0.1)


def test_chaos_is_integrated_soundly_at_the_chosen_substeps() -> None:
    grid = Grid((64,), (22.0,))
    step = build(KuramotoSivashinsky(), grid, 1.0, max_speed=3.0)
    u = 0.1 * torch.randn(2, 1, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    u = u - u.mean(dim=2, keepdim=True)
    path = rollout(step, 160)(u)
    # The attractor at L = 22 has an rms of 1.1 to 1.3; two samples over t = 60 to 160.
    assert 1.0 < float(path[:, 60:].square().mean().sqrt()) < 1.45


def test_an_unstable_substep_is_refused_with_the_limit() -> None:
    grid = Grid((128,), (2 * math.pi,))
    thin = Burgers(1e-4)
    with pytest.raises(
        UserError, match=r"substeps=1 for Burgers: .* multiplies some modes by .* use at least \d+"
    ):
        build(thin, grid, 0.5, substeps=1)
    # What is refused does blow up within a few steps, and the number named in the message does not.
    generator = torch.Generator().manual_seed(0)
    noise = 1e-3 * torch.randn(1, 1, 128, generator=generator, dtype=torch.float64)
    rough = torch.sin(grid.coordinates()[None]) + noise
    bad = rollout(pseudo_spectral(thin, grid, 0.5, substeps=1), 10)(rough)
    good = rollout(build(thin, grid, 0.5, substeps=11), 2)(rough)
    assert not bool(torch.isfinite(bad).all())
    assert float(good.abs().max()) < 1.1
    # Where dissipation damps the same step it is allowed, and stays bounded.
    thick = build(Burgers(0.5), grid, 0.5, substeps=1, order=2)
    assert float(rollout(thick, 10)(rough).abs().max()) < 1.1
    assert "beyond the limit" in thick.reason


def test_stepping_follows_stiffness_and_says_so() -> None:
    grid = Grid((64,), (TAU,))
    stiff = build(KuramotoSivashinsky(), Grid((128,), (22.0,)), 0.1)
    assert "ETDRK4" in stiff.method and re.search(r"its stiff linear part \(h \|L\| <= \d", stiff.reason)
    mild = build(Burgers(1e-4), grid, 0.05)
    assert "ETDRK4" in mild.method and "the linear part is not stiff (h |L| <= 0.0" in mild.reason
    learning = build(Burgers(torch.tensor(1e-4, requires_grad=True)), grid, 0.05)
    assert "explicit RK4" in learning.method and "is not stiff" in learning.reason
    stiff = build(Burgers(torch.tensor(0.5, requires_grad=True)), grid, 0.05)
    assert "ETDRK4" in stiff.method and "stiff linear part" in stiff.reason


@pytest.mark.parametrize(
    ("pde", "shape"),
    [
        (Burgers(1e-3), (64,)),
        (NavierStokesVorticity(1e-3, drag=0.1, forcing=(2.0, 1.0)), (32, 24)),
        (KortewegDeVries(convection=0.5, dispersion=1e-3), (48,)),
        (FitzHughNagumo(), (16, 20)),
    ],
    ids=lambda v: type(v).__name__,
)
def test_explicit_and_exponential_steps_meet_at_fourth_order(
    pde: SemiLinear, shape: tuple[int, ...]
) -> None:
    grid = Grid(shape, (TAU,) * len(shape))
    fields = RandomFourier(modes=3)
    channels = len(pde.channels(len(shape)))
    u = fields(grid, channels, torch.Generator().manual_seed(0)).unsqueeze(0)
    exact = build(pde, grid, 0.2, substeps=64)(u)
    errors = []
    for substeps in (8, 16):
        solver = build(pde, grid, 0.2, substeps=substeps, stepping="explicit")
        assert "explicit RK4" in solver.method and solver.substeps == substeps
        errors.append(float((solver(u) - exact).abs().max()))
    assert errors[1] < 1e-5 and 3.5 < math.log2(errors[0] / errors[1]) < 4.6


def test_explicit_steps_are_bound_by_the_linear_part() -> None:
    grid = Grid((64,), (TAU,))
    solver = build(Burgers(1.0), grid, 0.1, stepping="explicit")
    assert solver.substeps is not None and 0.1 / solver.substeps * 32**2 < 2.785
    assert "is stiff (h |L| <=" in solver.reason
    u = torch.randn(2, 1, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert float(solver(u).abs().max()) < float(u.abs().max())
    with pytest.raises(UserError, match=r"exceeds the limit 0\.00272 of RK4.*at least \d+ substeps"):
        build(Burgers(1.0), grid, 0.1, substeps=4, stepping="explicit")
    with pytest.raises(UserError, match="turns modes.*order 3 or 4"):
        build(KortewegDeVries(), grid, 0.1, order=2, stepping="explicit")
    with pytest.raises(UserError, match="periodic sides"):
        build(Burgers(1.0), Grid((64,), (TAU,), boundary="dirichlet"), 0.1, stepping="exponential")
    with pytest.raises(UserError, match="stepping='implicit'"):
        build(Burgers(1.0), grid, 0.1, stepping="implicit")  # type: ignore[arg-type]


def test_learning_coefficients_have_the_same_gradient_in_explicit_steps() -> None:
    grid = Grid((32,), (TAU,))
    u = RandomFourier(modes=3)(grid, 1, torch.Generator().manual_seed(0)).unsqueeze(0)
    gradients = []
    for stepping in ("auto", "exponential"):
        nu = torch.tensor(1e-3, dtype=torch.float64, requires_grad=True)
        solver = build(Burgers(nu), grid, 0.1, substeps=32, stepping=stepping)  # type: ignore[arg-type]
        assert ("explicit" in solver.method) == (stepping == "auto")
        solver(u).square().sum().backward()
        assert nu.grad is not None
        gradients.append(float(nu.grad))
    assert abs(gradients[0] - gradients[1]) < 1e-6 * abs(gradients[1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"substeps": 2.5}, "substeps=2.5; expected a whole number"),
        ({"substeps": math.nan}, "substeps=nan"),
        ({"substeps": "3"}, "substeps='3'"),
        ({"max_speed": "a"}, "max_speed='a'"),
        ({"domain": None}, "got NoneType for a domain"),
        ({"domain": Grid((3,), (1.0,))}, "keep no mode of it but the mean. Expected an axis of at least 4"),
    ],
)
def test_arguments_of_other_types_are_refused(arguments: dict[str, object], message: str) -> None:
    given: dict[str, object] = {"domain": LINE, **arguments}
    with pytest.raises(UserError, match=message):
        build(Burgers(0.1), dt=0.1, **given)  # type: ignore[arg-type]


def test_parameters_of_another_number_of_samples_are_refused() -> None:
    step = build(Burgers(torch.tensor([0.1, 0.2]).reshape(2, 1, 1)), LINE, 0.1)
    with pytest.raises(ValueError, match="got 3 states; the parameters of Burgers are those of 2 samples"):
        step(torch.zeros(3, 1, 32))
    assert step(torch.zeros(1, 1, 32)).shape == (2, 1, 32)
    with pytest.raises(ValueError, match="got Darcy; expected a semi-linear equation"):
        pseudo_spectral(Darcy(), LINE, 0.1)  # type: ignore[arg-type]


def test_a_reaction_that_learns_is_differentiated_whatever_the_state() -> None:
    growth = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    step = build(FisherKPP(0.01, growth), Grid((16, 12), (TAU, TAU)), 0.1)
    u = torch.rand(2, 1, 16, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    step(u).sum().backward()
    assert growth.grad is not None and float(growth.grad) > 0


def test_a_sliding_lid_drags_the_fluid_in_its_cavity() -> None:
    grid = Grid((16, 16), (1.0, 1.0), boundary="wall", centering="cell")
    lid = {"y+": MovingWall((1.0, 0.0))}
    u = build(NavierStokes(0.1), grid, 0.5, conditions=lid)(torch.zeros(1, 2, 16, 16, dtype=torch.float64))
    assert 0.5 < float(u[0, 0, 8, -1]) < 1.0 and float(u[0, 0, 8, 4]) < 0.0  # and back below


def test_what_enters_a_tube_reaches_the_other_end() -> None:
    gas = CompressibleEuler()
    entering = gas.conservative(torch.tensor([[1.0, 2.0, 1.0]], dtype=torch.float64).unsqueeze(2))[0, :, 0]
    rest = gas.conservative(torch.tensor([[0.5, 2.0, 1.0]], dtype=torch.float64).unsqueeze(2))
    grid = Grid((32,), (1.0,), boundary=(("inflow", "outflow"),), centering="cell")
    step = build(gas, grid, 1.0, conditions={"x-": Inflow(entering)})
    # The contact moves at 2 and has left after half the time; no pressure ever differed.
    assert float((step(rest.expand(1, 3, 32)) - entering[:, None]).abs().max()) < 1e-6


def test_what_enters_a_channel_of_shallow_water_reaches_the_other_end() -> None:
    grid = Grid((32,), (1.0,), boundary=(("inflow", "outflow"),), centering="cell")
    step = build(ShallowWater(gravity=1.0), grid, 2.0, conditions={"x-": Inflow((1.0, 2.0))})
    still = torch.tensor([0.5, 1.0], dtype=torch.float64).reshape(1, 2, 1).expand(1, 2, 32)
    wanted = torch.tensor([1.0, 2.0], dtype=torch.float64).reshape(1, 2, 1)
    assert float((step(still) - wanted).abs().max()) < 1e-6


@pytest.mark.parametrize(
    ("pde", "domain", "message"),
    [
        (Heat(), LINE, r"conditions at \['x-'\] for Heat on Grid.*knows no Inflow and no MovingWall"),
        (NavierStokes(0.1), Grid((8, 8), (1.0, 1.0)), "on a Grid of cells. Leave them out"),
        (Lorenz63(), Point(), "Lorenz63, a system without space"),
        (
            CompressibleEuler(),
            Grid((8,), (1.0,), boundary="outflow", centering="cell"),
            "side x- is 'outflow'; Inflow is a condition of sides 'inflow'",
        ),
    ],
)
def test_conditions_that_no_method_takes_are_refused(pde: PDE, domain: Domain, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(pde, domain, 0.1, conditions={"x-": Inflow((1.0, 2.0, 3.0))})
