"""Incompressible flow as velocity: projection, conservation, exact solutions, energy budgets."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sciml import Grid
from sciml.calculus import Autograd, Calculus, FiniteDifference, Spectral, Symbol
from sciml.constraints import DivergenceFree
from sciml.errors import UserError
from sciml.metrics.flow import (
    dissipation,
    energy_budget,
    energy_injection,
    enstrophy,
    helicity,
    kinetic_energy,
)
from sciml.pdes import (
    NavierStokes,
    NavierStokesVorticity,
    ShearForcing,
    fno_forcing,
    kolmogorov_forcing,
)
from sciml.solvers import build
from sciml.solvers.spectral import pseudo_spectral
from sciml.solvers.verify import verify
from sciml.solvers.verify.suites.flow import budget_gap, divergence, taylor_green
from sciml.step import rollout

BOX = 2 * math.pi
GRIDS = [
    Grid((16, 18), (BOX, 3.0)),
    Grid((15, 16), (2.0, BOX)),
    Grid((8, 10, 9), (BOX, 3.0, 4.0)),
    Grid((7, 8, 8), (1.0, 1.0, 2.0)),
]


def _noise(grid: Grid, samples: int = 2, seed: int = 0) -> Tensor:
    """Velocities that the grid does not resolve, Nyquist modes included."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(samples, grid.dimension, *grid.shape, generator=generator, dtype=torch.float64)


def _smooth(grid: Grid, samples: int = 1, waves: int = 3, seed: int = 0) -> Tensor:
    """Flows without divergence or mean, of order one, with waves up to the third."""
    calc = Spectral(grid)
    modes = calc.to_modes(_noise(grid, samples, seed))
    keep = torch.ones((), dtype=torch.bool)
    for axis, length in enumerate(grid.lengths):
        keep = keep & (calc.constants.get(f"k{axis}", modes) * length / BOX < waves + 0.5)
    keep = keep & (calc.constants.get("laplacian", modes) < 0)
    u = calc.solenoidal(calc.to_points(modes * keep))
    return u / u.square().mean().sqrt()


def _dot(u: Tensor, v: Tensor) -> Tensor:
    return (u * v).flatten(1).sum(dim=1)


# Projection


@pytest.mark.parametrize("grid", GRIDS, ids=lambda g: "x".join(map(str, g.shape)))
def test_what_is_left_has_no_divergence(grid: Grid) -> None:
    calc = Spectral(grid)
    u, other = _noise(grid), _noise(grid, seed=1)
    v = calc.solenoidal(u)
    assert calc.div(v.unsqueeze(1)).abs().max() < 1e-12  # rounding, of derivatives of order 30
    assert (calc.solenoidal(v) - v).abs().max() < 1e-14
    axes = tuple(range(2, u.ndim))
    assert (v.mean(axes) - u.mean(axes)).abs().max() < 1e-15
    gap = _dot(v, other) - _dot(u, calc.solenoidal(other))
    assert gap.abs().max() < 1e-12 * u.numel()  # self-adjoint
    assert (DivergenceFree(grid).project(u) - v).abs().max() < 1e-14
    through = calc.to_points(Symbol(calc).solenoidal(calc.to_modes(u)))
    assert (through - v).abs().max() < 1e-14


def test_finite_differences_project_to_their_order() -> None:
    left = []
    for n in (16, 32):
        grid = Grid((n, n), (BOX, BOX))
        x, y = grid.coordinates()
        u = torch.stack([torch.sin(x + y), torch.cos(2 * x) * torch.sin(y)])[None]
        calc = FiniteDifference(grid, 4)
        left.append(float(Spectral(grid).div(calc.solenoidal(u).unsqueeze(1)).abs().max()))
    assert math.log2(left[0] / left[1]) == pytest.approx(4.0, abs=0.3)


