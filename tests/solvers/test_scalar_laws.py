"""Scalar conservation laws: one's own flux, exact Riemann solutions, entropy, bounds, sides, gradients."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from sciml import Field, Grid
from sciml.domains import Inflow
from sciml.pdes import BuckleyLeverett, InviscidBurgers, ScalarLaw, Traffic
from sciml.solvers.finite_volume import exact_scalar_riemann, finite_volume
from sciml.solvers.verify import verify
from sciml.solvers.verify.suites.scalar_laws import riemann_error

LAWS = [InviscidBurgers(), BuckleyLeverett(), Traffic()]
FLUXES = ["exact", "hll", "rusanov"]


@dataclass(frozen=True)
class Sedimentation(ScalarLaw):
    """Particles that hinder each other's fall, f(u) = w u (1 - u)^2."""

    settling: float = 1.0

    fields: ClassVar[tuple[Field, ...]] = (Field("fraction"),)
    bounds = (0.0, 1.0)
    sonic_points = (1.0 / 3.0, 1.0)
    inflections = (2.0 / 3.0,)

    def flow(self, u: Tensor) -> Tensor:
        return self.settling * u * (1.0 - u) ** 2

    def speed(self, u: Tensor) -> Tensor:
        return self.settling * (1.0 - u) * (1.0 - 3.0 * u)


def line(n: int, boundary: object = "outflow", length: float = 4.0) -> Grid:
    return Grid((n,), (length,), boundary, origin=-length / 2, centering="cell")  # type: ignore[arg-type]


def jump(x: Tensor, left: float, right: float) -> Tensor:
    return torch.where(x < 0, left, right).to(torch.float64).reshape(1, 1, -1)


@pytest.mark.parametrize("law", [*LAWS, Sedimentation()], ids=lambda law: type(law).__name__)
def test_speed_is_the_derivative_of_the_flow_and_turns_where_it_says(law: ScalarLaw) -> None:
    u = torch.linspace(0.01, 0.99, 198, dtype=torch.float64).reshape(1, 1, -1).requires_grad_()
    (slope,) = torch.autograd.grad(law.flow(u).sum(), u)
    assert (slope - law.speed(u)).abs().max() < 1e-12  # rounding
    (curvature,) = torch.autograd.grad(law.speed(u).sum(), u)
    inner = u.detach().flatten()
    for values, places in ((slope, law.sonic_points or ()), (curvature, law.inflections)):
        turns = inner[:-1][values.flatten().sign().diff() != 0]
        expected = sorted(float(p) for p in places if 0.01 < float(p) < 0.99)
        assert len(turns) == len(expected)
        assert all(abs(float(a) - b) <= 0.0051 for a, b in zip(turns, expected, strict=True))


def test_exact_solutions_worked_out_by_hand() -> None:
    rays = torch.linspace(-2, 2, 401, dtype=torch.float64)
    burgers = InviscidBurgers()
    fan = exact_scalar_riemann(burgers, -1.0, 1.0, rays)
    assert (fan - rays.clamp(-1, 1)).abs().max() < 1e-12
    shock = exact_scalar_riemann(burgers, 1.5, -0.5, rays)
    assert (shock - torch.where(rays < 0.5, 1.5, -0.5))[rays != 0.5].abs().max() < 1e-12
    # Cars that leave a queue: u = (1 - x/t) / 2 between the speeds -1 and 1.
    green = exact_scalar_riemann(Traffic(), 1.0, 0.0, rays)
    assert (green - ((1 - rays) / 2).clamp(0, 1)).abs().max() < 1e-12
    # Water into oil, Welge's tangent: f(s)/s = f'(s) at s = sqrt(M / (1 + M)), behind it the fan f'(u) = x/t.
    ratio = 0.5
    front = math.sqrt(ratio / (1 + ratio))
    law = BuckleyLeverett(ratio)
    s = torch.tensor([[[front]]], dtype=torch.float64)
    speed = float(law.speed(s))
    assert speed == pytest.approx(float(law.flow(s)) / front, rel=1e-12)
    wet = exact_scalar_riemann(law, 1.0, 0.0, torch.tensor([speed - 1e-6, speed + 1e-6]))
    assert wet[0].item() == pytest.approx(front, abs=1e-5) and wet[1].item() == 0.0
    behind = exact_scalar_riemann(law, 1.0, 0.0, torch.linspace(0.05, speed - 0.01, 50))
    assert (
        law.speed(behind.reshape(1, 1, -1)).flatten() - torch.linspace(0.05, speed - 0.01, 50)
    ).abs().max() < 1e-9
    # Turned round, the axis is its mirror image.
    back = exact_scalar_riemann(Traffic(direction=-1.0), 0.0, 1.0, -rays)
    assert (back - green).abs().max() < 1e-12


