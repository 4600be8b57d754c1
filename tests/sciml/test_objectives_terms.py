"""Distances and terms: against their formulae on waves, and their gradients."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sciml import Grid, rollout
from sciml.constraints import Bounds, Chain, ConservedMean, DivergenceFree, Energy
from sciml.objectives import (
    EquationResidual,
    Gradients,
    InvariantMeasure,
    LogSpectrum,
    OneStep,
    PerState,
    Sobolev,
    SoftConstraint,
    SolverDefect,
    States,
    Statistics,
    Together,
    Unrolled,
)
from sciml.pdes import Burgers, Heat
from sciml.solvers import build

LINE = Grid((32,), (2.0,))
PLANE = Grid((16, 12), (1.0, 2.0))


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def wave(grid: Grid, *numbers: int) -> Tensor:
    """sqrt(2) cos(2 pi n.x / L), mean square one, (1, 1, *points)."""
    x = grid.coordinates()
    phase = sum(2 * math.pi * n * x[d] / grid.lengths[d] for d, n in enumerate(numbers))
    assert isinstance(phase, Tensor)
    return (2**0.5 * torch.cos(phase))[None, None].double()


# Distances


def test_sobolev_weighs_each_wave_by_its_number():
    zero = torch.zeros(1, 1, 32, dtype=torch.float64)
    for k in (1, 3, 15):
        for order in (0.0, 0.5, 1.0, 2.0):
            found = Sobolev(LINE, order)(wave(LINE, k), zero)
            assert found.item() == pytest.approx((1 + k * k) ** order, rel=1e-10)
        assert Sobolev(LINE, 1.0, "seminorm")(wave(LINE, k) + 7, zero).item() == pytest.approx(k * k)
    # The longest side has the unit of wavenumber: 3 along the short one of half the length counts 6.
    plane = torch.zeros(1, 1, 16, 12, dtype=torch.float64)
    assert Sobolev(PLANE)(wave(PLANE, 3, 2), plane).item() == pytest.approx(1 + 36 + 4)
    a, b = 2 * wave(LINE, 2), wave(LINE, 2)
    assert Sobolev(LINE, relative=True)(a, b).item() == pytest.approx(1.0)


@pytest.mark.parametrize("grid", [LINE, PLANE, Grid((9, 8), (1.0, 1.0)), Grid((6, 6, 6), (1.0, 2.0, 1.0))])
def test_order_zero_is_the_mean_square_on_every_grid(grid):
    u, v = noise(2, 3, *grid.shape), noise(2, 3, *grid.shape, seed=1)
    data = torch.stack([u, v], dim=1)
    expected = OneStep()(lambda s: s, data)[0]
    found = OneStep(norm=Sobolev(grid, 0.0))(lambda s: s, data)[0]
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("centering", ["node", "cell"])
def test_bounded_axes_have_no_jump_at_their_ends(centering):
    grid = Grid((64,), (2.0,), boundary="wall", centering=centering)
    x = grid.coordinates()[0]
    cosine = (2**0.5 * torch.cos(math.pi * x / 2.0))[None, None].double()  # half a wave: k = 1/2
    found = Sobolev(grid, 1.0, "seminorm")(cosine, torch.zeros_like(cosine))
    # Nodes on both walls count as the continued wave does, whose mean square is one.
    assert found.item() == pytest.approx(0.25, rel=1e-10)


def test_log_spectrum_compares_ratios_shell_by_shell_and_no_phases():
    u = wave(LINE, 2) + wave(LINE, 5)
    v = 3 * wave(LINE, 2).roll(3, -1) + wave(LINE, 5) + 4
    distance = LogSpectrum(LINE, highest=6, floor=1e-14)
    # Shells 1 to 6 of which one differs, by a factor of nine in energy; the others are rounding and floor.
    both = LogSpectrum(LINE, lowest=2, highest=2)(v, u)
    assert both.item() == pytest.approx(math.log(9), rel=1e-6)
    assert LogSpectrum(LINE, lowest=5, highest=5)(v, u).item() == pytest.approx(0.0, abs=1e-6)
    assert distance(u.roll(1, -1), u).item() == pytest.approx(0.0, abs=1e-6)
    assert LogSpectrum(LINE).highest == 10
    with pytest.raises(ValueError, match="the last that the grid resolves"):
        LogSpectrum(LINE, highest=17)


@pytest.mark.parametrize(
    "grid", [Grid((6,), (1.0,)), Grid((4, 5), (1.0, 1.5)), Grid((5,), (1.0,), boundary="wall")]
)
@pytest.mark.parametrize(
    "make", [Sobolev, lambda g: Sobolev(g, 0.5, relative=True), lambda g: LogSpectrum(g, highest=2)]
)
def test_distances_have_right_gradients(grid, make):
    pred, target = noise(1, 2, *grid.shape).requires_grad_(True), noise(1, 2, *grid.shape, seed=1)
    assert torch.autograd.gradcheck(lambda p: make(grid)(p, target), pred)


def test_a_term_is_the_mean_of_its_distance_over_the_states():
    data = noise(3, 4, 1, 32)
    distance = Sobolev(LINE)
    total, parts = Unrolled(3, terms=[PerState(distance, 0.5)], reduction="sum")(lambda u: 0.9 * u, data)
    plain = Unrolled(3, reduction="sum")(lambda u: 0.9 * u, data)[0]
    smooth = Unrolled(3, norm=distance)(lambda u: 0.9 * u, data)[0]
    torch.testing.assert_close(total, plain + 0.5 * smooth)
    assert parts["Sobolev"].item() == pytest.approx(smooth.item())
    named = Unrolled(2, terms=[PerState("mae")])(lambda u: u, data)[1]
    assert "mae" in named


# Invariant measure


def test_equal_distributions_have_no_distance_whatever_the_order():
    pred = noise(2, 5, 1, 32)
    shuffled = pred[:, :, :, torch.randperm(32, generator=torch.Generator().manual_seed(3))]
    term = InvariantMeasure()
    assert term(pred, shuffled).abs().max() < 1e-8
    assert PerState("mse")(pred, shuffled).min() > 0.5


def test_a_shift_costs_half_its_square_in_units_of_the_spread():
    """Transport of a set to its translate: half |shift|^2, as geomloss with p = 2 gives it."""
    target = noise(1, 9, 1, 32)
    shift = 0.5 * target[:, 1:].std()
    found = InvariantMeasure(blur=0.1)(target + shift, target)
    # Within a hundredth when Sinkhorn's iteration has converged; a few iterations leave some more.
    assert found.item() == pytest.approx(0.5 * 0.25, rel=0.05)
    scaled = InvariantMeasure(blur=0.1)(1e4 * (target + shift), 1e4 * target)
    torch.testing.assert_close(found, scaled, rtol=1e-6, atol=0)


def test_statistics_stand_side_by_side_and_may_be_ones_own():
    class Square(Statistics):
        def forward(self, trajectory: Tensor) -> Tensor:
            return trajectory.square()

    u = wave(PLANE, 1, 2).expand(2, 1, 16, 12).unsqueeze(1)
    found = Together([States(), Gradients(PLANE), Square()])(u)
    assert found.shape == (2, 1, 4, 16, 12)
    x = PLANE.coordinates()
    phase = 2 * math.pi * (x[0] + x[1])
    slope = (-(2**0.5) * 2 * math.pi * torch.sin(phase)).double()
    torch.testing.assert_close(found[0, 0, 1], slope, rtol=0, atol=1e-10)
    torch.testing.assert_close(found[0, 0, 2], slope, rtol=0, atol=1e-10)
    assert torch.equal(found[:, :, 3], u.square()[:, :, 0])
    states = noise(2, 40, 3)  # of a system without space
    assert InvariantMeasure()(states, states).abs().max() < 1e-8


def test_few_points_stand_for_many():
    term = InvariantMeasure(points=100)
    assert term._points(noise(1, 7, 2, 64)).shape == (1, 90, 2)
    assert term._points(noise(1, 7, 2, 8)).shape == (1, 56, 2)


def test_the_measure_has_the_right_gradient():
    """Up to what Sinkhorn's iteration leaves: finite differences of the value itself."""
    pred, target = noise(1, 3, 1, 6), noise(1, 3, 1, 6, seed=1)
    term = InvariantMeasure(blur=0.5, iterations=2000)
    pred.requires_grad_(True)
    (found,) = torch.autograd.grad(term(pred, target).sum(), pred)
    direction, h = noise(1, 3, 1, 6, seed=2), 1e-3
    with torch.no_grad():
        slope = (term(pred + h * direction, target) - term(pred - h * direction, target)) / (2 * h)
    assert (found * direction).sum().item() == pytest.approx(slope.item(), rel=2e-3)
    assert not found[:, 0].any()  # the first state is given