def test_curl_of_a_gradient_and_divergence_of_a_curl_vanish() -> None:
    grid = GRIDS[2]
    calc = Spectral(grid)
    potential = _noise(grid)[:, :1]
    assert calc.curl(calc.gradient(potential)[:, 0]).abs().max() < 1e-12  # rounding
    assert calc.div(calc.curl(_noise(grid)).unsqueeze(1)).abs().max() < 1e-12
    with pytest.raises(ValueError, match="2 components in 3 space axes"):
        calc.curl(_noise(grid)[:, :2])
    with pytest.raises(ValueError, match="got 1 components in 3"):
        calc.solenoidal(potential)


# The equation


def test_transport_of_two_waves_by_hand() -> None:
    """v = (-sin(2 y)/2, sin x): its vorticity grows by 3/2 sin x sin 2y; |k|^2 = 5 gives the velocity."""
    grid = Grid((16, 16), (BOX, BOX))
    x, y = grid.coordinates()
    u = torch.stack([-0.5 * torch.sin(2 * y), torch.sin(x)])[None]
    gain = torch.stack([0.6 * torch.sin(x) * torch.cos(2 * y), -0.3 * torch.cos(x) * torch.sin(2 * y)])
    assert (NavierStokes().nonlinear(u, Spectral(grid))[0] - gain).abs().max() < 1e-14  # rounding


def test_transport_of_taylor_green_vortices_by_hand() -> None:
    """-(u.grad)u - grad p with p = (cos 2x + cos 2y)(cos 2z + 2)/16."""
    grid = Grid((12, 10, 8), (BOX, BOX, BOX))
    x, y, z = 2 * grid.coordinates()
    gain = torch.stack(
        [
            -torch.sin(x) * torch.cos(z),
            -torch.sin(y) * torch.cos(z),
            (torch.cos(x) + torch.cos(y)) * torch.sin(z),
        ]
    )
    found = NavierStokes().nonlinear(taylor_green(grid), Spectral(grid))[0]
    assert (found - gain / 8).abs().max() < 1e-14  # rounding


@pytest.mark.parametrize("grid", GRIDS, ids=lambda g: "x".join(map(str, g.shape)))
def test_transport_keeps_energy_helicity_and_momentum_of_any_flow(grid: Grid) -> None:
    """Also of noise that aliases: the rotational form is perpendicular to u and curl u at every point."""
    calc, pde = Spectral(grid), NavierStokes(viscosity=0.0)
    u = pde.project(_noise(grid), calc)
    rate = pde.rhs(u, calc)
    scale = u.norm() * rate.norm()
    assert _dot(u, rate).abs().max() < 1e-13 * scale  # rounding of a sum
    axes = tuple(range(2, u.ndim))
    assert rate.mean(axes).abs().max() < 1e-14 * rate.abs().max()
    kept = pde.invariants(u, grid)
    if grid.dimension == 3:
        w = calc.curl(u)
        assert _dot(w, rate).abs().max() < 1e-13 * w.norm() * rate.norm()
        assert torch.allclose(kept["helicity"], helicity(u, grid) * grid.volume, rtol=1e-12)
    assert torch.allclose(kept["energy"], kinetic_energy(u, grid) * grid.volume, rtol=1e-12)


def test_only_what_is_kept_is_claimed() -> None:
    grid = GRIDS[2]
    u = _noise(grid)
    momentum = {"momentum_x", "momentum_y", "momentum_z"}
    assert set(NavierStokes(0.0).invariants(u, grid)) == momentum | {"energy", "helicity"}
    assert set(NavierStokes(0.01).invariants(u, grid)) == momentum
    assert set(NavierStokes(0.0, forcing=(2, 1)).invariants(u, grid)) == momentum
    assert not NavierStokes(0.0, drag=0.1).invariants(u, grid)
    assert not NavierStokes(0.0, forcing=torch.ones_like(u[:1])).invariants(u, grid)