@pytest.mark.parametrize(
    ("scheme", "riemann"),
    [
        ("godunov", "rusanov"),
        ("muscl", "exact"),
        ("muscl", "hll"),
        ("muscl", "rusanov"),
        ("weno5", "exact"),
    ],
)
@pytest.mark.parametrize(
    ("law", "left", "right"),
    [
        (InviscidBurgers(), 1.5, -0.5),
        (InviscidBurgers(), -1.0, 1.0),
        (InviscidBurgers(direction=-2.0), -0.5, 0.5),
        (BuckleyLeverett(), 1.0, 0.0),
        (Traffic(2.0, 1.0), 0.2, 0.9),
        (Traffic(), 1.0, 0.0),
        (Sedimentation(), 0.2, 1.0),
        (Sedimentation(), 0.9, 0.0),
    ],
)
def test_shocks_and_fans_converge_to_the_entropy_solution(law, left, right, scheme, riemann) -> None:
    coarse, fine = (
        riemann_error(law, left, right, n, reconstruction=scheme, riemann=riemann) for n in (40, 120)
    )
    # Order one at shocks, two thirds at the corners of fans for the first-order scheme; a jump that were kept
    # where it must spread, or moved at another speed, would leave an error that does not fall.
    assert fine < coarse / 1.6 or coarse < 1e-14  # a shock at rest is exact
    # A distance of cells times the jump; sides are far enough for all but the fast law's fans.
    assert fine < (0.025 if scheme == "godunov" else 0.01) * max(1.0, abs(left - right))


def test_a_flux_that_ignores_inflections_keeps_jumps_that_must_spread() -> None:
    """What `inflections` are for: without them water and oil at rest in their pure states never mix."""

    @dataclass(frozen=True)
    class Ignorant(BuckleyLeverett):
        sonic_points = None
        inflections = ()

    right, wrong = (riemann_error(law, 1.0, 0.0, 100) for law in (BuckleyLeverett(), Ignorant()))
    # The speeds of both states are zero: nothing moves.
    assert not wrong < 10 * right


def test_predicted_rusanov_fluxes_can_keep_a_wrong_shock_and_the_default_does_not() -> None:
    """Water and oil displace each other without entropy, and refining does not help."""
    law = BuckleyLeverett(0.2)
    wrong = [riemann_error(law, 0.1, 0.9, n, riemann="rusanov", time="hancock") for n in (100, 200)]
    right = [riemann_error(law, 0.1, 0.9, n) for n in (100, 200)]
    assert wrong[1] > wrong[0] > 5e-3 and right[1] < right[0] / 4 < 2e-3


@dataclass(frozen=True)
class Plain(Sedimentation):
    """Without the points where the flow is largest."""

    sonic_points = None


def test_a_law_that_does_not_say_where_it_turns_is_solved_by_hll() -> None:
    assert "hll " in finite_volume(Plain(), line(8), 0.1).method
    assert riemann_error(Plain(), 0.9, 0.0, 100) < 2 * riemann_error(Sedimentation(), 0.9, 0.0, 100)


def test_a_scheme_without_entropy_condition_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(InviscidBurgers, "sonic_points", ())
    # The flux of the states alone: a jump from -1 to 1 has none of its own and stays.
    assert riemann_error(InviscidBurgers(), -1.0, 1.0, 100) > 0.1