# Equation


def smooth(grid: Grid) -> Tensor:
    return 0.5 * wave(grid, *[1] * grid.dimension) + 0.1


@pytest.mark.parametrize("rule", ["crank_nicolson", "midpoint"])
def test_residuals_of_exact_solutions_fall_with_the_fourth_power_of_dt(rule):
    """A rule of second order in the residual, squared."""
    pde, found = Burgers(viscosity=0.05), []
    for dt in (0.02, 0.01):
        data = rollout(build(pde, LINE, dt=dt), 3)(smooth(LINE))
        found.append(EquationResidual(pde, LINE, dt, rule=rule)(data, data).item())
    assert math.log2(found[0] / found[1]) == pytest.approx(4.0, abs=0.2)
    assert found[1] < 1e-6


def test_the_residual_of_a_decaying_wave_is_its_formula():
    """Heat: u_t = kappa u_xx of one wave with factor q a step; Crank-Nicolson leaves (q - 1)/dt + kappa k^2 (1 + q)/2."""
    kappa, dt, q = 0.1, 0.2, 0.7
    k_squared = (2 * math.pi * 3 / 2.0) ** 2
    u = wave(LINE, 3)
    pred = torch.stack([u, q * u], dim=1)
    target = torch.stack([u, 0.5 * u], dim=1)
    left = (q - 1) / dt + kappa * k_squared * (1 + q) / 2
    expected = left**2 / ((0.5 - 1) / dt) ** 2
    found = EquationResidual(Heat(diffusivity=kappa), LINE, dt)(pred, target)
    assert found.item() == pytest.approx(expected, rel=1e-10)
    units = (torch.tensor([0.3], dtype=torch.float64), torch.tensor([2.0], dtype=torch.float64))
    normalised = EquationResidual(Heat(diffusivity=kappa), LINE, dt, units=units)
    torch.testing.assert_close(normalised((pred - 0.3) / 2, (target - 0.3) / 2), found)
    small = Grid((5,), (1.0,))
    term, data = EquationResidual(Burgers(viscosity=0.1), small, dt, units=units), noise(1, 3, 1, 5)
    assert torch.autograd.gradcheck(lambda p: term(p, data), noise(1, 3, 1, 5, seed=1).requires_grad_(True))