@pytest.mark.parametrize("dimension", [2, 3])
@pytest.mark.parametrize(
    "pde",
    [
        NavierStokes(0.05),
        NavierStokes(0.05, drag=0.3),
        NavierStokes(0.05, drag=0.1, forcing=(4, 1.5)),
        NavierStokes(0.0, forcing=(1.5, 1.5)),
        NavierStokes(0.01, drag=0.1, forcing=fno_forcing()),
        NavierStokes(0.01, forcing=ShearForcing((1.0, -2.0), 0.3, 0.4)),
    ],
)
def test_exact_solution_has_no_residual(pde: NavierStokes, dimension: int) -> None:
    grid = Grid((16, 16, 8)[:dimension], pde.exact_lengths(dimension))
    calc = Spectral(grid)
    x = grid.coordinates().unsqueeze(0)
    t = torch.full((1, 1, *grid.shape), 0.7, dtype=torch.float64, requires_grad=True)
    u = pde.exact(x, t)
    rate = Autograd(x.requires_grad_()).time_derivative(u, t)
    residual = rate - pde.rhs(u, calc)
    size = float(rate.detach().abs().max())
    assert residual.abs().max() < 1e-12  # rounding
    assert calc.div(u.unsqueeze(1)).abs().max() < 1e-12
    assert size > 1e-3
    if pde.forcing is None:
        assert pde.nonlinear(u, calc).abs().max() > 0.1  # the mean flow makes transport matter


@pytest.mark.parametrize("grid", [Grid((16, 16), (BOX, BOX)), Grid((8, 8, 8), (BOX, BOX, BOX))])
def test_a_state_with_divergence_is_projected_once(grid: Grid) -> None:
    pde = NavierStokes(0.02)
    calc, u = Spectral(grid), 0.3 * _noise(grid)
    flow = pde.project(u, calc)
    assert divergence(u, grid) > 1.0
    step = build(pde, grid, 0.02)
    assert (step(u) - step(flow)).abs().max() < 1e-15
    assert divergence(step(u), grid) < 1e-12
    # A short step changes the flow little, so it is this flow and no other that was advanced.
    assert (build(pde, grid, 1e-6)(u) - flow).abs().max() < 1e-4
    # The right-hand side alone adds no divergence: what is there decays.
    rate = pde.nonlinear(u, calc)
    assert calc.div(rate.unsqueeze(1)).abs().max() < 1e-12 * rate.abs().max() * 30


def test_long_runs_stay_without_divergence_and_keep_the_mean_flow() -> None:
    grid = Grid((32, 32), (BOX, BOX))
    u = _smooth(grid) + torch.tensor([0.3, -0.2], dtype=torch.float64).reshape(1, 2, 1, 1)
    late = rollout(build(NavierStokes(1e-3), grid, 0.1, max_speed=2.0), 30)(u)[:, -1]
    assert divergence(late, grid) < 1e-12
    assert (late.mean((2, 3)) - u.mean((2, 3))).abs().max() < 1e-15
    assert (late - u).abs().max() > 0.1


@pytest.mark.parametrize(
    "terms",
    [
        {"viscosity": 0.01},
        {"viscosity": 0.02, "drag": 0.1, "forcing": (2.0, 1.0)},
        {"viscosity": 0.01, "forcing": ShearForcing((1.0, 1.0), 0.2, 0.5)},
    ],
)
def test_velocity_and_vorticity_tell_the_same_flow(terms: dict) -> None:
    grid = Grid((32, 30), (BOX, BOX))
    calc, u = Spectral(grid), _smooth(grid, 2)
    one = build(NavierStokes(**terms), grid, 1.0, substeps=30)(u)
    other = build(NavierStokesVorticity(**terms), grid, 1.0, substeps=30)(calc.curl(u))
    assert (one - u).abs().max() > 0.3
    # Both cut the same modes and take the same time steps: rounding.
    assert (calc.curl(one) - other).abs().max() < 1e-12 * other.abs().max()


def test_modes_and_points_give_the_same_steps() -> None:
    """A subclass that states N itself goes through points, and is as good."""

    class Stated(NavierStokes):
        def nonlinear(self, u: Tensor, calc: Calculus) -> Tensor:
            return NavierStokes.nonlinear(self, u, calc)

    for grid in (Grid((16, 16), (BOX, BOX)), Grid((8, 9, 10), (BOX, BOX, 3.0))):
        u = _smooth(grid, 2, waves=2)
        found = [
            pseudo_spectral(cls(0.01, forcing=(1.0, 0.3)), grid, 0.1, substeps=4)(u)
            for cls in (NavierStokes, Stated)
        ]
        assert (found[0] - found[1]).abs().max() < 1e-14  # rounding