@pytest.mark.parametrize("law", LAWS, ids=lambda law: type(law).__name__)
@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_extremes_bound_the_solution_and_totals_stay(law: ScalarLaw, dimension: int) -> None:
    grid = Grid((12, 10, 8)[:dimension], (1.0,) * dimension, centering="cell")
    u = torch.rand(2, 1, *grid.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    end = finite_volume(law, grid, 0.2, reconstruction="godunov")(u)
    assert end.min() >= u.min() - 1e-14 and end.max() <= u.max() + 1e-14  # rounding
    for before, after in zip(
        law.invariants(u, grid).values(), law.invariants(end, grid).values(), strict=True
    ):
        assert (before - after).abs().max() < 1e-14
    assert (end - u).abs().max() > 0.05


def test_a_red_light_lets_no_car_through_and_a_queue_grows() -> None:
    grid = line(200, [("inflow", "wall")])
    density = 0.3
    step = finite_volume(Traffic(), grid, 1.0, conditions={"x-": Inflow(density)})
    u = step(torch.full((1, 1, 200), density, dtype=torch.float64)).flatten()
    # The jam of density 1 grows backwards at f(u) / (1 - u) = u.
    expected = torch.where(grid.axes()[0] < 2.0 - density, density, 1.0)
    assert (u - expected).abs().mean() < 5e-3
    # In flows f(u) per time, nothing out.
    gained = float((u - density).sum() * 0.02)
    assert gained == pytest.approx(density * (1 - density), rel=1e-12)
    closed = finite_volume(Traffic(), line(50, "wall"), 1.0)
    v = torch.rand(1, 1, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert abs(float((closed(v) - v).sum())) < 1e-12


def test_parameters_of_each_sample() -> None:
    ratios = torch.tensor([0.2, 2.0], dtype=torch.float64)
    grid = line(40)
    u = jump(grid.axes()[0], 0.9, 0.1).expand(2, 1, 40)
    both = finite_volume(BuckleyLeverett(ratios), grid, 0.4, substeps=40)(u)
    for i, ratio in enumerate(ratios.tolist()):
        alone = finite_volume(BuckleyLeverett(ratio), grid, 0.4, substeps=40)(u[:1])
        assert (both[i : i + 1] - alone).abs().max() < 1e-14


@pytest.mark.parametrize("law", LAWS, ids=lambda law: type(law).__name__)
@pytest.mark.parametrize("riemann", FLUXES)
@pytest.mark.parametrize("time", ["ssprk2", "ssprk3"])
def test_gradients(law: ScalarLaw, riemann: str, time: str) -> None:
    grid = Grid((5, 4), (1.0, 1.0), ["wall", "periodic"], centering="cell")
    step = finite_volume(law, grid, 0.02, riemann=riemann, time=time, substeps=1)
    u = 0.1 + 0.8 * torch.rand(1, 1, 5, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    # Random data lie on none of the kinks of limiter and upwinding.
    assert torch.autograd.gradcheck(step, (u.requires_grad_(),), fast_mode=True)


def test_gradients_with_respect_to_a_parameter() -> None:
    grid = line(12)
    u = jump(grid.axes()[0], 0.8, 0.2)
    ratio = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda m: finite_volume(BuckleyLeverett(m), grid, 0.1, substeps=4)(u), (ratio,)
    )


def test_refusals() -> None:
    grid = line(8)
    with pytest.raises(
        ValueError, match=r"BuckleyLeverett does not admit, sample 0: saturation 1.5 at \(1.75\)"
    ):
        u = torch.zeros(1, 1, 8, dtype=torch.float64)
        u[..., -1] = 1.5
        finite_volume(BuckleyLeverett(), grid, 0.1)(u)
    with pytest.raises(ValueError, match="mobility=0; expected above 0"):
        BuckleyLeverett(0)
    with pytest.raises(ValueError, match="free_speed=-1.0; expected above 0"):
        Traffic(-1.0)
    with pytest.raises(ValueError, match="differs from point to point"):
        InviscidBurgers(direction=torch.ones(1, 1, 8))
    with pytest.raises(ValueError, match="has broken"):
        InviscidBurgers().exact(torch.linspace(0, 6, 64, dtype=torch.float64).reshape(1, 1, -1), 6.0)


@dataclass(frozen=True)
class Slower(Traffic):
    """One per cent slower than its exact solutions."""

    def flow(self, u: Tensor) -> Tensor:
        return 0.99 * Traffic.flow(self, u)


def test_a_wrong_coefficient_fails_its_certificate() -> None:
    assert verify(Traffic).passed and not verify(Slower).passed


@pytest.mark.parametrize("riemann", ["exact", "rusanov"])
def test_reverse_mode_agrees_with_forward_mode_where_a_limiter_makes_both_sides_of_a_face_equal(riemann):
    grid = Grid((48,), (1.0,), centering="cell")
    x = (torch.arange(48, dtype=torch.float64) + 0.5) / 48
    u = (0.7 + torch.sin(2 * math.pi * x + 0.3) + 0.2 * torch.cos(6 * math.pi * x))[None, None]
    step = finite_volume(InviscidBurgers(), grid, 0.05, riemann=riemann)
    generator = torch.Generator().manual_seed(0)
    v, w = (torch.randn(u.shape, dtype=u.dtype, generator=generator) for _ in range(2))
    _, forward = torch.func.jvp(step, (u,), (v,))
    start = u.clone().requires_grad_()
    (back,) = torch.autograd.grad(step(start), start, w)
    assert abs(float((forward * w).sum() - (back * v).sum())) < 1e-12 * float((forward * w).abs().sum())