def test_residuals_work_between_walls():
    grid = Grid((65,), (1.0,), boundary="neumann")
    x = grid.coordinates()[0].double()
    kappa, dt = 0.05, 0.01
    data = torch.stack(
        [math.exp(-kappa * math.pi**2 * k * dt) * torch.cos(math.pi * x)[None, None] for k in range(4)],
        dim=1,
    )
    found = EquationResidual(Heat(diffusivity=kappa), grid, dt)(data, data)
    assert found.item() < 1e-4  # of the squared rate of change
    assert EquationResidual(Heat(diffusivity=2 * kappa), grid, dt)(data, data).item() == pytest.approx(
        1.0, rel=0.05
    )


@pytest.mark.parametrize("through", [False, True])
def test_the_defect_of_the_solver_vanishes_on_its_own_data_and_differentiates(through):
    solver = build(Burgers(viscosity=0.05), LINE, dt=0.1)
    data = rollout(solver, 3)(smooth(LINE))
    term = SolverDefect(solver, through_solver=through)
    assert term(data, data).item() < 1e-28
    pred = (data + 0.01 * noise(*data.shape)).requires_grad_(True)
    (found,) = torch.autograd.grad(term(pred, data).sum(), pred)
    direction, h = noise(*data.shape, seed=2), 1e-5
    held = pred.detach() if not through else None

    def value(states: Tensor) -> Tensor:
        if held is None:
            return term(states, data)
        usual = (data[:, 1:] - data[:, :-1]).square().mean()
        return (
            states[:, 1:] - torch.stack([solver(held[:, k]) for k in range(3)], 1)
        ).square().mean() / usual

    with torch.no_grad():
        slope = (value(pred + h * direction) - value(pred - h * direction)) / (2 * h)
    assert (found * direction).sum().item() == pytest.approx(slope.item(), rel=1e-6)