def test_parameters_per_sample_and_gradients() -> None:
    grid = Grid((8, 8), (BOX, BOX))
    u = _smooth(grid, 2, waves=2)
    nu = torch.tensor([0.02, 0.1], dtype=torch.float64).reshape(2, 1, 1, 1)
    mu = torch.tensor([0.0, 0.3], dtype=torch.float64)
    together = build(NavierStokes(nu, drag=mu), grid, 0.2)(u)
    for i in range(2):
        alone = build(NavierStokes(float(nu[i]), drag=float(mu[i])), grid, 0.2)(u[i : i + 1])
        assert (together[i : i + 1] - alone).abs().max() < 1e-14  # rounding

    def late(v: Tensor, viscosity: Tensor) -> Tensor:
        return pseudo_spectral(NavierStokes(viscosity), grid, 0.2, substeps=2)(v)[0, :, ::3, ::3]

    state = u[:1].clone().requires_grad_()
    assert torch.autograd.gradcheck(
        late, (state, torch.tensor([0.05]).double().requires_grad_()), fast_mode=True
    )


def test_what_it_refuses() -> None:
    plane = Grid((8, 8), (BOX, BOX))
    with pytest.raises(ValueError, match="viscosity"):
        NavierStokes(-0.1)
    with pytest.raises(ValueError, match="3 channels in 2 space axes"):
        NavierStokes().rhs(torch.zeros(1, 3, 8, 8), Spectral(plane))
    with pytest.raises(UserError, match=r"lives in \(2, 3\)"):
        build(NavierStokes(), Grid((8,), (1.0,)), 0.1)
    with pytest.raises(UserError, match="periodic grids only"):
        build(NavierStokes(), Grid((8, 8), (1.0, 1.0), boundary="dirichlet"), 0.1)
    with pytest.raises(ValueError, match="holds 1.5 wavelengths"):
        build(NavierStokes(forcing=fno_forcing()), Grid((8, 8), (1.0, 1.5)), 0.1)
    with pytest.raises(ValueError, match="forcing"):
        NavierStokes(forcing=(1.0, 2.0, 3.0))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="not both zero"):
        ShearForcing((0.0, 0.0), 1.0)
    with pytest.raises(ValueError, match="no exact solution"):
        NavierStokes(forcing=torch.ones(1, 2, 8, 8)).exact(plane.coordinates()[None], 0.0)


# Forces


def test_the_named_forces_are_those_of_the_papers() -> None:
    x = torch.rand(1, 2, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    angle = BOX * (x[:, :1] + x[:, 1:])
    expected = 0.1 * (torch.sin(angle) + torch.cos(angle))
    assert (fno_forcing().vorticity(x) - expected).abs().max() < 1e-15
    expected = 1.5 * torch.sin(4 * x[:, 1:])
    assert (kolmogorov_forcing(4, 1.5).velocity(x)[:, :1] - expected).abs().max() < 1e-15


@pytest.mark.parametrize(
    "force", [fno_forcing(0.3, 2.0), kolmogorov_forcing(3, 0.7), ShearForcing((2.0, -1.0), 0.3, 0.8)]
)
def test_the_force_on_the_vorticity_is_the_curl_of_that_on_the_velocity(force: ShearForcing) -> None:
    for dimension in (2, 3):
        grid = Grid((12,) * dimension, force.lengths(dimension))
        calc, x = Spectral(grid), grid.coordinates()[None]
        body = force.velocity(x)
        assert (calc.curl(body)[:, -1:] - force.vorticity(x)).abs().max() < 1e-13  # rounding
        assert calc.div(body.unsqueeze(1)).abs().max() < 1e-13
        assert (calc.laplacian(body) + force.square * body).abs().max() < 1e-12


def test_the_vorticity_equation_takes_the_named_forces() -> None:
    pde = NavierStokesVorticity(0.01, drag=0.1, forcing=fno_forcing())
    grid = Grid((32, 32), pde.exact_lengths(2))
    assert grid.lengths == (1.0, 1.0)
    x = grid.coordinates()[None]
    step = build(pde, grid, 0.5)
    late = rollout(step, 4)(torch.zeros(1, 1, 32, 32, dtype=torch.float64))[:, -1]
    assert (late - pde.exact(x, 2.0)).abs().max() < 1e-12  # a laminar flow from rest: rounding
    assert late.abs().max() > 0.05
    pair = NavierStokesVorticity(0.01, forcing=(4.0, 1.5))
    named = NavierStokesVorticity(0.01, forcing=kolmogorov_forcing(4.0, 1.5))
    wide = Grid((16, 16), (BOX, BOX))
    w = Spectral(wide).curl(_smooth(wide))
    assert torch.equal(pair.rhs(w, Spectral(wide)), named.rhs(w, Spectral(wide)))
    with pytest.raises(ValueError, match="whole number"):
        build(pde, Grid((8, 8), (BOX, BOX)), 0.1)


# Diagnostics


def test_diagnostics_of_known_flows_at_any_resolution() -> None:
    for n in (8, 13):
        cube = Grid((n, n + 1, n), (BOX, BOX, BOX))
        u = taylor_green(cube)
        # <sin^2 cos^2 cos^2> is 1/8 for both components; |k|^2 = 3 makes enstrophy 3 times the energy.
        assert float(kinetic_energy(u, cube)) == pytest.approx(1 / 8, rel=1e-14)
        assert float(enstrophy(u, cube)) == pytest.approx(3 / 8, rel=1e-13)
        assert float(dissipation(u, cube, 0.01)) == pytest.approx(0.02 * 3 / 8, rel=1e-13)
        assert abs(float(helicity(u, cube))) < 1e-15
        x = cube.coordinates()[None]
        abc = NavierStokes(0.1).exact(x, 0.0)
        swirl = abc - abc.mean((2, 3, 4), keepdim=True)
        # curl u = u: helicity is twice the energy, (A^2 + B^2 + C^2)/2
        assert float(helicity(swirl, cube)) == pytest.approx(1.0 + 0.49 + 0.16, rel=1e-12)
        assert float(kinetic_energy(swirl, cube)) == pytest.approx(1.65 / 2, rel=1e-12)


def test_diagnostics_take_trajectories_walls_and_batches() -> None:
    grid = Grid((16, 12), (BOX, 4.0))
    path = torch.stack([_smooth(grid, 3), 2 * _smooth(grid, 3)], dim=1)
    energy = kinetic_energy(path, grid)
    assert energy.shape == (3, 2)
    assert torch.allclose(energy[:, 1], 4 * energy[:, 0], rtol=1e-14)
    nu = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64).reshape(3, 1, 1, 1)
    lost = dissipation(path, grid, nu)
    assert torch.allclose(lost, 2 * nu.reshape(3, 1) * enstrophy(path, grid), rtol=1e-12)
    force = torch.ones(1, 1, 2, 16, 12, dtype=torch.float64)
    assert energy_injection(path + 1, force, grid).shape == (3, 2)
    assert (energy_injection(path + 1, force, grid) - 2.0).abs().max() < 1e-13  # two components, no mean
    walls = Grid((65, 65), (1.0, 1.0), boundary="wall")
    x, y = walls.coordinates()
    u = torch.stack([x, y])[None]
    # <x^2 + y^2>/2 = 1/3 with the trapezoidal error h^2/6
    assert float(kinetic_energy(u, walls)) == pytest.approx(1 / 3 + 1 / 64**2 / 6, rel=1e-12)
    with pytest.raises(ValueError, match="expected \\(..., 2, 16, 12\\)"):
        kinetic_energy(path[:, :, :1], grid)
    with pytest.raises(ValueError, match="plane flow has none"):
        helicity(path, grid)


# Budgets