def test_states_that_the_solver_cannot_advance_count_as_none():
    def solver(u: Tensor) -> Tensor:
        return u.exp().exp()

    data = 0.1 * noise(2, 3, 1, 32)
    data[1, 0] += 10.0
    pred = data.clone().requires_grad_(True)
    found = SolverDefect(solver)(pred, data)
    (slope,) = torch.autograd.grad(found.sum(), pred)
    assert torch.isfinite(found).all() and torch.isfinite(slope).all()
    assert slope[0].abs().sum() > 0


def test_arguments_out_of_range_are_refused():
    for make in (
        lambda: Sobolev(LINE, -1.0),
        lambda: LogSpectrum(LINE, floor=0.0),
        lambda: InvariantMeasure(blur=0.0),
        lambda: InvariantMeasure(weight=-1.0),
        lambda: EquationResidual(Heat(), LINE, 0.1, rule="euler"),  # type: ignore[arg-type]
        lambda: EquationResidual(Heat(), LINE, 0.0),
        lambda: Unrolled(3, terms=[PerState("mse")], draw="sample"),
    ):
        with pytest.raises(ValueError, match="expected|take draw"):
            make()
    with pytest.raises(ValueError, match="one or more"):
        Together([])
    with pytest.raises(ValueError, match="points"):
        Sobolev(LINE)(noise(1, 1, 8), noise(1, 1, 8))


# Constraints as penalties


def test_a_soft_constraint_is_the_squared_way_to_admissible_states():
    pred, units = noise(3, 4, 2, 32), (torch.tensor([1.0, -2.0]), torch.tensor([0.5, 20.0]))
    # Normalised units: what the mean is off by, over the scale, is that of the normalised states.
    off = pred[:, 1:].mean(-1) - pred[:, :-1].mean(-1)
    found = SoftConstraint(ConservedMean(LINE), units=units)(pred, pred)
    torch.testing.assert_close(found, off.square().mean((1, 2)), rtol=1e-10, atol=0)
    # Bounds are meant in physical units.
    term = SoftConstraint(Bounds(LINE, lower=-100.0, channels=[0]), units=units)
    assert term(pred, pred).abs().max() == 0
    total, parts = Unrolled(3, terms=[SoftConstraint(ConservedMean(LINE), 0.5)])(lambda u: u + 0.3, pred)
    plain = Unrolled(3)(lambda u: u + 0.3, pred)[0]
    assert (total - plain).item() == pytest.approx(0.5 * 0.09) and parts["soft_constraint"].item() > 0


@pytest.mark.parametrize(
    "constraint",
    [DivergenceFree(PLANE), Chain([ConservedMean(PLANE), Energy(PLANE, "decaying")])],
    ids=["divergence", "energy"],
)
def test_a_soft_constraint_pulls_towards_the_projection_and_rests_there(constraint):
    before, after = noise(2, 1, 2, 16, 12, seed=1), noise(2, 1, 2, 16, 12).requires_grad_()
    loss = SoftConstraint(constraint)(torch.cat([before, after], dim=1), before).sum()
    (gradient,) = torch.autograd.grad(loss, after)
    way = after[:, 0] - constraint.project(after[:, 0], previous=before[:, 0])
    torch.testing.assert_close(gradient[:, 0], 2 * way / way[0].numel(), rtol=1e-12, atol=1e-18)
    still = torch.zeros(1, 3, 2, 16, 12, requires_grad=True)  # where norms have no derivative
    (rest,) = torch.autograd.grad(SoftConstraint(constraint)(still, still).sum(), still)
    assert rest.abs().max() == 0