def test_kolmogorov_flow_balances_its_energy() -> None:
    grid = Grid((48, 48), (BOX, BOX))
    pde = NavierStokes(0.01, drag=0.1, forcing=(2.0, 1.0))
    step = build(pde, grid, 0.02, max_speed=2.0)
    u = rollout(step, 150)(_smooth(grid))[:, -1]  # away from where it was put
    terms = energy_budget(pde, u, grid)
    assert all(float(terms[name]) > 0.02 for name in ("injection", "drag", "dissipation"))
    # Simpson's rule over 0.04, error dt^4/90 times the fourth derivative of the rate
    assert budget_gap(pde, step, grid, u, 50) < 1e-6
    for wrong in (
        NavierStokes(0.0101, drag=0.1, forcing=(2.0, 1.0)),
        NavierStokes(0.01, drag=0.101, forcing=(2.0, 1.0)),
        NavierStokes(0.01, drag=0.1, forcing=(2.0, 1.01)),
    ):
        assert budget_gap(wrong, step, grid, u, 10) > 1e-3
    # The vorticity form tells the same energies.
    calc = Spectral(grid)
    again = NavierStokesVorticity().velocity(calc.curl(u), calc) + u.mean((2, 3), keepdim=True)
    assert torch.allclose(kinetic_energy(again, grid), terms["energy"], rtol=1e-12)


# Dissipation of the Taylor-Green vortex at Re = 100, read from a figure of Brachet et al., J. Fluid Mech. 130
# (1983) 411-452, by the authors of PsDNS (Los Alamos), who hold their own code to it within 2 per cent.
_BRACHET = (
    (2.1153, 0.009503),
    (3.0778, 0.011359),
    (4.0327, 0.012604),
    (4.8408, 0.012978),
)


def _series(time: float, reynolds: float) -> float:
    """Dissipation over its first value, Taylor and Green, Proc. R. Soc. A 158 (1937) 499-521."""
    r, t = 1 / reynolds, time
    return (
        1
        - 6 * t * r
        + (5 / 48 + 18 * r**2) * t**2
        - (5 / 3 + 36 * r**2) * t**3 * r
        + (50 / (99 * 64) + 1835 / 144 * r**2 + 54 * r**4) * t**4
        - (361 / (44 * 32) + 761 / 12 * r**2 + 324 / 5 * r**4) * t**5 * r
    )


@pytest.mark.parametrize(("reynolds", "level"), [(1e6, 1e-7), (100.0, 1e-9), (20.0, 1e-6)])
def test_taylor_green_follows_its_power_series(reynolds: float, level: float) -> None:
    grid = Grid((16, 16, 16), (BOX, BOX, BOX))
    u = build(NavierStokes(1 / reynolds), grid, 0.2, substeps=16)(taylor_green(grid))
    # The series leaves out t^6 = 6.4e-5, times 4e-4 without viscosity and more, as 1/R^2, with it.
    assert float(enstrophy(u, grid)) / 0.375 == pytest.approx(_series(0.2, reynolds), abs=level)


def test_taylor_green_agrees_with_another_code() -> None:
    """Energy and enstrophy at t = 0.1, Re = 1600, 32^3, as the tests of spectralDNS have them, to 7 digits."""
    grid = Grid((32, 32, 32), (BOX, BOX, BOX))
    u = build(NavierStokes(1 / 1600), grid, 0.1, substeps=5)(taylor_green(grid))
    assert float(kinetic_energy(u, grid)) == pytest.approx(0.124953117517, abs=5e-8)
    assert float(enstrophy(u, grid)) == pytest.approx(0.375249930801, abs=5e-8)


def _histories(n: int, reynolds: float, until: float, substeps: int) -> tuple[dict[str, Tensor], float]:
    """Budget terms (T,) of the Taylor-Green vortex at every 0.1, and the gap of its budget."""
    grid = Grid((n, n, n), (BOX, BOX, BOX))
    pde = NavierStokes(1 / reynolds)
    step, u = build(pde, grid, 0.1, substeps=substeps), taylor_green(grid)
    rows = []
    with torch.no_grad():
        for index in range(round(until / 0.1) + 1):
            if index:
                u = step(u)
            rows.append(energy_budget(pde, u, grid))
    terms = {name: torch.cat([row[name] for row in rows]) for name in rows[0]}
    energy, rate = terms["energy"], terms["rate"]
    gained = (energy[2:] - energy[:-2]) / 0.2
    gap = (gained - (rate[:-2] + 4 * rate[1:-1] + rate[2:]) / 6).abs().max() / rate.abs().max()
    return terms, float(gap)


def _peak(loss: Tensor) -> tuple[float, float]:
    """Largest value of a history at every 0.1, and its time, from the parabola through three points."""
    k = int(loss.argmax())
    a, b, c = (float(loss[i]) for i in (k - 1, k, k + 1))
    shift = 0.5 * (a - c) / (a - 2 * b + c)
    return b - 0.25 * (a - c) * shift, 0.1 * (k + shift)


def _at(loss: Tensor, time: float) -> float:
    k = int(time / 0.1)
    part = time / 0.1 - k
    return float((1 - part) * loss[k] + part * loss[k + 1])


def test_taylor_green_at_a_low_reynolds_number() -> None:
    terms, gap = _histories(32, 100.0, 5.0, 2)
    assert float(terms["energy"][0]) == pytest.approx(1 / 8, rel=1e-14)
    assert gap < 1e-4
    for time, value in _BRACHET:
        assert _at(terms["dissipation"], time) == pytest.approx(value, rel=0.02), time


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("reynolds", "peak", "time", "late"),
    [
        (100.0, 0.01298, 4.85, 0.1),  # Brachet et al., as above
        # 96^3 points gave 0.010944 at 6.63. 64^3 do not quite resolve this flow: their curve is 1.7 per cent
        # off at most until t = 7.2, and its flat top comes later.
        (400.0, 0.010944, 6.63, 0.4),
    ],
)
def test_taylor_green_dissipation_peaks(reynolds: float, peak: float, time: float, late: float) -> None:
    terms, gap = _histories(64, reynolds, time + 0.9, 5)
    assert gap < 1e-4
    value, at = _peak(terms["dissipation"])
    assert value == pytest.approx(peak, rel=0.02)
    assert at == pytest.approx(time, abs=late)


# The verifier


class Backwards(NavierStokes):
    """Vorticity carried the wrong way."""

    def products(self, fields: Tensor, calc: Calculus) -> Tensor:
        return -NavierStokes.products(self, fields, calc)


class Strong(NavierStokes):
    """Transport one in a thousand too strong."""

    def products(self, fields: Tensor, calc: Calculus) -> Tensor:
        return 1.001 * NavierStokes.products(self, fields, calc)


class Thick(NavierStokes):
    """Viscosity one in a thousand too large."""

    def linear(self, u: Tensor, calc: Calculus) -> Tensor:
        return 1.001 * NavierStokes.linear(self, u, calc)


class Pressureless(NavierStokes):
    """The gradient part of the transport left in."""

    def after(self, products: Tensor, calc: Calculus) -> Tensor:
        return products


class Driven(NavierStokes):
    """Drag that drives."""

    def linear(self, u: Tensor, calc: Calculus) -> Tensor:
        return NavierStokes.linear(self, u, calc) + 2 * float(self.drag) * u


@pytest.mark.parametrize(
    ("pde", "check"),
    [
        (Backwards, "initial rate of Taylor-Green vortices"),
        pytest.param(Strong, "error against a moving ABC flow", marks=pytest.mark.slow),
        pytest.param(Thick, "error against moving Taylor-Green vortices", marks=pytest.mark.slow),
        pytest.param(Pressureless, "divergence left", marks=pytest.mark.slow),
        pytest.param(Driven, "error against laminar Kolmogorov flow", marks=pytest.mark.slow),
    ],
)
def test_a_wrong_term_loses_the_certificate(pde: type[NavierStokes], check: str) -> None:
    failed = {c.name for c in verify(pde).checks if not c.passed}
    assert check in failed
